//! The API on loopback with a real store and a scripted engine.

use std::sync::Mutex;

use reqwest::{Client, Method, Response as Answer};
use serde_json::Value;

pub use super::super::*;
use crate::engine::input::{CommandKind, DrillFrom};
use crate::model::flag::FlagSpec;
use crate::store::TokenScope;

/// Accepts every command but a re-arm of a flag that is not latched.
#[derive(Default)]
pub struct Engine(pub Mutex<Vec<Command>>);

impl Commander for Engine {
    fn submit(&self, command: Command) -> Boxed<'_, Result<Reply, SubmitError>> {
        self.0.lock().unwrap().push(command.clone());
        Box::pin(async move {
            match command.kind {
                CommandKind::Rearm { flag, scope, .. } if flag.as_str() == "ai.calm.v2" => {
                    Err(CommandError::NotLatched { flag, scope: scope.unwrap_or_default() }.into())
                }
                CommandKind::Resume { flag } if flag.as_str() == "ai.calm.v2" => {
                    Err(CommandError::NotPaused { flag }.into())
                }
                CommandKind::Drill { flag, .. } if flag.as_str() == "ai.calm.v2" => {
                    Err(CommandError::NotForDrills { flag }.into())
                }
                CommandKind::Drill { flag, from: DrillFrom::Events } => {
                    Err(CommandError::NoDrill { flag, why: "automation is switched off".into() }.into())
                }
                CommandKind::RollBack { .. } | CommandKind::Drill { .. } => {
                    Ok(Reply { said: "being rolled back".into(), decision: Some("by-hand-1".into()) })
                }
                CommandKind::ResolveIncident { .. } => {
                    Err(SubmitError::Unavailable("the engine is loading".into()))
                }
                _ => Ok("done".into()),
            }
        })
    }

    fn explain(&self, asked: Question) -> Boxed<'_, Result<Explained, SubmitError>> {
        Box::pin(async move {
            match asked.variant {
                Some(variant) => Err(NothingMeant {
                    what: format!("no rule in force has the variant `{variant}`"),
                    hint: "did you mean `copilot.v18`?".into(),
                }
                .into()),
                None => Ok(Explained { explanations: Vec::new(), unjudged: Vec::new(), left_out: 7 }),
            }
        })
    }
}

impl IncidentWriter for Engine {
    fn markdown(&self, id: IncidentId) -> Boxed<'_, Result<Option<String>, String>> {
        Box::pin(async move { Ok((id.as_str() == "inc-1").then(|| "# it broke\n".into())) })
    }
}

pub struct Bench {
    pub url: String,
    pub client: Client,
    pub store: Store,
    pub engine: Arc<Engine>,
    pub report: Arc<ArcSwap<Report>>,
    pub stop: CancellationToken,
    pub serving: tokio::task::JoinHandle<()>,
    pub tokens: std::collections::BTreeMap<&'static str, String>,
    pub _folder: tempfile::TempDir,
}

impl Bench {
    pub async fn new() -> Self {
        Self::with(HttpSettings::default()).await
    }

    pub async fn with(settings: HttpSettings) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", folder.path().join("test.db").display());
        let store = Store::open_exclusive(&url, "test").await.unwrap();
        let clock = Clock::system();
        let spec = |key: &str, share| FlagSpec {
            key: key.into(),
            control: "copilot.v17".into(),
            treatment: "copilot.v18".into(),
            share,
            frozen: false,
            served: None,
            drill: false,
        };
        let flags = [spec("ai.bad.v18", 1_000_000), spec("ai.calm.v2", 0), spec("ai.split.v1", 500_000)];
        store.declare(&flags, clock.now()).await.unwrap();
        let mut tokens = std::collections::BTreeMap::new();
        for scope in TokenScope::ALL {
            let name = scope.as_str();
            let text = store.create_token(name, &[scope], clock.now()).await.unwrap();
            tokens.insert(name, text);
        }
        let engine = Arc::new(Engine::default());
        let report = Arc::new(ArcSwap::from_pointee(Report::default()));
        let parts = Parts {
            store: store.clone(),
            clock,
            metrics: Metrics::detached().unwrap().0,
            report: Arc::clone(&report),
            timing: Timing::default(),
            canary: None,
            commander: Arc::clone(&engine) as Arc<dyn Commander>,
            writer: Arc::clone(&engine) as Arc<dyn IncidentWriter>,
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let stop = CancellationToken::new();
        let settings = HttpSettings { body: 4096, ..settings };
        let serving = tokio::spawn(serve(listener, parts, settings, stop.clone()));
        Self {
            url,
            client: Client::builder().no_proxy().build().unwrap(),
            store,
            engine,
            report,
            stop,
            serving,
            tokens,
            _folder: folder,
        }
    }

    pub async fn ask(&self, method: Method, path: &str, scope: &str, body: &str) -> Answer {
        let mut request = self.client.request(method, format!("{}{path}", self.url)).body(body.to_owned());
        if let Some(token) = self.tokens.get(scope) {
            request = request.bearer_auth(token);
        }
        request.send().await.unwrap()
    }

    pub async fn json(&self, method: Method, path: &str, scope: &str, body: &str) -> (u16, Value) {
        let answer = self.ask(method, path, scope, body).await;
        let status = answer.status().as_u16();
        (status, answer.json().await.unwrap())
    }

    pub async fn evaluate(&self, key: &str, body: &str) -> (u16, Value) {
        let path = format!("/ofrep/v1/evaluate/flags/{key}");
        self.json(Method::POST, &path, "evaluate", body).await
    }
}

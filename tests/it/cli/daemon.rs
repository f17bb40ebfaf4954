//! A daemon as the command line sees it: the real router, store and incident book; an engine that accepts everything.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use arc_swap::ArcSwap;
use rearguard::clock::Clock;
use rearguard::dispatch::book::IncidentBook;
use rearguard::engine::budget::Timing;
use rearguard::engine::explain::{Answer as Explained, Question};
use rearguard::engine::input::Command;
use rearguard::engine::machine::Engine as Judging;
use rearguard::engine::output::{AlertReport, HoldReport, LatchReport, Phase, Reply, Report};
use rearguard::engine::rule::{Confirm, RuleAction};
use rearguard::http::{Boxed, Commander, HttpSettings, IncidentWriter, Parts, SubmitError, serve};
use rearguard::model::flag::Scope;
use rearguard::model::id::IncidentId;
use rearguard::model::time::{MINUTE_MS, Minute};
use rearguard::store::{Store, TokenScope};
use rearguard::telemetry::Metrics;
use tokio_util::sync::CancellationToken;

use super::{Ended, here, rearguard};
use crate::store_suite::fixture::{Base, commit, decision, flag, judged, rollback};

pub struct Daemon {
    pub url: String,
    store: Store,
    engine: Arc<Engine>,
    report: Arc<ArcSwap<Report>>,
    tokens: BTreeMap<&'static str, String>,
    stop: CancellationToken,
    serving: tokio::task::JoinHandle<()>,
    base: Base,
}

/// Takes every command and does nothing; explains as a real engine does, if it has one.
#[derive(Default)]
struct Engine(Mutex<Vec<Command>>, Mutex<Option<Judging>>);

impl Commander for Engine {
    fn submit(&self, command: Command) -> Boxed<'_, Result<Reply, SubmitError>> {
        self.0.lock().unwrap().push(command);
        Box::pin(async { Ok("done".into()) })
    }

    fn explain(&self, asked: Question) -> Boxed<'_, Result<Explained, SubmitError>> {
        Box::pin(async move {
            match &*self.1.lock().unwrap() {
                Some(engine) => Ok(engine.explain(&asked)?),
                None => Err(SubmitError::Unavailable("starting".into())),
            }
        })
    }
}

struct Writer(IncidentBook);

impl IncidentWriter for Writer {
    fn markdown(&self, id: IncidentId) -> Boxed<'_, Result<Option<String>, String>> {
        Box::pin(async move { Ok(self.0.markdown(&id).await.ok()) })
    }
}

impl Daemon {
    /// Listens, armed, with one flag and one quiet alert.
    pub async fn start() -> Self {
        let base = Base::new("sqlite", "cli", String::new()).await;
        let store = base.ready().await;
        let clock = Clock::system();
        let mut tokens = BTreeMap::new();
        for scope in TokenScope::ALL {
            let text = store.create_token(scope.as_str(), &[scope], clock.now()).await.unwrap();
            tokens.insert(scope.as_str(), text);
        }
        let (engine, report) = (Arc::new(Engine::default()), Arc::new(ArcSwap::from_pointee(report(clock))));
        let book =
            IncidentBook::new(store.clone(), clock, Arc::default()).expect("the built-in template works");
        let parts = Parts {
            store: store.clone(),
            clock,
            metrics: Metrics::detached().unwrap().0,
            report: Arc::clone(&report),
            timing: Timing::default(),
            canary: None,
            commander: Arc::clone(&engine) as Arc<dyn Commander>,
            writer: Arc::new(Writer(book)),
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let stop = CancellationToken::new();
        let serving = tokio::spawn(serve(listener, parts, HttpSettings::default(), stop.clone()));
        Self { url, store, engine, report, tokens, stop, serving, base }
    }

    /// Runs the binary with the token of this scope.
    pub fn ask(&self, scope: &str, arguments: &[&str]) -> Ended {
        let variables = [("REARGUARD_URL", &*self.url), ("REARGUARD_TOKEN", &*self.tokens[scope])];
        let ended = tokio::task::block_in_place(|| rearguard(here(), &variables, arguments));
        for token in self.tokens.values() {
            assert!(
                !ended.out.contains(token) && !ended.err.contains(token),
                "a token was printed: {ended:?}"
            );
        }
        ended
    }

    /// The token of this scope.
    pub fn token(&self, scope: &str) -> &str {
        &self.tokens[scope]
    }

    /// One rollback, as stored and as reported.
    pub async fn break_it(&self) {
        commit(&self.store, 1, &[rollback("d1", "inc-1")]).await;
        let mut report = Report::clone(&self.report.load());
        report.alerts[0].phase = Phase::Latched;
        report.alerts[0].verdict = "breach".into();
        report.latches.push(LatchReport {
            flag: flag(),
            scope: Scope::All,
            decision: "d1".into(),
            incident: "inc-1".into(),
            at: Clock::system().now(),
            outcome: None,
        });
        report.holds.push(HoldReport { flag: "ai.other.v2".into(), decision: "d2".into(), outcome: None });
        self.report.store(Arc::new(report));
    }

    /// One rollback as a real engine decides it: stored with what it was judged from. Gives the incident's name.
    pub async fn judge_it(&self) -> String {
        let (output, engine) = judged();
        let incident = output.decisions[0].incident.as_ref().unwrap().to_string();
        commit(&self.store, 1, &[output]).await;
        *self.engine.1.lock().unwrap() = Some(engine);
        incident
    }

    /// The address of its database.
    pub fn database(&self) -> &str {
        &self.base.url
    }

    /// Changes the database behind its back.
    pub async fn tamper(&self, sql: &str) {
        self.base.tamper(sql).await;
    }

    pub fn disarm(&self, why: &str) {
        let mut report = Report::clone(&self.report.load());
        report.armed = false;
        report.why_not_armed = Some(why.into());
        self.report.store(Arc::new(report));
    }

    /// What the engine was told since this was last asked.
    pub fn commands(&self) -> Vec<Command> {
        std::mem::take(&mut self.engine.0.lock().unwrap())
    }

    /// Stops listening; gives the address, at which nobody listens now.
    pub async fn stop(self) -> String {
        self.stop.cancel();
        self.serving.await.unwrap();
        self.url
    }
}

fn report(clock: Clock) -> Report {
    let now = clock.now();
    let made = decision("d1", RuleAction::Rollback);
    Report {
        event_time: Some(now),
        closed: Some(Minute(now.as_millis() / MINUTE_MS - 1)),
        armed: true,
        automation: true,
        alerts: vec![AlertReport {
            key: made.key,
            variant: made.variant,
            action: made.action,
            condition: made.condition,
            phase: Phase::Quiet,
            since: None,
            verdict: "pass".into(),
            value: Some(0.951),
            threshold: Some(0.92),
            samples: 5214,
            interval: None,
            confirm: Confirm::Either,
            evidence: Some(0.4),
            evidence_needed: Some(525_600.0),
            dry_run: false,
            withheld: None,
        }],
        ..Report::default()
    }
}

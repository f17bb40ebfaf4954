//! The composition root: build (everything is opened and bound, nothing runs) → spawn → drain.
//!
//! The only place that knows all layers. Commands call [`App::build`] with a validated configuration; what goes wrong here
//! goes wrong before anything has been touched outside.

mod canary;
mod core;
mod facts;
mod rehearsal;
mod reload;
mod restore;
pub mod rules;
mod texts;
pub(crate) mod wiring;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use arc_swap::ArcSwap;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};

use self::core::{Core, Inlets, Outlets, Request};
use crate::clock::Clock;
use crate::config::Config;
use crate::dispatch::book::{BookError, IncidentBook};
use crate::dispatch::deadman::Deadman;
use crate::dispatch::flag::FlagPlatform;
use crate::dispatch::receiver::Receiver;
use crate::dispatch::siren::Siren;
use crate::dispatch::template::Templates;
use crate::dispatch::worker::{Worker, WorkerSettings};
use crate::engine::explain::{Answer as Explained, Question};
use crate::engine::input::{Command, Input, Settings};
use crate::engine::output::{Reply, Report};
use crate::http::{self, Boxed, Commander, HttpSettings, IncidentWriter, Parts, SubmitError};
use crate::ingest::consumer::{Ingest, Wall};
use crate::model::id::IncidentId;
use crate::store::snapshot::Snapshots;
use crate::store::{Store, StoreError};
use crate::supervise::{OnError, Supervisor, Task};
use crate::telemetry::Metrics;

/// Messages from ingest that may wait for the engine. Each is a minute's or a flush's worth, so few are enough.
const FROM_INGEST: usize = 64;
const REQUESTS: usize = 256;
const ANSWERS: usize = 256;
/// Metrics are tidied up this often (real time).
const UPKEEP_EVERY: Duration = Duration::from_secs(5);
/// How long the engine may take to store what ingest still had when told to stop.
const DRAIN: Duration = Duration::from_secs(20);

/// Everything opened and bound, ready to run.
pub struct App {
    config: Config,
    clock: Clock,
    store: Store,
    metrics: Metrics,
    listener: TcpListener,
    outside: Outside,
    settings: Settings,
    snapshots: Snapshots,
}

type Platforms = Vec<Arc<dyn FlagPlatform>>;
type Receivers = Vec<Arc<dyn Receiver>>;

/// Where flips, messages and calls go.
struct Outside {
    platforms: Platforms,
    receivers: Receivers,
    switch: Option<Deadman>,
    templates: Arc<Templates>,
}

/// A running daemon.
pub struct Running {
    pub address: SocketAddr,
    pub store: Store,
    pub report: Arc<ArcSwap<Report>>,
    supervisor: Supervisor,
}

impl App {
    /// Opens the database, binds the listener, opens receivers. `settings` are the configuration's compiled rules.
    pub async fn build(
        config: Config,
        settings: Settings,
        clock: Clock,
        metrics: Metrics,
    ) -> anyhow::Result<Self> {
        let data = &config.data_dir;
        std::fs::create_dir_all(data)
            .with_context(|| format!("making the data folder {}", data.display()))?;
        let holder = format!("rearguard, process {}", std::process::id());
        let store = Store::open_exclusive(&wiring::store_url(&config), &holder).await?;
        store.declare(&config.flags, clock.now()).await?;
        let listener = TcpListener::bind(config.http.listen)
            .await
            .with_context(|| format!("listening on {}", config.http.listen))?;
        let outbound = wiring::outbound(&config, clock)?;
        let outside = Outside {
            platforms: wiring::platforms(&config, &outbound, &store)?,
            receivers: wiring::receivers(&config, &outbound)?,
            switch: canary::open(&config, &outbound)?,
            templates: Arc::new(texts::templates(&config).map_err(reload::in_words)?),
        };
        let snapshots = Snapshots::open(data.join("snapshots"))?;
        Ok(Self { config, clock, store, metrics, listener, outside, settings, snapshots })
    }

    /// Starts every task.
    pub async fn spawn(self) -> anyhow::Result<Running> {
        let supervisor = Supervisor::new();
        let Self { config, clock, store, metrics, listener, outside, settings, snapshots } = self;
        let Outside { platforms, receivers, switch, templates } = outside;
        let loaded = store.load().await?;
        let mut restored = restore::restore(settings, &loaded, &snapshots)?;
        // Without a time the engine does not know that it is behind: nobody may be told that it is armed before it has read.
        restored.engine.step(Input::Advance(clock.now()));
        let now = loaded.position.event_time.unwrap_or_else(|| clock.now());
        let from = wiring::window_start(now, &config);

        let schema = Arc::new(ArcSwap::new(Arc::clone(&restored.engine.settings().schema)));
        let report = Arc::new(ArcSwap::from_pointee(starting(restored.engine.report())));
        let (sink, ingest) = mpsc::channel(FROM_INGEST);
        let (requests, asked) = mpsc::channel(REQUESTS);
        let (answers, answered) = mpsc::channel(ANSWERS);
        let wall: Wall = Arc::new(move || clock.now());
        let reader =
            Ingest::spawn(wiring::ingest(&config, from), restored.resume, Arc::clone(&schema), wall, sink)?;

        let siren = Siren::new(pagers(&config, &receivers));
        let worker =
            worker(&config, clock, &store, (platforms, receivers), &templates, siren.clone(), answers);
        let waker = worker.waker();
        worker.spawn(&supervisor);
        let committed = canary::Committed::default();
        let by_time = config.kafka.start == crate::config::Start::OneLongestWindow;
        let core = Core {
            engine: restored.engine,
            clock,
            tick: config.timing.tick,
            routes: wiring::routes(&config),
            timing: wiring::timing(&config),
            seq: restored.seq,
            start: (restored.first_start && by_time).then_some(from),
            reader,
            newest: None,
            inlets: Inlets { ingest, requests: asked, answers: answered },
            outlets: Outlets {
                store: store.clone(),
                snapshots,
                waker,
                report: Arc::clone(&report),
                committed: Arc::clone(&committed),
                schema,
                siren,
            },
        };
        spawn_core(core, &supervisor);
        spawn_upkeep(metrics.clone(), &supervisor);
        let seen = canary::Seen {
            clock,
            store: store.clone(),
            report: Arc::clone(&report),
            committed,
            standing: Arc::default(),
        };
        let canary = canary::spawn(&config, switch, seen, &supervisor)?;
        reload::spawn(&config, requests.clone(), store.clone(), clock, &supervisor);
        let address = listener.local_addr()?;
        let parts = Parts {
            store: store.clone(),
            clock,
            metrics,
            report: Arc::clone(&report),
            canary,
            timing: config.timing,
            commander: Arc::new(Gate { requests }),
            writer: Arc::new(Writer(IncidentBook::new(store.clone(), clock, templates)?)),
        };
        spawn_http(listener, parts, &supervisor);
        Ok(Running { address, store, report, supervisor })
    }
}

impl Running {
    /// Waits until a task that nothing works without has failed, or somebody has told the daemon to stop.
    pub async fn stopped(&self) {
        self.supervisor.stopped().await;
    }

    /// Stops every task, within their deadlines.
    ///
    /// # Errors
    ///
    /// The task that failed, if one did.
    pub async fn drain(self) -> anyhow::Result<()> {
        self.supervisor.stop();
        let ended = self.supervisor.drain().await;
        if let Err(error) = self.store.close().await {
            tracing::warn!(%error, "the database was not closed in an orderly way");
        }
        ended.map_err(|why| anyhow::anyhow!(why))
    }
}

/// An engine that has not heard of the time yet knows no reason why it should not act: nobody is to be told that.
fn starting(report: Report) -> Report {
    Report { armed: false, why_not_armed: Some("starting".to_owned()), ..report }
}

fn spawn_core(core: Core, supervisor: &Supervisor) {
    let task = Task { name: "engine", on_error: OnError::Stop, drain: DRAIN };
    let mut core = Some(core);
    supervisor.spawn(task, move |stop| {
        let core = core.take();
        async move {
            match core {
                Some(core) => core.run(stop).await,
                None => Err("the engine's loop cannot be started twice".into()),
            }
        }
    });
}

fn spawn_http(listener: TcpListener, parts: Parts, supervisor: &Supervisor) {
    let task = Task { name: "http", on_error: OnError::Stop, drain: Duration::from_secs(12) };
    let mut given = Some((listener, parts));
    supervisor.spawn(task, move |stop| {
        let given = given.take();
        async move {
            match given {
                Some((listener, parts)) => {
                    http::serve(listener, parts, HttpSettings::default(), stop).await;
                    Ok(())
                }
                None => Err("the listener cannot be started twice".into()),
            }
        }
    });
}

fn spawn_upkeep(metrics: Metrics, supervisor: &Supervisor) {
    let second = Duration::from_secs(1);
    let on_error = OnError::Restart { first: second, most: 60 * second };
    let task = Task { name: "metrics-upkeep", on_error, drain: second };
    supervisor.spawn(task, move |stop| {
        let metrics = metrics.clone();
        async move {
            let mut every = tokio::time::interval(UPKEEP_EVERY);
            loop {
                tokio::select! {
                    () = stop.cancelled() => return Ok(()),
                    _ = every.tick() => metrics.upkeep(),
                }
            }
        }
    });
}

fn worker(
    config: &Config,
    clock: Clock,
    store: &Store,
    (platforms, receivers): (Platforms, Receivers),
    templates: &Arc<Templates>,
    siren: Siren,
    answers: mpsc::Sender<crate::engine::input::Answer>,
) -> Worker {
    let link = config.external_url.as_ref();
    let link = link.map(|url| format!("{}/v1/incidents/{{incident}}/markdown", url.trim_end_matches('/')));
    let notice_after = config.timing.page_after;
    let second_channel = config.routes.notify.clone();
    let templates = Arc::clone(templates);
    let settings =
        WorkerSettings { link, notice_after, second_channel, templates, ..WorkerSettings::default() };
    Worker::new(store.clone(), clock, settings, platforms, receivers, siren, answers)
}

/// The receivers that wake people.
fn pagers(config: &Config, receivers: &[Arc<dyn Receiver>]) -> Vec<Arc<dyn Receiver>> {
    receivers.iter().filter(|r| config.routes.page.iter().any(|name| name == r.name())).cloned().collect()
}

/// The way from the admin API into the engine's loop.
struct Gate {
    requests: mpsc::Sender<Request>,
}

impl Commander for Gate {
    fn submit(&self, command: Command) -> Boxed<'_, Result<Reply, SubmitError>> {
        Box::pin(async move {
            let gone = || SubmitError::Unavailable("the engine is stopping".into());
            let (reply, said) = oneshot::channel();
            self.requests.send(Request::Command(command, reply)).await.map_err(|_| gone())?;
            Ok(said.await.map_err(|_| gone())??)
        })
    }

    fn explain(&self, asked: Question) -> Boxed<'_, Result<Explained, SubmitError>> {
        Box::pin(async move {
            let gone = || SubmitError::Unavailable("the engine is stopping".into());
            let (reply, said) = oneshot::channel();
            self.requests.send(Request::Explain(asked, reply)).await.map_err(|_| gone())?;
            Ok(said.await.map_err(|_| gone())??)
        })
    }
}

struct Writer(IncidentBook);

impl IncidentWriter for Writer {
    fn markdown(&self, id: IncidentId) -> Boxed<'_, Result<Option<String>, String>> {
        Box::pin(async move {
            match self.0.markdown(&id).await {
                Ok(text) => Ok(Some(text)),
                Err(BookError::Store(StoreError::NoSuchIncident(_))) => Ok(None),
                Err(error) => Err(error.to_string()),
            }
        })
    }
}

//! Hot reload: on SIGHUP and when a rule file or the configuration changes. A bad file keeps the old rules and says so.
//!
//! Rules, flags, limits and the global dry run are replaced all at once. What needs a restart (Kafka, the database, receivers, flag platforms,
//! metrics, timing) is named in the log and left as it is.

use std::path::{Path, PathBuf};
use std::time::Duration;

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::core::Request;
use super::rules;
use crate::clock::Clock;
use crate::config::Config;
use crate::engine::rule::diagnostic::Diagnostic;
use crate::engine::schema::Schema;
use crate::model::flag::FlagSpec;
use crate::store::Store;
use crate::supervise::{OnError, Supervisor, Task, TaskError};
use crate::telemetry::facts::Reloaded;
use crate::telemetry::record;

/// Editors write a file in several steps: wait until nothing has changed for this long (real time).
const SETTLE: Duration = Duration::from_millis(300);

/// Watches and reloads.
#[derive(Clone)]
struct Reloader {
    config: Config,
    schema: Schema,
    requests: mpsc::Sender<Request>,
    store: Store,
    clock: Clock,
}

/// Starts the task, if there is a configuration file to read again.
pub(super) fn spawn(
    config: &Config,
    requests: mpsc::Sender<Request>,
    store: Store,
    clock: Clock,
    supervisor: &Supervisor,
) {
    if config.path.as_os_str().is_empty() {
        return;
    }
    let Ok((settings, _)) = rules::settings(config, None) else { return };
    let schema = (*settings.schema).clone();
    let reloader = Reloader { config: config.clone(), schema, requests, store, clock };
    let task = Task {
        name: "reload",
        on_error: OnError::Restart { first: Duration::from_secs(1), most: Duration::from_secs(60) },
        drain: Duration::from_secs(1),
    };
    supervisor.spawn(task, move |stop| reloader.clone().run(stop));
}

impl Reloader {
    async fn run(mut self, stop: CancellationToken) -> Result<(), TaskError> {
        let mut hangup = signal(SignalKind::hangup())?;
        let (changed, mut changes) = mpsc::channel(1);
        // Kept alive as long as the task: dropping it ends the watch.
        let _watcher = self.watch(changed)?;
        loop {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                _ = hangup.recv() => {}
                _ = changes.recv() => {
                    while tokio::time::timeout(SETTLE, changes.recv()).await.is_ok() {}
                }
            }
            self.reload().await;
        }
    }

    fn watch(&self, changed: mpsc::Sender<()>) -> Result<RecommendedWatcher, TaskError> {
        let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            let matters =
                event.is_ok_and(|e| !e.kind.is_access() && e.paths.iter().any(|path| is_yaml(path)));
            if matters {
                // A full channel already says that something has changed.
                changed.try_send(()).ok();
            }
        })?;
        for folder in self.folders() {
            watcher.watch(&folder, RecursiveMode::NonRecursive)?;
        }
        Ok(watcher)
    }

    /// The folders of the configuration and of the rule files: editors replace files, so watching a file is not enough.
    fn folders(&self) -> Vec<PathBuf> {
        let mut folders: Vec<PathBuf> = Vec::new();
        let places = std::iter::once(&self.config.path).chain(&self.config.rules);
        for place in places {
            let folder = if place.is_dir() { Some(place.as_path()) } else { place.parent() };
            let folder = folder.filter(|f| !f.as_os_str().is_empty()).unwrap_or(Path::new("."));
            if folder.is_dir() && !folders.iter().any(|f| f == folder) {
                folders.push(folder.to_owned());
            }
        }
        folders
    }

    async fn reload(&mut self) {
        match self.read() {
            Err(found) => refused(&found),
            Ok((config, settings)) => {
                let restart = needs_restart(&self.config, &config);
                if let Err(error) = self.store.declare(&config.flags, self.clock.now()).await {
                    record(&Reloaded { ok: false, detail: &error.to_string() });
                    return;
                }
                let mut detail =
                    format!("{} rules, {} flags", settings.rules.rules.len(), settings.flags.len());
                if !restart.is_empty() {
                    detail
                        .push_str(&format!("; changed but only taken at a restart: {}", restart.join(", ")));
                }
                self.schema = (*settings.schema).clone();
                self.config.flags = config.flags;
                if self.requests.send(Request::Reload(Box::new(settings))).await.is_ok() {
                    record(&Reloaded { ok: true, detail: &detail });
                }
            }
        }
    }

    fn read(&self) -> Result<(Config, crate::engine::input::Settings), Vec<Diagnostic>> {
        let mut config = Config::load(&self.config.path)?;
        if config.catalogue != self.config.catalogue {
            let path = self.config.path.display().to_string();
            let message = if config.canary.is_some() == self.config.canary.is_some() {
                "`metrics` has changed: a metric keeps its meaning while Rearguard runs; restart it"
            } else {
                "`canary` was added or taken away, which needs a restart"
            };
            return Err(vec![Diagnostic::whole_file(&path, message)]);
        }
        let running = |flag: &&FlagSpec| {
            let served = flag.served.as_ref();
            served.is_none_or(|served| self.config.platforms.contains_key(&served.platform))
        };
        if let Some(flag) = config.flags.iter().find(|flag| !running(flag)) {
            let path = self.config.path.display().to_string();
            let message =
                format!("`{}` is served by a platform that is opened only at a restart: restart", flag.key);
            return Err(vec![Diagnostic::whole_file(&path, message)]);
        }
        config.timing = self.config.timing;
        let (settings, doubts) = rules::settings(&config, Some(&self.schema))?;
        for doubt in doubts {
            tracing::warn!(%doubt, "read anew, with a doubt");
        }
        Ok((config, settings))
    }
}

/// Mistakes as one error.
pub fn in_words(found: Vec<Diagnostic>) -> anyhow::Error {
    anyhow::anyhow!(lines(&found))
}

fn lines(found: &[Diagnostic]) -> String {
    found.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

fn refused(found: &[Diagnostic]) {
    record(&Reloaded { ok: false, detail: &lines(found) });
}

/// Sections that differ and that a running process cannot take over.
fn needs_restart(old: &Config, new: &Config) -> Vec<&'static str> {
    let pairs = [
        ("kafka", format!("{:?}", old.kafka) != format!("{:?}", new.kafka)),
        ("canary", old.canary != new.canary),
        ("store", old.store != new.store),
        ("data_dir", old.data_dir != new.data_dir),
        ("http", old.http != new.http),
        ("platforms", old.platforms != new.platforms),
        ("templates", old.templates != new.templates),
        ("receivers", old.receivers != new.receivers),
        ("routes", old.routes != new.routes),
        ("outbound", old.outbound != new.outbound),
        ("timing", old.timing != new.timing),
    ];
    pairs.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name).collect()
}

fn is_yaml(path: &Path) -> bool {
    path.extension().is_some_and(|e| e == "yaml" || e == "yml")
}

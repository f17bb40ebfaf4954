//! What Rearguard says of itself: one struct per fact, and each fact is one log line and its metrics, together.
//!
//! Owns log output, the metrics recorder and the list of all metrics ([`catalogue`], printed in `docs/metrics.md`). Code
//! elsewhere calls [`record`] with a value of [`facts`] and never a logging or metrics macro of its own for the same thing.
//! `error!` means that a human must act. Labels are bounded by configuration, never by what events carry.

pub mod catalogue;
pub mod facts;

use std::fs::File;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use tracing::{Dispatch, Level};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Something that happened, worth a log line, a number or both.
pub trait Fact {
    /// Writes the line and moves the metrics.
    fn record(&self);
}

/// Says that something happened.
pub fn record(fact: &impl Fact) {
    fact.record();
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    #[default]
    Human,
    Json,
}

/// Why telemetry could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    #[error("`{filter}` is no log filter (for example `info` or `info,rearguard::dispatch=debug`): {why}")]
    Filter { filter: String, why: String },
    #[error("the log file {}: {why}", path.display())]
    File { path: PathBuf, why: std::io::Error },
    #[error("logging is set up already")]
    LogsTwice,
    #[error("metrics are set up already")]
    MetricsTwice,
    #[error("metrics recorder: {0}")]
    Recorder(String),
}

/// Sends log lines to standard error, filtered as `RUST_LOG` would.
pub fn init_logs(format: LogFormat, filter: &str) -> Result<(), TelemetryError> {
    let colours = format == LogFormat::Human && std::io::stderr().is_terminal();
    let lines = lines(format, filter, std::io::stderr, colours)?;
    lines.try_init().map_err(|_| TelemetryError::LogsTwice)
}

/// Sends log lines to a file instead, for commands that have something else to say on the terminal.
pub fn init_logs_to_file(path: &Path, format: LogFormat, filter: &str) -> Result<(), TelemetryError> {
    let file = File::create(path).map_err(|why| TelemetryError::File { path: path.to_owned(), why })?;
    let lines = lines(format, filter, Mutex::new(file), false)?;
    lines.try_init().map_err(|_| TelemetryError::LogsTwice)
}

/// What becomes of what is logged. No filter gets more than `info` out of the watcher of the configuration's folder: a log
/// that is written into that folder would have it tell of each line, in another line.
fn lines<W>(format: LogFormat, filter: &str, to: W, colours: bool) -> Result<Dispatch, TelemetryError>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let filter = EnvFilter::try_new(filter)
        .map_err(|why| TelemetryError::Filter { filter: filter.to_owned(), why: why.to_string() })?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(to).with_ansi(colours);
    let no_echo =
        filter_fn(|of| *of.level() <= Level::INFO || of.target().split("::").next() != Some("notify"));
    Ok(match format {
        LogFormat::Human => lines.with_target(false).finish().with(no_echo).into(),
        LogFormat::Json => {
            lines.json().flatten_event(true).with_current_span(false).finish().with(no_echo).into()
        }
    })
}

/// Renders `/metrics` in Prometheus' text format.
#[derive(Clone)]
pub struct Metrics(PrometheusHandle);

impl Metrics {
    /// Installs the recorder for the whole process.
    pub fn install() -> Result<Self, TelemetryError> {
        let recorder = recorder()?;
        let handle = recorder.handle();
        metrics::set_global_recorder(recorder).map_err(|_| TelemetryError::MetricsTwice)?;
        catalogue::describe();
        Ok(Self(handle))
    }

    /// A recorder that belongs to nobody, for tests and for tools that only render.
    pub fn detached() -> Result<(Self, PrometheusRecorder), TelemetryError> {
        let recorder = recorder()?;
        Ok((Self(recorder.handle()), recorder))
    }

    /// The text of `/metrics`.
    pub fn render(&self) -> String {
        self.0.render()
    }

    /// Empties the histograms' buffers, which would grow without bound if nobody scraped. To be called every few seconds.
    pub fn upkeep(&self) {
        self.0.run_upkeep();
    }
}

fn recorder() -> Result<PrometheusRecorder, TelemetryError> {
    let mut builder = PrometheusBuilder::new();
    for metric in catalogue::METRICS {
        if let Some(buckets) = metric.buckets() {
            builder = builder
                .set_buckets_for_metric(Matcher::Full(metric.name.to_owned()), buckets)
                .map_err(|error| TelemetryError::Recorder(error.to_string()))?;
        }
    }
    Ok(builder.build_recorder())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_filter_is_explained() {
        let error = init_logs(LogFormat::Json, "info,=,=nonsense").unwrap_err();
        assert!(error.to_string().contains("is no log filter"), "{error}");
    }

    #[test]
    fn the_watcher_of_the_folder_is_never_louder_than_info() {
        let levels = ["trace", "debug", "info", "warn"];
        for (filter, watcher, others) in [
            ("trace", &levels[2..], &levels[..]),
            ("debug,notify=trace", &levels[2..], &levels[1..]),
            ("notify::inotify=trace", &levels[2..], &[][..]),
            ("info", &levels[2..], &levels[2..]),
            ("warn", &levels[3..], &levels[3..]),
            ("trace,notify=off", &[], &levels[..]),
        ] {
            for format in [LogFormat::Human, LogFormat::Json] {
                let folder = tempfile::tempdir().unwrap();
                let path = folder.path().join("log");
                let to = Mutex::new(File::create(&path).unwrap());
                tracing::dispatcher::with_default(&lines(format, filter, to, false).unwrap(), || {
                    tracing::trace!(target: "notify::inotify", "watcher-trace.");
                    tracing::debug!(target: "notify::inotify", "watcher-debug.");
                    tracing::info!(target: "notify::inotify", "watcher-info.");
                    tracing::warn!(target: "notify::inotify", "watcher-warn.");
                    tracing::trace!(target: "others", "other-trace.");
                    tracing::debug!(target: "others", "other-debug.");
                    tracing::info!(target: "others", "other-info.");
                    tracing::warn!(target: "others", "other-warn.");
                });
                let log = std::fs::read_to_string(&path).unwrap();
                for (who, expected) in [("watcher", watcher), ("other", others)] {
                    let told = |level: &&&str| log.contains(&format!("{who}-{level}."));
                    let told: Vec<&str> = levels.iter().filter(told).copied().collect();
                    assert_eq!(told, expected, "{who} under `{filter}`: {log}");
                }
            }
        }
    }
}

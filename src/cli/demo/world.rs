//! The world that the demo needs and makes for itself: a folder, a broker, a configuration, rules.
//!
//! Everything lies on loopback and in one temporary folder. The configuration is a file like any other, read by the same code
//! as that of `rearguard run`, so that what the demo shows can be looked up and changed.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;

use crate::clock::Clock;
use crate::config::Config;
use crate::engine::rule::diagnostic::Diagnostic;
use crate::model::time::Timestamp;

pub const TOPIC: &str = "ai.generations";
pub const FLAG: &str = "ai.math-assistant.gpt-4-latest";
pub const CONTROL: &str = "math-assistant.gpt-4-0314";
pub const TREATMENT: &str = "math-assistant.gpt-4-latest";
/// How many times faster than real time the demo's clock runs.
pub const RATE: f64 = 150.0;
const PARTITIONS: i32 = 3;
/// The demo's clock starts this long ago, so that the story ends at about the present.
const AGO: Duration = Duration::from_secs(110 * 60);

const RULES: &str = include_str!("rules.yaml");

/// A temporary folder that goes away with this value, unless it is to be kept.
#[derive(Debug)]
pub struct Folder {
    pub path: PathBuf,
    pub keep: bool,
}

impl Folder {
    pub fn new() -> anyhow::Result<Self> {
        let name = format!("rearguard-demo-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        // What an earlier process of the same number left behind.
        if path.exists() {
            fs::remove_dir_all(&path).with_context(|| format!("emptying {}", path.display()))?;
        }
        fs::DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .with_context(|| format!("making {}", path.display()))?;
        Ok(Self { path, keep: false })
    }

    pub fn log(&self) -> PathBuf {
        self.path.join("rearguard.log")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !self.keep {
            // A folder that stays behind in /tmp is no reason to fail.
            fs::remove_dir_all(&self.path).ok();
        }
    }
}

/// librdkafka's mock broker, in this process, with the demo's topics.
pub fn broker() -> anyhow::Result<MockCluster<'static, DefaultProducerContext>> {
    let cluster = MockCluster::new(1).context("starting the mock broker")?;
    cluster.create_topic(TOPIC, PARTITIONS, 1)?;
    cluster.create_topic(&format!("{TOPIC}.dead-letter"), 1, 1)?;
    Ok(cluster)
}

/// Writes configuration, rules and secret into the folder and reads them as `rearguard run` would.
pub fn config(folder: &Path, brokers: &str, oncall: SocketAddr, secret: &str) -> anyhow::Result<Config> {
    let start = Clock::system().now() - AGO;
    let path = folder.join("rearguard.yaml");
    fs::create_dir_all(folder.join("rules"))?;
    fs::write(folder.join("rules/math-assistant.yaml"), RULES)?;
    fs::write(folder.join("webhook.secret"), secret)?;
    fs::write(&path, yaml(start, brokers, oncall))?;
    Config::load(&path).map_err(|found| anyhow::anyhow!(all(&found)))
}

/// Diagnostics as one text: here they can only be mistakes of the demo itself.
pub fn all(found: &[Diagnostic]) -> String {
    found.iter().map(|diagnostic| format!("{diagnostic:?}")).collect::<Vec<_>>().join("\n")
}

/// One real second is two and a half minutes here, so whatever is about I/O is given more room than a real installation needs.
fn yaml(start: Timestamp, brokers: &str, oncall: SocketAddr) -> String {
    format!(
        r#"# Written by `rearguard demo`.
kafka:
  brokers: ["{brokers}"]
  topics: [{TOPIC}]
  start: earliest
  properties:
    fetch.wait.max.ms: 10     # the mock broker answers an empty fetch only after this
rules: [rules/]
flags:
  {FLAG}:
    control: {CONTROL}
    treatment: {TREATMENT}
    share: 50%
metrics:
  accuracy: {{ kind: score, direction: higher_is_better, failure_class: quality_regression }}
http:
  listen: 127.0.0.1:0
receivers:
  oncall:
    webhook: {{ url: "http://{oncall}/page", secret: {{ file: webhook.secret }} }}
outbound:
  allow: ["{oncall}"]
clock: {{ start: "{start}", rate: {RATE} }}
# One real second is two and a half minutes of this clock: waits for disks and sockets get more of it than usual.
timing: {{ flip_deadline: 3m, page_after: 4m }}
limits: {{ blind_after: 20m }}
"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::rules;

    #[test]
    fn the_demos_files_are_good_ones() {
        let folder = tempfile::tempdir().unwrap();
        let oncall = SocketAddr::from(([127, 0, 0, 1], 4000));
        let config = config(folder.path(), "127.0.0.1:9092", oncall, "secret").unwrap();
        assert!(!config.clock.is_real());
        assert!(config.warnings.is_empty(), "{:?}", config.warnings);
        let (settings, warnings) = rules::settings(&config, None).unwrap();
        assert_eq!(settings.rules.rules.len(), 2);
        assert!(warnings.is_empty(), "{warnings:?}");
    }
}

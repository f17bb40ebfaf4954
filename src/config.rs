//! Configuration: `rearguard.yaml`, read once into validated types. All mistakes are told at once, with their places.
//!
//! Flows in: the file, the environment and secret files. Flows out: [`Config`]. Paths in the file are relative to the folder
//! it stands in. Nothing else in the crate reads the environment for settings.

mod canary;
mod expected;
mod files;
mod kafka;
mod outward;
mod platforms;
mod read;
mod receivers;
mod routes;
mod secret;
mod sections;
mod slos;
mod templates;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;

pub use canary::{Canary, PingMethod};
pub use expected::{Entry, Expected, Usual};
pub use files::{read_file, readable_rule_files, rule_files, yaml_files};
pub use platforms::{Platform, PlatformKind, Service, Vendor};
pub use receivers::{Incident, Receiver};
pub use secret::Secret;
pub use templates::{Template, Templates};

use crate::engine::budget::Timing;
use crate::engine::input::Limits;
use crate::engine::rule::diagnostic::Diagnostic;
use crate::engine::rule::yaml::Document;
use crate::model::flag::FlagSpec;
use crate::model::metric::Catalogue;
use crate::model::route::Route;
use crate::model::time::Timestamp;

/// Everything an operator can set, validated.
#[derive(Clone, Debug)]
pub struct Config {
    /// The file it was read from; empty for the built-in defaults.
    pub path: PathBuf,
    pub kafka: Kafka,
    /// Rearguard's own events and the dead-man's switch that they feed.
    pub canary: Option<Canary>,
    /// The operator's own texts of messages and incidents.
    pub templates: Templates,
    /// Files, folders and patterns that hold rules.
    pub rules: Vec<PathBuf>,
    pub flags: Vec<FlagSpec>,
    /// What serves flags beside Rearguard's own store, by name.
    pub platforms: BTreeMap<String, Platform>,
    pub catalogue: Arc<Catalogue>,
    /// What is usual of variants, for `check`.
    pub expected: Expected,
    pub store: Store,
    /// Where snapshots lie.
    pub data_dir: PathBuf,
    pub http: Http,
    pub receivers: BTreeMap<String, Receiver>,
    pub routes: Routes,
    pub outbound: Outbound,
    pub timing: Timing,
    pub limits: Limits,
    /// Rearguard only says what it would do.
    pub dry_run: bool,
    pub clock: ClockConfig,
    pub log: Log,
    /// Under which address people reach Rearguard, for links in incidents.
    pub external_url: Option<String>,
    /// Doubts that do not prevent a start.
    pub warnings: Vec<Diagnostic>,
}

/// Where events come from.
#[derive(Clone, Debug, Serialize)]
pub struct Kafka {
    /// `host:port`, at least one.
    pub brokers: Vec<String>,
    pub topics: Vec<String>,
    pub group: String,
    /// Static membership: a restarted member gets its partitions back at once.
    pub group_instance_id: Option<String>,
    pub dead_letter_topic: String,
    pub start: Start,
    /// Passed to librdkafka as they are; settings that lose data have been refused.
    pub properties: BTreeMap<String, Secret>,
}

impl Kafka {
    /// The brokers as librdkafka wants them.
    pub fn bootstrap(&self) -> String {
        self.brokers.join(",")
    }
}

/// Where reading begins when nothing is stored yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Start {
    /// By time: far enough back to fill the longest window.
    #[default]
    OneLongestWindow,
    Earliest,
}

/// Where decisions are stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Store {
    Sqlite(PathBuf),
    /// The whole connection address.
    Postgres(Secret),
}

/// The HTTP listener.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Http {
    pub listen: SocketAddr,
}

/// How a CloudEvent lies in a Kafka record: whole in its value, or its attributes in headers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EventMode {
    #[default]
    Structured,
    Binary,
}

/// Which receivers get what, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Routes {
    pub page: Vec<String>,
    pub notify: Vec<String>,
    /// Exceptions: the first that fits counts.
    #[serde(rename = "match")]
    pub matches: Vec<Route>,
}

/// Hosts that Rearguard may talk to over HTTP.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Outbound {
    /// `host` (any port) or `host:port`, lower case.
    pub allow: Vec<String>,
    /// Those of them that may be talked to without TLS. Loopback always may.
    pub plain_http: Vec<String>,
}

impl Outbound {
    /// Whether a host and port are on the list.
    pub fn allows(&self, host: &str, port: u16) -> bool {
        named(&self.allow, host, port)
    }

    /// Whether a host and port may be talked to without TLS.
    pub fn allows_plain_http(&self, host: &str, port: u16) -> bool {
        named(&self.plain_http, host, port)
    }
}

fn named(list: &[String], host: &str, port: u16) -> bool {
    let host = host.to_lowercase();
    let with_port = format!("{host}:{port}");
    list.iter().any(|entry| *entry == host || *entry == with_port)
}

/// A clock for demos and tests. Anything but the real one is refused unless all is on loopback.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct ClockConfig {
    /// What time it is at the start; `None` for now.
    pub start: Option<Timestamp>,
    /// Seconds per second.
    pub rate: f64,
}

impl Default for ClockConfig {
    fn default() -> Self {
        Self { start: None, rate: 1.0 }
    }
}

impl ClockConfig {
    /// Whether this is the real clock.
    pub fn is_real(&self) -> bool {
        self.start.is_none() && self.rate.to_bits() == 1.0f64.to_bits()
    }
}

/// What is logged, and how.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Log {
    pub format: LogFormat,
    /// A level or a filter as `RUST_LOG` has it.
    pub level: String,
}

/// The form of log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    #[default]
    Human,
    Json,
}

/// Looks a variable up in the environment.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The environment of this process.
pub fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

impl Config {
    /// Reads and validates a file. Errors hold every mistake that was found.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, Vec<Diagnostic>> {
        let path = path.as_ref();
        let text = read_file(path).map_err(|error| vec![error])?;
        Self::parse(path, &text, &variable)
    }

    /// The same from text; `path` says where it is from, secret files and relative paths are resolved against its folder.
    pub fn parse(path: &Path, text: &str, environment: Environment<'_>) -> Result<Self, Vec<Diagnostic>> {
        match Self::attempt(path, text, environment) {
            (Some(config), errors) if errors.is_empty() => Ok(config),
            (_, errors) => Err(errors),
        }
    }

    /// What can be read of a file, with defaults in place of what is wrong, and all errors: for those who check the rules as
    /// well. `None` when nothing of it can be read. A configuration with errors must not be used for anything else.
    pub fn attempt(path: &Path, text: &str, environment: Environment<'_>) -> (Option<Self>, Vec<Diagnostic>) {
        let file = path.display().to_string();
        let mut doc = Document::new(&file, text);
        let config = read::config(&mut doc, path, environment);
        doc.diagnostics.sort_by_key(|d| d.span.offset);
        let (errors, warnings): (Vec<_>, Vec<_>) =
            doc.diagnostics.into_iter().partition(Diagnostic::is_error);
        (config.map(|config| Self { warnings, ..config }), errors)
    }

    /// Everything that has a default, for commands that work without a file. There are no brokers and no topics.
    pub fn built_in() -> Self {
        Self {
            path: PathBuf::new(),
            kafka: Kafka {
                brokers: Vec::new(),
                topics: Vec::new(),
                group: "rearguard".to_owned(),
                group_instance_id: None,
                dead_letter_topic: String::new(),
                start: Start::default(),
                properties: BTreeMap::new(),
            },
            canary: None,
            templates: Templates::default(),
            rules: vec![PathBuf::from("rules")],
            flags: Vec::new(),
            platforms: BTreeMap::new(),
            catalogue: Arc::new(Catalogue::default()),
            expected: Expected::default(),
            store: Store::Sqlite(PathBuf::from("data/rearguard.db")),
            data_dir: PathBuf::from("data"),
            http: Http { listen: SocketAddr::from(([127, 0, 0, 1], 8080)) },
            receivers: BTreeMap::new(),
            routes: Routes::default(),
            outbound: Outbound::default(),
            timing: Timing::default(),
            limits: Limits::default(),
            dry_run: false,
            clock: ClockConfig::default(),
            log: Log { format: LogFormat::default(), level: "info".to_owned() },
            external_url: None,
            warnings: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests;

//! Unleash on a PostgreSQL database, and its own Node.js client.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::process::{Launch, Process, answers_ok};
use super::{free_port, provisioned};

/// Migrations of an empty database come first.
const START_BOUND: Duration = Duration::from_secs(120);

/// For a server that exists on loopback for the length of one test.
pub const ADMIN_TOKEN: &str = "*:*.admin-on-loopback-only";
pub const CLIENT_TOKEN: &str = "default:production.client-on-loopback-only";

/// Counts the variants that a hundred users get, one of them the tester `beta`, with the vendor's own client.
const CLIENT: &str = r"
import { startUnleash } from 'unleash-client';
const [url, token, feature] = process.argv.slice(2);
const unleash = await startUnleash({ url, appName: 'gateway', customHeaders: { Authorization: token },
  refreshInterval: 1000, disableMetrics: true, backupPath: process.cwd() });
const counts = {};
for (const userId of ['beta', ...Array.from({ length: 99 }, (_, n) => `user-${n}`)]) {
  const { name } = unleash.getVariant(feature, { userId });
  counts[name] = (counts[name] ?? 0) + 1;
}
unleash.destroy();
console.log(JSON.stringify({ ...counts, beta: unleash.getVariant(feature, { userId: 'beta' }).name }));
";

/// An Unleash server; ends with the value.
pub struct Unleash {
    // Before the folder: fields are dropped in this order, and the server writes into the folder until it ends.
    process: Process,
    folder: TempDir,
    modules: PathBuf,
    port: u16,
}

impl Unleash {
    /// A server on an empty database.
    pub fn start(database: &str) -> Result<Self> {
        let modules = PathBuf::from(provisioned("REARGUARD_UNLEASH")?);
        let folder = tempfile::Builder::new().prefix("rearguard-unleash-").tempdir()?;
        let port = free_port()?;
        let mut argv: Vec<OsString> = vec!["env".into()];
        for (name, value) in [
            ("DATABASE_URL", database),
            ("DATABASE_SSL", "false"),
            ("HTTP_HOST", "127.0.0.1"),
            ("HTTP_PORT", &port.to_string()),
            ("INIT_ADMIN_API_TOKENS", ADMIN_TOKEN),
            ("INIT_CLIENT_API_TOKENS", CLIENT_TOKEN),
            ("CHECK_VERSION", "false"),
            ("SEND_TELEMETRY", "false"),
        ] {
            argv.push(format!("{name}={value}").into());
        }
        argv.push(modules.join(".bin/node").into());
        argv.push(modules.join("unleash-server/dist/server.js").into());
        let process = Process::new(Launch {
            name: "Unleash",
            argv,
            privileges: Vec::new(),
            stop_signal: "TERM",
            quit_signal: "KILL",
            log: folder.path().join("server.log"),
        });
        let mut unleash = Self { process, folder, modules, port };
        unleash.process.start(START_BOUND, |_| answers_ok(port, "/health"))?;
        Ok(unleash)
    }

    /// `http://127.0.0.1:port`, without a slash at the end.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// A feature that gives `beta` the treatment and half of all others.
    pub fn make_feature(&self, feature: &str, control: &str, treatment: &str) -> Result<()> {
        let features = "/api/admin/projects/default/features";
        self.post(features, &json!({"name": feature, "type": "release"}))?;
        let environment = format!("{features}/{feature}/environments/production");
        let variant = |name: &str, weight: u32| json!({"name": name, "weight": weight, "weightType": "variable", "stickiness": "default"});
        let strategy = |constraints: Value, variants: Value| {
            json!({"name": "flexibleRollout", "constraints": constraints, "variants": variants,
                "parameters": {"rollout": "100", "stickiness": "default", "groupId": feature}})
        };
        let is_beta = json!([{"contextName": "userId", "operator": "IN", "values": ["beta"]}]);
        let path = format!("{environment}/strategies");
        self.post(&path, &strategy(is_beta, json!([variant(treatment, 1000)])))?;
        self.post(&path, &strategy(json!([]), json!([variant(control, 500), variant(treatment, 500)])))?;
        self.post(&format!("{environment}/on"), &json!({}))
    }

    /// What a new client of the vendor's gives whom: variant → users, and what `beta` gets.
    pub fn served(&self, feature: &str) -> Result<Value> {
        let script = self.modules.join("rearguard-client.mjs");
        std::fs::write(&script, CLIENT)?;
        let output = Command::new(self.modules.join(".bin/node"))
            .arg(&script)
            .args([&format!("{}/api", self.url()), CLIENT_TOKEN, feature])
            .current_dir(self.folder.path())
            .output()?;
        if !output.status.success() {
            bail!("the client failed: {}", String::from_utf8_lossy(&output.stderr));
        }
        serde_json::from_slice(&output.stdout).context("the client's answer")
    }

    fn post(&self, path: &str, body: &Value) -> Result<()> {
        let url = format!("{}{path}", self.url());
        let headers = [("authorization", ADMIN_TOKEN), ("content-type", "application/json")];
        match crate::http::Http::new().post(&url, &headers, body.to_string().into_bytes()) {
            Some(200..=299) => Ok(()),
            other => bail!("{path}: {other:?}"),
        }
    }
}

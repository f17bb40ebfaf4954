//! Prometheus Alertmanager with one receiver: a webhook of the caller's.

use std::ffi::OsString;
use std::time::Duration;

use anyhow::Result;
use tempfile::TempDir;

use super::process::{Launch, Process, answers_ok};
use super::{free_port, provisioned};

const START_BOUND: Duration = Duration::from_secs(30);

/// An Alertmanager with its data; ends with the value.
pub struct Alertmanager {
    // Before the folder: fields are dropped in this order, and the server writes into the folder until it ends.
    process: Process,
    _folder: TempDir,
    port: u16,
}

impl Alertmanager {
    /// Starts it so that every alert goes to `webhook` by itself at once, and again when it is resolved.
    pub fn start(webhook: &str) -> Result<Self> {
        let program = provisioned("REARGUARD_ALERTMANAGER")?;
        let folder = tempfile::Builder::new().prefix("rearguard-alertmanager-").tempdir()?;
        let port = free_port()?;
        let config = folder.path().join("alertmanager.yml");
        std::fs::write(&config, configuration(webhook))?;

        let option = |name: &str, value: &str| OsString::from(format!("--{name}={value}"));
        let argv = vec![
            program,
            option("config.file", &config.display().to_string()),
            option("storage.path", &folder.path().join("data").display().to_string()),
            option("web.listen-address", &format!("127.0.0.1:{port}")),
            // No cluster: one instance, no port for gossip.
            option("cluster.listen-address", ""),
        ];
        let process = Process::new(Launch {
            name: "Alertmanager",
            argv,
            privileges: Vec::new(),
            stop_signal: "TERM",
            quit_signal: "KILL",
            log: folder.path().join("server.log"),
        });
        let mut alertmanager = Self { process, _folder: folder, port };
        alertmanager.launch()?;
        Ok(alertmanager)
    }

    /// `http://127.0.0.1:port`, without a slash at the end; the same after a restart.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// SIGTERM, a stop in good order; `restart` brings it back.
    pub fn stop(&mut self) -> Result<()> {
        self.process.stop()
    }

    /// Starts it again on the same port and data, after a stop if it still runs. Alertmanager keeps silences and its
    /// log of notifications over a restart, but no alerts: who posts them posts them again.
    pub fn restart(&mut self) -> Result<()> {
        self.process.stop()?;
        self.launch()
    }

    fn launch(&mut self) -> Result<()> {
        let port = self.port;
        self.process.start(START_BOUND, |_| answers_ok(port, "/-/ready"))
    }
}

fn configuration(webhook: &str) -> String {
    format!(
        "route:\n\
         \x20 receiver: caller\n\
         \x20 group_by: ['...']\n\
         \x20 group_wait: 0s\n\
         \x20 group_interval: 1s\n\
         \x20 repeat_interval: 1h\n\
         receivers:\n\
         \x20 - name: caller\n\
         \x20   webhook_configs:\n\
         \x20     - url: '{webhook}'\n\
         \x20       send_resolved: true\n"
    )
}

//! The real binary as a child process: its folder, its configuration, its log, its HTTP port.

use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::Value;
use sqlx::{AnyConnection, Connection};
use tempfile::TempDir;

use crate::http::{Answer, Http};
use crate::servers::free_port;
use crate::timeline::{Timeline, eventually, text};

const START_BOUND: Duration = Duration::from_secs(30);
const READY_BOUND: Duration = Duration::from_secs(60);
const STOP_BOUND: Duration = Duration::from_secs(40);

/// The key of the signed webhook, in the environment as `REARGUARD_REAL_SECRET`.
pub const SECRET: &str = "only between these tests and the daemon";

/// What a daemon is started with.
pub struct Setup {
    pub bootstrap: String,
    pub topic: String,
    pub alertmanager: String,
    /// `rules/rules.yaml`.
    pub rules: String,
    /// More sections of `rearguard.yaml`: flags, timing, limits.
    pub config: String,
    /// The address of a PostgreSQL database; SQLite in the daemon's folder without.
    pub postgres: Option<String>,
    /// More receivers than the on-call's Alertmanager: lines of `receivers:`, two spaces deep.
    pub receivers: String,
    /// `host:port` of those among them that are asked over HTTP.
    pub hosts: Vec<String>,
}

/// A daemon, running or not. Ends with the value.
pub struct Daemon {
    folder: TempDir,
    child: Option<Child>,
    pub setup: Setup,
    timeline: Timeline,
    port: u16,
    token: String,
    pub http: Http,
    starts: u32,
}

impl Daemon {
    /// Starts it for the first time: waits until it answers, and gets a token.
    pub fn start(&mut self) {
        self.spawn();
        self.await_answer();
        self.token = self.make_token();
    }

    /// Writes its files.
    pub fn prepare(setup: Setup, timeline: Timeline) -> Self {
        let folder = tempfile::Builder::new().prefix("rearguard-real-").tempdir().expect("a folder");
        fs::create_dir(folder.path().join("rules")).expect("a folder");
        fs::write(folder.path().join("rules/rules.yaml"), &setup.rules).expect("rules");
        let port = free_port().expect("a free port");
        let token = String::new();
        Self { folder, child: None, setup, timeline, port, token, http: Http::new(), starts: 0 }
    }

    /// Starts the process, on virtual time as it is now.
    pub fn spawn(&mut self) {
        assert!(self.child.is_none(), "it runs already");
        self.write_config();
        self.child = Some(self.command().spawn().expect("the binary starts"));
        self.starts += 1;
    }

    /// Writes `rearguard.yaml` with the clock as it stands.
    pub fn write_config(&self) {
        fs::write(self.folder.path().join("rearguard.yaml"), self.config()).expect("a configuration");
    }

    /// Changes a word of `rearguard.yaml` while it runs, and has it read again.
    pub fn change_config(&mut self, from: &str, to: &str) {
        self.setup.config = self.setup.config.replace(from, to);
        let path = self.folder.path().join("rearguard.yaml");
        let text = fs::read_to_string(&path).expect("a configuration");
        assert!(text.contains(from), "`{from}` is not in {text}");
        fs::write(path, text.replace(from, to)).expect("a configuration");
    }

    /// Replaces the rules while it runs.
    pub fn write_rules(&self, rules: &str) {
        fs::write(self.folder.path().join("rules/rules.yaml"), rules).expect("rules");
    }

    /// Waits until it answers at all.
    pub fn await_answer(&mut self) {
        let asked = Instant::now();
        while self.ask(Method::GET, "/healthz", None).is_none_or(|answer| answer.status != 200) {
            self.assert_runs();
            assert!(asked.elapsed() < START_BOUND, "no answer after {START_BOUND:?}\n{}", self.log_tail());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits until it is armed.
    pub fn await_ready(&mut self) {
        let asked = Instant::now();
        loop {
            let ready = self.ask(Method::GET, "/readyz", None);
            if ready.as_ref().is_some_and(|answer| answer.status == 200) {
                return;
            }
            self.assert_runs();
            assert!(asked.elapsed() < READY_BOUND, "not ready: {ready:?}\n{}", self.log_tail());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        let mut child = self.child.take().expect("it runs");
        child.kill().expect("it can be killed");
        child.wait().expect("it ends");
    }

    /// SIGTERM, and how it ended.
    pub fn terminate(&mut self) -> ExitStatus {
        self.signal("TERM");
        let mut child = self.child.take().expect("it runs");
        let status = eventually("the daemon ends", STOP_BOUND, || child.try_wait().expect("a child"));
        assert!(status.success(), "ended with {status}\n{}", self.log_tail());
        status
    }

    pub fn signal(&self, name: &str) {
        let id = self.child.as_ref().expect("it runs").id().to_string();
        let sent = Command::new("sh").args(["-c", "kill -s \"$0\" \"$1\"", name, &id]).status();
        assert!(sent.expect("a shell").success());
    }

    /// A second process on the same files: its exit code and what it said.
    pub fn second(&self) -> (Option<i32>, String) {
        let mut config = self.config();
        config =
            config.replace(&format!(":{} }}", self.port), &format!(":{} }}", free_port().expect("a port")));
        let path = self.folder.path().join("second.yaml");
        fs::write(&path, config).expect("a configuration");
        let output = self.bare_command(&path).output().expect("the binary starts");
        let said = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8_lossy(&said).into_owned())
    }

    pub fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> Option<Answer> {
        self.http.ask(method, &format!("http://127.0.0.1:{}{path}", self.port), &self.token, body)
    }

    /// A GET that must succeed.
    pub fn get(&self, path: &str) -> Answer {
        let answer = self.ask(Method::GET, path, None).unwrap_or_else(|| panic!("GET {path}: no answer"));
        assert_eq!(answer.status, 200, "GET {path}: {}", answer.text);
        answer
    }

    /// A request that must succeed.
    pub fn put(&self, method: Method, path: &str, body: &Value) -> Value {
        let answer = self.ask(method, path, Some(body)).unwrap_or_else(|| panic!("{path}: no answer"));
        assert!(answer.status < 300, "{path}: {} {}", answer.status, answer.text);
        answer.body
    }

    pub fn status(&self) -> Value {
        self.get("/v1/status").body
    }

    /// The variant that a flag serves for a key.
    pub fn served(&self, flag: &str, key: &str) -> String {
        let context = serde_json::json!({"context": {"targetingKey": key}});
        let answer = self.put(Method::POST, &format!("/ofrep/v1/evaluate/flags/{flag}"), &context);
        answer["variant"].as_str().unwrap_or_default().to_owned()
    }

    /// The sum of all samples of a metric whose labels contain all of `labels`.
    pub fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        let text = self.get("/metrics").text;
        let wanted = |line: &&str| {
            line.strip_prefix(name).is_some_and(|rest| rest.starts_with('{') || rest.starts_with(' '))
                && labels.iter().all(|label| line.contains(label))
        };
        text.lines().filter(wanted).filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    /// A command as a human gives it: exit code, standard output, standard error.
    pub fn command_line(&self, args: &[&str]) -> (Option<i32>, String, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rearguard"));
        command.args(args).stdin(Stdio::null()).current_dir(self.folder.path());
        command.env("REARGUARD_URL", format!("http://127.0.0.1:{}", self.port));
        command.env("REARGUARD_TOKEN", &self.token);
        self.secrets(&mut command);
        let output = command.output().expect("the binary starts");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    }

    /// A command that must succeed: what it printed.
    pub fn say(&self, args: &[&str]) -> String {
        let (code, out, error) = self.command_line(args);
        assert_eq!(code, Some(0), "rearguard {args:?}: {out}{error}\n{}", self.log_tail());
        out
    }

    /// One number from its database, read beside it.
    pub fn count(&self, sql: &str) -> i64 {
        let numbers = self.query::<i64>(sql);
        assert_eq!(numbers.len(), 1, "{sql}");
        numbers[0]
    }

    /// One column of texts from its database, read beside it.
    pub fn texts(&self, sql: &str) -> Vec<String> {
        self.query::<String>(sql)
    }

    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Everything it has said since its first start.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// No panic, no broken invariant, no failed task so far.
    pub fn assert_healthy_log(&self) {
        for line in self.log().lines() {
            let bad = ["panicked", "invariant broken", "stopped by an error", "task failed"];
            assert!(!bad.iter().any(|word| line.contains(word)), "{line}\n{}", self.log_tail());
        }
    }

    pub fn log_path(&self) -> PathBuf {
        self.folder.path().join("daemon.log")
    }

    fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        let from = lines.len().saturating_sub(60);
        format!("the end of the daemon's log:\n{}", lines[from..].join("\n"))
    }

    fn assert_runs(&mut self) {
        let ended = self.child.as_mut().expect("it was started").try_wait().expect("a child");
        assert!(ended.is_none(), "it ended by itself: {ended:?}\n{}", self.log_tail());
    }

    fn store_url(&self) -> String {
        match &self.setup.postgres {
            Some(url) => url.clone(),
            None => format!("sqlite:{}", self.data().join("rearguard.db").display()),
        }
    }

    fn make_token(&self) -> String {
        self.say(&["token", "create", "test", "--scope", "admin"]).trim().to_owned()
    }

    fn query<T>(&self, sql: &str) -> Vec<T>
    where
        T: Send + Unpin + for<'r> sqlx::Decode<'r, sqlx::Any> + sqlx::Type<sqlx::Any>,
    {
        sqlx::any::install_default_drivers();
        let url = self.store_url();
        self.http.block_on(async {
            let mut connection = AnyConnection::connect(&url).await.expect("the database opens");
            let sql = sqlx::AssertSqlSafe(sql.to_owned());
            let values = sqlx::query_scalar(sql).fetch_all(&mut connection).await;
            connection.close().await.expect("it closes");
            values.expect("the query is right")
        })
    }

    fn secrets(&self, command: &mut Command) {
        command.env("REARGUARD_REAL_SECRET", SECRET);
        if let Some(url) = &self.setup.postgres {
            command.env("REARGUARD_REAL_DATABASE", url);
        }
    }

    fn command(&self) -> Command {
        let log: File =
            OpenOptions::new().append(true).create(true).open(self.log_path()).expect("a log file");
        let mut command = self.bare_command(&self.folder.path().join("rearguard.yaml"));
        command.stdout(log.try_clone().expect("a log file")).stderr(log);
        command
    }

    fn bare_command(&self, config: &Path) -> Command {
        let mut command = Command::new("setpriv");
        // It must not outlive a test that is killed.
        command.args(["--pdeathsig", "KILL", "--", env!("CARGO_BIN_EXE_rearguard"), "run", "--config"]);
        command.arg(config).stdin(Stdio::null());
        self.secrets(&mut command);
        command
    }

    fn config(&self) -> String {
        let Setup { bootstrap, topic, alertmanager, config, postgres, receivers, hosts, .. } = &self.setup;
        let mut allowed = vec![alertmanager.trim_start_matches("http://")];
        allowed.extend(hosts.iter().map(String::as_str));
        let mut yaml = format!(
            "kafka:\n  brokers: ['{bootstrap}']\n  topics: [{topic}]\n  group_instance_id: rearguard-0\n\
             \x20 properties: {{ reconnect.backoff.max.ms: \"500\", session.timeout.ms: \"6000\" }}\n\
             rules: [rules/]\n\
             http: {{ listen: 127.0.0.1:{} }}\n\
             receivers:\n  oncall:\n    alertmanager: {{ url: '{alertmanager}' }}\n{receivers}\
             outbound: {{ allow: {allowed:?} }}\n",
            self.port
        );
        if !config.contains("log:") {
            yaml.push_str("log: { format: json, level: info }\n");
        }
        if postgres.is_some() {
            yaml.push_str("store: { url: '${REARGUARD_REAL_DATABASE}' }\n");
        }
        let now = text(self.timeline.now());
        let _ = writeln!(yaml, "clock: {{ start: '{now}', rate: {} }}", self.timeline.rate);
        yaml + config
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{} starts; {}", self.starts, self.log_tail());
        }
        if let Some(mut child) = self.child.take() {
            // What has ended already needs no signal.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

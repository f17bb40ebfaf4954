//! One server process: spawn, wait until ready, signal, stop, end of its log.

use std::ffi::{OsStr, OsString};
use std::fs::OpenOptions;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::LazyLock;
use std::sync::mpsc::{self, Sender};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// How many lines of a server's log an error shows.
const TAIL_LINES: usize = 40;
/// How often readiness and exit are looked at.
const POLL: Duration = Duration::from_millis(50);
/// How long a server may take to stop in good order.
const STOP_BOUND: Duration = Duration::from_secs(60);
/// How long a server may take to end when its handle is dropped, before SIGKILL.
const DROP_BOUND: Duration = Duration::from_secs(5);

/// What to run, and with which signals it ends.
pub struct Launch {
    pub name: &'static str,
    pub argv: Vec<OsString>,
    /// Arguments of `setpriv` before the program, such as another user.
    pub privileges: Vec<OsString>,
    /// Asks for a stop in good order; the data stay fit for a restart.
    pub stop_signal: &'static str,
    /// Ends the server at once: at `Drop`, and when this test process dies.
    pub quit_signal: &'static str,
    pub log: PathBuf,
}

/// A server that runs, or that ran and can be started again.
pub struct Process {
    launch: Launch,
    child: Option<Child>,
    /// Length of the log when the server was last started.
    log_mark: u64,
}

impl Process {
    pub fn new(launch: Launch) -> Self {
        Self { launch, child: None, log_mark: 0 }
    }

    /// Starts the program and waits until `ready` says so, for `bound` at most.
    pub fn start(&mut self, bound: Duration, ready: impl Fn(&Self) -> bool) -> Result<()> {
        let name = self.launch.name;
        if self.child.is_some() {
            bail!("{name} runs already");
        }
        self.log_mark = std::fs::metadata(&self.launch.log).map_or(0, |log| log.len());
        self.child = Some(self.spawn().with_context(|| format!("{name} cannot be started"))?);
        let started = Instant::now();
        loop {
            if let Some(status) = self.exited()? {
                self.child = None;
                bail!("{name} ended at its start ({status})\n{}", self.log_tail());
            }
            if ready(self) {
                return Ok(());
            }
            if started.elapsed() > bound {
                bail!("{name} is not ready after {bound:?}\n{}", self.log_tail());
            }
            thread::sleep(POLL);
        }
    }

    /// Asks the server to stop and waits for its end. A server that does not run is stopped already.
    pub fn stop(&mut self) -> Result<()> {
        if self.child.is_none() {
            return Ok(());
        }
        self.signal(self.launch.stop_signal)?;
        if self.ends_within(STOP_BOUND)? {
            return Ok(());
        }
        let tail = self.log_tail();
        self.kill()?;
        bail!("{} did not stop within {STOP_BOUND:?} and was killed\n{tail}", self.launch.name)
    }

    /// SIGKILL, and waits for the end.
    pub fn kill(&mut self) -> Result<()> {
        if let Some(mut child) = self.child.take() {
            child.kill().with_context(|| format!("{} cannot be killed", self.launch.name))?;
            child.wait().with_context(|| format!("no exit status of {}", self.launch.name))?;
        }
        Ok(())
    }

    /// What the server has logged since it was last started.
    pub fn log_since_start(&self) -> String {
        let text = std::fs::read(&self.launch.log).unwrap_or_default();
        let mark = usize::try_from(self.log_mark).unwrap_or(usize::MAX).min(text.len());
        String::from_utf8_lossy(&text[mark..]).into_owned()
    }

    fn log_tail(&self) -> String {
        let text = std::fs::read(&self.launch.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        let tail = lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n");
        format!("--- end of the log of {}\n{tail}\n---", self.launch.name)
    }

    fn spawn(&self) -> Result<Child> {
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.launch.log)
            .with_context(|| format!("cannot write {}", self.launch.log.display()))?;
        let mut command = Command::new("setpriv");
        command
            .args(&self.launch.privileges)
            .args(["--pdeathsig", self.launch.quit_signal, "--"])
            .args(&self.launch.argv)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        keeper_spawns(command)
    }

    /// The exit status when the server has ended by itself.
    fn exited(&mut self) -> Result<Option<ExitStatus>> {
        match &mut self.child {
            Some(child) => Ok(child.try_wait()?),
            None => Ok(None),
        }
    }

    fn signal(&self, signal: &str) -> Result<()> {
        let Some(child) = &self.child else {
            return Ok(());
        };
        // The shell's own `kill`: a minimal Debian has no /bin/kill.
        let sent = Command::new("sh")
            .args(["-c", "kill -s \"$0\" \"$1\"", signal, &child.id().to_string()])
            .status()?;
        if !sent.success() {
            bail!("{} cannot be sent SIG{signal}", self.launch.name);
        }
        Ok(())
    }

    fn ends_within(&mut self, bound: Duration) -> Result<bool> {
        let asked = Instant::now();
        while self.exited()?.is_none() {
            if asked.elapsed() > bound {
                return Ok(false);
            }
            thread::sleep(POLL);
        }
        self.child = None;
        Ok(true)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("{}", self.log_tail());
        }
        let asked = self.signal(self.launch.quit_signal);
        if asked.is_err() || !self.ends_within(DROP_BOUND).unwrap_or(false) {
            let _ = self.kill();
        }
    }
}

/// Spawns from one thread that lives as long as this process: the kernel sends `--pdeathsig` when the *thread* that
/// spawned the child ends, and a test's own thread may end before the servers that it shares.
fn keeper_spawns(command: Command) -> Result<Child> {
    type Order = (Command, Sender<io::Result<Child>>);
    static KEEPER: LazyLock<Sender<Order>> = LazyLock::new(|| {
        let (orders, inbox) = mpsc::channel::<Order>();
        thread::spawn(move || {
            for (mut command, answer) in inbox {
                let _ = answer.send(command.spawn());
            }
        });
        orders
    });
    let (answer, child) = mpsc::channel();
    KEEPER.send((command, answer)).context("the thread that starts servers has ended")?;
    Ok(child.recv().context("the thread that starts servers has ended")??)
}

/// Runs a tool of a server to its end; an error carries what it printed.
pub fn run_tool<I, S>(program: &OsStr, args: I, env: &[(&str, &str)]) -> Result<()>
where
    I: IntoIterator<Item = S>,
    S: AsRef<OsStr>,
{
    let output = Command::new(program)
        .args(args)
        .envs(env.iter().copied())
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("{} cannot be started", Path::new(program).display()))?;
    if !output.status.success() {
        bail!(
            "{} failed ({})\n{}{}",
            Path::new(program).display(),
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(())
}

/// Whether `GET path` on that loopback port answers 200.
pub fn answers_ok(port: u16, path: &str) -> bool {
    let ask = || -> io::Result<bool> {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        write!(stream, "GET {path} HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer.split_whitespace().nth(1) == Some("200"))
    };
    ask().unwrap_or(false)
}

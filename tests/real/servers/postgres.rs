//! PostgreSQL: a cluster of its own with password authentication, over TCP on loopback only.

use std::ffi::OsString;
use std::net::TcpStream;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use super::process::{Launch, Process, run_tool};
use super::{free_port, provisioned};

const USER: &str = "rearguard";
/// For a cluster that exists on loopback for the length of one test.
const PASSWORD: &str = "on-loopback-only";
/// The user that PostgreSQL's programs run as when the tests run as root, which they refuse.
const SYSTEM_USER: &str = "postgres";
const START_BOUND: Duration = Duration::from_secs(60);

/// A PostgreSQL server with its data; ends with the value.
pub struct Postgres {
    // Before the folder: fields are dropped in this order, and the server writes into the folder until it ends.
    process: Process,
    _folder: TempDir,
    programs: PathBuf,
    port: u16,
}

impl Postgres {
    /// A new cluster with one empty database.
    pub fn start() -> Result<Self> {
        let programs = PathBuf::from(provisioned("REARGUARD_PG_BIN")?);
        let folder = tempfile::Builder::new().prefix("rearguard-postgres-").tempdir()?;
        let privileges = privileges()?;
        let data = folder.path().join("data");
        make_cluster(&programs, &privileges, folder.path(), &data)?;

        let port = free_port()?;
        let mut argv = vec![programs.join("postgres").into_os_string(), "-D".into(), data.into_os_string()];
        for setting in
            [format!("port={port}"), "listen_addresses=127.0.0.1".into(), "unix_socket_directories=".into()]
        {
            argv.extend(["-c".into(), OsString::from(setting)]);
        }
        let process = Process::new(Launch {
            name: "PostgreSQL",
            argv,
            privileges,
            // INT: "fast shutdown", which does not wait for clients; QUIT: "immediate shutdown".
            stop_signal: "INT",
            quit_signal: "QUIT",
            log: folder.path().join("server.log"),
        });
        let mut postgres = Self { process, _folder: folder, programs, port };
        postgres.launch()?;
        Ok(postgres)
    }

    /// The URL of the database that every cluster has; the same after a restart.
    pub fn url(&self) -> String {
        self.url_of("postgres")
    }

    /// Creates an empty database and returns its URL.
    pub fn create_database(&self, name: &str) -> Result<String> {
        let port = self.port.to_string();
        let args = ["--host=127.0.0.1", "--port", &port, "--username", USER, "--no-password", name];
        run_tool(self.programs.join("createdb").as_os_str(), args, &[("PGPASSWORD", PASSWORD)])?;
        Ok(self.url_of(name))
    }

    /// A fast shutdown, which ends the clients' sessions; `restart` brings the server back.
    pub fn stop(&mut self) -> Result<()> {
        self.process.stop()
    }

    /// Starts the server again on the same port and data, after a stop if it still runs.
    pub fn restart(&mut self) -> Result<()> {
        self.process.stop()?;
        self.launch()
    }

    fn launch(&mut self) -> Result<()> {
        let port = self.port;
        self.process.start(START_BOUND, |process| {
            process.log_since_start().contains("ready to accept connections")
                && TcpStream::connect(("127.0.0.1", port)).is_ok()
        })
    }

    fn url_of(&self, database: &str) -> String {
        format!("postgres://{USER}:{PASSWORD}@127.0.0.1:{}/{database}", self.port)
    }
}

/// `setpriv` arguments that turn root into [`SYSTEM_USER`]; none for any other user.
fn privileges() -> Result<Vec<OsString>> {
    if std::fs::metadata("/proc/self")?.uid() != 0 {
        return Ok(Vec::new());
    }
    let user = |option: &str| OsString::from(format!("--{option}={SYSTEM_USER}"));
    Ok(vec![user("reuid"), user("regid"), "--init-groups".into()])
}

fn make_cluster(programs: &Path, privileges: &[OsString], folder: &Path, data: &Path) -> Result<()> {
    let password_file = folder.join("password");
    std::fs::write(&password_file, PASSWORD)?;
    std::fs::create_dir(data)?;
    if !privileges.is_empty() {
        let (user, group) = (id("-u")?, id("-g")?);
        std::fs::set_permissions(folder, PermissionsExt::from_mode(0o711))?;
        for path in [data, &password_file] {
            chown(path, Some(user), Some(group))?;
        }
    }
    let mut args = privileges.to_vec();
    args.extend(["--".into(), programs.join("initdb").into_os_string(), "--pgdata".into(), data.into()]);
    args.extend(["--username", USER, "--auth=scram-sha-256", "--pwfile"].map(OsString::from));
    args.push(password_file.into());
    args.extend(["--encoding=UTF8", "--locale=C.UTF-8", "--no-sync"].map(OsString::from));
    run_tool("setpriv".as_ref(), args, &[]).context("PostgreSQL's data folder cannot be made")
}

/// The numeric user (`-u`) or group (`-g`) of [`SYSTEM_USER`].
fn id(which: &str) -> Result<u32> {
    let output = Command::new("id").args([which, SYSTEM_USER]).output()?;
    if !output.status.success() {
        bail!("the system user {SYSTEM_USER} does not exist");
    }
    Ok(String::from_utf8(output.stdout)?.trim().parse()?)
}

//! Real servers for the tests of the `real` binary: Apache Kafka, PostgreSQL, Prometheus Alertmanager and Unleash, each started
//! as a child process on loopback, on a free port, in a temporary folder of its own.
//!
//! Where the programs are comes from the environment, which `.ci/real` sets: `REARGUARD_KAFKA_LIBS` (folder with the
//! broker's jars), `REARGUARD_PG_BIN` (folder with `initdb` and `postgres`), `REARGUARD_ALERTMANAGER` (the program),
//! `REARGUARD_UNLEASH` (`node_modules` with Node.js, `unleash-server` and `unleash-client`).
//! A missing variable is an error, never a skip.
//!
//! Every start waits for readiness with a bound; an error carries the end of the server's log. `Drop` ends the server
//! by its own process id and, when the test is panicking, prints the end of the log first. A server also ends with the
//! test process, however that ends. Nothing here uses the `rearguard` library.
//!
//! The calls block; they work inside and outside an async run-time.

#[path = "servers/alertmanager.rs"]
mod alertmanager;
#[path = "servers/kafka.rs"]
mod kafka;
#[path = "servers/postgres.rs"]
mod postgres;
#[path = "servers/process.rs"]
mod process;
#[path = "servers/unleash.rs"]
mod unleash;

use std::ffi::OsString;
use std::net::TcpListener;
use std::sync::atomic::{AtomicU16, Ordering};

use anyhow::{Context, Result, bail};

pub use alertmanager::Alertmanager;
pub use kafka::Kafka;
pub use postgres::Postgres;
pub use unleash::{ADMIN_TOKEN, CLIENT_TOKEN, Unleash};

/// Ports are taken from here up to [`PORTS_END`]: below Linux's range for outgoing connections (32768 and up), so that
/// no client's own port, not even a client that reconnects to a stopped server, can occupy a port kept for a restart.
const PORTS_START: u16 = 20_000;
const PORTS_END: u16 = 32_000;

/// A loopback port that nobody listens on now and that no earlier call in this process returned.
pub fn free_port() -> Result<u16> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let width = PORTS_END - PORTS_START;
    // Processes that run at the same time start at different places.
    let first = (std::process::id() % u32::from(width)) as u16;
    for _ in 0..width {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = PORTS_START + (first + step % width) % width;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no free port between {PORTS_START} and {PORTS_END} on loopback")
}

/// The value of an environment variable that `.ci/real` sets.
fn provisioned(variable: &str) -> Result<OsString> {
    std::env::var_os(variable)
        .with_context(|| format!("{variable} is not set; run the real-server tests by `.ci/real`"))
}

#[cfg(test)]
#[path = "servers/selftest.rs"]
mod selftest;

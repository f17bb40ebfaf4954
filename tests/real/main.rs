//! Suites against real servers, started by `.ci/real`: the store on PostgreSQL, and the daemon's binary end to end.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on should panic")]

use std::sync::LazyLock;

use servers::Postgres;

mod daemon;
mod hook;
mod http;
mod oracle;
mod pager;
mod producer;
mod reader;
mod scenarios;
mod servers;
mod timeline;

#[allow(dead_code, reason = "other suites use the rest")]
#[path = "../standin/mod.rs"]
mod standin;

#[path = "../store_suite/mod.rs"]
#[macro_use]
mod store_suite;

store_suite!(postgres, crate::shared_postgres());

/// One cluster for all cases of the store suite; it ends with this process.
fn shared_postgres() -> String {
    static SHARED: LazyLock<Postgres> = LazyLock::new(|| Postgres::start().expect("PostgreSQL starts"));
    SHARED.url()
}

//! Suites against real servers, started by `.ci/real`.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on should panic")]

mod servers;

//! The integration tests of `cargo test`: no server, no network. One binary, so that it links once.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on should panic")]

mod alerts;
mod cli;
mod demo;
mod examples;
mod explain;
mod how;
mod layers;
mod long;
mod matrix;
mod ofrep;
mod readme;
mod receivers;
mod replay;
mod rules;
mod ruletest;
mod secrets;
mod simulate;
mod slo;
mod vectors;
mod vendor_http;
mod vendor_models;
mod vendors;

#[path = "../standin/mod.rs"]
mod standin;

#[path = "../store_suite/mod.rs"]
#[macro_use]
mod store_suite;

store_suite!(sqlite);

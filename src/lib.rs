//! Rearguard watches AI feature variants and takes them back when they hurt.
//!
//! The way through the house, one direction:
//!
//! ```text
//! event → pane → window → measurement → verdict → alert → decision → action
//! └ ingest ┘└──────────────── engine (pure) ────────────────┘└ dispatch ┘
//! ```
//!
//! `model` and `stats` import nothing of the crate, `engine` only those two, `store` and `ingest` the engine, `dispatch` and
//! `http` the store; `lab` drives ingest and engine without a daemon; `app` puts them together and only `cli` calls it. A test
//! reads the imports.

#[deny(clippy::disallowed_methods, clippy::disallowed_types, clippy::disallowed_macros)]
pub mod model;
#[deny(clippy::disallowed_methods, clippy::disallowed_types, clippy::disallowed_macros)]
pub mod stats;

pub mod ingest;

#[deny(clippy::disallowed_methods, clippy::disallowed_types, clippy::disallowed_macros)]
pub mod engine;

pub mod lab;

pub mod store;

pub mod dispatch;
pub mod http;

// Shared leaves: they know the model at most.
pub mod clock;
pub mod config;
pub mod supervise;
pub mod telemetry;

pub mod app;
pub mod cli;

#[cfg(test)]
mod testing;

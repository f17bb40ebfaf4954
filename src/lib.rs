//! Rearguard watches AI feature variants and takes them back when they hurt.
//!
//! The way through the house, one direction:
//!
//! ```text
//! event → pane → window → measurement → verdict → alert → decision → action
//! └ ingest ┘└──────────────── engine (pure) ────────────────┘└ dispatch ┘
//! ```

pub mod model;

pub mod engine;

pub mod config;

pub mod cli;

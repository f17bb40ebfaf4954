//! The pure core: panes and windows, measurements, verdicts, alerts and decisions.
//!
//! `step(Input) -> Output`. No clock, no I/O, no async, no entropy, no hash-map iteration: the same numbered inputs give the
//! same outputs, on every machine. `.clippy.toml` lists what may not be called here.

pub mod budget;
pub mod input;
pub mod layout;
pub mod output;
pub mod pane;
pub mod rule;
pub mod schema;
pub mod targeting;
pub mod tenants;

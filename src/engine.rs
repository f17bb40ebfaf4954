//! The pure core: panes and windows, measurements, verdicts, alerts and decisions.
//!
//! `step(Input) -> Output`. No clock, no I/O, no async, no entropy, no hash-map iteration: the same numbered inputs give the
//! same outputs, on every machine. `.clippy.toml` lists what may not be called here.

pub mod alert;
#[cfg(test)]
mod attack_tests;
pub mod budget;
mod canary;
mod closing;
#[cfg(test)]
mod confirm_tests;
mod decide;
pub mod detector;
pub mod drill;
#[cfg(test)]
mod edge_tests;
pub mod evidence;
pub mod explain;
pub mod fleet;
pub mod gate;
pub mod grounds;
pub mod hand;
#[cfg(test)]
mod hand_tests;
pub mod input;
pub mod interval;
pub mod late;
#[cfg(test)]
mod law_tests;
pub mod layout;
pub mod machine;
pub mod measure;
pub mod memory;
pub mod message;
pub mod objective;
pub mod output;
pub mod pane;
pub mod rollup;
pub mod rule;
pub mod schema;
pub mod series;
pub mod snapshot;
pub mod sources;
pub mod targeting;
pub mod tenants;
#[cfg(test)]
mod testkit;
pub mod verdict;

//! The vocabulary that every other layer speaks: identifiers, time, the metric catalogue, events, flags, incidents.
//!
//! Nothing here does I/O, reads a clock or imports another part of the crate.

pub mod canary;
pub mod event;
pub mod flag;
pub mod id;
pub mod incident;
pub mod label;
pub mod metric;
pub mod route;
pub mod slo;
pub mod time;

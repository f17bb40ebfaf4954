//! From Kafka to pane deltas: consume, decode, record into open minute panes, hand over.
//!
//! The pure half ([`decode`], [`partition`]) knows no Kafka and no clock: simulations drive it directly. The other half
//! ([`consumer`]) owns one operating-system thread. Nothing here judges anything.

pub mod batch;
pub mod canary;
pub mod config;
pub mod consumer;
pub mod dead_letter;
pub mod decode;
pub mod fate;
pub mod json;
mod lane;
mod link;
pub mod names;
pub mod panes;
pub mod partition;
pub mod range;
mod reader;
pub mod recorder;
pub mod rfc3339;
mod shape;
mod start;
pub mod watermark;

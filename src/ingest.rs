//! From Kafka to pane deltas: consume, decode, record into open minute panes, hand over.
//!
//! The pure half ([`decode`], [`partition`]) knows no Kafka and no clock: simulations drive it directly. The other half
//! ([`consumer`]) owns one operating-system thread. Nothing here judges anything.

pub mod decode;
pub mod fate;
pub mod json;
pub mod names;
pub mod panes;
pub mod partition;
pub mod rfc3339;
pub mod watermark;

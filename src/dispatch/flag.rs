//! Flag platforms: where a flip is written and read back. One small trait; a platform is one file.

pub mod builtin;

use std::time::Duration;

use super::failure::Failure;
use super::receiver::Attempt;
use crate::model::time::Timestamp;
use crate::store::Flip;

/// A system that decides who gets which variant.
pub trait FlagPlatform: Send + Sync {
    /// Its name in outbox rows.
    fn name(&self) -> &str;

    /// The adapter, for metrics.
    fn adapter(&self) -> &'static str;

    /// Reads the flag as it is now, and whether what the flip wants is so already. May take `within` of real time.
    fn read<'a>(&'a self, flip: &'a Flip, within: Duration) -> Attempt<'a, Seen>;

    /// Writes, on condition that the flag still has the version that was read; otherwise [`Failure::Conflict`].
    fn write<'a>(&'a self, flip: &'a Flip, version: u64, now: Timestamp, within: Duration)
    -> Attempt<'a, ()>;

    /// Asks the evaluation plane, as gateways do, whether the flip is in force. What was seen, in a few words; a failure if
    /// it is not in force.
    fn verify<'a>(&'a self, flip: &'a Flip, within: Duration) -> Attempt<'a, String>;
}

/// A flag before a flip.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    pub version: u64,
    /// What the flip wants has been written before.
    pub done: bool,
    /// For a pin: nobody in scope gets the treatment now, for whatever reason.
    pub safe: bool,
}

/// Shorthand of the adapters.
pub type Result<T> = std::result::Result<T, Failure>;

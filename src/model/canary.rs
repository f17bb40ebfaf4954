//! The canary: an event that Rearguard writes itself and judges by a rule of its own, to know that it sees.

use serde::{Deserialize, Serialize};

use super::metric::{Direction, Kind, Metric};
use super::time::Timestamp;

/// The name of the canary's flag, variant, rule and metric. No flag, variant or metric of a user may have it.
pub const CANARY: &str = "rearguard.canary";

/// What a canary event carries: `true`, always.
pub fn metric() -> Metric {
    Metric {
        name: CANARY.to_owned(),
        kind: Kind::Boolean,
        unit: String::new(),
        resolution: 1.0,
        max: 1.0,
        direction: Direction::HigherIsBetter,
        failure_class: String::new(),
    }
}

/// How the canary stands: what a status page shows of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// When the newest canary was written that the engine has seen and judged (virtual time).
    pub proven: Option<Timestamp>,
    /// Why Rearguard cannot prove that it sees and acts; empty while it can.
    pub doubts: Vec<String>,
    /// The daemon has just started: its first canary may still be on the way.
    pub starting: bool,
    /// When the dead-man's switch last took a call (virtual time).
    pub called: Option<Timestamp>,
    /// Why it did not take the last one.
    pub refused: Option<String>,
}

//! What is said of canary events and of the dead-man's switch.

use std::time::Duration;

use metrics::{counter, gauge};
use tracing::{debug, info, warn};

use super::{Fact, name};

/// A round of canary events.
pub struct CanaryWritten<'a> {
    /// How many partitions took it, or why one did not.
    pub partitions: Result<usize, &'a str>,
}

impl Fact for CanaryWritten<'_> {
    fn record(&self) {
        let result = if self.partitions.is_ok() { "written" } else { "failed" };
        counter!(name::CANARIES, "result" => result).increment(1);
        match self.partitions {
            Ok(partitions) => debug!(partitions, "canaries written"),
            Err(error) => warn!(error, "a canary could not be written"),
        }
    }
}

/// How old the newest canary is that came back.
pub struct CanaryMeasured {
    pub age: Duration,
}

impl Fact for CanaryMeasured {
    fn record(&self) {
        gauge!(name::CANARY_AGE).set(self.age.as_secs_f64());
    }
}

/// What became of a turn of the dead-man's switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SwitchResult {
    /// All is well, and the switch knows.
    Called,
    /// The address for failures has the reasons.
    ToldOfFailure,
    /// Not called, so that it goes off.
    Withheld,
    /// It did not take the call.
    Refused,
}

impl SwitchResult {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Called => "called",
            Self::ToldOfFailure => "told_of_failure",
            Self::Withheld => "withheld",
            Self::Refused => "refused",
        }
    }
}

/// A turn of the dead-man's switch.
pub struct SwitchCalled<'a> {
    pub result: SwitchResult,
    /// The doubts, or why it was refused.
    pub why: &'a str,
    /// The first canary is still on its way.
    pub starting: bool,
}

impl Fact for SwitchCalled<'_> {
    fn record(&self) {
        let (result, why) = (self.result.as_str(), self.why);
        counter!(name::SWITCH_CALLS, "result" => result).increment(1);
        match self.result {
            SwitchResult::Called => debug!("dead-man's switch called"),
            SwitchResult::Withheld if self.starting => info!(why, "dead-man's switch not called yet"),
            SwitchResult::Withheld => warn!(why, "dead-man's switch not called, so that it goes off"),
            SwitchResult::ToldOfFailure => warn!(why, "dead-man's switch told of a failure"),
            SwitchResult::Refused => warn!(why, "dead-man's switch did not take the call"),
        }
    }
}

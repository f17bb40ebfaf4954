//! One alert: a rule applied to a slice. One enum, one transition function, every (state, verdict) cell spelled out.
//!
//! ```text
//! quiet ──breach──▶ pending ──held for `for`──▶ firing ──clear held for `dwell`──▶ quiet
//!                     │                           │ (rollback carried out)
//!                     └──pass──▶ quiet            └──▶ latched ──re-armed by a human──▶ quiet
//! ```

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::output::Phase;
use super::rule::{NoData, Rule, RuleAction};
use super::verdict::{Judgement, Reason, Verdict};
use crate::model::id::{DecisionId, IncidentId};
use crate::model::time::{MINUTE_MS, Minute};

/// Silence after which `no_data: hold` notifies.
pub const SILENCE_NOTICE: Duration = Duration::from_secs(15 * 60);

/// Where an alert stands.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum State {
    #[default]
    Quiet,
    /// In breach, waiting out `for`.
    Pending(Pending),
    Firing(Firing),
    /// A rollback has been decided; only a human takes the latch off.
    Latched {
        since: Minute,
        decision: DecisionId,
    },
}

/// A breach that has not held long enough yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pending {
    /// The pane whose closing first satisfied P: T0 is its start.
    pub first: Minute,
    /// The last closing at which P was true.
    pub last: Minute,
    /// Closings after the first at which P was true: the minutes that it has held.
    pub held: u32,
}

/// A decision has been taken and stands until `clear` has held for `dwell`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Firing {
    pub since: Minute,
    pub first: Minute,
    pub held: u32,
    pub decision: DecisionId,
    pub action: RuleAction,
    pub incident: Option<IncidentId>,
    /// Whether the action was carried out, or only reported (dry-run, limits, automation off, the world breaks).
    pub acted: bool,
    /// How often the rollback was withheld and looked at again: part of the next decision's id.
    pub tries: u32,
    /// Closings in a row at which `clear` has held.
    pub clear: u32,
}

/// What is remembered of an alert beside its state.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Alert {
    pub state: State,
    /// The first pane at whose closing the literal condition was true, while it stays true.
    pub crossing: Option<Minute>,
    pub silence: Watch,
    pub masked: Watch,
}

/// A condition that is told about once, after it has lasted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watch {
    since: Option<Minute>,
    told: bool,
}

impl Watch {
    /// Notes whether the condition holds at a closing; true exactly once, when it has lasted for `after`.
    fn due(&mut self, holds: bool, at: Minute, after: Duration, may_tell: bool) -> bool {
        if !holds {
            *self = Self::default();
            return false;
        }
        let since = *self.since.get_or_insert(at);
        let lasted = at.0 - since.0 >= minutes(after);
        let due = lasted && may_tell && !self.told;
        self.told |= due;
        due
    }
}

/// What a closing makes of an alert.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    None,
    /// A breach has begun; waiting out `for`.
    Began,
    /// A breach has ended before it fired.
    Ended,
    /// `for` has been waited out: decide.
    Confirmed(Pending),
    /// Still in breach, and the rollback was withheld: look at the gates again.
    Withheld(Firing),
    /// `clear` has held for `dwell`.
    Resolved(Firing),
}

/// What a closing asks of the outside of one alert.
#[derive(Clone, Debug)]
pub struct Closing<'a> {
    pub rule: &'a Rule,
    pub judgement: &'a Judgement,
    pub at: Minute,
    /// Whether verdicts may act now: caught up, connected, loaded.
    pub armed: bool,
    /// Whether `clear` holds on the window and on its recent part; `None` where unknown.
    pub clear: Option<bool>,
    /// Whether the flag is latched for this slice, so that silence is expected.
    pub latched: bool,
}

/// Notices that go with a closing, whatever the state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Notices {
    pub silence: bool,
    pub masked: bool,
    /// `no_data: pause`: freeze the share.
    pub pause_on_silence: bool,
}

impl Alert {
    /// The state's name.
    pub fn phase(&self) -> Phase {
        match self.state {
            State::Quiet => Phase::Quiet,
            State::Pending(_) => Phase::Pending,
            State::Firing(_) => Phase::Firing,
            State::Latched { .. } => Phase::Latched,
        }
    }

    /// Since when the alert has been in its state, where that is known.
    pub fn since(&self) -> Option<Minute> {
        match &self.state {
            State::Quiet => None,
            State::Pending(pending) => Some(pending.first),
            State::Firing(firing) => Some(firing.since),
            State::Latched { since, .. } => Some(*since),
        }
    }

    /// Minutes that the breach has held, while it is pending or firing.
    pub fn held(&self) -> u32 {
        match &self.state {
            State::Pending(pending) => pending.held,
            State::Firing(firing) => firing.held,
            State::Quiet | State::Latched { .. } => 0,
        }
    }

    /// Takes a closing's verdict in. The only place where an alert's state follows from a verdict.
    pub fn close(&mut self, closing: &Closing<'_>) -> Change {
        match closing.judgement.literal {
            Some(true) => drop(self.crossing.get_or_insert(closing.at)),
            Some(false) => self.crossing = None,
            None => {}
        }
        let (state, change) = transition(std::mem::take(&mut self.state), closing);
        self.state = state;
        change
    }

    /// Notices about silence and masks; they have their own timers and never touch the state.
    pub fn notices(&mut self, closing: &Closing<'_>) -> Notices {
        let verdict = &closing.judgement.verdict;
        let silent = matches!(verdict, Verdict::Inconclusive { reason: Reason::NoData }) && !closing.latched;
        let masked = matches!(verdict, Verdict::Inconclusive { reason: Reason::Masked { .. } });
        let after = match closing.rule.no_data {
            NoData::Hold => SILENCE_NOTICE,
            NoData::Notify => Duration::ZERO,
            NoData::Pause => closing.rule.hold,
        };
        let silence = self.silence.due(silent, closing.at, after, closing.armed);
        let idle = matches!(self.state, State::Quiet | State::Pending(_));
        Notices {
            silence,
            masked: self.masked.due(masked, closing.at, closing.rule.hold, closing.armed),
            pause_on_silence: silence && idle && closing.rule.no_data == NoData::Pause,
        }
    }
}

/// What a verdict means to a state machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Signal {
    Breach,
    /// P does not hold.
    Clear,
    /// Nothing is known: neither counts nor resets.
    Unknown,
}

fn signal(verdict: &Verdict) -> Signal {
    match verdict {
        Verdict::Breach => Signal::Breach,
        Verdict::Pass => Signal::Clear,
        Verdict::Inconclusive { reason } | Verdict::Error { reason } => {
            if reason.resets() {
                Signal::Clear
            } else {
                Signal::Unknown
            }
        }
    }
}

fn transition(state: State, closing: &Closing<'_>) -> (State, Change) {
    let at = closing.at;
    match (state, signal(&closing.judgement.verdict)) {
        (State::Quiet, Signal::Breach) => {
            confirm(Pending { first: at, last: at, held: 0 }, Change::Began, closing)
        }
        (State::Quiet, Signal::Clear | Signal::Unknown) => (State::Quiet, Change::None),
        (State::Pending(pending), Signal::Breach) => {
            confirm(Pending { held: pending.held + 1, last: at, ..pending }, Change::None, closing)
        }
        (State::Pending(_), Signal::Clear) => (State::Quiet, Change::Ended),
        (State::Pending(pending), Signal::Unknown) => {
            // After a whole window of ignorance nothing of the breach is left in it.
            if at.0 - pending.last.0 > i64::from(closing.rule.condition.window().0) {
                (State::Quiet, Change::Ended)
            } else {
                (State::Pending(pending), Change::None)
            }
        }
        (State::Firing(firing), Signal::Breach) => {
            let firing = Firing { clear: 0, ..firing };
            if firing.acted || !closing.armed {
                (State::Firing(firing), Change::None)
            } else {
                (State::Firing(firing.clone()), Change::Withheld(firing))
            }
        }
        (State::Firing(firing), Signal::Clear | Signal::Unknown) => resolve(firing, closing),
        (State::Latched { since, decision }, Signal::Breach | Signal::Clear | Signal::Unknown) => {
            (State::Latched { since, decision }, Change::None)
        }
    }
}

fn confirm(pending: Pending, otherwise: Change, closing: &Closing<'_>) -> (State, Change) {
    let held_long_enough = i64::from(pending.held) >= minutes(closing.rule.hold);
    let change = if held_long_enough && closing.armed { Change::Confirmed(pending) } else { otherwise };
    (State::Pending(pending), change)
}

fn resolve(firing: Firing, closing: &Closing<'_>) -> (State, Change) {
    let clear = match closing.clear {
        Some(true) => firing.clear + 1,
        Some(false) => 0,
        None => firing.clear,
    };
    let firing = Firing { clear, ..firing };
    if i64::from(clear) >= minutes(closing.rule.dwell) && closing.armed && clear > 0 {
        return (State::Quiet, Change::Resolved(firing));
    }
    (State::Firing(firing), Change::None)
}

impl Closing<'_> {
    /// Whether this rule's action is to roll back.
    pub fn rolls_back(&self) -> bool {
        self.rule.action == RuleAction::Rollback
    }
}

fn minutes(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX) / MINUTE_MS
}

#[cfg(test)]
#[path = "alert_tests.rs"]
mod tests;

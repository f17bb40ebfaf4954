//! One alert: a rule applied to a slice. One enum, one transition function, every (state, verdict) cell spelled out.
//!
//! ```text
//! quiet ──breach──▶ pending ──held for `for`──▶ firing ──clear held for `dwell`──▶ quiet
//!   │                 │                           │ (rollback carried out)
//!   │                 └──pass──▶ quiet            └──▶ latched ──re-armed by a human──▶ quiet
//!   └──proof: enough evidence waits for nothing──▶ firing
//! ```
//!
//! A rollback within noise (`confirm: significant`), or on silence, becomes a pause that is firing; a breach beyond noise then
//! escalates it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::gate::Gate;
use super::output::Phase;
use super::rule::{ConfirmedBy, NoData, Rule, RuleAction};
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
    /// The pane whose closing first satisfied P, or E if that came first: T0 is its start.
    pub first: Minute,
    /// The last closing at which P was true.
    pub last: Minute,
    /// Closings after the first at which P was true: the minutes that it has held.
    pub held: u32,
    /// The same counted since P was last within noise; `None` while it is. Equal to `held` but for `confirm: significant`.
    pub firm: Option<u32>,
}

impl Pending {
    /// A breach that begins at a closing.
    pub const fn begin(at: Minute, firm: bool) -> Self {
        Self { first: at, last: at, held: 0, firm: if firm { Some(0) } else { None } }
    }

    fn went_on(self, at: Minute, firm: bool) -> Self {
        let firm = firm.then(|| self.firm.map_or(0, |closings| closings + 1));
        Self { first: self.first, last: at, held: self.held + 1, firm }
    }
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
    /// What stood in the way of it when it was decided; `None` when it was carried out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub withheld: Option<Gate>,
    /// Whether this alert holds the share where it stands.
    pub froze: bool,
    /// A breach that goes on or builds up while the rule's own action is not carried out: a weaker one stands in for it, or it
    /// was withheld. `None` when the breach has ended since.
    pub rising: Option<Pending>,
    /// How often the rollback was withheld and looked at again: part of the next decision's id.
    pub tries: u32,
    /// Closings in a row at which `clear` has held.
    pub clear: u32,
}

impl Firing {
    /// Whether the action was withheld by something that may go away.
    pub fn is_looked_at_again(&self) -> bool {
        !self.acted && self.action != RuleAction::Notify && self.withheld != Some(Gate::DryRun)
    }
}

/// What is remembered of an alert beside its state.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Alert {
    pub state: State,
    /// The first pane at whose closing the literal condition was true, while it stays true.
    pub crossing: Option<Minute>,
    pub silence: Watch,
    pub masked: Watch,
    /// The first minute that counts as evidence: since the rule was first judged, fired, resolved or was re-armed. `None` for
    /// rules that evidence cannot confirm.
    pub evidence_since: Option<Minute>,
}

/// A condition that is told about once, after it has lasted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watch {
    since: Option<Minute>,
    told: bool,
}

impl Watch {
    /// Since when it has held without a break, if it does.
    pub const fn since(&self) -> Option<Minute> {
        self.since
    }

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
    /// Within noise for `for`: pause instead of rolling back.
    Doubted(Pending),
    /// A weaker action stands, and the breach has been confirmed for the rule's own: decide.
    Escalated(Firing, Pending),
    /// The rule's own action was withheld, and the breach has held for `for` up to now: look at the gates again.
    Withheld(Firing, Pending),
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
        if closing.rule.confirm.by_evidence() {
            self.evidence_since.get_or_insert(closing.at);
        }
        let (state, change) = transition(std::mem::take(&mut self.state), closing);
        self.state = state;
        if let Change::Resolved(_) = change {
            self.evidence_since = Some(closing.at.plus(1));
        }
        change
    }

    /// Takes the state that follows from a decision at a closing. Evidence that was acted upon counts no further.
    pub fn decided(&mut self, state: State, at: Minute) {
        let acted = match &state {
            State::Firing(firing) => firing.acted,
            State::Latched { .. } => true,
            State::Quiet | State::Pending(_) => false,
        };
        if acted {
            self.evidence_since = Some(at.plus(1));
        }
        self.state = state;
    }

    /// Notices about silence and masks; they have their own timers and never touch the state.
    pub fn notices(&mut self, closing: &Closing<'_>) -> Notices {
        let verdict = &closing.judgement.verdict;
        let silent = matches!(verdict, Verdict::Inconclusive { reason: Reason::NoData }) && !closing.latched;
        let masked = verdict.is_masked();
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
    /// E holds: nothing is to be waited for.
    Proof,
    /// P holds.
    Breach,
    /// P holds within noise, which is not enough for a rollback.
    Doubt,
    /// Neither P nor E holds.
    Clear,
    /// Nothing is known: neither counts nor resets.
    Unknown,
}

fn signal(judgement: &Judgement) -> Signal {
    match &judgement.verdict {
        Verdict::Breach if judgement.by == Some(ConfirmedBy::Evidence) => Signal::Proof,
        Verdict::Breach => Signal::Breach,
        Verdict::Pass => Signal::Clear,
        Verdict::Inconclusive { reason: Reason::Doubtful } => Signal::Doubt,
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
    let signal = signal(closing.judgement);
    let firm = signal != Signal::Doubt;
    match (state, signal) {
        (State::Quiet, Signal::Proof | Signal::Breach | Signal::Doubt) => {
            confirm(Pending::begin(at, firm), Change::Began, signal, closing)
        }
        (State::Quiet, Signal::Clear | Signal::Unknown) => (State::Quiet, Change::None),
        (State::Pending(pending), Signal::Proof | Signal::Breach | Signal::Doubt) => {
            confirm(pending.went_on(at, firm), Change::None, signal, closing)
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
        (State::Firing(firing), Signal::Proof | Signal::Breach | Signal::Doubt) => {
            let firing = Firing { clear: 0, ..firing };
            if firing.acted && firing.action == closing.rule.action {
                (State::Firing(firing), Change::None)
            } else {
                rise(firing, signal, closing)
            }
        }
        (State::Firing(firing), Signal::Clear) => resolve(Firing { rising: None, ..firing }, closing),
        (State::Firing(firing), Signal::Unknown) => resolve(firing, closing),
        (
            State::Latched { since, decision },
            Signal::Proof | Signal::Breach | Signal::Doubt | Signal::Clear | Signal::Unknown,
        ) => (State::Latched { since, decision }, Change::None),
    }
}

fn confirm(pending: Pending, otherwise: Change, signal: Signal, closing: &Closing<'_>) -> (State, Change) {
    let change = if is_confirmed(&pending, signal, closing) {
        Change::Confirmed(pending)
    } else if signal == Signal::Doubt && closing.armed && lasted(pending.held, closing) {
        Change::Doubted(pending)
    } else {
        otherwise
    };
    (State::Pending(pending), change)
}

/// A breach while the rule's own action is not carried out: it has to be confirmed on its own, after each break anew.
fn rise(firing: Firing, signal: Signal, closing: &Closing<'_>) -> (State, Change) {
    let firm = signal != Signal::Doubt;
    let rising =
        firing.rising.map_or(Pending::begin(closing.at, firm), |pending| pending.went_on(closing.at, firm));
    let firing = Firing { rising: Some(rising), ..firing };
    let change = if !is_confirmed(&rising, signal, closing) {
        Change::None
    } else if firing.action == closing.rule.action {
        Change::Withheld(firing.clone(), rising)
    } else {
        Change::Escalated(firing.clone(), rising)
    };
    (State::Firing(firing), change)
}

/// Evidence confirms at once, persistence after it has held beyond noise for `for`.
fn is_confirmed(pending: &Pending, signal: Signal, closing: &Closing<'_>) -> bool {
    let persisted = pending.firm.is_some_and(|closings| lasted(closings, closing));
    closing.armed && (signal == Signal::Proof || persisted)
}

fn lasted(closings: u32, closing: &Closing<'_>) -> bool {
    i64::from(closings) >= minutes(closing.rule.hold)
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

pub(super) fn minutes(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX) / MINUTE_MS
}

#[cfg(test)]
#[path = "alert_tests.rs"]
mod tests;

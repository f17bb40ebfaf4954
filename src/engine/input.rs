//! What goes into the engine. Every input is data: nothing is asked of the outside while stepping.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::late::LateSamples;
use super::pane::VariantPane;
use super::rule::RuleSet;
use super::schema::Schema;
use crate::model::flag::{FlagSpec, Scope};
use crate::model::id::{DecisionId, FlagKey, IncidentId};
use crate::model::time::Timestamp;

/// A source of events: one partition of one topic.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Source {
    pub topic: Arc<str>,
    pub partition: i32,
}

/// What became of the events of a range. `consumed` is always the sum of the others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fates {
    pub consumed: u64,
    pub windowed: u64,
    pub late: u64,
    pub duplicate: u64,
    pub dead_letter: u64,
    pub other: u64,
    pub refused: u64,
    /// Written by a Rearguard to see whether it sees: this one or another.
    #[serde(default)]
    pub canary: u64,
}

impl Fates {
    /// Adds the counts of another range.
    pub fn add(&mut self, more: &Self) {
        self.consumed += more.consumed;
        self.windowed += more.windowed;
        self.late += more.late;
        self.duplicate += more.duplicate;
        self.dead_letter += more.dead_letter;
        self.other += more.other;
        self.refused += more.refused;
        self.canary += more.canary;
    }

    /// The invariant: every event consumed has exactly one fate.
    pub fn balance(&self) -> bool {
        self.consumed
            == self.windowed
                + self.late
                + self.duplicate
                + self.dead_letter
                + self.other
                + self.refused
                + self.canary
    }
}

/// Everything that one offset range of one source adds to the panes. An empty one is a heartbeat.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Delta {
    pub source: Source,
    /// The first offset of the range; it continues the last range of the source. Holes inside are normal.
    pub from: i64,
    /// The offset after the last one of the range: where the next delta starts.
    pub to: i64,
    /// Event time that the source has reached, once it has any.
    pub watermark: Option<Timestamp>,
    pub fates: Fates,
    /// In the order of first arrival, which decides which slices are admitted.
    pub panes: Vec<VariantPane>,
    /// Samples that came after their minute had closed.
    pub late: Vec<LateSamples>,
}

/// One input of the engine.
#[derive(Clone, Debug)]
pub enum Input {
    /// The sources that hold the clock from now on; sources not named no longer do. At the very first start `start` is the
    /// event time from which they are read.
    Assign {
        sources: Vec<Source>,
        start: Option<Timestamp>,
    },
    Delta(Delta),
    /// At wall time `at` the source had been read to the end of its log, so its silence up to `at` is silence.
    Idle {
        source: Source,
        at: Timestamp,
    },
    /// What should come next of a source cannot be read any more; its next delta starts at `to`. `anew`: the log is another
    /// one than before, offsets mean something else.
    Gap {
        source: Source,
        from: i64,
        to: i64,
        anew: bool,
        reason: String,
    },
    /// The wall clock moved. Drives lag detection and nothing that belongs to event time.
    Advance(Timestamp),
    /// The source of events cannot be reached, or can again.
    Connection {
        up: bool,
        reason: String,
    },
    /// New rules, flags and schema, already validated as a whole.
    Reload(Box<Settings>),
    Command(Command),
    Answer(Answer),
}

/// What a reload replaces, all at once.
#[derive(Clone, Debug)]
pub struct Settings {
    pub rules: Arc<RuleSet>,
    pub flags: Vec<FlagSpec>,
    pub schema: Arc<Schema>,
    pub limits: Limits,
    /// Event time that a pane stays open after its end.
    pub lateness: Duration,
    /// The whole daemon only says what it would do.
    pub dry_run: bool,
}

/// Bounds on what the engine does and holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Rollbacks per ten minutes in all.
    pub flips: u32,
    /// Rollbacks per ten minutes confined to one tenant.
    pub flips_per_tenant: u32,
    /// Slices kept per (variant, dimension); the rest counts into `other`.
    pub slices: u32,
    /// How far event time may stay behind the wall clock before Rearguard calls itself blind.
    pub blind_after: Duration,
    /// By evidence alone, the whole fleet may roll back falsely once in this time on average.
    pub false_rollback_every: Duration,
    /// How many samples of one minute count as evidence at most: requests inside one minute share shocks.
    pub minute_cap: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            flips: 5,
            flips_per_tenant: 2,
            slices: 200,
            blind_after: Duration::from_secs(120),
            false_rollback_every: Duration::from_secs(365 * 86_400),
            minute_cap: 60,
        }
    }
}

/// What an operator asked for, with name and reason.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Command {
    pub actor: String,
    pub reason: String,
    /// Wall time at which the command was accepted.
    pub at: Timestamp,
    pub kind: CommandKind,
}

/// The commands that change what the engine remembers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum CommandKind {
    /// Takes the latch off: the treatment may serve again, windows start anew.
    Rearm {
        flag: FlagKey,
        scope: Option<Scope>,
        /// Nothing was wrong with the variant: counted, so that rules get better.
        #[serde(default)]
        false_alarm: bool,
    },
    /// Rolls back by hand: pins control and latches, whatever `automation`, limits and dry runs say.
    RollBack { flag: FlagKey, scope: Scope },
    /// Rolls back a flag that is there to practise on, or says whether its rules could.
    Drill { flag: FlagKey, from: DrillFrom },
    /// Holds the share by hand until a human resumes.
    Pause { flag: FlagKey },
    /// Lets the share move again, whoever held it.
    Resume { flag: FlagKey },
    /// `automation on|off`: whether Rearguard acts at all. Pages go on either way.
    Automation { on: bool },
    /// Closes an incident by hand.
    ResolveIncident { incident: IncidentId },
}

/// Where a drill begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DrillFrom {
    /// With breaching events, which whoever asks writes: a rule has to decide.
    Events,
    /// With the decision.
    #[default]
    Decision,
}

/// What dispatch reports about a decision that it has carried out, or could not.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    pub decision: DecisionId,
    pub flag: FlagKey,
    pub scope: Scope,
    /// Wall time of the answer.
    pub at: Timestamp,
    pub outcome: FlipOutcome,
}

/// How a flip ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FlipOutcome {
    /// Written and read back at the evaluation plane.
    Verified,
    /// Control was already served to everybody in scope.
    AlreadySafe,
    /// A human changed this targeting since the decision.
    Superseded,
    /// Tries have ended without success.
    Failed,
    /// The deadline passed before a try succeeded.
    Expired,
}

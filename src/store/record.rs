//! What one commit stores: the result of one or several engine steps, and where the engine stands afterwards.

use serde::{Deserialize, Serialize};

use super::audit::NewAudit;
use super::plan::{NewRow, PlanContext, plan_step};
use crate::engine::input::{Fates, Source};
use crate::engine::output::{LatchChange, Output};
use crate::engine::rollup::RollupRow;
use crate::model::id::DecisionId;
use crate::model::time::{Minute, Timestamp};

/// Everything that one transaction stores. Build it with [`StepRecord::new`], then fill in what only the app knows.
#[derive(Clone, Debug)]
pub struct StepRecord<'a> {
    /// The number of the last input that it covers. A record whose number is not above the stored one was committed before
    /// and is skipped as a whole.
    pub seq: u64,
    pub wall: Timestamp,
    /// In the order of the steps.
    pub outputs: &'a [Output],
    /// Changed state rows of the engine; `None` deletes.
    pub state: &'a [(String, Option<String>)],
    pub position: Position,
    pub outbox: Vec<NewRow>,
    pub latches: Vec<LatchChange>,
    /// Set when a command switched automation.
    pub automation: Option<bool>,
    /// Decisions whose flips' answers the engine has taken in with these steps.
    pub answered: Vec<DecisionId>,
    /// Audit rows besides those that the store writes itself (one per decision).
    pub audit: Vec<NewAudit>,
    /// Hourly roll-ups that these steps have made.
    pub rollups: Vec<RollupRow>,
}

impl<'a> StepRecord<'a> {
    /// A record of these outputs: outbox rows by [`plan_step`].
    pub fn new(
        seq: u64,
        wall: Timestamp,
        outputs: &'a [Output],
        state: &'a [(String, Option<String>)],
        position: Position,
        context: &PlanContext<'_>,
    ) -> Self {
        Self {
            seq,
            wall,
            outputs,
            state,
            position,
            outbox: plan_step(seq, outputs, wall, context),
            latches: outputs.iter().flat_map(|output| output.latches.iter().cloned()).collect(),
            automation: None,
            answered: Vec::new(),
            audit: Vec::new(),
            rollups: Vec::new(),
        }
    }
}

/// Where the engine stands. In SQL this is the truth that a restart continues from.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Position {
    /// Sources that have moved; others keep what is stored.
    pub sources: Vec<SourcePosition>,
    pub event_time: Option<Timestamp>,
    pub closed: Option<Minute>,
}

/// How far one source has been read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SourcePosition {
    pub source: Source,
    /// The first offset that is not in the engine.
    pub next_offset: i64,
    pub watermark: Option<Timestamp>,
    /// Cumulative since the first start.
    pub fates: Fates,
}

/// Whether a record was new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Committed {
    Stored,
    /// The stored position covers this record already: nothing was changed.
    Already,
}

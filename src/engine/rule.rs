//! Rules as the engine judges them: compiled conditions over numbered measurements, nothing looked up by name.
//!
//! `spec` reads rule files, `compile` turns their conditions into [`Condition`]s and refuses everything that is not a rule,
//! `eval` evaluates over measurements that may be missing.

pub mod clear;
pub mod compile;
pub mod condition;
pub mod diagnostic;
pub mod eval;
pub mod identifier;
pub mod keys;
pub mod level;
pub mod logic;
pub mod preset;
pub mod review;
pub mod shadow;
pub mod shape;
pub mod span;
pub mod spec;
pub mod token;
pub mod traffic;
pub mod write;
pub mod yaml;

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::rollup::HOUR;
use crate::model::flag::Dimension;
use crate::model::id::{FlagKey, RuleId, Variant};
use crate::model::incident::Severity;
use crate::model::metric::MetricId;
use crate::model::time::Minute;

/// All rules in force, in the order of their files and lines.
#[derive(Clone, Debug, Default)]
pub struct RuleSet {
    pub rules: Vec<Arc<Rule>>,
    /// The rule that judges Rearguard's own events. It never acts, and counts nowhere.
    pub canary: Option<Arc<Rule>>,
}

/// One compiled rule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rule {
    pub id: RuleId,
    pub flag: FlagKey,
    /// The variant that is judged and, by a rollback, taken back.
    pub variant: Variant,
    /// What `baseline` means: the rule file's own, else the flag's control, else unknown.
    pub baseline: Option<Variant>,
    pub condition: Condition,
    /// What has to hold, on the window and on its recent part, before a pause or a notice resolves.
    pub clear: Condition,
    pub action: RuleAction,
    pub confirm: Confirm,
    /// `for`: how long a breach must hold at every closing before it fires.
    pub hold: Duration,
    pub dwell: Duration,
    pub min_samples: u64,
    pub no_data: NoData,
    /// A rule of its own per tenant, tier or region.
    pub by: Option<Dimension>,
    /// `scope: all` on a rule with `by:`: one bad slice rolls the whole flag back.
    pub whole_flag: bool,
    pub dry_run: bool,
    pub severity: Severity,
    pub failure_class: String,
    pub runbook: Option<String>,
    /// Whether and whom to page: `page: false`, `page: true`, `page: <receiver>`.
    pub page: Page,
    pub owner: Option<String>,
    pub origin: Origin,
    /// Identity: BLAKE3 over condition, window, `by` and action. Editing a runbook is the same rule.
    pub hash: RuleHash,
}

/// The hash in a rule's identity (flag, id, hash), 16 hex digits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RuleHash(pub String);

/// Where a rule stands, for messages and reports.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    pub file: String,
    /// Counted from 1.
    pub line: usize,
}

impl Origin {
    /// How a message about another rule names this place: `line 4`, or `rules/a.yaml:4` from another file.
    pub fn seen_from(&self, other: &Self) -> String {
        if self.file == other.file {
            format!("line {}", self.line)
        } else {
            format!("{}:{}", self.file, self.line)
        }
    }
}

/// What a rule does when it fires; ordered by strength.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RuleAction {
    Notify,
    PauseRollout,
    Rollback,
}

impl RuleAction {
    /// The word of rule files.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Notify => "notify",
            Self::PauseRollout => "pause_rollout",
            Self::Rollback => "rollback",
        }
    }
}

/// What to do about silence. It can never roll back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NoData {
    /// Keep the state; notify after 15 minutes of silence.
    #[default]
    Hold,
    /// Notify as soon as a closing has no data.
    Notify,
    /// Freeze the share, and notify, after `for` of silence.
    Pause,
}

/// What confirms a breach: persistence (the literal condition, held for `for`), evidence (the change detector), or both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Confirm {
    /// Whichever is first.
    #[default]
    Either,
    /// Evidence, or persistence beyond noise; within noise a rollback becomes a pause and a page.
    Significant,
    Evidence,
    Persistence,
}

impl Confirm {
    /// All modes, as documentation lists them.
    pub const ALL: [Self; 4] = [Self::Either, Self::Significant, Self::Evidence, Self::Persistence];

    /// The word of rule files.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Either => "either",
            Self::Significant => "significant",
            Self::Evidence => "evidence",
            Self::Persistence => "persistence",
        }
    }

    /// Whether evidence can confirm.
    pub const fn by_evidence(self) -> bool {
        !matches!(self, Self::Persistence)
    }

    /// Whether persistence can confirm.
    pub const fn by_persistence(self) -> bool {
        !matches!(self, Self::Evidence)
    }
}

/// What confirmed a breach.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConfirmedBy {
    Persistence,
    Evidence,
}

impl ConfirmedBy {
    /// The word stored and shown.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Persistence => "persistence",
            Self::Evidence => "evidence",
        }
    }
}

/// Whom a firing rule pages.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Page {
    /// Rollbacks page the receivers routed for them; pauses and notices notify.
    #[default]
    Default,
    Never,
    Always,
    Receiver(String),
}

/// A statistic over a window of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stat {
    Mean,
    Rate,
    Sum,
    Count,
    /// Samples per minute.
    PerMin,
    Min,
    Max,
    Stddev,
    P50,
    P90,
    P95,
    P99,
    P999,
    /// The burn rate of a service level objective, whose derived metric is true for a bad sample: the rate by what is allowed.
    Burn(Allowed),
    /// What is left of its error budget, of 1; negative when more is spent than there was.
    Budget(Allowed),
}

/// The share of samples that an objective allows to be bad, in parts per million: from 1 to 999,999.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Allowed(pub u32);

impl Allowed {
    /// The share, between 0 and 1.
    pub fn share(self) -> f64 {
        f64::from(self.0) / 1e6
    }
}

impl Stat {
    /// The q of a quantile.
    pub const fn quantile(self) -> Option<f64> {
        match self {
            Self::P50 => Some(0.5),
            Self::P90 => Some(0.9),
            Self::P95 => Some(0.95),
            Self::P99 => Some(0.99),
            Self::P999 => Some(0.999),
            _ => None,
        }
    }

    /// The rate that a number means: for burn rates and budgets the rate of bad samples at which they have this value.
    pub fn rate_at(self, value: f64) -> Option<f64> {
        match self {
            Self::Rate => Some(value),
            Self::Burn(allowed) => Some(value * allowed.share()),
            Self::Budget(allowed) => Some((1.0 - value) * allowed.share()),
            _ => None,
        }
    }

    /// Whether the value falls while the rate behind it rises.
    pub const fn turns_round(self) -> bool {
        matches!(self, Self::Budget(_))
    }

    /// Whether the statistic grows with the number of samples, so that a window with deleted minutes must be scaled back.
    pub const fn is_extensive(self) -> bool {
        matches!(self, Self::Sum | Self::Count)
    }
}

/// A window's length in whole minutes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Window(pub u32);

impl Window {
    /// The short windows that rules may name, ascending.
    pub const ALL: [(&'static str, Self); 3] = [("5m", Self(5)), ("1h", Self(60)), ("6h", Self(360))];
    /// The short windows of a burn rate.
    pub const BURN: [(&'static str, Self); 4] =
        [("5m", Self(5)), ("30m", Self(30)), ("1h", Self(60)), ("6h", Self(360))];
    /// The longest of them: how much history is kept minute by minute and read at the first start.
    pub const LONGEST: Self = Self(360);
    /// The longest window of all, from hourly roll-ups: 30 days.
    pub const MOST: Self = Self(30 * 1_440);

    /// Whether the window is longer than the minutes kept: it is made of whole hours.
    pub const fn is_long(self) -> bool {
        self.0 > Self::LONGEST.0
    }

    /// The first minute of the window that ends with `closed`. A long one is whole hours and the running one: of 24 h there
    /// are 23 whole hours and what has passed of the 24th.
    pub fn first_minute(self, closed: Minute) -> Minute {
        if !self.is_long() {
            return closed.plus(1 - i64::from(self.0));
        }
        Minute((closed.0.div_euclid(HOUR) + 1) * HOUR - i64::from(self.0))
    }

    /// The window as a span of time.
    pub const fn span(self) -> Duration {
        Duration::from_secs(self.0 as u64 * 60)
    }

    /// The recent part that pauses must clear on as well: the last w/12, at least 5 minutes; beyond six hours whole hours.
    pub fn recent(self) -> Self {
        let recent = Self((self.0 / 12).max(5).min(self.0));
        if recent.is_long() { Self(recent.0 / 60 * 60) } else { recent }
    }
}

/// Whose samples a measurement is taken from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Arm {
    /// The rule's variant (and slice).
    Own,
    /// The rule's baseline variant (same slice).
    Baseline,
}

/// One number that a condition reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Measurement {
    pub metric: MetricId,
    pub stat: Stat,
    pub window: Window,
    pub arm: Arm,
}

/// A compiled boolean condition.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Condition {
    /// As the rule file has it (for a derived `clear`: in the same language).
    pub source: String,
    pub expr: Expr,
    /// What `Expr::Slot` numbers stand for; no measurement occurs twice.
    pub slots: Vec<Measurement>,
    /// How a single minute's deficit is computed.
    pub shape: Shape,
}

impl Condition {
    /// The longest window that the condition reads.
    pub fn window(&self) -> Window {
        self.slots.iter().map(|slot| slot.window).max().unwrap_or(Window(5))
    }

    /// Whether it compares with the baseline variant.
    pub fn reads_baseline(&self) -> bool {
        self.slots.iter().any(|slot| slot.arm == Arm::Baseline)
    }
}

/// A number or truth value computed from slots.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Expr {
    Const(f64),
    Slot(usize),
    Neg(Box<Expr>),
    Arith(Arith, Box<Expr>, Box<Expr>),
    Compare(Compare, Box<Expr>, Box<Expr>),
    And(Box<Expr>, Box<Expr>),
    Or(Box<Expr>, Box<Expr>),
    Not(Box<Expr>),
}

/// Arithmetic on f64; division by zero and non-finite results are unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Arith {
    Add,
    Sub,
    Mul,
    Div,
    Rem,
    Pow,
}

/// Comparisons.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Compare {
    Lt,
    Le,
    Gt,
    Ge,
    Eq,
    Ne,
}

/// Conditions of one comparison have an exact deficit per minute; others are asked of each minute alone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Shape {
    /// `own stat OP threshold`, with the measurement brought to the left side.
    Simple {
        slot: usize,
        side: Side,
        threshold: Threshold,
    },
    Other,
}

/// The side of the threshold that is bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    Below,
    Above,
}

impl Side {
    /// The good side, where this is the bad one.
    pub const fn other(self) -> Self {
        match self {
            Self::Below => Self::Above,
            Self::Above => Self::Below,
        }
    }
}

/// What a simple comparison compares with.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Threshold {
    Const(f64),
    /// `factor` × the measurement in slot `slot`, which is the same statistic of the baseline.
    Baseline {
        slot: usize,
        factor: f64,
    },
}

#[cfg(test)]
mod tests;

//! What comes out of the engine: transitions, decisions and orders, each with its reason. The app stores a step's output in
//! one SQL transaction and acts on nothing before that has committed.

use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use super::gate::Gate;
use super::grounds::Grounds;
use super::input::{Fates, FlipOutcome, Source};
use super::rule::{Confirm, ConfirmedBy, Origin, RuleAction, RuleHash, Side};
use crate::model::flag::Scope;
use crate::model::id::{DecisionId, FlagKey, IncidentId, RuleId, Variant};
use crate::model::incident::Severity;
use crate::model::time::{Minute, Timestamp};

/// The result of one step.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Output {
    /// In the order in which they happened.
    pub transitions: Vec<Transition>,
    pub decisions: Vec<Decision>,
    /// What each of them was judged from, in the same order.
    pub grounds: Vec<Grounds>,
    /// What to do in the world, in order.
    pub orders: Vec<Order>,
    /// Latches put on and taken off.
    pub latches: Vec<LatchChange>,
    /// Verdicts taken at the closings of this step.
    pub verdicts: Verdicts,
    /// Totals that differed from their panes at the periodic audit and were rebuilt: none unless there is a bug.
    pub rebuilt: usize,
    /// Whether a minute was closed, so that the stored position should move on.
    pub closed: Option<Minute>,
    /// The answer to a command, if the input was one.
    pub reply: Option<Result<Reply, CommandError>>,
}

/// What is said to whoever gave a command that was carried out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply {
    /// One line.
    pub said: String,
    /// The decision that carries it out, of a rollback or pause.
    pub decision: Option<DecisionId>,
}

impl<T: Into<String>> From<T> for Reply {
    fn from(said: T) -> Self {
        Self { said: said.into(), decision: None }
    }
}

/// How many verdicts of each kind were taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdicts {
    pub pass: u64,
    pub breach: u64,
    pub inconclusive: u64,
    pub error: u64,
}

/// A latch put on or taken off.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "change", rename_all = "snake_case")]
pub enum LatchChange {
    Open {
        flag: FlagKey,
        scope: Scope,
        decision: DecisionId,
        incident: IncidentId,
        at: Timestamp,
    },
    /// A human rolls back again what an earlier flip has not made safe: the same latch, of another decision.
    Retry {
        flag: FlagKey,
        scope: Scope,
        decision: DecisionId,
    },
    Close {
        flag: FlagKey,
        scope: Scope,
        by: String,
        why: String,
        false_alarm: bool,
    },
}

/// Why a command could not be carried out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "error", rename_all = "snake_case")]
pub enum CommandError {
    #[error("no flag `{flag}` is configured")]
    UnknownFlag { flag: FlagKey },
    #[error("flag `{flag}` is not latched in scope `{scope}`")]
    NotLatched { flag: FlagKey, scope: Scope },
    #[error("no incident `{incident}` is open")]
    NoSuchIncident { incident: IncidentId },
    #[error("flag `{flag}` is not paused")]
    NotPaused { flag: FlagKey },
    #[error("flag `{flag}` is served by `{platform}`, which is changed for everybody or for nobody")]
    NoSlices { flag: FlagKey, platform: String },
    #[error("flag `{flag}` is no flag for drills: a real rollback would be practised on it")]
    NotForDrills { flag: FlagKey },
    #[error("no drill on flag `{flag}` now: {why}")]
    NoDrill { flag: FlagKey, why: String },
    #[error("flag `{flag}` is there for drills: its rollbacks are no false alarms")]
    NoFalseAlarm { flag: FlagKey },
}

/// Which alert: a rule applied to a slice.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AlertKey {
    pub flag: FlagKey,
    pub rule: RuleId,
    pub hash: RuleHash,
    pub slice: Scope,
}

/// A change of an alert's state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Transition {
    /// Event time: the closing at which it happened.
    pub at: Timestamp,
    pub key: AlertKey,
    pub variant: Variant,
    pub action: RuleAction,
    pub from: Phase,
    pub to: Phase,
    pub why: String,
}

/// The name of an alert's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    Quiet,
    Pending,
    Firing,
    Latched,
}

impl Phase {
    /// The word stored, shown and counted.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Quiet => "quiet",
            Self::Pending => "pending",
            Self::Firing => "firing",
            Self::Latched => "latched",
        }
    }
}

/// A rule has fired, or a human has spoken. Stored with its evidence before anything happens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    pub id: DecisionId,
    pub key: AlertKey,
    pub variant: Variant,
    pub control: Option<Variant>,
    /// What a rollback or pause is confined to.
    pub scope: Scope,
    pub action: RuleAction,
    /// Who made it and why, where no rule did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<ByHand>,
    /// Made for practice, about a flag that is there for it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub drill: bool,
    /// `None` for a pause on silence, and by hand.
    pub confirmed_by: Option<ConfirmedBy>,
    pub gate: Gate,
    /// Event time of the closing that decided.
    pub at: Timestamp,
    /// Start of the first pane at whose closing the literal condition was true.
    pub crossing: Timestamp,
    /// Start of the pane whose closing first satisfied the persistence test, or the evidence test where that came first: the
    /// ten minutes count from here.
    pub t0: Timestamp,
    /// The incident that a rollback opens or joins.
    pub incident: Option<IncidentId>,
    pub severity: Severity,
    pub failure_class: String,
    pub condition: String,
    pub runbook: Option<String>,
    pub owner: Option<String>,
    pub origin: Origin,
    pub evidence: Evidence,
}

/// The human who made a decision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ByHand {
    pub actor: String,
    pub reason: String,
}

/// The numbers that a verdict rests on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// Each measurement of the condition by name, `None` where unknown.
    pub values: Vec<(String, Option<f64>)>,
    /// For a single comparison: the measured value and what it was compared with.
    pub value: Option<f64>,
    pub threshold: Option<f64>,
    pub side: Option<Side>,
    pub unit: String,
    pub samples: u64,
    pub baseline_samples: Option<u64>,
    pub min_samples: u64,
    /// A 95 % confidence sequence for `value`; `None` where there is none.
    pub interval: Option<(f64, f64)>,
    pub confirm: Confirm,
    /// What the rule's mode promises, in words.
    pub promise: String,
    /// Which statement held: `1h 0.9510; last 5 min 0.7100; D 2.1e6 (1.8e6 without the two minutes from …) ≥ 1.6e6`.
    pub statement: String,
    /// D and c of the change detector, for rules that evidence can confirm.
    pub evidence: Option<f64>,
    pub evidence_needed: Option<f64>,
    /// Whether the breach is within noise, so that a pause stands in for a rollback.
    pub within_noise: bool,
    /// The pair of neighbouring minutes whose deletion weakens the breach most, and the value without it.
    pub worst_pair: Option<WorstPair>,
    pub bad_minutes: u32,
    /// Closings at which the breach has held since the first.
    pub held: Duration,
    /// Distinct tenants of the variant in the window, estimated beyond 64.
    pub tenants: u64,
    pub tenants_exact: bool,
    pub window_minutes: u32,
    /// The window minute by minute, oldest first: value (`None` without data) and samples.
    pub picture: Vec<PicturePoint>,
    /// Other measurements of the variant and its control over the same window, for the reader.
    pub context: Vec<ContextLine>,
}

/// The window without its most influential pair of minutes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WorstPair {
    pub first: Minute,
    pub value: Option<f64>,
}

/// One minute of the picture in an incident.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct PicturePoint {
    pub minute: Minute,
    pub value: Option<f64>,
    pub samples: u64,
}

/// One other metric beside its control, over the same window.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ContextLine {
    pub metric: String,
    pub unit: String,
    pub value: Option<f64>,
    pub control: Option<f64>,
}

/// Something to do in the world. Carries all it needs; dispatch makes no choices.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "order", rename_all = "snake_case")]
pub enum Order {
    /// Serve control to everybody in scope, read it back.
    Pin {
        decision: DecisionId,
        flag: FlagKey,
        scope: Scope,
        control: Variant,
        /// The human who asked for it: it is done whatever `automation` says, and before everything else.
        by: Option<String>,
    },
    /// Take a pin off: a human re-armed.
    Unpin {
        flag: FlagKey,
        scope: Scope,
        actor: String,
    },
    /// Hold the share where it stands.
    Freeze {
        decision: DecisionId,
        flag: FlagKey,
        by: Option<String>,
    },
    /// Let the share move again: the pause has resolved, or a human says so.
    Unfreeze {
        flag: FlagKey,
        why: String,
        by: Option<String>,
    },
    OpenIncident(Box<IncidentOrder>),
    /// A further decision of the same episode.
    JoinIncident {
        incident: IncidentId,
        decision: DecisionId,
    },
    CloseIncident {
        incident: IncidentId,
        flag: FlagKey,
        by: String,
        why: String,
    },
    /// Wake a human. At the latest two minutes after the commit, whatever the flip does.
    Page(Message),
    /// Tell a channel; nobody is woken.
    Notify(Message),
}

/// What an incident starts with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct IncidentOrder {
    pub incident: IncidentId,
    pub flag: FlagKey,
    pub variant: Variant,
    pub decision: DecisionId,
    pub severity: Severity,
    pub failure_class: String,
    pub title: String,
    /// Event time.
    pub at: Timestamp,
}

/// What a receiver is told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// The same key in every system: a retry or restart updates, it never opens a second one.
    pub dedup_key: String,
    pub kind: MessageKind,
    pub severity: Severity,
    pub flag: Option<FlagKey>,
    pub variant: Option<Variant>,
    pub decision: Option<DecisionId>,
    pub incident: Option<IncidentId>,
    /// One line.
    pub summary: String,
    pub detail: String,
    /// A rule's own choice of receiver, instead of the configured routes.
    pub receiver: Option<String>,
    /// Event time.
    pub at: Timestamp,
}

/// What a message is about, for routing and for counting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MessageKind {
    Rollback,
    RollbackFailed,
    Superseded,
    Pause,
    Notice,
    Resolved,
    NoData,
    Masked,
    Blind,
    Gap,
    StillServing,
    /// A human is on it.
    Acknowledged,
}

impl MessageKind {
    /// The word that systems are told.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Rollback => "rollback",
            Self::RollbackFailed => "rollback_failed",
            Self::Superseded => "superseded",
            Self::Pause => "pause",
            Self::Notice => "notice",
            Self::Resolved => "resolved",
            Self::NoData => "no_data",
            Self::Masked => "masked",
            Self::Blind => "blind",
            Self::Gap => "gap",
            Self::StillServing => "still_serving",
            Self::Acknowledged => "acknowledged",
        }
    }
}

/// What the engine knows now, for status pages and metrics. Made on request, never fed back.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Event time: the least watermark of the sources that hold the clock.
    pub event_time: Option<Timestamp>,
    pub closed: Option<Minute>,
    /// Whether verdicts may act; otherwise why not.
    pub armed: bool,
    pub why_not_armed: Option<String>,
    pub automation: bool,
    pub dry_run: bool,
    pub sources: Vec<SourceReport>,
    pub alerts: Vec<AlertReport>,
    pub series: usize,
    /// What the canary's rule said at the last closing; `None` without a canary and before the first closing.
    #[serde(default)]
    pub canary: Option<CanaryReport>,
    pub latches: Vec<LatchReport>,
    /// Shares that humans hold.
    #[serde(default)]
    pub holds: Vec<HoldReport>,
}

/// How the canary's own rule was judged at a closing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CanaryReport {
    /// The minute that closed.
    pub closed: Minute,
    pub passed: bool,
    /// The verdict in a few words.
    pub verdict: String,
    /// The newest minute whose panes hold a canary event.
    pub newest: Option<Minute>,
}

/// One source in a [`Report`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SourceReport {
    pub source: Source,
    pub next_offset: i64,
    pub watermark: Option<Timestamp>,
    pub idle: bool,
    pub fates: Fates,
}

/// One alert in a [`Report`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AlertReport {
    pub key: AlertKey,
    pub variant: Variant,
    pub action: RuleAction,
    pub condition: String,
    pub phase: Phase,
    pub since: Option<Timestamp>,
    /// The last verdict in a few words, with its reason.
    pub verdict: String,
    pub value: Option<f64>,
    pub threshold: Option<f64>,
    pub samples: u64,
    /// A 95 % confidence sequence for `value`, while the alert is not quiet.
    pub interval: Option<(f64, f64)>,
    pub confirm: Confirm,
    /// D and c of the change detector, for rules that evidence can confirm.
    pub evidence: Option<f64>,
    pub evidence_needed: Option<f64>,
    pub dry_run: bool,
    /// Why the action was not carried out, while the alert fires all the same.
    #[serde(default)]
    pub withheld: Option<String>,
}

/// One latch in a [`Report`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LatchReport {
    pub flag: FlagKey,
    pub scope: Scope,
    pub decision: DecisionId,
    pub incident: IncidentId,
    pub at: Timestamp,
    pub outcome: Option<FlipOutcome>,
}

/// One hold in a [`Report`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HoldReport {
    pub flag: FlagKey,
    pub decision: DecisionId,
    pub outcome: Option<FlipOutcome>,
}

//! From orders to outbox rows: who has to be told or moved, when at the earliest, and until when.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::engine::budget::{PAGE, flip_at_worst};
use crate::engine::drill;
use crate::engine::output::{Decision, Message, MessageKind, Order, Output};
use crate::model::flag::{Dimension, FlagSpec, Scope, Served};
use crate::model::id::{DecisionId, FlagKey, IncidentId, Variant};
use crate::model::route::{About, Route};
use crate::model::time::Timestamp;

/// The adapter of the flag store that Rearguard serves itself.
pub const BUILTIN: &str = "builtin";

/// Which configured receivers get what. Names are the config's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Routes {
    /// Receivers that wake people.
    pub page: Vec<String>,
    /// Receivers that tell people.
    pub notify: Vec<String>,
    /// Receivers of every decision, acted upon or not (a Kafka topic of CloudEvents).
    pub publish: Vec<String>,
    /// Exceptions from `page` and `notify`: the first that fits counts.
    pub matches: Vec<Route>,
}

impl Routes {
    /// Who gets a message that wakes people, or one that does not.
    fn of(&self, kind: RowKind, message: &Message, cause: Option<Cause<'_>>, drill: bool) -> &[String] {
        let tenant = cause.and_then(|cause| match cause.scope {
            Scope::Only(Dimension::Tenant, tenant) => Some(&**tenant),
            _ => None,
        });
        let about = About {
            severity: message.severity,
            flag: message.flag.as_ref().map(FlagKey::as_str),
            tenant,
            failure_class: cause.map(|cause| cause.failure_class).or(drill.then_some(drill::CLASS)),
        };
        let route = self.matches.iter().find(|route| route.fits(&about));
        if kind == RowKind::Page {
            route.and_then(|route| route.page.as_ref()).unwrap_or(&self.page)
        } else {
            route.and_then(|route| route.notify.as_ref()).unwrap_or(&self.notify)
        }
    }
}

/// What planning takes from the decision that an order follows from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cause<'a> {
    /// The start of the ten minutes.
    pub t0: Timestamp,
    pub scope: &'a Scope,
    pub failure_class: &'a str,
}

impl<'a> Cause<'a> {
    fn of(decision: &'a Decision) -> Self {
        Self { t0: decision.t0, scope: &decision.scope, failure_class: &decision.failure_class }
    }
}

/// How long things may take, in wall time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// A page leaves when its flip has finished, at the latest this long after the commit.
    pub page_after: Duration,
    /// The promise: T1 − T0. A flip's deadline leaves time in it for the page that says how it ended.
    pub promise: Duration,
    /// A flip gets at least this long, however late it was decided.
    pub flip_at_least: Duration,
    /// Tries of a rollback or pause end after this: by then fresh data has to decide anew. What undoes them is tried for good.
    pub flip_ttl: Duration,
    /// Tries of a message end after this.
    pub message_ttl: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            page_after: Duration::from_secs(120),
            promise: Duration::from_secs(600),
            flip_at_least: flip_at_worst(Duration::ZERO),
            flip_ttl: Duration::from_secs(3600),
            message_ttl: Duration::from_secs(24 * 3600),
        }
    }
}

/// What planning needs besides the orders.
#[derive(Clone, Copy, Debug)]
pub struct PlanContext<'a> {
    pub routes: &'a Routes,
    pub timing: Timing,
    /// The flags as configured now: they say which platform a flip goes to.
    pub flags: &'a [FlagSpec],
}

impl PlanContext<'_> {
    fn is_drill(&self, flag: Option<&FlagKey>) -> bool {
        self.flags.iter().any(|spec| spec.drill && Some(&spec.key) == flag)
    }
}

/// What kind of effect an outbox row has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RowKind {
    /// Changes what a flag platform serves.
    Flip,
    /// Wakes a human.
    Page,
    /// Tells a human.
    Notify,
    /// Publishes a decision.
    Publish,
}

impl RowKind {
    pub const ALL: [Self; 4] = [Self::Flip, Self::Page, Self::Notify, Self::Publish];

    /// The word stored, shown and counted.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Flip => "flip",
            Self::Page => "page",
            Self::Notify => "notify",
            Self::Publish => "publish",
        }
    }
}

/// What a row's worker has to do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "task", rename_all = "snake_case")]
pub enum Task {
    Flip(Flip),
    Message(Message),
    Publish(Box<Decision>),
}

/// A change of what a flag serves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "flip", rename_all = "snake_case")]
pub enum Flip {
    Pin {
        decision: DecisionId,
        flag: FlagKey,
        scope: Scope,
        control: Variant,
        /// The human who asked for it.
        #[serde(default)]
        by: Option<String>,
    },
    Unpin {
        flag: FlagKey,
        scope: Scope,
        actor: String,
    },
    Freeze {
        decision: DecisionId,
        flag: FlagKey,
        #[serde(default)]
        by: Option<String>,
    },
    Unfreeze {
        flag: FlagKey,
        why: String,
        #[serde(default)]
        by: Option<String>,
    },
}

impl Flip {
    pub fn flag(&self) -> &FlagKey {
        match self {
            Self::Pin { flag, .. }
            | Self::Unpin { flag, .. }
            | Self::Freeze { flag, .. }
            | Self::Unfreeze { flag, .. } => flag,
        }
    }

    /// The scope that is pinned or unpinned; a freeze is always about the whole flag.
    pub fn scope(&self) -> Scope {
        match self {
            Self::Pin { scope, .. } | Self::Unpin { scope, .. } => scope.clone(),
            Self::Freeze { .. } | Self::Unfreeze { .. } => Scope::All,
        }
    }

    /// The human who asked for it, where no rule did.
    pub fn by(&self) -> Option<&str> {
        match self {
            Self::Pin { by, .. } | Self::Freeze { by, .. } | Self::Unfreeze { by, .. } => by.as_deref(),
            Self::Unpin { actor, .. } => Some(actor),
        }
    }

    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Pin { .. } => "pin",
            Self::Unpin { .. } => "unpin",
            Self::Freeze { .. } => "freeze",
            Self::Unfreeze { .. } => "unfreeze",
        }
    }
}

/// A row for the outbox.
#[derive(Clone, Debug, PartialEq)]
pub struct NewRow {
    /// Unique: the same effect planned twice is one row.
    pub dedup: String,
    pub kind: RowKind,
    /// The adapter or receiver that carries it out.
    pub adapter: String,
    /// About a flag that is there for drills: after what is real.
    pub drill: bool,
    /// Rows of a lane are carried out one after the other, oldest first.
    pub lane: String,
    pub task: Task,
    pub flag: Option<FlagKey>,
    pub scope: Option<Scope>,
    pub decision: Option<DecisionId>,
    pub incident: Option<IncidentId>,
    /// The decision whose flip this page waits for; when it has no unfinished flip, the page leaves at once.
    pub awaits: Option<DecisionId>,
    pub not_before: Timestamp,
    /// Until when the promise holds.
    pub deadline: Option<Timestamp>,
    /// Until when it is tried.
    pub expires: Timestamp,
}

/// The rows of all orders and decisions of these outputs.
pub fn plan_step(seq: u64, outputs: &[Output], wall: Timestamp, context: &PlanContext<'_>) -> Vec<NewRow> {
    let decisions = outputs.iter().flat_map(|output| &output.decisions);
    let causes: BTreeMap<&DecisionId, Cause<'_>> =
        decisions.map(|decision| (&decision.id, Cause::of(decision))).collect();
    let mut rows = Vec::new();
    for (place, order) in outputs.iter().flat_map(|output| &output.orders).enumerate() {
        let cause = match order {
            Order::Pin { decision, .. } | Order::Freeze { decision, .. } => causes.get(decision),
            Order::Page(message) | Order::Notify(message) => {
                message.decision.as_ref().and_then(|decision| causes.get(decision))
            }
            _ => None,
        };
        rows.extend(plan(order, (seq, place), wall, cause.copied(), context));
    }
    for decision in outputs.iter().flat_map(|output| &output.decisions) {
        rows.extend(publish_rows(decision, wall, context));
    }
    rows
}

/// The rows of one order. `number` (input, place among its orders) makes orders without a decision unique; `cause` is the
/// decision that it follows from, where known.
pub fn plan(
    order: &Order,
    number: (u64, usize),
    wall: Timestamp,
    cause: Option<Cause<'_>>,
    context: &PlanContext<'_>,
) -> Vec<NewRow> {
    let flip = |flip| vec![flip_row(flip, number, wall, cause.map(|cause| cause.t0), context)];
    let tell = |kind, message: &Message| {
        let drill = context.is_drill(message.flag.as_ref());
        message_rows(kind, message, context.routes.of(kind, message, cause, drill), wall, context)
    };
    match order {
        Order::Pin { decision, flag, scope, control, by } => flip(Flip::Pin {
            decision: decision.clone(),
            flag: flag.clone(),
            scope: scope.clone(),
            control: control.clone(),
            by: by.clone(),
        }),
        Order::Unpin { flag, scope, actor } => {
            flip(Flip::Unpin { flag: flag.clone(), scope: scope.clone(), actor: actor.clone() })
        }
        Order::Freeze { decision, flag, by } => {
            flip(Flip::Freeze { decision: decision.clone(), flag: flag.clone(), by: by.clone() })
        }
        Order::Unfreeze { flag, why, by } => {
            flip(Flip::Unfreeze { flag: flag.clone(), why: why.clone(), by: by.clone() })
        }
        Order::Page(message) => tell(RowKind::Page, message),
        Order::Notify(message) => tell(RowKind::Notify, message),
        // The incident is a record of the store itself: written by the commit.
        Order::OpenIncident(_) | Order::JoinIncident { .. } | Order::CloseIncident { .. } => Vec::new(),
    }
}

fn flip_row(
    flip: Flip,
    number: (u64, usize),
    wall: Timestamp,
    t0: Option<Timestamp>,
    context: &PlanContext<'_>,
) -> NewRow {
    let timing = &context.timing;
    let flag = flip.flag().clone();
    let spec = context.flags.iter().find(|spec| spec.key == flag);
    let served: Option<&Served> = spec.and_then(|spec| spec.served.as_ref());
    let platform = served.map_or(BUILTIN, |served| &served.platform);
    let at_least = served.map_or(timing.flip_at_least, |served| timing.flip_at_least.max(served.worst));
    let decision = match &flip {
        Flip::Pin { decision, .. } | Flip::Freeze { decision, .. } => Some(decision.clone()),
        Flip::Unpin { .. } | Flip::Unfreeze { .. } => None,
    };
    let which =
        decision.as_ref().map_or_else(|| format!("{flag}/{}.{}", number.0, number.1), ToString::to_string);
    // What is told then has to be taken within the promise as well.
    let promised = t0.unwrap_or(wall) + timing.promise.saturating_sub(PAGE);
    NewRow {
        dedup: format!("flip/{platform}/{}/{which}", flip.as_str()),
        kind: RowKind::Flip,
        adapter: platform.to_owned(),
        drill: spec.is_some_and(|spec| spec.drill),
        lane: format!("flip/{platform}/{flag}"),
        scope: Some(flip.scope()),
        flag: Some(flag),
        decision,
        incident: None,
        awaits: None,
        not_before: wall,
        deadline: Some(promised.max(wall + at_least)),
        expires: wall + timing.flip_ttl,
        task: Task::Flip(flip),
    }
}

/// One row per receiver; the message's own receiver, if it names one, stands for all.
pub fn message_rows(
    kind: RowKind,
    message: &Message,
    receivers: &[String],
    wall: Timestamp,
    context: &PlanContext<'_>,
) -> Vec<NewRow> {
    let own = message.receiver.as_slice();
    let receivers = if own.is_empty() { receivers } else { own };
    let awaits = match message.kind {
        MessageKind::Rollback | MessageKind::Pause if kind == RowKind::Page => message.decision.clone(),
        _ => None,
    };
    let print = fingerprint(message);
    receivers
        .iter()
        .map(|receiver| NewRow {
            dedup: format!("{}/{receiver}/{print}", kind.as_str()),
            kind,
            adapter: receiver.clone(),
            drill: context.is_drill(message.flag.as_ref()),
            lane: format!("message/{receiver}/{}", message.dedup_key),
            flag: message.flag.clone(),
            scope: None,
            decision: message.decision.clone(),
            incident: message.incident.clone(),
            not_before: match awaits {
                Some(_) => wall + context.timing.page_after,
                None => wall,
            },
            awaits: awaits.clone(),
            deadline: None,
            expires: wall + context.timing.message_ttl,
            task: Task::Message(message.clone()),
        })
        .collect()
}

fn publish_rows(decision: &Decision, wall: Timestamp, context: &PlanContext<'_>) -> Vec<NewRow> {
    let flag = &decision.key.flag;
    let rows = context.routes.publish.iter().map(|receiver| NewRow {
        dedup: format!("publish/{receiver}/{}", decision.id),
        kind: RowKind::Publish,
        adapter: receiver.clone(),
        drill: decision.drill,
        lane: format!("publish/{receiver}/{flag}"),
        flag: Some(flag.clone()),
        scope: Some(decision.scope.clone()),
        decision: Some(decision.id.clone()),
        incident: decision.incident.clone(),
        awaits: None,
        not_before: wall,
        deadline: None,
        expires: wall + context.timing.message_ttl,
        task: Task::Publish(Box::new(decision.clone())),
    });
    rows.collect()
}

/// Two messages are the same when all they say is the same.
fn fingerprint(message: &Message) -> String {
    let text = serde_json::to_vec(message).unwrap_or_default();
    blake3::hash(&text).to_hex()[..32].to_owned()
}

#[cfg(test)]
mod tests;

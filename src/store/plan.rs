//! From orders to outbox rows: who has to be told or moved, when at the earliest, and until when.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::engine::output::{Decision, Message, MessageKind, Order, Output};
use crate::model::flag::{FlagSpec, Scope, Served};
use crate::model::id::{DecisionId, FlagKey, IncidentId, Variant};
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
}

/// How long things may take, in wall time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// A page leaves when its flip has finished, at the latest this long after the commit.
    pub page_after: Duration,
    /// The promise that a flip's deadline is counted from: T1 − T0.
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
            flip_at_least: Duration::from_secs(90),
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
    Pin { decision: DecisionId, flag: FlagKey, scope: Scope, control: Variant },
    Unpin { flag: FlagKey, scope: Scope, actor: String },
    Freeze { decision: DecisionId, flag: FlagKey },
    Unfreeze { flag: FlagKey, why: String },
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
    let mut t0 = BTreeMap::new();
    for decision in outputs.iter().flat_map(|output| &output.decisions) {
        t0.insert(&decision.id, decision.t0);
    }
    let mut rows = Vec::new();
    for (place, order) in outputs.iter().flat_map(|output| &output.orders).enumerate() {
        let started = match order {
            Order::Pin { decision, .. } | Order::Freeze { decision, .. } => t0.get(decision),
            _ => None,
        };
        rows.extend(plan(order, (seq, place), wall, started.copied(), context));
    }
    for decision in outputs.iter().flat_map(|output| &output.decisions) {
        rows.extend(publish_rows(decision, wall, context));
    }
    rows
}

/// The rows of one order. `number` (input, place among its orders) makes orders without a decision unique; `t0` is the start
/// of the ten minutes of the order's decision, where known.
pub fn plan(
    order: &Order,
    number: (u64, usize),
    wall: Timestamp,
    t0: Option<Timestamp>,
    context: &PlanContext<'_>,
) -> Vec<NewRow> {
    let flip = |flip| vec![flip_row(flip, number, wall, t0, context)];
    match order {
        Order::Pin { decision, flag, scope, control } => flip(Flip::Pin {
            decision: decision.clone(),
            flag: flag.clone(),
            scope: scope.clone(),
            control: control.clone(),
        }),
        Order::Unpin { flag, scope, actor } => {
            flip(Flip::Unpin { flag: flag.clone(), scope: scope.clone(), actor: actor.clone() })
        }
        Order::Freeze { decision, flag } => {
            flip(Flip::Freeze { decision: decision.clone(), flag: flag.clone() })
        }
        Order::Unfreeze { flag, why } => flip(Flip::Unfreeze { flag: flag.clone(), why: why.clone() }),
        Order::Page(message) => message_rows(RowKind::Page, message, &context.routes.page, wall, context),
        Order::Notify(message) => {
            message_rows(RowKind::Notify, message, &context.routes.notify, wall, context)
        }
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
    let served: Option<&Served> =
        context.flags.iter().find(|spec| spec.key == flag).and_then(|spec| spec.served.as_ref());
    let platform = served.map_or(BUILTIN, |served| &served.platform);
    let at_least = served.map_or(timing.flip_at_least, |served| timing.flip_at_least.max(served.worst));
    let decision = match &flip {
        Flip::Pin { decision, .. } | Flip::Freeze { decision, .. } => Some(decision.clone()),
        Flip::Unpin { .. } | Flip::Unfreeze { .. } => None,
    };
    let which =
        decision.as_ref().map_or_else(|| format!("{flag}/{}.{}", number.0, number.1), ToString::to_string);
    let promised = t0.unwrap_or(wall) + timing.promise;
    NewRow {
        dedup: format!("flip/{platform}/{}/{which}", flip.as_str()),
        kind: RowKind::Flip,
        adapter: platform.to_owned(),
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
mod tests {
    use super::*;
    use crate::model::incident::Severity;

    fn wall() -> Timestamp {
        Timestamp::from_millis(1_700_000_000_000)
    }

    fn routes() -> Routes {
        Routes {
            page: vec!["oncall".into(), "backup".into()],
            notify: vec!["chat".into()],
            publish: vec!["decisions".into()],
        }
    }

    fn message(kind: MessageKind) -> Message {
        Message {
            dedup_key: "k".into(),
            kind,
            severity: Severity::Critical,
            flag: Some("f".into()),
            variant: None,
            decision: Some("d".into()),
            incident: None,
            summary: String::new(),
            detail: String::new(),
            receiver: None,
            at: wall(),
        }
    }

    fn rows(order: &Order, t0: Option<Timestamp>) -> Vec<NewRow> {
        let routes = routes();
        let context = PlanContext { routes: &routes, timing: Timing::default(), flags: &[] };
        plan(order, (7, 0), wall(), t0, &context)
    }

    #[test]
    fn a_page_is_a_row_per_receiver_and_waits_only_for_a_flip() {
        let pages = rows(&Order::Page(message(MessageKind::Rollback)), None);
        assert_eq!(pages.len(), 2);
        for page in &pages {
            assert_eq!(page.awaits, Some("d".into()));
            assert_eq!(page.not_before, wall() + Duration::from_secs(120));
        }
        assert_ne!(pages[0].lane, pages[1].lane);
        for kind in
            [MessageKind::RollbackFailed, MessageKind::Superseded, MessageKind::Blind, MessageKind::Resolved]
        {
            let pages = rows(&Order::Page(message(kind)), None);
            assert!(pages.iter().all(|page| page.awaits.is_none()));
            assert!(pages.iter().all(|page| page.not_before == wall()));
        }
    }

    #[test]
    fn a_rule_chooses_its_receiver() {
        let mut message = message(MessageKind::Notice);
        message.receiver = Some("team-a".into());
        let rows = rows(&Order::Notify(message), None);
        assert_eq!(rows.len(), 1);
        assert_eq!((rows[0].kind, &*rows[0].adapter), (RowKind::Notify, "team-a"));
    }

    #[test]
    fn a_flip_keeps_the_promise_or_gets_its_least_time() {
        let pin =
            Order::Pin { decision: "d".into(), flag: "f".into(), scope: Scope::All, control: "c".into() };
        let deadline = |used| {
            let t0 = wall() - Duration::from_secs(used);
            rows(&pin, Some(t0))[0].deadline
        };
        assert_eq!(deadline(300), Some(wall() + Duration::from_secs(300)));
        assert_eq!(deadline(599), Some(wall() + Duration::from_secs(90)));
        assert_eq!(rows(&pin, None)[0].deadline, Some(wall() + Duration::from_secs(600)));
    }

    #[test]
    fn a_flip_goes_to_the_platform_that_serves_its_flag() {
        let served = Served {
            platform: "prod".into(),
            kind: "flagd".into(),
            key: "f".into(),
            id: None,
            control: "c".into(),
            treatment: "t".into(),
            worst: Duration::from_secs(200),
        };
        let flags = [FlagSpec {
            key: "f".into(),
            control: "c".into(),
            treatment: "t".into(),
            share: 0,
            frozen: false,
            served: Some(served),
        }];
        let context = PlanContext { routes: &routes(), timing: Timing::default(), flags: &flags };
        for (flag, adapter, lane, least) in
            [("f", "prod", "flip/prod/f", 200), ("g", "builtin", "flip/builtin/g", 90)]
        {
            let order = Order::Unfreeze { flag: flag.into(), why: String::new() };
            let long_ago = wall() - Duration::from_secs(900);
            let row = plan(&order, (7, 0), wall(), Some(long_ago), &context).remove(0);
            assert_eq!((&*row.adapter, &*row.lane), (adapter, lane));
            assert_eq!(row.deadline, Some(wall() + Duration::from_secs(least)));
        }
    }

    #[test]
    fn the_same_effect_has_the_same_name_and_another_another() {
        let one = rows(&Order::Page(message(MessageKind::Rollback)), None);
        let same = rows(&Order::Page(message(MessageKind::Rollback)), None);
        let other = rows(&Order::Page(message(MessageKind::Resolved)), None);
        assert_eq!(one[0].dedup, same[0].dedup);
        assert_ne!(one[0].dedup, other[0].dedup);
        assert_eq!(one[0].lane, other[0].lane, "both are about one dedup key");
        let unfreeze = Order::Unfreeze { flag: "f".into(), why: String::new() };
        let routes = Routes::default();
        let context = PlanContext { routes: &routes, timing: Timing::default(), flags: &[] };
        let output = Output { orders: vec![unfreeze.clone(), unfreeze], ..Output::default() };
        let rows = plan_step(7, &[output], wall(), &context);
        assert_ne!(rows[0].dedup, rows[1].dedup, "two orders without a decision are two");
    }
}

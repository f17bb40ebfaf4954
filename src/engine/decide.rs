//! Decisions: a breach has been confirmed; what follows, and what stands in the way.

use super::alert::{Firing, Pending, State};
use super::closing::{Judged, World, control_breaches, note};
use super::evidence;
use super::machine::Engine;
use super::memory::{Episode, Flip, Latch};
use super::message::{self, closing_time};
use super::output::{AlertKey, Decision, Evidence, Gate, IncidentOrder, LatchChange, Order, Output, Phase};
use super::rule::{ConfirmedBy, Page, Rule, RuleAction};
use crate::model::flag::{Dimension, FlagSpec, Scope};
use crate::model::id::{DecisionId, IncidentId, Variant};
use crate::model::incident::Severity;
use crate::model::time::Minute;

/// The span over which flips are limited.
pub(super) const LIMIT_MINUTES: i64 = 10;

/// What a rule acts on when it fires for a slice.
pub(super) fn scope_of(rule: &Rule, slice: &Scope) -> Scope {
    if rule.whole_flag { Scope::All } else { slice.clone() }
}

/// The variant that a rollback serves.
pub(super) fn control_of(engine: &Engine, rule: &Rule) -> Option<Variant> {
    flag_of(engine, rule).map(|f| f.control.clone()).or_else(|| rule.baseline.clone())
}

fn flag_of<'a>(engine: &'a Engine, rule: &Rule) -> Option<&'a FlagSpec> {
    engine.settings.flags.iter().find(|f| f.key == rule.flag)
}

/// What leads to a decision, beside the judgement itself.
#[derive(Clone, Copy, Debug)]
struct Cause {
    action: RuleAction,
    pending: Pending,
    /// How often this breach was decided upon before: part of the decision's id.
    tries: u32,
    /// Whether the alert holds the share already.
    froze: bool,
    /// Why a weaker action than the rule's own is taken.
    instead: Option<Instead>,
}

/// Why a pause stands in for a rollback.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Instead {
    /// `no_data: pause`.
    Silence,
    /// `confirm: significant`: within noise.
    Noise,
}

impl Cause {
    fn own(judged: &Judged, pending: Pending) -> Self {
        Self { action: judged.rule.action, pending, tries: 0, froze: false, instead: None }
    }
}

/// `for` has been waited out, or there is enough evidence.
pub(super) fn confirmed(
    engine: &mut Engine,
    judged: &Judged,
    pending: Pending,
    from: Phase,
    world: &World,
    output: &mut Output,
) {
    let gate = gate(engine, judged, world);
    let why = match judged.judgement.by {
        Some(ConfirmedBy::Evidence) => format!("confirmed by evidence: {}", gate.as_str()),
        _ => format!("held for {} min: {}", pending.held, gate.as_str()),
    };
    decide(engine, judged, &gate, &Cause::own(judged, pending), from, &why, output);
}

/// A pause stood in for the rollback, and the breach has been confirmed since.
pub(super) fn escalated(
    engine: &mut Engine,
    judged: &Judged,
    firing: &Firing,
    pending: Pending,
    world: &World,
    output: &mut Output,
) {
    let gate = gate(engine, judged, world);
    let cause = Cause { tries: firing.tries + 1, froze: firing.froze, ..Cause::own(judged, pending) };
    decide(engine, judged, &gate, &cause, Phase::Firing, &format!("confirmed: {}", gate.as_str()), output);
}

/// Writes the decision, gives its orders and moves the alert.
fn decide(
    engine: &mut Engine,
    judged: &Judged,
    gate: &Gate,
    cause: &Cause,
    from: Phase,
    why: &str,
    output: &mut Output,
) {
    let crossing = engine.memory.alert(&judged.key).and_then(|a| a.crossing);
    let decision = decision(engine, judged, gate, cause, crossing.unwrap_or(cause.pending.first));
    let state = carry_out(engine, judged, decision, cause, output);
    let to = engine.memory.update(&judged.key, |alert| {
        alert.decided(state, judged.frame.closed);
        alert.phase()
    });
    note(output, judged, from, to, why);
}

/// The rollback was withheld and the breach goes on: act as soon as nothing stands in the way any more.
pub(super) fn withheld(
    engine: &mut Engine,
    judged: &Judged,
    firing: &Firing,
    pending: Pending,
    world: &World,
    output: &mut Output,
) {
    let gate = gate(engine, judged, world);
    let opens = match judged.rule.action {
        RuleAction::Rollback => matches!(gate, Gate::Act | Gate::AlreadyLatched),
        RuleAction::PauseRollout => gate == Gate::Act,
        RuleAction::Notify => false,
    };
    if !opens {
        return;
    }
    let cause = Cause { tries: firing.tries + 1, froze: firing.froze, ..Cause::own(judged, pending) };
    let why = format!("no longer withheld: {}", gate.as_str());
    decide(engine, judged, &gate, &cause, Phase::Firing, &why, output);
}

/// `no_data: pause`: silence has lasted, so the share is frozen.
pub(super) fn pause_on_silence(engine: &mut Engine, judged: &Judged, world: &World, output: &mut Output) {
    let pending = Pending::begin(judged.frame.closed, true);
    pause_instead(engine, judged, pending, Instead::Silence, world, output);
}

/// `confirm: significant`, and the breach has held within noise: the share is frozen and somebody is paged.
pub(super) fn doubted(
    engine: &mut Engine,
    judged: &Judged,
    pending: Pending,
    world: &World,
    output: &mut Output,
) {
    if judged.rule.action != RuleAction::Notify {
        pause_instead(engine, judged, pending, Instead::Noise, world, output);
    }
}

fn pause_instead(
    engine: &mut Engine,
    judged: &Judged,
    pending: Pending,
    instead: Instead,
    world: &World,
    output: &mut Output,
) {
    let action = RuleAction::PauseRollout;
    let gate = gate_of(engine, judged, action, world);
    let cause = Cause { action, instead: Some(instead), ..Cause::own(judged, pending) };
    let from = engine.memory.alert(&judged.key).map_or(Phase::Quiet, super::alert::Alert::phase);
    let why = match instead {
        Instead::Silence => "no data; `no_data: pause`",
        Instead::Noise => "held within noise; `confirm: significant`",
    };
    decide(engine, judged, &gate, &cause, from, why, output);
}

/// A firing alert has ended by itself.
pub(super) fn resolved(engine: &Engine, rule: &Rule, firing: &Firing, key: &AlertKey, output: &mut Output) {
    let why = format!("`{}` has cleared", rule.condition.source);
    ended(engine, key, rule.variant.as_str(), firing, &why, output);
}

/// A firing alert has ended: its pause lets the share move again, and those who heard of it are told.
pub(super) fn ended(
    engine: &Engine,
    key: &AlertKey,
    variant: &str,
    firing: &Firing,
    why: &str,
    output: &mut Output,
) {
    if firing.froze {
        unfreeze(engine, key, why, output);
    }
    let at = engine.memory.core.closed.map(closing_time).unwrap_or_default();
    output.orders.push(Order::Notify(message::resolved(key, variant, firing, why, at)));
}

/// Lets the share move again unless another alert, or a human, holds it too.
fn unfreeze(engine: &Engine, key: &AlertKey, why: &str, output: &mut Output) {
    let held_by_another = engine.memory.alerts().any(|(other, alert)| {
        other != key && other.flag == key.flag && matches!(&alert.state, State::Firing(f) if f.froze)
    });
    if !held_by_another && engine.memory.hold(&key.flag).is_none() {
        output.orders.push(Order::Unfreeze { flag: key.flag.clone(), why: why.to_owned(), by: None });
    }
}

fn gate(engine: &Engine, judged: &Judged, world: &World) -> Gate {
    gate_of(engine, judged, judged.rule.action, world)
}

/// What stands in front of a flip.
pub(super) fn gate_of(engine: &Engine, judged: &Judged, action: RuleAction, world: &World) -> Gate {
    let rule = &judged.rule;
    let scope = scope_of(rule, &judged.key.slice);
    if rule.dry_run || engine.settings.dry_run {
        return Gate::DryRun;
    }
    if action == RuleAction::Notify {
        return Gate::Act;
    }
    if engine.memory.latch(&rule.flag, &scope).is_some() {
        return Gate::AlreadyLatched;
    }
    let Some(flag) = flag_of(engine, rule) else {
        return Gate::UnknownFlag;
    };
    if let (RuleAction::Rollback, Scope::Only(..), Some(served)) = (action, &scope, &flag.served) {
        return Gate::NoSlices { platform: served.platform.clone() };
    }
    if !engine.memory.core.automation {
        return Gate::AutomationOff;
    }
    if action == RuleAction::PauseRollout {
        return Gate::Act;
    }
    if let Some(control) = control_breaches(engine, judged) {
        return Gate::WorldBreach { why: format!("control {control} breaches the same condition") };
    }
    // A drill neither waits for real trouble nor takes its place.
    if flag.drill {
        return Gate::Act;
    }
    if let Some(why) = world.is_breaking() {
        return Gate::WorldBreach { why };
    }
    flip_limit(engine, &scope, judged.frame.closed).unwrap_or(Gate::Act)
}

fn flip_limit(engine: &Engine, scope: &Scope, now: Minute) -> Option<Gate> {
    let limits = engine.settings.limits;
    let recent = || engine.memory.core.flips.iter().filter(|f| now.0 - f.at.0 < LIMIT_MINUTES);
    if recent().count() >= usize::try_from(limits.flips).unwrap_or(usize::MAX) {
        return Some(Gate::FlipLimit { limit: limits.flips, of: "in all".into() });
    }
    let Scope::Only(Dimension::Tenant, tenant) = scope else {
        return None;
    };
    let of_tenant = recent().filter(|f| f.scope == *scope).count();
    (of_tenant >= usize::try_from(limits.flips_per_tenant).unwrap_or(usize::MAX))
        .then(|| Gate::FlipLimit { limit: limits.flips_per_tenant, of: format!("of tenant {tenant}") })
}

fn decision(engine: &Engine, judged: &Judged, gate: &Gate, cause: &Cause, crossing: Minute) -> Decision {
    let rule = &judged.rule;
    let Cause { action, pending, .. } = *cause;
    let scope = scope_of(rule, &judged.key.slice);
    let evidence = evidence::collect(
        rule,
        &engine.fleet,
        &judged.key.slice,
        judged.frame,
        &judged.judgement,
        pending.held,
        &engine.settings.limits,
    );
    let id = decision_id(rule, &scope, pending.first, cause.tries);
    let incident = match (action, gate) {
        (RuleAction::Rollback, Gate::DryRun) | (RuleAction::PauseRollout | RuleAction::Notify, _) => None,
        (RuleAction::Rollback, _) => Some(match engine.memory.episode(&rule.flag) {
            Some(episode) => episode.incident.clone(),
            None => incident_id(&id),
        }),
    };
    Decision {
        id,
        key: judged.key.clone(),
        variant: rule.variant.clone(),
        control: control_of(engine, rule),
        scope,
        action,
        by: None,
        drill: false,
        confirmed_by: match cause.instead {
            Some(Instead::Silence) => None,
            Some(Instead::Noise) => Some(ConfirmedBy::Persistence),
            None => judged.judgement.by,
        },
        gate: gate.clone(),
        at: closing_time(judged.frame.closed),
        crossing: crossing.start(),
        t0: pending.first.start(),
        incident,
        severity: if cause.instead.is_some() { Severity::Warning } else { rule.severity },
        failure_class: rule.failure_class.clone(),
        condition: rule.condition.source.clone(),
        runbook: rule.runbook.clone(),
        owner: rule.owner.clone(),
        origin: rule.origin.clone(),
        evidence,
    }
}

/// The id of the incident that a decision opens.
pub(super) fn incident_id(decision: &DecisionId) -> IncidentId {
    IncidentId::new(format!("inc-{}", &decision.as_str()[..12]))
}

/// Hash of flag, scope, rule id, the rule's hash and the start of the breach: editing a runbook is no new decision.
fn decision_id(rule: &Rule, scope: &Scope, breach: Minute, tries: u32) -> DecisionId {
    let breach = breach.0.to_string();
    let tries = tries.to_string();
    let scope = scope.to_string();
    hashed(&[rule.flag.as_str(), &scope, rule.id.as_str(), &rule.hash.0, &breach, &tries])
}

/// A decision's id from what makes it one.
pub(super) fn hashed(parts: &[&str]) -> DecisionId {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part.as_bytes());
    }
    let hex = hasher.finalize().to_hex();
    DecisionId::new(&hex[..32])
}

/// Gives the orders of a decision and says the alert's new state.
fn carry_out(
    engine: &mut Engine,
    judged: &Judged,
    decision: Decision,
    cause: &Cause,
    output: &mut Output,
) -> State {
    let rule = &judged.rule;
    let acts = decision.gate == Gate::Act;
    let latched = decision.gate == Gate::AlreadyLatched;
    match decision.action {
        RuleAction::Rollback => roll_back(engine, judged, &decision, output),
        RuleAction::PauseRollout if acts => {
            let (id, flag) = (decision.id.clone(), rule.flag.clone());
            output.orders.push(Order::Freeze { decision: id, flag, by: None });
            // A rollback was asked for: somebody has to look at what was not rolled back.
            let wakes = cause.instead == Some(Instead::Noise) && rule.action == RuleAction::Rollback;
            tell(rule, &decision, wakes, output);
        }
        RuleAction::PauseRollout if latched => {}
        RuleAction::PauseRollout | RuleAction::Notify => tell(rule, &decision, false, output),
    }
    let state = if decision.action == RuleAction::Rollback && (acts || latched) {
        if cause.froze {
            unfreeze(engine, &judged.key, "control is served instead", output);
        }
        State::Latched { since: judged.frame.closed, decision: decision.id.clone() }
    } else {
        State::Firing(Firing {
            since: judged.frame.closed,
            first: cause.pending.first,
            held: cause.pending.held,
            decision: decision.id.clone(),
            action: decision.action,
            incident: decision.incident.clone(),
            acted: acts,
            withheld: (!acts).then(|| decision.gate.clone()),
            froze: cause.froze || (acts && decision.action == RuleAction::PauseRollout),
            // What was withheld is looked at again while the same breach goes on.
            rising: (!acts && decision.action == rule.action).then_some(cause.pending),
            tries: cause.tries,
            clear: 0,
        })
    };
    output.decisions.push(decision);
    state
}

fn roll_back(engine: &mut Engine, judged: &Judged, decision: &Decision, output: &mut Output) {
    let rule = &judged.rule;
    let Some(incident) = decision.incident.clone() else {
        // Dry run: say so, wake nobody.
        tell(rule, decision, false, output);
        return;
    };
    let joins = engine.memory.episode(&rule.flag).is_some();
    if joins {
        output.orders.push(Order::JoinIncident { incident: incident.clone(), decision: decision.id.clone() });
    } else {
        engine.memory.core.episodes.push(Episode {
            incident: incident.clone(),
            flag: rule.flag.clone(),
            opened: judged.frame.closed,
            quiet_since: None,
        });
        output.orders.push(Order::OpenIncident(Box::new(IncidentOrder {
            incident: incident.clone(),
            flag: rule.flag.clone(),
            variant: rule.variant.clone(),
            decision: decision.id.clone(),
            severity: decision.severity,
            failure_class: decision.failure_class.clone(),
            title: title(decision),
            at: decision.at,
        })));
    }
    if decision.gate == Gate::Act
        && let Some(control) = decision.control.clone()
    {
        latch(engine, judged, decision, incident, output);
        output.orders.push(Order::Pin {
            decision: decision.id.clone(),
            flag: rule.flag.clone(),
            scope: decision.scope.clone(),
            control,
            by: None,
        });
    }
    if decision.gate != Gate::AlreadyLatched {
        tell(rule, decision, true, output);
    }
}

fn latch(
    engine: &mut Engine,
    judged: &Judged,
    decision: &Decision,
    incident: IncidentId,
    output: &mut Output,
) {
    let closed = judged.frame.closed;
    let events_before = pace(engine, &decision.variant, closed);
    engine.memory.core.latches.push(Latch {
        flag: decision.key.flag.clone(),
        scope: decision.scope.clone(),
        variant: decision.variant.clone(),
        decision: decision.id.clone(),
        incident: incident.clone(),
        at: decision.at,
        outcome: None,
        flipped_at: None,
        events_before,
        escalated: false,
        by_hand: false,
    });
    if !engine.settings.is_drill(&decision.key.flag) {
        engine.memory.core.flips.push(Flip {
            at: closed,
            flag: decision.key.flag.clone(),
            scope: decision.scope.clone(),
        });
    }
    output.latches.push(LatchChange::Open {
        flag: decision.key.flag.clone(),
        scope: decision.scope.clone(),
        decision: decision.id.clone(),
        incident,
        at: decision.at,
    });
}

/// Events per minute of a variant in the hour up to a closing.
pub(super) fn pace(engine: &Engine, variant: &Variant, closed: Minute) -> f64 {
    let found = engine.fleet.schema().find(variant.as_str());
    found.map_or(0.0, |variant| engine.fleet.pace_between(variant, closed.plus(-59), closed))
}

/// Pages or notifies, as the rule and the action say.
fn tell(rule: &Rule, decision: &Decision, wakes: bool, output: &mut Output) {
    let message = message::decided(rule, decision);
    let pages = match &rule.page {
        Page::Default => wakes,
        Page::Never => false,
        Page::Always | Page::Receiver(_) => decision.gate != Gate::DryRun,
    };
    output.orders.push(if pages { Order::Page(message) } else { Order::Notify(message) });
}

fn title(decision: &Decision) -> String {
    let Evidence { value, unit, .. } = &decision.evidence;
    let value = value.map(|v| format!(" at {}", message::number(v, unit))).unwrap_or_default();
    format!("{}: {} — `{}`{value}", decision.variant, decision.failure_class, decision.condition)
}

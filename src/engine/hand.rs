//! The operator's hand: roll back, pause, resume. A human's word is no automation, so neither `automation off`, dry runs, limits
//! nor the world check stand in its way; a rollback latches as a rule's does, and only a re-arm takes it off.

use super::alert::State;
use super::decide;
use super::input::{Command, FlipOutcome};
use super::machine::Engine;
use super::memory::{Episode, Hold, Latch};
use super::message;
use super::output::{
    AlertKey, ByHand, CommandError, Decision, Evidence, Gate, IncidentOrder, LatchChange, Order, Output,
    Reply,
};
use super::rule::{Origin, RuleAction, RuleHash};
use crate::model::flag::{FlagSpec, Scope};
use crate::model::id::{DecisionId, FlagKey, IncidentId};
use crate::model::incident::Severity;

/// What stands where a rule's id would.
pub const BY_HAND: &str = "by-hand";

/// Pins control in `scope`. Where that is done already, or under way by hand, nothing new is decided; where a flip has failed,
/// was left, or is still being tried by a rule, a human's takes its place.
pub(super) fn roll_back(
    engine: &mut Engine,
    flag: &FlagKey,
    scope: &Scope,
    command: &Command,
    output: &mut Output,
) -> Result<Reply, CommandError> {
    let spec = spec(engine, flag)?;
    if let (Scope::Only(..), Some(served)) = (scope, &spec.served) {
        return Err(CommandError::NoSlices { flag: flag.clone(), platform: served.platform.clone() });
    }
    let latched = engine.memory.latch(flag, scope).cloned();
    if let Some(latch) = latched.as_ref().filter(|latch| stands(latch)) {
        let how = match latch.outcome {
            Some(_) => "is rolled back already",
            None => "is being rolled back already",
        };
        return Ok(Reply {
            said: format!("flag {flag} {how} ({}), by decision {}; nothing new", latch.scope, latch.decision),
            decision: Some(latch.decision.clone()),
        });
    }
    let scope = latched.as_ref().map_or(scope, |latch| &latch.scope);
    let mut decision = decision(engine, &spec, scope, RuleAction::Rollback, command);
    let incident = join_or_open(engine, &decision, command, output);
    decision.incident = Some(incident.clone());
    match &latched {
        Some(latch) => latch_again(engine, latch, &decision, output),
        None => latch_anew(engine, &decision, incident, output),
    }
    output.orders.push(Order::Pin {
        decision: decision.id.clone(),
        flag: flag.clone(),
        scope: scope.clone(),
        control: spec.control.clone(),
        by: Some(command.actor.clone()),
    });
    output.orders.push(Order::Page(message::by_hand(&decision, command)));
    let again = if latched.is_some() { " again" } else { "" };
    let said = format!("flag {flag} is being rolled back{again} ({scope}), by decision {}", decision.id);
    let reply = Reply { said, decision: Some(decision.id.clone()) };
    output.decisions.push(decision);
    Ok(reply)
}

/// Whether a latch needs no second flip: control was read back and is served, or a human's flip is under way.
fn stands(latch: &Latch) -> bool {
    match latch.outcome {
        Some(FlipOutcome::Verified | FlipOutcome::AlreadySafe) => !latch.escalated,
        None => latch.by_hand,
        Some(FlipOutcome::Superseded | FlipOutcome::Failed | FlipOutcome::Expired) => false,
    }
}

/// Holds the share where it stands until [`resume`], whatever rules say meanwhile.
pub(super) fn pause(
    engine: &mut Engine,
    flag: &FlagKey,
    command: &Command,
    output: &mut Output,
) -> Result<Reply, CommandError> {
    let spec = spec(engine, flag)?;
    let holds =
        |hold: &&Hold| matches!(hold.outcome, None | Some(FlipOutcome::Verified | FlipOutcome::AlreadySafe));
    if let Some(hold) = engine.memory.hold(flag).filter(holds) {
        return Ok(Reply {
            said: format!(
                "flag {flag} is paused by hand already, by decision {}; nothing new",
                hold.decision
            ),
            decision: Some(hold.decision.clone()),
        });
    }
    let decision = decision(engine, &spec, &Scope::All, RuleAction::PauseRollout, command);
    let holds = &mut engine.memory.core.holds;
    holds.retain(|hold| hold.flag != *flag);
    holds.push(Hold { flag: flag.clone(), decision: decision.id.clone(), outcome: None });
    output.orders.push(Order::Freeze {
        decision: decision.id.clone(),
        flag: flag.clone(),
        by: Some(command.actor.clone()),
    });
    output.orders.push(Order::Notify(message::by_hand(&decision, command)));
    let said = format!("the share of flag {flag} is being held, by decision {}", decision.id);
    let reply = Reply { said, decision: Some(decision.id.clone()) };
    output.decisions.push(decision);
    Ok(reply)
}

/// Lets the share move again. A rule whose pause is ended so stays quiet about it until its breach has cleared.
pub(super) fn resume(
    engine: &mut Engine,
    flag: &FlagKey,
    command: &Command,
    output: &mut Output,
) -> Result<Reply, CommandError> {
    spec(engine, flag)?;
    let hold = engine.memory.hold(flag).cloned();
    engine.memory.core.holds.retain(|hold| hold.flag != *flag);
    let froze: Vec<AlertKey> = engine
        .memory
        .alerts()
        .filter(|(key, alert)| key.flag == *flag && matches!(&alert.state, State::Firing(f) if f.froze))
        .map(|(key, _)| key.clone())
        .collect();
    if hold.is_none() && froze.is_empty() {
        return Err(CommandError::NotPaused { flag: flag.clone() });
    }
    for key in &froze {
        engine.memory.update(key, |alert| {
            if let State::Firing(firing) = &mut alert.state {
                firing.froze = false;
            }
        });
    }
    let why = format!("resumed by {}: {}", command.actor, command.reason);
    if let Some(hold) = hold {
        output.orders.push(Order::Notify(message::resumed(flag, &hold.decision, &why, command.at)));
    }
    output.orders.push(Order::Unfreeze { flag: flag.clone(), why, by: Some(command.actor.clone()) });
    let rules = match froze.len() {
        0 => String::new(),
        1 => "; a rule had paused it too".into(),
        n => format!("; {n} rules had paused it too"),
    };
    Ok(format!("the share of flag {flag} may move again{rules}").into())
}

fn spec(engine: &Engine, flag: &FlagKey) -> Result<FlagSpec, CommandError> {
    let found = engine.settings.flags.iter().find(|spec| spec.key == *flag);
    found.cloned().ok_or_else(|| CommandError::UnknownFlag { flag: flag.clone() })
}

fn decision(
    engine: &mut Engine,
    spec: &FlagSpec,
    scope: &Scope,
    action: RuleAction,
    command: &Command,
) -> Decision {
    engine.memory.core.by_hand += 1;
    let id = decision_id(spec, scope, action, command, engine.memory.core.by_hand);
    Decision {
        id,
        key: AlertKey {
            flag: spec.key.clone(),
            rule: BY_HAND.into(),
            hash: RuleHash(String::new()),
            slice: scope.clone(),
        },
        variant: spec.treatment.clone(),
        control: Some(spec.control.clone()),
        scope: scope.clone(),
        action,
        by: Some(ByHand { actor: command.actor.clone(), reason: command.reason.clone() }),
        drill: false,
        confirmed_by: None,
        gate: Gate::Act,
        at: command.at,
        crossing: command.at,
        t0: command.at,
        incident: None,
        severity: if action == RuleAction::Rollback { Severity::Critical } else { Severity::Info },
        failure_class: "by_hand".into(),
        condition: format!("by hand: {}", command.reason),
        runbook: None,
        owner: None,
        origin: Origin::default(),
        evidence: Evidence {
            statement: format!("{}: {}", command.actor, command.reason),
            ..Evidence::default()
        },
    }
}

fn decision_id(
    spec: &FlagSpec,
    scope: &Scope,
    action: RuleAction,
    command: &Command,
    number: u64,
) -> DecisionId {
    let (scope, at, number) = (scope.to_string(), command.at.as_millis().to_string(), number.to_string());
    decide::hashed(&[spec.key.as_str(), &scope, BY_HAND, action.as_str(), &command.actor, &at, &number])
}

fn join_or_open(
    engine: &mut Engine,
    decision: &Decision,
    command: &Command,
    output: &mut Output,
) -> IncidentId {
    let flag = &decision.key.flag;
    if let Some(episode) = engine.memory.episode(flag) {
        let incident = episode.incident.clone();
        output.orders.push(Order::JoinIncident { incident: incident.clone(), decision: decision.id.clone() });
        return incident;
    }
    let incident = decide::incident_id(&decision.id);
    engine.memory.core.episodes.push(Episode {
        incident: incident.clone(),
        flag: flag.clone(),
        opened: engine.memory.core.closed.unwrap_or_else(|| command.at.minute()),
        quiet_since: None,
    });
    output.orders.push(Order::OpenIncident(Box::new(IncidentOrder {
        incident: incident.clone(),
        flag: flag.clone(),
        variant: decision.variant.clone(),
        decision: decision.id.clone(),
        severity: decision.severity,
        failure_class: decision.failure_class.clone(),
        title: format!("{}: rolled back by {}: {}", decision.variant, command.actor, command.reason),
        at: decision.at,
    })));
    incident
}

fn latch_anew(engine: &mut Engine, decision: &Decision, incident: IncidentId, output: &mut Output) {
    let closed = engine.memory.core.closed;
    let latch = Latch {
        flag: decision.key.flag.clone(),
        scope: decision.scope.clone(),
        variant: decision.variant.clone(),
        decision: decision.id.clone(),
        incident: incident.clone(),
        at: decision.at,
        outcome: None,
        flipped_at: None,
        events_before: closed.map_or(0.0, |closed| decide::pace(engine, &decision.variant, closed)),
        escalated: false,
        by_hand: true,
    };
    output.latches.push(LatchChange::Open {
        flag: latch.flag.clone(),
        scope: latch.scope.clone(),
        decision: latch.decision.clone(),
        incident,
        at: latch.at,
    });
    engine.memory.core.latches.push(latch);
}

/// The latch stays; what it waits for is the human's flip now.
fn latch_again(engine: &mut Engine, old: &Latch, decision: &Decision, output: &mut Output) {
    if old.escalated {
        let told = message::serves_no_more(old, "rolled back again by hand", decision.at);
        output.orders.push(Order::Notify(told));
    }
    let latches = &mut engine.memory.core.latches;
    if let Some(latch) =
        latches.iter_mut().find(|latch| latch.decision == old.decision && latch.scope == old.scope)
    {
        latch.decision = decision.id.clone();
        latch.outcome = None;
        latch.flipped_at = None;
        latch.escalated = false;
        latch.by_hand = true;
    }
    output.latches.push(LatchChange::Retry {
        flag: old.flag.clone(),
        scope: old.scope.clone(),
        decision: decision.id.clone(),
    });
}

//! What receivers are told, in words. Numbers come from evidence; what became of a flip is added by dispatch.

use std::ops::Range;

use super::alert::Firing;
use super::input::{Command, Source};
use super::memory::Latch;
use super::output::{AlertKey, Decision, Evidence, Gate, Message, MessageKind};
use super::rule::{Page, Rule, RuleAction};
use super::verdict::Reason;
use crate::model::flag::Scope;
use crate::model::id::{DecisionId, FlagKey};
use crate::model::incident::Severity;
use crate::model::time::{Minute, Timestamp};

/// A message about a decision.
pub fn decided(rule: &Rule, decision: &Decision) -> Message {
    Message {
        dedup_key: dedup_key(decision),
        kind: super::machine::kind_of(decision.action),
        severity: decision.severity,
        flag: Some(decision.key.flag.clone()),
        variant: Some(decision.variant.clone()),
        decision: Some(decision.id.clone()),
        incident: decision.incident.clone(),
        summary: summary(decision),
        detail: detail(decision),
        receiver: match &rule.page {
            Page::Receiver(name) => Some(name.clone()),
            Page::Default | Page::Never | Page::Always => None,
        },
        at: decision.at,
    }
}

/// A human rolls back or pauses.
pub fn by_hand(decision: &Decision, command: &Command) -> Message {
    let act = if decision.action == RuleAction::Rollback { "rolled back" } else { "paused" };
    Message {
        flag: Some(decision.key.flag.clone()),
        variant: Some(decision.variant.clone()),
        decision: Some(decision.id.clone()),
        incident: decision.incident.clone(),
        summary: format!(
            "{}{}: {act} by {}: {}",
            decision.variant,
            slice_words(&decision.key.slice),
            command.actor,
            command.reason
        ),
        ..system(
            super::machine::kind_of(decision.action),
            decision.severity,
            dedup_key(decision),
            decision.at,
        )
    }
}

/// A human has ended a pause by hand.
pub fn resumed(flag: &FlagKey, paused: &DecisionId, why: &str, at: Timestamp) -> Message {
    Message {
        flag: Some(flag.clone()),
        summary: format!("{flag}: {why}"),
        ..system(MessageKind::Resolved, Severity::Info, format!("rearguard/{flag}/{paused}"), at)
    }
}

/// The key under which every system knows this episode.
pub fn dedup_key(decision: &Decision) -> String {
    match &decision.incident {
        Some(incident) => format!("rearguard/{}/{incident}", decision.key.flag),
        None => format!("rearguard/{}/{}", decision.key.flag, decision.id),
    }
}

/// A message about an alert that is neither a decision nor its end: silence, or a breach hidden by a burst.
pub fn notice(rule: &Rule, kind: MessageKind, scope: &Scope, reason: &Reason, at: Timestamp) -> Message {
    let slice = slice_words(scope);
    let word = if kind == MessageKind::Masked { "masked" } else { "silent" };
    Message {
        dedup_key: format!("rearguard/{}/{word}/{}/{scope}", rule.flag, rule.id),
        kind,
        severity: Severity::Warning,
        flag: Some(rule.flag.clone()),
        variant: Some(rule.variant.clone()),
        decision: None,
        incident: None,
        summary: format!("{}{slice}: `{}` is {word}: {reason}", rule.variant, rule.condition.source),
        detail: String::new(),
        receiver: None,
        at,
    }
}

/// An alert has resolved.
pub fn resolved(key: &AlertKey, variant: &str, firing: &Firing, why: &str, at: Timestamp) -> Message {
    let dedup_key = match &firing.incident {
        Some(incident) => format!("rearguard/{}/{incident}/{}", key.flag, key.rule),
        None => format!("rearguard/{}/{}", key.flag, firing.decision),
    };
    Message {
        flag: Some(key.flag.clone()),
        variant: Some(variant.into()),
        summary: format!("{variant}{}: {why}", slice_words(&key.slice)),
        ..system(MessageKind::Resolved, Severity::Info, dedup_key, at)
    }
}

/// Rearguard cannot judge.
pub fn blind(since: Timestamp, why: &str, at: Timestamp) -> Message {
    Message {
        summary: format!("Rearguard is BLIND since {since}: {why}"),
        detail: "Nothing is judged and nothing is flipped until events arrive again and windows have caught up. The ten-minute \
                 promise is void meanwhile."
            .into(),
        ..system(MessageKind::Blind, Severity::Critical, format!("rearguard/blind/{}", since.as_millis()), at)
    }
}

/// Rearguard can judge again.
pub fn sighted(since: Timestamp, at: Timestamp) -> Message {
    Message {
        summary: format!("Rearguard sees again, after {} s", at.since(since).as_secs()),
        ..system(MessageKind::Resolved, Severity::Info, format!("rearguard/blind/{}", since.as_millis()), at)
    }
}

/// Offsets of a source are missing.
pub fn gap(source: &Source, missing: Range<i64>, why: &str, at: Timestamp) -> Message {
    let source = format!("{}/{}", source.topic, source.partition);
    Message {
        summary: format!(
            "{source}: offsets {}..{} are not in the windows: {why}",
            missing.start, missing.end
        ),
        detail: "Reading goes on behind the gap. Rules are inconclusive, and roll nothing back, until their windows have left \
                 it behind."
            .into(),
        ..system(
            MessageKind::Gap,
            Severity::Critical,
            format!("rearguard/gap/{source}/{}", missing.start),
            at,
        )
    }
}

/// Events of a rolled-back variant keep coming, so many a minute.
pub fn still_serving(latch: &Latch, per_minute: f64, at: Timestamp) -> Message {
    Message {
        summary: format!(
            "{} is STILL SERVING after its rollback: {per_minute:.1} events/min, {:.1} before",
            latch.variant, latch.events_before
        ),
        detail: "The flip was read back, yet the variant's own traffic has not stopped. Some caller does not ask the flag, or \
                 caches it: look there."
            .into(),
        ..escalation(MessageKind::StillServing, Severity::Critical, latch, at)
    }
}

/// The end of [`still_serving`].
pub fn serves_no_more(latch: &Latch, why: &str, at: Timestamp) -> Message {
    Message {
        summary: format!("{}: {why}", latch.variant),
        ..escalation(MessageKind::Resolved, Severity::Info, latch, at)
    }
}

fn escalation(kind: MessageKind, severity: Severity, latch: &Latch, at: Timestamp) -> Message {
    Message {
        flag: Some(latch.flag.clone()),
        variant: Some(latch.variant.clone()),
        incident: Some(latch.incident.clone()),
        ..system(kind, severity, format!("rearguard/{}/still-serving/{}", latch.flag, latch.decision), at)
    }
}

fn system(kind: MessageKind, severity: Severity, dedup_key: String, at: Timestamp) -> Message {
    Message {
        dedup_key,
        kind,
        severity,
        flag: None,
        variant: None,
        decision: None,
        incident: None,
        summary: String::new(),
        detail: String::new(),
        receiver: None,
        at,
    }
}

fn summary(decision: &Decision) -> String {
    let act = match (decision.action, &decision.gate) {
        (RuleAction::Rollback, Gate::Act) => "rolling back to control",
        (RuleAction::Rollback, Gate::AlreadyLatched) => "already rolled back",
        (RuleAction::Rollback, Gate::DryRun) => "dry run, would roll back",
        (RuleAction::Rollback, _) => "NOT rolled back, act by hand",
        (RuleAction::PauseRollout, Gate::Act) => "pausing the rollout",
        (RuleAction::PauseRollout, Gate::DryRun) => "dry run, would pause",
        (RuleAction::PauseRollout, _) => "rollout not paused",
        (RuleAction::Notify, _) => "notice",
    };
    format!(
        "{}{}: {} ({act})",
        decision.variant,
        slice_words(&decision.key.slice),
        breach(&decision.condition, &decision.evidence)
    )
}

fn breach(condition: &str, evidence: &Evidence) -> String {
    match evidence.value {
        Some(value) => format!("`{condition}` at {}", number(value, &evidence.unit)),
        None => format!("`{condition}`"),
    }
}

fn detail(decision: &Decision) -> String {
    let e = &decision.evidence;
    let about = if e.tenants_exact { "" } else { "about " };
    let mut text = format!(
        "{} samples over {} min, {} bad minutes, {about}{} tenants. In breach since {}.",
        e.samples, e.window_minutes, e.bad_minutes, e.tenants, decision.t0
    );
    if decision.gate != Gate::DryRun
        && let Some(why) = decision.gate.withholds()
    {
        text.push_str(&format!(" Nothing was flipped: {why}."));
    }
    if e.within_noise {
        text.push_str(" The breach has lasted, but within noise: the share is held instead of rolled back.");
    }
    if let Some(by) = decision.confirmed_by {
        text.push_str(&format!(" Confirmed by {}: {}.", by.as_str(), e.statement));
    }
    text
}

/// A number as people read it: four significant digits and its unit.
pub fn number(value: f64, unit: &str) -> String {
    let magnitude = value.abs().max(1e-9).log10().floor();
    let decimals = (3.0 - magnitude).clamp(0.0, 6.0) as usize;
    let digits = format!("{value:.decimals$}");
    if unit.is_empty() { digits } else { format!("{digits} {unit}") }
}

fn slice_words(scope: &Scope) -> String {
    match scope {
        Scope::All => String::new(),
        Scope::Only(dimension, value) => format!(" ({} {value})", dimension.as_str()),
    }
}

/// Event time of a closing: the end of its minute.
pub const fn closing_time(minute: Minute) -> Timestamp {
    minute.end()
}

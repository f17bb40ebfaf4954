//! What happens when a minute closes: every rule is judged on every slice, then alerts move, strongest action first.

mod late;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use late::why_no_pass;

use super::alert::{Alert, Change, Closing, State};
use super::canary;
use super::decide;
use super::detector::Track;
use super::fleet::RuleView;
use super::gate::Gate;
use super::grounds::Grounds;
use super::input::Settings;
use super::interval::interval;
use super::machine::Engine;
use super::measure::{self, Frame};
use super::message::{self, closing_time};
use super::output::{AlertKey, AlertReport, MessageKind, Order, Output, Phase, Transition, Verdicts};
use super::rule::eval::truth;
use super::rule::{ConfirmedBy, Rule, RuleAction, Shape, Window};
use super::verdict::{Gathered, Judgement, Reason, Verdict, judge, limit};
use crate::model::flag::{FlagSpec, Scope};
use crate::model::id::{FlagKey, Variant};
use crate::model::time::Minute;

/// Minutes that a flag must be quiet before its incident closes by itself.
const QUIET_MINUTES: i64 = 15;
/// Minutes after a verified flip before the variant's own traffic must have stopped.
const STOP_MINUTES: i64 = 10;
/// The share of its earlier traffic that a rolled-back variant may still have, for judges that score late.
const STOP_SHARE: f64 = 0.1;
/// Totals are compared with their panes this often.
const AUDIT_EVERY: i64 = 60;

/// One alert at one closing.
pub(super) struct Judged {
    pub rule: Arc<Rule>,
    pub key: AlertKey,
    pub frame: Frame,
    pub judgement: Judgement,
    /// The first minute that counts as evidence, and c; `None` where there is no evidence to gather.
    pub evidence: Option<(Minute, f64)>,
    /// The last minute that events are missing from, if that reaches into the window.
    pub missing: Option<Minute>,
}

/// Judges everything at the closing of `minute`.
pub(super) fn close(engine: &mut Engine, minute: Minute, output: &mut Output) {
    let blind = engine.why_not_armed();
    let armed = blind.is_none();
    let mut judged = judge_all(engine, minute, armed);
    judged.sort_by_key(|j| std::cmp::Reverse(j.rule.action));
    let world = World::of(judged.iter().map(|j| (&*j.rule, &j.judgement)), &engine.settings.flags);
    for one in judged {
        count(&mut output.verdicts, &one.judgement.verdict.seen(blind.as_ref()));
        move_alert(engine, one, armed, &world, output);
    }
    engine.canary = canary::judged(engine, minute, armed);
    second_proof(engine, minute, output);
    close_quiet_episodes(engine, minute, output);
    forget_old(engine, minute);
    if minute.0 % AUDIT_EVERY == 0 {
        output.rebuilt += engine.fleet.audit();
    }
}

fn count(verdicts: &mut Verdicts, verdict: &Verdict) {
    match verdict {
        Verdict::Pass => verdicts.pass += 1,
        Verdict::Breach => verdicts.breach += 1,
        Verdict::Inconclusive { .. } => verdicts.inconclusive += 1,
        Verdict::Error { .. } => verdicts.error += 1,
    }
}

/// Every rule on every slice. Tracks of rules and slices that are gone are dropped.
fn judge_all(engine: &mut Engine, minute: Minute, armed: bool) -> Vec<Judged> {
    let mut before = std::mem::take(&mut engine.tracks);
    let engine_now = &*engine;
    let subjects: Vec<(&Arc<Rule>, Scope)> = engine_now
        .settings
        .rules
        .rules
        .iter()
        .flat_map(|rule| scopes(engine_now, rule).into_iter().map(move |slice| (rule, slice)))
        .collect();
    let needed = needed_evidence(&subjects, &engine_now.settings);
    let incomplete = incomplete(engine_now);
    let mut tracks = BTreeMap::new();
    let mut judged = Vec::with_capacity(subjects.len());
    for (rule, slice) in subjects {
        let key = rule.key(&slice);
        let frame = Frame { closed: minute, floor: engine_now.memory.floor(&rule.variant, &slice) };
        let view = view_of(engine_now, rule, &slice);
        let track = rule.confirm.by_evidence().then(|| {
            let catalogue = engine_now.fleet.schema().catalogue();
            before.remove(&key).or_else(|| Track::new(&rule.condition, catalogue).ok())
        });
        let track = track.flatten().map(|mut track| {
            track.follow(&view, minute, f64::from(engine_now.settings.limits.minute_cap));
            track
        });
        let since = engine_now.memory.alert(&key).and_then(|alert| alert.evidence_since).unwrap_or(minute);
        let since = since.max(frame.floor);
        let gathered = track.as_ref().map(|track| Gathered { track, since, needed });
        let mut judgement = judge(rule, &view, frame, armed, gathered);
        if judgement.verdict == Verdict::Pass
            && let Some(reason) = why_no_pass(engine_now, rule, &slice, &view, frame)
        {
            judgement.withdraw(reason);
        }
        let missing = incomplete.filter(|until| frame.from(rule.condition.window()) <= *until);
        if let Some(until) = missing {
            judgement.withdraw(Reason::Missing { until });
        }
        let evidence = track.as_ref().map(|_| (since, needed));
        if let Some(track) = track {
            tracks.insert(key.clone(), track);
        }
        judged.push(Judged { rule: Arc::clone(rule), key, frame, judgement, evidence, missing });
    }
    engine.tracks = tracks;
    judged
}

/// The last minute that events are missing from, because they could not be read.
fn incomplete(engine: &Engine) -> Option<Minute> {
    engine.memory.core.sources.incomplete(engine.settings.lateness)
}

/// The slices that a rule is judged on.
fn scopes(engine: &Engine, rule: &Rule) -> Vec<Scope> {
    let Some(dimension) = rule.by else { return vec![Scope::All] };
    let own = engine.fleet.schema().find(rule.variant.as_str());
    own.map(|own| engine.fleet.slices(own, dimension).map(|v| Scope::Only(dimension, v.clone())).collect())
        .unwrap_or_default()
}

/// What a rule reads on a slice.
pub(super) fn view_of<'a>(engine: &'a Engine, rule: &Rule, slice: &'a Scope) -> RuleView<'a> {
    let schema = engine.fleet.schema();
    let own = schema.find(rule.variant.as_str());
    let baseline = rule.baseline.as_ref().and_then(|b| schema.find(b.as_str()));
    RuleView::new(&engine.fleet, own, baseline, slice)
}

/// c: the evidence at which, over all rollback rules on all their slices, one false rollback is to be expected in
/// `false_rollback_every`. Each of them alarms falsely once in c minutes on average. Drills are no false rollbacks.
fn needed_evidence(subjects: &[(&Arc<Rule>, Scope)], settings: &Settings) -> f64 {
    let counts = |rule: &Rule| rule.action == RuleAction::Rollback && !settings.is_drill(&rule.flag);
    let rollbacks = subjects.iter().filter(|(rule, _)| counts(rule)).count().max(1);
    rollbacks as f64 * settings.limits.false_rollback_every.as_secs_f64() / 60.0
}

fn move_alert(engine: &mut Engine, judged: Judged, armed: bool, world: &World, output: &mut Output) {
    let Judged { rule, key, frame, judgement, .. } = &judged;
    let scope = decide::scope_of(rule, &key.slice);
    let firing = matches!(engine.memory.alert(key).map(|a| &a.state), Some(State::Firing(_)));
    let closing = Closing {
        rule,
        judgement,
        at: frame.closed,
        armed,
        clear: if firing { clears(engine, rule, &key.slice, *frame) } else { None },
        latched: engine.memory.latch(&rule.flag, &scope).is_some(),
    };
    let (before, decided) = (engine.memory.alert(key).cloned(), output.decisions.len());
    let (from, to, change, notices) = engine.memory.update(key, |alert| {
        let from = alert.phase();
        let change = alert.close(&closing);
        (from, alert.phase(), change, alert.notices(&closing))
    });
    let decides = matches!(change, Change::Confirmed(_) | Change::Doubted(_) | Change::Escalated(..));
    if from != to && !decides {
        note(output, &judged, from, to, &words(&change, judgement));
    }
    match change {
        Change::None | Change::Began | Change::Ended => {}
        Change::Confirmed(pending) => decide::confirmed(engine, &judged, pending, from, world, output),
        Change::Doubted(pending) => decide::doubted(engine, &judged, pending, world, output),
        Change::Escalated(firing, pending) => {
            decide::escalated(engine, &judged, &firing, pending, world, output);
        }
        Change::Withheld(firing, pending) => {
            decide::withheld(engine, &judged, &firing, pending, world, output);
        }
        Change::Resolved(firing) => decide::resolved(engine, rule, &firing, key, output),
    }
    let at = closing_time(frame.closed);
    if notices.silence {
        let kind = MessageKind::NoData;
        output.orders.push(Order::Notify(message::notice(rule, kind, &key.slice, &Reason::NoData, at)));
    }
    if notices.pause_on_silence {
        decide::pause_on_silence(engine, &judged, world, output);
    }
    if let (true, Verdict::Inconclusive { reason }) = (notices.masked, &judgement.verdict) {
        let kind = MessageKind::Masked;
        output.orders.push(Order::Notify(message::notice(rule, kind, &key.slice, reason, at)));
    }
    for decision in &output.decisions[decided..] {
        let before = before.clone().unwrap_or_default();
        output.grounds.push(Grounds::take(engine, &judged, decision, before, &closing));
    }
    engine.last.insert(key.clone(), judged.judgement);
}

/// Whether `clear` holds on the window and on its recent part.
fn clears(engine: &Engine, rule: &Rule, slice: &Scope, frame: Frame) -> Option<bool> {
    match cleared(engine, rule, slice, frame) {
        (Some(false), _) | (_, Some(false)) => Some(false),
        (Some(true), Some(true)) => Some(true),
        (None, _) | (_, None) => None,
    }
}

/// Whether `clear` holds on the window, and whether on its recent part; `None` where that is not known.
pub(super) fn cleared(
    engine: &Engine,
    rule: &Rule,
    slice: &Scope,
    frame: Frame,
) -> (Option<bool>, Option<bool>) {
    if incomplete(engine).is_some_and(|until| frame.from(rule.clear.window()) <= until) {
        return (None, None);
    }
    let view = view_of(engine, rule, slice);
    let slots = &rule.clear.slots;
    let full = truth(&rule.clear.expr, &mut |slot| measure::full(&view, &slots[slot], frame));
    let recent = truth(&rule.clear.expr, &mut |slot| measure::recent(&view, &slots[slot], frame));
    (full.ok(), recent.ok())
}

/// Whether the control of a flag breaches a rule's own condition: over the window, or over its recent part where evidence has
/// confirmed the breach before the window crossed. Rules that compare with the baseline have their answer in the comparison.
pub(super) fn control_breaches(engine: &Engine, judged: &Judged) -> Option<Variant> {
    let Judged { rule, key, frame, judgement, .. } = judged;
    if rule.condition.reads_baseline() {
        return None;
    }
    let control = decide::control_of(engine, rule).filter(|c| *c != rule.variant)?;
    let id = engine.fleet.schema().find(control.as_str());
    let view = RuleView::new(&engine.fleet, id, None, &key.slice);
    let slots = &rule.condition.slots;
    let full = || truth(&rule.condition.expr, &mut |slot| measure::full(&view, &slots[slot], *frame));
    let recent = || truth(&rule.condition.expr, &mut |slot| measure::recent(&view, &slots[slot], *frame));
    let early = judgement.by == Some(ConfirmedBy::Evidence);
    (full() == Ok(true) || (early && recent() == Ok(true))).then_some(control)
}

/// How many fresh variants breach together.
#[derive(Debug, Default)]
pub(super) struct World {
    fresh: BTreeSet<Variant>,
    breaching: BTreeSet<Variant>,
    flags: BTreeSet<FlagKey>,
}

impl World {
    pub(super) fn of<'a>(
        judged: impl Iterator<Item = (&'a Rule, &'a Judgement)>,
        flags: &[FlagSpec],
    ) -> Self {
        let mut world = Self::default();
        for (rule, judgement) in judged.filter(|(rule, _)| rule.action == RuleAction::Rollback) {
            let drill = flags.iter().any(|f| f.drill && f.key == rule.flag);
            if drill || flags.iter().any(|f| f.control == rule.variant) || judgement.literal.is_none() {
                continue;
            }
            world.fresh.insert(rule.variant.clone());
            world.flags.insert(rule.flag.clone());
            if judgement.verdict == Verdict::Breach {
                world.breaching.insert(rule.variant.clone());
            }
        }
        world
    }

    /// More than half of at least four fresh variants on at least three flags.
    pub(super) fn is_breaking(&self) -> Option<String> {
        let breaks =
            self.fresh.len() >= 4 && self.flags.len() >= 3 && self.breaching.len() * 2 > self.fresh.len();
        breaks.then(|| format!("{} of {} variants breach together", self.breaching.len(), self.fresh.len()))
    }
}

/// The flipped variant's own traffic must fall to about zero; a human hears when it has not, and when it has at last.
fn second_proof(engine: &mut Engine, minute: Minute, output: &mut Output) {
    let fleet = &engine.fleet;
    let core = &mut engine.memory.core;
    for latch in core.latches.iter_mut().filter(|l| l.scope == Scope::All) {
        let Some(flipped) = latch.flipped_at.filter(|t| minute.0 - t.minute().0 >= STOP_MINUTES) else {
            continue;
        };
        let Some(variant) = fleet.schema().find(latch.variant.as_str()) else {
            continue;
        };
        let from = minute.plus(-4).max(flipped.minute().plus(1));
        let (events, _) = fleet.traffic_between(variant, from, minute);
        let per_minute = events as f64 / (minute.0 - from.0 + 1) as f64;
        let allowed = (latch.events_before * STOP_SHARE).max(1.0);
        let at = closing_time(minute);
        if !latch.escalated && per_minute > allowed {
            latch.escalated = true;
            let mut told = message::still_serving(latch, per_minute, at);
            // The page of an incident goes with it; where a human has closed that one, this page stands for itself.
            told.incident = told.incident.filter(|id| core.episodes.iter().any(|e| e.incident == *id));
            output.orders.push(Order::Page(told));
        } else if latch.escalated && per_minute < allowed / 2.0 {
            latch.escalated = false;
            output.orders.push(Order::Notify(message::serves_no_more(latch, "its traffic has stopped", at)));
        }
    }
}

fn close_quiet_episodes(engine: &mut Engine, minute: Minute, output: &mut Output) {
    let busy: BTreeSet<FlagKey> = engine
        .memory
        .alerts()
        .filter(|(_, alert)| alert.phase() != Phase::Quiet)
        .map(|(key, _)| key.flag.clone())
        .chain(engine.memory.core.latches.iter().map(|l| l.flag.clone()))
        .collect();
    engine.memory.core.episodes.retain_mut(|episode| {
        if busy.contains(&episode.flag) {
            episode.quiet_since = None;
            return true;
        }
        let since = *episode.quiet_since.get_or_insert(minute);
        if minute.0 - since.0 < QUIET_MINUTES {
            return true;
        }
        output.orders.push(Order::CloseIncident {
            incident: episode.incident.clone(),
            flag: episode.flag.clone(),
            by: "rearguard".into(),
            why: format!("re-armed and quiet for {QUIET_MINUTES} minutes"),
        });
        false
    });
}

fn forget_old(engine: &mut Engine, minute: Minute) {
    let core = &mut engine.memory.core;
    core.flips.retain(|flip| minute.0 - flip.at.0 < decide::LIMIT_MINUTES);
    core.floors.retain(|floor| minute.0 - floor.from.0 <= i64::from(Window::MOST.0));
    // What may be late by any lateness that anybody configures is let go a window later than it could be.
    core.sources.forget_holes(minute.plus(-2 * super::series::KEEP));
}

/// A rule is gone: its pause resolves, its latch stays.
pub(super) fn removed(
    engine: &Engine,
    key: &AlertKey,
    alert: &Alert,
    rule: Option<&Rule>,
    output: &mut Output,
) {
    let from = alert.phase();
    if let (true, Some(rule)) = (from != Phase::Quiet, rule) {
        output.transitions.push(Transition {
            at: engine.event_time().unwrap_or_default(),
            key: key.clone(),
            variant: rule.variant.clone(),
            action: rule.action,
            from,
            to: Phase::Quiet,
            why: "the rule was removed".into(),
        });
    }
    if let State::Firing(firing) = &alert.state {
        let variant = rule.map_or(key.flag.as_str(), |r| r.variant.as_str());
        let why = format!("rule `{}` was removed", key.rule);
        decide::ended(engine, key, variant, firing, &why, output);
    }
}

/// Writes a transition down.
pub(super) fn note(output: &mut Output, judged: &Judged, from: Phase, to: Phase, why: &str) {
    output.transitions.push(Transition {
        at: closing_time(judged.frame.closed),
        key: judged.key.clone(),
        variant: judged.rule.variant.clone(),
        action: judged.rule.action,
        from,
        to,
        why: why.to_owned(),
    });
}

fn words(change: &Change, judgement: &Judgement) -> String {
    match change {
        Change::Began => "in breach; waiting out `for`".into(),
        Change::Ended => format!("no longer in breach: {}", judgement.verdict),
        Change::Resolved(_) => "`clear` has held for `dwell`".into(),
        Change::None
        | Change::Confirmed(_)
        | Change::Doubted(_)
        | Change::Escalated(..)
        | Change::Withheld(..) => judgement.verdict.to_string(),
    }
}

/// What a rule's windows are at the last closing.
pub(super) fn frame(engine: &Engine, rule: &Rule, slice: &Scope) -> Frame {
    let closed = engine.memory.core.closed.unwrap_or_default();
    Frame { closed, floor: engine.memory.floor(&rule.variant, slice) }
}

/// What a rule of one comparison measures at the last closing, and what it compares with.
pub(super) fn measured(engine: &Engine, rule: &Rule, slice: &Scope) -> (Option<f64>, Option<f64>) {
    let Shape::Simple { slot, threshold, .. } = &rule.condition.shape else {
        return (None, None);
    };
    let view = view_of(engine, rule, slice);
    let frame = frame(engine, rule, slice);
    let value = measure::full(&view, &rule.condition.slots[*slot], frame).ok();
    (value, limit(&rule.condition, *threshold, &view, frame))
}

/// The confidence interval of what a rule of one comparison measures at the last closing.
pub(super) fn interval_of(engine: &Engine, rule: &Rule, slice: &Scope) -> Option<(f64, f64)> {
    let Shape::Simple { slot, .. } = &rule.condition.shape else { return None };
    let view = view_of(engine, rule, slice);
    let catalogue = engine.fleet.schema().catalogue();
    interval(&view, &rule.condition.slots[*slot], frame(engine, rule, slice), catalogue)
}

/// Why an action was not carried out.
fn withheld_words(gate: &Gate) -> String {
    gate.withholds().unwrap_or_else(|| "the flag is rolled back already".into())
}

/// Every alert as it stands, rules in their order.
pub(super) fn report(engine: &Engine) -> Vec<AlertReport> {
    let mut by_rule: BTreeMap<usize, Vec<AlertReport>> = BTreeMap::new();
    let blind = engine.why_not_armed();
    for (key, judgement) in &engine.last {
        let Some(place) = engine.settings.rules.rules.iter().position(|r| r.is(key)) else {
            continue;
        };
        let rule = &engine.settings.rules.rules[place];
        let alert = engine.memory.alert(key).cloned().unwrap_or_default();
        let (value, threshold) = measured(engine, rule, &key.slice);
        // Reports are made every second: intervals of what is quiet can wait until somebody asks.
        let asked = alert.phase() != Phase::Quiet;
        let interval = if asked { interval_of(engine, rule, &key.slice) } else { None };
        by_rule.entry(place).or_default().push(AlertReport {
            key: key.clone(),
            variant: rule.variant.clone(),
            action: rule.action,
            condition: rule.condition.source.clone(),
            phase: alert.phase(),
            since: alert.since().map(Minute::start),
            verdict: judgement.verdict.seen(blind.as_ref()).to_string(),
            value,
            threshold,
            samples: if judgement.samples == u64::MAX { 0 } else { judgement.samples },
            interval,
            confirm: rule.confirm,
            evidence: judgement.proof.as_ref().map(|proof| proof.evidence),
            evidence_needed: judgement.proof.as_ref().map(|proof| proof.needed),
            dry_run: rule.dry_run || engine.settings.dry_run,
            withheld: match &alert.state {
                State::Firing(firing) => firing.withheld.as_ref().map(withheld_words),
                State::Quiet | State::Pending(_) | State::Latched { .. } => None,
            },
        });
    }
    by_rule.into_values().flatten().collect()
}

impl Rule {
    /// Whether an alert is this rule's: flag, id and hash are its identity.
    pub fn is(&self, key: &AlertKey) -> bool {
        self.id == key.rule && self.flag == key.flag && self.hash == key.hash
    }

    /// The key of this rule's alert on a slice.
    pub fn key(&self, slice: &Scope) -> AlertKey {
        AlertKey {
            flag: self.flag.clone(),
            rule: self.id.clone(),
            hash: self.hash.clone(),
            slice: slice.clone(),
        }
    }
}

//! Why a rule did, or did not, fire at the last closing: every test with its numbers, what is missing, what would clear it.
//!
//! Asked for, never part of judging. The verdict and D are those of the closing; everything else is computed anew from the
//! same panes.

mod fill;
mod lack;

use std::cmp::Reverse;

use serde::{Deserialize, Serialize};

use fill::{filled, filled_by_slot};
pub use lack::Lack;

use super::alert::{Alert, State, minutes};
use super::closing::{self, Judged, World, view_of};
use super::decide;
use super::detector::claims;
use super::evidence::unit;
use super::interval::interval;
use super::machine::Engine;
use super::measure::{self, Frame, Lookup};
use super::message::closing_time;
use super::output::{AlertKey, Gate, Phase};
use super::rule::diagnostic::nearest;
use super::rule::{
    Arm, Condition, Confirm, ConfirmedBy, Measurement, NoData, Origin, Rule, RuleAction, Shape, Side,
    identifier,
};
use super::verdict::{BAD_MINUTES, Inspection, Judgement, Reason, Verdict, inspect, limit};
use crate::model::flag::Scope;
use crate::model::id::{DecisionId, IncidentId, RuleId, Variant};
use crate::model::metric::Catalogue;
use crate::model::time::{Minute, Timestamp};

/// Explanations in one answer at most; those that are furthest from quiet come first.
pub const MOST: usize = 50;

/// What is asked about; what is left out means all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Question {
    pub variant: Option<Variant>,
    pub rule: Option<RuleId>,
    pub slice: Option<Scope>,
}

/// The answer to a [`Question`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    pub explanations: Vec<Explanation>,
    /// Rules that no closing has judged yet.
    pub unjudged: Vec<Unjudged>,
    /// Explanations beyond [`MOST`].
    pub left_out: usize,
}

/// A rule that no closing has judged yet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Unjudged {
    pub rule: RuleId,
    pub variant: Variant,
    pub why: String,
}

/// Nothing in force is what was asked about.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct NothingMeant {
    pub what: String,
    pub hint: String,
}

/// One rule on one slice at one closing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Explanation {
    pub key: AlertKey,
    pub variant: Variant,
    pub baseline: Option<Variant>,
    pub action: RuleAction,
    pub confirm: Confirm,
    pub no_data: NoData,
    pub origin: Origin,
    pub condition: String,
    /// The condition with its numbers in it: `0.951 < 0.92`.
    pub filled: String,
    /// Event time of the closing.
    pub at: Timestamp,
    pub measured: Vec<Measured>,
    /// For a single comparison: what is compared with, and the side that is bad.
    pub threshold: Option<f64>,
    pub side: Option<Side>,
    /// A 95 % confidence sequence for the first own measurement; `None` where there is none.
    pub interval: Option<(f64, f64)>,
    pub verdict: Verdict,
    pub confirmed_by: Option<ConfirmedBy>,
    /// Whether the condition is true in full; `None` where that is not known.
    pub literal: Option<bool>,
    pub persistence: PersistenceTest,
    /// `None` for rules that evidence cannot confirm.
    pub evidence: Option<EvidenceTest>,
    /// Why there is no evidence although the rule's mode asks for some.
    pub no_evidence: Option<String>,
    pub state: Standing,
    /// What would stand in the way if the rule fired now.
    pub gate: Gate,
    /// What is missing until it fires, by either way that the rule's mode allows; nothing for one that has fired.
    pub missing_for_persistence: Option<Vec<Lack>>,
    pub missing_for_evidence: Option<Vec<Lack>>,
    pub clear: ClearTest,
}

/// One measurement of a condition.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// As rule files write it: `faithfulness_1h`, `baseline(cost_p95_1h)`.
    pub name: String,
    pub unit: String,
    pub value: Option<f64>,
    /// Over the recent part of its window, and without the pair of minutes that [`PersistenceTest::without`] names.
    pub recent: Option<f64>,
    pub without: Option<f64>,
    pub samples: u64,
    /// The first minute of the window, and how many minutes its recent part has.
    pub from: Minute,
    pub recent_minutes: u32,
}

/// The test P: the literal condition, whatever minute is left out, held for `for`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PersistenceTest {
    /// Fewest samples among the measurements that need them; `None` where none does.
    pub samples: Option<u64>,
    pub min_samples: u64,
    /// The pair of minutes without which fewest samples are left, and how many.
    pub fewest_left: Option<(Minute, u64)>,
    /// The pair of neighbouring minutes that weighs most.
    pub without: Option<LeftOut>,
    pub bad_minutes: u32,
    pub bad_needed: u32,
    /// Whether the breach is beyond noise; `None` for conditions that are taken literally.
    pub beyond_noise: Option<bool>,
    /// Whether it has to be.
    pub noise_matters: bool,
    /// Minutes that it has held since the first closing; `None` while it does not.
    pub held: Option<u32>,
    /// `for`, in minutes.
    pub hold: u32,
}

/// The window without a pair of minutes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LeftOut {
    pub pair: Minute,
    /// It is a pair of hours: of windows longer than six hours no minutes are kept.
    pub hours: bool,
    pub filled: String,
    pub holds: bool,
}

/// The test E: enough evidence that health has ended, and the recent part in breach.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EvidenceTest {
    /// D and c.
    pub evidence: f64,
    pub needed: f64,
    /// The first minute that counts.
    pub since: Minute,
    /// The pair of minutes without which D is least, and that D.
    pub without: Option<(Minute, f64)>,
    /// The condition over the recent part of every window.
    pub recent: String,
    pub recent_holds: Option<bool>,
}

/// Where the alert stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Standing {
    pub phase: Phase,
    pub since: Option<Timestamp>,
    /// Start of the first minute at whose closing the literal condition was true, while it stays true.
    pub crossing: Option<Timestamp>,
    pub decision: Option<DecisionId>,
    pub incident: Option<IncidentId>,
    /// What has been done, or would have been: a pause may stand in for a rollback.
    pub done: Option<RuleAction>,
    /// What stood in the way of it.
    pub withheld: Option<Gate>,
    /// It was withheld, and is carried out when nothing stands in the way any more and the breach holds.
    pub looked_at_again: bool,
    /// Since when the window has been empty, or a breach hidden by a burst.
    pub silent_since: Option<Timestamp>,
    pub masked_since: Option<Timestamp>,
    /// Why verdicts may not act at all.
    pub not_armed: Option<Reason>,
}

/// What ends a pause or a notice: `clear` on the window and on its recent part, for `dwell`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClearTest {
    pub condition: String,
    pub filled: String,
    pub recent: String,
    pub window_holds: Option<bool>,
    pub recent_holds: Option<bool>,
    /// Closings in a row at which it has held, and `dwell` in minutes.
    pub held: u32,
    pub dwell: u32,
}

impl Engine {
    /// Why rules did or did not fire at the last closing.
    ///
    /// # Errors
    ///
    /// When nothing in force is what is asked about.
    pub fn explain(&self, asked: &Question) -> Result<Answer, NothingMeant> {
        let wanted = |rule: &Rule| {
            asked.variant.as_ref().is_none_or(|v| *v == rule.variant)
                && asked.rule.as_ref().is_none_or(|id| *id == rule.id)
        };
        let rules: Vec<&Rule> =
            self.settings.rules.rules.iter().map(|rule| &**rule).filter(|r| wanted(r)).collect();
        if rules.is_empty() {
            return Err(nothing_meant(&self.settings.rules.rules, asked));
        }
        let mut explanations = Vec::new();
        let mut unjudged = Vec::new();
        let mut found: Vec<(&Rule, &AlertKey, &Judgement)> = Vec::new();
        for rule in rules {
            let of_rule = || self.last.iter().filter(|(key, _)| rule.is(key));
            found.extend(of_rule().map(|(key, judgement)| (rule, key, judgement)));
            if of_rule().next().is_none() {
                unjudged.push(Unjudged {
                    rule: rule.id.clone(),
                    variant: rule.variant.clone(),
                    why: match rule.by {
                        _ if self.loading => "windows are being restored".into(),
                        Some(by) => format!("no event of a {} has come yet", by.as_str()),
                        None => "no minute has closed yet".into(),
                    },
                });
            }
        }
        found.retain(|(_, key, _)| asked.slice.as_ref().is_none_or(|slice| *slice == key.slice));
        if let (true, true, Some(slice)) = (found.is_empty(), unjudged.is_empty(), &asked.slice) {
            return Err(NothingMeant {
                what: format!("no rule that is meant has been judged on slice `{slice}`"),
                hint: "leave the slice out to see all of them; it is written `tenant:acme`".into(),
            });
        }
        let phase = |key| self.memory.alert(key).map_or(Phase::Quiet, Alert::phase);
        found.sort_by_key(|(_, key, _)| Reverse(phase(key)));
        let left_out = found.len().saturating_sub(MOST);
        explanations.extend(found.iter().take(MOST).map(|(rule, key, last)| explain(self, rule, key, last)));
        Ok(Answer { explanations, unjudged, left_out })
    }
}

fn nothing_meant(rules: &[std::sync::Arc<Rule>], asked: &Question) -> NothingMeant {
    let of_variant = |r: &&std::sync::Arc<Rule>| asked.variant.as_ref().is_none_or(|v| *v == r.variant);
    let ids: Vec<&str> = rules.iter().filter(of_variant).map(|r| r.id.as_str()).collect();
    let (kind, name, known) = match (&asked.variant, &asked.rule) {
        (_, Some(rule)) if !ids.is_empty() => ("rule", rule.as_str(), ids),
        (Some(variant), _) => {
            ("variant", variant.as_str(), rules.iter().map(|r| r.variant.as_str()).collect())
        }
        (None, Some(rule)) => ("rule", rule.as_str(), ids),
        (None, None) => return NothingMeant { what: "no rule is in force".into(), hint: String::new() },
    };
    let mut known = known;
    known.dedup();
    NothingMeant {
        what: format!("no rule in force has the {kind} `{name}`"),
        hint: match nearest(name, known.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("there are: {}", known.join(", ")),
        },
    }
}

fn explain(engine: &Engine, rule: &Rule, key: &AlertKey, judgement: &Judgement) -> Explanation {
    let frame = closing::frame(engine, rule, &key.slice);
    let view = view_of(engine, rule, &key.slice);
    let catalogue = engine.fleet.schema().catalogue();
    let found = inspect(rule, &view, frame);
    let alert = engine.memory.alert(key).cloned().unwrap_or_default();
    let condition = &rule.condition;
    let (threshold, side) = match condition.shape {
        Shape::Simple { side, threshold, .. } => (limit(condition, threshold, &view, frame), Some(side)),
        Shape::Other => (None, None),
    };
    let main = condition.slots.iter().find(|m| m.arm == Arm::Own);
    let persistence = persistence(rule, judgement, &alert, &found, (catalogue, frame.seam()));
    let evidence = evidence(engine, rule, key, judgement, &found, (&view, frame));
    let state = standing(engine, rule, key, &alert);
    let lacks = lack::Facts {
        rule,
        found: &found,
        alert: &alert,
        judgement,
        persistence: &persistence,
        seam: frame.seam(),
        not_armed: state.not_armed.as_ref(),
    };
    Explanation {
        key: key.clone(),
        variant: rule.variant.clone(),
        baseline: rule.baseline.clone().filter(|_| condition.reads_baseline()),
        action: rule.action,
        confirm: rule.confirm,
        no_data: rule.no_data,
        origin: rule.origin.clone(),
        condition: condition.source.clone(),
        filled: filled(condition, catalogue, |m| measure::full(&view, m, frame).ok()),
        at: closing_time(frame.closed),
        measured: measured(condition, &found, &view, frame, catalogue),
        threshold,
        side,
        interval: main.and_then(|m| interval(&view, m, frame, catalogue)),
        verdict: judgement.verdict.clone(),
        confirmed_by: judgement.by,
        literal: found.full.ok(),
        missing_for_persistence: rule.confirm.by_persistence().then(|| lacks.of_persistence()),
        missing_for_evidence: evidence.as_ref().map(|evidence| lacks.of_evidence(evidence)),
        no_evidence: match claims(condition, catalogue) {
            Err(why) if rule.confirm.by_evidence() => Some(why.to_string()),
            _ => None,
        },
        gate: gate(engine, rule, key, judgement, frame),
        clear: clear_test(engine, rule, key, &alert, frame),
        persistence,
        evidence,
        state,
    }
}

fn measured(
    condition: &Condition,
    found: &Inspection,
    view: &impl Lookup,
    frame: Frame,
    catalogue: &Catalogue,
) -> Vec<Measured> {
    let one = |(slot, m): (usize, &Measurement)| Measured {
        name: identifier::name(m, catalogue),
        unit: unit(m, catalogue),
        value: measure::full(view, m, frame).ok(),
        recent: measure::recent(view, m, frame).ok(),
        without: found.without.as_ref().and_then(|without| without.values[slot]),
        samples: measure::samples(view, m, frame),
        from: frame.from(m.window),
        recent_minutes: m.window.recent().0,
    };
    condition.slots.iter().enumerate().map(one).collect()
}

fn persistence(
    rule: &Rule,
    judgement: &Judgement,
    alert: &Alert,
    found: &Inspection,
    (catalogue, seam): (&Catalogue, Minute),
) -> PersistenceTest {
    let condition = &rule.condition;
    let without = found.without.as_ref().map(|without| LeftOut {
        pair: without.pair,
        hours: without.pair < seam,
        filled: filled_by_slot(condition, catalogue, |slot| without.values[slot]),
        holds: without.holds,
    });
    let waiting = match &alert.state {
        State::Pending(pending) => Some(pending),
        State::Firing(firing) => firing.rising.as_ref(),
        State::Quiet | State::Latched { .. } => None,
    };
    PersistenceTest {
        samples: Some(judgement.samples).filter(|n| *n < u64::MAX),
        min_samples: rule.min_samples,
        fewest_left: found.fewest_left,
        without,
        bad_minutes: found.bad_minutes,
        bad_needed: BAD_MINUTES,
        beyond_noise: found.beyond_noise,
        noise_matters: condition.reads_baseline() || rule.confirm == Confirm::Significant,
        held: waiting.and_then(|pending| pending.firm),
        hold: whole(minutes(rule.hold)),
    }
}

fn evidence(
    engine: &Engine,
    rule: &Rule,
    key: &AlertKey,
    judgement: &Judgement,
    found: &Inspection,
    (view, frame): (&impl Lookup, Frame),
) -> Option<EvidenceTest> {
    let proof = judgement.proof.as_ref()?;
    let least = || engine.tracks.get(key).map(|track| track.least_without_a_pair(proof.since));
    let catalogue = engine.fleet.schema().catalogue();
    Some(EvidenceTest {
        // What has been gathered for hours without acting overflows, and JSON has no infinity.
        evidence: proof.evidence.min(f64::MAX),
        needed: proof.needed,
        since: proof.since,
        without: proof.without.or_else(least).filter(|(_, d)| d.is_finite()),
        recent: filled(&rule.condition, catalogue, |m| measure::recent(view, m, frame).ok()),
        recent_holds: found.recent.ok(),
    })
}

fn standing(engine: &Engine, rule: &Rule, key: &AlertKey, alert: &Alert) -> Standing {
    let scope = decide::scope_of(rule, &key.slice);
    let latch = engine.memory.latch(&rule.flag, &scope);
    let start = |minute: Option<Minute>| minute.map(Minute::start);
    let mut standing = Standing {
        phase: alert.phase(),
        since: start(alert.since()),
        crossing: start(alert.crossing),
        decision: None,
        incident: None,
        done: None,
        withheld: None,
        looked_at_again: false,
        silent_since: start(alert.silence.since()),
        masked_since: start(alert.masked.since()),
        not_armed: engine.why_not_armed(),
    };
    match &alert.state {
        State::Quiet | State::Pending(_) => {}
        State::Firing(firing) => {
            standing.decision = Some(firing.decision.clone());
            standing.incident = firing.incident.clone();
            standing.done = Some(firing.action);
            standing.withheld = firing.withheld.clone();
            standing.looked_at_again = firing.is_looked_at_again();
        }
        State::Latched { decision, .. } => {
            standing.decision = Some(decision.clone());
            standing.incident = latch.map(|latch| latch.incident.clone());
            standing.done = Some(RuleAction::Rollback);
        }
    }
    standing
}

fn gate(engine: &Engine, rule: &Rule, key: &AlertKey, judgement: &Judgement, frame: Frame) -> Gate {
    let Some(rule) = engine.rule(key).filter(|r| r.id == rule.id) else { return Gate::Act };
    let judged = Judged {
        rule: rule.clone(),
        key: key.clone(),
        frame,
        judgement: judgement.clone(),
        evidence: None,
        missing: None,
    };
    let last = engine.last.iter().filter_map(|(key, judgement)| Some((&**engine.rule(key)?, judgement)));
    let world = World::of(last, &engine.settings.flags);
    decide::gate_of(engine, &judged, judged.rule.action, &world)
}

fn clear_test(engine: &Engine, rule: &Rule, key: &AlertKey, alert: &Alert, frame: Frame) -> ClearTest {
    let view = view_of(engine, rule, &key.slice);
    let catalogue = engine.fleet.schema().catalogue();
    let (window_holds, recent_holds) = closing::cleared(engine, rule, &key.slice, frame);
    ClearTest {
        condition: rule.clear.source.clone(),
        filled: filled(&rule.clear, catalogue, |m| measure::full(&view, m, frame).ok()),
        recent: filled(&rule.clear, catalogue, |m| measure::recent(&view, m, frame).ok()),
        window_holds,
        recent_holds,
        held: match &alert.state {
            State::Firing(firing) => firing.clear,
            State::Quiet | State::Pending(_) | State::Latched { .. } => 0,
        },
        dwell: whole(minutes(rule.dwell)),
    }
}

fn whole(minutes: i64) -> u32 {
    u32::try_from(minutes).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;

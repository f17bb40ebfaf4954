//! Verdicts: pass, breach, inconclusive or error, for one rule on one slice at one closing.
//!
//! Two tests make a breach, as the rule's `confirm` says. Persistence P: the condition is true in full and without every pair
//! of neighbouring minutes, with enough samples each time, and at least three minutes are bad. Evidence E (`proof`): the change
//! detector is at its threshold, and the condition true on the recent part, again without every pair. Since any 60
//! seconds lie inside one pair, no rewriting of a single minute can make a breach (the single-minute theorem).

mod certain;
mod inspect;
mod late;
mod minutes;
mod proof;

use serde::{Deserialize, Serialize};

use certain::{Certain, certain};
pub use inspect::{Inspection, inspect};
pub use late::could_turn;
use minutes::Minutes;
pub use minutes::limit;
pub use proof::{Gathered, Proof};

use super::measure::{self, Frame, Lookup, SlotPanes};
use super::rule::eval::{Unknown, truth};
use super::rule::{Condition, Confirm, ConfirmedBy, Rule, Shape, Side, Stat, Threshold};
use crate::model::time::Minute;

/// Bad minutes that a breach needs: one more than a pair can hold.
pub const BAD_MINUTES: u32 = 3;

/// The outcome of judging. Never a bool.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "verdict", rename_all = "snake_case")]
pub enum Verdict {
    Pass,
    Breach,
    Inconclusive { reason: Reason },
    Error { reason: Reason },
}

/// Why there is neither pass nor breach.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "reason", rename_all = "snake_case")]
pub enum Reason {
    NoData,
    NoBaseline,
    /// Division by zero or a result that is not finite.
    NotFinite,
    TooFewSamples {
        have: u64,
        need: u64,
    },
    /// Events up to this minute could not be read (retention, a log made anew) and belong into the window. The largest
    /// minute while none has come since.
    Missing {
        until: Minute,
    },
    /// True, but not without this pair of minutes.
    SingleMinute {
        pair: Minute,
    },
    /// True, but without this pair of minutes too few samples are left.
    TooFewWithout {
        pair: Minute,
        have: u64,
        need: u64,
    },
    /// True, but not without these two neighbouring hours, of which no minutes are kept.
    FewHours {
        from: Minute,
    },
    /// True, but fewer than three minutes are bad.
    FewBadMinutes {
        bad: u32,
    },
    /// Against baseline: the difference is within noise.
    WithinNoise,
    /// `confirm: significant`: persistent, but within noise.
    Doubtful,
    /// `confirm: evidence`: in breach, but there is not enough evidence yet.
    Unproven {
        evidence: f64,
        needed: f64,
    },
    /// There is evidence, but the recent part is no longer in breach.
    Over,
    /// False, and samples that came too late for the window could turn it.
    Late {
        late: u64,
        have: u64,
    },
    /// Event time has fallen behind the wall clock, so this is about the past.
    Lag {
        seconds: u64,
    },
    /// Nothing new is known: why.
    Stale {
        why: String,
    },
    /// False in full, true without this pair of minutes: a burst hides it.
    Masked {
        pair: Minute,
    },
    /// False in full, true without these two neighbouring hours, of which no minutes are kept.
    MaskedByHours {
        from: Minute,
    },
    /// A quantile over hours whose bucket counts are gone.
    NoHistogram,
}

impl Reason {
    /// Whether the persistence test has failed, so that `for` starts anew. Otherwise nothing is known: that neither counts
    /// nor resets.
    pub const fn resets(&self) -> bool {
        match self {
            Self::SingleMinute { .. }
            | Self::TooFewWithout { .. }
            | Self::FewBadMinutes { .. }
            | Self::WithinNoise
            | Self::Doubtful
            | Self::Unproven { .. }
            | Self::Over
            | Self::FewHours { .. }
            | Self::Late { .. }
            | Self::MaskedByHours { .. }
            | Self::Masked { .. } => true,
            Self::NoData
            | Self::NoHistogram
            | Self::NoBaseline
            | Self::NotFinite
            | Self::TooFewSamples { .. }
            | Self::Lag { .. }
            | Self::Stale { .. }
            | Self::Missing { .. } => false,
        }
    }

    /// A condition that is true, and not without this pair: of hours if it lies before the seam, else of minutes. `few`: the
    /// samples left without it and those needed, where these are too few.
    pub(super) fn rests_on(pair: Minute, seam: Minute, few: Option<(u64, u64)>) -> Self {
        match few {
            _ if pair < seam => Self::FewHours { from: pair },
            Some((have, need)) => Self::TooFewWithout { pair, have, need },
            None => Self::SingleMinute { pair },
        }
    }
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NoData => f.write_str("no data in the window"),
            Self::NoBaseline => f.write_str("the rule compares with a baseline and has none"),
            Self::NotFinite => f.write_str("the condition divides by zero or overflows"),
            Self::TooFewSamples { have, need } => write!(f, "{have} samples of the {need} needed"),
            Self::Missing { until: Minute(i64::MAX) } => {
                f.write_str("events are missing: there is a gap in their source")
            }
            Self::Missing { until } => {
                write!(f, "events up to {until} are missing: there is a gap in their source")
            }
            Self::SingleMinute { pair } => {
                write!(f, "true only because of the two minutes from {pair}; a single bad minute never fires")
            }
            Self::TooFewWithout { pair, have, need } => {
                write!(f, "{have} samples of the {need} needed without the two minutes from {pair}")
            }
            Self::FewHours { from } => {
                write!(f, "true only because of the two hours from {from}, of which no minutes are kept")
            }
            Self::MaskedByHours { from } => {
                write!(f, "the two hours from {from} hide a breach; no minutes are kept of them")
            }
            Self::NoHistogram => {
                f.write_str("older hours were kept without the counts that a quantile needs; they leave the window in time")
            }
            Self::FewBadMinutes { bad } => {
                write!(f, "{bad} bad minutes of the {BAD_MINUTES} needed")
            }
            Self::WithinNoise => f.write_str("the difference to the baseline is within noise"),
            Self::Doubtful => f.write_str("in breach, but within noise"),
            Self::Unproven { evidence, needed } => {
                write!(
                    f,
                    "in breach, but the evidence is {} of the {} needed",
                    brief(*evidence),
                    brief(*needed)
                )
            }
            Self::Over => f.write_str("there is evidence of a breach, but its recent part is over"),
            Self::Late { late, have } => {
                write!(f, "{late} samples came too late to count and could turn it; {have} came in time")
            }
            Self::Lag { seconds } => write!(f, "event time is {seconds} s behind"),
            Self::Stale { why } => f.write_str(why),
            Self::Masked { pair } => {
                write!(f, "a burst in the two minutes from {pair} hides a breach")
            }
        }
    }
}

/// A positive number by two digits: `2.1e6`, `340`.
pub fn brief(value: f64) -> String {
    if value >= 10_000.0 { format!("{value:.1e}") } else { format!("{value:.0}") }
}

impl Verdict {
    /// What can be said of it now: nothing while Rearguard is blind, since it is about the past.
    pub fn seen(&self, blind: Option<&Reason>) -> Self {
        blind.map_or_else(|| self.clone(), |reason| Self::Inconclusive { reason: reason.clone() })
    }

    /// Whether a burst hides a breach.
    pub fn is_masked(&self) -> bool {
        matches!(self, Self::Inconclusive { reason: Reason::Masked { .. } | Reason::MaskedByHours { .. } })
    }
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Pass => f.write_str("pass"),
            Self::Breach => f.write_str("breach"),
            Self::Inconclusive { reason } => write!(f, "inconclusive: {reason}"),
            Self::Error { reason } => write!(f, "error: {reason}"),
        }
    }
}

/// A verdict with what it rests on.
#[derive(Clone, Debug, PartialEq)]
pub struct Judgement {
    pub verdict: Verdict,
    /// Whether the literal condition is true in full; `None` where unknown.
    pub literal: Option<bool>,
    /// Fewest samples among the measurements that need them.
    pub samples: u64,
    pub bad_minutes: u32,
    /// What makes it a breach; `None` unless it is one.
    pub by: Option<ConfirmedBy>,
    /// The test E, for rules that evidence can confirm.
    pub proof: Option<Proof>,
}

impl Judgement {
    /// Takes back what was judged: what it rests on cannot be relied on.
    pub fn withdraw(&mut self, reason: Reason) {
        self.verdict = Verdict::Inconclusive { reason };
        self.by = None;
    }
}

/// Judges a rule at a closing. `look_for_masks` also searches for breaches that a burst hides, which costs more. `gathered` is
/// the evidence so far, where the condition gives any.
pub fn judge(
    rule: &Rule,
    lookup: &impl Lookup,
    frame: Frame,
    look_for_masks: bool,
    gathered: Option<Gathered<'_>>,
) -> Judgement {
    let gathered = gathered.filter(|_| rule.confirm.by_evidence());
    let proof = gathered.map(|gathered| proof::prove(&rule.condition, lookup, frame, gathered));
    let mut judgement = persistence(rule, lookup, frame, look_for_masks);
    let short_of = match &proof {
        Some(proof) => proof.short_of.clone(),
        None => Some(Reason::Unproven { evidence: 0.0, needed: f64::INFINITY }),
    };
    judgement.by = match (short_of, &judgement.verdict, rule.confirm) {
        (None, _, _) => Some(ConfirmedBy::Evidence),
        (Some(_), Verdict::Breach, Confirm::Either | Confirm::Significant | Confirm::Persistence) => {
            Some(ConfirmedBy::Persistence)
        }
        (
            Some(reason),
            Verdict::Breach | Verdict::Inconclusive { reason: Reason::Doubtful },
            Confirm::Evidence,
        ) => {
            judgement.withdraw(reason);
            None
        }
        (Some(_), _, _) => None,
    };
    if let (Some(ConfirmedBy::Evidence), Some(proof)) = (judgement.by, &proof) {
        judgement.verdict = Verdict::Breach;
        judgement.bad_minutes = proof.bad_minutes;
    }
    judgement.proof = proof;
    judgement
}

/// The test P, and why it does not hold.
fn persistence(rule: &Rule, lookup: &impl Lookup, frame: Frame, look_for_masks: bool) -> Judgement {
    let condition = &rule.condition;
    let samples = needed_slots(condition)
        .map(|slot| measure::samples(lookup, &condition.slots[slot], frame))
        .min()
        .unwrap_or(u64::MAX);
    let literal = truth(&condition.expr, &mut |slot| measure::full(lookup, &condition.slots[slot], frame));
    let mut judgement = Judgement {
        verdict: Verdict::Pass,
        literal: literal.ok(),
        samples,
        bad_minutes: 0,
        by: None,
        proof: None,
    };
    let inconclusive = |reason| Verdict::Inconclusive { reason };
    judgement.verdict = match literal {
        Err(Unknown::NoBaseline) => Verdict::Error { reason: Reason::NoBaseline },
        Err(Unknown::NotFinite) => inconclusive(Reason::NotFinite),
        Err(Unknown::NoData) => inconclusive(Reason::NoData),
        Err(Unknown::NoHistogram) => inconclusive(Reason::NoHistogram),
        Ok(_) if samples == 0 => inconclusive(Reason::NoData),
        Ok(_) if samples < rule.min_samples => {
            inconclusive(Reason::TooFewSamples { have: samples, need: rule.min_samples })
        }
        Ok(false) if look_for_masks => match masked(rule, lookup, frame) {
            Some(from) if from < frame.seam() => inconclusive(Reason::MaskedByHours { from }),
            Some(pair) => inconclusive(Reason::Masked { pair }),
            None => Verdict::Pass,
        },
        Ok(false) => Verdict::Pass,
        Ok(true) => persists(rule, lookup, frame, &mut judgement),
    };
    judgement
}

/// The test P for a condition that is true in full.
fn persists(rule: &Rule, lookup: &impl Lookup, frame: Frame, judgement: &mut Judgement) -> Verdict {
    let condition = &rule.condition;
    let inconclusive = |reason| Verdict::Inconclusive { reason };
    let panes = match certain(condition, lookup, frame) {
        Some(Certain::True { left }) if left >= rule.min_samples => cells_alone(condition, lookup, frame),
        _ => {
            let panes = lay_out(condition, lookup, frame);
            let fails = |pair| fails_without(condition, &panes, frame, pair, rule.min_samples);
            if let Some(reason) = frame.pairs(condition.window()).find_map(fails) {
                return inconclusive(reason);
            }
            panes
        }
    };
    let minutes = Minutes::of(condition, &panes, lookup, frame);
    judgement.bad_minutes = minutes.bad();
    if judgement.bad_minutes < BAD_MINUTES {
        return inconclusive(Reason::FewBadMinutes { bad: judgement.bad_minutes });
    }
    // Against baseline two noisy numbers are compared, so there it must be beyond noise whatever the mode.
    if (condition.reads_baseline() || rule.confirm == Confirm::Significant)
        && !minutes.beyond_noise(condition, &panes, None)
    {
        return inconclusive(if condition.reads_baseline() { Reason::WithinNoise } else { Reason::Doubtful });
    }
    Verdict::Breach
}

/// The panes of every slot of a condition. A quantile that is compared with a constant needs no walk over buckets: counting
/// the samples on either side of the threshold answers for every pair.
fn lay_out<'a>(condition: &Condition, lookup: &'a impl Lookup, frame: Frame) -> Vec<SlotPanes<'a>> {
    if let Shape::Simple { side, threshold: Threshold::Const(limit), slot } = condition.shape
        && condition.slots[slot].stat.quantile().is_some()
        && condition.slots.len() == 1
    {
        return vec![SlotPanes::at_edge(lookup, &condition.slots[slot], frame, limit, side == Side::Above)];
    }
    condition.slots.iter().map(|m| SlotPanes::new(lookup, m, frame)).collect()
}

/// The same for what is asked of single cells: whether they are bad.
fn cells_alone<'a>(condition: &Condition, lookup: &'a impl Lookup, frame: Frame) -> Vec<SlotPanes<'a>> {
    let Shape::Simple { slot: own, side, threshold } = condition.shape else {
        return lay_out(condition, lookup, frame);
    };
    let lay = |(slot, m)| match limit(condition, threshold, lookup, frame) {
        Some(limit) if slot == own => SlotPanes::at_edge(lookup, m, frame, limit, side == Side::Above),
        _ => SlotPanes::cells_alone(lookup, m, frame),
    };
    condition.slots.iter().enumerate().map(lay).collect()
}

/// Finds a pair of minutes without which the condition would be a breach, though it is false in full: true, with its bad
/// minutes, and against a baseline beyond noise. Two equal arms are on either side of each other all the time, and one pair of
/// minutes turns that; it hides nothing.
fn masked(rule: &Rule, lookup: &impl Lookup, frame: Frame) -> Option<Minute> {
    let condition = &rule.condition;
    if certain(condition, lookup, frame) == Some(Certain::False) {
        return None;
    }
    let panes = lay_out(condition, lookup, frame);
    let would_breach = |pair: Minute| {
        let minutes = Minutes::without(condition, &panes, frame, pair);
        minutes.bad() >= BAD_MINUTES
            && (!condition.reads_baseline() || minutes.beyond_noise(condition, &panes, Some(pair)))
    };
    frame
        .pairs(condition.window())
        .filter(|pair| panes.iter().any(|p| p.touches(*pair)))
        .find(|pair| holds_without(condition, &panes, *pair, rule.min_samples) && would_breach(*pair))
}

/// Whether the condition is true and has its samples with the pair's panes deleted from every measurement.
fn holds_without(condition: &Condition, panes: &[SlotPanes<'_>], pair: Minute, min_samples: u64) -> bool {
    samples_without(condition, panes, pair) >= min_samples && true_without(condition, panes, pair)
}

/// Why it does not, if so.
fn fails_without(
    condition: &Condition,
    panes: &[SlotPanes<'_>],
    frame: Frame,
    pair: Minute,
    min_samples: u64,
) -> Option<Reason> {
    let have = samples_without(condition, panes, pair);
    let few = have < min_samples;
    if !few && true_without(condition, panes, pair) {
        return None;
    }
    Some(Reason::rests_on(pair, frame.seam(), few.then_some((have, min_samples))))
}

/// Fewest samples left among the measurements that need them; `u64::MAX` if none does.
fn samples_without(condition: &Condition, panes: &[SlotPanes<'_>], pair: Minute) -> u64 {
    needed_slots(condition).map(|slot| panes[slot].samples_without(pair)).min().unwrap_or(u64::MAX)
}

/// Whether the condition is true with the pair's panes deleted, however few samples are left.
fn true_without(condition: &Condition, panes: &[SlotPanes<'_>], pair: Minute) -> bool {
    if let Shape::Simple { slot, threshold: Threshold::Const(_), .. } = condition.shape
        && let Some(beyond) = panes[slot].quantile_beyond(pair)
    {
        return beyond;
    }
    truth(&condition.expr, &mut |slot| panes[slot].without(pair)) == Ok(true)
}

/// The pair whose deletion brings a single comparison's value closest to its threshold, or to the other side of it.
pub fn worst_pair(
    condition: &Condition,
    lookup: &impl Lookup,
    frame: Frame,
) -> Option<(Minute, Option<f64>)> {
    let Shape::Simple { slot, side, .. } = condition.shape else { return None };
    let panes = SlotPanes::new(lookup, &condition.slots[slot], frame);
    let sign = if side == Side::Above { 1.0 } else { -1.0 };
    let strength = |value: Option<f64>| value.map_or(f64::NEG_INFINITY, |v| sign * v);
    frame
        .pairs(condition.window())
        .map(|pair| (pair, panes.without(pair).ok()))
        .min_by(|a, b| strength(a.1).total_cmp(&strength(b.1)))
}

/// The slots whose samples `min_samples` is asked of: all but plain counts.
fn needed_slots(condition: &Condition) -> impl Iterator<Item = usize> + '_ {
    (0..condition.slots.len())
        .filter(|slot| !matches!(condition.slots[*slot].stat, Stat::Count | Stat::PerMin))
}

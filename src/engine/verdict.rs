//! Verdicts: pass, breach, inconclusive or error, for one rule on one slice at one closing.
//!
//! A breach is the persistence test P of the rule language: the condition is true in full and without every pair of
//! neighbouring minutes, with enough samples each time, and at least three minutes are bad. Since any 60 seconds lie inside
//! one pair, no rewriting of a single minute can make a breach (the single-minute theorem).

use serde::{Deserialize, Serialize};

use super::measure::{self, Frame, Lookup, SlotPanes};
use super::rule::eval::{Unknown, truth};
use super::rule::{Arm, Condition, Rule, Shape, Side, Stat, Threshold};
use crate::model::time::Minute;
use crate::stats::noise::{beyond_two_sigma, binomial_at_least};

/// Bad minutes that a breach needs: one more than a pair can hold.
pub const BAD_MINUTES: u32 = 3;
/// Largest probability at which a rate ratio beyond the allowed one still counts as noise.
const RATIO_NOISE: f64 = 0.001;

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
    /// True, but fewer than three minutes are bad.
    FewBadMinutes {
        bad: u32,
    },
    /// Against baseline: the difference is within noise.
    WithinNoise,
    /// False in full, true without this pair of minutes: a burst hides it.
    Masked {
        pair: Minute,
    },
}

impl Reason {
    /// Whether the persistence test has failed, so that `for` starts anew. Otherwise nothing is known: that neither counts
    /// nor resets.
    pub const fn resets(&self) -> bool {
        match self {
            Self::SingleMinute { .. }
            | Self::FewBadMinutes { .. }
            | Self::WithinNoise
            | Self::Masked { .. } => true,
            Self::NoData
            | Self::NoBaseline
            | Self::NotFinite
            | Self::TooFewSamples { .. }
            | Self::Missing { .. } => false,
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
            Self::FewBadMinutes { bad } => {
                write!(f, "{bad} bad minutes of the {BAD_MINUTES} needed")
            }
            Self::WithinNoise => f.write_str("the difference to the baseline is within noise"),
            Self::Masked { pair } => {
                write!(f, "a burst in the two minutes from {pair} hides a breach")
            }
        }
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
}

/// Judges a rule at a closing. `look_for_masks` also searches for breaches that a burst hides, which costs more.
pub fn judge(rule: &Rule, lookup: &impl Lookup, frame: Frame, look_for_masks: bool) -> Judgement {
    let condition = &rule.condition;
    let samples = needed_slots(condition)
        .map(|slot| measure::samples(lookup, &condition.slots[slot], frame))
        .min()
        .unwrap_or(u64::MAX);
    let literal = truth(&condition.expr, &mut |slot| measure::full(lookup, &condition.slots[slot], frame));
    let mut judgement = Judgement { verdict: Verdict::Pass, literal: literal.ok(), samples, bad_minutes: 0 };
    let inconclusive = |reason| Verdict::Inconclusive { reason };
    judgement.verdict = match literal {
        Err(Unknown::NoBaseline) => Verdict::Error { reason: Reason::NoBaseline },
        Err(Unknown::NotFinite) => inconclusive(Reason::NotFinite),
        Err(Unknown::NoData) => inconclusive(Reason::NoData),
        Ok(_) if samples == 0 => inconclusive(Reason::NoData),
        Ok(_) if samples < rule.min_samples => {
            inconclusive(Reason::TooFewSamples { have: samples, need: rule.min_samples })
        }
        Ok(false) if look_for_masks => match masked(rule, lookup, frame) {
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
    let panes = lay_out(condition, lookup, frame);
    let inconclusive = |reason| Verdict::Inconclusive { reason };
    if let Some(pair) = pairs(condition, frame).find(|pair| !holds_without(rule, &panes, *pair)) {
        return inconclusive(Reason::SingleMinute { pair });
    }
    let minutes = Minutes::of(condition, &panes, lookup, frame);
    judgement.bad_minutes = minutes.bad();
    if judgement.bad_minutes < BAD_MINUTES {
        return inconclusive(Reason::FewBadMinutes { bad: judgement.bad_minutes });
    }
    if !minutes.beyond_noise(condition, &panes) {
        return inconclusive(Reason::WithinNoise);
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

/// Finds a pair of minutes without which the condition would be true, though it is false in full.
fn masked(rule: &Rule, lookup: &impl Lookup, frame: Frame) -> Option<Minute> {
    let panes = lay_out(&rule.condition, lookup, frame);
    pairs(&rule.condition, frame)
        .filter(|pair| panes.iter().any(|p| p.touches(*pair)))
        .find(|pair| holds_without(rule, &panes, *pair))
}

/// Whether the condition is true and has its samples with the pair's panes deleted from every measurement.
fn holds_without(rule: &Rule, panes: &[SlotPanes<'_>], pair: Minute) -> bool {
    let condition = &rule.condition;
    let enough = needed_slots(condition).all(|slot| panes[slot].samples_without(pair) >= rule.min_samples);
    if !enough {
        return false;
    }
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
    pairs(condition, frame)
        .map(|pair| (pair, panes.without(pair).ok()))
        .min_by(|a, b| strength(a.1).total_cmp(&strength(b.1)))
}

/// All pairs of neighbouring minutes that touch the condition's longest window. The first reaches one minute before it, so
/// that a window of one minute has a pair too.
fn pairs(condition: &Condition, frame: Frame) -> impl Iterator<Item = Minute> + use<> {
    (frame.from(condition.window()).0 - 1..=frame.closed.0).map(Minute)
}

/// The slots whose samples `min_samples` is asked of: all but plain counts.
fn needed_slots(condition: &Condition) -> impl Iterator<Item = usize> + '_ {
    (0..condition.slots.len())
        .filter(|slot| !matches!(condition.slots[*slot].stat, Stat::Count | Stat::PerMin))
}

/// What each minute of the longest window says by itself.
enum Minutes {
    /// The deficit of each minute, exactly.
    Deficits(Vec<f64>),
    /// Whether the condition is true of each minute alone.
    Alone(Vec<bool>),
}

impl Minutes {
    fn of(condition: &Condition, panes: &[SlotPanes<'_>], lookup: &impl Lookup, frame: Frame) -> Self {
        let minutes = (frame.from(condition.window()).0..=frame.closed.0).map(Minute);
        if let Shape::Simple { slot, side, threshold } = condition.shape
            && let Some(limit) = limit(condition, threshold, lookup, frame)
            && let Some(deficit) = deficit_of(condition.slots[slot].stat, side, limit)
        {
            return Self::Deficits(minutes.map(|m| deficit(&panes[slot], m)).collect());
        }
        let alone = |m: Minute| truth(&condition.expr, &mut |slot| panes[slot].alone(m)) == Ok(true);
        Self::Alone(minutes.map(alone).collect())
    }

    fn bad(&self) -> u32 {
        let bad = match self {
            Self::Deficits(deficits) => deficits.iter().filter(|d| **d > 0.0).count(),
            Self::Alone(alone) => alone.iter().filter(|bad| **bad).count(),
        };
        u32::try_from(bad).unwrap_or(u32::MAX)
    }

    /// Comparisons with the baseline must be beyond noise; others are taken literally.
    fn beyond_noise(&self, condition: &Condition, panes: &[SlotPanes<'_>]) -> bool {
        let Shape::Simple { slot, side, threshold: Threshold::Baseline { slot: base, factor } } =
            condition.shape
        else {
            return true;
        };
        let (own, control) = (total(&panes[slot]), total(&panes[base]));
        match condition.slots[slot].stat {
            Stat::Rate => rate_ratio_beyond_noise(own, control, factor, side),
            stat => match (self, stat.quantile()) {
                (Self::Deficits(deficits), quantile) => {
                    let v = match quantile {
                        Some(q) => q * (1.0 - q),
                        None => own.variance,
                    };
                    let widened = 1.0 + factor * factor * own.n / control.n.max(1.0);
                    beyond_two_sigma(deficits, own.n * v * widened)
                }
                (Self::Alone(_), _) => true,
            },
        }
    }
}

/// Count, sum and sample variance of one slot's whole window.
#[derive(Clone, Copy)]
struct Whole {
    n: f64,
    sum: f64,
    variance: f64,
}

fn total(panes: &SlotPanes<'_>) -> Whole {
    let sums = panes.total();
    let n = sums.n as f64;
    let sum = sums.sum as f64 / 1e6;
    let variance =
        if sums.n == 0 { 0.0 } else { (sums.squares as f64 / 1e12 / n - (sum / n).powi(2)).max(0.0) };
    Whole { n, sum, variance }
}

/// Given how many positives there are in all, how many of them fall into the own arm at the allowed ratio is binomial.
fn rate_ratio_beyond_noise(own: Whole, control: Whole, ratio: f64, side: Side) -> bool {
    let share = ratio * own.n / (ratio * own.n + control.n);
    let all = own.sum + control.sum;
    let tail = match side {
        Side::Above => binomial_at_least(own.sum, all, share),
        Side::Below => binomial_at_least(control.sum, all, 1.0 - share),
    };
    tail.is_some_and(|p| p <= RATIO_NOISE)
}

/// The number that a simple comparison compares with, over the whole window.
pub fn limit(condition: &Condition, threshold: Threshold, lookup: &impl Lookup, frame: Frame) -> Option<f64> {
    match threshold {
        Threshold::Const(limit) => Some(limit),
        Threshold::Baseline { slot, factor } => {
            debug_assert_eq!(condition.slots[slot].arm, Arm::Baseline);
            measure::full(lookup, &condition.slots[slot], frame).ok().map(|value| value * factor)
        }
    }
}

type Deficit = Box<dyn Fn(&SlotPanes<'_>, Minute) -> f64>;

/// How far one minute lies on the bad side of a limit, in samples or in the metric's unit; `None` for statistics that have
/// no deficit.
fn deficit_of(stat: Stat, side: Side, limit: f64) -> Option<Deficit> {
    let sign = if side == Side::Above { 1.0 } else { -1.0 };
    match (stat, stat.quantile()) {
        (Stat::Mean | Stat::Rate, _) => Some(Box::new(move |panes, minute| {
            panes.pane(minute).map_or(0.0, |p| sign * (p.sum as f64 / 1e6 - limit * p.n as f64))
        })),
        (_, Some(q)) => Some(Box::new(move |panes, minute| {
            let n = panes.pane(minute).map_or(0.0, |p| p.n as f64);
            let beyond = panes.beyond(minute, limit, side == Side::Above) as f64;
            beyond - n * if side == Side::Above { 1.0 - q } else { q }
        })),
        _ => None,
    }
}

//! What single minutes say by themselves: bad or not, and whether all of them together are more than noise.

use crate::engine::measure::{self, Frame, Lookup, SlotPanes};
use crate::engine::rule::eval::truth;
use crate::engine::rule::{Arm, Condition, Shape, Side, Stat, Threshold};
use crate::model::time::Minute;
use crate::stats::noise::{beyond_two_sigma, binomial_at_least};

/// Largest probability at which a rate ratio beyond the allowed one still counts as noise.
const RATIO_NOISE: f64 = 0.001;

/// What each minute of the longest window says by itself; beyond the minutes kept, each hour.
pub(super) enum Minutes {
    /// The deficit of each cell, exactly.
    Deficits(Vec<f64>),
    /// Whether the condition is true of each cell alone.
    Alone(Vec<bool>),
}

impl Minutes {
    /// Every cell of the condition's longest window; `panes` are those of its slots.
    pub(super) fn of(
        condition: &Condition,
        panes: &[SlotPanes<'_>],
        lookup: &impl Lookup,
        frame: Frame,
    ) -> Self {
        Self::against(condition, panes, frame, None, |threshold| limit(condition, threshold, lookup, frame))
    }

    /// The same without the pair of minutes that starts at `pair`, in the baseline's value too.
    pub(super) fn without(
        condition: &Condition,
        panes: &[SlotPanes<'_>],
        frame: Frame,
        pair: Minute,
    ) -> Self {
        Self::against(condition, panes, frame, Some(pair), |threshold| match threshold {
            Threshold::Const(limit) => Some(limit),
            Threshold::Baseline { slot, factor } => {
                panes[slot].without(pair).ok().map(|value| value * factor)
            }
        })
    }

    fn against(
        condition: &Condition,
        panes: &[SlotPanes<'_>],
        frame: Frame,
        pair: Option<Minute>,
        limit: impl Fn(Threshold) -> Option<f64>,
    ) -> Self {
        let gone = |m: &Minute| pair.is_some_and(|pair| *m >= pair && *m < frame.pair_end(pair));
        let minutes = frame.cells(condition.window()).filter(|m| !gone(m));
        if let Shape::Simple { slot, side, threshold } = condition.shape
            && let Some(limit) = limit(threshold)
            && let Some(deficit) = deficit_of(condition.slots[slot].stat, side, limit)
        {
            return Self::Deficits(minutes.map(|m| deficit(&panes[slot], m)).collect());
        }
        let alone = |m: Minute| truth(&condition.expr, &mut |slot| panes[slot].alone(m)) == Ok(true);
        Self::Alone(minutes.map(alone).collect())
    }

    /// How many minutes are bad.
    pub(super) fn bad(&self) -> u32 {
        let bad = match self {
            Self::Deficits(deficits) => deficits.iter().filter(|d| **d > 0.0).count(),
            Self::Alone(alone) => alone.iter().filter(|bad| **bad).count(),
        };
        u32::try_from(bad).unwrap_or(u32::MAX)
    }

    /// The deficit of all of them together, where there is one.
    pub(super) fn deficit(&self) -> Option<f64> {
        match self {
            Self::Deficits(deficits) => Some(deficits.iter().sum()),
            Self::Alone(_) => None,
        }
    }

    /// Whether a single comparison is beyond noise, without `pair` if these minutes are; other conditions have no such test and
    /// are taken literally.
    pub(super) fn beyond_noise(
        &self,
        condition: &Condition,
        panes: &[SlotPanes<'_>],
        pair: Option<Minute>,
    ) -> bool {
        let (Shape::Simple { slot, side, threshold }, Self::Deficits(deficits)) = (&condition.shape, self)
        else {
            return true;
        };
        let own = total(&panes[*slot], pair);
        let stat = condition.slots[*slot].stat;
        let variance = match (stat.quantile(), stat, threshold) {
            (Some(q), ..) => q * (1.0 - q),
            (None, stat, Threshold::Const(value)) if let Some(p) = stat.rate_at(*value) => {
                (p * (1.0 - p)).max(0.0)
            }
            (None, ..) => own.variance,
        };
        let widened = match threshold {
            Threshold::Const(_) => 1.0,
            Threshold::Baseline { slot: base, factor } => {
                let control = total(&panes[*base], pair);
                if matches!(stat, Stat::Rate | Stat::Burn(_)) {
                    return rate_ratio_beyond_noise(own, control, *factor, *side);
                }
                1.0 + factor * factor * own.n / control.n.max(1.0)
            }
        };
        beyond_two_sigma(deficits, own.n * variance * widened)
    }
}

/// Count, sum and sample variance of one slot's whole window, but for a pair left out.
#[derive(Clone, Copy)]
struct Whole {
    n: f64,
    sum: f64,
    variance: f64,
}

fn total(panes: &SlotPanes<'_>, pair: Option<Minute>) -> Whole {
    let sums = pair.map_or(*panes.total(), |pair| panes.total_without(pair));
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
    let sign = if (side == Side::Above) == stat.turns_round() { -1.0 } else { 1.0 };
    let limit = stat.rate_at(limit).unwrap_or(limit);
    match (stat, stat.quantile()) {
        (Stat::Mean | Stat::Rate | Stat::Burn(_) | Stat::Budget(_), _) => {
            Some(Box::new(move |panes, minute| {
                panes.pane(minute).map_or(0.0, |p| sign * (p.sum as f64 / 1e6 - limit * p.n as f64))
            }))
        }
        (_, Some(q)) => Some(Box::new(move |panes, minute| {
            let n = panes.pane(minute).map_or(0.0, |p| p.n as f64);
            let beyond = panes.beyond(minute, limit, side == Side::Above) as f64;
            beyond - n * if side == Side::Above { 1.0 - q } else { q }
        })),
        _ => None,
    }
}

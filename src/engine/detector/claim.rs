//! Which conditions evidence can be gathered on, and what has to be refuted for each.

use crate::engine::rule::{Arm, Condition, Expr, Measurement, Shape, Side, Stat, Threshold, shape};
use crate::model::metric::{Catalogue, Kind};
use crate::stats::bounded_mean::Null;

/// One comparison of a condition: the healthy state of affairs that evidence is gathered against.
#[derive(Clone, Debug, PartialEq)]
pub struct Claim {
    /// The measurement of the variant, and that of the baseline where there is one.
    pub own: Measurement,
    pub base: Option<Measurement>,
    pub healthy: Healthy,
}

/// What is true of every minute of a healthy variant.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Healthy {
    /// The mean of a score lies on this side of `m`.
    Score { m: f64, null: Null },
    /// At most a share `p` of the samples is true (`bad`) or false (not `bad`).
    Rate { p: f64, bad: bool },
    /// At most a share `p` of the samples lies in buckets beyond that of `limit`.
    Beyond { limit: f64, side: Side, p: f64 },
    /// The events of one arm are at most `allowed` times those of the other per sample, plus `slack`.
    Ratio { events: Events, allowed: f64, slack: f64 },
    /// The q-quantile is not beyond `factor` times the baseline's.
    Quantiles { q: f64, factor: f64, side: Side },
}

/// What counts as an event of a ratio, and which arm must not have too many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Events {
    /// Sums of the variant against those of the baseline.
    Own,
    /// Sums of the baseline against those of the variant: the variant must not have too few.
    Baseline,
    /// What is missing to 1, of the variant against the baseline: the variant's score must not be too low.
    Losses,
}

/// Why no evidence can be gathered on a condition: it is confirmed by persistence alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoEvidence {
    #[error(
        "it is not one comparison of a measurement with a number or a multiple of the baseline, nor an `&&` of such"
    )]
    NotOneComparison,
    #[error(
        "sums, counts, extremes and standard deviations give no evidence; means of scores, rates and quantiles do"
    )]
    Statistic,
    #[error("the mean of a metric without an upper bound gives no evidence; its quantiles do")]
    Unbounded,
    #[error("a window longer than 6h is about what is slow; evidence looks at the last six hours")]
    LongWindow,
    #[error("its threshold lies at the end of the range, where a single sample would be proof")]
    EndOfRange,
}

/// The claims of a condition; with `&&` evidence is needed against each of them.
pub fn claims(condition: &Condition, catalogue: &Catalogue) -> Result<Vec<Claim>, NoEvidence> {
    if condition.window().is_long() {
        return Err(NoEvidence::LongWindow);
    }
    let mut claims = Vec::new();
    collect(&condition.expr, &condition.slots, catalogue, &mut claims)?;
    Ok(claims)
}

fn collect(
    expr: &Expr,
    slots: &[Measurement],
    catalogue: &Catalogue,
    claims: &mut Vec<Claim>,
) -> Result<(), NoEvidence> {
    if let Expr::And(left, right) = expr {
        collect(left, slots, catalogue, claims)?;
        return collect(right, slots, catalogue, claims);
    }
    let Shape::Simple { slot, side, threshold } = shape::classify(expr, slots) else {
        return Err(NoEvidence::NotOneComparison);
    };
    let own = slots[slot];
    let kind = catalogue.get(own.metric).kind;
    let (base, healthy) = match threshold {
        Threshold::Const(limit) => (None, against_number(own.stat, kind, side, limit)?),
        Threshold::Baseline { slot, factor } => {
            debug_assert_eq!(slots[slot].arm, Arm::Baseline);
            (Some(slots[slot]), against_baseline(own.stat, kind, side, factor)?)
        }
    };
    claims.push(Claim { own, base, healthy });
    Ok(())
}

fn against_number(stat: Stat, kind: Kind, side: Side, limit: f64) -> Result<Healthy, NoEvidence> {
    if let Some(q) = stat.quantile() {
        let p = if side == Side::Above { 1.0 - q } else { q };
        return Ok(Healthy::Beyond { limit, side, p });
    }
    let limit = stat.rate_at(limit).unwrap_or(limit);
    let side = if stat.turns_round() { side.other() } else { side };
    let inside = limit > 0.0 && limit < 1.0;
    match (stat, kind) {
        (Stat::Mean | Stat::Rate | Stat::Burn(_) | Stat::Budget(_), Kind::Score | Kind::Boolean)
            if !inside =>
        {
            Err(NoEvidence::EndOfRange)
        }
        (Stat::Mean | Stat::Rate, Kind::Score) => {
            let null = if side == Side::Above { Null::AtMost } else { Null::AtLeast };
            Ok(Healthy::Score { m: limit, null })
        }
        (Stat::Mean | Stat::Rate | Stat::Burn(_) | Stat::Budget(_), Kind::Boolean) => Ok(match side {
            Side::Above => Healthy::Rate { p: limit, bad: true },
            Side::Below => Healthy::Rate { p: 1.0 - limit, bad: false },
        }),
        (Stat::Mean, Kind::Value) => Err(NoEvidence::Unbounded),
        _ => Err(NoEvidence::Statistic),
    }
}

fn against_baseline(stat: Stat, kind: Kind, side: Side, factor: f64) -> Result<Healthy, NoEvidence> {
    if let Some(q) = stat.quantile() {
        return Ok(Healthy::Quantiles { q, factor, side });
    }
    let (events, allowed, slack) = match (stat, kind, side) {
        (Stat::Mean | Stat::Rate | Stat::Burn(_), Kind::Score | Kind::Boolean, Side::Above) => {
            (Events::Own, factor, 0.0)
        }
        (Stat::Mean | Stat::Rate | Stat::Burn(_), Kind::Boolean, Side::Below) => {
            (Events::Baseline, factor.recip(), 0.0)
        }
        // mean_T ≥ r·mean_C is the same as loss_T ≤ r·loss_C + (1 − r), and losses of a good score are few.
        (Stat::Mean | Stat::Rate, Kind::Score, Side::Below) => (Events::Losses, factor, 1.0 - factor),
        (Stat::Mean, Kind::Value, _) => return Err(NoEvidence::Unbounded),
        _ => return Err(NoEvidence::Statistic),
    };
    Ok(Healthy::Ratio { events, allowed, slack })
}

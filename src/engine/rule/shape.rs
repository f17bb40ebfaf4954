//! What kind of comparison a condition is, and thresholds that fall inside a histogram bucket.
//!
//! Quantiles, minima and maxima are known to a bucket only. A threshold inside a bucket is rounded *outward*: samples in the
//! threshold's own bucket never count as bad. With `b` the bucket of the measurement and `t` that of the threshold:
//!
//! - `>` and `>=` become `> Layout::upper(t)`: true exactly when `b > t`;
//! - `<` and `<=` become `< Layout::lower(t)`: true exactly when `b < t`.
//!
//! Both hold whichever value of its bucket the engine reports (it reports the highest), since the buckets above `t` lie
//! wholly above `upper(t)` and those below wholly below `lower(t)`. That is why the comparison becomes strict.

use super::eval::compare;
use super::identifier;
use super::token::tidy;
use super::write::compare_sign;
use super::{Arith, Arm, Compare, Expr, Measurement, Shape, Side, Stat, Threshold, logic};
use crate::engine::layout::Layout;
use crate::model::metric::{Catalogue, Kind};

/// A threshold that was rounded outward.
#[derive(Clone, Debug, PartialEq)]
pub struct Rounding {
    pub measurement: String,
    /// As written: `> 0.05`.
    pub written: String,
    /// As judged: `> 0.05023`.
    pub judged: String,
    /// The threshold as written, and as judged.
    pub from: f64,
    pub to: f64,
    pub unit: String,
}

/// Recognises a single comparison of one own measurement with a constant or a multiple of the same on the baseline.
pub fn classify(expr: &Expr, slots: &[Measurement]) -> Shape {
    let Expr::Compare(op, left, right) = expr else {
        return Shape::Other;
    };
    let side = match op {
        Compare::Lt | Compare::Le => Side::Below,
        Compare::Gt | Compare::Ge => Side::Above,
        Compare::Eq | Compare::Ne => return Shape::Other,
    };
    let Expr::Slot(slot) = **left else {
        return Shape::Other;
    };
    if slots[slot].arm != Arm::Own {
        return Shape::Other;
    }
    let threshold = match &**right {
        Expr::Const(value) => Some(Threshold::Const(*value)),
        other => multiple(other).and_then(|(base, factor)| {
            let same = slots[base] == Measurement { arm: Arm::Baseline, ..slots[slot] };
            (same && factor.is_finite() && factor > 0.0).then_some(Threshold::Baseline { slot: base, factor })
        }),
    };
    match threshold {
        Some(threshold) => Shape::Simple { slot, side, threshold },
        None => Shape::Other,
    }
}

/// `k * slot`, `slot * k`, `slot / k` and nested forms of them as (slot, k).
pub fn multiple(expr: &Expr) -> Option<(usize, f64)> {
    match expr {
        Expr::Slot(slot) => Some((*slot, 1.0)),
        Expr::Arith(Arith::Mul, l, r) => match (&**l, &**r) {
            (Expr::Const(k), e) | (e, Expr::Const(k)) => multiple(e).map(|(s, f)| (s, f * k)),
            _ => None,
        },
        Expr::Arith(Arith::Div, l, r) => match &**r {
            Expr::Const(k) => multiple(l).map(|(s, f)| (s, f / k)),
            _ => None,
        },
        _ => None,
    }
}

/// The same expression with every bucketed measurement's constant threshold rounded outward; says what it changed.
pub fn round(
    expr: &Expr,
    slots: &[Measurement],
    catalogue: &Catalogue,
    roundings: &mut Vec<Rounding>,
) -> Expr {
    match expr {
        Expr::And(l, r) => {
            let l = round(l, slots, catalogue, roundings);
            Expr::And(Box::new(l), Box::new(round(r, slots, catalogue, roundings)))
        }
        Expr::Or(l, r) => {
            let l = round(l, slots, catalogue, roundings);
            Expr::Or(Box::new(l), Box::new(round(r, slots, catalogue, roundings)))
        }
        Expr::Compare(op, l, r) => match (&**l, &**r) {
            (Expr::Slot(slot), Expr::Const(value)) => {
                let measurement = &slots[*slot];
                let (new_op, new) = outward(*op, *value, measurement, catalogue);
                let same = |a: f64, b: f64| (a - b).abs() <= 1e-9 * b.abs();
                if !same(new, *value) || new_op != *op {
                    roundings.push(Rounding {
                        measurement: identifier::name(measurement, catalogue),
                        written: format!("{} {}", compare_sign(*op), tidy(*value)),
                        judged: format!("{} {}", compare_sign(new_op), tidy(new)),
                        from: *value,
                        to: new,
                        unit: catalogue.get(measurement.metric).unit.clone(),
                    });
                }
                Expr::Compare(new_op, l.clone(), Box::new(Expr::Const(new)))
            }
            _ => expr.clone(),
        },
        _ => expr.clone(),
    }
}

/// The comparison and threshold that are judged instead of a written one.
fn outward(op: Compare, value: f64, of: &Measurement, catalogue: &Catalogue) -> (Compare, f64) {
    let bucketed = of.stat.quantile().is_some();
    let layout = Layout::of(catalogue.get(of.metric)).filter(|_| bucketed && value >= 0.0);
    let Some(layout) = layout else {
        return (op, value);
    };
    let bucket = layout.bucket(value);
    match op {
        Compare::Gt | Compare::Ge => (Compare::Gt, layout.upper(bucket)),
        Compare::Lt | Compare::Le => (Compare::Lt, layout.lower(bucket)),
        Compare::Eq | Compare::Ne => (op, value),
    }
}

/// A comparison that comes out the same whatever is measured.
#[derive(Clone, Debug, PartialEq)]
pub struct Foregone {
    pub holds: bool,
    /// `faithfulness_1h < 92`
    pub comparison: String,
    /// What the measurement can be.
    pub range: String,
    /// What was probably meant.
    pub help: Option<String>,
}

/// The comparisons of a measurement with a constant that can never, or must always, hold.
pub fn foregone(expr: &Expr, slots: &[Measurement], catalogue: &Catalogue) -> Vec<Foregone> {
    match expr {
        Expr::And(l, r) | Expr::Or(l, r) => {
            let mut found = foregone(l, slots, catalogue);
            found.extend(foregone(r, slots, catalogue));
            found
        }
        Expr::Compare(op, l, r) if !matches!(op, Compare::Eq | Compare::Ne) => match (&**l, &**r) {
            (Expr::Slot(slot), Expr::Const(value)) => {
                foregone_comparison(*op, &slots[*slot], *value, catalogue).into_iter().collect()
            }
            _ => Vec::new(),
        },
        _ => Vec::new(),
    }
}

fn foregone_comparison(op: Compare, of: &Measurement, value: f64, catalogue: &Catalogue) -> Option<Foregone> {
    let metric = catalogue.get(of.metric);
    let fraction = of.stat.is_fraction(metric.kind);
    let bucketed = of.stat.quantile().is_some();
    let (least, most) = (logic::least(of), logic::most(of, catalogue));
    let (judged_op, judged) = outward(op, value, of, catalogue);
    let (low, high) = (compare(judged_op, least, judged), compare(judged_op, most, judged));
    if low != high {
        return None;
    }
    let percent = fraction && value > 1.0 && value <= 100.0;
    let beyond = bucketed && !fraction && value >= most;
    let help = if percent {
        Some(format!("fractions are meant, not percent: write `{}`", tidy(value / 100.0)))
    } else if beyond {
        Some(format!("raise `max` of `{}` under `metrics:` in the configuration", metric.name))
    } else {
        None
    };
    let name = identifier::name(of, catalogue);
    Some(Foregone {
        holds: low,
        comparison: format!("{name} {} {}", compare_sign(op), tidy(value)),
        range: if most.is_finite() {
            format!("`{name}` lies between {} and {}", tidy(least), tidy(most))
        } else if metric.kind == Kind::Value || of.stat != Stat::Mean {
            format!("`{name}` is never negative")
        } else {
            String::new()
        },
        help,
    })
}

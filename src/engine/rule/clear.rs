//! What has to hold before a pause or notice resolves, when the rule file does not say: the good side of every comparison
//! with a margin, so that a value at the threshold does not switch back and forth.
//!
//! - means of scores and rates against a number: .01 to the good side, at most half the way to 0 or 1;
//! - other measurements against a number: 10 %;
//! - against the baseline: 10 % of the multiple; the mean of a score, or a rate, that must not fall below it: + .01;
//! - anything else: 10 % of the right side;
//! - `&&` becomes `||` and the other way round.

use super::condition;
use super::shape::{self, multiple};
use super::token::tidy;
use super::write::write;
use super::{Arm, Compare, Condition, Expr, Measurement, Shape, Side, Stat, logic};
use crate::model::metric::Catalogue;

/// The margin of scores and rates.
const FRACTION_MARGIN: f64 = 0.01;
/// The margin of everything else, relative.
const MARGIN: f64 = 0.10;

/// Derives the clear condition of a breach; its source is in the language of rule files.
pub fn derive(parsed: &condition::Parsed, catalogue: &Catalogue) -> Condition {
    let source = good(&parsed.expr, &parsed.slots, catalogue);
    match condition::parse(&source, catalogue) {
        Ok(clear) => clear.finish(catalogue).0,
        // Only a condition near the length limit can derive one beyond it: then resolve on the plain opposite.
        Err(_) => {
            let opposite = Expr::Not(Box::new(parsed.expr.clone()));
            Condition {
                source: format!("!({})", parsed.source),
                shape: shape::classify(&opposite, &parsed.slots),
                expr: opposite,
                slots: parsed.slots.clone(),
            }
        }
    }
}

/// Says why a given `clear` can hold while the breach does, where that can be proved.
pub fn contradiction(
    condition: &Condition,
    clear: &Condition,
    catalogue: &Catalogue,
) -> Option<&'static str> {
    if !logic::overlap(condition, clear, catalogue) {
        return None;
    }
    Some(match (side(condition), side(clear)) {
        (Some(bad), Some(good)) if bad == good => {
            "`clear` looks to the bad side: it can hold while the breach goes on"
        }
        (Some(_), Some(_)) => {
            "`clear` begins on the bad side of the threshold: it can hold while the breach goes on"
        }
        _ => "`clear` can hold while the breach goes on",
    })
}

fn side(condition: &Condition) -> Option<Side> {
    match condition.shape {
        Shape::Simple { side, .. } => Some(side),
        Shape::Other => None,
    }
}

fn good(expr: &Expr, slots: &[Measurement], catalogue: &Catalogue) -> String {
    let sub = |e: &Expr| {
        let text = good(e, slots, catalogue);
        if matches!(e, Expr::Compare(..)) { text } else { format!("({text})") }
    };
    match expr {
        Expr::And(l, r) => format!("{} || {}", sub(l), sub(r)),
        Expr::Or(l, r) => format!("{} && {}", sub(l), sub(r)),
        Expr::Compare(op, l, r) => comparison(*op, l, r, slots, catalogue),
        other => format!("!({})", write(other, slots, catalogue)),
    }
}

fn comparison(op: Compare, l: &Expr, r: &Expr, slots: &[Measurement], catalogue: &Catalogue) -> String {
    let text = |e: &Expr| write(e, slots, catalogue);
    let (sign, below) = match op {
        Compare::Lt | Compare::Le => (">=", true),
        Compare::Gt | Compare::Ge => ("<=", false),
        Compare::Eq => return format!("{} != {}", text(l), text(r)),
        Compare::Ne => return format!("{} == {}", text(l), text(r)),
    };
    let toward_good = |factor: f64| {
        if below { factor * (1.0 + MARGIN) } else { factor * (1.0 - MARGIN) }
    };
    let measured = match l {
        Expr::Slot(slot) => Some(&slots[*slot]),
        _ => None,
    };
    let right = match (measured, r, multiple(r)) {
        (Some(of), Expr::Const(value), _) => tidy(constant(of, *value, below, catalogue)),
        (Some(of), _, Some((base, factor))) if slots[base].arm == Arm::Baseline => {
            let name = text(&Expr::Slot(base));
            if below && is_smooth_fraction(of, catalogue) {
                let product = if factor == 1.0 { name } else { format!("{name} * {}", tidy(factor)) };
                format!("{product} + {FRACTION_MARGIN}")
            } else {
                format!("{name} * {}", tidy(toward_good(factor)))
            }
        }
        (_, Expr::Const(value), _) => {
            let margin = MARGIN * value.abs();
            tidy(if below { value + margin } else { value - margin })
        }
        _ => format!("({}) * {}", text(r), tidy(toward_good(1.0))),
    };
    format!("{} {sign} {right}", text(l))
}

/// The threshold moved to the good side, never to or beyond the end of the measurement's range.
fn constant(of: &Measurement, value: f64, below: bool, catalogue: &Catalogue) -> f64 {
    let kind = catalogue.get(of.metric).kind;
    let margin = if is_smooth_fraction(of, catalogue) { FRACTION_MARGIN } else { MARGIN * value.abs() };
    let to_one = of.stat.is_fraction(kind) || matches!(of.stat, Stat::Budget(_));
    let room = match (to_one, below) {
        (true, true) => (1.0 - value).max(0.0) / 2.0,
        (true, false) => value.max(0.0) / 2.0,
        (false, _) => f64::INFINITY,
    };
    let margin = margin.min(room);
    if below { value + margin } else { value - margin }
}

/// Means of scores and rates: what the .01 is meant for.
fn is_smooth_fraction(of: &Measurement, catalogue: &Catalogue) -> bool {
    matches!(of.stat, Stat::Mean | Stat::Rate) && of.stat.is_fraction(catalogue.get(of.metric).kind)
}

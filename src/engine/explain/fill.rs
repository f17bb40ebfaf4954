//! Conditions with their numbers in them.

use crate::engine::message::number;
use crate::engine::rule::eval::{Unknown, truth};
use crate::engine::rule::write::write;
use crate::engine::rule::{Condition, Expr, Measurement};
use crate::model::metric::Catalogue;

/// A condition with its measurements' numbers in it: `0.951 < 0.92`.
pub(super) fn filled(
    condition: &Condition,
    catalogue: &Catalogue,
    get: impl Fn(&Measurement) -> Option<f64>,
) -> String {
    filled_by_slot(condition, catalogue, |slot| get(&condition.slots[slot]))
}

/// A condition with numbers in place of its measurements; what is unknown keeps its name. Numbers have four digits, or as many
/// as it takes for the line to be as true as what it stands for.
pub(super) fn filled_by_slot(
    condition: &Condition,
    catalogue: &Catalogue,
    get: impl Fn(usize) -> Option<f64>,
) -> String {
    let exact = truth(&condition.expr, &mut |slot| get(slot).ok_or(Unknown::NoData));
    let rounded = |digits: Option<usize>| {
        put_in(&condition.expr, &|slot| get(slot).map(|value| digits.map_or(value, |d| round(value, d))))
    };
    let known = |expr: &Expr| truth(expr, &mut |_| Err(Unknown::NoData));
    let enough = [4, 6, 9].into_iter().map(|digits| rounded(Some(digits))).find(|e| known(e) == exact);
    write(&enough.unwrap_or_else(|| rounded(None)), &condition.slots, catalogue)
}

fn round(value: f64, digits: usize) -> f64 {
    let short = if digits == 4 { number(value, "") } else { format!("{value:.*e}", digits - 1) };
    short.parse().unwrap_or(value)
}

fn put_in(expr: &Expr, get: &dyn Fn(usize) -> Option<f64>) -> Expr {
    let sub = |e: &Expr| Box::new(put_in(e, get));
    match expr {
        Expr::Const(value) => Expr::Const(*value),
        Expr::Slot(slot) => get(*slot).map_or(Expr::Slot(*slot), Expr::Const),
        Expr::Neg(e) => Expr::Neg(sub(e)),
        Expr::Not(e) => Expr::Not(sub(e)),
        Expr::Arith(op, l, r) => Expr::Arith(*op, sub(l), sub(r)),
        Expr::Compare(op, l, r) => Expr::Compare(*op, sub(l), sub(r)),
        Expr::And(l, r) => Expr::And(sub(l), sub(r)),
        Expr::Or(l, r) => Expr::Or(sub(l), sub(r)),
    }
}

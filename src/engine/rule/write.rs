//! Compiled expressions written out again, in the language of rule files.

use super::identifier;
use super::token;
use super::{Arith, Compare, Expr, Measurement};
use crate::model::metric::Catalogue;

/// An expression in the language of rule files, with measurements by their full names.
pub fn write(expr: &Expr, slots: &[Measurement], catalogue: &Catalogue) -> String {
    let sub = |e: &Expr| {
        let text = write(e, slots, catalogue);
        let atom = matches!(e, Expr::Slot(_)) || matches!(e, Expr::Const(c) if *c >= 0.0);
        if atom { text } else { format!("({text})") }
    };
    match expr {
        Expr::Const(value) => token::tidy(*value),
        Expr::Slot(slot) => identifier::name(&slots[*slot], catalogue),
        Expr::Neg(e) => format!("-{}", sub(e)),
        Expr::Arith(op, l, r) => format!("{} {} {}", sub(l), arith_sign(*op), sub(r)),
        Expr::Compare(op, l, r) => {
            let side = |e: &Expr| write(e, slots, catalogue);
            format!("{} {} {}", side(l), compare_sign(*op), side(r))
        }
        Expr::And(l, r) => format!("{} && {}", sub(l), sub(r)),
        Expr::Or(l, r) => format!("{} || {}", sub(l), sub(r)),
        Expr::Not(e) => format!("!{}", sub(e)),
    }
}

const fn arith_sign(op: Arith) -> &'static str {
    match op {
        Arith::Add => "+",
        Arith::Sub => "-",
        Arith::Mul => "*",
        Arith::Div => "/",
        Arith::Rem => "%",
        Arith::Pow => "^",
    }
}

/// The sign of a comparison.
pub const fn compare_sign(op: Compare) -> &'static str {
    match op {
        Compare::Lt => "<",
        Compare::Le => "<=",
        Compare::Gt => ">",
        Compare::Ge => ">=",
        Compare::Eq => "==",
        Compare::Ne => "!=",
    }
}

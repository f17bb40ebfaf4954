//! (placeholder until the rule language lands)

use super::{Arith, Compare, Condition, Expr};

/// Why a number is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Unknown {
    NoData,
    NoBaseline,
    NotFinite,
}

pub fn truth(
    c: &Condition,
    get: &mut dyn FnMut(usize) -> Result<f64, Unknown>,
) -> Result<bool, Unknown> {
    expr_truth(&c.expr, get)
}

fn expr_truth(
    e: &Expr,
    get: &mut dyn FnMut(usize) -> Result<f64, Unknown>,
) -> Result<bool, Unknown> {
    Ok(match e {
        Expr::Compare(op, a, b) => {
            let (a, b) = (number(a, get)?, number(b, get)?);
            match op {
                Compare::Lt => a < b,
                Compare::Le => a <= b,
                Compare::Gt => a > b,
                Compare::Ge => a >= b,
                Compare::Eq => a == b,
                Compare::Ne => a != b,
            }
        }
        Expr::And(a, b) => expr_truth(a, get)? && expr_truth(b, get)?,
        Expr::Or(a, b) => expr_truth(a, get)? || expr_truth(b, get)?,
        Expr::Not(a) => !expr_truth(a, get)?,
        _ => return Err(Unknown::NotFinite),
    })
}

pub fn number(
    e: &Expr,
    get: &mut dyn FnMut(usize) -> Result<f64, Unknown>,
) -> Result<f64, Unknown> {
    Ok(match e {
        Expr::Const(c) => *c,
        Expr::Slot(s) => get(*s)?,
        Expr::Neg(a) => -number(a, get)?,
        Expr::Arith(Arith::Mul, a, b) => number(a, get)? * number(b, get)?,
        Expr::Arith(Arith::Add, a, b) => number(a, get)? + number(b, get)?,
        _ => return Err(Unknown::NotFinite),
    })
}

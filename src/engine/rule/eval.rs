//! Evaluates compiled expressions over measurements that may be missing.
//!
//! Three values: true, false, unknown with its reason (Kleene's strong logic: `false && unknown` is false, `true || unknown`
//! is true). Arithmetic is plain f64; whatever is not a finite number is unknown, never a default.

use serde::{Deserialize, Serialize};

use super::{Arith, Compare, Expr};

/// Why a measurement, and with it perhaps a condition, has no value.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, thiserror::Error,
)]
#[serde(rename_all = "snake_case")]
pub enum Unknown {
    /// The window holds no sample of the metric.
    #[error("no data")]
    NoData,
    /// The rule has no baseline variant, or that one has no sample in the window.
    #[error("no baseline")]
    NoBaseline,
    /// A quantile over hours that were kept before any rule asked for one: their bucket counts are gone.
    #[error("older hours were kept without the counts that a quantile needs")]
    NoHistogram,
    /// A division by zero, or a result that is no finite number.
    #[error("not a finite number")]
    NotFinite,
}

/// Whether a condition holds. `get` gives the measurement of a slot; it is asked from left to right, and not at all for
/// what the result no longer depends on.
pub fn truth(expr: &Expr, get: &mut dyn FnMut(usize) -> Result<f64, Unknown>) -> Result<bool, Unknown> {
    match expr {
        Expr::Compare(op, left, right) => {
            let left = number(left, get)?;
            Ok(compare(*op, left, number(right, get)?))
        }
        Expr::And(left, right) => match truth(left, get) {
            Ok(false) => Ok(false),
            Ok(true) => truth(right, get),
            Err(why) => match truth(right, get) {
                Ok(false) => Ok(false),
                Ok(true) | Err(_) => Err(why),
            },
        },
        Expr::Or(left, right) => match truth(left, get) {
            Ok(true) => Ok(true),
            Ok(false) => truth(right, get),
            Err(why) => match truth(right, get) {
                Ok(true) => Ok(true),
                Ok(false) | Err(_) => Err(why),
            },
        },
        Expr::Not(inner) => truth(inner, get).map(|b| !b),
        // The compiler builds no number where a truth value is wanted.
        Expr::Const(_) | Expr::Slot(_) | Expr::Neg(_) | Expr::Arith(..) => Err(Unknown::NotFinite),
    }
}

/// The value of a numeric expression, always finite.
pub fn number(expr: &Expr, get: &mut dyn FnMut(usize) -> Result<f64, Unknown>) -> Result<f64, Unknown> {
    let value = match expr {
        Expr::Const(value) => *value,
        Expr::Slot(slot) => get(*slot)?,
        Expr::Neg(inner) => -number(inner, get)?,
        Expr::Arith(op, left, right) => {
            let left = number(left, get)?;
            arith(*op, left, number(right, get)?)
        }
        // The compiler builds no truth value where a number is wanted.
        Expr::Compare(..) | Expr::And(..) | Expr::Or(..) | Expr::Not(_) => f64::NAN,
    };
    finite(value)
}

/// One arithmetic step on f64; the caller checks that the result is finite.
pub fn arith(op: Arith, left: f64, right: f64) -> f64 {
    match op {
        Arith::Add => left + right,
        Arith::Sub => left - right,
        Arith::Mul => left * right,
        Arith::Div => left / right,
        Arith::Rem => left % right,
        Arith::Pow => left.powf(right),
    }
}

/// One comparison of finite numbers.
#[expect(clippy::float_cmp, reason = "`==` in a rule means exactly that; compile warns about it")]
pub fn compare(op: Compare, left: f64, right: f64) -> bool {
    match op {
        Compare::Lt => left < right,
        Compare::Le => left <= right,
        Compare::Gt => left > right,
        Compare::Ge => left >= right,
        Compare::Eq => left == right,
        Compare::Ne => left != right,
    }
}

fn finite(value: f64) -> Result<f64, Unknown> {
    if value.is_finite() { Ok(value) } else { Err(Unknown::NotFinite) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SLOTS: usize = 3;
    const COMPARES: [Compare; 6] =
        [Compare::Lt, Compare::Le, Compare::Gt, Compare::Ge, Compare::Eq, Compare::Ne];
    const ARITHS: [Arith; 6] = [Arith::Add, Arith::Sub, Arith::Mul, Arith::Div, Arith::Rem, Arith::Pow];

    fn numeric() -> impl Strategy<Value = Expr> {
        let leaf =
            prop_oneof![(-3i8..4).prop_map(|n| Expr::Const(f64::from(n))), (0..SLOTS).prop_map(Expr::Slot),];
        leaf.prop_recursive(3, 12, 2, |inner| {
            prop_oneof![
                inner.clone().prop_map(|e| Expr::Neg(Box::new(e))),
                (prop::sample::select(&ARITHS[..]), inner.clone(), inner).prop_map(|(op, a, b)| Expr::Arith(
                    op,
                    Box::new(a),
                    Box::new(b)
                )),
            ]
        })
    }

    fn boolean() -> impl Strategy<Value = Expr> {
        let leaf = (prop::sample::select(&COMPARES[..]), numeric(), numeric())
            .prop_map(|(op, a, b)| Expr::Compare(op, Box::new(a), Box::new(b)));
        leaf.prop_recursive(4, 24, 2, |inner| {
            prop_oneof![
                inner.clone().prop_map(|e| Expr::Not(Box::new(e))),
                (inner.clone(), inner.clone()).prop_map(|(a, b)| Expr::And(Box::new(a), Box::new(b))),
                (inner.clone(), inner).prop_map(|(a, b)| Expr::Or(Box::new(a), Box::new(b))),
            ]
        })
    }

    /// Every truth value that is possible once each unknown comparison is replaced by both of its possible results.
    fn possible(expr: &Expr, values: &[Option<f64>]) -> (bool, bool) {
        fn num(expr: &Expr, values: &[Option<f64>]) -> Option<f64> {
            let value = match expr {
                Expr::Const(c) => *c,
                Expr::Slot(i) => values[*i]?,
                Expr::Neg(e) => -num(e, values)?,
                Expr::Arith(op, a, b) => {
                    let (a, b) = (num(a, values)?, num(b, values)?);
                    match op {
                        Arith::Add => a + b,
                        Arith::Sub => a - b,
                        Arith::Mul => a * b,
                        Arith::Div => a / b,
                        Arith::Rem => a % b,
                        Arith::Pow => a.powf(b),
                    }
                }
                _ => unreachable!(),
            };
            value.is_finite().then_some(value)
        }
        match expr {
            Expr::Compare(op, a, b) => match (num(a, values), num(b, values)) {
                (Some(a), Some(b)) => {
                    let order = a.partial_cmp(&b).unwrap();
                    let holds = match op {
                        Compare::Lt => order.is_lt(),
                        Compare::Le => order.is_le(),
                        Compare::Gt => order.is_gt(),
                        Compare::Ge => order.is_ge(),
                        Compare::Eq => order.is_eq(),
                        Compare::Ne => order.is_ne(),
                    };
                    (holds, !holds)
                }
                _ => (true, true),
            },
            Expr::Not(e) => {
                let (t, f) = possible(e, values);
                (f, t)
            }
            Expr::And(a, b) => {
                let ((at, af), (bt, bf)) = (possible(a, values), possible(b, values));
                (at && bt, af || bf)
            }
            Expr::Or(a, b) => {
                let ((at, af), (bt, bf)) = (possible(a, values), possible(b, values));
                (at || bt, af && bf)
            }
            _ => unreachable!(),
        }
    }

    proptest! {
        #[test]
        fn agrees_with_trying_every_possibility(
            expr in boolean(),
            values in prop::collection::vec(prop::option::of(-2i8..3), SLOTS),
        ) {
            let values: Vec<Option<f64>> = values.iter().map(|v| v.map(f64::from)).collect();
            let got = truth(&expr, &mut |slot| values[slot].ok_or(Unknown::NoData));
            match possible(&expr, &values) {
                (true, false) => prop_assert_eq!(got, Ok(true)),
                (false, true) => prop_assert_eq!(got, Ok(false)),
                (true, true) => prop_assert!(got.is_err()),
                (false, false) => prop_assert!(false, "impossible"),
            }
        }
    }

    #[test]
    fn what_is_not_finite_is_unknown() {
        let div =
            |a: f64, b: f64| Expr::Arith(Arith::Div, Box::new(Expr::Const(a)), Box::new(Expr::Const(b)));
        let mut none = |_| Err(Unknown::NoBaseline);
        assert_eq!(number(&div(1.0, 5.0), &mut none), Ok(0.2));
        assert_eq!(number(&div(1.0, 0.0), &mut none), Err(Unknown::NotFinite));
        assert_eq!(number(&div(0.0, 0.0), &mut none), Err(Unknown::NotFinite));
        assert_eq!(number(&Expr::Slot(0), &mut none), Err(Unknown::NoBaseline));
        assert_eq!(number(&Expr::Slot(0), &mut |_| Ok(f64::NAN)), Err(Unknown::NotFinite));
    }
}

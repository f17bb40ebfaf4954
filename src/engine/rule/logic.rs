//! What follows from conditions alone, whatever is measured: that one implies another, that one can never hold, that two can
//! hold together.
//!
//! A condition becomes a list of cases (its disjunctive normal form), each a conjunction of ranges of measurements and of
//! ratios to the baseline, and of comparisons that are not looked into. Every answer of `true` is a proof; a condition that
//! is too large, or a comparison of another form, only makes proofs fail.

use std::collections::{BTreeMap, BTreeSet};

use super::condition;
use super::shape::multiple;
use super::write::write;
use super::{Arm, Compare, Condition, Expr, Measurement, Stat};
use crate::model::metric::{Catalogue, Kind};

/// More cases than this are not looked at.
const MOST_CASES: usize = 64;

/// Whether `then` holds whenever `when` does.
pub fn implies(when: &Condition, then: &Condition, catalogue: &Catalogue) -> bool {
    let (Some(when), Some(then)) = (cases(&when.expr, &when.slots, catalogue), all_cases(then, catalogue))
    else {
        return false;
    };
    when.iter().all(|case| then.iter().any(|wanted| case.implies(wanted)))
}

/// Whether an expression is false or unknown whatever is measured.
pub fn never(expr: &Expr, slots: &[Measurement], catalogue: &Catalogue) -> bool {
    cases(expr, slots, catalogue).is_some_and(|cases| cases.is_empty())
}

/// Whether an expression is true or unknown whatever is measured.
pub fn always(expr: &Expr, slots: &[Measurement], catalogue: &Catalogue) -> bool {
    never(&condition::normal(expr.clone(), true, slots), slots, catalogue)
}

/// Whether both can hold at once, shown by numbers that are free of each other: `clear` and its breach must not.
pub fn overlap(condition: &Condition, clear: &Condition, catalogue: &Catalogue) -> bool {
    let (Some(bad), Some(good)) = (all_cases(condition, catalogue), all_cases(clear, catalogue)) else {
        return false;
    };
    let terms: BTreeSet<&Term> = bad.iter().flat_map(|case| case.ranges.keys()).collect();
    let same = good.iter().all(|case| case.ranges.keys().all(|term| terms.contains(term)));
    same && bad.iter().any(|b| good.iter().any(|g| b.and(g).is_some_and(|both| both.is_free())))
}

/// What a comparison puts bounds on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Term {
    Slot(Measurement),
    /// The first by the second.
    Ratio(Measurement, Measurement),
}

/// An interval; each end belongs to it or not.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Range {
    low: f64,
    low_open: bool,
    high: f64,
    high_open: bool,
}

impl Range {
    const ALL: Self = Self { low: 0.0, low_open: false, high: f64::INFINITY, high_open: false };

    fn of(op: Compare, value: f64) -> Option<Self> {
        let infinite = Self { low: f64::NEG_INFINITY, ..Self::ALL };
        Some(match op {
            Compare::Lt => Self { high: value, high_open: true, ..infinite },
            Compare::Le => Self { high: value, ..infinite },
            Compare::Gt => Self { low: value, low_open: true, ..infinite },
            Compare::Ge => Self { low: value, ..infinite },
            Compare::Eq => Self { low: value, high: value, ..infinite },
            Compare::Ne => return None,
        })
    }

    fn and(self, other: Self) -> Self {
        let (low, low_open) = match self.low.total_cmp(&other.low) {
            std::cmp::Ordering::Less => (other.low, other.low_open),
            std::cmp::Ordering::Equal => (self.low, self.low_open || other.low_open),
            std::cmp::Ordering::Greater => (self.low, self.low_open),
        };
        let (high, high_open) = match self.high.total_cmp(&other.high) {
            std::cmp::Ordering::Less => (self.high, self.high_open),
            std::cmp::Ordering::Equal => (self.high, self.high_open || other.high_open),
            std::cmp::Ordering::Greater => (other.high, other.high_open),
        };
        Self { low, low_open, high, high_open }
    }

    /// A ratio of 0 to 0 meets every bound that belongs to its range, so two closed ends leave it possible.
    fn is_empty(self, ratio: bool) -> bool {
        let open = self.low_open || self.high_open;
        if ratio && self.low > 0.0 {
            self.low >= self.high && open
        } else {
            self.low > self.high || (self.low >= self.high && open)
        }
    }

    fn within(self, outer: Self, ratio: bool) -> bool {
        let low = self.low > outer.low || (self.low >= outer.low && (self.low_open || !outer.low_open));
        let high =
            self.high < outer.high || (self.high <= outer.high && (self.high_open || !outer.high_open));
        let zero = (self.low_open || !outer.low_open) && (self.high_open || !outer.high_open);
        low && high && (zero || !ratio)
    }
}

/// All of this at once.
#[derive(Clone, Debug, Default)]
struct Case {
    ranges: BTreeMap<Term, Range>,
    /// Comparisons of another form, written out.
    others: BTreeSet<String>,
}

impl Case {
    /// `None` if that cannot be.
    fn and(&self, other: &Self) -> Option<Self> {
        let mut both = self.clone();
        both.others.extend(other.others.iter().cloned());
        for (term, range) in &other.ranges {
            let joint = both.ranges.get(term).map_or(*range, |own| own.and(*range));
            if joint.is_empty(matches!(term, Term::Ratio(..))) {
                return None;
            }
            both.ranges.insert(*term, joint);
        }
        Some(both)
    }

    fn implies(&self, wanted: &Self) -> bool {
        let held = |term: &Term, outer: Range| {
            self.ranges.get(term).is_some_and(|own| own.within(outer, matches!(term, Term::Ratio(..))))
        };
        wanted.others.is_subset(&self.others) && wanted.ranges.iter().all(|(term, range)| held(term, *range))
    }

    /// Whether numbers within the ranges can be had, not only zeros: no two ranges are about the same samples.
    fn is_free(&self) -> bool {
        let mut seen = BTreeSet::new();
        let samples = |m: &Measurement| (m.metric, m.window, m.arm);
        self.others.is_empty()
            && self.ranges.values().all(|range| !range.is_empty(false))
            && self.ranges.keys().all(|term| match term {
                Term::Slot(m) => seen.insert(samples(m)),
                Term::Ratio(own, base) => seen.insert(samples(own)) && seen.insert(samples(base)),
            })
    }
}

fn all_cases(condition: &Condition, catalogue: &Catalogue) -> Option<Vec<Case>> {
    cases(&condition.expr, &condition.slots, catalogue)
}

/// The cases in which an expression can hold; `None` if there are too many.
fn cases(expr: &Expr, slots: &[Measurement], catalogue: &Catalogue) -> Option<Vec<Case>> {
    let out = match expr {
        Expr::Or(l, r) => {
            let mut out = cases(l, slots, catalogue)?;
            out.extend(cases(r, slots, catalogue)?);
            out
        }
        Expr::And(l, r) => {
            let (left, right) = (cases(l, slots, catalogue)?, cases(r, slots, catalogue)?);
            if left.len() * right.len() > MOST_CASES {
                return None;
            }
            left.iter().flat_map(|l| right.iter().filter_map(|r| l.and(r))).collect()
        }
        comparison => atom(comparison, slots, catalogue).into_iter().collect(),
    };
    (out.len() <= MOST_CASES).then_some(out)
}

/// The case of one comparison; `None` if it can never hold.
fn atom(comparison: &Expr, slots: &[Measurement], catalogue: &Catalogue) -> Option<Case> {
    let Some((term, range)) = bounds(comparison, slots) else {
        let others = BTreeSet::from([write(comparison, slots, catalogue)]);
        return Some(Case { others, ..Case::default() });
    };
    let possible = match term {
        Term::Slot(of) => Range { low: least(&of), high: most(&of, catalogue), ..Range::ALL },
        Term::Ratio(..) => Range::ALL,
    };
    let empty = Case { ranges: BTreeMap::from([(term, possible)]), ..Case::default() };
    empty.and(&Case { ranges: BTreeMap::from([(term, range)]), ..Case::default() })
}

fn bounds(comparison: &Expr, slots: &[Measurement]) -> Option<(Term, Range)> {
    let Expr::Compare(op, left, right) = comparison else { return None };
    let Expr::Slot(slot) = **left else { return None };
    let own = slots[slot];
    if let Expr::Const(value) = **right {
        return Some((Term::Slot(own), Range::of(*op, value)?));
    }
    let (base, factor) = multiple(right)?;
    let ratio = own.arm == Arm::Own && slots[base].arm == Arm::Baseline && factor.is_finite() && factor > 0.0;
    ratio.then_some((Term::Ratio(own, slots[base]), Range::of(*op, factor)?))
}

/// The least value that a measurement can have: 0, but an error budget can be overspent.
pub fn least(of: &Measurement) -> f64 {
    match of.stat {
        Stat::Budget(allowed) => 1.0 - allowed.share().recip(),
        _ => 0.0,
    }
}

/// The greatest value that a measurement can have, infinite if there is none.
pub fn most(of: &Measurement, catalogue: &Catalogue) -> f64 {
    let metric = catalogue.get(of.metric);
    match of.stat {
        stat if stat.is_fraction(metric.kind) => 1.0,
        // Half of the samples at each end.
        Stat::Stddev if metric.kind == Kind::Score => 0.5,
        stat if stat.quantile().is_some() => metric.max,
        Stat::Burn(allowed) => allowed.share().recip(),
        Stat::Budget(_) => 1.0,
        _ => f64::INFINITY,
    }
}

//! What leaving out a pair cannot change: whether a single comparison comes out the same without every pair of cells, told from
//! the range of its measurements alone.

use crate::engine::measure::range::{Range, without_any_pair};
use crate::engine::measure::{Frame, Lookup};
use crate::engine::rule::{Condition, Shape, Side, Threshold};

/// A comparison closer to its threshold than this, relatively, is left to the search: roundings must not decide.
const MARGIN: f64 = 1e-9;

/// How a comparison comes out without every pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Certain {
    /// True without each of them, with at least so many samples left.
    True {
        left: u64,
    },
    False,
}

/// The outcome if no pair can change it; `None` where that is not certain, and each pair has to be asked. Thresholds of
/// quantiles lie at the edge of a bucket, as the compiler puts them.
pub(super) fn certain(condition: &Condition, lookup: &impl Lookup, frame: Frame) -> Option<Certain> {
    let Shape::Simple { slot, side, threshold } = condition.shape else { return None };
    let own = without_any_pair(lookup, &condition.slots[slot], frame)?;
    let limit = match threshold {
        Threshold::Const(value) => Range { low: value, high: value, left: u64::MAX },
        Threshold::Baseline { slot, factor } => {
            let base = without_any_pair(lookup, &condition.slots[slot], frame)?;
            let (one, other) = (base.low * factor, base.high * factor);
            Range { low: one.min(other), high: one.max(other), left: base.left }
        }
    };
    let (above, below) = (beyond(own.low, limit.high), beyond(limit.low, own.high));
    match (side, above, below) {
        (Side::Above, true, _) | (Side::Below, _, true) => {
            Some(Certain::True { left: own.left.min(limit.left) })
        }
        (Side::Above, _, true) | (Side::Below, true, _) => Some(Certain::False),
        _ => None,
    }
}

fn beyond(a: f64, b: f64) -> bool {
    a - b > MARGIN * a.abs().max(b.abs())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::engine::layout::Layout;
    use crate::engine::measure::SlotPanes;
    use crate::engine::pane::{OpenValues, PaneData};
    use crate::engine::rule::Window;
    use crate::engine::series::Series;
    use crate::engine::testkit::{Arms, any_rule};
    use crate::engine::verdict::{lay_out, samples_without, true_without};
    use crate::model::metric::Catalogue;
    use crate::model::time::Minute;

    /// A series of nine hours with samples (minute, level between 0 and 1) of a metric.
    fn series(layout: Option<Layout>, window: u32, samples: &[(i64, f64)]) -> Series {
        let mut series = Series::new(layout);
        series.want(&[(Window(window), true)], Some(Minute(0)));
        for minute in 1..=540 {
            let values = || samples.iter().filter(|s| s.0 == minute).map(|s| s.1);
            let data = match &layout {
                None => PaneData::Counts {
                    n: values().count() as u64,
                    trues: values().filter(|v| *v > 0.5).count() as u64,
                },
                Some(layout) => {
                    let mut open = OpenValues::default();
                    // A latency or a score.
                    let most = layout.upper(layout.bucket(2_000.0));
                    values().for_each(|v| open.record(layout, v * most));
                    PaneData::Values(open.seal(layout))
                }
            };
            if data.samples() > 0 {
                series.add(Minute(minute), data, Some(Minute(minute - 1)));
            }
            series.close(Minute(minute));
        }
        series
    }

    fn samples() -> impl Strategy<Value = Vec<(i64, f64)>> {
        let levels = || (0.0f64..1.0, 0.0f64..1.0);
        (levels(), prop::collection::vec((1i64..=540, 0.0f64..1.0), 0..150)).prop_map(
            |((low, width), samples)| {
                samples.into_iter().map(|(m, v)| (m, low + (1.0 - low) * width * v)).collect()
            },
        )
    }

    proptest! {
        #![proptest_config(crate::testing::cases(96))]

        /// What is certain is what asking every pair finds, over minutes and over hours.
        #[test]
        fn what_is_certain_is_what_every_pair_says(
            kind in 0usize..5,
            window in prop::sample::select(vec![1u32, 5, 60, 360, 480]),
            own in samples(),
            base in samples(),
            picked in any::<prop::sample::Index>(),
            nudge in -0.02f64..0.02,
        ) {
            let (mut rule, metric) = any_rule(kind, window, 0);
            let catalogue = Catalogue::default();
            let layout = Layout::of(catalogue.get(catalogue.find(metric).unwrap()));
            let arms = Arms { own: series(layout, window, &own), base: series(layout, window, &base) };
            let frame = Frame { closed: Minute(540), floor: Minute(0) };
            let (slot, pairs) = (rule.condition.slots[0], frame.pairs(Window(window)).collect::<Vec<_>>());
            let value = SlotPanes::new(&arms, &slot, frame).without(pairs[picked.index(pairs.len())]);
            if let (Ok(value), Shape::Simple { side, threshold: Threshold::Const(_), .. }) = (value, &rule.condition.shape) {
                // Close to what some pair leaves.
                let limit = value * (1.0 + nudge);
                rule = crate::engine::testkit::rule(metric, slot.stat, window, *side, limit, rule.action);
            }
            let condition = &rule.condition;
            let panes: Vec<SlotPanes<'_>> = lay_out(condition, &arms, frame);
            let certain = certain(condition, &arms, frame);
            for pair in frame.pairs(condition.window()) {
                let said = true_without(condition, &panes, pair);
                match certain {
                    Some(Certain::False) => prop_assert!(!said, "true without {pair:?}"),
                    Some(Certain::True { left }) => {
                        prop_assert!(said, "not true without {pair:?}");
                        prop_assert!(samples_without(condition, &panes, pair) >= left);
                    }
                    None => {}
                }
            }
        }
    }

    #[test]
    fn what_is_far_from_its_threshold_is_certain_unless_nothing_is_left() {
        let flat = |level: f64| (1..=540).map(move |m| (m, level)).collect::<Vec<_>>();
        for (kind, window) in (0..3).flat_map(|kind| [(kind, 360), (kind, 480)]) {
            let (rule, metric) = any_rule(kind, window, 0);
            let catalogue = Catalogue::default();
            let layout = Layout::of(catalogue.get(catalogue.find(metric).unwrap()));
            let says = |samples: &[(i64, f64)]| {
                let own = series(layout, window, samples);
                let frame = Frame { closed: Minute(540), floor: Minute(0) };
                certain(&rule.condition, &Arms { base: own.clone(), own }, frame)
            };
            let (low, high) = (says(&flat(0.1)), says(&flat(0.9)));
            let (bad, good) = if kind == 0 { (low, high) } else { (high, low) };
            assert!(matches!(bad, Some(Certain::True { left }) if left < 480 && left > 300), "{bad:?}");
            assert_eq!(good, Some(Certain::False));
            assert_eq!(says(&flat(0.9)[538..]), None, "nothing is left without them");
        }
    }
}

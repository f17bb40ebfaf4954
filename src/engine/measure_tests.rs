//! Deleting any pair of cells, beside what is left when they never were.

use proptest::prelude::*;

use super::super::pane::{OpenValues, PaneData};
use super::super::testkit::One;
use super::*;
use crate::model::metric::MetricId;

/// Values of minutes 1.., one list a minute, as a series closed through the last of them.
fn series(layout: Layout, minutes: &[Vec<f64>]) -> (One, Frame) {
    let mut series = Series::new(Some(layout));
    let closed = Minute(minutes.len() as i64);
    for (values, minute) in minutes.iter().zip(1..) {
        let mut open = OpenValues::default();
        values.iter().for_each(|v| open.record(&layout, *v));
        if !values.is_empty() {
            series.add(Minute(minute), PaneData::Values(open.seal(&layout)), Some(closed));
        }
    }
    (One(series), Frame { closed, floor: Minute(1) })
}

proptest! {
    #![proptest_config(crate::testing::cases(128))]

    /// Every statistic without every pair is what the panes that are left say by themselves.
    #[test]
    fn without_a_pair_is_what_is_left(
        minutes in prop::collection::vec(prop::collection::vec(0.0f64..700.0, 0..9), 1..30),
        limit in 0.0f64..700.0,
        above in any::<bool>(),
    ) {
        let layout = Layout::new(1.0, 600.0);
        let (lookup, frame) = series(layout, &minutes);
        for stat in [Stat::Mean, Stat::Sum, Stat::Count, Stat::Min, Stat::Max, Stat::Stddev, Stat::P50, Stat::P95] {
            let m = Measurement { metric: MetricId(0), stat, window: Window(60), arm: Arm::Own };
            let panes = SlotPanes::new(&lookup, &m, frame);
            let edge = SlotPanes::at_edge(&lookup, &m, frame, limit, above);
            for minute in (1..=minutes.len() as i64).map(Minute) {
                let counted = edge.beyond(minute, limit, above);
                prop_assert_eq!(counted, panes.beyond(minute, limit, above));
            }
            for pair in 0..=minutes.len() as i64 {
                let left: Vec<Vec<f64>> = minutes
                    .iter()
                    .zip(1i64..)
                    .filter(|(_, at)| !(pair..=pair + 1).contains(at))
                    .map(|(values, _)| values.clone())
                    .collect();
                let (rest, rest_frame) = series(layout, &left);
                let whole = minutes.len() as f64 / left.len().max(1) as f64;
                let expected = full(&rest, &m, rest_frame)
                    .map(|v| if stat.is_extensive() { v * whole } else { v })
                    .ok()
                    .filter(|_| !left.is_empty());
                let found = panes.without(Minute(pair)).ok();
                let close = match (found, expected) {
                    (Some(a), Some(b)) => (a - b).abs() < 1e-6,
                    (a, b) => a == b,
                };
                prop_assert!(close, "{:?} without {}: {:?}, not {:?}", stat, pair, found, expected);
                if let (Some(beyond), Some(value)) = (edge.quantile_beyond(Minute(pair)), expected) {
                    let (bucket, threshold) = (layout.bucket(value), layout.bucket(limit));
                    prop_assert_eq!(beyond, if above { bucket > threshold } else { bucket < threshold });
                }
            }
        }
    }
}

//! What a series says, beside brute force over its samples.

use proptest::prelude::*;

use super::super::pane::{ONE, OpenValues};
use super::*;

const BASE: i64 = 28_000_000;

fn values(layout: &Layout, samples: &[f64]) -> PaneData {
    let mut open = OpenValues::default();
    samples.iter().for_each(|v| open.record(layout, *v));
    PaneData::Values(open.seal(layout))
}

proptest! {
    #![proptest_config(crate::testing::cases(48))]

    /// Totals equal what brute force finds, whatever arrives late and however far the clock jumps.
    #[test]
    fn windows_are_brute_force(events in prop::collection::vec((0i64..480, -40i64..3, 0.0f64..900.0), 1..400)) {
        let layout = Layout::new(1.0, 600.0);
        let mut series = Series::new(Some(layout));
        let mut all: Vec<(Minute, f64)> = Vec::new();
        let mut closed = Minute(BASE);
        series.want(&[(Window(60), true), (Window(360), true)], Some(closed));
        let mut order = events;
        order.sort_by_key(|e| e.0);
        for (at, offset, value) in order {
            while closed.0 < BASE + at {
                closed = closed.plus(1);
                series.close(closed);
            }
            let minute = Minute(BASE + at + offset);
            series.add(minute, values(&layout, &[value]), Some(closed));
            all.push((minute, value));
            for window in [5i64, 60, 360] {
                let from = closed.plus(1 - window);
                let inside: Vec<f64> =
                    all.iter().filter(|(m, _)| *m >= from && *m <= closed).map(|(_, v)| *v).collect();
                let sums = series.sums(from, closed, closed);
                prop_assert_eq!(sums.n, inside.len() as u64);
                prop_assert_eq!(sums.sum, inside.iter().map(|v| i128::from(super::super::layout::micros(*v))).sum::<i128>());
                let mut buckets: Vec<u16> = inside.iter().map(|v| layout.bucket(*v)).collect();
                buckets.sort_unstable();
                let rank = ((buckets.len() as f64 * 0.95).ceil() as usize).max(1);
                let expected = buckets.get(rank - 1).map(|b| layout.upper(*b));
                prop_assert_eq!(series.quantile(0.95, from, closed, closed), expected);
            }
        }
        prop_assert_eq!(series.audit(closed), 0);
    }
}

#[test]
fn a_damaged_total_is_found_and_rebuilt() {
    let mut series = Series::new(None);
    series.want(&[(Window(60), false)], Some(Minute(BASE)));
    series.add(Minute(BASE), PaneData::Counts { n: 10, trues: 3 }, Some(Minute(BASE)));
    series.damage();
    assert_eq!(series.audit(Minute(BASE)), 1);
    assert_eq!(series.sums(Minute(BASE - 59), Minute(BASE), Minute(BASE)).sum, 3 * ONE);
}

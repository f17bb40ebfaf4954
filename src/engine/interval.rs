//! Confidence sequences of measurements: intervals that hold at all times at once, however often they are looked at.

use super::layout::Layout;
use super::measure::{Frame, Lookup};
use super::rule::{Measurement, Stat};
use super::series::{Series, quantile_bucket};
use crate::model::metric::{Catalogue, Kind};
use crate::stats::bounded_mean::Moments;
use crate::stats::mixture::probability_interval;
use crate::stats::quantile::rank_offsets;

/// The probability that an interval ever fails to hold the true value.
pub const ALPHA: f64 = 0.05;
/// The intrinsic time (about the summed variance) at which intervals of means are tightest: an hour of good scores at sixty
/// a minute.
const MEAN_TUNED_FOR: f64 = 50.0;
/// The samples at which intervals of rates and quantiles are tightest.
const TUNED_FOR: f64 = 1_000.0;

/// The interval of one measurement over its window, in the metric's unit; for quantiles rounded outward to bucket edges.
/// `None` without samples and for statistics that have none: sums, counts, extremes, means without an upper bound.
pub fn interval(
    lookup: &impl Lookup,
    m: &Measurement,
    frame: Frame,
    catalogue: &Catalogue,
) -> Option<(f64, f64)> {
    let series = lookup.series(m)?;
    let sums = series.sums(frame.from(m.window), frame.closed, frame.closed);
    if sums.n == 0 {
        return None;
    }
    let (n, sum) = (sums.n as f64, sums.sum as f64 / 1e6);
    match (m.stat, m.stat.quantile(), catalogue.get(m.metric).kind) {
        (_, Some(q), _) => quantile(series, q, n, m, frame),
        (Stat::Mean | Stat::Rate, None, Kind::Boolean) => {
            Some(probability_interval(sum, n, ALPHA, TUNED_FOR, ALPHA))
        }
        (Stat::Burn(allowed), None, _) => {
            let (low, high) = probability_interval(sum, n, ALPHA, TUNED_FOR, ALPHA);
            Some((low / allowed.share(), high / allowed.share()))
        }
        (Stat::Budget(allowed), None, _) => {
            let (low, high) = probability_interval(sum, n, ALPHA, TUNED_FOR, ALPHA);
            Some((1.0 - high / allowed.share(), 1.0 - low / allowed.share()))
        }
        (Stat::Mean | Stat::Rate, None, Kind::Score) => {
            let moments = Moments { n, sum, squares: sums.squares as f64 / 1e12 };
            Some(moments.confidence_sequence(ALPHA, MEAN_TUNED_FOR))
        }
        _ => None,
    }
}

fn quantile(series: &Series, q: f64, n: f64, m: &Measurement, frame: Frame) -> Option<(f64, f64)> {
    let layout: &Layout = series.layout()?;
    let histogram = series.histogram(frame.from(m.window), frame.closed, frame.closed)?;
    let (down, up) = rank_offsets(q, n, ALPHA, TUNED_FOR);
    let last = u16::try_from(layout.buckets() - 1).unwrap_or(u16::MAX);
    let lower = if q > down { layout.lower(quantile_bucket(&histogram, layout, q - down)) } else { 0.0 };
    let upper = if q + up < 1.0 { quantile_bucket(&histogram, layout, q + up) } else { last };
    Some((lower, layout.upper(upper)))
}

#[cfg(test)]
mod tests {
    use super::super::pane::{OpenValues, PaneData};
    use super::super::rule::{Arm, Window};
    use super::super::testkit::One;
    use super::*;
    use crate::model::time::Minute;

    #[test]
    fn intervals_hold_the_value_and_narrow_with_samples() {
        let catalogue = Catalogue::default();
        for (metric, stat) in [("faithfulness", Stat::Mean), ("abstain", Stat::Rate), ("latency", Stat::P95)]
        {
            let metric = catalogue.find(metric).unwrap();
            let layout = Layout::of(catalogue.get(metric));
            let m = Measurement { metric, stat, window: Window(60), arm: Arm::Own };
            let width = |per_minute: u64| {
                let mut one = One(Series::new(layout));
                for minute in 1..=60u64 {
                    let data = match &layout {
                        None => PaneData::Counts { n: per_minute, trues: per_minute / 5 },
                        Some(layout) => {
                            let mut open = OpenValues::default();
                            let scale = if stat == Stat::P95 { 1_000.0 } else { 1.0 };
                            (0..per_minute).for_each(|i| {
                                let share = ((389 * i + 101 * minute) % 1_000) as f64 / 1_000.0;
                                open.record(layout, scale * share);
                            });
                            PaneData::Values(open.seal(layout))
                        }
                    };
                    one.0.add(Minute(minute as i64), data, None);
                }
                let frame = Frame { closed: Minute(60), floor: Minute(1) };
                let value = super::super::measure::full(&one, &m, frame).unwrap();
                let (lower, upper) = interval(&one, &m, frame, &catalogue).unwrap();
                assert!(lower <= value && value <= upper, "{lower} {value} {upper}");
                upper - lower
            };
            assert!(width(1_000) < width(10), "{stat:?}");
            let empty = One(Series::new(layout));
            let frame = Frame { closed: Minute(60), floor: Minute(1) };
            assert_eq!(interval(&empty, &m, frame, &catalogue), None);
        }
    }
}

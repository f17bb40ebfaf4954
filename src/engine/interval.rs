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
    use super::super::rule::{Allowed, Arm, Window};
    use super::super::testkit::One;
    use super::*;
    use crate::model::time::Minute;

    /// A budget's share of bad samples stands behind the burn rate and what remains: their intervals follow from its own.
    #[test]
    fn intervals_of_objectives_are_those_of_the_rate_behind_them() {
        let catalogue = Catalogue::default();
        let metric = catalogue.find("abstain").unwrap();
        let mut one = One(Series::new(None));
        (1..=60).for_each(|minute| one.0.add(Minute(minute), PaneData::Counts { n: 50, trues: 3 }, None));
        let frame = Frame { closed: Minute(60), floor: Minute(1) };
        let of = |stat| {
            let m = Measurement { metric, stat, window: Window(60), arm: Arm::Own };
            interval(&one, &m, frame, &catalogue).unwrap()
        };
        let allowed = Allowed(10_000);
        let (low, high) = of(Stat::Rate);
        assert!(0.03 < low && low < 0.06 && 0.06 < high && high < 0.12, "{low} {high}");
        let near = |found: (f64, f64), wanted: (f64, f64)| {
            assert!(
                (found.0 - wanted.0).abs() < 1e-9 && (found.1 - wanted.1).abs() < 1e-9,
                "{found:?} {wanted:?}"
            );
        };
        near(of(Stat::Burn(allowed)), (low * 100.0, high * 100.0));
        near(of(Stat::Budget(allowed)), (1.0 - high * 100.0, 1.0 - low * 100.0));
    }

    /// Of the numbers 1 to 1,000 the quantile q is 1,000 q, so the interval says which quantiles it took.
    #[test]
    fn a_quantile_lies_between_the_quantiles_of_its_rank_offsets() {
        let catalogue = Catalogue::default();
        let metric = catalogue.find("latency").unwrap();
        let layout = Layout::of(catalogue.get(metric));
        let mut one = One(Series::new(layout));
        for minute in 1..=60 {
            let mut open = OpenValues::default();
            (1..=1_000).for_each(|value| open.record(&layout.unwrap(), f64::from(value)));
            one.0.add(Minute(minute), PaneData::Values(open.seal(&layout.unwrap())), None);
        }
        let frame = Frame { closed: Minute(60), floor: Minute(1) };
        for (stat, q) in [(Stat::P50, 0.5), (Stat::P90, 0.9)] {
            let m = Measurement { metric, stat, window: Window(60), arm: Arm::Own };
            let (lower, upper) = interval(&one, &m, frame, &catalogue).unwrap();
            let (down, up) = rank_offsets(q, 60_000.0, ALPHA, TUNED_FOR);
            for (edge, rank) in [(lower, q - down), (upper, q + up)] {
                assert!((edge / (1_000.0 * rank) - 1.0).abs() < 0.01, "{stat:?}: {edge} for {rank}");
            }
        }
    }

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

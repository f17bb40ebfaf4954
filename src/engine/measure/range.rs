//! How far a measurement can move when a pair of neighbouring cells is left out. What no pair can change need not be asked of
//! every pair, which is what a closing costs most.

use hdrhistogram::Histogram;

use super::{Frame, Lookup, Measurement, of_sums};
use crate::engine::layout::Layout;
use crate::engine::pane::Sums;
use crate::engine::rule::Stat;
use crate::engine::series::Series;

/// Bounds of a measurement over all pairs that can be left out of its window.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Range {
    /// The value without any pair lies in `low..=high`; it is known without each of them.
    pub low: f64,
    pub high: f64,
    /// Every pair leaves at least so many samples.
    pub left: u64,
}

/// The range of a measurement; `None` where some pair leaves no samples, or the statistic is not one of those that are bounded
/// here (quantiles, and what count and sums give without their extremes).
pub fn without_any_pair(lookup: &impl Lookup, m: &Measurement, frame: Frame) -> Option<Range> {
    let series = lookup.series(m).filter(|_| lookup.has_arm(m.arm))?;
    match (m.stat, m.stat.quantile()) {
        (_, Some(q)) => of_quantile(series, q, m, frame),
        (Stat::Mean | Stat::Rate | Stat::Burn(_) | Stat::Budget(_) | Stat::Stddev, None) => {
            of_cells(series, m, frame)
        }
        _ => None,
    }
}

/// Every pair left out of exact sums, one after the other.
fn of_cells(series: &Series, m: &Measurement, frame: Frame) -> Option<Range> {
    let total = series.sums(frame.from(m.window), frame.closed, frame.closed);
    let mut range = Range { low: f64::INFINITY, high: f64::NEG_INFINITY, left: u64::MAX };
    let mut before = Sums::default();
    let last = std::iter::once(Sums::default());
    for cell in frame.cells(m.window).map(|cell| series.cell_sums(cell, frame.closed)).chain(last) {
        let left = Sums {
            n: total.n.checked_sub(before.n + cell.n)?,
            sum: total.sum - before.sum - cell.sum,
            squares: total.squares.checked_sub(before.squares + cell.squares)?,
            ..total
        };
        let value = of_sums(m.stat, &left, 1).ok()?;
        range.low = range.low.min(value);
        range.high = range.high.max(value);
        range.left = range.left.min(left.n);
        before = cell;
    }
    Some(range)
}

/// A pair takes at most as many samples as the fullest one holds, each from below the quantile or from above it.
fn of_quantile(series: &Series, q: f64, m: &Measurement, frame: Frame) -> Option<Range> {
    let layout = series.layout()?;
    let histogram = series.histogram(frame.from(m.window), frame.closed, frame.closed)?;
    let (mut most, mut before) = (0, 0);
    for n in frame.cells(m.window).map(|cell| series.cell_samples(cell, frame.closed)) {
        most = most.max(before + n);
        before = n;
    }
    let left = histogram.len().checked_sub(most).filter(|left| *left > 0)?;
    // The rank asked of what is left, with one to spare for the rounding of q·n.
    let rank = (q * left as f64).ceil() as u64;
    let (low, high) = (rank.saturating_sub(1).max(1), (rank + most + 1).min(histogram.len()));
    let [low, high] = buckets_of_ranks(&histogram, layout, [low, high]);
    Some(Range { low: layout.upper(low), high: layout.upper(high), left })
}

/// The buckets of the samples with these ranks (from 1, ascending).
fn buckets_of_ranks(histogram: &Histogram<u64>, layout: &Layout, ranks: [u64; 2]) -> [u16; 2] {
    let last = u16::try_from(layout.buckets() - 1).unwrap_or(u16::MAX);
    let mut bucket = 0;
    let mut up_to = histogram.count_at(Layout::lowest_units(bucket));
    ranks.map(|rank| {
        while up_to < rank && bucket < last {
            bucket += 1;
            up_to += histogram.count_at(Layout::lowest_units(bucket));
        }
        bucket
    })
}

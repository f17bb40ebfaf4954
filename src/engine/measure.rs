//! Measurements: the numbers that a condition reads, over a window in full, without a pair of minutes, on its recent part, or
//! on one minute alone.

use std::ops::Range;

use hdrhistogram::Histogram;

use super::layout::Layout;
use super::pane::{SealedValues, Sums};
use super::rule::eval::Unknown;
use super::rule::{Arm, Measurement, Stat, Window};
use super::series::{Series, quantile_bucket};
use crate::model::time::Minute;

/// The series that a rule instance reads, by metric and arm.
pub trait Lookup {
    /// The series of a measurement; `None` if nothing was ever recorded.
    fn series(&self, measurement: &Measurement) -> Option<&Series>;
    /// Whether the arm exists at all: a rule without a baseline has none.
    fn has_arm(&self, arm: Arm) -> bool;
}

/// A part of the closed panes: what a window is at one closing, for an armed rule.
#[derive(Clone, Copy, Debug)]
pub struct Frame {
    /// The minute that has just closed: the last of every window.
    pub closed: Minute,
    /// The first minute that counts since the rule was armed or re-armed.
    pub floor: Minute,
}

impl Frame {
    /// The first minute of a window.
    pub fn from(&self, window: Window) -> Minute {
        self.closed.plus(1 - i64::from(window.0)).max(self.floor)
    }

    /// How many minutes of the window count.
    pub fn minutes(&self, window: Window) -> i64 {
        (self.closed.0 - self.from(window).0 + 1).max(0)
    }
}

/// One measurement over its window, in full.
pub fn full(lookup: &impl Lookup, m: &Measurement, frame: Frame) -> Result<f64, Unknown> {
    over(lookup, m, frame.from(m.window), frame)
}

/// One measurement over the recent part of its window. Sums and counts are scaled up to the whole window.
pub fn recent(lookup: &impl Lookup, m: &Measurement, frame: Frame) -> Result<f64, Unknown> {
    let from = frame.from(m.window.recent());
    let value = over(lookup, m, from, frame)?;
    Ok(scale(m.stat, value, frame.minutes(m.window), frame.closed.0 - from.0 + 1))
}

/// Samples of one measurement in its window.
pub fn samples(lookup: &impl Lookup, m: &Measurement, frame: Frame) -> u64 {
    lookup.series(m).map_or(0, |s| s.sums(frame.from(m.window), frame.closed, frame.closed).n)
}

fn over(lookup: &impl Lookup, m: &Measurement, from: Minute, frame: Frame) -> Result<f64, Unknown> {
    if !lookup.has_arm(m.arm) {
        return Err(Unknown::NoBaseline);
    }
    let minutes = frame.closed.0 - from.0 + 1;
    let Some(series) = lookup.series(m).filter(|_| minutes > 0) else {
        return absent(m.stat);
    };
    match m.stat {
        Stat::Min | Stat::Max => {
            let mut sums = Sums::default();
            (from.0..=frame.closed.0).for_each(|minute| sums.add(&series.pane_sums(Minute(minute))));
            of_sums(m.stat, &sums, minutes)
        }
        stat => match stat.quantile() {
            Some(q) => series.quantile(q, from, frame.closed, frame.closed).ok_or(Unknown::NoData),
            None => of_sums(stat, &series.sums(from, frame.closed, frame.closed), minutes),
        },
    }
}

/// What a statistic says of no samples: nothing, but a count of zero is a count.
fn absent(stat: Stat) -> Result<f64, Unknown> {
    of_sums(stat, &Sums::default(), 1)
}

/// A statistic other than a quantile from exact sums over `minutes`.
fn of_sums(stat: Stat, sums: &Sums, minutes: i64) -> Result<f64, Unknown> {
    let n = sums.n as f64;
    let total = sums.sum as f64 / 1e6;
    match stat {
        Stat::Count => return Ok(n),
        Stat::PerMin => return Ok(n / minutes.max(1) as f64),
        _ if sums.n == 0 => return Err(Unknown::NoData),
        _ => {}
    }
    Ok(match stat {
        Stat::Sum => total,
        Stat::Min => sums.min as f64 / 1e6,
        Stat::Max => sums.max as f64 / 1e6,
        Stat::Stddev => {
            let mean = total / n;
            (sums.squares as f64 / 1e12 / n - mean * mean).max(0.0).sqrt()
        }
        _ => total / n,
    })
}

fn scale(stat: Stat, value: f64, whole: i64, part: i64) -> f64 {
    if stat.is_extensive() && part > 0 { value * whole as f64 / part as f64 } else { value }
}

/// All panes of one slot's window laid out, so that any pair of minutes can be deleted quickly.
#[derive(Debug)]
pub struct SlotPanes<'a> {
    measurement: Measurement,
    known: bool,
    series: Option<&'a Series>,
    /// The first minute of the window.
    from: Minute,
    panes: Vec<Sums>,
    total: Sums,
    /// Extremes of the panes before, and from, each place.
    before: Vec<(i64, i64)>,
    after: Vec<(i64, i64)>,
    quantile: Option<QuantileWalk>,
    edge: Option<Edge>,
}

/// Per pane, the samples that lie at or before a threshold's bucket (above: at or below it; below: below it).
#[derive(Debug)]
struct Edge {
    q: f64,
    limit: f64,
    above: bool,
    before: Vec<u64>,
    total: u64,
}

/// The full histogram and where its quantile lies: deletions start walking from there.
#[derive(Debug)]
struct QuantileWalk {
    q: f64,
    histogram: Histogram<u64>,
    layout: Layout,
    bucket: u16,
    /// Samples in buckets up to and including `bucket`.
    below: u64,
    /// Per pane: (bucket, samples of the pane up to and including it); `ends` tells where each pane's part ends.
    cumulative: Vec<(u16, u64)>,
    ends: Vec<usize>,
}

impl<'a> SlotPanes<'a> {
    /// Lays out the panes of a quantile for [`Self::quantile_beyond`] only.
    pub fn at_edge(lookup: &'a impl Lookup, m: &Measurement, frame: Frame, limit: f64, above: bool) -> Self {
        let mut panes = Self::lay(lookup, m, frame);
        if let (Some(q), Some(series)) = (m.stat.quantile(), panes.series)
            && let Some(layout) = series.layout()
        {
            let end = u32::from(layout.bucket(limit)) + u32::from(above);
            let counted = |minute: i64| {
                let entries = series.values(Minute(minute)).into_iter().flat_map(SealedValues::entries);
                entries.take_while(|e| u32::from(e.0) < end).map(|e| e.1).sum()
            };
            let before: Vec<u64> = (panes.from.0..=frame.closed.0).map(counted).collect();
            panes.edge = Some(Edge { q, limit, above, total: before.iter().sum(), before });
        }
        panes
    }

    /// Whether the quantile without a pair lies in a bucket beyond the threshold's. `None` without an edge.
    pub fn quantile_beyond(&self, pair: Minute) -> Option<bool> {
        let edge = self.edge.as_ref()?;
        let left = self.samples_without(pair);
        if left == 0 {
            return Some(false);
        }
        let gone: u64 = edge.before[self.place(pair)..self.place(pair.plus(2))].iter().sum();
        let target = ((edge.q * left as f64).ceil() as u64).clamp(1, left);
        let reached = edge.total - gone >= target;
        Some(reached != edge.above)
    }

    /// Lays out the panes of one measurement.
    pub fn new(lookup: &'a impl Lookup, m: &Measurement, frame: Frame) -> Self {
        let mut panes = Self::lay(lookup, m, frame);
        panes.quantile =
            m.stat.quantile().and_then(|q| QuantileWalk::new(q, panes.series?, panes.from, frame));
        panes
    }

    fn lay(lookup: &'a impl Lookup, m: &Measurement, frame: Frame) -> Self {
        let from = frame.from(m.window);
        let series = lookup.series(m);
        let panes: Vec<Sums> = (from.0..=frame.closed.0)
            .map(|minute| series.map(|s| s.pane_sums(Minute(minute))).unwrap_or_default())
            .collect();
        let mut total = Sums::default();
        panes.iter().for_each(|p| total.add(p));
        let (before, after) = extremes(&panes, m.stat);
        Self {
            measurement: *m,
            known: lookup.has_arm(m.arm),
            series,
            from,
            panes,
            total,
            before,
            after,
            quantile: None,
            edge: None,
        }
    }

    /// Samples without the pair that starts at `pair`.
    pub fn samples_without(&self, pair: Minute) -> u64 {
        self.total.n - self.pair(pair).iter().map(|p| p.n).sum::<u64>()
    }

    /// The sums of the whole window.
    pub fn total(&self) -> &Sums {
        &self.total
    }

    /// The sums without the pair that starts at `pair`; `min` and `max` stay those of the whole window.
    pub fn total_without(&self, pair: Minute) -> Sums {
        let mut sums = self.total;
        for pane in self.pair(pair) {
            sums.n -= pane.n;
            sums.sum -= pane.sum;
            sums.squares -= pane.squares;
        }
        sums
    }

    /// Whether the pair that starts at `pair` holds any sample.
    pub fn touches(&self, pair: Minute) -> bool {
        self.pair(pair).iter().any(|p| p.n > 0)
    }

    /// The value without the pair of minutes that starts at `pair`; sums and counts scaled back to the window.
    pub fn without(&self, pair: Minute) -> Result<f64, Unknown> {
        if !self.known {
            return Err(Unknown::NoBaseline);
        }
        let gone = self.pair(pair);
        let left = self.panes.len() - gone.len();
        if left == 0 {
            return Err(Unknown::NoData);
        }
        let mut sums = self.total_without(pair);
        if self.measurement.stat.quantile().is_some() {
            return self.quantile_without(pair, sums.n);
        }
        if matches!(self.measurement.stat, Stat::Min | Stat::Max) {
            let start = self.place(pair);
            let (head, tail) = (self.before[start], self.after[start + gone.len()]);
            (sums.min, sums.max) = (head.0.min(tail.0), head.1.max(tail.1));
        }
        let value = of_sums(self.measurement.stat, &sums, left as i64)?;
        Ok(scale(self.measurement.stat, value, self.panes.len() as i64, left as i64))
    }

    /// The value of one minute alone; sums and counts scaled up to the window.
    pub fn alone(&self, minute: Minute) -> Result<f64, Unknown> {
        let value = self.pane_value(minute)?;
        Ok(scale(self.measurement.stat, value, self.panes.len() as i64, 1))
    }

    /// The value of one minute as it is.
    pub fn pane_value(&self, minute: Minute) -> Result<f64, Unknown> {
        if !self.known {
            return Err(Unknown::NoBaseline);
        }
        let Some(pane) = self.pane(minute) else {
            return Err(Unknown::NoData);
        };
        if pane.n == 0 {
            return Err(Unknown::NoData);
        }
        match (self.measurement.stat.quantile(), self.series) {
            (Some(q), Some(series)) => {
                series.quantile(q, minute, minute, minute.plus(1)).ok_or(Unknown::NoData)
            }
            _ => of_sums(self.measurement.stat, pane, 1),
        }
    }

    /// One minute's sums.
    pub fn pane(&self, minute: Minute) -> Option<&Sums> {
        usize::try_from(minute.0 - self.from.0).ok().and_then(|at| self.panes.get(at))
    }

    /// How many samples of one minute lie in buckets strictly above (or below) the bucket of `value`.
    pub fn beyond(&self, minute: Minute, value: f64, above: bool) -> u64 {
        if let Some(edge) = self.edge.as_ref().filter(|e| e.limit == value && e.above == above) {
            let before = edge.before.get(self.place(minute)).copied().unwrap_or(0);
            return if above { self.pane(minute).map_or(0, |p| p.n - before) } else { before };
        }
        let Some((values, layout)) = self.series.and_then(|s| Some((s.values(minute)?, s.layout()?))) else {
            return 0;
        };
        let edge = layout.bucket(value);
        values.entries().filter(|(b, _)| if above { *b > edge } else { *b < edge }).map(|(_, n)| n).sum()
    }

    fn place(&self, minute: Minute) -> usize {
        usize::try_from(minute.0 - self.from.0).unwrap_or(0).min(self.panes.len())
    }

    fn pair(&self, pair: Minute) -> &[Sums] {
        &self.panes[self.place(pair)..self.place(pair.plus(2))]
    }

    fn quantile_without(&self, pair: Minute, left: u64) -> Result<f64, Unknown> {
        let Some(walk) = self.quantile.as_ref().filter(|_| left > 0) else {
            return Err(Unknown::NoData);
        };
        let start = self.place(pair);
        let end = self.place(pair.plus(2));
        Ok(walk.layout.upper(walk.without(start..end, left)))
    }
}

impl QuantileWalk {
    fn new(q: f64, series: &Series, from: Minute, frame: Frame) -> Option<Self> {
        let layout = *series.layout()?;
        let histogram = series.histogram(from, frame.closed, frame.closed)?;
        if histogram.is_empty() {
            return None;
        }
        let bucket = quantile_bucket(&histogram, &layout, q);
        let below = (0..=bucket).map(|b| histogram.count_at(Layout::lowest_units(b))).sum();
        let (mut cumulative, mut ends) = (Vec::new(), Vec::new());
        for minute in from.0..=frame.closed.0 {
            let mut so_far = 0;
            cumulative.extend(series.values(Minute(minute)).into_iter().flat_map(SealedValues::entries).map(
                |(bucket, n)| {
                    so_far += n;
                    (bucket, so_far)
                },
            ));
            ends.push(cumulative.len());
        }
        Some(Self { q, histogram, layout, bucket, below, cumulative, ends })
    }

    /// The quantile's bucket without some panes: from the full quantile's bucket, walk to where it is now.
    fn without(&self, gone: Range<usize>, left: u64) -> u16 {
        let target = ((self.q * left as f64).ceil() as u64).clamp(1, left);
        let removed = |bucket: u16| gone.clone().map(|pane| self.up_to(pane, bucket)).sum::<u64>();
        let mut bucket = self.bucket;
        let mut full = self.below;
        while full - removed(bucket) < target && usize::from(bucket) + 1 < self.layout.buckets() {
            bucket += 1;
            full += self.count(bucket);
        }
        while bucket > 0 {
            let lower = full - self.count(bucket);
            if lower - removed(bucket - 1) < target {
                break;
            }
            full = lower;
            bucket -= 1;
        }
        bucket
    }

    fn count(&self, bucket: u16) -> u64 {
        self.histogram.count_at(Layout::lowest_units(bucket))
    }

    /// Samples of one pane in buckets up to and including `bucket`.
    fn up_to(&self, pane: usize, bucket: u16) -> u64 {
        let start = pane.checked_sub(1).map_or(0, |p| self.ends[p]);
        let entries = &self.cumulative[start..self.ends[pane]];
        match entries.partition_point(|e| e.0 <= bucket) {
            0 => 0,
            n => entries[n - 1].1,
        }
    }
}

/// Running extremes from the left and from the right, only where a statistic asks for them.
#[expect(clippy::type_complexity, reason = "two parallel lists, named where they are kept")]
fn extremes(panes: &[Sums], stat: Stat) -> (Vec<(i64, i64)>, Vec<(i64, i64)>) {
    if !matches!(stat, Stat::Min | Stat::Max) {
        return (Vec::new(), Vec::new());
    }
    let none = (i64::MAX, i64::MIN);
    let join = |a: (i64, i64), p: &Sums| (a.0.min(p.min), a.1.max(p.max));
    let mut before = vec![none];
    let mut after = vec![none];
    for (left, right) in panes.iter().zip(panes.iter().rev()) {
        before.push(join(before[before.len() - 1], left));
        after.push(join(after[after.len() - 1], right));
    }
    after.reverse();
    (before, after)
}

#[cfg(test)]
mod tests {
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
}

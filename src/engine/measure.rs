//! Measurements: the numbers that a condition reads, over a window in full, without a pair of minutes, on its recent part, or
//! on one minute alone.

pub mod range;

use std::borrow::Cow;
use std::ops::Range;

use hdrhistogram::Histogram;

use super::layout::Layout;
use super::pane::{SealedValues, Sums};
use super::rollup::{HOUR, seam};
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
    /// The first minute of a window. Where only hours are left of it, a re-armed one begins with the first whole hour.
    pub fn from(&self, window: Window) -> Minute {
        let from = window.first_minute(self.closed).max(self.floor);
        if from < self.seam() { Minute((from.0 + HOUR - 1).div_euclid(HOUR) * HOUR) } else { from }
    }

    /// The minute at which windows change from hours to minutes: what lies before is known by the hour.
    pub fn seam(&self) -> Minute {
        seam(self.closed)
    }

    /// The minute after a cell: the smallest part of a window that can be left out is an hour before the seam, else a minute.
    pub fn cell_end(&self, start: Minute) -> Minute {
        start.plus(if start < self.seam() { HOUR } else { 1 })
    }

    /// The first minutes of the cells of a window, oldest first.
    pub fn cells(&self, window: Window) -> impl Iterator<Item = Minute> + use<> {
        let (from, frame) = (self.from(window), *self);
        let first = (from <= frame.closed).then_some(from);
        std::iter::successors(first, move |cell| Some(frame.cell_end(*cell)).filter(|c| *c <= frame.closed))
    }

    /// All pairs of neighbouring cells that touch a window, by their first minute. Any 60 seconds lie in one of them. The first
    /// reaches one cell before the window, so that a window of one minute has a pair too.
    pub fn pairs(&self, window: Window) -> impl Iterator<Item = Minute> + use<> {
        let from = self.from(window);
        let before = from.plus(if from <= self.seam() { -HOUR } else { -1 });
        std::iter::once(before).chain(self.cells(window))
    }

    /// The minute after a pair of neighbouring cells.
    pub fn pair_end(&self, pair: Minute) -> Minute {
        self.cell_end(self.cell_end(pair))
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
            let cells = Frame { floor: from, ..frame }.cells(Window::MOST);
            cells.for_each(|cell| sums.add(&series.cell_sums(cell, frame.closed)));
            of_sums(m.stat, &sums, minutes)
        }
        stat => match stat.quantile() {
            Some(_) if series.lacks_buckets(from, frame.closed) => Err(Unknown::NoHistogram),
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
        Stat::Burn(allowed) => total / n / allowed.share(),
        Stat::Budget(allowed) => 1.0 - total / n / allowed.share(),
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

/// All cells of one slot's window laid out, so that any pair of neighbours can be deleted quickly. Cells are minutes; what
/// lies before the seam of a long window is cells of an hour.
#[derive(Debug)]
pub struct SlotPanes<'a> {
    measurement: Measurement,
    known: bool,
    series: Option<&'a Series>,
    frame: Frame,
    /// The first minute of the window.
    from: Minute,
    /// The first minute of the window that is a cell by itself, and how many cells of an hour lie before it.
    minutes_from: Minute,
    hours: usize,
    panes: Vec<Sums>,
    total: Sums,
    /// Extremes of the panes before, and from, each place.
    before: Vec<(i64, i64)>,
    after: Vec<(i64, i64)>,
    quantile: Option<QuantileWalk<'a>>,
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
struct QuantileWalk<'a> {
    q: f64,
    histogram: Cow<'a, Histogram<u64>>,
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
            let counted = |cell: Minute| {
                let values = series.cell_values(cell, frame.closed).into_iter();
                values.flat_map(SealedValues::entries).take_while(|e| u32::from(e.0) < end).map(|e| e.1).sum()
            };
            let before: Vec<u64> = frame.cells(m.window).map(counted).collect();
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
        let gone: u64 = edge.before[self.places(pair)].iter().sum();
        let target = ((edge.q * left as f64).ceil() as u64).clamp(1, left);
        let reached = edge.total - gone >= target;
        Some(reached != edge.above)
    }

    /// Lays out the panes of one measurement.
    pub fn new(lookup: &'a impl Lookup, m: &Measurement, frame: Frame) -> Self {
        let mut panes = Self::lay(lookup, m, frame);
        panes.quantile = m.stat.quantile().and_then(|q| QuantileWalk::new(q, panes.series?, m.window, frame));
        panes
    }

    /// Lays out the panes of one measurement for what is asked of single cells, not of what is left without a pair.
    pub fn cells_alone(lookup: &'a impl Lookup, m: &Measurement, frame: Frame) -> Self {
        Self::lay(lookup, m, frame)
    }

    fn lay(lookup: &'a impl Lookup, m: &Measurement, frame: Frame) -> Self {
        let from = frame.from(m.window);
        let series = lookup.series(m);
        let minutes_from = from.max(frame.seam());
        let panes: Vec<Sums> = frame
            .cells(m.window)
            .map(|cell| series.map(|s| s.cell_sums(cell, frame.closed)).unwrap_or_default())
            .collect();
        let mut total = Sums::default();
        panes.iter().for_each(|p| total.add(p));
        let (before, after) = extremes(&panes, m.stat);
        Self {
            measurement: *m,
            known: lookup.has_arm(m.arm),
            series,
            frame,
            from,
            minutes_from,
            hours: usize::try_from((minutes_from.0 - from.0) / HOUR).unwrap_or(0),
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
        let (gone, whole) = (self.pair(pair), self.minutes());
        let left = whole - (self.clamped(self.frame.pair_end(pair)) - self.clamped(pair));
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
        let value = of_sums(self.measurement.stat, &sums, left)?;
        Ok(scale(self.measurement.stat, value, whole, left))
    }

    /// The value of one cell alone; sums and counts scaled up to the window.
    pub fn alone(&self, cell: Minute) -> Result<f64, Unknown> {
        let value = self.pane_value(cell)?;
        Ok(scale(self.measurement.stat, value, self.minutes(), self.frame.cell_end(cell).0 - cell.0))
    }

    /// The value of one cell as it is.
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
                let values = series.cell_values(minute, self.frame.closed).zip(series.layout());
                let (values, layout) = values.ok_or(Unknown::NoData)?;
                values.quantile(q).map(|bucket| layout.upper(bucket)).ok_or(Unknown::NoHistogram)
            }
            _ => of_sums(self.measurement.stat, pane, self.frame.cell_end(minute).0 - minute.0),
        }
    }

    /// One cell's sums.
    pub fn pane(&self, cell: Minute) -> Option<&Sums> {
        (cell >= self.from).then(|| self.panes.get(self.place(cell))).flatten()
    }

    /// How many samples of one cell lie in buckets strictly above (or below) the bucket of `value`.
    pub fn beyond(&self, minute: Minute, value: f64, above: bool) -> u64 {
        if let Some(edge) = self.edge.as_ref().filter(|e| e.limit == value && e.above == above) {
            let before = edge.before.get(self.place(minute)).copied().unwrap_or(0);
            return if above { self.pane(minute).map_or(0, |p| p.n - before) } else { before };
        }
        let Some((values, layout)) =
            self.series.and_then(|s| Some((s.cell_values(minute, self.frame.closed)?, s.layout()?)))
        else {
            return 0;
        };
        let edge = layout.bucket(value);
        values.entries().filter(|(b, _)| if above { *b > edge } else { *b < edge }).map(|(_, n)| n).sum()
    }

    /// The minutes of the window.
    fn minutes(&self) -> i64 {
        (self.frame.closed.0 - self.from.0 + 1).max(0)
    }

    /// A minute as far as the window reaches.
    fn clamped(&self, minute: Minute) -> i64 {
        minute.0.clamp(self.from.0, self.from.0 + self.minutes())
    }

    /// The place of the cell that begins with a minute.
    fn place(&self, minute: Minute) -> usize {
        let at = if minute < self.minutes_from {
            (minute.0 - self.from.0).div_euclid(HOUR)
        } else {
            self.hours as i64 + minute.0 - self.minutes_from.0
        };
        usize::try_from(at).unwrap_or(0).min(self.panes.len())
    }

    fn places(&self, pair: Minute) -> Range<usize> {
        self.place(pair)..self.place(self.frame.pair_end(pair))
    }

    fn pair(&self, pair: Minute) -> &[Sums] {
        &self.panes[self.places(pair)]
    }

    fn quantile_without(&self, pair: Minute, left: u64) -> Result<f64, Unknown> {
        let Some(walk) = self.quantile.as_ref().filter(|_| left > 0) else {
            return Err(Unknown::NoData);
        };
        Ok(walk.layout.upper(walk.without(self.places(pair), left)))
    }
}

impl<'a> QuantileWalk<'a> {
    fn new(q: f64, series: &'a Series, window: Window, frame: Frame) -> Option<Self> {
        let layout = *series.layout()?;
        let histogram = series.histogram(frame.from(window), frame.closed, frame.closed)?;
        if histogram.is_empty() {
            return None;
        }
        let bucket = quantile_bucket(&histogram, &layout, q);
        let below = (0..=bucket).map(|b| histogram.count_at(Layout::lowest_units(b))).sum();
        let (mut cumulative, mut ends) = (Vec::new(), Vec::new());
        for cell in frame.cells(window) {
            let mut so_far = 0;
            let values = series.cell_values(cell, frame.closed).into_iter();
            cumulative.extend(values.flat_map(SealedValues::entries).map(|(bucket, n)| {
                so_far += n;
                (bucket, so_far)
            }));
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
#[path = "measure_tests.rs"]
mod tests;

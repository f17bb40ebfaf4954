//! Hourly roll-ups: what a series remembers of hours whose panes it no longer keeps, for windows longer than six hours.
//!
//! A pane goes into the roll-up of its hour when it leaves the series, and only whole hours leave: every sample is in a pane or
//! in a roll-up, never in both. Late data finds panes alone, so a roll-up never changes once its hour has left, and SQL gets
//! each of them once, in the transaction that stores the step.

use std::collections::{BTreeSet, VecDeque};

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use super::layout::Layout;
use super::pane::{PaneData, SealedValues, Sums};
use super::rule::Window;
use super::series::{add_values, same_counts};
use crate::model::flag::Scope;
use crate::model::time::Minute;

/// Minutes of a roll-up.
pub const HOUR: i64 = 60;
/// Hours kept in memory: the longest window, and the hour that leaves it next.
pub const KEEP_HOURS: i64 = Window::MOST.0 as i64 / HOUR + 1;
/// Hours kept in SQL: a day more, for those who look at a longest window that has just ended.
pub const STORED_HOURS: i64 = KEEP_HOURS + 24;

/// The first minute that a series with roll-ups keeps panes of at a closing: the hour in which a window of six hours begins.
pub fn seam(closed: Minute) -> Minute {
    Minute((closed.0 - i64::from(Window::LONGEST.0)).div_euclid(HOUR) * HOUR)
}

/// One roll-up as SQL keeps it. Names, not numbers: ids may differ after a restart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RollupRow {
    pub variant: String,
    pub metric: String,
    pub slice: Scope,
    /// Hours since 1970-01-01.
    pub hour: i64,
    /// What the metric was when it was recorded: under another shape the numbers mean something else.
    pub shape: String,
    /// Counts, sums and buckets: postcard of [`PaneData`], in hexadecimal digits.
    pub data: String,
}

impl RollupRow {
    /// The data as stored.
    pub(super) fn encode(data: &PaneData) -> Option<String> {
        postcard::to_stdvec(data).ok().map(hex::encode)
    }

    /// The data read back; `None` if it is not what [`Self::encode`] wrote.
    pub(super) fn decode(&self) -> Option<PaneData> {
        postcard::from_bytes(&hex::decode(&self.data).ok()?).ok()
    }
}

/// The hours of one series, oldest first.
#[derive(Clone, Debug, Default)]
pub struct Hours {
    /// Whether bucket counts are kept: some long rule asks for a quantile.
    buckets: bool,
    hours: VecDeque<(i64, PaneData)>,
    /// Hours that SQL does not have yet.
    fresh: BTreeSet<i64>,
    /// The hours of each wanted window added up.
    parts: Vec<Part>,
    /// The last hour that was kept without bucket counts.
    bare_until: Option<i64>,
}

/// The hours of one window that lie before the seam.
#[derive(Clone, Debug)]
struct Part {
    window: Window,
    from: Minute,
    to: Minute,
    sums: Sums,
    histogram: Option<Histogram<u64>>,
}

impl Part {
    fn empty(window: Window) -> Self {
        let nowhere = Minute::default();
        Self { window, from: nowhere, to: nowhere, sums: Sums::default(), histogram: None }
    }
}

impl Hours {
    /// Declares the long windows that rules read, and whether a quantile is asked of any. Buckets are never given up again.
    pub fn want(
        &mut self,
        windows: impl Iterator<Item = Window>,
        quantile: bool,
        layout: Option<&Layout>,
        closed: Option<Minute>,
    ) {
        self.buckets |= quantile;
        let mut before = std::mem::take(&mut self.parts);
        let part = |window| match before.iter().position(|part| part.window == window) {
            Some(place) => before.swap_remove(place),
            None => Part::empty(window),
        };
        self.parts = windows.map(part).collect();
        if let Some(closed) = closed {
            self.close(closed, layout);
        }
    }

    /// Takes in a pane that leaves the series.
    pub fn fold(&mut self, minute: Minute, data: PaneData) {
        let hour = minute.0.div_euclid(HOUR);
        let data = if self.buckets { data } else { without_buckets(data) };
        self.note_bare(hour, &data);
        let place = self.hours.partition_point(|(h, _)| *h < hour);
        match self.hours.get_mut(place).filter(|(h, _)| *h == hour) {
            Some((_, present)) => merge(present, &data),
            None => self.hours.insert(place, (hour, data)),
        }
        self.fresh.insert(hour);
    }

    /// Puts a stored hour in its place.
    pub fn restore(&mut self, hour: i64, data: PaneData) {
        self.note_bare(hour, &data);
        self.parts.iter_mut().for_each(|part| *part = Part::empty(part.window));
        let place = self.hours.partition_point(|(h, _)| *h < hour);
        if self.hours.get(place).is_none_or(|(h, _)| *h != hour) {
            self.hours.insert(place, (hour, data));
        }
    }

    /// Moves the windows on, and forgets hours that none of them can need.
    pub fn close(&mut self, closed: Minute, layout: Option<&Layout>) {
        let oldest = closed.0.div_euclid(HOUR) - KEEP_HOURS;
        while self.hours.front().is_some_and(|(hour, _)| *hour <= oldest) {
            self.hours.pop_front();
        }
        let mut parts = std::mem::take(&mut self.parts);
        for part in &mut parts {
            let (from, to) = (part.window.first_minute(closed), seam(closed));
            let layout = layout.filter(|_| self.buckets);
            let moved = (part.from, part.to) != (from, to) || part.histogram.is_some() != layout.is_some();
            if moved && self.slide(part, from, to, layout).is_none() {
                *part = Part { window: part.window, from, to, ..self.build(from, to, layout) };
            }
        }
        self.parts = parts;
    }

    /// Compares what each window has added up with its hours and builds those anew that differ; the number of them (0 unless
    /// there is a bug). Hours out of order, or such as should have been forgotten, count as one more.
    pub fn audit(&mut self, closed: Minute, layout: Option<&Layout>) -> usize {
        let mut parts = std::mem::take(&mut self.parts);
        let mut wrong = 0;
        for part in parts.iter_mut().filter(|part| part.to == seam(closed)) {
            let fresh = self.build(part.from, part.to, layout.filter(|_| self.buckets));
            if part.sums.differ(&fresh.sums)
                || !same_counts(part.histogram.as_ref(), fresh.histogram.as_ref(), layout)
            {
                *part = Part { window: part.window, ..fresh };
                wrong += 1;
            }
        }
        self.parts = parts;
        let in_order = self.hours.iter().is_sorted_by(|a, b| a.0 < b.0);
        let due = |hour: i64| hour > closed.0.div_euclid(HOUR) - KEEP_HOURS && hour * HOUR < seam(closed).0;
        wrong + usize::from(!in_order || !self.hours.iter().all(|(hour, _)| due(*hour)))
    }

    /// Exact sums over the hours of `from..to`, both at the start of an hour.
    pub fn sums(&self, from: Minute, to: Minute) -> Sums {
        match self.part(from, to) {
            Some(part) => part.sums,
            None => self.scan(from, to),
        }
    }

    /// Adds the bucket counts of the hours of `from..to` to a histogram.
    pub fn add_to(&self, histogram: &mut Histogram<u64>, layout: &Layout, from: Minute, to: Minute) {
        let added = match self.part(from, to).and_then(|part| part.histogram.as_ref()) {
            Some(part) => histogram.add(part),
            None => histogram.add(self.scan_buckets(layout, from, to)),
        };
        debug_assert!(added.is_ok(), "histograms of one layout");
    }

    /// Whether some hour from `from` on was kept without the bucket counts that a quantile needs.
    pub fn lacks_buckets(&self, from: Minute) -> bool {
        self.bare_until.is_some_and(|hour| hour >= from.0.div_euclid(HOUR))
    }

    /// What one hour holds.
    pub fn get(&self, start: Minute) -> Option<&PaneData> {
        let hour = start.0.div_euclid(HOUR);
        // Without holes an hour's place is known.
        let expected = self.hours.front().and_then(|(first, _)| usize::try_from(hour - first).ok());
        if let Some((_, data)) = expected.and_then(|at| self.hours.get(at)).filter(|(h, _)| *h == hour) {
            return Some(data);
        }
        let place = self.hours.partition_point(|(h, _)| *h < hour);
        self.hours.get(place).filter(|(h, _)| *h == hour).map(|(_, data)| data)
    }

    /// The hours from `start` on, oldest first.
    pub fn from(&self, start: Minute) -> impl Iterator<Item = &(i64, PaneData)> {
        let first = start.0.div_euclid(HOUR);
        self.hours.iter().skip_while(move |(hour, _)| *hour < first)
    }

    /// Whether SQL lacks some hour.
    pub fn is_fresh(&self) -> bool {
        !self.fresh.is_empty()
    }

    /// The hours that have left since the last call.
    pub fn take_fresh(&mut self) -> Vec<(i64, PaneData)> {
        let fresh = std::mem::take(&mut self.fresh);
        fresh.into_iter().filter_map(|hour| Some((hour, self.get(Minute(hour * HOUR))?.clone()))).collect()
    }

    fn note_bare(&mut self, hour: i64, data: &PaneData) {
        let bare = |values: &SealedValues| values.sums().n > 0 && values.entries().next().is_none();
        if matches!(data, PaneData::Values(values) if bare(values)) {
            self.bare_until = self.bare_until.max(Some(hour));
        }
    }

    fn build(&self, from: Minute, to: Minute, layout: Option<&Layout>) -> Part {
        let histogram = layout.map(|layout| self.scan_buckets(layout, from, to));
        Part { window: Window(0), from, to, sums: self.scan(from, to), histogram }
    }

    /// Moves a part on by the hours that enter it and those that leave it; `None` if it has to be built anew.
    fn slide(&self, part: &mut Part, from: Minute, to: Minute, layout: Option<&Layout>) -> Option<()> {
        let goes_on = part.from <= from && from <= part.to && part.to <= to && part.from < part.to;
        if !goes_on || part.histogram.is_some() != layout.is_some() {
            return None;
        }
        let (entering, leaving) = (self.scan(part.to, to), self.scan(part.from, from));
        part.sums.n = (part.sums.n + entering.n).checked_sub(leaving.n)?;
        part.sums.sum += entering.sum - leaving.sum;
        part.sums.squares = (part.sums.squares + entering.squares).checked_sub(leaving.squares)?;
        if let (Some(histogram), Some(layout)) = (&mut part.histogram, layout) {
            histogram.add(self.scan_buckets(layout, part.to, to)).ok()?;
            histogram.subtract(self.scan_buckets(layout, part.from, from)).ok()?;
        }
        (part.from, part.to) = (from, to);
        Some(())
    }

    fn part(&self, from: Minute, to: Minute) -> Option<&Part> {
        self.parts.iter().find(|part| part.from == from && part.to == to)
    }

    fn between(&self, from: Minute, to: Minute) -> impl Iterator<Item = &(i64, PaneData)> {
        let place = |minute: Minute| {
            let hour = minute.0.div_euclid(HOUR);
            self.hours.partition_point(|(h, _)| *h < hour)
        };
        let (start, end) = (place(from), place(to));
        self.hours.range(start..end.max(start))
    }

    fn scan(&self, from: Minute, to: Minute) -> Sums {
        let mut sums = Sums::default();
        self.between(from, to).for_each(|(_, data)| sums.add(&data.sums()));
        sums
    }

    fn scan_buckets(&self, layout: &Layout, from: Minute, to: Minute) -> Histogram<u64> {
        let mut histogram = layout.histogram();
        for (_, data) in self.between(from, to) {
            if let PaneData::Values(values) = data {
                add_values(&mut histogram, values);
            }
        }
        histogram
    }
}

fn without_buckets(data: PaneData) -> PaneData {
    match data {
        PaneData::Values(values) => PaneData::Values(SealedValues::encode(&values.sums(), &[])),
        counts @ PaneData::Counts { .. } => counts,
    }
}

fn merge(into: &mut PaneData, more: &PaneData) {
    match (into, more) {
        (PaneData::Counts { n, trues }, PaneData::Counts { n: more, trues: true_too }) => {
            *n += more;
            *trues += true_too;
        }
        (PaneData::Values(values), PaneData::Values(more)) => *values = values.merge(more),
        // A metric has one kind for the life of the process, and stored hours of another shape are not restored.
        (PaneData::Counts { .. }, PaneData::Values(_)) | (PaneData::Values(_), PaneData::Counts { .. }) => {}
    }
}

#[cfg(test)]
#[path = "rollup_tests.rs"]
mod tests;

//! One series: the panes of a metric of a variant (or of one slice of it), and the running totals that rules read.
//!
//! A pane exists once per minute; panes ahead of the clock wait, only closed ones count into totals. Totals slide by adding
//! the pane that closes and taking away the one that leaves: everything is an integer, so the inverse is exact and late
//! data simply adds. If a subtraction ever errs, the total is rebuilt from its panes.

mod kept;

use std::borrow::Cow;
use std::collections::VecDeque;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

pub use kept::SeriesPanes;

use super::layout::Layout;
use super::pane::{PaneData, SealedValues, Sums};
use super::rollup::{Hours, seam};
use super::rule::Window;
use crate::model::time::Minute;

/// Closed panes kept: the longest window, and the pane that leaves it next.
pub const KEEP: i64 = Window::LONGEST.0 as i64 + 1;

/// The panes and totals of one series.
#[derive(Clone, Debug)]
pub struct Series {
    layout: Option<Layout>,
    /// The minute of the first slot.
    first: Minute,
    slots: Slots,
    /// How often each slot was added to: what was computed from a pane is stale when this has moved on.
    revisions: VecDeque<u32>,
    totals: Vec<Total>,
    /// What is left of panes that are gone, where a long rule asks for them.
    hours: Option<Box<Hours>>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Slots {
    Counts(VecDeque<(u64, u64)>),
    Values(VecDeque<Option<SealedValues>>),
}

/// The samples of the closed panes of one window. `sums.min` and `sums.max` are not kept: extremes do not subtract.
#[derive(Clone, Debug)]
struct Total {
    window: Window,
    sums: Sums,
    histogram: Option<Histogram<u64>>,
}

impl Series {
    /// An empty series; `layout` is `None` for booleans.
    pub fn new(layout: Option<Layout>) -> Self {
        let slots =
            if layout.is_some() { Slots::Values(VecDeque::new()) } else { Slots::Counts(VecDeque::new()) };
        Self {
            layout,
            first: Minute::default(),
            slots,
            revisions: VecDeque::new(),
            totals: Vec::new(),
            hours: None,
        }
    }

    /// The bucket layout; `None` for booleans.
    pub fn layout(&self) -> Option<&Layout> {
        self.layout.as_ref()
    }

    /// Adds a pane's data to its minute. `closed` is the last closed minute: data for it or an earlier one counts at once.
    pub fn add(&mut self, minute: Minute, data: PaneData, closed: Option<Minute>) {
        if let Some(closed) = closed {
            if minute.0 <= closed.0 - KEEP {
                return;
            }
            for total in self.totals.iter_mut().filter(|t| t.covers(minute, closed)) {
                total.add(&data, self.layout.as_ref());
            }
        }
        self.merge(minute, data);
    }

    /// Moves the totals on to `closed`, which follows the last closed minute, and drops panes that no window needs.
    pub fn close(&mut self, closed: Minute) {
        for at in 0..self.totals.len() {
            let mut total = std::mem::replace(&mut self.totals[at], Total::empty(Window(0)));
            self.slide(&mut total, closed);
            self.totals[at] = total;
        }
        while self.len() > 0 && self.first < self.first_kept(closed) {
            let minute = self.first;
            if let (Some(data), Some(hours)) = (self.pop_front(), &mut self.hours) {
                hours.fold(minute, data);
            }
        }
        if let Some(hours) = &mut self.hours {
            hours.close(closed, self.layout.as_ref());
        }
    }

    /// Moves on to `closed` at once: panes too old are dropped (whole hours of them are in SQL), totals are built anew.
    pub fn jump(&mut self, closed: Minute, wanted: &[(Window, bool)]) {
        self.totals.clear();
        while self.len() > 0 && self.first < self.first_kept(closed) {
            self.pop_front();
        }
        self.want(wanted, Some(closed));
    }

    /// Declares which totals rules read: windows, and whether a quantile is asked of them. New ones are built from panes.
    /// Roll-ups, once begun, go on as long as the process lives: a rule that is taken out and put back finds its history.
    pub fn want(&mut self, wanted: &[(Window, bool)], closed: Option<Minute>) {
        let layout = self.layout;
        let (long, mut wanted): (Vec<_>, Vec<_>) = wanted.iter().copied().partition(|w| w.0.is_long());
        let quantile = layout.is_some() && long.iter().any(|w| w.1);
        if !long.is_empty() {
            let hours = self.hours.get_or_insert_default();
            hours.want(long.iter().map(|w| w.0), quantile, layout.as_ref(), closed);
            match wanted.iter_mut().find(|w| w.0 == Window::LONGEST) {
                Some(longest) => longest.1 |= quantile,
                None => wanted.push((Window::LONGEST, quantile)),
            }
        }
        let mut totals = Vec::with_capacity(wanted.len());
        for &(window, quantile) in wanted.iter().filter(|(window, _)| window.0 > SCANNED.0) {
            let needs = quantile && layout.is_some();
            let kept = self.totals.iter().position(|t| t.window == window && t.histogram.is_some() == needs);
            totals.push(match kept {
                Some(at) => self.totals.swap_remove(at),
                None => self.build(window, needs, closed),
            });
        }
        totals.sort_by_key(|t| t.window);
        self.totals = totals;
    }

    /// Exact sums over the closed panes of `from..=to`, and the hours before them. Served from totals where these cover
    /// it, else added up. Extremes are not in it.
    pub fn sums(&self, from: Minute, to: Minute, closed: Minute) -> Sums {
        if let Some(total) = self.total(from, to, closed) {
            return total.sums;
        }
        let (before, from) = self.hours_before(from, closed);
        let mut sums = before.map_or_else(Sums::default, |(hours, first)| hours.sums(first, from));
        let (panes, total) = self.latest(from, to, closed);
        for minute in panes {
            sums.add(&self.pane_sums(Minute(minute)));
        }
        if let Some(total) = total {
            sums.add(&total.sums);
        }
        sums
    }

    /// The histogram over `from..=to`: a total's own, or one added up from panes. `None` for booleans.
    pub fn histogram(&self, from: Minute, to: Minute, closed: Minute) -> Option<Cow<'_, Histogram<u64>>> {
        let layout = self.layout.as_ref()?;
        if let Some(Total { histogram: Some(histogram), .. }) = self.total(from, to, closed) {
            return Some(Cow::Borrowed(histogram));
        }
        let (before, from) = self.hours_before(from, closed);
        let (panes, total) = self.latest(from, to, closed);
        let (mut histogram, panes) = match total {
            Some(Total { histogram: Some(histogram), .. }) => (histogram.clone(), panes),
            _ => (layout.histogram(), from.0..to.0 + 1),
        };
        for minute in panes {
            if let Some(values) = self.values(Minute(minute)) {
                add_values(&mut histogram, values);
            }
        }
        if let Some((hours, first)) = before {
            hours.add_to(&mut histogram, layout, first, from);
        }
        Some(Cow::Owned(histogram))
    }

    /// The q-quantile over `from..=to` as the highest value of its bucket, in the metric's unit.
    pub fn quantile(&self, q: f64, from: Minute, to: Minute, closed: Minute) -> Option<f64> {
        let layout = self.layout.as_ref()?;
        let histogram = self.histogram(from, to, closed)?;
        (!histogram.is_empty()).then(|| layout.upper(quantile_bucket(&histogram, layout, q)))
    }

    /// One minute's sums; zero where the minute has no pane.
    pub fn pane_sums(&self, minute: Minute) -> Sums {
        let Some(at) = self.index(minute) else {
            return Sums::default();
        };
        match &self.slots {
            Slots::Counts(slots) => {
                let (n, trues) = slots[at];
                Sums::of_counts(n, trues)
            }
            Slots::Values(slots) => slots[at].as_ref().map(SealedValues::sums).unwrap_or_default(),
        }
    }

    /// One minute's values, if it has any.
    pub fn values(&self, minute: Minute) -> Option<&SealedValues> {
        match &self.slots {
            Slots::Values(slots) => slots[self.index(minute)?].as_ref(),
            Slots::Counts(_) => None,
        }
    }

    /// The sums of one cell of a window: an hour before the seam, else a minute.
    pub fn cell_sums(&self, start: Minute, closed: Minute) -> Sums {
        if start >= seam(closed) {
            return self.pane_sums(start);
        }
        self.hour(start).map(PaneData::sums).unwrap_or_default()
    }

    /// How many samples one cell of a window holds.
    pub fn cell_samples(&self, start: Minute, closed: Minute) -> u64 {
        if start < seam(closed) {
            return self.hour(start).map_or(0, PaneData::samples);
        }
        match (&self.slots, self.index(start)) {
            (_, None) => 0,
            (Slots::Counts(slots), Some(at)) => slots[at].0,
            (Slots::Values(slots), Some(at)) => slots[at].as_ref().map_or(0, SealedValues::samples),
        }
    }

    /// The values of one cell of a window: an hour before the seam, else a minute.
    pub fn cell_values(&self, start: Minute, closed: Minute) -> Option<&SealedValues> {
        if start >= seam(closed) {
            return self.values(start);
        }
        match self.hour(start)? {
            PaneData::Values(values) => Some(values),
            PaneData::Counts { .. } => None,
        }
    }

    /// Whether a quantile from `from` on cannot be told, since hours in it were kept without their bucket counts.
    pub fn lacks_buckets(&self, from: Minute, closed: Minute) -> bool {
        self.hours_before(from, closed).0.is_some_and(|(hours, first)| hours.lacks_buckets(first))
    }

    /// The roll-ups, where there are any.
    pub fn hours_mut(&mut self) -> Option<&mut Hours> {
        self.hours.as_deref_mut()
    }

    /// Every minute that has a pane, with its data.
    pub fn recorded(&self) -> impl Iterator<Item = (Minute, PaneData)> + '_ {
        let minutes = (0..self.len() as i64).map(|at| self.first.plus(at));
        minutes.filter_map(|minute| Some((minute, self.data(minute)?)))
    }

    /// A number that grows with everything added to one minute's pane; 0 where there is none.
    pub fn revision(&self, minute: Minute) -> u32 {
        self.index(minute).map_or(0, |at| self.revisions[at])
    }

    /// Makes its first total wrong.
    #[cfg(test)]
    pub fn damage(&mut self) {
        self.totals[0].sums.sum += 1;
    }

    /// Compares every total with its panes, and with its hours, and rebuilds those that differ; the number that was wrong (0 unless
    /// there is a bug).
    pub fn audit(&mut self, closed: Minute) -> usize {
        let mut wrong = 0;
        for at in 0..self.totals.len() {
            let fresh = self.build(self.totals[at].window, self.totals[at].histogram.is_some(), Some(closed));
            let total = &self.totals[at];
            let same = !total.sums.differ(&fresh.sums)
                && same_counts(total.histogram.as_ref(), fresh.histogram.as_ref(), self.layout.as_ref());
            if !same {
                self.totals[at] = fresh;
                wrong += 1;
            }
        }
        wrong + self.hours.as_mut().map_or(0, |hours| hours.audit(closed, self.layout.as_ref()))
    }

    /// The first minute whose pane is kept at a closing: with roll-ups only whole hours leave.
    fn first_kept(&self, closed: Minute) -> Minute {
        if self.hours.is_some() { seam(closed) } else { closed.plus(1 - KEEP) }
    }

    fn hour(&self, start: Minute) -> Option<&PaneData> {
        self.hours.as_ref()?.get(start)
    }

    /// The hours that a window begins with and the first of their minutes, and the minute at which panes go on.
    fn hours_before(&self, from: Minute, closed: Minute) -> (Option<(&Hours, Minute)>, Minute) {
        let seam = seam(closed);
        match self.hours.as_deref().filter(|_| from < seam) {
            Some(hours) => (Some((hours, from)), seam),
            None => (None, from),
        }
    }

    /// The panes from `from` on that have to be added to the longest total, where that helps.
    fn latest(&self, from: Minute, to: Minute, closed: Minute) -> (std::ops::Range<i64>, Option<&Total>) {
        let first = Window::LONGEST.first_minute(closed);
        match self.total(first, to, closed).filter(|_| from <= first) {
            Some(total) => (from.0..first.0, Some(total)),
            None => (from.0..to.0 + 1, None),
        }
    }

    fn total(&self, from: Minute, to: Minute, closed: Minute) -> Option<&Total> {
        let length = u32::try_from(to.0 - from.0 + 1).ok()?;
        if to != closed {
            return None;
        }
        self.totals.iter().find(|t| t.window.0 == length)
    }

    fn build(&self, window: Window, histogram: bool, closed: Option<Minute>) -> Total {
        let mut total = Total::empty(window);
        total.histogram = self.layout.as_ref().filter(|_| histogram).map(Layout::histogram);
        if let Some(closed) = closed {
            for minute in closed.0 - i64::from(window.0) + 1..=closed.0 {
                if let Some(data) = self.data(Minute(minute)) {
                    total.add(&data, self.layout.as_ref());
                }
            }
        }
        total
    }

    fn slide(&self, total: &mut Total, closed: Minute) {
        if let Some(entering) = self.data(closed) {
            total.add(&entering, self.layout.as_ref());
        }
        let Some(leaving) = self.data(closed.plus(-i64::from(total.window.0))) else {
            return;
        };
        if total.subtract(&leaving, self.layout.as_ref()).is_none() {
            *total = self.build(total.window, total.histogram.is_some(), Some(closed));
        }
    }

    fn data(&self, minute: Minute) -> Option<PaneData> {
        let at = self.index(minute)?;
        match &self.slots {
            Slots::Counts(slots) => {
                let (n, trues) = slots[at];
                (n > 0).then_some(PaneData::Counts { n, trues })
            }
            Slots::Values(slots) => slots[at].clone().map(PaneData::Values),
        }
    }

    fn merge(&mut self, minute: Minute, data: PaneData) {
        self.reach(minute);
        let Some(at) = self.index(minute) else { return };
        self.revisions[at] += 1;
        match (&mut self.slots, data) {
            (Slots::Counts(slots), PaneData::Counts { n, trues }) => {
                slots[at].0 += n;
                slots[at].1 += trues;
            }
            (Slots::Values(slots), PaneData::Values(values)) => {
                slots[at] = Some(match slots[at].take() {
                    Some(present) => present.merge(&values),
                    None => values,
                });
            }
            // A schema gives a metric one kind for the life of the process; a reload that changes it is refused.
            (Slots::Counts(_), PaneData::Values(_)) | (Slots::Values(_), PaneData::Counts { .. }) => {}
        }
    }

    /// Makes the ring span `minute`.
    fn reach(&mut self, minute: Minute) {
        if self.len() == 0 {
            self.first = minute;
        }
        while minute < self.first {
            match &mut self.slots {
                Slots::Counts(slots) => slots.push_front((0, 0)),
                Slots::Values(slots) => slots.push_front(None),
            }
            self.revisions.push_front(0);
            self.first = self.first.plus(-1);
        }
        let length = usize::try_from(minute.0 - self.first.0 + 1).unwrap_or(0);
        if length > self.len() {
            match &mut self.slots {
                Slots::Counts(slots) => slots.resize(length, (0, 0)),
                Slots::Values(slots) => slots.resize(length, None),
            }
            self.revisions.resize(length, 0);
        }
    }

    fn index(&self, minute: Minute) -> Option<usize> {
        usize::try_from(minute.0 - self.first.0).ok().filter(|at| *at < self.len())
    }

    fn len(&self) -> usize {
        match &self.slots {
            Slots::Counts(slots) => slots.len(),
            Slots::Values(slots) => slots.len(),
        }
    }

    fn pop_front(&mut self) -> Option<PaneData> {
        let gone = match &mut self.slots {
            Slots::Counts(slots) => {
                let counts = slots.pop_front().filter(|(n, _)| *n > 0);
                counts.map(|(n, trues)| PaneData::Counts { n, trues })
            }
            Slots::Values(slots) => slots.pop_front().flatten().map(PaneData::Values),
        };
        self.revisions.pop_front();
        self.first = self.first.plus(1);
        gone
    }
}

/// Windows up to this length are added up from their panes.
const SCANNED: Window = Window(5);

impl Total {
    fn empty(window: Window) -> Self {
        Self { window, sums: Sums::default(), histogram: None }
    }

    fn covers(&self, minute: Minute, closed: Minute) -> bool {
        minute <= closed && minute.0 > closed.0 - i64::from(self.window.0)
    }

    fn add(&mut self, data: &PaneData, layout: Option<&Layout>) {
        let sums = data.sums();
        self.sums.n += sums.n;
        self.sums.sum += sums.sum;
        self.sums.squares += sums.squares;
        if let (Some(histogram), PaneData::Values(values), Some(_)) = (&mut self.histogram, data, layout) {
            add_values(histogram, values);
        }
    }

    /// `None` if the total cannot have contained the data.
    fn subtract(&mut self, data: &PaneData, layout: Option<&Layout>) -> Option<()> {
        let sums = data.sums();
        self.sums.n = self.sums.n.checked_sub(sums.n)?;
        self.sums.sum -= sums.sum;
        self.sums.squares = self.sums.squares.checked_sub(sums.squares)?;
        if let (Some(histogram), PaneData::Values(values), Some(layout)) = (&mut self.histogram, data, layout)
        {
            let mut leaving = layout.histogram();
            add_values(&mut leaving, values);
            histogram.subtract(&leaving).ok()?;
        }
        Some(())
    }
}

/// Adds the bucket counts of a pane or hour to a histogram of the same layout.
pub(super) fn add_values(histogram: &mut Histogram<u64>, values: &SealedValues) {
    for (bucket, count) in values.entries() {
        // The value is a bucket of this very layout, so it is in range.
        histogram.saturating_record_n(Layout::lowest_units(bucket), count);
    }
}

/// Whether two histograms hold the same counts. Their own equality also compares the remembered smallest value, which a
/// subtraction leaves behind.
pub(super) fn same_counts(
    a: Option<&Histogram<u64>>,
    b: Option<&Histogram<u64>>,
    layout: Option<&Layout>,
) -> bool {
    let (Some(a), Some(b), Some(layout)) = (a, b, layout) else { return a.is_none() && b.is_none() };
    let buckets = u16::try_from(layout.buckets()).unwrap_or(u16::MAX);
    (0..buckets).map(Layout::lowest_units).all(|units| a.count_at(units) == b.count_at(units))
}

/// The bucket of the smallest value at or below which at least `q` of the samples lie.
pub fn quantile_bucket(histogram: &Histogram<u64>, layout: &Layout, q: f64) -> u16 {
    layout.bucket_of(histogram.value_at_quantile(q))
}

#[cfg(test)]
#[path = "series_tests.rs"]
mod tests;

//! Panes: what one minute of one series holds. Open while ingest records into it, sealed once sent.
//!
//! Sums are integers in micro-units (Σx in i128, Σx² in u128) and histograms are bucket counts, so that adding and taking
//! away are exact whatever the order. A sealed pane is one small byte string of variable-length integers.

use serde::{Deserialize, Serialize};

use super::layout::{Layout, micros};
use super::schema::VariantId;
use super::tenants::Tenants;
use crate::model::flag::Scope;
use crate::model::metric::MetricId;
use crate::model::time::Minute;

/// One variant's part of a delta for one minute.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VariantPane {
    pub variant: VariantId,
    pub minute: Minute,
    /// Events of the variant, whatever metrics they carried.
    pub events: u64,
    pub tenants: Tenants,
    /// In the order of first arrival.
    pub series: Vec<SeriesPane>,
}

/// One series' part of a delta for one minute.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SeriesPane {
    pub metric: MetricId,
    /// `All`, or the slice of a rule with `by:`.
    pub slice: Scope,
    pub data: PaneData,
}

/// What a sealed pane holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PaneData {
    /// A boolean metric: how many samples, how many of them true.
    Counts {
        n: u64,
        trues: u64,
    },
    Values(SealedValues),
}

impl PaneData {
    /// How many samples the pane holds.
    pub fn samples(&self) -> u64 {
        match self {
            Self::Counts { n, .. } => *n,
            Self::Values(values) => values.samples(),
        }
    }

    /// The exact part.
    pub fn sums(&self) -> Sums {
        match self {
            Self::Counts { n, trues } => Sums::of_counts(*n, *trues),
            Self::Values(values) => values.sums(),
        }
    }
}

/// The exact part of a pane or window of values: count, sums and extremes in micro-units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sums {
    pub n: u64,
    pub sum: i128,
    pub squares: u128,
    /// `i64::MAX` when empty.
    pub min: i64,
    /// `i64::MIN` when empty.
    pub max: i64,
}

impl Default for Sums {
    fn default() -> Self {
        Self { n: 0, sum: 0, squares: 0, min: i64::MAX, max: i64::MIN }
    }
}

/// Micro-units in one: booleans count as 0 and 1 in the same sums as values.
pub const ONE: i128 = 1_000_000;

impl Sums {
    /// Whether counts, sums or squares differ; extremes are not kept everywhere.
    pub fn differ(&self, other: &Self) -> bool {
        (self.n, self.sum, self.squares) != (other.n, other.sum, other.squares)
    }

    /// The sums of `n` samples of a boolean metric, of which so many are true.
    pub fn of_counts(n: u64, trues: u64) -> Self {
        if n == 0 {
            return Self::default();
        }
        Self {
            n,
            sum: i128::from(trues) * ONE,
            squares: u128::from(trues) * (ONE * ONE).unsigned_abs(),
            min: if trues < n { 0 } else { ONE as i64 },
            max: if trues > 0 { ONE as i64 } else { 0 },
        }
    }

    /// Counts one value in micro-units.
    pub fn record(&mut self, micro: i64) {
        self.n += 1;
        self.sum += i128::from(micro);
        self.squares += u128::from(micro.unsigned_abs()) * u128::from(micro.unsigned_abs());
        self.min = self.min.min(micro);
        self.max = self.max.max(micro);
    }

    /// Adds the samples of another pane.
    pub fn add(&mut self, other: &Self) {
        self.n += other.n;
        self.sum += other.sum;
        self.squares += other.squares;
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
    }
}

/// An open pane of values. Few samples are kept as they came, and reckoned when the pane is sealed: recording one touches
/// two cache lines, however many series are open. Many samples are kept as sums and dense counts.
#[derive(Clone, Debug, Default)]
pub struct OpenValues {
    few: Vec<f64>,
    dense: Option<Box<Dense>>,
}

#[derive(Clone, Debug)]
struct Dense {
    sums: Sums,
    counts: Box<[u32]>,
}

/// Buffers for sealing one pane after the other.
#[derive(Debug, Default)]
pub struct Scratch {
    buckets: Vec<u16>,
    bytes: Vec<u8>,
}

/// Above this many samples the list becomes dense counts. A list entry is 8 bytes, a dense pane up to 7 KB.
const DENSE_ABOVE: usize = 256;

/// Room for as many samples at first: one allocation instead of four for the pane of a quiet series.
const FEW_AT_FIRST: usize = 16;

impl OpenValues {
    /// Records a finite, non-negative value in the metric's unit.
    #[inline]
    pub fn record(&mut self, layout: &Layout, value: f64) {
        match &mut self.dense {
            Some(dense) => dense.record(layout, value),
            None => self.record_few(layout, value),
        }
    }

    /// The pane as it is sent and kept.
    pub fn seal(mut self, layout: &Layout) -> SealedValues {
        self.take(layout, &mut Scratch::default())
    }

    /// Seals what is recorded and leaves an empty pane, which keeps its buffer.
    pub fn take(&mut self, layout: &Layout, scratch: &mut Scratch) -> SealedValues {
        if let Some(dense) = self.dense.take() {
            let used = (0u16..).zip(dense.counts.iter()).filter(|(_, n)| **n > 0);
            let used = used.map(|(bucket, n)| (bucket, u64::from(*n)));
            return SealedValues::write(&dense.sums, used, &mut scratch.bytes);
        }
        let Scratch { buckets, bytes } = scratch;
        let mut sums = Sums::default();
        buckets.clear();
        for value in self.few.drain(..) {
            sums.record(micros(value));
            buckets.push(layout.bucket(value));
        }
        buckets.sort_unstable();
        let runs = buckets.chunk_by(|a, b| a == b).map(|run| (run[0], run.len() as u64));
        SealedValues::write(&sums, runs, bytes)
    }

    #[inline]
    fn record_few(&mut self, layout: &Layout, value: f64) {
        if self.few.capacity() == 0 {
            self.few.reserve_exact(FEW_AT_FIRST);
        }
        self.few.push(value);
        if self.few.len() > DENSE_ABOVE {
            let counts = vec![0; layout.buckets()].into_boxed_slice();
            let mut dense = Box::new(Dense { sums: Sums::default(), counts });
            for value in std::mem::take(&mut self.few) {
                dense.record(layout, value);
            }
            self.dense = Some(dense);
        }
    }
}

impl Dense {
    #[inline]
    fn record(&mut self, layout: &Layout, value: f64) {
        self.sums.record(micros(value));
        self.counts[usize::from(layout.bucket(value))] += 1;
    }
}

/// A sealed pane of values: the sums, then (gap to the previous bucket, count) pairs, all as variable-length integers
/// (LEB128).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealedValues(Box<[u8]>);

impl SealedValues {
    /// Encodes sums and bucket counts; `entries` ascend by bucket.
    pub fn encode(sums: &Sums, entries: &[(u16, u64)]) -> Self {
        Self::write(sums, entries.iter().copied(), &mut Vec::with_capacity(40 + entries.len() * 3))
    }

    /// Encodes bucket counts that come one after the other, by way of a buffer.
    fn write(sums: &Sums, entries: impl Iterator<Item = (u16, u64)>, bytes: &mut Vec<u8>) -> Self {
        bytes.clear();
        put_short(bytes, sums.n);
        if sums.n > 0 {
            put(bytes, sums.sum.unsigned_abs());
            put(bytes, sums.squares);
            put_short(bytes, sums.min.unsigned_abs());
            put_short(bytes, sums.max.abs_diff(sums.min));
        }
        let mut previous = 0;
        for (bucket, count) in entries {
            put_short(bytes, u64::from(bucket - previous));
            put_short(bytes, count);
            previous = bucket;
        }
        Self(Box::from(bytes.as_slice()))
    }

    /// How many samples there are.
    #[inline]
    pub fn samples(&self) -> u64 {
        Integers(&self.0).short()
    }

    /// The exact part.
    pub fn sums(&self) -> Sums {
        Integers(&self.0).sums()
    }

    /// The bucket counts, ascending by bucket.
    #[inline]
    pub fn entries(&self) -> impl Iterator<Item = (u16, u64)> + '_ {
        let mut rest = Integers(&self.0);
        rest.sums();
        let mut bucket = 0u16;
        std::iter::from_fn(move || {
            if rest.0.is_empty() {
                return None;
            }
            bucket += rest.short() as u16;
            Some((bucket, rest.short()))
        })
    }

    /// The bucket of the smallest value at or below which at least `q` of the samples lie; `None` without bucket counts.
    pub fn quantile(&self, q: f64) -> Option<u16> {
        let target = ((q * self.sums().n as f64).ceil() as u64).max(1);
        let mut so_far = 0;
        self.entries().find_map(|(bucket, n)| {
            so_far += n;
            (so_far >= target).then_some(bucket)
        })
    }

    /// Both panes in one.
    #[must_use]
    pub fn merge(&self, other: &Self) -> Self {
        let mut sums = self.sums();
        sums.add(&other.sums());
        let (mut left, mut right) = (self.entries().peekable(), other.entries().peekable());
        let mut entries = Vec::new();
        loop {
            let next = match (left.peek(), right.peek()) {
                (Some(a), Some(b)) if a.0 == b.0 => {
                    let merged = (a.0, a.1 + b.1);
                    left.next();
                    right.next();
                    Some(merged)
                }
                (Some(a), Some(b)) if a.0 < b.0 => left.next(),
                (Some(_), None) => left.next(),
                (_, Some(_)) => right.next(),
                (None, None) => None,
            };
            match next {
                Some(entry) => entries.push(entry),
                None => return Self::encode(&sums, &entries),
            }
        }
    }
}

fn put(bytes: &mut Vec<u8>, mut value: u128) {
    while value > u128::from(u64::MAX) {
        bytes.push((value as u8 & 0x7f) | 0x80);
        value >>= 7;
    }
    put_short(bytes, value as u64);
}

/// The same for what fits into a register, which is nearly everything.
#[inline]
fn put_short(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push((value as u8 & 0x7f) | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

/// What is left to read of a string of variable-length integers.
struct Integers<'b>(&'b [u8]);

impl Integers<'_> {
    fn sums(&mut self) -> Sums {
        let n = self.short();
        if n == 0 {
            return Sums::default();
        }
        let sum = self.long() as i128;
        let squares = self.long();
        let min = self.short() as i64;
        let max = min.wrapping_add(self.short() as i64);
        Sums { n, sum, squares, min, max }
    }

    /// One integer of at most 64 bits.
    #[inline]
    fn short(&mut self) -> u64 {
        match self.0 {
            [byte, rest @ ..] if *byte < 0x80 => {
                self.0 = rest;
                u64::from(*byte)
            }
            _ => self.bits(64) as u64,
        }
    }

    fn long(&mut self) -> u128 {
        self.bits(128)
    }

    /// One integer of at most so many bits; in 64-bit arithmetic as far as that goes.
    fn bits(&mut self, most: u32) -> u128 {
        let (mut low, mut high, mut shift) = (0u64, 0u128, 0);
        while let [byte, rest @ ..] = self.0 {
            self.0 = rest;
            let part = byte & 0x7f;
            if shift < 63 {
                low |= u64::from(part) << shift;
            } else if shift < most {
                high |= u128::from(part) << shift;
            }
            if *byte < 0x80 {
                break;
            }
            shift += 7;
        }
        high | u128::from(low)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sealed(layout: &Layout, values: &[f64]) -> SealedValues {
        let mut open = OpenValues::default();
        for value in values {
            open.record(layout, *value);
        }
        open.seal(layout)
    }

    proptest! {
        #[test]
        fn sealing_keeps_everything_and_merging_is_recording_together(
            left in prop::collection::vec(0.0f64..700_000.0, 0..600),
            right in prop::collection::vec(0.0f64..700_000.0, 0..600),
        ) {
            let layout = Layout::new(1.0, 600_000.0);
            let both: Vec<f64> = left.iter().chain(&right).copied().collect();
            let merged = sealed(&layout, &left).merge(&sealed(&layout, &right));
            prop_assert_eq!(&merged, &sealed(&layout, &both));
            let sums = merged.sums();
            prop_assert_eq!(sums.n, both.len() as u64);
            prop_assert_eq!(sums.sum, both.iter().map(|v| i128::from(micros(*v))).sum::<i128>());
            prop_assert_eq!(merged.entries().map(|(_, n)| n).sum::<u64>(), sums.n);
        }
    }

    proptest! {
        #[test]
        fn integers_are_read_as_they_were_written(long in any::<u128>(), by in 0u32..128, short in any::<u64>(), less in 0u32..64) {
            let (long, short) = (long >> by, short >> less);
            let mut bytes = Vec::new();
            put(&mut bytes, long);
            put_short(&mut bytes, short);
            let mut rest = Integers(&bytes);
            prop_assert_eq!((rest.long(), rest.short()), (long, short));
            prop_assert!(rest.0.is_empty());
        }
    }

    #[test]
    fn sixty_samples_stay_small() {
        let layout = Layout::new(1.0, 600_000.0);
        let values: Vec<f64> = (0..60).map(|i| 800.0 + 37.0 * f64::from(i)).collect();
        assert!(sealed(&layout, &values).0.len() <= 160);
    }
}

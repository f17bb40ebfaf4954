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
            Self::Values(values) => values.sums().n,
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

impl Sums {
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

/// An open pane of values. Few samples are kept as a list of buckets, many as dense counts: a fleet of quiet series stays
/// small, a busy one stays fast.
#[derive(Clone, Debug, Default)]
pub struct OpenValues {
    sums: Sums,
    few: Vec<u16>,
    dense: Option<Box<[u32]>>,
}

/// Above this many samples the list of buckets becomes dense counts. A list entry is 2 bytes, a dense pane up to 7 KB.
const DENSE_ABOVE: usize = 256;

/// Room for as many samples at first: one allocation instead of four for the pane of a quiet series.
const FEW_AT_FIRST: usize = 24;

impl OpenValues {
    /// Records a finite, non-negative value in the metric's unit.
    #[inline]
    pub fn record(&mut self, layout: &Layout, value: f64) {
        self.sums.record(micros(value));
        let bucket = layout.bucket(value);
        match &mut self.dense {
            Some(counts) => counts[usize::from(bucket)] += 1,
            None => self.record_few(layout, bucket),
        }
    }

    /// The pane as it is sent and kept.
    pub fn seal(mut self) -> SealedValues {
        match self.dense {
            Some(counts) => {
                let used = (0u16..).zip(counts.iter()).filter(|(_, n)| **n > 0);
                SealedValues::write(&self.sums, 512, used.map(|(bucket, n)| (bucket, u64::from(*n))))
            }
            None => {
                self.few.sort_unstable();
                let runs = self.few.chunk_by(|a, b| a == b).map(|run| (run[0], run.len() as u64));
                SealedValues::write(&self.sums, self.few.len(), runs)
            }
        }
    }

    fn record_few(&mut self, layout: &Layout, bucket: u16) {
        if self.few.capacity() == 0 {
            self.few.reserve_exact(FEW_AT_FIRST);
        }
        self.few.push(bucket);
        if self.few.len() > DENSE_ABOVE {
            let mut counts = vec![0u32; layout.buckets()].into_boxed_slice();
            for bucket in std::mem::take(&mut self.few) {
                counts[usize::from(bucket)] += 1;
            }
            self.dense = Some(counts);
        }
    }
}

/// A sealed pane of values: the sums, then (gap to the previous bucket, count) pairs, all as variable-length integers
/// (LEB128).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealedValues(Box<[u8]>);

impl SealedValues {
    /// Encodes sums and bucket counts; `entries` ascend by bucket.
    pub fn encode(sums: &Sums, entries: &[(u16, u64)]) -> Self {
        Self::write(sums, entries.len(), entries.iter().copied())
    }

    /// Encodes bucket counts that come one after the other, about `expected` of them.
    fn write(sums: &Sums, expected: usize, entries: impl Iterator<Item = (u16, u64)>) -> Self {
        let mut bytes = Vec::with_capacity(40 + expected * 3);
        put(&mut bytes, u128::from(sums.n));
        if sums.n > 0 {
            put(&mut bytes, sums.sum.unsigned_abs());
            put(&mut bytes, sums.squares);
            put(&mut bytes, u128::from(sums.min.unsigned_abs()));
            put(&mut bytes, u128::from(sums.max.abs_diff(sums.min)));
        }
        let mut previous = 0;
        for (bucket, count) in entries {
            put_short(&mut bytes, u64::from(bucket - previous));
            put_short(&mut bytes, count);
            previous = bucket;
        }
        Self(bytes.into_boxed_slice())
    }

    /// The exact part.
    pub fn sums(&self) -> Sums {
        let mut at = 0;
        self.read_sums(&mut at)
    }

    /// The bucket counts, ascending by bucket.
    pub fn entries(&self) -> impl Iterator<Item = (u16, u64)> + '_ {
        let mut at = 0;
        self.read_sums(&mut at);
        let mut bucket = 0u16;
        std::iter::from_fn(move || {
            if at >= self.0.len() {
                return None;
            }
            bucket += take(&self.0, &mut at) as u16;
            Some((bucket, take(&self.0, &mut at) as u64))
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

    fn read_sums(&self, at: &mut usize) -> Sums {
        let n = take(&self.0, at) as u64;
        if n == 0 {
            return Sums::default();
        }
        let sum = take(&self.0, at) as i128;
        let squares = take(&self.0, at);
        let min = take(&self.0, at) as i64;
        let max = min + take(&self.0, at) as i64;
        Sums { n, sum, squares, min, max }
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

fn take(bytes: &[u8], at: &mut usize) -> u128 {
    let mut value = 0;
    let mut shift = 0;
    while let Some(&byte) = bytes.get(*at) {
        *at += 1;
        value |= u128::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            break;
        }
        shift += 7;
    }
    value
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
        open.seal()
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

    #[test]
    fn sixty_samples_stay_small() {
        let layout = Layout::new(1.0, 600_000.0);
        let values: Vec<f64> = (0..60).map(|i| 800.0 + 37.0 * f64::from(i)).collect();
        assert!(sealed(&layout, &values).0.len() <= 160);
    }
}

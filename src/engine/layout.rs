//! The bucket layout of HDR histograms with two significant digits, as plain arithmetic.
//!
//! Ingest and sealed panes work with bucket indices, totals are `hdrhistogram::Histogram`s. Both agree because this is
//! HDR's own layout (Tene's HdrHistogram: `sub_bucket_count` = 256 for two digits, unit magnitude 0); a property test
//! compares it with the crate value by value.

use hdrhistogram::Histogram;

use crate::model::metric::{Kind, Metric};

/// Significant decimal digits kept by every histogram: a bucket is at most 1/128 of its value wide.
pub const DIGITS: u8 = 2;

const SUB_BUCKET_BITS: u32 = 8;
const HALF_BITS: u32 = SUB_BUCKET_BITS - 1;

/// How one metric's values map to micro-units (for exact sums) and to histogram buckets.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Layout {
    resolution: f64,
    /// 1 / resolution: a multiplication for each sample instead of a division.
    per_unit: f64,
    max_units: u64,
}

impl Layout {
    /// The layout of a metric; booleans have none, since two integers hold them exactly.
    pub fn of(metric: &Metric) -> Option<Self> {
        (metric.kind != Kind::Boolean).then(|| Self::new(metric.resolution, metric.max))
    }

    /// A layout with `resolution` and `max` in the metric's unit.
    pub fn new(resolution: f64, max: f64) -> Self {
        Self {
            resolution,
            per_unit: resolution.recip(),
            max_units: ((max / resolution).round() as u64).max(2),
        }
    }

    /// The bucket of a value in the metric's unit; values above the range fall into the last bucket.
    /// The caller has refused negative and non-finite values.
    #[inline]
    pub fn bucket(&self, value: f64) -> u16 {
        self.bucket_of_units(nearest(value * self.per_unit).unsigned_abs().min(self.max_units))
    }

    /// How many buckets there are.
    pub fn buckets(&self) -> usize {
        usize::from(self.bucket_of_units(self.max_units)) + 1
    }

    /// The highest value, in the metric's unit, that falls into a bucket.
    pub fn upper(&self, bucket: u16) -> f64 {
        (Self::lowest_units(bucket + 1) - 1).min(self.max_units) as f64 * self.resolution
    }

    /// The lowest value, in the metric's unit, that falls into a bucket.
    pub fn lower(&self, bucket: u16) -> f64 {
        Self::lowest_units(bucket) as f64 * self.resolution
    }

    /// The lowest histogram value of a bucket, in units of the resolution.
    pub fn lowest_units(bucket: u16) -> u64 {
        let index = u64::from(bucket);
        if index < 1 << SUB_BUCKET_BITS {
            return index;
        }
        let shift = (index >> HALF_BITS) - 1;
        ((index & ((1 << HALF_BITS) - 1)) + (1 << HALF_BITS)) << shift
    }

    /// The bucket of a histogram value, in units of the resolution.
    pub fn bucket_of(&self, units: u64) -> u16 {
        self.bucket_of_units(units.min(self.max_units))
    }

    /// An empty histogram with exactly these buckets.
    pub fn histogram(&self) -> Histogram<u64> {
        match Histogram::new_with_bounds(1, self.max_units, DIGITS) {
            Ok(histogram) => histogram,
            Err(_) => unreachable!("bounds 1..={} with {DIGITS} digits are always valid", self.max_units),
        }
    }

    fn bucket_of_units(&self, units: u64) -> u16 {
        let shift = (64 - (units | ((1 << SUB_BUCKET_BITS) - 1)).leading_zeros()) - SUB_BUCKET_BITS;
        let index = (u64::from(shift) << HALF_BITS) + (units >> shift);
        u16::try_from(index).unwrap_or(u16::MAX)
    }
}

/// Micro-units of a value: sums are integers, so that adding and taking away are exact.
#[inline]
pub fn micros(value: f64) -> i64 {
    nearest(value * 1e6)
}

/// `value.round() as i64`. For what is not negative without a call to the mathematics library, which costs as much as all
/// the rest of recording a sample on machines before SSE 4.1.
#[inline]
fn nearest(value: f64) -> i64 {
    if value >= 0.0 {
        let whole = value as i64;
        whole.saturating_add(i64::from(value - whole as f64 >= 0.5))
    } else {
        value.round() as i64
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn buckets_are_hdr_buckets(max in 2u64..50_000_000, value in 0u64..60_000_000) {
            let layout = Layout::new(1.0, max as f64);
            let histogram = layout.histogram();
            let value = value.min(max);
            let bucket = layout.bucket(value as f64);
            prop_assert_eq!(Layout::lowest_units(bucket), histogram.lowest_equivalent(value));
            prop_assert_eq!(Layout::lowest_units(bucket + 1) - 1, histogram.highest_equivalent(value));
            prop_assert!(usize::from(bucket) < layout.buckets());
        }
    }

    proptest! {
        #[test]
        fn nearest_is_round(value in prop_oneof![any::<f64>(), -1e7f64..1e7, (-1_000i32..1_000).prop_map(|n| f64::from(n) / 2.0)]) {
            for value in [value, value.next_down(), value.next_up()] {
                prop_assert_eq!(nearest(value), value.round() as i64);
            }
        }
    }

    #[test]
    fn latency_has_the_published_number_of_buckets() {
        // performance.md: 1–600,000 with two digits has 1,792 counters; we stop at the bucket of the maximum.
        assert!(Layout::new(1.0, 600_000.0).buckets() <= 1_792);
        assert_eq!(Layout::new(1.0, 600_000.0).bucket(1e12), Layout::new(1.0, 600_000.0).bucket(600_000.0));
    }
}

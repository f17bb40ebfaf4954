//! Samples that came after their minute had closed: nothing is judged by them, but they are counted, so that nobody takes a
//! window that lacks them for the whole truth.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::fleet::SeriesKey;
use super::schema::VariantId;
use crate::model::flag::Scope;
use crate::model::metric::MetricId;
use crate::model::time::Minute;

/// How many samples of one series came too late for one minute.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LateSamples {
    pub variant: VariantId,
    pub metric: MetricId,
    pub slice: Scope,
    /// The minute that they belong to.
    pub minute: Minute,
    pub samples: u64,
}

/// Late samples by series and minute.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Late {
    by_series: BTreeMap<SeriesKey, BTreeMap<Minute, u64>>,
    /// Places in use, over all series.
    places: usize,
}

impl Late {
    /// Adds samples of one series and minute.
    pub fn add(&mut self, key: SeriesKey, minute: Minute, samples: u64) {
        let minutes = self.by_series.entry(key).or_default();
        self.places += usize::from(!minutes.contains_key(&minute));
        *minutes.entry(minute).or_default() += samples;
    }

    /// How many places are in use: one for each minute of each series.
    pub const fn len(&self) -> usize {
        self.places
    }

    /// Whether nothing came too late.
    pub const fn is_empty(&self) -> bool {
        self.places == 0
    }

    /// Samples of a series that came too late for the minutes `from..=to`.
    pub fn between(&self, key: &SeriesKey, from: Minute, to: Minute) -> u64 {
        let minutes = self.by_series.get(key);
        minutes.map_or(0, |minutes| minutes.range(from..=to.max(from)).map(|(_, samples)| samples).sum())
    }

    /// Forgets the minutes before one.
    pub fn forget_before(&mut self, minute: Minute) {
        self.by_series.retain(|_, minutes| {
            let kept = minutes.split_off(&minute);
            self.places -= minutes.len();
            *minutes = kept;
            !minutes.is_empty()
        });
    }

    /// Everything, in a fixed order.
    pub fn all(&self) -> Vec<LateSamples> {
        let of = |((variant, metric, slice), minutes): (&SeriesKey, &BTreeMap<Minute, u64>)| {
            let one = |(minute, samples): (&Minute, &u64)| LateSamples {
                variant: *variant,
                metric: *metric,
                slice: slice.clone(),
                minute: *minute,
                samples: *samples,
            };
            minutes.iter().map(one).collect::<Vec<_>>()
        };
        self.by_series.iter().flat_map(of).collect()
    }

    /// Hands everything over and is empty again.
    pub fn take(&mut self) -> Vec<LateSamples> {
        let all = self.all();
        *self = Self::default();
        all
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(crate::testing::cases(64))]

        #[test]
        fn counts_are_brute_force(
            samples in prop::collection::vec((0u16..3, 0i64..40, 1u64..5), 0..60),
            (from, minutes, forget) in (0i64..40, 0i64..40, 0i64..40),
        ) {
            let key = |metric| (VariantId(0), MetricId(metric), Scope::All);
            let mut late = Late::default();
            for (metric, minute, n) in &samples {
                late.add(key(*metric), Minute(*minute), *n);
            }
            late.forget_before(Minute(forget));
            let kept = samples.iter().filter(|(_, minute, _)| *minute >= forget);
            for asked in 0..3 {
                let wanted = |(m, minute, _): &&(u16, i64, u64)| *m == asked && (from..=from + minutes).contains(minute);
                let expected: u64 = kept.clone().filter(wanted).map(|(_, _, n)| n).sum();
                prop_assert_eq!(late.between(&key(asked), Minute(from), Minute(from + minutes)), expected);
            }
            let mut places: Vec<_> = kept.map(|(metric, minute, _)| (*metric, *minute)).collect();
            places.sort_unstable();
            places.dedup();
            prop_assert_eq!(late.len(), places.len());
            let all = late.take();
            prop_assert_eq!(all.len(), places.len());
            prop_assert!(late.is_empty() && late.all().is_empty());
        }
    }
}

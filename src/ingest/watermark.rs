//! How far a partition has come in event time.
//!
//! The watermark is the *second largest* event time seen, so one event alone can never move it, wherever its clock
//! stands. A second delivery of that event is recognised by its id and does not move it either; two different events from
//! the future would, which is why `ts` is also bounded by the wall clock before it comes here.

use serde::{Deserialize, Serialize};

use crate::model::time::Timestamp;

/// The two largest event times; `None` until as many events were seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watermark {
    /// The largest, with the hash of its event's id.
    largest: Option<(Timestamp, u64)>,
    second: Option<Timestamp>,
}

impl Watermark {
    /// The watermark, which never goes back.
    pub fn get(&self) -> Option<Timestamp> {
        self.second
    }

    /// Sees one event; says whether the watermark moved.
    #[inline]
    pub fn observe(&mut self, ts: Timestamp, id: u64) -> bool {
        let Some((largest, holder)) = self.largest else {
            self.largest = Some((ts, id));
            return false;
        };
        if id == holder {
            return false;
        }
        let candidate = if ts > largest {
            self.largest = Some((ts, id));
            largest
        } else {
            ts
        };
        let moved = self.second.is_none_or(|second| candidate > second);
        if moved {
            self.second = Some(candidate);
        }
        moved
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn is_the_second_largest_and_never_goes_back(times in prop::collection::vec(0i64..50, 0..40)) {
            let mut watermark = Watermark::default();
            let mut last = None;
            for (id, ts) in times.iter().enumerate() {
                watermark.observe(Timestamp::from_millis(*ts), id as u64);
                let mut sorted = times[..=id].to_vec();
                sorted.sort_unstable();
                let second = sorted.iter().rev().nth(1).map(|ts| Timestamp::from_millis(*ts));
                prop_assert_eq!(watermark.get(), second);
                prop_assert!(second >= last);
                last = second;
            }
        }

        #[test]
        fn one_event_delivered_often_cannot_move_it(before in 0i64..100, again in 1usize..5) {
            let mut watermark = Watermark::default();
            watermark.observe(Timestamp::from_millis(before), 1);
            watermark.observe(Timestamp::from_millis(before), 2);
            for _ in 0..again {
                watermark.observe(Timestamp::from_millis(1_000_000), 3);
            }
            prop_assert_eq!(watermark.get(), Some(Timestamp::from_millis(before)));
        }
    }
}

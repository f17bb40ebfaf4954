//! One assigned partition as the reader drives it, and the choice of which one to read next.

use std::time::Duration;

use super::batch::PartitionQueue;
use super::link::Link;
use super::partition::Partition;
use crate::model::time::Timestamp;

/// How far, in event time, a partition may be read ahead of the slowest one that still has something to read.
pub(super) const AHEAD: Duration = Duration::from_secs(120);

/// A partition, its queue while it is assigned, and where it stands.
pub(super) struct Lane {
    pub(super) partition: Partition,
    pub(super) queue: Option<PartitionQueue<Link>>,
    /// The stored position, until it is reached again.
    pub(super) replay_to: Option<i64>,
    pub(super) at_end: bool,
    pub(super) last_flush: Timestamp,
    pub(super) last_idle: Timestamp,
}

impl Lane {
    pub(super) fn new(partition: Partition, replay_to: Option<i64>, now: Timestamp) -> Self {
        let replay_to = replay_to.filter(|position| *position > partition.next());
        Self {
            partition,
            queue: None,
            replay_to,
            at_end: false,
            last_flush: now,
            last_idle: Timestamp::default(),
        }
    }

    /// Where the lane stands for the choice of the next one to read.
    pub(super) fn standing(&self) -> Standing {
        Standing {
            assigned: self.queue.is_some(),
            at_end: self.at_end,
            watermark: self.partition.watermark(),
        }
    }
}

/// Where a partition stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Standing {
    pub(super) assigned: bool,
    pub(super) at_end: bool,
    pub(super) watermark: Option<Timestamp>,
}

/// The event time beyond which nobody reads on: two minutes after the slowest partition that is not at its end. As long as
/// one of them has no event time yet, nobody else reads: its first messages are on their way, or its leader is down and
/// event time stands still anyway. `None` is no bound.
pub(super) fn horizon(lanes: impl Iterator<Item = Standing>) -> Option<Timestamp> {
    let slowest = lanes.filter(|lane| lane.assigned && !lane.at_end).map(|lane| lane.watermark).min()?;
    Some(slowest.map_or(NOBODY, |slowest| slowest + AHEAD))
}

/// Before all event times.
const NOBODY: Timestamp = Timestamp::from_millis(i64::MIN);

/// Whether a partition may be read on.
pub(super) fn may_read(lane: Standing, horizon: Option<Timestamp>) -> bool {
    let behind = match (lane.watermark, horizon) {
        (Some(watermark), Some(horizon)) => watermark <= horizon,
        (None, _) | (_, None) => true,
    };
    lane.assigned && behind
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn standing() -> impl Strategy<Value = Standing> {
        (any::<bool>(), any::<bool>(), prop::option::of(0i64..1_000_000)).prop_map(
            |(assigned, at_end, watermark)| Standing {
                assigned,
                at_end,
                watermark: watermark.map(Timestamp::from_millis),
            },
        )
    }

    proptest! {
        #[test]
        fn the_slowest_may_always_be_read_and_nobody_runs_away(lanes in prop::collection::vec(standing(), 1..6)) {
            let horizon = horizon(lanes.iter().copied());
            let reading = || lanes.iter().filter(|lane| lane.assigned && !lane.at_end);
            if let Some(slowest) = reading().min_by_key(|lane| lane.watermark) {
                prop_assert!(may_read(*slowest, horizon));
            }
            if let Some(slowest) = reading().map(|lane| lane.watermark).min() {
                let bound = slowest.map(|slowest| slowest + AHEAD);
                for lane in lanes.iter().filter(|lane| lane.watermark.is_some() && lane.watermark > bound) {
                    prop_assert!(!may_read(*lane, horizon));
                }
            }
        }
    }
}

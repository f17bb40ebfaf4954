//! One assigned partition as the reader drives it, and the choice of which one to read next.

use std::time::Duration;

use super::batch::{Fetched, PartitionQueue};
use super::dead_letter::DeadLetters;
use super::fate::Fate;
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

    /// Where the lane stands for the choice of the next one to read. Until all are `loaded`, only what was read before a
    /// restart is read again: a lane that has reached its position waits for the others, and holds none of them back.
    pub(super) fn standing(&self, loaded: bool) -> Standing {
        Standing {
            assigned: self.queue.is_some() && (loaded || self.replay_to.is_some()),
            at_end: self.at_end,
            watermark: self.partition.watermark(),
        }
    }
}

/// Why recording a lane's batch paused.
pub(super) enum Progress {
    /// The batch is used up, or the horizon is reached.
    Out,
    /// A delta is due.
    Due,
    /// The stored position is reached.
    Replayed(i64),
    /// The end of the log.
    End(i64),
    OutOfRange,
    Failed(String),
}

/// The hot path: records messages until something else is to be done.
pub(super) fn record_some(
    lane: &mut Lane,
    mut dead_letters: Option<&mut DeadLetters>,
    horizon: Option<Timestamp>,
    wall: Timestamp,
) -> Progress {
    let Some(queue) = &mut lane.queue else {
        return Progress::Out;
    };
    while let Some(offset) = queue.peek() {
        if let Some(position) = lane.replay_to.filter(|position| offset >= *position) {
            return Progress::Replayed(position);
        }
        let message = match queue.take_next() {
            Some(Fetched::Message(message)) => message,
            Some(Fetched::End(offset)) => return Progress::End(offset),
            Some(Fetched::OutOfRange) => return Progress::OutOfRange,
            Some(Fetched::Failed(code)) => return Progress::Failed(code.to_string()),
            None => return Progress::Out,
        };
        lane.at_end = false;
        if offset < lane.partition.next() {
            continue;
        }
        let fate = lane.partition.record(message.payload(), offset, wall);
        if matches!(fate, Fate::DeadLetter(_) | Fate::Refused(_))
            && lane.replay_to.is_none()
            && let Some(letters) = dead_letters.as_deref_mut()
        {
            letters.send(&message, lane.partition.source(), fate);
        }
        if lane.partition.is_due() {
            return Progress::Due;
        }
        let ahead = |horizon| lane.partition.watermark().is_some_and(|watermark| watermark > horizon);
        if horizon.is_some_and(ahead) {
            return Progress::Out;
        }
    }
    Progress::Out
}

/// Where a partition stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Standing {
    /// It may be read: it is ours, and what comes next of it is wanted now.
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

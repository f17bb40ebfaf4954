//! What goes out, and when: deltas, idleness, checkpoints, lag.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rdkafka::consumer::{CommitMode, Consumer};
use rdkafka::{Offset, TopicPartitionList};

use super::{End, Reader};
use crate::engine::input::Source;
use crate::ingest::batch::high_watermark;
use crate::ingest::consumer::FromIngest;
use crate::ingest::lane::Lane;
use crate::model::time::Timestamp;

impl Reader {
    /// Says that a source is at its end, at most every `idle_every`. What was read goes out first.
    pub(super) fn idle(&mut self, source: &Source, at: Timestamp) -> Result<(), End> {
        let Some(lane) = self.lanes.get_mut(source) else {
            return Ok(());
        };
        let alive = self.health.alive.contains(source);
        if !alive || !lane.at_end || at.since(lane.last_idle) < self.config.idle_every {
            return Ok(());
        }
        lane.last_idle = at;
        self.hand_over(source)?;
        self.send(FromIngest::Idle { source: source.clone(), at })
    }

    /// What is due by the wall clock: deltas, idleness, lag, checkpoints, commits.
    pub(super) fn tick(&mut self) -> Result<(), End> {
        let now = (self.wall)();
        let sources: Vec<Source> = self.lanes.keys().cloned().collect();
        for source in &sources {
            let Some(lane) = self.lanes.get_mut(source) else {
                continue;
            };
            let news = lane.partition.has_news();
            if news && now.since(lane.last_flush) >= self.config.flush_every {
                self.hand_over(source)?;
            } else if lane.at_end && lane.queue.as_mut().is_some_and(|queue| queue.fill() == 0) {
                self.idle(source, now)?;
            }
        }
        if now.since(self.last_lag) >= self.config.idle_every {
            self.last_lag = now;
            self.report_lag()?;
            self.commit_stored();
        }
        let asked = self.wishes.checkpoint.swap(false, Ordering::Relaxed);
        if asked || now.since(self.last_checkpoint) >= self.config.snapshot_every {
            self.last_checkpoint = now;
            self.hand_over_all()?;
        }
        Ok(())
    }

    /// Hands over everything of all partitions and then their states: a consistent cut.
    pub(super) fn hand_over_all(&mut self) -> Result<(), End> {
        let sources: Vec<Source> = self.lanes.keys().cloned().collect();
        for source in &sources {
            self.hand_over(source)?;
        }
        // Before all positions are reached there is no cut: some lanes are missing, or lie before their stored position, and
        // the engine has panes of them already. The snapshot that is there is as good.
        if !self.loaded || self.lanes.values().any(|lane| lane.replay_to.is_some()) {
            return Ok(());
        }
        let states = self.lanes.values().map(|lane| lane.partition.export()).collect();
        self.send(FromIngest::Checkpoint(states))
    }

    /// Hands over what a partition has recorded, once its dead letters are delivered.
    pub(super) fn hand_over(&mut self, source: &Source) -> Result<(), End> {
        let now = (self.wall)();
        let mut lost = 0;
        while let Some(letters) = &mut self.dead_letters {
            lost += letters.take_lost();
            if !letters.pending(Duration::from_millis(2)) {
                lost += letters.take_lost();
                break;
            }
            self.serve(Duration::ZERO)?;
        }
        let Some(lane) = self.lanes.get_mut(source) else {
            return Ok(());
        };
        lane.last_flush = now;
        if !lane.partition.has_news() && !lane.partition.is_due() && lost == 0 {
            return Ok(());
        }
        let (delta, mut counters) = lane.partition.take_delta();
        counters.dead_letters_lost = lost;
        self.consumer.context().set_start(source, delta.to);
        self.send(FromIngest::Delta(delta, Box::new(counters)))
    }

    pub(super) fn say_loaded(&mut self) -> Result<(), End> {
        // A partition that is somebody else's for now is still to be read up to its position.
        let at_position = |source| self.lanes.get(source).is_some_and(|lane| lane.replay_to.is_none());
        let replaying = !self.begin.keys().all(at_position);
        if self.loaded || !self.assigned || replaying {
            return Ok(());
        }
        self.loaded = true;
        self.send(FromIngest::Loaded)
    }

    pub(super) fn report_lag(&mut self) -> Result<(), End> {
        let lag = |(source, lane): (&Source, &Lane)| {
            lane.queue.as_ref()?;
            let high = high_watermark(&self.consumer, source)?;
            Some((source.clone(), (high - lane.partition.next()).max(0)))
        };
        let lags: Vec<_> = self.lanes.iter().filter_map(lag).collect();
        if lags.is_empty() {
            return Ok(());
        }
        self.send(FromIngest::Lag(lags))
    }

    pub(super) fn commit_stored(&mut self) {
        // librdkafka keeps what it cannot commit now, and sends it when the coordinator is back: by then this member may have
        // had to join again, and be fenced for it.
        if self.down || self.unreachable > 0 || !self.trouble.is_empty() {
            return;
        }
        let mut stored = self.wishes.stored.lock().unwrap_or_else(PoisonError::into_inner);
        let stored = std::mem::take(&mut *stored);
        let mut list = TopicPartitionList::new();
        for (source, offset) in stored {
            let ours = self.lanes.get(&source).is_some_and(|lane| lane.queue.is_some());
            if ours {
                // Only a negative offset fails; lag tools can do without.
                let _ = list.add_partition_offset(&source.topic, source.partition, Offset::Offset(offset));
            }
        }
        if list.count() > 0
            && let Err(error) = self.consumer.commit(&list, CommitMode::Async)
        {
            tracing::debug!(%error, "committing offsets for lag tools failed");
        }
    }
}

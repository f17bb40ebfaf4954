//! One partition of one topic: every message gets one fate, accepted events go into open minute panes, and a delta hands
//! everything over together with the offsets it covers.
//!
//! Pure: bytes, offsets and the wall time come in, fates and deltas go out. What survives a restart is [`PartitionState`].

use std::hash::BuildHasher;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::decode::{Bounds, Decoder};
use super::fate::{Counters, Fate};
use super::names::Names;
use super::recorder::{Drained, Recorder, RecorderState};
use crate::engine::input::{Delta, Source};
use crate::model::time::Timestamp;

/// Bounds on what one partition accepts and holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub bounds: Bounds,
    /// Event time that a minute stays open after its end.
    pub lateness: Duration,
    /// Ids remembered in all open minutes together. Two different ids of a minute meet with a probability of about
    /// 2.7e-8 at a million of them (64-bit keyed hashes).
    pub ids: usize,
    /// Slice values admitted per (minute, variant, dimension).
    pub slices: usize,
    /// Series with something recorded, after which a delta is due.
    pub series: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            bounds: Bounds::default(),
            lateness: Duration::from_secs(30),
            ids: 1_000_000,
            slices: 200,
            series: 50_000,
        }
    }
}

/// One partition's recorder.
#[derive(Debug)]
pub struct Partition {
    source: Source,
    names: Arc<Names>,
    bounds: Bounds,
    /// Where the pending delta starts.
    from: i64,
    /// The offset after the last message seen.
    next: i64,
    decoder: Decoder,
    recorder: Recorder,
}

/// What of a partition survives a restart, as of a delta: everything before `next` has been handed over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionState {
    pub source: Source,
    /// The offset at which to go on reading.
    pub next: i64,
    pub recorder: RecorderState,
}

impl Partition {
    /// A partition that is to be read from offset `next` on. `key` should be random and secret, so that nobody can write
    /// ids that collide.
    pub fn new(source: Source, next: i64, key: (u64, u64), names: Arc<Names>, limits: Limits) -> Self {
        Self {
            source,
            names,
            bounds: limits.bounds,
            from: next,
            next,
            decoder: Decoder::default(),
            recorder: Recorder::new(key, limits),
        }
    }

    /// The source that this is.
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// The offset after the last message seen.
    pub fn next(&self) -> i64 {
        self.next
    }

    /// Event time reached, once there is any.
    pub fn watermark(&self) -> Option<Timestamp> {
        self.recorder.watermark()
    }

    /// Whether anything, be it only offsets, has been seen since the last delta.
    pub fn has_news(&self) -> bool {
        self.next > self.from
    }

    /// Whether a delta should be taken now: a minute has ended, or the open panes have reached their bound.
    pub fn is_due(&self) -> bool {
        self.recorder.is_due()
    }

    /// Records under a new schema from now on. What is recorded already keeps its meaning, since numbers never change.
    pub fn set_names(&mut self, names: Arc<Names>, slices: usize) {
        self.names = names;
        self.recorder.set_slices(slices);
    }

    /// Gives one message its fate. `wall` is the time of the wall clock. The caller passes offsets in ascending order and
    /// none below [`next`](Self::next).
    #[inline]
    pub fn record(&mut self, bytes: &[u8], offset: i64, wall: Timestamp) -> Fate {
        let fate = match self.decoder.decode(bytes, &self.bounds, wall) {
            Ok(event) => self.recorder.accept(&self.names, &event),
            Err(reject) => Fate::from(reject),
        };
        self.next = offset + 1;
        self.recorder.count(fate);
        fate
    }

    /// Knows that there is nothing before `offset`: transaction markers, compaction, or a gap that was reported.
    pub fn skip_to(&mut self, offset: i64) {
        self.next = self.next.max(offset);
    }

    /// Goes on at `offset`, wherever that is, after a gap that was reported. A delta must have been taken before.
    pub fn jump_to(&mut self, offset: i64) {
        self.from = offset;
        self.next = offset;
    }

    /// Hands over everything since the last delta.
    pub fn take_delta(&mut self) -> (Delta, Counters) {
        let Drained { fates, counters, panes, late } = self.recorder.drain(&self.names);
        let delta = Delta {
            source: self.source.clone(),
            from: std::mem::replace(&mut self.from, self.next),
            to: self.next,
            watermark: self.recorder.watermark(),
            fates,
            panes,
            late,
        };
        (delta, counters)
    }

    /// What must be kept to go on later as if nothing had happened. Take a delta first: open panes are not part of it.
    pub fn export(&self) -> PartitionState {
        let schema = self.names.schema();
        PartitionState {
            source: self.source.clone(),
            next: self.next,
            recorder: self.recorder.export(schema),
        }
    }

    /// Goes on where [`export`](Self::export) left off. Slices of variants that are gone are forgotten.
    pub fn import(state: PartitionState, names: Arc<Names>, limits: Limits) -> Self {
        let recorder = Recorder::import(state.recorder, names.schema(), limits);
        Self { recorder, ..Self::new(state.source, state.next, (0, 0), names, limits) }
    }
}

/// A random key for id hashes, from the process's own hash seeds.
pub fn random_key() -> (u64, u64) {
    let seeds = std::hash::RandomState::new();
    (seeds.hash_one(1u8), seeds.hash_one(2u8))
}

#[cfg(test)]
#[path = "partition_tests.rs"]
mod tests;

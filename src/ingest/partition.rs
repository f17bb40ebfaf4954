//! One partition of one topic: every message gets one fate, accepted events go into open minute panes, and a delta hands
//! everything over together with the offsets it covers.
//!
//! Pure: bytes, offsets and the wall time come in, fates and deltas go out. What survives a restart is [`PartitionState`].

use std::collections::VecDeque;
use std::hash::{BuildHasher, BuildHasherDefault, Hasher};
use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashSet;
use serde::{Deserialize, Serialize};
use siphasher::sip::SipHasher13;

use super::decode::{Bounds, Decoder, Event};
use super::fate::{Counters, Fate};
use super::names::Names;
use super::panes::{Admitted, OpenPanes, Record, Spare};
use super::watermark::Watermark;
use crate::engine::input::{Delta, Fates, Source};
use crate::engine::schema::VariantId;
use crate::model::flag::Dimension;
use crate::model::id::Variant;
use crate::model::metric::MetricId;
use crate::model::time::{Minute, Timestamp};

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
    limits: Limits,
    /// The key of the id hashes.
    key: (u64, u64),
    /// Where the pending delta starts.
    from: i64,
    /// The offset after the last message seen.
    next: i64,
    watermark: Watermark,
    /// Minutes that may still take events, or have panes to hand over; ascending.
    minutes: VecDeque<OpenMinute>,
    ids: usize,
    /// Ended minutes are those before this one: watermark minus lateness has passed their end.
    open_from: Minute,
    fates: Fates,
    counters: Counters,
    due: bool,
    decoder: Decoder,
    last_variant: VariantId,
    /// Guesses: the metric at each place of an event's list.
    last_metrics: Vec<MetricId>,
    samples: Vec<(MetricId, f64)>,
    spare: Spare,
    spare_ids: Vec<Ids>,
}

#[derive(Debug)]
struct OpenMinute {
    minute: Minute,
    ids: Ids,
    admitted: Admitted,
    panes: OpenPanes,
}

/// Hashes of ids; already well mixed, so they are their own hash.
type Ids = HashSet<u64, BuildHasherDefault<Mixed>>;

#[derive(Clone, Copy, Debug, Default)]
struct Mixed(u64);

impl Hasher for Mixed {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }
    fn write_u64(&mut self, n: u64) {
        self.0 = n;
    }
}

/// What of a partition survives a restart, as of a delta: everything before `next` has been handed over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionState {
    pub source: Source,
    /// The offset at which to go on reading.
    pub next: i64,
    /// The key of the id hashes.
    pub key: (u64, u64),
    pub watermark: Watermark,
    pub minutes: Vec<MinuteState>,
}

/// One open minute: which ids it has seen, which slices it has admitted. Sorted, so that equal states are equal bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MinuteState {
    pub minute: Minute,
    pub ids: Vec<u64>,
    /// Variants by name: numbers do not outlive the process.
    pub admitted: Vec<(Variant, Dimension, Vec<String>)>,
}

impl Partition {
    /// A partition that is to be read from offset `next` on. `key` should be random and secret, so that nobody can write
    /// ids that collide.
    pub fn new(source: Source, next: i64, key: (u64, u64), names: Arc<Names>, limits: Limits) -> Self {
        Self {
            source,
            names,
            limits,
            key,
            from: next,
            next,
            watermark: Watermark::default(),
            minutes: VecDeque::new(),
            ids: 0,
            open_from: Minute(i64::MIN),
            fates: Fates::default(),
            counters: Counters::default(),
            due: false,
            decoder: Decoder::default(),
            last_variant: VariantId(0),
            last_metrics: Vec::new(),
            samples: Vec::new(),
            spare: Spare::default(),
            spare_ids: Vec::new(),
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
        self.watermark.get()
    }

    /// Whether anything, be it only offsets, has been seen since the last delta.
    pub fn has_news(&self) -> bool {
        self.next > self.from
    }

    /// Whether a delta should be taken now: a minute has ended, or the open panes have reached their bound.
    pub fn is_due(&self) -> bool {
        self.due
    }

    /// Records under a new schema from now on. What is recorded already keeps its meaning, since numbers never change.
    pub fn set_names(&mut self, names: Arc<Names>, slices: usize) {
        self.names = names;
        self.limits.slices = slices;
    }

    /// Gives one message its fate. `wall` is the time of the wall clock. The caller passes offsets in ascending order and
    /// none below [`next`](Self::next).
    #[inline]
    pub fn record(&mut self, bytes: &[u8], offset: i64, wall: Timestamp) -> Fate {
        let mut decoder = std::mem::take(&mut self.decoder);
        let fate = match decoder.decode(bytes, &self.limits.bounds, wall) {
            Ok(event) => self.accept(&event),
            Err(reject) => Fate::from(reject),
        };
        self.decoder = decoder;
        self.next = offset + 1;
        self.count(fate);
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
        let mut panes = Vec::new();
        for open in &mut self.minutes {
            open.panes.drain(open.minute, &mut self.spare, &mut panes);
        }
        self.retire();
        self.due = false;
        let delta = Delta {
            source: self.source.clone(),
            from: std::mem::replace(&mut self.from, self.next),
            to: self.next,
            watermark: self.watermark.get(),
            fates: std::mem::take(&mut self.fates),
            panes,
        };
        (delta, std::mem::take(&mut self.counters))
    }

    /// What must be kept to go on later as if nothing had happened. Take a delta first: open panes are not part of it.
    pub fn export(&self) -> PartitionState {
        let minutes = self.minutes.iter().map(|open| self.export_minute(open));
        PartitionState {
            source: self.source.clone(),
            next: self.next,
            key: self.key,
            watermark: self.watermark,
            minutes: minutes.collect(),
        }
    }

    /// Goes on where [`export`](Self::export) left off. Slices of variants that are gone are forgotten.
    pub fn import(state: PartitionState, names: Arc<Names>, limits: Limits) -> Self {
        let mut partition = Self::new(state.source, state.next, state.key, names, limits);
        partition.watermark = state.watermark;
        for minute in state.minutes {
            let mut admitted = Admitted::default();
            for (variant, dimension, values) in minute.admitted {
                if let Some(id) = partition.names.schema().find(variant.as_str()) {
                    let values = values.into_iter().map(String::into_boxed_str).collect();
                    admitted.insert((id, dimension), values);
                }
            }
            partition.ids += minute.ids.len();
            partition.minutes.push_back(OpenMinute {
                minute: minute.minute,
                ids: minute.ids.into_iter().collect(),
                admitted,
                panes: OpenPanes::default(),
            });
        }
        partition.close_minutes();
        partition.due = false;
        partition
    }

    fn accept(&mut self, event: &Event<'_>) -> Fate {
        let names = Arc::clone(&self.names);
        if let Err(fate) = self.judge_samples(&names, event) {
            return fate;
        }
        if self.is_late(event.ts) {
            return Fate::Late;
        }
        let id = self.hash(event.id);
        let fate = match names.variant(event.variant, &mut self.last_variant) {
            Some(variant) => self.window(&names, event, variant, id),
            None => Fate::Other,
        };
        if self.watermark.observe(event.ts, id) {
            self.close_minutes();
        }
        fate
    }

    /// Fills `samples` with the known metrics, or says why the event is unacceptable.
    #[inline]
    fn judge_samples(&mut self, names: &Names, event: &Event<'_>) -> Result<(), Fate> {
        self.samples.clear();
        if self.last_metrics.len() < event.metrics.iter().len() {
            self.last_metrics.resize(event.metrics.iter().len(), MetricId(0));
        }
        for ((name, sample), guess) in event.metrics.iter().zip(&mut self.last_metrics) {
            if let Some(metric) = names.metric(name, guess) {
                let value = names.recorded(metric).accept(sample)?;
                self.samples.push((metric, value));
            }
        }
        Ok(())
    }

    /// Records an event of a configured variant, unless its id was seen in its minute.
    fn window(&mut self, names: &Names, event: &Event<'_>, variant: VariantId, id: u64) -> Fate {
        let place = self.minute(event.ts.minute());
        let open = &mut self.minutes[place];
        if self.ids < self.limits.ids {
            if !open.ids.insert(id) {
                return Fate::Duplicate;
            }
            self.ids += 1;
        } else if open.ids.contains(&id) {
            return Fate::Duplicate;
        } else {
            self.counters.dedup_overflow += 1;
        }
        let unknown = event.metrics.iter().len() - self.samples.len();
        self.counters.unknown_metric += unknown as u64;
        let record = Record {
            variant,
            tenant: event.tenant.map(tenant_hash),
            slices: [
                (Dimension::Tenant, event.tenant),
                (Dimension::Tier, event.tier),
                (Dimension::Region, event.region),
            ],
            samples: &self.samples,
        };
        self.counters.slice_overflow +=
            open.panes.record(names, &record, &mut open.admitted, self.limits.slices, &mut self.spare);
        self.due |= open.panes.series() > self.limits.series;
        Fate::Windowed
    }

    #[inline]
    fn is_late(&self, ts: Timestamp) -> bool {
        self.watermark.get().is_some_and(|watermark| ts < watermark - self.limits.lateness)
    }

    #[inline]
    fn hash(&self, id: &str) -> u64 {
        SipHasher13::new_with_keys(self.key.0, self.key.1).hash(id.as_bytes())
    }

    /// The place of a minute, opened if need be. Events mostly come in order: it is looked for from the end.
    #[inline]
    fn minute(&mut self, minute: Minute) -> usize {
        let mut place = self.minutes.len();
        while place > 0 && self.minutes[place - 1].minute > minute {
            place -= 1;
        }
        if place > 0 && self.minutes[place - 1].minute == minute {
            return place - 1;
        }
        let open = OpenMinute {
            minute,
            ids: self.spare_ids.pop().unwrap_or_default(),
            admitted: Admitted::default(),
            panes: OpenPanes::default(),
        };
        self.minutes.insert(place, open);
        place
    }

    /// Ends the minutes that the watermark has passed: their ids are forgotten, a delta is due.
    #[inline]
    fn close_minutes(&mut self) {
        let Some(watermark) = self.watermark.get() else {
            return;
        };
        let open_from = (watermark - self.limits.lateness).minute();
        if open_from <= self.open_from {
            return;
        }
        self.open_from = open_from;
        self.due = true;
        for open in &mut self.minutes {
            if open.minute < open_from && !(open.ids.is_empty() && open.admitted.is_empty()) {
                let mut ids = std::mem::take(&mut open.ids);
                self.ids -= ids.len();
                ids.clear();
                self.spare_ids.push(ids);
                open.admitted.clear();
            }
        }
        self.spare_ids.truncate(SPARE_IDS);
    }

    /// Forgets ended minutes that have nothing left to hand over.
    fn retire(&mut self) {
        while let Some(open) = self.minutes.front()
            && open.minute < self.open_from
            && open.panes.is_empty()
        {
            self.minutes.pop_front();
        }
    }

    fn count(&mut self, fate: Fate) {
        self.fates.consumed += 1;
        *match fate {
            Fate::Windowed => &mut self.fates.windowed,
            Fate::Late => &mut self.fates.late,
            Fate::Duplicate => &mut self.fates.duplicate,
            Fate::DeadLetter(_) => &mut self.fates.dead_letter,
            Fate::Other => &mut self.fates.other,
            Fate::Refused(_) => &mut self.fates.refused,
        } += 1;
        self.counters.count(fate);
    }

    fn export_minute(&self, open: &OpenMinute) -> MinuteState {
        let mut ids: Vec<u64> = open.ids.iter().copied().collect();
        ids.sort_unstable();
        let schema = self.names.schema();
        let mut admitted: Vec<_> = open
            .admitted
            .iter()
            .map(|((variant, dimension), values)| {
                let mut values: Vec<String> = values.iter().map(|value| value.to_string()).collect();
                values.sort_unstable();
                (schema.variant(*variant).clone(), *dimension, values)
            })
            .collect();
        admitted.sort_unstable();
        MinuteState { minute: open.minute, ids, admitted }
    }
}

/// Emptied id sets kept for their buffers.
const SPARE_IDS: usize = 4;

/// The hash by which tenants are told apart in sketches. It is the same in every process, since sketches of different
/// partitions and instances are merged.
pub fn tenant_hash(tenant: &str) -> u64 {
    SipHasher13::new_with_keys(0x7465_6e61_6e74_7331, 0x7265_6172_6775_6172).hash(tenant.as_bytes())
}

/// A random key for id hashes, from the process's own hash seeds.
pub fn random_key() -> (u64, u64) {
    let seeds = std::hash::RandomState::new();
    (seeds.hash_one(1u8), seeds.hash_one(2u8))
}

#[cfg(test)]
#[path = "partition_tests.rs"]
mod tests;

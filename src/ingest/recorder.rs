//! What one partition remembers between events: watermark, ids of open minutes, open panes, counts.

use std::collections::VecDeque;
use std::hash::{BuildHasherDefault, Hasher};

use hashbrown::HashSet;
use serde::{Deserialize, Serialize};
use siphasher::sip::SipHasher13;

use super::decode::Event;
use super::fate::{Counters, Fate};
use super::names::Names;
use super::panes::{Admitted, OpenPanes, Record, SliceValues, Spare};
use super::partition::Limits;
use super::watermark::Watermark;
use crate::engine::input::Fates;
use crate::engine::late::{Late, LateSamples};
use crate::engine::pane::VariantPane;
use crate::engine::schema::{Schema, VariantId};
use crate::engine::series::KEEP;
use crate::model::canary::CANARY;
use crate::model::flag::{Dimension, Scope};
use crate::model::id::Variant;
use crate::model::metric::MetricId;
use crate::model::time::{Minute, Timestamp};

/// Places for late samples at which a delta is due.
const LATE_PLACES: usize = 4_096;

/// Gives decoded events their fate and records the accepted ones.
#[derive(Debug)]
pub(super) struct Recorder {
    limits: Limits,
    /// The key of the id hashes.
    key: (u64, u64),
    watermark: Watermark,
    /// Minutes that may still take events, or have panes to hand over; ascending.
    minutes: VecDeque<OpenMinute>,
    ids: usize,
    /// Ended minutes are those before this one: watermark minus lateness has passed their end.
    open_from: Minute,
    late: Late,
    fates: Fates,
    counters: Counters,
    due: bool,
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

/// What of a recorder survives a restart. Sorted, so that equal states are equal bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecorderState {
    /// The key of the id hashes.
    pub key: (u64, u64),
    pub watermark: Watermark,
    pub minutes: Vec<MinuteState>,
}

/// One open minute: which ids it has seen, which slices it has admitted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MinuteState {
    pub minute: Minute,
    pub ids: Vec<u64>,
    /// Variants by name: numbers do not outlive the process.
    pub admitted: Vec<(Variant, Dimension, Vec<String>)>,
}

impl Recorder {
    pub(super) fn new(key: (u64, u64), limits: Limits) -> Self {
        Self {
            limits,
            key,
            watermark: Watermark::default(),
            minutes: VecDeque::new(),
            ids: 0,
            open_from: Minute(i64::MIN),
            late: Late::default(),
            fates: Fates::default(),
            counters: Counters::default(),
            due: false,
            last_variant: VariantId(0),
            last_metrics: Vec::new(),
            samples: Vec::new(),
            spare: Spare::default(),
            spare_ids: Vec::new(),
        }
    }

    pub(super) fn watermark(&self) -> Option<Timestamp> {
        self.watermark.get()
    }

    pub(super) fn is_due(&self) -> bool {
        self.due
    }

    pub(super) fn set_slices(&mut self, slices: usize) {
        self.limits.slices = slices;
    }

    /// The fate of an event; accepted ones are recorded.
    pub(super) fn accept(&mut self, names: &Names, event: &Event<'_>) -> Fate {
        if event.variant == CANARY {
            self.canary(names, event);
            return Fate::Canary;
        }
        if let Err(fate) = self.judge_samples(names, event) {
            return fate;
        }
        if self.is_late(event.ts) {
            self.count_late(names, event);
            return Fate::Late;
        }
        let id = self.hash(event.id);
        let fate = match names.variant(event.variant, &mut self.last_variant) {
            Some(variant) => self.window(names, event, variant, id),
            None => Fate::Other,
        };
        if self.watermark.observe(event.ts, id) {
            self.close_minutes();
        }
        fate
    }

    /// Records a canary event of this instance. It moves no watermark: its time is the wall clock's, and events that come a
    /// little late must not be late because of it. Its id is not remembered, so that it never takes the place of another.
    #[cold]
    fn canary(&mut self, names: &Names, event: &Event<'_>) {
        let own = names.schema().canary().filter(|(_, instance)| event.unit == Some(instance));
        let Some((variant, _)) = own else { return };
        if self.is_late(event.ts) || self.judge_samples(names, event).is_err() {
            return;
        }
        let place = self.minute(event.ts.minute());
        let open = &mut self.minutes[place];
        let slices = [(Dimension::Tenant, None), (Dimension::Tier, None), (Dimension::Region, None)];
        let record = Record { variant, tenant: None, slices, samples: &self.samples };
        open.panes.record(names, &record, &mut open.admitted, self.limits.slices, &mut self.spare);
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
            slices: slices(event),
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

    /// Counts the samples of a late event by the series that they would have gone to. A delta is due before there are many.
    #[cold]
    fn count_late(&mut self, names: &Names, event: &Event<'_>) {
        let minute = event.ts.minute();
        let Some(variant) = names.variant(event.variant, &mut self.last_variant) else { return };
        if minute.0 <= self.open_from.0 - KEEP {
            return;
        }
        let wanted = names.schema().slices(variant);
        for &(metric, _) in &self.samples {
            self.late.add((variant, metric, Scope::All), minute, 1);
            for (dimension, value) in slices(event) {
                if let (Some(value), true) = (value, wanted.binary_search(&(dimension, metric)).is_ok()) {
                    let slice = Scope::Only(dimension, value.to_owned());
                    self.late.add((variant, metric, slice), minute, 1);
                }
            }
        }
        self.due |= self.late.len() > LATE_PLACES;
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

    /// Forgets minutes that know nothing any more: ended ones that have nothing left to hand over, and those of canaries alone.
    fn retire(&mut self) {
        self.minutes
            .retain(|open| !(open.panes.is_empty() && open.ids.is_empty() && open.admitted.is_empty()));
    }

    /// Hands over what has been recorded and counted.
    pub(super) fn drain(&mut self, names: &Names) -> Drained {
        let mut panes = Vec::new();
        for open in &mut self.minutes {
            open.panes.drain(names, open.minute, &mut self.spare, &mut panes);
        }
        self.retire();
        self.due = false;
        Drained {
            fates: std::mem::take(&mut self.fates),
            counters: std::mem::take(&mut self.counters),
            panes,
            late: self.late.take(),
        }
    }

    pub(super) fn export(&self, schema: &Schema) -> RecorderState {
        RecorderState {
            key: self.key,
            watermark: self.watermark,
            minutes: self.minutes.iter().map(|open| open.export(schema)).collect(),
        }
    }

    pub(super) fn import(state: RecorderState, schema: &Schema, limits: Limits) -> Self {
        let mut recorder = Self::new(state.key, limits);
        recorder.watermark = state.watermark;
        for minute in state.minutes {
            recorder.ids += minute.ids.len();
            recorder.minutes.push_back(OpenMinute::import(minute, schema));
        }
        recorder.close_minutes();
        recorder.due = false;
        recorder
    }

    /// Counts a fate, with its reason.
    #[inline]
    pub(super) fn count(&mut self, fate: Fate) {
        self.fates.consumed += 1;
        *match fate {
            Fate::Windowed => &mut self.fates.windowed,
            Fate::Late => &mut self.fates.late,
            Fate::Duplicate => &mut self.fates.duplicate,
            Fate::DeadLetter(_) => &mut self.fates.dead_letter,
            Fate::Other => &mut self.fates.other,
            Fate::Refused(_) => &mut self.fates.refused,
            Fate::Canary => &mut self.fates.canary,
        } += 1;
        self.counters.count(fate);
    }
}

/// What has been recorded and counted since the last time.
pub(super) struct Drained {
    pub fates: Fates,
    pub counters: Counters,
    pub panes: Vec<VariantPane>,
    pub late: Vec<LateSamples>,
}

/// The values by which a rule may slice.
#[inline]
fn slices<'e>(event: &Event<'e>) -> SliceValues<'e> {
    [(Dimension::Tenant, event.tenant), (Dimension::Tier, event.tier), (Dimension::Region, event.region)]
}

impl OpenMinute {
    fn export(&self, schema: &Schema) -> MinuteState {
        let mut ids: Vec<u64> = self.ids.iter().copied().collect();
        ids.sort_unstable();
        let mut admitted: Vec<_> = self
            .admitted
            .iter()
            .map(|((variant, dimension), values)| {
                let mut values: Vec<String> = values.iter().map(|value| value.to_string()).collect();
                values.sort_unstable();
                (schema.variant(*variant).clone(), *dimension, values)
            })
            .collect();
        admitted.sort_unstable();
        MinuteState { minute: self.minute, ids, admitted }
    }

    fn import(state: MinuteState, schema: &Schema) -> Self {
        let mut admitted = Admitted::default();
        for (variant, dimension, values) in state.admitted {
            if let Some(id) = schema.find(variant.as_str()) {
                let values = values.into_iter().map(String::into_boxed_str).collect();
                admitted.insert((id, dimension), values);
            }
        }
        Self {
            minute: state.minute,
            ids: state.ids.into_iter().collect(),
            admitted,
            panes: OpenPanes::default(),
        }
    }
}

/// Emptied id sets kept for their buffers.
const SPARE_IDS: usize = 4;

/// The hash by which tenants are told apart in sketches. It is the same in every process, since sketches of different
/// partitions and instances are merged.
pub fn tenant_hash(tenant: &str) -> u64 {
    SipHasher13::new_with_keys(0x7465_6e61_6e74_7331, 0x7265_6172_6775_6172).hash(tenant.as_bytes())
}

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::engine::input::Fates;
use crate::engine::pane::{OpenValues, PaneData, VariantPane};
use crate::engine::schema::Schema;
use crate::engine::schema::VariantId;
use crate::engine::tenants::Tenants;
use crate::ingest::fate::Poison;
use crate::ingest::panes::OTHER_SLICE;
use crate::ingest::recorder::tenant_hash;
use crate::model::canary::{self, CANARY};
use crate::model::event::{Event as Written, Sample};
use crate::model::flag::Dimension;
use crate::model::flag::Scope;
use crate::model::metric::Catalogue;
use crate::model::metric::MetricId;
use crate::model::time::Minute;

const START: i64 = 1_763_856_000_000;
const WALL: Timestamp = Timestamp::from_millis(START + 86_400_000);

fn source(partition: i32) -> Source {
    Source { topic: "events".into(), partition }
}

fn names() -> Arc<Names> {
    let mut schema = Schema::new(Arc::new(Catalogue::default()));
    let faithfulness = schema.catalogue().find("faithfulness").unwrap();
    let a = schema.add_variant(&"a".into());
    schema.add_variant(&"b".into());
    schema.add_slice(a, Dimension::Tenant, faithfulness);
    Arc::new(Names::new(Arc::new(schema)))
}

fn limits() -> Limits {
    Limits { slices: 3, ..Limits::default() }
}

fn partition(number: i32) -> Partition {
    Partition::new(source(number), 0, (1, 2), names(), limits())
}

/// One step of a stream: the event's time relative to the stream's, and what it is.
#[derive(Clone, Debug)]
enum Message {
    Event(Box<Written>),
    Poison,
}

impl Message {
    fn event(event: Written) -> Self {
        Self::Event(Box::new(event))
    }

    fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Event(event) => serde_json::to_vec(event).unwrap(),
            Self::Poison => b"{\"id\":1}".to_vec(),
        }
    }
}

fn event(id: u32, at: i64, variant: &str, tenant: Option<u8>, bits: u8) -> Written {
    let mut metrics = BTreeMap::new();
    if bits & 1 != 0 {
        metrics.insert("latency".into(), Sample::Number(f64::from(bits) * 37.5));
    }
    if bits & 2 != 0 {
        metrics.insert("faithfulness".into(), Sample::Number(f64::from(bits) / 255.0));
    }
    if bits & 4 != 0 {
        metrics.insert("error".into(), Sample::Bool(bits & 8 != 0));
    }
    if bits & 16 != 0 {
        metrics.insert("unheard_of".into(), Sample::Number(-1.0));
    }
    Written {
        id: format!("id-{id}"),
        ts: Timestamp::from_millis(START + at).to_string(),
        variant: variant.into(),
        tenant: tenant.map(|t| format!("t{t}")),
        tier: None,
        region: None,
        unit: None,
        generation_id: None,
        metrics,
    }
}

/// Streams that mostly go forward, with jitter, late events, repeated ids, unknown variants and poison.
fn stream() -> impl Strategy<Value = Vec<Message>> {
    let step = (0i64..9_000, -70_000i64..10_000, 0u32..60, 0u8..12, prop::option::of(0u8..6), any::<u8>());
    prop::collection::vec(step, 0..160).prop_map(|steps| {
        let mut now = 100_000;
        let message = |(forward, jitter, id, kind, tenant, bits): (i64, i64, u32, u8, Option<u8>, u8)| {
            now += forward;
            let at = if kind == 0 { now + jitter } else { now + jitter / 10 };
            match kind {
                11 => Message::Poison,
                10 => Message::event(event(id, at, "stranger", tenant, bits)),
                kind => Message::event(event(id, at, if kind % 2 == 0 { "a" } else { "b" }, tenant, bits)),
            }
        };
        steps.into_iter().map(message).collect()
    })
}

/// Events, tenants and series of one variant and minute.
type Pane<T> = (u64, Tenants, BTreeMap<(MetricId, Scope), T>);

/// Everything that deltas say, merged.
#[derive(Clone, Debug, Default, PartialEq)]
struct Merged {
    fates: Fates,
    watermark: Option<Timestamp>,
    to: i64,
    variants: BTreeMap<(VariantId, Minute), Pane<PaneData>>,
    /// Samples that came too late, by what they would have counted to.
    late: BTreeMap<(VariantId, MetricId, Minute, Scope), u64>,
}

impl Merged {
    fn add(&mut self, delta: Delta) {
        assert!(delta.fates.balance());
        assert_eq!(delta.from, self.to);
        self.to = delta.to;
        self.fates.add(&delta.fates);
        self.watermark = delta.watermark;
        for late in delta.late {
            let key = (late.variant, late.metric, late.minute, late.slice);
            *self.late.entry(key).or_default() += late.samples;
        }
        for VariantPane { variant, minute, events, tenants, series } in delta.panes {
            let entry = self.variants.entry((variant, minute)).or_default();
            entry.0 += events;
            entry.1.merge(&tenants);
            for series in series {
                let merged = match (entry.2.remove(&(series.metric, series.slice.clone())), series.data) {
                    (None, data) => data,
                    (Some(PaneData::Values(a)), PaneData::Values(b)) => PaneData::Values(a.merge(&b)),
                    (Some(PaneData::Counts { n, trues }), PaneData::Counts { n: m, trues: more }) => {
                        PaneData::Counts { n: n + m, trues: trues + more }
                    }
                    _ => panic!("a metric changed its kind"),
                };
                entry.2.insert((series.metric, series.slice), merged);
            }
        }
    }
}

/// The same by brute force, from the words of `docs/events.md`.
#[expect(clippy::too_many_lines, reason = "an oracle is easier to believe in one piece")]
fn oracle(messages: &[Message]) -> Merged {
    let names = names();
    let catalogue = names.schema().catalogue().clone();
    let mut merged = Merged { to: messages.len() as i64, ..Merged::default() };
    let (mut largest, mut ids) = (None::<(Timestamp, &str)>, BTreeSet::new());
    let mut admitted: BTreeMap<Minute, BTreeSet<String>> = BTreeMap::new();
    let mut samples: BTreeMap<(VariantId, Minute), Pane<Vec<f64>>> = BTreeMap::new();
    for message in messages {
        merged.fates.consumed += 1;
        let Message::Event(event) = message else {
            merged.fates.dead_letter += 1;
            continue;
        };
        let ts = Timestamp::parse(&event.ts).unwrap();
        if merged.watermark.is_some_and(|w| ts < w - Duration::from_secs(30)) {
            merged.fates.late += 1;
            let Some(variant) = names.schema().find(&event.variant) else { continue };
            for (metric, name) in event.metrics.keys().filter_map(|name| Some((catalogue.find(name)?, name)))
            {
                let sliced = variant.0 == 0 && name == "faithfulness";
                let tenant = event.tenant.as_ref().filter(|_| sliced);
                let tenant = tenant.map(|tenant| Scope::Only(Dimension::Tenant, tenant.clone()));
                for slice in [Some(Scope::All), tenant].into_iter().flatten() {
                    *merged.late.entry((variant, metric, ts.minute(), slice)).or_default() += 1;
                }
            }
            continue;
        }
        // The second largest time, not counting repetitions of the event that holds the largest.
        if largest.is_none_or(|(_, holder)| holder != event.id) {
            let second = match largest {
                Some((top, _)) if ts <= top => Some(ts),
                before => {
                    largest = Some((ts, &event.id));
                    before.map(|(top, _)| top)
                }
            };
            merged.watermark = merged.watermark.max(second);
        }
        let Some(variant) = names.schema().find(&event.variant) else {
            merged.fates.other += 1;
            continue;
        };
        if !ids.insert((ts.minute(), event.id.clone())) {
            merged.fates.duplicate += 1;
            continue;
        }
        merged.fates.windowed += 1;
        let entry = samples.entry((variant, ts.minute())).or_default();
        entry.0 += 1;
        if let Some(tenant) = &event.tenant {
            entry.1.insert(tenant_hash(tenant));
        }
        for (name, sample) in &event.metrics {
            let Some(metric) = catalogue.find(name) else {
                continue;
            };
            let value = match sample {
                Sample::Bool(b) => f64::from(u8::from(*b)),
                Sample::Number(n) => *n,
            };
            entry.2.entry((metric, Scope::All)).or_default().push(value);
            if let (Some(tenant), true) = (&event.tenant, variant.0 == 0 && name == "faithfulness") {
                let values = admitted.entry(ts.minute()).or_default();
                let kept = values.contains(tenant) || (values.len() < 3 && values.insert(tenant.clone()));
                let slice = if kept { tenant.as_str() } else { OTHER_SLICE };
                entry
                    .2
                    .entry((metric, Scope::Only(Dimension::Tenant, slice.into())))
                    .or_default()
                    .push(value);
            }
        }
    }
    let data = |metric: MetricId, values: Vec<f64>| match names.recorded(metric).layout {
        None => PaneData::Counts {
            n: values.len() as u64,
            trues: values.iter().filter(|v| **v != 0.0).count() as u64,
        },
        Some(layout) => {
            let mut open = OpenValues::default();
            values.iter().for_each(|value| open.record(&layout, *value));
            PaneData::Values(open.seal(&layout))
        }
    };
    let pane = |(events, tenants, series): (u64, Tenants, BTreeMap<(MetricId, Scope), Vec<f64>>)| {
        let series = series.into_iter().map(|((m, s), v)| ((m, s), data(m, v)));
        (events, tenants, series.collect())
    };
    merged.variants = samples.into_iter().map(|(key, value)| (key, pane(value))).collect();
    merged
}

fn feed(partition: &mut Partition, messages: &[Message], mut after: impl FnMut(&mut Partition, usize)) {
    for (index, message) in messages.iter().enumerate() {
        let offset = partition.next();
        partition.record(&message.bytes(), offset, WALL);
        after(partition, index);
    }
}

proptest! {
    #[test]
    fn panes_and_fates_are_those_of_brute_force_for_any_split(
        messages in stream(), cuts in prop::collection::vec(any::<bool>(), 160)
    ) {
        let expected = oracle(&messages);
        for split in [true, false] {
            let mut partition = partition(0);
            let mut merged = Merged::default();
            feed(&mut partition, &messages, |partition, index| {
                if split && cuts[index] {
                    merged.add(partition.take_delta().0);
                }
            });
            merged.add(partition.take_delta().0);
            prop_assert!(merged.fates.balance());
            prop_assert_eq!(&merged, &expected);
        }
    }

    #[test]
    fn export_and_import_is_never_stopped(messages in stream(), stop in any::<prop::sample::Index>()) {
        let stop = stop.index(messages.len() + 1);
        let (mut whole, mut merged) = (partition(0), Merged::default());
        feed(&mut whole, &messages[..stop], |_, _| {});
        merged.add(whole.take_delta().0);
        let state = whole.export();
        let stored: PartitionState = postcard::from_bytes(&postcard::to_stdvec(&state).unwrap()).unwrap();
        let mut resumed = Partition::import(stored, names(), limits());
        prop_assert_eq!(&resumed.export(), &state);
        for after in [&mut whole, &mut resumed] {
            let mut rest = merged.clone();
            feed(after, &messages[stop..], |_, _| {});
            rest.add(after.take_delta().0);
            prop_assert_eq!(&rest, &oracle(&messages));
        }
        prop_assert_eq!(whole.export(), resumed.export());
    }

    #[test]
    fn one_event_from_the_future_moves_nothing(messages in stream(), ahead in 0i64..86_000_000, times in 1usize..4) {
        let (mut calm, mut hit) = (partition(0), partition(0));
        feed(&mut calm, &messages, |_, _| {});
        feed(&mut hit, &messages, |_, _| {});
        let before = hit.watermark();
        let future = Message::event(event(99_999, 200_000 + ahead, "a", None, 1));
        for _ in 0..times {
            feed(&mut hit, std::slice::from_ref(&future), |_, _| {});
        }
        // The event itself may be the second largest only if it is no larger than what was seen before.
        let largest = messages.iter().filter_map(|m| match m {
            Message::Event(e) => Timestamp::parse(&e.ts),
            Message::Poison => None,
        }).max();
        prop_assert!(hit.watermark() <= largest.max(before));
    }

}

proptest! {
    #![proptest_config(crate::testing::cases(12))]
    #[test]
    fn a_backlog_of_uneven_partitions_read_at_any_speeds_has_nothing_late(
        speeds in prop::collection::vec(1usize..50, 4), shares in prop::collection::vec(1i64..12, 4), jitters in prop::collection::vec(-15_000i64..15_000, 97)
    ) {
        // Seven hours; partition p has an event every `shares[p]` × 10 s, each up to 15 s off its place.
        let span = 7 * 3_600_000;
        let logs: Vec<Vec<Message>> = (0..4).map(|p| {
            let gap = shares[p] * 10_000;
            (0..span / gap).map(|i| {
                let at = i * gap + jitters[i as usize % jitters.len()] + 20_000;
                Message::event(event(i as u32, at, "b", Some(p as u8), 3 + (i % 4) as u8 * 8))
            }).collect()
        }).collect();
        let mut partitions: Vec<_> = (0..4).map(partition).collect();
        let mut merged: Vec<_> = (0..4).map(|_| Merged::default()).collect();
        let mut read = [0; 4];
        while (0..4).any(|p| read[p] < logs[p].len()) {
            for p in 0..4 {
                let end = (read[p] + speeds[p]).min(logs[p].len());
                feed(&mut partitions[p], &logs[p][read[p]..end], |partition, _| {
                    if partition.is_due() {
                        merged[p].add(partition.take_delta().0);
                    }
                });
                read[p] = end;
            }
        }
        for p in 0..4 {
            merged[p].add(partitions[p].take_delta().0);
            prop_assert_eq!(merged[p].fates.late, 0);
            prop_assert_eq!(&merged[p], &oracle(&logs[p]));
        }
    }
}

#[test]
fn fates_have_their_order() {
    let mut partition = partition(0);
    let mut offset = 0;
    let mut fate = |partition: &mut Partition, event: &Written| {
        offset += 1;
        partition.record(&serde_json::to_vec(event).unwrap(), offset - 1, WALL)
    };
    let first = event(1, 0, "a", None, 1);
    assert_eq!(fate(&mut partition, &first), Fate::Windowed);
    assert_eq!(fate(&mut partition, &first), Fate::Duplicate);
    assert_eq!(fate(&mut partition, &event(2, 0, "x", None, 1)), Fate::Other);
    let mut bad = event(3, 0, "x", None, 0);
    bad.metrics.insert("latency".into(), Sample::Bool(true));
    assert_eq!(fate(&mut partition, &bad), Fate::DeadLetter(Poison::WrongType));
    for (metric, sample, refusal) in [
        ("latency", -1.0, crate::ingest::fate::Refusal::Negative),
        ("faithfulness", 1.1, crate::ingest::fate::Refusal::ScoreAboveOne),
        ("error", 0.5, crate::ingest::fate::Refusal::NotBoolean),
    ] {
        bad.metrics = BTreeMap::from([(metric.into(), Sample::Number(sample))]);
        assert_eq!(fate(&mut partition, &bad), Fate::Refused(refusal));
    }
    bad.metrics =
        BTreeMap::from([("faithfulness".into(), Sample::Bool(true)), ("error".into(), Sample::Number(1.0))]);
    bad.variant = "b".into();
    assert_eq!(fate(&mut partition, &bad), Fate::Windowed);
    for id in 4..7 {
        fate(&mut partition, &event(id, 200_000, "b", None, 1));
    }
    assert_eq!(fate(&mut partition, &event(8, 169_999, "b", None, 1)), Fate::Late);
    assert_eq!(fate(&mut partition, &event(9, 170_000, "b", None, 1)), Fate::Windowed);
    let (delta, counters) = partition.take_delta();
    assert!(delta.fates.balance());
    assert_eq!(delta.fates.consumed, 13);
    assert_eq!(counters.refused.iter().sum::<u64>(), delta.fates.refused);
    assert_eq!(counters.poison.iter().sum::<u64>(), delta.fates.dead_letter);
}

#[test]
fn beyond_its_bound_of_ids_a_partition_counts_and_says_so() {
    let limits = Limits { ids: 10, ..limits() };
    let mut partition = Partition::new(source(0), 0, (1, 2), names(), limits);
    let messages: Vec<_> =
        (0..15).chain(0..10).map(|id| Message::event(event(id, 5, "a", None, 1))).collect();
    feed(&mut partition, &messages, |_, _| {});
    let (delta, counters) = partition.take_delta();
    assert_eq!((delta.fates.windowed, delta.fates.duplicate), (15, 10));
    assert_eq!(counters.dedup_overflow, 5);
    assert_eq!(partition.export().recorder.minutes[0].ids.len(), 10);
}

#[test]
fn ids_are_forgotten_when_their_minute_ends() {
    let mut partition = partition(0);
    let messages: Vec<_> = (0..600)
        .map(|i| Message::event(event(i, i64::from(i) * 1_000, "a", Some((i % 7) as u8), 2)))
        .collect();
    feed(&mut partition, &messages, |partition, _| {
        if partition.is_due() {
            partition.take_delta();
        }
    });
    let state = partition.export();
    assert!(state.recorder.minutes.len() <= 2, "{state:?}");
    assert!(state.recorder.minutes.iter().map(|m| m.ids.len()).sum::<usize>() <= 120);
}

fn names_with_canary() -> Arc<Names> {
    let catalogue = Catalogue::with(vec![canary::metric()]);
    let mut schema = Schema::new(Arc::new(catalogue));
    let faithfulness = schema.catalogue().find("faithfulness").unwrap();
    let a = schema.add_variant(&"a".into());
    schema.add_variant(&"b".into());
    schema.add_slice(a, Dimension::Tenant, faithfulness);
    let own = schema.add_variant(&CANARY.into());
    schema.set_canary(own, "here".into());
    Arc::new(Names::new(Arc::new(schema)))
}

fn canary_event(at: i64, unit: &str) -> Message {
    let mut written = event(7, at, CANARY, None, 0);
    written.unit = Some(unit.into());
    written.metrics.insert(CANARY.into(), Sample::Bool(true));
    Message::event(written)
}

/// Deltas after every tenth message, merged.
fn merged(names: Arc<Names>, messages: &[Message]) -> Merged {
    let mut partition = Partition::new(source(0), 0, (1, 2), names, limits());
    let mut merged = Merged::default();
    feed(&mut partition, messages, |partition, _| {
        if partition.is_due() {
            merged.add(partition.take_delta().0);
        }
    });
    merged.add(partition.take_delta().0);
    merged
}

proptest! {
    /// Whatever the stream and wherever canaries stand in it, with whatever time: everything else is as it is without them.
    #[test]
    fn canaries_disturb_nothing(
        stream in stream(),
        canaries in prop::collection::vec((any::<prop::sample::Index>(), -200_000i64..1_500_000, any::<bool>()), 0..40),
    ) {
        let mut mixed = stream.clone();
        for (place, at, own) in &canaries {
            let place = place.index(mixed.len() + 1);
            mixed.insert(place, canary_event(*at, if *own { "here" } else { "elsewhere" }));
        }
        let without = merged(names_with_canary(), &stream);
        let mut with = merged(names_with_canary(), &mixed);
        prop_assert_eq!(with.fates.canary, canaries.len() as u64);
        with.fates.canary = 0;
        with.fates.consumed -= canaries.len() as u64;
        with.to = without.to;
        let own = names_with_canary().schema().canary().unwrap().0;
        let seen: u64 = with.variants.iter().filter(|((id, _), _)| *id == own).map(|(_, pane)| pane.0).sum();
        prop_assert!(seen <= canaries.iter().filter(|(_, _, own)| *own).count() as u64, "only its own");
        with.variants.retain(|(id, _), _| *id != own);
        prop_assert_eq!(with, without);
    }
}

#[test]
fn a_canary_is_seen_in_its_minute_and_anothers_is_passed_over() {
    let messages = [canary_event(5, "here"), canary_event(5, "elsewhere"), canary_event(70_000, "here")];
    let merged = merged(names_with_canary(), &messages);
    assert_eq!((merged.fates.consumed, merged.fates.canary, merged.watermark), (3, 3, None));
    let minutes: Vec<_> =
        merged.variants.iter().map(|((_, minute), pane)| (minute.start(), pane.0)).collect();
    let start = |at| Timestamp::from_millis(START + at);
    assert_eq!(minutes, [(start(0), 1), (start(60_000), 1)]);
}

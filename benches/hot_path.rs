//! Decode, record, seal and merge, one event or pane at a time.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use rearguard::engine::input::Source;
use rearguard::engine::layout::Layout;
use rearguard::engine::pane::OpenValues;
use rearguard::ingest::decode::{Bounds, Decoder};
use rearguard::ingest::names::Names;
use rearguard::ingest::partition::{Limits, Partition};
use rearguard::model::event::Sample;
use rearguard::model::time::Timestamp;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::Arc;

mod support;

const EVENTS: u64 = 10_000;
const WALL: Timestamp = Timestamp::from_millis(support::START + 86_400_000);

/// The same schema through serde, as the yardstick.
#[derive(serde::Deserialize)]
#[allow(dead_code, reason = "decoded, not looked at")]
struct Typed<'a> {
    id: Cow<'a, str>,
    ts: Cow<'a, str>,
    variant: Cow<'a, str>,
    tenant: Option<Cow<'a, str>>,
    tier: Option<Cow<'a, str>>,
    region: Option<Cow<'a, str>>,
    unit: Option<Cow<'a, str>>,
    generation_id: Option<Cow<'a, str>>,
    metrics: BTreeMap<Cow<'a, str>, Sample>,
}

fn events(variants: u64) -> Vec<String> {
    // Dense in event time: as many events a minute and partition as a topic of 20 million has.
    let (mut out, total) = (String::new(), 5_000_000);
    (0..EVENTS)
        .map(|n| {
            support::write_event(&mut out, n, total, variants);
            out.clone()
        })
        .collect()
}

fn decode(c: &mut Criterion) {
    let events = events(6);
    let mut group = c.benchmark_group("decode");
    group.throughput(Throughput::Elements(EVENTS));
    group.bench_function("ours", |b| {
        let mut decoder = Decoder::default();
        b.iter(|| {
            for event in &events {
                let decoded = decoder.decode(event.as_bytes(), &Bounds::default(), WALL);
                black_box(decoded.is_ok());
            }
        });
    });
    group.bench_function("sonic-rs typed", |b| {
        b.iter(|| {
            for event in &events {
                black_box(sonic_rs::from_slice::<Typed<'_>>(event.as_bytes()).is_ok());
            }
        });
    });
    group.bench_function("serde_json typed", |b| {
        b.iter(|| {
            for event in &events {
                black_box(serde_json::from_slice::<Typed<'_>>(event.as_bytes()).is_ok());
            }
        });
    });
    group.finish();
}

fn record(c: &mut Criterion) {
    let mut group = c.benchmark_group("decode and record");
    group.throughput(Throughput::Elements(EVENTS));
    for variants in [6, 500] {
        let events = events(variants);
        let names = Arc::new(Names::new(support::schema(variants)));
        group.bench_function(format!("{variants} variants"), |b| {
            let source = Source { topic: "events".into(), partition: 0 };
            b.iter(|| {
                let mut partition =
                    Partition::new(source.clone(), 0, (1, 2), Arc::clone(&names), Limits::default());
                for (offset, event) in (0..).zip(&events) {
                    black_box(partition.record(event.as_bytes(), offset, WALL));
                    if partition.is_due() {
                        black_box(partition.take_delta());
                    }
                }
                black_box(partition.take_delta())
            });
        });
    }
    group.finish();
}

fn panes(c: &mut Criterion) {
    let layout = Layout::new(1.0, 600_000.0);
    let mut group = c.benchmark_group("pane");
    for samples in [10u64, 60, 2_000] {
        let open = || {
            let mut open = OpenValues::default();
            for n in 0..samples {
                open.record(&layout, (300 + support::mixed(n) % 2_400) as f64);
            }
            open
        };
        group.bench_function(format!("record {samples}"), |b| b.iter(|| black_box(open())));
        group.bench_function(format!("seal {samples}"), |b| {
            b.iter_batched(open, |open| open.seal(&layout), criterion::BatchSize::SmallInput);
        });
        let sealed = open().seal(&layout);
        group.bench_function(format!("merge {samples}"), |b| b.iter(|| black_box(sealed.merge(&sealed))));
    }
    group.finish();
}

criterion_group!(benches, decode, record, panes);
criterion_main!(benches);

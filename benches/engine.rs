//! The engine's steps, each by itself: slide, evaluate, leave-pair-out, snapshot, restore. Run: `cargo bench --bench engine`.
//!
//! Baselines in the same run: `evaluate` and `leave-pair-out` stand beside the same question asked by adding up panes again,
//! `restore` beside writing the snapshot.

#![allow(clippy::unwrap_used, reason = "a bench that cannot go on should panic")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use rearguard::engine::detector::Track;
use rearguard::engine::input::{Delta, Fates, Input, Limits, Settings, Source};
use rearguard::engine::layout::Layout;
use rearguard::engine::machine::Engine;
use rearguard::engine::measure::Lookup;
use rearguard::engine::pane::{OpenValues, PaneData, SeriesPane, VariantPane};
use rearguard::engine::rule::compile::{compile_rules, schema_for};
use rearguard::engine::rule::{Arm, Measurement, Window, condition};
use rearguard::engine::series::Series;
use rearguard::engine::tenants::Tenants;
use rearguard::model::flag::{FlagSpec, Scope};
use rearguard::model::metric::Catalogue;
use rearguard::model::time::{Minute, Timestamp};

const BASE: i64 = 29_500_000;

struct Lcg(u64);

impl Lcg {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// A latency pane of `n` samples around two seconds.
fn pane(layout: &Layout, random: &mut Lcg, n: usize) -> PaneData {
    let mut open = OpenValues::default();
    (0..n).for_each(|_| open.record(layout, 500.0 + 6_000.0 * random.next() * random.next()));
    PaneData::Values(open.seal(layout))
}

fn latency() -> Layout {
    let catalogue = Catalogue::default();
    Layout::of(catalogue.get(catalogue.find("latency").unwrap())).unwrap()
}

/// Six hours of sixty samples a minute, both totals kept.
fn full_series() -> (Series, Minute) {
    let layout = latency();
    let mut random = Lcg(1);
    let mut series = Series::new(Some(layout));
    series.want(&[(Window(60), true), (Window(360), true)], Some(Minute(BASE)));
    let mut closed = Minute(BASE);
    for _ in 0..361 {
        closed = closed.plus(1);
        series.add(closed, pane(&layout, &mut random, 60), Some(closed.plus(-1)));
        series.close(closed);
    }
    (series, closed)
}

fn settings(variants: usize, condition: &str) -> Settings {
    let catalogue = Arc::new(Catalogue::default());
    let mut text = String::new();
    let mut flags = Vec::new();
    // Long windows may not roll back.
    let action = if condition.contains("d >") || condition.contains("24h") { "notify" } else { "rollback" };
    for n in 0..variants {
        text.push_str(&format!(
            "- variant: feature-{n}.v2\n  rules:\n    - condition: {condition}\n      action: {action}\n"
        ));
        flags.push(FlagSpec {
            key: format!("ai.feature-{n}.v2").into(),
            control: format!("feature-{n}.v1").into(),
            treatment: format!("feature-{n}.v2").into(),
            share: 500_000,
            frozen: false,
            served: None,
            drill: false,
        });
    }
    let compiled = compile_rules(&[("bench.yaml", text)], &catalogue, &flags).unwrap();
    let schema = schema_for(&compiled.rules, &flags, &catalogue, None);
    Settings {
        rules: Arc::new(compiled.rules),
        flags,
        schema: Arc::new(schema),
        limits: Limits::default(),
        lateness: Duration::from_secs(30),
        dry_run: false,
    }
}

/// An engine whose variants' latencies have filled six hours. `samples` per series and minute.
fn engine(variants: usize, condition: &str, samples: usize) -> (Engine, i64) {
    lived(settings(variants, condition), 360, samples)
}

/// An engine that has judged so many minutes.
fn lived(settings: Settings, minutes: i64, samples: usize) -> (Engine, i64) {
    let mut engine = Engine::new(settings);
    let source = Source { topic: "events".into(), partition: 0 };
    let start = Minute(BASE).start();
    engine.step(Input::Assign { sources: vec![source.clone()], start: Some(start) });
    let mut offset = 0;
    let mut random = Lcg(7);
    for minute in 0..minutes {
        let delta = minute_of(&engine, &source, minute, offset, samples, &mut random);
        offset = delta.to;
        engine.step(Input::Delta(delta));
    }
    (engine, offset)
}

fn minute_of(
    engine: &Engine,
    source: &Source,
    minute: i64,
    offset: i64,
    samples: usize,
    random: &mut Lcg,
) -> Delta {
    let layout = latency();
    let schema = &engine.settings().schema;
    let metric = schema.catalogue().find("latency").unwrap();
    let at = Minute(BASE + minute);
    let panes: Vec<VariantPane> = schema
        .variants()
        .iter()
        .map(|variant| VariantPane {
            variant: schema.find(variant.as_str()).unwrap(),
            minute: at,
            events: samples as u64,
            tenants: Tenants::default(),
            series: vec![SeriesPane { metric, slice: Scope::All, data: pane(&layout, random, samples) }],
        })
        .collect();
    let events = (panes.len() * samples) as u64;
    Delta {
        source: source.clone(),
        from: offset,
        to: offset + events as i64,
        watermark: Some(Timestamp::from_millis(at.end().as_millis() + 30_000)),
        fates: Fates { consumed: events, windowed: events, ..Fates::default() },
        panes,
        late: Vec::new(),
    }
}

fn slide(c: &mut Criterion) {
    let (series, closed) = full_series();
    let layout = latency();
    let next = pane(&layout, &mut Lcg(3), 60);
    let mut group = c.benchmark_group("slide");
    group.bench_function("one series, 1 h and 6 h totals, p95 wanted", |b| {
        b.iter_batched(
            || (series.clone(), next.clone()),
            |(mut series, next)| {
                series.add(closed.plus(1), next, Some(closed));
                series.close(closed.plus(1));
                series
            },
            BatchSize::LargeInput,
        );
    });
    group.bench_function("baseline: both totals rebuilt from panes", |b| {
        b.iter_batched(
            || series.clone(),
            |mut series| {
                series.want(&[], None);
                series.want(&[(Window(60), true), (Window(360), true)], Some(closed));
                series
            },
            BatchSize::LargeInput,
        );
    });
    group.finish();
}

fn evaluate(c: &mut Criterion) {
    let (series, closed) = full_series();
    let from = closed.plus(-359);
    let mut group = c.benchmark_group("evaluate");
    group.bench_function("p95 over 6 h from the total", |b| {
        b.iter(|| series.quantile(black_box(0.95), from, closed, closed));
    });
    group.bench_function("baseline: p95 over 6 h added up from panes", |b| {
        b.iter(|| series.quantile(black_box(0.95), from, closed, closed.plus(1)));
    });
    group.bench_function("mean over 6 h from the total", |b| b.iter(|| series.sums(from, closed, closed)));
    group.finish();
}

/// One closing of one rule: healthy (the condition is false) and in breach (all 360 pairs are left out).
fn judge(c: &mut Criterion) {
    let mut group =
        c.benchmark_group("close a minute, one 6 h rule, judged with every pair left out if in breach");
    for (name, condition) in [
        ("p95 healthy", "latency_p95_6h > 60000"),
        ("p95 in breach", "latency_p95_6h > 600"),
        ("mean in breach", "latency_mean_6h > 600"),
    ] {
        let (engine, offset) = engine(1, condition, 60);
        let source = Source { topic: "events".into(), partition: 0 };
        let delta = minute_of(&engine, &source, 360, offset, 60, &mut Lcg(5));
        group.bench_function(name, |b| {
            b.iter_batched(
                || (engine.clone(), delta.clone()),
                |(mut engine, delta)| (engine.step(Input::Delta(delta)), engine),
                BatchSize::LargeInput,
            );
        });
    }
    group.finish();
}

/// A minute's closing with one rule over thirty days of hourly roll-ups, and with one over a day.
fn long(c: &mut Criterion) {
    let mut group = c.benchmark_group("close a minute, one rule on long windows");
    for (condition, days) in [
        ("latency_p95_24h > 100000", 1),
        ("latency_p95_30d > 100000", 30),
        ("latency_p95_30d > 1000", 30),
        ("latency_30d > 100000", 30),
        ("latency_30d > 1000", 30),
        ("latency_p95_30d > baseline * 0.5", 30),
    ] {
        let (engine, offset) = lived(settings(1, condition), days * 1_440, 60);
        let source = Source { topic: "events".into(), partition: 0 };
        let delta = minute_of(&engine, &source, days * 1_440, offset, 60, &mut Lcg(5));
        group.bench_function(condition, |b| {
            b.iter_batched(
                || (engine.clone(), delta.clone()),
                |(mut engine, delta)| (engine.step(Input::Delta(delta)), engine),
                BatchSize::LargeInput,
            );
        });
    }
    group.finish();
}

/// Both arms of a rule.
struct Arms {
    own: Series,
    base: Series,
}

impl Lookup for Arms {
    fn series(&self, m: &Measurement) -> Option<&Series> {
        Some(if m.arm == Arm::Own { &self.own } else { &self.base })
    }

    fn has_arm(&self, _: Arm) -> bool {
        true
    }
}

/// The change detector of one 6 h rule: a minute comes in and D is known; D without every pair of minutes.
fn detector(c: &mut Criterion) {
    let catalogue = Catalogue::default();
    let mut group = c.benchmark_group("detector, one 6 h rule at 60 samples a minute");
    for condition in [
        "faithfulness_6h < 0.92",
        "abstain_rate_6h > 0.20",
        "latency_p95_6h > 4000",
        "abstain_rate_6h > baseline * 3",
        "latency_p95_6h > baseline * 1.5",
    ] {
        let compiled = condition::parse(condition, &catalogue).unwrap().finish(&catalogue).0;
        let metric = catalogue.get(compiled.slots[0].metric);
        let layout = Layout::of(metric);
        let mut random = Lcg(11);
        let mut minute = || match &layout {
            None => PaneData::Counts { n: 60, trues: (12.0 * random.next()) as u64 },
            Some(layout) if metric.max == 1.0 => {
                let mut open = OpenValues::default();
                (0..60).for_each(|_| open.record(layout, 1.0 - 0.3 * random.next() * random.next()));
                PaneData::Values(open.seal(layout))
            }
            Some(layout) => pane(layout, &mut random, 60),
        };
        let mut arms = Arms { own: Series::new(layout), base: Series::new(layout) };
        for at in 0..361 {
            arms.own.add(Minute(BASE + at), minute(), None);
            arms.base.add(Minute(BASE + at), minute(), None);
        }
        let (cap, closed) = (60.0, Minute(BASE + 360));
        let mut track = Track::new(&compiled, &catalogue).unwrap();
        track.follow(&arms, closed.plus(-1), cap);
        group.bench_function(format!("{condition}: next minute and D"), |b| {
            b.iter_batched(
                || track.clone(),
                |mut track| {
                    track.follow(&arms, closed, cap);
                    (track.evidence(Minute(BASE)), track)
                },
                BatchSize::LargeInput,
            );
        });
        track.follow(&arms, closed, cap);
        group.bench_function(format!("{condition}: D without every pair"), |b| {
            b.iter(|| track.least_without_a_pair(black_box(Minute(BASE))));
        });
    }
    group.bench_function("baseline: all 360 minutes computed from panes, and D", |b| {
        let compiled = condition::parse("latency_p95_6h > 4000", &catalogue).unwrap().finish(&catalogue).0;
        let (own, closed) = full_series();
        let arms = Arms { base: own.clone(), own };
        b.iter(|| {
            let mut track = Track::new(&compiled, &catalogue).unwrap();
            track.follow(&arms, closed, 60.0);
            track.evidence(Minute(BASE))
        });
    });
    group.finish();
}

/// 5,000 series × 6 h at 60 samples a minute: 2,500 flags, control and treatment.
fn snapshot(c: &mut Criterion) {
    let (engine, _) = engine(2_500, "latency_p95_6h > 60000", 60);
    let bytes = engine.snapshot().unwrap();
    println!("snapshot of 5,000 series × 6 h: {} MB", bytes.len() / 1_000_000);
    let mut group = c.benchmark_group("5,000 series × 6 h");
    group.sample_size(10);
    group.bench_function("snapshot", |b| b.iter(|| engine.snapshot().unwrap()));
    group.bench_function("restore", |b| {
        b.iter_batched(
            || (engine.settings().clone(), engine.memory().clone()),
            |(settings, memory)| {
                let (mut restored, _) = Engine::restore(settings, memory, Some(&bytes)).unwrap();
                restored.finish_loading();
                restored
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

criterion_group!(benches, slide, evaluate, judge, long, detector, snapshot);
criterion_main!(benches);

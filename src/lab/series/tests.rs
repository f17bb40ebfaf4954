//! Series as written and as sent: what is said is what comes, in every window, for any seed the same.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::notation::{self, State};
use super::*;
use crate::engine::rule::yaml::Document;
use crate::model::event::{Event, Sample};
use crate::model::metric::Catalogue;

const START: i64 = 1_767_571_200_000;

fn read_with(text: &str, normal: &State) -> Result<notation::Written, Vec<String>> {
    let yaml = format!("series: \"{text}\"\n");
    let mut doc = Document::new("t.yaml", &yaml);
    let root = doc.parse().unwrap();
    let node = doc.fields(&root, "it", &["series"]).unwrap().get("series").unwrap();
    let written = notation::read(&mut doc, node, &Catalogue::default(), normal);
    let told = |found: &crate::engine::rule::diagnostic::Diagnostic| {
        format!("{}: {} ({})", doc.raw(found.span), found.message, found.help.as_deref().unwrap_or_default())
    };
    written.ok_or_else(|| doc.diagnostics.iter().map(told).collect())
}

fn read(text: &str) -> notation::Written {
    read_with(text, &State::default()).unwrap_or_else(|errors| panic!("{text}: {errors:?}"))
}

/// The events of a series, each with its minute from the start.
fn events(text: &str, seed: Option<u64>) -> Vec<(i64, Event)> {
    let written = read(text);
    assert!(!written.open, "{text}");
    let length = written.segments.iter().map(|segment| segment.length).sum();
    let series = Series { variant: "shop.v2".into(), labels: written.labels, segments: written.segments };
    let mut events = Vec::new();
    let start = Timestamp::from_millis(START);
    Generator::new(start, &[series], seed).each(length, |message| {
        let event: Event = serde_json::from_slice(message).unwrap();
        let at = Timestamp::parse(&event.ts).unwrap();
        assert!(at >= start && at < start + length);
        events.push(((at.as_millis() - START) / MINUTE_MS, event));
    });
    assert!(events.is_sorted_by_key(|(_, event)| event.ts.parse::<jiff::Timestamp>().unwrap()));
    let ids: std::collections::BTreeSet<&str> = events.iter().map(|(_, event)| event.id.as_str()).collect();
    assert_eq!(ids.len(), events.len());
    events
}

fn values(events: &[(i64, Event)], metric: &str, minutes: std::ops::Range<i64>) -> Vec<f64> {
    let within = events.iter().filter(|(minute, _)| minutes.contains(minute));
    within
        .filter_map(|(_, event)| event.metrics.get(metric))
        .map(|sample| match sample {
            Sample::Bool(yes) => f64::from(u8::from(*yes)),
            Sample::Number(value) => *value,
        })
        .collect()
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

#[test]
fn the_example_reads_as_it_is_meant() {
    let written = read("60 events per minute, faithfulness 0.95 for 2h, then 0.80");
    assert!(written.open);
    let [first, second] = written.segments.as_slice() else { panic!("{written:?}") };
    assert_eq!((first.length, first.rate), (Duration::from_secs(7200), Ramp::steady(60.0)));
    let exactly = |mean| Level::Mean { mean: Ramp::steady(mean), spread: 0.0, top: 1.0 };
    assert_eq!(first.levels, BTreeMap::from([("faithfulness".to_owned(), exactly(0.95))]));
    assert_eq!(second.levels, BTreeMap::from([("faithfulness".to_owned(), exactly(0.80))]));
    assert_eq!((second.length, second.rate), (Duration::ZERO, Ramp::steady(60.0)));
}

#[test]
fn what_is_not_named_goes_on_and_normal_goes_back() {
    let written = read(
        "tenant acme, tier pro, 1 event per second, error 2%, latency p50 1200 p95 4000 for 10m, then no events for 5m, \
         then error 50% to 60%, no latency for 1m, then faithfulness 0.9 for 1m, then normal, 120 events per hour for 1h",
    );
    assert_eq!(written.labels[&Dimension::Tenant], "acme");
    assert_eq!(written.labels[&Dimension::Tier], "pro");
    let rates: Vec<f64> = written.segments.iter().map(|segment| segment.rate.from).collect();
    assert_eq!(rates, [60.0, 0.0, 60.0, 60.0, 2.0]);
    let named: Vec<Vec<&str>> =
        written.segments.iter().map(|s| s.levels.keys().map(String::as_str).collect()).collect();
    let all = vec!["error", "latency"];
    assert_eq!(named, [all.clone(), all.clone(), vec!["error"], vec!["error", "faithfulness"], all]);
    assert_eq!(written.segments[2].levels["error"], Level::Share(Ramp { from: 0.5, to: 0.6 }));
    assert_eq!(written.segments[3].levels["error"], Level::Share(Ramp::steady(0.6)));
    let bad = read_with("then error 4%", &written.first).unwrap_err();
    assert_eq!(bad.len(), 1, "{bad:?}");
    let from_normal = read_with("normal for 1h, then error 4%", &written.first).unwrap();
    assert_eq!(from_normal.segments[0].rate, Ramp::steady(60.0));
}

#[test]
fn every_mistake_is_told_once_with_its_place() {
    for (text, wanted) in [
        ("faithfulness 0.9 for 1h", &["faithfulness: nothing says how many events"][..]),
        ("60 events per minute for 1h", &["the events carry no metric"]),
        ("60 evnts per minute, faithfulness 0.9", &["evnts: how many events in what time?"]),
        ("60 events per fortnight, faithfulness 0.9", &["fortnight: how many events"]),
        ("2000000 events per minute, cost 1", &["2000000: more than a million"]),
        (
            "60 events per minute, faithfullness 0.9",
            &["faithfullness: `faithfullness` is no metric", "mean `faithfulness`"],
        ),
        ("60 events per minute, faithfulness 1.5", &["1.5: `1.5` is out of range", "write `0.95` or `95%`"]),
        ("60 events per minute, cost -1", &["-1: `-1` is out of range"]),
        ("60 events per minute, faithfulness", &["a number is missing"]),
        ("60 events per minute, error 2% ± 1%", &["`error` is true or false"]),
        ("60 events per minute, faithfulness p50 0.1 p95 0.2", &["p50: `faithfulness` is no value"]),
        ("60 events per minute, latency p50 10", &["p50: `p50` needs a second quantile"]),
        ("60 events per minute, latency p50 10 p95 4", &["must be above 0 and not above `p95`"]),
        ("60 events per minute, cost 1 binary", &["1: `binary` does not fit `cost` here"]),
        ("60 events per minute, 0.4", &["0.4: `0.4` of what?"]),
        ("60 events per minute, cost 1 2", &["2: `2` was not expected here"]),
        ("60 events per minute, cost 1 for 1h, cost 2", &["`for` ends a segment"]),
        ("60 events per minute, cost 1 for ever", &["for: `for ever` is no span"]),
        ("60 events per minute, cost 1, then cost 2", &["then: the segment before this has no length"]),
        ("60 events per minute, cost 1 for 1h, then", &["then: nothing follows"]),
        (
            "60 events per minute, cost 1 for 1h, then tenant x",
            &["tenant: the tenant of a series does not change"],
        ),
        ("tenant, 60 events per minute, cost 1", &["tenant: `tenant` needs a name"]),
        ("normal for 1h", &["normal: there is no normal yet"]),
        ("no faith, 60 events per minute, cost 1", &["faith: `faith` is no metric"]),
    ] {
        let errors = read_with(text, &State::default()).unwrap_err();
        assert_eq!(errors.len(), 1, "{text}: {errors:?}");
        assert!(wanted.iter().all(|part| errors[0].contains(part)), "{text}: {errors:?}");
    }
    let text = "60 events per minute, faithfullness 0.9, error 200% for 1h, then cots 4";
    assert_eq!(read_with(text, &State::default()).unwrap_err().len(), 3);
}

#[test]
fn ramps_gaps_and_quantiles_come_as_said() {
    let sent = events(
        "60 events per minute, faithfulness 0.9 to 0.5, latency p50 1200 p95 4000 for 100m, then no events for 10m, \
         then 60 to 180 events per minute for 10m",
        None,
    );
    for minute in 0..100 {
        let wanted = 0.9 - 0.4 * (minute as f64 + 0.5) / 100.0;
        assert!((mean(&values(&sent, "faithfulness", minute..minute + 1)) - wanted).abs() < 1e-3);
    }
    assert!(values(&sent, "latency", 100..110).is_empty());
    assert_eq!(values(&sent, "latency", 110..111).len(), 66);
    assert_eq!(values(&sent, "latency", 110..120).len(), 1200);
    assert!(values(&sent, "faithfulness", 110..120).iter().all(|v| (v - 0.5).abs() < 1e-9));
    let mut latency = values(&sent, "latency", 0..100);
    latency.sort_unstable_by(f64::total_cmp);
    let quantile = |q: f64| latency[(latency.len() as f64 * q) as usize];
    let right = values(
        &events("10 events per minute, faithfulness 0.84 binary for 100m", None),
        "faithfulness",
        0..100,
    );
    assert_eq!((right.iter().filter(|score| **score == 1.0).count(), right.len()), (840, 1000));
    assert!((quantile(0.5) / 1200.0 - 1.0).abs() < 0.02 && (quantile(0.95) / 4000.0 - 1.0).abs() < 0.02);
}

proptest! {
    #![proptest_config(crate::testing::cases(6))]

    /// Without a seed every hour has its number of events, its mean and its rate.
    #[test]
    fn without_a_seed_levels_hold_in_every_hour(
        rate in 1u32..40, level in 0.0f64..1.0, spread in 0.0f64..0.3, share in 0.0f64..1.0,
    ) {
        let text = format!(
            "{rate} events per minute, faithfulness {level} ± {spread}, error {share} for 3h"
        );
        let sent = events(&text, None);
        for from in [0, 37, 120] {
            let hour = from..from + 60;
            let scores = values(&sent, "faithfulness", hour.clone());
            prop_assert_eq!(scores.len(), rate as usize * 60);
            prop_assert!((mean(&scores) - level).abs() < 0.02, "{} for {}", mean(&scores), text);
            prop_assert!(scores.iter().all(|score| (0.0..=1.0).contains(score)));
            let errors: f64 = values(&sent, "error", hour).iter().sum();
            prop_assert!((errors - share * 60.0 * f64::from(rate)).abs() <= 1.0);
        }
    }

    /// With a seed they hold within what chance allows, and come again.
    #[test]
    fn with_a_seed_levels_hold_on_average(seed in 0u64..1_000_000, share in 0.05f64..0.95) {
        let text = format!("30 events per minute, error {share}, cost p50 1 p95 3 for 1h");
        let sent = events(&text, Some(seed));
        prop_assert_eq!(&sent, &events(&text, Some(seed)));
        prop_assert!(sent != events(&text, Some(seed + 1)));
        let n = sent.len() as f64;
        // Seven standard deviations.
        prop_assert!((n - 1800.0).abs() < 7.0 * 1800f64.sqrt(), "{}", n);
        let off = (mean(&values(&sent, "error", 0..60)) - share).abs();
        prop_assert!(off < 7.0 * (share * (1.0 - share) / n).sqrt(), "{}", off);
    }
}

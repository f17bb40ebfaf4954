//! The detector over panes of seeded streams.

use proptest::prelude::*;
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::super::layout::Layout;
use super::super::pane::{OpenValues, PaneData};
use super::super::rule::condition;
use super::super::series::Series;
use super::super::testkit::Arms;
use super::*;

/// One false rollback in three years for one rule: what the simulated table of the design was made with.
const C: f64 = 1.58e6;
const CAP: f64 = 60.0;

fn compiled(text: &str) -> Condition {
    let catalogue = Catalogue::default();
    condition::parse(text, &catalogue).unwrap().finish(&catalogue).0
}

fn track(text: &str) -> Track {
    Track::new(&compiled(text), &Catalogue::default()).unwrap()
}

fn layout_of(text: &str) -> Option<Layout> {
    let catalogue = Catalogue::default();
    Layout::of(catalogue.get(compiled(text).slots[0].metric))
}

fn pane(layout: Option<&Layout>, samples: &[f64]) -> PaneData {
    let Some(layout) = layout else {
        let trues = samples.iter().filter(|x| **x > 0.5).count() as u64;
        return PaneData::Counts { n: samples.len() as u64, trues };
    };
    let mut open = OpenValues::default();
    samples.iter().for_each(|x| open.record(layout, *x));
    PaneData::Values(open.seal(layout))
}

/// Panes of both arms for minutes 1.., `per_minute` samples each.
fn arms<R: Rng>(
    text: &str,
    minutes: i64,
    per_minute: (usize, usize),
    random: &mut R,
    own: impl Fn(&mut R, i64) -> f64,
    base: impl Fn(&mut R, i64) -> f64,
) -> Arms {
    let layout = layout_of(text);
    let mut arms = Arms { own: Series::new(layout), base: Series::new(layout) };
    for minute in 1..=minutes {
        let samples: Vec<f64> = (0..per_minute.0).map(|_| own(random, minute)).collect();
        arms.own.add(Minute(minute), pane(layout.as_ref(), &samples), None);
        let samples: Vec<f64> = (0..per_minute.1).map(|_| base(random, minute)).collect();
        arms.base.add(Minute(minute), pane(layout.as_ref(), &samples), None);
    }
    arms
}

fn flag<R: Rng>(p: f64) -> impl Fn(&mut R, i64) -> f64 {
    move |random, _| f64::from(u8::from(random.random_bool(p)))
}

#[test]
fn what_gives_evidence_and_what_does_not() {
    let healthy = |text: &str| claims(&compiled(text), &Catalogue::default()).map(|c| c.len());
    for text in [
        "faithfulness_1h < 0.92",
        "faithfulness_p50_1h < 0.5",
        "abstain_rate_1h > 0.20",
        "cost_p95_1h > 0.05",
        "ai.injection.suspected_rate_1h > baseline*3",
        "latency_p95_1h > baseline * 1.5",
        "faithfulness_1h < baseline * 0.95",
    ] {
        assert_eq!(healthy(text), Ok(1), "{text}");
    }
    assert_eq!(healthy("latency_p95_1h > baseline(latency_p95_1h) * 1.5 && error_rate_1h > 0.02"), Ok(2));
    for (text, why) in [
        ("latency_1h > 900", NoEvidence::Unbounded),
        ("latency_1h > baseline * 2", NoEvidence::Unbounded),
        ("cost_sum_6h > 250", NoEvidence::Statistic),
        ("latency_stddev_1h > 250", NoEvidence::Statistic),
        ("error_rate_1h > 0", NoEvidence::EndOfRange),
        ("error_rate_1h > baseline * 0", NoEvidence::NotOneComparison),
        ("tokens_1h / ttft_1h > 4", NoEvidence::NotOneComparison),
        ("faithfulness_1h < 0.9 || error_rate_1h > 0.02", NoEvidence::NotOneComparison),
    ] {
        assert_eq!(healthy(text), Err(why), "{text}");
    }
}

/// Every kind of factor has expectation at most 1 at the very edge of health, and is not simply 0.
#[test]
fn minute_factors_are_worth_at_most_one_at_the_edge_of_health() {
    type Draw = fn(&mut ChaCha8Rng, i64) -> f64;
    let exponential: Draw = |random, _| -1_000.0 * (1.0 - random.random::<f64>()).ln();
    let half_more: Draw = |random, _| -1_500.0 * (1.0 - random.random::<f64>()).ln();
    // The .95 quantile of the exponential distribution with mean 1,000 is 2,996; half of all losses below .9 make the mean .9.
    let score: Draw = |random, _| if random.random_bool(0.5) { 1.0 } else { 0.8 };
    let lower_score: Draw = |random, _| if random.random_bool(0.5) { 0.95 } else { 0.76 };
    // What lies in the bucket of the threshold is not below it.
    let half_below: Draw = |random, _| if random.random_bool(0.5) { 500.0 } else { 200.0 };
    let cases: [(&str, (usize, usize), Draw, Draw); 11] = [
        ("faithfulness_1h < 0.9", (3, 0), score, score),
        ("faithfulness_1h > 0.9", (3, 0), score, score),
        ("abstain_rate_1h > 0.2", (3, 0), |r, _| f64::from(u8::from(r.random_bool(0.2))), score),
        ("abstain_rate_1h < 0.2", (3, 0), |r, _| f64::from(u8::from(r.random_bool(0.2))), score),
        ("latency_p95_1h > 2996", (5, 0), exponential, exponential),
        ("latency_p50_1h < 500", (5, 0), half_below, half_below),
        ("faithfulness_1h < baseline * 0.95", (3, 9), lower_score, score),
        (
            "abstain_rate_1h > baseline * 3",
            (3, 9),
            |r, _| f64::from(u8::from(r.random_bool(0.3))),
            |r, _| f64::from(u8::from(r.random_bool(0.1))),
        ),
        ("faithfulness_1h < baseline", (3, 9), score, score),
        ("latency_p95_1h > baseline * 1.5", (10, 10), half_more, exponential),
        ("latency_p95_1h < baseline * 0.66", (10, 10), exponential, half_more),
    ];
    for (text, per_minute, own, base) in cases {
        let mut random = ChaCha8Rng::seed_from_u64(7);
        let minutes = 20_000;
        let arms = arms(text, minutes, per_minute, &mut random, own, base);
        let claim = claims(&compiled(text), &Catalogue::default()).unwrap().remove(0);
        let bets = factor::weights(&claim).iter().filter(|w| **w > 0.0).count();
        let mut sums = [0.0; BETS];
        for minute in 1..=minutes {
            let step = factor::factors(&claim, &arms.own, Some(&arms.base), Minute(minute), CAP).unwrap();
            sums.iter_mut().zip(step).for_each(|(sum, x)| *sum += f64::from(x));
        }
        for sum in &sums[..bets] {
            let mean = sum / minutes as f64;
            assert!(mean <= 1.05, "{text}: {mean}");
        }
        assert!(
            sums[0] / minutes as f64 > 0.1,
            "{text}: the smallest bet is worth {}",
            sums[0] / minutes as f64
        );
    }
}

/// Median minutes from onset until D ≥ c without any pair of minutes, as the design's table has them (c = 1.58e6, threshold .92; abstain .20).
#[test]
fn regressions_are_found_as_fast_as_the_design_says() {
    let cases: [(&str, usize, f64, f64, i64); 5] = [
        ("faithfulness_1h < 0.92", 10, 0.95, 0.70, 12),
        ("faithfulness_1h < 0.92", 100, 0.95, 0.70, 4),
        ("faithfulness_1h < 0.92", 100, 0.95, 0.80, 7),
        ("faithfulness_1h < 0.92", 100, 0.95, 0.50, 3),
        ("abstain_rate_1h > 0.20", 100, 0.10, 0.40, 6),
    ];
    for (text, per_minute, before, after, expected) in cases {
        let mut delays: Vec<i64> = (0..21)
            .map(|seed| {
                let mut random = ChaCha8Rng::seed_from_u64(seed);
                let level = |random: &mut ChaCha8Rng, minute: i64| {
                    f64::from(u8::from(random.random_bool(if minute <= 120 { before } else { after })))
                };
                let arms = arms(text, 240, (per_minute, 0), &mut random, level, flag(0.5));
                let mut track = track(text);
                (120..=240)
                    .find(|closed| {
                        track.follow(&arms, Minute(*closed), CAP);
                        track.least_without_a_pair(Minute(1)).1 >= C
                    })
                    .map_or(999, |closed| closed - 120)
            })
            .collect();
        delays.sort_unstable();
        let median = delays[delays.len() / 2];
        assert!(
            (median - expected).abs() <= 1 + expected / 4,
            "{text} {before} → {after}: {median}, not {expected}"
        );
        assert!(delays[0] > 0, "{text}: a false alarm before the onset");
    }
}

#[test]
fn differences_between_arms_are_found_and_common_swings_are_not() {
    let mut random = ChaCha8Rng::seed_from_u64(3);
    let closed = Minute(240);
    let d = |text: &str, arms: &Arms| {
        let mut track = track(text);
        track.follow(arms, closed, CAP);
        track.evidence(Minute(1))
    };
    // Both arms get four times worse by day.
    let day = |minute: i64| if minute % 120 < 60 { 4.0 } else { 1.0 };
    let rate = |p: f64| move |r: &mut ChaCha8Rng, m: i64| f64::from(u8::from(r.random_bool(p * day(m))));
    let text = "ai.injection.suspected_rate_1h > baseline*3";
    assert!(d(text, &arms(text, 240, (20, 60), &mut random, rate(0.03), rate(0.02))) < C);
    assert!(d(text, &arms(text, 240, (20, 60), &mut random, rate(0.20), rate(0.02))) >= C);
    let value =
        |scale: f64| move |r: &mut ChaCha8Rng, m: i64| -scale * day(m) * (1.0 - r.random::<f64>()).ln();
    let text = "latency_p95_1h > baseline * 1.2";
    assert!(d(text, &arms(text, 240, (60, 60), &mut random, value(1_000.0), value(1_000.0))) < C);
    assert!(d(text, &arms(text, 240, (60, 60), &mut random, value(2_500.0), value(1_000.0))) >= C);
    let text = "faithfulness_1h < baseline * 0.98";
    assert!(d(text, &arms(text, 240, (60, 60), &mut random, flag(0.94), flag(0.95))) < C);
    assert!(d(text, &arms(text, 240, (60, 60), &mut random, flag(0.70), flag(0.95))) >= C);
}

/// What `confirm: evidence` promises: at the edge of health, P(false alarm within n minutes) ≤ n/c.
#[test]
fn false_alarms_are_as_rare_as_promised() {
    let (c, minutes, runs) = (1_000.0, 100, 300);
    for (text, level) in [("faithfulness_1h < 0.92", 0.92), ("abstain_rate_1h > 0.20", 0.20)] {
        let mut alarms = 0;
        for seed in 0..runs {
            let mut random = ChaCha8Rng::seed_from_u64(seed);
            let arms = arms(text, minutes, (20, 0), &mut random, flag(level), flag(0.5));
            let mut track = track(text);
            alarms += i32::from((1..=minutes).any(|closed| {
                track.follow(&arms, Minute(closed), CAP);
                track.evidence(Minute(1)) >= c
            }));
        }
        assert!(f64::from(alarms) <= minutes as f64 / c * runs as f64, "{text}: {alarms} of {runs}");
    }
}

/// Inside one minute everything may be shared, so a minute counts for `cap` samples at most.
#[test]
fn more_traffic_than_the_cap_makes_no_more_evidence() {
    let text = "faithfulness_1h < 0.9";
    let d = |per_minute: usize| {
        let mut random = ChaCha8Rng::seed_from_u64(1);
        let arms = arms(text, 3, (per_minute, 0), &mut random, |_, _| 0.5, flag(0.5));
        let mut track = track(text);
        track.follow(&arms, Minute(3), CAP);
        track.evidence(Minute(1))
    };
    assert!(d(30) < d(60));
    assert!((d(60) / d(6_000) - 1.0).abs() < 1e-3, "{} {}", d(60), d(6_000));
}

proptest! {
    #![proptest_config(crate::testing::cases(24))]

    /// However the samples arrive, late and in parts, the evidence is that of the panes; a minute erased counts for nothing.
    #[test]
    fn evidence_is_that_of_the_panes(
        parts in prop::collection::vec((1i64..40, prop::collection::vec(0.0f64..1.0, 1..5)), 1..80),
        since in 1i64..20,
    ) {
        let text = "faithfulness_1h < 0.6";
        let layout = layout_of(text);
        let mut arms = Arms { own: Series::new(layout), base: Series::new(layout) };
        let mut followed = track(text);
        let mut closed = 20;
        for (minute, samples) in &parts {
            arms.own.add(Minute(*minute), pane(layout.as_ref(), samples), Some(Minute(closed)));
            closed += i64::from(closed < 40);
            followed.follow(&arms, Minute(closed), CAP);
        }
        let mut fresh = track(text);
        fresh.follow(&arms, Minute(closed), CAP);
        prop_assert_eq!(followed.evidence(Minute(since)), fresh.evidence(Minute(since)));

        let (pair, least) = fresh.least_without_a_pair(Minute(since));
        let erased = |pair: i64| {
            let mut rest = Arms { own: Series::new(layout), base: Series::new(layout) };
            for (minute, samples) in parts.iter().filter(|(m, _)| !(pair..=pair + 1).contains(m)) {
                rest.own.add(Minute(*minute), pane(layout.as_ref(), samples), None);
            }
            let mut track = track(text);
            track.follow(&rest, Minute(closed), CAP);
            track.evidence(Minute(since))
        };
        let brute = (since - 1..=closed).map(erased).fold(f64::INFINITY, f64::min);
        prop_assert!((least - brute).abs() <= 1e-6 * brute, "{} {}", least, brute);
        prop_assert!((erased(pair.0) - least).abs() <= 1e-6 * least);
    }
}

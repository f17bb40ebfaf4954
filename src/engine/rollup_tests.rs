//! Long windows beside brute force over samples; restarts; what one bad hour cannot do.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::engine::input::Input;
use crate::engine::machine::Engine;
use crate::engine::measure::{Frame, SlotPanes, full};
use crate::engine::memory::Memory;
use crate::engine::pane::OpenValues;
use crate::engine::rule::eval::Unknown;
use crate::engine::rule::{Arm, Confirm, Measurement, Rule, RuleAction, Side, Stat};
use crate::engine::series::{KEEP, Series};
use crate::engine::testkit::*;
use crate::engine::verdict::{Reason, Verdict};
use crate::model::metric::MetricId;

/// The start of an hour.
const BASE: i64 = START - START % 60;

const STATS: [Stat; 8] =
    [Stat::Mean, Stat::Sum, Stat::Count, Stat::Min, Stat::Max, Stat::Stddev, Stat::P50, Stat::P95];

fn measurement(stat: Stat, hours: u32) -> Measurement {
    Measurement { metric: MetricId(0), stat, window: Window(hours * 60), arm: Arm::Own }
}

fn pane(layout: &Layout, samples: &[f64]) -> PaneData {
    let mut open = OpenValues::default();
    samples.iter().for_each(|v| open.record(layout, *v));
    PaneData::Values(open.seal(layout))
}

/// A series that has lived through samples (closed minute at arrival, minutes that it is late by, value), and those that it took.
fn lived(
    layout: Layout,
    arrivals: &[(i64, i64, f64)],
    end: i64,
    wanted: &[(Window, bool)],
) -> (One, Vec<(i64, f64)>) {
    let mut series = Series::new(Some(layout));
    let mut closed = Minute(BASE);
    series.want(wanted, Some(closed));
    let mut arrivals = arrivals.to_vec();
    arrivals.sort_by_key(|a| a.0);
    let mut taken = Vec::new();
    for (at, late, value) in arrivals.into_iter().filter(|a| a.0 <= end) {
        while closed.0 < BASE + at {
            closed = closed.plus(1);
            series.close(closed);
        }
        let minute = Minute(closed.0 - late);
        series.add(minute, pane(&layout, &[value]), Some(closed));
        if minute.0 > closed.0 - KEEP {
            taken.push((minute.0, value));
        }
    }
    while closed.0 < BASE + end {
        closed = closed.plus(1);
        series.close(closed);
    }
    (One(series), taken)
}

/// A statistic by brute force, `None` without samples.
fn brute(stat: Stat, layout: &Layout, samples: &[f64]) -> Option<f64> {
    let n = samples.len() as f64;
    let sum = samples.iter().sum::<f64>();
    match stat {
        Stat::Count => return Some(n),
        _ if samples.is_empty() => return None,
        _ => {}
    }
    Some(match stat {
        Stat::Sum => sum,
        Stat::Min => samples.iter().copied().fold(f64::INFINITY, f64::min),
        Stat::Max => samples.iter().copied().fold(0.0, f64::max),
        Stat::Stddev => {
            let mean = sum / n;
            (samples.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / n).sqrt()
        }
        Stat::P50 | Stat::P95 => {
            let mut buckets: Vec<u16> = samples.iter().map(|v| layout.bucket(*v)).collect();
            buckets.sort_unstable();
            let rank = ((n * stat.quantile().unwrap()).ceil() as usize).max(1);
            layout.upper(buckets[rank - 1])
        }
        _ => sum / n,
    })
}

fn close_to(found: Option<f64>, wanted: Option<f64>) -> bool {
    match (found, wanted) {
        (Some(a), Some(b)) => (a - b).abs() <= 1e-4 * b.abs().max(1.0),
        (a, b) => a.is_none() && b.is_none(),
    }
}

/// Samples of thirty hours, late by any time that the panes can take and some more.
fn arrivals() -> impl Strategy<Value = Vec<(i64, i64, f64)>> {
    let late = prop_oneof![4 => 0i64..3, 1 => 0i64..KEEP + 30];
    prop::collection::vec((0i64..1_900, late, (0u32..600).prop_map(f64::from)), 1..250)
}

proptest! {
    #![proptest_config(crate::testing::cases(6))]

    /// A long window is its whole hours and the running one, exactly, wherever the hours change into minutes.
    #[test]
    fn long_windows_are_brute_force(arrivals in arrivals(), end in 1_700i64..1_900, hours in prop::sample::select(vec![7u32, 11, 24, 720])) {
        let layout = Layout::new(1.0, 600.0);
        let (series, taken) = lived(layout, &arrivals, end, &[(Window(hours * 60), true)]);
        let closed = Minute(BASE + end);
        let frame = Frame { closed, floor: Minute(i64::MIN / 2) };
        let from = (closed.0 / 60 + 1 - i64::from(hours)) * 60;
        prop_assert_eq!(frame.from(Window(hours * 60)).0, from);
        let inside: Vec<f64> = taken.iter().filter(|t| (from..=closed.0).contains(&t.0)).map(|t| t.1).collect();
        for stat in STATS {
            let found = full(&series, &measurement(stat, hours), frame).ok();
            let wanted = brute(stat, &layout, &inside);
            prop_assert!(close_to(found, wanted), "{:?} over {} h: {:?}, not {:?}", stat, hours, found, wanted);
        }
    }

    /// Without any pair of neighbouring cells a long window is what is left; any 60 seconds lie in such a pair.
    #[test]
    fn without_a_pair_of_cells_is_what_is_left(arrivals in arrivals(), end in 1_700i64..1_900, limit in 0.0f64..700.0, above in any::<bool>()) {
        let layout = Layout::new(1.0, 600.0);
        let (series, taken) = lived(layout, &arrivals, end, &[(Window(1_440), true)]);
        let closed = Minute(BASE + end);
        let frame = Frame { closed, floor: Minute(i64::MIN / 2) };
        let from = frame.from(Window(1_440)).0;
        let pairs: Vec<(i64, i64)> = frame
            .pairs(Window(1_440))
            .map(|pair| (pair.0, frame.cell_end(frame.cell_end(pair)).0))
            .collect();
        for minute in from..closed.0 {
            prop_assert!(pairs.iter().any(|(start, end)| *start <= minute && minute + 2 <= *end), "{} lies in no pair", minute);
        }
        for stat in STATS {
            let m = measurement(stat, 24);
            let (panes, edge) = (SlotPanes::new(&series, &m, frame), SlotPanes::at_edge(&series, &m, frame, limit, above));
            for (start, end) in &pairs {
                let left: Vec<f64> = taken
                    .iter()
                    .filter(|t| (from..=closed.0).contains(&t.0) && !(*start..*end).contains(&t.0))
                    .map(|t| t.1)
                    .collect();
                let minutes = closed.0 - from + 1;
                let gone = (*end).min(closed.0 + 1) - (*start).max(from);
                let scale = if stat.is_extensive() { minutes as f64 / (minutes - gone) as f64 } else { 1.0 };
                let wanted = brute(stat, &layout, &left).map(|v| v * scale);
                let found = panes.without(Minute(*start)).ok();
                prop_assert!(close_to(found, wanted), "{:?} without {}..{}: {:?}, not {:?}", stat, start, end, found, wanted);
                prop_assert_eq!(panes.samples_without(Minute(*start)), left.len() as u64);
                if let (Some(beyond), Some(value)) = (edge.quantile_beyond(Minute(*start)), wanted) {
                    let (bucket, threshold) = (layout.bucket(value), layout.bucket(limit));
                    prop_assert_eq!(beyond, if above { bucket > threshold } else { bucket < threshold });
                }
            }
        }
    }

    /// A restart from a snapshot, the rows in SQL (roll-ups among them) and the deltas in between is as if it had never stopped.
    /// Hours leave for SQL before the snapshot, between it and the stop, and after that; those of nine hours ago leave the windows.
    #[test]
    fn restored_with_roll_ups_is_never_stopped(snapshot_at in 375i64..500, stop_after in 0i64..70, onset in 370i64..540) {
        let rules = long_rules(540);
        let faithful = |m: i64, i: i64| if m >= onset { 0.4 + 0.1 * i as f64 } else { 0.98 };
        let mut events = steady(TREATMENT, "faithfulness", 0..END, 2, faithful);
        events.extend(steady(TREATMENT, "latency", 0..END, 2, |m, i| 100.0 + (m % 7) as f64 + 2_000.0 * (m * i / onset) as f64));
        let stop = snapshot_at + stop_after;

        let mut never = six_hours_late(rules.clone(), &events);
        let (mut state, mut rollups) = (BTreeMap::new(), BTreeMap::new());
        let mut store = |engine: &mut Engine| {
            for (key, value) in engine.changed_rows() {
                state.insert(key, value.unwrap());
            }
            for row in engine.changed_rollups() {
                let known = rollups.insert((row.metric.clone(), row.hour), row);
                assert_eq!(known, None, "an hour that has left does not change");
            }
        };
        run(&mut never, &events, 360..snapshot_at);
        store(&mut never);
        let snapshot = never.snapshot().unwrap();
        run(&mut never, &events, snapshot_at..stop);
        store(&mut never);

        let (mut again, positions) =
            Engine::restore(settings(rules), Memory::from_rows(state).unwrap(), Some(&snapshot)).unwrap();
        let rows: Vec<RollupRow> = rollups.into_values().collect();
        prop_assert_eq!(again.restore_rollups(&rows), 0);
        read_again(&mut again, &events, snapshot_at..stop, positions[&source(0)]);
        prop_assert_eq!(again.changed_rollups(), Vec::new(), "what has left has left");
        prop_assert_eq!(run(&mut again, &events, stop..END), run(&mut never, &events, stop..END));
        prop_assert_eq!(again.report().alerts, never.report().alerts);
        prop_assert_eq!(again.violations(), Vec::<String>::new());
        let left = again.changed_rollups();
        prop_assert_eq!(rows.len() + left.len(), 2 * HOURS_LEFT);
        prop_assert_eq!(left, never.changed_rollups());
    }
}

/// The end of a stream that is restarted, and how many hours of it have left by then: [`START`] is minute 40 of the first.
const END: i64 = 570;
const HOURS_LEFT: usize = 4;

/// An engine that has begun 360 minutes into a stream and got what was before in one late delta: six hours of panes at the
/// price of one closing.
fn six_hours_late(rules: Vec<Rule>, events: &[Ev]) -> Engine {
    let mut engine = Engine::new(settings(rules));
    engine.step(Input::Assign { sources: vec![source(0)], start: Some(at(360 * 60_000)) });
    let early: Vec<Ev> = events.iter().filter(|e| e.at < 360 * 60_000).cloned().collect();
    let late = delta(engine.settings(), 0, 0, at(360 * 60_000), &early);
    engine.step(Input::Delta(late));
    engine
}

fn long_rules(window: u32) -> Vec<Rule> {
    vec![
        rule("faithfulness", Stat::Mean, window, Side::Below, 0.95, RuleAction::PauseRollout),
        rule("latency", Stat::P95, window, Side::Above, 900.0, RuleAction::Notify),
    ]
}

/// What is said of the first rule after each minute.
fn verdicts(rule: &Rule, events: &[Ev], minutes: i64) -> Vec<Verdict> {
    let mut engine = engine(vec![rule.clone()]);
    (0..minutes)
        .map(|minute| {
            run(&mut engine, events, minute..minute + 1);
            engine.judgements().next().map(|(_, j)| j.verdict.clone()).unwrap()
        })
        .collect()
}

#[test]
fn one_bad_hour_never_makes_a_breach_and_bad_hours_do() {
    let rule = Rule {
        confirm: Confirm::Either,
        ..rule("faithfulness", Stat::Mean, 720, Side::Below, 0.9, RuleAction::Notify)
    };
    // START is minute 40 of its hour: minutes 80 to 139 are one whole hour.
    let one_hour = |m: i64, _: i64| if (80..140).contains(&m) { 0.0 } else { 0.95 };
    let seen = verdicts(&rule, &steady(TREATMENT, "faithfulness", 0..760, 3, one_hour), 760);
    assert!(seen[300..450].contains(&Verdict::Breach), "sixty bad minutes, as long as they are known");
    assert!(!seen[505..].contains(&Verdict::Breach));
    let few = |v: &Verdict| matches!(v, Verdict::Inconclusive { reason: Reason::FewHours { .. } });
    assert!(seen[505..700].iter().all(few), "true only because of an hour of which no minutes are kept");

    let low = steady(TREATMENT, "faithfulness", 0..760, 3, |_, _| 0.85);
    assert_eq!(verdicts(&rule, &low, 760).last(), Some(&Verdict::Breach));
}

#[test]
fn a_series_that_no_long_rule_reads_has_no_roll_ups() {
    let mut engine =
        engine(vec![rule("faithfulness", Stat::Mean, 360, Side::Below, 0.9, RuleAction::Rollback)]);
    run(&mut engine, &steady(TREATMENT, "faithfulness", 0..900, 1, |_, _| 0.95), 0..900);
    assert_eq!(engine.changed_rollups(), Vec::new());
}

#[test]
fn a_quantile_over_hours_without_buckets_is_unknown_until_they_leave() {
    let layout = Layout::new(1.0, 600.0);
    let arrivals: Vec<(i64, i64, f64)> = (0..1_000).map(|m| (m, 0, (m % 600) as f64)).collect();
    let (mut series, _) = lived(layout, &arrivals, 1_000, &[(Window(600), false)]);
    let mut closed = Minute(BASE + 1_000);
    let p95 =
        |series: &One, closed| full(series, &measurement(Stat::P95, 10), Frame { closed, floor: Minute(0) });
    assert_eq!(p95(&series, closed), Err(Unknown::NoHistogram));
    assert!(full(&series, &measurement(Stat::Mean, 10), Frame { closed, floor: Minute(0) }).is_ok());
    series.0.want(&[(Window(600), true)], Some(closed));
    while closed.0 < BASE + 1_700 {
        closed = closed.plus(1);
        series.0.close(closed);
        series.0.add(closed, pane(&layout, &[7.0]), Some(closed));
    }
    assert_eq!(p95(&series, closed), Ok(layout.upper(layout.bucket(7.0))));
}

#[test]
fn a_re_armed_window_begins_with_the_first_whole_hour_once_minutes_are_gone() {
    let layout = Layout::new(1.0, 600.0);
    let arrivals: Vec<(i64, i64, f64)> = (0..1_000).map(|m| (m, 0, 1.0)).collect();
    let (series, _) = lived(layout, &arrivals, 999, &[(Window(1_440), false)]);
    let closed = Minute(BASE + 999);
    let count = |floor: i64| {
        full(&series, &measurement(Stat::Count, 24), Frame { closed, floor: Minute(BASE + floor) })
    };
    assert_eq!(count(0), Ok(1_000.0));
    assert_eq!(count(61), Ok(880.0), "the rest of the hour that it falls into is left out");
    assert_eq!(count(700), Ok(300.0), "minutes that are kept are counted by the minute");
}

#[test]
fn rows_of_another_shape_are_not_taken() {
    let mut engine = engine(long_rules(720));
    let events = steady(TREATMENT, "latency", 0..900, 1, |_, _| 100.0);
    run(&mut engine, &events, 0..900);
    let rows = engine.changed_rollups();
    assert!(rows.len() > 5);
    let mut fresh = super::super::machine::Engine::new(settings(long_rules(720)));
    assert_eq!(fresh.restore_rollups(&rows), 0);
    let other: Vec<RollupRow> =
        rows.into_iter().map(|row| RollupRow { shape: "0.5 to 9".into(), ..row }).collect();
    assert_eq!(fresh.restore_rollups(&other), other.len());
}

/// What is planted into hours that are kept, one fault at a time.
#[test]
fn an_audit_finds_hours_that_do_not_add_up_and_mends_the_windows() {
    type Fault = fn(&mut Hours);
    let faults: [(&str, Fault); 5] = [
        ("a count", |hours| hours.parts[0].sums.n += 1),
        ("a sum", |hours| hours.parts[1].sums.sum -= 1),
        ("squares", |hours| hours.parts[0].sums.squares += 1),
        ("a bucket", |hours| hours.parts[1].histogram.as_mut().unwrap().record(3).unwrap()),
        ("an hour that is gone", |hours| drop(hours.hours.remove(hours.hours.len() - 2))),
    ];
    let layout = Layout::new(1.0, 600.0);
    let arrivals: Vec<(i64, i64, f64)> = (0..1_000).map(|m| (m, 0, (m % 600) as f64)).collect();
    let wanted = [(Window(600), true), (Window(720), true)];
    let (One(sound), _) = lived(layout, &arrivals, 1_000, &wanted);
    let closed = Minute(BASE + 1_000);
    assert_eq!(sound.clone().audit(closed), 0);
    for (fault, plant) in faults {
        let mut series = sound.clone();
        plant(series.hours_mut().unwrap());
        assert!(series.audit(closed) > 0, "{fault}");
        assert_eq!(series.audit(closed), 0, "{fault} was mended");
    }
    for misplaced in [BASE / 60 - 2 * KEEP_HOURS, (BASE + 1_000) / 60 - 2] {
        let mut series = sound.clone();
        let hours = series.hours_mut().unwrap();
        let data = hours.hours[0].1.clone();
        hours.hours.push_front((misplaced, data));
        assert!(series.audit(closed) > 0, "an hour that is out of place");
    }
}

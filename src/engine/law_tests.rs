//! Laws that hold for every stream.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;

use super::input::{Input, Source};
use super::machine::Engine;
use super::memory::Memory;
use super::output::{Gate, Output};
use super::rule::{
    Arm, Compare, Condition, Confirm, ConfirmedBy, Expr, Measurement, Rule, RuleAction, Shape, Side, Stat,
    Threshold,
};
use super::testkit::*;
use super::verdict::Judgement;
use crate::model::time::Timestamp;

/// A rule of one of the shapes that have a deficit, and the metric that feeds it.
fn rules() -> impl Strategy<Value = Rule> {
    let window = prop_oneof![Just(5u32), Just(60)];
    (0..5u8, window, prop::sample::select(&Confirm::ALL[..])).prop_map(|(kind, window, confirm)| {
        let rule = match kind {
            0 => rule("faithfulness", Stat::Mean, window, Side::Below, 0.9, RuleAction::Rollback),
            1 => rule("abstain", Stat::Rate, window, Side::Above, 0.2, RuleAction::Rollback),
            2 => rule("latency", Stat::P95, window, Side::Above, 1_000.0, RuleAction::Rollback),
            3 => against_baseline("abstain", Stat::Rate, window, 3.0),
            _ => against_baseline("latency", Stat::P95, window, 1.5),
        };
        Rule { confirm, ..rule }
    })
}

fn against_baseline(metric: &str, stat: Stat, window: u32, factor: f64) -> Rule {
    let mut rule = rule(metric, stat, window, Side::Above, 1.0, RuleAction::Rollback);
    let own = rule.condition.slots[0];
    let base = Measurement { arm: Arm::Baseline, ..own };
    let threshold =
        Expr::Arith(super::rule::Arith::Mul, Box::new(Expr::Slot(1)), Box::new(Expr::Const(factor)));
    rule.condition = Condition {
        source: format!("{metric} > baseline*{factor}"),
        expr: Expr::Compare(Compare::Gt, Box::new(Expr::Slot(0)), Box::new(threshold)),
        slots: vec![own, base],
        shape: Shape::Simple {
            slot: 0,
            side: Side::Above,
            threshold: Threshold::Baseline { slot: 1, factor },
        },
    };
    rule
}

fn metric_of(rule: &Rule) -> &'static str {
    match rule.condition.slots[0].stat {
        Stat::Mean => "faithfulness",
        Stat::P95 => "latency",
        _ => "abstain",
    }
}

/// A stream near the threshold, so that accidents could tip it: per minute a share of bad samples.
fn near_miss(rule: &Rule, seed: u64, per_minute: i64) -> Vec<Ev> {
    let metric = metric_of(rule);
    let usual = match metric {
        "faithfulness" => 0.07,
        "latency" => 0.03,
        _ => 0.14,
    };
    let (bad, good) = values(metric);
    let mut random = Lcg(seed);
    let mut events = steady(TREATMENT, metric, 0..75, per_minute, |_, _| 0.0);
    for event in &mut events {
        event.value = if random.next() < usual { bad } else { good };
    }
    let mut control = steady(CONTROL, metric, 0..75, per_minute, |_, _| 0.0);
    for event in &mut control {
        event.value = if random.next() < usual / 2.5 { bad } else { good };
    }
    events.extend(control);
    events
}

fn values(metric: &str) -> (f64, f64) {
    match metric {
        "faithfulness" => (0.0, 1.0),
        "latency" => (9_000.0, 300.0),
        _ => (1.0, 0.0),
    }
}

/// What the engine says of a rule at the closing of every minute. It fires at once, does nothing and never resolves, so that
/// evidence is never counted anew: otherwise streams of which one resolves earlier would have gathered over different
/// spans. `needed` is the evidence that is enough.
fn judgements(rule: &Rule, events: &[Ev], needed: u64) -> Vec<Judgement> {
    let mut rule = rule.clone();
    rule.hold = Duration::ZERO;
    rule.dwell = Duration::from_secs(86_400);
    rule.dry_run = true;
    let mut engine = engine(vec![rule]);
    engine.settings.limits.false_rollback_every = Duration::from_secs(needed * 60);
    let mut all = Vec::new();
    for minute in 0..75 {
        run(&mut engine, events, minute..minute + 1);
        all.push(engine.last.values().next().cloned().unwrap());
    }
    all
}

proptest! {
    #![proptest_config(crate::testing::cases(60))]

    /// The single-minute theorem: rewriting any 60 seconds (values, volume, both arms) makes no closing a breach unless the
    /// stream with the two panes that contain them erased meets the condition there too.
    #[test]
    fn no_single_minute_makes_a_breach(
        rule in rules(),
        seed in any::<u64>(),
        start in 5_000i64..70 * 60_000,
        volume in prop_oneof![Just(0i64), Just(1), Just(10)],
        per_minute in prop_oneof![Just(30i64), Just(60)],
        both in any::<bool>(),
        needed in prop_oneof![Just(1u64), Just(20)],
    ) {
        let usual = near_miss(&rule, seed, per_minute);
        let metric = metric_of(&rule);
        let (bad, good) = values(metric);
        let outside = |e: &Ev| e.at < start || e.at >= start + 60_000;
        let mut attacked: Vec<Ev> = usual.iter().filter(|e| outside(e) || (!both && e.variant == CONTROL)).cloned().collect();
        for i in 0..per_minute * volume {
            let at = start + i * 60_000 / (per_minute * volume);
            attacked.push(Ev { at, variant: TREATMENT, metric, value: bad, tenant: 1 });
            if both {
                attacked.push(Ev { at, variant: CONTROL, metric, value: good, tenant: 1 });
            }
        }
        // The oracle: the stream with both panes erased, judged literally (condition and samples), without any of the
        // engine's own deletion.
        let pair = start.div_euclid(60_000);
        let erased: Vec<Ev> =
            usual.iter().filter(|e| !(pair..=pair + 1).contains(&e.at.div_euclid(60_000))).cloned().collect();
        let unattacked = judgements(&rule, &erased, needed);
        for (minute, judgement) in judgements(&rule, &attacked, needed).iter().enumerate() {
            let window = i64::from(rule.condition.window().0);
            let closed = minute as i64;
            let would = match judgement.by {
                None => continue,
                Some(ConfirmedBy::Persistence) => literal(&rule, &erased, closed, window, rule.min_samples),
                Some(ConfirmedBy::Evidence) => {
                    let recent = i64::from(rule.condition.window().recent().0);
                    unattacked[minute].proof.as_ref().is_some_and(|proof| proof.evidence >= proof.needed * 0.999)
                        && literal(&rule, &erased, closed, recent, 1)
                        && enough(&erased, closed, window, &rule)
                }
            };
            prop_assert!(would, "minute {} breaches by {:?} only through the attack at {} ms", minute, judgement.by, start);
            prop_assert!(rule.confirm.by_evidence() || judgement.by == Some(ConfirmedBy::Persistence));
            prop_assert!(rule.confirm.by_persistence() || judgement.by == Some(ConfirmedBy::Evidence));
        }
    }

    /// Evidence is enough on some streams and not on others, so that the law above is about something.
    #[test]
    fn a_regression_is_confirmed_by_evidence(rule in rules()) {
        let (bad, good) = values(metric_of(&rule));
        let events = [steady(TREATMENT, metric_of(&rule), 0..75, 60, |m, i| if m >= 40 || i == 0 { bad } else { good }),
            steady(CONTROL, metric_of(&rule), 0..75, 60, |_, i| if i == 0 { bad } else { good })].concat();
        let by: Vec<Option<ConfirmedBy>> = judgements(&rule, &events, 20).iter().map(|j| j.by).collect();
        prop_assert!(by[..40].iter().all(Option::is_none));
        let expected = match rule.confirm {
            Confirm::Persistence => ConfirmedBy::Persistence,
            Confirm::Either | Confirm::Significant | Confirm::Evidence => ConfirmedBy::Evidence,
        };
        prop_assert!(by[40..].contains(&Some(expected)), "{:?}", by);
    }

    /// However the input is cut into deltas, the output is the same.
    #[test]
    fn any_split_of_the_input_gives_the_same_output(
        seed in any::<u64>(),
        cuts in prop::collection::vec(1usize..400, 1..12),
        confirm in prop::sample::select(&Confirm::ALL[..]),
    ) {
        let rules = vec![
            Rule { confirm, ..rule("faithfulness", Stat::Mean, 60, Side::Below, 0.9, RuleAction::Rollback) },
            Rule { confirm, ..rule("faithfulness", Stat::Mean, 5, Side::Below, 0.9, RuleAction::PauseRollout) },
        ];
        let mut random = Lcg(seed);
        let mut events = steady(TREATMENT, "faithfulness", 0..120, 20, |m, _| f64::from(u8::from(m < 80)));
        for event in &mut events {
            event.at += (random.next() * 25_000.0) as i64;
            event.tenant = (random.next() * 40.0) as u64;
        }
        // Arrival order differs from event time by less than the lateness.
        let whole = feed(&rules, &events, &[events.len()]);
        let cut = feed(&rules, &events, &cuts);
        prop_assert!(whole.decisions.iter().any(|d| d.gate == Gate::Act));
        prop_assert_eq!(whole.decisions, cut.decisions);
        prop_assert_eq!(whole.transitions, cut.transitions);
        prop_assert_eq!(whole.orders, cut.orders);
        prop_assert_eq!(whole.closed, cut.closed);
    }

    /// Restarting from a snapshot, the rows in SQL and the deltas in between is as if it had never stopped.
    #[test]
    fn restored_is_never_stopped(
        seed in any::<u64>(),
        snapshot_at in 1i64..100,
        stop_after in 0i64..40,
        confirm in prop::sample::select(&Confirm::ALL[..]),
    ) {
        let rules = vec![
            Rule { confirm, ..rule("faithfulness", Stat::Mean, 60, Side::Below, 0.93, RuleAction::Rollback) },
            Rule { confirm, ..rule("latency", Stat::P95, 60, Side::Above, 900.0, RuleAction::PauseRollout) },
        ];
        let mut random = Lcg(seed);
        let onset = 40 + (random.next() * 60.0) as i64;
        let mut events = steady(TREATMENT, "faithfulness", 0..200, 10, |m, _| if m < onset { 0.97 } else { 0.8 });
        events.extend(steady(TREATMENT, "latency", 0..200, 10, |m, i| if m < onset + 9 { 200.0 } else { 300.0 * i as f64 }));
        let stop = snapshot_at + stop_after;

        let mut never = engine(rules.clone());
        run(&mut never, &events, 0..stop);
        let mut first = engine(rules.clone());
        run(&mut first, &events, 0..snapshot_at);
        let snapshot = first.snapshot().unwrap();
        let at_snapshot = offset(&first);
        let mut rows: BTreeMap<String, String> = BTreeMap::new();
        let mut store = |engine: &mut Engine| {
            for (key, value) in engine.changed_rows() {
                match value {
                    Some(value) => rows.insert(key, value),
                    None => rows.remove(&key),
                };
            }
        };
        store(&mut first);
        run(&mut first, &events, snapshot_at..stop);
        store(&mut first);

        let memory = Memory::from_rows(rows).unwrap();
        let (mut again, positions) = Engine::restore(settings(rules), memory, Some(&snapshot)).unwrap();
        prop_assert_eq!(positions.get(&source(0)).copied(), Some(at_snapshot));
        read_again(&mut again, &events, snapshot_at..stop, at_snapshot);
        prop_assert_eq!(run(&mut again, &events, stop..200), run(&mut never, &events, stop..200));
        prop_assert_eq!(again.violations(), Vec::<String>::new());
    }

    /// Partitions read at any speeds: every window is what brute force says, nothing is left out.
    #[test]
    fn a_backlog_of_uneven_partitions_is_caught_up_exactly(
        seed in any::<u64>(),
        order in prop::collection::vec(0i32..4, 200..400),
    ) {
        let rules = vec![rule("faithfulness", Stat::Mean, 360, Side::Below, 0.9, RuleAction::Rollback)];
        let mut engine = Engine::new(settings(rules));
        let sources: Vec<Source> = (0..4).map(source).collect();
        engine.step(Input::Assign { sources, start: Some(at(0)) });
        let mut random = Lcg(seed);
        let minutes = 7 * 60;
        let parts: Vec<Vec<Ev>> = (0..4)
            .map(|p| steady(TREATMENT, "faithfulness", 0..minutes, 1 + p, |_, _| 0.0))
            .map(|mut part| {
                part.iter_mut().for_each(|e| e.value = random.next());
                part
            })
            .collect();
        let mut places = [0usize; 4];
        let mut turns = order.into_iter().chain((0..4).cycle());
        while places.iter().zip(&parts).any(|(at, part)| *at < part.len()) {
            let p = turns.next().unwrap_or(0);
            let (place, part) = (&mut places[p as usize], &parts[p as usize]);
            let take = ((random.next() * 300.0) as usize).min(part.len() - *place);
            let chunk = &part[*place..*place + take];
            let watermark = chunk.iter().map(|e| e.at).max().map_or(at(0), at);
            engine.step(Input::Delta(delta(engine.settings(), p, *place as i64, watermark, chunk)));
            *place += take;
            check_window(&engine, &parts)?;
        }
        for p in 0..4 {
            engine.step(Input::Idle { source: source(p), at: at((minutes + 1) * 60_000) });
        }
        prop_assert_eq!(engine.report().closed.map(|m| m.0 - START), Some(minutes - 1));
        check_window(&engine, &parts)?;
    }
}

/// The engine's 6 h window beside all events of the closed minutes.
fn check_window(engine: &Engine, parts: &[Vec<Ev>]) -> Result<(), TestCaseError> {
    let Some(closed) = engine.report().closed.map(|m| m.0 - START) else {
        return Ok(());
    };
    let inside = |e: &&Ev| (closed - 359..=closed).contains(&e.at.div_euclid(60_000));
    let expected: Vec<f64> = parts.iter().flatten().filter(inside).map(|e| e.value).collect();
    let Some(alert) = engine.report().alerts.into_iter().next() else {
        return Ok(());
    };
    prop_assert_eq!(alert.samples, expected.len() as u64);
    if let Some(value) = alert.value {
        let mean = expected.iter().map(|v| (v * 1e6).round()).sum::<f64>() / 1e6 / expected.len() as f64;
        prop_assert!((value - mean).abs() < 1e-9, "{} {}", value, mean);
    }
    Ok(())
}

fn offset(engine: &Engine) -> i64 {
    engine.memory().core.sources.positions().map(|p| p.1).next().unwrap_or(0)
}

/// Feeds events in arrival order, cut as said (cycling), each delta with the watermark reached so far.
fn feed(rules: &[Rule], events: &[Ev], cuts: &[usize]) -> Output {
    let mut engine = engine(rules.to_vec());
    let mut all = Output::default();
    let mut place = 0;
    let mut watermark = i64::MIN;
    for cut in cuts.iter().cycle() {
        if place >= events.len() {
            return all;
        }
        let chunk = &events[place..(place + cut).min(events.len())];
        watermark = chunk.iter().map(|e| e.at).max().unwrap_or(0).max(watermark);
        let mark: Timestamp = at(watermark);
        absorb(&mut all, engine.step(Input::Delta(delta(engine.settings(), 0, place as i64, mark, chunk))));
        place += chunk.len();
    }
    all
}

/// The samples of a variant in a window, by brute force over raw events.
fn inside(events: &[Ev], variant: &str, closed: i64, window: i64) -> Vec<f64> {
    let minutes = closed - window + 1..=closed;
    let counts = |e: &&Ev| e.variant == variant && minutes.contains(&e.at.div_euclid(60_000));
    events.iter().filter(counts).map(|e| e.value).collect()
}

/// Whether each arm that is read has the ten samples that evidence needs.
fn enough(events: &[Ev], closed: i64, window: i64, rule: &Rule) -> bool {
    let arms: &[&str] = if rule.condition.reads_baseline() { &[TREATMENT, CONTROL] } else { &[TREATMENT] };
    arms.iter().all(|arm| inside(events, arm, closed, window).len() >= 10)
}

/// Whether condition and samples hold at a closing by brute force over raw events.
fn literal(rule: &Rule, events: &[Ev], closed: i64, window: i64, least: u64) -> bool {
    let own = inside(events, TREATMENT, closed, window);
    let n = own.len() as f64;
    let mean = own.iter().sum::<f64>() / n;
    let slow = |arm: &[f64]| {
        let n = arm.len() as f64;
        arm.iter().filter(|v| **v > 1_000.0).count() as f64 > n - (n * 0.95).ceil()
    };
    own.len() as u64 >= least
        && match (&rule.condition.shape, rule.condition.slots[0].stat) {
            (Shape::Simple { threshold: Threshold::Baseline { .. }, .. }, stat) => {
                let control = inside(events, CONTROL, closed, window);
                let base = control.iter().sum::<f64>() / control.len() as f64;
                let more = if stat == Stat::P95 { slow(&own) && !slow(&control) } else { mean > base * 3.0 };
                control.len() as u64 >= least && more
            }
            (_, Stat::P95) => slow(&own),
            (_, Stat::Rate) => mean > 0.2,
            _ => mean < 0.9,
        }
}

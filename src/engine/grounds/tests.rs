//! Every decision follows from its grounds, and from no others.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::engine::output::Output;
use crate::engine::rule::{Confirm, NoData, RuleAction, Side, Stat};
use crate::engine::testkit::*;

/// Decisions with their grounds, as they are read back from where they are stored.
fn read_back(output: &Output) -> Vec<(Decision, Grounds)> {
    assert_eq!(output.decisions.len(), output.grounds.len());
    let stored = |grounds: &Grounds| serde_json::to_string(grounds).unwrap();
    let read = |grounds| serde_json::from_str::<Grounds>(&stored(grounds)).unwrap();
    output.decisions.iter().cloned().zip(output.grounds.iter().map(read)).collect()
}

fn differing(replayed: &Replayed) -> Vec<&str> {
    replayed.checks.iter().filter(|check| !check.same).map(|check| check.what.as_str()).collect()
}

proptest! {
    #![proptest_config(crate::testing::cases(24))]

    #[test]
    fn every_decision_is_judged_again_to_the_same_numbers(
        kind in 0usize..5,
        confirm in prop_oneof![Just(3), 0usize..4],
        window in prop::sample::select(vec![5u32, 60]),
        silent in any::<bool>(),
        good in 5usize..30,
        minutes in prop::collection::vec((0i64..60, 0.0f64..0.5), 8..40),
    ) {
        let (mut rule, metric) = any_rule(kind, window, confirm);
        rule.no_data = if silent { NoData::Pause } else { NoData::Hold };
        let mut all = vec![(40, 0.9); good];
        all.extend(minutes);
        // Silence for more than a window.
        all.extend(vec![(0, 0.0); if silent && window == 5 { 12 } else { 0 }]);
        let mut engine = engine(vec![rule]);
        let end = all.len() as i64;
        let output = run(&mut engine, &rough(metric, &all), 0..end);
        for (decision, grounds) in read_back(&output) {
            prop_assert_eq!(&grounds.decision, &decision.id);
            let replayed = grounds.judge_again(&decision).unwrap();
            prop_assert!(replayed.same, "{:?}", differing(&replayed));
        }
    }
}

/// One decision by evidence and its grounds.
fn proved() -> (Decision, Grounds) {
    let mut rule = rule("faithfulness", Stat::Mean, 60, Side::Below, 0.8, RuleAction::Rollback);
    rule.confirm = Confirm::Either;
    let mut minutes = vec![(60, 0.9); 30];
    minutes.extend([(60, 0.3); 12]);
    let output = run(&mut engine(vec![rule]), &rough("faithfulness", &minutes), 0..42);
    read_back(&output).remove(0)
}

#[test]
fn whatever_is_altered_shows() {
    let (decision, grounds) = proved();
    assert!(grounds.judge_again(&decision).unwrap().same);
    let altered = |change: &dyn Fn(&mut Grounds)| {
        let mut grounds = grounds.clone();
        change(&mut grounds);
        grounds.judge_again(&decision).map_or_else(|error| error.to_string(), |r| differing(&r).join(" "))
    };
    let panes = &|g: &mut Grounds| {
        // The last minute's pane becomes that of the first.
        let series = Series::from_panes(g.series[0].panes.clone(), Layout::of(&g.metrics[0].1)).unwrap();
        let first = series.values(g.closed.plus(-20)).unwrap().clone();
        let mut series = Series::from_panes(
            series.part(Minute(i64::MIN / 4), g.closed.plus(-1)),
            series.layout().copied(),
        )
        .unwrap();
        series.add(g.closed, crate::engine::pane::PaneData::Values(first), None);
        g.series[0].panes = series.panes();
    };
    type Change<'a> = &'a dyn Fn(&mut Grounds);
    let changes: [(Change<'_>, &str); 7] = [
        (panes, "evidence"),
        (&|g| g.series.clear(), "verdict"),
        (&|g| g.rule.condition.source = "faithfulness_1h < 0.5".into(), "rule"),
        (&|g| g.closed = g.closed.plus(-3), "closing"),
        (&|g| g.armed = false, "decides"),
        (&|g| g.evidence = g.evidence.map(|(since, needed)| (since, needed * 2.0)), "evidence_needed"),
        (&|g| g.metrics.clear(), "is not among the stored ones"),
    ];
    for (change, shows) in changes {
        let found = altered(change);
        assert!(found.contains(shows), "lacks {shows}: {found}");
    }
    let mut said = decision.clone();
    said.evidence.value = said.evidence.value.map(|value| value + 1e-6);
    assert_eq!(differing(&grounds.judge_again(&said).unwrap()), ["value"]);
}

#[test]
fn a_catalogue_of_another_order_is_no_difference() {
    let (decision, mut grounds) = proved();
    let moved = |id: MetricId| MetricId(id.0 + 40);
    for slot in grounds.rule.condition.slots.iter_mut().chain(&mut grounds.rule.clear.slots) {
        slot.metric = moved(slot.metric);
    }
    grounds.series.iter_mut().for_each(|series| series.metric = moved(series.metric));
    grounds.metrics.iter_mut().for_each(|(id, _)| *id = moved(*id));
    assert!(grounds.judge_again(&decision).unwrap().same);
}

#[test]
fn a_pause_that_stands_in_for_a_rollback_and_one_on_silence_are_decisions_too() {
    let mut quiet = rule("faithfulness", Stat::Mean, 5, Side::Below, 0.9, RuleAction::Rollback);
    quiet.no_data = NoData::Pause;
    quiet.hold = Duration::from_secs(120);
    let mut minutes = vec![(60, 0.97); 8];
    minutes.extend([(0, 0.0); 12]);
    let output = run(&mut engine(vec![quiet]), &rough("faithfulness", &minutes), 0..20);
    let silence = read_back(&output).remove(0);
    assert_eq!(silence.0.confirmed_by, None);
    let mut doubtful = rule("faithfulness", Stat::Mean, 60, Side::Below, 0.9, RuleAction::Rollback);
    (doubtful.confirm, doubtful.min_samples) = (Confirm::Significant, 20);
    let swing: Vec<(i64, f64)> = (0..40).map(|m| (10, if m % 2 == 0 { 0.99 } else { 0.79 })).collect();
    let output = run(&mut engine(vec![doubtful]), &rough("faithfulness", &swing), 0..40);
    let doubt = read_back(&output).remove(0);
    assert!(doubt.0.evidence.within_noise, "{doubt:?}");
    for (decision, grounds) in [silence, doubt] {
        let replayed = grounds.judge_again(&decision).unwrap();
        assert!(replayed.same, "{:?}", differing(&replayed));
    }
}

#[test]
fn a_decision_on_a_long_window_rests_on_its_hours_too() {
    for (kind, confirm) in [(0, 3), (2, 3), (4, 3)] {
        let (mut rule, metric) = any_rule(kind, 24 * 60, confirm);
        (rule.action, rule.confirm) = (RuleAction::PauseRollout, Confirm::Persistence);
        let mut minutes = vec![(3, 0.9); 20 * 60];
        minutes.extend(vec![(3, 0.1); 20 * 60]);
        let end = minutes.len() as i64;
        let output = run(&mut engine(vec![rule]), &rough(metric, &minutes), 0..end);
        let (decision, mut grounds) = read_back(&output).remove(0);
        assert!(grounds.series.iter().all(|series| series.hours.len() > 10), "{kind}");
        let replayed = grounds.judge_again(&decision).unwrap();
        assert!(replayed.same, "{kind}: {:?}", differing(&replayed));
        grounds.series[0].hours.clear();
        assert!(!grounds.judge_again(&decision).unwrap().same, "{kind}: they matter");
    }
}

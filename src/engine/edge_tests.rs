//! Edges of the engine's housekeeping: what is counted, what is let go and when, and the last value on either side of a bound.

use std::time::Duration;

use super::input::{Command, CommandKind, Fates, FlipOutcome, Input};
use super::machine::Engine;
use super::output::{MessageKind, Order, Output, Phase, Verdicts};
use super::rule::{Rule, RuleAction, Side, Stat, Window};
use super::series::KEEP;
use super::testkit::*;
use crate::model::flag::Scope;

fn floor(window: u32, action: RuleAction) -> Rule {
    rule("faithfulness", Stat::Mean, window, Side::Below, 0.9, action)
}

/// Bad between two minutes, good otherwise.
fn bad_from(from: i64, to: i64) -> impl Fn(i64, i64) -> f64 {
    move |minute, _| if (from..to).contains(&minute) { 0.5 } else { 0.97 }
}

fn rearm(engine: &mut Engine) {
    let kind = CommandKind::Rearm { flag: FLAG.into(), scope: None };
    let command = Command { actor: "ada".into(), reason: "fixed".into(), at: at(0), kind };
    engine.step(Input::Command(command));
}

#[test]
fn every_closing_counts_one_verdict_of_each_rule() {
    let mut nothing = floor(5, RuleAction::Notify);
    nothing.variant = CONTROL.into();
    let mut engine = engine(vec![floor(5, RuleAction::Rollback), nothing]);
    let events = steady(TREATMENT, "faithfulness", 0..30, 60, bad_from(20, 30));
    let Verdicts { pass, breach, inconclusive, error } = run(&mut engine, &events, 0..30).verdicts;
    // The first minute alone has too few samples, the control has none, and of the bad minutes the third makes the breach.
    assert_eq!((pass, breach, inconclusive, error), (19, 8, 3 + 30, 0));
}

#[test]
fn the_fate_of_every_event_is_added_up() {
    let one =
        Fates { consumed: 21, windowed: 1, late: 2, duplicate: 3, dead_letter: 4, other: 5, refused: 6 };
    let mut sum = one;
    sum.add(&one);
    let fates =
        [sum.consumed, sum.windowed, sum.late, sum.duplicate, sum.dead_letter, sum.other, sum.refused];
    assert_eq!(fates, [42, 2, 4, 6, 8, 10, 12]);
    assert!(sum.balance());
    for lost in [
        Fates { windowed: 0, ..one },
        Fates { late: 0, ..one },
        Fates { duplicate: 0, ..one },
        Fates { dead_letter: 0, ..one },
        Fates { other: 0, ..one },
        Fates { refused: 0, ..one },
    ] {
        assert!(!lost.balance(), "{lost:?}");
    }
}

/// The minute at which a pause resolves.
fn resolved(output: &Output) -> Option<i64> {
    let mut ends = output.transitions.iter().filter(|t| (t.from, t.to) == (Phase::Firing, Phase::Quiet));
    ends.next().map(|t| t.at.minute().0 - START)
}

#[test]
fn a_window_that_reaches_into_a_gap_does_not_clear() {
    let events = steady(TREATMENT, "faithfulness", 0..140, 60, bad_from(60, 70));
    let mut whole = engine(vec![floor(5, RuleAction::PauseRollout)]);
    let usual = resolved(&run(&mut whole, &events, 0..140)).unwrap();
    let mut engine = engine(vec![floor(5, RuleAction::PauseRollout)]);
    run(&mut engine, &events, 0..78);
    let next = engine.report().sources[0].next_offset;
    let reason = "retention".into();
    engine.step(Input::Gap { source: source(0), from: next, to: next, anew: false, reason });
    let held_up = resolved(&run(&mut engine, &events, 78..140)).unwrap();
    // Five minutes of the window, and the lateness with which the first events behind the gap may still come.
    assert!((usual + 5..=usual + 7).contains(&held_up), "{usual}, {held_up}");
}

#[test]
fn what_no_window_reaches_any_more_is_forgotten() {
    let mut engine = engine(vec![floor(5, RuleAction::Rollback)]);
    let events = steady(TREATMENT, "faithfulness", 0..30, 60, bad_from(20, 30));
    assert_eq!(run(&mut engine, &events, 0..30).latches.len(), 1);
    assert_eq!(engine.memory().core.flips.len(), 1);
    rearm(&mut engine);
    run(&mut engine, &[], 30..30 + KEEP);
    assert_eq!((engine.memory().core.floors.len(), engine.memory().core.flips.len()), (1, 0));
    let longest = i64::from(Window::MOST.0) + 1;
    run(&mut engine, &[], 30 + KEEP..30 + longest);
    assert_eq!(engine.memory().core.floors.len(), 1, "a window of 30 days still reaches it");
    run(&mut engine, &[], 30 + longest..31 + longest);
    assert_eq!(engine.memory().core.floors.len(), 0, "every window has been filled anew");
}

#[test]
fn a_tenth_of_the_traffic_may_go_on_after_a_rollback_and_no_more() {
    for (per_minute, told) in [(6, false), (7, true)] {
        let mut engine = engine(vec![floor(60, RuleAction::Rollback)]);
        let before = steady(TREATMENT, "faithfulness", 0..80, 60, bad_from(60, 80));
        let output = run(&mut engine, &before, 0..80);
        let decision = &output.decisions[0];
        assert_eq!(decision.evidence.held, Duration::from_secs(180));
        engine.step(answer(decision, 80, FlipOutcome::Verified));
        let after = steady(TREATMENT, "faithfulness", 80..110, per_minute, |_, _| 0.97);
        let later = run(&mut engine, &after, 80..110);
        let still = later.orders.iter().find_map(|order| match order {
            Order::Page(message) if message.kind == MessageKind::StillServing => Some(message),
            _ => None,
        });
        let of = still.map(|m| (m.flag.clone(), m.variant.clone(), m.incident.clone()));
        let expected = (Some(FLAG.into()), Some(TREATMENT.into()), decision.incident.clone());
        assert_eq!(of, told.then_some(expected), "{per_minute} a minute");
    }
}

#[test]
fn what_is_pending_is_reported_with_the_interval_that_its_decision_will_have() {
    let mut engine = engine(vec![floor(60, RuleAction::Rollback)]);
    let events = steady(TREATMENT, "faithfulness", 0..90, 60, bad_from(60, 90));
    assert_eq!(engine.report().alerts.len(), 0);
    run(&mut engine, &events, 0..60);
    assert_eq!(engine.report().alerts[0].interval, None, "nobody asks while it is quiet");
    let mut minute = 60;
    while engine.report().alerts[0].phase == Phase::Quiet {
        run(&mut engine, &events, minute..minute + 1);
        minute += 1;
    }
    let alert = &engine.report().alerts[0];
    let (lower, upper) = alert.interval.unwrap();
    let value = alert.value.unwrap();
    assert!(lower < value && value < upper, "{lower} {value} {upper}");
    let rule = engine.settings().rules.rules[0].clone();
    assert_eq!(engine.interval(&rule, &Scope::All), alert.interval);
    assert_eq!(engine.evidence(&alert.key).unwrap().interval, alert.interval);
}

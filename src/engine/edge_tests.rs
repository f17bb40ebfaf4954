//! Edges of the engine's housekeeping: what is counted, what is let go and when, and the last value on either side of a bound.

use std::time::Duration;

use super::input::{Command, CommandKind, Fates, FlipOutcome, Input};
use super::machine::Engine;
use super::memory::Latch;
use super::message;
use super::output::{Decision, MessageKind, Order, Output, Phase, Verdicts};
use super::pane::Sums;
use super::rule::{Allowed, Arm, Measurement, Rule, RuleAction, Shape, Side, Stat, Window};
use super::series::KEEP;
use super::testkit::*;
use super::verdict::{Reason, Verdict};
use crate::model::flag::{Dimension, Scope};

fn floor(window: u32, action: RuleAction) -> Rule {
    rule("faithfulness", Stat::Mean, window, Side::Below, 0.9, action)
}

/// Bad between two minutes, good otherwise.
fn bad_from(from: i64, to: i64) -> impl Fn(i64, i64) -> f64 {
    move |minute, _| if (from..to).contains(&minute) { 0.5 } else { 0.97 }
}

fn command(engine: &mut Engine, kind: CommandKind) -> String {
    let command = Command { actor: "ada".into(), reason: "fixed".into(), at: at(0), kind };
    engine.step(Input::Command(command)).reply.unwrap().unwrap().said
}

fn rearm(engine: &mut Engine) {
    command(engine, CommandKind::Rearm { flag: FLAG.into(), scope: None, false_alarm: false });
}

/// The decision on a drop at minute 60, with the output up to minute 80.
fn dropped(rule: Rule, events: &[Ev]) -> (Engine, Output, Decision) {
    let mut engine = engine(vec![rule]);
    let output = run(&mut engine, events, 0..80);
    let decision = output.decisions[0].clone();
    (engine, output, decision)
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
    let one = Fates {
        consumed: 28,
        windowed: 1,
        late: 2,
        duplicate: 3,
        dead_letter: 4,
        other: 5,
        refused: 6,
        canary: 7,
    };
    let mut sum = one;
    sum.add(&one);
    let fates = [
        sum.consumed,
        sum.windowed,
        sum.late,
        sum.duplicate,
        sum.dead_letter,
        sum.other,
        sum.refused,
        sum.canary,
    ];
    assert_eq!(fates, [56, 2, 4, 6, 8, 10, 12, 14]);
    assert!(sum.balance());
    for lost in [
        Fates { windowed: 0, ..one },
        Fates { late: 0, ..one },
        Fates { duplicate: 0, ..one },
        Fates { dead_letter: 0, ..one },
        Fates { other: 0, ..one },
        Fates { refused: 0, ..one },
        Fates { canary: 0, ..one },
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

#[test]
fn a_story_says_in_words_what_moved_an_alert() {
    let mut engine = engine(vec![floor(5, RuleAction::PauseRollout)]);
    let events = steady(TREATMENT, "faithfulness", 0..140, 60, |minute, _| match minute {
        40..43 | 60..70 => 0.5,
        _ => 0.97,
    });
    let output = run(&mut engine, &events, 0..140);
    let said: Vec<_> = output.transitions.iter().map(|t| (t.from, t.to, t.why.as_str())).collect();
    let began = (Phase::Quiet, Phase::Pending, "in breach; waiting out `for`");
    assert_eq!(said[0], began);
    assert_eq!((said[1].0, said[1].1), (Phase::Pending, Phase::Quiet));
    assert!(said[1].2.starts_with("no longer in breach: "), "{said:?}");
    assert_eq!(said[2], began);
    assert_eq!(said[3], (Phase::Pending, Phase::Firing, "held for 3 min: act"));
    assert_eq!(said[4], (Phase::Firing, Phase::Quiet, "`clear` has held for `dwell`"));
    assert_eq!(said.len(), 5);
}

#[test]
fn a_pause_that_is_withheld_is_told() {
    let mut engine = engine(vec![floor(5, RuleAction::PauseRollout)]);
    assert!(command(&mut engine, CommandKind::Automation { on: false }).starts_with("automation is off"));
    let events = steady(TREATMENT, "faithfulness", 0..80, 60, bad_from(60, 80));
    let output = run(&mut engine, &events, 0..80);
    let told = |order: &Order| matches!(order, Order::Notify(m) if m.kind == MessageKind::Pause);
    assert_eq!((output.decisions.len(), output.orders.iter().filter(|o| told(o)).count()), (1, 1));
}

#[test]
fn commands_say_what_they_did() {
    let events = steady(TREATMENT, "faithfulness", 0..80, 60, bad_from(60, 80));
    let (mut engine, _, decision) = dropped(floor(60, RuleAction::Rollback), &events);
    let incident = decision.incident.unwrap();
    let said = command(&mut engine, CommandKind::ResolveIncident { incident: incident.clone() });
    assert_eq!(said, format!("incident {incident} is resolved"));
}

#[test]
fn a_decision_tells_of_both_arms_and_of_the_metrics_beside() {
    let mut events = steady(TREATMENT, "abstain", 0..80, 60, |m, i| f64::from(m >= 60 || i % 10 == 0));
    events.extend(steady(CONTROL, "abstain", 0..80, 30, |_, i| f64::from(i % 10 == 0)));
    events.extend(steady(TREATMENT, "latency", 0..80, 10, |_, _| 250.0));
    let (mut against, _) = any_rule(3, 60, 3);
    let (_, _, decision) = dropped(against.clone(), &events);
    let evidence = decision.evidence;
    assert_eq!(evidence.confirm, against.confirm);
    assert!(evidence.samples == 3_600 && evidence.baseline_samples == Some(1_800), "{evidence:?}");
    let context: Vec<_> = evidence.context.iter().map(|line| (line.metric.as_str(), line.value)).collect();
    assert_eq!(context.len(), 2);
    assert_eq!(context[0].0, "abstain_rate_1h");
    assert_eq!(context[1], ("latency_p95_1h", Some(250.0)));
    assert_eq!((evidence.context[0].control, evidence.context[1].control), (Some(0.1), None));

    // The same against a number, where a rule without a baseline has no second arm.
    against.condition = rule("abstain", Stat::Rate, 60, Side::Above, 0.25, RuleAction::Rollback).condition;
    against.baseline = None;
    events.retain(|event| event.variant == TREATMENT);
    let (_, output, decision) = dropped(against, &events);
    assert_eq!(decision.evidence.baseline_samples, None);
    assert!(output.grounds[0].judge_again(&decision).unwrap().same);
}

#[test]
fn a_page_about_traffic_that_goes_on_ends_when_it_has_fallen_well_below() {
    let before = steady(TREATMENT, "faithfulness", 0..80, 60, bad_from(60, 80));
    let (mut engine, _, decision) = dropped(floor(60, RuleAction::Rollback), &before);
    engine.step(answer(&decision, 80, FlipOutcome::Verified));
    // A tenth of 60 a minute is allowed; half of that is well below.
    let pace = |minute| match minute {
        80..95 => 20,
        95..110 => 4,
        _ => 2,
    };
    let rest: Vec<Ev> =
        (80..130).flat_map(|m| steady(TREATMENT, "faithfulness", m..m + 1, pace(m), |_, _| 0.97)).collect();
    let told = |output: &Output, kind| {
        let of = |order: &Order| matches!(order, Order::Page(m) | Order::Notify(m) if m.kind == kind);
        output.orders.iter().filter(|order| of(order)).count()
    };
    let first = run(&mut engine, &rest, 80..110);
    let ends = told(&first, MessageKind::Resolved);
    assert_eq!((told(&first, MessageKind::StillServing), ends), (1, 0));
    let second = run(&mut engine, &rest, 110..130);
    assert_eq!((told(&second, MessageKind::StillServing), told(&second, MessageKind::Resolved)), (0, 1));
}

#[test]
fn totals_are_compared_with_their_panes_every_hour() {
    let mut engine = engine(vec![floor(60, RuleAction::Rollback)]);
    let events = steady(TREATMENT, "faithfulness", 0..130, 60, bad_from(0, 0));
    run(&mut engine, &events, 0..30);
    engine.fleet.damage();
    let rebuilt: Vec<i64> = (30..130).filter(|m| run(&mut engine, &events, *m..*m + 1).rebuilt > 0).collect();
    let [at] = rebuilt[..] else { panic!("{rebuilt:?}") };
    assert_eq!((START + at) % 60, 0, "a closing at a full hour");
}

#[test]
fn sums_of_a_boolean_metric_are_those_of_its_samples() {
    for (n, trues) in [(0u64, 0u64), (5, 0), (5, 2), (5, 5)] {
        let mut one_by_one = Sums::default();
        (0..n).for_each(|i| one_by_one.record(if i < trues { 1_000_000 } else { 0 }));
        assert_eq!(Sums::of_counts(n, trues), one_by_one, "{trues} of {n}");
    }
}

#[test]
fn the_recent_part_is_a_twelfth_and_whole_hours_beyond_six() {
    let recent = |minutes: u32| Window(minutes).recent().0;
    let windows = [5, 30, 60, 360, 420, 1_440, 10_080, 43_200];
    assert_eq!(windows.map(recent), [5, 5, 5, 30, 35, 120, 840, 3_600]);
    assert_eq!(recent(7_260), 600, "605 minutes are ten whole hours");
}

#[test]
fn a_condition_of_several_measurements_counts_the_minutes_in_which_it_is_true() {
    let mut rule = floor(5, RuleAction::Rollback);
    rule.condition.shape = Shape::Other;
    rule.condition.slots.push(Measurement { arm: Arm::Own, ..rule.condition.slots[0] });
    let mut engine = engine(vec![rule.clone()]);
    let events = steady(TREATMENT, "faithfulness", 0..80, 60, bad_from(60, 80));
    run(&mut engine, &events, 0..62);
    let bad = |engine: &Engine| engine.judgements().next().unwrap().1.bad_minutes;
    run(&mut engine, &events, 62..63);
    assert_eq!(bad(&engine), 3);
    run(&mut engine, &events, 63..64);
    assert_eq!(bad(&engine), 4);
}

#[test]
fn a_minute_without_data_is_not_bad() {
    let mut engine = engine(vec![floor(60, RuleAction::Rollback)]);
    let mut events = steady(TREATMENT, "faithfulness", 0..2, 60, |_, _| 0.5);
    events.extend(steady(TREATMENT, "faithfulness", 10..12, 60, |_, _| 0.5));
    run(&mut engine, &events, 0..20);
    assert_eq!(engine.judgements().next().unwrap().1.bad_minutes, 4);
}

#[test]
fn a_latch_covers_its_own_slice_and_one_on_everybody_all_of_them() {
    let mut engine = engine(vec![floor(60, RuleAction::Rollback)]);
    let tenant = |name: &str| Scope::Only(Dimension::Tenant, name.into());
    let latch = |scope: &Scope| Latch {
        flag: FLAG.into(),
        scope: scope.clone(),
        variant: TREATMENT.into(),
        decision: "d".into(),
        incident: "inc-1".into(),
        at: at(0),
        outcome: None,
        flipped_at: None,
        events_before: 1.0,
        by_hand: false,
        escalated: false,
    };
    let scopes = [tenant("acme"), tenant("globex"), Scope::All];
    for (on, covered) in [(&scopes[0], [true, false, false]), (&scopes[2], [true; 3])] {
        engine.memory.core.latches = vec![latch(on)];
        let found = scopes.each_ref().map(|scope| engine.memory.latch(&FLAG.into(), scope).is_some());
        assert_eq!(found, covered, "{on}");
        assert!(engine.memory.latch(&"ai.other".into(), on).is_none());
    }
}

#[test]
fn an_incident_closes_fifteen_quiet_minutes_after_it_was_armed_again() {
    let mut engine = engine(vec![floor(5, RuleAction::Rollback)]);
    let events = steady(TREATMENT, "faithfulness", 0..60, 60, bad_from(20, 26));
    let closed = |output: &Output| output.orders.iter().any(|o| matches!(o, Order::CloseIncident { .. }));
    assert!(!closed(&run(&mut engine, &events, 0..40)), "latched");
    rearm(&mut engine);
    let ends: Vec<i64> = (40..60).filter(|m| closed(&run(&mut engine, &events, *m..*m + 1))).collect();
    let [end] = ends[..] else { panic!("{ends:?}") };
    assert!((54..=56).contains(&end), "{end}");
}

#[test]
fn of_several_rules_each_has_its_own_evidence_and_measurement() {
    let mut second = rule("latency", Stat::Mean, 5, Side::Above, 900.0, RuleAction::Notify);
    second.id = "slow".into();
    let mut engine = engine(vec![floor(5, RuleAction::Notify), second.clone()]);
    let mut events = steady(TREATMENT, "faithfulness", 0..30, 60, bad_from(0, 0));
    events.extend(steady(TREATMENT, "latency", 0..30, 60, |_, _| 250.0));
    run(&mut engine, &events, 0..30);
    let keys: Vec<_> = engine.judgements().map(|(key, _)| key.clone()).collect();
    for key in keys {
        let expected = if key.rule == second.id { 250.0 } else { 0.97 };
        let value = engine.evidence(&key).unwrap().value.unwrap();
        assert!((value - expected).abs() < 1e-6, "{}: {value}", key.rule);
    }
    assert_eq!(engine.measured(&second, &Scope::All), (Some(250.0), Some(900.0)));
    assert_eq!(engine.fleet.len(), 2);
}

#[test]
fn as_many_samples_as_a_rule_needs_are_enough() {
    for (need, pass) in [(59, true), (60, true), (61, false)] {
        let mut rule = floor(5, RuleAction::Notify);
        rule.min_samples = need;
        let mut engine = engine(vec![rule]);
        run(&mut engine, &steady(TREATMENT, "faithfulness", 0..10, 12, bad_from(0, 0)), 0..10);
        let verdict = &engine.judgements().next().unwrap().1.verdict;
        let few = Verdict::Inconclusive { reason: Reason::TooFewSamples { have: 60, need } };
        assert_eq!(*verdict, if pass { Verdict::Pass } else { few });
    }
}

#[test]
fn a_gap_says_which_offsets_and_what_it_means() {
    let told = message::gap(&source(3), 5..9, "retention", at(0));
    assert!(told.summary.contains("/3: offsets 5..9 are not in the windows: retention"), "{}", told.summary);
    assert!(told.detail.contains("until their windows have left it behind"), "{}", told.detail);
}

#[test]
fn burn_rates_and_budgets_mean_a_rate_of_bad_samples() {
    let allowed = Allowed(10_000);
    let of = |stat: Stat, value| stat.rate_at(value).map(|rate| (rate * 1e6).round());
    assert_eq!(of(Stat::Burn(allowed), 14.4), Some(144_000.0));
    assert_eq!(of(Stat::Budget(allowed), 0.25), Some(7_500.0));
    assert_eq!((of(Stat::Rate, 0.2), of(Stat::Mean, 0.2)), (Some(200_000.0), None));
}

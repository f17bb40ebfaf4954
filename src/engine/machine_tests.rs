//! Scenarios: a stream in, decisions out.

use super::super::input::{Command, CommandKind, FlipOutcome, Input};
use super::super::output::{CommandError, Gate, MessageKind, Order, Output};
use super::super::rule::{RuleAction, Side, Stat};
use super::super::testkit::*;
use crate::model::flag::{Dimension, Scope, Served};
use crate::model::time::Minute;

fn floor(window: u32, threshold: f64, action: RuleAction) -> super::Rule {
    rule("faithfulness", Stat::Mean, window, Side::Below, threshold, action)
}

fn drop_at(minute: i64) -> impl Fn(i64, i64) -> f64 {
    move |m, _| if m >= minute { 0.5 } else { 0.95 }
}

fn command(kind: CommandKind) -> Input {
    Input::Command(Command { actor: "ada".into(), reason: "fixed the prompt".into(), at: at(0), kind })
}

fn pins(output: &Output) -> usize {
    output.orders.iter().filter(|o| matches!(o, Order::Pin { .. })).count()
}

#[test]
fn a_real_regression_is_rolled_back_once_within_ten_minutes_and_latches() {
    let mut engine = engine(vec![floor(60, 0.9, RuleAction::Rollback)]);
    let events = steady(TREATMENT, "faithfulness", 0..240, 60, drop_at(120));
    let output = run(&mut engine, &events, 0..240);
    assert_eq!(output.decisions.len(), 1);
    let decision = &output.decisions[0];
    assert_eq!(decision.gate, Gate::Act);
    assert_eq!(pins(&output), 1);
    let t0 = decision.t0.minute().0 - START;
    assert!((120..130).contains(&t0), "{t0}");
    // Event time from the start of the pane at T0 to the decision: 60 s of pane, then `for`.
    assert_eq!(decision.at.since(decision.t0).as_secs(), 60 + 180);
    assert!(decision.evidence.value.is_some_and(|v| v < 0.9));
    assert!(decision.evidence.bad_minutes >= 3);
    assert_eq!(decision.evidence.tenants, 17);
    let orders: Vec<&str> = output.orders.iter().map(name).collect();
    assert_eq!(orders, ["open", "pin", "page"]);
}

fn name(order: &Order) -> &'static str {
    match order {
        Order::Pin { .. } => "pin",
        Order::Unpin { .. } => "unpin",
        Order::Freeze { .. } => "freeze",
        Order::Unfreeze { .. } => "unfreeze",
        Order::OpenIncident(_) => "open",
        Order::JoinIncident { .. } => "join",
        Order::CloseIncident { .. } => "close",
        Order::Page(_) => "page",
        Order::Notify(_) => "notify",
    }
}

#[test]
fn one_terrible_minute_does_nothing_even_at_ten_times_the_traffic() {
    let mut engine =
        engine(vec![floor(60, 0.9, RuleAction::Rollback), floor(5, 0.9, RuleAction::PauseRollout)]);
    let mut events = steady(TREATMENT, "faithfulness", 0..180, 60, |_, _| 0.95);
    events.extend(steady(TREATMENT, "faithfulness", 90..91, 600, |_, _| 0.0));
    let output = run(&mut engine, &events, 0..180);
    assert_eq!(output.decisions, []);
    assert_eq!(output.transitions, []);
}

#[test]
fn a_pause_freezes_and_resolves_by_itself() {
    let mut engine = engine(vec![floor(60, 0.9, RuleAction::PauseRollout)]);
    let value = |m: i64, _| if (60..75).contains(&m) { 0.5 } else { 0.97 };
    let output = run(&mut engine, &steady(TREATMENT, "faithfulness", 0..240, 60, value), 0..240);
    let orders: Vec<&str> = output.orders.iter().map(name).collect();
    assert_eq!(orders, ["freeze", "notify", "unfreeze", "notify"]);
}

#[test]
fn the_strongest_action_wins_and_further_rules_join_the_episode() {
    let mut other = floor(60, 0.85, RuleAction::Rollback);
    other.id = "second".into();
    let mut engine =
        engine(vec![floor(60, 0.9, RuleAction::PauseRollout), floor(60, 0.9, RuleAction::Rollback), other]);
    let events = steady(TREATMENT, "faithfulness", 0..240, 60, drop_at(120));
    let output = run(&mut engine, &events, 0..240);
    assert_eq!(pins(&output), 1);
    let gates: Vec<(RuleAction, &str)> =
        output.decisions.iter().map(|d| (d.action, d.gate.as_str())).collect();
    assert_eq!(
        gates,
        [
            (RuleAction::Rollback, "act"),
            (RuleAction::PauseRollout, "already_latched"),
            (RuleAction::Rollback, "already_latched"),
        ]
    );
    let orders: Vec<&str> = output.orders.iter().map(name).collect();
    assert_eq!(orders, ["open", "pin", "page", "join"]);
}

#[test]
fn rearming_starts_windows_anew_and_an_old_breach_does_not_fire_again() {
    let mut engine = engine(vec![floor(360, 0.9, RuleAction::Rollback)]);
    let value = |m: i64, _| if (120..400).contains(&m) { 0.5 } else { 0.97 };
    let events = steady(TREATMENT, "faithfulness", 0..800, 60, value);
    let first = run(&mut engine, &events, 0..400);
    assert_eq!(pins(&first), 1);
    let flag = FLAG.into();
    let rearmed = engine.step(command(CommandKind::Rearm { flag, scope: None, false_alarm: false }));
    assert!(rearmed.reply.is_some_and(|r| r.is_ok()));
    assert_eq!(rearmed.orders.iter().map(name).collect::<Vec<_>>(), ["unpin"]);
    let again = run(&mut engine, &events, 400..800);
    assert_eq!(pins(&again), 0, "the old panes are no longer read");
    assert_eq!(again.orders.iter().map(name).collect::<Vec<_>>(), ["close"], "re-armed and quiet");
    let reply =
        engine.step(command(CommandKind::Rearm { flag: FLAG.into(), scope: None, false_alarm: false })).reply;
    assert!(matches!(reply, Some(Err(CommandError::NotLatched { .. }))));
    let reply = engine
        .step(command(CommandKind::Rearm { flag: "ai.typo".into(), scope: None, false_alarm: false }))
        .reply;
    assert!(matches!(reply, Some(Err(CommandError::UnknownFlag { .. }))));
}

#[test]
fn automation_off_pages_and_acts_once_it_is_on_again() {
    let mut engine = engine(vec![floor(60, 0.9, RuleAction::Rollback)]);
    engine.step(command(CommandKind::Automation { on: false }));
    let events = steady(TREATMENT, "faithfulness", 0..240, 60, drop_at(60));
    let off = run(&mut engine, &events, 0..120);
    assert_eq!(off.orders.iter().map(name).collect::<Vec<_>>(), ["open", "page"]);
    assert_eq!(off.decisions[0].gate, Gate::AutomationOff);
    engine.step(command(CommandKind::Automation { on: true }));
    let on = run(&mut engine, &events, 120..130);
    assert_eq!(on.orders.iter().map(name).collect::<Vec<_>>(), ["join", "pin", "page"]);
    assert_ne!(on.decisions[0].id, off.decisions[0].id);
    assert_eq!(on.decisions[0].incident, off.decisions[0].incident);
}

#[test]
fn a_dry_run_says_what_it_would_do_and_does_nothing() {
    let mut dry = floor(60, 0.9, RuleAction::Rollback);
    dry.dry_run = true;
    let mut engine = engine(vec![dry]);
    let output = run(&mut engine, &steady(TREATMENT, "faithfulness", 0..240, 60, drop_at(60)), 0..240);
    assert_eq!(output.decisions.len(), 1);
    assert_eq!(output.orders.iter().map(name).collect::<Vec<_>>(), ["notify"]);
}

#[test]
fn when_control_breaches_too_it_is_the_world_and_a_human_is_paged() {
    let mut engine = engine(vec![floor(60, 0.9, RuleAction::Rollback)]);
    let mut events = steady(TREATMENT, "faithfulness", 0..180, 60, drop_at(60));
    events.extend(steady(CONTROL, "faithfulness", 0..180, 60, drop_at(60)));
    let output = run(&mut engine, &events, 0..180);
    assert!(matches!(output.decisions[0].gate, Gate::WorldBreach { .. }));
    assert_eq!(output.orders.iter().map(name).collect::<Vec<_>>(), ["open", "page"]);
}

const VARIANTS: [&str; 6] = ["a.v2", "b.v2", "c.v2", "d.v2", "e.v2", "f.v2"];

fn many(count: usize) -> Vec<super::Rule> {
    VARIANTS[..count]
        .iter()
        .map(|v| {
            let mut rule = floor(60, 0.9, RuleAction::Rollback);
            rule.variant = (*v).into();
            rule.flag = format!("ai.{v}").into();
            rule.baseline = Some(format!("{v}-control").into());
            rule
        })
        .collect()
}

#[test]
fn most_variants_breaching_together_is_the_world() {
    let mut engine = engine(many(4));
    let events: Vec<Ev> =
        VARIANTS[..3].iter().flat_map(|v| steady(v, "faithfulness", 0..120, 60, drop_at(60))).collect();
    let healthy = steady("d.v2", "faithfulness", 0..120, 60, |_, _| 0.97);
    let output = run(&mut engine, &[events, healthy].concat(), 0..120);
    assert_eq!(pins(&output), 0);
    assert!(output.decisions.iter().all(|d| matches!(d.gate, Gate::WorldBreach { .. })));
}

#[test]
fn flips_are_limited_and_go_on_when_the_limit_allows() {
    let mut engine = engine(many(3));
    engine.settings.limits.flips = 1;
    let events: Vec<Ev> =
        VARIANTS[..3].iter().flat_map(|v| steady(v, "faithfulness", 0..180, 60, drop_at(60))).collect();
    let output = run(&mut engine, &events, 0..180);
    let acted: Vec<i64> =
        output.decisions.iter().filter(|d| d.gate == Gate::Act).map(|d| d.at.minute().0 - START).collect();
    assert_eq!(acted.len(), 3);
    assert!(acted.windows(2).all(|pair| pair[1] - pair[0] >= 10), "{acted:?}");
    assert_eq!(output.orders.iter().filter(|o| matches!(o, Order::OpenIncident(_))).count(), 3);
}

#[test]
fn a_rule_by_tenant_pins_only_the_bad_tenant() {
    let mut by_tenant = floor(60, 0.9, RuleAction::Rollback);
    by_tenant.by = Some(Dimension::Tenant);
    let mut elsewhere = settings(vec![by_tenant.clone()]);
    let mut engine = engine(vec![by_tenant]);
    let events: Vec<Ev> = (0..150i64)
        .flat_map(|m| (0..40i64).map(move |i| (m, i)))
        .map(|(m, i)| Ev {
            at: m * 60_000 + i * 1_000,
            variant: TREATMENT,
            metric: "faithfulness",
            value: if m >= 60 && i % 4 == 1 { 0.3 } else { 0.97 },
            tenant: (i % 4).unsigned_abs(),
        })
        .collect();
    let output = run(&mut engine, &events, 0..150);
    assert_eq!(output.decisions.len(), 1);
    assert_eq!(output.decisions[0].scope, Scope::Only(Dimension::Tenant, "t1".into()));

    // Another platform knows only everybody: a human is paged, and nothing is moved.
    elsewhere.flags[0].served = Some(Served {
        platform: "prod".into(),
        kind: "flagd".into(),
        key: "a".into(),
        id: None,
        control: "v1".into(),
        treatment: "v2".into(),
        worst: std::time::Duration::from_secs(35),
    });
    let mut engine = super::Engine::new(elsewhere);
    engine.step(Input::Assign { sources: vec![source(0)], start: Some(at(0)) });
    let output = run(&mut engine, &events, 0..150);
    assert_eq!(output.decisions[0].gate, Gate::NoSlices { platform: "prod".into() });
    assert!(output.orders.iter().any(|order| matches!(order, Order::Page(_))));
    assert!(!output.orders.iter().any(|order| matches!(order, Order::Pin { .. })));
}

#[test]
fn catching_up_judges_but_acts_only_when_caught_up() {
    let mut engine = engine(vec![floor(60, 0.9, RuleAction::Rollback)]);
    engine.step(Input::Advance(at(300 * 60_000)));
    let events = steady(TREATMENT, "faithfulness", 0..300, 60, drop_at(100));
    let behind = run(&mut engine, &events, 0..290);
    assert_eq!(behind.decisions, []);
    let caught_up = run(&mut engine, &events, 290..300);
    assert_eq!(pins(&caught_up), 1);
}

#[test]
fn blindness_is_paged_once_and_its_end_is_told() {
    let mut engine = engine(vec![floor(60, 0.9, RuleAction::Rollback)]);
    run(&mut engine, &steady(TREATMENT, "faithfulness", 0..10, 60, |_, _| 0.97), 0..10);
    let said = |engine: &super::Engine| engine.report().alerts[0].verdict.clone();
    engine.step(Input::Advance(at(11 * 60_000)));
    assert_eq!(said(&engine), "pass");
    engine.step(Input::Connection { up: false, reason: "broker down".into() });
    assert_eq!(said(&engine), "inconclusive: the event source cannot be reached: broker down");
    let mut orders = Vec::new();
    for minute in 11..20 {
        orders.extend(engine.step(Input::Advance(at(minute * 60_000))).orders);
    }
    assert_eq!(orders.iter().map(name).collect::<Vec<_>>(), ["page"]);
    engine.step(Input::Connection { up: true, reason: String::new() });
    assert_eq!(said(&engine), "inconclusive: event time is 510 s behind");
    engine.step(Input::Idle { source: source(0), at: at(20 * 60_000) });
    let orders = engine.step(Input::Advance(at(20 * 60_000))).orders;
    assert_eq!(orders.iter().map(name).collect::<Vec<_>>(), ["notify"]);
}

#[test]
fn a_variant_that_still_serves_after_its_rollback_is_escalated() {
    let mut engine = engine(vec![floor(60, 0.9, RuleAction::Rollback)]);
    // It has been served for some twenty minutes when it is rolled back: that it was not there before says nothing of its pace.
    let events = steady(TREATMENT, "faithfulness", 50..200, 60, drop_at(60));
    let output = run(&mut engine, &events, 0..100);
    let decision = &output.decisions[0];
    engine.step(answer(decision, 100, FlipOutcome::Verified));
    let later = run(&mut engine, &events, 100..200);
    assert_eq!(later.orders.iter().map(name).collect::<Vec<_>>(), ["page"]);
    let told = |orders: &[Order]| match orders {
        [Order::Page(message) | Order::Notify(message)] => {
            (message.kind, message.dedup_key.clone(), message.summary.clone())
        }
        other => panic!("{other:?}"),
    };
    let (kind, key, summary) = told(&later.orders);
    assert_eq!(kind, MessageKind::StillServing);
    assert!(summary.ends_with("60.0 events/min, 60.0 before"), "{summary}");
    let mut rearmed = engine.clone();
    let stopped = run(&mut engine, &[], 200..210);
    let (kind, resolved, _) = told(&stopped.orders);
    assert_eq!((kind, &resolved), (MessageKind::Resolved, &key), "its traffic has stopped");
    assert_eq!(run(&mut engine, &[], 210..230).orders, []);
    let output =
        rearmed.step(command(CommandKind::Rearm { flag: FLAG.into(), scope: None, false_alarm: false }));
    let (kind, resolved, _) = told(&output.orders[..1]);
    assert_eq!((kind, resolved), (MessageKind::Resolved, key), "it may serve again");
}

#[test]
fn an_expired_flip_takes_its_latch_off_and_fresh_data_decides() {
    let mut engine = engine(vec![floor(60, 0.9, RuleAction::Rollback)]);
    let events = steady(TREATMENT, "faithfulness", 0..200, 60, drop_at(60));
    let first = run(&mut engine, &events, 0..100);
    let decision = first.decisions[0].id.clone();
    engine.step(answer(&first.decisions[0], 100, FlipOutcome::Expired));
    let second = run(&mut engine, &events, 100..120);
    assert_eq!(pins(&second), 1);
    assert_ne!(second.decisions[0].id, decision);
}

#[test]
fn a_removed_rule_ends_its_pause_and_keeps_its_latch() {
    let mut other = floor(60, 0.9, RuleAction::PauseRollout);
    other.flag = "ai.other".into();
    other.variant = "other.v2".into();
    let rules = vec![floor(60, 0.9, RuleAction::Rollback), other];
    let mut engine = engine(rules);
    let mut events = steady(TREATMENT, "faithfulness", 0..120, 60, drop_at(60));
    events.extend(steady("other.v2", "faithfulness", 0..120, 60, drop_at(60)));
    run(&mut engine, &events, 0..120);
    let mut settings = engine.settings().clone();
    settings.rules = std::sync::Arc::default();
    let output = engine.step(Input::Reload(Box::new(settings)));
    assert_eq!(output.orders.iter().map(name).collect::<Vec<_>>(), ["unfreeze", "notify"]);
    assert_eq!(engine.report().latches.len(), 1);
    assert_eq!(engine.memory().alerts().count(), 0);
}

#[test]
fn silence_is_told_after_fifteen_minutes_and_never_rolls_back() {
    let mut engine = engine(vec![floor(60, 0.9, RuleAction::Rollback)]);
    let events = steady(TREATMENT, "faithfulness", 0..60, 60, |_, _| 0.97);
    let output = run(&mut engine, &events, 0..300);
    assert_eq!(output.decisions, []);
    assert_eq!(output.orders.iter().map(name).collect::<Vec<_>>(), ["notify"]);
    assert_eq!(engine.report().closed, Some(Minute(START + 299)));
}

#[test]
fn a_gap_moves_the_source_on_but_not_below_a_position_that_is_being_restored() {
    let gap = |from, to, anew| Input::Gap { source: source(0), from, to, anew, reason: "retention".into() };
    let mut engine = engine(vec![floor(60, 0.9, RuleAction::Rollback)]);
    run(&mut engine, &steady(TREATMENT, "faithfulness", 0..2, 60, |_, _| 0.97), 0..2);
    let output = engine.step(gap(120, 500, false));
    assert_eq!(output.orders.iter().map(name).collect::<Vec<_>>(), ["page"]);
    assert_eq!(engine.report().sources[0].next_offset, 500);
    let memory = engine.memory().clone();
    let (mut restored, _) = super::Engine::restore(engine.settings().clone(), memory, None).unwrap();
    restored.step(gap(0, 300, false));
    assert_eq!(restored.report().sources[0].next_offset, 500, "read again up to 500, from 300");
    restored.step(gap(500, 0, true));
    assert_eq!(restored.report().sources[0].next_offset, 0, "the log was made anew");
}

#[test]
fn nothing_is_judged_over_a_gap_and_everything_behind_it_is() {
    let bad = |m: i64, _| if (60..66).contains(&m) || m >= 90 { 0.5 } else { 0.95 };
    let events = steady(TREATMENT, "faithfulness", 0..110, 60, bad);
    let quick = || engine(vec![floor(5, 0.9, RuleAction::Rollback)]);
    let mut whole = quick();
    assert_eq!(run(&mut whole, &events, 0..80).decisions.len(), 1, "without a gap it fires");
    let mut engine = quick();
    run(&mut engine, &events, 0..62);
    let next = engine.report().sources[0].next_offset;
    let reason = "retention".into();
    engine.step(Input::Gap { source: source(0), from: next, to: next + 900, anew: false, reason });
    assert_eq!(run(&mut engine, &events, 62..66).decisions, []);
    assert!(engine.report().alerts[0].verdict.contains("missing"), "{:?}", engine.report().alerts);
    assert_eq!(run(&mut engine, &events, 66..90).decisions, []);
    assert_eq!(engine.report().alerts[0].verdict, "pass");
    assert_eq!(run(&mut engine, &events, 90..110).decisions.len(), 1);
}

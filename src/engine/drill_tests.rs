//! What is marked as a drill is so everywhere, nothing else is, and it is in no real rollback's way.

use super::*;
use crate::engine::input::{Command, CommandKind, DrillFrom, Input};
use crate::engine::machine::Engine;
use crate::engine::output::{Gate, Message, Output, Reply};
use crate::engine::rule::{Confirm, Rule, Side, Stat};
use crate::engine::testkit::*;
use crate::model::id::FlagKey;

const OTHER: &str = "ai.other.v2";

fn floor() -> Rule {
    rule("faithfulness", Stat::Mean, 60, Side::Below, 0.9, RuleAction::Rollback)
}

/// The same on a flag and variant of its own.
fn other() -> Rule {
    Rule { flag: OTHER.into(), variant: "other.v2".into(), baseline: Some("other.v1".into()), ..floor() }
}

fn practised(rules: Vec<Rule>) -> Engine {
    let mut engine = engine(rules);
    engine.settings.flags.iter_mut().for_each(|spec| spec.drill = spec.key.as_str() == FLAG);
    engine
}

fn ask(engine: &mut Engine, kind: CommandKind) -> (Output, Result<Reply, CommandError>) {
    let command = Command { actor: "ann".into(), reason: "first Monday".into(), at: at(61 * 60_000), kind };
    let mut output = engine.step(Input::Command(command));
    let reply = output.reply.take().unwrap();
    (output, reply)
}

fn drill(flag: &str, from: DrillFrom) -> CommandKind {
    CommandKind::Drill { flag: flag.into(), from }
}

fn rearm(false_alarm: bool) -> CommandKind {
    CommandKind::Rearm { flag: FLAG.into(), scope: None, false_alarm }
}

/// Good until minute 60, bad from then on.
fn drops(variant: &'static str) -> Vec<Ev> {
    steady(variant, "faithfulness", 0..150, 60, |m, _| if m >= 60 { 0.5 } else { 0.95 })
}

/// Every line that people read in it, with the flag that it is about.
fn lines(output: &Output) -> Vec<(Option<FlagKey>, String)> {
    let of = |message: &Message| (message.flag.clone(), message.summary.clone());
    let line = |order: &Order| match order {
        Order::Page(message) | Order::Notify(message) => Some(of(message)),
        Order::OpenIncident(incident) => Some((Some(incident.flag.clone()), incident.title.clone())),
        _ => None,
    };
    output.orders.iter().filter_map(line).collect()
}

#[test]
fn a_drill_goes_the_way_of_a_rollback_and_is_marked_all_along() {
    let mut engine = practised(vec![floor()]);
    let (output, reply) = ask(&mut engine, drill(FLAG, DrillFrom::Decision));
    let decision = &output.decisions[0];
    assert_eq!(reply.unwrap().decision.as_ref(), Some(&decision.id));
    assert_eq!((decision.drill, &*decision.failure_class, &decision.gate), (true, CLASS, &Gate::Act));
    assert_eq!(serde_json::to_value(decision).unwrap()["drill"], true, "as it is published");
    let [Order::OpenIncident(incident), Order::Pin { by, .. }, Order::Page(page)] = &output.orders[..] else {
        panic!("{output:?}")
    };
    assert_eq!((&*incident.failure_class, by.as_deref()), (CLASS, Some("ann")));
    assert!(incident.title.starts_with("[DRILL] ") && page.summary.starts_with("[DRILL] "));
    assert_eq!(page.decision.as_ref(), Some(&decision.id));

    // What is left of it stands in the way of the next one, and says so.
    let refused = |engine: &mut Engine, part: &str| {
        let (output, reply) = ask(engine, drill(FLAG, DrillFrom::Decision));
        let error = reply.unwrap_err().to_string();
        assert!(error.contains(part) && output == Output::default(), "{error}");
    };
    refused(&mut engine, "re-arm it first");
    ask(&mut engine, rearm(false)).1.unwrap();
    refused(&mut engine, "resolve that first");
    let incident = incident.incident.clone();
    ask(&mut engine, CommandKind::ResolveIncident { incident }).1.unwrap();
    ask(&mut engine, drill(FLAG, DrillFrom::Decision)).1.unwrap();
}

#[test]
fn no_real_flag_is_practised_on() {
    for flags_are_drills in [false, true] {
        let mut engine = engine(vec![floor()]);
        engine.settings.flags[0].drill = flags_are_drills;
        let before = serde_json::to_string(&engine.memory().core).unwrap();
        for from in [DrillFrom::Decision, DrillFrom::Events] {
            let flag = if flags_are_drills { "ai.typo" } else { FLAG };
            let (output, reply) = ask(&mut engine, drill(flag, from));
            let wanted = match flags_are_drills {
                true => CommandError::UnknownFlag { flag: flag.into() },
                false => CommandError::NotForDrills { flag: flag.into() },
            };
            assert_eq!((reply, output), (Err(wanted), Output::default()));
        }
        assert_eq!(serde_json::to_string(&engine.memory().core).unwrap(), before);
    }
}

#[test]
fn a_rule_on_a_flag_for_drills_decides_as_on_any_other_and_only_the_marks_differ() {
    let (mut real, mut practice) = (engine(vec![floor()]), practised(vec![floor()]));
    let mut expected = run(&mut real, &drops(TREATMENT), 0..150);
    let found = run(&mut practice, &drops(TREATMENT), 0..150);
    assert!(lines(&expected).iter().all(|(_, line)| !line.contains("DRILL")));
    assert!(!lines(&found).is_empty() && lines(&found).iter().all(|(_, line)| line.starts_with("[DRILL] ")));
    assert!(expected.decisions.iter().all(|d| d.gate == Gate::Act) && !expected.decisions.is_empty());
    mark(&practice.settings, &mut expected);
    assert_eq!(found, expected);
}

#[test]
fn drills_count_into_no_limit_and_wait_for_none() {
    let mut engine = practised(vec![floor(), other()]);
    engine.settings.limits.flips = 1;
    let (first, second) = (drops(TREATMENT), drops("other.v2"));
    let events: Vec<Ev> = first.into_iter().chain(second).collect();
    let output = run(&mut engine, &events, 0..150);
    let gate =
        |flag: &str| output.decisions.iter().find(|d| d.key.flag.as_str() == flag).unwrap().gate.clone();
    assert_eq!((gate(FLAG), gate(OTHER)), (Gate::Act, Gate::Act), "one real rollback is allowed");
    let flips: Vec<&str> = engine.memory().core.flips.iter().map(|flip| flip.flag.as_str()).collect();
    assert!(!flips.contains(&FLAG), "{flips:?}");
    for (flag, line) in lines(&output) {
        assert_eq!(line.starts_with("[DRILL] "), flag == Some(FLAG.into()), "{line}");
    }

    // None is left, and the drill goes on all the same.
    let mut engine = practised(vec![floor(), other()]);
    engine.settings.limits.flips = 0;
    let output = run(&mut engine, &events, 0..150);
    let acted =
        |flag: &str| output.decisions.iter().any(|d| d.key.flag.as_str() == flag && d.gate == Gate::Act);
    assert_eq!((acted(FLAG), acted(OTHER)), (true, false));
}

#[test]
fn rules_on_flags_for_drills_ask_no_more_evidence_of_the_others() {
    let by_evidence = |rule: Rule| Rule { confirm: Confirm::Evidence, ..rule };
    let needed = |mut engine: Engine| {
        run(&mut engine, &drops("other.v2"), 0..30);
        let alerts = engine.report().alerts;
        alerts.iter().find(|alert| alert.key.flag.as_str() == OTHER).unwrap().evidence_needed.unwrap()
    };
    let alone = needed(engine(vec![by_evidence(other())]));
    let both = vec![by_evidence(floor()), by_evidence(other())];
    assert_eq!(needed(practised(both.clone())), alone);
    assert_eq!(needed(engine(both)), 2.0 * alone);
}

#[test]
fn what_would_withhold_the_rollback_is_told_before_events_are_written() {
    let ready = |engine: &mut Engine| {
        let (output, reply) = ask(engine, drill(FLAG, DrillFrom::Events));
        assert_eq!(output, Output::default());
        reply.map_err(|error| error.to_string())
    };
    let armed = |rules: Vec<Rule>| {
        let mut engine = practised(rules);
        run(&mut engine, &drops(TREATMENT), 0..5);
        engine
    };
    assert_eq!(ready(&mut armed(vec![floor()])).unwrap().decision, None);
    let pause = Rule { action: RuleAction::PauseRollout, ..floor() };
    let dry = Rule { dry_run: true, ..floor() };
    let mut behind = armed(vec![floor()]);
    behind.step(Input::Advance(at(60 * 60_000)));
    for (mut engine, why) in [
        (armed(vec![pause]), "no rule in force rolls it back"),
        (armed(vec![dry]), "run dry"),
        (behind, "nothing is judged now"),
    ] {
        assert!(ready(&mut engine).unwrap_err().contains(why));
    }
    let mut engine = armed(vec![floor()]);
    ask(&mut engine, CommandKind::Automation { on: false }).1.unwrap();
    assert!(ready(&mut engine).unwrap_err().contains("automation"));
}

#[test]
fn silence_between_drills_is_told_nobody() {
    let told = |mut engine: Engine| {
        let events = steady(TREATMENT, "faithfulness", 0..90, 60, |_, _| 0.95);
        let output = run(&mut engine, &events, 0..300);
        let of =
            |order: &&Order| matches!(order, Order::Notify(message) if message.kind == MessageKind::NoData);
        output.orders.iter().filter(of).count()
    };
    assert_eq!((told(engine(vec![floor()])), told(practised(vec![floor()]))), (1, 0));
}

#[test]
fn a_drill_is_never_counted_as_a_false_alarm() {
    let mut engine = practised(vec![floor()]);
    ask(&mut engine, drill(FLAG, DrillFrom::Decision)).1.unwrap();
    let (output, reply) = ask(&mut engine, rearm(true));
    assert_eq!((reply, output), (Err(CommandError::NoFalseAlarm { flag: FLAG.into() }), Output::default()));
    assert_eq!(engine.memory().core.latches.len(), 1);
    ask(&mut engine, rearm(false)).1.unwrap();
}

#[test]
fn drills_neither_make_a_world_breach_nor_wait_for_one() {
    const REAL: [&str; 4] = ["real0.v2", "real1.v2", "real2.v2", "real3.v2"];
    const DRILLS: [&str; 4] = ["drill0.v2", "drill1.v2", "drill2.v2", "drill3.v2"];
    let gates = |bad_real: usize| {
        let on = |variant: &&str| Rule {
            flag: format!("ai.{variant}").into(),
            variant: (*variant).into(),
            baseline: None,
            ..floor()
        };
        let mut engine = engine(REAL.iter().chain(&DRILLS).map(on).collect());
        engine.settings.flags.iter_mut().for_each(|spec| spec.drill = spec.key.as_str().contains("drill"));
        let healthy = |variant| steady(variant, "faithfulness", 0..90, 60, |_, _| 0.95);
        let events: Vec<Ev> =
            REAL[..bad_real].iter().chain(&DRILLS).flat_map(|variant| drops(variant)).collect();
        let healthy = REAL[bad_real..].iter().flat_map(|variant| healthy(variant));
        let events: Vec<Ev> = events.into_iter().filter(|e| e.at < 90 * 60_000).chain(healthy).collect();
        let output = run(&mut engine, &events, 0..90);
        let acted = |word: &str| {
            let of = |d: &&crate::engine::output::Decision| {
                d.variant.as_str().starts_with(word) && d.gate == Gate::Act
            };
            output.decisions.iter().filter(of).count()
        };
        (acted("real"), acted("drill"))
    };
    assert_eq!(gates(1), (1, 4), "four drills that breach are no world that breaks");
    assert_eq!(gates(3), (0, 4), "a world that breaks withholds no drill");
}

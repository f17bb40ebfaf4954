//! What humans do by hand: whatever stands in a rule's way, once, and to be played again.

use super::input::{Command, CommandKind, FlipOutcome, Input};
use super::machine::Engine;
use super::output::{CommandError, Gate, LatchChange, MessageKind, Order, Output, Reply};
use super::rule::{Rule, RuleAction, Side, Stat};
use super::testkit::*;
use crate::model::flag::{Dimension, Scope, Served};

fn floor(window: u32, action: RuleAction) -> Rule {
    rule("faithfulness", Stat::Mean, window, Side::Below, 0.9, action)
}

fn by_ann(engine: &mut Engine, kind: CommandKind) -> (Output, Result<Reply, CommandError>) {
    let command = Command { actor: "ann".into(), reason: "leaks data".into(), at: at(61 * 60_000), kind };
    let mut output = engine.step(Input::Command(command));
    let reply = output.reply.take().unwrap();
    (output, reply)
}

fn roll_back(scope: Scope) -> CommandKind {
    CommandKind::RollBack { flag: FLAG.into(), scope }
}

fn acme() -> Scope {
    Scope::Only(Dimension::Tenant, "acme".into())
}

fn names(output: &Output) -> Vec<&'static str> {
    let name = |order: &Order| match order {
        Order::Pin { .. } => "pin",
        Order::Unpin { .. } => "unpin",
        Order::Freeze { .. } => "freeze",
        Order::Unfreeze { .. } => "unfreeze",
        Order::OpenIncident(_) => "open",
        Order::JoinIncident { .. } => "join",
        Order::CloseIncident { .. } => "close",
        Order::Page(_) => "page",
        Order::Notify(_) => "notify",
    };
    output.orders.iter().map(name).collect()
}

/// Good until minute 60, bad from then on.
fn drops(until: i64) -> Vec<Ev> {
    steady(TREATMENT, "faithfulness", 0..until, 60, |m, _| if m >= 60 { 0.5 } else { 0.95 })
}

#[test]
fn a_rollback_by_hand_acts_whatever_withholds_a_rules() {
    for (automation, dry_run) in [(true, false), (false, false), (true, true)] {
        let mut engine = engine(vec![floor(60, RuleAction::Rollback)]);
        engine.settings.dry_run = dry_run;
        engine.settings.limits.flips = 0;
        by_ann(&mut engine, CommandKind::Automation { on: automation }).1.unwrap();
        let (output, reply) = by_ann(&mut engine, roll_back(Scope::All));
        assert_eq!(names(&output), ["open", "pin", "page"]);
        let decision = &output.decisions[0];
        let by = decision.by.as_ref().unwrap();
        assert_eq!((by.actor.as_str(), by.reason.as_str()), ("ann", "leaks data"));
        assert_eq!((&decision.gate, decision.variant.as_str()), (&Gate::Act, TREATMENT));
        assert_eq!(reply.unwrap().decision.as_ref(), Some(&decision.id));
        let Order::Pin { control, by, .. } = &output.orders[1] else { panic!("{output:?}") };
        assert_eq!((control.as_str(), by.as_deref()), (CONTROL, Some("ann")));
        let Order::Page(page) = &output.orders[2] else { panic!("{output:?}") };
        assert_eq!((page.kind, &page.incident), (MessageKind::Rollback, &decision.incident));
    }
}

#[test]
fn the_same_twice_is_one_latch_and_says_so() {
    let mut engine = engine(vec![floor(60, RuleAction::Rollback)]);
    let (first, _) = by_ann(&mut engine, roll_back(Scope::All));
    let decision = &first.decisions[0];
    for answered in [false, true] {
        if answered {
            engine.step(answer(decision, 62, FlipOutcome::Verified));
        }
        for scope in [Scope::All, acme()] {
            let (again, reply) = by_ann(&mut engine, roll_back(scope));
            assert_eq!((again.decisions.len(), again.orders.len(), again.latches.len()), (0, 0, 0));
            let reply = reply.unwrap();
            assert_eq!(reply.decision.as_ref(), Some(&decision.id));
            assert!(reply.said.contains("already"), "{}", reply.said);
        }
    }
    assert_eq!(engine.memory().core.latches.len(), 1);
}

#[test]
fn a_human_takes_over_what_no_flip_has_made_safe() {
    for outcome in [FlipOutcome::Failed, FlipOutcome::Superseded] {
        let mut engine = engine(vec![floor(60, RuleAction::Rollback)]);
        let rolled = run(&mut engine, &drops(120), 0..120);
        let first = rolled.decisions[0].clone();
        assert_eq!(first.gate, Gate::Act);
        engine.step(answer(&first, 121, outcome));
        let (again, reply) = by_ann(&mut engine, roll_back(Scope::All));
        assert_eq!(names(&again), ["join", "pin", "page"]);
        let second = &again.decisions[0];
        assert_eq!(second.incident, first.incident, "one incident per episode");
        assert!(
            matches!(&again.latches[..], [LatchChange::Retry { decision, .. }] if *decision == second.id)
        );
        assert!(reply.unwrap().said.contains("again"));
        assert_eq!(engine.memory().core.latches.len(), 1);
        engine.step(answer(second, 122, FlipOutcome::Verified));
        assert_eq!(engine.memory().core.latches[0].outcome, Some(FlipOutcome::Verified));
        // A late answer to the flip that was taken over says nothing about the latch.
        engine.step(answer(&first, 123, FlipOutcome::Failed));
        assert_eq!(engine.memory().core.latches[0].outcome, Some(FlipOutcome::Verified));
    }
}

#[test]
fn a_rule_that_fires_later_joins_and_a_rearm_takes_the_latch_off() {
    let mut engine = engine(vec![floor(60, RuleAction::Rollback)]);
    let events = drops(150);
    run(&mut engine, &events, 0..60);
    let (by_hand, _) = by_ann(&mut engine, roll_back(Scope::All));
    let later = run(&mut engine, &events, 60..120);
    assert_eq!(later.decisions[0].gate, Gate::AlreadyLatched);
    assert_eq!(later.decisions[0].incident, by_hand.decisions[0].incident);
    assert_eq!(names(&later), ["join"]);
    let (rearmed, reply) =
        by_ann(&mut engine, CommandKind::Rearm { flag: FLAG.into(), scope: None, false_alarm: true });
    assert!(matches!(&rearmed.latches[..], [LatchChange::Close { false_alarm: true, .. }]));
    assert!(reply.unwrap().said.ends_with("counted as a false alarm"));
}

#[test]
fn a_pause_by_hand_outlasts_a_rules_and_ends_by_hand() {
    let mut engine = engine(vec![floor(5, RuleAction::PauseRollout)]);
    let events =
        steady(TREATMENT, "faithfulness", 0..240, 60, |m, _| if (60..80).contains(&m) { 0.5 } else { 0.95 });
    let (paused, _) = by_ann(&mut engine, CommandKind::Pause { flag: FLAG.into() });
    assert_eq!(names(&paused), ["freeze", "notify"]);
    let (again, reply) = by_ann(&mut engine, CommandKind::Pause { flag: FLAG.into() });
    assert!(again.orders.is_empty() && reply.unwrap().said.contains("already"));
    let ran = run(&mut engine, &events, 0..240);
    assert!(names(&ran).contains(&"freeze"), "the rule pauses too: {:?}", names(&ran));
    assert!(!names(&ran).contains(&"unfreeze"), "its end is not the human's");
    let (resumed, _) = by_ann(&mut engine, CommandKind::Resume { flag: FLAG.into() });
    assert_eq!(names(&resumed), ["notify", "unfreeze"]);
    let (_, reply) = by_ann(&mut engine, CommandKind::Resume { flag: FLAG.into() });
    assert_eq!(reply, Err(CommandError::NotPaused { flag: FLAG.into() }));
}

#[test]
fn a_resume_ends_a_rules_pause_once() {
    let mut engine = engine(vec![floor(5, RuleAction::PauseRollout)]);
    let events =
        steady(TREATMENT, "faithfulness", 0..240, 60, |m, _| if (60..80).contains(&m) { 0.5 } else { 0.95 });
    run(&mut engine, &events, 0..75);
    let (resumed, reply) = by_ann(&mut engine, CommandKind::Resume { flag: FLAG.into() });
    assert_eq!(names(&resumed), ["unfreeze"]);
    assert!(reply.unwrap().said.ends_with("a rule had paused it too"));
    let rest = run(&mut engine, &events, 75..240);
    assert!(!names(&rest).contains(&"freeze") && !names(&rest).contains(&"unfreeze"), "{:?}", names(&rest));
}

#[test]
fn a_failed_pause_can_be_asked_for_again() {
    let mut engine = engine(vec![floor(60, RuleAction::Rollback)]);
    let (first, _) = by_ann(&mut engine, CommandKind::Pause { flag: FLAG.into() });
    engine.step(answer(&first.decisions[0], 62, FlipOutcome::Failed));
    let (second, _) = by_ann(&mut engine, CommandKind::Pause { flag: FLAG.into() });
    assert_eq!(names(&second), ["freeze", "notify"]);
    assert_ne!(second.decisions[0].id, first.decisions[0].id);
    assert_eq!(engine.memory().core.holds.len(), 1);
}

#[test]
fn what_cannot_be_is_refused_and_changes_nothing() {
    let mut engine = engine(vec![floor(60, RuleAction::Rollback)]);
    engine.settings.flags[0].served = Some(Served {
        platform: "prod".into(),
        kind: "flagd".into(),
        key: "k".into(),
        id: None,
        control: "off".into(),
        treatment: "on".into(),
        worst: std::time::Duration::from_secs(20),
    });
    let before = serde_json::to_string(&engine.memory().core).unwrap();
    let (output, reply) = by_ann(&mut engine, roll_back(acme()));
    assert_eq!(reply, Err(CommandError::NoSlices { flag: FLAG.into(), platform: "prod".into() }));
    assert_eq!(output, Output::default());
    for kind in [
        CommandKind::RollBack { flag: "ai.typo".into(), scope: Scope::All },
        CommandKind::Pause { flag: "ai.typo".into() },
        CommandKind::Resume { flag: "ai.typo".into() },
    ] {
        let (output, reply) = by_ann(&mut engine, kind);
        assert_eq!(reply, Err(CommandError::UnknownFlag { flag: "ai.typo".into() }));
        assert_eq!(output, Output::default());
    }
    assert_eq!(serde_json::to_string(&engine.memory().core).unwrap(), before);
    let (_, reply) = by_ann(&mut engine, roll_back(Scope::All));
    assert!(reply.is_ok(), "for everybody it can");
}

#[test]
fn the_same_inputs_give_the_same_outputs_and_ids_are_never_used_twice() {
    let play = || {
        let mut engine = engine(vec![floor(60, RuleAction::Rollback)]);
        let kinds = [
            roll_back(acme()),
            roll_back(Scope::All),
            CommandKind::Rearm { flag: FLAG.into(), scope: None, false_alarm: false },
            roll_back(Scope::All),
            CommandKind::Pause { flag: FLAG.into() },
            CommandKind::Resume { flag: FLAG.into() },
            CommandKind::Pause { flag: FLAG.into() },
        ];
        kinds.map(|kind| by_ann(&mut engine, kind).0)
    };
    let outputs = play();
    assert_eq!(outputs, play());
    let ids: Vec<_> = outputs.iter().flat_map(|output| &output.decisions).map(|d| &d.id).collect();
    let different: std::collections::BTreeSet<_> = ids.iter().collect();
    assert_eq!((ids.len(), different.len()), (5, 5));
}

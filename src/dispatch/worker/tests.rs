//! The worker against a real store (SQLite in a temporary folder), scripted platforms and scripted receivers, on a clock that
//! runs a hundred times as fast.

mod bench;
mod elsewhere;
mod worst;

use sqlx::{Connection as _, Executor as _};

use super::*;
use crate::dispatch::example;
use crate::engine::hand::BY_HAND;
use crate::engine::input::FlipOutcome;
use crate::engine::output::LatchChange;
use crate::engine::output::{AlertKey, ByHand, Decision, Evidence, Message, MessageKind, Order, Output};
use crate::engine::rule::RuleAction;
use crate::model::flag::Scope;
use crate::model::id::FlagKey;
use crate::store::Timing;
use bench::{Bench, Keeper, Step};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rollback_is_flipped_read_back_paged_and_answered() {
    let mut oncall = Keeper::new("oncall");
    oncall.refresh = Some(Duration::from_millis(50));
    let mut bench = Bench::new(Vec::new(), oncall).await;
    bench.roll_back(&bench.decision()).await;
    let answer = bench.answer().await;
    assert_eq!(answer.outcome, FlipOutcome::Verified);
    assert!(bench.pinned());
    bench.until("paged and kept standing", |b| b.oncall.messages().len() > 2).await;
    let page = bench.oncall.messages().remove(0);
    assert_eq!(page.kind, MessageKind::Rollback);
    assert!(page.summary.contains("rolled back:"), "{}", page.summary);
    assert!(page.detail.contains("none of 256 sampled keys"), "{}", page.detail);
    let told = bench.oncall.told.lock().unwrap().clone();
    assert!(told[0].link.as_deref().unwrap().starts_with("https://rg.example.com/i/inc-"));
    assert!(told.iter().all(|notice| notice.since == told[0].since));
    bench.until("published", |b| b.topic.told.lock().unwrap().len() == 1).await;
    let incident = bench.incident().await.incident;
    assert!(incident.flip_verified.is_some() && incident.page_accepted.is_some());
    assert!(incident.took().unwrap() < Duration::from_secs(600));
    // The engine has not said that it took the answer in, but it was told once only in this short time.
    assert!(bench.answers.try_recv().is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_permanent_failure_is_paged_as_failed() {
    let script = vec![Step::Fail(Failure::permanent("answered 403 Forbidden"))];
    let mut bench = Bench::new(script, Keeper::new("oncall")).await;
    bench.roll_back(&bench.decision()).await;
    assert_eq!(bench.answer().await.outcome, FlipOutcome::Failed);
    bench.until("paged", |b| !b.oncall.messages().is_empty()).await;
    let page = bench.oncall.messages().remove(0);
    assert_eq!(page.kind, MessageKind::RollbackFailed);
    assert!(page.detail.contains("403 Forbidden"));
    assert!(!bench.pinned());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_gates_the_page_and_it_tells_the_truth_as_it_changes() {
    let script = vec![Step::Fail(Failure::retryable("answered 503"))];
    let mut bench = Bench::new(script, Keeper::new("oncall")).await;
    bench.timing = Timing {
        flip_at_least: Duration::from_secs(240),
        promise: Duration::from_secs(240),
        ..Timing::default()
    };
    bench.roll_back(&bench.decision()).await;
    // Its own timer, two minutes after the commit.
    bench.until("first page", |b| !b.oncall.messages().is_empty()).await;
    let first = bench.oncall.messages().remove(0);
    assert!(first.summary.contains("not confirmed yet"), "{}", first.summary);
    bench.until("rollback failed", |b| b.oncall.messages().len() > 1).await;
    let second = bench.oncall.messages().remove(1);
    assert_eq!(second.kind, MessageKind::RollbackFailed);
    assert_eq!(second.dedup_key, first.dedup_key);
    // Tries went on; the platform recovers.
    bench.platform.script.lock().unwrap().clear();
    assert_eq!(bench.answer().await.outcome, FlipOutcome::Verified);
    bench.until("good news", |b| b.oncall.messages().len() > 2).await;
    let last = bench.oncall.messages().pop().unwrap();
    assert_eq!(last.kind, MessageKind::Rollback);
    assert!(last.summary.contains("rolled back:"), "{}", last.summary);
    assert_eq!(bench.oncall.messages().len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_answers_lies_and_conflicts_are_seen_through() {
    let conflict = Failure::Conflict { why: "version 3, not 2".into() };
    for (script, writes) in [
        (vec![Step::LoseAnswer], 1),
        (vec![Step::SayYes, Step::SayYes], 3),
        (vec![Step::Fail(conflict.clone()), Step::Fail(conflict)], 3),
    ] {
        let name = format!("{script:?}");
        let mut bench = Bench::new(script, Keeper::new("oncall")).await;
        bench.roll_back(&bench.decision()).await;
        assert_eq!(bench.answer().await.outcome, FlipOutcome::Verified, "{name}");
        assert!(bench.pinned(), "{name}");
        assert_eq!(*bench.platform.writes.lock().unwrap(), writes, "{name}");
        let changes = bench.store.flag_changes(&"ai.support-copilot.prompt-v18".into(), 10).await.unwrap();
        let pins = changes.iter().filter(|c| c.kind.as_str() == "pin").count();
        assert_eq!(pins, 1, "{name}: exactly one state-changing flip");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_humans_did_meanwhile_is_respected() {
    let flag = FlagKey::from("ai.support-copilot.prompt-v18");
    // Each case lets tries fail, acts as a human, and sees what the next look at the database makes of it.
    for (name, expected) in [
        ("killed", FlipOutcome::AlreadySafe),
        ("killed and unkilled", FlipOutcome::Superseded),
        ("re-armed", FlipOutcome::Superseded),
        ("automation off", FlipOutcome::Superseded),
    ] {
        // Every try fails, also one that is under way when the human acts.
        let script = (0..1_000).map(|_| Step::Fail(Failure::retryable("answered 503"))).collect();
        let mut bench = Bench::new(script, Keeper::new("oncall")).await;
        bench.roll_back(&bench.decision()).await;
        bench.until("tried once", |b| *b.platform.writes.lock().unwrap() > 0).await;
        let now = bench.clock.now();
        match name {
            "re-armed" => {
                let close = LatchChange::Close {
                    flag: flag.clone(),
                    scope: Scope::All,
                    by: "ann".into(),
                    why: "mended".into(),
                    false_alarm: false,
                };
                bench.commit(2, &[], vec![close]).await;
            }
            "automation off" => bench.switch(2, false).await,
            _ => {
                bench.store.kill(&flag, "ann", "looks bad", now).await.unwrap();
                if name == "killed and unkilled" {
                    bench.store.unkill(&flag, "ann", "no", now).await.unwrap();
                }
            }
        }
        if name == "killed" {
            // The pin is written all the same, against the day on which the feature is switched on again.
            bench.platform.script.lock().unwrap().clear();
        }
        assert_eq!(bench.answer().await.outcome, expected, "{name}");
        assert_eq!(bench.pinned(), name == "killed", "{name}");
        // On a slow machine a page may have left before, by its own timer; then it is sent again.
        let superseded = expected == FlipOutcome::Superseded;
        let says = |m: &Message| (m.kind == MessageKind::Superseded) == superseded;
        bench.until(name, |b| b.oncall.messages().last().is_some_and(says)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_receiver_delays_neither_a_flip_nor_others() {
    let mut slow = Keeper::new("oncall");
    let gate = Arc::new(Notify::new());
    slow.gate = Some(Arc::clone(&gate));
    let mut bench = Bench::new(Vec::new(), slow).await;
    // Twenty messages hang at the slow receiver, whose places are four.
    let outputs: Vec<Output> = (0..20)
        .map(|n| Output {
            orders: vec![Order::Page(Message {
                dedup_key: format!("notice-{n}"),
                kind: MessageKind::Notice,
                decision: None,
                incident: None,
                ..example::message()
            })],
            ..Output::default()
        })
        .collect();
    bench.commit(1, &outputs, Vec::new()).await;
    let decision = bench.decision();
    let output = Output {
        decisions: vec![decision.clone()],
        orders: vec![Order::Pin {
            decision: decision.id.clone(),
            flag: decision.key.flag.clone(),
            scope: Scope::All,
            control: "support-copilot.prompt-v17".into(),
            by: None,
        }],
        ..Output::default()
    };
    let latch = LatchChange::Open {
        flag: decision.key.flag.clone(),
        scope: Scope::All,
        decision: decision.id.clone(),
        incident: "inc-slow".into(),
        at: decision.at,
    };
    bench.commit(2, &[output], vec![latch]).await;
    assert_eq!(bench.answer().await.outcome, FlipOutcome::Verified);
    bench.until("published", |b| b.topic.told.lock().unwrap().len() == 1).await;
    assert!(bench.oncall.messages().is_empty());
    let stop = CancellationToken::new();
    let (opened, opener) = (gate, stop.clone());
    tokio::spawn(async move {
        while !opener.is_cancelled() {
            opened.notify_waiters();
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    bench.until("all told in the end", |b| b.oncall.messages().len() == 20).await;
    stop.cancel();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_that_nobody_takes_goes_to_the_second_channel() {
    for failure in [Failure::permanent("answered 401"), Failure::retryable("answered 500")] {
        let oncall = Keeper::new("oncall");
        let rounds = if failure.is_permanent() { 1 } else { 10_000 };
        *oncall.failures.lock().unwrap() = vec![failure; rounds].into();
        let bench = Bench::new(Vec::new(), oncall).await;
        bench.roll_back(&bench.decision()).await;
        bench.until("second channel", |b| !b.second.messages().is_empty()).await;
        let page = bench.second.messages().remove(0);
        assert!(page.summary.contains("rolled back"), "{}", page.summary);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flip_that_never_succeeds_expires_and_says_so() {
    let script = vec![Step::Fail(Failure::retryable("answered 503"))];
    let mut bench = Bench::new(script, Keeper::new("oncall")).await;
    bench.timing = Timing {
        flip_at_least: Duration::from_secs(20),
        promise: Duration::from_secs(20),
        flip_ttl: Duration::from_secs(60),
        ..Timing::default()
    };
    bench.roll_back(&bench.decision()).await;
    assert_eq!(bench.answer().await.outcome, FlipOutcome::Expired);
    bench
        .until("paged", |b| b.oncall.messages().last().is_some_and(|m| m.kind == MessageKind::RollbackFailed))
        .await;
}

/// The same decision made by a human.
fn by_ann(decision: &Decision) -> Decision {
    let by = ByHand { actor: "ann".into(), reason: "leaks data".into() };
    let key = AlertKey { rule: BY_HAND.into(), ..decision.key.clone() };
    Decision {
        id: "by-hand-1".into(),
        key,
        by: Some(by),
        confirmed_by: None,
        evidence: Evidence::default(),
        ..decision.clone()
    }
}

fn pin_by_ann(decision: &Decision) -> Order {
    Order::Pin {
        decision: decision.id.clone(),
        flag: decision.key.flag.clone(),
        scope: Scope::All,
        control: "support-copilot.prompt-v17".into(),
        by: Some("ann".into()),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_human_rolls_back_pauses_and_resumes_while_automation_is_off() {
    let mut bench = Bench::new(Vec::new(), Keeper::new("oncall")).await;
    bench.switch(1, false).await;
    let decision = by_ann(&bench.decision());
    let (flag, by) = (decision.key.flag.clone(), Some("ann".to_owned()));
    let open = LatchChange::Open {
        flag: flag.clone(),
        scope: Scope::All,
        decision: decision.id.clone(),
        incident: "inc-1".into(),
        at: decision.at,
    };
    let page = Message { decision: Some(decision.id.clone()), ..example::message() };
    let pause = Decision { id: "by-hand-2".into(), action: RuleAction::PauseRollout, ..decision.clone() };
    let output = Output {
        orders: vec![
            pin_by_ann(&decision),
            Order::Page(page),
            Order::Freeze { decision: pause.id.clone(), flag: flag.clone(), by: by.clone() },
        ],
        decisions: vec![decision, pause],
        ..Output::default()
    };
    bench.commit(2, &[output], vec![open]).await;
    for id in ["by-hand-1", "by-hand-2"] {
        let answer = bench.answer().await;
        assert_eq!((answer.decision.as_str(), answer.outcome), (id, FlipOutcome::Verified));
    }
    assert!(bench.pinned());
    bench.until("paged", |b| !b.oncall.messages().is_empty()).await;
    let page = bench.oncall.messages().remove(0);
    assert_eq!(page.summary, "support-copilot.prompt-v18 rolled back by ann: leaks data");
    assert!(page.detail.contains("Asked for by ann"), "{}", page.detail);
    let end = Order::Unfreeze { flag: flag.clone(), why: "resumed by ann: fine".into(), by };
    bench.commit(3, &[Output { orders: vec![end], ..Output::default() }], Vec::new()).await;
    bench.until("resumed", |b| b.store.flags().get(&flag).unwrap().overlay.frozen_share.is_none()).await;
    let changes = bench.store.flag_changes(&flag, 10).await.unwrap();
    let said: Vec<&str> = changes.iter().map(|change| change.reason.as_str()).collect();
    assert_eq!(said[..3], ["resumed by ann: fine", "pause asked for by ann", "rollback asked for by ann"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_human_takes_over_a_rollback_that_does_not_get_through() {
    let script = (0..1_000).map(|_| Step::Fail(Failure::retryable("answered 503"))).collect();
    let bench = Bench::new(script, Keeper::new("oncall")).await;
    let first = bench.decision();
    bench.roll_back(&first).await;
    bench.until("tried once", |b| *b.platform.writes.lock().unwrap() > 0).await;
    // Killed and switched on again: a rule's rollback leaves that alone, a human's does not.
    let flag = first.key.flag.clone();
    let again = by_ann(&first);
    let retry = LatchChange::Retry { flag: flag.clone(), scope: Scope::All, decision: again.id.clone() };
    let incident = first.incident.clone().unwrap();
    let output = Output {
        orders: vec![Order::JoinIncident { incident, decision: again.id.clone() }, pin_by_ann(&again)],
        decisions: vec![again.clone()],
        ..Output::default()
    };
    bench.commit(2, &[output], vec![retry]).await;
    // The rule's is void; a try of it that was under way is given back first and ends when it looks again.
    assert_eq!(bench.ended(&first.id).await, FlipOutcome::Superseded);
    bench.store.kill(&flag, "bob", "looks bad", bench.clock.now()).await.unwrap();
    bench.store.unkill(&flag, "bob", "no", bench.clock.now()).await.unwrap();
    bench.platform.script.lock().unwrap().clear();
    assert_eq!(bench.ended(&again.id).await, FlipOutcome::Verified);
    assert!(bench.pinned());
    let incident = bench.incident().await.incident;
    assert_eq!(incident.flip_outcome, Some(FlipOutcome::Verified));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_notice_of_a_pause_says_that_it_is_in_force() {
    let mut bench = Bench::new(Vec::new(), Keeper::new("oncall")).await;
    let decision = Decision { action: RuleAction::PauseRollout, incident: None, ..bench.decision() };
    let output = Output {
        decisions: vec![decision.clone()],
        orders: vec![
            Order::Notify(Message {
                kind: MessageKind::Pause,
                incident: None,
                receiver: Some("oncall".into()),
                ..example::message()
            }),
            Order::Freeze { decision: decision.id.clone(), flag: decision.key.flag.clone(), by: None },
        ],
        ..Output::default()
    };
    bench.commit(1, &[output], Vec::new()).await;
    assert_eq!(bench.answer().await.outcome, FlipOutcome::Verified);
    bench.until("told", |b| !b.oncall.messages().is_empty()).await;
    let told = bench.oncall.messages();
    assert_eq!(told.len(), 1);
    assert!(told[0].summary.contains(" paused: "), "{}", told[0].summary);
    assert!(told[0].detail.contains("held where it stands since"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_of_a_pause_waits_for_automation_however_long_that_takes() {
    let mut bench = Bench::new(Vec::new(), Keeper::new("oncall")).await;
    bench.timing.flip_ttl = Duration::from_secs(20);
    let flag = FlagKey::from("ai.other.v2");
    let frozen = |b: &Bench| b.store.flags().get(&flag).unwrap().overlay.frozen_share.is_some();
    let version = bench.store.flags().get(&flag).unwrap().overlay.version;
    bench.store.freeze(&flag, &"d".into(), "pause", version, bench.clock.now()).await.unwrap();
    bench.switch(1, false).await;
    let end = Order::Unfreeze { flag: flag.clone(), why: "it has cleared".into(), by: None };
    bench.commit(2, &[Output { orders: vec![end], ..Output::default() }], Vec::new()).await;
    // Three times as long as a flip is tried.
    bench.clock.sleep_real(bench.clock.real_span(Duration::from_secs(60))).await;
    assert!(frozen(&bench), "automation is off");
    assert_eq!(bench.store.outbox_stats(bench.clock.now()).await.unwrap().oldest_due, None, "it is no fault");
    bench.switch(3, true).await;
    bench.until("unfrozen", |b| !frozen(b)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_whose_database_was_taken_over_stops_the_daemon() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("test.db");
    let store = Store::open_exclusive(&format!("sqlite:{}", path.display()), "test").await.unwrap();
    let settings = WorkerSettings { poll: Duration::from_millis(10), ..WorkerSettings::default() };
    let (answers, _heard) = mpsc::channel(1);
    let worker =
        Worker::new(store, Clock::system(), settings, Vec::new(), Vec::new(), Siren::default(), answers);
    let supervisor = Supervisor::new();
    worker.spawn(&supervisor);
    let mut successor = sqlx::AnyConnection::connect(&format!("sqlite://{}", path.display())).await.unwrap();
    successor.execute("UPDATE owner SET epoch = epoch + 1").await.unwrap();
    tokio::time::timeout(Duration::from_secs(30), supervisor.stopped()).await.expect("it stops");
    let why = supervisor.drain().await.unwrap_err();
    assert!(why.starts_with("task `dispatch` failed: another rearguard has taken this database"), "{why}");
}

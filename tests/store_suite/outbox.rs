//! The outbox: claims, leases, epochs, lanes.

use std::collections::BTreeSet;
use std::time::Duration;

use rearguard::engine::input::FlipOutcome;
use rearguard::engine::output::{Order, Output};
use rearguard::engine::rule::RuleAction;
use rearguard::model::flag::{Dimension, Scope};
use rearguard::store::{Flip, RowKind, StoreError, Task};

use super::fixture::*;
use super::incidents::{sent, verified};

pub async fn flips_come_first(base: &Base) {
    let store = base.ready().await;
    commit(&store, 1, &[pause("d1"), rollback("d2", "i1")]).await;
    assert_eq!(due(&store, at(1)).await, ["builtin", "chat", "decisions"]);
    let row = claim_one(&store, at(1), "builtin").await;
    assert!(matches!(row.task, Task::Flip(Flip::Pin { .. })), "the pin overtakes the freeze");
    assert_eq!(row.deadline, Some(at(-180 + 540)));
    assert_eq!((row.kind, row.flag, row.scope), (RowKind::Flip, Some(flag()), Some(Scope::All)));
}

pub async fn claims_are_exclusive(base: &Base) {
    let store = base.ready().await;
    let outputs: Vec<_> = (0..12)
        .map(|n| {
            let mut message = message(rearguard::engine::output::MessageKind::Notice, None, None);
            message.dedup_key = format!("k{n}");
            orders(vec![Order::Notify(message)])
        })
        .collect();
    commit(&store, 1, &outputs).await;
    let claimer = |worker| {
        let store = store.clone();
        async move {
            let mut mine = Vec::new();
            loop {
                let rows = store.claim(worker, at(1), LEASE, 2).await.unwrap();
                if rows.is_empty() {
                    return mine;
                }
                mine.extend(rows.into_iter().map(|row| row.id));
            }
        }
    };
    let (a, b, c) = tokio::join!(claimer(1), claimer(2), claimer(3));
    let all: BTreeSet<_> = a.iter().chain(&b).chain(&c).collect();
    assert_eq!((all.len(), a.len() + b.len() + c.len()), (12, 12));
}

pub async fn a_lease_runs_out(base: &Base) {
    let store = base.ready().await;
    commit(&store, 1, &[rollback("d1", "i1")]).await;
    let first = claim_one(&store, at(1), "builtin").await;
    assert!(!due(&store, at(30)).await.contains(&"builtin".to_owned()));
    let second = claim_one(&store, at(31), "builtin").await;
    assert_eq!((second.id, second.epoch), (first.id, first.epoch + 1));
    assert_eq!((first.attempts, second.attempts), (1, 2));
}

pub async fn a_dead_owners_claims_are_free(base: &Base) {
    let store = base.ready().await;
    commit(&store, 1, &[rollback("d1", "i1")]).await;
    let first = claim_one(&store, at(1), "builtin").await;
    drop(store);
    let store = base.open().await;
    // A lock on a file proves that its holder is gone; one on a server does not.
    let soon = if base.url.starts_with("sqlite") { at(2) } else { at(31) };
    assert_eq!(due(&store, at(2)).await.contains(&"builtin".to_owned()), soon == at(2));
    let second = claim_one(&store, soon, "builtin").await;
    assert_eq!(second.id, first.id);
    assert!(!store.recheck(&first, soon).await.unwrap().held);
}

pub async fn a_stale_completion_is_refused(base: &Base) {
    let store = base.ready().await;
    commit(&store, 1, &[rollback("d1", "i1")]).await;
    let first = claim_one(&store, at(1), "builtin").await;
    let second = claim_one(&store, at(40), "builtin").await;
    let stale = [
        store.complete(&first, &verified(), at(41)).await,
        store.retry(&first, at(41), "").await,
        store.expire(&first, at(41)).await,
        store.supersede(&first, "", at(41)).await,
    ];
    for result in stale {
        assert!(matches!(result, Err(StoreError::Stale { .. })), "{result:?}");
    }
    assert!(!store.recheck(&first, at(41)).await.unwrap().held);
    assert!(store.recheck(&second, at(41)).await.unwrap().held);
    let detail = store.incident(&incident_id("i1")).await.unwrap();
    assert_eq!(detail.timeline.len(), 2, "the refused reports have left no trace");
    store.complete(&second, &verified(), at(42)).await.unwrap();
    let again = store.complete(&second, &verified(), at(43)).await;
    assert!(matches!(again, Err(StoreError::Stale { .. })), "{again:?}");
}

fn freeze(id: &str) -> rearguard::engine::output::Output {
    let mut output = pause(id);
    output.orders.truncate(1);
    output
}

fn unfreeze() -> rearguard::engine::output::Output {
    orders(vec![Order::Unfreeze { flag: flag(), why: "clear".into(), by: None }])
}

pub async fn a_lane_is_first_in_first_out(base: &Base) {
    let store = base.ready().await;
    commit(&store, 1, &[freeze("d1")]).await;
    let freeze = claim_one(&store, at(1), "builtin").await;
    commit(&store, 2, &[unfreeze()]).await;
    assert!(!due(&store, at(3)).await.contains(&"builtin".to_owned()), "the freeze is under way");
    store.complete(&freeze, &verified(), at(4)).await.unwrap();
    let row = claim_one(&store, at(4), "builtin").await;
    assert!(matches!(row.task, Task::Flip(Flip::Unfreeze { .. })));
}

pub async fn a_pin_overtakes(base: &Base) {
    let store = base.ready().await;
    commit(&store, 1, &[freeze("d1")]).await;
    let row = claim_one(&store, at(1), "builtin").await;
    store.retry(&row, at(500), "503").await.unwrap();
    commit(&store, 2, &[rollback("d2", "i1")]).await;
    let row = claim_one(&store, at(3), "builtin").await;
    assert!(matches!(row.task, Task::Flip(Flip::Pin { .. })));
    // While the pin is under way the freeze waits, even when its time has come.
    assert!(!due(&store, at(3)).await.contains(&"builtin".to_owned()));
}

pub async fn a_human_overtakes_a_rules_pin(base: &Base) {
    let store = base.ready().await;
    let mut acme = rollback("d1", "i1");
    acme.orders[0] = pin("d1", Scope::Only(Dimension::Tenant, "acme".into()));
    commit(&store, 1, &[acme]).await;
    let row = claim_one(&store, at(1), "builtin").await;
    store.retry(&row, at(500), "503").await.unwrap();
    let by_hand = Output {
        decisions: vec![decision("d2", RuleAction::Rollback)],
        orders: vec![Order::Pin {
            decision: "d2".into(),
            flag: flag(),
            scope: Scope::All,
            control: "support.v17".into(),
            by: Some("ann".into()),
        }],
        ..Output::default()
    };
    commit(&store, 2, &[by_hand]).await;
    let row = claim_one(&store, at(2), "builtin").await;
    assert_eq!(row.decision, Some("d2".into()), "it does not wait behind the rule's back-off");
}

pub async fn a_rearm_voids_a_pending_pin(base: &Base) {
    let store = base.ready().await;
    commit(&store, 1, &[rollback("d1", "i1")]).await;
    let row = claim_one(&store, at(1), "builtin").await;
    store.retry(&row, at(300), "503").await.unwrap();
    let unpin = orders(vec![Order::Unpin { flag: flag(), scope: Scope::All, actor: "ann".into() }]);
    commit(&store, 2, &[unpin]).await;
    let row = claim_one(&store, at(2), "builtin").await;
    assert!(matches!(row.task, Task::Flip(Flip::Unpin { .. })));
    let flip = store.flip_state(&"d1".into()).await.unwrap().unwrap();
    assert_eq!(flip.outcome, Some(FlipOutcome::Superseded));
    assert!(due(&store, at(3)).await.contains(&"oncall".to_owned()), "its page waits no longer");
}

pub async fn retry_waits(base: &Base) {
    let store = base.ready().await;
    commit(&store, 1, &[rollback("d1", "i1")]).await;
    let row = claim_one(&store, at(1), "builtin").await;
    store.retry(&row, at(20), "503 from the platform").await.unwrap();
    assert!(!due(&store, at(19)).await.contains(&"builtin".to_owned()));
    let state = store.flip_state(&"d1".into()).await.unwrap().unwrap();
    assert_eq!((state.outcome, state.attempts), (None, 1));
    assert_eq!(state.last_error.as_deref(), Some("503 from the platform"));
    let row = claim_one(&store, at(20), "builtin").await;
    assert_eq!(row.last_error.as_deref(), Some("503 from the platform"));
}

pub async fn expiry_is_an_answer(base: &Base) {
    let store = base.ready().await;
    commit(&store, 1, &[rollback("d1", "i1")]).await;
    let row = claim_one(&store, at(4000), "builtin").await;
    assert!(store.recheck(&row, at(4000)).await.unwrap().expired);
    store.expire(&row, at(4000)).await.unwrap();
    let answers = store.unanswered().await.unwrap();
    assert_eq!(answers.len(), 1);
    assert_eq!(answers[0].outcome, FlipOutcome::Expired);
    let stays = "SELECT count(*) FROM latches WHERE closed IS NULL AND outcome LIKE '%expired%'";
    assert_eq!(base.count(stays).await, 1, "the latch stays, and knows how its flip ended");
}

pub async fn answers_are_given_once(base: &Base) {
    let store = base.ready().await;
    commit(&store, 1, &[rollback("d1", "i1")]).await;
    assert!(store.unanswered().await.unwrap().is_empty());
    let row = claim_one(&store, at(1), "builtin").await;
    store.complete(&row, &verified(), at(2)).await.unwrap();
    let answers = store.unanswered().await.unwrap();
    assert_eq!((answers.len(), answers[0].at), (1, at(2)));
    assert_eq!((&answers[0].flag, &answers[0].scope), (&flag(), &Scope::All));
    let mut record = record(2, &[]);
    record.answered = vec!["d1".into()];
    store.commit(&record).await.unwrap();
    assert!(store.unanswered().await.unwrap().is_empty());
}

pub async fn age_and_counts(base: &Base) {
    let store = base.ready().await;
    let stats = store.outbox_stats(at(0)).await.unwrap();
    assert_eq!((stats.age(at(0)), stats.counts.len()), (Duration::ZERO, 0));
    commit(&store, 1, &[rollback("d1", "i1")]).await;
    let stats = store.outbox_stats(at(61)).await.unwrap();
    assert_eq!(stats.age(at(61)), Duration::from_secs(60));
    assert_eq!(stats.counts.iter().map(|count| count.rows).sum::<u64>(), 3);
    for row in claim(&store, at(61)).await {
        let done = if row.kind == RowKind::Flip { verified() } else { sent() };
        store.complete(&row, &done, at(61)).await.unwrap();
    }
    for row in claim(&store, at(61)).await {
        store.complete(&row, &sent(), at(61)).await.unwrap();
    }
    let stats = store.outbox_stats(at(9999)).await.unwrap();
    assert_eq!(stats.oldest_due, None);
    assert!(stats.counts.iter().all(|count| count.status == "done"), "{stats:?}");
}

pub async fn a_row_that_keeps_failing_grows_old(base: &Base) {
    let store = base.ready().await;
    commit(&store, 1, &[pause("d1")]).await;
    let rows = claim(&store, at(1)).await;
    for row in &rows {
        store.postpone(row, at(100)).await.unwrap();
    }
    let age = async |now| store.outbox_stats(now).await.unwrap().age(now);
    assert_eq!(age(at(90)).await, Duration::ZERO, "nothing has failed, and nothing is due");
    for row in claim(&store, at(100)).await {
        assert_eq!((row.attempts, row.last_error.as_deref()), (1, None), "what was postponed was not tried");
        store.retry(&row, at(1000), "answered 503").await.unwrap();
    }
    assert_eq!(age(at(301)).await, Duration::from_secs(300), "though the next try is not due yet");
}

pub async fn recheck_tells_the_truth(base: &Base) {
    let store = base.ready().await;
    commit(&store, 1, &[rollback("d1", "i1")]).await;
    let row = claim_one(&store, at(1), "builtin").await;
    let truth = store.recheck(&row, at(1)).await.unwrap();
    assert!(truth.held && truth.automation && truth.latch_open && !truth.expired);
    let outputs = [orders(vec![Order::Unpin { flag: flag(), scope: Scope::All, actor: "ann".into() }])];
    let mut off = record(2, &outputs);
    off.automation = Some(false);
    store.commit(&off).await.unwrap();
    let truth = store.recheck(&row, at(2)).await.unwrap();
    assert!(truth.held && !truth.automation && !truth.latch_open);
    store.supersede(&row, "re-armed", at(3)).await.unwrap();
    assert_eq!(store.unanswered().await.unwrap()[0].outcome, FlipOutcome::Superseded);
}

/// As another version's might be.
pub async fn an_unreadable_row_blocks_nothing(base: &Base) {
    let store = base.ready().await;
    commit(&store, 1, &[rollback("d1", "i1")]).await;
    base.tamper("UPDATE outbox SET payload = '{}' WHERE kind IN ('flip', 'publish')").await;
    assert!(claim(&store, at(2)).await.is_empty());
    let flip = store.flip_state(&"d1".into()).await.unwrap().unwrap();
    assert_eq!(flip.outcome, Some(FlipOutcome::Failed));
    assert!(flip.detail.unwrap().contains("column `payload`"));
    assert_eq!(store.unanswered().await.unwrap()[0].outcome, FlipOutcome::Failed);
    let incident = store.incident(&"i1".into()).await.unwrap().incident;
    assert_eq!(incident.flip_outcome, Some(FlipOutcome::Failed));
    // The page need not wait for the flip any more, and says what has become of it.
    assert_eq!(claim_one(&store, at(3), "oncall").await.kind, RowKind::Page);
}

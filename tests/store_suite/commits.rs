//! The one transaction: whole or not at all, and idempotent.

use rearguard::engine::output::Order;
use rearguard::engine::output::{Output, Phase, Transition};
use rearguard::engine::rule::RuleAction;
use rearguard::model::flag::{Dimension, Scope};
use rearguard::store::{Committed, IncidentFilter, StoreError};

use super::fixture::*;

fn tenant(name: &str) -> Scope {
    Scope::Only(Dimension::Tenant, name.into())
}

/// A rollback without an incident, in a scope.
fn bare(id: &str, scope: Scope) -> Output {
    let mut made = decision(id, RuleAction::Rollback);
    made.scope = scope.clone();
    Output { decisions: vec![made], orders: vec![pin(id, scope)], ..Output::default() }
}

fn moved(output: &Output) -> Transition {
    Transition {
        at: at(0),
        key: output.decisions[0].key.clone(),
        variant: "support.v18".into(),
        action: RuleAction::Rollback,
        from: Phase::Firing,
        to: Phase::Latched,
        why: "fired".into(),
    }
}

fn rearm(scope: Scope) -> Output {
    orders(vec![Order::Unpin { flag: flag(), scope, actor: "ann".into() }])
}

pub async fn a_record_is_loaded_as_committed(base: &Base) {
    let store = base.ready().await;
    let mut output = rollback("d1", "i1");
    output.transitions.push(moved(&output));
    let outputs = [output];
    assert_eq!(store.commit(&record(4, &outputs)).await.unwrap(), Committed::Stored);
    drop(store);
    let store = base.open().await;
    let loaded = store.load().await.unwrap();
    assert_eq!((loaded.seq, &loaded.position), (4, &position(40)));
    assert!(store.automation().await.unwrap());
    let decisions = store.decisions(None, 10).await.unwrap();
    assert_eq!(decisions.len(), 1);
    assert_eq!(decisions[0].decision, outputs[0].decisions[0]);
    assert_eq!(open_latches(base).await, 1);
    let held = base.count("SELECT count(*) FROM latches WHERE incident = 'i1' AND decision = 'd1'").await;
    assert_eq!(held, 1);
    assert_eq!(store.incidents(&IncidentFilter::default()).await.unwrap().len(), 1);
    let transitions = store.transitions(&flag(), 9).await.unwrap();
    assert_eq!(transitions, [(4, outputs[0].transitions[0].clone())]);
}

pub async fn a_replayed_record_changes_nothing(base: &Base) {
    let store = base.ready().await;
    let outputs = [rollback("d1", "i1")];
    commit(&store, 1, &outputs).await;
    let before = store.load().await.unwrap();
    let again = store.commit(&record(1, &outputs)).await.unwrap();
    assert_eq!(again, Committed::Already);
    assert_eq!(store.load().await.unwrap(), before);
    assert_eq!(base.count("SELECT count(*) FROM outbox").await, 3);
}

pub async fn a_replayed_decision_brings_nothing_twice(base: &Base) {
    let store = base.ready().await;
    let outputs = [rollback("d1", "i1")];
    commit(&store, 1, &outputs).await;
    assert_eq!(store.commit(&record(2, &outputs)).await.unwrap(), Committed::Stored);
    for (table, rows) in [("outbox", 3), ("decisions", 1), ("latches", 1), ("incidents", 1)] {
        let count = base.count(&format!("SELECT count(*) FROM {table}")).await;
        assert_eq!(count, rows, "{table}");
    }
    assert_eq!(store.load().await.unwrap().seq, 2);
}

pub async fn a_decision_cannot_change(base: &Base) {
    let store = base.ready().await;
    commit(&store, 1, &[rollback("d1", "i1")]).await;
    let mut other = rollback("d1", "i1");
    other.decisions[0].evidence.samples += 1;
    let error = store.commit(&record(2, &[other])).await.unwrap_err();
    assert!(matches!(error, StoreError::DecisionDiffers { .. }), "{error}");
    assert!(!error.is_transient());
}

pub async fn a_failed_commit_leaves_nothing(base: &Base) {
    let store = base.ready().await;
    commit(&store, 1, &[rollback("d1", "i1")]).await;
    let before = store.load().await.unwrap();
    // The latch of the second decision is refused after its decision was written.
    let outputs = [bare("d2", Scope::All)];
    let mut failing = record(2, &outputs);
    let state = [("alerts".to_owned(), Some("x".to_owned()))];
    failing.state = &state;
    let error = store.commit(&failing).await.unwrap_err();
    assert!(matches!(error, StoreError::LatchOpen { .. }), "{error}");
    assert_eq!(store.load().await.unwrap(), before);
    assert_eq!((open_latches(base).await, store.decisions(None, 9).await.unwrap().len()), (1, 1));
    assert_eq!(base.count("SELECT count(*) FROM outbox").await, 3);
}

pub async fn state_rows_come_and_go(base: &Base) {
    let store = base.ready().await;
    let row = |key: &str, value: Option<&str>| (key.to_owned(), value.map(str::to_owned));
    for (seq, state) in [
        (1, vec![row("a", Some("1")), row("b", Some("2"))]),
        (2, vec![row("a", None), row("b", Some("3")), row("c", None)]),
    ] {
        let mut record = record(seq, &[]);
        record.state = &state;
        store.commit(&record).await.unwrap();
    }
    let state = store.load().await.unwrap().state;
    assert_eq!(state, [("b".to_owned(), "3".to_owned())]);
}

pub async fn one_open_latch_per_scope(base: &Base) {
    let store = base.ready().await;
    commit(&store, 1, &[bare("d1", tenant("a"))]).await;
    commit(&store, 2, &[bare("d2", tenant("b"))]).await;
    commit(&store, 3, &[bare("d3", Scope::All)]).await;
    let error = store.commit(&record(4, &[bare("d4", tenant("b"))])).await.unwrap_err();
    assert!(matches!(error, StoreError::LatchOpen { .. }), "{error}");
    assert_eq!(open_latches(base).await, 3);
}

pub async fn rearm_then_a_new_latch(base: &Base) {
    let store = base.ready().await;
    commit(&store, 1, &[bare("d1", tenant("a"))]).await;
    commit(&store, 2, &[rearm(tenant("a"))]).await;
    assert_eq!(open_latches(base).await, 0);
    commit(&store, 3, &[bare("d2", tenant("a"))]).await;
    // Within one record too: off, then on again.
    commit(&store, 4, &[rearm(tenant("a")), bare("d3", tenant("a"))]).await;
    assert_eq!(open_latches(base).await, 1);
    let newest = base.count("SELECT count(*) FROM latches WHERE closed IS NULL AND decision = 'd3'").await;
    assert_eq!(newest, 1);
    let rearms = store.audit_log(50).await.unwrap();
    let rearms: Vec<_> = rearms.iter().filter(|row| row.kind == "rearm").collect();
    assert_eq!(rearms.len(), 2);
    assert_eq!(rearms[0].actor, "ann");
}

pub async fn automation_is_remembered(base: &Base) {
    let store = base.ready().await;
    for (seq, on) in [(1, false), (2, true), (3, false)] {
        let mut record = record(seq, &[]);
        record.automation = Some(on);
        store.commit(&record).await.unwrap();
        assert_eq!(store.automation().await.unwrap(), on);
    }
    commit(&store, 4, &[]).await;
    drop(store);
    assert!(!base.open().await.automation().await.unwrap());
}

pub async fn old_history_goes_and_decisions_stay(base: &Base) {
    let store = base.ready().await;
    let mut output = rollback("d1", "i1");
    output.transitions.push(moved(&output));
    commit(&store, 1, &[output]).await;
    assert_eq!(store.prune(at(0)).await.unwrap(), 0, "it is not older than this");
    assert_eq!(store.prune(at(1)).await.unwrap(), 1);
    assert!(store.transitions(&flag(), 9).await.unwrap().is_empty());
    assert_eq!(store.decisions(None, 9).await.unwrap().len(), 1);
}

/// A decision is stored with what it was judged from, and any change to either shows.
pub async fn grounds_are_kept_and_sealed(base: &Base) {
    let store = base.ready().await;
    let (output, _) = judged();
    let (made, taken) = (output.decisions[0].clone(), output.grounds[0].clone());
    commit(&store, 1, &[output]).await;
    let found = store.grounds(&made.id).await.unwrap().unwrap();
    assert_eq!((found.grounds.as_ref(), &found.stored.decision), (Some(&taken), &made));
    assert!(found.sealed && found.bytes > 0 && taken.judge_again(&made).unwrap().same);
    // One without any is sealed by its content alone.
    commit(&store, 2, &[bare("d2", tenant("a"))]).await;
    let bare = store.grounds(&"d2".into()).await.unwrap().unwrap();
    assert!(bare.sealed && bare.grounds.is_none());
    assert!(store.grounds(&"d3".into()).await.unwrap().is_none());
    let swap = "UPDATE decisions SET payload = replace(payload, '\"samples\":', '\"samples\":1')";
    base.tamper(&format!("{swap} WHERE id = '{}'", made.id)).await;
    let altered = store.grounds(&made.id).await.unwrap().unwrap();
    assert!(!altered.sealed);
    let replayed = altered.grounds.unwrap().judge_again(&altered.stored.decision).unwrap();
    assert!(!replayed.same, "{replayed:?}");
    base.tamper("DELETE FROM decision_grounds").await;
    assert!(!store.grounds(&made.id).await.unwrap().unwrap().sealed);
}

async fn open_latches(base: &Base) -> i64 {
    base.count("SELECT count(*) FROM latches WHERE closed IS NULL").await
}

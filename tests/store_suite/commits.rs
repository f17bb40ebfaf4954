//! The one transaction: whole or not at all, and idempotent.

use rearguard::engine::output::Order;
use rearguard::engine::output::{Output, Phase, Transition};
use rearguard::engine::rule::RuleAction;
use rearguard::model::flag::{Dimension, Scope};
use rearguard::store::{Committed, InputRow, StoreError};

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

fn rearm(scope: Scope) -> Output {
    orders(vec![Order::Unpin { flag: flag(), scope, actor: "ann".into() }])
}

pub async fn a_record_is_loaded_as_committed(base: &Base) {
    let store = base.ready().await;
    let mut output = rollback("d1", "i1");
    output.transitions.push(Transition {
        at: at(0),
        key: output.decisions[0].key.clone(),
        variant: "support.v18".into(),
        action: RuleAction::Rollback,
        from: Phase::Firing,
        to: Phase::Latched,
        why: "fired".into(),
    });
    let outputs = [output];
    assert_eq!(store.commit(&record(4, &outputs)).await.unwrap(), Committed::Stored);
    drop(store);
    let store = base.open().await;
    let loaded = store.load().await.unwrap();
    assert_eq!((loaded.seq, &loaded.position), (4, &position(40)));
    assert!(loaded.automation);
    let decisions = store.decisions(None, 10).await.unwrap();
    assert_eq!(decisions.len(), 1);
    assert_eq!(decisions[0].decision, outputs[0].decisions[0]);
    assert_eq!(loaded.latches.len(), 1);
    assert_eq!(loaded.latches[0].incident, Some(incident_id("i1")));
    assert_eq!(loaded.incidents.len(), 1);
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
    assert_eq!(store.load().await.unwrap().latches.len(), 3);
}

pub async fn rearm_then_a_new_latch(base: &Base) {
    let store = base.ready().await;
    commit(&store, 1, &[bare("d1", tenant("a"))]).await;
    commit(&store, 2, &[rearm(tenant("a"))]).await;
    assert!(store.load().await.unwrap().latches.is_empty());
    commit(&store, 3, &[bare("d2", tenant("a"))]).await;
    // Within one record too: off, then on again.
    commit(&store, 4, &[rearm(tenant("a")), bare("d3", tenant("a"))]).await;
    let latches = store.load().await.unwrap().latches;
    assert_eq!(latches.len(), 1);
    assert_eq!(latches[0].decision.as_str(), "d3");
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
    assert!(!base.open().await.load().await.unwrap().automation);
}

pub async fn inputs_are_numbered_and_pruned(base: &Base) {
    let store = base.ready().await;
    let input = |seq| InputRow { seq, wall: at(1), kind: "advance".into(), payload: "{}".into() };
    let mut record = record(9, &[]);
    record.inputs = vec![input(3), input(5), input(9)];
    store.commit(&record).await.unwrap();
    assert_eq!(store.inputs(3).await.unwrap(), [input(5), input(9)]);
    store.prune(5, at(0)).await.unwrap();
    assert_eq!(store.inputs(0).await.unwrap(), [input(9)]);
}

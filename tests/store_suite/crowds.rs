//! Many at once: clones and other processes' stores on one database, and connections that are lost.

use std::collections::BTreeSet;

use rearguard::engine::output::{MessageKind, Order, Output};
use rearguard::model::id::FlagKey;
use rearguard::store::{AuditVerdict, Store, StoreError};

use super::fixture::*;

/// Messages of as many lanes.
fn messages(count: usize) -> Vec<Output> {
    let one = |n| {
        let mut message = message(MessageKind::Notice, None, None);
        message.dedup_key = format!("k{n}");
        orders(vec![Order::Notify(message)])
    };
    (0..count).map(one).collect()
}

/// Pools of their own, as other processes would have.
pub async fn stores_side_by_side_claim_disjointly(base: &Base) {
    let store = base.ready().await;
    commit(&store, 1, &messages(24)).await;
    let mut workers = tokio::task::JoinSet::new();
    for worker in 0..3 {
        let store = Store::open(&base.url).await.unwrap();
        workers.spawn(async move {
            let mut mine = Vec::new();
            loop {
                let rows = store.claim(worker, at(1), LEASE, 2).await.unwrap();
                if rows.is_empty() {
                    return mine;
                }
                mine.extend(rows.into_iter().map(|row| row.id));
            }
        });
    }
    let claimed = workers.join_all().await.concat();
    let distinct: BTreeSet<_> = claimed.iter().collect();
    assert_eq!((claimed.len(), distinct.len()), (24, 24));
}

pub async fn writers_take_turns(base: &Base) {
    let store = base.ready().await;
    let specs: Vec<_> = (0..8).map(|n| spec(&format!("f{n}"), 1)).collect();
    store.declare(&specs, at(0)).await.unwrap();
    let before = store.flags().revision();
    let mut workers = tokio::task::JoinSet::new();
    for spec in specs {
        let store = store.clone();
        workers.spawn(async move {
            for _ in 0..3 {
                let mut seen = store.flags().revision();
                store.kill(&spec.key, "ann", "", at(1)).await.unwrap();
                assert!(store.flags().get(&spec.key).unwrap().overlay.killed);
                assert!(store.flags().revision() > seen, "what is served never goes back");
                seen = store.flags().revision();
                store.unkill(&spec.key, "ann", "", at(1)).await.unwrap();
                assert!(store.flags().revision() > seen);
            }
        });
    }
    for seq in 1..=10 {
        commit(&store, seq, &[pause(&format!("d{seq}"))]).await;
    }
    workers.join_all().await;
    assert_eq!(store.flags().revision(), before + 8 * 6);
    let rows = 1 + 8 + 1 + 48 + 10;
    let chain = store.verify_audit().await.unwrap();
    assert!(matches!(chain, AuditVerdict::Intact { rows: found, .. } if found == rows), "{chain:?}");
    let key = FlagKey::from("f0");
    assert_eq!(store.flag_changes(&key, 99).await.unwrap().len(), 7);
}

/// Only a server can lose connections: SQLite has nothing to show here.
pub async fn a_lost_connection_is_transient(base: &Base) {
    if base.url.starts_with("sqlite") {
        return;
    }
    let store = base.ready().await;
    let mut errors = Vec::new();
    base.cut_connections().await;
    for seq in 1..50 {
        match store.commit(&record(seq, &[])).await {
            Ok(_) => break,
            Err(error) => errors.push(error),
        }
    }
    for error in &errors {
        assert!(error.is_transient(), "{error}");
    }
    assert!(store.load().await.unwrap().seq > 0, "the pool has recovered: {errors:?}");
    // The lock went with its connection: that is noticed, and a successor fences this one.
    assert!(store.check().await.unwrap_err().is_transient());
    let successor = base.open().await;
    let error = store.commit(&record(99, &[])).await.unwrap_err();
    assert!(matches!(error, StoreError::Fenced { .. }), "{error}");
    successor.commit(&record(99, &[])).await.unwrap();
}

//! The built-in flag store: conditional writes, and what a pin, a pause and a kill do to what is served.

use rearguard::model::flag::Scope;
use rearguard::model::id::DecisionId;
use rearguard::store::{ChangeKind, FlagState, Store, StoreError};

use super::fixture::*;

fn state(store: &Store) -> FlagState {
    FlagState::clone(store.flags().get(&flag()).unwrap())
}

fn version(store: &Store) -> u64 {
    state(store).overlay.version
}

fn decision_id() -> DecisionId {
    "d1".into()
}

pub async fn declared_flags_are_served(base: &Base) {
    let store = base.open().await;
    assert!(store.flags().is_empty());
    let specs = [spec(FLAG, 100_000), spec("ai.search.v2", 1)];
    store.declare(&specs, at(0)).await.unwrap();
    assert_eq!(store.flags().len(), 2);
    assert_eq!(state(&store).share(), 100_000);
    let revision = store.flags().revision();
    store.declare(&specs, at(1)).await.unwrap();
    assert_eq!(store.flags().revision(), revision, "the same again is no change");
    store.declare(&[spec(FLAG, 200_000), spec("ai.search.v2", 1)], at(2)).await.unwrap();
    assert_eq!(state(&store).share(), 200_000);
    assert!(store.flags().revision() > revision);
    drop(store);
    assert_eq!(state(&base.open().await).share(), 200_000);
}

pub async fn a_pin_is_conditional(base: &Base) {
    let store = base.ready().await;
    let seen = version(&store);
    let error =
        store.pin(&flag(), &Scope::All, &decision_id(), "rollback", seen + 1, at(1)).await.unwrap_err();
    assert!(matches!(error, StoreError::VersionConflict { .. }), "{error}");
    let write = store.pin(&flag(), &Scope::All, &decision_id(), "rollback", seen, at(1)).await.unwrap();
    assert!(write.changed && write.version == seen + 1);
    assert!(state(&store).overlay.pins.contains(&Scope::All));
    let again =
        store.pin(&flag(), &Scope::All, &decision_id(), "rollback", write.version, at(2)).await.unwrap();
    assert!(!again.changed && again.version == write.version);
    assert_eq!(store.flag(&flag()).await.unwrap(), state(&store));
    store.unpin(&flag(), &Scope::All, "ann", write.version, at(3)).await.unwrap();
    assert!(state(&store).overlay.pins.is_empty());
    let unknown =
        store.pin(&"nope".into(), &Scope::All, &decision_id(), "rollback", 0, at(4)).await.unwrap_err();
    assert!(matches!(unknown, StoreError::UnknownFlag(_)), "{unknown}");
}

pub async fn a_pause_holds_the_share(base: &Base) {
    let store = base.ready().await;
    store.freeze(&flag(), &decision_id(), "pause", version(&store), at(1)).await.unwrap();
    store.declare(&[spec(FLAG, 900_000)], at(2)).await.unwrap();
    assert_eq!(state(&store).share(), 500_000);
    store.unfreeze(&flag(), "clear for 15 min", version(&store), at(3)).await.unwrap();
    assert_eq!(state(&store).share(), 900_000);
}

pub async fn declared_frozen_stays_where_it_stood(base: &Base) {
    let store = base.ready().await;
    let mut frozen = spec(FLAG, 900_000);
    frozen.frozen = true;
    store.declare(&[frozen.clone()], at(1)).await.unwrap();
    assert_eq!(state(&store).share(), 500_000);
    frozen.share = 1_000_000;
    store.declare(&[frozen], at(2)).await.unwrap();
    assert_eq!(state(&store).share(), 500_000);
    store.declare(&[spec(FLAG, 700_000)], at(3)).await.unwrap();
    assert_eq!(state(&store).share(), 700_000);
}

pub async fn a_removed_flag_keeps_its_pins(base: &Base) {
    let store = base.ready().await;
    store.pin(&flag(), &Scope::All, &decision_id(), "rollback", version(&store), at(1)).await.unwrap();
    store.declare(&[], at(2)).await.unwrap();
    assert!(!state(&store).declared);
    assert!(state(&store).overlay.pins.contains(&Scope::All));
    store.declare(&[spec(FLAG, 1)], at(3)).await.unwrap();
    assert!(state(&store).declared);
    assert!(state(&store).overlay.pins.contains(&Scope::All));
}

pub async fn kill_and_unkill(base: &Base) {
    let store = base.ready().await;
    assert!(store.kill(&flag(), "ann", "smoke", at(1)).await.unwrap().changed);
    assert!(!store.kill(&flag(), "ann", "smoke", at(1)).await.unwrap().changed);
    assert!(state(&store).overlay.killed);
    assert!(store.unkill(&flag(), "ann", "fixed", at(2)).await.unwrap().changed);
    let changes = store.flag_changes(&flag(), 9).await.unwrap();
    let kinds: Vec<_> = changes.iter().map(|change| (change.kind, &*change.actor)).collect();
    assert_eq!(
        kinds,
        [(ChangeKind::Unkill, "ann"), (ChangeKind::Kill, "ann"), (ChangeKind::Declare, "config")]
    );
}

pub async fn human_changes_are_seen_since_the_decision(base: &Base) {
    let store = base.ready().await;
    store.kill(&flag(), "ann", "before", at(1)).await.unwrap();
    store.unkill(&flag(), "ann", "before", at(1)).await.unwrap();
    commit(&store, 2, &[rollback("d1", "i1")]).await;
    let row = claim_one(&store, at(3), "builtin").await;
    assert_eq!(store.recheck(&row, at(3)).await.unwrap().human_change, None);
    store.declare(&[spec(FLAG, 7)], at(3)).await.unwrap();
    assert_eq!(store.recheck(&row, at(3)).await.unwrap().human_change, None);
    store.kill(&flag(), "ann", "after", at(4)).await.unwrap();
    let change = store.recheck(&row, at(4)).await.unwrap().human_change.unwrap();
    assert_eq!((&*change.actor, change.kind, &*change.reason), ("ann", ChangeKind::Kill, "after"));
}

//! Opening: schema versions, and one process per database.

use rearguard::store::{Store, StoreError, TokenScope};

use super::fixture::*;

pub async fn migrations_are_idempotent(base: &Base) {
    let store = base.ready().await;
    drop(store);
    let applied = base.count("SELECT count(*) FROM schema_version").await;
    let store = base.open().await;
    assert_eq!(store.flags().len(), 1);
    assert_eq!(base.count("SELECT count(*) FROM schema_version").await, applied);
    store.check().await.unwrap();
}

pub async fn a_newer_schema_is_refused(base: &Base) {
    drop(base.open().await);
    base.tamper("INSERT INTO schema_version VALUES (999, 'future', 'x')").await;
    let error = Store::open(&base.url).await.unwrap_err();
    assert!(matches!(error, StoreError::NewerSchema { found: 999, .. }), "{error}");
}

pub async fn a_changed_migration_is_refused(base: &Base) {
    drop(base.open().await);
    base.tamper("UPDATE schema_version SET checksum = 'x'").await;
    let error = Store::open(&base.url).await.unwrap_err();
    assert!(matches!(error, StoreError::ChangedMigration { .. }), "{error}");
}

pub async fn a_second_opener_is_refused(base: &Base) {
    let store = base.open().await;
    let error = Store::open_exclusive(&base.url, "second").await.unwrap_err();
    match &error {
        StoreError::InUse { path, holder } => {
            assert!(path.ends_with("store.db.lock"), "{error}");
            assert_eq!(*holder, std::process::id().to_string());
        }
        StoreError::InUsePostgres { holder } => assert_eq!(holder, "test"),
        other => panic!("{other}"),
    }
    store.check().await.unwrap();
    store.close().await.unwrap();
    let third = Store::open_exclusive(&base.url, "third").await.unwrap();
    assert_eq!(third.epoch(), store.epoch() + 1);
}

pub async fn a_stale_owner_is_fenced(base: &Base) {
    let store = base.ready().await;
    // As if another process had taken over while this one slept.
    base.tamper("UPDATE owner SET epoch = epoch + 1").await;
    for error in [
        store.commit(&record(1, &[])).await.unwrap_err(),
        store.claim(1, at(1), LEASE, 1).await.unwrap_err(),
        store.kill(&flag(), "ann", "", at(1)).await.unwrap_err(),
        store.check().await.unwrap_err(),
    ] {
        assert!(matches!(error, StoreError::Fenced { .. }), "{error}");
    }
    assert_eq!(store.load().await.unwrap().seq, 0);
}

pub async fn a_command_opens_beside_the_daemon(base: &Base) {
    let store = base.ready().await;
    let beside = Store::open(&base.url).await.unwrap();
    let secret = beside.create_token("ann", &[TokenScope::Read], at(1)).await.unwrap();
    assert!(store.verify_token(&secret).await.unwrap().is_some());
    commit(&store, 1, &[rollback("d1", "i1")]).await;
    beside.refresh_flags().await.unwrap();
    assert_eq!(beside.flags().revision(), store.flags().revision());
}

/// Only SQLite's lock is a file: by another name it is the same one.
pub async fn a_link_is_the_same_database(base: &Base) {
    let Some(path) = base.url.strip_prefix("sqlite:") else {
        return;
    };
    let store = base.open().await;
    let link = format!("{path}.link");
    std::os::unix::fs::symlink(path, &link).unwrap();
    let error = Store::open_exclusive(&format!("sqlite:{link}"), "second").await.unwrap_err();
    assert!(matches!(error, StoreError::InUse { .. }), "{error}");
    store.check().await.unwrap();
}

//! The audit chain: every alteration shows.

use rearguard::store::{AuditVerdict, NewAudit, Store};

use super::fixture::*;

pub async fn every_change_is_chained(base: &Base) {
    let store = base.ready().await;
    commit(&store, 1, &[rollback("d1", "i1")]).await;
    store.kill(&flag(), "ann", "smoke", at(2)).await.unwrap();
    store.create_token("bob", &[], at(3)).await.unwrap();
    let row = NewAudit::new("ann", "automation", "", "off");
    store.audit(&row, at(4)).await.unwrap();
    let log = store.audit_log(10).await.unwrap();
    let kinds: Vec<_> = log.iter().map(|row| &*row.kind).collect();
    assert_eq!(kinds, ["automation", "token_create", "flag_kill", "decision", "flag_declare"]);
    let found = store.verify_audit().await.unwrap();
    assert!(matches!(found, AuditVerdict::Intact { rows: 5, decisions: 1, .. }), "{found:?}");
    // Beside the owner, without its lock, and without a right to write.
    let beside = Store::open_read_only(&base.url).await.unwrap();
    assert_eq!(beside.verify_audit().await.unwrap(), found);
    assert!(beside.audit(&row, at(5)).await.is_err());
    base.tamper("UPDATE decisions SET payload = replace(payload, '812', '813')").await;
    let altered = AuditVerdict::Altered { decision: "d1".into() };
    assert_eq!(beside.verify_audit().await.unwrap(), altered);
}

async fn four_rows(base: &Base) -> rearguard::store::Store {
    let store = base.open().await;
    for n in 0..4 {
        let row = NewAudit::new("ann", "test", "x", n.to_string());
        store.audit(&row, at(n)).await.unwrap();
    }
    store
}

async fn broken_row(store: &rearguard::store::Store) -> i64 {
    match store.verify_audit().await.unwrap() {
        AuditVerdict::Broken { row, .. } => row,
        found => panic!("the alteration was not found: {found:?}"),
    }
}

pub async fn an_edited_row_is_found(base: &Base) {
    let store = four_rows(base).await;
    for column in ["actor", "kind", "subject", "detail"] {
        let keep = format!("UPDATE audit SET {column} = {column} || '!' WHERE id = 3");
        base.tamper(&keep).await;
        assert_eq!(broken_row(&store).await, 3, "{column}");
        let back = format!("UPDATE audit SET {column} = replace({column}, '!', '') WHERE id = 3");
        base.tamper(&back).await;
    }
    base.tamper("UPDATE audit SET at = at + 1 WHERE id = 2").await;
    assert_eq!(broken_row(&store).await, 2);
}

pub async fn a_removed_row_is_found(base: &Base) {
    let store = four_rows(base).await;
    base.tamper("DELETE FROM audit WHERE id = 2").await;
    assert_eq!(broken_row(&store).await, 2);
}

pub async fn a_cut_tail_is_found(base: &Base) {
    let store = four_rows(base).await;
    base.tamper("DELETE FROM audit WHERE id = 4").await;
    assert_eq!(broken_row(&store).await, 4);
}

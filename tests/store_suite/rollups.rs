//! Hourly roll-ups: stored with the step that made them, read back as they were, forgotten in time.

use rearguard::engine::rollup::RollupRow;
use rearguard::model::flag::{Dimension, Scope};
use rearguard::store::Committed;

use super::fixture::*;

fn hour(hour: i64, slice: Scope, data: &str) -> RollupRow {
    RollupRow {
        variant: "support.v18".into(),
        metric: "slo.answers".into(),
        slice,
        hour,
        shape: "boolean".into(),
        data: data.into(),
    }
}

pub async fn roll_ups_come_back_as_stored(base: &Base) {
    let store = base.ready().await;
    let tenant = Scope::Only(Dimension::Tenant, "acme".into());
    let rows =
        [hour(491_666, Scope::All, "01"), hour(491_667, Scope::All, "02"), hour(491_667, tenant, "03")];
    let mut made = record(1, &[]);
    made.rollups = rows.to_vec();
    assert_eq!(store.commit(&made).await.unwrap(), Committed::Stored);
    assert_eq!(store.load().await.unwrap().rollups, rows);

    // The stored position covers it: a replayed step changes nothing.
    let mut again = record(1, &[]);
    again.rollups = vec![hour(491_666, Scope::All, "ff")];
    assert_eq!(store.commit(&again).await.unwrap(), Committed::Already);
    assert_eq!(store.load().await.unwrap().rollups, rows);

    // Recorded anew under another shape.
    let mut other = record(2, &[]);
    other.rollups = vec![RollupRow { shape: "0.001 to 1".into(), ..hour(491_666, Scope::All, "04") }];
    commit_record(&store, &other).await;
    let loaded = store.load().await.unwrap().rollups;
    assert_eq!((loaded.len(), &loaded[0]), (3, &other.rollups[0]));
    drop(store);
    assert_eq!(base.open().await.load().await.unwrap().rollups, loaded);
}

pub async fn old_roll_ups_are_forgotten(base: &Base) {
    let store = base.ready().await;
    let mut made = record(1, &[]);
    made.rollups = (0..10).map(|h| hour(h, Scope::All, "01")).collect();
    commit_record(&store, &made).await;
    assert_eq!(store.forget_rollups(4).await.unwrap(), 4);
    let left: Vec<i64> = store.load().await.unwrap().rollups.iter().map(|row| row.hour).collect();
    assert_eq!(left, (4..10).collect::<Vec<_>>());
}

async fn commit_record(store: &rearguard::store::Store, record: &rearguard::store::StepRecord<'_>) {
    assert_eq!(store.commit(record).await.unwrap(), Committed::Stored);
}

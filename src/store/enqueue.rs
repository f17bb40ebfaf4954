//! Adding rows to the outbox: each effect once, and what a new row makes void or due.

use sqlx::AnyConnection;

use super::Store;
use super::db::{commit, json};
use super::error::StoreError;
use super::plan::{Flip, NewRow, RowKind, Task};
use crate::engine::input::FlipOutcome;
use crate::model::time::Timestamp;

impl Store {
    /// Adds rows outside a step: what dispatch itself has to say. Rows already there are left alone; gives how many were new.
    pub async fn enqueue(&self, rows: &[NewRow], now: Timestamp) -> Result<usize, StoreError> {
        let mut tx = self.write().await?;
        let mut new = 0;
        for row in rows {
            new += usize::from(insert(&mut tx, row, now).await?);
        }
        release_unawaited(&mut tx, now).await?;
        commit(tx).await?;
        Ok(new)
    }
}

/// What a human rolls back goes before everything and waits for no older flip, then pins, other flips, pages, and the rest. A
/// drill's flips come after every real pin, its messages after every real page.
pub(super) fn rank(row: &NewRow) -> i64 {
    match (&row.task, row.kind) {
        (Task::Flip(_), _) if row.drill => 1,
        (Task::Message(_), _) if row.drill => 3,
        (Task::Flip(Flip::Pin { by: Some(_), .. }), _) => -1,
        (Task::Flip(Flip::Pin { .. }), _) => 0,
        (_, RowKind::Flip) => 1,
        (_, RowKind::Page) => 2,
        (_, RowKind::Notify) => 3,
        (_, RowKind::Publish) => 4,
    }
}

/// Adds a row unless it is there. A page that waits for no unfinished flip is due now; older standing messages of its lane
/// have been replaced; older flips that it undoes are void.
pub(super) async fn insert(tx: &mut AnyConnection, row: &NewRow, now: Timestamp) -> Result<bool, StoreError> {
    let hit = sqlx::query(
        "INSERT INTO outbox (dedup, kind, rank, adapter, lane, flag, scope, decision, incident, awaits, payload, status,
            not_before, deadline, expires, created)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, 'pending', $12, $13, $14, $15)
         ON CONFLICT (dedup) DO NOTHING",
    )
    .bind(&*row.dedup)
    .bind(row.kind.as_str())
    .bind(rank(row))
    .bind(&*row.adapter)
    .bind(&*row.lane)
    .bind(row.flag.as_ref().map(ToString::to_string))
    .bind(row.scope.as_ref().map(ToString::to_string))
    .bind(row.decision.as_ref().map(ToString::to_string))
    .bind(row.incident.as_ref().map(ToString::to_string))
    .bind(row.awaits.as_ref().map(ToString::to_string))
    .bind(json("a task", &row.task)?)
    .bind(row.not_before.as_millis())
    .bind(row.deadline.map(Timestamp::as_millis))
    .bind(row.expires.as_millis())
    .bind(now.as_millis())
    .execute(&mut *tx)
    .await
    .map_err(StoreError::db("adding an outbox row"))?;
    if hit.rows_affected() == 0 {
        return Ok(false);
    }
    match &row.task {
        Task::Flip(flip) => void_opposites(tx, row, flip, now).await?,
        Task::Message(_) => {
            sqlx::query(
                "UPDATE outbox SET status = 'done' WHERE lane = $1 AND dedup <> $2 AND status = 'standing'",
            )
            .bind(&*row.lane)
            .bind(&*row.dedup)
            .execute(&mut *tx)
            .await
            .map_err(StoreError::db("replacing a standing message"))?;
        }
        Task::Publish(_) => {}
    }
    Ok(true)
}

/// A re-arm voids the pin that is still being tried, a pin the unpin, and likewise for freezes. Rows under way are left to
/// their worker, which rechecks, and block the lane until it is done.
async fn void_opposites(
    tx: &mut AnyConnection,
    row: &NewRow,
    flip: &Flip,
    now: Timestamp,
) -> Result<(), StoreError> {
    let opposite = match flip {
        Flip::Pin { .. } => "unpin",
        Flip::Unpin { .. } => "pin",
        Flip::Freeze { .. } => "unfreeze",
        Flip::Unfreeze { .. } => "freeze",
    };
    // A human's rollback also stands for one that a rule still tries.
    let same = if matches!(flip, Flip::Pin { by: Some(_), .. }) { "pin" } else { opposite };
    sqlx::query(
        "UPDATE outbox SET status = 'superseded', finished = $1, result = $2, outcome = $3
         WHERE lane = $4 AND scope = $5 AND status = 'pending' AND (dedup LIKE $6 OR dedup LIKE $7) AND dedup <> $8",
    )
    .bind(now.as_millis())
    .bind(format!("a later {} replaces it", flip.as_str()))
    .bind(json("an outcome", &FlipOutcome::Superseded)?)
    .bind(&*row.lane)
    .bind(flip.scope().to_string())
    .bind(format!("flip/{}/{opposite}/%", row.adapter))
    .bind(format!("flip/{}/{same}/%", row.adapter))
    .bind(&*row.dedup)
    .execute(&mut *tx)
    .await
    .map_err(StoreError::db("voiding an opposite flip"))?;
    Ok(())
}

/// After all rows of a commit are in: pages whose decision has no flip under way need not wait.
pub(super) async fn release_unawaited(tx: &mut AnyConnection, now: Timestamp) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE outbox SET not_before = $1
         WHERE status = 'pending' AND awaits IS NOT NULL AND not_before > $1 AND revision = 0 AND attempts = 0
           AND NOT EXISTS (
             SELECT 1 FROM outbox flip WHERE flip.decision = outbox.awaits AND flip.kind = 'flip'
               AND flip.status IN ('pending', 'claimed'))",
    )
    .bind(now.as_millis())
    .execute(&mut *tx)
    .await
    .map_err(StoreError::db("releasing pages without a flip"))?;
    Ok(())
}

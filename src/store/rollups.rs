//! Hourly roll-ups: written in the transaction of the step that made them, read back at a start, forgotten when no window can
//! reach them any more.

use sqlx::AnyConnection;

use super::Store;
use super::db::Columns;
use super::error::StoreError;
use crate::engine::rollup::RollupRow;
use crate::model::flag::Scope;

impl Store {
    /// Forgets roll-ups of hours before `hour` (since 1970-01-01); how many.
    pub async fn forget_rollups(&self, hour: i64) -> Result<u64, StoreError> {
        let mut tx = self.write().await?;
        let hit = sqlx::query("DELETE FROM rollups WHERE hour < $1")
            .bind(hour)
            .execute(&mut *tx)
            .await
            .map_err(StoreError::db("forgetting hourly roll-ups"))?;
        super::db::commit(tx).await?;
        Ok(hit.rows_affected())
    }
}

/// Stores one hour of one series. What was recorded under another shape is replaced: its numbers meant something else.
pub(super) async fn upsert(tx: &mut AnyConnection, row: &RollupRow) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO rollups (variant, metric, slice, hour, shape, data) VALUES ($1, $2, $3, $4, $5, $6)
         ON CONFLICT (variant, metric, slice, hour) DO UPDATE SET shape = excluded.shape, data = excluded.data",
    )
    .bind(&*row.variant)
    .bind(&*row.metric)
    .bind(row.slice.to_string())
    .bind(row.hour)
    .bind(&*row.shape)
    .bind(&*row.data)
    .execute(&mut *tx)
    .await
    .map_err(StoreError::db("storing an hourly roll-up"))?;
    Ok(())
}

/// All roll-ups, oldest first.
pub(super) async fn all(tx: &mut AnyConnection) -> Result<Vec<RollupRow>, StoreError> {
    let rows = sqlx::query("SELECT * FROM rollups ORDER BY hour, variant, metric, slice")
        .fetch_all(&mut *tx)
        .await
        .map_err(StoreError::db("reading hourly roll-ups"))?;
    let read = |row: &sqlx::any::AnyRow| {
        Ok(RollupRow {
            variant: row.text("variant")?,
            metric: row.text("metric")?,
            slice: Scope::try_from(row.text("slice")?)
                .map_err(|why| StoreError::corrupt("a roll-up's slice", why))?,
            hour: row.int("hour")?,
            shape: row.text("shape")?,
            data: row.text("data")?,
        })
    };
    rows.iter().map(read).collect()
}

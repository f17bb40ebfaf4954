//! What a restart continues from.

use serde::Serialize;
use sqlx::AnyConnection;
use sqlx::any::AnyRow;

use super::Store;
use super::db::{Columns, unsigned};
use super::error::StoreError;
use super::record::{Position, SourcePosition};
use super::rollups;
use crate::engine::input::Source;
use crate::engine::output::{Decision, Transition};
use crate::engine::rollup::RollupRow;
use crate::model::id::{DecisionId, FlagKey};
use crate::model::time::{Minute, Timestamp};

/// Where the engine stood at the last commit.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// The number of the last input whose output is stored; zero before the first.
    pub seq: u64,
    pub position: Position,
    /// The engine's opaque state, by key.
    pub state: Vec<(String, String)>,
    /// The hours of long windows.
    pub rollups: Vec<RollupRow>,
}

/// A decision as it was committed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StoredDecision {
    pub seq: u64,
    /// Wall time of the commit.
    pub committed: Timestamp,
    pub decision: Decision,
}

impl Store {
    /// Reads everything in one consistent view.
    pub async fn load(&self) -> Result<Loaded, StoreError> {
        let mut tx = self.db().read().await?;
        let (seq, event_time, closed) = engine(&mut tx).await?;
        let state = sqlx::query("SELECT key, value FROM state ORDER BY key")
            .fetch_all(&mut *tx)
            .await
            .map_err(StoreError::db("reading the engine's state"))?;
        Ok(Loaded {
            seq,
            position: Position { sources: sources(&mut tx).await?, event_time, closed },
            state: state
                .iter()
                .map(|row| Ok((row.text("key")?, row.text("value")?)))
                .collect::<Result<_, StoreError>>()?,
            rollups: rollups::all(&mut tx).await?,
        })
    }

    /// A decision with its evidence.
    pub async fn decision(&self, id: &DecisionId) -> Result<Option<StoredDecision>, StoreError> {
        let row = sqlx::query("SELECT * FROM decisions WHERE id = $1")
            .bind(id.as_str())
            .fetch_optional(&self.db().pool)
            .await
            .map_err(StoreError::db("reading a decision"))?;
        row.as_ref().map(read_decision).transpose()
    }

    /// Decisions of a flag (or of all), newest first.
    pub async fn decisions(
        &self,
        flag: Option<&FlagKey>,
        limit: u32,
    ) -> Result<Vec<StoredDecision>, StoreError> {
        let rows = sqlx::query(
            "SELECT * FROM decisions WHERE (CAST($1 AS TEXT) IS NULL OR flag = $1)
             ORDER BY seq DESC, id DESC LIMIT $2",
        )
        .bind(flag.map(ToString::to_string))
        .bind(i64::from(limit))
        .fetch_all(&self.db().pool)
        .await
        .map_err(StoreError::db("listing decisions"))?;
        rows.iter().map(read_decision).collect()
    }

    /// Changes of a flag's alerts, newest first, with the number of the input that made them.
    pub async fn transitions(
        &self,
        flag: &FlagKey,
        limit: u32,
    ) -> Result<Vec<(u64, Transition)>, StoreError> {
        let rows =
            sqlx::query("SELECT seq, payload FROM transitions WHERE flag = $1 ORDER BY id DESC LIMIT $2")
                .bind(flag.as_str())
                .bind(i64::from(limit))
                .fetch_all(&self.db().pool)
                .await
                .map_err(StoreError::db("listing transitions"))?;
        rows.iter().map(|row| Ok((unsigned(row.int("seq")?), row.json("payload")?))).collect()
    }

    /// Forgets finished messages, transitions and published rows older than `before`. Decisions with their grounds, incidents,
    /// latches and the audit chain stay.
    pub async fn prune(&self, before: Timestamp) -> Result<u64, StoreError> {
        let mut tx = self.write().await?;
        let mut gone = 0;
        let old = before.as_millis();
        for sql in [
            "DELETE FROM transitions WHERE at < $1",
            "DELETE FROM outbox WHERE status IN ('done', 'failed', 'expired', 'superseded')
               AND kind <> 'flip' AND finished < $1",
        ] {
            let hit =
                sqlx::query(sql).bind(old).execute(&mut *tx).await.map_err(StoreError::db("pruning"))?;
            gone += hit.rows_affected();
        }
        super::db::commit(tx).await?;
        Ok(gone)
    }
}

/// The numbers kept in `settings`: last input, event time, last closed minute.
pub(super) async fn engine(
    tx: &mut AnyConnection,
) -> Result<(u64, Option<Timestamp>, Option<Minute>), StoreError> {
    let rows = sqlx::query("SELECT key, value FROM settings WHERE key IN ('seq', 'event_time', 'closed')")
        .fetch_all(&mut *tx)
        .await
        .map_err(StoreError::db("reading the position"))?;
    let (mut seq, mut event_time, mut closed) = (0, None, None);
    for row in &rows {
        let number: i64 =
            row.text("value")?.parse().map_err(|why| StoreError::corrupt("the position", why))?;
        match &*row.text("key")? {
            "seq" => seq = unsigned(number),
            "event_time" => event_time = Some(Timestamp::from_millis(number)),
            _ => closed = Some(Minute(number)),
        }
    }
    Ok((seq, event_time, closed))
}

async fn sources(tx: &mut AnyConnection) -> Result<Vec<SourcePosition>, StoreError> {
    let rows = sqlx::query("SELECT * FROM sources ORDER BY topic, part")
        .fetch_all(&mut *tx)
        .await
        .map_err(StoreError::db("reading the sources' positions"))?;
    let read = |row: &AnyRow| {
        Ok(SourcePosition {
            source: Source {
                topic: row.text("topic")?.into(),
                partition: i32::try_from(row.int("part")?)
                    .map_err(|why| StoreError::corrupt("a partition", why))?,
            },
            next_offset: row.int("next_offset")?,
            watermark: row.maybe_int("watermark")?.map(Timestamp::from_millis),
            fates: row.json("fates")?,
        })
    };
    rows.iter().map(read).collect()
}

pub(super) fn read_decision(row: &AnyRow) -> Result<StoredDecision, StoreError> {
    Ok(StoredDecision {
        seq: unsigned(row.int("seq")?),
        committed: Timestamp::from_millis(row.int("wall")?),
        decision: row.json("payload")?,
    })
}

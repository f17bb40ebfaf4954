//! What is known about the outbox: how old, how much, how a decision's flip stands, and whether a row is still wanted.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use sqlx::AnyConnection;

use super::Store;
use super::db::{Columns, unsigned};
use super::error::StoreError;
use super::flags::{FlagChange, human_change};
use super::outbox::{OutboxRow, read_kind};
use super::plan::{Flip, RowKind, Task};
use crate::engine::input::{Answer, FlipOutcome};
use crate::model::flag::Scope;
use crate::model::id::{DecisionId, FlagKey};
use crate::model::time::Timestamp;

/// Rows of one kind, by status.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OutboxCounts {
    pub kind: RowKind,
    /// `pending`, `claimed`, `standing`, `done`, `failed`, `expired`, `superseded`.
    pub status: String,
    pub rows: u64,
}

/// How the outbox stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct OutboxStats {
    pub counts: Vec<OutboxCounts>,
    /// Since when the row that has waited the longest waits: since it was due, or, once a try has failed, since it was asked for
    /// or last taken. The end of a pause may wait for automation and does not count.
    pub oldest_due: Option<Timestamp>,
}

impl OutboxStats {
    /// How long the row has waited that waits the longest.
    pub fn age(&self, now: Timestamp) -> Duration {
        self.oldest_due.map_or(Duration::ZERO, |due| now.since(due))
    }
}

/// How a decision's flip stands, for the text of a page.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlipState {
    /// `None` while it is being tried.
    pub outcome: Option<FlipOutcome>,
    /// What was read back, or why it ended.
    pub detail: Option<String>,
    pub attempts: u32,
    pub last_error: Option<String>,
    /// Until when the promise holds.
    pub deadline: Option<Timestamp>,
    pub finished: Option<Timestamp>,
    /// How a human puts back what stood before the first write.
    #[serde(default)]
    pub undo: Option<String>,
}

/// Current truth about a row, asked right before acting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recheck {
    /// The row is still this worker's. If not: let it go.
    pub held: bool,
    /// `automation off` says: no flips. Pages go on.
    pub automation: bool,
    /// The latch of the row's decision is open. Always true for rows that no latch belongs to.
    pub latch_open: bool,
    /// For a flip: the newest change a human has made to the flag since the decision was committed.
    pub human_change: Option<FlagChange>,
    /// The time until which it may be tried has passed.
    pub expired: bool,
}

impl Store {
    /// Counts by kind and status, and the age of the oldest due row.
    pub async fn outbox_stats(&self, now: Timestamp) -> Result<OutboxStats, StoreError> {
        let mut tx = self.db().read().await?;
        let rows = sqlx::query(
            "SELECT kind, status, count(*) AS n FROM outbox GROUP BY kind, status ORDER BY kind, status",
        )
        .fetch_all(&mut *tx)
        .await
        .map_err(StoreError::db("counting the outbox"))?;
        let mut counts = Vec::with_capacity(rows.len());
        for row in &rows {
            counts.push(OutboxCounts {
                kind: read_kind(&row.text("kind")?)?,
                status: row.text("status")?,
                rows: unsigned(row.int("n")?),
            });
        }
        let oldest: Option<i64> = sqlx::query_scalar(
            "SELECT min(CASE WHEN last_error IS NOT NULL THEN COALESCE(finished, created)
                WHEN status = 'claimed' THEN lease_until ELSE not_before END) FROM outbox
             WHERE status IN ('pending', 'claimed', 'standing') AND dedup NOT LIKE 'flip/%/unfreeze/%'",
        )
        .fetch_one(&mut *tx)
        .await
        .map_err(StoreError::db("asking for the outbox's age"))?;
        Ok(OutboxStats { counts, oldest_due: oldest.map(Timestamp::from_millis).filter(|due| *due <= now) })
    }

    /// How the flip of a decision stands; `None` when it has none (dry run, automation off, limits …). With several
    /// adapters, the one that is worst.
    pub async fn flip_state(&self, decision: &DecisionId) -> Result<Option<FlipState>, StoreError> {
        let rows = sqlx::query(
            "SELECT * FROM outbox WHERE decision = $1 AND kind = 'flip'
             ORDER BY CASE status WHEN 'failed' THEN 0 WHEN 'expired' THEN 1 WHEN 'pending' THEN 2 WHEN 'claimed' THEN 2
                ELSE 3 END, id LIMIT 1",
        )
        .bind(decision.as_str())
        .fetch_all(&self.db().pool)
        .await
        .map_err(StoreError::db("reading a flip's state"))?;
        let Some(row) = rows.first() else {
            return Ok(None);
        };
        Ok(Some(FlipState {
            outcome: outcome(row.maybe_text("outcome")?)?,
            detail: row.maybe_text("result")?,
            attempts: u32::try_from(row.int("attempts")?).unwrap_or(u32::MAX),
            last_error: row.maybe_text("last_error")?,
            deadline: row.maybe_int("deadline")?.map(Timestamp::from_millis),
            finished: row.maybe_int("finished")?.map(Timestamp::from_millis),
            undo: row.maybe_text("undo")?,
        }))
    }

    /// Reads what is true now about a claimed row.
    pub async fn recheck(&self, row: &OutboxRow, now: Timestamp) -> Result<Recheck, StoreError> {
        let mut tx = self.db().read().await?;
        let held: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM outbox WHERE id = $1 AND epoch = $2 AND status = 'claimed'",
        )
        .bind(row.id)
        .bind(row.epoch)
        .fetch_one(&mut *tx)
        .await
        .map_err(StoreError::db("rechecking an outbox row"))?;
        let latch_open = match (&row.task, &row.decision) {
            (Task::Flip(Flip::Pin { .. }), Some(decision)) => latch_open(&mut tx, decision).await?,
            _ => true,
        };
        let human_change = match (&row.task, &row.decision) {
            (Task::Flip(flip), Some(decision)) => {
                let version: Option<i64> =
                    sqlx::query_scalar("SELECT flag_version FROM decisions WHERE id = $1")
                        .bind(decision.as_str())
                        .fetch_optional(&mut *tx)
                        .await
                        .map_err(StoreError::db("reading a decision's flag version"))?;
                human_change(&mut tx, flip.flag(), unsigned(version.unwrap_or_default())).await?
            }
            _ => None,
        };
        Ok(Recheck {
            held: held == 1,
            automation: automation(&mut tx).await?,
            latch_open,
            human_change,
            expired: now >= row.expires,
        })
    }

    /// Whether Rearguard acts at all.
    pub async fn automation(&self) -> Result<bool, StoreError> {
        let mut tx = self.db().read().await?;
        automation(&mut tx).await
    }

    /// Finished flips whose answer the engine has not taken in: what a restart has to tell it, oldest first.
    pub async fn unanswered(&self) -> Result<Vec<Answer>, StoreError> {
        let rows = sqlx::query(
            "SELECT decision, flag, scope, finished, outcome FROM outbox
             WHERE kind = 'flip' AND answered = 0 AND decision IS NOT NULL AND finished IS NOT NULL
             ORDER BY finished, id",
        )
        .fetch_all(&self.db().pool)
        .await
        .map_err(StoreError::db("reading unanswered flips"))?;
        let mut answers = Vec::with_capacity(rows.len());
        for row in &rows {
            let scope = row.maybe_text("scope")?.unwrap_or_else(|| "all".to_owned());
            let Some(outcome) = outcome(row.maybe_text("outcome")?)? else {
                continue;
            };
            answers.push(Answer {
                decision: DecisionId::from(row.text("decision")?),
                flag: FlagKey::from(row.text("flag")?),
                scope: Scope::try_from(scope)
                    .map_err(|why| StoreError::corrupt("an outbox row's scope", why))?,
                at: Timestamp::from_millis(row.int("finished")?),
                outcome,
            });
        }
        Ok(answers)
    }
}

async fn latch_open(tx: &mut AnyConnection, decision: &DecisionId) -> Result<bool, StoreError> {
    let open: i64 = sqlx::query_scalar("SELECT count(*) FROM latches WHERE decision = $1 AND closed IS NULL")
        .bind(decision.as_str())
        .fetch_one(&mut *tx)
        .await
        .map_err(StoreError::db("reading a latch"))?;
    Ok(open > 0)
}

/// On unless it was switched off.
pub(super) async fn automation(tx: &mut AnyConnection) -> Result<bool, StoreError> {
    let value: Option<String> = sqlx::query_scalar("SELECT value FROM settings WHERE key = 'automation'")
        .fetch_optional(&mut *tx)
        .await
        .map_err(StoreError::db("reading the automation switch"))?;
    Ok(value.as_deref() != Some("off"))
}

pub(super) fn outcome(word: Option<String>) -> Result<Option<FlipOutcome>, StoreError> {
    word.map(|word| serde_json::from_str(&word))
        .transpose()
        .map_err(|why| StoreError::corrupt("a flip's outcome", why))
}

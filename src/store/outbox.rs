//! The outbox: rows are claimed under an epoch and a lease, and finished by compare-and-set on that epoch. A worker that slept
//! through its lease finishes nothing.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use sqlx::AnyConnection;
use sqlx::any::AnyRow;

use super::Store;
use super::db::{Columns, commit, json, signed};
use super::error::StoreError;
use super::plan::{Flip, RowKind, Task};
use super::timeline::{self, EntryKind, NewEntry};
use crate::engine::input::FlipOutcome;
use crate::model::flag::Scope;
use crate::model::id::{DecisionId, FlagKey, IncidentId};
use crate::model::time::Timestamp;

/// A row that this worker holds until `lease_until`.
#[derive(Clone, Debug, PartialEq)]
pub struct OutboxRow {
    pub id: i64,
    /// Counts the claims: finishing needs the one that was given out.
    pub epoch: i64,
    pub kind: RowKind,
    /// The adapter or receiver that carries it out.
    pub adapter: String,
    pub task: Task,
    pub flag: Option<FlagKey>,
    pub scope: Option<Scope>,
    pub decision: Option<DecisionId>,
    pub incident: Option<IncidentId>,
    /// Tries so far, this one included.
    pub attempts: u32,
    /// How often it has been sent before: above zero it is an update under the same dedup key.
    pub revision: u32,
    pub created: Timestamp,
    /// Until when the promise holds. Later tries go on in the background.
    pub deadline: Option<Timestamp>,
    /// Until when it is tried.
    pub expires: Timestamp,
    pub lease_until: Timestamp,
    pub last_error: Option<String>,
    /// How a human puts back what was there before the first write of an earlier try.
    pub undo: Option<String>,
}

/// How a row ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "result", rename_all = "snake_case")]
pub enum RowOutcome {
    /// Of a flip: what was read back.
    Flip { outcome: FlipOutcome, detail: String },
    /// The receiver took it. With `again_at` it stands: it is claimed again then, whatever its `expires` says, until a newer
    /// message of its lane comes or its incident is resolved.
    Sent { detail: String, again_at: Option<Timestamp> },
    /// The receiver will never take it.
    Refused { detail: String },
}

impl Store {
    /// Claims up to `limit` due rows for `lease`: flips first, one per lane, oldest first. `worker` is kept for diagnosis. A row
    /// that cannot be read fails here; a flip's pages then say so.
    pub async fn claim(
        &self,
        worker: u64,
        now: Timestamp,
        lease: Duration,
        limit: u32,
    ) -> Result<Vec<OutboxRow>, StoreError> {
        let mut tx = self.write().await?;
        let ids: Vec<i64> = sqlx::query_scalar(
            "SELECT o.id FROM outbox o
             WHERE o.status IN ('pending', 'claimed', 'standing')
               AND (CASE WHEN o.status = 'claimed' THEN o.lease_until ELSE o.not_before END) <= $1
               AND NOT EXISTS (
                 SELECT 1 FROM outbox other
                 WHERE other.lane = o.lane AND other.id <> o.id
                   AND ((other.status = 'claimed' AND (other.lease_until > $1 OR other.id < o.id))
                     OR (other.status = 'pending' AND other.id < o.id AND other.rank <= o.rank)
                     OR (other.status = 'pending' AND other.rank < o.rank AND other.not_before <= $1)))
             ORDER BY o.rank, o.id LIMIT $2",
        )
        .bind(now.as_millis())
        .bind(i64::from(limit))
        .fetch_all(&mut *tx)
        .await
        .map_err(StoreError::db("looking for due outbox rows"))?;
        let mut rows = Vec::with_capacity(ids.len());
        for id in ids {
            let claimed = sqlx::query(
                "UPDATE outbox SET status = 'claimed', epoch = epoch + 1, attempts = attempts + 1, worker = $1,
                    lease_until = $2, dirty = 0
                 WHERE id = $3 RETURNING *",
            )
            .bind(signed(worker))
            .bind((now + lease).as_millis())
            .bind(id)
            .fetch_all(&mut *tx)
            .await
            .map_err(StoreError::db("claiming an outbox row"))?;
            for row in &claimed {
                match read_row(row) {
                    Ok(row) => {
                        timeline::flip_started(&mut tx, &row, now).await?;
                        rows.push(row);
                    }
                    // One row that another version wrote must not keep all others from being carried out.
                    Err(StoreError::Corrupt { what, why }) => {
                        bury(&mut tx, row, &format!("{what} is not readable: {why}"), now).await?;
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        commit(tx).await?;
        Ok(rows)
    }

    /// Ends a row. A finished flip releases or refreshes the pages that wait for it and enters the incident's timeline; so
    /// does an accepted page.
    pub async fn complete(
        &self,
        row: &OutboxRow,
        outcome: &RowOutcome,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        match outcome {
            RowOutcome::Flip { outcome, detail } => {
                finish_flip(&mut tx, row, *outcome, detail, now).await?;
            }
            RowOutcome::Sent { detail, again_at } => {
                sent(&mut tx, row, detail, *again_at, now).await?;
            }
            RowOutcome::Refused { detail } => {
                end(&mut tx, row, "failed", None, detail, now).await?;
                let entry = NewEntry::of(EntryKind::MessageRefused, format!("{}: {detail}", row.adapter));
                note(&mut tx, row, entry, now).await?;
            }
        }
        commit(tx).await
    }

    /// Gives a row back for a later try, after one that failed.
    pub async fn retry(&self, row: &OutboxRow, next_at: Timestamp, error: &str) -> Result<(), StoreError> {
        self.give_back(row, next_at, Some(error)).await
    }

    /// Gives a row back that was not tried: its receiver is busy, or it is too early. The claim does not count as a try.
    pub async fn postpone(&self, row: &OutboxRow, next_at: Timestamp) -> Result<(), StoreError> {
        self.give_back(row, next_at, None).await
    }

    /// Keeps how a human puts back what a flip is about to change. The first word stays: a later try may read what an earlier
    /// one has written.
    pub async fn intend(&self, row: &OutboxRow, undo: &str) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        let hit = sqlx::query(
            "UPDATE outbox SET undo = COALESCE(undo, $1) WHERE id = $2 AND epoch = $3 AND status = 'claimed'",
        )
        .bind(undo.to_owned())
        .bind(row.id)
        .bind(row.epoch)
        .execute(&mut *tx)
        .await
        .map_err(StoreError::db("keeping what stood before a flip"))?;
        held(row, hit.rows_affected())?;
        commit(tx).await
    }

    async fn give_back(
        &self,
        row: &OutboxRow,
        next_at: Timestamp,
        error: Option<&str>,
    ) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        let hit = sqlx::query(
            "UPDATE outbox SET status = 'pending', not_before = $1, attempts = attempts - $2,
                last_error = COALESCE(CAST($3 AS TEXT), last_error), lease_until = NULL
             WHERE id = $4 AND epoch = $5 AND status = 'claimed'",
        )
        .bind(next_at.as_millis())
        .bind(i64::from(error.is_none()))
        .bind(error.map(str::to_owned))
        .bind(row.id)
        .bind(row.epoch)
        .execute(&mut *tx)
        .await
        .map_err(StoreError::db("giving an outbox row back"))?;
        held(row, hit.rows_affected())?;
        commit(tx).await
    }

    /// The row's time is up. For a flip that is an answer to the engine like any other.
    pub async fn expire(&self, row: &OutboxRow, now: Timestamp) -> Result<(), StoreError> {
        let detail = row.last_error.clone().unwrap_or_default();
        let mut tx = self.write().await?;
        if row.kind == RowKind::Flip {
            finish_flip(&mut tx, row, FlipOutcome::Expired, &detail, now).await?;
        } else {
            end(&mut tx, row, "expired", None, &detail, now).await?;
            let entry = NewEntry::of(EntryKind::MessageExpired, format!("{}: {detail}", row.adapter));
            note(&mut tx, row, entry, now).await?;
        }
        commit(tx).await
    }

    /// The row is void: what it would do is no longer wanted (a human re-armed, automation is off …).
    pub async fn supersede(&self, row: &OutboxRow, why: &str, now: Timestamp) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        if row.kind == RowKind::Flip {
            finish_flip(&mut tx, row, FlipOutcome::Superseded, why, now).await?;
        } else {
            end(&mut tx, row, "superseded", None, why, now).await?;
        }
        commit(tx).await
    }

    /// Lets the pages that wait for this decision's flip go now, and those already sent be updated: its deadline has passed, or
    /// something has to be said before it ends.
    pub async fn release_pages(&self, decision: &DecisionId, now: Timestamp) -> Result<u64, StoreError> {
        let mut tx = self.write().await?;
        let released = release(&mut tx, decision, now).await?;
        commit(tx).await?;
        Ok(released)
    }
}

async fn finish_flip(
    tx: &mut AnyConnection,
    row: &OutboxRow,
    outcome: FlipOutcome,
    detail: &str,
    now: Timestamp,
) -> Result<(), StoreError> {
    let status = match outcome {
        FlipOutcome::Verified | FlipOutcome::AlreadySafe => "done",
        FlipOutcome::Superseded => "superseded",
        FlipOutcome::Failed => "failed",
        FlipOutcome::Expired => "expired",
    };
    end(tx, row, status, Some(outcome), detail, now).await?;
    let pin = matches!(row.task, Task::Flip(Flip::Pin { .. }));
    match &row.decision {
        Some(decision) => flip_ended(tx, decision, pin, outcome, detail, now).await,
        None => Ok(()),
    }
}

/// What follows from the end of a decision's flip: its latch knows, its incident says so if it was a `pin`, its pages go out.
async fn flip_ended(
    tx: &mut AnyConnection,
    decision: &DecisionId,
    pin: bool,
    outcome: FlipOutcome,
    detail: &str,
    now: Timestamp,
) -> Result<(), StoreError> {
    let word = json("an outcome", &outcome)?;
    sqlx::query("UPDATE latches SET outcome = $1 WHERE decision = $2")
        .bind(&*word)
        .bind(decision.as_str())
        .execute(&mut *tx)
        .await
        .map_err(StoreError::db("recording a flip at its latch"))?;
    if pin {
        timeline::flip_finished(tx, decision, outcome, detail, now).await?;
    }
    release(tx, decision, now).await?;
    Ok(())
}

/// Ends a row that cannot be read.
async fn bury(tx: &mut AnyConnection, row: &AnyRow, why: &str, now: Timestamp) -> Result<(), StoreError> {
    let flip = row.text("kind")? == RowKind::Flip.as_str();
    let outcome = flip.then(|| json("an outcome", &FlipOutcome::Failed)).transpose()?;
    sqlx::query(
        "UPDATE outbox SET status = 'failed', outcome = $1, result = $2, finished = $3, lease_until = NULL WHERE id = $4",
    )
    .bind(outcome)
    .bind(why)
    .bind(now.as_millis())
    .bind(row.int("id")?)
    .execute(&mut *tx)
    .await
    .map_err(StoreError::db("ending an unreadable outbox row"))?;
    let decision = row.maybe_text("decision")?.map(DecisionId::from);
    if let (true, Some(decision)) = (flip, &decision) {
        return flip_ended(tx, decision, true, FlipOutcome::Failed, why, now).await;
    }
    match row.maybe_text("incident")?.map(IncidentId::from) {
        Some(incident) => {
            let entry = NewEntry::of(EntryKind::MessageRefused, why);
            timeline::add(tx, &incident, decision.as_ref(), &entry, now).await
        }
        None => Ok(()),
    }
}

async fn sent(
    tx: &mut AnyConnection,
    row: &OutboxRow,
    detail: &str,
    again_at: Option<Timestamp>,
    now: Timestamp,
) -> Result<(), StoreError> {
    // `outcome` says that this content was accepted before: then a page that is sent again is no news.
    let before: Option<String> = sqlx::query_scalar("SELECT outcome FROM outbox WHERE id = $1")
        .bind(row.id)
        .fetch_one(&mut *tx)
        .await
        .map_err(StoreError::db("reading an outbox row"))?;
    // Dirty: what it says has changed while it was under way, so it goes again at once. Standing only while nothing newer
    // is in its lane.
    let hit = sqlx::query(
        "UPDATE outbox SET
            status = CASE
                WHEN dirty = 1 THEN 'pending'
                WHEN CAST($1 AS BIGINT) IS NOT NULL
                    AND NOT EXISTS (SELECT 1 FROM outbox newer WHERE newer.lane = outbox.lane AND newer.id > outbox.id)
                    AND NOT EXISTS (SELECT 1 FROM incidents i WHERE i.id = outbox.incident AND i.resolved IS NOT NULL)
                THEN 'standing' ELSE 'done' END,
            not_before = CASE WHEN dirty = 1 THEN $2 ELSE COALESCE(CAST($1 AS BIGINT), not_before) END,
            dirty = 0, attempts = 0, revision = revision + 1, finished = $2, result = $3, last_error = NULL,
            lease_until = NULL, outcome = CASE WHEN dirty = 1 THEN NULL ELSE 'sent' END
         WHERE id = $4 AND epoch = $5 AND status = 'claimed'",
    )
    .bind(again_at.map(Timestamp::as_millis))
    .bind(now.as_millis())
    .bind(detail)
    .bind(row.id)
    .bind(row.epoch)
    .execute(&mut *tx)
    .await
    .map_err(StoreError::db("recording a sent message"))?;
    held(row, hit.rows_affected())?;
    if row.kind == RowKind::Page && before.is_none() {
        timeline::page_accepted(tx, row, detail, now).await?;
    }
    Ok(())
}

async fn end(
    tx: &mut AnyConnection,
    row: &OutboxRow,
    status: &str,
    outcome: Option<FlipOutcome>,
    detail: &str,
    now: Timestamp,
) -> Result<(), StoreError> {
    let outcome = outcome.map(|o| json("an outcome", &o)).transpose()?;
    let hit = sqlx::query(
        "UPDATE outbox SET status = $1, outcome = $2, result = $3, finished = $4, lease_until = NULL
         WHERE id = $5 AND epoch = $6 AND status = 'claimed'",
    )
    .bind(status)
    .bind(outcome)
    .bind(detail)
    .bind(now.as_millis())
    .bind(row.id)
    .bind(row.epoch)
    .execute(&mut *tx)
    .await
    .map_err(StoreError::db("finishing an outbox row"))?;
    held(row, hit.rows_affected())
}

fn held(row: &OutboxRow, hit: u64) -> Result<(), StoreError> {
    if hit == 1 {
        return Ok(());
    }
    Err(StoreError::Stale { row: row.id, epoch: row.epoch })
}

/// Waiting pages go now; standing and sent ones go again, unless a newer message has replaced them; one under way is marked to
/// go again.
async fn release(tx: &mut AnyConnection, decision: &DecisionId, now: Timestamp) -> Result<u64, StoreError> {
    let hit = sqlx::query(
        "UPDATE outbox SET
            not_before = CASE WHEN status = 'claimed' THEN not_before
                WHEN status = 'pending' AND not_before < $1 THEN not_before ELSE $1 END,
            dirty = CASE WHEN status = 'claimed' THEN 1 ELSE 0 END,
            outcome = CASE WHEN status = 'claimed' THEN outcome ELSE NULL END,
            status = CASE WHEN status = 'done' THEN 'pending' ELSE status END
         WHERE awaits = $2
           AND (status IN ('pending', 'claimed') OR (status IN ('standing', 'done')
             AND NOT EXISTS (SELECT 1 FROM outbox newer WHERE newer.lane = outbox.lane AND newer.id > outbox.id)))",
    )
    .bind(now.as_millis())
    .bind(decision.as_str())
    .execute(&mut *tx)
    .await
    .map_err(StoreError::db("releasing pages"))?;
    Ok(hit.rows_affected())
}

async fn note(
    tx: &mut AnyConnection,
    row: &OutboxRow,
    entry: NewEntry,
    now: Timestamp,
) -> Result<(), StoreError> {
    match &row.incident {
        Some(incident) => timeline::add(tx, incident, row.decision.as_ref(), &entry, now).await,
        None => Ok(()),
    }
}

pub(super) fn read_kind(word: &str) -> Result<RowKind, StoreError> {
    RowKind::ALL
        .into_iter()
        .find(|kind| kind.as_str() == word)
        .ok_or_else(|| StoreError::corrupt("an outbox row's kind", word))
}

fn read_row(row: &AnyRow) -> Result<OutboxRow, StoreError> {
    let count = |number: i64| u32::try_from(number).unwrap_or(u32::MAX);
    let scope = row.maybe_text("scope")?.map(Scope::try_from).transpose();
    Ok(OutboxRow {
        id: row.int("id")?,
        epoch: row.int("epoch")?,
        kind: read_kind(&row.text("kind")?)?,
        adapter: row.text("adapter")?,
        task: row.json("payload")?,
        flag: row.maybe_text("flag")?.map(FlagKey::from),
        scope: scope.map_err(|why| StoreError::corrupt("an outbox row's scope", why))?,
        decision: row.maybe_text("decision")?.map(DecisionId::from),
        incident: row.maybe_text("incident")?.map(IncidentId::from),
        attempts: count(row.int("attempts")?),
        revision: count(row.int("revision")?),
        created: Timestamp::from_millis(row.int("created")?),
        deadline: row.maybe_int("deadline")?.map(Timestamp::from_millis),
        expires: Timestamp::from_millis(row.int("expires")?),
        lease_until: Timestamp::from_millis(row.maybe_int("lease_until")?.unwrap_or_default()),
        last_error: row.maybe_text("last_error")?,
        undo: row.maybe_text("undo")?,
    })
}

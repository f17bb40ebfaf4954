//! The audit chain: who changed what, each row's hash covering the row before, so that an altered, removed or cut row shows.

use sqlx::AnyConnection;

use super::Store;
use super::db::{Columns, commit};
use super::error::StoreError;
use super::grounds;
use crate::model::id::DecisionId;
use crate::model::time::Timestamp;

/// The actor of everything that no human asked for.
pub const REARGUARD: &str = "rearguard";

/// Rows hashed per read while verifying.
const PAGE: i64 = 1000;

/// An audit row before it has its place in the chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewAudit {
    /// `rearguard`, `config`, or a token's name.
    pub actor: String,
    /// What happened, in one word: `decision`, `automation`, `flag_pin`, `token_create` …
    pub kind: String,
    /// What it happened to: a decision, a flag, a token.
    pub subject: String,
    pub detail: String,
}

impl NewAudit {
    pub fn new(
        actor: impl Into<String>,
        kind: impl Into<String>,
        subject: impl Into<String>,
        detail: impl Into<String>,
    ) -> Self {
        Self { actor: actor.into(), kind: kind.into(), subject: subject.into(), detail: detail.into() }
    }
}

/// A row of the chain.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct AuditRow {
    pub id: i64,
    pub at: Timestamp,
    pub actor: String,
    pub kind: String,
    pub subject: String,
    pub detail: String,
    pub hash: String,
}

/// What checking the chain found.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AuditVerdict {
    /// All rows are as they were written, and so are all decisions and what they were judged from. `head` is the last hash.
    Intact { rows: i64, decisions: i64, head: String },
    /// The first row that is not, and in what way.
    Broken { row: i64, why: String },
    /// The chain is whole; this decision, or what it was judged from, is not what it says.
    Altered { decision: DecisionId },
}

impl Store {
    /// Appends a row of its own.
    pub async fn audit(&self, row: &NewAudit, at: Timestamp) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        append(&mut tx, at, row).await?;
        commit(tx).await
    }

    /// The newest rows, newest first.
    pub async fn audit_log(&self, limit: u32) -> Result<Vec<AuditRow>, StoreError> {
        let rows = sqlx::query("SELECT * FROM audit ORDER BY id DESC LIMIT $1")
            .bind(i64::from(limit))
            .fetch_all(&self.db().pool)
            .await
            .map_err(StoreError::db("reading the audit log"))?;
        rows.iter().map(|row| Ok(read(row)?.0)).collect()
    }

    /// Walks the whole chain, and compares every decision with it.
    pub async fn verify_audit(&self) -> Result<AuditVerdict, StoreError> {
        let mut tx = self.db().read().await?;
        let (last, head) = head(&mut tx).await?;
        let mut done = 0;
        let mut hash = String::new();
        loop {
            let rows = sqlx::query("SELECT * FROM audit WHERE id > $1 ORDER BY id LIMIT $2")
                .bind(done)
                .bind(PAGE)
                .fetch_all(&mut *tx)
                .await
                .map_err(StoreError::db("reading the audit chain"))?;
            if rows.is_empty() {
                break;
            }
            for row in &rows {
                let (row, prev) = read(row)?;
                if let Some(why) = flaw(&row, &prev, done, &hash) {
                    return Ok(AuditVerdict::Broken { row: done + 1, why: why.to_owned() });
                }
                done = row.id;
                hash = row.hash;
            }
        }
        if (done, &hash) != (last, &head) {
            return Ok(AuditVerdict::Broken {
                row: done + 1,
                why: format!("the chain ends after row {done}, its head says {last}"),
            });
        }
        Ok(match grounds::unsealed(&mut tx).await? {
            (_, Some(decision)) => AuditVerdict::Altered { decision },
            (decisions, None) => AuditVerdict::Intact { rows: done, decisions, head: hash },
        })
    }
}

fn flaw(row: &AuditRow, prev: &str, done: i64, hash: &str) -> Option<&'static str> {
    if row.id != done + 1 {
        Some("the row is missing")
    } else if prev != hash {
        Some("it does not continue the row before")
    } else if row.hash != digest(row, prev) {
        Some("its content is not what was hashed")
    } else {
        None
    }
}

/// Appends within a write transaction, which holds the writers' lock.
pub(super) async fn append(tx: &mut AnyConnection, at: Timestamp, new: &NewAudit) -> Result<(), StoreError> {
    let (last, prev) = head(tx).await?;
    let mut row = AuditRow {
        id: last + 1,
        at,
        actor: new.actor.clone(),
        kind: new.kind.clone(),
        subject: new.subject.clone(),
        detail: new.detail.clone(),
        hash: String::new(),
    };
    row.hash = digest(&row, &prev);
    sqlx::query(
        "INSERT INTO audit (id, at, actor, kind, subject, detail, prev, hash)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
    )
    .bind(row.id)
    .bind(at.as_millis())
    .bind(&*row.actor)
    .bind(&*row.kind)
    .bind(&*row.subject)
    .bind(&*row.detail)
    .bind(&*prev)
    .bind(&*row.hash)
    .execute(&mut *tx)
    .await
    .map_err(StoreError::db("appending to the audit chain"))?;
    sqlx::query("UPDATE audit_head SET last = $1, hash = $2 WHERE id = 1")
        .bind(row.id)
        .bind(&*row.hash)
        .execute(&mut *tx)
        .await
        .map_err(StoreError::db("moving the audit chain's head"))?;
    Ok(())
}

async fn head(tx: &mut AnyConnection) -> Result<(i64, String), StoreError> {
    let row = sqlx::query("SELECT last, hash FROM audit_head WHERE id = 1")
        .fetch_one(&mut *tx)
        .await
        .map_err(StoreError::db("reading the audit chain's head"))?;
    Ok((row.int("last")?, row.text("hash")?))
}

/// Each field is preceded by its length, so that no two rows spell the same bytes.
fn digest(row: &AuditRow, prev: &str) -> String {
    let mut hasher = blake3::Hasher::new();
    let (id, at) = (row.id.to_string(), row.at.as_millis().to_string());
    for field in [prev, &id, &at, &row.actor, &row.kind, &row.subject, &row.detail] {
        hasher.update(&(field.len() as u64).to_le_bytes());
        hasher.update(field.as_bytes());
    }
    hasher.finalize().to_hex().to_string()
}

fn read(row: &sqlx::any::AnyRow) -> Result<(AuditRow, String), StoreError> {
    let read = AuditRow {
        id: row.int("id")?,
        at: Timestamp::from_millis(row.int("at")?),
        actor: row.text("actor")?,
        kind: row.text("kind")?,
        subject: row.text("subject")?,
        detail: row.text("detail")?,
        hash: row.text("hash")?,
    };
    Ok((read, row.text("prev")?))
}

//! The grounds of decisions: stored in the transaction of the decision, packed, and covered by the audit chain.

use std::collections::BTreeMap;
use std::io::Read as _;

use sqlx::AnyConnection;
use sqlx::Row as _;

use super::Store;
use super::db::{Columns, json};
use super::error::StoreError;
use super::load::{StoredDecision, read_decision};
use crate::engine::grounds::Grounds;
use crate::engine::output::Output;
use crate::model::id::DecisionId;

/// zstd's level: a decision is rare, and its commit is not to wait.
const LEVEL: i32 = 3;
/// Packed grounds above this are not kept: a rule on two long histograms of busy variants has a few hundred kilobytes.
const MOST_PACKED: usize = 4 << 20;
/// Unpacked grounds above this are not read.
const MOST_UNPACKED: u64 = 256 << 20;

/// Decisions compared with the chain per read: each may bring megabytes.
const PAGE: i64 = 16;

/// A decision with what it was judged from.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredGrounds {
    pub stored: StoredDecision,
    /// `None` where none were kept.
    pub grounds: Option<Grounds>,
    /// Whether both are what the audit chain says that was stored.
    pub sealed: bool,
    /// Bytes as stored.
    pub bytes: usize,
}

impl Store {
    /// A decision, its grounds, and whether they are as they were stored.
    pub async fn grounds(&self, id: &DecisionId) -> Result<Option<StoredGrounds>, StoreError> {
        let mut tx = self.db().read().await?;
        let row = sqlx::query("SELECT * FROM decisions WHERE id = $1")
            .bind(id.as_str())
            .fetch_optional(&mut *tx)
            .await
            .map_err(StoreError::db("reading a decision"))?;
        let Some(row) = row else { return Ok(None) };
        let stored = read_decision(&row)?;
        let packed = sqlx::query("SELECT content FROM decision_grounds WHERE decision = $1")
            .bind(id.as_str())
            .fetch_optional(&mut *tx)
            .await
            .map_err(StoreError::db("reading a decision's grounds"))?
            .map(|row| row.try_get::<Vec<u8>, _>("content"))
            .transpose()
            .map_err(StoreError::db("reading a decision's grounds"))?;
        let seal = seal(&row.text("payload")?, packed.as_deref());
        let said: Option<String> =
            sqlx::query_scalar("SELECT detail FROM audit WHERE kind = 'decision' AND subject = $1")
                .bind(id.as_str())
                .fetch_optional(&mut *tx)
                .await
                .map_err(StoreError::db("looking for a decision in the audit chain"))?;
        Ok(Some(StoredGrounds {
            stored,
            grounds: packed.as_deref().map(unpack).transpose()?,
            sealed: said.is_some_and(|detail| detail.ends_with(&seal)),
            bytes: packed.map_or(0, |packed| packed.len()),
        }))
    }
}

/// The first decision that is not what the audit chain says that was stored, and how many were looked at.
pub(super) async fn unsealed(tx: &mut AnyConnection) -> Result<(i64, Option<DecisionId>), StoreError> {
    let (mut looked, mut last) = (0, String::new());
    loop {
        let rows = sqlx::query(
            "SELECT d.id, d.payload, g.content, a.detail FROM decisions d
             LEFT JOIN decision_grounds g ON g.decision = d.id
             LEFT JOIN audit a ON a.kind = 'decision' AND a.subject = d.id
             WHERE d.id > $1 ORDER BY d.id LIMIT $2",
        )
        .bind(&*last)
        .bind(PAGE)
        .fetch_all(&mut *tx)
        .await
        .map_err(StoreError::db("reading decisions"))?;
        if rows.is_empty() {
            return Ok((looked, None));
        }
        for row in &rows {
            let packed: Option<Vec<u8>> =
                row.try_get("content").map_err(StoreError::db("reading a decision's grounds"))?;
            let seal = seal(&row.text("payload")?, packed.as_deref());
            last = row.text("id")?;
            looked += 1;
            if !row.maybe_text("detail")?.is_some_and(|detail| detail.ends_with(&seal)) {
                return Ok((looked, Some(DecisionId::from(last))));
            }
        }
    }
}

/// What the audit chain says of a decision: the hashes of its content and of its grounds.
pub(super) fn seal(payload: &str, packed: Option<&[u8]>) -> String {
    let hash = blake3::hash(payload.as_bytes()).to_hex();
    match packed {
        Some(packed) => format!("blake3 {hash}, grounds {}", blake3::hash(packed).to_hex()),
        None => format!("blake3 {hash}"),
    }
}

/// The grounds of all decisions of a record, packed; those that are too large are left out.
pub(super) fn pack(outputs: &[Output]) -> Result<BTreeMap<DecisionId, Vec<u8>>, StoreError> {
    let mut all = BTreeMap::new();
    for grounds in outputs.iter().flat_map(|output| &output.grounds) {
        let text = json("the grounds of a decision", grounds)?;
        let packed = zstd::encode_all(text.as_bytes(), LEVEL)
            .map_err(|why| StoreError::corrupt("the grounds of a decision", why))?;
        if packed.len() <= MOST_PACKED {
            all.insert(grounds.decision.clone(), packed);
        }
    }
    Ok(all)
}

fn unpack(packed: &[u8]) -> Result<Grounds, StoreError> {
    let unreadable = |why: String| StoreError::corrupt("the grounds of a decision", why);
    let mut text = Vec::new();
    let decoder = zstd::stream::read::Decoder::new(packed).map_err(|e| unreadable(e.to_string()))?;
    decoder.take(MOST_UNPACKED).read_to_end(&mut text).map_err(|e| unreadable(e.to_string()))?;
    serde_json::from_slice(&text).map_err(|e| unreadable(e.to_string()))
}

pub(super) async fn insert(tx: &mut AnyConnection, id: &DecisionId, packed: &[u8]) -> Result<(), StoreError> {
    sqlx::query("INSERT INTO decision_grounds (decision, content) VALUES ($1, $2)")
        .bind(id.as_str())
        .bind(packed.to_vec())
        .execute(&mut *tx)
        .await
        .map_err(StoreError::db("storing a decision's grounds"))?;
    Ok(())
}

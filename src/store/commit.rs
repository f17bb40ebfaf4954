//! The one transaction that stores what engine steps have said. Idempotent twice over: a record that the stored position
//! covers is skipped as a whole, and a decision that is stored already brings no rows, latch or incident a second time.

use std::collections::BTreeSet;

use sqlx::AnyConnection;

use super::Store;
use super::audit::{self, NewAudit, REARGUARD};
use super::db::{Columns, commit, json, signed};
use super::endings;
use super::enqueue;
use super::error::StoreError;
use super::grounds;
use super::incidents;
use super::load;
use super::record::{Committed, SourcePosition, StepRecord};
use super::rollups;
use super::timeline::{self, EntryKind, NewEntry};
use crate::engine::output::{Decision, LatchChange, Order, Output, Transition};
use crate::model::id::{DecisionId, IncidentId};
use crate::model::time::Timestamp;

impl Store {
    /// Stores a record, all of it or nothing.
    pub async fn commit(&self, record: &StepRecord<'_>) -> Result<Committed, StoreError> {
        // Before the writers' lock is taken: packing may take milliseconds.
        let packed = grounds::pack(record.outputs)?;
        let mut tx = self.write().await?;
        let (stored, ..) = load::engine(&mut tx).await?;
        if record.seq <= stored {
            return Ok(Committed::Already);
        }
        let mut known = BTreeSet::new();
        for output in record.outputs {
            for transition in &output.transitions {
                insert_transition(&mut tx, record.seq, transition).await?;
            }
            for decision in &output.decisions {
                if !insert_decision(&mut tx, record, decision, packed.get(&decision.id)).await? {
                    known.insert(decision.id.clone());
                }
            }
        }
        // Closing comes before opening of what follows in order: orders and latch changes are applied as they were given.
        for output in record.outputs {
            apply_orders(&mut tx, output, &known, record.wall).await?;
        }
        for change in &record.latches {
            apply_latch(&mut tx, change, &known, record.wall).await?;
        }
        for row in &record.outbox {
            if row.decision.as_ref().is_some_and(|id| known.contains(id)) {
                continue;
            }
            enqueue::insert(&mut tx, row, record.wall).await?;
        }
        endings::of_messages(&mut tx, &record.outbox, record.wall).await?;
        enqueue::release_unawaited(&mut tx, record.wall).await?;
        for decision in &record.answered {
            mark_answered(&mut tx, decision).await?;
        }
        for row in &record.audit {
            audit::append(&mut tx, record.wall, row).await?;
        }
        for row in &record.rollups {
            rollups::upsert(&mut tx, row).await?;
        }
        store_position(&mut tx, record).await?;
        commit(tx).await?;
        Ok(Committed::Stored)
    }
}

async fn insert_transition(
    tx: &mut AnyConnection,
    seq: u64,
    transition: &Transition,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO transitions (seq, at, flag, rule, slice, payload) VALUES ($1, $2, $3, $4, $5, $6)",
    )
    .bind(signed(seq))
    .bind(transition.at.as_millis())
    .bind(transition.key.flag.as_str())
    .bind(transition.key.rule.as_str())
    .bind(transition.key.slice.to_string())
    .bind(json("a transition", transition)?)
    .execute(&mut *tx)
    .await
    .map_err(StoreError::db("storing a transition"))?;
    Ok(())
}

/// Stores a decision with its evidence; false when it is stored already, an error when that one is another.
async fn insert_decision(
    tx: &mut AnyConnection,
    record: &StepRecord<'_>,
    decision: &Decision,
    packed: Option<&Vec<u8>>,
) -> Result<bool, StoreError> {
    let payload = json("a decision", decision)?;
    let stored: Option<String> = sqlx::query_scalar("SELECT payload FROM decisions WHERE id = $1")
        .bind(decision.id.as_str())
        .fetch_optional(&mut *tx)
        .await
        .map_err(StoreError::db("looking for a decision"))?;
    match stored {
        Some(stored) if stored == payload => return Ok(false),
        Some(_) => {
            return Err(StoreError::DecisionDiffers { decision: decision.id.clone() });
        }
        None => {}
    }
    let version: Option<i64> = sqlx::query_scalar("SELECT version FROM flags WHERE key = $1")
        .bind(decision.key.flag.as_str())
        .fetch_optional(&mut *tx)
        .await
        .map_err(StoreError::db("reading a flag's version"))?;
    sqlx::query(
        "INSERT INTO decisions (id, seq, wall, flag, scope, rule, action, gate, at, t0, incident, flag_version, payload)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)",
    )
    .bind(decision.id.as_str())
    .bind(signed(record.seq))
    .bind(record.wall.as_millis())
    .bind(decision.key.flag.as_str())
    .bind(decision.scope.to_string())
    .bind(decision.key.rule.as_str())
    .bind(decision.action.as_str())
    .bind(decision.gate.as_str())
    .bind(decision.at.as_millis())
    .bind(decision.t0.as_millis())
    .bind(decision.incident.as_ref().map(ToString::to_string))
    .bind(version.unwrap_or(0))
    .bind(&*payload)
    .execute(&mut *tx)
    .await
    .map_err(StoreError::db("storing a decision"))?;
    if let Some(packed) = packed {
        grounds::insert(tx, &decision.id, packed).await?;
    }
    let who = match &decision.by {
        Some(by) => by.actor.clone(),
        None => format!("rule {}", decision.key.rule),
    };
    // The chain covers the decision's whole content, and its grounds, by their hashes.
    let detail = format!(
        "{} {} in {} by {who}: {}; {}",
        decision.action.as_str(),
        decision.key.flag,
        decision.scope,
        decision.gate.as_str(),
        grounds::seal(&payload, packed.map(Vec::as_slice))
    );
    let row = NewAudit::new(REARGUARD, "decision", decision.id.as_str(), detail);
    audit::append(tx, record.wall, &row).await?;
    Ok(true)
}

async fn apply_orders(
    tx: &mut AnyConnection,
    output: &Output,
    known: &BTreeSet<DecisionId>,
    wall: Timestamp,
) -> Result<(), StoreError> {
    let made = |id: &DecisionId| output.decisions.iter().find(|d| d.id == *id);
    for order in &output.orders {
        match order {
            Order::OpenIncident(order) if !known.contains(&order.decision) => {
                incidents::open(tx, order, made(&order.decision), wall).await?;
            }
            Order::JoinIncident { incident, decision } if !known.contains(decision) => {
                let rule = made(decision).map_or_else(String::new, |d| match &d.by {
                    Some(by) => format!("rolled back by {}: {}", by.actor, by.reason),
                    None => format!("rule {}: {}{}", d.key.rule, d.condition, incidents::withheld_note(d)),
                });
                incidents::join(tx, incident, decision, &rule, wall).await?;
            }
            Order::CloseIncident { incident, by, why, .. } => {
                // Closed already is fine: the order is replayed, or a human was faster.
                incidents::close(tx, incident, by, why, wall).await?;
            }
            Order::OpenIncident(_)
            | Order::JoinIncident { .. }
            | Order::Pin { .. }
            | Order::Unpin { .. }
            | Order::Freeze { .. }
            | Order::Unfreeze { .. }
            | Order::Page(_)
            | Order::Notify(_) => {}
        }
    }
    Ok(())
}

async fn apply_latch(
    tx: &mut AnyConnection,
    change: &LatchChange,
    known: &BTreeSet<DecisionId>,
    wall: Timestamp,
) -> Result<(), StoreError> {
    match change {
        LatchChange::Open { decision, .. } if known.contains(decision) => Ok(()),
        LatchChange::Open { flag, scope, decision, incident, at: _ } => {
            let hit = sqlx::query(
                "INSERT INTO latches (flag, scope, decision, incident, opened) VALUES ($1, $2, $3, $4, $5)
                 ON CONFLICT DO NOTHING",
            )
            .bind(flag.as_str())
            .bind(scope.to_string())
            .bind(decision.as_str())
            .bind(incident.as_str())
            .bind(wall.as_millis())
            .execute(&mut *tx)
            .await
            .map_err(StoreError::db("opening a latch"))?;
            if hit.rows_affected() == 0 {
                return Err(StoreError::LatchOpen { flag: flag.clone(), scope: scope.clone() });
            }
            Ok(())
        }
        LatchChange::Retry { decision, .. } if known.contains(decision) => Ok(()),
        LatchChange::Retry { flag, scope, decision } => {
            let sql = "UPDATE latches SET decision = $1 WHERE flag = $2 AND scope = $3 AND closed IS NULL";
            let query = sqlx::query(sql).bind(decision.as_str()).bind(flag.as_str()).bind(scope.to_string());
            query.execute(&mut *tx).await.map_err(StoreError::db("handing a latch on"))?;
            Ok(())
        }
        LatchChange::Close { flag, scope, by, why, false_alarm } => {
            let closed = sqlx::query(
                "UPDATE latches SET closed = $1, closed_by = $2
                 WHERE flag = $3 AND scope = $4 AND closed IS NULL RETURNING incident",
            )
            .bind(wall.as_millis())
            .bind(&**by)
            .bind(flag.as_str())
            .bind(scope.to_string())
            .fetch_all(&mut *tx)
            .await
            .map_err(StoreError::db("taking a latch off"))?;
            for row in &closed {
                if let Some(incident) = row.maybe_text("incident")?.map(IncidentId::from) {
                    let entry = NewEntry::by(EntryKind::Rearmed, by, format!("scope {scope}: {why}"));
                    timeline::add(tx, &incident, None, &entry, wall).await?;
                    if *false_alarm {
                        let entry = NewEntry::by(EntryKind::FalseAlarm, by, &**why);
                        timeline::add(tx, &incident, None, &entry, wall).await?;
                    }
                }
            }
            let act = if *false_alarm { "rearm_false_alarm" } else { "rearm" };
            let row = NewAudit::new(&**by, act, flag.as_str(), format!("scope {scope}: {why}"));
            audit::append(tx, wall, &row).await
        }
    }
}

async fn mark_answered(tx: &mut AnyConnection, decision: &DecisionId) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE outbox SET answered = 1 WHERE decision = $1 AND kind = 'flip' AND finished IS NOT NULL",
    )
    .bind(decision.as_str())
    .execute(&mut *tx)
    .await
    .map_err(StoreError::db("marking a flip as answered"))?;
    Ok(())
}

async fn store_position(tx: &mut AnyConnection, record: &StepRecord<'_>) -> Result<(), StoreError> {
    for (key, value) in record.state {
        match value {
            Some(value) => upsert(tx, UPSERT_STATE, key, value).await?,
            None => {
                sqlx::query("DELETE FROM state WHERE key = $1")
                    .bind(&**key)
                    .execute(&mut *tx)
                    .await
                    .map_err(StoreError::db("deleting engine state"))?;
            }
        }
    }
    for source in &record.position.sources {
        upsert_source(tx, source).await?;
    }
    upsert(tx, UPSERT_SETTING, "seq", &signed(record.seq).to_string()).await?;
    if let Some(time) = record.position.event_time {
        let number = time.as_millis().to_string();
        upsert(tx, UPSERT_SETTING, "event_time", &number).await?;
    }
    if let Some(minute) = record.position.closed {
        upsert(tx, UPSERT_SETTING, "closed", &minute.0.to_string()).await?;
    }
    if let Some(on) = record.automation {
        let word = if on { "on" } else { "off" };
        upsert(tx, UPSERT_SETTING, "automation", word).await?;
    }
    Ok(())
}

const UPSERT_STATE: &str =
    "INSERT INTO state (key, value) VALUES ($1, $2) ON CONFLICT (key) DO UPDATE SET value = excluded.value";
const UPSERT_SETTING: &str = "INSERT INTO settings (key, value) VALUES ($1, $2) ON CONFLICT (key) DO UPDATE SET value = excluded.value";

async fn upsert(tx: &mut AnyConnection, sql: &'static str, key: &str, value: &str) -> Result<(), StoreError> {
    sqlx::query(sql)
        .bind(key)
        .bind(value)
        .execute(&mut *tx)
        .await
        .map_err(StoreError::db("storing engine state"))?;
    Ok(())
}

async fn upsert_source(tx: &mut AnyConnection, at: &SourcePosition) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO sources (topic, part, next_offset, watermark, fates) VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (topic, part) DO UPDATE SET next_offset = excluded.next_offset,
            watermark = excluded.watermark, fates = excluded.fates",
    )
    .bind(&*at.source.topic)
    .bind(i64::from(at.source.partition))
    .bind(at.next_offset)
    .bind(at.watermark.map(Timestamp::as_millis))
    .bind(json("fates", &at.fates)?)
    .execute(&mut *tx)
    .await
    .map_err(StoreError::db("storing a source's position"))?;
    Ok(())
}

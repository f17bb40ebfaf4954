//! What is over is told to everyone who was told of it, whatever the routes say now.
//!
//! Messages of one dedup key and receiver share a lane. A lane whose last message is not a `Resolved` is open: the receiver
//! believes that the thing goes on.

use std::collections::BTreeMap;

use sqlx::AnyConnection;
use sqlx::any::AnyRow;

use super::db::Columns;
use super::enqueue;
use super::error::StoreError;
use super::plan::{NewRow, PlanContext, Routes, RowKind, Task, Timing, message_rows};
use crate::engine::drill::{is_marked, marked};
use crate::engine::output::{Message, MessageKind};
use crate::model::id::IncidentId;
use crate::model::incident::Severity;
use crate::model::time::Timestamp;

/// Resolves whatever was told under an incident.
pub(super) async fn of_incident(
    tx: &mut AnyConnection,
    id: &IncidentId,
    (actor, why): (&str, &str),
    wall: Timestamp,
) -> Result<(), StoreError> {
    let rows = sqlx::query(
        "SELECT adapter, lane, payload FROM outbox WHERE incident = $1 AND kind IN ('page', 'notify')
           AND status IN ('pending', 'claimed', 'standing', 'done') ORDER BY id",
    )
    .bind(id.as_str())
    .fetch_all(&mut *tx)
    .await
    .map_err(StoreError::db("looking for an incident's messages"))?;
    for (receiver, last) in open_lanes(&rows)? {
        let summary = format!("incident {id} is resolved by {actor}: {why}");
        tell(tx, &after(last, MessageKind::Resolved, &summary, wall), receiver, wall).await?;
    }
    Ok(())
}

/// Passes an acknowledgement on to whoever rang for an incident: somebody is on it, nobody else need be woken.
pub(super) async fn acknowledged(
    tx: &mut AnyConnection,
    id: &IncidentId,
    actor: &str,
    wall: Timestamp,
) -> Result<(), StoreError> {
    let rows = sqlx::query(
        "SELECT adapter, lane, payload FROM outbox WHERE incident = $1 AND kind = 'page' AND revision > 0 ORDER BY id",
    )
    .bind(id.as_str())
    .fetch_all(&mut *tx)
    .await
    .map_err(StoreError::db("looking for an incident's pages"))?;
    for (receiver, last) in open_lanes(&rows)? {
        let summary = format!("incident {id} is acknowledged by {actor}");
        tell(tx, &after(last, MessageKind::Acknowledged, &summary, wall), receiver, wall).await?;
    }
    Ok(())
}

/// What is said about an incident after its last message, marked as a drill where that was.
fn after(last: Message, kind: MessageKind, summary: &str, wall: Timestamp) -> Message {
    Message {
        kind,
        severity: Severity::Info,
        decision: None,
        summary: marked(is_marked(&last.summary), summary),
        detail: String::new(),
        at: wall,
        ..last
    }
}

/// Takes the `Resolved` messages among `rows`, which are stored already, to receivers that they do not name and that believe
/// otherwise: a page may have gone to other receivers than notices go to.
pub(super) async fn of_messages(
    tx: &mut AnyConnection,
    rows: &[NewRow],
    wall: Timestamp,
) -> Result<(), StoreError> {
    for row in rows {
        let Task::Message(end) = &row.task else { continue };
        if end.kind != MessageKind::Resolved {
            continue;
        }
        let told = sqlx::query(
            "SELECT adapter, lane, payload FROM outbox WHERE lane = 'message/' || adapter || '/' || $1
               AND status IN ('pending', 'claimed', 'standing', 'done') ORDER BY id",
        )
        .bind(&*end.dedup_key)
        .fetch_all(&mut *tx)
        .await
        .map_err(StoreError::db("looking for messages of a key"))?;
        for (receiver, _) in open_lanes(&told)? {
            tell(tx, end, receiver, wall).await?;
        }
    }
    Ok(())
}

/// The receiver and the last message of each open lane. `rows` are in the order of their numbers.
fn open_lanes(rows: &[AnyRow]) -> Result<Vec<(String, Message)>, StoreError> {
    let mut lanes = BTreeMap::new();
    for row in rows {
        if let Task::Message(message) = row.json("payload")? {
            lanes.insert(row.text("lane")?, (row.text("adapter")?, message));
        }
    }
    let over = |last: &Message| matches!(last.kind, MessageKind::Resolved | MessageKind::Acknowledged);
    Ok(lanes.into_values().filter(|(_, last)| !over(last)).collect())
}

async fn tell(
    tx: &mut AnyConnection,
    end: &Message,
    receiver: String,
    wall: Timestamp,
) -> Result<(), StoreError> {
    let end = Message { receiver: None, ..end.clone() };
    let routes = Routes::default();
    let context = PlanContext { routes: &routes, timing: Timing::default(), flags: &[] };
    for mut row in message_rows(RowKind::Notify, &end, &[receiver], wall, &context) {
        // Beside what stands, which goes on standing.
        if end.kind == MessageKind::Acknowledged {
            row.lane.push_str("/acknowledged");
        }
        enqueue::insert(tx, &row, wall).await?;
    }
    Ok(())
}

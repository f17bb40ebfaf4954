//! What happened in an incident, entry by entry, each with its wall time; and the times that T1 is made of.

use serde::Serialize;
use sqlx::AnyConnection;
use sqlx::any::AnyRow;

use super::db::{Columns, json};
use super::error::StoreError;
use super::outbox::OutboxRow;
use super::plan::{Flip, Task};
use crate::engine::hand::BY_HAND;
use crate::engine::input::FlipOutcome;
use crate::model::id::{DecisionId, IncidentId};
use crate::model::time::Timestamp;

/// What an entry is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EntryKind {
    Opened,
    /// A further decision of the same episode.
    Joined,
    /// A flip was claimed for the first time.
    FlipStarted,
    /// A flip ended well.
    FlipVerified,
    /// A flip ended otherwise.
    FlipFailed,
    PageAccepted,
    /// The page was updated under the same dedup key.
    PageUpdated,
    MessageRefused,
    MessageExpired,
    Acknowledged,
    Resolved,
    Rearmed,
    /// Re-armed, and nothing had been wrong.
    FalseAlarm,
    /// Whatever else dispatch or a human has to say.
    Note,
}

impl EntryKind {
    const ALL: [Self; 14] = [
        Self::Opened,
        Self::Joined,
        Self::FlipStarted,
        Self::FlipVerified,
        Self::FlipFailed,
        Self::PageAccepted,
        Self::PageUpdated,
        Self::MessageRefused,
        Self::MessageExpired,
        Self::Acknowledged,
        Self::Resolved,
        Self::Rearmed,
        Self::FalseAlarm,
        Self::Note,
    ];

    /// The word stored and shown.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Opened => "opened",
            Self::Joined => "joined",
            Self::FlipStarted => "flip_started",
            Self::FlipVerified => "flip_verified",
            Self::FlipFailed => "flip_failed",
            Self::PageAccepted => "page_accepted",
            Self::PageUpdated => "page_updated",
            Self::MessageRefused => "message_refused",
            Self::MessageExpired => "message_expired",
            Self::Acknowledged => "acknowledged",
            Self::Resolved => "resolved",
            Self::Rearmed => "rearmed",
            Self::FalseAlarm => "false_alarm",
            Self::Note => "note",
        }
    }
}

/// One entry of an incident's timeline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TimelineEntry {
    /// Wall time.
    pub at: Timestamp,
    pub kind: EntryKind,
    pub decision: Option<DecisionId>,
    /// A human's token name, where one did it.
    pub actor: Option<String>,
    pub detail: String,
}

pub(super) struct NewEntry {
    pub(super) kind: EntryKind,
    pub(super) actor: Option<String>,
    pub(super) detail: String,
}

impl NewEntry {
    pub(super) fn of(kind: EntryKind, detail: impl Into<String>) -> Self {
        Self { kind, actor: None, detail: detail.into() }
    }

    pub(super) fn by(kind: EntryKind, actor: &str, detail: impl Into<String>) -> Self {
        Self { actor: Some(actor.to_owned()), ..Self::of(kind, detail) }
    }
}

pub(super) async fn add(
    tx: &mut AnyConnection,
    incident: &IncidentId,
    decision: Option<&DecisionId>,
    entry: &NewEntry,
    at: Timestamp,
) -> Result<(), StoreError> {
    // A message may carry the id of an incident that is not stored here (a notice about a flag elsewhere): no entry then.
    sqlx::query(
        "INSERT INTO incident_timeline (incident, at, kind, decision, actor, detail)
         SELECT id, $2, $3, $4, $5, $6 FROM incidents WHERE id = $1",
    )
    .bind(incident.as_str())
    .bind(at.as_millis())
    .bind(entry.kind.as_str())
    .bind(decision.map(ToString::to_string))
    .bind(entry.actor.as_deref().map(str::to_owned))
    .bind(&*entry.detail)
    .execute(&mut *tx)
    .await
    .map_err(StoreError::db("adding to an incident's timeline"))?;
    Ok(())
}

pub(super) async fn read(
    tx: &mut AnyConnection,
    incident: &IncidentId,
) -> Result<Vec<TimelineEntry>, StoreError> {
    let rows = sqlx::query("SELECT * FROM incident_timeline WHERE incident = $1 ORDER BY id")
        .bind(incident.as_str())
        .fetch_all(&mut *tx)
        .await
        .map_err(StoreError::db("reading an incident's timeline"))?;
    rows.iter().map(read_entry).collect()
}

fn read_entry(row: &AnyRow) -> Result<TimelineEntry, StoreError> {
    let word = row.text("kind")?;
    let kind = EntryKind::ALL.into_iter().find(|kind| kind.as_str() == word);
    Ok(TimelineEntry {
        at: Timestamp::from_millis(row.int("at")?),
        kind: kind.ok_or_else(|| StoreError::corrupt("a timeline entry's kind", word))?,
        decision: row.maybe_text("decision")?.map(DecisionId::from),
        actor: row.maybe_text("actor")?,
        detail: row.text("detail")?,
    })
}

/// A pin is being tried for the first time.
pub(super) async fn flip_started(
    tx: &mut AnyConnection,
    row: &OutboxRow,
    at: Timestamp,
) -> Result<(), StoreError> {
    let (Task::Flip(Flip::Pin { decision, .. }), 1) = (&row.task, row.attempts) else {
        return Ok(());
    };
    if let Some(incident) = incident_of(tx, decision).await? {
        let entry = NewEntry::of(EntryKind::FlipStarted, &*row.adapter);
        add(tx, &incident, Some(decision), &entry, at).await?;
    }
    Ok(())
}

async fn incident_of(
    tx: &mut AnyConnection,
    decision: &DecisionId,
) -> Result<Option<IncidentId>, StoreError> {
    let incident: Option<String> =
        sqlx::query_scalar("SELECT incident FROM incident_decisions WHERE decision = $1")
            .bind(decision.as_str())
            .fetch_optional(&mut *tx)
            .await
            .map_err(StoreError::db("looking for a decision's incident"))?;
    Ok(incident.map(IncidentId::from))
}

/// A pin has ended: an entry in the incident of its decision; the incident's own flip sets the time that T1 needs. Where the
/// opening decision was withheld, or a human rolled back after it, that is the flip of the decision that was carried out later;
/// what ends late of those before a human's says nothing of the incident any more.
pub(super) async fn flip_finished(
    tx: &mut AnyConnection,
    decision: &DecisionId,
    outcome: FlipOutcome,
    detail: &str,
    at: Timestamp,
) -> Result<(), StoreError> {
    let Some(incident) = incident_of(tx, decision).await? else {
        return Ok(());
    };
    let good = matches!(outcome, FlipOutcome::Verified | FlipOutcome::AlreadySafe);
    let word = json("an outcome", &outcome)?;
    let kind = if good { EntryKind::FlipVerified } else { EntryKind::FlipFailed };
    let text = format!("{}: {detail}", word.trim_matches('"'));
    add(tx, &incident, Some(decision), &NewEntry::of(kind, text), at).await?;
    sqlx::query(
        "UPDATE incidents SET flip_outcome = $1, flip_done = CASE WHEN $2 = 1 THEN $3 ELSE flip_done END
         WHERE id = $4 AND (decision = $5 OR EXISTS (
           SELECT 1 FROM decisions opener JOIN decisions own ON own.id = $5
           WHERE opener.id = incidents.decision AND (opener.gate <> 'act' OR own.rule = $6)
             AND own.scope IN (opener.scope, 'all')))
           AND NOT EXISTS (
             SELECT 1 FROM incident_decisions i JOIN decisions later ON later.id = i.decision
             JOIN decisions own ON own.id = $5
             WHERE i.incident = incidents.id AND later.rule = $6 AND later.seq > own.seq
               AND later.scope IN (own.scope, 'all'))",
    )
    .bind(&*word)
    .bind(i64::from(good))
    .bind(at.as_millis())
    .bind(incident.as_str())
    .bind(decision.as_str())
    .bind(BY_HAND)
    .execute(&mut *tx)
    .await
    .map_err(StoreError::db("recording a flip at its incident"))?;
    Ok(())
}

/// A page was taken by its receiver, for the first time or with new content: the first one sets the time that T1 needs.
pub(super) async fn page_accepted(
    tx: &mut AnyConnection,
    row: &OutboxRow,
    detail: &str,
    at: Timestamp,
) -> Result<(), StoreError> {
    let Some(incident) = &row.incident else {
        return Ok(());
    };
    let kind = if row.revision == 0 { EntryKind::PageAccepted } else { EntryKind::PageUpdated };
    let entry = NewEntry::of(kind, format!("{}: {detail}", row.adapter));
    add(tx, incident, row.decision.as_ref(), &entry, at).await?;
    sqlx::query("UPDATE incidents SET page_accepted = $1 WHERE id = $2 AND page_accepted IS NULL")
        .bind(at.as_millis())
        .bind(incident.as_str())
        .execute(&mut *tx)
        .await
        .map_err(StoreError::db("recording a page at its incident"))?;
    Ok(())
}

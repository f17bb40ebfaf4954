//! Incidents: one unresolved per flag, opened by a commit, closed by a human or by the engine when re-armed and quiet.

use serde::Serialize;
use sqlx::AnyConnection;
use sqlx::any::AnyRow;

use super::Store;
use super::audit::{self, NewAudit};
use super::db::{Columns, commit};
use super::endings;
use super::error::StoreError;
use super::load::{StoredDecision, read_decision};
use super::outbox_state;
use super::timeline::{self, EntryKind, NewEntry, TimelineEntry};
use crate::engine::input::FlipOutcome;
use crate::engine::output::{Decision, IncidentOrder};
use crate::model::flag::Scope;
use crate::model::id::{DecisionId, FlagKey, IncidentId, Variant};
use crate::model::incident::{IncidentStatus, Severity};
use crate::model::time::Timestamp;

/// An incident in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct IncidentSummary {
    pub id: IncidentId,
    pub flag: FlagKey,
    pub variant: Variant,
    /// The decision that opened it.
    pub decision: DecisionId,
    pub severity: Severity,
    pub failure_class: String,
    pub title: String,
    pub status: IncidentStatus,
    /// Event time of the decision.
    pub at: Timestamp,
    /// Event time: the literal condition was first true, the ten minutes began, the decision fell.
    pub crossing: Option<Timestamp>,
    pub t0: Option<Timestamp>,
    pub decided: Option<Timestamp>,
    /// Wall time of the commit that opened it.
    pub opened: Timestamp,
    /// Wall time at which the flip of the opening decision was read back, and how that flip ended; if that decision was
    /// withheld, of the one that was carried out later.
    pub flip_verified: Option<Timestamp>,
    pub flip_outcome: Option<FlipOutcome>,
    /// Wall time at which the first page was accepted.
    pub page_accepted: Option<Timestamp>,
    pub acked: Option<Timestamp>,
    pub acked_by: Option<String>,
    pub resolved: Option<Timestamp>,
    pub resolved_by: Option<String>,
    pub resolve_reason: Option<String>,
    /// Why the variant was not rolled back, while that is so: by the newest decision that nothing has carried out since.
    pub withheld: Option<Withheld>,
}

/// Why a rollback was withheld.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Withheld {
    pub decision: DecisionId,
    pub scope: Scope,
    /// Event time of the decision.
    pub at: Timestamp,
    /// The gate's word: `automation_off`, `flip_limit`, `world_breach`, `unknown_flag`.
    pub gate: &'static str,
    /// The gate in words.
    pub why: String,
    /// What a human does about it.
    pub advice: &'static str,
}

impl Withheld {
    fn of(decision: Decision) -> Option<Self> {
        Some(Self {
            gate: decision.gate.as_str(),
            why: decision.gate.withholds()?,
            advice: decision.gate.advice()?,
            decision: decision.id,
            scope: decision.scope,
            at: decision.at,
        })
    }
}

impl IncidentSummary {
    /// T1: flip read back, incident opened and page accepted, all three.
    pub fn t1(&self) -> Option<Timestamp> {
        Some(self.opened.max(self.flip_verified?).max(self.page_accepted?))
    }

    /// T1 − T0: how much of the ten minutes it took.
    pub fn took(&self) -> Option<std::time::Duration> {
        Some(self.t1()?.since(self.t0?))
    }
}

/// Everything that is known of an incident.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct IncidentDetail {
    pub incident: IncidentSummary,
    /// The opening decision first, then those that joined; each with its evidence.
    pub decisions: Vec<StoredDecision>,
    pub timeline: Vec<TimelineEntry>,
}

/// Which incidents to list. The default is the newest hundred.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IncidentFilter {
    pub flag: Option<FlagKey>,
    /// Only those not resolved.
    pub unresolved: bool,
    /// Only those that stand so.
    pub status: Option<IncidentStatus>,
    pub limit: Option<u32>,
}

impl Store {
    /// Newest first.
    pub async fn incidents(&self, filter: &IncidentFilter) -> Result<Vec<IncidentSummary>, StoreError> {
        let mut tx = self.db().read().await?;
        let rows = sqlx::query(
            "SELECT * FROM incidents
             WHERE (CAST($1 AS TEXT) IS NULL OR flag = $1) AND ($2 = 0 OR resolved IS NULL)
               AND (CAST($3 AS TEXT) IS NULL OR status = $3)
             ORDER BY opened DESC, id LIMIT $4",
        )
        .bind(filter.flag.as_ref().map(ToString::to_string))
        .bind(i64::from(filter.unresolved))
        .bind(filter.status.map(|status| status.as_str().to_owned()))
        .bind(i64::from(filter.limit.unwrap_or(100)))
        .fetch_all(&mut *tx)
        .await
        .map_err(StoreError::db("listing incidents"))?;
        let mut incidents = rows.iter().map(read_incident).collect::<Result<Vec<_>, _>>()?;
        for incident in &mut incidents {
            incident.withheld = withheld(&mut tx, &incident.id).await?;
        }
        Ok(incidents)
    }

    /// All that is needed to render it.
    pub async fn incident(&self, id: &IncidentId) -> Result<IncidentDetail, StoreError> {
        let mut tx = self.db().read().await?;
        let mut incident = get(&mut tx, id).await?;
        incident.withheld = withheld(&mut tx, id).await?;
        let rows = sqlx::query(
            "SELECT d.* FROM decisions d JOIN incident_decisions i ON i.decision = d.id
             WHERE i.incident = $1 ORDER BY CASE WHEN d.id = $2 THEN 0 ELSE 1 END, d.seq, d.id",
        )
        .bind(id.as_str())
        .bind(incident.decision.as_str())
        .fetch_all(&mut *tx)
        .await
        .map_err(StoreError::db("reading an incident's decisions"))?;
        let decisions = rows.iter().map(read_decision).collect::<Result<_, _>>()?;
        Ok(IncidentDetail { incident, decisions, timeline: timeline::read(&mut tx, id).await? })
    }

    /// A human has seen it. The first one counts; later ones are entries only.
    pub async fn acknowledge(&self, id: &IncidentId, actor: &str, now: Timestamp) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        if get(&mut tx, id).await?.status == IncidentStatus::Resolved {
            return Err(StoreError::IncidentResolved(id.clone()));
        }
        let first = sqlx::query(
            "UPDATE incidents SET status = $1, acked = $2, acked_by = $3 WHERE id = $4 AND acked IS NULL",
        )
        .bind(IncidentStatus::Acknowledged.as_str())
        .bind(now.as_millis())
        .bind(actor)
        .bind(id.as_str())
        .execute(&mut *tx)
        .await
        .map_err(StoreError::db("acknowledging an incident"))?;
        if first.rows_affected() > 0 {
            endings::acknowledged(&mut tx, id, actor, now).await?;
        }
        let entry = NewEntry::by(EntryKind::Acknowledged, actor, "");
        timeline::add(&mut tx, id, None, &entry, now).await?;
        let row = NewAudit::new(actor, "incident_ack", id.as_str(), "");
        audit::append(&mut tx, now, &row).await?;
        commit(tx).await
    }

    /// A human closes it. Its latch stays. (The daemon resolves through the engine, whose order does the same.)
    pub async fn resolve(
        &self,
        id: &IncidentId,
        actor: &str,
        reason: &str,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        if !close(&mut tx, id, actor, reason, now).await? {
            get(&mut tx, id).await?;
            return Err(StoreError::IncidentResolved(id.clone()));
        }
        commit(tx).await
    }

    /// Adds a remark to the timeline.
    pub async fn incident_note(
        &self,
        id: &IncidentId,
        actor: &str,
        text: &str,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        get(&mut tx, id).await?;
        let entry = NewEntry::by(EntryKind::Note, actor, text);
        timeline::add(&mut tx, id, None, &entry, now).await?;
        commit(tx).await
    }
}

/// Opens an incident within a commit. The decision is stored already.
pub(super) async fn open(
    tx: &mut AnyConnection,
    order: &IncidentOrder,
    decision: Option<&Decision>,
    wall: Timestamp,
) -> Result<(), StoreError> {
    let other: Option<String> =
        sqlx::query_scalar("SELECT id FROM incidents WHERE flag = $1 AND resolved IS NULL")
            .bind(order.flag.as_str())
            .fetch_optional(&mut *tx)
            .await
            .map_err(StoreError::db("looking for an open incident"))?;
    if let Some(open) = other {
        return Err(StoreError::IncidentOpen { flag: order.flag.clone(), open: IncidentId::from(open) });
    }
    let time = |read: fn(&Decision) -> Timestamp| decision.map(|d| read(d).as_millis());
    sqlx::query(
        "INSERT INTO incidents (id, flag, variant, decision, severity, failure_class, title, status, at, crossing, t0,
            decided, opened)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)",
    )
    .bind(order.incident.as_str())
    .bind(order.flag.as_str())
    .bind(order.variant.as_str())
    .bind(order.decision.as_str())
    .bind(order.severity.as_str())
    .bind(&*order.failure_class)
    .bind(&*order.title)
    .bind(IncidentStatus::Open.as_str())
    .bind(order.at.as_millis())
    .bind(time(|d| d.crossing))
    .bind(time(|d| d.t0))
    .bind(time(|d| d.at))
    .bind(wall.as_millis())
    .execute(&mut *tx)
    .await
    .map_err(StoreError::db("opening an incident"))?;
    link(tx, &order.incident, &order.decision).await?;
    let note = decision.map_or_else(String::new, withheld_note);
    let entry = NewEntry::of(EntryKind::Opened, format!("{}{note}", order.title));
    timeline::add(tx, &order.incident, Some(&order.decision), &entry, wall).await
}

/// What an entry adds when a rollback was withheld.
pub(super) fn withheld_note(decision: &Decision) -> String {
    decision.gate.withholds().map_or_else(String::new, |why| format!("; not rolled back: {why}"))
}

/// A further decision joins.
pub(super) async fn join(
    tx: &mut AnyConnection,
    incident: &IncidentId,
    decision: &DecisionId,
    rule: &str,
    wall: Timestamp,
) -> Result<(), StoreError> {
    get(tx, incident).await?;
    link(tx, incident, decision).await?;
    let entry = NewEntry::of(EntryKind::Joined, rule);
    timeline::add(tx, incident, Some(decision), &entry, wall).await
}

/// The newest rollback of an incident that was withheld, unless one in its scope has been carried out since.
async fn withheld(tx: &mut AnyConnection, id: &IncidentId) -> Result<Option<Withheld>, StoreError> {
    let row = sqlx::query(
        "SELECT d.* FROM decisions d JOIN incident_decisions i ON i.decision = d.id
         WHERE i.incident = $1 AND d.gate NOT IN ('act', 'already_latched')
           AND NOT EXISTS (
             SELECT 1 FROM incident_decisions j JOIN decisions a ON a.id = j.decision
             WHERE j.incident = i.incident AND a.gate IN ('act', 'already_latched') AND a.seq >= d.seq
               AND a.scope IN (d.scope, 'all'))
         ORDER BY d.seq DESC, d.id LIMIT 1",
    )
    .bind(id.as_str())
    .fetch_optional(&mut *tx)
    .await
    .map_err(StoreError::db("looking for a withheld rollback"))?;
    Ok(row.as_ref().map(read_decision).transpose()?.and_then(|stored| Withheld::of(stored.decision)))
}

async fn link(
    tx: &mut AnyConnection,
    incident: &IncidentId,
    decision: &DecisionId,
) -> Result<(), StoreError> {
    sqlx::query("INSERT INTO incident_decisions (incident, decision) VALUES ($1, $2) ON CONFLICT DO NOTHING")
        .bind(incident.as_str())
        .bind(decision.as_str())
        .execute(&mut *tx)
        .await
        .map_err(StoreError::db("joining a decision to its incident"))?;
    Ok(())
}

/// Closes an incident and resolves its pages; false when it is not open.
pub(super) async fn close(
    tx: &mut AnyConnection,
    id: &IncidentId,
    actor: &str,
    reason: &str,
    wall: Timestamp,
) -> Result<bool, StoreError> {
    let hit = sqlx::query(
        "UPDATE incidents SET status = $1, resolved = $2, resolved_by = $3, resolve_reason = $4
         WHERE id = $5 AND resolved IS NULL",
    )
    .bind(IncidentStatus::Resolved.as_str())
    .bind(wall.as_millis())
    .bind(actor)
    .bind(reason)
    .bind(id.as_str())
    .execute(&mut *tx)
    .await
    .map_err(StoreError::db("resolving an incident"))?;
    if hit.rows_affected() == 0 {
        return Ok(false);
    }
    endings::of_incident(tx, id, (actor, reason), wall).await?;
    let entry = NewEntry::by(EntryKind::Resolved, actor, reason);
    timeline::add(tx, id, None, &entry, wall).await?;
    let row = NewAudit::new(actor, "incident_resolve", id.as_str(), reason);
    audit::append(tx, wall, &row).await?;
    Ok(true)
}

async fn get(tx: &mut AnyConnection, id: &IncidentId) -> Result<IncidentSummary, StoreError> {
    let row = sqlx::query("SELECT * FROM incidents WHERE id = $1")
        .bind(id.as_str())
        .fetch_optional(&mut *tx)
        .await
        .map_err(StoreError::db("reading an incident"))?;
    match row {
        Some(row) => read_incident(&row),
        None => Err(StoreError::NoSuchIncident(id.clone())),
    }
}

pub(super) fn read_incident(row: &AnyRow) -> Result<IncidentSummary, StoreError> {
    let time = |column| -> Result<Option<Timestamp>, StoreError> {
        Ok(row.maybe_int(column)?.map(Timestamp::from_millis))
    };
    let word = |text: String| serde_json::Value::String(text);
    Ok(IncidentSummary {
        id: IncidentId::from(row.text("id")?),
        flag: FlagKey::from(row.text("flag")?),
        variant: Variant::from(row.text("variant")?),
        decision: DecisionId::from(row.text("decision")?),
        severity: serde_json::from_value(word(row.text("severity")?))
            .map_err(|why| StoreError::corrupt("an incident's severity", why))?,
        failure_class: row.text("failure_class")?,
        title: row.text("title")?,
        status: serde_json::from_value(word(row.text("status")?))
            .map_err(|why| StoreError::corrupt("an incident's status", why))?,
        at: Timestamp::from_millis(row.int("at")?),
        crossing: time("crossing")?,
        t0: time("t0")?,
        decided: time("decided")?,
        opened: Timestamp::from_millis(row.int("opened")?),
        flip_verified: time("flip_done")?,
        flip_outcome: outbox_state::outcome(row.maybe_text("flip_outcome")?)?,
        page_accepted: time("page_accepted")?,
        acked: time("acked")?,
        acked_by: row.maybe_text("acked_by")?,
        resolved: time("resolved")?,
        resolved_by: row.maybe_text("resolved_by")?,
        resolve_reason: row.maybe_text("resolve_reason")?,
        withheld: None,
    })
}

//! Decisions judged again from what they rested on.

use axum::extract::{Path, Query, State, rejection::QueryRejection};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::App;
use super::auth::{By, Read};
use super::body::json as answer;
use super::problem::{Answer, Problem};
use crate::engine::grounds::Replayed;
use crate::engine::output::Gate;
use crate::engine::rule::RuleAction;
use crate::model::id::{DecisionId, IncidentId};
use crate::model::time::Timestamp;
use crate::store::{StoreError, StoredGrounds};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Which {
    decision: Option<String>,
}

/// One decision judged again.
#[derive(Serialize)]
struct Judged {
    decision: DecisionId,
    rule: String,
    action: RuleAction,
    gate: Gate,
    /// Event time of the closing that decided.
    at: Timestamp,
    /// Whether it was judged to the same verdict and numbers, and nothing stored was altered.
    same: bool,
    /// Whether the decision and its grounds are what the audit chain says that was stored.
    sealed: bool,
    /// The size of its grounds as stored.
    bytes: usize,
    /// `None` where it could not be judged: `why`.
    replayed: Option<Replayed>,
    why: Option<String>,
}

/// Every decision of an incident, or the one asked for; the id may also be that of a decision without an incident.
pub async fn replay(
    State(app): State<App>,
    _: By<Read>,
    Path(id): Path<String>,
    query: Result<Query<Which>, QueryRejection>,
) -> Answer {
    let Query(which) =
        query.map_err(|error| Problem::bad_request(error.body_text()).hint("?decision=ID, or nothing"))?;
    let mut found = decisions_of(&app, &id).await?;
    if let Some(wanted) = &which.decision {
        found.retain(|decision| decision.as_str() == wanted);
        if found.is_empty() {
            return Err(Problem::not_found(format!("incident `{id}` has no decision `{wanted}`"))
                .hint("GET /v1/incidents/{id} lists its decisions"));
        }
    }
    let mut judged = Vec::new();
    for decision in found {
        let Some(stored) = app.store.grounds(&decision).await? else { continue };
        // Long windows of busy variants take a while: not on a thread that serves.
        let one = tokio::task::spawn_blocking(move || judge(stored)).await;
        judged.push(one.map_err(|error| Problem::new(500, "replay", error.to_string()))?);
    }
    let same = judged.iter().all(|one| one.same);
    Ok(answer(&json!({"id": id, "same": same, "decisions": judged})))
}

async fn decisions_of(app: &App, id: &str) -> Result<Vec<DecisionId>, Problem> {
    match app.store.incident(&IncidentId::from(id)).await {
        Ok(detail) => Ok(detail.decisions.into_iter().map(|stored| stored.decision.id).collect()),
        Err(StoreError::NoSuchIncident(incident)) => {
            let decision = DecisionId::from(id);
            match app.store.decision(&decision).await? {
                Some(_) => Ok(vec![decision]),
                None => Err(StoreError::NoSuchIncident(incident).into()),
            }
        }
        Err(error) => Err(error.into()),
    }
}

fn judge(found: StoredGrounds) -> Judged {
    let StoredGrounds { stored, grounds, sealed, bytes } = found;
    let decision = stored.decision;
    let by_hand = decision.by.is_some();
    let (replayed, why) = match grounds.map(|grounds| grounds.judge_again(&decision)) {
        Some(Ok(replayed)) => (Some(replayed), None),
        Some(Err(error)) => (None, Some(error.to_string())),
        None if by_hand => (None, Some("made by a human: there is nothing to judge".into())),
        None => (None, Some("nothing is stored to judge it from: it was too large to be kept".into())),
    };
    Judged {
        same: sealed && (by_hand || replayed.as_ref().is_some_and(|replayed| replayed.same)),
        decision: decision.id,
        rule: decision.key.rule.to_string(),
        action: decision.action,
        gate: decision.gate,
        at: decision.at,
        sealed,
        bytes,
        replayed,
        why,
    }
}

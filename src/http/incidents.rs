//! Incidents: list, read, acknowledge, resolve.

use axum::extract::{Path, Query, State, rejection::QueryRejection};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::json;

use super::App;
use super::auth::allow;
use super::body::{Body, json as answer, read, reason};
use super::problem::Problem;
use super::status::command;
use crate::engine::input::CommandKind;
use crate::model::id::{FlagKey, IncidentId};
use crate::model::incident::IncidentStatus;
use crate::store::{IncidentFilter, TokenScope};
use crate::telemetry::facts::Commanded;
use crate::telemetry::record;

/// What `?status=` may be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Wanted {
    Open,
    Acknowledged,
    Resolved,
    /// Open and acknowledged.
    Unresolved,
    #[default]
    All,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Filter {
    #[serde(default)]
    status: Wanted,
    flag: Option<String>,
    limit: Option<u32>,
}

/// The most incidents that one answer lists.
const MOST: u32 = 1000;

/// Newest first.
pub async fn list(
    State(app): State<App>,
    headers: HeaderMap,
    query: Result<Query<Filter>, QueryRejection>,
) -> Result<Response, Problem> {
    allow(&app, &headers, TokenScope::Read).await?;
    let Query(filter) = query.map_err(|error| {
        Problem::bad_request(error.body_text())
            .hint("?status=open|acknowledged|resolved|unresolved|all&flag=KEY&limit=100")
    })?;
    let wanted = filter.status;
    let limit = filter.limit.unwrap_or(100).min(MOST);
    let mut incidents = app
        .store
        .incidents(&IncidentFilter {
            flag: filter.flag.map(FlagKey::from),
            status: None,
            unresolved: matches!(wanted, Wanted::Open | Wanted::Acknowledged | Wanted::Unresolved),
            // The store knows only resolved or not; the rest is chosen here, so more may have to be read.
            limit: Some(if wanted == Wanted::All { limit } else { MOST }),
        })
        .await?;
    incidents.retain(|incident| match wanted {
        Wanted::Open => incident.status == IncidentStatus::Open,
        Wanted::Acknowledged => incident.status == IncidentStatus::Acknowledged,
        Wanted::Resolved => incident.status == IncidentStatus::Resolved,
        Wanted::Unresolved | Wanted::All => true,
    });
    incidents.truncate(limit as usize);
    Ok(answer(&json!({"incidents": incidents})))
}

/// All that is known of one.
pub async fn show(
    State(app): State<App>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    allow(&app, &headers, TokenScope::Read).await?;
    Ok(answer(&app.store.incident(&IncidentId::from(id)).await?))
}

/// One as people read it.
pub async fn markdown(
    State(app): State<App>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    allow(&app, &headers, TokenScope::Read).await?;
    match app.writer.markdown(IncidentId::from(id.as_str())).await {
        Ok(Some(text)) => {
            Ok(([(header::CONTENT_TYPE, "text/markdown; charset=utf-8")], text).into_response())
        }
        Ok(None) => Err(Problem::not_found(format!("no incident `{id}` is stored"))
            .hint("GET /v1/incidents lists the incidents")),
        Err(why) => {
            Err(Problem::new(500, "rendering", why).hint("GET /v1/incidents/{id} answers the same as JSON"))
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Reason {
    #[serde(default)]
    reason: String,
}

/// Somebody is on it.
pub async fn acknowledge(
    State(app): State<App>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let token = allow(&app, &headers, TokenScope::Ack).await?;
    let said: Reason = read(body, r#"{"reason": "looking into it"}"#)?;
    let id = IncidentId::from(id);
    let now = app.clock.now();
    app.store.acknowledge(&id, &token.name, now).await?;
    if !said.reason.trim().is_empty() {
        let text = reason(&said.reason)?;
        app.store.incident_note(&id, &token.name, text, now).await?;
    }
    record(&Commanded {
        actor: &token.name,
        command: "incident ack",
        target: id.as_str(),
        reason: &said.reason,
        result: "acknowledged",
    });
    Ok(answer(&json!({"done": format!("incident {id} acknowledged by {}", token.name)})))
}

/// A human closes it; its latch stays.
pub async fn resolve(
    State(app): State<App>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let token = allow(&app, &headers, TokenScope::Ack).await?;
    let said: Reason = read(body, r#"{"reason": "prompt fixed in v19"}"#)?;
    let kind = CommandKind::ResolveIncident { incident: IncidentId::from(id.as_str()) };
    let why = reason(&said.reason)?;
    command(&app, &token, why, kind, "incident resolve", &id).await
}

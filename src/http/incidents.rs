//! Incidents: list, read, acknowledge, resolve.

use axum::extract::{Path, Query, State, rejection::QueryRejection};
use axum::http::header;
use axum::response::IntoResponse;
use serde::Deserialize;
use serde_json::json;

use super::App;
use super::auth::{Ack, By, Read};
use super::body::{Body, json as answer, read, reason};
use super::problem::{Answer, Problem};
use super::status::command;
use crate::engine::input::CommandKind;
use crate::model::id::{FlagKey, IncidentId};
use crate::model::incident::IncidentStatus;
use crate::store::IncidentFilter;
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
    _: By<Read>,
    query: Result<Query<Filter>, QueryRejection>,
) -> Answer {
    let Query(filter) = query.map_err(|error| {
        Problem::bad_request(error.body_text())
            .hint("?status=open|acknowledged|resolved|unresolved|all&flag=KEY&limit=100")
    })?;
    let status = match filter.status {
        Wanted::Open => Some(IncidentStatus::Open),
        Wanted::Acknowledged => Some(IncidentStatus::Acknowledged),
        Wanted::Resolved => Some(IncidentStatus::Resolved),
        Wanted::Unresolved | Wanted::All => None,
    };
    let incidents = app
        .store
        .incidents(&IncidentFilter {
            flag: filter.flag.map(FlagKey::from),
            unresolved: filter.status == Wanted::Unresolved,
            status,
            limit: Some(filter.limit.unwrap_or(100).min(MOST)),
        })
        .await?;
    Ok(answer(&json!({"incidents": incidents})))
}

/// All that is known of one.
pub async fn show(State(app): State<App>, _: By<Read>, Path(id): Path<String>) -> Answer {
    Ok(answer(&app.store.incident(&IncidentId::from(id)).await?))
}

/// One as people read it.
pub async fn markdown(State(app): State<App>, _: By<Read>, Path(id): Path<String>) -> Answer {
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
pub async fn acknowledge(State(app): State<App>, by: By<Ack>, Path(id): Path<String>, body: Body) -> Answer {
    let said: Reason = read(body, r#"{"reason": "looking into it"}"#)?;
    // May be left out; a bad one is refused before anything is done.
    let why = match said.reason.trim() {
        "" => None,
        text => Some(reason(text)?),
    };
    let id = IncidentId::from(id);
    let now = app.clock.now();
    app.store.acknowledge(&id, &by.name, now).await?;
    if let Some(why) = why {
        app.store.incident_note(&id, &by.name, why, now).await?;
    }
    record(&Commanded {
        actor: &by.name,
        command: "incident ack",
        target: id.as_str(),
        reason: why.unwrap_or_default(),
        result: "acknowledged",
    });
    Ok(answer(&json!({"done": format!("incident {id} acknowledged by {}", by.name)})))
}

/// A human closes it; its latch stays.
pub async fn resolve(State(app): State<App>, by: By<Ack>, Path(id): Path<String>, body: Body) -> Answer {
    let said: Reason = read(body, r#"{"reason": "prompt fixed in v19"}"#)?;
    let kind = CommandKind::ResolveIncident { incident: IncidentId::from(id.as_str()) };
    let why = reason(&said.reason)?;
    command(&app, &by, why, kind, "incident resolve", &id).await
}

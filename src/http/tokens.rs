//! Tokens: made, listed and revoked by administrators. A token's text is shown once.

use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::json;

use super::App;
use super::auth::allow;
use super::body::{Body, json as answer, read};
use super::problem::Problem;
use crate::store::{TokenInfo, TokenScope};
use crate::telemetry::facts::Commanded;
use crate::telemetry::record;

/// All tokens without their text.
pub async fn list(State(app): State<App>, headers: HeaderMap) -> Result<Response, Problem> {
    allow(&app, &headers, TokenScope::Admin).await?;
    Ok(answer(&json!({"tokens": app.store.tokens().await?})))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct New {
    #[serde(default)]
    name: String,
    #[serde(default)]
    scopes: Vec<String>,
}

/// Makes a token.
pub async fn create(State(app): State<App>, headers: HeaderMap, body: Body) -> Result<Response, Problem> {
    let token = allow(&app, &headers, TokenScope::Admin).await?;
    let example = r#"{"name": "gateway-eu", "scopes": ["evaluate"]}"#;
    let new: New = read(body, example)?;
    let words: Vec<&str> = TokenScope::ALL.iter().map(|scope| scope.as_str()).collect();
    let mut scopes = Vec::new();
    for word in &new.scopes {
        scopes.push(TokenScope::parse(word).ok_or_else(|| {
            Problem::bad_request(format!("`{word}` is no scope"))
                .hint(format!("scopes are {}", words.join(", ")))
        })?);
    }
    if !TokenInfo::is_name(&new.name) || scopes.is_empty() {
        return Err(Problem::bad_request(
            "a token needs a name of 1 to 64 letters, digits, `-`, `_`, `.` or `@`, and at least one scope",
        )
        .hint(format!("send JSON such as {example}")));
    }
    let text = app.store.create_token(&new.name, &scopes, app.clock.now()).await?;
    record(&Commanded {
        actor: &token.name,
        command: "token create",
        target: &new.name,
        reason: "",
        result: "created",
    });
    let body = json!({"name": new.name, "scopes": new.scopes, "token": text});
    let mut response = (StatusCode::CREATED, axum::Json(body)).into_response();
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// Ends a token at once.
pub async fn revoke(
    State(app): State<App>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let token = allow(&app, &headers, TokenScope::Admin).await?;
    app.store.revoke_token(&name, &token.name, app.clock.now()).await?;
    app.0.door.forget();
    record(&Commanded {
        actor: &token.name,
        command: "token revoke",
        target: &name,
        reason: "",
        result: "revoked",
    });
    Ok(answer(&json!({"done": format!("token {name} is revoked")})))
}

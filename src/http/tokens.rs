//! Tokens: made, listed and revoked by administrators. A token's text is shown once.

use axum::extract::{Path, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::IntoResponse;
use serde::Deserialize;
use serde_json::json;

use super::App;
use super::auth::{Admin, By};
use super::body::{Body, json as answer, read};
use super::problem::{Answer, Problem};
use crate::store::{TokenInfo, TokenScope};
use crate::telemetry::facts::Commanded;
use crate::telemetry::record;

/// All tokens without their text.
pub async fn list(State(app): State<App>, _: By<Admin>) -> Answer {
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
pub async fn create(State(app): State<App>, by: By<Admin>, body: Body) -> Answer {
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
        return Err(Problem::bad_request(format!(
            "a token needs a name ({}), and at least one scope",
            TokenInfo::NAMES
        ))
        .hint(format!("send JSON such as {example}")));
    }
    let text = app.store.create_token_by(&by.name, &new.name, &scopes, app.clock.now()).await?;
    record(&Commanded {
        actor: &by.name,
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
pub async fn revoke(State(app): State<App>, by: By<Admin>, Path(name): Path<String>) -> Answer {
    app.store.revoke_token(&name, &by.name, app.clock.now()).await?;
    app.0.door.forget();
    record(&Commanded {
        actor: &by.name,
        command: "token revoke",
        target: &name,
        reason: "",
        result: "revoked",
    });
    Ok(answer(&json!({"done": format!("token {name} is revoked")})))
}

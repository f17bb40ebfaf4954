//! OFREP 0.3.0: how gateways ask which variant to serve.
//!
//! Answered from memory. Never 429 and never `Retry-After`, since OpenFeature clients then pause every flag and serve the
//! defaults in their code; always `value` and `variant`; metadata holds scalars only. A context without a targeting key is
//! answered with control rather than with an error, for the same reason (docs/flags.md).

use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};

use super::App;
use super::auth::{By, Evaluate};
use super::body::Body;
use crate::engine::targeting::{Context, Resolution, evaluate};
use crate::model::id::FlagKey;
use crate::store::FlagState;
use crate::telemetry::facts::Evaluated;
use crate::telemetry::record;

/// A bad request in OFREP's own words.
struct Refusal {
    code: &'static str,
    details: String,
}

/// One flag.
pub async fn single(
    State(app): State<App>,
    _: By<Evaluate>,
    Path(key): Path<String>,
    body: Body,
) -> Response {
    let context = match context(body) {
        Ok(context) => context,
        Err(refusal) => return refused(Some(&key), &refusal),
    };
    let table = app.store.flags();
    let found = table.get(&FlagKey::from(key.as_str()));
    let Some(state) = found.filter(|state| state.spec.served.is_none()) else {
        record(&Evaluated { reason: "NOT_FOUND" });
        let details = match found.and_then(|state| state.spec.served.as_ref()) {
            Some(served) => format!("Flag '{key}' is served by '{}' ({})", served.platform, served.kind),
            None => format!("Flag '{key}' was not found"),
        };
        let body = json!({"key": key, "errorCode": "FLAG_NOT_FOUND", "errorDetails": details});
        return (StatusCode::NOT_FOUND, axum::Json(body)).into_response();
    };
    axum::Json(answer(state, &context)).into_response()
}

/// All flags for one context.
pub async fn bulk(State(app): State<App>, _: By<Evaluate>, headers: HeaderMap, body: Body) -> Response {
    let context = match context(body) {
        Ok(context) => context,
        Err(refusal) => return refused(None, &refusal),
    };
    let table = app.store.flags();
    let flags: Vec<Value> = table
        .iter()
        .filter(|(_, state)| state.spec.served.is_none())
        .map(|(_, state)| answer(state, &context))
        .collect();
    let body = json!({"flags": flags}).to_string();
    // The answer's own hash: it changes when any flag does, and when the context would be answered differently.
    let hash = blake3::hash(body.as_bytes()).to_hex();
    let etag = format!("\"{}\"", &hash[..32]);
    let mut response = if matches(&headers, &etag) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        ([(header::CONTENT_TYPE, "application/json")], body).into_response()
    };
    if let Ok(value) = HeaderValue::from_str(&etag) {
        response.headers_mut().insert(header::ETAG, value);
    }
    response
}

/// Whether `If-None-Match` names this tag; weak and unquoted ones count, since clients send back what they please.
fn matches(headers: &HeaderMap, etag: &str) -> bool {
    let bare = |tag: &str| tag.trim().trim_start_matches("W/").trim_matches('"').to_owned();
    headers
        .get_all(header::IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|tag| tag.trim() == "*" || bare(tag) == bare(etag))
}

fn answer(state: &FlagState, context: &Context) -> Value {
    let Resolution { variant, reason, pinned, frozen, key_missing } =
        evaluate(&state.spec, &state.overlay, context);
    record(&Evaluated { reason: reason.as_str() });
    let mut metadata = Map::new();
    metadata.insert("rearguard.version".into(), json!(state.overlay.version));
    if let Some(scope) = pinned {
        metadata.insert("rearguard.pinned".into(), json!(scope.to_string()));
    }
    if frozen {
        metadata.insert("rearguard.frozen".into(), json!(true));
    }
    if key_missing {
        metadata.insert("rearguard.targetingKey".into(), json!("missing"));
    }
    json!({
        "key": state.spec.key.as_str(),
        "value": variant,
        "variant": variant,
        "reason": reason.as_str(),
        "metadata": metadata,
    })
}

fn context(body: Body) -> Result<Context, Refusal> {
    let parse = |details: String| Refusal { code: "PARSE_ERROR", details };
    let invalid = |details: &str| Refusal { code: "INVALID_CONTEXT", details: details.into() };
    let bytes = body.map_err(|error| parse(error.body_text()))?;
    let request: Value =
        serde_json::from_slice(&bytes).map_err(|error| parse(format!("The body is not JSON: {error}")))?;
    let Some(context) = request.get("context").and_then(Value::as_object) else {
        return Err(invalid(
            "`context` must be an object, e.g. {\"context\": {\"targetingKey\": \"user-123\"}}",
        ));
    };
    let targeting_key = match context.get("targetingKey") {
        None | Some(Value::Null) => None,
        Some(Value::String(key)) => Some(key.clone()),
        Some(_) => return Err(invalid("`targetingKey` must be a string")),
    };
    let text = |name: &str| match context.get(name) {
        Some(Value::String(text)) if !text.is_empty() => Some(text.clone()),
        Some(Value::Number(number)) => Some(number.to_string()),
        _ => None,
    };
    Ok(Context { targeting_key, tenant: text("tenant"), tier: text("tier"), region: text("region") })
}

fn refused(key: Option<&str>, refusal: &Refusal) -> Response {
    let mut body = json!({"errorCode": refusal.code, "errorDetails": refusal.details});
    if let Some(key) = key {
        body["key"] = json!(key);
    }
    (StatusCode::BAD_REQUEST, axum::Json(body)).into_response()
}

//! Request bodies: JSON, read strictly, with errors that say what would be right.

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::problem::Problem;

/// What an extractor of a body gives.
pub type Body = Result<Bytes, BytesRejection>;

/// Reads a JSON body; an empty one counts as `{}`.
pub fn read<T: DeserializeOwned>(body: Body, example: &str) -> Result<T, Problem> {
    let bytes = body.map_err(|error| {
        Problem::new(error.status().as_u16(), "body", error.body_text())
            .hint(format!("send JSON such as {example}"))
    })?;
    let text: &[u8] = if bytes.iter().all(u8::is_ascii_whitespace) { b"{}" } else { &bytes };
    serde_json::from_slice(text).map_err(|error| {
        Problem::bad_request(format!("the body does not fit: {error}"))
            .hint(format!("send JSON such as {example}"))
    })
}

/// A reason that says something; it goes into the audit chain.
pub fn reason(text: &str) -> Result<&str, Problem> {
    let text = text.trim();
    if text.is_empty() || text.len() > 1000 || text.chars().any(char::is_control) {
        return Err(Problem::bad_request("`reason` is missing or not one line of at most 1000 bytes")
            .hint("say why, for those who read the history: {\"reason\": \"…\"}"));
    }
    Ok(text)
}

/// Answers with JSON.
pub fn json(value: &impl Serialize) -> Response {
    axum::Json(value).into_response()
}

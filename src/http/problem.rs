//! Problem documents (RFC 9457): what went wrong, and what would be right.

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::SubmitError;
use crate::engine::output::CommandError;
use crate::store::StoreError;

/// What a route answers.
pub type Answer = Result<Response, Problem>;

/// An error as a client sees it. Never sends `Retry-After`: OpenFeature clients would pause every flag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    status: u16,
    kind: &'static str,
    detail: String,
    hint: Option<String>,
}

impl Problem {
    /// A problem of a kind, which becomes `urn:rearguard:problem:<kind>`.
    pub const fn new(status: u16, kind: &'static str, detail: String) -> Self {
        Self { status, kind, detail, hint: None }
    }

    /// The request cannot be understood or is not allowed to be so.
    pub fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(400, "bad-request", detail.into())
    }

    /// There is no such thing.
    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new(404, "not-found", detail.into())
    }

    /// It does not fit to how things stand.
    pub fn conflict(detail: impl Into<String>) -> Self {
        Self::new(409, "conflict", detail.into())
    }

    /// Not now.
    pub fn unavailable(detail: impl Into<String>) -> Self {
        Self::new(503, "unavailable", detail.into())
    }

    /// Says what would be right.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut document = json!({
            "type": format!("urn:rearguard:problem:{}", self.kind),
            "title": status.canonical_reason().unwrap_or("error"),
            "status": self.status,
            "detail": self.detail,
        });
        if let Some(hint) = self.hint {
            document["hint"] = json!(hint);
        }
        let mut response = Response::new(Body::from(document.to_string()));
        *response.status_mut() = status;
        response
            .headers_mut()
            .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if status == StatusCode::UNAUTHORIZED {
            response
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"rearguard\""));
        }
        response
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        let detail = error.to_string();
        match error {
            StoreError::UnknownFlag(_) => Self::not_found(detail).hint("GET /v1/flags lists the flags"),
            StoreError::NoSuchIncident(_) => {
                Self::not_found(detail).hint("GET /v1/incidents lists the incidents")
            }
            StoreError::NoSuchToken(_) => Self::not_found(detail).hint("GET /v1/tokens lists the tokens"),
            StoreError::IncidentResolved(_) => Self::conflict(detail),
            StoreError::TokenExists(_) => {
                Self::conflict(detail).hint("choose another name, or revoke that one first")
            }
            StoreError::Fenced { .. } => Self::unavailable(detail).hint("ask the process that runs now"),
            error if error.is_transient() => {
                Self::unavailable(detail).hint("the database does not answer; nothing was changed, try again")
            }
            _ => Self::new(500, "store", detail),
        }
    }
}

impl From<SubmitError> for Problem {
    fn from(error: SubmitError) -> Self {
        let detail = error.to_string();
        match error {
            SubmitError::Refused(CommandError::UnknownFlag { .. }) => {
                Self::not_found(detail).hint("GET /v1/flags lists the flags")
            }
            SubmitError::Refused(CommandError::NotLatched { .. }) => Self::conflict(detail).hint(
                "GET /v1/flags/{key} shows which scopes are pinned; without `scope` the whole flag is meant",
            ),
            SubmitError::Refused(CommandError::NoSuchIncident { .. }) => {
                Self::not_found(detail).hint("GET /v1/incidents?status=unresolved lists those that are open")
            }
            SubmitError::Refused(CommandError::NotPaused { .. }) => Self::conflict(detail)
                .hint("GET /v1/flags/{key} shows whether its share is held, and by whom"),
            SubmitError::Refused(CommandError::NoSlices { .. }) => Self::conflict(detail).hint(
                "leave `scope` out to roll everybody back, or exclude the slice at the platform by hand",
            ),
            SubmitError::Refused(CommandError::NotForDrills { .. }) => Self::bad_request(detail)
                .hint("mark a flag of its own with `drill: true` in the configuration (docs/practice.md)"),
            SubmitError::Refused(CommandError::NoDrill { .. }) => Self::conflict(detail),
            SubmitError::Refused(CommandError::NoFalseAlarm { .. }) => {
                Self::bad_request(detail).hint("leave `false_alarm` out")
            }
            SubmitError::NothingMeant(nothing) => Self::not_found(detail).hint(nothing.hint),
            SubmitError::Unavailable(_) => {
                Self::unavailable(detail).hint("look at GET /v1/status, then try again")
            }
        }
    }
}

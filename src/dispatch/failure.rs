//! How an attempt fails, as a type: the worker that owns back-off and deadlines needs nothing but this.

use std::time::Duration;

use reqwest::StatusCode;
use reqwest::header::{HeaderMap, RETRY_AFTER};

use super::client::Secret;
use crate::model::time::Timestamp;

/// Why an attempt did not succeed, and what that means for the next one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// Another try may succeed, not before `after` if the other side said so.
    #[error("{why}")]
    Retryable { after: Option<Duration>, why: String },
    /// No further try can succeed until a human changes something.
    #[error("{why}")]
    Permanent { why: String },
    /// Nobody knows whether it took effect: read back before trying again.
    #[error("{why} (it may have taken effect)")]
    Unknown { why: String },
    /// Something else was written in the meantime: read again, then decide.
    #[error("{why}")]
    Conflict { why: String },
}

impl Failure {
    /// A failure that may pass.
    pub fn retryable(why: impl Into<String>) -> Self {
        Self::Retryable { after: None, why: why.into() }
    }

    /// A failure that stays.
    pub fn permanent(why: impl Into<String>) -> Self {
        Self::Permanent { why: why.into() }
    }

    /// The word counted in metrics.
    pub const fn result(&self) -> &'static str {
        match self {
            Self::Retryable { .. } => "retryable",
            Self::Permanent { .. } => "permanent",
            Self::Unknown { .. } => "unknown",
            Self::Conflict { .. } => "conflict",
        }
    }

    /// Whether further tries are pointless.
    pub const fn is_permanent(&self) -> bool {
        matches!(self, Self::Permanent { .. })
    }

    /// What the other side asked to wait.
    pub const fn after(&self) -> Option<Duration> {
        match self {
            Self::Retryable { after, .. } => *after,
            Self::Permanent { .. } | Self::Unknown { .. } | Self::Conflict { .. } => None,
        }
    }

    /// Without a secret that the other side repeated in its answer.
    pub fn hiding(mut self, secret: &Secret) -> Self {
        if !secret.reveal().is_empty() {
            let why = self.why();
            *why = why.replace(secret.reveal(), "…");
        }
        self
    }

    /// With what had been reached before it failed.
    pub fn after_having(mut self, reached: &str) -> Self {
        self.why().insert_str(0, reached);
        self
    }

    const fn why(&mut self) -> &mut String {
        let (Self::Retryable { why, .. }
        | Self::Permanent { why }
        | Self::Unknown { why }
        | Self::Conflict { why }) = self;
        why
    }

    /// Reads an HTTP status that is not a success. `now` is real time, for a `Retry-After` that names a date; `said` is the
    /// beginning of the answer's body.
    pub fn from_status(status: StatusCode, headers: &HeaderMap, now: Timestamp, said: &str) -> Self {
        let why = match said.trim() {
            "" => format!("answered {status}"),
            said => format!("answered {status}: {said}"),
        };
        match status.as_u16() {
            300..=399 => Self::permanent(format!("{why}; redirects are not followed")),
            409 => Self::Conflict { why },
            408 | 425 | 429 | 500..=599 => Self::Retryable { after: retry_after(headers, now), why },
            _ => Self::Permanent { why },
        }
    }

    /// Reads an error of the HTTP client. Addresses are taken out, since they may hold secrets.
    pub fn from_client(error: reqwest::Error) -> Self {
        let error = error.without_url();
        let why = with_cause(&error);
        if error.is_connect() {
            Self::retryable(why)
        } else if error.is_builder() {
            Self::permanent(why)
        } else {
            // Timed out or cut off after the request was on its way.
            Self::Unknown { why }
        }
    }
}

fn with_cause(error: &reqwest::Error) -> String {
    let mut deepest: &dyn std::error::Error = error;
    while let Some(cause) = deepest.source() {
        deepest = cause;
    }
    let kind = if error.is_timeout() {
        "timed out"
    } else if error.is_connect() {
        "cannot connect"
    } else {
        "exchange failed"
    };
    format!("{kind}: {deepest}")
}

/// `Retry-After` as seconds or as an HTTP date (RFC 9110 §10.2.3); at most an hour.
fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = match text.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => http_date(text)?.since(now),
    };
    Some(wait.min(Duration::from_secs(3600)))
}

/// An HTTP date (RFC 9110 §5.6.7).
pub fn http_date(text: &str) -> Option<Timestamp> {
    let date = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
    Some(Timestamp::from_millis(date.as_millisecond()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(status: u16, retry: Option<&str>) -> Failure {
        let mut headers = HeaderMap::new();
        if let Some(value) = retry {
            headers.insert(RETRY_AFTER, value.parse().unwrap());
        }
        let now = Timestamp::parse("2015-10-21T07:28:00Z").unwrap();
        Failure::from_status(StatusCode::from_u16(status).unwrap(), &headers, now, "no")
    }

    #[test]
    fn every_status_has_its_meaning() {
        for status in [301, 302, 307, 400, 401, 403, 404, 405, 410, 413, 422] {
            assert_eq!(read(status, None).result(), "permanent", "{status}");
        }
        for status in [408, 425, 429, 500, 502, 503, 504] {
            assert_eq!(read(status, None).result(), "retryable", "{status}");
        }
        assert_eq!(read(409, None).result(), "conflict");
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        for (text, expected) in [
            ("7", Some(7)),
            ("Wed, 21 Oct 2015 07:28:30 GMT", Some(30)),
            ("Wed, 21 Oct 2015 07:00:00 GMT", Some(0)),
            ("999999999", Some(3600)),
            ("soon", None),
            ("-1", None),
        ] {
            assert_eq!(read(503, Some(text)).after(), expected.map(Duration::from_secs), "{text}");
        }
    }
}

//! What a flag platform of another vendor is to Rearguard: calls to make and answers to judge, without any I/O.
//!
//! In: the JSON bodies of a platform's answers. Out: what is served now, the calls that pin control, what the platform's answers
//! mean. Whoever drives it adds the base address, the secret and the deadline, and sends nothing that is not a [`Call`].

use std::time::Duration;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::Method;
use reqwest::header::HeaderMap;
use serde_json::Value;

use super::Result;
use crate::model::time::Timestamp;

/// Stands in a path for the key of the evaluation plane; whoever sends the call puts the key in its place and never logs it.
pub const KEY_IN_PATH: &str = "{evaluation_key}";

/// Shares are in millionths.
pub const WHOLE: u32 = 1_000_000;

/// All that is not unreserved in a path segment (RFC 3986 §2.3).
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A flag on a platform.
pub trait Vendor: Send + Sync {
    /// How a plane is told who asks.
    fn auth(&self, plane: Plane) -> Auth;

    /// The calls that read the flag, in the order in which [`Vendor::state`] and [`Vendor::pin`] take their answers. The answer
    /// to an optional call that was refused is `null`.
    fn read(&self) -> Vec<Call>;

    /// What is served, by the answers to [`Vendor::read`]. Fails for good if the answers are not those of a flag that can be
    /// rolled back, e.g. because it has no control variant.
    fn state(&self, answers: &[Value]) -> Result<State>;

    /// The calls that make everybody get the control variant, to be sent in order; none if it is so already. `note` is shown to
    /// people in the platform's history.
    fn pin(&self, answers: &[Value], note: &str) -> Result<Vec<Call>>;

    /// The calls that hold the share where it stands. None on platforms where a share moves only when somebody writes; what
    /// moves one by itself is in [`State::moves`].
    fn freeze(&self, answers: &[Value]) -> Result<Vec<Call>> {
        self.state(answers).map(|_| Vec::new())
    }

    /// The calls that ask what gateways are given, in the order in which [`Vendor::judge`] takes their answers.
    fn evaluation(&self) -> Vec<Call>;

    /// Whether any context could still get the treatment, by the answers to [`Vendor::evaluation`].
    fn judge(&self, answers: &[Value]) -> Result<Verdict>;

    /// What a status and the beginning of a body mean for a write.
    fn meaning(&self, status: u16, body: &str) -> Meaning {
        meaning(status, body)
    }

    /// Where a human sees the change and takes it back; `web` is the address of the platform's user interface.
    fn undo(&self, web: &str) -> String;
}

/// Whom a call asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plane {
    /// Where flags are written.
    Admin,
    /// Where gateways read.
    Evaluation,
}

/// How a secret travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Auth {
    /// As the whole value of a header.
    Header(&'static str),
    /// As user and password of HTTP basic authentication.
    Basic,
    /// In place of [`KEY_IN_PATH`].
    Path,
    /// Not at all: it signs time, method, path and body.
    Signed,
}

/// One HTTP request, without base address and secret.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    pub plane: Plane,
    pub method: Method,
    /// Begins with a slash; encoded, with the query.
    pub path: String,
    pub headers: Vec<(&'static str, &'static str)>,
    pub body: Option<Value>,
    /// A refusal does no harm: less is known then.
    pub optional: bool,
}

impl Call {
    /// Reads something.
    pub const fn get(plane: Plane, path: String) -> Self {
        Self { plane, method: Method::GET, path, headers: Vec::new(), body: None, optional: false }
    }

    /// Writes something as JSON.
    pub fn write(method: Method, path: String, body: Value) -> Self {
        let headers = vec![("content-type", "application/json")];
        Self { plane: Plane::Admin, method, path, headers, body: Some(body), optional: false }
    }
}

/// A flag as a platform has it.
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    /// Changes with every change of the flag in its environment.
    pub version: u64,
    /// No context can get the treatment, for whatever reason.
    pub safe: bool,
    /// All that a pin writes is written.
    pub pinned: bool,
    /// The treatment's share of contexts that no rule or target names, in millionths; none if it is not one number.
    pub share: Option<u32>,
    /// Why a write would need somebody else's word.
    pub locked: Option<String>,
    /// What moves the share without anybody's doing.
    pub moves: Option<String>,
    pub last_change: Option<Change>,
}

/// Who changed a flag, and when.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    pub by: Option<String>,
    pub at: Option<Timestamp>,
}

/// What the evaluation plane says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// No context gets the treatment. With the revision that says so, where there is one.
    Clear { revision: Option<String> },
    /// Some context gets the treatment, by this.
    Exposed { by: String },
}

/// What an answer to a write means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// It says it is done. Read back.
    Done,
    /// Something else was written in the meantime: read again.
    Conflict,
    /// Another person has to agree: page.
    Approval,
    /// Again later.
    Retry,
    /// No further try can succeed.
    Refused,
}

/// What statuses mean where a vendor says nothing else (RFC 9110 §15).
pub fn meaning(status: u16, _body: &str) -> Meaning {
    match status {
        200..=299 => Meaning::Done,
        409 | 412 => Meaning::Conflict,
        408 | 425 | 429 | 500..=599 => Meaning::Retry,
        _ => Meaning::Refused,
    }
}

/// The wait that `X-Ratelimit-Reset` asks for: milliseconds since 1970 (LaunchDarkly); at most an hour. `Retry-After` goes first.
pub fn reset_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = headers.get("x-ratelimit-reset")?.to_str().ok()?;
    let reset = Timestamp::from_millis(text.trim().parse().ok()?);
    Some(reset.since(now).min(Duration::from_secs(3600)))
}

/// One path segment or query value.
pub fn segment(text: &str) -> String {
    utf8_percent_encode(text, SEGMENT).to_string()
}

/// A number that changes when a document does, for platforms that count no versions.
pub fn fingerprint(document: &Value) -> u64 {
    // Keys of objects are sorted by `serde_json::Value`.
    let hash = blake3::hash(document.to_string().as_bytes());
    let mut first = [0; 8];
    first.copy_from_slice(&hash.as_bytes()[..8]);
    // The store keeps versions as signed numbers.
    u64::from_le_bytes(first) >> 1
}

/// The answer to a call, or what is missing.
pub fn answer<'a>(answers: &'a [Value], place: usize, what: &str) -> Result<&'a Value> {
    match answers.get(place) {
        Some(value) if value.is_object() => Ok(value),
        _ => Err(odd(format!("the answer is no {what}"))),
    }
}

/// A list under a key; empty if there is none.
pub fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().map_or(&[], Vec::as_slice)
}

/// A text under a key that is not empty.
pub fn text(value: &Value, key: &str) -> Option<String> {
    value[key].as_str().filter(|text| !text.is_empty()).map(str::to_owned)
}

/// An answer that does not look as documented. Another try may meet a healthy server.
pub fn odd(why: impl Into<String>) -> super::Failure {
    super::Failure::retryable(why)
}

/// A percentage as a share.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to 0..=100 first")]
pub fn share_of_percent(percent: f64) -> u32 {
    (percent.clamp(0.0, 100.0) * 10_000.0).round() as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_have_their_meaning() {
        for (status, expected) in [
            (200, Meaning::Done),
            (204, Meaning::Done),
            (307, Meaning::Refused),
            (401, Meaning::Refused),
            (404, Meaning::Refused),
            (409, Meaning::Conflict),
            (412, Meaning::Conflict),
            (422, Meaning::Refused),
            (429, Meaning::Retry),
            (503, Meaning::Retry),
        ] {
            assert_eq!(meaning(status, ""), expected, "{status}");
        }
    }

    #[test]
    fn a_reset_is_a_wait_of_an_hour_at_most() {
        let now = Timestamp::from_millis(1_000_000);
        for (text, seconds) in
            [("1007000", Some(7)), ("1", Some(0)), ("999999999999", Some(3600)), ("soon", None)]
        {
            let mut headers = HeaderMap::new();
            headers.insert("x-ratelimit-reset", text.parse().unwrap());
            assert_eq!(reset_after(&headers, now), seconds.map(Duration::from_secs), "{text}");
        }
        assert_eq!(reset_after(&HeaderMap::new(), now), None);
    }

    #[test]
    fn segments_cannot_leave_their_place() {
        assert_eq!(segment("a/../b?c=d#e %"), "a%2F..%2Fb%3Fc%3Dd%23e%20%25");
        assert_eq!(segment("ai.answer-v2_x~"), "ai.answer-v2_x~");
    }
}

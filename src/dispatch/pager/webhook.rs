//! A signed webhook: one JSON body per message or decision, for everything that has no adapter of its own.
//!
//! Headers: `X-Rearguard-Timestamp` (Unix seconds, real time), `X-Rearguard-Signature: v1=<hex>`, the HMAC-SHA256 of
//! `<timestamp>.<body>` under the shared secret, and `X-Rearguard-Id`, the same for every try. `docs/incidents.md` shows how to
//! verify them. A receiver should refuse timestamps older than five minutes, so that a captured call cannot be replayed.

use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use reqwest::Url;
use serde::Serialize;
use sha2::Sha256;

use crate::dispatch::client::{Outbound, Request, Secret};
use crate::dispatch::failure::Failure;
use crate::dispatch::receiver::{Attempt, Content, Notice, Receiver, State};
use crate::engine::output::{Decision, Message};

/// A receiver of signed calls.
pub struct Webhook {
    name: String,
    outbound: Outbound,
    url: Url,
    secret: Secret,
}

/// The body, schema `dev.rearguard.message.v1` or `dev.rearguard.decision.v1`.
#[derive(Serialize)]
struct Body<'a> {
    schema: &'static str,
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<State>,
    /// RFC 3339, virtual time.
    since: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    link: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<&'a Message>,
    #[serde(skip_serializing_if = "Option::is_none")]
    decision: Option<&'a Decision>,
}

impl Webhook {
    /// A receiver at `url`, which has been checked against the allow-list.
    pub const fn new(name: String, outbound: Outbound, url: Url, secret: Secret) -> Self {
        Self { name, outbound, url, secret }
    }

    async fn call(&self, notice: &Notice, within: Duration) -> Result<(), Failure> {
        let body = body(notice)?;
        let stamp = (self.outbound.clock().real_now().as_millis() / 1000).to_string();
        let signature = sign(&self.secret, &stamp, &body)?;
        let mut request = Request::post(self.url.clone(), body);
        request.headers.push(("x-rearguard-id", notice.id.clone()));
        request.headers.push(("x-rearguard-timestamp", stamp));
        request.headers.push(("x-rearguard-signature", signature));
        self.outbound.exchange(request, within).await.map(|_| ())
    }
}

impl Receiver for Webhook {
    fn name(&self) -> &str {
        &self.name
    }

    fn adapter(&self) -> &'static str {
        "webhook"
    }

    fn tell<'a>(&'a self, notice: &'a Notice, within: Duration) -> Attempt<'a, ()> {
        Box::pin(self.call(notice, within))
    }
}

fn body(notice: &Notice) -> Result<Vec<u8>, Failure> {
    let (schema, state, message, decision) = match &notice.content {
        Content::Message(message) => {
            ("dev.rearguard.message.v1", Some(State::of(message.kind)), Some(&**message), None)
        }
        Content::Decision(decision) => ("dev.rearguard.decision.v1", None, None, Some(&**decision)),
    };
    let body = Body {
        schema,
        id: &notice.id,
        state,
        since: notice.since.to_string(),
        link: notice.link.as_deref(),
        message,
        decision,
    };
    serde_json::to_vec(&body).map_err(|error| Failure::permanent(format!("no JSON: {error}")))
}

/// `v1=` and the lower-case hex of HMAC-SHA256 over `<stamp>.<body>`.
pub fn sign(secret: &Secret, stamp: &str, body: &[u8]) -> Result<String, Failure> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.reveal().as_bytes())
        .map_err(|error| Failure::permanent(format!("webhook secret: {error}")))?;
    mac.update(stamp.as_bytes());
    mac.update(b".");
    mac.update(body);
    Ok(format!("v1={}", hex::encode(mac.finalize().into_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dispatch::fake::{Fake, Fault, notice};
    use crate::engine::output::MessageKind;

    #[test]
    fn the_signature_is_the_documented_one() {
        // Made with Python: hmac.new(b"s3cret", b'1700000000.{"a":1}', hashlib.sha256).hexdigest()
        let signature = sign(&Secret::new("s3cret"), "1700000000", br#"{"a":1}"#).unwrap();
        assert_eq!(signature, "v1=1698a50bc74d1ff1db85c4e0a5297c2ad9fdba245d5737cdb789e4cc6e098940");
        let documentation = include_str!("../../../docs/incidents.md");
        assert!(documentation.contains(&signature));
    }

    #[tokio::test]
    async fn calls_are_signed_and_faults_have_their_meaning() {
        let fake = Fake::start().await;
        let url = Url::parse(&format!("{}/hook", fake.url)).unwrap();
        let secret = Secret::new("s3cret");
        let webhook = Webhook::new("hook".into(), fake.outbound(), url, secret.clone());
        let page = notice(MessageKind::Rollback);
        let within = Duration::from_millis(500);
        webhook.tell(&page, within).await.unwrap();
        let asked = fake.asked().remove(0);
        let stamp = asked.headers["x-rearguard-timestamp"].to_str().unwrap();
        let expected = sign(&secret, stamp, &asked.body).unwrap();
        assert_eq!(asked.headers["x-rearguard-signature"], expected);
        assert_eq!(asked.headers["x-rearguard-id"], "rearguard-7-0");
        let body: serde_json::Value = serde_json::from_slice(&asked.body).unwrap();
        assert_eq!(body["schema"], "dev.rearguard.message.v1");
        assert_eq!(body["state"], "firing");
        assert_eq!(body["message"]["kind"], "rollback");
        for (fault, result) in [
            (Fault::Status(401), "permanent"),
            (Fault::Status(404), "permanent"),
            (Fault::Status(422), "permanent"),
            (Fault::Status(409), "conflict"),
            (Fault::After(503, "3"), "retryable"),
            (Fault::Status(500), "retryable"),
            (Fault::Redirect, "permanent"),
            (Fault::Hang, "unknown"),
            (Fault::Drop, "unknown"),
            (Fault::Huge, "unknown"),
        ] {
            fake.misbehave(&[fault]);
            let failure = webhook.tell(&page, within).await.unwrap_err();
            assert_eq!(failure.result(), result, "{fault:?}: {failure}");
            assert!(!format!("{failure:?}").contains("/hook"), "{failure:?}");
        }
    }

    #[tokio::test]
    async fn nobody_at_home_is_retryable() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        drop(listener);
        let fake = Fake::start().await;
        let webhook =
            Webhook::new("hook".into(), fake.outbound(), Url::parse(&url).unwrap(), Secret::new("x"));
        let failure = webhook.tell(&notice(MessageKind::Rollback), Duration::from_secs(5)).await.unwrap_err();
        assert_eq!(failure.result(), "retryable", "{failure}");
    }
}

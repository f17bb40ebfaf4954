//! PagerDuty, Events API v2 (`POST /v2/enqueue`, `POST /v2/change/enqueue`).
//!
//! What wakes people is an alert under the message's key: PagerDuty takes a repeated trigger for the open one. What does not
//! wake anybody is a change event, which PagerDuty shows beside incidents; those have no key, so one whose answer was lost may
//! stand there twice. PagerDuty answers 202 before it has looked at an event, and nothing can be read back with a routing key.

use std::time::Duration;

use reqwest::Url;
use serde_json::{Value, json};

use super::parts::{self, Keys, answered, cut, details, endpoint};
use crate::dispatch::client::{Outbound, Request, Secret};
use crate::dispatch::failure::Failure;
use crate::dispatch::receiver::{Attempt, Notice, Receiver};
use crate::engine::output::{Message, MessageKind};

/// The longest `dedup_key`.
const KEY: usize = 255;

/// The longest `summary`.
const SUMMARY: usize = 1024;

/// A service at PagerDuty.
pub struct PagerDuty {
    name: String,
    outbound: Outbound,
    alerts: Url,
    changes: Url,
    routing_key: Secret,
}

impl PagerDuty {
    /// A receiver at `base`, which has been checked against the allow-list.
    pub fn new(name: String, outbound: Outbound, base: &Url, routing_key: Secret) -> Result<Self, Failure> {
        let alerts = endpoint(base, &["v2", "enqueue"])?;
        let changes = endpoint(base, &["v2", "change", "enqueue"])?;
        Ok(Self { name, outbound, alerts, changes, routing_key })
    }

    async fn events(&self, notice: &Notice, within: Duration) -> Result<(), Failure> {
        let message = parts::message(notice, "PagerDuty")?;
        if message.kind == MessageKind::Acknowledged {
            return self.follow("acknowledge", &Keys::all(message, KEY), within).await;
        }
        let keys = Keys::of(message, KEY, notice.update);
        if keys.open.is_some() && !notice.wakes {
            return self.send(&self.changes, &self.change(notice, message), within).await;
        }
        let each = within / keys.calls();
        if let Some(key) = &keys.open {
            self.send(&self.alerts, &self.trigger(notice, message, key), each).await?;
        }
        self.follow("resolve", &keys.close, each * u32::try_from(keys.close.len()).unwrap_or(1)).await
    }

    /// Takes what stands under these keys further. An event for a key under which nothing is open is dropped there.
    async fn follow(&self, action: &str, keys: &[String], within: Duration) -> Result<(), Failure> {
        let each = within / u32::try_from(keys.len().max(1)).unwrap_or(u32::MAX);
        for key in keys {
            let event = json!({
                "routing_key": self.routing_key.reveal(), "event_action": action, "dedup_key": key,
            });
            self.send(&self.alerts, &event, each).await?;
        }
        Ok(())
    }

    fn trigger(&self, notice: &Notice, message: &Message, key: &str) -> Value {
        let mut event = self.change(notice, message);
        event["event_action"] = "trigger".into();
        event["dedup_key"] = key.into();
        event["client"] = "Rearguard".into();
        if let Some(link) = &notice.link {
            event["client_url"] = link.as_str().into();
        }
        event["payload"]["severity"] = message.severity.as_str().into();
        if let Some(variant) = &message.variant {
            event["payload"]["component"] = variant.as_str().into();
        }
        if let Some(facts) = &notice.facts {
            event["payload"]["class"] = facts.failure_class.as_str().into();
        }
        event
    }

    /// A change event, and what a trigger shares with it.
    fn change(&self, notice: &Notice, message: &Message) -> Value {
        let clock = self.outbound.clock();
        let mut custom = details(notice, message);
        custom.insert("detail", message.detail.clone());
        let runbook = notice.facts.as_ref().and_then(|facts| facts.runbook.as_deref());
        let links: Vec<Value> = [("Read more", notice.link.as_deref()), ("Runbook", runbook)]
            .into_iter()
            .filter_map(|(text, link)| Some(json!({"href": link?, "text": text})))
            .collect();
        json!({
            "routing_key": self.routing_key.reveal(),
            "links": links,
            "payload": {
                "summary": cut(&message.summary, SUMMARY),
                "source": message.flag.as_ref().map_or_else(|| "rearguard".to_owned(), ToString::to_string),
                "timestamp": clock.to_real(notice.since).min(clock.real_now()).to_string(),
                "custom_details": custom,
            },
        })
    }

    async fn send(&self, url: &Url, event: &Value, within: Duration) -> Result<(), Failure> {
        let request = Request::post(url.clone(), parts::body(event));
        let answer = self.outbound.exchange(request, within).await;
        let status = answer
            .and_then(|body| answered(&body, "/status", "PagerDuty"))
            .map_err(|failure| failure.hiding(&self.routing_key))?;
        if status == "success" {
            return Ok(());
        }
        Err(Failure::retryable("answered, but the event was not accepted"))
    }
}

impl Receiver for PagerDuty {
    fn name(&self) -> &str {
        &self.name
    }

    fn adapter(&self) -> &'static str {
        "pagerduty"
    }

    fn tell<'a>(&'a self, notice: &'a Notice, within: Duration) -> Attempt<'a, ()> {
        Box::pin(self.events(notice, within))
    }
}

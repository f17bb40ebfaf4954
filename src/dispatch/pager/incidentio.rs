//! incident.io: alert events of an HTTP source, and on request an incident of their own (its `openapi.json`, 2.29.0).
//!
//! An alert has the message's key as `deduplication_key`. Where the configuration gives an API key for it, a page that belongs to
//! an incident of Rearguard's also declares one there, with the same key as `idempotency_key`; people close it. The key of an alert
//! source may send and nothing else, so nothing is read back.

use std::time::Duration;

use reqwest::Url;
use serde_json::{Value, json};

use super::parts::{self, Keys, answered, cut, details, endpoint};
use crate::dispatch::client::{Outbound, Request, Secret};
use crate::dispatch::failure::Failure;
use crate::dispatch::receiver::{Attempt, Notice, Receiver, State};
use crate::engine::output::{Message, MessageKind};

/// The contract names no limits; these keep a mistake from being sent.
const KEY: usize = 255;
const TITLE: usize = 1024;
const TEXT: usize = 15_000;

/// Incidents to declare beside alerts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Declare {
    pub api_key: Secret,
    /// Whether only invited people see them.
    pub private: bool,
    /// The identifier of a severity there.
    pub severity: Option<String>,
}

/// An alert source of incident.io.
pub struct IncidentIo {
    name: String,
    outbound: Outbound,
    alerts: Url,
    incidents: Url,
    token: Secret,
    declare: Option<Declare>,
}

impl IncidentIo {
    /// A receiver at `base`, which has been checked against the allow-list. `source` is the alert source's identifier.
    pub fn new(
        name: String,
        outbound: Outbound,
        base: &Url,
        source: &str,
        token: Secret,
        declare: Option<Declare>,
    ) -> Result<Self, Failure> {
        let alerts = endpoint(base, &["v2", "alert_events", "http", source])?;
        let incidents = endpoint(base, &["v2", "incidents"])?;
        Ok(Self { name, outbound, alerts, incidents, token, declare })
    }

    async fn events(&self, notice: &Notice, within: Duration) -> Result<(), Failure> {
        let message = parts::message(notice, "incident.io")?;
        // A source's alert can be firing or resolved there, and nothing else.
        if message.kind == MessageKind::Acknowledged {
            return Ok(());
        }
        let keys = Keys::of(message, KEY, notice.update);
        let declare = self.declare.as_ref().filter(|_| declares(notice, message));
        let each = within / (keys.calls() + u32::from(declare.is_some()));
        if let Some(key) = &keys.open {
            self.alert(notice, message, (key, State::Firing), each).await?;
        }
        for key in &keys.close {
            self.alert(notice, message, (key, State::Resolved), each).await?;
        }
        match declare {
            Some(declare) => self.declare(declare, message, each).await,
            None => Ok(()),
        }
    }

    async fn alert(
        &self,
        notice: &Notice,
        message: &Message,
        (key, state): (&str, State),
        within: Duration,
    ) -> Result<(), Failure> {
        let mut event = json!({
            "title": cut(&message.summary, TITLE),
            "description": cut(&message.detail, TEXT),
            "status": state,
            "deduplication_key": key,
            "metadata": details(notice, message),
        });
        if let Some(link) = &notice.link {
            event["source_url"] = link.as_str().into();
        }
        let status = self.send(&self.alerts, &self.token, &event, "/status", within).await?;
        if status == "success" {
            return Ok(());
        }
        Err(Failure::retryable("answered, but the event was not accepted"))
    }

    async fn declare(&self, declare: &Declare, message: &Message, within: Duration) -> Result<(), Failure> {
        let mut incident = json!({
            "idempotency_key": parts::key(&message.dedup_key, KEY),
            "visibility": if declare.private { "private" } else { "public" },
            "name": cut(&message.summary, TITLE),
            "summary": cut(&message.detail, TEXT),
        });
        if let Some(severity) = &declare.severity {
            incident["severity_id"] = severity.as_str().into();
        }
        self.send(&self.incidents, &declare.api_key, &incident, "/incident/id", within).await.map(|_| ())
    }

    async fn send(
        &self,
        url: &Url,
        secret: &Secret,
        body: &Value,
        field: &str,
        within: Duration,
    ) -> Result<String, Failure> {
        let request = Request { bearer: Some(secret), ..Request::post(url.clone(), parts::body(body)) };
        let answer = self.outbound.exchange(request, within).await;
        answer
            .and_then(|body| answered(&body, field, "incident.io"))
            .map_err(|failure| failure.hiding(secret))
    }
}

impl Receiver for IncidentIo {
    fn name(&self) -> &str {
        &self.name
    }

    fn adapter(&self) -> &'static str {
        "incidentio"
    }

    fn tell<'a>(&'a self, notice: &'a Notice, within: Duration) -> Attempt<'a, ()> {
        Box::pin(self.events(notice, within))
    }
}

/// What a page says about an incident of Rearguard's is one there as well.
fn declares(notice: &Notice, message: &Message) -> bool {
    notice.wakes && message.incident.is_some() && State::of(message.kind) == State::Firing
}

//! JSM Operations and Opsgenie: the alert API that both have (`POST /v2/alerts`, `Authorization: GenieKey …`).
//!
//! An alert's `alias` is the message's key, with `:` for `/`, because closing names it in the path. A repeated alert with the alias
//! of an open one is counted there and rings nobody. Requests are answered 202 and worked off later; an integration's key cannot
//! read at JSM, so what became of them is not read back. Opsgenie ends on 2027-04-05.

use std::time::Duration;

use reqwest::Url;
use serde_json::{Value, json};

use super::parts::{self, Keys, answered, cut, details, endpoint};
use crate::dispatch::client::{Outbound, Request, Secret};
use crate::dispatch::failure::Failure;
use crate::dispatch::receiver::{Attempt, Notice, Receiver};
use crate::engine::output::{Message, MessageKind};
use crate::model::incident::Severity;

/// The longest `alias`.
const ALIAS: usize = 512;

/// The longest `message`.
const MESSAGE: usize = 130;

/// The longest `description`.
const DESCRIPTION: usize = 15_000;

/// The longest value in `details`; all together may have 8000 characters.
const DETAIL: usize = 400;

/// The longest `entity`.
const ENTITY: usize = 512;

/// An integration of JSM Operations or Opsgenie.
pub struct Jsm {
    name: String,
    outbound: Outbound,
    base: Url,
    /// As the header has it, `GenieKey …`.
    authorization: Secret,
    api_key: Secret,
}

impl Jsm {
    /// A receiver at `base`, which has been checked against the allow-list.
    pub fn new(name: String, outbound: Outbound, base: Url, api_key: Secret) -> Self {
        let authorization = Secret::new(format!("GenieKey {}", api_key.reveal()));
        Self { name, outbound, base, authorization, api_key }
    }

    async fn alerts(&self, notice: &Notice, within: Duration) -> Result<(), Failure> {
        let message = parts::message(notice, "JSM")?;
        if message.kind == MessageKind::Acknowledged {
            return self.follow("acknowledge", &Keys::all(message, ALIAS), message, within).await;
        }
        let keys = Keys::of(message, ALIAS, notice.update);
        let each = within / keys.calls();
        if let Some(key) = &keys.open {
            self.send(endpoint(&self.base, &["v2", "alerts"])?, &alert(notice, message, key), each).await?;
        }
        let within = each * u32::try_from(keys.close.len()).unwrap_or(1);
        self.follow("close", &keys.close, message, within).await
    }

    /// Takes the alerts under these keys further. Where none is open, that shows in the state of the request only.
    async fn follow(
        &self,
        action: &str,
        keys: &[String],
        message: &Message,
        within: Duration,
    ) -> Result<(), Failure> {
        let each = within / u32::try_from(keys.len().max(1)).unwrap_or(u32::MAX);
        for key in keys {
            let mut url = endpoint(&self.base, &["v2", "alerts", &alias(key), action])?;
            url.query_pairs_mut().append_pair("identifierType", "alias");
            let body = json!({"source": "Rearguard", "note": cut(&message.summary, DESCRIPTION)});
            self.send(url, &body, each).await?;
        }
        Ok(())
    }

    async fn send(&self, url: Url, body: &Value, within: Duration) -> Result<(), Failure> {
        let mut request = Request::post(url, parts::body(body));
        request.headers.push(("authorization", self.authorization.reveal().to_owned()));
        let answer = self.outbound.exchange(request, within).await;
        answer
            .and_then(|body| answered(&body, "/requestId", "JSM"))
            .map(|_| ())
            .map_err(|failure| failure.hiding(&self.api_key))
    }
}

impl Receiver for Jsm {
    fn name(&self) -> &str {
        &self.name
    }

    fn adapter(&self) -> &'static str {
        "jsm"
    }

    fn tell<'a>(&'a self, notice: &'a Notice, within: Duration) -> Attempt<'a, ()> {
        Box::pin(self.alerts(notice, within))
    }
}

fn alert(notice: &Notice, message: &Message, key: &str) -> Value {
    let mut details = details(notice, message);
    for value in details.values_mut() {
        *value = cut(value, DETAIL);
    }
    let detail = if message.detail.is_empty() { &message.summary } else { &message.detail };
    let mut description = detail.clone();
    if let Some(link) = &notice.link {
        description = format!("{}\n{link}", cut(&description, DESCRIPTION - link.len().min(2000) - 1));
    }
    json!({
        "message": cut(&message.summary, MESSAGE),
        "alias": alias(key),
        "description": cut(&description, DESCRIPTION),
        "priority": priority(message.severity, notice.wakes),
        "source": "Rearguard",
        "entity": cut(message.variant.as_ref().map_or("rearguard", |variant| variant.as_str()), ENTITY),
        "tags": ["rearguard", message.kind.as_str()],
        "details": details,
    })
}

/// P1 to P3 wake people in the usual notification rules; P5 is what nobody is woken for.
const fn priority(severity: Severity, wakes: bool) -> &'static str {
    match (wakes, severity) {
        (false, _) => "P5",
        (true, Severity::Critical) => "P1",
        (true, Severity::Warning) => "P3",
        (true, Severity::Info) => "P4",
    }
}

fn alias(key: &str) -> String {
    key.replace('/', ":")
}

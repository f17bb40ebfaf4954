//! Prometheus Alertmanager, API v2 (its own `openapi.yaml`; tried on 0.25).
//!
//! Labels are an alert's identity there, and an alert without news expires. So every message is an alert with the label
//! `dedup_key`; it is posted again every minute of real time while it stands, with the same `startsAt` and an `endsAt` five
//! minutes ahead; and it is resolved by posting the very labels that stand there with `endsAt` now. A message of another kind
//! under the same key ("rolled back" → "ROLLBACK FAILED") is another alert, because Alertmanager notifies nobody when only an
//! annotation changes; the former one is resolved in the same call. Each post is read back: accepted is not yet standing.

use std::collections::BTreeMap;
use std::time::Duration;

use reqwest::Url;
use serde::{Deserialize, Serialize};

use crate::dispatch::client::{Outbound, Request, Secret};
use crate::dispatch::failure::Failure;
use crate::dispatch::receiver::{Attempt, Content, Notice, Receiver, State, stands};
use crate::engine::output::{Message, MessageKind};
use crate::model::label;
use crate::model::time::Timestamp;

/// How often a standing alert is posted again, in real time.
pub const REFRESH: Duration = Duration::from_secs(60);

/// How long Alertmanager keeps a standing alert without news: five refreshes may be lost.
const KEEP: Duration = Duration::from_secs(300);

/// How long something that nobody resolves is shown.
const ONCE: Duration = Duration::from_secs(3600);

/// The label that carries a message's dedup key.
const KEY: &str = "dedup_key";

type Labels = BTreeMap<String, String>;

/// An Alertmanager.
pub struct Alertmanager {
    name: String,
    outbound: Outbound,
    alerts: Url,
    bearer: Option<Secret>,
    basic: Option<(String, Secret)>,
    labels: Labels,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct PostableAlert {
    labels: Labels,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: Labels,
    #[serde(skip_serializing_if = "Option::is_none")]
    starts_at: Option<String>,
    ends_at: String,
    #[serde(rename = "generatorURL", skip_serializing_if = "Option::is_none")]
    generator_url: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct GettableAlert {
    labels: Labels,
    ends_at: String,
    #[serde(default)]
    starts_at: Option<String>,
}

impl Alertmanager {
    /// A receiver at `base`, which has been checked against the allow-list.
    pub fn new(
        name: String,
        outbound: Outbound,
        base: Url,
        bearer: Option<Secret>,
        basic: Option<(String, Secret)>,
        labels: Labels,
    ) -> Result<Self, Failure> {
        let refused = labels.iter().find_map(|(label, value)| Some((label, label::refused(label, value)?)));
        if let Some((label, why)) = refused {
            return Err(Failure::permanent(format!("receiver `{name}`: label `{label}` {why}")));
        }
        let mut alerts = base;
        alerts
            .path_segments_mut()
            .map_err(|()| Failure::permanent("the address cannot have a path"))?
            .pop_if_empty()
            .extend(["api", "v2", "alerts"]);
        Ok(Self { name, outbound, alerts, bearer, basic, labels })
    }

    async fn post(&self, notice: &Notice, within: Duration) -> Result<(), Failure> {
        let Content::Message(message) = &notice.content else {
            return Err(Failure::permanent(
                "Alertmanager takes messages; publish decisions to a webhook or a topic",
            ));
        };
        // Alertmanager knows no acknowledgement; a silence would keep the next alert back as well.
        if message.kind == MessageKind::Acknowledged {
            return Ok(());
        }
        let each = within / 3;
        // What stands decides whose labels are used. Not knowing must not keep a page back; resolving needs it.
        let standing = match self.standing(&message.dedup_key, each).await {
            Ok(standing) => standing,
            Err(failure) if State::of(message.kind) == State::Resolved => return Err(failure),
            Err(_) => Vec::new(),
        };
        let alerts = match State::of(message.kind) {
            State::Firing => self.firing(notice, message, &standing),
            State::Resolved => self.resolved(standing),
        };
        if alerts.is_empty() {
            return Ok(());
        }
        let body =
            serde_json::to_vec(&alerts).map_err(|error| Failure::permanent(format!("no JSON: {error}")))?;
        self.send(Request::post(self.alerts.clone(), body), each).await?;
        self.confirm(message, &alerts, each).await
    }

    /// The alert of a message, and the end of other alerts under its key.
    fn firing(&self, notice: &Notice, message: &Message, standing: &[GettableAlert]) -> Vec<PostableAlert> {
        let clock = self.outbound.clock();
        let now = clock.real_now();
        let name = alert_name(message.kind);
        let (same, others): (Vec<_>, Vec<_>) = standing
            .iter()
            .cloned()
            .partition(|alert| alert.labels.get("alertname").map(String::as_str) == Some(name));
        let labels = match same.first() {
            Some(alert) => alert.labels.clone(),
            None => self.identity(name, message),
        };
        let keep = if stands(message.kind) { KEEP } else { ONCE };
        let mut annotations = Labels::from([
            ("summary".to_owned(), message.summary.clone()),
            ("description".to_owned(), message.detail.clone()),
        ]);
        if let Some(link) = &notice.link {
            annotations.insert("link".into(), link.clone());
        }
        annotations.retain(|_, text| !text.is_empty());
        let mut alerts = vec![PostableAlert {
            labels,
            annotations,
            starts_at: Some(clock.to_real(notice.since).min(now).to_string()),
            ends_at: (now + keep).to_string(),
            generator_url: notice.link.clone().filter(|link| Url::parse(link).is_ok()),
        }];
        alerts.extend(self.resolved(others));
        alerts
    }

    fn resolved(&self, standing: Vec<GettableAlert>) -> Vec<PostableAlert> {
        let now = self.outbound.clock().real_now().to_string();
        standing
            .into_iter()
            .map(|alert| PostableAlert {
                labels: alert.labels,
                annotations: Labels::new(),
                starts_at: alert.starts_at,
                ends_at: now.clone(),
                generator_url: None,
            })
            .collect()
    }

    /// The labels of a new alert; none is empty, since Alertmanager refuses those.
    fn identity(&self, name: &str, message: &Message) -> Labels {
        let mut labels = self.labels.clone();
        let mut put = |label: &str, value: &str| {
            if !value.is_empty() {
                labels.insert(label.to_owned(), value.to_owned());
            }
        };
        put("alertname", name);
        put("severity", message.severity.as_str());
        put(KEY, &message.dedup_key);
        for (label, value) in [
            ("flag", message.flag.as_ref().map(ToString::to_string)),
            ("variant", message.variant.as_ref().map(ToString::to_string)),
            ("incident", message.incident.as_ref().map(ToString::to_string)),
        ] {
            put(label, value.as_deref().unwrap_or_default());
        }
        labels
    }

    /// Reads back whether the call did what it said.
    async fn confirm(
        &self,
        message: &Message,
        alerts: &[PostableAlert],
        within: Duration,
    ) -> Result<(), Failure> {
        let standing = self.standing(&message.dedup_key, within).await?;
        let stands_now = |labels: &Labels| standing.iter().any(|alert| alert.labels == *labels);
        let firing = State::of(message.kind) == State::Firing;
        let missing = firing && !stands_now(&alerts[0].labels);
        let left = alerts.iter().skip(usize::from(firing)).any(|alert| stands_now(&alert.labels));
        if missing {
            Err(Failure::retryable("accepted, but the alert does not stand"))
        } else if left {
            Err(Failure::retryable("accepted, but the alert that should be resolved still stands"))
        } else {
            Ok(())
        }
    }

    /// The alerts that stand under a key now.
    async fn standing(&self, key: &str, within: Duration) -> Result<Vec<GettableAlert>, Failure> {
        let mut url = self.alerts.clone();
        let quoted = key.replace('\\', "\\\\").replace('"', "\\\"");
        url.query_pairs_mut().append_pair("filter", &format!("{KEY}=\"{quoted}\""));
        let body = self.send(Request::get(url), within).await?;
        let alerts: Vec<GettableAlert> = serde_json::from_slice(&body)
            .map_err(|error| Failure::permanent(format!("not Alertmanager's answer: {error}")))?;
        let now = self.outbound.clock().real_now();
        Ok(alerts
            .into_iter()
            .filter(|alert| alert.labels.get(KEY).map(String::as_str) == Some(key))
            .filter(|alert| Timestamp::parse(&alert.ends_at).is_none_or(|end| end > now))
            .collect())
    }

    async fn send(&self, request: Request<'_>, within: Duration) -> Result<Vec<u8>, Failure> {
        let request = Request {
            bearer: self.bearer.as_ref(),
            basic: self.basic.as_ref().map(|(user, password)| (user.as_str(), password)),
            ..request
        };
        self.outbound.exchange(request, within).await
    }
}

impl Receiver for Alertmanager {
    fn name(&self) -> &str {
        &self.name
    }

    fn adapter(&self) -> &'static str {
        "alertmanager"
    }

    fn tell<'a>(&'a self, notice: &'a Notice, within: Duration) -> Attempt<'a, ()> {
        Box::pin(self.post(notice, within))
    }

    fn refresh(&self) -> Option<Duration> {
        Some(REFRESH)
    }
}

const fn alert_name(kind: MessageKind) -> &'static str {
    match kind {
        MessageKind::Rollback => "RearguardRollback",
        MessageKind::RollbackFailed => "RearguardRollbackFailed",
        MessageKind::Superseded => "RearguardSuperseded",
        MessageKind::StillServing => "RearguardStillServing",
        MessageKind::Pause => "RearguardPause",
        MessageKind::NoData => "RearguardNoData",
        MessageKind::Masked => "RearguardMasked",
        MessageKind::Blind => "RearguardBlind",
        MessageKind::Gap => "RearguardGap",
        MessageKind::Notice => "RearguardNotice",
        MessageKind::Resolved => "RearguardResolved",
        MessageKind::Acknowledged => "RearguardAcknowledged",
    }
}

#[cfg(test)]
mod tests;

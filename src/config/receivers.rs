//! The section `receivers:`: whom to tell.

use std::collections::BTreeMap;

use serde::Serialize;

use super::read::Reader;
use super::{EventMode, Outbound, Secret};
use crate::engine::rule::diagnostic::one_of;
use crate::engine::rule::yaml::{Fields, Node};
use crate::model::label;

/// Whom to tell.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Receiver {
    /// Alertmanager's API v2 under this address.
    Alertmanager { url: String, labels: BTreeMap<String, String> },
    /// Signed with HMAC-SHA256.
    Webhook { url: String, secret: Secret },
    /// PagerDuty's Events API v2.
    Pagerduty { url: String, routing_key: Secret },
    /// The alert API of JSM Operations and Opsgenie.
    Jsm { url: String, api_key: Secret },
    /// An HTTP alert source of incident.io.
    Incidentio {
        url: String,
        alert_source: String,
        token: Secret,
        /// Incidents to declare beside alerts.
        incident: Option<Incident>,
    },
    /// An incoming webhook of Slack; its address is the secret.
    Slack { url: Secret },
    /// A topic on the brokers of `kafka:`.
    Kafka { topic: String, mode: EventMode },
}

/// How incidents are declared at incident.io.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Incident {
    pub api_key: Secret,
    pub private: bool,
    /// The identifier of a severity there.
    pub severity: Option<String>,
}

/// Where PagerDuty takes events; EU accounts: `https://events.eu.pagerduty.com`.
const PAGERDUTY: &str = "https://events.pagerduty.com";

/// Where JSM Operations takes alerts; Opsgenie: `https://api.opsgenie.com`, in the EU `https://api.eu.opsgenie.com`.
const JSM: &str = "https://api.atlassian.com/jsm/ops/integration";

/// Where incident.io takes alerts.
const INCIDENT_IO: &str = "https://api.incident.io";

/// The words of the configuration.
const KINDS: [&str; 7] = ["alertmanager", "pagerduty", "jsm", "incidentio", "slack", "webhook", "kafka"];

impl Receiver {
    /// The word of the configuration.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Alertmanager { .. } => "alertmanager",
            Self::Webhook { .. } => "webhook",
            Self::Pagerduty { .. } => "pagerduty",
            Self::Jsm { .. } => "jsm",
            Self::Incidentio { .. } => "incidentio",
            Self::Slack { .. } => "slack",
            Self::Kafka { .. } => "kafka",
        }
    }

    /// Where it is, unless it is a topic.
    pub fn url(&self) -> Option<&str> {
        match self {
            Self::Alertmanager { url, .. }
            | Self::Webhook { url, .. }
            | Self::Pagerduty { url, .. }
            | Self::Jsm { url, .. }
            | Self::Incidentio { url, .. } => Some(url),
            Self::Slack { url } => Some(url.expose()),
            Self::Kafka { .. } => None,
        }
    }
}

impl Reader<'_, '_> {
    pub(super) fn receivers(&mut self, node: &Node, outbound: &Outbound) -> BTreeMap<String, Receiver> {
        let mut receivers = BTreeMap::new();
        for (name, at, value) in self.doc.entries(node, "`receivers`").unwrap_or_default() {
            let Some(fields) = self.doc.fields(value, "a receiver", &KINDS) else {
                continue;
            };
            let given: Vec<_> = KINDS.iter().filter_map(|kind| Some((*kind, fields.get(kind)?))).collect();
            let [(kind, body)] = given.as_slice() else {
                self.doc.error_help(
                    at,
                    format!("receiver `{name}` must be exactly one thing"),
                    format!("it may be {}", one_of(KINDS)),
                );
                continue;
            };
            if let Some(receiver) = self.receiver(name, kind, body, outbound) {
                receivers.insert(name.to_owned(), receiver);
            }
        }
        receivers
    }

    fn labels(&mut self, node: &Node, what: &str) -> BTreeMap<String, String> {
        let mut labels = BTreeMap::new();
        let what = format!("`labels` of {what}");
        for (name, at, node) in self.doc.entries(node, &what).unwrap_or_default() {
            let Some(value) = self.doc.text(node, &format!("label `{name}`")) else { continue };
            match label::refused(name, value) {
                None => {
                    labels.insert(name.to_owned(), value.to_owned());
                }
                Some(why) => self.doc.error(at, format!("label `{name}` {why}")),
            }
        }
        labels
    }

    fn receiver(&mut self, name: &str, kind: &str, node: &Node, outbound: &Outbound) -> Option<Receiver> {
        let what = format!("receiver `{name}`");
        let (needed, optional): (&[&str], &[&str]) = match kind {
            "alertmanager" => (&["url"], &["labels"]),
            "slack" => (&["url"], &[]),
            "pagerduty" => (&["routing_key"], &["url"]),
            "jsm" => (&["api_key"], &["url"]),
            "incidentio" => (&["alert_source", "token"], &["url", "incident"]),
            "webhook" => (&["url", "secret"], &[]),
            _ => (&["topic"], &["mode"]),
        };
        let fields = self.needing(node, &what, (needed, optional))?;
        match kind {
            "alertmanager" => {
                let labels = fields.get("labels").map(|node| self.labels(node, &what)).unwrap_or_default();
                Some(Receiver::Alertmanager { url: self.address(&fields, "url", &what, outbound)?, labels })
            }
            "pagerduty" => {
                let url = self.address_or(&fields, PAGERDUTY, &what, outbound);
                let routing_key = self.token(&fields, "routing_key", &what);
                Some(Receiver::Pagerduty { url: url?, routing_key: routing_key? })
            }
            "jsm" => {
                let url = self.address_or(&fields, JSM, &what, outbound);
                let api_key = self.token(&fields, "api_key", &what);
                Some(Receiver::Jsm { url: url?, api_key: api_key? })
            }
            "incidentio" => self.incidentio(&fields, &what, outbound),
            "slack" => {
                let url = self.outside(&fields, "url", &what);
                self.address(&fields, "url", &what, outbound)?;
                Some(Receiver::Slack { url: url? })
            }
            "webhook" => {
                let url = self.address(&fields, "url", &what, outbound)?;
                Some(Receiver::Webhook { url, secret: self.outside(&fields, "secret", &what)? })
            }
            _ => {
                let topic = self.topic(fields.get("topic")?, "`topic`")?;
                let modes = [("structured", EventMode::Structured), ("binary", EventMode::Binary)];
                let mode = fields.get("mode").and_then(|n| self.doc.choice(n, "`mode`", &modes));
                Some(Receiver::Kafka { topic, mode: mode.unwrap_or_default() })
            }
        }
    }

    fn incidentio(&mut self, fields: &Fields<'_>, what: &str, outbound: &Outbound) -> Option<Receiver> {
        let url = self.address_or(fields, INCIDENT_IO, what, outbound);
        let token = self.token(fields, "token", what);
        let alert_source = self.identifier(fields, "alert_source", what);
        let incident = match fields.get("incident") {
            Some(node) => Some(self.incident(node, what)?),
            None => None,
        };
        Some(Receiver::Incidentio { url: url?, alert_source: alert_source?, token: token?, incident })
    }

    fn incident(&mut self, node: &Node, what: &str) -> Option<Incident> {
        let what = format!("`incident` of {what}");
        let fields = self.needing(node, &what, (&["api_key", "visibility"], &["severity"]))?;
        let choices = [("public", false), ("private", true)];
        let private = fields.get("visibility").and_then(|n| self.doc.choice(n, "`visibility`", &choices));
        let severity = match fields.get("severity") {
            Some(_) => Some(self.identifier(&fields, "severity", &what)?),
            None => None,
        };
        Some(Incident { api_key: self.token(&fields, "api_key", &what)?, private: private?, severity })
    }

    /// A mapping with all of the needed keys, or an error for each that is not there.
    pub(super) fn needing<'n>(
        &mut self,
        node: &'n Node,
        what: &str,
        (needed, optional): (&[&str], &[&str]),
    ) -> Option<Fields<'n>> {
        let fields = self.doc.fields(node, what, &[needed, optional].concat())?;
        for key in needed.iter().filter(|key| fields.get(key).is_none()) {
            self.doc.error(fields.first_key_at(), format!("{what} has no `{key}`"));
        }
        Some(fields)
    }

    /// `url`, or the service's own address; both have to be on the list of hosts.
    fn address_or(
        &mut self,
        fields: &Fields<'_>,
        usual: &str,
        what: &str,
        outbound: &Outbound,
    ) -> Option<String> {
        if fields.get("url").is_some() {
            return self.address(fields, "url", what, outbound);
        }
        let url = super::outward::Url::parse(usual)?.ok()?;
        self.must_be_allowed(&url, fields.first_key_at(), what, outbound);
        Some(url.text)
    }

    /// A secret that travels as a header or in a field: one word.
    fn token(&mut self, fields: &Fields<'_>, key: &str, what: &str) -> Option<Secret> {
        let secret = self.outside(fields, key, what)?;
        let text = secret.expose();
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            self.doc.error_help(
                fields.get(key)?.at,
                format!(
                    "`{key}` of {what} is no key: it is empty, or holds spaces or characters beyond ASCII"
                ),
                "look at the variable or the file that it comes from",
            );
            return None;
        }
        Some(secret)
    }

    fn identifier(&mut self, fields: &Fields<'_>, key: &str, what: &str) -> Option<String> {
        let node = fields.get(key)?;
        let (text, _) = self.secret(node, &format!("`{key}`"))?;
        let text = text.expose();
        if text.is_empty() || !text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_') {
            self.doc.error_help(
                node.at,
                format!("`{key}` of {what} is no identifier"),
                "copy it from incident.io, e.g. `01GW2G3V0S59R238FAHPDS1R66`",
            );
            return None;
        }
        Some(text.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::Config;
    use super::*;

    #[test]
    fn own_labels_are_checked_where_they_stand() {
        let parse = |labels: &str| {
            let text = format!(
                "kafka: {{ brokers: 'localhost:9092', topics: [t] }}\noutbound: {{ allow: ['127.0.0.1:1'] }}\n\
                 receivers: {{ am: {{ alertmanager: {{ url: 'http://127.0.0.1:1', labels: {labels} }} }} }}\n"
            );
            Config::parse(Path::new("r.yaml"), &text, &|_| None)
        };
        let config = parse("{ team: copilot, region: eu }").unwrap();
        let Receiver::Alertmanager { labels, .. } = &config.receivers["am"] else { panic!("another kind") };
        assert_eq!(labels.iter().collect::<Vec<_>>().len(), 2);
        assert_eq!(labels["team"], "copilot");
        for (labels, said) in [
            ("{ severity: page }", "label `severity` is one that Rearguard gives itself"),
            ("{ 9a: x }", "label `9a` is no label name"),
            ("{ __x: x }", "keeps for itself"),
            ("{ team: '' }", "must not be empty"),
            ("{ team: 7 }", "must be text"),
        ] {
            let errors = parse(labels).unwrap_err();
            assert!(errors.iter().any(|e| e.line == 3 && e.message.contains(said)), "{labels}: {errors:?}");
        }
    }
}

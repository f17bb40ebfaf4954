//! What may leave, and where to: `outbound:`, addresses, and the clock that forbids it.

use std::net::IpAddr;

use super::read::Reader;
use super::{ClockConfig, Config, Outbound};
use crate::engine::rule::diagnostic::Span;
use crate::engine::rule::yaml::Node;
use crate::model::time::Timestamp;

/// An address that was checked.
pub(super) struct Url {
    pub text: String,
    pub host: String,
    pub port: u16,
    /// Whether it is `https`.
    tls: bool,
}

impl Url {
    /// An `http` or `https` address; `Err` if it holds credentials.
    pub(super) fn parse(text: &str) -> Option<Result<Self, ()>> {
        let url = reqwest::Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https"))?;
        let (host, port) = (url.host_str()?.to_lowercase(), url.port_or_known_default()?);
        if !url.username().is_empty() || url.password().is_some() {
            return Some(Err(()));
        }
        let tls = url.scheme() == "https";
        Some(Ok(Self { text: url.as_str().trim_end_matches('/').to_owned(), host, port, tls }))
    }
}

impl Reader<'_, '_> {
    pub(super) fn outbound(&mut self, node: &Node) -> Outbound {
        let Some(fields) = self.doc.fields(node, "`outbound`", &["allow", "plain_http"]) else {
            return Outbound::default();
        };
        let mut hosts = |key: &str| {
            fields.get(key).map(|list| self.hosts(list, &format!("`outbound.{key}`"))).unwrap_or_default()
        };
        Outbound { allow: hosts("allow"), plain_http: hosts("plain_http") }
    }

    fn hosts(&mut self, list: &Node, what: &str) -> Vec<String> {
        let mut hosts = Vec::new();
        for (entry, at) in self.words(list, what) {
            if entry.contains("://") || entry.contains('/') || entry.contains('*') {
                self.doc.error_help(
                    at,
                    format!("`{entry}` is no host"),
                    "write `host` or `host:port`, without scheme, path or pattern",
                );
            } else {
                hosts.push(entry.to_lowercase());
            }
        }
        hosts
    }

    /// An address must be on the list of hosts, and have TLS unless it is on loopback or the operator said otherwise.
    pub(super) fn must_be_allowed(&mut self, url: &Url, at: Span, what: &str, outbound: &Outbound) {
        let (host, port) = (&url.host, url.port);
        if !outbound.allows(host, port) {
            self.doc.error_help(
                at,
                format!(
                    "{what} is at `{host}:{port}`, which is not on the list of hosts that Rearguard may talk to"
                ),
                format!("add `- {host}:{port}` under `outbound: allow:`"),
            );
        }
        if !url.tls && !is_loopback(host) && !outbound.allows_plain_http(host, port) {
            self.doc.error_help(
                at,
                format!("{what} is at `{host}:{port}` without TLS: anybody on the way can read and change what is said"),
                format!("write `https://`, or add `- {host}:{port}` under `outbound: plain_http:` if the network is yours"),
            );
        }
    }

    /// An `http` or `https` address without credentials.
    pub(super) fn url(&mut self, node: &Node, what: &str) -> Option<Url> {
        let (secret, _) = self.secret(node, what)?;
        match Url::parse(secret.expose()) {
            Some(Ok(url)) => return Some(url),
            Some(Err(())) => self.doc.error(node.at, format!("{what} must not hold credentials")),
            None => self.doc.error_help(
                node.at,
                format!("{what} must be an http or https address"),
                "write `http://host:port`",
            ),
        }
        None
    }

    pub(super) fn clock(&mut self, node: &Node) -> ClockConfig {
        let mut clock = ClockConfig::default();
        let Some(fields) = self.doc.fields(node, "`clock`", &["start", "rate"]) else {
            return clock;
        };
        if let Some(node) = fields.get("rate") {
            match self.doc.number(node, "`clock.rate`") {
                Some(rate) if rate > 0.0 && rate <= 10_000.0 => clock.rate = rate,
                Some(_) => self.doc.error(node.at, "`clock.rate` must lie above 0, at most 10000"),
                None => {}
            }
        }
        if let Some(node) = fields.get("start") {
            let text = self.doc.text(node, "`clock.start`").unwrap_or_default();
            clock.start = Timestamp::parse(text);
            if clock.start.is_none() && !text.is_empty() {
                self.doc.error_help(
                    node.at,
                    "`clock.start` is no time",
                    "write it as `2026-03-01T09:00:00Z`",
                );
            }
        }
        clock
    }

    /// Only on loopback may time be anything but real: nobody is to be paged by a demonstration.
    pub(super) fn check_clock(&mut self, config: &Config, node: Option<&Node>) {
        let Some(node) = node.filter(|_| !config.clock.is_real()) else {
            return;
        };
        let mut outside = Vec::new();
        for broker in &config.kafka.brokers {
            if !broker.rsplit_once(':').is_some_and(|(host, _)| is_loopback(host)) {
                outside.push(format!("broker `{broker}`"));
            }
        }
        let receivers = config.receivers.iter();
        let receivers = receivers.filter_map(|(name, one)| Some(("receiver", name, one.url()?)));
        let platforms = config.platforms.iter();
        let platforms = platforms
            .flat_map(|(name, one)| one.kind.urls().into_iter().map(move |url| ("platform", name, url)));
        let switch =
            config.canary.iter().flat_map(|canary| std::iter::once(&canary.url).chain(&canary.fail_url));
        if switch.into_iter().any(|url| !is_local(url.expose())) {
            outside.push("`canary`".to_owned());
        }
        for (what, name, url) in receivers.chain(platforms) {
            if !is_local(url) {
                outside.push(format!("{what} `{name}`"));
            }
        }
        if !config.http.listen.ip().is_loopback() {
            outside.push("`http.listen`".to_owned());
        }
        if !outside.is_empty() {
            self.doc.error_help(
                node.at,
                format!(
                    "a clock that is not the real one needs everything on loopback: {} is not",
                    outside.join(", ")
                ),
                "remove `clock:`, or use 127.0.0.1 throughout",
            );
        }
    }
}

fn is_local(url: &str) -> bool {
    reqwest::Url::parse(url).is_ok_and(|url| url.host_str().is_some_and(is_loopback))
}

fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn without_tls_only_on_loopback_or_where_the_operator_says_so() {
        let places = [
            "receivers: { r: { alertmanager: { url: 'URL' } } }",
            "receivers: { r: { webhook: { url: 'URL', secret: '${KEY}' } } }",
            "receivers: { s: { slack: { url: '${URL}' } }, a: { alertmanager: { url: 'https://h:1' } } }",
            "receivers: { r: { pagerduty: { url: 'URL', routing_key: '${KEY}' } } }",
            "platforms: { p: { flagd: { path: f.json, ofrep: 'URL' } } }",
            "platforms: { p: { gofeatureflag: { path: f.yaml, relay: 'URL' } } }",
        ];
        for place in places {
            for (url, plain_http, fine) in [
                ("https://h:1", "[nobody]", true),
                ("http://h:1", "[nobody]", false),
                ("http://h:1", "['h:2', g]", false),
                ("http://h:1", "['H:1']", true),
                ("http://H:1", "[h]", true),
                ("http://127.0.0.1.h:1", "[nobody]", false),
                ("http://10.0.0.1:1", "[nobody]", false),
                ("http://localhost:1", "[nobody]", true),
                ("http://127.9.0.1:1", "[nobody]", true),
                ("http://[::1]:1", "[nobody]", true),
            ] {
                let place = place.replace("${URL}", "@").replace("URL", url).replace('@', "${URL}");
                let text = format!(
                    "kafka: {{ brokers: 'localhost:9092', topics: [t] }}\n{place}\noutbound:\n\
                     \x20 allow: [h, 127.0.0.1.h, 10.0.0.1, localhost, 127.9.0.1, '[::1]']\n\
                     \x20 plain_http: {plain_http}\n"
                );
                let outside = |name: &str| Some(if name == "URL" { url } else { "key" }.to_owned());
                let said = match Config::parse(Path::new("etc/rearguard.yaml"), &text, &outside) {
                    Ok(_) => Vec::new(),
                    Err(said) => said,
                };
                let tls = |d: &&crate::engine::rule::diagnostic::Diagnostic| {
                    assert_eq!(d.line, 2, "{d:?}");
                    d.message.contains("without TLS")
                        && d.help.as_ref().is_some_and(|help| help.contains("under `outbound: plain_http:`"))
                };
                assert_eq!(said.iter().filter(tls).count(), usize::from(!fine), "{text}: {said:?}");
                assert_eq!(said.len(), usize::from(!fine), "{text}: {said:?}");
            }
        }
    }
}

//! The section `canary:`: Rearguard's own events, and the dead-man's switch that they feed.

use std::time::Duration;

use serde::Serialize;

use super::read::Reader;
use super::{Kafka, Outbound, Secret};
use crate::engine::rule::diagnostic::nearest;
use crate::engine::rule::yaml::Node;

/// Canary events and where their coming back is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Canary {
    /// The dead-man's switch; the address is the secret.
    pub url: Secret,
    /// Told the reason while Rearguard cannot prove that it sees.
    pub fail_url: Option<Secret>,
    pub method: PingMethod,
    pub every: Duration,
    /// Topics that get canary events.
    pub topics: Vec<String>,
}

/// How the switch is called.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PingMethod {
    #[default]
    Get,
    Post,
}

/// Between canaries when nothing is said.
const EVERY: Duration = Duration::from_secs(60);

impl Reader<'_, '_> {
    pub(super) fn canary(
        &mut self,
        node: &Node,
        kafka: Option<&Kafka>,
        outbound: &Outbound,
    ) -> Option<Canary> {
        let what = "`canary`";
        let fields = self.needing(node, what, (&["url"], &["fail_url", "method", "every", "topics"]))?;
        let mut address = |key: &str| {
            let secret = self.outside(&fields, key, what);
            self.address(&fields, key, what, outbound)?;
            secret
        };
        let url = address("url");
        let fail_url = match fields.get("fail_url") {
            Some(_) => Some(address("fail_url")?),
            None => None,
        };
        let methods = [("get", PingMethod::Get), ("post", PingMethod::Post)];
        let method = fields.get("method").and_then(|n| self.doc.choice(n, "`canary.method`", &methods));
        let every = self.span(&fields, "every", (5, 120), EVERY);
        let read = kafka.map(|kafka| kafka.topics.clone()).unwrap_or_default();
        let Some(node) = fields.get("topics") else {
            return Some(Canary {
                url: url?,
                fail_url,
                method: method.unwrap_or_default(),
                every,
                topics: read,
            });
        };
        let mut topics = Vec::new();
        for (topic, at) in self.words(node, "`canary.topics`") {
            if read.contains(&topic) {
                topics.push(topic);
            } else if kafka.is_some() {
                let near = nearest(&topic, read.iter().map(String::as_str));
                self.doc.error_help(
                    at,
                    format!("`{topic}` is not one of `kafka.topics`: its canaries would never come back"),
                    near.map_or("name topics that are read, or none for all".to_owned(), |near| {
                        format!("did you mean `{near}`?")
                    }),
                );
            }
        }
        Some(Canary { url: url?, fail_url, method: method.unwrap_or_default(), every, topics })
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::Config;
    use super::*;

    fn parse(section: &str) -> Result<Canary, Vec<String>> {
        let text = format!(
            "kafka: {{ brokers: 'localhost:9092', topics: [events, more] }}\n\
             outbound: {{ allow: [hc.example.org, '127.0.0.1:9'] }}\n{section}"
        );
        let environment = |name: &str| match name {
            "KEY" => Some("s3cret".to_owned()),
            "NONE" => Some("no address".to_owned()),
            _ => None,
        };
        match Config::parse(Path::new("r.yaml"), &text, &environment) {
            Ok(config) => Ok(config.canary.expect("a canary")),
            Err(errors) => {
                Err(errors.iter().map(|e| format!("{}:{} {}", e.line, e.column, e.message)).collect())
            }
        }
    }

    #[test]
    fn an_address_is_enough() {
        let canary = parse("canary: { url: 'https://hc.example.org/${KEY}' }\n").unwrap();
        assert_eq!(canary.url.expose(), "https://hc.example.org/s3cret");
        assert_eq!((canary.fail_url, canary.method, canary.every), (None, PingMethod::Get, EVERY));
        assert_eq!(canary.topics, ["events", "more"]);
        let all = "canary: { url: 'http://127.0.0.1:9/${KEY}', fail_url: 'https://hc.example.org/${KEY}/fail', method: post, every: 5s, topics: [more] }\n";
        let canary = parse(all).unwrap();
        assert!(canary.fail_url.is_some());
        assert_eq!((canary.method, canary.every), (PingMethod::Post, Duration::from_secs(5)));
        assert_eq!(canary.topics, ["more"]);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place_and_never_with_the_secret() {
        for (section, said) in [
            ("canary: {}", "3:9 `canary` has no `url`"),
            ("canary: { url: 'https://hc.example.org/plain' }", "`url` of `canary` stands here"),
            ("canary: { url: '${NONE}' }", "`url` must be an http or https address"),
            ("canary: { url: 'https://else.example.org/${KEY}' }", "not on the list of hosts"),
            ("canary: { url: 'http://hc.example.org/${KEY}' }", "hc.example.org"),
            (
                "canary: { url: 'https://hc.example.org/${KEY}', every: 3m }",
                "3:56 `every` must lie between 5s and 2m",
            ),
            (
                "canary: { url: 'https://hc.example.org/${KEY}', method: head }",
                "`canary.method` cannot be `head`",
            ),
            (
                "canary: { url: 'https://hc.example.org/${KEY}', topics: [evnts] }",
                "`evnts` is not one of `kafka.topics`",
            ),
            ("canary: { url: 'https://hc.example.org/${KEY}', often: 5s }", "unknown key `often`"),
        ] {
            let errors = parse(&format!("{section}\n")).expect_err(section).join("\n");
            assert!(errors.contains(said), "{section}: {errors}");
            assert!(!errors.contains("s3cret"), "{errors}");
        }
    }
}

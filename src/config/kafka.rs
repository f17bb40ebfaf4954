//! The section `kafka:`.

use std::collections::BTreeMap;

use super::read::Reader;
use super::{Kafka, Secret, Start};
use crate::engine::rule::yaml::{Fields, Node};

const KEYS: [&str; 7] =
    ["brokers", "topics", "group", "group_instance_id", "dead_letter_topic", "start", "properties"];

/// librdkafka settings that Rearguard sets itself, and why: left to chance they lose data or stall.
const REFUSED: [(&str, &str); 17] = [
    ("bootstrap.servers", "it is `kafka.brokers`"),
    ("metadata.broker.list", "it is `kafka.brokers`"),
    ("group.id", "it is `kafka.group`"),
    ("group.instance.id", "it is `kafka.group_instance_id`"),
    (
        "auto.offset.reset",
        "it is `error`: jumping over a gap would lose events silently; `kafka.start` says where the first start begins",
    ),
    ("enable.auto.commit", "it is off: offsets are stored together with what was computed from them"),
    ("auto.commit.enable", "it is off: offsets are stored together with what was computed from them"),
    (
        "auto.commit.interval.ms",
        "automatic commits are off: offsets are stored together with what was computed from them",
    ),
    ("enable.auto.offset.store", "it is off: an offset is stored only after its events are in a window"),
    (
        "group.protocol",
        "it is `classic`: offsets are given at assignment, which the new protocol does not allow",
    ),
    (
        "partition.assignment.strategy",
        "it is an eager one: with cooperative rebalancing positions of kept partitions would be lost",
    ),
    ("enable.partition.eof", "it is on: the end of a log is how silence is told from lag"),
    ("check.crcs", "it is on: a flipped bit must not become a number"),
    ("acks", "it is `all`: a decision must not be lost with a broker"),
    ("request.required.acks", "it is `all`: a decision must not be lost with a broker"),
    ("enable.idempotence", "it is on: a retry must not write a record twice"),
    ("enable.gapless.guarantee", "records are written one by one and read back"),
];

/// Settings whose values are secrets.
const SECRETS: [&str; 6] = [
    "sasl.password",
    "ssl.key.password",
    "ssl.key.pem",
    "ssl.keystore.password",
    "sasl.oauthbearer.client.secret",
    "sasl.oauthbearer.config",
];

impl Reader<'_, '_> {
    pub(super) fn kafka(&mut self, node: &Node) -> Option<Kafka> {
        let fields = self.doc.fields(node, "`kafka`", &KEYS)?;
        let brokers = self.brokers(&fields);
        let topics = self.topics(&fields);
        let dead_letter =
            fields.get("dead_letter_topic").and_then(|n| self.topic(n, "`kafka.dead_letter_topic`"));
        let dead_letter_topic = dead_letter.unwrap_or_else(|| {
            topics.first().map_or_else(String::new, |topic| format!("{topic}.dead-letter"))
        });
        if topics.contains(&dead_letter_topic) {
            let at = fields.get("dead_letter_topic").map_or(fields.first_key_at(), |n| n.at);
            self.doc.error(
                at,
                "the dead-letter topic is one of the topics that are read: poison would go round in circles",
            );
        }
        let starts = [("one_longest_window", Start::OneLongestWindow), ("earliest", Start::Earliest)];
        let start = fields.get("start").and_then(|n| self.doc.choice(n, "`kafka.start`", &starts));
        let mut text = |key: &str| {
            let words = self.words(fields.get(key)?, &format!("`kafka.{key}`"));
            words.into_iter().next().map(|(word, _)| word)
        };
        Some(Kafka {
            group: text("group").unwrap_or_else(|| "rearguard".to_owned()),
            group_instance_id: text("group_instance_id"),
            brokers,
            topics,
            dead_letter_topic,
            start: start.unwrap_or_default(),
            properties: fields.get("properties").map(|n| self.properties(n)).unwrap_or_default(),
        })
    }

    fn brokers(&mut self, fields: &Fields<'_>) -> Vec<String> {
        let Some(node) = fields.get("brokers") else {
            let at = fields.first_key_at();
            self.doc.error_help(at, "`kafka` names no `brokers`", "add `brokers: localhost:9092`");
            return Vec::new();
        };
        let mut brokers = Vec::new();
        for (text, at) in self.words(node, "`kafka.brokers`") {
            for broker in text.split(',').map(str::trim) {
                let port = broker.rsplit_once(':').filter(|(host, _)| !host.is_empty());
                if port.is_some_and(|(_, port)| port.parse::<u16>().is_ok_and(|p| p > 0)) {
                    brokers.push(broker.to_owned());
                } else {
                    let help =
                        format!("write `{}:9092`", if broker.is_empty() { "localhost" } else { broker });
                    self.doc.error_help(at, format!("`{broker}` is no broker address with a port"), help);
                }
            }
        }
        brokers
    }

    fn topics(&mut self, fields: &Fields<'_>) -> Vec<String> {
        let Some(node) = fields.get("topics") else {
            let at = fields.first_key_at();
            self.doc.error_help(at, "`kafka` names no `topics`", "add `topics: [ai.generations]`");
            return Vec::new();
        };
        let mut topics: Vec<String> = Vec::new();
        for (topic, at) in self.words(node, "`kafka.topics`") {
            if !is_topic(&topic) {
                self.doc.error(
                    at,
                    format!("`{topic}` cannot be a topic: letters, digits, `.`, `_` and `-`, at most 249"),
                );
            } else if topics.contains(&topic) {
                self.doc.error(at, format!("topic `{topic}` is named twice"));
            } else {
                topics.push(topic);
            }
        }
        topics
    }

    pub(super) fn topic(&mut self, node: &Node, what: &str) -> Option<String> {
        let text = self.doc.text(node, what)?;
        if is_topic(text) {
            return Some(text.to_owned());
        }
        self.doc.error(
            node.at,
            format!("`{text}` cannot be a topic: letters, digits, `.`, `_` and `-`, at most 249"),
        );
        None
    }

    fn properties(&mut self, node: &Node) -> BTreeMap<String, Secret> {
        let mut properties = BTreeMap::new();
        for (key, at, value) in self.doc.entries(node, "`kafka.properties`").unwrap_or_default() {
            if let Some((_, why)) = REFUSED.iter().find(|(name, _)| *name == key) {
                self.doc.error_help(at, format!("`{key}` cannot be set here"), *why);
                continue;
            }
            let Some((secret, from_outside)) = self.secret(value, &format!("`{key}`")) else {
                continue;
            };
            if SECRETS.contains(&key) && !from_outside {
                self.refuse_plain_secret(value.at, &format!("`{key}` stands here"));
                continue;
            }
            properties.insert(key.to_owned(), secret);
        }
        properties
    }
}

fn is_topic(name: &str) -> bool {
    let good = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    !name.is_empty() && name.len() <= 249 && name.chars().all(good) && name != "." && name != ".."
}

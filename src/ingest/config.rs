//! What ingest is told, and the librdkafka settings that follow from it.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::ClientConfig;

use super::partition::Limits;
use crate::model::time::Timestamp;

/// How to consume. All spans are in the time of the wall clock that ingest is given.
#[derive(Clone, Debug)]
pub struct Config {
    /// `bootstrap.servers`.
    pub brokers: String,
    pub topics: Vec<String>,
    pub group: String,
    /// `group.instance.id`: a name for this process that stays over restarts. Without one, a crashed member blocks its
    /// successor for 45 s.
    pub instance: Option<String>,
    /// Where to begin in partitions that have no stored position.
    pub start: StartAt,
    /// librdkafka settings passed through: SASL, TLS, buffer sizes. Those that Rearguard depends on are refused.
    pub properties: BTreeMap<String, String>,
    /// Where dead letters go; `None` only counts them.
    pub dead_letter_topic: Option<String>,
    pub limits: Limits,
    /// A delta is taken at least this often while there is news.
    pub flush_every: Duration,
    /// How often a partition read to its end says so.
    pub idle_every: Duration,
    pub snapshot_every: Duration,
    /// Messages per batch.
    pub batch: usize,
}

impl Config {
    /// The defaults of everything that has one.
    pub fn new(brokers: impl Into<String>, topics: Vec<String>, group: impl Into<String>) -> Self {
        Self {
            brokers: brokers.into(),
            topics,
            group: group.into(),
            instance: None,
            start: StartAt::Earliest,
            properties: BTreeMap::new(),
            dead_letter_topic: None,
            limits: Limits::default(),
            flush_every: Duration::from_secs(5),
            idle_every: Duration::from_secs(1),
            snapshot_every: Duration::from_secs(60),
            batch: 1_024,
        }
    }
}

/// Where to begin without a stored position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartAt {
    /// At the start of the log.
    Earliest,
    /// At the first message that Kafka dates at or after this time; at the end if there is none.
    Time(Timestamp),
}

/// Settings that lose data or break the protocol when changed (reliability.md).
const OWNED: &[&str] = &[
    "bootstrap.servers",
    "group.id",
    "group.instance.id",
    "group.protocol",
    "partition.assignment.strategy",
    "auto.offset.reset",
    "enable.auto.commit",
    "enable.auto.offset.store",
    "enable.partition.eof",
    "enable.idempotence",
    "check.crcs",
    "statistics.interval.ms",
    "message.timeout.ms",
];

/// A librdkafka setting that is not the user's to change.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("kafka property `{0}` is set by Rearguard itself and cannot be changed")]
pub struct OwnedProperty(pub String);

impl Config {
    /// The consumer's settings.
    ///
    /// # Errors
    ///
    /// A property that is not the user's to change.
    pub fn consumer(&self) -> Result<ClientConfig, OwnedProperty> {
        let mut client = self.client()?;
        for (name, value) in [
            ("group.id", self.group.as_str()),
            ("group.protocol", "classic"),
            ("partition.assignment.strategy", "range"),
            ("auto.offset.reset", "error"),
            ("enable.auto.commit", "false"),
            ("enable.auto.offset.store", "false"),
            ("enable.partition.eof", "true"),
            ("check.crcs", "true"),
            ("statistics.interval.ms", "1000"),
        ] {
            client.set(name, value);
        }
        if let Some(instance) = &self.instance {
            client.set("group.instance.id", instance);
        }
        // The longest answer that librdkafka reads. Brokers hand out one message however large it is, and with librdkafka's
        // default of 100 MB a larger one would block its partition for good: here it is read, refused and passed.
        // And messages fetched ahead per partition: with librdkafka's 100,000 they have left the caches when they are read.
        for (name, value) in [
            ("queued.min.messages", "20000"),
            ("fetch.queue.backoff.ms", "2"),
            ("fetch.wait.max.ms", "200"),
            ("receive.message.max.bytes", "2147483647"),
        ] {
            if !self.properties.contains_key(name) {
                client.set(name, value);
            }
        }
        Ok(client)
    }

    /// The dead-letter producer's settings.
    ///
    /// # Errors
    ///
    /// As for [`consumer`](Self::consumer).
    pub fn producer(&self) -> Result<ClientConfig, OwnedProperty> {
        let mut client = self.client()?;
        for consumer_only in self.properties.keys().filter(|name| is_consumer_only(name)) {
            client.remove(consumer_only);
        }
        client.set("enable.idempotence", "true");
        client.set("message.timeout.ms", super::dead_letter::TIMEOUT_MS.to_string());
        client.set("message.max.bytes", "1000000");
        Ok(client)
    }

    fn client(&self) -> Result<ClientConfig, OwnedProperty> {
        let mut client = ClientConfig::new();
        client.set("client.id", "rearguard");
        for (name, value) in &self.properties {
            if OWNED.contains(&name.as_str()) {
                return Err(OwnedProperty(name.clone()));
            }
            client.set(name, value);
        }
        client.set("bootstrap.servers", &self.brokers);
        Ok(client)
    }
}

fn is_consumer_only(name: &str) -> bool {
    ["fetch.", "queued.", "session.", "heartbeat.", "max.poll.", "isolation."]
        .iter()
        .any(|prefix| name.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn security_passes_through_and_safety_does_not() {
        let mut config = Config::new("b:9092", vec!["t".into()], "g");
        config.properties.insert("security.protocol".into(), "SASL_SSL".into());
        config.properties.insert("fetch.wait.max.ms".into(), "50".into());
        let consumer = config.consumer().unwrap();
        assert_eq!(consumer.get("security.protocol"), Some("SASL_SSL"));
        assert_eq!(consumer.get("fetch.wait.max.ms"), Some("50"));
        assert_eq!(consumer.get("auto.offset.reset"), Some("error"));
        let producer = config.producer().unwrap();
        assert_eq!(producer.get("security.protocol"), Some("SASL_SSL"));
        assert_eq!(producer.get("fetch.wait.max.ms"), None);
        config.properties.insert("auto.offset.reset".into(), "latest".into());
        assert_eq!(config.consumer().unwrap_err(), OwnedProperty("auto.offset.reset".into()));
    }
}

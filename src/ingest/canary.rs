//! Canary events: written to every partition of the topics that are read, to come back through the ordinary consumer.
//!
//! One round is one event per partition, delivered or failed when [`Canaries::send`] returns. It blocks, for
//! [`ROUND`] at most: callers give it a thread of its own.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::config::{FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};
use serde_json::json;

use super::config::Config;
use super::consumer::IngestError;
use super::link;
use crate::model::canary::CANARY;
use crate::model::time::Timestamp;

/// The longest that the deliveries of a round are waited for.
pub const ROUND: Duration = Duration::from_secs(12);
/// How long the broker may take to name a topic's partitions.
const LOOK_UP: Duration = Duration::from_secs(5);

/// Why not every partition has its canary.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotSent {
    #[error(
        "the broker lets nobody write canaries to topic `{topic}`: grant WRITE and DESCRIBE on it to the user of `kafka.properties`"
    )]
    NotAllowed { topic: String },
    #[error("topic `{topic}`: {why}")]
    Failed { topic: String, why: String },
}

/// The producer of canary events.
pub struct Canaries {
    producer: BaseProducer<Deliveries>,
    topics: Vec<String>,
    instance: String,
    /// Tells this process's events from those of earlier ones.
    nonce: String,
    round: u64,
    ended: Arc<Mutex<Ended>>,
}

/// What has become of a round so far.
#[derive(Debug, Default)]
struct Ended {
    all: usize,
    first: Option<NotSent>,
}

struct Deliveries(Arc<Mutex<Ended>>);

impl ClientContext for Deliveries {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        link::log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "canary producer error");
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let mut ended = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        ended.all += 1;
        if let Err((error, message)) = result {
            let failed = not_sent(rdkafka::Message::topic(message), error);
            ended.first.get_or_insert(failed);
        }
    }
}

impl Canaries {
    /// A producer with the settings of the other ones. `instance` marks events as this Rearguard's own, over restarts.
    ///
    /// # Errors
    ///
    /// Settings that librdkafka refuses. Brokers that cannot be reached fail a round, not this.
    pub fn new(
        config: &Config,
        topics: Vec<String>,
        instance: String,
        nonce: String,
    ) -> Result<Self, IngestError> {
        let ended = Arc::new(Mutex::new(Ended::default()));
        let context = Deliveries(Arc::clone(&ended));
        let producer = BaseProducer::from_config_and_context(&config.producer()?, context)?;
        Ok(Self { producer, topics, instance, nonce, round: 0, ended })
    }

    /// Sends one round, dated `now`; says how many partitions have it.
    ///
    /// # Errors
    ///
    /// The first partition that did not take it.
    pub fn send(&mut self, now: Timestamp) -> Result<usize, NotSent> {
        self.round += 1;
        *self.ended.lock().unwrap_or_else(PoisonError::into_inner) = Ended::default();
        let mut sent = 0;
        for topic in &self.topics {
            let found = self.producer.client().fetch_metadata(Some(topic), LOOK_UP);
            let found = found.map_err(|error| not_sent(topic, &error))?;
            let partitions = found.topics().first().map_or(0, |topic| topic.partitions().len());
            if partitions == 0 {
                let code = found.topics().first().and_then(|topic| topic.error()).map(RDKafkaErrorCode::from);
                let code = code.unwrap_or(RDKafkaErrorCode::UnknownTopicOrPartition);
                return Err(not_sent(topic, &KafkaError::MetadataFetch(code)));
            }
            for partition in (0i32..).take(partitions) {
                let event = self.event(topic, partition, now);
                let record = BaseRecord::to(topic)
                    .partition(partition)
                    .key(CANARY)
                    .payload(&event)
                    .timestamp(now.as_millis());
                self.producer.send(record).map_err(|(error, _)| not_sent(topic, &error))?;
                sent += 1;
            }
        }
        // Flushing serves delivery reports. What is not delivered in time fails by librdkafka's own timeout later.
        let flushed = self.producer.flush(ROUND);
        let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        match (ended.first.take(), flushed) {
            (Some(failed), _) => Err(failed),
            (None, Err(error)) => Err(not_sent(&self.topics.join(", "), &error)),
            (None, Ok(())) => Ok(sent),
        }
    }

    fn event(&self, topic: &str, partition: i32, now: Timestamp) -> String {
        json!({
            "id": format!("{CANARY}/{}/{}/{topic}/{partition}", self.nonce, self.round),
            "ts": now.to_string(),
            "variant": CANARY,
            "unit": self.instance,
            "metrics": { CANARY: true },
        })
        .to_string()
    }
}

fn not_sent(topic: &str, error: &KafkaError) -> NotSent {
    let denied = [RDKafkaErrorCode::TopicAuthorizationFailed, RDKafkaErrorCode::ClusterAuthorizationFailed];
    let topic = topic.to_owned();
    match error.rdkafka_error_code() {
        Some(code) if denied.contains(&code) => NotSent::NotAllowed { topic },
        Some(code) => NotSent::Failed { topic, why: code.to_string() },
        None => NotSent::Failed { topic, why: error.to_string() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingest::decode::{Bounds, Decoder};

    #[test]
    fn a_canary_is_an_event_like_any_other() {
        let config = Config::new("127.0.0.1:1", vec!["events".into()], "g");
        let canaries = Canaries::new(&config, config.topics.clone(), "here".into(), "n".into()).unwrap();
        let now = Timestamp::from_millis(1_763_856_000_123);
        let text = canaries.event("events", 3, now);
        let mut decoder = Decoder::default();
        let event = decoder.decode(text.as_bytes(), &Bounds::default(), now).unwrap();
        assert_eq!((event.variant, event.unit, event.ts), (CANARY, Some("here"), now));
        assert_eq!(event.metrics.iter().map(|(name, _)| name).collect::<Vec<_>>(), [CANARY]);
    }

    #[test]
    fn a_right_that_lacks_is_told_as_such() {
        for (code, told) in [
            (RDKafkaErrorCode::TopicAuthorizationFailed, true),
            (RDKafkaErrorCode::ClusterAuthorizationFailed, true),
            (RDKafkaErrorCode::MessageTimedOut, false),
        ] {
            let said = not_sent("events", &KafkaError::MessageProduction(code)).to_string();
            assert!(said.contains("`events`"), "{said}");
            assert_eq!(said.contains("grant WRITE"), told, "{said}");
        }
    }
}

//! Messages that are no events, kept for a human: the original value and key on another topic, the reason in headers.
//!
//! At least once: a delta, and with it the stored position, does not go out before each dead letter of its range was
//! acknowledged by the broker or has failed for good, which librdkafka decides after [`TIMEOUT_MS`]. A dead letter that has
//! failed for good is counted as lost and logged as an error: losing the record of one bad message is less harm than
//! ceasing to watch. What a replay reads again is not sent again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rdkafka::config::{FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, ProducerContext};
use rdkafka::{ClientConfig, ClientContext};

use super::batch::Message;
use super::fate::Fate;
use super::link;
use crate::engine::input::Source;

/// How long a dead letter may stay undelivered, in milliseconds.
pub const TIMEOUT_MS: u32 = 10_000;

/// Longer values are cut to this many bytes, and a header says so.
pub const MAX_VALUE: usize = 256 << 10;

/// The producer of dead letters; used by one thread.
pub struct DeadLetters {
    producer: BaseProducer<Deliveries>,
    topic: String,
    ended: Arc<Ended>,
    sent: u64,
    lost_reported: u64,
}

/// Deliveries that have come to an end.
#[derive(Debug, Default)]
struct Ended {
    all: AtomicU64,
    lost: AtomicU64,
}

struct Deliveries(Arc<Ended>);

impl ClientContext for Deliveries {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        link::log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "dead-letter producer error");
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, _)) = result {
            tracing::error!(%error, "a dead letter could not be delivered and is lost");
            self.0.lost.fetch_add(1, Ordering::Relaxed);
        }
        self.0.all.fetch_add(1, Ordering::Release);
    }
}

impl DeadLetters {
    /// A producer to `topic`.
    ///
    /// # Errors
    ///
    /// Settings that librdkafka refuses.
    pub fn new(config: &ClientConfig, topic: &str) -> KafkaResult<Self> {
        let ended = Arc::new(Ended::default());
        let context = Deliveries(Arc::clone(&ended));
        Ok(Self {
            producer: BaseProducer::from_config_and_context(config, context)?,
            topic: topic.to_owned(),
            ended,
            sent: 0,
            lost_reported: 0,
        })
    }

    /// Sends one message; waits while the producer's own queue is full.
    pub fn send(&mut self, message: &Message<'_>, source: &Source, fate: Fate) {
        let payload = message.payload();
        let value = &payload[..payload.len().min(MAX_VALUE)];
        let headers = headers(message, source, fate, payload.len());
        let mut record = BaseRecord::<[u8], [u8]>::to(&self.topic).payload(value).headers(headers);
        if !message.key().is_empty() {
            record = record.key(message.key());
        }
        self.sent += 1;
        loop {
            match self.producer.send(record) {
                Ok(()) => return,
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    self.producer.poll(Duration::from_millis(50));
                    record = back;
                }
                Err((error, _)) => {
                    tracing::error!(%error, "a dead letter could not be sent and is lost");
                    self.ended.lost.fetch_add(1, Ordering::Relaxed);
                    self.ended.all.fetch_add(1, Ordering::Release);
                    return;
                }
            }
        }
    }

    /// Whether deliveries are under way; serves delivery reports for up to `wait` if so.
    pub fn pending(&self, wait: Duration) -> bool {
        if self.ended.all.load(Ordering::Acquire) == self.sent {
            return false;
        }
        self.producer.poll(wait);
        self.ended.all.load(Ordering::Acquire) != self.sent
    }

    /// How many were lost since the last call.
    pub fn take_lost(&mut self) -> u64 {
        let lost = self.ended.lost.load(Ordering::Relaxed);
        lost - std::mem::replace(&mut self.lost_reported, lost)
    }
}

fn headers(message: &Message<'_>, source: &Source, fate: Fate, size: usize) -> OwnedHeaders {
    let (fate, reason) = fate.words();
    let mut headers = OwnedHeaders::new();
    let mut add = |key: &str, value: &str| {
        let old = std::mem::take(&mut headers);
        headers = old.insert(Header { key, value: Some(value) });
    };
    add("rearguard.fate", fate);
    add("rearguard.reason", reason);
    add("rearguard.topic", &source.topic);
    add("rearguard.partition", &source.partition.to_string());
    add("rearguard.offset", &message.offset().to_string());
    add("rearguard.timestamp", &message.timestamp().to_string());
    if size > MAX_VALUE {
        add("rearguard.truncated_from", &size.to_string());
    }
    headers
}

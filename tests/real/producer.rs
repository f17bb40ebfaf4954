//! A gateway: writes events to Kafka, keyed by tenant, each message dated with its event's own time.

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::OwnedHeaders;
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer as _, ThreadedProducer};

use crate::oracle::{Event, Oracle};

pub const PARTITIONS: i32 = 4;

/// A producer to one topic. Idempotent and patient, so that a broker's outage neither loses nor doubles a message.
pub struct Producer {
    inner: ThreadedProducer<DefaultProducerContext>,
    topic: String,
}

impl Producer {
    pub fn new(bootstrap: &str, topic: &str) -> Self {
        let inner = ClientConfig::new()
            .set("bootstrap.servers", bootstrap)
            .set("enable.idempotence", "true")
            .set("linger.ms", "1")
            .set("message.timeout.ms", "300000")
            .set("message.max.bytes", "200000000")
            .set("reconnect.backoff.max.ms", "500")
            .create()
            .expect("a producer can be made");
        Self { inner, topic: topic.to_owned() }
    }

    /// Sends an event and tells the oracle of it.
    pub fn event(&self, event: &Event, oracle: &mut Oracle) {
        oracle.add(event);
        self.raw(partition_of(&event.tenant), &event.tenant, event.json().as_bytes(), event.at);
    }

    /// Sends bytes to a partition.
    pub fn raw(&self, partition: i32, key: &str, payload: &[u8], at: i64) {
        let mut record = BaseRecord::<str, [u8]>::to(&self.topic)
            .partition(partition)
            .key(key)
            .payload(payload)
            .timestamp(at)
            .headers(OwnedHeaders::new());
        loop {
            match self.inner.send(record) {
                Ok(()) => return,
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    std::thread::sleep(Duration::from_millis(5));
                    record = back;
                }
                Err((error, _)) => panic!("a message cannot be sent: {error}"),
            }
        }
    }

    /// Waits until the broker has everything.
    pub fn flush(&self) {
        self.inner.flush(Duration::from_secs(120)).expect("the broker takes all messages");
    }
}

/// The partition of a tenant's events; stable, so that an oracle can count per partition.
pub fn partition_of(tenant: &str) -> i32 {
    let sum: u32 = tenant.bytes().map(u32::from).sum();
    (sum % PARTITIONS as u32) as i32
}

//! Reads a topic to its end, as another system would.

use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{Headers, OwnedMessage};
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};

use crate::timeline::eventually;

const BOUND: Duration = Duration::from_secs(30);

/// All records of the first partition of a topic, in order.
pub fn read_all(bootstrap: &str, topic: &str) -> Vec<OwnedMessage> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("group.id", "reader-of-the-tests")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .create()
        .expect("a consumer");
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, 0, Offset::Beginning).expect("a partition");
    consumer.assign(&list).expect("an assignment");
    let mut records = Vec::new();
    eventually("the end of the topic", BOUND, || {
        while let Some(message) = consumer.poll(Duration::from_millis(100)) {
            match message {
                Ok(message) => records.push(message.detach()),
                Err(KafkaError::PartitionEOF(_)) => return Some(()),
                Err(error) => println!("reading {topic}: {error}"),
            }
        }
        None
    });
    records
}

/// A header of a record as text.
pub fn header(record: &OwnedMessage, name: &str) -> Option<String> {
    let found = record.headers()?.iter().find(|header| header.key == name)?;
    String::from_utf8(found.value?.to_vec()).ok()
}

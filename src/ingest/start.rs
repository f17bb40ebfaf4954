//! Where to begin reading, looked up before subscribing: stored positions first, then the first-start policy.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::{Offset, TopicPartitionList};

use super::config::StartAt;
use super::consumer::IngestError;
use super::link::Link;
use crate::engine::input::Source;

const TIMEOUT: Duration = Duration::from_secs(10);

/// The offset at which to begin in every partition of the topics. `known` are the offsets of restored partitions.
///
/// # Errors
///
/// Brokers that cannot be reached, a topic that does not exist (yet): to be tried again.
pub(super) fn offsets(
    consumer: &BaseConsumer<Link>,
    topics: &[String],
    known: &BTreeMap<Source, i64>,
    start: StartAt,
) -> Result<BTreeMap<Source, i64>, IngestError> {
    let mut found = BTreeMap::new();
    for topic in topics {
        for source in partitions(consumer, topic)? {
            let offset = match known.get(&source) {
                Some(offset) => *offset,
                None => first(consumer, &source, start)?,
            };
            found.insert(source, offset);
        }
    }
    Ok(found)
}

/// The first and the next offset of a partition's log.
pub(super) fn log_bounds(consumer: &BaseConsumer<Link>, source: &Source) -> Result<(i64, i64), KafkaError> {
    consumer.fetch_watermarks(&source.topic, source.partition, TIMEOUT)
}

/// The end of the log of each source as it is now.
///
/// # Errors
///
/// Brokers that cannot be reached.
pub(super) fn ends<'a>(
    consumer: &BaseConsumer<Link>,
    sources: impl Iterator<Item = &'a Source>,
) -> Result<BTreeMap<Source, i64>, IngestError> {
    sources.map(|source| Ok((source.clone(), log_bounds(consumer, source)?.1))).collect()
}

fn partitions(consumer: &BaseConsumer<Link>, topic: &str) -> Result<Vec<Source>, IngestError> {
    let metadata = consumer.fetch_metadata(Some(topic), TIMEOUT)?;
    let partitions: Vec<Source> = metadata
        .topics()
        .iter()
        .filter(|found| found.name() == topic)
        .flat_map(|found| found.partitions())
        .map(|partition| Source { topic: topic.into(), partition: partition.id() })
        .collect();
    if partitions.is_empty() {
        return Err(IngestError::NoTopic(topic.to_owned()));
    }
    Ok(partitions)
}

fn first(consumer: &BaseConsumer<Link>, source: &Source, start: StartAt) -> Result<i64, IngestError> {
    let (low, high) = log_bounds(consumer, source)?;
    let StartAt::Time(time) = start else {
        return Ok(low);
    };
    let mut wanted = TopicPartitionList::new();
    wanted.add_partition_offset(&source.topic, source.partition, Offset::Offset(time.as_millis()))?;
    let answer = consumer.offsets_for_times(wanted, TIMEOUT)?;
    let offset = answer.elements().first().map(|element| element.offset());
    Ok(match offset {
        Some(Offset::Offset(offset)) => offset,
        // −1: nothing in the log is that young.
        _ => high,
    })
}

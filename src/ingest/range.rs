//! A part of a topic, between two times, read once and without a group: for replays.
//!
//! Which offsets belong to it is settled when it is opened, by Kafka's timestamps of the messages. The caller says which
//! partition to read next; order within a partition is the order of arrival.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{Offset, TopicPartitionList};

use super::batch::{Fetched, PartitionQueue, detach};
use super::config::{Config, StartAt};
use super::consumer::IngestError;
use super::link::{Happened, Link};
use super::start;
use crate::engine::input::Source;
use crate::model::time::Timestamp;

/// One wait for messages, and how many of them in a row mean that the brokers do not answer (30 s).
const WAIT: Duration = Duration::from_millis(20);
const WAITS: u32 = 1_500;

/// The messages of a topic between two times.
pub struct Range {
    consumer: Arc<BaseConsumer<Link>>,
    parts: Vec<Part>,
    /// What librdkafka has complained of last.
    trouble: String,
}

struct Part {
    source: Source,
    queue: Option<PartitionQueue<Link>>,
    /// The offset after the last message of the range.
    end: i64,
    done: bool,
}

impl Range {
    /// Settles the range of the configured topics and begins to fetch it: from `config.start` to `to`, which is excluded; `None`
    /// is the end of the log as it is now.
    ///
    /// # Errors
    ///
    /// Brokers that do not answer, a topic that does not exist, settings that are not acceptable.
    pub fn open(config: &Config, to: Option<Timestamp>) -> Result<Self, IngestError> {
        let consumer = BaseConsumer::from_config_and_context(&config.consumer()?, Link::default())?;
        let consumer = Arc::new(consumer);
        let none = BTreeMap::new();
        let begins = start::offsets(&consumer, &config.topics, &none, config.start)?;
        let ends = match to {
            Some(to) => start::offsets(&consumer, &config.topics, &none, StartAt::Time(to))?,
            None => start::ends(&consumer, begins.keys())?,
        };
        let mut list = TopicPartitionList::new();
        for (source, begin) in &begins {
            detach(&consumer, source);
            list.add_partition_offset(&source.topic, source.partition, Offset::Offset(*begin))?;
        }
        consumer.assign(&list)?;
        let part = |(source, begin): (Source, i64)| {
            let end = ends.get(&source).copied().unwrap_or(begin);
            let queue = PartitionQueue::take(&consumer, &source, config.batch);
            Part { source, queue, end, done: begin >= end }
        };
        let parts = begins.into_iter().map(part).collect();
        Ok(Self { consumer, parts, trouble: String::new() })
    }

    /// How many partitions there are.
    pub fn partitions(&self) -> usize {
        self.parts.len()
    }

    /// Hands messages of a partition to `take`, as many as have come; waits until some have. False when the partition has
    /// been read to the end of the range.
    ///
    /// # Errors
    ///
    /// Brokers that have not answered for 30 s, or no longer have what was asked for.
    pub fn read<E: From<IngestError>>(
        &mut self,
        partition: usize,
        mut take: impl FnMut(&[u8], i64) -> Result<(), E>,
    ) -> Result<bool, E> {
        let part = &mut self.parts[partition];
        let Some(queue) = part.queue.as_mut().filter(|_| !part.done) else {
            return Ok(false);
        };
        for _ in 0..WAITS {
            if queue.fill() > 0 {
                break;
            }
            // Serves events; no message can come this way.
            let _ = self.consumer.poll(WAIT);
            while let Some(happened) = self.consumer.context().take() {
                if let Happened::Trouble(reason) | Happened::AssignFailed(reason) = happened {
                    self.trouble = reason;
                }
            }
        }
        let mut some = false;
        while let Some(offset) = queue.peek() {
            some = true;
            if offset >= part.end {
                part.done = true;
                break;
            }
            match queue.take_next() {
                Some(Fetched::Message(message)) => take(message.payload(), message.offset())?,
                // Behind the last message there may be transaction markers only, which are never delivered.
                Some(Fetched::End(end)) => part.done = end >= part.end,
                Some(Fetched::OutOfRange) => {
                    return Err(lost(&part.source, "the log no longer holds it").into());
                }
                Some(Fetched::Failed(code)) => return Err(lost(&part.source, &code.to_string()).into()),
                None => break,
            }
        }
        if !some {
            return Err(lost(&part.source, &format!("nothing has come for 30 s; {}", self.trouble)).into());
        }
        Ok(!part.done)
    }

    /// The name of a partition, for messages.
    pub fn name(&self, partition: usize) -> String {
        let Source { topic, partition } = &self.parts[partition].source;
        format!("{topic}/{partition}")
    }
}

fn lost(source: &Source, why: &str) -> IngestError {
    IngestError::Fatal(format!("{}/{}: {why}", source.topic, source.partition))
}

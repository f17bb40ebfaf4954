//! What librdkafka says while it is polled: assignments, revocations, errors, health. It is noted here and acted on by the
//! reader's own loop.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::statistics::Statistics;
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{ClientContext, Offset, TopicPartitionList};

use super::batch;
use crate::engine::input::Source;

/// Something that happened during a poll.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Happened {
    Assigned(Vec<Source>),
    Revoked(Vec<Source>),
    /// The assignment could not be put into effect.
    AssignFailed(String),
    /// An error of the client as a whole, in librdkafka's words.
    Trouble(String),
    Health(Health),
}

/// What a round of statistics says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// Some broker is connected.
    pub reachable: bool,
    /// Partitions whose leader was heard from lately: their silence is silence.
    pub alive: BTreeSet<Source>,
}

/// Notes what happens, and writes start offsets into assignments.
#[derive(Debug, Default)]
pub struct Link {
    starts: Mutex<BTreeMap<Source, i64>>,
    happened: Mutex<VecDeque<Happened>>,
}

/// An idle consumer hears from a leader every `fetch.wait.max.ms`; not for so many microseconds means it is gone.
const SILENT_US: i64 = 5_000_000;

impl Link {
    /// Where reading goes on, should the partition be assigned anew.
    pub fn set_start(&self, source: &Source, offset: i64) {
        let mut starts = lock(&self.starts);
        match starts.get_mut(source) {
            Some(start) => *start = offset,
            None => {
                starts.insert(source.clone(), offset);
            }
        }
    }

    /// The next thing that happened.
    pub fn take(&self) -> Option<Happened> {
        lock(&self.happened).pop_front()
    }

    fn note(&self, happened: Happened) {
        let mut notes = lock(&self.happened);
        // The latest health is enough; it would otherwise pile up behind a full channel.
        if matches!(happened, Happened::Health(_) | Happened::Trouble(_)) {
            notes.retain(|note| std::mem::discriminant(note) != std::mem::discriminant(&happened));
        }
        notes.push_back(happened);
    }

    fn assign(&self, consumer: &BaseConsumer<Self>, list: &mut TopicPartitionList) {
        let sources = sources(list);
        let starts = lock(&self.starts).clone();
        for source in &sources {
            batch::detach(consumer, source);
            // Unknown here are only partitions created after the start: all that they hold is new.
            let offset = starts.get(source).map_or(Offset::Beginning, |start| Offset::Offset(*start));
            if let Err(error) = list.set_partition_offset(&source.topic, source.partition, offset) {
                self.note(Happened::AssignFailed(error.to_string()));
            }
        }
        match consumer.assign(list) {
            Ok(()) => self.note(Happened::Assigned(sources)),
            Err(error) => self.note(Happened::AssignFailed(error.to_string())),
        }
    }
}

impl ConsumerContext for Link {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, code: RDKafkaRespErr, list: &mut TopicPartitionList) {
        match code {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => self.assign(consumer, list),
            _ => {
                if let Err(error) = consumer.unassign() {
                    self.note(Happened::AssignFailed(error.to_string()));
                }
                self.note(Happened::Revoked(sources(list)));
            }
        }
    }

    fn commit_callback(&self, result: KafkaResult<()>, _: &TopicPartitionList) {
        if let Err(error) = result {
            tracing::debug!(%error, "committing offsets for lag tools failed");
        }
    }
}

impl ClientContext for Link {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log(level, facility, message);
    }

    fn stats(&self, statistics: Statistics) {
        self.note(Happened::Health(health(&statistics)));
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "kafka client error");
        self.note(Happened::Trouble(reason.to_owned()));
    }
}

/// librdkafka's log lines among ours. What concerns a human reaches one through `Connection`, so nothing here is an error.
pub fn log(level: RDKafkaLogLevel, facility: &str, message: &str) {
    match level {
        RDKafkaLogLevel::Emerg
        | RDKafkaLogLevel::Alert
        | RDKafkaLogLevel::Critical
        | RDKafkaLogLevel::Error
        | RDKafkaLogLevel::Warning => {
            tracing::warn!(target: "librdkafka", facility, message, "librdkafka");
        }
        RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info | RDKafkaLogLevel::Debug => {
            tracing::debug!(target: "librdkafka", facility, message, "librdkafka");
        }
    }
}

/// The sources of a list.
pub fn sources(list: &TopicPartitionList) -> Vec<Source> {
    let source = |topic: &str, partition| Source { topic: topic.into(), partition };
    list.elements().iter().map(|element| source(element.topic(), element.partition())).collect()
}

fn health(statistics: &Statistics) -> Health {
    let up: BTreeSet<i32> = statistics
        .brokers
        .values()
        .filter(|broker| broker.state == "UP" && broker.rxidle < SILENT_US)
        .map(|broker| broker.nodeid)
        .collect();
    let mut alive = BTreeSet::new();
    for (topic, stats) in &statistics.topics {
        for (partition, stats) in &stats.partitions {
            if up.contains(&stats.leader) {
                alive.insert(Source { topic: topic.as_str().into(), partition: *partition });
            }
        }
    }
    Health { reachable: statistics.brokers.values().any(|broker| broker.state == "UP"), alive }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

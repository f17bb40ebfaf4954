//! The public face of the Kafka half: spawn the reader's thread, hear from it, steer it.
//!
//! Everything that the reader finds out comes through one bounded channel, in order: deltas, idleness, gaps, checkpoints.
//! A full channel stops the reading, never the heartbeats.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use arc_swap::ArcSwap;
use rdkafka::error::KafkaError;
use tokio::sync::mpsc::Sender;

use super::config::{Config, OwnedProperty};
use super::fate::Counters;
use super::partition::PartitionState;
use super::reader::Reader;
use crate::engine::input::{Delta, Source};
use crate::engine::schema::Schema;
use crate::model::time::Timestamp;

/// The wall clock, as an argument.
pub type Wall = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// What the reader says.
#[derive(Debug)]
pub enum FromIngest {
    /// The sources that hold the clock from now on. Comes before their first delta.
    Assign(Vec<Source>),
    /// Sources that are ours no longer. What was read of them has been handed over.
    Revoked(Vec<Source>),
    /// Everything of an offset range, and the reasons behind its fates.
    Delta(Delta, Box<Counters>),
    /// At wall time `at` the source had been read to its end. All that was read has been handed over.
    Idle { source: Source, at: Timestamp },
    /// A consistent cut: the deltas before this message are exactly what these states continue.
    Checkpoint(Vec<PartitionState>),
    /// The log does not hold what should come next. The next delta of the source starts at `to`.
    Gap(Gap),
    /// Whether some broker can be reached.
    Connection { up: bool, reason: String },
    /// All sources of the first assignment have reached the positions they were given; from here on events are new.
    Loaded,
    /// Messages between each source's position and the end of its log.
    Lag(Vec<(Source, i64)>),
    /// The last message: how the reader ended.
    Stopped(Result<(), IngestError>),
}

/// A range of offsets that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    pub source: Source,
    /// The offset that should have come.
    pub from: i64,
    /// Where reading goes on. Not above `from` when the log is another one than before.
    pub to: i64,
    pub reason: GapReason,
}

/// Why a range cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GapReason {
    /// Retention has deleted it.
    Retention,
    /// The log ends before the position: the topic was made anew, or the broker lost its end.
    LogRestarted,
}

impl GapReason {
    /// The word of records and pages.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Retention => "retention",
            Self::LogRestarted => "log_restarted",
        }
    }
}

/// Why ingest cannot start or had to end.
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    #[error(transparent)]
    Property(#[from] OwnedProperty),
    #[error("kafka: {0}")]
    Kafka(#[from] KafkaError),
    #[error("the thread of ingest could not be started: {0}")]
    Thread(#[from] std::io::Error),
    #[error("kafka client failed for good: {0}")]
    Fatal(String),
    #[error("topic `{0}` has no partitions, or does not exist")]
    NoTopic(String),
}

/// What a restart brings along.
#[derive(Clone, Debug, Default)]
pub struct Resume {
    /// Per source the stored position: everything before it has been acted upon.
    pub positions: BTreeMap<Source, i64>,
    /// The newest good snapshot. A source is read from its state's `next` on, and a delta ends exactly at its position.
    pub states: Vec<PartitionState>,
}

/// What the owner wants of the reader; all of it is small and the latest word counts, so no queue is needed.
#[derive(Debug, Default)]
pub(super) struct Wishes {
    pub(super) stop: AtomicBool,
    pub(super) checkpoint: AtomicBool,
    pub(super) stored: Mutex<BTreeMap<Source, i64>>,
}

/// Steers a running reader. Dropping it stops the reader and waits for its end.
#[derive(Debug)]
pub struct Handle {
    wishes: Arc<Wishes>,
    thread: Option<JoinHandle<()>>,
}

impl Handle {
    /// Says which positions are stored; they are committed to Kafka for lag tools, nothing depends on it.
    pub fn stored(&self, positions: impl IntoIterator<Item = (Source, i64)>) {
        let mut stored = self.wishes.stored.lock().unwrap_or_else(PoisonError::into_inner);
        stored.extend(positions);
    }

    /// Asks for a [`FromIngest::Checkpoint`] as soon as possible.
    pub fn checkpoint(&self) {
        self.wishes.checkpoint.store(true, Ordering::Relaxed);
    }

    /// Asks the reader to hand over what it has, say a last checkpoint and leave the group. It says
    /// [`FromIngest::Stopped`] at the end; a channel that stays full for 5 s, or is closed, ends it without.
    pub fn stop(&self) {
        self.wishes.stop.store(true, Ordering::Relaxed);
    }

    /// Waits for the reader's end. Blocks: the group is left in an orderly way.
    pub fn join(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.stop();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread of ingest panicked");
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.end();
    }
}

/// The Kafka half of ingest.
#[derive(Debug)]
pub struct Ingest;

impl Ingest {
    /// Starts reading on a thread of its own. `schema` is looked at once per batch, so swapping it is a reload.
    ///
    /// # Errors
    ///
    /// Settings that are not acceptable. Brokers that cannot be reached are no error but a `Connection` that is down.
    pub fn spawn(
        config: Config,
        resume: Resume,
        schema: Arc<ArcSwap<Schema>>,
        wall: Wall,
        sink: Sender<FromIngest>,
    ) -> Result<Handle, IngestError> {
        let wishes = Arc::new(Wishes::default());
        let reader = Reader::new(config, resume, schema, wall, sink, Arc::clone(&wishes))?;
        let thread = std::thread::Builder::new().name("ingest".into()).spawn(move || reader.run())?;
        Ok(Handle { wishes, thread: Some(thread) })
    }
}

#[cfg(test)]
#[path = "consumer_tests.rs"]
mod tests;

//! The reader's thread: serve librdkafka's events, read the partition that lags most, hand over deltas.
//!
//! One loop, one owner of all state. Waits are bounded and short, so that events are served at least every second whatever
//! the channel, the brokers or the dead-letter topic do.

mod assign;
mod deliver;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use arc_swap::ArcSwap;
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use tokio::sync::mpsc::Sender;
use tokio::sync::mpsc::error::TrySendError;

use super::config::Config;
use super::consumer::{FromIngest, IngestError, Resume, Wall, Wishes};
use super::dead_letter::DeadLetters;
use super::lane::{Lane, Progress, horizon, may_read, record_some};
use super::link::{Happened, Health, Link};
use super::names::Names;
use super::partition::PartitionState;
use super::start;
use crate::engine::input::Source;
use crate::engine::schema::Schema;
use crate::model::time::Timestamp;

/// The longest wait for events when no partition has anything to read.
const LONGEST_WAIT: Duration = Duration::from_millis(20);
/// One wait for room in the channel, and how many of them stopping allows (5 s).
const ROOM_WAIT: Duration = Duration::from_millis(5);
const ROOM_WAITS_AT_STOP: u32 = 1_000;
/// Rounds of statistics (one a second) without a connected broker, after which the connection is called down.
const DOWN_AFTER: u32 = 3;

/// Why the loop ends.
pub(super) enum End {
    /// It was asked to, or nobody listens any more.
    Stopped,
    Failed(IngestError),
}

impl From<IngestError> for End {
    fn from(error: IngestError) -> Self {
        Self::Failed(error)
    }
}

pub(super) struct Reader {
    config: Config,
    consumer: Arc<BaseConsumer<Link>>,
    dead_letters: Option<DeadLetters>,
    schema: Arc<ArcSwap<Schema>>,
    names: Arc<Names>,
    wall: Wall,
    sink: Sender<FromIngest>,
    wishes: Arc<Wishes>,
    /// Positions and states that no lane has taken over yet.
    positions: BTreeMap<Source, i64>,
    /// Where reading of each source begins.
    begin: BTreeMap<Source, i64>,
    states: BTreeMap<Source, PartitionState>,
    lanes: BTreeMap<Source, Lane>,
    health: Health,
    /// Rounds of statistics in a row without a broker.
    unreachable: u32,
    down: bool,
    trouble: String,
    /// A first assignment has come, and `Loaded` has been said.
    assigned: bool,
    loaded: bool,
    room_waits: u32,
    /// The client is of no use any more: its name in the group counts as another one's.
    fenced: bool,
    last_renewal: Option<Timestamp>,
    last_checkpoint: Timestamp,
    last_lag: Timestamp,
}

impl Reader {
    pub(super) fn new(
        config: Config,
        resume: Resume,
        schema: Arc<ArcSwap<Schema>>,
        wall: Wall,
        sink: Sender<FromIngest>,
        wishes: Arc<Wishes>,
    ) -> Result<Self, IngestError> {
        let consumer = BaseConsumer::from_config_and_context(&config.consumer()?, Link::default())?;
        let dead_letters = match &config.dead_letter_topic {
            Some(topic) => Some(DeadLetters::new(&config.producer()?, topic)?),
            None => None,
        };
        let names = Arc::new(Names::new(schema.load_full()));
        let now = wall();
        let states = resume.states.into_iter();
        Ok(Self {
            config,
            consumer: Arc::new(consumer),
            dead_letters,
            schema,
            names,
            wall,
            sink,
            wishes,
            positions: resume.positions,
            begin: BTreeMap::new(),
            states: states.map(|state| (state.source.clone(), state)).collect(),
            lanes: BTreeMap::new(),
            health: Health::default(),
            unreachable: 0,
            down: false,
            trouble: String::new(),
            assigned: false,
            loaded: false,
            room_waits: 0,
            fenced: false,
            last_renewal: None,
            last_checkpoint: now,
            last_lag: now,
        })
    }

    /// Runs until stopped; the last message says how it ended.
    pub(super) fn run(mut self) {
        let result = match self.start().and_then(|()| self.read()) {
            Ok(()) | Err(End::Stopped) => self.hand_over_all(),
            Err(End::Failed(error)) => Err(End::Failed(error)),
        };
        self.lanes.clear();
        let result = match result {
            Ok(()) | Err(End::Stopped) => Ok(()),
            Err(End::Failed(error)) => Err(error),
        };
        // Whoever has gone already does not need to hear it.
        let _ = self.send(FromIngest::Stopped(result));
    }

    /// Looks up where to begin and subscribes, trying again while brokers or topics are missing.
    fn start(&mut self) -> Result<(), End> {
        self.states.retain(|source, state| {
            // A state beyond the stored position would skip what has not been acted upon.
            self.positions.get(source).is_none_or(|position| state.next <= *position)
        });
        // Not the stored positions: without a state the windows are empty, and what fills them lies before the position.
        let known = self.states.iter().map(|(source, state)| (source.clone(), state.next)).collect();
        let starts = loop {
            let topics = &self.config.topics;
            match start::offsets(&self.consumer, topics, &known, self.config.start) {
                Ok(starts) => break starts,
                Err(error @ (IngestError::Kafka(_) | IngestError::NoTopic(_))) => {
                    self.set_down(true, &error.to_string())?;
                    self.pause(50)?;
                }
                Err(error) => return Err(error.into()),
            }
        };
        for (source, offset) in starts {
            // A position without a state: its windows are read again, from where the policy for a first start says.
            let position = *self.positions.entry(source.clone()).or_insert(offset);
            let offset = offset.min(position);
            self.consumer.context().set_start(&source, offset);
            self.begin.insert(source, offset);
        }
        self.set_down(false, "positions found")?;
        self.subscribe()
    }

    fn subscribe(&self) -> Result<(), End> {
        let topics: Vec<&str> = self.config.topics.iter().map(String::as_str).collect();
        self.consumer.subscribe(&topics).map_err(|error| End::Failed(error.into()))
    }

    fn read(&mut self) -> Result<(), End> {
        let mut wait = Duration::ZERO;
        loop {
            self.serve(wait)?;
            if self.fenced {
                self.renew()?;
            }
            self.act_on_events()?;
            self.tick()?;
            let read = self.read_one_batch()?;
            wait = match read {
                true => Duration::ZERO,
                false => (wait * 2).clamp(Duration::from_millis(1), LONGEST_WAIT),
            };
            if self.wishes.stop.load(Ordering::Relaxed) {
                return Ok(());
            }
        }
    }

    /// Serves librdkafka's events for up to `wait`. What they mean is acted upon later, by the loop.
    fn serve(&mut self, wait: Duration) -> Result<(), End> {
        match self.consumer.poll(wait) {
            None | Some(Err(KafkaError::PartitionEOF(_))) => Ok(()),
            // Acted upon by the loop: a message that is being handed over must not be lost over it.
            Some(Err(KafkaError::MessageConsumptionFatal(RDKafkaErrorCode::FencedInstanceId))) => {
                self.fenced = true;
                Ok(())
            }
            Some(Err(KafkaError::MessageConsumptionFatal(code))) => {
                Err(End::Failed(IngestError::Fatal(code.to_string())))
            }
            Some(Err(error)) => {
                tracing::debug!(%error, "kafka consumer error");
                Ok(())
            }
            // Queues are cut off before assignments, so this cannot be; if it is, nothing may be lost: read it again.
            Some(Ok(stray)) => {
                drop(stray);
                tracing::warn!("a message strayed to the consumer queue; assigning again");
                self.reassign()
            }
        }
    }

    fn act_on_events(&mut self) -> Result<(), End> {
        while let Some(happened) = self.consumer.context().take() {
            match happened {
                Happened::Assigned(sources) => self.assigned(sources)?,
                Happened::Revoked(sources) => self.revoked(sources)?,
                Happened::AssignFailed(reason) => return Err(IngestError::Fatal(reason).into()),
                Happened::Trouble(reason) => self.trouble = reason,
                Happened::Health(health) => {
                    self.unreachable = if health.reachable { 0 } else { self.unreachable + 1 };
                    self.health = health;
                    let reason = std::mem::take(&mut self.trouble);
                    if self.unreachable >= DOWN_AFTER {
                        self.set_down(true, &reason)?;
                    } else if self.unreachable == 0 {
                        match self.elsewhere() {
                            Some(reason) => self.set_down(true, &reason)?,
                            None => self.set_down(false, "connected")?,
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// Reads from the partition that lags most and has something to read; says whether there was one.
    fn read_one_batch(&mut self) -> Result<bool, End> {
        let loaded = self.loaded;
        let horizon = horizon(self.lanes.values().map(|lane| lane.standing(loaded)));
        let mut order: Vec<(Option<Timestamp>, &Source, &mut Lane)> = self
            .lanes
            .iter_mut()
            .filter(|(_, lane)| may_read(lane.standing(loaded), horizon))
            .map(|(source, lane)| (lane.partition.watermark(), source, lane))
            .collect();
        order.sort_by_key(|(watermark, _, _)| *watermark);
        let found = order.iter_mut().find_map(|(_, source, lane)| {
            let queue = lane.queue.as_mut()?;
            (queue.fill() > 0).then(|| (*source).clone())
        });
        let Some(source) = found else {
            return Ok(false);
        };
        if !Arc::ptr_eq(self.names.schema(), &self.schema.load()) {
            self.names = Arc::new(Names::new(self.schema.load_full()));
            for lane in self.lanes.values_mut() {
                lane.partition.set_names(Arc::clone(&self.names), self.config.limits.slices);
            }
        }
        self.read_lane(&source, horizon)?;
        Ok(true)
    }

    /// Records what is left of a lane's batch, up to the horizon.
    fn read_lane(&mut self, source: &Source, horizon: Option<Timestamp>) -> Result<(), End> {
        let wall = (self.wall)();
        while let Some(lane) = self.lanes.get_mut(source) {
            match record_some(lane, self.dead_letters.as_mut(), horizon, wall) {
                Progress::Out => return Ok(()),
                Progress::Due => self.hand_over(source)?,
                Progress::Replayed(position) => {
                    lane.partition.skip_to(position);
                    lane.replay_to = None;
                    self.hand_over(source)?;
                    self.say_loaded()?;
                    if !self.loaded {
                        return Ok(());
                    }
                }
                Progress::End(offset) => {
                    if lane.replay_to.is_some() {
                        // The log ends before the stored position: it is not the log that was read.
                        return self.gap(source);
                    }
                    lane.partition.skip_to(offset);
                    lane.at_end = true;
                }
                Progress::OutOfRange => return self.gap(source),
                Progress::Failed(reason) => {
                    tracing::debug!(reason, partition = source.partition, "fetching failed");
                    self.trouble = reason;
                }
            }
        }
        Ok(())
    }

    fn set_down(&mut self, down: bool, reason: &str) -> Result<(), End> {
        if self.down == down {
            return Ok(());
        }
        self.down = down;
        self.send(FromIngest::Connection { up: !down, reason: reason.to_owned() })
    }

    /// Waits about `times` × 20 ms, serving events, unless it is to stop.
    fn pause(&mut self, times: u32) -> Result<(), End> {
        for _ in 0..times {
            if self.wishes.stop.load(Ordering::Relaxed) {
                return Err(End::Stopped);
            }
            self.serve(Duration::from_millis(20))?;
        }
        Ok(())
    }

    /// Puts a message into the channel, serving events while it is full.
    fn send(&mut self, message: FromIngest) -> Result<(), End> {
        let mut message = message;
        loop {
            match self.sink.try_send(message) {
                Ok(()) => return Ok(()),
                Err(TrySendError::Closed(_)) => return Err(End::Stopped),
                Err(TrySendError::Full(back)) => message = back,
            }
            if self.wishes.stop.load(Ordering::Relaxed) {
                self.room_waits += 1;
                if self.room_waits > ROOM_WAITS_AT_STOP {
                    return Err(End::Stopped);
                }
            }
            self.serve(ROOM_WAIT)?;
        }
    }
}

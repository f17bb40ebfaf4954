//! The reader's thread: serve librdkafka's events, read the partition that lags most, hand over deltas.
//!
//! One loop, one owner of all state. Waits are bounded and short, so that events are served at least every second whatever
//! the channel, the brokers or the dead-letter topic do.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::{Offset, TopicPartitionList};
use tokio::sync::mpsc::Sender;
use tokio::sync::mpsc::error::TrySendError;

use super::batch::{Fetched, PartitionQueue, detach, high_watermark};
use super::config::Config;
use super::consumer::{FromIngest, Gap, GapReason, IngestError, Resume, Wall, Wishes};
use super::dead_letter::DeadLetters;
use super::fate::Fate;
use super::lane::{Lane, horizon, may_read};
use super::link::{Happened, Health, Link};
use super::names::Names;
use super::partition::{Partition, PartitionState, random_key};
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
            last_checkpoint: now,
            last_lag: now,
        })
    }

    /// Runs until stopped; the last message says how it ended.
    pub(super) fn run(mut self) {
        let result = match self.start().and_then(|()| self.read()) {
            Ok(()) | Err(End::Stopped) => self.hand_over_all(true),
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
        let known: BTreeMap<Source, i64> =
            self.states.iter().map(|(source, state)| (source.clone(), state.next)).collect();
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
        let topics: Vec<&str> = self.config.topics.iter().map(String::as_str).collect();
        self.consumer.subscribe(&topics).map_err(|error| End::Failed(error.into()))
    }

    fn read(&mut self) -> Result<(), End> {
        let mut wait = Duration::ZERO;
        loop {
            self.serve(wait)?;
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
                        self.set_down(false, "connected")?;
                    }
                }
            }
        }
        Ok(())
    }

    fn assigned(&mut self, sources: Vec<Source>) -> Result<(), End> {
        let now = (self.wall)();
        self.send(FromIngest::Assign(sources.clone()))?;
        for source in sources {
            let queue = PartitionQueue::take(&self.consumer, &source, self.config.batch);
            let lane = match self.lanes.remove(&source) {
                Some(lane) => lane,
                None => self.new_lane(&source, now),
            };
            self.lanes.insert(source, Lane { queue, at_end: false, ..lane });
        }
        self.assigned = true;
        self.say_loaded()
    }

    fn new_lane(&mut self, source: &Source, now: Timestamp) -> Lane {
        let (names, limits) = (Arc::clone(&self.names), self.config.limits);
        let position = self.positions.get(source).copied();
        let begin = self.begin.get(source).copied().or(position).unwrap_or(0);
        let partition = match self.states.remove(source) {
            Some(state) => Partition::import(state, names, limits),
            None => Partition::new(source.clone(), begin, random_key(), names, limits),
        };
        Lane::new(partition, position, now)
    }

    fn revoked(&mut self, sources: Vec<Source>) -> Result<(), End> {
        for source in &sources {
            self.hand_over(source)?;
            if let Some(lane) = self.lanes.get_mut(source) {
                lane.queue = None;
            }
        }
        self.send(FromIngest::Revoked(sources))
    }

    /// Assigns all partitions anew at the offsets where each goes on, after a gap.
    fn reassign(&mut self) -> Result<(), End> {
        let mut list = TopicPartitionList::new();
        for (source, lane) in self.lanes.iter_mut().filter(|(_, lane)| lane.queue.is_some()) {
            lane.queue = None;
            detach(&self.consumer, source);
            let next = Offset::Offset(lane.partition.next());
            list.add_partition_offset(&source.topic, source.partition, next)
                .map_err(|error| End::Failed(error.into()))?;
        }
        self.consumer.assign(&list).map_err(|error| End::Failed(error.into()))?;
        for source in super::link::sources(&list) {
            if let Some(lane) = self.lanes.get_mut(&source) {
                lane.queue = PartitionQueue::take(&self.consumer, &source, self.config.batch);
                lane.at_end = false;
            }
        }
        Ok(())
    }

    /// Reads from the partition that lags most and has something to read; says whether there was one.
    fn read_one_batch(&mut self) -> Result<bool, End> {
        let horizon = horizon(self.lanes.values().map(Lane::standing));
        let mut order: Vec<(Option<Timestamp>, &Source, &mut Lane)> = self
            .lanes
            .iter_mut()
            .filter(|(_, lane)| may_read(lane.standing(), horizon))
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

    /// What should come next is not in the log: says so and goes on at its start.
    fn gap(&mut self, source: &Source) -> Result<(), End> {
        self.hand_over(source)?;
        let (low, high) = match start::log_bounds(&self.consumer, source) {
            Ok(bounds) => bounds,
            Err(error) => {
                // The same error comes again from the queue once the broker answers.
                self.trouble = error.to_string();
                self.pause(10)?;
                return self.reassign();
            }
        };
        let Some(lane) = self.lanes.get_mut(source) else {
            return Ok(());
        };
        let next = lane.partition.next();
        let wanted = lane.replay_to.unwrap_or(next);
        if (low..=high).contains(&next) && wanted <= high {
            self.pause(5)?;
            return self.reassign();
        }
        let reason = if wanted > high { GapReason::LogRestarted } else { GapReason::Retention };
        lane.partition.jump_to(low);
        lane.replay_to = lane.replay_to.filter(|_| reason == GapReason::Retention && wanted > low);
        self.consumer.context().set_start(source, low);
        self.send(FromIngest::Gap(Gap { source: source.clone(), from: next, to: low, reason }))?;
        self.reassign()?;
        self.say_loaded()
    }

    /// Says that a source is at its end, at most every `idle_every`. What was read goes out first.
    fn idle(&mut self, source: &Source, at: Timestamp) -> Result<(), End> {
        let Some(lane) = self.lanes.get_mut(source) else {
            return Ok(());
        };
        let alive = self.health.alive.contains(source);
        if !alive || !lane.at_end || at.since(lane.last_idle) < self.config.idle_every {
            return Ok(());
        }
        lane.last_idle = at;
        self.hand_over(source)?;
        self.send(FromIngest::Idle { source: source.clone(), at })
    }

    /// What is due by the wall clock: deltas, idleness, lag, checkpoints, commits.
    fn tick(&mut self) -> Result<(), End> {
        let now = (self.wall)();
        let sources: Vec<Source> = self.lanes.keys().cloned().collect();
        for source in &sources {
            let Some(lane) = self.lanes.get_mut(source) else {
                continue;
            };
            let news = lane.partition.has_news();
            if news && now.since(lane.last_flush) >= self.config.flush_every {
                self.hand_over(source)?;
            } else if lane.at_end && lane.queue.as_mut().is_some_and(|queue| queue.fill() == 0) {
                self.idle(source, now)?;
            }
        }
        if now.since(self.last_lag) >= self.config.idle_every {
            self.last_lag = now;
            self.report_lag()?;
            self.commit_stored();
        }
        let asked = self.wishes.checkpoint.swap(false, Ordering::Relaxed);
        if asked || now.since(self.last_checkpoint) >= self.config.snapshot_every {
            self.last_checkpoint = now;
            self.hand_over_all(false)?;
        }
        Ok(())
    }

    /// Hands over everything of all partitions and then their states: a consistent cut.
    fn hand_over_all(&mut self, stopping: bool) -> Result<(), End> {
        let sources: Vec<Source> = self.lanes.keys().cloned().collect();
        for source in &sources {
            self.hand_over(source)?;
        }
        // While replaying, the cut would lie before the stored position: the snapshot that is there is as good.
        if self.lanes.values().any(|lane| lane.replay_to.is_some()) || (stopping && !self.loaded) {
            return Ok(());
        }
        let states = self.lanes.values().map(|lane| lane.partition.export()).collect();
        self.send(FromIngest::Checkpoint(states))
    }

    /// Hands over what a partition has recorded, once its dead letters are delivered.
    fn hand_over(&mut self, source: &Source) -> Result<(), End> {
        let now = (self.wall)();
        let mut lost = 0;
        while let Some(letters) = &mut self.dead_letters {
            lost += letters.take_lost();
            if !letters.pending(Duration::from_millis(2)) {
                lost += letters.take_lost();
                break;
            }
            self.serve(Duration::ZERO)?;
        }
        let Some(lane) = self.lanes.get_mut(source) else {
            return Ok(());
        };
        lane.last_flush = now;
        if !lane.partition.has_news() && !lane.partition.is_due() && lost == 0 {
            return Ok(());
        }
        let (delta, mut counters) = lane.partition.take_delta();
        counters.dead_letters_lost = lost;
        self.consumer.context().set_start(source, delta.to);
        self.send(FromIngest::Delta(delta, Box::new(counters)))
    }

    fn say_loaded(&mut self) -> Result<(), End> {
        let replaying = self.lanes.values().any(|lane| lane.replay_to.is_some());
        if self.loaded || !self.assigned || replaying {
            return Ok(());
        }
        self.loaded = true;
        self.send(FromIngest::Loaded)
    }

    fn report_lag(&mut self) -> Result<(), End> {
        let lag = |(source, lane): (&Source, &Lane)| {
            lane.queue.as_ref()?;
            let high = high_watermark(&self.consumer, source)?;
            Some((source.clone(), (high - lane.partition.next()).max(0)))
        };
        let lags: Vec<_> = self.lanes.iter().filter_map(lag).collect();
        if lags.is_empty() {
            return Ok(());
        }
        self.send(FromIngest::Lag(lags))
    }

    fn commit_stored(&mut self) {
        let mut stored = self.wishes.stored.lock().unwrap_or_else(PoisonError::into_inner);
        let stored = std::mem::take(&mut *stored);
        let mut list = TopicPartitionList::new();
        for (source, offset) in stored {
            let ours = self.lanes.get(&source).is_some_and(|lane| lane.queue.is_some());
            if ours {
                // Only a negative offset fails; lag tools can do without.
                let _ = list.add_partition_offset(&source.topic, source.partition, Offset::Offset(offset));
            }
        }
        if list.count() > 0
            && let Err(error) = self.consumer.commit(&list, CommitMode::Async)
        {
            tracing::debug!(%error, "committing offsets for lag tools failed");
        }
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

/// Why recording a lane's batch paused.
enum Progress {
    /// The batch is used up, or the horizon is reached.
    Out,
    /// A delta is due.
    Due,
    /// The stored position is reached.
    Replayed(i64),
    /// The end of the log.
    End(i64),
    OutOfRange,
    Failed(String),
}

/// The hot path: records messages until something else is to be done.
fn record_some(
    lane: &mut Lane,
    mut dead_letters: Option<&mut DeadLetters>,
    horizon: Option<Timestamp>,
    wall: Timestamp,
) -> Progress {
    let Some(queue) = &mut lane.queue else {
        return Progress::Out;
    };
    while let Some(offset) = queue.peek() {
        if let Some(position) = lane.replay_to.filter(|position| offset >= *position) {
            return Progress::Replayed(position);
        }
        let message = match queue.take_next() {
            Some(Fetched::Message(message)) => message,
            Some(Fetched::End(offset)) => return Progress::End(offset),
            Some(Fetched::OutOfRange) => return Progress::OutOfRange,
            Some(Fetched::Failed(code)) => return Progress::Failed(code.to_string()),
            None => return Progress::Out,
        };
        lane.at_end = false;
        if offset < lane.partition.next() {
            continue;
        }
        let fate = lane.partition.record(message.payload(), offset, wall);
        if matches!(fate, Fate::DeadLetter(_) | Fate::Refused(_))
            && lane.replay_to.is_none()
            && let Some(letters) = dead_letters.as_deref_mut()
        {
            letters.send(&message, lane.partition.source(), fate);
        }
        if lane.partition.is_due() {
            return Progress::Due;
        }
        let ahead = |horizon| lane.partition.watermark().is_some_and(|watermark| watermark > horizon);
        if horizon.is_some_and(ahead) {
            return Progress::Out;
        }
    }
    Progress::Out
}

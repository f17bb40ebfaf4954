//! Assignments: lanes opened, given up and assigned anew; what a hole in the log means.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{Offset, TopicPartitionList};

use super::{End, Reader};
use crate::engine::input::Source;
use crate::ingest::batch::{PartitionQueue, detach};
use crate::ingest::consumer::{FromIngest, Gap, GapReason, IngestError};
use crate::ingest::lane::Lane;
use crate::ingest::link::Link;
use crate::ingest::partition::{Partition, random_key};
use crate::ingest::{link, start};
use crate::model::time::Timestamp;

/// A member that is fenced more often than this (wall time) is not alone under its name.
const RENEWALS_APART: Duration = Duration::from_secs(60);

impl Reader {
    pub(super) fn assigned(&mut self, sources: Vec<Source>) -> Result<(), End> {
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

    /// Which partitions are not ours, once any have been: judging without them would be judging a part of the events.
    pub(super) fn elsewhere(&self) -> Option<String> {
        let ours = |source: &&Source| self.lanes.get(*source).is_some_and(|lane| lane.queue.is_some());
        let missing: Vec<String> = self
            .begin
            .keys()
            .filter(|source| !ours(source))
            .map(|source| format!("{}/{}", source.topic, source.partition))
            .collect();
        (self.assigned && !missing.is_empty()).then(|| {
            let (group, missing) = (&self.config.group, missing.join(", "));
            format!("{missing}: another member of the consumer group `{group}` has them, or they are being handed over")
        })
    }

    pub(super) fn new_lane(&mut self, source: &Source, now: Timestamp) -> Lane {
        let (names, limits) = (Arc::clone(&self.names), self.config.limits);
        let position = self.positions.get(source).copied();
        // Without a state reading begins where the policy for a first start says, and goes through the position.
        let begin = self.begin.get(source).copied().unwrap_or(0);
        let partition = match self.states.remove(source) {
            Some(state) => Partition::import(state, names, limits),
            None => Partition::new(source.clone(), begin, random_key(), names, limits),
        };
        Lane::new(partition, position, now)
    }

    pub(super) fn revoked(&mut self, sources: Vec<Source>) -> Result<(), End> {
        for source in &sources {
            self.hand_over(source)?;
            if let Some(lane) = self.lanes.get_mut(source) {
                lane.queue = None;
            }
        }
        self.send(FromIngest::Revoked(sources))
    }

    /// Goes on with a new client where the fenced one stood.
    ///
    /// Brokers fence a static member when another process joins under its name, and also when a request of its own comes from
    /// before it had to join again, as after an outage longer than the session. The second is no reason to stop. Two processes
    /// under one name fence each other again and again: then this one gives way.
    pub(super) fn renew(&mut self) -> Result<(), End> {
        let now = (self.wall)();
        let again = self.last_renewal.is_some_and(|last| now.since(last) < RENEWALS_APART);
        if again {
            let instance = self.config.instance.as_deref().unwrap_or_default();
            let why = format!("another process is in the consumer group under the name `{instance}`");
            return Err(IngestError::Fatal(why).into());
        }
        tracing::warn!("the broker has fenced this member of the consumer group; joining anew");
        self.last_renewal = Some(now);
        self.fenced = false;
        let config = self.config.consumer().map_err(IngestError::from)?;
        let consumer =
            BaseConsumer::from_config_and_context(&config, Link::default()).map_err(IngestError::from)?;
        for (source, begin) in &self.begin {
            consumer.context().set_start(source, *begin);
        }
        for (source, lane) in &mut self.lanes {
            lane.queue = None;
            lane.at_end = false;
            consumer.context().set_start(source, lane.partition.next());
        }
        self.consumer = Arc::new(consumer);
        self.subscribe()
    }

    /// Assigns all partitions anew at the offsets where each goes on, after a gap.
    pub(super) fn reassign(&mut self) -> Result<(), End> {
        let mut list = TopicPartitionList::new();
        for (source, lane) in self.lanes.iter_mut().filter(|(_, lane)| lane.queue.is_some()) {
            lane.queue = None;
            detach(&self.consumer, source);
            let next = Offset::Offset(lane.partition.next());
            list.add_partition_offset(&source.topic, source.partition, next)
                .map_err(|error| End::Failed(error.into()))?;
        }
        self.consumer.assign(&list).map_err(|error| End::Failed(error.into()))?;
        for source in link::sources(&list) {
            if let Some(lane) = self.lanes.get_mut(&source) {
                lane.queue = PartitionQueue::take(&self.consumer, &source, self.config.batch);
                lane.at_end = false;
            }
        }
        Ok(())
    }

    /// What should come next is not in the log: says so and goes on at its start.
    pub(super) fn gap(&mut self, source: &Source) -> Result<(), End> {
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
}

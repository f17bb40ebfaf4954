//! The outbox worker: claims rows, carries them out, reads back, records, tells the engine.
//!
//! In: rows that were committed with their decision. Out: verified effects, outcomes in the store, [`Answer`]s for the engine.
//! Flips have their own crew and receivers their own places, so that a slow receiver delays neither a flip nor another
//! receiver. A row is acted upon only while its lease lasts; HTTP time-outs end before it does. Crash anywhere: the lease runs
//! out, the next claim reads back first.

mod flip;
mod tell;

pub(super) use tell::told_flip;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rand::RngExt;
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use super::failure::Failure;
use super::flag::FlagPlatform;
use super::receiver::Receiver;
use super::siren::Siren;
use super::template::Templates;
use crate::clock::{Clock, Stopwatch};
use crate::engine::budget;
use crate::engine::input::Answer;
use crate::model::time::Timestamp;
use crate::store::{OutboxRow, RowKind, Store, StoreError, Task as Work};
use crate::supervise::{Crew, Fatal, OnError, Supervisor, Task, TaskError};
use crate::telemetry::facts::{Attempted, OutboxMeasured};
use crate::telemetry::record;

/// Bounds of the worker. Times are real time unless they say otherwise.
#[derive(Clone, Debug)]
pub struct WorkerSettings {
    /// Stored with each claim, for diagnosis.
    pub worker: u64,
    /// How often the outbox is asked when nobody wakes the worker.
    pub poll: Duration,
    /// How long a claimed row belongs to this worker.
    pub lease: Duration,
    /// The longest that one attempt may take; always less than what is left of the lease.
    pub attempt: Duration,
    /// Flips carried out at once.
    pub flips: usize,
    /// Messages under way at once to one receiver.
    pub per_receiver: usize,
    /// Receivers that get a page which its own receiver refused, or did not take within `second_after` of virtual time.
    pub second_channel: Vec<String>,
    pub second_after: Duration,
    /// A notice of a pause waits for its flip at most this long (virtual time).
    pub notice_after: Duration,
    /// Where people read an incident, with `{incident}` for its id, e.g. `https://ops.example.com/incidents/{incident}`.
    /// Without it a page links to the rule's runbook.
    pub link: Option<String>,
    /// The operator's own texts.
    pub templates: Arc<Templates>,
}

impl Default for WorkerSettings {
    fn default() -> Self {
        Self {
            worker: u64::from(std::process::id()),
            poll: budget::POLL,
            lease: budget::LEASE,
            attempt: budget::ATTEMPT,
            flips: 32,
            per_receiver: 4,
            second_channel: Vec::new(),
            second_after: budget::SECOND_CHANNEL,
            notice_after: Duration::from_secs(120),
            link: None,
            templates: Arc::default(),
        }
    }
}

/// How many rows one claim takes.
const BATCH: u32 = 32;

/// A claimed message whose receiver has no free place goes back for this long (real time).
const BUSY: Duration = Duration::from_millis(500);

/// An answer not taken in by the engine for this long (real time) is sent again.
const REMIND: Duration = Duration::from_secs(30);

/// How often the outbox is measured and answers are looked after (real time).
const HOUSEKEEPING: Duration = Duration::from_secs(5);

/// A database that has not answered for this long (real time) pages by a path that needs none.
const SHOUT_AFTER: Duration = Duration::from_secs(60);

/// Carries out the outbox.
pub struct Worker {
    store: Store,
    clock: Clock,
    settings: WorkerSettings,
    platforms: BTreeMap<String, Arc<dyn FlagPlatform>>,
    receivers: BTreeMap<String, Place>,
    answers: mpsc::Sender<Answer>,
    siren: Siren,
    wake: Arc<Notify>,
    /// Decisions whose pages have been told that the promised time is over.
    overdue: Mutex<BTreeSet<String>>,
}

/// A receiver and how many messages to it may be under way.
struct Place {
    receiver: Arc<dyn Receiver>,
    free: Arc<Semaphore>,
}

impl Worker {
    /// A worker for these platforms and receivers, each under its name in outbox rows. `answers` leads to the engine.
    pub fn new(
        store: Store,
        clock: Clock,
        settings: WorkerSettings,
        platforms: Vec<Arc<dyn FlagPlatform>>,
        receivers: Vec<Arc<dyn Receiver>>,
        siren: Siren,
        answers: mpsc::Sender<Answer>,
    ) -> Self {
        let places = settings.per_receiver.max(1);
        Self {
            store,
            clock,
            platforms: platforms.into_iter().map(|platform| (platform.name().to_owned(), platform)).collect(),
            receivers: receivers
                .into_iter()
                .map(|receiver| {
                    let name = receiver.name().to_owned();
                    let free = Arc::new(Semaphore::new(places));
                    (name, Place { receiver, free })
                })
                .collect(),
            settings,
            answers,
            siren,
            wake: Arc::new(Notify::new()),
            overdue: Mutex::new(BTreeSet::new()),
        }
    }

    /// Notify it after each commit that may have added rows; without that the worker finds them at its next poll.
    pub fn waker(&self) -> Arc<Notify> {
        Arc::clone(&self.wake)
    }

    /// Starts the worker's task.
    pub fn spawn(self, supervisor: &Supervisor) {
        let worker = Arc::new(self);
        let task = Task {
            name: "dispatch",
            on_error: OnError::Restart { first: Duration::from_millis(200), most: Duration::from_secs(5) },
            drain: worker.settings.attempt + Duration::from_secs(2),
        };
        supervisor.spawn(task, move |stop| Arc::clone(&worker).run(stop));
    }

    /// Works until told to stop, then finishes what is under way.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) -> Result<(), TaskError> {
        let mut flips = Crew::new("dispatch-flip", self.settings.flips);
        let mut messages = Crew::new("dispatch-message", usize::MAX);
        let mut chores = tokio::time::interval(HOUSEKEEPING);
        let mut down: Option<Stopwatch> = None;
        while !stop.is_cancelled() {
            match self.round(&mut flips, &mut messages).await {
                Ok(full) => {
                    down = None;
                    if full {
                        continue;
                    }
                }
                // Another process acts now; beside it this one must not.
                Err(error @ StoreError::Fenced { .. }) => return Err(Fatal(error.into()).into()),
                Err(error) => self.store_is_down(&mut down, &error).await,
            }
            tokio::select! {
                () = stop.cancelled() => {}
                () = self.wake.notified() => {}
                () = self.clock.sleep_real(self.settings.poll) => {}
                () = flips.next_end() => {}
                () = messages.next_end() => {}
                _ = chores.tick() => self.chores().await,
            }
        }
        flips.finish().await;
        messages.finish().await;
        Ok(())
    }

    /// One claim; whether there may be more to claim at once.
    async fn round(self: &Arc<Self>, flips: &mut Crew, messages: &mut Crew) -> Result<bool, StoreError> {
        let lease = self.clock.virtual_span(self.settings.lease);
        let now = self.clock.now();
        let rows = self.store.claim(self.settings.worker, now, lease, BATCH).await?;
        let full = rows.len() >= BATCH as usize;
        for row in rows {
            let worker = Arc::clone(self);
            match row.kind {
                RowKind::Flip => flips.start(async move { worker.carry_out(row).await }).await,
                RowKind::Page | RowKind::Notify | RowKind::Publish => {
                    let Some(place) = self.receivers.get(&row.adapter) else {
                        messages.start(async move { worker.no_receiver(row).await }).await;
                        continue;
                    };
                    match Arc::clone(&place.free).try_acquire_owned() {
                        Ok(permit) => {
                            let receiver = Arc::clone(&place.receiver);
                            messages
                                .start(async move {
                                    worker.tell(row, receiver).await;
                                    drop(permit);
                                })
                                .await;
                        }
                        Err(_) => self.postpone(&row).await?,
                    }
                }
            }
        }
        Ok(full)
    }

    async fn postpone(&self, row: &OutboxRow) -> Result<(), StoreError> {
        self.store.postpone(row, self.clock.now() + self.clock.virtual_span(BUSY)).await
    }

    async fn store_is_down(&self, down: &mut Option<Stopwatch>, error: &StoreError) {
        let since = *down.get_or_insert_with(|| self.clock.stopwatch());
        record(&Attempted {
            adapter: "outbox",
            target: "claim",
            result: "retryable",
            took: Duration::ZERO,
            why: &error.to_string(),
        });
        if since.elapsed() >= SHOUT_AFTER {
            self.siren
                .sound(
                    "rearguard/database",
                    "Rearguard cannot reach its database: no rollback and no page can be carried out",
                    &error.to_string(),
                    self.clock.now(),
                )
                .await;
        }
    }

    /// Measures the outbox, and reminds the engine of answers that it has not taken in.
    async fn chores(&self) {
        let now = self.clock.now();
        if let Ok(stats) = self.store.outbox_stats(now).await {
            let mut rows: BTreeMap<&'static str, u64> = STATUSES.iter().map(|status| (*status, 0)).collect();
            for count in &stats.counts {
                if let Some(known) = STATUSES.iter().find(|status| **status == count.status) {
                    *rows.entry(known).or_default() += count.rows;
                }
            }
            record(&OutboxMeasured { oldest: stats.age(now), rows: &rows.into_iter().collect::<Vec<_>>() });
        }
        let patience = self.clock.virtual_span(REMIND);
        for answer in self.store.unanswered().await.unwrap_or_default() {
            if now.since(answer.at) >= patience {
                // A full channel is an engine that is busy; the next round reminds it again.
                self.answers.try_send(answer).ok();
            }
        }
    }

    /// The real time that an attempt may take: what is left of the lease, less a margin to record the result in.
    fn within(&self, row: &OutboxRow) -> Duration {
        let left = self.clock.real_span(row.lease_until.since(self.clock.now()));
        (left * 4 / 5).min(self.settings.attempt)
    }

    fn chance(&self) -> f64 {
        rand::rng().random::<f64>()
    }

    fn attempted(&self, adapter: &'static str, target: &str, watch: Stopwatch, failure: Option<&Failure>) {
        record(&Attempted {
            adapter,
            target,
            result: failure.map_or("ok", Failure::result),
            took: watch.elapsed(),
            why: &failure.map(ToString::to_string).unwrap_or_default(),
        });
    }

    /// Records a result of the store that nobody can do anything about here: the row comes back when its lease runs out.
    fn recorded(&self, row: &OutboxRow, result: Result<(), StoreError>) -> bool {
        match result {
            Ok(()) => true,
            Err(error) => {
                record(&Attempted {
                    adapter: "outbox",
                    target: &row.adapter,
                    result: "retryable",
                    took: Duration::ZERO,
                    why: &error.to_string(),
                });
                false
            }
        }
    }
}

const STATUSES: [&str; 7] = ["pending", "claimed", "standing", "done", "failed", "expired", "superseded"];

/// The moment at which a row stops being promised and becomes late, if it has one.
fn is_late(row: &OutboxRow, now: Timestamp) -> bool {
    row.deadline.is_some_and(|deadline| now >= deadline)
}

/// A row of a kind that its task does not belong to cannot be carried out.
fn mismatch(work: &Work) -> String {
    let what = match work {
        Work::Flip(_) => "a flip",
        Work::Message(_) => "a message",
        Work::Publish(_) => "a decision to publish",
    };
    format!("the row holds {what}, which does not belong to its kind")
}

#[cfg(test)]
mod tests;

//! The engine's loop: takes inputs one after the other, stores what follows from them in one transaction, and only then lets
//! anybody act.
//!
//! In: deltas from ingest, commands, answers, reloads, ticks. Out: committed steps; the outbox worker is woken. While the
//! database does not answer, nothing is taken from ingest: offsets do not advance.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::canary::Committed;
use super::facts;
use super::restore::{Cut, config_hash};
use crate::clock::{Clock, Stopwatch};
use crate::dispatch::siren::Siren;
use crate::engine::explain::{Answer as Explained, NothingMeant, Question};
use crate::engine::input::{Answer, Command, CommandKind, DrillFrom, Input, Settings};
use crate::engine::machine::Engine;
use crate::engine::output::{CommandError, Output, Reply, Report};
use crate::engine::rollup::{HOUR, STORED_HOURS};
use crate::engine::schema::Schema;
use crate::ingest::consumer::{FromIngest, GapReason, Handle};
use crate::ingest::partition::PartitionState;
use crate::model::id::DecisionId;
use crate::model::time::Timestamp;
use crate::store::snapshot::Snapshots;
use crate::store::{
    NewAudit, PlanContext, Position, Routes, SourcePosition, StepRecord, Store, StoreError, Timing,
};
use crate::supervise::TaskError;
use crate::telemetry::facts::{ArmedChanged, InvariantBroken, SnapshotMeasured, SourceMeasured};
use crate::telemetry::record;

/// Inputs taken into one commit at most.
const BATCH: usize = 64;
/// Without news a position is stored this often (real time).
const STORE_EVERY: Duration = Duration::from_secs(10);
/// While minutes close quickly, as in catching up, they are stored this often (real time).
const CLOSED_EVERY: Duration = Duration::from_secs(1);
/// The report for status pages is made anew this often at most (real time).
const REPORT_EVERY: Duration = Duration::from_millis(250);
/// The database is asked whether it is still ours this often (real time).
const CHECK_EVERY: Duration = Duration::from_secs(5);
/// History is cut this often (real time).
const PRUNE_EVERY: Duration = Duration::from_secs(3600);
/// Finished messages and transitions are kept this long (virtual time). Decisions, incidents and the audit chain stay.
const HISTORY: Duration = Duration::from_secs(90 * 24 * 3600);
/// A database that has not taken a commit for this long (real time) pages by a path that needs none.
const SHOUT_AFTER: Duration = Duration::from_secs(60);
/// Asking whether the database is still ours may take this long (real time): nothing is judged meanwhile.
const CHECK_WITHIN: Duration = Duration::from_secs(2);

/// What others ask of the loop.
pub enum Request {
    Command(Command, oneshot::Sender<Result<Reply, CommandError>>),
    Reload(Box<Settings>),
    Explain(Question, oneshot::Sender<Result<Explained, NothingMeant>>),
}

/// Where inputs come from.
pub struct Inlets {
    pub ingest: mpsc::Receiver<FromIngest>,
    pub requests: mpsc::Receiver<Request>,
    pub answers: mpsc::Receiver<Answer>,
}

/// Where news goes to.
pub struct Outlets {
    pub store: Store,
    pub snapshots: Snapshots,
    pub waker: Arc<Notify>,
    pub report: Arc<ArcSwap<Report>>,
    pub committed: Committed,
    /// What ingest records; swapped by a reload.
    pub schema: Arc<ArcSwap<Schema>>,
    pub siren: Siren,
}

/// The loop and all that it owns.
pub struct Core {
    pub engine: Engine,
    pub clock: Clock,
    pub tick: Duration,
    pub routes: Routes,
    pub timing: Timing,
    /// The number of the last input.
    pub seq: u64,
    /// Event time from which events are read at the very first start.
    pub start: Option<Timestamp>,
    pub reader: Handle,
    /// When this process wrote its newest snapshot, and how many bytes it has.
    pub newest: Option<(Stopwatch, u64)>,
    pub inlets: Inlets,
    pub outlets: Outlets,
}

type Said = Result<Reply, CommandError>;
type Pending = (oneshot::Sender<Said>, Said);

/// Steps that are not stored yet.
#[derive(Default)]
struct Batch {
    outputs: Vec<Output>,
    replies: Vec<Pending>,
    answered: Vec<DecisionId>,
    automation: Option<bool>,
    audit: Vec<NewAudit>,
    checkpoint: Option<Vec<PartitionState>>,
    /// Something that must not wait.
    urgent: bool,
    closed: bool,
    stopped: Option<Result<(), String>>,
}

/// One thing taken from the inlets.
enum Taken {
    Ingest(FromIngest),
    Request(Request),
    Answer(Answer),
    Tick,
}

impl Core {
    /// Runs until told to stop; then hands over what ingest still has, stores it, and makes a last snapshot.
    pub async fn run(mut self, stop: CancellationToken) -> Result<(), TaskError> {
        let mut batch = Batch::default();
        let mut stored = self.clock.stopwatch();
        let mut reported = self.clock.stopwatch();
        let mut checked = self.clock.stopwatch();
        let mut pruned = self.clock.stopwatch();
        let mut ticks = tokio::time::interval(self.clock.real_span(self.tick));
        let mut stopping = false;
        for answer in self.outlets.store.unanswered().await? {
            self.take(Taken::Answer(answer), &mut batch);
        }
        loop {
            let taken = tokio::select! {
                biased;
                () = stop.cancelled(), if !stopping => {
                    stopping = true;
                    self.reader.stop();
                    continue;
                }
                Some(request) = self.inlets.requests.recv() => Taken::Request(request),
                Some(answer) = self.inlets.answers.recv() => Taken::Answer(answer),
                _ = ticks.tick() => Taken::Tick,
                Some(message) = self.inlets.ingest.recv() => Taken::Ingest(message),
            };
            self.take(taken, &mut batch);
            self.take_more(&mut batch);
            if self.is_due(&batch, &stored) {
                self.store(&mut batch, &mut stored).await?;
            }
            if reported.elapsed() >= REPORT_EVERY {
                self.publish();
                reported = self.clock.stopwatch();
            }
            if checked.elapsed() >= CHECK_EVERY {
                self.check().await?;
                checked = self.clock.stopwatch();
            }
            if pruned.elapsed() >= PRUNE_EVERY {
                self.prune().await;
                pruned = self.clock.stopwatch();
            }
            if let Some(ended) = batch.stopped.take() {
                self.store(&mut batch, &mut stored).await?;
                return ended.map_err(Into::into);
            }
        }
    }

    /// Takes what is waiting, so that one commit covers it.
    fn take_more(&mut self, batch: &mut Batch) {
        for _ in 0..BATCH {
            if batch.checkpoint.is_some() || batch.stopped.is_some() {
                return;
            }
            if let Ok(request) = self.inlets.requests.try_recv() {
                self.take(Taken::Request(request), batch);
            } else if let Ok(answer) = self.inlets.answers.try_recv() {
                self.take(Taken::Answer(answer), batch);
            } else if let Ok(message) = self.inlets.ingest.try_recv() {
                self.take(Taken::Ingest(message), batch);
            } else {
                return;
            }
        }
    }

    fn take(&mut self, taken: Taken, batch: &mut Batch) {
        match taken {
            Taken::Tick => self.step(Input::Advance(self.clock.now()), batch),
            Taken::Answer(answer) => {
                batch.answered.push(answer.decision.clone());
                batch.urgent = true;
                self.step(Input::Answer(answer), batch);
            }
            Taken::Request(Request::Reload(settings)) => {
                self.outlets.schema.store(Arc::clone(&settings.schema));
                batch.urgent = true;
                self.step(Input::Reload(settings), batch);
            }
            Taken::Request(Request::Command(command, reply)) => {
                if let CommandKind::Automation { on } = command.kind {
                    batch.automation = Some(on);
                    let word = if on { "on" } else { "off" };
                    let (actor, why) = (command.actor.as_str(), command.reason.as_str());
                    batch.audit.push(NewAudit::new(actor, "automation", word, why));
                }
                let drill = audited(&command);
                batch.urgent = true;
                self.step(Input::Command(command), batch);
                let said = batch.outputs.last_mut().and_then(|output| output.reply.take());
                batch.audit.extend(drill.filter(|_| matches!(said, Some(Ok(_)))));
                batch.replies.push((reply, said.unwrap_or_else(|| Ok(String::new().into()))));
            }
            Taken::Request(Request::Explain(asked, reply)) => {
                // Whoever asked may have gone.
                reply.send(self.engine.explain(&asked)).ok();
            }
            Taken::Ingest(message) => self.take_message(message, batch),
        }
    }

    fn take_message(&mut self, message: FromIngest, batch: &mut Batch) {
        match message {
            FromIngest::Assign(sources) => {
                self.step(Input::Assign { sources, start: self.start }, batch);
            }
            // Its partitions belong to somebody else now; they come back with the next assignment or never.
            FromIngest::Revoked(_) => {}
            FromIngest::Delta(delta, counters) => {
                if !self.engine.is_loading() {
                    facts::read(&delta, &counters);
                }
                if !delta.fates.balance() {
                    let detail = format!("{:?}: {:?}", delta.source, delta.fates);
                    record(&InvariantBroken { invariant: "fates", detail: &detail });
                }
                self.step(Input::Delta(delta), batch);
            }
            FromIngest::Idle { source, at } => self.step(Input::Idle { source, at }, batch),
            FromIngest::Gap(gap) => {
                let anew = gap.reason == GapReason::LogRestarted;
                let reason = gap.reason.as_str().to_owned();
                self.step(Input::Gap { source: gap.source, from: gap.from, to: gap.to, anew, reason }, batch);
            }
            FromIngest::Connection { up, reason } => self.step(Input::Connection { up, reason }, batch),
            FromIngest::Loaded => {
                self.engine.finish_loading();
                let settings = self.engine.settings().clone();
                self.step(Input::Reload(Box::new(settings)), batch);
            }
            FromIngest::Lag(lags) => {
                for (source, lag) in lags {
                    record(&SourceMeasured {
                        topic: &source.topic,
                        partition: source.partition,
                        lag: u64::try_from(lag).ok(),
                        watermark_delay: None,
                    });
                }
            }
            FromIngest::Checkpoint(states) => batch.checkpoint = Some(states),
            FromIngest::Stopped(ended) => {
                batch.stopped = Some(ended.map_err(|error| format!("ingest: {error}")));
            }
        }
    }

    fn step(&mut self, input: Input, batch: &mut Batch) {
        let was_armed = self.engine.why_not_armed();
        self.seq += 1;
        let output = self.engine.step(input);
        let now_armed = self.engine.why_not_armed();
        if was_armed.is_some() != now_armed.is_some() {
            let why = now_armed.as_ref().map(ToString::to_string).unwrap_or_default();
            record(&ArmedChanged { armed: now_armed.is_none(), why: &why });
        }
        if output.rebuilt > 0 {
            let detail = format!("{} totals were rebuilt from their panes", output.rebuilt);
            record(&InvariantBroken { invariant: "totals", detail: &detail });
        }
        batch.closed |= output.closed.is_some();
        batch.urgent |= !output.decisions.is_empty()
            || !output.orders.is_empty()
            || !output.latches.is_empty()
            || !output.transitions.is_empty();
        batch.outputs.push(output);
    }

    fn is_due(&self, batch: &Batch, stored: &Stopwatch) -> bool {
        let waited = stored.elapsed();
        batch.urgent
            || batch.checkpoint.is_some()
            || batch.stopped.is_some()
            || (batch.closed && waited >= CLOSED_EVERY)
            || waited >= STORE_EVERY
    }

    /// One transaction for all steps of the batch, then everything that had to wait for it.
    async fn store(&mut self, batch: &mut Batch, stored: &mut Stopwatch) -> Result<(), TaskError> {
        // Also while panes are being restored: that moves no position and judges nothing, so what is stored is what was stored,
        // and the page about a broker that is away at the start, or a command, need not wait for the broker.
        let done = std::mem::take(batch);
        self.commit(&done).await?;
        self.outlets.waker.notify_one();
        let positions = self.engine.memory().core.sources.positions();
        self.reader.stored(positions.map(|(source, next, _, _)| (source.clone(), next)));
        *stored = self.clock.stopwatch();
        self.outlets.committed.store(Arc::new(Some(*stored)));
        facts::committed(&done.outputs);
        for (reply, said) in done.replies {
            // Whoever asked may have gone.
            reply.send(said).ok();
        }
        if let Some(states) = done.checkpoint {
            self.snapshot(states).await?;
        }
        batch.stopped = done.stopped;
        Ok(())
    }

    async fn commit(&mut self, done: &Batch) -> Result<(), TaskError> {
        let rows = self.engine.changed_rows();
        let rollups = self.engine.changed_rollups();
        let core = &self.engine.memory().core;
        let sources = core.sources.positions().map(|(source, next_offset, watermark, fates)| {
            SourcePosition { source: source.clone(), next_offset, watermark, fates: *fates }
        });
        let position =
            Position { sources: sources.collect(), event_time: core.sources.now(), closed: core.closed };
        let flags = &self.engine.settings().flags;
        let context = PlanContext { routes: &self.routes, timing: self.timing, flags };
        let now = self.clock.now();
        let mut step = StepRecord::new(self.seq, now, &done.outputs, &rows, position, &context);
        step.automation = done.automation;
        step.answered = done.answered.clone();
        step.audit = done.audit.clone();
        step.rollups = rollups;
        let waiting = self.clock.stopwatch();
        loop {
            match self.answer_or_shout(self.outlets.store.commit(&step)).await {
                Ok(_) => return Ok(()),
                Err(error) if error.is_transient() => self.database_is_down(&waiting, &error).await,
                // Whoever has taken the database over acts and pages now; nothing is lost.
                Err(error @ StoreError::Fenced { .. }) => return Err(error.into()),
                Err(error) => {
                    self.shout(&error.to_string()).await;
                    return Err(error.into());
                }
            }
        }
    }

    /// Waits for the database; one that hangs instead of failing is paged about, too.
    async fn answer_or_shout<T>(&self, asking: impl Future<Output = T>) -> T {
        let mut asking = std::pin::pin!(asking);
        loop {
            tokio::select! {
                answer = &mut asking => return answer,
                () = self.clock.sleep_real(SHOUT_AFTER) => self.shout("it does not answer").await,
            }
        }
    }

    async fn database_is_down(&self, waiting: &Stopwatch, error: &StoreError) {
        tracing::warn!(%error, "the database did not take a commit; nothing is read until it does");
        if waiting.elapsed() >= SHOUT_AFTER {
            self.shout(&error.to_string()).await;
        }
        self.clock.sleep_real(Duration::from_millis(500)).await;
    }

    async fn shout(&self, why: &str) {
        let summary = "Rearguard cannot write to its database: no rollback and no page can be carried out";
        self.outlets.siren.sound("rearguard/database", summary, why, self.clock.now()).await;
    }

    /// Writes a snapshot of what has just been stored. A snapshot that fails costs a longer restart, nothing else.
    async fn snapshot(&mut self, readers: Vec<PartitionState>) -> Result<(), TaskError> {
        let watch = self.clock.stopwatch();
        let payload = postcard::to_stdvec(&Cut { engine: self.engine.snapshot()?, readers })?;
        let bytes = payload.len() as u64;
        let (snapshots, seq) = (self.outlets.snapshots.clone(), self.seq);
        let written =
            tokio::task::spawn_blocking(move || snapshots.write(seq, &config_hash(), &payload)).await?;
        match written {
            Ok(_) => self.newest = Some((self.clock.stopwatch(), bytes)),
            Err(error) => tracing::error!(%error, "no snapshot could be written"),
        }
        tracing::debug!(bytes, took_s = watch.elapsed().as_secs_f64(), "snapshot");
        Ok(())
    }

    fn publish(&self) {
        let report = self.engine.report();
        facts::standing(&report, self.clock.now());
        if let Some((since, bytes)) = self.newest {
            record(&SnapshotMeasured { age: since.elapsed(), bytes });
        }
        self.outlets.report.store(Arc::new(report));
    }

    /// A failure costs disk space only; the next time is in an hour.
    async fn prune(&self) {
        match self.outlets.store.prune(self.clock.now() - HISTORY).await {
            Ok(rows) => tracing::debug!(rows, "old history forgotten"),
            Err(error) => tracing::warn!(%error, "old history could not be forgotten"),
        }
        let Some(closed) = self.engine.memory().core.closed else { return };
        let oldest = closed.0.div_euclid(HOUR) - STORED_HOURS;
        if let Err(error) = self.outlets.store.forget_rollups(oldest).await {
            tracing::warn!(%error, "old hourly roll-ups could not be forgotten");
        }
    }

    /// A lock that was lost must be noticed before the next write.
    async fn check(&self) -> Result<(), TaskError> {
        match tokio::time::timeout(CHECK_WITHIN, self.outlets.store.check()).await {
            // No answer is no news; a commit will tell.
            Ok(Ok(())) | Err(_) => Ok(()),
            Ok(Err(error)) if error.is_transient() => Ok(()),
            Ok(Err(error)) => Err(error.into()),
        }
    }
}

/// Who asked for a drill, where and why, for the audit log.
fn audited(command: &Command) -> Option<NewAudit> {
    let CommandKind::Drill { flag, from } = &command.kind else { return None };
    let from = match from {
        DrillFrom::Events => "events",
        DrillFrom::Decision => "the decision",
    };
    Some(NewAudit::new(&*command.actor, "drill", flag.as_str(), format!("from {from}: {}", command.reason)))
}

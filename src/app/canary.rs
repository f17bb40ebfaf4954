//! The canary's tasks: one writes canary events, one asks whether they came back and tells the dead-man's switch.
//!
//! They read what everybody may read, the engine's report and the outbox, and hold nothing up: the switch may hang, the
//! brokers may be away, and Rearguard goes on judging.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio_util::sync::CancellationToken;

use super::rules::instance;
use super::wiring;
use crate::clock::{Clock, Stopwatch};
use crate::config::{Config, PingMethod};
use crate::dispatch::client::{Outbound, Secret};
use crate::dispatch::deadman::{Deadman, Known, doubts};
use crate::engine::output::{CanaryReport, Report};
use crate::ingest::canary::Canaries;
use crate::model::canary::Standing;
use crate::model::time::Timestamp;
use crate::store::Store;
use crate::supervise::{OnError, Supervisor, Task, TaskError};
use crate::telemetry::facts::{CanaryMeasured, CanaryWritten, SwitchCalled, SwitchResult};
use crate::telemetry::record;

/// Rounds that are remembered; older ones prove nothing any more.
const ROUNDS: usize = 64;
/// The database may take this long to say how the outbox stands (real time).
const ASK_WITHIN: Duration = Duration::from_secs(5);
/// What a closing needs beyond the minute and the lateness: a tick, a commit, a report.
const MARGIN: Duration = Duration::from_secs(30);
/// The writer may have a round under way when told to stop.
const DRAIN: Duration = Duration::from_secs(2);

/// When the last commit was, as the engine's loop says.
pub type Committed = Arc<ArcSwap<Option<Stopwatch>>>;

/// What the judge of the canary reads.
pub struct Seen {
    pub clock: Clock,
    pub store: Store,
    pub report: Arc<ArcSwap<Report>>,
    pub committed: Committed,
    /// Where it tells how things stand.
    pub standing: Arc<ArcSwap<Standing>>,
}

/// What the writer has done.
#[derive(Debug, Default)]
struct Written {
    /// When rounds were written that every partition took, oldest first.
    rounds: VecDeque<Timestamp>,
    /// Why the last round was not.
    failed: Option<String>,
}

impl Written {
    fn note(&mut self, round: Result<Timestamp, String>) {
        match round {
            Ok(at) => {
                self.failed = None;
                self.rounds.push_back(at);
                if self.rounds.len() > ROUNDS {
                    self.rounds.pop_front();
                }
            }
            Err(why) => self.failed = Some(why),
        }
    }

    /// The newest round that a passing closing has in its panes: its minute is closed, and canaries of it or of later ones
    /// have been seen.
    fn proven(&self, seen: &CanaryReport) -> Option<Timestamp> {
        let upto = seen.newest.filter(|_| seen.passed)?.min(seen.closed);
        self.rounds.iter().rev().copied().find(|at| at.minute() <= upto)
    }
}

fn locked(written: &Mutex<Written>) -> MutexGuard<'_, Written> {
    written.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How old a canary may be that proves anything: two rounds may get lost, then the minute has to end and to close.
pub fn fresh(every: Duration, lateness: Duration) -> Duration {
    3 * every + Duration::from_secs(60) + lateness + MARGIN
}

/// Opens the switch.
///
/// # Errors
///
/// An address that is none, or whose host is not allowed.
pub fn open(config: &Config, outbound: &Outbound) -> anyhow::Result<Option<Deadman>> {
    let Some(canary) = &config.canary else { return Ok(None) };
    let secret = |url: &crate::config::Secret| Secret::new(url.expose());
    let (url, fail_url) = (secret(&canary.url), canary.fail_url.as_ref().map(secret));
    let post = canary.method == PingMethod::Post;
    let opened = Deadman::open(outbound, post, &url, fail_url.as_ref());
    opened.map(Some).map_err(|failure| anyhow::anyhow!("the switch of `canary`: {failure}"))
}

/// Starts both tasks, if there is a canary; where it is told how things stand.
pub fn spawn(
    config: &Config,
    switch: Option<Deadman>,
    seen: Seen,
    supervisor: &Supervisor,
) -> anyhow::Result<Option<Arc<ArcSwap<Standing>>>> {
    let Some((canary, switch)) = config.canary.as_ref().zip(switch) else { return Ok(None) };
    let standing = Arc::clone(&seen.standing);
    let written = Arc::new(Mutex::new(Written::default()));
    let ingest = wiring::ingest(config, seen.clock.now());
    let nonce = format!("{}-{}", std::process::id(), seen.clock.real_now().as_millis());
    let canaries = Canaries::new(&ingest, canary.topics.clone(), instance(config), nonce)?;
    let writer = Arc::new(Writer {
        canaries: Arc::new(Mutex::new(canaries)),
        clock: seen.clock,
        every: canary.every,
        written: Arc::clone(&written),
    });
    let fresh = fresh(canary.every, config.timing.lateness);
    let judge = Judge { started: seen.clock.now(), every: canary.every, fresh, written, switch, seen };
    let judge = Arc::new(tokio::sync::Mutex::new(judge));
    let on_error = OnError::Restart { first: Duration::from_secs(1), most: Duration::from_secs(60) };
    supervisor.spawn(Task { name: "canary-writer", on_error, drain: DRAIN }, move |stop| {
        let writer = Arc::clone(&writer);
        async move { writer.run(stop).await }
    });
    supervisor.spawn(Task { name: "dead-mans-switch", on_error, drain: DRAIN }, move |stop| {
        let judge = Arc::clone(&judge);
        async move { judge.lock().await.run(stop).await }
    });
    Ok(Some(standing))
}

struct Writer {
    canaries: Arc<Mutex<Canaries>>,
    clock: Clock,
    every: Duration,
    written: Arc<Mutex<Written>>,
}

impl Writer {
    async fn run(&self, stop: CancellationToken) -> Result<(), TaskError> {
        let mut rounds = tokio::time::interval(self.clock.real_span(self.every));
        rounds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                _ = rounds.tick() => {}
            }
            let (canaries, clock) = (Arc::clone(&self.canaries), self.clock);
            let round = tokio::task::spawn_blocking(move || {
                let now = clock.now();
                let sent = canaries.lock().unwrap_or_else(PoisonError::into_inner).send(now);
                sent.map(|partitions| (now, partitions))
            });
            let sent = tokio::select! {
                () = stop.cancelled() => return Ok(()),
                sent = round => sent?,
            };
            let said = sent.as_ref().map(|(_, partitions)| *partitions).map_err(ToString::to_string);
            record(&CanaryWritten { partitions: said.as_ref().map(|n| *n).map_err(String::as_str) });
            locked(&self.written).note(sent.map(|(at, _)| at).map_err(|error| error.to_string()));
        }
    }
}

struct Judge {
    started: Timestamp,
    every: Duration,
    fresh: Duration,
    written: Arc<Mutex<Written>>,
    switch: Deadman,
    seen: Seen,
}

impl Judge {
    async fn run(&mut self, stop: CancellationToken) -> Result<(), TaskError> {
        // The clock may be set by hand; the switch is called by a clock that only goes on.
        let mut turns = tokio::time::interval(self.seen.clock.real_span(self.every));
        turns.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                _ = turns.tick() => {}
            }
            let standing = self.look().await;
            self.tell(standing).await;
        }
    }

    async fn look(&self) -> Standing {
        let now = self.seen.clock.now();
        let asked = tokio::time::timeout(ASK_WITHIN, self.seen.store.outbox_stats(now)).await;
        let outbox = match asked {
            Ok(Ok(stats)) => Ok(stats.age(now)),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("no answer within {} s", ASK_WITHIN.as_secs())),
        };
        let report = self.seen.report.load();
        let canary = report.canary.as_ref();
        let (proven, not_sent) = {
            let written = locked(&self.written);
            (canary.and_then(|canary| written.proven(canary)), written.failed.clone())
        };
        let old = self.seen.standing.load();
        let known = Known {
            now,
            // What has been proven once stays so: only its age counts against it. Not the greater of both: the clock may have
            // been ahead.
            proven: proven.or(old.proven),
            verdict: canary.filter(|canary| !canary.passed).map(|canary| canary.verdict.clone()),
            not_sent,
            blind: report.why_not_armed.clone().filter(|_| !report.armed),
            committed: self.seen.committed.load().map(|watch| watch.elapsed()),
            outbox,
        };
        let doubts = doubts(&known, self.fresh);
        let since = known.proven.unwrap_or(self.started);
        record(&CanaryMeasured { age: now.since(since) });
        let starting = known.proven.is_none() && now.since(self.started) <= self.fresh;
        Standing { proven: known.proven, doubts, starting, ..Standing::clone(&old) }
    }

    /// Publishes how things stand, and calls the switch.
    async fn tell(&self, mut standing: Standing) {
        self.seen.standing.store(Arc::new(standing.clone()));
        let doubts = &standing.doubts;
        // While the first canary is on its way there is nothing to report as a failure either.
        if !self.switch.has_word(doubts) || standing.starting {
            let why = doubts.join("; ");
            record(&SwitchCalled { result: SwitchResult::Withheld, why: &why, starting: standing.starting });
            return;
        }
        let answer = self.switch.call(doubts).await;
        let why = match &answer {
            Ok(()) => doubts.join("; "),
            Err(failure) => failure.to_string(),
        };
        let result = match (&answer, doubts.is_empty()) {
            (Ok(()), true) => SwitchResult::Called,
            (Ok(()), false) => SwitchResult::ToldOfFailure,
            (Err(_), _) => SwitchResult::Refused,
        };
        record(&SwitchCalled { result, why: &why, starting: false });
        match answer {
            Ok(()) => (standing.called, standing.refused) = (Some(self.seen.clock.now()), None),
            Err(_) => standing.refused = Some(why),
        }
        self.seen.standing.store(Arc::new(standing));
    }
}

#[cfg(test)]
mod tests;

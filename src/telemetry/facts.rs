//! The facts: each struct is one log line and its metrics.

mod canary;

use std::time::Duration;

use metrics::{counter, gauge, histogram};
use tracing::{debug, error, info, warn};

use super::Fact;
use super::catalogue as name;
pub use canary::{CanaryMeasured, CanaryWritten, SwitchCalled, SwitchResult};

/// Counts of one offset range of one partition by fate: `consumed` and the fates that add up to it.
pub struct EventsCounted<'a> {
    pub topic: &'a str,
    pub partition: i32,
    /// (fate, events) pairs.
    pub fates: &'a [(&'static str, u64)],
}

impl Fact for EventsCounted<'_> {
    fn record(&self) {
        for &(fate, events) in self.fates {
            counter!(name::EVENTS, "topic" => self.topic.to_owned(), "partition" => self.partition.to_string(), "fate" => fate)
                .increment(events);
        }
    }
}

/// Events that could not be taken, by a reason from a fixed list.
pub struct EventsRefused {
    pub reason: &'static str,
    pub events: u64,
}

impl Fact for EventsRefused {
    fn record(&self) {
        counter!(name::REFUSALS, "reason" => self.reason).increment(self.events);
        debug!(reason = self.reason, events = self.events, "events refused");
    }
}

/// Where a partition's reading stands.
pub struct SourceMeasured<'a> {
    pub topic: &'a str,
    pub partition: i32,
    pub lag: Option<u64>,
    pub watermark_delay: Option<Duration>,
}

impl Fact for SourceMeasured<'_> {
    fn record(&self) {
        let labels = [("topic", self.topic.to_owned()), ("partition", self.partition.to_string())];
        if let Some(lag) = self.lag {
            gauge!(name::LAG, &labels).set(lag as f64);
        }
        if let Some(delay) = self.watermark_delay {
            gauge!(name::WATERMARK_DELAY, &labels).set(delay.as_secs_f64());
        }
    }
}

/// Verdicts of one closing by outcome.
pub struct VerdictsTaken {
    pub outcome: &'static str,
    pub verdicts: u64,
}

impl Fact for VerdictsTaken {
    fn record(&self) {
        counter!(name::VERDICTS, "outcome" => self.outcome).increment(self.verdicts);
    }
}

/// An alert changed its state.
pub struct AlertMoved<'a> {
    pub flag: &'a str,
    pub rule: &'a str,
    pub slice: &'a str,
    pub action: &'static str,
    pub from: &'static str,
    pub to: &'static str,
    pub why: &'a str,
}

impl Fact for AlertMoved<'_> {
    fn record(&self) {
        counter!(name::TRANSITIONS, "action" => self.action, "from" => self.from, "to" => self.to)
            .increment(1);
        info!(
            flag = self.flag,
            rule = self.rule,
            slice = self.slice,
            action = self.action,
            from = self.from,
            to = self.to,
            why = self.why,
            "alert moved"
        );
    }
}

/// A rule fired and was committed.
pub struct Decided<'a> {
    pub decision: &'a str,
    pub flag: &'a str,
    pub rule: &'a str,
    pub scope: &'a str,
    pub action: &'static str,
    pub gate: &'static str,
    pub condition: &'a str,
    pub value: Option<f64>,
}

impl Fact for Decided<'_> {
    fn record(&self) {
        counter!(name::DECISIONS, "action" => self.action, "gate" => self.gate).increment(1);
        warn!(
            decision = self.decision,
            flag = self.flag,
            rule = self.rule,
            scope = self.scope,
            action = self.action,
            gate = self.gate,
            condition = self.condition,
            value = self.value,
            "decided"
        );
    }
}

/// A rollback's flip came to an end.
pub struct Flipped<'a> {
    pub decision: &'a str,
    pub flag: &'a str,
    pub scope: &'a str,
    pub outcome: &'static str,
    pub since_t0: Duration,
    pub since_decision: Duration,
    pub why: &'a str,
}

impl Fact for Flipped<'_> {
    fn record(&self) {
        counter!(name::FLIPS, "outcome" => self.outcome).increment(1);
        let good = matches!(self.outcome, "verified" | "already_safe");
        if good {
            histogram!(name::TIME_TO_FLIP, "since" => "t0").record(self.since_t0.as_secs_f64());
            histogram!(name::TIME_TO_FLIP, "since" => "decision").record(self.since_decision.as_secs_f64());
            info!(
                decision = self.decision,
                flag = self.flag,
                scope = self.scope,
                outcome = self.outcome,
                since_t0_s = self.since_t0.as_secs_f64(),
                "flag serves control"
            );
        } else {
            error!(
                decision = self.decision,
                flag = self.flag,
                scope = self.scope,
                outcome = self.outcome,
                why = self.why,
                "flag was not flipped, act by hand"
            );
        }
    }
}

/// A receiver accepted the first page of a rollback.
pub struct Paged<'a> {
    pub dedup_key: &'a str,
    pub receiver: &'a str,
    pub since_t0: Duration,
    pub since_decision: Duration,
}

impl Fact for Paged<'_> {
    fn record(&self) {
        histogram!(name::TIME_TO_PAGE, "since" => "t0").record(self.since_t0.as_secs_f64());
        histogram!(name::TIME_TO_PAGE, "since" => "decision").record(self.since_decision.as_secs_f64());
        info!(
            dedup_key = self.dedup_key,
            receiver = self.receiver,
            since_t0_s = self.since_t0.as_secs_f64(),
            "page accepted"
        );
    }
}

/// One attempt of an adapter ended.
pub struct Attempted<'a> {
    pub adapter: &'static str,
    pub target: &'a str,
    pub result: &'static str,
    pub took: Duration,
    pub why: &'a str,
}

impl Fact for Attempted<'_> {
    fn record(&self) {
        counter!(name::ATTEMPTS, "adapter" => self.adapter, "result" => self.result).increment(1);
        histogram!(name::ATTEMPT_SECONDS, "adapter" => self.adapter).record(self.took.as_secs_f64());
        if self.result == "ok" {
            debug!(adapter = self.adapter, target = self.target, "attempt done");
        } else {
            warn!(
                adapter = self.adapter,
                target = self.target,
                result = self.result,
                why = self.why,
                "attempt failed"
            );
        }
    }
}

/// Nothing more will be tried for an outbox row.
pub struct GaveUp<'a> {
    pub what: &'a str,
    pub target: &'a str,
    pub why: &'a str,
}

impl Fact for GaveUp<'_> {
    fn record(&self) {
        error!(what = self.what, target = self.target, why = self.why, "gave up");
    }
}

/// What waits in the outbox.
pub struct OutboxMeasured<'a> {
    pub oldest: Duration,
    /// (status, rows) pairs.
    pub rows: &'a [(&'static str, u64)],
}

impl Fact for OutboxMeasured<'_> {
    fn record(&self) {
        gauge!(name::OUTBOX_AGE).set(self.oldest.as_secs_f64());
        for &(status, rows) in self.rows {
            gauge!(name::OUTBOX_ROWS, "status" => status).set(rows as f64);
        }
    }
}

/// The engine's state as gauges; no log line.
pub struct EngineMeasured {
    pub armed: bool,
    pub automation: bool,
    pub latches: usize,
    pub series: usize,
}

impl Fact for EngineMeasured {
    fn record(&self) {
        gauge!(name::ARMED).set(f64::from(u8::from(self.armed)));
        gauge!(name::AUTOMATION).set(f64::from(u8::from(self.automation)));
        gauge!(name::LATCHES).set(self.latches as f64);
        gauge!(name::SERIES).set(self.series as f64);
    }
}

/// Rearguard became able to act, or unable.
pub struct ArmedChanged<'a> {
    pub armed: bool,
    pub why: &'a str,
}

impl Fact for ArmedChanged<'_> {
    fn record(&self) {
        gauge!(name::ARMED).set(f64::from(u8::from(self.armed)));
        if self.armed {
            info!("armed");
        } else {
            warn!(why = self.why, "not armed");
        }
    }
}

/// Something that cannot happen has happened.
pub struct InvariantBroken<'a> {
    /// From a fixed list.
    pub invariant: &'static str,
    pub detail: &'a str,
}

impl Fact for InvariantBroken<'_> {
    fn record(&self) {
        counter!(name::INVARIANTS, "invariant" => self.invariant).increment(1);
        error!(invariant = self.invariant, detail = self.detail, "invariant broken");
    }
}

/// The newest good snapshot.
pub struct SnapshotMeasured {
    pub age: Duration,
    pub bytes: u64,
}

impl Fact for SnapshotMeasured {
    fn record(&self) {
        gauge!(name::SNAPSHOT_AGE).set(self.age.as_secs_f64());
        gauge!(name::SNAPSHOT_BYTES).set(self.bytes as f64);
    }
}

/// A snapshot was passed over at the start; an older one or Kafka serves instead.
pub struct SnapshotSkipped<'a> {
    pub file: &'a str,
    pub why: &'a str,
}

impl Fact for SnapshotSkipped<'_> {
    fn record(&self) {
        warn!(file = self.file, why = self.why, "snapshot passed over");
    }
}

/// A flag was evaluated over OFREP.
pub struct Evaluated {
    pub reason: &'static str,
}

impl Fact for Evaluated {
    fn record(&self) {
        counter!(name::EVALUATIONS, "reason" => self.reason).increment(1);
    }
}

/// An HTTP request was answered.
pub struct Answered<'a> {
    /// The route's pattern, never the path asked for.
    pub route: &'a str,
    pub method: &'a str,
    pub status: u16,
    pub took: Duration,
}

impl Fact for Answered<'_> {
    fn record(&self) {
        let class = match self.status {
            0..=299 => "2xx",
            300..=399 => "3xx",
            400..=499 => "4xx",
            _ => "5xx",
        };
        counter!(name::REQUESTS, "route" => self.route.to_owned(), "status" => class).increment(1);
        histogram!(name::REQUEST_SECONDS, "route" => self.route.to_owned()).record(self.took.as_secs_f64());
        debug!(route = self.route, method = self.method, status = self.status, "request answered");
    }
}

/// No connection could be accepted, for a reason that is not the caller's.
pub struct NotAccepted<'a> {
    pub error: &'a std::io::Error,
}

impl Fact for NotAccepted<'_> {
    fn record(&self) {
        warn!(error = %self.error, "no connection can be accepted; trying again in a second");
    }
}

/// A human changed something through the admin API.
pub struct Commanded<'a> {
    pub actor: &'a str,
    pub command: &'a str,
    pub target: &'a str,
    pub reason: &'a str,
    pub result: &'a str,
}

impl Fact for Commanded<'_> {
    fn record(&self) {
        info!(
            actor = self.actor,
            command = self.command,
            target = self.target,
            reason = self.reason,
            result = self.result,
            "command"
        );
    }
}

/// A human says that nothing had been wrong.
pub struct FalseAlarm<'a> {
    pub flag: &'a str,
    pub actor: &'a str,
    pub reason: &'a str,
}

impl Fact for FalseAlarm<'_> {
    fn record(&self) {
        counter!(name::FALSE_ALARMS, "flag" => self.flag.to_owned()).increment(1);
        info!(flag = self.flag, actor = self.actor, reason = self.reason, "false alarm");
    }
}

/// Rules or configuration were read again.
pub struct Reloaded<'a> {
    pub ok: bool,
    pub detail: &'a str,
}

impl Fact for Reloaded<'_> {
    fn record(&self) {
        let result = if self.ok { "ok" } else { "refused" };
        counter!(name::RELOADS, "result" => result).increment(1);
        if self.ok {
            info!(detail = self.detail, "reloaded");
        } else {
            error!(detail = self.detail, "reload refused, the old rules stay");
        }
    }
}

/// An own template did not work on a message; the built-in text went out.
pub struct TemplateFailed<'a> {
    pub template: &'static str,
    pub error: &'a str,
}

impl Fact for TemplateFailed<'_> {
    fn record(&self) {
        counter!(name::TEMPLATE_FAILURES, "template" => self.template).increment(1);
        error!(
            template = self.template,
            error = self.error,
            "own template failed, the built-in text was used"
        );
    }
}

/// One of the daemon's tasks ended with an error or a panic.
pub struct TaskFailed<'a> {
    pub task: &'static str,
    pub error: &'a str,
    pub restarts: bool,
}

impl Fact for TaskFailed<'_> {
    fn record(&self) {
        counter!(name::TASK_FAILURES, "task" => self.task).increment(1);
        if self.restarts {
            warn!(task = self.task, error = self.error, "task failed and starts again");
        } else {
            error!(task = self.task, error = self.error, "task failed, stopping");
        }
    }
}

/// A task did not end within its drain deadline and was aborted.
pub struct TaskOverran {
    pub task: &'static str,
    pub drain: Duration,
}

impl Fact for TaskOverran {
    fn record(&self) {
        counter!(name::TASK_FAILURES, "task" => self.task).increment(1);
        warn!(
            task = self.task,
            drain_s = self.drain.as_secs_f64(),
            "task did not end in time and was aborted"
        );
    }
}

#[cfg(test)]
mod tests;

//! One message or published decision: say how things really stand, send it, record it, keep it standing.

use std::sync::Arc;

use super::{Worker, is_late, mismatch};
use crate::dispatch::backoff::Backoff;
use crate::dispatch::failure::Failure;
use crate::dispatch::message::{facts, one_line, with_outcome};
use crate::dispatch::receiver::{Content, Facts, Notice, Receiver, stands};
use crate::dispatch::story;
use crate::engine::output::{Message, MessageKind};
use crate::model::id::DecisionId;
use crate::store::{
    FlipState, OutboxRow, PlanContext, Routes, RowKind, RowOutcome, StoreError, Task, Timing, message_rows,
};
use crate::telemetry::facts::{GaveUp, Paged};
use crate::telemetry::record;

/// Before the name of the receiver that did not take a page which is told to the second channel.
const NOT_TAKEN: &str = "This page was not taken by ";

impl Worker {
    /// Sends a claimed message, or gives it back.
    pub(super) async fn tell(&self, row: OutboxRow, receiver: Arc<dyn Receiver>) {
        let check = match self.store.recheck(&row, self.clock.now()).await {
            Ok(check) if check.held => check,
            Ok(_) => return,
            Err(error) => {
                self.recorded(&row, Err(error));
                return;
            }
        };
        // What was taken once and stands is told for as long as it stands, however old.
        if check.expired && row.revision == 0 {
            self.give_up(&row, "its time is over", |now| {
                let row = &row;
                async move { self.store.expire(row, now).await }
            })
            .await;
            return;
        }
        if self.is_early(&row).await {
            let postponed = self.postpone(&row).await;
            self.recorded(&row, postponed);
            return;
        }
        let notice = match self.notice(&row).await {
            Ok(Ok(notice)) => notice,
            Ok(Err(why)) => return self.refused(&row, &why).await,
            Err(error) => {
                let failure = Failure::retryable(error.to_string());
                return self.later(&row, &failure).await;
            }
        };
        let watch = self.clock.stopwatch();
        let told = receiver.tell(&notice, self.within(&row)).await;
        self.attempted(receiver.adapter(), receiver.name(), watch, told.as_ref().err());
        match told {
            Ok(()) => self.sent(&row, &notice, &*receiver).await,
            Err(failure) if failure.is_permanent() => {
                self.refused(&row, &failure.to_string()).await;
            }
            Err(failure) => self.later(&row, &failure).await,
        }
    }

    /// A notice of a pause is told once, so it waits a little for its flip; pages have a timer of their own in the outbox.
    async fn is_early(&self, row: &OutboxRow) -> bool {
        let Task::Message(message) = &row.task else {
            return false;
        };
        let (RowKind::Notify, MessageKind::Pause, Some(decision)) =
            (row.kind, message.kind, &message.decision)
        else {
            return false;
        };
        let waited = self.clock.now().since(row.created);
        waited < self.settings.notice_after
            && matches!(self.flip(decision).await, Ok(Some(flip)) if flip.outcome.is_none() && !flip.late)
    }

    /// A row for a receiver that configuration no longer has.
    pub(super) async fn no_receiver(&self, row: OutboxRow) {
        let why = format!("no receiver `{}` is configured", row.adapter);
        self.refused(&row, &why).await;
    }

    /// What to tell, as things stand now. The inner error is a row that cannot be told at all.
    async fn notice(&self, row: &OutboxRow) -> Result<Result<Notice, String>, StoreError> {
        match &row.task {
            Task::Message(message) => {
                let (message, facts) = self.current(message).await?;
                let runbook = facts.as_ref().and_then(|facts| facts.runbook.clone());
                Ok(Ok(Notice {
                    id: format!("rearguard-{}-{}", row.id, row.revision),
                    since: message.at,
                    link: self.link(row, runbook),
                    wakes: row.kind == RowKind::Page,
                    update: row.revision > 0,
                    facts: facts.map(Box::new),
                    content: Content::Message(Box::new(message)),
                }))
            }
            Task::Publish(decision) => Ok(Ok(Notice {
                id: format!("{}-{}", decision.id, decision.gate.as_str()),
                since: decision.at,
                link: self.link(row, decision.runbook.clone()),
                wakes: false,
                update: false,
                facts: None,
                content: Content::Decision(decision.clone()),
            })),
            work @ Task::Flip(_) => Ok(Err(mismatch(work))),
        }
    }

    /// One link: to the incident where the operator has said how, else to the rule's runbook.
    fn link(&self, row: &OutboxRow, runbook: Option<String>) -> Option<String> {
        match (&self.settings.link, &row.incident) {
            (Some(link), Some(incident)) => Some(link.replace("{incident}", incident.as_str())),
            _ => runbook,
        }
    }

    /// A message about a decision says how its flip stands; others say what the engine wrote. With it the facts.
    async fn current(&self, message: &Message) -> Result<(Message, Option<Facts>), StoreError> {
        let plain = Message { summary: one_line(&message.summary), ..message.clone() };
        let about = matches!(message.kind, MessageKind::Rollback | MessageKind::Pause);
        let (true, Some(id)) = (about, &message.decision) else {
            return Ok((plain, None));
        };
        let Some(stored) = self.store.decision(id).await? else {
            return Ok((plain, None));
        };
        let flip = self.flip(id).await?;
        let flags = self.store.flags();
        let served = flags.get(&stored.decision.key.flag).and_then(|state| state.spec.served.as_ref());
        let mut told = with_outcome(&plain, &stored.decision, flip.as_ref(), served);
        told = self.settings.templates.message(told, &stored.decision, flip.as_ref());
        // The second channel's page has to say why it comes that way, whatever else it says anew.
        if let Some(note) = message.detail.lines().rfind(|line| line.starts_with(NOT_TAKEN)) {
            told.detail = format!("{}\n{note}", told.detail);
        }
        Ok((told, Some(facts(&stored.decision, flip.as_ref()))))
    }

    async fn flip(&self, decision: &DecisionId) -> Result<Option<story::Flip>, StoreError> {
        let state = self.store.flip_state(decision).await?;
        Ok(state.map(|state| told_flip(state, self.clock.now())))
    }

    async fn sent(&self, row: &OutboxRow, notice: &Notice, receiver: &dyn Receiver) {
        let now = self.clock.now();
        let kind = match &notice.content {
            Content::Message(message) => Some(message.kind),
            Content::Decision(_) => None,
        };
        let again_at = receiver
            .refresh()
            .filter(|_| kind.is_some_and(stands))
            .map(|every| now + self.clock.virtual_span(every));
        let outcome = RowOutcome::Sent { detail: kind.map_or_else(|| "published".into(), said), again_at };
        let stored = self.store.complete(row, &outcome, now).await;
        let first = row.kind == RowKind::Page && row.revision == 0;
        if self.recorded(row, stored) && first && kind.is_some_and(is_rollback) {
            self.page_was_accepted(row, notice).await;
        }
    }

    async fn page_was_accepted(&self, row: &OutboxRow, notice: &Notice) {
        let (Some(id), Content::Message(message)) = (&row.decision, &notice.content) else {
            return;
        };
        let now = self.clock.now();
        if let Ok(Some(stored)) = self.store.decision(id).await {
            record(&Paged {
                dedup_key: &message.dedup_key,
                receiver: &row.adapter,
                since_t0: now.since(stored.decision.t0),
                since_decision: now.since(stored.committed),
            });
        }
    }

    async fn later(&self, row: &OutboxRow, failure: &Failure) {
        let now = self.clock.now();
        let waited = now.since(row.created);
        if row.kind == RowKind::Page && row.revision == 0 && waited >= self.settings.second_after {
            self.second_channel(row, &failure.to_string()).await;
        }
        let mut wait = Backoff::MESSAGE.wait(row.attempts, failure, self.chance());
        if row.kind == RowKind::Page && !is_late(row, now) {
            // A page is worth asking for more often than a notice.
            wait = wait.min(std::time::Duration::from_secs(15)).max(failure.after().unwrap_or_default());
            // However long the receiver wants to be left alone: the second channel is not put off.
            let second = self.settings.second_after.saturating_sub(waited);
            if row.revision == 0 && !second.is_zero() {
                wait = wait.min(second);
            }
        }
        let stored = self.store.retry(row, now + wait, &failure.to_string()).await;
        self.recorded(row, stored);
    }

    async fn refused(&self, row: &OutboxRow, why: &str) {
        self.give_up(row, why, |now| async move {
            let outcome = RowOutcome::Refused { detail: why.to_owned() };
            self.store.complete(row, &outcome, now).await
        })
        .await;
    }

    async fn give_up<F, Fut>(&self, row: &OutboxRow, why: &str, store: F)
    where
        F: FnOnce(crate::model::time::Timestamp) -> Fut,
        Fut: Future<Output = Result<(), StoreError>>,
    {
        record(&GaveUp { what: row.kind.as_str(), target: &row.adapter, why });
        if row.kind == RowKind::Page {
            self.second_channel(row, why).await;
        }
        let stored = store(self.clock.now()).await;
        self.recorded(row, stored);
    }

    /// Sends a page that its receiver does not take to the second channel, once: the outbox knows it by its content.
    async fn second_channel(&self, row: &OutboxRow, why: &str) {
        let others: Vec<String> =
            self.settings.second_channel.iter().filter(|name| **name != row.adapter).cloned().collect();
        let Task::Message(message) = &row.task else {
            return;
        };
        if others.is_empty() || self.settings.second_channel.contains(&row.adapter) {
            return;
        }
        let now = self.clock.now();
        let routes = Routes::default();
        let context = PlanContext { routes: &routes, timing: Timing::default(), flags: &[] };
        let message = Message {
            receiver: None,
            detail: format!("{}\n{NOT_TAKEN}`{}`.", message.detail, row.adapter),
            ..message.clone()
        };
        let mut rows = message_rows(RowKind::Page, &message, &others, now, &context);
        for new in &mut rows {
            new.not_before = now;
        }
        match self.store.enqueue(&rows, now).await {
            Ok(0) => {}
            Ok(_) => {
                record(&GaveUp {
                    what: "first channel of a page, second is used",
                    target: &row.adapter,
                    why,
                });
                self.wake.notify_one();
            }
            Err(error) => {
                self.recorded(row, Err(error));
            }
        }
    }
}

/// The store's record of a flip, as the sentences want it.
pub(crate) fn told_flip(state: FlipState, now: crate::model::time::Timestamp) -> story::Flip {
    story::Flip {
        late: state.outcome.is_none() && state.deadline.is_some_and(|deadline| now >= deadline),
        outcome: state.outcome,
        finished: state.finished,
        detail: state.detail.or(state.last_error).unwrap_or_default(),
        attempts: state.attempts,
    }
}

const fn is_rollback(kind: MessageKind) -> bool {
    matches!(kind, MessageKind::Rollback | MessageKind::RollbackFailed | MessageKind::Superseded)
}

fn said(kind: MessageKind) -> String {
    kind.as_str().replace('_', " ")
}

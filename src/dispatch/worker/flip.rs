//! One flip: recheck, read, write on condition, read back, record, answer.

use std::sync::Arc;

use super::{Worker, is_late, mismatch};
use crate::dispatch::backoff::Backoff;
use crate::dispatch::failure::Failure;
use crate::dispatch::flag::{FlagPlatform, Wanted};
use crate::engine::input::{Answer, FlipOutcome};
use crate::store::{FlagChange, Flip, OutboxRow, Recheck, RowOutcome, StoreError, Task};
use crate::telemetry::facts::{Flipped, GaveUp};
use crate::telemetry::record;

/// How often a conflict is answered by reading again at once; after that the back-off applies.
const REREADS: u32 = 3;

/// `automation off` keeps a pause's end waiting this long (virtual time) before it is asked again.
const WAIT_FOR_AUTOMATION: std::time::Duration = std::time::Duration::from_secs(30);

/// What one try of a flip came to.
enum Tried {
    Done(FlipOutcome, String),
    /// Not wanted any more.
    Void(String),
    Failed(Failure),
    /// Held back for now.
    Later(String),
    /// Another worker has the row.
    Lost,
}

/// How a flip comes to its read-back.
#[derive(Clone, Copy)]
enum Found<'a> {
    /// It was so before anything was written by this try. With what stood before the first write of an earlier one.
    Done(Option<&'a str>),
    Written,
}

impl Worker {
    /// Carries out a claimed flip, or gives it back.
    pub(super) async fn carry_out(&self, row: OutboxRow) {
        let Task::Flip(flip) = &row.task else {
            let detail = mismatch(&row.task);
            self.end(&row, None, FlipOutcome::Failed, &detail).await;
            return;
        };
        let Some(platform) = self.platforms.get(&row.adapter) else {
            let detail = format!("no flag platform `{}` is configured", row.adapter);
            self.end(&row, Some(flip), FlipOutcome::Failed, &detail).await;
            return;
        };
        let watch = self.clock.stopwatch();
        let tried = match self.try_in_time(&row, flip, platform).await {
            Ok(tried) => tried,
            Err(error) => Tried::Failed(Failure::retryable(error.to_string())),
        };
        let failure = match &tried {
            Tried::Failed(failure) => Some(failure),
            _ => None,
        };
        self.attempted(platform.adapter(), flip.flag().as_str(), watch, failure);
        match tried {
            Tried::Done(outcome, detail) => self.end(&row, Some(flip), outcome, &detail).await,
            Tried::Void(why) => {
                self.end(&row, Some(flip), FlipOutcome::Superseded, &why).await;
            }
            Tried::Failed(Failure::Permanent { why }) => {
                self.end(&row, Some(flip), FlipOutcome::Failed, &why).await;
            }
            Tried::Failed(failure) => self.again(&row, &failure).await,
            Tried::Later(why) => {
                let at = self.clock.now() + WAIT_FOR_AUTOMATION;
                self.recorded(&row, self.store.retry(&row, at, &why).await);
            }
            Tried::Lost => {}
        }
    }

    /// One try. When the promised time is over before it has ended, the pages say so without waiting for it.
    async fn try_in_time(
        &self,
        row: &OutboxRow,
        flip: &Flip,
        platform: &Arc<dyn FlagPlatform>,
    ) -> Result<Tried, StoreError> {
        let mut trying = std::pin::pin!(self.try_flip(row, flip, platform));
        let Some(deadline) = row.deadline else { return trying.await };
        let left = self.clock.real_span(deadline.since(self.clock.now()));
        tokio::select! {
            biased;
            tried = &mut trying => return tried,
            () = self.clock.sleep_real(left) => {}
        }
        self.overdue(row, &Failure::retryable(format!("`{}` has not answered yet", platform.name()))).await;
        trying.await
    }

    async fn try_flip(
        &self,
        row: &OutboxRow,
        flip: &Flip,
        platform: &Arc<dyn FlagPlatform>,
    ) -> Result<Tried, StoreError> {
        let mut last = Failure::retryable("the flag keeps changing");
        let wanted = &self.wanted(row, flip);
        let mut undo = row.undo.clone();
        for _ in 0..REREADS {
            let now = self.clock.now();
            let check = self.store.recheck(row, now).await?;
            if let Some(tried) = stopped(&check, flip, row) {
                return Ok(tried);
            }
            let seen = match platform.read(wanted, self.within(row)).await {
                Ok(seen) => seen,
                Err(failure) if undo.is_some() => {
                    return Ok(Tried::Failed(
                        failure.after_having("may have been written by an earlier try: "),
                    ));
                }
                Err(failure) => return Ok(Tried::Failed(failure)),
            };
            if seen.done {
                return self.read_back(row, wanted, platform, Found::Done(undo.as_deref())).await;
            }
            // A human's kill is safe already and the pin does not stand against it: it is written all the same, so that
            // switching the feature on again does not bring the bad variant back. Any other change is the human's word.
            let by_human = check
                .human_change
                .as_ref()
                .filter(|_| !by_hand(flip))
                .map(who)
                .or_else(|| seen.changed.clone());
            if let Some(who) = &by_human
                && !(seen.safe && matches!(flip, Flip::Pin { .. }))
            {
                return Ok(Tried::Void(who.clone()));
            }
            if let Some(why) = seen.locked {
                return Ok(Tried::Failed(Failure::permanent(why)));
            }
            if let (None, Some(before)) = (&undo, &seen.undo) {
                self.store.intend(row, before).await?;
                undo = Some(before.clone());
            }
            match platform.write(wanted, &seen.version, now, self.within(row)).await {
                // Unknown: what was read back decides, not the answer that got lost.
                Ok(()) | Err(Failure::Unknown { .. }) => {
                    self.note(wanted, undo.as_deref()).await?;
                    let tried = self.read_back(row, wanted, platform, Found::Written).await?;
                    return Ok(match (tried, by_human) {
                        (Tried::Done(FlipOutcome::Verified, detail), Some(who)) => {
                            let detail = format!("after {who}; {detail}");
                            Tried::Done(FlipOutcome::AlreadySafe, detail)
                        }
                        (tried, _) => tried,
                    });
                }
                Err(conflict @ Failure::Conflict { .. }) => last = conflict,
                Err(failure) => return Ok(Tried::Failed(failure)),
            }
        }
        Ok(Tried::Failed(Failure::retryable(last.to_string())))
    }

    /// The flip with what its flag is called on the row's platform, as configuration says now.
    fn wanted(&self, row: &OutboxRow, flip: &Flip) -> Wanted {
        let table = self.store.flags();
        let served = table.get(flip.flag()).and_then(|state| state.spec.served.clone());
        let served = served.filter(|served| served.platform == row.adapter);
        Wanted { flip: flip.clone(), served, since: row.created }
    }

    /// Rearguard's own account of what it has written elsewhere, and how a human takes it back: the flag's history.
    async fn note(&self, wanted: &Wanted, undo: Option<&str>) -> Result<(), StoreError> {
        let Some(served) = &wanted.served else { return Ok(()) };
        let undo = undo.map_or_else(String::new, |undo| format!("; to put back: {undo}"));
        let reason = format!("written to `{}` ({}) as `{}`{undo}", served.platform, served.kind, served.key);
        let reason = asked(&wanted.flip, reason);
        self.store.note_flip(&wanted.flip, &reason, self.clock.now()).await.map(|_| ())
    }

    async fn read_back(
        &self,
        row: &OutboxRow,
        wanted: &Wanted,
        platform: &Arc<dyn FlagPlatform>,
        found: Found<'_>,
    ) -> Result<Tried, StoreError> {
        let detail = match platform.verify(wanted, self.within(row)).await {
            Ok(detail) => detail,
            // Whoever acts by hand has to know that control may be served already.
            Err(failure) => return Ok(Tried::Failed(failure.after_having("written, but not read back: "))),
        };
        if let Found::Done(undo) = found {
            // Written by an earlier try that could not say so, or by a human: the account has to agree either way.
            self.note(wanted, undo).await?;
        }
        // Found done at a later try: an earlier one of ours wrote it and could not say so.
        let safe = matches!(found, Found::Done(_)) && row.attempts <= 1;
        Ok(Tried::Done(if safe { FlipOutcome::AlreadySafe } else { FlipOutcome::Verified }, detail))
    }

    /// Gives the row back for a later try; says so when the promised time is over.
    async fn again(&self, row: &OutboxRow, failure: &Failure) {
        let now = self.clock.now();
        if is_late(row, now) {
            self.overdue(row, failure).await;
        }
        let wait = Backoff::FLIP.wait(row.attempts, failure, self.chance());
        let mut at = now + wait;
        // Be there when the deadline passes, so that the page says so in time.
        if let Some(deadline) = row.deadline.filter(|deadline| *deadline > now) {
            at = at.min(deadline);
        }
        if row.expires > now {
            at = at.min(row.expires);
        }
        self.recorded(row, self.store.retry(row, at, &failure.to_string()).await);
    }

    /// The deadline has passed: the pages are sent again, once, and say ROLLBACK FAILED. Tries go on.
    async fn overdue(&self, row: &OutboxRow, failure: &Failure) {
        let Some(decision) = &row.decision else {
            return;
        };
        let first = match self.overdue.lock() {
            Ok(mut told) => told.insert(decision.to_string()),
            Err(_) => true,
        };
        if !first {
            return;
        }
        record(&GaveUp {
            what: "flip within the promised time; tries go on",
            target: row.flag.as_ref().map_or("", |flag| flag.as_str()),
            why: &failure.to_string(),
        });
        let released = self.store.release_pages(decision, self.clock.now()).await.map(|_| ());
        if self.recorded(row, released) {
            self.wake.notify_one();
        } else if let Ok(mut told) = self.overdue.lock() {
            told.remove(decision.as_str());
        }
    }

    /// Stores how the flip ended, then tells the engine.
    async fn end(&self, row: &OutboxRow, flip: Option<&Flip>, outcome: FlipOutcome, detail: &str) {
        let now = self.clock.now();
        let stored = match outcome {
            FlipOutcome::Expired => self.store.expire(row, now).await,
            FlipOutcome::Superseded => self.store.supersede(row, detail, now).await,
            _ => {
                let outcome = RowOutcome::Flip { outcome, detail: detail.to_owned() };
                self.store.complete(row, &outcome, now).await
            }
        };
        if !self.recorded(row, stored) {
            return;
        }
        // Its pages can leave now.
        self.wake.notify_one();
        let (Some(decision), Some(flip)) = (&row.decision, flip) else {
            return;
        };
        self.say(row, flip, outcome, detail).await;
        // If the channel is full, the store still knows it as unanswered and the chores remind the engine.
        self.answers
            .try_send(Answer {
                decision: decision.clone(),
                flag: flip.flag().clone(),
                scope: flip.scope(),
                at: now,
                outcome,
            })
            .ok();
    }

    async fn say(&self, row: &OutboxRow, flip: &Flip, outcome: FlipOutcome, detail: &str) {
        let (Flip::Pin { .. }, Some(id)) = (flip, &row.decision) else {
            return;
        };
        let now = self.clock.now();
        let t0 = match self.store.decision(id).await {
            Ok(Some(stored)) => stored.decision.t0,
            _ => row.created,
        };
        record(&Flipped {
            decision: id.as_str(),
            flag: flip.flag().as_str(),
            scope: &flip.scope().to_string(),
            outcome: word(outcome),
            since_t0: now.since(t0),
            since_decision: now.since(row.created),
            why: detail,
        });
    }
}

/// What stands in the way of a flip before anything is asked of the platform.
fn stopped(check: &Recheck, flip: &Flip, row: &OutboxRow) -> Option<Tried> {
    if !check.held {
        return Some(Tried::Lost);
    }
    // An old rollback must be judged anew. What a human asked for, or the end of a pause, stays right however late it comes.
    if check.expired && matches!(flip, Flip::Pin { by: None, .. } | Flip::Freeze { by: None, .. }) {
        let detail = row.last_error.clone().unwrap_or_default();
        return Some(Tried::Done(FlipOutcome::Expired, detail));
    }
    if !check.latch_open {
        return Some(Tried::Void("a human re-armed the flag, or rolled it back anew".into()));
    }
    match flip {
        Flip::Pin { by: None, .. } | Flip::Freeze { by: None, .. } if !check.automation => {
            Some(Tried::Void("automation was switched off before the flip".into()))
        }
        Flip::Unfreeze { by: None, .. } if !check.automation => {
            Some(Tried::Later("automation is off: the share stays where it is".into()))
        }
        _ => None,
    }
}

/// Whether a human asked for the rollback: a switch that another human threw here meanwhile is nothing against it.
const fn by_hand(flip: &Flip) -> bool {
    matches!(flip, Flip::Pin { by: Some(_), .. })
}

/// What the flag's history says of a flip, with who asked for it where the history does not say so by itself.
fn asked(flip: &Flip, reason: String) -> String {
    match flip {
        Flip::Pin { by: Some(by), .. } | Flip::Freeze { by: Some(by), .. } => {
            format!("{reason}; asked for by {by}")
        }
        _ => reason,
    }
}

/// A human's change in a few words.
fn who(change: &FlagChange) -> String {
    format!("{} by {} ({})", change.kind.as_str(), change.actor, change.reason)
}

const fn word(outcome: FlipOutcome) -> &'static str {
    match outcome {
        FlipOutcome::Verified => "verified",
        FlipOutcome::AlreadySafe => "already_safe",
        FlipOutcome::Superseded => "superseded",
        FlipOutcome::Failed => "failed",
        FlipOutcome::Expired => "expired",
    }
}

//! The ten minutes as a checked sum: from the start of the pane whose closing first shows the breach (T0) to flip read back,
//! incident opened and page accepted (T1).
//!
//! Every term is an upper bound that some part of the house keeps: `for` by the alert, the flip's deadline and the page's by
//! dispatch, whose worker takes its times from here. The delay from broker to pane is not in it; it is measured and paged on its
//! own ("blind").

use std::time::Duration;

use serde::Serialize;

use super::rule::{Rule, RuleAction};
use crate::model::flag::Served;

/// The promise: T1 − T0 for a rollback.
pub const PROMISE: Duration = Duration::from_secs(600);
/// A pane lasts one minute; a breach that begins at its start is seen at its end.
pub const PANE: Duration = Duration::from_secs(60);
/// The transaction that stores the decision: its statement timeout.
pub const COMMIT: Duration = Duration::from_secs(5);
/// From the end of a flip to the acceptance of the page that says how it ended: one try that hangs or a daemon that dies in
/// it, and one at the second channel.
pub const PAGE: Duration = Duration::from_secs(60);

/// How often the outbox is asked when nobody wakes the worker.
pub const POLL: Duration = Duration::from_millis(200);
/// How long a claimed row belongs to one worker: a daemon that died holds it no longer.
pub const LEASE: Duration = Duration::from_secs(30);
/// The longest that one request to a platform or a receiver may take.
pub const ATTEMPT: Duration = Duration::from_secs(10);
/// The most that is waited between two tries of a flip, unless the platform asks for more.
pub const BACKOFF: Duration = Duration::from_secs(10);
/// From the commit on: a page that no receiver has taken by then goes to the second channel with its next failed try, which is not
/// put off beyond it.
pub const SECOND_CHANNEL: Duration = Duration::from_secs(90);

/// From a claim to the record of what came of it: read, write, read back, each within an attempt and four fifths of what is left
/// of the lease.
const TRY: Duration = Duration::from_secs(28);
/// From the death of a daemon to its successor's first claim: what the supervisor waits, and the start. Longer than what is left of a lease.
const RESTART: Duration = Duration::from_secs(30);
/// Finding a due row, the poll included.
const CLAIM: Duration = Duration::from_secs(1);

/// From the commit of a decision to its flip read back and recorded, at the longest, with one fault on the way: a try that ends in
/// the worst of them, the daemon's death at its very end, then one that gets through; `settles` is what the platform takes to serve
/// a written change, which is looked for again after a wait.
pub const fn flip_at_worst(settles: Duration) -> Duration {
    let sum = CLAIM.as_secs()
        + TRY.as_secs()
        + RESTART.as_secs()
        + CLAIM.as_secs()
        + TRY.as_secs()
        + BACKOFF.as_secs()
        + COMMIT.as_secs();
    Duration::from_secs(sum + settles.as_secs())
}

/// What of the sum is configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Timing {
    /// Event time that a pane stays open after its end.
    pub lateness: Duration,
    /// How often timers are looked at.
    pub tick: Duration,
    /// How long tries to flip may take before the page says that the rollback failed.
    pub flip_deadline: Duration,
    /// When the page is sent at the latest, whatever the flip does.
    pub page_after: Duration,
    pub snapshot_every: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            lateness: Duration::from_secs(30),
            tick: Duration::from_secs(10),
            flip_deadline: flip_at_worst(Duration::ZERO),
            page_after: Duration::from_secs(120),
            snapshot_every: Duration::from_secs(300),
        }
    }
}

impl Timing {
    /// The same where a flag is served by a platform: a flip that may take longer there has longer.
    #[must_use]
    pub fn on(self, served: Option<&Served>) -> Self {
        let flip_deadline = served.map_or(self.flip_deadline, |served| self.flip_deadline.max(served.worst));
        Self { flip_deadline, ..self }
    }
}

/// The sum for one rule, term by term.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Budget {
    pub terms: Vec<(&'static str, Duration)>,
    pub total: Duration,
}

impl Budget {
    /// Adds up everything between T0 and T1 for a rule.
    ///
    /// By evidence alone T0 is the closing at which there is enough of it, and nothing is waited out. When the flip has ended or its
    /// deadline has passed, the page that says so is due.
    pub fn of(rule: &Rule, timing: &Timing) -> Self {
        let mut terms = vec![("pane", PANE), ("lateness", timing.lateness), ("tick", timing.tick)];
        if rule.confirm.by_persistence() {
            terms.push(("for", rule.hold));
        }
        terms.push(("commit", COMMIT));
        match rule.action {
            RuleAction::Notify => terms.push(("notify", PAGE)),
            RuleAction::PauseRollout | RuleAction::Rollback => {
                terms.push(("flip", timing.flip_deadline));
                terms.push(("page", PAGE));
            }
        }
        let total = terms.iter().map(|(_, term)| *term).sum();
        Self { terms, total }
    }

    /// From a human's decision on: nothing is waited out.
    pub fn by_hand(timing: &Timing) -> Self {
        let terms = vec![("commit", COMMIT), ("flip", timing.flip_deadline), ("page", PAGE)];
        let total = terms.iter().map(|(_, term)| *term).sum();
        Self { terms, total }
    }

    /// Whether the promise holds.
    pub fn fits(&self) -> bool {
        self.total <= PROMISE
    }

    /// The longest `for`, in whole minutes, with which the rule would keep the promise; `None` if no `for` does, or none is waited out.
    pub fn longest_hold(&self) -> Option<Duration> {
        let hold = self.terms.iter().find(|(name, _)| *name == "for").map(|(_, term)| *term)?;
        let rest = PROMISE.checked_sub(self.total.saturating_sub(hold))?;
        let minutes = rest.as_secs() / 60;
        (minutes > 0).then(|| Duration::from_secs(minutes * 60))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the worker gives each request of a try, one after the other until the lease is nearly over.
    #[test]
    fn a_try_is_as_long_as_its_requests_and_ends_before_its_lease() {
        let requests = ["read", "write", "read back"];
        let spent =
            requests.iter().fold(Duration::ZERO, |spent, _| spent + ATTEMPT.min((LEASE - spent) * 4 / 5));
        assert_eq!(spent, TRY);
        assert!(TRY < LEASE && LEASE < TRY + RESTART, "after a restart the lease has run out");
    }

    #[test]
    fn the_page_has_time_for_a_death_and_for_the_second_channel() {
        assert!(LEASE.max(RESTART) + CLAIM + ATTEMPT <= PAGE);
        // It is looked at again a wait and a try after its time at the latest, and then sent.
        let second = SECOND_CHANNEL + ATTEMPT + CLAIM + ATTEMPT;
        assert!(second <= flip_at_worst(Duration::ZERO) + PAGE);
    }
}

//! The ten minutes as a checked sum: from the start of the pane whose closing first shows the breach (T0) to flip read back,
//! incident opened and page accepted (T1).
//!
//! Every term is an upper bound that some part of the house keeps: `for` by the alert, the flip's deadline and the page's by
//! dispatch. The delay from broker to pane is not in it; it is measured and paged on its own ("blind").

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
/// From handing a page over to its acceptance: the deadline of one try at the first receiver and one at the second.
pub const PAGE: Duration = Duration::from_secs(60);

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
            flip_deadline: Duration::from_secs(90),
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
    /// By evidence alone T0 is the closing at which there is enough of it, and nothing is waited out. The page follows the
    /// flip; when `page_after` comes first, it does not wait: then the later of the two ends the sum.
    pub fn of(rule: &Rule, timing: &Timing) -> Self {
        let mut terms = vec![("pane", PANE), ("lateness", timing.lateness), ("tick", timing.tick)];
        if rule.confirm.by_persistence() {
            terms.push(("for", rule.hold));
        }
        terms.push(("commit", COMMIT));
        let wait = timing.flip_deadline.min(timing.page_after);
        match rule.action {
            RuleAction::Notify => terms.push(("notify", PAGE)),
            RuleAction::PauseRollout | RuleAction::Rollback => {
                terms.push(("flip", timing.flip_deadline));
                terms.push(("page", (wait + PAGE).saturating_sub(timing.flip_deadline)));
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

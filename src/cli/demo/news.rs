//! What the daemon has done since somebody last looked: transitions and decisions as stored, calls as received.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context as _;
use tokio::sync::mpsc;

use super::oncall::Call;
use super::screen::{Mark, Screen};
use super::story::word;
use crate::clock::Clock;
use crate::dispatch::words::{breach, had};
use crate::engine::input::FlipOutcome;
use crate::engine::output::{Decision, Phase};
use crate::engine::rule::RuleAction;
use crate::model::id::{DecisionId, FlagKey};
use crate::model::time::Timestamp;
use crate::store::{Store, StoredDecision};

/// Rows looked at; the story has about ten.
const ROWS: u32 = 200;

/// Follows one flag.
pub struct News<'a> {
    store: &'a Store,
    clock: Clock,
    flag: FlagKey,
    pub calls: mpsc::Receiver<Call>,
    transitions: usize,
    decisions: BTreeMap<DecisionId, StoredDecision>,
    order: Vec<DecisionId>,
    told: BTreeSet<String>,
}

/// A pause that has been carried out and read back.
pub struct Frozen {
    pub decision: StoredDecision,
    pub finished: Timestamp,
    pub detail: String,
}

impl<'a> News<'a> {
    pub fn new(store: &'a Store, clock: Clock, flag: &str, calls: mpsc::Receiver<Call>) -> Self {
        Self {
            store,
            clock,
            flag: FlagKey::from(flag),
            calls,
            transitions: 0,
            decisions: BTreeMap::new(),
            order: Vec::new(),
            told: BTreeSet::new(),
        }
    }

    /// Tells what is new, in the order in which it happened; the new decisions.
    pub async fn tell(&mut self, screen: &Screen) -> anyhow::Result<Vec<Decision>> {
        self.tell_transitions(screen).await?;
        let new = self.tell_decisions(screen).await?;
        self.tell_calls(screen);
        Ok(new)
    }

    async fn tell_transitions(&mut self, screen: &Screen) -> anyhow::Result<()> {
        let rows = self.store.transitions(&self.flag, ROWS).await?;
        for (_, change) in rows.iter().rev().skip(self.transitions) {
            // Firing is told as the decision that it leads to.
            if matches!(change.to, Phase::Quiet | Phase::Pending) {
                let text = format!("{} rule {}: {}", word(change.action), change.to.as_str(), change.why);
                screen.at(change.at, Mark::Note, &text);
            }
        }
        self.transitions = rows.len();
        Ok(())
    }

    async fn tell_decisions(&mut self, screen: &Screen) -> anyhow::Result<Vec<Decision>> {
        let mut new = Vec::new();
        for stored in self.store.decisions(Some(&self.flag), ROWS).await?.into_iter().rev() {
            let decision = stored.decision.clone();
            if self.decisions.insert(decision.id.clone(), stored).is_some() {
                continue;
            }
            self.order.push(decision.id.clone());
            let what = match decision.action {
                RuleAction::Rollback => "ROLLBACK",
                RuleAction::PauseRollout => "PAUSE",
                RuleAction::Notify => "NOTICE",
            };
            let evidence = &decision.evidence;
            let text = format!(
                "{what}: {} is {}; {} bad minutes, and it has {}",
                decision.condition.split(' ').next().unwrap_or_default(),
                breach(evidence),
                evidence.bad_minutes,
                had(&decision)
            );
            screen.at(decision.at, Mark::Bad, &text);
            new.push(decision);
        }
        Ok(new)
    }

    fn tell_calls(&mut self, screen: &Screen) {
        while let Ok(call) = self.calls.try_recv() {
            // A page is sent again when more is known; on a telephone it is the same one.
            let key = format!("{} {:?}", call.message.dedup_key, call.message.kind);
            if !self.told.insert(key) {
                continue;
            }
            show(screen, self.clock, &call);
        }
    }

    /// The pause of this episode, once it has been read back.
    pub async fn frozen(&self) -> anyhow::Result<Option<Frozen>> {
        let pause = self.order.iter().filter_map(|id| self.decisions.get(id));
        let Some(stored) = pause.into_iter().find(|s| s.decision.action == RuleAction::PauseRollout) else {
            return Ok(None);
        };
        let state = self.store.flip_state(&stored.decision.id).await?;
        Ok(state.and_then(|state| {
            let good = matches!(state.outcome, Some(FlipOutcome::Verified | FlipOutcome::AlreadySafe));
            let finished = state.finished.filter(|_| good)?;
            let detail = state.detail.unwrap_or_default();
            Some(Frozen { decision: stored.clone(), finished, detail })
        }))
    }

    /// A decision that has been told.
    pub fn stored(&self, id: &DecisionId) -> anyhow::Result<StoredDecision> {
        self.decisions.get(id).cloned().with_context(|| format!("decision {id} is not stored"))
    }
}

/// Shows a call.
pub fn show(screen: &Screen, clock: Clock, call: &Call) {
    let what = if call.is_page() { "page" } else { "notice" };
    let text = format!("{what}, signature good: {}", call.message.summary);
    screen.at(clock.now(), Mark::Bell, &text);
}

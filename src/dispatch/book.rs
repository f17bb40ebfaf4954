//! Incidents as text: reads what the store knows of one and renders it.

use std::sync::Arc;

use super::incident::{Renderer, TemplateError};
use super::story::Story;
use super::template::Templates;
use super::worker::told_flip;
use crate::clock::Clock;
use crate::engine::output::{Decision, Gate};
use crate::model::flag::{Scope, Served};
use crate::model::id::{DecisionId, IncidentId};
use crate::store::{IncidentDetail, Store, StoreError, TimelineEntry};

/// Renders stored incidents.
pub struct IncidentBook {
    store: Store,
    clock: Clock,
    renderer: Renderer,
    templates: Arc<Templates>,
}

/// Why an incident could not be rendered.
#[derive(Debug, thiserror::Error)]
pub enum BookError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Template(#[from] TemplateError),
    #[error("incident `{0}` has no decision stored")]
    NoDecision(IncidentId),
}

impl IncidentBook {
    /// A book over this store.
    ///
    /// # Errors
    ///
    /// The built-in template is broken.
    pub fn new(store: Store, clock: Clock, templates: Arc<Templates>) -> Result<Self, TemplateError> {
        Ok(Self { store, clock, renderer: Renderer::new()?, templates })
    }

    /// An incident as Markdown, as things stand now.
    pub async fn markdown(&self, id: &IncidentId) -> Result<String, BookError> {
        let detail = self.store.incident(id).await?;
        let story = self.story(detail).await?;
        match self.templates.incident(&story) {
            Some(text) => Ok(text),
            None => Ok(self.renderer.render(&story)?),
        }
    }

    /// Who serves the flag now, where that is another platform.
    fn served(&self, decision: &Decision) -> Option<Served> {
        self.store.flags().get(&decision.key.flag).and_then(|state| state.spec.served.clone())
    }

    async fn story(&self, detail: IncidentDetail) -> Result<Story, BookError> {
        let incident = detail.incident;
        let mut decisions = detail.decisions.into_iter();
        let opener = decisions.next().ok_or_else(|| BookError::NoDecision(incident.id.clone()))?;
        let joined: Vec<Decision> = decisions.map(|joined| joined.decision).collect();
        let flip = self.store.flip_state(flipped_by(&opener.decision, &joined)).await?;
        let now = self.clock.now();
        Ok(Story {
            incident: incident.id.to_string(),
            status: incident.status,
            served: self.served(&opener.decision),
            committed: opener.committed,
            opener: opener.decision,
            joined,
            flip: flip.map(|state| told_flip(state, now)),
            page_accepted: incident.page_accepted,
            log: detail.timeline.into_iter().map(entry).collect(),
        })
    }
}

/// Whose flip is the incident's: the opener's own, of a human who rolled back after it, or of the decision that was carried out when the opener's was no longer
/// withheld.
fn flipped_by<'a>(opener: &'a Decision, joined: &'a [Decision]) -> &'a DecisionId {
    let by_hand =
        |later: &&Decision| later.by.is_some() && (later.scope == opener.scope || later.scope == Scope::All);
    if let Some(later) = joined.iter().rev().find(by_hand) {
        return &later.id;
    }
    let later = joined.iter().find(|later| {
        opener.gate.withholds().is_some()
            && later.gate == Gate::Act
            && (later.scope == opener.scope || later.scope == Scope::All)
    });
    &later.unwrap_or(opener).id
}

fn entry(entry: TimelineEntry) -> (crate::model::time::Timestamp, String) {
    let mut text = entry.kind.as_str().replace('_', " ");
    if let Some(actor) = &entry.actor {
        text.push_str(" by ");
        text.push_str(actor);
    }
    if !entry.detail.is_empty() {
        text.push_str(": ");
        text.push_str(&entry.detail);
    }
    (entry.at, text)
}

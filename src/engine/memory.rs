//! What the engine remembers beside panes: alerts, latches, episodes, flips. Small, stored in SQL with every output, and
//! the truth after a restart.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::alert::Alert;
use super::input::FlipOutcome;
use super::output::AlertKey;
use super::sources::Sources;
use crate::model::flag::Scope;
use crate::model::id::{DecisionId, FlagKey, IncidentId, Variant};
use crate::model::time::{Minute, Timestamp};

/// The key of the row that holds everything but alerts.
const CORE: &str = "core";
/// The prefix of an alert's row.
const ALERT: &str = "alert/";

/// Everything remembered.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    pub core: Core,
    alerts: BTreeMap<AlertKey, Alert>,
    dirty: BTreeSet<AlertKey>,
}

/// One row: small, and changed by almost every closing.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Core {
    pub sources: Sources,
    /// The last minute judged.
    pub closed: Option<Minute>,
    pub automation: bool,
    pub latches: Vec<Latch>,
    pub episodes: Vec<Episode>,
    /// Shares that humans hold.
    #[serde(default)]
    pub holds: Vec<Hold>,
    /// Decisions made by hand so far: part of their ids.
    #[serde(default)]
    pub by_hand: u64,
    /// Rollbacks carried out lately, for the limits.
    pub flips: Vec<Flip>,
    /// Where windows of re-armed variants and slices begin.
    pub floors: Vec<Floor>,
    /// Since when Rearguard has been blind, and whether that was told.
    pub blind: Option<Blind>,
    /// Whether verdicts could act at some time since the first start.
    pub was_armed: bool,
}

impl Default for Core {
    fn default() -> Self {
        Self {
            sources: Sources::default(),
            closed: None,
            automation: true,
            latches: Vec::new(),
            episodes: Vec::new(),
            holds: Vec::new(),
            by_hand: 0,
            flips: Vec::new(),
            floors: Vec::new(),
            blind: None,
            was_armed: false,
        }
    }
}

/// An open latch: control is pinned until a human re-arms.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Latch {
    pub flag: FlagKey,
    pub scope: Scope,
    pub variant: Variant,
    pub decision: DecisionId,
    pub incident: IncidentId,
    /// Event time of the decision.
    pub at: Timestamp,
    pub outcome: Option<FlipOutcome>,
    /// Wall time of the verified flip.
    pub flipped_at: Option<Timestamp>,
    /// Events per minute in the hour before the decision, counted since the first of them.
    pub events_before: f64,
    pub escalated: bool,
    /// Whether a human rolled back, not a rule.
    #[serde(default)]
    pub by_hand: bool,
}

/// A share that a human holds until a human lets it go.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hold {
    pub flag: FlagKey,
    pub decision: DecisionId,
    pub outcome: Option<FlipOutcome>,
}

/// One flag's incident while it is open.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Episode {
    pub incident: IncidentId,
    pub flag: FlagKey,
    pub opened: Minute,
    /// Since when nothing of the flag has been pending, firing or latched.
    pub quiet_since: Option<Minute>,
}

/// A rollback that was carried out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Flip {
    pub at: Minute,
    pub flag: FlagKey,
    pub scope: Scope,
}

/// The first minute that windows may read since a variant, or a slice of it, was re-armed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Floor {
    pub variant: Variant,
    pub scope: Scope,
    pub from: Minute,
}

/// Not being able to judge.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Blind {
    /// Wall time.
    pub since: Timestamp,
    pub told: bool,
}

/// Why stored rows could not be read back.
#[derive(Debug, thiserror::Error)]
pub enum MemoryError {
    #[error("the stored engine state `{key}` cannot be read: {source}")]
    Unreadable { key: String, source: serde_json::Error },
}

impl Memory {
    /// Changes one alert, made on first sight. Only a real change is stored.
    pub fn update<T>(&mut self, key: &AlertKey, change: impl FnOnce(&mut Alert) -> T) -> T {
        let Some(alert) = self.alerts.get_mut(key) else {
            let mut alert = Alert::default();
            let result = change(&mut alert);
            if alert != Alert::default() {
                self.alerts.insert(key.clone(), alert);
                self.dirty.insert(key.clone());
            }
            return result;
        };
        let before = alert.clone();
        let result = change(alert);
        if *alert != before {
            self.dirty.insert(key.clone());
        }
        result
    }

    /// One alert as it stands.
    pub fn alert(&self, key: &AlertKey) -> Option<&Alert> {
        self.alerts.get(key)
    }

    /// All alerts.
    pub fn alerts(&self) -> impl Iterator<Item = (&AlertKey, &Alert)> {
        self.alerts.iter()
    }

    /// Forgets an alert whose rule is gone.
    pub fn forget(&mut self, key: &AlertKey) -> Option<Alert> {
        self.dirty.insert(key.clone());
        self.alerts.remove(key)
    }

    /// The latch that covers a scope of a flag, if any: its own, or one on everybody.
    pub fn latch(&self, flag: &FlagKey, scope: &Scope) -> Option<&Latch> {
        self.core.latches.iter().find(|l| l.flag == *flag && (l.scope == *scope || l.scope == Scope::All))
    }

    /// The hold that a human has on a flag's share.
    pub fn hold(&self, flag: &FlagKey) -> Option<&Hold> {
        self.core.holds.iter().find(|h| h.flag == *flag)
    }

    /// The first minute that windows of a variant's slice may read.
    pub fn floor(&self, variant: &Variant, scope: &Scope) -> Minute {
        let floors = self.core.floors.iter().filter(|f| f.variant == *variant);
        floors
            .filter(|f| f.scope == *scope || f.scope == Scope::All)
            .map(|f| f.from)
            .max()
            .unwrap_or(Minute(i64::MIN / 2))
    }

    /// The open episode of a flag.
    pub fn episode(&self, flag: &FlagKey) -> Option<&Episode> {
        self.core.episodes.iter().find(|e| e.flag == *flag)
    }

    /// The rows that changed since the last call: key, and value or `None` where the row is gone.
    pub fn changed_rows(&mut self) -> Vec<(String, Option<String>)> {
        let mut rows = vec![(CORE.to_owned(), serde_json::to_string(&self.core).ok())];
        for key in std::mem::take(&mut self.dirty) {
            let value = self.alerts.get(&key).and_then(|alert| serde_json::to_string(&(&key, alert)).ok());
            rows.push((row_key(&key), value));
        }
        rows
    }

    /// Reads back what [`Self::changed_rows`] gave.
    pub fn from_rows(rows: impl IntoIterator<Item = (String, String)>) -> Result<Self, MemoryError> {
        let mut memory = Self::default();
        for (key, value) in rows {
            let unreadable = |source| MemoryError::Unreadable { key: key.clone(), source };
            if key == CORE {
                memory.core = serde_json::from_str(&value).map_err(unreadable)?;
            } else if key.starts_with(ALERT) {
                let (alert_key, alert) = serde_json::from_str(&value).map_err(unreadable)?;
                memory.alerts.insert(alert_key, alert);
            }
        }
        Ok(memory)
    }
}

fn row_key(key: &AlertKey) -> String {
    format!("{ALERT}{}/{}/{}/{}", key.flag, key.rule, key.hash.0, key.slice)
}

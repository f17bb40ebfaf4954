//! The native event: one JSON object per generation or judge score.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// One event as a gateway writes it. Ingest decodes the same schema without copying; this owned form is for those who
/// write events: the demo's generator, tests, tools.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// The event's own id; a second event with the same id in the same partition and minute is a duplicate.
    pub id: String,
    /// When the measurement was made, RFC 3339.
    pub ts: String,
    pub variant: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tier: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// The randomisation unit, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// For a judge's score: the generation it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation_id: Option<String>,
    pub metrics: BTreeMap<String, Sample>,
}

/// One metric's value in an event.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Sample {
    Bool(bool),
    Number(f64),
}

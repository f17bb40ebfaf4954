//! Service level objectives: which samples of a metric are good, and how many of them have to be.

use serde::{Deserialize, Serialize};

use super::metric::MetricId;

/// One objective. Every variant that a rule judges by it has an error budget of its own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Slo {
    pub name: String,
    /// The metric whose samples are counted.
    pub metric: MetricId,
    pub bad: Bad,
    /// The share of samples that may be bad, in parts per million: 1 − objective.
    pub allowed: u32,
    /// What the error budget is for, in hours.
    pub period_hours: u32,
    /// The derived boolean metric `slo.<name>`, true for a bad sample. The catalogue numbers it.
    pub id: MetricId,
}

/// Which samples are bad.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Bad {
    /// Those of a boolean metric that are this.
    When(bool),
    /// Those in histogram buckets below that of the number.
    Below(f64),
    /// Those in histogram buckets above that of the number.
    Above(f64),
}

impl Slo {
    /// The objective in parts per million.
    pub fn objective(&self) -> u32 {
        1_000_000 - self.allowed
    }
}

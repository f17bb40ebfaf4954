//! The metric catalogue: what each metric is, its unit, resolution, range, direction and failure class.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::slo::Slo;

/// A metric's place in its [`Catalogue`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct MetricId(pub u16);

/// What a metric's samples are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A number between 0 and 1; `true` and `false` stand for 1 and 0.
    Score,
    /// True or false; the numbers 1 and 0 are accepted.
    Boolean,
    /// A non-negative number with a unit.
    Value,
}

/// Which way is better; the default of `clear` depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    HigherIsBetter,
    LowerIsBetter,
}

/// One metric of the catalogue.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Metric {
    pub name: String,
    pub kind: Kind,
    /// Printed behind numbers: `ms`, `USD`, `tokens`; empty for scores and rates.
    pub unit: String,
    /// The smallest step that the histogram tells apart, in the metric's unit.
    pub resolution: f64,
    /// The largest value that the histogram tells apart; larger samples count as this one in quantiles, exactly in sums.
    pub max: f64,
    pub direction: Direction,
    /// The `failure_class_hint` of an incident that a rule on this metric opens.
    pub failure_class: String,
}

/// All metrics that rules may name and events may carry.
#[derive(Clone, Debug, PartialEq)]
pub struct Catalogue {
    metrics: Vec<Metric>,
    by_name: BTreeMap<Arc<str>, MetricId>,
    slos: Vec<Slo>,
    /// What objectives are derived to, numbered after `metrics`. Events cannot carry them.
    derived: Vec<Metric>,
}

impl Catalogue {
    /// The built-in metrics with `extra` ones added; an extra metric replaces a built-in one of the same name.
    pub fn with(extra: Vec<Metric>) -> Self {
        let mut metrics = built_in();
        for metric in extra {
            match metrics.iter_mut().find(|m| m.name == metric.name) {
                Some(slot) => *slot = metric,
                None => metrics.push(metric),
            }
        }
        let by_name = metrics
            .iter()
            .enumerate()
            .map(|(i, m)| (Arc::from(m.name.as_str()), MetricId(u16::try_from(i).unwrap_or(u16::MAX))))
            .collect();
        Self { metrics, by_name, slos: Vec::new(), derived: Vec::new() }
    }

    /// The same metrics with these objectives on them, whose `id`s are set.
    #[must_use]
    pub fn with_slos(mut self, slos: Vec<Slo>) -> Self {
        let ids = (self.metrics.len()..).map(|i| MetricId(u16::try_from(i).unwrap_or(u16::MAX)));
        self.slos = slos.into_iter().zip(ids).map(|(slo, id)| Slo { id, ..slo }).collect();
        let derived = |slo: &Slo| Metric {
            name: format!("slo.{}", slo.name),
            kind: Kind::Boolean,
            unit: String::new(),
            resolution: 1.0,
            max: 1.0,
            direction: Direction::LowerIsBetter,
            failure_class: self.metrics[usize::from(slo.metric.0)].failure_class.clone(),
        };
        self.derived = self.slos.iter().map(derived).collect();
        self
    }

    /// All objectives.
    pub fn slos(&self) -> &[Slo] {
        &self.slos
    }

    /// The objective that a metric is derived for.
    pub fn slo(&self, id: MetricId) -> Option<&Slo> {
        self.slos.get(usize::from(id.0).checked_sub(self.metrics.len())?)
    }

    /// Finds a metric by its exact name.
    pub fn find(&self, name: &str) -> Option<MetricId> {
        self.by_name.get(name).copied()
    }

    /// Finds what series are recorded of by its exact name: a metric, or what an objective is derived to.
    pub fn find_series(&self, name: &str) -> Option<MetricId> {
        let derived = || self.slos.iter().zip(&self.derived).find(|(_, metric)| metric.name == name);
        self.find(name).or_else(|| derived().map(|(slo, _)| slo.id))
    }

    /// The metric whose samples events carry: that of an objective for a derived one.
    pub fn recorded(&self, id: MetricId) -> MetricId {
        self.slo(id).map_or(id, |slo| slo.metric)
    }

    /// The metric behind an id of this catalogue.
    pub fn get(&self, id: MetricId) -> &Metric {
        let place = usize::from(id.0);
        self.metrics.get(place).unwrap_or_else(|| &self.derived[place - self.metrics.len()])
    }

    /// All metrics that events carry, in the order of their ids.
    pub fn iter(&self) -> impl Iterator<Item = (MetricId, &Metric)> {
        (0u16..).map(MetricId).zip(&self.metrics)
    }

    /// How many metrics there are.
    pub fn len(&self) -> usize {
        self.metrics.len()
    }

    /// Whether there are none; never true, since the built-in ones are always there.
    pub fn is_empty(&self) -> bool {
        self.metrics.is_empty()
    }
}

impl Default for Catalogue {
    fn default() -> Self {
        Self::with(Vec::new())
    }
}

/// Name, kind, unit, resolution, maximum, direction and failure class of the built-in metrics.
#[rustfmt::skip]
const BUILT_IN: [(&str, Kind, &str, f64, f64, Direction, &str); 9] = {
    use Direction::{HigherIsBetter, LowerIsBetter};
    use Kind::{Boolean, Score, Value};
    [
        ("faithfulness", Score, "", 0.001, 1.0, HigherIsBetter, "quality_regression"),
        ("abstain", Boolean, "", 1.0, 1.0, LowerIsBetter, "over_refusal"),
        ("cost", Value, "USD", 0.000_01, 100.0, LowerIsBetter, "cost_runaway"),
        ("cost_per_generation", Value, "USD", 0.000_01, 100.0, LowerIsBetter, "cost_runaway"),
        ("latency", Value, "ms", 1.0, 600_000.0, LowerIsBetter, "latency_regression"),
        ("ttft", Value, "ms", 1.0, 600_000.0, LowerIsBetter, "latency_regression"),
        ("ai.injection.suspected", Boolean, "", 1.0, 1.0, LowerIsBetter, "prompt_injection"),
        ("error", Boolean, "", 1.0, 1.0, LowerIsBetter, "error_rate"),
        ("tokens", Value, "tokens", 1.0, 10_000_000.0, LowerIsBetter, "cost_runaway"),
    ]
};

fn built_in() -> Vec<Metric> {
    BUILT_IN
        .into_iter()
        .map(|(name, kind, unit, resolution, max, direction, failure_class)| Metric {
            name: name.into(),
            kind,
            unit: unit.into(),
            resolution,
            max,
            direction,
            failure_class: failure_class.into(),
        })
        .collect()
}

//! Levels on the command line, for the commands that simulate: `faithfulness=0.95`, `cost_p95=0.03`.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::output::Trouble;
use crate::config::Usual;
use crate::engine::rule::diagnostic::Span;
use crate::engine::rule::level::{self, Level};
use crate::engine::rule::token::Fault;
use crate::engine::rule::{Arm, Rule, Stat};
use crate::lab::simulate::draw::{Beta, Shape};
use crate::lab::simulate::world::Measured;
use crate::model::metric::{Catalogue, Kind, MetricId};

/// The spread of a value's logarithm when nothing is said: the 95th percentile is 2.3 times the median.
const SIGMA: f64 = 0.5;
/// The level of a metric of which only the number of samples matters.
pub const UNNEEDED: f64 = 0.5;

/// `NAME=NUMBER`, as it stands on the command line.
#[derive(Clone, Debug, PartialEq)]
pub struct Named {
    pub name: String,
    pub value: f64,
}

/// Reads `NAME=NUMBER`.
pub fn named(text: &str) -> Result<Named, String> {
    let wrong = || "is not `NAME=NUMBER`, such as faithfulness=0.95 or cost_p95=0.03".to_owned();
    let (name, value) = text.split_once('=').ok_or_else(wrong)?;
    let value = value.trim().parse().ok().filter(|v: &f64| v.is_finite() && *v >= 0.0).ok_or_else(wrong)?;
    Ok(Named { name: name.trim().to_owned(), value })
}

/// What was said of metrics.
#[derive(Clone, Debug, Default)]
pub struct Levels {
    pub healthy: Vec<Level>,
    pub regressed: Vec<Level>,
    pub baseline: Vec<Level>,
    spreads: Vec<(MetricId, Shape)>,
}

impl Levels {
    /// Finds the metrics behind names.
    ///
    /// # Errors
    ///
    /// A metric or statistic that does not exist, a value that it cannot have, the same twice.
    pub fn read(
        healthy: &[Named],
        regressed: &[Named],
        baseline: &[Named],
        spreads: &[Named],
        catalogue: &Catalogue,
    ) -> Result<Self, Trouble> {
        Ok(Self {
            healthy: Self::read_levels("--level", healthy, catalogue)?,
            regressed: Self::read_levels("--regression", regressed, catalogue)?,
            baseline: Self::read_levels("--baseline-level", baseline, catalogue)?,
            spreads: spreads.iter().map(|named| read_spread(named, catalogue)).collect::<Result<_, _>>()?,
        })
    }

    fn read_levels(option: &str, given: &[Named], catalogue: &Catalogue) -> Result<Vec<Level>, Trouble> {
        let mut levels: Vec<Level> = Vec::with_capacity(given.len());
        for named in given {
            let at = Span::new(0, named.name.len());
            let read = level::level(&named.name, named.value, at, catalogue);
            let level = read.map_err(|fault| wrong(option, named, fault))?;
            if levels.iter().any(|other| other.metric == level.metric) {
                return Err(wrong(option, named, Fault::new(at, "the metric stands there twice")));
            }
            levels.push(level);
        }
        Ok(levels)
    }

    /// The same from the configuration.
    pub fn usual(usual: &Usual, catalogue: &Catalogue) -> Self {
        let shape = |(metric, spread): &(MetricId, f64)| (*metric, spread_shape(*metric, *spread, catalogue));
        Self {
            healthy: usual.levels.clone(),
            spreads: usual.spreads.iter().map(shape).collect(),
            ..Self::default()
        }
    }

    /// What is said of how good a metric is.
    pub fn healthy(&self, metric: MetricId) -> Option<&Level> {
        self.healthy.iter().find(|level| level.metric == metric)
    }

    /// What is said of how the samples of a metric spread.
    pub fn spread(&self, metric: MetricId) -> Option<&Shape> {
        self.spreads.iter().find(|(id, _)| *id == metric).map(|(_, shape)| shape)
    }

    /// What the samples of a metric look like.
    fn shape(&self, metric: MetricId, catalogue: &Catalogue) -> Shape {
        self.spread(metric).cloned().unwrap_or_else(|| default_shape(metric, catalogue))
    }

    /// One metric as it is simulated; `None` if its level was not given and is needed.
    pub fn measured(&self, metric: MetricId, rules: &[Arc<Rule>], catalogue: &Catalogue) -> Option<Measured> {
        let shape = self.shape(metric, catalogue);
        let of = |levels: &[Level]| {
            let level = levels.iter().find(|level| level.metric == metric)?;
            shape.center(level.stat, level.value)
        };
        let healthy = of(&self.healthy).or_else(|| (!needs_level(metric, rules)).then_some(UNNEEDED))?;
        let mut measured = Measured::new(metric, catalogue.get(metric), shape.clone(), healthy);
        measured.regressed = of(&self.regressed);
        measured.baseline = of(&self.baseline).or_else(|| compares(metric, rules).then_some(healthy));
        Some(measured)
    }

    /// The metrics of a rule whose level was not given, each by the name of what should be.
    pub fn missing(&self, rule: &Rule, catalogue: &Catalogue) -> BTreeSet<String> {
        let rules = [Arc::new(rule.clone())];
        missing(rule, catalogue, |metric| self.measured(metric, &rules, catalogue).is_some())
    }
}

/// What is wrong with the value of an option.
fn wrong(option: &str, named: &Named, fault: Fault) -> Trouble {
    let trouble = Trouble::wrong(format!("`{option} {}={}`: {}", named.name, named.value, fault.message));
    match fault.help {
        Some(help) => trouble.hint(help),
        None => trouble,
    }
}

fn read_spread(named: &Named, catalogue: &Catalogue) -> Result<(MetricId, Shape), Trouble> {
    let at = Span::new(0, named.name.len());
    let read = level::spread(&named.name, named.value, at, catalogue);
    let (metric, spread) = read.map_err(|fault| wrong("--spread", named, fault))?;
    Ok((metric, spread_shape(metric, spread, catalogue)))
}

/// What samples of a given spread look like.
fn spread_shape(metric: MetricId, spread: f64, catalogue: &Catalogue) -> Shape {
    match catalogue.get(metric).kind {
        Kind::Value => Shape::LogNormal { sigma: spread },
        Kind::Score | Kind::Boolean => Shape::Spread(Arc::new(Beta::new(spread))),
    }
}

/// What samples look like where nothing is said: scores are 0 or 1.
pub fn default_shape(metric: MetricId, catalogue: &Catalogue) -> Shape {
    match catalogue.get(metric).kind {
        Kind::Score | Kind::Boolean => Shape::Share,
        Kind::Value => Shape::LogNormal { sigma: SIGMA },
    }
}

/// Whether some rule measures how good a metric is, not only how often it comes.
pub fn needs_level(metric: MetricId, rules: &[Arc<Rule>]) -> bool {
    let slots = || rules.iter().flat_map(|rule| rule.condition.slots.iter().chain(&rule.clear.slots));
    slots().any(|slot| slot.metric == metric && !matches!(slot.stat, Stat::Count | Stat::PerMin))
}

/// Whether some rule compares a metric with the baseline.
pub fn compares(metric: MetricId, rules: &[Arc<Rule>]) -> bool {
    let slots = || rules.iter().flat_map(|rule| rule.condition.slots.iter().chain(&rule.clear.slots));
    slots().any(|slot| slot.metric == metric && slot.arm == Arm::Baseline)
}

/// The metrics of a rule that are not `known`, each by the name of a level that would say how good it is.
pub fn missing(rule: &Rule, catalogue: &Catalogue, known: impl Fn(MetricId) -> bool) -> BTreeSet<String> {
    let slots = rule.condition.slots.iter().filter(|slot| !known(slot.metric));
    slots
        .map(|slot| {
            let metric = catalogue.get(slot.metric);
            match slot.stat.quantile().filter(|_| metric.kind == Kind::Value) {
                Some(_) => format!("{}_{}", metric.name, slot.stat.as_str()),
                None => metric.name.clone(),
            }
        })
        .collect()
}

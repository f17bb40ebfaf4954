//! Levels on the command line, for the commands that simulate: `faithfulness=0.95`, `cost_p95=0.03`.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::output::Trouble;
use crate::engine::rule::diagnostic::Span;
use crate::engine::rule::{Arm, Rule, Stat, identifier};
use crate::lab::simulate::draw::{Beta, Shape};
use crate::lab::simulate::world::Measured;
use crate::model::metric::{Catalogue, Kind, MetricId};

/// The spread of a value's logarithm when nothing is said: the 95th percentile is 2.3 times the median.
const SIGMA: f64 = 0.5;

/// A metric's statistic and what it is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Level {
    pub metric: MetricId,
    pub stat: Stat,
    pub value: f64,
}

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
        let mut levels = Self { spreads: read_spreads(spreads, catalogue)?, ..Self::default() };
        levels.healthy = levels.read_levels("--level", healthy, catalogue)?;
        levels.regressed = levels.read_levels("--regression", regressed, catalogue)?;
        levels.baseline = levels.read_levels("--baseline-level", baseline, catalogue)?;
        Ok(levels)
    }

    fn read_levels(
        &self,
        option: &str,
        given: &[Named],
        catalogue: &Catalogue,
    ) -> Result<Vec<Level>, Trouble> {
        let mut levels: Vec<Level> = Vec::with_capacity(given.len());
        for named in given {
            let level = resolve(named, catalogue).map_err(|why| why.of(option, named))?;
            if self.shape(level.metric, catalogue).center(level.stat, level.value).is_none() {
                let why = Wrong::new(format!("`{}` does not say how good the samples are", named.name));
                return Err(why.hint("give a mean, a rate or a quantile of a value").of(option, named));
            }
            if levels.iter().any(|other| other.metric == level.metric) {
                return Err(Wrong::new("the metric stands there twice").of(option, named));
            }
            levels.push(level);
        }
        Ok(levels)
    }

    /// What the samples of a metric look like.
    pub fn shape(&self, metric: MetricId, catalogue: &Catalogue) -> Shape {
        let given = self.spreads.iter().find(|(id, _)| *id == metric).map(|(_, shape)| shape.clone());
        given.unwrap_or_else(|| match catalogue.get(metric).kind {
            Kind::Score | Kind::Boolean => Shape::Share,
            Kind::Value => Shape::LogNormal { sigma: SIGMA },
        })
    }

    /// One metric as it is simulated; `None` if its level was not given and is needed.
    pub fn measured(&self, metric: MetricId, rules: &[Arc<Rule>], catalogue: &Catalogue) -> Option<Measured> {
        let shape = self.shape(metric, catalogue);
        let of = |levels: &[Level]| {
            let level = levels.iter().find(|level| level.metric == metric)?;
            shape.center(level.stat, level.value)
        };
        let slots = || rules.iter().flat_map(|rule| rule.condition.slots.iter().chain(&rule.clear.slots));
        let counted = |stat| matches!(stat, Stat::Count | Stat::PerMin);
        let needed = slots().any(|slot| slot.metric == metric && !counted(slot.stat));
        let healthy = of(&self.healthy).or_else(|| (!needed).then_some(0.5))?;
        let compared = slots().any(|slot| slot.metric == metric && slot.arm == Arm::Baseline);
        let mut measured = Measured::new(metric, catalogue.get(metric), shape.clone(), healthy);
        measured.regressed = of(&self.regressed);
        measured.baseline = of(&self.baseline).or_else(|| compared.then_some(healthy));
        Some(measured)
    }

    /// The metrics of a rule whose level was not given, each by the name of what should be.
    pub fn missing(&self, rule: &Rule, catalogue: &Catalogue) -> BTreeSet<String> {
        let rules = [Arc::new(rule.clone())];
        let slots = rule
            .condition
            .slots
            .iter()
            .filter(|slot| self.measured(slot.metric, &rules, catalogue).is_none());
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
}

/// What is wrong with one option's value.
struct Wrong {
    what: String,
    hint: Option<String>,
}

impl Wrong {
    fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), hint: None }
    }

    fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    fn of(self, option: &str, named: &Named) -> Trouble {
        let trouble = Trouble::wrong(format!("`{option} {}={}`: {}", named.name, named.value, self.what));
        match self.hint {
            Some(hint) => trouble.hint(hint),
            None => trouble,
        }
    }
}

fn resolve(named: &Named, catalogue: &Catalogue) -> Result<Level, Wrong> {
    // Names of measurements without their window.
    let found = identifier::resolve(&format!("{}_1h", named.name), Span::new(0, named.name.len()), catalogue);
    let found = found.map_err(|fault| {
        let plain = |text: String| text.replace("_1h`", "`");
        Wrong { what: plain(fault.message), hint: fault.help.map(plain) }
    })?;
    let metric = catalogue.get(found.metric);
    let top = if metric.kind == Kind::Value { metric.max } else { 1.0 };
    if named.value > top || (metric.kind == Kind::Value && named.value <= 0.0) {
        let unit = if metric.unit.is_empty() { String::new() } else { format!(" {}", metric.unit) };
        let range = format!("`{}` lies between 0 and {top}{unit}", metric.name);
        return Err(Wrong::new("no sample can be so").hint(range));
    }
    Ok(Level { metric: found.metric, stat: found.stat, value: named.value })
}

fn read_spreads(given: &[Named], catalogue: &Catalogue) -> Result<Vec<(MetricId, Shape)>, Trouble> {
    let shape = |named: &Named| {
        let level = resolve(&Named { value: 0.5, ..named.clone() }, catalogue)?;
        let shape = match catalogue.get(level.metric).kind {
            Kind::Boolean => return Err(Wrong::new("true or false has no spread of its own")),
            Kind::Score if named.value == 0.0 || named.value > 0.5 => {
                return Err(Wrong::new("the spread of a score lies above 0 and is at most 0.5"));
            }
            Kind::Score => Shape::Spread(Arc::new(Beta::new(named.value))),
            Kind::Value if named.value == 0.0 || named.value > 3.0 => {
                return Err(Wrong::new(
                    "the spread of a value is that of its logarithm, above 0 and at most 3",
                ));
            }
            Kind::Value => Shape::LogNormal { sigma: named.value },
        };
        Ok((level.metric, shape))
    };
    given.iter().map(|named| shape(named).map_err(|why| why.of("--spread", named))).collect()
}

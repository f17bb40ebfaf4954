//! What `check` simulates with: traffic, levels and spreads, each from an option, else from recorded events, else from the
//! configuration; and which of these it was.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use serde::Serialize;
use serde_json::{Value, json};

use super::{CheckArgs, Report};
use crate::cli::levels::{self, Levels, UNNEEDED};
use crate::cli::output::Trouble;
use crate::cli::recorded::{Events, check_files, progress};
use crate::config::Config;
use crate::dispatch::words;
use crate::engine::rule::diagnostic::{Diagnostic, nearest};
use crate::engine::rule::level::Level;
use crate::engine::rule::traffic::Traffic;
use crate::engine::rule::{Rule, RuleSet, Stat};
use crate::lab::arrivals::Arrivals;
use crate::lab::recording::Recording;
use crate::lab::simulate::draw::Shape;
use crate::lab::simulate::observed::Observed;
use crate::lab::simulate::world::{Measured, World};
use crate::model::id::Variant;
use crate::model::metric::{Kind, MetricId};

/// Who says a number. What comes first goes before the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    Option,
    Recording,
    Configuration,
    Default,
}

/// A number and who says it.
type Said<T> = (T, Source);

/// What is known of traffic and levels.
pub struct Given<'a> {
    report: &'a Report,
    events: Option<f64>,
    options: Levels,
    observed: Option<Box<Observed>>,
}

/// Where the numbers of one rule's simulation come from.
#[derive(Debug)]
pub struct Sources {
    events: Said<f64>,
    /// Where the rule compares.
    baseline_events: Option<Said<f64>>,
    metrics: Vec<MetricSource>,
}

/// What is simulated of one metric.
#[derive(Debug)]
struct MetricSource {
    metric: String,
    unit: String,
    kind: Kind,
    /// Statistic and value as they were said; `None` where only the number of samples matters.
    level: Option<Said<(&'static str, f64)>>,
    /// `None`: samples are true or false, 0 or 1.
    spread: Said<Option<f64>>,
    baseline: Option<Said<(&'static str, f64)>>,
}

impl<'a> Given<'a> {
    /// Reads options and recordings. `None` when neither these nor the configuration say how many events to expect.
    pub fn read(args: &CheckArgs, report: &'a Report) -> Result<Option<(Self, Traffic)>, Trouble> {
        let options = Levels::read(&args.level, &[], &[], &args.spread, &report.catalogue)?;
        let mut given = Self { report, events: args.events_per_minute, options, observed: None };
        if let Some(events) = given.events {
            return Ok(Some((given, Traffic::Steady(events))));
        }
        let expected = given.expected();
        if !args.events.is_empty() {
            let traffic = given.look_at(args, expected)?;
            return Ok(Some((given, traffic)));
        }
        if expected.is_empty() {
            return match args.level.is_empty() {
                true => Ok(None),
                false => Err(Trouble::wrong("`--level` says how good events are, but not how many come")
                    .hint("add `--events-per-minute N`, or recorded events with `--events FILE`; or `expected:` to the configuration")),
            };
        }
        Ok(Some((given, Traffic::Expected(expected))))
    }

    /// What the configuration expects of the variants that rules look at.
    fn expected(&self) -> BTreeMap<Variant, f64> {
        let rules = self.report.compiled.rules.rules.iter();
        let variants = rules.flat_map(|rule| std::iter::once(&rule.variant).chain(&rule.baseline));
        let rate = |variant: &Variant| self.report.expected.of(variant).events_per_minute;
        variants.filter_map(|variant| Some((variant.clone(), rate(variant)?))).collect()
    }

    fn look_at(&mut self, args: &CheckArgs, expected: BTreeMap<Variant, f64>) -> Result<Traffic, Trouble> {
        let files: Vec<Recording> = args.events.iter().map(|path| Recording::new(path)).collect();
        check_files(&files)?;
        let events = Events::Files(files);
        let bar = progress(&events, 1);
        let catalogue = &self.report.catalogue;
        let mut arrivals = Arrivals::new(&self.report.compiled.rules, Arc::clone(catalogue));
        let mut observed = Box::new(Observed::new(Arc::clone(catalogue)));
        events.each(&bar, |message| {
            arrivals.look(message);
            observed.look(message);
        })?;
        bar.finish_and_clear();
        if arrivals.events == 0 {
            return Err(Trouble::wrong(format!("{} holds no event", events.name()))
                .hint("docs/events.md says what an event is: one JSON object per line"));
        }
        self.observed = Some(observed);
        Ok(arrivals.finish(expected))
    }

    /// The world of one rule; `None` where something that it needs is not known.
    pub fn world(&self, rule: &Arc<Rule>) -> Option<(World, Sources)> {
        let slots = rule.condition.slots.iter().chain(&rule.clear.slots);
        let metrics: BTreeSet<MetricId> = slots.map(|slot| slot.metric).collect();
        let events = self.events_of(&rule.variant)?;
        let baseline = rule.baseline.as_ref().and_then(|baseline| self.events_of(baseline));
        let baseline = baseline.unwrap_or(events);
        let measured: Option<Vec<_>> =
            metrics.into_iter().map(|metric| self.measured(rule, metric)).collect();
        let (metrics, sources) = measured?.into_iter().unzip();
        let world = World { events: events.0, baseline_events: baseline.0, metrics, ..World::default() };
        let compares = rule.condition.reads_baseline();
        Some((world, Sources { events, baseline_events: compares.then_some(baseline), metrics: sources }))
    }

    /// What is missing of the world of a rule.
    pub fn missing(&self, rule: &Arc<Rule>) -> String {
        let variant = &rule.variant;
        if self.events_of(variant).is_none() {
            let what = match self.observed {
                Some(_) => format!("no event of {variant} is recorded, and none is"),
                None => format!("no events of {variant} are"),
            };
            return format!("not known: {what} `expected:` in the configuration");
        }
        let catalogue = &self.report.catalogue;
        if rule.condition.slots.iter().any(|slot| catalogue.slo(slot.metric).is_some()) {
            return "not told: what objectives measure is not simulated".to_owned();
        }
        let known = |metric| self.measured(rule, metric).is_some();
        let missing = levels::missing(rule, catalogue, known);
        let options: Vec<String> = missing.iter().map(|name| format!("`--level {name}=…`")).collect();
        format!("not known: say {}, or put it under `expected:` in the configuration", options.join(" "))
    }

    fn events_of(&self, variant: &Variant) -> Option<Said<f64>> {
        let recorded = || self.observed.as_ref()?.events_per_minute(variant);
        let expected = || self.report.expected.of(variant).events_per_minute;
        let option = self.events.map(|events| (events, Source::Option));
        option
            .or_else(|| Some((recorded()?, Source::Recording)))
            .or_else(|| Some((expected()?, Source::Configuration)))
    }

    fn measured(&self, rule: &Arc<Rule>, metric: MetricId) -> Option<(Measured, MetricSource)> {
        let known = self.report.catalogue.get(metric);
        let rules = std::slice::from_ref(rule);
        let shape = self.shape(&rule.variant, metric);
        let own = self.center(&rule.variant, metric, &shape.0);
        let healthy = match own {
            Some((center, ..)) => center,
            None if levels::needs_level(metric, rules) => return None,
            None => UNNEEDED,
        };
        let mut measured = Measured::new(metric, known, shape.0.clone(), healthy);
        let mut source = MetricSource {
            metric: known.name.clone(),
            unit: known.unit.clone(),
            kind: known.kind,
            level: own.map(|(_, said)| said),
            spread: (spread_of(&shape.0), shape.1),
            baseline: None,
        };
        if levels::compares(metric, rules) {
            // As good as the variant where nothing else is known.
            let baseline = rule.baseline.as_ref().and_then(|name| self.center(name, metric, &shape.0));
            measured.baseline = Some(baseline.map_or(healthy, |(center, _)| center));
            source.baseline = baseline.map(|(_, said)| said);
        }
        Some((measured, source))
    }

    /// What the samples of a metric look like.
    fn shape(&self, variant: &Variant, metric: MetricId) -> Said<Shape> {
        let catalogue = &self.report.catalogue;
        if let Some(shape) = self.options.spread(metric) {
            return (shape.clone(), Source::Option);
        }
        if let Some(seen) = self.seen(variant, metric) {
            return (seen.shape, Source::Recording);
        }
        match self.usual(variant).spread(metric) {
            Some(shape) => (shape.clone(), Source::Configuration),
            None => (levels::default_shape(metric, catalogue), Source::Default),
        }
    }

    /// The centre of a metric's samples, and the level that it follows from.
    fn center(
        &self,
        variant: &Variant,
        metric: MetricId,
        shape: &Shape,
    ) -> Option<(f64, Said<(&'static str, f64)>)> {
        let of = |level: &Level, from| {
            let center = shape.center(level.stat, level.value)?;
            Some((center, ((level.stat.as_str(), level.value), from)))
        };
        if let Some(level) = self.options.healthy(metric) {
            return of(level, Source::Option);
        }
        if let Some(seen) = self.seen(variant, metric) {
            let stat = match seen.kind {
                Kind::Boolean => Stat::Rate,
                Kind::Score => Stat::Mean,
                Kind::Value => Stat::P50,
            };
            return Some((seen.healthy, ((stat.as_str(), seen.healthy), Source::Recording)));
        }
        of(self.usual(variant).healthy(metric)?, Source::Configuration)
    }

    fn seen(&self, variant: &Variant, metric: MetricId) -> Option<Measured> {
        self.observed.as_ref()?.measured(variant, metric)
    }

    fn usual(&self, variant: &Variant) -> Levels {
        Levels::usual(&self.report.expected.of(variant), &self.report.catalogue)
    }
}

fn spread_of(shape: &Shape) -> Option<f64> {
    match shape {
        Shape::Share => None,
        Shape::Spread(beta) => Some(beta.sd()),
        Shape::LogNormal { sigma } => Some(*sigma),
    }
}

/// Entries of `expected:` that no rule has anything to do with: most likely the name is wrong.
pub fn of_no_rule(config: &Config, rules: &RuleSet) -> Vec<Diagnostic> {
    let variants =
        || rules.rules.iter().flat_map(|rule| std::iter::once(&rule.variant).chain(&rule.baseline));
    let unused = config.expected.entries().iter().filter(|entry| !variants().any(|v| entry.is_of(v)));
    let warning = |entry: &crate::config::Entry| {
        let names = variants().flat_map(|variant| [variant.as_str(), variant.feature()]);
        let help = match nearest(&entry.name, names) {
            Some(near) => format!("did you mean `{near}`?"),
            None => "name a variant, or a feature (what stands before its first dot) for all of its variants"
                .into(),
        };
        let message = format!("no rule has to do with a variant or feature `{}`", entry.name);
        entry.at.warning(&config.path.display().to_string(), message, help)
    };
    unused.map(warning).collect()
}

impl Source {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Option => "option",
            Self::Recording => "recording",
            Self::Configuration => "configuration",
            Self::Default => "default",
        }
    }
}

impl fmt::Display for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (events, from) = self.events;
        write!(f, "{} a minute ({})", words::events(events), from.as_str())?;
        if let Some((events, from)) = self.baseline_events {
            write!(f, ", of the baseline {} ({})", words::number(events), from.as_str())?;
        }
        self.metrics.iter().try_for_each(|metric| write!(f, "; {metric}"))
    }
}

impl fmt::Display for MetricSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((level, from)) = self.level else {
            return write!(f, "{} at any level", self.metric);
        };
        let shown = |(stat, value): (&str, f64)| format!("{stat} {}", words::measure(value, &self.unit));
        let mut parts = vec![(format!("{} {}", self.metric, shown(level)), from)];
        parts.extend(self.baseline.map(|(level, from)| (format!("of the baseline {}", shown(level)), from)));
        parts.extend(match self.spread {
            _ if self.kind == Kind::Boolean => None,
            (None, from) => Some(("all 0 or 1".to_owned(), from)),
            (Some(spread), from) => Some((format!("spread {}", words::number(spread)), from)),
        });
        // Who says it stands once behind all that he says.
        for (place, (text, from)) in parts.iter().enumerate() {
            let comma = if place > 0 { ", " } else { "" };
            write!(f, "{comma}{text}")?;
            if parts.get(place + 1).is_none_or(|next| next.1 != *from) {
                write!(f, " ({})", from.as_str())?;
            }
        }
        Ok(())
    }
}

impl Sources {
    /// The same for machines.
    pub fn as_json(&self) -> Value {
        let said = |(value, from): Said<f64>| json!({ "value": value, "from": from });
        let level = |((stat, value), from): Said<(&str, f64)>| json!({ "statistic": stat, "value": value, "from": from });
        let metrics = self.metrics.iter().map(|of| {
            json!({
                "metric": of.metric,
                "level": of.level.map(level),
                "baseline_level": of.baseline.map(level),
                "spread": { "value": of.spread.0, "from": of.spread.1 },
            })
        });
        json!({
            "events_per_minute": said(self.events),
            "baseline_events_per_minute": self.baseline_events.map(said),
            "metrics": metrics.collect::<Vec<_>>(),
        })
    }
}

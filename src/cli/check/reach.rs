//! What simulation says of each rule, given traffic and a level: its reach, and how often it would act falsely.

use std::sync::Arc;

use serde_json::{Value, json};

use super::Report;
use super::given::{Given, Sources};
use crate::cli::simulate::{estimate, progress, quantile};
use crate::dispatch::words;
use crate::engine::rule::traffic::{Traffic, never_fires};
use crate::engine::rule::{Confirm, Rule, RuleAction, RuleSet};
use crate::lab::setup::{Bench, Setup};
use crate::lab::simulate::judge::Judge;
use crate::lab::simulate::reach::{Effort, Lever, Reach, reach};
use crate::lab::simulate::tally::{Estimate, Quantile};
use crate::lab::simulate::world::World;
use crate::lab::simulate::{Plan, Size, within_ten};
use crate::model::id::Variant;
use crate::model::metric::Kind;

/// Minutes after the onset after which a rule is called too slow to be told.
const HORIZON: u32 = 240;
/// Healthy days of each run.
const DAYS: f64 = 1.0;
/// The seed: `check` says the same of the same files.
const SEED: u64 = 1;

/// What simulation says of one rule.
#[derive(Debug)]
pub struct RuleReach {
    pub events: f64,
    /// Where the numbers come from.
    from: Sources,
    lever: Option<Lever>,
    unit: String,
    reach: Option<Reach>,
    /// False actions per 1,000 days, per mode.
    falsely: Vec<(Confirm, Estimate)>,
    days: f64,
    runs: u64,
}

/// What can be said of one rule.
#[derive(Debug)]
pub enum Told {
    Simulated(Box<RuleReach>),
    /// Why nothing was: what would have to be said, or that there is nothing to find.
    Unknown(String),
}

/// Simulates every rule whose levels are known.
pub fn simulate(runs: u64, report: &Report, given: &Given<'_>, traffic: &Traffic) -> Vec<Told> {
    let rules = &report.compiled.rules.rules;
    let notes = &report.compiled.notes;
    let real = rules.iter().zip(notes).filter(|(_, note)| !note.drill);
    let rollbacks = real.filter(|(rule, _)| rule.action == RuleAction::Rollback).count();
    let threads = std::thread::available_parallelism().map_or(1, Into::into);
    let bar = progress(rules.len() as u64, "rules");
    let simulated = rules.iter().inspect(|_| bar.inc(1)).map(|rule| match given.world(rule) {
        _ if never_fires(rule, traffic) => {
            Told::Unknown("none: with this traffic it can never fire".to_owned())
        }
        Some(world) => Told::Simulated(Box::new(one(rule, world, report, rollbacks, runs, threads))),
        None => Told::Unknown(given.missing(rule)),
    });
    let told = simulated.collect();
    bar.finish_and_clear();
    told
}

fn one(
    rule: &Arc<Rule>,
    (world, from): (World, Sources),
    report: &Report,
    rollbacks: usize,
    runs: u64,
    threads: usize,
) -> RuleReach {
    let bench = Bench {
        catalogue: Arc::clone(&report.catalogue),
        limits: report.limits,
        lateness: report.timing.lateness,
    };
    let baseline = [Variant::new(format!("{}.simulated-baseline", rule.variant.feature()))];
    let setup =
        Setup::new(RuleSet { rules: vec![Arc::clone(rule)], ..Default::default() }, &[], &baseline, None);
    let others = rollbacks.saturating_sub(usize::from(rule.action == RuleAction::Rollback));
    let plan = |judges| Plan::new(&setup, &bench, world.clone(), judges, others + 1, SEED);
    let lever = Lever::of(rule, &world, &report.catalogue);
    let effort = Effort { runs, horizon: HORIZON, ten: within_ten(report.timing.lateness), threads };
    let own = plan(vec![Judge::Mode(rule.confirm)]);
    let modes = plan(Confirm::ALL.map(Judge::Mode).to_vec());
    let outcome = modes.run(Size { runs, days: DAYS, horizon: 0, threads }, &|| {});
    let falsely = Confirm::ALL.into_iter().zip(&outcome.judges);
    RuleReach {
        events: world.events,
        from,
        unit: lever.map(|lever| report.catalogue.get(lever.metric).unit.clone()).unwrap_or_default(),
        reach: lever.map(|lever| reach(&own, &lever, effort)),
        lever,
        falsely: falsely
            .map(|(mode, told)| (mode, outcome.per_1000_days(told.rules[0].counts.acted)))
            .collect(),
        days: outcome.days(),
        runs,
    }
}

impl Told {
    /// Lines for people.
    pub fn lines(&self, rule: &Rule) -> Vec<(&'static str, String)> {
        match self {
            Self::Simulated(told) => told.lines(rule),
            Self::Unknown(why) => vec![("reach", why.clone())],
        }
    }

    /// The same for machines; `None` where nothing was simulated.
    pub fn as_json(&self) -> Option<Value> {
        match self {
            Self::Simulated(told) => Some(told.as_json()),
            Self::Unknown(_) => None,
        }
    }
}

impl RuleReach {
    /// What is given, what the reach is, and then how often the rule acts falsely: a line each for people.
    fn lines(&self, rule: &Rule) -> Vec<(&'static str, String)> {
        let mut lines = vec![("given", self.from.to_string())];
        if let (Some(lever), Some(reach)) = (&self.lever, &self.reach) {
            lines.push(("reach", self.told(lever, reach, rule)));
            let times: Vec<String> = reach
                .times
                .iter()
                .map(|(size, time)| format!("{} {}", shift(lever.kind, *size), minutes(*time)))
                .collect();
            if !times.is_empty() {
                lines.push((
                    "takes",
                    format!("{} from onset (median of {} runs)", times.join(", "), self.runs),
                ));
            }
        } else {
            lines.push((
                "reach",
                "not told: the condition measures several metrics; see `rearguard simulate`".into(),
            ));
        }
        let falsely = self.falsely.iter().map(|(mode, of)| {
            let own = if *mode == rule.confirm { " (this rule)" } else { "" };
            format!("{}{own} {}", mode.as_str(), estimate(*of, 1.0, ""))
        });
        let falsely: Vec<String> = falsely.collect();
        let days = words::number(self.days.round());
        lines.push(("cries wolf", format!("per 1,000 days: {} (95 %, of {days} days)", falsely.join(", "))));
        lines
    }

    fn told(&self, lever: &Lever, reach: &Reach, rule: &Rule) -> String {
        let healthy = self.value(lever.healthy);
        let done = match rule.action {
            RuleAction::Rollback => "rolled back",
            RuleAction::PauseRollout => "paused",
            RuleAction::Notify => "told",
        };
        let at = format!("at {} a minute and {healthy}", words::events(self.events));
        match reach.smallest {
            Some(size) => {
                let to = self.value(lever.shifted(size));
                format!(
                    "{at}: a shift by {} (to {to}) is {done} within ten minutes of onset",
                    shift(lever.kind, size)
                )
            }
            None => {
                let worst = self.value(lever.shifted(reach.worst));
                format!(
                    "{at}: practically nothing is {done} within ten minutes of onset: even {worst} takes {}",
                    minutes(reach.at_worst)
                )
            }
        }
    }

    fn value(&self, center: f64) -> String {
        let value = words::measure(center, &self.unit);
        match &self.lever {
            Some(lever) if lever.kind == Kind::Value => format!("a median of {value}"),
            _ => value,
        }
    }

    fn as_json(&self) -> Value {
        let falsely: serde_json::Map<String, Value> =
            self.falsely.iter().map(|(mode, of)| (mode.as_str().to_owned(), json!(of))).collect();
        let reach = self.lever.zip(self.reach.as_ref()).map(|(lever, reach)| {
            let times =
                reach.times.iter().map(|(size, time)| json!({ "shift": size, "median_minutes": time }));
            json!({
                "center": lever.healthy,
                "shift_unit": if lever.kind == Kind::Value { "relative" } else { "absolute" },
                "smallest_within_ten_minutes": reach.smallest,
                "smallest_center": reach.smallest.map(|size| lever.shifted(size)),
                "worst_shift": reach.worst,
                "worst_median_minutes": reach.at_worst,
                "times": times.collect::<Vec<_>>(),
            })
        });
        json!({
            "events_per_minute": self.events,
            "given": self.from.as_json(),
            "runs": self.runs,
            "horizon_minutes": HORIZON,
            "reach": reach,
            "false_per_1000_days": falsely,
            "healthy_days": self.days,
        })
    }
}

/// `5 points`, `20 %`.
fn shift(kind: Kind, size: f64) -> String {
    let size = words::number((size * 1_000.0).round() / 10.0);
    match (kind, size.as_str()) {
        (Kind::Value, _) => format!("{size} %"),
        (_, "1") => "1 point".to_owned(),
        _ => format!("{size} points"),
    }
}

/// `7 min (6–8)`
fn minutes(of: Quantile) -> String {
    match of.value {
        Some(_) => quantile(of, HORIZON).replacen(' ', " min ", 1),
        None => format!("over {} h", HORIZON / 60),
    }
}

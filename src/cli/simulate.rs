//! `rearguard simulate`: how often rules cry wolf and how fast they act, before there is data.

mod human;
mod json;
mod plot;

pub use human::{estimate, quantile};

use std::collections::BTreeSet;
use std::io::IsTerminal;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::levels::{Levels, Named, named};
use super::output::{Format, Trouble, end, show, show_json};
use super::{GOOD, WRONG, diagnostics};
use crate::config::{Config, rule_files};
use crate::engine::rule::compile::compile_rules;
use crate::engine::rule::diagnostic::Diagnostic;
use crate::engine::rule::{Confirm, Rule, RuleAction, RuleSet};
use crate::lab::setup::{Bench, Setup};
use crate::lab::simulate::judge::Judge;
use crate::lab::simulate::tally::Outcome;
use crate::lab::simulate::world::World;
use crate::lab::simulate::{Plan, Size};
use crate::model::id::Variant;

/// Say how often rules would act without cause and how fast with one, on made-up traffic, for each `confirm` mode.
///
/// Every mode sees the same minutes, drawn from the seed; the engine is the daemon's. Beside the modes stand two plain rules over
/// the same windows: `plain` acts as soon as the condition is true, `for: 5m` when it has been true for five minutes, as Prometheus
/// does. Whatever acts while all is well is false and re-armed at once. Shocks and swings are in points for scores and rates (0.02 is
/// two points), relative for values (0.02 is two percent).
#[derive(Args, Clone, Debug)]
pub struct SimulateArgs {
    /// A rule file or a folder of them. Default: those of the configuration
    #[arg(long, short, value_name = "FILE")]
    rules: Vec<PathBuf>,
    /// The configuration, for its metrics, flags, limits and lateness; without one the defaults are used
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Events of a variant a minute, on average; each carries all metrics
    #[arg(long, value_name = "N", default_value_t = 60.0, value_parser = positive)]
    events_per_minute: f64,
    /// How good a metric is while all is well: a mean, a rate, or a quantile of a value (`cost_p95=0.03`)
    #[arg(long, value_name = "METRIC=VALUE", value_parser = named)]
    level: Vec<Named>,
    /// What it becomes; without any, only false alarms are counted
    #[arg(long, value_name = "METRIC=VALUE", value_parser = named)]
    regression: Vec<Named>,
    /// Standard deviation of scores (default: all are 0 or 1), of the logarithm of values (default: 0.5)
    #[arg(long, value_name = "METRIC=SD", value_parser = named)]
    spread: Vec<Named>,
    /// Events of the baseline a minute; default: as many as the variant's
    #[arg(long, value_name = "N", value_parser = positive)]
    baseline_events_per_minute: Option<f64>,
    /// How good the baseline is; default: as good as the variant while all is well
    #[arg(long, value_name = "METRIC=VALUE", value_parser = named)]
    baseline_level: Vec<Named>,
    #[command(flatten)]
    trouble: TroubleArgs,
    /// Independent runs
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    runs: u64,
    /// Healthy days of each run
    #[arg(long, value_name = "DAYS", default_value_t = 10.0, value_parser = positive)]
    days: f64,
    /// Minutes after the onset of the regression at which a run ends
    #[arg(long, value_name = "MINUTES", default_value_t = 600, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    horizon: u32,
    /// The same seed gives the same story, whatever the number of threads
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Who judges; default: everybody
    #[arg(long, value_enum, value_delimiter = ',', value_name = "MODE")]
    confirm: Vec<JudgeArg>,
    /// Rollback rules of the whole fleet: the evidence that each needs grows with them. Default: those of the rules given
    #[arg(long, value_name = "N")]
    fleet: Option<usize>,
    /// Threads; default: one per core
    #[arg(long, value_name = "N")]
    threads: Option<NonZeroUsize>,
    /// Also draw the times to act into this file (SVG)
    #[arg(long, value_name = "FILE", requires = "regression")]
    plot: Option<PathBuf>,
    /// How to report
    #[arg(long, value_enum, default_value_t = Format::Human)]
    format: Format,
}

/// What goes wrong by itself.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "What goes wrong by itself")]
struct TroubleArgs {
    /// How far traffic swings in a day: 0.5 is from half to one and a half of its average
    #[arg(long, value_name = "SHARE", default_value_t = 0.0, value_parser = share)]
    traffic_swing: f64,
    /// How far every level swings in a day; it is lowest while traffic is highest
    #[arg(long, value_name = "POINTS", default_value_t = 0.0, value_parser = share)]
    level_swing: f64,
    /// Standard deviation of a shock that all events of one minute share
    #[arg(long, value_name = "SD", default_value_t = 0.0, value_parser = share)]
    noise: f64,
    /// Standard deviation of shocks that last, AR(1) from minute to minute
    #[arg(long, value_name = "SD", default_value_t = 0.0, value_parser = share)]
    shocks: f64,
    /// How much of such a shock is left a minute later
    #[arg(long, value_name = "SHARE", default_value_t = 0.95, value_parser = share)]
    shocks_last: f64,
    /// Minutes a day in which everything is as bad as can be
    #[arg(long, value_name = "PER DAY", default_value_t = 0.0, value_parser = not_negative)]
    accidents: f64,
    /// By how much such a minute multiplies traffic
    #[arg(long, value_name = "TIMES", default_value_t = 10.0, value_parser = positive)]
    accident_traffic: f64,
    /// Times a day at which no events come at all
    #[arg(long, value_name = "PER DAY", default_value_t = 0.0, value_parser = not_negative)]
    gaps: f64,
    /// How long each of them lasts
    #[arg(long, value_name = "MINUTES", default_value_t = 30)]
    gap_minutes: u32,
    /// The share of events that enters minutes already judged
    #[arg(long, value_name = "SHARE", default_value_t = 0.0, value_parser = share)]
    late: f64,
    /// How much later these come
    #[arg(long, value_name = "MINUTES", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=300))]
    late_minutes: u32,
}

/// Who judges, on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum JudgeArg {
    Either,
    Significant,
    Evidence,
    Persistence,
    /// Each rule as its file says
    Written,
    /// Acts as soon as the condition is true
    Plain,
    /// Acts when the condition has been true for five minutes
    For5m,
}

fn number(text: &str, fits: impl Fn(f64) -> bool, what: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|number: &f64| number.is_finite() && fits(*number));
    number.ok_or_else(|| format!("is no number {what}"))
}

fn positive(text: &str) -> Result<f64, String> {
    number(text, |n| n > 0.0 && n <= 1e6, "above 0 and at most 1,000,000")
}

fn not_negative(text: &str) -> Result<f64, String> {
    number(text, |n| (0.0..=1_440.0).contains(&n), "between 0 and 1,440")
}

fn share(text: &str) -> Result<f64, String> {
    number(text, |n| (0.0..=1.0).contains(&n), "between 0 and 1")
}

/// Runs the command; the result is the exit code.
pub fn run(args: &SimulateArgs) -> anyhow::Result<u8> {
    match compile(args) {
        Ok((rules, config)) => end(args.format, simulate(args, rules, &config)),
        Err(errors) => {
            match args.format {
                Format::Human => diagnostics::print(&errors),
                Format::Json => show_json(&serde_json::json!({ "error": { "diagnostics": errors } }))?,
            }
            Ok(WRONG)
        }
    }
}

fn compile(args: &SimulateArgs) -> Result<(RuleSet, Config), Vec<Diagnostic>> {
    let config = match &args.config {
        Some(path) => Config::load(path)?,
        None => Config::built_in(),
    };
    let places = if args.rules.is_empty() { &config.rules } else { &args.rules };
    if args.rules.is_empty() && args.config.is_none() {
        let missing = Diagnostic::whole_file("rearguard simulate", "no rules were named");
        return Err(vec![missing.with_help("name a file or folder with `--rules`, or a `--config`")]);
    }
    let compiled = compile_rules(&rule_files(places)?, &config.catalogue, &config.flags)?;
    Ok((compiled.rules, config))
}

/// The rules of one variant, and what came of them.
struct Part {
    plan: Plan,
    outcome: Outcome,
}

/// What is reported.
struct Report<'a> {
    args: &'a SimulateArgs,
    config: &'a Config,
    size: Size,
    parts: Vec<Part>,
    left_out: Vec<LeftOut>,
}

/// A rule that could not be simulated, and the options that would say what is missing.
type LeftOut = (Arc<Rule>, String);

fn simulate(args: &SimulateArgs, rules: RuleSet, config: &Config) -> Result<u8, Trouble> {
    let levels =
        Levels::read(&args.level, &args.regression, &args.baseline_level, &args.spread, &config.catalogue)?;
    check_measured(&rules, &levels, config)?;
    let rollbacks = rules.rules.iter().filter(|rule| rule.action == RuleAction::Rollback).count();
    let (told, left_out) = split(rules, &levels, config);
    if told.is_empty() {
        return Err(nothing_to_do(&left_out));
    }
    let (cores, horizon) = (std::thread::available_parallelism(), args.horizon);
    let size = Size {
        runs: args.runs,
        days: args.days,
        horizon: if args.regression.is_empty() { 0 } else { horizon },
        threads: args.threads.or(cores.ok()).map_or(1, NonZeroUsize::get),
    };
    let plans = variants(told).into_iter().map(|rules| plan(args, rules, &levels, config, rollbacks));
    let plans: Vec<Plan> = plans.collect();
    let bar = progress(args.runs * plans.len() as u64, "runs");
    let parts = plans.into_iter().map(|plan| {
        let outcome = plan.run(size, &|| bar.inc(1));
        Part { plan, outcome }
    });
    let report = Report { args, config, size, parts: parts.collect(), left_out };
    bar.finish_and_clear();
    if let Some(path) = &args.plot {
        std::fs::write(path, plot::draw(&report))
            .map_err(|error| Trouble::wrong(format!("{}: cannot be written: {error}", path.display())))?;
    }
    match args.format {
        Format::Human => show(&human::text(&report))?,
        Format::Json => show_json(&json::document(&report))?,
    }
    Ok(GOOD)
}

/// A level of what no rule measures was meant for something else.
fn check_measured(rules: &RuleSet, levels: &Levels, config: &Config) -> Result<(), Trouble> {
    let slots = || rules.rules.iter().flat_map(|rule| rule.condition.slots.iter().chain(&rule.clear.slots));
    let given = [("--level", &levels.healthy), ("--regression", &levels.regressed)];
    for (option, levels) in given {
        if let Some(level) = levels.iter().find(|level| slots().all(|slot| slot.metric != level.metric)) {
            let metric = &config.catalogue.get(level.metric).name;
            return Err(Trouble::wrong(format!("`{option} {metric}=…`: no rule measures `{metric}`")));
        }
    }
    Ok(())
}

/// The rules whose levels are all given, and the others with what is missing.
fn split(rules: RuleSet, levels: &Levels, config: &Config) -> (Vec<Arc<Rule>>, Vec<LeftOut>) {
    let (mut told, mut left_out) = (Vec::new(), Vec::new());
    for rule in rules.rules {
        let missing = levels.missing(&rule, &config.catalogue);
        if missing.is_empty() {
            told.push(rule);
        } else {
            let options: Vec<String> = missing.iter().map(|name| format!("`--level {name}=…`")).collect();
            left_out.push((rule, options.join(" ")));
        }
    }
    (told, left_out)
}

fn nothing_to_do(left_out: &[LeftOut]) -> Trouble {
    let options: BTreeSet<&str> = left_out.iter().map(|(_, options)| options.as_str()).collect();
    let options = options.into_iter().collect::<Vec<_>>().join(" ");
    let trouble = Trouble::wrong("of no rule is it known how good its metric is while all is well");
    if options.is_empty() { trouble } else { trouble.hint(format!("say {options}")) }
}

/// Rules by variant, in the order in which variants come first.
fn variants(rules: Vec<Arc<Rule>>) -> Vec<RuleSet> {
    let mut sets: Vec<RuleSet> = Vec::new();
    for rule in rules {
        match sets.iter_mut().find(|set| set.rules[0].variant == rule.variant) {
            Some(set) => set.rules.push(rule),
            None => sets.push(RuleSet { rules: vec![rule], ..Default::default() }),
        }
    }
    sets
}

fn plan(args: &SimulateArgs, rules: RuleSet, levels: &Levels, config: &Config, rollbacks: usize) -> Plan {
    let world = world(args, &rules, levels, config);
    let judges = judges(args, &rules);
    let feature = rules.rules[0].variant.feature();
    let baseline = [Variant::new(format!("{feature}.simulated-baseline"))];
    let setup = Setup::new(rules, &config.flags, &baseline, None);
    let bench = Bench {
        catalogue: Arc::clone(&config.catalogue),
        limits: config.limits,
        lateness: config.timing.lateness,
    };
    Plan::new(&setup, &bench, world, judges, args.fleet.unwrap_or(rollbacks), args.seed)
}

fn world(args: &SimulateArgs, rules: &RuleSet, levels: &Levels, config: &Config) -> World {
    let slots = rules.rules.iter().flat_map(|rule| rule.condition.slots.iter().chain(&rule.clear.slots));
    let metrics: BTreeSet<_> = slots.map(|slot| slot.metric).collect();
    let trouble = &args.trouble;
    World {
        events: args.events_per_minute,
        baseline_events: args.baseline_events_per_minute.unwrap_or(args.events_per_minute),
        traffic_swing: trouble.traffic_swing,
        level_swing: trouble.level_swing,
        noise: trouble.noise,
        shocks: trouble.shocks,
        shocks_last: trouble.shocks_last,
        accidents: trouble.accidents,
        accident_traffic: trouble.accident_traffic,
        gaps: trouble.gaps,
        gap_minutes: trouble.gap_minutes,
        late: trouble.late,
        late_minutes: trouble.late_minutes,
        metrics: metrics
            .into_iter()
            .filter_map(|metric| levels.measured(metric, &rules.rules, &config.catalogue))
            .collect(),
    }
}

/// Those asked for; else all modes, the rules as they are written where these differ, and the plain ones.
fn judges(args: &SimulateArgs, rules: &RuleSet) -> Vec<Judge> {
    let of = |judge: &JudgeArg| match judge {
        JudgeArg::Either => Judge::Mode(Confirm::Either),
        JudgeArg::Significant => Judge::Mode(Confirm::Significant),
        JudgeArg::Evidence => Judge::Mode(Confirm::Evidence),
        JudgeArg::Persistence => Judge::Mode(Confirm::Persistence),
        JudgeArg::Written => Judge::Written,
        JudgeArg::Plain => Judge::Plain,
        JudgeArg::For5m => Judge::Held,
    };
    if !args.confirm.is_empty() {
        return args.confirm.iter().map(of).collect();
    }
    let mut judges: Vec<Judge> = Confirm::ALL.map(Judge::Mode).to_vec();
    if rules.rules.iter().any(|rule| rule.confirm != rules.rules[0].confirm) {
        judges.push(Judge::Written);
    }
    judges.extend([Judge::Plain, Judge::Held]);
    judges
}

/// Runs, or whatever there is, done of all, on a terminal.
pub fn progress(all: u64, what: &str) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::with_draw_target(Some(all), ProgressDrawTarget::stderr());
    let style =
        ProgressStyle::with_template("{bar:30.cyan} {percent:>3} %  {pos} of {len} {msg}, {eta} left");
    let style = style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("━━╌");
    bar.with_style(style).with_message(what.to_owned())
}

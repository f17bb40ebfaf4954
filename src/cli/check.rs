//! `rearguard check`: compiles configuration and rules, and proves the ten-minute sum for each rule.

mod github;
mod given;
mod reach;
mod report;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Args, ValueEnum};

use self::given::Given;
use super::levels::{Named, named};
use super::output::{Format, Paint, Trouble, count, end, show, show_json};
use super::{FAILED, GOOD, WRONG, diagnostics};
use crate::app::rules::{Inspected, inspect};
use crate::config::{Config, Expected, read_file, variable};
use crate::engine::budget::Timing;
use crate::engine::input::Limits;
use crate::engine::rule::compile::Compiled;
use crate::engine::rule::diagnostic::Diagnostic;
use crate::engine::rule::traffic::starved;
use crate::model::metric::Catalogue;

/// Compile configuration and rules, and prove for every rule that breach, flip and page fit into ten minutes.
///
/// Everything that is wrong or doubtful is told at once. Given what traffic and levels to expect, also the reach of each rule and how
/// often it would act falsely: from the options below, else from recorded events, else from `expected:` of the configuration. Exit code 0: all good, perhaps with warnings; 1: a rollback rule
/// cannot keep the ten minutes; 2: a file is wrong.
#[derive(Args, Clone, Debug)]
pub struct CheckArgs {
    #[command(flatten)]
    pub rules: RuleArgs,
    /// Recorded events (JSON Lines, plain, gzip or zstd; `-` for standard input): also tell which rules they can never fire, the reach
    /// of the others on such traffic, and how often they would act falsely
    #[arg(long, short, value_name = "FILE", conflicts_with = "events_per_minute")]
    pub events: Vec<PathBuf>,
    /// The same for so many events a minute of every variant, each with all metrics
    #[arg(long, value_name = "N", value_parser = rate)]
    pub events_per_minute: Option<f64>,
    /// How good a metric is while all is well (`faithfulness=0.95`, `cost_p95=0.03`): with traffic, also tell the reach of its rules
    /// and how often they would act falsely. Instead of what recorded events say
    #[arg(long, value_name = "METRIC=VALUE", value_parser = named)]
    pub level: Vec<Named>,
    /// Standard deviation of scores (default: all are 0 or 1), of the logarithm of values (default: 0.5)
    #[arg(long, value_name = "METRIC=SD", value_parser = named)]
    pub spread: Vec<Named>,
    /// Simulated runs behind each number; more of them make intervals narrower, 0 simulates nothing
    #[arg(long, value_name = "N", default_value_t = 40, value_parser = clap::value_parser!(u64).range(0..=100_000))]
    pub runs: u64,
    /// How to report; `github` writes annotations for a workflow of GitHub Actions
    #[arg(long, value_enum, default_value_t = CheckFormat::Human)]
    pub format: CheckFormat,
}

/// Which rules are meant, and what they refer to.
#[derive(Args, Clone, Debug)]
pub struct RuleArgs {
    /// Rule files, folders or patterns; default: those of the configuration
    pub files: Vec<PathBuf>,
    /// The configuration; without one, and with FILES given, defaults are used
    #[arg(long, short, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// How `check` reports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum CheckFormat {
    #[default]
    Human,
    Json,
    Github,
}

/// Runs the command; the result is the exit code.
pub fn run(args: &CheckArgs) -> anyhow::Result<u8> {
    let format = if args.format == CheckFormat::Json { Format::Json } else { Format::Human };
    end(format, checked(args))
}

fn checked(args: &CheckArgs) -> Result<u8, Trouble> {
    let code = match check(&args.rules) {
        Ok(mut report) => {
            let (mut found, reaches) = with_traffic(args, &report)?;
            report.diagnostics.append(&mut found);
            report.reaches = reaches;
            sort(&mut report.diagnostics);
            match args.format {
                CheckFormat::Json => show_json(&report.as_json())?,
                CheckFormat::Github => {
                    show(&github::annotations(&report.diagnostics))?;
                    show(&github::notices(&report))?;
                    show(&report.summary())?;
                }
                CheckFormat::Human => {
                    show(&report.as_text(Paint::stdout()))?;
                    diagnostics::print(&report.diagnostics);
                    show(&report.summary())?;
                }
            }
            if report.refused() > 0 { FAILED } else { GOOD }
        }
        Err(found) => {
            match args.format {
                CheckFormat::Json => {
                    show_json(&serde_json::json!({ "ok": false, "rules": [], "diagnostics": found }))?;
                }
                CheckFormat::Github => show(&github::annotations(&found))?,
                CheckFormat::Human => diagnostics::print(&found),
            }
            if args.format != CheckFormat::Json {
                eprintln!("{}; nothing was put in force", tally(&found));
            }
            WRONG
        }
    };
    Ok(code)
}

/// What traffic and levels say of the rules, as far as they are known: doubts, and what comes of simulation.
fn with_traffic(args: &CheckArgs, report: &Report) -> Result<(Vec<Diagnostic>, Vec<reach::Told>), Trouble> {
    let Some((given, traffic)) = Given::read(args, report)? else { return Ok((Vec::new(), Vec::new())) };
    let reaches =
        if args.runs == 0 { Vec::new() } else { reach::simulate(args.runs, report, &given, &traffic) };
    Ok((starved(&report.compiled, &report.catalogue, &traffic), reaches))
}

fn rate(text: &str) -> Result<f64, String> {
    let rate = text.parse().ok().filter(|rate: &f64| rate.is_finite() && *rate > 0.0);
    rate.ok_or_else(|| "is no number above 0, such as 60 or 0.5".to_owned())
}

/// `2 mistakes found, 1 warning`
fn tally(found: &[Diagnostic]) -> String {
    let errors = found.iter().filter(|d| d.is_error()).count();
    let mut text = format!("{} found", count(errors as u64, "mistake"));
    if errors < found.len() {
        text = format!("{text}, {}", count((found.len() - errors) as u64, "warning"));
    }
    text
}

/// What there is to say when everything could be read.
#[derive(Debug)]
pub struct Report {
    pub compiled: Compiled,
    /// Name and content of the rule files.
    pub files: Vec<(String, String)>,
    pub catalogue: Arc<Catalogue>,
    /// What the configuration says is usual.
    pub expected: Expected,
    pub timing: Timing,
    pub limits: Limits,
    pub dry_run: bool,
    /// The configuration file; empty for the defaults.
    pub config: PathBuf,
    /// Warnings, and the errors of rules that cannot keep the promise.
    pub diagnostics: Vec<Diagnostic>,
    /// What simulation says of each rule, where it was asked.
    pub reaches: Vec<reach::Told>,
}

/// Reads and judges; `Err` when a file is wrong, with everything that was found all the same.
pub fn check(args: &RuleArgs) -> Result<Report, Vec<Diagnostic>> {
    let (config, mut wrong) = configuration(args);
    let Some(mut config) = config else { return Err(wrong) };
    let places = if args.files.is_empty() { &config.rules } else { &args.files };
    let mut inspected: Inspected = inspect(&config, places);
    wrong.append(&mut inspected.wrong);
    let mut found = std::mem::take(&mut config.warnings);
    found.append(&mut inspected.found);
    if !wrong.is_empty() {
        wrong.append(&mut found);
        sort(&mut wrong);
        return Err(wrong);
    }
    // Not where only some of the rules are looked at.
    if args.files.is_empty() {
        found.extend(given::of_no_rule(&config, &inspected.compiled.rules));
    }
    sort(&mut found);
    Ok(Report {
        compiled: inspected.compiled,
        files: inspected.files,
        catalogue: config.catalogue,
        expected: config.expected,
        timing: config.timing,
        limits: config.limits,
        dry_run: config.dry_run,
        config: config.path,
        diagnostics: found,
        reaches: Vec::new(),
    })
}

/// By place, so that a reader goes through each file once.
fn sort(found: &mut [Diagnostic]) {
    found.sort_by(|a, b| (&a.file, a.span, &a.message).cmp(&(&b.file, b.span, &b.message)));
}

/// The configuration as far as it can be read, and what is wrong with it.
fn configuration(args: &RuleArgs) -> (Option<Config>, Vec<Diagnostic>) {
    let standard = Path::new("rearguard.yaml");
    let path = match &args.config {
        Some(path) => path,
        None if standard.exists() => standard,
        None if args.files.is_empty() => {
            let missing = Diagnostic::whole_file(
                "rearguard.yaml",
                "there is no configuration here, and no rule file was named",
            );
            let help = "name rule files, or a configuration with `--config`";
            return (None, vec![missing.with_help(help)]);
        }
        None => return (Some(Config::built_in()), Vec::new()),
    };
    match read_file(path) {
        Ok(text) => Config::attempt(path, &text, &variable),
        Err(error) => (None, vec![error]),
    }
}

#[cfg(test)]
mod tests;

//! `rearguard replay`: what rules would have done on recorded events.

mod axis;
mod html;
mod human;
mod json;
mod plot;

use std::collections::BTreeSet;
use std::path::PathBuf;

use clap::Args;
use indicatif::ProgressBar;

use super::output::{Format, Trouble, end, show_json, time};
use super::recorded::{BadLines, Events, check_files, progress};
use super::{FAILED, GOOD, WRONG, diagnostics};
use crate::app::wiring;
use crate::config::{Config, rule_files};
use crate::engine::output::Gate;
use crate::engine::rule::compile::compile_rules;
use crate::engine::rule::diagnostic::Diagnostic;
use crate::engine::rule::{Rule, RuleAction, RuleSet};
use crate::ingest::config::StartAt;
use crate::lab::journal::{Journal, What};
use crate::lab::recording::Recording;
use crate::lab::rig::{Rig, Step};
use crate::lab::setup::{Bench, Census, Setup, needs_variants};
use crate::model::id::Variant;
use crate::model::time::Timestamp;

/// Run rules over recorded events and say what they would have done, and when.
///
/// It is the recorder and the engine of the daemon; nothing is flipped, opened or sent. Exit code 0: nothing would have been
/// rolled back or paused; 1: something would have been; 2: a file or the command line is wrong.
#[derive(Args, Clone, Debug)]
pub struct ReplayArgs {
    /// Events as JSON Lines, in the order of arrival, plain or packed by gzip or zstd; `-` for standard input. Several are read
    /// one after the other
    #[arg(long, short, value_name = "FILE", required_unless_present = "kafka_topic")]
    events: Vec<PathBuf>,
    /// Events of a Kafka topic instead; partitions are read in step, nothing is committed
    #[arg(long, value_name = "TOPIC", conflicts_with = "events")]
    kafka_topic: Option<String>,
    /// The first time of the topic, by Kafka's timestamps (RFC 3339); default: the start of the log. Windows fill from here
    #[arg(long, value_name = "TIME", value_parser = time, requires = "kafka_topic", conflicts_with = "events")]
    from: Option<Timestamp>,
    /// The time at which to end, excluded; default: the end of the log as it is now
    #[arg(long, value_name = "TIME", value_parser = time, requires = "kafka_topic", conflicts_with = "events")]
    to: Option<Timestamp>,
    /// Brokers of the topic, with commas between them; default: those of the configuration
    #[arg(long, value_name = "HOST:PORT", requires = "kafka_topic", conflicts_with = "events")]
    brokers: Option<String>,
    /// A rule file or a folder of them; given several times, the sets are compared. Default: those of the configuration
    #[arg(long, short, value_name = "FILE")]
    rules: Vec<PathBuf>,
    /// The configuration, for its metrics, flags, limits and lateness; without one the defaults are used
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The baseline of rules of the same feature that have none. Default: the only other variant of the feature in the events
    #[arg(long, value_name = "VARIANT")]
    baseline: Vec<String>,
    /// When the trouble began, as far as known (RFC 3339): times are told from there
    #[arg(long, value_name = "TIME", value_parser = time)]
    onset: Option<Timestamp>,
    /// End with 2 at the first line that is no good event
    #[arg(long)]
    strict: bool,
    /// Also write a page with plots to this file; it needs nothing else
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// How to report; `json` writes one object per line
    #[arg(long, value_enum, default_value_t = Format::Human)]
    format: Format,
}

/// Runs the command; the result is the exit code.
pub fn run(args: &ReplayArgs) -> anyhow::Result<u8> {
    let (sets, config) = match compile(args) {
        Ok(compiled) => compiled,
        Err(errors) => {
            match args.format {
                Format::Human => diagnostics::print(&errors),
                Format::Json => show_json(&serde_json::json!({ "error": { "diagnostics": errors } }))?,
            }
            return Ok(WRONG);
        }
    };
    end(args.format, replay(args, sets, &config))
}

/// One `--rules`.
struct Set {
    name: String,
    rules: RuleSet,
}

fn compile(args: &ReplayArgs) -> Result<(Vec<Set>, Config), Vec<Diagnostic>> {
    let config = match &args.config {
        Some(path) => Config::load(path)?,
        None => Config::built_in(),
    };
    let given: Vec<&[PathBuf]> = match (args.rules.as_slice(), &args.config) {
        ([], Some(_)) => vec![&config.rules],
        ([], None) => {
            let missing = Diagnostic::whole_file("rearguard replay", "no rules were named");
            return Err(vec![missing.with_help("name a file or folder with `--rules`, or a `--config`")]);
        }
        (rules, _) => rules.iter().map(std::slice::from_ref).collect(),
    };
    let (mut sets, mut errors) = (Vec::new(), Vec::new());
    for places in given {
        let compiled = rule_files(places)
            .and_then(|files| compile_rules(&files, &config.catalogue, &config.flags))
            .map_err(|mut found| errors.append(&mut found));
        let name = places.iter().map(|place| place.display().to_string()).collect::<Vec<_>>().join(" ");
        sets.extend(compiled.map(|compiled| Set { name, rules: compiled.rules }));
    }
    if errors.is_empty() { Ok((sets, config)) } else { Err(errors) }
}

/// What was run, beside what the journals hold.
struct Run {
    /// Names of the sets, in their order.
    sets: Vec<String>,
    /// What the events are called.
    events: String,
    rig: Rig,
    bad: BadLines,
    /// Event time: the start of the first minute closed, the end of the last.
    span: Option<(Timestamp, Timestamp)>,
    onset: Option<Timestamp>,
    /// What a reader should know before believing the report.
    doubts: Vec<String>,
}

fn replay(args: &ReplayArgs, sets: Vec<Set>, config: &Config) -> Result<u8, Trouble> {
    let given: Vec<Variant> = args.baseline.iter().map(|name| Variant::new(name.as_str())).collect();
    check_baselines(&given, &sets)?;
    let mut events = events(args, config)?;
    let page = args.html.as_deref().map(html::create).transpose()?;
    let unknown = sets.iter().any(|set| needs_variants(&set.rules, &given));
    if unknown {
        // Two passes are needed.
        events.keep()?;
    }
    let bar = progress(&events, if unknown { 2 } else { 1 });
    let seen = if unknown { Some(census(&events, &bar)?) } else { None };
    let mut doubts = Vec::new();
    let (names, setups): (Vec<String>, Vec<Setup>) = sets
        .into_iter()
        .map(|Set { name, rules }| (name, Setup::new(rules, &config.flags, &given, seen.as_ref())))
        .unzip();
    for rule in setups.iter().flat_map(Setup::without_baseline) {
        doubts.push(format!(
            "`{}` of {} compares with a baseline and none is known, so it is never judged: name one with `--baseline`",
            rule.condition.source, rule.variant
        ));
    }
    doubts.extend(unconfigured(&setups, config));
    let bench = Bench {
        catalogue: config.catalogue.clone(),
        limits: config.limits,
        lateness: config.timing.lateness,
    };
    let mut journals: Vec<Journal> = names
        .iter()
        .map(|_| if page.is_some() { Journal::for_plots() } else { Journal::new(false) })
        .collect();
    let mut lines = json::Lines::new(args.format == Format::Json, &names);
    let (mut bad, mut span) = (BadLines::default(), None);
    let mut watch = |step: Step<'_>| {
        let set = step.set;
        let (from, _) = span.unwrap_or((step.closed.start(), step.closed.end()));
        span = Some((from, step.closed.end()));
        journals[set].observe(&step, &mut |story, entry| lines.entry(set, story, entry));
    };
    let rig = events.run(
        &bar,
        |lanes| Rig::new(setups, &bench, lanes),
        &mut watch,
        |fate, place| bad.note(fate, place, args.strict),
    )?;
    bar.finish_and_clear();
    let run = Run { events: events.name(), rig, sets: names, bad, span, onset: args.onset, doubts };
    let last = run.span.map_or(Timestamp::default(), |(_, to)| to);
    journals.iter_mut().for_each(|journal| journal.finish(last));
    if let Some(page) = &page {
        html::write(page, &run, &journals)?;
    }
    match args.format {
        Format::Json => lines.summary(&run, &journals)?,
        Format::Human => human::show(&run, &journals)?,
    }
    Ok(if journals.iter().any(acted) { FAILED } else { GOOD })
}

/// Flags that a rule acts on and a configuration with flags does not hold: the daemon would page and flip nothing.
fn unconfigured(setups: &[Setup], config: &Config) -> BTreeSet<String> {
    let known = |rule: &Rule| config.flags.iter().any(|flag| flag.key == rule.flag);
    let rules = setups.iter().flat_map(|setup| &setup.rules.rules);
    rules
        .filter(|rule| !config.flags.is_empty() && rule.action > RuleAction::Notify && !known(rule))
        .map(|rule| {
            format!("flag `{}` is not configured: the daemon could roll back or pause nothing", rule.flag)
        })
        .collect()
}

/// The variants of all events.
fn census(events: &Events, bar: &ProgressBar) -> Result<BTreeSet<Variant>, Trouble> {
    let mut census = Census::default();
    bar.set_message("looking for baselines");
    events.each(bar, |message| census.look(message))?;
    bar.set_message("");
    Ok(census.finish())
}

/// Where events come from, as far as it can be said before they are read.
fn events(args: &ReplayArgs, config: &Config) -> Result<Events, Trouble> {
    let Some(topic) = &args.kafka_topic else {
        let files: Vec<Recording> = args.events.iter().map(|path| Recording::new(path)).collect();
        check_files(&files)?;
        return Ok(Events::Files(files));
    };
    let mut ingest = wiring::ingest(config, args.from.unwrap_or_default());
    ingest.topics = vec![topic.clone()];
    ingest.group = "rearguard-replay".to_owned();
    ingest.instance = None;
    ingest.start = args.from.map_or(StartAt::Earliest, StartAt::Time);
    if let Some(brokers) = &args.brokers {
        ingest.brokers.clone_from(brokers);
    }
    if ingest.brokers.is_empty() {
        return Err(Trouble::wrong("no brokers are named").hint("use `--brokers`, or a `--config`"));
    }
    if args.from.zip(args.to).is_some_and(|(from, to)| from >= to) {
        return Err(Trouble::wrong("`--from` does not lie before `--to`"));
    }
    Ok(Events::Topic(Box::new(ingest), args.to))
}

fn check_baselines(given: &[Variant], sets: &[Set]) -> Result<(), Trouble> {
    let rules = || sets.iter().flat_map(|set| &set.rules.rules);
    for baseline in given {
        if !rules().any(|rule| rule.variant.feature() == baseline.feature() && rule.variant != *baseline) {
            let wrong = format!("no rule is about another variant of `{}`", baseline.feature());
            return Err(Trouble::wrong(format!("`--baseline {baseline}`: {wrong}"))
                .hint("name a variant of the same feature as the rules': <feature>.<change-id>"));
        }
    }
    Ok(())
}

/// Whether something would have been rolled back or paused.
fn acted(journal: &Journal) -> bool {
    journal.decisions().iter().any(|(_, entry)| match &entry.what {
        What::Decided { action, gate } => *action != RuleAction::Notify && *gate == Gate::Act,
        What::Moved { .. } => false,
    })
}

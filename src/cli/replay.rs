//! `rearguard replay`: what rules would have done on recorded events.

mod axis;
mod html;
mod human;
mod json;
mod plot;

use std::collections::BTreeSet;
use std::path::PathBuf;

use clap::{ArgGroup, Args};

use super::output::{Format, Trouble, end, show_json, time};
use super::recorded::{BadLines, SourceArgs, bench, never_judged, progress};
use super::{FAILED, GOOD, WRONG, diagnostics};
use crate::config::{Config, rule_files};
use crate::engine::output::Gate;
use crate::engine::rule::compile::compile_rules;
use crate::engine::rule::diagnostic::Diagnostic;
use crate::engine::rule::{Rule, RuleAction, RuleSet};
use crate::lab::journal::{Journal, What};
use crate::lab::rig::{Rig, Step};
use crate::lab::setup::{Setup, needs_variants};
use crate::model::time::Timestamp;

/// Run rules over recorded events and say what they would have done, and when.
///
/// It is the recorder and the engine of the daemon; nothing is flipped, opened or sent. Exit code 0: nothing would have been
/// rolled back or paused; 1: something would have been; 2: a file or the command line is wrong.
#[derive(Args, Clone, Debug)]
#[command(group(ArgGroup::new("source").args(["events", "kafka_topic"]).required(true)))]
pub struct ReplayArgs {
    #[command(flatten)]
    source: SourceArgs,
    /// A rule file or a folder of them; given several times, the sets are compared. Default: those of the configuration
    #[arg(long, short, value_name = "FILE")]
    rules: Vec<PathBuf>,
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
    let config = args.source.configuration()?;
    let given: Vec<&[PathBuf]> = match args.rules.as_slice() {
        [] => vec![args.source.own_rules(&config, "rearguard replay")?],
        rules => rules.iter().map(std::slice::from_ref).collect(),
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
    let rules = sets.iter().map(|set| &set.rules).collect::<Vec<_>>();
    let given = args.source.baselines(&rules)?;
    let mut events = args.source.events(config)?;
    let page = args.html.as_deref().map(html::create).transpose()?;
    let two_passes = rules.iter().any(|rules| needs_variants(rules, &given));
    let bar = progress(&events, if two_passes { 2 } else { 1 });
    let seen = if two_passes { Some(events.census(&bar)?) } else { None };
    let mut doubts = Vec::new();
    let (names, setups): (Vec<String>, Vec<Setup>) = sets
        .into_iter()
        .map(|Set { name, rules }| (name, Setup::new(rules, &config.flags, &given, seen.as_ref())))
        .unzip();
    doubts.extend(setups.iter().flat_map(Setup::without_baseline).map(never_judged));
    doubts.extend(unconfigured(&setups, config));
    let bench = bench(config);
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

/// Whether something would have been rolled back or paused.
fn acted(journal: &Journal) -> bool {
    journal.decisions().iter().any(|(_, entry)| match &entry.what {
        What::Decided { action, gate } => *action != RuleAction::Notify && *gate == Gate::Act,
        What::Moved { .. } => false,
    })
}

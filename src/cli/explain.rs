//! `rearguard explain`: why a rule did, or did not, fire: of the running daemon, or of recorded events at a time.

mod page;

use std::cell::RefCell;
use std::path::PathBuf;

use clap::Args;
use serde::Deserialize as _;

use super::client::{Client, ServerArgs};
use super::output::{Format, Paint, Trouble, end, show, show_json, time};
use super::recorded::{SourceArgs, bench, never_judged, progress};
use super::{GOOD, WRONG, diagnostics};
use crate::config::{Config, rule_files};
use crate::engine::explain::{Answer, NothingMeant, Question};
use crate::engine::rule::RuleSet;
use crate::engine::rule::compile::compile_rules;
use crate::engine::rule::diagnostic::Diagnostic;
use crate::lab::rig::{Rig, Step};
use crate::lab::setup::{Setup, needs_variants};
use crate::model::flag::Scope;
use crate::model::id::{RuleId, Variant};
use crate::model::time::{Minute, Timestamp};
use crate::store::TokenScope;

/// Say why a rule fired, or why it did not: every test with its numbers, what is missing, what would clear it.
///
/// Asks the running daemon about its last closing; with `--events` or `--kafka-topic` it runs the rules over recorded events, as
/// `replay` does, up to `--at`. One rule is told in full, several in a line each.
#[derive(Args, Clone, Debug)]
pub struct ExplainArgs {
    /// Only rules of this variant
    #[arg(long, value_name = "VARIANT")]
    variant: Option<String>,
    /// Only the rule of this id, as `rearguard explain` lists it
    #[arg(long, value_name = "ID")]
    rule: Option<String>,
    /// Only this slice of rules with `by:`
    #[arg(long, value_name = "tenant:NAME", value_parser = scope)]
    slice: Option<Scope>,
    /// The time of recorded events to explain (RFC 3339): the last closing at or before it. Default: the last one
    #[arg(long, value_name = "TIME", value_parser = time)]
    at: Option<Timestamp>,
    /// A rule file or a folder of them, for recorded events; default: those of the configuration
    #[arg(long, short, value_name = "FILE")]
    rules: Vec<PathBuf>,
    #[command(flatten)]
    source: SourceArgs,
    #[command(flatten)]
    server: ServerArgs,
}

fn scope(text: &str) -> Result<Scope, String> {
    Scope::try_from(text.to_owned())
}

/// Runs the command; the result is the exit code.
pub fn run(args: &ExplainArgs) -> anyhow::Result<u8> {
    let format = args.server.format;
    if !args.source.is_named() {
        return end(format, live(args));
    }
    let (rules, config) = match compile(args) {
        Ok(compiled) => compiled,
        Err(errors) => {
            match format {
                Format::Human => diagnostics::print(&errors),
                Format::Json => show_json(&serde_json::json!({ "error": { "diagnostics": errors } }))?,
            }
            return Ok(WRONG);
        }
    };
    end(format, recorded(args, rules, &config))
}

impl ExplainArgs {
    fn question(&self) -> Question {
        Question {
            variant: self.variant.as_deref().map(Variant::from),
            rule: self.rule.as_deref().map(RuleId::from),
            slice: self.slice.clone(),
        }
    }
}

/// Of the running daemon, now.
fn live(args: &ExplainArgs) -> Result<u8, Trouble> {
    let recorded = "name the recorded events with `--events` or `--kafka-topic`";
    if args.at.is_some() {
        return Err(Trouble::wrong("a running daemon can only explain its last closing").hint(format!(
            "for an earlier time {recorded}; `rearguard incident replay ID` judges its decisions again"
        )));
    }
    if !args.rules.is_empty() {
        return Err(Trouble::wrong("a running daemon explains the rules that it has").hint(recorded));
    }
    let client = Client::new(&args.server, TokenScope::Read)?;
    let slice = args.slice.as_ref().map(ToString::to_string);
    let asked =
        [("variant", args.variant.as_deref()), ("rule", args.rule.as_deref()), ("slice", slice.as_deref())];
    let query: Vec<(&str, &str)> = asked.into_iter().filter_map(|(key, value)| Some((key, value?))).collect();
    let document = client.get(&["v1", "explain"], &query)?;
    match args.server.format {
        Format::Json => show_json(&document)?,
        Format::Human => {
            let answer = Answer::deserialize(&document).map_err(|e| client.stranger(&e.to_string()))?;
            show(&page::render(&answer, true, Paint::stdout()))?;
        }
    }
    Ok(GOOD)
}

fn compile(args: &ExplainArgs) -> Result<(RuleSet, Config), Vec<Diagnostic>> {
    let config = args.source.configuration()?;
    let places = match args.rules.as_slice() {
        [] => args.source.own_rules(&config, "rearguard explain")?,
        rules => rules,
    };
    let compiled = compile_rules(&rule_files(places)?, &config.catalogue, &config.flags)?;
    Ok((compiled.rules, config))
}

/// Of recorded events, at a time.
fn recorded(args: &ExplainArgs, rules: RuleSet, config: &Config) -> Result<u8, Trouble> {
    let given = args.source.baselines(&[&rules])?;
    let mut events = args.source.events(config)?;
    let two_passes = needs_variants(&rules, &given);
    let bar = progress(&events, if two_passes { 2 } else { 1 });
    let seen = if two_passes { Some(events.census(&bar)?) } else { None };
    let setup = Setup::new(rules, &config.flags, &given, seen.as_ref());
    let doubts: Vec<String> = setup.without_baseline().map(never_judged).collect();
    let wanted = args.at.map(|at| at.minute().plus(-1));
    let question = args.question();
    let found: RefCell<Option<Result<Answer, NothingMeant>>> = RefCell::default();
    let mut span: Option<(Minute, Minute)> = None;
    let mut watch = |step: Step<'_>| {
        span = Some((span.map_or(step.closed, |(first, _)| first), step.closed));
        if Some(step.closed) == wanted {
            *found.borrow_mut() = Some(step.engine.explain(&question));
        }
    };
    let rig = events.run(
        &bar,
        |lanes| Rig::new(vec![setup], &bench(config), lanes),
        &mut watch,
        // What comes after the time asked for need not be read.
        |_, _| if found.borrow().is_some() { Err(Trouble::new("far enough")) } else { Ok(()) },
    );
    bar.finish_and_clear();
    let answer = match (found.into_inner(), rig, wanted) {
        (Some(found), _, _) => found,
        (None, Err(trouble), _) => return Err(trouble),
        (None, Ok(rig), None) => match rig.engines().first().filter(|_| span.is_some()) {
            Some(engine) => engine.explain(&question),
            None => return Err(nothing_closed()),
        },
        (None, Ok(_), Some(_)) => return Err(outside(span)),
    };
    let answer = answer.map_err(|nothing| Trouble::new(nothing.what).hint(nothing.hint))?;
    match args.server.format {
        Format::Json => {
            let document = serde_json::to_value(&answer).map_err(|e| Trouble::new(e.to_string()))?;
            show_json(&document)?;
        }
        Format::Human => {
            for doubt in &doubts {
                show(&format!("note: {doubt}\n"))?;
            }
            show(&page::render(&answer, false, Paint::stdout()))?;
        }
    }
    Ok(GOOD)
}

fn nothing_closed() -> Trouble {
    Trouble::new("no event of these can be recorded, so no minute was judged")
        .hint("`rearguard replay` tells what became of the events")
}

fn outside(span: Option<(Minute, Minute)>) -> Trouble {
    let Some((first, last)) = span else { return nothing_closed() };
    Trouble::wrong("`--at` lies outside the events").hint(format!(
        "the first minute closes at {}, the last at {}",
        first.end(),
        last.end()
    ))
}

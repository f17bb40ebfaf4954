//! Runs one test: its events through the recorder and the engine of the daemon, what is said written down.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use indicatif::ProgressBar;

use super::expect::{Expectation, When};
use super::spec::{Input, Test, TestFile};
use crate::cli::output::Trouble;
use crate::cli::recorded::{BadLines, Events};
use crate::engine::machine::Engine;
use crate::engine::output::{AlertKey, Evidence};
use crate::lab::journal::Journal;
use crate::lab::rig::{Rig, Step};
use crate::lab::series::Generator;
use crate::lab::setup::{Census, Setup, needs_variants};
use crate::model::id::Variant;
use crate::model::time::Timestamp;

/// What came of a test's events.
pub struct Story {
    pub journal: Journal,
    /// When the first minute judged begins (series: when they begin), and when the last one ends.
    pub start: Timestamp,
    pub end: Timestamp,
    /// What decisions rest on, and what was measured at the times that expectations name: for pictures.
    pub evidence: BTreeMap<(Timestamp, AlertKey), Evidence>,
    /// The verdicts in words, at the same times.
    pub verdicts: BTreeMap<(Timestamp, AlertKey), String>,
}

/// Runs a test.
///
/// # Errors
///
/// Recorded events that cannot be read, or hold a line that is no good event.
pub fn run(file: &TestFile, test: &Test) -> Result<Story, Trouble> {
    let mut keeper = Keeper {
        journal: Journal::new(true),
        start: None,
        end: None,
        evidence: BTreeMap::new(),
        verdicts: BTreeMap::new(),
        expect: &test.expect,
    };
    match &test.input {
        Input::Series { start, length, seed, series } => {
            keeper.start = Some(*start);
            let seen = series.iter().map(|series| series.variant.clone()).collect();
            let setup = setup(file, Some(&seen));
            let mut rig = Rig::new(vec![setup], &file.bench, 1);
            let mut watch = |step: Step<'_>| keeper.see(step);
            Generator::new(*start, series, *seed).each(*length, |message| {
                rig.record(0, message, &mut watch);
            });
            rig.idle_until(*start + *length + file.bench.lateness, &mut watch);
            keeper.end = keeper.end.max(Some(*start + *length));
            keeper.last(&rig);
        }
        Input::Recorded(paths) => {
            let rig = recorded(file, paths, &mut keeper)?;
            keeper.last(&rig);
        }
    }
    let (start, end) = (keeper.start.unwrap_or_default(), keeper.end.unwrap_or_default());
    keeper.journal.finish(end);
    let Keeper { journal, evidence, verdicts, .. } = keeper;
    Ok(Story { journal, start, end, evidence, verdicts })
}

fn setup(file: &TestFile, seen: Option<&BTreeSet<Variant>>) -> Setup {
    Setup::new(file.rules.clone(), &file.flags, &file.baselines, seen)
}

fn recorded(file: &TestFile, paths: &[PathBuf], keeper: &mut Keeper<'_>) -> Result<Rig, Trouble> {
    let events = Events::Files(Input::recordings(paths));
    let bar = ProgressBar::hidden();
    let seen = if needs_variants(&file.rules, &file.baselines) {
        let mut census = Census::default();
        events.each(&bar, |message| census.look(message))?;
        Some(census.finish())
    } else {
        None
    };
    let setup = setup(file, seen.as_ref());
    let mut bad = BadLines::default();
    events.run(
        &bar,
        |lanes| Rig::new(vec![setup], &file.bench, lanes),
        &mut |step: Step<'_>| keeper.see(step),
        |fate, place| bad.note(fate, place, true),
    )
}

/// Writes down what is said.
struct Keeper<'a> {
    journal: Journal,
    start: Option<Timestamp>,
    end: Option<Timestamp>,
    evidence: BTreeMap<(Timestamp, AlertKey), Evidence>,
    verdicts: BTreeMap<(Timestamp, AlertKey), String>,
    expect: &'a [Expectation],
}

impl Keeper<'_> {
    fn see(&mut self, step: Step<'_>) {
        let at = step.closed.end();
        let start = *self.start.get_or_insert(step.closed.start());
        self.end = Some(at);
        self.journal.observe(&step, &mut |_, _| {});
        let named = |expectation: &Expectation| match expectation.when {
            When::At(moment) => moment.on(start) == at,
            When::During { until, .. } => until.is_some_and(|moment| moment.on(start) == at),
        };
        if self.expect.iter().any(named) {
            self.keep(step.engine, at);
        }
        for decision in step.output.decisions {
            self.evidence.insert((at, decision.key), decision.evidence);
        }
    }

    /// The last closing's numbers.
    fn last(&mut self, rig: &Rig) {
        if let Some(at) = self.end {
            rig.engines().iter().for_each(|engine| self.keep(engine, at));
        }
    }

    fn keep(&mut self, engine: &Engine, at: Timestamp) {
        for (key, judgement) in engine.judgements() {
            if let Some(evidence) = engine.evidence(key) {
                self.evidence.insert((at, key.clone()), evidence);
            }
            self.verdicts.insert((at, key.clone()), judgement.verdict.to_string());
        }
    }
}

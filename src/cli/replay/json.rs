//! The report for programs: one object per line, the last one sums up.

use std::collections::BTreeMap;
use std::io::{self, BufWriter, ErrorKind, Stdout, Write};

use serde::Serialize;
use serde_json::Value;

use super::Run;
use crate::cli::output::Trouble;
use crate::cli::recorded::Bad;
use crate::engine::input::Fates;
use crate::engine::output::{Phase, Verdicts};
use crate::lab::journal::{Closest, Doubt, Entry, Journal, Story, Wait, What};
use crate::model::time::Timestamp;

/// Standard output, line by line; says nothing unless it is asked for.
pub struct Lines {
    out: Option<BufWriter<Stdout>>,
    /// The names of the sets, if there are several.
    sets: Vec<String>,
    failed: io::Result<()>,
}

/// A transition or a decision.
#[derive(Serialize)]
struct Told<'a> {
    r#type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    set: Option<&'a str>,
    at: String,
    variant: &'a str,
    rule: &'a str,
    slice: String,
    from: Option<Phase>,
    to: Option<Phase>,
    action: &'static str,
    value: Option<f64>,
    interval: &'a Value,
    samples: u64,
    confirmed_by: &'a Value,
    crossing: Option<String>,
    t0: Option<String>,
    /// Of a decision: `act`, or what would have stood in its way.
    #[serde(skip_serializing_if = "Option::is_none")]
    gate: Option<&'static str>,
}

impl Lines {
    /// `wanted` says whether anything is written.
    pub fn new(wanted: bool, sets: &[String]) -> Self {
        let sets = if sets.len() > 1 { sets.to_vec() } else { Vec::new() };
        Self { out: wanted.then(|| BufWriter::new(io::stdout())), sets, failed: Ok(()) }
    }

    /// Writes one entry of a set's story.
    pub fn entry(&mut self, set: usize, story: &Story, entry: &Entry) {
        if self.out.is_none() {
            return;
        }
        let rfc3339 = |at: Option<Timestamp>| at.map(|at| at.to_string());
        let (kind, from, to, action, gate) = match &entry.what {
            What::Moved { from, to, .. } => {
                ("transition", Some(*from), Some(*to), story.rule.action.as_str(), None)
            }
            What::Decided { action, gate } => ("decision", None, None, action.as_str(), Some(gate.as_str())),
        };
        let told = Told {
            r#type: kind,
            set: self.sets.get(set).map(String::as_str),
            at: entry.at.to_string(),
            variant: story.rule.variant.as_str(),
            rule: story.rule.id.as_str(),
            slice: story.key.slice.to_string(),
            from,
            to,
            action,
            value: entry.numbers.value,
            interval: &entry.numbers.interval,
            samples: entry.numbers.samples,
            confirmed_by: &entry.numbers.confirmed_by,
            crossing: rfc3339(entry.crossing),
            t0: rfc3339(entry.t0),
            gate,
        };
        let line = serde_json::to_string(&told);
        self.line(line);
    }

    /// Writes the last line, and says whether all could be written. A reader that has gone away is no failure.
    pub fn summary(mut self, run: &Run, journals: &[Journal]) -> Result<(), Trouble> {
        let of_set = |(set, journal)| {
            let name: Option<&str> = self.sets.get(set).map(String::as_str);
            Journal::stories(journal).into_iter().map(move |story| OfStory::new(name, story))
        };
        let bad = run.bad.by_reason.iter().map(|((fate, reason), bad)| OfBad { fate, reason, bad });
        let summary = Summary {
            r#type: "summary",
            events: run.rig.fates(),
            unknown_metric_samples: run.rig.counters().unknown_metric,
            bad_lines: bad.collect(),
            from: run.span.map(|(from, _)| from.to_string()),
            to: run.span.map(|(_, to)| to.to_string()),
            doubts: &run.doubts,
            rules: journals.iter().enumerate().flat_map(of_set).collect(),
        };
        let line = serde_json::to_string(&summary);
        drop(summary);
        self.line(line);
        if let Some(out) = &mut self.out {
            let flushed = out.flush();
            self.failed = self.failed.and(flushed);
        }
        match self.failed {
            Err(error) if error.kind() != ErrorKind::BrokenPipe => {
                Err(Trouble::new(format!("writing to standard output: {error}")))
            }
            _ => Ok(()),
        }
    }

    fn line(&mut self, line: serde_json::Result<String>) {
        if let (Some(out), Ok(())) = (&mut self.out, &self.failed) {
            self.failed = line.map_err(io::Error::from).and_then(|line| writeln!(out, "{line}"));
        }
    }
}

/// The last line.
#[derive(Serialize)]
struct Summary<'a> {
    r#type: &'static str,
    events: Fates,
    unknown_metric_samples: u64,
    bad_lines: Vec<OfBad<'a>>,
    from: Option<String>,
    to: Option<String>,
    doubts: &'a [String],
    rules: Vec<OfStory<'a>>,
}

#[derive(Serialize)]
struct OfBad<'a> {
    fate: &'a str,
    reason: &'a str,
    #[serde(flatten)]
    bad: &'a Bad,
}

/// One rule on one slice in the summary.
#[derive(Serialize)]
struct OfStory<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    set: Option<&'a str>,
    variant: &'a str,
    flag: &'a str,
    baseline: Option<&'a str>,
    rule: &'a str,
    slice: String,
    condition: &'a str,
    action: &'static str,
    file: &'a str,
    line: usize,
    /// Closings by verdict, and by reason where there was neither pass nor breach.
    closings: Verdicts,
    unknown: &'a BTreeMap<Doubt, u64>,
    decisions: usize,
    state: Phase,
    closest: Option<OfClosest>,
    longest_pending_seconds: Option<u64>,
    longest_silence_seconds: Option<u64>,
}

#[derive(Serialize)]
struct OfClosest {
    at: String,
    value: f64,
    threshold: f64,
    samples: u64,
}

impl<'a> OfStory<'a> {
    fn new(set: Option<&'a str>, story: &'a Story) -> Self {
        let rule = &story.rule;
        let closest = |Closest { at, value, threshold, samples }: Closest| OfClosest {
            at: at.to_string(),
            value,
            threshold,
            samples,
        };
        let seconds = |wait: Option<Wait>| wait.map(|wait| wait.span().as_secs());
        Self {
            set,
            variant: rule.variant.as_str(),
            flag: rule.flag.as_str(),
            baseline: rule.baseline.as_ref().map(|baseline| baseline.as_str()),
            rule: rule.id.as_str(),
            slice: story.key.slice.to_string(),
            condition: &rule.condition.source,
            action: rule.action.as_str(),
            file: &rule.origin.file,
            line: rule.origin.line,
            closings: story.verdicts,
            unknown: &story.doubts,
            decisions: story.decisions().count(),
            state: story.phase,
            closest: story.closest.map(closest),
            longest_pending_seconds: seconds(story.longest_pending),
            longest_silence_seconds: seconds(story.longest_silence),
        }
    }
}

//! The report for people: per variant and rule what happened and when, what was close, and what was unknown.

use std::fmt::Write as _;
use std::time::Duration;

use super::Run;
use crate::cli::output::{self, Ink, Paint, Trouble, WIDTH, brief, count, utc, wrap};
use crate::cli::table::{Side, Table, cell};
use crate::dispatch::words::{self, measure, span};
use crate::engine::alert::SILENCE_NOTICE;
use crate::engine::output::{Gate, Phase};
use crate::engine::rule::{Rule, RuleAction};
use crate::lab::journal::{Closest, Entry, Journal, Numbers, Story, What};
use crate::model::flag::Scope;
use crate::model::time::Timestamp;

/// Lines of one timeline; a rule that flaps for a month has thousands.
const LINES: usize = 40;
/// Where the text of a timeline begins, behind its times.
const INDENT: usize = 27;

/// Writes the report to standard output.
pub fn show(run: &Run, journals: &[Journal]) -> Result<(), Trouble> {
    output::show(&Report { run, paint: Paint::stdout() }.text(journals))
}

struct Report<'a> {
    run: &'a Run,
    paint: Paint,
}

impl Report<'_> {
    fn text(&self, journals: &[Journal]) -> String {
        let mut out = String::new();
        self.events(&mut out);
        for (set, journal) in journals.iter().enumerate() {
            if journals.len() > 1 {
                let _ = writeln!(out, "\n{}", self.paint.bold(&format!("== {}", self.run.sets[set])));
            }
            self.rules(set, journal, &mut out);
        }
        if journals.len() > 1 {
            self.comparison(journals, &mut out);
        }
        out
    }

    /// What was read, and what became of it.
    fn events(&self, out: &mut String) {
        let fates = self.run.rig.fates();
        let over = match self.run.span {
            Some((from, to)) => format!(", {} to {} UTC ({})", utc(from), utc(to), long(to.since(from))),
            None => String::new(),
        };
        let events = count(fates.consumed, "event");
        let head = format!("{events} from {}{over}", self.run.events);
        for line in wrap(&head, WIDTH) {
            let _ = writeln!(out, "{}", self.paint.bold(&line));
        }
        let others = [
            (fates.late, "late"),
            (fates.duplicate, "duplicate"),
            (fates.other, "of other variants"),
            (fates.dead_letter, "no events"),
            (fates.refused, "refused"),
            (fates.canary, "canaries of Rearguard"),
        ];
        let mut parts = vec![format!("{} in windows", words::count(fates.windowed))];
        let some = others.iter().filter(|(n, _)| *n > 0);
        parts.extend(some.map(|(n, word)| format!("{} {word}", words::count(*n))));
        let _ = writeln!(out, "  {}", parts.join(", "));
        for ((fate, reason), bad) in &self.run.bad.by_reason {
            let text = format!("  {} {fate} {reason}: {}", words::count(bad.count), bad.first.join(", "));
            let more = if bad.count > bad.first.len() as u64 { ", …" } else { "" };
            let _ = writeln!(out, "{}", self.paint.ink(Ink::Doubt, &format!("{text}{more}")));
        }
        let unknown = self.run.rig.counters().unknown_metric;
        let mut doubts = self.run.doubts.clone();
        if unknown > 0 {
            doubts.push(format!("{} of metrics that the catalogue does not know", count(unknown, "sample")));
        }
        if fates.windowed == 0 {
            doubts.push("no event is of a variant that the rules name".to_owned());
        }
        for doubt in doubts.iter().flat_map(|doubt| wrap(doubt, WIDTH - 2)) {
            let _ = writeln!(out, "  {}", self.paint.ink(Ink::Doubt, &doubt));
        }
    }

    fn rules(&self, set: usize, journal: &Journal, out: &mut String) {
        let stories = journal.stories();
        let mut variant = None;
        for rule in &self.run.rig.engines()[set].settings().rules.rules {
            if variant != Some(&rule.variant) {
                variant = Some(&rule.variant);
                let baseline = rule.baseline.as_ref().map(|b| format!("  baseline {b}")).unwrap_or_default();
                let name = self.paint.bold(rule.variant.as_str());
                let _ = writeln!(out, "\n{name}{}", self.paint.dim(&baseline));
            }
            let mut own = stories.iter().filter(|story| rule.is(&story.key)).peekable();
            if own.peek().is_none() {
                self.heading(rule, &Scope::All, out);
                let text = match rule.by {
                    Some(by) => format!("no {} of {} was seen", by.as_str(), rule.variant),
                    None => "no minute closed".to_owned(),
                };
                let _ = writeln!(out, "    {}", self.paint.dim(&text));
            }
            self.slices(rule, own.copied().collect(), out);
        }
    }

    /// The rule's slices: those of which there is something to tell, then how many were quiet.
    fn slices(&self, rule: &Rule, stories: Vec<&Story>, out: &mut String) {
        let (busy, quiet): (Vec<_>, Vec<_>) =
            stories.into_iter().partition(|story| rule.by.is_none() || !story.entries.is_empty());
        for story in busy {
            self.heading(rule, &story.key.slice, out);
            self.story(story, out);
        }
        if let (Some(by), false) = (rule.by, quiet.is_empty()) {
            self.heading(rule, &Scope::All, out);
            let quiet_ones = count(quiet.len() as u64, by.as_str());
            let _ = writeln!(out, "    {}", self.paint.dim(&format!("{quiet_ones} never in breach")));
        }
    }

    fn heading(&self, rule: &Rule, slice: &Scope, out: &mut String) {
        let slice = if *slice == Scope::All { String::new() } else { format!("  {slice}") };
        let dry = if rule.dry_run { " (dry run)" } else { "" };
        let _ = writeln!(out, "  {} → {}{dry}{slice}", rule.condition.source, rule.action.as_str());
    }

    fn story(&self, story: &Story, out: &mut String) {
        let told: Vec<&Entry> = story.entries.iter().filter(|entry| is_told(entry, story)).collect();
        for entry in told.iter().take(LINES) {
            self.entry(story, entry, out);
        }
        if let Some(more) = told.len().checked_sub(LINES).filter(|more| *more > 0) {
            let text = format!("and {} more: `--format json` has them all", words::count(more as u64));
            let _ = writeln!(out, "    {}", self.paint.dim(&text));
        }
        if story.decisions().next().is_none() {
            self.near_miss(story, out);
        }
        if let Some(unknown) = unknown(story) {
            self.note(&unknown, out);
        }
    }

    fn entry(&self, story: &Story, entry: &Entry, out: &mut String) {
        match &entry.what {
            What::Moved { from, to, why } => {
                let head = format!("{} → {}", from.as_str(), to.as_str());
                let text = format!("{head}: {why}{}", numbers(&entry.numbers));
                self.line(entry.at, Ink::Plain, &text, out);
            }
            What::Decided { action, gate } => {
                let (ink, said) = decided(*action, gate);
                self.line(entry.at, ink, &format!("{said}{}", numbers(&entry.numbers)), out);
                if gate == &Gate::AlreadyLatched {
                    return;
                }
                for line in wrap(&times(self.run, story, entry), WIDTH - INDENT) {
                    let _ = writeln!(out, "{:INDENT$}{}", "", self.paint.dim(&line));
                }
            }
        }
    }

    fn near_miss(&self, story: &Story, out: &mut String) {
        let mut parts = Vec::new();
        if story.verdicts.breach == 0 {
            let beyond = story.went_beyond();
            parts.push(
                if beyond { "beyond its threshold, never confirmed" } else { "never in breach" }.to_owned(),
            );
        }
        if let Some(Closest { at, value, threshold, samples }) = story.closest {
            let unit = &story.unit;
            let how = if story.went_beyond() { "deepest" } else { "closest" };
            parts.push(format!(
                "{how} at {}: {} against {} ({})",
                utc(at),
                measure(value, unit),
                measure(threshold, unit),
                count(samples, "sample")
            ));
        }
        if let Some(wait) = story.longest_pending {
            let waited = span(wait.span());
            let needed = span(story.rule.hold);
            parts.push(format!("longest in breach {waited} from {}, `for` is {needed}", utc(wait.from)));
        }
        if story.phase == Phase::Pending {
            parts.push("in breach at the end of the events".to_owned());
        }
        self.note(&parts.join("; "), out);
    }

    fn note(&self, text: &str, out: &mut String) {
        for line in wrap(text, WIDTH - 4) {
            let _ = writeln!(out, "    {}", self.paint.dim(&line));
        }
    }

    fn line(&self, at: Timestamp, ink: Ink, text: &str, out: &mut String) {
        for (number, line) in wrap(text, WIDTH - INDENT).iter().enumerate() {
            let head = if number == 0 { format!("    {}", utc(at)) } else { String::new() };
            let _ = writeln!(out, "{head:INDENT$}{}", self.paint.ink(ink, line));
        }
    }

    /// One row per set.
    fn comparison(&self, journals: &[Journal], out: &mut String) {
        let columns = [
            ("ROLLED BACK", Side::Right),
            ("PAUSED", Side::Right),
            ("NOTIFIED", Side::Right),
            ("WITHHELD", Side::Right),
            ("FIRST ROLLBACK", Side::Left),
            ("RULES", Side::Left),
        ];
        let mut table = Table::new(2, &columns);
        for (set, journal) in journals.iter().enumerate() {
            let decisions = journal.decisions();
            let done = |action: RuleAction| {
                let of = |entry: &Entry| matches!(&entry.what, What::Decided { action: a, gate: Gate::Act } if *a == action);
                decisions
                    .iter()
                    .filter(|(_, entry)| of(entry))
                    .map(|(_, entry)| closed(self.run, entry))
                    .collect::<Vec<_>>()
            };
            let [back, paused, told] =
                [RuleAction::Rollback, RuleAction::PauseRollout, RuleAction::Notify].map(done);
            let withheld = decisions.len() - back.len() - paused.len() - told.len();
            let first = back.first().map_or("never".to_owned(), |at| match self.run.onset {
                Some(onset) => format!("{}, {} after onset", utc(*at), long(at.since(onset))),
                None => utc(*at),
            });
            let number = |n: usize| cell(Ink::Plain, words::count(n as u64));
            table.row(vec![
                number(back.len()),
                number(paused.len()),
                number(told.len()),
                number(withheld),
                first.into(),
                self.run.sets[set].as_str().into(),
            ]);
        }
        let _ = write!(out, "\n{}", table.render(self.paint));
    }
}

/// Crossing, T0, decision, and how far they lie from each other and from the onset.
pub fn times(run: &Run, story: &Story, entry: &Entry) -> String {
    let near = entry.at;
    let clock = |at: Timestamp| words::time_near(at, near);
    let mut parts = Vec::new();
    parts.extend(entry.crossing.map(|at| format!("crossing {}", clock(at))));
    parts.extend(entry.t0.map(|at| format!("T0 {}", clock(at))));
    let closed = closed(run, entry);
    let mut decided = format!("decided {}", clock(closed));
    if let Some(t0) = entry.t0 {
        let _ = write!(decided, ", {} after T0", span(closed.since(t0)));
    }
    if let Some(onset) = run.onset.filter(|onset| *onset <= closed) {
        let _ = write!(decided, ", {} after onset", long(closed.since(onset)));
    }
    parts.push(decided);
    let by = entry.numbers.confirmed_by.as_str().map(|by| format!("confirmed by {by}"));
    parts.extend(by.filter(|_| story.rule.action != RuleAction::Notify));
    parts.join(" · ")
}

/// When the minute was closed whose end an entry bears.
fn closed(run: &Run, entry: &Entry) -> Timestamp {
    entry.at + run.rig.engines()[0].settings().lateness
}

/// A move that goes with a decision is told by the decision.
pub fn is_told(entry: &Entry, story: &Story) -> bool {
    match &entry.what {
        What::Moved { to: Phase::Firing | Phase::Latched, .. } => {
            !story.decisions().any(|decision| decision.at == entry.at)
        }
        What::Moved { .. } | What::Decided { .. } => true,
    }
}

/// What a decision would have done, or why it would not.
pub fn decided(action: RuleAction, gate: &Gate) -> (Ink, String) {
    let done = match action {
        RuleAction::Rollback => "rolled back",
        RuleAction::PauseRollout => "paused",
        RuleAction::Notify => "told",
    };
    match gate {
        Gate::Act if action == RuleAction::Rollback => (Ink::Bad, format!("would have {done}")),
        Gate::Act => (Ink::Doubt, format!("would have {done}")),
        Gate::DryRun => (Ink::Doubt, format!("would have {done}, if the rule were not a dry run")),
        Gate::AlreadyLatched => (Ink::Dim, format!("would have {done}: is rolled back already")),
        Gate::WorldBreach { why } => (Ink::Doubt, format!("not {done}, pages only: {why}")),
        Gate::FlipLimit { limit, of } => {
            (Ink::Doubt, format!("not {done} yet, pages only: {limit} rollbacks in ten minutes {of}"))
        }
        Gate::NoSlices { platform } => {
            (Ink::Doubt, format!("not {done}, pages only: `{platform}` cannot roll a slice back"))
        }
        Gate::AutomationOff | Gate::UnknownFlag => (Ink::Doubt, format!("not {done}: {}", gate.as_str())),
    }
}

/// The numbers behind an entry, to be put behind its words.
pub fn numbers(numbers: &Numbers) -> String {
    let Some(value) = numbers.value else { return String::new() };
    let unit = &numbers.unit;
    let limit = numbers.threshold.map(|t| format!(" against {}", measure(t, unit))).unwrap_or_default();
    format!("; {}{limit}, {}", measure(value, unit), count(numbers.samples, "sample"))
}

/// How much of the time nothing was known, and why.
pub fn unknown(story: &Story) -> Option<String> {
    let v = story.verdicts;
    let closings = v.pass + v.breach + v.inconclusive + v.error;
    let told = story.doubts.iter();
    let reasons: Vec<String> =
        told.map(|(doubt, minutes)| format!("{} for {}", doubt.as_str(), of_minutes(*minutes))).collect();
    if reasons.is_empty() {
        return None;
    }
    let mut text = format!("of {}: {}", of_minutes(closings), reasons.join(", "));
    if let Some(wait) = story.longest_silence.filter(|wait| wait.span() >= SILENCE_NOTICE) {
        let _ = write!(text, "; longest silence from {} to {}", utc(wait.from), utc(wait.to));
    }
    Some(text)
}

/// A span that may be of days.
pub fn long(whole: Duration) -> String {
    if whole < Duration::from_secs(48 * 3600) { span(whole) } else { brief(whole) }
}

fn of_minutes(minutes: u64) -> String {
    long(Duration::from_secs(minutes * 60))
}

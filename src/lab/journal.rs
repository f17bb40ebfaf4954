//! The journal of a run: per rule and slice, what happened and when, what was close, and what was unknown.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use super::rig::Step;
use crate::engine::alert::State;
use crate::engine::evidence;
use crate::engine::machine::Engine;
use crate::engine::output::{AlertKey, Decision, Evidence, Gate, Phase, Transition, Verdicts};
use crate::engine::rule::{Rule, RuleAction, Shape, Side};
use crate::engine::verdict::{Judgement, Reason, Verdict};
use crate::model::time::{Minute, Timestamp};

/// What one set of rules said over a run.
#[derive(Debug, Default)]
pub struct Journal {
    /// In the order in which the alerts were first judged.
    stories: Vec<Story>,
    /// Places in `stories`.
    places: BTreeMap<AlertKey, usize>,
    keeps: Keeps,
}

/// What is kept of every closing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Keeps {
    #[default]
    Nothing,
    /// Its numbers, for pictures.
    Track,
    /// Intervals as well, which take longer to reckon than the verdict.
    Intervals,
}

/// One rule on one slice.
#[derive(Debug)]
pub struct Story {
    pub rule: Arc<Rule>,
    pub key: AlertKey,
    /// Of the measurement; empty for scores and rates.
    pub unit: String,
    /// In the order in which they happened.
    pub entries: Vec<Entry>,
    /// Closings by verdict.
    pub verdicts: Verdicts,
    /// Closings that were neither pass nor breach, by reason.
    pub doubts: BTreeMap<Doubt, u64>,
    /// The closing at which the measurement came closest to its threshold, or lay deepest beyond it.
    pub closest: Option<Closest>,
    /// The longest wait that ended without a decision.
    pub longest_pending: Option<Wait>,
    /// The longest stretch of closings without data in the window.
    pub longest_silence: Option<Wait>,
    /// The state after the last closing.
    pub phase: Phase,
    /// Every closing's numbers, if they are kept.
    pub track: Vec<Point>,
    /// Place of the rule in its set.
    place: usize,
    pending_since: Option<Timestamp>,
    silent_since: Option<Timestamp>,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Event time: the end of the minute whose closing it was.
    pub at: Timestamp,
    pub what: What,
    pub numbers: Numbers,
    /// Start of the first pane at whose closing the literal condition was true.
    pub crossing: Option<Timestamp>,
    /// Start of the pane whose closing first satisfied the persistence test.
    pub t0: Option<Timestamp>,
}

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub enum What {
    /// The alert's state changed.
    Moved { from: Phase, to: Phase, why: String },
    /// The rule fired.
    Decided { action: RuleAction, gate: Gate },
}

/// The numbers of a verdict that reports carry.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Numbers {
    pub value: Option<f64>,
    pub threshold: Option<f64>,
    pub unit: String,
    pub samples: u64,
    /// The confidence interval of the measurement; null where none is computed.
    pub interval: Value,
    /// Which test confirmed the breach; null where none has, or none is told.
    pub confirmed_by: Value,
}

/// Why a closing was neither pass nor breach.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Doubt {
    /// Nothing in the window.
    NoData,
    Missing,
    TooFewSamples,
    NoBaseline,
    /// A burst hides a breach.
    Masked,
    /// True as written, but for a single minute, too few bad minutes, or within noise.
    Unconfirmed,
    /// False, and what came too late could turn it.
    Late,
    /// The condition divides by zero or overflows.
    NotFinite,
    /// A quantile over hours that were kept without their bucket counts.
    NoHistogram,
}

/// The closing that came closest.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Closest {
    pub at: Timestamp,
    pub value: f64,
    pub threshold: f64,
    pub samples: u64,
}

impl Closest {
    /// How far on the bad side, relative to the threshold; not above zero while it is on the good one.
    pub fn depth(&self, side: Side) -> f64 {
        let depth = (self.value - self.threshold) / self.threshold.abs().max(1e-9);
        if side == Side::Above { depth } else { -depth }
    }
}

/// A stretch of closings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wait {
    pub from: Timestamp,
    pub to: Timestamp,
}

impl Wait {
    /// How long it is.
    pub fn span(self) -> Duration {
        self.to.since(self.from)
    }

    fn longer(self, other: Option<Self>) -> Option<Self> {
        Some(other.filter(|other| other.span() >= self.span()).unwrap_or(self))
    }
}

/// One closing's numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    pub minute: Minute,
    pub value: Option<f64>,
    pub threshold: Option<f64>,
    /// The confidence interval of the value, if intervals are kept.
    pub interval: Option<(f64, f64)>,
    /// D, and the evidence that is enough: c. `None` where evidence does not confirm the rule.
    pub evidence: Option<(f64, f64)>,
    pub standing: Standing,
}

/// A verdict in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    Pass,
    Unknown(Doubt),
    Breach,
}

impl Standing {
    fn of(verdict: &Verdict) -> Self {
        match verdict {
            Verdict::Pass => Self::Pass,
            Verdict::Breach => Self::Breach,
            Verdict::Inconclusive { reason } | Verdict::Error { reason } => Self::Unknown(Doubt::of(reason)),
        }
    }
}

impl Numbers {
    /// The one place that reads evidence, and the decision that it belongs to, for reports.
    fn of(evidence: &Evidence, decision: Option<&Decision>) -> Self {
        // By name: what neither holds is null.
        let of_evidence = serde_json::to_value(evidence).unwrap_or_default();
        let of_decision =
            decision.and_then(|decision| serde_json::to_value(decision).ok()).unwrap_or_default();
        let field = |name: &str| {
            let found = of_evidence.get(name).or_else(|| of_decision.get(name));
            found.cloned().unwrap_or_default()
        };
        Self {
            value: evidence.value,
            threshold: evidence.threshold,
            unit: evidence.unit.clone(),
            samples: evidence.samples,
            interval: field("interval"),
            confirmed_by: field("confirmed_by"),
        }
    }
}

impl Journal {
    /// An empty journal. `keeps_track` keeps every closing's numbers: about 100 bytes per minute, rule and slice.
    pub fn new(keeps_track: bool) -> Self {
        Self { keeps: if keeps_track { Keeps::Track } else { Keeps::Nothing }, ..Self::default() }
    }

    /// An empty journal that keeps what plots show: every closing's numbers, with intervals.
    pub fn for_plots() -> Self {
        Self { keeps: Keeps::Intervals, ..Self::default() }
    }

    /// Writes one closing down; `tell` hears of each entry at once.
    pub fn observe(&mut self, step: &Step<'_>, tell: &mut dyn FnMut(&Story, &Entry)) {
        let at = step.closed.end();
        for (key, judgement) in step.engine.judgements() {
            self.judged(step.engine, key, judgement, at);
        }
        for transition in &step.output.transitions {
            let decision = step.output.decisions.iter().find(|d| d.key == transition.key);
            let entry = moved(step.engine, transition, decision);
            self.enter(step.engine, &transition.key, entry, tell);
        }
        for decision in &step.output.decisions {
            let entry = Entry {
                at: decision.at,
                what: What::Decided { action: decision.action, gate: decision.gate.clone() },
                numbers: Numbers::of(&decision.evidence, Some(decision)),
                crossing: Some(decision.crossing),
                t0: Some(decision.t0),
            };
            self.enter(step.engine, &decision.key, entry, tell);
        }
    }

    /// Ends what is still going on at `at`.
    pub fn finish(&mut self, at: Timestamp) {
        for story in &mut self.stories {
            story.pending(None, at);
            story.silent(false, at);
        }
    }

    /// The stories: rules in their order, slices by name.
    pub fn stories(&self) -> Vec<&Story> {
        let mut stories: Vec<&Story> = self.stories.iter().collect();
        stories.sort_by_key(|story| (story.place, &story.key));
        stories
    }

    /// Every decision, in the order of time, with its story.
    pub fn decisions(&self) -> Vec<(&Story, &Entry)> {
        let decisions = |story| Story::decisions(story).map(move |entry| (story, entry));
        let mut found: Vec<_> = self.stories().into_iter().flat_map(decisions).collect();
        found.sort_by_key(|(_, entry)| entry.at);
        found
    }

    fn judged(&mut self, engine: &Engine, key: &AlertKey, judgement: &Judgement, at: Timestamp) {
        let keeps = self.keeps;
        let Some(story) = self.story(engine, key) else { return };
        story.count(&judgement.verdict, at);
        let (value, threshold) = engine.measured(&story.rule, &key.slice);
        if let (Some(value), Some(threshold), Shape::Simple { side, .. }) =
            (value, threshold, &story.rule.condition.shape)
            && judgement.samples >= story.rule.min_samples
        {
            let here = Closest { at, value, threshold, samples: judgement.samples };
            let depth = |c: &Closest| c.depth(*side);
            if story.closest.as_ref().is_none_or(|c| depth(c) < depth(&here)) {
                story.closest = Some(here);
            }
        }
        if keeps != Keeps::Nothing {
            let interval = (keeps == Keeps::Intervals).then(|| engine.interval(&story.rule, &key.slice));
            story.track.push(Point {
                minute: at.minute().plus(-1),
                value,
                threshold,
                interval: interval.flatten(),
                evidence: judgement.proof.as_ref().map(|proof| (proof.evidence, proof.needed)),
                standing: Standing::of(&judgement.verdict),
            });
        }
    }

    fn enter(&mut self, engine: &Engine, key: &AlertKey, entry: Entry, tell: &mut dyn FnMut(&Story, &Entry)) {
        let Some(story) = self.story(engine, key) else { return };
        if let What::Moved { to, .. } = &entry.what {
            story.phase = *to;
            story.pending(Some(*to), entry.at);
        }
        tell(story, &entry);
        story.entries.push(entry);
    }

    /// The story of an alert, begun on first sight.
    fn story(&mut self, engine: &Engine, key: &AlertKey) -> Option<&mut Story> {
        if let Some(known) = self.places.get(key) {
            return self.stories.get_mut(*known);
        }
        let rules = &engine.settings().rules.rules;
        let place = rules.iter().position(|rule| rule.is(key))?;
        self.places.insert(key.clone(), self.stories.len());
        let unit = evidence::unit_of(&rules[place].condition, engine.settings().schema.catalogue());
        self.stories.push(Story::new(Arc::clone(&rules[place]), place, key, unit));
        self.stories.last_mut()
    }
}

impl Story {
    fn new(rule: Arc<Rule>, place: usize, key: &AlertKey, unit: String) -> Self {
        Self {
            rule,
            key: key.clone(),
            unit,
            entries: Vec::new(),
            verdicts: Verdicts::default(),
            doubts: BTreeMap::new(),
            closest: None,
            longest_pending: None,
            longest_silence: None,
            phase: Phase::Quiet,
            track: Vec::new(),
            place,
            pending_since: None,
            silent_since: None,
        }
    }

    /// Decisions among the entries.
    pub fn decisions(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(|entry| matches!(entry.what, What::Decided { .. }))
    }

    /// Whether the measurement has ever been beyond its threshold with enough samples.
    pub fn went_beyond(&self) -> bool {
        match (&self.closest, &self.rule.condition.shape) {
            (Some(closest), Shape::Simple { side, .. }) => closest.depth(*side) > 0.0,
            (None, _) | (_, Shape::Other) => false,
        }
    }

    fn count(&mut self, verdict: &Verdict, at: Timestamp) {
        match verdict {
            Verdict::Pass => self.verdicts.pass += 1,
            Verdict::Breach => self.verdicts.breach += 1,
            Verdict::Inconclusive { reason } => {
                self.verdicts.inconclusive += 1;
                *self.doubts.entry(Doubt::of(reason)).or_default() += 1;
            }
            Verdict::Error { reason } => {
                self.verdicts.error += 1;
                *self.doubts.entry(Doubt::of(reason)).or_default() += 1;
            }
        }
        self.silent(matches!(verdict, Verdict::Inconclusive { reason: Reason::NoData }), at);
    }

    fn silent(&mut self, silent: bool, at: Timestamp) {
        if silent {
            self.silent_since.get_or_insert(at);
        } else if let Some(from) = self.silent_since.take() {
            self.longest_silence = Wait { from, to: at }.longer(self.longest_silence);
        }
    }

    /// The alert has moved to a state, or the run has ended.
    fn pending(&mut self, to: Option<Phase>, at: Timestamp) {
        match to {
            Some(Phase::Pending) => drop(self.pending_since.get_or_insert(at)),
            Some(Phase::Firing | Phase::Latched) => self.pending_since = None,
            Some(Phase::Quiet) | None => {
                if let Some(from) = self.pending_since.take() {
                    self.longest_pending = Wait { from, to: at }.longer(self.longest_pending);
                }
            }
        }
    }
}

impl Doubt {
    /// The word of reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoData => "no data",
            Self::Missing => "events missing",
            Self::TooFewSamples => "too few samples",
            Self::NoBaseline => "no baseline",
            Self::Masked => "masked by a burst",
            Self::Late => "samples too late",
            Self::Unconfirmed => "true, but not confirmed",
            Self::NotFinite => "not a number",
            Self::NoHistogram => "older hours without a histogram",
        }
    }

    fn of(reason: &Reason) -> Self {
        match reason {
            Reason::NoData => Self::NoData,
            Reason::NoHistogram => Self::NoHistogram,
            Reason::Missing { .. } => Self::Missing,
            Reason::TooFewSamples { .. } => Self::TooFewSamples,
            Reason::NoBaseline => Self::NoBaseline,
            Reason::Masked { .. } | Reason::MaskedByHours { .. } => Self::Masked,
            Reason::NotFinite => Self::NotFinite,
            Reason::Late { .. } => Self::Late,
            // Every other reason is a test that a breach has not passed.
            _ => Self::Unconfirmed,
        }
    }
}

fn moved(engine: &Engine, transition: &Transition, decision: Option<&Decision>) -> Entry {
    let alert = engine.memory().alert(&transition.key);
    let t0 = match alert.map(|alert| &alert.state) {
        Some(State::Pending(pending)) => Some(pending.first.start()),
        Some(State::Firing(firing)) => Some(firing.first.start()),
        Some(State::Latched { .. }) => decision.map(|decision| decision.t0),
        Some(State::Quiet) | None => None,
    };
    let numbers = match decision {
        Some(decision) => Numbers::of(&decision.evidence, Some(decision)),
        None => engine.evidence(&transition.key).map(|now| Numbers::of(&now, None)).unwrap_or_default(),
    };
    Entry {
        at: transition.at,
        what: What::Moved { from: transition.from, to: transition.to, why: transition.why.clone() },
        numbers,
        crossing: alert.and_then(|alert| alert.crossing).map(Minute::start),
        t0,
    }
}

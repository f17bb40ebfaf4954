//! Who judges a simulated stream: the daemon's engine with a `confirm` mode, or one of the plain rules that it is compared with.

use std::sync::Arc;

use crate::engine::alert::State;
use crate::engine::fleet::{Fleet, RuleView};
use crate::engine::input::{Command, CommandKind, Delta, Fates, Input, Settings, Source};
use crate::engine::machine::Engine;
use crate::engine::measure::{self, Frame};
use crate::engine::output::{Decision, Gate};
use crate::engine::pane::VariantPane;
use crate::engine::rule::eval::truth;
use crate::engine::rule::{Confirm, Rule, RuleAction, RuleSet, Stat};
use crate::model::flag::Scope;
use crate::model::time::Minute;

/// One way to judge a rule set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judge {
    /// The engine, every rule with this mode.
    Mode(Confirm),
    /// The engine, every rule with the mode that its file gives it.
    Written,
    /// Acts at the first closing at which the condition is true.
    Plain,
    /// Acts when the condition has been true at every closing for five minutes, as Prometheus does with `for: 5m`.
    Held,
}

/// How long [`Judge::Held`] waits, in closings after the first.
const HELD: u32 = 5;

impl Judge {
    /// The word of reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Mode(confirm) => confirm.as_str(),
            Self::Written => "as written",
            Self::Plain => "plain",
            Self::Held => "for: 5m",
        }
    }

    /// Whether it is the engine, not a plain rule.
    pub const fn is_engine(self) -> bool {
        matches!(self, Self::Mode(_) | Self::Written)
    }
}

/// What one rule does at one closing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Act {
    /// Its place in the rule set.
    pub rule: usize,
    pub what: What,
}

/// How far a rule got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// It did what it says.
    Acted,
    /// It paused and paged instead of rolling back (`confirm: significant`, within noise).
    Paused,
    /// Something stood in the way (limits, the control breaches too): it paged.
    Withheld,
}

/// A judge at work on one stream.
#[derive(Clone, Debug)]
pub enum Seat {
    Engine(Box<Bench>),
    Literal(Box<Literal>),
}

impl Seat {
    /// Takes its place. `settings` hold the rules as written.
    pub fn new(judge: Judge, settings: &Settings) -> Self {
        match judge {
            Judge::Mode(confirm) => Self::Engine(Box::new(Bench::new(with_mode(settings, confirm)))),
            Judge::Written => Self::Engine(Box::new(Bench::new(settings.clone()))),
            Judge::Plain => Self::Literal(Box::new(Literal::new(settings, 0))),
            Judge::Held => Self::Literal(Box::new(Literal::new(settings, HELD))),
        }
    }

    /// Shows it a minute that has passed, and what arrived in it.
    pub fn close(&mut self, minute: Minute, panes: &[VariantPane]) -> Vec<Act> {
        match self {
            Self::Engine(bench) => bench.close(minute, panes),
            Self::Literal(literal) => literal.close(minute, panes),
        }
    }

    /// Whether a rule has acted and that stands: a pause that has not resolved.
    pub fn stands(&self, rule: usize) -> bool {
        match self {
            Self::Engine(bench) => bench.stands(rule),
            Self::Literal(literal) => literal.acted[rule],
        }
    }

    /// Takes every rollback back: the variant serves again, windows start anew, as after `flag re-arm`.
    pub fn rearm(&mut self, minute: Minute) {
        match self {
            Self::Engine(bench) => bench.rearm(minute),
            Self::Literal(literal) => literal.rearm(minute),
        }
    }
}

fn with_mode(settings: &Settings, confirm: Confirm) -> Settings {
    let changed = |rule: &Arc<Rule>| Arc::new(Rule { confirm, ..Rule::clone(rule) });
    let rules = settings.rules.rules.iter().map(changed).collect();
    Settings { rules: Arc::new(RuleSet { rules, ..Default::default() }), ..settings.clone() }
}

/// An engine that is fed panes.
#[derive(Clone, Debug)]
pub struct Bench {
    engine: Engine,
    source: Source,
    /// Events handed over.
    handed: i64,
}

impl Bench {
    fn new(settings: Settings) -> Self {
        let source = Source { topic: "simulation".into(), partition: 0 };
        let mut engine = Engine::new(settings);
        engine
            .step(Input::Assign { sources: vec![source.clone()], start: Some(super::stream::START.start()) });
        Self { engine, source, handed: 0 }
    }

    fn close(&mut self, minute: Minute, panes: &[VariantPane]) -> Vec<Act> {
        let events: u64 = panes.iter().map(|pane| pane.events).sum();
        let from = self.handed;
        self.handed += i64::try_from(events).unwrap_or(0);
        let output = self.engine.step(Input::Delta(Delta {
            source: self.source.clone(),
            from,
            to: self.handed,
            watermark: Some(minute.end() + self.engine.settings().lateness),
            fates: Fates { consumed: events, windowed: events, ..Fates::default() },
            panes: panes.to_vec(),
            late: Vec::new(),
        }));
        output.decisions.iter().filter_map(|decision| self.act(decision)).collect()
    }

    fn act(&self, decision: &Decision) -> Option<Act> {
        let rules = &self.engine.settings().rules.rules;
        let rule = rules.iter().position(|rule| rule.is(&decision.key))?;
        let what = match decision.gate {
            Gate::Act | Gate::AlreadyLatched if decision.action == rules[rule].action => What::Acted,
            Gate::Act | Gate::AlreadyLatched => What::Paused,
            _ => What::Withheld,
        };
        Some(Act { rule, what })
    }

    fn stands(&self, number: usize) -> bool {
        let rule = &self.engine.settings().rules.rules[number];
        let fires = |state: &State| matches!(state, State::Firing(firing) if firing.acted && firing.action == rule.action);
        self.engine.memory().alerts().any(|(key, alert)| rule.is(key) && fires(&alert.state))
    }

    fn rearm(&mut self, minute: Minute) {
        while let Some(latch) = self.engine.memory().core.latches.first() {
            let kind = CommandKind::Rearm { flag: latch.flag.clone(), scope: None, false_alarm: false };
            let (actor, reason) = ("simulation".to_owned(), "a false rollback".to_owned());
            self.engine.step(Input::Command(Command { actor, reason, at: minute.end(), kind }));
        }
    }
}

/// The literal condition over the same windows with the same `min_samples`, and nothing else.
#[derive(Clone, Debug)]
pub struct Literal {
    rules: Arc<RuleSet>,
    fleet: Fleet,
    /// Closings that a condition has to hold after the first.
    hold: u32,
    /// Per rule, how often in a row it has been true.
    held: Vec<u32>,
    /// Per rule, where its windows begin.
    floors: Vec<Minute>,
    /// Rules that have acted and are not re-armed.
    acted: Vec<bool>,
}

impl Literal {
    fn new(settings: &Settings, hold: u32) -> Self {
        let rules = Arc::clone(&settings.rules);
        let slices = usize::try_from(settings.limits.slices).unwrap_or(usize::MAX);
        let mut fleet = Fleet::new(Arc::clone(&settings.schema), slices);
        fleet.configure(Arc::clone(&settings.schema), &rules, slices);
        fleet.jump_to(super::stream::START.plus(-1));
        let n = rules.rules.len();
        let floors = vec![super::stream::START; n];
        Self { rules, fleet, hold, held: vec![0; n], floors, acted: vec![false; n] }
    }

    fn close(&mut self, minute: Minute, panes: &[VariantPane]) -> Vec<Act> {
        panes.iter().for_each(|pane| self.fleet.add(pane.clone()));
        self.fleet.close(minute);
        let mut acts = Vec::new();
        for rule in 0..self.rules.rules.len() {
            self.held[rule] = if self.holds(rule, minute) { self.held[rule] + 1 } else { 0 };
            if self.held[rule] > self.hold && !self.acted[rule] {
                self.acted[rule] = true;
                acts.push(Act { rule, what: What::Acted });
            }
        }
        acts
    }

    /// Whether the condition of a rule is true, on any slice.
    fn holds(&self, number: usize, closed: Minute) -> bool {
        let rule = &self.rules.rules[number];
        let schema = self.fleet.schema();
        let own = schema.find(rule.variant.as_str());
        let baseline = rule.baseline.as_ref().and_then(|name| schema.find(name.as_str()));
        let slice = match (rule.by, own) {
            (None, _) => Scope::All,
            (Some(dimension), Some(own)) => match self.fleet.slices(own, dimension).next() {
                Some(value) => Scope::Only(dimension, value.clone()),
                None => return false,
            },
            (Some(_), None) => return false,
        };
        let view = RuleView::new(&self.fleet, own, baseline, &slice);
        let frame = Frame { closed, floor: self.floors[number] };
        let slots = &rule.condition.slots;
        let counts = |stat| matches!(stat, Stat::Count | Stat::PerMin);
        let mut needed = slots.iter().filter(|slot| !counts(slot.stat));
        needed.all(|slot| measure::samples(&view, slot, frame) >= rule.min_samples.max(1))
            && truth(&rule.condition.expr, &mut |slot| measure::full(&view, &slots[slot], frame)) == Ok(true)
    }

    fn rearm(&mut self, minute: Minute) {
        for rule in 0..self.acted.len() {
            if std::mem::take(&mut self.acted[rule]) {
                self.floors[rule] = minute.plus(1);
                self.held[rule] = 0;
            }
        }
    }
}

/// Whether some rule of a set takes a variant back.
pub fn rolls_back(rules: &RuleSet, act: Act) -> bool {
    act.what == What::Acted && rules.rules[act.rule].action == RuleAction::Rollback
}

//! The engine itself: one input in, one output out.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::closing;
use super::detector::Track;
use super::drill;
use super::evidence;
use super::fleet::Fleet;
use super::hand;
use super::input::{Answer, Command, CommandKind, Delta, FlipOutcome, Input, Settings, Source};
use super::memory::{Blind, Floor, Memory};
use super::message;
use super::output::{
    AlertKey, CanaryReport, CommandError, Evidence, HoldReport, LatchChange, LatchReport, MessageKind, Order,
    Output, Phase, Reply, Report, Transition,
};
use super::rule::{Rule, RuleAction};
use super::sources::Accept;
use super::verdict::{Judgement, Reason};
use crate::model::flag::Scope;
use crate::model::id::{FlagKey, IncidentId};
use crate::model::time::{Minute, Timestamp};

/// How long a start may take before it is told as blindness.
const START_ALLOWANCE: Duration = Duration::from_secs(600);

/// The pure core. Everything that it knows came in through [`Engine::step`] or was restored.
#[derive(Clone, Debug)]
pub struct Engine {
    pub(super) settings: Settings,
    pub(super) fleet: Fleet,
    pub(super) memory: Memory,
    /// The last judgement of each alert, for those who watch only.
    pub(super) last: BTreeMap<AlertKey, Judgement>,
    /// What the change detector has computed from panes, to save time; made anew whenever it is missing.
    pub(super) tracks: BTreeMap<AlertKey, Track>,
    /// How the canary's rule was judged last.
    pub(super) canary: Option<CanaryReport>,
    /// Panes are being restored: nothing is judged.
    pub(super) loading: bool,
}

impl Engine {
    /// An engine that has seen nothing.
    pub fn new(settings: Settings) -> Self {
        let slices = usize::try_from(settings.limits.slices).unwrap_or(usize::MAX);
        let mut fleet = Fleet::new(Arc::clone(&settings.schema), slices);
        fleet.configure(Arc::clone(&settings.schema), &settings.rules, slices);
        Self {
            settings,
            fleet,
            memory: Memory::default(),
            last: BTreeMap::new(),
            tracks: BTreeMap::new(),
            canary: None,
            loading: false,
        }
    }

    /// Takes one input and says what follows from it.
    pub fn step(&mut self, input: Input) -> Output {
        let mut output = Output::default();
        match input {
            Input::Assign { sources, start } => self.assign(&sources, start),
            Input::Delta(delta) => self.delta(delta, &mut output),
            Input::Idle { source, at } => self.memory.core.sources.idle(&source, at),
            Input::Gap { source, from, to, anew, reason } => {
                // While panes are read again, a gap below the stored position takes from windows, not from the position.
                if !self.loading || anew || to > self.memory.core.sources.next(&source) {
                    self.memory.core.sources.jump(&source, to);
                }
                self.memory.core.sources.lose(&source);
                let at = self.event_time().unwrap_or_default();
                output.orders.push(Order::Page(message::gap(&source, from..to, &reason, at)));
            }
            Input::Advance(wall) => self.advance(wall, &mut output),
            Input::Connection { up, reason } => {
                self.memory.core.sources.connection((!up).then_some(reason));
            }
            Input::Reload(settings) => self.reload(*settings, &mut output),
            Input::Command(command) => {
                let reply = self.command(&command, &mut output);
                output.reply = Some(reply);
            }
            Input::Answer(answer) => self.answer(&answer, &mut output),
        }
        self.progress(&mut output);
        drill::mark(&self.settings, &mut output);
        output
    }

    /// Why verdicts may not act now, if so.
    pub fn why_not_armed(&self) -> Option<Reason> {
        if self.loading {
            let restoring = || Reason::Stale { why: "windows are being restored".into() };
            return Some(self.memory.core.sources.unreachable().unwrap_or_else(restoring));
        }
        self.memory.core.sources.why_blind(self.settings.limits.blind_after + self.settings.lateness)
    }

    /// Whether panes are being restored, so that nothing is judged and no position moves.
    pub fn is_loading(&self) -> bool {
        self.loading
    }

    /// Event time as far as it is known.
    pub fn event_time(&self) -> Option<Timestamp> {
        self.memory.core.sources.now()
    }

    /// The rules, flags and limits in force.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// What is remembered beside panes.
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    /// The rows of memory that changed since the last call, for the transaction that stores this step.
    pub fn changed_rows(&mut self) -> Vec<(String, Option<String>)> {
        self.memory.changed_rows()
    }

    /// What is known now.
    pub fn report(&self) -> Report {
        let core = &self.memory.core;
        let why_not_armed = self.why_not_armed();
        Report {
            event_time: core.sources.now(),
            closed: core.closed,
            armed: why_not_armed.is_none(),
            why_not_armed: why_not_armed.map(|why| why.to_string()),
            automation: core.automation,
            dry_run: self.settings.dry_run,
            sources: core.sources.report(),
            alerts: closing::report(self),
            series: self.fleet.len(),
            canary: self.canary.clone(),
            latches: core
                .latches
                .iter()
                .map(|l| LatchReport {
                    flag: l.flag.clone(),
                    scope: l.scope.clone(),
                    decision: l.decision.clone(),
                    incident: l.incident.clone(),
                    at: l.at,
                    outcome: l.outcome,
                })
                .collect(),
            holds: core
                .holds
                .iter()
                .map(|hold| HoldReport {
                    flag: hold.flag.clone(),
                    decision: hold.decision.clone(),
                    outcome: hold.outcome,
                })
                .collect(),
        }
    }

    /// The last judgement of each alert.
    pub fn judgements(&self) -> impl Iterator<Item = (&AlertKey, &Judgement)> {
        self.last.iter()
    }

    /// What a rule of one comparison measures on a slice now, and what it compares with.
    pub fn measured(&self, rule: &Rule, slice: &Scope) -> (Option<f64>, Option<f64>) {
        closing::measured(self, rule, slice)
    }

    /// The confidence interval of that measurement, as decisions are stored with.
    pub fn interval(&self, rule: &Rule, slice: &Scope) -> Option<(f64, f64)> {
        closing::interval_of(self, rule, slice)
    }

    /// What the last judgement of an alert rests on, as it would be stored with a decision.
    pub fn evidence(&self, key: &AlertKey) -> Option<Evidence> {
        let (rule, judgement) = (self.rule(key)?, self.last.get(key)?);
        let frame = closing::frame(self, rule, &key.slice);
        let held = self.memory.alert(key).map_or(0, super::alert::Alert::held);
        Some(evidence::collect(rule, &self.fleet, &key.slice, frame, judgement, held, &self.settings.limits))
    }

    fn assign(&mut self, sources: &[Source], start: Option<Timestamp>) {
        self.memory.core.sources.assign(sources);
        if let (None, Some(start)) = (self.memory.core.closed, start) {
            self.start_at(start.minute().plus(-1));
        }
    }

    fn start_at(&mut self, closed: Minute) {
        self.memory.core.closed = Some(closed);
        self.fleet.jump_to(closed);
    }

    fn delta(&mut self, delta: Delta, output: &mut Output) {
        if self.loading {
            self.memory.core.sources.reread(&delta);
        } else {
            let at = delta.watermark.or(self.event_time()).unwrap_or_default();
            match self.memory.core.sources.accept(&delta) {
                Accept::Take => {}
                Accept::Skip => return,
                Accept::Gap { expected } => {
                    let missing = message::gap(&delta.source, expected..delta.from, "nobody said why", at);
                    output.orders.push(Order::Page(missing));
                }
                Accept::Overlap { expected } => {
                    let why = "a range was read twice and is left out";
                    let twice = message::gap(&delta.source, expected..delta.to, why, at);
                    output.orders.push(Order::Page(twice));
                    return;
                }
            }
            if self.memory.core.closed.is_none()
                && let Some(first) = delta.panes.iter().map(|p| p.minute).min()
            {
                self.start_at(first.plus(-1));
            }
        }
        for pane in delta.panes {
            self.fleet.add(pane);
        }
        delta.late.into_iter().for_each(|late| self.fleet.add_late(late));
    }

    /// Closes and judges every minute that event time has passed.
    fn progress(&mut self, output: &mut Output) {
        if self.loading {
            return;
        }
        self.memory.core.sources.time();
        let Some(target) = self.memory.core.sources.closed(self.settings.lateness) else {
            return;
        };
        while let Some(closed) = self.memory.core.closed
            && closed < target
        {
            let minute = closed.plus(1);
            self.memory.core.closed = Some(minute);
            self.fleet.close(minute);
            closing::close(self, minute, output);
            output.closed = Some(minute);
        }
    }

    fn advance(&mut self, wall: Timestamp, output: &mut Output) {
        self.memory.core.sources.advance(wall);
        let why = self.why_not_armed();
        let core = &mut self.memory.core;
        let Some(why) = why else {
            core.was_armed = true;
            if let Some(Blind { told: true, since }) = core.blind.take() {
                output.orders.push(Order::Notify(message::sighted(since, wall)));
            }
            return;
        };
        let allowance = if core.was_armed { self.settings.limits.blind_after } else { START_ALLOWANCE };
        let blind = core.blind.get_or_insert(Blind { since: wall, told: false });
        if !blind.told && wall.since(blind.since) >= allowance {
            blind.told = true;
            output.orders.push(Order::Page(message::blind(blind.since, &why.to_string(), wall)));
        }
    }

    fn command(&mut self, command: &Command, output: &mut Output) -> Result<Reply, CommandError> {
        match &command.kind {
            CommandKind::Automation { on } => {
                self.memory.core.automation = *on;
                let said = format!(
                    "automation is {}",
                    if *on { "on" } else { "off: nothing is flipped, pages go on" }
                );
                Ok(said.into())
            }
            CommandKind::ResolveIncident { incident } => self.resolve_incident(incident, command, output),
            CommandKind::Rearm { flag, scope, false_alarm } => {
                self.rearm(flag, scope.as_ref(), *false_alarm, command, output)
            }
            CommandKind::RollBack { flag, scope } => hand::roll_back(self, flag, scope, command, output),
            CommandKind::Drill { flag, from } => drill::begin(self, flag, *from, command, output),
            CommandKind::Pause { flag } => hand::pause(self, flag, command, output),
            CommandKind::Resume { flag } => hand::resume(self, flag, command, output),
        }
    }

    fn resolve_incident(
        &mut self,
        incident: &IncidentId,
        command: &Command,
        output: &mut Output,
    ) -> Result<Reply, CommandError> {
        let episodes = &mut self.memory.core.episodes;
        let Some(place) = episodes.iter().position(|e| e.incident == *incident) else {
            return Err(CommandError::NoSuchIncident { incident: incident.clone() });
        };
        let episode = episodes.remove(place);
        output.orders.push(Order::CloseIncident {
            incident: episode.incident,
            flag: episode.flag,
            by: command.actor.clone(),
            why: command.reason.clone(),
        });
        Ok(format!("incident {incident} is resolved").into())
    }

    fn rearm(
        &mut self,
        flag: &FlagKey,
        scope: Option<&Scope>,
        false_alarm: bool,
        command: &Command,
        output: &mut Output,
    ) -> Result<Reply, CommandError> {
        if false_alarm && self.settings.is_drill(flag) {
            return Err(CommandError::NoFalseAlarm { flag: flag.clone() });
        }
        let wanted = |s: &Scope| scope.is_none_or(|w| w == s);
        let (gone, kept): (Vec<_>, Vec<_>) =
            self.memory.core.latches.drain(..).partition(|l| l.flag == *flag && wanted(&l.scope));
        self.memory.core.latches = kept;
        if gone.is_empty() {
            let known = self.settings.flags.iter().any(|f| f.key == *flag);
            let scope = scope.cloned().unwrap_or_default();
            return Err(if known {
                CommandError::NotLatched { flag: flag.clone(), scope }
            } else {
                CommandError::UnknownFlag { flag: flag.clone() }
            });
        }
        let from = self.memory.core.closed.map_or(Minute(0), |m| m.plus(1));
        for latch in &gone {
            if latch.escalated {
                let told = message::serves_no_more(latch, "re-armed, so it may serve", command.at);
                output.orders.push(Order::Notify(told));
            }
            let scope = latch.scope.clone();
            self.memory.core.floors.push(Floor {
                variant: latch.variant.clone(),
                scope: scope.clone(),
                from,
            });
            output.latches.push(LatchChange::Close {
                flag: flag.clone(),
                scope: scope.clone(),
                by: command.actor.clone(),
                why: command.reason.clone(),
                false_alarm,
            });
            output.orders.push(Order::Unpin { flag: flag.clone(), scope, actor: command.actor.clone() });
        }
        self.quieten(
            |rule, key| {
                rule.flag == *flag
                    && rule.action == RuleAction::Rollback
                    && wanted_slice(&gone, rule, &key.slice)
            },
            &format!("re-armed by {}: {}", command.actor, command.reason),
            output,
        );
        let scopes: Vec<String> = gone.iter().map(|l| l.scope.to_string()).collect();
        let counted = if false_alarm { "; counted as a false alarm" } else { "" };
        Ok(format!("flag {flag} is re-armed ({}); its windows start anew{counted}", scopes.join(", ")).into())
    }

    /// Puts alerts back to quiet by hand.
    fn quieten(&mut self, which: impl Fn(&Rule, &AlertKey) -> bool, why: &str, output: &mut Output) {
        let at = self.event_time().unwrap_or_default();
        let keys: Vec<AlertKey> = self.memory.alerts().map(|(k, _)| k.clone()).collect();
        for key in keys {
            let Some(rule) = self.rule(&key).cloned().filter(|rule| which(rule, &key)) else {
                continue;
            };
            let from = self.memory.update(&key, |alert| {
                let from = alert.phase();
                *alert = super::alert::Alert::default();
                from
            });
            if from != Phase::Quiet {
                output.transitions.push(Transition {
                    at,
                    key,
                    variant: rule.variant.clone(),
                    action: rule.action,
                    from,
                    to: Phase::Quiet,
                    why: why.to_owned(),
                });
            }
        }
    }

    fn answer(&mut self, answer: &Answer, output: &mut Output) {
        let core = &mut self.memory.core;
        core.holds
            .iter_mut()
            .filter(|hold| hold.decision == answer.decision)
            .for_each(|hold| hold.outcome = Some(answer.outcome));
        let latches = &mut core.latches;
        let Some(place) =
            latches.iter().position(|l| l.decision == answer.decision && l.scope == answer.scope)
        else {
            return;
        };
        let latch = &mut latches[place];
        latch.outcome = Some(answer.outcome);
        match answer.outcome {
            FlipOutcome::Verified | FlipOutcome::AlreadySafe => latch.flipped_at = Some(answer.at),
            FlipOutcome::Superseded | FlipOutcome::Failed => {}
            // Too old to act on: take the latch off, so that fresh data decides anew.
            FlipOutcome::Expired => {
                let latch = latches.remove(place);
                output.latches.push(LatchChange::Close {
                    flag: latch.flag.clone(),
                    scope: latch.scope.clone(),
                    by: "rearguard".into(),
                    why: "the flip expired before it succeeded".into(),
                    false_alarm: false,
                });
                self.quieten(
                    |rule, key| {
                        rule.flag == latch.flag
                            && rule.action == RuleAction::Rollback
                            && wanted_slice(std::slice::from_ref(&latch), rule, &key.slice)
                    },
                    "the flip expired before it succeeded; judged anew",
                    output,
                );
            }
        }
    }

    fn reload(&mut self, settings: Settings, output: &mut Output) {
        let slices = usize::try_from(settings.limits.slices).unwrap_or(usize::MAX);
        self.fleet.configure(Arc::clone(&settings.schema), &settings.rules, slices);
        let old = std::mem::replace(&mut self.settings, settings);
        let keys: Vec<AlertKey> = self.memory.alerts().map(|(k, _)| k.clone()).collect();
        for key in keys {
            if self.rule(&key).is_some() {
                continue;
            }
            let gone = self.memory.forget(&key);
            self.last.remove(&key);
            let rule = old.rules.rules.iter().find(|r| r.is(&key));
            if let Some(alert) = gone {
                closing::removed(self, &key, &alert, rule.map(Arc::as_ref), output);
            }
        }
    }

    /// The rule of an alert, if it is still in force.
    pub(super) fn rule(&self, key: &AlertKey) -> Option<&Arc<Rule>> {
        self.settings.rules.rules.iter().find(|r| r.is(key))
    }

    /// Invariants that hold after every step; each violation is one line.
    pub fn violations(&mut self) -> Vec<String> {
        let mut found = Vec::new();
        let unbalanced = self.memory.core.sources.unbalanced();
        if unbalanced > 0 {
            found.push(format!("{unbalanced} sources have events without exactly one fate"));
        }
        let wrong = self.fleet.audit();
        if wrong > 0 {
            found.push(format!("{wrong} totals differed from their panes and were rebuilt"));
        }
        found
    }
}

/// Whether an alert on `slice` is covered by one of these latches.
fn wanted_slice(latches: &[super::memory::Latch], rule: &Rule, slice: &Scope) -> bool {
    let scope = if rule.whole_flag { &Scope::All } else { slice };
    latches.iter().any(|l| l.scope == Scope::All || l.scope == *scope)
}

/// The kind of message that a rule's action sends.
pub(super) fn kind_of(action: RuleAction) -> MessageKind {
    match action {
        RuleAction::Rollback => MessageKind::Rollback,
        RuleAction::PauseRollout => MessageKind::Pause,
        RuleAction::Notify => MessageKind::Notice,
    }
}

#[cfg(test)]
#[path = "machine_tests.rs"]
mod tests;

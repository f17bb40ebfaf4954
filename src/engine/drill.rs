//! Drills: a flag that configuration marks with `drill: true` is there to practise on. Whatever is decided and said about it is
//! marked as a drill, in one place, so that nothing about it can look like the real thing; and it stands in no other flag's way.

use super::hand;
use super::input::{Command, DrillFrom, Settings};
use super::machine::Engine;
use super::output::{CommandError, Message, MessageKind, Order, Output, Reply};
use super::rule::RuleAction;
use crate::model::flag::Scope;
use crate::model::id::FlagKey;

/// The failure class of a drill's decisions and incidents: what routes can match.
pub const CLASS: &str = "drill";
/// What every page and incident of a drill begins with.
const MARK: &str = "[DRILL] ";

/// A line about a decision, marked if that is a drill.
pub fn marked(drill: bool, text: &str) -> String {
    if drill { format!("{MARK}{text}") } else { text.to_owned() }
}

/// Whether a line is marked.
pub fn is_marked(text: &str) -> bool {
    text.starts_with(MARK)
}

impl Settings {
    /// Whether a flag is there to practise on.
    pub fn is_drill(&self, flag: &FlagKey) -> bool {
        self.flags.iter().any(|spec| spec.drill && spec.key == *flag)
    }
}

/// Marks all that a step says about flags that are there to practise on.
pub(super) fn mark(settings: &Settings, output: &mut Output) {
    if !settings.flags.iter().any(|spec| spec.drill) {
        return;
    }
    for decision in output.decisions.iter_mut().filter(|decision| settings.is_drill(&decision.key.flag)) {
        decision.drill = true;
        CLASS.clone_into(&mut decision.failure_class);
    }
    // Between drills there is no traffic: silence is no news.
    let silent = |message: &Message| {
        message.kind == MessageKind::NoData
            && message.flag.as_ref().is_some_and(|flag| settings.is_drill(flag))
    };
    output.orders.retain(|order| !matches!(order, Order::Page(told) | Order::Notify(told) if silent(told)));
    for order in &mut output.orders {
        match order {
            Order::Page(message) | Order::Notify(message) => {
                if message.flag.as_ref().is_some_and(|flag| settings.is_drill(flag)) {
                    message.summary = marked(true, &message.summary);
                }
            }
            Order::OpenIncident(incident) if settings.is_drill(&incident.flag) => {
                incident.title = marked(true, &incident.title);
                CLASS.clone_into(&mut incident.failure_class);
            }
            Order::OpenIncident(_)
            | Order::JoinIncident { .. }
            | Order::CloseIncident { .. }
            | Order::Pin { .. }
            | Order::Unpin { .. }
            | Order::Freeze { .. }
            | Order::Unfreeze { .. } => {}
        }
    }
}

/// Begins a drill: decides at once, or says whether a breach in the events would be acted upon from end to end.
pub(super) fn begin(
    engine: &mut Engine,
    flag: &FlagKey,
    from: DrillFrom,
    command: &Command,
    output: &mut Output,
) -> Result<Reply, CommandError> {
    if !engine.settings.flags.iter().any(|spec| spec.key == *flag) {
        return Err(CommandError::UnknownFlag { flag: flag.clone() });
    }
    if !engine.settings.is_drill(flag) {
        return Err(CommandError::NotForDrills { flag: flag.clone() });
    }
    if let Some(why) = unfinished(engine, flag) {
        return Err(CommandError::NoDrill { flag: flag.clone(), why });
    }
    match from {
        DrillFrom::Decision => hand::roll_back(engine, flag, &Scope::All, command, output),
        DrillFrom::Events => match would_not_act(engine, flag) {
            Some(why) => Err(CommandError::NoDrill { flag: flag.clone(), why }),
            None => {
                Ok(format!("flag {flag} is ready for a drill: nothing stands in the way of its rules").into())
            }
        },
    }
}

/// What an earlier drill has left: the next one could not open an incident or write a flip.
fn unfinished(engine: &Engine, flag: &FlagKey) -> Option<String> {
    let memory = &engine.memory;
    if let Some(latch) = memory.core.latches.iter().find(|latch| latch.flag == *flag) {
        return Some(format!("it is rolled back already, by decision {}; re-arm it first", latch.decision));
    }
    let episode = memory.episode(flag)?;
    Some(format!("its incident {} is open; resolve that first", episode.incident))
}

/// What would keep a rule on the flag from rolling back.
fn would_not_act(engine: &Engine, flag: &FlagKey) -> Option<String> {
    if let Some(why) = engine.why_not_armed() {
        return Some(format!("nothing is judged now: {why}"));
    }
    if !engine.memory.core.automation {
        return Some("automation is switched off, so its rule would only page".into());
    }
    let mut rules =
        engine.settings.rules.rules.iter().filter(|r| r.flag == *flag && r.action == RuleAction::Rollback);
    let dry = rules.clone().all(|rule| rule.dry_run || engine.settings.dry_run);
    match rules.next() {
        None => Some("no rule in force rolls it back".into()),
        Some(_) if dry => Some("its rules run dry: they only say what they would do".into()),
        Some(_) => None,
    }
}

#[cfg(test)]
#[path = "drill_tests.rs"]
mod tests;

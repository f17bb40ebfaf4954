//! What is known of a decision and what became of it, and the sentences that both the page and the incident say about it.

use std::time::Duration;

use super::words::{clock_time, span};
use crate::engine::input::FlipOutcome;
use crate::engine::output::{Decision, Gate};
use crate::engine::rule::RuleAction;
use crate::model::flag::{Scope, Served};
use crate::model::incident::IncidentStatus;
use crate::model::time::Timestamp;

/// The promise: T1 − T0 (rules.md, "The ten minutes").
pub const PROMISE: Duration = Duration::from_secs(600);

/// How the flip of a decision stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flip {
    /// `None` while it is being tried.
    pub outcome: Option<FlipOutcome>,
    pub finished: Option<Timestamp>,
    /// What was read back, or why it failed so far.
    pub detail: String,
    pub attempts: u32,
    /// Whether the promised time has passed without success.
    pub late: bool,
}

/// One rollback from the first bad minute to the page.
#[derive(Clone, Debug, PartialEq)]
pub struct Story {
    pub incident: String,
    pub status: IncidentStatus,
    pub opener: Decision,
    /// Further decisions of the same episode.
    pub joined: Vec<Decision>,
    /// The platform that serves the flag; `None` for Rearguard's own store.
    pub served: Option<Served>,
    /// When the decision was committed.
    pub committed: Timestamp,
    /// `None` when nothing was to be flipped.
    pub flip: Option<Flip>,
    pub page_accepted: Option<Timestamp>,
    /// (when, what) pairs, oldest first.
    pub log: Vec<(Timestamp, String)>,
}

/// Where things stand, as one of few cases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Control is served, read back.
    Safe,
    /// Being tried.
    Trying,
    /// Not done, a human must act.
    Failed,
    /// A human changed the flag meanwhile.
    Superseded,
    /// Never tried: a gate stood in front.
    Withheld,
    /// The flag was latched before: nothing of its own to flip.
    Joined,
}

impl Standing {
    /// Where a decision stands, given its flip.
    pub fn of(decision: &Decision, flip: Option<&Flip>) -> Self {
        match (flip, &decision.gate) {
            (None, Gate::Act) => Self::Trying,
            (None, Gate::AlreadyLatched) => Self::Joined,
            (None, _) => Self::Withheld,
            (Some(flip), _) => match flip.outcome {
                Some(FlipOutcome::Verified | FlipOutcome::AlreadySafe) => Self::Safe,
                Some(FlipOutcome::Superseded) => Self::Superseded,
                Some(FlipOutcome::Failed | FlipOutcome::Expired) => Self::Failed,
                None if flip.late => Self::Failed,
                None => Self::Trying,
            },
        }
    }
}

/// Who is served control: "everybody" or "tenant acme".
pub fn whom(scope: &Scope) -> String {
    match scope {
        Scope::All => "everybody".into(),
        Scope::Only(dimension, value) => format!("{} {value}", dimension.as_str()),
    }
}

/// The rule's condition, or who asked and why: what follows "rolled back".
pub fn why(decision: &Decision) -> String {
    match &decision.by {
        Some(by) => format!(" by {}: {}", by.actor, by.reason),
        None => format!(": {}", decision.condition),
    }
}

/// What was done and how it stands, in one or two sentences.
pub fn verdict(decision: &Decision, flip: Option<&Flip>) -> String {
    let whom = whom(&decision.scope);
    let control = decision.control.as_ref().map_or_else(|| "control".into(), |c| format!("control (`{c}`)"));
    let pause = decision.action == RuleAction::PauseRollout;
    let none = Flip::default();
    let flip_or = flip.unwrap_or(&none);
    match Standing::of(decision, flip) {
        Standing::Safe => {
            let at = flip_or.finished.map_or_else(String::new, |at| format!(" since {} UTC", clock_time(at)));
            let how = match flip_or.outcome {
                Some(FlipOutcome::AlreadySafe) => "It was so already; read back",
                _ => "Verified by reading back",
            };
            if pause {
                format!("The share of the variant is held where it stands{at}. Nobody was moved back.")
            } else {
                format!(
                    "Control is served to {whom}{at}. {how} where gateways ask: {}.",
                    or(&flip_or.detail, "all of the sample got control")
                )
            }
        }
        Standing::Trying if pause => {
            format!("Rearguard is holding the share where it stands; not confirmed yet{}.", tries(flip_or))
        }
        Standing::Failed if pause => format!(
            "PAUSE FAILED: the share of the variant may still rise. {}{}.",
            or(&flip_or.detail, "no try succeeded"),
            tries(flip_or)
        ),
        Standing::Trying => {
            format!("Rearguard is putting {control} back for {whom}; not confirmed yet{}.", tries(flip_or))
        }
        Standing::Failed => format!(
            "ROLLBACK FAILED, ACT BY HAND: the variant may still be served to {whom}. {}{}.",
            or(&flip_or.detail, "no try succeeded"),
            tries(flip_or)
        ),
        Standing::Superseded => format!(
            "Rearguard left the flag alone, because a human stepped in after the decision: {}. Check that {whom} is served what you want.",
            or(&flip_or.detail, "see the flag's history")
        ),
        Standing::Withheld => withheld(decision, &whom),
        Standing::Joined => "The variant had been rolled back before; this rule joins that incident.".into(),
    }
}

fn withheld(decision: &Decision, whom: &str) -> String {
    let why = decision.gate.withholds().unwrap_or_else(|| "there is nothing to flip".into());
    let not = match decision.action {
        RuleAction::PauseRollout => "NOT PAUSED",
        RuleAction::Rollback | RuleAction::Notify => "NOT ROLLED BACK",
    };
    format!("{not}: {why}. The variant is still served to {whom}; a human must decide.")
}

/// How much of the ten minutes has been used, and by what.
pub fn budget(story: &Story) -> String {
    let t0 = story.opener.t0;
    let decided = format!("deciding {}", span(story.committed.since(t0)));
    let finished = story
        .flip
        .as_ref()
        .filter(|_| Standing::of(&story.opener, story.flip.as_ref()) == Standing::Safe)
        .and_then(|flip| flip.finished);
    let mut parts = vec![decided];
    if let Some(at) = finished {
        parts.push(format!("flip and read-back {}", span(at.since(story.committed))));
    }
    if let Some(page) = story.page_accepted {
        let before = finished.unwrap_or(story.committed);
        parts.push(format!("page {}", span(page.since(before))));
    }
    let (Some(flip), Some(page)) = (finished, story.page_accepted) else {
        return format!("Until now: {}.", parts.join(", "));
    };
    let total = flip.max(page).since(t0);
    let share = (total.as_secs_f64() / PROMISE.as_secs_f64() * 100.0).round();
    if total <= PROMISE {
        format!("**{} of the ten minutes** were used ({share} %): {}.", span(total), parts.join(", "))
    } else {
        format!("**The ten minutes were missed**: it took {} ({}).", span(total), parts.join(", "))
    }
}

fn tries(flip: &Flip) -> String {
    match flip.attempts {
        0 | 1 => String::new(),
        n => format!(" ({n} tries so far)"),
    }
}

fn or<'a>(text: &'a str, otherwise: &'a str) -> &'a str {
    let text = text.trim().trim_end_matches('.');
    if text.is_empty() { otherwise } else { text }
}

//! What a page says: one line, then what broke, since when, how bad, for how many, what was done and verified, what to do.
//!
//! The engine writes a message when it decides; by the time it leaves, the flip has a result. This puts the result in.

use super::advice::{at_platform, stop};
use super::chart::sparkline;
use super::receiver::Facts;
use super::story::{Flip, Standing, verdict, whom, why};
use super::words::{breach, clock_time, count, had, interval, minute_time, tenants};
use crate::engine::drill::marked;
use crate::engine::output::{Decision, Message, MessageKind};
use crate::engine::rule::RuleAction;
use crate::model::flag::Served;

/// The longest summary: PagerDuty's limit is 1024, a phone's screen is less.
const SUMMARY: usize = 200;

/// Rewrites a message about a decision so that it says how the flip stands now.
pub fn with_outcome(
    message: &Message,
    decision: &Decision,
    flip: Option<&Flip>,
    served: Option<&Served>,
) -> Message {
    let standing = Standing::of(decision, flip);
    let kind = match (message.kind, standing) {
        (MessageKind::Rollback, Standing::Failed) => MessageKind::RollbackFailed,
        (MessageKind::Rollback, Standing::Superseded) => MessageKind::Superseded,
        (kind, _) => kind,
    };
    Message {
        kind,
        summary: summary(decision, standing),
        detail: detail(decision, flip, served),
        ..message.clone()
    }
}

/// A decision and how its flip stands, fact by fact.
pub fn facts(decision: &Decision, flip: Option<&Flip>) -> Facts {
    let evidence = &decision.evidence;
    Facts {
        rule: decision.condition.clone(),
        failure_class: decision.failure_class.clone(),
        scope: whom(&decision.scope),
        measured: breach(evidence),
        interval: interval(evidence),
        samples: count(evidence.samples),
        tenants: tenants(evidence),
        done: verdict(decision, flip),
        owner: decision.owner.clone(),
        runbook: decision.runbook.clone(),
    }
}

/// Cut to one line of bounded length.
pub fn one_line(text: &str) -> String {
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if line.chars().count() <= SUMMARY {
        return line;
    }
    let mut cut: String = line.chars().take(SUMMARY - 1).collect();
    cut.push('…');
    cut
}

fn summary(decision: &Decision, standing: Standing) -> String {
    let pause = decision.action == RuleAction::PauseRollout;
    let what = match (standing, pause) {
        (Standing::Safe, false) => "rolled back",
        (Standing::Safe, true) => "paused",
        (Standing::Trying, false) => "is being rolled back, not confirmed yet",
        (Standing::Trying, true) => "is being paused, not confirmed yet",
        (Standing::Failed, false) => "ROLLBACK FAILED, ACT BY HAND",
        (Standing::Failed, true) => "PAUSE FAILED",
        (Standing::Superseded, _) if decision.by.is_some() => "left as another human has set it",
        (Standing::Superseded, _) => "breached, but a human stepped in: left alone",
        (Standing::Withheld, false) => "breached, NOT ROLLED BACK",
        (Standing::Withheld, true) => "breached, NOT PAUSED",
        (Standing::Joined, _) => "breaches one more rule, rolled back before",
    };
    let measured =
        decision.evidence.value.map_or_else(String::new, |_| format!(" ({})", breach(&decision.evidence)));
    let text = format!("{} {what}{}{measured}", decision.variant, why(decision));
    one_line(&marked(decision.drill, &text))
}

fn detail(decision: &Decision, flip: Option<&Flip>, served: Option<&Served>) -> String {
    let evidence = &decision.evidence;
    let mut lines = vec![verdict(decision, flip)];
    let what_to_do = format!("What to do: {}", what_to_do(decision, flip, served));
    if let Some(by) = &decision.by {
        lines.push(format!("Asked for by {} at {} UTC: {}.", by.actor, clock_time(decision.at), by.reason));
        lines.push(what_to_do);
        return lines.join("\n");
    }
    lines.push(format!(
        "What broke: {} in rule `{}`: {}.",
        decision.variant,
        decision.condition,
        breach(evidence)
    ));
    lines.push(format!(
        "Since: {} UTC; {} bad minutes of {}; the breach had {}.",
        minute_time(decision.crossing),
        evidence.bad_minutes,
        evidence.window_minutes,
        had(decision)
    ));
    lines.push(format!(
        "How bad: {} samples; {} tenants had traffic on it; hint {}.",
        count(evidence.samples),
        tenants(evidence),
        decision.failure_class
    ));
    if let Some(line) = sparkline(evidence, 40) {
        lines.push(format!("Window: {line}"));
    }
    lines.push(what_to_do);
    lines.join("\n")
}

fn what_to_do(decision: &Decision, flip: Option<&Flip>, served: Option<&Served>) -> String {
    let flag = &decision.key.flag;
    let standing = Standing::of(decision, flip);
    let (stop, _) = stop(decision, served, standing);
    match standing {
        Standing::Safe => match &decision.incident {
            Some(incident) if decision.drill => format!(
                "nothing is wrong, this is a drill; acknowledge it all the same, with `rearguard incident ack {incident}`."
            ),
            Some(incident) => format!(
                "nothing urgent; acknowledge with `rearguard incident ack {incident}`, then find the cause."
            ),
            None => "nothing urgent; find the cause.".into(),
        },
        Standing::Trying => format!(
            "wait for the update; if none comes by {}, run `{stop}`.",
            clock_time(decision.t0 + super::story::PROMISE)
        ),
        Standing::Failed => {
            format!("now: `{stop}`, or {}; then check what gateways serve.", at_platform(served))
        }
        Standing::Superseded => format!(
            "check with `rearguard flag show {flag}` that {} is served what you want.",
            whom(&decision.scope)
        ),
        Standing::Withheld => {
            let advice = decision.gate.advice().map_or_else(String::new, |advice| format!(" {advice}"));
            format!("decide whether it may go on; to stop it: `{stop}`.{advice}")
        }
        Standing::Joined => "see the incident that it joined.".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dispatch::example;
    use crate::engine::input::FlipOutcome;
    use crate::engine::output::Gate;

    #[test]
    fn a_page_says_how_it_really_stands() {
        let story = example::story();
        let message = example::message();
        let decision = story.opener.clone();
        let say = |flip: Option<&Flip>| with_outcome(&message, &decision, flip, None);

        let done = say(story.flip.as_ref());
        assert_eq!(done.kind, MessageKind::Rollback);
        assert_eq!(
            done.summary,
            "support-copilot.prompt-v18 rolled back: faithfulness_1h < 0.92 (0.871, below the limit of 0.92)"
        );
        assert!(done.detail.contains("since 10:47:33 UTC"), "{}", done.detail);
        assert!(done.detail.contains("37 tenants"));
        assert!(done.detail.contains("rearguard incident ack"));

        let trying = say(None);
        assert!(trying.summary.contains("not confirmed yet"));
        assert!(trying.detail.contains("if none comes by 10:53:00"));

        let failed = say(Some(&Flip {
            outcome: Some(FlipOutcome::Failed),
            detail: "answered 403 Forbidden".into(),
            ..Flip::default()
        }));
        assert_eq!(failed.kind, MessageKind::RollbackFailed);
        assert!(failed.summary.contains("ROLLBACK FAILED, ACT BY HAND"));
        assert!(failed.detail.contains("403 Forbidden"));
        assert!(failed.detail.contains("flag kill"));
        assert_eq!(failed.dedup_key, message.dedup_key);

        let late = say(Some(&Flip { late: true, attempts: 9, ..Flip::default() }));
        assert_eq!(late.kind, MessageKind::RollbackFailed);
    }

    #[test]
    fn a_gate_is_named() {
        let mut decision = example::story().opener;
        decision.gate = Gate::AutomationOff;
        let said = with_outcome(&example::message(), &decision, None, None);
        assert!(said.summary.contains("NOT ROLLED BACK"));
        assert!(said.detail.contains("automation is switched off"));
        assert!(said.detail.contains("`rearguard automation on --reason …` lets Rearguard act again"));
        assert_eq!(said.kind, MessageKind::Rollback);
        decision.gate = Gate::AlreadyLatched;
        let said = with_outcome(&example::message(), &decision, None, None);
        assert!(said.summary.contains("one more rule"), "{}", said.summary);
    }

    #[test]
    fn a_drill_begins_with_its_mark_however_it_stands() {
        let mut decision = Decision { drill: true, ..example::story().opener };
        decision.condition = "x".repeat(500);
        for outcome in
            [None, Some(FlipOutcome::Verified), Some(FlipOutcome::Failed), Some(FlipOutcome::Superseded)]
        {
            let flip = Flip { outcome, ..Flip::default() };
            for gate in [Gate::Act, Gate::AutomationOff, Gate::AlreadyLatched] {
                decision.gate = gate;
                let said = with_outcome(&example::message(), &decision, Some(&flip), None);
                assert!(said.summary.starts_with("[DRILL] "), "{}", said.summary);
                assert_eq!(said.summary.chars().count(), SUMMARY);
            }
        }
    }

    #[test]
    fn a_summary_is_one_short_line() {
        let long = one_line(&format!("a\nb{}", "x".repeat(500)));
        assert_eq!(long.chars().count(), SUMMARY);
        assert!(long.starts_with("a b") && long.ends_with('…'));
    }
}

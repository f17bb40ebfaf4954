//! What an incident tells a human to do, and the exact commands for it.

use serde::Serialize;

use super::chart;
use super::story::{Standing, Story};
use super::words::minute_time;
use crate::engine::output::{Decision, Gate};
use crate::model::flag::{Scope, Served};
use crate::model::incident::IncidentStatus;
use crate::model::time::Timestamp;

/// One command line; `pad` aligns the remarks.
#[derive(Serialize)]
pub struct Command {
    line: String,
    pad: String,
    why: &'static str,
}

/// What to do, in order.
pub fn todo(story: &Story) -> Vec<String> {
    let decision = &story.opener;
    let variant = &decision.variant;
    let mut todo = Vec::new();
    match Standing::of(decision, story.flip.as_ref()) {
        Standing::Joined => todo.push("See the rollback that it joined.".into()),
        Standing::Safe => todo.push("Nothing is urgent: the variant is no longer served.".into()),
        Standing::Trying => todo.push(
            "Wait for the next update of this page; tries go on. If it does not come within two minutes, take the variant back by hand (below)."
                .into(),
        ),
        Standing::Failed => todo.push(format!(
            "**Now**: take `{variant}` back by hand, with the first command below or {}, and check what gateways serve.",
            at_platform(story.served.as_ref())
        )),
        Standing::Superseded => {
            todo.push("Check the flag's history and who changed it; roll back by hand if that was not meant.".into());
        }
        Standing::Withheld => {
            todo.push(format!(
                "Decide now whether `{variant}` should go on; if not, take it back with the first command below."
            ));
            todo.extend(decision.gate.advice().map(str::to_owned));
        }
    }
    if story.status == IncidentStatus::Open {
        todo.push("Acknowledge, so that others know that you are on it.".into());
    }
    todo.push(look_at(decision));
    todo.push(match &story.served {
        None => "When the cause is fixed: re-arm. That serves the variant again to its share of traffic and starts its windows anew; nothing does so by itself.".into(),
        Some(at) => format!(
            "When the cause is fixed: re-arm, which starts its windows anew, and put `{}` back at `{}` ({}) by hand; `flag show` says what stood there before.",
            at.key, at.platform, at.kind
        ),
    });
    todo
}

fn look_at(decision: &Decision) -> String {
    if decision.drill {
        return "Nothing is wrong: this is a drill. Acknowledge it as you would the real thing.".into();
    }
    if let Some(by) = &decision.by {
        return format!("Find the cause: {} rolled back because of \"{}\".", by.actor, by.reason);
    }
    let hint = match decision.failure_class.as_str() {
        "quality_regression" => {
            "answers got worse: compare prompt, model version and retrieval with control, and read a few of the worst generations"
        }
        "over_refusal" => {
            "it declines too often: look at system prompt, safety settings and the questions it refuses"
        }
        "cost_runaway" => "it costs too much: look at prompt length, output length, retries and tool loops",
        "latency_regression" => {
            "it is slow: look at the provider's status, output length, and tool and retrieval times"
        }
        "prompt_injection" => {
            "somebody may be attacking it: look at the tenants concerned and at the sources that retrieval brings in"
        }
        "error_rate" => {
            "calls fail: look at the provider's status, quotas, credentials and the change itself"
        }
        _ => "compare what changed in this variant with control",
    };
    format!(
        "Find the cause, beginning with what changed before {} UTC. Hint: {hint}.",
        minute_time(onset(decision).unwrap_or(decision.crossing))
    )
}

/// How a human takes the variant back now: the command, and what it does. What Rearguard's own store serves can be turned off
/// at once; elsewhere the platform has to be asked again, or changed by hand.
pub fn stop(decision: &Decision, served: Option<&Served>, standing: Standing) -> (String, &'static str) {
    let flag = quoted(decision.key.flag.as_str());
    if standing != Standing::Withheld && served.is_none() {
        return (
            format!("rearguard flag kill {flag} --reason '…'"),
            "turn the feature off for everybody, now",
        );
    }
    let scope = if served.is_some() { String::new() } else { only(&decision.scope) };
    let why =
        if standing == Standing::Withheld { "roll back by hand, now" } else { "roll back again, by hand" };
    (format!("rearguard flag rollback {flag}{scope} --wait --reason '…'"), why)
}

/// Where the flag is changed by hand when no command helps.
pub fn at_platform(served: Option<&Served>) -> String {
    served.map_or_else(
        || "at your flag platform".into(),
        |at| {
            format!("at `{}` ({}): serve `{}` of `{}` to everybody", at.platform, at.kind, at.control, at.key)
        },
    )
}

fn only(scope: &Scope) -> String {
    match scope {
        Scope::All => String::new(),
        scope => format!(" --scope {}", quoted(&scope.to_string())),
    }
}

/// The commands to look further or undo, aligned.
pub fn commands(story: &Story) -> Vec<Command> {
    let flag = quoted(story.opener.key.flag.as_str());
    let id = quoted(&story.incident);
    let scope = only(&story.opener.scope);
    let mut commands = Vec::new();
    let mut add = |line: String, why| commands.push((line, why));
    let standing = Standing::of(&story.opener, story.flip.as_ref());
    if standing != Standing::Safe {
        let (line, why) = stop(&story.opener, story.served.as_ref(), standing);
        add(line, why);
    }
    add(format!("rearguard incident ack {id}"), "say that you are on it");
    add(format!("rearguard incident show {id}"), "this text, up to date");
    add(format!("rearguard flag show {flag}"), "what is served now, and who changed it");
    let undo = match &story.served {
        None => "undo: serve the variant again",
        Some(_) => "undo: start its windows anew; the flag itself is put back at its platform, by hand",
    };
    add(format!("rearguard flag rearm {flag}{scope} --reason '…'"), undo);
    add(format!("rearguard incident resolve {id} --reason '…'"), "close the incident");
    if standing == Standing::Withheld && story.opener.gate == Gate::AutomationOff {
        add("rearguard automation on --reason '…'".into(), "let Rearguard act again");
    } else {
        add("rearguard automation off --reason '…'".into(), "stop Rearguard from acting at all; pages go on");
    }
    let widest = commands.iter().map(|(line, _)| line.chars().count()).max().unwrap_or(0);
    commands
        .into_iter()
        .map(|(line, why)| Command { pad: " ".repeat(widest - line.chars().count()), line, why })
        .collect()
}

/// An argument as a shell takes it.
pub fn quoted(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-/:@%+=".contains(&b);
    if !text.is_empty() && text.bytes().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

/// When minutes turned bad for good: the start of the picture's last run of bad minutes. Minutes without data do not break it, nor
/// does one good minute by itself. `None` if no such run reaches back to t0, since then it says nothing of the breach.
///
/// The crossing is not asked: a burst earlier in the window can make the literal condition true long before the real breach.
pub fn onset(decision: &Decision) -> Option<Timestamp> {
    let (mut first, mut good) = (None, 0);
    for point in decision.evidence.picture.iter().rev() {
        if chart::is_bad(&decision.evidence, point) {
            (first, good) = (Some(point.minute.start()), 0);
        } else if point.value.is_some() {
            good += 1;
            if good == 2 {
                break;
            }
        }
    }
    first.filter(|first| *first <= decision.t0)
}

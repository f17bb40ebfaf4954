//! An incident as Markdown, written for somebody who was woken at 3 am: what broke, how bad, what was done, what to do.
//!
//! In: a [`Story`]. Out: text by a minijinja template, the built-in one or the operator's own. Knows nothing of SQL or HTTP.

use std::time::Duration;

use minijinja::value::Serde;
use minijinja::{Environment, UndefinedBehavior, Value};
use serde::Serialize;

use super::advice::{Command, commands, onset, todo};
use super::chart;
use super::story::{Standing, Story, budget, verdict, why};
use super::words::{
    breach, clock_time, count, had, interval, long_time, maybe, minute_time, span, tenants, time_near,
};
use crate::engine::drill::marked;
use crate::engine::input::FlipOutcome;
use crate::engine::output::{Decision, Evidence};
use crate::engine::rule::{ConfirmedBy, Origin, Side};
use crate::model::flag::Scope;
use crate::model::time::Timestamp;

const BUILT_IN: &str = include_str!("templates/incident.md");
const NAME: &str = "incident.md";

/// Renders incidents by the built-in template.
#[derive(Debug)]
pub struct Renderer {
    environment: Environment<'static>,
}

/// The built-in template does not work on this incident; says where and why.
#[derive(Debug, thiserror::Error)]
#[error("incident template: {0}")]
pub struct TemplateError(String);

impl Renderer {
    /// The built-in template.
    pub fn new() -> Result<Self, TemplateError> {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.add_template(NAME, BUILT_IN).map_err(explain)?;
        Ok(Self { environment })
    }

    /// The incident as Markdown.
    pub fn render(&self, story: &Story) -> Result<String, TemplateError> {
        let template = self.environment.get_template(NAME).map_err(explain)?;
        let text = template.render(view(story)).map_err(explain)?;
        Ok(tidy(&text))
    }
}

/// What incident templates see.
pub(super) fn view(story: &Story) -> Value {
    Value::from(Serde(View::of(story)))
}

fn explain(error: minijinja::Error) -> TemplateError {
    TemplateError(match error.line() {
        Some(line) => format!("line {line}: {error}"),
        None => error.to_string(),
    })
}

/// At most one empty line in a row.
pub(super) fn tidy(text: &str) -> String {
    let mut tidy = String::with_capacity(text.len());
    let mut empty = true;
    for line in text.lines().map(str::trim_end) {
        if line.is_empty() && empty {
            continue;
        }
        empty = line.is_empty();
        tidy.push_str(line);
        tidy.push('\n');
    }
    tidy.truncate(tidy.trim_end().len());
    tidy.push('\n');
    tidy
}

/// What the template sees; documented in docs/incidents.md.
#[derive(Serialize)]
struct View {
    id: String,
    headline: String,
    verdict: String,
    status: &'static str,
    severity: &'static str,
    failure_class: String,
    owner: Option<String>,
    runbook: Option<String>,
    variant: String,
    flag: String,
    scope: String,
    condition: String,
    action: &'static str,
    origin: String,
    breach: String,
    interval: Option<String>,
    samples: String,
    baseline_samples: Option<String>,
    min_samples: Option<String>,
    window: String,
    window_minutes: u32,
    tenants: String,
    bad_minutes: u32,
    had: String,
    /// The human who rolled back, and why; `None` where a rule did.
    by: Option<By>,
    confirmed_by: &'static str,
    statement: String,
    confirm: &'static str,
    promise: String,
    picture_is: &'static str,
    worst_pair: Option<WorstPair>,
    chart: Option<String>,
    context: Vec<ContextLine>,
    day: String,
    steps: Vec<Step>,
    budget: String,
    joined: Vec<Joined>,
    todo: Vec<String>,
    commands: Vec<Command>,
    timeline: Vec<Entry>,
}

#[derive(Serialize)]
struct WorstPair {
    minutes: String,
    value: String,
}

#[derive(Serialize)]
struct ContextLine {
    metric: String,
    value: String,
    control: String,
}

#[derive(Serialize)]
struct By {
    actor: String,
    reason: String,
}

#[derive(Serialize)]
struct Step {
    at: String,
    what: String,
    after: String,
}

#[derive(Serialize)]
struct Joined {
    at: String,
    condition: String,
    action: &'static str,
    origin: String,
    breach: String,
}

#[derive(Serialize)]
struct Entry {
    at: String,
    what: String,
}

impl View {
    fn of(story: &Story) -> Self {
        let decision = &story.opener;
        let evidence = &decision.evidence;
        Self {
            id: story.incident.clone(),
            headline: cell(&headline(story)),
            verdict: verdict(decision, story.flip.as_ref()),
            status: story.status.as_str(),
            severity: decision.severity.as_str(),
            failure_class: cell(&decision.failure_class),
            owner: decision.owner.as_deref().map(cell),
            runbook: decision.runbook.clone(),
            variant: cell(decision.variant.as_str()),
            flag: cell(decision.key.flag.as_str()),
            scope: cell(&decision.scope.to_string()),
            condition: cell(&decision.condition),
            action: decision.action.as_str(),
            origin: cell(&place(&decision.origin)),
            breach: cell(&breach(evidence)),
            interval: interval(evidence),
            samples: count(evidence.samples),
            baseline_samples: evidence.baseline_samples.map(count),
            min_samples: (evidence.min_samples > 0).then(|| count(evidence.min_samples)),
            window: window(evidence),
            window_minutes: evidence.window_minutes,
            tenants: tenants(evidence),
            bad_minutes: evidence.bad_minutes,
            had: had(decision),
            by: decision.by.as_ref().map(|by| By { actor: cell(&by.actor), reason: cell(&by.reason) }),
            confirmed_by: decision.confirmed_by.map_or("silence", ConfirmedBy::as_str),
            statement: cell(&evidence.statement),
            confirm: evidence.confirm.as_str(),
            promise: cell(&evidence.promise),
            picture_is: "Each point is one minute by itself; the rule looks at the whole window.",
            worst_pair: worst_pair(evidence),
            chart: chart::draw(evidence).map(|chart| chart.trim_end().to_owned()),
            context: context(evidence),
            day: long_time(decision.t0).split(',').next().unwrap_or_default().to_owned(),
            steps: steps(story),
            budget: budget(story),
            joined: story.joined.iter().map(joined).collect(),
            todo: todo(story),
            commands: commands(story),
            timeline: story
                .log
                .iter()
                .map(|(at, what)| Entry { at: time_near(*at, decision.t0), what: cell(what) })
                .collect(),
        }
    }
}

/// `support-copilot.prompt-v18 rolled back: faithfulness_1h < 0.92`.
pub fn headline(story: &Story) -> String {
    let decision = &story.opener;
    let done = match Standing::of(decision, story.flip.as_ref()) {
        Standing::Safe => "rolled back",
        Standing::Trying => "is being rolled back",
        Standing::Failed => "ROLLBACK FAILED",
        Standing::Superseded if decision.by.is_some() => "left as another human has set it",
        Standing::Superseded => "breached, left to a human who stepped in",
        Standing::Withheld => "breached, not rolled back",
        Standing::Joined => "breaches one more rule",
    };
    let place = match &decision.scope {
        Scope::All => String::new(),
        scope => format!(" for {scope}"),
    };
    marked(decision.drill, &format!("{} {done}{place}{}", decision.variant, why(decision)))
}

fn window(evidence: &Evidence) -> String {
    span(Duration::from_secs(u64::from(evidence.window_minutes) * 60))
}

fn worst_pair(evidence: &Evidence) -> Option<WorstPair> {
    let pair = evidence.worst_pair.as_ref()?;
    let still = match (pair.value, evidence.threshold, evidence.side) {
        (Some(value), Some(limit), Some(side)) => {
            let breach = match side {
                Side::Below => value < limit,
                Side::Above => value > limit,
            };
            let word = if breach { "still in breach" } else { "no breach" };
            format!("{}, {word}", maybe(Some(value), &evidence.unit))
        }
        (Some(value), ..) => maybe(Some(value), &evidence.unit),
        (None, ..) => "the condition still holds".into(),
    };
    Some(WorstPair {
        minutes: format!("{}–{}", minute_time(pair.first.start()), minute_time(pair.first.plus(1).end())),
        value: still,
    })
}

fn context(evidence: &Evidence) -> Vec<ContextLine> {
    let lines = evidence.context.iter().map(|line| ContextLine {
        metric: cell(&line.metric),
        value: maybe(line.value, &line.unit),
        control: maybe(line.control, &line.unit),
    });
    lines.collect()
}

fn joined(decision: &Decision) -> Joined {
    let mut measured = match &decision.by {
        Some(by) => format!("by {}", by.actor),
        None => breach(&decision.evidence),
    };
    if let Some(why) = decision.gate.withholds() {
        measured.push_str(&format!("; NOT ROLLED BACK: {why}"));
    }
    Joined {
        at: clock_time(decision.at),
        condition: cell(&decision.condition),
        action: decision.action.as_str(),
        origin: if decision.by.is_some() { "by hand".into() } else { cell(&place(&decision.origin)) },
        breach: cell(&measured),
    }
}

fn steps(story: &Story) -> Vec<Step> {
    let decision = &story.opener;
    let t0 = decision.t0;
    let mut steps = Vec::new();
    if let Some(by) = &decision.by {
        steps.push((t0, format!("{} rolled back by hand: the ten minutes start (t0)", cell(&by.actor))));
    } else {
        steps.extend(judged(decision));
    }
    if let Some(why) = decision.gate.withholds() {
        steps.push((decision.at, format!("**withheld**: {}", cell(&why))));
    }
    steps.push((story.committed, "decision stored".into()));
    if let Some(flip) = &story.flip
        && let (Some(at), Some(outcome)) = (flip.finished, flip.outcome)
    {
        steps.push((at, flip_step(outcome).into()));
    }
    if let Some(at) = story.page_accepted {
        steps.push((at, "page accepted".into()));
    }
    // A burst may have made the condition true before minutes turned bad for good.
    steps.sort_by_key(|(at, _)| *at);
    steps.into_iter().map(|(at, what)| Step { at: time_near(at, t0), what, after: after(at, t0) }).collect()
}

/// How a rule came to its decision.
fn judged(decision: &Decision) -> Vec<(Timestamp, String)> {
    let t0 = decision.t0;
    let mut steps = Vec::new();
    if let Some(onset) = onset(decision).filter(|at| *at != decision.crossing) {
        steps.push((onset, "minutes turned bad and stayed so (the last run in the picture)".to_owned()));
    }
    let by_evidence = decision.confirmed_by == Some(ConfirmedBy::Evidence);
    if !by_evidence || decision.crossing < t0 {
        steps.push((decision.crossing, "the condition became true (start of that minute)".into()));
    }
    if by_evidence {
        steps.push((t0, "a breach had begun by this minute: the ten minutes start (t0)".into()));
        steps.push((decision.at, "decided: there was enough evidence".into()));
    } else {
        steps.push((t0, "the breach that lasted began: the ten minutes start (t0)".into()));
        steps.push((decision.at, format!("decided: the breach had {}", had(decision))));
    }
    steps
}

const fn flip_step(outcome: FlipOutcome) -> &'static str {
    match outcome {
        FlipOutcome::Verified => "**control served, read back**",
        FlipOutcome::AlreadySafe => "**control was served already, read back**",
        FlipOutcome::Superseded => "flag left alone: a human had stepped in",
        FlipOutcome::Failed => "**flip failed**",
        FlipOutcome::Expired => "**flip given up**",
    }
}

fn after(at: Timestamp, t0: Timestamp) -> String {
    if at < t0 { format!("−{}", span(t0.since(at))) } else { span(at.since(t0)) }
}

fn place(origin: &Origin) -> String {
    format!("{}:{}", origin.file, origin.line)
}

/// Text that cannot break out of a table's cell, a heading or a code span.
fn cell(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '|' => '¦',
            '`' => '\'',
            c if c.is_control() => ' ',
            c => c,
        })
        .collect()
}

#[cfg(test)]
mod tests;

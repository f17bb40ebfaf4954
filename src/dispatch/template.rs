//! The operator's own texts: minijinja templates instead of the built-in summary, detail and incident.
//!
//! Each is tried on every case of [`example::cases`] when it is read, so that a mistake shows at noon and not at 3 am. One that fails all
//! the same, on facts that no example had, gives way to the built-in text and is counted: no page is lost or late because of
//! a template. Work and length are bounded.

use std::collections::BTreeSet;

use minijinja::value::{Serde, Value};
use minijinja::{Environment, Error, UndefinedBehavior};
use serde::Serialize;

use super::incident::{tidy, view};
use super::message::{facts, one_line, with_outcome};
use super::story::{Flip, Standing, Story};
use super::words::clock_time;
use super::{example, words};
use crate::engine::drill::{is_marked, marked};
use crate::engine::output::{Decision, Message};
use crate::engine::rule::diagnostic::{Span, nearest};
use crate::telemetry::facts::TemplateFailed;
use crate::telemetry::record;

/// Instructions that one rendering may take: a hundred times the built-in incident's.
const FUEL: u64 = 200_000;
/// The longest text, in bytes.
const LONGEST: usize = 64 << 10;

/// What may be written anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    Summary,
    Detail,
    Incident,
}

impl Part {
    pub const ALL: [Self; 3] = [Self::Summary, Self::Detail, Self::Incident];

    /// Its name in the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Summary => "summary",
            Self::Detail => "detail",
            Self::Incident => "incident",
        }
    }
}

/// What is wrong with a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    pub part: Part,
    /// Where in the template.
    pub span: Span,
    /// Counted from 1.
    pub line: usize,
    pub message: String,
    pub help: Option<String>,
}

/// Own templates, tried and ready.
#[derive(Debug, Default)]
pub struct Templates {
    environment: Environment<'static>,
}

impl Templates {
    /// Reads templates and tries each on every case.
    ///
    /// # Errors
    ///
    /// All mistakes, one for each template and name.
    pub fn new(own: &[(Part, String)]) -> Result<Self, Vec<Mistake>> {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_fuel(Some(FUEL));
        let mut templates = Self { environment };
        let mut mistakes = Vec::new();
        for (part, text) in own {
            let added = templates.environment.add_template_owned(part.as_str(), text.clone());
            match added {
                Ok(()) => mistakes.extend(templates.mistakes(*part, text)),
                Err(error) => mistakes.push(mistake(*part, &error, "")),
            }
        }
        if mistakes.is_empty() { Ok(templates) } else { Err(mistakes) }
    }

    fn mistakes(&self, part: Part, text: &str) -> Vec<Mistake> {
        let unknown = self.unknown(part, text);
        if !unknown.is_empty() {
            return unknown;
        }
        let tried = example::cases().into_iter().find_map(|(case, story)| {
            let built_in = with_outcome(&example::message(), &story.opener, story.flip.as_ref(), None);
            let seen = if part == Part::Incident {
                view(&story)
            } else {
                seen(&built_in, &story.opener, story.flip.as_ref())
            };
            self.render(part, seen)?.err().map(|error| mistake(part, &error, case))
        });
        tried.into_iter().collect()
    }

    /// Names that no case has.
    fn unknown(&self, part: Part, text: &str) -> Vec<Mistake> {
        let Ok(template) = self.environment.get_template(part.as_str()) else { return Vec::new() };
        let known = names(part);
        let globals: BTreeSet<&str> = self.environment.globals().map(|(name, _)| name).collect();
        let used: BTreeSet<String> = template.undeclared_variables(false).into_iter().collect();
        let unknown = used.iter().filter(|name| !known.contains(*name) && !globals.contains(name.as_str()));
        unknown
            .map(|name| {
                let place = place(text, name);
                let near = nearest(name, known.iter().map(String::as_str));
                Mistake {
                    part,
                    span: Span::new(place, name.len()),
                    line: text[..place].lines().count().max(1),
                    message: format!("there is no `{name}`"),
                    help: Some(near.map_or_else(
                        || format!("there are {}", known.iter().cloned().collect::<Vec<_>>().join(", ")),
                        |near| format!("did you mean `{near}`?"),
                    )),
                }
            })
            .collect()
    }

    /// The text of a part, or why there is none; `None` without an own template.
    fn render(&self, part: Part, seen: Value) -> Option<Result<String, Error>> {
        let template = self.environment.get_template(part.as_str()).ok()?;
        let mut out = Bounded::default();
        let rendered = template.render_captured_to(seen, &mut out);
        Some(rendered.and_then(|_| {
            let text = String::from_utf8_lossy(&out.0).trim().to_owned();
            if text.is_empty() {
                return Err(Error::new(minijinja::ErrorKind::InvalidOperation, "it gives no text"));
            }
            Ok(text)
        }))
    }

    /// The same, with a failure counted and told.
    fn text(&self, part: Part, seen: impl FnOnce() -> Value) -> Option<String> {
        self.environment.get_template(part.as_str()).ok()?;
        match self.render(part, seen())? {
            Ok(text) => Some(text),
            Err(error) => {
                record(&TemplateFailed { template: part.as_str(), error: &error.to_string() });
                None
            }
        }
    }

    /// A message about a decision in the operator's words, where there are any. The mark of a drill stays.
    pub fn message(&self, told: Message, decision: &Decision, flip: Option<&Flip>) -> Message {
        let summary = self.text(Part::Summary, || seen(&told, decision, flip));
        let detail = self.text(Part::Detail, || seen(&told, decision, flip));
        let summary = summary.map(|text| {
            let unmarked = decision.drill && !is_marked(&text);
            one_line(&marked(unmarked, &text))
        });
        Message { summary: summary.unwrap_or(told.summary), detail: detail.unwrap_or(told.detail), ..told }
    }

    /// An incident in the operator's words; `None` where there are none, or they fail.
    pub fn incident(&self, story: &Story) -> Option<String> {
        self.text(Part::Incident, || view(story)).map(|text| tidy(&text))
    }
}

/// Where a name stands in a template, as a word of its own.
fn place(text: &str, name: &str) -> usize {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let whole = |at: &usize| {
        !text[..*at].ends_with(|c| is_word(c) || c == '.') && !text[at + name.len()..].starts_with(is_word)
    };
    text.match_indices(name).map(|(at, _)| at).find(whole).unwrap_or_default()
}

fn mistake(part: Part, error: &Error, case: &str) -> Mistake {
    let range = error.range().unwrap_or_default();
    let on = if case.is_empty() { String::new() } else { format!(", tried on {case}") };
    Mistake {
        part,
        span: Span::new(range.start, range.len()),
        line: error.line().unwrap_or(1),
        message: format!("{error}{on}"),
        help: None,
    }
}

/// Takes text up to a bound.
#[derive(Default)]
struct Bounded(Vec<u8>);

impl std::io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.0.len() + bytes.len() > LONGEST {
            return Err(std::io::Error::other(format!("the text is longer than {} KiB", LONGEST >> 10)));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The names that templates of a part may use.
pub fn names(part: Part) -> BTreeSet<String> {
    let story = example::story();
    let value = match part {
        Part::Incident => view(&story),
        Part::Summary | Part::Detail => seen(&example::message(), &story.opener, story.flip.as_ref()),
    };
    value.try_iter().into_iter().flatten().map(|name| name.to_string()).collect()
}

/// What templates of messages see; documented in docs/templates.md.
#[derive(Serialize)]
struct Seen {
    /// The built-in texts, to be used as a part of own ones.
    summary: String,
    detail: String,
    standing: &'static str,
    severity: &'static str,
    flag: String,
    variant: String,
    control: Option<String>,
    action: &'static str,
    drill: bool,
    by: Option<By>,
    rule: String,
    failure_class: String,
    scope: String,
    measured: String,
    interval: Option<String>,
    samples: String,
    tenants: String,
    bad_minutes: u32,
    window_minutes: u32,
    done: String,
    owner: Option<String>,
    runbook: Option<String>,
    incident: Option<String>,
    decision: String,
    since: String,
    decided: String,
}

#[derive(Serialize)]
struct By {
    actor: String,
    reason: String,
}

fn seen(told: &Message, decision: &Decision, flip: Option<&Flip>) -> Value {
    let facts = facts(decision, flip);
    Value::from(Serde(Seen {
        summary: told.summary.clone(),
        detail: told.detail.clone(),
        standing: match Standing::of(decision, flip) {
            Standing::Safe => "safe",
            Standing::Trying => "trying",
            Standing::Failed => "failed",
            Standing::Superseded => "superseded",
            Standing::Withheld => "withheld",
            Standing::Joined => "joined",
        },
        severity: told.severity.as_str(),
        flag: decision.key.flag.to_string(),
        variant: decision.variant.to_string(),
        control: decision.control.as_ref().map(ToString::to_string),
        action: decision.action.as_str(),
        drill: decision.drill,
        by: decision.by.as_ref().map(|by| By { actor: by.actor.clone(), reason: by.reason.clone() }),
        rule: facts.rule,
        failure_class: facts.failure_class,
        scope: facts.scope,
        measured: facts.measured,
        interval: facts.interval,
        samples: facts.samples,
        tenants: facts.tenants,
        bad_minutes: decision.evidence.bad_minutes,
        window_minutes: decision.evidence.window_minutes,
        done: facts.done,
        owner: facts.owner,
        runbook: facts.runbook,
        incident: decision.incident.as_ref().map(ToString::to_string),
        decision: decision.id.to_string(),
        since: words::minute_time(decision.crossing),
        decided: clock_time(decision.at),
    }))
}

#[cfg(test)]
mod tests;

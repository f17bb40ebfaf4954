//! Rule files as written: every key read and checked on its own, each value with its place. All mistakes are collected.

use std::time::Duration;

use super::diagnostic::Span;
use super::keys;
use super::yaml::{Document, Node, Value};
use super::{Confirm, NoData, Page, RuleAction};
use crate::model::flag::Dimension;
use crate::model::incident::Severity;

/// A value and where it stands in its file.
#[derive(Clone, Debug, PartialEq)]
pub struct Located<T> {
    pub value: T,
    pub at: Span,
}

/// One variant's entry of a rule file.
#[derive(Clone, Debug, PartialEq)]
pub struct VariantSpec {
    /// Empty when it was missing or wrong: then only the conditions' own mistakes are of interest.
    pub variant: Located<String>,
    pub baseline: Option<Located<String>>,
    pub flag: Option<Located<String>>,
    pub owner: Option<String>,
    pub confirm: Option<Confirm>,
    pub dry_run: bool,
    pub rules: Vec<RuleSpec>,
}

/// One rule as written.
#[derive(Clone, Debug, PartialEq)]
pub struct RuleSpec {
    /// Where the rule begins.
    pub at: Span,
    /// Empty when it was missing or wrong.
    pub condition: Located<String>,
    /// `None` when it, or the condition, was missing or wrong: then only the conditions' own mistakes are of interest.
    pub action: Option<RuleAction>,
    pub id: Option<Located<String>>,
    pub hold: Option<Duration>,
    /// Where `for` stands, if it does.
    pub hold_at: Option<Span>,
    pub confirm: Option<Confirm>,
    pub min_samples: Option<u64>,
    pub clear: Option<Located<String>>,
    pub dwell: Option<Duration>,
    pub severity: Option<Severity>,
    pub failure_class: Option<String>,
    pub no_data: NoData,
    pub by: Option<Dimension>,
    pub whole_flag: bool,
    pub dry_run: Option<bool>,
    pub runbook: Option<String>,
    pub page: Page,
    /// Why it is accepted that nothing bounds the time until the rule acts.
    pub no_time_bound: Option<Located<String>>,
    /// An objective whose burn rates take the place of the condition.
    pub burn_rate: Option<Located<String>>,
}

/// Reads one rule file; what is wrong with it is in the document afterwards.
pub fn read(doc: &mut Document<'_>) -> Vec<VariantSpec> {
    let Some(root) = doc.parse() else {
        return Vec::new();
    };
    if let Value::Map(entries) = &root.value {
        let is = |key: &str| entries.iter().any(|(k, _)| k.value == Value::Text(key.to_owned()));
        let at = entries.first().map_or(root.at, |(key, _)| key.at);
        if is("experiment_id") || is("guardrails") {
            doc.error(at, "experiment files are not available yet");
        } else {
            doc.error_help(
                at,
                "a rule file is a list of variants",
                "begin with `- variant: <feature>.<change-id>`",
            );
        }
        return Vec::new();
    }
    let Some(items) = doc.list(&root, "a rule file") else {
        return Vec::new();
    };
    if items.is_empty() {
        doc.error(root.at, "the file holds no rules");
    }
    items.iter().filter_map(|item| variant(doc, item)).collect()
}

fn variant(doc: &mut Document<'_>, node: &Node) -> Option<VariantSpec> {
    let fields = doc.fields(node, "a variant's entry", &keys::names(&keys::VARIANT))?;
    let variant = fields.get("variant").and_then(|n| name(doc, n, "`variant`"));
    if fields.get("variant").is_none() {
        doc.error_help(
            fields.first_key_at(),
            "the entry names no variant",
            "add `variant: <feature>.<change-id>`, as events and OFREP spell it",
        );
    }
    let baseline = fields.get("baseline").and_then(|n| name(doc, n, "`baseline`"));
    let flag = fields.get("flag").and_then(|n| name(doc, n, "`flag`"));
    let owner = fields.get("owner").and_then(|n| doc.text(n, "`owner`")).map(str::to_owned);
    let confirm = fields.get("confirm").and_then(|n| confirm(doc, n));
    let dry_run = fields.get("mode").and_then(|n| doc.choice(n, "`mode`", &keys::MODES));
    let rules = match fields.get("rules") {
        Some(list) => {
            let items = doc.list(list, "`rules`").unwrap_or_default();
            if items.is_empty() && matches!(list.value, Value::List(_)) {
                doc.error(list.at, "`rules` is empty");
            }
            items.iter().filter_map(|item| rule(doc, item)).collect()
        }
        None => {
            doc.error(fields.first_key_at(), "the entry has no `rules`");
            Vec::new()
        }
    };
    Some(VariantSpec {
        variant: variant.unwrap_or(Located { value: String::new(), at: fields.first_key_at() }),
        baseline,
        flag,
        owner,
        confirm,
        dry_run: dry_run.unwrap_or(false),
        rules,
    })
}

fn rule(doc: &mut Document<'_>, node: &Node) -> Option<RuleSpec> {
    let fields = doc.fields(node, "a rule", &keys::names(&keys::RULE))?;
    let burn_rate = fields.get("burn_rate").and_then(|n| name(doc, n, "`burn_rate`"));
    for key in ["condition", "clear"].into_iter().filter(|_| fields.get("burn_rate").is_some()) {
        if let Some(node) = fields.get(key) {
            doc.error(node.at, format!("`burn_rate` brings its own conditions: it has no `{key}`"));
        }
    }
    for (key, example) in [
        ("condition", "`condition: faithfulness_1h < 0.92`"),
        ("action", "`action: rollback`, `pause_rollout` or `notify`"),
    ] {
        if fields.get(key).is_none() && fields.get("burn_rate").is_none() {
            doc.error_help(
                fields.first_key_at(),
                format!("the rule has no `{key}`"),
                format!("add {example}"),
            );
        }
    }
    let words = |n: &Node, doc: &mut Document<'_>| doc.choice(n, "`action`", &keys::ACTIONS);
    let action = fields.get("action").and_then(|n| words(n, doc));
    let spec = RuleSpec {
        at: fields.first_key_at(),
        condition: Located { value: String::new(), at: fields.at },
        action,
        id: fields.get("id").and_then(|n| id(doc, n)),
        hold: fields.get("for").and_then(|n| doc.minutes(n, "`for`", keys::FOR.0, keys::FOR.1)),
        hold_at: fields.get("for").map(|n| n.at),
        confirm: fields.get("confirm").and_then(|n| confirm(doc, n)),
        min_samples: fields
            .get("min_samples")
            .and_then(|n| doc.integer(n, "`min_samples`", keys::MIN_SAMPLES.0, keys::MIN_SAMPLES.1)),
        clear: fields.get("clear").and_then(|n| condition(doc, n, "`clear`")),
        dwell: fields.get("dwell").and_then(|n| doc.minutes(n, "`dwell`", keys::DWELL.0, keys::DWELL.1)),
        severity: fields.get("severity").and_then(|n| doc.choice(n, "`severity`", &keys::SEVERITIES)),
        failure_class: fields
            .get("failure_class_hint")
            .and_then(|n| name(doc, n, "`failure_class_hint`"))
            .map(|l| l.value),
        no_data: fields
            .get("no_data")
            .and_then(|n| doc.choice(n, "`no_data`", &keys::NO_DATA))
            .unwrap_or_default(),
        by: fields.get("by").and_then(|n| doc.choice(n, "`by`", &keys::DIMENSIONS)),
        whole_flag: scope(doc, &fields),
        dry_run: fields.get("mode").and_then(|n| doc.choice(n, "`mode`", &keys::MODES)),
        runbook: fields.get("runbook").and_then(|n| doc.text(n, "`runbook`")).map(str::to_owned),
        page: fields.get("page").map(|n| page(doc, n)).unwrap_or_default(),
        no_time_bound: fields.get("no_time_bound").and_then(|n| reason(doc, n, "`no_time_bound`")),
        burn_rate,
    };
    if spec.burn_rate.is_some() {
        let action =
            if fields.get("action").is_some() { spec.action } else { Some(RuleAction::PauseRollout) };
        return Some(RuleSpec { action, ..spec });
    }
    Some(match fields.get("condition").and_then(|n| condition(doc, n, "`condition`")) {
        Some(condition) => RuleSpec { condition, ..spec },
        None => RuleSpec { action: None, ..spec },
    })
}

fn condition(doc: &mut Document<'_>, node: &Node, what: &str) -> Option<Located<String>> {
    match &node.value {
        Value::Text(text) if !text.trim().is_empty() => {
            // The place of the text itself, without quotes; folded and escaped text keeps the place of the whole.
            let end = node.at.end().min(doc.text.len());
            let raw = doc.text.get(node.at.offset..end).unwrap_or_default();
            let at = match raw.find(text.as_str()) {
                Some(place) => Span::new(node.at.offset + place, text.len()),
                None => node.at,
            };
            Some(Located { value: text.clone(), at })
        }
        Value::Bool(_) | Value::Number(_) => {
            doc.error_help(
                node.at,
                format!("{what} compares nothing"),
                "write a comparison such as `faithfulness_1h < 0.92`",
            );
            None
        }
        _ => {
            doc.text(node, what);
            None
        }
    }
}

fn confirm(doc: &mut Document<'_>, node: &Node) -> Option<Confirm> {
    doc.choice(node, "`confirm`", &keys::CONFIRMS)
}

fn scope(doc: &mut Document<'_>, fields: &super::yaml::Fields<'_>) -> bool {
    let Some(node) = fields.get("scope") else {
        return false;
    };
    let whole = doc.choice(node, "`scope`", &keys::SCOPES);
    if whole == Some(false) && fields.get("by").is_none() {
        doc.error_help(
            node.at,
            "`scope: slice` needs slices",
            "add `by: tenant`, `by: tier` or `by: region`",
        );
    }
    whole.unwrap_or(false)
}

fn page(doc: &mut Document<'_>, node: &Node) -> Page {
    match &node.value {
        Value::Bool(true) => Page::Always,
        Value::Bool(false) => Page::Never,
        Value::Text(word) if ["yes", "no", "on", "off"].contains(&word.to_lowercase().as_str()) => {
            doc.boolean(node, "`page`");
            Page::Default
        }
        _ => name(doc, node, "`page`").map_or(Page::Default, |l| Page::Receiver(l.value)),
    }
}

/// A reason for somebody who asks later. A word is none.
fn reason(doc: &mut Document<'_>, node: &Node, what: &str) -> Option<Located<String>> {
    let text = match &node.value {
        Value::Text(text) => text.trim(),
        Value::Bool(_) | Value::Number(_) => "",
        _ => doc.text(node, what)?,
    };
    if text.split_whitespace().nth(1).is_none() {
        doc.error_help(
            node.at,
            format!("{what} must say why it is accepted"),
            "write a sentence, such as `the team watches the 6h mean by hand until the judge is calibrated`",
        );
        return None;
    }
    Some(Located { value: text.to_owned(), at: node.at })
}

fn id(doc: &mut Document<'_>, node: &Node) -> Option<Located<String>> {
    let found = name(doc, node, "`id`")?;
    if !keys::is_id(&found.value) {
        doc.error(
            found.at,
            format!("`id` may hold letters, digits, `.`, `_` and `-`, at most {}", keys::LONGEST_ID),
        );
        return None;
    }
    Some(found)
}

/// A name: one word of visible characters.
fn name(doc: &mut Document<'_>, node: &Node, what: &str) -> Option<Located<String>> {
    let text = doc.text(node, what)?;
    if text.len() > keys::LONGEST_NAME {
        doc.error(node.at, format!("{what} is longer than {} bytes", keys::LONGEST_NAME));
        return None;
    }
    if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        doc.error(node.at, format!("{what} must be one word without spaces"));
        return None;
    }
    Some(Located { value: text.to_owned(), at: node.at })
}

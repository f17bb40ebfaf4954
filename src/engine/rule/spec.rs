//! Rule files as written: every key read and checked on its own, each value with its place. All mistakes are collected.

use std::time::Duration;

use super::diagnostic::Span;
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
    pub condition: Located<String>,
    /// `None` when it was missing or wrong: then only the condition's own mistakes are of interest.
    pub action: Option<RuleAction>,
    pub id: Option<Located<String>>,
    pub hold: Option<Duration>,
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
}

const VARIANT_KEYS: [&str; 7] = ["variant", "baseline", "flag", "owner", "confirm", "mode", "rules"];
const RULE_KEYS: [&str; 16] = [
    "condition",
    "action",
    "id",
    "for",
    "confirm",
    "min_samples",
    "clear",
    "dwell",
    "severity",
    "failure_class_hint",
    "no_data",
    "by",
    "scope",
    "mode",
    "runbook",
    "page",
];
const MODES: [(&str, bool); 2] = [("dry_run", true), ("live", false)];
const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(86_400);
const LONGEST_NAME: usize = 200;

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
    let fields = doc.fields(node, "a variant's entry", &VARIANT_KEYS)?;
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
    let dry_run = fields.get("mode").and_then(|n| doc.choice(n, "`mode`", &MODES));
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
    let fields = doc.fields(node, "a rule", &RULE_KEYS)?;
    for (key, example) in [
        ("condition", "`condition: faithfulness_1h < 0.92`"),
        ("action", "`action: rollback`, `pause_rollout` or `notify`"),
    ] {
        if fields.get(key).is_none() {
            doc.error_help(
                fields.first_key_at(),
                format!("the rule has no `{key}`"),
                format!("add {example}"),
            );
        }
    }
    let words = |n: &Node, doc: &mut Document<'_>| doc.choice(n, "`action`", &ACTIONS);
    let action = fields.get("action").and_then(|n| words(n, doc));
    let spec = RuleSpec {
        at: fields.first_key_at(),
        condition: Located { value: String::new(), at: fields.at },
        action,
        id: fields.get("id").and_then(|n| id(doc, n)),
        hold: fields.get("for").and_then(|n| doc.minutes(n, "`for`", MINUTE, DAY)),
        confirm: fields.get("confirm").and_then(|n| confirm(doc, n)),
        min_samples: fields
            .get("min_samples")
            .and_then(|n| doc.integer(n, "`min_samples`", 1, 1_000_000_000)),
        clear: fields.get("clear").and_then(|n| condition(doc, n, "`clear`")),
        dwell: fields.get("dwell").and_then(|n| doc.minutes(n, "`dwell`", MINUTE, 7 * DAY)),
        severity: fields.get("severity").and_then(|n| doc.choice(n, "`severity`", &SEVERITIES)),
        failure_class: fields
            .get("failure_class_hint")
            .and_then(|n| name(doc, n, "`failure_class_hint`"))
            .map(|l| l.value),
        no_data: fields.get("no_data").and_then(|n| doc.choice(n, "`no_data`", &NO_DATA)).unwrap_or_default(),
        by: fields.get("by").and_then(|n| doc.choice(n, "`by`", &DIMENSIONS)),
        whole_flag: scope(doc, &fields),
        dry_run: fields.get("mode").and_then(|n| doc.choice(n, "`mode`", &MODES)),
        runbook: fields.get("runbook").and_then(|n| doc.text(n, "`runbook`")).map(str::to_owned),
        page: fields.get("page").map(|n| page(doc, n)).unwrap_or_default(),
    };
    let condition = fields.get("condition").and_then(|n| condition(doc, n, "`condition`"))?;
    Some(RuleSpec { condition, ..spec })
}

const ACTIONS: [(&str, RuleAction); 3] = [
    ("rollback", RuleAction::Rollback),
    ("pause_rollout", RuleAction::PauseRollout),
    ("notify", RuleAction::Notify),
];
const SEVERITIES: [(&str, Severity); 3] =
    [("critical", Severity::Critical), ("warning", Severity::Warning), ("info", Severity::Info)];
const NO_DATA: [(&str, NoData); 3] =
    [("hold", NoData::Hold), ("notify", NoData::Notify), ("pause", NoData::Pause)];
const DIMENSIONS: [(&str, Dimension); 3] =
    [("tenant", Dimension::Tenant), ("tier", Dimension::Tier), ("region", Dimension::Region)];

fn condition(doc: &mut Document<'_>, node: &Node, what: &str) -> Option<Located<String>> {
    match &node.value {
        Value::Text(text) => {
            // The place of the text itself, without quotes; folded and escaped text keeps the place of the whole.
            let end = node.at.end().min(doc.text.len());
            let raw = doc.text.get(node.at.offset..end).unwrap_or_default();
            let at = match raw.find(text.as_str()) {
                Some(place) if !text.is_empty() => Span::new(node.at.offset + place, text.len()),
                _ => node.at,
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
    doc.choice(node, "`confirm`", &Confirm::ALL.map(|mode| (mode.as_str(), mode)))
}

fn scope(doc: &mut Document<'_>, fields: &super::yaml::Fields<'_>) -> bool {
    let Some(node) = fields.get("scope") else {
        return false;
    };
    let whole = doc.choice(node, "`scope`", &[("all", true), ("slice", false)]);
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

fn id(doc: &mut Document<'_>, node: &Node) -> Option<Located<String>> {
    let found = name(doc, node, "`id`")?;
    let good = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if found.value.len() > 100 || !found.value.chars().all(good) {
        doc.error(found.at, "`id` may hold letters, digits, `.`, `_` and `-`, at most 100");
        return None;
    }
    Some(found)
}

/// A name: one word of visible characters.
fn name(doc: &mut Document<'_>, node: &Node, what: &str) -> Option<Located<String>> {
    let text = doc.text(node, what)?;
    if text.len() > LONGEST_NAME {
        doc.error(node.at, format!("{what} is longer than {LONGEST_NAME} bytes"));
        return None;
    }
    if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        doc.error(node.at, format!("{what} must be one word without spaces"));
        return None;
    }
    Some(Located { value: text.to_owned(), at: node.at })
}

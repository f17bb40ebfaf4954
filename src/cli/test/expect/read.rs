//! Expectations as written.

use std::time::Duration;

use super::super::spec::one_or_list;
use super::{Claim, Expectation, Fact, Firing, Moment, Target, VERDICTS, When};
use crate::engine::output::{Gate, Phase};
use crate::engine::rule::diagnostic::{Span, nearest, one_of, position};
use crate::engine::rule::span::parse;
use crate::engine::rule::yaml::{Document, Fields, Node, Value};
use crate::engine::rule::{Rule, RuleAction, RuleSet};
use crate::model::flag::Scope;
use crate::model::id::{FlagKey, RuleId, Variant};
use crate::model::time::{MINUTE_MS, Timestamp};

const KEYS: [&str; 15] = [
    "rule",
    "variant",
    "slice",
    "at",
    "within",
    "after",
    "by",
    "verdict",
    "alert",
    "action",
    "decision",
    "never",
    "count",
    "gate",
    "confirmed_by",
];
const CLAIMS: [&str; 5] = ["verdict", "alert", "action", "decision", "never"];
const ACTIONS: [(&str, RuleAction); 3] = [
    ("rollback", RuleAction::Rollback),
    ("pause_rollout", RuleAction::PauseRollout),
    ("notify", RuleAction::Notify),
];
const IN_FORCE: [(&str, Option<RuleAction>); 3] = [
    ("rollback", Some(RuleAction::Rollback)),
    ("pause_rollout", Some(RuleAction::PauseRollout)),
    ("none", None),
];
const PHASES: [(&str, Phase); 4] = [
    ("quiet", Phase::Quiet),
    ("pending", Phase::Pending),
    ("firing", Phase::Firing),
    ("latched", Phase::Latched),
];
const GATES: [&str; 8] = [
    "act",
    "dry_run",
    "automation_off",
    "flip_limit",
    "world_breach",
    "already_latched",
    "unknown_flag",
    "no_slices",
];
const CONFIRMERS: [(&str, &str); 2] = [("persistence", "persistence"), ("evidence", "evidence")];
const MINUTE: Duration = Duration::from_secs(60);

/// Reads the list of a test's expectations. Without `rules` their names are not looked up.
pub fn read(doc: &mut Document<'_>, node: &Node, rules: Option<&RuleSet>) -> Vec<Expectation> {
    let items = doc.list(node, "`expect`").unwrap_or_default();
    if items.is_empty() && matches!(node.value, Value::List(_)) {
        doc.error_help(node.at, "`expect` is empty", "add what must happen, such as `- never: rollback`");
    }
    let mut reader = Reader { doc, rules };
    items.iter().filter_map(|item| reader.expectation(item)).collect()
}

struct Reader<'a, 'd> {
    doc: &'a mut Document<'d>,
    rules: Option<&'a RuleSet>,
}

impl Reader<'_, '_> {
    fn expectation(&mut self, node: &Node) -> Option<Expectation> {
        let fields = self.doc.fields(node, "an expectation", &KEYS)?;
        let at = fields.first_key_at();
        let before = self.doc.diagnostics.len();
        if CLAIMS.iter().all(|key| fields.get(key).is_none()) {
            let help = format!("add {}", one_of(CLAIMS));
            self.doc.error_help(at, "the expectation claims nothing", help);
        }
        let mut times = Vec::new();
        let when = self.when(&fields, &mut times);
        let of = self.target(&fields);
        let claims = self.claims(&fields);
        self.check_target(&of, &claims, &fields);
        let (line, _) = position(self.doc.text, at.offset);
        (self.doc.diagnostics.len() == before).then_some(Expectation { line, of, when, claims, times })
    }

    fn when(&mut self, fields: &Fields<'_>, times: &mut Vec<(Moment, Span)>) -> When {
        let mut read = |key: &str| {
            let node = fields.get(key)?;
            let moment = self.moment(node, key)?;
            times.push((moment, node.at));
            Some(moment)
        };
        let (at, mut after, mut until) = (read("at"), read("after"), read("by"));
        if let Some((from, to)) = fields.get("within").and_then(|node| {
            let (from, to) = self.within(node)?;
            times.push((to, node.at));
            Some((from, to))
        }) {
            (after, until) = (Some(from), Some(to));
        }
        let exclusive = [&["at", "after", "by", "within"][..], &["within", "after", "by"]];
        for keys in exclusive {
            let (first, others) = (keys[0], &keys[1..]);
            if let (Some(_), Some(other)) =
                (fields.get(first), others.iter().find_map(|key| fields.key_at(key)))
            {
                let help = "use `at`, or `within`, or `after` and `by`";
                self.doc.error_help(other, format!("this does not go with `{first}`"), help);
                break;
            }
        }
        if let (Some(Moment::Offset(after)), Some(Moment::Offset(until))) = (after, until)
            && after >= until
            && let Some(node) = fields.get("by")
        {
            self.doc.error(node.at, "`by` does not lie behind `after`");
        }
        at.map_or(When::During { after, until }, When::At)
    }

    /// `10m of 2h`.
    fn within(&mut self, node: &Node) -> Option<(Moment, Moment)> {
        let text = self.doc.text(node, "`within`")?;
        let parts = text.split_once(" of ").and_then(|(span, from)| Some((parse(span).ok()?, moment(from)?)));
        let whole = parts.filter(|(span, _)| is_whole(*span) && *span >= MINUTE);
        let Some((span, from)) = whole else {
            let help = "write how long and from when, in whole minutes: `within: 10m of 2h`";
            self.doc.error_help(node.at, format!("`within` cannot be `{text}`"), help);
            return None;
        };
        let to = match from {
            Moment::Offset(offset) => Moment::Offset(offset + span),
            Moment::Time(at) => Moment::Time(at + span),
        };
        Some((from, to))
    }

    fn moment(&mut self, node: &Node, key: &str) -> Option<Moment> {
        let text = match &node.value {
            Value::Text(text) => text.as_str(),
            _ => "",
        };
        let found = moment(text);
        if found.is_none() {
            let raw = self.doc.raw(node.at);
            let help =
                "write whole minutes from the start, such as `2h10m`, or a time, `2026-01-05T02:10:00Z`";
            self.doc.error_help(node.at, format!("`{key}` cannot be `{raw}`"), help);
        }
        found
    }

    fn claims(&mut self, fields: &Fields<'_>) -> Vec<Claim> {
        let at_one_time = fields.get("at").is_some();
        let gate =
            fields.get("gate").and_then(|n| self.doc.choice(n, "`gate`", &GATES.map(|gate| (gate, gate))));
        let by = fields.get("confirmed_by");
        let confirmed_by = by.and_then(|n| self.doc.choice(n, "`confirmed_by`", &CONFIRMERS));
        let count = fields.get("count").and_then(|n| self.doc.integer(n, "`count`", 0, 1_000_000));
        let mut claims = Vec::new();
        let mut is = |fact: Option<Fact>| claims.extend(fact.map(Claim::Is));
        is(fields.get("verdict").and_then(|n| self.doc.choice(n, "`verdict`", &VERDICTS)).map(Fact::Verdict));
        is(fields.get("alert").and_then(|n| self.doc.choice(n, "`alert`", &PHASES)).map(Fact::Alert));
        if let Some(node) = fields.get("never") {
            for item in one_or_list(node) {
                claims.extend(self.never(item).map(Claim::Never));
            }
        }
        let mut fires = |action: Option<RuleAction>, gate| {
            let fact = Fact::Fires(Firing { action, gate, confirmed_by });
            claims.push(count.map_or(Claim::Is(fact.clone()), |n| Claim::Times(n, fact)));
        };
        let decided = fields.get("decision").and_then(|n| self.doc.choice(n, "`decision`", &ACTIONS));
        if let Some(action) = decided {
            fires(Some(action), gate);
        }
        match fields.get("action") {
            Some(node) if at_one_time => {
                let found = self.doc.choice(node, "`action` at a time", &IN_FORCE);
                claims.extend(found.map(|action| Claim::Is(Fact::InForce(action))));
            }
            Some(node) => {
                if let Some(action) = self.doc.choice(node, "`action`", &ACTIONS) {
                    fires(Some(action), Some(Gate::Act.as_str()));
                }
            }
            None => {}
        }
        let decides = fields.get("decision").is_some();
        let acts = fields.get("action").is_some() && !at_one_time;
        for (key, goes, with) in [
            ("gate", decides, "`decision`"),
            ("count", decides || acts, "`decision`, or `action` without `at`"),
            ("confirmed_by", decides || acts, "`decision`, or `action` without `at`"),
        ] {
            if let (Some(at), false) = (fields.key_at(key), goes) {
                self.doc.error(at, format!("`{key}` goes with {with}"));
            }
        }
        claims
    }

    /// The words of `never`: actions carried out, alert states, verdicts.
    fn never(&mut self, node: &Node) -> Option<Fact> {
        let text = self.doc.text(node, "`never`")?.to_owned();
        let carried_out =
            |action| Fact::Fires(Firing { action, gate: Some(Gate::Act.as_str()), confirmed_by: None });
        let find = |word: &str| {
            let actions = ACTIONS.iter().find(|(name, _)| *name == word).map(|(_, a)| carried_out(Some(*a)));
            let phases = || PHASES.iter().find(|(name, _)| *name == word).map(|(_, p)| Fact::Alert(*p));
            let verdicts = || VERDICTS.iter().find(|(name, _)| *name == word).map(|(_, v)| Fact::Verdict(*v));
            actions.or_else(phases).or_else(verdicts)
        };
        if text == "anything" {
            return Some(carried_out(None));
        }
        let found = find(&text);
        if found.is_none() {
            let words = ACTIONS.iter().map(|(w, _)| *w).chain(PHASES.iter().map(|(w, _)| *w));
            let words = words.chain(VERDICTS.iter().map(|(w, _)| *w)).chain(["anything"]);
            let help = match nearest(&text, words) {
                Some(near) => format!("did you mean `{near}`?"),
                None => "it may be `anything`, an action such as `rollback`, a state such as `pending`, a verdict such as `breach`".into(),
            };
            self.doc.error_help(node.at, format!("`never` cannot be `{text}`"), help);
        }
        found
    }

    fn target(&mut self, fields: &Fields<'_>) -> Target {
        let variant = fields.get("variant").and_then(|n| self.variant(n));
        let rule = fields.get("rule").and_then(|n| self.rule(n, variant.as_ref()));
        let slice = fields.get("slice").and_then(|node| {
            let text = self.doc.text(node, "`slice`")?.to_owned();
            Scope::try_from(text).map_err(|error| self.doc.error(node.at, error)).ok()
        });
        Target { rule, variant, slice }
    }

    fn variant(&mut self, node: &Node) -> Option<Variant> {
        let text = self.doc.text(node, "`variant`")?.to_owned();
        let rules = &self.rules?.rules;
        if rules.iter().all(|rule| rule.variant.as_str() != text) {
            let names = || rules.iter().map(|rule| rule.variant.as_str());
            let help = match nearest(&text, names()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => "write it as the rule file does".to_owned(),
            };
            self.doc.error_help(node.at, format!("no rule is about `{text}`"), help);
        }
        Some(text.into())
    }

    /// A rule by its id or by its condition.
    fn rule(&mut self, node: &Node, variant: Option<&Variant>) -> Option<(FlagKey, RuleId)> {
        let text = self.doc.text(node, "`rule`")?.to_owned();
        let plain = |text: &str| text.split_whitespace().collect::<String>();
        let of_variant = |rule: &&Rule| variant.is_none_or(|variant| *variant == rule.variant);
        let rules: Vec<&Rule> = self.rules?.rules.iter().map(AsRef::as_ref).filter(of_variant).collect();
        let names = |rule: &Rule| rule.id.as_str() == text || plain(&rule.condition.source) == plain(&text);
        let found: Vec<&&Rule> = rules.iter().filter(|rule| names(rule)).collect();
        let ids = || rules.iter().map(|rule| rule.id.as_str());
        match found.as_slice() {
            [one] => return Some((one.flag.clone(), one.id.clone())),
            [] => {
                let sources = rules.iter().map(|rule| rule.condition.source.as_str());
                let help = match nearest(&text, ids().chain(sources)) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("rules go by their id or condition; the ids are {}", one_of(ids())),
                };
                self.doc.error_help(node.at, format!("there is no rule `{text}`"), help);
            }
            several => {
                let ids = one_of(several.iter().map(|rule| rule.id.as_str()));
                let help = format!("name it by its id, {ids}, or say which `variant`");
                self.doc.error_help(node.at, format!("`{text}` is {} rules", several.len()), help);
            }
        }
        None
    }

    /// A verdict or a state is one alert's.
    fn check_target(&mut self, of: &Target, claims: &[Claim], fields: &Fields<'_>) {
        let Some(rules) = self.rules else { return };
        let candidates: Vec<&Rule> = rules
            .rules
            .iter()
            .map(AsRef::as_ref)
            .filter(|rule| of.variant.as_ref().is_none_or(|variant| *variant == rule.variant))
            .filter(|rule| of.rule.as_ref().is_none_or(|(flag, id)| *flag == rule.flag && *id == rule.id))
            .collect();
        let of_one = claims.iter().any(|claim| matches!(claim, Claim::Is(Fact::Verdict(_) | Fact::Alert(_))));
        if of_one && candidates.len() > 1 && fields.get("rule").is_none() {
            let ids = one_of(candidates.iter().map(|rule| rule.id.as_str()));
            let help = format!("add `rule:` with an id or a condition; the ids are {ids}");
            self.doc.error_help(fields.first_key_at(), "a verdict or a state of which rule?", help);
        }
        let [rule] = candidates.as_slice() else { return };
        match (rule.by, &of.slice, fields.get("slice")) {
            (Some(by), None, _) if of_one => {
                let help = format!("add `slice: {}:<name>`", by.as_str());
                let message = format!("`{}` judges every {} on its own", rule.id, by.as_str());
                self.doc.error_help(fields.first_key_at(), message, help);
            }
            (by, Some(Scope::Only(dimension, _)), Some(node)) if by != Some(*dimension) => {
                let message = format!("`{}` does not judge by {}", rule.id, dimension.as_str());
                self.doc.error(node.at, message);
            }
            _ => {}
        }
    }
}

/// Whole minutes from the start, or an RFC 3339 time at a full minute.
fn moment(text: &str) -> Option<Moment> {
    let text = text.trim();
    if let Ok(offset) = parse(text) {
        return (is_whole(offset)).then_some(Moment::Offset(offset));
    }
    Timestamp::parse(text).filter(|at| at.as_millis().rem_euclid(MINUTE_MS) == 0).map(Moment::Time)
}

fn is_whole(span: Duration) -> bool {
    span.subsec_nanos() == 0 && span.as_secs().is_multiple_of(60)
}

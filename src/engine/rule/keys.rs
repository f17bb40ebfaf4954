//! The keys of rule files, once: the parser, the JSON Schema and the export all read this table.

use std::time::Duration;

use super::{Confirm, NoData, RuleAction};
use crate::model::flag::Dimension;
use crate::model::incident::Severity;

/// One key that a person may write.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    pub name: &'static str,
    pub required: bool,
    pub form: Form,
    /// What it means, in a line.
    pub about: &'static str,
    /// What holds without it, as it would be written; `None` when there is nothing, or it depends on other keys.
    pub default: Option<&'static str>,
}

/// What a value must look like.
#[derive(Clone, Copy, Debug)]
pub enum Form {
    /// A comparison of measurements, at most [`super::token::MAX_BYTES`] long.
    Condition,
    /// A word without spaces, at most [`LONGEST_NAME`] bytes long.
    Word,
    /// Letters, digits, `.`, `_` and `-`, at most [`LONGEST_ID`].
    Id,
    /// Text that is not blank.
    Text,
    /// Two words or more.
    Reason,
    /// One of a few words.
    Choice(fn() -> Vec<&'static str>),
    /// A span of whole minutes between two bounds.
    Minutes(Duration, Duration),
    /// A whole number between two bounds.
    Whole(u64, u64),
    /// `true`, `false` or a receiver's name.
    Page,
    /// A list of rules, not empty.
    Rules,
}

/// Bytes of a name.
pub const LONGEST_NAME: usize = 200;
/// Characters of an `id`.
pub const LONGEST_ID: usize = 100;

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(86_400);
/// The least and the longest `for`.
pub const FOR: (Duration, Duration) = (MINUTE, DAY);
/// The least and the longest `dwell`.
pub const DWELL: (Duration, Duration) = (MINUTE, Duration::from_secs(7 * 86_400));
/// The least and the greatest `min_samples`.
pub const MIN_SAMPLES: (u64, u64) = (1, 1_000_000_000);

/// The words of `confirm`.
pub const CONFIRMS: [(&str, Confirm); 4] = [
    (Confirm::Either.as_str(), Confirm::Either),
    (Confirm::Significant.as_str(), Confirm::Significant),
    (Confirm::Evidence.as_str(), Confirm::Evidence),
    (Confirm::Persistence.as_str(), Confirm::Persistence),
];

/// The words of `mode`.
pub const MODES: [(&str, bool); 2] = [("dry_run", true), ("live", false)];
/// The words of `scope`: whether the whole flag is meant.
pub const SCOPES: [(&str, bool); 2] = [("all", true), ("slice", false)];
/// The words of `action`.
pub const ACTIONS: [(&str, RuleAction); 3] = [
    ("rollback", RuleAction::Rollback),
    ("pause_rollout", RuleAction::PauseRollout),
    ("notify", RuleAction::Notify),
];
/// The words of `severity`.
pub const SEVERITIES: [(&str, Severity); 3] =
    [("critical", Severity::Critical), ("warning", Severity::Warning), ("info", Severity::Info)];
/// The words of `no_data`.
pub const NO_DATA: [(&str, NoData); 3] =
    [("hold", NoData::Hold), ("notify", NoData::Notify), ("pause", NoData::Pause)];
/// The words of `by`.
pub const DIMENSIONS: [(&str, Dimension); 3] =
    [("tenant", Dimension::Tenant), ("tier", Dimension::Tier), ("region", Dimension::Region)];

/// The keys of a variant's entry.
#[rustfmt::skip]
pub const VARIANT: [Key; 7] = [
    required("variant", Form::Word, "The variant as events and OFREP spell it: <feature>.<change-id>"),
    optional("baseline", Form::Word, "The variant to compare with; default: the flag's control", None),
    optional("flag", Form::Word, "The flag that serves the variant; default: ai.<feature>.<change-id>", None),
    optional("owner", Form::Text, "Who is told in incidents", None),
    optional("confirm", Form::Choice(confirms), "What confirms a breach, for all rules below", Some("either")),
    optional("mode", Form::Choice(|| words(&MODES)), "`dry_run` only says what would be done, for all rules below", Some("live")),
    required("rules", Form::Rules, "What must not happen, and what is done when it does"),
];

/// The keys of a rule.
#[rustfmt::skip]
pub const RULE: [Key; 18] = [
    required("condition", Form::Condition, "What is a breach: <metric>_<window> or <metric>_<statistic>_<window>, compared with a number or with `baseline`"),
    required("action", Form::Choice(|| words(&ACTIONS)), "What is done about it"),
    optional("id", Form::Id, "Unique within the flag; default: measurements and action", None),
    optional("for", Form::Minutes(FOR.0, FOR.1), "How long the breach must hold, in whole minutes", Some("3m")),
    optional("confirm", Form::Choice(confirms), "What confirms a breach; default: the variant's", None),
    optional("min_samples", Form::Whole(MIN_SAMPLES.0, MIN_SAMPLES.1), "Least samples in the window, per arm; rules on counts are exempt", Some("100")),
    optional("clear", Form::Condition, "What must hold before a pause or a notice resolves; default: the good side with a margin", None),
    optional("dwell", Form::Minutes(DWELL.0, DWELL.1), "How long `clear` must hold, in whole minutes; default: a quarter of the window, at least 15m, at most 6h", None),
    optional("severity", Form::Choice(|| words(&SEVERITIES)), "Default: rollback critical, pause_rollout warning, notify info", None),
    optional("failure_class_hint", Form::Word, "The hint that an incident carries; default: the first metric's", None),
    optional("no_data", Form::Choice(|| words(&NO_DATA)), "What silence does; it never rolls back", Some("hold")),
    optional("by", Form::Choice(|| words(&DIMENSIONS)), "Judge every tenant, tier or region on its own", None),
    optional("scope", Form::Choice(|| words(&SCOPES)), "With `by`: act on the slice or on all", Some("slice")),
    optional("mode", Form::Choice(|| words(&MODES)), "`dry_run` only says what would be done; default: the variant's", None),
    optional("runbook", Form::Text, "A link for the incident", None),
    optional("page", Form::Page, "true, false or the name of a receiver; default: rollbacks page, others notify", None),
    optional("no_time_bound", Form::Reason, "Why it is accepted that nothing bounds how long a breach lasts before this rollback acts: for `confirm: evidence` without a companion rule", None),
    optional("burn_rate", Form::Word, "In place of `condition`: a service level objective whose budget must not be spent too fast; default action: pause_rollout", None),
];

/// The names of keys, in their order.
pub fn names(keys: &[Key]) -> Vec<&'static str> {
    keys.iter().map(|key| key.name).collect()
}

/// The word that stands for a value.
pub fn word<T: PartialEq>(words: &[(&'static str, T)], value: &T) -> &'static str {
    words.iter().find(|(_, known)| known == value).map_or("", |(word, _)| word)
}

/// Whether the text is one word of visible characters, short enough for a name.
pub fn is_word(text: &str) -> bool {
    let bad = |c: char| c.is_whitespace() || c.is_control();
    !text.is_empty() && text.len() <= LONGEST_NAME && !text.chars().any(bad)
}

/// Whether the text can be written as an `id`.
pub fn is_id(text: &str) -> bool {
    let good = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    !text.is_empty() && text.len() <= LONGEST_ID && text.chars().all(good)
}

fn words<T>(words: &[(&'static str, T)]) -> Vec<&'static str> {
    words.iter().map(|(word, _)| *word).collect()
}

fn confirms() -> Vec<&'static str> {
    words(&CONFIRMS)
}

const fn required(name: &'static str, form: Form, about: &'static str) -> Key {
    Key { name, required: true, form, about, default: None }
}

const fn optional(name: &'static str, form: Form, about: &'static str, default: Option<&'static str>) -> Key {
    Key { name, required: false, form, about, default }
}

#[cfg(test)]
mod tests {
    use super::super::{compile, span};
    use super::*;

    #[test]
    fn defaults_are_those_of_the_compiler() {
        let default = |name: &str| RULE.iter().find(|key| key.name == name).unwrap().default.unwrap();
        assert_eq!(span::parse(default("for")).unwrap(), compile::DEFAULT_HOLD);
        assert_eq!(default("min_samples"), compile::DEFAULT_MIN_SAMPLES.to_string());
        assert_eq!(default("no_data"), word(&NO_DATA, &NoData::default()));
        assert_eq!(default("scope"), word(&SCOPES, &false));
        let variant = |name: &str| VARIANT.iter().find(|key| key.name == name).unwrap().default;
        assert_eq!(variant("confirm"), Some(word(&CONFIRMS, &Default::default())));
        assert_eq!(variant("mode"), Some(word(&MODES, &false)));
    }

    #[test]
    fn every_word_is_the_one_that_is_stored() {
        for (word, action) in ACTIONS {
            assert_eq!(word, action.as_str());
        }
        for (word, severity) in SEVERITIES {
            assert_eq!(word, severity.as_str());
        }
        for (word, dimension) in DIMENSIONS {
            assert_eq!(word, dimension.as_str());
        }
    }
}

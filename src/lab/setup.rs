//! What rules need around them when there is no configuration of a daemon: flags to roll back, and baselines to compare with.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use crate::engine::input::Limits;
use crate::engine::rule::{Rule, RuleSet};
use crate::ingest::decode::{Bounds, Decoder, LATEST};
use crate::model::flag::{FlagSpec, SHARE_MAX};
use crate::model::id::Variant;
use crate::model::metric::Catalogue;

/// What all sets of rules of a run have in common.
#[derive(Clone, Debug)]
pub struct Bench {
    pub catalogue: Arc<Catalogue>,
    pub limits: Limits,
    /// Event time that a minute stays open after its end.
    pub lateness: Duration,
}

/// One set of rules, complete: every rule has a flag, and a baseline where one is known.
#[derive(Clone, Debug)]
pub struct Setup {
    pub rules: RuleSet,
    pub flags: Vec<FlagSpec>,
}

/// The control of a flag that nobody has named. No event can carry it, so it never measures anything.
pub const UNKNOWN_CONTROL: &str = "";

impl Setup {
    /// Completes compiled rules. A baseline is, in this order: the rule file's or the flag's control (both are in the compiled
    /// rule), the one of `given` of the same feature, the only other variant of the same feature among those `seen` in the
    /// stream. The last is a guess, and made only for rules that compare with a baseline. Flags that `flags` does not hold are
    /// made up, so that a rollback that would be decided is shown.
    pub fn new(
        rules: RuleSet,
        flags: &[FlagSpec],
        given: &[Variant],
        seen: Option<&BTreeSet<Variant>>,
    ) -> Self {
        let mut setup = Self { rules, flags: flags.to_vec() };
        for rule in &mut setup.rules.rules {
            let found = rule
                .baseline
                .clone()
                .or_else(|| of_same_feature(rule, given).next().cloned())
                .or_else(|| seen.filter(|_| compares(rule)).and_then(|seen| only_other(rule, seen)));
            if rule.baseline != found {
                Arc::make_mut(rule).baseline = found;
            }
            if !setup.flags.iter().any(|flag| flag.key == rule.flag) {
                setup.flags.push(FlagSpec {
                    key: rule.flag.clone(),
                    control: rule.baseline.clone().unwrap_or_else(|| UNKNOWN_CONTROL.into()),
                    treatment: rule.variant.clone(),
                    share: SHARE_MAX,
                    frozen: false,
                    served: None,
                    drill: false,
                });
            }
        }
        setup
    }

    /// Rules that compare with a baseline and have none: they are always unknown.
    pub fn without_baseline(&self) -> impl Iterator<Item = &Rule> {
        self.rules.rules.iter().map(Arc::as_ref).filter(|rule| rule.baseline.is_none() && compares(rule))
    }
}

/// Whether the variants of the stream have to be known before it is run: some rule compares with a baseline that neither its
/// file, nor a flag, nor `given` names.
pub fn needs_variants(rules: &RuleSet, given: &[Variant]) -> bool {
    rules.rules.iter().any(|rule| {
        compares(rule) && rule.baseline.is_none() && of_same_feature(rule, given).next().is_none()
    })
}

fn compares(rule: &Rule) -> bool {
    rule.condition.reads_baseline() || rule.clear.reads_baseline()
}

fn of_same_feature<'a>(
    rule: &'a Rule,
    among: impl IntoIterator<Item = &'a Variant>,
) -> impl Iterator<Item = &'a Variant> {
    among.into_iter().filter(|v| v.feature() == rule.variant.feature() && **v != rule.variant)
}

fn only_other(rule: &Rule, seen: &BTreeSet<Variant>) -> Option<Variant> {
    let mut others = of_same_feature(rule, seen);
    others.next().filter(|_| others.next().is_none()).cloned()
}

/// Collects the variants of a stream, message by message.
#[derive(Debug, Default)]
pub struct Census {
    decoder: Decoder,
    seen: BTreeSet<String>,
    last: String,
}

/// More variants than any log has: a stream of made-up names must not fill the memory.
const MOST_VARIANTS: usize = 10_000;

impl Census {
    /// Looks at one message; what is no event names no variant.
    pub fn look(&mut self, message: &[u8]) {
        let Ok(event) = self.decoder.decode(message, &Bounds::default(), LATEST) else {
            return;
        };
        if event.variant == self.last {
            return;
        }
        self.last.clear();
        self.last.push_str(event.variant);
        if self.seen.len() < MOST_VARIANTS && !self.seen.contains(event.variant) {
            self.seen.insert(event.variant.to_owned());
        }
    }

    /// The variants seen.
    pub fn finish(self) -> BTreeSet<Variant> {
        self.seen.into_iter().map(Variant::from).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::rule::compile::compile_rules;

    fn rules(text: &str, flags: &[FlagSpec]) -> RuleSet {
        compile_rules(&[("r.yaml", text)], &Catalogue::default(), flags).unwrap().rules
    }

    fn census(variants: &[&str]) -> BTreeSet<Variant> {
        let mut census = Census::default();
        for (id, variant) in variants.iter().enumerate() {
            let event = format!(
                r#"{{"id":"{id}","ts":"2026-01-01T00:00:00Z","variant":"{variant}","metrics":{{}}}}"#
            );
            census.look(event.as_bytes());
            census.look(b"no event");
        }
        census.finish()
    }

    const COMPARES: &str =
        "- variant: shop.v2\n  rules: [{ condition: error_rate_1h > baseline*3, action: rollback }]\n";
    const PLAIN: &str =
        "- variant: shop.v2\n  rules: [{ condition: error_rate_1h > 0.3, action: rollback }]\n";

    #[test]
    fn baselines_are_looked_for_in_their_order() {
        let own = format!("{COMPARES}  baseline: shop.own\n");
        let flag = FlagSpec {
            key: "ai.shop.v2".into(),
            control: "shop.control".into(),
            treatment: "shop.v2".into(),
            share: 1,
            frozen: false,
            served: None,
            drill: false,
        };
        let given: [Variant; 2] = ["other.v1".into(), "shop.given".into()];
        let seen = census(&["shop.v2", "shop.seen", "other.v1", "shop.v2"]);
        let two = census(&["shop.v2", "shop.v1", "shop.v0"]);
        let none = BTreeSet::new();
        type Case<'a> = (&'a str, &'a [FlagSpec], &'a [Variant], &'a BTreeSet<Variant>, Option<&'a str>);
        let flags = std::slice::from_ref(&flag);
        let cases: [Case<'_>; 7] = [
            (&own, flags, &given, &seen, Some("shop.own")),
            (COMPARES, flags, &given, &seen, Some("shop.control")),
            (COMPARES, &[], &given, &seen, Some("shop.given")),
            (COMPARES, &[], &[], &seen, Some("shop.seen")),
            (COMPARES, &[], &[], &two, None),
            (COMPARES, &[], &given[..1], &none, None),
            (PLAIN, &[], &[], &seen, None),
        ];
        for (place, (text, flags, given, seen, wanted)) in cases.into_iter().enumerate() {
            let setup = Setup::new(rules(text, flags), flags, given, Some(seen));
            let found = setup.rules.rules[0].baseline.as_ref().map(Variant::as_str);
            assert_eq!(found, wanted, "case {place}");
            let control = wanted.filter(|_| flags.is_empty()).unwrap_or(UNKNOWN_CONTROL);
            let wanted_control = if flags.is_empty() { control } else { "shop.control" };
            assert_eq!(setup.flags[0].control.as_str(), wanted_control, "case {place}");
            assert_eq!(setup.without_baseline().count(), usize::from(wanted.is_none() && text != PLAIN));
        }
        assert!(needs_variants(&rules(COMPARES, &[]), &given[..1]));
        assert!(!needs_variants(&rules(COMPARES, &[]), &given));
        assert!(!needs_variants(&rules(PLAIN, &[]), &[]));
    }
}

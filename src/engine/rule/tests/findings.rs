use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{compile, flags, one, said};
use crate::engine::budget::Timing;
use crate::engine::rule::compile::{Compiled, attempt};
use crate::engine::rule::diagnostic::Diagnostic;
use crate::engine::rule::review::{check_budgets, review};
use crate::engine::rule::{Condition, Measurement, clear, condition, eval, logic};
use crate::model::metric::Catalogue;

fn reviewed(text: &str) -> Vec<String> {
    let compiled = compile(text).unwrap_or_else(|errors| panic!("{text}\n{errors:#?}"));
    let found = review(&compiled, &Catalogue::default(), true);
    said(Ok(Compiled { warnings: found, ..Compiled::default() }))
}

/// Two rules of `shop.v2`, each as `condition, action[, more]`.
fn two(first: &str, second: &str) -> Vec<String> {
    let rule = |text: &str| {
        let (condition, rest) = text.split_once(", ").unwrap();
        format!("    - {{ condition: \"{condition}\", action: {rest} }}\n")
    };
    reviewed(&format!("- variant: shop.v2\n  rules:\n{}{}", rule(first), rule(second)))
}

#[test]
fn rules_in_the_shadow_of_another_are_told() {
    let shadow = |line: usize, by: usize, does: &str| {
        format!(
            "{line}:21 `{line}` never does anything of its own: whenever its condition holds, so does that of `{by}` on line {by}, which {does}"
        )
    };
    let named = |text: &str, id: usize| format!("{text}, id: '{id}'");
    for (first, second, wanted) in [
        // The same action: the weaker condition does it all.
        ("cost_1h > 1, rollback", "cost_1h > 2, rollback", Some((4, 3, "rolls back"))),
        ("cost_1h > 2, rollback", "cost_1h > 1, rollback", Some((3, 4, "rolls back"))),
        ("faithfulness_1h < 0.9, rollback", "faithfulness_1h <= 0.8, rollback", Some((4, 3, "rolls back"))),
        ("cost_1h > 1, rollback", "cost_1h >= 1, rollback", Some((3, 4, "rolls back"))),
        // Both round to the same bucket, so they are one rule in two spellings: the first stays.
        ("cost_p95_1h > 0.05, rollback", "cost_p95_1h >= 0.05, rollback", Some((4, 3, "rolls back"))),
        ("cost_1h > baseline*2, rollback", "cost_1h > baseline*3, rollback", Some((4, 3, "rolls back"))),
        ("cost_1h > 1, rollback", "cost_1h > 1 && latency_1h > 9, rollback", Some((4, 3, "rolls back"))),
        ("cost_1h > 1 || latency_1h > 9, rollback", "latency_1h > 9, rollback", Some((4, 3, "rolls back"))),
        ("cost_1h > 1, pause_rollout", "cost_1h > 2, notify", Some((4, 3, "pauses"))),
        // A stronger action covers a weaker one, not the other way round.
        ("faithfulness_1h < 0.92, pause_rollout", "faithfulness_1h < 0.9, rollback", None),
        (
            "faithfulness_1h < 0.9, pause_rollout",
            "faithfulness_1h < 0.92, rollback",
            Some((3, 4, "rolls back")),
        ),
        // Anything that the other does not do is a reason to stay.
        ("cost_1h > 1, rollback", "cost_1h > 2, rollback, for: 2m", None),
        ("cost_1h > 1, rollback", "cost_1h > 2, rollback, min_samples: 50", None),
        ("cost_1h > 1, notify", "cost_1h > 2, notify, page: true", None),
        ("cost_1h > 1, notify", "cost_1h > 2, notify, severity: critical", None),
        ("cost_1h > 1, rollback", "cost_1h > 2, rollback, mode: dry_run", None),
        ("cost_1h > 1, rollback", "cost_1h > 2, rollback, by: tenant", None),
        ("cost_1h > 1, rollback", "cost_1h > 2, rollback, no_data: notify", None),
        ("cost_1h > 1, pause_rollout", "cost_1h > 2, pause_rollout, dwell: 2h", None),
        // Other measurements, other directions, what cannot be compared.
        ("cost_1h > 1, rollback", "cost_5m > 2, rollback", None),
        ("cost_1h > 1, rollback", "latency_1h > 2, rollback", None),
        ("cost_1h > 1, rollback", "cost_p95_1h > 2, rollback", None),
        ("cost_1h > baseline*2, rollback", "cost_1h > 2, rollback", None),
        ("cost_1h > 1 && latency_1h > 9, rollback", "cost_1h > 2, rollback", None),
        ("cost_1h * 2 > 1, rollback", "cost_1h > 2, rollback", None),
    ] {
        let found = two(&named(first, 3), &named(second, 4));
        match wanted {
            None => assert!(found.is_empty(), "{first} | {second}: {found:?}"),
            Some((line, by, does)) => {
                assert_eq!(found.len(), 1, "{first} | {second}: {found:?}");
                assert!(found[0].starts_with(&shadow(line, by, does)), "{first} | {second}: {found:?}");
            }
        }
    }
}

#[test]
fn what_is_hardly_meant_is_a_warning() {
    for (condition, more, wanted) in [
        (
            "faithfulness_1h > 0.92",
            &["action: pause_rollout"][..],
            "3:18 `faithfulness_1h-pause` acts when `faithfulness` is good: higher is better (turn the comparison round (`<`)",
        ),
        (
            "latency_p95_1h < 100",
            &[],
            "3:18 `latency_p95_1h-rollback` acts when `latency` is good: lower is better",
        ),
        (
            "faithfulness_1h < baseline*1.05",
            &[],
            "3:18 `faithfulness_1h < baseline*1.05` holds while the variant is exactly as good as its baseline",
        ),
        (
            "cost_1h > baseline/2",
            &[],
            "3:18 `cost_1h > baseline/2` holds while the variant is exactly as good",
        ),
        (
            "cost_1h > 1",
            &["action: pause_rollout", "for: 8h"],
            "5:12 `for: 8h` is longer than the 6h of history that are kept",
        ),
        (
            "latency_p95_1h > 0.7",
            &[],
            "3:18 `latency_p95_1h > 0.7` is finer than the metric's buckets: it is judged as `> 1`",
        ),
    ] {
        let catalogue = Catalogue::default();
        let found = review(&one(condition, more).unwrap(), &catalogue, true);
        let found = said(Ok(Compiled { warnings: found, ..Compiled::default() }));
        assert!(found.len() == 1 && found[0].starts_with(wanted), "{condition}: {found:?}");
    }
    for (condition, more) in [
        ("faithfulness_1h > 0.92", "action: notify"),
        ("latency_count_5m < 100", "for: 3m"),
        ("faithfulness_1h < baseline*0.95", "for: 3m"),
        ("cost_p95_1h > 0.05", "for: 3m"),
    ] {
        let found = review(&one(condition, &[more]).unwrap(), &Catalogue::default(), true);
        assert!(found.is_empty(), "{condition}: {found:?}");
    }
}

#[test]
fn conditions_that_never_change_are_refused() {
    for (condition, wanted) in [
        ("cost_1h > 5 && cost_1h < 3", "the condition is never true"),
        ("cost_1h > 5 && latency_1h > 1 && cost_1h <= 5", "the condition is never true"),
        (
            "faithfulness_1h < 0.5 && (faithfulness_1h > 0.6 || faithfulness_1h > 0.7)",
            "the condition is never true",
        ),
        ("cost_1h > baseline*3 && cost_1h < baseline*2", "the condition is never true"),
        ("cost_1h > 3 || cost_1h < 5", "the condition is always true"),
        ("cost_1h > 3 || cost_1h <= 3", "the condition is always true"),
        ("faithfulness_1h == 3", "the condition is never true"),
        (
            "faithfulness_stddev_1h > 0.6",
            "`faithfulness_stddev_1h > 0.6` is never true: `faithfulness_stddev_1h` lies between 0 and 0.5",
        ),
    ] {
        let found = said(one(condition, &[]));
        assert!(
            found.len() == 1 && found[0].starts_with(&format!("3:18 {wanted}")),
            "{condition}: {found:?}"
        );
    }
    for condition in [
        "cost_1h >= 5 && cost_1h <= 5",
        // With a baseline of zero both hold.
        "cost_1h >= baseline*3 && cost_1h <= baseline*2",
        "cost_1h > 5 && cost_5m < 3",
        "cost_1h > 3 || cost_1h < 3",
    ] {
        assert!(one(condition, &[]).is_ok(), "{condition}");
    }
}

#[test]
fn a_clear_that_holds_during_the_breach_is_told() {
    for (condition, clear, wanted) in [
        ("cost_1h > baseline*2", "cost_1h < baseline*3", Some("`clear` begins on the bad side")),
        ("cost_1h > baseline*2", "cost_1h > baseline", Some("`clear` looks to the bad side")),
        ("cost_1h > 1 || latency_1h > 9", "cost_1h < 0.9", Some("`clear` can hold while the breach goes on")),
        ("cost_1h > 1 && latency_1h > 9", "cost_1h < 1.5", Some("`clear` can hold while the breach goes on")),
        ("cost_1h > 1 && latency_1h > 9", "cost_1h < 0.9", None),
        ("cost_1h > 1", "cost_5m < 0.9", None),
        ("cost_1h > 1", "cost_1h + 0 < 5", None),
    ] {
        let found = said(one(condition, &[&format!("clear: {clear}")]));
        let message = found.first().and_then(|text| text.split_once(' ')).map(|(_, text)| text);
        match wanted {
            Some(wanted) => assert!(message.is_some_and(|m| m.starts_with(wanted)), "{condition}: {found:?}"),
            None => assert!(found.is_empty(), "{condition}: {found:?}"),
        }
    }
}

const PARTS: [&str; 12] = [
    "cost_1h > 1",
    "cost_1h > 2",
    "cost_1h <= 2",
    "cost_1h >= 1",
    "cost_1h < baseline(cost_1h)",
    "cost_1h > baseline(cost_1h) * 2",
    "cost_1h >= baseline(cost_1h) * 3",
    "faithfulness_1h < 0.5",
    "faithfulness_1h == 0.5",
    "latency_p95_1h > 1",
    "latency_p95_1h < 3",
    "cost_1h + faithfulness_1h > 2",
];

fn conditions() -> impl Strategy<Value = Condition> {
    let text = prop::collection::vec((0..PARTS.len(), any::<bool>(), any::<bool>()), 1..6);
    text.prop_map(|parts| {
        let mut text = String::new();
        for (part, and, not) in parts {
            let joint = if and { " && " } else { " || " };
            let part = if not { format!("!({})", PARTS[part]) } else { PARTS[part].to_owned() };
            text = if text.is_empty() { part } else { format!("({text}){joint}{part}") };
        }
        let catalogue = Catalogue::default();
        condition::parse(&text, &catalogue).unwrap().finish(&catalogue).0
    })
}

/// The numbers that thresholds of [`PARTS`] tell apart, and zero.
const LEVELS: [f64; 9] = [0.0, 0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 3.0, 7.0];

proptest! {
    /// What is proved of conditions holds for all numbers: measurements of the same name are the same in both.
    #[test]
    fn proofs_hold(a in conditions(), b in conditions(), levels in prop::collection::vec(prop::sample::select(LEVELS.to_vec()), 8)) {
        let catalogue = Catalogue::default();
        let mut known: BTreeMap<Measurement, f64> = BTreeMap::new();
        for slot in a.slots.iter().chain(&b.slots) {
            let next = levels[known.len()];
            known.entry(*slot).or_insert_with(|| next.min(logic::most(slot, &catalogue)));
        }
        let holds = |c: &Condition| eval::truth(&c.expr, &mut |slot| Ok(known[&c.slots[slot]]));
        if logic::implies(&a, &b, &catalogue) && holds(&a) == Ok(true) {
            prop_assert_eq!(holds(&b), Ok(true), "{} => {}", a.source, b.source);
        }
        if logic::never(&a.expr, &a.slots, &catalogue) {
            prop_assert_eq!(holds(&a), Ok(false), "{}", &a.source);
        }
        if logic::always(&a.expr, &a.slots, &catalogue) {
            prop_assert_eq!(holds(&a), Ok(true), "{}", &a.source);
        }
        prop_assert!(logic::implies(&a, &a, &catalogue), "{}", &a.source);
    }

    /// The `clear` that is derived never overlaps with its breach.
    #[test]
    fn derived_clears_do_not_overlap(a in conditions()) {
        let catalogue = Catalogue::default();
        let derived = clear::derive(&condition::parse(&a.source, &catalogue).unwrap(), &catalogue);
        prop_assert!(!logic::overlap(&a, &derived, &catalogue), "{} | {}", a.source, derived.source);
    }

    /// Whatever is in a file, all that is said has its place in it, and is the same the next time and with a comment at the end.
    #[test]
    fn findings_are_stable(
        rules in prop::collection::vec((0..PARTS.len(), 0..PARTS.len(), 0usize..5, any::<bool>()), 1..8),
        typo in prop::option::of(0usize..40),
    ) {
        let more = ["", ", for: 9h", ", by: tenant, min_samples: 5", ", clear: cost_1h < 1.5", ", page: oncall, id: a"];
        let action = |first: usize| ["rollback", "pause_rollout", "notify"][first % 3];
        let mut text = "- variant: shop.v2\n  rules:\n".to_owned();
        for (first, second, extra, and) in rules {
            let joint = if and { "&&" } else { "||" };
            let (a, b) = (PARTS[first], PARTS[second]);
            text += &format!("    - {{ condition: \"{a} {joint} {b}\", action: {}{} }}\n", action(first), more[extra]);
        }
        if let Some(at) = typo {
            text.remove(30 + at);
        }
        let all = |text: &str| -> Vec<Diagnostic> {
            let catalogue = Catalogue::default();
            let (compiled, mut found) = attempt(&[("r.yaml", text)], &catalogue, &flags());
            found.extend(review(&compiled, &catalogue, found.iter().all(|d| !d.is_error())));
            found.extend(check_budgets(&compiled, &Timing::default()));
            found
        };
        let found = all(&text);
        for one in &found {
            prop_assert!(text.get(one.span.offset..one.span.end()).is_some(), "{}", one);
            prop_assert!(one.line >= 1 && one.line <= text.lines().count(), "{}", one);
        }
        prop_assert_eq!(&all(&text), &found);
        prop_assert_eq!(&all(&format!("{text}# the end\n")), &found);
    }
}

const REASON: &str = "no_time_bound: 'the on-call watches the mean'";

#[test]
fn what_may_take_any_time_wants_a_companion_or_a_reason() {
    let alone = "faithfulness_1h < 0.9, rollback, confirm: evidence, id: slow";
    let waived = format!("{alone}, {REASON}");
    let other = "abstain_rate_1h > 0.2, pause_rollout, id: other";
    let companion = "faithfulness_1h < 0.8, pause_rollout, id: fast";
    let unbounded = "`slow` is confirmed by evidence alone: nothing bounds how long a breach lasts";
    let of = |first: &str, second: &str| -> Vec<String> {
        two(first, second).into_iter().filter(|said| said.contains("bound")).collect()
    };
    for (first, second, wanted) in [
        (alone, other, Some(unbounded)),
        (&waived, other, None),
        (alone, companion, None),
        (&waived, companion, Some("accepts nothing: `fast` bounds the time by acting on the same metric")),
        // One that only tells, or that waits for evidence itself, bounds nothing.
        (alone, "faithfulness_1h < 0.8, notify", Some(unbounded)),
        (alone, "faithfulness_1h < 0.8, pause_rollout, confirm: evidence", Some(unbounded)),
        (&waived, "faithfulness_1h < 0.8, notify", None),
        (
            &format!("faithfulness_1h < 0.9, rollback, id: slow, {REASON}"),
            other,
            Some(
                "`no_time_bound` of `slow` accepts nothing: `confirm: either` acts on a breach that lasts (remove the key)",
            ),
        ),
        (
            &format!("faithfulness_1h < 0.9, notify, confirm: evidence, id: slow, {REASON}"),
            other,
            Some("`no_time_bound` of `slow` accepts nothing: `notify` rolls nothing back (remove the key)"),
        ),
    ] {
        let found = of(first, second);
        match wanted {
            Some(wanted) => {
                assert!(found.len() == 1 && found[0].contains(wanted), "{first}; {second}: {found:#?}")
            }
            None => assert!(found.is_empty(), "{first}; {second}: {found:#?}"),
        }
    }
}

#[test]
fn a_reason_is_more_than_a_word_and_no_part_of_the_rule() {
    let rule = |reason: &str| one("faithfulness_1h < 0.9", &["confirm: evidence", reason]);
    for (value, column) in [("accepted", 22), ("true", 22), ("3", 22), ("'  '", 22), ("[a, b]", 22)] {
        let errors = said(rule(&format!("no_time_bound: {value}")));
        assert!(
            errors.len() == 1 && errors[0].starts_with(&format!("6:{column} `no_time_bound` must")),
            "{errors:?}"
        );
    }
    let of = |reason: &str| rule(reason).unwrap();
    let (plain, waived, again) =
        (of("id: r"), of("no_time_bound: a b"), of("no_time_bound: for another reason"));
    let hash = |compiled: &Compiled| compiled.rules.rules[0].hash.clone();
    assert_eq!((hash(&plain), hash(&waived)), (hash(&waived), hash(&again)));
    assert_eq!(waived.rules.rules, again.rules.rules, "the rule in force is the same");
    assert_eq!(again.notes[0].no_time_bound.as_ref().unwrap().0, "for another reason");
}

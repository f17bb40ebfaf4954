use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::{compile, flags, one};
use crate::engine::budget::{Budget, Timing};
use crate::engine::layout::Layout;
use crate::engine::rule::compile::{compile_rules, schema_for};
use crate::engine::rule::diagnostic::Level;
use crate::engine::rule::keys::{self, Form};
use crate::engine::rule::review::{check_budgets, review};
use crate::engine::rule::{
    Arm, Condition, Expr, NoData, Page, Rule, RuleAction, Shape, Side, Stat, Threshold, condition, eval,
    identifier, write,
};
use crate::model::flag::Dimension;
use crate::model::incident::Severity;
use crate::model::metric::Catalogue;

const FILE: &str = include_str!("../../../../rules/support-copilot.yaml");

fn condition(text: &str) -> Condition {
    let catalogue = Catalogue::default();
    let parsed = condition::parse(text, &catalogue).unwrap_or_else(|faults| panic!("{text}: {faults:?}"));
    parsed.finish(&catalogue).0
}

fn rule(condition: &str, more: &[&str]) -> Arc<Rule> {
    let compiled = one(condition, more).unwrap_or_else(|errors| panic!("{condition}: {errors:?}"));
    Arc::clone(&compiled.rules.rules[0])
}

#[test]
fn every_word_that_editors_are_offered_is_read() {
    let mut read = 0;
    for key in keys::RULE {
        let Form::Choice(words) = key.form else { continue };
        for word in words() {
            // `scope` says something with `by` only.
            let mut lines = vec![format!("{}: {word}", key.name)];
            lines.extend((key.name == "scope").then(|| "by: tier".to_owned()));
            let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
            rule("faithfulness_1h < 0.9", &lines);
            read += 1;
        }
    }
    assert_eq!(read, 3 + 4 + 3 + 3 + 3 + 2 + 2, "action, confirm, severity, no_data, by, scope, mode");
}

#[test]
fn the_file_of_the_design_compiles_unchanged() {
    let catalogue = Catalogue::default();
    let compiled = compile_rules(&[("f", FILE)], &catalogue, &[]).unwrap();
    let ids: Vec<&str> = compiled.rules.rules.iter().map(|r| r.id.as_str()).collect();
    assert_eq!(
        ids,
        [
            "faithfulness_1h-pause",
            "faithfulness_6h-rollback",
            "abstain_rate_1h-rollback",
            "cost_p95_1h-pause",
            "ai.injection.suspected_rate_1h-rollback",
        ]
    );
    let rule = &compiled.rules.rules[1];
    assert_eq!(rule.flag.as_str(), "ai.support-copilot.prompt-v18");
    assert_eq!(rule.hold, Duration::from_secs(180));
    assert_eq!(rule.dwell, Duration::from_secs(90 * 60));
    assert_eq!(rule.min_samples, 100);
    assert_eq!(rule.severity, Severity::Critical);
    assert_eq!(rule.failure_class, "quality_regression");
    assert_eq!((rule.origin.line, rule.hash.0.len()), (5, 16));
    let injection = &compiled.rules.rules[4];
    assert_eq!(injection.failure_class, "prompt_injection");
    assert!(matches!(
        injection.condition.shape,
        Shape::Simple { slot: 0, side: Side::Above, threshold: Threshold::Baseline { slot: 1, factor: 3.0 } }
    ));
    assert_eq!(compiled.notes[3].roundings[0].written, "> 0.05");
}

#[test]
fn every_key_is_read() {
    let rule = rule(
        "abstain_rate_5m > 0.2",
        &[
            "id: refusals",
            "for: 4m",
            "confirm: persistence",
            "min_samples: 7",
            "clear: abstain_rate_5m < 0.1",
            "dwell: 20m",
            "severity: warning",
            "failure_class_hint: moderation",
            "no_data: pause",
            "by: tenant",
            "scope: all",
            "mode: dry_run",
            "runbook: https://wiki/x",
            "page: night-shift",
            "action: pause_rollout",
        ],
    );
    assert_eq!(rule.id.as_str(), "refusals");
    assert_eq!((rule.hold.as_secs(), rule.min_samples, rule.dwell.as_secs()), (240, 7, 1_200));
    assert_eq!(rule.clear.source, "abstain_rate_5m < 0.1");
    assert_eq!((rule.severity, rule.failure_class.as_str()), (Severity::Warning, "moderation"));
    assert_eq!((rule.no_data, rule.by, rule.whole_flag), (NoData::Pause, Some(Dimension::Tenant), true));
    assert_eq!((rule.dry_run, rule.runbook.as_deref()), (true, Some("https://wiki/x")));
    assert_eq!((&rule.page, rule.action), (&Page::Receiver("night-shift".into()), RuleAction::PauseRollout));
    assert_eq!(rule.baseline.as_ref().unwrap().as_str(), "shop.v1");
    let text = "\
- variant: shop.v2
  baseline: shop.v0
  flag: ai.shop.v2
  owner: team-shop
  confirm: either
  mode: dry_run
  rules:
    - { condition: cost_1h > 3, action: notify, mode: live, page: true }
    - { condition: cost_5m > 3, action: notify, page: false }
";
    let compiled = compile(text).unwrap();
    let [first, second] = compiled.rules.rules.as_slice() else { panic!() };
    assert_eq!(first.baseline.as_ref().unwrap().as_str(), "shop.v0");
    assert_eq!(first.owner.as_deref(), Some("team-shop"));
    assert_eq!((first.dry_run, second.dry_run), (false, true));
    assert_eq!((&first.page, &second.page), (&Page::Always, &Page::Never));
    assert_eq!(first.severity, Severity::Info);
}

#[test]
fn shapes_are_recognised() {
    let constant = |side, value| Shape::Simple { slot: 0, side, threshold: Threshold::Const(value) };
    let baseline =
        |side, factor| Shape::Simple { slot: 0, side, threshold: Threshold::Baseline { slot: 1, factor } };
    for (text, shape) in [
        ("faithfulness_1h < 0.92", constant(Side::Below, 0.92)),
        ("0.92 >= faithfulness_1h", constant(Side::Below, 0.92)),
        ("!(faithfulness_1h >= 0.92)", constant(Side::Below, 0.92)),
        ("latency_1h > 2*0.4 + 1/5", constant(Side::Above, 1.0)),
        ("latency_sum_1h > 1e-3", constant(Side::Above, 0.001)),
        ("cost_p95_1h > baseline", baseline(Side::Above, 1.0)),
        ("cost_p95_1h > 2*baseline*1.5", baseline(Side::Above, 3.0)),
        ("cost_p95_1h > baseline(cost_p95_1h)/4", baseline(Side::Above, 0.25)),
        ("cost_p95_1h > (baseline*3)", baseline(Side::Above, 3.0)),
        ("cost_p95_1h > baseline(cost_p95_5m)*2", Shape::Other),
        ("cost_p95_1h > baseline + 0.1", Shape::Other),
        ("cost_p95_1h > -baseline", Shape::Other),
        ("cost_1h + latency_1h > 2", Shape::Other),
        ("cost_1h == 2", Shape::Other),
        ("cost_1h > 2 && latency_1h > 3", Shape::Other),
        ("cost_1h > cost_5m", Shape::Other),
    ] {
        assert_eq!(condition(text).shape, shape, "{text}");
    }
    // Written the other way round, the measurement still comes first.
    let flipped = condition("baseline*3 < cost_1h");
    assert_eq!(
        flipped.shape,
        Shape::Simple { slot: 1, side: Side::Above, threshold: Threshold::Baseline { slot: 0, factor: 3.0 } }
    );
    assert_eq!(flipped.slots[1].arm, Arm::Own);
}

#[test]
fn precedence_is_the_usual_one() {
    for (text, value) in [
        ("1 + 2 * 3 - 4", 3.0),
        ("10 - 4 - 3", 3.0),
        ("2 * -3 + 4", -2.0),
        ("-2 ^ 2", -4.0),
        ("2 ^ -1 * 4", 2.0),
        ("7 % 4 / 2", 1.5),
        ("(1 + 2) * 3", 9.0),
        ("1 - -1", 2.0),
    ] {
        let Expr::Compare(_, _, right) = condition(&format!("latency_mean_1h + cost_1h > {text}")).expr
        else {
            panic!()
        };
        assert_eq!(*right, Expr::Const(value), "{text}");
    }
    let expr = condition("cost_1h > 1 || cost_1h > 2 && !(cost_5m > 3)").expr;
    assert!(matches!(expr, Expr::Or(_, right) if matches!(*right, Expr::And(..))));
}

#[test]
fn the_same_measurement_has_one_slot() {
    let found = condition("cost_1h > 1 && cost_mean_1h < 2 && cost_1h > baseline*2");
    assert_eq!(found.slots.len(), 2);
    assert!(found.reads_baseline());
}

#[test]
fn clear_is_derived_to_the_good_side() {
    for (text, clear) in [
        ("faithfulness_1h < 0.92", "faithfulness_1h >= 0.93"),
        ("faithfulness_1h < 0.995", "faithfulness_1h >= 0.9975"),
        ("abstain_rate_1h > 0.20", "abstain_rate_1h <= 0.19"),
        ("abstain_rate_1h > 0.004", "abstain_rate_1h <= 0.002"),
        ("cost_p95_1h > 0.05", "cost_p95_1h <= 0.045"),
        ("latency_1h > 3500", "latency_1h <= 3150"),
        ("latency_count_5m < 100", "latency_count_5m >= 110"),
        ("faithfulness_p50_1h < 0.95", "faithfulness_p50_1h >= 0.975"),
        (
            "ai.injection.suspected_rate_1h > baseline*3",
            "ai.injection.suspected_rate_1h <= baseline(ai.injection.suspected_rate_1h) * 2.7",
        ),
        ("faithfulness_1h < baseline", "faithfulness_1h >= baseline(faithfulness_1h) + 0.01"),
        ("faithfulness_1h < baseline*0.95", "faithfulness_1h >= baseline(faithfulness_1h) * 0.95 + 0.01"),
        ("cost_1h > 1 && latency_1h > 2000", "cost_1h <= 0.9 || latency_1h <= 1800"),
        (
            "cost_1h > 1 || latency_1h > 2000 && tokens_1h > 10",
            "cost_1h <= 0.9 && (latency_1h <= 1800 || tokens_1h <= 9)",
        ),
        ("cost_1h - latency_1h > 2", "cost_1h - latency_1h <= 1.8"),
        ("cost_1h > latency_1h + 1", "cost_1h <= (latency_1h + 1) * 0.9"),
        ("cost_1h == 3", "cost_1h != 3"),
    ] {
        let rule = rule(text, &["action: pause_rollout"]);
        assert_eq!(rule.clear.source, clear, "{text}");
    }
}

#[test]
fn identity_survives_another_spelling_and_another_runbook() {
    let base = rule("faithfulness_1h < 0.92", &[]);
    for (text, more, same) in [
        ("0.92 >   faithfulness_mean_1h", "runbook: other", true),
        ("faithfulness_1h < 0.91 + 0.01", "severity: info", true),
        ("faithfulness_1h < 0.92", "for: 5m", true),
        ("faithfulness_1h < 0.93", "for: 5m", false),
        ("faithfulness_1h <= 0.92", "for: 5m", false),
        ("faithfulness_6h < 0.92", "for: 5m", false),
        ("faithfulness_1h < 0.92", "by: tier", false),
        ("faithfulness_1h < 0.92", "action: notify", false),
    ] {
        assert_eq!(rule(text, &[more]).hash == base.hash, same, "{text} {more}");
    }
    // Stored with alerts and latches: must not change between versions.
    assert_eq!(base.hash.0, "097c82a2c3a23119");
}

#[test]
fn the_default_sum_is_the_published_one() {
    let timing = Timing::default();
    let budget = Budget::of(&rule("cost_1h > 3", &[]), &timing);
    let terms: Vec<(&str, u64)> = budget.terms.iter().map(|(n, d)| (*n, d.as_secs())).collect();
    assert_eq!(
        terms,
        [
            ("pane", 60),
            ("lateness", 30),
            ("tick", 10),
            ("for", 180),
            ("commit", 5),
            ("flip", 103),
            ("page", 60)
        ]
    );
    assert_eq!(budget.total, Duration::from_secs(448));
    assert_eq!(budget.longest_hold(), Some(Duration::from_secs(300)));
    let slow = Timing { flip_deadline: Duration::from_secs(200), ..timing };
    assert_eq!(Budget::of(&rule("cost_1h > 3", &[]), &slow).total, Duration::from_secs(345 + 200));
}

#[test]
fn slow_rollbacks_are_refused_slow_pauses_are_not() {
    for (action, level) in [("rollback", Level::Error), ("pause_rollout", Level::Warning)] {
        let compiled = one("cost_1h > 3", &["for: 6m", &format!("action: {action}")]).unwrap();
        let found = check_budgets(&compiled, &Timing::default());
        assert_eq!((found.len(), found[0].severity, found[0].line), (1, level, 4));
        assert!(found[0].message.contains("628 s"), "{}", found[0].message);
        assert_eq!(found[0].help.as_deref(), Some("the longest `for` that fits is 5m"));
    }
    let catalogue = Catalogue::default();
    assert_eq!(review(&one("cost_6h > 3", &[]).unwrap(), &catalogue, true).len(), 1);
    let found = review(&compile_rules(&[("f", FILE)], &catalogue, &[]).unwrap(), &catalogue, true);
    assert!(found.is_empty(), "{found:?}");
}

#[test]
fn evidence_alone_has_no_bound_on_time_unless_another_rule_has_one() {
    let alone = one("faithfulness_1h < 0.9", &["confirm: evidence"]).unwrap();
    let catalogue = Catalogue::default();
    let found = review(&alone, &catalogue, true);
    assert_eq!((found.len(), found[0].severity, found[0].line), (1, Level::Warning, 3));
    let budget = Budget::of(&alone.rules.rules[0], &Timing::default());
    assert_eq!(budget.total, Duration::from_secs(448 - 180), "nothing is waited out");
    let companion = "- variant: shop.v2
  rules:
    - condition: faithfulness_1h < 0.9
      action: rollback
      confirm: evidence
    - condition: faithfulness_5m < 0.8
      action: pause_rollout
";
    let both = compile_rules(&[("f", companion)], &catalogue, &[]).unwrap();
    let found = review(&both, &catalogue, true);
    assert!(found.is_empty(), "{found:?}");
}

#[test]
fn schemas_only_grow() {
    let catalogue = Arc::new(Catalogue::default());
    let first = one("cost_1h > baseline*2", &["by: tenant"]).unwrap();
    let schema = schema_for(&first.rules, &flags(), &catalogue, None);
    let names: Vec<&str> = schema.variants().iter().map(|v| v.as_str()).collect();
    assert_eq!(names, ["shop.v2", "shop.v1"]);
    let cost = catalogue.find("cost").unwrap();
    for name in names {
        let id = schema.find(name).unwrap();
        assert_eq!(schema.slices(id), [(Dimension::Tenant, cost)]);
    }
    let next = compile("- variant: zoo.v1\n  rules: [{ condition: cost_1h > 1, action: notify }]").unwrap();
    let grown = schema_for(&next.rules, &flags(), &catalogue, Some(&schema));
    assert_eq!(grown.find("shop.v1"), schema.find("shop.v1"));
    assert_eq!(grown.variants().len(), 3);
}

proptest! {
    /// Whatever value of its bucket the engine reports, only buckets beyond the threshold's own are bad.
    #[test]
    fn quantile_thresholds_are_rounded_outward(threshold in 1.0f64..500_000.0, value in 0.0f64..600_000.0, op in 0usize..4) {
        let text = format!("latency_p95_1h {} {threshold}", ["<", "<=", ">", ">="][op]);
        let found = condition(&text);
        let layout = Layout::new(1.0, 600_000.0);
        let (own, at) = (layout.bucket(threshold), layout.bucket(value));
        let bad = if op < 2 { at < own } else { at > own };
        for reported in [layout.upper(at), layout.lower(at)] {
            prop_assert_eq!(eval::truth(&found.expr, &mut |_| Ok(reported)), Ok(bad));
        }
        let literal = if op < 2 { value < threshold } else { value > threshold };
        prop_assert!(!bad || literal || (value - threshold).abs() <= 1.0);
    }

    /// A condition written out and read again is the same condition.
    #[test]
    fn conditions_survive_writing(
        words in prop::collection::vec(prop::sample::select(vec![
            "cost_1h > 1", "latency_p95_5m < 200", "faithfulness_6h >= baseline(faithfulness_6h) * 0.9",
            "cost_1h + 2 > latency_1h / 3", "!(tokens_sum_1h > 3)", "-cost_1h ^ 2 < 3 - -1",
        ]), 1..6),
        ands in any::<u8>(),
    ) {
        let mut text = String::new();
        for (i, word) in words.iter().enumerate() {
            if i > 0 {
                text.push_str(if ands >> i & 1 == 1 { " && " } else { " || " });
            }
            text.push_str(word);
        }
        let catalogue = Catalogue::default();
        let parsed = condition::parse(&text, &catalogue).unwrap();
        let again = condition::parse(&write::write(&parsed.expr, &parsed.slots, &catalogue), &catalogue).unwrap();
        prop_assert_eq!(&parsed.expr, &again.expr);
        prop_assert_eq!(&parsed.slots, &again.slots);
    }
}

#[test]
fn quantiles_of_one_unit_buckets_are_exact() {
    assert_eq!(Stat::P95.as_str(), "p95");
    let found = condition("latency_p95_1h > 100");
    assert_eq!(identifier::name(&found.slots[0], &Catalogue::default()), "latency_p95_1h");
    assert_eq!(eval::truth(&found.expr, &mut |_| Ok(100.0)), Ok(false));
    assert_eq!(eval::truth(&found.expr, &mut |_| Ok(101.0)), Ok(true));
}

/// The fenced YAML blocks of a document.
fn examples(text: &str) -> Vec<&str> {
    let blocks = text.split("```yaml\n").skip(1);
    blocks.filter_map(|block| block.split("```").next()).collect()
}

#[test]
fn every_example_of_the_documentation_compiles() {
    let blocks = examples(include_str!("../../../../docs/rules.md"));
    assert!(blocks.len() >= 5);
    for block in blocks {
        let found = compile_rules(&[("docs/rules.md", block)], &Catalogue::default(), &[]);
        let compiled = found.unwrap_or_else(|errors| panic!("{block}\n{errors:#?}"));
        assert!(check_budgets(&compiled, &Timing::default()).is_empty(), "{block}");
    }
}

use serde_json::Value;

use super::*;
use crate::cli::check::check;
use crate::engine::rule::RuleSet;
use crate::engine::rule::compile::compile_rules;
use crate::model::flag::FlagSpec;
use crate::model::metric::Catalogue;

/// Every key, names that YAML could take for something else, two entries of one variant, an id that is too long to write.
const HARD: &str = "\
- variant: shop.v2
  baseline: shop.v0
  owner: \"yes\"
  mode: dry_run
  rules:
    - id: '0123'
      condition: \"!(faithfulness_1h >=    0.9)   && latency_p95_1h > baseline(latency_p95_1h)*1.5\"
      action: pause_rollout
      for: 4 min
      confirm: persistence
      min_samples: 7
      clear: faithfulness_1h > 0.95
      dwell: 20m
      severity: critical
      failure_class_hint: null-ish
      no_data: pause
      by: region
      scope: all
      mode: live
      runbook: 'https://wiki.example.com/a: b # c'
      page: '007'
    - { condition: cost_p95_5m > 0.05, action: notify, page: false, by: tenant }
    - { condition: abstain_1h > 0.3, action: rollback, confirm: evidence, no_time_bound: 'yes: by hand # for now' }
    - condition: >
        faithfulness_mean_1h + cost_mean_1h + latency_mean_1h + tokens_mean_1h + ttft_mean_1h + error_rate_1h +
        cost_per_generation_mean_1h > 3
      action: notify
- variant: shop.v2
  baseline: shop.v1
  rules: [{ condition: cost_1h > 1, action: rollback, page: true }]
- variant: a.v1
  rules: [{ condition: cost_sum_6h > 250, action: notify }]
";

fn report(folder: &Path, name: &str, text: &str) -> Report {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    check(&RuleArgs { files: vec![path], config: None }).unwrap_or_else(|found| panic!("{found:#?}"))
}

/// The document as data, and its rules as the rule file that they are.
fn read(text: &str) -> (Value, String) {
    let document: Value = serde_saphyr::from_str(text).unwrap();
    let mut variants = document["variants"].clone();
    for variant in variants.as_array_mut().unwrap() {
        for rule in variant["rules"].as_array_mut().unwrap() {
            rule.as_object_mut().unwrap().remove("audit").unwrap();
        }
    }
    (document, variants.to_string())
}

/// Everything about the rules but where they stand, sorted as the document is.
fn facts(rules: &RuleSet) -> Vec<String> {
    let mut facts: Vec<String> = rules
        .rules
        .iter()
        .map(|rule| format!("{:?}", Rule { origin: Default::default(), ..Rule::clone(rule) }))
        .collect();
    facts.sort();
    facts
}

#[test]
fn what_is_read_again_is_the_same_rules() {
    let folder = tempfile::tempdir().unwrap();
    let shipped = include_str!("../../../../rules/support-copilot.yaml");
    let flags: [FlagSpec; 0] = [];
    for (name, text) in [("hard.yaml", HARD), ("support-copilot.yaml", shipped)] {
        let report = report(folder.path(), name, text);
        let written = document(&report, Timestamp::parse("2026-11-23T10:00:00Z").unwrap()).unwrap();
        let (data, rules) = read(&written);
        let again = compile_rules(&[("again", &rules)], &Catalogue::default(), &flags);
        let again = again.unwrap_or_else(|errors| panic!("{errors:#?}\n{written}"));
        assert_eq!(facts(&again.rules), facts(&report.compiled.rules), "{written}");
        let confirms = |compiled: &crate::engine::rule::compile::Compiled| {
            let mut words: Vec<&str> =
                compiled.rules.rules.iter().map(|rule| rule.confirm.as_str()).collect();
            words.sort_unstable();
            words.join(" ")
        };
        assert_eq!(confirms(&again), confirms(&report.compiled));
        let reasons = |compiled: &crate::engine::rule::compile::Compiled| {
            let notes = compiled.notes.iter();
            notes.filter_map(|note| Some(note.no_time_bound.as_ref()?.0.clone())).collect::<Vec<_>>()
        };
        assert_eq!(reasons(&again), reasons(&report.compiled));
        assert_eq!(reasons(&again).len(), usize::from(name == "hard.yaml"));
        assert_eq!(data["generated_at"], "2026-11-23T10:00:00Z");
        assert_eq!(data["rule_files"][0]["blake3"], blake3::hash(text.as_bytes()).to_hex().as_str());
        for (rule, _) in report.rules() {
            let audits: Vec<&Value> = data["variants"]
                .as_array()
                .unwrap()
                .iter()
                .flat_map(|variant| variant["rules"].as_array().unwrap())
                .map(|rule| &rule["audit"])
                .filter(|audit| audit["hash"] == rule.hash.0 && audit["line"] == rule.origin.line)
                .collect();
            assert_eq!(audits.len(), 1);
            assert_eq!(audits[0]["id"], rule.id.as_str());
            assert_eq!(audits[0]["blake3"], data["rule_files"][0]["blake3"]);
        }
    }
}

#[test]
fn the_order_of_files_does_not_matter() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let rule = |variant: &str| {
        format!("- variant: {variant}\n  rules: [{{ condition: cost_1h > 1, action: notify }}]\n")
    };
    std::fs::write(path("a.yaml"), rule("b.v1")).unwrap();
    std::fs::write(path("b.yaml"), rule("a.v1")).unwrap();
    let variants = |files: [&str; 2]| {
        let args = RuleArgs { files: files.iter().map(|name| path(name)).collect(), config: None };
        let text = document(&check(&args).unwrap(), Timestamp::default()).unwrap();
        read(&text).0["variants"].clone()
    };
    assert_eq!(variants(["a.yaml", "b.yaml"]), variants(["b.yaml", "a.yaml"]));
    assert_eq!(variants(["a.yaml", "b.yaml"])[0]["variant"], "a.v1");
}

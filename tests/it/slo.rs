//! Objectives and long windows: the document's examples compile and say what it says, mistakes are told in their place, and a
//! week of traffic is judged as it should be.

use std::path::Path;

use rearguard::config::Config;
use rearguard::engine::verdict::Reason;

use crate::cli::{Ended, rearguard};
use crate::readme::{blocks, read};

const KAFKA: &str = "kafka: { brokers: \"localhost:9092\", topics: [events] }\n";

/// Runs a command in a folder with this configuration and these rules.
fn run(config: &str, rules: &str, arguments: &[&str]) -> Ended {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("rules")).unwrap();
    std::fs::write(folder.path().join("rearguard.yaml"), format!("{KAFKA}{config}")).unwrap();
    std::fs::write(folder.path().join("rules/r.yaml"), rules).unwrap();
    rearguard(folder.path(), &[], arguments)
}

fn documented() -> (String, Vec<String>) {
    let document = read("docs/slo.md");
    let config = blocks(&document, "yaml slo config").concat();
    (config, blocks(&document, "yaml slo rules"))
}

#[test]
fn the_documents_examples_are_good() {
    let (config, rules) = documented();
    assert_eq!(rules.len(), 2);
    for rules in &rules {
        let checked = run(&config, rules, &["check", "--config", "rearguard.yaml"]);
        assert_eq!(checked.code, 0, "{rules}\n{}{}", checked.out, checked.err);
        let exported = run(&config, rules, &["rules", "export", "--config", "rearguard.yaml"]);
        assert_eq!(exported.code, 0, "{}", exported.err);
    }
    let checked = run(&config, &rules[0], &["check", "--config", "rearguard.yaml"]);
    assert!(
        checked.out.contains("slo.answers: faithfulness < 0.8 is bad, 0.5% of samples may be in 30d"),
        "{}",
        checked.out
    );
}

#[test]
fn a_preset_stands_for_what_the_document_says() {
    let (config, rules) = documented();
    let explained = run(&config, &rules[1], &["rules", "explain", "--config", "rearguard.yaml"]);
    assert_eq!(explained.code, 0, "{}", explained.err);
    let document = read("docs/slo.md");
    for id in ["answers-fast", "answers-slow", "answers-trickle", "replies-fast", "replies-slow"] {
        assert!(explained.out.contains(id), "{id}: {}", explained.out);
    }
    // Of seven days 10 % in three are less than the budget allows.
    assert!(!explained.out.contains("replies-trickle"), "{}", explained.out);
    for factor in ["above 14.4", "above 6,", "above 3.36", "above 1.4"] {
        assert!(explained.out.contains(factor), "{factor}: {}", explained.out);
    }
    for line in document.lines().filter(|line| line.starts_with("| `answers-")) {
        let condition = line.split('|').nth(2).unwrap().trim().trim_matches('`');
        let exported = run(&config, &rules[1], &["rules", "export", "--config", "rearguard.yaml"]);
        assert!(exported.out.contains(condition), "{condition}: {}", exported.out);
    }
}

#[test]
fn mistakes_are_told_with_what_would_be_right() {
    let (config, _) = documented();
    let rule = |rule: &str| format!("- variant: a.v2\n  rules: [{{ {rule} }}]\n");
    for (line, said) in [
        ("condition: faithfulness_24h < 0.9, action: rollback", "may pause and notify but not roll back"),
        (
            "condition: slo.answers.budget_remaining < 0, action: rollback",
            "may pause and notify but not roll back",
        ),
        ("condition: slo.anwsers.burn_1h > 2, action: notify", "did you mean `slo.answers.burn_1h`?"),
        ("condition: slo.answers.burn_2h > 2, action: notify", "a burn rate has no window `2h`"),
        ("condition: slo.answers.spent_1h > 2, action: notify", "`slo.answers` measures no `spent_1h`"),
        ("condition: slo.answers.burn_1h > 201, action: notify", "never true"),
        ("condition: faithfulness_24h < 0.9, action: notify, confirm: evidence", "can never fire"),
        ("burn_rate: answer", "did you mean `answers`?"),
        ("burn_rate: answers, condition: error_rate_1h > 0.1", "brings its own conditions"),
    ] {
        let checked = run(&config, &rule(line), &["check", "--config", "rearguard.yaml"]);
        assert_eq!(checked.code, 2, "{line}: {}", checked.out);
        assert!(
            checked.err.contains(said) || checked.out.contains(said),
            "{line}: {}{}",
            checked.out,
            checked.err
        );
    }
    for (slo, said) in [
        ("good: faithfullness >= 0.8, objective: 99%", "did you mean `faithfulness`?"),
        ("good: error, objective: 100%", "must lie between 0% and 100%"),
        ("good: error, objective: 99.5", "write `99.5%`"),
        ("good: error >= 0.5, objective: 99%", "write `good: error` or `good: not error`"),
        ("good: latency, objective: 99%", "write `good: latency >= 0.5`"),
        ("good: latency <= 1500, objective: 99%, period: 31d", "`period` must lie between 1h and 30d"),
        ("good: latency <= 1500", "has no `objective`"),
    ] {
        let text = format!("{KAFKA}slos: {{ x: {{ {slo} }} }}\n");
        let found = Config::parse(Path::new("/etc/rearguard.yaml"), &text, &|_| None).unwrap_err();
        let told: Vec<String> =
            found.iter().map(|d| format!("{} {}", d.message, d.help.clone().unwrap_or_default())).collect();
        assert!(told.iter().any(|line| line.contains(said)), "{slo}: {told:?}");
    }
}

/// Hours of errors that are twice what the objective allows: no short rule sees them, the long ones do, nothing is rolled back.
#[test]
fn slow_burning_is_noticed() {
    let config = "slos: { answers: { good: not error, objective: 99%, period: 2d } }\n";
    let rules = "- variant: shop.v2
  rules:
    - { id: day, condition: error_rate_24h > 0.015, action: notify }
    - { id: now, condition: error_rate_1h > 0.2, action: rollback, confirm: persistence }
    - { id: spent, condition: slo.answers.budget_remaining < 0, action: pause_rollout, clear: slo.answers.burn_1h < 1 }
    - { id: burning, condition: slo.answers.burn_12h > 1.5 && slo.answers.burn_1h > 0.5, action: notify }
";
    let tests = "rules: rules/r.yaml
config: rearguard.yaml
tests:
  - name: slow burning
    input: { shop.v2: '10 events per minute, error 2% for 10h, then error 0% for 5h' }
    expect:
      - { rule: day, action: notify, within: 3h of 0m }
      - { rule: burning, action: notify, within: 6h of 0m }
      - { rule: spent, action: pause_rollout, within: 6h of 0m }
      - { rule: now, never: anything }
      - { at: 9h, rule: day, verdict: breach }
      - { at: 15h, rule: spent, alert: firing }
      - { at: 15h, rule: burning, alert: quiet }
";
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("rules")).unwrap();
    std::fs::write(folder.path().join("rearguard.yaml"), format!("{KAFKA}{config}")).unwrap();
    std::fs::write(folder.path().join("rules/r.yaml"), rules).unwrap();
    std::fs::write(folder.path().join("t.yaml"), tests).unwrap();
    let ended = rearguard(folder.path(), &[], &["test", "t.yaml"]);
    assert_eq!(ended.code, 0, "{}{}", ended.out, ended.err);
}

/// The table of reasons in docs/rules.md has every reason that the engine knows, and no other.
#[test]
fn every_reason_is_documented() {
    // The error names all variants: nothing has to be listed twice.
    let said = serde_json::from_str::<Reason>(r#"{ "reason": "?" }"#).unwrap_err().to_string();
    let (_, list) = said.split_once("expected one of ").unwrap();
    let list = list.split(" at line").next().unwrap();
    let mut known: Vec<&str> = list.split(", ").map(|word| word.trim_matches('`')).collect();
    let document = read("docs/rules.md");
    let (_, table) = document.split_once("| reason |").unwrap();
    let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
    let mut documented: Vec<&str> = rows.map(|row| row.split('`').nth(1).unwrap()).collect();
    known.sort_unstable();
    documented.sort_unstable();
    assert_eq!(documented, known);
}

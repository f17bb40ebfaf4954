//! `rearguard test`: the rules of this repository keep what their tests say, failures explain themselves, mistakes are told all
//! at once, and the document's examples come out as shown.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::cli::{Ended, rearguard};
use crate::examples::{Tried, tried};

const RULES: &str = "- variant: shop.v2\n  rules: [{ condition: error_rate_1h > 0.2, action: rollback, confirm: persistence }]\n";
const FAILING: &str = "rules: r.yaml
tests:
  - name: errors go on
    input: { shop.v2: '30 events per minute, error 1% for 1h, then error 90% for 1h' }
    expect:
      - { action: rollback, within: 5m of 1h }
      - { at: 2h, action: none }
      - { at: 2h, verdict: breach, alert: latched }
  - name: errors <end> & nothing happens
    input: { shop.v2: '30 events per minute, error 1% for 1h' }
    expect: [{ never: anything }]
";

fn here() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn yaml_files(folder: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(here().join(folder)).unwrap();
    let mut files: Vec<PathBuf> =
        entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_file()).collect();
    files.sort();
    files
}

/// Writes the files into a folder of their own and runs `rearguard test` there.
fn test(files: &[(&str, &str)], arguments: &[&str]) -> (tempfile::TempDir, Ended) {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    let ended = rearguard(folder.path(), &[], &[&["test"], arguments].concat());
    (folder, ended)
}

#[test]
fn every_rule_file_has_its_tests_and_keeps_them() {
    let (rules, tests) = (yaml_files("rules"), yaml_files("rules/tests"));
    let names = |files: &[PathBuf]| -> Vec<String> {
        files.iter().map(|file| file.file_name().unwrap().to_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(&rules), names(&tests));
    for (name, test) in names(&rules).iter().zip(&tests) {
        let text = std::fs::read_to_string(test).unwrap();
        assert!(text.contains(&format!("\nrules: ../{name}\n")), "{text}");
    }
    let run = || rearguard(here(), &[], &["test", "--format", "json"]);
    let ended = run();
    assert_eq!((ended.code, ended.err.as_str()), (0, ""), "{ended:?}");
    let report: Value = serde_json::from_str(&ended.out).unwrap();
    assert!(report["passed"].as_u64().unwrap() >= 10 && report["failed"] == 0, "{report}");
    assert_eq!(run().out, ended.out);
    // What the daemon would take.
    let checked = rearguard(here(), &[], &["check", "rules"]);
    assert!(!checked.err.contains("tests"), "{checked:?}");
}

#[test]
fn tests_by_tenant_with_noise_and_dry_runs_hold() {
    let ended = rearguard(here(), &[], &["test", "tests/ruletest/slices.yaml"]);
    assert_eq!((ended.code, ended.err.as_str()), (0, ""), "{ended:?}");
    assert!(ended.out.ends_with("3 tests passed\n"), "{}", ended.out);
}

#[test]
fn a_failure_says_what_was_expected_what_came_and_shows_the_window() {
    let (folder, ended) =
        test(&[("r.yaml", RULES), ("t.yaml", FAILING)], &["t.yaml", "--junit", "junit.xml"]);
    assert_eq!((ended.code, ended.err.as_str()), (1, ""), "{ended:?}");
    ended.says(&[
        "  FAIL  errors go on\n",
        "t.yaml:6\n      expected  action rollback between 1h and 1h5m\n      got       error_rate_1h-rollback rollback at 1h",
        "t.yaml:7\n      expected  no action in force at 2h\n      got       rollback in force: error_rate_1h-rollback",
        "limit 0.2 ┤",
        "1 column = 1 minute",
        "error_rate_1h > 0.2 → rollback\n",
        "quiet → pending",
        "pending → latched",
        "  ok    errors <end> & nothing happens\n",
        "1 test failed, 1 passed\n",
    ]);
    assert!(!ended.out.contains("t.yaml:8"), "{}", ended.out);
    let junit = std::fs::read_to_string(folder.path().join("junit.xml")).unwrap();
    for said in [
        "<testsuites name=\"rearguard test\" tests=\"2\" skipped=\"0\" failures=\"1\" errors=\"0\"",
        "<testsuite name=\"t.yaml\" tests=\"2\"",
        "name=\"errors &lt;end&gt; &amp; nothing happens\"",
        "<failure message=\"expected action rollback between 1h and 1h5m; got",
        "limit 0.2 ┤",
    ] {
        assert!(junit.contains(said), "lacks `{said}`:\n{junit}");
    }
    let filtered = rearguard(folder.path(), &[], &["test", "t.yaml", "--filter", "nothing happens"]);
    assert_eq!((filtered.code, filtered.out.lines().count()), (0, 3), "{filtered:?}");
    let json = rearguard(folder.path(), &[], &["test", "t.yaml", "--format", "json"]);
    let report: Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!((json.code, &report["passed"], &report["failed"]), (1, &1.into(), &1.into()));
    let failures = report["tests"][0]["failures"].as_array().unwrap();
    assert_eq!(
        (failures.len(), &failures[0]["line"], &report["tests"][0]["line"]),
        (2, &6.into(), &3.into())
    );
    assert!(failures[0]["course"].as_array().unwrap().len() >= 3, "{failures:?}");
}

/// A test of one expectation on an hour that goes bad after half an hour.
fn one(expectation: &str) -> Ended {
    let text = format!(
        "rules: r.yaml\ntests:\n  - name: x\n    input: {{ shop.v2: '30 events per minute, error 0% for 30m, then error 90%' }}\n    length: 1h\n    expect: [{expectation}]\n"
    );
    test(&[("r.yaml", RULES), ("t.yaml", &text)], &["t.yaml"]).1
}

#[test]
fn each_expectation_can_hold_and_can_fail() {
    for (holds, fails) in [
        ("{ at: 30m, verdict: pass }", "{ at: 30m, verdict: breach }"),
        ("{ at: 3m, verdict: inconclusive(too_few_samples) }", "{ at: 3m, verdict: inconclusive(no_data) }"),
        ("{ at: 1h, verdict: breach }", "{ at: 1h, verdict: inconclusive }"),
        ("{ at: 1h, alert: latched }", "{ at: 1h, alert: firing }"),
        ("{ at: 30m, alert: quiet }", "{ at: 30m, alert: pending }"),
        ("{ alert: pending, after: 30m }", "{ alert: pending, by: 30m }"),
        ("{ verdict: breach, within: 30m of 30m }", "{ verdict: breach, within: 29m of 1m }"),
        ("{ at: 1h, action: rollback }", "{ at: 1h, action: none }"),
        ("{ at: 30m, action: none }", "{ at: 30m, action: pause_rollout }"),
        ("{ action: rollback, within: 30m of 30m }", "{ action: pause_rollout, within: 30m of 30m }"),
        ("{ decision: rollback, gate: act }", "{ decision: rollback, gate: world_breach }"),
        ("{ decision: rollback, count: 1 }", "{ decision: rollback, count: 2 }"),
        ("{ action: notify, count: 0 }", "{ action: rollback, count: 0 }"),
        ("{ never: [pause_rollout, firing] }", "{ never: [pause_rollout, latched] }"),
        ("{ never: anything, by: 30m }", "{ never: anything }"),
        ("{ never: inconclusive(no_data) }", "{ never: inconclusive(too_few_samples) }"),
        ("{ never: breach, by: 30m }", "{ never: breach, after: 30m }"),
        (
            "{ never: rollback, by: '2026-01-05T00:30:00Z' }",
            "{ never: rollback, by: '2026-01-05T01:00:00Z' }",
        ),
    ] {
        assert_eq!(one(holds).code, 0, "{holds}: {:?}", one(holds));
        let failed = one(fails);
        assert_eq!(failed.code, 1, "{fails}: {failed:?}");
        failed.says(&["      expected  ", "      got       ", "error_rate_1h > 0.2 → rollback"]);
    }
}

#[test]
fn all_mistakes_of_all_files_are_told_and_nothing_runs() {
    let bad = "rules: r.yaml
trafic: {}
tests:
  - name: a
    input: { shop.v3: '60 events per minute, errr 2% for 1h' }
    expect: [{ at: 90s, verdict: pass }, { never: rolback }, { rule: error_rate_2h, at: 1h, alert: quiet }, {}]
  - name: a
    input: { shop.v2: '60 events per minute, error 2%' }
    length: 1h
    expect: [{ at: 2h, action: none }, { count: 1, verdict: pass }, { within: 10m, action: rollback }]
  - name: b
    events: none.jsonl
    seed: 4
    expect: []
  - name: c
    input: { shop.v2: '60 events per minute, error 2%' }
    expect: [{ never: anything }]
  - name: d
    input: { shop.v2: 60 events per minute, error 2% }
    expect: [{ never: anything }]
";
    let good = FAILING.replace("r.yaml", "none.yaml");
    let (folder, ended) =
        test(&[("r.yaml", RULES), ("bad.yaml", bad), ("good.yaml", &good)], &["bad.yaml", "good.yaml"]);
    assert_eq!((ended.code, ended.out.as_str()), (2, ""), "{ended:?}");
    for said in [
        "did you mean `traffic`?",
        "no rule looks at the variant `shop.v3`",
        "`errr` is no metric",
        "`at` cannot be `90s`",
        "did you mean `rollback`?",
        "there is no rule `error_rate_2h`",
        "the expectation claims nothing",
        "the name is taken by the test on line 4",
        "2h comes after the end",
        "`count` goes with",
        "`within: 10m of 2h`",
        "there is no file `none.jsonl`",
        "`seed` does not go with `events`",
        "`expect` is empty",
        "nothing says how long the last segment lasts",
        "put the whole series in quotes",
        "none.yaml: there is no such rule file",
    ] {
        assert!(ended.err.contains(said), "lacks `{said}`:\n{}", ended.err);
    }
    for (arguments, said) in [
        (&["nowhere"][..], "there is no such test file or folder"),
        (&["good.yaml", "--format", "xml"], "possible values: human, json"),
        (&[], "rules/tests"),
    ] {
        let ended = rearguard(folder.path(), &[], &[&["test"], arguments].concat());
        assert_eq!(ended.code, 2, "{ended:?}");
        assert!(ended.err.contains(said), "lacks `{said}`:\n{}", ended.err);
    }
    let json = rearguard(folder.path(), &[], &["test", "bad.yaml", "--format", "json"]);
    let errors: Value = serde_json::from_str(&json.out).unwrap();
    assert!(errors["error"]["diagnostics"].as_array().unwrap().len() >= 15, "{errors}");
    std::fs::write(folder.path().join("ok.yaml"), FAILING).unwrap();
    for (arguments, said) in [
        (["ok.yaml", "--filter", "zebra"], "no test has `zebra` in its name"),
        (["ok.yaml", "--junit", "no/such/x.xml"], "`--junit no/such/x.xml`"),
    ] {
        let ended = rearguard(folder.path(), &[], &[&["test"], &arguments[..]].concat());
        assert_eq!((ended.code, ended.out.as_str()), (2, ""), "{ended:?}");
        assert!(ended.err.contains(said), "{ended:?}");
    }
}

#[test]
fn recorded_events_have_to_be_good() {
    let events = "{\"id\":\"1\",\"ts\":\"2026-01-05T00:00:10Z\",\"variant\":\"shop.v2\",\"metrics\":{\"error\":true}}\n{\n";
    let text = "rules: r.yaml\ntests: [{ name: x, events: e.jsonl, expect: [{ never: anything }] }]\n";
    let (_folder, ended) = test(&[("r.yaml", RULES), ("t.yaml", text), ("e.jsonl", events)], &["t.yaml"]);
    assert_eq!((ended.code, ended.out.as_str()), (2, ""), "{ended:?}");
    assert!(ended.err.contains("e.jsonl:2: no good event"), "{ended:?}");
}

#[test]
fn the_examples_of_the_pages_are_what_comes_out() {
    assert_eq!(tried("docs/testing-rules.md"), Tried { ran: 1, files: 0, tests: 2 });
    assert_eq!(tried("docs/tutorial.md"), Tried { ran: 6, files: 4, tests: 0 });
}

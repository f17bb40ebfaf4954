//! `rearguard explain` and `rearguard incident replay`: of recorded events at a time, and of a daemon in this process.

use serde_json::Value;

use crate::cli::daemon::Daemon;
use crate::cli::{Ended, rearguard};
use crate::examples::{Tried, tried};
use crate::replay::here;

const EVENTS: &str = "tests/data/llmdrift-prime-gpt4.jsonl.gz";
const RULES: &str = "tests/replay/llmdrift-prime-gpt4.yaml";

/// Explains a rule of the June model at a time on 12 July 2023.
fn at(time: &str, more: &[&str]) -> Ended {
    let at = format!("2023-07-12T{time}Z");
    let mut arguments = vec!["explain", "--events", EVENTS, "--rules", RULES, "--at", &at];
    arguments.extend(more);
    rearguard(here(), &[], &arguments)
}

/// The explanations as JSON.
fn told(ended: &Ended) -> Vec<Value> {
    assert_eq!((ended.code, ended.err.as_str()), (0, ""), "{ended:?}");
    ended.json()["explanations"].as_array().unwrap().clone()
}

#[test]
fn a_rule_is_followed_from_too_few_samples_to_its_rollback() {
    let rule =
        ["--variant", "math-assistant.gpt-4-0613", "--rule", "faithfulness_1h-rollback", "--format", "json"];
    let mut seen = Vec::new();
    for (time, phase, verdict) in [
        ("09:20:00", "quiet", "inconclusive"),
        ("09:32:00", "pending", "breach"),
        // Within a minute the last closing before it counts.
        ("09:33:59", "pending", "breach"),
        ("09:35:00", "latched", "breach"),
    ] {
        let one = told(&at(time, &rule)).remove(0);
        assert_eq!(one["state"]["phase"], phase, "{one}");
        assert_eq!(one["verdict"]["verdict"], verdict, "{one}");
        assert_eq!(one["literal"], true);
        let lacks: Vec<&str> = one["missing_for_persistence"]
            .as_array()
            .unwrap()
            .iter()
            .map(|lack| lack["reason"]["reason"].as_str().or(lack["lack"].as_str()).unwrap())
            .collect();
        seen.push(lacks.join(" "));
    }
    assert_eq!(seen, ["too_few_samples hold", "hold", "hold", ""]);
    let text = at("09:20:00", &rule[..4]);
    for said in
        ["0.5147 < 0.7: true", "68 of the 100 needed", "32 more samples (68 of 100)", "D 359 of 1.1e6"]
    {
        assert!(text.out.contains(said), "lacks `{said}`:\n{}", text.out);
    }
    let text = at("09:33:00", &rule[..4]);
    assert!(text.out.contains("2 more minutes: it has held for 1 of 3 min"), "{}", text.out);
    let text = at("09:35:00", &rule[..4]);
    assert!(text.out.contains("only a human") && !text.out.contains("Missing"), "{}", text.out);
}

#[test]
fn all_rules_are_a_line_each_and_the_last_closing_is_the_default() {
    let all = at("09:33:00", &[]);
    all.says(&["13887 > 20095: not true", "quiet    faithfulness_1h-rollback", "`--rule ID`"]);
    let last = rearguard(here(), &[], &["explain", "--events", EVENTS, "--rules", RULES, "--format", "json"]);
    let last = told(&last);
    assert_eq!(last.len(), 3);
    assert!(last.iter().all(|one| one["at"] == last[0]["at"]));
}

#[test]
fn wrong_questions_get_the_right_ones() {
    for (arguments, code, said) in [
        (vec!["explain", "--at", "2023-07-12T09:00:00Z"], 2, "can only explain its last closing"),
        (vec!["explain", "--rules", RULES], 2, "name the recorded events"),
        (vec!["explain", "--events", EVENTS], 2, "name a file or folder with `--rules`"),
        (
            vec!["explain", "--events", EVENTS, "--rules", RULES, "--at", "2024-01-01T00:00:00Z"],
            2,
            "the last at 2023-07-12T13:",
        ),
        (
            vec!["explain", "--events", EVENTS, "--rules", RULES, "--at", "yesterday"],
            2,
            "is no RFC 3339 time",
        ),
        (vec!["explain", "--events", EVENTS, "--rules", RULES, "--slice", "acme"], 2, "is no scope"),
        (
            vec!["explain", "--events", EVENTS, "--rules", RULES, "--slice", "tenant:acme"],
            1,
            "leave the slice out",
        ),
        (
            vec!["explain", "--events", EVENTS, "--rules", RULES, "--variant", "math-assistant.gpt-4-0316"],
            1,
            "did you mean `math-assistant.gpt-4-0314`?",
        ),
    ] {
        let ended = rearguard(here(), &[], &arguments);
        assert_eq!(ended.code, code, "{arguments:?}: {ended:?}");
        assert!(ended.err.contains(said), "{arguments:?} lacks `{said}`: {}", ended.err);
    }
}

#[test]
fn the_examples_of_the_page_are_what_comes_out() {
    assert_eq!(tried("docs/explain.md"), Tried { ran: 2, ..Tried::default() });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_explains_its_last_closing() {
    let daemon = Daemon::start().await;
    let starting = daemon.ask("read", &["explain"]);
    assert_eq!(starting.code, 1, "{starting:?}");
    daemon.judge_it().await;
    let one = daemon.ask("read", &["explain", "--rule", "low"]);
    assert_eq!(one.code, 0, "{one:?}");
    one.says(&[
        "support.v18: faithfulness_1h < 0.8 → rollback",
        "latched since",
        "breach by evidence",
        "rearguard flag rearm",
    ]);
    let all = daemon.ask("read", &["explain", "--format", "json"]);
    assert_eq!(told(&all).len(), 2);
    let silent = daemon.ask("read", &["explain", "--rule", "cost_1h-notify"]);
    assert!(
        silent.out.contains("no data in the window") && silent.out.contains("data: the window holds none"),
        "{}",
        silent.out
    );
    let none = daemon.ask("read", &["explain", "--variant", "support.v81"]);
    assert_eq!(none.code, 1);
    assert!(none.err.contains("did you mean `support.v18`?"), "{none:?}");
    assert!(daemon.ask("evaluate", &["explain"]).err.contains("scope `read` is missing"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stored_decision_is_judged_again_to_the_same_verdict() {
    let daemon = Daemon::start().await;
    let incident = daemon.judge_it().await;
    let same = daemon.ask("read", &["incident", "replay", &incident]);
    assert_eq!(same.code, 0, "{same:?}");
    same.says(&[
        "SAME  rollback by low",
        "breach by evidence",
        "the same",
        "1 decision judged again, all to the same",
    ]);
    let json = daemon.ask("read", &["incident", "replay", &incident, "--format", "json"]);
    let answer = json.json();
    assert_eq!((json.code, &answer["same"]), (0, &Value::Bool(true)));
    let decision = answer["decisions"][0]["decision"].as_str().unwrap().to_owned();
    // A decision may be named itself, too; one that is not there is not found.
    assert_eq!(daemon.ask("read", &["incident", "replay", &decision]).code, 0);
    assert_eq!(daemon.ask("read", &["incident", "replay", &incident, "--decision", &decision]).code, 0);
    let other = daemon.ask("read", &["incident", "replay", &incident, "--decision", "d9"]);
    assert!(other.code == 1 && other.err.contains("has no decision `d9`"), "{other:?}");
    assert_eq!(daemon.ask("read", &["incident", "replay", "inc-9"]).code, 1);

    let bad = "UPDATE decisions SET payload = replace(payload, '\"bad_minutes\":', '\"bad_minutes\":1')";
    daemon.tamper(bad).await;
    let altered = daemon.ask("read", &["incident", "replay", &incident]);
    assert_eq!(altered.code, 1, "{altered:?}");
    altered.says(&["NOT THE SAME", "ALTERED", "bad minutes", "NOT all to what is stored"]);
    daemon.tamper("DELETE FROM decision_grounds").await;
    let gone = daemon.ask("read", &["incident", "replay", &incident]);
    assert!(gone.code == 1 && gone.out.contains("could not be judged"), "{gone:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_audit_log_is_verified_beside_a_running_daemon() {
    let daemon = Daemon::start().await;
    daemon.judge_it().await;
    let verify = |more: &[&str]| {
        let mut arguments = vec!["audit", "verify", "--database", daemon.database()];
        arguments.extend(more);
        tokio::task::block_in_place(|| rearguard(here(), &[], &arguments))
    };
    let good = verify(&[]);
    assert_eq!((good.code, good.err.as_str()), (0, ""), "{good:?}");
    assert!(good.out.contains("intact: 10 records, 1 decision and their evidence"), "{}", good.out);
    assert_eq!(verify(&["--format", "json"]).json()["found"]["intact"]["decisions"], 1);
    daemon.tamper("UPDATE decision_grounds SET content = x'00'").await;
    let altered = verify(&[]);
    assert!(altered.code == 1 && altered.out.contains("was ALTERED"), "{altered:?}");
    daemon.tamper("UPDATE audit SET detail = 'nothing' WHERE id = 4").await;
    let broken = verify(&[]);
    assert!(broken.code == 1 && broken.out.contains("BROKEN at record 4"), "{broken:?}");
    let nowhere = rearguard(here(), &[], &["audit", "verify", "--database", "sqlite:/does/not/exist.db"]);
    assert!(nowhere.code == 1 && nowhere.err.contains("there is no database"), "{nowhere:?}");
    let folder = tempfile::tempdir().unwrap();
    let other = folder.path().join("other.db");
    std::fs::write(&other, "").unwrap();
    let other = format!("sqlite:{}", other.display());
    let stranger = rearguard(here(), &[], &["audit", "verify", "--database", &other]);
    assert!(stranger.code == 1 && stranger.err.contains("schema"), "{stranger:?}");
}

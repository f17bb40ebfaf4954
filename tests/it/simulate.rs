//! `rearguard simulate` and what `check` simulates: the same bytes for the same seed, bad use, both reports.

use std::path::Path;

use serde_json::Value;

use crate::cli::{Ended, rearguard};
use crate::readme::{blocks, read};

const RULES: &str = "\
- variant: chat.v2
  rules:
    - { condition: faithfulness_5m < 0.92, action: rollback, min_samples: 20 }
    - { condition: abstain_rate_1h > baseline*3, action: pause_rollout }
";

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("r.yaml"), RULES).unwrap();
    folder
}

fn simulate(folder: &Path, more: &[&str]) -> Ended {
    let size = ["--runs", "4", "--days", "0.05", "--horizon", "60"];
    rearguard(folder, &[], &[&["simulate", "--rules", "r.yaml"], &size[..], more].concat())
}

#[test]
fn the_same_seed_gives_the_same_bytes_on_any_number_of_threads() {
    let folder = folder();
    let told = |threads: &str, seed: &str| {
        let world = [
            "--level",
            "faithfulness=0.95",
            "--level",
            "abstain=0.02",
            "--regression",
            "faithfulness=0.5",
            "--spread",
            "faithfulness=0.1",
            "--traffic-swing",
            "0.3",
            "--noise",
            "0.02",
            "--shocks",
            "0.02",
            "--format",
            "json",
        ];
        let ended = simulate(folder.path(), &[&world[..], &["--threads", threads, "--seed", seed]].concat());
        assert_eq!((ended.code, ended.err.as_str()), (0, ""), "{ended:?}");
        ended.out
    };
    let one = told("1", "7");
    assert_eq!(one, told("3", "7"));
    assert_ne!(one, told("1", "8"));
    let document: Value = serde_json::from_str(&one).unwrap();
    let variant = &document["variants"][0];
    // One rollback rule, 365 days.
    assert_eq!(variant["evidence_needed"], 525_600.0);
    let (quality, abstain) = (&variant["rules"][0], &variant["rules"][1]);
    let judges: Vec<&str> =
        quality["judges"].as_array().unwrap().iter().map(|judge| judge["judge"].as_str().unwrap()).collect();
    assert_eq!(judges, ["either", "significant", "evidence", "persistence", "plain", "for: 5m"]);
    for judge in quality["judges"].as_array().unwrap() {
        let median = judge["minutes"]["median"]["value"].as_u64().unwrap();
        assert!((1..=12).contains(&median), "a drop by 45 points: {judge}");
    }
    assert!(abstain["judges"][0].get("minutes").is_none(), "abstain does not regress: {abstain}");
}

#[test]
fn the_report_names_every_judge_and_the_picture_is_written() {
    let folder = folder();
    let options = ["--level", "faithfulness=0.95", "--regression", "faithfulness=0.5", "--plot", "p.svg"];
    let ended = simulate(folder.path(), &options);
    assert_eq!(ended.code, 0, "{ended:?}");
    ended.says(&[
        "faithfulness 0.95, then 0.5, every score 0 or 1",
        "either *",
        "for: 5m",
        "WITHIN 10 MIN",
        "not simulated: `abstain_rate_1h > baseline*3` of chat.v2; say `--level abstain=…`",
    ]);
    let picture = std::fs::read_to_string(folder.path().join("p.svg")).unwrap();
    assert_eq!(picture.matches("fill=\"none\"").count(), 6, "one curve per judge");
    assert!(picture.contains("faithfulness_5m &lt; 0.92") && picture.ends_with("</svg>\n"));
}

#[test]
fn wrong_use_is_told_with_what_would_be_right() {
    let folder = folder();
    for (options, wanted) in [
        (&["--level", "faithfullness=0.95"][..], "did you mean `faithfulness`?"),
        (&["--level", "faithfulness=95"], "`faithfulness` lies between 0 and 1"),
        (&["--level", "faithfulness=0.9", "--level", "faithfulness_mean=0.8"], "stands there twice"),
        (&["--level", "faithfulness_p95=0.9"], "give a mean, a rate or a quantile of a value"),
        (&["--level", "cost_sum=0.9"], "give a mean, a rate or a quantile of a value"),
        (&["--level", "faithfulness=0.9", "--spread", "abstain=0.1"], "true or false has no spread"),
        (&["--level", "cost=0.01"], "`--level cost=…`: no rule measures `cost`"),
        (&[], "say `--level abstain=…` `--level faithfulness=…`"),
        (&["--level", "faithfulness=much"], "is not `NAME=NUMBER`"),
        (&["--noise", "2"], "is no number between 0 and 1"),
    ] {
        let ended = simulate(folder.path(), options);
        assert!(ended.code == 2 && ended.err.contains(wanted), "{options:?}: {ended:?}");
    }
    let none = rearguard(folder.path(), &[], &["simulate", "--rules", "nothing.yaml"]);
    assert_eq!(none.code, 2, "{none:?}");
}

#[test]
fn check_tells_the_reach_of_rules() {
    let folder = folder();
    let check =
        |more: &[&str]| rearguard(folder.path(), &[], &[&["check", "r.yaml", "--runs", "1"], more].concat());
    let many = ["--events-per-minute", "200", "--level", "faithfulness=0.95", "--format", "json"];
    let ended = check(&many);
    assert_eq!(ended.code, 0, "{ended:?}");
    let document: Value = serde_json::from_str(&ended.out).unwrap();
    let told = &document["rules"][0]["simulated"];
    let smallest = told["reach"]["smallest_within_ten_minutes"].as_f64().unwrap();
    assert!((0.03..0.2).contains(&smallest), "{smallest}");
    let times = told["reach"]["times"].as_array().unwrap();
    assert_eq!(times.len(), 4);
    let median = |time: &Value| time["median_minutes"]["value"].as_u64().unwrap_or(u64::MAX);
    assert!(times.windows(2).all(|pair| median(&pair[0]) >= median(&pair[1])), "{times:?}");
    assert!(told["false_per_1000_days"]["evidence"]["high"].as_f64().unwrap() > 0.0);
    assert!(document["rules"][1].get("simulated").is_none(), "the level of abstain was not given");

    let few = ["--events-per-minute", "1", "--level", "faithfulness=0.95"];
    let human = check(&few);
    assert!(human.out.contains("not known: say `--level abstain=…`"), "{}", human.out);
    assert!(human.err.contains("is never confirmed by persistence"), "{}", human.err);
    let nothing = "practically nothing is rolled back within ten minutes of onset";
    assert!(human.out.contains(nothing), "{}", human.out);
    let github = check(&[&few[..], &["--format", "github"]].concat()).out;
    let notices: Vec<&str> =
        github.lines().filter(|line| line.starts_with("::notice file=r.yaml,line=3,")).collect();
    assert!(notices.len() == 1 && notices[0].contains(nothing), "{github}");
    let alone = check(&["--level", "faithfulness=0.95"]);
    assert!(alone.code == 2 && alone.err.contains("add `--events-per-minute N`"), "{alone:?}");
}

#[test]
fn check_takes_levels_from_a_recording() {
    let folder = folder();
    let mut events = String::new();
    for n in 0..7_200 {
        let (hour, minute, second) = (n / 3_600, n / 60 % 60, n % 60);
        let score = if n % 20 == 0 { 0 } else { 1 };
        events.push_str(&format!(
            "{{\"id\":\"{n}\",\"ts\":\"2026-01-01T{hour:02}:{minute:02}:{second:02}Z\",\"variant\":\"chat.v2\",\"metrics\":{{\"faithfulness\":{score}}}}}\n"
        ));
    }
    std::fs::write(folder.path().join("e.jsonl"), events).unwrap();
    let arguments = ["check", "r.yaml", "--events", "e.jsonl", "--runs", "1", "--format", "json"];
    let ended = rearguard(folder.path(), &[], &arguments);
    let document: Value = serde_json::from_str(&ended.out).unwrap();
    let told = &document["rules"][0]["simulated"];
    assert_eq!(told["events_per_minute"], 60.0, "{}", ended.out);
    assert!((told["reach"]["center"].as_f64().unwrap() - 0.95).abs() < 1e-9);
}

/// The first command of the page is run, and gives what stands below it.
#[test]
fn the_example_of_the_page_is_what_comes_out() {
    let page = read("docs/simulate.md");
    let (commands, outputs) = (blocks(&page, "sh"), blocks(&page, "text"));
    let words: Vec<&str> = commands[0].split_whitespace().skip(1).collect();
    let ended = rearguard(Path::new(env!("CARGO_MANIFEST_DIR")), &[], &words);
    assert_eq!((ended.code, ended.err.as_str()), (0, ""), "{ended:?}");
    assert_eq!(ended.out, outputs[0], "comes out as:\n{}", ended.out);
}

/// Rules, a configuration with `expected:`, and an hour of events of one of the two variants.
fn usual() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    let slos = "slos: { answers: { good: faithfulness >= 0.8, objective: 99% } }";
    let config = format!("kafka: {{ brokers: \"localhost:9092\", topics: [t] }}\nrules: [r.yaml]\n{slos}\n");
    let expected = "expected:
  chat:
    events_per_minute: 4
    metrics: { faithfulness: { level: 0.97, spread: 0.15 }, cost_p95: 0.03 }
  chat.v2: { events_per_minute: 9 }
  chta: {}
";
    write("rearguard.yaml", &format!("{config}{expected}"));
    let rule = "- variant: chat.v2
  baseline: chat.v1
  rules:
    - { condition: faithfulness_1h < 0.92, action: rollback }
    - { condition: cost_p95_1h > baseline*2, action: notify }
    - { condition: abstain_rate_1h > 0.2, action: notify }
    - { condition: slo.answers.burn_1h > 10, action: notify }
";
    write("r.yaml", rule);
    let second = |n: usize| format!("2026-01-01T{:02}:{:02}:{:02}Z", n / 3_600, n / 60 % 60, n % 60);
    let event = |n: usize| {
        let score = u8::from(!n.is_multiple_of(10));
        format!(
            "{{\"id\":\"{n}\",\"ts\":\"{}\",\"variant\":\"chat.v2\",\"metrics\":{{\"faithfulness\":{score}}}}}\n",
            second(n * 6)
        )
    };
    write("e.jsonl", &(0..600).map(event).collect::<String>());
    folder
}

/// Each number is taken from an option, else from the recording, else from the configuration, and `check` says from which.
#[test]
fn check_takes_what_is_usual_from_the_configuration() {
    let folder = usual();
    let check = |more: &[&str]| rearguard(folder.path(), &[], &[&["check", "--runs", "1"], more].concat());
    let given = |more: &[&str]| {
        let ended = check(&[more, &["--format", "json"]].concat());
        let document: Value = serde_json::from_str(&ended.out).unwrap_or_else(|_| panic!("{ended:?}"));
        [0, 1].map(|rule: usize| document["rules"][rule]["simulated"]["given"].clone())
    };
    let said = |value: &Value| (value["value"].as_f64(), value["from"].as_str().unwrap().to_owned());
    let of = |value: f64, from: &str| (Some(value), from.to_owned());

    let [usual, cost] = given(&[]);
    let score = &usual["metrics"][0];
    assert_eq!(said(&usual["events_per_minute"]), of(9.0, "configuration"));
    assert_eq!(said(&score["level"]), of(0.97, "configuration"));
    assert_eq!(said(&score["spread"]), of(0.15, "configuration"));
    assert_eq!(said(&cost["baseline_events_per_minute"]), of(4.0, "configuration"));
    assert_eq!(said(&cost["metrics"][0]["baseline_level"]), of(0.03, "configuration"));
    assert_eq!(said(&cost["metrics"][0]["spread"]), of(0.5, "default"));

    let [recorded, _] = given(&["--events", "e.jsonl"]);
    let score = &recorded["metrics"][0];
    assert_eq!(said(&recorded["events_per_minute"]), of(10.0, "recording"));
    assert_eq!(said(&score["level"]), of(0.9, "recording"));
    assert_eq!(said(&score["spread"]), (None, "recording".to_owned()), "they were 0 and 1");
    let options = ["--events", "e.jsonl", "--level", "faithfulness=0.96", "--spread", "faithfulness=0.1"];
    let [overridden, _] = given(&options);
    let score = &overridden["metrics"][0];
    assert_eq!(said(&score["level"]), of(0.96, "option"));
    assert_eq!(said(&score["spread"]), of(0.1, "option"));
    let [level, _] = given(&["--level", "faithfulness=0.96"]);
    assert_eq!(said(&level["events_per_minute"]), of(9.0, "configuration"));
    assert_eq!(said(&level["metrics"][0]["level"]), of(0.96, "option"));
    assert_eq!(said(&level["metrics"][0]["spread"]), of(0.15, "configuration"));

    let human = check(&[]);
    for part in [
        "reach       not told: what objectives measure is not simulated",
        "given       9 events a minute (configuration); faithfulness mean 0.97, spread 0.15 (configuration)",
        "not known: say `--level abstain=…`, or put it under `expected:` in the configuration",
    ] {
        assert!(human.out.contains(part), "lacks `{part}`:\n{}", human.out);
    }
    for part in ["no rule has to do with a variant or feature `chta`", "did you mean `chat`?"] {
        assert!(human.err.contains(part), "lacks `{part}`:\n{}", human.err);
    }
    let nothing = rearguard(folder.path(), &[], &["check", "--runs", "0"]);
    assert!(nothing.code == 0 && !nothing.out.contains("    reach"), "{nothing:?}");
}

/// A new variant is judged by the recording of the old one and by what the configuration expects of the new.
#[test]
fn what_no_event_is_recorded_of_is_expected() {
    let folder = folder();
    let config = |expected: &str| {
        let text = format!("kafka: {{ brokers: \"localhost:9092\", topics: [t] }}\n{expected}");
        std::fs::write(folder.path().join("rearguard.yaml"), text).unwrap();
        let event = "{\"id\":\"1\",\"ts\":\"2026-01-01T00:00:00Z\",\"variant\":\"chat.v1\",\"metrics\":{\"faithfulness\":1}}\n";
        std::fs::write(folder.path().join("e.jsonl"), event).unwrap();
        rearguard(folder.path(), &[], &["check", "r.yaml", "--events", "e.jsonl", "--runs", "1"])
    };
    let silent = config("");
    assert!(silent.err.contains("no event of chat.v2 carries `faithfulness`"), "{silent:?}");
    let expected =
        config("expected: { chat.v2: { events_per_minute: 6, metrics: { faithfulness: 0.95 } } }\n");
    assert!(!expected.err.contains("carries `faithfulness`"), "{expected:?}");
    assert!(
        expected.out.contains(
            "6 events a minute (configuration); faithfulness mean 0.95 (configuration), all 0 or 1 (default)"
        ),
        "{expected:?}"
    );
}

//! `rearguard replay`: published streams with the outcome that a correct system gives, bad input, and the two reports.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rearguard::model::time::Timestamp;
use serde_json::Value;

use crate::cli::{Ended, rearguard};
use crate::examples::{Tried, tried};

const BASELINES: &str =
    "- variant: shop.v2\n  rules: [{ condition: error_rate_1h > baseline*3, action: rollback }]\n";

pub fn here() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A published stream, if it is here; `None` says so.
fn stream(name: &str) -> Option<PathBuf> {
    let file = format!("{name}.jsonl.gz");
    let places = [here().join("tests/data").join(&file), here().join("../shared/data").join(&file)];
    let found = places.into_iter().find(|place| place.exists());
    if found.is_none() {
        println!("skipped: {file} is not here");
    }
    found
}

/// The lines of `--format json`.
fn lines(ended: &Ended) -> Vec<Value> {
    let parse = |line: &str| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    ended.out.lines().map(parse).collect()
}

/// Replays a stream with its own rule file: the lines, and the exit code.
fn replay(name: &str, more: &[&str]) -> Option<(Vec<Value>, i32)> {
    let events = stream(name)?;
    let rules = format!("tests/replay/{name}.yaml");
    let mut arguments = vec!["replay", "--events", events.to_str().unwrap(), "--rules", &rules];
    arguments.extend(["--config", "tests/replay/rearguard.yaml", "--strict", "--format", "json"]);
    arguments.extend(more);
    let ended = rearguard(here(), &[], &arguments);
    assert!(ended.code < 2, "{ended:?}");
    Some((lines(&ended), ended.code))
}

/// Variant, rule and gate of every decision.
fn decisions(lines: &[Value]) -> Vec<[&str; 3]> {
    lines
        .iter()
        .filter(|line| line["type"] == "decision")
        .map(|line| ["variant", "rule", "gate"].map(|key| line[key].as_str().unwrap()))
        .collect()
}

fn summary(lines: &[Value]) -> &Value {
    let last = lines.last().unwrap();
    assert_eq!(last["type"], "summary");
    let events = &last["events"];
    let fates = ["windowed", "late", "duplicate", "dead_letter", "other", "refused", "canary"];
    let sum: u64 = fates.iter().map(|fate| events[fate].as_u64().unwrap()).sum();
    assert_eq!(events["consumed"].as_u64().unwrap(), sum);
    last
}

fn rule<'a>(lines: &'a [Value], variant: &str, rule: &str) -> &'a Value {
    let rules = summary(lines)["rules"].as_array().unwrap();
    rules.iter().find(|r| r["variant"] == variant && r["rule"] == rule).unwrap()
}

#[test]
fn gpt_4_of_june_is_rolled_back_and_that_of_march_is_not() {
    let Some((lines, code)) = replay("llmdrift-prime-gpt4", &[]) else { return };
    assert_eq!(code, 1);
    assert_eq!(decisions(&lines), [["math-assistant.gpt-4-0613", "faithfulness_1h-rollback", "act"]]);
    let decision = lines.iter().find(|line| line["type"] == "decision").unwrap();
    let time = |key: &str| Timestamp::parse(decision[key].as_str().unwrap()).unwrap();
    assert!(time("crossing") <= time("t0") && time("t0") < time("at"));
    assert!(decision["value"].as_f64().unwrap() < 0.7);
    assert!(decision["samples"].as_u64().unwrap() >= 100);
    assert!(decision["from"].is_null() && decision["slice"] == "all");
    assert_eq!(summary(&lines)["events"]["windowed"], 2000);
    let good = rule(&lines, "math-assistant.gpt-4-0314", "faithfulness_1h-rollback");
    assert!(good["closest"]["value"].as_f64().unwrap() > 0.75, "{good}");
}

#[test]
fn gpt_35_of_june_is_better_and_slower() {
    let Some((lines, code)) = replay("llmdrift-prime-gpt35", &[]) else { return };
    assert_eq!(code, 1);
    assert_eq!(decisions(&lines), [["math-assistant.gpt-3.5-turbo-0613", "latency_p95_1h-rollback", "act"]]);
    let judged = rule(&lines, "math-assistant.gpt-3.5-turbo-0613", "faithfulness_1h-rollback");
    assert_eq!(judged["baseline"], Value::Null);
    let compared = rule(&lines, "math-assistant.gpt-3.5-turbo-0613", "latency_p95_1h-rollback");
    assert_eq!(compared["baseline"], "math-assistant.gpt-3.5-turbo-0301");
}

#[test]
fn the_outage_is_one_rollback_and_the_gap_before_it_is_no_data() {
    let Some((lines, code)) = replay("deepseek-outage-2025-01", &[]) else { return };
    assert_eq!(code, 1);
    assert_eq!(decisions(&lines), [["chat.deepseek-chat", "error_rate_6h-rollback", "act"]]);
    let decision = lines.iter().find(|line| line["type"] == "decision").unwrap();
    assert!(decision["at"].as_str().unwrap() > "2025-01-28T18:44", "{decision}");
    let rule = rule(&lines, "chat.deepseek-chat", "error_rate_6h-rollback");
    let silent = rule["longest_silence_seconds"].as_u64().unwrap();
    // From 16 January 23:59 to 28 January 05:34, less the window.
    assert!((silent as i64 - (11 * 24 * 60 + 335 - 360) * 60).abs() <= 180, "{silent}");
    assert_eq!(rule["state"], "latched");
}

#[test]
fn a_hundred_answers_show_alpaca_and_not_claude() {
    let Some((lines, code)) = replay("refchecker-noisy-context", &[]) else { return };
    assert_eq!(code, 1);
    assert_eq!(decisions(&lines), [["rag.alpaca-7b", "faithfulness_6h-rollback", "act"]]);
}

#[test]
fn no_arm_of_an_even_experiment_is_taken_back() {
    for name in ["openbandit-women", "openbandit-men", "adsmart"] {
        let Some((lines, code)) = replay(name, &[]) else { continue };
        assert_eq!((code, decisions(&lines)), (0, Vec::new()), "{name}");
        assert_eq!(summary(&lines)["events"]["late"], 0);
    }
}

#[test]
fn the_same_bytes_come_out_whatever_form_goes_in() {
    let folder = tempfile::tempdir().unwrap();
    let packed = here().join("tests/data/llmdrift-prime-gpt4.jsonl.gz");
    let unpacked = Command::new("gzip").args(["-dc", packed.to_str().unwrap()]).output().unwrap().stdout;
    let (plain, zstd) = (folder.path().join("plain.jsonl"), folder.path().join("events.zst"));
    std::fs::write(&plain, &unpacked).unwrap();
    std::fs::write(&zstd, zstd::encode_all(unpacked.as_slice(), 3).unwrap()).unwrap();
    let half = unpacked.iter().take(unpacked.len() / 2).rposition(|byte| *byte == b'\n').unwrap() + 1;
    let halves = [folder.path().join("a.jsonl"), folder.path().join("b.jsonl")];
    std::fs::write(&halves[0], &unpacked[..half]).unwrap();
    std::fs::write(&halves[1], &unpacked[half..]).unwrap();
    // Slices too: nothing may depend on the order of a hash map.
    let slices = folder.path().join("slices.yaml");
    let text = "- variant: math-assistant.gpt-4-0613\n  rules: [{ condition: faithfulness_1h < 0.6, action: rollback, by: tenant, min_samples: 20 }]\n";
    std::fs::write(&slices, text).unwrap();
    let run = |events: &[&Path], format: &str| {
        let rules = ["tests/replay/llmdrift-prime-gpt4.yaml", slices.to_str().unwrap()];
        let mut arguments = vec!["replay", "--rules", rules[0], "--rules", rules[1], "--format", format];
        for path in events {
            arguments.extend(["--events", path.to_str().unwrap()]);
        }
        let ended = rearguard(here(), &[], &arguments);
        assert_eq!((ended.code, ended.err.as_str()), (1, ""), "{ended:?}");
        ended.out
    };
    let wanted = run(&[&packed], "json");
    assert_eq!(run(&[&packed], "json"), wanted);
    assert_eq!(run(&[&plain], "json"), wanted);
    assert_eq!(run(&[&zstd], "json"), wanted);
    assert_eq!(run(&[&halves[0], &halves[1]], "json"), wanted);

    let mut child = Command::new(env!("CARGO_BIN_EXE_rearguard"))
        .args(["replay", "--events", "-", "--format", "json"])
        .args(["--rules", "tests/replay/llmdrift-prime-gpt4.yaml", "--rules", slices.to_str().unwrap()])
        .current_dir(here())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(&unpacked).unwrap();
    assert_eq!(String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap(), wanted);

    let said = run(&[&packed], "human");
    for part in [
        "2,000 events from",
        "math-assistant.gpt-4-0613\n  faithfulness_1h < 0.7 → rollback",
        "would have rolled back",
        "T0 ",
        "latency_p95_1h > 20000 → pause_rollout\n    never in breach; closest at 2023-07-12",
    ] {
        assert!(said.contains(part), "lacks `{part}`:\n{said}");
    }
    let (report, _) = said.split_once("ROLLED BACK").unwrap();
    assert!(report.lines().all(|line| line.chars().count() <= 100), "{said}");
}

#[test]
fn sets_of_rules_are_compared() {
    let folder = tempfile::tempdir().unwrap();
    let strict = folder.path().join("strict.yaml");
    let text = "- variant: math-assistant.gpt-4-0613\n  rules: [{ condition: faithfulness_6h < 0.3, action: rollback }]\n";
    std::fs::write(&strict, text).unwrap();
    let strict = strict.to_str().unwrap();
    let run = |format: &str| {
        let events = "tests/data/llmdrift-prime-gpt4.jsonl.gz";
        let rules = "tests/replay/llmdrift-prime-gpt4.yaml";
        let onset = "2023-07-12T09:00:00Z";
        let arguments = ["replay", "--events", events, "--rules", rules, "--rules", strict, "--onset", onset];
        rearguard(here(), &[], &[&arguments[..], &["--format", format]].concat())
    };
    let lines = lines(&run("json"));
    assert!(
        lines[..lines.len() - 1].iter().all(|line| line["set"] == "tests/replay/llmdrift-prime-gpt4.yaml")
    );
    let sets: Vec<&Value> = summary(&lines)["rules"].as_array().unwrap().iter().map(|r| &r["set"]).collect();
    assert_eq!(sets.iter().filter(|set| **set == strict).count(), 1);
    let said = run("human").out;
    let table = &said[said.find("ROLLED BACK").unwrap()..];
    let rows: Vec<Vec<&str>> = table.lines().skip(1).map(|l| l.split_whitespace().collect()).collect();
    assert_eq!(rows[0][..4], ["1", "0", "0", "0"], "{table}");
    assert_eq!(rows[1][..5], ["0", "0", "0", "0", "never"], "{table}");
    assert!(table.contains("after onset"));
}

#[test]
fn bad_lines_are_counted_with_their_places_and_strict_ends_at_the_first() {
    let folder = tempfile::tempdir().unwrap();
    let good = |id: u32, at: &str| {
        format!(
            r#"{{"id":"{id}","ts":"2026-01-30T10:{at}Z","variant":"shop.v2","metrics":{{"error":false}}}}"#
        )
    };
    let text = [
        good(1, "00:00"),
        String::new(),
        "{".into(),
        good(2, "01:00").replace("false", "7"),
        good(3, "02:00"),
        "{".into(),
    ]
    .join("\r\n");
    std::fs::write(folder.path().join("e.jsonl"), text).unwrap();
    std::fs::write(folder.path().join("r.yaml"), BASELINES).unwrap();
    let run = |more: &[&str]| {
        let arguments = [&["replay", "--events", "e.jsonl", "--rules", "r.yaml"], more].concat();
        rearguard(folder.path(), &[], &arguments)
    };
    let ended = run(&[]);
    assert_eq!(ended.code, 0, "{ended:?}");
    ended.says(&[
        "2 dead_letter malformed: e.jsonl:3, e.jsonl:6",
        "1 refused not_boolean: e.jsonl:4",
        "compares with a baseline and none is known",
    ]);
    let json = lines(&run(&["--format", "json"]));
    assert_eq!(summary(&json)["events"]["dead_letter"], 2);
    assert_eq!(summary(&json)["bad_lines"][0]["first"][0], "e.jsonl:3");
    let strict = run(&["--strict"]);
    assert_eq!((strict.code, strict.out.as_str()), (2, ""));
    assert!(strict.err.contains("e.jsonl:3: no good event: dead_letter, malformed"), "{}", strict.err);
}

#[test]
fn wrong_input_ends_with_two_and_says_what_would_be_right() {
    let folder = tempfile::tempdir().unwrap();
    let packed = std::fs::read(here().join("tests/data/llmdrift-prime-gpt4.jsonl.gz")).unwrap();
    std::fs::write(folder.path().join("cut.gz"), &packed[..packed.len() / 2]).unwrap();
    std::fs::write(folder.path().join("r.yaml"), BASELINES).unwrap();
    std::fs::write(folder.path().join("bad.yaml"), "- variant: a.b\n  rulez: []\n").unwrap();
    for (arguments, said) in [
        (&["--events", "none.jsonl", "--rules", "r.yaml"][..], "none.jsonl: there is no such file"),
        (&["--events", ".", "--rules", "r.yaml"], "is a folder"),
        (&["--events", "-", "--events", "-", "--rules", "r.yaml"], "standard input can be read once"),
        (&["--events", "cut.gz", "--rules", "r.yaml"], "the file seems to be cut off or damaged"),
        (&["--events", "cut.gz"], "no rules were named"),
        (&["--events", "cut.gz", "--rules", "bad.yaml"], "did you mean `rules`?"),
        (&["--events", "cut.gz", "--rules", "r.yaml", "--baseline", "x.y"], "another variant of `x`"),
        (&["--events", "cut.gz", "--rules", "r.yaml", "--onset", "noon"], "RFC 3339"),
        (&["--rules", "r.yaml"], "--events <FILE>"),
    ] {
        let ended = rearguard(folder.path(), &[], &[&["replay"], arguments].concat());
        assert_eq!(ended.code, 2, "{arguments:?}: {ended:?}");
        assert!(ended.err.contains(said), "{arguments:?} lacks `{said}`: {}", ended.err);
    }
}

#[test]
fn a_topic_says_what_the_file_says() {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("generations", 3, 1).unwrap();
    let brokers = cluster.bootstrap_servers();
    let producer: BaseProducer = ClientConfig::new().set("bootstrap.servers", &brokers).create().unwrap();
    let packed = "tests/data/llmdrift-prime-gpt4.jsonl.gz";
    let text = Command::new("gzip").args(["-dc", packed]).current_dir(here()).output().unwrap().stdout;
    let text = String::from_utf8(text).unwrap();
    for line in text.lines().chain(["no event"]) {
        let partition = i32::try_from(line.len() % 3).unwrap();
        producer.send(BaseRecord::<(), str>::to("generations").partition(partition).payload(line)).unwrap();
    }
    producer.flush(Duration::from_secs(10)).unwrap();

    let rules = "tests/replay/llmdrift-prime-gpt4.yaml";
    let run = |more: &[&str]| {
        let arguments = [&["replay", "--rules", rules, "--format", "json"], more].concat();
        rearguard(here(), &[], &arguments)
    };
    let topic = ["--kafka-topic", "generations", "--brokers", &brokers];
    let (from_file, from_topic) = (run(&["--events", packed]), run(&topic));
    assert_eq!((from_topic.code, from_topic.err.as_str()), (1, ""), "{from_topic:?}");
    let (from_file, from_topic) = (lines(&from_file), lines(&from_topic));
    let told = |lines: &[Value]| lines[..lines.len() - 1].to_vec();
    assert_eq!(told(&from_topic), told(&from_file));
    assert_eq!(summary(&from_topic)["rules"], summary(&from_file)["rules"]);
    let bad = &summary(&from_topic)["bad_lines"][0];
    let offset = text.lines().filter(|line| line.len() % 3 == 2).count();
    assert_eq!(
        (&bad["reason"], &bad["first"][0]),
        (&"malformed".into(), &format!("generations/2:{offset}").into())
    );

    let missing = run(&["--kafka-topic", "nothing", "--brokers", &brokers]);
    assert_eq!(missing.code, 2, "{missing:?}");
    for (arguments, said) in [
        (&["--kafka-topic", "t"][..], "no brokers are named"),
        (&["--kafka-topic", "t", "--events", "e"], "cannot be used with"),
        (&["--events", "e", "--from", "2026-01-01T00:00:00Z"], "cannot be used with"),
        (&["--from", "2026-01-01T00:00:00Z"], "--kafka-topic <TOPIC>"),
    ] {
        let ended = rearguard(here(), &[], &[&["replay", "--rules", rules], arguments].concat());
        assert_eq!(ended.code, 2, "{arguments:?}: {ended:?}");
        assert!(ended.err.contains(said), "{arguments:?} lacks `{said}`: {}", ended.err);
    }
}

#[test]
fn the_page_holds_a_plot_per_rule_and_needs_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let rules = "- variant: math-assistant.gpt-4-0613\n  rules:\n    - { condition: faithfulness_1h < 0.7, action: rollback, by: tier, min_samples: 30, confirm: persistence }\n    - { condition: latency_p95_1h > 1 && faithfulness_1h < 0.1, action: notify }\n";
    std::fs::write(folder.path().join("r.yaml"), rules).unwrap();
    let events = here().join("tests/data/llmdrift-prime-gpt4.jsonl.gz");
    let run = |page: &str| {
        let events = events.to_str().unwrap();
        rearguard(folder.path(), &[], &["replay", "--events", events, "--rules", "r.yaml", "--html", page])
    };
    assert_eq!(run("page.html").code, 1);
    let page = std::fs::read_to_string(folder.path().join("page.html")).unwrap();
    let times = |part: &str| page.matches(part).count();
    // Two tiers and the rule of two measurements, which has verdicts and no curve.
    assert_eq!((times("<svg "), times("</svg>"), times("class=\"value\" d=\"M")), (3, 3, 2));
    // The intervals of both curves. Evidence has something to say of the rule that it can confirm only.
    assert_eq!((times("class=\"band\" d=\"M"), times("class=\"proof\" d=\"M")), (2, 1));
    assert_eq!((times("class=\"enough\" d=\"M"), times("evidence D; c = ")), (1, 1));
    assert_eq!((times("<section>"), times("</section>")), (3, 3));
    assert_eq!(times("class=\"rollback\">would have rolled back"), 2);
    assert!(page.contains("there is no one curve to draw") && page.contains("faithfulness_1h &lt; 0.7"));
    assert_eq!(times("<script") + times("href") + times("src=") + times("http") + times("url("), 0);
    let nowhere = run("no/such/folder/page.html");
    assert_eq!((nowhere.code, nowhere.out.as_str()), (2, ""), "{nowhere:?}");
}

#[test]
fn the_examples_of_the_page_are_what_comes_out() {
    assert_eq!(tried("docs/replay.md"), Tried { ran: 3, ..Tried::default() });
}

//! GPT-4's prime-number accuracy fell from .840 (0314) to .502 (0613): a floor of 0.7 takes 0613 back and never touches 0314.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use rearguard::model::time::Timestamp;
use serde_json::Value;

use super::stage::{Stage, rollbacks};
use crate::oracle::Event;
use crate::servers::Postgres;
use crate::timeline::{MINUTE_MS, eventually};

const DATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/data/llmdrift-prime-gpt4.jsonl.gz");
const BAD: &str = "math-assistant.gpt-4-0613";
const GOOD: &str = "math-assistant.gpt-4-0314";
const BAD_FLAG: &str = "ai.math-assistant.gpt-4-0613";
const GOOD_FLAG: &str = "ai.math-assistant.gpt-4-0314";

const RULES: &str = "
- variant: math-assistant.gpt-4-0613
  owner: team-math
  rules:
    - { condition: faithfulness_1h < 0.7, action: rollback, min_samples: 100 }
    - { id: all, condition: faithfulness_6h < 0.01, action: notify }
- variant: math-assistant.gpt-4-0314
  rules:
    - { condition: faithfulness_1h < 0.7, action: rollback, min_samples: 100 }
    - { id: all, condition: faithfulness_6h < 0.01, action: notify }
";
const FLAGS: &str = "
flags:
  ai.math-assistant.gpt-4-0613: { control: math-assistant.gpt-4-0314, treatment: math-assistant.gpt-4-0613, share: 100% }
  ai.math-assistant.gpt-4-0314: { control: math-assistant.gpt-4-0301, treatment: math-assistant.gpt-4-0314, share: 50% }
limits: { blind_after: 10m }
";

/// The published events, their times moved so that the first one lies at `start`; `None` without the data.
fn events(start: i64) -> Option<Vec<Event>> {
    if !Path::new(DATA).exists() {
        println!("skipped: {DATA} is not here");
        return None;
    }
    let output = Command::new("gzip").args(["-dc", DATA]).output().expect("gzip runs");
    assert!(output.status.success());
    let lines = String::from_utf8(output.stdout).expect("UTF-8");
    let parsed: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let at = |event: &Value| {
        Timestamp::parse(event["ts"].as_str().expect("a time")).expect("RFC 3339").as_millis()
    };
    let first = at(&parsed[0]);
    let word = |event: &Value, key: &str| event[key].as_str().expect("a text").to_owned();
    let events = parsed.iter().map(|event| Event {
        id: word(event, "id"),
        at: at(event) - first + start,
        variant: word(event, "variant"),
        tenant: word(event, "tenant"),
        metrics: event["metrics"]
            .as_object()
            .expect("metrics")
            .iter()
            .map(|(name, value)| (name.clone(), value.as_f64().expect("a number")))
            .collect(),
    });
    Some(events.collect())
}

#[test]
fn llmdrift_0613_is_rolled_back_and_0314_never_touched() {
    let stage = Stage::open(RULES, FLAGS, (Duration::from_secs(4 * 3600 + 900), 200.0), None);
    run(stage, 240);
}

#[test]
fn llmdrift_on_postgres() {
    let postgres = Postgres::start().expect("PostgreSQL starts");
    let url = Some(postgres.url());
    let stage = Stage::open(RULES, FLAGS, (Duration::from_secs(4 * 3600 + 900), 200.0), url);
    run(stage, 60);
}

/// Plays the first `minutes` of the stream and looks at everything that must have come of it.
fn run(mut stage: Stage, minutes: i64) {
    let began = Instant::now();
    let start = stage.timeline.now() + MINUTE_MS;
    let Some(events) = events(start) else { return };
    stage.daemon.await_ready();
    let (code, said) = stage.daemon.second();
    assert!(code.is_some_and(|code| code != 0), "a second process was let in: {said}");
    assert!(said.contains("another") || said.contains("in use"), "{said}");
    println!("second process: exit code {code:?}: {}", said.lines().last().unwrap_or_default());

    let mut rolled_back = false;
    for event in events.iter().take_while(|event| event.at < start + minutes * MINUTE_MS) {
        stage.timeline.wait_for(event.at);
        // What a gateway does that asks before each generation.
        rolled_back = rolled_back || event.variant == BAD && stage.daemon.served(BAD_FLAG, "any") == GOOD;
        if !(rolled_back && event.variant == BAD) {
            stage.producer.event(event, &mut stage.oracle);
        }
    }
    stage.producer.flush();
    stage.settle();

    let status = stage.daemon.status();
    let latches = status["report"]["latches"].as_array().expect("latches").clone();
    assert_eq!(latches.len(), 1, "{status:#}");
    assert_eq!(latches[0]["flag"], BAD_FLAG);
    for key in 0..200 {
        assert_eq!(stage.daemon.served(BAD_FLAG, &format!("user-{key}")), GOOD);
    }
    let treated =
        (0..200).filter(|key| stage.daemon.served(GOOD_FLAG, &format!("user-{key}")) == GOOD).count();
    assert!((60..=140).contains(&treated), "0314's own flag serves its share: {treated} of 200");
    assert_eq!(stage.check_windows(&[(BAD, "all"), (GOOD, "all")], "faithfulness", 360), 2);
    stage.check_fates();

    let page = eventually("a page stands", Duration::from_secs(20), || {
        rollbacks(&stage.alerts()).into_iter().next()
    });
    assert_eq!(page["labels"]["flag"], BAD_FLAG);
    let markdown = stage.only_incident();
    println!("{markdown}");
    for wanted in [
        "faithfulness_1h < 0.7",
        BAD,
        "below the limit of 0.7",
        "read back",
        "of the ten minutes",
        "rearguard flag rearm",
    ] {
        assert!(markdown.contains(wanted), "`{wanted}` is not in the incident");
    }
    assert_eq!(stage.hook.told("RearguardRollback", "firing").len(), 1);
    stage.daemon.terminate();
    stage.daemon.assert_healthy_log();
    println!(
        "llmdrift: {minutes} min of events, {} sent, in {:.1?}",
        stage.oracle.sent.iter().sum::<u64>(),
        began.elapsed()
    );
}

//! A part of a topic, by Kafka's times, says what the same events in a file say.

use std::io::Write as _;
use std::path::Path;
use std::process::Command;

use rearguard::model::time::Timestamp;
use serde_json::Value;

use crate::producer::{PARTITIONS, Producer, partition_of};
use crate::servers::Kafka;

const DATA: &str = "tests/data/llmdrift-prime-gpt4.jsonl.gz";
const RULES: &str = "tests/replay/llmdrift-prime-gpt4.yaml";
const TOPIC: &str = "generations";

/// What `replay` writes, one object per line, and its exit code.
fn replay(arguments: &[&str]) -> (Vec<Value>, Option<i32>) {
    let output = Command::new(env!("CARGO_BIN_EXE_rearguard"))
        .args(["replay", "--rules", RULES, "--format", "json"])
        .args(arguments)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("the binary runs");
    let said = String::from_utf8(output.stdout).expect("UTF-8");
    assert!(output.status.code() < Some(2), "{said}{}", String::from_utf8_lossy(&output.stderr));
    (said.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect(), output.status.code())
}

#[test]
fn a_part_of_a_topic_is_found_by_time() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let unpacked = Command::new("gzip").arg("-dc").arg(root.join(DATA)).output().expect("gzip runs").stdout;
    let text = String::from_utf8(unpacked).expect("UTF-8");
    let time = |text: &str| Timestamp::parse(text).expect("RFC 3339").as_millis();
    let events: Vec<(i64, String, &str)> = text
        .lines()
        .map(|line| {
            let event: Value = serde_json::from_str(line).expect("JSON");
            let word = |key: &str| event[key].as_str().expect("a text").to_owned();
            (time(&word("ts")), word("tenant"), line)
        })
        .collect();
    let kafka = Kafka::start().expect("Kafka starts");
    kafka.create_topic(TOPIC, PARTITIONS, &[("retention.ms", "-1")]).expect("a topic");
    let producer = Producer::new(kafka.bootstrap(), TOPIC);
    for (at, tenant, line) in &events {
        producer.raw(partition_of(tenant), tenant, line.as_bytes(), *at);
    }
    producer.flush();

    let topic = ["--kafka-topic", TOPIC, "--brokers", kafka.bootstrap()];
    for (from, to) in [
        (None, None),
        (Some("2023-07-12T10:07:30Z"), Some("2023-07-12T11:52:10Z")),
        (Some("2023-07-12T11:00:00Z"), None),
        (None, Some("2023-07-12T09:20:00Z")),
    ] {
        let inside = |at: i64| from.is_none_or(|from| at >= time(from)) && to.is_none_or(|to| at < time(to));
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        let wanted = events.iter().filter(|(at, ..)| inside(*at));
        let count = wanted.map(|(_, _, line)| writeln!(file, "{line}").expect("written")).count();
        let path = file.path().to_str().expect("UTF-8");
        let bounds = [("--from", from), ("--to", to)];
        let bounds = bounds.iter().filter_map(|(flag, time)| Some([*flag, (*time)?])).flatten();
        let from_topic = replay(&topic.into_iter().chain(bounds).collect::<Vec<_>>());
        assert_eq!(from_topic, replay(&["--events", path]), "{from:?} to {to:?}");
        let consumed = &from_topic.0.last().expect("a summary")["events"]["consumed"];
        assert_eq!(*consumed, count, "{from:?} to {to:?}");
        println!("{from:?} to {to:?}: {count} events, exit code {:?}", from_topic.1);
    }
}

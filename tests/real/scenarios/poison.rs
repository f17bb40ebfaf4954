//! Everything that a topic can hold beside good events: each message has the fate that it must have, and only one.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rdkafka::Message;

use super::stage::{DEAD, Stage};
use crate::oracle::Event;
use crate::producer::{PARTITIONS, partition_of};
use crate::reader::{header, read_all};
use crate::timeline::{MINUTE_MS, text};

const RULES: &str = "
- variant: chat.v2
  rules:
    - { id: all, condition: faithfulness_6h < 0.001, action: notify }
";
const CONFIG: &str = "
flags:
  ai.chat.v2: { control: chat.v1, treatment: chat.v2, share: 50% }
limits: { blind_after: 10m }
";
const BIG: usize = 100 << 20;

/// What was sent, and what must have become of it.
#[derive(Default)]
struct Sent {
    /// By partition and fate.
    fates: BTreeMap<(i32, &'static str), u64>,
    /// By reason.
    reasons: BTreeMap<&'static str, u64>,
    /// Offsets of what must lie on the dead-letter topic: partition, offset, fate, reason.
    dead: Vec<(i32, i64, &'static str, &'static str)>,
}

#[test]
fn every_message_has_the_fate_it_must_have() {
    let mut stage = Stage::open(RULES, CONFIG, (Duration::from_secs(2 * 3600), 30.0), None);
    stage.daemon.await_ready();
    let began = Instant::now();
    let mut sent = Sent::default();
    for tenant in ["t0", "t1", "t2", "t3"] {
        send_all(&mut stage, &mut sent, tenant);
    }
    stage.producer.flush();
    let produced = began.elapsed();
    stage.settle();
    let settled = began.elapsed();

    check_fates(&stage, &sent);
    let counted = |reason: &&'static str| {
        stage.daemon.metric("rearguard_refusals_total", &[&format!("reason=\"{reason}\"")]) as u64
    };
    let found: BTreeMap<_, _> = sent.reasons.keys().map(|reason| (*reason, counted(reason))).collect();
    assert_eq!(found, sent.reasons);
    assert_eq!(stage.check_windows(&[("chat.v2", "all")], "faithfulness", 360), 1);
    let letters = dead_letters(stage.kafka.bootstrap(), sent.dead.len());
    sent.dead.sort_unstable();
    let expected: Vec<_> = sent
        .dead
        .iter()
        .map(|(p, offset, fate, reason)| (*p, *offset, (*fate).to_owned(), (*reason).to_owned()))
        .collect();
    assert_eq!(letters, expected, "each poison message lies on the dead-letter topic once, with its reason");
    stage.daemon.terminate();
    stage.daemon.assert_healthy_log();
    println!(
        "poison: {} messages, {} dead letters, produced in {produced:.1?}, all consumed after {settled:.1?}",
        stage.oracle.sent.iter().sum::<u64>(),
        letters.len()
    );
}

/// One of everything in a tenant's partition.
fn send_all(stage: &mut Stage, sent: &mut Sent, tenant: &str) {
    let partition = partition_of(tenant);
    let now = stage.timeline.now();
    let first = (now - 10 * MINUTE_MS).div_euclid(MINUTE_MS) * MINUTE_MS + 1_000;
    let good = |n: i64, at: i64| Event {
        id: format!("{tenant}-{n}"),
        at,
        variant: "chat.v2".into(),
        tenant: tenant.into(),
        metrics: vec![("faithfulness".into(), 0.5 + (n % 5) as f64 / 10.0)],
    };
    for n in 0..50 {
        stage.producer.event(&good(n, first + n * 100), &mut stage.oracle);
        sent.count(partition, "windowed", 1);
    }
    for n in 0..5 {
        raw(stage, partition, good(n, first + n * 100).json().as_bytes(), now);
        sent.count(partition, "duplicate", 1);
    }
    let shape = |ts: &str, metrics: &str| {
        format!(
            r#"{{"id":"{tenant}-x","ts":"{ts}","variant":"chat.v2","tenant":"{tenant}","metrics":{metrics}}}"#
        )
        .into_bytes()
    };
    let fine = text(first + 6_000);
    for (reason, payload) in poison(&fine, &shape, partition == 0) {
        sent.dead(partition, raw(stage, partition, &payload, now), "dead_letter", reason);
    }
    for (reason, payload) in refused(&fine, &shape, now) {
        sent.dead(partition, raw(stage, partition, &payload, now), "refused", reason);
    }
    // Two events move the watermark, after which the first minute is gone for good.
    for n in 100..102 {
        stage.producer.event(&good(n, first + 3 * MINUTE_MS + n), &mut stage.oracle);
        sent.count(partition, "windowed", 1);
    }
    for n in 200..203 {
        raw(stage, partition, good(n, first + MINUTE_MS + n).json().as_bytes(), now);
        sent.count(partition, "late", 1);
    }
    for n in 300..304 {
        let stranger = Event { variant: "nobody.knows".into(), ..good(n, first + 3 * MINUTE_MS + n) };
        raw(stage, partition, stranger.json().as_bytes(), now);
        sent.count(partition, "other", 1);
    }
    let mut odd = good(400, first + 3 * MINUTE_MS + 400);
    odd.metrics.push(("nobody.knows".into(), 1.0));
    stage.producer.event(&odd, &mut stage.oracle);
    sent.count(partition, "windowed", 1);
    *sent.reasons.entry("unknown_metric").or_default() += 1;
}

/// Messages that are no events.
fn poison(fine: &str, shape: &dyn Fn(&str, &str) -> Vec<u8>, big: bool) -> Vec<(&'static str, Vec<u8>)> {
    let nested = format!("{}{}", "[".repeat(200), "]".repeat(200));
    let padded = |bytes: usize| {
        let mut payload = shape(fine, "{}");
        payload.truncate(payload.len() - 1);
        payload.extend_from_slice(b",\"pad\":\"");
        payload.resize(bytes - 2, b'x');
        payload.extend_from_slice(b"\"}");
        payload
    };
    let mut invalid = shape(fine, "{}");
    invalid[8] = 0xff;
    let mut messages = vec![
        ("empty", Vec::new()),
        ("invalid_utf8", invalid),
        ("malformed", b"{\"id\":".to_vec()),
        ("wrong_type", b"[1, 2]".to_vec()),
        ("malformed", shape(fine, "{\"faithfulness\":NaN}")),
        ("malformed", shape(fine, "{\"faithfulness\":-Infinity}")),
        ("wrong_type", shape(fine, "{\"faithfulness\":\"NaN\"}")),
        ("wrong_type", shape(fine, "[]")),
        ("too_deep", shape(fine, &format!("{{}},\"x\":{nested}"))),
        ("duplicate_key", shape(fine, "{\"faithfulness\":1,\"faithfulness\":0}")),
        ("duplicate_key", shape(fine, "{},\"id\":\"again\"")),
        ("absent_field", format!(r#"{{"id":"a","ts":"{fine}","variant":"chat.v2"}}"#).into_bytes()),
        ("bad_timestamp", shape("yesterday", "{}")),
        ("too_large", padded(300 << 10)),
    ];
    if big {
        messages.push(("too_large", padded(BIG)));
    }
    messages
}

/// Events with values that no measurement can have, and times that cannot be.
fn refused(fine: &str, shape: &dyn Fn(&str, &str) -> Vec<u8>, now: i64) -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("timestamp_range", shape("1970-01-01T00:00:00Z", "{}")),
        ("timestamp_range", shape("2300-01-01T00:00:00Z", "{}")),
        ("future", shape(&text(now + 30 * MINUTE_MS), "{}")),
        ("non_finite", shape(fine, "{\"faithfulness\":1e999}")),
        ("non_finite", shape(fine, "{\"cost\":-1e999}")),
        ("negative", shape(fine, "{\"cost\":-0.5}")),
        ("score_above_one", shape(fine, "{\"faithfulness\":1.5}")),
        ("not_boolean", shape(fine, "{\"abstain\":2}")),
    ]
}

/// Sends bytes; the offset that they get, since every message takes one.
fn raw(stage: &mut Stage, partition: i32, payload: &[u8], at: i64) -> i64 {
    stage.producer.raw(partition, "key", payload, at);
    let sent = &mut stage.oracle.sent[partition as usize];
    *sent += 1;
    *sent as i64 - 1
}

impl Sent {
    fn count(&mut self, partition: i32, fate: &'static str, n: u64) {
        *self.fates.entry((partition, fate)).or_default() += n;
    }

    fn dead(&mut self, partition: i32, offset: i64, fate: &'static str, reason: &'static str) {
        self.count(partition, fate, 1);
        *self.reasons.entry(reason).or_default() += 1;
        self.dead.push((partition, offset, fate, reason));
    }
}

fn check_fates(stage: &Stage, sent: &Sent) {
    let report = stage.daemon.status()["report"].clone();
    for partition in 0..PARTITIONS {
        let sources = report["sources"].as_array().expect("sources");
        let source = sources.iter().find(|s| s["source"]["partition"] == partition).expect("a source");
        let mut sum = 0;
        for fate in ["windowed", "late", "duplicate", "dead_letter", "other", "refused", "canary"] {
            let expected = sent.fates.get(&(partition, fate)).copied().unwrap_or(0);
            assert_eq!(
                source["fates"][fate], expected,
                "{fate} in partition {partition}: {}",
                source["fates"]
            );
            let labels = [format!("partition=\"{partition}\""), format!("fate=\"{fate}\"")];
            let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
            assert_eq!(stage.daemon.metric("rearguard_events_total", &labels), expected as f64, "{labels:?}");
            sum += expected;
        }
        assert_eq!(source["fates"]["consumed"], sum);
        assert_eq!(sum, stage.oracle.sent[partition as usize]);
    }
}

/// The dead-letter topic: origin, fate and reason of each, sorted.
fn dead_letters(bootstrap: &str, wanted: usize) -> Vec<(i32, i64, String, String)> {
    let records = read_all(bootstrap, DEAD);
    let mut letters: Vec<_> = records
        .iter()
        .map(|record| {
            let header = |name: &str| header(record, name);
            assert!(record.payload().is_none_or(|value| value.len() <= 256 << 10));
            let reason = header("rearguard.reason").expect("a reason");
            assert_eq!(header("rearguard.truncated_from").is_some(), reason == "too_large");
            (
                header("rearguard.partition").and_then(|p| p.parse().ok()).expect("a partition"),
                header("rearguard.offset").and_then(|o| o.parse().ok()).expect("an offset"),
                header("rearguard.fate").expect("a fate"),
                reason,
            )
        })
        .collect();
    assert!(letters.len() >= wanted, "{} of {wanted} letters: {letters:?}", letters.len());
    letters.sort_unstable();
    letters
}

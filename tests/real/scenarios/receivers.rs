//! The signed webhook and the topic of decisions, as the systems at their other ends see them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rdkafka::Message;
use rdkafka::message::OwnedMessage;
use serde_json::Value;

use super::fleet::key;
use super::stage::Stage;
use crate::hook::{Call, Hook};
use crate::reader::{header, read_all};
use crate::timeline::eventually;

const STREAM: &str = "ai.decisions";
const BOUND: Duration = Duration::from_secs(60);

/// Configures both. The topic is not made yet, so that publishing fails at first.
pub fn add(stage: &mut Stage, webhook: &Hook) {
    let host = webhook.url.trim_start_matches("http://").trim_end_matches('/');
    let setup = &mut stage.daemon.setup;
    setup.hosts.push(host.to_owned());
    setup.receivers = format!(
        "\x20 hook:\n    webhook: {{ url: '{}', secret: '${{REARGUARD_REAL_SECRET}}' }}\n\
         \x20 stream:\n    kafka: {{ topic: {STREAM} }}\n",
        webhook.url
    );
}

/// Makes the topic, waits until everything is told, and looks at what came.
pub fn check(stage: &Stage, webhook: &Hook) {
    let open = |adapter: &str| {
        stage.daemon.count(&format!(
            "SELECT count(*) FROM outbox WHERE adapter = '{adapter}' AND status IN ('pending', 'claimed')"
        ))
    };
    assert!(open("stream") > 0, "nothing can have been published yet");
    stage.kafka.create_topic(STREAM, 1, &[]).expect("a topic");
    for receiver in ["hook", "stream"] {
        eventually(receiver, BOUND, || (open(receiver) == 0).then_some(()));
    }
    check_events(stage, &read_all(stage.kafka.bootstrap(), STREAM));
    check_calls(stage, webhook);
}

/// CloudEvents 1.0, structured mode of the Kafka binding, read by the letter of the specification.
fn check_events(stage: &Stage, records: &[OwnedMessage]) {
    let mut by_id: BTreeMap<String, &[u8]> = BTreeMap::new();
    let mut decisions = BTreeSet::new();
    for record in records {
        let media = header(record, "content-type").expect("a content type");
        assert!(media.starts_with("application/cloudevents+json"), "{media}");
        let payload = record.payload().expect("a value");
        let event: Value = serde_json::from_slice(payload).expect("JSON");
        let attributes = event.as_object().expect("an object");
        for name in attributes.keys() {
            assert!(name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit()), "attribute `{name}`");
        }
        let text = |name: &str| event[name].as_str().filter(|text| !text.is_empty()).expect(name).to_owned();
        assert_eq!(text("specversion"), "1.0");
        assert!(text("source").starts_with('/'), "a URI reference");
        assert!(text("time").parse::<jiff::Timestamp>().is_ok(), "{event}");
        assert_eq!(text("datacontenttype"), "application/json");
        let subject = event["subject"].as_str().unwrap_or("rearguard");
        assert_eq!(record.key(), Some(subject.as_bytes()), "a flag's events stay in order");
        let id = text("id");
        match text("type").as_str() {
            "dev.rearguard.decision.v1" => {
                assert_eq!(event["data"]["key"]["flag"], subject);
                decisions.insert(id.clone());
            }
            "dev.rearguard.message.v1" => assert!(event["data"]["kind"].is_string(), "{event}"),
            other => panic!("an unknown type `{other}`"),
        }
        let first = by_id.entry(id).or_insert(payload);
        assert_eq!(*first, payload, "a repetition says the same");
    }
    let stored = stage.daemon.texts("SELECT id || '-' || gate FROM decisions");
    assert_eq!(decisions, stored.into_iter().collect(), "every decision is published");
    let attempts = |result: &str| {
        let labels = ["adapter=\"kafka\"", &format!("result=\"{result}\"")];
        stage.daemon.metric("rearguard_dispatch_attempts_total", &labels)
    };
    let failed = attempts("retryable") + attempts("unknown");
    assert!(failed > 0.0, "some were tried before there was a topic");
    println!(
        "stream: {} records, {} events, {} decisions, after {failed} failed attempts",
        records.len(),
        by_id.len(),
        decisions.len()
    );
}

fn check_calls(stage: &Stage, webhook: &Hook) {
    let calls = webhook.calls();
    let failed: Vec<&Call> = calls.iter().filter(|call| call.status == 500).collect();
    assert_eq!(failed.len(), 2);
    let id = |call: &Call| call.header("x-rearguard-id").to_owned();
    let taken: Vec<&Call> = calls.iter().filter(|call| call.status == 204).collect();
    assert_eq!(calls.len(), failed.len() + taken.len(), "every call is signed");
    assert_eq!(id(failed[0]), id(failed[1]));
    assert!(taken.iter().any(|call| id(call) == id(failed[0])), "told again under the same id, and taken");

    let mut told: BTreeMap<(String, String), Vec<String>> = BTreeMap::new();
    for call in &taken {
        let body: Value = serde_json::from_slice(&call.body).expect("JSON");
        assert_eq!(body["schema"], "dev.rearguard.message.v1");
        assert_eq!(body["id"], id(call));
        let message = &body["message"];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        if message["kind"] == "no_data" {
            // The end of the stream, which nothing resolves any more.
            continue;
        }
        let about = (text(&message["flag"]), text(&message["dedup_key"]));
        told.entry(about).or_default().push(text(&body["state"]));
    }
    for flag in 0..3 {
        let of_flag = || told.iter().filter(|((about, _), _)| *about == key(flag));
        assert!(of_flag().count() > 0, "flag {flag} was told: {told:#?}");
        for (about, states) in of_flag() {
            assert_eq!(states.first().map(String::as_str), Some("firing"), "{about:?}: {states:?}");
            assert_eq!(states.last().map(String::as_str), Some("resolved"), "{about:?}: {states:?}");
        }
    }
    refuses_what_was_touched(stage, webhook, taken[0]);
    println!("webhook: {} calls taken, under {} keys", taken.len(), told.len());
}

/// The same call again is genuine; with another body, or another time, it is not.
fn refuses_what_was_touched(stage: &Stage, webhook: &Hook, call: &Call) {
    let stamp = call.header("x-rearguard-timestamp").to_owned();
    let later = (stamp.parse::<u64>().expect("seconds") + 1).to_string();
    let touched = String::from_utf8_lossy(&call.body).replace("firing", "resolved").into_bytes();
    assert_ne!(touched, call.body);
    for (stamp, body, status) in
        [(&stamp, &call.body, 204), (&stamp, &touched, 401), (&later, &call.body, 401)]
    {
        let headers = [
            ("x-rearguard-timestamp", stamp.as_str()),
            ("x-rearguard-signature", call.header("x-rearguard-signature")),
            ("x-rearguard-id", call.header("x-rearguard-id")),
        ];
        assert_eq!(stage.daemon.http.post(&webhook.url, &headers, body.clone()), Some(status));
    }
}

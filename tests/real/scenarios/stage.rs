//! One of everything: broker, Alertmanager with its webhook, daemon, producer, oracle.

use std::time::Duration;

use reqwest::Method;
use serde_json::Value;

use crate::daemon::{Daemon, Setup};
use crate::hook::Hook;
use crate::oracle::Oracle;
use crate::producer::{PARTITIONS, Producer};
use crate::servers::{Alertmanager, Kafka};
use crate::timeline::{Timeline, eventually};

pub const TOPIC: &str = "ai.generations";
pub const DEAD: &str = "ai.generations.dead-letter";

/// A scene with everything running. Fields end in this order: the daemon first.
pub struct Stage {
    pub daemon: Daemon,
    pub producer: Producer,
    pub oracle: Oracle,
    pub hook: Hook,
    pub alertmanager: Alertmanager,
    pub kafka: Kafka,
    pub timeline: Timeline,
}

impl Stage {
    /// Starts servers and daemon. `(before, rate)`: virtual time starts so long before now and runs so fast.
    pub fn open(rules: &str, config: &str, time: (Duration, f64), postgres: Option<String>) -> Self {
        let mut stage = Self::prepare(rules, config, time, postgres);
        stage.start();
        stage
    }

    /// Starts the daemon.
    pub fn start(&mut self) {
        self.daemon.start();
    }

    /// Starts the servers only.
    pub fn prepare(
        rules: &str,
        config: &str,
        (before, rate): (Duration, f64),
        postgres: Option<String>,
    ) -> Self {
        let kafka = Kafka::start_with(&[
            ("message.max.bytes", "120000000"),
            ("socket.request.max.bytes", "200000000"),
        ])
        .expect("Kafka starts");
        kafka.create_topic(TOPIC, PARTITIONS, &[("max.message.bytes", "120000000")]).expect("a topic");
        kafka.create_topic(DEAD, 1, &[]).expect("a topic");
        let hook = Hook::listen();
        let alertmanager = Alertmanager::start(&hook.url).expect("Alertmanager starts");
        let timeline = Timeline::starting(before, rate);
        let setup = Setup {
            bootstrap: kafka.bootstrap().to_owned(),
            topic: TOPIC.into(),
            alertmanager: alertmanager.url(),
            rules: rules.into(),
            config: config.into(),
            postgres,
            receivers: String::new(),
            hosts: Vec::new(),
        };
        let daemon = Daemon::prepare(setup, timeline);
        let producer = Producer::new(kafka.bootstrap(), TOPIC);
        Self { daemon, producer, oracle: Oracle::default(), hook, alertmanager, kafka, timeline }
    }

    /// Another producer to the same topic, for a thread of its own.
    pub fn new_producer(&self) -> Producer {
        Producer::new(self.kafka.bootstrap(), TOPIC)
    }

    /// Waits until all that was sent has been consumed and every minute of it is closed.
    pub fn settle(&mut self) {
        let last = self.timeline.now();
        let sent = self.oracle.sent;
        eventually("everything is consumed and judged", Duration::from_secs(60), || {
            let status = self.daemon.status();
            let sources = status["report"]["sources"].as_array()?.clone();
            let consumed = |partition: usize| {
                sources.iter().find(|s| s["source"]["partition"] == partition).map_or(0, next_offset)
            };
            let all = (0..sent.len()).all(|partition| consumed(partition) >= sent[partition]);
            let closed = status["report"]["closed"].as_i64()?;
            (all && (closed + 1) * crate::timeline::MINUTE_MS > last).then_some(())
        });
    }

    /// The alerts that stand in Alertmanager.
    pub fn alerts(&self) -> Vec<Value> {
        let url = format!("{}/api/v2/alerts", self.alertmanager.url());
        let answer = self.daemon.http.get(&url).expect("Alertmanager answers");
        answer.body.as_array().cloned().unwrap_or_default()
    }

    /// The only incident there is, as Markdown.
    pub fn only_incident(&self) -> String {
        let incidents = self.daemon.get("/v1/incidents").body;
        let incidents = incidents["incidents"].as_array().expect("a list").clone();
        assert_eq!(incidents.len(), 1, "{incidents:?}");
        let id = incidents[0]["id"].as_str().expect("an id");
        let path = format!("/v1/incidents/{id}/markdown");
        self.daemon.ask(Method::GET, &path, None).expect("an answer").text
    }

    /// Compares value and samples of the rules named by (variant, id) with brute force; how many were compared.
    pub fn check_windows(&self, rules: &[(&str, &str)], metric: &str, width: i64) -> usize {
        let report = self.daemon.status()["report"].clone();
        let closed = report["closed"].as_i64().expect("a closed minute");
        let alerts = report["alerts"].as_array().expect("alerts");
        let mut compared = 0;
        for (variant, id) in rules {
            let alert = alerts.iter().find(|a| a["variant"] == *variant && a["key"]["rule"] == *id);
            let alert = alert.unwrap_or_else(|| panic!("no alert of {variant} {id} in {alerts:#?}"));
            let (samples, mean) = self.oracle.window(variant, metric, closed, width);
            assert_eq!(alert["samples"], samples, "samples of {variant}, closed {closed}: {alert:#}");
            match (alert["value"].as_f64(), mean) {
                (Some(value), Some(mean)) => {
                    assert!((value - mean).abs() < 1e-5, "{variant}: {value} {mean}")
                }
                (value, mean) => assert_eq!(value.is_some(), mean.is_some(), "{variant}: {value:?} {mean:?}"),
            }
            compared += 1;
        }
        compared
    }

    /// Every message has exactly one fate, per partition, and all of them are windowed.
    pub fn check_fates(&self) {
        let report = self.daemon.status()["report"].clone();
        for source in report["sources"].as_array().expect("sources") {
            let partition = source["source"]["partition"].as_u64().expect("a number") as usize;
            let fates = &source["fates"];
            assert_eq!(fates["consumed"], self.oracle.sent[partition], "partition {partition}: {fates}");
            assert_eq!(fates["windowed"], fates["consumed"], "partition {partition}: {fates}");
        }
    }
}

/// Alerts that are pages of a rollback.
pub fn rollbacks(alerts: &[Value]) -> Vec<Value> {
    alerts.iter().filter(|a| a["labels"]["alertname"] == "RearguardRollback").cloned().collect()
}

fn next_offset(source: &Value) -> u64 {
    source["next_offset"].as_u64().unwrap_or(0)
}

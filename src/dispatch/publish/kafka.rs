//! A Kafka topic of CloudEvents 1.0: every decision, acted upon or not, for other systems to read.
//!
//! Types: `dev.rearguard.decision.v1` and `dev.rearguard.message.v1`. Structured mode puts the whole event into the value
//! (`content-type: application/cloudevents+json; charset=UTF-8`); binary mode puts attributes into `ce_*` headers. The key is
//! the flag, so that a flag's events stay in order; the producer is idempotent, so that librdkafka's own retries do not double
//! them. A crash between sending and recording can repeat an event; its `id` is the same then. Brokers are the operator's own
//! (`bootstrap.servers`), so the HTTP allow-list does not apply to them.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};
use serde_json::{Value, json};

use crate::dispatch::client::Secret;
use crate::dispatch::failure::Failure;
use crate::dispatch::receiver::{Attempt, Content, Notice, Receiver};
use crate::model::time::Timestamp;

/// CloudEvents' content modes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    #[default]
    Structured,
    Binary,
}

/// A topic that events are written to.
pub struct KafkaTopic {
    name: String,
    topic: String,
    mode: Mode,
    source: String,
    producer: FutureProducer,
}

impl KafkaTopic {
    /// A producer for `topic`; `source` is the CloudEvents attribute, a URI reference such as `/rearguard/prod`.
    pub fn new(
        name: String,
        topic: String,
        mode: Mode,
        source: String,
        settings: &BTreeMap<String, Secret>,
    ) -> Result<Self, Failure> {
        let mut config = ClientConfig::new();
        for (key, value) in settings {
            config.set(key, value.reveal());
        }
        config.set("enable.idempotence", "true").set("acks", "all");
        // Must end before the worker's own time-out, or nobody hears the result.
        if !settings.contains_key("message.timeout.ms") {
            config.set("message.timeout.ms", "8000");
        }
        let producer = config.create().map_err(|error| {
            // The client's own text repeats the setting's value, which may be a password.
            let why = match &error {
                KafkaError::ClientConfig(_, _, key, _) => {
                    format!("librdkafka does not accept the setting `{key}` or its value")
                }
                KafkaError::ClientCreation(why) => why.clone(),
                _ => "the producer cannot be made".into(),
            };
            Failure::permanent(format!("receiver `{name}`: {why}"))
        })?;
        Ok(Self { name, topic, mode, source, producer })
    }

    async fn publish(&self, notice: &Notice, within: Duration) -> Result<(), Failure> {
        let event = CloudEvent::of(notice, &self.source)?;
        let (headers, value) = event.encode(self.mode)?;
        let record = FutureRecord::to(&self.topic).key(&event.key).payload(&value).headers(headers);
        let sent = tokio::time::timeout(within, self.producer.send(record, within)).await;
        match sent {
            Ok(Ok(_)) => Ok(()),
            Ok(Err((error, _))) => Err(classify(&error)),
            Err(_) => Err(Failure::Unknown { why: "the broker did not confirm in time".into() }),
        }
    }
}

impl Receiver for KafkaTopic {
    fn name(&self) -> &str {
        &self.name
    }

    fn adapter(&self) -> &'static str {
        "kafka"
    }

    fn tell<'a>(&'a self, notice: &'a Notice, within: Duration) -> Attempt<'a, ()> {
        Box::pin(self.publish(notice, within))
    }
}

/// A CloudEvent and the key of its record.
struct CloudEvent<'a> {
    id: &'a str,
    source: &'a str,
    kind: &'static str,
    subject: Option<String>,
    time: Timestamp,
    data: Value,
    key: String,
}

impl<'a> CloudEvent<'a> {
    fn of(notice: &'a Notice, source: &'a str) -> Result<Self, Failure> {
        let (kind, flag, data) = match &notice.content {
            Content::Decision(decision) => (
                "dev.rearguard.decision.v1",
                Some(decision.key.flag.to_string()),
                serde_json::to_value(decision),
            ),
            Content::Message(message) => (
                "dev.rearguard.message.v1",
                message.flag.as_ref().map(ToString::to_string),
                serde_json::to_value(message),
            ),
        };
        Ok(Self {
            id: &notice.id,
            source,
            kind,
            key: flag.clone().unwrap_or_else(|| "rearguard".into()),
            subject: flag,
            time: notice.since,
            data: data.map_err(|error| Failure::permanent(format!("no JSON: {error}")))?,
        })
    }

    fn encode(&self, mode: Mode) -> Result<(OwnedHeaders, Vec<u8>), Failure> {
        let header = |key, value| Header { key, value: Some(value) };
        let time = self.time.to_string();
        match mode {
            Mode::Binary => {
                let mut headers = OwnedHeaders::new()
                    .insert(header("content-type", "application/json"))
                    .insert(header("ce_specversion", "1.0"))
                    .insert(header("ce_id", self.id))
                    .insert(header("ce_source", self.source))
                    .insert(header("ce_type", self.kind))
                    .insert(header("ce_time", &time));
                if let Some(subject) = &self.subject {
                    headers = headers.insert(header("ce_subject", subject));
                }
                Ok((headers, bytes(&self.data)?))
            }
            Mode::Structured => {
                let mut event = json!({
                    "specversion": "1.0",
                    "id": self.id,
                    "source": self.source,
                    "type": self.kind,
                    "time": time,
                    "datacontenttype": "application/json",
                    "data": self.data,
                });
                if let Some(subject) = &self.subject {
                    event["subject"] = json!(subject);
                }
                let headers = OwnedHeaders::new()
                    .insert(header("content-type", "application/cloudevents+json; charset=UTF-8"));
                Ok((headers, bytes(&event)?))
            }
        }
    }
}

fn bytes(value: &Value) -> Result<Vec<u8>, Failure> {
    serde_json::to_vec(value).map_err(|error| Failure::permanent(format!("no JSON: {error}")))
}

fn classify(error: &KafkaError) -> Failure {
    use RDKafkaErrorCode as Code;
    let why = error.to_string();
    match error.rdkafka_error_code() {
        Some(
            Code::TopicAuthorizationFailed
            | Code::ClusterAuthorizationFailed
            | Code::SaslAuthenticationFailed
            | Code::Authentication
            | Code::MessageSizeTooLarge
            | Code::InvalidTopic
            | Code::UnsupportedFeature,
        ) => Failure::permanent(why),
        // It may lie in the log already; the id tells a reader.
        Some(Code::MessageTimedOut | Code::OperationTimedOut | Code::RequestTimedOut) => {
            Failure::Unknown { why }
        }
        _ => Failure::retryable(why),
    }
}

#[cfg(test)]
mod tests;

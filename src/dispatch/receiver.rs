//! Receivers: who is told. One small trait; a page, a notice and a published decision go the same way.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use super::client::{Outbound, Secret};
use super::failure::Failure;
use super::pager::{alertmanager::Alertmanager, webhook::Webhook};
use super::publish::kafka::{KafkaTopic, Mode};
use crate::engine::output::{Decision, Message, MessageKind};
use crate::model::time::Timestamp;

/// What an attempt of an adapter comes to.
pub type Attempt<'a, T> = Pin<Box<dyn Future<Output = Result<T, Failure>> + Send + 'a>>;

/// A system that can be told something.
pub trait Receiver: Send + Sync {
    /// Its name in the configuration.
    fn name(&self) -> &str;

    /// The adapter, for metrics.
    fn adapter(&self) -> &'static str;

    /// Tells it, and makes sure that it has understood where the system allows that. May take `within` of real time.
    /// Telling the same twice has the effect of telling it once.
    fn tell<'a>(&'a self, notice: &'a Notice, within: Duration) -> Attempt<'a, ()>;

    /// How often, in real time, a standing message has to be told again so that the system does not drop it.
    fn refresh(&self) -> Option<Duration> {
        None
    }
}

/// One thing to tell.
#[derive(Clone, Debug, PartialEq)]
pub struct Notice {
    /// The same for every try, so that a receiver can recognise a repetition.
    pub id: String,
    pub content: Content,
    /// Where to read more.
    pub link: Option<String>,
    /// Since when it stands, in virtual time; the same in every repetition.
    pub since: Timestamp,
}

/// What is told.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    Message(Box<Message>),
    Decision(Box<Decision>),
}

/// Whether a message opens or closes something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    Firing,
    Resolved,
}

impl State {
    /// The state that a message leaves behind.
    pub const fn of(kind: MessageKind) -> Self {
        match kind {
            MessageKind::Resolved => Self::Resolved,
            _ => Self::Firing,
        }
    }
}

/// Whether a message stands until another one under the same key resolves it. Others are said once.
pub const fn stands(kind: MessageKind) -> bool {
    match kind {
        MessageKind::Rollback
        | MessageKind::RollbackFailed
        | MessageKind::Superseded
        | MessageKind::StillServing
        | MessageKind::Pause
        | MessageKind::NoData
        | MessageKind::Masked
        | MessageKind::Blind => true,
        MessageKind::Notice | MessageKind::Resolved | MessageKind::Gap => false,
    }
}

/// A receiver as configuration describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceiverSpec {
    pub name: String,
    pub kind: ReceiverKind,
}

/// The adapter of a receiver and what it needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReceiverKind {
    Alertmanager {
        /// Without `/api/v2`, e.g. `http://alertmanager:9093`.
        url: String,
        bearer: Option<Secret>,
        /// User and password.
        basic: Option<(String, Secret)>,
        /// Labels put on every alert, for routing.
        labels: BTreeMap<String, String>,
    },
    Webhook {
        url: String,
        /// The key of the HMAC-SHA256 signature.
        secret: Secret,
    },
    Kafka {
        topic: String,
        mode: Mode,
        /// librdkafka settings; at least `bootstrap.servers`. Their values are never logged.
        settings: BTreeMap<String, Secret>,
    },
}

/// Opens a receiver. Nothing is sent; addresses are checked against the allow-list.
pub fn open(spec: &ReceiverSpec, outbound: &Outbound, source: &str) -> Result<Arc<dyn Receiver>, Failure> {
    let name = spec.name.clone();
    Ok(match &spec.kind {
        ReceiverKind::Alertmanager { url, bearer, basic, labels } => Arc::new(Alertmanager::new(
            name,
            outbound.clone(),
            outbound.address(url)?,
            bearer.clone(),
            basic.clone(),
            labels.clone(),
        )?),
        ReceiverKind::Webhook { url, secret } => {
            Arc::new(Webhook::new(name, outbound.clone(), outbound.address(url)?, secret.clone()))
        }
        ReceiverKind::Kafka { topic, mode, settings } => {
            Arc::new(KafkaTopic::new(name, topic.clone(), *mode, source.to_owned(), settings)?)
        }
    })
}

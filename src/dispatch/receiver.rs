//! Receivers: who is told. One small trait; a page, a notice and a published decision go the same way.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use super::client::{Outbound, Secret};
use super::failure::Failure;
use super::pager::alertmanager::Alertmanager;
use super::pager::incidentio::{Declare, IncidentIo};
use super::pager::jsm::Jsm;
use super::pager::pagerduty::PagerDuty;
use super::pager::slack::Slack;
use super::pager::webhook::Webhook;
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
    /// Whether it is to wake somebody.
    pub wakes: bool,
    /// Whether the receiver has taken an earlier state of it: what was told then may be over.
    pub update: bool,
    /// What it is about in single facts, if a decision stands behind it.
    pub facts: Option<Box<Facts>>,
}

/// A decision and what became of it, fact by fact, as people read them; for services with fields of their own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    pub rule: String,
    pub failure_class: String,
    /// Who is served control, e.g. "everybody".
    pub scope: String,
    /// The number and its limit.
    pub measured: String,
    /// The 95 % interval.
    pub interval: Option<String>,
    pub samples: String,
    pub tenants: String,
    /// What was done, and what was read back.
    pub done: String,
    pub owner: Option<String>,
    pub runbook: Option<String>,
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
        MessageKind::Notice | MessageKind::Resolved | MessageKind::Gap | MessageKind::Acknowledged => false,
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
    PagerDuty {
        /// Without `/v2`.
        url: String,
        routing_key: Secret,
    },
    Jsm {
        /// Without `/v2`.
        url: String,
        api_key: Secret,
    },
    IncidentIo {
        /// Without `/v2`.
        url: String,
        /// The alert source's identifier.
        source: String,
        token: Secret,
        declare: Option<Declare>,
    },
    Slack {
        /// The whole address, which is the secret.
        url: Secret,
    },
    Kafka {
        topic: String,
        mode: Mode,
        /// librdkafka settings; at least `bootstrap.servers`. Their values are never logged.
        settings: BTreeMap<String, Secret>,
    },
}

/// Opens a receiver. Nothing is sent; addresses are checked against the allow-list.
/// `service` is the source of published events.
pub fn open(spec: &ReceiverSpec, outbound: &Outbound, service: &str) -> Result<Arc<dyn Receiver>, Failure> {
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
        ReceiverKind::PagerDuty { url, routing_key } => {
            let base = outbound.address(url)?;
            Arc::new(PagerDuty::new(name, outbound.clone(), &base, routing_key.clone())?)
        }
        ReceiverKind::Jsm { url, api_key } => {
            Arc::new(Jsm::new(name, outbound.clone(), outbound.address(url)?, api_key.clone()))
        }
        ReceiverKind::IncidentIo { url, source, token, declare } => {
            let base = outbound.address(url)?;
            let token = token.clone();
            Arc::new(IncidentIo::new(name, outbound.clone(), &base, source, token, declare.clone())?)
        }
        ReceiverKind::Slack { url } => {
            Arc::new(Slack::new(name, outbound.clone(), outbound.address(url.reveal())?))
        }
        ReceiverKind::Kafka { topic, mode, settings } => {
            Arc::new(KafkaTopic::new(name, topic.clone(), *mode, service.to_owned(), settings)?)
        }
    })
}

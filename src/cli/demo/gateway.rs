//! The demo's AI gateway: for every request it asks the flag which variant to serve, and writes one event to Kafka.
//!
//! Flows in: requests as their time comes. Flows out: events, and counts of what was written. It consults the table that
//! OFREP answers from, so a flip changes its traffic like that of any gateway.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::error::KafkaError;
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseRecord, ProducerContext, ThreadedProducer};
use rdkafka::types::RDKafkaErrorCode;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::traffic::{MARCH, Plan, Request, Traffic};
use super::world::{FLAG, TOPIC, TREATMENT};
use crate::clock::Clock;
use crate::engine::targeting::{self, Context};
use crate::model::id::FlagKey;
use crate::model::time::Timestamp;
use crate::store::Store;
use crate::supervise::{OnError, Supervisor, Task, TaskError};

/// How often it looks whose time has come (real time).
const PACE: Duration = Duration::from_millis(5);
/// How long the broker may take to acknowledge the last events (real time).
const LAST_WORDS: Duration = Duration::from_secs(10);

/// How often an event is sent before it is given up. Rearguard counts an id once, so sending again doubles nothing.
const TRIES: u8 = 5;

/// What was written, counted.
#[derive(Debug, Default)]
pub struct Counts {
    pub sent: AtomicU64,
    acknowledged: AtomicU64,
    failed: AtomicU64,
    /// What the broker said of the first that it refused.
    failure: OnceLock<String>,
    /// What the broker refused and is sent again.
    again: Mutex<Vec<Sent>>,
    pub treatment: AtomicU64,
    /// Event time of the last event of the treatment.
    last_treatment: AtomicI64,
}

impl Counts {
    /// Event time of the last event of the treatment.
    pub fn last_treatment(&self) -> Timestamp {
        Timestamp::from_millis(self.last_treatment.load(Ordering::Relaxed))
    }

    fn refused(&self, event: Sent) {
        if event.tries < TRIES {
            let again = Sent { tries: event.tries + 1, ..event };
            self.again.lock().unwrap_or_else(PoisonError::into_inner).push(again);
        } else {
            self.failed.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn take_refused(&self) -> Vec<Sent> {
        std::mem::take(&mut self.again.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// An event on its way.
#[derive(Clone, Debug)]
struct Sent {
    tenant: String,
    payload: Vec<u8>,
    tries: u8,
}

/// A running gateway.
pub struct Gateway {
    pub counts: Arc<Counts>,
    closed: Arc<AtomicBool>,
}

impl Gateway {
    /// Opens for business: traffic begins at the plan's first minute.
    pub fn open(
        brokers: &str,
        seed: u64,
        plan: Plan,
        store: Store,
        clock: Clock,
        supervisor: &Supervisor,
    ) -> anyhow::Result<Self> {
        let counts = Arc::new(Counts::default());
        let closed = Arc::new(AtomicBool::new(false));
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", brokers).set("linger.ms", "2");
        let context = Tally(Arc::clone(&counts));
        let producer =
            ThreadedProducer::from_config_and_context(&config, context).context("opening the producer")?;
        let traffic = Traffic::new(seed, plan);
        let mut desk = Some(Desk {
            traffic,
            plan,
            store,
            clock,
            producer,
            counts: Arc::clone(&counts),
            closed: Arc::clone(&closed),
        });
        let task = Task { name: "demo-gateway", on_error: OnError::Stop, drain: Duration::from_secs(2) };
        supervisor.spawn(task, move |stop| {
            let desk = desk.take();
            async move {
                match desk {
                    Some(desk) => desk.serve(stop).await,
                    None => Err("the gateway opens only once".into()),
                }
            }
        });
        Ok(Self { counts, closed })
    }

    /// Takes no further requests; how many events the broker has acknowledged in all.
    ///
    /// # Errors
    ///
    /// Events that the broker refused, or did not acknowledge in time.
    pub async fn close(&self, clock: Clock) -> anyhow::Result<u64> {
        self.closed.store(true, Ordering::Relaxed);
        let watch = clock.stopwatch();
        loop {
            // The desk may be sending its last ones: let it finish its round before the counts are believed.
            clock.sleep_real(PACE * 4).await;
            let [sent, acknowledged, failed] =
                [&self.counts.sent, &self.counts.acknowledged, &self.counts.failed]
                    .map(|count| count.load(Ordering::Relaxed));
            let why = self.counts.failure.get().map_or("", String::as_str);
            anyhow::ensure!(failed == 0, "the broker refused {failed} of {sent} events: {why}");
            if acknowledged == sent {
                return Ok(acknowledged);
            }
            anyhow::ensure!(
                watch.elapsed() < LAST_WORDS,
                "the broker acknowledged only {acknowledged} of {sent} events"
            );
        }
    }
}

/// Where requests are served.
struct Desk {
    traffic: Traffic,
    plan: Plan,
    store: Store,
    clock: Clock,
    producer: ThreadedProducer<Tally>,
    counts: Arc<Counts>,
    closed: Arc<AtomicBool>,
}

/// An event as `docs/events.md` describes it.
#[derive(Serialize)]
struct Event<'a> {
    id: &'a str,
    ts: String,
    variant: &'a str,
    tenant: &'a str,
    tier: &'a str,
    region: &'a str,
    unit: &'a str,
    metrics: Metrics,
}

#[derive(Serialize)]
struct Metrics {
    accuracy: bool,
    latency: f64,
    cost: f64,
}

impl Desk {
    async fn serve(mut self, stop: CancellationToken) -> Result<(), TaskError> {
        while !stop.is_cancelled() {
            let now = self.clock.now();
            while !self.closed.load(Ordering::Relaxed)
                && let Some(request) = self.traffic.due(now)
            {
                self.serve_one(&request).await?;
            }
            for refused in self.counts.take_refused() {
                self.send(refused).await?;
            }
            self.clock.sleep_real(PACE).await;
        }
        // The producer's thread still delivers what it has; it ends with the process.
        Ok(())
    }

    async fn serve_one(&self, request: &Request) -> Result<(), TaskError> {
        let table = self.store.flags();
        let flag = table.get(&FlagKey::from(FLAG)).ok_or("the demo's flag is gone")?;
        let context = Context {
            targeting_key: Some(request.user.clone()),
            tenant: Some(request.tenant.clone()),
            tier: Some(request.tier.into()),
            region: Some(request.region.into()),
        };
        let variant = targeting::evaluate(&flag.spec, &flag.overlay, &context).variant;
        if variant == targeting::OFF {
            return Ok(());
        }
        let treated = variant == TREATMENT;
        let answer = request.answer(if treated { self.plan.treatment(request.at) } else { MARCH });
        if treated {
            self.counts.treatment.fetch_add(1, Ordering::Relaxed);
            self.counts.last_treatment.fetch_max(request.at.as_millis(), Ordering::Relaxed);
        }
        let event = Event {
            id: &format!("gen-{}", request.number),
            ts: request.at.to_string(),
            variant: &variant,
            tenant: &request.tenant,
            tier: request.tier,
            region: request.region,
            unit: &request.user,
            metrics: Metrics { accuracy: answer.right, latency: answer.latency, cost: answer.cost },
        };
        self.counts.sent.fetch_add(1, Ordering::Relaxed);
        self.send(Sent { tenant: request.tenant.clone(), payload: serde_json::to_vec(&event)?, tries: 1 })
            .await
    }

    async fn send(&self, event: Sent) -> Result<(), TaskError> {
        let mut event = Box::new(event);
        loop {
            let Sent { tenant, payload, .. } = &*event.clone();
            match self.producer.send(BaseRecord::with_opaque_to(TOPIC, event).key(tenant).payload(payload)) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), record)) => {
                    event = record.delivery_opaque;
                    self.clock.sleep_real(PACE).await;
                }
                Err((error, _)) => return Err(error.into()),
            }
        }
    }
}

/// Counts what the broker says of each event.
struct Tally(Arc<Counts>);

impl ClientContext for Tally {}

impl ProducerContext for Tally {
    type DeliveryOpaque = Box<Sent>;

    fn delivery(&self, result: &DeliveryResult<'_>, event: Box<Sent>) {
        match result {
            Ok(_) => drop(self.0.acknowledged.fetch_add(1, Ordering::Relaxed)),
            Err((error, _)) => {
                self.0.failure.get_or_init(|| error.to_string());
                self.0.refused(*event);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_broker_refuses_is_sent_again_and_given_up_in_the_end() {
        let counts = Counts::default();
        let mut event = Sent { tenant: "acme".into(), payload: b"{}".to_vec(), tries: 1 };
        for tries in 2..=TRIES {
            counts.refused(event);
            let [again] = &counts.take_refused()[..] else { panic!("one event") };
            assert_eq!((again.tries, again.payload.as_slice()), (tries, &b"{}"[..]));
            event = again.clone();
        }
        counts.refused(event);
        assert_eq!((counts.take_refused().len(), counts.failed.load(Ordering::Relaxed)), (0, 1));
    }
}

//! The adapters, each with its stand-in.

use std::sync::Arc;

use rearguard::dispatch::client::{Outbound, Secret};
use rearguard::dispatch::flag::FlagPlatform;
use rearguard::dispatch::flag::builtin::Builtin;
use rearguard::dispatch::flag::remote::Service;
use rearguard::dispatch::receiver::{Receiver, ReceiverKind, ReceiverSpec, open};
use rearguard::model::flag::Served;
use rearguard::store::Store;
use serde_json::Value;
use tokio::runtime::Handle;

use crate::receivers::{HOOK, KEY, OTHER, PREFIX, incidentio, jsm, pagerduty, slack};
use crate::standin::alertmanager::Alertmanager;
use crate::standin::hook::Hook;
use crate::standin::incidentio::IncidentIo;
use crate::standin::jsm::Jsm;
use crate::standin::pagerduty::PagerDuty;
use crate::standin::samples::{darkly_sample, experiment, gate, in_house, sample, setting};
use crate::standin::server::{Fault, Standin};
use crate::standin::slack::Slack;
use crate::standin::{Asked, Desk, Flags, Platform};
use crate::vendor_http as vendors;

/// A running stand-in, whatever it stands for.
pub trait Double: Send + Sync {
    fn url(&self) -> &str;
    fn misbehave(&self, script: &[Fault]);
    fn asked(&self) -> Vec<Asked>;
}

impl<P: Platform + Sync> Double for Standin<P> {
    fn url(&self) -> &str {
        &self.url
    }

    fn misbehave(&self, script: &[Fault]) {
        Self::misbehave(self, script);
    }

    fn asked(&self) -> Vec<Asked> {
        Self::asked(self)
    }
}

/// A stand-in of a flag platform.
pub trait FlagDouble: Double {
    /// How many writes took effect.
    fn changes(&self) -> u64;
}

impl<P: Flags + Sync> FlagDouble for Standin<P> {
    fn changes(&self) -> u64 {
        self.platform().changes()
    }
}

/// A stand-in of a service that people are paged by.
pub trait DeskDouble: Double {
    /// How many are open under our key.
    fn open(&self) -> usize;
    fn rung(&self) -> usize;
}

impl<D: Desk + Sync> DeskDouble for Standin<D> {
    fn open(&self) -> usize {
        self.platform().open().len()
    }

    fn rung(&self) -> usize {
        self.platform().rung()
    }
}

/// A flag platform's adapter.
pub struct FlagAdapter {
    pub name: &'static str,
    /// How many requests a flip takes up to the first look of its read-back.
    pub places: usize,
    /// How many writes to the stand-in that takes.
    pub writes: u64,
    pub start: fn(&Handle) -> Box<dyn FlagDouble>,
    /// The vendor's; Rearguard's own store without.
    service: Option<fn() -> Service>,
    /// What control and treatment are called there.
    pair: [&'static str; 2],
}

impl FlagAdapter {
    pub fn open(&self, store: &Store, outbound: &Outbound, url: &str) -> Arc<dyn FlagPlatform> {
        match self.service {
            Some(service) => Arc::new(vendors::remote_by(outbound, url, service(), Some(vendors::WRITES_AS))),
            None => Arc::new(Builtin::new(store.clone())),
        }
    }

    /// What the flag is called there; nothing in Rearguard's own store.
    pub fn served(&self) -> Option<Served> {
        let [control, treatment] = self.pair.map(str::to_owned);
        self.service.map(|_| Served { control, treatment, ..vendors::served() })
    }
}

fn start<P: Platform + Sync>(servers: &Handle, model: P) -> Box<Standin<P>> {
    Box::new(servers.block_on(Standin::start(model)))
}

/// Where nobody is asked.
#[derive(Clone)]
struct Nobody;

impl Platform for Nobody {
    fn answer(&mut self, asked: &Asked) -> (u16, Value) {
        panic!("nobody is to be asked: {asked:?}")
    }
}

impl Flags for Nobody {
    fn changes(&self) -> u64 {
        0
    }
}

/// What the variations of most stand-ins are called.
const PAIR: [&str; 2] = ["a.v1", "a.v2"];

pub const FLAGS: [FlagAdapter; 8] = [
    FlagAdapter {
        name: "builtin",
        places: 1,
        writes: 0,
        start: |servers| start(servers, Nobody),
        service: None,
        pair: PAIR,
    },
    FlagAdapter {
        name: "unleash",
        places: 4,
        writes: 1,
        start: |servers| start(servers, sample()),
        service: Some(vendors::on_unleash),
        pair: PAIR,
    },
    FlagAdapter {
        name: "launchdarkly",
        places: 4,
        writes: 1,
        start: |servers| start(servers, darkly_sample()),
        service: Some(vendors::on_launchdarkly),
        pair: PAIR,
    },
    FlagAdapter {
        name: "configcat",
        places: 4,
        writes: 1,
        start: |servers| start(servers, setting()),
        service: Some(vendors::on_configcat),
        pair: PAIR,
    },
    FlagAdapter {
        name: "statsig gate",
        places: 4,
        writes: 1,
        start: |servers| start(servers, gate()),
        service: Some(|| Service::Statsig),
        pair: ["false", "true"],
    },
    FlagAdapter {
        name: "statsig experiment",
        places: 4,
        writes: 1,
        start: |servers| start(servers, experiment(false)),
        service: Some(|| Service::Statsig),
        pair: PAIR,
    },
    FlagAdapter {
        name: "statsig experiment with overrides",
        places: 4,
        writes: 2,
        start: |servers| start(servers, experiment(true)),
        service: Some(|| Service::Statsig),
        pair: PAIR,
    },
    FlagAdapter {
        name: "webhook",
        places: 4,
        writes: 1,
        start: |servers| start(servers, in_house()),
        service: Some(|| Service::Webhook),
        pair: PAIR,
    },
];

/// What becomes of a page that a service lied about, or whose answer got lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// What it took is read back.
    ReadBack,
    /// It is believed, and knows a repetition.
    Believed,
    /// It is believed, and does not know a repetition: two messages rather than none.
    Repeats,
}

/// A receiver's adapter.
pub struct DeskAdapter {
    pub name: &'static str,
    /// How many requests a page takes.
    pub places: usize,
    pub trust: Trust,
    pub start: fn(&Handle) -> Box<dyn DeskDouble>,
    kind: fn(&str) -> ReceiverKind,
}

impl DeskAdapter {
    /// The receiver under a name of the routes.
    pub fn open(&self, name: &str, outbound: &Outbound, url: &str) -> Arc<dyn Receiver> {
        let spec = ReceiverSpec { name: name.into(), kind: (self.kind)(url) };
        open(&spec, outbound, "/rearguard").unwrap()
    }
}

fn alertmanager(url: &str) -> ReceiverKind {
    let labels = [("team".to_owned(), "assist".to_owned())].into();
    ReceiverKind::Alertmanager { url: url.into(), bearer: Some(Secret::new(KEY)), basic: None, labels }
}

fn hook(url: &str) -> ReceiverKind {
    ReceiverKind::Webhook { url: url.into(), secret: Secret::new(KEY) }
}

pub const DESKS: [DeskAdapter; 6] = [
    DeskAdapter {
        name: "alertmanager",
        places: 3,
        trust: Trust::ReadBack,
        start: |servers| start(servers, Alertmanager::default()),
        kind: alertmanager,
    },
    DeskAdapter {
        name: "pagerduty",
        places: 1,
        trust: Trust::Believed,
        start: |servers| start(servers, PagerDuty::new(KEY)),
        kind: pagerduty,
    },
    DeskAdapter {
        name: "jsm",
        places: 1,
        trust: Trust::Believed,
        start: |servers| start(servers, Jsm::new(KEY, PREFIX)),
        kind: jsm,
    },
    DeskAdapter {
        name: "incident.io",
        places: 2,
        trust: Trust::Believed,
        start: |servers| start(servers, IncidentIo::new(KEY, OTHER)),
        kind: incidentio,
    },
    DeskAdapter {
        name: "webhook",
        places: 1,
        trust: Trust::Believed,
        start: |servers| start(servers, Hook::new(KEY)),
        kind: hook,
    },
    DeskAdapter {
        name: "slack",
        places: 1,
        trust: Trust::Repeats,
        start: |servers| start(servers, Slack::new(HOOK)),
        kind: slack,
    },
];

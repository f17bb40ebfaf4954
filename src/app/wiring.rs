//! Configuration in the words of the layers below: receivers, allow-list, routes, the settings of ingest.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::clock::Clock;
use crate::config::{
    Config, EventMode, PlatformKind as Platform, Receiver, Secret as Hidden, Service as At, Start,
    Store as StoreAt, Vendor,
};
use crate::dispatch::client::{AllowList, AllowedHost, Outbound, Secret};
use crate::dispatch::failure::Failure;
use crate::dispatch::flag::builtin::Builtin;
use crate::dispatch::flag::goff::RelaySpec;
use crate::dispatch::flag::remote::{Endpoint, RemoteSpec, Service};
use crate::dispatch::flag::{self, FlagPlatform, PlatformKind, PlatformSpec};
use crate::dispatch::pager::incidentio::Declare;
use crate::dispatch::publish::kafka::Mode;
use crate::dispatch::receiver::{self, Receiver as Open, ReceiverKind, ReceiverSpec};
use crate::engine::rollup::HOUR;
use crate::engine::rule::Window;
use crate::ingest::config::{Config as Ingest, StartAt};
use crate::model::time::{MINUTE_MS, Timestamp};
use crate::store::{Routes, Store, Timing};

/// The store's address.
pub fn store_url(config: &Config) -> String {
    match &config.store {
        StoreAt::Sqlite(path) => format!("sqlite:{}", path.display()),
        StoreAt::Postgres(url) => url.expose().to_owned(),
    }
}

/// The client for everything outside.
pub fn outbound(config: &Config, clock: Clock) -> Result<Outbound, Failure> {
    Outbound::new(allow_list(config), clock)
}

/// The configured flag platforms, opened, and Rearguard's own store.
pub fn platforms(
    config: &Config,
    outbound: &Outbound,
    store: &Store,
) -> Result<Vec<Arc<dyn FlagPlatform>>, Failure> {
    let mut platforms: Vec<Arc<dyn FlagPlatform>> = vec![Arc::new(Builtin::new(store.clone()))];
    for (name, platform) in &config.platforms {
        let spec = PlatformSpec { name: name.clone(), kind: platform_kind(&platform.kind) };
        platforms.push(flag::open(&spec, outbound)?);
    }
    Ok(platforms)
}

fn remote(vendor: &Vendor) -> RemoteSpec {
    let endpoint = |url: &str, secret: &crate::config::Secret| Endpoint {
        url: url.to_owned(),
        user: vendor.user.clone(),
        secret: Secret::new(secret.expose()),
    };
    let service = match vendor.service.clone() {
        At::Unleash { project, environment } => Service::Unleash { project, environment },
        At::Launchdarkly { project, environment } => Service::LaunchDarkly { project, environment },
        At::Configcat { environment } => Service::ConfigCat { environment },
        At::Statsig => Service::Statsig,
        At::Webhook => Service::Webhook,
    };
    RemoteSpec {
        service,
        admin: endpoint(&vendor.url, &vendor.token),
        evaluation: endpoint(&vendor.client_url, &vendor.client_token),
        web: vendor.web.clone(),
        writes_as: vendor.writes_as.clone(),
    }
}

/// A platform in the words of dispatch.
pub fn platform_kind(kind: &Platform) -> PlatformKind {
    match kind {
        Platform::Flagd { path, ofrep } => PlatformKind::Flagd { path: path.clone(), ofrep: ofrep.clone() },
        Platform::Gofeatureflag { path, relay, admin_key, api_key } => {
            let relay = relay.as_ref().map(|url| RelaySpec {
                url: url.clone(),
                admin_key: admin_key.as_ref().map(hidden),
                api_key: api_key.as_ref().map(hidden),
            });
            PlatformKind::GoFeatureFlag { path: path.clone(), relay }
        }
        Platform::Vendor(vendor) => PlatformKind::Remote(remote(vendor)),
    }
}

/// All receivers, opened.
pub fn receivers(config: &Config, outbound: &Outbound) -> Result<Vec<Arc<dyn Open>>, Failure> {
    config
        .receivers
        .iter()
        .map(|(name, receiver)| {
            let spec = ReceiverSpec { name: name.clone(), kind: kind(receiver, config) };
            receiver::open(&spec, outbound, "/rearguard")
        })
        .collect()
}

/// Which receivers get what. Kafka topics get every decision.
pub fn routes(config: &Config) -> Routes {
    let publish = config
        .receivers
        .iter()
        .filter(|(_, receiver)| matches!(receiver, Receiver::Kafka { .. }))
        .map(|(name, _)| name.clone())
        .collect();
    let crate::config::Routes { page, notify, matches } = config.routes.clone();
    Routes { page, notify, publish, matches }
}

/// How long dispatch may take.
pub fn timing(config: &Config) -> Timing {
    Timing {
        page_after: config.timing.page_after,
        flip_at_least: config.timing.flip_deadline,
        ..Timing::default()
    }
}

/// How events are read. `from` is the event time at which the longest window begins.
pub fn ingest(config: &Config, from: Timestamp) -> Ingest {
    let kafka = &config.kafka;
    let mut ingest = Ingest::new(kafka.bootstrap(), kafka.topics.clone(), kafka.group.clone());
    ingest.instance = kafka.group_instance_id.clone();
    ingest.start = match kafka.start {
        Start::OneLongestWindow => StartAt::Time(from),
        Start::Earliest => StartAt::Earliest,
    };
    ingest.properties =
        kafka.properties.iter().map(|(key, value)| (key.clone(), value.expose().to_owned())).collect();
    ingest.dead_letter_topic = Some(kafka.dead_letter_topic.clone());
    ingest.limits.lateness = config.timing.lateness;
    ingest.limits.slices = usize::try_from(config.limits.slices).unwrap_or(usize::MAX);
    // The clock of ingest is the daemon's, so that a sped-up one flushes as often in real time as it should.
    ingest.flush_every = config.timing.tick / 2;
    ingest.idle_every = config.timing.tick / 2;
    ingest.snapshot_every = config.timing.snapshot_every;
    ingest
}

/// Where the minutes begin that windows at `now` are made of, a minute and the lateness more to be sure: six hours, and what
/// may be missing to the whole hour before that goes into a roll-up.
pub fn window_start(now: Timestamp, config: &Config) -> Timestamp {
    let window = i64::from(Window::LONGEST.0) + HOUR + 1;
    Timestamp::from_millis(now.as_millis() - window * MINUTE_MS) - config.timing.lateness
}

fn allow_list(config: &Config) -> AllowList {
    AllowList::new(config.outbound.allow.iter().map(|entry| {
        let (host, port) = match entry.rsplit_once(':') {
            Some((host, port)) if !host.ends_with(':') && port.parse::<u16>().is_ok() => {
                (host, port.parse().ok())
            }
            _ => (entry.as_str(), None),
        };
        // The operator's list is the permission, private networks included: that is where most Alertmanagers live.
        AllowedHost { host: host.to_owned(), port, private: true }
    }))
}

fn hidden(secret: &Hidden) -> Secret {
    Secret::new(secret.expose())
}

fn kind(receiver: &Receiver, config: &Config) -> ReceiverKind {
    match receiver {
        Receiver::Alertmanager { url, labels } => {
            ReceiverKind::Alertmanager { url: url.clone(), bearer: None, basic: None, labels: labels.clone() }
        }
        Receiver::Webhook { url, secret } => {
            ReceiverKind::Webhook { url: url.clone(), secret: hidden(secret) }
        }
        Receiver::Pagerduty { url, routing_key } => {
            ReceiverKind::PagerDuty { url: url.clone(), routing_key: hidden(routing_key) }
        }
        Receiver::Jsm { url, api_key } => ReceiverKind::Jsm { url: url.clone(), api_key: hidden(api_key) },
        Receiver::Incidentio { url, alert_source, token, incident } => ReceiverKind::IncidentIo {
            url: url.clone(),
            source: alert_source.clone(),
            token: hidden(token),
            declare: incident.as_ref().map(|incident| Declare {
                api_key: hidden(&incident.api_key),
                private: incident.private,
                severity: incident.severity.clone(),
            }),
        },
        Receiver::Slack { url } => ReceiverKind::Slack { url: hidden(url) },
        Receiver::Kafka { topic, mode } => {
            let mut settings: BTreeMap<String, Secret> =
                config.kafka.properties.iter().map(|(key, value)| (key.clone(), hidden(value))).collect();
            settings.insert("bootstrap.servers".into(), Secret::new(config.kafka.bootstrap()));
            let mode = match mode {
                EventMode::Structured => Mode::Structured,
                EventMode::Binary => Mode::Binary,
            };
            ReceiverKind::Kafka { topic: topic.clone(), mode, settings }
        }
    }
}

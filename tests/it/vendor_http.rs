//! Vendors' platforms behind the trait, over HTTP against the stand-in: whole flips, and every fault in every place.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rearguard::clock::Clock;
use rearguard::dispatch::client::{AllowList, AllowedHost, Outbound, Secret};
use rearguard::dispatch::failure::Failure;
use rearguard::dispatch::flag::remote::{Endpoint, Remote, RemoteSpec, Service};
use rearguard::dispatch::flag::{FlagPlatform, Wanted};
use rearguard::model::flag::{Scope, Served};
use rearguard::model::time::Timestamp;
use rearguard::store::Flip;
use serde_json::json;

use crate::standin::launchdarkly as ld;
use crate::standin::samples::{darkly_sample, experiment, gate, in_house, sample, setting};
use crate::standin::server::{Fault, Standin};
use crate::standin::unleash as un;
use crate::standin::{Asked, Flags, SECRET};

const WITHIN: Duration = Duration::from_secs(2);

/// The way out to stand-ins.
pub fn loopback(clock: Clock) -> Outbound {
    let host = AllowedHost { host: "127.0.0.1".into(), port: None, private: true };
    Outbound::new(AllowList::new([host]), clock).unwrap()
}

fn remote(url: &str, service: Service, writes_as: Option<&str>) -> Remote {
    remote_by(&loopback(Clock::system()), url, service, writes_as)
}

/// A vendor's platform at a stand-in.
pub fn remote_by(outbound: &Outbound, url: &str, service: Service, writes_as: Option<&str>) -> Remote {
    let endpoint = Endpoint { url: url.to_owned(), user: Some("api".into()), secret: Secret::new(SECRET) };
    let spec = RemoteSpec {
        service,
        admin: endpoint.clone(),
        evaluation: endpoint,
        web: Some("https://flags.example.com".into()),
        writes_as: writes_as.map(str::to_owned),
    };
    Remote::new("prod".into(), spec, outbound).unwrap()
}

/// What the stand-ins' flag is called.
pub fn served() -> Served {
    Served {
        platform: "prod".into(),
        kind: "vendor".into(),
        key: "ai.a".into(),
        id: Some("7".into()),
        control: "a.v1".into(),
        treatment: "a.v2".into(),
        worst: Duration::from_secs(50),
    }
}

fn wanted(flip: Flip) -> Wanted {
    Wanted { flip, served: Some(served()), since: Clock::system().now() }
}

fn pin() -> Flip {
    Flip::Pin {
        decision: "d-1".into(),
        flag: "ai.a".into(),
        scope: Scope::All,
        control: "a.v1".into(),
        by: None,
    }
}

pub fn on_unleash() -> Service {
    Service::Unleash { project: "default".into(), environment: un::ENVIRONMENT.into() }
}

pub fn on_launchdarkly() -> Service {
    Service::LaunchDarkly { project: "shop".into(), environment: ld::ENVIRONMENT.into() }
}

pub fn on_configcat() -> Service {
    Service::ConfigCat { environment: "08d86d63-2726-47cd-8bfc-59608ecb91e2".into() }
}

/// Whom Statsig says that changes are by: those of Rearguard.
pub const WRITES_AS: &str = "rearguard@example.com";

fn unleash(url: &str) -> Remote {
    remote(url, on_unleash(), None)
}

fn darkly(url: &str) -> Remote {
    remote(url, on_launchdarkly(), None)
}

fn configcat(url: &str) -> Remote {
    remote(url, on_configcat(), None)
}

fn statsig(url: &str) -> Remote {
    remote(url, Service::Statsig, Some(WRITES_AS))
}

fn house(url: &str) -> Remote {
    remote(url, Service::Webhook, None)
}

/// One try of a flip, as the worker makes it.
async fn flip(platform: &Remote, wanted: &Wanted) -> Result<String, Failure> {
    let seen = platform.read(wanted, WITHIN).await?;
    if !seen.done {
        match platform.write(wanted, &seen.version, Timestamp::from_millis(0), WITHIN).await {
            Ok(()) | Err(Failure::Unknown { .. }) => {}
            Err(failure) => return Err(failure),
        }
    }
    platform.verify(wanted, WITHIN).await
}

/// The writes among what was asked.
fn writes(asked: &[Asked]) -> usize {
    asked.iter().filter(|asked| asked.method != "GET").count()
}

#[tokio::test]
async fn a_pin_is_written_once_and_read_back_at_the_evaluation_plane() {
    let standin = Standin::start(sample()).await;
    let (platform, wanted) = (unleash(&standin.url), wanted(pin()));
    let seen = platform.read(&wanted, WITHIN).await.unwrap();
    assert_eq!((seen.done, seen.safe, seen.changed, seen.locked), (false, false, None, None));
    assert_eq!(seen.undo.as_deref(), Some("https://flags.example.com/projects/default/features/ai.a"));
    let told = flip(&platform, &wanted).await.unwrap();
    assert_eq!(told, "prod gives nobody `a.v2` (revision 8)");
    let again = flip(&platform, &wanted).await.unwrap();
    assert_eq!((again, writes(&standin.asked())), (told, 1));
    assert!(platform.read(&wanted, WITHIN).await.unwrap().safe);

    let standin = Standin::start(darkly_sample()).await;
    let platform = darkly(&standin.url);
    let told = flip(&platform, &wanted).await.unwrap();
    assert!(told.starts_with("prod gives nobody `a.v2` (revision "), "{told}");
    assert_eq!(writes(&standin.asked()), 1);
}

#[tokio::test]
async fn what_somebody_wrote_between_read_and_write_is_a_conflict() {
    let standin = Standin::start(sample()).await;
    let (platform, wanted) = (unleash(&standin.url), wanted(pin()));
    let failed = platform.write(&wanted, "6", Timestamp::from_millis(0), WITHIN).await.unwrap_err();
    assert!(matches!(failed, Failure::Conflict { .. }), "{failed:?}");
    assert_eq!(writes(&standin.asked()), 0);
}

#[tokio::test]
async fn a_humans_change_since_the_decision_is_told_and_our_own_is_not() {
    let standin = Standin::start(sample()).await;
    let mut wanted = wanted(pin());
    // The stand-in's last change: 2026-11-23T22:32:36.730Z, by ann.
    wanted.since = Timestamp::parse("2026-11-23T22:00:00Z").unwrap();
    let changed = unleash(&standin.url).read(&wanted, WITHIN).await.unwrap().changed;
    assert_eq!(changed.as_deref(), Some("changed on prod by ann at 2026-11-23T22:32:36.73Z"));
    let ours = remote(&standin.url, on_unleash(), Some("ann"));
    assert_eq!(ours.read(&wanted, WITHIN).await.unwrap().changed, None);
    wanted.since = Timestamp::parse("2026-11-23T23:00:00Z").unwrap();
    assert_eq!(unleash(&standin.url).read(&wanted, WITHIN).await.unwrap().changed, None);
}

pub const FAULTS: [(Fault, &str); 16] = [
    (Fault::Status(401), "permanent"),
    (Fault::Status(403), "permanent"),
    (Fault::Status(404), "permanent"),
    (Fault::Status(405), "permanent"),
    (Fault::Status(409), "conflict retryable"),
    (Fault::Status(422), "permanent"),
    (Fault::Status(429), "retryable"),
    (Fault::After(429, "7"), "retryable"),
    (Fault::Status(500), "retryable"),
    (Fault::After(503, "7"), "retryable"),
    (Fault::Redirect, "permanent"),
    (Fault::Hang, "retryable"),
    (Fault::Half, "retryable"),
    (Fault::Late, "retryable"),
    (Fault::Ignore, "retryable"),
    (Fault::Huge, "retryable"),
];

/// What a fault comes to in one place of a flip: a failure of the right kind, or nothing; and the next try ends well, with
/// nothing written that had not to be.
async fn survives(
    model: impl Flags,
    platform: fn(&str) -> Remote,
    (place, changes): (usize, u64),
    (fault, kinds): (Fault, &str),
) {
    let standin = Standin::start(model).await;
    let mut script = vec![Fault::Pass; place];
    script.push(fault);
    standin.misbehave(&script);
    let (platform, wanted) = (platform(&standin.url), wanted(pin()));
    let tried = flip(&platform, &wanted).await;
    let name = format!("{fault:?} at {place}: {tried:?}");
    assert!(!name.contains(SECRET), "{name}");
    if let Err(failure) = &tried {
        assert!(kinds.contains(failure.result()), "{name}");
        let asked = matches!(fault, Fault::After(..)).then_some(Duration::from_secs(7));
        assert_eq!(failure.after(), asked, "{name}");
    }
    let written = writes(&standin.asked());
    flip(&platform, &wanted).await.unwrap_or_else(|failure| panic!("{name}, then {failure:?}"));
    let done = platform.read(&wanted, WITHIN).await.unwrap();
    assert!(done.done && done.safe, "{name}");
    assert_eq!(standin.platform().changes(), changes, "{name}: nothing is written twice");
    if tried.is_ok() {
        assert_eq!(writes(&standin.asked()), written, "{name}: nothing is left to write");
    }
}

/// Every fault in every place: the reads, the write, the first look of the read-back.
async fn survives_all(model: impl Flags + Sync, platform: fn(&str) -> Remote) {
    let whole = Standin::start(model.clone()).await;
    flip(&platform(&whole.url), &wanted(pin())).await.unwrap();
    let places = whole.asked().iter().rposition(|asked| asked.method != "GET").unwrap() + 2;
    let changes = whole.platform().changes();
    let mut cells = tokio::task::JoinSet::new();
    for place in 0..places {
        for fault in FAULTS {
            cells.spawn(survives(model.clone(), platform, (place, changes), fault));
        }
    }
    assert!(cells.len() >= 64);
    while let Some(cell) = cells.join_next().await {
        cell.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unleash_survives_every_fault_in_every_place() {
    survives_all(sample(), unleash).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn launchdarkly_survives_every_fault_in_every_place() {
    survives_all(darkly_sample(), darkly).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn configcat_survives_every_fault_in_every_place() {
    survives_all(setting(), configcat).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn statsig_survives_every_fault_in_every_place() {
    for forced in [false, true] {
        survives_all(experiment(forced), statsig).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_of_ones_own_survives_every_fault_in_every_place() {
    survives_all(in_house(), house).await;
}

#[tokio::test]
async fn a_service_of_ones_own_holds_a_share_and_says_what_is_locked() {
    let standin = Standin::start(in_house()).await;
    let freeze = wanted(Flip::Freeze { decision: "d-1".into(), flag: "ai.a".into(), by: None });
    flip(&house(&standin.url), &freeze).await.unwrap();
    assert!(standin.platform().flag["moves"].is_null());
    flip(&house(&standin.url), &freeze).await.unwrap();
    assert_eq!(writes(&standin.asked()), 1, "what stands is not held again");
    let mut locked = in_house();
    locked.flag["locked"] = json!("two people have to agree");
    let standin = Standin::start(locked).await;
    let platform = house(&standin.url);
    let seen = platform.read(&wanted(pin()), WITHIN).await.unwrap();
    assert_eq!(seen.locked.as_deref(), Some("two people have to agree"));
    let failed = platform.write(&wanted(pin()), &seen.version, Timestamp::from_millis(0), WITHIN).await;
    assert!(failed.unwrap_err().to_string().contains("another person has to approve"));
}

/// Ends with the test.
struct Example(Child);

impl Drop for Example {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// The service of docs/integrations/webhook-platform.py.
#[tokio::test]
async fn the_example_of_a_service_of_ones_own_is_rolled_back_on() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/integrations/webhook-platform.py");
    let started = Command::new("python3")
        .args([script, "0"])
        .env("WEBHOOK_SECRET", SECRET)
        .stdout(Stdio::piped())
        .spawn();
    let mut service = match started {
        Ok(child) => Example(child),
        Err(error) => return println!("not run: python3 does not start: {error}"),
    };
    let mut url = String::new();
    BufReader::new(service.0.stdout.as_mut().unwrap()).read_line(&mut url).unwrap();
    let mut wanted = wanted(pin());
    let served = wanted.served.as_mut().unwrap();
    (served.key, served.control, served.treatment) = ("support-prompt".into(), "v17".into(), "v18".into());
    let platform = house(url.trim());
    let seen = platform.read(&wanted, WITHIN).await.unwrap();
    assert_eq!((seen.done, seen.safe), (false, false));
    let told = flip(&platform, &wanted).await.unwrap();
    assert_eq!(told, "prod gives nobody `v18` (revision 2)");
    assert!(platform.read(&wanted, WITHIN).await.unwrap().done);
    let late = platform.write(&wanted, &seen.version, Timestamp::from_millis(0), WITHIN).await.unwrap_err();
    assert!(matches!(late, Failure::Conflict { .. }), "{late:?}");
}

#[tokio::test]
async fn a_gate_of_statsig_is_disabled_over_http() {
    let standin = Standin::start(gate()).await;
    let mut wanted = wanted(pin());
    let served = wanted.served.as_mut().unwrap();
    (served.control, served.treatment) = ("false".into(), "true".into());
    let told = flip(&statsig(&standin.url), &wanted).await.unwrap();
    assert!(told.starts_with("prod gives nobody `true` (revision "), "{told}");
    assert_eq!(standin.platform().data["isEnabled"], false);
}

#[tokio::test]
async fn what_a_platform_repeats_of_a_secret_is_not_told() {
    let standin = Standin::start(sample()).await;
    standin.misbehave(&[Fault::Echo(403)]);
    let failed = unleash(&standin.url).read(&wanted(pin()), WITHIN).await.unwrap_err();
    assert!(failed.to_string().contains('…') && !failed.to_string().contains(SECRET), "{failed}");
}

#[tokio::test]
async fn a_pause_finds_nothing_to_hold_and_a_release_plan_cannot_be_held() {
    let standin = Standin::start(sample()).await;
    let freeze = wanted(Flip::Freeze { decision: "d-1".into(), flag: "ai.a".into(), by: None });
    let platform = unleash(&standin.url);
    assert!(platform.read(&freeze, WITHIN).await.unwrap().done);
    assert_eq!(platform.verify(&freeze, WITHIN).await.unwrap(), "the share stands at 25 %");
    let mut moving = sample();
    moving.feature["environments"][0]["strategies"][0]["milestoneId"] = json!("m-1");
    let standin = Standin::start(moving).await;
    let failed = unleash(&standin.url).read(&freeze, WITHIN).await.unwrap_err();
    assert!(failed.is_permanent() && failed.to_string().contains("release plan"), "{failed}");
}

//! Paging services against their stand-ins: one thing told is one thing open, whatever goes wrong in between.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rearguard::app::rules::inspect;
use rearguard::clock::Clock;
use rearguard::config::Config;
use rearguard::dispatch::client::{AllowList, AllowedHost, Outbound, Secret};
use rearguard::dispatch::failure::Failure;
use rearguard::dispatch::message::{facts, with_outcome};
use rearguard::dispatch::pager::incidentio::Declare;
use rearguard::dispatch::receiver::{Content, Notice, Receiver, ReceiverKind, ReceiverSpec, open};
use rearguard::dispatch::{example, story::Flip};
use rearguard::engine::output::{Message, MessageKind};
use rearguard::model::incident::Severity;
use serde_json::Value;

use crate::standin::Desk;
use crate::standin::incidentio::{IncidentIo, SOURCE};
use crate::standin::jsm::Jsm;
use crate::standin::pagerduty::PagerDuty;
use crate::standin::server::{Fault, Standin};
use crate::standin::slack::Slack;

pub const KEY: &str = "planted5ecret0planted5ecret0pl01";
pub const OTHER: &str = "planted5ecret0of0incidents";
pub const HOOK: &str = "/services/T0/B0/planted5ecret0";
pub const PREFIX: &str = "/jsm/ops/integration";

/// Long enough for an answer on a busy machine, short enough to wait for none.
const WITHIN: Duration = Duration::from_millis(1500);

fn key() -> Secret {
    Secret::new(KEY)
}

pub fn pagerduty(url: &str) -> ReceiverKind {
    ReceiverKind::PagerDuty { url: url.into(), routing_key: key() }
}

pub fn jsm(url: &str) -> ReceiverKind {
    ReceiverKind::Jsm { url: format!("{url}{PREFIX}"), api_key: key() }
}

pub fn incidentio(url: &str) -> ReceiverKind {
    let declare = Declare { api_key: Secret::new(OTHER), private: true, severity: Some("01FH".into()) };
    ReceiverKind::IncidentIo { url: url.into(), source: SOURCE.into(), token: key(), declare: Some(declare) }
}

pub fn slack(url: &str) -> ReceiverKind {
    ReceiverKind::Slack { url: Secret::new(format!("{url}{HOOK}")) }
}

fn receiver(kind: ReceiverKind) -> Arc<dyn Receiver> {
    let list = AllowList::new([AllowedHost { host: "127.0.0.1".into(), port: None, private: true }]);
    let spec = ReceiverSpec { name: "oncall".into(), kind };
    assert!(!format!("{spec:?}").contains("planted"), "{spec:?}");
    open(&spec, &Outbound::new(list, Clock::system()).unwrap(), "/rearguard").unwrap()
}

/// A message of a kind, as it leaves the worker.
fn notice(kind: MessageKind) -> Notice {
    let story = example::story();
    let message = with_outcome(&example::message(), &story.opener, story.flip.as_ref(), None);
    Notice {
        id: "rearguard-7-0".into(),
        since: message.at,
        content: Content::Message(Box::new(Message { kind, ..message })),
        link: Some("https://rearguard.example.com/v1/incidents/x/markdown".into()),
        wakes: kind != MessageKind::Resolved,
        update: false,
        facts: Some(Box::new(facts(&story.opener, story.flip.as_ref()))),
    }
}

async fn start<D: Desk>(desk: D, kind: fn(&str) -> ReceiverKind) -> (Standin<D>, Arc<dyn Receiver>) {
    let standin = Standin::start(desk).await;
    let receiver = receiver(kind(&standin.url));
    (standin, receiver)
}

/// What a fault of an answer comes to. A service that lies about having done it is believed: nothing can be read back.
fn expected(fault: Fault) -> (&'static str, Option<u64>) {
    match fault {
        Fault::Pass | Fault::Ignore => ("told", None),
        Fault::Status(409) => ("conflict", None),
        Fault::Status(429 | 500 | 503) => ("retryable", None),
        Fault::After(_, wait) => ("retryable", wait.parse().ok()),
        Fault::Status(_) | Fault::Echo(_) | Fault::Redirect => ("permanent", None),
        Fault::Hang | Fault::Late | Fault::Half | Fault::Huge => ("unknown", None),
    }
}

pub const FAULTS: [Fault; 19] = [
    Fault::Pass,
    Fault::Ignore,
    Fault::Status(400),
    Fault::Status(401),
    Fault::Status(403),
    Fault::Status(404),
    Fault::Status(405),
    Fault::Status(409),
    Fault::Status(422),
    Fault::Status(429),
    Fault::Status(500),
    Fault::Status(503),
    Fault::After(429, "7"),
    Fault::After(503, "3"),
    Fault::Hang,
    Fault::Late,
    Fault::Half,
    Fault::Redirect,
    Fault::Huge,
];

fn result(told: &Result<(), Failure>) -> (&'static str, Option<u64>) {
    match told {
        Ok(()) => ("told", None),
        Err(failure) => {
            let text = format!("{failure} {failure:?}");
            assert!(!text.contains("planted"), "{text}");
            (failure.result(), failure.after().map(|after| after.as_secs()))
        }
    }
}

/// After every fault, and after the retry that the worker would make, exactly one thing is open and one person was rung.
async fn one_is_open_after_every_fault<D: Desk>(desk: D, kind: fn(&str) -> ReceiverKind) {
    let runs = FAULTS.map(|fault| {
        let desk = desk.clone();
        async move {
            let (standin, receiver) = start(desk, kind).await;
            let page = notice(MessageKind::Rollback);
            standin.misbehave(&[fault]);
            let told = receiver.tell(&page, WITHIN).await;
            let name = receiver.adapter();
            assert_eq!(result(&told), expected(fault), "{name} {fault:?}: {told:?}");
            let mut rung = standin.platform().rung();
            assert!(rung <= 1);
            if told.is_err() {
                receiver.tell(&page, WITHIN).await.unwrap();
                rung = standin.platform().rung();
            }
            assert_eq!(rung, usize::from(fault != Fault::Ignore), "{name} {fault:?}");
            assert_eq!(standin.platform().open().len(), rung, "{name} {fault:?}");
        }
    });
    futures(runs).await;
}

/// All at once: most of them wait.
async fn futures<F: Future<Output = ()> + Send + 'static, const N: usize>(runs: [F; N]) {
    for run in runs.map(tokio::spawn) {
        run.await.unwrap();
    }
}

#[tokio::test]
async fn pagerduty_has_one_open_after_every_fault() {
    one_is_open_after_every_fault(PagerDuty::new(KEY), pagerduty).await;
}

#[tokio::test]
async fn jsm_has_one_open_after_every_fault() {
    one_is_open_after_every_fault(Jsm::new(KEY, PREFIX), jsm).await;
}

#[tokio::test]
async fn incidentio_has_one_open_after_every_fault() {
    one_is_open_after_every_fault(IncidentIo::new(KEY, OTHER), incidentio).await;
}

/// The alert was taken; whatever becomes of the incident beside it, a retry leaves one of each.
#[tokio::test]
async fn incidentio_declares_one_incident_after_every_fault() {
    futures(FAULTS.map(|fault| async move {
        let (standin, receiver) = start(IncidentIo::new(KEY, OTHER), incidentio).await;
        let page = notice(MessageKind::Rollback);
        standin.misbehave(&[Fault::Pass, fault]);
        let told = receiver.tell(&page, 2 * WITHIN).await;
        assert_eq!(result(&told), expected(fault), "{fault:?}: {told:?}");
        if told.is_err() {
            receiver.tell(&page, WITHIN).await.unwrap();
        }
        let desk = standin.platform();
        let declared = usize::from(fault != Fault::Ignore);
        assert_eq!((desk.rung(), desk.open().len(), desk.incidents.len()), (1, 1, declared), "{fault:?}");
    }))
    .await;
}

/// Opened, told again, failed, resolved: never more than one open, rung for the first and for the failure.
async fn follows<D: Desk>(desk: D, kind: fn(&str) -> ReceiverKind) -> D {
    let (standin, receiver) = start(desk, kind).await;
    let name = receiver.adapter();
    for (told, open, rung) in [
        (MessageKind::Rollback, 1, 1),
        (MessageKind::Rollback, 1, 1),
        (MessageKind::Acknowledged, 1, 1),
        (MessageKind::Superseded, 1, 1),
        (MessageKind::RollbackFailed, 1, 2),
        (MessageKind::RollbackFailed, 1, 2),
        // It got through after all: that rings once more, and the failure is over.
        (MessageKind::Rollback, 1, 3),
        (MessageKind::Acknowledged, 1, 3),
        (MessageKind::Resolved, 0, 3),
        (MessageKind::Resolved, 0, 3),
        (MessageKind::Acknowledged, 0, 3),
    ] {
        let update = told != MessageKind::Resolved;
        receiver.tell(&Notice { update, ..notice(told) }, WITHIN).await.unwrap();
        let desk = standin.platform();
        assert_eq!((desk.open().len(), desk.rung()), (open, rung), "{name} {told:?}: {:?}", desk.open());
    }
    standin.platform()
}

#[tokio::test]
async fn what_was_opened_is_resolved_and_a_failure_rings_anew() {
    follows(PagerDuty::new(KEY), pagerduty).await;
    follows(Jsm::new(KEY, PREFIX), jsm).await;
    let desk = follows(IncidentIo::new(KEY, OTHER), incidentio).await;
    assert_eq!(desk.incidents.len(), 1, "people close it");
}

#[tokio::test]
async fn an_acknowledgement_is_passed_on_where_the_service_knows_one() {
    let seen = |alerts: &BTreeMap<String, Value>| alerts.values().all(|alert| alert["acknowledged"] == true);
    let (standin, receiver) = start(PagerDuty::new(KEY), pagerduty).await;
    for kind in [MessageKind::Rollback, MessageKind::Acknowledged, MessageKind::Acknowledged] {
        receiver.tell(&notice(kind), WITHIN).await.unwrap();
    }
    let desk = standin.platform();
    assert!(desk.open().len() == 1 && desk.rung() == 1 && seen(&desk.alerts), "{:?}", desk.alerts);
    let (standin, receiver) = start(Jsm::new(KEY, PREFIX), jsm).await;
    for kind in [MessageKind::RollbackFailed, MessageKind::Acknowledged] {
        receiver.tell(&notice(kind), WITHIN).await.unwrap();
    }
    let desk = standin.platform();
    assert!(desk.open().len() == 1 && desk.rung() == 1 && seen(&desk.alerts), "{:?}", desk.alerts);
}

#[tokio::test]
async fn a_page_says_what_broke_and_what_was_done() {
    let page = notice(MessageKind::Rollback);
    let (standin, receiver) = start(PagerDuty::new(KEY), pagerduty).await;
    receiver.tell(&page, WITHIN).await.unwrap();
    let alert = standin.platform().alerts.into_values().next().unwrap();
    let payload = &alert["payload"];
    assert_eq!(payload["severity"], "critical");
    assert_eq!(payload["class"], "quality_regression");
    assert_eq!(payload["component"], "support-copilot.prompt-v18");
    let details = &payload["custom_details"];
    assert_eq!(details["measured"], "0.871, below the limit of 0.92");
    assert_eq!(details["interval"], "0.854 to 0.887");
    assert_eq!(details["tenants"], "37");
    assert!(details["done"].as_str().unwrap().contains("Verified by reading back"), "{details}");
    assert_eq!(alert["links"][0]["href"], page.link.as_deref().unwrap());
    assert_eq!(alert["links"][1]["text"], "Runbook");

    let (standin, receiver) = start(Jsm::new(KEY, PREFIX), jsm).await;
    receiver.tell(&page, WITHIN).await.unwrap();
    let alert = standin.platform().alerts.into_values().next().unwrap();
    assert_eq!(alert["priority"], "P1");
    assert_eq!(alert["alias"], "rollback:ai.support-copilot.prompt-v18:all");
    assert_eq!(alert["details"]["interval"], "0.854 to 0.887");

    let (standin, receiver) = start(IncidentIo::new(KEY, OTHER), incidentio).await;
    receiver.tell(&page, WITHIN).await.unwrap();
    let desk = standin.platform();
    let (key, incident) = desk.incidents.iter().next().unwrap();
    assert_eq!(key, "rollback/ai.support-copilot.prompt-v18/all");
    assert_eq!((&incident["visibility"], &incident["severity_id"]), (&"private".into(), &"01FH".into()));
    assert_eq!(desk.alerts[key]["metadata"]["failure_class"], "quality_regression");
}

#[tokio::test]
async fn what_wakes_nobody_opens_nothing_that_rings() {
    let pause = Notice { wakes: false, ..notice(MessageKind::Pause) };
    let (standin, receiver) = start(PagerDuty::new(KEY), pagerduty).await;
    receiver.tell(&pause, WITHIN).await.unwrap();
    let desk = standin.platform();
    assert_eq!((desk.open().len(), desk.changes.len()), (0, 1));
    let (standin, receiver) = start(Jsm::new(KEY, PREFIX), jsm).await;
    receiver.tell(&pause, WITHIN).await.unwrap();
    assert_eq!(standin.platform().alerts.into_values().next().unwrap()["priority"], "P5");
    let (standin, receiver) = start(IncidentIo::new(KEY, OTHER), incidentio).await;
    receiver.tell(&pause, WITHIN).await.unwrap();
    let desk = standin.platform();
    assert!(desk.incidents.is_empty());
    assert_eq!(desk.alerts.into_values().next().unwrap()["metadata"]["wakes"], "false");
}

#[tokio::test]
async fn long_and_odd_texts_fit_everywhere() {
    let odd = "é\"\u{1F525}<&\n".repeat(6000);
    let mut long = notice(MessageKind::Rollback);
    long.facts.as_mut().unwrap().done = odd.clone();
    let Content::Message(message) = &mut long.content else { panic!("a message") };
    let (summary, detail) = (odd.clone(), odd.clone());
    **message =
        Message { dedup_key: odd, summary, detail, severity: Severity::Warning, ..(**message).clone() };
    let mut end = long.clone();
    let Content::Message(message) = &mut end.content else { panic!("a message") };
    message.kind = MessageKind::Resolved;
    // Stand-ins measure every field.
    let (standin, receiver) = start(PagerDuty::new(KEY), pagerduty).await;
    receiver.tell(&long, WITHIN).await.unwrap();
    receiver.tell(&end, WITHIN).await.unwrap();
    assert_eq!((standin.platform().open().len(), standin.platform().rung()), (0, 1));
    let (standin, receiver) = start(Jsm::new(KEY, PREFIX), jsm).await;
    receiver.tell(&long, WITHIN).await.unwrap();
    receiver.tell(&end, WITHIN).await.unwrap();
    assert_eq!(standin.platform().rung(), 1);
    let (standin, receiver) = start(IncidentIo::new(KEY, OTHER), incidentio).await;
    receiver.tell(&long, WITHIN).await.unwrap();
    receiver.tell(&end, WITHIN).await.unwrap();
    assert_eq!((standin.platform().open().len(), standin.platform().rung()), (0, 1));
    let (_standin, receiver) = start(Slack::new(HOOK), slack).await;
    receiver.tell(&long, WITHIN).await.unwrap();
}

/// A service that repeats the key in its refusal does not bring it into the log.
#[tokio::test]
async fn no_refusal_shows_a_secret() {
    async fn refused<D: Desk>(desk: D, kind: fn(&str) -> ReceiverKind) {
        let (_standin, receiver) = start(desk, kind).await;
        let failure = receiver.tell(&notice(MessageKind::Rollback), WITHIN).await.unwrap_err();
        assert!(failure.is_permanent(), "{failure}");
        assert!(failure.to_string().contains('…'), "the stand-in repeats what it was sent: {failure}");
        assert!(!format!("{failure} {failure:?}").contains("planted"), "{failure:?}");
    }
    refused(PagerDuty::new("other"), pagerduty).await;
    refused(Jsm::new("other", PREFIX), jsm).await;
    refused(IncidentIo::new("other", OTHER), incidentio).await;
    refused(IncidentIo::new(KEY, "other"), incidentio).await;
}

#[tokio::test]
async fn slack_is_told_each_thing_once_and_not_too_fast() {
    let (standin, receiver) = start(Slack::new(HOOK), slack).await;
    let within = Duration::from_secs(5);
    let started = Instant::now();
    let mut other = notice(MessageKind::Resolved);
    other.id = "rearguard-8-0".into();
    let first = notice(MessageKind::Rollback);
    for told in [&first, &first, &other, &first, &other] {
        receiver.tell(told, within).await.unwrap();
    }
    assert!(started.elapsed() >= Duration::from_secs(1));
    let said = standin.platform().said;
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(said[0].starts_with("*[critical] support-copilot.prompt-v18 rolled back"), "{}", said[0]);
    assert!(said[1].starts_with("*[resolved]"), "{}", said[1]);
    // Who has no time to wait for a second is told so.
    other.id = "rearguard-9-0".into();
    let failure = receiver.tell(&other, Duration::from_millis(100)).await.unwrap_err();
    assert_eq!(failure.result(), "retryable", "{failure}");
    assert!(failure.after().is_some());
}

#[tokio::test]
async fn slacks_faults_have_their_meaning() {
    futures(FAULTS.map(|fault| async move {
        let (standin, receiver) = start(Slack::new(HOOK), slack).await;
        standin.misbehave(&[fault]);
        let told = receiver.tell(&notice(MessageKind::Rollback), WITHIN).await;
        assert_eq!(result(&told), expected(fault), "{fault:?}: {told:?}");
        assert_eq!(standin.asked().len(), 1);
    }))
    .await;
    let (_standin, receiver) = start(Slack::new("/services/other"), slack).await;
    let told = receiver.tell(&notice(MessageKind::Rollback), WITHIN).await;
    assert_eq!(result(&told), ("permanent", None));
}

#[test]
fn a_failed_rollback_is_told_as_one() {
    let story = example::story();
    let flip = Flip { late: true, attempts: 3, ..Flip::default() };
    assert!(facts(&story.opener, Some(&flip)).done.starts_with("ROLLBACK FAILED, ACT BY HAND"));
}

#[test]
fn a_rule_cannot_page_slack() {
    let folder = tempfile::tempdir().unwrap();
    let rules = folder.path().join("rules.yaml");
    let config = "kafka: { brokers: 'localhost:9092', topics: [t] }
receivers: { chat: { slack: { url: '${HOOK}' } }, oncall: { webhook: { url: 'http://localhost/', secret: '${HOOK}' } } }
routes: { page: oncall }
outbound: { allow: [localhost, hooks.slack.com] }
";
    let hook = |_: &str| Some("https://hooks.slack.com/x".to_owned());
    let config = Config::parse(&folder.path().join("rearguard.yaml"), config, &hook).unwrap();
    for (receiver, wrong) in [("oncall", 0), ("chat", 1)] {
        let rule = "condition: faithfulness_1h < 0.92, action: notify";
        std::fs::write(&rules, format!("- {{ variant: a.v2, rules: [{{ {rule}, page: {receiver} }}] }}\n"))
            .unwrap();
        let found = inspect(&config, std::slice::from_ref(&rules)).wrong;
        assert_eq!(found.len(), wrong, "{found:?}");
        assert!(found.iter().all(|one| one.message.contains("which is Slack: it rings nobody")), "{found:?}");
    }
}

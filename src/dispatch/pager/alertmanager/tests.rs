use super::*;
use crate::dispatch::fake::{Fake, Fault, notice};
use axum::http::Method;

const WITHIN: Duration = Duration::from_secs(5);

fn receiver(fake: &Fake) -> Alertmanager {
    Alertmanager::new(
        "oncall".into(),
        fake.outbound(),
        Url::parse(&fake.url).unwrap(),
        Some(Secret::new("am-token")),
        None,
        Labels::from([("team".into(), "copilot".into())]),
    )
    .unwrap()
}

fn label<'a>(alert: &'a serde_json::Value, name: &str) -> &'a str {
    alert["labels"][name].as_str().unwrap_or_default()
}

#[tokio::test]
async fn a_page_stands_is_kept_standing_and_is_resolved_with_the_same_labels() {
    let fake = Fake::start().await;
    let receiver = receiver(&fake);
    let page = notice(MessageKind::Rollback);
    receiver.tell(&page, WITHIN).await.unwrap();
    let first = fake.standing().remove(0);
    assert_eq!(label(&first, "alertname"), "RearguardRollback");
    assert_eq!(label(&first, "severity"), "critical");
    assert_eq!(label(&first, "team"), "copilot");
    assert_eq!(label(&first, "flag"), "ai.support-copilot.prompt-v18");
    assert_eq!(first["startsAt"], "2023-07-12T10:47:30Z");
    assert!(first["generatorURL"].as_str().unwrap().starts_with("https://"));

    receiver.tell(&page, WITHIN).await.unwrap();
    assert_eq!(fake.standing().len(), 1);
    assert_eq!(fake.standing()[0]["labels"], first["labels"]);

    // The resolution comes with another severity, and still hits the alert that stands.
    let mut resolved = notice(MessageKind::Resolved);
    if let Content::Message(message) = &mut resolved.content {
        message.severity = crate::model::incident::Severity::Info;
    }
    receiver.tell(&resolved, WITHIN).await.unwrap();
    assert_eq!(fake.standing().len(), 0);
    // Nothing stands: resolving again has nothing to say.
    receiver.tell(&resolved, WITHIN).await.unwrap();
    let asked = fake.asked();
    assert!(asked.iter().all(|a| a.headers["authorization"] == "Bearer am-token"));
    assert_eq!(asked.iter().filter(|a| a.method == Method::POST).count(), 3);
}

#[tokio::test]
async fn a_failed_rollback_is_an_alert_of_its_own_and_ends_the_former() {
    let fake = Fake::start().await;
    let receiver = receiver(&fake);
    for (kind, name) in [
        (MessageKind::Rollback, "RearguardRollback"),
        (MessageKind::RollbackFailed, "RearguardRollbackFailed"),
        (MessageKind::Rollback, "RearguardRollback"),
    ] {
        receiver.tell(&notice(kind), WITHIN).await.unwrap();
        let standing = fake.standing();
        assert_eq!(standing.len(), 1, "{kind:?}");
        assert_eq!(label(&standing[0], "alertname"), name);
    }
}

#[tokio::test]
async fn every_fault_has_its_meaning() {
    let fake = Fake::start().await;
    let receiver = receiver(&fake);
    let quick = Duration::from_millis(900);
    for (fault, result) in [
        (Fault::Status(400), "permanent"),
        (Fault::Status(401), "permanent"),
        (Fault::Status(404), "permanent"),
        (Fault::Status(409), "conflict"),
        (Fault::Status(422), "permanent"),
        (Fault::Status(429), "retryable"),
        (Fault::After(429, "9"), "retryable"),
        (Fault::Status(500), "retryable"),
        (Fault::Redirect, "permanent"),
        (Fault::Hang, "unknown"),
        (Fault::Drop, "unknown"),
        (Fault::Huge, "unknown"),
        (Fault::Ignore, "retryable"),
    ] {
        // The look before passes, the post gets the fault.
        fake.misbehave(&[Fault::Pass, fault]);
        let failure = receiver.tell(&notice(MessageKind::Rollback), quick).await.unwrap_err();
        assert_eq!(failure.result(), result, "{fault:?}: {failure}");
        assert!(!failure.to_string().contains("am-token"));
        assert_eq!(fake.standing().len(), 0, "{fault:?}");
        if fault == Fault::After(429, "9") {
            assert_eq!(failure.after(), Some(Duration::from_secs(9)));
        }
    }
    // Not knowing what stands does not keep a page back.
    fake.misbehave(&[Fault::Status(500)]);
    receiver.tell(&notice(MessageKind::Rollback), quick).await.unwrap();
    assert_eq!(fake.standing().len(), 1);
    // But a resolution that cannot see what stands waits, and one that was ignored is not believed.
    fake.misbehave(&[Fault::Status(500)]);
    let resolved = notice(MessageKind::Resolved);
    assert!(receiver.tell(&resolved, quick).await.is_err());
    fake.misbehave(&[Fault::Pass, Fault::Ignore]);
    assert!(receiver.tell(&resolved, quick).await.is_err());
    assert_eq!(fake.standing().len(), 1);
}

#[tokio::test]
async fn hosts_off_the_list_are_never_asked() {
    let fake = Fake::start().await;
    let outbound = fake.outbound();
    assert!(outbound.address("http://localhost:9093/").is_err());
    let stranger = Alertmanager::new(
        "x".into(),
        outbound,
        Url::parse("http://127.0.0.2:9/").unwrap(),
        None,
        None,
        Labels::new(),
    )
    .unwrap();
    let failure = stranger.tell(&notice(MessageKind::Rollback), WITHIN).await.unwrap_err();
    assert!(failure.is_permanent());
    assert!(failure.to_string().contains("allow-list"), "{failure}");
}

#[test]
fn bad_labels_are_refused_at_start() {
    let outbound =
        Outbound::new(crate::dispatch::client::AllowList::default(), crate::clock::Clock::system()).unwrap();
    for (name, value) in [("", "x"), ("a b", "x"), ("team", ""), ("dedup_key", "x"), ("9a", "x")] {
        let made = Alertmanager::new(
            "x".into(),
            outbound.clone(),
            Url::parse("http://127.0.0.1/").unwrap(),
            None,
            None,
            Labels::from([(name.into(), value.into())]),
        );
        assert!(made.is_err(), "{name}={value}");
    }
}

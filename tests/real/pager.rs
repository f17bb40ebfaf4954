//! The Alertmanager receiver against the real thing: a page stands once, changes its name when the flip fails, and goes.

use std::collections::BTreeMap;
use std::time::Duration;

use rearguard::clock::Clock;
use rearguard::dispatch::client::{AllowList, AllowedHost, Outbound};
use rearguard::dispatch::receiver::{self, Content, Notice, ReceiverKind, ReceiverSpec};
use rearguard::engine::output::{Message, MessageKind};
use rearguard::model::incident::Severity;
use rearguard::model::time::Timestamp;

use crate::servers::Alertmanager;

const WITHIN: Duration = Duration::from_secs(10);
const KEY: &str = "rearguard/ai.support-copilot.prompt-v18/inc-1";

fn notice(kind: MessageKind) -> Notice {
    let at = Timestamp::parse("2026-11-23T10:47:30Z").unwrap();
    Notice {
        id: "row-1".into(),
        content: Content::Message(Box::new(Message {
            dedup_key: KEY.into(),
            kind,
            severity: Severity::Critical,
            flag: Some("ai.support-copilot.prompt-v18".into()),
            variant: Some("support-copilot.prompt-v18".into()),
            decision: None,
            incident: Some("inc-1".into()),
            summary: "support-copilot.prompt-v18 rolled back".into(),
            detail: "faithfulness_1h at 0.871".into(),
            receiver: None,
            at,
        })),
        link: None,
        since: at,
        wakes: true,
        update: false,
        facts: None,
    }
}

/// Names of the alerts that stand under the key.
async fn standing(url: &str) -> Vec<String> {
    let text = reqwest::get(format!("{url}/api/v2/alerts?active=true")).await.unwrap().text().await.unwrap();
    let alerts: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap();
    alerts
        .iter()
        .filter(|alert| alert["labels"].as_object().unwrap().values().any(|value| value == KEY))
        .map(|alert| alert["labels"]["alertname"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn a_real_alertmanager_shows_keeps_and_drops_the_page() {
    let server = Alertmanager::start("http://127.0.0.1:9/").unwrap();
    let url = server.url();
    let allowed = AllowList::new([AllowedHost { host: "127.0.0.1".into(), port: None, private: true }]);
    let outbound = Outbound::new(allowed, Clock::system()).unwrap();
    let kind =
        ReceiverKind::Alertmanager { url: url.clone(), bearer: None, basic: None, labels: BTreeMap::new() };
    let spec = ReceiverSpec { name: "oncall".into(), kind };
    let receiver = receiver::open(&spec, &outbound, "/rearguard").unwrap();
    for (kind, expected) in [
        (MessageKind::Rollback, vec!["RearguardRollback"]),
        (MessageKind::Rollback, vec!["RearguardRollback"]),
        (MessageKind::RollbackFailed, vec!["RearguardRollbackFailed"]),
        (MessageKind::Resolved, vec![]),
        (MessageKind::Resolved, vec![]),
    ] {
        receiver.tell(&notice(kind), WITHIN).await.unwrap();
        assert_eq!(standing(&url).await, expected, "{kind:?}");
    }
}

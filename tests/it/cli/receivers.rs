//! `rearguard receivers` against stand-ins of all services, over HTTP.

use std::path::Path;
use std::time::Duration;

use super::{Ended, rearguard};
use crate::receivers::{HOOK, KEY, OTHER, PREFIX};
use crate::standin::Desk;
use crate::standin::alertmanager::Alertmanager;
use crate::standin::hook::Hook;
use crate::standin::incidentio::{IncidentIo, SOURCE};
use crate::standin::jsm::Jsm;
use crate::standin::pagerduty::PagerDuty;
use crate::standin::server::{Fault, Standin};
use crate::standin::slack::Slack;

/// What the configuration's secrets are called.
const VARIABLES: [(&str, &str); 2] = [("KEY", KEY), ("OTHER", OTHER)];

/// A pager that nobody runs.
const OTHER_ONE: &str = "  other: { webhook: { url: 'http://127.0.0.1:1', secret: '${KEY}' } }\n";

fn configure(folder: &Path, receivers: &str) {
    let text = format!(
        "kafka: {{ brokers: '127.0.0.1:1', topics: [t] }}\noutbound: {{ allow: [127.0.0.1] }}\nreceivers:\n{receivers}"
    );
    std::fs::write(folder.join("rearguard.yaml"), text).unwrap();
}

/// The command blocks while stand-ins answer on other threads.
fn receivers(folder: &Path, variables: &[(&str, &str)], arguments: &[&str]) -> Ended {
    let variables = [&VARIABLES[..], variables].concat();
    let all = [&["receivers"], arguments].concat();
    let ended = tokio::task::block_in_place(|| rearguard(folder, &variables, &all));
    for text in [&ended.out, &ended.err] {
        assert!(!text.contains("planted"), "a secret: {ended:?}");
    }
    ended
}

/// One service: it is told, nothing stays open, and with `--keep` it does; a fault is told for what it is.
async fn tried<D: Desk>(desk: D, configured: impl Fn(&str) -> String, proof: &str) {
    let folder = tempfile::tempdir().unwrap();
    let standin = Standin::start(desk).await;
    configure(folder.path(), &format!("  one: {}\n{OTHER_ONE}", configured(&standin.url)));
    let slack = [("HOOK", &*format!("{}{HOOK}", standin.url))];

    let done = receivers(folder.path(), &slack, &["test", "one"]);
    assert_eq!(done.code, 0, "{done:?}");
    done.says(&["one (", "told      OK", "resolved  OK", proof]);
    // Slack keeps what was said; nothing stays open there. It takes one message a second.
    let slacks = done.out.contains("slack");
    assert_eq!(standin.platform().open().len(), if slacks { 2 } else { 0 });
    if slacks {
        tokio::time::sleep(Duration::from_millis(1100)).await;
    }
    let asked = standin.asked();
    let first = asked.iter().find(|asked| asked.method == "POST").unwrap();
    let text = String::from_utf8_lossy(&first.bytes);
    assert!(text.contains("[TEST]") && text.contains("nothing is wrong"), "{text}");

    let kept = receivers(folder.path(), &slack, &["test", "one", "--keep", "--format", "json"]);
    assert_eq!(kept.code, 0, "{kept:?}");
    let told = &kept.json()["receivers"][0];
    assert_eq!(
        (&told["name"], &told["ok"], &told["steps"][0]["step"]),
        (&"one".into(), &true.into(), &"told".into())
    );
    assert_eq!(told["steps"].as_array().unwrap().len(), 1);

    for (fault, said) in [(Fault::Echo(403), "403"), (Fault::Redirect, "30"), (Fault::Status(503), "503")] {
        standin.misbehave(&[fault; 8]);
        let failed = receivers(folder.path(), &slack, &["test", "one"]);
        assert_eq!(failed.code, 1, "{fault:?}: {failed:?}");
        failed.says(&["FAILED", said, "a page would"]);
        assert!(!failed.out.contains("resolved"), "what was not told is not taken back: {failed:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_receiver_can_be_tried() {
    tried(Alertmanager::default(), |url| format!("{{ alertmanager: {{ url: '{url}' }} }}"), "read back")
        .await;
    let pagerduty = |url: &str| format!("{{ pagerduty: {{ url: '{url}', routing_key: '${{KEY}}' }} }}");
    tried(PagerDuty::new(KEY), pagerduty, "accepted, not confirmed").await;
    let jsm = |url: &str| format!("{{ jsm: {{ url: '{url}{PREFIX}', api_key: '${{KEY}}' }} }}");
    tried(Jsm::new(KEY, PREFIX), jsm, "accepted, not confirmed").await;
    let incidentio = |url: &str| {
        format!("{{ incidentio: {{ url: '{url}', alert_source: {SOURCE}, token: '${{KEY}}' }} }}")
    };
    tried(IncidentIo::new(KEY, OTHER), incidentio, "accepted, not confirmed").await;
    tried(Hook::new(KEY), |url| format!("{{ webhook: {{ url: '{url}', secret: '${{KEY}}' }} }}"), "success")
        .await;
    tried(Slack::new(HOOK), |_| "{ slack: { url: '${HOOK}' } }".into(), "look at the channel").await;
}

/// The test takes the way of a page: at a service that pages go to it may wake somebody, at others it must not.
#[tokio::test(flavor = "multi_thread")]
async fn a_test_wakes_whom_a_page_would() {
    let folder = tempfile::tempdir().unwrap();
    let standin = Standin::start(PagerDuty::new(KEY)).await;
    for (routes, rung) in [("{ page: [other], notify: [one] }", 0), ("{ page: [one] }", 1)] {
        let one = format!("  one: {{ pagerduty: {{ url: '{}', routing_key: '${{KEY}}' }} }}\n", standin.url);
        configure(folder.path(), &format!("{one}{OTHER_ONE}routes: {routes}\n"));
        let done = receivers(folder.path(), &[], &["test", "one", "--severity", "critical"]);
        assert_eq!((done.code, standin.platform().rung()), (0, rung), "{done:?}");
    }
    let all = receivers(folder.path(), &[], &["test", "--all", "--format", "json"]);
    let json = all.json();
    assert_eq!((all.code, &json["ok"]), (1, &false.into()), "one of them is not there: {json}");
    let ok: Vec<_> = json["receivers"].as_array().unwrap().iter().map(|one| one["ok"] == true).collect();
    assert_eq!(ok, [true, false]);
}

#[tokio::test(flavor = "multi_thread")]
async fn receivers_are_listed_and_wrong_use_is_told() {
    let folder = tempfile::tempdir().unwrap();
    configure(
        folder.path(),
        "  oncall: { alertmanager: { url: 'http://127.0.0.1:9' } }\n  stream: { kafka: { topic: d } }\n  chat: { slack: { url: '${HOOK}' } }\nroutes: { page: [oncall], notify: [chat] }\n",
    );
    let hook = [("HOOK", "http://127.0.0.1:1/services/planted5ecret0")];
    let listed = receivers(folder.path(), &hook, &["list"]);
    assert_eq!(listed.code, 0, "{listed:?}");
    listed.says(&[
        "oncall",
        "http://127.0.0.1:9",
        "pages",
        "chat",
        "notices",
        "topic `d`",
        "decisions",
        "read back",
    ]);
    let json = receivers(folder.path(), &hook, &["list", "--format", "json"]).json();
    assert_eq!(json["receivers"].as_array().unwrap().len(), 3);

    let wrong = receivers(folder.path(), &hook, &["test", "oncal"]);
    assert_eq!(wrong.code, 2, "{wrong:?}");
    assert!(
        wrong.err.contains("no receiver `oncal`") && wrong.err.contains("did you mean `oncall`?"),
        "{wrong:?}"
    );
    assert_eq!(receivers(folder.path(), &hook, &["test"]).code, 2);
    configure(folder.path(), "  oncall: { alertmanager: { url: 'http://10.0.0.1:9' } }\n");
    let refused = receivers(folder.path(), &hook, &["test", "oncall"]);
    assert!(refused.code == 2 && refused.err.contains("`outbound: allow:`"), "{refused:?}");
}

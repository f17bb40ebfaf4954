//! Canary events through a real broker feed a dead-man's switch; a daemon that is blind, and one that is gone, stop feeding it.

use std::time::Duration;

use super::stage::{Stage, TOPIC};
use crate::hook::Hook;
use crate::producer::PARTITIONS;
use crate::timeline::eventually;

const RATE: f64 = 20.0;
const BOUND: Duration = Duration::from_secs(90);
/// Between two canaries, in real time.
const EVERY: Duration = Duration::from_secs(3);
const RULES: &str = "
- variant: copilot.v2
  rules:
    - { condition: faithfulness_5m < 0.8, action: rollback }
";
const FLAGS: &str = "flags:\n  ai.copilot: { control: copilot.v1, treatment: copilot.v2, share: 50% }\n";

/// Calls that say that all is well, and what was told otherwise.
fn calls(switch: &Hook) -> (usize, Vec<String>) {
    let (well, failed): (Vec<_>, Vec<_>) = switch.calls().into_iter().partition(|call| call.body.is_empty());
    (well.len(), failed.iter().map(|call| String::from_utf8_lossy(&call.body).into_owned()).collect())
}

#[test]
fn the_switch_is_fed_while_canaries_come_back() {
    let switch = Hook::listen();
    let secrets = tempfile::tempdir().expect("a folder");
    let secret = secrets.path().join("switch");
    std::fs::write(&secret, &switch.url).expect("a secret");
    let file = secret.display();
    let config = format!(
        "{FLAGS}canary: {{ url: {{ file: '{file}' }}, fail_url: {{ file: '{file}' }}, every: 60s }}\n"
    );
    let mut stage = Stage::prepare(RULES, &config, (Duration::from_secs(3600), RATE), None);
    stage.daemon.setup.hosts.push(switch.url.trim_start_matches("http://").trim_end_matches('/').to_owned());
    stage.start();
    stage.daemon.await_ready();

    // Nobody else writes anything: silence is no blindness.
    eventually("the switch is called", BOUND, || (calls(&switch).0 >= 2).then_some(()));
    assert_eq!(calls(&switch).1, [""; 0], "a start is no failure");
    let status = stage.daemon.status();
    assert_eq!(status["canary"]["doubts"], serde_json::json!([]), "{status}");
    assert!(status["canary"]["proven"].is_number() && status["canary"]["called"].is_number(), "{status}");
    let seen = status["report"]["sources"].as_array().expect("sources").iter();
    let counts: Vec<_> = seen.map(|source| source["fates"]["canary"].as_u64().unwrap_or_default()).collect();
    assert!(
        counts.len() == PARTITIONS as usize && counts.iter().all(|count| *count >= 1),
        "every partition of {TOPIC} has its own: {counts:?}"
    );
    assert!(stage.daemon.metric("rearguard_canary_age_seconds", &[]) < 600.0);
    let page = stage.daemon.command_line(&["status"]).1;
    assert!(page.contains("dead-man's switch called"), "{page}");

    stage.kafka.stop().expect("Kafka stops");
    for reason in ["not armed: the event source cannot be reached", "the canary could not be written"] {
        eventually("the switch is told of the failure", BOUND, || {
            calls(&switch).1.iter().any(|told| told.contains(reason)).then_some(())
        });
    }
    let (fed, _) = calls(&switch);
    std::thread::sleep(3 * EVERY);
    assert_eq!(calls(&switch).0, fed, "blind, and it says that all is well");

    stage.kafka.restart().expect("Kafka starts again");
    eventually("the switch is called again", BOUND, || (calls(&switch).0 > fed).then_some(()));

    stage.daemon.terminate();
    let quiet = switch.calls().len();
    std::thread::sleep(2 * EVERY);
    assert_eq!(switch.calls().len(), quiet, "a daemon that is gone calls nobody");
    let log = stage.daemon.log();
    assert!(!log.contains(switch.url.trim_end_matches('/')), "the address is a secret");
}

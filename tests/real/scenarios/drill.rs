//! A drill with real parts from end to end: bad events through Kafka, a flag that Unleash serves, a page through Alertmanager.

use std::time::Duration;

use serde_json::Value;

use super::stage::{Stage, TOPIC};
use crate::servers::{ADMIN_TOKEN, CLIENT_TOKEN, Postgres, Unleash};
use crate::timeline::eventually;

const RATE: f64 = 20.0;
const BOUND: Duration = Duration::from_secs(60);
const FLAG: &str = "ai.drill.v2";
const FEATURE: &str = "rollback-drill";
const RULES: &str = "
- variant: drill.v2
  rules:
    - { condition: faithfulness_5m < 0.8, action: rollback, for: 1m, min_samples: 20 }
";

fn config(unleash: &str, secrets: &std::path::Path) -> String {
    let secret = |name: &str| format!("{{ file: '{}' }}", secrets.join(name).display());
    format!(
        "platforms:\n  prod:\n    unleash: {{ url: '{unleash}', environment: production, token: {}, client_token: {} }}\n\
         flags:\n  {FLAG}: {{ control: drill.v1, treatment: drill.v2, platform: {{ name: prod, key: {FEATURE}, control: v1, treatment: v2 }}, drill: true }}\n",
        secret("admin"),
        secret("client"),
    )
}

#[test]
fn a_drill_goes_through_kafka_unleash_and_alertmanager() {
    let postgres = Postgres::start().expect("PostgreSQL starts");
    let database = postgres.create_database("unleash").expect("a database");
    let unleash = Unleash::start(&database).expect("Unleash starts");
    unleash.make_feature(FEATURE, "v1", "v2").expect("a feature");
    let secrets = tempfile::tempdir().expect("a folder");
    for (name, token) in [("admin", ADMIN_TOKEN), ("client", CLIENT_TOKEN)] {
        std::fs::write(secrets.path().join(name), token).expect("a secret");
    }
    let config = config(&unleash.url(), secrets.path());
    let mut stage = Stage::prepare(RULES, &config, (Duration::from_secs(3600), RATE), None);
    stage.daemon.setup.hosts.push(unleash.url().trim_start_matches("http://").to_owned());
    stage.start();
    stage.daemon.await_ready();

    let (code, out, error) =
        stage.daemon.command_line(&["drill", FLAG, "--reason", "real parts", "--format", "json"]);
    let told: Value = serde_json::from_str(&out).unwrap_or_else(|_| panic!("{code:?} {out}{error}"));
    let steps = told["steps"].as_array().unwrap_or_else(|| panic!("{told}"));
    let of = |name: &str| {
        steps.iter().find(|step| step["name"] == name).unwrap_or_else(|| panic!("no {name}: {told}"))
    };
    for name in ["events seen", "decided", "incident opened", "flip written", "read back", "page accepted"] {
        assert_ne!(of(name)["verdict"], "failed", "{told}");
    }
    assert_eq!(code, Some(0), "at {RATE} times the speed there is room enough: {told}");
    assert!(
        of("read back")["detail"].as_str().is_some_and(|seen| seen.contains("gives nobody `v2`")),
        "{told}"
    );
    assert_eq!(of("page accepted")["detail"], "by oncall");
    let undo = told["by_hand"].as_str().unwrap_or_default();
    assert!(undo.contains(&format!("{}/projects/default/features/{FEATURE}", unleash.url())), "{told}");

    let after = unleash.served(FEATURE).expect("the client answers");
    assert_eq!(after["v1"], 100, "the vendor's own client gives control to every user: {after}");
    let page = eventually("the page rings", BOUND, || stage.hook.told("RearguardRollback", "firing").pop());
    assert!(
        page["annotations"]["summary"].as_str().is_some_and(|line| line.starts_with("[DRILL] ")),
        "{page}"
    );
    eventually("it is resolved with the incident", BOUND, || {
        stage.hook.told("RearguardRollback", "resolved").pop()
    });
    let incident = stage.only_incident();
    assert!(incident.starts_with("# [DRILL] drill.v2 rolled back"), "{incident}");
    let fates = stage.daemon.status()["report"]["sources"].clone();
    let windowed: u64 =
        fates.as_array().into_iter().flatten().filter_map(|s| s["fates"]["windowed"].as_u64()).sum();
    assert!(windowed >= 40, "its events went through the windows of `{TOPIC}`: {fates}");
    stage.daemon.terminate();
    stage.daemon.assert_healthy_log();
    println!("drill: {} s of {} s, {windowed} events", told["seconds"], told["budget"]["seconds"]);
}

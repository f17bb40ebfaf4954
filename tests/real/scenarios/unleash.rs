//! A flag that Unleash serves: the treatment breaks, and the vendor's own client gives control to everybody.

use std::time::Duration;

use super::fleet::{self, key};
use super::stage::Stage;
use crate::servers::{ADMIN_TOKEN, CLIENT_TOKEN, Postgres, Unleash};
use crate::timeline::{MINUTE_MS, eventually};

const RATE: f64 = 40.0;
const BOUND: Duration = Duration::from_secs(60);
const FEATURE: &str = "support-prompt";
const RULES: &str = "
- variant: f0.new
  rules:
    - { id: floor, condition: faithfulness_5m < 0.7, action: rollback, min_samples: 20 }
";

fn config(unleash: &str, secrets: &std::path::Path) -> String {
    let secret = |name: &str| format!("{{ file: '{}' }}", secrets.join(name).display());
    format!(
        "platforms:\n  prod:\n    unleash: {{ url: '{unleash}', environment: production, token: {}, client_token: {} }}\n\
         flags:\n  ai.f0.new: {{ control: f0.old, treatment: f0.new, platform: {{ name: prod, key: {FEATURE}, control: v17, treatment: v18 }} }}\n",
        secret("admin"),
        secret("client"),
    )
}

#[test]
fn the_vendors_own_client_gives_control_after_the_rollback() {
    let postgres = Postgres::start().expect("PostgreSQL starts");
    let database = postgres.create_database("unleash").expect("a database");
    let unleash = Unleash::start(&database).expect("Unleash starts");
    unleash.make_feature(FEATURE, "v17", "v18").expect("a feature");
    let before = unleash.served(FEATURE).expect("the client answers");
    let of = |name: &str| before[name].as_u64().unwrap_or(0);
    assert!(of("v17") > 20 && of("v18") > 20 && before["beta"] == "v18", "mixed before: {before}");

    let secrets = tempfile::tempdir().expect("a folder");
    for (name, token) in [("admin", ADMIN_TOKEN), ("client", CLIENT_TOKEN)] {
        std::fs::write(secrets.path().join(name), token).expect("a secret");
    }
    let config = config(&unleash.url(), secrets.path());
    let mut stage = Stage::prepare(RULES, &config, (Duration::from_secs(3600), RATE), None);
    stage.daemon.setup.hosts.push(unleash.url().trim_start_matches("http://").to_owned());
    stage.start();
    stage.daemon.await_ready();
    let start = stage.timeline.now();
    let story = fleet::story(0, start, (14, 24), |minute| {
        (minute < 13.0).then_some(if minute < 6.0 { 0.9 } else { 0.2 })
    });
    let player = fleet::play(stage.new_producer(), story, stage.timeline, &mut stage.oracle);
    let told =
        eventually("the rollback is paged", BOUND, || stage.hook.told("RearguardRollback", "firing").pop());
    stage.producer = player.join().expect("the producer ends");
    let after = unleash.served(FEATURE).expect("the client answers");
    assert_eq!(after, serde_json::json!({"v17": 100, "beta": "v17"}), "control for every user: {told}");
    let incident = stage.only_incident();
    assert!(incident.contains("prod gives nobody `v18` (revision "), "{incident}");
    let history = stage.daemon.say(&["flag", "show", &key(0)]);
    let history = history.split_whitespace().collect::<Vec<_>>().join(" ");
    let link = format!(
        "written to `prod` (unleash) as `{FEATURE}`; to put back: {}/projects/default/features/",
        unleash.url()
    );
    assert!(history.contains(&link), "{history}");
    for line in [stage.daemon.log(), incident, history] {
        assert!(!line.contains(ADMIN_TOKEN) && !line.contains(CLIENT_TOKEN), "a secret in {line}");
    }
    stage.daemon.terminate();
    stage.daemon.assert_healthy_log();
    let took = (stage.timeline.now() - start) / MINUTE_MS;
    println!("unleash: {before} before, {after} after, {took} virtual minutes in all");
}

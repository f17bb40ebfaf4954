//! Commands given while the daemon cannot read yet, and another kill -9 right after: each takes effect at once, exactly
//! once, and is still in force when events come again.

use std::fs;
use std::time::Duration;

use super::fleet::{self, key, treatment};
use super::stage::Stage;
use crate::timeline::{MINUTE_MS, eventually};

const RATE: f64 = 90.0;
const BOUND: Duration = Duration::from_secs(20);
const MINUTES: i64 = 44;
const REASON: &str = "said while it was loading";

/// Flag 0 is rolled back at the start, flag 1 goes bad later, flag 2 stays well.
const PLAN: fleet::Plan =
    fleet::Plan { flags: 3, calm: 0, first: 1e6, stagger: 0.0, bad_for: 1.0, rest: 0.0, per_minute: 24 };

#[test]
fn what_is_said_while_loading_takes_effect_once_and_stays() {
    let before = Duration::from_secs(3 * 3600);
    let mut stage = Stage::open(&PLAN.rules(), &PLAN.config(), (before, RATE), None);
    stage.daemon.await_ready();
    let start = stage.timeline.now();
    let at = |minute: i64| start + minute * MINUTE_MS;
    let bad_from = |from: f64| move |minute: f64| Some(if minute < from { 0.9 } else { 0.2 });
    let mut events = fleet::story(0, start, (MINUTES, PLAN.per_minute), |minute| {
        bad_from(4.0)(minute).filter(|_| minute < 11.0)
    });
    events.extend(fleet::story(1, start, (MINUTES, PLAN.per_minute), bad_from(22.0)));
    events.extend(fleet::story(2, start, (MINUTES, PLAN.per_minute), |_| Some(0.9)));
    events.sort_by_key(|event| event.at);
    let player = fleet::play(stage.new_producer(), events, stage.timeline, &mut stage.oracle);

    eventually("the first flag is rolled back", BOUND, || {
        (stage.daemon.served(&key(0), "anybody") == fleet::control(0)).then_some(())
    });
    let incidents = stage.daemon.get("/v1/incidents").body;
    let incident = incidents["incidents"][0]["id"].as_str().expect("an incident").to_owned();
    stage.timeline.wait_for(at(12));
    stage.kafka.stop().expect("it stops");
    stage.daemon.kill();
    // Nothing but Kafka can restore the windows, and that is away.
    fs::remove_dir_all(stage.daemon.data().join("snapshots")).expect("snapshots");
    stage.daemon.spawn();
    stage.daemon.await_answer();
    loading(&stage);
    for command in [
        ["flag", "kill", key(2).as_str(), "--reason", REASON].as_slice(),
        &["automation", "off", "--reason", REASON],
        &["incident", "ack", &incident, "--reason", REASON],
    ] {
        stage.daemon.say(command);
    }
    loading(&stage);
    in_force(&stage, &incident);
    stage.daemon.kill();
    stage.daemon.spawn();
    stage.daemon.await_answer();
    in_force(&stage, &incident);
    stage.kafka.restart().expect("it starts again");
    stage.daemon.await_ready();
    in_force(&stage, &incident);

    let withheld = format!("SELECT count(*) FROM decisions WHERE flag = '{}' AND gate <> 'act'", key(1));
    eventually("the second flag's rollback is withheld", BOUND, || {
        (stage.daemon.count(&withheld) == 1).then_some(())
    });
    assert_eq!(stage.daemon.served(&key(1), "anybody"), treatment(1), "automation is off");
    assert!(stage.timeline.now() < at(MINUTES), "there is traffic left");
    stage.daemon.say(&["automation", "on", "--reason", "seen"]);
    eventually("it is carried out as soon as automation is on", BOUND, || {
        (stage.daemon.served(&key(1), "anybody") == fleet::control(1)).then_some(())
    });
    assert_eq!(stage.daemon.count(&withheld), 1, "withheld once");

    stage.producer = player.join().expect("the producer ends");
    stage.settle();
    stage.check_fates();
    let windows: Vec<(String, &str)> =
        (0..3).flat_map(|f| [(treatment(f), "all"), (fleet::control(f), "all")]).collect();
    let windows: Vec<(&str, &str)> = windows.iter().map(|(variant, id)| (variant.as_str(), *id)).collect();
    let compared = stage.check_windows(&windows, "faithfulness", 360);
    stage.daemon.terminate();
    stage.daemon.assert_healthy_log();
    println!("commands: three while loading, in force over a kill -9; {compared} windows as by brute force");
}

fn loading(stage: &Stage) {
    let answer = stage.daemon.ask(reqwest::Method::GET, "/readyz", None).expect("an answer");
    assert_eq!(answer.status, 503, "{}", answer.text);
}

/// All three, each written down once.
fn in_force(stage: &Stage, incident: &str) {
    let context = serde_json::json!({"context": {"targetingKey": "anybody"}});
    let path = format!("/ofrep/v1/evaluate/flags/{}", key(2));
    let answer = stage.daemon.put(reqwest::Method::POST, &path, &context);
    assert_eq!(answer["reason"], "DISABLED", "{answer}");
    eventually("automation is off", BOUND, || {
        (stage.daemon.status()["report"]["automation"] == false).then_some(())
    });
    let shown = stage.daemon.get(&format!("/v1/incidents/{incident}")).body;
    assert_eq!(shown["incident"]["status"], "acknowledged", "{shown}");
    for once in [
        format!("SELECT count(*) FROM flag_changes WHERE flag = '{}' AND kind = 'kill'", key(2)),
        "SELECT count(*) FROM audit WHERE kind = 'automation'".to_owned(),
        format!(
            "SELECT count(*) FROM incident_timeline WHERE incident = '{incident}' AND kind = 'acknowledged'"
        ),
    ] {
        assert_eq!(stage.daemon.count(&once), 1, "{once}");
    }
}

//! What comes after a decision: a gateway that does not obey is escalated, a pause holds the share until the breach has
//! cleared, a re-armed variant is watched again, a resolved incident takes its page back. Everything is also told to a
//! signed webhook that fails at first, and to a topic that is not there at first.

use std::time::Duration;

use reqwest::Method;
use serde_json::Value;

use super::fleet::{self, control, key, treatment};
use super::receivers;
use super::stage::{Stage, rollbacks};
use crate::daemon::SECRET;
use crate::hook::Hook;
use crate::timeline::{MINUTE_MS, eventually};

const RATE: f64 = 90.0;
const BOUND: Duration = Duration::from_secs(30);
const MINUTES: i64 = 34;
const PER_MINUTE: i64 = 24;
/// Treatments go bad at this minute; they are acted upon before minute 16.
const BAD: f64 = 8.0;

/// Flag 0's gateway never asks, flag 1 is only paused, flag 2 is re-armed too early.
const RULES: &str = "
- variant: f0.new
  rules:
    - { id: floor, condition: faithfulness_5m < 0.7, action: rollback, min_samples: 20 }
    - { id: all, condition: faithfulness_6h < 0.01, action: notify }
- variant: f1.new
  rules:
    - { id: floor, condition: faithfulness_5m < 0.7, action: pause_rollout, min_samples: 20, dwell: 5m }
    - { id: all, condition: faithfulness_6h < 0.01, action: notify }
- variant: f2.new
  rules:
    - { id: floor, condition: faithfulness_5m < 0.7, action: rollback, min_samples: 20 }
";
const CONFIG: &str = "
flags:
  ai.f0.new: { control: f0.old, treatment: f0.new, share: 100% }
  ai.f1.new: { control: f1.old, treatment: f1.new, share: 40% }
  ai.f2.new: { control: f2.old, treatment: f2.new, share: 100% }
limits: { blind_after: 10m }
";

#[test]
fn escalated_resolved_rearmed_and_told_to_everyone() {
    let before = Duration::from_secs(3 * 3600);
    let mut stage = Stage::prepare(RULES, CONFIG, (before, RATE), None);
    let webhook = Hook::signed(SECRET, 2);
    receivers::add(&mut stage, &webhook);
    stage.start();
    stage.daemon.await_ready();
    let start = stage.timeline.now();
    let at = |minute: f64| start + (minute * MINUTE_MS as f64) as i64;
    let bad = |minute: f64| if minute < BAD { 0.9 } else { 0.2 };
    let mut events =
        fleet::story(0, start, (MINUTES, PER_MINUTE), |minute| (minute < 30.0).then(|| bad(minute)));
    events.extend(fleet::story(1, start, (MINUTES, PER_MINUTE), |minute| {
        Some(if minute < 19.0 { bad(minute) } else { 0.9 })
    }));
    events.extend(fleet::story(2, start, (MINUTES, PER_MINUTE), |minute| {
        (!(16.0..20.0).contains(&minute)).then(|| bad(minute))
    }));
    events.sort_by_key(|event| event.at);
    let player = fleet::play(stage.new_producer(), events, stage.timeline, &mut stage.oracle);

    stage.timeline.wait_for(at(16.0));
    for flag in [0, 2] {
        eventually("both are rolled back", BOUND, || {
            (stage.daemon.served(&key(flag), "anybody") == control(flag)).then_some(())
        });
    }
    the_share_is_held(&mut stage);

    stage.timeline.wait_for(at(20.0));
    let said = stage.daemon.say(&["flag", "rearm", &key(2), "--reason", "fixed, we think"]);
    assert!(said.contains("windows start anew"), "{said}");
    eventually("the variant is served again", BOUND, || {
        (stage.daemon.served(&key(2), "anybody") == treatment(2)).then_some(())
    });
    assert_eq!(open_latches(&stage, 2), 0);

    let page = eventually("the gateway that does not obey is escalated", BOUND, || {
        stage.hook.told("RearguardStillServing", "firing").pop()
    });
    assert_eq!(page["labels"]["flag"], key(0).as_str());
    assert!(page["annotations"]["summary"].as_str().unwrap_or_default().contains("STILL SERVING"), "{page}");
    assert!(stage.timeline.now() >= at(BAD + 10.0), "it was given ten minutes");

    eventually("the pause is resolved", BOUND, || stage.hook.told("RearguardPause", "resolved").pop());
    eventually("the share moves again", BOUND, || {
        let flag = flag(&stage, 1);
        (flag["paused"] == false && flag["share"] == 0.8).then_some(())
    });

    eventually("the re-armed variant is watched, and rolled back again", BOUND, || {
        (stage.daemon.served(&key(2), "anybody") == control(2)).then_some(())
    });
    assert!(stage.timeline.now() >= at(25.0), "on data of its own, not on what was before");
    assert_eq!(open_latches(&stage, 2), 1);
    let latches = format!("SELECT closed_by FROM latches WHERE flag = '{}' AND closed IS NOT NULL", key(2));
    assert_eq!(
        stage.daemon.texts(&latches),
        ["test"],
        "a human took the first latch off, and nobody else one"
    );

    stage.producer = player.join().expect("the producer ends");
    stage.settle();
    stage.check_fates();
    assert_eq!(stage.check_windows(&[("f0.new", "all"), ("f1.new", "all")], "faithfulness", 360), 2);
    eventually("its traffic has stopped at last: the escalation is resolved", BOUND, || {
        stage.hook.told("RearguardStillServing", "resolved").pop()
    });
    a_resolved_incident_takes_its_page_back(&stage);
    receivers::check(&stage, &webhook);
    stage.daemon.terminate();
    stage.daemon.assert_healthy_log();
}

/// The configuration wants more, the pause says no.
fn the_share_is_held(stage: &mut Stage) {
    let page = eventually("the pause is told", BOUND, || stage.hook.told("RearguardPause", "firing").pop());
    assert_eq!(page["labels"]["flag"], key(1).as_str());
    assert_eq!(flag(stage, 1)["paused"], true);
    stage.daemon.change_config("share: 40%", "share: 80%");
    eventually("the new share is known", BOUND, || (flag(stage, 1)["configured_share"] == 0.8).then_some(()));
    assert_eq!(flag(stage, 1)["share"], 0.4, "held while paused");
    let treated = (0..200)
        .filter(|key| stage.daemon.served(&fleet::key(1), &format!("user-{key}")) == treatment(1))
        .count();
    assert!((50..=110).contains(&treated), "{treated} of 200 get the treatment");
}

/// Both rollbacks of flag 2 are one episode.
fn a_resolved_incident_takes_its_page_back(stage: &Stage) {
    let incidents = stage.daemon.get("/v1/incidents?status=unresolved").body;
    let incidents = incidents["incidents"].as_array().cloned().unwrap_or_default();
    assert_eq!(incidents.len(), 2, "one for each flag that was rolled back: {incidents:#?}");
    assert_eq!(rollbacks(&stage.alerts()).len(), 2);
    for incident in incidents {
        let id = incident["id"].as_str().expect("an id");
        stage.daemon.say(&["incident", "resolve", id, "--reason", "understood"]);
    }
    eventually("their pages are resolved", BOUND, || {
        let told = stage.hook.told("RearguardRollback", "resolved");
        (told.len() == 2 && rollbacks(&stage.alerts()).is_empty()).then_some(())
    });
}

fn flag(stage: &Stage, flag: usize) -> Value {
    let path = format!("/v1/flags/{}", key(flag));
    stage.daemon.ask(Method::GET, &path, None).expect("an answer").body
}

fn open_latches(stage: &Stage, flag: usize) -> i64 {
    stage
        .daemon
        .count(&format!("SELECT count(*) FROM latches WHERE flag = '{}' AND closed IS NULL", key(flag)))
}

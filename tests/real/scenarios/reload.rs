//! New rules while it runs: by a changed file and by SIGHUP; a bad file keeps the old ones and says so.

use std::time::Duration;

use super::fleet::{self, HEALTHY};
use super::stage::Stage;
use crate::timeline::{MINUTE_MS, eventually};

const BOUND: Duration = Duration::from_secs(20);

#[test]
fn rules_are_swapped_whole_or_not_at_all() {
    let (mut stage, start) = HEALTHY.staged(60.0, "10m");
    let events = HEALTHY.events_until(start, start + 20 * MINUTE_MS);
    let player = fleet::play(stage.new_producer(), events, stage.timeline, &mut stage.oracle);
    eventually("the rules are judged", BOUND, || (conditions(&stage).len() == 3).then_some(()));
    let old = conditions(&stage);

    stage.daemon.write_rules(
        "- variant: f0.new\n  rules:\n    - condition: faithfulnes_5m < 0.7\n      action: rollback\n",
    );
    eventually("the file is refused", BOUND, || (reloads(&stage, "refused") >= 1.0).then_some(()));
    assert!(stage.daemon.log().contains("reload refused, the old rules stay"));
    assert!(stage.daemon.log().contains("faithfulness"), "the log says what would be right");
    assert_eq!(conditions(&stage), old);
    let refused = reloads(&stage, "refused");
    stage.daemon.signal("HUP");
    eventually("SIGHUP is refused, too", BOUND, || (reloads(&stage, "refused") > refused).then_some(()));
    assert_eq!(conditions(&stage), old);
    assert_eq!(reloads(&stage, "ok"), 0.0);

    stage.daemon.write_rules(&HEALTHY.rules().replace("faithfulness_5m < 0.7", "faithfulness_5m < 0.6"));
    eventually("the good file is taken", BOUND, || (reloads(&stage, "ok") >= 1.0).then_some(()));
    eventually("the new rule is judged", BOUND, || {
        let now = conditions(&stage);
        (now.len() == 3 && now.contains(&"faithfulness_5m < 0.6".to_owned())).then_some(())
    });
    let taken = reloads(&stage, "ok");
    stage.daemon.signal("HUP");
    eventually("SIGHUP is taken, too", BOUND, || (reloads(&stage, "ok") > taken).then_some(()));

    stage.producer = player.join().expect("the producer ends");
    stage.settle();
    stage.check_fates();
    assert_eq!(stage.check_windows(&[("f0.new", "all"), ("f0.old", "all")], "faithfulness", 360), 2);
    stage.daemon.terminate();
    stage.daemon.assert_healthy_log();
    println!("reload: refused and taken by file and by SIGHUP, windows unharmed");
}

/// The conditions that are judged, sorted.
fn conditions(stage: &Stage) -> Vec<String> {
    let status = stage.daemon.status();
    let alerts = status["report"]["alerts"].as_array().cloned().unwrap_or_default();
    let mut found: Vec<String> =
        alerts.iter().filter_map(|alert| alert["condition"].as_str().map(str::to_owned)).collect();
    found.sort();
    found
}

fn reloads(stage: &Stage, result: &str) -> f64 {
    stage.daemon.metric("rearguard_reloads_total", &[&format!("result=\"{result}\"")])
}

//! The broker goes away and comes back: not armed, a page that says so, nothing lost.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::fleet::{self, HEALTHY};
use super::stage::Stage;
use crate::timeline::eventually;

const RATE: f64 = 30.0;
const BOUND: Duration = Duration::from_secs(60);

#[test]
fn a_broker_that_stops_is_paged_and_nothing_is_lost() {
    let (mut stage, start) = HEALTHY.staged(RATE, "2m");
    let mut events = HEALTHY.events_until(start, start + 45 * crate::timeline::MINUTE_MS);
    let last = events.last().map_or(start, |event| event.at);
    let player =
        fleet::play(stage.new_producer(), std::mem::take(&mut events), stage.timeline, &mut stage.oracle);

    stage.kafka.stop().expect("it stops");
    outage(&mut stage, "SIGTERM", 1);
    stage.kafka.kill().expect("it dies");
    outage(&mut stage, "SIGKILL", 2);

    // A daemon that starts while the broker is away says so too, and takes commands.
    stage.kafka.kill().expect("it dies");
    stage.daemon.kill();
    stage.daemon.spawn();
    stage.daemon.await_answer();
    outage(&mut stage, "SIGKILL, daemon restarted", 3);

    assert!(stage.timeline.now() < last, "the stream was to last longer than the outages");
    stage.producer = player.join().expect("the producer ends");
    stage.settle();
    stage.check_fates();
    let compared = stage.check_windows(&[("f0.new", "all"), ("f0.old", "all")], "faithfulness", 360);
    assert_eq!(stage.hook.told("RearguardGap", "firing").len(), 0, "nothing was missing");
    stage.daemon.terminate();
    stage.daemon.assert_healthy_log();
    println!(
        "broker: {} events, {compared} windows as by brute force",
        stage.oracle.sent.iter().sum::<u64>()
    );
}

/// From the broker's end to the page, then its start and everything back.
fn outage(stage: &mut Stage, how: &str, pages: usize) {
    let began = Instant::now();
    let why = eventually("not armed", BOUND, || {
        let answer = stage.daemon.ask(reqwest::Method::GET, "/readyz", None)?;
        (answer.status == 503).then(|| answer.body["reasons"].to_string())
    });
    let unready = began.elapsed();
    eventually("a page that says blind", BOUND, || {
        (stage.hook.told("RearguardBlind", "firing").len() >= pages).then_some(())
    });
    let paged = began.elapsed();
    assert_eq!(blind(&stage.alerts()), 1);
    stage.kafka.restart().expect("it starts again");
    let up = Instant::now();
    stage.daemon.await_ready();
    let back = up.elapsed();
    eventually("the page is resolved", BOUND, || (blind(&stage.alerts()) == 0).then_some(()));
    assert_eq!(stage.hook.told("RearguardBlind", "firing").len(), pages, "one page per outage");
    println!(
        "{how}: not ready after {unready:.1?} ({why}), page after {paged:.1?}; armed {back:.1?} after the broker was back"
    );
}

fn blind(alerts: &[Value]) -> usize {
    alerts.iter().filter(|a| a["labels"]["alertname"] == "RearguardBlind").count()
}

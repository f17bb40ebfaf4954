//! kill -9 while a rule on twelve hours has most of its window in hourly roll-ups: it goes on with every hour.

use std::time::Duration;

use super::stage::Stage;
use crate::oracle::Event;
use crate::servers::Postgres;
use crate::timeline::{MINUTE_MS, eventually};

const HOUR_MS: i64 = 60 * MINUTE_MS;
const RATE: f64 = 200.0;
const STEP: i64 = 10_000;

const RULES: &str = "
- variant: f0.new
  rules:
    - { id: long, condition: faithfulness_12h < 0.01, action: notify }
    - { id: burning, condition: slo.answers.burn_12h > 4.9, action: notify }
";
const CONFIG: &str = "
flags:
  ai.f0.new: { control: f0.old, treatment: f0.new, share: 50% }
slos: { answers: { good: faithfulness >= 0.5, objective: 80%, period: 1d } }
limits: { blind_after: 1h }
";

fn event(n: i64) -> Event {
    // The whole hour differs from its neighbours, so that a lost or doubled one shows.
    let level = (n * STEP / HOUR_MS) % 5;
    Event {
        id: format!("e{n}"),
        at: n * STEP,
        variant: "f0.new".into(),
        tenant: format!("t{}", n % 4),
        metrics: vec![("faithfulness".into(), (level + n % 5) as f64 / 10.0)],
    }
}

#[test]
fn hours_outlive_kill_nine() {
    hours_outlive(None);
}

#[test]
fn hours_outlive_kill_nine_on_postgres() {
    let postgres = Postgres::start().expect("PostgreSQL starts");
    hours_outlive(Some(postgres.url()));
}

fn hours_outlive(postgres: Option<String>) {
    let mut stage = Stage::prepare(RULES, CONFIG, (Duration::from_secs(6 * 3600), RATE), postgres);
    let began = stage.timeline.now();
    // A first start reads six hours; what is live comes after it.
    let mut next = (began - 6 * HOUR_MS + 5 * MINUTE_MS).div_euclid(STEP) + 1;
    let first = next * STEP;
    play(&mut stage, &mut next, began, false);
    stage.start();
    stage.daemon.await_ready();
    let live = stage.timeline.now();
    play(&mut stage, &mut next, live + 2 * HOUR_MS, true);
    let stored = "SELECT COUNT(DISTINCT hour) FROM rollups";
    let before = eventually("hours are stored", Duration::from_secs(20), || {
        Some(stage.daemon.count(stored)).filter(|hours| *hours >= 1)
    });

    settle(&stage, (next - 1) * STEP);
    println!("{} samples agree before the kill", check(&stage, first));

    stage.daemon.kill();
    // Written while nobody reads.
    let down = stage.timeline.now();
    play(&mut stage, &mut next, down, false);
    stage.daemon.spawn();
    stage.daemon.await_answer();
    stage.daemon.await_ready();
    let again = stage.timeline.now();
    play(&mut stage, &mut next, again + HOUR_MS / 2, true);
    let last = (next - 1) * STEP;
    settle(&stage, last);
    stage.check_fates();
    let hours = (last - first) / HOUR_MS;
    assert!(hours >= 8, "{hours} hours of events");
    let compared = check(&stage, first);
    let after = stage.daemon.count(stored);
    assert!(after >= before, "{after} hours are stored, {before} before the kill");
    stage.daemon.terminate();
    stage.daemon.assert_healthy_log();
    println!(
        "{compared} samples over {hours} h agree; {before} hours were stored before the kill, {after} at the end"
    );
}

/// Sends events up to a time, as fast as they come into being or at once.
fn play(stage: &mut Stage, next: &mut i64, until: i64, paced: bool) {
    while *next * STEP <= until {
        let event = event(*next);
        if paced {
            stage.timeline.wait_for(event.at);
        }
        stage.producer.event(&event, &mut stage.oracle);
        *next += 1;
    }
    stage.producer.flush();
}

/// Waits until all that was sent is in the windows.
fn settle(stage: &Stage, last: i64) {
    let sent: u64 = stage.oracle.sent.iter().sum();
    eventually("everything is consumed and judged", Duration::from_secs(30), || {
        let report = stage.daemon.status()["report"].clone();
        let sources = report["sources"].as_array()?;
        let consumed: u64 = sources.iter().filter_map(|s| s["next_offset"].as_u64()).sum();
        (consumed >= sent && report["closed"].as_i64()? * MINUTE_MS > last).then_some(())
    });
    // What was read after its minute had closed is in the next judgement.
    let then = stage.daemon.status()["report"]["closed"].as_i64().expect("a closed minute");
    eventually("what was read last is judged", Duration::from_secs(30), || {
        (stage.daemon.status()["report"]["closed"].as_i64()? >= then + 2).then_some(())
    });
}

/// Compares both rules with brute force over what was sent; how many samples there are.
fn check(stage: &Stage, first: i64) -> u64 {
    let report = stage.daemon.status()["report"].clone();
    let closed = report["closed"].as_i64().expect("a closed minute");
    // Whole hours and the running one.
    let from = (closed.div_euclid(60) + 1 - 12) * 60;
    let (samples, mean) = stage.oracle.window("f0.new", "faithfulness", closed, closed - from + 1);
    assert!(from * MINUTE_MS < first + 6 * HOUR_MS, "some of it is in roll-ups");
    let begins = first.max(from * MINUTE_MS).div_euclid(STEP);
    let values = (begins..).map(event).take_while(|event| event.at < (closed + 1) * MINUTE_MS);
    let bad = values.take(samples as usize).filter(|event| event.metrics[0].1 < 0.5).count();
    let burn = bad as f64 / samples as f64 / 0.2;
    let alerts = report["alerts"].as_array().expect("alerts");
    for (id, wanted) in [("long", mean.expect("samples")), ("burning", burn)] {
        let alert = alerts.iter().find(|a| a["key"]["rule"] == id).expect("an alert");
        assert_eq!(alert["samples"], samples, "closed {closed}: {alert:#}");
        let value = alert["value"].as_f64().expect("a value");
        assert!((value - wanted).abs() < 1e-6, "{id}: {value}, not {wanted}");
    }
    samples
}

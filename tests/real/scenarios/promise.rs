//! T0 → T1 over many staggered flags: how much of the ten minutes a breach takes until flip, incident and page are there.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::fleet::{self, Plan};
use super::stage::Stage;
use crate::timeline::eventually;

const TEN_MINUTES: f64 = 600.0;

#[test]
fn every_breach_is_flipped_and_paged_within_ten_minutes() {
    let rate = std::env::var("REARGUARD_RATE").ok().and_then(|rate| rate.parse().ok()).unwrap_or(60.0);
    let plan =
        Plan { flags: 50, calm: 12, first: 8.0, stagger: 1.07, bad_for: 9.0, rest: 12.0, per_minute: 12 };
    let mut stage = Stage::open(&plan.rules(), &plan.config(), (Duration::from_secs(3 * 3600), rate), None);
    stage.daemon.await_ready();
    let began = Instant::now();
    let start = stage.timeline.now();
    let player = fleet::play(stage.new_producer(), plan.events(start), stage.timeline, &mut stage.oracle);
    stage.producer = player.join().expect("the producer ends");
    stage.settle();
    let incidents = eventually("every incident has its page", Duration::from_secs(60), || {
        let list = stage.daemon.get("/v1/incidents?limit=1000").body;
        let list = list["incidents"].as_array()?.clone();
        (list.len() == plan.flags && list.iter().all(|i| !i["page_accepted"].is_null())).then_some(list)
    });
    stage.check_fates();
    let took = |from: &str, to: &str| {
        let mut spans: Vec<f64> = incidents.iter().map(|i| (at(i, to) - at(i, from)) / 1000.0).collect();
        spans.sort_by(f64::total_cmp);
        spans
    };
    let total: Vec<f64> = {
        let t1 = |i: &Value| at(i, "opened").max(at(i, "flip_verified")).max(at(i, "page_accepted"));
        let mut spans: Vec<f64> = incidents.iter().map(|i| (t1(i) - at(i, "t0")) / 1000.0).collect();
        spans.sort_by(f64::total_cmp);
        spans
    };
    println!("{} flags at {rate} × real time, in seconds of the sped-up clock", plan.flags);
    println!("| from … to | p50 | p90 | p99 | max |\n|---|---|---|---|---|");
    row("t0 → decision stored", &took("t0", "opened"));
    row("decision stored → flip read back", &took("opened", "flip_verified"));
    row("flip read back → page accepted", &took("flip_verified", "page_accepted"));
    row("T0 → T1", &total);
    assert!(total[total.len() - 1] <= TEN_MINUTES);
    stage.daemon.terminate();
    stage.daemon.assert_healthy_log();
    println!("promise: {:.1?}", began.elapsed());
}

fn at(incident: &Value, field: &str) -> f64 {
    incident[field].as_f64().unwrap_or_else(|| panic!("no {field} in {incident:#}"))
}

fn row(name: &str, sorted: &[f64]) {
    // Nearest rank.
    let quantile = |q: f64| sorted[((q * sorted.len() as f64).ceil() as usize).clamp(1, sorted.len()) - 1];
    let max = sorted[sorted.len() - 1];
    println!("| {name} | {:.1} | {:.1} | {:.1} | {max:.1} |", quantile(0.5), quantile(0.9), quantile(0.99));
}

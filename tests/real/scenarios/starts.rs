//! Where a first start begins, and what a restart with damaged snapshots does.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use super::fleet::{self, Plan};
use super::stage::Stage;
use crate::oracle::{Event, Oracle};
use crate::producer::Producer;
use crate::timeline::{MINUTE_MS, eventually};

const HOUR_MS: i64 = 60 * MINUTE_MS;
const RATE: f64 = 60.0;

fn plan() -> Plan {
    Plan { flags: 2, calm: 0, first: 1e6, stagger: 0.0, bad_for: 1.0, rest: 0.0, per_minute: 20 }
}

const VARIANTS: [(&str, &str); 4] =
    [("f0.new", "all"), ("f0.old", "all"), ("f1.new", "all"), ("f1.old", "all")];

#[test]
fn a_first_start_reads_one_longest_window() {
    let config = plan().config();
    let mut stage = Stage::prepare(&plan().rules(), &config, (Duration::from_secs(2 * 3600), RATE), None);
    let now = stage.timeline.now();
    let history = |from: i64, n: i64| {
        (0..n).map(move |i| Event {
            id: format!("h{from}-{i}"),
            at: from + i * 10_000,
            variant: "f0.new".into(),
            tenant: format!("t{}", i % 4),
            metrics: vec![("faithfulness".into(), (i % 10) as f64 / 10.0)],
        })
    };
    let mut all = Oracle::default();
    for event in history(now - 9 * HOUR_MS, 400) {
        stage.producer.event(&event, &mut all);
    }
    let mut young = Oracle::default();
    for event in history(now - 5 * HOUR_MS, 1_000) {
        stage.producer.event(&event, &mut young);
    }
    stage.producer.flush();
    for partition in 0..all.sent.len() {
        all.sent[partition] += young.sent[partition];
    }
    stage.start();
    stage.daemon.await_ready();
    let read = young.sent;
    stage.oracle = young;
    stage.oracle.sent = all.sent;
    stage.settle();
    stage.oracle.sent = read;
    stage.check_fates();
    assert_eq!(stage.check_windows(&VARIANTS[..1], "faithfulness", 360), 1);
    stage.daemon.terminate();
    stage.daemon.assert_healthy_log();
    println!("first start: 1000 of 1400 events read, those of the last six hours");
}

#[test]
fn damaged_snapshots_fall_back_to_older_ones_and_to_kafka() {
    let config = format!("{}timing: {{ snapshot_every: 60s }}\n", plan().config());
    let mut stage = Stage::open(&plan().rules(), &config, (Duration::from_secs(3 * 3600), RATE), None);
    stage.daemon.await_ready();
    let start = stage.timeline.now();
    let events = plan().events_until(start, start + 35 * MINUTE_MS);
    let player = fleet::play(stage.new_producer(), events, stage.timeline, &mut stage.oracle);

    damage(&mut stage, "the newest", 1);
    damage(&mut stage, "all", usize::MAX);
    damage(&mut stage, "none", 0);
    join(&mut stage, player);
    check(&mut stage, "with damage while events came");
    damage(&mut stage, "all", usize::MAX);
    check(&mut stage, "rebuilt from Kafka at rest");
    restore_an_older_database(&mut stage);
    check(&mut stage, "with an older database");
    stage.daemon.terminate();
    stage.daemon.assert_healthy_log();
}

/// Snapshots that the database knows nothing of are passed over, and do not keep new ones out.
fn restore_an_older_database(stage: &mut Stage) {
    let database = stage.daemon.data().join("rearguard.db");
    let copy = database.with_extension("copy");
    stage.daemon.terminate();
    fs::copy(&database, &copy).expect("a copy");
    let known = snapshots(stage).first().cloned();
    stage.daemon.spawn();
    stage.daemon.await_answer();
    for event in plan().events_until(stage.timeline.now(), stage.timeline.now() + MINUTE_MS) {
        stage.producer.event(&event, &mut stage.oracle);
    }
    stage.producer.flush();
    let ahead = |stage: &Stage| {
        let found = snapshots(stage);
        found.iter().take_while(|path| Some(*path) != known.as_ref()).count()
    };
    eventually("snapshots that the copy knows nothing of", Duration::from_secs(60), || {
        (ahead(stage) >= 2).then_some(())
    });
    stage.daemon.kill();
    for part in ["db-wal", "db-shm"] {
        // Absent after an orderly end.
        let _ = fs::remove_file(database.with_extension(part));
    }
    fs::copy(&copy, &database).expect("the older database");
    let future = ahead(stage);
    stage.daemon.spawn();
    stage.daemon.await_answer();
    let told = stage.daemon.log().matches("it is ahead of the database").count();
    assert_eq!(told, future, "each is told");
    assert_eq!(ahead(stage), 0);
    eventually("a new snapshot, which stays", Duration::from_secs(60), || (ahead(stage) > 0).then_some(()));
    println!("snapshots: {told} ahead of the database passed over");
}

fn join(stage: &mut Stage, player: std::thread::JoinHandle<Producer>) {
    stage.producer = player.join().expect("the producer ends");
}

fn check(stage: &mut Stage, when: &str) {
    stage.daemon.await_ready();
    stage.settle();
    stage.check_fates();
    let compared = stage.check_windows(&VARIANTS, "faithfulness", 360);
    println!("snapshots: {compared} windows as by brute force, {when}");
}

/// Kills the daemon once there are three snapshots newer than now, changes a byte in the newest `n`, starts it again.
fn damage(stage: &mut Stage, which: &str, n: usize) {
    let before = snapshots(stage).first().cloned();
    eventually("three new snapshots", Duration::from_secs(60), || {
        let found = snapshots(stage);
        let new = found.iter().take_while(|path| Some(*path) != before.as_ref()).count();
        (new >= 3).then_some(())
    });
    stage.daemon.kill();
    let passed_over = stage.daemon.log().matches("snapshot passed over").count();
    let found = snapshots(stage);
    for path in found.iter().take(n) {
        let mut bytes = fs::read(path).expect("a snapshot");
        let middle = bytes.len() / 2;
        // Not a flip: a file damaged twice must not be whole again.
        bytes[middle] = bytes[middle].wrapping_add(1);
        fs::write(path, bytes).expect("a snapshot");
    }
    stage.daemon.spawn();
    stage.daemon.await_answer();
    stage.daemon.await_ready();
    let passed_over = stage.daemon.log().matches("snapshot passed over").count() - passed_over;
    assert_eq!(passed_over, found.len().min(n), "each damaged snapshot is told");
    println!("snapshots: {} there, {which} damaged, {passed_over} passed over", found.len());
}

/// Newest first.
fn snapshots(stage: &Stage) -> Vec<PathBuf> {
    let Ok(folder) = fs::read_dir(stage.daemon.data().join("snapshots")) else { return Vec::new() };
    let paths = folder.filter_map(|entry| Some(entry.ok()?.path()));
    let mut paths: Vec<PathBuf> =
        paths.filter(|path| path.extension().is_some_and(|e| e == "rgsnap")).collect();
    paths.sort();
    paths.reverse();
    paths
}

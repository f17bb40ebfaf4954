//! Retention deletes what has not been read yet, once while the daemon is down and once while it is alive but does not get
//! to it: told with the exact offsets, paged, gone on with what there is; nothing is judged over the hole, and what comes
//! behind it is.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use super::fleet::{self, HEALTHY, Plan};
use super::stage::{Stage, TOPIC};
use crate::oracle::{Event, Oracle};
use crate::producer::{PARTITIONS, partition_of};
use crate::timeline::{MINUTE_MS, eventually};

const RATE: f64 = 120.0;
const BOUND: Duration = Duration::from_secs(20);
const MINUTES: i64 = 48;

/// When the treatment is bad, in minutes: while the daemon is down, around the time it stands still, and at the end.
const BAD: [Range<f64>; 3] = [8.0..15.0, 24.0..28.5, 38.0..48.0];

#[test]
fn what_retention_deletes_is_told_and_nothing_is_judged_over_it() {
    let plan = Plan { per_minute: 24, ..HEALTHY };
    let (mut stage, start) = plan.staged(RATE, "10m");
    let at = |minute: f64| start + (minute * MINUTE_MS as f64) as i64;
    let mut events = fleet::story(0, start, (MINUTES, plan.per_minute), |minute| {
        Some(if BAD.iter().any(|bad| bad.contains(&minute)) { 0.2 } else { 0.9 })
    });
    events.sort_by_key(|event| event.at);
    let player = fleet::play(stage.new_producer(), events.clone(), stage.timeline, &mut stage.oracle);

    stage.timeline.wait_for(at(8.0));
    stage.daemon.terminate();
    let stood: BTreeMap<i32, i64> = [0, 1].into_iter().map(|p| (p, position(&stage, p))).collect();
    stage.timeline.wait_for(at(15.0));
    let mut missing: BTreeMap<i32, Range<i64>> = BTreeMap::new();
    for (partition, position) in stood {
        let low = stage.kafka.delete_records(TOPIC, partition).expect("records can be deleted");
        assert!(low > position, "something unread was deleted: {position} … {low}");
        missing.insert(partition, position..low);
    }
    stage.daemon.spawn();
    stage.daemon.await_answer();
    stage.daemon.await_ready();
    let told =
        eventually("a page for each hole", BOUND, || Some(told(&stage)).filter(|told| told.len() == 2));
    assert_eq!(told, missing, "the very offsets that retention has deleted");
    println!("gap: while down, {missing:?}; told and armed");
    eventually("the hole has left the short window", BOUND, || {
        nothing_was_done(&stage);
        let said = verdict(&stage, "floor");
        (!said.is_empty() && !said.contains("missing")).then_some(())
    });
    assert!(stage.timeline.now() > at(20.0), "no sooner than it could");
    assert!(
        verdict(&stage, "all").contains("missing"),
        "it has not left the long one: {}",
        verdict(&stage, "all")
    );

    stage.timeline.wait_for(at(24.0));
    stage.daemon.signal("STOP");
    stage.timeline.wait_for(at(27.0));
    let low = stage.kafka.delete_records(TOPIC, 2).expect("records can be deleted");
    stage.daemon.signal("CONT");
    let live = eventually("a page for the third hole", BOUND, || told_of(&stage, 2));
    assert_eq!(live.end, low, "reading goes on at the start of what is left");
    assert!(live.start < live.end, "{live:?}");
    println!("gap: while alive, 2: {live:?}");
    missing.insert(2, live);
    stage.timeline.wait_for(at(37.5));
    nothing_was_done(&stage);

    let key = fleet::key(0);
    eventually("what comes behind the holes is judged", BOUND, || {
        (stage.daemon.served(&key, "anybody") == fleet::control(0)).then_some(())
    });
    stage.producer = player.join().expect("the producer ends");
    settled(&mut stage, &events, &missing);
    assert_eq!(stage.daemon.count("SELECT count(*) FROM decisions WHERE action = 'rollback'"), 1);
    assert_eq!(told_pages(&stage).len(), 3, "each hole is told once");
    stage.daemon.terminate();
    stage.daemon.assert_healthy_log();
}

/// Every event that still was there has its fate and its place in the windows, and no other.
fn settled(stage: &mut Stage, events: &[Event], missing: &BTreeMap<i32, Range<i64>>) {
    let mut read = Oracle::default();
    let mut offsets = [0_i64; PARTITIONS as usize];
    for event in events {
        let partition = partition_of(&event.tenant);
        let offset = &mut offsets[partition as usize];
        if !missing.get(&partition).is_some_and(|missing| missing.contains(offset)) {
            read.add(event);
        }
        *offset += 1;
    }
    stage.settle();
    stage.oracle = read;
    stage.check_fates();
    let compared = stage.check_windows(&[("f0.new", "all"), ("f0.old", "all")], "faithfulness", 360);
    println!(
        "gap: {} of {} events were left to read; {compared} windows as by brute force over them",
        stage.oracle.sent.iter().sum::<u64>(),
        events.len()
    );
}

/// The offset from which a partition would be read on, by the database.
fn position(stage: &Stage, partition: i32) -> i64 {
    stage.daemon.count(&format!("SELECT next_offset FROM sources WHERE part = {partition}"))
}

fn nothing_was_done(stage: &Stage) {
    assert_eq!(stage.daemon.count("SELECT count(*) FROM decisions"), 0, "nothing is judged over a hole");
}

fn verdict(stage: &Stage, rule: &str) -> String {
    let status = stage.daemon.status();
    let alerts = status["report"]["alerts"].as_array().cloned().unwrap_or_default();
    let alert = alerts.iter().find(|a| a["variant"] == "f0.new" && a["key"]["rule"] == rule);
    alert.and_then(|alert| alert["verdict"].as_str()).unwrap_or_default().to_owned()
}

fn told_pages(stage: &Stage) -> Vec<String> {
    let pages = stage.hook.told("RearguardGap", "firing");
    pages.iter().filter_map(|page| Some(page["annotations"]["summary"].as_str()?.to_owned())).collect()
}

/// The offsets that pages say are missing, by partition.
fn told(stage: &Stage) -> BTreeMap<i32, Range<i64>> {
    let read = |page: &String| {
        let rest = page.strip_prefix(TOPIC)?.strip_prefix('/')?;
        let (partition, rest) = rest.split_once(": offsets ")?;
        let (from, rest) = rest.split_once("..")?;
        let (to, why) = rest.split_once(' ')?;
        assert!(why.ends_with("retention"), "{page}");
        Some((partition.parse().ok()?, from.parse().ok()?..to.parse().ok()?))
    };
    told_pages(stage).iter().map(|page| read(page).unwrap_or_else(|| panic!("{page}"))).collect()
}

fn told_of(stage: &Stage, partition: i32) -> Option<Range<i64>> {
    told(stage).remove(&partition)
}

//! Replaying JSON Lines from memory: reading lines, decoding, recording, judging; beside a plain serde_json parse of the same
//! lines in the same run. `cargo bench --bench replay -- [events]`.
//!
//! One thread. The best of five rounds each, in turn, since the machine may be shared.

#![allow(clippy::expect_used, reason = "a bench that cannot go on should panic")]

use std::hint::black_box;
use std::io::Cursor;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rearguard::engine::input::Limits;
use rearguard::engine::rule::compile::compile_rules;
use rearguard::lab::journal::Journal;
use rearguard::lab::lines::Lines;
use rearguard::lab::rig::Rig;
use rearguard::lab::setup::{Bench, Census, Setup};
use rearguard::model::metric::Catalogue;

mod support;

const EVENTS: u64 = 1_000_000;
const VARIANTS: u64 = 6;
const ROUNDS: usize = 5;
const LONGEST: usize = 256 << 10;

const RULES: &str = "
    - { condition: faithfulness_1h < 0.45, action: pause_rollout }
    - { condition: faithfulness_6h < 0.40, action: rollback }
    - { condition: abstain_rate_1h > 0.20, action: rollback }
    - { condition: cost_p95_1h > 0.05, action: pause_rollout }
    - { condition: ai.injection.suspected_rate_1h > baseline*3, action: rollback }
";

fn main() {
    let given = std::env::args().filter_map(|argument| argument.parse().ok()).next();
    let events = given.unwrap_or(EVENTS);
    let text = lines(events);
    println!("{events} events of {} bytes on average, {VARIANTS} variants", text.len() as u64 / events);
    let mut parse = Duration::MAX;
    let mut scan = Duration::MAX;
    let mut replay = Duration::MAX;
    for _ in 0..ROUNDS {
        parse = parse.min(timed(|| parsed(&text), events));
        scan = scan.min(timed(|| scanned(&text), events));
        replay = replay.min(timed(|| replayed(&text), events));
    }
    let rate = |time: Duration| events as f64 / time.as_secs_f64();
    for (name, time) in
        [("serde_json parse", parse), ("search for baselines", scan), ("replay, 30 rules", replay)]
    {
        println!("{name:<22} {:>10.0} events/s {:>8.2} of the parse", rate(time), rate(time) / rate(parse));
    }
}

/// Runs once; checks that every event was taken.
fn timed(run: impl FnOnce() -> u64, events: u64) -> Duration {
    let start = Instant::now();
    let taken = run();
    let time = start.elapsed();
    assert_eq!(taken, events);
    time
}

fn lines(events: u64) -> Vec<u8> {
    let (mut text, mut line) = (Vec::new(), String::new());
    for n in 0..events {
        support::write_event(&mut line, n, events, VARIANTS);
        text.extend_from_slice(line.as_bytes());
        text.push(b'\n');
    }
    text
}

fn each(text: &[u8], mut take: impl FnMut(&[u8])) {
    let mut lines = Lines::new(Cursor::new(text), LONGEST);
    while let Ok(Some(line)) = lines.next_line() {
        take(line.bytes);
    }
}

fn parsed(text: &[u8]) -> u64 {
    let mut taken = 0;
    each(text, |line| {
        let value: Result<serde_json::Value, _> = serde_json::from_slice(line);
        taken += u64::from(black_box(value).is_ok());
    });
    taken
}

fn scanned(text: &[u8]) -> u64 {
    let (mut census, mut taken) = (Census::default(), 0);
    each(text, |line| {
        census.look(line);
        taken += 1;
    });
    assert_eq!(census.finish().len() as u64, VARIANTS);
    taken
}

fn replayed(text: &[u8]) -> u64 {
    let catalogue = Arc::new(Catalogue::default());
    let sets: String = (0..VARIANTS)
        .map(|n| {
            let (own, other) = (
                format!("support-copilot.prompt-v{n}"),
                format!("support-copilot.prompt-v{}", (n + 1) % VARIANTS),
            );
            format!("- variant: {own}\n  baseline: {other}\n  rules:{RULES}\n")
        })
        .collect();
    let compiled = compile_rules(&[("rules.yaml", sets)], &catalogue, &[]).expect("the rules compile");
    let setup = Setup::new(compiled.rules, &[], &[], None);
    let bench = Bench { catalogue, limits: Limits::default(), lateness: Duration::from_secs(30) };
    let mut journal = Journal::new(false);
    let mut rig = Rig::new(vec![setup], &bench, 1);
    each(text, |line| {
        rig.record(0, line, &mut |step| journal.observe(&step, &mut |_, _| {}));
    });
    rig.finish(&mut |step| journal.observe(&step, &mut |_, _| {}));
    assert!(journal.stories().iter().any(|story| story.verdicts.pass > 0));
    rig.fates().windowed
}

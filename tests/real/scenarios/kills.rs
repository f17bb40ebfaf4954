//! kill -9 before, between and after decision, flip and page: nothing lost, nothing doubled, no window wrong.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};

use super::fleet::{self, Plan, key, treatment};
use super::stage::{Stage, rollbacks};
use crate::servers::Postgres;
use crate::timeline::{MINUTE_MS, eventually};

const RATE: f64 = 60.0;
const DECIDED: &str = "\"decided\"";
const FLIPPED: &str = "\"flag serves control\"";
const PAGED: &str = "\"page accepted\"";

/// Where a kill is aimed at: so many microseconds after the log says this of the flag.
#[derive(Clone, Copy, Debug)]
struct Aim {
    word: &'static str,
    micros: u64,
}

const fn after(word: &'static str, micros: u64) -> Aim {
    Aim { word, micros }
}

const AIMS: [Aim; 8] = [
    after(DECIDED, 0),
    after(DECIDED, 2_000),
    after(FLIPPED, 0),
    after(DECIDED, 5_000),
    after(FLIPPED, 3_000),
    after(PAGED, 0),
    after(DECIDED, 500),
    after(FLIPPED, 1_000),
];

#[test]
fn kill_nine_loses_and_doubles_nothing() {
    let flags = if long() { 100 } else { 12 };
    campaign(Plan { flags, ..PLAN }, None);
}

/// Fewer than on SQLite: what differs is the database, not the daemon.
#[test]
fn kill_nine_on_postgres() {
    let postgres = Postgres::start().expect("PostgreSQL starts");
    // The calm ones keep a few flags that go bad from looking like a world that breaks.
    let (flags, calm) = if long() { (40, 0) } else { (3, 3) };
    campaign(Plan { flags, calm, rest: 10.0, ..PLAN }, Some(postgres.url()));
}

fn long() -> bool {
    std::env::var("REARGUARD_CAMPAIGN").is_ok_and(|value| value == "long")
}

/// A treatment is acted upon three minutes after it has gone bad or later, and is gone from minute six after its flip on, whose
/// traffic is the first that the second proof counts: what these gateways send is never "still serving".
const PLAN: Plan =
    Plan { flags: 0, calm: 0, first: 8.0, stagger: 5.0, bad_for: 9.0, rest: 16.0, per_minute: 12 };

fn campaign(plan: Plan, postgres: Option<String>) {
    let began = Instant::now();
    let seed = std::env::var("REARGUARD_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(20_261_123);
    println!("seed {seed} (REARGUARD_SEED), {} flags", plan.flags);
    let mut dice = Dice(seed);
    let minutes = 60.0 + plan.stagger * plan.flags as f64;
    let before = Duration::from_secs((minutes * 60.0) as u64);
    // On PostgreSQL what was under way waits for its lease: a few kills end with the aim that leaves least to wait for.
    let first_aim = if postgres.is_some() { 3 } else { 0 };
    let mut stage = Stage::open(&plan.rules(), &plan.config(), (before, RATE), postgres);
    stage.daemon.await_ready();
    let start = stage.timeline.now();
    let player = fleet::play(stage.new_producer(), plan.events(start), stage.timeline, &mut stage.oracle);

    let mut landed: BTreeMap<&'static str, u32> = BTreeMap::new();
    let mut down = Vec::new();
    let mut kill = |stage: &mut Stage, flag: usize| {
        stage.daemon.kill();
        let phase = phase(stage, flag);
        let watch = Instant::now();
        stage.daemon.spawn();
        stage.daemon.await_answer();
        down.push(watch.elapsed());
        *landed.entry(phase).or_default() += 1;
        println!("flag {flag}: killed {phase}");
        phase
    };
    for flag in 0..plan.flags {
        let mut log = Tail::at_end(&stage);
        stage.timeline.wait_for(plan.breach(start, flag) + dice.below(200) as i64 * 1000);
        let was = kill(&mut stage, flag);
        let Aim { word, micros } = AIMS[(flag + first_aim) % AIMS.len()];
        // A line that the first kill cut off will not come.
        if was == "before the decision" {
            log.wait_for(word, &key(flag));
        }
        spin(Duration::from_micros(micros + dice.below(500)));
        kill(&mut stage, flag);
    }
    stage.producer = player.join().expect("the producer ends");
    stage.daemon.await_ready();
    stage.settle();
    down.sort();
    println!(
        "kills by what was stored when it died: {landed:?}; to the first answer: {:?} … {:?}",
        down[0],
        down[down.len() - 1]
    );
    // A handful of kills need not land everywhere.
    let everywhere: &[&str] = match plan.flags {
        0..12 => &["before the decision"],
        _ => &["before the decision", "decided, not flipped", "flipped, not paged", "paged"],
    };
    for phase in everywhere {
        assert!(landed.contains_key(phase), "no kill landed {phase}: {landed:?}");
    }
    exactly_once(&stage, plan.flags);
    let rules: Vec<(String, &str)> =
        (0..plan.flags).flat_map(|f| [(treatment(f), "all"), (fleet::control(f), "all")]).collect();
    let rules: Vec<(&str, &str)> = rules.iter().map(|(variant, id)| (variant.as_str(), *id)).collect();
    let compared = stage.check_windows(&rules, "faithfulness", 360);
    stage.check_fates();
    if stage.daemon.setup.postgres.is_none() || long() {
        what_a_human_said_survives(&mut stage);
    }
    stage.daemon.terminate();
    stage.daemon.assert_healthy_log();
    println!(
        "kills: {} in {:.1?}; {compared} windows as by brute force",
        landed.values().sum::<u32>(),
        began.elapsed()
    );
}

/// One decision, latch, pin, incident and page for each flag, and no more.
fn exactly_once(stage: &Stage, flags: usize) {
    eventually("every flip and page is through", Duration::from_secs(60), || {
        let open = stage.daemon.count(
            "SELECT count(*) FROM outbox WHERE kind IN ('flip', 'page') AND status IN ('pending', 'claimed')",
        );
        (open == 0).then_some(())
    });
    let alerts = rollbacks(&stage.alerts());
    let mut expired = 0;
    for flag in 0..flags {
        let key = key(flag);
        let count = |sql: &str| stage.daemon.count(&sql.replace('?', &format!("'{key}'")));
        assert_eq!(
            count("SELECT count(*) FROM decisions WHERE flag = ? AND action = 'rollback'"),
            1,
            "decisions of {key}"
        );
        // On PostgreSQL a dead owner's claim lasts as long as its lease, 30 s of real time. At this speed that can outlast the
        // time for which a rollback may be carried out; then it is expired, told, and its latch is closed.
        let outcomes =
            stage.daemon.texts(&format!("SELECT outcome FROM outbox WHERE flag = '{key}' AND kind = 'flip'"));
        let open = count("SELECT count(*) FROM latches WHERE flag = ? AND closed IS NULL");
        if stage.daemon.setup.postgres.is_some() && outcomes == ["\"expired\""] {
            assert_eq!(open, 0, "latches of {key}, whose flip is expired");
            expired += 1;
            continue;
        }
        assert_eq!(open, 1, "latches of {key}; its flips: {outcomes:?}");
        assert_eq!(count("SELECT count(*) FROM latches WHERE flag = ?"), 1, "latches ever of {key}");
        assert_eq!(
            count("SELECT count(*) FROM flag_changes WHERE flag = ? AND kind = 'pin'"),
            1,
            "pins of {key}"
        );
        assert_eq!(
            count("SELECT count(*) FROM outbox WHERE flag = ? AND kind = 'flip'"),
            1,
            "flips of {key}"
        );
        assert_eq!(
            count(
                "SELECT count(*) FROM outbox WHERE flag = ? AND kind = 'flip' AND outcome IN ('\"verified\"', '\"already_safe\"')"
            ),
            1,
            "verified flips of {key}"
        );
        assert_eq!(count("SELECT count(*) FROM incidents WHERE flag = ?"), 1, "incidents of {key}");
        // Of this kind: a flip that a dead owner's lease held back may also be told as still serving.
        let pages = "SELECT count(*) FROM outbox WHERE flag = ? AND kind = 'page'";
        assert_eq!(
            count(&format!(r#"{pages} AND payload LIKE '%"kind":"rollback"%'"#)),
            1,
            "rollback pages of {key}"
        );
        let all = count(pages);
        assert!(
            all == 1 || stage.daemon.setup.postgres.is_some(),
            "pages of {key}: {:?}",
            stage.daemon.texts(&format!("SELECT payload FROM outbox WHERE flag = '{key}' AND kind = 'page'"))
        );
        let of = |alerts: &[Value]| alerts.iter().filter(|a| a["labels"]["flag"] == key.as_str()).count();
        assert_eq!(of(&alerts), 1, "alerts of {key} in Alertmanager: {alerts:#?}");
        let told = of(&stage.hook.told("RearguardRollback", "firing"));
        // For the same reason a flip under way may be told as failed in between.
        assert!(
            told == 1 || told == 2 && stage.daemon.setup.postgres.is_some(),
            "{told} notifications of {key}"
        );
        assert_eq!(stage.daemon.served(&key, "anybody"), fleet::control(flag));
    }
    assert_eq!(stage.daemon.count("SELECT count(*) FROM decisions WHERE action = 'rollback'"), flags as i64);
    println!("{expired} of {flags} rollbacks expired while a dead owner's lease ran");
    assert!(expired * 4 <= flags, "{expired} of {flags} rollbacks expired");
}

/// An acknowledgement and a re-arming that were answered survive a kill right after.
fn what_a_human_said_survives(stage: &mut Stage) {
    let incidents = stage.daemon.get("/v1/incidents?flag=ai.f0.new").body;
    let id = incidents["incidents"][0]["id"].as_str().expect("an incident").to_owned();
    stage.daemon.put(Method::POST, &format!("/v1/incidents/{id}/ack"), &json!({"reason": "looking"}));
    stage.daemon.kill();
    stage.daemon.spawn();
    stage.daemon.await_answer();
    let incident = stage.daemon.get("/v1/incidents?flag=ai.f0.new").body["incidents"][0].clone();
    assert_eq!(incident["status"], "acknowledged", "{incident:#}");
    stage.daemon.await_ready();
    stage.daemon.put(Method::POST, "/v1/flags/ai.f1.new/rearm", &json!({"reason": "fixed"}));
    stage.daemon.kill();
    stage.daemon.spawn();
    stage.daemon.await_answer();
    stage.daemon.await_ready();
    eventually("the flag serves its treatment again", Duration::from_secs(60), || {
        (stage.daemon.served("ai.f1.new", "anybody") == "f1.new").then_some(())
    });
    assert_eq!(
        stage.daemon.count("SELECT count(*) FROM latches WHERE flag = 'ai.f1.new' AND closed IS NULL"),
        0
    );
    assert_eq!(
        stage.daemon.count("SELECT count(*) FROM latches WHERE flag = 'ai.f0.new' AND closed IS NULL"),
        1
    );
}

/// What the database of the dead daemon holds of a flag.
fn phase(stage: &Stage, flag: usize) -> &'static str {
    let key = key(flag);
    let count = |sql: &str| stage.daemon.count(&sql.replace('?', &format!("'{key}'")));
    if count("SELECT count(*) FROM decisions WHERE flag = ?") == 0 {
        "before the decision"
    } else if count("SELECT count(*) FROM flag_pins WHERE flag = ?") == 0 {
        "decided, not flipped"
    } else if count("SELECT count(*) FROM outbox WHERE flag = ? AND kind = 'page' AND status = 'standing'")
        == 0
    {
        "flipped, not paged"
    } else {
        "paged"
    }
}

/// Waits without giving the processor away: the moments aimed at are milliseconds long.
fn spin(span: Duration) {
    let began = Instant::now();
    while began.elapsed() < span {
        std::hint::spin_loop();
    }
}

/// The part of the daemon's log that is not read yet.
struct Tail {
    file: File,
    text: String,
}

impl Tail {
    fn at_end(stage: &Stage) -> Self {
        let mut file = File::open(stage.daemon.log_path()).expect("a log");
        file.seek(SeekFrom::End(0)).expect("a file");
        Self { file, text: String::new() }
    }

    /// Waits until a line holds both, or the breach has gone on for too long.
    fn wait_for(&mut self, word: &str, key: &str) {
        let bound = Duration::from_secs_f64(60.0 * MINUTE_MS as f64 / 1000.0 / RATE);
        let began = Instant::now();
        let said = |text: &str| text.lines().any(|line| line.contains(word) && line.contains(key));
        while !said(&self.text) {
            assert!(began.elapsed() < bound, "{word} was not said of {key}");
            self.file.read_to_string(&mut self.text).expect("the log is text");
            std::thread::sleep(Duration::from_micros(200));
        }
    }
}

/// SplitMix64: enough to choose moments by.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }
}

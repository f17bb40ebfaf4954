//! Many flags, each with a healthy control and a treatment that goes bad at its own time; and the gateway that plays them.

use std::fmt::Write as _;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::stage::Stage;
use crate::oracle::{Event, Oracle};
use crate::producer::Producer;
use crate::timeline::{MINUTE_MS, Timeline};

/// When things happen, in minutes after the start.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub flags: usize,
    /// More flags whose treatments stay well: without them the last ones to go bad look like a world that breaks.
    pub calm: usize,
    /// The first treatment goes bad.
    pub first: f64,
    /// The next one goes bad so much later.
    pub stagger: f64,
    /// A treatment that has gone bad is served so long.
    pub bad_for: f64,
    /// Everything ends so long after the last breach began.
    pub rest: f64,
    /// Events per minute and variant.
    pub per_minute: i64,
}

/// One flag that never goes bad.
pub const HEALTHY: Plan =
    Plan { flags: 1, calm: 0, first: 1e6, stagger: 0.0, bad_for: 1.0, rest: 0.0, per_minute: 30 };

impl Plan {
    /// The plan on a stage three hours old by its own clock, with the daemon ready, and the time at which it is.
    pub fn staged(&self, rate: f64, blind_after: &str) -> (Stage, i64) {
        let config = self.config().replace("blind_after: 10m", &format!("blind_after: {blind_after}"));
        let mut stage = Stage::open(&self.rules(), &config, (Duration::from_secs(3 * 3600), rate), None);
        stage.daemon.await_ready();
        let start = stage.timeline.now();
        (stage, start)
    }

    /// When a flag's treatment goes bad, in virtual time.
    pub fn breach(&self, start: i64, flag: usize) -> i64 {
        if flag >= self.flags {
            return i64::MAX / 2;
        }
        start + ((self.first + self.stagger * flag as f64) * MINUTE_MS as f64) as i64
    }

    fn end(&self, start: i64) -> i64 {
        self.breach(start, self.flags - 1) + (self.rest * MINUTE_MS as f64) as i64
    }

    /// One rollback rule per treatment, and one rule per variant that never fires and shows the whole window.
    pub fn rules(&self) -> String {
        let mut yaml = String::new();
        for flag in 0..self.flags + self.calm {
            let (old, new) = (control(flag), treatment(flag));
            let _ = write!(
                yaml,
                "- variant: {new}\n  flag: {key}\n  rules:\n\
                 \x20   - {{ id: floor, condition: faithfulness_5m < 0.7, action: rollback, min_samples: 20 }}\n\
                 \x20   - {{ id: all, condition: faithfulness_6h < 0.01, action: notify }}\n\
                 - variant: {old}\n  flag: {key}-base\n  rules:\n\
                 \x20   - {{ id: all, condition: faithfulness_6h < 0.01, action: notify }}\n",
                key = key(flag)
            );
        }
        yaml
    }

    pub fn config(&self) -> String {
        let mut yaml = String::from("limits: { flips: 1000, blind_after: 10m }\nflags:\n");
        for flag in 0..self.flags + self.calm {
            let (key, old, new) = (key(flag), control(flag), treatment(flag));
            let _ = writeln!(yaml, "  {key}: {{ control: {old}, treatment: {new}, share: 100% }}");
            let _ = writeln!(yaml, "  {key}-base: {{ control: {old}-older, treatment: {old}, share: 100% }}");
        }
        yaml
    }

    /// All events in the order of their times.
    pub fn events(&self, start: i64) -> Vec<Event> {
        self.events_until(start, self.end(start))
    }

    /// Those before `end`.
    pub fn events_until(&self, start: i64, end: i64) -> Vec<Event> {
        let step = MINUTE_MS / self.per_minute;
        let mut events = Vec::new();
        for flag in 0..self.flags + self.calm {
            let breach = self.breach(start, flag);
            let gone = breach + (self.bad_for * MINUTE_MS as f64) as i64;
            // Spread over the minute, so that flags do not speak in chorus.
            let mut at = start + step * flag as i64 / self.flags as i64;
            let mut n = 0;
            while at < end {
                events.push(event(flag, "old", n, at, 0.9));
                if at < gone {
                    events.push(event(flag, "new", n, at, if at < breach { 0.9 } else { 0.2 }));
                }
                at += step;
                n += 1;
            }
        }
        events.sort_by_key(|event| event.at);
        events
    }
}

/// One flag's events for so many minutes: a healthy control, and a treatment as good as `quality` says of each moment, in
/// minutes after the start; `None` where nobody gets it.
pub fn story(
    flag: usize,
    start: i64,
    (minutes, per_minute): (i64, i64),
    quality: impl Fn(f64) -> Option<f64>,
) -> Vec<Event> {
    let mut events = Vec::new();
    for n in 0..minutes * per_minute {
        let at = start + n * MINUTE_MS / per_minute;
        events.push(event(flag, "old", n, at, 0.9));
        if let Some(value) = quality((at - start) as f64 / MINUTE_MS as f64) {
            events.push(event(flag, "new", n, at, value));
        }
    }
    events
}

/// Sends everything at its time on a thread of its own; the oracle knows it at once.
pub fn play(
    producer: Producer,
    events: Vec<Event>,
    timeline: Timeline,
    oracle: &mut Oracle,
) -> JoinHandle<Producer> {
    for event in &events {
        oracle.add(event);
    }
    thread::spawn(move || {
        let mut ignored = Oracle::default();
        for event in &events {
            timeline.wait_for(event.at);
            producer.event(event, &mut ignored);
        }
        producer.flush();
        producer
    })
}

pub fn key(flag: usize) -> String {
    format!("ai.f{flag}.new")
}

pub fn control(flag: usize) -> String {
    format!("f{flag}.old")
}

pub fn treatment(flag: usize) -> String {
    format!("f{flag}.new")
}

fn event(flag: usize, side: &str, n: i64, at: i64, value: f64) -> Event {
    Event {
        id: format!("{flag}-{side}-{n}"),
        at,
        variant: format!("f{flag}.{side}"),
        tenant: format!("t{}", (n + flag as i64) % 11),
        metrics: vec![("faithfulness".into(), value)],
    }
}

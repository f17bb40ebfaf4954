//! Virtual time of a scenario: the harness, the producer and the daemon live in it; real servers do not.

use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rearguard::model::time::Timestamp;

pub const MINUTE_MS: i64 = 60_000;

/// A clock that stands at `start` when it is made and runs `rate` times as fast as the machine's.
#[derive(Clone, Copy, Debug)]
pub struct Timeline {
    origin: Instant,
    start: i64,
    pub rate: f64,
}

impl Timeline {
    /// Starts `before` the machine's time, so that what follows lies in the past of a broker's own clock.
    pub fn starting(before: Duration, rate: f64) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let start = now.saturating_sub(before).as_millis() as i64;
        Self { origin: Instant::now(), start: start - start % MINUTE_MS, rate }
    }

    /// Virtual time at which it started.
    pub fn start(&self) -> i64 {
        self.start
    }

    /// Virtual time, in milliseconds.
    pub fn now(&self) -> i64 {
        self.start + (self.origin.elapsed().as_secs_f64() * self.rate * 1000.0) as i64
    }

    /// Waits until virtual time has reached `at`. Pacing, not waiting for something to happen.
    pub fn wait_for(&self, at: i64) {
        let left = (at - self.now()) as f64 / 1000.0 / self.rate;
        if left > 0.0 {
            thread::sleep(Duration::from_secs_f64(left));
        }
    }
}

/// A moment as RFC 3339.
pub fn text(at: i64) -> String {
    Timestamp::from_millis(at).to_string()
}

/// The minute that a moment lies in.
pub fn minute(at: i64) -> i64 {
    at.div_euclid(MINUTE_MS)
}

/// Asks again and again until there is an answer, `bound` of real time at most.
pub fn eventually<T>(what: &str, bound: Duration, mut ask: impl FnMut() -> Option<T>) -> T {
    let asked = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(asked.elapsed() < bound, "after {bound:?} still waiting: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

//! The only place that asks for the time.
//!
//! Two times run here. *Virtual* time is what the daemon lives in: event time, deadlines, leases, records. *Real* time is what
//! sockets and other people's servers live in. With [`Clock::system`] they are the same; a demo, a test or a replay starts
//! virtual time where it likes and lets it run faster, and runs the same code.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

use crate::model::time::Timestamp;

/// A sleep is cut into pieces of at most this much real time, so that a stepped system clock is noticed.
const LONGEST_NAP: Duration = Duration::from_secs(60);

/// Tells and waits for time. A copy tells the same time.
#[derive(Clone, Copy, Debug)]
pub struct Clock(Kind);

#[derive(Clone, Copy, Debug)]
enum Kind {
    System,
    Scaled { start: Timestamp, rate: f64, origin: Instant, real_origin: Timestamp },
}

impl Clock {
    /// The machine's own clock.
    pub const fn system() -> Self {
        Self(Kind::System)
    }

    /// A clock that stands at `start` now and runs `rate` times as fast as the machine's. A rate that is not a positive
    /// number counts as 1. Must be called inside a Tokio runtime's thread or before it starts, not in `const`.
    pub fn scaled(start: Timestamp, rate: f64) -> Self {
        let rate = if rate.is_finite() && rate > 0.0 { rate } else { 1.0 };
        Self(Kind::Scaled { start, rate, origin: Instant::now(), real_origin: system_now() })
    }

    /// Virtual time.
    pub fn now(&self) -> Timestamp {
        match self.0 {
            Kind::System => system_now(),
            Kind::Scaled { start, rate, origin, .. } => start + origin.elapsed().mul_f64(rate),
        }
    }

    /// Real time, for those outside who know nothing of virtual time (Alertmanager's `startsAt`, signatures).
    pub fn real_now(&self) -> Timestamp {
        system_now()
    }

    /// The real time at which virtual time was or will be `at`.
    pub fn to_real(&self, at: Timestamp) -> Timestamp {
        match self.0 {
            Kind::System => at,
            Kind::Scaled { start, rate, real_origin, .. } => {
                let ahead = (at.as_millis() - start.as_millis()) as f64 / rate;
                Timestamp::from_millis(real_origin.as_millis() + ahead as i64)
            }
        }
    }

    /// How much real time a span of virtual time takes.
    pub fn real_span(&self, span: Duration) -> Duration {
        match self.0 {
            Kind::System => span,
            Kind::Scaled { rate, .. } => span.div_f64(rate),
        }
    }

    /// How much virtual time passes in a span of real time.
    pub fn virtual_span(&self, span: Duration) -> Duration {
        match self.0 {
            Kind::System => span,
            Kind::Scaled { rate, .. } => span.mul_f64(rate),
        }
    }

    /// How many times faster than real time virtual time runs.
    pub const fn rate(&self) -> f64 {
        match self.0 {
            Kind::System => 1.0,
            Kind::Scaled { rate, .. } => rate,
        }
    }

    /// Waits for a span of virtual time.
    pub async fn sleep(&self, span: Duration) {
        tokio::time::sleep(self.real_span(span)).await;
    }

    /// Waits until virtual time has reached `at`.
    pub async fn sleep_until(&self, at: Timestamp) {
        loop {
            let now = self.now();
            if now >= at {
                return;
            }
            // A millisecond more than needed: the clock counts whole milliseconds and must have reached `at` afterwards.
            let left = self.real_span(at.since(now)) + Duration::from_millis(1);
            tokio::time::sleep(left.min(LONGEST_NAP)).await;
        }
    }

    /// Waits for a span of real time.
    pub async fn sleep_real(&self, span: Duration) {
        tokio::time::sleep(span).await;
    }

    /// A monotonic reading for measuring how long something took in real time.
    pub fn stopwatch(&self) -> Stopwatch {
        Stopwatch(Instant::now())
    }
}

/// Started by [`Clock::stopwatch`].
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// Real time since it was started.
    pub fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}

fn system_now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_scaled_clock_starts_where_told_and_runs_faster() {
        let start = Timestamp::from_millis(1_000_000);
        let clock = Clock::scaled(start, 1_000.0);
        let watch = clock.stopwatch();
        clock.sleep(Duration::from_secs(10)).await;
        let virtual_span = clock.now().since(start);
        assert!(virtual_span >= Duration::from_secs(10));
        assert!(watch.elapsed() < Duration::from_secs(5));
        let goal = clock.now() + Duration::from_secs(5);
        clock.sleep_until(goal).await;
        assert!(clock.now() >= goal);
        assert_eq!(clock.real_span(Duration::from_secs(1)), Duration::from_millis(1));
        let drift = clock.to_real(clock.now()).as_millis().abs_diff(clock.real_now().as_millis());
        assert!(drift < 1_000, "{drift} ms");
    }

    #[test]
    fn a_nonsense_rate_is_one() {
        for rate in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert_eq!(Clock::scaled(Timestamp::default(), rate).rate(), 1.0);
        }
        assert_eq!(Clock::system().rate(), 1.0);
    }
}

//! How long to wait before the next try: full jitter (Brooker, "Exponential Backoff And Jitter", AWS 2015), and never sooner
//! than the other side asked for.

use std::time::Duration;

use super::failure::Failure;
use crate::engine::budget::BACKOFF;

/// Bounds of the waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The upper bound of the first wait; it doubles with each try.
    pub first: Duration,
    /// The upper bound of every wait.
    pub most: Duration,
}

impl Backoff {
    /// For flips: quick, since every second is somebody's bad answer.
    pub const FLIP: Self = Self { first: Duration::from_millis(250), most: BACKOFF };
    /// For messages.
    pub const MESSAGE: Self = Self { first: Duration::from_secs(1), most: Duration::from_secs(60) };

    /// The wait after the `tries`-th failed try (counted from 1), with `chance` uniform in 0 … 1.
    pub fn wait(&self, tries: u32, failure: &Failure, chance: f64) -> Duration {
        let bound = self.first.saturating_mul(1u32 << tries.saturating_sub(1).min(20)).min(self.most);
        let jittered = bound.mul_f64(chance.clamp(0.0, 1.0));
        match failure.after() {
            // A receiver's wish comes first; the jitter keeps many senders from coming back at once.
            Some(asked) => asked + jittered,
            None => jittered.max(self.first / 10),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_stay_bounded_and_honour_the_receiver() {
        let plain = Failure::retryable("x");
        let at = |tries, chance| Backoff::FLIP.wait(tries, &plain, chance);
        assert_eq!(at(1, 1.0), Duration::from_millis(250));
        assert_eq!(at(2, 1.0), Duration::from_millis(500));
        assert_eq!(at(u32::MAX, 1.0), Duration::from_secs(10));
        assert_eq!(at(9, 0.0), Duration::from_millis(25));
        let asked = Failure::Retryable { after: Some(Duration::from_secs(30)), why: String::new() };
        assert!(Backoff::FLIP.wait(1, &asked, 0.0) >= Duration::from_secs(30));
    }
}

//! The demo's users: a seeded stream of requests, and what each of two models answers.
//!
//! Flows in: a seed and the time at which traffic begins. Flows out: [`Request`]s in the order of time, and for each the
//! [`Answer`] of the variant that the flag chose. Pure: who is asked and when it is sent is the gateway's business. The same
//! seed asks the same questions at the same times, whatever the machine does.
//!
//! The levels are measured ones: GPT-4 asked whether a number is prime, March and June 2023 snapshots (Chen, Zaharia, Zou, "How
//! is ChatGPT's behavior changing over time?", LLMDrift; 1,000 answers each). Times and costs are log-normal through the median
//! and the 95th percentile of the same answers.

use std::f64::consts::TAU;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::model::time::{MINUTE_MS, Minute, Timestamp};

/// Minutes of healthy traffic: enough to fill the one-hour window.
pub const HEALTHY: i64 = 62;
/// Minutes after the terrible one in which everybody waits for something to happen.
pub const CALM: i64 = 6;
/// Requests of a normal minute; half of them ask the treatment.
const PER_MINUTE: i64 = 120;
/// How much more traffic the terrible minute brings.
pub const BURST: i64 = 10;
const TENANTS: u32 = 24;
const USERS: u32 = 4_000;

/// A model as measured.
#[derive(Clone, Copy, Debug)]
pub struct Level {
    pub accuracy: f64,
    /// Milliseconds, median and 95th percentile.
    latency: (f64, f64),
    /// US dollars, median and 95th percentile.
    cost: (f64, f64),
}

pub const MARCH: Level = Level { accuracy: 0.840, latency: (6_719.0, 21_497.0), cost: (0.011_76, 0.037_44) };
pub const JUNE: Level = Level { accuracy: 0.502, latency: (1_460.0, 12_387.0), cost: (0.001_08, 0.001_1) };
/// Not a model: everything that could go wrong in one minute.
const TERRIBLE: Level = Level { accuracy: 0.0, ..MARCH };

/// What happens when, in whole minutes from the first one.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub first: Minute,
}

impl Plan {
    /// The one terrible minute.
    pub fn terrible(self) -> Minute {
        self.first.plus(HEALTHY)
    }

    /// The minute from which on the treatment's answers are worse, for good.
    pub fn regression(self) -> Minute {
        self.terrible().plus(1 + CALM)
    }

    /// How well the treatment does at this time.
    pub fn treatment(self, at: Timestamp) -> Level {
        let minute = at.minute();
        if minute == self.terrible() {
            TERRIBLE
        } else if minute >= self.regression() {
            JUNE
        } else {
            MARCH
        }
    }

    fn requests(self, minute: Minute) -> i64 {
        if minute == self.terrible() { PER_MINUTE * BURST } else { PER_MINUTE }
    }
}

/// Somebody asks something.
#[derive(Clone, Debug)]
pub struct Request {
    pub number: u64,
    pub at: Timestamp,
    pub user: String,
    pub tenant: String,
    pub tier: &'static str,
    pub region: &'static str,
    /// Uniform draws that decide how the answer turns out.
    luck: [f64; 5],
}

/// What a model made of it.
#[derive(Clone, Copy, Debug)]
pub struct Answer {
    pub right: bool,
    pub latency: f64,
    pub cost: f64,
}

/// All requests, one after the other.
#[derive(Debug)]
pub struct Traffic {
    plan: Plan,
    rng: ChaCha8Rng,
    minute: Minute,
    place: i64,
    next: Request,
}

impl Traffic {
    pub fn new(seed: u64, plan: Plan) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let next = draw(&mut rng, 0, plan.first.start());
        Self { plan, rng, minute: plan.first, place: 0, next }
    }

    /// The next request, if its time has come.
    pub fn due(&mut self, now: Timestamp) -> Option<Request> {
        if self.next.at > now {
            return None;
        }
        self.place += 1;
        if self.place == self.plan.requests(self.minute) {
            self.minute = self.minute.plus(1);
            self.place = 0;
        }
        let millis =
            self.minute.start().as_millis() + self.place * MINUTE_MS / self.plan.requests(self.minute);
        let following = draw(&mut self.rng, self.next.number + 1, Timestamp::from_millis(millis));
        Some(std::mem::replace(&mut self.next, following))
    }
}

impl Request {
    /// What a model of this level answers.
    pub fn answer(&self, level: Level) -> Answer {
        let [right, a, b, c, d] = self.luck;
        Answer {
            right: right < level.accuracy,
            latency: log_normal(level.latency, normal(a, b)).round(),
            cost: (log_normal(level.cost, normal(c, d)) * 1e5).round() / 1e5,
        }
    }
}

fn draw(rng: &mut ChaCha8Rng, number: u64, at: Timestamp) -> Request {
    let user = rng.random_range(0..USERS);
    let tenant = user % TENANTS;
    Request {
        number,
        at,
        user: format!("user-{user}"),
        tenant: format!("school-{tenant}"),
        tier: ["free", "starter", "pro"][tenant as usize % 3],
        region: ["eu-central-1", "us-east-1"][tenant as usize % 2],
        luck: std::array::from_fn(|_| rng.random()),
    }
}

/// A standard normal deviate from two uniform ones (Box and Muller).
fn normal(a: f64, b: f64) -> f64 {
    (-2.0 * (1.0 - a).ln()).sqrt() * (TAU * b).cos()
}

fn log_normal((median, p95): (f64, f64), deviate: f64) -> f64 {
    /// The 95th percentile of the standard normal distribution.
    const Z95: f64 = 1.644_853_6;
    median * (deviate * (p95 / median).ln() / Z95).exp()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hours(seed: u64) -> Vec<Request> {
        let plan = Plan { first: Minute(29_000_000) };
        let mut traffic = Traffic::new(seed, plan);
        let end = plan.first.plus(120).start();
        std::iter::from_fn(|| traffic.due(end)).filter(|request| request.at < end).collect()
    }

    #[test]
    fn the_same_seed_tells_the_same_story() {
        let (one, again, other) = (hours(7), hours(7), hours(8));
        assert!(one.iter().zip(&again).all(|(a, b)| (a.at, &a.user, a.luck) == (b.at, &b.user, b.luck)));
        assert!(one.iter().zip(&other).any(|(a, b)| a.user != b.user));
        assert!(one.is_sorted_by_key(|request| request.at));
        assert_eq!(one.len() as i64, PER_MINUTE * (119 + BURST));
    }

    #[test]
    fn the_levels_are_the_published_ones() {
        let requests = hours(1);
        let mean = |level: Level| {
            let right = requests.iter().filter(|request| request.answer(level).right).count();
            right as f64 / requests.len() as f64
        };
        assert!((mean(MARCH) - 0.840).abs() < 0.01, "{}", mean(MARCH));
        assert!((mean(JUNE) - 0.502).abs() < 0.013, "{}", mean(JUNE));
        assert_eq!(mean(TERRIBLE), 0.0);
        let mut latency: Vec<f64> = requests.iter().map(|request| request.answer(JUNE).latency).collect();
        latency.sort_unstable_by(f64::total_cmp);
        assert!((latency[latency.len() / 2] / 1_460.0 - 1.0).abs() < 0.05);
        assert!((latency[latency.len() * 95 / 100] / 12_387.0 - 1.0).abs() < 0.1);
    }
}

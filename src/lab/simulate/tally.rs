//! What came of all runs, with intervals: exact ones, that hold whatever the distribution.

use serde::Serialize;

use super::judge::Judge;
use super::{Alarms, Counts, Times};
use crate::stats::exact;

/// The level of every interval.
pub const LEVEL: f64 = 0.95;
const MINUTES_PER_1000_DAYS: f64 = 1_440_000.0;

/// What came of a plan: per judge.
#[derive(Clone, Debug)]
pub struct Outcome {
    pub judges: Vec<Verdicts>,
    /// Healthy minutes of all runs together.
    pub minutes: u64,
    /// Minutes after the onset at which runs of the regression ended; 0 if there was none.
    pub horizon: u32,
}

/// What came of one judge.
#[derive(Clone, Debug)]
pub struct Verdicts {
    pub judge: Judge,
    /// Closings at which some rule rolled the variant back falsely.
    pub rollbacks: u64,
    pub rules: Vec<RuleTally>,
}

/// What one judge made of one rule.
#[derive(Clone, Debug, Default)]
pub struct RuleTally {
    pub counts: Counts,
    /// Minutes from onset to action, ascending; those that did not act within the horizon are not in it.
    times: Vec<u32>,
    /// Runs of the regression.
    pub runs: u64,
}

/// An estimate with its interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Estimate {
    pub value: f64,
    pub low: f64,
    pub high: f64,
}

/// A quantile of times, in minutes; `None` where it lies beyond the horizon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Quantile {
    pub value: Option<u32>,
    pub low: Option<u32>,
    pub high: Option<u32>,
}

impl Outcome {
    /// Adds runs up, in their order.
    pub(super) fn of(
        judges: &[Judge],
        rules: usize,
        minutes: u64,
        horizon: u32,
        runs: Vec<(Vec<Alarms>, Vec<Times>)>,
    ) -> Self {
        let empty = |judge: &Judge| Verdicts {
            judge: *judge,
            rollbacks: 0,
            rules: vec![RuleTally::default(); rules],
        };
        let mut all: Vec<Verdicts> = judges.iter().map(empty).collect();
        for (alarms, times) in runs {
            for (verdicts, alarms) in all.iter_mut().zip(alarms) {
                verdicts.rollbacks += alarms.rollbacks;
                for (rule, counts) in verdicts.rules.iter_mut().zip(alarms.rules) {
                    rule.counts.add(counts);
                }
            }
            for (verdicts, times) in all.iter_mut().zip(times) {
                verdicts.rules.iter_mut().zip(times).for_each(|(rule, time)| rule.add(time));
            }
        }
        for rule in all.iter_mut().flat_map(|verdicts| &mut verdicts.rules) {
            rule.times.sort_unstable();
        }
        Self { judges: all, minutes, horizon }
    }

    /// Days of health in all.
    pub fn days(&self) -> f64 {
        self.minutes as f64 / 1_440.0
    }

    /// So many events in all healthy days, as events per 1,000 days.
    pub fn per_1000_days(&self, count: u64) -> Estimate {
        let times = MINUTES_PER_1000_DAYS / self.minutes.max(1) as f64;
        let (low, high) = exact::poisson(count, LEVEL);
        Estimate { value: count as f64 * times, low: low * times, high: high * times }
    }
}

impl Counts {
    fn add(&mut self, more: Self) {
        self.acted += more.acted;
        self.paused += more.paused;
        self.withheld += more.withheld;
    }
}

impl RuleTally {
    /// The tally of given times.
    pub fn of_times(times: impl IntoIterator<Item = Option<u32>>) -> Self {
        let mut tally = Self::default();
        times.into_iter().for_each(|time| tally.add(time));
        tally.times.sort_unstable();
        tally
    }

    fn add(&mut self, time: Option<u32>) {
        self.runs += 1;
        self.times.extend(time);
    }

    /// The share of runs that had acted by each minute at which some did.
    pub fn steps(&self) -> impl Iterator<Item = (u32, f64)> + '_ {
        let mut done = 0;
        self.times.chunk_by(|a, b| a == b).map(move |run| {
            done += run.len();
            (run[0], done as f64 / self.runs.max(1) as f64)
        })
    }

    /// The share of runs that acted within so many minutes of the onset.
    pub fn within(&self, minutes: u32) -> Estimate {
        let hits = self.times.partition_point(|time| *time <= minutes) as u64;
        let (low, high) = exact::share(hits, self.runs, LEVEL);
        Estimate { value: hits as f64 / self.runs.max(1) as f64, low, high }
    }

    /// The time by which a share `q` of the runs had acted: the least that at least so many do not exceed.
    pub fn quantile(&self, q: f64) -> Quantile {
        let at = |place: usize| self.times.get(place).copied();
        let place = (q * self.runs as f64).ceil().max(1.0) as usize - 1;
        let (low, high) = exact::quantile_ranks(q, self.runs, LEVEL);
        Quantile { value: at(place), low: low.map_or(Some(0), at), high: high.and_then(at) }
    }
}

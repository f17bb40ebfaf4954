//! Simulation: how often rules act without cause, and how fast with one, before there is data.
//!
//! A [`World`] says how events arrive and how good they are; [`Stream`] draws its minutes, seeded; every [`Judge`] sees the same
//! minutes: the daemon's engine with each `confirm` mode, and two plain rules. A run is a stretch of healthy days, in which
//! whatever acts is false and is re-armed at once, and a regression after six hours of health, in which the time counts until each
//! rule acts. Runs are independent, one thread takes one after the other, and results do not depend on how many threads there are.

pub mod draw;
pub mod judge;
pub mod observed;
pub mod reach;
pub mod stream;
pub mod tally;
#[cfg(test)]
mod tests;
pub mod world;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use judge::{Act, Judge, Seat, What, rolls_back};
use stream::Stream;
use tally::Outcome;
use world::World;

use super::setup::{Bench, Setup};
use crate::engine::input::Settings;
use crate::engine::pane::VariantPane;
use crate::engine::rule::RuleAction;
use crate::engine::rule::compile::schema_for;
use crate::model::id::Variant;
use crate::model::time::Minute;

/// Minutes of health before a regression: the longest window, and all that evidence remembers.
pub const WARM_UP: i64 = 361;

/// What is simulated: the rules of one variant in one world.
#[derive(Clone, Debug)]
pub struct Plan {
    pub settings: Settings,
    pub variant: Variant,
    pub baseline: Option<Variant>,
    pub world: Arc<World>,
    pub judges: Vec<Judge>,
    pub seed: u64,
}

/// How much of it.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    pub runs: u64,
    /// Healthy days of each run.
    pub days: f64,
    /// Minutes after the onset at which a run of a regression ends; 0 for none.
    pub horizon: u32,
    pub threads: usize,
}

/// What one judge did in one healthy stretch: per rule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Alarms {
    pub rules: Vec<Counts>,
    /// Closings at which some rule rolled the variant back.
    pub rollbacks: u64,
}

/// How often one rule acted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub acted: u64,
    pub paused: u64,
    pub withheld: u64,
}

/// Minutes from the onset of a regression to the end of the minute at whose closing each rule first acted; 0 for a pause that stood
/// already, `None` if it did not act within the horizon.
pub type Times = Vec<Option<u32>>;

impl Plan {
    /// The rules of one variant. `rollbacks` is how many rollback rules the whole fleet has: the evidence needed grows with it.
    /// Rules that are only tried out (`mode: dry_run`) are simulated as if they acted.
    pub fn new(
        setup: &Setup,
        bench: &Bench,
        world: World,
        judges: Vec<Judge>,
        rollbacks: usize,
        seed: u64,
    ) -> Self {
        let mut rules = setup.rules.clone();
        rules
            .rules
            .iter_mut()
            .filter(|rule| rule.dry_run)
            .for_each(|rule| Arc::make_mut(rule).dry_run = false);
        let own = rules.rules.iter().filter(|rule| rule.action == RuleAction::Rollback).count().max(1);
        let mut limits = bench.limits;
        // The engine counts the rollback rules that it sees.
        limits.false_rollback_every =
            limits.false_rollback_every.mul_f64(rollbacks.max(own) as f64 / own as f64);
        let schema = schema_for(&rules, &setup.flags, &bench.catalogue, None);
        let first = rules.rules.first();
        Self {
            variant: first.map_or_else(|| "".into(), |rule| rule.variant.clone()),
            baseline: rules
                .rules
                .iter()
                .find_map(|rule| rule.baseline.clone().filter(|_| rule.condition.reads_baseline())),
            settings: Settings {
                rules: Arc::new(rules),
                flags: setup.flags.clone(),
                schema: Arc::new(schema),
                limits,
                lateness: bench.lateness,
                dry_run: false,
            },
            world: Arc::new(world),
            judges,
            seed,
        }
    }

    /// c: the evidence that one of the rules needs.
    pub fn needed(&self) -> f64 {
        let rules =
            self.settings.rules.rules.iter().filter(|rule| rule.action == RuleAction::Rollback).count();
        rules.max(1) as f64 * self.settings.limits.false_rollback_every.as_secs_f64() / 60.0
    }

    /// What `evidence` promises of each rule under its assumption: false rollbacks per 1,000 days at most.
    pub fn promised(&self) -> f64 {
        1_440_000.0 / self.needed()
    }

    /// Runs it all. `done` hears of every run that has ended, from whichever thread.
    pub fn run(&self, size: Size, done: &(impl Fn() + Sync)) -> Outcome {
        let runs = parallel(size.runs, size.threads, |run| {
            let alarms = self.healthy(run, size.days);
            let times =
                if size.horizon > 0 { self.warm(run).shifted(&self.world, size.horizon) } else { Vec::new() };
            done();
            (alarms, times)
        });
        let minutes = minutes_of(size.days) as u64 * size.runs;
        Outcome::of(&self.judges, self.settings.rules.rules.len(), minutes, size.horizon, runs)
    }

    /// One healthy stretch, for each judge.
    pub fn healthy(&self, run: u64, days: f64) -> Vec<Alarms> {
        let rules = &self.settings.rules;
        let empty = Alarms { rules: vec![Counts::default(); rules.rules.len()], rollbacks: 0 };
        let mut alarms = vec![empty; self.judges.len()];
        let mut warm = self.begin(2 * run);
        for _ in 0..minutes_of(days) {
            warm.step(&mut |seat, acts| {
                alarms[seat].rollbacks += u64::from(acts.iter().any(|act| rolls_back(rules, *act)));
                for act in acts {
                    let counts = &mut alarms[seat].rules[act.rule];
                    match act.what {
                        What::Acted => counts.acted += 1,
                        What::Paused => counts.paused += 1,
                        What::Withheld => counts.withheld += 1,
                    }
                }
                Then::Rearm
            });
        }
        alarms
    }

    /// A run that has been healthy for [`WARM_UP`] minutes. What acted falsely was re-armed.
    pub fn warm(&self, run: u64) -> Warm {
        let mut warm = self.begin(2 * run + 1);
        for _ in 0..WARM_UP {
            warm.step(&mut |_, _| Then::Rearm);
        }
        warm
    }

    fn begin(&self, stream: u64) -> Warm {
        let (world, schema) = (Arc::clone(&self.world), Arc::clone(&self.settings.schema));
        Warm {
            stream: Stream::new(world, schema, &self.variant, self.baseline.as_ref(), self.seed, stream),
            seats: self.judges.iter().map(|judge| Seat::new(*judge, &self.settings)).collect(),
            rules: self.settings.rules.rules.len(),
        }
    }
}

/// A stream and its judges, somewhere in a run. A copy goes on as the original would.
#[derive(Clone, Debug)]
pub struct Warm {
    stream: Stream,
    seats: Vec<Seat>,
    rules: usize,
}

/// What is to be done about rules that have acted.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Then {
    Rearm,
    Leave,
}

impl Warm {
    /// From here on the variant is as bad as `world` says: for each judge the minutes until each rule acts.
    pub fn shifted(mut self, world: &Arc<World>, horizon: u32) -> Vec<Times> {
        self.stream.regress(Arc::clone(world));
        let at_onset = |seat: &Seat| (0..self.rules).map(|rule| seat.stands(rule).then_some(0)).collect();
        let mut times: Vec<Times> = self.seats.iter().map(at_onset).collect();
        for minute in 1..=horizon {
            self.step(&mut |seat, acts| {
                for act in acts.iter().filter(|act| act.what == What::Acted) {
                    times[seat][act.rule].get_or_insert(minute);
                }
                Then::Leave
            });
            if times.iter().flatten().all(Option::is_some) {
                break;
            }
        }
        times
    }

    fn step(&mut self, told: &mut dyn FnMut(usize, &[Act]) -> Then) {
        let (minute, panes): (Minute, Vec<VariantPane>) = self.stream.step();
        for (number, seat) in self.seats.iter_mut().enumerate() {
            let acts = seat.close(minute, &panes);
            if !acts.is_empty() && told(number, &acts) == Then::Rearm {
                seat.rearm(minute);
            }
        }
    }
}

fn minutes_of(days: f64) -> i64 {
    (days * 1_440.0).round() as i64
}

/// What `work` makes of the numbers below `n`, in their order, whatever thread each was given to.
pub fn parallel<T: Send>(n: u64, threads: usize, work: impl Fn(u64) -> T + Sync) -> Vec<T> {
    let next = AtomicUsize::new(0);
    let n = usize::try_from(n).unwrap_or(usize::MAX);
    let take = || {
        let mut done = Vec::new();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= n {
                return done;
            }
            done.push((number, work(number as u64)));
        }
    };
    let mut all: Vec<(usize, T)> = std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads.clamp(1, n.max(1))).map(|_| scope.spawn(take)).collect();
        let mut all = take();
        for other in others {
            match other.join() {
                Ok(done) => all.extend(done),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        all
    });
    all.sort_by_key(|(number, _)| *number);
    all.into_iter().map(|(_, result)| result).collect()
}

/// The time from onset that still counts as within ten minutes: in whole minutes, once event time has passed the lateness.
pub fn within_ten(lateness: Duration) -> u32 {
    let left = crate::engine::budget::PROMISE.saturating_sub(lateness);
    u32::try_from(left.as_secs() / 60).unwrap_or(0)
}

//! The reach of a rule: the smallest shift that it acts upon within ten minutes of the onset, and how long it takes for given ones.

use std::sync::Arc;

use super::tally::{Quantile, RuleTally};
use super::world::World;
use super::{Plan, Warm, parallel};
use crate::engine::rule::{Arm, Rule, Shape, Side};
use crate::model::metric::{Catalogue, Direction, Kind, MetricId};

/// What is tried: one metric of one rule, made worse. Sizes are in points (0.02 is two) of scores and rates, relative for values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Lever {
    pub metric: MetricId,
    pub kind: Kind,
    /// The side that is bad.
    pub side: Side,
    /// The healthy centre.
    pub healthy: f64,
}

/// How much is simulated.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    pub runs: u64,
    /// Minutes after the onset at which a run ends.
    pub horizon: u32,
    /// Minutes from onset that count as within ten.
    pub ten: u32,
    pub threads: usize,
}

/// What came of it, for the rule's own mode.
#[derive(Clone, Debug)]
pub struct Reach {
    /// The smallest shift that the median run acts upon within ten minutes; `None` if the worst one is too small.
    pub smallest: Option<f64>,
    /// The worst shift that there is.
    pub worst: f64,
    /// The median time for the worst shift.
    pub at_worst: Quantile,
    /// The median times for the sizes asked for, as far as they are possible.
    pub times: Vec<(f64, Quantile)>,
}

/// Values grow tenfold at most.
const MOST: f64 = 9.0;

impl Lever {
    /// The lever of a rule that measures one metric of its variant; `None` where there are several.
    pub fn of(rule: &Rule, world: &World, catalogue: &Catalogue) -> Option<Self> {
        let mut own = rule.condition.slots.iter().filter(|slot| slot.arm == Arm::Own).map(|slot| slot.metric);
        let metric = own.next()?;
        if own.any(|other| other != metric) {
            return None;
        }
        let known = catalogue.get(metric);
        let side = match (&rule.condition.shape, known.direction) {
            (Shape::Simple { side, .. }, _) => *side,
            (Shape::Other, Direction::HigherIsBetter) => Side::Below,
            (Shape::Other, Direction::LowerIsBetter) => Side::Above,
        };
        let healthy = world.metrics.iter().find(|m| m.metric == metric)?.healthy;
        Some(Self { metric, kind: known.kind, side, healthy })
    }

    /// The sizes that everybody asks for: 1, 2, 5 and 10 points; 10, 20, 50 and 100 %.
    pub const fn sizes(&self) -> [f64; 4] {
        match self.kind {
            Kind::Value => [0.1, 0.2, 0.5, 1.0],
            Kind::Score | Kind::Boolean => [0.01, 0.02, 0.05, 0.1],
        }
    }

    /// The largest shift that there is.
    pub fn worst(&self) -> f64 {
        match (self.kind, self.side) {
            (Kind::Value, Side::Above) => MOST,
            (Kind::Value, Side::Below) => 1.0,
            (_, Side::Below) => self.healthy,
            (_, Side::Above) => 1.0 - self.healthy,
        }
    }

    /// The centre after a shift.
    pub fn shifted(&self, size: f64) -> f64 {
        let sign = if self.side == Side::Above { 1.0 } else { -1.0 };
        match self.kind {
            Kind::Value => self.healthy * (1.0 + sign * size).max(1e-6),
            Kind::Score | Kind::Boolean => (self.healthy + sign * size).clamp(0.0, 1.0),
        }
    }

    /// Shifts are told apart by so much.
    const fn step(&self) -> f64 {
        match self.kind {
            Kind::Value => 0.01,
            Kind::Score | Kind::Boolean => 0.005,
        }
    }
}

/// Finds the reach of the first rule of a plan, as its first judge sees it. All shifts are tried on the same runs, with the same
/// random numbers.
pub fn reach(plan: &Plan, lever: &Lever, effort: Effort) -> Reach {
    let warm: Vec<Warm> = parallel(effort.runs, effort.threads, |run| plan.warm(run));
    let median = |size: f64, horizon: u32| {
        let world = Arc::new(worse(&plan.world, lever, size));
        let times = parallel(effort.runs, effort.threads, |run| {
            let warm = warm[usize::try_from(run).unwrap_or(0)].clone();
            warm.shifted(&world, horizon)[0][0]
        });
        RuleTally::of_times(times).quantile(0.5)
    };
    let worst = lever.worst();
    let at_worst = median(worst, effort.horizon);
    let reached = |time: Quantile| time.value.is_some_and(|minutes| minutes <= effort.ten);
    let smallest = reached(at_worst).then(|| {
        // In steps; the last one is always enough.
        let (mut too_small, mut enough) = (0, (worst / lever.step()).ceil() as u32);
        while enough - too_small > 1 {
            let middle = u32::midpoint(too_small, enough);
            let size = (f64::from(middle) * lever.step()).min(worst);
            if reached(median(size, effort.ten)) {
                enough = middle;
            } else {
                too_small = middle;
            }
        }
        (f64::from(enough) * lever.step()).min(worst)
    });
    let possible = lever.sizes().into_iter().filter(|size| *size <= worst);
    Reach {
        smallest,
        worst,
        at_worst,
        times: possible.map(|size| (size, median(size, effort.horizon))).collect(),
    }
}

fn worse(world: &World, lever: &Lever, size: f64) -> World {
    let mut world = world.clone();
    for metric in world.metrics.iter_mut().filter(|m| m.metric == lever.metric) {
        metric.regressed = Some(lever.shifted(size));
    }
    world
}

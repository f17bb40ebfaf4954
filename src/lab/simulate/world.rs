//! A world: how events arrive, how good they are, and what goes wrong by itself.

use super::draw::Shape;
use crate::engine::rule::Stat;
use crate::model::metric::{Direction, Kind, Metric, MetricId};

/// Everything that a simulated stream is made of. Shocks and swings are in points (0.02 is two points) of scores and rates, and
/// relative for values (0.02 is two percent). They never move an expectation on average: what would leave the range of a score is
/// cut off on both sides alike.
#[derive(Clone, Debug)]
pub struct World {
    /// Events of the variant a minute, on average; each carries all metrics. Counts are Poisson.
    pub events: f64,
    /// The same of the baseline.
    pub baseline_events: f64,
    /// How far traffic swings above and below its average in a day: 0.5 is from half to one and a half.
    pub traffic_swing: f64,
    /// How far levels swing in a day, of both arms alike, lowest while traffic is highest.
    pub level_swing: f64,
    /// Standard deviation of a shock that the events of one minute of one arm share.
    pub noise: f64,
    /// Standard deviation of shocks that fade slowly, AR(1) from minute to minute; both arms share them.
    pub shocks: f64,
    /// How much of such a shock is left a minute later.
    pub shocks_last: f64,
    /// Minutes a day in which all is as bad as can be, of the variant alone.
    pub accidents: f64,
    /// By how much such a minute multiplies the variant's traffic.
    pub accident_traffic: f64,
    /// Times a day at which no events come at all.
    pub gaps: f64,
    /// How long each of them lasts.
    pub gap_minutes: u32,
    /// The share of events that enters minutes already judged.
    pub late: f64,
    /// How much later these come.
    pub late_minutes: u32,
    pub metrics: Vec<Measured>,
}

/// One metric of a world. Centres are means of scores and rates, medians of values.
#[derive(Clone, Debug)]
pub struct Measured {
    pub metric: MetricId,
    pub kind: Kind,
    pub shape: Shape,
    pub healthy: f64,
    /// The variant's centre after the regression, if it has one.
    pub regressed: Option<f64>,
    /// The baseline's centre, if some rule compares with it.
    pub baseline: Option<f64>,
    /// What an accident makes of it.
    pub worst: f64,
}

/// How many times a value grows (or shrinks) in an accident.
const ACCIDENT: f64 = 10.0;

impl Default for World {
    fn default() -> Self {
        Self {
            events: 60.0,
            baseline_events: 60.0,
            traffic_swing: 0.0,
            level_swing: 0.0,
            noise: 0.0,
            shocks: 0.0,
            shocks_last: 0.95,
            accidents: 0.0,
            accident_traffic: 10.0,
            gaps: 0.0,
            gap_minutes: 30,
            late: 0.0,
            late_minutes: 5,
            metrics: Vec::new(),
        }
    }
}

impl Measured {
    /// A metric at a centre; nothing regresses.
    pub fn new(id: MetricId, metric: &Metric, shape: Shape, healthy: f64) -> Self {
        let worst = match (metric.kind, metric.direction) {
            (Kind::Value, Direction::LowerIsBetter) => healthy * ACCIDENT,
            (Kind::Value, Direction::HigherIsBetter) => healthy / ACCIDENT,
            (Kind::Score | Kind::Boolean, Direction::LowerIsBetter) => 1.0,
            (Kind::Score | Kind::Boolean, Direction::HigherIsBetter) => 0.0,
        };
        Self { metric: id, kind: metric.kind, shape, healthy, regressed: None, baseline: None, worst }
    }

    /// A centre moved by a shock.
    pub fn moved(&self, center: f64, shock: f64) -> f64 {
        match self.kind {
            Kind::Value => center * shock.exp(),
            Kind::Score | Kind::Boolean => {
                let room = center.min(1.0 - center).max(0.0);
                center + shock.clamp(-room, room)
            }
        }
    }
}

impl Shape {
    /// The centre at which a statistic has a given value; `None` for statistics that say nothing of it.
    pub fn center(&self, stat: Stat, value: f64) -> Option<f64> {
        let Self::LogNormal { sigma } = self else {
            return matches!(stat, Stat::Mean | Stat::Rate).then_some(value);
        };
        let ln = match stat {
            Stat::Mean => sigma * sigma / 2.0,
            stat => sigma * normal_quantile(stat.quantile()?),
        };
        Some(value / ln.exp())
    }
}

fn normal_quantile(q: f64) -> f64 {
    -std::f64::consts::SQRT_2 * statrs::function::erf::erfc_inv(2.0 * q)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::metric::Catalogue;

    #[test]
    fn a_value_is_given_by_any_of_its_statistics() {
        let shape = Shape::LogNormal { sigma: 0.5 };
        let median = shape.center(Stat::P95, 0.05).unwrap();
        assert!((median * (0.5f64 * 1.644_853_627).exp() - 0.05).abs() < 1e-9);
        assert_eq!(shape.center(Stat::P50, 3.0), Some(3.0));
        assert_eq!(shape.center(Stat::Sum, 3.0), None);
        assert_eq!(Shape::Share.center(Stat::Rate, 0.1), Some(0.1));
    }

    #[test]
    fn shocks_are_cut_off_on_both_sides_alike() {
        let catalogue = Catalogue::default();
        let id = catalogue.find("faithfulness").unwrap();
        let score = Measured::new(id, catalogue.get(id), Shape::Share, 0.95);
        let moves = [-0.2, -0.01, 0.01, 0.2].map(|shock| score.moved(0.95, shock));
        assert!((moves.iter().sum::<f64>() / 4.0 - 0.95).abs() < 1e-12, "{moves:?}");
        assert_eq!(score.worst, 0.0);
    }
}

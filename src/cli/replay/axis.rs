//! The axes of a picture: values from bottom to top, evenly or by powers of ten, and time from left to right.

use crate::cli::output::utc;
use crate::dispatch::words::minute_time;
use crate::lab::journal::Story;
use crate::model::time::{MINUTE_MS, Timestamp};

/// A stretch of a picture from top to bottom, in its units.
pub type Stretch = (f64, f64);

/// The evidence below which nothing is shown.
const NOTHING: f64 = 1.0;

/// The range of values on a stretch of a picture.
#[derive(Clone, Copy, Debug)]
pub struct Axis {
    low: f64,
    high: f64,
    by_powers: bool,
    stretch: Stretch,
}

impl Axis {
    /// Everything measured and compared with, and a little room; `None` when there is nothing to draw. Intervals get as much room
    /// again on either side at most: with few samples they would leave none to the rest.
    pub fn of_values(story: &Story, stretch: Stretch) -> Option<Self> {
        let numbers = || story.track.iter().flat_map(|p| [p.value, p.threshold]).flatten();
        let low = numbers().reduce(f64::min)?;
        let high = numbers().reduce(f64::max)?;
        let room = if high > low { high - low } else { high.abs().max(1.0) * 0.5 };
        let (mut lowest, mut highest) = (low, high);
        for (lower, upper) in story.track.iter().filter_map(|p| p.interval) {
            lowest = lowest.min(lower.max(low - room));
            highest = highest.max(upper.min(high + room));
        }
        let room = if highest > lowest { (highest - lowest) * 0.08 } else { high.abs().max(1.0) * 0.05 };
        // Nothing measured is negative.
        Some(Self { low: (lowest - room).max(0.0), high: highest + room, by_powers: false, stretch })
    }

    /// Evidence from nothing to a little above what is enough; `None` where it does not confirm the rule.
    pub fn of_evidence(story: &Story, stretch: Stretch) -> Option<Self> {
        let needed =
            story.track.iter().filter_map(|p| p.evidence).map(|(_, needed)| needed).reduce(f64::max)?;
        Some(Self { low: NOTHING, high: needed.max(10.0) * 30.0, by_powers: true, stretch })
    }

    /// Round values within the range, three to seven of them.
    pub fn ticks(self) -> Vec<f64> {
        if self.by_powers {
            let powers = self.high.log10().floor() as i32;
            let step = usize::try_from(powers / 4).unwrap_or(0) + 1;
            return (0..=powers).step_by(step).map(|power| 10f64.powi(power)).collect();
        }
        let rough = (self.high - self.low) / 5.0;
        let power = 10f64.powf(rough.log10().floor());
        let round = [1.0, 2.0, 2.5, 5.0, 10.0].into_iter().find(|times| times * power >= rough);
        let step = round.unwrap_or(10.0) * power;
        let first = (self.low / step).ceil();
        let all = (0..8).map(|n| (first + f64::from(n)) * step);
        all.take_while(|value| *value <= self.high).collect()
    }

    /// Where a value lies; what is out of range lies at its end.
    pub fn y(self, value: f64) -> f64 {
        let share = if self.by_powers {
            (value.max(self.low) / self.low).ln() / (self.high / self.low).ln()
        } else {
            (value - self.low) / (self.high - self.low)
        };
        let (top, bottom) = self.stretch;
        bottom - share.clamp(0.0, 1.0) * (bottom - top)
    }
}

/// Round times within a span, six to twelve of them.
pub fn ticks((from, to): (Timestamp, Timestamp)) -> Vec<Timestamp> {
    const STEPS: [i64; 13] = [1, 2, 5, 10, 15, 30, 60, 120, 180, 360, 720, 1_440, 2_880];
    let minutes = to.since(from).as_secs() as i64 / 60;
    let step =
        STEPS.into_iter().find(|step| minutes / step <= 10).unwrap_or_else(|| minutes / 8 / 1_440 * 1_440);
    let step = step.max(1) * MINUTE_MS;
    let first = from.as_millis().div_euclid(step) * step;
    let all = (0..).map(|n| first + n * step).take_while(|at| *at <= to.as_millis());
    all.filter(|at| *at >= from.as_millis()).map(Timestamp::from_millis).collect()
}

/// The clock; the day where the span is of days.
pub fn time_of(at: Timestamp, (from, to): (Timestamp, Timestamp)) -> String {
    if to.since(from).as_secs() < 36 * 3600 { minute_time(at) } else { utc(at)[5..16].to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn axis(low: f64, high: f64, by_powers: bool) -> Axis {
        Axis { low, high, by_powers, stretch: (10.0, 110.0) }
    }

    #[test]
    fn values_are_round_and_few() {
        for (low, high) in [(0.16, 0.74), (0.0, 1.0), (41.0, 21_580.0), (0.0, 0.026), (0.95, 1.05)] {
            let ticks = axis(low, high, false).ticks();
            assert!((3..=7).contains(&ticks.len()), "{low} to {high}: {ticks:?}");
            assert!(ticks.iter().all(|value| (low..=high).contains(value)));
        }
        for high in [300.0, 15_768_000.0, 1e9, 1e12] {
            let ticks = axis(1.0, high, true).ticks();
            assert!((3..=7).contains(&ticks.len()), "{high}: {ticks:?}");
            assert!(ticks.iter().all(|value| (1.0..=high).contains(value)));
        }
    }

    #[test]
    fn powers_lie_at_equal_distances_and_what_is_out_of_range_at_the_end() {
        let by_powers = axis(1.0, 1e4, true);
        for (value, y) in [(0.0, 110.0), (1.0, 110.0), (10.0, 85.0), (100.0, 60.0), (1e4, 10.0), (1e80, 10.0)]
        {
            assert!((by_powers.y(value) - y).abs() < 1e-9, "{value}: {}", by_powers.y(value));
        }
        let evenly = axis(0.5, 1.0, false);
        for (value, y) in [(0.4, 110.0), (0.5, 110.0), (0.75, 60.0), (1.0, 10.0), (2.0, 10.0)] {
            assert!((evenly.y(value) - y).abs() < 1e-9, "{value}: {}", evenly.y(value));
        }
    }

    #[test]
    fn ticks_are_round_and_few() {
        let start = Timestamp::parse("2023-07-12T09:03:00Z").unwrap();
        for minutes in [1, 7, 59, 240, 1_440, 10_080, 43_200, 525_600] {
            let end = Timestamp::from_millis(start.as_millis() + minutes * MINUTE_MS);
            let ticks = ticks((start, end));
            assert!((1..=12).contains(&ticks.len()), "{minutes}: {}", ticks.len());
            assert!(ticks.iter().all(|at| (start..=end).contains(at)));
        }
    }
}

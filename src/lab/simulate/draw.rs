//! What one minute of one metric holds: counts drawn at once, not event by event, so that ten thousand events a minute cost little
//! more than ten.

use std::sync::{Arc, OnceLock};

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Binomial, Distribution, StandardNormal};
use statrs::function::beta::beta_reg;
use statrs::function::erf::erfc;

use crate::engine::layout::{Layout, micros};
use crate::engine::pane::{OpenValues, PaneData, SealedValues, Sums};

/// What the samples of a metric look like around their centre: a mean for scores and rates, a median for values.
#[derive(Clone, Debug)]
pub enum Shape {
    /// True or false; a score is 1 or 0. The widest spread that a mean between 0 and 1 can have.
    Share,
    /// Scores spread by a beta distribution of about this standard deviation.
    Spread(Arc<Beta>),
    /// Log-normal; `sigma` is that of the logarithm.
    LogNormal { sigma: f64 },
}

/// Up to as many samples are drawn one by one; beyond, counts per bucket are cheaper.
const ONE_BY_ONE: u64 = 500;

/// Draws `n` samples of a metric. `layout` is `None` for booleans; so is the result where there is no sample.
pub fn minute(
    shape: &Shape,
    layout: Option<&Layout>,
    center: f64,
    n: u64,
    rng: &mut ChaCha8Rng,
) -> Option<PaneData> {
    if n == 0 {
        return None;
    }
    let Some(layout) = layout else {
        return Some(PaneData::Counts { n, trues: binomial(n, center, rng) });
    };
    Some(PaneData::Values(match shape {
        Shape::Share => {
            let ones = binomial(n, center, rng);
            sealed(layout, &[(0.0, n - ones), (1.0, ones)])
        }
        Shape::Spread(beta) => sealed(layout, &beta.draw(center, n, rng)),
        Shape::LogNormal { sigma } if n <= ONE_BY_ONE => {
            let mut open = OpenValues::default();
            for _ in 0..n {
                let z: f64 = StandardNormal.sample(rng);
                open.record(layout, center * (sigma * z).exp());
            }
            open.seal(layout)
        }
        Shape::LogNormal { sigma } => sealed(layout, &log_normal_counts(layout, center, *sigma, n, rng)),
    }))
}

/// How many of `n` happen, each with probability `p`.
pub fn binomial(n: u64, p: f64, rng: &mut ChaCha8Rng) -> u64 {
    Binomial::new(n, p.clamp(0.0, 1.0)).map_or(0, |binomial| binomial.sample(rng))
}

/// A pane of (value, how often), ascending by value.
fn sealed(layout: &Layout, counts: &[(f64, u64)]) -> SealedValues {
    let mut sums = Sums::default();
    let mut entries: Vec<(u16, u64)> = Vec::with_capacity(counts.len());
    for (value, count) in counts.iter().filter(|(_, count)| *count > 0) {
        let micro = micros(*value);
        let size = u128::from(micro.unsigned_abs());
        sums.add(&Sums {
            n: *count,
            sum: i128::from(micro) * i128::from(*count),
            squares: size * size * u128::from(*count),
            min: micro,
            max: micro,
        });
        let bucket = layout.bucket(*value);
        match entries.last_mut() {
            Some((last, so_far)) if *last == bucket => *so_far += count,
            _ => entries.push((bucket, *count)),
        }
    }
    SealedValues::encode(&sums, &entries)
}

/// Deals `n` samples out over places of given probabilities, one after the other: given what is left, each count is binomial.
fn deal(n: u64, shares: impl Iterator<Item = f64>, rng: &mut ChaCha8Rng, mut take: impl FnMut(usize, u64)) {
    let (mut left, mut rest) = (n, 1.0);
    for (place, share) in shares.enumerate() {
        if left == 0 {
            return;
        }
        let count = if rest <= share { left } else { binomial(left, share / rest, rng) };
        take(place, count);
        left -= count;
        rest -= share;
    }
}

/// Samples per bucket, each as the middle of its bucket.
fn log_normal_counts(
    layout: &Layout,
    median: f64,
    sigma: f64,
    n: u64,
    rng: &mut ChaCha8Rng,
) -> Vec<(f64, u64)> {
    // Beyond six standard deviations lies one sample in a thousand million.
    let (first, last) =
        (layout.bucket(median * (-6.0 * sigma).exp()), layout.bucket(median * (6.0 * sigma).exp()));
    // Values are rounded to the nearest step: a bucket ends half a step above its highest value.
    let half = layout.lower(1) / 2.0;
    let below = |value: f64| erfc(-(value / median).ln() / sigma / std::f64::consts::SQRT_2) / 2.0;
    let mut before = 0.0;
    let shares = (first..=last).map(|bucket| {
        let until = if bucket == last { 1.0 } else { below(layout.upper(bucket) + half) };
        until - std::mem::replace(&mut before, until)
    });
    let mut counts = Vec::new();
    deal(n, shares, rng, |place, count| {
        let bucket = first + u16::try_from(place).unwrap_or(u16::MAX);
        counts.push((f64::midpoint(layout.lower(bucket), layout.upper(bucket)), count));
    });
    counts
}

/// Beta distributions of one standard deviation, laid out on hundredths so that every mean is kept exactly.
#[derive(Debug)]
pub struct Beta {
    sd: f64,
    tables: Vec<OnceLock<Table>>,
}

/// The distribution at one mean: shares of the places, and the sums of these up to each.
#[derive(Debug)]
struct Table {
    shares: Vec<f64>,
    up_to: Vec<f64>,
}

/// Places: 0, .01, .02 … 1.
const PLACES: usize = 100;
/// Means that have a table of their own; one between two of them is a mixture of both, which has exactly that mean.
const MEANS: usize = 200;

impl Beta {
    /// Scores of standard deviation `sd`, as far as a mean leaves room for it.
    pub fn new(sd: f64) -> Self {
        Self { sd, tables: (0..=MEANS).map(|_| OnceLock::new()).collect() }
    }

    /// The standard deviation asked for.
    pub fn sd(&self) -> f64 {
        self.sd
    }

    fn draw(&self, mean: f64, n: u64, rng: &mut ChaCha8Rng) -> Vec<(f64, u64)> {
        let at = mean.clamp(0.0, 1.0) * MEANS as f64;
        let lower = (at.floor() as usize).min(MEANS - 1);
        let of_upper = binomial(n, at - lower as f64, rng);
        let mut counts = vec![0; PLACES + 1];
        for (table, n) in [(self.table(lower), n - of_upper), (self.table(lower + 1), of_upper)] {
            if n > ONE_BY_ONE {
                deal(n, table.shares.iter().copied(), rng, |place, count| counts[place] += count);
                continue;
            }
            for _ in 0..n {
                let u: f64 = rng.random();
                counts[table.up_to.partition_point(|sum| *sum <= u).min(PLACES)] += 1;
            }
        }
        counts.into_iter().enumerate().map(|(place, count)| (place as f64 / PLACES as f64, count)).collect()
    }

    fn table(&self, number: usize) -> &Table {
        self.tables[number].get_or_init(|| Table::new(number as f64 / MEANS as f64, self.sd))
    }
}

impl Table {
    /// A sample between two places counts as either of them, the nearer one more often, so that the mean stays.
    fn new(mean: f64, sd: f64) -> Self {
        let size = mean * (1.0 - mean) / (sd * sd) - 1.0;
        let mut shares = vec![0.0; PLACES + 1];
        // Where a mean leaves no room for so wide a spread, scores are 0 or 1.
        if size.is_nan() || size < 0.02 {
            (shares[0], shares[PLACES]) = (1.0 - mean, mean);
        } else {
            let (a, b) = (mean * size, (1.0 - mean) * size);
            let width = 1.0 / PLACES as f64;
            let upper = |x: f64, a: f64| if x >= 1.0 { 1.0 } else { beta_reg(a, b, x) };
            for place in 0..PLACES {
                let (from, to) = (place as f64 * width, (place + 1) as f64 * width);
                let mass = upper(to, a) - upper(from, a);
                let moment = mean * (upper(to, a + 1.0) - upper(from, a + 1.0));
                shares[place] += ((to * mass - moment) / width).max(0.0);
                shares[place + 1] += ((moment - from * mass) / width).max(0.0);
            }
        }
        let mut sum = 0.0;
        let up_to = shares.iter().map(|share| {
            sum += share;
            sum
        });
        Self { up_to: up_to.collect(), shares }
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    fn moments(shape: &Shape, layout: &Layout, center: f64, n: u64, minutes: u32) -> (f64, f64) {
        let mut rng = ChaCha8Rng::seed_from_u64(7);
        let mut all = Sums::default();
        for _ in 0..minutes {
            let Some(PaneData::Values(values)) = minute(shape, Some(layout), center, n, &mut rng) else {
                panic!("a minute with samples has a pane");
            };
            assert_eq!(values.entries().map(|(_, count)| count).sum::<u64>(), n);
            all.add(&values.sums());
        }
        let n = all.n as f64;
        let mean = all.sum as f64 / 1e6 / n;
        (mean, (all.squares as f64 / 1e12 / n - mean * mean).sqrt())
    }

    #[test]
    fn scores_keep_their_mean_and_their_spread() {
        let layout = Layout::new(0.001, 1.0);
        for (mean, sd) in [(0.95, 0.1), (0.917, 0.05), (0.5, 0.2), (0.013, 0.05)] {
            let beta = Shape::Spread(Arc::new(Beta::new(sd)));
            for (n, minutes) in [(40, 5_000), (20_000, 10)] {
                let (m, s) = moments(&beta, &layout, mean, n, minutes);
                let error = 4.0 * sd / f64::from(minutes).sqrt() / (n as f64).sqrt();
                assert!((m - mean).abs() < error, "mean {m} of {mean}");
                assert!((s - sd).abs() < 0.05 * sd + 0.002, "sd {s} of {sd} at {mean}");
            }
        }
        let (m, s) = moments(&Shape::Share, &layout, 0.9, 100, 2_000);
        assert!((m - 0.9).abs() < 0.003 && (s - 0.3).abs() < 0.005, "{m} {s}");
    }

    /// Counts per bucket are the same distribution as samples one by one.
    #[test]
    fn many_values_look_as_few_do() {
        let layout = Layout::new(1.0, 600_000.0);
        let shape = Shape::LogNormal { sigma: 0.6 };
        let mean = 1_200.0 * (0.18f64).exp();
        for (n, minutes) in [(ONE_BY_ONE, 400), (ONE_BY_ONE * 400, 1)] {
            let (m, s) = moments(&shape, &layout, 1_200.0, n, minutes);
            assert!((m / mean - 1.0).abs() < 0.01, "mean {m} of {mean}");
            assert!((s / (mean * (0.36f64.exp() - 1.0).sqrt()) - 1.0).abs() < 0.04, "sd {s}");
        }
    }

    #[test]
    fn a_boolean_is_counted_and_silence_has_no_pane() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        assert_eq!(minute(&Shape::Share, None, 0.5, 0, &mut rng), None);
        let all = minute(&Shape::Share, None, 1.0, 9, &mut rng);
        assert_eq!(all, Some(PaneData::Counts { n: 9, trues: 9 }));
    }
}

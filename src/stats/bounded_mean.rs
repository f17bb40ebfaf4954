//! The mean of scores in [0, 1]: evidence and confidence sequences from count, sum and sum of squares alone.
//!
//! Howard et al. 2021 (sub-exponential mixtures); Waudby-Smith & Ramdas, "Estimating means of bounded random variables by
//! betting", JRSS-B 2023 (grid form). Non-asymptotic: E has expectation at most 1 whatever the distribution of the scores.

use super::mixture::GammaExponential;
use super::special::{ln_mean_exp, turning_point};

/// The bets of the grid form, as shares of the largest bet that cannot go broke.
pub const GRID: [f64; 7] = [0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.7];

/// The side of a threshold that a null hypothesis claims.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Null {
    /// H0: the mean is at least the threshold.
    AtLeast,
    /// H0: the mean is at most the threshold.
    AtMost,
}

/// Count, sum and sum of squares of scores in [0, 1].
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Moments {
    pub n: f64,
    pub sum: f64,
    pub squares: f64,
}

impl Moments {
    /// The sum that speaks against the null, its intrinsic time, and its scale c.
    fn against(&self, m: f64, null: Null) -> (f64, f64, f64) {
        let v = (self.n * m * m - 2.0 * m * self.sum + self.squares).max(0.0);
        match null {
            Null::AtLeast => (self.n * m - self.sum, v, 1.0 - m),
            Null::AtMost => (self.sum - self.n * m, v, m),
        }
    }

    /// ln of the minute factor of one bet `u` in (0, 1): u·s/c − ψ(u)·v/c². A lower bound of [`Self`]'s exact betting
    /// factor. 0 < `m` < 1.
    pub fn ln_factor(&self, m: f64, null: Null, u: f64) -> f64 {
        let (s, v, c) = self.against(m, null);
        u * s / c - psi(u) * v / (c * c)
    }

    /// ln E of the grid form with equal weights.
    pub fn ln_e_grid(&self, m: f64, null: Null, grid: &[f64]) -> f64 {
        ln_mean_exp(grid.iter().map(|u| self.ln_factor(m, null, *u)))
    }

    /// ln E of the closed form, the gamma-exponential mixture tuned for `v_opt` at level `alpha`. 0 < `m` < 1.
    pub fn ln_e(&self, m: f64, null: Null, v_opt: f64, alpha: f64) -> f64 {
        let (s, v, c) = self.against(m, null);
        GammaExponential::new(v_opt, c, alpha).ln_e(s, v)
    }

    /// A 1 − `alpha` confidence sequence for the mean as (lower, upper), `alpha`/2 on each side; valid at all times at once.
    /// (0, 1) without samples. Means within .001 of 0 or 1 are not told from these.
    pub fn confidence_sequence(&self, alpha: f64, v_opt: f64) -> (f64, f64) {
        if self.n <= 0.0 {
            return (0.0, 1.0);
        }
        let each = alpha / 2.0;
        let mean = self.sum / self.n;
        let excluded = |m: f64, null: Null| self.ln_e(m, null, v_opt, each) >= -each.ln();
        let (floor, ceiling) = (EDGE.min(mean), (1.0 - EDGE).max(mean));
        let lower = if floor < mean && excluded(floor, Null::AtMost) {
            turning_point(floor, mean, |m| excluded(m, Null::AtMost))
        } else {
            0.0
        };
        let upper = if ceiling > mean && excluded(ceiling, Null::AtLeast) {
            turning_point(mean, ceiling, |m| !excluded(m, Null::AtLeast))
        } else {
            1.0
        };
        (lower, upper)
    }
}

/// Closest to 0 or 1 that a confidence sequence looks: the scale c becomes 0 there.
const EDGE: f64 = 1e-3;

/// ψ(u) = −ln(1 − u) − u.
pub fn psi(u: f64) -> f64 {
    -(-u).ln_1p() - u
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    fn moments(scores: &[f64]) -> Moments {
        Moments {
            n: scores.len() as f64,
            sum: scores.iter().sum(),
            squares: scores.iter().map(|x| x * x).sum(),
        }
    }

    /// Looked at after every score and stopped where it is largest, E exceeds 20 in at most one run in twenty (Ville).
    #[test]
    fn under_the_null_large_evidence_is_as_rare_as_it_should_be() {
        let mut random = ChaCha8Rng::seed_from_u64(20_261_124);
        let (runs, mut large) = (1_000, 0);
        for _ in 0..runs {
            let mut seen = Moments::default();
            let mut most = f64::NEG_INFINITY;
            for _ in 0..100 {
                // Mean .9, two thirds of it at 1.
                let score =
                    if random.random_bool(2.0 / 3.0) { 1.0 } else { 0.4 + 0.6 * random.random::<f64>() };
                seen.n += 1.0;
                seen.sum += score;
                seen.squares += score * score;
                most = most.max(seen.ln_e(0.9, Null::AtLeast, 2.0, 0.05));
            }
            large += i32::from(most >= 20.0f64.ln());
        }
        assert!(large <= runs / 20, "{large} of {runs}");
    }

    proptest! {
        #![proptest_config(crate::testing::cases(48))]

        #[test]
        fn evidence_grows_with_the_distance_from_the_null(
            scores in prop::collection::vec(0.0f64..1.0, 1..200),
            m in 0.05f64..0.9,
            step in 0.01f64..0.05,
        ) {
            let moments = moments(&scores);
            let (near, far) = (moments.ln_e(m, Null::AtLeast, 5.0, 0.05), moments.ln_e(m + step, Null::AtLeast, 5.0, 0.05));
            prop_assert!(far >= near - 1e-6 || m < moments.sum / moments.n, "{} {}", near, far);
            let (low, high) = moments.confidence_sequence(0.05, 5.0);
            let mean = moments.sum / moments.n;
            prop_assert!(low <= mean && mean <= high);
            let (wider_low, wider_high) = moments.confidence_sequence(0.01, 5.0);
            prop_assert!(wider_low <= low + 1e-9 && wider_high >= high - 1e-9);
        }

        #[test]
        fn both_sides_are_mirror_images(scores in prop::collection::vec(0.0f64..1.0, 1..100), m in 0.05f64..0.95) {
            let mirrored: Vec<f64> = scores.iter().map(|x| 1.0 - x).collect();
            let (one, other) = (moments(&scores), moments(&mirrored));
            for u in GRID {
                let difference = one.ln_factor(m, Null::AtLeast, u) - other.ln_factor(1.0 - m, Null::AtMost, u);
                prop_assert!(difference.abs() < 1e-8);
            }
        }
    }
}

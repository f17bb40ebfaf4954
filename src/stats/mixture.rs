//! Mixtures of test supermartingales and the boundaries that follow from them.
//!
//! Howard, Ramdas, McAuliffe, Sekhon, "Time-uniform, nonparametric, nonasymptotic confidence sequences", Annals of
//! Statistics 2021, Propositions 5–9. Each mixture gives `ln_e`, the logarithm of an e-value for its null; it may be looked
//! at after every sample.

use statrs::distribution::{ContinuousCDF, Normal};
use statrs::function::gamma::ln_gamma;

use super::special::{ln_beta, ln_beta_upper, ln_gamma_lower, turning_point};

/// Whether evidence counts on one side of the null or on both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sides {
    One,
    Two,
}

/// The tuning parameter ρ that makes a boundary tightest near the intrinsic time `v_opt` at level `alpha`.
pub fn best_rho(v_opt: f64, alpha: f64, sides: Sides) -> f64 {
    let twice = match sides {
        Sides::One => -2.0 * (2.0 * alpha).ln(),
        Sides::Two => -2.0 * alpha.ln(),
    };
    v_opt / (twice + twice.ln_1p())
}

/// The gamma-exponential mixture: sums whose increments are bounded by `c` from below.
#[derive(Clone, Copy, Debug)]
pub struct GammaExponential {
    rho: f64,
    c: f64,
    /// k ln k − lnΓ(k) − ln P(k, k) with k = ρ/c².
    leading: f64,
}

impl GammaExponential {
    /// Tuned for intrinsic time `v_opt` > 0 at level 0 < `alpha` < ½; `c` > 0 is the scale of the sums.
    pub fn new(v_opt: f64, c: f64, alpha: f64) -> Self {
        let rho = best_rho(v_opt, alpha, Sides::One);
        let k = rho / (c * c);
        Self { rho, c, leading: k * k.ln() - ln_gamma(k) - ln_gamma_lower(k, k) }
    }

    /// ln E of a sum `s` with intrinsic time `v` ≥ 0.
    pub fn ln_e(&self, s: f64, v: f64) -> f64 {
        let scale = self.c * self.c;
        let drift = (self.c * s + v) / scale;
        let a = (v + self.rho) / scale;
        let z = drift + self.rho / scale;
        if z <= 0.0 {
            return f64::NEG_INFINITY;
        }
        self.leading + ln_gamma(a) + ln_gamma_lower(a, z) - a * z.ln() + drift
    }

    /// The sum that is reached with probability at most `alpha` at any intrinsic time.
    pub fn bound(&self, v: f64, alpha: f64) -> f64 {
        crossing(v, f64::INFINITY, alpha, |s| self.ln_e(s, v))
    }
}

/// The normal mixture: the kernel of asymptotic confidence sequences.
#[derive(Clone, Copy, Debug)]
pub struct NormalMixture {
    rho: f64,
    sides: Sides,
}

impl NormalMixture {
    /// Tuned for variance `v_opt` > 0 at level `alpha`.
    pub fn new(v_opt: f64, alpha: f64, sides: Sides) -> Self {
        Self { rho: best_rho(v_opt, alpha, sides), sides }
    }

    /// ln E of a sum `s` with variance `v` ≥ 0.
    pub fn ln_e(&self, s: f64, v: f64) -> f64 {
        let wide = v + self.rho;
        let both = 0.5 * (self.rho / wide).ln() + s * s / (2.0 * wide);
        match self.sides {
            Sides::Two => both,
            Sides::One => both + 2.0f64.ln() + Normal::standard().cdf(s / wide.sqrt()).ln(),
        }
    }

    /// The sum that is reached with probability at most `alpha` at any variance.
    pub fn bound(&self, v: f64, alpha: f64) -> f64 {
        crossing(v, f64::INFINITY, alpha, |s| self.ln_e(s, v))
    }
}

/// The beta-binomial mixture for H0: p ≤ p0 (one side) or p = p0 (two): a beta prior, cut off below p0 when one-sided.
#[derive(Clone, Copy, Debug)]
pub struct BetaBinomial {
    p0: f64,
    a: f64,
    b: f64,
    sides: Sides,
    /// ln of the prior's mass: ln B(a, b), with the part above p0 only when one-sided.
    prior: f64,
}

impl BetaBinomial {
    /// With the prior Beta(a, b), a, b > 0, around 0 < `p0` < 1.
    pub fn with_prior(p0: f64, a: f64, b: f64, sides: Sides) -> Self {
        let mut mixture = Self { p0, a, b, sides, prior: 0.0 };
        mixture.prior = mixture.ln_mass(a, b);
        mixture
    }

    /// With the prior that is tightest near `t_opt` samples at level `alpha`: a = r/(1−p0), b = r/p0.
    pub fn tuned(p0: f64, t_opt: f64, alpha: f64, sides: Sides) -> Self {
        let variance = p0 * (1.0 - p0);
        let r = (best_rho(t_opt * variance, alpha, sides) - variance).max(1e-3 * variance);
        Self::with_prior(p0, r / (1.0 - p0), r / p0, sides)
    }

    /// ln E of `positives` among `n` samples, 0 ≤ positives ≤ n; scores in [0, 1] may be summed up as well.
    pub fn ln_e(&self, positives: f64, n: f64) -> f64 {
        let negatives = n - positives;
        self.ln_mass(self.a + positives, self.b + negatives)
            - self.prior
            - positives * self.p0.ln()
            - negatives * (-self.p0).ln_1p()
    }

    /// How far above n·p0 the positives get with probability at most `alpha` at any n; at most n·(1 − p0).
    pub fn bound(&self, n: f64, alpha: f64) -> f64 {
        let expected = n * self.p0;
        crossing(n, n - expected, alpha, |s| self.ln_e(expected + s, n))
    }

    fn ln_mass(&self, a: f64, b: f64) -> f64 {
        let whole = ln_beta(a, b);
        match self.sides {
            Sides::Two => whole,
            Sides::One => whole + ln_beta_upper(a, b, self.p0),
        }
    }
}

/// A confidence sequence, as (lower, upper), for a probability, or the mean of scores in [0, 1]: every p whose two-sided
/// mixture stays below 1/`alpha`. `n` > 0; tuned for `t_opt` samples at `alpha_opt`.
pub fn probability_interval(positives: f64, n: f64, alpha: f64, t_opt: f64, alpha_opt: f64) -> (f64, f64) {
    let mean = positives / n;
    let limit = -alpha.ln();
    let excluded = |p: f64| BetaBinomial::tuned(p, t_opt, alpha_opt, Sides::Two).ln_e(positives, n) >= limit;
    let lower = if mean > 0.0 { turning_point(0.0, mean, excluded) } else { 0.0 };
    let upper = if mean < 1.0 { turning_point(mean, 1.0, |p| !excluded(p)) } else { 1.0 };
    (lower, upper)
}

/// The least s > 0 with ln E(s) ≥ ln(1/alpha), at most `most`; looked for upward from max(v, 1).
fn crossing(v: f64, most: f64, alpha: f64, ln_e: impl Fn(f64) -> f64) -> f64 {
    let threshold = -alpha.ln();
    let mut high = v.max(1.0).min(most);
    while high < most && ln_e(high) < threshold {
        high = (2.0 * high).min(most);
    }
    if ln_e(high) < threshold {
        return high;
    }
    turning_point(0.0, high, |s| ln_e(s) < threshold)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Exactly, over all outcomes: the expectation is at most 1 at the null's edge and below it.
    #[test]
    fn beta_binomial_evidence_is_worth_at_most_one_under_the_null() {
        let n = 60;
        for (p0, p) in [(0.2, 0.2), (0.2, 0.1), (0.05, 0.05), (0.9, 0.9), (0.9, 0.7)] {
            let test = BetaBinomial::tuned(p0, 50.0, 0.05, Sides::One);
            let mut expected = 0.0;
            let mut ln_choose = 0.0;
            for k in 0..=n {
                let (k, n) = (f64::from(k), f64::from(n));
                let ln_chance = ln_choose + k * f64::ln(p) + (n - k) * f64::ln(1.0 - p);
                expected += (ln_chance + test.ln_e(k, n)).exp();
                ln_choose += ((n - k) / (k + 1.0)).ln();
            }
            assert!(expected <= 1.0 + 1e-9, "{expected} at p0 = {p0}, p = {p}");
            assert!(p < p0 || expected > 1.0 - 1e-9, "at the edge it is 1: {expected}");
        }
    }

    #[test]
    fn boundaries_are_where_the_evidence_is_one_over_alpha() {
        let gamma = GammaExponential::new(25.0, 0.3, 0.05);
        let normal = NormalMixture::new(100.0, 0.05, Sides::One);
        let beta = BetaBinomial::tuned(0.1, 500.0, 0.05, Sides::One);
        for v in [1.0, 40.0, 900.0] {
            assert!((gamma.ln_e(gamma.bound(v, 0.01), v) - 100.0f64.ln()).abs() < 1e-9);
            assert!((normal.ln_e(normal.bound(v, 0.01), v) - 100.0f64.ln()).abs() < 1e-9);
            let n = 10.0 + v;
            assert!((beta.ln_e(0.1 * n + beta.bound(n, 0.01), n) - 100.0f64.ln()).abs() < 1e-9);
        }
    }
}

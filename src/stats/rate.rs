//! Rates of two arms: evidence that one is more than a multiple of the other.
//!
//! Events-only forms (which arm each positive came from, so that the common level cancels): Lindon & Malek, "Anytime-valid
//! inference for multinomial count data", NeurIPS 2022. Batches with reverse information projection: Turner, Ly & Grünwald,
//! "Generic E-variables for exact sequential k-sample tests", 2022. One arm against a number is
//! [`super::mixture::BetaBinomial`].

use super::mixture::{BetaBinomial, Sides};

/// The ratios, as multiples of the allowed one, that minute factors bet on.
pub const RATIOS: [f64; 5] = [1.25, 1.5, 2.0, 3.0, 5.0];

/// The probability that a positive comes from the treatment, whose share of the samples is `split`, when its rate is
/// `ratio` times the control's: π(κ) = κρ/(κρ + 1 − ρ).
pub fn arm_share(ratio: f64, split: f64) -> f64 {
    ratio * split / (ratio * split + 1.0 - split)
}

/// The factors (a, b) by which one positive of the treatment and one of the control move the evidence against
/// H0: rate_T ≤ `allowed`·rate_C, when betting on `ratio` > `allowed`: a = π(κ)/π(r), b = (1 − π(κ))/(1 − π(r)).
///
/// With the measured split of a minute, E(L) ≤ exp(n_T·p_T(a − 1) + n_C·p_C(b − 1)) ≤ 1 for p_T ≤ r·p_C; scores in [0, 1]
/// may stand for positives, since aˣ ≤ 1 + x(a − 1).
pub fn arm_factors(allowed: f64, ratio: f64, split: f64) -> (f64, f64) {
    let (null, bet) = (arm_share(allowed, split), arm_share(ratio, split));
    (bet / null, (1.0 - bet) / (1.0 - null))
}

/// ln E against H0: rate_T ≤ `allowed`·rate_C with a known split, by the beta prior (a, b) cut off below π(allowed).
pub fn ln_e_known_split(treatment: f64, control: f64, allowed: f64, split: f64, prior: (f64, f64)) -> f64 {
    let null = arm_share(allowed, split);
    BetaBinomial::with_prior(null, prior.0, prior.1, Sides::One).ln_e(treatment, treatment + control)
}

/// Samples and positives of one batch of both arms.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Batch {
    pub n_control: f64,
    pub s_control: f64,
    pub n_treatment: f64,
    pub s_treatment: f64,
}

impl Batch {
    /// ln E of one batch against H0: p_T ≤ `allowed`·p_C for an unknown split; (`q_control`, `q_treatment`) is what earlier
    /// batches let expect. 0 when the expectation is no worse than the null allows.
    pub fn ln_e(&self, q_control: f64, q_treatment: f64, allowed: f64) -> f64 {
        if q_treatment <= allowed * q_control {
            return 0.0;
        }
        let p = self.null_rate(q_control, q_treatment, allowed);
        bernoulli(self.n_control, self.s_control, q_control, p)
            + bernoulli(self.n_treatment, self.s_treatment, q_treatment, allowed * p)
    }

    /// The control's rate at the point of the null closest to the expectation: the smaller root of
    /// r(n_C+n_T)p² − [n_C(1+r·q_C)+n_T(q_T+r)]p + n_C·q_C + n_T·q_T = 0.
    pub fn null_rate(&self, q_control: f64, q_treatment: f64, r: f64) -> f64 {
        let (n, m) = (self.n_control, self.n_treatment);
        let square = r * (n + m);
        let linear = n * (1.0 + r * q_control) + m * (q_treatment + r);
        let constant = n * q_control + m * q_treatment;
        // The root without cancellation: 2c/(b + √(b² − 4ac)).
        2.0 * constant / (linear + (linear * linear - 4.0 * square * constant).max(0.0).sqrt())
    }

    /// The two-sided form, H0: p_T = p_C.
    pub fn ln_e_equal(&self, q_control: f64, q_treatment: f64) -> f64 {
        let p = self.null_rate(q_control, q_treatment, 1.0);
        bernoulli(self.n_control, self.s_control, q_control, p)
            + bernoulli(self.n_treatment, self.s_treatment, q_treatment, p)
    }
}

/// ln E after each batch against H0: p_T = p_C, the expectation learnt from earlier batches with `gamma` imagined samples of
/// either kind.
pub fn ln_e_batches(batches: &[Batch], gamma: f64) -> Vec<f64> {
    let mut seen = Batch::default();
    let mut ln_e = 0.0;
    let expect = |s: f64, n: f64| (s + gamma) / (n + 2.0 * gamma);
    batches
        .iter()
        .map(|batch| {
            let q = (expect(seen.s_control, seen.n_control), expect(seen.s_treatment, seen.n_treatment));
            if batch.n_control + batch.n_treatment > 0.0 {
                ln_e += batch.ln_e_equal(q.0, q.1);
            }
            seen.n_control += batch.n_control;
            seen.s_control += batch.s_control;
            seen.n_treatment += batch.n_treatment;
            seen.s_treatment += batch.s_treatment;
            ln_e
        })
        .collect()
}

/// ln of the likelihood ratio of `s` positives among `n` under `q` and under `p`.
pub fn bernoulli(n: f64, s: f64, q: f64, p: f64) -> f64 {
    let term = |count: f64, q: f64, p: f64| if count > 0.0 { count * (q / p).ln() } else { 0.0 };
    term(s, q, p) + term(n - s, 1.0 - q, 1.0 - p)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_the_allowed_ratio_a_positive_is_worth_nothing_on_average() {
        for split in [0.05, 0.5, 0.9] {
            for ratio in RATIOS {
                let (a, b) = arm_factors(3.0, 3.0 * ratio, split);
                let null = arm_share(3.0, split);
                assert!((null * a + (1.0 - null) * b - 1.0).abs() < 1e-12);
                assert!(a > 1.0 && b < 1.0);
            }
        }
    }

    /// With a minute's measured split, over all outcomes: at most 1 for every level as long as the ratio is allowed.
    #[test]
    fn arm_factors_are_worth_at_most_one_at_any_level() {
        let (n_treatment, n_control) = (15.0, 85.0);
        for level in [0.01f64, 0.1, 0.3] {
            for ratio in RATIOS {
                let (a, b) = arm_factors(3.0, 3.0 * ratio, 0.15);
                let of_treatment = (1.0 + 3.0 * level * (a - 1.0)).powf(n_treatment);
                let of_control = (1.0 + level * (b - 1.0)).powf(n_control);
                assert!(of_treatment * of_control <= 1.0 + 1e-12, "{}", of_treatment * of_control);
            }
        }
    }

    /// The expectation over all outcomes of a batch, exactly, is at most 1 anywhere in the null.
    #[test]
    fn a_batch_is_an_e_value_on_the_whole_null() {
        let choose = |n: i32, k: i32| (1..=k).fold(1.0, |c, i| c * f64::from(n - k + i) / f64::from(i));
        let chance = |n: i32, k: i32, p: f64| choose(n, k) * p.powi(k) * (1.0 - p).powi(n - k);
        for control in [0.02, 0.1, 0.3] {
            for below in [0.5, 1.0] {
                let treatment = 2.0 * control * below;
                let mut expected = 0.0;
                for s_control in 0..=12 {
                    for s_treatment in 0..=8 {
                        let batch = Batch {
                            n_control: 12.0,
                            s_control: f64::from(s_control),
                            n_treatment: 8.0,
                            s_treatment: f64::from(s_treatment),
                        };
                        let chances = chance(12, s_control, control) * chance(8, s_treatment, treatment);
                        expected += chances * batch.ln_e(0.1, 0.45, 2.0).exp();
                    }
                }
                assert!(expected <= 1.0 + 1e-9, "{expected} at {control} × {below}");
            }
        }
    }
}

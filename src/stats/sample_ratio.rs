//! Sample-ratio mismatch: whether units are split between arms as they should be, looked at after every unit.
//!
//! Lindon & Malek, "Anytime-valid inference for multinomial count data", NeurIPS 2022: the Bayes factor of a Dirichlet prior
//! around the intended shares. Count randomisation units, not requests.

use statrs::function::gamma::ln_gamma;

use super::special::turning_point;

/// The test of counts against intended shares; the latter sum up to 1, each above 0.
#[derive(Clone, Debug)]
pub struct SampleRatio {
    shares: Vec<f64>,
    concentration: f64,
}

impl SampleRatio {
    /// `concentration` k > 0 says how close to the intended shares a mismatch is expected.
    pub fn new(shares: Vec<f64>, concentration: f64) -> Self {
        Self { shares, concentration }
    }

    /// ln BF = lnΓ(k) − lnΓ(k + n) + Σ[lnΓ(kθ_i + n_i) − lnΓ(kθ_i)] − Σ n_i ln θ_i, an e-value for the intended shares.
    /// One count per share.
    pub fn ln_bayes_factor(&self, counts: &[f64]) -> f64 {
        let at_null: f64 = counts.iter().zip(&self.shares).map(|(n, share)| n * share.ln()).sum();
        self.ln_evidence(counts) - at_null
    }

    /// The p-value after each row of totals: the running minimum of 1/BF.
    pub fn p_values(&self, totals: &[Vec<f64>]) -> Vec<f64> {
        let mut least = 1.0f64;
        totals
            .iter()
            .map(|counts| {
                least = least.min((-self.ln_bayes_factor(counts)).exp());
                least
            })
            .collect()
    }

    /// A 1 − `alpha` confidence sequence for one arm's share: (lower, upper), holding for all arms at once.
    ///
    /// All shares at which the Bayes factor stays below 1/alpha; for a given share of this arm the others are most plausible
    /// in proportion to their counts.
    pub fn interval(&self, counts: &[f64], arm: usize, alpha: f64) -> (f64, f64) {
        let n: f64 = counts.iter().sum();
        let (own, rest) = (counts[arm], n - counts[arm]);
        let spread: f64 = counts
            .iter()
            .enumerate()
            .filter(|(i, count)| *i != arm && **count > 0.0)
            .map(|(_, count)| count * (count / rest).ln())
            .sum();
        let threshold = self.ln_evidence(counts) + alpha.ln();
        let times = |count: f64, ln: f64| if count > 0.0 { count * ln } else { 0.0 };
        let inside = |x: f64| times(own, x.ln()) + times(rest, (-x).ln_1p()) + spread >= threshold;
        let best = if n > 0.0 { own / n } else { self.shares[arm] };
        (turning_point(0.0, best, |x| !inside(x)), turning_point(best, 1.0, inside))
    }

    fn ln_evidence(&self, counts: &[f64]) -> f64 {
        let n: f64 = counts.iter().sum();
        let arms: f64 = counts
            .iter()
            .zip(&self.shares)
            .map(|(count, share)| {
                let prior = self.concentration * share;
                ln_gamma(prior + count) - ln_gamma(prior)
            })
            .sum();
        ln_gamma(self.concentration) - ln_gamma(self.concentration + n) + arms
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_holds_the_share_until_there_is_a_mismatch() {
        let test = SampleRatio::new(vec![0.5, 0.5], 1_000.0);
        let (low, high) = test.interval(&[5_020.0, 4_980.0], 0, 0.05);
        assert!(low < 0.5 && 0.5 < high);
        assert!(test.ln_bayes_factor(&[5_020.0, 4_980.0]) < 0.0);
        let (low, _) = test.interval(&[5_400.0, 4_600.0], 0, 0.05);
        assert!(low > 0.5);
        assert!(test.ln_bayes_factor(&[5_400.0, 4_600.0]) > 20.0f64.ln());
    }
}

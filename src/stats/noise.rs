//! When is a difference of two noisy numbers more than noise?

use statrs::function::beta::checked_beta_reg;

/// P[X ≥ k] for X ~ Bin(n, p), by the regularised incomplete beta function: I_p(k, n − k + 1).
///
/// `None` if the arguments make no distribution.
pub fn binomial_at_least(k: f64, n: f64, p: f64) -> Option<f64> {
    if !(0.0..=1.0).contains(&p) || k > n + 0.5 {
        return None;
    }
    if k <= 0.0 {
        return Some(1.0);
    }
    if p == 0.0 || p == 1.0 {
        return Some(p);
    }
    checked_beta_reg(k, n - k + 1.0, p).ok()
}

/// Whether the sum of per-minute deficits is at least two standard errors: Σd ≥ 2·√max(½Σ(d_t − d_{t−1})², n·v).
///
/// The first term estimates the noise from successive differences (von Neumann 1941), which a slow drift does not inflate;
/// the second, `n·v`, is the noise of independent samples.
pub fn beyond_two_sigma(deficits: &[f64], sampling_variance: f64) -> bool {
    let sum: f64 = deficits.iter().sum();
    let successive: f64 = deficits.windows(2).map(|pair| (pair[1] - pair[0]).powi(2)).sum::<f64>() / 2.0;
    sum >= 2.0 * successive.max(sampling_variance).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn binomial_tail_is_the_sum_of_its_terms() {
        // Bin(10, 0.3): P[X ≥ 5] = 0.15026833 (exact sum of terms).
        let tail = binomial_at_least(5.0, 10.0, 0.3).unwrap();
        assert!((tail - 0.150_268_33).abs() < 1e-7, "{tail}");
        assert_eq!(binomial_at_least(0.0, 10.0, 0.3), Some(1.0));
        assert_eq!(binomial_at_least(11.0, 10.0, 0.3), None);
        assert!((binomial_at_least(10.0, 10.0, 0.5).unwrap() - 0.5f64.powi(10)).abs() < 1e-12);
    }

    #[test]
    fn a_steady_deficit_is_beyond_noise_and_an_alternating_one_is_not() {
        assert!(beyond_two_sigma(&[5.0; 30], 20.0));
        let alternating: Vec<f64> = (0..30).map(|i| if i % 2 == 0 { 40.0 } else { -38.0 }).collect();
        assert!(!beyond_two_sigma(&alternating, 20.0));
    }
}

//! Quantiles: anytime-valid intervals, bands of the whole distribution, and comparisons of two samples.
//!
//! Howard & Ramdas, "Sequential estimation of quantiles with applications to A/B testing and best-arm identification",
//! Bernoulli 2022.

use super::mixture::{BetaBinomial, Sides};
use super::special::{minimiser, turning_point};

/// Half the width of the band around the empirical distribution function that holds for all values and all `t` ≥ `t_min`
/// samples at once with probability 1 − `alpha`; `leading` is the constant A > 1/√2 (usually .85). Infinite below `t_min`.
/// Theorem 2.
pub fn band(t: f64, t_min: f64, leading: f64, alpha: f64) -> f64 {
    if t < t_min {
        return f64::INFINITY;
    }
    let constant = turning_point(1.0, 1_000.0, |c| band_error(c, leading) > alpha);
    leading * (((t / t_min).ln().ln_1p() + constant) / t).sqrt()
}

/// The probability that the band with constant `c` is ever left: the least over η of
/// 4·e^(−γ²C)·(1 + 1/((γ² − 1) ln η)), γ² = (2/η)(A − √(2(η − 1)/C))².
fn band_error(c: f64, leading: f64) -> f64 {
    let excess = |eta: f64| 2.0 / eta * (leading - (2.0 * (eta - 1.0) / c).sqrt()).powi(2) - 1.0;
    let widest = turning_point(1.0, 2.0 * leading * leading, |eta| {
        (eta / 2.0).sqrt() + (2.0 * (eta - 1.0) / c).sqrt() < leading
    });
    let error = |eta: f64| {
        let over = excess(eta);
        if over <= 0.0 {
            return f64::INFINITY;
        }
        4.0 * (-(over + 1.0) * c).exp() * (1.0 + 1.0 / (over * eta.ln()))
    };
    error(minimiser(1.0, widest, error))
}

/// By how much to lower and to raise a quantile's rank `p`, as shares of `t` samples, so that the true quantile lies between
/// the two sample quantiles at all times with probability 1 − `alpha`: (down, up). Tuned for `t_opt` samples.
pub fn rank_offsets(p: f64, t: f64, alpha: f64, t_opt: f64) -> (f64, f64) {
    let each = alpha / 2.0;
    let offset = |p0: f64| BetaBinomial::tuned(p0, t_opt, each, Sides::One).bound(t, each) / t;
    (offset(1.0 - p), offset(p))
}

/// ζ(1.4), which `stitched_offset` needs.
const ZETA: f64 = 3.105_547_277_977_581;

/// By how much to raise the rank `p` so that the interval holds for all quantiles and all `t` at once, as a share of `t`:
/// double stitching (Theorem 3) with δ = ½, s = 1.4, η = 2. For the lower side ask for 1 − p.
pub fn stitched_offset(p: f64, t: f64, alpha: f64, t_opt: f64) -> f64 {
    const DELTA: f64 = 0.5;
    const S: f64 = 1.4;
    const ETA: f64 = 2.0;
    let time = t.max(t_opt);
    let logit = (p / (1.0 - p)).ln();
    let r = if p >= 0.5 {
        p
    } else {
        (1.0 / (1.0 + (-logit - 2.0 * DELTA * (t_opt * ETA / time).sqrt()).exp())).min(0.5)
    };
    let variance = r * (1.0 - r);
    let cells = (time / t_opt).sqrt() * logit.abs() / (2.0 * DELTA) + 1.0;
    let ell = S * (ETA * time / t_opt).ln().ln()
        + S * cells.ln()
        + (2.0 * ZETA * (2.0 * ZETA + 1.0) / (alpha * ETA.ln().powf(S))).ln();
    let k1 = (ETA.powf(0.25) + ETA.powf(-0.25)) / 2.0f64.sqrt();
    let k2 = f64::midpoint(ETA.sqrt(), 1.0);
    let skew = k2 * (1.0 - 2.0 * p) / 3.0 * ell;
    let width = DELTA * (ETA * time * variance / t_opt).sqrt()
        + (k1 * k1 * variance * time * ell + skew * skew).sqrt()
        + skew;
    width / t
}

/// An anytime-valid two-sided p-value for "both samples have the same p-quantile". Both ascending and not empty; tuned for
/// `t_opt` samples at `alpha_opt`. Theorem 5.
pub fn equality_p_value(a: &[f64], b: &[f64], p: f64, t_opt: f64, alpha_opt: f64) -> f64 {
    let mixture = BetaBinomial::tuned(p, t_opt, alpha_opt, Sides::Two);
    let arms = [Arm::new(a, &mixture), Arm::new(b, &mixture)];
    let least = a
        .iter()
        .chain(b)
        .map(|x| arms.iter().map(|arm| arm.ln_e(*x)).sum::<f64>())
        .fold(f64::INFINITY, f64::min);
    (-least).exp().min(1.0)
}

/// One ascending sample and the share of it at which the mixture is least.
struct Arm<'a> {
    sample: &'a [f64],
    mixture: &'a BetaBinomial,
    least: f64,
}

impl<'a> Arm<'a> {
    fn new(sample: &'a [f64], mixture: &'a BetaBinomial) -> Self {
        let n = sample.len() as f64;
        let least = minimiser(0.0, 1.0, |share| mixture.ln_e(share * n, n));
        Self { sample, mixture, least }
    }

    /// ln E against "x is the quantile": the least over the shares that may lie at or below x.
    fn ln_e(&self, x: f64) -> f64 {
        let n = self.sample.len() as f64;
        let up_to = self.sample.partition_point(|v| *v <= x) as f64 / n;
        let below = self.sample.partition_point(|v| *v < x) as f64 / n;
        self.mixture.ln_e(self.least.clamp(below, up_to) * n, n)
    }
}

/// ln E against H0: the treatment's p-quantile is at most the control's, from counts on shared ascending buckets, and the
/// bucket at which the evidence is least. The priors are Beta(K·p0, K·(1 − p0)) with K = `concentration`.
///
/// For the bucket j that holds a point between both quantiles, at most 1 − p of the treatment lies above its upper edge and at
/// most p of the control below its lower one; j is not known, so the least over all j is taken. `None` without buckets.
pub fn ln_e_not_above(
    control: &[f64],
    treatment: &[f64],
    p: f64,
    concentration: f64,
) -> Option<(usize, f64)> {
    let prior =
        |p0: f64| BetaBinomial::with_prior(p0, concentration * p0, concentration * (1.0 - p0), Sides::One);
    let (above, below) = (prior(1.0 - p), prior(p));
    let (n_control, n_treatment) = (control.iter().sum::<f64>(), treatment.iter().sum::<f64>());
    let (mut under, mut upto) = (0.0, 0.0);
    control
        .iter()
        .zip(treatment)
        .enumerate()
        .map(|(j, (c, t))| {
            upto += t;
            let ln_e = above.ln_e(n_treatment - upto, n_treatment) + below.ln_e(under, n_control);
            under += c;
            (j, ln_e)
        })
        .min_by(|a, b| a.1.total_cmp(&b.1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_narrow_with_samples_and_with_less_confidence() {
        for p in [0.5, 0.95] {
            let (down, up) = rank_offsets(p, 500.0, 0.05, 500.0);
            let (later_down, later_up) = rank_offsets(p, 5_000.0, 0.05, 500.0);
            assert!(later_down < down && later_up < up);
            assert!(stitched_offset(p, 5_000.0, 0.05, 500.0) < stitched_offset(p, 5_000.0, 0.01, 500.0));
        }
        assert_eq!(band(10.0, 32.0, 0.85, 0.05), f64::INFINITY);
        assert!(band(1e4, 32.0, 0.85, 0.05) < band(1e3, 32.0, 0.85, 0.05));
    }

    #[test]
    fn only_a_treatment_that_is_above_makes_evidence() {
        let low = [500.0, 400.0, 80.0, 20.0, 0.0];
        let high = [50.0, 100.0, 250.0, 400.0, 200.0];
        let above = ln_e_not_above(&low, &high, 0.9, 100.0).unwrap().1;
        let below = ln_e_not_above(&high, &low, 0.9, 100.0).unwrap().1;
        assert!(above > 3.0 && below < 0.0, "{above} {below}");
        assert_eq!(ln_e_not_above(&[], &[], 0.9, 100.0), None);
    }
}

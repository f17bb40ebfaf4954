//! Special functions in log space, and the few numerical tools that the rest of `stats` is written with.
//!
//! `statrs` has the functions themselves. Its incomplete beta function stops after 140 terms and, like its incomplete gamma
//! function, underflows to 0 far out in a tail; evidence lives in exactly those tails, so their logarithms are taken here
//! from the same continued fraction and series.

use statrs::function::gamma::{checked_gamma_ur, ln_gamma};

/// Terms after which a continued fraction or series is cut off. They converge within a few √(a + b) terms.
const TERMS: u32 = 100_000;
const EPSILON: f64 = 1e-16;
const TINY: f64 = 1e-300;

/// ln B(a, b) for a, b > 0.
pub fn ln_beta(a: f64, b: f64) -> f64 {
    ln_gamma(a) + ln_gamma(b) - ln_gamma(a + b)
}

/// ln I_x(a, b), the logarithm of the regularised incomplete beta function, for a, b > 0 and 0 ≤ x ≤ 1; −∞ at x = 0.
///
/// NIST DLMF 8.17.22 by the modified Lentz method.
pub fn ln_beta_lower(a: f64, b: f64, x: f64) -> f64 {
    if x <= 0.0 {
        return f64::NEG_INFINITY;
    }
    if x >= 1.0 {
        return 0.0;
    }
    let front = a * x.ln() + b * (-x).ln_1p() - ln_beta(a, b);
    if x < (a + 1.0) / (a + b + 2.0) {
        front + beta_fraction(a, b, x).ln() - a.ln()
    } else {
        let upper = (front + beta_fraction(b, a, 1.0 - x).ln() - b.ln()).exp();
        (-upper.min(1.0)).ln_1p()
    }
}

/// ln(1 − I_x(a, b)) for a, b > 0 and 0 ≤ x ≤ 1: the posterior mass above x; −∞ at x = 1.
pub fn ln_beta_upper(a: f64, b: f64, x: f64) -> f64 {
    ln_beta_lower(b, a, 1.0 - x)
}

fn beta_fraction(a: f64, b: f64, x: f64) -> f64 {
    let guard = |value: f64| if value.abs() < TINY { TINY } else { value };
    let mut c = 1.0;
    let mut d = 1.0 / guard(1.0 - (a + b) * x / (a + 1.0));
    let mut fraction = d;
    for m in 1..TERMS {
        let m = f64::from(m);
        let even = m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m));
        d = 1.0 / guard(1.0 + even * d);
        c = guard(1.0 + even / c);
        fraction *= d * c;
        let odd = -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0));
        d = 1.0 / guard(1.0 + odd * d);
        c = guard(1.0 + odd / c);
        fraction *= d * c;
        if (d * c - 1.0).abs() <= EPSILON {
            break;
        }
    }
    fraction
}

/// ln P(a, z), the logarithm of the regularised lower incomplete gamma function, for a > 0; −∞ for z ≤ 0.
///
/// Below a + 1 by its power series (NIST DLMF 8.11.4), above it from the complement.
pub fn ln_gamma_lower(a: f64, z: f64) -> f64 {
    if z <= 0.0 {
        return f64::NEG_INFINITY;
    }
    if z >= a + 1.0 {
        return checked_gamma_ur(a, z).map_or(0.0, |upper| (-upper.min(1.0)).ln_1p());
    }
    let (mut term, mut sum) = (1.0, 1.0);
    for n in 1..TERMS {
        term *= z / (a + f64::from(n));
        sum += term;
        if term <= EPSILON * sum {
            break;
        }
    }
    a * z.ln() - z - ln_gamma(a + 1.0) + f64::ln(sum)
}

/// ln Σ exp(x), whatever the size of the terms; −∞ for none.
pub fn ln_sum_exp(terms: impl Iterator<Item = f64> + Clone) -> f64 {
    let most = terms.clone().fold(f64::NEG_INFINITY, f64::max);
    if most == f64::NEG_INFINITY {
        return most;
    }
    most + terms.map(|x| (x - most).exp()).sum::<f64>().ln()
}

/// ln of the mean of exp(x) over terms of equal weight; −∞ for none.
pub fn ln_mean_exp(terms: impl ExactSizeIterator<Item = f64> + Clone) -> f64 {
    let count = terms.len() as f64;
    ln_sum_exp(terms) - count.ln()
}

/// The place between `low` and `high` where `before` turns from true to false, to the last bit.
pub fn turning_point(mut low: f64, mut high: f64, before: impl Fn(f64) -> bool) -> f64 {
    loop {
        let middle = f64::midpoint(low, high);
        if middle <= low || middle >= high {
            return middle;
        }
        if before(middle) {
            low = middle;
        } else {
            high = middle;
        }
    }
}

/// The place of the least value of a function that falls and then rises, by golden section to about 1e-10 of the range.
pub fn minimiser(mut low: f64, mut high: f64, f: impl Fn(f64) -> f64) -> f64 {
    let golden = (5.0f64.sqrt() - 1.0) / 2.0;
    for _ in 0..48 {
        let (left, right) = (high - golden * (high - low), low + golden * (high - low));
        if f(left) <= f(right) {
            high = right;
        } else {
            low = left;
        }
    }
    f64::midpoint(low, high)
}

#[cfg(test)]
mod tests {
    use statrs::function::beta::beta_reg;
    use statrs::function::gamma::gamma_lr;

    use super::*;

    #[test]
    fn tails_agree_with_the_library_where_it_reaches_and_go_on_beyond() {
        for (a, b, x) in [(2.0, 3.0, 0.4), (50.0, 900.0, 0.04), (0.5, 0.5, 0.9), (30.0, 3.0, 0.99)] {
            assert!((ln_beta_lower(a, b, x) - beta_reg(a, b, x).ln()).abs() < 1e-10);
            assert!((ln_beta_upper(a, b, x).exp() + ln_beta_lower(a, b, x).exp() - 1.0).abs() < 1e-12);
        }
        for (a, z) in [(3.0, 1.0), (400.0, 390.0), (400.0, 500.0)] {
            assert!((ln_gamma_lower(a, z) - gamma_lr(a, z).ln()).abs() < 1e-10);
        }
        // I_x(a, 1) = x^a and P(1, z) = 1 − e^−z.
        assert!((ln_beta_lower(5_000.0, 1.0, 0.5) - 5_000.0 * 0.5f64.ln()).abs() < 1e-8);
        assert!((ln_gamma_lower(1.0, 1e-9) - 1e-9f64.ln()).abs() < 1e-8);
        assert_eq!(ln_beta_upper(2.0, 3.0, 1.0), f64::NEG_INFINITY);
    }

    #[test]
    fn sums_of_tiny_and_huge_terms_stay_finite() {
        assert!((ln_sum_exp([-2_000.0, -2_000.0].into_iter()) - (2.0f64.ln() - 2_000.0)).abs() < 1e-12);
        assert_eq!(ln_mean_exp([800.0, 800.0].into_iter()), 800.0);
        assert_eq!(ln_sum_exp(std::iter::empty()), f64::NEG_INFINITY);
    }

    #[test]
    fn turning_points_and_minima_are_found() {
        assert!((turning_point(0.0, 4.0, |x| x * x < 2.0) - 2.0f64.sqrt()).abs() < 1e-15);
        assert!((minimiser(0.0, 1.0, |x| (x - 0.3).powi(2)) - 0.3).abs() < 1e-7);
    }
}

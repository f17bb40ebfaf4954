//! A/B uplift: the difference of two means, looked at as often as one likes.
//!
//! Asymptotic confidence sequences with the normal mixture: Waudby-Smith, Arbour, Sinha, Kennedy, Ramdas, "Time-uniform
//! central limit theory and asymptotic confidence sequences", Annals of Statistics 2024.

/// Count, mean and sample variance of one arm, over randomisation units.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Arm {
    pub n: f64,
    pub mean: f64,
    pub variance: f64,
}

impl Arm {
    /// From sums over `n` ≥ 2 units; the variance has n − 1 below.
    pub fn of_values(n: f64, sum: f64, squares: f64) -> Self {
        let mean = sum / n;
        Self { n, mean, variance: (squares - n * mean * mean) / (n - 1.0) }
    }

    /// From `positives` among `n` units; the variance is p(1 − p).
    pub fn of_positives(n: f64, positives: f64) -> Self {
        let mean = positives / n;
        Self { n, mean, variance: mean * (1.0 - mean) }
    }
}

/// A difference with its variance and the units behind it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Uplift {
    pub estimate: f64,
    pub variance: f64,
    pub n: f64,
}

impl Uplift {
    /// The mean of `b` minus that of `a`.
    pub fn absolute(a: Arm, b: Arm) -> Self {
        Self { estimate: b.mean - a.mean, variance: a.variance / a.n + b.variance / b.n, n: a.n + b.n }
    }

    /// The same as a share of `a`'s mean, which must not be 0; variance by the delta method.
    pub fn relative(a: Arm, b: Arm) -> Self {
        let square = a.mean * a.mean;
        Self {
            estimate: (b.mean - a.mean) / a.mean,
            variance: b.variance / (square * b.n) + a.variance * b.mean * b.mean / (square * square * a.n),
            n: a.n + b.n,
        }
    }

    /// (lower, upper) of a 1 − `alpha` confidence sequence, tightest near `n_star` units.
    pub fn interval(&self, alpha: f64, n_star: f64) -> (f64, f64) {
        let r = tuning(alpha, n_star);
        let wide = self.n + r;
        let half = (self.variance * wide / self.n * (wide / (r * alpha * alpha)).ln()).sqrt();
        (self.estimate - half, self.estimate + half)
    }

    /// A two-sided p-value for "the difference is `null`" at this look; the running minimum over looks is a p-value at every
    /// time.
    pub fn p_value(&self, null: f64, alpha: f64, n_star: f64) -> f64 {
        let r = tuning(alpha, n_star);
        let wide = self.n + r;
        let exponent = -(self.estimate - null).powi(2) * self.n / (2.0 * self.variance * wide);
        ((wide / r).sqrt() * exponent.exp()).min(1.0)
    }
}

/// r = N*/(L + ln(1 + L)) with L = −2 ln α.
fn tuning(alpha: f64, n_star: f64) -> f64 {
    let twice = -2.0 * alpha.ln();
    n_star / (twice + twice.ln_1p())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_p_value_crosses_alpha_where_the_interval_leaves_the_null() {
        let uplift = Uplift::absolute(Arm::of_positives(4_000.0, 400.0), Arm::of_positives(4_000.0, 520.0));
        let (lower, upper) = uplift.interval(0.05, 5_000.0);
        for edge in [lower, upper] {
            assert!((uplift.p_value(edge, 0.05, 5_000.0) - 0.05).abs() < 1e-9);
        }
        assert!((uplift.p_value(uplift.estimate, 0.05, 5_000.0) - 1.0).abs() < 1e-12);
    }

    #[test]
    fn relative_and_absolute_agree_on_direction() {
        let (a, b) = (Arm::of_values(500.0, 250.0, 150.0), Arm::of_values(500.0, 275.0, 170.0));
        let relative = Uplift::relative(a, b);
        assert!((relative.estimate - 0.1).abs() < 1e-12);
        assert!((relative.n - (a.n + b.n)).abs() < 1e-12);
        // b/a changes by 1/a with b, and by −b/a² with a.
        let (by_b, by_a) = (1.0 / a.mean, b.mean / (a.mean * a.mean));
        let variance = by_b * by_b * b.variance / b.n + by_a * by_a * a.variance / a.n;
        assert!((relative.variance / variance - 1.0).abs() < 1e-12, "{} {variance}", relative.variance);
        assert!(Uplift::absolute(a, b).estimate > 0.0);
    }
}

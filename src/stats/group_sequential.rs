//! Group-sequential plans: a few looks, planned ahead, with exact stopping bounds.
//!
//! Lan & DeMets 1983 (spending functions); Armitage, McPherson & Rowe 1969 (the recursion over looks). O'Brien–Fleming-like
//! and Pocock-like spending, and Kim & DeMets' power family.

use statrs::distribution::{ContinuousCDF, Normal};

use super::special::turning_point;

/// How much of α may be spent by a share of the information.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Spending {
    /// 2 − 2Φ(z_{1−α/2}/√t).
    OBrienFleming,
    /// α·ln(1 + (e − 1)t).
    Pocock,
    /// α·t^φ.
    Power(f64),
}

impl Spending {
    /// What is spent by information time 0 < `t` ≤ 1 of a one-sided `alpha`.
    pub fn spent(self, t: f64, alpha: f64) -> f64 {
        match self {
            Self::OBrienFleming => {
                let z = turning_point(0.0, 40.0, |z| upper_tail(z) > alpha / 2.0);
                2.0 * upper_tail(z / t.sqrt())
            }
            Self::Pocock => alpha * ((std::f64::consts::E - 1.0) * t).ln_1p(),
            Self::Power(phi) => alpha * t.powf(phi),
        }
    }
}

/// Steps of Simpson's rule per look; an error of about 1e-8 in the bounds.
const STEPS: usize = 800;
/// Where the score is cut off below, in standard deviations.
const LOWEST: f64 = -9.0;

/// The one-sided bounds on z at each look: `times` ascend in (0, 1]. The probability under the null to cross first at look k
/// is what is spent between look k − 1 and k.
pub fn bounds(times: &[f64], alpha: f64, spending: Spending) -> Vec<f64> {
    let mut bounds = Vec::with_capacity(times.len());
    let mut spent = 0.0;
    let mut state: Option<State> = None;
    for &t in times {
        let total = spending.spent(t, alpha);
        let increment = (total - spent).max(0.0);
        spent = total;
        let crossing = |z: f64| match &state {
            None => upper_tail(z),
            Some(state) => state.crossing(z, t),
        };
        let bound = turning_point(-8.0, 40.0, |z| crossing(z) > increment);
        bounds.push(bound);
        state = Some(State::after(state.as_ref(), bound, t));
    }
    bounds
}

/// The sub-density of the score S = z√t among those who have not stopped, on Simpson's grid.
struct State {
    t: f64,
    scores: Vec<f64>,
    /// Density times Simpson's weight.
    mass: Vec<f64>,
}

impl State {
    fn after(before: Option<&Self>, bound: f64, t: f64) -> Self {
        let root = t.sqrt();
        let (low, high) = (LOWEST * root, bound.min(-LOWEST) * root);
        let step = (high - low) / STEPS as f64;
        let scores: Vec<f64> = (0..=STEPS).map(|i| low + step * i as f64).collect();
        let density = |s: f64| match before {
            None => normal_density(s / root) / root,
            Some(before) => before.density(s, t),
        };
        let weight = |i: usize| match i {
            0 | STEPS => 1.0,
            i if i % 2 == 1 => 4.0,
            _ => 2.0,
        };
        let mass = scores.iter().enumerate().map(|(i, s)| density(*s) * weight(i) * step / 3.0).collect();
        Self { t, scores, mass }
    }

    fn density(&self, s: f64, t: f64) -> f64 {
        let root = (t - self.t).sqrt();
        self.over(|from| normal_density((s - from) / root) / root)
    }

    /// The probability to reach z at time t without having stopped before.
    fn crossing(&self, z: f64, t: f64) -> f64 {
        let root = (t - self.t).sqrt();
        self.over(|from| upper_tail((z * t.sqrt() - from) / root))
    }

    fn over(&self, f: impl Fn(f64) -> f64) -> f64 {
        self.scores.iter().zip(&self.mass).map(|(s, mass)| mass * f(*s)).sum()
    }
}

fn normal_density(z: f64) -> f64 {
    (-0.5 * z * z).exp() / std::f64::consts::TAU.sqrt()
}

fn upper_tail(z: f64) -> f64 {
    Normal::standard().sf(z)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_look_is_the_fixed_test_and_everything_is_spent_at_the_end() {
        for spending in [Spending::OBrienFleming, Spending::Pocock, Spending::Power(2.0)] {
            assert!((spending.spent(1.0, 0.025) - 0.025).abs() < 1e-12);
            assert!((bounds(&[1.0], 0.025, spending)[0] - 1.959_963_985).abs() < 1e-6);
            let spent: Vec<f64> = [0.2, 0.5, 0.9].iter().map(|t| spending.spent(*t, 0.025)).collect();
            assert!(spent.is_sorted() && spent[2] < 0.025);
        }
    }
}

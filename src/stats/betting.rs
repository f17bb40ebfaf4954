//! Betting on every score: capital processes for the mean of scores in [0, 1], and confidence sequences for scores that are
//! seen one by one.
//!
//! Waudby-Smith & Ramdas, "Estimating means of bounded random variables by betting", JRSS-B 2023; Howard et al. 2021 for the
//! conjugate mixture.

use super::bounded_mean::{Null, psi};
use super::mixture::GammaExponential;
use super::special::ln_mean_exp;

/// ln of what a bet of share `u` of the largest one makes of one score `x`: ln(1 + u(m − x)/(1 − m)) against "mean ≥ m",
/// ln(1 + u(x − m)/m) against "mean ≤ m". 0 < `u` < 1, 0 < `m` < 1.
#[inline]
pub fn ln_bet(x: f64, m: f64, null: Null, u: f64) -> f64 {
    match null {
        Null::AtLeast => (u * (m - x) / (1.0 - m)).ln_1p(),
        Null::AtMost => (u * (x - m) / m).ln_1p(),
    }
}

/// ln E of a grid of fixed bets with equal weights over `counts` of equal scores: (score, how many).
pub fn ln_e_grid(counts: &[(f64, f64)], m: f64, null: Null, grid: &[f64]) -> f64 {
    let capital = |u: &f64| counts.iter().map(|(x, n)| n * ln_bet(*x, m, null, *u)).sum::<f64>();
    ln_mean_exp(grid.iter().map(capital))
}

/// The hedged capital of Waudby-Smith & Ramdas after each score, for the null "the mean is `m`": the larger of a share
/// `theta` that bets on more and the rest that bets on less; with both at work each is tuned for `alpha`/2.
pub fn hedged_capital(scores: &[f64], m: f64, alpha: f64, theta: f64) -> Vec<f64> {
    let (mut up, mut down) = (theta, 1.0 - theta);
    let each = if theta > 0.0 && theta < 1.0 { alpha / 2.0 } else { alpha };
    let bets = predictable_bets(scores, each);
    scores
        .iter()
        .zip(bets)
        .map(|(x, bet)| {
            up *= 1.0 + bet.min(0.5 / m) * (x - m);
            down *= 1.0 - bet.min(0.5 / (1.0 - m)) * (x - m);
            up.max(down)
        })
        .collect()
}

/// The confidence sequence of the hedged capital after all of `scores`, searched on a grid of `breaks` steps and widened by
/// one of them: (lower, upper).
pub fn hedged_interval(scores: &[f64], alpha: f64, breaks: u32) -> (f64, f64) {
    let step = 1.0 / f64::from(breaks);
    let last = |m: f64| hedged_capital(scores, m, alpha, 0.5).pop().unwrap_or(0.5);
    let inside: Vec<f64> =
        (0..=breaks).map(|i| f64::from(i) * step).filter(|m| last(*m) <= 1.0 / alpha).collect();
    match (inside.first(), inside.last()) {
        (Some(low), Some(high)) => ((low - step).max(0.0), (high + step).min(1.0)),
        _ => (0.0, 1.0),
    }
}

/// The empirical-Bernstein confidence sequence with predictable plug-in bets, cut off at `truncation`: (lower, upper) after
/// each score, within [0, 1].
pub fn predictable_intervals(scores: &[f64], alpha: f64, truncation: f64) -> Vec<(f64, f64)> {
    let (mut staked, mut won, mut sum) = (0.0, 0.0, 0.0);
    // Each side starts from the mean that is farthest from its own bound.
    let (mut below, mut above) = (0.0, 1.0);
    let (mut cost_below, mut cost_above) = ((2.0 / alpha).ln(), (2.0 / alpha).ln());
    let bets = predictable_bets(scores, alpha / 2.0);
    (1..)
        .zip(scores.iter().zip(bets))
        .map(|(t, (x, bet))| {
            let bet = bet.min(truncation);
            staked += bet;
            won += bet * x;
            cost_below += psi(bet) * (x - below).powi(2);
            cost_above += psi(bet) * (x - above).powi(2);
            sum += x;
            (below, above) = (sum / f64::from(t), sum / f64::from(t));
            (((won - cost_below) / staked).max(0.0), ((won + cost_above) / staked).min(1.0))
        })
        .collect()
}

/// The empirical-Bernstein confidence sequence of the gamma-exponential mixture around the mean: (lower, upper) after each
/// score, within [0, 1]; each side at `side_alpha`.
pub fn mixture_intervals(scores: &[f64], side_alpha: f64, v_opt: f64) -> Vec<(f64, f64)> {
    let mixture = GammaExponential::new(v_opt, 1.0, side_alpha);
    let (mut sum, mut v, mut before) = (0.0, 0.0, 0.5);
    (1..)
        .zip(scores)
        .map(|(t, x)| {
            let t = f64::from(t);
            v += (x - before).powi(2);
            sum += x;
            before = sum / t;
            let half = mixture.bound(v, side_alpha) / t;
            ((before - half).max(0.0), (before + half).min(1.0))
        })
        .collect()
}

/// λ_t = √(2 ln(1/α) / (t ln(1 + t) σ̂²_{t−1})), with mean and variance shrunk towards ½ and ¼ by one imagined score.
fn predictable_bets(scores: &[f64], alpha: f64) -> impl Iterator<Item = f64> + '_ {
    let (mut sum, mut variance) = (0.5, 0.25);
    let mut squares = 0.25;
    (1..).zip(scores).map(move |(t, x)| {
        let t = f64::from(t);
        let bet = (-2.0 * alpha.ln() / (t * t.ln_1p() * variance)).sqrt();
        sum += x;
        let mean = sum / (t + 1.0);
        squares += (x - mean).powi(2);
        variance = squares / (t + 1.0);
        bet
    })
}

#[cfg(test)]
mod tests {
    use super::super::bounded_mean::{GRID, Moments};
    use super::*;

    #[test]
    fn the_order_of_scores_and_how_they_are_grouped_do_not_matter() {
        let one = ln_e_grid(&[(0.2, 3.0), (0.9, 2.0)], 0.8, Null::AtLeast, &GRID);
        let other = ln_e_grid(&[(0.9, 1.0), (0.2, 2.0), (0.9, 1.0), (0.2, 1.0)], 0.8, Null::AtLeast, &GRID);
        assert!((one - other).abs() < 1e-12);
    }

    #[test]
    fn exact_bets_are_never_worth_less_than_those_from_moments() {
        let counts = [(0.0, 2.0), (0.5, 3.0), (0.95, 20.0), (1.0, 4.0)];
        let sum = |f: fn(f64) -> f64| counts.iter().map(|(x, n)| n * f(*x)).sum::<f64>();
        let moments = Moments { n: sum(|_| 1.0), sum: sum(|x| x), squares: sum(|x| x * x) };
        for (m, null) in [(0.9, Null::AtLeast), (0.6, Null::AtLeast), (0.7, Null::AtMost)] {
            assert!(ln_e_grid(&counts, m, null, &GRID) >= moments.ln_e_grid(m, null, &GRID));
        }
    }
}

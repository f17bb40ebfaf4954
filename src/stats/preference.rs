//! Paired preferences: a win counts 1, a tie ½, a loss 0.
//!
//! The grid betting form of Waudby-Smith & Ramdas 2023; each pair should be judged in both orders, disagreement being a tie.

use super::betting::ln_e_grid;
use super::bounded_mean::Null;

/// The bets, as shares of the largest one.
pub const GRID: [f64; 6] = [0.05, 0.1, 0.2, 0.4, 0.6, 0.8];

/// How pairs came out.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Pairs {
    pub wins: f64,
    pub ties: f64,
    pub losses: f64,
}

impl Pairs {
    /// ln E against H0: the mean score is at most `m`, 0 < `m` < 1:
    /// E = (1/K) Σ_g (1 + g(1−m)/m)^W · (1 + g(½−m)/m)^T · (1 − g)^L.
    pub fn ln_e(&self, m: f64, grid: &[f64]) -> f64 {
        ln_e_grid(&[(1.0, self.wins), (0.5, self.ties), (0.0, self.losses)], m, Null::AtMost, grid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wins_make_evidence_and_ties_at_a_half_make_none() {
        let even = Pairs { wins: 0.0, ties: 80.0, losses: 0.0 };
        assert!(even.ln_e(0.5, &GRID).abs() < 1e-12);
        let ahead = |wins: f64| Pairs { wins, ties: 10.0, losses: 30.0 }.ln_e(0.5, &GRID);
        assert!(ahead(60.0) > ahead(50.0) && ahead(60.0) > 20.0f64.ln());
    }
}

//! Exact intervals for counts, shares and quantiles of independent samples of a fixed size: what simulations are reported with.
//!
//! Garwood 1936 for counts, Clopper & Pearson 1934 for shares, ranks of order statistics for quantiles (David & Nagaraja, "Order
//! Statistics", 3rd ed., 7.1). All hold at least their level, whatever the distribution.

use statrs::distribution::{Beta, Binomial, ContinuousCDF, DiscreteCDF, Gamma};

/// An interval for the expectation of a Poisson count.
pub fn poisson(count: u64, level: f64) -> (f64, f64) {
    let tail = (1.0 - level) / 2.0;
    let at = |shape: f64, p: f64| Gamma::new(shape, 1.0).map_or(f64::NAN, |gamma| gamma.inverse_cdf(p));
    let low = if count == 0 { 0.0 } else { at(count as f64, tail) };
    (low, at(count as f64 + 1.0, 1.0 - tail))
}

/// An interval for a probability of which `hits` of `n` trials are known; everything for no trials.
pub fn share(hits: u64, n: u64, level: f64) -> (f64, f64) {
    let tail = (1.0 - level) / 2.0;
    let misses = n.saturating_sub(hits);
    let at = |a: f64, b: f64, p: f64| Beta::new(a, b).map_or(f64::NAN, |beta| beta.inverse_cdf(p));
    let low = if hits == 0 { 0.0 } else { at(hits as f64, misses as f64 + 1.0, tail) };
    let high = if misses == 0 { 1.0 } else { at(hits as f64 + 1.0, misses as f64, 1.0 - tail) };
    (low, high)
}

/// Between which of `n` ascending samples, counted from 0, the q-quantile lies. `None` on a side where even the last sample does
/// not bound it at this level.
pub fn quantile_ranks(q: f64, n: u64, level: f64) -> (Option<usize>, Option<usize>) {
    let tail = (1.0 - level) / 2.0;
    let Ok(below) = Binomial::new(q, n) else { return (None, None) };
    // The sample of rank r (from 1) lies above the quantile only if fewer than r samples lie below it.
    let low = (1..=n).take_while(|rank| below.cdf(rank - 1) <= tail).last();
    let high = (1..=n).find(|rank| below.sf(rank - 1) <= tail);
    let place = |rank: u64| usize::try_from(rank - 1).ok();
    (low.and_then(place), high.and_then(place))
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    #[test]
    fn counts_and_shares_are_those_of_the_tables() {
        // Garwood's and Clopper & Pearson's own examples, 95 %.
        for (count, low, high) in
            [(0, 0.0, 3.689), (1, 0.0253, 5.572), (10, 4.795, 18.391), (100, 81.364, 121.627)]
        {
            let found = poisson(count, 0.95);
            assert!((found.0 - low).abs() < 1e-3 && (found.1 - high).abs() < 1e-3, "{count}: {found:?}");
        }
        for (hits, n, low, high) in [(0, 10, 0.0, 0.3085), (5, 10, 0.1871, 0.8129), (10, 10, 0.6915, 1.0)] {
            let found = share(hits, n, 0.95);
            assert!((found.0 - low).abs() < 1e-4 && (found.1 - high).abs() < 1e-4, "{hits}/{n}: {found:?}");
        }
        assert_eq!(share(0, 0, 0.95), (0.0, 1.0));
    }

    #[test]
    fn ranks_bound_the_quantile_as_often_as_they_say() {
        // The tables of 95 % ranks for the median of 20 samples: the 6th and the 15th.
        assert_eq!(quantile_ranks(0.5, 20, 0.95), (Some(5), Some(14)));
        assert_eq!(quantile_ranks(0.99, 100, 0.95).1, None);
        let mut random = ChaCha8Rng::seed_from_u64(20_261_124);
        for (q, n) in [(0.5, 60), (0.9, 60), (0.99, 700)] {
            let (low, high) = quantile_ranks(q, n, 0.9);
            let held = (0..2_000)
                .filter(|_| {
                    let mut samples: Vec<f64> = (0..n).map(|_| random.random()).collect();
                    samples.sort_by(f64::total_cmp);
                    low.is_none_or(|at| samples[at] <= q) && high.is_none_or(|at| samples[at] >= q)
                })
                .count();
            assert!((1_760..=1_990).contains(&held), "{q} of {n}: {held} of 2,000");
        }
    }
}

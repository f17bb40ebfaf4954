//! The Shiryaev–Roberts e-detector: when did a null that held begin to fail?
//!
//! Shin, Ramdas & Rinaldo, "E-detectors: a nonparametric framework for sequential change detection", NEJSDS 2024. Per bet
//! M ← (1 + M)·L, D = Σ w·M: if every L has expectation at most 1 given the past, D ≥ c happens falsely once in at least c
//! steps on average. Windowed: D is the sum over starts among the given steps, so that it is recomputed from them alone and
//! steps can be left out exactly.

/// Bets of one detector; unused ones have the weight 0.
pub const BETS: usize = 8;

/// Where a running product is held: far above any threshold in use. Holding it there can only lose evidence, never make any.
const MOST: f64 = 1e150;
/// Below this a product counts as 0, which loses evidence too: numbers that are no longer normal take a hundred times as long.
const LEAST: f64 = 1e-290;

/// One step: a factor per bet, or `None` for a step without data, which has the factor 1 and starts nothing.
pub type Step<T> = Option<[T; BETS]>;

/// D over all `steps`, oldest first.
pub fn shiryaev_roberts<T: Copy + Into<f64>>(steps: &[Step<T>], weights: &[f64; BETS]) -> f64 {
    let mut m = [0.0; BETS];
    for factors in steps.iter().flatten() {
        advance(&mut m, factors);
    }
    weigh(&m, weights)
}

/// D without each pair of neighbouring steps, as if they had no data: `out[i]` leaves out the steps i − 1 and i, for i from 0
/// to `steps.len()`.
pub fn without_pairs<T: Copy + Into<f64>>(steps: &[Step<T>], weights: &[f64; BETS]) -> Vec<f64> {
    // For the starts before a pair: M up to it times the product of all factors after it. For those after: a sum of products.
    let mut out = vec![0.0; steps.len() + 1];
    let mut before = Vec::with_capacity(steps.len() + 1);
    let mut m = [0.0; BETS];
    before.push(m);
    for step in steps {
        if let Some(factors) = step {
            advance(&mut m, factors);
        }
        before.push(m);
    }
    let mut product = [1.0; BETS];
    let mut starts = [0.0; BETS];
    for (i, place) in out.iter_mut().enumerate().rev() {
        // Everything from step i + 1 on is in `product` and `starts`; steps i − 1 and i are left out.
        let earlier = &before[i.saturating_sub(1)];
        for bet in 0..BETS {
            *place += weights[bet] * (earlier[bet] * product[bet] + starts[bet]);
        }
        let Some(Some(factors)) = steps.get(i) else { continue };
        for bet in 0..BETS {
            let next = product[bet] * factors[bet].into();
            product[bet] = if next < LEAST { 0.0 } else { next.min(MOST) };
            starts[bet] = (starts[bet] + product[bet]).min(MOST);
        }
    }
    out
}

/// The CUSUM form, M ← max(1, M)·L, after all `steps`.
pub fn cusum<T: Copy + Into<f64>>(steps: &[Step<T>], weights: &[f64; BETS]) -> f64 {
    let mut m = [0.0f64; BETS];
    for factors in steps.iter().flatten() {
        for bet in 0..BETS {
            m[bet] = (m[bet].max(1.0) * factors[bet].into()).min(MOST);
        }
    }
    weigh(&m, weights)
}

/// The weights of `bets` bets of equal weight.
pub fn equal_weights(bets: usize) -> [f64; BETS] {
    std::array::from_fn(|bet| if bet < bets { 1.0 / bets as f64 } else { 0.0 })
}

#[inline]
fn advance<T: Copy + Into<f64>>(m: &mut [f64; BETS], factors: &[T; BETS]) {
    for bet in 0..BETS {
        m[bet] = ((1.0 + m[bet]) * factors[bet].into()).min(MOST);
    }
}

fn weigh(m: &[f64; BETS], weights: &[f64; BETS]) -> f64 {
    m.iter().zip(weights).map(|(m, w)| m * w).sum()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    fn steps() -> impl Strategy<Value = Vec<Step<f64>>> {
        let step = prop_oneof![
            1 => Just(None),
            5 => prop::array::uniform8(-4.0f64..4.0).prop_map(|ln| Some(ln.map(f64::exp))),
        ];
        prop::collection::vec(step, 0..40)
    }

    proptest! {
        #![proptest_config(crate::testing::cases(128))]

        /// D is the sum over starts of the products that follow them.
        #[test]
        fn the_recursion_is_the_sum_over_starts(steps in steps()) {
            let weights = equal_weights(7);
            let mut expected = 0.0;
            for start in 0..steps.len() {
                if steps[start].is_none() {
                    continue;
                }
                for (bet, weight) in weights.iter().enumerate() {
                    expected += weight * steps[start..].iter().flatten().map(|f| f[bet]).product::<f64>();
                }
            }
            let found = shiryaev_roberts(&steps, &weights);
            prop_assert!((found - expected).abs() <= 1e-9 * expected, "{} {}", found, expected);
        }

        /// Leaving a pair out is what is left when its steps never had data.
        #[test]
        fn a_pair_left_out_is_a_pair_without_data(steps in steps()) {
            let weights = equal_weights(7);
            let without = without_pairs(&steps, &weights);
            prop_assert_eq!(without.len(), steps.len() + 1);
            for (i, found) in without.iter().enumerate() {
                let mut erased = steps.clone();
                erased.iter_mut().enumerate().filter(|(at, _)| *at == i || at + 1 == i).for_each(|(_, s)| *s = None);
                let expected = shiryaev_roberts(&erased, &weights);
                prop_assert!((found - expected).abs() <= 1e-9 * expected, "{}: {} {}", i, found, expected);
            }
        }
    }

    #[test]
    fn evidence_beyond_all_bounds_stays_a_number() {
        let huge: Vec<Step<f64>> = vec![Some([1e120; BETS]); 20];
        let gone: Vec<Step<f64>> = vec![Some([1e-300; BETS]); 20];
        let weights = equal_weights(7);
        for steps in
            [huge.clone(), gone.clone(), [huge.clone(), gone.clone()].concat(), [gone, huge].concat()]
        {
            let d = shiryaev_roberts(&steps, &weights);
            assert!(d.is_finite());
            for left in without_pairs(&steps, &weights) {
                assert!(left.is_finite() && left >= 0.0);
            }
        }
    }

    /// Under the null E[D] after t steps is at most t: the base of every promise about false alarms.
    #[test]
    fn under_the_null_the_detector_grows_no_faster_than_time() {
        let mut random = ChaCha8Rng::seed_from_u64(20_261_123);
        let bets = [0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.7];
        let (runs, length) = (4_000, 20);
        let mut sum = 0.0;
        for _ in 0..runs {
            let steps: Vec<Step<f64>> = (0..length)
                .map(|_| {
                    // Scores of 0 or 1 with mean .9 against "mean ≥ .9".
                    let score = f64::from(u8::from(random.random_bool(0.9)));
                    Some(std::array::from_fn(|b| bets.get(b).map_or(1.0, |u| 1.0 + u * (0.9 - score) / 0.1)))
                })
                .collect();
            sum += shiryaev_roberts(&steps, &equal_weights(7));
        }
        let mean = sum / f64::from(runs);
        assert!(mean <= 1.1 * f64::from(length), "{mean} after {length} steps");
        assert!(mean >= 0.5 * f64::from(length), "the detector does not look: {mean}");
    }
}

//! A sketch of distinct tenants: the k smallest hashes seen (KMV; Bar-Yossef et al. 2002, Beyer et al. 2007).
//!
//! Exact up to [`CAPACITY`] tenants, then an estimate with a relative standard error of about 1/√(k−2). Merging keeps the k
//! smallest of the union, so the result does not depend on order or on how the input was split.

use serde::{Deserialize, Serialize};

/// How many hashes are kept: about 13 % standard error beyond that many tenants, at most 256 bytes per pane.
pub const CAPACITY: usize = 64;

/// The k smallest hashes of the tenants seen, ascending. 32 bits are enough: among a million tenants about a hundred
/// collide.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tenants(Vec<u32>);

impl Tenants {
    /// Counts a tenant, given a well-mixed 64-bit hash of its name.
    pub fn insert(&mut self, hash: u64) {
        self.insert_upper((hash >> 32) as u32);
    }

    /// Hands the sketch over and leaves an empty one, which keeps its buffer.
    pub fn take(&mut self) -> Self {
        let taken = Self(self.0.as_slice().to_vec());
        self.0.clear();
        taken
    }

    fn insert_upper(&mut self, hash: u32) {
        if self.0.len() == CAPACITY && self.0.last().is_some_and(|largest| hash >= *largest) {
            return;
        }
        if let Err(place) = self.0.binary_search(&hash) {
            if self.0.len() == CAPACITY {
                self.0.pop();
            }
            self.0.insert(place, hash);
        }
    }

    /// Adds the tenants of another sketch.
    pub fn merge(&mut self, other: &Self) {
        for &hash in &other.0 {
            self.insert_upper(hash);
        }
    }

    /// How many distinct tenants were seen.
    pub fn estimate(&self) -> u64 {
        match self.0.last() {
            Some(&largest) if self.0.len() == CAPACITY => {
                ((CAPACITY - 1) as f64 / (largest as f64 / u32::MAX as f64)).round() as u64
            }
            _ => self.0.len() as u64,
        }
    }

    /// Whether the estimate is the exact number.
    pub fn is_exact(&self) -> bool {
        self.0.len() < CAPACITY
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mixed(n: u64) -> u64 {
        // The finaliser of SplitMix64.
        let z = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    #[test]
    fn is_exact_for_few_and_close_for_many() {
        for (tenants, tolerance) in [(0u64, 0.0), (1, 0.0), (60, 0.0), (10_000, 0.4), (1_000_000, 0.4)] {
            let mut sketch = Tenants::default();
            for n in 0..tenants {
                sketch.insert(mixed(n));
                sketch.insert(mixed(n / 2));
            }
            let error = (sketch.estimate() as f64 - tenants as f64).abs();
            assert!(error <= tolerance * tenants as f64, "{tenants}: {}", sketch.estimate());
        }
    }

    #[test]
    fn a_full_sketch_counts_by_the_largest_of_what_it_keeps() {
        // One less than it keeps, over the largest as a share of all hashes.
        for (largest, expected) in [(u32::MAX, CAPACITY - 1), (u32::MAX / 1_000, 1_000 * (CAPACITY - 1))] {
            let first = (0..CAPACITY as u32 - 1).map(|n| n + 1);
            let sketch = Tenants(first.chain([largest]).collect());
            let counted = sketch.estimate() as f64;
            assert!((counted / expected as f64 - 1.0).abs() < 1e-3, "{counted} {expected}");
        }
    }

    #[test]
    fn merging_does_not_depend_on_the_split() {
        let mut whole = Tenants::default();
        let (mut left, mut right) = (Tenants::default(), Tenants::default());
        for n in 0..5_000 {
            whole.insert(mixed(n));
            if n % 3 == 0 { left.insert(mixed(n)) } else { right.insert(mixed(n)) }
        }
        right.merge(&left);
        left.merge(&right);
        assert_eq!(whole, right);
        assert_eq!(whole, left);
    }
}

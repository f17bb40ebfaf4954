//! Pure mathematics: knows no domain word, does no I/O. Formulas carry their source.
//!
//! E-values have expectation at most 1 under their null at every time, so they may be looked at after every sample; their
//! logarithms are what is computed, from aggregates that merge.

pub mod betting;
pub mod bounded_mean;
pub mod detector;
pub mod exact;
pub mod group_sequential;
pub mod mixture;
pub mod noise;
pub mod preference;
pub mod quantile;
pub mod rate;
pub mod sample_ratio;
pub mod special;
pub mod uplift;

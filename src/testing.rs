//! What the tests of all layers share.

use proptest::test_runner::Config;

/// The configuration of a costly property: `usual` cases where cheap ones have 256. The environment's `PROPTEST_CASES` takes the
/// place of either: `proptest!` asks it last, whatever the configuration says.
pub fn cases(usual: u32) -> Config {
    Config { cases: usual, ..Config::default() }
}

/// How many attacks the campaign of `engine::attack_tests` tries: `usual`, or what the environment's `REARGUARD_ATTACKS` asks for.
pub fn attacks(usual: usize) -> usize {
    std::env::var("REARGUARD_ATTACKS")
        .map_or(usual, |asked| asked.parse().expect("REARGUARD_ATTACKS is a number"))
}

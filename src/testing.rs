//! What the tests of all layers share.

use proptest::test_runner::Config;

/// The configuration of a costly property: `usual` cases where cheap ones have 256, and as many times more as the environment's
/// `PROPTEST_CASES` asks for. A number of its own would ignore what a long campaign asks for.
pub fn cases(usual: u32) -> Config {
    let config = Config::default();
    let cases = u64::from(config.cases) * u64::from(usual) / 256;
    Config { cases: u32::try_from(cases.max(1)).unwrap_or(u32::MAX), ..config }
}

/// How many attacks the campaign of `engine::attack_tests` tries: `usual`, or what the environment's `REARGUARD_ATTACKS` asks for.
pub fn attacks(usual: usize) -> usize {
    std::env::var("REARGUARD_ATTACKS")
        .map_or(usual, |asked| asked.parse().expect("REARGUARD_ATTACKS is a number"))
}

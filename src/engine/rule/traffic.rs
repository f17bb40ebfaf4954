//! What given traffic says of rules: whether a measurement ever has the samples, and the minutes, that a rule asks for.

use std::collections::BTreeMap;

use super::compile::{Compiled, RuleNote};
use super::diagnostic::Diagnostic;
use super::{Arm, Expr, Measurement, Rule, Stat, Window, identifier};
use crate::model::id::Variant;
use crate::model::metric::{Catalogue, MetricId};
use crate::model::time::Minute;

/// A breach needs this many bad minutes (rules.md, "P, persistence").
const BAD_MINUTES: u64 = 3;

/// How events arrive.
#[derive(Clone, Debug, PartialEq)]
pub enum Traffic {
    /// So many events a minute of every variant, each with all metrics.
    Steady(f64),
    /// So many events a minute of each variant, with all metrics. Of other variants nothing is known.
    Expected(BTreeMap<Variant, f64>),
    /// As recorded.
    Recorded(Recorded),
}

/// What was recorded.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Recorded {
    /// Samples per variant, metric and minute. What is not in it was never seen.
    pub seen: BTreeMap<(Variant, MetricId), BTreeMap<Minute, u64>>,
    /// Events a minute of variants that no event is recorded of, as far as they are known otherwise.
    pub expected: BTreeMap<Variant, f64>,
}

/// The most that one window ever holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Most {
    samples: u64,
    /// Minutes with a sample.
    minutes: u64,
}

/// What keeps rules from firing with this traffic. Slices are not told apart: what is too little for all of them is too
/// little for each.
pub fn starved(compiled: &Compiled, catalogue: &Catalogue, traffic: &Traffic) -> Vec<Diagnostic> {
    let rules = compiled.rules.rules.iter().zip(&compiled.notes);
    rules.filter_map(|(rule, note)| worst(rule, note, catalogue, traffic)).collect()
}

/// Whether a rule can never fire with this traffic: some measurement that it needs never has three minutes in its window.
pub fn never_fires(rule: &Rule, traffic: &Traffic) -> bool {
    let few = |slot: &Measurement| {
        let variant = if slot.arm == Arm::Own { Some(&rule.variant) } else { rule.baseline.as_ref() };
        let most = variant.and_then(|variant| traffic.most(variant, slot));
        most.is_some_and(|most| most.minutes < BAD_MINUTES)
    };
    !has_alternatives(&rule.condition.expr) && rule.condition.slots.iter().any(few)
}

/// The first of the rule's measurements that does not have enough.
fn worst(rule: &Rule, note: &RuleNote, catalogue: &Catalogue, traffic: &Traffic) -> Option<Diagnostic> {
    let any = has_alternatives(&rule.condition.expr);
    let (message, help) = rule.condition.slots.iter().find_map(|slot| {
        let variant = if slot.arm == Arm::Own { &rule.variant } else { rule.baseline.as_ref()? };
        let recorded = Measurement { metric: catalogue.recorded(slot.metric), ..*slot };
        let most = traffic.most(variant, &recorded)?;
        let name = identifier::name(slot, catalogue);
        let window = slot.window.word();
        let count = matches!(slot.stat, Stat::Count | Stat::PerMin);
        if most.samples == 0 {
            let metric = &catalogue.get(recorded.metric).name;
            Some((
                format!("`{name}` is never known: no event of {variant} carries `{metric}`"),
                "look at how events spell the metric and the variant".to_owned(),
            ))
        } else if most.minutes < BAD_MINUTES && !any {
            Some((
                format!(
                    "`{}` can never fire: `{name}` has samples in at most {} of any {window}, and three bad minutes are needed",
                    rule.id,
                    minutes(most.minutes)
                ),
                "name a longer window, or let the metric arrive more often than in batches".to_owned(),
            ))
        } else if most.samples < rule.min_samples && !count {
            Some((
                format!(
                    "`{}` is never confirmed by persistence: `{name}` has at most {} samples in any {window}, and {} are needed",
                    rule.id, most.samples, rule.min_samples
                ),
                format!("name a longer window, or `min_samples: {}` or less", most.samples),
            ))
        } else {
            None
        }
    })?;
    Some(note.condition.warning(&rule.origin.file, message, help))
}

fn minutes(n: u64) -> String {
    if n == 1 { "one minute".to_owned() } else { format!("{n} minutes") }
}

/// Whether another comparison may hold in place of one that cannot.
fn has_alternatives(expr: &Expr) -> bool {
    match expr {
        Expr::Or(..) | Expr::Not(_) => true,
        Expr::And(l, r) => has_alternatives(l) || has_alternatives(r),
        _ => false,
    }
}

impl Traffic {
    /// `None` where nothing is known.
    fn most(&self, variant: &Variant, of: &Measurement) -> Option<Most> {
        match self {
            Self::Steady(rate) => Some(steady(*rate, of.window)),
            Self::Expected(rates) => rates.get(variant).map(|rate| steady(*rate, of.window)),
            Self::Recorded(recorded) => Some(match recorded.expected.get(variant) {
                Some(rate) => steady(*rate, of.window),
                None => match recorded.seen.get(&(variant.clone(), of.metric)) {
                    Some(by_minute) => most(by_minute, of.window),
                    None => Most::default(),
                },
            }),
        }
    }
}

fn steady(rate: f64, window: Window) -> Most {
    let samples = (rate * f64::from(window.0)).floor() as u64;
    Most { samples, minutes: samples.min(u64::from(window.0)) }
}

/// The fullest window, and the one with most minutes; each ends at a minute with samples.
fn most(by_minute: &BTreeMap<Minute, u64>, window: Window) -> Most {
    let (mut most, mut now) = (Most::default(), Most::default());
    let mut oldest = by_minute.iter().peekable();
    for (minute, samples) in by_minute {
        now.samples += samples;
        now.minutes += 1;
        while let Some((_, gone)) = oldest.next_if(|(old, _)| old.0 <= minute.0 - i64::from(window.0)) {
            now.samples -= gone;
            now.minutes -= 1;
        }
        most.samples = most.samples.max(now.samples);
        most.minutes = most.minutes.max(now.minutes);
    }
    most
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::compile::compile_rules;
    use super::*;

    fn said(condition: &str, traffic: &Traffic) -> Vec<String> {
        let text = format!(
            "- variant: a.v2\n  baseline: a.v1\n  rules: [{{ condition: \"{condition}\", action: notify, id: r }}]\n"
        );
        let catalogue = Catalogue::default();
        let compiled = compile_rules(&[("r.yaml", text)], &catalogue, &[]).unwrap();
        let said: Vec<String> =
            starved(&compiled, &catalogue, traffic).into_iter().map(|d| d.message).collect();
        let never =
            said.iter().any(|text| text.contains("can never fire") || text.contains("is never known"));
        assert_eq!(never_fires(&compiled.rules.rules[0], traffic), never, "{condition}: {said:?}");
        said
    }

    /// `faithfulness` of both variants in the given minutes, ten samples each; `cost` of the first one in every minute.
    fn recorded(minutes: impl Iterator<Item = i64>) -> Traffic {
        let catalogue = Catalogue::default();
        let (score, cost) = (catalogue.find("faithfulness").unwrap(), catalogue.find("cost").unwrap());
        let batches: BTreeMap<Minute, u64> = minutes.map(|m| (Minute(m), 10)).collect();
        let steady = (0..600).map(|m| (Minute(m), 5)).collect();
        let seen = BTreeMap::from([
            (("a.v2".into(), score), batches.clone()),
            (("a.v1".into(), score), batches),
            (("a.v2".into(), cost), steady),
        ]);
        Traffic::Recorded(Recorded { seen, expected: BTreeMap::new() })
    }

    #[test]
    fn batches_cannot_fire_and_silence_is_told() {
        let hourly = recorded((0..10).map(|hour| hour * 60));
        for (condition, wanted) in [
            (
                "faithfulness_1h < 0.9",
                Some("`r` can never fire: `faithfulness_1h` has samples in at most one minute of any 1h"),
            ),
            ("faithfulness_1h < baseline", Some("`r` can never fire")),
            (
                "faithfulness_6h < 0.9",
                Some(
                    "`r` is never confirmed by persistence: `faithfulness_6h` has at most 60 samples in any 6h, and 100 are needed",
                ),
            ),
            ("faithfulness_count_6h < 9", None),
            ("cost_1h > 1", None),
            (
                "cost_1h > baseline",
                Some("`baseline(cost_1h)` is never known: no event of a.v1 carries `cost`"),
            ),
            (
                "cost_5m > 1",
                Some("`r` is never confirmed by persistence: `cost_5m` has at most 25 samples in any 5m"),
            ),
            ("latency_1h > 1", Some("`latency_1h` is never known: no event of a.v2 carries `latency`")),
        ] {
            let found = said(condition, &hourly);
            match wanted {
                Some(wanted) => {
                    assert!(found.len() == 1 && found[0].starts_with(wanted), "{condition}: {found:?}")
                }
                None => assert!(found.is_empty(), "{condition}: {found:?}"),
            }
        }
        let steady = Traffic::Steady(1.0);
        assert_eq!(said("cost_1h > 1", &steady).len(), 1);
        assert!(said("cost_6h > 1", &steady).is_empty());
        assert!(said("cost_1h > 1", &Traffic::Steady(2.0)).is_empty());
    }

    #[test]
    fn what_is_expected_counts_as_steady_where_nothing_was_recorded() {
        let expected = |variant: &str, rate| BTreeMap::from([(Variant::new(variant), rate)]);
        let few = "`r` is never confirmed by persistence: `cost_1h` has at most 60 samples in any 1h";
        assert!(said("cost_1h > 1", &Traffic::Expected(expected("a.v2", 1.0)))[0].starts_with(few));
        assert!(said("cost_1h > 1", &Traffic::Expected(expected("a.v2", 2.0))).is_empty());
        assert!(
            said("cost_1h > 1", &Traffic::Expected(expected("a.v3", 1.0))).is_empty(),
            "nothing is known"
        );
        let Traffic::Recorded(mut of_both) = recorded(0..600) else { panic!() };
        assert_eq!(said("latency_1h > 1", &Traffic::Recorded(of_both.clone())).len(), 1);
        of_both.expected = expected("a.v2", 2.0);
        assert!(said("latency_1h > 1", &Traffic::Recorded(of_both)).is_empty());
    }

    proptest! {
        #[test]
        fn the_fullest_window_is_the_one_of_brute_force(
            minutes in prop::collection::btree_map(0i64..400, 1u64..9, 0..60),
            window in prop::sample::select(vec![5u32, 60, 360]),
        ) {
            let by_minute: BTreeMap<Minute, u64> = minutes.iter().map(|(m, n)| (Minute(*m), *n)).collect();
            let inside = |end: i64| minutes.range(end + 1 - i64::from(window)..=end);
            let wanted = Most {
                samples: (0..800).map(|end| inside(end).map(|(_, n)| n).sum()).max().unwrap_or(0),
                minutes: (0..800).map(|end| inside(end).count() as u64).max().unwrap_or(0),
            };
            prop_assert_eq!(most(&by_minute, Window(window)), wanted);
        }
    }
}

//! A pass that samples which came too late could turn is no pass.

use super::minutes::{Minutes, limit};
use super::{Reason, lay_out};
use crate::engine::measure::{self, Frame, Lookup};
use crate::engine::rule::{Arm, Condition, Measurement, Shape, Side, Stat};
use crate::model::metric::{Catalogue, Kind};

/// Where it cannot be said what late samples could do, this share of a window is too much: one in ten.
const SHARE: u64 = 10;

/// A deficit of nothing counts as turned: whether a tie is a breach depends on the comparison, and sums of shares are not exact.
const TIE: f64 = 1e-6;

/// Why a condition that is false is not known to be: `late` says how many samples of a measurement came too late for its window.
/// They turn it if it would be true with each of them as bad as it can be. How bad that is nobody knows of amounts, durations, arithmetic
/// and a baseline's samples: of those a tenth of the window is too much.
pub fn could_turn(
    condition: &Condition,
    catalogue: &Catalogue,
    lookup: &impl Lookup,
    frame: Frame,
    late: impl Fn(&Measurement) -> u64,
) -> Option<Reason> {
    condition.slots.iter().find_map(|m| {
        let late = late(m);
        if late == 0 {
            return None;
        }
        let have = measure::samples(lookup, m, frame);
        let worst = (m.arm == Arm::Own).then(|| at_worst(condition, catalogue, lookup, frame)).flatten();
        let turns = match worst {
            Some((deficit, each)) => deficit + late as f64 * each > -TIE,
            None => late.saturating_mul(SHARE) >= have,
        };
        turns.then_some(Reason::Late { late, have })
    })
}

/// The deficit of a single comparison's window, and by how much one sample raises it at worst.
fn at_worst(
    condition: &Condition,
    catalogue: &Catalogue,
    lookup: &impl Lookup,
    frame: Frame,
) -> Option<(f64, f64)> {
    let Shape::Simple { slot, side, threshold } = condition.shape else { return None };
    let Measurement { metric, stat, .. } = condition.slots[slot];
    let bounded = !matches!(catalogue.get(metric).kind, Kind::Value);
    let each = match stat.quantile() {
        Some(q) => {
            if side == Side::Above {
                q
            } else {
                1.0 - q
            }
        }
        None if bounded || stat != Stat::Mean => {
            let limit = limit(condition, threshold, lookup, frame)?;
            let limit = stat.rate_at(limit).unwrap_or(limit);
            if (side == Side::Above) == stat.turns_round() { limit } else { 1.0 - limit }
        }
        None => return None,
    };
    let deficit = Minutes::of(condition, &lay_out(condition, lookup, frame), lookup, frame).deficit()?;
    Some((deficit, each))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use crate::engine::input::{Delta, Input};
    use crate::engine::late::LateSamples;
    use crate::engine::machine::Engine;
    use crate::engine::memory::Memory;
    use crate::engine::rule::{Rule, RuleAction, Side, Stat};
    use crate::engine::series::KEEP;
    use crate::engine::testkit::*;
    use crate::engine::verdict::{Reason, Verdict};
    use crate::model::flag::Scope;
    use crate::model::time::Minute;

    /// What is measured, the rule's side and threshold, its statistic, and the worst value there is.
    type Case = (&'static str, Side, f64, Stat, f64);
    const CASES: [Case; 5] = [
        ("faithfulness", Side::Below, 0.5, Stat::Mean, 0.0),
        ("faithfulness", Side::Above, 0.5, Stat::Mean, 1.0),
        ("abstain", Side::Above, 0.4, Stat::Rate, 1.0),
        ("latency", Side::Above, 1_000.0, Stat::P90, 600_000.0),
        ("latency", Side::Below, 1_000.0, Stat::P50, 0.0),
    ];

    fn rule_of((metric, side, threshold, stat, _): Case) -> Rule {
        Rule { min_samples: 1, ..rule(metric, stat, 5, side, threshold, RuleAction::Notify) }
    }

    fn value(metric: &str, good: bool, side: Side) -> f64 {
        match (metric, good == (side == Side::Above)) {
            ("latency", low) => {
                if low {
                    200.0
                } else {
                    3_000.0
                }
            }
            ("abstain", low) => f64::from(u8::from(!low)),
            (_, low) => {
                if low {
                    0.3
                } else {
                    0.7
                }
            }
        }
    }

    fn verdict(engine: &Engine) -> &Verdict {
        &engine.judgements().next().expect("a minute has closed").1.verdict
    }

    fn tell_late(engine: &mut Engine, metric: &str, variant: &str, minute: i64, samples: u64) {
        let empty = delta(engine.settings(), 0, engine.report().sources[0].next_offset, at(0), &[]);
        let schema = &engine.settings().schema;
        let late = LateSamples {
            variant: schema.find(variant).unwrap(),
            metric: schema.catalogue().find(metric).unwrap(),
            slice: Scope::All,
            minute: Minute(START + minute),
            samples,
        };
        engine.step(Input::Delta(Delta { late: vec![late], ..empty }));
    }

    proptest! {
        #![proptest_config(crate::testing::cases(128))]

        /// A pass stays one if and only if the condition is false with every late sample in its place at its worst. It need not stay
        /// one where only one more is missing: that may be a tie.
        #[test]
        fn a_pass_is_one_whatever_came_too_late(
            case in 0..CASES.len(),
            samples in prop::collection::vec((0i64..9, prop::bool::weighted(0.7)), 1..40),
            late in prop::collection::vec(0i64..9, 0..6),
        ) {
            let (metric, side, .., worst) = CASES[case];
            let one = |minute: i64, value| Ev { at: minute * 60_000, variant: TREATMENT, metric, value, tenant: 1 };
            let events: Vec<Ev> =
                samples.iter().map(|(minute, good)| one(*minute, value(metric, *good, side))).collect();
            let mut judged = engine(vec![rule_of(CASES[case])]);
            run(&mut judged, &events, 0..8);
            let before = verdict(&judged).clone();
            late.iter().for_each(|minute| tell_late(&mut judged, metric, TREATMENT, *minute, 1));
            run(&mut judged, &events, 8..9);

            let turned = |more: Option<i64>| {
                let worst = late.iter().copied().chain(more).map(|minute| one(minute, worst));
                let mut all: Vec<Ev> = events.iter().cloned().chain(worst).collect();
                all.sort_by_key(|event| event.at);
                let mut whole = engine(vec![rule_of(CASES[case])]);
                run(&mut whole, &all, 0..9);
                whole.judgements().next().unwrap().1.literal == Some(true)
            };
            match verdict(&judged) {
                Verdict::Pass => prop_assert!(!turned(None), "{before:?}"),
                Verdict::Inconclusive { reason: Reason::Late { late: counted, .. } } => {
                    prop_assert!(turned(Some(8)));
                    prop_assert_eq!(*counted, late.iter().filter(|minute| **minute >= 4).count() as u64);
                }
                _ => {}
            }
        }
    }

    #[test]
    fn what_came_too_late_is_known_after_a_restart() {
        let mut engine = engine(vec![rule_of(CASES[0])]);
        run(&mut engine, &steady(TREATMENT, "faithfulness", 0..9, 60, |_, _| 0.9), 0..9);
        tell_late(&mut engine, "faithfulness", TREATMENT, 7, 3);
        let told = engine.fleet.late().all();
        assert_eq!(told[0].samples, 3);
        let (settings, snapshot) = (engine.settings().clone(), engine.snapshot().unwrap());
        let memory = Memory::from_rows(engine.changed_rows().into_iter().filter_map(|(k, v)| Some((k, v?))));
        let (again, _) = Engine::restore(settings, memory.unwrap(), Some(&snapshot)).unwrap();
        assert_eq!(again.fleet.late().all(), told);
    }

    #[test]
    fn what_no_window_of_minutes_reaches_is_not_counted() {
        let mut engine = engine(vec![rule_of(CASES[0])]);
        run(&mut engine, &steady(TREATMENT, "faithfulness", 0..9, 60, |_, _| 0.9), 0..9);
        let closed = engine.fleet.closed().unwrap().0 - START;
        for (minute, counted) in [(closed - KEEP, 0), (closed - KEEP + 1, 1), (closed, 2)] {
            tell_late(&mut engine, "faithfulness", TREATMENT, minute, 1);
            assert_eq!(engine.fleet.late().len(), counted, "{minute}");
        }
    }

    #[test]
    fn a_tenth_is_too_much_of_what_has_no_worst() {
        let case = ("cost", Side::Above, 5.0, Stat::Mean, f64::NAN);
        for (late, turns) in [(29, false), (30, true)] {
            let mut engine = engine(vec![rule_of(case)]);
            let events = steady(TREATMENT, "cost", 0..10, 60, |_, _| 1.0);
            run(&mut engine, &events, 0..9);
            tell_late(&mut engine, "cost", TREATMENT, 7, late);
            run(&mut engine, &events, 9..10);
            let expected = Verdict::Inconclusive { reason: Reason::Late { late, have: 300 } };
            assert_eq!(verdict(&engine), if turns { &expected } else { &Verdict::Pass });
            // They leave the window with their minute.
            run(&mut engine, &steady(TREATMENT, "cost", 10..13, 60, |_, _| 1.0), 10..13);
            assert_eq!(verdict(&engine), &Verdict::Pass);
        }
    }
}

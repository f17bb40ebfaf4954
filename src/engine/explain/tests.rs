//! An explanation says what the verdict says.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::engine::input::Input;
use crate::engine::rule::Stat;
use crate::engine::testkit::*;

/// Whether nothing but time, and eyes, is missing.
fn only_time(lacks: &[Lack]) -> bool {
    lacks.iter().all(|lack| matches!(lack, Lack::Hold { .. } | Lack::NotArmed { .. }))
}

/// The single explanation of an engine with one rule.
fn one(engine: &Engine) -> Explanation {
    engine.explain(&Question::default()).unwrap().explanations.remove(0)
}

proptest! {
    #![proptest_config(crate::testing::cases(24))]

    /// Something is missing for a test if and only if the test does not hold, for every mode, at every closing.
    #[test]
    fn what_is_missing_is_what_the_verdict_lacks(
        kind in 0usize..5,
        confirm in 0usize..4,
        window in prop::sample::select(vec![5u32, 60]),
        // Then nothing ever fires, and a breach that is proved can be looked at.
        blind in any::<bool>(),
        minutes in prop::collection::vec(prop_oneof![
            4 => (0i64..60, 0.0f64..1.0),
            1 => Just((0, 0.0)),
            1 => (200i64..400, 0.0f64..1.0),
        ], 8..70),
    ) {
        let (mut rule, metric) = any_rule(kind, window, confirm);
        // Never fires by persistence, so that every closing is that of an alert that has not fired.
        rule.hold = Duration::from_secs(36_000);
        let events = rough(metric, &minutes);
        let mut engine = engine(vec![rule]);
        if blind {
            engine.step(Input::Connection { up: false, reason: "no broker".into() });
        }
        for minute in 0..minutes.len() as i64 {
            run(&mut engine, &events, minute..minute + 1);
            let Some((_, judgement)) = engine.judgements().next() else { continue };
            let told = one(&engine);
            if told.state.phase > Phase::Pending {
                prop_assert_eq!(told.missing_for_persistence.unwrap_or_default(), Vec::new());
                break;
            }
            prop_assert_eq!(&told.verdict, &judgement.verdict);
            let status = engine.report().alerts.remove(0);
            let evidence = told.evidence.as_ref().map(|test| (test.evidence, test.needed));
            prop_assert_eq!(status.evidence.zip(status.evidence_needed), evidence, "status and explain agree");
            // JSON has no infinity: it would read as if there were no detector.
            prop_assert!(status.evidence.is_none_or(f64::is_finite));
            let proved = judgement.by == Some(ConfirmedBy::Evidence);
            if let Some(lacks) = &told.missing_for_persistence
                && !proved
            {
                prop_assert!(lacks.iter().any(|lack| matches!(lack, Lack::Hold { .. })), "{:?}", lacks);
                let holds = judgement.verdict == Verdict::Breach;
                prop_assert_eq!(only_time(lacks), holds, "{:?}: {:?}", judgement, lacks);
            }
            if let Some(lacks) = &told.missing_for_evidence {
                prop_assert_eq!(only_time(lacks), proved, "{:?}: {:?}", judgement, lacks);
            }
            let stored = serde_json::to_string(&told).unwrap();
            prop_assert_eq!(serde_json::from_str::<Explanation>(&stored).unwrap(), told);
        }
    }
}

#[test]
fn a_number_near_the_threshold_is_never_rounded_across_it() {
    let rule = rule("faithfulness", Stat::Mean, 60, Side::Below, 0.92, RuleAction::Rollback);
    let catalogue = Catalogue::default();
    for (value, said) in [
        (Some(0.871_234), "0.8712 < 0.92"),
        (Some(0.919_99), "0.91999 < 0.92"),
        (Some(0.919_999_9), "0.9199999 < 0.92"),
        (Some(0.919_999_999_9), "0.9199999999 < 0.92"),
        (Some(0.92), "0.92 < 0.92"),
        (None, "faithfulness_1h < 0.92"),
    ] {
        assert_eq!(filled(&rule.condition, &catalogue, |_| value), said);
    }
}

#[test]
fn what_is_not_there_is_named_with_what_is() {
    let rule = rule("faithfulness", Stat::Mean, 60, Side::Below, 0.9, RuleAction::Rollback);
    let id = rule.id.clone();
    let engine = engine(vec![rule]);
    let ask = |question: Question| engine.explain(&question);
    let unjudged = ask(Question::default()).unwrap();
    assert_eq!((unjudged.explanations.len(), unjudged.unjudged.len()), (0, 1));
    let wrong = ask(Question { variant: Some("support-copilot.prompt-v81".into()), ..Question::default() });
    let wrong = wrong.unwrap_err();
    assert!(wrong.what.contains("variant `support-copilot.prompt-v81`"), "{wrong:?}");
    assert!(wrong.hint.contains(TREATMENT), "{wrong:?}");
    let wrong = ask(Question { rule: Some("faith".into()), ..Question::default() }).unwrap_err();
    assert!(wrong.hint.contains(id.as_str()), "{wrong:?}");
}

#[test]
fn what_withholds_and_what_clears_are_told() {
    let mut pause = rule("faithfulness", Stat::Mean, 5, Side::Below, 0.9, RuleAction::PauseRollout);
    pause.dry_run = true;
    let mut engine = engine(vec![pause]);
    let bad = [(60, 0.5); 12];
    run(&mut engine, &rough("faithfulness", &bad), 0..12);
    let told = one(&engine);
    assert_eq!((told.state.phase, told.state.done), (Phase::Firing, Some(RuleAction::PauseRollout)));
    assert_eq!((told.state.withheld.as_ref(), &told.gate), (Some(&Gate::DryRun), &Gate::DryRun));
    assert_eq!((told.clear.window_holds, told.clear.held, told.clear.dwell), (Some(false), 0, 15));
    let report = engine.report();
    assert!(report.alerts[0].withheld.as_ref().unwrap().contains("dry run"), "{report:?}");
    let mut more = bad.to_vec();
    more.extend([(60, 0.97); 12]);
    run(&mut engine, &rough("faithfulness", &more), 12..24);
    let told = one(&engine);
    assert_eq!((told.clear.window_holds, told.clear.recent_holds), (Some(true), Some(true)));
    assert!(told.clear.held > 0 && told.clear.held < 15, "{:?}", told.clear);
}

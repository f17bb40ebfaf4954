use super::*;
use crate::dispatch::advice::quoted;
use crate::dispatch::example;
use crate::dispatch::story::Flip;
use crate::engine::output::{ByHand, Gate};
use crate::model::flag::Served;

fn rendered(story: &Story) -> String {
    Renderer::new().unwrap().render(story).unwrap()
}

#[test]
fn the_example_reads_as_it_stands_in_the_documentation() {
    let text = rendered(&example::story());
    let documentation = include_str!("../../../docs/incidents.md");
    if std::env::var_os("REARGUARD_PRINT").is_some() {
        println!("{text}");
    }
    assert!(documentation.contains(text.trim_end()), "docs/incidents.md should contain:\n{text}");
}

#[test]
fn a_failed_rollback_says_what_to_do_first() {
    let mut story = example::story();
    story.flip = Some(Flip {
        outcome: Some(FlipOutcome::Failed),
        detail: "answered 403 Forbidden: token lacks `operate`".into(),
        attempts: 3,
        ..Flip::default()
    });
    let text = rendered(&story);
    assert!(text.starts_with("# support-copilot.prompt-v18 ROLLBACK FAILED"));
    assert!(text.contains(
        "ROLLBACK FAILED, ACT BY HAND: the variant may still be served to everybody. answered 403"
    ));
    let kill = text.find("rearguard flag kill").unwrap();
    let ack = text.find("rearguard incident ack").unwrap();
    assert!(kill < ack);
}

#[test]
fn a_flag_of_another_platform_is_told_what_works_there() {
    let served = Served {
        platform: "prod".into(),
        kind: "launchdarkly".into(),
        key: "copilot".into(),
        id: None,
        control: "v17".into(),
        treatment: "v18".into(),
        worst: std::time::Duration::from_secs(20),
    };
    let failed = Flip { outcome: Some(FlipOutcome::Failed), ..Flip::default() };
    for (flip, gate, says) in [
        (Some(failed), Gate::Act, "at `prod` (launchdarkly): serve `v17` of `copilot` to everybody"),
        (None, Gate::AutomationOff, "take it back with the first command below"),
    ] {
        let mut story = example::story();
        (story.flip, story.opener.gate, story.served) = (flip, gate, Some(served.clone()));
        let text = rendered(&story);
        assert!(!text.contains("flag kill"), "it would be refused: {text}");
        assert!(
            text.contains("rearguard flag rollback ai.support-copilot.prompt-v18 --wait --reason"),
            "{text}"
        );
        for said in [says, "put `copilot` back at `prod` (launchdarkly) by hand"] {
            assert!(text.contains(said), "lacks `{said}`:\n{text}");
        }
    }
}

#[test]
fn a_rollback_by_hand_says_who_and_why_and_measures_nothing() {
    let mut story = example::story();
    story.opener.by = Some(ByHand { actor: "ann".into(), reason: "leaks | data".into() });
    story.opener.evidence = Evidence::default();
    story.opener.confirmed_by = None;
    let text = rendered(&story);
    assert!(text.starts_with("# support-copilot.prompt-v18 rolled back by ann: leaks"), "{text}");
    for said in
        ["## Who rolled back, and why", "| By hand | **ann**: leaks ¦ data |", "ann rolled back by hand"]
    {
        assert!(text.contains(said), "lacks `{said}`:\n{text}");
    }
    for not in ["What broke", "| Samples", "| Confirmed", "the condition became true"] {
        assert!(!text.contains(not), "`{not}` in:\n{text}");
    }
}

#[test]
fn a_withheld_rollback_says_why_and_what_to_do() {
    let mut story = example::story();
    story.flip = None;
    story.opener.gate = Gate::AutomationOff;
    story.joined[0].gate = Gate::FlipLimit { limit: 5, of: "in all".into() };
    let text = rendered(&story);
    assert!(
        text.starts_with("# support-copilot.prompt-v18 breached, not rolled back: faithfulness_1h < 0.92")
    );
    for said in [
        "NOT ROLLED BACK: automation is switched off. The variant is still served to everybody",
        "| 10:47:30 | **withheld**: automation is switched off | 4 min 30 s |",
        "NOT ROLLED BACK: the limit of 5 rollbacks in ten minutes (in all) is used up |",
        "2. `rearguard automation on --reason …` lets Rearguard act again",
        "rearguard automation on --reason '…' ",
    ] {
        assert!(text.contains(said), "lacks `{said}`:\n{text}");
    }
    assert!(!text.contains("automation off --reason"), "{text}");
}

#[test]
fn a_burst_before_the_breach_is_not_taken_for_its_cause() {
    let mut story = example::story();
    // One terrible minute at 10:10 made the condition true; minutes turned bad for good at 10:33, with a lucky one at 10:36.
    let decision = &mut story.opener;
    let first = decision.evidence.picture[0].minute;
    decision.crossing = first.plus(23).start();
    decision.evidence.picture[23].value = Some(0.0);
    decision.evidence.picture[49].value = Some(0.93);
    let text = rendered(&story);
    assert!(text.contains("beginning with what changed before 10:33 UTC"), "{text}");
    let crossed = text.find("the condition became true").unwrap();
    let turned = text.find("minutes turned bad and stayed so").unwrap();
    assert!(crossed < turned, "{text}");
    // A run that began after t0 says nothing of the breach.
    let decision = &mut story.opener;
    for point in &mut decision.evidence.picture[46..57] {
        point.value = Some(0.93);
    }
    let text = rendered(&story);
    assert!(text.contains("beginning with what changed before 10:10 UTC"), "{text}");
}

#[test]
fn hostile_text_cannot_break_the_tables() {
    let mut story = example::story();
    story.opener.condition = "a < 1 | b > 2\n# owned `x`".into();
    story.log = vec![(story.committed, "line\n| broken |".into())];
    let text = rendered(&story);
    assert!(!text.contains("\n# owned"));
    assert!(!text.contains("\n| broken |"));
    assert_eq!(quoted("it's"), r"'it'\''s'");
    assert_eq!(quoted("ai.a-b/c"), "ai.a-b/c");
    assert_eq!(quoted("$(rm)"), "'$(rm)'");
}

#[test]
fn evidence_before_the_window_crossed_is_not_called_a_breach_of_the_window() {
    let mut story = example::story();
    let decision = &mut story.opener;
    decision.confirmed_by = Some(ConfirmedBy::Evidence);
    decision.crossing = decision.t0;
    decision.evidence.value = Some(0.951);
    decision.evidence.worst_pair = None;
    decision.evidence.statement = "1h 0.9510; last 5 min 0.7100; D 2.1e6 ≥ 1.6e6".into();
    let text = rendered(&story);
    assert!(text.contains("| Measured | **0.951, not yet below the limit of 0.92** |"), "{text}");
    assert!(text.contains("| Confirmed | by evidence: 1h 0.9510; last 5 min 0.7100; D 2.1e6 ≥ 1.6e6 |"));
    assert!(text.contains("decided: there was enough evidence"));
    assert!(!text.contains("the condition became true") && !text.contains("Not one bad minute"));
}

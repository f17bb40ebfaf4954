//! The table: what every (state, verdict) cell does.

use super::super::rule::{Confirm, RuleAction, Side, Stat};
use super::super::testkit;
use super::*;

const NOW: Minute = Minute(1_000);

/// Every verdict, and what makes it a breach.
fn verdicts() -> Vec<(&'static str, Verdict, Option<ConfirmedBy>)> {
    let inconclusive = |name, reason| (name, Verdict::Inconclusive { reason }, None);
    vec![
        ("pass", Verdict::Pass, None),
        ("breach", Verdict::Breach, Some(ConfirmedBy::Persistence)),
        ("proof", Verdict::Breach, Some(ConfirmedBy::Evidence)),
        inconclusive("doubtful", Reason::Doubtful),
        inconclusive("no data", Reason::NoData),
        inconclusive("not finite", Reason::NotFinite),
        inconclusive("few samples", Reason::TooFewSamples { have: 1, need: 100 }),
        inconclusive("single minute", Reason::SingleMinute { pair: NOW }),
        inconclusive("few without", Reason::TooFewWithout { pair: NOW, have: 99, need: 100 }),
        inconclusive("few bad", Reason::FewBadMinutes { bad: 2 }),
        inconclusive("within noise", Reason::WithinNoise),
        inconclusive("unproven", Reason::Unproven { evidence: 1.0, needed: 9.0 }),
        inconclusive("over", Reason::Over),
        inconclusive("masked", Reason::Masked { pair: NOW }),
        ("error", Verdict::Error { reason: Reason::NoBaseline }, None),
        inconclusive("missing", Reason::Missing { until: NOW }),
    ]
}

fn judgement(verdict: Verdict, by: Option<ConfirmedBy>) -> Judgement {
    Judgement { verdict, literal: None, samples: 500, bad_minutes: 0, by, proof: None }
}

fn pending(held: u32, last: i64) -> State {
    State::Pending(Pending { first: Minute(990), last: Minute(last), held, firm: Some(held) })
}

/// Pending, and within noise at the last closing.
fn doubted(held: u32) -> State {
    State::Pending(Pending { first: Minute(990), last: Minute(999), held, firm: None })
}

fn firing(acted: bool, clear: u32) -> State {
    State::Firing(Firing {
        since: Minute(995),
        first: Minute(990),
        held: 3,
        decision: "d".into(),
        action: RuleAction::Rollback,
        incident: None,
        acted,
        withheld: None,
        froze: false,
        rising: None,
        tries: 0,
        clear,
    })
}

fn latched() -> State {
    State::Latched { since: Minute(995), decision: "d".into() }
}

/// What a cell leads to: the state's name with its counters, and the change.
fn outcome(state: &State, judgement: &Judgement, armed: bool, clear: Option<bool>) -> String {
    let rule = testkit::rule("faithfulness", Stat::Mean, 60, Side::Below, 0.9, RuleAction::Rollback);
    let closing = Closing { rule: &rule, judgement, at: NOW, armed, clear, latched: false };
    let mut alert = Alert { state: state.clone(), ..Alert::default() };
    let change = match alert.close(&closing) {
        Change::None => "",
        Change::Began => " began",
        Change::Ended => " ended",
        Change::Confirmed(_) => " CONFIRMED",
        Change::Doubted(_) => " DOUBTED",
        Change::Escalated(..) => " ESCALATED",
        Change::Withheld(..) => " WITHHELD",
        Change::Resolved(_) => " resolved",
    };
    let state = match alert.state {
        State::Quiet => "quiet".into(),
        State::Pending(p) => format!("pending {}", p.held),
        State::Firing(f) => format!("firing {}", f.clear),
        State::Latched { .. } => "latched".into(),
    };
    state + change
}

/// A pause that stands in for a rollback, and how long a breach beyond noise has risen since.
fn paused(firm: Option<u32>) -> State {
    let State::Firing(firing) = firing(true, 5) else { unreachable!() };
    let rising = Pending { first: Minute(996), last: Minute(999), held: 2, firm };
    State::Firing(Firing { action: RuleAction::PauseRollout, froze: true, rising: Some(rising), ..firing })
}

/// A rollback that was withheld, and how long its breach has held beyond noise.
fn withheld(firm: Option<u32>) -> State {
    let State::Firing(firing) = firing(false, 5) else { unreachable!() };
    let rising = Pending { first: Minute(996), last: Minute(999), held: 3, firm };
    State::Firing(Firing { rising: Some(rising), ..firing })
}

#[test]
fn every_cell_of_state_and_verdict() {
    // Columns: pass, breach, proof, doubtful, then all that is unknown, then all else that is not a breach. `clear` is unknown
    // to the condition unless the row says so.
    type Row = (&'static str, State, bool, Option<bool>, [&'static str; 6]);
    #[rustfmt::skip]
    let table: Vec<Row> = vec![
        ("quiet", State::Quiet, true, None,
            ["quiet", "pending 0 began", "pending 0 CONFIRMED", "pending 0 began", "quiet", "quiet"]),
        ("quiet, blind", State::Quiet, false, None,
            ["quiet", "pending 0 began", "pending 0 began", "pending 0 began", "quiet", "quiet"]),
        ("pending", pending(1, 999), true, None,
            ["quiet ended", "pending 2", "pending 2 CONFIRMED", "pending 2", "pending 1", "quiet ended"]),
        ("pending, due", pending(2, 999), true, None,
            ["quiet ended", "pending 3 CONFIRMED", "pending 3 CONFIRMED", "pending 3 DOUBTED", "pending 2", "quiet ended"]),
        ("pending, due, within noise before", doubted(2), true, None,
            ["quiet ended", "pending 3", "pending 3 CONFIRMED", "pending 3 DOUBTED", "pending 2", "quiet ended"]),
        ("pending, due, blind", pending(2, 999), false, None,
            ["quiet ended", "pending 3", "pending 3", "pending 3", "pending 2", "quiet ended"]),
        ("pending, not quite a window of ignorance ago", pending(2, 940), true, None,
            ["quiet ended", "pending 3 CONFIRMED", "pending 3 CONFIRMED", "pending 3 DOUBTED", "pending 2", "quiet ended"]),
        ("pending, a window of ignorance ago", pending(2, 939), true, None,
            ["quiet ended", "pending 3 CONFIRMED", "pending 3 CONFIRMED", "pending 3 DOUBTED", "quiet ended", "quiet ended"]),
        ("firing", firing(true, 5), true, None,
            ["firing 5", "firing 0", "firing 0", "firing 0", "firing 5", "firing 5"]),
        ("firing, not clear", firing(true, 5), true, Some(false),
            ["firing 0", "firing 0", "firing 0", "firing 0", "firing 0", "firing 0"]),
        ("firing, clear and due", firing(true, 14), true, Some(true),
            ["quiet resolved", "firing 0", "firing 0", "firing 0", "quiet resolved", "quiet resolved"]),
        ("firing, due only because `dwell` counts", firing(true, 13), true, Some(true),
            ["firing 14", "firing 0", "firing 0", "firing 0", "firing 14", "firing 14"]),
        ("firing, clear and due, blind", firing(true, 14), false, Some(true),
            ["firing 15", "firing 0", "firing 0", "firing 0", "firing 15", "firing 15"]),
        ("withheld", withheld(Some(3)), true, None,
            ["firing 5", "firing 0 WITHHELD", "firing 0 WITHHELD", "firing 0", "firing 5", "firing 5"]),
        ("withheld, broken off since", withheld(Some(1)), true, None,
            ["firing 5", "firing 0", "firing 0 WITHHELD", "firing 0", "firing 5", "firing 5"]),
        ("withheld, within noise before", withheld(None), true, None,
            ["firing 5", "firing 0", "firing 0 WITHHELD", "firing 0", "firing 5", "firing 5"]),
        ("withheld, blind", withheld(Some(3)), false, None,
            ["firing 5", "firing 0", "firing 0", "firing 0", "firing 5", "firing 5"]),
        ("paused instead", paused(Some(0)), true, None,
            ["firing 5", "firing 0", "firing 0 ESCALATED", "firing 0", "firing 5", "firing 5"]),
        ("paused instead, due", paused(Some(2)), true, None,
            ["firing 5", "firing 0 ESCALATED", "firing 0 ESCALATED", "firing 0", "firing 5", "firing 5"]),
        ("paused instead, due, blind", paused(Some(2)), false, None,
            ["firing 5", "firing 0", "firing 0", "firing 0", "firing 5", "firing 5"]),
        ("paused instead, within noise before", paused(None), true, None,
            ["firing 5", "firing 0", "firing 0 ESCALATED", "firing 0", "firing 5", "firing 5"]),
        ("latched", latched(), true, Some(true), ["latched"; 6]),
    ];
    for (row, state, armed, clear, expected) in table {
        for (column, verdict, by) in verdicts() {
            let place = match column {
                "pass" => 0,
                "breach" => 1,
                "proof" => 2,
                "doubtful" => 3,
                "no data" | "not finite" | "few samples" | "missing" | "error" => 4,
                _ => 5,
            };
            let found = outcome(&state, &judgement(verdict, by), armed, clear);
            assert_eq!(found, expected[place], "{row} × {column}");
        }
    }
}

#[test]
fn what_was_withheld_is_looked_at_again_unless_nothing_can_change_it() {
    use RuleAction::{Notify, PauseRollout, Rollback};
    let off = || Some(Gate::AutomationOff);
    for (acted, action, withheld, again) in [
        (false, Rollback, off(), true),
        (false, PauseRollout, off(), true),
        (true, Rollback, None, false),
        (false, Notify, off(), false),
        (false, Rollback, Some(Gate::DryRun), false),
    ] {
        let State::Firing(firing) = firing(acted, 0) else { unreachable!() };
        let firing = Firing { action, withheld, ..firing };
        assert_eq!(firing.is_looked_at_again(), again, "{firing:?}");
    }
}

#[test]
fn a_dwell_of_nothing_still_needs_one_closing_that_is_clear() {
    let mut rule = testkit::rule("faithfulness", Stat::Mean, 60, Side::Below, 0.9, RuleAction::PauseRollout);
    rule.dwell = Duration::ZERO;
    let pass = judgement(Verdict::Pass, None);
    for (clear, stays) in [(Some(false), true), (None, true), (Some(true), false)] {
        let closing = Closing { rule: &rule, judgement: &pass, at: NOW, armed: true, clear, latched: false };
        let mut alert = Alert { state: firing(true, 0), ..Alert::default() };
        alert.close(&closing);
        assert_eq!(alert.phase() == Phase::Firing, stays, "{clear:?}");
    }
}

/// At which of eight closings, the fourth of them a break, an alert asks for its own action; and the breach it rests on.
fn asks_again(state: State) -> Vec<(usize, Minute, u32)> {
    let rule = testkit::rule("faithfulness", Stat::Mean, 60, Side::Below, 0.9, RuleAction::Rollback);
    let mut alert = Alert { state, ..Alert::default() };
    let breach = judgement(Verdict::Breach, Some(ConfirmedBy::Persistence));
    let pass = judgement(Verdict::Pass, None);
    let course = [&breach, &breach, &breach, &pass, &breach, &breach, &breach, &breach];
    let asked = course.into_iter().enumerate().filter_map(|(place, judgement)| {
        let at = NOW.plus(place as i64);
        let closing = Closing { rule: &rule, judgement, at, armed: true, clear: None, latched: false };
        match alert.close(&closing) {
            Change::Escalated(_, rising) | Change::Withheld(_, rising) => {
                Some((place, rising.first, rising.held))
            }
            _ => None,
        }
    });
    asked.collect()
}

/// The breach has to hold for `for` on its own, and a break begins it anew.
#[test]
fn what_is_not_carried_out_yet_waits_for_anew_after_a_break() {
    let State::Firing(stands_in) = paused(None) else { panic!("a pause is firing") };
    let stands_in = State::Firing(Firing { rising: None, ..stands_in });
    assert_eq!(asks_again(stands_in), [(7, NOW.plus(4), 3)]);
    // What was withheld has waited already, until the break.
    let before = (0..3).map(|place| (place, Minute(996), 4 + place as u32));
    assert_eq!(asks_again(withheld(Some(3))), before.chain([(7, NOW.plus(4), 3)]).collect::<Vec<_>>());
}

#[test]
fn evidence_counts_from_the_first_closing_and_anew_after_what_it_led_to() {
    let rule = testkit::rule("faithfulness", Stat::Mean, 60, Side::Below, 0.9, RuleAction::PauseRollout);
    let pass = judgement(Verdict::Pass, None);
    let closing = |rule, at| Closing {
        rule,
        judgement: &pass,
        at: Minute(at),
        armed: true,
        clear: Some(true),
        latched: false,
    };
    let mut alert = Alert::default();
    alert.close(&closing(&rule, 10));
    assert_eq!(alert.evidence_since, None, "this rule asks for persistence");
    let either = Rule { confirm: Confirm::Either, ..rule.clone() };
    alert.close(&closing(&either, 11));
    alert.close(&closing(&either, 12));
    assert_eq!(alert.evidence_since, Some(Minute(11)));
    alert.decided(firing(false, 0), Minute(13));
    assert_eq!(alert.evidence_since, Some(Minute(11)), "withheld: it goes on counting");
    alert.decided(firing(true, 14), Minute(14));
    assert_eq!(alert.evidence_since, Some(Minute(15)));
    assert!(matches!(alert.close(&closing(&either, 40)), Change::Resolved(_)));
    assert_eq!(alert.evidence_since, Some(Minute(41)));
}

#[test]
fn silence_and_masks_are_told_once_after_they_have_lasted() {
    let mut rule = testkit::rule("faithfulness", Stat::Mean, 60, Side::Below, 0.9, RuleAction::Rollback);
    let mut alert = Alert::default();
    let mut told = Vec::new();
    for minute in 0..40 {
        let judgement = judgement(Verdict::Inconclusive { reason: Reason::NoData }, None);
        let closing = Closing {
            rule: &rule,
            judgement: &judgement,
            at: Minute(minute),
            armed: minute != 15,
            clear: None,
            latched: false,
        };
        if alert.notices(&closing).silence {
            told.push(minute);
        }
    }
    assert_eq!(told, [16], "after 15 minutes, but not while blind");
    rule.no_data = NoData::Pause;
    let judgement = judgement(Verdict::Inconclusive { reason: Reason::NoData }, None);
    let mut alert = Alert::default();
    let pauses: Vec<i64> = (0..10)
        .filter(|m| {
            let at = Minute(*m);
            let closing =
                Closing { rule: &rule, judgement: &judgement, at, armed: true, clear: None, latched: false };
            alert.notices(&closing).pause_on_silence
        })
        .collect();
    assert_eq!(pauses, [3]);
}

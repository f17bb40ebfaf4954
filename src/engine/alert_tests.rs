//! The table: what every (state, verdict) cell does.

use super::super::rule::{RuleAction, Side, Stat};
use super::super::testkit;
use super::*;

const NOW: Minute = Minute(1_000);

fn verdicts() -> Vec<(&'static str, Verdict)> {
    let inconclusive = |reason| Verdict::Inconclusive { reason };
    vec![
        ("pass", Verdict::Pass),
        ("breach", Verdict::Breach),
        ("no data", inconclusive(Reason::NoData)),
        ("not finite", inconclusive(Reason::NotFinite)),
        ("few samples", inconclusive(Reason::TooFewSamples { have: 1, need: 100 })),
        ("single minute", inconclusive(Reason::SingleMinute { pair: NOW })),
        ("few bad", inconclusive(Reason::FewBadMinutes { bad: 2 })),
        ("within noise", inconclusive(Reason::WithinNoise)),
        ("masked", inconclusive(Reason::Masked { pair: NOW })),
        ("error", Verdict::Error { reason: Reason::NoBaseline }),
        ("missing", inconclusive(Reason::Missing { until: NOW })),
    ]
}

fn pending(held: u32, last: i64) -> State {
    State::Pending(Pending { first: Minute(990), last: Minute(last), held })
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
        tries: 0,
        clear,
    })
}

fn latched() -> State {
    State::Latched { since: Minute(995), decision: "d".into() }
}

/// What a cell leads to: the state's name with its counters, and the change.
fn outcome(state: &State, verdict: &Verdict, armed: bool, clear: Option<bool>) -> String {
    let rule = testkit::rule("faithfulness", Stat::Mean, 60, Side::Below, 0.9, RuleAction::Rollback);
    let judgement = Judgement { verdict: verdict.clone(), literal: None, samples: 500, bad_minutes: 0 };
    let closing = Closing { rule: &rule, judgement: &judgement, at: NOW, armed, clear, latched: false };
    let mut alert = Alert { state: state.clone(), ..Alert::default() };
    let change = match alert.close(&closing) {
        Change::None => "",
        Change::Began => " began",
        Change::Ended => " ended",
        Change::Confirmed(_) => " CONFIRMED",
        Change::Withheld(_) => " WITHHELD",
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

#[test]
fn every_cell_of_state_and_verdict() {
    // Columns as in `verdicts()`; `clear` is unknown to the condition unless the row says so.
    type Row = (&'static str, State, bool, Option<bool>, [&'static str; 11]);
    #[rustfmt::skip]
    let table: Vec<Row> = vec![
        ("quiet", State::Quiet, true, None,
            ["quiet", "pending 0 began", "quiet", "quiet", "quiet", "quiet", "quiet", "quiet", "quiet", "quiet", "quiet"]),
        ("pending", pending(1, 999), true, None,
            ["quiet ended", "pending 2", "pending 1", "pending 1", "pending 1", "quiet ended", "quiet ended", "quiet ended", "quiet ended", "pending 1", "pending 1"]),
        ("pending, due", pending(2, 999), true, None,
            ["quiet ended", "pending 3 CONFIRMED", "pending 2", "pending 2", "pending 2", "quiet ended", "quiet ended", "quiet ended", "quiet ended", "pending 2", "pending 2"]),
        ("pending, due, blind", pending(2, 999), false, None,
            ["quiet ended", "pending 3", "pending 2", "pending 2", "pending 2", "quiet ended", "quiet ended", "quiet ended", "quiet ended", "pending 2", "pending 2"]),
        ("pending, a window of ignorance ago", pending(2, 939), true, None,
            ["quiet ended", "pending 3 CONFIRMED", "quiet ended", "quiet ended", "quiet ended", "quiet ended", "quiet ended", "quiet ended", "quiet ended", "quiet ended", "quiet ended"]),
        ("firing", firing(true, 5), true, None,
            ["firing 5", "firing 0", "firing 5", "firing 5", "firing 5", "firing 5", "firing 5", "firing 5", "firing 5", "firing 5", "firing 5"]),
        ("firing, not clear", firing(true, 5), true, Some(false),
            ["firing 0", "firing 0", "firing 0", "firing 0", "firing 0", "firing 0", "firing 0", "firing 0", "firing 0", "firing 0", "firing 0"]),
        ("firing, clear and due", firing(true, 14), true, Some(true),
            ["quiet resolved", "firing 0", "quiet resolved", "quiet resolved", "quiet resolved", "quiet resolved", "quiet resolved", "quiet resolved", "quiet resolved", "quiet resolved", "quiet resolved"]),
        ("firing, clear and due, blind", firing(true, 14), false, Some(true),
            ["firing 15", "firing 0", "firing 15", "firing 15", "firing 15", "firing 15", "firing 15", "firing 15", "firing 15", "firing 15", "firing 15"]),
        ("withheld", firing(false, 5), true, None,
            ["firing 5", "firing 0 WITHHELD", "firing 5", "firing 5", "firing 5", "firing 5", "firing 5", "firing 5", "firing 5", "firing 5", "firing 5"]),
        ("withheld, blind", firing(false, 5), false, None,
            ["firing 5", "firing 0", "firing 5", "firing 5", "firing 5", "firing 5", "firing 5", "firing 5", "firing 5", "firing 5", "firing 5"]),
        ("latched", latched(), true, Some(true), ["latched"; 11]),
    ];
    for (row, state, armed, clear, expected) in table {
        for ((column, verdict), expected) in verdicts().iter().zip(expected) {
            assert_eq!(outcome(&state, verdict, armed, clear), expected, "{row} × {column}");
        }
    }
}

#[test]
fn silence_and_masks_are_told_once_after_they_have_lasted() {
    let mut rule = testkit::rule("faithfulness", Stat::Mean, 60, Side::Below, 0.9, RuleAction::Rollback);
    let mut alert = Alert::default();
    let mut told = Vec::new();
    for minute in 0..40 {
        let judgement = Judgement {
            verdict: Verdict::Inconclusive { reason: Reason::NoData },
            literal: None,
            samples: 0,
            bad_minutes: 0,
        };
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
    let judgement = Judgement {
        verdict: Verdict::Inconclusive { reason: Reason::NoData },
        literal: None,
        samples: 0,
        bad_minutes: 0,
    };
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

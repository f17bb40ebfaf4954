use serde_json::{Value, json};

use super::*;
use crate::engine::input::Source;
use crate::engine::output::{AlertKey, Report, SourceReport};
use crate::engine::rule::{Confirm, RuleHash};
use crate::model::time::{MINUTE_MS, Minute};
use serde::Deserialize as _;

const NOW: i64 = 1_689_160_000_000;

fn at(minutes_ago: i64) -> Timestamp {
    Timestamp::from_millis(NOW - minutes_ago * MINUTE_MS)
}

fn alert(
    condition: &str,
    action: RuleAction,
    phase: Phase,
    verdict: &str,
    values: [Option<f64>; 2],
) -> AlertReport {
    AlertReport {
        key: AlertKey {
            flag: "ai.support-copilot.prompt-v18".into(),
            rule: condition.into(),
            hash: RuleHash("00".into()),
            slice: Scope::All,
        },
        variant: "support-copilot.prompt-v18".into(),
        action,
        condition: condition.into(),
        phase,
        since: (phase != Phase::Quiet).then(|| at(68)),
        verdict: verdict.into(),
        value: values[0],
        threshold: values[1],
        samples: 5214,
        interval: None,
        confirm: Confirm::Either,
        evidence: None,
        evidence_needed: None,
        dry_run: false,
        withheld: None,
    }
}

fn page(report: Report, incidents: Value, counts: Value) -> Page {
    Page {
        address: "http://127.0.0.1:8080".into(),
        now: Timestamp::from_millis(NOW),
        status: Status {
            version: "0.1.0".into(),
            now: String::new(),
            database: "sqlite:/var/lib/rearguard/rearguard.db".into(),
            report,
            canary: None,
            outbox: super::super::Outbox { counts: Vec::deserialize(&counts).unwrap() },
            outbox_oldest_seconds: 0.0,
        },
        incidents: Vec::deserialize(&incidents).unwrap(),
        flags: Vec::new(),
        all: false,
    }
}

fn alerts() -> Vec<AlertReport> {
    let mut sliced = alert(
        "abstain_rate_5m > 0.30",
        RuleAction::PauseRollout,
        Phase::Firing,
        "breach",
        [Some(0.41), Some(0.3)],
    );
    sliced.key.slice = Scope::try_from("tenant:acme".to_owned()).unwrap();
    (sliced.evidence, sliced.evidence_needed) = (Some(4.2e7), Some(1.05e6));
    let mut calm = alert(
        "abstain_rate_5m > 0.30",
        RuleAction::PauseRollout,
        Phase::Quiet,
        "pass",
        [Some(0.01), Some(0.3)],
    );
    calm.key.slice = Scope::try_from("tenant:calm".to_owned()).unwrap();
    let with = |d: f64, alert: AlertReport| AlertReport {
        evidence: Some(d),
        evidence_needed: Some(1.05e6),
        ..alert
    };
    vec![
        alert(
            "cost_p95_1h > 0.05",
            RuleAction::PauseRollout,
            Phase::Quiet,
            "pass",
            [Some(0.0182), Some(0.05)],
        ),
        with(
            3.0,
            alert(
                "ai.injection.suspected_rate_1h > baseline*3",
                RuleAction::Rollback,
                Phase::Quiet,
                "inconclusive: 12 samples of the 100 needed",
                [None, None],
            ),
        ),
        with(
            2_488.0,
            alert(
                "faithfulness_6h < 0.90",
                RuleAction::Rollback,
                Phase::Latched,
                "breach",
                [Some(0.8712), Some(0.9)],
            ),
        ),
        calm,
        sliced,
    ]
}

fn busy() -> Page {
    let report = Report {
        event_time: Some(Timestamp::from_millis(NOW - 29_000)),
        closed: Some(Minute(NOW / MINUTE_MS - 2)),
        armed: true,
        automation: true,
        series: 120,
        sources: vec![SourceReport {
            source: Source { topic: "events".into(), partition: 0 },
            next_offset: 12,
            watermark: None,
            idle: false,
            fates: Fates {
                consumed: 1_203_110,
                windowed: 1_190_000,
                other: 12_000,
                late: 1_100,
                dead_letter: 10,
                ..Fates::default()
            },
        }],
        alerts: alerts(),
        latches: vec![LatchReport {
            flag: "ai.support-copilot.prompt-v18".into(),
            scope: Scope::All,
            decision: "d".into(),
            incident: "inc-7f3a01c2d4e5".into(),
            at: at(68),
            outcome: Some(FlipOutcome::Verified),
        }],
        ..Report::default()
    };
    let incidents = json!([{
        "id": "inc-7f3a01c2d4e5", "status": "open", "severity": "critical", "failure_class": "quality_regression",
        "flag": "ai.support-copilot.prompt-v18", "opened": at(68).as_millis(),
        "title": "support-copilot.prompt-v18 rolled back: faithfulness_6h < 0.90"
    }]);
    page(report, incidents, json!([{"kind": "page", "status": "standing", "rows": 1}]))
}

#[test]
fn the_page_reads_in_five_seconds() {
    let text = busy().render(Paint::new(false));
    assert_eq!(text, include_str!("busy.txt"), "\n{text}");
    for line in text.lines() {
        assert!(line.chars().count() <= 100, "{line}");
    }
}

#[test]
fn evidence_is_shown_as_a_part_of_what_is_needed() {
    let mut page = busy();
    let needed = 525_600.0;
    let mut shown = |d: Option<f64>, phase| {
        let alert = &mut page.status.report.alerts[0];
        (alert.evidence, alert.evidence_needed, alert.phase) = (d, d.map(|_| needed), phase);
        let text = page.render(Paint::new(false));
        let lines: Vec<&str> = text.lines().collect();
        let row = lines.iter().position(|line| line.contains("cost_p95_1h > 0.05 → pause")).unwrap();
        let before = lines[row].split("0.05").nth(1).unwrap().trim();
        assert!(lines.iter().all(|line| line.chars().count() <= 100), "{text}");
        (before.split("  ").next().unwrap().to_owned(), lines[row + 1].trim().to_owned())
    };
    for (d, wanted) in [
        (None, "-"),
        (Some(0.0), "<0.1%"),
        (Some(360.0), "<0.1%"),
        (Some(0.002 * needed), "0.2%"),
        (Some(0.0996 * needed), "9%"),
        (Some(0.43 * needed), "43%"),
        (Some(0.999_9 * needed), "99%"),
        (Some(needed), "enough"),
        (Some(1e150), "enough"),
    ] {
        assert_eq!(shown(d, Phase::Quiet).0, wanted, "{d:?}");
    }
    assert_eq!(shown(Some(2488.0), Phase::Pending).1, "D 2488 of 5.3e5");
    assert!(!shown(Some(2488.0), Phase::Quiet).1.starts_with("D "));
}

#[test]
fn a_withheld_rollback_is_seen_first() {
    let mut page = busy();
    page.status.report.latches.clear();
    page.status.report.alerts[2].phase = Phase::Firing;
    page.status.report.alerts[2].withheld = Some("automation is switched off".into());
    page.incidents = Vec::deserialize(&json!([{
        "id": "inc-1", "status": "open", "severity": "critical", "flag": "ai.support-copilot.prompt-v18",
        "opened": at(68).as_millis(), "title": "support-copilot.prompt-v18: faithfulness_6h < 0.90",
        "withheld": {"scope": "all", "why": "automation is switched off", "advice": "Switch it on."}
    }]))
    .unwrap();
    let text = page.render(Paint::new(false));
    let text = text.lines().map(str::trim).collect::<Vec<_>>().join("\n");
    for said in [
        "ARMED; ai.support-copilot.prompt-v18 NOT ROLLED BACK: automation is switched off\n1 incident is",
        "faithfulness_6h < 0.90\nNOT ROLLED BACK: automation is switched off\nSwitch it on.\n",
        "faithfulness_6h < 0.90 → rollback\nNOT ROLLED BACK: automation is\nswitched off\nD 2488 of 1.0e6\n",
    ] {
        assert!(text.contains(said), "lacks `{said}`:\n{text}");
    }
    page.incidents.clear();
    page.status.report.alerts[2].dry_run = true;
    let text = page.render(Paint::new(false));
    assert!(text.contains("not rolled back: it is a dry run"), "{text}");
}

#[test]
fn a_withheld_pause_says_why_and_one_that_stands_in_for_a_rollback_too() {
    let mut page = busy();
    let pause = &mut page.status.report.alerts[4];
    pause.withheld = Some("no configured flag serves this variant, so there is nothing to flip".into());
    page.status.report.alerts[2].phase = Phase::Firing;
    let text = page.render(Paint::new(false));
    let text = text.lines().map(str::trim).collect::<Vec<_>>().join(" ");
    for said in [
        "[tenant:acme] → pause NOT PAUSED: no configured flag serves this variant",
        "faithfulness_6h < 0.90 → rollback the share is held instead of rolled back",
    ] {
        assert!(text.contains(said), "lacks `{said}`:\n{text}");
    }
    page.status.report.alerts[4].dry_run = true;
    let text = page.render(Paint::new(false));
    assert!(text.contains("not paused: it is a dry run"), "{text}");
}

#[test]
fn the_headline_says_whether_it_acts() {
    let good = || Report { armed: true, automation: true, event_time: Some(at(0)), ..Report::default() };
    let why = || Some("event time is 300 s behind".to_owned());
    let off = "AUTOMATION OFF: it judges and pages, and rolls nothing back";
    let blind = "NOT ARMED, nothing is rolled back: event time is 300 s behind";
    for (report, wanted, attention) in [
        (good(), vec!["ARMED, nothing needs you"], 0),
        (
            Report { event_time: None, ..good() },
            vec!["ARMED; no event has been read yet, so nothing can be judged"],
            1,
        ),
        (
            Report { dry_run: true, ..good() },
            vec!["ARMED, DRY RUN: it says what it would do and does nothing"],
            0,
        ),
        (Report { automation: false, ..good() }, vec![off], 1),
        (Report { armed: false, why_not_armed: why(), ..good() }, vec![blind], 1),
        (Report { armed: false, automation: false, why_not_armed: why(), ..good() }, vec![blind, off], 2),
    ] {
        let page = page(report, json!([]), json!([]));
        let text = page.render(Paint::new(false));
        let lines: Vec<&str> = text.lines().take_while(|line| !line.is_empty()).collect();
        assert_eq!((lines, page.attention().len()), (wanted, attention));
    }
}

#[test]
fn the_canary_has_a_line_and_asks_for_attention_when_it_does_not_come_back() {
    let good = || Report { armed: true, automation: true, event_time: Some(at(0)), ..Report::default() };
    let proven = Standing { proven: Some(at(2)), called: Some(at(1)), ..Standing::default() };
    let doubts = vec!["the last canary that came back is 400 s old, more than 300 s".to_owned()];
    let refused = Some("answered 404".to_owned());
    for (standing, line, attention) in [
        (
            Standing { starting: true, doubts: doubts.clone(), ..Standing::default() },
            "the first one is on its way",
            None,
        ),
        (proven.clone(), "written 2 min ago and seen; dead-man's switch called 60 s ago", None),
        (
            Standing { refused, ..proven.clone() },
            "written 2 min ago and seen; dead-man's switch: answered 404",
            Some("the dead-man's switch does not take calls: answered 404"),
        ),
        (
            Standing { doubts: doubts.clone(), ..proven },
            doubts[0].as_str(),
            Some(
                "the dead-man's switch is not called: the last canary that came back is 400 s old, more than 300 s",
            ),
        ),
    ] {
        let mut page = page(good(), json!([]), json!([]));
        page.status.canary = Some(standing);
        let text = page.render(Paint::new(false));
        let shown = text.lines().find(|l| l.trim_start().starts_with("canary")).expect("a line");
        assert!(shown.contains(line), "{shown}");
        assert_eq!(page.attention(), attention.into_iter().collect::<Vec<_>>());
    }
    assert!(!page(good(), json!([]), json!([])).render(Paint::new(false)).contains("canary"));
}

#[test]
fn colours_are_only_used_when_wanted() {
    assert!(!busy().render(Paint::new(false)).contains('\x1b'));
    assert!(busy().render(Paint::new(true)).contains("\x1b[1;31mlatched\x1b[0m"));
}

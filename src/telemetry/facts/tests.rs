use std::collections::BTreeSet;

use super::*;
use crate::telemetry::{Metrics, record};

const SECOND: Duration = Duration::from_secs(1);

fn record_everything() {
    record(&EventsCounted { topic: "events", partition: 0, fates: &[("consumed", 3), ("windowed", 3)] });
    record(&CanaryWritten { partitions: Ok(4) });
    record(&CanaryWritten { partitions: Err("no broker") });
    record(&TemplateFailed { template: "summary", error: "e" });
    record(&CanaryMeasured { age: SECOND });
    for result in
        [SwitchResult::Called, SwitchResult::ToldOfFailure, SwitchResult::Withheld, SwitchResult::Refused]
    {
        record(&SwitchCalled { result, why: "w", starting: false });
    }
    record(&EventsRefused { reason: "not_json", events: 1 });
    record(&SourceMeasured { topic: "events", partition: 0, lag: Some(1), watermark_delay: Some(SECOND) });
    record(&VerdictsTaken { outcome: "pass", verdicts: 1 });
    record(&AlertMoved {
        flag: "f",
        rule: "r",
        slice: "all",
        action: "rollback",
        from: "quiet",
        to: "pending",
        why: "w",
    });
    record(&Decided {
        decision: "d",
        flag: "f",
        rule: "r",
        scope: "all",
        action: "rollback",
        gate: "act",
        condition: "c",
        value: Some(1.0),
    });
    record(&Flipped {
        decision: "d",
        flag: "f",
        scope: "all",
        outcome: "verified",
        since_t0: SECOND * 275,
        since_decision: SECOND,
        why: "",
    });
    record(&Paged { dedup_key: "k", receiver: "oncall", since_t0: SECOND * 277, since_decision: SECOND });
    record(&Attempted { adapter: "webhook", target: "t", result: "ok", took: SECOND, why: "" });
    record(&OutboxMeasured { oldest: SECOND, rows: &[("pending", 1)] });
    record(&EngineMeasured { armed: true, automation: true, latches: 1, series: 2 });
    record(&InvariantBroken { invariant: "fates_balance", detail: "" });
    record(&SnapshotMeasured { age: SECOND, bytes: 10 });
    record(&Evaluated { reason: "SPLIT" });
    record(&Answered { route: "/v1/status", method: "GET", status: 200, took: SECOND });
    record(&FalseAlarm { flag: "f", actor: "ann", reason: "r" });
    record(&Reloaded { ok: true, detail: "" });
    record(&TaskFailed { task: "t", error: "e", restarts: true });
}

/// What facts record and what the documentation lists are the same metrics, and histograms have the listed bounds.
#[test]
fn facts_record_exactly_the_documented_metrics() {
    let (rendering, recorder) = Metrics::detached().unwrap();
    metrics::with_local_recorder(&recorder, record_everything);
    let text = rendering.render();
    let recorded: BTreeSet<&str> =
        text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    let documented: BTreeSet<&str> = name::METRICS.iter().map(|m| m.name).collect();
    assert_eq!(recorded, documented);
    let bound = r#"rearguard_time_to_flip_seconds_bucket{since="t0",le="300"} 1"#;
    assert!(text.contains(bound), "{text}");
    for metric in name::METRICS {
        let kind = format!("# TYPE {} {}", metric.name, metric.kind());
        assert!(text.contains(&kind), "{kind}");
        for label in metric.labels.split(", ").filter(|label| !label.is_empty()) {
            let labelled = text
                .lines()
                .any(|line| line.starts_with(metric.name) && line.contains(&format!("{label}=\"")));
            assert!(labelled, "{} has no label {label}", metric.name);
        }
    }
}

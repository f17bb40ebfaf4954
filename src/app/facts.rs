//! What is said of a committed batch of steps: log lines and metrics.

use std::time::Duration;

use crate::engine::input::Delta;
use crate::engine::output::{Output, Report};
use crate::ingest::fate::{Counters, Poison, Refusal};
use crate::model::time::Timestamp;
use crate::telemetry::facts::{
    AlertMoved, Decided, EngineMeasured, EventsCounted, EventsRefused, SourceMeasured, VerdictsTaken,
};
use crate::telemetry::record;

/// Transitions, decisions and verdicts, once they are stored.
pub fn committed(outputs: &[Output]) {
    for output in outputs {
        let verdicts = output.verdicts;
        for (outcome, verdicts) in [
            ("pass", verdicts.pass),
            ("breach", verdicts.breach),
            ("inconclusive", verdicts.inconclusive),
            ("error", verdicts.error),
        ] {
            if verdicts > 0 {
                record(&VerdictsTaken { outcome, verdicts });
            }
        }
        for moved in &output.transitions {
            record(&AlertMoved {
                flag: moved.key.flag.as_str(),
                rule: moved.key.rule.as_str(),
                slice: &moved.key.slice.to_string(),
                action: moved.action.as_str(),
                from: moved.from.as_str(),
                to: moved.to.as_str(),
                why: &moved.why,
            });
        }
        for made in &output.decisions {
            record(&Decided {
                decision: made.id.as_str(),
                flag: made.key.flag.as_str(),
                rule: made.key.rule.as_str(),
                scope: &made.scope.to_string(),
                action: made.action.as_str(),
                gate: made.gate.as_str(),
                condition: &made.condition,
                value: made.evidence.value,
            });
        }
    }
}

/// The fates of one delta's events.
pub fn read(delta: &Delta, counters: &Counters) {
    let fates = delta.fates;
    record(&EventsCounted {
        topic: &delta.source.topic,
        partition: delta.source.partition,
        fates: &[
            ("consumed", fates.consumed),
            ("windowed", fates.windowed),
            ("late", fates.late),
            ("duplicate", fates.duplicate),
            ("dead_letter", fates.dead_letter),
            ("other", fates.other),
            ("refused", fates.refused),
            ("canary", fates.canary),
        ],
    });
    let poison = Poison::ALL.iter().map(|p| p.as_str()).zip(counters.poison);
    let refused = Refusal::ALL.iter().map(|r| r.as_str()).zip(counters.refused);
    let bounds = [
        ("unknown_metric", counters.unknown_metric),
        ("dedup_overflow", counters.dedup_overflow),
        ("slice_overflow", counters.slice_overflow),
        ("dead_letters_lost", counters.dead_letters_lost),
    ];
    for (reason, events) in poison.chain(refused).chain(bounds).filter(|(_, events)| *events > 0) {
        record(&EventsRefused { reason, events });
    }
}

/// The engine's state as gauges.
pub fn standing(report: &Report, now: Timestamp) {
    record(&EngineMeasured {
        armed: report.armed,
        automation: report.automation,
        latches: report.latches.len(),
        series: report.series,
    });
    for source in &report.sources {
        record(&SourceMeasured {
            topic: &source.source.topic,
            partition: source.source.partition,
            lag: None,
            // Silence on a partition that is read to its end is no delay.
            watermark_delay: source
                .watermark
                .map(|w| if source.idle { Duration::ZERO } else { now.since(w) }),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::input::{Fates, Source};
    use crate::engine::output::SourceReport;
    use crate::telemetry::Metrics;

    #[test]
    fn silence_is_no_delay() {
        let now = Timestamp::from_millis(1_700_000_000_000);
        let source = |partition, idle| SourceReport {
            source: Source { topic: "events".into(), partition },
            next_offset: 1,
            watermark: Some(now - Duration::from_secs(300)),
            idle,
            fates: Fates::default(),
        };
        let report = Report { sources: vec![source(0, false), source(1, true)], ..Report::default() };
        let (rendering, recorder) = Metrics::detached().unwrap();
        metrics::with_local_recorder(&recorder, || standing(&report, now));
        let text = rendering.render();
        for (partition, delay) in [(0, 300), (1, 0)] {
            let line = format!(
                "rearguard_watermark_delay_seconds{{topic=\"events\",partition=\"{partition}\"}} {delay}"
            );
            assert!(text.contains(&line), "lacks {line}:\n{text}");
        }
    }
}

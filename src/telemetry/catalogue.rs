//! Every metric that Rearguard exports: name, kind, labels, meaning. `docs/metrics.md` is this table; a test compares them.

use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};

/// How a metric is kept.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Shape {
    Counter,
    Gauge,
    /// A histogram with these upper bounds, in the metric's unit.
    Histogram(&'static [f64]),
}

/// One metric.
#[derive(Clone, Copy, Debug)]
pub struct Described {
    pub name: &'static str,
    pub shape: Shape,
    pub labels: &'static str,
    pub help: &'static str,
}

impl Described {
    /// A histogram's upper bounds.
    pub const fn buckets(&self) -> Option<&'static [f64]> {
        match self.shape {
            Shape::Histogram(bounds) => Some(bounds),
            Shape::Counter | Shape::Gauge => None,
        }
    }

    /// The kind as Prometheus calls it.
    pub const fn kind(&self) -> &'static str {
        match self.shape {
            Shape::Counter => "counter",
            Shape::Gauge => "gauge",
            Shape::Histogram(_) => "histogram",
        }
    }
}

/// Seconds around the ten-minute promise; 600 is a bound, so that breaking it can be counted.
const PROMISE: &[f64] = &[
    1.0, 5.0, 15.0, 30.0, 60.0, 90.0, 120.0, 180.0, 240.0, 300.0, 360.0, 420.0, 480.0, 540.0, 600.0, 900.0,
    1800.0,
];

/// Seconds of one HTTP exchange.
const EXCHANGE: &[f64] = &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

macro_rules! metrics {
    ($($konst:ident = $name:literal, $shape:expr, $labels:literal, $help:literal;)*) => {
        $(#[doc = $help] pub const $konst: &str = $name;)*

        /// All of them, in the order of the documentation.
        pub const METRICS: &[Described] = &[
            $(Described { name: $name, shape: $shape, labels: $labels, help: $help },)*
        ];
    };
}

metrics! {
    EVENTS = "rearguard_events_total", Shape::Counter, "topic, partition, fate",
        "Events by what became of them: consumed = windowed + late + duplicate + dead_letter + other + refused + canary.";
    REFUSALS = "rearguard_refusals_total", Shape::Counter, "reason",
        "Events refused or dead-lettered, by reason.";
    LAG = "rearguard_partition_lag_events", Shape::Gauge, "topic, partition",
        "Events in the partition that have not been read yet.";
    WATERMARK_DELAY = "rearguard_watermark_delay_seconds", Shape::Gauge, "topic, partition",
        "How far the partition's event time lies behind the clock; 0 while it is read to its end.";
    VERDICTS = "rearguard_verdicts_total", Shape::Counter, "outcome",
        "Verdicts by outcome: pass, breach, inconclusive, error.";
    TRANSITIONS = "rearguard_transitions_total", Shape::Counter, "action, from, to",
        "Changes of an alert's state.";
    DECISIONS = "rearguard_decisions_total", Shape::Counter, "action, gate",
        "Rules that fired, and whether or why not they were acted on (gate act = acted).";
    FALSE_ALARMS = "rearguard_false_alarms_total", Shape::Counter, "flag",
        "Re-arms by hand that said `--false-alarm`.";
    TIME_TO_FLIP = "rearguard_time_to_flip_seconds", Shape::Histogram(PROMISE), "since",
        "From t0, or from the decision, to the flip read back at the evaluation plane.";
    TIME_TO_PAGE = "rearguard_time_to_page_seconds", Shape::Histogram(PROMISE), "since",
        "From t0, or from the decision, to the first page of a rollback accepted by a receiver.";
    FLIPS = "rearguard_flips_total", Shape::Counter, "outcome",
        "Rollbacks carried out, by outcome: verified, already_safe, superseded, failed, expired.";
    OUTBOX_AGE = "rearguard_outbox_oldest_seconds", Shape::Gauge, "",
        "How long the outbox row has waited that waits the longest; 0 without any.";
    OUTBOX_ROWS = "rearguard_outbox_rows", Shape::Gauge, "status",
        "Outbox rows by status.";
    ATTEMPTS = "rearguard_dispatch_attempts_total", Shape::Counter, "adapter, result",
        "Attempts to act or tell, by adapter and result: ok, retryable, permanent, unknown, conflict.";
    ATTEMPT_SECONDS = "rearguard_dispatch_attempt_seconds", Shape::Histogram(EXCHANGE), "adapter",
        "How long one attempt took.";
    ARMED = "rearguard_armed", Shape::Gauge, "",
        "1 while verdicts may act, else 0.";
    AUTOMATION = "rearguard_automation", Shape::Gauge, "",
        "1 while automation is on, 0 after `automation off`.";
    LATCHES = "rearguard_latches", Shape::Gauge, "",
        "Rollbacks that stand: latched (flag, scope) pairs.";
    SERIES = "rearguard_series", Shape::Gauge, "",
        "Series kept in windows.";
    CANARIES = "rearguard_canaries_total", Shape::Counter, "result",
        "Rounds of canary events by result: written (every partition took one) or failed.";
    CANARY_AGE = "rearguard_canary_age_seconds", Shape::Gauge, "",
        "Since the newest canary that came back was written, or since the start; absent without `canary:`.";
    SWITCH_CALLS = "rearguard_switch_calls_total", Shape::Counter, "result",
        "Turns of the dead-man's switch: called, told_of_failure, withheld, refused.";
    TEMPLATE_FAILURES = "rearguard_template_failures_total", Shape::Counter, "template",
        "Own templates that did not work on a message, so that the built-in text was used.";
    INVARIANTS = "rearguard_invariant_violations_total", Shape::Counter, "invariant",
        "Broken invariants. Anything but 0 is a bug: please report it.";
    SNAPSHOT_AGE = "rearguard_snapshot_age_seconds", Shape::Gauge, "",
        "Age of the newest good snapshot.";
    SNAPSHOT_BYTES = "rearguard_snapshot_bytes", Shape::Gauge, "",
        "Size of the newest good snapshot.";
    EVALUATIONS = "rearguard_evaluations_total", Shape::Counter, "reason",
        "OFREP evaluations by reason; UNKNOWN are contexts without a targeting key, NOT_FOUND unknown flags.";
    REQUESTS = "rearguard_http_requests_total", Shape::Counter, "route, status",
        "HTTP requests by route and status class.";
    REQUEST_SECONDS = "rearguard_http_request_seconds", Shape::Histogram(EXCHANGE), "route",
        "How long an HTTP request took.";
    TASK_FAILURES = "rearguard_task_failures_total", Shape::Counter, "task",
        "Errors and panics of the daemon's own tasks.";
    RELOADS = "rearguard_reloads_total", Shape::Counter, "result",
        "Reloads of rules and configuration: ok or refused.";
}

/// Counters that alerts ask for by `increase`, with their label and its values. They are shown as 0 from the start: a series
/// that first appears with 1 has not increased for Prometheus.
const FROM_THE_START: [(&str, &str, &[&str]); 4] = [
    (FLIPS, "outcome", &["verified", "already_safe", "superseded", "failed", "expired"]),
    (INVARIANTS, "invariant", &["fates", "totals"]),
    (RELOADS, "result", &["ok", "refused"]),
    (SWITCH_CALLS, "result", &["called", "told_of_failure", "withheld", "refused"]),
];

/// Tells the installed recorder what every metric means, and shows those from the start that alerts ask for.
pub fn describe() {
    for metric in METRICS {
        let unit = if metric.name.ends_with("_seconds") {
            Unit::Seconds
        } else if metric.name.ends_with("_bytes") {
            Unit::Bytes
        } else {
            Unit::Count
        };
        match metric.shape {
            Shape::Counter => describe_counter!(metric.name, unit, metric.help),
            Shape::Gauge => describe_gauge!(metric.name, unit, metric.help),
            Shape::Histogram(_) => describe_histogram!(metric.name, unit, metric.help),
        }
    }
    gauge!(ARMED).set(0.0);
    for (name, label, values) in FROM_THE_START {
        for value in values {
            counter!(name, label => *value).increment(0);
        }
    }
    for name in [TIME_TO_FLIP, TIME_TO_PAGE] {
        for since in ["t0", "decision"] {
            // Made known; nothing is recorded.
            drop(histogram!(name, "since" => since));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table of docs/metrics.md, made from the list.
    fn table() -> String {
        let mut text = String::from("| metric | kind | labels | what it says |\n|---|---|---|---|\n");
        for metric in METRICS {
            let labels = match metric.labels {
                "" => "–".to_owned(),
                some => some.split(", ").map(|l| format!("`{l}`")).collect::<Vec<_>>().join(", "),
            };
            text.push_str(&format!(
                "| `{}` | {} | {labels} | {} |\n",
                metric.name,
                metric.kind(),
                metric.help
            ));
        }
        text
    }

    #[test]
    fn the_documentation_lists_exactly_these_metrics() {
        let documentation = include_str!("../../docs/metrics.md");
        let expected = table();
        assert!(documentation.contains(&expected), "docs/metrics.md should contain:\n{expected}");
        let named = documentation.lines().filter(|line| line.starts_with("| `rearguard_")).count();
        assert_eq!(named, METRICS.len());
    }

    #[test]
    fn what_alerts_ask_for_is_there_before_it_happens() {
        let (rendering, recorder) = crate::telemetry::Metrics::detached().unwrap();
        metrics::with_local_recorder(&recorder, describe);
        let text = rendering.render();
        for line in [
            r#"rearguard_flips_total{outcome="failed"} 0"#,
            r#"rearguard_reloads_total{result="refused"} 0"#,
            r#"rearguard_invariant_violations_total{invariant="totals"} 0"#,
            r#"rearguard_time_to_flip_seconds_bucket{since="t0",le="600"} 0"#,
            r#"rearguard_time_to_flip_seconds_count{since="t0"} 0"#,
        ] {
            assert!(text.lines().any(|shown| shown == line), "lacks {line}:\n{text}");
        }
    }

    #[test]
    fn names_are_unique_and_follow_prometheus() {
        let mut names: Vec<_> = METRICS.iter().map(|m| m.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), METRICS.len());
        for metric in METRICS {
            let counter = matches!(metric.shape, Shape::Counter);
            assert_eq!(metric.name.ends_with("_total"), counter, "{}", metric.name);
        }
    }
}

//! Numbers, spans and times as people read them at 3 am.

use std::time::Duration;

use crate::engine::output::{Decision, Evidence};
use crate::engine::rule::{ConfirmedBy, Side};
use crate::model::time::Timestamp;

/// How many events: `1 event`, `0.5 events`.
pub fn events(n: f64) -> String {
    format!("{} event{}", number(n), if n == 1.0 { "" } else { "s" })
}

/// A number with as many digits as help: `0.871`, `12.4`, `4,210`.
pub fn number(value: f64) -> String {
    let size = value.abs();
    if !value.is_finite() {
        return "not a number".into();
    }
    if size >= 1000.0 {
        return grouped(value.round());
    }
    let decimals = if size >= 100.0 {
        1
    } else if size >= 10.0 {
        2
    } else if size >= 0.1 || size == 0.0 {
        3
    } else {
        5
    };
    let text = format!("{value:.decimals$}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" { "0".into() } else { text.into() }
}

/// A number with its unit.
pub fn measure(value: f64, unit: &str) -> String {
    match unit {
        "" => number(value),
        unit => format!("{} {unit}", number(value)),
    }
}

/// A measurement that may be missing.
pub fn maybe(value: Option<f64>, unit: &str) -> String {
    value.map_or_else(|| "no data".into(), |value| measure(value, unit))
}

/// `5,214`.
pub fn count(n: u64) -> String {
    grouped(n as f64)
}

/// `4 min 35 s`, `2 h 05 min`, `0 s`.
pub fn span(span: Duration) -> String {
    let seconds = span.as_secs_f64().round() as u64;
    match (seconds / 3600, seconds % 3600 / 60, seconds % 60) {
        (0, 0, s) => format!("{s} s"),
        (0, m, 0) => format!("{m} min"),
        (0, m, s) => format!("{m} min {s:02} s"),
        (h, 0, _) => format!("{h} h"),
        (h, m, _) => format!("{h} h {m:02} min"),
    }
}

/// `10:47:31`, in UTC.
pub fn clock_time(at: Timestamp) -> String {
    strftime(at, "%H:%M:%S")
}

/// `10:47`, in UTC.
pub fn minute_time(at: Timestamp) -> String {
    strftime(at, "%H:%M")
}

/// `Wed 12 July 2023, 10:47:31 UTC`.
pub fn long_time(at: Timestamp) -> String {
    strftime(at, "%a %-d %B %Y, %H:%M:%S UTC")
}

/// A clock time, with its day when that is not the day of `near`.
pub fn time_near(at: Timestamp, near: Timestamp) -> String {
    const DAY_MS: i64 = 86_400_000;
    if at.as_millis().div_euclid(DAY_MS) == near.as_millis().div_euclid(DAY_MS) {
        clock_time(at)
    } else {
        strftime(at, "%-d %b %H:%M:%S")
    }
}

/// `37` or `about 410`.
pub fn tenants(evidence: &Evidence) -> String {
    let about = if evidence.tenants_exact { "" } else { "about " };
    format!("{about}{}", count(evidence.tenants))
}

/// What a breach had done when it was decided upon, after "it had".
pub fn had(decision: &Decision) -> String {
    match decision.confirmed_by {
        Some(ConfirmedBy::Evidence) => "given enough evidence".into(),
        Some(ConfirmedBy::Persistence) | None => format!("held for {}", span(decision.evidence.held)),
    }
}

/// `0.871, below the limit of 0.92`; without a single comparison the values by name.
pub fn breach(evidence: &Evidence) -> String {
    let unit = &evidence.unit;
    match (evidence.value, evidence.threshold) {
        (Some(value), Some(threshold)) => {
            let (side, beyond) = match evidence.side {
                Some(Side::Below) => ("below", value < threshold),
                Some(Side::Above) => ("above", value > threshold),
                None => ("against", true),
            };
            // Evidence can be enough before the whole window has crossed.
            let not_yet = if beyond { "" } else { "not yet " };
            format!("{}, {not_yet}{side} the limit of {}", measure(value, unit), measure(threshold, unit))
        }
        _ => {
            let values: Vec<String> = evidence
                .values
                .iter()
                .map(|(name, value)| format!("{name} = {}", maybe(*value, "")))
                .collect();
            values.join(", ")
        }
    }
}

/// `0.854 to 0.887`: the 95 % interval of the measured value.
pub fn interval(evidence: &Evidence) -> Option<String> {
    let (low, high) = evidence.interval?;
    Some(format!("{} to {}", measure(low, &evidence.unit), measure(high, &evidence.unit)))
}

fn strftime(at: Timestamp, format: &str) -> String {
    match jiff::Timestamp::from_millisecond(at.as_millis()) {
        Ok(time) => time.to_zoned(jiff::tz::TimeZone::UTC).strftime(format).to_string(),
        Err(_) => at.to_string(),
    }
}

fn grouped(value: f64) -> String {
    let digits = format!("{:.0}", value.abs());
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    if value < 0.0 {
        text.insert(0, '-');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_spans_read_well() {
        for (value, text) in [
            (0.0, "0"),
            (0.871_23, "0.871"),
            (0.92, "0.92"),
            (0.000_52, "0.00052"),
            (12.345, "12.35"),
            (4210.4, "4,210"),
            (-1_234_567.0, "-1,234,567"),
            (999.95, "1000"),
            (f64::NAN, "not a number"),
        ] {
            // 999.95 rounds to four digits; that is fine.
            assert_eq!(number(value), text.trim_end_matches(".0"), "{value}");
        }
        for (seconds, text) in
            [(0.4, "0 s"), (59.6, "1 min"), (275.0, "4 min 35 s"), (3600.0, "1 h"), (7500.0, "2 h 05 min")]
        {
            assert_eq!(span(Duration::from_secs_f64(seconds)), text);
        }
        let at = Timestamp::parse("2023-07-12T10:47:31.5Z").unwrap();
        assert_eq!(long_time(at), "Wed 12 July 2023, 10:47:31 UTC");
        assert_eq!(time_near(at, at), "10:47:31");
        assert_eq!(time_near(at, at + Duration::from_secs(86_400)), "12 Jul 10:47:31");
    }
}

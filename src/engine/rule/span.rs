//! Spans of time as people write them: `3m`, `90s`, `1h30m`, `14 days`.

use std::time::Duration;

use super::yaml::{Document, Node, Value};

/// Names of units, and how many milliseconds each has.
pub const UNITS: [(&str, u64); 15] = [
    ("ms", 1),
    ("s", 1_000),
    ("sec", 1_000),
    ("second", 1_000),
    ("seconds", 1_000),
    ("m", 60_000),
    ("min", 60_000),
    ("minute", 60_000),
    ("minutes", 60_000),
    ("h", 3_600_000),
    ("hour", 3_600_000),
    ("hours", 3_600_000),
    ("d", 86_400_000),
    ("day", 86_400_000),
    ("days", 86_400_000),
];

/// Reads a span of time: numbers with units `ms s m h d`, one after the other.
pub fn parse(text: &str) -> Result<Duration, String> {
    let mut rest = text.trim();
    let mut total = Duration::ZERO;
    let wrong = || format!("`{text}` is no span of time");
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let amount: u64 = rest[..digits].parse().map_err(|_| wrong())?;
        rest = rest[digits..].trim_start();
        let letters = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
        let unit = &rest[..letters];
        let (_, millis) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?;
        rest = rest[letters..].trim_start();
        let part = amount.checked_mul(*millis).ok_or_else(wrong)?;
        total = total.checked_add(Duration::from_millis(part)).ok_or_else(wrong)?;
    }
    Ok(total)
}

/// A span as short as it can be written: `3m`, `1h30m`, `90s`.
pub fn show(span: Duration) -> String {
    let seconds = span.as_secs();
    let parts = [
        (seconds / 86_400, "d"),
        (seconds / 3_600 % 24, "h"),
        (seconds / 60 % 60, "m"),
        (seconds % 60, "s"),
        (u64::from(span.subsec_millis()), "ms"),
    ];
    let text: String = parts.iter().filter(|(n, _)| *n > 0).map(|(n, unit)| format!("{n}{unit}")).collect();
    if text.is_empty() { "0s".to_owned() } else { text }
}

impl Document<'_> {
    /// A span of time between two bounds.
    pub fn span(&mut self, node: &Node, what: &str, least: Duration, most: Duration) -> Option<Duration> {
        let example = if least >= Duration::from_secs(60) { "3m" } else { "30s" };
        let text = match &node.value {
            Value::Text(text) => text.as_str(),
            Value::Number(_) => {
                let raw = self.raw(node.at);
                self.error_help(
                    node.at,
                    format!("{what} needs a unit"),
                    format!("write `{raw}m` for minutes or `{raw}s` for seconds"),
                );
                return None;
            }
            _ => "",
        };
        let span = match parse(text) {
            Ok(span) => span,
            Err(_) => {
                let raw = self.raw(node.at);
                self.error_help(
                    node.at,
                    format!("{what} cannot be `{raw}`"),
                    format!("write a span of time such as `{example}` or `1h30m`"),
                );
                return None;
            }
        };
        if span < least || span > most {
            self.error(node.at, format!("{what} must lie between {} and {}", show(least), show(most)));
            return None;
        }
        Some(span)
    }

    /// A span of whole minutes between two bounds: rules are judged once a minute.
    pub fn minutes(&mut self, node: &Node, what: &str, least: Duration, most: Duration) -> Option<Duration> {
        let span = self.span(node, what, least.min(Duration::from_millis(1)), most.max(least));
        let span = span?;
        if span.subsec_nanos() != 0 || span.as_secs() % 60 != 0 {
            let up = span.as_secs() / 60 + 1;
            self.error_help(
                node.at,
                format!("{what} must be whole minutes, since rules are judged once a minute"),
                format!("write `{up}m`"),
            );
            return None;
        }
        if span < least {
            self.error(node.at, format!("{what} must be at least {}", show(least)));
            return None;
        }
        Some(span)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read_and_written() {
        for (text, millis, shown) in [
            ("3m", 180_000, "3m"),
            ("90s", 90_000, "1m30s"),
            ("1h30m", 5_400_000, "1h30m"),
            ("14 days", 1_209_600_000, "14d"),
            ("2 min", 120_000, "2m"),
            ("250ms", 250, "250ms"),
            ("0s", 0, "0s"),
        ] {
            let span = parse(text).unwrap();
            assert_eq!(span, Duration::from_millis(millis));
            assert_eq!(show(span), shown);
        }
        for text in ["", "m", "3", "-3m", "3x", "3.5m", "99999999999999999999d", "18446744073709551615d"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn minutes_are_whole_and_lie_between_both_bounds_included() {
        for (text, read) in [
            ("59s", None),
            ("1m", Some(60)),
            ("90s", None),
            ("60m", Some(3_600)),
            ("61m", None),
            ("0m", None),
        ] {
            let text = format!("for: {text}\n");
            let mut doc = Document::new("r.yaml", &text);
            let root = doc.parse().unwrap();
            let node = doc.fields(&root, "it", &["for"]).unwrap().get("for").unwrap();
            let (least, most) = (Duration::from_secs(60), Duration::from_secs(3_600));
            let span = doc.minutes(node, "`for`", least, most);
            assert_eq!(span.map(|span| span.as_secs()), read, "{text}");
            assert_eq!(doc.diagnostics.len(), usize::from(read.is_none()), "{text}");
        }
    }
}

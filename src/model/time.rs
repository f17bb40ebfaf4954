//! Time as data: milliseconds since the Unix epoch and whole minutes. Nothing here reads a clock.

use std::fmt;
use std::ops::{Add, Sub};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Milliseconds in the unit of judging, one pane.
pub const MINUTE_MS: i64 = 60_000;

/// A point in time: milliseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(i64);

impl Timestamp {
    /// From milliseconds since the epoch.
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// Milliseconds since the epoch.
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// Reads an RFC 3339 time.
    pub fn parse(text: &str) -> Option<Self> {
        text.parse::<jiff::Timestamp>().ok().map(|t| Self(t.as_millisecond()))
    }

    /// How long `self` lies after `earlier`; zero if it does not.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0).max(0).unsigned_abs())
    }

    /// The minute that contains this time.
    pub const fn minute(self) -> Minute {
        Minute(self.0.div_euclid(MINUTE_MS))
    }
}

impl Add<Duration> for Timestamp {
    type Output = Self;
    fn add(self, span: Duration) -> Self {
        Self(self.0.saturating_add(millis(span)))
    }
}

impl Sub<Duration> for Timestamp {
    type Output = Self;
    fn sub(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(millis(span)))
    }
}

/// RFC 3339 in UTC, with milliseconds where there are any.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_millisecond(self.0) {
            Ok(t) => write!(f, "{t}"),
            Err(_) => write!(f, "{} ms", self.0),
        }
    }
}

/// A whole minute of event time, counted from the epoch: the key of a pane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Minute(pub i64);

impl Minute {
    /// The first instant of the minute.
    pub const fn start(self) -> Timestamp {
        Timestamp(self.0 * MINUTE_MS)
    }

    /// The first instant after the minute.
    pub const fn end(self) -> Timestamp {
        Timestamp((self.0 + 1) * MINUTE_MS)
    }

    /// The minute `n` later (earlier if negative).
    #[must_use]
    pub const fn plus(self, n: i64) -> Self {
        Self(self.0 + n)
    }
}

impl fmt::Display for Minute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.start().fmt(f)
    }
}

fn millis(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minutes_contain_their_start_and_not_their_end() {
        let t = Timestamp::parse("2023-07-12T09:00:59.999Z").unwrap();
        assert_eq!(t.minute().start(), Timestamp::parse("2023-07-12T09:00:00Z").unwrap());
        assert_eq!((t + Duration::from_millis(1)).minute(), t.minute().plus(1));
        assert_eq!(Timestamp::from_millis(-1).minute(), Minute(-1));
        assert_eq!(t.minute().end().to_string(), "2023-07-12T09:01:00Z");
    }
}

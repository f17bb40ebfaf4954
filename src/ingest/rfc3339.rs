//! RFC 3339 times, fast where they are common.
//!
//! `YYYY-MM-DDTHH:MM:SS[.f…]Z` is read with plain arithmetic; everything else (offsets, leap seconds, years before 1970) goes
//! to jiff. A property test holds both to the same answer.

use crate::model::time::Timestamp;

const DAY_MS: i64 = 86_400_000;

/// Reads an RFC 3339 time; `None` if it is none.
pub fn parse(text: &str) -> Option<Timestamp> {
    common(text.as_bytes()).or_else(|| Timestamp::parse(text))
}

/// The common form, or `None` for anything that needs more thought.
fn common(text: &[u8]) -> Option<Timestamp> {
    let (head, tail) = text.split_first_chunk::<19>()?;
    let separators = [head[4], head[7], head[10], head[13], head[16]];
    if separators != *b"--T::" {
        return None;
    }
    let year = two(head, 0)? * 100 + two(head, 2)?;
    let (month, day) = (two(head, 5)?, two(head, 8)?);
    let (hour, minute, second) = (two(head, 11)?, two(head, 14)?, two(head, 17)?);
    if year < 1970 || day > days_in(year, month)? || day == 0 || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let millis = fraction(tail)?;
    let day_ms = i64::from((hour * 60 + minute) * 60 + second) * 1_000 + millis;
    Some(Timestamp::from_millis(days_from_epoch(year, month, day) * DAY_MS + day_ms))
}

/// Two decimal digits at a place.
fn two(head: &[u8; 19], at: usize) -> Option<u32> {
    let (tens, ones) = (head[at].wrapping_sub(b'0'), head[at + 1].wrapping_sub(b'0'));
    (tens < 10 && ones < 10).then(|| u32::from(tens) * 10 + u32::from(ones))
}

/// Milliseconds of `[.f…]Z`, cut off, not rounded.
fn fraction(tail: &[u8]) -> Option<i64> {
    let digits = match tail {
        b"Z" => return Some(0),
        [b'.', digits @ .., b'Z'] if (1..=9).contains(&digits.len()) => digits,
        _ => return None,
    };
    let mut millis = 0;
    for (place, digit) in digits.iter().enumerate() {
        let digit = digit.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        let weight = match place {
            0 => 100,
            1 => 10,
            2 => 1,
            _ => 0,
        };
        millis += i64::from(digit) * weight;
    }
    Some(millis)
}

fn days_in(year: u32, month: u32) -> Option<u32> {
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => Some(31),
        4 | 6 | 9 | 11 => Some(30),
        2 => Some(if leap { 29 } else { 28 }),
        _ => None,
    }
}

/// Days since 1970-01-01 (Hinnant, "chrono-compatible low-level date algorithms").
fn days_from_epoch(year: u32, month: u32, day: u32) -> i64 {
    let year = i64::from(year) - i64::from(month <= 2);
    let era = year / 400;
    let year_of_era = year - era * 400;
    let month_from_march = (i64::from(month) + 9) % 12;
    let day_of_year = (153 * month_from_march + 2) / 5 + i64::from(day) - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn real_times_read_as_jiff_reads_them(millis in 0i64..253_402_300_799_999, digits in 0usize..=9) {
            let text = jiff::Timestamp::from_millisecond(millis).unwrap().strftime("%Y-%m-%dT%H:%M:%S").to_string();
            let nanos = format!("{:09}", millis % 1_000 * 1_000_000 + 987);
            let text = match digits {
                0 => format!("{text}Z"),
                _ => format!("{text}.{}Z", &nanos[..digits]),
            };
            prop_assert_eq!(common(text.as_bytes()), Timestamp::parse(&text), "{}", text);
            prop_assert!(common(text.as_bytes()).is_some());
        }

        #[test]
        fn whatever_the_fast_path_accepts_jiff_accepts_alike(
            text in "[0-9]{4}-[01][0-9]-[0-3][0-9][Tt ][0-2][0-9]:[0-6][0-9]:[0-6][0-9](\\.[0-9]{0,10})?(Z|z|\\+0[0-9]:[03]0)?"
        ) {
            if let Some(fast) = common(text.as_bytes()) {
                prop_assert_eq!(Some(fast), Timestamp::parse(&text), "{}", text);
            }
            prop_assert_eq!(parse(&text), Timestamp::parse(&text), "{}", text);
        }
    }

    #[test]
    fn offsets_and_oddities() {
        let same = parse("2026-11-23T10:51:50Z");
        assert!(same.is_some());
        assert_eq!(parse("2026-11-23T12:51:50+02:00"), same);
        for bad in [
            "",
            "2026-11-23",
            "yesterday",
            "2026-02-30T00:00:00Z",
            "2026-11-23T10:51:50.Z",
            "2026-11-23T24:00:00Z",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}

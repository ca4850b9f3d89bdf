//! When something may start: a point in time, or a while after the start of its run.
//!
//! Here live the two forms of `at` and the reading of RFC 3339 times. No clock: what "now" is, the ledger says.

use crate::diagnostic::quote;
use crate::duration;
use crate::error::{Error, Result};

/// The time before which a task is not due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    /// A point in time, in milliseconds since 1970-01-01T00:00:00Z.
    Time(i64),
    /// This many milliseconds after the run began.
    After(i64),
}

impl At {
    /// Reads `2026-01-31T06:00:00Z` or a duration such as `10m`.
    ///
    /// # Errors
    ///
    /// `Invalid`, saying what both forms look like.
    pub fn parse(text: &str) -> Result<At> {
        if let Some(ms) = rfc3339_ms(text) {
            return Ok(At::Time(ms));
        }
        duration::parse(text).map(At::After).map_err(|_| {
            Error::invalid(format!("the time {} is neither RFC 3339 nor a duration", quote(text)))
                .hint("write a time with offset such as `2026-01-31T06:00:00Z`, or a duration after the start: `10m`")
        })
    }

    /// Returns the point in time, given when the run began; both in milliseconds since 1970.
    pub fn due_ms(self, started_ms: i64) -> i64 {
        match self {
            At::Time(ms) => ms,
            At::After(ms) => started_ms.saturating_add(ms),
        }
    }
}

/// Reads an RFC 3339 time with its offset into milliseconds since 1970; finer digits are cut off.
///
/// Returns `None` for anything else, including a time without offset: nobody should have to guess a zone.
pub fn rfc3339_ms(text: &str) -> Option<i64> {
    let (date, rest) = text.split_at_checked(10)?;
    let (clock, rest) = rest.strip_prefix(['T', 't', ' '])?.split_at_checked(8)?;
    let (fraction_ms, offset) = split_fraction(rest)?;
    let [year, month, day] = numbers(date, '-', [4, 2, 2])?;
    let [hour, minute, second] = numbers(clock, ':', [2, 2, 2])?;
    if day < 1 || day > days_in_month(year, month)? || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let minutes = (days_since_1970(year, month, day) * 24 + hour) * 60 + minute - offset_minutes(offset)?;
    Some((minutes * 60 + second) * 1000 + fraction_ms)
}

/// Reads fixed-width numbers parted by `separator`.
fn numbers<const N: usize>(text: &str, separator: char, widths: [usize; N]) -> Option<[i64; N]> {
    let mut parts = text.split(separator);
    let mut found = [0; N];
    for (slot, width) in found.iter_mut().zip(widths) {
        let part = parts.next().filter(|p| p.len() == width && p.bytes().all(|b| b.is_ascii_digit()))?;
        *slot = part.parse().ok()?;
    }
    parts.next().is_none().then_some(found)
}

fn split_fraction(text: &str) -> Option<(i64, &str)> {
    let Some(rest) = text.strip_prefix('.') else { return Some((0, text)) };
    let end = rest.find(|c: char| !c.is_ascii_digit())?;
    let digits: String = rest[..end].chars().chain("000".chars()).take(3).collect();
    (end > 0).then(|| digits.parse().ok().map(|ms| (ms, &rest[end..])))?
}

fn offset_minutes(text: &str) -> Option<i64> {
    if matches!(text, "Z" | "z") {
        return Some(0);
    }
    let (sign, clock) = match text.split_at_checked(1)? {
        ("+", clock) => (1, clock),
        ("-", clock) => (-1, clock),
        _ => return None,
    };
    let [hour, minute] = numbers(clock, ':', [2, 2])?;
    (hour < 24 && minute < 60).then_some(sign * (hour * 60 + minute))
}

fn days_in_month(year: i64, month: i64) -> Option<i64> {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => Some(31),
        4 | 6 | 9 | 11 => Some(30),
        2 => Some(if leap { 29 } else { 28 }),
        _ => None,
    }
}

/// Counts days in the proleptic Gregorian calendar. Years begin in March, so that the leap day is the last.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * month + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, ms: i64) {
        assert_eq!(At::parse(text), Ok(At::Time(ms)), "{text}");
    }

    #[test]
    fn times_are_read() {
        check("1970-01-01T00:00:00Z", 0);
        check("1969-12-31T23:59:59.5Z", -500);
        check("2000-02-29T12:00:00Z", 951_825_600_000);
        check("2026-01-31T06:00:00Z", 1_769_839_200_000);
        check("2026-01-31t08:00:00.123456+02:00", 1_769_839_200_123);
        check("2026-01-31 00:30:00-05:30", 1_769_839_200_000);
        check("2016-12-31T23:59:60Z", 1_483_228_800_000);
    }

    #[test]
    fn durations_are_after_the_start() {
        assert_eq!(At::parse("10m"), Ok(At::After(600_000)));
        assert_eq!(At::After(5).due_ms(100), 105);
        assert_eq!(At::Time(5).due_ms(100), 5);
    }

    #[test]
    fn anything_else_is_refused_with_both_forms() {
        for text in [
            "",
            "soon",
            "10",
            "2026-01-31",
            "2026-01-31T06:00:00",
            "2026-02-30T06:00:00Z",
            "2026-13-01T06:00:00Z",
            "2026-00-01T06:00:00Z",
            "2026-01-00T06:00:00Z",
            "2026-01-31T24:00:00Z",
            "2026-01-31T06:60:00Z",
            "2026-01-31T06:00:00.Z",
            "2026-01-31T06:00:00+2:00",
            "2026-01-31T06:00:00Zz",
            "+026-01-31T06:00:00Z",
            "２026-01-31T06:00:00Z",
        ] {
            let error = At::parse(text).expect_err(text);
            assert!(error.message.contains("neither RFC 3339 nor a duration"), "{text}: {error}");
        }
    }
}

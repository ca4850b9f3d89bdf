//! Lengths of time as people write them: `500ms`, `15m`, `1h30m`, `2d`.
//!
//! Here live the reading and the short printing of a duration in milliseconds. No clock and no dates:
//! points in time are [`crate::at`]'s.

use crate::diagnostic::quote;
use crate::error::{Error, Result};

/// The longest duration that is accepted: ten years of 365 days, in milliseconds.
pub const MAX_MS: i64 = 3650 * DAY_MS;

const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// Units from long to short, which is also the order in which they are written.
const UNITS: [(&str, i64); 5] = [("d", DAY_MS), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

/// Reads a duration into milliseconds: whole numbers with units, the longest first, each once.
///
/// # Errors
///
/// `Invalid` for a bare number, an unknown unit, units out of order, or more than [`MAX_MS`].
///
/// ```
/// assert_eq!(quorate_model::duration::parse("1h30m"), Ok(5_400_000));
/// ```
pub fn parse(text: &str) -> Result<i64> {
    let mut rest = text;
    let mut total: i64 = 0;
    let mut next_unit = 0;
    if text.is_empty() {
        return Err(unreadable(text, "is empty"));
    }
    while !rest.is_empty() {
        let (digits, after) = split_while(rest, |c| c.is_ascii_digit());
        let (unit, after) = split_while(after, |c| !c.is_ascii_digit());
        if digits.is_empty() {
            return Err(unreadable(text, "has no number before its unit"));
        }
        let place = place_of(unit).ok_or_else(|| unreadable(text, &unit_trouble(unit)))?;
        if place < next_unit {
            return Err(unreadable(text, "has its units out of order"));
        }
        next_unit = place + 1;
        total = add(total, digits, UNITS[place].1).ok_or_else(|| unreadable(text, "is longer than 3650d"))?;
        rest = after;
    }
    Ok(total)
}

/// Prints milliseconds in the short form that [`parse`] reads; `0s` for nothing.
pub fn short(ms: i64) -> String {
    if ms == 0 {
        return "0s".to_string();
    }
    let mut text = if ms < 0 { "-".to_string() } else { String::new() };
    let mut rest = ms.unsigned_abs();
    for (unit, length) in UNITS {
        let length = length.unsigned_abs();
        if rest >= length {
            text.push_str(&format!("{}{unit}", rest / length));
            rest %= length;
        }
    }
    text
}

fn split_while(text: &str, inside: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(|c| !inside(c)).unwrap_or(text.len()))
}

fn place_of(unit: &str) -> Option<usize> {
    UNITS.iter().position(|(name, _)| *name == unit)
}

fn unit_trouble(unit: &str) -> String {
    match unit {
        "" => "has a number without a unit".to_string(),
        unit => format!("has the unknown unit {}", quote(unit)),
    }
}

fn add(total: i64, digits: &str, unit_ms: i64) -> Option<i64> {
    let part = digits.parse::<i64>().ok()?.checked_mul(unit_ms)?;
    total.checked_add(part).filter(|sum| *sum <= MAX_MS)
}

fn unreadable(text: &str, why: &str) -> Error {
    Error::invalid(format!("the duration {} {why}; expected one such as `30s`", quote(text)))
        .hint("write whole numbers with the units d, h, m, s or ms, as in `500ms`, `15m`, `1h30m` or `2d`")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(text: &str, ms: i64) {
        assert_eq!(parse(text), Ok(ms), "{text}");
    }

    fn refuse(text: &str, why: &str) {
        let error = parse(text).expect_err(text);
        assert!(error.message.contains(why), "{text}: {}", error.message);
    }

    #[test]
    fn durations_are_read() {
        check("500ms", 500);
        check("0s", 0);
        check("15m", 900_000);
        check("1h30m", 5_400_000);
        check("2d", 172_800_000);
        check("1d2h3m4s5ms", 93_784_005);
        check("90m", 5_400_000);
        check("3650d", MAX_MS);
    }

    #[test]
    fn durations_that_cannot_be_read_say_why() {
        refuse("", "empty");
        refuse("15", "`15` has a number without a unit; expected one such as `30s`");
        refuse("1h30", "without a unit");
        refuse("m", "no number");
        refuse("-5s", "no number");
        refuse("1.5h", "unknown unit `.`");
        refuse("5 m", "unknown unit ` m`");
        refuse("5w", "unknown unit `w`");
        refuse("30m1h", "out of order");
        refuse("1m1m", "out of order");
        refuse("3651d", "longer than 3650d");
        refuse("99999999999999999999s", "longer than 3650d");
        refuse("9223372036854775807d", "longer than 3650d");
    }

    #[test]
    fn durations_are_printed_short() {
        for (ms, text) in [(0, "0s"), (1, "1ms"), (1500, "1s500ms"), (5_400_000, "1h30m"), (-60_000, "-1m")] {
            assert_eq!(short(ms), text);
        }
        assert!(short(i64::MIN).starts_with('-'));
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_back(ms in 0..=MAX_MS) {
            prop_assert_eq!(parse(&short(ms)), Ok(ms));
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,12}") {
            let _ = parse(&text);
        }
    }
}

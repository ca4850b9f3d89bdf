//! Times as people read them.
//!
//! Here live relative times (`2m ago`, `in 13m`) and local ones; JSON always has RFC 3339. No clock: what "now" is,
//! the ledger or the caller says. All times are milliseconds since 1970 (UTC).

use jiff::{Timestamp, tz::TimeZone};

const UNITS: [(i64, &str); 4] = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s")];

/// Writes how long ago or how far ahead `at` is.
pub(crate) fn ago(now: i64, at: i64) -> String {
    let distance = now.saturating_sub(at);
    if distance.saturating_abs() < 1_000 {
        return "now".into();
    }
    let length = largest(distance.saturating_abs());
    if distance > 0 { format!("{length} ago") } else { format!("in {length}") }
}

fn largest(ms: i64) -> String {
    let (unit, name) = UNITS.into_iter().find(|(unit, _)| ms >= *unit).unwrap_or((1, "ms"));
    format!("{}{name}", ms / unit)
}

/// As [`ago`], or nothing.
pub(crate) fn ago_or_none(now: i64, at: Option<i64>) -> String {
    at.map_or_else(String::new, |at| ago(now, at))
}

/// Writes a length of time in its largest unit, with one more below ten of it: `3h20m`, `45s`, `120ms`.
pub(crate) fn rough(ms: i64) -> String {
    let Some(place) = UNITS.iter().position(|(unit, _)| ms >= *unit) else { return format!("{ms}ms") };
    let (unit, name) = UNITS[place];
    let whole = ms / unit;
    match UNITS.get(place + 1) {
        Some((next, next_name)) if whole < 10 && (ms % unit) / next > 0 => {
            format!("{whole}{name}{}{next_name}", (ms % unit) / next)
        }
        _ => format!("{whole}{name}"),
    }
}

/// Writes a moment in the local time zone: `2026-11-21 05:40:12`.
pub(crate) fn local(at: i64) -> String {
    Timestamp::from_millisecond(at).map_or_else(
        |_| at.to_string(),
        |at| at.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S").to_string(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_from_now() {
        let check = |distance: i64, expected: &str| {
            assert_eq!(ago(1_000_000_000, 1_000_000_000 - distance), expected)
        };
        check(0, "now");
        check(999, "now");
        check(2_000, "2s ago");
        check(59_000, "59s ago");
        check(150_000, "2m ago");
        check(3_600_000 * 30, "1d ago");
        check(86_400_000 * 11, "11d ago");
        check(-780_000, "in 13m");
        assert_eq!(
            (rough(120), rough(200_000), rough(86_400_000 * 11)),
            ("120ms".into(), "3m20s".into(), "11d".into())
        );
        assert_eq!(ago(i64::MAX, i64::MIN).chars().last(), Some('o'));
    }
}

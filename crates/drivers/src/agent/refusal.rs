//! How a provider's refusal is told in words, where a stream has no field for it.
//!
//! Here lives the reading of such a sentence: whether it is about a limit, and for how long.

use crate::ending::parked;
use crate::say::Parked;

/// Parts of sentences that tell of a limit or of a service that has too much to do.
const TELLING: [&str; 12] = [
    "429",
    "529",
    "too many requests",
    "rate limit",
    "usage limit",
    "quota",
    "resource_exhausted",
    "overloaded",
    "at capacity",
    "503",
    "service unavailable",
    "unavailable_error",
];
/// Words behind which the time to wait stands.
const BEFORE_TIME: [&str; 4] = ["again in ", "retry in ", "reset after ", "resets in "];
/// The longest wait that is believed: 8 days, since limits count by the week.
const WAIT_MAX_MS: i64 = 8 * 24 * 60 * 60 * 1000;

/// Tells whether these words, which tell of an error, are about a limit.
pub(crate) fn is_limit(error: &str) -> bool {
    let error = error.to_ascii_lowercase();
    TELLING.iter().any(|part| error.contains(part))
}

/// Says that an agent has to wait, for as long as the words tell.
pub(super) fn refused(why: &str) -> Parked {
    let parked = parked(why, None);
    Parked { after_ms: wait_ms(why).or(parked.after_ms), ..parked }
}

/// Returns how long to wait, in milliseconds, if the words say so.
pub(crate) fn wait_ms(error: &str) -> Option<i64> {
    let error = error.to_ascii_lowercase();
    let (_, rest) = BEFORE_TIME.iter().find_map(|before| error.split_once(before))?;
    let (mut total, mut rest) = (0.0, rest);
    loop {
        rest = rest.trim_start_matches([' ', ',']);
        let number_end = rest.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(rest.len());
        let Ok(number) = rest[..number_end].trim_end_matches('.').parse::<f64>() else { break };
        let unit_text = rest[number_end..].trim_start();
        let unit_end = unit_text.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(unit_text.len());
        let Some(unit) = unit_ms(&unit_text[..unit_end]) else { break };
        total += number * unit;
        rest = &unit_text[unit_end..];
    }
    (total > 0.0).then(|| (total as i64).min(WAIT_MAX_MS))
}

fn unit_ms(unit: &str) -> Option<f64> {
    Some(match unit {
        "ms" | "millisecond" | "milliseconds" => 1.0,
        "s" | "sec" | "secs" | "second" | "seconds" => 1000.0,
        "m" | "min" | "mins" | "minute" | "minutes" => 60_000.0,
        "h" | "hr" | "hrs" | "hour" | "hours" => 3_600_000.0,
        "d" | "day" | "days" => 86_400_000.0,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_told_in_many_ways() {
        for error in [
            "exceeded retry limit, last status: 429 Too Many Requests",
            "You've hit your usage limit. Try again in 3 days 2 hours.",
            "Attempt 1 failed with status 429. Retrying with backoff...",
            "RESOURCE_EXHAUSTED",
            "Selected model is at capacity. Please try a different model.",
        ] {
            assert!(is_limit(error), "{error}");
        }
        assert!(!is_limit("unexpected status 401 Unauthorized") && !is_limit("no such file"));
    }

    #[test]
    fn the_time_to_wait_is_read() {
        let check = |error: &str, expected: Option<i64>| assert_eq!(wait_ms(error), expected, "{error}");
        check("Please retry in 34.5s.", Some(34_500));
        check("Your quota will reset after 18h31m10s.", Some(66_670_000));
        check("Try again in 3 days 2 hours, 1 minute.", Some(266_460_000));
        check("try again in 250 ms", Some(250));
        check("try again in a while", None);
        check("try again in 5 parsecs", None);
        check("try again in 1..5 s", None);
        check("slow down", None);
    }

    #[test]
    fn no_longer_wait_than_eight_days_is_believed() {
        assert_eq!(wait_ms("try again in 9 days"), Some(WAIT_MAX_MS));
        assert_eq!(wait_ms("try again in 8 days"), Some(WAIT_MAX_MS));
        assert_eq!(wait_ms("try again in 7 days"), Some(WAIT_MAX_MS / 8 * 7));
    }
}

//! How a provider's refusal is told in words, where a stream has no field for it.
//!
//! Here lives the reading of such a sentence: whether it is about a limit, for how long, and until when; and whether it is
//! about what would meet every other task alike, such as a key that is not taken.

use crate::ending::parked;
use crate::say::Parked;
use jiff::civil::{Date, Time};
use jiff::tz::TimeZone;
use jiff::{ToSpan, Zoned};

/// The statuses of HTTP that tell of a limit or of a service that has too much to do.
const STATUSES: [&str; 3] = ["429", "503", "529"];
/// Parts of sentences that tell of the same.
const TELLING: [&str; 9] = [
    "too many requests",
    "rate limit",
    "usage limit",
    "quota",
    "resource_exhausted",
    "overloaded",
    "at capacity",
    "service unavailable",
    "unavailable_error",
];
/// The statuses of HTTP that tell of an account: who asks is not known, has not paid, or may not.
pub(crate) const ACCOUNT: [u16; 3] = [401, 402, 403];
/// Parts of sentences that tell of an account, or of a service that cannot be reached.
const ELSEWHERE: [&str; 18] = [
    "invalid api key",
    "api key not valid",
    "incorrect api key",
    "authentication_error",
    "authentication failed",
    "unauthorized",
    "please run /login",
    "not logged in",
    "token has expired",
    "credit balance",
    "billing",
    "payment required",
    "error sending request",
    "connection error",
    "connection refused",
    "could not resolve",
    "network is unreachable",
    "enotfound",
];
/// Words behind which the time stands at which it goes on.
const BEFORE_CLOCK: [&str; 4] = ["again at ", "resets at ", "reset at ", "resets "];
/// Words of such a time that are looked at.
const CLOCK_WORDS: usize = 8;
const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
/// A day without a year that is over for longer is meant to come.
const HALF_YEAR_DAYS: i64 = 182;
/// Words behind which the time to wait stands.
const BEFORE_TIME: [&str; 4] = ["again in ", "retry in ", "reset after ", "resets in "];
/// The longest wait that is believed: 8 days, since limits count by the week.
const WAIT_MAX_DAYS: i64 = 8;
const WAIT_MAX_MS: i64 = WAIT_MAX_DAYS * 24 * 60 * 60 * 1000;

/// Tells whether these words, which tell of an error, are about a limit.
pub(crate) fn is_limit(error: &str) -> bool {
    let error = error.to_ascii_lowercase();
    TELLING.iter().any(|part| error.contains(part)) || STATUSES.iter().any(|status| stands_in(&error, status))
}

/// Tells whether these words, which tell of an error, are about something that would meet every other task alike: a limit, an
/// account, a service that cannot be reached. Trying the next task at once would only use up the attempts of all.
pub(crate) fn meets_all(error: &str) -> bool {
    let lower = error.to_ascii_lowercase();
    let is_account = || ACCOUNT.iter().any(|status| stands_in(&lower, &status.to_string()));
    is_limit(error) || ELSEWHERE.iter().any(|part| lower.contains(part)) || is_account()
}

/// Tells whether a number stands in a text by itself: ids and counts have the same digits within.
fn stands_in(text: &str, number: &str) -> bool {
    let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    text.match_indices(number)
        .any(|(at, _)| !text[..at].ends_with(is_part) && !text[at + number.len()..].starts_with(is_part))
}

/// Says that an agent has to wait, for as long, or until when, the words tell.
pub(super) fn refused(why: &str) -> Parked {
    match wait_ms(why) {
        Some(after_ms) => Parked { after_ms: Some(after_ms), ..parked(why, None) },
        None => parked(why, until(why, &crate::clock::now())),
    }
}

/// Returns when it goes on, RFC 3339, if the words tell the time of a clock: `try again at 3:28 PM`, `at Aug 8th, 2026
/// 12:30 PM` (Codex), `resets Oct 9, 10am (Europe/Berlin)` (Claude Code). Without a zone it is this machine's.
pub(super) fn until(error: &str, now: &Zoned) -> Option<String> {
    let error = error.to_ascii_lowercase();
    let (_, words) = BEFORE_CLOCK.iter().find_map(|before| error.split_once(before))?;
    let (words, zone) = words.split_once('(').unwrap_or((words, ""));
    let zone = zone.split_once(')').and_then(|(name, _)| TimeZone::get(name).ok());
    let now = zone.map_or_else(|| now.clone(), |zone| now.with_time_zone(zone));
    let (date, time) = clock(words, &now)?;
    let at = date.unwrap_or(now.date()).to_datetime(time).to_zoned(now.time_zone().clone()).ok()?;
    // A time of the day that is over is tomorrow's; a day that is over tells nothing.
    let at = if at <= now && date.is_none() { at.checked_add(1.day()).ok()? } else { at };
    let latest = now.checked_add(WAIT_MAX_DAYS.days()).ok()?;
    (at > now).then(|| at.min(latest).timestamp().to_string())
}

/// Reads the time of a clock, and the date before it if there is one.
fn clock(words: &str, now: &Zoned) -> Option<(Option<Date>, Time)> {
    let words: Vec<&str> = words
        .split(|c: char| c.is_whitespace() || c == ',')
        .map(|word| word.trim_end_matches('.'))
        .filter(|word| !word.is_empty())
        .take(CLOCK_WORDS)
        .collect();
    let (mut month, mut day, mut year) = (None, None, None);
    for (place, word) in words.iter().enumerate() {
        if let Some(time) = time_of_day(word, words.get(place + 1).copied().unwrap_or_default()) {
            let Some((month, day)) = month.zip(day) else { return Some((None, time)) };
            return date(year, month, day, now.date()).map(|date| (Some(date), time));
        }
        let number = word.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        if let Some(found) = MONTHS.iter().position(|month| word.starts_with(month)) {
            month = i8::try_from(found + 1).ok();
        } else if let Ok(found) = number.parse::<i8>() {
            day = Some(found);
        } else if let Ok(found) = number.parse::<i16>() {
            year = Some(found);
        } else if !matches!(*word, "at" | "on") {
            return None;
        }
    }
    None
}

/// Returns the day; one without a year that is over for longer than half a year is the next year's.
fn date(year: Option<i16>, month: i8, day: i8, today: Date) -> Option<Date> {
    let in_year = |year| Date::new(year, month, day).ok();
    if year.is_some() {
        return year.and_then(in_year);
    }
    let earliest = today.checked_sub(HALF_YEAR_DAYS.days()).ok()?;
    let mut dates = [today.year() - 1, today.year(), today.year() + 1].into_iter().filter_map(in_year);
    dates.find(|date| *date >= earliest)
}

/// Reads `3pm`, `3:28 PM`, `15:28`; `next` is the word behind it.
fn time_of_day(word: &str, next: &str) -> Option<Time> {
    let half = |text: &str| match text {
        "am" => Some(0),
        "pm" => Some(12),
        _ => None,
    };
    let (digits, tail) = word.split_at(word.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(word.len()));
    let half = if tail.is_empty() { half(next) } else { Some(half(tail)?) };
    let (hour, minute) = match digits.split_once(':') {
        Some((hour, minute)) => (hour.parse::<i8>().ok()?, minute.parse().ok()?),
        // A number alone is no time.
        None => (half.and(digits.parse().ok())?, 0),
    };
    let hour = match half {
        Some(half) if (1..=12).contains(&hour) => hour % 12 + half,
        Some(_) => return None,
        None => hour,
    };
    Time::new(hour, minute, 0, 0).ok()
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
        for error in [
            "unexpected status 401 Unauthorized, cf-ray: 9a5034-FRA, request id: 7f429a00-5031-4529-8503-0c429",
            "prompt is too long: 214290 tokens > 200000 maximum",
            "no such file",
        ] {
            assert!(!is_limit(error), "{error}");
        }
        assert!(is_limit("status 503.") && is_limit("(429)") && is_limit("HTTP 529: overload"));
    }

    #[test]
    fn what_would_meet_every_task_is_told_in_many_ways() {
        for error in [
            "unexpected status 401 Unauthorized, cf-ray: 9a5034-FRA, request id: 7f429a00-5031-4529-8503-0c429",
            "Invalid API key \u{b7} Please run /login",
            "API Error: 401 {\"type\":\"error\",\"error\":{\"type\":\"authentication_error\",\"message\":\"OAuth token has expired\"}}",
            "Credit balance is too low",
            "stream disconnected before completion: error sending request for url (https://api.example/v1/responses)",
            "API Error: Connection error.",
            "Too many requests",
        ] {
            assert!(meets_all(error), "{error}");
        }
        for error in [
            "prompt is too long: 214290 tokens > 200000 maximum",
            "no such file: 4010",
            "the tests failed",
            "max turns reached",
        ] {
            assert!(!meets_all(error), "{error}");
        }
    }

    #[test]
    fn the_time_of_a_clock_is_read() {
        let now: Zoned = "2026-08-07T15:00:00+02:00[Europe/Berlin]".parse().unwrap();
        let check = |error: &str, expected: Option<&str>| {
            assert_eq!(until(error, &now).as_deref(), expected, "{error}");
        };
        check("You've hit your usage limit. Upgrade, or try again at 3:28 PM.", Some("2026-08-07T13:28:00Z"));
        check("try again at Aug 8th, 2026 12:30 PM.", Some("2026-08-08T10:30:00Z"));
        check("You've hit your session limit · resets 3pm", Some("2026-08-08T13:00:00Z"));
        check("You've hit your limit · resets 10am (America/New_York)", Some("2026-08-07T14:00:00Z"));
        check("limit reached ∙ resets Aug 9 at 5pm (UTC)", Some("2026-08-09T17:00:00Z"));
        check("Your limit will reset at 12am", Some("2026-08-07T22:00:00Z"));
        check("try again at 16:05", Some("2026-08-07T14:05:00Z"));
        check("resets Aug 6, 3pm", None);
        check("resets Dec 24, 3pm", Some("2026-08-15T13:00:00Z"));
        check("resets Feb 31, 3pm", None);
        for none in [
            "resets 13pm",
            "resets 3",
            "try again at 25:00",
            "resets soon",
            "resets ",
            "slow down",
            "resets 3pmx",
        ] {
            check(none, None);
        }
    }

    #[test]
    fn a_date_without_a_year_is_the_next_years_where_this_years_is_long_over() {
        let check = |now: &str, error: &str, expected: Option<&str>| {
            assert_eq!(until(error, &now.parse().unwrap()).as_deref(), expected, "{now}: {error}");
        };
        let eve = "2026-12-31T15:00:00+00:00[UTC]";
        check(eve, "resets Jan 2, 3pm", Some("2027-01-02T15:00:00Z"));
        check(eve, "resets Jan 2 2026, 3pm", None);
        check(eve, "resets Dec 30, 3pm", None);
        check(eve, "resets Jul 2, 3pm", None);
        check(eve, "resets Jul 1, 3pm", Some("2027-01-08T15:00:00Z"));
        check("2027-12-31T15:00:00+00:00[UTC]", "resets Feb 29, 3pm", Some("2028-01-08T15:00:00Z"));
        check("2027-01-01T15:00:00+00:00[UTC]", "resets Jan 2, 3pm", Some("2027-01-02T15:00:00Z"));
        check("2027-01-01T08:00:00+00:00[UTC]", "resets Dec 31, 11pm", None);
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

//! Milliseconds as people and machines read them.
//!
//! Here lives the one conversion to RFC 3339 in UTC. No clock: the ledger's time comes from the store.

use jiff::Timestamp;

/// Writes milliseconds since 1970 as RFC 3339 in UTC, with milliseconds (`2026-11-21T05:00:00.000Z`).
pub fn rfc3339(ms: i64) -> String {
    // Out of the calendar's range only for a number that nobody stored as a time.
    Timestamp::from_millisecond(ms).map_or_else(|_| ms.to_string(), |at| format!("{at:.3}"))
}

#[cfg(test)]
mod tests {
    use super::rfc3339;

    #[test]
    fn known_moments_read_as_expected() {
        for (ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_763_700_000_123, "2025-11-21T04:40:00.123Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
            (i64::MAX, "9223372036854775807"),
        ] {
            assert_eq!(rfc3339(ms), text);
        }
    }
}

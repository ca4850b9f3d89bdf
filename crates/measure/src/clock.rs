//! The wall clock, for rows that are written by hand.
//!
//! Here lives the one reading of it; durations are measured with `Instant` where they occur.

use std::time::{SystemTime, UNIX_EPOCH};

/// Returns milliseconds since 1970 (UTC).
pub fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

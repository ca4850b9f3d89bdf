//! The time of this machine.
//!
//! Only for what a person says in times of his own, such as "since 10m". What is due, the ledger decides.

use std::time::{SystemTime, UNIX_EPOCH};

/// Returns milliseconds since 1970 (UTC).
pub(crate) fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

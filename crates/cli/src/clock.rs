//! The wall clock, for what a person says relative to now (`--since 10m`).
//!
//! Leases, due times and everything stored count the ledger's time, never this one.

/// Returns milliseconds since 1970 (UTC).
pub(crate) fn now_ms() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

//! The wall clock, with this machine's time zone.
//!
//! Here alone it is read in this crate: what is decided is given the time.

/// Returns the time.
pub(crate) fn now() -> jiff::Zoned {
    jiff::Zoned::now()
}

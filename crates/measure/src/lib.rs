//! `quorate-measure`: the ledger and its databases alone, given the same work.
//!
//! Here live the rows that are prepared, the callers of the ledger, the hand-written statements that are its raw limit,
//! what is read from the samples, and the one check that CI runs (`ratio`). Everything above the ledger, the program
//! itself and other queues are measured by `crates/bench`; so this room is built fast, by itself.

pub mod clock;
pub mod database;
pub mod disk;
pub mod load;
pub mod operation;
pub mod ours;
pub mod ratio;
mod raw_lite;
mod raw_pg;
pub mod samples;
pub mod seed;
pub mod table;

/// Returns the system's load averages of 1, 5 and 15 minutes.
pub fn load_average() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').take(3).collect::<Vec<_>>().join(" ")
}

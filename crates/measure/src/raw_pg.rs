//! What PostgreSQL alone needs for the same rows: `pgbench` with prepared statements.
//!
//! Here lives the raw limit: one statement and one transaction per operation, a connection per caller. Latencies
//! are read from pgbench's own log of every transaction.

use crate::load::Timing;
use crate::operation::{HELD, Operation};
use crate::samples::Samples;
use quorate_model::{Error, Result};
use quorate_testkit::cluster::Installation;
use std::path::Path;
use std::time::Duration;

/// The planner's choices that the ledger makes for its own writes, so that both run the same plans.
const OPTIONS: &str = "-c jit=off -c plan_cache_mode=force_generic_plan -c enable_seqscan=off -c enable_hashjoin=off \
                       -c enable_mergejoin=off -c enable_bitmapscan=off";

fn script(operation: Operation) -> &'static str {
    match operation {
        Operation::Claim => include_str!("../sql/postgres/claim.sql"),
        Operation::Progress => include_str!("../sql/postgres/progress.sql"),
        Operation::Heartbeat => include_str!("../sql/postgres/heartbeat.sql"),
        Operation::Complete => {
            concat!(include_str!("../sql/postgres/own.sql"), include_str!("../sql/postgres/complete.sql"))
        }
        Operation::Enqueue => include_str!("../sql/postgres/enqueue.sql"),
        // The claim's answer names what is completed.
        Operation::Cycle => concat!(
            include_str!("../sql/postgres/claim.sql"),
            "\\gset\n",
            include_str!("../sql/postgres/complete.sql")
        ),
    }
}

/// Runs pgbench once on the schema of `url`; each caller has its own part of the `prepared` tasks.
pub fn run(url: &str, operation: Operation, callers: i64, prepared: i64, timing: Timing) -> Result<Samples> {
    let installation =
        Installation::find().ok_or_else(|| Error::failed("PostgreSQL's programs were not found"))?;
    let folder = tempfile::tempdir().map_err(|e| Error::failed(format!("cannot make a folder: {e}")))?;
    let (file, log) = (folder.path().join("script.sql"), folder.path().join("log"));
    std::fs::write(&file, script(operation))
        .map_err(|e| Error::failed(format!("cannot write {}: {e}", file.display())))?;
    let span = if operation == Operation::Complete { prepared / callers } else { HELD };
    let output = installation
        .command("pgbench")
        .args(["-n", "-M", "prepared", "-l", "-j", "1"])
        .args(["-c", &callers.to_string()])
        .args(["-T", &timing.whole().as_secs_f64().ceil().to_string()])
        .args(["-D", "i=0", "-D", "term=1", "-D", &format!("span={span}")])
        .arg(format!("--log-prefix={}", log.display()))
        .args(["-f", &file.display().to_string()])
        .arg(with_options(url, operation))
        .output()
        .map_err(|e| Error::failed(format!("cannot run pgbench: {e}")))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(Error::failed(format!("pgbench ({}): {}", operation.name(), said.trim())));
    }
    read_logs(folder.path(), timing)
}

/// Adds the planner's choices to the options of a URL, and what a renewal is allowed to lose in a crash.
fn with_options(url: &str, operation: Operation) -> String {
    let relaxed = if operation == Operation::Heartbeat { " -c synchronous_commit=off" } else { "" };
    let encoded: String = format!(" {OPTIONS}{relaxed}").replace(' ', "%20").replace('=', "%3D");
    format!("{url}{encoded}")
}

fn read_logs(folder: &Path, timing: Timing) -> Result<Samples> {
    let entries =
        std::fs::read_dir(folder).map_err(|e| Error::failed(format!("cannot read pgbench's log: {e}")))?;
    let logs = entries.flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with("log"));
    let text: String = logs.filter_map(|log| std::fs::read_to_string(log.path()).ok()).collect();
    Ok(read_log(&text, timing))
}

/// Reads lines of `client number latency_us script second microsecond`; those of the warm-up are not counted.
fn read_log(text: &str, timing: Timing) -> Samples {
    let calls: Vec<(u64, u64)> = text.lines().filter_map(read_line).collect();
    let Some(first) = calls.iter().map(|(at, latency)| at.saturating_sub(*latency)).min() else {
        return Samples::default();
    };
    let counted = first + micros(timing.warm_up);
    let end = calls.iter().map(|(at, _)| *at).max().unwrap_or(counted).min(counted + micros(timing.cell));
    let nanos = calls
        .iter()
        .filter(|(at, latency)| (counted..=end).contains(&at.saturating_sub(*latency)))
        .map(|(_, latency)| latency * 1_000)
        .collect();
    Samples::new(nanos, Duration::from_micros(end.saturating_sub(counted)))
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// Returns when a transaction ended and how long it took, in microseconds.
fn read_line(line: &str) -> Option<(u64, u64)> {
    let numbers: Vec<u64> = line.split(' ').filter_map(|word| word.parse().ok()).collect();
    match numbers.as_slice() {
        [_, _, latency, _, second, micro] => Some((second * 1_000_000 + micro, *latency)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_after_the_warm_up_are_counted() {
        let timing =
            Timing { warm_up: Duration::from_secs(1), cell: Duration::from_secs(2), probe: Duration::ZERO };
        let log =
            "0 1 500 0 100 500\n0 2 1000 0 101 600000\nprogress: x\n0 3 3000 0 102 0\n0 4 9000 0 104 0\n";
        let samples = read_log(log, timing);
        assert_eq!((samples.p50_ms(), samples.max_ms(), samples.per_second()), (3.0, 3.0, 1.0));
    }

    #[test]
    fn a_cycle_completes_what_it_claimed() {
        let cycle = script(Operation::Cycle);
        assert!(cycle.contains("select id, term from u\n\\gset\nwith u as ("), "{cycle}");
        assert!(cycle.contains("where id = :id and term = :term"), "{cycle}");
    }

    #[test]
    fn options_are_added_to_those_of_the_url() {
        let url = with_options("postgresql://u@/d?host=/s&options=-csearch_path%3Da", Operation::Heartbeat);
        assert!(url.contains("options=-csearch_path%3Da%20-c%20jit%3Doff"), "{url}");
        assert!(url.ends_with("synchronous_commit%3Doff"), "{url}");
    }
}

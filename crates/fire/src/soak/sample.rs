//! One look at everything that might grow: processes, the database, the machine.
//!
//! Here live the readings of `/proc`, of files and of the database's own books, each a list of named numbers. What they
//! mean is the business of `judge`.

use crate::Outcome;
use crate::arena::Arena;
use crate::ledger::{Ledger, Row};
use std::path::{Path, PathBuf};
use std::{fs, io};

/// Ticks of `/proc` in a second, on every Linux there is.
const TICKS: f64 = 100.0;

/// Tables that grow with the work, in the order in which `rows.sql` counts them.
pub const TABLES: [&str; 7] = ["tasks", "attempts", "events", "messages", "runs", "task_needs", "memories"];

/// What one process uses.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Usage {
    /// Resident memory, in MiB.
    pub memory_mib: f64,
    /// That part of it which is not the program's own text or another file, in MiB.
    pub own_mib: f64,
    /// Open files, without sockets.
    pub handles: f64,
    /// Open sockets: connections to the database, as many as were ever needed at once, up to the sizes of the pools.
    pub sockets: f64,
    /// Threads.
    pub threads: f64,
    /// Processor time since it began, in seconds.
    pub cpu_s: f64,
}

/// Reads what a process uses; `None` if it has ended.
pub fn usage(pid: u32) -> Option<Usage> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let (sockets, handles) = open(pid)?;
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    Some(Usage {
        memory_mib: field(&status, "VmRSS:")? / 1024.0,
        own_mib: field(&status, "RssAnon:")? / 1024.0,
        handles: handles as f64,
        sockets: sockets as f64,
        threads: field(&status, "Threads:")?,
        cpu_s: cpu_of(&stat)?,
    })
}

/// Counts sockets, and the other open files. One that is closed in the meantime counts as a file: it was there.
fn open(pid: u32) -> Option<(usize, usize)> {
    let of = fs::read_dir(format!("/proc/{pid}/fd")).ok()?.flatten().map(|entry| fs::read_link(entry.path()));
    let is_socket =
        |link: io::Result<PathBuf>| link.is_ok_and(|to| to.to_string_lossy().starts_with("socket:"));
    let sockets: Vec<bool> = of.map(is_socket).collect();
    let count = |wanted| sockets.iter().filter(|is| **is == wanted).count();
    Some((count(true), count(false)))
}

fn field(status: &str, name: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Reads the processor time from a line of the kernel, in which the name in brackets may hold anything.
fn cpu_of(stat: &str) -> Option<f64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let ticks: Vec<f64> =
        rest.split_whitespace().skip(11).take(2).filter_map(|word| word.parse().ok()).collect();
    (ticks.len() == 2).then(|| (ticks[0] + ticks[1]) / TICKS)
}

/// How much all processors have worked and idled since the machine began, in ticks.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Machine {
    busy: f64,
    idle: f64,
}

impl Machine {
    /// Reads it.
    pub fn now() -> Machine {
        Machine::read(&fs::read_to_string("/proc/stat").unwrap_or_default())
    }

    fn read(stat: &str) -> Machine {
        let line = stat.lines().next().unwrap_or_default();
        let ticks: Vec<f64> =
            line.split_whitespace().skip(1).take(8).filter_map(|word| word.parse().ok()).collect();
        // user nice system idle iowait irq softirq steal: waiting for the disk is idling.
        let idle = ticks.iter().skip(3).take(2).sum::<f64>();
        Machine { busy: ticks.iter().sum::<f64>() - idle, idle }
    }

    /// Returns the share that was worked since then, in per cent.
    pub fn busy_since(self, then: Machine) -> f64 {
        let (busy, idle) = (self.busy - then.busy, self.idle - then.idle);
        if busy + idle > 0.0 { busy * 100.0 / (busy + idle) } else { 0.0 }
    }
}

/// How large the database is.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Size {
    /// The file, or the database, in MiB.
    pub data_mib: f64,
    /// What is written ahead, in MiB. On PostgreSQL that is the server's business, and its settings'.
    pub wal_mib: f64,
    /// What of it is free to be used again, in MiB (SQLite), or dead rows (PostgreSQL).
    pub free: f64,
    /// Rows of each of [`TABLES`].
    pub rows: Vec<f64>,
    /// PostgreSQL: for each table its name, live and dead rows by the server's books, and its size with indexes, in MiB.
    pub books: Vec<(String, f64, f64, f64)>,
}

const MIB: f64 = 1024.0 * 1024.0;

/// Reads how large the database is.
pub fn size(arena: &Arena, ledger: &mut Ledger) -> Outcome<Size> {
    let mut size = match &arena.server {
        None => lite(&arena.path().join("ledger.db"), ledger)?,
        Some(_) => pg(ledger)?,
    };
    let rows = ledger.rows(include_str!("../../sql/rows.sql"))?;
    size.rows = (0..TABLES.len()).map(|at| number(&rows[0], at)).collect();
    Ok(size)
}

fn lite(file: &Path, ledger: &mut Ledger) -> Outcome<Size> {
    let of = |path: &Path| fs::metadata(path).map_or(0.0, |facts| facts.len() as f64 / MIB);
    let free = include_str!("../../sql/free_sqlite.sql");
    Ok(Size {
        data_mib: of(file),
        wal_mib: of(&file.with_extension("db-wal")),
        free: ledger.number(free)? as f64 / MIB,
        ..Size::default()
    })
}

fn pg(ledger: &mut Ledger) -> Outcome<Size> {
    let rows = ledger.rows(include_str!("../../sql/books_postgres.sql"))?;
    let book = |row: &Row| {
        (row[0].clone().unwrap_or_default(), number(row, 1), number(row, 2), number(row, 3) / MIB)
    };
    let books: Vec<_> = rows.iter().map(book).collect();
    let bytes = ledger.rows(include_str!("../../sql/bytes_postgres.sql"))?;
    Ok(Size {
        data_mib: number(&bytes[0], 0) / MIB,
        wal_mib: number(&bytes[0], 1) / MIB,
        free: books.iter().map(|book| book.2).sum(),
        books,
        ..Size::default()
    })
}

/// Reads a cell; what is no number is none.
fn number(row: &Row, at: usize) -> f64 {
    row.get(at).and_then(Option::as_ref).and_then(|text| text.parse().ok()).unwrap_or(f64::NAN)
}

/// Counts the files of kept output.
pub fn log_files(arena: &Arena) -> f64 {
    fs::read_dir(arena.path().join(".quorate/logs")).map_or(0, Iterator::count) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_use_is_read() {
        let before = usage(std::process::id()).expect("we live");
        assert!(before.memory_mib > 0.1 && before.threads >= 1.0, "{before:?}");
        let files: Vec<_> =
            (0..50).map(|_| fs::File::open("/proc/self/stat").expect("it is there")).collect();
        let after = usage(std::process::id()).expect("we live");
        // Other tests open and close files of this process at the same time.
        assert!(after.handles >= before.handles + 25.0, "{before:?} {after:?} {}", files.len());
        let ends: Vec<_> =
            (0..50).map(|_| std::os::unix::net::UnixStream::pair().expect("is made")).collect();
        let connected = usage(std::process::id()).expect("we live");
        assert!(connected.sockets >= after.sockets + 75.0, "{after:?} {connected:?} {}", ends.len());
        assert_eq!(usage(0), None);
    }

    #[test]
    fn processor_time_is_read_behind_any_name() {
        assert_eq!(cpu_of("7 (a) b) S 1 7 7 0 -1 4 0 0 0 0 150 50 0 0 20"), Some(2.0));
        assert_eq!(cpu_of("7 (a) S 1"), None);
    }

    #[test]
    fn a_machine_that_waits_for_its_disk_idles() {
        let then = Machine::read("cpu  100 0 100 700 100 0 0 0 0 0\ncpu0 1 2 3");
        let now = Machine::read("cpu  150 0 150 750 150 0 0 0 0 0\n");
        assert!((now.busy_since(then) - 50.0).abs() < 1e-9);
        assert!(then.busy_since(then).abs() < 1e-9);
    }
}

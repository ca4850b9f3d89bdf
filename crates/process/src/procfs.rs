//! What the kernel says about processes: `/proc` and nothing else.
//!
//! Here live the identity of a process and the reading of its facts. Whose process it is, and what to do about it,
//! is decided in [`crate::tree`].

use quorate_model::{Error, Result};
use std::fs;
use std::io::Read;

/// How many bytes of one process's environment are read at most; the kernel's own limit for it is about 6 MiB.
const MAX_ENVIRON: u64 = 8 << 20;

/// Clock ticks per second in `/proc`. It is part of the kernel's interface (`USER_HZ`), not its internal tick.
const TICKS_PER_SECOND: u64 = 100;

/// A process that cannot be mistaken for a later one with the same number (within one boot of the machine).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ProcessId {
    /// The number.
    pub pid: i32,
    /// When it started, in clock ticks since the machine booted (field 22 of `/proc/PID/stat`).
    pub start_time: u64,
}

impl ProcessId {
    /// Returns true while this very process runs. A zombie has ended.
    pub fn is_alive(self) -> bool {
        stat(self.pid).is_some_and(|s| s.start_time == self.start_time && !s.zombie)
    }

    /// Returns true while the number is this process's, be it running or a zombie.
    pub(crate) fn is_held(self) -> bool {
        start_time(self.pid) == Some(self.start_time)
    }
}

/// What is used of `/proc/PID/stat`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stat {
    pub pid: i32,
    pub parent: i32,
    pub group: i32,
    pub session: i32,
    pub zombie: bool,
    /// User and system time of it and of its descendants that were waited for.
    pub cpu_ticks: u64,
    pub start_time: u64,
}

impl Stat {
    pub(crate) fn id(&self) -> ProcessId {
        ProcessId { pid: self.pid, start_time: self.start_time }
    }
}

/// Returns when the process started, in clock ticks since boot; `None` if there is no such process.
pub fn start_time(pid: i32) -> Option<u64> {
    stat(pid).map(|s| s.start_time)
}

/// Returns this process.
///
/// # Errors
/// `Failed` when `/proc` cannot be read.
pub fn own_process() -> Result<ProcessId> {
    let own = i32::try_from(std::process::id()).ok().and_then(stat);
    own.map(|own| own.id()).ok_or_else(|| Error::failed("cannot read /proc/self/stat"))
}

/// Returns this process, who started it, who started that, and so on up to the first of the machine; `most` at most.
pub fn ancestry(most: usize) -> Vec<ProcessId> {
    let own = i32::try_from(std::process::id()).ok().and_then(stat);
    std::iter::successors(own, |process| stat(process.parent))
        .take(most)
        .map(|process| process.id())
        .collect()
}

/// Returns what a process is called (15 bytes at most); `None` if there is no such process.
pub fn name(pid: i32) -> Option<String> {
    kernel_text(&format!("/proc/{pid}/comm")).ok()
}

/// Returns the name of the space in which this process's number means something (pid_namespaces(7)).
pub(crate) fn pid_space() -> Result<String> {
    let space = fs::read_link("/proc/self/ns/pid");
    let space = space.map_err(|e| Error::failed(format!("cannot read /proc/self/ns/pid: {e}")))?;
    Ok(space.to_string_lossy().into_owned())
}

/// Returns the id of this boot of the machine. A [`ProcessId`] of another boot means nothing.
pub fn boot_id() -> Result<String> {
    kernel_text("/proc/sys/kernel/random/boot_id")
}

/// Returns the name of this machine.
pub fn host() -> Result<String> {
    kernel_text("/proc/sys/kernel/hostname")
}

fn kernel_text(path: &str) -> Result<String> {
    let text = fs::read_to_string(path).map_err(|e| Error::failed(format!("cannot read {path}: {e}")))?;
    Ok(text.trim().to_owned())
}

pub(crate) fn stat(pid: i32) -> Option<Stat> {
    let text = fs::read(format!("/proc/{pid}/stat")).ok()?;
    parse_stat(&String::from_utf8_lossy(&text))
}

/// Returns every process there is, as far as it can be read.
pub(crate) fn snapshot() -> Vec<Stat> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries.flatten().filter_map(|e| e.file_name().to_str()?.parse().ok()).filter_map(stat).collect()
}

/// Returns true if the process was started with every variable of `marker`. An empty marker marks nobody.
pub(crate) fn is_marked(pid: i32, marker: &[(String, String)]) -> bool {
    environ(pid).is_some_and(|environ| has_marker(&environ, marker))
}

/// Returns the variable `name` of a process that was started with every variable of `marker`.
pub(crate) fn variable(pid: i32, marker: &[(String, String)], name: &str) -> Option<String> {
    let environ = environ(pid).filter(|environ| has_marker(environ, marker))?;
    let value =
        environ.split(|b| *b == 0).find_map(|v| v.strip_prefix(name.as_bytes())?.strip_prefix(b"="))?;
    Some(String::from_utf8_lossy(value).into_owned())
}

/// What a process was started with; `None` if that may not be read.
fn environ(pid: i32) -> Option<Vec<u8>> {
    let mut environ = Vec::new();
    let file = fs::File::open(format!("/proc/{pid}/environ")).ok()?;
    file.take(MAX_ENVIRON).read_to_end(&mut environ).ok()?;
    Some(environ)
}

/// Returns the CPU time of a process and its living descendants, in milliseconds.
///
/// It follows the kernel's lists of children, so it costs what the tree is large, not what the machine is.
pub(crate) fn cpu_ms(pid: i32) -> u64 {
    let mut ticks = 0;
    let mut waiting = vec![pid];
    while let Some(pid) = waiting.pop() {
        ticks += stat(pid).map_or(0, |s| s.cpu_ticks);
        waiting.extend(children(pid));
    }
    ticks * 1000 / TICKS_PER_SECOND
}

fn children(pid: i32) -> Vec<i32> {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    let lists = threads.flatten().filter_map(|t| fs::read_to_string(t.path().join("children")).ok());
    lists.flat_map(|list| pids(&list)).collect()
}

/// Returns the process numbers in a list separated by white space.
pub(crate) fn pids(list: &str) -> Vec<i32> {
    list.split_ascii_whitespace().filter_map(|word| word.parse().ok()).collect()
}

fn has_marker(environ: &[u8], marker: &[(String, String)]) -> bool {
    let has = |name: &str, value: &str| {
        let wanted = format!("{name}={value}");
        environ.split(|b| *b == 0).any(|variable| variable == wanted.as_bytes())
    };
    !marker.is_empty() && marker.iter().all(|(name, value)| has(name, value))
}

/// Reads one line of `/proc/PID/stat`. The name in it may hold anything, so fields count from its last `)`.
fn parse_stat(text: &str) -> Option<Stat> {
    let (before, after) = text.rsplit_once(')')?;
    let pid = before.split_once(" (")?.0.parse().ok()?;
    let fields: Vec<&str> = after.split_ascii_whitespace().collect();
    let int = |n: usize| fields.get(n)?.parse::<i32>().ok();
    let ticks = |n: usize| fields.get(n)?.parse::<u64>().ok();
    Some(Stat {
        pid,
        zombie: matches!(*fields.first()?, "Z" | "X" | "x"),
        parent: int(1)?,
        group: int(2)?,
        session: int(3)?,
        cpu_ticks: (11..=14).filter_map(ticks).sum(),
        start_time: ticks(19)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = "12 (a) b) c) S 1 11 10 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 999 1 2";

    #[test]
    fn a_name_with_brackets_and_spaces_does_not_shift_the_fields() {
        let stat = parse_stat(LINE).unwrap();
        assert_eq!((stat.pid, stat.parent, stat.group, stat.session), (12, 1, 11, 10));
        assert_eq!((stat.zombie, stat.cpu_ticks, stat.start_time), (false, 26, 999));
    }

    #[test]
    fn a_line_that_is_cut_off_is_no_process() {
        for length in 0..LINE.len() - 6 {
            assert_eq!(parse_stat(&LINE[..length]), None, "{length}");
        }
    }

    #[test]
    fn a_marker_counts_only_whole_and_never_empty() {
        let environ = b"TASK=7\0TERM_=12\0X=\0";
        let check = |marker: &[(&str, &str)], expected: bool| {
            let marker: Vec<_> = marker.iter().map(|(n, v)| (n.to_string(), v.to_string())).collect();
            assert_eq!(has_marker(environ, &marker), expected, "{marker:?}");
        };
        check(&[("TASK", "7")], true);
        check(&[("TASK", "7"), ("TERM_", "12")], true);
        check(&[("TASK", "7"), ("TERM_", "1")], false);
        check(&[("ASK", "7")], false);
        check(&[("X", "")], true);
        check(&[], false);
    }

    #[test]
    fn this_process_is_alive_and_an_earlier_one_of_its_number_is_not() {
        let pid = std::process::id() as i32;
        let start_time = start_time(pid).unwrap();
        assert!(ProcessId { pid, start_time }.is_alive());
        assert!(!ProcessId { pid, start_time: start_time - 1 }.is_alive());
    }

    #[test]
    fn the_boot_and_the_host_have_names() {
        assert_eq!(boot_id().unwrap().len(), 36);
        assert!(!host().unwrap().is_empty());
    }
}

//! What the kernel says about processes: `/proc` and nothing else.
//!
//! Here live the identity of a process and the reading of its facts. Whose process it is, and what to do about it,
//! is decided in [`crate::tree`].
//!
//! The one idea: a process that cannot be looked at is not gone. Where no more files can be opened (EMFILE, ENFILE) the
//! kernel says nothing of any process, and whoever took that for an end would leave children running, or end those of a
//! supervisor that lives. So what is not known is an error here, never an empty answer.

use nix::errno::Errno;
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;
use quorate_model::{Error, Result};
use std::fs;
use std::io::{self, Read};

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
    /// Returns true while this very process runs, and while that cannot be told. A zombie has ended.
    pub fn is_alive(self) -> bool {
        look(self.pid)
            .map_or(true, |found| found.is_some_and(|s| s.start_time == self.start_time && !s.zombie))
    }

    /// Returns true while the number is this process's, be it running or a zombie. Of a child of ours that is not reaped
    /// the kernel says so without a file.
    pub(crate) fn is_held(self) -> bool {
        match look(self.pid) {
            Ok(found) => found.is_some_and(|s| s.start_time == self.start_time),
            Err(_) => is_own_child(self.pid),
        }
    }
}

/// Returns true while the number is that of a child of ours that runs or is not reaped.
fn is_own_child(pid: i32) -> bool {
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    // Any other error is about how it ended, which only one that is there can have.
    waitid(Id::Pid(Pid::from_raw(pid)), flags) != Err(Errno::ECHILD)
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

/// Returns when the process started, in clock ticks since boot; `None` if there is no such process, or it cannot be
/// looked at.
pub fn start_time(pid: i32) -> Option<u64> {
    stat(pid).map(|s| s.start_time)
}

/// Returns this process.
///
/// # Errors
/// `Failed` when `/proc` cannot be read.
pub fn own_process() -> Result<ProcessId> {
    match look(std::process::id() as i32) {
        Ok(Some(own)) => Ok(own.id()),
        Ok(None) => Err(Error::failed("cannot find this process in /proc: is it mounted?")),
        Err(e) => Err(unreadable(&e)),
    }
}

/// Says why `/proc` answers nothing.
pub(crate) fn unreadable(e: &io::Error) -> Error {
    let error = Error::failed(format!("cannot read /proc: {e}"));
    if is_short(e) {
        error.hint("raise the limit on open files (`ulimit -n`) and start again")
    } else {
        error
    }
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

/// Looks at a process; `None` if there is none of that number.
///
/// # Errors
/// It cannot be looked at: that says nothing about whether it runs.
pub(crate) fn look(pid: i32) -> io::Result<Option<Stat>> {
    match fs::read(format!("/proc/{pid}/stat")) {
        Ok(text) => match parse_stat(&String::from_utf8_lossy(&text)) {
            None => Err(io::ErrorKind::InvalidData.into()),
            found => Ok(found),
        },
        Err(e) if is_gone(&e) => Ok(None),
        Err(e) => Err(e),
    }
}

/// Looks at a process where it does no harm to miss it.
fn stat(pid: i32) -> Option<Stat> {
    look(pid).ok().flatten()
}

/// Before it was opened, or while it was read.
fn is_gone(e: &io::Error) -> bool {
    matches!(e.raw_os_error().map(Errno::from_raw), Some(Errno::ENOENT | Errno::ESRCH))
}

/// The system, or this process, has no more files or memory: everything else is about one process.
fn is_short(e: &io::Error) -> bool {
    matches!(e.raw_os_error().map(Errno::from_raw), Some(Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM))
}

/// Leaves out what is gone or not ours to read, as most of a machine is; not what cannot be read just now.
///
/// # Errors
/// The system is short of files or memory.
pub(crate) fn readable<T>(read: io::Result<T>) -> io::Result<Option<T>> {
    match read {
        Ok(read) => Ok(Some(read)),
        Err(e) if is_short(&e) => Err(e),
        Err(_) => Ok(None),
    }
}

/// Returns every process there is, as far as it is ours to look at.
///
/// # Errors
/// Somebody may be missing, of whom nothing is known then.
pub(crate) fn snapshot() -> io::Result<Vec<Stat>> {
    let mut all = Vec::new();
    for entry in fs::read_dir("/proc")? {
        if let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) {
            all.extend(readable(look(pid))?.flatten());
        }
    }
    Ok(all)
}

/// Returns true if the process was started with every variable of `marker`. An empty marker marks nobody.
///
/// # Errors
/// The system is short of files or memory.
pub(crate) fn is_marked(pid: i32, marker: &[(String, String)]) -> io::Result<bool> {
    Ok(environ(pid)?.is_some_and(|environ| has_marker(&environ, marker)))
}

/// Returns the variable `name` of a process that was started with every variable of `marker`.
///
/// # Errors
/// The system is short of files or memory.
pub(crate) fn variable(pid: i32, marker: &[(String, String)], name: &str) -> io::Result<Option<String>> {
    let Some(environ) = environ(pid)?.filter(|environ| has_marker(environ, marker)) else { return Ok(None) };
    let value = environ.split(|b| *b == 0).find_map(|v| v.strip_prefix(name.as_bytes())?.strip_prefix(b"="));
    Ok(value.map(|value| String::from_utf8_lossy(value).into_owned()))
}

/// What a process was started with; `None` if that may not be read.
fn environ(pid: i32) -> io::Result<Option<Vec<u8>>> {
    let read = || {
        let mut environ = Vec::new();
        fs::File::open(format!("/proc/{pid}/environ"))?.take(MAX_ENVIRON).read_to_end(&mut environ)?;
        Ok(environ)
    };
    readable(read())
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
    fn only_what_the_kernel_says_is_not_there_is_gone() {
        let of = |errno: Errno| io::Error::from(errno);
        for errno in [Errno::ENOENT, Errno::ESRCH] {
            assert!(is_gone(&of(errno)) && matches!(readable::<()>(Err(of(errno))), Ok(None)), "{errno}");
        }
        for errno in [Errno::EMFILE, Errno::ENFILE, Errno::ENOMEM] {
            assert!(!is_gone(&of(errno)) && readable::<()>(Err(of(errno))).is_err(), "{errno}");
        }
        // Another user's process is there, and no reason not to know about ours.
        assert!(!is_gone(&of(Errno::EACCES)) && matches!(readable::<()>(Err(of(Errno::EACCES))), Ok(None)));
    }

    #[test]
    fn a_child_is_known_without_a_file_until_it_is_reaped() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = child.id() as i32;
        assert!(is_own_child(pid));
        child.wait().unwrap();
        assert!(!is_own_child(pid));
        assert!(!is_own_child(std::process::id() as i32));
    }

    #[test]
    fn the_boot_and_the_host_have_names() {
        assert_eq!(boot_id().unwrap().len(), 36);
        assert!(!host().unwrap().is_empty());
    }
}

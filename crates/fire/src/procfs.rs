//! Which processes belong to a storm: those that carry its ledger's address in their environment.
//!
//! Here live the reading of `/proc`, and the end of what is left at last. A process is never chosen by its name.

use crate::party::signal;
use nix::sys::signal::Signal;
use std::fs;

/// A process that works, or has worked, at a task of this storm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Marked {
    /// Its number.
    pub pid: i32,
    /// Who started it.
    pub parent: u32,
    /// The task …
    pub task: i64,
    /// … and the attempt at it.
    pub attempt: i64,
    /// What it runs, for people.
    pub command: String,
}

/// Finds every process, other than nodes, that was started for a task of the ledger at `url`. Zombies have ended.
pub fn children_of(url: &str) -> Vec<Marked> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(|pid| marked(pid, url)).collect()
}

/// Kills what nobody has ended; answers with words about each.
pub fn end_orphans(orphans: &[Marked]) -> Vec<String> {
    let end = |orphan: &Marked| {
        signal(orphan.pid, Signal::SIGKILL);
        format!("process {} of task {}: {}", orphan.pid, orphan.task, orphan.command)
    };
    orphans.iter().map(end).collect()
}

fn marked(pid: i32, url: &str) -> Option<Marked> {
    let environ = fs::read(format!("/proc/{pid}/environ")).ok()?;
    let (task, attempt) = work_of(&environ, url)?;
    let parent = parent_of(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)?;
    let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let command = String::from_utf8_lossy(&command).trim_end_matches('\0').replace('\0', " ");
    Some(Marked { pid, parent, task, attempt, command })
}

/// Reads the parent from a line of the kernel, in which the name in brackets may hold anything.
fn parent_of(stat: &str) -> Option<u32> {
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(1)?.parse().ok()
}

/// Returns the task and attempt that an environment names, if its ledger is this one.
fn work_of(environ: &[u8], url: &str) -> Option<(i64, i64)> {
    let environ = String::from_utf8_lossy(environ);
    let find = |name: &str| environ.split('\0').find_map(|entry| entry.strip_prefix(name)?.strip_prefix('='));
    let number = |name: &str| find(name)?.parse().ok();
    (find("QUORATE_STORE")? == url).then_some(())?;
    Some((number("QUORATE_TASK_ID")?, number("QUORATE_ATTEMPT")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_children_of_this_ledger_are_found() {
        let check = |environ: &str, expected| {
            assert_eq!(work_of(environ.as_bytes(), "sqlite:/a"), expected, "{environ:?}");
        };
        check("A=1\0QUORATE_STORE=sqlite:/a\0QUORATE_TASK_ID=7\0QUORATE_ATTEMPT=2\0", Some((7, 2)));
        check("QUORATE_STORE=sqlite:/a\0", None);
        check("QUORATE_STORE=sqlite:/ab\0QUORATE_TASK_ID=7\0QUORATE_ATTEMPT=2\0", None);
        check("QUORATE_TASK_ID=7\0QUORATE_ATTEMPT=2\0", None);
    }

    #[test]
    fn the_parent_is_read_behind_any_name() {
        assert_eq!(parent_of("7 (a) b) (c) S 42 7 7 0"), Some(42));
        assert_eq!(parent_of("7"), None);
    }

    #[test]
    fn a_marked_process_is_found_in_proc() {
        let url = format!("sqlite:/nowhere/{}", std::process::id());
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .env("QUORATE_STORE", &url)
            .env("QUORATE_TASK_ID", "3")
            .env("QUORATE_ATTEMPT", "1")
            .spawn()
            .expect("sleep starts");
        // Its environment can be read only once the program has begun.
        let mut found = Vec::new();
        for _ in 0..200 {
            found = children_of(&url);
            if !found.is_empty() {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        child.kill().expect("it is ended");
        child.wait().expect("it has ended");
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!((found[0].pid, found[0].task), (child.id() as i32, 3));
        assert_eq!(found[0].parent, std::process::id());
        assert_eq!(children_of(&url), []);
    }
}

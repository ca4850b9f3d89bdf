//! What a child may use, and what the system can do to hold it to that.
//!
//! Here live the limits, the choice of the means, the answer for `doctor`, and the limit on files that this process has
//! for itself. How control groups work is in `cgroup`.

use crate::cgroup;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use quorate_model::{Error, Result};
use std::sync::OnceLock;

/// What a child and its descendants may use; `None` is no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    /// Memory in bytes: of the whole tree with [`Mechanism::CgroupV2`], of each process with [`Mechanism::Rlimit`].
    pub memory_bytes: Option<u64>,
    /// CPU time of the whole tree in percent of one core; 200 is two cores. At least 1.
    pub cpu_percent: Option<u32>,
}

/// How a limit is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mechanism {
    /// A control group (version 2) for each child: the limit counts the whole tree.
    CgroupV2,
    /// A resource limit: the limit counts each process by itself.
    Rlimit,
    /// It is not held.
    None,
}

impl Mechanism {
    /// Returns the name for people and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Mechanism::CgroupV2 => "cgroup v2",
            Mechanism::Rlimit => "rlimit",
            Mechanism::None => "none",
        }
    }
}

/// What this process can do about limits here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Support {
    /// How memory is limited.
    pub memory: Mechanism,
    /// How CPU time is limited.
    pub cpu: Mechanism,
    /// Why it is no better, in one sentence; or where it is done.
    pub why: String,
}

/// Says how limits are held for children of this process. Looks, and changes nothing.
///
/// The answer depends on where the process was started: a systemd unit with `Delegate=yes` has control groups of its
/// own, the same program in a terminal usually has not.
pub fn support() -> Support {
    match cgroup::find() {
        Ok(base) => judge(base.memory, base.cpu, "controllers are not passed on to this control group"),
        Err(why) => judge(false, false, &why),
    }
}

fn judge(memory: bool, cpu: bool, why: &str) -> Support {
    let group = |has: bool, otherwise| if has { Mechanism::CgroupV2 } else { otherwise };
    let why = match (memory, cpu) {
        (true, true) => "each child has a control group".to_owned(),
        _ => format!("{why}; a systemd unit with Delegate=yes has control groups of its own"),
    };
    Support { memory: group(memory, Mechanism::Rlimit), cpu: group(cpu, Mechanism::None), why }
}

/// Limits the memory of this process and of what it becomes; called between fork and exec.
///
/// It is the limit on data, not on address space: programs with a virtual machine (node, Java, Go) reserve far more
/// address space than they ever use and would not even start. A hard limit that is lower already stays.
pub(crate) fn limit_data(bytes: u64) -> nix::Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_DATA)?;
    let bytes = bytes.min(hard);
    setrlimit(Resource::RLIMIT_DATA, bytes, bytes)
}

/// The limit on open files that this process began with, once it has raised it.
static FILES_BEFORE: OnceLock<u64> = OnceLock::new();

/// Lets this process open as many files as the system allows it, and returns how many that is. Call it when a supervisor of
/// many children starts: each takes several files, and who can open no more cannot see whom to end.
///
/// Its children get the limit that it began with: programs that wait with `select`, or that close whatever might be open,
/// are made for that one.
///
/// # Errors
/// `Failed` when the system refuses. The limit is then what it was.
pub fn raise_open_files() -> Result<u64> {
    let cannot = |e| Error::failed(format!("cannot raise the limit on open files: {e}"));
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).map_err(cannot)?;
    if soft < hard {
        FILES_BEFORE.get_or_init(|| soft);
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard).map_err(cannot)?;
    }
    Ok(hard)
}

/// Returns the limit on open files for a child, if it is another than ours.
pub(crate) fn files_before() -> Option<u64> {
    FILES_BEFORE.get().copied()
}

/// Limits the open files of this process and of what it becomes; called between fork and exec. What is asked for was its
/// own limit: a hard limit that was lowered since stays.
pub(crate) fn limit_files(files: u64) -> nix::Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, files.min(hard), hard)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_limit_has_the_best_means_there_is() {
        let check = |memory, cpu, expected: (Mechanism, Mechanism)| {
            let support = judge(memory, cpu, "because");
            assert_eq!((support.memory, support.cpu), expected);
            assert_eq!(support.why.starts_with("because"), !(memory && cpu));
        };
        check(true, true, (Mechanism::CgroupV2, Mechanism::CgroupV2));
        check(true, false, (Mechanism::CgroupV2, Mechanism::None));
        check(false, false, (Mechanism::Rlimit, Mechanism::None));
    }
}

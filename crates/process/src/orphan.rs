//! Children whose supervisor died.
//!
//! Here lives the ending of what another supervisor left running. Which children those are, the caller knows: it
//! stored [`ProcessId`], [`boot_id`](crate::boot_id) and [`host`](crate::host) when it started them,
//! and must compare boot and host first: a process of another boot or machine is none of ours.
//!
//! The child itself dies with its supervisor (see `spawn`), but not what it had started; so the tree is looked
//! for even if the child is gone, by its marker. And what nobody stored is found by the supervisor that it names.

use crate::cgroup::{self, Group};
use crate::procfs::{self, ProcessId, unreadable};
use crate::stop;
use crate::tree::Tree;
use quorate_model::{Error, Result};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

pub use crate::stop::Ended;

/// Ends all that is left of a child: TERM, grace, KILL. Ending what is not there is no error.
///
/// `marker` is what [`Command::marker`](crate::Command::marker) was. A `child` that runs and was started without it is
/// somebody else's, whoever noted it: a note can be wrong, or forged. Who empties his environment dies with his supervisor
/// like any child. An empty marker is not asked for. It never touches this process, those that started
/// it, or one that is older than the child; and no control group that one of those is in, which would be to end them and
/// their other children with it.
pub async fn end(child: ProcessId, marker: &[(String, String)], grace: Duration) -> Ended {
    let is_marked = || procfs::is_marked(child.pid, marker).unwrap_or(false);
    let is_ours = marker.is_empty() || !child.is_alive() || is_marked();
    let child = if is_ours { child } else { NOBODY };
    let mut tree = Tree { root: child, marker: marker.to_vec(), group: None };
    let found = stop::members(&tree).await;
    let group = found.iter().flatten().find_map(|process| Group::of(process.pid));
    tree.group = group.filter(|group| !group.holds_us()).map(Arc::new);
    let ended = match stop::is_nobody(&found) {
        true => Ended::default(),
        false => stop::end(&tree, grace, std::future::pending()).await,
    };
    drop(tree);
    cgroup::sweep();
    ended
}

/// Names, in a child's environment, the process that supervises it.
pub const SUPERVISOR: &str = "QUORATE_SUPERVISOR";

/// Returns how this process names itself to its children: the space of process numbers it lives in, its number there,
/// and its start.
pub fn supervisor() -> Result<String> {
    let own = procfs::own_process()?;
    Ok(format!("{} {} {}", procfs::pid_space()?, own.pid, own.start_time))
}

/// Ends everything on this machine whose supervisor is gone; answers with how many processes that were.
///
/// `marker` narrows it to what was started with these variables. A supervisor in another space of process numbers (a
/// container) is none of ours to judge.
///
/// # Errors
/// `Failed` when `/proc` cannot be read, as where no more files can be opened. Nobody is ended then.
pub async fn end_strays(marker: &[(String, String)], grace: Duration) -> Result<usize> {
    let space = procfs::pid_space()?;
    let wanted = marker.to_vec();
    let search = tokio::task::spawn_blocking(move || dead_supervisors(&space, &wanted)).await;
    let mut ended = 0;
    for name in search.map_err(|e| Error::failed(format!("the search for strays: {e}")))?? {
        let mut marker = marker.to_vec();
        marker.push((SUPERVISOR.to_owned(), name));
        ended += end(NOBODY, &marker, grace).await.ended;
    }
    Ok(ended)
}

/// Stands for a child that was never noted, or in another boot: no process has this number, and all are younger. What
/// belongs to it is known by its marker alone.
pub const NOBODY: ProcessId = ProcessId { pid: i32::MAX, start_time: 0 };

/// Lists the supervisors that marked processes name and that do not run. We do, whatever can be seen of us.
fn dead_supervisors(space: &str, marker: &[(String, String)]) -> Result<BTreeSet<String>> {
    let own = procfs::own_process()?;
    let is_dead = |supervisor: ProcessId| supervisor != own && !supervisor.is_alive();
    let mut dead = BTreeSet::new();
    let running =
        procfs::snapshot().map_err(|e| unreadable(&e))?.into_iter().filter(|process| !process.zombie);
    for process in running {
        let named = procfs::variable(process.pid, marker, SUPERVISOR).map_err(|e| unreadable(&e))?;
        dead.extend(named.filter(|name| read_supervisor(name, space).is_some_and(is_dead)));
    }
    Ok(dead)
}

/// Reads a name back; `None` if it is of another space.
fn read_supervisor(name: &str, space: &str) -> Option<ProcessId> {
    let (pid, start_time) = name.strip_prefix(space)?.strip_prefix(' ')?.split_once(' ')?;
    Some(ProcessId { pid: pid.parse().ok()?, start_time: start_time.parse().ok()? })
}

/// Returns true while this very process runs, and while that cannot be told.
pub fn is_alive(child: ProcessId) -> bool {
    child.is_alive()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_supervisor_of_another_space_is_not_judged() {
        let name = supervisor().unwrap();
        let own = procfs::own_process().unwrap();
        assert_eq!(read_supervisor(&name, &procfs::pid_space().unwrap()), Some(own));
        assert_eq!(read_supervisor(&name, "pid:[1]"), None);
        for name in ["", "pid:[1]", "pid:[1] 7", "pid:[1] x 9", "pid:[1]7 9"] {
            assert_eq!(read_supervisor(name, "pid:[1]"), None, "{name}");
        }
    }
}

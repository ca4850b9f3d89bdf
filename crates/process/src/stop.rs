//! The end of a tree: TERM, grace, KILL, until nobody is left.
//!
//! Here live the waits between the signals. Who belongs to a tree is decided in [`crate::tree`].

use crate::procfs::ProcessId;
use crate::tree::Tree;
use nix::sys::signal::Signal;
use std::collections::HashSet;
use std::io;
use std::time::Duration;
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};

/// How long processes have to go after KILL. Longer takes only who is held by the kernel (a dead network file system).
const KILL_WAIT: Duration = Duration::from_secs(5);
/// The first and the longest wait between two looks at a tree that is ending.
const LOOK: Duration = Duration::from_millis(5);
const MAX_LOOK: Duration = Duration::from_millis(100);

/// How an end went.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ended {
    /// How many processes were ended.
    pub ended: usize,
    /// How many are still there after KILL; 1 where that cannot be told.
    pub left: usize,
}

/// Who was found, or that nobody can tell who there is.
pub(crate) type Found = io::Result<Vec<ProcessId>>;

/// Returns whether it is known that nobody is there.
pub(crate) fn is_nobody(found: &Found) -> bool {
    matches!(found, Ok(list) if list.is_empty())
}

/// Ends a tree. `now` cuts the grace short.
///
/// While nobody can tell who there is, it goes on as if somebody were: what is not known is not gone.
pub(crate) async fn end(tree: &Tree, grace: Duration, now: impl Future<Output = ()>) -> Ended {
    let first = signal(tree, Signal::SIGTERM).await;
    let mut seen: HashSet<ProcessId> = first.iter().flatten().copied().collect();
    if !is_nobody(&first) {
        // One that is stopped takes TERM only after it goes on.
        let _ = signal(tree, Signal::SIGCONT).await;
        tokio::select! {
            () = now => {}
            _ = timeout(grace, gone(tree)) => {}
        }
    }
    let _ = timeout(KILL_WAIT, kill(tree, &mut seen)).await;
    let left = members(tree).await.map_or(1, |left| left.len());
    Ended { ended: seen.len().saturating_sub(left), left }
}

/// Waits until nobody is left.
pub(crate) async fn gone(tree: &Tree) {
    let mut look = LOOK;
    while !is_nobody(&members(tree).await) {
        sleep(look).await;
        look = (look * 2).min(MAX_LOOK);
    }
}

/// Returns who is left.
pub(crate) async fn members(tree: &Tree) -> Found {
    let tree = tree.clone();
    spawn_blocking(move || tree.members()).await.unwrap_or_else(|e| Err(io::Error::other(e)))
}

/// Kills again and again: one that forks while it is looked for is found the next time.
async fn kill(tree: &Tree, seen: &mut HashSet<ProcessId>) {
    let mut look = LOOK;
    loop {
        let found = signal(tree, Signal::SIGKILL).await;
        if is_nobody(&found) {
            return;
        }
        seen.extend(found.into_iter().flatten());
        sleep(look).await;
        look = (look * 2).min(MAX_LOOK);
    }
}

async fn signal(tree: &Tree, signal: Signal) -> Found {
    let tree = tree.clone();
    spawn_blocking(move || tree.signal(signal)).await.unwrap_or_else(|e| Err(io::Error::other(e)))
}

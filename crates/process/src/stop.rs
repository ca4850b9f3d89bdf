//! The end of a tree: TERM, grace, KILL, until nobody is left.
//!
//! Here live the waits between the signals. Who belongs to a tree is decided in [`crate::tree`].

use crate::procfs::ProcessId;
use crate::tree::Tree;
use nix::sys::signal::Signal;
use std::collections::HashSet;
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
    /// How many are still there after KILL.
    pub left: usize,
}

/// Ends a tree. `now` cuts the grace short.
pub(crate) async fn end(tree: &Tree, grace: Duration, now: impl Future<Output = ()>) -> Ended {
    let mut seen: HashSet<ProcessId> = signal(tree, Signal::SIGTERM).await.into_iter().collect();
    if !seen.is_empty() {
        // One that is stopped takes TERM only after it goes on.
        signal(tree, Signal::SIGCONT).await;
        tokio::select! {
            () = now => {}
            _ = timeout(grace, gone(tree)) => {}
        }
    }
    let _ = timeout(KILL_WAIT, kill(tree, &mut seen)).await;
    let left = members(tree).await.len();
    Ended { ended: seen.len().saturating_sub(left), left }
}

/// Waits until nobody is left.
pub(crate) async fn gone(tree: &Tree) {
    let mut look = LOOK;
    while !members(tree).await.is_empty() {
        sleep(look).await;
        look = (look * 2).min(MAX_LOOK);
    }
}

/// Returns who is left.
pub(crate) async fn members(tree: &Tree) -> Vec<ProcessId> {
    let tree = tree.clone();
    spawn_blocking(move || tree.members()).await.unwrap_or_default()
}

/// Kills again and again: one that forks while it is looked for is found the next time.
async fn kill(tree: &Tree, seen: &mut HashSet<ProcessId>) {
    let mut look = LOOK;
    loop {
        let found = signal(tree, Signal::SIGKILL).await;
        if found.is_empty() {
            return;
        }
        seen.extend(found);
        sleep(look).await;
        look = (look * 2).min(MAX_LOOK);
    }
}

async fn signal(tree: &Tree, signal: Signal) -> Vec<ProcessId> {
    let tree = tree.clone();
    spawn_blocking(move || tree.signal(signal)).await.unwrap_or_default()
}

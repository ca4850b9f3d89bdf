//! Children whose supervisor died.
//!
//! Here lives the ending of what another supervisor left running. Which children those are, the caller knows: it
//! stored [`ProcessId`], [`boot_id`](crate::boot_id) and [`host`](crate::host) when it started them,
//! and must compare boot and host first: a process of another boot or machine is none of ours.
//!
//! The child itself dies with its supervisor (see `spawn`), but not what it had started; so the tree is looked
//! for even if the child is gone, by its marker.

use crate::cgroup::{self, Group};
use crate::procfs::ProcessId;
use crate::stop;
use crate::tree::Tree;
use std::sync::Arc;
use std::time::Duration;

pub use crate::stop::Ended;

/// Ends all that is left of a child: TERM, grace, KILL. Ending what is not there is no error.
///
/// `marker` is what [`Command::marker`](crate::Command::marker) was. It never touches this process, those that started
/// it, or one that is older than the child.
pub async fn end(child: ProcessId, marker: &[(String, String)], grace: Duration) -> Ended {
    let mut tree = Tree { root: child, marker: marker.to_vec(), group: None };
    let found = stop::members(&tree).await;
    tree.group = found.iter().find_map(|process| Group::of(process.pid)).map(Arc::new);
    let ended = match found.is_empty() {
        true => Ended::default(),
        false => stop::end(&tree, grace, std::future::pending()).await,
    };
    drop(tree);
    cgroup::sweep();
    ended
}

/// Returns true while this very process runs.
pub fn is_alive(child: ProcessId) -> bool {
    child.is_alive()
}

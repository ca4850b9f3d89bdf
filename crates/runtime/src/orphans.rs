//! After a node died: its children are ended, and what it held is free at once.
//!
//! Here lives the part of a start that cleans up after a crash on this host. A node is dead only if its very process
//! (number and start, in this boot) is gone.

use quorate_model::Result;
use quorate_process::{ProcessId, boot_id, host, orphan};
use quorate_service::node::{Bury, Gone, List, Node, Noted, Orphan, Orphans};
use quorate_store::Store;
use std::time::Duration;

/// How a process is stored: the boot it belongs to, and its start in it.
pub(crate) fn stored_start(start: u64) -> Result<String> {
    Ok(format!("{} {start}", boot_id()?))
}

/// Reads a stored start back; `None` if it belongs to another boot, when the process is gone for certain.
fn read_start(text: &str) -> Option<u64> {
    let (boot, start) = text.split_once(' ')?;
    (boot == boot_id().ok()?).then(|| start.parse().ok()).flatten()
}

/// The process of this program, as it is stored.
pub(crate) fn own_process() -> Result<(i64, String)> {
    let own = quorate_process::own_process()?;
    Ok((own.pid.into(), stored_start(own.start_time)?))
}

/// Lists the nodes of this host that run.
///
/// # Errors
/// `Unavailable` when the ledger cannot be read.
pub async fn running_here(store: &Store) -> Result<Vec<Node>> {
    let host = host()?;
    Ok(store.read(List).await?.into_iter().filter(|node| node.host == host && is_running(node)).collect())
}

/// Ends what dead nodes of this host left behind: the children of what they held, then those of what was lost earlier.
///
/// # Errors
/// `Unavailable` when the ledger cannot be read or written.
pub async fn end_orphans(store: &Store, store_url: &str, grace: Duration) -> Result<()> {
    let host = host()?;
    for node in store.read(List).await?.into_iter().filter(|node| node.host == host && !is_running(node)) {
        for orphan in store.write(Bury { id: node.id }).await? {
            end(store, store_url, &orphan, grace).await?;
        }
    }
    for orphan in store.read(Orphans { host }).await? {
        // Who was only stopped (Ctrl-Z, a sleep) ends its children itself when it wakes.
        if !orphan.supervisor.as_ref().is_some_and(|(pid, started)| is_process(*pid, started)) {
            end(store, store_url, &orphan, grace).await?;
        }
    }
    end_strays(store_url, grace).await
}

/// Ends what dead nodes of this host left behind and nobody has noted: checks, and children of a moment.
///
/// # Errors
/// `Failed` when `/proc` cannot be read.
pub(crate) async fn end_strays(store_url: &str, grace: Duration) -> Result<()> {
    orphan::end_strays(&[("QUORATE_STORE".to_owned(), store_url.to_owned())], grace).await.map(drop)
}

/// Ends all that is left of one child, by its marker and by its noted process in one search, since neither finds all.
///
/// The marker finds every descendant that kept its environment, also of a child that nobody noted. The noted process
/// finds who did not keep it: the child itself, should it have outlived its supervisor, and who stayed in the child's
/// session. When the child is gone, a marked one in that session proves that the session is still the child's; so who
/// has the marker must not be ended in an earlier search.
async fn end(store: &Store, store_url: &str, orphan: &Orphan, grace: Duration) -> Result<()> {
    let child = orphan.noted.as_ref().and_then(noted_process).unwrap_or(orphan::NOBODY);
    let ended = orphan::end(child, &marker(orphan, store_url), grace).await;
    if ended.left > 0 {
        // What it holds is not free while some of it may still work; its claims end with their leases.
        return Ok(());
    }
    if let Some(Noted { attempt, .. }) = orphan.noted {
        store.write(Gone { task: orphan.task, attempt, term: orphan.term }).await?;
    }
    Ok(())
}

fn noted_process(noted: &Noted) -> Option<ProcessId> {
    process(noted.pid, &noted.pid_started)
}

/// Returns whether the very process of a node of this host still runs.
pub fn is_running(node: &Node) -> bool {
    is_process(node.pid, &node.pid_started)
}

fn is_process(pid: i64, started: &str) -> bool {
    process(pid, started).is_some_and(ProcessId::is_alive)
}

fn process(pid: i64, started: &str) -> Option<ProcessId> {
    Some(ProcessId { pid: i32::try_from(pid).ok()?, start_time: read_start(started)? })
}

fn marker(orphan: &Orphan, store_url: &str) -> [(String, String); 3] {
    [
        ("QUORATE_TASK_ID".to_owned(), orphan.task.to_string()),
        ("QUORATE_TERM".to_owned(), orphan.term.to_string()),
        ("QUORATE_STORE".to_owned(), store_url.to_owned()),
    ]
}

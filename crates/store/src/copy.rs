//! Copies of an embedded ledger, made by SQLite while everything runs.
//!
//! Here live a copy in a file that somebody named, and one without a name for who only reads it once. Each is consistent: it
//! is the ledger at one moment.

use crate::lite::{LiteConn, wrong};
use quorate_model::{Error, Result};
use std::fs::{DirEntry, File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

/// How long a nameless copy that still has a name is taken for one that grows; an older one was left by a process that
/// was killed.
const GROWS_MAX: Duration = Duration::from_secs(24 * 3_600);

/// Copies the ledger at `ledger` to a new file.
pub(crate) async fn to(file: PathBuf, ledger: PathBuf, busy: Duration) -> Result<()> {
    beside(move || {
        if file.exists() {
            return Err(Error::invalid(format!("{} is there already", file.display()))
                .hint("name a new file, or move the old one away"));
        }
        copy(&ledger, busy, &file)
    })
    .await
}

/// Copies it to a file that is gone once it is closed. It grows beside the ledger, where there may be room for as much again,
/// under a name that is taken away before anyone gets it.
pub(crate) async fn without_name(ledger: PathBuf, busy: Duration) -> Result<File> {
    beside(move || {
        drop_old(&ledger);
        let name = fresh_name(&ledger);
        let cannot = |what: &str, e: std::io::Error| {
            Error::failed(format!("cannot {what} {}: {e}", name.display()))
                .hint("a copy needs room beside the ledger, and the right to write there")
        };
        // Readable by this user alone, before there is anything in it.
        let made = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&name);
        let file = made.map_err(|e| cannot("make", e))?;
        let copied = copy(&ledger, busy, &name);
        let unnamed = std::fs::remove_file(&name);
        copied?;
        unnamed.map_err(|e| cannot("remove", e))?;
        Ok(file)
    })
    .await
}

fn copy(ledger: &Path, busy: Duration, file: &Path) -> Result<()> {
    let from = LiteConn::open_to_read(ledger, busy)?;
    from.conn.backup("main", file, None::<fn(rusqlite::backup::Progress)>).map_err(|e| wrong(&e, file))
}

async fn beside<T: Send + 'static>(copying: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let done = tokio::task::spawn_blocking(copying).await;
    done.map_err(|e| Error::failed(format!("the copy stopped: {e}")))?
}

/// How the names of nameless copies begin while they grow.
fn prefix(ledger: &Path) -> PathBuf {
    let mut name = ledger.as_os_str().to_owned();
    name.push(".copy-");
    PathBuf::from(name)
}

/// Returns a name that no other copy has.
fn fresh_name(ledger: &Path) -> PathBuf {
    static MADE: AtomicI64 = AtomicI64::new(0);
    let mut name = prefix(ledger).into_os_string();
    name.push(format!("{}-{}", std::process::id(), MADE.fetch_add(1, Ordering::Relaxed)));
    PathBuf::from(name)
}

fn drop_old(ledger: &Path) {
    let prefix = prefix(ledger);
    let (Some(folder), Some(begins)) = (prefix.parent(), prefix.file_name()) else { return };
    let is_old = |entry: &DirEntry| {
        let changed = entry.metadata().and_then(|facts| facts.modified()).ok();
        entry.file_name().as_encoded_bytes().starts_with(begins.as_encoded_bytes())
            && changed.and_then(|at| at.elapsed().ok()).is_some_and(|age| age > GROWS_MAX)
    };
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten().filter(is_old) {
        // What cannot be removed now may be the next time.
        let _ = std::fs::remove_file(entry.path());
    }
}

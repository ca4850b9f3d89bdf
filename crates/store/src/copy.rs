//! Copies of an embedded ledger, made by SQLite while everything runs.
//!
//! Here live a copy in a file that somebody named, and one without a name for who only reads it once. Each is consistent: it
//! is the ledger at one moment.

use crate::lite::{LiteConn, wrong};
use quorate_model::{Error, Result};
use rusqlite::backup::Progress;
use std::fs::{DirEntry, File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

/// How long a nameless copy that still has a name is taken for one that grows; an older one was left by a process that
/// was killed.
const GROWS_MAX: Duration = Duration::from_secs(24 * 3_600);

/// Copies the ledger at `ledger` to a new file. One that does not come to its end leaves none behind.
pub(crate) async fn to(file: PathBuf, ledger: PathBuf, busy: Duration) -> Result<()> {
    beside(move || {
        make(&file)?;
        let copied = copy(&ledger, busy, &file, || {});
        if copied.is_err() {
            // It was made here, and half a copy in its place would keep the next from being made.
            let _ = std::fs::remove_file(&file);
        }
        copied
    })
    .await
}

fn make(file: &Path) -> Result<()> {
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(file) {
        Ok(_) => Ok(()),
        Err(e) if e.kind() == ErrorKind::AlreadyExists => {
            Err(Error::invalid(format!("{} is there already", file.display()))
                .hint("name a new file, or move the old one away"))
        }
        Err(e) => Err(Error::unavailable(format!("cannot make {}: {e}", file.display()))
            .hint("name a file in a folder that is there and that this user may write to")),
    }
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
        let copied = copy(&ledger, busy, &name, || {});
        let unnamed = std::fs::remove_file(&name);
        copied?;
        unnamed.map_err(|e| cannot("remove", e))?;
        Ok(file)
    })
    .await
}

/// Copies it piece by piece; `after_each` is called after each.
///
/// The moment that is copied is held from before the first piece to the last. A copy that holds none begins anew whenever
/// another connection commits, and of a ledger at work it would never come to its end. What that costs: what is written
/// meanwhile stays in the write-ahead log until the copy is made.
fn copy(ledger: &Path, busy: Duration, file: &Path, after_each: impl Fn()) -> Result<()> {
    let from = LiteConn::open_to_read(ledger, busy)?;
    from.hold()?;
    from.conn.backup("main", file, Some(|_: Progress| after_each())).map_err(|e| wrong(&e, file))
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

#[cfg(test)]
mod tests {
    use super::*;
    use rusqlite::Connection;
    use std::cell::Cell;

    type Tested = std::result::Result<(), Box<dyn std::error::Error>>;

    const BUSY: Duration = Duration::from_secs(5);

    /// A file of some pieces in which somebody may go on writing.
    fn at_work(file: &Path) -> rusqlite::Result<Connection> {
        let conn = Connection::open(file)?;
        conn.execute_batch(
            "pragma journal_mode = wal; create table rows (text text);
             with recursive n (i) as (select 1 union all select i + 1 from n where i < 500)
             insert into rows select hex(zeroblob(2000)) from n",
        )?;
        Ok(conn)
    }

    #[test]
    fn a_copy_ends_although_somebody_commits_all_the_time() -> Tested {
        let folder = tempfile::tempdir()?;
        let (ledger, file) = (folder.path().join("a.db"), folder.path().join("b.db"));
        let writer = at_work(&ledger)?;
        let pieces = Cell::new(0);
        copy(&ledger, BUSY, &file, || {
            pieces.set(pieces.get() + 1);
            assert!(pieces.get() < 100, "it begins anew again and again");
            writer.execute_batch("insert into rows values ('later')").expect("nobody keeps it from writing");
        })?;
        assert!(pieces.get() > 3, "it was made in pieces: {}", pieces.get());
        let copied = Connection::open(&file)?;
        let rows: i64 = copied.query_row("select count(*) from rows", [], |row| row.get(0))?;
        assert_eq!(rows, 500, "what it was when it was asked for");
        Ok(())
    }

    #[tokio::test]
    async fn a_copy_that_fails_leaves_no_file_and_touches_none_that_was_there() -> Tested {
        let folder = tempfile::tempdir()?;
        let (ledger, file) = (folder.path().join("a.db"), folder.path().join("b.db"));
        std::fs::write(&ledger, "a letter to a friend\n".repeat(400))?;
        to(file.clone(), ledger.clone(), BUSY).await.expect_err("it is no ledger");
        assert!(!file.exists());
        std::fs::write(&file, "mine")?;
        to(file.clone(), ledger.clone(), BUSY).await.expect_err("it is there");
        assert_eq!(std::fs::read_to_string(&file)?, "mine");
        std::fs::remove_file(&file)?;
        std::fs::remove_file(&ledger)?;
        at_work(&ledger)?;
        to(file.clone(), ledger, BUSY).await?;
        assert!(file.exists());
        Ok(())
    }
}

//! `quorate backup FILE`: a consistent copy of the ledger while everything runs.
//!
//! An embedded ledger is copied by SQLite itself. One on PostgreSQL is copied by `pg_dump`, which is not ours: its
//! password goes through the environment, never through its arguments, which any user of the host can read.
//!
//! Either grows beside FILE under another name, so that FILE is a whole backup or is not there, whatever ends us.

use crate::args::Backup;
use crate::place::Place;
use crate::place::is_on_path;
use crate::print;
use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::unistd::Pid;
use quorate_model::{Error, Kind, Result};
use quorate_store::Url;
use serde_json::json;
use std::ffi::OsStr;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// How the name ends under which a copy grows; the number of its process stands before it.
const PART: &str = ".part";

pub(crate) async fn backup(place: &Place, args: &Backup, json: bool) -> Result<u8> {
    if args.file.exists() {
        return Err(taken(&args.file));
    }
    drop_left(&args.file);
    let part = partial(&args.file, std::process::id());
    match &place.url {
        Url::Lite(_) => {
            let store = place.open_for("ledger to copy").await?;
            store.backup(&part).await?;
        }
        Url::Pg(_) => dump(&place.url, &part)?,
    }
    publish(&part, &args.file)?;
    let bytes = std::fs::metadata(&args.file).map(|facts| facts.len()).unwrap_or_default();
    let value = || json!({ "file": args.file.display().to_string(), "bytes": bytes });
    print::answer(json, value, || format!("{} written ({bytes} bytes)", args.file.display()));
    Ok(0)
}

fn taken(file: &Path) -> Error {
    Error::new(Kind::Conflict, format!("{} is there already", file.display()))
        .hint("name a new file, or move the old one away")
}

fn dump(url: &Url, part: &Path) -> Result<()> {
    let (address, password) = url.split_password();
    if address.split(['?', '&']).skip(1).any(|pair| pair.starts_with("pooler=")) {
        return Err(Error::invalid("pg_dump needs a connection to the server itself, not to a pooler")
            .hint("QUORATE_STORE=postgres://… without `pooler=`, by the server's own port"));
    }
    let mut command = Command::new(program());
    command.args(["--format=custom", "--no-password"]).arg("--file").arg(part);
    if let Some(schema) = schema(&address) {
        command.arg(format!("--schema={schema}"));
    }
    if let Some(password) = password {
        command.env("PGPASSWORD", password);
    }
    let output = command
        .arg(format!("--dbname={address}"))
        .stdin(Stdio::null())
        .output()
        .map_err(|e| no_program(&e))?;
    if output.status.success() {
        return Ok(());
    }
    // What it left behind is no backup.
    let _ = std::fs::remove_file(part);
    let said = String::from_utf8_lossy(&output.stderr);
    Err(Error::failed(format!("pg_dump failed: {}", print::one_line(&said)))
        .hint("its version must not be older than the server's"))
}

/// The name under which the copy of a process grows.
fn partial(file: &Path, process: u32) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(format!(".{process}{PART}"));
    PathBuf::from(name)
}

/// Gives a whole copy its name, but never that of a file that came meanwhile.
fn publish(part: &Path, file: &Path) -> Result<()> {
    // A link, which unlike a rename takes no other file's place.
    let published = match std::fs::hard_link(part, file) {
        Err(e) if e.kind() == ErrorKind::AlreadyExists => Err(taken(file)),
        Ok(()) => Ok(()),
        // A file system that knows no links.
        Err(_) if !file.exists() => std::fs::rename(part, file)
            .map_err(|e| Error::failed(format!("cannot rename {}: {e}", part.display()))),
        Err(_) => Err(taken(file)),
    };
    let _ = std::fs::remove_file(part);
    published
}

/// Removes what backups to the same file left behind that were killed. What cannot be removed now may be the next time.
fn drop_left(file: &Path) {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if maker(file, &entry.file_name()).is_some_and(is_gone) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

/// Returns whose part of `file` it is by its name, or what SQLite put beside that.
fn maker(file: &Path, name: &OsStr) -> Option<u32> {
    let rest = name.to_str()?.strip_prefix(file.file_name()?.to_str()?)?.strip_prefix('.')?;
    let (process, rest) = rest.split_once(PART)?;
    let is_part = rest.is_empty() || rest.starts_with('-');
    process.parse().ok().filter(|_| is_part)
}

/// A process of our own number is gone: it is ours now, and we have not begun.
fn is_gone(process: u32) -> bool {
    let pid = i32::try_from(process).ok().filter(|pid| *pid > 0);
    process == std::process::id()
        || pid.is_some_and(|pid| kill(Pid::from_raw(pid), None) == Err(Errno::ESRCH))
}

fn no_program(e: &std::io::Error) -> Error {
    let error = Error::unavailable(format!("cannot start pg_dump: {e}"));
    match e.kind() {
        ErrorKind::NotFound => error.hint("install PostgreSQL's client programs (Debian: postgresql-client)"),
        _ => error,
    }
}

/// Returns `pg_dump` by name, or where Debian keeps the newest if it is not on the PATH.
fn program() -> PathBuf {
    let name = PathBuf::from("pg_dump");
    if is_on_path("pg_dump") {
        return name;
    }
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let found =
        versions.map(|version| version.path().join("bin/pg_dump")).filter(|program| program.is_file());
    found.max_by_key(|program| version(program)).unwrap_or(name)
}

fn version(program: &Path) -> u32 {
    let folder = program.parent().and_then(Path::parent).and_then(Path::file_name);
    folder.and_then(|name| name.to_str()).and_then(|name| name.parse().ok()).unwrap_or(0)
}

fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let code = tail
            .get(..2)
            .and_then(|two| std::str::from_utf8(two).ok())
            .and_then(|two| u8::from_str_radix(two, 16).ok());
        match (first, code) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Returns the schema that an address names by `options=-csearch_path=…`: a ledger in it is copied without its
/// neighbours.
fn schema(url: &str) -> Option<String> {
    let (_, query) = url.split_once('?')?;
    let options = query.split('&').find_map(|pair| pair.strip_prefix("options="))?;
    let decoded = percent_decoded(options);
    let (_, path) = decoded.split_once("search_path=")?;
    let first = path.split([',', ' ']).next()?;
    (!first.is_empty()).then(|| first.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_gets_its_name_when_it_is_whole_and_takes_no_other_files_place() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("copy.db");
        let part = partial(&file, std::process::id());
        std::fs::write(&part, "whole").expect("writes");
        publish(&part, &file).expect("there is no such file yet");
        assert_eq!(std::fs::read_to_string(&file).expect("reads"), "whole");
        std::fs::write(&part, "another").expect("writes");
        assert_eq!(publish(&part, &file).expect_err("it is there").kind, Kind::Conflict);
        assert_eq!(std::fs::read_to_string(&file).expect("reads"), "whole");
        assert!(!part.exists());
    }

    #[test]
    fn what_a_killed_backup_left_is_removed_by_the_next_and_nothing_else() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut child = Command::new("true").spawn().expect("starts");
        child.wait().expect("ends");
        let (gone, own, lives) = (child.id(), std::process::id(), std::os::unix::process::parent_id());
        let names = [
            format!("copy.db.{gone}.part"),
            format!("copy.db.{gone}.part-journal"),
            format!("copy.db.{own}.part"),
            format!("copy.db.{lives}.part"),
            format!("other.db.{gone}.part"),
            format!("copy.db.{gone}.partly"),
            "copy.db.part".into(),
        ];
        names.iter().for_each(|name| std::fs::write(folder.path().join(name), "x").expect("writes"));
        drop_left(&folder.path().join("copy.db"));
        let left: Vec<bool> = names.iter().map(|name| folder.path().join(name).exists()).collect();
        assert_eq!(left, [false, false, false, true, true, true, true]);
    }

    #[test]
    fn the_schema_is_read_from_the_options() {
        assert_eq!(schema("postgres://h/d?host=/t&options=-csearch_path%3Dt_1"), Some("t_1".into()));
        assert_eq!(schema("postgres://h/d?sslmode=disable"), None);
        assert_eq!(percent_decoded("100%"), "100%");
    }
}

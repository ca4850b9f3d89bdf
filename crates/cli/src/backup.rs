//! `quorate backup FILE`: a consistent copy of the ledger while everything runs.
//!
//! An embedded ledger is copied by SQLite itself. One on PostgreSQL is copied by `pg_dump`, which is not ours: its
//! password goes through the environment, never through its arguments, which any user of the host can read.

use crate::args::Backup;
use crate::place::Place;
use crate::place::is_on_path;
use crate::print;
use quorate_model::{Error, Kind, Result};
use quorate_store::Url;
use serde_json::json;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

pub(crate) async fn backup(place: &Place, args: &Backup, json: bool) -> Result<u8> {
    if args.file.exists() {
        return Err(Error::new(Kind::Conflict, format!("{} is there already", args.file.display()))
            .hint("name a new file, or move the old one away"));
    }
    match &place.url {
        Url::Lite(_) => {
            let store = place.open_for("ledger to copy").await?;
            store.backup(&args.file).await?;
        }
        Url::Pg(url) => dump(url, &args.file)?,
    }
    let bytes = std::fs::metadata(&args.file).map(|facts| facts.len()).unwrap_or_default();
    let value = || json!({ "file": args.file.display().to_string(), "bytes": bytes });
    print::answer(json, value, || format!("{} written ({bytes} bytes)", args.file.display()));
    Ok(0)
}

fn dump(url: &str, file: &Path) -> Result<()> {
    if url.split_once('?').is_some_and(|(_, query)| query.split('&').any(|pair| pair.starts_with("pooler=")))
    {
        return Err(Error::invalid("pg_dump needs a connection to the server itself, not to a pooler")
            .hint("QUORATE_STORE=postgres://… without `pooler=`, by the server's own port"));
    }
    let part = partial(file);
    let mut command = Command::new(program());
    let (address, password) = split_password(url);
    command.args(["--format=custom", "--no-password"]).arg("--file").arg(&part);
    if let Some(schema) = schema(url) {
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
    if !output.status.success() {
        // What it left behind is no backup.
        let _ = std::fs::remove_file(&part);
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(Error::failed(format!("pg_dump failed: {}", print::one_line(&said)))
            .hint("its version must not be older than the server's"));
    }
    std::fs::rename(&part, file).map_err(|e| Error::failed(format!("cannot rename {}: {e}", part.display())))
}

/// The name under which the copy grows, so that FILE is never half a backup.
fn partial(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".part");
    PathBuf::from(name)
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

/// Takes the password out of an address.
fn split_password(url: &str) -> (String, Option<String>) {
    let whole = || (url.to_owned(), None);
    let Some((scheme, rest)) = url.split_once("://") else { return whole() };
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let Some(at) = rest[..end].rfind('@') else { return whole() };
    let Some((user, password)) = rest[..at].split_once(':') else { return whole() };
    (format!("{scheme}://{user}{}", &rest[at..]), Some(percent_decoded(password)))
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
    fn the_password_leaves_the_address() {
        let check = |url: &str, address: &str, password: Option<&str>| {
            assert_eq!(split_password(url), (address.to_owned(), password.map(str::to_owned)));
        };
        check("postgres://me:s%40cret@db/x?a=b", "postgres://me@db/x?a=b", Some("s@cret"));
        check("postgres://me@db/x", "postgres://me@db/x", None);
        check("postgres:///x?host=/tmp", "postgres:///x?host=/tmp", None);
    }

    #[test]
    fn the_schema_is_read_from_the_options() {
        assert_eq!(schema("postgres://h/d?host=/t&options=-csearch_path%3Dt_1"), Some("t_1".into()));
        assert_eq!(schema("postgres://h/d?sslmode=disable"), None);
        assert_eq!(percent_decoded("100%"), "100%");
    }
}

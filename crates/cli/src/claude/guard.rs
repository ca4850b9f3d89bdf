//! The guard at git's door: no commit of a file that another agent has claimed, whoever makes it.
//!
//! Here live the hook file, with what stood there before called first, and the check that it makes. Where git looks for
//! hooks, git itself is asked (`core.hooksPath`, worktrees). A guard that cannot look lets the commit pass.

use super::me;
use crate::init::cannot_write as cannot;
use crate::place::Place;
use crate::print;
use quorate_model::resource::Resource;
use quorate_model::{Error, Kind, Result};
use quorate_service::claim::{Guard, Guarded, NoteRefused};
use std::ffi::OsStr;
use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// The event that the hook file asks about.
pub(super) const EVENT: &str = "pre-commit";
/// The name of the hook that was there before.
const BEFORE: &str = "pre-commit.before-quorate";
/// Says whose the file is.
const MARK: &str = "# quorate guards this repository";
/// How long a commit waits for the ledger.
const PATIENCE: Duration = Duration::from_secs(5);
/// Files that are asked about at once.
const FILES_AT_ONCE: usize = 1_000;
/// Files that a refusal names.
const FILES_SHOWN: usize = 10;
/// The largest file that is looked at for being ours, in bytes.
const SCRIPT_MAX: u64 = 64 << 10;

/// The hook file: what was there before runs first, and without quorate nothing is refused.
fn script() -> String {
    format!(
        "#!/bin/sh
{MARK}: files that another agent has claimed are not committed.
# `quorate init --claude --remove` takes this file out and puts {BEFORE} back.
before=\"$(dirname \"$0\")/{BEFORE}\"
if [ -x \"$before\" ]; then
    \"$before\" \"$@\" || exit $?
fi
if command -v quorate > /dev/null 2>&1; then
    exec quorate hook {EVENT}
fi
"
    )
}

/// What became of the hook file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It was written; the hook that was there before is called first.
    Written { file: PathBuf, kept: bool },
    /// It was taken out.
    Removed { file: PathBuf },
    /// It is as it should be.
    Same { file: PathBuf },
    /// Nothing was done, for this reason.
    Left { why: String },
}

/// Puts the guard in.
pub(super) fn put_in(folder: &Path) -> Result<Outcome> {
    let hooks = match hooks_folder(folder) {
        Ok(hooks) => hooks,
        Err(why) => return Ok(Outcome::Left { why }),
    };
    let (file, before) = (hooks.join(EVENT), hooks.join(BEFORE));
    if is_ours(&file) {
        return Ok(Outcome::Same { file });
    }
    fs::create_dir_all(&hooks).map_err(|e| cannot(&hooks, &e))?;
    let kept = match fs::symlink_metadata(&file) {
        Ok(_) if fs::symlink_metadata(&before).is_ok() => {
            return Err(Error::new(Kind::Conflict, format!("{} is there already", before.display()))
                .hint(format!("move it away: {} is to be kept under that name", file.display())));
        }
        Ok(_) => {
            fs::rename(&file, &before).map_err(|e| cannot(&before, &e))?;
            true
        }
        Err(_) => false,
    };
    if let Err(error) = write_script(&file) {
        if kept {
            // The commit must go on being checked as it was.
            let _ = fs::rename(&before, &file);
        }
        return Err(error);
    }
    Ok(Outcome::Written { file, kept })
}

fn write_script(file: &Path) -> Result<()> {
    let mut options = OpenOptions::new();
    let opened = options.write(true).create_new(true).mode(0o755).open(file);
    opened.and_then(|mut f| f.write_all(script().as_bytes())).map_err(|e| cannot(file, &e))
}

/// Takes the guard out, and puts back what was there before.
pub(super) fn take_out(folder: &Path) -> Result<Outcome> {
    let hooks = match hooks_folder(folder) {
        Ok(hooks) => hooks,
        Err(why) => return Ok(Outcome::Left { why }),
    };
    let (file, before) = (hooks.join(EVENT), hooks.join(BEFORE));
    if !is_ours(&file) {
        let why = format!("{} is not ours", file.display());
        return Ok(if file.exists() { Outcome::Left { why } } else { Outcome::Same { file } });
    }
    let done = match fs::rename(&before, &file) {
        Err(e) if e.kind() == ErrorKind::NotFound => fs::remove_file(&file),
        done => done,
    };
    done.map_err(|e| cannot(&file, &e))?;
    Ok(Outcome::Removed { file })
}

fn is_ours(file: &Path) -> bool {
    let is_small = fs::symlink_metadata(file).is_ok_and(|facts| facts.is_file() && facts.len() <= SCRIPT_MAX);
    is_small && fs::read(file).is_ok_and(|text| String::from_utf8_lossy(&text).contains(MARK))
}

/// Returns where git looks for the hooks of this repository alone, or why there is no such place.
fn hooks_folder(folder: &Path) -> Result<PathBuf, String> {
    let top = toplevel(folder)?;
    // A relative core.hooksPath is meant from there.
    let asked = git(&top, &["rev-parse", "--git-common-dir", "--git-path", "hooks"])?;
    let text = String::from_utf8_lossy(&asked);
    let mut lines = text.lines().map(|line| absolute(&top.join(line)));
    let (Some(common), Some(hooks)) = (lines.next(), lines.next()) else {
        return Err("git does not say where it looks for hooks".into());
    };
    if hooks.starts_with(&top) || hooks.starts_with(&common) {
        return Ok(hooks);
    }
    Err(format!(
        "core.hooksPath is {}, which other repositories use too: call `quorate hook pre-commit` from the hook there",
        hooks.display()
    ))
}

fn toplevel(folder: &Path) -> Result<PathBuf, String> {
    let top = git(folder, &["rev-parse", "--show-toplevel"])?;
    Ok(PathBuf::from(OsStr::from_bytes(top.trim_ascii_end())))
}

/// The path with its links followed, as far as it is there.
fn absolute(path: &Path) -> PathBuf {
    let found = path.ancestors().find_map(|part| Some((part, fs::canonicalize(part).ok()?)));
    let rest = found.as_ref().and_then(|(part, _)| path.strip_prefix(part).ok());
    match (&found, rest) {
        (Some((_, real)), Some(rest)) if rest.as_os_str().is_empty() => real.clone(),
        (Some((_, real)), Some(rest)) => real.join(rest),
        _ => path.to_owned(),
    }
}

fn git(folder: &Path, words: &[&str]) -> Result<Vec<u8>, String> {
    let mut git = Command::new("git");
    let asked = git.arg("-C").arg(folder).args(words).stdin(Stdio::null()).output();
    let asked = asked.map_err(|e| format!("git cannot be started: {e}"))?;
    if asked.status.success() {
        return Ok(asked.stdout);
    }
    let why = String::from_utf8_lossy(&asked.stderr);
    Err(why.lines().next().unwrap_or("git says nothing").trim_start_matches("fatal: ").to_owned())
}

/// Answers git: refuses (exit code 3) what another agent has claimed among the files of the commit.
pub(super) async fn check() -> Result<u8> {
    let guards = match tokio::time::timeout(PATIENCE, guards()).await {
        Ok(guards) => guards,
        Err(_) => Err(Error::failed("the ledger did not answer in time")),
    };
    match guards {
        Ok(guards) if guards.is_empty() => Ok(0),
        Ok(guards) => Err(refusal(&guards)),
        Err(error) => {
            print::note(&format!("quorate: the commit is not checked: {}", print::one_line(&error.message)));
            Ok(0)
        }
    }
}

async fn guards() -> Result<Vec<Guard>> {
    let place = Place::find()?;
    let Some(store) = place.look().await? else { return Ok(Vec::new()) };
    let agent = me::found(&place, &store).await?;
    let mut guards = Vec::new();
    for resources in staged(&place.folder)?.chunks(FILES_AT_ONCE) {
        guards.extend(store.read(Guarded { agent: agent.clone(), resources: resources.to_vec() }).await?);
    }
    if !guards.is_empty() {
        let note = NoteRefused { agent: agent.unwrap_or_else(|| "git".to_owned()), guards: guards.clone() };
        if let Err(error) = store.write(note).await {
            print::note(&format!("quorate: the refusal is not in the log: {}", error.message));
        }
    }
    place.close().await;
    Ok(guards)
}

/// The files of the commit as resources; those outside of the project's folder are nobody's.
fn staged(folder: &Path) -> Result<Vec<String>> {
    let here = Path::new(".");
    let top = toplevel(here).map_err(Error::failed)?;
    let listed =
        git(here, &["diff", "--cached", "--name-only", "--no-renames", "-z"]).map_err(Error::failed)?;
    let names = listed.split(|byte| *byte == 0).filter(|name| !name.is_empty());
    Ok(names.filter_map(|name| resource(&top.join(OsStr::from_bytes(name)), folder)).collect())
}

/// Returns the name of exactly this path as a resource; `None` for what cannot be claimed here.
pub(super) fn resource(path: &Path, folder: &Path) -> Option<String> {
    quorate_server::resource(&Resource::literal(path.to_str()?), folder).ok()
}

fn refusal(guards: &[Guard]) -> Error {
    let verb = if guards.len() == 1 { "is" } else { "are" };
    let mut message = format!("{} of the commit's files {verb} claimed by others:", guards.len());
    for guard in guards.iter().take(FILES_SHOWN) {
        message.push_str(&format!("\n  {}", guard.said()));
    }
    if guards.len() > FILES_SHOWN {
        message.push_str(&format!("\n  … and {} more", guards.len() - FILES_SHOWN));
    }
    let holder = &guards[0].by.agent;
    Error::new(Kind::Conflict, message).hint(format!(
        "unstage them (git restore --staged FILE), or wait for `quorate claims` to be free of them; \
         if you are {holder}: QUORATE_AGENT={holder} git commit …"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_file_name_is_itself_as_a_resource() {
        let folder = Path::new("/p");
        let check = |path: &str, expected: Option<&str>| {
            assert_eq!(resource(Path::new(path), folder).as_deref(), expected, "{path}");
        };
        check("/p/src/a.rs", Some("src/a.rs"));
        check("/p/app/[id].tsx", Some("app/\\[id].tsx"));
        check("/p/a*{b}.txt", Some("a\\*\\{b\\}.txt"));
        check("/p/port:1", Some("./port:1"));
        check("/elsewhere/a.rs", None);
        check("/p/line\nbreak", None);
    }
}

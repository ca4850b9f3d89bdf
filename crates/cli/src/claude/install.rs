//! `quorate init --claude` and `--remove`: our entries in Claude Code's files and git's hooks.
//!
//! Here live which files those are, and their safe change: all are read and checked before the first is written, each is
//! written beside itself and moved into place, and what it was before is kept in the folder of state. If a file
//! without our entries says what it said before, it gets its very bytes back. What is written, `settings` and `guard` say.

use super::guard::{self, Outcome};
use super::settings::{self, Edited, Kind};
use super::whole;
use crate::init::cannot_write as cannot;
use crate::place::STATE_FOLDER;
use crate::place::is_on_path;
use crate::print;
use quorate_model::{Error, Result};
use serde_json::{Value, json};
use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// The largest file that is changed, in bytes.
const FILE_MAX: u64 = 4 << 20;
/// The files by kind, and the name under which the state before is kept.
const FILES: [(Kind, &str, &str); 2] =
    [(Kind::Settings, ".claude/settings.json", "settings.json"), (Kind::Mcp, ".mcp.json", "mcp.json")];

/// One file, read and edited, not yet written.
struct Change {
    kind: Kind,
    /// As people know it.
    name: &'static str,
    /// Where its bytes are: links are followed.
    file: PathBuf,
    /// Where its state before is kept.
    kept: PathBuf,
    /// `None`: it was not there.
    old: Option<String>,
    edited: Edited,
}

/// Lets Claude Code into the project of this folder; returns what was done.
pub(crate) fn install(folder: &Path) -> Result<Value> {
    let changes = edits(folder, settings::put_in)?;
    let guard = guard::put_in(folder)?;
    let mut report = Report::default();
    for change in changes {
        let is_change = change.old.as_deref() != Some(&change.edited.text);
        if is_change {
            keep(&change)?;
            write(&change.file, &change.edited.text)?;
        }
        report.file(&change, if is_change { "written" } else { "unchanged" });
    }
    report.guard(guard);
    report.path();
    Ok(report.0)
}

/// Takes out what [`install`] put in; returns what was done.
pub(crate) fn remove(folder: &Path) -> Result<Value> {
    let changes = edits(folder, settings::take_out)?;
    let mut report = Report::default();
    for change in changes {
        let did = take_out(&change)?;
        report.file(&change, did);
    }
    report.guard(guard::take_out(folder)?);
    // Only if nothing else is in them.
    for empty in [folder.join(STATE_FOLDER).join("claude"), folder.join(".claude")] {
        let _ = fs::remove_dir(empty);
    }
    Ok(report.0)
}

fn edits(folder: &Path, edit: fn(Kind, &str, &str) -> Result<Edited>) -> Result<Vec<Change>> {
    let change = |(kind, name, kept): (Kind, &'static str, &str)| {
        let file = folder.join(name);
        let file = fs::canonicalize(&file).unwrap_or(file);
        let old = read(&file)?;
        let edited = edit(kind, name, old.as_deref().unwrap_or(""))?;
        let kept = folder.join(STATE_FOLDER).join("claude").join(kept);
        Ok(Change { kind, name, file, kept, old, edited })
    };
    FILES.into_iter().map(change).collect()
}

/// Keeps what the file was before, unless that is kept already.
fn keep(change: &Change) -> Result<()> {
    let taken_out = settings::take_out(change.kind, change.name, change.old.as_deref().unwrap_or(""))?;
    let had_ours = change.old.as_deref().is_some_and(|old| taken_out.text != old);
    if had_ours {
        return Ok(());
    }
    let folder = change.kept.parent().unwrap_or(&change.kept);
    fs::create_dir_all(folder).map_err(|e| cannot(folder, &e))?;
    let text = json!({ "before": change.old }).to_string();
    let mut options = OpenOptions::new();
    let opened = options.write(true).create(true).truncate(true).mode(0o600).open(&change.kept);
    opened.and_then(|mut file| file.write_all(text.as_bytes())).map_err(|e| cannot(&change.kept, &e))
}

/// Returns what the file was before, if that is kept: its text, or that it was not there.
fn kept(change: &Change) -> Option<Option<String>> {
    let value: Value = serde_json::from_slice(&fs::read(&change.kept).ok()?).ok()?;
    Some(value.get("before")?.as_str().map(str::to_owned))
}

fn take_out(change: &Change) -> Result<&'static str> {
    let Some(old) = &change.old else { return Ok("unchanged") };
    let text = &change.edited.text;
    if text == old {
        return Ok("unchanged");
    }
    let before = kept(change);
    let is_as_before = |before: &str| settings::say_the_same(text, before);
    let did = match &before {
        Some(Some(before)) if is_as_before(before) => write(&change.file, before).map(|()| "written"),
        Some(Some(_)) => write(&change.file, text).map(|()| "written"),
        _ if settings::says_nothing(text) => {
            fs::remove_file(&change.file).map_err(|e| cannot(&change.file, &e)).map(|()| "removed")
        }
        _ => write(&change.file, text).map(|()| "written"),
    };
    // What is left of it holds nothing of ours, so a later `--claude` keeps the state of then.
    let _ = fs::remove_file(&change.kept);
    did
}

/// Reads a file; `None` if it is not there.
fn read(file: &Path) -> Result<Option<String>> {
    let size = match fs::metadata(file) {
        Ok(facts) if facts.is_file() => facts.len(),
        Ok(_) => {
            return Err(Error::invalid(format!("{} is no file", file.display())).hint("move it away first"));
        }
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(Error::failed(format!("cannot read {}: {e}", file.display()))),
    };
    if size > FILE_MAX {
        let message = format!("{} has {size} bytes, more than {FILE_MAX}", file.display());
        return Err(Error::invalid(message).hint("is that a settings file?"));
    }
    let bytes = fs::read(file).map_err(|e| Error::failed(format!("cannot read {}: {e}", file.display())))?;
    let text = String::from_utf8(bytes);
    text.map(Some).map_err(|_| {
        Error::invalid(format!("{} is not UTF-8", file.display()))
            .hint("save it as UTF-8, then run this again")
    })
}

fn write(file: &Path, text: &str) -> Result<()> {
    whole::write(file, text, 0o644)
}

/// What was done, for people and programs.
struct Report(Value);

impl Default for Report {
    fn default() -> Report {
        Report(json!({ "files": [], "guard": null, "notes": [] }))
    }
}

impl Report {
    fn file(&mut self, change: &Change, did: &str) {
        self.push("files", json!({ "file": change.name, "state": did }));
        for left in &change.edited.left {
            self.push("notes", format!("{}: {left}", change.name).into());
        }
    }

    fn guard(&mut self, outcome: Outcome) {
        let (file, state) = match outcome {
            Outcome::Written { file, kept } => {
                if kept {
                    self.push("notes", "the pre-commit hook that was there is kept, and called first".into());
                }
                (Some(file), "written")
            }
            Outcome::Removed { file } => (Some(file), "removed"),
            Outcome::Same { file } => (Some(file), "unchanged"),
            Outcome::Left { why } => {
                self.push("notes", format!("no guard for git: {why}").into());
                (None, "none")
            }
        };
        self.0["guard"] = json!({ "file": file.map(|file| file.display().to_string()), "state": state });
    }

    /// Hooks call `quorate` by its name.
    fn path(&mut self) {
        if !is_on_path("quorate") {
            self.push(
                "notes",
                "`quorate` is not on the PATH: hooks and MCP server call it by that name".into(),
            );
        }
    }

    fn push(&mut self, list: &str, value: Value) {
        if let Some(list) = self.0[list].as_array_mut() {
            list.push(value);
        }
    }
}

/// Says in words what was done.
pub(crate) fn in_words(report: &Value) -> String {
    let mut text = String::new();
    let guard = std::iter::once(&report["guard"]).filter(|guard| guard["file"].is_string());
    for item in report["files"].as_array().into_iter().flatten().chain(guard) {
        let (file, state) =
            (item["file"].as_str().unwrap_or_default(), item["state"].as_str().unwrap_or_default());
        text.push_str(&format!("{} {state}\n", print::one_line(file)));
    }
    for note in report["notes"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        text.push_str(&format!("note: {}\n", print::one_line(note)));
    }
    text
}

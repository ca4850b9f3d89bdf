//! The guard at git's door: no commit of a file that another agent has claimed, whoever makes it.
//!
//! Here live the hook file, with what stood there before called first, and the check that it makes. Where git looks for
//! hooks, git itself is asked (`core.hooksPath`, worktrees). Git runs it at the top of the tree, so it names the folders that it
//! guards, a line each. A guard that cannot look lets the commit pass.

use super::{me, whole};
use crate::init::cannot_write as cannot;
use crate::place::{CONFIG_FILE, Place, STATE_FOLDER};
use crate::print;
use crate::shell;
use quorate_model::resource::Resource;
use quorate_model::{Error, Kind, Result};
use quorate_service::claim::{Guard, Guarded, NoteRefused};
use std::ffi::OsStr;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
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
/// The permissions of the hook file: git passes over one that cannot be run.
const SCRIPT_MODE: u32 = 0o755;

/// The top of the tree as a guarded folder.
const TOP: &str = ".";
/// Files beside a hook of husky, whose scripts find what they run by the name under which they were called.
const HUSKY: [&str; 2] = ["h", "husky.sh"];
/// What is in a script that asks for its own name: under another one it would do something else.
const ASKS_FOR_ITS_NAME: [&str; 2] = ["basename", "${0##*/}"];
/// What a line `guard 'FOLDER'` does; without quorate, or on a branch without that folder, nothing.
const GUARD: &str = r#"guard() {
    if [ -d "$1" ] && command -v quorate > /dev/null 2>&1; then
        quorate hook pre-commit -- "$1" || exit $?
    fi
}
"#;
/// What `--remove` does, as the file says it.
const NOTE: &str =
    "takes the line of its folder out; with the last one goes this file, and what was there is put back.";
/// What stands for the lines in files that name no folder: it guards the top.
const OLD_GUARD: &str = "if command -v quorate > /dev/null 2>&1; then
    exec quorate hook pre-commit
fi
";
/// What `--remove` does, as those files say it.
const OLD_NOTE: &str = "takes this file out and puts pre-commit.before-quorate back.";

/// The hook file: what was there before runs first, and without quorate nothing is refused.
fn script(folder: &str) -> String {
    format!(
        "#!/bin/sh
{MARK}: files that another agent has claimed are not committed.
# `quorate init --claude --remove` {NOTE}
before=\"$(dirname \"$0\")/{BEFORE}\"
if [ -x \"$before\" ]; then
    \"$before\" \"$@\" || exit $?
fi
{GUARD}{}",
        line(folder)
    )
}

fn line(folder: &str) -> String {
    format!("guard {}\n", shell::quoted(folder))
}

/// Reads what [`line()`] has written.
fn folder_of(line: &str) -> Option<String> {
    Some(line.trim_end().strip_prefix("guard '")?.strip_suffix('\'')?.replace(r"'\''", "'"))
}

/// Returns the folders that a hook file of ours guards.
fn guarded(text: &str) -> Vec<String> {
    let top = text.contains(OLD_GUARD).then(|| TOP.to_owned());
    top.into_iter().chain(text.lines().filter_map(folder_of)).collect()
}

/// Returns a hook file of ours that guards a folder, too.
fn with(text: &str, folder: &str) -> String {
    let mut text = text.replace(OLD_NOTE, NOTE).replace(OLD_GUARD, &format!("{GUARD}{}", line(TOP)));
    if guarded(&text).iter().any(|known| known == folder) {
        return text;
    }
    if !text.ends_with('\n') {
        text.push('\n');
    }
    let (mut at, mut last) = (0, None);
    for part in text.split_inclusive('\n') {
        at += part.len();
        last = folder_of(part).map(|_| at).or(last);
    }
    match last {
        Some(end) => text.insert_str(end, &line(folder)),
        None => text.push_str(&format!("{GUARD}{}", line(folder))),
    }
    text
}

/// Returns a hook file of ours that guards a folder no longer.
fn without(text: &str, folder: &str) -> String {
    let text = if folder == TOP { text.replace(OLD_GUARD, "") } else { text.to_owned() };
    text.split_inclusive('\n').filter(|part| folder_of(part).as_deref() != Some(folder)).collect()
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

/// Where the guard of a project's folder belongs.
struct Site {
    /// The top of the work tree, where git runs hooks.
    top: PathBuf,
    /// The project's folder, from there.
    folder: String,
    /// The folder in which git looks for hooks.
    hooks: PathBuf,
}

impl Site {
    /// Finds it, or says why there is no such place.
    fn of(folder: &Path) -> Result<Site, String> {
        let top = absolute(&toplevel(folder)?);
        let folder = below(&top, &absolute(folder))?;
        let hooks = hooks_folder(&top, &call(&folder))?;
        Ok(Site { top, folder, hooks })
    }

    fn file(&self) -> PathBuf {
        self.hooks.join(EVENT)
    }

    fn before(&self) -> PathBuf {
        self.hooks.join(BEFORE)
    }

    /// Says why no hook can be called under another name here, if that is so, and what to do instead.
    fn needs_its_name(&self) -> Option<String> {
        let call = call(&self.folder);
        if HUSKY.iter().any(|name| self.hooks.join(name).is_file()) {
            return Some(format!("husky finds its hooks by their names: add `{call}` to .husky/{EVENT}"));
        }
        let is_ours = ours(&self.file()).is_some();
        let text = small_text(&if is_ours { self.before() } else { self.file() })?;
        let asks = ASKS_FOR_ITS_NAME.iter().any(|word| text.contains(word));
        asks.then(|| format!("the {EVENT} hook that is there asks for its own name: add `{call}` to it"))
    }

    /// Tells whether a hook file has something to guard. The top may stand in it without being a project.
    fn is_of_use(&self, text: &str) -> bool {
        let is_project = [CONFIG_FILE, STATE_FOLDER].iter().any(|name| self.top.join(name).exists());
        guarded(text).iter().any(|folder| folder != TOP || is_project)
    }

    /// Writes the hook file, and keeps what is there under another name.
    fn begin(&self) -> Result<Outcome> {
        let (file, before) = (self.file(), self.before());
        fs::create_dir_all(&self.hooks).map_err(|e| cannot(&self.hooks, &e))?;
        let kept = fs::symlink_metadata(&file).is_ok();
        if kept && fs::symlink_metadata(&before).is_ok() {
            return Err(Error::new(Kind::Conflict, format!("{} is there already", before.display()))
                .hint(format!("move it away: {} is to be kept under that name", file.display())));
        }
        if kept {
            fs::rename(&file, &before).map_err(|e| cannot(&before, &e))?;
        }
        if let Err(error) = whole::write(&file, &script(&self.folder), SCRIPT_MODE) {
            if kept {
                // The commit must go on being checked as it was.
                let _ = fs::rename(&before, &file);
            }
            return Err(error);
        }
        Ok(Outcome::Written { file, kept })
    }

    /// Takes the hook file away, and puts back what was there before.
    fn end(&self) -> Result<()> {
        let file = self.file();
        let done = match fs::rename(self.before(), &file) {
            Err(e) if e.kind() == ErrorKind::NotFound => fs::remove_file(&file),
            done => done,
        };
        done.map_err(|e| cannot(&file, &e))
    }
}

/// Puts the guard of a folder in.
pub(super) fn put_in(folder: &Path) -> Result<Outcome> {
    let site = match Site::of(folder) {
        Ok(site) => site,
        Err(why) => return Ok(Outcome::Left { why }),
    };
    let file = site.file();
    let there = ours(&file);
    if let Some(why) = site.needs_its_name() {
        if there.is_some() {
            // It keeps the hook from doing its work.
            site.end()?;
        }
        return Ok(Outcome::Left { why });
    }
    let Some(old) = there else { return site.begin() };
    let text = with(&old, &site.folder);
    if text == old {
        return Ok(Outcome::Same { file });
    }
    whole::write(&file, &text, SCRIPT_MODE)?;
    Ok(Outcome::Written { file, kept: false })
}

/// Takes the guard of a folder out; with the last one the file, and puts back what was there before.
pub(super) fn take_out(folder: &Path) -> Result<Outcome> {
    let site = match Site::of(folder) {
        Ok(site) => site,
        Err(why) => return Ok(Outcome::Left { why }),
    };
    let file = site.file();
    let Some(old) = ours(&file) else {
        let why = format!("{} is not ours", file.display());
        return Ok(if file.exists() { Outcome::Left { why } } else { Outcome::Same { file } });
    };
    let text = without(&old, &site.folder);
    if !site.is_of_use(&text) {
        site.end()?;
        return Ok(Outcome::Removed { file });
    }
    if text == old {
        return Ok(Outcome::Same { file });
    }
    whole::write(&file, &text, SCRIPT_MODE)?;
    Ok(Outcome::Written { file, kept: false })
}

/// What another hook calls for a folder.
fn call(folder: &str) -> String {
    let own = if folder == TOP { String::new() } else { format!(" {}", shell::quoted(folder)) };
    format!("quorate hook {EVENT}{own}")
}

/// Returns the text of a hook file if it is ours.
fn ours(file: &Path) -> Option<String> {
    let is_file = fs::symlink_metadata(file).is_ok_and(|facts| facts.is_file());
    small_text(file).filter(|text| is_file && text.contains(MARK))
}

fn small_text(file: &Path) -> Option<String> {
    fs::metadata(file).ok().filter(|facts| facts.is_file() && facts.len() <= SCRIPT_MAX)?;
    Some(String::from_utf8_lossy(&fs::read(file).ok()?).into_owned())
}

/// Returns a folder as it is named from the top of the tree.
fn below(top: &Path, folder: &Path) -> Result<String, String> {
    let below = folder
        .strip_prefix(top)
        .map_err(|_| format!("{} is not below {}", folder.display(), top.display()))?;
    match below.to_str() {
        Some("") => Ok(TOP.to_owned()),
        Some(name) if !name.contains(['\n', '\r']) => Ok(name.to_owned()),
        _ => Err("the folder's name is no text of one line".into()),
    }
}

/// Returns where git looks for the hooks of this repository alone, or why there is no such place.
fn hooks_folder(top: &Path, call: &str) -> Result<PathBuf, String> {
    // A relative core.hooksPath is meant from there.
    let asked = git(top, &["rev-parse", "--git-common-dir", "--git-path", "hooks"])?;
    let text = String::from_utf8_lossy(&asked);
    let mut lines = text.lines().map(|line| absolute(&top.join(line)));
    let (Some(common), Some(hooks)) = (lines.next(), lines.next()) else {
        return Err("git does not say where it looks for hooks".into());
    };
    if hooks.starts_with(top) || hooks.starts_with(&common) {
        return Ok(hooks);
    }
    Err(format!(
        "core.hooksPath is {}, which other repositories use too: call `{call}` from the hook there",
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

/// Answers git: refuses (exit code 3) what another agent has claimed among the files of the commit. The project is that of
/// `folder`, else of the working folder, which stays as it is: git's variables name files from there.
pub(super) async fn check(folder: Option<&Path>) -> Result<u8> {
    let guards = match tokio::time::timeout(PATIENCE, guards(folder)).await {
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

async fn guards(folder: Option<&Path>) -> Result<Vec<Guard>> {
    let place = folder.map_or_else(Place::find, Place::find_from)?;
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

    /// A file that names no folder.
    const OLD: &str = r#"#!/bin/sh
# quorate guards this repository: files that another agent has claimed are not committed.
# `quorate init --claude --remove` takes this file out and puts pre-commit.before-quorate back.
before="$(dirname "$0")/pre-commit.before-quorate"
if [ -x "$before" ]; then
    "$before" "$@" || exit $?
fi
if command -v quorate > /dev/null 2>&1; then
    exec quorate hook pre-commit
fi
"#;

    #[test]
    fn each_folder_has_a_line() {
        let one = script("a b");
        assert_eq!(guarded(&one), ["a b"]);
        assert_eq!(with(&one, "a b"), one);
        let two = with(&one, "it's");
        assert_eq!(two, format!("{one}guard 'it'\\''s'\n"));
        assert_eq!(guarded(&two), ["a b", "it's"]);
        assert_eq!(without(&two, "it's"), one);
        assert_eq!(without(&one, "elsewhere"), one);
        assert_eq!(guarded(&without(&one, "a b")), Vec::<String>::new());
    }

    #[test]
    fn lines_of_somebody_else_stay_where_they_are() {
        let mine = format!("{}make check", script("a"));
        let both = with(&mine, "b");
        assert_eq!(both, format!("{}guard 'b'\nmake check\n", script("a")));
        assert_eq!(without(&both, "b"), format!("{mine}\n"));
        let none = format!("#!/bin/sh\n{MARK}\n");
        assert_eq!(with(&none, "a"), format!("{none}{GUARD}guard 'a'\n"));
    }

    #[test]
    fn a_file_that_names_no_folder_guards_the_top() {
        assert_eq!(guarded(OLD), [TOP]);
        assert_eq!(with(OLD, TOP), script(TOP));
        assert_eq!(with(OLD, "svc"), with(&script(TOP), "svc"));
        assert_eq!(guarded(&with(OLD, "svc")), [TOP, "svc"]);
        assert_eq!(without(OLD, "svc"), OLD);
        assert_eq!(guarded(&without(OLD, TOP)), Vec::<String>::new());
    }

    #[test]
    fn a_folder_is_named_from_the_top() {
        let check = |folder: &str| below(Path::new("/r"), Path::new(folder));
        assert_eq!(check("/r").as_deref(), Ok("."));
        assert_eq!(check("/r/a/b").as_deref(), Ok("a/b"));
        assert!(check("/elsewhere").is_err() && check("/r/two\nlines").is_err());
    }

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

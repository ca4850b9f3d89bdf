//! A working folder of a task's own: a git branch and its worktree.
//!
//! Here live its making, the keeping of what an attempt left in it, and the merge into the branch it came from. The idea:
//! whatever an attempt leaves is committed to the task's branch, whether it succeeded or not, so nothing is lost and the
//! next attempt goes on from it; only what succeeded is merged, one after the other.
//!
//! ```text
//! main ──┬──────────────●── fast-forward of what was merged
//!        └─ quorate/task-7 ─ attempt 1 ─ attempt 2 ─ merge of main, in the worktree
//! ```
//!
//! The merge is made on the task's branch, where a conflict hurts nobody: it stays open in the worktree, with the conflicts
//! marked in the files, and is the reason to try again; whoever comes next only edits files, and `keep` ends the merge. The
//! branch of the project only ever moves forward to a commit that is there already, and, where the work was checked, to the
//! very commit that was. How git is run lives in `git`, when a worktree of a task that is over is put away in `worktrees`.

use crate::git::Git;
use quorate_model::{Error, Kind, Result, TaskId};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{BufRead, BufReader, ErrorKind, Read};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The folder of all worktrees, in the project's folder of state.
const FOLDER: &str = "worktrees";
/// The longest `.git` of a worktree: a path.
const LINK_MAX: u64 = 8 * 1024;
/// Files with conflicts that are named.
const CONFLICTS_MAX: usize = 20;
/// How much of a file is looked through for conflict markers.
const MARKED_MAX: u64 = 64 * 1024 * 1024;
/// The shortest conflict marker: so many arrows, and a space.
const MARKER_LEAST: usize = 7;
/// Who commits what is left of a task that is over.
const KEEPER: &str = "quorate";
/// How often it is looked whether it is one's turn to make or merge a worktree.
const TURN_EVERY: Duration = Duration::from_millis(20);
/// How many commands of the longest kind one waits for.
const TURNS_MAX: u32 = 3;
/// How long one waits before the branch is moved on again, where something short stood in the way: somebody else's git that
/// has the index locked, or a commit that came in between.
const AGAIN_AFTER_MS: [u64; 5] = [50, 100, 200, 400, 800];

/// Whose a worktree is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Of {
    pub task: TaskId,
    /// The attempt that works in it, or worked in it last.
    pub attempt: i64,
    /// When the task was added, in milliseconds since 1970: the same number in another ledger is another task.
    pub added_ms: i64,
}

/// A task's worktree.
#[derive(Debug, Clone)]
pub(crate) struct Workspace {
    git: Git,
    /// The worktree.
    root: PathBuf,
    /// The folder in it that stands for the project's.
    dir: PathBuf,
    /// The project's folder.
    project: PathBuf,
    /// What the project's repository keeps of its worktrees.
    kept_in: PathBuf,
    /// The task's branch.
    branch: String,
    /// The branch it came from and goes back to.
    base: String,
    /// Keeps the worktree from being put away meanwhile.
    _in_use: Arc<File>,
}

/// How a merge ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Merged {
    /// It is in the branch it came from.
    Done,
    /// What was merged meanwhile is in the task's branch now, and that has to be checked before it goes back.
    Moved,
    /// It and the branch it came from changed the same: an agent must see to it.
    Conflict(String),
    /// Something of a person's stands in the way, which no waiting mends.
    Blocked(String),
    /// A person is in the midst of something there: it goes on when they are through.
    NotNow(String),
}

impl Workspace {
    /// Opens a task's worktree; makes one, with a branch of its own, if there is none.
    ///
    /// # Errors
    /// `Invalid` where the project is in no git repository or has no commit, `Conflict` where the branch is of another task,
    /// `Unavailable` while a person is in the midst of something there, `Failed` with git's own words: that may be otherwise
    /// the next time.
    pub(crate) fn open(git: &Git, project: &Path, state: &Path, of: Of) -> Result<Workspace> {
        let top = top_of(git, project)?;
        let (root, branch) = (place(state, of.task), branch(of.task));
        make_folder(&root)?;
        let _turn = turn(git, &root)?;
        let head = format!("refs/heads/{branch}");
        let is_there = git.run(project, &["rev-parse", "--verify", "--quiet", &head]).is_ok();
        if is_there
            && let Ok(added) = git.run(project, &["config", &key(&branch, ADDED)])
            && added != of.added_ms.to_string()
        {
            return Err(of_another(&branch, &root));
        }
        if Note::read(&root) == Some(Note::Making) {
            undo(git, project, &root)?;
        }
        if !root.join(".git").exists() {
            make(git, project, &root, (&branch, is_there), of)?;
        }
        let in_use = in_use(&root)?;
        Note::Of(of.attempt).write(&root)?;
        Workspace::at(git, project, &top, (root, branch), in_use)
    }

    /// Finds the worktree in which an attempt worked; `None` if it did not work in one.
    ///
    /// # Errors
    /// As [`open`](Workspace::open).
    pub(crate) fn find(git: &Git, project: &Path, state: &Path, of: Of) -> Result<Option<Workspace>> {
        let root = place(state, of.task);
        let is_its_own = match Note::read(&root) {
            Some(Note::Of(attempt)) => attempt == of.attempt,
            Some(Note::Making) => false,
            // Made by an earlier build, which left no note.
            None => root.join(".git").exists(),
        };
        if !is_its_own {
            return Ok(None);
        }
        let workspace = Workspace::open(git, project, state, of)?;
        if workspace.is_merging() {
            // A check whose outcome nobody heard, because the node ended: what an attempt left is committed before.
            workspace.run(&["merge", "--abort"])?;
        }
        Ok(Some(workspace))
    }

    /// Takes away the worktree of a task that is over, once all that is in it is on the task's branch, from which another
    /// attempt would go on. Answers whether it is gone: it stays while somebody uses it, where it is not that task's for
    /// certain, and where its work could not be brought to its branch.
    ///
    /// # Errors
    /// As [`keep`](Workspace::keep).
    pub(crate) fn put_away(git: &Git, project: &Path, state: &Path, of: Of) -> Result<bool> {
        let (root, branch) = (place(state, of.task), branch(of.task));
        // With the turn nobody opens it meanwhile, and alone nobody works in it.
        let Some(_turn) = turn_now(&root)? else { return Ok(false) };
        let Some(alone) = alone(&root)? else { return Ok(false) };
        if git.run(project, &["config", &key(&branch, ADDED)]).ok() != Some(of.added_ms.to_string()) {
            return Ok(false);
        }
        let base = git.run(project, &["config", &key(&branch, BASE)])?;
        match Note::read(&root) {
            Some(Note::Of(_)) if root.join(".git").exists() => {
                let top = top_of(git, project)?;
                let workspace = Workspace::at(git, project, &top, (root.clone(), branch.clone()), alone)?;
                workspace.keep(&format!("What was left of task {}", of.task), KEEPER, &[])?;
                if !workspace.is_on_its_branch() {
                    return Ok(false);
                }
            }
            Some(Note::Making) => {}
            Some(Note::Of(_)) | None => return Ok(false),
        }
        remove(git, project, &root)?;
        delete_merged(git, project, &branch, &base);
        Ok(true)
    }

    /// Describes the worktree at `root`, of a project in the repository at `top`.
    fn at(
        git: &Git,
        project: &Path,
        top: &str,
        (root, branch): (PathBuf, String),
        in_use: File,
    ) -> Result<Workspace> {
        let base = git.run(project, &["config", &key(&branch, BASE)]).map_err(|_| of_nowhere(&branch))?;
        let dir = root.join(inner(project, Path::new(top)));
        let common = git.run(project, &["rev-parse", "--git-common-dir"])?;
        let kept_in = project.join(common).join("worktrees");
        let kept_in = kept_in.canonicalize().map_err(|e| replaced(&root, &e.to_string()))?;
        let (git, project, _in_use) = (git.clone(), project.to_owned(), Arc::new(in_use));
        let workspace = Workspace { git, root, dir, project, kept_in, branch, base, _in_use };
        workspace.check_link()?;
        Ok(workspace)
    }

    /// Refuses a worktree that an agent has made one of another repository: that could name commands (filters), and git
    /// would run them here, outside of whatever the agent is confined to.
    fn check_link(&self) -> Result<()> {
        let link = self.root.join(".git");
        let wrong = |why: &str| replaced(&self.root, why);
        let facts = link.symlink_metadata().map_err(|e| wrong(&e.to_string()))?;
        if !facts.is_file() || facts.len() > LINK_MAX {
            return Err(wrong("it is not the file that git made"));
        }
        let text = std::fs::read_to_string(&link).map_err(|e| wrong(&e.to_string()))?;
        let leads = text.strip_prefix("gitdir: ").map(|path| self.root.join(path.trim_end()));
        let leads = leads.and_then(|path| path.canonicalize().ok());
        match leads.is_some_and(|path| path.parent() == Some(&self.kept_in)) {
            true => Ok(()),
            false => Err(wrong("it leads elsewhere")),
        }
    }

    /// Returns the folder to work in.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Returns the branch that it goes back to.
    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    /// Returns the commit that the work is at.
    ///
    /// # Errors
    /// `Failed` with git's own words.
    pub(crate) fn head(&self) -> Result<String> {
        self.run(&["rev-parse", "--verify", "HEAD"])
    }

    /// Commits whatever an attempt left, so that nothing is lost; of what git ignores only the files that were promised.
    /// Answers with what an agent has to do before it is done.
    ///
    /// # Errors
    /// `Failed` with git's own words.
    pub(crate) fn keep(&self, words: &str, agent: &str, promised: &[String]) -> Result<Option<String>> {
        self.check_link()?;
        // Asked for now: once it is committed, nothing tells any more what was open.
        let (begun, mut open) = (self.under_way()?, self.unmerged()?);
        open.extend(self.unresolved());
        // A merge that was begun and not ended is no state to go on from; what is resolved is kept all the same.
        self.run(&["add", "--all"])?;
        self.add_promised(promised)?;
        // A repository within counts by its commit: to look for more would be to do as its configuration says.
        let changed = self.run(&["status", "--porcelain", "--ignore-submodules=dirty"])?;
        if !changed.is_empty() || self.is_merging() {
            self.run_as(agent, &["commit", "--no-verify", "--allow-empty", "--quiet", "-m", words])?;
        }
        open.retain(|file| is_marked(&self.root.join(file)));
        self.note_unresolved(&open)?;
        let picked = begun.filter(|what| matches!(*what, "cherry-pick" | "revert"));
        if let Some(what) = picked {
            // The commit ended this step of it; what is left of the others would keep an agent from beginning anew.
            let _ = self.run(&[what, "--quit"]);
        }
        let back = self.come_back(agent)?;
        let marked = (!open.is_empty()).then(|| left_marked(&open));
        Ok(marked.or_else(|| picked.map(left_picked)).or(back))
    }

    /// Returns the files of which a merge, or a step like one, is not resolved in git's eyes.
    fn unmerged(&self) -> Result<BTreeSet<String>> {
        // Asked of the index alone: to compare with the files would be to do as their filters say.
        let list = self.run(&["ls-files", "--unmerged", "-z"])?;
        let file = |entry: &str| entry.split_once('\t').map(|(_, file)| file.to_owned());
        Ok(list.split('\0').filter_map(file).collect())
    }

    /// Returns the files in which conflicts were marked, as it was noted last. Once they are committed, git does not know.
    fn unresolved(&self) -> BTreeSet<String> {
        let list = std::fs::read_to_string(unresolved_file(&self.root)).unwrap_or_default();
        list.split('\0').filter(|file| !file.is_empty()).map(str::to_owned).collect()
    }

    fn note_unresolved(&self, files: &BTreeSet<String>) -> Result<()> {
        let (note, list) = (unresolved_file(&self.root), files.iter().cloned().collect::<Vec<_>>());
        let done = match list.is_empty() {
            true => std::fs::remove_file(&note).or_else(|e| match e.kind() {
                ErrorKind::NotFound => Ok(()),
                _ => Err(e),
            }),
            false => std::fs::write(&note, list.join("\0")),
        };
        done.map_err(|e| Error::failed(format!("cannot write {}: {e}", note.display())))
    }

    /// Adds the promised files that git ignores: they would go with the worktree, and whoever needs them would not find them.
    fn add_promised(&self, promised: &[String]) -> Result<()> {
        let is_inside = |file: &&str| {
            Path::new(file).components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir))
        };
        let there =
            promised.iter().map(String::as_str).filter(is_inside).filter(|file| self.dir.join(file).exists());
        let mut words = vec!["--literal-pathspecs", "add", "--force", "--"];
        words.extend(there);
        if words.len() > 4 {
            self.git.run(&self.dir, &words)?;
        }
        Ok(())
    }

    /// Notes that the work at this commit is done, with its result, and only could not be merged.
    ///
    /// # Errors
    /// `Failed` when it cannot be written.
    pub(crate) fn note_finished(&self, result: Option<&Value>) -> Result<()> {
        let (note, head) = (finished_file(&self.root), self.head()?);
        let text = format!("{head}\n{}", result.map(Value::to_string).unwrap_or_default());
        std::fs::write(&note, text)
            .map_err(|e| Error::failed(format!("cannot write {}: {e}", note.display())))
    }

    /// Returns the result of work that was done and could not be merged, if it is here as it was then. It is told once: what
    /// is wrong with it still, an agent has to mend.
    pub(crate) fn take_finished(&self) -> Option<Option<Value>> {
        let note = finished_file(&self.root);
        let text = std::fs::read_to_string(&note).ok()?;
        std::fs::remove_file(note).ok()?;
        let (at, result) = text.split_once('\n')?;
        let changed =
            self.run(&["status", "--porcelain", "--untracked-files=no", "--ignore-submodules=dirty"]).ok()?;
        if self.head().ok()? != at || !changed.is_empty() || !self.is_on_its_branch() {
            return None;
        }
        if result.is_empty() { Some(None) } else { serde_json::from_str(result).ok().map(Some) }
    }

    /// Puts the task's branch where the work is: an agent may have gone to another branch, or to none. Answers with what an
    /// agent has to do first.
    fn come_back(&self, agent: &str) -> Result<Option<String>> {
        if let Some(what) = self.under_way()? {
            return Ok(Some(format!(
                "a `git {what}` is under way here: end it (--continue or --abort), and finish again"
            )));
        }
        if self.is_on_its_branch() {
            return Ok(None);
        }
        let is_there =
            self.run(&["rev-parse", "--verify", "--quiet", &format!("refs/heads/{}", self.branch)]).is_ok();
        if is_there && self.run(&["merge-base", "--is-ancestor", &self.branch, "HEAD"]).is_err() {
            // What earlier attempts left there is not to be lost.
            let words = format!("Merge {}", self.branch);
            if let Err(error) = self.merge_in(agent, &self.branch, &words) {
                let what = format!("what is committed here conflicts with earlier work on {}", self.branch);
                return self.conflict(error, &what).map(Some);
            }
        }
        self.run(&["switch", "--quiet", "-C", &self.branch])?;
        // Git forgets it with a branch that is deleted.
        self.run(&["config", &key(&self.branch, BASE), &self.base])?;
        Ok(None)
    }

    fn is_on_its_branch(&self) -> bool {
        self.run(&["symbolic-ref", "--quiet", "--short", "HEAD"]).is_ok_and(|on| on == self.branch)
    }

    /// Returns what of several steps an agent has begun and not ended.
    fn under_way(&self) -> Result<Option<&'static str>> {
        for (file, what) in [
            ("rebase-merge", "rebase"),
            ("rebase-apply", "rebase"),
            ("CHERRY_PICK_HEAD", "cherry-pick"),
            ("REVERT_HEAD", "revert"),
        ] {
            let path = self.run(&["rev-parse", "--git-path", file])?;
            if self.root.join(path).exists() {
                return Ok(Some(what));
            }
        }
        Ok(None)
    }

    /// Merges the task's work into the branch it came from, after all that was merged before. Where the work was `checked`
    /// at a commit, only that commit: with what was merged meanwhile it is something else.
    ///
    /// # Errors
    /// `Failed` with git's own words.
    pub(crate) fn merge(&self, agent: &str, checked: Option<&str>) -> Result<Merged> {
        let _turn = turn(&self.git, &self.root)?;
        if let Some(why) = self.come_back(agent)? {
            return Ok(Merged::Conflict(why));
        }
        let words = format!("Merge {} into {}", self.base, self.branch);
        let mut pauses = AGAIN_AFTER_MS.into_iter();
        loop {
            if let Err(error) = self.merge_in(agent, &self.base, &words) {
                let what = format!(
                    "the work is done on branch {}, but it conflicts with {}",
                    self.branch, self.base
                );
                return self.conflict(error, &what).map(Merged::Conflict);
            }
            if let Some(checked) = checked
                && self.head()? != checked
            {
                return Ok(Merged::Moved);
            }
            let Err(error) = self.forward() else { break };
            if self.git.is_halted() {
                return Err(error);
            }
            if is_in_the_way(&error) {
                return Ok(self.blocked(&error));
            }
            let Some(pause) = pauses.next() else { return Ok(self.not_now(&error)) };
            std::thread::sleep(Duration::from_millis(pause));
        }
        self.clear_away();
        Ok(Merged::Done)
    }

    fn blocked(&self, error: &Error) -> Merged {
        Merged::Blocked(format!(
            "done on branch {}, but {} cannot move on to it: {}; commit or stash what stands in the way, then `quorate \
             task retry`",
            self.branch, self.base, error.message
        ))
    }

    fn not_now(&self, error: &Error) -> Merged {
        let why = match is_somebody_s(error) {
            true => format!(
                "a person is in the midst of something with it (a rebase, a bisect): {}",
                error.message
            ),
            false => error.message.clone(),
        };
        Merged::NotNow(format!(
            "done on branch {}, but {} cannot move on to it now: {why}; it goes on by itself when that is over",
            self.branch, self.base
        ))
    }

    /// Merges a branch into the worktree. What a person has set for their own merges is not meant for this one.
    fn merge_in(&self, agent: &str, other: &str, words: &str) -> Result<()> {
        let merge =
            ["merge", "--ff", "--no-verify", "--no-verify-signatures", "--no-edit", "-m", words, other];
        self.run_as(agent, &merge).map(drop)
    }

    /// Leaves a merge that met a conflict open in the worktree, where it hurts nobody: an agent that is confined to the files
    /// could not begin it, but it can edit them, and [`keep`](Workspace::keep) ends it. Answers with what it is to do.
    fn conflict(&self, error: Error, what: &str) -> Result<String> {
        let files = self.unmerged()?;
        if files.is_empty() {
            return Err(error);
        }
        self.note_unresolved(&files)?;
        Ok(format!(
            "{what}: the merge is begun here, and the conflicts are marked in {}: edit these files so that both changes \
             are in and no marker is left, and finish again; the merge is ended for you",
            named(&files)
        ))
    }

    /// Moves the branch it came from forward, in whichever folder that is checked out.
    fn forward(&self) -> Result<()> {
        match self.checked_out()? {
            Some(folder) => {
                let words =
                    ["merge", "--ff-only", "--no-verify", "--no-verify-signatures", "--quiet", &self.branch];
                self.git.run(&folder, &words)
            }
            None => {
                let there = format!("{}:{}", self.branch, self.base);
                self.git.run(&self.project, &["fetch", "--quiet", ".", &there])
            }
        }
        .map(drop)
    }

    /// Returns the folder in which the branch it came from is checked out.
    fn checked_out(&self) -> Result<Option<PathBuf>> {
        let list = self.git.run(&self.project, &["worktree", "list", "--porcelain"])?;
        let wanted = format!("branch refs/heads/{}", self.base);
        let mut folder = None;
        for line in list.lines() {
            match line.strip_prefix("worktree ") {
                Some(path) => folder = Some(PathBuf::from(path)),
                None if line == wanted => return Ok(folder),
                None => {}
            }
        }
        Ok(None)
    }

    /// Removes what is merged, and with it what a check left there. What cannot be removed now is put away later.
    fn clear_away(&self) {
        if remove(&self.git, &self.project, &self.root).is_ok() {
            delete_merged(&self.git, &self.project, &self.branch, &self.base);
        }
    }

    fn is_merging(&self) -> bool {
        self.run(&["rev-parse", "--verify", "--quiet", "MERGE_HEAD"]).is_ok()
    }

    /// Runs git in the worktree.
    fn run(&self, words: &[&str]) -> Result<String> {
        self.git.run(&self.root, words)
    }

    /// The same, as whoever made the change.
    fn run_as(&self, agent: &str, words: &[&str]) -> Result<String> {
        self.git.run_as(agent, &self.root, words)
    }
}

/// What is noted beside a worktree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Note {
    /// It is being made: nobody has worked in it, and what is there may be half of it.
    Making,
    /// The attempt that works in it, or worked in it last.
    Of(i64),
}

impl Note {
    fn file(root: &Path) -> PathBuf {
        root.with_extension("attempt")
    }

    /// Reads the note; `None` without one.
    fn read(root: &Path) -> Option<Note> {
        let text = std::fs::read_to_string(Note::file(root)).ok()?;
        Some(text.trim().parse().map_or(Note::Making, Note::Of))
    }

    fn write(self, root: &Path) -> Result<()> {
        let (file, new) = (Note::file(root), root.with_extension("attempt.new"));
        let text = match self {
            Note::Making => "making\n".to_owned(),
            Note::Of(attempt) => format!("{attempt}\n"),
        };
        // Whole or not at all: half a note would be taken for a worktree that is being made.
        std::fs::write(&new, text)
            .and_then(|()| std::fs::rename(&new, &file))
            .map_err(|e| Error::failed(format!("cannot write {}: {e}", file.display())))
    }
}

/// Makes a worktree; the branch is made, too, if it is not there.
fn make(git: &Git, project: &Path, root: &Path, (branch, is_there): (&str, bool), of: Of) -> Result<()> {
    // A worktree whose folder somebody removed would keep its branch from being checked out again.
    git.run(project, &["worktree", "prune"])?;
    let path = root.display().to_string();
    if is_there {
        Note::Making.write(root)?;
        let added = git.run(project, &["worktree", "add", &path, branch]);
        return added
            .map(drop)
            .map_err(|error| if is_somebody_s(&error) { looked_at(branch, &error) } else { error });
    }
    let base = git.run(project, &["symbolic-ref", "--short", "HEAD"]).map_err(|_| on_no_branch())?;
    must_be_born(git, project, &base)?;
    Note::Making.write(root)?;
    // First what is known of the branch: without it a branch would be there that nobody could go on from.
    git.run(project, &["config", &key(branch, BASE), &base])?;
    git.run(project, &["config", &key(branch, ADDED), &of.added_ms.to_string()])?;
    git.run(project, &["worktree", "add", "-b", branch, &path, &base]).map(drop)
}

/// Takes away what is left of a worktree that was not made to its end.
fn undo(git: &Git, project: &Path, root: &Path) -> Result<()> {
    let path = root.display().to_string();
    // Git locks what it is making, and one that was killed leaves it locked.
    let _ = git.run(project, &["worktree", "unlock", &path]);
    let _ = git.run(project, &["worktree", "remove", "--force", &path]);
    match std::fs::remove_dir_all(root) {
        Err(e) if e.kind() != ErrorKind::NotFound => {
            Err(Error::failed(format!("cannot remove {}: {e}", root.display())))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Removes a worktree of which nothing is left to be kept.
fn remove(git: &Git, project: &Path, root: &Path) -> Result<()> {
    // Should this be broken off, what is left must not be taken for the work: what is missing would be kept as deleted.
    Note::Making.write(root)?;
    undo(git, project, root)?;
    for beside in [Note::file(root), use_file(root)] {
        let _ = std::fs::remove_file(beside);
    }
    Ok(())
}

/// Deletes a branch of which all is in the branch it came from.
fn delete_merged(git: &Git, project: &Path, branch: &str, base: &str) {
    if git.run(project, &["merge-base", "--is-ancestor", branch, base]).is_ok() {
        let _ = git.run(project, &["branch", "-D", branch]);
    }
}

/// Tells whether git refuses because somebody has the branch in a folder of theirs, or is rebasing or bisecting it.
fn is_somebody_s(error: &Error) -> bool {
    ["checked out at", "already used by worktree"].iter().any(|words| error.message.contains(words))
}

/// Tells whether a person's own changes keep a branch from moving on, which no waiting mends.
fn is_in_the_way(error: &Error) -> bool {
    error.message.contains("would be overwritten by")
}

/// Waits until nobody else makes or merges a worktree of this project: git gives up where two of it meet.
fn turn(git: &Git, root: &Path) -> Result<File> {
    let until = Instant::now() + git.limit() * TURNS_MAX;
    loop {
        if let Some(turn) = turn_now(root)? {
            return Ok(turn);
        }
        if git.is_halted() {
            return Err(not_locked(&turn_file(root), &"its node stops"));
        }
        if Instant::now() >= until {
            return Err(not_locked(&turn_file(root), &"another merge has not ended for long"));
        }
        std::thread::sleep(TURN_EVERY);
    }
}

/// Takes the turn if it is nobody's.
fn turn_now(root: &Path) -> Result<Option<File>> {
    locked(&turn_file(root), File::try_lock)
}

/// Says that a worktree is worked in, for as long as the file is open. Whoever says so has the turn.
fn in_use(root: &Path) -> Result<File> {
    let file = use_file(root);
    locked(&file, File::try_lock_shared)?.ok_or_else(|| not_locked(&file, &"it is being put away"))
}

/// Takes a worktree that nobody works in.
fn alone(root: &Path) -> Result<Option<File>> {
    locked(&use_file(root), File::try_lock)
}

fn locked(file: &Path, lock: impl Fn(&File) -> Result<(), TryLockError>) -> Result<Option<File>> {
    let opened = OpenOptions::new().create(true).write(true).truncate(false).open(file);
    let opened = opened.map_err(|e| not_locked(file, &e))?;
    match lock(&opened) {
        Ok(()) => Ok(Some(opened)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(e)) => Err(not_locked(file, &e)),
    }
}

fn not_locked(file: &Path, why: &dyn std::fmt::Display) -> Error {
    Error::failed(format!("cannot lock {}: {why}", file.display()))
}

fn turn_file(root: &Path) -> PathBuf {
    root.with_file_name("lock")
}

fn use_file(root: &Path) -> PathBuf {
    root.with_extension("use")
}

fn finished_file(root: &Path) -> PathBuf {
    root.with_extension("finished")
}

fn unresolved_file(root: &Path) -> PathBuf {
    root.with_extension("unresolved")
}

/// Tells whether a conflict is marked in a file. One that an agent has made a pipe or a link is not read.
fn is_marked(file: &Path) -> bool {
    let is_file = file.symlink_metadata().is_ok_and(|facts| facts.is_file());
    is_file
        && File::open(file).is_ok_and(|file| {
            let lines = BufReader::new(file.take(MARKED_MAX)).split(b'\n');
            lines.map_while(Result::ok).any(|line| is_marker(&line))
        })
}

fn is_marker(line: &[u8]) -> bool {
    let arrows = line.iter().take_while(|byte| **byte == b'<').count();
    arrows >= MARKER_LEAST && line.get(arrows) == Some(&b' ')
}

/// Names files, but not any number of them.
fn named(files: &BTreeSet<String>) -> String {
    let named = files.iter().take(CONFLICTS_MAX).map(String::as_str).collect::<Vec<_>>().join(", ");
    match files.len().saturating_sub(CONFLICTS_MAX) {
        0 => named,
        more => format!("{named} and {more} more"),
    }
}

fn left_marked(files: &BTreeSet<String>) -> String {
    format!(
        "conflict markers are left in {}: edit these files so that none is left, and finish again",
        named(files)
    )
}

fn left_picked(what: &str) -> String {
    format!(
        "a `git {what}` was under way here, and what it had brought is committed as it was: see that all of it is there, \
         and finish again"
    )
}

/// Lists the tasks that have a worktree.
pub(crate) fn all(state: &Path) -> Vec<TaskId> {
    let entries = std::fs::read_dir(state.join(FOLDER)).into_iter().flatten().flatten();
    let folders = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    let mut tasks: Vec<TaskId> =
        folders.filter_map(|entry| entry.file_name().to_str()?.parse().ok().map(TaskId)).collect();
    tasks.sort_unstable();
    tasks
}

/// Refuses a project in which no worktree could be made, with what mends it.
///
/// # Errors
/// `Invalid` where it is in no git repository, or has no commit yet; `Failed` with git's own words.
pub fn check_repository(project: &Path) -> Result<()> {
    let git = Git::default();
    top_of(&git, project)?;
    match git.run(project, &["symbolic-ref", "--quiet", "--short", "HEAD"]) {
        Ok(base) => must_be_born(&git, project, &base),
        // On no branch, where a person who is through goes back to one.
        Err(_) => Ok(()),
    }
}

/// Refuses a branch without a commit: nothing could branch off.
fn must_be_born(git: &Git, project: &Path, base: &str) -> Result<()> {
    match git.run(project, &["for-each-ref", &format!("refs/heads/{base}")])?.is_empty() {
        true => Err(unborn(base)),
        false => Ok(()),
    }
}

/// Returns the folder of the project's repository.
fn top_of(git: &Git, project: &Path) -> Result<String> {
    git.run(project, &["rev-parse", "--show-toplevel"]).map_err(|error| not_found(project, error))
}

/// Tells why git does not know the project: mostly it is in no repository, else git's own words say it.
fn not_found(project: &Path, error: Error) -> Error {
    let has = |words: &str| error.message.contains(words);
    if has("not a git repository") {
        return no_repository(project);
    }
    if has("dubious ownership") {
        let mend = format!("git config --global --add safe.directory {}", project.display());
        return Error::invalid(error.message).hint(mend);
    }
    if has("cannot run git") { error.hint("install git") } else { error }
}

fn on_no_branch() -> Error {
    let message = "the project is on no branch that a task's work could go back to (a rebase, a bisect, a detached HEAD)";
    Error::unavailable(message).hint("end what you are at, or git switch BRANCH: it goes on by itself")
}

fn unborn(base: &str) -> Error {
    let message =
        format!("the project's branch {base} has no commit yet, from which a task's branch could begin");
    Error::invalid(message).hint("git add --all && git commit")
}

fn looked_at(branch: &str, error: &Error) -> Error {
    let message = format!("the branch {branch} is in use elsewhere: {}", error.message);
    Error::unavailable(message).hint("git switch to another branch there: it goes on by itself")
}

fn no_repository(project: &Path) -> Error {
    Error::invalid(format!(
        "{} is in no git repository, which `workspace = \"worktree\"` wants",
        project.display()
    ))
    .hint("git init && git add --all && git commit")
}

fn branch(task: TaskId) -> String {
    format!("quorate/task-{task}")
}

fn place(state: &Path, task: TaskId) -> PathBuf {
    state.join(FOLDER).join(task.to_string())
}

/// What git keeps of a task's branch, for as long as that is there: the branch it came from, and when the task was added.
const BASE: &str = "quorate-base";
const ADDED: &str = "quorate-added";

fn key(branch: &str, what: &str) -> String {
    format!("branch.{branch}.{what}")
}

fn of_another(branch: &str, root: &Path) -> Error {
    let message = format!("the branch {branch} is of a task of another ledger, whose work is not merged");
    let mend = format!("git worktree remove --force {}; git branch -m {branch} NAME", root.display());
    Error::new(Kind::Conflict, message).hint(mend)
}

fn of_nowhere(branch: &str) -> Error {
    let message = format!("the branch {branch} is there, but not which branch it came from");
    Error::new(Kind::Conflict, message).hint(format!("git config {} BRANCH", key(branch, BASE)))
}

fn replaced(root: &Path, why: &str) -> Error {
    let message = format!("the worktree {} is not that of the project any more: .git: {why}", root.display());
    let hint = format!("look what is in it, then remove it: git worktree remove --force {}", root.display());
    Error::new(Kind::Conflict, message).hint(hint)
}

/// The project's folder within its repository.
fn inner(project: &Path, top: &Path) -> PathBuf {
    let (project, top) = (project.canonicalize().unwrap_or_else(|_| project.to_owned()), top.canonicalize());
    let top = top.unwrap_or_default();
    project.strip_prefix(&top).map(PathBuf::from).unwrap_or_default()
}

fn make_folder(root: &Path) -> Result<()> {
    let folder = root.parent().unwrap_or(root);
    quorate_store::private_folder(folder)
        .map_err(|e| Error::failed(format!("cannot make {}: {e}", folder.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Project {
        folder: tempfile::TempDir,
    }

    impl Project {
        fn new() -> Project {
            let project = Project { folder: tempfile::tempdir().unwrap() };
            project.git(&["init", "--quiet", "--initial-branch=main"]);
            project.write("shared.txt", "one\ntwo\nthree\n");
            project.write(".gitignore", ".quorate/\n");
            project.git(&["add", "--all"]);
            Git::default().run_as("ann", project.path(), &["commit", "--quiet", "-m", "begin"]).unwrap();
            project
        }

        fn path(&self) -> &Path {
            self.folder.path()
        }

        fn git(&self, words: &[&str]) -> String {
            Git::default().run(self.path(), words).unwrap()
        }

        fn write(&self, file: &str, text: &str) {
            std::fs::write(self.path().join(file), text).unwrap();
        }

        fn read(&self, file: &str) -> String {
            std::fs::read_to_string(self.path().join(file)).unwrap_or_default()
        }

        fn open(&self, task: i64) -> Workspace {
            self.try_open(task).unwrap()
        }

        fn try_open(&self, task: i64) -> Result<Workspace> {
            Workspace::open(&Git::default(), self.path(), &self.state(), of(task, 1))
        }

        fn state(&self) -> PathBuf {
            self.path().join(".quorate")
        }

        fn find(&self, task: i64, attempt: i64) -> Option<Workspace> {
            Workspace::find(&Git::default(), self.path(), &self.state(), of(task, attempt)).unwrap()
        }
    }

    fn of(task: i64, attempt: i64) -> Of {
        Of { task: TaskId(task), attempt, added_ms: 7 }
    }

    /// Runs git where the agent works.
    fn agent_s_git(workspace: &Workspace, words: &[&str]) -> String {
        Git::default().run_as("ada", workspace.dir(), words).unwrap()
    }

    fn write(workspace: &Workspace, file: &str, text: &str) {
        std::fs::write(workspace.dir().join(file), text).unwrap();
    }

    /// Writes a command that leaves a mark when git runs it; answers with its path.
    fn trap(project: &Project, mark: &Path) -> String {
        use std::os::unix::fs::PermissionsExt;
        let trap = project.path().join(".git/trap.sh");
        std::fs::write(&trap, format!("#!/bin/sh\ntouch '{}'\ncat\n", mark.display())).unwrap();
        std::fs::set_permissions(&trap, std::fs::Permissions::from_mode(0o755)).unwrap();
        trap.display().to_string()
    }

    #[test]
    fn what_a_repository_within_names_is_not_run() {
        let project = Project::new();
        let marks = tempfile::tempdir().unwrap();
        let mark = marks.path().join("run");
        let workspace = project.open(7);
        let inner = workspace.dir().join("inner");
        std::fs::create_dir(&inner).unwrap();
        let git = |words: &[&str]| Git::default().run_as("eve", &inner, words).unwrap();
        git(&["init", "--quiet"]);
        std::fs::write(inner.join(".gitattributes"), "* filter=trap\n").unwrap();
        std::fs::write(inner.join("file"), "text").unwrap();
        git(&["add", "--all"]);
        git(&["commit", "--quiet", "-m", "bait"]);
        let trap = trap(&project, &mark);
        git(&["config", "core.fsmonitor", &trap]);
        git(&["config", "filter.trap.clean", &trap]);
        std::fs::write(inner.join("file"), "other").unwrap();

        workspace.keep("kept", "eve", &[]).unwrap();

        assert!(!mark.exists());
        assert!(project.git(&["ls-tree", "quorate/task-7"]).contains("commit "), "its commit is kept");
    }

    #[test]
    fn a_worktree_that_leads_to_another_repository_is_refused() {
        let project = Project::new();
        let workspace = project.open(7);
        write(&workspace, "work.txt", "done");
        let link = workspace.dir().join(".git");
        let its_own = std::fs::read_to_string(&link).unwrap();
        let evil = tempfile::tempdir().unwrap();
        Git::default().run(evil.path(), &["init", "--quiet"]).unwrap();
        let elsewhere = format!("gitdir: {}\n", evil.path().join(".git").display());
        for other in [elsewhere.as_str(), "gitdir: nowhere", "", &"x".repeat(9_000)] {
            std::fs::write(&link, other).unwrap();
            let error = workspace.keep("kept", "eve", &[]).unwrap_err();
            assert!(error.message.contains("not that of the project"), "{error}");
            assert!(project.try_open(7).is_err());
        }
        std::fs::write(&link, its_own).unwrap();
        workspace.keep("kept", "ada", &[]).unwrap();
        assert!(project.git(&["ls-tree", "quorate/task-7"]).contains("work.txt"), "nothing is lost");
    }

    #[test]
    fn what_succeeded_is_merged_in_order_and_its_worktree_is_gone() {
        let project = Project::new();
        let (first, second) = (project.open(1), project.open(2));
        write(&first, "a.txt", "a\n");
        write(&second, "b.txt", "b\n");
        assert_eq!(project.read("a.txt"), "", "nothing is seen before it is merged");
        for workspace in [&second, &first] {
            workspace.keep("work", "ada", &[]).unwrap();
            assert_eq!(workspace.merge("ada", None).unwrap(), Merged::Done);
        }
        assert_eq!((project.read("a.txt"), project.read("b.txt")), ("a\n".into(), "b\n".into()));
        assert!(!first.dir().exists() && !second.dir().exists());
        assert_eq!(project.git(&["branch", "--list", "quorate/*"]), "");
        assert_eq!(project.git(&["status", "--porcelain"]), "");
    }

    /// Commits what the project's folder holds, as a person does.
    fn commit(project: &Project, words: &str) {
        project.git(&["add", "--all"]);
        Git::default().run_as("ann", project.path(), &["commit", "--quiet", "-m", words]).unwrap();
    }

    /// A task whose work conflicts with main in two files, and the reason for which its attempt failed.
    fn in_conflict(project: &Project) -> (Workspace, String) {
        let workspace = project.open(2);
        for file in ["shared.txt", "other.txt"] {
            write(&workspace, file, "one\nzwei\nthree\n");
            project.write(file, "one\nTWO\nthree\n");
        }
        commit(project, "meanwhile");
        assert_eq!(workspace.keep("work", "bob", &[]).unwrap(), None);
        let Merged::Conflict(why) = workspace.merge("bob", None).unwrap() else { panic!("it conflicts") };
        (workspace, why)
    }

    #[test]
    fn a_conflict_is_marked_in_the_files_and_the_next_attempt_only_edits_them() {
        let project = Project::new();
        let (_, why) = in_conflict(&project);
        assert!(why.contains("conflicts with main") && why.contains("other.txt, shared.txt"), "{why}");
        assert_eq!(project.read("shared.txt"), "one\nTWO\nthree\n", "the project is as it was");
        let again = project.open(2);
        let marked = std::fs::read_to_string(again.dir().join("shared.txt")).unwrap();
        assert!(marked.contains("<<<<<<< ") && marked.contains("zwei") && marked.contains("TWO"), "{marked}");
        for file in ["shared.txt", "other.txt"] {
            write(&again, file, "one\nTWO zwei\nthree\n");
        }
        assert_eq!(again.keep("resolved", "bob", &[]).unwrap(), None);
        assert_eq!(again.merge("bob", None).unwrap(), Merged::Done);
        assert_eq!(project.read("shared.txt"), "one\nTWO zwei\nthree\n");
        assert!(!unresolved_file(&again.root).exists());
    }

    #[test]
    fn what_is_half_resolved_is_kept_but_not_done_however_often_it_is_said() {
        let project = Project::new();
        let (workspace, _) = in_conflict(&project);
        write(&workspace, "shared.txt", "one\nTWO zwei\nthree\n");
        for _ in 0..2 {
            let why = workspace.keep("half", "bob", &[]).unwrap().expect("it is not done");
            assert!(why.contains("other.txt") && !why.contains("shared.txt"), "{why}");
        }
        let branch = project.git(&["show", "quorate/task-2:shared.txt"]);
        assert_eq!(branch, "one\nTWO zwei\nthree", "what is resolved is kept");
        write(&workspace, "other.txt", "one\nTWO zwei\nthree\n");
        assert_eq!(workspace.keep("whole", "bob", &[]).unwrap(), None);
        assert_eq!(workspace.merge("bob", None).unwrap(), Merged::Done);
    }

    #[test]
    fn a_merge_that_an_agent_began_and_staged_as_it_was_is_not_done() {
        let project = Project::new();
        let workspace = project.open(2);
        write(&workspace, "shared.txt", "one\nzwei\nthree\n");
        assert_eq!(workspace.keep("work", "bob", &[]).unwrap(), None);
        project.write("shared.txt", "one\nTWO\nthree\n");
        commit(&project, "meanwhile");
        Git::default().run_as("bob", workspace.dir(), &["merge", "main"]).unwrap_err();
        let why = workspace.keep("half", "bob", &[]).unwrap().expect("it is not done");
        assert!(why.contains("conflict markers are left in shared.txt"), "{why}");
    }

    #[test]
    fn an_open_pick_or_revert_is_kept_but_not_done() {
        for what in ["cherry-pick", "revert"] {
            let project = Project::new();
            let workspace = project.open(2);
            write(&workspace, "shared.txt", "one\nzwei\nthree\n");
            workspace.keep("work", "bob", &[]).unwrap();
            write(&workspace, "shared.txt", "one\ndeux\nthree\n");
            workspace.keep("more", "bob", &[]).unwrap();
            project.write("shared.txt", "one\nTWO\nthree\n");
            commit(&project, "meanwhile");
            let of = if what == "revert" { "HEAD~1" } else { "main" };
            Git::default().run_as("bob", workspace.dir(), &[what, of]).unwrap_err();
            write(&workspace, "shared.txt", "one\nresolved\nthree\n");
            let why = workspace.keep("half", "bob", &[]).unwrap().expect("it is not done");
            assert!(why.contains(&format!("`git {what}` was under way")), "{why}");
            assert_eq!(workspace.keep("looked at", "bob", &[]).unwrap(), None, "it is told once");
        }
    }

    #[test]
    fn a_merge_that_was_broken_off_is_begun_anew_when_its_check_is() {
        let project = Project::new();
        let (workspace, _) = in_conflict(&project);
        assert!(workspace.is_merging());
        let found = project.find(2, 1).unwrap();
        assert!(!found.is_merging());
        assert_eq!(std::fs::read_to_string(found.dir().join("shared.txt")).unwrap(), "one\nzwei\nthree\n");
    }

    #[test]
    fn what_was_checked_goes_back_only_as_it_was_checked() {
        let project = Project::new();
        let workspace = project.open(3);
        write(&workspace, "a.txt", "a\n");
        workspace.keep("work", "ada", &[]).unwrap();
        let checked = workspace.head().unwrap();
        project.write("b.txt", "b\n");
        commit(&project, "meanwhile");
        assert_eq!(workspace.merge("ada", Some(&checked)).unwrap(), Merged::Moved);
        assert_eq!(project.read("a.txt"), "", "main is as it was");
        assert!(workspace.dir().join("b.txt").exists(), "what is to be checked is both");
        let both = workspace.head().unwrap();
        assert_eq!(workspace.merge("ada", Some(&both)).unwrap(), Merged::Done);
        assert_eq!((project.read("a.txt"), project.read("b.txt")), ("a\n".into(), "b\n".into()));
    }

    #[test]
    fn a_person_who_is_in_the_midst_of_something_is_waited_for() {
        let project = Project::new();
        let (workspace, other) = (project.open(4), project.open(5));
        write(&workspace, "a.txt", "a\n");
        workspace.keep("work", "ada", &[]).unwrap();
        project.write("b.txt", "b\n");
        commit(&project, "meanwhile");
        let edit = ["-c", "sequence.editor=sed -i s/^pick/edit/", "rebase", "--quiet", "-i", "HEAD~1"];
        Git::default().run_as("ann", project.path(), &edit).unwrap();
        let error = project.try_open(6).unwrap_err();
        assert_eq!(error.kind, Kind::Unavailable, "{error}");
        let Merged::NotNow(why) = workspace.merge("ada", None).unwrap() else {
            panic!("it is being rebased")
        };
        assert!(why.contains("quorate/task-4") && why.contains("a rebase"), "{why}");
        Git::default().run_as("ann", project.path(), &["rebase", "--continue"]).unwrap();
        assert_eq!(workspace.merge("ada", None).unwrap(), Merged::Done);
        write(&other, "c.txt", "c\n");
        other.keep("work", "ada", &[]).unwrap();
        std::fs::remove_dir_all(&other.root).unwrap();
        project.git(&["worktree", "prune"]);
        project.git(&["switch", "--quiet", "quorate/task-5"]);
        let error = project.try_open(5).unwrap_err();
        assert!(error.kind == Kind::Unavailable && error.message.contains("in use elsewhere"), "{error}");
        project.git(&["switch", "--quiet", "main"]);
        assert!(project.open(5).dir().join("c.txt").exists());
    }

    #[test]
    fn why_git_does_not_know_a_project_is_told_as_it_is() {
        let here = Path::new("/somewhere");
        let check = |words: &str, kind: Kind, part: &str, hint: &str| {
            let error = not_found(here, Error::failed(words));
            assert_eq!(error.kind, kind, "{error}");
            assert!(
                error.message.contains(part) && error.hint.clone().unwrap_or_default().contains(hint),
                "{error:?}"
            );
        };
        let none = "git rev-parse: fatal: not a git repository (or any of the parent directories): .git";
        check(none, Kind::Invalid, "in no git repository", "git init");
        let owner = "git rev-parse: fatal: detected dubious ownership in repository at '/somewhere'";
        check(owner, Kind::Invalid, "dubious ownership", "safe.directory /somewhere");
        check("cannot run git: No such file or directory", Kind::Failed, "cannot run git", "install git");
        check("git rev-parse: fatal: out of memory", Kind::Failed, "out of memory", "");
        let project = Project { folder: tempfile::tempdir().unwrap() };
        project.git(&["init", "--quiet", "--initial-branch=main"]);
        let error = project.try_open(1).unwrap_err();
        assert!(error.message.contains("main has no commit yet") && error.kind == Kind::Invalid, "{error}");
        assert!(error.hint.unwrap().contains("git commit"));
    }

    #[test]
    fn work_that_only_could_not_be_merged_is_known_as_done_for_as_long_as_it_is_as_it_was() {
        let project = Project::new();
        let workspace = project.open(4);
        write(&workspace, "a.txt", "a\n");
        workspace.keep("work", "ada", &[]).unwrap();
        assert_eq!(workspace.take_finished(), None);
        let result = serde_json::json!({ "lines": "1\n2" });
        workspace.note_finished(Some(&result)).unwrap();
        assert_eq!(project.open(4).take_finished(), Some(Some(result)));
        assert_eq!(project.open(4).take_finished(), None, "it is told once");
        workspace.note_finished(None).unwrap();
        assert_eq!(workspace.take_finished(), Some(None));
        workspace.note_finished(None).unwrap();
        write(&workspace, "a.txt", "other\n");
        assert_eq!(workspace.take_finished(), None);
        workspace.note_finished(None).unwrap();
        workspace.keep("more", "ada", &[]).unwrap();
        assert_eq!(workspace.take_finished(), None);
    }

    #[test]
    fn what_a_check_left_beside_the_work_goes_with_the_worktree() {
        let project = Project::new();
        let workspace = project.open(4);
        write(&workspace, "a.txt", "a\n");
        workspace.keep("work", "ada", &[]).unwrap();
        write(&workspace, "report.txt", "of the check\n");
        assert_eq!(workspace.merge("ada", None).unwrap(), Merged::Done);
        assert!(!workspace.root.exists() && !Note::file(&workspace.root).exists());
        assert_eq!(project.git(&["branch", "--list", "quorate/*"]), "");
    }

    #[test]
    fn a_worktree_that_was_half_put_away_is_made_anew_from_its_branch() {
        let project = Project::new();
        let workspace = project.open(4);
        write(&workspace, "a.txt", "a\n");
        workspace.keep("work", "ada", &[]).unwrap();
        // As a kill in the midst of it leaves it.
        Note::Making.write(&workspace.root).unwrap();
        std::fs::remove_file(workspace.dir().join("a.txt")).unwrap();
        drop(workspace);
        assert!(project.open(4).dir().join("a.txt").exists());
    }

    #[test]
    fn what_a_failed_attempt_left_is_kept_on_its_branch() {
        let project = Project::new();
        let workspace = project.open(3);
        write(&workspace, "half.txt", "half\n");
        workspace.keep("unfinished", "ada", &[]).unwrap();
        workspace.keep("unfinished", "ada", &[]).unwrap();
        std::fs::remove_dir_all(workspace.dir()).unwrap();
        let again = project.open(3);
        assert_eq!(std::fs::read_to_string(again.dir().join("half.txt")).unwrap(), "half\n");
        assert_eq!(project.git(&["log", "--format=%an: %s", "main..quorate/task-3"]), "ada: unfinished");
    }

    #[test]
    fn a_person_s_uncommitted_change_is_never_lost() {
        let project = Project::new();
        let workspace = project.open(4);
        write(&workspace, "shared.txt", "agent\n");
        workspace.keep("work", "ada", &[]).unwrap();
        project.write("shared.txt", "mine\n");
        let Merged::Blocked(why) = workspace.merge("ada", None).unwrap() else { panic!("it is blocked") };
        assert!(why.contains("quorate/task-4") && why.contains("commit or stash"), "{why}");
        assert_eq!(project.read("shared.txt"), "mine\n");
        project.git(&["checkout", "--quiet", "shared.txt"]);
        assert_eq!(project.open(4).merge("ada", None).unwrap(), Merged::Done);
        assert_eq!(project.read("shared.txt"), "agent\n");
    }

    #[test]
    fn it_goes_back_to_the_branch_it_came_from_wherever_the_project_is_now() {
        let project = Project::new();
        let workspace = project.open(5);
        write(&workspace, "a.txt", "a\n");
        project.git(&["switch", "--quiet", "-c", "other"]);
        workspace.keep("work", "ada", &[]).unwrap();
        assert_eq!(workspace.merge("ada", None).unwrap(), Merged::Done);
        assert_eq!(project.read("a.txt"), "");
        assert_eq!(project.git(&["show", "main:a.txt"]), "a");
    }

    #[test]
    fn a_project_in_a_folder_of_its_repository_has_that_folder_in_the_worktree() {
        let project = Project::new();
        std::fs::create_dir(project.path().join("part")).unwrap();
        project.write("part/p.txt", "p\n");
        project.git(&["add", "--all"]);
        Git::default().run_as("ann", project.path(), &["commit", "--quiet", "-m", "part"]).unwrap();
        let part = project.path().join("part");
        let workspace = Workspace::open(&Git::default(), &part, &part.join(".quorate"), of(1, 1)).unwrap();
        assert!(workspace.dir().ends_with("1/part") && workspace.dir().join("p.txt").exists());
    }

    #[test]
    fn a_branch_of_a_task_of_another_ledger_is_not_gone_on_from() {
        let project = Project::new();
        project.open(1);
        let other = Of { added_ms: 8, ..of(1, 1) };
        let error = Workspace::open(&Git::default(), project.path(), &project.state(), other).unwrap_err();
        assert!(error.message.contains("another ledger") && error.hint.unwrap().contains("git branch -m"));
    }

    #[test]
    fn a_folder_without_a_repository_or_a_branch_is_refused_with_what_mends_it() {
        let bare = tempfile::tempdir().unwrap();
        let error = Workspace::open(&Git::default(), bare.path(), &bare.path().join(".quorate"), of(1, 1))
            .unwrap_err();
        assert!(error.message.contains("no git repository") && error.hint.unwrap().contains("git init"));
        let project = Project::new();
        project.git(&["checkout", "--quiet", "--detach"]);
        let error = project.try_open(1).unwrap_err();
        assert!(error.message.contains("no branch") && error.hint.unwrap().contains("git switch"));
        assert_eq!(error.kind, Kind::Unavailable, "a person will be through with it");
    }

    #[test]
    fn an_agent_that_leaves_its_branch_loses_nothing() {
        let elsewhere = &["switch", "--quiet", "-c", "feat"][..];
        for leave in
            [elsewhere, &["checkout", "--quiet", "--detach"], &["branch", "--quiet", "-m", "renamed"]]
        {
            let project = Project::new();
            let workspace = project.open(6);
            write(&workspace, "first.txt", "1\n");
            workspace.keep("attempt 1", "ada", &[]).unwrap();
            agent_s_git(&workspace, leave);
            write(&workspace, "own.txt", "own\n");
            agent_s_git(&workspace, &["add", "--all"]);
            agent_s_git(&workspace, &["commit", "--quiet", "-m", "own"]);
            write(&workspace, "left.txt", "left\n");
            workspace.keep("attempt 2", "ada", &[]).unwrap();
            assert_eq!(workspace.merge("ada", None).unwrap(), Merged::Done);
            for (file, text) in [("first.txt", "1\n"), ("own.txt", "own\n"), ("left.txt", "left\n")] {
                assert_eq!(project.read(file), text, "{file} after {leave:?}");
            }
        }
    }

    #[test]
    fn a_branch_of_its_own_beside_earlier_work_is_merged_with_that() {
        let project = Project::new();
        let workspace = project.open(6);
        write(&workspace, "first.txt", "1\n");
        workspace.keep("attempt 1", "ada", &[]).unwrap();
        agent_s_git(&workspace, &["switch", "--quiet", "-c", "feat", "main"]);
        write(&workspace, "own.txt", "own\n");
        workspace.keep("attempt 2", "ada", &[]).unwrap();
        assert_eq!(workspace.merge("ada", None).unwrap(), Merged::Done);
        assert_eq!((project.read("first.txt"), project.read("own.txt")), ("1\n".into(), "own\n".into()));
    }

    #[test]
    fn a_rebase_that_is_under_way_is_to_be_ended_first() {
        let project = Project::new();
        let workspace = project.open(6);
        write(&workspace, "shared.txt", "one\nzwei\nthree\n");
        workspace.keep("work", "ada", &[]).unwrap();
        project.write("shared.txt", "one\nTWO\nthree\n");
        Git::default()
            .run_as("ann", project.path(), &["commit", "--quiet", "--all", "-m", "meanwhile"])
            .unwrap();
        Git::default().run_as("ada", workspace.dir(), &["rebase", "main"]).unwrap_err();
        let Merged::Conflict(why) = workspace.merge("ada", None).unwrap() else { panic!("it is not ended") };
        assert!(why.contains("`git rebase` is under way"), "{why}");
        agent_s_git(&workspace, &["rebase", "--abort"]);
        assert!(workspace.dir().join("shared.txt").exists(), "the worktree is left to the next attempt");
    }

    #[test]
    fn promised_files_that_git_ignores_are_delivered() {
        let project = Project::new();
        let workspace = project.open(8);
        write(&workspace, ".gitignore", "/.quorate/\ndist/\n");
        std::fs::create_dir(workspace.dir().join("dist")).unwrap();
        write(&workspace, "dist/app[1].txt", "app\n");
        write(&workspace, "dist/other.txt", "other\n");
        let promised = ["dist/app[1].txt", "dist/not-there", "../outside"].map(String::from);
        workspace.keep("work", "ada", &promised).unwrap();
        assert_eq!(workspace.merge("ada", None).unwrap(), Merged::Done);
        assert_eq!(
            (project.read("dist/app[1].txt"), project.read("dist/other.txt")),
            ("app\n".into(), String::new())
        );
    }

    #[test]
    fn a_worktree_that_was_half_made_is_made_anew() {
        let project = Project::new();
        let half = project.open(9);
        // As a kill in the midst of `git worktree add` leaves it: locked, and without most of its files.
        project.git(&["worktree", "lock", &half.root.display().to_string()]);
        std::fs::remove_file(half.dir().join("shared.txt")).unwrap();
        Note::Making.write(&half.root).unwrap();
        assert!(project.find(9, 1).is_none(), "nobody has worked in it");
        let again = project.open(9);
        assert!(again.dir().join("shared.txt").exists());
        std::fs::remove_dir_all(&again.root).unwrap();
        Note::Making.write(&again.root).unwrap();
        assert!(project.open(9).dir().join("shared.txt").exists());
    }

    #[test]
    fn a_branch_that_could_not_be_checked_out_is_gone_on_from() {
        let project = Project::new();
        project.git(&["config", "filter.away.clean", "cat"]);
        project.git(&["config", "filter.away.smudge", "false"]);
        project.git(&["config", "filter.away.required", "true"]);
        project.write(".gitattributes", "*.big filter=away\n");
        project.write("a.big", "big\n");
        project.git(&["add", "--all"]);
        Git::default().run_as("ann", project.path(), &["commit", "--quiet", "-m", "big"]).unwrap();
        let error = project.try_open(2).unwrap_err();
        assert_eq!(error.kind, Kind::Failed, "it may go well the next time: {error}");
        project.git(&["config", "filter.away.smudge", "cat"]);
        assert!(project.open(2).dir().join("a.big").exists());
    }

    #[test]
    fn only_the_attempt_that_worked_in_it_has_it() {
        let project = Project::new();
        let workspace = project.open(3);
        write(&workspace, "half.txt", "half\n");
        workspace.keep("work", "ada", &[]).unwrap();
        assert!(
            project.find(3, 2).is_none(),
            "the second attempt was another agent's, in the project's folder"
        );
        std::fs::remove_dir_all(&workspace.root).unwrap();
        let found = project.find(3, 1).expect("the branch is there");
        assert!(found.dir().join("half.txt").exists());
        std::fs::remove_file(Note::file(&found.root)).unwrap();
        assert!(project.find(3, 2).is_some(), "of an earlier build, which left no note");
    }

    #[test]
    fn what_stands_in_the_way_for_a_moment_does_not_end_the_work() {
        let project = Project::new();
        project.git(&["config", "merge.ff", "only"]);
        let workspace = project.open(4);
        write(&workspace, "a.txt", "a\n");
        workspace.keep("work", "ada", &[]).unwrap();
        project.write("b.txt", "b\n");
        project.git(&["add", "--all"]);
        Git::default().run_as("ann", project.path(), &["commit", "--quiet", "-m", "meanwhile"]).unwrap();
        let lock = project.path().join(".git/index.lock");
        std::fs::write(&lock, "").unwrap();
        let other = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(300));
            std::fs::remove_file(lock).unwrap();
        });
        assert_eq!(workspace.merge("ada", None).unwrap(), Merged::Done);
        other.join().unwrap();
        assert_eq!((project.read("a.txt"), project.read("b.txt")), ("a\n".into(), "b\n".into()));
    }
}

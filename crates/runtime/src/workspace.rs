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
//! The merge is made on the task's branch, where a conflict hurts nobody: it is given back to an agent as the reason to
//! try again. The branch of the project only ever moves forward to a commit that is there already. How git is run lives in
//! `git`.

use crate::git::Git;
use quorate_model::{Error, Kind, Result, TaskId};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::ErrorKind;
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, Instant};

/// The folder of all worktrees, in the project's folder of state.
const FOLDER: &str = "worktrees";
/// The longest `.git` of a worktree: a path.
const LINK_MAX: u64 = 8 * 1024;
/// Files with conflicts that are named.
const CONFLICTS_MAX: usize = 20;
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
}

/// How a merge ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Merged {
    /// It is in the branch it came from.
    Done,
    /// It and the branch it came from changed the same: an agent must see to it.
    Conflict(String),
    /// Something of a person's stands in the way.
    Blocked(String),
}

impl Workspace {
    /// Opens a task's worktree; makes one, with a branch of its own, if there is none.
    ///
    /// # Errors
    /// `Invalid` where the project is in no git repository or on no branch, `Conflict` where the branch is of another task,
    /// `Failed` with git's own words: that may be otherwise the next time.
    pub(crate) fn open(git: &Git, project: &Path, state: &Path, of: Of) -> Result<Workspace> {
        let top = git.run(project, &["rev-parse", "--show-toplevel"]).map_err(|_| no_repository(project))?;
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
        Note::Of(of.attempt).write(&root)?;
        Workspace::at(git, project, &top, root, branch)
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
        if is_its_own { Workspace::open(git, project, state, of).map(Some) } else { Ok(None) }
    }

    /// Describes the worktree at `root`, of a project in the repository at `top`.
    fn at(git: &Git, project: &Path, top: &str, root: PathBuf, branch: String) -> Result<Workspace> {
        let base = git.run(project, &["config", &key(&branch, BASE)]).map_err(|_| of_nowhere(&branch))?;
        let dir = root.join(inner(project, Path::new(top)));
        let common = git.run(project, &["rev-parse", "--git-common-dir"])?;
        let kept_in = project.join(common).join("worktrees");
        let kept_in = kept_in.canonicalize().map_err(|e| replaced(&root, &e.to_string()))?;
        let workspace =
            Workspace { git: git.clone(), root, dir, project: project.to_owned(), kept_in, branch, base };
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

    /// Commits whatever an attempt left, so that nothing is lost; of what git ignores only the files that were promised.
    ///
    /// # Errors
    /// `Failed` with git's own words.
    pub(crate) fn keep(&self, words: &str, agent: &str, promised: &[String]) -> Result<()> {
        self.check_link()?;
        // A merge that the agent began and did not end is no state to go on from; what it resolved is kept all the same.
        self.run(&["add", "--all"])?;
        self.add_promised(promised)?;
        // A repository within counts by its commit: to look for more would be to do as its configuration says.
        let changed = self.run(&["status", "--porcelain", "--ignore-submodules=dirty"])?;
        if !changed.is_empty() || self.is_merging() {
            self.run_as(agent, &["commit", "--no-verify", "--allow-empty", "--quiet", "-m", words])?;
        }
        // What keeps it from coming back is told when it is to be merged.
        self.come_back(agent).map(drop)
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

    /// Puts the task's branch where the work is: an agent may have gone to another branch, or to none. Answers with what an
    /// agent has to do first.
    fn come_back(&self, agent: &str) -> Result<Option<String>> {
        if let Some(what) = self.under_way()? {
            return Ok(Some(format!(
                "a `git {what}` is under way here: end it (--continue or --abort), and finish again"
            )));
        }
        if self.run(&["symbolic-ref", "--quiet", "--short", "HEAD"]).is_ok_and(|on| on == self.branch) {
            return Ok(None);
        }
        let is_there =
            self.run(&["rev-parse", "--verify", "--quiet", &format!("refs/heads/{}", self.branch)]).is_ok();
        if is_there && self.run(&["merge-base", "--is-ancestor", &self.branch, "HEAD"]).is_err() {
            // What earlier attempts left there is not to be lost.
            let words = format!("Merge {}", self.branch);
            if let Err(error) = self.merge_in(agent, &self.branch, &words) {
                return self.conflict(error, &self.branch).map(Some);
            }
        }
        self.run(&["switch", "--quiet", "-C", &self.branch])?;
        // Git forgets it with a branch that is deleted.
        self.run(&["config", &key(&self.branch, BASE), &self.base])?;
        Ok(None)
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

    /// Merges the task's work into the branch it came from, after all that was merged before.
    ///
    /// # Errors
    /// `Failed` with git's own words.
    pub(crate) fn merge(&self, agent: &str) -> Result<Merged> {
        let _turn = turn(&self.git, &self.root)?;
        if let Some(why) = self.come_back(agent)? {
            return Ok(Merged::Conflict(why));
        }
        let words = format!("Merge {} into {}", self.base, self.branch);
        let mut pauses = AGAIN_AFTER_MS.into_iter();
        loop {
            if let Err(error) = self.merge_in(agent, &self.base, &words) {
                return self.conflict(error, &self.base).map(Merged::Conflict);
            }
            let Err(error) = self.forward() else { break };
            if self.git.is_halted() {
                return Err(error);
            }
            let pause = pauses.next().filter(|_| !is_in_the_way(&error));
            let Some(pause) = pause else { return Ok(self.blocked(&error)) };
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

    /// Merges a branch into the worktree. What a person has set for their own merges is not meant for this one.
    fn merge_in(&self, agent: &str, other: &str, words: &str) -> Result<()> {
        let merge =
            ["merge", "--ff", "--no-verify", "--no-verify-signatures", "--no-edit", "-m", words, other];
        self.run_as(agent, &merge).map(drop)
    }

    /// Leaves the branch as it was before a merge that met a conflict; answers with what an agent is to do.
    fn conflict(&self, error: Error, other: &str) -> Result<String> {
        let files = self.run(&["diff", "--name-only", "--diff-filter=U"])?;
        if files.is_empty() {
            return Err(error);
        }
        self.run(&["merge", "--abort"])?;
        let named: Vec<&str> = files.lines().take(CONFLICTS_MAX).collect();
        Ok(format!(
            "the work is done on branch {}, but it conflicts with {other} in {}: run `git merge {other}` here, resolve the \
             conflicts, commit, and finish again",
            self.branch,
            named.join(", "),
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

    /// Removes what is merged. What git keeps from being removed is left to be looked at.
    fn clear_away(&self) {
        let removed = self.git.run(&self.project, &["worktree", "remove", &self.root.display().to_string()]);
        let deleted = self.git.run(&self.project, &["branch", "-d", &self.branch]);
        if removed.is_ok() && deleted.is_ok() {
            let _ = std::fs::remove_file(Note::file(&self.root));
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
        return git.run(project, &["worktree", "add", &path, branch]).map(drop);
    }
    let base = git.run(project, &["symbolic-ref", "--short", "HEAD"]).map_err(|_| {
        Error::invalid("the project is on no branch that a task's work could go back to")
            .hint("git switch BRANCH")
    })?;
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

/// Tells whether a person's own changes keep a branch from moving on, which no waiting mends.
fn is_in_the_way(error: &Error) -> bool {
    error.message.contains("would be overwritten by")
}

/// Waits until nobody else makes or merges a worktree of this project: git gives up where two of it meet.
fn turn(git: &Git, root: &Path) -> Result<File> {
    let file = root.with_file_name("lock");
    let failed =
        |why: &dyn std::fmt::Display| Error::failed(format!("cannot lock {}: {why}", file.display()));
    let opened =
        OpenOptions::new().create(true).write(true).truncate(false).open(&file).map_err(|e| failed(&e))?;
    let until = Instant::now() + git.limit() * TURNS_MAX;
    loop {
        match opened.try_lock() {
            Ok(()) => return Ok(opened),
            Err(TryLockError::Error(e)) => return Err(failed(&e)),
            Err(TryLockError::WouldBlock) if git.is_halted() => return Err(failed(&"its node stops")),
            Err(TryLockError::WouldBlock) if Instant::now() >= until => {
                return Err(failed(&"another merge has not ended for long"));
            }
            Err(TryLockError::WouldBlock) => std::thread::sleep(TURN_EVERY),
        }
    }
}

/// Tells whether a project is in a git repository.
pub fn is_repository(project: &Path) -> bool {
    Git::default().run(project, &["rev-parse", "--git-dir"]).is_ok()
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
            assert_eq!(workspace.merge("ada").unwrap(), Merged::Done);
        }
        assert_eq!((project.read("a.txt"), project.read("b.txt")), ("a\n".into(), "b\n".into()));
        assert!(!first.dir().exists() && !second.dir().exists());
        assert_eq!(project.git(&["branch", "--list", "quorate/*"]), "");
        assert_eq!(project.git(&["status", "--porcelain"]), "");
    }

    #[test]
    fn a_conflict_is_told_and_the_next_attempt_goes_on_from_the_same_branch() {
        let project = Project::new();
        let (first, second) = (project.open(1), project.open(2));
        write(&first, "shared.txt", "one\nTWO\nthree\n");
        write(&second, "shared.txt", "one\nzwei\nthree\n");
        first.keep("work", "ada", &[]).unwrap();
        second.keep("work", "bob", &[]).unwrap();
        assert_eq!(first.merge("ada").unwrap(), Merged::Done);
        let Merged::Conflict(why) = second.merge("bob").unwrap() else { panic!("it conflicts") };
        assert!(why.contains("conflicts with main in shared.txt") && why.contains("git merge main"), "{why}");
        assert_eq!(project.read("shared.txt"), "one\nTWO\nthree\n", "the project is as it was");
        let again = project.open(2);
        assert_eq!(std::fs::read_to_string(again.dir().join("shared.txt")).unwrap(), "one\nzwei\nthree\n");
        let refused = Git::default().run_as("bob", again.dir(), &["merge", "main"]).unwrap_err();
        assert!(refused.message.contains("Merge conflict in shared.txt"), "{refused}");
        write(&again, "shared.txt", "one\nTWO zwei\nthree\n");
        again.keep("resolved", "bob", &[]).unwrap();
        assert_eq!(again.merge("bob").unwrap(), Merged::Done);
        assert_eq!(project.read("shared.txt"), "one\nTWO zwei\nthree\n");
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
        let Merged::Blocked(why) = workspace.merge("ada").unwrap() else { panic!("it is blocked") };
        assert!(why.contains("quorate/task-4") && why.contains("commit or stash"), "{why}");
        assert_eq!(project.read("shared.txt"), "mine\n");
        project.git(&["checkout", "--quiet", "shared.txt"]);
        assert_eq!(project.open(4).merge("ada").unwrap(), Merged::Done);
        assert_eq!(project.read("shared.txt"), "agent\n");
    }

    #[test]
    fn it_goes_back_to_the_branch_it_came_from_wherever_the_project_is_now() {
        let project = Project::new();
        let workspace = project.open(5);
        write(&workspace, "a.txt", "a\n");
        project.git(&["switch", "--quiet", "-c", "other"]);
        workspace.keep("work", "ada", &[]).unwrap();
        assert_eq!(workspace.merge("ada").unwrap(), Merged::Done);
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
            assert_eq!(workspace.merge("ada").unwrap(), Merged::Done);
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
        assert_eq!(workspace.merge("ada").unwrap(), Merged::Done);
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
        let Merged::Conflict(why) = workspace.merge("ada").unwrap() else { panic!("it is not ended") };
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
        assert_eq!(workspace.merge("ada").unwrap(), Merged::Done);
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
        assert_eq!(workspace.merge("ada").unwrap(), Merged::Done);
        other.join().unwrap();
        assert_eq!((project.read("a.txt"), project.read("b.txt")), ("a\n".into(), "b\n".into()));
    }
}

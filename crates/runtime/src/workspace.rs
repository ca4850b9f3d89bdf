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
//! try again. The branch of the project only ever moves forward to a commit that is there already.

use quorate_drivers::COMMIT_EMAIL;
use quorate_model::{Error, Kind, Result, TaskId};
use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The folder of all worktrees, in the project's folder of state.
const FOLDER: &str = "worktrees";
/// Files with conflicts that are named.
const CONFLICTS_MAX: usize = 20;
/// How much of git's own words is told, in characters.
const WORDS_MAX: usize = 300;

/// A task's worktree.
#[derive(Debug, Clone)]
pub(crate) struct Workspace {
    /// The worktree.
    root: PathBuf,
    /// The folder in it that stands for the project's.
    dir: PathBuf,
    /// The project's folder.
    project: PathBuf,
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
    /// Opens a task's worktree; makes one, with a branch of its own, if there is none. `added_ms` is when the task was
    /// added: the same number in another ledger is another task.
    ///
    /// # Errors
    /// `Invalid` where the project is in no git repository or on no branch, `Conflict` where the branch is of another task,
    /// `Failed` with git's own words.
    pub(crate) fn open(project: &Path, state: &Path, task: TaskId, added_ms: i64) -> Result<Workspace> {
        let top = git(project, &["rev-parse", "--show-toplevel"]).map_err(|_| no_repository(project))?;
        let (root, branch) = (place(state, task), branch(task));
        make_folder(&root)?;
        let _turn = turn(&root)?;
        if let Ok(added) = git(project, &["config", &key(&branch, ADDED)])
            && added != added_ms.to_string()
        {
            return Err(of_another(&branch, &root));
        }
        if let Some(found) = Workspace::find(project, state, task) {
            return Ok(found);
        }
        // A worktree whose folder somebody removed would keep its branch from being checked out again.
        git(project, &["worktree", "prune"])?;
        let path = root.display().to_string();
        if git(project, &["rev-parse", "--verify", "--quiet", &format!("refs/heads/{branch}")]).is_ok() {
            git(project, &["worktree", "add", &path, &branch])?;
        } else {
            let base = git(project, &["symbolic-ref", "--short", "HEAD"]).map_err(|_| {
                Error::invalid("the project is on no branch that a task's work could go back to")
                    .hint("git switch BRANCH")
            })?;
            git(project, &["worktree", "add", "-b", &branch, &path, &base])?;
            git(project, &["config", &key(&branch, BASE), &base])?;
            git(project, &["config", &key(&branch, ADDED), &added_ms.to_string()])?;
        }
        Workspace::at(project, &top, root, branch)
    }

    /// Finds a task's worktree.
    pub(crate) fn find(project: &Path, state: &Path, task: TaskId) -> Option<Workspace> {
        let root = place(state, task);
        if !root.join(".git").exists() {
            return None;
        }
        let top = git(project, &["rev-parse", "--show-toplevel"]).ok()?;
        Workspace::at(project, &top, root, branch(task)).ok()
    }

    /// Describes the worktree at `root`, of a project in the repository at `top`.
    fn at(project: &Path, top: &str, root: PathBuf, branch: String) -> Result<Workspace> {
        let base = git(project, &["config", &key(&branch, BASE)])?;
        let dir = root.join(inner(project, Path::new(top)));
        Ok(Workspace { root, dir, project: project.to_owned(), branch, base })
    }

    /// Returns the folder to work in.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Commits whatever an attempt left, so that nothing is lost.
    ///
    /// # Errors
    /// `Failed` with git's own words.
    pub(crate) fn keep(&self, words: &str, agent: &str) -> Result<()> {
        // A merge that the agent began and did not end is no state to go on from; what it resolved is kept all the same.
        git(&self.root, &["add", "--all"])?;
        if git(&self.root, &["status", "--porcelain"])?.is_empty() && !self.is_merging() {
            return Ok(());
        }
        commit(&self.root, agent, &["commit", "--no-verify", "--allow-empty", "--quiet", "-m", words])?;
        Ok(())
    }

    /// Merges the task's work into the branch it came from, after all that was merged before.
    ///
    /// # Errors
    /// `Failed` with git's own words.
    pub(crate) fn merge(&self, agent: &str) -> Result<Merged> {
        let _turn = turn(&self.root)?;
        let words = format!("Merge {} into {}", self.base, self.branch);
        if let Err(error) =
            commit(&self.root, agent, &["merge", "--no-verify", "--no-edit", "-m", &words, &self.base])
        {
            return self.give_up_merge(error);
        }
        if let Err(error) = self.forward() {
            return Ok(Merged::Blocked(format!(
                "done on branch {}, but {} cannot move on to it: {}; commit or stash what stands in the way, then `quorate \
                 task retry`",
                self.branch, self.base, error.message
            )));
        }
        self.clear_away();
        Ok(Merged::Done)
    }

    /// Leaves the branch as it was before a merge that met a conflict.
    fn give_up_merge(&self, error: Error) -> Result<Merged> {
        let files = git(&self.root, &["diff", "--name-only", "--diff-filter=U"])?;
        if files.is_empty() {
            return Err(error);
        }
        git(&self.root, &["merge", "--abort"])?;
        let named: Vec<&str> = files.lines().take(CONFLICTS_MAX).collect();
        Ok(Merged::Conflict(format!(
            "the work is done on branch {}, but it conflicts with {} in {}: run `git merge {}` here, resolve the conflicts, \
             commit, and finish again",
            self.branch,
            self.base,
            named.join(", "),
            self.base
        )))
    }

    /// Moves the branch it came from forward, in whichever folder that is checked out.
    fn forward(&self) -> Result<()> {
        match self.checked_out()? {
            Some(folder) => git(&folder, &["merge", "--ff-only", "--no-verify", "--quiet", &self.branch]),
            None => git(&self.project, &["fetch", "--quiet", ".", &format!("{}:{}", self.branch, self.base)]),
        }
        .map(drop)
    }

    /// Returns the folder in which the branch it came from is checked out.
    fn checked_out(&self) -> Result<Option<PathBuf>> {
        let list = git(&self.project, &["worktree", "list", "--porcelain"])?;
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
        let _ = git(&self.project, &["worktree", "remove", &self.root.display().to_string()]);
        let _ = git(&self.project, &["branch", "-d", &self.branch]);
    }

    fn is_merging(&self) -> bool {
        git(&self.root, &["rev-parse", "--verify", "--quiet", "MERGE_HEAD"]).is_ok()
    }
}

/// Waits until nobody else makes or merges a worktree of this project: git gives up where two of it meet.
fn turn(root: &Path) -> Result<File> {
    let file = root.with_file_name("lock");
    let locked = OpenOptions::new().create(true).write(true).truncate(false).open(&file).and_then(|opened| {
        opened.lock()?;
        Ok(opened)
    });
    locked.map_err(|e| Error::failed(format!("cannot lock {}: {e}", file.display())))
}

/// Tells whether a project is in a git repository.
pub fn is_repository(project: &Path) -> bool {
    git(project, &["rev-parse", "--git-dir"]).is_ok()
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

/// The project's folder within its repository.
fn inner(project: &Path, top: &Path) -> PathBuf {
    let (project, top) = (project.canonicalize().unwrap_or_else(|_| project.to_owned()), top.canonicalize());
    let top = top.unwrap_or_default();
    project.strip_prefix(&top).map(PathBuf::from).unwrap_or_default()
}

fn make_folder(root: &Path) -> Result<()> {
    let folder = root.parent().unwrap_or(root);
    std::fs::create_dir_all(folder)
        .map_err(|e| Error::failed(format!("cannot make {}: {e}", folder.display())))
}

/// Runs git as whoever made the change, without hooks: they are a person's, for a person's commits.
fn commit(folder: &Path, agent: &str, words: &[&str]) -> Result<String> {
    let who = [format!("user.name={agent}"), format!("user.email={COMMIT_EMAIL}")];
    let mut all = vec!["-c", &who[0], "-c", &who[1], "-c", "commit.gpgSign=false"];
    all.extend(words);
    git(folder, &all)
}

fn git(folder: &Path, words: &[&str]) -> Result<String> {
    let mut command = Command::new("git");
    command.arg("-C").arg(folder).args(["-c", "core.hooksPath=/dev/null"]).args(words).stdin(Stdio::null());
    command.env("LC_ALL", "C").env("GIT_TERMINAL_PROMPT", "0").env("GIT_EDITOR", "true");
    for inherited in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"] {
        command.env_remove(inherited);
    }
    let output = command.output().map_err(|e| Error::failed(format!("cannot run git: {e}")))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned());
    }
    let both = [output.stderr, output.stdout].concat();
    let told = String::from_utf8_lossy(&both).split_whitespace().collect::<Vec<_>>().join(" ");
    let told: String = told.chars().take(WORDS_MAX).collect();
    Err(Error::failed(format!("git {}: {told}", words.first().unwrap_or(&""))))
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
            commit(project.path(), "ann", &["commit", "--quiet", "-m", "begin"]).unwrap();
            project
        }

        fn path(&self) -> &Path {
            self.folder.path()
        }

        fn git(&self, words: &[&str]) -> String {
            git(self.path(), words).unwrap()
        }

        fn write(&self, file: &str, text: &str) {
            std::fs::write(self.path().join(file), text).unwrap();
        }

        fn read(&self, file: &str) -> String {
            std::fs::read_to_string(self.path().join(file)).unwrap_or_default()
        }

        fn open(&self, task: i64) -> Workspace {
            Workspace::open(self.path(), &self.path().join(".quorate"), TaskId(task), 7).unwrap()
        }
    }

    fn write(workspace: &Workspace, file: &str, text: &str) {
        std::fs::write(workspace.dir().join(file), text).unwrap();
    }

    #[test]
    fn what_succeeded_is_merged_in_order_and_its_worktree_is_gone() {
        let project = Project::new();
        let (first, second) = (project.open(1), project.open(2));
        write(&first, "a.txt", "a\n");
        write(&second, "b.txt", "b\n");
        assert_eq!(project.read("a.txt"), "", "nothing is seen before it is merged");
        for workspace in [&second, &first] {
            workspace.keep("work", "ada").unwrap();
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
        first.keep("work", "ada").unwrap();
        second.keep("work", "bob").unwrap();
        assert_eq!(first.merge("ada").unwrap(), Merged::Done);
        let Merged::Conflict(why) = second.merge("bob").unwrap() else { panic!("it conflicts") };
        assert!(why.contains("conflicts with main in shared.txt") && why.contains("git merge main"), "{why}");
        assert_eq!(project.read("shared.txt"), "one\nTWO\nthree\n", "the project is as it was");
        let again = project.open(2);
        assert_eq!(std::fs::read_to_string(again.dir().join("shared.txt")).unwrap(), "one\nzwei\nthree\n");
        let refused = commit(again.dir(), "bob", &["merge", "main"]).unwrap_err();
        assert!(refused.message.contains("Merge conflict in shared.txt"), "{refused}");
        write(&again, "shared.txt", "one\nTWO zwei\nthree\n");
        again.keep("resolved", "bob").unwrap();
        assert_eq!(again.merge("bob").unwrap(), Merged::Done);
        assert_eq!(project.read("shared.txt"), "one\nTWO zwei\nthree\n");
    }

    #[test]
    fn what_a_failed_attempt_left_is_kept_on_its_branch() {
        let project = Project::new();
        let workspace = project.open(3);
        write(&workspace, "half.txt", "half\n");
        workspace.keep("unfinished", "ada").unwrap();
        workspace.keep("unfinished", "ada").unwrap();
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
        workspace.keep("work", "ada").unwrap();
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
        workspace.keep("work", "ada").unwrap();
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
        commit(project.path(), "ann", &["commit", "--quiet", "-m", "part"]).unwrap();
        let part = project.path().join("part");
        let workspace = Workspace::open(&part, &part.join(".quorate"), TaskId(1), 7).unwrap();
        assert!(workspace.dir().ends_with("1/part") && workspace.dir().join("p.txt").exists());
    }

    #[test]
    fn a_branch_of_a_task_of_another_ledger_is_not_gone_on_from() {
        let project = Project::new();
        let state = project.path().join(".quorate");
        project.open(1);
        let error = Workspace::open(project.path(), &state, TaskId(1), 8).unwrap_err();
        assert!(error.message.contains("another ledger") && error.hint.unwrap().contains("git branch -m"));
    }

    #[test]
    fn a_folder_without_a_repository_or_a_branch_is_refused_with_what_mends_it() {
        let bare = tempfile::tempdir().unwrap();
        let error = Workspace::open(bare.path(), &bare.path().join(".quorate"), TaskId(1), 7).unwrap_err();
        assert!(error.message.contains("no git repository") && error.hint.unwrap().contains("git init"));
        let project = Project::new();
        project.git(&["checkout", "--quiet", "--detach"]);
        let error =
            Workspace::open(project.path(), &project.path().join(".quorate"), TaskId(1), 7).unwrap_err();
        assert!(error.message.contains("no branch") && error.hint.unwrap().contains("git switch"));
    }
}

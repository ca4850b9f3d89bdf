//! Putting away the worktrees of tasks that are over.
//!
//! Here lives one look at them, a few at a time. A worktree costs as much disk as the project and all that was built in it,
//! so it goes once its task has completed, failed for good or was called off; the branch keeps the work, and another attempt
//! goes on from that. How one is put away, and when it stays, lives in `workspace`.

use crate::attempt::with_git;
use crate::git::Git;
use crate::stop::{Level, Stop};
use crate::workspace::{self, Of, Workspace};
use quorate_model::{Kind, Result, TaskId};
use quorate_service::node::Orphans;
use quorate_service::task::Task;
use quorate_service::view::Story;
use quorate_store::Store;
use std::collections::BTreeSet;
use std::path::PathBuf;

/// Worktrees that one look asks for at most.
const LOOKS_MAX: usize = 20;

/// Looks at the worktrees of one project, some each time.
#[derive(Debug)]
pub(crate) struct Worktrees {
    pub(crate) git: Git,
    pub(crate) project: PathBuf,
    pub(crate) state: PathBuf,
    pub(crate) host: String,
    /// The task that was looked at last.
    after: TaskId,
    /// Tasks of which it was told that their worktrees cannot be put away.
    told: BTreeSet<TaskId>,
}

impl Worktrees {
    pub(crate) fn new(git: Git, project: PathBuf, state: PathBuf, host: String) -> Worktrees {
        Worktrees { git, project, state, host, after: TaskId(0), told: BTreeSet::new() }
    }

    /// Puts away what belongs to tasks that are over; answers with what could not be, once for each.
    ///
    /// # Errors
    /// `Unavailable` when the ledger cannot be read.
    pub(crate) async fn look(&mut self, store: &Store, stop: &Stop) -> Result<Vec<String>> {
        let (over, mut troubles) = (self.over(store).await?, Vec::new());
        if over.is_empty() {
            return Ok(troubles);
        }
        // A child that is not known to be gone may still write there.
        let left = store.read(Orphans { host: self.host.clone() }).await?;
        let left: BTreeSet<TaskId> = left.into_iter().map(|orphan| orphan.task).collect();
        for task in over.into_iter().filter(|task| !left.contains(&task.id)) {
            if stop.level() != Level::Go {
                break;
            }
            let Err(error) = self.put_away(&task, stop).await else { continue };
            if !self.git.is_halted() && self.told.insert(task.id) {
                troubles.push(format!("the worktree of task {} stays for now: {error}", task.named()));
            }
        }
        Ok(troubles)
    }

    /// Returns the next few tasks that are over and have a worktree.
    async fn over(&mut self, store: &Store) -> Result<Vec<Task>> {
        let mut over = Vec::new();
        for id in self.next() {
            match store.read(Story { id }).await {
                Ok(story) if story.task.state.is_over() => over.push(story.task),
                Ok(_) => {}
                // Pruned, or of another ledger: nothing here tells which.
                Err(error) if error.kind == Kind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(over)
    }

    async fn put_away(&self, task: &Task, stop: &Stop) -> Result<bool> {
        let (git, project, state) = (self.git.clone(), self.project.clone(), self.state.clone());
        let of = Of { task: task.id, attempt: task.attempt, added_ms: task.created_at };
        with_git(&self.git, stop, move || Workspace::put_away(&git, &project, &state, of)).await
    }

    /// Returns the next few tasks that have a worktree, from the first again behind the last.
    fn next(&mut self) -> Vec<TaskId> {
        let all = workspace::all(&self.state);
        let behind = |id: &TaskId| *id > self.after;
        let from = if all.iter().any(behind) { self.after } else { TaskId(0) };
        let part: Vec<TaskId> = all.into_iter().filter(|id| *id > from).take(LOOKS_MAX).collect();
        self.after = part.last().copied().unwrap_or(TaskId(0));
        part
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stop::Stopper;
    use quorate_service::node::Gone;
    use quorate_service::task::{Cancel, Fail, Retry, Started};
    use quorate_testkit::ledger::TestLedger;
    use quorate_testkit::on_every_backend;
    use quorate_testkit::verbs::{command, failure};

    struct Project {
        folder: tempfile::TempDir,
        worktrees: Worktrees,
    }

    impl Project {
        fn new() -> Project {
            let folder = tempfile::tempdir().expect("a temporary folder");
            let (project, state) = (folder.path().to_owned(), folder.path().join(".quorate"));
            let git = |words: &[&str]| Git::default().run_as("ann", &project, words).expect("git runs");
            git(&["init", "--quiet", "--initial-branch=main"]);
            std::fs::write(project.join(".gitignore"), ".quorate/\nbuilt/\n").expect("written");
            git(&["add", "--all"]);
            git(&["commit", "--quiet", "-m", "begin"]);
            let worktrees = Worktrees::new(Git::default(), project, state, "here".into());
            Project { folder, worktrees }
        }

        fn open(&self, task: &Task) -> Workspace {
            let of = Of { task: task.id, attempt: task.attempt, added_ms: task.created_at };
            let Worktrees { git, project, state, .. } = &self.worktrees;
            Workspace::open(git, project, state, of).expect("opened")
        }

        /// Opens a task's worktree and works a little in it.
        fn work(&self, task: &Task) -> Workspace {
            let workspace = self.open(task);
            std::fs::create_dir(workspace.dir().join("built")).expect("made");
            std::fs::write(workspace.dir().join("built/much"), "much\n").expect("written");
            std::fs::write(workspace.dir().join("half.txt"), "half\n").expect("written");
            workspace
        }

        async fn look(&mut self, ledger: &TestLedger) -> Result<()> {
            let (_stopper, stop) = Stopper::new();
            let troubles = self.worktrees.look(&ledger.store, &stop).await?;
            assert!(troubles.is_empty(), "{troubles:?}");
            Ok(())
        }

        /// What is left of worktrees.
        fn left(&self) -> Vec<String> {
            let folder = self.folder.path().join(".quorate/worktrees");
            let names = std::fs::read_dir(folder).expect("readable").flatten();
            let names = names.map(|entry| entry.file_name().to_string_lossy().into_owned());
            names.filter(|name| name != "lock").collect()
        }

        fn git(&self, words: &[&str]) -> String {
            Git::default().run(self.folder.path(), words).expect("git runs")
        }
    }

    async fn a_failed_task_leaves_its_branch_and_no_folder_and_a_retry_goes_on_from_it(
        ledger: TestLedger,
    ) -> Result<()> {
        let mut project = Project::new();
        let id = ledger.add(command("a")).await?;
        let taken = ledger.must_take("ada").await?;
        let workspace = project.work(&taken.task);
        project.look(&ledger).await?;
        assert!(workspace.dir().exists(), "it is worked at");
        ledger.store.write(Fail { is_final: true, ..failure(&taken, "boom") }).await?;
        project.look(&ledger).await?;
        assert!(workspace.dir().exists(), "its attempt still brings it home");
        drop(workspace);
        project.look(&ledger).await?;
        assert_eq!(project.left(), Vec::<String>::new());
        let branch = format!("quorate/task-{id}");
        assert_eq!(project.git(&["show", &format!("{branch}:half.txt")]), "half");
        assert_eq!(project.git(&["worktree", "list"]).lines().count(), 1);
        ledger.store.write(Retry { id }).await?;
        let again = project.open(&ledger.must_take("ada").await?.task);
        assert!(again.dir().join("half.txt").exists() && !again.dir().join("built").exists());
        Ok(())
    }

    async fn a_worktree_stays_while_its_child_may_live_and_where_it_may_be_of_another_ledger(
        ledger: TestLedger,
    ) -> Result<()> {
        let mut project = Project::new();
        ledger.add(command("a")).await?;
        let task = ledger.must_take("ada").await?.task;
        let (id, attempt, term) = (task.id, task.attempt, task.term);
        drop(project.work(&task));
        let mut unknown = task.clone();
        unknown.id = TaskId(id.0 + 7);
        drop(project.work(&unknown));
        let started = Started {
            id,
            attempt,
            host: "here".into(),
            pid: 7,
            pid_started: "then".into(),
            log: String::new(),
        };
        ledger.store.write(started).await?;
        ledger.store.write(Cancel { id, reason: "a test".into() }).await?;
        project.look(&ledger).await?;
        assert!(project.left().contains(&id.to_string()), "nobody has said that its child is gone");
        ledger.store.write(Gone { task: id, attempt, term }).await?;
        ledger.add(command("b")).await?;
        let mut other = ledger.must_take("ada").await?.task;
        other.created_at -= 1;
        drop(project.work(&other));
        ledger.store.write(Cancel { id: other.id, reason: "a test".into() }).await?;
        ledger.store.write(Gone { task: other.id, attempt: other.attempt, term: other.term }).await?;
        project.look(&ledger).await?;
        let left = project.left();
        assert!(!left.contains(&id.to_string()), "{left:?}");
        assert!(left.contains(&(id.0 + 7).to_string()), "of a task that this ledger does not know: {left:?}");
        assert!(left.contains(&other.id.to_string()), "of a task that was added at another time: {left:?}");
        Ok(())
    }

    on_every_backend!(
        a_failed_task_leaves_its_branch_and_no_folder_and_a_retry_goes_on_from_it,
        a_worktree_stays_while_its_child_may_live_and_where_it_may_be_of_another_ledger,
    );

    #[test]
    fn each_look_goes_on_behind_the_last() {
        let mut project = Project::new();
        for task in 1..=(LOOKS_MAX + 2) {
            let folder = project.folder.path().join(format!(".quorate/worktrees/{task}"));
            std::fs::create_dir_all(folder).expect("made");
        }
        let first = project.worktrees.next();
        assert_eq!((first.len(), first[0]), (LOOKS_MAX, TaskId(1)));
        assert_eq!(project.worktrees.next().len(), 2);
        assert_eq!(project.worktrees.next(), first);
    }
}

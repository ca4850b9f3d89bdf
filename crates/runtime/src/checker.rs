//! Running the checks: "done" is proven by the supervisor, not said by the agent.
//!
//! Here lives the loop that takes over tasks that are said to be done, runs their `verify`, and settles them. What passed in a
//! worktree is merged; where others' work came in with that, it is checked again before it goes back. When a check that could
//! not be ended is begun again lives in `rests`.

use crate::attempt::{NODE_STOPS, with_git};
use crate::node::Shared;
use crate::renewer::{Hold, Lost};
use crate::rests::{ROUNDS_MAX, Rests};
use crate::result_file::{self, ResultFile};
use crate::stop::{Level, Stop};
use crate::workspace::{Merged, Of, Workspace};
use crate::{consolidator, planner};
use quorate_drivers::{Assignment, How, Worker, report_check};
use quorate_model::config::millis;
use quorate_model::goal::PlanCheck;
use quorate_model::memory::consolidation::Consolidation;
use quorate_model::{Kind, Result, TaskState};
use quorate_process::{Command, ExitKind, Limits, supervise};
use quorate_service::goal::Adopt;
use quorate_service::memory::{self, Merge};
use quorate_service::node::Gone;
use quorate_service::run;
use quorate_service::task::{NewTask, Release, SettleCheck, TakeCheck, Task};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// How the checker names itself to people.
const CHECKER: &str = "checks";
/// Without a hint of a change, the checker looks this often.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// How often in one go a check is run because others' work was merged meanwhile.
const CHECKS_MAX: usize = 3;
/// Checks that rest in one checker; with more it takes no other.
const RESTING_MAX: usize = 100;

/// A task whose check is this node's. Without a hold it may have been lost before it was begun.
struct Held {
    task: Task,
    hold: Option<Hold>,
}

/// Runs checks until told to stop.
pub(crate) async fn serve(shared: Arc<Shared>, rests: Arc<Rests>, mut stop: Stop) {
    let mut changes = shared.store.changes();
    let mut resting = JoinSet::new();
    while stop.level() == Level::Go {
        if let Some(rested) = resting.try_join_next() {
            tell_check(&shared, &rests, &stop, rested).await;
            continue;
        }
        let taken = match resting.len() < RESTING_MAX {
            true => take(&shared, &stop).await,
            false => None,
        };
        if let Some(held) = taken {
            if let Some(pause) = rests.left(&held.task) {
                resting.spawn(rest(held, pause, stop.clone()));
            } else {
                tell_check(&shared, &rests, &stop, Ok(held)).await;
            }
            continue;
        }
        let rested = tokio::select! {
            () = changes.wait(LOOK_EVERY) => None,
            () = stop.reached(Level::Finish) => None,
            Some(rested) = resting.join_next() => Some(rested),
        };
        if let Some(rested) = rested {
            tell_check(&shared, &rests, &stop, rested).await;
        }
    }
    while let Some(rested) = resting.join_next().await {
        tell_check(&shared, &rests, &stop, rested).await;
    }
}

/// Takes a check that waits for a node.
async fn take(shared: &Shared, stop: &Stop) -> Option<Held> {
    let take = TakeCheck {
        task: None,
        run: shared.run,
        node: shared.node.clone(),
        lease_ms: shared.config.health.lease_ms,
    };
    let asked = Instant::now();
    let task = stop.in_time(shared.store.write(take)).await.ok().flatten()?;
    // Held until the word is in the ledger: a merge may have to wait for others.
    let hold = shared.hold(stop, task.id, task.term, asked).await;
    Some(Held { task, hold })
}

/// Keeps a check that cannot be ended yet from being begun at once, and others from taking it meanwhile: they go on with others.
async fn rest(held: Held, pause: Duration, mut stop: Stop) -> Held {
    tokio::select! {
        () = tokio::time::sleep(pause) => {}
        () = stop.reached(Level::Finish) => {}
    }
    held
}

/// Checks; what cannot be told to the ledger is told to whoever watches. A rest that broke off leaves its check to its lease.
async fn tell_check(shared: &Shared, rests: &Rests, stop: &Stop, held: Result<Held, tokio::task::JoinError>) {
    let Ok(held) = held else { return };
    if let Err(error) = check(shared, rests, stop, &held).await {
        shared.say(format!("check of task {}: {error}", held.task.named()));
    }
}

async fn check(shared: &Shared, rests: &Rests, stop: &Stop, Held { task, hold }: &Held) -> Result<()> {
    let outcome = match hold {
        Some(hold) if stop.level() == Level::Go => match lost(hold) {
            Some(outcome) => outcome,
            None => run_check(shared, stop, task, hold, rests.passed(task)).await,
        },
        Some(_) => Outcome::GivenBack(NODE_STOPS.into()),
        None => Outcome::Lost,
    };
    // A node that stops has no time for it; another begins it anew.
    let outcome = match outcome {
        Outcome::NotNow { reason, .. } if stop.level() != Level::Go => Outcome::GivenBack(reason),
        Outcome::NotNow { reason, passed } if rests.again(task, passed.as_deref()) => {
            Outcome::GivenBack(reason)
        }
        Outcome::NotNow { reason, .. } => Outcome::never(&reason),
        other => other,
    };
    if !matches!(outcome, Outcome::GivenBack(_)) {
        rests.forget(task.id);
    }
    settle(shared, stop, task, outcome).await
}

async fn settle(shared: &Shared, stop: &Stop, task: &Task, outcome: Outcome) -> Result<()> {
    let (failure, tail, follows) = match outcome {
        Outcome::Ended { failure, tail } => (failure, tail, None),
        Outcome::Passed(follows) => (None, None, Some(follows)),
        Outcome::GivenBack(reason) | Outcome::NotNow { reason, .. } => {
            let release = Release { id: task.id, term: task.term, reason };
            return shared.insist(CHECKER, stop, &release).await;
        }
        Outcome::Lost => {
            let gone = Gone { task: task.id, attempt: task.attempt, term: task.term };
            return shared.insist(CHECKER, stop, &gone).await;
        }
    };
    let settle = SettleCheck {
        id: task.id,
        term: task.term,
        is_final: failure.as_ref().is_some_and(|failure| failure.is_final),
        failure: failure.map(|failure| failure.why),
        tail,
        retry_after_ms: shared.config.health.retry_after_ms,
    };
    let state = match follows {
        Some(Follows::Plan { tasks, parks }) => {
            shared.insist(CHECKER, stop, &Adopt { settle, tasks, parks }).await?
        }
        Some(Follows::Merge(merge)) => shared.insist(CHECKER, stop, &memory::Adopt { settle, merge }).await?,
        None => shared.insist(CHECKER, stop, &settle).await?,
    };
    if let (TaskState::Completed | TaskState::Failed, Some(id)) = (state, task.run_id) {
        stop.in_time(shared.store.write(run::Settle { id })).await?;
    }
    Ok(())
}

pub(crate) enum Outcome {
    Ended {
        failure: Option<CheckFailure>,
        tail: Option<String>,
    },
    /// It passed, and something follows from it.
    Passed(Follows),
    /// Not ended, and still ours: another is to run it.
    GivenBack(String),
    /// It cannot be ended now, whoever runs it: again after a while.
    NotNow {
        reason: String,
        /// The commit at which the command passed, if it did: there it need not run again.
        passed: Option<String>,
    },
    Lost,
}

/// Why a check did not pass.
pub(crate) struct CheckFailure {
    pub(crate) why: String,
    /// Another attempt could not mend it.
    pub(crate) is_final: bool,
}

impl Outcome {
    /// It did not pass; another attempt may.
    pub(crate) fn failed(why: String, tail: Option<String>) -> Outcome {
        Outcome::Ended { failure: Some(CheckFailure { why, is_final: false }), tail }
    }

    /// It was begun so often that it is not to be expected to end.
    fn never(reason: &str) -> Outcome {
        let why = format!("its check could not be ended {ROUNDS_MAX} times in a row: {reason}");
        Outcome::Ended { failure: Some(CheckFailure { why, is_final: true }), tail: None }
    }

    /// Says of one that failed that the same work passed before.
    fn since_the_merge(self, base: &str) -> Outcome {
        match self {
            Outcome::Ended { failure: Some(CheckFailure { why, is_final }), tail } => {
                let why = format!("it passed before {base} was merged into it, and fails with that: {why}");
                Outcome::Ended { failure: Some(CheckFailure { why, is_final }), tail }
            }
            other => other,
        }
    }
}

/// What another may have by now: the outcome of a check whose hold is lost.
fn lost(hold: &Hold) -> Option<Outcome> {
    match hold.lost()? {
        Lost::TakenAway => Some(Outcome::Lost),
        why @ (Lost::Unreachable | Lost::Asleep) => Some(Outcome::GivenBack(why.reason().into())),
    }
}

/// What follows from a check that has passed, in the same transaction.
pub(crate) enum Follows {
    /// A plan that can be used: these tasks follow, and wait for a person's word or not.
    Plan { tasks: Vec<NewTask>, parks: bool },
    /// Memories that are to be one.
    Merge(Merge),
}

async fn run_check(
    shared: &Shared,
    stop: &Stop,
    task: &Task,
    hold: &Hold,
    passed: Option<String>,
) -> Outcome {
    let Some(verify) = &task.verify else { return Outcome::Ended { failure: None, tail: None } };
    if let Some(check) = PlanCheck::of(verify) {
        return planner::read(shared, stop, task, check).await;
    }
    if let Some(asked) = Consolidation::of(verify) {
        return consolidator::read(shared, stop, task, asked).await;
    }
    let mut assignment = assignment(shared, task);
    let (result, file) = match result(shared, task, &assignment).await {
        Ok(given) => given,
        Err(error) => return Outcome::failed(error.message, None),
    };
    let worker = Worker {
        how: How::Shell,
        env: result_file::variables(result, file.as_ref()),
        limits: Limits::default(),
        grace: millis(shared.config.health.grace_ms),
    };
    let workspace = match workspace(shared, stop, task).await {
        Ok(workspace) => workspace,
        Err(outcome) => return outcome,
    };
    if let Some(workspace) = &workspace {
        assignment.dir = workspace.dir().to_owned();
        assignment.is_own_worktree = true;
    }
    let check = Check { shared, stop, task, hold };
    let command = || worker.check(verify, &assignment);
    let ended = match &workspace {
        Some(workspace) => check.run_and_merge(command, workspace, passed).await,
        None => check.run(command()).await.map(|tail| Outcome::Ended { failure: None, tail }),
    };
    ended.unwrap_or_else(|outcome| outcome)
}

/// A check under way.
struct Check<'a> {
    shared: &'a Shared,
    stop: &'a Stop,
    task: &'a Task,
    hold: &'a Hold,
}

impl Check<'_> {
    /// Runs the command once; answers with the end of its output if it passed, else with what comes of the check.
    async fn run(&self, command: Command) -> Result<Option<String>, Outcome> {
        let child = command.spawn().await.map_err(|error| Outcome::failed(error.message, None))?;
        let control = child.control();
        self.hold.attach(control.clone());
        let (sender, _messages) = mpsc::channel(1);
        let (mut ended, mut stops) = (std::pin::pin!(supervise(child, sender)), self.stop.clone());
        let exit = tokio::select! {
            exit = &mut ended => exit,
            () = stops.reached(Level::Now) => {
                control.stop(NODE_STOPS);
                ended.await;
                return Err(Outcome::GivenBack(NODE_STOPS.into()));
            }
        };
        // One that ended by itself has its verdict, whoever was away meanwhile; the ledger decides by the term.
        if let (ExitKind::Stopped(_), Some(outcome)) = (&exit.kind, lost(self.hold)) {
            return Err(outcome);
        }
        let tail = Some(exit.tail.clone()).filter(|tail| !tail.is_empty());
        match report_check(&exit) {
            Some(why) => Err(Outcome::failed(why, tail)),
            None => Ok(tail),
        }
    }

    /// Runs the command in the worktree and merges what passed. Where others' work comes in with that, what would go back is
    /// something that nobody has checked: it is checked again, the whole time of a check for each. `passed` is the commit at
    /// which the command need not run.
    async fn run_and_merge(
        &self,
        command: impl Fn() -> Command,
        workspace: &Workspace,
        mut passed: Option<String>,
    ) -> Result<Outcome, Outcome> {
        let mut tail = None;
        for _ in 0..CHECKS_MAX {
            if passed.is_none() || passed != Some(self.head(workspace).await?) {
                tail = match self.run(command()).await {
                    Ok(tail) => tail,
                    Err(outcome) if passed.is_some() => return Err(outcome.since_the_merge(workspace.base())),
                    Err(outcome) => return Err(outcome),
                };
                // Asked for afterwards: what the check itself has committed was there when it passed.
                passed = Some(self.head(workspace).await?);
            }
            let failed = |why, is_final| Some(CheckFailure { why, is_final });
            let failure = match self.merge(workspace, passed.clone()).await? {
                Merged::Moved => continue,
                Merged::NotNow(reason) => return Ok(Outcome::NotNow { reason, passed }),
                Merged::Done => None,
                Merged::Conflict(why) => failed(why, false),
                Merged::Blocked(why) => {
                    self.note_finished(workspace).await;
                    failed(why, true)
                }
            };
            return Ok(Outcome::Ended { failure, tail });
        }
        let reason = format!("{} moved on during each of {CHECKS_MAX} checks", workspace.base());
        Ok(Outcome::NotNow { reason, passed })
    }

    async fn head(&self, workspace: &Workspace) -> Result<String, Outcome> {
        let workspace = workspace.clone();
        self.with_git(move || workspace.head()).await
    }

    async fn merge(&self, workspace: &Workspace, passed: Option<String>) -> Result<Merged, Outcome> {
        // Another may be merging it by now.
        if let Some(outcome) = lost(self.hold) {
            return Err(outcome);
        }
        let agent = self.task.owner.clone().unwrap_or_else(|| CHECKER.to_owned());
        let workspace = workspace.clone();
        self.with_git(move || workspace.merge(&agent, passed.as_deref())).await
    }

    /// Notes for another attempt that there is nothing to do but to check and merge.
    async fn note_finished(&self, workspace: &Workspace) {
        let result = self.task.result.as_deref().and_then(|text| serde_json::from_str(text).ok());
        let workspace = workspace.clone();
        let _ = self.with_git(move || workspace.note_finished(result.as_ref())).await;
    }

    async fn with_git<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T, Outcome> {
        with_git(&self.shared.git, self.stop, work).await.map_err(|error| match self.shared.git.is_halted() {
            true => Outcome::GivenBack(NODE_STOPS.into()),
            false => Outcome::failed(format!("its work could not be merged: {error}"), None),
        })
    }
}

/// Puts the result into a file for the check. Where that cannot be done, a short one goes without.
async fn result<'a>(
    shared: &Shared,
    task: &'a Task,
    assignment: &Assignment,
) -> Result<(&'a str, Option<ResultFile>)> {
    let result = task.result.as_deref().unwrap_or_default();
    // With the term: who lost the check removes no file of who has it now.
    let name = format!("{}-{}.{}.result.json", task.id, task.attempt, task.term);
    match ResultFile::write(assignment.log.with_file_name(name), result.to_owned()).await {
        Ok(file) => Ok((result, Some(file))),
        Err(error) if result_file::fits(result) => {
            shared.say(format!("check of task {}: {error}", task.named()));
            Ok((result, None))
        }
        Err(error) => Err(error),
    }
}

/// Finds the worktree in which the attempt was made, if it was made in one; else what comes of the check.
async fn workspace(shared: &Shared, stop: &Stop, task: &Task) -> Result<Option<Workspace>, Outcome> {
    let (git, project, state) = (shared.git.clone(), shared.folder.clone(), shared.state.clone());
    let of = Of { task: task.id, attempt: task.attempt, added_ms: task.created_at };
    let found = with_git(&shared.git, stop, move || Workspace::find(&git, &project, &state, of)).await;
    found.map_err(|error| match error.kind {
        _ if shared.git.is_halted() => Outcome::GivenBack(NODE_STOPS.into()),
        Kind::Unavailable => Outcome::NotNow { reason: error.message, passed: None },
        _ => Outcome::failed(format!("the worktree of its work cannot be opened: {error}"), None),
    })
}

fn assignment(shared: &Shared, task: &Task) -> Assignment {
    let timeout = task.timeout_ms.unwrap_or(shared.config.health.timeout_ms);
    Assignment {
        task_id: task.id.0,
        term: task.term.0,
        agent: task.owner.clone().unwrap_or_default(),
        run_id: task.run_id.map(|id| id.0),
        attempt: task.attempt,
        run: task.verify.clone(),
        document: String::new(),
        timeout: millis(timeout),
        dir: shared.folder.clone(),
        is_own_worktree: false,
        store: shared.agents_url.full(),
        log: shared.log_file(task.id, task.attempt, ".verify"),
        state: shared.state.clone(),
        program: shared.program.clone(),
        // A check belongs to the supervisor, not to the agent: it speaks for nobody.
        door: None,
    }
}

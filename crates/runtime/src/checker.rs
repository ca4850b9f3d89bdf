//! Running the checks: "done" is proven by the supervisor, not said by the agent.
//!
//! Here lives the loop that takes over tasks that are said to be done, runs their `verify`, and settles them.

use crate::attempt::{NODE_STOPS, with_git};
use crate::node::Shared;
use crate::renewer::{Hold, Lost};
use crate::result_file::{self, ResultFile};
use crate::stop::{Level, Stop};
use crate::workspace::{Merged, Of, Workspace};
use crate::{consolidator, planner};
use quorate_drivers::{Assignment, How, Worker, report_check};
use quorate_model::config::millis;
use quorate_model::goal::PlanCheck;
use quorate_model::memory::consolidation::Consolidation;
use quorate_model::{Result, TaskState};
use quorate_process::{ExitKind, Limits, supervise};
use quorate_service::goal::Adopt;
use quorate_service::memory::{self, Merge};
use quorate_service::node::Gone;
use quorate_service::run;
use quorate_service::task::{NewTask, Release, SettleCheck, TakeCheck, Task};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// How the checker names itself to people.
const CHECKER: &str = "checks";
/// Without a hint of a change, the checker looks this often.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Runs checks until told to stop.
pub(crate) async fn serve(shared: Arc<Shared>, mut stop: Stop) {
    let mut changes = shared.store.changes();
    while stop.level() == Level::Go {
        let take = TakeCheck {
            task: None,
            run: shared.run,
            node: shared.node.clone(),
            lease_ms: shared.config.health.lease_ms,
        };
        let asked = Instant::now();
        match stop.in_time(shared.store.write(take)).await {
            Ok(Some(task)) => {
                if let Err(error) = check(&shared, &stop, &task, asked).await {
                    shared.say(format!("check of task {}: {error}", task.named()));
                }
            }
            Ok(None) | Err(_) => tokio::select! {
                () = changes.wait(LOOK_EVERY) => {}
                () = stop.reached(Level::Finish) => {}
            },
        }
    }
}

async fn check(shared: &Shared, stop: &Stop, task: &Task, asked: Instant) -> Result<()> {
    // Held until the word is in the ledger: a merge may have to wait for others.
    let hold = shared.hold(stop, task.id, task.term, asked).await;
    let outcome = match &hold {
        Some(hold) => run_check(shared, stop, task, hold).await,
        None => Outcome::Lost,
    };
    let (failure, tail, follows) = match outcome {
        Outcome::Ended { failure, tail } => (failure, tail, None),
        Outcome::Passed(follows) => (None, None, Some(follows)),
        Outcome::GivenBack(reason) => {
            let release = Release { id: task.id, term: task.term, reason: reason.into() };
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
    GivenBack(&'static str),
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
}

/// What follows from a check that has passed, in the same transaction.
pub(crate) enum Follows {
    /// A plan that can be used: these tasks follow, and wait for a person's word or not.
    Plan { tasks: Vec<NewTask>, parks: bool },
    /// Memories that are to be one.
    Merge(Merge),
}

async fn run_check(shared: &Shared, stop: &Stop, task: &Task, hold: &Hold) -> Outcome {
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
    let child = match worker.check(verify, &assignment).spawn().await {
        Ok(child) => child,
        Err(error) => return Outcome::failed(error.message, None),
    };
    let control = child.control();
    hold.attach(control.clone());
    let (sender, _messages) = mpsc::channel(1);
    let (mut ended, mut stops) = (std::pin::pin!(supervise(child, sender)), stop.clone());
    let exit = tokio::select! {
        exit = &mut ended => exit,
        () = stops.reached(Level::Now) => {
            control.stop(NODE_STOPS);
            ended.await;
            return Outcome::GivenBack(NODE_STOPS);
        }
    };
    // One that ended by itself has its verdict, whoever was away meanwhile; the ledger decides by the term.
    match hold.lost().filter(|_| matches!(exit.kind, ExitKind::Stopped(_))) {
        Some(Lost::TakenAway) => return Outcome::Lost,
        Some(why @ (Lost::Unreachable | Lost::Asleep)) => return Outcome::GivenBack(why.reason()),
        None => {}
    }
    let tail = Some(exit.tail.clone()).filter(|tail| !tail.is_empty());
    match (report_check(&exit), workspace) {
        (Some(why), _) => Outcome::failed(why, tail),
        (None, Some(workspace)) => merge(shared, stop, task, hold, (workspace, tail)).await,
        (None, None) => Outcome::Ended { failure: None, tail },
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
    found.map_err(|error| match shared.git.is_halted() {
        true => Outcome::GivenBack(NODE_STOPS),
        false => Outcome::failed(format!("the worktree of its work cannot be opened: {error}"), None),
    })
}

/// Merges what passed its check.
async fn merge(
    shared: &Shared,
    stop: &Stop,
    task: &Task,
    hold: &Hold,
    (workspace, tail): (Workspace, Option<String>),
) -> Outcome {
    match hold.lost() {
        Some(Lost::TakenAway) => return Outcome::Lost,
        // Another may be merging it by now.
        Some(why @ (Lost::Unreachable | Lost::Asleep)) => return Outcome::GivenBack(why.reason()),
        None => {}
    }
    let agent = task.owner.clone().unwrap_or_else(|| CHECKER.to_owned());
    let failed = |why, is_final| Some(CheckFailure { why, is_final });
    let failure = match with_git(&shared.git, stop, move || workspace.merge(&agent)).await {
        Ok(Merged::Done) => None,
        Ok(Merged::Conflict(why)) => failed(why, false),
        Ok(Merged::Blocked(why)) => failed(why, true),
        Err(_) if shared.git.is_halted() => return Outcome::GivenBack(NODE_STOPS),
        Err(error) => failed(format!("its work could not be merged: {error}"), false),
    };
    Outcome::Ended { failure, tail }
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

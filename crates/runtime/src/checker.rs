//! Running the checks: "done" is proven by the supervisor, not said by the agent.
//!
//! Here lives the loop that takes over tasks that are said to be done, runs their `verify`, and settles them.

use crate::attempt::beside;
use crate::node::Shared;
use crate::renewer::Lost;
use crate::stop::{Level, Stop};
use crate::workspace::{Merged, Workspace};
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
    let outcome = match shared.hold(stop, task.id, task.term, asked).await {
        Some(hold) => run_check(shared, stop, task, &hold).await,
        None => Outcome::Lost,
    };
    let (failure, tail, follows) = match outcome {
        Outcome::Ended { failure: None, tail } => (merge(shared, task).await, tail, None),
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
        failure,
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
        failure: Option<String>,
        tail: Option<String>,
    },
    /// It passed, and something follows from it.
    Passed(Follows),
    /// Not ended, and still ours: another is to run it.
    GivenBack(&'static str),
    Lost,
}

/// What follows from a check that has passed, in the same transaction.
pub(crate) enum Follows {
    /// A plan that can be used: these tasks follow, and wait for a person's word or not.
    Plan { tasks: Vec<NewTask>, parks: bool },
    /// Memories that are to be one.
    Merge(Merge),
}

async fn run_check(shared: &Shared, stop: &Stop, task: &Task, hold: &crate::renewer::Hold) -> Outcome {
    let Some(verify) = &task.verify else { return Outcome::Ended { failure: None, tail: None } };
    if let Some(check) = PlanCheck::of(verify) {
        return planner::read(shared, stop, task, check).await;
    }
    if let Some(asked) = Consolidation::of(verify) {
        return consolidator::read(shared, stop, task, asked).await;
    }
    let worker = Worker {
        how: How::Shell,
        env: vec![("QUORATE_RESULT".into(), task.result.clone().unwrap_or_default())],
        limits: Limits::default(),
        grace: millis(shared.config.health.grace_ms),
    };
    let mut assignment = assignment(shared, task);
    if let Some(workspace) = workspace(shared, task).await {
        assignment.dir = workspace.dir().to_owned();
        assignment.is_own_worktree = true;
    }
    let child = match worker.check(verify, &assignment).spawn().await {
        Ok(child) => child,
        Err(error) => return Outcome::Ended { failure: Some(error.message), tail: None },
    };
    let control = child.control();
    hold.attach(control.clone());
    let (sender, _messages) = mpsc::channel(1);
    let mut stop = stop.clone();
    let mut ended = std::pin::pin!(supervise(child, sender));
    let exit = tokio::select! {
        exit = &mut ended => exit,
        () = stop.reached(Level::Now) => {
            control.stop("its node stops");
            ended.await;
            return Outcome::GivenBack("its node stops");
        }
    };
    // One that ended by itself has its verdict, whoever was away meanwhile; the ledger decides by the term.
    match hold.lost().filter(|_| matches!(exit.kind, ExitKind::Stopped(_))) {
        Some(Lost::TakenAway) => return Outcome::Lost,
        Some(why @ (Lost::Unreachable | Lost::Asleep)) => return Outcome::GivenBack(why.reason()),
        None => {}
    }
    Outcome::Ended { failure: report_check(&exit), tail: Some(exit.tail).filter(|tail| !tail.is_empty()) }
}

/// Finds the worktree in which the task was done.
async fn workspace(shared: &Shared, task: &Task) -> Option<Workspace> {
    let (project, state, id) = (shared.folder.clone(), shared.state.clone(), task.id);
    beside(move || Ok(Workspace::find(&project, &state, id))).await.ok().flatten()
}

/// Merges what passed its check, if it was done in a worktree; answers with why it could not be merged.
async fn merge(shared: &Shared, task: &Task) -> Option<String> {
    let workspace = workspace(shared, task).await?;
    let agent = task.owner.clone().unwrap_or_else(|| CHECKER.to_owned());
    match beside(move || workspace.merge(&agent)).await {
        Ok(Merged::Done) => None,
        Ok(Merged::Conflict(why) | Merged::Blocked(why)) => Some(why),
        Err(error) => Some(format!("its work could not be merged: {error}")),
    }
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

//! Goals: what follows from a plan that an agent made, and what follows when it fails.
//!
//! Here live adding a plan's tasks together with the passing of its check, a person's word that lets them begin, and the
//! decision at the end of a run whether a new plan is asked for. What a planner is asked, and how its answer is read, lives
//! in `model::goal`. That a run has a planner is seen by its tasks: one of them has a plan as its check.

use crate::run::{self, Run, Start};
use crate::task::{self, NewTask, SettleCheck, Task, Work, columns};
use quorate_model::goal::{
    Outcome, PLAN_ATTEMPTS, PLAN_KEY, PlanCheck, REPLANS_MAX, REPORT_KEY, free_key, question_again,
};
use quorate_model::{Error, Event, EventKind, Kind, Result, RunId, TaskId, TaskState};
use quorate_store::{Boxed, Sql, Tx, Write, args};
use std::collections::HashSet;

/// Why a task waits whose plan a person has not approved.
pub const APPROVAL: &str = "approval: a person is to approve the plan";
/// Tasks whose outcome is read for a new plan.
const OUTCOMES_READ: i64 = 1_000;

/// Settles the check of a plan and, if it passed, adds the plan's tasks: both or neither.
#[derive(Debug, Clone)]
pub struct Adopt {
    /// The check's outcome.
    pub settle: SettleCheck,
    /// The plan's tasks; keys that the run has already get a number.
    pub tasks: Vec<NewTask>,
    /// Whether they wait for a person's word.
    pub parks: bool,
}

impl Write for Adopt {
    type Answer = TaskState;

    fn apply<'a>(&'a self, tx: &'a mut Tx) -> Boxed<'a, TaskState> {
        Box::pin(async move {
            let state = self.settle.apply(tx).await?;
            if state != TaskState::Completed || self.tasks.is_empty() {
                return Ok(state);
            }
            let plan = task::lock(tx, self.settle.id).await?;
            let tasks = renamed(tx, plan.run_id, &self.tasks).await?;
            let ids = task::add_tasks(tx, plan.run_id, &tasks, plan.owner.as_deref()).await?;
            if self.parks {
                park_first(tx, plan.run_id, &tasks, &ids);
            }
            Ok(state)
        })
    }
}

/// Gives keys that the run has already a number.
async fn renamed(tx: &mut Tx, run: Option<RunId>, tasks: &[NewTask]) -> Result<Vec<NewTask>> {
    let Some(run) = run else { return Ok(tasks.to_vec()) };
    let sql = "select key from tasks where run_id = $1 and key is not null";
    let mut taken: HashSet<String> =
        tx.all(sql, args![run], |row| row.text("key")).await?.into_iter().collect();
    let mut tasks = tasks.to_vec();
    for task in &mut tasks {
        task.key = task.key.take().map(|key| free_key(&key, |key| taken.contains(key)));
        taken.extend(task.key.clone());
    }
    Ok(tasks)
}

/// Parks the tasks that need no other of the plan; the rest waits for them.
fn park_first(tx: &mut Tx, run: Option<RunId>, tasks: &[NewTask], ids: &[TaskId]) {
    for (task, id) in tasks.iter().zip(ids).filter(|(task, _)| task.needs_new.is_empty()) {
        tx.later(
            "update tasks set state = 'parked', term = term + 1, reason = $2, parked_for = $2
              where id = $1 and state in ('ready', 'waiting')",
            args![*id, APPROVAL],
        );
        let name = task.key.as_ref().map_or_else(|| id.to_string(), |key| format!("{id} ({key})"));
        let parked = Event::new(EventKind::TaskParked, format!("task {name} parked: {APPROVAL}"));
        tx.record(parked.task(*id).run(run));
    }
}

/// Lets the tasks of a plan begin; answers with how many could not before.
#[derive(Debug, Clone)]
pub struct Approve {
    /// The run.
    pub id: RunId,
}

impl Write for Approve {
    type Answer = usize;

    fn apply<'a>(&'a self, tx: &'a mut Tx) -> Boxed<'a, usize> {
        Box::pin(async move {
            run::must_be_open(tx, self.id).await?;
            let sql = Sql::Each {
                lite: concat!(
                    "select ",
                    columns!(),
                    " from tasks where run_id = $1 and state = 'parked' and parked_for = $2 order by id"
                ),
                pg: concat!(
                    "select ",
                    columns!(),
                    " from tasks where run_id = $1 and state = 'parked' and parked_for = $2 order by id for update"
                ),
            };
            let parked = tx.all(sql, args![self.id, APPROVAL], Task::from_row).await?;
            if parked.is_empty() {
                return Err(Error::new(
                    Kind::Conflict,
                    format!("nothing of run {} waits to be approved", self.id),
                )
                .hint(format!("`quorate runs show {}` tells how far it is", self.id)));
            }
            parked.iter().for_each(|task| task::unpark(tx, task, "a person approved the plan"));
            Ok(parked.len())
        })
    }
}

/// Begins a run whose tasks are to do the work of a task that is there already; it waits for them, and ends with them.
#[derive(Debug)]
pub struct Decompose {
    /// The task.
    pub id: TaskId,
    /// The run; its source says which task it is for.
    pub run: Start,
}

impl Decompose {
    /// Makes the run of a task.
    pub fn new(task: &Task, tasks: Vec<NewTask>, detached: bool) -> Decompose {
        let source = Some(format!("{SOURCE}{}", task.id));
        Decompose { id: task.id, run: Start { goal: task.title.clone(), source, detached, tasks } }
    }
}

impl Write for Decompose {
    type Answer = RunId;

    fn apply<'a>(&'a self, tx: &'a mut Tx) -> Boxed<'a, RunId> {
        Box::pin(async move {
            let task = task::lock(tx, self.id).await?;
            if !matches!(task.state, TaskState::Waiting | TaskState::Ready | TaskState::Parked) {
                return Err(Error::new(
                    Kind::Conflict,
                    format!("task {} is {}: it cannot be decomposed any more", task.named(), task.state),
                )
                .hint(format!("quorate task show {} tells who has or had it", task.id)));
            }
            let (run, _) = self.run.apply(tx).await?;
            let reason = waits_for(run);
            tx.later(
                "update tasks set state = 'parked', term = term + 1, reason = $2, parked_for = $2, due_at = null where id = $1",
                args![task.id, &reason],
            );
            tx.record(task.event(EventKind::TaskParked, format!("task {} parked: {reason}", task.named())));
            Ok(run)
        })
    }
}

/// How the source of a run begins that does the work of a task.
const SOURCE: &str = "task:";

/// Why a task waits whose work a run does.
fn waits_for(run: RunId) -> String {
    format!("decomposed: run {run} does it")
}

/// Ends the task whose work a run did, unless somebody has let it go on meanwhile.
pub(crate) async fn end_decomposed(tx: &mut Tx, run: &Run, state: &str, reason: &str) -> Result<()> {
    let id =
        run.source.as_ref().and_then(|source| source.strip_prefix(SOURCE)).and_then(|id| id.parse().ok());
    let Some(id) = id.map(TaskId) else { return Ok(()) };
    let task = task::lock(tx, id).await?;
    if task.state != TaskState::Parked || task.reason.as_ref() != Some(&waits_for(run.id)) {
        return Ok(());
    }
    let by = plans_of(tx, run.id)
        .await?
        .pop()
        .and_then(|plan| plan.owner)
        .unwrap_or_else(|| format!("run-{}", run.id));
    match state {
        "completed" => {
            let report = report_of(tx, run.id).await?;
            task::end_for(tx, &task, &by, Ok(report)).await
        }
        "failed" => task::end_for(tx, &task, &by, Err(&format!("run {} failed: {reason}", run.id))).await,
        // Called off: the task is as it was.
        _ => {
            task::unpark(tx, &task, &format!("run {} was cancelled", run.id));
            Ok(())
        }
    }
}

/// The result of the task that put a run's results together.
async fn report_of(tx: &mut Tx, run: RunId) -> Result<Option<String>> {
    let sql = "select result from tasks where run_id = $1 and state = 'completed' and key like $2 order by id desc limit 1";
    Ok(tx.one(sql, args![run, format!("{REPORT_KEY}%")], |row| row.opt_text("result")).await?.flatten())
}

/// What follows when the tasks of a run have ended and not all are completed.
pub(crate) enum AfterFailure {
    /// So many of them count no more: a later plan took their place.
    Counts {
        /// Failed or cancelled before the last plan.
        replaced: i64,
    },
    /// A new plan was asked for: the run goes on.
    PlansAnew,
}

/// Decides it, and asks for a new plan where one may help.
pub(crate) async fn after_failure(tx: &mut Tx, run: &Run) -> Result<AfterFailure> {
    let plans = plans_of(tx, run.id).await?;
    let Some(last) = plans.last().filter(|last| last.state == TaskState::Completed) else {
        return Ok(AfterFailure::Counts { replaced: 0 });
    };
    let sql = "select coalesce(sum(case when id < $2 then 1 else 0 end), 0) as replaced,
                      coalesce(sum(case when id > $2 and state = 'failed' then 1 else 0 end), 0) as failed
                 from tasks where run_id = $1 and state in ('failed', 'cancelled')";
    let counts =
        tx.one(sql, args![run.id, last.id], |row| Ok((row.int("replaced")?, row.int("failed")?))).await?;
    let (replaced, failed) = counts.unwrap_or_default();
    if failed == 0 || plans.len() as i64 > REPLANS_MAX {
        return Ok(AfterFailure::Counts { replaced });
    }
    plan_anew(tx, run, &plans).await?;
    Ok(AfterFailure::PlansAnew)
}

/// The tasks of a run that made its plans, the oldest first.
async fn plans_of(tx: &mut Tx, run: RunId) -> Result<Vec<Task>> {
    let sql =
        concat!("select ", columns!(), " from tasks where run_id = $1 and verify in ($2, $3) order by id");
    let args = args![run, PlanCheck::Run.as_str(), PlanCheck::Approve.as_str()];
    tx.all(sql, args, Task::from_row).await
}

/// Returns the task that made the last plan of a run, or is to make it: what is older and did not succeed, that plan replaces.
pub(crate) async fn replaced_below(tx: &mut Tx, run: RunId) -> Result<TaskId> {
    Ok(plans_of(tx, run).await?.last().map_or(TaskId(0), |plan| plan.id))
}

async fn plan_anew(tx: &mut Tx, run: &Run, plans: &[Task]) -> Result<()> {
    let Some(first) = plans.first() else { return Ok(()) };
    let question = question_again(first.prompt.as_deref().unwrap_or(&run.goal), &outcomes(tx, run.id).await?);
    let task = NewTask {
        key: Some(PLAN_KEY.to_owned()),
        work: Some(Work::Prompt(question)),
        capability: first.capability.clone(),
        agent: first.agent.clone(),
        verify: first.verify.clone(),
        max_attempts: PLAN_ATTEMPTS,
        ..NewTask::new("Plan what is still to be done")
    };
    let tasks = renamed(tx, Some(run.id), &[task]).await?;
    task::add_tasks(tx, Some(run.id), &tasks, None).await?;
    let told = format!("run {} plans anew: a task has failed for good (plan {})", run.id, plans.len() + 1);
    tx.record(Event::new(EventKind::RunReplanned, told).run(Some(run.id)));
    Ok(())
}

async fn outcomes(tx: &mut Tx, run: RunId) -> Result<Vec<Outcome>> {
    let sql = "select coalesce(key, cast(id as text)) as name, state, coalesce(result, reason, '') as words from tasks
                where run_id = $1 and (verify is null or verify not like $3) order by id limit $2";
    tx.all(sql, args![run, OUTCOMES_READ, PlanCheck::LIKE], |row| {
        Ok(Outcome { name: row.text("name")?, state: row.text("state")?, words: row.text("words")? })
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_is_taken_gets_the_next_number() {
        let taken: HashSet<String> = ["a", "b", "b-2"].map(str::to_owned).into();
        let free_key = |key: &str| free_key(key, |key| taken.contains(key));
        assert_eq!(free_key("c"), "c");
        assert_eq!(free_key("a"), "a-2");
        assert_eq!(free_key("b"), "b-3");
    }
}

//! Goals: what follows from a plan that an agent made, and what follows when it fails.
//!
//! Here live adding a plan's tasks together with the passing of its check, a person's word that lets them begin, and the
//! decision at the end of a run whether a new plan is asked for. What a planner is asked, and how its answer is read, lives
//! in `model::goal`. That a run has a planner is seen by its tasks: one of them has a plan as its check.

use crate::run::{self, Run, Start, run_columns};
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
            // The run first: who calls it off at this moment has not seen the tasks that are added here.
            run::lock_of(tx, self.settle.id).await?;
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

/// Parks the tasks that need no other of the plan; the rest waits for them. Without a time: one that the plan gives a task is
/// no word of a person's, and counts again once they are approved.
fn park_first(tx: &mut Tx, run: Option<RunId>, tasks: &[NewTask], ids: &[TaskId]) {
    for (task, id) in tasks.iter().zip(ids).filter(|(task, _)| task.needs_new.is_empty()) {
        tx.later(
            "update tasks set state = 'parked', term = term + 1, reason = $2, parked_for = $2, due_at = null
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
            run::must_be_open(tx, self.id, &format!("`quorate runs show {}` tells how it ended", self.id))
                .await?;
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
            must_be_undone(tx, &task).await?;
            let (run, _) = self.run.apply(tx).await?;
            task::set_aside(tx, &task, &waits_for(run), None);
            Ok(run)
        })
    }
}

/// Refuses to decompose a task that somebody does or has done, that waits for a person or a time, or whose work would be done
/// before that which it needs.
async fn must_be_undone(tx: &mut Tx, task: &Task) -> Result<()> {
    let ended = task.state.is_over().then(|| format!("it is {}", task.state));
    if let Some(why) = done_by_another(task).or(ended) {
        let message = format!("task {} cannot be decomposed: {why}", task.named());
        return Err(Error::new(Kind::Conflict, message)
            .hint(format!("quorate task show {} tells who has or had it", task.id)));
    }
    if task.state == TaskState::Parked {
        return Err(parked(task));
    }
    if task.unmet == 0 {
        return Ok(());
    }
    let sql = "select id from tasks where id in (select needs_id from task_needs where task_id = $1)
                  and state <> 'completed' order by id limit 1";
    let need = tx.one(sql, args![task.id], |row| row.int("id")).await?.unwrap_or_default();
    let message = format!("task {} cannot be decomposed: it waits for task {need} yet", task.named());
    let id = task.id;
    Err(Error::new(Kind::Conflict, message)
        .hint(format!("quorate task show {need} tells how far that is; then quorate run --task {id}")))
}

/// Says that a task is parked. To wait for a run would take the place of why it waits now: called off, it would go on.
fn parked(task: &Task) -> Error {
    let id = task.id;
    let why = task.reason.as_deref().unwrap_or("a person parked it");
    let message = format!("task {} cannot be decomposed: it is parked: {why}", task.named());
    Error::new(Kind::Conflict, message)
        .hint(format!("{} lets it go on; then quorate run --task {id}", lets_go_on(task)))
}

/// Returns the command by which a person lets a parked task go on.
fn lets_go_on(task: &Task) -> String {
    match task.run_id.filter(|_| task.reason.as_deref() == Some(APPROVAL)) {
        Some(run) => format!("quorate runs approve {run}"),
        None => format!("quorate task unpark {}", task.id),
    }
}

/// Says what moves a parked task: a person's word, or the run that does its work.
pub fn moves(task: &Task) -> String {
    let reason = task.reason.as_ref().filter(|_| is_decomposed(task));
    match reason.and_then(|reason| reason.split(' ').find_map(|word| word.parse::<i64>().ok())) {
        Some(run) => format!("`quorate runs show {run}` tells how far that is"),
        None => format!("let it go on with `{}`", lets_go_on(task)),
    }
}

/// Tells whether a task waits for a run that does its work.
pub fn is_decomposed(task: &Task) -> bool {
    let waits = |reason: &String| reason.starts_with(DECOMPOSED);
    task.state == TaskState::Parked && task.reason.as_ref().is_some_and(waits)
}

/// How the source of a run begins that does the work of a task.
const SOURCE: &str = "task:";
/// How the reason begins for which a task waits whose work a run does.
const DECOMPOSED: &str = "decomposed: ";

/// Why a task waits whose work a run does.
fn waits_for(run: RunId) -> String {
    format!("{DECOMPOSED}run {run} does it")
}

/// Returns the task whose work a run does.
pub(crate) fn task_of(run: &Run) -> Option<TaskId> {
    let source = run.source.as_ref()?;
    source.strip_prefix(SOURCE)?.parse().ok().map(TaskId)
}

/// Says why no run may begin or go on to do the work of a task: another does it, or it is done.
fn done_by_another(task: &Task) -> Option<String> {
    match (task.state, &task.reason) {
        (TaskState::Running | TaskState::Verifying | TaskState::Completed, _) => {
            Some(format!("it is {}", task.state))
        }
        (_, Some(reason)) if is_decomposed(task) => Some(reason.clone()),
        _ => None,
    }
}

/// Returns the task whose work an ended run did, if it is there still: its row locked, and before it that of its run.
async fn lock_task_of(tx: &mut Tx, run: &Run) -> Result<Option<Task>> {
    let Some(id) = task_of(run) else { return Ok(None) };
    run::lock_of(tx, id).await?;
    task::find(tx, id).await
}

/// Refuses to let a run go on whose task another does now, or has done.
pub(crate) async fn must_not_be_done(tx: &mut Tx, run: &Run) -> Result<()> {
    let Some(task) = lock_task_of(tx, run).await? else { return Ok(()) };
    let Some(why) = done_by_another(&task) else { return Ok(()) };
    let id = task.id;
    let hint = match task.state {
        TaskState::Completed => format!("quorate task show {id} has its result"),
        TaskState::Parked => format!("quorate task show {id} tells which run that is"),
        _ => {
            format!("quorate task reassign {id} takes it from its owner; then quorate runs resume {}", run.id)
        }
    };
    let message =
        format!("run {} did the work of task {}, which goes another way: {why}", run.id, task.named());
    Err(Error::new(Kind::Conflict, message).hint(hint))
}

/// Has the task wait again whose work a run does, now that the run goes on; unless another does it, or has done it.
pub(crate) async fn wait_again(tx: &mut Tx, run: &Run) -> Result<()> {
    let Some(task) = lock_task_of(tx, run).await? else { return Ok(()) };
    if done_by_another(&task).is_some() {
        return Ok(());
    }
    if task.state.is_over() {
        let why = format!("run {} goes on, which does its work", run.id);
        task::reopen_all(tx, std::slice::from_ref(&task), &why).await?;
    }
    task::set_aside(tx, &task, &waits_for(run.id), None);
    Ok(())
}

/// Locks the open runs that do the work of tasks: before the tasks, as whoever ends such a run does.
pub(crate) async fn lock_runs_of(tx: &mut Tx, tasks: &[i64]) -> Result<Vec<Run>> {
    if tasks.is_empty() {
        return Ok(Vec::new());
    }
    tx.all(RUNS_OF, args![tasks], Run::from_row).await
}

const RUNS_OF: Sql = Sql::Each {
    lite: concat!(
        "select ",
        run_columns!(),
        " from runs where state = 'running' and source in (select 'task:' || value from json_each($1)) order by id"
    ),
    pg: concat!(
        "select ",
        run_columns!(),
        " from runs where state = 'running'
             and source = any(array(select 'task:' || id from unnest($1::bigint[]) as n (id))) order by id for update"
    ),
};

/// Calls off the runs that do the work of tasks which were called off.
pub(crate) async fn cancel_runs_of(tx: &mut Tx, tasks: &[Task]) -> Result<()> {
    let parked: Vec<&Task> = tasks.iter().filter(|task| task.state == TaskState::Parked).collect();
    let ids: Vec<i64> = parked.iter().map(|task| task.id.0).collect();
    for run in lock_runs_of(tx, &ids).await? {
        if let Some(task) = parked.iter().find(|task| waits(task, &run)) {
            let reason = format!("task {}, whose work it does, was cancelled", task.named());
            run::cancel(tx, run.id, &reason).await?;
        }
    }
    Ok(())
}

/// Tells whether a task waits for a run that does its work.
fn waits(task: &Task, run: &Run) -> bool {
    let reason = waits_for(run.id);
    task.state == TaskState::Parked && task_of(run) == Some(task.id) && task.reason == Some(reason)
}

/// Ends the task whose work a run did, unless somebody has let it go on meanwhile, or it is gone.
pub(crate) async fn end_decomposed(tx: &mut Tx, run: &Run, state: &str, reason: &str) -> Result<()> {
    let Some(id) = task_of(run) else { return Ok(()) };
    let Some(task) = task::find(tx, id).await? else { return Ok(()) };
    if !waits(&task, run) {
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

/// What became of the tasks of a run: what failed first, what was only cancelled last, the newest first, so that what
/// matters most is told of where not all can be.
async fn outcomes(tx: &mut Tx, run: RunId) -> Result<Vec<Outcome>> {
    let sql = "select coalesce(key, cast(id as text)) as name, state, coalesce(result, reason, '') as words from tasks
                where run_id = $1 and (verify is null or verify not like $3)
                order by case state when 'failed' then 0 when 'cancelled' then 2 else 1 end, id desc limit $2";
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

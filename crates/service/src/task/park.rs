//! What an attempt's supervisor puts aside: its agent cannot go on yet, or a budget is reached.
//!
//! Here lives the end of an attempt that is neither success nor failure. A task that only its agent's own budget stops is
//! given back: others may go on with it. How long an agent's word parks a task, and how
//! often, decides `model::usage`. What a person parks lives in `person`.

use super::person::{release, set_aside};
use super::{AttemptEnd, Failed, Task, end_attempt, fail_attempt, lock, refuse};
use crate::claim::release_of_task;
use crate::usage::{BudgetOf, Reached};
use quorate_model::retry::Failure;
use quorate_model::usage::{PARKS_MAX, Parked};
use quorate_model::{Result, TaskId, TaskState, Term};
use quorate_store::{Boxed, Tx, Write, args};

/// Why an attempt is put aside.
#[derive(Debug, Clone)]
pub enum Aside {
    /// Its agent says that it cannot go on before some time.
    Agent(Parked),
    /// A budget is reached; only a person lets that go on which is under it.
    Budget(Reached),
}

/// Ends an attempt as parked, or as released where it is the agent that may not go on.
#[derive(Debug, Clone)]
pub struct SetAside {
    /// The task.
    pub id: TaskId,
    /// The term under which it was taken.
    pub term: Term,
    /// Why.
    pub why: Aside,
    /// The end of the output.
    pub tail: Option<String>,
}

/// What became of a task that was to be put aside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rest {
    /// It is parked, for so many milliseconds or until a person lets it go on.
    Parked(Option<i64>),
    /// It is ready for others: its agent has reached its own budget.
    GivenBack,
    /// It was parked too often in a row: the attempt has failed, and this is the task's state.
    TooOften(TaskState),
}

impl Write for SetAside {
    type Answer = Rest;

    fn apply<'a>(&'a self, tx: &'a mut Tx) -> Boxed<'a, Rest> {
        Box::pin(async move {
            let task = lock(tx, self.id).await?;
            if task.state != TaskState::Running || task.term != self.term {
                return Err(refuse(&task, self.term, "park"));
            }
            match &self.why {
                Aside::Budget(Reached { of: BudgetOf::Agent, reason }) => {
                    release(tx, &task, reason, self.tail.as_deref()).await?;
                    Ok(Rest::GivenBack)
                }
                Aside::Budget(Reached { of: BudgetOf::Run | BudgetOf::Task, reason }) => {
                    self.end(tx, &task, reason, None).await?;
                    Ok(Rest::Parked(None))
                }
                Aside::Agent(parked) => {
                    let (before, now) = (parks_in_a_row(tx, &task).await?, tx.now().await?);
                    let Some(ms) = parked.for_ms(now, before) else {
                        return Ok(Rest::TooOften(self.fail(tx, &task, &parked.reason).await?));
                    };
                    self.end(tx, &task, &parked.reason, Some(now + ms)).await?;
                    Ok(Rest::Parked(Some(ms)))
                }
            }
        })
    }
}

impl SetAside {
    async fn end(&self, tx: &mut Tx, task: &Task, reason: &str, until: Option<i64>) -> Result<()> {
        let end = AttemptEnd {
            outcome: "parked",
            reason: Some(reason),
            tail: self.tail.as_deref(),
            evidence: None,
        };
        end_attempt(tx, task, &end);
        if task.holds {
            release_of_task(tx, task).await?;
        }
        set_aside(tx, task, reason, until);
        Ok(())
    }

    async fn fail(&self, tx: &mut Tx, task: &Task, reason: &str) -> Result<TaskState> {
        let reason = format!("parked {PARKS_MAX} times in a row: {reason}");
        let failed = Failed {
            failure: Failure::Final,
            outcome: "failed",
            reason: &reason,
            tail: self.tail.as_deref(),
            retry_after_ms: 0,
        };
        fail_attempt(tx, task, &failed).await
    }
}

/// Counts the attempts that ended as parked since one ended otherwise.
async fn parks_in_a_row(tx: &mut Tx, task: &Task) -> Result<i64> {
    let sql = "select count(*) as n from attempts where task_id = $1 and outcome = 'parked' and number >
                 (select coalesce(max(number), 0) from attempts
                   where task_id = $1 and outcome is not null and outcome <> 'parked')";
    Ok(tx.one(sql, args![task.id], |row| row.int("n")).await?.unwrap_or(0))
}

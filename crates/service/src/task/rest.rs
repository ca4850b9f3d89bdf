//! Whether an agent that cannot go on has to wait still.
//!
//! Here lives the question that a resting session asks of the ledger. How its task was parked lives in `park`; the word of
//! a person that ends it, in `person` and `agent`.

use quorate_model::TaskId;
use quorate_store::{Boxed, Read, Tx, args};

/// Asks whether nobody has told a parked attempt's task, or its agent, to go on since. A task that is called off or given to
/// another meanwhile changes nothing about its agent's limit: only such a word ends the rest, or its time.
#[derive(Debug, Clone)]
pub struct StillRests {
    /// The task.
    pub id: TaskId,
    /// The attempt that ended as parked.
    pub attempt: i64,
    /// The agent.
    pub agent: String,
}

impl Read for StillRests {
    type Answer = bool;

    fn fetch<'a>(&'a self, tx: &'a mut Tx) -> Boxed<'a, bool> {
        Box::pin(async move {
            let sql =
                "select a.number as told from attempts a where a.task_id = $1 and a.number = $2 and exists
                         (select 1 from events e where e.at >= a.ended_at
                             and ((e.kind = 'agent.resumed' and e.agent = $3)
                                  or (e.kind = 'task.unparked' and e.task_id = $1)))";
            let told = tx.one(sql, args![self.id, self.attempt, &self.agent], |row| row.int("told")).await?;
            Ok(told.is_none())
        })
    }
}

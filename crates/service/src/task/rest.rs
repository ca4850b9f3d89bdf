//! Whether an agent that cannot go on has to wait still.
//!
//! Here lives the question that a resting session asks of the ledger. How its task was parked lives in `park`; the word of
//! a person that ends it, in `person` and `agent`.

use quorate_model::{TaskId, Term};
use quorate_store::{Boxed, Read, Tx, args};

/// Asks whether a task is parked still, as its attempt left it, and nobody has told its agent to go on since.
#[derive(Debug, Clone)]
pub struct StillRests {
    /// The task.
    pub id: TaskId,
    /// The attempt that ended as parked.
    pub attempt: i64,
    /// The term that parking it set.
    pub term: Term,
    /// The agent.
    pub agent: String,
}

impl Read for StillRests {
    type Answer = bool;

    fn fetch<'a>(&'a self, tx: &'a mut Tx) -> Boxed<'a, bool> {
        Box::pin(async move {
            let sql = "select id from tasks where id = $1 and term = $2 and state = 'parked' and not exists
                         (select 1 from events e join attempts a on a.task_id = $1 and a.number = $3
                           where e.agent = $4 and e.at >= a.ended_at and e.kind = 'agent.resumed')";
            let args = args![self.id, self.term, self.attempt, &self.agent];
            Ok(tx.one(sql, args, |row| row.int("id")).await?.is_some())
        })
    }
}

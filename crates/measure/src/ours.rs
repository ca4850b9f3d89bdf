//! The operations through the ledger, as agents and nodes do them.
//!
//! Here live the callers of `quorate-service`. What is measured is the request until its answer, which comes after
//! the commit.

use crate::load::{Call, Caller};
use crate::operation::{HELD, Operation};
use quorate_model::config::Limits;
use quorate_model::{Result, TaskId, Term};
use quorate_service::task::{Add, Done, Held, Kinds, NewTask, Progress, Renew, Take, Work};
use quorate_store::Store;
use tokio::task::JoinSet;

/// How long leases last, in milliseconds.
const LEASE_MS: i64 = 60_000;

/// An agent, or a node for renewals, that calls the ledger.
#[derive(Clone)]
pub struct Ours {
    store: Store,
    operation: Operation,
    place: i64,
    /// Prepared tasks of this caller: the first and how many.
    first: i64,
    count: i64,
    made: i64,
}

impl Ours {
    /// Makes the callers of an operation; each has its own part of the `prepared` tasks.
    pub fn callers(store: &Store, operation: Operation, callers: i64, prepared: i64) -> Vec<Ours> {
        let count = prepared / callers;
        let caller =
            |place| Ours { store: store.clone(), operation, place, first: place * count + 1, count, made: 0 };
        (0..callers).map(caller).collect()
    }

    /// Makes the caller at a place of its own, among callers of other processes.
    pub fn at(store: &Store, operation: Operation, place: i64) -> Ours {
        Ours { store: store.clone(), operation, place, first: 1, count: 0, made: 0 }
    }

    /// Takes so many tasks at the same moment, and completes them; answers with how many there were.
    pub async fn cycles(&self, most: usize) -> Result<usize> {
        let mut taking = JoinSet::new();
        for _ in 0..most {
            let caller = self.clone();
            taking.spawn(async move { caller.claim().await });
        }
        let mut completing = JoinSet::new();
        for taken in taking.join_all().await {
            let (Some((id, term)), caller) = (taken?, self.clone()) else { continue };
            completing.spawn(async move { caller.complete(id, term).await });
        }
        let count = completing.len();
        completing.join_all().await.into_iter().collect::<Result<()>>()?;
        Ok(count)
    }

    async fn claim(&self) -> Result<Option<(TaskId, Term)>> {
        let take = Take {
            agent: format!("agent-{}", self.place),
            capabilities: None,
            kinds: Kinds::Any,
            run: None,
            lease_ms: LEASE_MS,
            node: Some("1".to_owned()),
            resume: false,
            limits: Limits::default(),
        };
        Ok(self.store.write(take).await?.task().map(|taken| (taken.task.id, taken.task.term)))
    }

    async fn complete(&self, id: TaskId, term: Term) -> Result<()> {
        let done = Done { id, term, result: Some("\"ok\"".to_owned()), tail: None };
        self.store.write(done).await.map(drop)
    }

    async fn progress(&self) -> Result<()> {
        let message = Some("half of it".to_owned());
        let id = TaskId(self.first + self.made % HELD);
        self.store.write(Progress { id, term: Term(1), percent: Some(50), message }).await.map(drop)
    }

    async fn heartbeat(&self) -> Result<()> {
        let id = self.first + self.made % HELD;
        let renew = Renew {
            held: vec![Held { id: TaskId(id), term: Term(1), active: true }],
            agents: vec![format!("agent-{}", id - 1)],
            node: (self.place + 1).to_string(),
            lease_ms: LEASE_MS,
        };
        self.store.write(renew).await.map(drop)
    }

    async fn enqueue(&self) -> Result<()> {
        let task = NewTask { work: Some(Work::Run("true".to_owned())), ..NewTask::new("Measure one thing") };
        self.store.write(Add { run: None, tasks: vec![task], by: None }).await.map(drop)
    }
}

impl Caller for Ours {
    async fn call(&mut self) -> Result<Call> {
        match self.operation {
            Operation::Claim => match self.claim().await? {
                Some(_) => {}
                None => return Ok(Call::Dry),
            },
            Operation::Cycle => match self.claim().await? {
                Some((id, term)) => self.complete(id, term).await?,
                None => return Ok(Call::Dry),
            },
            Operation::Complete if self.made == self.count => return Ok(Call::Dry),
            Operation::Complete => self.complete(TaskId(self.first + self.made), Term(1)).await?,
            Operation::Progress => self.progress().await?,
            Operation::Heartbeat => self.heartbeat().await?,
            Operation::Enqueue => self.enqueue().await?,
        }
        self.made += 1;
        Ok(Call::Done)
    }
}

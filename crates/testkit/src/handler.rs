//! Agents that are a function: they take tasks, call it and say done, all in this process.
//!
//! Here lives what embedding the ledger into a program looks like: no child process, but every task with an owner, a
//! term, a lease and an attempt. Leases are not renewed, so it is for functions that end well within one.

use crate::verbs::LEASE_MS;
use quorate_model::config::Limits;
use quorate_model::{Result, RunId};
use quorate_service::agent::Seen;
use quorate_service::run::{Run, Settle};
use quorate_service::task::{Done, Fail, Kinds, Outcome, Take, Taken};
use quorate_store::Store;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;

/// Without a hint of a change, an idle slot looks this often.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long a task that failed rests before it is tried again, in milliseconds.
const RETRY_AFTER_MS: i64 = 1_000;

/// Works at a run in so many slots until it is over; answers with the run.
///
/// `handle` is given a task with the results it needs; it returns the task's result, a JSON text, or why it failed.
pub async fn serve<H>(store: &Store, run: RunId, slots: usize, handle: H) -> Result<Run>
where
    H: Fn(&Taken) -> std::result::Result<Option<String>, String> + Send + Sync + 'static,
{
    let handle = Arc::new(handle);
    let mut working = JoinSet::new();
    for place in 0..slots {
        let (store, handle) = (store.clone(), Arc::clone(&handle));
        working.spawn(async move { slot(&store, run, format!("handler-{place}"), &*handle).await });
    }
    working.join_all().await.into_iter().collect::<Result<()>>()?;
    store.write(Settle { id: run }).await
}

async fn slot<H>(store: &Store, run: RunId, agent: String, handle: &H) -> Result<()>
where
    H: Fn(&Taken) -> std::result::Result<Option<String>, String>,
{
    store.write(Seen { name: agent.clone(), strict: false }).await?;
    let mut changes = store.changes();
    loop {
        match store.write(next_of(&agent, run)).await?.task() {
            Some(taken) => report(store, &taken, handle(&taken)).await?,
            None if store.write(Settle { id: run }).await?.is_over() => return Ok(()),
            None => changes.wait(LOOK_EVERY).await,
        }
    }
}

async fn report(
    store: &Store,
    taken: &Taken,
    said: std::result::Result<Option<String>, String>,
) -> Result<()> {
    let (id, term) = (taken.task.id, taken.task.term);
    match said {
        Ok(result) => store.write(Done { id, term, result, tail: None }).await.map(drop),
        Err(error) => {
            let (outcome, retry_after_ms) = (Outcome::Failed, RETRY_AFTER_MS);
            store
                .write(Fail { id, term, error, is_final: false, outcome, tail: None, retry_after_ms })
                .await
                .map(drop)
        }
    }
}

fn next_of(agent: &str, run: RunId) -> Take {
    Take {
        agent: agent.to_owned(),
        capabilities: None,
        kinds: Kinds::Any,
        run: Some(run),
        lease_ms: LEASE_MS,
        node: None,
        resume: false,
        limits: Limits::default(),
    }
}

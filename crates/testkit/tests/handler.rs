//! Agents that are a function, on both databases.

use quorate_model::Result;
use quorate_service::task::NewTask;
use quorate_testkit::handler;
use quorate_testkit::ledger::TestLedger;
use quorate_testkit::on_every_backend;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

on_every_backend!(a_run_is_worked_off_by_functions, a_function_that_fails_ends_the_run_as_failed);

async fn a_run_is_worked_off_by_functions(ledger: TestLedger) -> Result<()> {
    let tasks = vec![
        NewTask::new("first"),
        NewTask { needs_new: vec![0], ..NewTask::new("left") },
        NewTask { needs_new: vec![0], ..NewTask::new("right") },
        NewTask { needs_new: vec![1, 2], ..NewTask::new("last") },
    ];
    let (run, ids) = ledger.start(tasks).await?;
    let called = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&called);
    let over = handler::serve(&ledger.store, run, 3, move |taken| {
        count.fetch_add(1, Ordering::Relaxed);
        Ok(Some(taken.needs.len().to_string()))
    });
    assert_eq!(over.await?.state, "completed");
    assert_eq!(called.load(Ordering::Relaxed), 4);
    let last = ledger.story(ids[3]).await?;
    assert_eq!(last.task.result.as_deref(), Some("2"), "the last one was given both results");
    Ok(())
}

async fn a_function_that_fails_ends_the_run_as_failed(ledger: TestLedger) -> Result<()> {
    let (run, _) = ledger.start(vec![NewTask { max_attempts: 1, ..NewTask::new("fails") }]).await?;
    let over = handler::serve(&ledger.store, run, 2, |_| Err("it cannot be done".to_owned())).await?;
    assert_eq!(over.state, "failed");
    Ok(())
}

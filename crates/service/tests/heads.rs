//! A snapshot that somebody holds open on PostgreSQL: takes begin behind what it keeps from being removed, and nothing
//! is left behind for that.

use quorate_model::{Result, TaskId};
use quorate_service::task::Add;
use quorate_store::Store;
use quorate_testkit::ledger::{Backend, TestLedger};
use quorate_testkit::verbs::{command, next_of};
use std::time::{Duration, Instant};
use tokio_postgres::Client;

/// More than what a take walks over without remembering it.
const TAKEN: usize = 2_500;
const LEFT: usize = 5;
/// Heads count for a second after they were looked up.
const WITHIN: Duration = Duration::from_millis(900);
/// A machine that is busy may need more than one try to be quick enough.
const TRIES: usize = 20;

async fn sql(client: &Client, text: &str) {
    client.batch_execute(text).await.expect("runs");
}

/// A queue whose first tasks are gone but kept in the index, and who keeps them there.
async fn held_queue(gone: usize) -> Result<(TestLedger, Client, Client)> {
    let ledger = TestLedger::new(Backend::Pg).await;
    let (holder, hand) = (ledger.client().await, ledger.client().await);
    let tasks = (0..gone + LEFT).map(|n| command(&format!("task {n}"))).collect();
    ledger.store.write(Add { run: None, tasks, by: None }).await?;
    sql(&holder, "begin isolation level repeatable read; select now()").await;
    sql(&hand, &format!("update tasks set state = 'waiting' where id <= {gone}")).await;
    Ok((ledger, holder, hand))
}

/// Takes until nothing is found any more.
async fn take_all(store: &Store) -> Result<Vec<TaskId>> {
    let mut ids = Vec::new();
    while let Some(taken) = store.write(next_of("alpha")).await?.task() {
        ids.push(taken.task.id);
    }
    Ok(ids)
}

#[tokio::test]
async fn behind_a_held_snapshot_a_task_that_comes_before_the_head_is_taken_last_or_after_a_look() -> Result<()>
{
    let mut was_passed_over = false;
    for _ in 0..TRIES {
        let (ledger, _holder, hand) = held_queue(TAKEN).await?;
        let begun = Instant::now();
        let first = ledger.must_take("alpha").await?;
        assert_eq!(first.task.id, TaskId(TAKEN as i64 + 1));
        sql(&hand, "update tasks set state = 'ready' where id = 7").await;
        let rest = take_all(&ledger.store).await?;
        let in_time = begun.elapsed() < WITHIN;
        let mut sorted = rest.clone();
        sorted.sort();
        let expected: Vec<TaskId> =
            std::iter::once(7).chain(TAKEN as i64 + 2..=(TAKEN + LEFT) as i64).map(TaskId).collect();
        assert_eq!(sorted, expected, "nothing is left behind");
        if in_time {
            assert_eq!(rest.last(), Some(&TaskId(7)), "the takes began at the head");
            was_passed_over = true;
            break;
        }
    }
    assert!(was_passed_over, "the machine was too busy {TRIES} times to see where a take begins");
    Ok(())
}

#[tokio::test]
async fn behind_a_held_snapshot_a_new_task_of_higher_priority_is_taken_first() -> Result<()> {
    let (ledger, _holder, _hand) = held_queue(TAKEN).await?;
    ledger.must_take("alpha").await?;
    let urgent = quorate_service::task::NewTask { priority: 0, ..command("urgent") };
    let other = ledger.again().await;
    let added = other.write(Add { run: None, tasks: vec![urgent], by: None }).await?;
    assert_eq!(ledger.must_take("alpha").await?.task.id, added[0]);
    Ok(())
}

#[tokio::test]
async fn behind_a_held_snapshot_a_take_that_was_rolled_back_is_found_again() -> Result<()> {
    let (ledger, _holder, hand) = held_queue(TAKEN).await?;
    let first = ledger.must_take("alpha").await?.task.id.0;
    // Another takes the next and lets it go again.
    sql(&hand, &format!("begin; select from tasks where id = {} for update", first + 1)).await;
    assert_eq!(ledger.must_take("alpha").await?.task.id, TaskId(first + 2));
    sql(&hand, "rollback").await;
    let mut rest = take_all(&ledger.store).await?;
    rest.sort();
    let left: Vec<TaskId> = [first + 1, first + 3, first + 4].into_iter().map(TaskId).collect();
    assert_eq!(rest, left);
    Ok(())
}

#[tokio::test]
async fn a_short_walk_is_made_each_time_and_the_order_is_exact() -> Result<()> {
    let (ledger, _holder, hand) = held_queue(100).await?;
    ledger.must_take("alpha").await?;
    sql(&hand, "update tasks set state = 'ready' where id = 7").await;
    assert_eq!(ledger.must_take("alpha").await?.task.id, TaskId(7));
    Ok(())
}

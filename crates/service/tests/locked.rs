//! Rows that somebody keeps locked, as a person in `psql` does who has begun a transaction and went for lunch. On SQLite there
//! are no locks of rows.

use quorate_model::goal::PlanCheck;
use quorate_model::{Kind, Result};
use quorate_service::goal::Adopt;
use quorate_service::task::{
    Done, DoneAnswer, Held, NewTask, Renew, Renewed, Retry, SettleCheck, TakeCheck, Taken,
};
use quorate_service::view::RunShow;
use quorate_testkit::ledger::{Backend, TestLedger};
use quorate_testkit::verbs::{LEASE_MS, begin, claiming, command, texts};
use std::time::{Duration, Instant};

#[tokio::test]
async fn what_somebody_keeps_locked_costs_only_its_own_lease() -> Result<()> {
    let ledger = TestLedger::new(Backend::Pg).await;
    let mut held = Vec::new();
    for (agent, port) in [("ada", "port:1"), ("bob", "port:2"), ("cyd", "port:3")] {
        ledger.add(claiming("work", &[port])).await?;
        let taken = ledger.must_take(agent).await?;
        held.push(Held { id: taken.task.id, term: taken.task.term, active: true });
    }
    let (bobs, cyds) = (held[1].id, held[2].id);
    // One that is no longer ours is locked too, and is not taken for ours.
    held[2].term.0 += 7;
    let person = ledger.client().await;
    let lock = format!(
        "begin; select from tasks where id in ({bobs}, {cyds}) for update; select from claims for update;
         select from agents for update; select from nodes for update"
    );
    person.batch_execute(&lock).await.expect("locked");
    let agents = texts(&["ada", "bob", "cyd"]);
    let renew = Renew { held: held.clone(), agents, node: "1".into(), lease_ms: LEASE_MS * 3 };
    let before = ledger.story(bobs).await?.task.lease_until;
    let asked = Instant::now();
    let renewed = ledger.store.write(renew.clone()).await?;
    assert!(asked.elapsed() < Duration::from_secs(6), "{:?}", asked.elapsed());
    assert_eq!(renewed, Renewed { kept: vec![held[0].id], busy: vec![bobs], agents: vec![] });
    assert_eq!(ledger.story(bobs).await?.task.lease_until, before);
    assert!(ledger.story(held[0].id).await?.task.lease_until > before);
    person.batch_execute("commit").await.expect("ended");
    let mut kept = ledger.store.write(renew).await?.kept;
    kept.sort();
    assert_eq!(kept, [held[0].id, bobs]);
    Ok(())
}

#[tokio::test]
async fn a_check_of_health_and_takers_pass_over_what_somebody_keeps_locked() -> Result<()> {
    let ledger = TestLedger::new(Backend::Pg).await;
    for _ in 0..2 {
        ledger.add(command("work")).await?;
    }
    let (one, two) = (ledger.must_take("ada").await?.task.id, ledger.must_take("bob").await?.task.id);
    let person = ledger.client().await;
    ledger.store.write(begin("ada", "1")).await?;
    ledger.store.write(begin("bob", "1")).await?;
    let lock = format!(
        "begin; select from tasks where id = {one} for update; select from agents where name = 'ada' for update"
    );
    person.batch_execute(&lock).await.expect("locked");
    ledger.advance(LEASE_MS + 1).await;
    let asked = Instant::now();
    let checked = ledger.check().await?;
    assert_eq!((checked.lapsed, checked.stale), (1, 1), "bob and what he had");
    assert_eq!(ledger.must_take("cyd").await?.task.id, two);
    assert!(asked.elapsed() < Duration::from_secs(6), "{:?}", asked.elapsed());
    assert_eq!(ledger.story(one).await?.task.owner.as_deref(), Some("ada"));
    person.batch_execute("commit").await.expect("ended");
    let checked = ledger.check().await?;
    assert_eq!((checked.lapsed, checked.stale), (1, 1), "ada and what she had");
    Ok(())
}

#[tokio::test]
async fn who_completes_what_somebody_keeps_locked_keeps_nobody_else_from_completing() -> Result<()> {
    let ledger = TestLedger::new(Backend::Pg).await;
    let mut taken = Vec::new();
    for agent in ["ada", "bob", "cyd", "dan"] {
        ledger.add(command("work")).await?;
        taken.push(ledger.must_take(agent).await?);
    }
    let person = ledger.client().await;
    let lock = format!("begin; select from tasks where id = {} for update", taken[0].task.id);
    person.batch_execute(&lock).await.expect("locked");
    let Taken { task, .. } = &taken[0];
    let (store, first) =
        (ledger.store.clone(), Done { id: task.id, term: task.term, result: None, tail: None });
    let waits = tokio::spawn(async move { store.write(first).await });
    let asked = Instant::now();
    for taken in &taken[1..] {
        // Each comes when the first is trying.
        tokio::time::sleep(Duration::from_millis(50)).await;
        ledger.done(taken).await?;
    }
    assert!(asked.elapsed() < Duration::from_secs(7), "{:?}", asked.elapsed());
    assert!(!waits.is_finished(), "it was not locked");
    person.batch_execute("commit").await.expect("ended");
    assert_eq!(waits.await.expect("no panic")?, DoneAnswer::Completed { run: None });
    Ok(())
}

/// Another transaction ends the run and has not committed yet: what it has not seen must not be left in an ended run.
#[tokio::test]
async fn a_task_that_is_retried_while_its_run_ends_opens_the_run_again() -> Result<()> {
    let ledger = TestLedger::new(Backend::Pg).await;
    let (run, ids) = ledger.start(vec![NewTask { max_attempts: 1, ..command("work") }]).await?;
    let taken = ledger.must_take("ada").await?;
    ledger.fail(&taken, "boom").await?;
    let other = ledger.client().await;
    let ends = format!("begin; update runs set state = 'failed', finished_at = now_ms() where id = {run}");
    other.batch_execute(&ends).await.expect("ended, not committed");
    let (store, retry) = (ledger.store.clone(), Retry { id: ids[0] });
    let retried = tokio::spawn(async move { store.write(retry).await });
    tokio::time::sleep(Duration::from_millis(100)).await;
    other.batch_execute("commit").await.expect("committed");
    retried.await.expect("no panic")?;
    let story = ledger.store.read(RunShow { id: run }).await?;
    assert_eq!((story.tasks[0].state.as_str(), story.run.state.as_str()), ("ready", "running"));
    Ok(())
}

#[tokio::test]
async fn a_plan_is_not_added_to_a_run_that_is_being_called_off() -> Result<()> {
    let ledger = TestLedger::new(Backend::Pg).await;
    let plan = NewTask { verify: Some(PlanCheck::Run.as_str().into()), ..NewTask::new("plan") };
    let (run, _) = ledger.start(vec![plan]).await?;
    let taken = ledger.must_take("ada").await?;
    ledger.done(&taken).await?;
    let check = TakeCheck { task: None, run: Some(run), node: "1".into(), lease_ms: LEASE_MS };
    let check = ledger.store.write(check).await?.expect("a check is due");
    let settle = SettleCheck {
        id: check.id,
        term: check.term,
        failure: None,
        is_final: false,
        tail: None,
        retry_after_ms: 1_000,
    };
    let adopt = Adopt { settle, tasks: vec![command("work")], parks: false };
    let other = ledger.client().await;
    let begins = format!("begin; select from runs where id = {run} for update");
    other.batch_execute(&begins).await.expect("it has begun to call it off");
    let store = ledger.store.clone();
    let adopted = tokio::spawn(async move { store.write(adopt).await });
    tokio::time::sleep(Duration::from_millis(100)).await;
    let ends = format!(
        "update tasks set state = 'cancelled', term = term + 1, finished_at = now_ms() where id = {};
         update runs set state = 'cancelled', finished_at = now_ms() where id = {run}; commit",
        check.id
    );
    other.batch_execute(&ends).await.expect("called off");
    assert_eq!(adopted.await.expect("no panic").expect_err("too late").kind, Kind::Stale);
    assert_eq!(ledger.store.read(RunShow { id: run }).await?.tasks.len(), 1);
    Ok(())
}

//! Many followers of one process, on both databases: each sees every event once, in order.

use quorate_model::{Result, Seq};
use quorate_server::{Follower, Tail};
use quorate_service::event::{Filter, Latest};
use quorate_testkit::ledger::TestLedger;
use quorate_testkit::on_every_backend;
use quorate_testkit::verbs::command;
use std::time::Duration;
use tokio::task::JoinSet;

/// How long a test waits for what it expects; far more than it takes.
const PATIENCE: Duration = Duration::from_secs(30);

/// Follows until so many events were seen; answers with their messages.
async fn see(mut follower: Follower, count: usize) -> Result<Vec<String>> {
    let (mut messages, mut last) = (Vec::new(), Seq(-1));
    while messages.len() < count {
        let events = tokio::time::timeout(PATIENCE, follower.next()).await.expect("something happens")?;
        for event in events {
            assert!(event.seq > last, "in order, and once");
            last = event.seq;
            messages.push(event.message.clone());
        }
    }
    assert!(follower.seen() >= last);
    Ok(messages)
}

async fn every_follower_sees_what_was_and_what_comes(ledger: TestLedger) -> Result<()> {
    for n in 0..20 {
        ledger.add(command(&format!("before {n}"))).await?;
    }
    ledger.events().await;
    let tail = Tail::begin(ledger.store.clone()).await?;
    let here = ledger.store.read(Latest).await?;
    let mut followers = JoinSet::new();
    for n in 0..50 {
        let (after, count) = if n % 2 == 0 { (None, 60) } else { (Some(here), 40) };
        followers.spawn(see(tail.follow(after, Filter::default()), count));
    }
    let mut ids = Vec::new();
    for n in 0..40 {
        ids.push(ledger.add(command(&format!("after {n}"))).await?);
    }
    for seen in followers.join_all().await {
        let expected = (0..40).map(|n| format!("task {} added: after {n}", ids[n]));
        let seen = seen?;
        assert_eq!(seen[seen.len() - 40..], expected.collect::<Vec<_>>());
    }
    Ok(())
}

async fn a_follower_gets_only_what_it_asked_for(ledger: TestLedger) -> Result<()> {
    let tail = Tail::begin(ledger.store.clone()).await?;
    let taken = Filter { kind: Some("task.taken".into()), ..Filter::default() };
    let follower = tokio::spawn(see(tail.follow(None, taken), 3));
    for n in 0..3 {
        ledger.add(command(&format!("task {n}"))).await?;
        ledger.must_take("alpha").await?;
    }
    let seen = follower.await.expect("it does not panic")?;
    assert!(seen.iter().all(|message| message.contains("taken by alpha")), "{seen:?}");
    Ok(())
}

on_every_backend!(every_follower_sees_what_was_and_what_comes, a_follower_gets_only_what_it_asked_for);

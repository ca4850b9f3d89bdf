//! Claims of a holding that was taken away while its child may still run, and who comes first of those who wait.

use quorate_model::Result;
use quorate_service::claim::{self, Grant};
use quorate_service::node::Gone;
use quorate_service::task::{NewTask, Reassign, Take};
use quorate_testkit::ledger::TestLedger;
use quorate_testkit::on_every_backend;
use quorate_testkit::verbs::{claiming, command, next_of, want};

on_every_backend! {
    a_claim_that_had_expired_is_not_brought_back_when_its_task_is_taken_away,
    a_second_holding_keeps_its_claims_when_the_child_of_the_first_is_gone,
    an_agent_that_asked_before_a_task_was_passed_over_goes_first,
    a_task_that_was_passed_over_before_an_agent_asked_goes_first,
}

fn supervised(agent: &str) -> Take {
    Take { node: Some("1".into()), ..next_of(agent) }
}

async fn taken_away(ledger: &TestLedger, task: NewTask) -> Result<quorate_service::task::Task> {
    ledger.add(task).await?;
    let taken = ledger.store.write(supervised("alpha")).await?.task().expect("it is there");
    Ok(taken.task)
}

async fn a_claim_that_had_expired_is_not_brought_back_when_its_task_is_taken_away(
    ledger: TestLedger,
) -> Result<()> {
    let task = taken_away(&ledger, command("a")).await?;
    let own = claim::Take { ttl_ms: 1_000, task: Some((task.id, task.term)), ..want("alpha", &["src"]) };
    ledger.store.write(own).await?;
    ledger.advance(2_000).await;
    ledger.claim("beta", &["src/a.rs"]).await?;
    ledger.store.write(Reassign { id: task.id, to: None, reason: "slow".into() }).await?;
    assert_eq!(ledger.held().await?, ["beta:src/a.rs"]);
    Ok(())
}

async fn a_second_holding_keeps_its_claims_when_the_child_of_the_first_is_gone(
    ledger: TestLedger,
) -> Result<()> {
    let first = taken_away(&ledger, claiming("a", &["src"])).await?;
    ledger.store.write(Reassign { id: first.id, to: None, reason: "slow".into() }).await?;
    // For a moment others come first.
    ledger.advance(2_001).await;
    ledger.store.write(supervised("alpha")).await?.task().expect("an agent never conflicts with itself");
    let gone = Gone { task: first.id, attempt: first.attempt, term: first.term };
    ledger.store.write(gone).await?;
    assert_eq!(ledger.held().await?, ["alpha:src"]);
    Ok(())
}

async fn asks(ledger: &TestLedger, place: Option<i64>) -> Result<Option<i64>> {
    let wish = claim::Take { wait_ms: Some(600_000), place, ..want("waiter", &["src"]) };
    match ledger.store.write(wish).await? {
        Grant::Taken(_) => Ok(None),
        Grant::Waits { place, .. } => Ok(Some(place)),
    }
}

/// Who is served when both have waited for more than a minute and the holder lets go.
async fn served(ledger: &TestLedger, is_agent_first: bool) -> Result<&'static str> {
    ledger.claim("holder", &["src/a.rs"]).await?;
    let mut place = None;
    if is_agent_first {
        place = asks(ledger, None).await?;
        ledger.advance(1_000).await;
    }
    ledger.add(claiming("wide", &["src"])).await?;
    assert!(ledger.take("worker").await?.is_none());
    for _ in 0..8 {
        ledger.advance(9_000).await;
        let terms = ledger.store.read(quorate_service::view::Claims::default()).await?;
        let terms = terms.iter().map(|claim| claim.term).collect();
        ledger.store.write(claim::Renew { terms, ttl_ms: 60_000 }).await?;
        place = asks(ledger, place).await?;
        assert!(ledger.take("worker").await?.is_none());
    }
    let by = claim::Releaser::Holder { agent: "holder".into(), term: None };
    ledger.store.write(claim::Release { resources: vec!["src/a.rs".into()], by }).await?;
    let agent_has_it = asks(ledger, place).await?.is_none();
    let task_has_it = ledger.take("worker").await?.is_some();
    Ok(match (agent_has_it, task_has_it) {
        (true, false) => "agent",
        (false, true) => "task",
        (true, true) => "both",
        (false, false) => "nobody",
    })
}

async fn an_agent_that_asked_before_a_task_was_passed_over_goes_first(ledger: TestLedger) -> Result<()> {
    assert_eq!(served(&ledger, true).await?, "agent");
    Ok(())
}

async fn a_task_that_was_passed_over_before_an_agent_asked_goes_first(ledger: TestLedger) -> Result<()> {
    assert_eq!(served(&ledger, false).await?, "task");
    Ok(())
}

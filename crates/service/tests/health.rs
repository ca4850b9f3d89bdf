//! What the health check does, on both databases: in bounded parts, once, fast, and without stopping the healthy.

use quorate_model::{Result, TaskState};
use quorate_service::health::{Check, Checked};
use quorate_service::task::{NewTask, Progress};
use quorate_store::{Boxed, Tx, Write};
use quorate_testkit::ledger::TestLedger;
use quorate_testkit::on_every_backend;
use quorate_testkit::verbs::{LEASE_MS, claiming, command};
use std::io::Write as _;
use std::time::{Duration, Instant};

const CHECK: Check = Check { stuck_after_ms: 300_000, judge: true };

/// Makes a large team at work: agents with sessions, a task each, and many tasks more.
struct Crowd {
    agents: i64,
    tasks: i64,
}

impl Write for Crowd {
    type Answer = ();

    fn apply<'a>(&'a self, tx: &'a mut Tx) -> Boxed<'a, ()> {
        Box::pin(async move {
            let args = quorate_store::args![self.agents];
            tx.run(
                "with recursive n (i) as (select 1 union all select i + 1 from n where i < $1)
                 insert into agents (name, driver, state, node, term, lease_until, heartbeat_at, created_at)
                 select 'agent-' || i, 'command', 'ready', '1', 1, now_ms() + 60000, now_ms(), now_ms() from n",
                args,
            )
            .await?;
            tx.run(
                "with recursive n (i) as (select 1 union all select i + 1 from n where i < $2)
                 insert into tasks (title, state, max_attempts, attempt, term, owner, lease_ms, lease_until, started_at,
                                    active_at, created_at)
                 select 'task ' || i, case when i <= $1 then 'running' else 'ready' end, 3, 1, 1, 'agent-' || i, 60000,
                        case when i <= $1 then now_ms() + 60000 end, now_ms(), now_ms(), now_ms() from n",
                quorate_store::args![self.agents, self.tasks],
            )
            .await?;
            tx.run(
                "insert into attempts (task_id, number, term, agent, started_at)
                 select id, 1, 1, owner, now_ms() from tasks where state = 'running'",
                &[],
            )
            .await?;
            Ok(())
        })
    }
}

/// Checks until nothing more is to be done at once; returns the longest check, in milliseconds, and the sums.
async fn check_all(ledger: &TestLedger) -> Result<(u128, Checked)> {
    let mut sum = Checked::default();
    let mut longest = 0;
    loop {
        let begun = Instant::now();
        let checked = ledger.store.write(CHECK).await?;
        longest = longest.max(begun.elapsed().as_millis());
        sum.lapsed += checked.lapsed;
        sum.stale += checked.stale;
        sum.stuck += checked.stuck;
        sum.due += checked.due;
        if !checked.more {
            return Ok((longest, sum));
        }
    }
}

async fn a_thousand_agents_and_ten_thousand_tasks_are_checked_in_a_moment(ledger: TestLedger) -> Result<()> {
    ledger.store.write(Crowd { agents: 1_000, tasks: 10_000 }).await?;
    let begun = Instant::now();
    let (_, quiet) = check_all(&ledger).await?;
    let calm = begun.elapsed();
    assert_eq!((quiet.lapsed, quiet.stale), (0, 0));
    ledger.advance(LEASE_MS + 1).await;
    let begun = Instant::now();
    let (longest, storm) = check_all(&ledger).await?;
    let all = begun.elapsed();
    let said = format!(
        "1,000 agents, 10,000 tasks: nothing to do {calm:?}; all lapsed {all:?}, longest {longest} ms"
    );
    writeln!(std::io::stdout(), "{said}").expect("somebody may be listening");
    assert_eq!((storm.lapsed, storm.stale), (1_000, 1_000));
    // The product promises one second in a release build; this one is not.
    assert!(calm < Duration::from_secs(5) && longest < 5_000);
    assert_eq!(ledger.store.write(CHECK).await?.lapsed, 0);
    Ok(())
}

async fn a_task_that_always_loses_its_agent_does_not_stop_the_others(ledger: TestLedger) -> Result<()> {
    let poison = ledger.add(NewTask { priority: 0, ..command("poison") }).await?;
    let others: Vec<_> = [ledger.add(command("one")).await?, ledger.add(command("two")).await?].into();
    for n in 0..3 {
        let taken = ledger.must_take(&format!("agent-{n}")).await?;
        assert_eq!((taken.task.id, taken.task.attempt), (poison, n + 1));
        ledger.advance(LEASE_MS + 1).await;
        assert_eq!(ledger.check().await?.lapsed, 1);
        ledger.advance(2_000).await;
    }
    let story = ledger.story(poison).await?;
    assert_eq!(story.task.state, TaskState::Failed);
    assert_eq!(story.task.reason.as_deref(), Some("no sign of life from agent-2 until its lease ended"));
    assert_eq!(story.attempts.iter().filter(|a| a.outcome.as_deref() == Some("lost")).count(), 3);
    for id in others {
        let taken = ledger.must_take("agent-9").await?;
        assert_eq!(taken.task.id, id);
        ledger.done(&taken).await?;
    }
    Ok(())
}

async fn two_checks_at_once_count_nothing_twice(ledger: TestLedger) -> Result<()> {
    ledger.store.write(Crowd { agents: 150, tasks: 150 }).await?;
    for n in 0..50 {
        ledger.claim(&format!("agent-{n}"), &[&format!("port:{n}")]).await?;
        ledger.add(NewTask { due_in_ms: Some(1_000), ..command("due") }).await?;
    }
    ledger.advance(LEASE_MS + 1).await;
    let other = ledger.again().await;
    let (one, two) = tokio::join!(ledger.store.write(CHECK), other.write(CHECK));
    let (one, two) = (one?, two?);
    assert_eq!(one.lapsed + two.lapsed, 150);
    assert_eq!(one.stale + two.stale, 150);
    assert_eq!(one.due + two.due, 50);
    let kinds = ledger.kinds().await;
    let count = |kind: &str| kinds.iter().filter(|k| *k == kind).count();
    assert_eq!(count("task.lease_expired"), 150);
    assert_eq!(count("agent.stale"), 150);
    assert_eq!(count("task.ready"), 50);
    assert_eq!(count("claim.expired") + count("claim.released"), 50);
    Ok(())
}

async fn after_an_absence_leases_are_not_judged_but_what_is_due_goes_on(ledger: TestLedger) -> Result<()> {
    ledger.add(command("held")).await?;
    ledger.must_take("alpha").await?;
    ledger.add(NewTask { due_in_ms: Some(1_000), ..command("due") }).await?;
    ledger.advance(LEASE_MS * 5).await;
    let checked = ledger.store.write(Check { judge: false, ..CHECK }).await?;
    assert_eq!((checked.lapsed, checked.due), (0, 1));
    assert_eq!(ledger.check().await?.lapsed, 1);
    Ok(())
}

async fn a_check_says_when_the_next_thing_comes_due(ledger: TestLedger) -> Result<()> {
    assert_eq!(ledger.check().await?.next_in_ms, None);
    ledger.claim("alpha", &["src"]).await?;
    ledger.add(NewTask { due_in_ms: Some(10_000), ..command("due") }).await?;
    assert_eq!(ledger.check().await?.next_in_ms, Some(10_000));
    ledger.advance(10_000).await;
    assert_eq!(ledger.check().await?.next_in_ms, Some(50_000), "what was just done is not due again");
    Ok(())
}

async fn what_is_over_and_waits_for_something_else_is_not_due_at_once(ledger: TestLedger) -> Result<()> {
    let checked = NewTask { verify: Some("true".into()), claims: vec!["src".into()], ..command("checked") };
    ledger.add(checked).await?;
    let taken = ledger.must_take("alpha").await?;
    ledger.done(&taken).await?;
    ledger.advance(LEASE_MS * 5).await;
    let after = ledger.check().await?;
    assert_eq!((after.claims, after.next_in_ms), (0, None), "its claim lives as long as its check is due");
    ledger.add(command("held")).await?;
    ledger.must_take("beta").await?;
    ledger.advance(LEASE_MS + 10).await;
    let unjudged = ledger.store.write(Check { judge: false, ..CHECK }).await?;
    assert_eq!((unjudged.lapsed, unjudged.next_in_ms), (0, None), "its lease is not judged now");
    assert_eq!(ledger.check().await?.lapsed, 1);
    Ok(())
}

async fn a_sign_of_life_ends_the_warning(ledger: TestLedger) -> Result<()> {
    let id = ledger.add(command("quiet")).await?;
    let taken = ledger.must_take("alpha").await?;
    let short = Check { stuck_after_ms: LEASE_MS / 2 + 1_000, judge: true };
    ledger.advance(LEASE_MS / 2 + 1_001).await;
    assert_eq!(ledger.store.write(short.clone()).await?.stuck, 1);
    assert_eq!(ledger.store.write(short.clone()).await?.stuck, 0);
    ledger.store.write(Progress { id, term: taken.task.term, percent: Some(10), message: None }).await?;
    assert!(!ledger.story(id).await?.task.stuck);
    ledger.advance(LEASE_MS / 2 + 1_001).await;
    assert_eq!(ledger.store.write(short).await?.stuck, 1);
    assert_eq!(ledger.state(id).await?, TaskState::Running, "it is only a warning");
    Ok(())
}

/// Whichever way it is done: plainly, with claims, with a check.
async fn a_silent_task_that_is_done_after_all_is_no_longer_called_stuck(ledger: TestLedger) -> Result<()> {
    let short = Check { stuck_after_ms: LEASE_MS / 2 + 1_000, judge: true };
    let checked = NewTask { verify: Some("true".into()), ..command("checked") };
    for task in [command("plain"), claiming("claims", &["src"]), checked] {
        let id = ledger.add(task).await?;
        let taken = ledger.must_take("alpha").await?;
        ledger.advance(LEASE_MS / 2 + 1_001).await;
        assert_eq!(ledger.store.write(short.clone()).await?.stuck, 1);
        ledger.done(&taken).await?;
        let task = ledger.story(id).await?.task;
        assert!(!task.stuck, "{} is {}", task.title, task.state);
    }
    Ok(())
}

async fn who_tells_of_life_with_each_renewal_is_not_silent_between_two(ledger: TestLedger) -> Result<()> {
    ledger.add(command("busy")).await?;
    ledger.must_take("alpha").await?;
    let shorter_than_a_renewal = Check { stuck_after_ms: LEASE_MS / 6, judge: true };
    ledger.advance(LEASE_MS / 3).await;
    assert_eq!(ledger.store.write(shorter_than_a_renewal.clone()).await?.stuck, 0);
    ledger.advance(LEASE_MS / 6 + 1).await;
    assert_eq!(ledger.store.write(shorter_than_a_renewal).await?.stuck, 1);
    Ok(())
}

on_every_backend!(
    a_thousand_agents_and_ten_thousand_tasks_are_checked_in_a_moment,
    a_task_that_always_loses_its_agent_does_not_stop_the_others,
    two_checks_at_once_count_nothing_twice,
    after_an_absence_leases_are_not_judged_but_what_is_due_goes_on,
    a_check_says_when_the_next_thing_comes_due,
    what_is_over_and_waits_for_something_else_is_not_due_at_once,
    a_sign_of_life_ends_the_warning,
    a_silent_task_that_is_done_after_all_is_no_longer_called_stuck,
    who_tells_of_life_with_each_renewal_is_not_silent_between_two,
);

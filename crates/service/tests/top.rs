//! What a live screen reads, on both databases: bounded lists that say when they are cut, counts, and the newest events.

use quorate_model::{AgentState, Result, TaskId};
use quorate_service::agent::{Tell, Word};
use quorate_service::event::{After, Filter, Newest, PAGE_MAX};
use quorate_service::task::{NewTask, Park};
use quorate_service::top::{Line, Look, Looked, ROWS_MAX, Tally};
use quorate_store::{Boxed, Tx, Write};
use quorate_testkit::ledger::TestLedger;
use quorate_testkit::on_every_backend;
use quorate_testkit::verbs::{LEASE_MS, begin, claiming, command};

async fn look(ledger: &TestLedger, most: i64) -> Result<Looked> {
    ledger.store.read(Look { most }).await
}

fn ids(lines: &[Line]) -> Vec<i64> {
    lines.iter().map(|line| line.id.0).collect()
}

async fn an_empty_ledger_has_nothing_to_show(ledger: TestLedger) -> Result<()> {
    let looked = look(&ledger, 10).await?;
    assert!(looked.agents.rows.is_empty() && looked.running.rows.is_empty() && looked.failed.rows.is_empty());
    assert_eq!((looked.run, looked.runs), (None, 0));
    assert!(ledger.store.read(Tally).await?.is_empty());
    assert!(ledger.store.read(Newest { limit: 10 }).await?.events.is_empty());
    Ok(())
}

async fn each_task_is_in_the_list_of_its_state(ledger: TestLedger) -> Result<()> {
    ledger.store.write(begin("alpha", "1")).await?;
    ledger.store.write(begin("beta", "1")).await?;
    let held = ledger.add(claiming("holds", &["src"])).await?;
    ledger.must_take("alpha").await?;
    let blocked = ledger.add(claiming("waits", &["src/a.rs"])).await?;
    let fails = ledger.add(NewTask { max_attempts: 1, ..command("fails") }).await?;
    let parked = ledger.add(command("parked")).await?;
    ledger.store.write(Park { id: parked, term: None, reason: "approval".into(), until: None }).await?;
    let taken = ledger.must_take("beta").await?;
    assert_eq!(taken.task.id, fails, "what waits for its claims is passed over");
    ledger.fail(&taken, "exit code 7").await?;

    let looked = look(&ledger, 10).await?;
    assert_eq!(ids(&looked.running.rows), [held.0]);
    assert_eq!(looked.running.rows[0].owner.as_deref(), Some("alpha"));
    assert_eq!(ids(&looked.blocked.rows), [blocked.0]);
    assert!(looked.blocked.rows[0].reason.as_ref().is_some_and(|why| why.contains("alpha")), "{looked:?}");
    assert!(looked.blocked.rows[0].blocked_since.is_some());
    assert_eq!(ids(&looked.failed.rows), [fails.0]);
    assert!(looked.failed.rows[0].reason.as_ref().is_some_and(|why| why.contains("exit code 7")));
    assert_eq!(ids(&looked.parked.rows), [parked.0]);
    assert_eq!(looked.parked.rows[0].reason.as_deref(), Some("approval"));

    let tally: Vec<(String, i64)> = ledger.store.read(Tally).await?;
    let tally: Vec<(&str, i64)> = tally.iter().map(|(state, count)| (state.as_str(), *count)).collect();
    assert_eq!(tally, [("failed", 1), ("parked", 1), ("ready", 1), ("running", 1)]);
    Ok(())
}

async fn the_team_is_told_with_its_states(ledger: TestLedger) -> Result<()> {
    ledger.store.write(begin("beta", "1")).await?;
    ledger.store.write(begin("alpha", "1")).await?;
    ledger.join("gone").await?;
    ledger.store.write(Tell { name: "gone".into(), word: Word::Remove }).await?;
    ledger.add(command("work")).await?;
    let id = ledger.must_take("beta").await?.task.id;
    let looked = look(&ledger, 10).await?;
    let team: Vec<(&str, AgentState, Option<TaskId>)> =
        looked.agents.rows.iter().map(|view| (view.agent.name.as_str(), view.state, view.task)).collect();
    assert_eq!(team, [("alpha", AgentState::Ready, None), ("beta", AgentState::Working, Some(id))]);
    Ok(())
}

async fn a_stuck_task_is_among_the_running_ones_and_marked(ledger: TestLedger) -> Result<()> {
    ledger.add(command("silent")).await?;
    ledger.must_take("alpha").await?;
    ledger.advance(LEASE_MS / 2 + 1).await;
    ledger.check().await?;
    assert!(!look(&ledger, 10).await?.running.rows[0].stuck);
    ledger.store.write(quorate_service::health::Check { stuck_after_ms: 10_000, judge: true }).await?;
    assert!(look(&ledger, 10).await?.running.rows[0].stuck);
    Ok(())
}

async fn the_newest_run_is_named_and_all_that_go_on_are_counted(ledger: TestLedger) -> Result<()> {
    ledger.start(vec![NewTask { key: Some("a".into()), ..command("a") }]).await?;
    let (second, _) = ledger.start(vec![NewTask { key: Some("b".into()), ..command("b") }]).await?;
    let looked = look(&ledger, 10).await?;
    assert_eq!((looked.run, looked.runs), (Some((second, "a goal".to_owned())), 2));
    Ok(())
}

/// Makes many agents and failed tasks.
struct Many(i64);

impl Write for Many {
    type Answer = ();

    fn apply<'a>(&'a self, tx: &'a mut Tx) -> Boxed<'a, ()> {
        Box::pin(async move {
            tx.run(
                "with recursive n (i) as (select 1 union all select i + 1 from n where i < $1)
                 insert into agents (name, driver, created_at) select 'agent-' || i, 'external', now_ms() from n",
                quorate_store::args![self.0],
            )
            .await?;
            tx.run(
                "with recursive n (i) as (select 1 union all select i + 1 from n where i < $1)
                 insert into tasks (title, state, max_attempts, created_at) select 'x', 'failed', 1, now_ms() from n",
                quorate_store::args![self.0],
            )
            .await?;
            Ok(())
        })
    }
}

async fn a_list_that_is_cut_says_so(ledger: TestLedger) -> Result<()> {
    ledger.store.write(Many(3)).await?;
    let three = look(&ledger, 3).await?;
    assert_eq!((three.agents.rows.len(), three.agents.is_cut), (3, false));
    let two = look(&ledger, 2).await?;
    assert_eq!((two.agents.rows.len(), two.agents.is_cut), (2, true));
    assert_eq!((ids(&two.failed.rows), two.failed.is_cut), (vec![3, 2], true), "the newest first");
    assert_eq!(look(&ledger, 0).await?.agents.rows.len(), 1, "at least one");
    Ok(())
}

async fn no_list_is_longer_than_the_limit(ledger: TestLedger) -> Result<()> {
    ledger.store.write(Many(ROWS_MAX)).await?;
    let looked = look(&ledger, i64::MAX).await?;
    assert_eq!((looked.agents.rows.len() as i64, looked.agents.is_cut), (ROWS_MAX, false));
    ledger.join("one-more").await?;
    ledger.add(command("x")).await?;
    let looked = look(&ledger, i64::MAX).await?;
    assert_eq!((looked.agents.rows.len() as i64, looked.agents.is_cut), (ROWS_MAX, true));
    assert_eq!((looked.failed.rows.len() as i64, looked.failed.is_cut), (ROWS_MAX, false));
    Ok(())
}

async fn failed_tasks_of_long_ago_are_passed_over(ledger: TestLedger) -> Result<()> {
    ledger.store.write(Many(20_000)).await?;
    assert_eq!(look(&ledger, i64::MAX).await?.failed.rows.last().map(|line| line.id.0), Some(18_001));
    // Twenty thousand later ones, of which none has failed, stand before them.
    struct Later;
    impl Write for Later {
        type Answer = ();
        fn apply<'a>(&'a self, tx: &'a mut Tx) -> Boxed<'a, ()> {
            Box::pin(async move {
                let sql = "with recursive n (i) as (select 1 union all select i + 1 from n where i < 19999)
                           insert into tasks (title, state, max_attempts, created_at)
                           select 'x', 'completed', 1, now_ms() from n";
                tx.run(sql, &[]).await.map(drop)
            })
        }
    }
    ledger.store.write(Later).await?;
    assert_eq!(ids(&look(&ledger, 10).await?.failed.rows), [20_000]);
    ledger.add(command("one more")).await?;
    assert!(look(&ledger, 10).await?.failed.rows.is_empty());
    Ok(())
}

async fn the_newest_events_come_in_order_and_lead_on(ledger: TestLedger) -> Result<()> {
    for n in 0..5 {
        ledger.add(command(&format!("task {n}"))).await?;
    }
    let all = ledger.events().await;
    let page = ledger.store.read(Newest { limit: 3 }).await?;
    let seqs: Vec<i64> = page.events.iter().map(|event| event.seq.0).collect();
    let expected: Vec<i64> = all[all.len() - 3..].iter().map(|event| event.seq.0).collect();
    assert_eq!(seqs, expected);
    assert!(page.seen >= all[all.len() - 1].seq);
    ledger.add(command("later")).await?;
    let written = ledger.events().await.len();
    let after = After { seq: Some(page.seen), filter: Filter::default(), limit: PAGE_MAX };
    assert_eq!(ledger.store.read(after).await?.events.len(), written - all.len(), "none missed, none twice");
    Ok(())
}

/// Makes a team at work among many tasks, of which the database knows no figures yet.
struct Crowd;

impl Write for Crowd {
    type Answer = ();

    fn apply<'a>(&'a self, tx: &'a mut Tx) -> Boxed<'a, ()> {
        Box::pin(async move {
            tx.run(
                "with recursive n (i) as (select 1 union all select i + 1 from n where i < 1000)
                 insert into agents (name, driver, created_at) select 'agent-' || i, 'external', now_ms() from n",
                &[],
            )
            .await?;
            tx.run(
                "with recursive n (i) as (select 1 union all select i + 1 from n where i < 30000)
                 insert into tasks (title, state, max_attempts, owner, lease_until, created_at)
                 select 'x', case when i <= 1000 then 'running' else 'completed' end, 1, 'agent-' || i,
                        case when i <= 1000 then now_ms() + 60000 end, now_ms() from n",
                &[],
            )
            .await
            .map(drop)
        })
    }
}

/// A look that went through all tasks for each agent would take hundreds of times as long as one count of all tasks.
async fn a_look_does_not_go_through_all_tasks_for_each_agent(ledger: TestLedger) -> Result<()> {
    ledger.store.write(Crowd).await?;
    let begun = std::time::Instant::now();
    ledger.store.read(Tally).await?;
    let count = begun.elapsed();
    let begun = std::time::Instant::now();
    let looked = look(&ledger, ROWS_MAX).await?;
    let took = begun.elapsed();
    assert_eq!((looked.agents.rows.len(), looked.running.rows.len()), (1_000, 1_000));
    assert!(looked.agents.rows.iter().all(|view| view.state == AgentState::Working && view.task.is_some()));
    assert!(took < count * 30 + std::time::Duration::from_millis(500), "{took:?}, a count takes {count:?}");
    Ok(())
}

on_every_backend! {
    a_look_does_not_go_through_all_tasks_for_each_agent,
    an_empty_ledger_has_nothing_to_show,
    each_task_is_in_the_list_of_its_state,
    the_team_is_told_with_its_states,
    a_stuck_task_is_among_the_running_ones_and_marked,
    the_newest_run_is_named_and_all_that_go_on_are_counted,
    a_list_that_is_cut_says_so,
    no_list_is_longer_than_the_limit,
    failed_tasks_of_long_ago_are_passed_over,
    the_newest_events_come_in_order_and_lead_on,
}

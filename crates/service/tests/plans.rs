//! Plans on PostgreSQL: a statement is planned while its tables are empty and used when they are full. What meets each row
//! of a table then is noticed here.

use quorate_model::Result;
use quorate_service::event::{After, Filter, Latest};
use quorate_service::task::{Add, Done, Held, NewTask, Progress, Renew};
use quorate_store::Store;
use quorate_testkit::ledger::{Backend, TestLedger};
use quorate_testkit::verbs::{LEASE_MS, claiming, command, next_of};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio_postgres::Client;

/// Tasks that are there when it counts; each has an event, most of them have an attempt that has ended.
const ROWS: i64 = 3_000;
/// Rounds of work before, so that every connection has its plans, and as many after.
const ROUNDS: i64 = 6;
/// Those who ask for work at the same moment.
const AT_ONCE: usize = 8;
/// What one round may meet of a table: some rows for each of its operations, far fewer than there are. It meets 140 of the tasks,
/// and up to 250 where others on the server keep what was taken from being forgotten.
const MET_MAX: i64 = 500;

/// One of each operation that is called again and again while work goes on.
async fn round(store: &Store, node: &str) -> Result<()> {
    let mut tasks: Vec<NewTask> = (0..AT_ONCE).map(|n| command(&format!("task {n}"))).collect();
    tasks.push(claiming("claims", &["port:1"]));
    tasks.push(NewTask { needs_new: vec![0, 1], ..command("needs two") });
    tasks.push(NewTask { needs_new: vec![8], ..claiming("needs one that claims", &["port:2"]) });
    store.write(Add { run: None, tasks, by: None }).await?;
    let mut workers = JoinSet::new();
    for n in 0..AT_ONCE {
        workers.spawn(work(store.clone(), node.to_owned(), format!("agent-{n}")));
    }
    for worked in workers.join_all().await {
        worked?;
    }
    for _ in 0..3 {
        work(store.clone(), node.to_owned(), "agent-0".into()).await?;
    }
    let end = store.read(Latest).await?;
    store.read(After { seq: Some(end), filter: Filter::default(), limit: 100 }).await?;
    Ok(())
}

async fn work(store: Store, node: String, agent: String) -> Result<()> {
    let Some(taken) = store.write(next_of(&agent)).await?.task() else { return Ok(()) };
    let (id, term) = (taken.task.id, taken.task.term);
    store.write(Progress { id, term, percent: Some(50), message: None }).await?;
    let held = vec![Held { id, term, active: true }];
    store.write(Renew { held, agents: vec![agent], node, lease_ms: LEASE_MS }).await?;
    store.write(Done { id, term, result: None, tail: None }).await?;
    Ok(())
}

/// What was met of each table so far: rows of it, and entries of its indexes.
async fn met(client: &Client) -> Vec<(String, i64)> {
    let sql = "select t.relname, t.seq_tup_read::bigint + coalesce(sum(i.idx_tup_read), 0)::bigint
                 from pg_stat_user_tables t left join pg_stat_user_indexes i using (relid)
                where t.schemaname = current_schema()
                  and t.relname in ('tasks', 'attempts', 'events', 'task_needs', 'claims', 'agents') group by t.relid, t.relname, t.seq_tup_read";
    client.query(sql, &[]).await.expect("asks").iter().map(|row| (row.get(0), row.get(1))).collect()
}

/// Rows as old work leaves them; nobody tells the server's planner of them.
async fn fill(client: &Client) {
    let sql = format!(
        "with t as (
             insert into tasks (title, state, run, max_attempts, attempt, term, created_at, finished_at, ready_at)
             select 'old', 'completed', 'true', 1, 1, 1, now_ms(), now_ms(), now_ms() from generate_series(1, {ROWS})
             returning id),
         a as (
             insert into attempts (task_id, number, term, agent, started_at, ended_at, outcome)
             select id, 1, 1, 'ada', now_ms(), now_ms(), 'completed' from t),
         n as (insert into task_needs (task_id, needs_id) select id, id - 1 from t where id > (select min(id) from t))
         insert into events (seq, at, kind, task_id, message)
         select log_place((select era from log_era)), log_time(), 'task.completed', id, 'task ' || id from t"
    );
    client.batch_execute(&sql).await.expect("fills");
}

#[tokio::test]
async fn what_was_planned_on_an_empty_ledger_meets_only_its_rows_on_a_full_one() -> Result<()> {
    let ledger = TestLedger::new(Backend::Pg).await;
    let client = ledger.client().await;
    client
        .batch_execute("vacuum analyze tasks, events, attempts, claims, task_needs, agents")
        .await
        .expect("knows");
    ledger.store.read(Latest).await?;
    work(ledger.store.clone(), "1".into(), "agent-0".into()).await?;
    for _ in 0..ROUNDS {
        round(&ledger.store, "1").await?;
    }
    fill(&client).await;
    for _ in 0..ROUNDS {
        round(&ledger.store, "1").await?;
    }
    let added = ROWS + 2 * ROUNDS * (AT_ONCE as i64 + 3);
    let most = 2 * ROUNDS * MET_MAX;
    for (table, rows) in told(ledger, &client, added).await {
        assert!(rows <= most, "{rows} rows of {table} were met, more than {most}");
    }
    Ok(())
}

/// Ends the ledger's connections and waits until the server has counted what they did.
async fn told(ledger: TestLedger, client: &Client, added: i64) -> Vec<(String, i64)> {
    drop(ledger.store);
    let sql = "select sum(n_tup_ins) filter (where relname = 'tasks')::bigint,
                      sum(seq_scan + idx_scan) filter (where relname = 'events')::bigint
                 from pg_stat_user_tables where schemaname = current_schema()";
    for _ in 0..600 {
        let row = client.query_one(sql, &[]).await.expect("asks");
        // Each round looks at the log's end twice, and once at what came before it.
        if row.get::<_, i64>(0) == added && row.get::<_, i64>(1) > 6 * ROUNDS {
            return met(client).await;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the server has counted what was done within 30 s");
}

//! apalis with apalis-sqlite, on connections of our own with `synchronous = full`: its own setup would turn that off.

use anyhow::{Result, anyhow};
use apalis::prelude::*;
use apalis_sqlite::{Config, SqlitePool, SqliteStorage};
use quorate_peers::{asked, drained, given, say, setting, woken};
use serde::{Deserialize, Serialize};
use sqlx9::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use std::sync::OnceLock;
use std::time::{Duration, Instant};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

static TOLD: OnceLock<UnboundedSender<Instant>> = OnceLock::new();

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Nothing {
    id: i64,
}

async fn nothing(job: Nothing) -> Result<(), BoxDynError> {
    if job.id < 0
        && let Some(told) = TOLD.get()
    {
        let _ = told.send(Instant::now());
    }
    Ok(())
}

async fn open() -> Result<SqlitePool> {
    let options = SqliteConnectOptions::new()
        .filename(format!("{}/apalis.db", given("PEERS_DIR")?))
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(Duration::from_secs(10));
    let pool = SqlitePoolOptions::new().max_connections(setting("PEERS_CONNECTIONS", 4)?);
    Ok(pool.connect_with(options).await?)
}

#[tokio::main]
async fn main() -> Result<()> {
    let asked = asked()?;
    let pool = open().await?;
    SqliteStorage::migrations().run(&pool).await?;
    let config = Config::default().queue("nothing").batch_size(setting("PEERS_BATCH", 100)?);
    let storage = || SqliteStorage::<Nothing>::new(&pool).with_config(config.clone());
    let mut door = storage();

    let ids: Vec<i64> = (0..asked.tasks).collect();
    let began = Instant::now();
    for some in ids.chunks(1_000) {
        let jobs = some.iter().map(|id| Nothing { id: *id }).collect();
        door.push_bulk(jobs).await.map_err(|e| anyhow!("{e:?}"))?;
    }
    say("add", asked.tasks as f64 / began.elapsed().as_secs_f64(), vec![]);

    // A job's time to run has whole seconds and must lie in the past.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let (told, mut heard) = unbounded_channel();
    TOLD.set(told).map_err(|_| anyhow!("set twice"))?;
    let began = Instant::now();
    let worker = WorkerBuilder::new("worker").backend(storage()).concurrency(asked.slots);
    let running = tokio::spawn(worker.build(nothing).run());
    let left = "select count(*) from Jobs where status <> 'Done'";
    let rate = drained(asked.tasks, began, async || Ok(sqlx9::query_scalar(left).fetch_one(&pool).await?));
    say("drain", rate.await?, vec![]);

    let latencies = woken(asked.wakes, &mut heard, async || {
        door.push(Nothing { id: -1 }).await.map_err(|e| anyhow!("{e:?}"))
    });
    say("wake", 0.0, latencies.await?);
    running.abort();
    Ok(())
}

//! apalis with apalis-postgres: jobs are fetched in batches and told of by `NOTIFY`.

use anyhow::{Result, anyhow};
use apalis::prelude::*;
use apalis_postgres::{Config, PgPool, PostgresStorage};
use quorate_peers::{asked, drained, given, say, setting, woken};
use serde::{Deserialize, Serialize};
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

#[tokio::main]
async fn main() -> Result<()> {
    let (url, asked) = (given("PEERS_URL")?, asked()?);
    let batch: usize = setting("PEERS_BATCH", 100)?;
    let pool = PgPool::connect(&url).await?;
    PostgresStorage::<()>::setup(&pool).await?;
    let config = Config::default().queue("nothing").batch_size(batch);
    let storage = || PostgresStorage::<Nothing>::new(&pool).with_config(config.clone());
    let mut door = storage();

    let ids: Vec<i64> = (0..asked.tasks).collect();
    let began = Instant::now();
    for some in ids.chunks(1_000) {
        let jobs = some.iter().map(|id| Nothing { id: *id }).collect();
        door.push_bulk(jobs).await.map_err(|e| anyhow!("{e:?}"))?;
    }
    say("add", asked.tasks as f64 / began.elapsed().as_secs_f64(), vec![]);

    let looking = sqlx8::PgPool::connect(&url).await?;
    sqlx8::query("analyze").execute(&looking).await?;
    // A job's time to run has whole seconds and must lie in the past.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let (told, mut heard) = unbounded_channel();
    TOLD.set(told).map_err(|_| anyhow!("set twice"))?;
    let began = Instant::now();
    let worker = WorkerBuilder::new("worker").backend(storage().with_pubsub()).concurrency(asked.slots);
    let running = tokio::spawn(worker.build(nothing).run());
    let left = "select count(*) from apalis.jobs where status <> 'Done'";
    let rate = drained(asked.tasks, began, async || Ok(sqlx8::query_scalar(left).fetch_one(&looking).await?));
    say("drain", rate.await?, vec![]);

    let latencies = woken(asked.wakes, &mut heard, async || {
        door.push(Nothing { id: -1 }).await.map_err(|e| anyhow!("{e:?}"))
    });
    say("wake", 0.0, latencies.await?);
    running.abort();
    Ok(())
}

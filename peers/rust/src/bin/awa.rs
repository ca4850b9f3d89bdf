//! awa with its defaults.

use anyhow::Result;
use awa::{Client, InsertOpts, JobArgs, JobResult, QueueConfig};
use quorate_peers::{asked, drained, given, say, woken};
use serde::{Deserialize, Serialize};
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::mpsc::unbounded_channel;

/// Jobs that were handled: awa has no plain table that says how many are left.
static HANDLED: AtomicI64 = AtomicI64::new(0);

#[derive(Debug, Serialize, Deserialize, JobArgs)]
struct Nothing {
    id: i64,
}

fn options() -> InsertOpts {
    InsertOpts { queue: "nothing".into(), ..Default::default() }
}

#[tokio::main]
async fn main() -> Result<()> {
    let (url, asked) = (given("PEERS_URL")?, asked()?);
    let pool = sqlx8::postgres::PgPoolOptions::new().max_connections(20).connect(&url).await?;
    awa::migrations::run(&pool).await?;

    let ids: Vec<i64> = (0..asked.tasks).collect();
    let began = Instant::now();
    for some in ids.chunks(1_000) {
        let jobs = some.iter().map(|id| awa::insert::params_with(&Nothing { id: *id }, options()));
        awa::insert_many_copy_from_pool(&pool, &jobs.collect::<Result<Vec<_>, _>>()?).await?;
    }
    say("add", asked.tasks as f64 / began.elapsed().as_secs_f64(), vec![]);

    sqlx8::query("analyze").execute(&pool).await?;
    let (told, mut heard) = unbounded_channel();
    let handle = move |job: Nothing| {
        HANDLED.fetch_add(1, Ordering::Relaxed);
        if job.id < 0 {
            let _ = told.send(Instant::now());
        }
    };
    let began = Instant::now();
    let queue = QueueConfig { max_workers: asked.slots as u32, ..Default::default() };
    let client = Client::builder(pool.clone())
        .queue("nothing", queue)
        .register::<Nothing, _, _>(move |job: Nothing, _| {
            handle(job);
            async { Ok(JobResult::Completed) }
        })
        .build()?;
    client.start().await?;
    let rate = drained(asked.tasks, began, async || Ok(asked.tasks - HANDLED.load(Ordering::Relaxed)));
    say("drain", rate.await?, vec![]);

    let latencies = woken(asked.wakes, &mut heard, async || {
        awa::insert_with(&pool, &Nothing { id: -1 }, options()).await?;
        Ok(())
    });
    say("wake", 0.0, latencies.await?);
    client.shutdown(Duration::from_secs(5)).await;
    Ok(())
}

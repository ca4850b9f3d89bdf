//! graphile_worker: jobs are fetched into a local queue and their ends are batched, the fastest of its settings.

use anyhow::Result;
use graphile_worker::{
    IntoTaskHandlerResult, JobSpec, LocalQueueConfig, RawJobSpec, TaskHandler, WorkerContext, WorkerOptions,
};
use quorate_peers::{asked, drained, given, say, setting, woken};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

#[derive(Debug, Clone)]
struct Told(UnboundedSender<Instant>);

#[derive(Serialize, Deserialize)]
struct Nothing {
    id: i64,
}

impl TaskHandler for Nothing {
    const IDENTIFIER: &'static str = "nothing";

    async fn run(self, context: WorkerContext) -> impl IntoTaskHandlerResult {
        if self.id < 0
            && let Some(told) = context.get_ext::<Told>()
        {
            let _ = told.0.send(Instant::now());
        }
        Ok::<(), String>(())
    }
}

fn job(id: i64) -> RawJobSpec {
    let payload = serde_json::json!({ "id": id });
    RawJobSpec { identifier: Nothing::IDENTIFIER.into(), payload, spec: JobSpec::default() }
}

#[tokio::main]
async fn main() -> Result<()> {
    let (url, asked) = (given("PEERS_URL")?, asked()?);
    let delay = Duration::from_millis(setting("PEERS_DELAY_MS", 0)?);
    let (told, mut heard) = unbounded_channel();
    let options = WorkerOptions::default()
        .database_url(&url)
        .max_pg_conn(asked.slots as u32 + 2)
        .schema("graphile_worker")
        .concurrency(asked.slots)
        .add_extension(Told(told))
        .local_queue(LocalQueueConfig::default().with_size(setting("PEERS_BATCH", 500)?))
        .complete_job_batch_delay(delay)
        .fail_job_batch_delay(delay)
        .define_job::<Nothing>();
    let worker = Arc::new(options.init().await?);
    let utils = worker.create_utils();

    let jobs: Vec<RawJobSpec> = (0..asked.tasks).map(job).collect();
    let began = Instant::now();
    for some in jobs.chunks(1_000) {
        utils.add_raw_jobs(some).await?;
    }
    say("add", asked.tasks as f64 / began.elapsed().as_secs_f64(), vec![]);

    let pool = sqlx8::PgPool::connect(&url).await?;
    sqlx8::query("analyze").execute(&pool).await?;
    let began = Instant::now();
    let runs = Arc::clone(&worker);
    let running = tokio::spawn(async move { runs.run().await });
    let left = "select count(*) from graphile_worker._private_jobs";
    let rate = drained(asked.tasks, began, async || Ok(sqlx8::query_scalar(left).fetch_one(&pool).await?));
    say("drain", rate.await?, vec![]);

    let latencies = woken(asked.wakes, &mut heard, async || {
        utils.add_raw_job(Nothing::IDENTIFIER, serde_json::json!({ "id": -1 }), JobSpec::default()).await?;
        Ok(())
    });
    say("wake", 0.0, latencies.await?);
    worker.request_shutdown();
    let _ = tokio::time::timeout(Duration::from_secs(5), running).await;
    Ok(())
}

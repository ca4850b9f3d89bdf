//! A snapshot that somebody holds open: what PostgreSQL cannot clean up meanwhile must not slow the queue down.

use super::Size;
use quorate_measure::database::Database;
use quorate_measure::load::{Call, Caller};
use quorate_measure::operation::{Operation, Rows};
use quorate_measure::ours::Ours;
use quorate_measure::seed;
use quorate_measure::table::{Figure, Limit};
use quorate_model::Result;
use quorate_store::Url;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::task::JoinSet;

/// Callers that add, take and complete.
const CALLERS: i64 = 8;
/// Ready tasks at any time.
const READY: i64 = 1_000;
/// How long it goes undisturbed, and how long the snapshot is held, in seconds.
const FREE: u64 = 10;
const HELD: u64 = 60;
/// The part at the end that counts.
const PART: u64 = 10;

/// Works at a queue of constant length, first freely, then beside a held snapshot.
pub(super) async fn measure(database: &Database, size: Size) -> Result<Vec<Figure>> {
    let filled = database.fill(Rows::Ready(READY)).await?;
    let Url::Pg(url) = &filled.url else { return Ok(Vec::new()) };
    let (stop, cycles) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut callers = JoinSet::new();
    let adders = Ours::callers(&filled.store, Operation::Enqueue, CALLERS, READY);
    let workers = Ours::callers(&filled.store, Operation::Cycle, CALLERS, READY);
    for (mut adder, mut worker) in adders.into_iter().zip(workers) {
        let (stop, cycles) = (Arc::clone(&stop), Arc::clone(&cycles));
        callers.spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                adder.call().await?;
                worker.call().await?;
                cycles.fetch_add(1, Ordering::Relaxed);
            }
            // What is left: nothing may have been forgotten.
            while worker.call().await? == Call::Done {}
            Ok(())
        });
    }
    let free = rate(&cycles, size.of(FREE)).await;
    let holder = seed::connect(url).await?;
    let begin = "begin isolation level repeatable read; select now()";
    holder.batch_execute(begin).await.map_err(|e| seed::pg_failed(&e))?;
    tokio::time::sleep(Duration::from_secs(size.of(HELD) - size.of(PART))).await;
    let last = rate(&cycles, size.of(PART)).await;
    holder.batch_execute("rollback").await.map_err(|e| seed::pg_failed(&e))?;
    stop.store(true, Ordering::Relaxed);
    callers.join_all().await.into_iter().collect::<Result<()>>()?;
    let left = database.left(&filled, "ready").await? + database.left(&filled, "running").await?;
    let name = database.name();
    let held = size.of(HELD);
    Ok(vec![
        Figure::new(name, format!("held: add+claim+complete, {CALLERS} callers, free"), free, "/s"),
        Figure::new(name, format!("the same after a snapshot was held {held} s"), last, "/s"),
        Figure::new(name, "held: share of the free speed", 100.0 * last / free, "%")
            .limit(Limit::AtLeast(75.0)),
        Figure::new(name, "held: tasks left behind", left as f64, "").limit(Limit::AtMost(0.0)),
    ])
}

async fn rate(cycles: &AtomicU64, seconds: u64) -> f64 {
    let (before, at) = (cycles.load(Ordering::Relaxed), std::time::Instant::now());
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    (cycles.load(Ordering::Relaxed) - before) as f64 / at.elapsed().as_secs_f64()
}

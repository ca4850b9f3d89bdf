//! Queues: working off a full one, filling one, and the way from an enqueued task to an idle agent.

use super::{Here, Size};
use quorate_measure::database::Database;
use quorate_measure::disk::Disk;
use quorate_measure::load::Timing;
use quorate_measure::operation::{Operation, Rows};
use quorate_measure::ours::Ours;
use quorate_measure::samples::Samples;
use quorate_measure::table::{Figure, Limit};
use quorate_model::Result;
use quorate_model::config::Limits;
use quorate_service::SCHEMA;
use quorate_service::task::{Add, Done, Kinds, NewTask, Take, Work};
use quorate_store::{Options, Store};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// Tasks of a full queue.
const QUEUE: i64 = 50_000;
/// Who work it off.
const SLOTS: i64 = 10;
/// Tasks that a slot takes at the same moment where it takes many.
const BATCH: usize = 100;
/// Tasks added with one call, and calls.
const AT_ONCE: usize = 1_000;
const CALLS: u32 = 50;
/// Tasks that an idle agent hears of.
const WOKEN: u32 = 300;
/// The pause before each.
const PAUSE: Duration = Duration::from_millis(20);

/// Ten slots work off a full queue of no-ops: each takes and completes one at a time, or many at once as those queues do
/// that are quickest.
pub(super) async fn drain(database: &Database, size: Size) -> Result<Vec<Figure>> {
    let count = size.of(QUEUE);
    // As long as the drain itself: a disk that is written to for long is not that of the first seconds.
    let timing = Timing { cell: size.timing.cell * 4, ..size.timing };
    let before = database.raw(Operation::Cycle, SLOTS, timing).await?;
    let single = drained(database, count, 1).await?;
    let after = database.raw(Operation::Cycle, SLOTS, timing).await?;
    let raw = before.with(&after).per_second();
    let batched = drained(database, count, BATCH).await?;
    let name = database.name();
    Ok(vec![
        Figure::new(name, format!("drain of {count} tasks by {SLOTS} slots"), single, "/s")
            .note(format!("the database alone, one at a time: {raw:.0}/s")),
        Figure::new(name, "drain, share of the database alone", 100.0 * single / raw, "%")
            .limit(Limit::AtLeast(80.0)),
        Figure::new(name, format!("the same, each slot {BATCH} at once"), batched, "/s"),
    ])
}

/// Returns the tasks a second.
async fn drained(database: &Database, count: i64, batch: usize) -> Result<f64> {
    let filled = database.fill(Rows::Ready(count)).await?;
    let at = Instant::now();
    let mut slots = JoinSet::new();
    for slot in Ours::callers(&filled.store, Operation::Cycle, SLOTS, count) {
        slots.spawn(async move {
            while slot.cycles(batch).await? > 0 {}
            Ok(())
        });
    }
    slots.join_all().await.into_iter().collect::<Result<()>>()?;
    let rate = count as f64 / at.elapsed().as_secs_f64();
    filled.end().await;
    Ok(rate)
}

fn task() -> NewTask {
    NewTask { work: Some(Work::Run("true".to_owned())), ..NewTask::new("Measure one thing") }
}

/// Tasks are added a thousand with each call.
pub(super) async fn bulk(database: &Database, size: Size) -> Result<Vec<Figure>> {
    let calls = size.of(CALLS);
    let rate = |took: Duration| f64::from(calls) * AT_ONCE as f64 / took.as_secs_f64();
    let before = rate(database.raw_bulk(calls).await?);
    let filled = database.fill(Rows::Team).await?;
    let at = Instant::now();
    for _ in 0..calls {
        let tasks = (0..AT_ONCE).map(|_| task()).collect();
        filled.store.write(Add { run: None, tasks, by: None }).await?;
    }
    let ours = rate(at.elapsed());
    filled.end().await;
    let after = rate(database.raw_bulk(calls).await?);
    let name = format!("tasks added, {AT_ONCE} a call");
    let note = format!("the database alone, with two statements: {:.0}/s", (before + after) / 2.0);
    Ok(vec![Figure::new(database.name(), name, ours, "/s").limit(Limit::AtLeast(50_000.0)).note(note)])
}

/// One adds a task now and then, another waits for it, each with a door of its own, as in two processes. In between the disk
/// alone writes twice, as the two commits of such a round do.
pub(super) async fn wake(database: &Database, here: Here<'_>, size: Size) -> Result<Vec<Figure>> {
    let mut disk = Disk::open(here.folder).map_err(|e| no_disk(&e))?;
    let filled = database.fill(Rows::Team).await?;
    let waiting = Store::open(&filled.url, Options::new(&SCHEMA)).await?;
    let (told, mut heard) = tokio::sync::mpsc::channel(16);
    let waiter = tokio::spawn(async move {
        let mut changes = waiting.changes();
        loop {
            match waiting.write(next()).await?.task() {
                Some(taken) => {
                    if told.send(Instant::now()).await.is_err() {
                        return Ok(());
                    }
                    let done = Done { id: taken.task.id, term: taken.task.term, result: None, tail: None };
                    waiting.write(done).await?;
                }
                None if told.is_closed() => return Ok::<(), quorate_model::Error>(()),
                None => changes.wait(Duration::from_secs(1)).await,
            }
        }
    });
    let (mut nanos, mut raw) = (Vec::new(), Vec::new());
    for _ in 0..size.of(WOKEN) {
        tokio::time::sleep(PAUSE).await;
        raw.push(tokio::task::block_in_place(|| disk.twice()).map_err(|e| no_disk(&e))?);
        tokio::time::sleep(PAUSE).await;
        let at = Instant::now();
        filled.store.write(Add { run: None, tasks: vec![task()], by: None }).await?;
        let Some(taken) = heard.recv().await else { break };
        nanos.push(u64::try_from((taken - at).as_nanos()).unwrap_or(u64::MAX));
    }
    drop(heard);
    waiter.await.map_err(|e| quorate_model::Error::failed(format!("the waiter: {e}")))??;
    let [samples, raw] = [nanos, raw].map(|nanos| Samples::new(nanos, Duration::from_secs(1)));
    let [note, tail_note] = [raw.p50_ms(), raw.p99_ms()].map(|ms| format!("the disk alone {ms:.2}"));
    // As in the table of single calls: where the disk itself holds up one in a hundred, half as much again is allowed.
    let tail = (1.5 * raw.p99_ms()).ceil().max(10.0);
    let name = database.name();
    Ok(vec![
        Figure::new(name, "wake: call to add -> taken elsewhere, p50", samples.p50_ms(), "ms")
            .limit(Limit::AtMost(3.0))
            .note(note),
        Figure::new(name, "wake, p99", samples.p99_ms(), "ms").limit(Limit::AtMost(tail)).note(tail_note),
    ])
}

fn no_disk(error: &std::io::Error) -> quorate_model::Error {
    quorate_model::Error::failed(format!("cannot probe the disk: {error}"))
}

fn next() -> Take {
    Take {
        agent: "agent-0".to_owned(),
        capabilities: None,
        kinds: Kinds::Any,
        run: None,
        lease_ms: 60_000,
        node: Some("1".to_owned()),
        resume: false,
        limits: Limits::default(),
    }
}

//! Following the log: a hundred at once, while much happens.

use super::Size;
use quorate_measure::clock;
use quorate_measure::database::Database;
use quorate_measure::operation::Rows;
use quorate_measure::samples::Samples;
use quorate_measure::table::{Figure, Limit};
use quorate_model::{Error, Result, Seq};
use quorate_server::{Follower, Tail};
use quorate_service::SCHEMA;
use quorate_service::event::{Filter, Latest};
use quorate_service::task::{Add, NewTask};
use quorate_store::{Options, Store};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// Who follow.
const FOLLOWERS: usize = 100;
/// Events a second, and how many are written together.
const EVENTS: usize = 5_000;
const AT_ONCE: usize = 25;
/// How long, in seconds.
const LASTS: u64 = 10;
/// How long the followers have to see the end.
const PATIENCE: Duration = Duration::from_secs(60);

/// Writes at a constant rate and measures how far the followers are behind, by the ledger's clock.
pub(super) async fn measure(database: &Database, size: Size) -> Result<Vec<Figure>> {
    let filled = database.fill(Rows::Team).await?;
    // One process follows, another writes.
    let door = Store::open(&filled.url, Options::new(&SCHEMA)).await?;
    let tail = Tail::begin(door.clone()).await?;
    let begin = door.read(Latest).await?;
    let seconds = size.of(LASTS).max(2);
    let count = EVENTS * usize::try_from(seconds).unwrap_or(1);
    let mut followers = JoinSet::new();
    for _ in 0..FOLLOWERS {
        followers.spawn(follow(tail.follow(Some(begin), Filter::default()), count));
    }
    let (writer, at) = (filled.store.clone(), Instant::now());
    for n in 0..count / AT_ONCE {
        let due = Duration::from_secs_f64((n * AT_ONCE) as f64 / EVENTS as f64);
        tokio::time::sleep(due.saturating_sub(at.elapsed())).await;
        let tasks = (0..AT_ONCE).map(|_| NewTask::new("Measure one thing")).collect();
        writer.write(Add { run: None, tasks, by: None }).await?;
    }
    let rate = count as f64 / at.elapsed().as_secs_f64();
    let mut nanos = Vec::new();
    for each in followers.join_all().await {
        nanos.extend(each?);
    }
    let missed = count * FOLLOWERS - nanos.len().min(count * FOLLOWERS);
    let samples = Samples::new(nanos, Duration::from_secs(seconds));
    let name = database.name();
    Ok(vec![
        Figure::new(name, format!("{FOLLOWERS} followers, behind at p99"), samples.p99_ms(), "ms")
            .limit(Limit::Below(50.0))
            .note(format!("at {rate:.0} events/s; p50 {:.0}, max {:.0}", samples.p50_ms(), samples.max_ms())),
        Figure::new(name, "events missed by a follower", missed as f64, "").limit(Limit::AtMost(0.0)),
    ])
}

/// Reads on until so many events were seen; answers with how old each was.
async fn follow(mut follower: Follower, count: usize) -> Result<Vec<u64>> {
    let (mut nanos, mut last) = (Vec::with_capacity(count), Seq(-1));
    let end = Instant::now() + PATIENCE;
    while nanos.len() < count {
        let Ok(events) = tokio::time::timeout(end - Instant::now(), follower.next()).await else { break };
        let now = clock::now_ms();
        for event in events? {
            if event.seq <= last {
                return Err(Error::failed(format!("a follower saw event {} twice", event.seq)));
            }
            nanos.push(u64::try_from(now - event.at).unwrap_or(0) * 1_000_000);
            last = event.seq;
        }
    }
    Ok(nanos)
}

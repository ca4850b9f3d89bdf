//! Large single operations: a run of ten thousand tasks, the health of a thousand agents.
//!
//! Here live those that are measured by wall time, a few times each.

use quorate_measure::database::{Database, Filled};
use quorate_measure::operation::Rows;
use quorate_measure::samples::Samples;
use quorate_measure::table::{Figure, Limit};
use quorate_model::Result;
use quorate_service::health::Check;
use quorate_service::run::Start;
use quorate_service::task::{NewTask, Work};
use std::time::{Duration, Instant};

/// Tasks of the large run.
const TASKS: usize = 10_000;
/// How often what changes nothing is measured.
const TIMES: usize = 20;
/// How often what must be prepared anew is measured.
const TIMES_PREPARED: usize = 3;

/// Measures all of them.
pub(crate) async fn measure(database: &Database) -> Result<Vec<Figure>> {
    let name = database.name();
    let figure = |what: &str, samples: &Samples, below: Option<f64>, note: &str| {
        let note = format!("max {:.1}{note}", samples.max_ms());
        let figure = Figure::new(name, what, samples.p50_ms(), "ms").note(note);
        below.map_or(figure.clone(), |below| figure.limit(Limit::Below(below)))
    };
    let start = start(database).await?;
    let (quiet, lapsed) = health(database).await?;
    Ok(vec![
        figure("run of 10,000 tasks added", &start, None, ", median of 3"),
        figure("health check, 1,000 agents, 10,000 tasks, quiet", &quiet, Some(1_000.0), ", median of 20"),
        figure("the same, every lease lapsed", &lapsed, Some(1_000.0), ", median of 3"),
    ])
}

async fn start(database: &Database) -> Result<Samples> {
    let mut nanos = Vec::new();
    for _ in 0..TIMES_PREPARED {
        let filled = database.fill(Rows::Team).await?;
        let tasks = (0..TASKS).map(|n| NewTask {
            key: Some(format!("task-{n}")),
            work: Some(Work::Run("true".to_owned())),
            ..NewTask::new("Measure one thing")
        });
        let start = Start { goal: "measure".into(), source: None, detached: true, tasks: tasks.collect() };
        let at = Instant::now();
        filled.store.write(start).await?;
        nanos.push(elapsed(at));
    }
    Ok(Samples::new(nanos, Duration::from_secs(1)))
}

async fn health(database: &Database) -> Result<(Samples, Samples)> {
    let (mut quiet, mut lapsed) = (Vec::new(), Vec::new());
    for _ in 0..TIMES_PREPARED {
        let filled = database.fill(Rows::Crowd).await?;
        if quiet.is_empty() {
            for _ in 0..TIMES {
                quiet.push(check(&filled).await?);
            }
        }
        database.lapse(&filled).await?;
        lapsed.push(check(&filled).await?);
    }
    Ok((Samples::new(quiet, Duration::from_secs(1)), Samples::new(lapsed, Duration::from_secs(1))))
}

/// Checks until nothing is left to do.
async fn check(filled: &Filled) -> Result<u64> {
    let at = Instant::now();
    while filled.store.write(Check { stuck_after_ms: 300_000, judge: true }).await?.more {}
    Ok(elapsed(at))
}

fn elapsed(at: Instant) -> u64 {
    u64::try_from(at.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

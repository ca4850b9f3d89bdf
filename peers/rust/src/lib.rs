//! What the programs of the Rust peers share: what is asked of them, how they wait, and how they answer.
//!
//! Here live the environment variables that `peers/README.md` lists and the lines that are printed. How a peer adds,
//! works off and hears of tasks lives in its own program.

use anyhow::{Context, Result};
use std::str::FromStr;
use std::time::{Duration, Instant};
use tokio::sync::mpsc::UnboundedReceiver;

/// How long a full queue may take before it counts as one that never ends.
const DRAIN_MAX: Duration = Duration::from_secs(90);
/// How long one task may take to begin.
const WAKE_MAX: Duration = Duration::from_secs(3);
/// After so many that did not begin in time it is clear how it stands.
const UNHEARD_MAX: usize = 5;
/// The pause before each task that an idle worker is to hear of.
const PAUSE: Duration = Duration::from_millis(20);

/// What a program is asked to do.
#[derive(Debug, Clone)]
pub struct Asked {
    /// Tasks of the full queue.
    pub tasks: i64,
    /// Tasks that are worked at together.
    pub slots: usize,
    /// Tasks that an idle worker is to hear of, one after another.
    pub wakes: usize,
}

/// Reads what is asked for.
pub fn asked() -> Result<Asked> {
    Ok(Asked {
        tasks: setting("PEERS_TASKS", 1_000)?,
        slots: setting("PEERS_SLOTS", 10)?,
        wakes: setting("PEERS_WAKES", 100)?,
    })
}

/// Returns a setting that must be given.
pub fn given(name: &str) -> Result<String> {
    std::env::var(name).with_context(|| format!("{name} is not set"))
}

/// Returns a setting, or what holds without it.
pub fn setting<T: FromStr>(name: &str, otherwise: T) -> Result<T> {
    match std::env::var(name) {
        Ok(text) => text.parse().ok().with_context(|| format!("{name} is no number: {text}")),
        Err(_) => Ok(otherwise),
    }
}

/// Prints one line; without latencies they are `nan`.
pub fn say(what: &str, jobs_per_s: f64, mut latencies_ms: Vec<f64>) {
    latencies_ms.sort_by(f64::total_cmp);
    let percentile = |share: f64| {
        let place = (latencies_ms.len() as f64 * share) as usize;
        latencies_ms.get(place.min(latencies_ms.len().saturating_sub(1))).copied().unwrap_or(f64::NAN)
    };
    let (p50, p99) = (percentile(0.5), percentile(0.99));
    println!("{what} jobs_per_s={jobs_per_s:.0} p50_ms={p50:.3} p99_ms={p99:.3}");
}

/// Returns how many of `tasks` are done in a second: waits until the database says that none is left.
pub async fn drained(tasks: i64, began: Instant, mut left: impl AsyncFnMut() -> Result<i64>) -> Result<f64> {
    loop {
        let remaining = left().await?;
        if remaining == 0 {
            return Ok(tasks as f64 / began.elapsed().as_secs_f64());
        }
        anyhow::ensure!(
            began.elapsed() < DRAIN_MAX,
            "{remaining} of {tasks} tasks were left after {} s",
            DRAIN_MAX.as_secs()
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Adds one task at a time for an idle worker; returns milliseconds from the call until its handler began.
pub async fn woken(
    wakes: usize,
    heard: &mut UnboundedReceiver<Instant>,
    mut add: impl AsyncFnMut() -> Result<()>,
) -> Result<Vec<f64>> {
    let (mut latencies, mut unheard) = (Vec::new(), 0);
    while latencies.len() < wakes && unheard < UNHEARD_MAX {
        tokio::time::sleep(PAUSE).await;
        let began = Instant::now();
        add().await?;
        let Ok(Some(at)) = tokio::time::timeout(WAKE_MAX, heard.recv()).await else {
            unheard += 1;
            latencies.push(WAKE_MAX.as_secs_f64() * 1e3);
            continue;
        };
        latencies.push((at - began).as_secs_f64() * 1e3);
    }
    Ok(latencies)
}

//! Ten thousand agents: their leases kept from four nodes, and their health.

use super::Size;
use quorate_measure::database::Database;
use quorate_measure::operation::Rows;
use quorate_measure::samples::Samples;
use quorate_measure::seed;
use quorate_measure::table::{Figure, Limit};
use quorate_model::{Error, Result, TaskId, Term};
use quorate_service::SCHEMA;
use quorate_service::health::Check;
use quorate_service::task::{Held, Renew};
use quorate_store::{Options, Store, Url};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// Nodes, and the agents of each, every one with a task.
const NODES: i64 = 4;
const AGENTS: i64 = 2_500;
/// Tasks in the ledger.
const TASKS: i64 = 100_000;
/// How long a lease lasts; it is renewed three times as often.
const LEASE: Duration = Duration::from_secs(15);
/// How long the leases are kept while the server is watched.
const WATCHED: Duration = Duration::from_secs(30);
/// How often the health is checked.
const TIMES: usize = 20;

/// Keeps the leases of all and watches what the server needs for it.
pub(super) async fn leases(database: &Database, size: Size) -> Result<Vec<Figure>> {
    let filled = database.fill(Rows::LargeCrowd(TASKS)).await?;
    let Url::Pg(url) = &filled.url else { return Ok(Vec::new()) };
    let client = seed::connect(url).await?;
    let row = client.query_one("select pg_backend_pid()", &[]).await.map_err(|e| seed::pg_failed(&e))?;
    let server = parent(row.get(0))?;
    let end = Instant::now() + if size.quick { LEASE } else { WATCHED };
    let (cpu, at) = (cpu_of_children(server)?, Instant::now());
    let mut nodes = JoinSet::new();
    for node in 0..NODES {
        let store = Store::open(&filled.url, Options { connections: 1, ..Options::new(&SCHEMA) }).await?;
        nodes.spawn(keep(store, node, end));
    }
    let mut nanos = Vec::new();
    for each in nodes.join_all().await {
        nanos.extend(each?);
    }
    let used = (cpu_of_children(server)? - cpu).as_secs_f64() / at.elapsed().as_secs_f64();
    let checked = filled.store.write(Check { stuck_after_ms: 300_000, judge: true }).await?;
    let samples = Samples::new(nanos, WATCHED);
    let name = database.name();
    Ok(vec![
        Figure::new(name, "leases of 10,000 agents from 4 nodes: the server's CPU", 100.0 * used, "%")
            .limit(Limit::Below(10.0))
            .note(format!(
                "a renewal of 2,500 takes {:.0} ms, max {:.0}",
                samples.p50_ms(),
                samples.max_ms()
            )),
        Figure::new(name, "leases that lapsed", checked.lapsed as f64, "").limit(Limit::AtMost(0.0)),
    ])
}

/// Renews what one node holds until the end; answers with how long each renewal took.
async fn keep(store: Store, node: i64, end: Instant) -> Result<Vec<u64>> {
    let mine = node * AGENTS..(node + 1) * AGENTS;
    let held = mine.clone().map(|n| Held { id: TaskId(n + 1), term: Term(1), active: false }).collect();
    let agents = mine.map(|n| format!("many-{n}")).collect();
    let lease_ms = i64::try_from(LEASE.as_millis()).unwrap_or(i64::MAX);
    let renew = Renew { held, agents, node: (node + 1).to_string(), lease_ms };
    let mut nanos = Vec::new();
    // The nodes of a cluster do not beat as one.
    tokio::time::sleep(LEASE / 12 * u32::try_from(node).unwrap_or(0)).await;
    while Instant::now() < end {
        let at = Instant::now();
        let kept = store.write(renew.clone()).await?.kept;
        if kept.len() as i64 != AGENTS {
            return Err(Error::failed(format!("node {node} kept {} of {AGENTS} leases", kept.len())));
        }
        nanos.push(u64::try_from(at.elapsed().as_nanos()).unwrap_or(u64::MAX));
        tokio::time::sleep((LEASE / 3).saturating_sub(at.elapsed())).await;
    }
    Ok(nanos)
}

/// Checks the health of all when there is nothing to do.
pub(super) async fn health(database: &Database) -> Result<Vec<Figure>> {
    let filled = database.fill(Rows::LargeCrowd(TASKS)).await?;
    let mut nanos = Vec::new();
    for _ in 0..TIMES {
        let at = Instant::now();
        while filled.store.write(Check { stuck_after_ms: 300_000, judge: true }).await?.more {}
        nanos.push(u64::try_from(at.elapsed().as_nanos()).unwrap_or(u64::MAX));
    }
    let samples = Samples::new(nanos, WATCHED);
    let figure = Figure::new(
        database.name(),
        "health check, 10,000 agents, 100,000 tasks, quiet",
        samples.p50_ms(),
        "ms",
    );
    Ok(vec![
        figure.limit(Limit::Below(100.0)).note(format!("max {:.1}, median of {TIMES}", samples.max_ms())),
    ])
}

/// Fields of `/proc/PID/stat` behind the name, counted from the third of proc(5).
fn stat(pid: i32) -> Option<Vec<u64>> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = text.rsplit_once(") ")?;
    Some(rest.split(' ').map(|word| word.parse().unwrap_or(0)).collect())
}

fn parent(pid: i32) -> Result<i32> {
    let found = stat(pid).and_then(|fields| i32::try_from(*fields.get(1)?).ok());
    found.ok_or_else(|| Error::failed("the server does not run on this machine"))
}

/// Clock ticks of `/proc` a second: fixed at 100 for user space (proc(5), sysconf(_SC_CLK_TCK)).
const TICKS: f64 = 100.0;

/// CPU time of a server's processes: those that run, and those that have ended.
fn cpu_of_children(server: i32) -> Result<Duration> {
    let failed = |e: std::io::Error| Error::failed(format!("/proc: {e}"));
    let mut ticks = stat(server).map_or(0, |fields| fields[13] + fields[14]);
    for entry in std::fs::read_dir("/proc").map_err(failed)?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        match stat(pid) {
            Some(fields) if fields.get(1) == u64::try_from(server).ok().as_ref() => {
                ticks += fields[11] + fields[12];
            }
            Some(_) | None => {}
        }
    }
    Ok(Duration::from_secs_f64(ticks as f64 / TICKS))
}

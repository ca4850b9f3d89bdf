//! Many processes that write to one SQLite file: nobody may starve.

use super::{Here, Size};
use crate::process::Place;
use quorate_measure::database::Database;
use quorate_measure::disk;
use quorate_measure::load::{Call, Caller};
use quorate_measure::operation::{Operation, Rows};
use quorate_measure::ours::Ours;
use quorate_measure::samples::Samples;
use quorate_measure::table::{Figure, Limit};
use quorate_model::{Error, Result};
use quorate_service::SCHEMA;
use quorate_store::{Options, Store, Url};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Processes at once.
const PROCESSES: usize = 16;
/// How long they write, in seconds.
const LASTS: u64 = 10;
/// The pause of someone who looks how long the disk stands still.
const PAUSE: Duration = Duration::from_millis(20);
/// Ready tasks: more than they can take.
const READY: i64 = 200_000;

/// Lets sixteen processes take, each as fast as it is answered: alone, then beside a node whose four agents work at the same
/// queue.
pub(super) async fn measure(database: &Database, here: Here<'_>, size: Size) -> Result<Vec<Figure>> {
    let Database::Lite { folder } = database else { return Ok(Vec::new()) };
    let mut figures = share(database, folder, None, size).await?;
    if let Some(binary) = here.binary {
        figures.extend(share(database, folder, Some(binary), size).await?);
    }
    Ok(figures)
}

async fn share(database: &Database, folder: &Path, node: Option<&Path>, size: Size) -> Result<Vec<Figure>> {
    let no_disk = |e| Error::failed(format!("cannot probe the disk: {e}"));
    let probe = |folder: &Path| disk::probe(folder, size.timing.probe).map_err(no_disk);
    let filled = database.fill(Rows::Ready(READY)).await?;
    let Url::Lite(file) = &filled.url else { return Ok(Vec::new()) };
    let seconds = size.of(LASTS).max(2);
    let place = node.map(|binary| Place::of(binary, &filled.url)).transpose()?;
    let node = place.as_ref().map(Place::up).transpose()?;
    let before = probe(folder)?;
    let me = std::env::current_exe().map_err(|e| Error::failed(format!("cannot find this program: {e}")))?;
    let disk = disk::Beside::begin(folder, PAUSE).map_err(no_disk)?;
    let mut children = Vec::new();
    for n in 0..PROCESSES {
        let mut command = Command::new(&me);
        command.arg("--share").arg(file).args([n.to_string(), seconds.to_string()]).stdout(Stdio::piped());
        children.push(command.spawn().map_err(|e| Error::failed(format!("cannot start: {e}")))?);
    }
    let mut nanos = Vec::new();
    for child in children {
        let output = child.wait_with_output().map_err(|e| Error::failed(format!("cannot wait: {e}")))?;
        if !output.status.success() {
            return Err(Error::failed(format!("a process of sixteen ended with {}", output.status)));
        }
        nanos.extend(
            String::from_utf8_lossy(&output.stdout).lines().filter_map(|line| line.parse::<u64>().ok()),
        );
    }
    let disk = disk.end().map_err(no_disk)?;
    drop(node);
    let fsync = before.p50_ms().max(probe(folder)?.p50_ms());
    let beside = if place.is_some() { "16 processes and a node" } else { "16 processes" };
    let samples = Samples::new(nanos, Duration::from_secs(seconds));
    let most = (20.0 * fsync).max(50.0);
    // While the disk stands still, so do all who write.
    let longest = (5.0 * most).max((disk.max_ms() + most).ceil());
    Ok(vec![
        Figure::new("sqlite", format!("{beside} on one file, call to commit, p99"), samples.p99_ms(), "ms")
            .limit(Limit::Below(most))
            .note(format!(
                "{:.0} calls/s, p50 {:.1}, fdatasync {fsync:.2}",
                samples.per_second(),
                samples.p50_ms()
            )),
        Figure::new("sqlite", format!("{beside} on one file, longest"), samples.max_ms(), "ms")
            .limit(Limit::Below(longest))
            .note(format!("the disk meanwhile {:.0}", disk.max_ms())),
    ])
}

/// One of the processes: prints the nanoseconds of each call.
pub(crate) async fn work(file: &Path, place: i64, seconds: u64) -> Result<()> {
    let store = Store::open(&Url::Lite(file.to_owned()), Options::new(&SCHEMA)).await?;
    let mut caller = Ours::at(&store, Operation::Claim, place);
    let (end, mut lines) = (Instant::now() + Duration::from_secs(seconds), String::new());
    loop {
        let at = Instant::now();
        if at >= end || caller.call().await? == Call::Dry {
            break;
        }
        lines.push_str(&format!("{}\n", at.elapsed().as_nanos()));
    }
    print!("{lines}");
    Ok(())
}

//! The program as a person meets it: start, idling, size.
//!
//! Here live the measurements of the real binary on a real ledger. A task's first output is seen through a named
//! pipe, so that no two clocks are compared.

use quorate_measure::database::Database;
use quorate_measure::operation::Rows;
use quorate_measure::samples::Samples;
use quorate_measure::table::{Figure, Limit};
use quorate_model::{Error, Result};
use quorate_service::task::{Add, NewTask, Work};
use quorate_store::{Store, Url};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How often `status` is started.
const STATUS_TIMES: usize = 20;
/// How many tasks are added to see how soon each begins.
const START_TIMES: usize = 20;
/// How long a node is left alone before it is looked at.
const SETTLE: Duration = Duration::from_secs(3);
/// How long it is looked at.
const IDLE: Duration = Duration::from_secs(10);
/// How long a task's first output is waited for.
const OUTPUT_WAIT: Duration = Duration::from_secs(20);
/// Ticks of `/proc/PID/stat` in a second, on every Linux there is.
const TICKS: f64 = 100.0;

/// Measures the binary alone.
pub(crate) fn size(binary: &Path) -> Result<Vec<Figure>> {
    let folder = tempfile::tempdir().map_err(|e| failed("cannot make a folder", &e))?;
    let copy = folder.path().join("quorate");
    let stripped = Command::new("strip").arg("-o").arg(&copy).arg(binary).status();
    let (path, note) = match stripped {
        Ok(status) if status.success() => (copy.as_path(), "release profile"),
        _ => (binary, "release profile, not stripped: no `strip` here"),
    };
    let bytes = std::fs::metadata(path).map_err(|e| failed("cannot look at the binary", &e))?.len();
    let size = Figure::new("", "binary, stripped", bytes as f64 / 1e6, "MB");
    Ok(vec![size.limit(Limit::Below(30.0)).note(note)])
}

/// Measures the binary on a database.
pub(crate) async fn measure(database: &Database, binary: &Path, idle: bool) -> Result<Vec<Figure>> {
    let filled = database.fill(Rows::Team).await?;
    let place = Place::of(binary, &filled.url)?;
    let name = database.name();
    let mut figures = vec![place.status(name)?];
    let node = place.up()?;
    if idle {
        figures.extend(look_at_idle(name, &node)?);
    }
    figures.push(place.starts(name, &filled.store).await?);
    drop(node);
    figures.push(place.agent(name, &filled.store).await?);
    Ok(figures)
}

/// A folder, a ledger, and the program.
pub(crate) struct Place {
    binary: PathBuf,
    folder: TempDir,
    url: Url,
}

/// A node that is ended, in order, with the value.
pub(crate) struct Node(Child);

impl Drop for Node {
    fn drop(&mut self) {
        // It is our own child and not waited for yet, so the number is still its own.
        let told = Command::new("kill").args(["-TERM", &self.0.id().to_string()]).status();
        if !told.is_ok_and(|status| status.success()) {
            let _ = self.0.kill();
        }
        let _ = self.0.wait();
    }
}

impl Place {
    /// Makes a folder for the program beside a ledger.
    pub(crate) fn of(binary: &Path, url: &Url) -> Result<Place> {
        let folder = tempfile::tempdir().map_err(|e| failed("cannot make a folder", &e))?;
        Ok(Place { binary: binary.to_owned(), folder, url: url.clone() })
    }

    /// Starts a node with four agents and waits until they are at work.
    pub(crate) fn up(&self) -> Result<Node> {
        let node = self.node(&["up"])?;
        std::thread::sleep(SETTLE);
        Ok(node)
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        command
            .args(words)
            .current_dir(self.folder.path())
            .env("QUORATE_STORE", self.url.full())
            .stdin(Stdio::null());
        command
    }

    fn node(&self, words: &[&str]) -> Result<Node> {
        let mut command = self.command(words);
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        child.map(Node).map_err(|e| failed("cannot start a node", &e))
    }

    fn status(&self, database: &'static str) -> Result<Figure> {
        let mut nanos = Vec::new();
        for _ in 0..STATUS_TIMES {
            let at = Instant::now();
            let output =
                self.command(&["status"]).output().map_err(|e| failed("cannot run quorate status", &e))?;
            nanos.push(u64::try_from(at.elapsed().as_nanos()).unwrap_or(u64::MAX));
            if !output.status.success() {
                let said = String::from_utf8_lossy(&output.stderr);
                return Err(Error::failed(format!("quorate status: {}", said.trim())));
            }
        }
        Ok(figure(database, "quorate status, cold", nanos, Some(50.0)))
    }

    /// From the wish to add a task until its command's first output, by a node that idles.
    async fn starts(&self, database: &'static str, store: &Store) -> Result<Figure> {
        let output = Output::open(self.folder.path())?;
        let mut nanos = Vec::new();
        for _ in 0..START_TIMES {
            let at = Instant::now();
            store.write(output.task()).await?;
            nanos.push(output.wait(at)?);
            // The attempt ends, and the agents are idle again.
            tokio::time::sleep(Duration::from_millis(150)).await;
        }
        Ok(figure(database, "agent start: task added to first output", nanos, Some(100.0)))
    }

    /// From the start of `agent run` until its first task's first output.
    async fn agent(&self, database: &'static str, store: &Store) -> Result<Figure> {
        let output = Output::open(self.folder.path())?;
        let mut nanos = Vec::new();
        for _ in 0..START_TIMES / 4 {
            store.write(output.task()).await?;
            let at = Instant::now();
            let node = self.node(&["agent", "run", "solo"])?;
            nanos.push(output.wait(at)?);
            drop(node);
        }
        Ok(figure(database, "quorate agent run: process start to first output", nanos, None))
    }
}

/// The other end of a named pipe that tasks write to.
struct Output {
    path: PathBuf,
    seen: Receiver<Instant>,
}

impl Output {
    fn open(folder: &Path) -> Result<Output> {
        let path = tempfile::Builder::new().prefix("pipe").make_in(folder, |path| {
            let made = Command::new("mkfifo").arg(path).status()?;
            if made.success() { Ok(()) } else { Err(std::io::Error::other("mkfifo failed")) }
        });
        let path = path.map_err(|e| failed("cannot make a pipe", &e))?.into_temp_path();
        let path = path.keep().map_err(|e| failed("cannot keep a pipe", &e))?;
        // Opened both ways it neither waits for a writer nor ends with one.
        let pipe = File::options()
            .read(true)
            .write(true)
            .open(&path)
            .map_err(|e| failed("cannot open a pipe", &e))?;
        let (sender, seen) = channel();
        std::thread::spawn(move || {
            for _ in BufReader::new(pipe).lines() {
                if sender.send(Instant::now()).is_err() {
                    break;
                }
            }
        });
        Ok(Output { path, seen })
    }

    fn task(&self) -> Add {
        let work = Work::Run(format!("echo started > {}", self.path.display()));
        Add {
            run: None,
            tasks: vec![NewTask { work: Some(work), ..NewTask::new("Say that it began") }],
            by: None,
        }
    }

    fn wait(&self, since: Instant) -> Result<u64> {
        let seen = self.seen.recv_timeout(OUTPUT_WAIT);
        let seen =
            seen.map_err(|_| Error::failed(format!("no task began within {} s", OUTPUT_WAIT.as_secs())))?;
        Ok(u64::try_from(seen.duration_since(since).as_nanos()).unwrap_or(u64::MAX))
    }
}

fn figure(database: &'static str, name: &str, nanos: Vec<u64>, below: Option<f64>) -> Figure {
    let times = nanos.len();
    let samples = Samples::new(nanos, Duration::from_secs(1));
    let note = format!("max {:.1}, median of {times}", samples.max_ms());
    let figure = Figure::new(database, name, samples.p50_ms(), "ms").note(note);
    below.map_or(figure.clone(), |below| figure.limit(Limit::Below(below)))
}

fn look_at_idle(database: &'static str, node: &Node) -> Result<Vec<Figure>> {
    let before = ticks(node)?;
    std::thread::sleep(IDLE);
    let share = (ticks(node)? - before) / TICKS / IDLE.as_secs_f64() * 100.0;
    let figure = |name: &str, value, unit, below| {
        let note = format!("node with 4 agents, {} s", IDLE.as_secs());
        Figure::new(database, name, value, unit).limit(Limit::Below(below)).note(note)
    };
    Ok(vec![
        figure("idle node, of one core", share, "%", 0.5),
        figure("idle node, resident memory", resident_mb(node)?, "MB", 40.0),
    ])
}

fn ticks(node: &Node) -> Result<f64> {
    let text = proc(node, "stat")?;
    // The name may hold spaces and parentheses; it ends with the last one.
    let rest = text.rsplit_once(')').map_or("", |(_, rest)| rest);
    let number = |place: usize| rest.split_whitespace().nth(place).and_then(|word| word.parse::<f64>().ok());
    Ok(number(11).unwrap_or_default() + number(12).unwrap_or_default())
}

fn resident_mb(node: &Node) -> Result<f64> {
    let text = proc(node, "status")?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    let kilobytes = line.split_whitespace().next().and_then(|word| word.parse::<f64>().ok());
    Ok(kilobytes.unwrap_or_default() * 1024.0 / 1e6)
}

fn proc(node: &Node, file: &str) -> Result<String> {
    let path = format!("/proc/{}/{file}", node.0.id());
    std::fs::read_to_string(&path).map_err(|e| failed("the node has ended", &e))
}

fn failed(what: &str, why: &dyn std::fmt::Display) -> Error {
    Error::failed(format!("{what}: {why}"))
}

//! A soak on one database, from its beginning to what is said of it.
//!
//! Here lives the order of things: a node and a follower begin, tasks are added at a steady rate, everything is measured
//! again and again; then nothing more is added, all must come to its end, and the node is told to go.

use super::check;
use super::feed::{Kind, LISTENER, PIPE, PLAN, WORK};
use super::judge::{self, Judgement, quantile};
use super::record::Record;
use super::sample::{Machine, Size, TABLES, Usage, log_files, size, usage};
use super::watch::{self, Beat, Follower};
use crate::Outcome;
use crate::arena::{Arena, Backend};
use crate::history::{History, Line};
use crate::ledger::Ledger;
use crate::party::{die_with_us, signal};
use crate::procfs::children_of;
use nix::sys::signal::Signal;
use std::collections::{BTreeMap, HashMap};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Child;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How often the loop looks at what is due.
const TICK: Duration = Duration::from_millis(2);
/// How often a plan is added as a whole, and the inbox is read.
const PLAN_EVERY: Duration = Duration::from_secs(60);
const INBOX_EVERY: Duration = Duration::from_secs(20);
/// How often it says how it goes.
const SAY_EVERY: Duration = Duration::from_secs(60);
/// How long a process may take to begin, or to end in order.
const FAREWELL: Duration = Duration::from_secs(30);
/// How long what was added may take to end when nothing more comes.
const DRAIN: Duration = Duration::from_secs(120);
/// What the node is left alone before it is measured for the last time.
const IDLE: Duration = Duration::from_secs(5);
/// Complaints of the feeder that are kept.
const COMPLAINTS_MAX: usize = 20;
/// Sockets of a node: 16 connections (pools of 8 and 4 and one that listens, and of each kind one for the thread that
/// renews), of each of its two runtimes both ends of the pipe by which it hears of signals, and the two doors at which it
/// listens.
const NODE_SOCKETS: f64 = 22.0;
/// Sockets of a follower: pools of 2 and 1, one that listens, and three ends of such pipes.
const FOLLOWER_SOCKETS: f64 = 7.0;
/// The lease, as it is unless configured.
const LEASE_MS: i64 = 60_000;
/// What a node says once it is at work.
const AT_WORK: &str = "Ctrl-C stops it";

/// What a soak is asked to be.
#[derive(Debug, Clone)]
pub struct Options {
    /// Which database.
    pub backend: Backend,
    /// The program.
    pub program: PathBuf,
    /// How long tasks are added.
    pub length: Duration,
    /// How many agents the node has.
    pub agents: usize,
    /// Tasks added in a second.
    pub rate: f64,
    /// How long history is kept.
    pub retention: Duration,
    /// The time between two samples.
    pub sample: Duration,
    /// Where the results go.
    pub out: PathBuf,
}

/// A task that was added, until it is completed.
#[derive(Debug, Clone, Copy)]
struct Added {
    kind: Kind,
    at: Instant,
}

/// What was measured of single tasks since the last sample, in milliseconds.
#[derive(Debug, Clone, Default)]
pub struct Window {
    /// From the call to add it until its child's first act.
    pub start: Vec<f64>,
    /// From being added until being taken, by the log.
    pub take: Vec<f64>,
    /// From being taken until being completed, by the log: tasks that do next to nothing.
    pub complete: Vec<f64>,
}

/// One sample.
#[derive(Debug, Clone)]
pub struct Sample {
    /// When, in seconds since the beginning.
    pub at_s: f64,
    /// The node.
    pub node: Usage,
    /// The follower.
    pub follower: Usage,
    /// The database.
    pub size: Size,
    /// Files of kept output.
    pub log_files: f64,
    /// Processor time of the node since the last sample, in per cent of one processor.
    pub node_percent: f64,
    /// What the whole machine has worked since the last sample, in per cent.
    pub busy_percent: f64,
    /// Tasks added one by one so far.
    pub added: usize,
    /// Tasks completed so far, with those of plans.
    pub completed: usize,
    /// What was measured of single tasks.
    pub window: Window,
    /// How long after their time events were read by the follower.
    pub behind: Vec<f64>,
}

struct Course<'a> {
    options: &'a Options,
    stop: &'a AtomicBool,
    // Fields are dropped in this order: the processes go before what they work on.
    node: Node,
    follower: Follower,
    ledger: Ledger,
    arena: Arena,
    beats: Arc<Mutex<Vec<Beat>>>,
    begun: Instant,
    open: HashMap<i64, Added>,
    kinds: BTreeMap<i64, Kind>,
    last_of_chain: Option<i64>,
    lines: BTreeMap<String, Vec<Line>>,
    events_seen: usize,
    taken: HashMap<i64, (i64, Option<i64>)>,
    completed: usize,
    machine: Machine,
    record: Record,
    complaints: Vec<String>,
}

/// Runs a soak until its time is over, or `stop` is set, and judges it.
pub fn run(options: &Options, stop: &AtomicBool) -> Outcome<Record> {
    let mut course = Course::begin(options, stop)?;
    course.feed();
    course.end()
}

fn config(retention: Duration) -> String {
    let time = format!("{}ms", retention.as_millis());
    let kept = |names: &[&str]| names.iter().map(|name| format!("{name} = \"{time}\"\n")).collect::<String>();
    let history = kept(&["events", "attempts", "logs", "tasks"]);
    // What each task has come to is remembered, too, by default for half a year.
    let memory = kept(&["findings", "episodes", "decisions", "patterns", "checkpoints", "messages", "lines"]);
    format!("[health]\nretry_after = \"100ms\"\n[retention]\n{history}[memory]\n{memory}")
}

impl<'a> Course<'a> {
    fn begin(options: &'a Options, stop: &'a AtomicBool) -> Outcome<Course<'a>> {
        let files = [
            ("quorate.toml", config(options.retention)),
            ("work.sh", WORK.into()),
            ("plan.toml", PLAN.into()),
        ];
        let arena = Arena::with(options.backend, &options.program, &files)?;
        let beats = watch::beats(&arena.path().join(PIPE))?;
        arena.run(&["agent", "add", LISTENER])?;
        let follower = Follower::start(&arena)?;
        let node = start_node(&arena, options.agents)?;
        let ledger = arena.ledger()?;
        let record = Record::create(options)?;
        Ok(Course {
            options,
            stop,
            arena,
            ledger,
            node,
            follower,
            beats,
            begun: Instant::now(),
            open: HashMap::new(),
            kinds: BTreeMap::new(),
            last_of_chain: None,
            lines: BTreeMap::new(),
            events_seen: 0,
            taken: HashMap::new(),
            completed: 0,
            machine: Machine::now(),
            record,
            complaints: Vec::new(),
        })
    }

    /// Adds tasks and measures until the time is over.
    fn feed(&mut self) {
        let pause = Duration::from_secs_f64(1.0 / self.options.rate);
        let (mut next, mut sample) = (self.begun, self.begun + self.options.sample);
        let (mut plan, mut inbox, mut say) =
            (self.begun + pause, self.begun + INBOX_EVERY, self.begun + SAY_EVERY);
        while self.begun.elapsed() < self.options.length && !self.is_stopped() && self.all_live() {
            let now = Instant::now();
            if now >= next {
                self.add();
                next += pause;
            } else if now >= plan {
                self.tell(&["run", "plan.toml", "--detach"]);
                plan += PLAN_EVERY;
            } else if now >= inbox {
                self.tell(&["inbox", LISTENER]);
                inbox += INBOX_EVERY;
            } else if now >= sample {
                self.sample();
                sample += self.options.sample;
            } else if now >= say {
                self.record.say(self.options.backend);
                say += SAY_EVERY;
            } else {
                sleep(TICK);
            }
        }
        self.record.length_s = self.begun.elapsed().as_secs_f64();
    }

    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Tells whether the node and the follower are there; notes it if one is not.
    fn all_live(&mut self) -> bool {
        if let Ok(Some(status)) = self.node.0.try_wait() {
            self.complaints.push(format!("the node ended by itself ({status}): {}", last_words(&self.arena)));
            return false;
        }
        if self.follower.has_ended() {
            self.complaints.push("the follower of the log ended by itself".into());
            return false;
        }
        true
    }

    fn add(&mut self) {
        let number = self.record.added;
        let kind = Kind::of(number);
        let last = self.last_of_chain.filter(|_| kind == Kind::Chain);
        let words = kind.add(number, last);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let at = Instant::now();
        let Some(said) = self.tell(&words) else { return };
        let id =
            serde_json::from_str::<serde_json::Value>(&said).ok().and_then(|answer| answer["id"].as_i64());
        let Some(id) = id else { return self.complain(format!("`task add` said {said:?}")) };
        self.record.added += 1;
        self.open.insert(id, Added { kind, at });
        self.kinds.insert(id, kind);
        if kind == Kind::Chain {
            self.last_of_chain = Some(id);
        }
    }

    /// Runs the program; what goes wrong is a complaint, and the soak goes on.
    fn tell(&mut self, words: &[&str]) -> Option<String> {
        match self.arena.run(words) {
            Ok(said) => Some(said),
            // Ctrl-C reaches the program that we wait for too.
            Err(_) if self.is_stopped() => None,
            Err(why) => {
                self.complain(why);
                None
            }
        }
    }

    fn complain(&mut self, what: String) {
        if self.complaints.len() < COMPLAINTS_MAX {
            self.complaints.push(what);
        }
    }

    /// Measures everything; what cannot be measured now is a complaint, and the soak goes on.
    fn sample(&mut self) {
        if let Err(why) = self.measure() {
            self.complain(why);
        }
    }

    fn measure(&mut self) -> Outcome {
        let at_s = self.begun.elapsed().as_secs_f64();
        let window = self.window();
        let behind = std::mem::take(&mut self.follower.told().behind_ms);
        let node = usage(self.node.0.id()).unwrap_or_default();
        let machine = Machine::now();
        let before = self.record.samples.last();
        let passed = at_s - before.map_or(0.0, |sample| sample.at_s);
        let sample = Sample {
            at_s,
            node,
            follower: usage(self.follower.pid()).unwrap_or_default(),
            size: size(&self.arena, &mut self.ledger)?,
            log_files: log_files(&self.arena),
            node_percent: (node.cpu_s - before.map_or(0.0, |sample| sample.node.cpu_s)) * 100.0 / passed,
            busy_percent: machine.busy_since(self.machine),
            added: self.record.added,
            completed: self.completed,
            window,
            behind,
        };
        self.machine = machine;
        self.record.add(sample)
    }

    /// Gathers what was measured of single tasks since the last time.
    fn window(&mut self) -> Window {
        let mut window = Window::default();
        for beat in watch::take(&self.beats) {
            self.lines.entry(beat.task.to_string()).or_default().push(beat.line);
            let Some(added) = self.open.get(&beat.task).filter(|_| beat.line.attempt == 1) else { continue };
            if added.kind.starts_at_once() {
                window.start.push(beat.at.saturating_duration_since(added.at).as_secs_f64() * 1000.0);
            }
        }
        let told = self.follower.told();
        for event in &told.events[self.events_seen..] {
            let Some(task) = event.task else { continue };
            let kind = self.kinds.get(&task);
            match event.kind.as_str() {
                "task.added" => drop(self.taken.insert(task, (event.at_ms, None))),
                "task.taken" => {
                    if let Some((added_ms, taken @ None)) = self.taken.get_mut(&task) {
                        *taken = Some(event.at_ms);
                        let counts = kind.is_some_and(|kind| kind.starts_at_once());
                        window.take.extend(counts.then_some((event.at_ms - *added_ms) as f64));
                    }
                }
                "task.completed" => {
                    self.completed += 1;
                    self.open.remove(&task);
                    if let Some((_, Some(taken_ms))) = self.taken.remove(&task)
                        && kind == Some(&Kind::Plain)
                    {
                        window.complete.push((event.at_ms - taken_ms) as f64);
                    }
                }
                _ => {}
            }
        }
        self.events_seen = told.events.len();
        window
    }

    /// Waits until all has ended, sends everyone home, and judges.
    fn end(mut self) -> Outcome<Record> {
        let open = include_str!("../../sql/open.sql");
        wait(DRAIN, || self.ledger.number(open) == Ok(0));
        sleep(IDLE);
        self.sample();
        self.dismiss();
        let head = include_str!("../../sql/head.sql");
        let last = self.ledger.number(head)?;
        wait(FAREWELL, || self.follower.told().events.last().is_some_and(|event| event.seq >= last));
        self.follower.end();
        wait(FAREWELL, || children_of(self.arena.url()).is_empty());
        let orphans = children_of(self.arena.url());
        let history = History::of_ledger(&mut self.ledger)?;
        for beat in watch::take(&self.beats) {
            self.lines.entry(beat.task.to_string()).or_default().push(beat.line);
        }
        let seen = check::Seen {
            events: std::mem::take(&mut self.follower.told().events),
            lines: std::mem::take(&mut self.lines),
            kinds: std::mem::take(&mut self.kinds),
            orphans: orphans
                .iter()
                .map(|o| format!("process {} of task {}: {}", o.pid, o.task, o.command))
                .collect(),
            complaints: std::mem::take(&mut self.complaints),
            lease_ms: LEASE_MS,
        };
        let mut judgements = self.judge();
        judgements.extend(check::run(history, seen));
        let is_red = judgements.iter().any(|judgement| judgement.held == Some(false));
        self.record.judgements = judgements;
        if is_red {
            self.record.kept = Some(self.arena.keep());
        }
        Ok(self.record)
    }

    /// Tells the node to end in order.
    fn dismiss(&mut self) {
        signal(self.node.0.id() as i32, Signal::SIGTERM);
        let mut ended = None;
        wait(FAREWELL, || {
            ended = self.node.0.try_wait().ok().flatten();
            ended.is_some()
        });
        match ended {
            Some(status) if status.success() => {}
            Some(status) => self.complaints.push(format!("the node ended badly after TERM ({status})")),
            None => self.complaints.push("the node did not end after TERM".into()),
        }
    }

    fn judge(&self) -> Vec<Judgement> {
        let record = &self.record;
        // The first of what is old has gone after a round that began when its time was over.
        let settled = self.options.retention.as_secs_f64() + 180.0;
        let of = |value: fn(&Sample) -> f64| record.series(value);
        let mut said = vec![
            judge::memory("memory of the node", &of(|s| s.node.memory_mib)),
            judge::memory("memory of the follower", &of(|s| s.follower.memory_mib)),
            judge::handles("open files of the node", &of(|s| s.node.handles)),
            judge::handles("open files of the follower", &of(|s| s.follower.handles)),
            judge::sockets("connections of the node", &of(|s| s.node.sockets), NODE_SOCKETS),
            judge::sockets("connections of the follower", &of(|s| s.follower.sockets), FOLLOWER_SOCKETS),
            judge::bounded("size of the database, MiB", &of(Sample::database_mib), settled, 1.0),
            judge::bounded("tasks kept", &of(|s| s.size.rows[0]), settled, 100.0),
            judge::bounded("events kept", &of(|s| s.size.rows[2]), settled, 100.0),
            judge::bounded("memories kept", &of(|s| s.size.rows[6]), settled, 100.0),
            judge::bounded("files of kept output", &of(|s| s.log_files), settled, 100.0),
        ];
        for (what, value) in LATENCIES {
            let series: Vec<(f64, f64)> = record
                .samples
                .iter()
                .flat_map(|sample| value(&sample.window).iter().map(|ms| (sample.at_s, *ms)))
                .collect();
            said.push(judge::latency(what, &series, record.length_s));
        }
        said.push(judge::fed(record.length_s * self.options.rate, record.added));
        said
    }
}

/// The node; it ends with the value.
struct Node(Child);

impl Drop for Node {
    fn drop(&mut self) {
        // It has ended already unless something went wrong.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

type Measure = fn(&Window) -> &Vec<f64>;

/// What is measured of single tasks.
pub const LATENCIES: [(&str, Measure); 3] = [
    ("added until first output", |window| &window.start),
    ("added until taken, by the log", |window| &window.take),
    ("taken until completed, by the log", |window| &window.complete),
];

impl Sample {
    /// Returns the size of what retention bounds, in MiB: on SQLite with what is written ahead, which is one of its files.
    pub fn database_mib(&self) -> f64 {
        match self.size.books.is_empty() {
            true => self.size.data_mib + self.size.wal_mib,
            false => self.size.data_mib,
        }
    }

    /// Returns its numbers and their names.
    pub fn cells(&self) -> Vec<(String, f64)> {
        let mut cells: Vec<(String, f64)> = [
            ("seconds", self.at_s),
            ("node_memory_mib", self.node.memory_mib),
            ("node_own_memory_mib", self.node.own_mib),
            ("node_files", self.node.handles),
            ("node_sockets", self.node.sockets),
            ("node_threads", self.node.threads),
            ("node_cpu_percent", self.node_percent),
            ("follower_memory_mib", self.follower.memory_mib),
            ("follower_own_memory_mib", self.follower.own_mib),
            ("follower_files", self.follower.handles),
            ("follower_sockets", self.follower.sockets),
            ("database_mib", self.size.data_mib),
            ("written_ahead_mib", self.size.wal_mib),
            ("free_mib_or_dead_rows", self.size.free),
            ("log_files", self.log_files),
            ("machine_busy_percent", self.busy_percent),
            ("added", self.added as f64),
            ("completed", self.completed as f64),
            ("follower_behind_p50_ms", quantile(&self.behind, 0.5)),
            ("follower_behind_p99_ms", quantile(&self.behind, 0.99)),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .to_vec();
        for (name, (_, of)) in ["start", "take", "complete"].into_iter().zip(LATENCIES) {
            for (part, word) in [(0.5, "p50"), (0.99, "p99")] {
                cells.push((format!("{name}_{word}_ms"), quantile(of(&self.window), part)));
            }
        }
        let rows = TABLES.into_iter().zip(&self.size.rows);
        cells.extend(rows.map(|(table, rows)| (format!("{table}_rows"), *rows)));
        cells
    }
}

fn start_node(arena: &Arena, agents: usize) -> Outcome<Node> {
    let log = std::fs::File::create(arena.path().join("logs/node.log")).map_err(|e| e.to_string())?;
    let other = log.try_clone().map_err(|e| e.to_string())?;
    let mut command = arena.command(&["up", "--agents", &agents.to_string()]);
    // Ctrl-C is for us: the node is told when all is done.
    command.stdout(log).stderr(other).process_group(0);
    die_with_us(&mut command);
    let node = Node(command.spawn().map_err(|e| arena.unrunnable(&e))?);
    match wait(FAREWELL, || said(arena).contains(AT_WORK)) {
        true => Ok(node),
        false => Err(format!("the node did not begin: {}", last_words(arena))),
    }
}

fn said(arena: &Arena) -> String {
    std::fs::read_to_string(arena.path().join("logs/node.log")).unwrap_or_default()
}

fn last_words(arena: &Arena) -> String {
    let text = said(arena);
    let mut lines: Vec<&str> = text.lines().rev().take(4).collect();
    lines.reverse();
    lines.join(" / ")
}

/// Waits until something is so; answers whether it came to that.
fn wait(most: Duration, mut is_so: impl FnMut() -> bool) -> bool {
    let until = Instant::now() + most;
    loop {
        if is_so() {
            return true;
        }
        if Instant::now() >= until {
            return false;
        }
        sleep(TICK * 25);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_model::config::Config;

    #[test]
    fn the_configuration_is_sound() {
        let config =
            Config::parse("quorate.toml", config(Duration::from_secs(300)).as_bytes()).expect("it is");
        assert_eq!((config.retention.tasks_ms, config.retention.events_ms), (300_000, 300_000));
        assert_eq!(config.health.lease_ms, LEASE_MS);
    }
}

//! What a storm has left behind, read once when everything is quiet.
//!
//! Here live the rows of the ledger and what was seen beside it, as plain values. The checks read nothing else, so
//! each can be shown a history that was made up.

use crate::Outcome;
use crate::ledger::{Ledger, Row};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write as _;
use std::path::Path;

/// A task as it ended.
#[derive(Debug, Clone, Default)]
pub struct Task {
    /// Its id.
    pub id: i64,
    /// Its key.
    pub key: String,
    /// Its state.
    pub state: String,
    /// Whether its first attempt fails by itself.
    pub flaky: bool,
    /// Whether it has a check.
    pub verify: bool,
    /// Its result, a JSON text.
    pub result: Option<String>,
    /// Why it is in its state, and who had it last.
    pub why: String,
}

/// An attempt.
#[derive(Debug, Clone, Default)]
pub struct Attempt {
    /// Its task.
    pub task: i64,
    /// Its number.
    pub number: i64,
    /// The term under which the task was taken.
    pub term: i64,
    /// The node that supervised it.
    pub node: Option<i64>,
    /// When it began.
    pub started_ms: i64,
    /// When it ended.
    pub ended_ms: Option<i64>,
    /// How …
    pub outcome: Option<String>,
    /// … and why.
    pub reason: Option<String>,
}

/// An event.
#[derive(Debug, Clone, Default)]
pub struct Event {
    /// Its place in the log.
    pub seq: i64,
    /// When.
    pub at_ms: i64,
    /// What happened.
    pub kind: String,
    /// Whose it is.
    pub agent: String,
    /// The task it is about.
    pub task: Option<i64>,
    /// The resource it is about.
    pub resource: String,
    /// What else it says; null without.
    pub data: Value,
}

/// A claim as it began or ended, told by the witness in the order in which it was done.
#[derive(Debug, Clone, Default)]
pub struct Grant {
    /// Its place among all.
    pub place: i64,
    /// Whether it began.
    pub is_begin: bool,
    /// The claim's term.
    pub term: i64,
    /// The resource.
    pub resource: String,
    /// The holder.
    pub agent: String,
}

/// A claim that is still there.
#[derive(Debug, Clone, Default)]
pub struct Claim {
    /// Its resource.
    pub resource: String,
    /// Its holder.
    pub agent: String,
    /// Its task.
    pub task: Option<i64>,
}

/// A line that a child wrote into its task's file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line {
    /// The attempt that it belonged to.
    pub attempt: i64,
    /// The term that it was given.
    pub term: i64,
}

impl Line {
    /// Returns it as the words that stand in what a model says.
    pub fn words(self) -> String {
        format!("by attempt {} under term {}", self.attempt, self.term)
    }

    /// Finds such words in a text.
    pub fn told(text: &str) -> Option<Line> {
        let (attempt, rest) = text.split_once("by attempt ")?.1.split_once(" under term ")?;
        let end = rest.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(rest.len());
        Some(Line { attempt: attempt.parse().ok()?, term: rest[..end].parse().ok()? })
    }
}

/// Something was done to a process, or to all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Disturbance {
    /// The process; `None` is everyone.
    pub pid: Option<u32>,
    /// From when.
    pub from_ms: i64,
    /// Until when.
    pub until_ms: i64,
}

/// What happened while a transaction of ours kept the first ready task locked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hold {
    /// Agents at work.
    pub agents: i64,
    /// Those of them that took a task meanwhile.
    pub took: i64,
    /// Connections that were seen waiting for the locked task, at most.
    pub waited: i64,
}

/// Everything that the checks look at.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// Tasks by id.
    pub tasks: Vec<Task>,
    /// Attempts by task and number.
    pub attempts: Vec<Attempt>,
    /// The log.
    pub events: Vec<Event>,
    /// Beginnings and ends of claims.
    pub grants: Vec<Grant>,
    /// Claims that are left.
    pub claims: Vec<Claim>,
    /// What children wrote, by task key.
    pub lines: BTreeMap<String, Vec<Line>>,
    /// Places in the log as a follower saw them.
    pub followed: Vec<i64>,
    /// Tasks and attempts of which a process was killed.
    pub killed: BTreeSet<(i64, i64)>,
    /// Processes that are left.
    pub orphans: Vec<String>,
    /// Processes that ended, or did not end, when they should not, or should.
    pub desertions: Vec<String>,
    /// What was done to whom.
    pub disturbances: Vec<Disturbance>,
    /// The lease, in milliseconds.
    pub lease_ms: i64,
    /// Only on PostgreSQL.
    pub hold: Option<Hold>,
}

impl History {
    /// Reads the ledger's part, and what the witness of claims has noted in it.
    pub fn read(ledger: &mut Ledger) -> Outcome<History> {
        Ok(History { grants: all(ledger, GRANTS, grant)?, ..History::of_ledger(ledger)? })
    }

    /// Reads the ledger's part.
    pub fn of_ledger(ledger: &mut Ledger) -> Outcome<History> {
        Ok(History {
            tasks: all(ledger, TASKS, task)?,
            attempts: all(ledger, ATTEMPTS, attempt)?,
            events: all(ledger, EVENTS, event)?,
            claims: all(ledger, CLAIMS, claim)?,
            ..History::default()
        })
    }

    /// Returns the events about each task, in the order of the log.
    pub fn by_task(&self) -> BTreeMap<i64, Vec<&Event>> {
        let mut by_task: BTreeMap<i64, Vec<&Event>> = BTreeMap::new();
        for event in &self.events {
            if let Some(task) = event.task {
                by_task.entry(task).or_default().push(event);
            }
        }
        by_task
    }

    /// Returns how many events there are of a kind.
    pub fn count(&self, kind: &str) -> usize {
        self.events.iter().filter(|event| event.kind == kind).count()
    }

    /// Returns which process each node was.
    pub fn processes(&self) -> HashMap<i64, u32> {
        let started = self.events.iter().filter(|event| event.kind == "node.started");
        let pid = |event: &Event| Some((event.data["node"].as_i64()?, event.data["pid"].as_u64()? as u32));
        started.filter_map(pid).collect()
    }

    /// Writes what happened to tasks, for whoever looks into a red storm.
    pub fn write(&self, folder: &Path) -> std::io::Result<()> {
        let mut text = String::new();
        for e in &self.events {
            let task = e.task.map_or_else(String::new, |task| task.to_string());
            // Writing to a String cannot fail.
            let _ = writeln!(
                text,
                "{}\t{}\t{}\t{}\t{task}\t{}\t{}",
                e.seq, e.at_ms, e.kind, e.agent, e.resource, e.data
            );
        }
        std::fs::write(folder.join("events.tsv"), text)?;
        std::fs::write(folder.join("tasks.txt"), debug_lines(&self.tasks))?;
        std::fs::write(folder.join("grants.txt"), debug_lines(&self.grants))?;
        std::fs::write(folder.join("attempts.txt"), debug_lines(&self.attempts))?;
        std::fs::write(folder.join("disturbances.txt"), debug_lines(&self.disturbances))
    }
}

fn debug_lines<T: std::fmt::Debug>(list: &[T]) -> String {
    list.iter().map(|item| format!("{item:?}\n")).collect()
}

/// Reads the files that the children of tasks have left.
pub fn read_lines(folder: &Path) -> Outcome<BTreeMap<String, Vec<Line>>> {
    let wrong = |e: std::io::Error| format!("cannot read {}: {e}", folder.display());
    let mut lines = BTreeMap::new();
    for entry in std::fs::read_dir(folder).map_err(wrong)? {
        let entry = entry.map_err(wrong)?;
        let text = std::fs::read_to_string(entry.path()).map_err(wrong)?;
        let key = entry.file_name().to_string_lossy().into_owned();
        lines.insert(key, text.lines().filter_map(line).collect());
    }
    Ok(lines)
}

fn line(text: &str) -> Option<Line> {
    let mut words = text.split(' ').skip(1);
    Some(Line { attempt: words.next()?.parse().ok()?, term: words.next()?.parse().ok()? })
}

const TASKS: &str = include_str!("../sql/tasks.sql");
const ATTEMPTS: &str = include_str!("../sql/attempts.sql");
const EVENTS: &str = include_str!("../sql/events.sql");
const GRANTS: &str = include_str!("../sql/grants.sql");
const CLAIMS: &str = include_str!("../sql/claims.sql");

fn all<T>(ledger: &mut Ledger, sql: &str, decode: fn(&Row) -> Option<T>) -> Outcome<Vec<T>> {
    let rows = ledger.rows(sql)?;
    rows.iter().map(|row| decode(row).ok_or_else(|| format!("cannot read {row:?}"))).collect()
}

fn number(row: &Row, at: usize) -> Option<i64> {
    row.get(at)?.as_ref()?.parse().ok()
}

fn text(row: &Row, at: usize) -> String {
    row.get(at).cloned().flatten().unwrap_or_default()
}

fn task(row: &Row) -> Option<Task> {
    Some(Task {
        id: number(row, 0)?,
        key: text(row, 1),
        state: text(row, 2),
        verify: number(row, 3)? == 1,
        result: row.get(4)?.clone(),
        flaky: text(row, 8).ends_with(" flaky"),
        why: format!("{} (last: {} on node {})", text(row, 5), text(row, 6), text(row, 7)),
    })
}

fn attempt(row: &Row) -> Option<Attempt> {
    Some(Attempt {
        task: number(row, 0)?,
        number: number(row, 1)?,
        term: number(row, 2)?,
        node: number(row, 3),
        started_ms: number(row, 4)?,
        ended_ms: number(row, 5),
        outcome: row.get(6)?.clone(),
        reason: row.get(7)?.clone(),
    })
}

fn event(row: &Row) -> Option<Event> {
    Some(Event {
        seq: number(row, 0)?,
        at_ms: number(row, 1)?,
        kind: text(row, 2),
        agent: text(row, 3),
        task: number(row, 4),
        resource: text(row, 5),
        data: serde_json::from_str(&text(row, 6)).unwrap_or(Value::Null),
    })
}

fn grant(row: &Row) -> Option<Grant> {
    Some(Grant {
        place: number(row, 0)?,
        is_begin: text(row, 1) == "taken",
        term: number(row, 2)?,
        resource: text(row, 3),
        agent: text(row, 4),
    })
}

fn claim(row: &Row) -> Option<Claim> {
    Some(Claim { resource: text(row, 0), agent: text(row, 1), task: number(row, 2) })
}

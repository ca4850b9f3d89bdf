//! Two that watch a soak beside the ledger: a follower of the log, and the reader of the pipe that children write to.
//!
//! Here live their threads and what they have seen. The log is kept as it was told, because at the end most of it is
//! gone from the ledger.

use crate::Outcome;
use crate::arena::Arena;
use crate::clock::now_ms;
use crate::history::{Event, Line};
use crate::party::die_with_us;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use quorate_model::at::rfc3339_ms;
use serde_json::Value;
use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

/// What follows the log.
#[derive(Debug)]
pub struct Follower {
    child: Child,
    reader: Option<JoinHandle<()>>,
    told: Arc<Mutex<Told>>,
}

/// What the log has told.
#[derive(Debug, Default)]
pub struct Told {
    /// The events, in the order in which they came.
    pub events: Vec<Event>,
    /// How long after its time each was read, in milliseconds, since somebody last took these.
    pub behind_ms: Vec<f64>,
}

impl Follower {
    /// Starts one that reads from the first event on.
    pub fn start(arena: &Arena) -> Outcome<Follower> {
        let log = std::fs::File::create(arena.path().join("logs/follower.log")).map_err(|e| e.to_string())?;
        let mut command = arena.command(&["events", "--follow", "--json"]);
        command.stdout(Stdio::piped()).stderr(log).process_group(0);
        die_with_us(&mut command);
        let mut child = command.spawn().map_err(|e| arena.unrunnable(&e))?;
        let (stdout, told) = (child.stdout.take(), Arc::<Mutex<Told>>::default());
        let theirs = told.clone();
        let reader = std::thread::spawn(move || stdout.into_iter().for_each(|out| read(out, &theirs)));
        Ok(Follower { child, reader: Some(reader), told })
    }

    /// Returns its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Returns what was told until now.
    pub fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells whether it has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// Ends it and waits until all that it had said was read.
    pub fn end(&mut self) {
        // It may have ended by itself; that was asked before.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = self.reader.take().map(JoinHandle::join);
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.end();
    }
}

fn read(out: impl Read, told: &Mutex<Told>) {
    for line in BufReader::new(out).lines().map_while(Result::ok) {
        let Some(event) = event(&line) else { continue };
        let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
        told.behind_ms.push((now_ms() - event.at_ms) as f64);
        told.events.push(event);
    }
}

/// Reads a line of `events --json`.
fn event(line: &str) -> Option<Event> {
    let value: Value = serde_json::from_str(line).ok()?;
    let text = |key: &str| value[key].as_str().unwrap_or_default().to_owned();
    let seq = &value["seq"];
    Some(Event {
        seq: seq.as_i64().or_else(|| seq.as_str()?.parse().ok())?,
        at_ms: rfc3339_ms(value["at"].as_str()?)?,
        kind: text("kind"),
        agent: text("agent"),
        task: value["task_id"].as_i64(),
        resource: text("resource"),
        data: value["data"].clone(),
    })
}

/// A child has begun.
#[derive(Debug, Clone, Copy)]
pub struct Beat {
    /// Its task.
    pub task: i64,
    /// Its attempt and term.
    pub line: Line,
    /// When that was read.
    pub at: Instant,
}

/// Makes the pipe and reads it until this process ends. Opened both ways it neither waits for a writer nor ends with one.
pub fn beats(path: &Path) -> Outcome<Arc<Mutex<Vec<Beat>>>> {
    mkfifo(path, Mode::S_IRWXU).map_err(|e| format!("cannot make a pipe: {e}"))?;
    let pipe = std::fs::File::options().read(true).write(true).open(path);
    let pipe = pipe.map_err(|e| format!("cannot open a pipe: {e}"))?;
    let beats = Arc::<Mutex<Vec<Beat>>>::default();
    let theirs = beats.clone();
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            let beat = beat(&line, Instant::now());
            theirs.lock().unwrap_or_else(PoisonError::into_inner).extend(beat);
        }
    });
    Ok(beats)
}

fn beat(line: &str, at: Instant) -> Option<Beat> {
    let mut numbers = line.split(' ').map(|word| word.parse().ok());
    let mut next = || numbers.next()?;
    Some(Beat { task: next()?, line: Line { attempt: next()?, term: next()? }, at })
}

/// Takes what has gathered.
pub fn take<T>(list: &Mutex<Vec<T>>) -> Vec<T> {
    std::mem::take(&mut *list.lock().unwrap_or_else(PoisonError::into_inner))
}

/// When a task was added, taken and completed, by the log.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Times {
    /// Added.
    pub added_ms: Option<i64>,
    /// First taken.
    pub taken_ms: Option<i64>,
    /// Completed.
    pub completed_ms: Option<i64>,
    /// How often it was completed.
    pub completions: usize,
}

/// Returns the times of each task.
pub fn times(events: &[Event]) -> HashMap<i64, Times> {
    let mut all: HashMap<i64, Times> = HashMap::new();
    for event in events {
        let Some(task) = event.task else { continue };
        let times = all.entry(task).or_default();
        match event.kind.as_str() {
            "task.added" => times.added_ms = Some(event.at_ms),
            "task.taken" => times.taken_ms = times.taken_ms.or(Some(event.at_ms)),
            "task.completed" => {
                times.completed_ms = Some(event.at_ms);
                times.completions += 1;
            }
            _ => {}
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_log_is_read() {
        let line = r#"{"agent":"a","at":"1970-01-01T00:00:01.250Z","data":{"term":2},"kind":"task.taken",
                       "message":"","resource":null,"run_id":null,"seq":"12","task_id":7}"#;
        let event = event(line).expect("it is whole");
        assert_eq!((event.seq, event.at_ms, event.task), (12, 1250, Some(7)));
        assert_eq!((event.kind.as_str(), event.data["term"].as_i64()), ("task.taken", Some(2)));
    }

    #[test]
    fn a_beat_is_read_and_anything_else_is_not() {
        let now = Instant::now();
        let read = beat("7 2 5", now).expect("it is whole");
        assert_eq!((read.task, read.line), (7, Line { attempt: 2, term: 5 }));
        assert!(beat("7 2", now).is_none() && beat("a b c", now).is_none());
    }

    #[test]
    fn times_are_those_of_the_first_take_and_the_completion() {
        let event = |kind: &str, at_ms| Event { kind: kind.into(), task: Some(1), at_ms, ..Event::default() };
        let told = [
            event("task.added", 1),
            event("task.taken", 2),
            event("task.taken", 5),
            event("task.completed", 9),
        ];
        let expected = Times { added_ms: Some(1), taken_ms: Some(2), completed_ms: Some(9), completions: 1 };
        assert_eq!(times(&told)[&1], expected);
    }
}

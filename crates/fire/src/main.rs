//! `fire`: tests that break things, and say what held.
//!
//! Here live the command line and the order of the storms. What a storm is lives in `storm`, what must hold when it
//! is over in `check`, the proof that the checks see something in `mutants`, trouble with the database in `trouble`, goals in
//! words in `goal`. Started by `cargo xtask fire`, which builds everything.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "printing is what it is for")]

mod arena;
mod chaos;
mod check;
mod clock;
mod disk;
mod follower;
mod goal;
mod history;
mod hosts;
mod ledger;
mod mutants;
mod party;
mod plan;
mod procfs;
mod seed;
mod soak;
mod stage;
mod storm;
mod time;
mod trouble;
mod verdict;

use crate::arena::Backend;
use crate::storm::Options;
use crate::verdict::Reds;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Result with a message for whoever started it.
type Outcome<T = ()> = Result<T, String>;

const HELP: &str = "\
usage: fire storm [--seed N] [--seeds K] [--backend sqlite|postgres|both] [--short|--full] [--tasks N]
                  [--quorate PATH]
       fire goal [--seed N] [--seeds K] [--backend sqlite|postgres|both] [--short|--full] [--quorate PATH]
       fire hosts [silence|link|stall|slow|loss] [--seed N] [--short] [--quorate PATH]
       fire time [postgres|one|host] --faketime LIBRARY [--seed N] [--short] [--quorate PATH]
       fire mutants [NAME] --root PATH [--seed N]
       fire trouble [CASE] [--backend sqlite|postgres|both] [--short] [--seed N] [--quorate PATH]

storm: nodes and agents work at a plan while they are killed and stopped; then everything is checked
  --seed N          the first seed (else drawn, and printed)
  --seeds K         so many seeds, one after another (--short: 1, --full: 20)
  --backend WHAT    one database, or both
  --short           150 tasks and at most 12 s of blows: under 45 s each (the default)
  --full            1,000 tasks and at most 120 s of blows
  --tasks N         another number of tasks
  --quorate PATH    the program (else the one beside this program)

goal: agents that ask models plan a goal, work at it and report, while they, the nodes and the command that works at it are
killed in every step; then everything is checked; both databases at the same time
  --short           one seed (the default)
  --full            20 seeds

hosts: three nodes and a database, each in a network namespace of its own; one is cut off, slowed down, loses packets
  --short           less work, and without `link` and `stall`: under 45 s

time: the wall clock of a node jumps by an hour, and a node sleeps past its leases; on PostgreSQL, and where one process,
or all of them, share a file
  --faketime LIBRARY  libfaketimeMT.so.1
  --short             less work, and without `one`: under 40 s

mutants: takes one guard of the product away, builds it, and demands that a storm goes red

  NAME              only those whose name has this word
  --root PATH       the root of the repository

trouble: makes trouble for the database while a node works, heals it, and checks everything

  CASE              one of them: restart, drop, suspend, limit, failover, failover-async, read-only, full, locks,
                    snapshot, conflicts
  --short           only some that take a few seconds
                    exit code 2: one could not be made on this machine, and none went red
";

/// What was asked for.
#[derive(Debug, Clone, PartialEq)]
struct Request {
    seed: Option<u64>,
    seeds: u64,
    backends: Vec<Backend>,
    tasks: usize,
    rage: Duration,
    deadline: Duration,
    program: Option<PathBuf>,
    root: Option<PathBuf>,
    name: String,
}

impl Default for Request {
    fn default() -> Request {
        Request {
            seed: None,
            seeds: 1,
            backends: vec![Backend::Lite, Backend::Pg],
            tasks: 150,
            rage: Duration::from_secs(12),
            deadline: Duration::from_secs(40),
            program: None,
            root: None,
            name: String::new(),
        }
    }
}

impl Request {
    fn options(&self, seed: u64, backend: Backend, program: PathBuf) -> Options {
        Options { seed, backend, program, tasks: self.tasks, rage: self.rage, deadline: self.deadline }
    }

    /// Returns the program that was named, or the one beside this program.
    fn program(&self) -> Outcome<PathBuf> {
        match &self.program {
            Some(program) => std::path::absolute(program).map_err(|e| e.to_string()),
            None => beside_us(),
        }
    }
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["storm", rest @ ..] => match read(rest) {
            Some(request) if request.name.is_empty() => storms(&request),
            _ => return usage(),
        },
        ["goal", rest @ ..] => match read(rest) {
            Some(request) if request.name.is_empty() => {
                request.program().and_then(|program| goal::stories(&request, &program))
            }
            _ => return usage(),
        },
        ["hosts", rest @ ..] => match hosts::run(rest) {
            Some(done) => done,
            None => return usage(),
        },
        ["time", rest @ ..] => match time::run(rest) {
            Some(done) => done,
            None => return usage(),
        },
        ["mutants", rest @ ..] => match read(rest).map(|request| (request.root.clone(), request)) {
            Some((Some(root), request)) => mutants::run(&root, &request),
            _ => return usage(),
        },
        ["trouble", rest @ ..] => return trouble::command(rest),
        ["soak", rest @ ..] => match soak::run(rest) {
            Some(done) => done,
            None => return usage(),
        },
        _ => return usage(),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            eprintln!("fire: {why}");
            ExitCode::FAILURE
        }
    }
}

fn usage() -> ExitCode {
    eprint!("{HELP}\n{}", soak::HELP);
    ExitCode::from(2)
}

fn read(words: &[&str]) -> Option<Request> {
    let mut request = Request::default();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match *word {
            "--seed" => request.seed = Some(words.next()?.parse().ok()?),
            "--seeds" => request.seeds = words.next()?.parse().ok()?,
            "--backend" => request.backends = backends(words.next()?)?,
            "--tasks" => request.tasks = words.next()?.parse().ok().filter(|tasks| *tasks > 0)?,
            "--root" => request.root = Some(words.next()?.into()),
            "--quorate" => request.program = Some(words.next()?.into()),
            "--short" => {}
            "--full" => {
                (request.seeds, request.tasks) = (20, 1000);
                (request.rage, request.deadline) = (Duration::from_secs(120), Duration::from_secs(120));
            }
            name if !name.starts_with('-') && request.name.is_empty() => request.name = name.to_owned(),
            _ => return None,
        }
    }
    Some(request)
}

fn backends(word: &str) -> Option<Vec<Backend>> {
    match word {
        "sqlite" => Some(vec![Backend::Lite]),
        "postgres" => Some(vec![Backend::Pg]),
        "both" => Some(vec![Backend::Lite, Backend::Pg]),
        _ => None,
    }
}

/// Runs all storms; answers whether all were clean.
fn storms(request: &Request) -> Outcome<bool> {
    let program = request.program()?;
    let first = request.seed.unwrap_or_else(draw);
    let mut reds = Reds::default();
    for seed in first..first.saturating_add(request.seeds) {
        for backend in &request.backends {
            println!("seed {seed} {}: {} tasks", backend.name(), request.tasks);
            let verdict = storm::run(&request.options(seed, *backend, program.clone()))?;
            reds.tell(seed, *backend, &verdict);
        }
    }
    Ok(reds.end())
}

fn beside_us() -> Outcome<PathBuf> {
    let own = std::env::current_exe().map_err(|e| e.to_string())?;
    Ok(own.with_file_name("quorate"))
}

/// Draws a seed that is short to type.
fn draw() -> u64 {
    clock::now_ms().unsigned_abs() % 100_000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_into_a_request() {
        let full =
            read(&["--full", "--seeds", "3", "--backend", "postgres", "--seed", "9"]).expect("is read");
        assert_eq!((full.seed, full.seeds, full.tasks), (Some(9), 3, 1000));
        assert_eq!(full.backends, [Backend::Pg]);
        assert_eq!(read(&["--short"]), Some(Request::default()));
        for wrong in [&["--seed"][..], &["--backend", "mysql"], &["--tasks", "0"], &["--more"], &["a", "b"]] {
            assert_eq!(read(wrong), None, "{wrong:?}");
        }
    }
}

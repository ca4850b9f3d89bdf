//! Trouble with the database: each case makes one kind of it for real, heals it, and demands that all goes on by itself.
//!
//! Here live the list of the cases and the command. What all have in common lives in `scene`, the trouble itself in
//! `postgres`, `failover` and `sqlite`; `clerk` keeps the list of what was acknowledged.

mod clerk;
mod failover;
mod mount;
mod postgres;
mod scene;
mod sqlite;

use crate::arena::Backend;
use crate::trouble::scene::{Report, Setting};
use crate::{Outcome, Request, beside_us, draw, usage};
use std::process::ExitCode;
use std::time::Instant;

/// What a case came to.
enum End {
    /// It was made, and judged.
    Judged(Report),
    /// It could not be made here, and why: no pass.
    NotRun(String),
}

type Run = fn(&Setting) -> Outcome<End>;

struct Case {
    name: &'static str,
    backend: Backend,
    /// Whether it takes only a few seconds, needs no rights, and is not part of the storm already.
    is_short: bool,
    run: Run,
}

const fn case(name: &'static str, backend: Backend, is_short: bool, run: Run) -> Case {
    Case { name, backend, is_short, run }
}

/// All cases.
const CASES: [Case; 14] = [
    case("restart", Backend::Pg, false, postgres::restart),
    case("drop", Backend::Pg, true, postgres::drop_all),
    case("suspend", Backend::Pg, false, postgres::suspend),
    case("limit", Backend::Pg, false, postgres::limit),
    case("failover", Backend::Pg, true, failover::synchronous),
    case("failover-async", Backend::Pg, false, failover::asynchronous),
    case("read-only", Backend::Pg, true, postgres::read_only),
    case("read-only", Backend::Lite, true, sqlite::read_only),
    case("full", Backend::Pg, false, postgres::full),
    case("full", Backend::Lite, false, sqlite::full),
    case("locks", Backend::Pg, false, postgres::locks),
    case("locks", Backend::Lite, true, sqlite::locks),
    case("snapshot", Backend::Pg, false, postgres::snapshot),
    case("conflicts", Backend::Pg, false, postgres::conflicts),
];

/// Tasks of a case's plan; the clerk adds more all along.
const TASKS: usize = 40;
/// What the program ends with where a case could not be run, and none went red.
const NOT_RUN: u8 = 2;

/// Runs the cases that were asked for.
pub fn command(words: &[&str]) -> ExitCode {
    let is_short = words.contains(&"--short");
    let Some(request) = crate::read(words) else { return usage() };
    let chosen: Vec<&Case> = CASES
        .iter()
        .filter(|case| request.name.is_empty() || case.name == request.name)
        .filter(|case| request.backends.contains(&case.backend) && (case.is_short || !is_short))
        .collect();
    if chosen.is_empty() {
        return usage();
    }
    match run(&request, &chosen) {
        Ok(code) => code,
        Err(why) => {
            eprintln!("fire: {why}");
            ExitCode::FAILURE
        }
    }
}

fn run(request: &Request, chosen: &[&Case]) -> Outcome<ExitCode> {
    let program = match &request.program {
        Some(program) => std::path::absolute(program).map_err(|e| e.to_string())?,
        None => beside_us()?,
    };
    let setting = Setting { program, seed: request.seed.unwrap_or_else(draw), tasks: TASKS };
    let (mut red, mut not_run) = (Vec::new(), Vec::new());
    for case in chosen {
        let name = format!("{} {}", case.name, case.backend.name());
        println!("{name} (seed {})", setting.seed);
        let begun = Instant::now();
        match (case.run)(&setting) {
            Ok(End::Judged(report)) => {
                tell(&name, &report);
                red.extend((!report.findings.is_empty()).then_some(name));
            }
            Ok(End::NotRun(why)) => {
                println!("{name}: NOT RUN: {why}");
                not_run.push(name);
            }
            Err(why) => {
                println!("{name}: RED after {:.0} s: {why}", begun.elapsed().as_secs_f64());
                red.push(name);
            }
        }
    }
    if !red.is_empty() {
        println!("red: {}", red.join(", "));
        return Ok(ExitCode::FAILURE);
    }
    if !not_run.is_empty() {
        println!("not run: {}", not_run.join(", "));
        return Ok(ExitCode::from(NOT_RUN));
    }
    Ok(ExitCode::SUCCESS)
}

fn tell(name: &str, report: &Report) {
    let verdict = if report.findings.is_empty() { "held" } else { "RED" };
    println!("{name}: {verdict}: {}", report.seen);
    for (words, count) in &report.refusals {
        println!("  refused {count} times: {words}");
    }
    for (check, findings) in &report.findings {
        println!("  red: {check}");
        for finding in findings.iter().take(5) {
            println!("    {finding}");
        }
        if findings.len() > 5 {
            println!("    and {} more", findings.len() - 5);
        }
    }
    if let Some(folder) = &report.kept {
        println!("  kept: {}", folder.display());
    }
}

//! `cargo xtask`: what a developer and CI run.
//!
//! Here live the names of the subcommands and what they accept. What each does lives in the module of its name.
//! It uses the standard library only, so that it builds in seconds on a machine that has nothing yet.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "talking to the developer is what it is for")]

mod agents;
mod apt;
mod bench;
#[path = "../../crates/testkit/src/cluster.rs"]
mod cluster;
mod deny;
mod fire;
mod fuzz;
mod judge;
mod licence;
mod npm;
mod pg;
mod plugin;
mod setup;
mod step;
mod test;
mod tidy;

use std::path::PathBuf;
use std::process::ExitCode;

/// Result with a message for the developer.
type Outcome<T = ()> = Result<T, String>;

const HELP: &str = "\
usage: cargo xtask COMMAND

  setup [--unpack|--agents] make what the tests need (PostgreSQL, rustfmt, clippy, tmux); says each step
                            --unpack: PostgreSQL from .deb archives into a cache, even if the system has one
                            --agents: only the programs of real agents, from npm into a cache (about 1 GB)
  test                      formatting, clippy, tidy, all tests, documentation; with its own PostgreSQL
  test --agents             the real Claude Code, Codex and Gemini CLI, offline; installs them with npm first
  test -p CRATE… [FILTER…]  only the tests of these crates (and of these names)
  ci                        test, with Cargo.lock taken as it is
  tidy                      the house rules alone
  deny                      cargo-deny (installs it first, which takes minutes)
  plugin                    asks the real Claude Code whether the plugin is valid (npm brings it into a cache)
                            ends with exit code 2, `not run`, where npm cannot
  judge                     asks strangers' tools about the doors over the network: promtool about the metrics, schemathesis about
                            the HTTP API, MCP's conformance suite about MCP; pip and npm bring them into a cache
  pg [--fast] [--dir DIR] [--background]
                            a PostgreSQL of your own for benchmarks; prints its URL and runs until Ctrl-C
                            --fast: without fsync; --background: returns, runs until `pg stop`
  pg stop URL|FOLDER        ends one that was started with --background
  bench [--quick] [--only sqlite|postgres|process] [--json]
                            what each operation takes, beside the database alone; minutes (--quick: one)
  bench --scale [--huge] [--match WORD]
                            long queues and histories, many agents, followers and processes
  bench --peers [--quick] [--match NAME] [--only sqlite|postgres] [--json]
                            other queues and frameworks beside this one (peers/README.md); installs them first
  bench --ratio [--only sqlite|postgres]
                            a minute: claim and completion have at least 60 % of what the database alone does
  fire storm [--release] [--seed N] [--seeds K] [--backend sqlite|postgres|both] [--short|--full]
             [--tasks N] [--quorate PATH]
                            kills and stops what works at a plan, then checks everything; --short: a minute
  fire goal [--release] [--seed N] [--seeds K] [--backend sqlite|postgres|both] [--short|--full] [--quorate PATH]
                            kills who plans a goal, works at it and reports: it is reached all the same; --short: a minute
  fire hosts [--release] [silence|link|stall|slow|loss] [--seed N] [--short]
                            three nodes and a database in network namespaces: cut off, slowed down, losing packets
  fire time [--release] [postgres|one|host] [--seed N] [--short]
                            the wall clock jumps by an hour, a node sleeps past its leases
                            both end with exit code 2, `not run`, where this machine cannot run them
  fire mutants [--release] [NAME] [--seed N]
                            takes one guard away after another: the storm, or the goal, must go red
  fire trouble [--release] [CASE] [--backend sqlite|postgres|both] [--short] [--seed N]
                            makes trouble for the database and heals it: all must go on by itself, with nothing lost
  fuzz [TARGET…] [--seconds N]
                            looks for inputs that break the readers; plan, config, json, output, resource, stream
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["setup"] => setup::everything().map(drop),
        ["setup", "--unpack"] => setup::unpack().map(drop),
        ["setup", "--agents"] => agents::install().and_then(|found| found.map(drop)),
        ["test"] | ["test", "--all"] => test::everything(false),
        ["ci"] => test::everything(true),
        ["test", "--agents"] => agents::command(),
        ["test", selection @ ..] => test::some(selection),
        ["tidy"] => tidy::command(),
        ["deny"] => deny::command(),
        ["pg", rest @ ..] => pg::command(rest),
        ["bench", rest @ ..] => bench::command(rest),
        ["fire", rest @ ..] => match fire::command(rest) {
            Ok(fire::Ended::NotRun(why)) => {
                eprintln!("xtask: not run: {why}");
                return ExitCode::from(2);
            }
            done => done.map(drop),
        },
        ["plugin"] => match plugin::check() {
            Ok(Some(why)) => {
                eprintln!("xtask: not run: {why}");
                return ExitCode::from(2);
            }
            done => done.map(drop),
        },
        ["judge"] => judge::command(),
        ["fuzz", rest @ ..] => fuzz::command(rest),
        ["help" | "--help" | "-h"] => {
            print!("{HELP}");
            Ok(())
        }
        _ => {
            eprint!("{HELP}");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("xtask: {why}");
            ExitCode::FAILURE
        }
    }
}

/// Returns the root of the repository.
fn root() -> PathBuf {
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    here.parent().map(PathBuf::from).unwrap_or(here)
}

/// Tells the developer what is being done.
fn say(text: &str) {
    println!("xtask: {text}");
}

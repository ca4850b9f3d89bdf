//! The binary `quorate`: reads the command line, does what it says, exits with a code that says how it went.
//!
//! Here lives the way from the words to the command. Each noun's commands have a file of its name; what they print
//! goes through `print`, where they work is `place`'s, and what the words mean is `args`'.

mod agent;
mod args;
mod backup;
mod checkpoint;
mod claim;
mod claude;
mod clock;
mod completion;
mod demo;
mod doctor;
mod drive;
mod events;
mod goal;
mod init;
mod log;
mod logs;
mod lookout;
mod mcp;
mod memory;
mod message;
mod place;
mod print;
mod report;
mod run;
mod runs;
mod screen;
mod shell;
mod signals;
mod sql;
mod status;
mod story;
mod task;
mod tmux;
mod top;
mod up;
mod usage;

use args::{Agent, Cli, Command, Runs};
use place::Place;
use quorate_model::{Error, Result};
use std::ffi::OsString;
use std::process::ExitCode;
use tokio::runtime::{Builder, Runtime};

fn main() -> ExitCode {
    let words: Vec<OsString> = std::env::args_os().collect();
    match args::read(&words) {
        Ok(cli) => {
            print::set_up(cli.json, cli.no_color);
            print::finish(obey(cli))
        }
        Err(error) => usage::explain(&error, args::wants_json(&words)),
    }
}

fn obey(cli: Cli) -> Result<u8> {
    place::enter(&cli.folders)?;
    let Some(command) = cli.command else { return usage::welcome() };
    let runtime = runtime_for(&command)?;
    let outcome = runtime.block_on(dispatch(command, cli.json));
    // A reader that is still at the disk must not hold up the exit.
    runtime.shutdown_background();
    outcome
}

/// Commands that supervise children get all cores; the others start faster with one.
fn runtime_for(command: &Command) -> Result<Runtime> {
    let supervises = matches!(
        command,
        Command::Run(_)
            | Command::Up(_)
            | Command::Demo(_)
            | Command::Agent(Agent::Run(_))
            | Command::Runs(Runs::Resume(_))
    );
    let mut builder = if supervises { Builder::new_multi_thread() } else { Builder::new_current_thread() };
    builder.enable_all().build().map_err(|e| Error::failed(format!("cannot start the runtime: {e}")))
}

async fn dispatch(command: Command, json: bool) -> Result<u8> {
    match command {
        Command::Demo(args) => demo::demo(&args, json).await,
        Command::Completion(args) => completion::completion(&args),
        Command::Man(args) => completion::man(&args),
        Command::Init(args) => init::init(&args, json),
        Command::Sql(args) => Ok(sql::sql(&args, json)),
        Command::FakeAgent => demo::fake_agent(),
        Command::Drive(args) => drive::drive(&args).await,
        Command::Hook(args) => claude::hook(&args).await,
        Command::Statusline(_) => claude::statusline().await,
        command => {
            let place = match (Place::find(), &command) {
                (Err(error), Command::Doctor) => return Ok(doctor::broken(&error, json)),
                (found, _) => found?,
            };
            let outcome = at(place.clone(), command, json).await;
            place.close().await;
            outcome
        }
    }
}

async fn at(place: Place, command: Command, json: bool) -> Result<u8> {
    match command {
        Command::Run(args) => run::run(place, &args, json).await,
        Command::Up(args) => up::up(place, &args, json).await,
        Command::Down(args) => up::down(place, &args, json).await,
        Command::Doctor => doctor::doctor(place, json).await,
        Command::Agent(Agent::Run(args)) => up::agent_run(place, &args, json).await,
        Command::Runs(Runs::Resume(args)) => run::resume(place, &args, json).await,
        command => with(&place, command, json).await,
    }
}

async fn with(place: &Place, command: Command, json: bool) -> Result<u8> {
    match command {
        Command::Status => status::status(place, json).await,
        Command::Top => top::top(place, json).await,
        Command::Task(command) => task::task(place, command, json).await,
        Command::Runs(command) => runs::runs(place, command, json).await,
        Command::Agent(command) => agent::agent(place, command, json).await,
        Command::Claim(args) => claim::claim(place, &args, json).await,
        Command::Release(args) => claim::release(place, &args, json).await,
        Command::Claims(args) => claim::claims(place, &args, json).await,
        Command::Log(args) => log::log(place, args, json).await,
        Command::Events(args) => events::events(place, &args, json).await,
        Command::Logs(args) => logs::logs(place, &args, json).await,
        Command::Send(args) => message::send(place, &args, json).await,
        Command::Inbox(args) => message::inbox(place, &args, json).await,
        Command::Remember(args) => memory::remember(place, args, json).await,
        Command::Recall(args) => memory::recall(place, args, json).await,
        Command::Forget(args) => memory::forget(place, &args, json).await,
        Command::Consolidate(args) => memory::consolidate(place, args, json).await,
        Command::Context(args) => memory::context(place, args, json).await,
        Command::Checkpoint(args) => checkpoint::checkpoint(place, args, json).await,
        Command::Backup(args) => backup::backup(place, &args, json).await,
        Command::Mcp(args) => mcp::mcp(place, &args).await,
        _ => unreachable!("the callers take the other commands"),
    }
}

//! What can be typed: the commands, their options and their help.
//!
//! Here live the top of the command tree and the reading of the command line; each family of commands has a file
//! below. Nothing is done here. The doc comments are the help texts and the manual pages, each with examples.

mod agent;
mod claim;
mod claude;
mod log;
mod memory;
mod message;
mod project;
mod run;
mod task;
pub(crate) mod value;

pub(crate) use agent::{Agent, AgentAdd, AgentName, AgentRun, AgentToken};
pub(crate) use claim::{Claim, Claims, Release};
pub(crate) use claude::{Hook, Statusline};
pub(crate) use log::{Events, Log, Logs};
pub(crate) use memory::{
    Checkpoint, CheckpointList, CheckpointSave, CheckpointShow, Consolidate, Context, Forget, Recall,
    Remember,
};
pub(crate) use message::{Inbox, Send};
pub(crate) use project::{Backup, Completion, Init, Man, Mcp, Sql, SqlText};
pub(crate) use run::{Demo, Down, Drive, Run, Runs, RunsCancel, RunsId, RunsResume, Up};
pub(crate) use task::{
    Task, TaskAdd, TaskCancel, TaskDone, TaskFail, TaskId, TaskList, TaskNext, TaskProgress, TaskReassign,
};

use clap::{ArgAction, ColorChoice, CommandFactory, FromArgMatches, Parser, Subcommand};
use std::ffi::OsString;
use std::path::PathBuf;

/// Over the options that every command has.
const EVERYWHERE: &str = "Options of every command";

/// Coordinates a team of AI agents, commands and people through one ledger.
#[derive(Debug, Parser)]
#[command(
    name = "quorate",
    version,
    disable_help_subcommand = false,
    after_help = "Examples:
  quorate demo                      the promises, shown live in a minute
  quorate run plan.toml --agents 4  do a plan's tasks side by side
  quorate status                    one look at agents, tasks and runs

Exit codes: 0 done, 1 it failed, 2 bad input, 3 held by another, 4 lease lost, 5 not found, \
6 refused by policy or budget, 7 nothing to do, 130 interrupted."
)]
pub(crate) struct Cli {
    /// Works as if started in DIR (may be given again, each relative to the one before)
    #[arg(short = 'C', value_name = "DIR", action = ArgAction::Append, global = true, help_heading = EVERYWHERE)]
    pub(crate) folders: Vec<PathBuf>,
    /// Prints JSON: one document on standard output (events, up and agent run: one a line), errors as JSON on standard error
    #[arg(long, global = true, help_heading = EVERYWHERE)]
    pub(crate) json: bool,
    /// Prints without colours (as does the variable NO_COLOR)
    #[arg(long, global = true, help_heading = EVERYWHERE)]
    pub(crate) no_color: bool,
    /// What to do; without it, a word of welcome.
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

/// The commands, in the order of the help.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Demo(Demo),
    Init(Init),
    Run(Run),
    Up(Up),
    Down(Down),
    /// Shows agents, tasks and runs in one look
    #[command(after_help = "Examples:
  quorate status
  quorate status --json | jq .tasks")]
    Status,
    /// Shows agents, tasks and events live, on the whole terminal; pauses, retries, cancels
    #[command(after_help = "Examples:
  quorate top
  quorate -C my-project top

Keys: arrows move, Tab goes to the next list, Enter opens a task, / filters, s sorts, ? shows the rest, q leaves.")]
    Top,
    #[command(subcommand)]
    Task(Task),
    #[command(subcommand)]
    Runs(Runs),
    #[command(subcommand)]
    Agent(Agent),
    Claim(Claim),
    Release(Release),
    Claims(Claims),
    Log(Log),
    Events(Events),
    Logs(Logs),
    Send(Send),
    Inbox(Inbox),
    Remember(Remember),
    Recall(Recall),
    Forget(Forget),
    Consolidate(Consolidate),
    Context(Context),
    #[command(subcommand)]
    Checkpoint(Checkpoint),
    /// Says what is wrong, and the command that mends it
    #[command(after_help = "Examples:
  quorate doctor
  quorate doctor --json

Exit code 1: something is broken; a warning alone is 0.")]
    Doctor,
    Backup(Backup),
    Mcp(Mcp),
    Hook(Hook),
    Statusline(Statusline),
    Sql(Sql),
    Completion(Completion),
    Man(Man),
    /// Behaves as the script in a task's prompt says: the agent of the demo, without a model
    #[command(
        hide = true,
        after_help = "Examples:
  printf '%s' '{\"prompt\": \"say hi\\nwork 1s\\nresult 7\"}' | quorate fake-agent

Steps, one a line: say TEXT, work 500ms, rest 2s, recall, write FILE TEXT, result JSON, fail WHY, hang, die.
A line `attempt N: STEP` holds for that attempt only."
    )]
    FakeAgent,
    Drive(Drive),
}

/// Reads the command line. The error knows whether JSON was asked for only by [`wants_json`].
pub(crate) fn read(words: &[OsString]) -> Result<Cli, clap::Error> {
    let is_plain = words_before_dashes(words).any(|word| word == "--no-color");
    let color = if is_plain { ColorChoice::Never } else { ColorChoice::Auto };
    let matches = tree().color(color).try_get_matches_from(words)?;
    Cli::from_arg_matches(&matches)
}

/// Returns the whole command tree, for help, completion and manual pages.
pub(crate) fn tree() -> clap::Command {
    Cli::command()
}

/// Tells whether `--json` was typed, for errors in a command line that could not be read.
pub(crate) fn wants_json(words: &[OsString]) -> bool {
    words_before_dashes(words).any(|word| word == "--json")
}

fn words_before_dashes(words: &[OsString]) -> impl Iterator<Item = &OsString> {
    words.iter().skip(1).take_while(|word| *word != "--")
}

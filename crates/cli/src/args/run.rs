//! `quorate run`, `up`, `down`, `runs` and `demo`.

use super::value;
use clap::{Args, Subcommand};
use quorate_model::config::Driver;
use quorate_model::{RunId, TaskId};
use std::path::PathBuf;

/// Agents that may be asked for at once.
const AGENTS_MAX: i64 = 1000;

/// Shows the promises live, offline, in under a minute
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  quorate demo
  quorate demo --keep /tmp/demo    keep the demo's folder and ledger there")]
pub(crate) struct Demo {
    /// Where the demo's folder is made, to be looked at afterwards
    #[arg(long, value_name = "DIR")]
    pub(crate) keep: Option<PathBuf>,
}

/// Does a plan, or a goal in words, and prints the report
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  quorate run plan.toml
  quorate run todo.md --agents 8
  quorate run \"summarise the open questions in docs/\" --detach
  quorate run \"make the tests faster\" --plan-only --json > plan.json

Exit codes: 0 every task is completed, 1 one is not, 6 nothing can go on before somebody acts (a budget, an approval), \
130 interrupted.")]
pub(crate) struct Run {
    /// A file (.toml, .json, .md) or a goal in words
    #[arg(value_name = "PLAN|GOAL", required_unless_present = "task", conflicts_with = "task")]
    pub(crate) plan: Option<String>,
    /// Decomposes a task that is there already: it waits for its subtasks, and ends with them
    #[arg(long, value_name = "ID")]
    pub(crate) task: Option<TaskId>,
    /// How many agents work side by side: of those configured, else built-in shell agents
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(1..=AGENTS_MAX))]
    pub(crate) agents: Option<i64>,
    /// Stores the run for a node and prints its id
    #[arg(long)]
    pub(crate) detach: bool,
    /// Makes the plan for a goal and shows it, no more; with --json in the form of a plan file
    #[arg(long, conflicts_with_all = ["detach", "task"])]
    pub(crate) plan_only: bool,
    /// Asks before the plan for a goal is run; where nobody can be asked, it waits for `quorate runs approve`
    #[arg(long, conflicts_with = "plan_only")]
    pub(crate) approve: bool,
}

/// Runs a node: agents, health check, detached runs
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  quorate up
  quorate up --agents 8
  quorate up --tmux team
  quorate up --tmux team --orchestrator claude --attach

With --tmux: pane 0 of the session is `quorate top`, each agent has a pane that shows its output (six in a window), the \
node has a window of its own, and so has the orchestrator. The variable QUORATE_TMUX_SOCKET names another tmux server.")]
pub(crate) struct Up {
    /// How many agents work side by side: of those configured, else built-in shell agents
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(1..=AGENTS_MAX))]
    pub(crate) agents: Option<i64>,
    /// Runs it in a new tmux session of this name, with panes to look at
    #[arg(long, value_name = "SESSION", value_parser = value::session)]
    pub(crate) tmux: Option<String>,
    /// Starts an orchestrator in a window of its own: claude, codex, gemini, or a command for the shell
    #[arg(long, value_name = "NAME|COMMAND", requires = "tmux", value_parser = value::words)]
    pub(crate) orchestrator: Option<String>,
    /// Goes into the session
    #[arg(long, requires = "tmux")]
    pub(crate) attach: bool,
}

/// Ends the nodes that run here; their tasks are handed back and go on elsewhere, or at the next start
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  quorate down
  quorate down --archive-logs
  quorate down team                ends the tmux session `team`, too

Exit code 7: no node of this ledger runs on this host.")]
pub(crate) struct Down {
    /// The tmux session that `up --tmux` has made for this ledger: it is ended after the nodes; any other is left alone
    #[arg(value_name = "SESSION", value_parser = value::session)]
    pub(crate) session: Option<String>,
    /// Moves the kept output into .quorate/archive, where `quorate logs` still finds it
    #[arg(long)]
    pub(crate) archive_logs: bool,
}

/// Lists, shows, cancels and resumes runs
#[derive(Debug, Subcommand)]
#[command(after_help = "Examples:
  quorate runs list
  quorate runs show 3
  quorate runs resume 3")]
pub(crate) enum Runs {
    /// Lists all runs
    #[command(after_help = "Examples:
  quorate runs list
  quorate runs list --json | jq '.[-1].state'")]
    List,
    /// Shows one run with its tasks
    #[command(after_help = "Examples:
  quorate runs show 3")]
    Show(RunsId),
    /// Lets the tasks of a plan begin that waits for a person's word
    #[command(after_help = "Examples:
  quorate runs approve 3")]
    Approve(RunsId),
    Cancel(RunsCancel),
    Resume(RunsResume),
}

/// One run.
#[derive(Debug, Args)]
pub(crate) struct RunsId {
    /// The run's id
    pub(crate) id: RunId,
}

/// Goes on with a run: what failed or was cancelled is tried anew
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  quorate runs resume 3
  quorate runs resume 3 --agents 8
  quorate runs resume 3 --detach

Exit codes: those of `quorate run`.")]
pub(crate) struct RunsResume {
    /// The run's id
    pub(crate) id: RunId,
    /// How many agents work side by side: of those configured, else built-in shell agents
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(1..=AGENTS_MAX))]
    pub(crate) agents: Option<i64>,
    /// Only says that it goes on, and leaves the work to a node
    #[arg(long, conflicts_with = "agents")]
    pub(crate) detach: bool,
}

/// Calls off a run: every task that has not ended is cancelled
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  quorate runs cancel 3
  quorate runs cancel 3 --reason \"the goal has changed\"")]
pub(crate) struct RunsCancel {
    /// The run's id
    pub(crate) id: RunId,
    /// Why, for the log
    #[arg(long, default_value = "a person cancelled it", value_parser = value::words)]
    pub(crate) reason: String,
}

/// Runs one attempt of a real agent: what a node starts for tasks in words
#[derive(Debug, Args)]
#[command(
    hide = true,
    after_help = "Examples:
  printf '%s' '{\"id\": 1, \"attempt\": 1, \"title\": \"Say hello\"}' | quorate drive --driver claude

The task comes on standard input, as for any command agent; what is printed is what a command agent prints."
)]
pub(crate) struct Drive {
    /// Which agent
    #[arg(long, value_name = "DRIVER", value_parser = value::driver)]
    pub(crate) driver: Driver,
    /// The settings of its table, as a node writes them
    #[arg(long, value_name = "JSON")]
    pub(crate) settings: Option<String>,
}

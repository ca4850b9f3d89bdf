//! `quorate task …`.

use super::value;
use clap::{Args, Subcommand};
use quorate_model::at::At;
use quorate_model::priority::Priority;
use quorate_model::{RunId, TaskState, Term};
use quorate_server::ModelUsage;

/// Adds, takes, reports and mends tasks
#[derive(Debug, Subcommand)]
#[command(after_help = "Examples:
  quorate task add \"fix the parser\" --prompt \"tests/parser.rs fails\" --claims src/parser.rs
  quorate task next --agent me --wait 30s
  quorate task done 12 --term 3 --result '{\"ok\":true}'
  quorate task show 12")]
pub(crate) enum Task {
    Add(Box<TaskAdd>),
    List(TaskList),
    /// Shows one task: why it is where it is, its attempts, needs and claims
    #[command(after_help = "Examples:
  quorate task show 12
  quorate task show 12 --json | jq -r .why")]
    Show(TaskId),
    Next(TaskNext),
    Progress(TaskProgress),
    Done(TaskDone),
    Fail(TaskFail),
    Cancel(TaskCancel),
    /// Lets a failed or cancelled task be tried anew, with those that were cancelled because of it
    #[command(after_help = "Examples:
  quorate task retry 12")]
    Retry(TaskId),
    Reassign(TaskReassign),
    /// Approves what a parked task waits for, and lets it go on
    #[command(after_help = "Examples:
  quorate task approve 12")]
    Approve(TaskId),
    /// Lets a parked task go on before its time
    #[command(after_help = "Examples:
  quorate task unpark 12")]
    Unpark(TaskId),
}

/// One task.
#[derive(Debug, Args)]
pub(crate) struct TaskId {
    /// The task's id
    #[arg(value_name = "ID")]
    pub(crate) id: quorate_model::TaskId,
}

/// Adds a task
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  quorate task add \"clippy\" --run \"cargo clippy -- -D warnings\" --capability validation
  quorate task add \"write the guide\" --needs 3,4 --claims docs/guide.md --verify \"test -s docs/guide.md\"
  quorate task add \"nightly check\" --run ./check.sh --at 2026-12-01T03:00:00Z --timeout 30m --attempts 1")]
pub(crate) struct TaskAdd {
    /// What it is about, in one line
    #[arg(value_parser = value::title)]
    pub(crate) title: String,
    /// The run that it serves
    #[arg(long = "in", value_name = "RUN")]
    pub(crate) run_id: Option<RunId>,
    /// Its name within the run
    #[arg(long, value_parser = value::key, requires = "run_id")]
    pub(crate) key: Option<String>,
    /// The work is a command (sh -c in the folder of quorate.toml)
    #[arg(long, value_name = "CMD", value_parser = value::words, conflicts_with = "prompt")]
    pub(crate) run: Option<String>,
    /// The work is told in words, for an AI agent or a person
    #[arg(long, value_name = "TEXT", value_parser = value::words)]
    pub(crate) prompt: Option<String>,
    /// Tasks that must be completed before it
    #[arg(long, value_name = "ID,…", value_delimiter = ',')]
    pub(crate) needs: Vec<quorate_model::TaskId>,
    /// Only an agent that can do this may take it
    #[arg(long, value_parser = value::capability, conflicts_with = "agent")]
    pub(crate) capability: Option<String>,
    /// Only this agent may take it
    #[arg(long, value_name = "NAME", value_parser = value::agent)]
    pub(crate) agent: Option<String>,
    /// high, medium or low
    #[arg(long, default_value = "medium", value_parser = value::priority)]
    pub(crate) priority: Priority,
    /// Resources that are claimed together with it
    #[arg(long, value_name = "R,…")]
    pub(crate) claims: Vec<String>,
    /// A command that checks the work after the agent says done
    #[arg(long, value_name = "CMD", value_parser = value::words)]
    pub(crate) verify: Option<String>,
    /// Files it is to leave
    #[arg(long, value_name = "FILE,…", value_delimiter = ',')]
    pub(crate) outputs: Vec<String>,
    /// How long an attempt may take (at least 100ms)
    #[arg(long, value_name = "D", value_parser = value::time_span)]
    pub(crate) timeout: Option<i64>,
    /// How often it is tried at most
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(1..=quorate_model::plan::ATTEMPTS_MAX))]
    pub(crate) attempts: Option<i64>,
    /// Dollars that it may use, over all its attempts
    #[arg(long, value_name = "USD", value_parser = value::usd)]
    pub(crate) budget_usd: Option<i64>,
    /// Tokens that it may use, over all its attempts
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(1..))]
    pub(crate) budget_tokens: Option<i64>,
    /// Not before this time, or not before so long from now
    #[arg(long, value_name = "TIME|D", value_parser = value::due)]
    pub(crate) at: Option<At>,
}

/// Lists tasks, of all runs and in all states
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  quorate task list
  quorate task list --state ready
  quorate task list --in 3 --json | jq '.[] | select(.state == \"failed\") | .reason'")]
pub(crate) struct TaskList {
    /// Only of this run
    #[arg(long = "in", value_name = "RUN")]
    pub(crate) run_id: Option<RunId>,
    /// Only in this state
    #[arg(long, value_parser = value::task_state)]
    pub(crate) state: Option<TaskState>,
    /// Only those an agent has, had last, or alone may take
    #[arg(long, value_name = "NAME", value_parser = value::agent)]
    pub(crate) agent: Option<String>,
}

/// Takes the next task for an agent that pulls its work; one that has a task gets it again
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  quorate task next --agent me
  quorate task next --agent me --capability review,docs --lease 30m --wait 1m --json

Exit codes: 6 the agent's budget is reached, or a node gives it its tasks, 7 nothing to do. Whoever takes a task renews its lease with \
`quorate task progress`.")]
pub(crate) struct TaskNext {
    /// Who takes it; a name first seen joins the team
    #[arg(long, value_name = "NAME", value_parser = value::agent)]
    pub(crate) agent: String,
    /// What it can do; else what the agent is known to be able to do
    #[arg(long, value_name = "C,…", value_delimiter = ',', value_parser = value::capability)]
    pub(crate) capability: Vec<String>,
    /// Only tasks of this run
    #[arg(long = "in", value_name = "RUN")]
    pub(crate) run_id: Option<RunId>,
    /// How long it has the task without a sign of life (at least 1s)
    #[arg(long, value_name = "D", default_value = "15m", value_parser = value::lease)]
    pub(crate) lease: i64,
    /// How long to wait for one
    #[arg(long, value_name = "D", value_parser = value::wait)]
    pub(crate) wait: Option<i64>,
}

/// What an attempt has used.
#[derive(Debug, Args)]
pub(crate) struct Usage {
    /// What the attempt has used until now of a model, or a list of such: sums, each takes the place of the one before
    #[arg(long, value_name = "JSON")]
    usage: Option<String>,
}

impl Usage {
    /// Reads it.
    pub(crate) fn read(&self) -> quorate_model::Result<Vec<ModelUsage>> {
        self.usage.as_deref().map_or(Ok(Vec::new()), ModelUsage::parse)
    }
}

/// Reports progress of a task and renews its lease
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  quorate task progress 12 --term 3 --percent 40 --message \"half of the tests pass\"
  quorate task progress 12 --term 3 --usage '{\"model\":\"gpt-5\",\"input_tokens\":9000,\"output_tokens\":700}'

Exit code 6: what was used reaches a budget, and the task is parked.")]
pub(crate) struct TaskProgress {
    /// The task's id
    pub(crate) id: quorate_model::TaskId,
    /// The term under which it was taken
    #[arg(long)]
    pub(crate) term: Term,
    /// 0 to 100
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(0..=100))]
    pub(crate) percent: Option<i64>,
    /// A word for people
    #[arg(long)]
    pub(crate) message: Option<String>,
    #[command(flatten)]
    pub(crate) usage: Usage,
}

/// Says that a task is done; if it has a check, a node runs it before the task is completed
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  quorate task done 12 --term 3
  quorate task done 12 --term 3 --result '{\"files\": 3}'
  quorate task done 12 --term 3 --result @result.json
  ./measure | quorate task done 12 --term 3 --result -")]
pub(crate) struct TaskDone {
    /// The task's id
    pub(crate) id: quorate_model::TaskId,
    /// The term under which it was taken
    #[arg(long)]
    pub(crate) term: Term,
    /// The result: JSON, @FILE, or - for standard input; at most 1 MiB
    #[arg(long, value_name = "JSON|@FILE|-", allow_hyphen_values = true)]
    pub(crate) result: Option<String>,
    #[command(flatten)]
    pub(crate) usage: Usage,
}

/// Says that an attempt at a task failed; it is tried again unless its attempts are used up
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  quorate task fail 12 --term 3 --error \"the server does not answer\"
  quorate task fail 12 --term 3 --error \"no such branch\" --final")]
pub(crate) struct TaskFail {
    /// The task's id
    pub(crate) id: quorate_model::TaskId,
    /// The term under which it was taken
    #[arg(long)]
    pub(crate) term: Term,
    /// Why; the next owner is shown it
    #[arg(long, value_name = "M", value_parser = value::words)]
    pub(crate) error: String,
    /// Trying again is of no use
    #[arg(long = "final")]
    pub(crate) is_final: bool,
    #[command(flatten)]
    pub(crate) usage: Usage,
}

/// Calls a task off, with those that need it; a running child is stopped
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  quorate task cancel 12
  quorate task cancel 12 --reason \"done by hand\"")]
pub(crate) struct TaskCancel {
    /// The task's id
    pub(crate) id: quorate_model::TaskId,
    /// Why, for the log
    #[arg(long, default_value = "a person cancelled it", value_parser = value::words)]
    pub(crate) reason: String,
}

/// Takes a task from its owner and, with --to, keeps it for another
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  quorate task reassign 12 --reason \"alpha is on the wrong track\"
  quorate task reassign 12 --to beta --reason \"beta knows this file\"")]
pub(crate) struct TaskReassign {
    /// The task's id
    pub(crate) id: quorate_model::TaskId,
    /// The only agent that may take it from now on
    #[arg(long, value_name = "NAME", value_parser = value::agent)]
    pub(crate) to: Option<String>,
    /// Why, for the log
    #[arg(long, default_value = "a person reassigned it", value_parser = value::words)]
    pub(crate) reason: String,
}

//! `quorate log`, `events` and `logs`.

use super::value;
use clap::Args;
use quorate_model::at::At;
use quorate_model::{EventKind, RunId, Seq, TaskId};

/// Writes a line into the log; some actions do what they say
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  quorate log --agent me --action edit --status working --resource src/a.rs --progress 40 \"parser half done\"
  quorate log --agent me --action claim --status ok --resource src/a.rs \"mine for now\"
  quorate log --agent me --action help --status blocked --metadata '{\"help_needed_from\":\"alpha\"}' \"stuck at the lexer\"

Actions that do something: claim and release (a resource), complete (a resource, or the task the agent has), \
help (a message to whom the metadata names), startup, idle and error (the agent's state).")]
pub(crate) struct Log {
    /// Who writes; a name first seen joins the team
    #[arg(long, value_name = "NAME", value_parser = value::agent)]
    pub(crate) agent: String,
    /// What the line is about: any word
    #[arg(long, value_parser = value::words)]
    pub(crate) action: String,
    /// In what state it is: any word
    #[arg(long, value_parser = value::words)]
    pub(crate) status: String,
    /// What it is about
    #[arg(long, value_name = "R")]
    pub(crate) resource: Option<String>,
    /// 0 to 100
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(0..=100))]
    pub(crate) progress: Option<i64>,
    /// Further facts, a JSON object
    #[arg(long, value_name = "JSON")]
    pub(crate) metadata: Option<String>,
    /// The words
    pub(crate) message: String,
}

/// Prints the log, from its first event or from where you left off
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  quorate events --since 10m
  quorate events --follow --json --after 512
  quorate events --kind claim.refused --agent alpha
  quorate events --task 12

Each event has a place (seq); give the last one you saw to --after and you miss none and see none twice.")]
pub(crate) struct Events {
    /// Goes on printing as things happen
    #[arg(long, short)]
    pub(crate) follow: bool,
    /// Begins after this place
    #[arg(long, value_name = "SEQ")]
    pub(crate) after: Option<Seq>,
    /// Only of this agent
    #[arg(long, value_name = "NAME")]
    pub(crate) agent: Option<String>,
    /// Only of this resource
    #[arg(long, value_name = "R")]
    pub(crate) resource: Option<String>,
    /// Only of this kind
    #[arg(long, value_name = "K", value_parser = value::event_kind)]
    pub(crate) kind: Option<EventKind>,
    /// Only of this task
    #[arg(long, value_name = "ID")]
    pub(crate) task: Option<TaskId>,
    /// Only of this run
    #[arg(long, visible_alias = "in", value_name = "ID")]
    pub(crate) run: Option<RunId>,
    /// Only since this time, or since so long ago
    #[arg(long, value_name = "TIME|D", value_parser = value::since)]
    pub(crate) since: Option<At>,
}

/// Prints the kept output of an attempt
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  quorate logs 12
  quorate logs 12 --attempt 1
  quorate logs 12 --follow
  quorate logs alpha --follow

With --follow a task is followed until its attempt ends, an agent from one attempt to the next until Ctrl-C; what is printed \
then is the output itself, so --json is refused.")]
pub(crate) struct Logs {
    /// A task's id, or an agent's name for its latest attempt
    #[arg(value_name = "AGENT|TASK")]
    pub(crate) of: String,
    /// Which attempt; else the latest
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(1..))]
    pub(crate) attempt: Option<i64>,
    /// Goes on printing as it comes
    #[arg(long, short)]
    pub(crate) follow: bool,
}

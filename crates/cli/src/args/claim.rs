//! `quorate claim`, `release` and `claims`.

use super::value;
use clap::Args;
use quorate_model::{TaskId, Term};

/// Claims resources, all or none
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  quorate claim src/parser.rs --agent me
  quorate claim 'src/**' port:8080 --agent me --ttl 1h --wait 30s
  quorate claim docs --agent me --shared
  quorate claim src/a.rs --agent me --task 12 --term 3

Exit code 3: held by another; the message says by whom, for which task, until when.")]
pub(crate) struct Claim {
    /// Paths, globs, file::symbol, or kind:name such as port:8080, gpu:0, deploy:prod
    #[arg(required = true, value_name = "RESOURCE")]
    pub(crate) resources: Vec<String>,
    /// Who claims; a name first seen joins the team
    #[arg(long, value_name = "NAME", value_parser = value::agent)]
    pub(crate) agent: String,
    /// The task that the claims end with
    #[arg(long, value_name = "ID", requires = "term")]
    pub(crate) task: Option<TaskId>,
    /// The term under which the task was taken
    #[arg(long, value_name = "T", requires = "task")]
    pub(crate) term: Option<Term>,
    /// How long it is held at most (at least 100ms)
    #[arg(long, value_name = "D", default_value = "15m", value_parser = value::time_span)]
    pub(crate) ttl: i64,
    /// Together with others who share it
    #[arg(long)]
    pub(crate) shared: bool,
    /// How long to wait for it; first come, first served
    #[arg(long, value_name = "D", value_parser = value::wait)]
    pub(crate) wait: Option<i64>,
}

/// Gives up claims; with --force a person ends another's
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  quorate release src/parser.rs --agent me
  quorate release src/parser.rs --agent me --term 41
  quorate release deploy:prod --force --reason \"its holder is on holiday\"")]
pub(crate) struct Release {
    /// What is given up, named as it was claimed
    #[arg(required = true, value_name = "RESOURCE")]
    pub(crate) resources: Vec<String>,
    /// Who holds it
    #[arg(long, value_name = "NAME", value_parser = value::agent, required_unless_present = "force", conflicts_with = "force")]
    pub(crate) agent: Option<String>,
    /// Only this holding
    #[arg(long, value_name = "T", conflicts_with = "force")]
    pub(crate) term: Option<Term>,
    /// Ends it whoever holds it
    #[arg(long, requires = "reason")]
    pub(crate) force: bool,
    /// Why, for the log
    #[arg(long, requires = "force", value_parser = value::words)]
    pub(crate) reason: Option<String>,
}

/// Lists what is claimed, by whom, until when
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  quorate claims
  quorate claims --agent alpha --json")]
pub(crate) struct Claims {
    /// Only of this agent
    #[arg(long, value_name = "NAME")]
    pub(crate) agent: Option<String>,
}

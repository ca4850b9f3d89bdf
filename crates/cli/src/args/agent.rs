//! `quorate agent …`.

use super::value;
use clap::{Args, Subcommand};
use quorate_model::config::Driver;

/// Shows and steers the members of the team
#[derive(Debug, Subcommand)]
#[command(after_help = "Examples:
  quorate agent add reviewer --capability review,docs
  quorate agent list
  quorate agent pause reviewer")]
pub(crate) enum Agent {
    Add(AgentAdd),
    /// Lists the team
    #[command(after_help = "Examples:
  quorate agent list
  quorate agent list --json | jq '.[] | select(.state == \"failed\")'")]
    List,
    /// Shows one agent: its state, task and claims
    #[command(after_help = "Examples:
  quorate agent show alpha")]
    Show(AgentName),
    Run(AgentRun),
    /// Lets an agent take nothing more; what it has it finishes
    #[command(after_help = "Examples:
  quorate agent pause alpha")]
    Pause(AgentName),
    /// Lets a paused or failed agent take work again
    #[command(after_help = "Examples:
  quorate agent resume alpha")]
    Resume(AgentName),
    /// Stops the task an agent has now; it is tried again, unless its attempts are used up
    #[command(after_help = "Examples:
  quorate agent kill alpha")]
    Kill(AgentName),
    /// Takes an agent out of the team; one that a node runs only once that node has ended
    #[command(after_help = "Examples:
  quorate agent remove alpha")]
    Remove(AgentName),
    Token(AgentToken),
}

/// Gives an agent a token, by which the network knows it; shown once
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  export QUORATE_TOKEN=$(quorate agent token reviewer)
  quorate agent token reviewer --revoke")]
pub(crate) struct AgentToken {
    /// Its name
    #[arg(value_parser = value::agent)]
    pub(crate) name: String,
    /// Makes all tokens void that were given like this
    #[arg(long)]
    pub(crate) revoke: bool,
}

/// One agent.
#[derive(Debug, Args)]
pub(crate) struct AgentName {
    /// Its name
    pub(crate) name: String,
}

/// Adds an agent to the team, or brings its driver and capabilities up to date; what is not said stays as it is
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  quorate agent add reviewer --capability review,docs
  quorate agent add maria --driver human --capability approve")]
pub(crate) struct AgentAdd {
    /// Its name
    #[arg(value_parser = value::new_agent)]
    pub(crate) name: String,
    /// How it is run; a new one is external if not said: it pulls its work by itself
    #[arg(long, value_name = "D", value_parser = value::driver)]
    pub(crate) driver: Option<Driver>,
    /// What it can do; without any, a new external agent takes whatever is not kept for another
    #[arg(long, value_name = "C,…", value_delimiter = ',', value_parser = value::capability)]
    pub(crate) capability: Vec<String>,
}

/// Runs one agent in the foreground, as a process of its own
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  quorate agent run validation
  quorate agent run reviewer --driver claude
  quorate agent run builder --capability build --command ./agents/build.sh --fast")]
pub(crate) struct AgentRun {
    /// Its name; settings come from quorate.toml if it stands there
    #[arg(value_parser = value::new_agent)]
    pub(crate) name: String,
    /// How it is run, whatever its table says: command, claude, codex, gemini, model
    #[arg(long, value_name = "D", value_parser = value::driver)]
    pub(crate) driver: Option<Driver>,
    /// What it can do
    #[arg(long, value_name = "C,…", value_delimiter = ',', value_parser = value::capability)]
    pub(crate) capability: Vec<String>,
    /// Its program and arguments, for tasks without a `run` of their own; everything behind belongs to it
    #[arg(long, value_name = "PROGRAM", num_args = 1.., allow_hyphen_values = true)]
    pub(crate) command: Vec<String>,
}

//! `quorate remember`, `recall`, `forget`, `context` and `checkpoint`.

use super::value;
use clap::{Args, Subcommand};
use quorate_model::{CheckpointId, MemoryId, MemoryKind, RunId, TaskId};
use quorate_service::context::{BUDGET_DEFAULT, BUDGET_LEAST};
use quorate_service::memory::HITS_MAX;
use std::str::FromStr;

/// Keeps something for the team: a finding, an episode, a decision or a pattern
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  quorate remember --agent ada \"the tests need a running redis\"
  quorate remember --agent ada --kind decision --tag storage \"results are kept as JSON lines\"
  quorate remember --agent ada --task 12 --ttl 7d \"the staging server is being rebuilt\"

What says the same as a memory that is there already is counted there. Results of tasks and the causes of failed attempts \
are kept by themselves.")]
pub(crate) struct Remember {
    /// Who tells it; a name first seen joins the team
    #[arg(long, value_name = "NAME", value_parser = value::agent)]
    pub(crate) agent: String,
    /// finding, episode, decision or pattern
    #[arg(long, default_value = "finding", value_parser = value::memory_kind)]
    pub(crate) kind: MemoryKind,
    /// A word to find it by; may be given again, or several with commas
    #[arg(long = "tag", value_name = "WORD", value_delimiter = ',', value_parser = value::words)]
    pub(crate) tags: Vec<String>,
    /// The task it is about
    #[arg(long, value_name = "ID")]
    pub(crate) task: Option<TaskId>,
    /// For how long it holds, such as 7d; else as long as the table `memory` of quorate.toml says
    #[arg(long, value_name = "TIME", value_parser = value::time_span)]
    pub(crate) ttl: Option<i64>,
    /// The words
    #[arg(value_parser = value::words)]
    pub(crate) text: String,
}

/// Searches the team's memory: findings, results, failures, checkpoints, messages and logged lines
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  quorate recall \"why does the login test fail\"
  quorate recall src/store.rs --kind finding --limit 3
  quorate recall \"\\\"connection refused\\\"\" --json

Any of the words may be found; the more, and the rarer, the better. What stands together or in double quotes is one term.")]
pub(crate) struct Recall {
    /// Words to look for
    pub(crate) query: String,
    /// Only this kind: finding, episode, decision, pattern, checkpoint, message or line
    #[arg(long, value_parser = value::memory_kind)]
    pub(crate) kind: Option<MemoryKind>,
    /// Only what this agent found out
    #[arg(long, value_name = "NAME", value_parser = value::agent)]
    pub(crate) agent: Option<String>,
    /// Only what belongs to this run
    #[arg(long, visible_alias = "in", value_name = "ID")]
    pub(crate) run: Option<RunId>,
    /// So many answers at most
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(i64).range(1..=HITS_MAX))]
    pub(crate) limit: i64,
}

/// Removes a memory for good, its text included
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  quorate forget 12
  quorate forget memory:12

`quorate recall` shows the numbers, as in `memory:12`.")]
pub(crate) struct Forget {
    /// Which
    #[arg(value_parser = memory_id)]
    pub(crate) id: MemoryId,
}

/// Reads a memory's number, alone or as `recall` shows it.
fn memory_id(text: &str) -> Result<MemoryId, <MemoryId as FromStr>::Err> {
    text.strip_prefix("memory:").unwrap_or(text).parse()
}

/// Asks an agent which memories say the same, and merges those
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  quorate consolidate --agent lead

The agent gets an ordinary task with groups of memories; a node checks its answer, archives what changes and merges. Ends with 7 \
where nothing new is like anything else.")]
pub(crate) struct Consolidate {
    /// Who is asked; without it the agent that `consolidate` in the table `memory` of quorate.toml names
    #[arg(long, value_name = "NAME", value_parser = value::agent)]
    pub(crate) agent: Option<String>,
}

/// Prints what a fresh orchestrator needs: ids, states, blockers, newest findings
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  quorate context
  quorate context --run 3 --agent lead --budget 1000

The most important comes first, and what there was no room for is counted in the last line.")]
pub(crate) struct Context {
    /// The run; without it all that go on, or the last one
    #[arg(long, visible_alias = "in", value_name = "ID")]
    pub(crate) run: Option<RunId>,
    /// Who asks: shows its checkpoint, and what it has not read
    #[arg(long, value_name = "NAME", value_parser = value::agent)]
    pub(crate) agent: Option<String>,
    /// Tokens at most, counted so that no common model counts more
    #[arg(long, value_name = "TOKENS", default_value_t = BUDGET_DEFAULT, value_parser = budget)]
    pub(crate) budget: usize,
}

fn budget(text: &str) -> Result<usize, String> {
    let tokens = text.parse::<usize>().map_err(|e| e.to_string())?;
    if tokens < BUDGET_LEAST {
        return Err(format!("less than {BUDGET_LEAST} tokens say nothing"));
    }
    Ok(tokens)
}

/// Saves states to go on from after /clear, a crash or a reboot, and shows them
#[derive(Debug, Subcommand)]
#[command(after_help = "Examples:
  quorate checkpoint save --agent lead \"the parser is done\"
  quorate checkpoint list --agent lead")]
pub(crate) enum Checkpoint {
    Save(CheckpointSave),
    Show(CheckpointShow),
    List(CheckpointList),
}

/// Saves a state
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  quorate checkpoint save --agent lead --run 3 \"the parser is done; next: split task 7\"
  quorate checkpoint save --agent lead '{\"done\": [1, 2], \"next\": 3}'
  quorate checkpoint save --agent lead @state.json

The last 20 of each agent are kept. `quorate context --agent NAME` shows the latest.")]
pub(crate) struct CheckpointSave {
    /// Whose state it is; a name first seen joins the team
    #[arg(long, value_name = "NAME", value_parser = value::agent)]
    pub(crate) agent: String,
    /// The run it is about
    #[arg(long, visible_alias = "in", value_name = "ID")]
    pub(crate) run: Option<RunId>,
    /// The state: words, JSON, @FILE, or - for standard input; at most 64 KiB
    #[arg(value_name = "TEXT|JSON|@FILE|-", allow_hyphen_values = true, value_parser = value::words)]
    pub(crate) state: String,
}

/// Shows a state, the latest unless another is named
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  quorate checkpoint show
  quorate checkpoint show 12
  quorate checkpoint show --agent lead --json")]
pub(crate) struct CheckpointShow {
    /// Which
    pub(crate) id: Option<CheckpointId>,
    /// The latest of this agent
    #[arg(long, value_name = "NAME", conflicts_with = "id")]
    pub(crate) agent: Option<String>,
    /// The latest about this run
    #[arg(long, visible_alias = "in", value_name = "ID", conflicts_with = "id")]
    pub(crate) run: Option<RunId>,
}

/// Lists saved states, the latest first
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  quorate checkpoint list
  quorate checkpoint list --agent lead --json")]
pub(crate) struct CheckpointList {
    /// Only of this agent
    #[arg(long, value_name = "NAME")]
    pub(crate) agent: Option<String>,
    /// Only about this run
    #[arg(long, visible_alias = "in", value_name = "ID")]
    pub(crate) run: Option<RunId>,
}

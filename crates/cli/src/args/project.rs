//! `quorate init`, `backup`, `mcp`, `sql`, `completion` and `man`.

use super::value;
use clap::{Args, ValueEnum};
use std::path::PathBuf;

/// Writes a quorate.toml for this folder, and keeps .quorate/ out of git
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  quorate init
  quorate -C my-project init
  quorate init --template specialists     a team that plans and reaches goals in words
  quorate init --claude                   with hooks, status line and MCP server for Claude Code, and a guard for git
  quorate init --claude --remove          takes exactly those out again")]
pub(crate) struct Init {
    /// Which one to write: default (every setting, commented out) or specialists (a team that plans and reaches goals in words)
    #[arg(long, value_name = "NAME", default_value = "default")]
    pub(crate) template: String,
    /// Lets Claude Code in: .claude/settings.json, .mcp.json and git's pre-commit are added to, never overwritten
    #[arg(long)]
    pub(crate) claude: bool,
    /// Takes out what --claude put in
    #[arg(long, requires = "claude")]
    pub(crate) remove: bool,
}

/// Writes a consistent copy of the ledger while everything runs
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  quorate backup ledger-copy.db        an embedded ledger: a SQLite file
  quorate backup ledger.dump           a PostgreSQL ledger: for pg_restore")]
pub(crate) struct Backup {
    /// A file that is not there yet
    pub(crate) file: PathBuf,
}

/// Serves the tools for agents by MCP, on standard input and output
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  claude mcp add quorate -- quorate mcp
  codex mcp add quorate -- quorate mcp --agent reviewer")]
pub(crate) struct Mcp {
    /// Who speaks; else whose child this is (QUORATE_AGENT), else a person under the client's name
    #[arg(long, value_name = "NAME", value_parser = value::agent)]
    pub(crate) agent: Option<String>,
}

/// Prints SQL for the owner of a PostgreSQL ledger, to be run with psql
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  quorate sql roles | psql -v ON_ERROR_STOP=1 \"$OWNER\"        least privilege: who may do what
  quorate sql restored | psql -v ON_ERROR_STOP=1 \"$OWNER\"     once after a restore to an earlier moment")]
pub(crate) struct Sql {
    /// Which text
    #[arg(value_enum)]
    pub(crate) text: SqlText,
}

/// The texts of `quorate sql`.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum SqlText {
    /// Gives quorate_node, quorate_agent and quorate_reader their rights
    Roles,
    /// Puts terms and numbers ahead of those that were given out after the moment
    Restored,
}

/// Prints the completion script of a shell
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  quorate completion bash > ~/.local/share/bash-completion/completions/quorate
  quorate completion zsh > ~/.zfunc/_quorate
  quorate completion fish > ~/.config/fish/completions/quorate.fish")]
pub(crate) struct Completion {
    /// Which shell
    #[arg(value_parser = ["bash", "zsh", "fish"])]
    pub(crate) shell: String,
}

/// Prints the manual page, or writes those of all commands
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  quorate man | man -l -
  quorate man --dir ~/.local/share/man/man1")]
pub(crate) struct Man {
    /// Writes one page per command into this folder
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
}

//! `quorate hook` and `statusline`: what Claude Code and git call.

use clap::Args;
use std::path::PathBuf;

/// Answers a hook of Claude Code (JSON on standard input), or git's pre-commit
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  quorate init --claude             writes the hooks; nobody types them
  quorate hook PreToolUse           refuses an edit of a file that another agent has claimed
  quorate hook SessionStart         gives a cleared, compacted or resumed session its context back
  quorate hook pre-commit           refuses a commit of files that another agent has claimed
  quorate hook pre-commit services  the same for a project in that folder of the repository

Events: SessionStart, SessionEnd, UserPromptSubmit, PreToolUse, PostToolUse, PreCompact, Stop, SubagentStop, pre-commit.
Without a ledger, or when it does not answer, nothing is refused. Only pre-commit has an exit code: 3 for a file that is \
claimed. Who asks is the variable QUORATE_AGENT, else the session that the hooks have seen.")]
pub(crate) struct Hook {
    /// Which one; an unknown one is passed over
    pub(crate) event: String,
    /// With pre-commit: the project's folder, else the working folder
    #[arg(value_name = "FOLDER")]
    pub(crate) folder: Option<PathBuf>,
}

/// Prints the status line of Claude Code (JSON on standard input), and notes how full the context is
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  quorate init --claude             puts it into .claude/settings.json
  echo '{}' | quorate statusline    run 3: 12/20 done, 2 running, 1 failed")]
pub(crate) struct Statusline {}

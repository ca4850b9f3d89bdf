//! Where an agent works: in the project's folder with the others, or in a git worktree of the task's own.

use crate::diagnostic::quote;
use crate::error::{Error, Result};
use crate::table::did_you_mean;
use std::str::FromStr;

/// Where an agent works.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Workspace {
    /// In the project's folder, beside the others.
    #[default]
    Shared,
    /// In a worktree and on a branch of each task's own, merged when it succeeds.
    Worktree,
}

impl FromStr for Workspace {
    type Err = Error;

    fn from_str(text: &str) -> Result<Workspace> {
        match text {
            "shared" => Ok(Workspace::Shared),
            "worktree" => Ok(Workspace::Worktree),
            _ => Err(Error::invalid(format!("unknown workspace {}", quote(text))).hint(
                did_you_mean(text, ["shared", "worktree"])
                    .unwrap_or_else(|| "write `shared` or `worktree`".to_owned()),
            )),
        }
    }
}

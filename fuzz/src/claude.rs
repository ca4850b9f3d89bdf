//! The merging into Claude Code's files, which is a private module of `quorate`.

pub mod merge;

#[path = "../../crates/cli/src/claude/settings.rs"]
mod settings;

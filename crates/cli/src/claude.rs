//! Claude Code: its hooks, its status line, and what `quorate init --claude` writes for it.
//!
//! Here live the ways of Claude Code (2.1): names of events and fields, and what an answer looks like. A hook stands
//! between a person and his editor, so it never blocks for a reason of ours: without a ledger, or when anything fails, it
//! says nothing and exits 0. What a session is, and who may change a file, `service` decides.

mod guard;
mod hook;
mod input;
mod install;
mod me;
mod pane;
mod session;
mod settings;
mod statusline;
mod typist;
mod whole;

pub(crate) use hook::hook;
pub(crate) use install::{in_words, install, remove};
pub(crate) use me::found;
pub(crate) use pane::MARKER;
pub(crate) use statusline::statusline;

/// What must hold for any of its files: the same properties that `cargo xtask fuzz merge` tries.
#[cfg(test)]
#[path = "../../../fuzz/src/claude/merge.rs"]
mod any_file;
#[cfg(test)]
#[path = "../../../fuzz/src/replay.rs"]
mod replay;

#[cfg(test)]
#[test]
fn files_keep_what_they_say_through_a_merge() {
    replay::replay("merge", any_file::check);
}

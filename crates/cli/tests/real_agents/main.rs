//! The real Claude Code, Codex and Gemini CLI: offline, against a model that says what a script tells it to.
//!
//! `cargo xtask test --agents` installs them and runs this; `cargo test` alone does not. Keys are made up, the
//! environment is empty but for what is named here, and every address is of the loopback interface. What they do as
//! drivers of a run is in `drivers`; the rest is Claude Code as a person starts it.

#[path = "../cli/door.rs"]
#[allow(dead_code, unused_imports, unused_macros, reason = "the door has more than this suite wants")]
mod door;
#[path = "../cli/team.rs"]
#[allow(dead_code, reason = "the team has more than this suite wants")]
mod team;

mod clear;
mod desk;
mod drivers;
mod hooks;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Names the folder in which `cargo xtask` installed the agents.
const FOLDER: &str = "QUORATE_TEST_AGENTS";
/// A key that opens nothing.
const KEY: &str = "key-of-a-test-that-opens-nothing";

/// The PATH: the agents' own Node first, since an older one does not run them; then the agents, this binary, and the rest.
fn path() -> OsString {
    let folder =
        std::env::var_os(FOLDER).expect("run this by `cargo xtask test --agents`, which installs the agents");
    let modules = PathBuf::from(folder).join("node_modules");
    let us = Path::new(env!("CARGO_BIN_EXE_quorate")).parent().expect("it is in a folder").to_owned();
    let rest = std::env::var_os("PATH").unwrap_or_default();
    let folders =
        [modules.join("node/bin"), modules.join(".bin"), us].into_iter().chain(std::env::split_paths(&rest));
    std::env::join_paths(folders).expect("a PATH")
}

//! The real agents' programs, for the suite that runs them: found in the cache, or brought there by npm.
//!
//! Here live which they are and in which version, and the running of their suite. Nothing is installed into the system, and
//! nobody's own programs are used.

use crate::npm::{self, NODE};
use crate::step::{Report, Runner};
use crate::{Outcome, root};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The packages, in the versions that the streams' readers were tested with.
const PACKAGES: [&str; 4] =
    [NODE, "@anthropic-ai/claude-code@2.1.329", "@openai/codex@0.169.0", "@google/gemini-cli@0.61.0"];
/// What each brings.
const PROGRAMS: [&str; 4] = ["node", "claude", "codex", "gemini"];
/// Names the folder to the suite, and one that is there already to us.
const FOLDER: &str = "QUORATE_TEST_AGENTS";

/// Finds or installs them; `Err` within says why that cannot be done here.
pub fn install() -> Outcome<Result<PathBuf, String>> {
    if let Some(folder) = std::env::var_os(FOLDER) {
        return Ok(Ok(folder.into()));
    }
    npm::install("agents", &PACKAGES, "1 GB", all_run)
}

/// Asks each program for its version.
fn all_run(folder: &Path) -> Result<(), String> {
    for name in PROGRAMS {
        let mut look = npm::program(folder, name);
        look.arg("--version").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        if !look.status().is_ok_and(|status| status.success()) {
            return Err(format!("npm installed {name}, but it does not run here"));
        }
    }
    Ok(())
}

/// Runs the suite as a step; where npm cannot install the agents, that is said and counts as nothing.
pub fn step(report: &mut Report, locked: bool) {
    let folder = match install() {
        Ok(Ok(folder)) => folder,
        Ok(Err(why)) => return report.attempt(NAME, || Ok(Some(why))),
        Err(why) => return report.attempt(NAME, || Err(why)),
    };
    let mut command = Command::new("cargo");
    // With the whole workspace, as the other tests are built: else all is built again with fewer features.
    command.args(["test", "--workspace", "--test", "real_agents"]).args(locked.then_some("--locked"));
    command.current_dir(root()).env(FOLDER, folder).env_remove("QUORATE_STORE");
    report.command(NAME, Runner::Libtest, &mut command);
}

const NAME: &str = "real agents, offline";

/// `cargo xtask test --agents`.
pub fn command() -> Outcome {
    let mut report = Report::default();
    step(&mut report, false);
    report.finish()
}

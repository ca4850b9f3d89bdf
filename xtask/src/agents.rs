//! The real agents' programs, for the suite that runs them: found in the cache, or brought there by npm.
//!
//! Here live which they are and in which version, and the running of their suite. Nothing is installed into the system, and
//! nobody's own programs are used.

use crate::cluster::cache_folder;
use crate::setup::has;
use crate::step::{Report, Runner};
use crate::{Outcome, root, say};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The packages, in the versions that the streams' readers were tested with. They want a newer Node than distributions
/// have, which is a package, too.
const PACKAGES: [&str; 4] = [
    "node@24.21.0",
    "@anthropic-ai/claude-code@2.1.329",
    "@openai/codex@0.169.0",
    "@google/gemini-cli@0.61.0",
];
/// What each brings.
const PROGRAMS: [&str; 4] = ["node", "claude", "codex", "gemini"];
/// Names the folder to the suite, and one that is there already to us.
const FOLDER: &str = "QUORATE_TEST_AGENTS";
/// Is written once everything is there.
const MARK: &str = "installed";

/// Finds or installs them; `Err` within says why that cannot be done here.
pub fn install() -> Outcome<Result<PathBuf, String>> {
    if let Some(folder) = std::env::var_os(FOLDER) {
        return Ok(Ok(folder.into()));
    }
    let cache = cache_folder().ok_or("no folder for a cache: set HOME or XDG_CACHE_HOME")?;
    let folder = cache.with_file_name("agents");
    let mark = folder.join(MARK);
    if fs::read_to_string(&mark).is_ok_and(|text| text == PACKAGES.join(" ")) {
        say(&format!("agents: found in {}", folder.display()));
        return Ok(Ok(folder));
    }
    if !has("npm") {
        return Ok(Err("npm was not found: install Node.js with npm".to_string()));
    }
    say(&format!("installing {} into {} (about 1 GB)", PACKAGES.join(" "), folder.display()));
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).map_err(|e| format!("cannot make {}: {e}", folder.display()))?;
    if let Err(why) = npm(&folder) {
        return Ok(Err(why));
    }
    fs::write(&mark, PACKAGES.join(" ")).map_err(|e| format!("cannot write {}: {e}", mark.display()))?;
    Ok(Ok(folder))
}

fn npm(folder: &Path) -> Result<(), String> {
    let mut command = Command::new("npm");
    command
        .args(["install", "--no-audit", "--no-fund", "--no-save", "--loglevel=error", "--prefix"])
        .arg(folder);
    command.args(PACKAGES).current_dir(folder).stdin(Stdio::null());
    let status = command.status().map_err(|e| format!("npm could not be run: {e}"))?;
    if !status.success() {
        return Err(format!("npm could not install the agents ({status})"));
    }
    let modules = folder.join("node_modules");
    let path =
        format!("{}:{}", modules.join("node/bin").display(), std::env::var("PATH").unwrap_or_default());
    for program in PROGRAMS {
        let mut look = Command::new(modules.join(".bin").join(program));
        look.arg("--version")
            .env("PATH", &path)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        if !look.status().is_ok_and(|status| status.success()) {
            return Err(format!("npm installed {program}, but it does not run here"));
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

//! `cargo xtask plugin`: whether the real Claude Code accepts the plugin.
//!
//! Here lives bringing that program into a cache by npm, with the Node that it wants, and asking it. Nothing is installed into the
//! system, and nobody's own settings are read. Where npm cannot install it, that is said.

use crate::cluster::cache_folder;
use crate::{Outcome, root, say, setup};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The packages, in the versions that the plugin was tried with.
const PACKAGES: [&str; 2] = ["node@24.21.0", "@anthropic-ai/claude-code@2.1.329"];
/// Names a folder with them (`node_modules`) that is there already.
const FOLDER: &str = "QUORATE_TEST_AGENTS";

/// Asks; answers why that cannot be done here, if it cannot.
pub fn check() -> Outcome<Option<String>> {
    let folder = match install()? {
        Ok(folder) => folder,
        Err(why) => return Ok(Some(why)),
    };
    let home = std::env::temp_dir().join(format!("quorate-plugin-{}", std::process::id()));
    fs::create_dir_all(&home).map_err(|e| format!("cannot make {}: {e}", home.display()))?;
    let mut claude = program(&folder, "claude");
    claude.args(["plugin", "validate", "plugin", "--strict"]).current_dir(root());
    let asked = claude.env("HOME", &home).stdin(Stdio::null()).output();
    let _ = fs::remove_dir_all(&home);
    let asked = asked.map_err(|e| format!("claude could not be run: {e}"))?;
    if asked.status.success() {
        say("claude plugin validate --strict: the plugin is valid");
        return Ok(None);
    }
    Err(format!(
        "claude plugin validate plugin --strict ({}):\n{}{}",
        asked.status,
        String::from_utf8_lossy(&asked.stdout),
        String::from_utf8_lossy(&asked.stderr)
    ))
}

/// Finds or installs the program; `Err` within says why that cannot be done here.
fn install() -> Outcome<Result<PathBuf, String>> {
    if let Some(folder) = std::env::var_os(FOLDER) {
        return Ok(Ok(folder.into()));
    }
    let cache = cache_folder().ok_or("no folder for a cache: set HOME or XDG_CACHE_HOME")?;
    let folder = cache.with_file_name("claude-code");
    if runs(&folder) {
        say(&format!("claude: found in {}", folder.display()));
        return Ok(Ok(folder));
    }
    if !setup::has("npm") {
        return Ok(Err("npm was not found: install Node.js with npm".into()));
    }
    say(&format!("installing {} into {}", PACKAGES.join(" and "), folder.display()));
    fs::create_dir_all(&folder).map_err(|e| format!("cannot make {}: {e}", folder.display()))?;
    let mut npm = Command::new("npm");
    npm.args(["install", "--no-audit", "--no-fund", "--no-save", "--loglevel=error", "--prefix"])
        .arg(&folder);
    let done = npm.args(PACKAGES).current_dir(&folder).stdin(Stdio::null()).status();
    match done {
        Ok(status) if status.success() && runs(&folder) => Ok(Ok(folder)),
        Ok(status) if status.success() => Ok(Err("npm installed claude, but it does not run here".into())),
        Ok(status) => Ok(Err(format!("npm could not install claude ({status})"))),
        Err(e) => Ok(Err(format!("npm could not be run: {e}"))),
    }
}

fn runs(folder: &Path) -> bool {
    let mut claude = program(folder, "claude");
    claude.arg("--version").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    claude.status().is_ok_and(|status| status.success())
}

/// A program of that folder, with its own Node first: an older one on the PATH does not run it.
fn program(folder: &Path, name: &str) -> Command {
    let modules = folder.join("node_modules");
    let path =
        format!("{}:{}", modules.join("node/bin").display(), std::env::var("PATH").unwrap_or_default());
    let mut command = Command::new(modules.join(".bin").join(name));
    command.env("PATH", path);
    command
}

//! `cargo xtask plugin`: whether the real Claude Code accepts the plugin.
//!
//! Here lives asking the program that the suite of real agents uses, too ([`crate::agents`]). Nobody's own settings are read.
//! Where npm cannot install it, that is said.

use crate::{Outcome, agents, npm, root, say};
use std::fs;
use std::process::Stdio;

/// Asks; answers why that cannot be done here, if it cannot.
pub fn check() -> Outcome<Option<String>> {
    let folder = match agents::install()? {
        Ok(folder) => folder,
        Err(why) => return Ok(Some(why)),
    };
    let home = std::env::temp_dir().join(format!("quorate-plugin-{}", std::process::id()));
    fs::create_dir_all(&home).map_err(|e| format!("cannot make {}: {e}", home.display()))?;
    let mut claude = npm::program(&folder, "claude");
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

//! `cargo xtask deny`: cargo-deny, installed if need be.
//!
//! It asks for bans, licences, sources and advisories as `deny.toml` says. `cargo xtask test` does not need it: tidy
//! holds the same bans and licences by itself, so that a fresh machine need not compile cargo-deny for minutes.

use crate::{Outcome, root, say, setup};
use std::process::{Command, Stdio};

/// The version whose configuration `deny.toml` is written for.
const VERSION: &str = "^0.20";

/// What cargo-deny says when the database of advisories cannot be had.
const UNREACHABLE: &str = "failed to fetch advisory database";

/// Runs `cargo deny check`.
pub fn command() -> Outcome {
    if !setup::has_cargo("deny") {
        say("cargo-deny is not here: installing it with `cargo install`, which takes some minutes");
        cargo(&["install", "cargo-deny", "--locked", "--version", VERSION])?;
    }
    cargo(&["deny", "check", "bans", "licenses", "sources"])?;
    advisories()
}

/// Checks for known vulnerabilities. Without the network this is skipped, and says so.
fn advisories() -> Outcome {
    let mut deny = Command::new("cargo");
    deny.args(["deny", "check", "advisories"]).current_dir(root()).stdin(Stdio::null());
    let output = deny.output().map_err(|e| format!("cannot run cargo deny: {e}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    if said.contains(UNREACHABLE) {
        say("advisories: skipped, their database cannot be reached from here");
        return Ok(());
    }
    eprint!("{said}");
    print!("{}", String::from_utf8_lossy(&output.stdout));
    if output.status.success() {
        Ok(())
    } else {
        Err(format!("cargo deny check advisories: {}", output.status))
    }
}

fn cargo(arguments: &[&str]) -> Outcome {
    let status = Command::new("cargo").args(arguments).current_dir(root()).status();
    let status = status.map_err(|e| format!("cannot run cargo: {e}"))?;
    if status.success() { Ok(()) } else { Err(format!("cargo {}: {status}", arguments.join(" "))) }
}

//! schemathesis, which makes up requests from the OpenAPI document of a node.
//!
//! Here live its version, how it is asked, and that no operation was only ever refused. What exists on the node that it asks, so
//! that requests can find it, lives in `prepared`; what of that it is told in `hooks.py`, and what it expects in
//! `schemathesis.toml`.

use super::served::Served;
use super::{prepared, succeeds};
use crate::cluster::cache_folder;
use crate::step::{Report, Runner};
use crate::{Outcome, root, say};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The version whose verdicts are explained here.
const SCHEMATHESIS: &str = "schemathesis==4.32.5";
/// The log as it grows has no end, so it cannot be asked and read.
const STREAM: &str = "/events$";
/// Requests made up for each operation.
const EXAMPLES: &str = "20";
/// Where what it is told stands.
const FOLDER: &str = "xtask/src/judge";
const NAME: &str = "schemathesis finds the API as it is described";

/// Asks it, as two steps.
pub fn steps(report: &mut Report, node: &Served) {
    let program = match install() {
        Ok(Ok(program)) => program,
        Ok(Err(why)) => return report.attempt(NAME, || Ok(Some(why))),
        Err(why) => return report.attempt(NAME, || Err(why)),
    };
    let told = node.folder().join("told");
    match judge(&program, node, &told) {
        Ok(mut judge) => report.command(NAME, Runner::None, &mut judge),
        Err(why) => return report.check(NAME, || Err(why)),
    }
    report.check("schemathesis had each operation do something", || {
        let told = fs::read_to_string(&told).map_err(|e| format!("cannot read {}: {e}", told.display()))?;
        all_done(&told)
    });
}

/// Prepares the node, and what is to be said to it.
fn judge(program: &Path, node: &Served, told: &Path) -> Outcome<Command> {
    let folder = root().join(FOLDER);
    let prepared = node.folder().join("prepared");
    fs::write(&prepared, prepared::on(node)?)
        .map_err(|e| format!("cannot write {}: {e}", prepared.display()))?;
    let mut judge = Command::new(program);
    judge.arg("--config-file").arg(folder.join("schemathesis.toml"));
    judge.args(["run", &format!("{}/api/v1/openapi.json", node.url()), "--no-color"]);
    judge.args(["--exclude-path-regex", STREAM, "--generation-deterministic", "--max-examples", EXAMPLES]);
    judge.env("PYTHONPATH", &folder).env("PYTHONDONTWRITEBYTECODE", "1").env("SCHEMATHESIS_HOOKS", "hooks");
    judge.env("QUORATE_JUDGE_PREPARED", prepared).env("QUORATE_JUDGE_TOLD", told);
    judge.current_dir(node.folder()).stdin(Stdio::null());
    Ok(judge)
}

/// Checks lines `OPERATION ASKED DONE`: what was asked was also done, at least once.
fn all_done(told: &str) -> Outcome {
    let operations = told.lines().count();
    let refused: Vec<&str> = told.lines().filter(|line| line.ends_with(" 0")).collect();
    if operations == 0 {
        return Err("no operation was asked".into());
    }
    if !refused.is_empty() {
        return Err(format!("always refused (operation, how often asked, how often done): {refused:?}"));
    }
    say(&format!("all {operations} operations did something"));
    Ok(())
}

/// Finds or installs it; `Err` within says why that cannot be done here.
fn install() -> Outcome<Result<PathBuf, String>> {
    let cache = cache_folder().ok_or("no folder for a cache: set HOME or XDG_CACHE_HOME")?;
    let folder = cache.with_file_name(SCHEMATHESIS.replace("==", "-"));
    let program = folder.join("bin/schemathesis");
    if succeeds(Command::new(&program).arg("--version")) {
        return Ok(Ok(program));
    }
    say(&format!("installing {SCHEMATHESIS} into {}", folder.display()));
    if !succeeds(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder)) {
        return Ok(Err("python3 -m venv failed: on Debian and Ubuntu: apt-get install python3-venv".into()));
    }
    if !succeeds(Command::new(folder.join("bin/pip")).args(["install", "--quiet", SCHEMATHESIS])) {
        return Ok(Err(format!("pip could not install {SCHEMATHESIS}")));
    }
    Ok(Ok(program))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operation_that_was_only_refused_is_named() {
        assert!(all_done("addTask 9 4\nshowTask 30 10\n").is_ok());
        assert!(all_done("addTask 9 4\nshowTask 30 0\n").is_err_and(|why| why.contains("showTask 30 0")));
        assert!(all_done("").is_err());
    }
}

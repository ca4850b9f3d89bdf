//! promtool, which reads the metrics of a node as Prometheus would.
//!
//! Debian has it in the package of the whole server. That is not installed, since it would be started: the one program is
//! unpacked into a cache.

use super::served::Served;
use crate::cluster::cache_folder;
use crate::{Outcome, apt, say, setup};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The package that it is in.
const PACKAGE: &str = "prometheus";

/// Asks it; answers why that cannot be done here, if it cannot.
pub fn judge(node: &Served) -> Outcome<Option<String>> {
    let promtool = match promtool() {
        Ok(promtool) => promtool,
        Err(why) => return Ok(Some(format!("promtool could not be brought: {why}"))),
    };
    let metrics = node.get("/metrics")?;
    let mut judge = Command::new(promtool);
    judge.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut judge = judge.spawn().map_err(|e| format!("promtool could not be run: {e}"))?;
    let input = judge.stdin.take().ok_or("promtool takes no input")?;
    { input }.write_all(metrics.as_bytes()).map_err(|e| format!("promtool took no metrics: {e}"))?;
    let judged = judge.wait_with_output().map_err(|e| format!("promtool did not end: {e}"))?;
    let words = [judged.stdout, judged.stderr].concat();
    if judged.status.success() && words.is_empty() {
        return Ok(None);
    }
    Err(format!("promtool check metrics ({}): {}", judged.status, String::from_utf8_lossy(&words)))
}

/// Returns the system's, or that in the cache, which it fills.
fn promtool() -> Outcome<PathBuf> {
    if setup::has("promtool") {
        return Ok("promtool".into());
    }
    let cache = cache_folder().ok_or("no folder for a cache: set HOME or XDG_CACHE_HOME")?;
    let program = cache.with_file_name("promtool");
    if program.is_file() {
        return Ok(program);
    }
    if !apt::is_here() {
        return Err(format!("it is in the package {PACKAGE} of Debian and Ubuntu"));
    }
    let work = program.with_extension("apt");
    say(&format!("bringing promtool out of the package {PACKAGE} into {}", program.display()));
    let brought = unpack(&work, &program);
    let _ = fs::remove_dir_all(&work);
    brought.map(|()| program)
}

fn unpack(work: &Path, program: &Path) -> Outcome {
    let apt = apt::Private::in_folder(work)?;
    // One unreachable source among several is no reason to stop: the download will tell.
    let _ = apt.update();
    let tree = work.join("tree");
    for archive in apt.download(&[PACKAGE.to_owned()])? {
        apt::unpack(&archive, &tree)?;
    }
    // Renamed, so that a half-unpacked one is never found.
    fs::rename(tree.join("usr/bin/promtool"), program)
        .map_err(|e| format!("the package has no promtool that could be put in place: {e}"))
}

//! `cargo xtask pg`: a PostgreSQL of your own, for benchmarks and for looking.
//!
//! Here lives only the command; the server is a `cluster`, with durable settings unless `--fast` is given.

use crate::cluster::{self, Cluster, Durability, Until};
use crate::{Outcome, say, setup};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

/// How long `stop` waits for the folder to go.
const STOP_TIMEOUT: Duration = Duration::from_secs(40);

/// Starts or stops a cluster.
pub fn command(words: &[&str]) -> Outcome {
    match words {
        ["stop", target] => stop(target),
        _ => start(words),
    }
}

fn start(words: &[&str]) -> Outcome {
    let (mut durability, mut until, mut dir) = (Durability::Full, Until::ProcessEnds, None);
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match *word {
            "--fast" => durability = Durability::None,
            "--background" => until = Until::Stopped,
            "--dir" => dir = Some(PathBuf::from(words.next().ok_or("--dir needs a folder")?)),
            other => return Err(format!("unknown argument `{other}`; see cargo xtask help")),
        }
    }
    let installation = setup::postgres()?;
    let cluster = Cluster::start(&installation, durability, until, dir.as_deref())?;
    if durability == Durability::Full && is_memory(dir.as_deref().unwrap_or(cluster.folder())) {
        say("its data lie in memory: what a commit costs on a disk is seen with --dir DIR");
    }
    // The last line, alone: scripts read it.
    println!("{}", cluster.url());
    if until == Until::Stopped {
        cluster.leave_running();
        return Ok(());
    }
    // Ctrl-C ends this process, and with it the cluster.
    loop {
        thread::park();
    }
}

/// Tells whether a folder lies on a file system that no disk backs.
fn is_memory(folder: &Path) -> bool {
    let output = Command::new("stat").args(["-f", "-c", "%T"]).arg(folder).output();
    output.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).trim() == "tmpfs")
}

fn stop(target: &str) -> Outcome {
    let folder = target.split("host=").last().and_then(|rest| rest.split('&').next()).unwrap_or(target);
    let folder = Path::new(folder);
    cluster::stop(folder)?;
    let asked = Instant::now();
    while folder.exists() {
        if asked.elapsed() > STOP_TIMEOUT {
            return Err(format!("{} is still there after {} s", folder.display(), STOP_TIMEOUT.as_secs()));
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

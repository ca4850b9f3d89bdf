//! Running git.
//!
//! Here live the one way in which git is called, its limit in time and its end when the node is to stop at once. What it is
//! called for lives in `workspace`. A git that hangs (a filter that waits for a server, a disk on a network) must keep
//! neither the others' merges nor the node's end waiting for ever.

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use quorate_drivers::COMMIT_EMAIL;
use quorate_model::{Error, Result};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

/// How long one command of git may take: the checkout of a large project needs minutes.
const LIMIT: Duration = Duration::from_secs(10 * 60);
/// How long git has to take away its locks when it is told to end.
const GRACE: Duration = Duration::from_secs(2);
/// How often it is looked whether it must end.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// How much of git's own words is told, in characters.
const WORDS_MAX: usize = 300;

/// The git of one node.
#[derive(Debug, Clone)]
pub(crate) struct Git {
    halted: Arc<AtomicBool>,
    limit: Duration,
}

impl Default for Git {
    fn default() -> Git {
        Git { halted: Arc::default(), limit: LIMIT }
    }
}

/// What a repository may name to be run with git's commands. Git hands it on where it looks into repositories within.
const NO_COMMANDS: [&str; 4] = ["-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false"];

/// Why a command was ended.
#[derive(Debug, Clone, Copy)]
enum Cut {
    Halted,
    TooLong,
}

impl Git {
    /// Ends what runs, and lets nothing more begin.
    pub(crate) fn halt(&self) {
        self.halted.store(true, Ordering::Relaxed);
    }

    /// Tells whether the node is to stop at once.
    pub(crate) fn is_halted(&self) -> bool {
        self.halted.load(Ordering::Relaxed)
    }

    /// How long one command may take.
    pub(crate) fn limit(&self) -> Duration {
        self.limit
    }

    /// Runs git in a folder; answers with what it printed.
    ///
    /// # Errors
    /// `Failed` with git's own words, or why it was ended.
    pub(crate) fn run(&self, folder: &Path, words: &[&str]) -> Result<String> {
        let name = words.iter().find(|word| !word.starts_with('-') && !word.contains('=')).unwrap_or(&"");
        let failed = |why: &str| Error::failed(format!("git {name}: {why}"));
        let mut command = Command::new("git");
        command.arg("-C").arg(folder).args(NO_COMMANDS).args(words);
        command.env("LC_ALL", "C").env("GIT_TERMINAL_PROMPT", "0").env("GIT_EDITOR", "true");
        for inherited in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"] {
            command.env_remove(inherited);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // In a group of its own: a Ctrl-C is for the node, which lets its work end in order.
        let child =
            command.process_group(0).spawn().map_err(|e| Error::failed(format!("cannot run git: {e}")))?;
        let group = i32::try_from(child.id()).map(Pid::from_raw).map_err(|e| failed(&e.to_string()))?;
        let (ended, told) = mpsc::channel();
        let git = self.clone();
        let watch = std::thread::spawn(move || git.watch(group, &told));
        let output = child.wait_with_output();
        drop::<mpsc::Sender<()>>(ended);
        let cut = watch.join().ok().flatten();
        let output = output.map_err(|e| failed(&e.to_string()))?;
        match cut {
            // What was done in that very moment is done.
            _ if output.status.success() => {
                return Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned());
            }
            Some(Cut::Halted) => return Err(failed("ended, because its node stops")),
            Some(Cut::TooLong) => {
                return Err(failed(&format!("not done after {} s, and ended", self.limit.as_secs())));
            }
            None => {}
        }
        let both = [output.stderr, output.stdout].concat();
        let told = String::from_utf8_lossy(&both).split_whitespace().collect::<Vec<_>>().join(" ");
        let told: String = told.chars().take(WORDS_MAX).collect();
        Err(failed(if told.is_empty() { "it says nothing" } else { &told }))
    }

    /// Runs git as whoever made the change, without hooks: they are a person's, for a person's commits.
    ///
    /// # Errors
    /// As [`run`](Git::run).
    pub(crate) fn run_as(&self, agent: &str, folder: &Path, words: &[&str]) -> Result<String> {
        let who = [format!("user.name={agent}"), format!("user.email={COMMIT_EMAIL}")];
        let mut all = vec!["-c", &who[0], "-c", &who[1], "-c", "commit.gpgSign=false"];
        all.extend(words);
        self.run(folder, &all)
    }

    /// Ends a command that must not go on; answers with why, once the command is over.
    fn watch(&self, group: Pid, ended: &mpsc::Receiver<()>) -> Option<Cut> {
        let begun = Instant::now();
        let why = loop {
            match ended.recv_timeout(LOOK_EVERY) {
                Ok(()) | Err(RecvTimeoutError::Disconnected) => return None,
                Err(RecvTimeoutError::Timeout) if self.is_halted() => break Cut::Halted,
                Err(RecvTimeoutError::Timeout) if begun.elapsed() >= self.limit => break Cut::TooLong,
                Err(RecvTimeoutError::Timeout) => {}
            }
        };
        // It is over when the other end is gone; until then the group is its own, for nobody has waited for its leader.
        let _ = killpg(group, Signal::SIGTERM);
        if let Err(RecvTimeoutError::Timeout) = ended.recv_timeout(GRACE) {
            let _ = killpg(group, Signal::SIGKILL);
        }
        Some(why)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_git_that_hangs_is_ended_and_so_is_one_whose_node_stops() {
        let here = std::env::temp_dir();
        let sleep = ["-c", "alias.nap=!sleep 60", "nap"];
        let short = Git { limit: Duration::from_millis(200), ..Git::default() };
        let begun = Instant::now();
        let error = short.run(&here, &sleep).unwrap_err();
        assert!(error.message.contains("git nap: not done after"), "{error}");
        let git = Git::default();
        let stopper = git.clone();
        let stop = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(200));
            stopper.halt();
        });
        let error = git.run(&here, &sleep).unwrap_err();
        assert!(error.message.contains("its node stops"), "{error}");
        stop.join().unwrap();
        assert!(begun.elapsed() < Duration::from_secs(40), "nobody waited for the nap's end");
    }

    #[test]
    fn an_error_names_the_command_and_what_git_says() {
        let git = Git::default();
        let error = git.run_as("ada", &std::env::temp_dir(), &["no-such-command"]).unwrap_err();
        assert!(error.message.starts_with("git no-such-command: ") && error.message.len() > 25, "{error}");
    }
}

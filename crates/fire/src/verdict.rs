//! What is said of a storm: one line, and on red what was wrong; and of several, which were red.

use crate::arena::Backend;
use crate::history::History;
use crate::storm::Options;
use std::fmt::{self, Display, Formatter};
use std::path::PathBuf;
use std::time::Duration;

/// Findings of one check that are shown, at most.
const SHOWN_MAX: usize = 5;

/// What was done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Nodes killed.
    pub nodes: usize,
    /// Single agents killed.
    pub agents: usize,
    /// Children killed.
    pub children: usize,
    /// Followers killed.
    pub followers: usize,
    /// Members stopped past their lease.
    pub stops: usize,
    /// Children stopped.
    pub stopped_children: usize,
    /// Restarts of the server.
    pub restarts: usize,
    /// Holders killed and not started again.
    pub for_good: usize,
    /// Times when the disk stood still by itself, for a quarter of a lease or more.
    pub stalls: usize,
}

impl Display for Tally {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "killed {} nodes, {} agents, {} children, {} followers, {} for good; stopped {} members, {} children; \
             {} server restarts, {} stalls of the disk",
            self.nodes,
            self.agents,
            self.children,
            self.followers,
            self.for_good,
            self.stops,
            self.stopped_children,
            self.restarts,
            self.stalls
        )
    }
}

/// The outcome of a storm.
#[derive(Debug, Clone)]
pub struct Verdict {
    line: String,
    findings: Vec<(&'static str, Vec<String>)>,
    kept: Option<PathBuf>,
}

impl Verdict {
    /// Sums a storm up.
    pub fn new(
        options: &Options,
        tally: Tally,
        history: &History,
        took: Duration,
        findings: Vec<(&'static str, Vec<String>)>,
        kept: Option<PathBuf>,
    ) -> Verdict {
        let line = format!(
            "seed {} {}: {} tasks, {} attempts; {tally}; {} takeovers, {} refused writes, {:.1} s: {}",
            options.seed,
            options.backend.name(),
            history.tasks.len(),
            history.attempts.len(),
            history.count("task.lease_expired"),
            history.count("write.refused"),
            took.as_secs_f64(),
            if findings.is_empty() { "clean" } else { "RED" }
        );
        Verdict::of(line, findings, kept)
    }

    /// Says what was found beside a line that was made elsewhere.
    pub fn of(line: String, findings: Vec<(&'static str, Vec<String>)>, kept: Option<PathBuf>) -> Verdict {
        Verdict { line, findings, kept }
    }

    /// Returns whether nothing was wrong.
    pub fn is_clean(&self) -> bool {
        self.findings.is_empty()
    }

    /// Returns whether a check went red.
    pub fn went_red_by(&self, check: &str) -> bool {
        self.findings.iter().any(|(name, _)| *name == check)
    }

    /// Removes the folder that was kept.
    pub fn forget(&self) {
        // What cannot be removed stays for the person who looks into the temporary folder.
        let _ = self.kept.as_ref().map(std::fs::remove_dir_all);
    }
}

/// Which of several storms, or stories, were red.
#[derive(Debug, Default)]
pub struct Reds(Vec<String>);

impl Reds {
    /// Tells what came of one.
    pub fn tell(&mut self, seed: u64, backend: Backend, verdict: &Verdict) {
        print!("{verdict}");
        if !verdict.is_clean() {
            self.0.push(format!("{seed} on {}", backend.name()));
        }
    }

    /// Tells which were red; answers whether none was.
    pub fn end(self) -> bool {
        if !self.0.is_empty() {
            println!("red: seed {}", self.0.join(", seed "));
        }
        self.0.is_empty()
    }
}

impl Display for Verdict {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.line)?;
        for (name, findings) in &self.findings {
            writeln!(f, "  red: {name}")?;
            for finding in findings.iter().take(SHOWN_MAX) {
                writeln!(f, "    {finding}")?;
            }
            if findings.len() > SHOWN_MAX {
                writeln!(f, "    and {} more", findings.len() - SHOWN_MAX)?;
            }
        }
        match &self.kept {
            Some(folder) => writeln!(f, "  kept: {}", folder.display()),
            None => Ok(()),
        }
    }
}

//! Where an act takes place: a ledger with a plan, a folder, and nodes that are started and watched one by one.
//!
//! Here live the waiting, the end and the judgement, which all acts share. What is done to the nodes lives with each
//! act, in `hosts` and `time`.

use crate::Outcome;
use crate::arena::Arena;
use crate::check;
use crate::clock::now_ms;
use crate::follower::Follower;
use crate::history::{Disturbance, History, read_lines};
use crate::ledger::Ledger;
use crate::party::{Member, Party};
use crate::procfs::children_of;
use crate::verdict::Verdict;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long anything that is expected may take; far more than it does.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// How often something that is waited for is looked at.
const TICK: Duration = Duration::from_millis(20);
/// How long claims, orphans and the follower may take to come to rest.
const REST: Duration = Duration::from_secs(15);
/// What a stage is made of.
#[derive(Debug)]
pub struct Parts {
    /// The folder, with `plan.toml`.
    pub arena: Arena,
    /// The ledger, to be read past whatever is done to the nodes.
    pub ledger: Ledger,
    /// The nodes.
    pub members: Vec<Member>,
    /// The ledger's address as each node knows it.
    pub urls: Vec<String>,
    /// The lease, in milliseconds.
    pub lease_ms: i64,
    /// Whether the ledger is a file.
    pub shares_a_file: bool,
}

/// One act's own ledger, folder and nodes.
#[derive(Debug)]
pub struct Stage {
    /// The folder.
    pub arena: Arena,
    /// The ledger.
    pub ledger: Ledger,
    /// The nodes.
    pub party: Party,
    urls: Vec<String>,
    lease_ms: i64,
    follower: Follower,
    desertions: Vec<String>,
    begun: Instant,
}

impl Stage {
    /// Stores the plan and begins to follow the log. No node is started.
    pub fn begin(parts: Parts) -> Outcome<Stage> {
        let begun = Instant::now();
        let Parts { arena, mut ledger, members, urls, lease_ms, shares_a_file } = parts;
        arena.run(&["run", "plan.toml", "--detach"])?;
        ledger.add_witness()?;
        let mut follower = Follower::default();
        follower.start(&arena)?;
        let party = Party::made_of(members, shares_a_file);
        Ok(Stage { arena, ledger, party, urls, lease_ms, follower, desertions: Vec::new(), begun })
    }

    /// Starts a node.
    pub fn start(&mut self, at: usize) -> Outcome {
        self.party.start(at, &self.arena)
    }

    /// Waits until it holds; says what did not come if it does not.
    pub fn wait(
        &mut self,
        what: &str,
        mut holds: impl FnMut(&mut Stage) -> Outcome<bool>,
    ) -> Outcome<Duration> {
        let begun = Instant::now();
        loop {
            if holds(self)? {
                return Ok(begun.elapsed());
            }
            if let Some((_, _, words)) = self.party.deserters().first() {
                self.desertions.push(words.clone());
            }
            if begun.elapsed() > PATIENCE {
                return Err(format!("{what}: not within {} s ({})", PATIENCE.as_secs(), self.keep_a_copy()));
            }
            sleep(TICK);
        }
    }

    /// Waits until the ledger answers with at least so much.
    pub fn wait_for(&mut self, what: &str, sql: &str, number: i64) -> Outcome<Duration> {
        self.wait(what, |stage| Ok(stage.ledger.number(sql)? >= number))
    }

    /// Waits until every node has said that it is at work.
    pub fn wait_until_all_work(&mut self) -> Outcome {
        self.wait("all nodes at work", |stage| Ok(stage.party.members.iter().all(Member::is_at_work)))?;
        Ok(())
    }

    /// Returns the id that a node has in the ledger.
    pub fn node_id(&mut self, at: usize) -> Outcome<i64> {
        let pid = self.party.members[at].pid().ok_or("the node has ended")?;
        self.ledger.number(&include_str!("../sql/node_id.sql").replace("$pid", &pid.to_string()))
    }

    /// Notes that a node was hurt from a moment until now.
    pub fn note(&mut self, at: usize, from_ms: i64) {
        let pid = self.party.members[at].pid();
        self.party.record.push(Disturbance { pid, from_ms, until_ms: now_ms() });
    }

    /// Waits until all tasks have ended, sends everyone home and reads what is left.
    pub fn end(&mut self) -> Outcome<History> {
        let open = include_str!("../sql/open.sql");
        let settled = self.wait("every task ended", |stage| Ok(stage.ledger.number(open)? == 0));
        settled.err().into_iter().for_each(|why| println!("  {why}"));
        let claims = include_str!("../sql/claimed.sql");
        self.rest(|stage| stage.ledger.number(claims) == Ok(0));
        self.desertions.extend(self.party.deserters().into_iter().map(|(_, _, words)| words));
        self.desertions.extend(self.party.dismiss());
        let last = self.ledger.number(include_str!("../sql/head.sql"))?;
        self.rest(|stage| stage.follower.seen().last() == Some(&last));
        self.follower.kill();
        self.rest(|stage| stage.urls.iter().all(|url| children_of(url).is_empty()));
        let orphans = self.urls.iter().flat_map(|url| children_of(url));
        Ok(History {
            orphans: orphans
                .map(|o| format!("process {} of task {}: {}", o.pid, o.task, o.command))
                .collect(),
            lines: read_lines(&self.arena.path().join("out"))?,
            followed: self.follower.seen(),
            desertions: std::mem::take(&mut self.desertions),
            disturbances: self.party.record.clone(),
            lease_ms: self.lease_ms,
            ..History::read(&mut self.ledger)?
        })
    }

    fn rest(&mut self, mut is_quiet: impl FnMut(&mut Stage) -> bool) {
        let until = Instant::now() + REST;
        while !is_quiet(self) && Instant::now() < until {
            sleep(TICK);
        }
    }

    /// Judges the history, with what the act itself has found, and keeps the folder on red.
    pub fn judge(
        self,
        line: &str,
        history: &History,
        own: Vec<(&'static str, Vec<String>)>,
    ) -> Outcome<Verdict> {
        let mut findings = check::run(history);
        findings.extend(own.into_iter().filter(|(_, found)| !found.is_empty()));
        let line = format!(
            "{line}; {} tasks, {} attempts, {} takeovers, {} refused writes, {:.1} s: {}",
            history.tasks.len(),
            history.attempts.len(),
            history.count("task.lease_expired"),
            history.count("write.refused"),
            self.begun.elapsed().as_secs_f64(),
            if findings.is_empty() { "clean" } else { "RED" }
        );
        let mut kept = None;
        if !findings.is_empty() {
            let folder = self.arena.keep();
            history.write(&folder).map_err(|e| format!("cannot write into {}: {e}", folder.display()))?;
            kept = Some(folder);
        }
        Ok(Verdict::of(line, findings, kept))
    }

    /// Copies the output of all nodes to where it stays when this ends, and says where.
    fn keep_a_copy(&self) -> String {
        let folder = std::env::temp_dir().join(format!("quorate-fire-{}-logs", std::process::id()));
        let _ = std::fs::create_dir(&folder);
        for entry in std::fs::read_dir(self.arena.path().join("logs")).into_iter().flatten().flatten() {
            let _ = std::fs::copy(entry.path(), folder.join(entry.file_name()));
        }
        format!("output: {}", folder.display())
    }
}

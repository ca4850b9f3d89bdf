//! The processes of a storm: nodes and single agents, started, killed, stopped and revived.
//!
//! Here live their handles and the record of what was done to whom and when, which the checks need to tell a healthy
//! process from one that was hurt. Only processes that were started here, and their children, are ever signalled.

use crate::Outcome;
use crate::arena::{Arena, Backend};
use crate::clock::now_ms;
use crate::history::Disturbance;
use crate::hosts::net::Home;
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

/// How long a process may take to end in order.
const FAREWELL: Duration = Duration::from_secs(20);

/// How many agents a node has: one for each of the tasks that are told too late.
const AGENTS: &str = "6";

/// What a node says once it is at work.
const AT_WORK: &str = "Ctrl-C stops it";

/// A node or a single agent.
#[derive(Debug)]
pub struct Member {
    /// Its name among the processes of the storm.
    pub name: String,
    /// Whether it is a node with several agents.
    pub is_node: bool,
    words: Vec<String>,
    setting: Setting,
    child: Option<Child>,
    log: PathBuf,
    lives: u32,
    /// The place in the record of its present stop.
    stopped: Option<usize>,
}

/// Where a member runs, where that is not here.
#[derive(Debug, Clone, Default)]
pub struct Setting {
    /// The host; none is this one.
    pub home: Option<Home>,
    /// Variables beside, or instead of, those that all have.
    pub env: Vec<(&'static str, String)>,
}

/// All of them.
#[derive(Debug)]
pub struct Party {
    /// The members.
    pub members: Vec<Member>,
    /// What was done to them.
    pub record: Vec<Disturbance>,
    /// A process that is stopped with the file's lock makes all others wait.
    shares_a_file: bool,
}

impl Party {
    /// Names who takes part: three nodes on PostgreSQL, one on SQLite, and two single agents.
    pub fn of(backend: Backend) -> Party {
        let node = |name: &str| Member::new(name, true, vec!["up", "--agents", AGENTS]);
        let mut members = match backend {
            Backend::Lite => vec![node("node-1")],
            Backend::Pg => vec![node("node-1"), node("node-2"), node("node-3")],
        };
        members.push(Member::new("solo-1", false, vec!["agent", "run", "solo-1"]));
        members.push(Member::new("solo-2", false, vec!["agent", "run", "solo-2"]));
        Party { members, record: Vec::new(), shares_a_file: backend == Backend::Lite }
    }

    /// Names who takes part elsewhere than in a storm.
    pub fn made_of(members: Vec<Member>, shares_a_file: bool) -> Party {
        Party { members, record: Vec::new(), shares_a_file }
    }

    /// Starts a member that does not run.
    pub fn start(&mut self, at: usize, arena: &Arena) -> Outcome {
        self.members[at].start(arena)
    }

    /// Gives a member SIGKILL; answers whether there was one to be killed.
    pub fn kill(&mut self, at: usize) -> bool {
        let member = &mut self.members[at];
        let Some(mut child) = member.child.take() else { return false };
        let from_ms = now_ms();
        // It may have ended by itself; that is what is wanted.
        let _ = child.kill();
        let _ = child.wait();
        if let Some(place) = member.stopped.take() {
            self.record[place].until_ms = now_ms();
        }
        // The dead renew nothing ever after.
        self.record.push(Disturbance { pid: Some(child.id()), from_ms, until_ms: i64::MAX });
        true
    }

    /// Gives a member SIGSTOP; answers with its process, unless it does not run.
    pub fn stop(&mut self, at: usize) -> Option<u32> {
        let pid = self.members[at].pid().filter(|_| self.members[at].stopped.is_none())?;
        self.members[at].stopped = Some(self.record.len());
        let hurt = (!self.shares_a_file).then_some(pid);
        self.record.push(Disturbance { pid: hurt, from_ms: now_ms(), until_ms: i64::MAX });
        signal(pid as i32, Signal::SIGSTOP);
        Some(pid)
    }

    /// Lets a stopped member go on, if it is still that process.
    pub fn go_on(&mut self, at: usize, pid: u32) {
        let member = &mut self.members[at];
        if member.pid() == Some(pid)
            && let Some(place) = member.stopped.take()
        {
            signal(pid as i32, Signal::SIGCONT);
            self.record[place].until_ms = now_ms();
        }
    }

    /// Returns how many agents the members from a place on have together.
    pub fn agents_of(&self, first: usize) -> i64 {
        // The last word of `up` is their number; that of a single agent is its name.
        let of = |member: &Member| member.words.last().and_then(|word| word.parse().ok()).unwrap_or(1);
        self.members[first..].iter().map(of).sum()
    }

    /// Returns how many are stopped now.
    pub fn stopped(&self) -> usize {
        self.members.iter().filter(|member| member.stopped.is_some()).count()
    }

    /// Notes that the database was away for everyone.
    pub fn note_outage(&mut self, from_ms: i64) {
        self.record.push(Disturbance { pid: None, from_ms, until_ms: now_ms() });
    }

    /// Returns the members that have ended by themselves: their places, whether they were at work, and their last words.
    pub fn deserters(&mut self) -> Vec<(usize, bool, String)> {
        let ended = |(at, member): (usize, &mut Member)| {
            let status = member.child.as_mut()?.try_wait().ok()??;
            member.child = None;
            member.stopped = None;
            let (was_at_work, words) = member.last_words();
            Some((at, was_at_work, format!("{} ended by itself ({status}): {words}", member.name)))
        };
        self.members.iter_mut().enumerate().filter_map(ended).collect()
    }

    /// Returns whether a member has ended by itself, and well, and what it has said.
    pub fn ended(&mut self, at: usize) -> Option<(bool, String)> {
        let member = &mut self.members[at];
        let status = member.child.as_mut()?.try_wait().ok()??;
        (member.child, member.stopped) = (None, None);
        Some((status.success(), member.said()))
    }

    /// Returns the places of those that run and are nodes, or single agents.
    pub fn running(&self, is_node: bool) -> Vec<usize> {
        let fits = |member: &Member| member.is_node == is_node && member.child.is_some();
        (0..self.members.len()).filter(|at| fits(&self.members[*at])).collect()
    }

    /// Asks all to end in order, and waits; answers with those that did not.
    pub fn dismiss(&mut self) -> Vec<String> {
        let stopped: Vec<(usize, u32)> =
            self.members.iter().enumerate().filter_map(|(at, m)| Some((at, m.pid()?))).collect();
        for (at, pid) in stopped {
            self.go_on(at, pid);
            signal(pid as i32, Signal::SIGTERM);
        }
        let until = Instant::now() + FAREWELL;
        self.members.iter_mut().filter_map(|member| member.wait(until)).collect()
    }
}

impl Drop for Party {
    fn drop(&mut self) {
        for at in 0..self.members.len() {
            self.kill(at);
        }
    }
}

impl Member {
    fn new(name: &str, is_node: bool, words: Vec<&'static str>) -> Member {
        let words = words.into_iter().map(str::to_owned).collect();
        let (child, log, setting) = (None, PathBuf::new(), Setting::default());
        Member { name: name.to_owned(), is_node, words, setting, child, log, lives: 0, stopped: None }
    }

    /// Makes a node that runs somewhere else, or otherwise.
    pub fn node_in(setting: Setting, name: &str, words: Vec<&'static str>) -> Member {
        Member { setting, ..Member::new(name, true, words) }
    }

    /// Adds a word to those with which it is started, where that was not known before.
    pub fn add_word(&mut self, word: String) {
        self.words.push(word);
    }

    /// Returns what it has said in its present life.
    pub fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Returns its process, if it runs.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Returns whether it has said that it is at work.
    pub fn is_at_work(&self) -> bool {
        self.child.is_some() && self.last_words().0
    }

    fn start(&mut self, arena: &Arena) -> Outcome {
        if self.child.is_some() {
            return Ok(());
        }
        self.lives += 1;
        self.log = arena.path().join(format!("logs/{}-{}.log", self.name, self.lives));
        let log = std::fs::File::create(&self.log).map_err(|e| e.to_string())?;
        let other = log.try_clone().map_err(|e| e.to_string())?;
        let words: Vec<&str> = self.words.iter().map(String::as_str).collect();
        let mut command = arena.command(&words);
        command.stdout(log).stderr(other).envs(self.setting.env.iter().cloned());
        self.setting.home.iter().try_for_each(|home| home.prepare(&mut command))?;
        die_with_us(&mut command);
        self.child = Some(command.spawn().map_err(|e| arena.unrunnable(&e))?);
        Ok(())
    }

    fn last_words(&self) -> (bool, String) {
        let text = self.said();
        let mut lines: Vec<&str> = text.lines().rev().take(3).collect();
        lines.reverse();
        (text.contains(AT_WORK), lines.join(" / "))
    }

    /// Waits until it has ended; answers with a complaint if it had to be killed, or ended badly.
    fn wait(&mut self, until: Instant) -> Option<String> {
        let mut child = self.child.take()?;
        loop {
            match child.try_wait() {
                Ok(None) if Instant::now() < until => std::thread::sleep(Duration::from_millis(20)),
                Ok(None) => {
                    let _ = child.kill();
                    let _ = child.wait();
                    return Some(format!(
                        "{} did not end within {} s of TERM",
                        self.name,
                        FAREWELL.as_secs()
                    ));
                }
                Ok(Some(status)) if status.success() => return None,
                Ok(Some(status)) => {
                    let (_, words) = self.last_words();
                    return Some(format!("{} ended badly after TERM ({status}): {words}", self.name));
                }
                Err(error) => return Some(format!("{}: {error}", self.name)),
            }
        }
    }
}

/// Signals a process. It may be gone: that is what is wanted.
pub fn signal(pid: i32, signal: Signal) {
    let _ = kill(Pid::from_raw(pid), signal);
}

/// Lets the kernel end the process when this program dies: a storm that is broken off leaves nothing behind.
pub fn die_with_us(command: &mut Command) {
    let ask = || set_pdeathsig(Signal::SIGKILL).map_err(std::io::Error::from);
    // SAFETY: between fork and exec only functions may run that are safe in a signal handler. This one makes a single
    // system call, takes no lock and allocates nothing; its error is a plain number.
    unsafe { command.pre_exec(ask) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_has_an_agent_for_each_late_task() {
        assert_eq!(AGENTS.parse(), Ok(crate::plan::LATE));
        assert_eq!(Party::of(Backend::Lite).agents_of(0), 8);
        assert_eq!(Party::of(Backend::Pg).agents_of(1), 14);
    }
}

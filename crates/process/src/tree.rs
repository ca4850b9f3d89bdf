//! Whose process is it: the tree of one child, found again and again until nothing is left of it.
//!
//! Here live the rule that says which processes belong to a child, the scan that applies it, and the sending of
//! signals. How long to wait between them is decided in [`crate::stop`].
//!
//! A process belongs to the child when it began no earlier and at least one of these holds:
//! it is in the child's control group; its parent belongs; it is in a process group or session that the child or one
//! that belongs leads; it was started with the child's marker in its environment. So a daemon that forked twice and
//! made a session of its own is found. Without a control group, one that also emptied its environment is not.
//!
//! Never touched: process 0 and 1, this process, and the processes that started it.

use crate::cgroup::Group;
use crate::procfs::{self, ProcessId, Stat};
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use std::cell::Cell;
use std::collections::HashSet;
use std::io;
use std::sync::Arc;

/// A child and all that comes from it.
#[derive(Debug, Clone)]
pub(crate) struct Tree {
    /// The child itself, which leads a session and a process group of its own.
    pub root: ProcessId,
    /// Variables that all its descendants were started with.
    pub marker: Vec<(String, String)>,
    /// Its control group, where there is one.
    pub group: Option<Arc<Group>>,
}

impl Tree {
    /// Returns all that run. Reads `/proc`: milliseconds, so not for a thread that others wait for.
    ///
    /// # Errors
    /// The system is short of files or memory, so that nobody can tell. Not even part of an answer is given then: who
    /// started this process could be missing among those that are never touched.
    pub(crate) fn members(&self) -> io::Result<Vec<ProcessId>> {
        let grouped = self.group.as_ref().map_or(Ok(Vec::new()), |g| g.pids())?;
        let untold = Cell::new(None);
        let marked = |pid: i32| {
            !self.marker.is_empty()
                && procfs::is_marked(pid, &self.marker).unwrap_or_else(|e| {
                    untold.set(Some(e));
                    false
                })
        };
        let belongs = |pid: i32| grouped.contains(&pid) || marked(pid);
        let found = members(&procfs::snapshot()?, self.root, std::process::id() as i32, belongs);
        untold.into_inner().map_or(Ok(found), Err)
    }

    /// Sends a signal to all of them and returns whom it was meant for.
    ///
    /// # Errors
    /// As of [`Tree::members`]; the root's own process group has got the signal also then.
    pub(crate) fn signal(&self, signal: Signal) -> io::Result<Vec<ProcessId>> {
        let members = self.members();
        if signal == Signal::SIGKILL
            && let Some(group) = &self.group
        {
            group.kill();
        }
        self.signal_group(signal);
        members.iter().flatten().for_each(|member| send(*member, signal));
        members
    }

    /// Reaches at once what forks faster than a scan can follow.
    ///
    /// Only while the root still holds its number, alive or as a zombie: a group id cannot be another's then.
    fn signal_group(&self, signal: Signal) {
        if self.root.pid > 1 && self.root.pid != nix::unistd::getpgrp().as_raw() && self.root.is_held() {
            // It fails when the group is empty, which is what is wanted.
            let _ = killpg(Pid::from_raw(self.root.pid), signal);
        }
    }
}

/// Sends a signal to one process if it still is that process. It may be gone: that is what is wanted.
fn send(process: ProcessId, signal: Signal) {
    if process.pid > 1 && process.is_held() {
        let _ = kill(Pid::from_raw(process.pid), signal);
    }
}

/// Decides which of `all` run and belong to `root`; `belongs` says so of a process for reasons of its own.
fn members(all: &[Stat], root: ProcessId, own: i32, belongs: impl Fn(i32) -> bool) -> Vec<ProcessId> {
    let protected = ancestors(all, own);
    let rest =
        all.iter().filter(|p| p.start_time >= root.start_time && !protected.contains(&p.pid)).collect();
    let mut search =
        Search { root: root.pid, rest, pids: HashSet::new(), led: HashSet::new(), running: Vec::new() };
    search.take(|p| p.id() == root);
    search.take_relatives();
    search.take(|p| belongs(p.pid));
    search.take_relatives();
    search.running
}

/// This process, those that started it, and what no one may signal.
fn ancestors(all: &[Stat], own: i32) -> HashSet<i32> {
    let mut protected = HashSet::from([0, 1]);
    let mut next = Some(own);
    while let Some(pid) = next.filter(|pid| protected.insert(*pid)) {
        next = all.iter().find(|p| p.pid == pid).map(|p| p.parent);
    }
    protected
}

struct Search<'a> {
    root: i32,
    /// Those of whom it is not known that they belong.
    rest: Vec<&'a Stat>,
    /// Those of whom it is.
    pids: HashSet<i32>,
    /// Sessions and process groups in which everyone belongs.
    led: HashSet<i32>,
    running: Vec<ProcessId>,
}

impl Search<'_> {
    fn take(&mut self, belongs: impl Fn(&Stat) -> bool) {
        let (mine, rest) = self.rest.iter().partition(|p| belongs(p));
        self.rest = rest;
        let mine: Vec<&Stat> = mine;
        mine.into_iter().for_each(|p| self.add(p));
    }

    /// Adds one, and the session and group it leads.
    ///
    /// The root's own session and group count also when the root is gone and one of them is found by other means:
    /// while they have a member, their number is given to no other process.
    fn add(&mut self, process: &Stat) {
        self.pids.insert(process.pid);
        let led =
            [process.session, process.group].into_iter().filter(|id| *id == process.pid || *id == self.root);
        self.led.extend(led);
        if !process.zombie {
            self.running.push(process.id());
        }
    }

    /// Follows parents, sessions and groups until nothing more is found.
    fn take_relatives(&mut self) {
        loop {
            let before = self.rest.len();
            let (pids, led) = (self.pids.clone(), self.led.clone());
            self.take(|p| pids.contains(&p.parent) || led.contains(&p.session) || led.contains(&p.group));
            if self.rest.len() == before {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: i32 = 50;
    const ROOT: ProcessId = ProcessId { pid: 100, start_time: 1000 };

    /// One process a line: pid parent group session start, and `Z` for a zombie or `M` for a marked one.
    fn check(table: &str, expected: &[i32]) {
        let all: Vec<Stat> = table.lines().filter(|l| !l.trim().is_empty()).map(process).collect();
        let marked = |pid: i32| table.lines().any(|l| l.ends_with('M') && process(l).pid == pid);
        let mut found: Vec<i32> = members(&all, ROOT, OWN, marked).iter().map(|p| p.pid).collect();
        found.sort_unstable();
        assert_eq!(found, expected, "{table}");
    }

    fn process(line: &str) -> Stat {
        let n: Vec<i32> = line.split_whitespace().filter_map(|w| w.parse().ok()).collect();
        let (zombie, start_time) = (line.ends_with('Z'), n[4] as u64);
        Stat { pid: n[0], parent: n[1], group: n[2], session: n[3], zombie, cpu_ticks: 0, start_time }
    }

    #[test]
    fn children_groups_and_sessions_of_the_child_belong() {
        check(
            "100 50 100 100 1000
             101 100 100 100 1001
             102 101 102 100 1001
             103 1 100 100 1002
             104 1 102 100 1002
             200 1 200 200 1002",
            &[100, 101, 102, 103, 104],
        );
    }

    #[test]
    fn a_daemon_with_the_marker_belongs_and_so_do_its_children() {
        check(
            "100 50 100 100 1000 Z
             300 1 300 300 1001 M
             301 300 300 300 1002
             302 1 302 300 1002",
            &[300, 301, 302],
        );
    }

    #[test]
    fn a_zombie_child_still_names_its_session_but_is_not_running() {
        check("100 50 100 100 1000 Z\n101 1 100 100 1001", &[101]);
    }

    #[test]
    fn a_later_process_of_the_same_number_is_a_stranger() {
        check("100 1 100 100 2000\n101 100 100 100 2001", &[]);
    }

    #[test]
    fn the_session_of_a_child_that_is_gone_is_known_by_a_marked_member() {
        check("101 1 100 100 1001 M\n102 1 100 100 1001", &[101, 102]);
        check("101 1 100 100 1001\n102 1 100 100 1001", &[]);
    }

    #[test]
    fn one_that_is_older_than_the_child_never_belongs() {
        check("100 50 100 100 1000\n99 100 100 100 999 M", &[100]);
    }

    #[test]
    fn neither_this_process_nor_those_that_started_it_belong() {
        check(
            "1 0 1 1 1000 M
             40 1 100 100 1000 M
             50 40 100 100 1001 M
             100 50 100 100 1000",
            &[100],
        );
    }

    #[test]
    fn nobody_is_signalled_by_a_number_that_stands_for_many() {
        for pid in [-1, 0, 1, std::process::id() as i32] {
            let tree = Tree { root: ProcessId { pid, start_time: u64::MAX }, marker: vec![], group: None };
            assert_eq!(tree.signal(Signal::SIGKILL).unwrap(), vec![]);
        }
    }
}

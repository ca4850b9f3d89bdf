//! One storm from its beginning to its verdict.
//!
//! Here lives the order of things: a node is put to sleep and wakes too late, work begins, blows fall while it goes on, one holder is killed for good, the rest
//! must bring everything to its end; then all is quiet, the history is read and judged.

use crate::Outcome;
use crate::arena::{Arena, Backend, LEASE_MS};
use crate::chaos::{self, Blow};
use crate::check;
use crate::clock::now_ms;
use crate::disk::Disk;
use crate::follower::Follower;
use crate::history::{History, Hold, read_lines};
use crate::ledger::Ledger;
use crate::party::{Party, signal};
use crate::plan::LATE;
use crate::procfs::{Marked, children_of, end_orphans};
use crate::seed::Chance;
use crate::verdict::{Tally, Verdict};
use nix::sys::signal::Signal;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How often a storm looks at what is due.
const TICK: Duration = Duration::from_millis(20);
/// How often it asks the ledger how far the work is.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How often it says so.
const SAY_EVERY: Duration = Duration::from_secs(10);
/// Members that are stopped at the same time, at most.
const STOPPED_MAX: usize = 2;
/// How long others may take to pass over a locked task.
const HOLD_MAX: Duration = Duration::from_secs(10);
/// How long the task stays locked at least.
const HOLD_LEAST: Duration = Duration::from_secs(2);
/// How long the late node is waited for, asleep and awake: longer than its lease.
const LATE_WAIT: Duration = Duration::from_millis(LEASE_MS * 2);
/// After the end: how long claims, orphans and the follower may take to come to rest.
const REST: Duration = Duration::from_secs(15);
/// A process that ends while it starts is no finding when the database was away so shortly before.
const START_GRACE_MS: i64 = 20_000;

/// What a storm is asked to be.
#[derive(Debug, Clone)]
pub struct Options {
    /// The seed.
    pub seed: u64,
    /// Which database.
    pub backend: Backend,
    /// The program.
    pub program: PathBuf,
    /// How many tasks.
    pub tasks: usize,
    /// How long blows fall at most.
    pub rage: Duration,
    /// How long all may take to end after that.
    pub deadline: Duration,
}

/// What is due at a moment.
#[derive(Debug)]
enum Due {
    Start(usize),
    GoOn(usize, u32),
    ChildGoesOn(i32),
}

struct Storm {
    options: Options,
    arena: Arena,
    disk: Disk,
    ledger: Ledger,
    chance: Chance,
    party: Party,
    follower: Follower,
    due: Vec<(Instant, Due)>,
    tally: Tally,
    desertions: Vec<String>,
    killed: BTreeSet<(i64, i64)>,
    hold: Option<Hold>,
    said: Instant,
}

/// Runs a storm and judges it.
pub fn run(options: &Options) -> Outcome<Verdict> {
    let begun = Instant::now();
    let mut storm = Storm::begin(options)?;
    let late = storm.send_to_sleep()?;
    storm.hold = storm.measure_passing_over()?;
    storm.wake_too_late(late)?;
    storm.rage()?;
    storm.last_blow()?;
    storm.settle()?;
    let history = storm.end()?;
    let findings = check::run(&history);
    let mut kept = None;
    if !findings.is_empty() {
        let folder = storm.arena.keep();
        history.write(&folder).map_err(|e| format!("cannot write into {}: {e}", folder.display()))?;
        kept = Some(folder);
    }
    Ok(Verdict::new(options, storm.tally, &history, begun.elapsed(), findings, kept))
}

impl Storm {
    fn begin(options: &Options) -> Outcome<Storm> {
        let mut chance = Chance::new(options.seed);
        let arena = Arena::make(options.backend, &options.program, &mut chance, options.tasks)?;
        let disk = Disk::watch(arena.path(), LEASE_MS as i64 / 4)?;
        arena.run(&["run", "plan.toml", "--detach"])?;
        let mut ledger = arena.ledger()?;
        ledger.add_witness()?;
        let mut follower = Follower::default();
        follower.start(&arena)?;
        Ok(Storm {
            ledger,
            options: options.clone(),
            arena,
            disk,
            chance,
            party: Party::of(options.backend),
            follower,
            due: Vec::new(),
            tally: Tally::default(),
            desertions: Vec::new(),
            killed: BTreeSet::new(),
            hold: None,
            said: Instant::now(),
        })
    }

    /// Starts a node alone and stops it when each of its agents has a task: what they did will be told too late.
    fn send_to_sleep(&mut self) -> Outcome<Option<u32>> {
        self.party.start(0, &self.arena)?;
        self.wait_for(include_str!("../sql/noted.sql"), LATE as i64, LATE_WAIT);
        self.tally.stops += 1;
        Ok(self.party.stop(0))
    }

    /// Wakes it up when others have its tasks: it says all at once what became of its own attempts.
    fn wake_too_late(&mut self, late: Option<u32>) -> Outcome {
        let others = self.party.agents_of(1).min(LATE as i64);
        self.wait_for(include_str!("../sql/second.sql"), others, LATE_WAIT);
        late.into_iter().for_each(|pid| self.party.go_on(0, pid));
        Ok(())
    }

    /// Waits until the ledger answers with so much, at most for so long.
    fn wait_for(&mut self, sql: &str, number: i64, wait: Duration) -> i64 {
        let until = Instant::now() + wait;
        let mut found = 0;
        while found < number && Instant::now() < until {
            sleep(TICK);
            found = self.ledger.number(sql).unwrap_or(0);
        }
        found
    }

    /// Starts everyone; on PostgreSQL while the task that all want first is locked by a transaction of ours.
    fn measure_passing_over(&mut self) -> Outcome<Option<Hold>> {
        let lock = match self.options.backend {
            Backend::Lite => None,
            Backend::Pg => Some(self.lock_first_ready()?),
        };
        let asleep = self.ledger.number(include_str!("../sql/takers.sql"))?;
        for at in 0..self.party.members.len() {
            self.party.start(at, &self.arena)?;
        }
        let Some((mut lock, holder)) = lock else { return Ok(None) };
        let (agents, begun) = (asleep + self.party.agents_of(1), Instant::now());
        let (mut took, mut waited) = (0, 0);
        while (took < agents && begun.elapsed() < HOLD_MAX) || begun.elapsed() < HOLD_LEAST {
            sleep(TICK);
            took = self.ledger.number(include_str!("../sql/takers.sql"))?;
            let blocked = include_str!("../sql/blocked.sql").replace("$holder", &holder.to_string());
            waited = waited.max(self.ledger.number(&blocked)?);
        }
        // Its word has a place in the log below those of all that were written meanwhile: who read on has missed it.
        lock.rows("commit")?;
        Ok(Some(Hold { agents, took, waited }))
    }

    /// Answers with a connection whose transaction is still open, and its number on the server.
    fn lock_first_ready(&self) -> Outcome<(Ledger, i64)> {
        let mut ledger = self.arena.ledger()?;
        let holder = ledger.number(include_str!("../sql/own_pid.sql"))?;
        ledger.rows(include_str!("../sql/lock_first_ready.sql"))?;
        Ok((ledger, holder))
    }

    /// Lets blows fall until most of the work is done.
    fn rage(&mut self) -> Outcome {
        let until = Instant::now() + self.options.rage;
        let (mut blow, pause) = chaos::next(&mut self.chance, self.options.backend);
        let mut next = Instant::now() + pause;
        let mut look = Instant::now();
        while Instant::now() < until {
            self.attend()?;
            if Instant::now() >= next {
                self.strike(blow)?;
                let pause;
                (blow, pause) = chaos::next(&mut self.chance, self.options.backend);
                next = Instant::now() + pause;
            }
            if Instant::now() >= look {
                look = Instant::now() + LOOK_EVERY;
                if self.open().is_some_and(|open| open as usize * 5 < self.options.tasks) {
                    break;
                }
            }
            sleep(TICK);
        }
        Ok(())
    }

    /// Returns how many tasks have not ended; `None` when the ledger does not answer.
    fn open(&mut self) -> Option<i64> {
        let open = self.ledger.number(include_str!("../sql/open.sql")).ok()?;
        if self.said.elapsed() >= SAY_EVERY {
            self.said = Instant::now();
            println!("  {} of {} tasks are open; {}", open, self.options.tasks, self.tally);
        }
        Some(open)
    }

    /// Does what is due, and starts again what has ended by itself.
    fn attend(&mut self) -> Outcome {
        let now = Instant::now();
        let (due, later) = std::mem::take(&mut self.due).into_iter().partition(|(at, _)| *at <= now);
        self.due = later;
        let due: Vec<(Instant, Due)> = due;
        for (_, due) in due {
            match due {
                Due::Start(at) => self.party.start(at, &self.arena)?,
                Due::GoOn(at, pid) => self.party.go_on(at, pid),
                Due::ChildGoesOn(pid) => signal(pid, Signal::SIGCONT),
            }
        }
        for (at, was_at_work, words) in self.party.deserters() {
            if was_at_work || !self.was_away_lately() {
                self.desertions.push(words);
            }
            self.later(chaos::death(&mut Chance::new(1)), Due::Start(at));
        }
        if self.follower.revive(&self.arena)? && !self.was_away_lately() {
            self.desertions.push("the follower of the log ended by itself".into());
        }
        Ok(())
    }

    fn was_away_lately(&self) -> bool {
        let outages = self.party.record.iter().filter(|disturbance| disturbance.pid.is_none());
        outages.map(|outage| outage.until_ms).max().is_some_and(|until| until > now_ms() - START_GRACE_MS)
    }

    fn later(&mut self, pause: Duration, due: Due) {
        self.due.push((Instant::now() + pause, due));
    }

    fn strike(&mut self, blow: Blow) -> Outcome {
        match blow {
            Blow::KillNode => self.kill_member(true),
            Blow::KillAgent => self.kill_member(false),
            Blow::KillChild => self.strike_child(Signal::SIGKILL),
            Blow::StopChild => self.strike_child(Signal::SIGSTOP),
            Blow::StopMember => self.stop_member(),
            Blow::KillFollower => {
                self.follower.kill();
                self.follower.start(&self.arena)?;
                self.tally.followers += 1;
            }
            Blow::Restart => self.restart()?,
        }
        Ok(())
    }

    fn kill_member(&mut self, is_node: bool) {
        let Some(at) = self.chance.one_of(&self.party.running(is_node)).copied() else { return };
        if self.party.kill(at) {
            let count = if is_node { &mut self.tally.nodes } else { &mut self.tally.agents };
            *count += 1;
            let pause = chaos::death(&mut self.chance);
            self.later(pause, Due::Start(at));
        }
    }

    fn strike_child(&mut self, with: Signal) {
        let children = children_of(self.arena.url());
        let Some(child) = self.chance.one_of(&children) else { return };
        if with == Signal::SIGKILL {
            return self.kill_child(child);
        }
        signal(child.pid, with);
        self.tally.stopped_children += 1;
        let pause = chaos::sleep(&mut self.chance);
        self.later(pause, Due::ChildGoesOn(child.pid));
    }

    fn stop_member(&mut self) {
        let is_node = self.chance.percent(60);
        let Some(at) = self.chance.one_of(&self.party.running(is_node)).copied() else { return };
        if self.party.stopped() >= STOPPED_MAX {
            return;
        }
        if let Some(pid) = self.party.stop(at) {
            self.tally.stops += 1;
            self.orphan_a_word(pid);
            let pause = chaos::sleep(&mut self.chance);
            self.later(pause, Due::GoOn(at, pid));
        }
    }

    /// Kills a child of a stopped member, mostly: its supervisor will say that it failed when another has the task.
    fn orphan_a_word(&mut self, member: u32) {
        let mut children = children_of(self.arena.url());
        children.retain(|child| child.parent == member);
        if self.chance.percent(70)
            && let Some(child) = self.chance.one_of(&children)
        {
            self.kill_child(child);
        }
    }

    fn kill_child(&mut self, child: &Marked) {
        self.killed.insert((child.task, child.attempt));
        signal(child.pid, Signal::SIGKILL);
        self.tally.children += 1;
    }

    fn restart(&mut self) -> Outcome {
        let Some(server) = &self.arena.server else { return Ok(()) };
        let from_ms = now_ms();
        server.restart()?;
        self.party.note_outage(from_ms);
        self.tally.restarts += 1;
        Ok(())
    }

    /// Wakes and starts everyone, then kills one that holds a task, and starts nobody: only the end of its leases frees
    /// what it had.
    fn last_blow(&mut self) -> Outcome {
        while !self.due.is_empty() {
            self.attend()?;
            sleep(TICK);
        }
        let until = Instant::now() + REST;
        while Instant::now() < until {
            let holders = self.holders();
            let held: Vec<usize> = (0..self.party.members.len())
                .filter(|at| self.party.members[*at].pid().is_some_and(|pid| holders.contains(&pid)))
                .collect();
            if let Some(at) = self.chance.one_of(&held).copied() {
                return self.kill_for_good(at);
            }
            if self.open() == Some(0) {
                return Ok(());
            }
            sleep(TICK);
        }
        Ok(())
    }

    /// Kills a holder; only when others have freed what it had may it come back.
    fn kill_for_good(&mut self, at: usize) -> Outcome {
        let pid = self.party.members[at].pid().unwrap_or_default();
        self.party.kill(at);
        self.tally.for_good += 1;
        let sql = include_str!("../sql/held_by.sql").replace("$pid", &pid.to_string());
        self.rest(|storm| storm.ledger.number(&sql) == Ok(0));
        if self.ledger.number(&sql)? == 0 {
            self.party.start(at, &self.arena)?;
        }
        Ok(())
    }

    /// Returns the processes that hold a task whose child will run for a while.
    fn holders(&mut self) -> Vec<u32> {
        let rows = self.ledger.rows(include_str!("../sql/holders.sql")).unwrap_or_default();
        rows.iter().filter_map(|row| row.first()?.as_ref()?.parse().ok()).collect()
    }

    /// Waits until everything has ended, or the deadline is over.
    fn settle(&mut self) -> Outcome {
        let until = Instant::now() + self.options.deadline;
        while Instant::now() < until {
            if self.open() == Some(0) {
                return Ok(());
            }
            self.attend()?;
            sleep(TICK * 5);
        }
        println!("  the deadline of {} s is over", self.options.deadline.as_secs());
        Ok(())
    }

    /// Starts whoever is dead (it ends what it once left behind), lets claims run out, and sends everyone home.
    fn end(&mut self) -> Outcome<History> {
        for at in 0..self.party.members.len() {
            self.party.start(at, &self.arena)?;
        }
        let claims = include_str!("../sql/claimed.sql");
        self.rest(|storm| storm.ledger.number(claims) == Ok(0) && storm.all_at_work());
        self.desertions.extend(self.party.dismiss());
        let log = include_str!("../sql/head.sql");
        self.rest(|storm| {
            let last = storm.ledger.number(log).unwrap_or(-1);
            storm.follower.revive(&storm.arena).is_ok() && storm.follower.seen().last() == Some(&last)
        });
        self.follower.kill();
        self.rest(|storm| children_of(storm.arena.url()).is_empty());
        let orphans = children_of(self.arena.url());
        let history = History::read(&mut self.ledger)?;
        let stood = self.disk.end()?;
        self.tally.stalls = stood.len();
        let orphans = end_orphans(&orphans);
        Ok(History {
            lines: read_lines(&self.arena.path().join("out"))?,
            followed: self.follower.seen(),
            orphans,
            killed: std::mem::take(&mut self.killed),
            desertions: std::mem::take(&mut self.desertions),
            disturbances: [self.party.record.as_slice(), &stood].concat(),
            lease_ms: LEASE_MS as i64,
            hold: self.hold,
            ..history
        })
    }

    fn all_at_work(&self) -> bool {
        self.party.members.iter().all(crate::party::Member::is_at_work)
    }

    fn rest(&mut self, mut is_quiet: impl FnMut(&mut Storm) -> bool) {
        let until = Instant::now() + REST;
        while !is_quiet(self) && Instant::now() < until {
            sleep(TICK * 5);
        }
    }
}

//! The world around the ledger: nodes with agents and children, an agent on its own, a person, and trouble.
//!
//! Here lives [`World`], which chooses the next operation from what each of them believes. Beliefs come from answers
//! alone, so that who slept or was cut off acts on old ones. After the chaos comes a calm: all are awake, every child
//! ends well, and what was begun must come to its end. The calm lives in `calm`.

mod calm;

use crate::play::Random;
use quorate_model::TaskState;
use quorate_model::resource::Mode;
use quorate_testkit::oracle::{ClaimWish, Member, Op, Oracle, Wish, Word};
use std::collections::VecDeque;

pub const TEAM: &[Member] = &[
    Member { name: "alpha", capabilities: Some(&["docs"]) },
    Member { name: "beta", capabilities: Some(&["docs", "gpu"]) },
    Member { name: "gamma", capabilities: None },
    Member { name: "delta", capabilities: None },
];
const LEASE_MS: i64 = 20_000;
const CHECK_EVERY_MS: i64 = 10_000;
const STUCK_AFTER_MS: i64 = 30_000;
const TASKS_MAX: i64 = 14;
const NAMES: [&str; 6] = ["src", "src/a.rs", "src/b.rs", "src/*.rs", "docs", "gpu:0"];

/// A process at a task, as its supervisor believes.
#[derive(Debug, Clone)]
struct Child {
    agent: &'static str,
    task: i64,
    term: i64,
    ends_at: i64,
    fate: Fate,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Done,
    Fails,
    FailsForGood,
    Dies,
    Hangs,
    IsCheck,
}

/// A machine on which a node runs, dies and runs again.
#[derive(Debug, Clone)]
struct Host {
    agents: Vec<&'static str>,
    node: Option<i64>,
    away_until: i64,
    sessions: Vec<&'static str>,
    children: Vec<Child>,
    renewed_at: i64,
    checked_at: i64,
    judge_from: i64,
}

/// An agent that waits for resources.
#[derive(Debug, Clone)]
struct Waiting {
    place: i64,
    wish: ClaimWish,
}

pub struct World {
    random: Random,
    steps: usize,
    hosts: Vec<Host>,
    /// What the agent on its own believes to hold.
    single: Option<(i64, i64)>,
    waiting: Vec<Waiting>,
    /// What arrives late, and when.
    flights: Vec<(i64, Op)>,
    script: VecDeque<Op>,
    /// The host whose answer is awaited.
    asking: usize,
    calm: calm::Calm,
}

impl World {
    pub fn new(seed: u64) -> World {
        let mut random = Random(seed);
        let host = |agents: &[&'static str]| Host {
            agents: agents.to_vec(),
            node: None,
            away_until: 0,
            sessions: Vec::new(),
            children: Vec::new(),
            renewed_at: 0,
            checked_at: 0,
            judge_from: 0,
        };
        let steps = 60 + random.below(80);
        let script = TEAM.iter().map(|member| Op::Seen(member.name)).collect();
        let hosts = vec![host(&["alpha", "beta"]), host(&["gamma"])];
        World {
            random,
            steps,
            hosts,
            single: None,
            waiting: Vec::new(),
            flights: Vec::new(),
            script,
            asking: 0,
            calm: calm::Calm::default(),
        }
    }

    /// Chooses the next operation; `None` when all has come to its end, or never will.
    pub fn next(&mut self, oracle: &Oracle) -> Option<Op> {
        if let Some(op) = self.script.pop_front() {
            return Some(op);
        }
        if let Some(place) = self.flights.iter().position(|(at, _)| *at <= oracle.now()) {
            return Some(self.flights.swap_remove(place).1);
        }
        if self.steps == 0 {
            return self.calm_down(oracle);
        }
        self.steps -= 1;
        Some(match self.random.below(20) {
            0..4 => self.advance(),
            4..12 => self.act_on_host(oracle),
            12..15 => self.act_alone(oracle),
            15..19 => self.person(oracle),
            _ => self.trouble(oracle),
        })
    }

    fn advance(&mut self) -> Op {
        let most = self.random.of(&[300, 3_000, 3_000, 8_000, 8_000, 8_000, 30_000]);
        Op::Advance(self.random.ms(most))
    }

    /// Sends an operation; now and then it arrives late.
    fn send(&mut self, now: i64, op: Op) -> Op {
        if !self.random.one_in(8) {
            return op;
        }
        let most = if self.random.one_in(2) { 3_000 } else { LEASE_MS as usize * 2 };
        self.flights.push((now + self.random.ms(most), op));
        self.advance()
    }

    fn act_on_host(&mut self, oracle: &Oracle) -> Op {
        let (now, place) = (oracle.now(), self.random.below(self.hosts.len()));
        self.asking = place;
        let host = &mut self.hosts[place];
        if host.away_until > now {
            return self.advance();
        }
        let Some(node) = host.node else { return Op::BeginNode(LEASE_MS) };
        if now - host.renewed_at > LEASE_MS / 3 && !self.random.one_in(4) {
            let op = self.renewal(place, now);
            return self.send(now, op);
        }
        let host = &self.hosts[place];
        if let Some(agent) = host.agents.iter().find(|agent| !host.sessions.contains(agent)) {
            return Op::BeginSession { agent, node, lease_ms: LEASE_MS };
        }
        if let Some(child) = host.children.iter().position(|child| child.ends_at <= now)
            && !self.random.one_in(3)
        {
            let child = self.hosts[place].children.swap_remove(child);
            let op = self.report(&child);
            return self.send(now, op);
        }
        self.work(oracle, place, node)
    }

    fn renewal(&mut self, place: usize, now: i64) -> Op {
        let host = &mut self.hosts[place];
        host.renewed_at = now;
        let held = host.children.iter().map(|child| (child.task, child.term, child.fate != Fate::Hangs));
        Op::Renew {
            node: host.node.expect("only of a node that runs"),
            held: held.collect(),
            agents: host.sessions.clone(),
            lease_ms: LEASE_MS,
        }
    }

    fn report(&mut self, child: &Child) -> Op {
        let (task, term) = (child.task, child.term);
        match child.fate {
            Fate::Done => Op::Done(task, term, self.random.of(&[None, Some("1")])),
            Fate::Fails | Fate::Hangs => Op::Fail(task, term, false),
            Fate::FailsForGood => Op::Fail(task, term, true),
            Fate::Dies => {
                let spawn = self.random.one_in(3);
                self.script.push_back(Op::Crash { agent: child.agent, task, spawn });
                Op::Fail(task, term, false)
            }
            Fate::IsCheck => Op::SettleCheck(task, term, !self.random.one_in(3)),
        }
    }

    fn work(&mut self, oracle: &Oracle, place: usize, node: i64) -> Op {
        let host = &self.hosts[place];
        let idle: Vec<&'static str> = host
            .sessions
            .iter()
            .copied()
            .filter(|agent| !host.children.iter().any(|child| child.agent == *agent))
            .collect();
        let child = host.children.first().cloned();
        match (self.random.below(10), child) {
            (0..5, _) if !idle.is_empty() => Op::Take {
                agent: self.random.of(&idle),
                node: Some(node),
                run: None,
                resume: false,
                lease_ms: LEASE_MS,
            },
            (5, _) => Op::TakeCheck { task: None, run: None, node, lease_ms: LEASE_MS },
            (6, Some(child)) if child.fate != Fate::IsCheck => {
                self.want(child.agent, Some((child.task, child.term)))
            }
            (7, Some(child)) if child.fate != Fate::IsCheck => {
                let op = Op::Progress(child.task, child.term, self.random.below(100) as i64);
                self.send(oracle.now(), op)
            }
            _ => self.lead(oracle, place, node),
        }
    }

    /// Checks if it leads; not judging for a lease after it was away itself.
    fn lead(&mut self, oracle: &Oracle, place: usize, node: i64) -> Op {
        let (now, host) = (oracle.now(), &mut self.hosts[place]);
        if now - host.checked_at > CHECK_EVERY_MS + LEASE_MS {
            host.judge_from = now + LEASE_MS;
        }
        host.checked_at = now;
        Op::Lead(node, LEASE_MS)
    }

    fn act_alone(&mut self, oracle: &Oracle) -> Op {
        let agent = "delta";
        let now = oracle.now();
        if !self.waiting.is_empty() && !self.random.one_in(3) {
            let waiting = self.waiting[self.random.below(self.waiting.len())].clone();
            return match self.random.below(12) {
                0 => Op::Leave(waiting.wish.agent, waiting.place),
                _ => Op::Claim(ClaimWish { place: Some(waiting.place), ..waiting.wish }),
            };
        }
        match (self.random.below(10), self.single) {
            (0..4, None) => Op::Take { agent, node: None, run: None, resume: true, lease_ms: LEASE_MS },
            (0, Some((task, term))) => self.send(now, Op::Progress(task, term, 50)),
            (1 | 2, Some((task, term))) => {
                let op = Op::Done(task, term, self.random.of(&[None, Some("1")]));
                self.send(now, op)
            }
            (3, Some((task, term))) => Op::Fail(task, term, self.random.one_in(4)),
            (4, Some((task, term))) if self.random.one_in(2) => {
                let wait = self.random.one_in(2).then(|| self.random.ms(60_000));
                Op::Park(task, Some(term), wait)
            }
            (4, Some((task, term))) => Op::Release(task, term),
            (5, held) => self.want(agent, held),
            (6, _) => {
                let agent = TEAM[self.random.below(TEAM.len())].name;
                self.want(agent, None)
            }
            (7, _) => {
                let agent = TEAM[self.random.below(TEAM.len())].name;
                Op::RenewClaims(oracle.loose_claims(agent), 5_000 + self.random.ms(20_000))
            }
            (8, _) => {
                Op::ReleaseClaim(TEAM[self.random.below(TEAM.len())].name, self.random.of(&NAMES), None)
            }
            _ => Op::Take { agent, node: None, run: None, resume: true, lease_ms: LEASE_MS },
        }
    }

    fn want(&mut self, agent: &'static str, task: Option<(i64, i64)>) -> Op {
        Op::Claim(ClaimWish {
            agent,
            resources: self.names(),
            mode: if self.random.one_in(3) { Mode::Shared } else { Mode::Exclusive },
            ttl_ms: 3_000 + self.random.ms(60_000),
            task,
            wait_ms: (!self.random.one_in(3)).then(|| 10_000 + self.random.ms(600_000)),
            place: None,
        })
    }

    fn names(&mut self) -> Vec<&'static str> {
        (0..=self.random.below(2)).map(|_| self.random.of(&NAMES)).collect()
    }

    fn person(&mut self, oracle: &Oracle) -> Op {
        use TaskState::{Cancelled, Failed, Parked, Ready, Running, Verifying, Waiting};
        let agent = TEAM[self.random.below(TEAM.len())].name;
        let mut among = |states: &[TaskState]| {
            let fitting = oracle.in_states(states);
            if fitting.is_empty() { 1 } else { self.random.of(&fitting) }
        };
        let (held, any) = (among(&[Running, Verifying]), among(&[Waiting, Ready, Running, Parked]));
        let (lost, parked) = (among(&[Failed, Cancelled]), among(&[Parked]));
        let run = 1 + self.random.below(oracle.runs() as usize + 1) as i64;
        match self.random.below(24) {
            0..7 if oracle.count() < TASKS_MAX => {
                let run = oracle.open_runs().first().copied().filter(|_| self.random.one_in(3));
                Op::Add(run, self.wish(oracle, None))
            }
            7..10 if oracle.count() < TASKS_MAX - 4 => {
                let length = 1 + self.random.below(5);
                Op::Start((0..length).map(|place| self.wish(oracle, Some(place))).collect())
            }
            10 => Op::Cancel(any),
            11 | 12 => Op::Retry(lost),
            13 => {
                let to = TEAM[self.random.below(TEAM.len())].name;
                Op::Reassign(held, self.random.one_in(2).then_some(to))
            }
            14 => {
                let wait = self.random.one_in(2).then(|| self.random.ms(60_000));
                Op::Park(if self.random.one_in(2) { held } else { any }, None, wait)
            }
            15 => Op::Unpark(parked),
            16 => Op::Tell(agent, self.random.of(&[Word::Pause, Word::Kill, Word::Kill, Word::Remove])),
            17 => Op::Tell(agent, Word::Resume),
            18 => Op::CancelRun(run),
            19 | 20 => Op::ResumeRun(run),
            21 => Op::SettleRun(run),
            22 => Op::ForceRelease(self.random.of(&NAMES)),
            _ => self.advance(),
        }
    }

    fn trouble(&mut self, oracle: &Oracle) -> Op {
        let (now, place) = (oracle.now(), self.random.below(self.hosts.len()));
        let kind = self.random.below(5);
        let away = now + self.random.ms(LEASE_MS as usize * 3);
        let host = &mut self.hosts[place];
        match (kind, host.node) {
            (0, Some(node)) => {
                let bury = self.random.one_in(2);
                host.die(away);
                if bury { Op::Bury(node) } else { self.advance() }
            }
            (1, Some(node)) => {
                let held: Vec<Op> =
                    host.children.iter().map(|child| Op::Release(child.task, child.term)).collect();
                let ended: Vec<Op> = host.sessions.iter().map(|agent| Op::EndSession(agent, node)).collect();
                self.script.extend(held.into_iter().chain(ended));
                host.die(away);
                self.script.push_back(Op::EndNode(node));
                self.advance()
            }
            (2, Some(_)) => {
                host.away_until = away;
                Op::Advance(self.random.ms(LEASE_MS as usize * 2))
            }
            (3, _) => Op::StepClock(self.random.of(&[-3_600_000, -20_000, -1_500, 2_000, 25_000, 3_600_000])),
            _ => Op::Check { judge: !self.random.one_in(3), stuck_after_ms: STUCK_AFTER_MS },
        }
    }

    fn wish(&mut self, oracle: &Oracle, place: Option<usize>) -> Wish {
        use TaskState::{Parked, Ready, Running, Waiting};
        let random = &mut self.random;
        let open = oracle.in_states(&[Waiting, Ready, Running, Parked]);
        let needs = if random.one_in(2) { 1 + random.below(2) } else { 0 };
        Wish {
            priority: random.below(3) as i64,
            capability: random.one_in(5).then(|| random.of(&["docs", "gpu"])),
            agent: random.one_in(10).then(|| TEAM[random.below(TEAM.len())].name),
            verify: random.one_in(3),
            claims: if random.one_in(2) {
                (0..=random.below(2)).map(|_| random.of(&NAMES)).collect()
            } else {
                Vec::new()
            },
            max_attempts: 1 + random.below(3) as i64,
            due_in_ms: random.one_in(8).then(|| random.ms(60_000)),
            needs: match place {
                None if !open.is_empty() => (0..needs).map(|_| random.of(&open)).collect(),
                _ => Vec::new(),
            },
            needs_new: match place {
                Some(place) if place > 0 => (0..needs).map(|_| random.below(place)).collect(),
                _ => Vec::new(),
            },
        }
    }

    /// Learns from an answer.
    pub fn hear(&mut self, op: &Op, answer: &str, now: i64) {
        let said = numbers(answer);
        match op {
            Op::BeginNode(_) => self.hosts[self.asking].begin(said[0], now),
            Op::BeginSession { agent, .. } if answer.starts_with("session") => {
                self.hosts[self.asking].sessions.push(agent);
            }
            Op::Take { agent, node: Some(node), .. } if answer.starts_with("took") => {
                let fate = if self.calm.has_begun() { Fate::Done } else { self.fate() };
                let long = if fate == Fate::Hangs { 60_000 } else { self.random.ms(40_000) };
                self.adopt(*node, Child { agent, task: said[0], term: said[1], ends_at: now + long, fate });
            }
            Op::TakeCheck { node, .. } if answer != "none" => {
                let ends_at = now + self.random.ms(25_000);
                let child = Child { agent: "", task: said[0], term: said[1], ends_at, fate: Fate::IsCheck };
                self.adopt(*node, child);
            }
            Op::Take { node: None, .. } => {
                self.single = answer.starts_with("took").then(|| (said[0], said[1]))
            }
            Op::Done(task, term, _) | Op::Fail(task, term, _) | Op::Release(task, term) => {
                self.single = self.single.filter(|held| *held != (*task, *term));
            }
            Op::Park(task, Some(_), _) => self.single = self.single.filter(|held| held.0 != *task),
            Op::Progress(task, term, _) if answer.starts_with("error") => {
                self.single = self.single.filter(|held| *held != (*task, *term));
            }
            Op::Renew { node, held, .. } => self.miss(*node, held, &said),
            Op::Lead(..) if answer != "none" => {
                let judge = now >= self.hosts[self.asking].judge_from;
                self.script.push_back(Op::Check { judge, stuck_after_ms: STUCK_AFTER_MS });
            }
            Op::Claim(wish) => {
                self.waiting.retain(|waiting| Some(waiting.place) != wish.place);
                if answer.starts_with("waits") {
                    self.waiting.push(Waiting { place: said[0], wish: wish.clone() });
                }
            }
            Op::Leave(_, place) => self.waiting.retain(|waiting| waiting.place != *place),
            _ => {}
        }
    }

    fn fate(&mut self) -> Fate {
        use Fate::{Dies, Done, Fails, FailsForGood, Hangs};
        self.random.of(&[Done, Done, Done, Done, Done, Fails, Fails, FailsForGood, Dies, Hangs])
    }

    /// A node that died meanwhile has no use for what it was given.
    fn adopt(&mut self, node: i64, child: Child) {
        if let Some(host) = self.hosts.iter_mut().find(|host| host.node == Some(node)) {
            host.children.push(child);
        }
    }

    /// Stops the children of what a renewal did not keep, and says so when they are gone.
    fn miss(&mut self, node: i64, held: &[(i64, i64, bool)], kept: &[i64]) {
        let Some(host) = self.hosts.iter_mut().find(|host| host.node == Some(node)) else { return };
        for (task, term, _) in held.iter().filter(|(task, ..)| !kept.contains(task)) {
            host.children.retain(|child| (child.task, child.term) != (*task, *term));
            self.script.push_back(Op::Gone(*task, *term));
        }
    }
}

impl Host {
    fn begin(&mut self, node: i64, now: i64) {
        self.node = Some(node);
        (self.renewed_at, self.checked_at, self.judge_from) = (now, now, now);
    }

    fn die(&mut self, until: i64) {
        self.node = None;
        self.away_until = until;
        self.sessions.clear();
        self.children.clear();
    }
}

/// Returns the numbers in an answer, in order.
fn numbers(answer: &str) -> Vec<i64> {
    answer.split(|c: char| !c.is_ascii_digit()).filter_map(|part| part.parse().ok()).collect()
}

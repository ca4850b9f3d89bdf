//! The calm after the chaos: everyone is there, children end well, and all must come to its end in bounded time.

use super::{CHECK_EVERY_MS, Fate, LEASE_MS, STUCK_AFTER_MS, TEAM, World};
use quorate_model::TaskState;
use quorate_testkit::oracle::{ClaimWish, Op, Oracle, Picture, Word};

/// Rounds after which whatever is not over never will be. Waits of up to ten minutes must not be what ends it.
const ROUNDS_MAX: usize = 60;
const ROUND_MS: i64 = 7_000;
/// Steps of the clock do not move what was asked for by the clock on the wall: one step forward makes all of it due.
const DAY_MS: i64 = 86_400_000;

#[derive(Debug, Default)]
pub(super) struct Calm {
    rounds: usize,
    stage: usize,
}

impl Calm {
    pub(super) fn has_begun(&self) -> bool {
        self.rounds > 0
    }
}

impl World {
    pub(super) fn calm_down(&mut self, oracle: &Oracle) -> Option<Op> {
        let is_over = self.calm.stage == 0 && self.calm.has_begun() && is_quiet(oracle);
        if is_over || self.calm.rounds > ROUNDS_MAX {
            return None;
        }
        match self.calm.stage {
            0 => self.all_awake(oracle),
            1 => self.all_report(),
            2 => self.all_ask(oracle),
            _ => self.next_round(oracle),
        }
        self.calm.stage = (self.calm.stage + 1) % 4;
        self.script.pop_front().or_else(|| self.calm_down(oracle))
    }

    /// What was on its way arrives, and whoever was put on hold goes on.
    fn all_awake(&mut self, oracle: &Oracle) {
        if !self.calm.has_begun() {
            self.script.push_back(Op::StepClock(DAY_MS));
        }
        self.calm.rounds += 1;
        let late = std::mem::take(&mut self.flights);
        self.script.extend(late.into_iter().map(|(_, op)| op));
        for member in TEAM.iter().filter(|member| oracle.is_braked(member.name)) {
            self.script.extend([Op::Seen(member.name), Op::Tell(member.name, Word::Resume)]);
        }
        self.script.extend(oracle.in_states(&[TaskState::Parked]).into_iter().map(Op::Unpark));
        for place in 0..self.hosts.len() {
            self.hosts[place].away_until = 0;
            if self.hosts[place].node.is_none() {
                self.asking = place;
                self.script.push_back(Op::BeginNode(LEASE_MS));
                return;
            }
            let renewal = self.renewal(place, oracle.now());
            self.script.push_back(renewal);
        }
    }

    fn all_report(&mut self) {
        for host in &mut self.hosts {
            for child in std::mem::take(&mut host.children) {
                self.script.push_back(match child.fate {
                    Fate::IsCheck => Op::SettleCheck(child.task, child.term, true),
                    _ => Op::Done(child.task, child.term, None),
                });
            }
        }
        self.script.extend(self.single.map(|(task, term)| Op::Done(task, term, None)));
    }

    fn all_ask(&mut self, oracle: &Oracle) {
        for host in &mut self.hosts {
            let Some(node) = host.node else { continue };
            let missing = host.agents.iter().filter(|agent| oracle.home(agent) != Some(node));
            self.script.extend(missing.map(|agent| Op::BeginSession { agent, node, lease_ms: LEASE_MS }));
            host.sessions.clone_from(&host.agents);
            for agent in &host.agents {
                let (node, lease_ms) = (Some(node), LEASE_MS);
                self.script.push_back(Op::Take { agent, node, run: None, resume: false, lease_ms });
            }
            self.script.push_back(Op::TakeCheck { task: None, run: None, node, lease_ms: LEASE_MS });
        }
        let agent = "delta";
        self.script.push_back(Op::Take { agent, node: None, run: None, resume: true, lease_ms: LEASE_MS });
        for waiting in &self.waiting {
            let wish = ClaimWish { place: Some(waiting.place), ttl_ms: 1_000, ..waiting.wish.clone() };
            self.script.push_back(Op::Claim(wish));
        }
    }

    fn next_round(&mut self, oracle: &Oracle) {
        self.script.push_back(Op::Advance(ROUND_MS));
        if self.calm.rounds as i64 * ROUND_MS % CHECK_EVERY_MS < ROUND_MS || is_quiet(oracle) {
            self.script.push_back(Op::Check { judge: true, stuck_after_ms: STUCK_AFTER_MS });
        }
    }

    /// Returns what did not come to its end.
    pub fn unfinished(&self, seen: &Picture) -> Option<String> {
        let task = seen.tasks.iter().find(|task| !task.state.is_over()).map(|task| format!("{task:?}"));
        let run = seen.runs.iter().find(|run| run.state == "running").map(|run| format!("{run:?}"));
        let claim = seen.claims.iter().find(|claim| claim.bound).map(|claim| format!("{claim:?}"));
        task.or(run).or(claim).map(|what| {
            format!("{ROUNDS_MAX} rounds of calm did not end {what}\n{:?}\n{:?}", seen.claims, seen.waits)
        })
    }
}

fn is_quiet(oracle: &Oracle) -> bool {
    let open = TaskState::ALL.into_iter().filter(|state| !state.is_over()).collect::<Vec<_>>();
    oracle.in_states(&open).is_empty() && oracle.open_runs().is_empty()
}

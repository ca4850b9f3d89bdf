//! Random sequences of operations, played against an oracle in memory and both databases: every answer and, now and
//! then, the whole state must be the same.
//!
//! `QUORATE_SEED` replays one sequence; `QUORATE_SEQUENCES` asks for more of them than usual.

mod play;

use play::{Random, Tally, count, look, number, perform};
use quorate_model::TaskState;
use quorate_model::resource::Mode;
use quorate_testkit::ledger::{Backend, START_MS, TestLedger};
use quorate_testkit::oracle::{ClaimWish, Member, Op, Oracle, Picture, Wish, Word};

const SEQUENCES: u64 = 8;
const SEQUENCES_MAX: u64 = 60;
const STEPS: usize = 300;
const LOOK_EVERY: usize = 10;
/// Kinds of operations that must all be met.
const KINDS: usize = 35;

const TEAM: &[Member] = &[
    Member { name: "alpha", capabilities: Some(&["docs"]) },
    Member { name: "beta", capabilities: Some(&["docs", "gpu"]) },
    Member { name: "gamma", capabilities: None },
];
const NAMES: [&str; 7] = ["src", "src/a.rs", "src/*.rs", "src/a.rs::f", "docs", "port:1", "gpu:0"];
const RESULTS: [Option<&str>; 4] = [None, Some("1"), Some("{\"n\":1}"), Some("no json")];

/// Chooses operations, mostly such as make sense.
struct Chooser(Random);

impl Chooser {
    fn below(&mut self, n: usize) -> usize {
        self.0.below(n)
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.0.one_in(n)
    }

    fn of<T: Copy>(&mut self, list: &[T]) -> T {
        self.0.of(list)
    }

    fn ms(&mut self, most: usize) -> i64 {
        self.0.ms(most)
    }

    fn agent(&mut self) -> &'static str {
        TEAM[self.below(TEAM.len())].name
    }

    fn names(&mut self, most: usize) -> Vec<&'static str> {
        (0..=self.below(most)).map(|_| self.of(&NAMES)).collect()
    }

    /// A node, or now and then one that does not exist.
    fn node(&mut self, oracle: &Oracle) -> i64 {
        1 + self.below(oracle.nodes() as usize + usize::from(self.0.clone().one_in(12))) as i64
    }

    fn run(&mut self, oracle: &Oracle) -> i64 {
        1 + self.below(oracle.runs() as usize + 1) as i64
    }

    /// A task, mostly in one of the states in which the operation makes sense; now and then none that exists.
    fn task(&mut self, oracle: &Oracle, states: &[TaskState]) -> i64 {
        let fitting = oracle.in_states(states);
        match (self.below(20), fitting.is_empty()) {
            (0, _) => oracle.count() + 1,
            (1..3, _) | (_, true) => 1 + self.below(oracle.count().max(1) as usize) as i64,
            _ => self.of(&fitting),
        }
    }

    /// Mostly the current term; now and then one from the past or the future.
    fn term(&mut self, oracle: &Oracle, id: i64) -> i64 {
        let term = oracle.term(id);
        match self.below(8) {
            0 => term - 1,
            1 => term + 1,
            _ => term,
        }
    }

    fn op(&mut self, oracle: &Oracle) -> Op {
        if oracle.nodes() == 0 {
            return Op::BeginNode(500);
        }
        match self.below(10) {
            0..6 => self.task_op(oracle),
            6 => self.claim_op(oracle),
            7 => self.run_op(oracle),
            8 => self.team_op(oracle),
            _ => self.time_op(),
        }
    }

    fn task_op(&mut self, oracle: &Oracle) -> Op {
        use TaskState::{Cancelled, Completed, Failed, Parked, Ready, Running, Verifying, Waiting};
        let held = self.task(oracle, &[Running]);
        let held_term = self.term(oracle, held);
        match self.below(40) {
            0..5 => {
                let run = self.one_in(4).then(|| self.run(oracle));
                Op::Add(run, self.wish(oracle, None))
            }
            5..13 => Op::Take {
                agent: self.agent(),
                node: (!self.one_in(3)).then(|| self.node(oracle)),
                run: self.one_in(6).then(|| self.run(oracle)),
                resume: self.one_in(4),
                lease_ms: 100 + self.ms(300),
            },
            13..15 => self.renew(oracle),
            15..17 => Op::Progress(held, held_term, self.below(110) as i64),
            17..20 => Op::Done(held, held_term, self.of(&RESULTS)),
            20 => {
                let id = self.task(oracle, &[Completed, Verifying]);
                Op::Done(id, self.term(oracle, id) - self.below(2) as i64, self.of(&RESULTS))
            }
            21..24 => Op::Fail(held, held_term, self.one_in(2)),
            24..26 => Op::TakeCheck {
                task: self.one_in(3).then(|| self.task(oracle, &[Verifying])),
                run: self.one_in(5).then(|| self.run(oracle)),
                node: self.node(oracle),
                lease_ms: 50 + self.ms(100),
            },
            26..28 => {
                let id = self.task(oracle, &[Verifying]);
                Op::SettleCheck(id, self.term(oracle, id), self.one_in(2))
            }
            28 => Op::Cancel(self.task(oracle, &[Waiting, Ready, Running, Verifying, Parked])),
            29..32 => Op::Retry(if self.one_in(3) {
                self.task(oracle, &[Cancelled])
            } else {
                self.task(oracle, &[Failed])
            }),
            32 => {
                let to = self.one_in(2).then(|| if self.one_in(4) { "nobody" } else { self.agent() });
                Op::Reassign(self.task(oracle, &[Running, Ready, Verifying]), to)
            }
            33 => {
                let id = self.task(oracle, &[Running, Verifying]);
                Op::Release(id, self.term(oracle, id))
            }
            34..36 => {
                let wait = self.one_in(2).then(|| self.ms(300));
                match self.below(3) {
                    0 => Op::Park(held, Some(held_term), wait),
                    1 => Op::Park(held, None, wait),
                    _ => Op::Park(self.task(oracle, &[Waiting, Ready]), None, wait),
                }
            }
            36 => Op::Unpark(self.task(oracle, &[Parked])),
            _ => {
                let id = self.task(oracle, &[Ready, Running, Cancelled, Parked]);
                Op::Gone(id, (oracle.term(id) - self.below(3) as i64).max(0))
            }
        }
    }

    fn renew(&mut self, oracle: &Oracle) -> Op {
        let held: Vec<i64> = (0..self.below(4))
            .map(|_| self.task(oracle, &[TaskState::Running, TaskState::Verifying]))
            .collect();
        let held: std::collections::BTreeSet<i64> = held.into_iter().collect();
        let held = held.into_iter().map(|id| (id, self.term(oracle, id), self.one_in(2))).collect();
        let agents = if self.one_in(2) { vec![self.agent()] } else { Vec::new() };
        Op::Renew { node: self.node(oracle), held, agents, lease_ms: self.ms(300) }
    }

    fn claim_op(&mut self, oracle: &Oracle) -> Op {
        let held = self.task(oracle, &[TaskState::Running]);
        let held_term = self.term(oracle, held);
        match self.below(12) {
            0..6 => self.claim(oracle, held, held_term),
            6 => match oracle.queue().first() {
                Some(&(agent, place)) => Op::Leave(agent, place),
                None => Op::Leave(self.agent(), 1),
            },
            7 => {
                let agent = self.agent();
                Op::RenewClaims(oracle.loose_claims(agent), 10 + self.ms(150))
            }
            8..10 => {
                let name = self.of(&NAMES);
                let term =
                    self.one_in(2).then(|| oracle.claim_term(name).unwrap_or(1) - self.below(2) as i64);
                Op::ReleaseClaim(self.agent(), name, term)
            }
            _ => Op::ForceRelease(self.of(&NAMES)),
        }
    }

    fn claim(&mut self, oracle: &Oracle, held: i64, held_term: i64) -> Op {
        let task = (!self.one_in(3)).then_some((held, held_term));
        let owner = task.and_then(|(id, _)| oracle.owner(id)).filter(|_| !self.one_in(5));
        let mut wish = ClaimWish {
            agent: owner.unwrap_or_else(|| self.agent()),
            resources: self.names(2),
            mode: if self.one_in(3) { Mode::Shared } else { Mode::Exclusive },
            ttl_ms: 10 + self.ms(150),
            task,
            wait_ms: self.one_in(2).then(|| self.ms(40_000)),
            place: None,
        };
        let queue = oracle.queue();
        if self.one_in(2) && !queue.is_empty() {
            let (agent, place) = self.of(&queue);
            (wish.agent, wish.place, wish.task) = (agent, Some(place), None);
        }
        Op::Claim(wish)
    }

    fn run_op(&mut self, oracle: &Oracle) -> Op {
        match self.below(6) {
            0 => Op::Start((0..self.below(5)).map(|place| self.wish(oracle, Some(place))).collect()),
            1 => Op::CancelRun(self.run(oracle)),
            2..4 => Op::ResumeRun(self.run(oracle)),
            _ => Op::SettleRun(self.run(oracle)),
        }
    }

    fn team_op(&mut self, oracle: &Oracle) -> Op {
        let (agent, node) = (self.agent(), self.node(oracle));
        match self.below(16) {
            0..4 => Op::BeginSession { agent, node, lease_ms: 100 + self.ms(400) },
            4 => Op::EndSession(agent, oracle.home(agent).unwrap_or(node)),
            5..9 => {
                let task = 1 + self.below(3) as i64;
                Op::Crash { agent, task, spawn: self.one_in(3) }
            }
            9 => Op::Tell(agent, self.of(&[Word::Pause, Word::Remove, Word::Kill])),
            10 => Op::Tell(agent, self.of(&[Word::Resume, Word::Kill])),
            11 => Op::BeginNode(500),
            12 => self.of(&[Op::EndNode, Op::Bury])(node),
            13 => Op::Lead(node, 100 + self.ms(100)),
            _ => Op::Seen(agent),
        }
    }

    fn time_op(&mut self) -> Op {
        let long = self.one_in(8);
        match self.below(4) {
            0 | 1 => Op::Advance(self.ms(if long { 30_000 } else { 120 })),
            _ => Op::Check { judge: !self.one_in(4), stuck_after_ms: self.ms(400) },
        }
    }

    /// A task; one of a plan only needs those before its place: a plan that is refused would use up an id on PostgreSQL.
    fn wish(&mut self, oracle: &Oracle, place: Option<usize>) -> Wish {
        use TaskState::{Parked, Ready, Running, Waiting};
        let needs = if self.one_in(2) { 1 + self.below(3) } else { 0 };
        Wish {
            priority: self.below(3) as i64,
            capability: self.one_in(4).then(|| self.of(&["docs", "gpu"])),
            agent: self.one_in(8).then(|| if self.one_in(6) { "nobody" } else { self.agent() }),
            verify: self.one_in(3),
            claims: if self.one_in(3) { self.names(1) } else { Vec::new() },
            max_attempts: 1 + self.below(3) as i64,
            due_in_ms: self.one_in(6).then(|| self.ms(300)),
            needs: match place {
                Some(_) => Vec::new(),
                None => (0..needs).map(|_| self.task(oracle, &[Waiting, Ready, Running, Parked])).collect(),
            },
            needs_new: match place {
                Some(0) | None => Vec::new(),
                Some(place) => (0..needs).map(|_| self.below(place)).collect(),
            },
        }
    }
}

async fn play(seed: u64, tally: &mut Tally) {
    let ledgers = [TestLedger::new(Backend::Lite).await, TestLedger::new(Backend::Pg).await];
    let mut chooser = Chooser(Random(seed));
    let mut oracle = Oracle::new(START_MS, TEAM);
    let mut story = Vec::new();
    let mut seen_last = [Picture::default(), Picture::default()];
    let mut opening: Vec<Op> = TEAM.iter().map(|member| Op::Seen(member.name)).collect();
    for step in 0..STEPS {
        let op = opening.pop().unwrap_or_else(|| chooser.op(&oracle));
        let now = oracle.now();
        let expected = oracle.apply(&op);
        story.push(format!("{op:?} -> {expected}"));
        let told = || format!("QUORATE_SEED={seed} replays this\n{}", story.join("\n"));
        for ((ledger, name), last) in ledgers.iter().zip(["SQLite", "PostgreSQL"]).zip(&mut seen_last) {
            if let Op::Advance(ms) = &op {
                ledger.advance(*ms).await;
            }
            let answer = perform(&ledger.store, TEAM, now, &op).await;
            assert_eq!(answer, expected, "{name} differs at the end of\n{}", told());
            if step % LOOK_EVERY == 0 || step + 1 == STEPS {
                let seen = ledger.store.read(look::Look).await.expect("the ledger is readable");
                let differs = seen.difference(&oracle.picture());
                assert!(
                    differs.is_none(),
                    "{name} differs after\n{}\n{}",
                    told(),
                    differs.unwrap_or_default()
                );
                let broken = look::broken(last, &seen);
                assert!(broken.is_none(), "{name} after\n{}\n{}", told(), broken.unwrap_or_default());
                *last = seen;
            }
        }
        count(tally, &op, &expected);
    }
}

fn untried(tally: &Tally) -> Vec<&str> {
    // What answers the same whether there was something to do or not.
    let never_refused = [
        "Advance",
        "Check",
        "Renew",
        "Gone",
        "Leave",
        "RenewClaims",
        "Seen",
        "EndSession",
        "BeginNode",
        "EndNode",
        "Bury",
        "Start",
    ];
    let is_untried = |name: &str, (done, refused): (usize, usize)| {
        done == 0 || (refused == 0 && !never_refused.contains(&name))
    };
    tally.iter().filter(|(name, counts)| is_untried(name, **counts)).map(|(name, _)| name.as_str()).collect()
}

#[test]
fn random_sequences_end_as_the_rules_say_on_both_databases() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let mut tally = Tally::new();
    if let Some(seed) = number("QUORATE_SEED") {
        return runtime.block_on(play(seed, &mut tally));
    }
    let wanted = number("QUORATE_SEQUENCES").unwrap_or(SEQUENCES);
    for seed in 1.. {
        runtime.block_on(play(seed, &mut tally));
        if seed >= wanted && tally.len() == KINDS && untried(&tally).is_empty() {
            break;
        }
        assert!(
            seed < SEQUENCES_MAX.max(wanted),
            "never tried both ways: {:?} of {tally:?}",
            untried(&tally)
        );
    }
    println!("{tally:?}");
}

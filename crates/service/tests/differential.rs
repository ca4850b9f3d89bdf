//! Random sequences of operations, played against an oracle in memory and both databases: every answer and, now and
//! then, the whole state must be the same.
//!
//! `QUORATE_SEED` replays one sequence; `QUORATE_SEQUENCES` asks for more of them than usual.

use quorate_model::resource::Mode;
use quorate_model::{Error, Result, TaskId, TaskState, Term};
use quorate_service::claim::{self, Grant, Releaser};
use quorate_service::health::Check;
use quorate_service::task::{
    Cancel, Done, Fail, Held, NewTask, Outcome, Park, Progress, Reassign, Release, Renew, Retry, SettleCheck,
    Take, TakeCheck, Unpark,
};
use quorate_service::view::{Claims, Tasks};
use quorate_testkit::ledger::{Backend, START_MS, TestLedger};
use quorate_testkit::oracle::{Member, Op, Oracle, RETRY_AFTER_MS, TaskLine, Wish, claim_line, task_line};
use quorate_testkit::verbs::{command, next_of, texts};
use std::collections::BTreeMap;

const SEQUENCES: u64 = 8;
const SEQUENCES_MAX: u64 = 60;
const STEPS: usize = 250;
const LOOK_EVERY: usize = 10;

const TEAM: &[Member] = &[
    Member { name: "alpha", capabilities: Some(&["docs"]) },
    Member { name: "beta", capabilities: Some(&["docs", "gpu"]) },
    Member { name: "gamma", capabilities: None },
];
const NAMES: [&str; 7] = ["src", "src/a.rs", "src/*.rs", "src/a.rs::f", "docs", "port:1", "gpu:0"];
const RESULTS: [Option<&str>; 4] = [None, Some("1"), Some("{\"n\":1}"), Some("no json")];

/// A stream of numbers that look random and depend on the seed alone (splitmix64).
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((x ^ (x >> 31)) % n as u64) as usize
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn of<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.below(list.len())]
    }

    fn ms(&mut self, most: usize) -> i64 {
        1 + self.below(most) as i64
    }

    fn agent(&mut self) -> &'static str {
        TEAM[self.below(TEAM.len())].name
    }

    fn names(&mut self, most: usize) -> Vec<&'static str> {
        (0..=self.below(most)).map(|_| self.of(&NAMES)).collect()
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
        use TaskState::{Cancelled, Completed, Failed, Parked, Ready, Running, Verifying, Waiting};
        let held = self.task(oracle, &[Running]);
        let held_term = self.term(oracle, held);
        match self.below(46) {
            0..6 => Op::Add(self.wish(oracle)),
            6..13 => Op::Take { agent: self.agent(), lease_ms: 100 + self.ms(300) },
            13..15 => {
                let id = self.task(oracle, &[Running, Verifying]);
                Op::Renew(id, self.term(oracle, id), self.ms(300))
            }
            15..17 => Op::Progress(held, held_term, self.below(110) as i64),
            17..20 => Op::Done(held, held_term, self.of(&RESULTS)),
            20 => {
                let id = self.task(oracle, &[Completed, Verifying]);
                Op::Done(id, self.term(oracle, id) - self.below(2) as i64, self.of(&RESULTS))
            }
            21..24 => Op::Fail(held, held_term, self.one_in(2)),
            24 => {
                let only = self.one_in(3).then(|| self.task(oracle, &[Verifying]));
                Op::TakeCheck(only, 50 + self.ms(100))
            }
            25..27 => {
                let id = self.task(oracle, &[Verifying]);
                Op::SettleCheck(id, self.term(oracle, id), self.one_in(2))
            }
            27 => Op::Cancel(self.task(oracle, &[Waiting, Ready, Running, Verifying, Parked])),
            28..31 => Op::Retry(if self.one_in(3) {
                self.task(oracle, &[Cancelled])
            } else {
                self.task(oracle, &[Failed])
            }),
            31 => {
                let to = self.one_in(2).then(|| if self.one_in(4) { "nobody" } else { self.agent() });
                Op::Reassign(self.task(oracle, &[Running, Ready, Verifying]), to)
            }
            32 => {
                let id = self.task(oracle, &[Running, Verifying]);
                Op::Release(id, self.term(oracle, id))
            }
            33..35 => {
                let wait = self.one_in(2).then(|| self.ms(300));
                match self.one_in(3) {
                    true => Op::Park(held, Some(held_term), wait),
                    false => Op::Park(self.task(oracle, &[Waiting]), None, wait),
                }
            }
            35 => Op::Unpark(self.task(oracle, &[Parked])),
            36..40 => self.claim(oracle, held, held_term),
            40 => {
                let name = self.of(&NAMES);
                let term =
                    self.one_in(2).then(|| oracle.claim_term(name).unwrap_or(1) - self.below(2) as i64);
                Op::ReleaseClaim(self.agent(), name, term)
            }
            41 => Op::ForceRelease(self.of(&NAMES)),
            42..44 => Op::Advance(self.ms(120)),
            _ => Op::Check,
        }
    }

    fn claim(&mut self, oracle: &Oracle, held: i64, held_term: i64) -> Op {
        let task = (!self.one_in(3)).then_some((held, held_term));
        let owner = task.and_then(|(id, _)| oracle.owner(id)).filter(|_| !self.one_in(5));
        Op::Claim {
            agent: owner.unwrap_or_else(|| self.agent()),
            resources: self.names(2),
            mode: if self.one_in(3) { Mode::Shared } else { Mode::Exclusive },
            ttl_ms: 10 + self.ms(150),
            task,
        }
    }

    fn wish(&mut self, oracle: &Oracle) -> Wish {
        use TaskState::{Parked, Ready, Running, Waiting};
        let needs = if self.one_in(2) { 1 + self.below(3) } else { 0 };
        Wish {
            priority: self.below(3) as i64,
            capability: self.one_in(4).then(|| self.of(&["docs", "gpu"])),
            agent: self.one_in(8).then(|| if self.one_in(6) { "nobody" } else { self.agent() }),
            verify: self.one_in(3),
            claims: if self.one_in(4) { self.names(1) } else { Vec::new() },
            max_attempts: 1 + self.below(3) as i64,
            due_in_ms: self.one_in(6).then(|| self.ms(300)),
            needs: (0..needs).map(|_| self.task(oracle, &[Waiting, Ready, Running, Parked])).collect(),
        }
    }
}

/// Does on a ledger what the oracle was told, and says the answer in the oracle's words.
async fn perform(ledger: &TestLedger, now: i64, op: &Op) -> String {
    match act(ledger, now, op).await {
        Ok(answer) => answer,
        Err(error) => format!("error {}", error.kind.as_str()),
    }
}

async fn act(ledger: &TestLedger, now: i64, op: &Op) -> Result<String> {
    let store = &ledger.store;
    match op.clone() {
        Op::Add(wish) => Ok(format!("added {}", ledger.add(new_task(&wish)).await?)),
        Op::Take { agent, lease_ms } => take(ledger, agent, lease_ms).await,
        Op::Renew(id, term, lease_ms) => {
            let held = vec![Held { id: TaskId(id), term: Term(term), active: true }];
            let kept = store.write(Renew { held, agents: vec![], node: "1".into(), lease_ms }).await?;
            Ok(if kept.is_empty() { "none" } else { "renewed" }.into())
        }
        Op::Progress(id, term, percent) => {
            let progress =
                Progress { id: TaskId(id), term: Term(term), percent: Some(percent), message: None };
            store.write(progress).await.map(|_| format!("at {percent}"))
        }
        Op::Done(id, term, result) => {
            let result = result.map(str::to_owned);
            store.write(Done { id: TaskId(id), term: Term(term), result, tail: None }).await?;
            Ok(ledger.state(TaskId(id)).await?.to_string())
        }
        Op::Fail(id, term, is_final) => {
            let fail = Fail {
                id: TaskId(id),
                term: Term(term),
                error: "boom".into(),
                is_final,
                outcome: Outcome::Failed,
                tail: None,
                retry_after_ms: RETRY_AFTER_MS,
            };
            store.write(fail).await.map(|state| state.to_string())
        }
        Op::TakeCheck(task, lease_ms) => {
            let check = TakeCheck { task: task.map(TaskId), run: None, node: "1".into(), lease_ms };
            let taken = store.write(check).await?;
            Ok(taken.map_or("none".into(), |task| format!("checks {} term {}", task.id, task.term)))
        }
        Op::SettleCheck(id, term, passed) => {
            let failure = (!passed).then(|| "exit 1".into());
            let settle = SettleCheck {
                id: TaskId(id),
                term: Term(term),
                failure,
                tail: None,
                retry_after_ms: RETRY_AFTER_MS,
            };
            store.write(settle).await.map(|state| state.to_string())
        }
        Op::Cancel(id) => {
            store.write(Cancel { id: TaskId(id), reason: "r".into() }).await.map(|_| "cancelled".into())
        }
        Op::Retry(id) => {
            store.write(Retry { id: TaskId(id) }).await?;
            Ok(ledger.state(TaskId(id)).await?.to_string())
        }
        Op::Reassign(id, to) => {
            let reassign = Reassign { id: TaskId(id), to: to.map(str::to_owned), reason: "r".into() };
            store.write(reassign).await.map(|_| "taken away".into())
        }
        Op::Release(id, term) => {
            let release = Release { id: TaskId(id), term: Term(term), reason: "r".into() };
            store.write(release).await.map(|()| "given back".into())
        }
        Op::Park(id, term, wait) => {
            let until = wait.map(|ms| now + ms);
            let park = Park { id: TaskId(id), term: term.map(Term), reason: "r".into(), until };
            store.write(park).await.map(|_| "parked".into())
        }
        Op::Unpark(id) => store.write(Unpark { id: TaskId(id) }).await.map(|_| "goes on".into()),
        Op::Claim { agent, resources, mode, ttl_ms, task } => {
            let task = task.map(|(id, term)| (TaskId(id), Term(term)));
            claim(ledger, agent, texts(&resources), mode, ttl_ms, task).await
        }
        Op::ReleaseClaim(agent, name, term) => {
            let by = Releaser::Holder { agent: agent.into(), term: term.map(Term) };
            release(ledger, name, by).await
        }
        Op::ForceRelease(name) => release(ledger, name, Releaser::Force { reason: "r".into() }).await,
        Op::Advance(ms) => {
            ledger.advance(ms).await;
            Ok("later".into())
        }
        Op::Check => {
            let checked = store.write(Check { stuck_after_ms: i64::MAX / 2, judge: true }).await?;
            Ok(format!("due {} lapsed {} expired {}", checked.due, checked.lapsed, checked.claims))
        }
    }
}

fn new_task(wish: &Wish) -> NewTask {
    NewTask {
        priority: wish.priority,
        capability: wish.capability.map(str::to_owned),
        agent: wish.agent.map(str::to_owned),
        verify: wish.verify.then(|| "true".into()),
        claims: texts(&wish.claims),
        max_attempts: wish.max_attempts,
        due_in_ms: wish.due_in_ms,
        needs: wish.needs.iter().copied().map(TaskId).collect(),
        ..command("x")
    }
}

async fn take(ledger: &TestLedger, agent: &str, lease_ms: i64) -> Result<String> {
    let member = TEAM.iter().find(|member| member.name == agent).expect("of the team");
    let take = Take { capabilities: member.capabilities.map(texts), lease_ms, ..next_of(agent) };
    let taken = ledger.store.write(take).await?.map(|taken| taken.task);
    Ok(taken.map_or("none".into(), |t| format!("took {} term {} attempt {}", t.id, t.term, t.attempt)))
}

async fn claim(
    ledger: &TestLedger,
    agent: &str,
    resources: Vec<String>,
    mode: Mode,
    ttl_ms: i64,
    task: Option<(TaskId, Term)>,
) -> Result<String> {
    let take = claim::Take { agent: agent.into(), resources, mode, ttl_ms, task, wait_ms: None, place: None };
    match ledger.store.write(take).await? {
        Grant::Taken(claims) => {
            let terms: Vec<String> = claims.iter().map(|claim| claim.term.to_string()).collect();
            Ok(format!("claimed {}", terms.join(" ")))
        }
        Grant::Waits { why, .. } => Err(Error::failed(why)),
    }
}

async fn release(ledger: &TestLedger, name: &str, by: Releaser) -> Result<String> {
    let ended = ledger.store.write(claim::Release { resources: texts(&[name]), by }).await?;
    Ok(format!("released {}", ended.len()))
}

async fn picture(ledger: &TestLedger) -> Result<Vec<String>> {
    let tasks = ledger.store.read(Tasks::default()).await?;
    let tasks = tasks.iter().map(|t| {
        task_line(&TaskLine {
            id: t.id.0,
            state: t.state,
            term: t.term.0,
            attempt: t.attempt,
            failures: t.failures,
            unmet: t.unmet,
            progress: t.progress,
            owner: t.owner.as_deref(),
            lease_until: t.lease_until,
            due_at: t.due_at,
            blocked_by: t.blocked_by.map(|id| id.0),
            result: t.result.as_deref(),
        })
    });
    let claims = ledger.store.read(Claims::default()).await?;
    let claims = claims
        .iter()
        .map(|c| claim_line(c.term.0, &c.resource, &c.agent, c.task.map(|id| id.0), c.mode, c.expires_at));
    Ok(tasks.chain(claims).collect())
}

/// How often each operation succeeded and was refused.
type Tally = BTreeMap<String, (usize, usize)>;

async fn play(seed: u64, tally: &mut Tally) {
    let ledgers = [TestLedger::new(Backend::Lite).await, TestLedger::new(Backend::Pg).await];
    for ledger in &ledgers {
        for member in TEAM {
            ledger.join(member.name).await.expect("joins");
        }
    }
    let mut random = Random(seed);
    let mut oracle = Oracle::new(START_MS, TEAM);
    let mut now = START_MS;
    let mut story = Vec::new();
    for step in 0..STEPS {
        let op = random.op(&oracle);
        if let Op::Advance(ms) = &op {
            now += ms;
        }
        let expected = oracle.apply(&op);
        story.push(format!("{op:?} -> {expected}"));
        let told = || format!("QUORATE_SEED={seed} replays this\n{}", story.join("\n"));
        for (ledger, name) in ledgers.iter().zip(["SQLite", "PostgreSQL"]) {
            let answer = perform(ledger, now, &op).await;
            assert_eq!(answer, expected, "{name} differs at the end of\n{}", told());
            if step % LOOK_EVERY == 0 || step + 1 == STEPS {
                let seen = picture(ledger).await.expect("the ledger is readable");
                let differs = seen.iter().zip(oracle.picture()).find(|(a, b)| **a != *b);
                assert_eq!(differs, None, "{name} differs after\n{}", told());
                assert_eq!(seen.len(), oracle.picture().len(), "{name} differs after\n{}", told());
            }
        }
        let is_refused = expected.starts_with("error") || expected == "none";
        let name = format!("{op:?}").chars().take_while(|c| c.is_alphanumeric()).collect();
        let counts = tally.entry(name).or_default();
        *(if is_refused { &mut counts.1 } else { &mut counts.0 }) += 1;
    }
}

fn untried(tally: &Tally) -> Vec<&str> {
    let never_refused = ["Advance", "Check"];
    let is_untried = |name: &str, (done, refused): (usize, usize)| {
        done == 0 || (refused == 0 && !never_refused.contains(&name))
    };
    tally.iter().filter(|(name, counts)| is_untried(name, **counts)).map(|(name, _)| name.as_str()).collect()
}

#[test]
fn random_sequences_end_as_the_rules_say_on_both_databases() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let mut tally = Tally::new();
    if let Some(seed) = number("QUORATE_SEED") {
        return runtime.block_on(play(seed, &mut tally));
    }
    let wanted = number("QUORATE_SEQUENCES").unwrap_or(SEQUENCES);
    for seed in 1.. {
        runtime.block_on(play(seed, &mut tally));
        if seed >= wanted && tally.len() == 19 && untried(&tally).is_empty() {
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

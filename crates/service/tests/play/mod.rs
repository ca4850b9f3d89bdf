//! What random tests share: numbers from a seed, doing on a ledger what the oracle was told, and looking at it.

#![allow(dead_code)]

pub mod look;

use quorate_model::config::Limits;
use quorate_model::{Error, Result, RunId, TaskId, Term};
use quorate_service::claim::{self, Grant, Releaser};
use quorate_service::health::Check;
use quorate_service::task::{
    Add, Cancel, Done, DoneAnswer, Fail, Held, Kinds, NewTask, Outcome, Park, Progress, Reassign, Release,
    Renew, Retry, SettleCheck, Take, TakeAnswer, TakeCheck, Unpark,
};
use quorate_service::{agent, node, run};
use quorate_store::Store;
use quorate_testkit::oracle::{ClaimWish, MAX_RESPAWNS, Member, Op, RETRY_AFTER_MS, Wish, Word};
use quorate_testkit::verbs::{command, next_of, texts};
use std::collections::BTreeMap;

/// A stream of numbers that look random and depend on the seed alone (splitmix64).
#[derive(Debug, Clone)]
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((x ^ (x >> 31)) % n as u64) as usize
    }

    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub fn of<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.below(list.len())]
    }

    pub fn ms(&mut self, most: usize) -> i64 {
        1 + self.below(most) as i64
    }
}

/// Reads a number from the environment.
pub fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

/// How often each operation succeeded and was refused.
pub type Tally = BTreeMap<String, (usize, usize)>;

/// Counts an operation and its answer.
pub fn count(tally: &mut Tally, op: &Op, answer: &str) {
    let is_refused = answer.starts_with("error") || answer.starts_with("none");
    let name = format!("{op:?}").chars().take_while(|c| c.is_alphanumeric()).collect();
    let counts = tally.entry(name).or_default();
    *(if is_refused { &mut counts.1 } else { &mut counts.0 }) += 1;
}

/// Does on a ledger what the oracle was told, and says the answer in the oracle's words. Time is the caller's to move.
pub async fn perform(store: &Store, team: &[Member], now: i64, op: &Op) -> String {
    match act(store, team, now, op.clone()).await {
        Ok(answer) => answer,
        Err(error) => format!("error {}", error.kind.as_str()),
    }
}

async fn act(store: &Store, team: &[Member], now: i64, op: Op) -> Result<String> {
    match op {
        Op::Add(run, wish) => {
            let add = Add { run: run.map(RunId), tasks: vec![new_task(&wish)], by: None };
            Ok(format!("added {}", store.write(add).await?[0]))
        }
        op @ Op::Take { .. } => take(store, team, op).await,
        Op::Renew { node, held, agents, lease_ms } => renew(store, node, &held, &agents, lease_ms).await,
        Op::Progress(id, term, percent) => {
            let progress =
                Progress { id: TaskId(id), term: Term(term), percent: Some(percent), message: None };
            store.write(progress).await.map(|_| format!("at {percent}"))
        }
        Op::Done(id, term, result) => {
            let result = result.map(str::to_owned);
            let answer = store.write(Done { id: TaskId(id), term: Term(term), result, tail: None }).await?;
            Ok(if answer == DoneAnswer::Verifying { "verifying" } else { "completed" }.into())
        }
        Op::Fail(id, term, is_final) => fail(store, id, term, is_final).await,
        Op::TakeCheck { task, run, node, lease_ms } => {
            let (task, run) = (task.map(TaskId), run.map(RunId));
            let taken = store.write(TakeCheck { task, run, node: node.to_string(), lease_ms }).await?;
            Ok(taken.map_or("none".into(), |task| format!("checks {} term {}", task.id, task.term)))
        }
        Op::SettleCheck(id, term, passed) => settle(store, id, term, passed).await,
        Op::Cancel(id) => {
            store.write(Cancel { id: TaskId(id), reason: "r".into() }).await.map(|_| "cancelled".into())
        }
        Op::Retry(id) => store.write(Retry { id: TaskId(id) }).await.map(|task| task.state.to_string()),
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
        Op::Gone(id, term) => {
            let gone = node::Gone { task: TaskId(id), attempt: 1, term: Term(term) };
            store.write(gone).await.map(|()| "gone".into())
        }
        Op::Start(wishes) => {
            let tasks: Vec<NewTask> = wishes.iter().map(new_task).collect();
            let start = run::Start { goal: "g".into(), source: None, detached: false, tasks };
            let (run, tasks) = store.write(start).await?;
            Ok(format!("run {run} of {}", tasks.len()))
        }
        Op::CancelRun(id) => {
            store.write(run::Cancel { id: RunId(id), reason: "r".into() }).await.map(|run| run.state)
        }
        Op::ResumeRun(id) => store.write(run::Resume { id: RunId(id) }).await.map(|run| run.state),
        Op::SettleRun(id) => store.write(run::Settle { id: RunId(id) }).await.map(|run| run.state),
        Op::Claim(wish) => claim(store, wish).await,
        Op::Leave(agent, place) => {
            store.write(claim::Leave { agent: agent.into(), place }).await.map(|()| "left".into())
        }
        Op::RenewClaims(terms, ttl_ms) => renew_claims(store, terms, ttl_ms).await,
        Op::ReleaseClaim(agent, name, term) => {
            release(store, name, Releaser::Holder { agent: agent.into(), term: term.map(Term) }).await
        }
        Op::ForceRelease(name) => release(store, name, Releaser::Force { reason: "r".into() }).await,
        Op::Seen(agent) => {
            let seen = agent::Seen { name: agent.into(), strict: false };
            store.write(seen).await.map(|agent| format!("saw {}", agent.name))
        }
        Op::BeginSession { agent, node, lease_ms } => begin_session(store, agent, node, lease_ms).await,
        Op::EndSession(agent, node) => {
            let end = agent::End { name: agent.into(), node: node.to_string() };
            store.write(end).await.map(|()| "ended".into())
        }
        Op::Crash { agent, task, spawn } => crash(store, agent, task, spawn).await,
        Op::Tell(agent, word) => tell(store, agent, word).await,
        Op::BeginNode(lease_ms) => begin_node(store, lease_ms).await,
        Op::EndNode(id) => store.write(node::End { id }).await.map(|()| "ended".into()),
        Op::Bury(id) => {
            store.write(node::Bury { id }).await.map(|orphans| format!("buried with {}", orphans.len()))
        }
        Op::Lead(node, lease_ms) => {
            let term = store.write(node::Lead { duty: "health", node, lease_ms }).await?;
            Ok(term.map_or("none".into(), |term| format!("leads {term}")))
        }
        Op::Advance(_) => Ok("later".into()),
        // Whatever is written next settles the clock.
        Op::StepClock(_) => renew(store, 0, &[], &[], 1).await.map(|_| "stepped".into()),
        Op::Check { judge, stuck_after_ms } => {
            let done = store.write(Check { stuck_after_ms, judge }).await?;
            Ok(format!(
                "due {} lapsed {} expired {} stale {} stuck {} runs {} next {:?}",
                done.due, done.lapsed, done.claims, done.stale, done.stuck, done.runs, done.next_in_ms
            ))
        }
    }
}

async fn take(store: &Store, team: &[Member], op: Op) -> Result<String> {
    let Op::Take { agent, node, run, resume, lease_ms } = op else { unreachable!("asked for a take") };
    let member = team.iter().find(|member| member.name == agent).expect("of the team");
    let take = Take {
        capabilities: member.capabilities.map(texts),
        kinds: Kinds::Any,
        run: run.map(RunId),
        lease_ms,
        node: node.map(|id| id.to_string()),
        resume,
        limits: Limits::default(),
        ..next_of(agent)
    };
    Ok(match store.write(take).await? {
        TakeAnswer::Task(taken) => {
            let task = taken.task;
            format!("took {} term {} attempt {}", task.id, task.term, task.attempt)
        }
        TakeAnswer::Nothing { again_in_ms: None } => "none".into(),
        TakeAnswer::Nothing { again_in_ms: Some(ms) } => format!("none for {ms} ms"),
    })
}

async fn fail(store: &Store, id: i64, term: i64, is_final: bool) -> Result<String> {
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

async fn settle(store: &Store, id: i64, term: i64, passed: bool) -> Result<String> {
    let settle = SettleCheck {
        id: TaskId(id),
        term: Term(term),
        failure: (!passed).then(|| "exit 1".into()),
        is_final: false,
        tail: None,
        retry_after_ms: RETRY_AFTER_MS,
    };
    store.write(settle).await.map(|state| state.to_string())
}

async fn crash(store: &Store, agent: &str, task: i64, spawn: bool) -> Result<String> {
    let (name, task, reason) = (agent.into(), TaskId(task), "signal 9".into());
    let crash = agent::Crash { name, task, reason, spawn, max_respawns: MAX_RESPAWNS };
    Ok(match store.write(crash).await? {
        agent::AfterCrash::Respawned(times) => format!("respawned {times}"),
        agent::AfterCrash::Failed => "failed".into(),
    })
}

async fn tell(store: &Store, agent: &str, word: Word) -> Result<String> {
    let word = match word {
        Word::Pause => agent::Word::Pause,
        Word::Resume => agent::Word::Resume,
        Word::Kill => agent::Word::Kill,
        Word::Remove => agent::Word::Remove,
    };
    store.write(agent::Tell { name: agent.into(), word }).await.map(|_| "told".into())
}

async fn begin_node(store: &Store, lease_ms: i64) -> Result<String> {
    let begin = node::Begin {
        kind: "up",
        host: "here".into(),
        pid: 1,
        pid_started: "1".into(),
        folder: "/".into(),
        lease_ms,
    };
    store.write(begin).await.map(|id| format!("node {id}"))
}

async fn renew_claims(store: &Store, terms: Vec<i64>, ttl_ms: i64) -> Result<String> {
    let terms = terms.into_iter().map(Term).collect();
    let mut kept: Vec<i64> =
        store.write(claim::Renew { terms, ttl_ms }).await?.into_iter().map(|term| term.0).collect();
    kept.sort_unstable();
    Ok(format!("kept {kept:?}"))
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
        needs_new: wish.needs_new.clone(),
        ..command("x")
    }
}

async fn renew(
    store: &Store,
    node: i64,
    held: &[(i64, i64, bool)],
    agents: &[&str],
    lease_ms: i64,
) -> Result<String> {
    let held = held.iter().map(|&(id, term, active)| Held { id: TaskId(id), term: Term(term), active });
    let renew = Renew { held: held.collect(), agents: texts(agents), node: node.to_string(), lease_ms };
    let kept: std::collections::BTreeSet<i64> =
        store.write(renew).await?.kept.into_iter().map(|id| id.0).collect();
    Ok(format!("kept {kept:?}"))
}

async fn begin_session(store: &Store, name: &str, node: i64, lease_ms: i64) -> Result<String> {
    let begin = agent::Begin {
        name: name.into(),
        driver: "command".into(),
        capabilities: vec![],
        takes: Kinds::Any,
        node: node.to_string(),
        host: "here".into(),
        pid: 1,
        lease_ms,
        token: None,
    };
    store.write(begin).await.map(|term| format!("session {term}"))
}

async fn claim(store: &Store, wish: ClaimWish) -> Result<String> {
    let take = claim::Take {
        agent: wish.agent.into(),
        resources: texts(&wish.resources),
        mode: wish.mode,
        ttl_ms: wish.ttl_ms,
        task: wish.task.map(|(id, term)| (TaskId(id), Term(term))),
        wait_ms: wish.wait_ms,
        place: wish.place,
    };
    Ok(match store.write(take).await? {
        Grant::Taken(claims) => {
            let terms: Vec<String> = claims.iter().map(|claim| claim.term.to_string()).collect();
            format!("claimed {}", terms.join(" "))
        }
        Grant::Waits { place, .. } => format!("waits {place}"),
    })
}

async fn release(store: &Store, name: &str, by: Releaser) -> Result<String> {
    let ended = store.write(claim::Release { resources: texts(&[name]), by }).await?;
    Ok(format!("released {}", ended.len()))
}

/// Returns an error as text.
pub fn said(error: &Error) -> String {
    format!("{}: {}", error.kind.as_str(), error.message)
}

//! The models: a server of this process that answers by the script, when it is let.
//!
//! Here live who waits for an answer, whose answers are held back, and what was answered. It is bounded: so many requests, and
//! none waits longer than so long.

use super::asked::{self, Asked};
use super::script::{Answer, Goal, Script, Step};
use crate::history::Line;
use crate::seed::Chance;
use quorate_testkit::model::local::{LocalServer, Reply, Request};
use quorate_testkit::model::wire::TOKENS;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long a model thinks, in milliseconds.
const THINKS_MS: (u64, u64) = (60, 350);
/// How often one whose answer is held back looks whether it still is.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// How long an answer may be held back.
const HELD_MAX: Duration = Duration::from_secs(60);
/// Requests that are answered at all.
const CALLS_MAX: u64 = 1_000;
/// Wrong requests that are kept.
const WRONG_MAX: usize = 50;

/// A request that is answered, or will be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Call {
    /// Its place among all.
    pub id: u64,
    /// The goal.
    pub goal: Goal,
    /// How far it is.
    pub step: Step,
    /// The task.
    pub task: i64,
    /// Whose it is.
    pub by: Line,
    /// Whether the attempt fails by the answer.
    pub fails: bool,
    /// Whether its agent could call our tools.
    pub has_tools: bool,
}

/// What the models have seen.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// What was answered, in that order.
    pub answered: Vec<Call>,
    /// Requests that were not as they should be.
    pub wrong: Vec<String>,
}

#[derive(Debug)]
struct State {
    script: Script,
    chance: Chance,
    calls: u64,
    /// Those that wait for their answer, and whether they were let go one by one.
    waiting: BTreeMap<u64, (Call, bool)>,
    held: Vec<(Goal, Step)>,
    seen: Seen,
}

/// The server; it ends with the value.
#[derive(Debug)]
pub struct Model {
    server: LocalServer,
    state: Arc<Mutex<State>>,
}

impl Model {
    /// Starts it.
    pub fn start(script: Script, chance: Chance) -> Model {
        let state = Arc::new(Mutex::new(State::new(script, chance)));
        let shared = state.clone();
        Model { server: LocalServer::start(move |request| answer(shared.clone(), request)), state }
    }

    /// Returns its address.
    pub fn url(&self) -> &str {
        self.server.url()
    }

    /// Holds the answers of a step back until it is let go.
    pub fn hold(&self, goal: Goal, step: Step) {
        lock(&self.state).held.push((goal, step));
    }

    /// Holds a step's answers back no longer.
    pub fn let_go(&self, goal: Goal, step: Step) {
        lock(&self.state).held.retain(|held| *held != (goal, step));
    }

    /// Returns whoever waits for an answer of a step, came after another call, and has waited longest.
    pub fn waiting(&self, goal: Goal, step: Step, after: u64) -> Option<Call> {
        let state = lock(&self.state);
        let mut later = state.waiting.range(after + 1..).map(|(_, (call, _))| *call);
        later.find(|call| (call.goal, call.step) == (goal, step))
    }

    /// Lets one answer go that is held back.
    pub fn release(&self, id: u64) {
        if let Some((_, is_let_go)) = lock(&self.state).waiting.get_mut(&id) {
            *is_let_go = true;
        }
    }

    /// Returns whether a call waits no more: it was answered, or nobody is there any longer.
    pub fn is_over(&self, id: u64) -> bool {
        !lock(&self.state).waiting.contains_key(&id)
    }

    /// Returns what was answered until now, and what was wrong.
    pub fn seen(&self) -> Seen {
        lock(&self.state).seen.clone()
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn answer(state: Arc<Mutex<State>>, request: Request) -> Reply {
    let begun = lock(&state).begin(&request);
    let (asked, answer, call, thinks) = match begun {
        Ok(begun) => begun,
        Err(why) => {
            lock(&state).wrong(why);
            return Reply::refusal(400);
        }
    };
    let waiting = Waiting { state: state.clone(), id: call.id };
    tokio::time::sleep(thinks).await;
    let since = Instant::now();
    while lock(&state).is_held(call.id) {
        if since.elapsed() > HELD_MAX {
            lock(&state).wrong(format!("an answer was held back for {} s: {call:?}", HELD_MAX.as_secs()));
            break;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    let stream = asked.seat.format.stream(&answer.says, call.id as usize, &request.body, TOKENS);
    lock(&state).seen.answered.push(call);
    drop(waiting);
    Reply::new(200, "text/event-stream", stream)
}

impl State {
    fn new(script: Script, chance: Chance) -> State {
        let (waiting, held, seen) = (BTreeMap::new(), Vec::new(), Seen::default());
        State { script, chance, calls: 0, waiting, held, seen }
    }

    fn begin(&mut self, request: &Request) -> Result<(Asked, Answer, Call, Duration), String> {
        self.calls += 1;
        if self.calls > CALLS_MAX {
            return Err(format!("the models were asked more than {CALLS_MAX} times"));
        }
        let asked = asked::read(request)?;
        let answer = self.script.answer(&asked)?;
        let call = Call {
            id: self.calls,
            goal: answer.goal,
            step: answer.step,
            task: asked.task,
            by: Line { attempt: asked.attempt, term: asked.term },
            fails: answer.fails,
            has_tools: !asked.tools.is_empty(),
        };
        self.waiting.insert(call.id, (call, false));
        let thinks = Duration::from_millis(self.chance.between(THINKS_MS.0, THINKS_MS.1));
        Ok((asked, answer, call, thinks))
    }

    fn is_held(&self, id: u64) -> bool {
        let Some((call, is_let_go)) = self.waiting.get(&id) else { return false };
        !is_let_go && self.held.contains(&(call.goal, call.step))
    }

    fn wrong(&mut self, why: String) {
        if self.seen.wrong.len() < WRONG_MAX {
            self.seen.wrong.push(why);
        }
    }
}

/// Somebody who waits; he does no more when it is dropped, which it is when he is gone.
struct Waiting {
    state: Arc<Mutex<State>>,
    id: u64,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        lock(&self.state).waiting.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::goal::asked::sample;
    use crate::goal::team::SEATS;
    use std::pin::pin;

    /// An answer that is not held back would be there by then.
    const LONG_ENOUGH: Duration = Duration::from_millis(THINKS_MS.1 * 2);

    fn state(seed: u64) -> Arc<Mutex<State>> {
        Arc::new(Mutex::new(State::new(Script::new(seed), Chance::new(seed))))
    }

    /// What a planner is asked.
    fn request() -> Request {
        sample::request(&SEATS[0], &sample::question(Goal::Detached))
    }

    #[tokio::test]
    async fn an_answer_that_is_held_back_waits_until_it_is_let_go() {
        let state = state(3);
        lock(&state).held.push((Goal::Detached, Step::Plan(1)));
        let mut waits = pin!(answer(state.clone(), request()));
        assert!(tokio::time::timeout(LONG_ENOUGH, &mut waits).await.is_err(), "it is held back");
        lock(&state).waiting.values_mut().for_each(|(_, is_let_go)| *is_let_go = true);
        assert_eq!(waits.await.status, 200);
        let state = lock(&state);
        assert!(state.waiting.is_empty() && state.seen.wrong.is_empty(), "{:?}", state.seen);
        assert_eq!(state.seen.answered.len(), 1);
    }

    #[tokio::test]
    async fn who_is_gone_waits_no_more_and_was_not_answered() {
        let state = state(3);
        lock(&state).held.push((Goal::Detached, Step::Plan(1)));
        let gone = tokio::time::timeout(LONG_ENOUGH, answer(state.clone(), request())).await;
        assert!(gone.is_err());
        let state = lock(&state);
        assert!(state.waiting.is_empty() && state.seen.answered.is_empty(), "{:?}", state.seen);
    }

    #[tokio::test]
    async fn what_is_not_as_it_should_be_is_refused_and_kept() {
        let state = state(3);
        let request = Request { path: "/nobody".into(), ..request() };
        assert_eq!(answer(state.clone(), request).await.status, 400);
        assert_eq!(lock(&state).seen.wrong.len(), 1);
    }
}

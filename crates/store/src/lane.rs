//! Merging on PostgreSQL: operations of one kind that wait for each other are applied together.
//!
//! Here live the lanes, one for each kind that merges: a few callers at a time do their own transaction, and what has
//! gathered when one of them is through goes as one. There is no timer: a single caller never waits for a second.
//! How several are applied at once is the operation's own matter ([`Write::apply_all`]); transactions live in `pg`.

use crate::pg::Writer;
use crate::store::Write;
use quorate_model::{Error, Result};
use std::any::{Any, TypeId};
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::sync::oneshot;

/// Transactions of one lane under way at once: one is worked on while another one's commit reaches the disk.
const UNDER_WAY_MAX: usize = 2;
/// Operations in one transaction at most, so that the first does not wait for all.
const GROUP_MAX: usize = 64;
/// Operations that may wait in a lane; what comes above that goes by itself, as far as there are connections.
const WAITING_MAX: usize = 4_096;

/// The lanes of one ledger.
#[derive(Debug, Default)]
pub(crate) struct Lanes(Mutex<HashMap<TypeId, Arc<dyn Any + Send + Sync>>>);

impl Lanes {
    pub(crate) fn of<W: Write>(&self) -> Arc<Lane<W>> {
        let mut lanes = self.0.lock().expect("nobody panics while they hold the list");
        let lane = lanes.entry(TypeId::of::<W>()).or_insert_with(|| Arc::new(Lane::<W>::new()));
        Arc::clone(lane).downcast().expect("a lane is kept under its own type")
    }
}

/// Where operations of one kind meet.
pub(crate) struct Lane<W: Write> {
    state: Mutex<State<W>>,
}

struct State<W: Write> {
    under_way: usize,
    waiting: VecDeque<Waiting<W>>,
}

struct Waiting<W: Write> {
    work: W,
    reply: oneshot::Sender<Answered<W>>,
}

enum Answered<W: Write> {
    Answer(Result<W::Answer>),
    /// It could not be applied with others.
    Alone(W),
}

/// What became of several operations that were applied together.
pub(crate) enum Merged<A> {
    /// Each one's answer; `None` for one that had no part in it.
    Done(Vec<Option<A>>),
    /// The transaction was rolled back: each is to try by itself.
    RolledBack,
    /// Nobody knows whether it was committed.
    Unknown(Error),
}

enum Entered<W: Write> {
    Go(W),
    Wait(oneshot::Receiver<Answered<W>>),
}

impl<W: Write> Lane<W> {
    fn new() -> Lane<W> {
        Lane { state: Mutex::new(State { under_way: 0, waiting: VecDeque::new() }) }
    }

    fn state(&self) -> MutexGuard<'_, State<W>> {
        self.state.lock().expect("nobody panics while they hold a lane")
    }

    /// Applies `work`, by itself when few are under way, else with those that wait too.
    pub(crate) async fn write(self: Arc<Self>, writer: &Arc<Writer>, work: W) -> Result<W::Answer> {
        match self.enter(work) {
            Entered::Go(work) => {
                let _turn = Turn { lane: Arc::clone(&self), writer: Arc::clone(writer) };
                writer.write(&work).await
            }
            Entered::Wait(answer) => match answer.await {
                Ok(Answered::Answer(answer)) => answer,
                Ok(Answered::Alone(work)) => writer.write(&work).await,
                Err(_) => Err(Error::unavailable("the program ends: an operation was not begun")),
            },
        }
    }

    fn enter(&self, work: W) -> Entered<W> {
        let mut state = self.state();
        if state.under_way < UNDER_WAY_MAX || state.waiting.len() >= WAITING_MAX {
            state.under_way += 1;
            return Entered::Go(work);
        }
        let (reply, answer) = oneshot::channel();
        state.waiting.push_back(Waiting { work, reply });
        Entered::Wait(answer)
    }

    /// Gives a turn back, or says who goes next in it.
    fn leave(&self) -> Vec<Waiting<W>> {
        let mut state = self.state();
        let count = state.waiting.len().min(GROUP_MAX);
        if count == 0 || state.under_way > UNDER_WAY_MAX {
            state.under_way -= 1;
            return Vec::new();
        }
        state.waiting.drain(..count).collect()
    }
}

/// The right to have a transaction under way in a lane. Dropped, it goes to those who wait.
struct Turn<W: Write> {
    lane: Arc<Lane<W>>,
    writer: Arc<Writer>,
}

impl<W: Write> Drop for Turn<W> {
    fn drop(&mut self) {
        let group = self.lane.leave();
        if group.is_empty() {
            return;
        }
        let turn = Turn { lane: Arc::clone(&self.lane), writer: Arc::clone(&self.writer) };
        // Outside a runtime nobody can wait for an answer any more.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(turn.serve(group));
        }
    }
}

impl<W: Write> Turn<W> {
    async fn serve(self, mut group: Vec<Waiting<W>>) {
        group.retain(|waiting| !waiting.reply.is_closed());
        if group.len() == 1 {
            for Waiting { work, reply } in group {
                let _ = reply.send(Answered::Answer(self.writer.write(&work).await));
            }
            return;
        }
        let (works, replies): (Vec<_>, Vec<_>) = group.into_iter().map(|w| (w.work, w.reply)).unzip();
        let answers = match self.writer.write_all(&works).await {
            Merged::Done(answers) => answers.into_iter().map(|answer| answer.map(Ok)).collect(),
            Merged::RolledBack => works.iter().map(|_| None).collect(),
            Merged::Unknown(error) => works.iter().map(|_| Some(Err(error.clone()))).collect::<Vec<_>>(),
        };
        for ((work, reply), answer) in works.into_iter().zip(replies).zip(answers) {
            // A caller that went away needs no answer.
            let _ = reply.send(answer.map_or(Answered::Alone(work), Answered::Answer));
        }
    }
}

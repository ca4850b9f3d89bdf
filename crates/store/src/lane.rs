//! Merging on PostgreSQL: operations of one kind that wait for each other are applied together.
//!
//! Here lives the lane, one for each kind that merges: a few callers at a time do their own transaction, and what has
//! gathered when one of them is through goes as one. There is no timer: a single caller never waits for a second.
//! How several are applied at once is the operation's own matter ([`Merge::apply_all`]); transactions live in `pg`.

use crate::asked::{Answer, Asked, Operation};
use crate::pg::{Tried, Writer};
use crate::store::{Boxed, Write};
use crate::tx::Tx;
use quorate_model::{Error, Result};
use std::any::{Any, TypeId};
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// Transactions of one lane under way at once where a commit is quick: the work counts, and it is least in groups.
const UNDER_WAY_QUICK: usize = 1;
/// The same where a commit waits long for its disk: there the waiting counts, and that is done side by side. Two lanes of
/// four use the eight connections of a node.
const UNDER_WAY_SLOW: usize = 4;
/// A commit is slow from here on: between what a local disk and a network's needs.
const SLOW: Duration = Duration::from_millis(2);
/// What an operation in a group needs of the server, which is no waiting.
const WORK: Duration = Duration::from_micros(60);
/// The latest transactions, the quickest of which shows what the disk needs.
const LATEST: usize = 16;
/// Operations in one transaction at most, so that the first does not wait for all.
const GROUP_MAX: usize = 64;
/// Operations that may wait in a lane; what comes above that goes by itself, as far as there are connections.
const WAITING_MAX: usize = 4_096;

/// An operation of which several can be applied together, with a few statements for all.
pub trait Merge: Write {
    /// Applies several in one transaction; never called on SQLite, which groups anyway.
    ///
    /// `None` is for one that must go by itself: it is then applied alone, and must have had no effect here.
    fn apply_all<'a>(list: &'a [&'a Self], tx: &'a mut Tx) -> Boxed<'a, Vec<Option<Self::Answer>>>;
}

/// How operations of one kind are applied together.
#[derive(Debug, Clone, Copy)]
pub struct Together {
    kind: TypeId,
    apply_all: ApplyAll,
}

pub(crate) type ApplyAll = for<'a> fn(&'a [Box<dyn Asked>], &'a mut Tx) -> Boxed<'a, Vec<Option<Answer>>>;

impl Together {
    /// Returns it for operations of type `W`.
    pub fn of<W: Merge>() -> Together {
        Together { kind: TypeId::of::<W>(), apply_all: apply_all::<W> }
    }
}

fn apply_all<'a, W: Merge>(list: &'a [Box<dyn Asked>], tx: &'a mut Tx) -> Boxed<'a, Vec<Option<Answer>>> {
    fn own<W: Merge>(work: &dyn Asked) -> &W {
        let work: &dyn Any = work;
        &work.downcast_ref::<Operation<W>>().expect("a lane has operations of one kind").0
    }
    Box::pin(async move {
        let list: Vec<&W> = list.iter().map(|work| own(&**work)).collect();
        let answers = W::apply_all(&list, tx).await?;
        Ok(answers.into_iter().map(|answer| answer.map(|answer| Box::new(answer) as Answer)).collect())
    })
}

/// The lanes of a ledger, one for each kind of operation that merges.
#[derive(Default)]
pub(crate) struct Lanes(Mutex<HashMap<TypeId, Arc<Lane>>>);

impl std::fmt::Debug for Lanes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Lanes")
    }
}

impl Lanes {
    /// Returns the lane of a kind.
    pub(crate) fn of(&self, together: Together) -> Arc<Lane> {
        let mut lanes = self.0.lock().expect("nobody panics while they hold the lanes");
        Arc::clone(lanes.entry(together.kind).or_insert_with(|| Arc::new(Lane::new(together.apply_all))))
    }
}

/// Where operations of one kind meet.
pub(crate) struct Lane {
    apply_all: ApplyAll,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    under_way: usize,
    waiting: VecDeque<Waiting>,
    pace: Pace,
}

/// How long the latest transactions took, but for their work.
#[derive(Debug, Default)]
struct Pace {
    latest: [Duration; LATEST],
    next: usize,
}

impl Pace {
    fn note(&mut self, took: Duration, size: usize) {
        let work = WORK * u32::try_from(size).unwrap_or(u32::MAX);
        self.latest[self.next] = took.saturating_sub(work);
        self.next = (self.next + 1) % LATEST;
    }

    /// Returns how many transactions are to be under way.
    fn under_way_max(&self) -> usize {
        if self.latest.iter().all(|took| *took >= SLOW) { UNDER_WAY_SLOW } else { UNDER_WAY_QUICK }
    }
}

struct Waiting {
    work: Box<dyn Asked>,
    reply: oneshot::Sender<Answered>,
}

enum Answered {
    Answer(Result<Answer>),
    /// It could not be applied with others.
    Alone(Box<dyn Asked>),
}

/// What became of several operations that were applied together.
pub(crate) enum Merged {
    /// Each one's answer; `None` for one that had no part in it.
    Done(Vec<Option<Answer>>),
    /// The transaction was rolled back: each is to try by itself.
    RolledBack,
    /// Nobody knows whether it was committed.
    Unknown(Error),
}

enum Entered {
    Go(Box<dyn Asked>),
    Wait(oneshot::Receiver<Answered>),
}

impl Lane {
    fn new(apply_all: ApplyAll) -> Lane {
        Lane { apply_all, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nobody panics while they hold a lane")
    }

    /// Applies `work`, by itself when few are under way, else with those that wait too.
    pub(crate) async fn write(self: Arc<Self>, writer: &Arc<Writer>, work: Box<dyn Asked>) -> Result<Answer> {
        let answered = match self.enter(work) {
            Entered::Wait(answered) => answered,
            Entered::Go(work) => {
                let mut turn = Turn::begin(Arc::clone(&self), Arc::clone(writer), 1);
                // Those who got their answers at the same moment come together: so they go together.
                tokio::task::yield_now().await;
                let others = self.state().gather(GROUP_MAX - 1);
                if others.is_empty() {
                    let tried = writer.try_once(&*work, 1).await;
                    drop(turn);
                    return match tried {
                        Tried::Ended(answer) => answer,
                        // Others go on meanwhile: only this one waits for whoever stands in its way.
                        Tried::Conflict => writer.write_again(&*work).await,
                    };
                }
                let (reply, answered) = oneshot::channel();
                let group: Vec<_> = std::iter::once(Waiting { work, reply }).chain(others).collect();
                turn.size = group.len();
                // Not within this call: whoever stops waiting for it must not take the others along.
                tokio::spawn(turn.serve(group));
                answered
            }
        };
        match answered.await {
            Ok(Answered::Answer(answer)) => answer,
            Ok(Answered::Alone(work)) => writer.write(&*work).await,
            Err(_) => Err(Error::unavailable("the program ends: an operation was not begun")),
        }
    }

    fn enter(&self, work: Box<dyn Asked>) -> Entered {
        let mut state = self.state();
        if state.under_way < state.pace.under_way_max() || state.waiting.len() >= WAITING_MAX {
            state.under_way += 1;
            return Entered::Go(work);
        }
        let (reply, answer) = oneshot::channel();
        state.waiting.push_back(Waiting { work, reply });
        Entered::Wait(answer)
    }

    /// Gives a turn back, or says who goes next in it.
    fn leave(&self, took: Duration, size: usize) -> Vec<Waiting> {
        let mut state = self.state();
        state.pace.note(took, size);
        if state.waiting.is_empty() || state.under_way > state.pace.under_way_max() {
            state.under_way -= 1;
            return Vec::new();
        }
        state.gather(GROUP_MAX)
    }
}

impl State {
    /// Takes the first of those who wait, so many at most.
    fn gather(&mut self, most: usize) -> Vec<Waiting> {
        let count = self.waiting.len().min(most);
        self.waiting.drain(..count).collect()
    }
}

/// The right to have a transaction under way in a lane. Dropped, it goes to those who wait.
struct Turn {
    lane: Arc<Lane>,
    writer: Arc<Writer>,
    begun: Instant,
    size: usize,
}

impl Drop for Turn {
    fn drop(&mut self) {
        let group = self.lane.leave(self.begun.elapsed(), self.size);
        if group.is_empty() {
            return;
        }
        let turn = Turn::begin(Arc::clone(&self.lane), Arc::clone(&self.writer), group.len());
        // Outside a runtime nobody can wait for an answer any more.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(turn.serve(group));
        }
    }
}

impl Turn {
    fn begin(lane: Arc<Lane>, writer: Arc<Writer>, size: usize) -> Turn {
        Turn { lane, writer, begun: Instant::now(), size }
    }

    async fn serve(self, mut group: Vec<Waiting>) {
        group.retain(|waiting| !waiting.reply.is_closed());
        if group.len() == 1 {
            for Waiting { work, reply } in group {
                let _ = reply.send(match self.writer.try_once(&*work, 1).await {
                    Tried::Ended(answer) => Answered::Answer(answer),
                    Tried::Conflict => Answered::Alone(work),
                });
            }
            return;
        }
        let (works, replies): (Vec<_>, Vec<_>) = group.into_iter().map(|w| (w.work, w.reply)).unzip();
        let answers = match self.writer.write_all(&works, self.lane.apply_all).await {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_disk_that_is_slow_every_time_has_many_waiting_for_it() {
        let ms = Duration::from_millis;
        let mut pace = Pace::default();
        assert_eq!(pace.under_way_max(), UNDER_WAY_QUICK, "nothing is known");
        for _ in 0..LATEST {
            pace.note(ms(5), 1);
        }
        assert_eq!(pace.under_way_max(), UNDER_WAY_SLOW);
        pace.note(ms(1), 1);
        assert_eq!(pace.under_way_max(), UNDER_WAY_QUICK, "the rest waited for the processor");
        for _ in 0..LATEST {
            pace.note(ms(4), GROUP_MAX);
        }
        assert_eq!(pace.under_way_max(), UNDER_WAY_QUICK, "a large group has much to do");
    }
}

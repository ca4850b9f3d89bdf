//! Where the ready tasks begin, for a PostgreSQL that cannot forget the taken ones.
//!
//! While anybody holds a snapshot open, the entries of tasks that are ready no longer stay in the index, and every take
//! walks over all of them. Here lives what a process remembers to begin behind them: for each priority the first task
//! that was ready. About once a second a take begins at the very beginning, and only when that walk was long is it
//! remembered: so the order is exact as long as the database is in order. A task that becomes ready before the head
//! meanwhile (its needs are met, it is tried again) waits for the next such take, or until nothing else is left: whoever
//! finds nothing looks from the beginning. New tasks have higher ids and are not before it. What others may not take is
//! not theirs to remember: each kind of taker has heads of its own.

use crate::task::Kinds;
use quorate_model::priority::Priority;
use quorate_model::{RunId, TaskId};
use quorate_store::Tx;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

const PRIORITIES: usize = Priority::ALL.len();
/// Ids at which the search may begin, for each priority.
pub(super) type Low = [i64; PRIORITIES];
/// The beginning of everything.
pub(super) const START: Low = [0; PRIORITIES];

/// How often a take begins at the beginning.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The part of the time that such takes may need: one of so many.
const LOOK_SHARE: u32 = 30;
/// Entries that are walked over before remembering pays: about a millisecond.
const LONG_WALK: i64 = 2_000;

/// Kinds of takers that are told apart; more begin at the beginning, always.
const TAKERS_MAX: usize = 64;

/// What tells takers apart that may not take the same: what they can do, which work they want, and of which run.
pub(super) type Taker = (Option<Vec<String>>, Kinds, Option<RunId>);

/// What this process remembers of a ledger.
#[derive(Debug, Default)]
struct Memory(Mutex<HashMap<Taker, Arc<Heads>>>);

impl Memory {
    fn heads(&self, taker: Taker) -> Arc<Heads> {
        let mut known = self.0.lock().expect("nobody panics while they hold it");
        if known.len() >= TAKERS_MAX && !known.contains_key(&taker) {
            return Arc::default();
        }
        Arc::clone(known.entry(taker).or_default())
    }
}

/// What is remembered for takers of one kind.
#[derive(Debug, Default)]
pub(super) struct Heads(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    next_look: Option<Instant>,
    low: Low,
}

/// A take that has begun: where, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Search {
    pub(super) low: Low,
    begun: Instant,
}

impl Heads {
    /// Returns what is remembered of the ledger of a transaction, and where its take begins.
    pub(super) fn begin_in(tx: &Tx, taker: Taker) -> (Arc<Heads>, Search) {
        let heads = tx.memory::<Memory>().heads(taker);
        let search = heads.begin(tx.instant());
        (heads, search)
    }

    /// Returns where a take begins.
    fn begin(&self, now: Instant) -> Search {
        let mut state = self.state();
        let is_due = state.next_look.is_none_or(|at| at <= now);
        if is_due {
            // Others need not meanwhile.
            state.next_look = Some(now + LOOK_EVERY);
        }
        Search { low: if is_due { START } else { state.low }, begun: now }
    }

    /// Remembers what a take found (priority and id), and how many entries it walked over.
    pub(super) fn end(
        &self,
        search: Search,
        found: impl Iterator<Item = (i64, TaskId)>,
        walked: i64,
        now: Instant,
    ) {
        let mut state = self.state();
        let is_look = search.low == START;
        if is_look {
            state.low = START;
            state.next_look = Some(now + LOOK_EVERY.max((now - search.begun) * LOOK_SHARE));
        }
        if (is_look && walked < LONG_WALK) || (!is_look && state.low == START) {
            return;
        }
        state.advance(found);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("nobody panics while they hold it")
    }
}

impl State {
    /// What is before the first task that was found, in its priority and in all that come before, is not ready.
    fn advance(&mut self, found: impl Iterator<Item = (i64, TaskId)>) {
        if let Some((priority, TaskId(id))) = found.min() {
            let place = usize::try_from(priority).unwrap_or(0);
            self.low.iter_mut().take(place + 1).for_each(|low| *low = id.max(*low));
        }
    }
}

/// How many entries of ready tasks this connection has met, by PostgreSQL's own counters.
macro_rules! met_pg {
    () => {
        "coalesce(pg_stat_get_xact_tuples_returned('tasks_ready'::regclass), 0)"
    };
}
pub(super) use met_pg;

#[cfg(test)]
mod tests {
    use super::*;

    fn found(priority: i64, id: i64) -> std::iter::Once<(i64, TaskId)> {
        std::iter::once((priority, TaskId(id)))
    }

    /// A take that begins at the beginning and walks over so many entries to a task.
    fn look(heads: &Heads, now: Instant, walked: i64, id: i64) {
        let search = heads.begin(now);
        assert_eq!(search.low, START);
        heads.end(search, found(1, id), walked, now);
    }

    #[test]
    fn takers_who_may_not_take_the_same_have_heads_of_their_own() {
        let (memory, now) = (Memory::default(), Instant::now());
        let taker = |word: &str| (Some(vec![word.to_owned()]), Kinds::Any, None);
        look(&memory.heads(taker("write")), now, LONG_WALK, 7);
        assert_eq!(memory.heads(taker("write")).begin(now).low, [7, 7, 0]);
        assert_eq!(memory.heads(taker("read")).begin(now).low, START);
        for n in 0..TAKERS_MAX {
            look(&memory.heads(taker(&n.to_string())), now, LONG_WALK, 7);
        }
        assert_eq!(memory.heads(taker(&(TAKERS_MAX - 1).to_string())).begin(now).low, START, "one too many");
        assert_eq!(memory.heads(taker("write")).begin(now).low, [7, 7, 0], "who is known stays so");
    }

    #[test]
    fn what_was_found_counts_only_after_a_long_walk() {
        let (heads, now) = (Heads::default(), Instant::now());
        look(&heads, now, LONG_WALK - 1, 7);
        assert_eq!(heads.begin(now).low, START);
        look(&heads, now + LOOK_EVERY, LONG_WALK, 7);
        assert_eq!(heads.begin(now + LOOK_EVERY).low, [7, 7, 0]);
    }

    #[test]
    fn heads_move_on_with_what_takes_find_and_are_forgotten_when_the_walk_is_short_again() {
        let (heads, now) = (Heads::default(), Instant::now());
        look(&heads, now, LONG_WALK, 7);
        let search = heads.begin(now);
        heads.end(search, found(1, 12).chain(found(1, 9)), 3, now);
        assert_eq!(heads.begin(now).low, [9, 9, 0]);
        heads.end(heads.begin(now), std::iter::empty(), 3, now);
        assert_eq!(heads.begin(now).low, [9, 9, 0], "nothing was found: nothing is known");
        look(&heads, now + LOOK_EVERY, 3, 10);
        heads.end(search, found(1, 13), 3, now);
        assert_eq!(heads.begin(now).low, START, "a take that began before does not bring them back");
    }

    #[test]
    fn one_of_many_looks_once_in_a_while_and_less_often_when_it_takes_long() {
        let (heads, now) = (Heads::default(), Instant::now());
        let search = heads.begin(now);
        heads.end(search, found(0, 5), LONG_WALK, now + Duration::from_millis(200));
        assert_ne!(heads.begin(now + LOOK_EVERY * 6).low, START);
        assert_eq!(heads.begin(now + LOOK_EVERY * 7).low, START);
        assert_ne!(heads.begin(now + LOOK_EVERY * 7).low, START, "another looks already");
    }
}

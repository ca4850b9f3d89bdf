//! Where the ready tasks begin, for a PostgreSQL that cannot forget the taken ones.
//!
//! While anybody holds a snapshot open, the entries of tasks that are ready no longer stay in the index, and every take
//! walks over all of them. Here lives what a process remembers to begin behind them: for each priority the first task
//! that was ready. It is looked up from the very beginning about once a second, and counts only when that walk was long:
//! so the order is exact as long as the database is in order. A task that becomes ready before the head meanwhile
//! (its needs are met, it is tried again) waits for the next look, or until nothing else is left: whoever finds nothing
//! looks from the beginning. New tasks have higher ids and are never before it.

use crate::task::Task;
use quorate_model::Result;
use quorate_model::priority::Priority;
use quorate_store::{Tx, args};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

const PRIORITIES: usize = Priority::ALL.len();
/// Ids at which the search may begin, for each priority.
pub(super) type Low = [i64; PRIORITIES];
/// The beginning of everything.
pub(super) const START: Low = [0; PRIORITIES];

/// How often the beginning is looked for.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The part of the time that may be spent on it: one of so many.
const LOOK_SHARE: u32 = 30;
/// Entries that are walked over before remembering pays: about a millisecond.
const LONG_WALK: i64 = 2_000;

/// What this process remembers.
#[derive(Debug, Default)]
pub(super) struct Heads(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    next_look: Option<Instant>,
    low: Option<Low>,
}

impl Heads {
    /// Returns where to begin, after a look at it if that is due.
    pub(super) async fn begin(&self, tx: &mut Tx) -> Result<Low> {
        let begun = tx.instant();
        if self.is_due(begun) {
            let (low, walked) = look(tx).await?;
            self.note(low, walked, begun, tx.instant());
        }
        Ok(self.state().low.unwrap_or(START))
    }

    /// Remembers the first task that was found: what is before it is taken, or about to be.
    pub(super) fn advance<'a>(&self, found: impl Iterator<Item = &'a Task>) {
        let mut state = self.state();
        let Some(low) = &mut state.low else { return };
        let mut is_first = [true; PRIORITIES];
        for task in found {
            let Ok(place) = usize::try_from(task.priority) else { continue };
            if std::mem::take(&mut is_first[place]) {
                low[place] = low[place].max(task.id.0);
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("nobody panics while they hold it")
    }

    /// Tells whether the caller is to look; others then need not for a while.
    fn is_due(&self, now: Instant) -> bool {
        let mut state = self.state();
        let is_due = state.next_look.is_none_or(|at| at <= now);
        if is_due {
            state.next_look = Some(now + LOOK_EVERY);
        }
        is_due
    }

    fn note(&self, low: Low, walked: i64, begun: Instant, ended: Instant) {
        let mut state = self.state();
        state.low = (walked >= LONG_WALK).then_some(low);
        state.next_look = Some(ended + LOOK_EVERY.max((ended - begun) * LOOK_SHARE));
    }
}

const WALKED: &str =
    "select coalesce(pg_stat_get_xact_tuples_returned('tasks_ready'::regclass), 0) as walked";
/// Where nothing is ready, what is added from now on will be behind the last there is.
const LOOK: &str =
    "select coalesce((select id from tasks where state = 'ready' and priority = urgency order by id limit 1),
                           (select max(id) + 1 from tasks), 0) as head
                      from unnest(array[0, 1, 2]::bigint[]) as urgencies (urgency)";

/// Walks to the first ready task of each priority; answers with their ids and with how many entries it met.
async fn look(tx: &mut Tx) -> Result<(Low, i64)> {
    let before = walked(tx).await?;
    let found = tx.all(LOOK, args![], |row| row.int("head")).await?;
    let after = walked(tx).await?;
    Ok((found.try_into().unwrap_or(START), after - before))
}

async fn walked(tx: &mut Tx) -> Result<i64> {
    Ok(tx.one(WALKED, args![], |row| row.int("walked")).await?.unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_found_counts_only_after_a_long_walk() {
        let (heads, now) = (Heads::default(), Instant::now());
        heads.note([5, 6, 7], LONG_WALK - 1, now, now);
        assert_eq!(heads.state().low, None);
        heads.note([5, 6, 7], LONG_WALK, now, now);
        assert_eq!(heads.state().low, Some([5, 6, 7]));
    }

    #[test]
    fn one_of_many_looks_once_in_a_while_and_less_often_when_it_takes_long() {
        let (heads, now) = (Heads::default(), Instant::now());
        assert!(heads.is_due(now));
        assert!(!heads.is_due(now), "another looks already");
        assert!(heads.is_due(now + LOOK_EVERY));
        heads.note(START, 1_000_000, now, now + Duration::from_millis(200));
        assert!(!heads.is_due(now + LOOK_EVERY * 6));
        assert!(heads.is_due(now + LOOK_EVERY * 7));
    }
}

//! Checks that cannot be ended yet: the archive cannot be written, a person is rebasing the branch that work goes back to.
//!
//! Here lives the memory of a node for them: how long each rests before it is begun again, how often that was, and at which
//! commit its command passed already. What is given back is ready for others at once; it is this node that would begin it
//! again in the same moment. After a restart the count begins anew.

use quorate_model::TaskId;
use quorate_service::task::Task;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long a check rests the first time; it doubles each time …
const REST_FIRST: Duration = Duration::from_secs(5);
/// … up to a minute.
const REST_MOST: Duration = Duration::from_secs(60);
/// How often in a row a check may be begun in vain: for more than an hour. Then it has failed.
pub(crate) const ROUNDS_MAX: u32 = 75;

/// A check that has not come back so long after its rest is another's matter.
const FORGET_AFTER: Duration = Duration::from_secs(24 * 60 * 60);

/// The rests of a node.
#[derive(Debug, Default)]
pub(crate) struct Rests(Mutex<BTreeMap<TaskId, Rest>>);

#[derive(Debug)]
struct Rest {
    attempt: i64,
    rounds: u32,
    until: Instant,
    passed: Option<String>,
}

impl Rests {
    /// Begins a rest, unless it was begun too often. `passed` is the commit at which the command passed.
    pub(crate) fn again(&self, task: &Task, passed: Option<&str>) -> bool {
        let (mut rests, attempt) = (self.rests(), task.attempt);
        let rounds = rests.get(&task.id).filter(|rest| rest.attempt == attempt).map_or(0, |rest| rest.rounds);
        let until = Instant::now() + pause(rounds);
        // Those that came to something elsewhere are never asked for again.
        rests.retain(|_, rest| rest.until.elapsed() < FORGET_AFTER);
        let passed = passed.map(str::to_owned);
        rests.insert(task.id, Rest { attempt, rounds: rounds + 1, until, passed });
        rounds + 1 < ROUNDS_MAX
    }

    /// Returns how long the check of a task rests still.
    pub(crate) fn left(&self, task: &Task) -> Option<Duration> {
        let rests = self.rests();
        let rest = rests.get(&task.id).filter(|rest| rest.attempt == task.attempt)?;
        Some(rest.until.saturating_duration_since(Instant::now())).filter(|left| !left.is_zero())
    }

    /// Returns the commit at which a task's check has passed.
    pub(crate) fn passed(&self, task: &Task) -> Option<String> {
        let rests = self.rests();
        rests.get(&task.id).filter(|rest| rest.attempt == task.attempt)?.passed.clone()
    }

    /// Forgets a task whose check has come to something.
    pub(crate) fn forget(&self, task: TaskId) {
        self.rests().remove(&task);
    }

    fn rests(&self) -> MutexGuard<'_, BTreeMap<TaskId, Rest>> {
        // Nothing panics while it holds them; poisoned ones are still right.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn pause(rounds: u32) -> Duration {
    REST_FIRST.saturating_mul(1 << rounds.min(8)).min(REST_MOST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rest_doubles_to_a_minute_and_all_of_them_last_for_more_than_an_hour() {
        let pauses: Vec<u64> = (0..ROUNDS_MAX).map(|rounds| pause(rounds).as_secs()).collect();
        assert_eq!(pauses[..6], [5, 10, 20, 40, 60, 60]);
        assert!(pauses.iter().sum::<u64>() > 3_600);
    }
}

//! When a failed attempt is followed by another.
//!
//! Here lives the rule and its backoff; who applies it lives in `service`. Pure: the jitter comes from the task
//! and the count of failures, so that the same facts always give the same answer.

use crate::ids::TaskId;
use crate::task::Next;

/// Longest pause between attempts.
pub const BACKOFF_MAX_MS: i64 = 60_000;

/// How an attempt ended, as far as the retry rule cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// It failed, timed out, or its check failed: another attempt after a pause.
    Ordinary,
    /// Its lease lapsed: it counts, but the next attempt need not wait.
    Lapsed,
    /// The agent says that trying again is of no use.
    Final,
}

/// Decides what follows the failure number `failures` (this one included) of a task with `max_attempts`.
///
/// `retry_after_ms` doubles with every failure up to [`BACKOFF_MAX_MS`], plus or minus a fifth.
pub fn next(failure: Failure, failures: i64, max_attempts: i64, retry_after_ms: i64, task: TaskId) -> Next {
    match failure {
        Failure::Final => Next::GiveUp,
        _ if failures >= max_attempts => Next::GiveUp,
        Failure::Lapsed => Next::Again,
        Failure::Ordinary => Next::After(backoff(failures, retry_after_ms, task)),
    }
}

fn backoff(failures: i64, retry_after_ms: i64, task: TaskId) -> i64 {
    let doublings = u32::try_from(failures - 1).unwrap_or(0).min(20);
    let pause = retry_after_ms.saturating_mul(1_i64 << doublings).clamp(1, BACKOFF_MAX_MS);
    let fifth = pause / 5;
    pause - fifth + spread(task, failures) % (2 * fifth + 1)
}

/// A number that looks random but only depends on the task and the count (splitmix64's finish).
fn spread(task: TaskId, failures: i64) -> i64 {
    let mut x = task.0.cast_unsigned().wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ failures.cast_unsigned();
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    ((x ^ (x >> 31)) >> 2).cast_signed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_doubles_to_a_minute_and_is_spread_by_a_fifth() {
        for task in 1..200 {
            for (failures, middle) in
                [(1, 1_000), (2, 2_000), (3, 4_000), (6, 32_000), (7, 60_000), (40, 60_000)]
            {
                let pause = backoff(failures, 1_000, TaskId(task));
                assert!((middle * 4 / 5..=middle * 6 / 5).contains(&pause), "{failures}: {pause}");
            }
        }
    }

    #[test]
    fn tasks_that_fail_together_do_not_come_back_together() {
        let pauses: std::collections::HashSet<i64> = (1..100).map(|t| backoff(1, 1_000, TaskId(t))).collect();
        assert!(pauses.len() > 50, "{}", pauses.len());
    }

    #[test]
    fn a_lapse_counts_but_does_not_wait_and_a_final_failure_ends_it() {
        assert_eq!(next(Failure::Lapsed, 1, 3, 1_000, TaskId(1)), Next::Again);
        assert_eq!(next(Failure::Lapsed, 3, 3, 1_000, TaskId(1)), Next::GiveUp);
        assert_eq!(next(Failure::Final, 1, 3, 1_000, TaskId(1)), Next::GiveUp);
        assert!(matches!(next(Failure::Ordinary, 2, 3, 1_000, TaskId(1)), Next::After(_)));
        assert_eq!(next(Failure::Ordinary, 3, 3, 1_000, TaskId(1)), Next::GiveUp);
    }
}

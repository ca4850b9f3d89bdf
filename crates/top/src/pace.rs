//! How many tasks are completed, by the time.
//!
//! Here lives a count in short stretches of time. It is fed with the times of events and forgets what is older than it
//! shows.

use std::collections::VecDeque;

/// The length of a stretch, in milliseconds.
pub(crate) const STRETCH_MS: i64 = 10_000;
/// Stretches that are kept: ten minutes.
pub(crate) const STRETCHES: usize = 60;
/// A minute's stretches.
const PER_MINUTE: usize = 6;

/// Counts by stretch; the last one is that of `newest`.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    counts: VecDeque<u64>,
    newest: i64,
}

impl Pace {
    /// Counts one at this time.
    pub(crate) fn add(&mut self, at: i64) {
        let stretch = at.div_euclid(STRETCH_MS);
        self.advance(stretch);
        // An event may be older than one that was seen before: clocks of hosts differ.
        let back = usize::try_from(self.newest - stretch).unwrap_or(usize::MAX);
        if let Some(count) = self.counts.len().checked_sub(back.saturating_add(1)) {
            self.counts[count] += 1;
        }
    }

    fn advance(&mut self, stretch: i64) {
        if self.counts.is_empty() {
            self.newest = stretch;
            self.counts.extend(std::iter::repeat_n(0, STRETCHES));
        }
        let ahead = usize::try_from(stretch - self.newest).unwrap_or(0).min(STRETCHES);
        for _ in 0..ahead {
            self.counts.pop_front();
            self.counts.push_back(0);
        }
        self.newest = self.newest.max(stretch);
    }

    /// Returns how many were counted in the minute before now.
    pub(crate) fn per_minute(&self, now: i64) -> u64 {
        self.last(now, PER_MINUTE).into_iter().sum()
    }

    /// Returns the counts of the last stretches, the oldest first; the last one is that of now.
    pub(crate) fn last(&self, now: i64, stretches: usize) -> Vec<u64> {
        let gone = usize::try_from(now.div_euclid(STRETCH_MS) - self.newest).unwrap_or(0);
        let kept = self.counts.len();
        let count = |back: usize| {
            let back = back.checked_sub(gone)?;
            self.counts.get(kept.checked_sub(back + 1)?).copied()
        };
        (0..stretches).rev().map(|back| count(back).unwrap_or(0)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minute_has_what_was_counted_in_it() {
        let mut pace = Pace::default();
        assert_eq!(pace.per_minute(0), 0);
        for at in [1_000_000, 1_005_000, 1_015_000, 1_049_000] {
            pace.add(at);
        }
        assert_eq!(pace.last(1_049_999, 6), [0, 2, 1, 0, 0, 1]);
        assert_eq!(pace.per_minute(1_049_999), 4);
        assert_eq!(pace.per_minute(1_060_000), 2, "the first stretch is over a minute old");
        assert_eq!(pace.per_minute(1_110_000), 0);
        assert_eq!(pace.last(1_050_000, 3), [0, 1, 0]);
    }

    #[test]
    fn what_is_older_than_is_kept_is_forgotten() {
        let mut pace = Pace::default();
        pace.add(0);
        pace.add(STRETCH_MS * (STRETCHES as i64 - 1));
        assert_eq!(pace.last(STRETCH_MS * (STRETCHES as i64 - 1), STRETCHES).first(), Some(&1));
        pace.add(STRETCH_MS * STRETCHES as i64);
        assert_eq!(pace.last(STRETCH_MS * STRETCHES as i64, STRETCHES).iter().sum::<u64>(), 2);
        pace.add(-STRETCH_MS);
        pace.add(i64::MAX / 2);
        assert_eq!(pace.counts.len(), STRETCHES);
    }

    #[test]
    fn an_event_of_another_clock_is_counted_in_its_time() {
        let mut pace = Pace::default();
        pace.add(100_000);
        pace.add(85_000);
        assert_eq!(pace.last(100_000, 3), [1, 0, 1]);
    }
}

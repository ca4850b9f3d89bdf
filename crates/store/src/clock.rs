//! The clock that leases count.
//!
//! On PostgreSQL it is the server's clock and nothing here is used. On SQLite all holders live on one host, so
//! the ledger's time is the host's monotonic clock plus an offset kept in the ledger. A step of the wall clock
//! (or a sleep of the host, during which the monotonic clock stands still) does not end a lease: the offset
//! follows the wall and every stored lease is moved by the same amount, in one transaction.

use nix::time::{ClockId, clock_gettime};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

/// How far wall clock and ledger may drift apart before it counts as a step, in milliseconds.
const STEP_MS: i64 = 1_000;

/// The source of time of an embedded ledger.
#[derive(Debug, Clone, Default)]
pub enum Clock {
    /// The host's clocks.
    #[default]
    System,
    /// A clock that a test sets: monotonic and wall milliseconds.
    Sim {
        /// Milliseconds that never go back.
        mono: Arc<AtomicI64>,
        /// What is added to `mono` to have the wall clock.
        wall_offset: Arc<AtomicI64>,
    },
}

impl Clock {
    /// Makes a simulated clock whose wall time is `wall_ms` now.
    pub fn sim(wall_ms: i64) -> Clock {
        Clock::Sim { mono: AtomicI64::new(1_000).into(), wall_offset: AtomicI64::new(wall_ms - 1_000).into() }
    }

    /// Lets `ms` milliseconds pass on a simulated clock; the host's clock is left alone.
    pub fn advance(&self, ms: i64) {
        if let Clock::Sim { mono, .. } = self {
            mono.fetch_add(ms, Ordering::SeqCst);
        }
    }

    /// Steps the wall clock of a simulated clock, as an administrator or NTP may.
    pub fn step_wall(&self, ms: i64) {
        if let Clock::Sim { wall_offset, .. } = self {
            wall_offset.fetch_add(ms, Ordering::SeqCst);
        }
    }

    pub(crate) fn reading(&self) -> Reading {
        match self {
            Clock::System => Reading {
                boot: boot_id(),
                mono: ms(ClockId::CLOCK_MONOTONIC),
                wall: ms(ClockId::CLOCK_REALTIME),
            },
            Clock::Sim { mono, wall_offset } => {
                let mono = mono.load(Ordering::SeqCst);
                Reading { boot: "simulated".into(), mono, wall: mono + wall_offset.load(Ordering::SeqCst) }
            }
        }
    }
}

fn ms(clock: ClockId) -> i64 {
    clock_gettime(clock).map_or(0, |t| t.tv_sec() * 1_000 + t.tv_nsec() / 1_000_000)
}

fn boot_id() -> String {
    use std::sync::OnceLock;
    static BOOT: OnceLock<String> = OnceLock::new();
    BOOT.get_or_init(|| {
        let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        if text.trim().is_empty() { "unknown".into() } else { text.trim().to_owned() }
    })
    .clone()
}

/// What the host's clocks say at one moment.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Reading {
    pub boot: String,
    pub mono: i64,
    pub wall: i64,
}

/// What the ledger keeps of its clock: `"BOOT OFFSET"`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Kept {
    pub boot: String,
    pub offset: i64,
}

impl Kept {
    pub(crate) fn parse(text: &str) -> Option<Kept> {
        let (boot, offset) = text.split_once(' ')?;
        Some(Kept { boot: boot.to_owned(), offset: offset.parse().ok()? })
    }

    pub(crate) fn text(&self) -> String {
        format!("{} {}", self.boot, self.offset)
    }
}

/// The ledger's time at one moment, and what has to be written so that others agree.
#[derive(Debug, PartialEq)]
pub(crate) struct Ledger {
    pub now: i64,
    /// To be kept, if it changed.
    pub keep: Option<Kept>,
    /// By how much stored leases move, if the wall clock was stepped.
    pub shift: Option<i64>,
}

/// Decides the ledger's time from what is kept and what the clocks say; `newest` is when the newest event was written, which
/// counts only after a reboot.
///
/// After a reboot the offset is taken anew and no lease moves: whoever held one on this host is gone, and the time it was
/// off counts. But a host whose clock lost the time (no battery) begins in the past: what an agent outside holds would then
/// last for years, and would be moved once more, as far again into the future, when the clock is set. A wall clock that is
/// behind the log cannot be right, so leases go back with it: each has what it had left when the log was last written, and
/// the step that follows finds them where it finds them on a host that was not off.
pub(crate) fn ledger(kept: Option<&Kept>, reading: &Reading, newest: Option<i64>) -> Ledger {
    let fresh = Kept { boot: reading.boot.clone(), offset: reading.wall - reading.mono };
    let Some(kept) = kept.filter(|kept| kept.boot == reading.boot) else {
        let behind = newest.map(|newest| reading.wall - newest).filter(|behind| *behind < -STEP_MS);
        return Ledger { now: reading.wall, keep: Some(fresh), shift: behind };
    };
    let drift = fresh.offset - kept.offset;
    if drift.abs() > STEP_MS {
        return Ledger { now: reading.wall, keep: Some(fresh), shift: Some(drift) };
    }
    Ledger { now: reading.mono + kept.offset, keep: None, shift: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(kept: Option<(&str, i64)>, (mono, wall): (i64, i64), now: i64, shift: Option<i64>) {
        check_after(None, kept, (mono, wall), now, shift);
    }

    fn check_after(
        newest: Option<i64>,
        kept: Option<(&str, i64)>,
        (mono, wall): (i64, i64),
        now: i64,
        shift: Option<i64>,
    ) {
        let kept = kept.map(|(boot, offset)| Kept { boot: boot.into(), offset });
        let ledger = ledger(kept.as_ref(), &Reading { boot: "b".into(), mono, wall }, newest);
        assert_eq!((ledger.now, ledger.shift), (now, shift));
    }

    #[test]
    fn a_step_of_the_wall_clock_moves_leases_and_a_slew_does_not() {
        check(None, (10, 5_000), 5_000, None);
        check(Some(("b", 4_990)), (20, 5_010), 5_010, None);
        check(Some(("b", 4_990)), (20, 5_900), 5_010, None);
        check(Some(("b", 4_990)), (20, 3_605_010), 3_605_010, Some(3_600_000));
        check(Some(("b", 4_990)), (20, -3_594_990), -3_594_990, Some(-3_600_000));
        check(Some(("other", 1)), (20, 5_010), 5_010, None);
    }

    #[test]
    fn a_boot_in_the_past_takes_leases_back_with_it_and_a_later_one_leaves_them() {
        let other = Some(("other", 1));
        check_after(Some(9_000_000), other, (20, 5_010), 5_010, Some(-8_994_990));
        check_after(Some(9_000_000), None, (20, 5_010), 5_010, Some(-8_994_990));
        check_after(Some(5_500), other, (20, 5_010), 5_010, None);
        check_after(Some(4_000), other, (20, 9_000_000), 9_000_000, None);
    }

    #[test]
    fn what_is_kept_reads_back() {
        let kept = Kept { boot: "b-1".into(), offset: -7 };
        assert_eq!(Kept::parse(&kept.text()), Some(kept));
    }
}

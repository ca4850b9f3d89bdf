//! What is done to a storm's processes, and when: drawn from the seed.
//!
//! Here lives the choice alone. Whom a blow hits depends on who is there at that moment, so a seed repeats the plan
//! and the order and distance of the blows, not each victim.

use crate::arena::{Backend, LEASE_MS};
use crate::seed::Chance;
use std::time::Duration;

/// One thing that is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blow {
    /// A node gets SIGKILL.
    KillNode,
    /// A single agent's process gets SIGKILL.
    KillAgent,
    /// A child gets SIGKILL.
    KillChild,
    /// A node or agent gets SIGSTOP, and SIGCONT when its lease is over.
    StopMember,
    /// A child gets SIGSTOP and later SIGCONT: its supervisor is well, so nothing may be lost.
    StopChild,
    /// The follower of the log gets SIGKILL.
    KillFollower,
    /// The database server is ended without ceremony and started again.
    Restart,
}

/// How often each comes, out of their sum.
const WEIGHTS: [(Blow, u64); 7] = [
    (Blow::KillNode, 16),
    (Blow::KillAgent, 14),
    (Blow::KillChild, 30),
    (Blow::StopMember, 20),
    (Blow::StopChild, 6),
    (Blow::KillFollower, 8),
    (Blow::Restart, 6),
];

/// Draws the next blow and the pause before it. SQLite has no server to restart.
pub fn next(chance: &mut Chance, backend: Backend) -> (Blow, Duration) {
    let list: Vec<_> =
        WEIGHTS.into_iter().filter(|(blow, _)| *blow != Blow::Restart || backend == Backend::Pg).collect();
    let mut drawn = chance.between(1, list.iter().map(|(_, weight)| weight).sum());
    let pause = Duration::from_millis(chance.between(100, 700));
    for (blow, weight) in list {
        match drawn.checked_sub(weight) {
            Some(rest) if rest > 0 => drawn = rest,
            _ => return (blow, pause),
        }
    }
    (Blow::KillChild, pause)
}

/// Draws how long a dead process stays dead.
pub fn death(chance: &mut Chance) -> Duration {
    Duration::from_millis(chance.between(50, 900))
}

/// Draws how long a member is stopped: past its lease.
pub fn sleep(chance: &mut Chance) -> Duration {
    Duration::from_millis(LEASE_MS + chance.between(400, 2_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_blow_comes_and_only_postgresql_is_restarted() {
        for (backend, kinds) in [(Backend::Lite, 6), (Backend::Pg, 7)] {
            let mut chance = Chance::new(1);
            let drawn: Vec<Blow> = (0..1000).map(|_| next(&mut chance, backend).0).collect();
            let seen = WEIGHTS.into_iter().filter(|(blow, _)| drawn.contains(blow)).count();
            assert_eq!(seen, kinds, "{backend:?}");
        }
    }
}

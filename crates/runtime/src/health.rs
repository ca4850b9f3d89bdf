//! The health loop: one node at a time does what time brings about.
//!
//! Here lives the election and the rhythm: at the configured interval, at the moment something comes due, and soon
//! after a hint of a change. What a check does lives in `service::health`.

use crate::node::Shared;
use crate::stop::{Level, Stop};
use quorate_model::Result;
use quorate_model::config::millis;
use quorate_service::health::{Check, Checked};
use quorate_service::node::Lead;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Hints of changes lead to a check no oftener than this.
const CHECK_EVERY: Duration = Duration::from_millis(250);

/// The least between two checks of which the first left nothing to do.
const PAUSE_LEAST: Duration = Duration::from_millis(10);

/// When leases may be judged: not during the first lease after the database or this process was away.
#[derive(Debug)]
struct Patience {
    lease: Duration,
    judge_from: Instant,
    last: Instant,
}

impl Patience {
    fn new(lease: Duration, now: Instant) -> Patience {
        Patience { lease, judge_from: now, last: now }
    }

    /// Returns whether leases are judged now. `rhythm` is how long a healthy loop may have waited since the last time.
    fn may_judge(&mut self, now: Instant, rhythm: Duration) -> bool {
        if now.duration_since(self.last) > rhythm + self.lease {
            self.was_away(now);
        }
        self.last = now;
        now >= self.judge_from
    }

    /// Returns the shorter of `most` and the time until leases are judged again.
    fn until_judged(&self, now: Instant, most: Duration) -> Duration {
        match self.judge_from.saturating_duration_since(now) {
            Duration::ZERO => most,
            left => most.min(left),
        }
    }

    fn was_away(&mut self, now: Instant) {
        self.judge_from = now + self.lease;
    }
}

/// Checks until told to stop.
pub(crate) async fn serve(shared: Arc<Shared>, mut stop: Stop) {
    let interval = millis(shared.config.health.interval_ms);
    let mut changes = shared.store.changes();
    let mut patience = Patience::new(shared.lease(), Instant::now());
    while stop.level() == Level::Go {
        let judge = patience.may_judge(Instant::now(), interval);
        let pause = match stop.in_time(tick(&shared, judge)).await {
            Ok(Some(checked)) if checked.more => Duration::ZERO,
            Ok(Some(checked)) => until_next(&checked, patience.until_judged(Instant::now(), interval)),
            Ok(None) => interval,
            Err(_) => {
                patience.was_away(Instant::now());
                Duration::from_secs(1).min(interval)
            }
        };
        let rest = async {
            tokio::time::sleep(CHECK_EVERY.min(pause)).await;
            changes.wait(pause.saturating_sub(CHECK_EVERY)).await;
        };
        tokio::select! {
            () = rest => {}
            () = stop.reached(Level::Finish) => {}
        }
    }
}

/// Asks to lead and checks; answers with `None` while another node leads.
async fn tick(shared: &Shared, judge: bool) -> Result<Option<Checked>> {
    let health = &shared.config.health;
    let lead =
        Lead { duty: "health", node: shared.node_id, lease_ms: health.lease_ms.max(health.interval_ms * 2) };
    if shared.store.write(lead).await?.is_none() {
        return Ok(None);
    }
    let check = Check { stuck_after_ms: health.stuck_after_ms, judge };
    shared.store.write(check).await.map(Some)
}

/// How long there is nothing to do. Never nothing at all: what is said to be due now is due in a moment.
fn until_next(checked: &Checked, interval: Duration) -> Duration {
    checked.next_in_ms.map_or(interval, millis).min(interval).max(PAUSE_LEAST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_an_absence_leases_are_not_judged_for_one_lease() {
        let (start, lease, rhythm) = (Instant::now(), Duration::from_secs(60), Duration::from_secs(10));
        let at = |s| start + Duration::from_secs(s);
        let mut patience = Patience::new(lease, start);
        assert!(patience.may_judge(at(10), rhythm));
        assert!(!patience.may_judge(at(200), rhythm), "it was away for 190 s");
        assert!(!patience.may_judge(at(255), rhythm));
        assert!(patience.may_judge(at(261), rhythm));
        assert_eq!(patience.until_judged(at(261), rhythm), rhythm);
        patience.was_away(at(300));
        assert!(!patience.may_judge(at(310), rhythm));
        assert_eq!(patience.until_judged(at(310), rhythm), rhythm);
        assert_eq!(patience.until_judged(at(355), rhythm), Duration::from_secs(5), "no longer than that");
    }
}

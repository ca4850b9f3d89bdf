//! The end of the log, read once for many followers of one process.
//!
//! Here lives a loop that reads what is new and keeps the latest events in memory, and the followers that are served
//! from there. A follower that is further behind reads the ledger by itself until it has caught up. So a hundred
//! followers cost one reader, and each sees every event once, in order.

use quorate_model::{Result, Seq};
use quorate_service::event::{After, Filter, Latest, Logged, PAGE_MAX};
use quorate_store::Store;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Events kept in memory for followers, and the bytes of what they say.
const KEPT_MAX: usize = 20_000;
const KEPT_BYTES_MAX: usize = 32 << 20;
/// Without a hint, the log is looked at this often.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How long the loop rests when the ledger cannot be read.
const AWAY: Duration = Duration::from_secs(1);

/// A reader of the log's end. The loop ends with this value.
#[derive(Debug)]
pub struct Tail {
    shared: Arc<Shared>,
    serving: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    store: Store,
    kept: Mutex<Kept>,
    seen: watch::Sender<Seq>,
}

/// The latest events: all after `from`, up to `seen`.
#[derive(Debug)]
struct Kept {
    events: VecDeque<Arc<Logged>>,
    bytes: usize,
    from: Seq,
    seen: Seq,
}

/// How much an event says, in bytes.
fn size(event: &Logged) -> usize {
    event.message.len() + event.data.as_ref().map_or(0, String::len)
}

impl Kept {
    fn push(&mut self, events: Vec<Logged>, seen: Seq, (most, most_bytes): (usize, usize)) {
        self.bytes += events.iter().map(size).sum::<usize>();
        self.events.extend(events.into_iter().map(Arc::new));
        self.seen = seen;
        while self.events.len() > most || self.bytes > most_bytes {
            let Some(oldest) = self.events.pop_front() else { break };
            self.bytes -= size(&oldest);
            self.from = oldest.seq;
        }
    }

    /// Returns what came after a place; `None` when not all of it is kept any more.
    fn after(&self, place: Seq) -> Option<Vec<Arc<Logged>>> {
        if place < self.from {
            return None;
        }
        let first = self.events.partition_point(|event| event.seq <= place);
        Some(self.events.range(first..).cloned().collect())
    }
}

impl Tail {
    /// Begins to read at the log's end as it is now.
    ///
    /// # Errors
    /// `Unavailable` when the ledger cannot be read.
    pub async fn begin(store: Store) -> Result<Tail> {
        let seen = store.read(Latest).await?;
        let kept = Mutex::new(Kept { events: VecDeque::new(), bytes: 0, from: seen, seen });
        let shared = Arc::new(Shared { store, kept, seen: watch::Sender::new(seen) });
        let serving = tokio::spawn(serve(Arc::clone(&shared)));
        Ok(Tail { shared, serving })
    }

    /// Begins to follow after a place in the log; `None` begins with the first kept event.
    pub fn follow(&self, after: Option<Seq>, filter: Filter) -> Follower {
        let news = self.shared.seen.subscribe();
        Follower { shared: Arc::clone(&self.shared), news, seen: after.unwrap_or(Seq(-1)), filter }
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Shared {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().expect("nobody panics while they hold the events")
    }

    async fn look(&self) -> Result<bool> {
        let seen = self.kept().seen;
        let page =
            self.store.read(After { seq: Some(seen), filter: Filter::default(), limit: PAGE_MAX }).await?;
        let is_full = page.events.len() as i64 == PAGE_MAX;
        if page.seen > seen {
            self.kept().push(page.events, page.seen, (KEPT_MAX, KEPT_BYTES_MAX));
            self.seen.send_replace(page.seen);
        }
        Ok(is_full)
    }
}

async fn serve(shared: Arc<Shared>) {
    let mut changes = shared.store.changes();
    loop {
        match shared.look().await {
            Ok(true) => {}
            Ok(false) => changes.wait(LOOK_EVERY).await,
            // Followers who are behind learn of it from their own reading.
            Err(_) => tokio::time::sleep(AWAY).await,
        }
    }
}

/// One who follows the log.
#[derive(Debug)]
pub struct Follower {
    shared: Arc<Shared>,
    news: watch::Receiver<Seq>,
    seen: Seq,
    filter: Filter,
}

impl Follower {
    /// Returns the place up to which the log was looked at: whoever goes on after it misses nothing.
    pub fn seen(&self) -> Seq {
        self.seen
    }

    /// Waits for the next events, in order.
    ///
    /// # Errors
    /// `Unavailable` when the ledger cannot be read and what is asked for is not kept in memory; `NotFound` when
    /// retention has removed it.
    pub async fn next(&mut self) -> Result<Vec<Arc<Logged>>> {
        loop {
            let (events, seen) = match self.remembered() {
                Some(found) => found,
                None => self.read().await?,
            };
            let has_moved = seen > self.seen;
            self.seen = self.seen.max(seen);
            if !events.is_empty() {
                return Ok(events);
            }
            if !has_moved {
                // A reader that was ended tells nothing more: then only the ledger would, and the caller is to ask again.
                if self.news.changed().await.is_err() {
                    tokio::time::sleep(AWAY).await;
                }
            }
        }
    }

    fn remembered(&mut self) -> Option<(Vec<Arc<Logged>>, Seq)> {
        self.news.mark_unchanged();
        let kept = self.shared.kept();
        let (events, seen) = (kept.after(self.seen)?, kept.seen);
        drop(kept);
        Some((events.into_iter().filter(|event| self.filter.matches(event)).collect(), seen))
    }

    async fn read(&self) -> Result<(Vec<Arc<Logged>>, Seq)> {
        let after = After { seq: Some(self.seen), filter: self.filter.clone(), limit: PAGE_MAX };
        let page = self.shared.store.read(after).await?;
        Ok((page.events.into_iter().map(Arc::new).collect(), page.seen))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(seq: i64) -> Logged {
        Logged {
            seq: Seq(seq),
            at: 0,
            kind: "log.line".into(),
            agent: None,
            task: None,
            run: None,
            resource: None,
            message: String::new(),
            data: None,
        }
    }

    fn places(found: Option<Vec<Arc<Logged>>>) -> Option<Vec<i64>> {
        found.map(|events| events.iter().map(|event| event.seq.0).collect())
    }

    #[test]
    fn what_is_kept_has_no_gap_and_no_more_than_fits() {
        let mut kept = Kept { events: VecDeque::new(), bytes: 0, from: Seq(10), seen: Seq(10) };
        kept.push(vec![event(12), event(15), event(20)], Seq(25), (3, 100));
        assert_eq!(places(kept.after(Seq(9))), None, "it began to look after 10");
        assert_eq!(places(kept.after(Seq(10))), Some(vec![12, 15, 20]));
        assert_eq!(places(kept.after(Seq(13))), Some(vec![15, 20]));
        kept.push(vec![event(26), event(27)], Seq(27), (3, 100));
        assert_eq!(places(kept.after(Seq(14))), None, "15 is kept no more");
        assert_eq!(places(kept.after(Seq(15))), Some(vec![20, 26, 27]));
        assert_eq!(places(kept.after(Seq(27))), Some(vec![]));
    }

    #[test]
    fn what_is_kept_says_no_more_than_fits() {
        let mut kept = Kept { events: VecDeque::new(), bytes: 0, from: Seq(0), seen: Seq(0) };
        let says = |seq: i64, bytes: usize| Logged {
            message: "m".repeat(bytes / 2),
            data: Some("d".repeat(bytes - bytes / 2)),
            ..event(seq)
        };
        kept.push(vec![says(1, 4), says(2, 3), says(3, 3)], Seq(3), (9, 10));
        assert_eq!((places(kept.after(Seq(0))), kept.bytes), (Some(vec![1, 2, 3]), 10));
        kept.push(vec![says(4, 1)], Seq(4), (9, 10));
        assert_eq!((places(kept.after(Seq(0))), places(kept.after(Seq(1)))), (None, Some(vec![2, 3, 4])));
        kept.push(vec![says(5, 11)], Seq(5), (9, 10));
        assert_eq!(
            (places(kept.after(Seq(5))), kept.bytes),
            (Some(vec![]), 0),
            "one that does not fit is read from the ledger"
        );
    }
}

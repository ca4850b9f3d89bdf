//! The reading of the ledger while the screen is shown, and the doing of what a person wants.
//!
//! Here lives a loop beside the screen. It hears of changes by hints, reads what is bounded, and tells it as [`News`].
//! What takes long is read seldom: a look is followed by a pause many times its length, so that a screen never asks a
//! ledger for more than a small part of its time, whatever its size. A ledger that does not answer is said once, and
//! asked again until it does.

use crate::output::{self, Output};
use crate::state::{Deed, Lines, News, Shown};
use quorate_model::{Error, Kind, Result, Seq, TaskId};
use quorate_server::Desk;
use quorate_service::agent::{Tell, Word};
use quorate_service::event::{After, Filter, Newest, PAGE_MAX};
use quorate_service::task::{Cancel, Retry, Unpark};
use quorate_service::top::{Look, ROWS_MAX, Tally};
use quorate_service::view::{Attempt, Story, TaskStory};
use quorate_store::{Changes, Store};
use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

/// Rows of each list that are asked for.
const ROWS: i64 = ROWS_MAX;
/// Between two turns at most: ages and heartbeats leave no event.
const TURN_EVERY: Duration = Duration::from_secs(1);
/// Between two turns at least, however many hints come.
const TURN_LEAST: Duration = Duration::from_millis(50);
/// Between two reads of the output that is shown.
const OUTPUT_EVERY: Duration = Duration::from_millis(200);
/// Between two looks at least.
const LOOK_LEAST: Duration = Duration::from_millis(200);
/// Between two counts of all tasks at least.
const TALLY_LEAST: Duration = Duration::from_millis(500);
/// A pause is so many times as long as what came before it took.
const REST: u32 = 20;
/// Between two looks for a ledger that is not there, or does not answer.
const AGAIN: Duration = Duration::from_millis(500);
/// How long one question may take.
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// Pages of events that are read in one turn.
const PAGES: usize = 20;

/// Where the screen is shown: what it needs to find.
pub trait Place: Send + Sync + 'static {
    /// Opens the ledger; `None` while there is none.
    fn open(&self) -> impl Future<Output = Result<Option<Store>>> + Send;
    /// Returns the desk of the ledger.
    fn desk(&self, store: &Store) -> Desk;
    /// Returns the file with an attempt's output, or why it is not here.
    fn output(&self, attempt: &Attempt) -> Result<PathBuf, String>;
    /// Returns what people call the ledger.
    fn name(&self) -> String;
}

/// What is asked for again: soon after a change, and by itself every second.
#[derive(Debug)]
struct Turn {
    /// Not before.
    next: Instant,
    /// Not later, even if nothing seems to have changed.
    latest: Instant,
    least: Duration,
    is_stale: bool,
}

impl Turn {
    fn new(least: Duration) -> Turn {
        let now = Instant::now();
        Turn { next: now, latest: now, least, is_stale: true }
    }

    fn is_due(&self) -> bool {
        let now = Instant::now();
        now >= self.next && (self.is_stale || now >= self.latest)
    }

    /// Returns how long nothing is due.
    fn wait(&self) -> Duration {
        let due = if self.is_stale { self.next } else { self.latest };
        due.saturating_duration_since(Instant::now())
    }

    /// Notes that it was done, begun then.
    fn done(&mut self, begun: Instant) {
        let rest = rest(begun.elapsed(), self.least);
        self.next = Instant::now() + rest;
        self.latest = Instant::now() + rest.max(TURN_EVERY);
        self.is_stale = false;
    }
}

/// How long to rest after something that took so long.
fn rest(took: Duration, least: Duration) -> Duration {
    (took * REST).max(least)
}

/// Reads until the screen is closed.
pub(crate) async fn read<P: Place>(
    place: Arc<P>,
    opened: Arc<OnceLock<Store>>,
    news: mpsc::Sender<News>,
    shown: watch::Receiver<Option<Shown>>,
) {
    let Some(store) = appearing(&*place, &news).await else { return };
    let store = opened.get_or_init(|| store).clone();
    let mut reader = Reader::new(place, store, news, shown);
    while reader.turn().await.is_some() {}
}

/// Waits for the ledger; `None` when the screen is closed meanwhile.
async fn appearing<P: Place>(place: &P, news: &mpsc::Sender<News>) -> Option<Store> {
    loop {
        let told = match soon(place.open()).await {
            Ok(Some(store)) => return Some(store),
            Ok(None) => News::Missing(place.name()),
            Err(error) => News::Away(words(&error)),
        };
        news.send(told).await.ok()?;
        tokio::time::sleep(AGAIN).await;
    }
}

/// Asks, but not for ever: a database may fall silent.
async fn soon<T>(ask: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::time::timeout(ANSWER_MAX, ask).await.unwrap_or_else(|_| {
        Err(Error::unavailable(format!("it has not answered for {} s", ANSWER_MAX.as_secs())))
    })
}

fn words(error: &Error) -> String {
    match &error.hint {
        Some(hint) => format!("{error} ({hint})"),
        None => error.to_string(),
    }
}

struct Reader<P> {
    place: Arc<P>,
    store: Store,
    changes: Changes,
    news: mpsc::Sender<News>,
    shown: watch::Receiver<Option<Shown>>,
    /// The place in the log up to which all was told.
    seen: Option<Seq>,
    look: Turn,
    tally: Turn,
    story: Turn,
    output: Option<Reading>,
}

/// The output that is being read.
struct Reading {
    task: TaskId,
    attempt: i64,
    is_over: bool,
    /// Whether it was said where the output is kept.
    has_log: bool,
    file: Option<Output>,
}

impl<P: Place> Reader<P> {
    fn new(
        place: Arc<P>,
        store: Store,
        news: mpsc::Sender<News>,
        shown: watch::Receiver<Option<Shown>>,
    ) -> Reader<P> {
        Reader {
            place,
            changes: store.changes(),
            store,
            news,
            shown,
            seen: None,
            look: Turn::new(LOOK_LEAST),
            tally: Turn::new(TALLY_LEAST),
            story: Turn::new(LOOK_LEAST),
            output: None,
        }
    }

    /// Reads what is due, then waits for more; `None` when the screen is closed.
    async fn turn(&mut self) -> Option<()> {
        match self.read().await {
            Ok(Some(())) => {}
            Ok(None) => return None,
            Err(error) => {
                self.news.send(News::Away(words(&error))).await.ok()?;
                tokio::time::sleep(AGAIN).await;
            }
        }
        self.pause().await;
        (!self.news.is_closed()).then_some(())
    }

    async fn pause(&mut self) {
        let tails = self.output.as_ref().is_some_and(|reading| !reading.is_over);
        let due = self.look.wait().min(self.tally.wait());
        let most = if tails { OUTPUT_EVERY } else { due.clamp(TURN_LEAST, TURN_EVERY) };
        tokio::select! {
            () = async {
                tokio::time::sleep(TURN_LEAST.min(most)).await;
                self.changes.wait(most).await;
            } => {}
            // A sender that is gone closes the news as well.
            _ = self.shown.changed() => self.look_anew(),
        }
    }

    /// Forgets what was told of the task that was looked at: the screen has forgotten it, even if it is the same one.
    fn look_anew(&mut self) {
        self.output = None;
        self.story = Turn::new(LOOK_LEAST);
    }

    async fn read(&mut self) -> Result<Option<()>> {
        if self.read_events().await?.is_none() {
            return Ok(None);
        }
        if self.look.is_due() {
            let begun = Instant::now();
            let looked = soon(self.store.read(Look { most: ROWS })).await?;
            self.look.done(begun);
            if self.news.send(News::Looked(Box::new(looked))).await.is_err() {
                return Ok(None);
            }
        }
        if self.tally.is_due() {
            let begun = Instant::now();
            let counts = soon(self.store.read(Tally)).await?;
            self.tally.done(begun);
            if self.news.send(News::Tally(counts)).await.is_err() {
                return Ok(None);
            }
        }
        self.read_shown().await
    }

    async fn read_events(&mut self) -> Result<Option<()>> {
        for _ in 0..PAGES {
            let page = match self.seen {
                Some(seen) => {
                    let after = After { seq: Some(seen), filter: Filter::default(), limit: PAGE_MAX };
                    soon(self.store.read(after)).await
                }
                None => soon(self.store.read(Newest { limit: PAGE_MAX })).await,
            };
            let page = match page {
                // What was not read in time is gone: go on with what there is.
                Err(error) if error.kind == Kind::NotFound => {
                    self.seen = None;
                    continue;
                }
                page => page?,
            };
            let is_first = self.seen.replace(page.seen).is_none();
            let is_last = is_first || (page.events.len() as i64) < PAGE_MAX;
            let shown = self.shown.borrow().map(|shown| shown.id);
            self.story.is_stale |= shown.is_some() && page.events.iter().any(|event| event.task == shown);
            let is_news = !page.events.is_empty();
            self.look.is_stale |= is_news;
            self.tally.is_stale |= is_news;
            if is_news && self.news.send(News::Events(page.events)).await.is_err() {
                return Ok(None);
            }
            if is_last {
                break;
            }
        }
        Ok(Some(()))
    }

    /// Reads the task that is looked at, if it may have changed, and what its attempt has printed.
    async fn read_shown(&mut self) -> Result<Option<()>> {
        let (shown, is_news) = {
            let shown = self.shown.borrow_and_update();
            (*shown, shown.has_changed())
        };
        if is_news {
            self.look_anew();
        }
        let Some(shown) = shown else { return Ok(Some(())) };
        if self.story.is_due() {
            let begun = Instant::now();
            let story = soon(self.store.read(Story { id: shown.id })).await;
            self.story.done(begun);
            let news = match story {
                Ok(story) => {
                    self.begin_output(&story, shown).await;
                    News::Story(Box::new(story))
                }
                Err(error) if error.kind == Kind::NotFound => News::NoStory(shown.id, error.to_string()),
                Err(error) => return Err(error),
            };
            if self.news.send(news).await.is_err() {
                return Ok(None);
            }
        }
        self.read_output().await;
        Ok(Some(()))
    }

    /// Begins to read the output of the attempt that is meant, unless it is being read.
    async fn begin_output(&mut self, story: &TaskStory, shown: Shown) {
        let is_meant = |attempt: &&Attempt| shown.attempt.is_none_or(|number| attempt.number == number);
        let Some(attempt) = story.attempts.iter().rfind(is_meant) else { return };
        let (task, number) = (shown.id, attempt.number);
        let (is_over, has_log) = (attempt.ended_at.is_some(), attempt.log.is_some());
        if let Some(reading) = self.output.as_mut().filter(|r| r.task == task && r.attempt == number) {
            let is_as_before = (reading.is_over, reading.has_log) == (is_over, has_log);
            (reading.is_over, reading.has_log) = (is_over, has_log);
            // A file that is named may not be there yet: while the attempt goes on, it is looked for again.
            let may_come = has_log && !is_over;
            if reading.file.is_some() || is_as_before && !may_come {
                return;
            }
        }
        let found = match (&attempt.log, is_over) {
            // It has only just been taken: its file is named in a moment.
            (None, false) if attempt.tail.is_none() => Err(String::new()),
            _ => self.place.output(attempt),
        };
        let opened = found.and_then(|path| {
            Output::open(&path).map_err(|e| match e.kind() {
                ErrorKind::NotFound if !is_over => String::new(),
                _ => format!("its output cannot be read: {e}"),
            })
        });
        let (file, lines, note) = match opened {
            Ok((file, is_cut)) => (Some(file), Vec::new(), is_cut.then(|| "only its end is shown".into())),
            Err(why) => {
                let tail = attempt.tail.as_deref().map(output::lines).unwrap_or_default();
                let note = if tail.is_empty() { why } else { format!("{why}; this is its end") };
                (None, tail, (!note.is_empty()).then_some(note))
            }
        };
        self.output = Some(Reading { task, attempt: number, is_over, has_log, file });
        self.tell_output(Lines { task, attempt: number, anew: true, lines, note }).await;
    }

    async fn read_output(&mut self) {
        let Some(reading) = &mut self.output else { return };
        let Some(file) = &mut reading.file else { return };
        let (task, attempt) = (reading.task, reading.attempt);
        let (lines, note) = match file.more(reading.is_over) {
            Ok(lines) => (lines, None),
            Err(e) => {
                reading.file = None;
                (Vec::new(), Some(format!("its output cannot be read further: {e}")))
            }
        };
        if !lines.is_empty() || note.is_some() {
            self.tell_output(Lines { task, attempt, anew: false, lines, note }).await;
        }
    }

    async fn tell_output(&self, lines: Lines) {
        // A screen that is closed is noticed at the end of the turn.
        let _ = self.news.send(News::Output(lines)).await;
    }
}

/// Does what a person wants and tells how it went.
pub(crate) async fn obey<P: Place>(
    place: Arc<P>,
    store: Option<Store>,
    deed: Deed,
    news: mpsc::Sender<News>,
) {
    let outcome = match store {
        Some(store) => soon(does(&place.desk(&store), deed)).await,
        None => Err(Error::unavailable("there is no ledger to write to")),
    };
    let done = match outcome {
        Ok(words) => News::Done(words, true),
        Err(error) => News::Done(words(&error), false),
    };
    // A screen that is closed wants no answer.
    let _ = news.send(done).await;
}

async fn does(desk: &Desk, deed: Deed) -> Result<String> {
    let store = desk.store();
    match deed {
        Deed::Pause(name) => {
            store.write(Tell { name: name.clone(), word: Word::Pause }).await?;
            Ok(format!("{name} is paused: it takes nothing more"))
        }
        Deed::Resume(name) => {
            store.write(Tell { name: name.clone(), word: Word::Resume }).await?;
            Ok(format!("{name} may take work again"))
        }
        Deed::Retry(id) => {
            let task = store.write(Retry { id }).await?;
            Ok(format!("task {} is {} again", task.named(), task.state))
        }
        Deed::Cancel(id) => {
            desk.cancel(Cancel { id, reason: "a person cancelled it".into() }).await?;
            Ok(format!("task {id} is cancelled"))
        }
        Deed::Unpark(id) => {
            let task = store.write(Unpark { id }).await?;
            Ok(format!("task {} goes on", task.named()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_testkit::ledger::{Backend, TestLedger, run};
    use quorate_testkit::verbs::command;

    struct Nowhere;

    impl Place for Nowhere {
        async fn open(&self) -> Result<Option<Store>> {
            Ok(None)
        }

        fn desk(&self, store: &Store) -> Desk {
            Desk::new(store.clone(), Arc::default(), PathBuf::new())
        }

        fn output(&self, _: &Attempt) -> Result<PathBuf, String> {
            Err("not here".into())
        }

        fn name(&self) -> String {
            "nowhere".into()
        }
    }

    async fn looks_again_at_once(ledger: TestLedger) -> Result<()> {
        let id = ledger.add(command("one")).await?;
        ledger.must_take("ada").await?;
        let (news, mut told) = mpsc::channel(10);
        let (show, shown) = watch::channel(None);
        let store = ledger.store.clone();
        let mut reader = Reader::new(Arc::new(Nowhere), store, news, shown);
        for _ in 0..3 {
            // Closed and opened again between two turns: the screen has forgotten what it was told.
            show.send_replace(None);
            show.send_replace(Some(Shown { id, attempt: None }));
            reader.read_shown().await?;
            assert!(matches!(told.try_recv(), Ok(News::Output(lines)) if lines.anew));
            assert!(matches!(told.try_recv(), Ok(News::Story(story)) if story.task.id == id));
            reader.read_shown().await?;
            assert!(told.try_recv().is_err(), "it is told once");
        }
        Ok(())
    }

    #[test]
    fn who_looks_again_at_once_is_told_again() {
        run(Backend::Lite, looks_again_at_once);
    }

    #[test]
    fn a_long_look_is_followed_by_a_long_rest() {
        let ms = Duration::from_millis;
        assert_eq!(rest(ms(1), LOOK_LEAST), LOOK_LEAST);
        assert_eq!(rest(LOOK_LEAST / REST, LOOK_LEAST), LOOK_LEAST);
        assert_eq!(rest(ms(50), LOOK_LEAST), ms(1_000));
    }
}

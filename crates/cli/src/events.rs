//! `quorate events`: the log, from any place on, once or for ever.

use crate::args::Events;
use crate::lookout::watch;
use crate::place::Place;
use crate::print::style::{Colour, paint};
use crate::print::{self, time};
use crate::signals::Signals;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use quorate_model::at::At;
use quorate_model::{Kind, Result, Seq};
use quorate_server::Pause;
use quorate_service::event::{After, Filter, Logged, PAGE_MAX};
use quorate_service::wire;
use quorate_store::Store;
use std::os::fd::AsFd;
use std::time::Duration;

/// How often a follower looks whether a ledger has been made, where there is none yet.
const LEDGER_EVERY: Duration = Duration::from_millis(200);

pub(crate) async fn events(place: &Place, args: &Events, json: bool) -> Result<u8> {
    let filter = filter(place, args)?;
    let mut follower = Follower { seq: args.after, filter, json, is_away: false };
    if args.follow {
        return follower.follow(place).await;
    }
    match place.look().await? {
        Some(store) => follower.catch_up(&store).await?,
        None if json => {}
        None => print::text(&place.no_ledger()),
    }
    Ok(0)
}

fn filter(place: &Place, args: &Events) -> Result<Filter> {
    let since = args.since.map(|since| match since {
        At::Time(ms) => ms,
        At::After(ms) => crate::clock::now_ms() - ms,
    });
    Ok(Filter {
        agent: args.agent.clone(),
        resource: args.resource.as_deref().map(|name| place.resource(name)).transpose()?,
        kind: args.kind.map(|kind| kind.as_str().to_owned()),
        task: args.task,
        run: args.run,
        since,
    })
}

/// Reads on from a place; each event is printed once.
struct Follower {
    seq: Option<Seq>,
    filter: Filter,
    json: bool,
    /// Whether the ledger cannot be reached now.
    is_away: bool,
}

impl Follower {
    async fn follow(&mut self, place: &Place) -> Result<u8> {
        let Some(store) = appearing(place).await? else { return Ok(Kind::Interrupted.exit_code()) };
        let mut watch = watch(&store, None)?;
        loop {
            let caught_up = self.catch_up(&store).await;
            self.bear(caught_up)?;
            if print::is_closed() || is_reader_gone() {
                return Ok(0);
            }
            if watch.pause(None).await == Pause::Interrupted {
                return Ok(Kind::Interrupted.exit_code());
            }
        }
    }

    /// Goes on when the database is away for a while: the place is known, so nothing is missed or repeated.
    fn bear(&mut self, outcome: Result<()>) -> Result<()> {
        match outcome {
            Err(error) if error.kind == Kind::Unavailable => {
                if !std::mem::replace(&mut self.is_away, true) {
                    print::warning(&format!("{error}; trying again until it is back"));
                }
                Ok(())
            }
            Ok(()) => {
                self.is_away = false;
                Ok(())
            }
            other => other,
        }
    }

    async fn catch_up(&mut self, store: &Store) -> Result<()> {
        loop {
            let ask = After { seq: self.seq, filter: self.filter.clone(), limit: PAGE_MAX };
            let page = store.read(ask).await?;
            let is_last = (page.events.len() as i64) < PAGE_MAX;
            self.print(&page.events);
            self.seq = Some(page.seen);
            if is_last || print::is_closed() {
                return Ok(());
            }
        }
    }

    fn print(&self, events: &[Logged]) {
        let line = |event: &Logged| {
            if self.json { format!("{}\n", wire::value(wire::Event::from(event))) } else { words(event) }
        };
        // One write and one flush for what came together: a reader never waits for an event that is known here.
        print::text(&events.iter().map(line).collect::<String>());
    }
}

fn words(event: &Logged) -> String {
    let at = paint(Colour::Dim, &time::local(event.at));
    let kind = paint(colour(&event.kind), &format!("{:<18}", event.kind));
    let line = format!("{at}  {:>6}  {kind}  {}\n", event.seq, print::one_line(&event.message));
    line
}

fn colour(kind: &str) -> Colour {
    match kind.rsplit('.').next().unwrap_or(kind) {
        "completed" | "finished" => Colour::Green,
        "failed" | "refused" | "lease_expired" | "verify_failed" | "stale" => Colour::Red,
        "stuck" | "parked" | "retried" | "cancelled" | "expired" => Colour::Yellow,
        _ => Colour::Plain,
    }
}

/// Opens the ledger, waiting for one to be made; `None` when a signal ended the wait.
pub(crate) async fn appearing(place: &Place) -> Result<Option<Store>> {
    if !place.is_missing() {
        return place.look().await;
    }
    print::note(&format!("no ledger here yet ({}); waiting for one", place.url.shown()));
    let mut signals = Signals::new()?;
    while place.is_missing() {
        tokio::select! {
            () = tokio::time::sleep(LEDGER_EVERY) => {}
            _ = signals.next() => return Ok(None),
        }
        if is_reader_gone() {
            return Ok(None);
        }
    }
    place.look().await
}

/// Tells whether nobody reads standard output any more: a pipe whose other end is closed.
pub(crate) fn is_reader_gone() -> bool {
    let out = std::io::stdout();
    let mut asked = [PollFd::new(out.as_fd(), PollFlags::empty())];
    let answered = poll(&mut asked, PollTimeout::ZERO);
    answered.is_ok()
        && asked[0].revents().is_some_and(|found| found.intersects(PollFlags::POLLERR | PollFlags::POLLNVAL))
}

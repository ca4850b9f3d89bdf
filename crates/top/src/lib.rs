//! `quorate top`: the ledger on a terminal, as it changes.
//!
//! ```text
//! keys ────┐
//! signals ─┤                                    ┌─ draw ──▶ screen ──▶ the terminal
//! ticks ───┼──▶ Happening ──▶ state (pure) ─────┤
//! news ────┘                                    └─ Order ──▶ reader: what is shown, what is to be done
//!   └── reader ◀── service (looks, events, stories), files of output
//! ```
//!
//! Here lives the loop that puts these together. What keys mean is in `keys`, what is known in `state`, what is seen in
//! `draw`: each a function of values, so that all of it is tested without a terminal. A screen changes nothing by itself;
//! whoever closes it ends nothing that runs.

mod columns;
mod draw;
mod keys;
mod output;
mod pace;
mod paint;
mod reader;
#[cfg(test)]
mod sample;
mod screen;
mod state;

pub use draw::{Manner, draw};
pub use keys::{Action, Mode, action};
pub use reader::Place;
pub use screen::Screen;
pub use state::{Deed, Lines, News, Order, Shown, State};

use crossterm::event::{Event, KeyEvent};
use quorate_model::{Error, Result};
use quorate_store::Store;
use screen::Terminal;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

/// Between two frames at least: what comes together is drawn together.
const FRAME_LEAST: Duration = Duration::from_millis(33);
/// Between two frames at most: ages are told in seconds.
const FRAME_MOST: Duration = Duration::from_secs(1);
/// Keys, and news, that wait to be taken in.
const WAITING_MAX: usize = 64;
/// Deeds that are under way at once.
const DEEDS_MAX: usize = 4;
/// What ends by a signal exits with this.
const INTERRUPTED: u8 = 130;

/// What may happen.
#[derive(Debug)]
enum Happening {
    /// A key was pressed.
    Key(KeyEvent),
    /// The terminal has another size.
    Resized,
    /// The terminal is gone.
    Gone,
    /// The ledger has something new.
    News(News),
    /// It is time for a frame.
    Tick,
    /// A signal that ends.
    End,
    /// A signal that stops for a while.
    Stop,
    /// It was stopped, and goes on.
    Continued,
}

/// Shows the ledger until the person leaves; answers with the exit code. To be called on a terminal.
///
/// # Errors
/// `Failed` when the terminal cannot be set up.
pub async fn run<P: Place>(place: P, manner: Manner) -> Result<u8> {
    let place = Arc::new(place);
    let mut signals = Signals::new()?;
    let (news_out, mut news) = mpsc::channel(WAITING_MAX);
    let (shown, shown_in) = watch::channel(None);
    let store = Arc::new(OnceLock::new());
    let mut terminal = Terminal::take()?;
    let reading =
        tokio::spawn(reader::read(Arc::clone(&place), Arc::clone(&store), news_out.clone(), shown_in));
    let mut keys = listen();
    let mut show = Show::new(place, store, manner, shown, news_out);
    let code = loop {
        let happening = tokio::select! {
            key = keys.recv() => key.unwrap_or(Happening::Gone),
            Some(news) = news.recv() => Happening::News(news),
            sign = signals.next() => sign,
            () = tokio::time::sleep_until(show.next_frame()) => Happening::Tick,
        };
        match show.take(happening, &mut terminal) {
            Ok(None) => {}
            Ok(Some(code)) => break code,
            // There is no terminal any more to say it on.
            Err(_) => break INTERRUPTED,
        }
    };
    reading.abort();
    Ok(code)
}

/// Reads keys on a thread of its own, which ends with the process: nothing can wake it from its reading.
fn listen() -> mpsc::Receiver<Happening> {
    let (sender, keys) = mpsc::channel(WAITING_MAX);
    std::thread::spawn(move || {
        loop {
            let happening = match crossterm::event::read() {
                Ok(Event::Key(key)) => Happening::Key(key),
                Ok(Event::Resize(..)) => Happening::Resized,
                Ok(_) => continue,
                Err(_) => Happening::Gone,
            };
            let is_over = matches!(happening, Happening::Gone);
            if sender.blocking_send(happening).is_err() || is_over {
                return;
            }
        }
    });
    keys
}

/// The signals that matter to a screen.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
    stop: Signal,
    continued: Signal,
}

impl Signals {
    fn new() -> Result<Signals> {
        let hear = |kind| signal(kind).map_err(|e| Error::failed(format!("cannot listen for signals: {e}")));
        Ok(Signals {
            interrupt: hear(SignalKind::interrupt())?,
            terminate: hear(SignalKind::terminate())?,
            hangup: hear(SignalKind::hangup())?,
            stop: hear(SignalKind::from_raw(nix::libc::SIGTSTP))?,
            continued: hear(SignalKind::from_raw(nix::libc::SIGCONT))?,
        })
    }

    async fn next(&mut self) -> Happening {
        tokio::select! {
            _ = self.interrupt.recv() => Happening::End,
            _ = self.terminate.recv() => Happening::End,
            _ = self.hangup.recv() => Happening::End,
            _ = self.stop.recv() => Happening::Stop,
            _ = self.continued.recv() => Happening::Continued,
        }
    }
}

/// The state and what carries it out.
struct Show<P> {
    place: Arc<P>,
    store: Arc<OnceLock<Store>>,
    state: State,
    manner: Manner,
    screen: Screen,
    shown: watch::Sender<Option<Shown>>,
    news: mpsc::Sender<News>,
    deeds: Arc<tokio::sync::Semaphore>,
    /// The ledger's time, and when it was told.
    clock: Option<(i64, Instant)>,
    is_dirty: bool,
    drawn_at: Instant,
}

impl<P: Place> Show<P> {
    fn new(
        place: Arc<P>,
        store: Arc<OnceLock<Store>>,
        manner: Manner,
        shown: watch::Sender<Option<Shown>>,
        news: mpsc::Sender<News>,
    ) -> Show<P> {
        Show {
            place,
            store,
            state: State::default(),
            manner,
            screen: Screen::new(),
            shown,
            news,
            deeds: Arc::new(tokio::sync::Semaphore::new(DEEDS_MAX)),
            clock: None,
            is_dirty: true,
            drawn_at: Instant::now() - FRAME_MOST,
        }
    }

    /// Returns when the next frame is due.
    fn next_frame(&self) -> Instant {
        self.drawn_at + if self.is_dirty { FRAME_LEAST } else { FRAME_MOST }
    }

    /// Takes in what happens; answers with the exit code at the end.
    fn take(&mut self, happening: Happening, terminal: &mut Terminal) -> std::io::Result<Option<u8>> {
        match happening {
            Happening::Key(key) => {
                let order = action(self.state.mode(), key).and_then(|action| self.state.act(action));
                self.is_dirty = true;
                if let Some(order) = order {
                    return self.carry_out(order, terminal);
                }
            }
            Happening::News(news) => {
                if let News::Looked(looked) = &news {
                    self.clock = Some((looked.now, Instant::now()));
                }
                self.state.hear(news);
                self.is_dirty = true;
            }
            Happening::Resized => self.is_dirty = true,
            Happening::Tick => self.draw(terminal)?,
            Happening::End | Happening::Gone => return Ok(Some(INTERRUPTED)),
            Happening::Stop => return self.carry_out(Order::Suspend, terminal),
            Happening::Continued => {
                terminal.resume()?;
                return self.carry_out(Order::Redraw, terminal);
            }
        }
        Ok(None)
    }

    fn carry_out(&mut self, order: Order, terminal: &mut Terminal) -> std::io::Result<Option<u8>> {
        match order {
            Order::Show(shown) => drop(self.shown.send_replace(shown)),
            Order::Do(deed) => self.begin(deed),
            Order::Redraw => {
                self.screen.foul();
                self.is_dirty = true;
            }
            Order::Suspend => {
                terminal.suspend()?;
                self.screen.foul();
                self.is_dirty = true;
            }
            Order::Quit(code) => return Ok(Some(code)),
        }
        Ok(None)
    }

    fn begin(&mut self, deed: Deed) {
        match Arc::clone(&self.deeds).try_acquire_owned() {
            Ok(permit) => {
                let (place, store, news) =
                    (Arc::clone(&self.place), self.store.get().cloned(), self.news.clone());
                tokio::spawn(async move {
                    reader::obey(place, store, deed, news).await;
                    drop(permit);
                });
            }
            Err(_) => {
                self.state
                    .hear(News::Done("the ledger has not done yet what was asked before".into(), false));
            }
        }
    }

    fn draw(&mut self, terminal: &mut Terminal) -> std::io::Result<()> {
        if let Some((now, at)) = self.clock {
            let since = i64::try_from(at.elapsed().as_millis()).unwrap_or(0);
            self.state.tick(now.saturating_add(since));
        }
        let size = crossterm::terminal::size()?;
        let (state, manner) = (&self.state, &self.manner);
        let bytes = self.screen.frame(size, |buffer| {
            draw(state, manner, buffer);
        })?;
        self.is_dirty = false;
        self.drawn_at = Instant::now();
        if bytes.is_empty() { Ok(()) } else { terminal.write(&bytes) }
    }
}

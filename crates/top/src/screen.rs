//! The terminal: taking it, giving it back, and writing frames to it.
//!
//! Here live the two buffers of which only the difference is written, and the bytes of a frame, which go out in one
//! write between the marks of a synchronized update: no terminal shows half a frame, and a slow line carries little.
//! Whoever takes the terminal gives it back, also when he panics.

use crossterm::cursor::{Hide, Show};
use crossterm::terminal::{
    BeginSynchronizedUpdate, Clear, ClearType, EndSynchronizedUpdate, EnterAlternateScreen,
    LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use crossterm::{QueueableCommand, queue};
use quorate_model::{Error, Result};
use ratatui_core::backend::Backend;
use ratatui_core::buffer::Buffer;
use ratatui_core::layout::Rect;
use ratatui_crossterm::CrosstermBackend;
use std::io::{self, Write};
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};

/// What is on the screen, and what comes next.
#[derive(Debug)]
pub struct Screen {
    shown: Buffer,
    next: Buffer,
    /// What is on the terminal is not known: it is to be cleared.
    is_foul: bool,
}

impl Default for Screen {
    fn default() -> Screen {
        Screen::new()
    }
}

impl Screen {
    /// Makes one of which nothing is known.
    pub fn new() -> Screen {
        Screen { shown: Buffer::empty(Rect::ZERO), next: Buffer::empty(Rect::ZERO), is_foul: true }
    }

    /// Forgets what is on the terminal.
    pub(crate) fn foul(&mut self) {
        self.is_foul = true;
    }

    /// Draws a frame of this size; answers with the bytes that turn what is shown into it, if any are needed.
    ///
    /// # Errors
    /// None that a buffer in memory would give.
    pub fn frame(&mut self, size: (u16, u16), draw: impl FnOnce(&mut Buffer)) -> io::Result<Vec<u8>> {
        let area = Rect::new(0, 0, size.0, size.1);
        if self.is_foul || self.shown.area != area {
            self.shown = Buffer::empty(area);
            self.next = Buffer::empty(area);
            self.is_foul = true;
        }
        self.next.reset();
        draw(&mut self.next);
        let changes = self.shown.diff(&self.next);
        if changes.is_empty() && !self.is_foul {
            return Ok(Vec::new());
        }
        let mut bytes = Vec::new();
        bytes.queue(BeginSynchronizedUpdate)?;
        if std::mem::take(&mut self.is_foul) {
            bytes.queue(Clear(ClearType::All))?;
        }
        let mut backend = CrosstermBackend::new(&mut bytes);
        backend.draw(changes.into_iter())?;
        bytes.queue(EndSynchronizedUpdate)?;
        std::mem::swap(&mut self.shown, &mut self.next);
        Ok(bytes)
    }
}

/// A terminal that was taken; given back when this ends.
#[derive(Debug)]
pub(crate) struct Terminal(());

/// Whether the terminal is taken: it is given back once, by whoever comes first.
static IS_TAKEN: AtomicBool = AtomicBool::new(false);

impl Terminal {
    /// Takes the terminal: keys one by one, a screen of its own.
    pub(crate) fn take() -> Result<Terminal> {
        give_back_on_panic();
        take().map_err(|e| {
            give_back();
            Error::failed(format!("cannot set the terminal up: {e}")).hint("quorate status needs none")
        })?;
        Ok(Terminal(()))
    }

    /// Gives it back to the shell, and stops until the shell calls again.
    pub(crate) fn suspend(&mut self) -> io::Result<()> {
        give_back();
        // STOP and not TSTP: that one is ours to hear.
        nix::sys::signal::raise(nix::sys::signal::Signal::SIGSTOP)?;
        take()
    }

    /// Takes it again after someone else has stopped and continued us.
    pub(crate) fn resume(&mut self) -> io::Result<()> {
        give_back();
        take()
    }

    /// Writes a frame.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut out = io::stdout().lock();
        out.write_all(bytes)?;
        out.flush()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        give_back();
    }
}

fn take() -> io::Result<()> {
    enable_raw_mode()?;
    IS_TAKEN.store(true, Ordering::SeqCst);
    let mut out = io::stdout().lock();
    queue!(out, EnterAlternateScreen, Hide)?;
    out.flush()
}

/// Gives the terminal back. What cannot be written to a terminal that is gone need not be.
fn give_back() {
    if !IS_TAKEN.swap(false, Ordering::SeqCst) {
        return;
    }
    let mut out = io::stdout();
    let _ = queue!(out, EndSynchronizedUpdate, LeaveAlternateScreen, Show).and_then(|()| out.flush());
    let _ = disable_raw_mode();
}

/// A panic is to be read on a terminal that works.
fn give_back_on_panic() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            give_back();
            before(panic);
        }));
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use ratatui_core::style::Style;

    fn text(bytes: &[u8]) -> String {
        String::from_utf8_lossy(bytes).into_owned()
    }

    fn write(words: &'static str) -> impl FnOnce(&mut Buffer) {
        move |buffer| buffer.set_string(0, 0, words, Style::new())
    }

    #[test]
    fn only_what_has_changed_is_written() {
        let mut screen = Screen::new();
        let first = text(&screen.frame((20, 2), write("hello world")).expect("drawn"));
        assert!(
            first.contains("\u{1b}[2J") && first.contains("hello") && first.contains("world"),
            "{first:?}"
        );
        assert!(first.starts_with("\u{1b}[?2026h") && first.ends_with("\u{1b}[?2026l"), "{first:?}");
        assert_eq!(screen.frame((20, 2), write("hello world")).expect("drawn"), b"", "nothing has changed");
        let second = text(&screen.frame((20, 2), write("hello wOrld")).expect("drawn"));
        assert!(second.contains('O') && !second.contains("hello") && !second.contains("[2J"), "{second:?}");
    }

    #[test]
    fn another_size_is_drawn_anew() {
        let mut screen = Screen::new();
        screen.frame((20, 2), write("hello")).expect("drawn");
        let wider = text(&screen.frame((30, 2), write("hello")).expect("drawn"));
        assert!(wider.contains("\u{1b}[2J") && wider.contains("hello"), "{wider:?}");
        screen.foul();
        let anew = text(&screen.frame((30, 2), write("hello")).expect("drawn"));
        assert!(anew.contains("\u{1b}[2J") && anew.contains("hello"), "{anew:?}");
        assert!(screen.frame((0, 0), |_| ()).is_ok());
    }

    #[test]
    fn a_terminal_that_was_not_taken_is_left_alone() {
        assert!(!IS_TAKEN.load(Ordering::SeqCst));
        give_back();
        assert!(!IS_TAKEN.load(Ordering::SeqCst));
    }
}

//! Words on the screen: tones, bars and cuts.
//!
//! Here lives the one thing that writes into the buffer. Tones are among the sixteen colours that every terminal has and
//! its user has chosen; there are no backgrounds. Without colours, weight and reverse tell the same.

use quorate_model::text;
use ratatui_core::buffer::Buffer;
use ratatui_core::layout::Rect;
use ratatui_core::style::{Color, Modifier, Style};

/// How words are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tone {
    /// As they are.
    Plain,
    /// Of no matter now.
    Dim,
    /// A heading.
    Bold,
    /// Done.
    Good,
    /// Under way.
    Busy,
    /// About to be.
    Ready,
    /// Needs a look.
    Warn,
    /// Wrong.
    Bad,
}

impl Tone {
    /// Returns the tone of a state of a task, an agent or an attempt.
    pub(crate) fn of_state(state: &str) -> Tone {
        match state {
            "completed" => Tone::Good,
            "running" | "working" | "verifying" => Tone::Busy,
            "ready" => Tone::Ready,
            "parked" | "paused" | "stuck" | "blocked" => Tone::Warn,
            "failed" | "stale" | "timed_out" | "verify_failed" | "lost" => Tone::Bad,
            "waiting" | "cancelled" | "idle" | "released" => Tone::Dim,
            _ => Tone::Plain,
        }
    }

    /// Returns the tone of a kind of event.
    pub(crate) fn of_event(kind: &str) -> Tone {
        match kind.rsplit('.').next().unwrap_or(kind) {
            "completed" | "finished" => Tone::Good,
            "failed" | "refused" | "lease_expired" | "verify_failed" | "stale" => Tone::Bad,
            "stuck" | "parked" | "retried" | "cancelled" | "expired" => Tone::Warn,
            "taken" | "started" => Tone::Busy,
            _ => Tone::Plain,
        }
    }

    fn style(self, is_coloured: bool) -> Style {
        let colour = |colour| if is_coloured { Style::new().fg(colour) } else { Style::new() };
        match self {
            Tone::Plain => Style::new(),
            Tone::Dim => Style::new().add_modifier(Modifier::DIM),
            Tone::Bold => Style::new().add_modifier(Modifier::BOLD),
            Tone::Good => colour(Color::Green),
            Tone::Busy => colour(Color::Blue),
            Tone::Ready => colour(Color::Cyan),
            Tone::Warn => colour(Color::Yellow),
            Tone::Bad => colour(Color::Red).add_modifier(Modifier::BOLD),
        }
    }
}

/// The brush: a buffer, whether it has colours, and how much was written.
pub(crate) struct Brush<'a> {
    pub(crate) buffer: &'a mut Buffer,
    pub(crate) is_coloured: bool,
    /// Rows that were put into words, for the tests: never more than the screen has.
    pub(crate) rows: usize,
}

impl Brush<'_> {
    /// Writes words into a line, at most so many columns; answers with the column behind them.
    pub(crate) fn put(&mut self, x: u16, y: u16, width: u16, words: &str, tone: Tone) -> u16 {
        let area = self.buffer.area;
        if y < area.top() || y >= area.bottom() || x < area.left() || x >= area.right() {
            return x;
        }
        let width = width.min(area.right() - x);
        let words = text::cut(words, usize::from(width));
        let style = tone.style(self.is_coloured);
        self.buffer.set_stringn(x, y, words, usize::from(width), style).0
    }

    /// Writes words one after the other, as far as there is room; answers with the column behind them.
    pub(crate) fn line(&mut self, x: u16, y: u16, width: u16, words: &[(Tone, &str)]) -> u16 {
        let end = x.saturating_add(width);
        words.iter().fold(x, |at, (tone, words)| self.put(at, y, end.saturating_sub(at), words, *tone))
    }

    /// Writes words so that they end with the column before `end`, if there is room for all of them.
    pub(crate) fn right(&mut self, from: u16, end: u16, y: u16, words: &[(Tone, &str)]) {
        let wide: usize = words.iter().map(|(_, words)| text::width(words)).sum();
        let wide = u16::try_from(wide).unwrap_or(u16::MAX);
        if from.saturating_add(wide) <= end {
            self.line(end - wide, y, wide, words);
        }
    }

    /// Turns a line over: what is chosen.
    pub(crate) fn choose(&mut self, area: Rect, y: u16) {
        let line = Rect { y, height: 1, ..area };
        self.buffer.set_style(line, Style::new().add_modifier(Modifier::REVERSED));
    }
}

/// Draws a share of a hundred in so many columns.
pub(crate) fn bar(percent: i64, width: u16) -> String {
    let full = i64::from(width) * percent.clamp(0, 100) / 100;
    (0..i64::from(width)).map(|at| if at < full { '█' } else { '░' }).collect()
}

/// Draws counts as a line of bars, the highest as high as a letter.
pub(crate) fn sparkline(counts: &[u64]) -> String {
    const LEVELS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let most = counts.iter().copied().max().unwrap_or(0).max(1);
    let level = |count: u64| {
        // Whatever is more than nothing is seen to be more.
        let level = if count == 0 { 0 } else { (count * 7).div_ceil(most) };
        LEVELS[usize::try_from(level).unwrap_or(7).min(7)]
    };
    counts.iter().copied().map(level).collect()
}

/// Says how long something has lasted, shortly: `45s`, `3m20s`, `2h`, `11d`.
pub(crate) fn length(ms: i64) -> String {
    let seconds = ms.max(0) / 1_000;
    match seconds {
        0..60 => format!("{seconds}s"),
        60..600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        600..3_600 => format!("{}m", seconds / 60),
        3_600..36_000 => format!("{}h{:02}m", seconds / 3_600, seconds / 60 % 60),
        36_000..172_800 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_show_shares() {
        assert_eq!(bar(0, 4), "░░░░");
        assert_eq!(bar(50, 4), "██░░");
        assert_eq!(bar(99, 4), "███░");
        assert_eq!(bar(100, 4), "████");
        assert_eq!(bar(-5, 2), "░░");
        assert_eq!(bar(500, 2), "██");
        assert_eq!(bar(50, 0), "");
    }

    #[test]
    fn sparklines_show_counts() {
        assert_eq!(sparkline(&[]), "");
        assert_eq!(sparkline(&[0, 0]), "▁▁");
        assert_eq!(sparkline(&[0, 1, 7]), "▁▂█");
        assert_eq!(sparkline(&[0, 1, 1_000]), "▁▂█");
        assert_eq!(sparkline(&[3, 3]), "██");
    }

    #[test]
    fn lengths_are_short() {
        let check = |ms: i64, expected: &str| assert_eq!(length(ms), expected);
        check(-5, "0s");
        check(59_999, "59s");
        check(200_000, "3m20s");
        check(3_599_000, "59m");
        check(3_600_000, "1h00m");
        check(40_000_000, "11h");
        check(86_400_000 * 11, "11d");
    }
}

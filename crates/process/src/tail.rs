//! The last lines of a child's output, in memory.
//!
//! Here live the bounded rolling text and the cut that the ledger gets. The log file is in [`crate::log`].

use crate::mask::{Mask, floor};

/// How much is kept for the end of a log that is full, in bytes.
pub(crate) const LOG_TAIL: usize = 64 << 10;
/// How much of it the ledger gets, in bytes and in lines.
const LEDGER_BYTES: usize = 4096;
const LEDGER_LINES: usize = 40;

/// Holds the last [`LOG_TAIL`] bytes of whole lines. What a full log no longer takes comes here unmasked, for speed,
/// so it is masked when it is read.
#[derive(Debug, Default)]
pub(crate) struct Tail {
    text: String,
}

impl Tail {
    /// Adds whole lines.
    pub(crate) fn push(&mut self, lines: &str) {
        self.text.push_str(lines);
        // Twice the size is let grow first, so that short lines do not move the whole text each time.
        if self.text.len() > 2 * LOG_TAIL {
            self.trim();
        }
    }

    fn trim(&mut self) {
        let start = start(&self.text, LOG_TAIL);
        self.text.drain(..start);
    }

    /// Returns all of it.
    pub(crate) fn for_log(&mut self, mask: &Mask) -> String {
        self.trim();
        mask.text(&self.text).into_owned()
    }

    /// Returns the last 40 lines, 4 KiB at most.
    pub(crate) fn for_ledger(&self, mask: &Mask) -> String {
        let recent = &self.text[start(&self.text, LOG_TAIL)..];
        let text = mask.text(recent);
        let newlines = text.trim_end().rmatch_indices('\n');
        let by_lines = newlines.map(|(i, _)| i + 1).nth(LEDGER_LINES - 1).unwrap_or(0);
        let begin = by_lines.max(start(&text, LEDGER_BYTES));
        text[begin..].trim_end().to_owned()
    }
}

/// Returns where the last `length` bytes begin: at a line, or within the last line if that alone is longer.
fn start(text: &str, length: usize) -> usize {
    let Some(earliest) = text.len().checked_sub(length).filter(|n| *n > 0) else { return 0 };
    let line = text.as_bytes()[earliest - 1..].iter().position(|b| *b == b'\n').map(|n| earliest + n);
    line.filter(|n| *n < text.len()).unwrap_or_else(|| floor(text, earliest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tail(lines: impl IntoIterator<Item = String>) -> Tail {
        let mut tail = Tail::default();
        lines.into_iter().for_each(|line| tail.push(&format!("{line}\n")));
        tail
    }

    fn ledger(tail: &Tail) -> String {
        tail.for_ledger(&Mask::default())
    }

    #[test]
    fn the_ledger_gets_forty_lines() {
        let text = ledger(&tail((0..100).map(|n| format!("line {n}"))));
        assert_eq!(text.lines().count(), 40);
        assert!(text.starts_with("line 60\n") && text.ends_with("line 99"), "{text}");
        assert_eq!(ledger(&tail((0..40).map(|n| n.to_string()))).lines().count(), 40);
        assert_eq!(ledger(&tail([])), "");
    }

    #[test]
    fn the_ledger_gets_four_kibibytes() {
        let text = ledger(&tail((0..10).map(|_| "x".repeat(1000))));
        assert_eq!(text.len(), 4 * 1001 - 1);
        let one_long_line = ledger(&tail(["é".repeat(5000)]));
        assert!((4000..=4096).contains(&one_long_line.len()), "{}", one_long_line.len());
    }

    #[test]
    fn memory_is_bounded_and_the_last_line_is_kept() {
        let mut tail = Tail::default();
        for n in 0..100_000 {
            tail.push(&format!("line {n}\n"));
            assert!(tail.text.len() <= 2 * LOG_TAIL + 20);
        }
        let text = tail.for_log(&Mask::default());
        assert!(text.len() <= LOG_TAIL && text.starts_with("line ") && text.ends_with("line 99999\n"));
    }

    #[test]
    fn what_came_unmasked_is_masked_when_it_is_read() {
        let mask = Mask::from_env([("KEY", "hunter22")]);
        let mut tail = tail(["a hunter22".to_owned()]);
        assert_eq!(tail.for_ledger(&mask), "a ***");
        assert_eq!(tail.for_log(&mask), "a ***\n");
    }
}

//! Bytes to lines, in bounded memory.
//!
//! Here lives the cutting of one stream. What is made of the lines is in [`crate::keep`].
//!
//! The one idea: what arrives as whole lines passes through as one block, whatever their number, so that a flood of
//! short lines costs little; only a line that is split over two reads is put together here.

use crate::mask::REACH;
use crate::message::MAX_MESSAGE_LINE;

/// How much of one line is kept, in bytes.
pub const MAX_LINE: usize = 64 << 10;

/// A part of a stream.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Piece<'a> {
    /// Whole lines, the last line end included. None is longer than one read.
    Block(&'a [u8]),
    /// One line without its end, and how many bytes of it were dropped.
    Line(&'a [u8], u64),
}

/// Cuts one stream.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    pending: Vec<u8>,
    dropped: u64,
    /// Whether lines may be messages, of which more is read.
    messages: bool,
}

impl Lines {
    pub(crate) fn new(messages: bool) -> Lines {
        Lines { messages, ..Lines::default() }
    }

    /// Takes the next bytes and hands out what became whole.
    pub(crate) fn feed(&mut self, mut bytes: &[u8], mut out: impl FnMut(Piece)) {
        if !self.pending.is_empty() {
            let end = bytes.iter().position(|b| *b == b'\n');
            self.extend(&bytes[..end.unwrap_or(bytes.len())]);
            let Some(end) = end else { return };
            self.flush(&mut out);
            bytes = &bytes[end + 1..];
        }
        if let Some(last) = bytes.iter().rposition(|b| *b == b'\n') {
            out(Piece::Block(&bytes[..=last]));
            bytes = &bytes[last + 1..];
        }
        self.extend(bytes);
    }

    /// Hands out the line that has begun, as at the end of the stream.
    pub(crate) fn flush(&mut self, mut out: impl FnMut(Piece)) {
        if !self.pending.is_empty() {
            out(Piece::Line(&self.pending, self.dropped));
        }
        *self = Lines::new(self.messages);
    }

    fn extend(&mut self, bytes: &[u8]) {
        let first = self.pending.iter().chain(bytes).find(|b| !b.is_ascii_whitespace());
        let limit = if self.messages && first == Some(&b'{') { MAX_MESSAGE_LINE } else { MAX_LINE + REACH };
        let room = limit.saturating_sub(self.pending.len()).min(bytes.len());
        self.pending.extend_from_slice(&bytes[..room]);
        self.dropped += (bytes.len() - room) as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feed(lines: &mut Lines, bytes: &[u8]) -> Vec<String> {
        let mut pieces = Vec::new();
        lines.feed(bytes, |piece| pieces.push(show(piece)));
        pieces
    }

    fn show(piece: Piece) -> String {
        match piece {
            Piece::Block(bytes) => format!("block {:?}", String::from_utf8_lossy(bytes)),
            Piece::Line(bytes, 0) => format!("line {:?}", String::from_utf8_lossy(bytes)),
            Piece::Line(bytes, dropped) => format!("line of {} and {dropped}", bytes.len()),
        }
    }

    fn end(mut lines: Lines) -> Vec<String> {
        let mut pieces = Vec::new();
        lines.flush(|piece| pieces.push(show(piece)));
        pieces
    }

    #[test]
    fn whole_lines_pass_as_one_block_and_split_ones_are_put_together() {
        let mut lines = Lines::new(true);
        assert_eq!(feed(&mut lines, b"a\n\nb\nc"), [r#"block "a\n\nb\n""#]);
        assert_eq!(feed(&mut lines, b"d"), [""; 0]);
        assert_eq!(feed(&mut lines, b"e\nf\ng"), [r#"line "cde""#, r#"block "f\n""#]);
        assert_eq!(feed(&mut lines, b"\n"), [r#"line "g""#]);
        assert_eq!(end(lines), [""; 0]);
    }

    #[test]
    fn a_last_line_without_an_end_is_handed_out() {
        let mut lines = Lines::new(false);
        feed(&mut lines, b"a");
        assert_eq!(end(lines), [r#"line "a""#]);
    }

    #[test]
    fn a_line_is_bounded_in_memory_and_the_rest_is_counted() {
        let check = |messages: bool, first: u8, limit: usize| {
            let mut lines = Lines::new(messages);
            feed(&mut lines, &[first]);
            for _ in 0..10 << 10 {
                feed(&mut lines, &[b'x'; 1024]);
                assert!(lines.pending.len() <= limit);
            }
            assert_eq!(end(lines), [format!("line of {limit} and {}", (10 << 20) + 1 - limit)]);
        };
        check(true, b'x', MAX_LINE + REACH);
        check(false, b'{', MAX_LINE + REACH);
        check(true, b'{', MAX_MESSAGE_LINE);
        check(true, b' ', MAX_LINE + REACH);
    }
}

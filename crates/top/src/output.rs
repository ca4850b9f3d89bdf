//! The end of an attempt's kept output, as it grows.
//!
//! Here live the reading of the file, a bounded piece at a time, and the cleaning of its lines. Where the file is, the
//! place knows.

use quorate_model::text;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

/// How much of the end is read at first, in bytes.
const BACK_MAX: u64 = 256 * 1024;
/// How much is read at once, in bytes.
const PIECE_MAX: u64 = 1024 * 1024;
/// The longest line that is kept, in characters.
const LINE_MAX: usize = 2_000;
/// Columns from one tab stop to the next.
const TAB: &str = "    ";

/// A file of output that is read on.
#[derive(Debug)]
pub(crate) struct Output {
    file: File,
    /// What follows the last end of a line.
    rest: Vec<u8>,
    /// The first line is a piece of one.
    is_inside: bool,
}

impl Output {
    /// Opens the file near its end; answers also whether something before is left out.
    pub(crate) fn open(path: &Path) -> io::Result<(Output, bool)> {
        let mut file = File::open(path)?;
        let back = file.metadata()?.len().saturating_sub(BACK_MAX);
        file.seek(SeekFrom::Start(back))?;
        Ok((Output { file, rest: Vec::new(), is_inside: back > 0 }, back > 0))
    }

    /// Reads the lines that have come since; with `all` also one that has no end yet.
    pub(crate) fn more(&mut self, all: bool) -> io::Result<Vec<String>> {
        let mut piece = std::mem::take(&mut self.rest);
        (&mut self.file).take(PIECE_MAX).read_to_end(&mut piece)?;
        let end = match piece.iter().rposition(|byte| *byte == b'\n') {
            Some(last) => last + 1,
            None => 0,
        };
        if !all || end == piece.len() {
            self.rest = piece.split_off(end);
        }
        // A line without an end must not grow for ever.
        if self.rest.len() as u64 > BACK_MAX {
            piece.append(&mut self.rest);
        }
        let mut lines = lines(&String::from_utf8_lossy(&piece));
        if std::mem::take(&mut self.is_inside) && !lines.is_empty() {
            lines.remove(0);
        }
        Ok(lines)
    }
}

/// Takes a text apart into lines that are fit to be shown.
pub(crate) fn lines(text: &str) -> Vec<String> {
    text.lines().map(clean).collect()
}

/// Takes colours and whatever else steers a terminal out of a line; of what was written over itself, the last stays.
fn clean(line: &str) -> String {
    let line = line.trim_end_matches('\r');
    let line = line.rsplit('\r').next().unwrap_or_default();
    let mut cleaned = String::new();
    let mut rest = line;
    while let Some((before, after)) = rest.split_once('\u{1b}') {
        cleaned.push_str(before);
        rest = behind_sequence(after);
    }
    cleaned.push_str(rest);
    let cleaned: String = text::lines(&cleaned.replace('\t', TAB)).chars().take(LINE_MAX).collect();
    cleaned
}

/// Skips what follows an escape character: `[…m` and its kind, `]…BEL`, `(B`, or one letter.
fn behind_sequence(text: &str) -> &str {
    let mut chars = text.char_indices();
    match chars.next() {
        Some((_, '[')) => chars
            .find(|(_, c)| ('\u{40}'..='\u{7e}').contains(c))
            .map_or("", |(at, c)| &text[at + c.len_utf8()..]),
        Some((_, ']')) => {
            let end = text.find(['\u{7}', '\u{1b}']);
            end.map_or("", |at| text[at..].trim_start_matches('\u{7}').trim_start_matches("\u{1b}\\"))
        }
        Some((_, '(' | ')')) => chars.nth(1).map_or("", |(at, _)| &text[at..]),
        Some((_, c)) => &text[c.len_utf8()..],
        None => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn lines_are_cleaned() {
        let check = |line: &str, expected: &str| assert_eq!(clean(line), expected, "{line:?}");
        check("plain", "plain");
        check("\u{1b}[1;31mred\u{1b}[0m end", "red end");
        check("\u{1b}[2J\u{1b}[Hgone", "gone");
        check("\u{1b}]0;title\u{7}text", "text");
        check("\u{1b}]8;;url\u{1b}\\link", "link");
        check("\u{1b}(Btext", "text");
        check("10 %\r50 %\r100 %\r", "100 %");
        check("a\tb", "a    b");
        check("bell\u{7}", "bell\u{fffd}");
        check("cut \u{1b}[31", "cut ");
        check("cut \u{1b}", "cut ");
        assert_eq!(clean(&"x".repeat(LINE_MAX + 1)).len(), LINE_MAX);
    }

    #[test]
    fn output_is_read_as_it_grows() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("log");
        let mut file = File::create(&path).expect("a file");
        write!(file, "one\ntwo\nthr").expect("written");
        let (mut output, is_cut) = Output::open(&path).expect("it is there");
        assert!(!is_cut);
        assert_eq!(output.more(false).expect("read"), ["one", "two"]);
        assert!(output.more(false).expect("read").is_empty());
        write!(file, "ee\nfour").expect("written");
        assert_eq!(output.more(false).expect("read"), ["three"]);
        assert_eq!(output.more(true).expect("read"), ["four"]);
        assert!(output.more(true).expect("read").is_empty());
    }

    #[test]
    fn of_long_output_the_end_is_read_from_a_whole_line() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("log");
        let line = format!("{}\n", "x".repeat(99));
        let fits = usize::try_from(BACK_MAX).expect("small") / 100;
        std::fs::write(&path, line.repeat(fits)).expect("written");
        let (mut output, is_cut) = Output::open(&path).expect("it is there");
        assert_eq!((output.more(false).expect("read").len(), is_cut), (fits, false));
        std::fs::write(&path, line.repeat(fits + 2)).expect("written");
        let (mut output, is_cut) = Output::open(&path).expect("it is there");
        let lines = output.more(false).expect("read");
        assert!(is_cut);
        assert!(lines.len() >= fits - 1 && lines.iter().all(|line| line.len() == 99), "{}", lines.len());
    }

    #[test]
    fn a_line_without_an_end_does_not_grow_for_ever() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("log");
        let mut file = File::create(&path).expect("a file");
        let (mut output, _) = Output::open(&path).expect("it is there");
        let long = vec![b'x'; usize::try_from(BACK_MAX).expect("small") + 1];
        file.write_all(&long).expect("written");
        assert_eq!(output.more(false).expect("read").len(), 1);
        assert!(output.rest.is_empty());
    }
}

//! What is wrong in a file, where, and how to mend it.
//!
//! Here live one finding with its place and excerpt, and the list of findings of one file. Finding them is the
//! readers' work ([`crate::document`], [`crate::plan`], [`crate::config`]). An excerpt is safe to print:
//! it is one short line without control characters, whatever the file holds.

use crate::error::Error;
use std::fmt;
use std::ops::Range;

/// How many findings one list keeps; the rest are counted.
pub const MAX_DIAGNOSTICS: usize = 20;

/// The longest excerpt, in characters; a longer line is shown around its caret.
const EXCERPT_MAX: usize = 120;

/// How much of a long line is shown before its caret, in characters.
const EXCERPT_BEFORE: usize = 40;

/// The longest quotation of the user's words inside a message, in characters.
const QUOTE_MAX: usize = 60;

/// One finding in one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// The file, as the user named it.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
    /// What is wrong and what was expected: a lowercase fragment.
    pub message: String,
    /// What mends it.
    pub help: Option<String>,
    /// The line of the file, or the part of it around the caret.
    pub source_line: String,
    /// Which characters of `source_line` are meant. Never empty.
    pub caret: Range<usize>,
}

impl Diagnostic {
    /// Makes a finding at the bytes `span` of `text`; a span beyond the text means its end.
    pub fn at(file: &str, text: &str, span: Range<usize>, message: impl Into<String>) -> Diagnostic {
        let start = floor_char_boundary(text, span.start);
        let line_start = text[..start].rfind('\n').map_or(0, |newline| newline + 1);
        let line_end = text[start..].find('\n').map_or(text.len(), |newline| start + newline);
        let end = floor_char_boundary(text, span.end).clamp(start, line_end);
        let before = text[line_start..start].chars().count();
        let (source_line, caret) =
            excerpt(&text[line_start..line_end], before, text[start..end].chars().count());
        let line = 1 + text[..line_start].bytes().filter(|b| *b == b'\n').count();
        let (file, message) = (file.to_string(), message.into());
        Diagnostic { file, line, column: before + 1, message, help: None, source_line, caret }
    }

    /// Adds what mends it.
    #[must_use]
    pub fn help(mut self, help: Option<String>) -> Diagnostic {
        self.help = help;
        self
    }

    /// Writes everything but the help.
    fn write_finding(&self, f: &mut impl fmt::Write) -> fmt::Result {
        let number = self.line.to_string();
        let gutter = " ".repeat(number.len());
        let indent = " ".repeat(self.caret.start);
        let carets = "^".repeat(self.caret.len());
        writeln!(f, "{}:{}:{}: {}", self.file, self.line, self.column, self.message)?;
        writeln!(f, "{number} | {}", self.source_line)?;
        write!(f, "{gutter} | {indent}{carets}")
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write_finding(f)?;
        match &self.help {
            Some(help) => write!(f, "\nhelp: {help}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Diagnostic {}

impl From<Diagnostic> for Error {
    fn from(diagnostic: Diagnostic) -> Error {
        let mut message = String::new();
        diagnostic.write_finding(&mut message).expect("writing to a string cannot fail");
        Error { hint: diagnostic.help, ..Error::invalid(message) }
    }
}

/// The findings of one file in the order of their places: at least one, at most [`MAX_DIAGNOSTICS`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostics {
    /// The findings that were kept.
    pub list: Vec<Diagnostic>,
    /// How many more there were.
    pub hidden: usize,
}

impl From<Diagnostic> for Diagnostics {
    fn from(diagnostic: Diagnostic) -> Diagnostics {
        Diagnostics { list: vec![diagnostic], hidden: 0 }
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, diagnostic) in self.list.iter().enumerate() {
            let gap = if place == 0 { "" } else { "\n" };
            write!(f, "{gap}{diagnostic}")?;
        }
        match self.hidden {
            0 => Ok(()),
            hidden => write!(f, "\n… and {hidden} more"),
        }
    }
}

impl std::error::Error for Diagnostics {}

impl From<Diagnostics> for Error {
    fn from(mut diagnostics: Diagnostics) -> Error {
        if diagnostics.list.len() == 1 && diagnostics.hidden == 0 {
            return diagnostics.list.remove(0).into();
        }
        let places = diagnostics.list.len() + diagnostics.hidden;
        Error::invalid(diagnostics.to_string()).hint(format!("mend the {places} places named above"))
    }
}

/// Quotes the user's words for a message: in backticks, one line, cut when long.
pub fn quote(text: &str) -> String {
    let mut quoted: String = text.chars().take(QUOTE_MAX).map(printable).collect();
    if text.chars().nth(QUOTE_MAX).is_some() {
        quoted.push('…');
    }
    format!("`{quoted}`")
}

/// Returns the line, or the part of it around the caret, and where the caret is in it.
fn excerpt(line: &str, before: usize, width: usize) -> (String, Range<usize>) {
    let line = line.strip_suffix('\r').unwrap_or(line);
    let long = line.chars().nth(EXCERPT_MAX).is_some();
    let skipped = if long { before.saturating_sub(EXCERPT_BEFORE) } else { 0 };
    let mut shown = String::new();
    if skipped > 0 {
        shown.push('…');
    }
    let mut rest = line.chars().skip(skipped);
    shown.extend(rest.by_ref().take(EXCERPT_MAX).map(printable));
    let end = shown.chars().count();
    if rest.next().is_some() {
        shown.push('…');
    }
    let start = (before - skipped + usize::from(skipped > 0)).min(end);
    (shown, start..(start + width).min(end).max(start + 1))
}

/// Replaces what would move a terminal's cursor or turn the direction of its text.
fn printable(c: char) -> char {
    match c {
        '\t' => ' ',
        '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => '\u{fffd}',
        c if c.is_control() => '\u{fffd}',
        c => c,
    }
}

/// Returns the last place at or before `index` that is between two characters.
pub fn floor_char_boundary(text: &str, index: usize) -> usize {
    let mut index = index.min(text.len());
    while !text.is_char_boundary(index) {
        index -= 1;
    }
    index
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(text: &str, span: Range<usize>) -> Diagnostic {
        Diagnostic::at("plan.toml", text, span, "unknown key `neds`")
    }

    #[test]
    fn a_finding_shows_its_place_its_line_and_its_help() {
        let finding = at("[[task]]\n\tneds = 1\r\nx", 10..14).help(Some("did you mean `needs`?".into()));
        let expected =
            "plan.toml:2:2: unknown key `neds`\n2 |  neds = 1\n  |  ^^^^\nhelp: did you mean `needs`?";
        assert_eq!(finding.to_string(), expected);
    }

    #[test]
    fn a_finding_becomes_an_error_with_its_help_as_hint() {
        let error = Error::from(at("neds = 1", 0..4).help(Some("do this".into())));
        assert_eq!(error.message, "plan.toml:1:1: unknown key `neds`\n1 | neds = 1\n  | ^^^^");
        assert_eq!(error.hint.as_deref(), Some("do this"));
        assert_eq!(error.kind, crate::error::Kind::Invalid);
    }

    #[test]
    fn several_findings_become_one_error() {
        let list = vec![at("a", 0..1).help(Some("x".into())), at("b", 0..1)];
        let error = Error::from(Diagnostics { list, hidden: 3 });
        assert_eq!(error.message.matches("plan.toml:1:1").count(), 2);
        assert!(error.message.contains("help: x") && error.message.ends_with("… and 3 more"));
        assert_eq!(error.hint.as_deref(), Some("mend the 5 places named above"));
    }

    #[test]
    fn a_long_line_is_shown_around_its_caret() {
        let text = format!("{}HERE{}", "x".repeat(5000), "y".repeat(5000));
        let finding = at(&text, 5000..5004);
        assert_eq!(finding.column, 5001);
        assert_eq!(finding.source_line.chars().count(), EXCERPT_MAX + 2);
        let pointed: String =
            finding.source_line.chars().skip(finding.caret.start).take(finding.caret.len()).collect();
        assert_eq!(pointed, "HERE");
        assert!(at(&text, 0..10_004).caret.len() <= EXCERPT_MAX);
    }

    #[test]
    fn an_excerpt_cannot_steer_a_terminal() {
        let finding = at("a\u{1b}[2Jb\u{202e}c", 0..1);
        assert_eq!(finding.source_line, "a\u{fffd}[2Jb\u{fffd}c");
        assert_eq!(quote("a\nb"), "`a\u{fffd}b`");
        assert_eq!(quote(&"x".repeat(10_000)).chars().count(), QUOTE_MAX + 3);
    }

    #[test]
    fn a_span_beyond_the_text_means_its_end() {
        let finding = at("a\n", 900..950);
        assert_eq!((finding.line, finding.column, finding.caret), (2, 1, 0..1));
    }

    proptest! {
        #[test]
        fn no_span_panics(text in "[aé\\n\\r…]{0,200}", start in 0usize..300, length in 0usize..300) {
            let finding = at(&text, start..start + length);
            prop_assert!(!finding.caret.is_empty());
            prop_assert!(finding.caret.end <= finding.source_line.chars().count() + 1);
        }
    }
}

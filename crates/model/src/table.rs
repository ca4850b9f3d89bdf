//! Reading a table key by key.
//!
//! Here lives the reader that takes known keys with their types and, at the end, refuses what is left. What the
//! keys mean is not known here. The idea: the keys that a reader asks for *are* the list of known keys, so that
//! the list in the message can never be out of date.

use crate::diagnostic::quote;
use crate::document::{Entry, Node, NodeKind, Source, Spanned};
use crate::duration;
use crate::error::nearest;
use std::ops::{Range, RangeInclusive};

/// A mistyped word longer than this is not compared with others, in bytes.
const TYPO_MAX: usize = 64;

/// How many candidates a mistyped word is compared with.
const CANDIDATES_MAX: usize = 2000;

/// A table being read. Take what is known, then [`Table::finish`].
#[derive(Debug)]
pub struct Table<'s, 'a> {
    source: &'s Source<'a>,
    span: Range<usize>,
    entries: Vec<Entry>,
    known: Vec<&'static str>,
}

impl<'s, 'a> Table<'s, 'a> {
    /// Begins to read `node`; `what` says what was expected, for the message. Notes a finding if it is no table.
    pub fn new(source: &'s Source<'a>, node: Node, what: &str) -> Option<Table<'s, 'a>> {
        match node.kind {
            NodeKind::Table(entries) => Some(Table { source, span: node.span, entries, known: Vec::new() }),
            other => {
                wrong_type(source, node.span, what, &other);
                None
            }
        }
    }

    /// Returns the bytes of the table; in TOML those of its header.
    pub fn span(&self) -> Range<usize> {
        self.span.clone()
    }

    /// Returns an entry without taking it.
    pub fn find(&self, key: &str) -> Option<&Entry> {
        self.entries.iter().find(|e| e.key == key)
    }

    /// Takes any value. A JSON `null` means that the key is not given.
    pub fn take(&mut self, key: &'static str) -> Option<Entry> {
        self.known.push(key);
        let place = self.entries.iter().position(|e| e.key == key)?;
        Some(self.entries.swap_remove(place)).filter(|e| e.value.kind != NodeKind::Null)
    }

    /// Takes a text. A text with a NUL character is refused: neither a process nor a database can hold it.
    pub fn string(&mut self, key: &'static str) -> Option<Spanned<String>> {
        let entry = self.take(key)?;
        as_string(self.source, entry.value, &expected(key, "a string"))
    }

    /// Takes a list of texts.
    pub fn strings(&mut self, key: &'static str) -> Option<Vec<Spanned<String>>> {
        let entry = self.take(key)?;
        let what = expected(key, "an array of strings");
        match entry.value.kind {
            NodeKind::Array(items) => {
                Some(items.into_iter().filter_map(|item| as_string(self.source, item, &what)).collect())
            }
            other => {
                wrong_type(self.source, entry.value.span, &what, &other);
                None
            }
        }
    }

    /// Takes a whole number within `range`.
    pub fn integer(&mut self, key: &'static str, range: RangeInclusive<i64>) -> Option<Spanned<i64>> {
        let Node { span, kind } = self.take(key)?.value;
        let what = match (*range.start(), *range.end()) {
            (low, i64::MAX) => format!("`{key}` must be a whole number, at least {low}"),
            (low, high) => format!("`{key}` must be a whole number from {low} to {high}"),
        };
        match kind {
            NodeKind::Integer(value) if range.contains(&value) => Some(Spanned { value, span }),
            NodeKind::Integer(value) => {
                self.source.refuse(span, format!("{what}, not {value}"));
                None
            }
            other => {
                wrong_type(self.source, span, &what, &other);
                None
            }
        }
    }

    /// Takes a finite number that is not negative.
    pub fn amount(&mut self, key: &'static str) -> Option<f64> {
        let Node { span, kind } = self.take(key)?.value;
        let what = format!("`{key}` must be a number, at least 0");
        match kind {
            NodeKind::Integer(value) if value >= 0 => Some(value as f64),
            NodeKind::Number(value) if value >= 0.0 && value.is_finite() => Some(value),
            NodeKind::Integer(_) | NodeKind::Number(_) => {
                self.source.refuse(span, what);
                None
            }
            other => {
                wrong_type(self.source, span, &what, &other);
                None
            }
        }
    }

    /// Takes `true` or `false`.
    pub fn boolean(&mut self, key: &'static str) -> Option<bool> {
        let Node { span, kind } = self.take(key)?.value;
        match kind {
            NodeKind::Boolean(value) => Some(value),
            other => {
                wrong_type(self.source, span, &expected(key, "`true` or `false`"), &other);
                None
            }
        }
    }

    /// Takes a duration of at least `least_ms`, in milliseconds.
    pub fn duration_ms(&mut self, key: &'static str, least_ms: i64) -> Option<i64> {
        let Node { span, kind } = self.take(key)?.value;
        let NodeKind::String(text) = kind else {
            let what = expected(key, "a duration in quotes, such as \"30s\"");
            wrong_type(self.source, span, &what, &kind);
            return None;
        };
        match duration::parse(&text) {
            Ok(ms) if ms >= least_ms => Some(ms),
            Ok(_) => {
                let least = duration::short(least_ms);
                self.source.refuse(span, format!("`{key}` must be at least {least}, not {}", quote(&text)));
                None
            }
            Err(error) => {
                self.source.refuse_error(span, error);
                None
            }
        }
    }

    /// Takes a text and reads it with `parse`, whose error is noted at the text.
    pub fn parsed<T>(
        &mut self,
        key: &'static str,
        parse: impl FnOnce(&str) -> crate::error::Result<T>,
    ) -> Option<T> {
        let text = self.string(key)?;
        parse(&text.value).map_err(|error| self.source.refuse_error(text.span, error)).ok()
    }

    /// Takes a table.
    pub fn table(&mut self, key: &'static str) -> Option<Table<'s, 'a>> {
        let entry = self.take(key)?;
        Table::new(self.source, entry.value, &expected(key, "a table"))
    }

    /// Takes a list of any values.
    pub fn array(&mut self, key: &'static str, what: &str) -> Option<Vec<Node>> {
        let entry = self.take(key)?;
        match entry.value.kind {
            NodeKind::Array(items) => Some(items),
            other => {
                wrong_type(self.source, entry.value.span, &expected(key, what), &other);
                None
            }
        }
    }

    /// Returns every entry that was not taken, in the order of the file: for tables with free keys.
    pub fn rest(mut self) -> Vec<Entry> {
        self.entries.sort_by_key(|e| e.key_span.start);
        self.entries
    }

    /// Refuses every key that was not asked for, with the nearest known key.
    pub fn finish(mut self) {
        self.entries.sort_by_key(|e| e.key_span.start);
        for entry in &self.entries {
            self.source.refuse_with(
                entry.key_span.clone(),
                format!("unknown key {}", quote(&entry.key)),
                || Some(self.known_key_like(&entry.key)),
            );
        }
    }

    fn known_key_like(&self, key: &str) -> String {
        did_you_mean(key, self.known.iter().copied())
            .unwrap_or_else(|| format!("the keys known here are: {}", self.known.join(", ")))
    }
}

/// Reads a text, or notes a finding that says `what` was expected.
pub fn as_string(source: &Source<'_>, node: Node, what: &str) -> Option<Spanned<String>> {
    match node.kind {
        NodeKind::String(value) if value.contains('\0') => {
            source.refuse(node.span, format!("{what} without NUL characters"));
            None
        }
        NodeKind::String(value) => Some(Spanned { value, span: node.span }),
        other => {
            wrong_type(source, node.span, what, &other);
            None
        }
    }
}

/// Returns a question that names the candidate nearest to `word`, if one is near.
///
/// Work is bounded whatever the file holds: long words and candidates far down the list are not compared.
pub fn did_you_mean<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<String> {
    if word.len() > TYPO_MAX {
        return None;
    }
    let alike = candidates.into_iter().filter(|c| c.len() <= 2 * word.len() + 2).take(CANDIDATES_MAX);
    nearest(word, alike).map(|near| format!("did you mean `{near}`?"))
}

fn expected(key: &str, what: &str) -> String {
    format!("`{key}` must be {what}")
}

fn wrong_type(source: &Source<'_>, span: Range<usize>, what: &str, found: &NodeKind) {
    source.refuse(span, format!("{what}, not {}", found.name()));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostic::Diagnostics;

    /// Reads one key with `read` and then finishes.
    fn read<T>(text: &str, read: impl FnOnce(&mut Table<'_, '_>) -> T) -> Result<T, Diagnostics> {
        let source = Source::open("f.toml", text.as_bytes())?;
        let mut table = Table::new(&source, source.read_toml()?, "a table").expect("a table");
        let value = read(&mut table);
        table.finish();
        source.verdict(value)
    }

    fn refuse<T: std::fmt::Debug>(text: &str, reader: impl FnOnce(&mut Table<'_, '_>) -> T, expected: &str) {
        let found = read(text, reader).expect_err(text).to_string();
        assert!(found.contains(expected), "{text}:\n{found}");
    }

    #[test]
    fn known_keys_are_taken_with_their_types() {
        assert_eq!(read("k = 'v'", |t| t.string("k").map(|s| s.value)), Ok(Some("v".to_string())));
        assert_eq!(read("k = 3", |t| t.integer("k", 1..=3).map(|s| s.value)), Ok(Some(3)));
        assert_eq!(read("k = 3", |t| t.amount("k")), Ok(Some(3.0)));
        assert_eq!(read("k = true", |t| t.boolean("k")), Ok(Some(true)));
        assert_eq!(read("k = '2s'", |t| t.duration_ms("k", 100)), Ok(Some(2000)));
        assert_eq!(read("k = ['a']", |t| t.strings("k").map(|s| s.len())), Ok(Some(1)));
        assert_eq!(read("", |t| t.string("k")), Ok(None));
    }

    #[test]
    fn wrong_types_and_values_say_what_was_expected() {
        refuse("k = 3", |t| t.string("k"), "f.toml:1:5: `k` must be a string, not an integer");
        refuse("k = 'a'", |t| t.strings("k"), "`k` must be an array of strings, not a string");
        refuse(
            "k = ['a', 2]",
            |t| t.strings("k"),
            "f.toml:1:11: `k` must be an array of strings, not an integer",
        );
        refuse("k = 4", |t| t.integer("k", 1..=3), "`k` must be a whole number from 1 to 3, not 4");
        refuse("k = '4'", |t| t.integer("k", 0..=i64::MAX), "at least 0, not a string");
        refuse("k = -1", |t| t.amount("k"), "at least 0");
        refuse("k = nan", |t| t.amount("k"), "at least 0");
        refuse("k = inf", |t| t.amount("k"), "at least 0");
        refuse(
            "k = 10",
            |t| t.duration_ms("k", 100),
            "a duration in quotes, such as \"30s\", not an integer",
        );
        refuse("k = '10'", |t| t.duration_ms("k", 100), "number without a unit");
        refuse("k = '99ms'", |t| t.duration_ms("k", 100), "`k` must be at least 100ms, not `99ms`");
        refuse("k = 1", |t| t.table("k").map(Table::finish), "`k` must be a table, not an integer");
        refuse("k = \"a\\u0000\"", |t| t.string("k"), "without NUL");
        refuse("k = 2026-01-01", |t| t.string("k"), "not a date or time");
    }

    #[test]
    fn unknown_keys_name_the_nearest_or_all() {
        refuse(
            "neds = 1",
            |t| t.take("needs"),
            "unknown key `neds`\n1 | neds = 1\n  | ^^^^\nhelp: did you mean `needs`?",
        );
        refuse("xyzzy = 1", |t| (t.take("a"), t.take("b")), "help: the keys known here are: a, b");
    }

    #[test]
    fn a_huge_unknown_word_is_not_compared() {
        let word = "x".repeat(1 << 20);
        assert_eq!(did_you_mean(&word, ["needs"]), None);
        refuse(&format!("{word} = 1"), |t| t.take("needs"), "help: the keys known here are: needs");
    }
}

//! Secrets out of everything that is kept.
//!
//! Here live the choice of what is secret and the masking of text and JSON. It works on whole lines: whoever feeds it
//! puts lines together first, so that a secret that arrives in two pieces is still one.
//!
//! Two nets: the values of variables with telling names, and the shapes of well-known tokens. Neither is complete
//! (a secret that a program encodes or splits over lines of its own passes), so logs stay private files as well.

use serde_json::Value;
use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

/// What stands in a secret's place.
const MASKED: &str = "***";
/// A shorter value is too common to be taken for a secret, in characters.
const MIN_SECRET: usize = 6;
/// Longer values are looked for in pieces of this many bytes.
const MAX_PIECE: usize = 1024;
/// How far behind a cut a secret that began before it can reach, in bytes.
pub(crate) const REACH: usize = 4 * MAX_PIECE;

/// Parts of names that tell a secret. `KEY` only ends a word, since `KEYBOARD` and `KEYMAP` are no secrets.
const TELLING: [&str; 5] = ["TOKEN", "SECRET", "PASSWORD", "PASSWD", "CREDENTIAL"];

/// Tokens known by how they begin, the least number of characters that follow, and which may, besides letters,
/// digits, `-` and `_`.
const SHAPES: [(&str, usize, &str); 17] = [
    ("sk-", 16, ""),
    ("ghp_", 20, ""),
    ("gho_", 20, ""),
    ("ghs_", 20, ""),
    ("ghu_", 20, ""),
    ("ghr_", 20, ""),
    ("github_pat_", 20, ""),
    ("glpat-", 16, ""),
    ("xoxb-", 10, ""),
    ("xoxp-", 10, ""),
    ("AKIA", 16, ""),
    ("ASIA", 16, ""),
    ("AIza", 30, ""),
    ("eyJ", 30, "."),
    ("ntn_", 20, ""),
    ("Bearer ", 8, ".~+/="),
    ("bearer ", 8, ".~+/="),
];

/// Knows some secrets and finds them in text.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Mask {
    pieces: Vec<String>,
}

/// Says how many it knows, and none of them.
impl fmt::Debug for Mask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mask({} values)", self.pieces.len())
    }
}

impl Mask {
    /// Takes the values of those variables whose names tell a secret; pass the supervisor's own environment
    /// (the child's is added when it is started).
    ///
    /// ```
    /// let mask = quorate_process::Mask::from_env([("API_KEY", "hunter22"), ("EDITOR", "vi-improved")]);
    /// assert_eq!(mask.text("hunter22 uses vi-improved"), "*** uses vi-improved");
    /// ```
    pub fn from_env<N: AsRef<str>, V: AsRef<str>>(variables: impl IntoIterator<Item = (N, V)>) -> Mask {
        let mut mask = Mask::default();
        mask.add_env(variables);
        mask
    }

    /// Adds the values of those variables whose names tell a secret.
    pub fn add_env<N: AsRef<str>, V: AsRef<str>>(&mut self, variables: impl IntoIterator<Item = (N, V)>) {
        variables.into_iter().filter(|(n, _)| is_telling(n.as_ref())).for_each(|(_, v)| self.add(v.as_ref()));
    }

    /// Adds a value, in each of its lines. Lines shorter than 6 characters are left alone.
    pub fn add(&mut self, secret: &str) {
        for line in secret.lines().map(str::trim).filter(|l| l.chars().count() >= MIN_SECRET) {
            self.add_line(line);
            let quoted = Value::from(line).to_string();
            self.add_line(&quoted[1..quoted.len() - 1]);
        }
        self.pieces.sort_unstable();
        self.pieces.dedup();
    }

    fn add_line(&mut self, mut line: &str) {
        while line.len() > MAX_PIECE + MIN_SECRET * 4 {
            let (piece, rest) = line.split_at(floor(line, MAX_PIECE));
            self.pieces.push(piece.to_owned());
            line = rest;
        }
        self.pieces.push(line.to_owned());
    }

    /// Masks what is secret in a text of whole lines.
    pub fn text<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let secrets = self.secrets(text);
        if secrets.is_empty() { Cow::Borrowed(text) } else { Cow::Owned(render(text, &secrets, text.len())) }
    }

    /// Masks what is secret in every string of a JSON value, names included.
    pub fn value(&self, value: Value) -> Value {
        match value {
            Value::String(text) => self.text(&text).into_owned().into(),
            Value::Array(items) => items.into_iter().map(|v| self.value(v)).collect(),
            Value::Object(members) => {
                members.into_iter().map(|(k, v)| (self.text(&k).into_owned(), self.value(v))).collect()
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => value,
        }
    }

    /// Masks the first `at` bytes of a text; of a secret that reaches over the cut nothing is left.
    pub(crate) fn cut(&self, text: &str, at: usize) -> String {
        render(text, &self.secrets(text), floor(text, at))
    }

    /// Returns where secrets are, in order and apart.
    fn secrets(&self, text: &str) -> Vec<Range<usize>> {
        let mut found: Vec<Range<usize>> = self.pieces.iter().flat_map(|piece| places(text, piece)).collect();
        found.extend(SHAPES.iter().flat_map(|shape| tokens(text, shape)));
        found.extend(passwords(text));
        found.extend(query_passwords(text));
        found.sort_unstable_by_key(|r| (r.start, r.end));
        found.dedup_by(|next, last| {
            let joined = next.start <= last.end;
            if joined {
                last.end = last.end.max(next.end);
            }
            joined
        });
        found
    }
}

fn is_telling(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    name.split('_').any(|word| {
        word.ends_with("KEY")
            || word.ends_with("KEYS")
            || (word != "TOKENS" && TELLING.iter().any(|part| word.contains(part)))
    })
}

fn render(text: &str, secrets: &[Range<usize>], end: usize) -> String {
    let mut out = String::with_capacity(end);
    let mut position = 0;
    for secret in secrets.iter().filter(|s| s.start < end) {
        out.push_str(&text[position..secret.start]);
        out.push_str(MASKED);
        position = secret.end;
    }
    out.push_str(text.get(position..end).unwrap_or_default());
    out
}

/// Finds a piece wherever it is, also where it overlaps itself: pieces of one secret must meet without a gap.
fn places<'a>(text: &'a str, piece: &'a str) -> impl Iterator<Item = Range<usize>> + 'a {
    let step = piece.chars().next().map_or(1, char::len_utf8);
    let next = move |from: usize| {
        let at = from + text.get(from..)?.find(piece)?;
        Some(at..at + piece.len())
    };
    std::iter::successors(next(0), move |last| next(last.start + step))
}

/// Finds tokens of one shape; how they begin stays, so that a person can tell what was there.
///
/// Each part of the text is looked at once, however often the beginning comes again within what follows it.
fn tokens<'a>(
    text: &'a str,
    (start, least, also): &'a (&str, usize, &str),
) -> impl Iterator<Item = Range<usize>> + 'a {
    let mut from = 0;
    std::iter::from_fn(move || {
        loop {
            let at = from + text[from..].find(start)?;
            let begin = at + start.len();
            from = begin;
            if text[..at].ends_with(|c: char| c.is_ascii_alphanumeric()) {
                continue;
            }
            let rest = &text[begin..];
            let length = rest
                .find(|c: char| !(c.is_ascii_alphanumeric() || c == '-' || c == '_' || also.contains(c)))
                .unwrap_or(rest.len());
            // What begins in there ends there too, so it is part of this one, or shorter still. Only a beginning that
            // reaches over the end (`Bearer ` has a space) does not.
            from = begin + (length + 1).saturating_sub(start.len());
            if length >= *least {
                return Some(begin..begin + length);
            }
        }
    })
}

/// How the addresses of a ledger begin, whose driver takes all up to an `@` for user and password.
const STORES: [&str; 2] = ["postgres", "postgresql"];
/// A longer name in an address's query names no password, in bytes.
const NAME_MAX: usize = 48;

/// Finds the passwords in `scheme://user:password@host`.
fn passwords(text: &str) -> impl Iterator<Item = Range<usize>> + '_ {
    let mut from = 0;
    std::iter::from_fn(move || {
        loop {
            let at = from + text[from..].find("://")?;
            let begin = at + 3;
            let (is_store, rest) = (STORES.iter().any(|scheme| text[..at].ends_with(scheme)), &text[begin..]);
            let end = if is_store { store_credentials(rest) } else { credentials(rest) };
            from = begin + end.unwrap_or(0);
            let colon = rest[..end.unwrap_or(0)].find(':').map(|colon| begin + colon + 1);
            if let Some(password) = colon.filter(|password| *password < from) {
                return Some(password..from);
            }
        }
    })
}

/// Returns where user and password end: at the last `@` before the path.
fn credentials(rest: &str) -> Option<usize> {
    rest[..word(rest, "/?#")].rfind('@')
}

/// The same for a ledger's address, in whose password there may be a `/`, and a `?` before the first `@`.
fn store_credentials(rest: &str) -> Option<usize> {
    let rest = &rest[..floor(rest, REACH)];
    let address = &rest[..word(rest, "")];
    let place = address.find('?').map_or(address, |query| &address[..query]);
    place.rfind('@').or_else(|| address.find('@'))
}

/// Finds the passwords in `…?password=word&…`.
fn query_passwords(text: &str) -> impl Iterator<Item = Range<usize>> + '_ {
    let mut from = 0;
    std::iter::from_fn(move || {
        loop {
            let begin = from + text[from..].find(['?', '&'])? + 1;
            from = begin;
            let name = &text[begin..][..floor(&text[begin..], NAME_MAX)];
            let Some((name, _)) = name.split_once('=').filter(|(name, _)| names_password(name)) else {
                continue;
            };
            let value = begin + name.len() + 1;
            from = value + word(&text[value..], "&#");
            if value < from {
                return Some(value..from);
            }
        }
    })
}

fn names_password(name: &str) -> bool {
    let name = percent_decoded(name);
    name.to_ascii_lowercase().contains("passw") && !name.contains(char::is_whitespace)
}

/// Reads `%61` as `a`, as the driver of a ledger does in names.
fn percent_decoded(name: &str) -> String {
    let mut parts = name.split('%');
    let mut decoded = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let code = part.get(..2).and_then(|code| u8::from_str_radix(code, 16).ok()).filter(u8::is_ascii);
        decoded.extend(code.map(char::from));
        decoded.push_str(&part[code.map_or(0, |_| 2)..]);
    }
    decoded
}

/// Returns where a part of an address ends that is not quoted: at white space, a quote, or one of `also`.
fn word(text: &str, also: &str) -> usize {
    let ends = |c: char| c.is_whitespace() || "\"'<>`\\".contains(c) || also.contains(c);
    text.find(ends).unwrap_or(text.len())
}

/// Returns the last place at or before `at` where a text can be cut.
pub(crate) fn floor(text: &str, at: usize) -> usize {
    (0..=at.min(text.len())).rev().find(|i| text.is_char_boundary(*i)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(text: &str, expected: &str) {
        let mask = Mask::from_env([("DB_PASSWORD", "correct horse"), ("APIKEY", "k3y-\"quoted\"")]);
        assert_eq!(mask.text(text), expected);
    }

    #[test]
    fn values_of_telling_variables_are_masked() {
        check("is correct horse, twice correct horsecorrect horse", "is ***, twice ***");
        check(r#"{"k":"k3y-\"quoted\""} or k3y-"quoted""#, r#"{"k":"***"} or ***"#);
        check("correct hors", "correct hors");
    }

    #[test]
    fn well_known_shapes_are_masked() {
        check("key sk-one-0123456789abcdef.", "key sk-***.");
        check("task-1234567890123456789", "task-1234567890123456789");
        check("ghp_0123456789abcdefghij x", "ghp_*** x");
        check("AKIAIOSFODNN7EXAMPLE", "AKIA***");
        check("Authorization: Bearer abc.def/123=", "Authorization: Bearer ***");
        check("postgres://me:p@ss:w@host/db", "postgres://me:***@host/db");
        check("https://host:80/a@b http://me@host", "https://host:80/a@b http://me@host");
        check("Bearer -Bearer secret12", "Bearer -Bearer ***");
    }

    #[test]
    fn passwords_of_a_ledger_are_masked_in_each_form_its_driver_takes() {
        check("postgres://me:pa/ss@host/db", "postgres://me:***@host/db");
        check("to postgresql://me:p?a@host/db.", "to postgresql://me:***@host/db.");
        check("postgres://me:pa@ss@host/db?a=b@c", "postgres://me:***@host/db?a=b@c");
        check("postgres://host/db?password=s3cret&a=b", "postgres://host/db?password=***&a=b");
        check(
            "postgres://host/db?a=b&p%61ssword=s3cret \"x\"",
            "postgres://host/db?a=b&p%61ssword=*** \"x\"",
        );
        check("postgres://me@host/db?password=", "postgres://me@host/db?password=");
        check("a?b&passwd=c and password=d", "a?b&passwd=*** and password=d");
    }

    #[test]
    fn a_line_of_one_beginning_after_the_other_is_read_once() {
        let text = "sk-".repeat(200_000);
        let begun = std::time::Instant::now();
        assert_eq!(Mask::default().text(&text), "sk-***");
        // Looked at again from each beginning it would take minutes.
        assert!(begun.elapsed().as_secs() < 20, "{:?}", begun.elapsed());
    }

    #[test]
    fn names_tell_secrets() {
        let check = |name: &str, expected: bool| assert_eq!(is_telling(name), expected, "{name}");
        ["ANTHROPIC_API_KEY", "QUORATE_TOKEN", "apikey", "PGPASSWORD", "AWS_CREDENTIALS", "SECRET"]
            .into_iter()
            .for_each(|name| check(name, true));
        ["KEYBOARD_LAYOUT", "MAX_OUTPUT_TOKENS", "PATH", "EDITOR"].into_iter().for_each(|n| check(n, false));
    }

    #[test]
    fn short_values_are_left_alone() {
        let mask = Mask::from_env([("A_KEY", "12345"), ("B_KEY", "123456")]);
        assert_eq!(mask.text("12345 123456"), "12345 ***");
    }

    #[test]
    fn each_line_of_a_secret_is_masked() {
        let mask = Mask::from_env([("KEY", "first line\nsecond line\n---\n")]);
        assert_eq!(mask.text("a second line and ---"), "a *** and ---");
    }

    #[test]
    fn a_long_secret_leaves_nothing_even_in_part() {
        let secret: String = (0..5000).map(|n| char::from(b'a' + (n * n % 23) as u8)).collect();
        let mask = Mask::from_env([("KEY", &secret)]);
        assert_eq!(mask.text(&format!("<{secret}>")), "<***>");
    }

    #[test]
    fn a_cut_through_a_secret_leaves_nothing_of_it() {
        let mask = Mask::from_env([("KEY", "hunter22")]);
        let check = |at: usize, expected: &str| assert_eq!(mask.cut("ab hunter22 cd", at), expected, "{at}");
        check(3, "ab ");
        check(4, "ab ***");
        check(11, "ab ***");
        check(12, "ab *** ");
        check(99, "ab *** cd");
        assert_eq!(mask.cut("aé", 2), "a");
    }

    #[test]
    fn json_is_masked_in_depth() {
        let mask = Mask::from_env([("KEY", "hunter22")]);
        let value = json!({"a": ["hunter22", 1, null], "hunter22": {"b": "x hunter22"}});
        assert_eq!(mask.value(value), json!({"a": ["***", 1, null], "***": {"b": "x ***"}}));
    }

    #[test]
    fn secrets_do_not_show_when_a_mask_is_printed() {
        assert_eq!(format!("{:?}", Mask::from_env([("KEY", "hunter22")])), "Mask(1 values)");
    }
}

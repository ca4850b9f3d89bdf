//! What a driver prints: words for people, and lines for the supervisor.
//!
//! Here live the kinds of line and the one place that writes them. Words are never taken for messages: a model that
//! prints a line with the key `quorate` says a result with it, and nothing else.
//!
//! The supervisor takes every byte for a sign of life. A stream moves far oftener than there is something to tell, so
//! what moves and says nothing becomes one dot, and not more than one a second.

use crate::usage::Usage;
use quorate_model::diagnostic::floor_char_boundary;
use serde_json::{Value, json};
use std::io::{self, Write};
use std::time::{Duration, Instant};

/// A stream that only moves is shown no oftener than this.
const SIGN_EVERY: Duration = Duration::from_secs(1);
/// What an agent does is told as progress no oftener than this: each is an event in the log.
const PROGRESS_EVERY: Duration = Duration::from_secs(5);
/// The longest text of one block, in bytes; more of it is left out.
pub(crate) const TEXT_MAX: usize = 16 << 10;
/// How much of an error is told, in characters.
pub(crate) const ERROR_MAX: usize = 300;
/// The longest line that tells what a tool was called with, in characters.
const CALL_MAX: usize = 200;
/// The longest name of a tool, in characters.
const NAME_MAX: usize = 100;

/// One thing that a stream says.
#[derive(Debug, Clone, PartialEq)]
pub enum Out {
    /// Words for people, one line or several.
    Text(String),
    /// It moves, and has nothing to say.
    Sign,
    /// What the agent does now: a line for people, and progress.
    Doing(String),
    /// What it has used of a model so far.
    Usage(Usage),
    /// What it came to.
    Result(Value),
}

impl Out {
    /// That a tool has failed, and why.
    pub(crate) fn tool_failed(why: &str) -> Out {
        Out::Text(format!("[tool] failed: {}", short(why, ERROR_MAX)))
    }
}

/// Why an agent cannot go on, and until when.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Parked {
    /// In words.
    pub reason: String,
    /// Until this time, RFC 3339.
    pub until: Option<String>,
    /// For so many milliseconds.
    pub after_ms: Option<i64>,
}

impl Parked {
    pub(crate) fn line(&self) -> String {
        let mut line = json!({ "quorate": "parked", "reason": self.reason });
        if let Some(until) = &self.until {
            line["until"] = until.as_str().into();
        }
        if let Some(after_ms) = self.after_ms {
            line["after_ms"] = after_ms.into();
        }
        line.to_string()
    }
}

/// Returns a tool's name and what it was called with, on one line.
pub(crate) fn call(name: &str, input: &Value) -> String {
    /// The parts of an input that tell most, in this order.
    const TELLING: [&str; 8] =
        ["command", "cmd", "file_path", "path", "pattern", "url", "query", "description"];
    let name = short(name, NAME_MAX);
    let told = TELLING.iter().find_map(|key| input.get(key)?.as_str().map(str::to_owned));
    let told = told.or_else(|| (!input.is_null() && *input != json!({})).then(|| input.to_string()));
    match told {
        Some(told) => format!("[tool] {name}: {}", short(&told, CALL_MAX)),
        None => format!("[tool] {name}"),
    }
}

/// Returns the beginning of a text on one line, so many characters at most.
pub(crate) fn short(text: &str, most: usize) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(most) {
        Some((at, _)) => format!("{}…", &line[..at]),
        None => line,
    }
}

/// Returns the longest beginning of a text that fits into so many bytes.
pub(crate) fn head(text: &str, bytes: usize) -> &str {
    &text[..floor_char_boundary(text, bytes)]
}

/// Returns a text of so many bytes at most, and behind it how much is left out.
pub(crate) fn cut(text: &str, bytes: usize) -> String {
    let kept = head(text, bytes);
    match text.len() - kept.len() {
        0 => kept.to_owned(),
        over => format!("{kept}\n[{over} more bytes left out]"),
    }
}

/// Writes to the supervisor.
#[derive(Debug)]
pub(crate) struct Writer<W> {
    to: W,
    /// A line of dots has begun.
    is_open: bool,
    /// When something was last written.
    wrote: Option<Instant>,
    /// When progress was last told.
    told: Option<Instant>,
}

impl<W: Write> Writer<W> {
    pub(crate) fn new(to: W) -> Writer<W> {
        Writer { to, is_open: false, wrote: None, told: None }
    }

    pub(crate) fn say(&mut self, out: &Out, now: Instant) -> io::Result<()> {
        match out {
            Out::Text(text) => self.text(text, now),
            Out::Sign => self.sign(now),
            Out::Doing(what) => self.doing(what, now),
            Out::Usage(usage) => self.line(&usage.line(), now),
            Out::Result(value) => self.line(&json!({ "quorate": "result", "value": value }).to_string(), now),
        }
    }

    /// Writes a whole line as it is.
    pub(crate) fn line(&mut self, line: &str, now: Instant) -> io::Result<()> {
        if std::mem::take(&mut self.is_open) {
            writeln!(self.to)?;
        }
        writeln!(self.to, "{line}")?;
        self.to.flush()?;
        self.wrote = Some(now);
        Ok(())
    }

    pub(crate) fn text(&mut self, text: &str, now: Instant) -> io::Result<()> {
        let cut = head(text, TEXT_MAX);
        cut.lines().try_for_each(|line| self.line(&harmless(line), now))?;
        if cut.len() < text.len() {
            self.line(&format!("[{} more bytes left out]", text.len() - cut.len()), now)?;
        }
        Ok(())
    }

    fn sign(&mut self, now: Instant) -> io::Result<()> {
        if self.wrote.is_some_and(|wrote| now.duration_since(wrote) < SIGN_EVERY) {
            return Ok(());
        }
        self.is_open = true;
        self.wrote = Some(now);
        self.to.write_all(b".")?;
        self.to.flush()
    }

    fn doing(&mut self, what: &str, now: Instant) -> io::Result<()> {
        self.text(what, now)?;
        if self.told.is_some_and(|told| now.duration_since(told) < PROGRESS_EVERY) {
            return Ok(());
        }
        self.told = Some(now);
        let what = what.strip_prefix("[tool] ").unwrap_or(what);
        self.line(&json!({ "quorate": "progress", "message": what }).to_string(), now)
    }
}

/// Returns a line that the supervisor takes for words, whatever it holds.
fn harmless(line: &str) -> String {
    match line.trim_start().starts_with('{') && line.contains("\"quorate\"") {
        true => format!("| {line}"),
        false => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(outs: &[(u64, Out)]) -> String {
        let (mut bytes, begun) = (Vec::new(), Instant::now());
        let mut writer = Writer::new(&mut bytes);
        for (ms, out) in outs {
            writer.say(out, begun + Duration::from_millis(*ms)).expect("written");
        }
        String::from_utf8(bytes).expect("text")
    }

    #[test]
    fn a_stream_that_only_moves_is_one_dot_a_second() {
        let signs: Vec<(u64, Out)> = (0..3000).map(|ms| (ms, Out::Sign)).collect();
        assert_eq!(written(&signs), "...");
        let then_words = [(0, Out::Sign), (10, Out::Text("hi".into())), (20, Out::Sign), (1_010, Out::Sign)];
        assert_eq!(written(&then_words), ".\nhi\n.");
    }

    #[test]
    fn what_an_agent_does_is_progress_every_five_seconds() {
        let doing = |ms: u64, what: &str| (ms, Out::Doing(format!("[tool] {what}")));
        let text = written(&[doing(0, "a"), doing(4_999, "b"), doing(5_000, "c")]);
        let progress = |what: &str| format!("{{\"message\":\"{what}\",\"quorate\":\"progress\"}}\n");
        assert_eq!(text, format!("[tool] a\n{}[tool] b\n[tool] c\n{}", progress("a"), progress("c")));
    }

    #[test]
    fn words_are_never_taken_for_messages() {
        let forged = r#"  {"quorate":"usage","model":"m","input_tokens":0}"#;
        assert_eq!(written(&[(0, Out::Text(forged.into()))]), format!("| {forged}\n"));
    }

    #[test]
    fn a_text_is_cut_at_its_limit() {
        let text = |length: usize| written(&[(0, Out::Text("x".repeat(length)))]);
        assert_eq!(text(TEXT_MAX), "x".repeat(TEXT_MAX) + "\n");
        assert!(text(TEXT_MAX + 7).ends_with("x\n[7 more bytes left out]\n"));
    }

    #[test]
    fn a_call_is_told_by_the_part_that_tells_most() {
        let check = |input: Value, expected: &str| assert_eq!(call("T", &input), expected);
        check(json!({ "description": "d", "command": "cargo\n test" }), "[tool] T: cargo test");
        check(json!({ "x": 1 }), "[tool] T: {\"x\":1}");
        check(json!({}), "[tool] T");
        let long = call("T", &json!({ "command": "é".repeat(CALL_MAX + 1) }));
        assert_eq!(long.chars().count(), "[tool] T: ".len() + CALL_MAX + 1);
    }

    #[test]
    fn a_parked_agent_says_why_and_until_when() {
        let parked =
            Parked { reason: "limit".into(), until: Some("2026-01-01T00:00:00Z".into()), after_ms: Some(5) };
        let expected = r#"{"after_ms":5,"quorate":"parked","reason":"limit","until":"2026-01-01T00:00:00Z"}"#;
        assert_eq!(parked.line(), expected);
    }
}

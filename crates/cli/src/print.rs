//! What people and programs get to see: the one place that writes to the terminal.
//!
//! Here live the process's two streams, whether they are coloured and how wide they are, and the form of an error.
//! Tables, relative times and colours have files below; what is said is the commands' business.
//!
//! Writing never fails for a command: what a reader that went away (`| head`) no longer reads is quietly dropped; any
//! other failure makes the exit code 1, decided once, in [`finish`].

pub(crate) mod cost;
pub(crate) mod style;
pub(crate) mod table;
pub(crate) mod time;

pub(crate) use quorate_model::text::{lines, one_line};
use quorate_model::{Error, Result};
use quorate_service::wire;
use serde::Serialize;
use serde_json::{Value, json};
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::process::ExitCode;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use style::Colour;

/// Columns of a terminal that does not say how many it has.
const WIDTH_DEFAULT: usize = 80;

struct Screen {
    json: bool,
    out_terminal: bool,
    out_colour: bool,
    err_colour: bool,
}

static SCREEN: OnceLock<Screen> = OnceLock::new();
static CLOSED: AtomicBool = AtomicBool::new(false);
static BROKEN: OnceLock<String> = OnceLock::new();

/// Notes once how to print.
pub(crate) fn set_up(json: bool, no_color: bool) {
    let wanted = !no_color && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let colourful = wanted && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
    let out_terminal = io::stdout().is_terminal();
    let screen = Screen {
        json,
        out_terminal,
        out_colour: colourful && out_terminal && !json,
        err_colour: colourful && io::stderr().is_terminal() && !json,
    };
    // Set once, at the start of `main`; a second word would change nothing.
    let _ = SCREEN.set(screen);
}

fn screen() -> &'static Screen {
    SCREEN.get_or_init(|| Screen { json: false, out_terminal: false, out_colour: false, err_colour: false })
}

/// Tells whether `--json` was given.
pub(crate) fn is_json() -> bool {
    screen().json
}

/// Tells whether standard output is a terminal.
pub(crate) fn is_terminal() -> bool {
    screen().out_terminal
}

/// Tells whether standard output is coloured.
pub(crate) fn is_coloured() -> bool {
    screen().out_colour
}

/// Returns the columns of the terminal; `None` in a pipe, where nothing is cut.
pub(crate) fn width() -> Option<usize> {
    let size = || terminal_size::terminal_size_of(io::stdout()).map(|(width, _)| usize::from(width.0));
    is_terminal().then(|| size().filter(|width| *width > 0).unwrap_or(WIDTH_DEFAULT))
}

/// Breaks lines that are too long for the terminal between words; what goes on is indented by so many columns.
pub(crate) fn folded(text: &str, indent: usize) -> String {
    let Some(width) = width() else { return text.to_owned() };
    let lines: Vec<String> = text.split('\n').map(|line| table::fold(line, width, indent)).collect();
    lines.join("\n")
}

/// Tells whether the reader of standard output has gone away.
pub(crate) fn is_closed() -> bool {
    CLOSED.load(Ordering::Relaxed)
}

/// Writes bytes to standard output and flushes them.
pub(crate) fn bytes(bytes: &[u8]) {
    if is_closed() {
        return;
    }
    let mut out = io::stdout().lock();
    if let Err(error) = out.write_all(bytes).and_then(|()| out.flush()) {
        CLOSED.store(true, Ordering::Relaxed);
        if error.kind() != ErrorKind::BrokenPipe {
            let _ = BROKEN.set(error.to_string());
        }
    }
}

/// Writes a text to standard output, ending its last line.
pub(crate) fn text(text: &str) {
    if text.is_empty() || text.ends_with('\n') {
        bytes(text.as_bytes());
    } else {
        bytes(format!("{text}\n").as_bytes());
    }
}

/// Writes one JSON document: indented on a terminal, else in one line.
pub(crate) fn document(value: &Value) {
    text(&if is_terminal() { format!("{value:#}") } else { value.to_string() });
}

/// Writes one line of JSON Lines.
pub(crate) fn json_line(value: &Value) {
    text(&value.to_string());
}

/// Answers with a JSON document or with words, as was asked for.
pub(crate) fn answer<T: Serialize>(json: bool, value: impl FnOnce() -> T, words: impl FnOnce() -> String) {
    if json { document(&wire::value(value())) } else { text(&words()) }
}

/// Writes a remark to standard error, for people only: with `--json` nothing is written. Whoever collects logs sets
/// `QUORATE_LOG=json` and gets it as a JSON line in any case.
pub(crate) fn note(words: &str) {
    if is_collected() {
        let at = quorate_service::time::rfc3339(crate::clock::now_ms());
        to_stderr(&format!("{}\n", json!({ "at": at, "message": words })));
    } else if !is_json() {
        to_stderr(&format!("{words}\n"));
    }
}

/// Tells whether somebody collects logs.
fn is_collected() -> bool {
    std::env::var_os("QUORATE_LOG").is_some_and(|format| format == "json")
}

/// Writes a fact to standard error: to people the remark, with `--json` a JSON document of one key.
pub(crate) fn fact(key: &str, value: &str, words: &str) {
    if is_json() && !is_collected() {
        to_stderr(&format!("{}\n", json!({ key: value })));
    } else {
        note(words);
    }
}

/// Says on standard error what is amiss where the work goes on all the same, with `--json` too.
pub(crate) fn warning(words: &str) {
    fact("warning", words, &format!("notice: {words}"));
}

/// Writes a hint beside an answer to standard error; with `--json` as a JSON document there.
pub(crate) fn hint(words: &str) {
    if screen().json {
        return to_stderr(&format!("{}\n", json!({ "hint": words })));
    }
    to_stderr(&format!("{} {words}\n", style::paint_if(screen().err_colour, Colour::Cyan, "hint:")));
}

/// Writes an error and its hint to standard error.
pub(crate) fn error(error: &Error) {
    let screen = screen();
    if screen.json {
        let said = json!({ "kind": error.kind.as_str(), "message": error.message, "hint": error.hint });
        return to_stderr(&format!("{}\n", json!({ "error": said })));
    }
    let mut words =
        format!("{} {}\n", style::paint_if(screen.err_colour, Colour::Red, "error:"), lines(&error.message));
    if let Some(hint) = &error.hint {
        words.push_str(&format!("{} {hint}\n", style::paint_if(screen.err_colour, Colour::Cyan, "hint:")));
    }
    to_stderr(&words);
}

fn to_stderr(words: &str) {
    // Without a standard error there is nobody left to tell.
    let _ = io::stderr().lock().write_all(words.as_bytes());
}

/// Turns what a command came to into the exit code of the process.
pub(crate) fn finish(outcome: Result<u8>) -> ExitCode {
    let code = outcome.unwrap_or_else(|failure| {
        error(&failure);
        failure.kind.exit_code()
    });
    if let Some(why) = BROKEN.get() {
        error(&Error::failed(format!("cannot write to standard output: {why}")));
        return ExitCode::FAILURE;
    }
    ExitCode::from(code)
}

/// Indents every line.
pub(crate) fn indent(text: &str, by: usize) -> String {
    let space = " ".repeat(by);
    text.lines().map(|line| format!("{space}{line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_indented() {
        assert_eq!(indent("a\nb", 2), "  a\n  b\n");
    }
}

//! What the program of an agent prints: any lines, read by the reader of its stream.
//!
//! The first byte says whose stream it is and how it ended; a line that begins with `!` is one of standard error. What is
//! said is no more than a few times what was read, counts are never below zero, and every end has its reason.

use quorate_drivers::agent::Program;
use quorate_drivers::{Ending, Out, Parked, Settings, Usage};

/// The longest reason, in characters: 400, and the mark that it is cut.
const REASON_MAX: usize = 401;
/// What may be said beside what was read, in bytes: words of our own.
const OWN_WORDS: usize = 1_000;
/// What is said of a line is at most so many times as long, in bytes: replaced characters grow, and a line may be told twice.
const TIMES: usize = 8;

/// Feeds the lines, and looks at all that comes of them.
pub fn check(bytes: &[u8]) {
    let Some((first, rest)) = bytes.split_first() else { return };
    let program = [Program::Claude, Program::Codex, Program::Gemini][usize::from(first % 3)];
    let code = [Some(0), Some(1), None][usize::from(first / 3 % 3)];
    let text = String::from_utf8_lossy(rest);
    let mut stream = program.stream(&Settings::default());
    for line in text.lines() {
        match line.strip_prefix('!') {
            Some(error) => stream.on_error_line(error),
            None => check_said(line, &stream.on_line(line)),
        }
        stream.waits().into_iter().for_each(check_parked);
    }
    match stream.end(code) {
        Ending::Done(value) => {
            let size = value.to_string().len();
            assert!(size <= TIMES * text.len() + OWN_WORDS, "a result of {size} bytes from {}", text.len());
        }
        Ending::Failed(reason) => check_reason(&reason),
        Ending::Parked(parked) => check_parked(&parked),
    }
}

fn check_said(line: &str, said: &[Out]) {
    let mut size = 0;
    for out in said {
        size += match out {
            Out::Text(text) => text.len(),
            Out::Doing(what) => {
                assert!(!what.contains('\n'), "one line: {what:?}");
                what.len()
            }
            Out::Usage(usage) => {
                check_usage(usage);
                usage.model.len()
            }
            Out::Result(value) => value.to_string().len(),
            Out::Sign => 0,
        };
    }
    assert!(size <= TIMES * line.len() + OWN_WORDS, "{size} bytes are said of {}: {line:?}", line.len());
}

fn check_usage(usage: &Usage) {
    let counts = [usage.input_tokens, usage.output_tokens, usage.cache_read_tokens, usage.cache_write_tokens];
    let context = [usage.context_tokens, usage.context_window];
    let is_count = |count: &i64| *count >= 0;
    assert!(counts.iter().all(is_count) && context.iter().flatten().all(is_count), "{usage:?}");
    assert!(usage.usd.is_none_or(|usd| usd.is_finite() && usd >= 0.0), "{usage:?}");
}

fn check_parked(parked: &Parked) {
    check_reason(&parked.reason);
    assert!(parked.until.is_none() || parked.after_ms.is_none(), "one time at most: {parked:?}");
    assert!(parked.after_ms.is_none_or(|ms| ms > 0), "{parked:?}");
}

fn check_reason(reason: &str) {
    assert!(!reason.trim().is_empty(), "no reason");
    assert!(!reason.contains('\n') && reason.chars().count() <= REASON_MAX, "{reason:?}");
}

//! A child's output: any bytes on its standard output, cut in any way.
//!
//! What is kept does not depend on how the bytes were cut on their way. No secret, no NUL and nothing beyond the
//! limits gets through, and the result is that of the last line that says one.

use crate::keep::{Keeper, SharedTail, SharedWord, Stream};
use crate::mask::Mask;
use crate::message::{MAX_RESULT, Message};
use quorate_model::usage::TOKENS_MAX;
use serde_json::Value;

/// The value of a variable with a telling name.
const SECRET: &str = "hunter22";

/// How much is read at once, as by the pump.
const READ: usize = 64 << 10;

/// In an input that begins with it, this byte and the next stand for so many KiB of one letter: short inputs make
/// long lines, but only a few do, as they are slow.
const STRETCH: u8 = 0xfe;

/// The most bytes that an input stands for.
const BYTES_MAX: usize = 80 << 10;

/// What is left of some output.
#[derive(Debug, PartialEq)]
struct Kept {
    log: String,
    tail: String,
    messages: Vec<Message>,
    result: Option<Value>,
    dropped: u64,
}

/// Feeds the bytes as they come from a pipe, and again in pieces of a length that the first byte tells.
pub fn check(bytes: &[u8]) {
    let Some(first) = bytes.first() else { return };
    let bytes = stretched(bytes);
    let kept = keep(Stream::Out, &bytes, READ);
    let in_pieces = keep(Stream::Out, &bytes, 1 + usize::from(first % 64));
    assert_eq!(kept, in_pieces, "what is kept depends on how it was cut");
    check_kept(&kept);
    if bytes.len() < READ {
        assert_eq!(kept.result, last_result(&bytes), "the last result counts");
    }
    let errors = keep(Stream::Err, &bytes, READ);
    assert!(errors.messages.is_empty() && errors.result.is_none(), "messages on standard error are text");
    check_kept(&errors);
}

fn stretched(bytes: &[u8]) -> Vec<u8> {
    if bytes.first() != Some(&STRETCH) {
        return bytes.to_vec();
    }
    let mut stretched = Vec::new();
    let mut rest = bytes.iter();
    while let Some(byte) = rest.next() {
        match *byte {
            STRETCH => {
                stretched.resize(stretched.len() + 1024 * usize::from(*rest.next().unwrap_or(&1)), b'x')
            }
            byte => stretched.push(byte),
        }
    }
    stretched.truncate(BYTES_MAX);
    stretched
}

fn mask() -> Mask {
    Mask::from_env([("KEY", SECRET)])
}

fn keep(stream: Stream, bytes: &[u8], piece: usize) -> Kept {
    let (tail, word) = (SharedTail::default(), SharedWord::default());
    let mut keeper = Keeper::new(mask(), tail.clone(), word.clone());
    bytes.chunks(piece).for_each(|bytes| keeper.feed(stream, bytes));
    keeper.finish();
    let tail = tail.lock().for_ledger(&mask());
    let messages = std::iter::from_fn(|| keeper.next_message()).collect();
    let result = word.lock().result.clone();
    Kept { log: keeper.take_log(), tail, messages, result, dropped: keeper.dropped }
}

fn check_kept(kept: &Kept) {
    for text in [&kept.log, &kept.tail] {
        assert!(!text.contains(SECRET) && !text.contains('\0'), "{text:?}");
    }
    if let Some(result) = &kept.result {
        let text = result.to_string();
        assert!(text.len() <= MAX_RESULT && !text.contains(SECRET), "{text}");
    }
    kept.messages.iter().for_each(check_message);
}

fn check_message(message: &Message) {
    match message {
        Message::Progress { percent, message, findings } => {
            assert!(percent.is_none_or(|percent| (0..=100).contains(&percent)));
            message.iter().chain(findings).for_each(|text| check_text(text));
            assert!(findings.len() <= 64, "{}", findings.len());
        }
        Message::Usage(used) => {
            check_text(&used.model);
            let tokens = used.tokens;
            let counts = [tokens.input, tokens.output, tokens.cache_read, tokens.cache_write];
            assert!(counts.iter().all(|count| (0..=TOKENS_MAX).contains(count)), "{tokens:?}");
        }
        Message::Parked(parked) => check_text(&parked.reason),
        Message::Result(value) => assert!(value.to_string().len() <= MAX_RESULT),
        Message::Bad(reason) | Message::BadResult(reason) => check_text(reason),
    }
}

/// What goes into the ledger as a text is short, and without what no database keeps.
fn check_text(text: &str) {
    assert!(text.len() <= 4096 && !text.contains(SECRET) && !text.contains('\0'), "{text:?}");
}

/// Returns the masked value of the last line that is a result.
fn last_result(bytes: &[u8]) -> Option<Value> {
    let text = String::from_utf8_lossy(bytes).replace('\0', "\u{fffd}");
    let mut said = text.lines().filter(|line| line.contains("\"quorate\"")).filter_map(|line| {
        let Ok(Value::Object(mut fields)) = serde_json::from_str(line.trim()) else { return None };
        let is_result = fields.get("quorate").and_then(Value::as_str) == Some("result");
        fields.remove("value").filter(|_| is_result)
    });
    said.next_back().map(|value| mask().value(value))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    #[test]
    fn seeds_and_what_once_failed_are_kept_as_they_must() {
        let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz");
        let folders = ["corpus-seed/output", "fixtures/output"].map(|folder| fs::read_dir(fuzz.join(folder)));
        let mut count = 0;
        for entry in folders.into_iter().flatten().flatten() {
            let path = entry.expect("an entry of the folder").path();
            eprintln!("{}", path.display());
            super::check(&fs::read(&path).expect("an input"));
            count += 1;
        }
        assert!(count > 0, "no input was found");
    }
}

//! What a child says to its supervisor: lines of standard output that are a JSON object with the key `quorate`.
//!
//! Here lives the reading of one such line. A line that means to be a message and is not one is an answer
//! ([`Message::Bad`]), never an error: the child goes on. Where lines come from is in [`crate::lines`].

use crate::mask::{Mask, floor};
use serde_json::{Map, Value};

/// The largest result, in bytes of its JSON.
pub const MAX_RESULT: usize = 1 << 20;
/// The longest line that is read as a message: a result and what is around it.
pub(crate) const MAX_MESSAGE_LINE: usize = MAX_RESULT + 4096;
/// How much of a progress message's text is kept, in bytes.
const MAX_TEXT: usize = 4096;

/// What a child said.
#[derive(Debug, Clone, PartialEq)]
pub enum Message {
    /// `{"quorate":"progress","percent":40,"message":"…"}`
    Progress {
        /// How much is done, 0 to 100; other numbers are moved into that range.
        percent: Option<i64>,
        /// What is being done; 4 KiB at most.
        message: Option<String>,
    },
    /// `{"quorate":"result","value":{…}}`; the last one counts.
    Result(Value),
    /// It meant to be a message and could not be read; why. The line is kept as text.
    Bad(String),
    /// It meant to be a result and could not be read; why. What the child came to is not known.
    BadResult(String),
}

impl Message {
    pub(crate) fn masked(self, mask: &Mask) -> Message {
        match self {
            Message::Progress { percent, message } => {
                Message::Progress { percent, message: message.map(|text| short(&mask.text(&text))) }
            }
            // What stands in a secret's place may be longer than the secret.
            Message::Result(value) => result(mask.value(value))
                .unwrap_or_else(|reason| Message::BadResult(format!("masked, {reason}"))),
            Message::Bad(reason) => Message::Bad(mask.text(&reason).into_owned()),
            Message::BadResult(reason) => Message::BadResult(mask.text(&reason).into_owned()),
        }
    }
}

/// Reads a line of standard output; `None` if it is ordinary text. `whole` is false if its end was dropped.
pub(crate) fn parse(line: &str, whole: bool) -> Option<Message> {
    let line = line.trim();
    if !line.starts_with('{') || !line.contains("\"quorate\"") {
        return None;
    }
    if !whole || line.len() > MAX_MESSAGE_LINE {
        return means_to_be(line).then(|| bad(line, format!("larger than {MAX_RESULT} bytes")));
    }
    match serde_json::from_str(line) {
        Ok(Value::Object(fields)) if !fields.contains_key("quorate") => None,
        Ok(Value::Object(fields)) => Some(read(fields).unwrap_or_else(|reason| bad(line, reason))),
        Ok(_) => None,
        Err(e) => means_to_be(line).then(|| bad(line, format!("not valid JSON: {e}"))),
    }
}

/// How far into a line the word `result` may stand for the line to be taken for a result.
const HEAD: usize = 64;

fn bad(line: &str, reason: String) -> Message {
    match line[..floor(line, HEAD)].contains("\"result\"") {
        true => Message::BadResult(reason),
        false => Message::Bad(reason),
    }
}

/// Returns true if `quorate` is the first key, by which broken JSON is told from ordinary text.
fn means_to_be(line: &str) -> bool {
    line[1..].trim_start().starts_with("\"quorate\"")
}

fn read(mut fields: Map<String, Value>) -> Result<Message, String> {
    match fields.get("quorate") {
        Some(Value::String(kind)) if kind == "progress" => progress(&fields),
        Some(Value::String(kind)) if kind == "result" => {
            result(fields.remove("value").ok_or("a result without `value`")?)
        }
        Some(Value::String(kind)) => {
            // No database keeps a NUL, and no other control character helps whoever reads this.
            let kind = kind[..floor(kind, 64)].replace(char::is_control, "\u{fffd}");
            Err(format!("unknown message `{kind}`; expected `progress` or `result`"))
        }
        _ => Err("the value of `quorate` is not a string; expected `progress` or `result`".to_owned()),
    }
}

fn progress(fields: &Map<String, Value>) -> Result<Message, String> {
    let percent = match fields.get("percent") {
        None | Some(Value::Null) => None,
        Some(Value::Number(n)) => n.as_f64().map(|percent| percent.clamp(0.0, 100.0) as i64),
        Some(_) => return Err("`percent` is not a number".to_owned()),
    };
    let message = match fields.get("message") {
        None | Some(Value::Null) => None,
        Some(Value::String(text)) => Some(text.replace('\0', "\u{fffd}")),
        Some(_) => return Err("`message` is not a string".to_owned()),
    };
    Ok(Message::Progress { percent, message })
}

fn result(value: Value) -> Result<Message, String> {
    let length = value.to_string().len();
    if length > MAX_RESULT {
        return Err(format!("the result has {length} bytes; at most {MAX_RESULT} are kept"));
    }
    Ok(Message::Result(value))
}

fn short(text: &str) -> String {
    text[..floor(text, MAX_TEXT)].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(line: &str, expected: Option<Message>) {
        assert_eq!(parse(line, true), expected, "{line}");
    }

    fn progress(percent: impl Into<Option<i64>>, message: Option<&str>) -> Option<Message> {
        Some(Message::Progress { percent: percent.into(), message: message.map(str::to_owned) })
    }

    fn check_bad(line: &str, part: &str) {
        match parse(line, true) {
            Some(Message::Bad(reason) | Message::BadResult(reason)) => {
                assert!(reason.contains(part), "{line}: {reason}")
            }
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn progress_is_read_and_kept_within_0_and_100() {
        check(r#"{"quorate":"progress","percent":40,"message":"half"}"#, progress(40, Some("half")));
        check(r#" {"percent": 40.9, "quorate" : "progress"} "#, progress(40, None));
        check(r#"{"quorate":"progress","percent":-1e99}"#, progress(0, None));
        check(r#"{"quorate":"progress","percent":18446744073709551615}"#, progress(100, None));
        check(r#"{"quorate":"progress","percent":null,"more":1}"#, progress(None, None));
    }

    #[test]
    fn a_result_is_any_json() {
        check(r#"{"quorate":"result","value":{"a":[1]}}"#, Some(Message::Result(json!({"a": [1]}))));
        check(r#"{"quorate":"result","value":null}"#, Some(Message::Result(Value::Null)));
    }

    #[test]
    fn ordinary_text_is_no_message() {
        for line in ["", "{", "{}", "hello", r#"{"a":"quorate"}"#, r#"["quorate"]"#, r#"{ see "quorate" }"#] {
            check(line, None);
        }
        check(r#"{"a":{"quorate":"progress"}}"#, None);
    }

    #[test]
    fn a_bad_message_says_what_is_wrong() {
        check_bad(r#"{"quorate":"progres"}"#, "unknown message `progres`");
        check_bad(r#"{"quorate":7}"#, "not a string");
        check_bad(r#"{"quorate":"progress","percent":"40"}"#, "`percent` is not a number");
        check_bad(r#"{"quorate":"progress","message":[]}"#, "`message` is not a string");
        check_bad(r#"{"quorate":"result"}"#, "without `value`");
        check_bad(r#"{"quorate":"result","value":{"#, "not valid JSON");
        check_bad(&format!(r#"{{"quorate":"result","value":{}}}"#, "[".repeat(1000)), "not valid JSON");
    }

    #[test]
    fn a_result_of_one_mebibyte_is_the_largest() {
        let line = |length: usize| format!(r#"{{"quorate":"result","value":"{}"}}"#, "x".repeat(length - 2));
        assert!(matches!(parse(&line(MAX_RESULT), true), Some(Message::Result(_))));
        check_bad(&line(MAX_RESULT + 1), "1048577 bytes");
        check_bad(&line(2 * MAX_RESULT), "larger than");
        assert!(matches!(parse(r#"{"quorate":"result","value":"#, false), Some(Message::BadResult(_))));
    }

    #[test]
    fn a_reason_holds_no_character_that_a_database_refuses() {
        check_bad(r#"{"quorate":"a\u0000\n","x":"result"}"#, "unknown message `a\u{fffd}\u{fffd}`");
    }

    #[test]
    fn a_result_that_its_masks_make_too_large_is_said_to_be() {
        let text = "://a:b@".repeat(MAX_RESULT / 7 - 10);
        let whole = format!(r#"{{"quorate":"result","value":"{text}"}}"#);
        let message = parse(&whole, true).map(|message| message.masked(&Mask::default()));
        assert!(
            matches!(&message, Some(Message::BadResult(reason)) if reason.contains("masked")),
            "{message:.200?}"
        );
    }

    #[test]
    fn a_progress_text_is_masked_before_it_is_cut() {
        let mask = Mask::from_env([("KEY", "hunter22")]);
        let text = format!("{}hunter22", "x".repeat(MAX_TEXT - 4));
        let message = Message::Progress { percent: None, message: Some(text) }.masked(&mask);
        let expected = format!("{}***", "x".repeat(MAX_TEXT - 4));
        assert_eq!(Some(message), progress(None, Some(&expected)));
    }
}

/// What must hold for any output: the same properties that `cargo xtask fuzz output` tries.
#[cfg(test)]
#[path = "../../../fuzz/src/output.rs"]
mod any_output;

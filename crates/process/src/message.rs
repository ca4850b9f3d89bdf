//! What a child says to its supervisor: lines of standard output that are a JSON object with the key `quorate`.
//!
//! Here lives the reading of one such line. A line that means to be a message and is not one is an answer
//! ([`Message::Bad`]), never an error: the child goes on. Where lines come from is in [`crate::lines`].

use crate::mask::{Mask, floor};
use quorate_model::at::rfc3339_ms;
use quorate_model::said::{number, printable, text};
use quorate_model::usage::{MODEL_NAME_MAX, Parked, Used};
use serde_json::{Map, Value};

/// The largest result, in bytes of its JSON.
pub const MAX_RESULT: usize = 1 << 20;
/// The longest line that is read as a message: a result and what is around it.
pub(crate) const MAX_MESSAGE_LINE: usize = MAX_RESULT + 4096;
/// How much of a text for people is kept, in bytes.
const MAX_TEXT: usize = 4096;
/// How many findings one message may carry.
pub const MAX_FINDINGS: usize = 32;

/// The kinds of messages, for whoever meant another.
const KINDS: &str = "`progress`, `result`, `usage` or `parked`";

/// What a child said.
#[derive(Debug, Clone, PartialEq)]
pub enum Message {
    /// `{"quorate":"progress","percent":40,"message":"…"}`
    Progress {
        /// How much is done, 0 to 100; other numbers are moved into that range.
        percent: Option<i64>,
        /// What is being done; 4 KiB at most.
        message: Option<String>,
        /// What was found out and is of use to others; each 4 KiB at most.
        findings: Vec<String>,
    },
    /// `{"quorate":"result","value":{…}}`; the last one counts.
    Result(Value),
    /// `{"quorate":"usage","model":"…","input_tokens":10,…}`: what it has used of a model so far; the last one of a model
    /// counts.
    Usage(Used),
    /// `{"quorate":"parked","reason":"…","until":"…"}`: it cannot go on before then; the last one counts.
    Parked(Parked),
    /// It meant to be a message and could not be read; why. The line is kept as text.
    Bad(String),
    /// It meant to be a result and could not be read; why. What the child came to is not known.
    BadResult(String),
}

impl Message {
    pub(crate) fn masked(self, mask: &Mask) -> Message {
        match self {
            Message::Progress { percent, message, findings } => {
                let shown = |text: String| short(&mask.text(&text));
                let (message, findings) = (message.map(shown), findings.into_iter().map(shown).collect());
                Message::Progress { percent, message, findings }
            }
            // What stands in a secret's place may be longer than the secret.
            Message::Result(value) => result(mask.value(value))
                .unwrap_or_else(|reason| Message::BadResult(format!("masked, {reason}"))),
            Message::Usage(used) => {
                let model = mask.text(&used.model);
                let model = model[..floor(&model, MODEL_NAME_MAX)].to_owned();
                Message::Usage(Used { model, ..used })
            }
            Message::Parked(parked) => {
                let reason = short(&mask.text(&parked.reason));
                Message::Parked(Parked { reason, ..parked })
            }
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
    let kind = match fields.get("quorate") {
        Some(Value::String(kind)) => kind.clone(),
        _ => return Err(format!("the value of `quorate` is not a string; expected {KINDS}")),
    };
    match kind.as_str() {
        "progress" => progress(&fields),
        "result" => result(fields.remove("value").ok_or("a result without `value`")?),
        "usage" => Used::read(&fields).map(Message::Usage),
        "parked" => parked(&fields),
        _ => Err(format!("unknown message `{}`; expected {KINDS}", printable(&kind[..floor(&kind, 64)]))),
    }
}

fn progress(fields: &Map<String, Value>) -> Result<Message, String> {
    let percent = match fields.get("percent") {
        None | Some(Value::Null) => None,
        Some(Value::Number(n)) => n.as_f64().map(|percent| percent.clamp(0.0, 100.0) as i64),
        Some(_) => return Err("`percent` is not a number".to_owned()),
    };
    Ok(Message::Progress { percent, message: text(fields, "message")?, findings: findings(fields)? })
}

fn findings(fields: &Map<String, Value>) -> Result<Vec<String>, String> {
    let list = match fields.get("findings") {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Array(list)) => list,
        Some(_) => return Err("`findings` is not a list of strings".to_owned()),
    };
    if list.len() > MAX_FINDINGS {
        return Err(format!("{} findings at once; at most {MAX_FINDINGS} are kept", list.len()));
    }
    let finding = |value: &Value| value.as_str().map(|text| text.replace('\0', "\u{fffd}"));
    let texts: Option<Vec<String>> = list.iter().map(finding).collect();
    let mut texts = texts.ok_or("`findings` is not a list of strings")?;
    texts.retain(|text| !text.trim().is_empty());
    Ok(texts)
}

fn parked(fields: &Map<String, Value>) -> Result<Message, String> {
    let reason = text(fields, "reason")?.filter(|reason| !reason.trim().is_empty());
    let until_ms = match text(fields, "until")? {
        None => None,
        Some(text) => Some(rfc3339_ms(text.trim()).ok_or("`until` is no RFC 3339 time with its offset")?),
    };
    let after_ms = number(fields, "after_ms", i64::MAX)?;
    let reason = reason.ok_or("parked without a `reason`")?.trim().to_owned();
    Ok(Message::Parked(Parked { reason, until_ms, after_ms }))
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
    use quorate_model::usage::{TOKENS_MAX, Tokens};
    use serde_json::json;

    fn check(line: &str, expected: Option<Message>) {
        assert_eq!(parse(line, true), expected, "{line}");
    }

    fn progress(percent: impl Into<Option<i64>>, message: Option<&str>) -> Option<Message> {
        let message = message.map(str::to_owned);
        Some(Message::Progress { percent: percent.into(), message, findings: Vec::new() })
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

    fn used(line: &str) -> Used {
        match parse(line, true) {
            Some(Message::Usage(used)) => used,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn progress_may_carry_findings() {
        let found = |findings: &[&str]| {
            let findings = findings.iter().map(ToString::to_string).collect();
            Some(Message::Progress { percent: None, message: None, findings })
        };
        check(r#"{"quorate":"progress","findings":["a","  ","b\u0000"]}"#, found(&["a", "b\u{fffd}"]));
        check(r#"{"quorate":"progress","findings":null}"#, found(&[]));
        check_bad(r#"{"quorate":"progress","findings":"a"}"#, "not a list of strings");
        check_bad(r#"{"quorate":"progress","findings":["a",1]}"#, "not a list of strings");
        let many = |count: usize| format!(r#"{{"quorate":"progress","findings":{:?}}}"#, vec!["a"; count]);
        check(&many(MAX_FINDINGS), found(&["a"; MAX_FINDINGS]));
        check_bad(&many(MAX_FINDINGS + 1), "33 findings at once");
    }

    #[test]
    fn usage_is_read_and_what_is_not_said_is_nothing() {
        let whole = r#"{"quorate":"usage","model":"m","input_tokens":1,"output_tokens":2,"cache_read_tokens":3,
            "cache_write_tokens":4,"usd":0.0125,"context_tokens":5,"context_window":6}"#;
        let tokens = Tokens { input: 1, output: 2, cache_read: 3, cache_write: 4 };
        let expected = Used {
            model: "m".into(),
            tokens,
            usd_micros: Some(12_500),
            context_tokens: Some(5),
            context_window: Some(6),
        };
        assert_eq!(used(&whole.replace('\n', "")), expected);
        let little = used(r#"{"quorate":"usage","model":" m ","output_tokens":2.9,"usd":null}"#);
        let tokens = Tokens { output: 2, ..Tokens::default() };
        assert_eq!(little, Used { model: "m".into(), tokens, ..Used::default() });
    }

    #[test]
    fn usage_within_its_limits_is_read_and_no_other() {
        let with = |field: &str| format!(r#"{{"quorate":"usage","model":"m",{field}}}"#);
        assert_eq!(used(&with(r#""input_tokens":1000000000000"#)).tokens.input, TOKENS_MAX);
        check_bad(&with(r#""input_tokens":1000000000001"#), "not from 0 to 1000000000000");
        check_bad(&with(r#""input_tokens":-1"#), "`input_tokens` is not from 0");
        check_bad(&with(r#""input_tokens":1e300"#), "`input_tokens` is not from 0");
        check_bad(&with(r#""output_tokens":"7""#), "`output_tokens` is not a number");
        assert_eq!(used(&with(r#""usd":1000000"#)).usd_micros, Some(1_000_000_000_000));
        check_bad(&with(r#""usd":1000000.01"#), "`usd` is not from 0 to 1000000");
        check_bad(&with(r#""usd":-0.01"#), "`usd` is not from 0");
        check_bad(r#"{"quorate":"usage","input_tokens":1}"#, "a usage without `model`");
        check_bad(r#"{"quorate":"usage","model":"  "}"#, "a usage without `model`");
        let named = |length: usize| format!(r#"{{"quorate":"usage","model":"{}"}}"#, "m".repeat(length));
        assert_eq!(used(&named(MODEL_NAME_MAX)).model.len(), MODEL_NAME_MAX);
        check_bad(&named(MODEL_NAME_MAX + 1), "more than 128 bytes");
    }

    #[test]
    fn a_parked_agent_says_why_and_perhaps_until_when() {
        let said = |until_ms, after_ms| {
            Some(Message::Parked(Parked { reason: "rate limit".into(), until_ms, after_ms }))
        };
        check(r#"{"quorate":"parked","reason":" rate limit "}"#, said(None, None));
        check(
            r#"{"quorate":"parked","reason":"rate limit","until":"2026-01-01T00:00:01Z"}"#,
            said(Some(1_767_225_601_000), None),
        );
        check(r#"{"quorate":"parked","reason":"rate limit","after_ms":5000}"#, said(None, Some(5_000)));
        check_bad(r#"{"quorate":"parked"}"#, "parked without a `reason`");
        check_bad(r#"{"quorate":"parked","reason":"x","until":"tomorrow"}"#, "no RFC 3339 time");
        check_bad(r#"{"quorate":"parked","reason":"x","after_ms":-1}"#, "`after_ms` is not from 0");
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
        let said = Message::Progress { percent: None, message: Some(text), findings: Vec::new() };
        let message = said.masked(&mask);
        let expected = format!("{}***", "x".repeat(MAX_TEXT - 4));
        assert_eq!(Some(message), progress(None, Some(&expected)));
    }
}

/// What must hold for any output: the same properties that `cargo xtask fuzz output` tries.
#[cfg(test)]
#[path = "../../../fuzz/src/output.rs"]
mod any_output;

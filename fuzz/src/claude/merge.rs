//! Claude Code's files: any text, with our entries put in and taken out again.
//!
//! What is refused has its place in the file. What was there stays, in its order; a second time changes nothing; taken out again,
//! the file says what it said before.

use super::settings::{Kind, put_in, say_the_same, says_nothing, take_out};
use serde_json::Value;

const FILE: &str = "f.json";

/// Merges the text in both ways.
pub fn check(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    for kind in [Kind::Settings, Kind::Mcp] {
        match put_in(kind, FILE, text) {
            Ok(merged) => check_merged(kind, text, &merged.text, merged.left.is_empty()),
            Err(error) => {
                assert!(error.message.starts_with(FILE) && error.hint.is_some(), "{error:?}");
                assert!(take_out(kind, FILE, text).is_err() || says_nothing(text), "{text:?}");
            }
        }
    }
}

fn check_merged(kind: Kind, text: &str, merged: &str, is_all_ours: bool) {
    let again = put_in(kind, FILE, merged).unwrap_or_else(|e| panic!("{e:?}\n{merged}"));
    assert_eq!(again.text, merged, "a second time changes it: {text:?}");
    let out = take_out(kind, FILE, merged).unwrap_or_else(|e| panic!("{e:?}\n{merged}")).text;
    // A number beyond those of 64 bits is taken as it is written, and read by nobody here.
    let Some(before) = read(text) else { return };
    let after = read(merged).unwrap_or_else(|| panic!("no JSON: {merged}"));
    assert!(keeps(&before, &after), "{text:?} became {merged:?}");
    let had_ours = take_out(kind, FILE, text).is_ok_and(|found| found.text != text);
    if is_all_ours && !had_ours {
        assert!(
            say_the_same(&out, text) || says_nothing(&out) && says_nothing(text),
            "{text:?} became {out:?}"
        );
    }
}

fn read(text: &str) -> Option<Value> {
    let text = text.trim_start_matches('\u{feff}').trim();
    serde_json::from_str(if text.is_empty() { "{}" } else { text }).ok()
}

/// Returns whether all that was there before is there after.
fn keeps(before: &Value, after: &Value) -> bool {
    match (before, after) {
        (Value::Object(before), Value::Object(after)) => {
            before.iter().all(|(key, value)| after.get(key).is_some_and(|now| keeps(value, now)))
        }
        (Value::Array(before), Value::Array(after)) => {
            before.len() <= after.len() && before.iter().zip(after).all(|(value, now)| keeps(value, now))
        }
        (before, after) => before == after,
    }
}

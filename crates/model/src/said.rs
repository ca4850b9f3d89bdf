//! Fields of a JSON object that a program said: texts and whole numbers.
//!
//! Here lives the reading of one field, within its bounds, and the cutting of a text to its own. What is missing or null was not said; what is of another kind is
//! told as a reason, in words. Which fields there are is known to who reads them.

use crate::diagnostic::floor_char_boundary;
use serde_json::{Map, Value};
use std::borrow::Cow;

/// Reads a text without NUL, which no database keeps.
///
/// # Errors
/// The reason, where the field is no text.
pub fn text(fields: &Map<String, Value>, key: &str) -> Result<Option<String>, String> {
    match fields.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.replace('\0', "\u{fffd}"))),
        Some(_) => Err(format!("`{key}` is not a string")),
    }
}

/// Reads a whole number from 0 to `most`; a fraction is cut off.
///
/// # Errors
/// The reason, where the field is no number or out of bounds.
pub fn number(fields: &Map<String, Value>, key: &str, most: i64) -> Result<Option<i64>, String> {
    let number = match fields.get(key) {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::Number(number)) => number,
        Some(_) => return Err(format!("`{key}` is not a number")),
    };
    let whole = number.as_i64().or_else(|| number.as_f64().filter(|n| n.abs() < 1e18).map(|n| n as i64));
    match whole {
        Some(whole) if (0..=most).contains(&whole) => Ok(Some(whole)),
        _ => Err(format!("`{key}` is not from 0 to {most}")),
    }
}

/// Returns a text of so many bytes at most: its beginning, and `…` where it is cut.
///
/// ```
/// use quorate_model::said::shortened;
/// assert_eq!(shortened("as it is", 8), "as it is");
/// assert_eq!(shortened("longer than that", 9), "longer…");
/// ```
pub fn shortened(text: &str, bytes: usize) -> Cow<'_, str> {
    if text.len() <= bytes {
        return text.into();
    }
    let end = floor_char_boundary(text, bytes.saturating_sub('…'.len_utf8()));
    format!("{}…", &text[..end]).into()
}

/// Takes control characters out: no database keeps a NUL, and none of the others helps whoever reads this.
pub fn printable(text: &str) -> String {
    text.replace(char::is_control, "\u{fffd}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn fields(value: Value) -> Map<String, Value> {
        value.as_object().cloned().expect("an object")
    }

    #[test]
    fn what_is_missing_was_not_said_and_what_is_of_another_kind_is_no_field() {
        let said = fields(json!({ "a": "x\u{0}y", "n": 2.9, "none": null, "list": [] }));
        assert_eq!(text(&said, "a"), Ok(Some("x\u{fffd}y".into())));
        assert_eq!((text(&said, "none"), text(&said, "other")), (Ok(None), Ok(None)));
        assert_eq!(text(&said, "n"), Err("`n` is not a string".into()));
        assert_eq!((number(&said, "n", 2), number(&said, "none", 2)), (Ok(Some(2)), Ok(None)));
        assert_eq!(number(&said, "n", 1), Err("`n` is not from 0 to 1".into()));
        assert_eq!(number(&said, "list", 1), Err("`list` is not a number".into()));
        assert_eq!(printable("a\u{1b}b"), "a\u{fffd}b");
    }
}

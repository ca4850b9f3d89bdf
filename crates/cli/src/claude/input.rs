//! What Claude Code tells a hook or the status line: one JSON document on standard input.
//!
//! Here live its reading, and finding the place it is about. Fields that are missing or of another kind count as absent: a
//! later version of Claude Code may say more, or less.

use crate::place::Place;
use quorate_model::{Error, Result};
use serde_json::Value;
use std::ffi::OsString;
use std::io::{IsTerminal, Read};
use std::path::PathBuf;

/// The longest document that is read, in bytes: a written file and what became of it fit in.
const INPUT_MAX: u64 = 64 << 20;

/// The document.
#[derive(Debug)]
pub(super) struct Input(Value);

impl Input {
    /// Reads standard input.
    pub(super) fn read() -> Result<Input> {
        let stdin = std::io::stdin();
        if stdin.is_terminal() {
            return Err(Error::invalid(
                "this command reads JSON from standard input, and that is a terminal",
            )
            .hint("quorate init --claude lets Claude Code call it"));
        }
        let mut text = Vec::new();
        let read = stdin.lock().take(INPUT_MAX + 1).read_to_end(&mut text);
        read.map_err(|e| Error::failed(format!("cannot read standard input: {e}")))?;
        Input::parse(&text)
    }

    fn parse(text: &[u8]) -> Result<Input> {
        if text.len() as u64 > INPUT_MAX {
            return Err(Error::invalid(format!("the input has more than {INPUT_MAX} bytes")));
        }
        let value = serde_json::from_slice(text);
        value.map(Input).map_err(|e| Error::invalid(format!("the input is not JSON: {e}")))
    }

    /// Returns a value by its path: `/tool_input/file_path`.
    pub(super) fn value(&self, path: &str) -> Option<&Value> {
        self.0.pointer(path).filter(|value| !value.is_null())
    }

    /// Returns a text that is not empty.
    pub(super) fn text(&self, path: &str) -> Option<&str> {
        self.value(path)?.as_str().filter(|text| !text.is_empty())
    }

    /// Returns a number.
    pub(super) fn number(&self, path: &str) -> Option<f64> {
        self.value(path)?.as_f64()
    }

    /// Returns a whole number.
    pub(super) fn integer(&self, path: &str) -> Option<i64> {
        self.value(path)?.as_i64()
    }

    /// Goes to the project's folder and finds the place there.
    pub(super) fn place(&self) -> Result<Place> {
        let told = ["/workspace/project_dir", "/cwd"].into_iter().find_map(|path| self.text(path));
        let folder = std::env::var_os("CLAUDE_PROJECT_DIR").filter(|folder| !folder.is_empty());
        if let Some(folder) = folder.or(told.map(OsString::from)) {
            crate::place::enter(&[PathBuf::from(folder)])?;
        }
        Place::find()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_another_kind_count_as_absent() {
        let input = Input::parse(br#"{"a": null, "b": "", "c": {"d": 1.5}, "e": "x"}"#).expect("it is JSON");
        assert_eq!((input.text("/a"), input.text("/b"), input.text("/c")), (None, None, None));
        assert_eq!(
            (input.text("/e"), input.number("/c/d"), input.integer("/c/d")),
            (Some("x"), Some(1.5), None)
        );
        assert!(Input::parse(b"[1").is_err() && Input::parse(b"").is_err());
        assert_eq!(Input::parse(b"7").expect("it is JSON").text("/a"), None);
    }

    #[test]
    fn a_document_has_a_longest_size() {
        let mut text = vec![b' '; INPUT_MAX as usize - 1];
        text.push(b'1');
        assert!(Input::parse(&text).is_ok());
        text.push(b' ');
        assert!(Input::parse(&text).expect_err("too long").message.contains("more than"));
    }
}

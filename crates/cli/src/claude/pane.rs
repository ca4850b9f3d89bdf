//! The tmux pane that a session runs in, if it is one of ours: there `/clear` can be typed.
//!
//! Here lives only typing. Nothing is read from a screen; whether it is time to type, the ledger says.

use quorate_model::{Error, Result};
use std::process::{Command, Stdio};

/// Set in the pane of the orchestrator that `quorate up --tmux` starts; the pane's id, or anything where `TMUX_PANE` has it.
pub(crate) const MARKER: &str = "QUORATE_TMUX_PANE";

/// How often Ctrl-U is pressed: each cuts one line.
const LINES_CUT: &str = "40";

/// A pane of ours.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Pane(String);

impl Pane {
    /// Returns the pane that this process was started in, if it is one of ours.
    pub(super) fn own() -> Option<Pane> {
        let variable = |name| std::env::var(name).ok().filter(|value: &String| !value.is_empty());
        own(variable(MARKER)?, variable("TMUX_PANE"))
    }

    /// Types a line, without Enter. What somebody has half typed there is cut, so that it is not sent with it; a prompt of
    /// Claude Code keeps it for Ctrl-Y.
    pub(super) fn line(&self, text: &str) -> Result<()> {
        self.keys(&["-N", LINES_CUT, "--", "C-u"])?;
        self.keys(&["-l", "--", text])
    }

    /// Presses Enter.
    pub(super) fn enter(&self) -> Result<()> {
        self.keys(&["--", "Enter"])
    }

    fn keys(&self, words: &[&str]) -> Result<()> {
        let mut tmux = Command::new("tmux");
        tmux.args(["send-keys", "-t", &self.0]).args(words);
        let done = tmux.stdin(Stdio::null()).output();
        let done = done.map_err(|e| Error::failed(format!("tmux cannot be started: {e}")))?;
        if done.status.success() {
            return Ok(());
        }
        let why = String::from_utf8_lossy(&done.stderr);
        Err(Error::failed(format!("tmux types nothing into pane {}: {}", self.0, why.trim())))
    }
}

fn own(marker: String, pane: Option<String>) -> Option<Pane> {
    let id = if marker.starts_with('%') { marker } else { pane? };
    let digits = id.strip_prefix('%')?;
    let is_id = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    is_id.then_some(Pane(id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pane_is_ours_by_its_marker_alone() {
        let check = |marker: &str, pane: Option<&str>, expected: Option<&str>| {
            let found = own(marker.into(), pane.map(str::to_owned));
            assert_eq!(found, expected.map(|id| Pane(id.into())), "{marker} {pane:?}");
        };
        check("1", Some("%4"), Some("%4"));
        check("%7", Some("%4"), Some("%7"));
        check("%7", None, Some("%7"));
        check("1", None, None);
        check("%", None, None);
        check("%7;kill-server", None, None);
        check("1", Some("main:0"), None);
    }
}

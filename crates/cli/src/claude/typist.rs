//! Typing into a session's pane, by a process of its own.
//!
//! Claude Code takes no Enter while a hook runs, and ends a status line that takes long; so who finds that something is to be
//! typed starts a typist and goes. The typist looks into the ledger, never at the screen, for whether the line was taken,
//! and presses Enter again until it was.

use super::input::Input;
use super::pane::Pane;
use super::session;
use crate::place::Place;
use quorate_model::{Error, Result};
use quorate_service::session::{Clear, Find, Session};
use quorate_store::Store;
use serde_json::json;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::Duration;

/// The word by which a typist is started, instead of an event.
pub(super) const EVENT: &str = "type";
/// How often Enter is pressed at most.
const TRIES: usize = 10;
/// The pause before each.
const PAUSE: Duration = Duration::from_millis(400);

/// What is typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Line {
    /// Empties the context.
    Clear,
    /// Lets a session that was cleared go on by itself.
    GoOn,
}

impl Line {
    const ALL: [(Line, &'static str); 2] = [
        (Line::Clear, "/clear"),
        (Line::GoOn, "Go on with your work: what you need to know stands in the context above."),
    ];

    fn text(self) -> &'static str {
        Line::ALL.into_iter().find(|(line, _)| *line == self).map_or("", |(_, text)| text)
    }

    fn read(text: &str) -> Option<Line> {
        Line::ALL.into_iter().find(|(_, known)| *known == text).map(|(line, _)| line)
    }

    /// Returns whether the session has not taken it yet.
    fn is_due(self, session: &Session) -> bool {
        let is_waiting = session.ended_at.is_none() && !session.is_working;
        is_waiting && (self == Line::GoOn || session.is_full)
    }
}

/// Starts a typist for the session that Claude Code calls so. It outlives this process, and nobody waits for it.
pub(super) fn start(place: &Place, session: &str, line: Line) -> Result<()> {
    let cannot = |e: std::io::Error| Error::failed(format!("cannot start what types {}: {e}", line.text()));
    let own = std::env::current_exe().map_err(cannot)?;
    let mut typist = Command::new(own);
    typist.args(["hook", EVENT]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut typist = typist.process_group(0).spawn().map_err(cannot)?;
    let told =
        json!({ "session_id": session, "line": line.text(), "cwd": place.folder.display().to_string() });
    let stdin = typist.stdin.take();
    stdin.map_or(Ok(()), |mut stdin| stdin.write_all(told.to_string().as_bytes())).map_err(cannot)
}

/// Is the typist.
pub(super) async fn run() -> Result<()> {
    let input = Input::read()?;
    let place = input.place()?;
    let line = input.text("/line").and_then(Line::read);
    let (Some(line), Some(name), Some(pane)) = (line, input.text("/session_id"), Pane::own()) else {
        return Err(Error::invalid("only quorate itself starts this, in a pane of its own"));
    };
    let Some(store) = place.look().await? else { return Ok(()) };
    let typed = type_line(&place, &store, name, line, &pane).await;
    place.close().await;
    typed
}

async fn type_line(place: &Place, store: &Store, name: &str, line: Line, pane: &Pane) -> Result<()> {
    for tried in 0..TRIES {
        tokio::time::sleep(PAUSE).await;
        let session = store.read(Find::Name(name.to_owned())).await?;
        let Some(session) = session.filter(|session| line.is_due(session)) else { break };
        if tried == 0 {
            if line == Line::Clear && !may_clear(place, store, &session).await? {
                break;
            }
            pane.line(line.text())?;
        }
        pane.enter()?;
    }
    Ok(())
}

/// Saves what the session has, and says whether it may be cleared now: if a turn has begun meanwhile, the end of that is the next
/// occasion. Who found its context full may have had no time to save it.
async fn may_clear(place: &Place, store: &Store, session: &Session) -> Result<bool> {
    session::checkpoint(place, store, session, "the context is full").await?;
    store.write(Clear { id: session.id }).await
}

//! `quorate hook EVENT`: what is done when something happens in a session of Claude Code.
//!
//! Here lives one function per event. An answer is one JSON document on standard output, or nothing; the exit code is
//! always 0, since Claude Code takes 2 as a refusal and shows any other to the person. What goes wrong is one line on
//! standard error. Only git's `pre-commit` has a code of its own ([`super::guard`]).

use super::input::Input;
use super::me::{self, PROGRAM};
use super::pane::Pane;
use super::typist::{self, Line};
use super::{guard, session};
use crate::args::Hook;
use crate::place::Place;
use crate::print;
use quorate_model::name::check_agent;
use quorate_model::{Error, Result};
use quorate_service::claim::{Guard, Guarded, NoteRefused};
use quorate_service::session::{Beat, End, Find, Restored, Session};
use quorate_service::view::Runs;
use quorate_store::Store;
use serde_json::{Value, json};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a hook waits for the ledger. Claude Code itself gives up after the time in its settings.
const PATIENCE: Duration = Duration::from_secs(2);
/// Claude Code ends 1.5 s after a session, whatever its hooks still do.
const PATIENCE_AT_END: Duration = Duration::from_millis(1_200);
/// A sign of life that follows another so soon is not written.
const BEAT_MS: i64 = 5_000;
/// The longest text that is given to a session, in characters; Claude Code cuts at 10,000.
const TEXT_MAX: usize = 9_500;
/// Tools that read what they name.
const READERS: [&str; 6] = ["Read", "NotebookRead", "Glob", "Grep", "LS", "LSP"];
/// Where a tool's input names the file that it changes.
const FILES: [&str; 4] =
    ["/tool_input/file_path", "/tool_input/notebook_path", "/tool_input/path", "/tool_input/destination"];
/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Event {
    SessionStart,
    SessionEnd,
    UserPromptSubmit,
    PreToolUse,
    PostToolUse,
    PreCompact,
    Stop,
    SubagentStop,
}

impl Event {
    const ALL: [(Event, &'static str); 8] = [
        (Event::SessionStart, "SessionStart"),
        (Event::SessionEnd, "SessionEnd"),
        (Event::UserPromptSubmit, "UserPromptSubmit"),
        (Event::PreToolUse, "PreToolUse"),
        (Event::PostToolUse, "PostToolUse"),
        (Event::PreCompact, "PreCompact"),
        (Event::Stop, "Stop"),
        (Event::SubagentStop, "SubagentStop"),
    ];

    fn read(text: &str) -> Option<Event> {
        Event::ALL.into_iter().find(|(_, name)| *name == text).map(|(event, _)| event)
    }

    fn patience(self) -> Duration {
        if self == Event::SessionEnd { PATIENCE_AT_END } else { PATIENCE }
    }
}

pub(crate) async fn hook(args: &Hook) -> Result<u8> {
    if args.event == guard::EVENT {
        return guard::check(args.folder.as_deref()).await;
    }
    if args.event == typist::EVENT {
        typist::run().await.unwrap_or_else(|error| note(&error));
        return Ok(0);
    }
    let Some(event) = Event::read(&args.event) else {
        print::note(&format!("quorate hook: nothing is done at {}", print::one_line(&args.event)));
        return Ok(0);
    };
    let answer = match tokio::time::timeout(event.patience(), answer(event)).await {
        Ok(answer) => answer,
        Err(_) => Err(Error::failed("the ledger did not answer in time")),
    };
    match answer {
        Ok(Some(answer)) => print::json_line(&answer),
        Ok(None) => {}
        Err(error) => note(&error),
    }
    Ok(0)
}

/// Says what went wrong to whoever looks (`claude --debug`).
fn note(error: &Error) {
    print::note(&format!("quorate hook: {}", print::one_line(&error.message)));
}

async fn answer(event: Event) -> Result<Option<Value>> {
    let input = Input::read()?;
    let place = input.place()?;
    let Some(store) = place.look().await? else { return Ok(None) };
    let answer = Turn { input, place: place.clone(), store }.answer(event).await;
    place.close().await;
    answer
}

/// One call: what happened where.
struct Turn {
    input: Input,
    place: Place,
    store: Store,
}

impl Turn {
    async fn answer(&self, event: Event) -> Result<Option<Value>> {
        // A node keeps the leases of what it supervises, and knows how it began and ended.
        if me::is_supervised() && !matches!(event, Event::PreToolUse | Event::SessionStart) {
            return Ok(None);
        }
        match event {
            Event::PreToolUse => self.before_tool().await,
            Event::SessionStart => self.started().await,
            Event::PostToolUse => self.seen(None).await,
            Event::UserPromptSubmit => self.seen(Some(true)).await,
            Event::SubagentStop => self.seen(None).await,
            Event::Stop => self.stopped().await,
            Event::PreCompact => self.before_compaction().await,
            Event::SessionEnd => self.ended().await,
        }
    }

    fn session_name(&self) -> Result<&str> {
        self.input.text("/session_id").ok_or_else(|| Error::invalid("the input has no `session_id`"))
    }

    async fn known(&self) -> Result<Option<Session>> {
        self.store.read(Find::Name(self.session_name()?.to_owned())).await
    }

    /// The session; one that began before there was a ledger begins now.
    async fn session(&self) -> Result<Session> {
        match self.known().await? {
            Some(session) if session.ended_at.is_none() => Ok(session),
            _ => session::open(&self.place, &self.store, self.session_name()?, None).await,
        }
    }

    /// Refuses to change a file that another agent has claimed.
    async fn before_tool(&self) -> Result<Option<Value>> {
        let resources = self.changed();
        if resources.is_empty() {
            return Ok(None);
        }
        let named = me::named(&self.place)?;
        let agent = match &named {
            Some(agent) => Some(agent.clone()),
            None => self.known().await?.map(|session| session.agent),
        };
        let guards = self.store.read(Guarded { agent: agent.clone(), resources }).await?;
        let Some(first) = guards.first() else { return Ok(None) };
        let refusal = refusal(first, agent.as_deref(), named.is_some());
        let refused = NoteRefused { agent: agent.unwrap_or_else(|| PROGRAM.to_owned()), guards };
        self.store.write(refused).await.unwrap_or_else(|error| note(&error));
        Ok(Some(refusal))
    }

    /// The files that the tool would change, as resources of this place: as they are named, and where links lead.
    fn changed(&self) -> Vec<String> {
        if self.input.text("/tool_name").is_some_and(|tool| READERS.contains(&tool)) {
            return Vec::new();
        }
        let folder = self.input.text("/cwd").map_or_else(|| self.place.folder.clone(), PathBuf::from);
        let files = FILES.iter().filter_map(|path| self.input.text(path));
        let paths = files.flat_map(|file| with_target(folder.join(file)));
        let names = paths.filter_map(|path| guard::resource(&path, &self.place.folder));
        names.fold(Vec::new(), |mut all, name| {
            if !all.contains(&name) {
                all.push(name);
            }
            all
        })
    }

    /// Begins the session, and gives back the context that it lost, or that of what goes on.
    async fn started(&self) -> Result<Option<Value>> {
        let source = self.input.text("/source").unwrap_or("startup");
        let is_lost = session::is_lost(source);
        if me::is_supervised() {
            let agent = me::named(&self.place)?;
            return if is_lost { self.context(agent, source).await.map(Some) } else { Ok(None) };
        }
        // Who may not join the team may still know what goes on.
        let session = session::open(&self.place, &self.store, self.session_name()?, Some(source)).await;
        let session = session.map_err(|error| note(&error)).ok();
        if let Some(session) = session.as_ref().filter(|session| session.is_named)
            && let Err(error) = tell_shell(&session.agent)
        {
            note(&error);
        }
        if !is_lost && self.store.read(Runs { open: true }).await?.is_empty() {
            return Ok(None);
        }
        let answer = self.context(session.as_ref().map(|session| session.agent.clone()), source).await?;
        if let Some(session) = session.filter(|_| is_lost) {
            self.go_on(session.id, source).await.unwrap_or_else(|error| note(&error));
        }
        Ok(Some(answer))
    }

    /// Notes that the context is given back; a session that was cleared by us is told to go on.
    async fn go_on(&self, id: i64, source: &str) -> Result<()> {
        let was_cleared = self.store.write(Restored { id, source: source.to_owned() }).await?;
        if was_cleared && Pane::own().is_some() {
            typist::start(&self.place, self.session_name()?, Line::GoOn)?;
        }
        Ok(())
    }

    async fn context(&self, agent: Option<String>, source: &str) -> Result<Value> {
        let context = session::context(&self.place, &self.store, agent.clone()).await?;
        let who = match agent {
            Some(agent) => {
                format!("You are `{agent}` in this team (Quorate): give that name as --agent or --from.\n")
            }
            None => String::new(),
        };
        let lost = match source {
            "startup" => "Work is going on here",
            _ => "Your context was lost or cut; what the team's ledger knows",
        };
        let text = format!(
            "{who}{lost} (`quorate context` has it anew, `quorate recall \"…\"` the rest):\n\n{context}"
        );
        let output = json!({ "hookEventName": "SessionStart", "additionalContext": cut(&text, TEXT_MAX) });
        Ok(json!({ "hookSpecificOutput": output }))
    }

    async fn seen(&self, working: Option<bool>) -> Result<Option<Value>> {
        let session = self.session().await?;
        let is_news = working.is_some_and(|working| working != session.is_working);
        if is_news || session.is_silent_for(BEAT_MS) {
            self.store.write(Beat { id: session.id, working }).await?;
        }
        Ok(None)
    }

    /// The turn is over; what it left running in the background is not.
    async fn stopped(&self) -> Result<Option<Value>> {
        let session = self.session().await?;
        let tasks = self.input.value("/background_tasks").and_then(Value::as_array);
        let is_working = tasks.is_some_and(|tasks| !tasks.is_empty());
        // The status line tells of a full context at the same moment: whichever comes second sees the other, and clears.
        if let Some(session) = self.store.write(Beat { id: session.id, working: Some(is_working) }).await? {
            session::clear(&self.place, &session)?;
        }
        Ok(None)
    }

    async fn before_compaction(&self) -> Result<Option<Value>> {
        let session = self.session().await?;
        session::checkpoint(&self.place, &self.store, &session, "before a compaction").await?;
        Ok(None)
    }

    async fn ended(&self) -> Result<Option<Value>> {
        let reason = self.input.text("/reason").unwrap_or("other");
        let Some(session) = self.known().await? else { return Ok(None) };
        // The process goes on, under another name.
        if matches!(reason, "clear" | "resume") {
            self.store.write(Beat { id: session.id, working: Some(false) }).await?;
        } else {
            self.store.write(End { id: session.id, reason: reason.to_owned() }).await?;
        }
        Ok(None)
    }
}

/// A path, and where it leads if that is another place.
fn with_target(path: PathBuf) -> impl Iterator<Item = PathBuf> {
    let target = std::fs::canonicalize(&path).ok().or_else(|| {
        let folder = std::fs::canonicalize(path.parent()?).ok()?;
        Some(folder.join(path.file_name()?))
    });
    let target = target.filter(|target| *target != path);
    std::iter::once(path).chain(target)
}

/// The answer that keeps the tool from running. The model is told what to do instead, the person who he is taken for.
fn refusal(guard: &Guard, agent: Option<&str>, is_sure: bool) -> Value {
    let (holder, wanted) = (&guard.by.agent, &guard.resource);
    let me = agent.unwrap_or("YOUR_NAME");
    let reason = format!(
        "{}. Leave this file alone: do something else first, wait for it (quorate claim '{wanted}' --agent {me} --wait 5m), or ask \
         its holder (quorate send --from {me} --to {holder} \"…\").",
        guard.said()
    );
    let output = json!({
        "hookEventName": "PreToolUse", "permissionDecision": "deny", "permissionDecisionReason": reason
    });
    let mut answer = json!({ "hookSpecificOutput": output });
    if !is_sure {
        let message = format!(
            "Quorate: {}. If {holder} is you, start Claude Code with QUORATE_AGENT={holder}; a person may end it with \
             `quorate release '{}' --force --reason \"…\"`.",
            guard.said(),
            guard.by.resource
        );
        answer["systemMessage"] = message.into();
    }
    answer
}

/// Lets the commands of the session know its agent: Claude Code has a shell read this file before each. What is no name is not
/// written there: it may come from a ledger that others write to.
fn tell_shell(agent: &str) -> Result<()> {
    check_agent(agent)?;
    let Some(file) = std::env::var_os("CLAUDE_ENV_FILE").filter(|file| !file.is_empty()) else {
        return Ok(());
    };
    let line = format!("export QUORATE_AGENT={agent}\n");
    let written = std::fs::OpenOptions::new().append(true).create(true).open(&file);
    let written = written.and_then(|mut file| file.write_all(line.as_bytes()));
    written.map_err(|e| Error::failed(format!("cannot write {}: {e}", Path::new(&file).display())))
}

/// Returns at most so many characters of a text, and says what is missing.
fn cut(text: &str, most: usize) -> String {
    const MORE: &str = "\n… (cut; quorate context)";
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most - MORE.chars().count()).chain(MORE.chars()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_at_its_limit_and_says_so() {
        assert_eq!(cut(&"ä".repeat(TEXT_MAX), TEXT_MAX).chars().count(), TEXT_MAX);
        let long = cut(&"ä".repeat(TEXT_MAX + 1), TEXT_MAX);
        assert_eq!(long.chars().count(), TEXT_MAX);
        assert!(long.ends_with("quorate context)"), "{long}");
    }

    #[test]
    fn every_event_is_known_by_its_name() {
        assert!(Event::ALL.iter().all(|(event, name)| Event::read(name) == Some(*event)));
        assert_eq!(Event::read("Notification"), None);
        assert!(Event::SessionEnd.patience() < Duration::from_millis(1_500));
    }
}

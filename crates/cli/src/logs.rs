//! `quorate logs`: the kept output of an attempt.
//!
//! The whole output is a file on the host that ran the attempt; its end is in the ledger, which is what is shown
//! where the file is not.

use crate::args::Logs;
use crate::events::{appearing, is_reader_gone};
use crate::lookout::{soon, watch};
use crate::place::Place;
use crate::print;
use crate::signals::Signals;
use quorate_model::{Error, EventKind, Kind, Result, Seq, TaskId};
use quorate_server::Pause;
use quorate_service::event::{After, Filter, Latest, Logged, PAGE_MAX};
use quorate_service::log::LatestAttempt;
use quorate_service::view::{Attempt, Story, TaskStory};
use quorate_service::wire;
use quorate_store::Store;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How often a follower looks for more output.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How many looks pass before the ledger is asked whether the attempt has ended.
const LOOKS_PER_QUESTION: u32 = 5;
/// A place in the log before any event.
const BEFORE_ALL: Seq = Seq(-1);
/// Built-in shell agents that a node may have.
const SHELL_AGENTS_MAX: usize = 1_000;

pub(crate) async fn logs(place: &Place, args: &Logs, json: bool) -> Result<u8> {
    if args.follow && json {
        return Err(Error::invalid("--follow prints text as it comes, which is no JSON document")
            .hint("leave out --json, or follow the facts: quorate events --follow --json"));
    }
    if args.follow && args.attempt.is_none() && args.of.parse::<i64>().is_err() {
        return follow_agent(place, &args.of).await;
    }
    let store =
        place.open_for(format!("agent or task {}", quorate_model::diagnostic::quote(&args.of))).await?;
    let attempt = find(place, &store, args).await?;
    if args.follow {
        return follow(place, &store, attempt).await;
    }
    let output = kept(place, &attempt)?;
    if json {
        let mut value = wire::value(wire::Attempt::from(&attempt));
        value["output"] = String::from_utf8_lossy(&output.bytes).into();
        value["whole"] = output.is_whole.into();
        print::document(&value);
    } else {
        output.note.as_deref().into_iter().for_each(print::note);
        show(&output.bytes);
    }
    Ok(0)
}

/// Finds the attempt that is meant: a number is a task, anything else an agent.
async fn find(place: &Place, store: &Store, args: &Logs) -> Result<Attempt> {
    if let Ok(id) = args.of.parse::<i64>() {
        let story = store.read(Story { id: TaskId(id) }).await?;
        return choose(story, args.attempt, None);
    }
    place.desk(store).agent(&args.of).await?;
    let Some((id, number)) = store.read(LatestAttempt { agent: args.of.clone() }).await? else {
        return Err(Error::not_found(format!("agent `{}` has not worked at any task", args.of))
            .hint("`quorate task list` shows who had what"));
    };
    choose(store.read(Story { id }).await?, args.attempt.or(Some(number)), Some(&args.of))
}

fn choose(mut story: TaskStory, number: Option<i64>, agent: Option<&str>) -> Result<Attempt> {
    let fits = |attempt: &Attempt| {
        number.is_none_or(|number| attempt.number == number)
            && agent.is_none_or(|agent| attempt.agent == agent)
    };
    match story.attempts.iter().rposition(fits) {
        Some(place) => Ok(story.attempts.swap_remove(place)),
        None => Err(no_attempt(&story, number, agent)),
    }
}

/// Says that there is no such attempt, or that it was another's.
fn no_attempt(story: &TaskStory, number: Option<i64>, agent: Option<&str>) -> Error {
    let (name, id) = (story.task.named(), story.task.id);
    let there = story.attempts.iter().find(|attempt| Some(attempt.number) == number);
    if let Some((Attempt { number, agent: owner, .. }, agent)) = there.zip(agent) {
        return Error::not_found(format!("attempt {number} of task {name} was by {owner}, not by {agent}"))
            .hint(format!("quorate logs {id} --attempt {number} shows its output"));
    }
    let what = number.map_or("attempt".into(), |number| format!("attempt {number}"));
    Error::not_found(format!("task {name} has no {what}; it has {} so far", story.attempts.len()))
        .hint(format!("quorate task show {id} tells about them"))
}

/// Output as far as it can be had here.
struct Output {
    bytes: Vec<u8>,
    is_whole: bool,
    /// Why it is not whole.
    note: Option<String>,
}

fn kept(place: &Place, attempt: &Attempt) -> Result<Output> {
    let why = match file_here(place, attempt) {
        Ok(file) => match std::fs::read(&file) {
            Ok(bytes) => return Ok(Output { bytes, is_whole: true, note: None }),
            Err(e) => format!("the output's file cannot be read ({}: {e})", file.display()),
        },
        Err(why) => why,
    };
    match &attempt.tail {
        Some(tail) => {
            let note = Some(format!("{why}; this is its end"));
            Ok(Output { bytes: tail.clone().into_bytes(), is_whole: false, note })
        }
        None => Err(Error::not_found(format!(
            "no output of attempt {} of task {}: {why}",
            attempt.number, attempt.task
        ))
        .hint(format!("quorate task show {} tells how it went", attempt.task))),
    }
}

/// Returns where the output is kept, or why that is not here.
pub(crate) fn file_here(place: &Place, attempt: &Attempt) -> Result<PathBuf, String> {
    let Some(log) = &attempt.log else {
        return Err("no output is kept: its agent works outside of any node".into());
    };
    match (&attempt.host, quorate_process::host()) {
        (Some(host), Ok(here)) if *host != here => Err(format!("the output is kept on host {host} in {log}")),
        _ => Ok(here_or_archived(place, log)),
    }
}

/// Returns the file, or where `down --archive-logs` has put it.
fn here_or_archived(place: &Place, log: &str) -> PathBuf {
    let file = place.folder.join(log);
    let Some(name) = file.file_name().filter(|_| !file.exists()) else { return file };
    let archives = std::fs::read_dir(place.state_folder().join(ARCHIVE)).into_iter().flatten().flatten();
    let mut found = archives.map(|archive| archive.path().join(name)).filter(|archived| archived.exists());
    found.next().unwrap_or(file)
}

/// Moves all kept output into a new folder of the archive; answers with that folder, or `None` if there was none.
pub(crate) fn archive(place: &Place, stamp: &str) -> Result<Option<PathBuf>> {
    let logs = place.state_folder().join("logs");
    if !logs.is_dir() {
        return Ok(None);
    }
    let target = place.state_folder().join(ARCHIVE).join(stamp);
    let cannot = |e: std::io::Error| {
        Error::failed(format!("cannot move {} to {}: {e}", logs.display(), target.display()))
    };
    quorate_store::private_folder(&place.state_folder().join(ARCHIVE)).map_err(cannot)?;
    std::fs::rename(&logs, &target).map_err(cannot)?;
    Ok(Some(target))
}

/// The folder of archived output, below the folder of state.
const ARCHIVE: &str = "archive";

/// Writes output as it is; on a terminal without what would steer it, colours excepted.
fn show(bytes: &[u8]) {
    if print::is_terminal() {
        print::bytes(tame(&String::from_utf8_lossy(bytes)).as_bytes());
    } else {
        print::bytes(bytes);
    }
}

fn tame(text: &str) -> String {
    let mut parts = text.split("\u{1b}[");
    let mut tamed = print::lines(parts.next().unwrap_or_default());
    for part in parts {
        let end =
            part.find(|c: char| !c.is_ascii_digit() && c != ';').filter(|&end| part[end..].starts_with('m'));
        match end {
            Some(end) if print::is_coloured() => {
                tamed.push_str(&format!("\u{1b}[{}m{}", &part[..end], print::lines(&part[end + 1..])));
            }
            Some(end) => tamed.push_str(&print::lines(&part[end + 1..])),
            None => tamed.push_str(&print::lines(&format!("\u{1b}[{part}"))),
        }
    }
    tamed
}

/// Prints what an agent's attempts print, one after the other, each from its beginning, until a signal: what it does
/// now, or did last, and whatever it does next. One that has not come yet is waited for.
async fn follow_agent(place: &Place, name: &str) -> Result<u8> {
    if !is_ours(place, name) {
        let store = place.open_for(format!("agent {}", quorate_model::diagnostic::quote(name))).await?;
        place.desk(&store).agent(name).await?;
    }
    let is_new = place.is_missing();
    let Some(store) = appearing(place).await? else { return Ok(Kind::Interrupted.exit_code()) };
    let mut watch = watch(&store, None)?;
    // In a ledger that came after us, all is news: what was quick is over already.
    let (seen, latest) = match is_new {
        true => (BEFORE_ALL, None),
        false => {
            let seen = store.read(Latest).await?;
            (seen, store.read(LatestAttempt { agent: name.to_owned() }).await?)
        }
    };
    let mut attempts = Attempts { agent: name, seen, last: None };
    let mut next = Vec::from_iter(latest);
    let mut is_away = false;
    loop {
        for (id, number) in next {
            attempts.last = Some((id, number));
            let code = follow_one(place, &store, id, number).await?;
            if code != 0 || print::is_closed() {
                return Ok(code);
            }
        }
        next = match attempts.more(&store).await {
            Ok(more) => {
                is_away = false;
                more
            }
            Err(error) if error.kind == Kind::Unavailable => {
                note_away(&error, &mut is_away);
                Vec::new()
            }
            Err(error) => return Err(error),
        };
        if is_reader_gone() {
            return Ok(0);
        }
        if next.is_empty() && watch.pause(None).await == Pause::Interrupted {
            return Ok(Kind::Interrupted.exit_code());
        }
    }
}

/// Tells whether the agent is one that a node of this place would run, or that its configuration names.
fn is_ours(place: &Place, name: &str) -> bool {
    let configured = place.config.agents();
    configured.iter().any(|(member, _)| member == name)
        || place.team(Some(SHELL_AGENTS_MAX)).iter().any(|member| member.name == name)
}

/// Says once that the ledger is away.
fn note_away(error: &Error, is_away: &mut bool) {
    if !std::mem::replace(is_away, true) {
        print::note(&format!("{error}; trying again until it is back"));
    }
}

/// The attempts of an agent, as they come into the log.
struct Attempts<'a> {
    agent: &'a str,
    seen: Seq,
    last: Option<(TaskId, i64)>,
}

impl Attempts<'_> {
    /// Returns those that have begun since, in order.
    async fn more(&mut self, store: &Store) -> Result<Vec<(TaskId, i64)>> {
        let kind = EventKind::TaskTaken.as_str().to_owned();
        let filter = Filter { agent: Some(self.agent.to_owned()), kind: Some(kind), ..Filter::default() };
        let ask = After { seq: Some(self.seen), filter, limit: PAGE_MAX };
        let page = match soon(store.read(ask)).await {
            // What expired while one attempt was followed is past anyway.
            Err(error) if error.kind == Kind::NotFound => {
                self.seen = soon(store.read(Latest)).await?;
                return Ok(Vec::new());
            }
            page => page?,
        };
        self.seen = page.seen;
        let begun = page.events.iter().filter_map(|event| Some((event.task?, number(event)?)));
        Ok(begun.filter(|attempt| self.last != Some(*attempt)).collect())
    }
}

/// Reads which attempt has begun.
fn number(event: &Logged) -> Option<i64> {
    event.facts()["attempt"].as_i64()
}

/// Follows one of an agent's attempts; one whose output is not to be had is told and passed over.
async fn follow_one(place: &Place, store: &Store, id: TaskId, number: i64) -> Result<u8> {
    let followed = async {
        let story = soon(store.read(Story { id })).await?;
        print::note(&format!("-- task {}, attempt {number} --", print::one_line(&story.task.named())));
        follow(place, store, choose(story, Some(number), None)?).await
    };
    match followed.await {
        Err(error) if matches!(error.kind, Kind::NotFound | Kind::Unavailable) => {
            print::note(&format!("task {id}, attempt {number}: {error}"));
            Ok(0)
        }
        code => code,
    }
}

/// Prints what is there and what comes, until the attempt has ended.
async fn follow(place: &Place, store: &Store, attempt: Attempt) -> Result<u8> {
    let mut signals = Signals::new()?;
    let mut tail = Tail { file: None };
    let mut now = attempt;
    let mut looks = 0;
    let mut is_away = false;
    loop {
        // Asked before reading: what was written before the end is then read after it.
        let is_over = now.ended_at.is_some();
        let path = (now.log.is_some() || is_over).then(|| file_here(place, &now)).transpose();
        let path = path.map_err(|why| Error::new(Kind::NotFound, why).hint("follow it on that host"))?;
        path.into_iter().try_for_each(|path| tail.advance(&path))?;
        if is_over || print::is_closed() {
            return Ok(0);
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK_EVERY) => {}
            _ = signals.next() => return Ok(Kind::Interrupted.exit_code()),
        }
        looks += 1;
        if looks % LOOKS_PER_QUESTION == 0 || now.log.is_none() {
            match soon(store.read(Story { id: now.task })).await {
                Ok(story) => {
                    is_away = false;
                    now = choose(story, Some(now.number), None)?;
                }
                // The file goes on; whether the attempt has ended is asked again.
                Err(error) if error.kind == Kind::Unavailable => note_away(&error, &mut is_away),
                Err(error) => return Err(error),
            }
        }
    }
}

/// A file that is read as it grows.
struct Tail {
    file: Option<File>,
}

impl Tail {
    fn advance(&mut self, path: &Path) -> Result<()> {
        let cannot = |e: std::io::Error| Error::failed(format!("cannot read {}: {e}", path.display()));
        if self.file.is_none() {
            match File::open(path) {
                Ok(file) => self.file = Some(file),
                Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
                Err(e) => return Err(cannot(e)),
            }
        }
        let Some(file) = &mut self.file else { return Ok(()) };
        let mut more = Vec::new();
        file.read_to_end(&mut more).map_err(cannot)?;
        if !more.is_empty() {
            show(&more);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_cannot_steer_the_terminal() {
        assert_eq!(tame("a\u{1b}[2Jb\n"), "a\u{fffd}[2Jb\n");
        assert_eq!(tame("\u{1b}[1;31mred\u{1b}[0m\u{7}"), "red\u{fffd}");
    }
}

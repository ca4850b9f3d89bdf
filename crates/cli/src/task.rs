//! `quorate task …`: what a person or an agent that pulls its work does with tasks.

use crate::args::{
    Task as Command, TaskAdd, TaskCancel, TaskDone, TaskFail, TaskId as Id, TaskList, TaskNext, TaskProgress,
    TaskReassign, value,
};
use crate::lookout::watch;
use crate::place::Place;
use crate::print::table::{Table, cell, state};
use crate::print::{self, time};
use crate::story;
use quorate_model::agent::abilities;
use quorate_model::at::At;
use quorate_model::budget::Budget;
use quorate_model::config::Limits;
use quorate_model::diagnostic::quote;
use quorate_model::{Error, Kind, Result, TaskId, TaskState};
use quorate_server::Caller;
use quorate_service::task::{
    Add, Cancel, Done, DoneAnswer, Fail, Kinds, NewTask, Outcome, Progress, Reassign, Retry, Take, Taken,
    Task, Unpark, Work,
};
use quorate_service::usage::Reached;
use quorate_service::view::{Story, Tasks};
use quorate_service::wire::{self, shapes};
use quorate_store::Store;
use serde_json::{Value, json};
use std::io::Read;

/// The largest result of a task, in bytes.
const RESULT_MAX: usize = 1 << 20;

pub(crate) async fn task(place: &Place, command: Command, json: bool) -> Result<u8> {
    match command {
        Command::Add(args) => add(place, *args, json).await,
        Command::List(args) => list(place, &args, json).await,
        Command::Show(args) => show(place, &args, json).await,
        Command::Next(args) => next(place, &args, json).await,
        Command::Progress(args) => progress(place, &args, json).await,
        Command::Done(args) => done(place, &args, json).await,
        Command::Fail(args) => fail(place, &args, json).await,
        Command::Cancel(args) => cancel(place, &args, json).await,
        Command::Retry(args) => retry(place, &args, json).await,
        Command::Reassign(args) => reassign(place, &args, json).await,
        Command::Approve(args) | Command::Unpark(args) => unpark(place, &args, json).await,
    }
}

async fn open_for(place: &Place, id: TaskId) -> Result<Store> {
    place.open_for(format!("task {id}")).await
}

async fn add(place: &Place, args: TaskAdd, json: bool) -> Result<u8> {
    let claims = place.resources(&value::split_names(&args.claims))?;
    let store = place.open().await?;
    if let Some(agent) = &args.agent {
        place.desk(&store).add_configured(agent).await?;
    }
    let run = args.run_id;
    let task = new_task(place, args, claims);
    let by = place.variable("QUORATE_AGENT");
    let added = store.write(Add { run, tasks: vec![task], by }).await?;
    let id = added.first().copied().expect("one task was added");
    print::answer(json, || json!({ "id": id.0 }), || format!("task {id} added"));
    Ok(0)
}

fn new_task(place: &Place, args: TaskAdd, claims: Vec<String>) -> NewTask {
    let (due_at, due_in_ms) = match args.at {
        Some(At::Time(ms)) => (Some(ms), None),
        Some(At::After(ms)) => (None, Some(ms)),
        None => (None, None),
    };
    let mut needs = args.needs;
    needs.sort_unstable();
    needs.dedup();
    NewTask {
        key: args.key,
        work: args.run.map(Work::Run).or(args.prompt.map(Work::Prompt)),
        priority: args.priority.number(),
        capability: args.capability,
        agent: args.agent,
        verify: args.verify,
        claims,
        outputs: args.outputs,
        timeout_ms: args.timeout,
        max_attempts: args.attempts.unwrap_or(place.config.health.max_attempts),
        due_at,
        due_in_ms,
        needs,
        budget: Budget { usd_micros: args.budget_usd, tokens: args.budget_tokens },
        ..NewTask::new(args.title)
    }
}

async fn list(place: &Place, args: &TaskList, json: bool) -> Result<u8> {
    let Some(store) = place.look().await? else {
        print::answer(json, || json!([]), || place.no_ledger());
        return Ok(0);
    };
    let state = args.state.map(|state| state.as_str().to_owned());
    let is_filtered = state.is_some() || args.agent.is_some() || args.run_id.is_some();
    let tasks = store.read(Tasks { run: args.run_id, state, agent: args.agent.clone() }).await?;
    let now = crate::clock::now_ms();
    let words = || match (tasks.is_empty(), is_filtered) {
        (true, true) => "no such tasks\n".into(),
        (true, false) => "no tasks yet; `quorate task add \"…\"` adds one\n".into(),
        (false, _) => table(&tasks, now).shown(),
    };
    print::answer(json, || shapes::<wire::Task, _>(&tasks), words);
    Ok(0)
}

/// Returns tasks as a table.
pub(crate) fn table(tasks: &[Task], now: i64) -> Table {
    let mut table = Table::new(&[">ID", "STATE", ">TRY", ">DONE", "~AGENT", "AGE", "~TITLE", "~WHY"]);
    for task in tasks {
        table.row([
            cell(task.id),
            state(task.state.as_str()),
            cell(format!("{}/{}", task.attempt, task.max_attempts)),
            cell(share(task)),
            cell(task.owner.as_ref().or(task.agent.as_ref()).map_or("", |agent| agent)),
            cell(time::ago(now, task.finished_at.or(task.started_at).unwrap_or(task.created_at))),
            cell(titled(task)),
            cell(task.reason.as_deref().unwrap_or("")),
        ]);
    }
    table
}

fn share(task: &Task) -> String {
    match task.state {
        TaskState::Running | TaskState::Verifying => format!("{}%", task.progress),
        _ => String::new(),
    }
}

/// Writes the title behind the key, unless it says the same.
pub(crate) fn titled(task: &Task) -> String {
    match &task.key {
        Some(key) if *key != task.title => format!("{key}: {}", task.title),
        _ => task.title.clone(),
    }
}

async fn show(place: &Place, args: &Id, json: bool) -> Result<u8> {
    let store = open_for(place, args.id).await?;
    let told = store.read(Story { id: args.id }).await?;
    print::answer(json, || wire::Story::from(&told), || story::words(&told));
    Ok(0)
}

async fn next(place: &Place, args: &TaskNext, json: bool) -> Result<u8> {
    let store = place.open().await?;
    let desk = place.desk(&store);
    let agent = desk.seen(&args.agent).await?;
    let take = Take {
        agent: args.agent.clone(),
        capabilities: if args.capability.is_empty() {
            agent.abilities()
        } else {
            abilities(&args.capability)
        },
        kinds: Kinds::Any,
        run: args.run_id,
        lease_ms: args.lease,
        node: None,
        resume: true,
        limits: Limits::default(),
    };
    let watch = args.wait.map(|wait| watch(&store, Some(wait))).transpose()?;
    let Some(taken) = desk.pull(&agent, take, watch).await? else {
        return Err(desk.takes_nothing(&args.agent).await?.unwrap_or_else(|| nothing(args)));
    };
    print::answer(json, || wire::Taken::from(&taken), || taken_words(&taken));
    Ok(0)
}

fn nothing(args: &TaskNext) -> Error {
    let name = &args.agent;
    let waited =
        args.wait.map(|ms| format!(" within {}", quorate_model::duration::short(ms))).unwrap_or_default();
    Error::new(Kind::Nothing, format!("no task is ready for {name}{waited}"))
        .hint("`quorate task list` shows what waits, `quorate task show ID` why; --wait 30s waits for one")
}

fn taken_words(taken: &Taken) -> String {
    let task = &taken.task;
    let (id, term) = (task.id, task.term);
    let until = task.lease_until.map_or_else(String::new, |at| format!(", yours until {}", time::local(at)));
    let mut text = format!(
        "task {id}  {}\n  term {term}, attempt {}{until}\n",
        print::one_line(&titled(task)),
        task.attempt
    );
    for (what, words) in [("run", &task.run), ("prompt", &task.prompt), ("check", &task.verify)] {
        if let Some(words) = words {
            text.push_str(&format!("  {what}:\n{}", print::indent(&print::lines(words), 4)));
        }
    }
    for need in &taken.needs {
        let result = need.result.as_deref().unwrap_or("(no result)");
        text.push_str(&format!("  needed {}: {}\n", print::one_line(&need.key), print::one_line(result)));
    }
    for past in &taken.previous {
        let reason = past.reason.as_deref().unwrap_or("");
        let line = format!("attempt {} by {} ended: {} {reason}", past.number, past.agent, past.outcome);
        text.push_str(&format!("  {}\n", print::one_line(&line)));
    }
    text.push_str(&format!(
        "then: quorate task done {id} --term {term}   (or: fail {id} --term {term} --error \"why\")\n"
    ));
    text
}

async fn progress(place: &Place, args: &TaskProgress, json: bool) -> Result<u8> {
    let usage = args.usage.read()?;
    let store = open_for(place, args.id).await?;
    let desk = place.desk(&store);
    let reached = desk.spend(&Caller::Person, (args.id, args.term), &usage, false).await?;
    let report =
        Progress { id: args.id, term: args.term, percent: args.percent, message: args.message.clone() };
    let task = desk.progress(report, reached).await?;
    if task.state == TaskState::Parked {
        let why = task.reason.as_deref().unwrap_or("a budget is reached");
        print::answer(json, || wire::Task::from(&task), || format!("task {} is parked: {why}", task.id));
        return Ok(Kind::Refused.exit_code());
    }
    let until = time::local(task.lease_until.unwrap_or_default());
    print::answer(
        json,
        || wire::Task::from(&task),
        || format!("task {} at {} %, yours until {until}", task.id, task.progress),
    );
    Ok(0)
}

async fn done(place: &Place, args: &TaskDone, json: bool) -> Result<u8> {
    let result = args.result.as_deref().map(read_result).transpose()?;
    let usage = args.usage.read()?;
    let store = open_for(place, args.id).await?;
    let desk = place.desk(&store);
    let reached = desk.spend(&Caller::Person, (args.id, args.term), &usage, true).await?;
    let done = Done { id: args.id, term: args.term, result, tail: None };
    let id = args.id;
    let (state, words) = match desk.done(done).await? {
        DoneAnswer::Verifying => (
            TaskState::Verifying,
            format!("task {id} is said to be done; a node runs its check (without one: `quorate up`)"),
        ),
        DoneAnswer::Completed { .. } => (TaskState::Completed, format!("task {id} completed")),
    };
    ended(json, id, state, words, reached);
    Ok(0)
}

/// Shows what became of a task, and the budget that is reached by now, if one is.
fn ended(json: bool, id: TaskId, state: TaskState, words: String, reached: Option<Reached>) {
    let mut value = json!({ "id": id.0, "state": state.as_str() });
    if let Some(reached) = &reached {
        value["budget"] = json!(reached.reason);
    }
    let reached = reached.map(|budget| format!("\n{}", budget.reason)).unwrap_or_default();
    print::answer(json, || value, || words + &reached);
}

/// Reads the result of a task: JSON as it stands, from a file, or from standard input.
fn read_result(given: &str) -> Result<String> {
    let (from, bytes) = match given {
        "-" => ("standard input".to_owned(), read_bounded("standard input", std::io::stdin().lock())?),
        given => match given.strip_prefix('@') {
            Some(file) => (file.to_owned(), read_file(file)?),
            None => ("--result".to_owned(), given.as_bytes().to_vec()),
        },
    };
    if bytes.len() > RESULT_MAX {
        return Err(Error::invalid(format!(
            "the result from {from} is larger than {RESULT_MAX} bytes (1 MiB)"
        ))
        .hint("leave it in a file and give the file's name as the result"));
    }
    let text = String::from_utf8(bytes)
        .map_err(|e| not_json(&from, &format!("byte {} is no UTF-8", e.utf8_error().valid_up_to())))?;
    serde_json::from_str::<Value>(&text).map_err(|e| not_json(&from, &e.to_string()))?;
    Ok(text.trim().to_owned())
}

fn read_file(file: &str) -> Result<Vec<u8>> {
    let opened = std::fs::File::open(file).map_err(|e| {
        let kind = if e.kind() == std::io::ErrorKind::NotFound { Kind::NotFound } else { Kind::Invalid };
        Error::new(kind, format!("cannot read the result from {}: {e}", quote(file)))
            .hint("--result @FILE reads a file, --result JSON takes it as it stands")
    })?;
    read_bounded(file, opened)
}

/// Reads one byte more than is allowed, so that what is too large is noticed and nothing more is held.
fn read_bounded(from: &str, source: impl Read) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = source.take(RESULT_MAX as u64 + 1).read_to_end(&mut bytes);
    read.map_err(|e| Error::invalid(format!("cannot read the result from {from}: {e}")))?;
    Ok(bytes)
}

fn not_json(from: &str, why: &str) -> Error {
    Error::invalid(format!("the result from {from} is not JSON: {why}"))
        .hint("put text in double quotes inside single ones: --result '\"it works\"'")
}

async fn fail(place: &Place, args: &TaskFail, json: bool) -> Result<u8> {
    let usage = args.usage.read()?;
    let store = open_for(place, args.id).await?;
    let desk = place.desk(&store);
    let reached = desk.spend(&Caller::Person, (args.id, args.term), &usage, true).await?;
    let fail = Fail {
        id: args.id,
        term: args.term,
        error: args.error.clone(),
        is_final: args.is_final,
        outcome: Outcome::Failed,
        tail: None,
        retry_after_ms: place.config.health.retry_after_ms,
    };
    let state = desk.fail(fail).await?;
    let words = match state {
        TaskState::Failed => format!("task {} failed", args.id),
        _ => format!("attempt noted as failed; task {} is tried again", args.id),
    };
    ended(json, args.id, state, words, reached);
    Ok(0)
}

async fn cancel(place: &Place, args: &TaskCancel, json: bool) -> Result<u8> {
    let store = open_for(place, args.id).await?;
    place.desk(&store).cancel(Cancel { id: args.id, reason: args.reason.clone() }).await?;
    show_changed(&store, args.id, json, &format!("task {} cancelled", args.id)).await
}

async fn retry(place: &Place, args: &Id, json: bool) -> Result<u8> {
    let store = open_for(place, args.id).await?;
    store.write(Retry { id: args.id }).await?;
    show_changed(&store, args.id, json, &format!("task {} is tried anew", args.id)).await
}

async fn reassign(place: &Place, args: &TaskReassign, json: bool) -> Result<u8> {
    let store = open_for(place, args.id).await?;
    if let Some(to) = &args.to {
        place.desk(&store).add_configured(to).await?;
    }
    store.write(Reassign { id: args.id, to: args.to.clone(), reason: args.reason.clone() }).await?;
    let words = match &args.to {
        Some(to) => format!("task {} is kept for {to}", args.id),
        None => format!("task {} is free for others", args.id),
    };
    show_changed(&store, args.id, json, &words).await
}

async fn unpark(place: &Place, args: &Id, json: bool) -> Result<u8> {
    let store = open_for(place, args.id).await?;
    store.write(Unpark { id: args.id }).await?;
    show_changed(&store, args.id, json, &format!("task {} goes on", args.id)).await
}

/// Shows the task as it is after a person's wish.
async fn show_changed(store: &Store, id: TaskId, json: bool, words: &str) -> Result<u8> {
    let value =
        if json { wire::value(wire::Task::from(&store.read(Story { id }).await?.task)) } else { Value::Null };
    print::answer(json, || value, || words.to_owned());
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_is_json_or_says_where_it_is_not() {
        assert_eq!(read_result(" {\"a\": 1} "), Ok("{\"a\": 1}".into()));
        let error = read_result("{\"a\": }").expect_err("no JSON");
        assert!(
            error.message.contains("--result is not JSON") && error.message.contains("line 1 column 7"),
            "{error}"
        );
        assert_eq!(read_result("@no-such-file").expect_err("no file").kind, Kind::NotFound);
    }

    #[test]
    fn a_result_is_bounded() {
        let at_the_limit = format!("\"{}\"", "x".repeat(RESULT_MAX - 2));
        assert!(read_result(&at_the_limit).is_ok());
        assert!(read_result(&format!("{at_the_limit} ")).expect_err("too large").message.contains("1 MiB"));
        assert_eq!(
            read_bounded("a test", std::io::repeat(b'x')).map(|bytes| bytes.len()),
            Ok(RESULT_MAX + 1)
        );
    }
}

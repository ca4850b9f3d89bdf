//! Tasks: taking one, saying how far it is, ending it, and adding more.

use super::tool::{Tool, Turn};
use crate::desk::ModelUsage;
use crate::http::{self, field, texts_of};
use quorate_model::config::Driver;
use quorate_model::diagnostic::quote;
use quorate_model::memory::MemoryKind;
use quorate_model::{Error, Kind, Result, RunId, TaskId, TaskState, nearest};
use quorate_service::memory::Remember;
use quorate_service::message::Unread;
use quorate_service::task as service;
use quorate_service::task::NewTask;
use quorate_service::wire;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

/// Results of needed tasks that are shown with a task, and of each so many characters.
const NEEDS_MAX: usize = 6;
const NEED_CHARS: usize = 120;
/// Earlier attempts that are shown with a task, and of each so many characters.
const PAST_MAX: usize = 3;
const PAST_CHARS: usize = 120;
/// Of a list of names (claims, outputs) and of a check, so many characters are shown.
const LIST_CHARS: usize = 160;
/// Findings of one report at most.
const FINDINGS_MAX: usize = 16;
/// Tasks that one call adds at most.
const TASKS_MAX: usize = 100;

/// Takes the next task
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NextTask {
    /// How long to wait for one, such as 10m; at most 1h
    wait: Option<String>,
    /// What you can do; else what you are known to be able to do
    #[serde(default)]
    capability: Vec<String>,
    /// Only tasks of this run
    run_id: Option<i64>,
    /// How long you have it without a word of progress; 15m if not said
    lease: Option<String>,
    /// Your name, if you have no token
    agent: Option<String>,
}

impl Tool for NextTask {
    const NAME: &'static str = "next_task";
    const ABOUT: &'static str = "Takes the next task for you, or shows the one that you have already (also after /clear). \
Answers with its id and term, what to do, the results of the tasks it needs and why earlier attempts failed. Without `wait` it \
answers at once.";

    async fn call(self, turn: &Turn) -> Result<String> {
        let agent = turn.acts_as(self.agent)?;
        let asked = http::task::TaskNext {
            agent: Some(agent.clone()),
            capability: self.capability,
            run_id: self.run_id,
            lease: self.lease,
            wait: self.wait,
        };
        let taken = asked.take(&turn.desk, &turn.caller, |wait| turn.watch(wait)).await?;
        if let Some(taken) = taken {
            return Ok(told(&taken));
        }
        match turn.desk.takes_nothing(&agent).await? {
            Some(why) if why.kind == Kind::Nothing => {
                Ok(format!("{}; stop here, a person lets it go on", why.message))
            }
            Some(why) => Err(why),
            None => {
                Ok(format!("no task is ready for {agent}; `wait` waits for one, `status` shows the rest"))
            }
        }
    }
}

/// Tells a task to its new owner: all of what to do, and the rest within bounds.
fn told(taken: &wire::Taken) -> String {
    let task = &taken.task;
    let mut text = format!("task {}: {}\n", named(task), task.title);
    text.push_str(&format!("term {}, attempt {}", task.term, task.attempt));
    if let Some(until) = &task.lease_until {
        text.push_str(&format!(", yours until {until}; each `progress` renews that"));
    }
    text.push('\n');
    let mut say = |what: &str, words: &str| text.push_str(&format!("{what}: {words}\n"));
    if let Some(run) = &taken.run {
        say("run this command", run);
    }
    if let Some(prompt) = &taken.prompt {
        say("what to do", prompt);
    }
    for (key, result) in taken.needs.iter().take(NEEDS_MAX) {
        let cut = cut(&shown(result), NEED_CHARS);
        say(&format!("result of {key}"), &cut);
    }
    if taken.needs.len() > NEEDS_MAX {
        say(
            "more results",
            &format!("of {} other tasks; `status` with a task_id shows one", taken.needs.len() - NEEDS_MAX),
        );
    }
    // Those that were broken off tell nothing of what is wrong with the work: only where there is room.
    let is_set_aside = |past: &&wire::PastAttempt| matches!(past.outcome.as_str(), "parked" | "released");
    let (set_aside, failed): (Vec<_>, Vec<_>) = taken.previous_attempts.iter().rev().partition(is_set_aside);
    for past in failed.into_iter().chain(set_aside).take(PAST_MAX) {
        let why = past.reason.as_deref().unwrap_or("no reason was given");
        let what = format!("attempt {} by {} ({})", past.attempt, past.agent, past.outcome);
        say(&what, &cut(why, PAST_CHARS));
    }
    if !task.claims.is_empty() {
        say("claimed for you", &cut(&task.claims.join(", "), LIST_CHARS));
    }
    if !task.outputs.is_empty() {
        say("files to leave", &cut(&task.outputs.join(", "), LIST_CHARS));
    }
    if let Some(verify) = &taken.verify {
        say("checked afterwards by", &cut(verify, LIST_CHARS));
    }
    text.push_str(&format!(
        "end with finish(id={}, term={}, result=…), or error=… if you cannot do it",
        task.id, task.term
    ));
    text
}

fn named(task: &wire::Task) -> String {
    task.key.as_ref().map_or_else(|| task.id.to_string(), |key| format!("{} ({key})", task.id))
}

/// A result as a model reads it: a text without its quotes.
pub(super) fn shown(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Cuts a text, and says so.
pub(super) fn cut(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        None => text.to_owned(),
        Some((at, _)) => format!("{} […{} more]", &text[..at], text[at..].chars().count()),
    }
}

/// Reports progress
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Progress {
    /// The task's id
    id: i64,
    /// Its term, as next_task said
    term: i64,
    /// 0 to 100
    percent: Option<i64>,
    /// What you are doing, in one line
    message: Option<String>,
    /// What you found out, for the whole team at once
    #[serde(default)]
    findings: Vec<String>,
    /// What you have used since you took it, by model, if you know
    #[serde(default)]
    usage: Vec<ModelUsage>,
}

impl Tool for Progress {
    const NAME: &'static str = "progress";
    const ABOUT: &'static str = "Says how far you are with your task, and renews your lease on it. Call it every few minutes, and \
before something that takes long.";

    async fn call(self, turn: &Turn) -> Result<String> {
        let asked = http::task::TaskProgress {
            id: self.id,
            term: self.term,
            percent: self.percent,
            message: self.message,
            usage: self.usage,
        };
        let findings = texts_of("findings", self.findings)?;
        if findings.len() > FINDINGS_MAX {
            return Err(Error::invalid(format!(
                "`findings` holds {}, more than {FINDINGS_MAX}",
                findings.len()
            )));
        }
        let task = asked.report(&turn.desk, &turn.caller).await?;
        // After the report: it refuses who does not hold the task.
        for text in findings {
            let agent = task.agent.clone().unwrap_or_default();
            let kind = MemoryKind::Finding;
            let about = Some(TaskId(task.id));
            let found = Remember { agent, kind, text, tags: Vec::new(), task: about, ttl_ms: None };
            turn.desk.store().write(found).await?;
        }
        if task.state == TaskState::Parked.as_str() {
            let why = task.reason.unwrap_or_default();
            return Ok(format!("task {} is parked: {why}; stop here, a person lets it go on", task.id));
        }
        let until = task.lease_until.unwrap_or_default();
        let unread = unread(turn, task.agent).await;
        Ok(format!("noted; the task is yours until {until}{unread}"))
    }
}

/// Says that messages wait: an agent at work looks nowhere else.
async fn unread(turn: &Turn, agent: Option<String>) -> String {
    let Some(agent) = agent else { return String::new() };
    // Only a hint: what cannot be read now is there later.
    let waiting = turn.desk.store().read(Unread { agent }).await.unwrap_or(0);
    if waiting == 0 { String::new() } else { format!("; {waiting} unread message(s): call `inbox`") }
}

/// Ends a task
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Finish {
    /// The task's id
    id: i64,
    /// Its term, as next_task said
    term: i64,
    /// What it came to: any JSON, for whoever needs it …
    result: Option<Value>,
    /// … or why it cannot be done; the next who tries is told
    error: Option<String>,
    /// With `error`: trying again is of no use
    #[serde(default)]
    r#final: bool,
    /// What you have used in all, by model, if you know
    #[serde(default)]
    usage: Vec<ModelUsage>,
}

impl Tool for Finish {
    const NAME: &'static str = "finish";
    const ABOUT: &'static str = "Ends your task: with a `result` (keep it short, others read it) or with an `error`. If the task has \
a check, it is run now, by the supervisor and not by you; if that fails the task is tried again with the reason.";

    async fn call(self, turn: &Turn) -> Result<String> {
        let Finish { id, term, result, error, r#final, usage } = self;
        // Models fill in what they could leave out.
        let error = error.filter(|why| result.is_none() || !why.trim().is_empty());
        let is_one = result.is_none() || error.is_none();
        let watched = http::task::watched(&turn.desk, &turn.caller, id, term).await?;
        if is_one && watched.is_some_and(Driver::is_driven) {
            // Its driver has heard this call, too, and reports it once the work is brought home.
            return Ok(format!("noted: task {id} ends so, with you: end now, without another call"));
        }
        let (said, reached) = match (result, error) {
            (Some(_), Some(_)) => {
                return Err(Error::invalid("a task ends with a `result` or with an `error`, not with both"));
            }
            (None, Some(error)) => {
                let asked = http::task::TaskFail { id, term, error, r#final, usage };
                let (state, reached) = asked.report(&turn.desk, &turn.caller).await?;
                let said = match state {
                    TaskState::Failed => format!("task {id} has failed for good"),
                    _ => format!("task {id} will be tried again; the next who takes it is told why"),
                };
                (said, reached)
            }
            (_, None) if r#final => return Err(Error::invalid("`final` goes with `error`")),
            (result, None) => {
                let asked = http::task::TaskDone { id, term, result, usage };
                let (state, reached) = asked.report(&turn.desk, &turn.caller).await?;
                let said = match state {
                    TaskState::Verifying => {
                        format!("task {id} is said to be done; its check is run now, you are free")
                    }
                    _ => format!("task {id} is completed"),
                };
                (said, reached)
            }
        };
        Ok(said + &reached.map(|why| format!("; {why}")).unwrap_or_default())
    }
}

/// Adds tasks
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AddTasks {
    /// The tasks
    tasks: Vec<Added>,
    /// The run that they serve
    run_id: Option<i64>,
}

/// A new task
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Added {
    /// What it is about, in one line
    title: String,
    /// What to do, in words
    prompt: Option<String>,
    /// Its name, by which others in this call can need it
    key: Option<String>,
    /// Tasks that must be completed before it: ids, or keys in this call
    #[serde(default)]
    needs: Vec<Need>,
    /// Only an agent that can do this may take it
    capability: Option<String>,
    /// Only this agent may take it
    agent: Option<String>,
    /// high, medium or low
    priority: Option<String>,
    /// Paths, globs or names such as port:8080 that are claimed with it
    #[serde(default)]
    claims: Vec<String>,
    /// A command that the supervisor runs to check it (not for agents)
    verify: Option<String>,
    /// How long an attempt may take, such as 30m
    timeout: Option<String>,
}

/// A task that is needed.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
enum Need {
    Id(i64),
    Key(String),
}

impl Tool for AddTasks {
    const NAME: &'static str = "add_tasks";
    const ABOUT: &'static str = "Adds tasks for the team, all or none. A task waits until those that it `needs` are completed, and \
then gets their results. Give each all it needs to know: whoever takes it starts with a fresh context.";

    async fn call(self, turn: &Turn) -> Result<String> {
        let AddTasks { tasks, run_id } = self;
        if tasks.is_empty() || tasks.len() > TASKS_MAX {
            return Err(Error::invalid(format!("`tasks` holds {}, not from 1 to {TASKS_MAX}", tasks.len())));
        }
        if tasks.iter().any(|task| task.verify.is_some()) {
            turn.caller.must_be_person("have a node run a command of its own")?;
        }
        let keys: Vec<Option<String>> = tasks.iter().map(|task| task.key.clone()).collect();
        let mut new = Vec::with_capacity(tasks.len());
        for (place, task) in tasks.into_iter().enumerate() {
            new.push(field(&format!("tasks[{place}]"), task.read(turn, &keys))?);
        }
        for agent in new.iter().filter_map(|task| task.agent.clone()) {
            turn.desk.add_configured(&agent).await?;
        }
        let shown: Vec<String> =
            new.iter().map(|task| task.key.clone().unwrap_or_else(|| cut(&task.title, 40))).collect();
        let add = service::Add { run: run_id.map(RunId), tasks: new, by: turn.caller.name() };
        let ids = turn.desk.store().write(add).await?;
        let list: Vec<String> = ids.iter().zip(shown).map(|(id, name)| format!("{id} {name}")).collect();
        Ok(format!("added: {}", list.join(", ")))
    }
}

impl Added {
    /// Reads it; `keys` are those of all tasks of the call, in order.
    fn read(self, turn: &Turn, keys: &[Option<String>]) -> Result<NewTask> {
        let (mut ids, mut places) = (Vec::new(), Vec::new());
        for need in self.needs {
            match need {
                Need::Id(id) => ids.push(id),
                Need::Key(key) => places.push(place_of(&key, keys)?),
            }
        }
        places.sort_unstable();
        places.dedup();
        let task = http::task::TaskAdd {
            prompt: self.prompt,
            key: self.key,
            needs: ids,
            capability: self.capability,
            agent: self.agent,
            priority: self.priority,
            claims: self.claims,
            verify: self.verify,
            timeout: self.timeout,
            ..http::task::TaskAdd::new(self.title)
        };
        Ok(NewTask { needs_new: places, ..task.read(&turn.desk)? })
    }
}

/// Finds the task of this call that has a key.
fn place_of(key: &str, keys: &[Option<String>]) -> Result<usize> {
    let found = keys.iter().position(|own| own.as_deref() == Some(key));
    found.ok_or_else(|| {
        let error = Error::invalid(format!(
            "`needs` names {}, which no task of this call has as its key",
            quote(key)
        ));
        match nearest(key, keys.iter().flatten().map(String::as_str)) {
            Some(near) => error.hint(format!("did you mean `{near}`?")),
            None => error.hint("a task that is there already is named by its id, a number"),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_cut_says_how_much_is_missing() {
        assert_eq!(cut("short", 5), "short");
        assert_eq!(cut("äöüß", 2), "äö […2 more]");
        assert_eq!(shown(&serde_json::json!("text")), "text");
        assert_eq!(shown(&serde_json::json!({ "n": 1 })), "{\"n\":1}");
    }
}

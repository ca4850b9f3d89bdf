//! The JSON shapes that do not change.
//!
//! Here lives one function per noun that turns it into the shape that the command line and the network promise.
//! Fields may be added, never renamed. Times are RFC 3339 in UTC.

use crate::claim::Claim;
use crate::event::Logged;
use crate::message::Message;
use crate::run::Run;
use crate::task::{PastAttempt, Taken, Task};
use crate::time::rfc3339;
use crate::view::{AgentView, Attempt, Overview, RunView};
use serde_json::{Map, Value, json};

fn time(ms: Option<i64>) -> Value {
    ms.map_or(Value::Null, |ms| rfc3339(ms).into())
}

/// A stored JSON text as a value; a text that is no JSON stays a string.
fn stored(text: Option<&String>) -> Value {
    text.map_or(Value::Null, |text| serde_json::from_str(text).unwrap_or_else(|_| text.as_str().into()))
}

/// Returns the stored rank of a priority as its word.
pub fn priority(rank: i64) -> &'static str {
    match rank {
        0 => "high",
        1 => "medium",
        _ => "low",
    }
}

/// A task.
pub fn task(task: &Task) -> Value {
    json!({
        "id": task.id.0,
        "run_id": task.run_id.map(|id| id.0),
        "key": task.key,
        "title": task.title,
        "state": task.state.as_str(),
        "priority": priority(task.priority),
        "capability": task.capability,
        "agent": task.owner.as_ref().or(task.agent.as_ref()),
        "only_agent": task.agent,
        "attempt": task.attempt,
        "max_attempts": task.max_attempts,
        "failures": task.failures,
        "term": task.term.0,
        "progress": task.progress,
        "message": task.message,
        "reason": task.reason,
        "result": stored(task.result.as_ref()),
        "claims": task.claims,
        "outputs": task.outputs,
        "stuck": task.stuck,
        "lease_until": time(task.lease_until),
        "due_at": time(task.due_at),
        "created_at": time(Some(task.created_at)),
        "started_at": time(task.started_at),
        "finished_at": time(task.finished_at),
    })
}

/// A task as its new owner gets it: also what to do, the results it needs, and how earlier attempts ended.
pub fn taken(taken: &Taken) -> Value {
    let mut value = task(&taken.task);
    let needs: Map<String, Value> =
        taken.needs.iter().map(|need| (need.key.clone(), stored(need.result.as_ref()))).collect();
    let map = value.as_object_mut().expect("a task is an object");
    if let Some(run) = &taken.task.run {
        map.insert("run".into(), run.as_str().into());
    }
    if let Some(prompt) = &taken.task.prompt {
        map.insert("prompt".into(), prompt.as_str().into());
    }
    if let Some(verify) = &taken.task.verify {
        map.insert("verify".into(), verify.as_str().into());
    }
    map.insert("timeout_ms".into(), taken.task.timeout_ms.into());
    map.insert("needs".into(), needs.into());
    map.insert("previous_attempts".into(), taken.previous.iter().map(past).collect());
    value
}

fn past(past: &PastAttempt) -> Value {
    json!({ "attempt": past.number, "agent": past.agent, "outcome": past.outcome, "reason": past.reason, "output": past.tail })
}

/// An attempt.
pub fn attempt(attempt: &Attempt) -> Value {
    json!({
        "task_id": attempt.task.0,
        "attempt": attempt.number,
        "term": attempt.term.0,
        "agent": attempt.agent,
        "started_at": time(Some(attempt.started_at)),
        "ended_at": time(attempt.ended_at),
        "outcome": attempt.outcome,
        "reason": attempt.reason,
        "evidence": attempt.evidence,
        "output": attempt.tail,
        "log": attempt.log,
        "host": attempt.host,
    })
}

/// A run without its tasks.
pub fn run(run: &Run) -> Value {
    json!({
        "id": run.id.0,
        "goal": run.goal,
        "source": run.source,
        "state": run.state,
        "reason": run.reason,
        "report": run.report,
        "created_at": time(Some(run.created_at)),
        "finished_at": time(run.finished_at),
    })
}

/// A run with its tasks.
pub fn run_with_tasks(of: &Run, tasks: &[Task]) -> Value {
    let mut value = run(of);
    value["tasks"] = tasks.iter().map(task).collect();
    value
}

/// A run in a list: its tasks only counted.
pub fn run_view(view: &RunView) -> Value {
    let mut value = run(&view.run);
    value["counts"] = counts(&view.counts);
    value
}

fn counts(counts: &[(String, i64)]) -> Value {
    counts.iter().map(|(state, n)| (state.clone(), Value::from(*n))).collect::<Map<_, _>>().into()
}

/// A claim.
pub fn claim(claim: &Claim) -> Value {
    json!({
        "resource": claim.resource,
        "agent": claim.agent,
        "task_id": claim.task.map(|id| id.0),
        "mode": claim.mode.as_str(),
        "term": claim.term.0,
        "taken_at": time(Some(claim.taken_at)),
        "expires_at": time(Some(claim.expires_at)),
    })
}

/// An event.
pub fn event(event: &Logged) -> Value {
    json!({
        "seq": event.seq.0,
        "at": time(Some(event.at)),
        "kind": event.kind,
        "agent": event.agent,
        "task_id": event.task.map(|id| id.0),
        "run_id": event.run.map(|id| id.0),
        "resource": event.resource,
        "message": event.message,
        "data": stored(event.data.as_ref()),
    })
}

/// A message.
pub fn message(message: &Message) -> Value {
    json!({
        "id": message.id.0,
        "from": message.from,
        "to": message.to,
        "kind": message.kind.as_str(),
        "text": message.text,
        "task_id": message.task.map(|id| id.0),
        "reply_to": message.reply_to.map(|id| id.0),
        "created_at": time(Some(message.created_at)),
        "read_at": time(message.read_at),
    })
}

/// An agent.
pub fn agent(view: &AgentView) -> Value {
    let agent = &view.agent;
    json!({
        "name": agent.name,
        "state": view.state.as_str(),
        "driver": agent.driver,
        "capabilities": agent.capabilities,
        "task_id": view.task.map(|id| id.0),
        "paused": agent.paused,
        "reason": agent.reason,
        "node": agent.node,
        "host": agent.host,
        "pid": agent.pid,
        "heartbeat_at": time(agent.heartbeat_at),
        "respawns": agent.respawns,
    })
}

/// One look at everything.
pub fn status(overview: &Overview) -> Value {
    json!({
        "agents": overview.agents.iter().map(agent).collect::<Vec<_>>(),
        "tasks": counts(&overview.counts),
        "runs": overview.runs.iter().map(run_view).collect::<Vec<_>>(),
    })
}

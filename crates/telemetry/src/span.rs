//! Attempts and runs as spans.
//!
//! Here lives the reading of events: an attempt begins when its task is taken and ends with what ends it. Pure: no ledger,
//! no network, no clock; all times are those of the log. Ids follow from what they name, so that whichever node exports
//! a run's tasks, all are in one trace.

use crate::names;
use crate::proto::{ERROR, INTERNAL, KeyValue, OK, Span, Status, attribute};
use quorate_model::{RunId, TaskId};
use quorate_service::event::Logged;
use ring::digest::{SHA256, digest};
use serde_json::Value;
use std::collections::HashMap;

/// Attempts that are followed at once; of more nothing is told.
const OPEN_MAX: usize = 100_000;

/// What an attempt has used of a model.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Used {
    pub(crate) model: String,
    pub(crate) input: i64,
    pub(crate) output: i64,
    pub(crate) cache_read: i64,
    pub(crate) cache_write: i64,
    pub(crate) usd: Option<f64>,
}

/// An attempt that has ended.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Attempt {
    pub(crate) task: TaskId,
    pub(crate) run: Option<RunId>,
    pub(crate) number: i64,
    pub(crate) agent: String,
    pub(crate) started_at: i64,
    pub(crate) ended_at: i64,
    pub(crate) outcome: &'static str,
    pub(crate) used: Vec<Used>,
}

/// What is told of an event.
#[derive(Debug, PartialEq)]
pub(crate) struct Told {
    pub(crate) span: Span,
    /// The attempt, if the span is one's.
    pub(crate) attempt: Option<Attempt>,
}

#[derive(Debug)]
struct Open {
    number: i64,
    agent: String,
    started_at: i64,
    is_verifying: bool,
    used: Vec<Used>,
}

/// What is known of attempts and runs that go on.
#[derive(Debug)]
pub(crate) struct Reader {
    /// What tells this ledger from others.
    ledger: String,
    open: HashMap<TaskId, Open>,
    /// When runs began.
    runs: HashMap<RunId, i64>,
}

impl Reader {
    pub(crate) fn new(ledger: String) -> Reader {
        Reader { ledger, open: HashMap::new(), runs: HashMap::new() }
    }

    /// Returns the run of an event of which it is not known when it began.
    pub(crate) fn unknown_run(&self, event: &Logged) -> Option<RunId> {
        event.run.filter(|run| !self.runs.contains_key(run))
    }

    /// Says when a run began.
    pub(crate) fn know(&mut self, run: RunId, created_at: i64) {
        if self.runs.len() < OPEN_MAX {
            self.runs.insert(run, created_at);
        }
    }

    /// Reads the next event of the log.
    pub(crate) fn read(&mut self, event: &Logged) -> Option<Told> {
        if event.kind == "run.finished" {
            return self.run(event);
        }
        let task = event.task?;
        match event.kind.as_str() {
            "task.taken" => self.begin(task, event),
            "task.used" => self.note_used(task, event),
            "task.verifying" => {
                if let Some(open) = self.open.get_mut(&task) {
                    open.is_verifying = true;
                }
            }
            kind => return self.end(task, event, outcome(kind)?),
        }
        None
    }

    fn begin(&mut self, task: TaskId, event: &Logged) {
        let (Some(agent), Some(number)) = (event.agent.clone(), event.facts()["attempt"].as_i64()) else {
            return;
        };
        if self.open.len() < OPEN_MAX {
            let open = Open { number, agent, started_at: event.at, is_verifying: false, used: Vec::new() };
            self.open.insert(task, open);
        }
    }

    fn note_used(&mut self, task: TaskId, event: &Logged) {
        let facts = event.facts();
        if let Some(open) = self.open.get_mut(&task).filter(|open| facts["attempt"] == open.number) {
            open.used = facts["models"].as_array().into_iter().flatten().filter_map(used).collect();
        }
    }

    fn end(&mut self, task: TaskId, event: &Logged, outcome: &'static str) -> Option<Told> {
        // A check that is given back is no end of its attempt.
        if outcome == "released" && self.open.get(&task)?.is_verifying {
            return None;
        }
        let open = self.open.remove(&task)?;
        let attempt = Attempt {
            task,
            run: event.run,
            number: open.number,
            agent: open.agent,
            started_at: open.started_at,
            ended_at: event.at,
            outcome,
            used: open.used,
        };
        Some(Told { span: self.span(&attempt, &event.message), attempt: Some(attempt) })
    }

    fn span(&self, attempt: &Attempt, message: &str) -> Span {
        let Attempt { task, number, started_at, .. } = attempt;
        let own = format!("task {task} attempt {number} {started_at}");
        let run = attempt.run.and_then(|run| Some((run, *self.runs.get(&run)?)));
        let (trace, parent) = match run {
            Some((run, began)) => (run_name(run, began), self.id(&run_name(run, began), 8)),
            None => (own.clone(), Vec::new()),
        };
        let has_failed = matches!(attempt.outcome, "failed" | "retried");
        let status = match attempt.outcome {
            "completed" => Some(Status { message: String::new(), code: OK }),
            _ if has_failed => Some(Status { message: message.to_owned(), code: ERROR }),
            _ => None,
        };
        Span {
            trace_id: self.id(&trace, 16),
            span_id: self.id(&own, 8),
            parent_span_id: parent,
            name: format!("{} {}", names::INVOKE_AGENT, attempt.agent),
            kind: INTERNAL,
            start_time_unix_nano: nanos(attempt.started_at),
            end_time_unix_nano: nanos(attempt.ended_at),
            attributes: attributes(attempt, has_failed),
            status,
        }
    }

    fn run(&mut self, event: &Logged) -> Option<Told> {
        let run = event.run?;
        let began = self.runs.remove(&run)?;
        let name = run_name(run, began);
        let state = event.facts()["state"].as_str().unwrap_or_default().to_owned();
        let code = if state == "completed" { OK } else { ERROR };
        let message = if code == OK { String::new() } else { event.message.clone() };
        let span = Span {
            trace_id: self.id(&name, 16),
            span_id: self.id(&name, 8),
            parent_span_id: Vec::new(),
            name: format!("{} run {run}", names::INVOKE_WORKFLOW),
            kind: INTERNAL,
            start_time_unix_nano: nanos(began),
            end_time_unix_nano: nanos(event.at),
            attributes: vec![
                attribute(names::OPERATION, names::INVOKE_WORKFLOW),
                attribute(names::CONVERSATION, run.to_string().as_str()),
                attribute(names::RUN_ID, run.0),
                attribute(names::OUTCOME, state.as_str()),
            ],
            status: Some(Status { message, code }),
        };
        Some(Told { span, attempt: None })
    }

    /// Returns an id of so many bytes for what a text names in this ledger. All zeros would mean none; a digest is not.
    fn id(&self, name: &str, length: usize) -> Vec<u8> {
        digest(&SHA256, format!("{}\n{length}\n{name}", self.ledger).as_bytes()).as_ref()[..length].to_vec()
    }
}

/// Returns what the ids of a run's spans are made of.
fn run_name(run: RunId, began: i64) -> String {
    format!("run {run} {began}")
}

/// What an event says of the attempt that it ends; `None` if it ends none.
fn outcome(kind: &str) -> Option<&'static str> {
    match kind {
        "task.completed" => Some("completed"),
        "task.failed" => Some("failed"),
        "task.retried" => Some("retried"),
        "task.parked" => Some("parked"),
        "task.cancelled" => Some("cancelled"),
        "task.released" => Some("released"),
        _ => None,
    }
}

fn attributes(attempt: &Attempt, has_failed: bool) -> Vec<KeyValue> {
    let mut list = vec![
        attribute(names::OPERATION, names::INVOKE_AGENT),
        attribute(names::AGENT, attempt.agent.as_str()),
        attribute(names::TASK_ID, attempt.task.0),
        attribute(names::ATTEMPT, attempt.number),
        attribute(names::OUTCOME, attempt.outcome),
    ];
    if let Some(run) = attempt.run {
        list.push(attribute(names::RUN_ID, run.0));
        list.push(attribute(names::CONVERSATION, run.to_string().as_str()));
    }
    if has_failed {
        list.push(attribute(names::ERROR_TYPE, "_OTHER"));
    }
    // The one that wrote most is the one that did the work.
    let Some(main) = attempt.used.iter().max_by_key(|used| used.output) else { return list };
    list.push(attribute(names::REQUEST_MODEL, main.model.as_str()));
    list.push(attribute(names::RESPONSE_MODEL, main.model.as_str()));
    list.extend(names::provider(&main.model).map(|provider| attribute(names::PROVIDER, provider)));
    let sum = |of: fn(&Used) -> i64| attempt.used.iter().map(of).sum::<i64>();
    // The conventions count what came from a cache as input, too.
    list.push(attribute(names::INPUT_TOKENS, sum(Used::all_input)));
    list.push(attribute(names::OUTPUT_TOKENS, sum(|used| used.output)));
    list.push(attribute(names::CACHE_READ_TOKENS, sum(|used| used.cache_read)));
    list.push(attribute(names::CACHE_WRITE_TOKENS, sum(|used| used.cache_write)));
    let known: Vec<f64> = attempt.used.iter().filter_map(|used| used.usd).collect();
    if !known.is_empty() {
        list.push(attribute(names::COST_USD, known.iter().sum::<f64>()));
    }
    list
}

impl Used {
    pub(crate) fn all_input(&self) -> i64 {
        self.input + self.cache_read + self.cache_write
    }
}

fn used(value: &Value) -> Option<Used> {
    let count = |key: &str| value[key].as_i64().unwrap_or(0);
    Some(Used {
        model: value["model"].as_str()?.to_owned(),
        input: count("input_tokens"),
        output: count("output_tokens"),
        cache_read: count("cache_read_tokens"),
        cache_write: count("cache_write_tokens"),
        usd: value["usd"].as_f64(),
    })
}

/// Returns milliseconds of the log in nanoseconds.
pub(crate) fn nanos(ms: i64) -> u64 {
    u64::try_from(ms).unwrap_or(0).saturating_mul(1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::Any;
    use quorate_model::Seq;

    fn event(kind: &str, at: i64, run: Option<i64>, data: &str) -> Logged {
        Logged {
            seq: Seq(at),
            at,
            kind: kind.into(),
            agent: Some("ada".into()),
            task: Some(TaskId(7)),
            run: run.map(RunId),
            resource: None,
            message: format!("{kind} happened"),
            data: (!data.is_empty()).then(|| data.to_owned()),
        }
    }

    fn reader() -> Reader {
        Reader::new("sqlite:one".into())
    }

    fn value(span: &Span, key: &str) -> Option<Any> {
        span.attributes.iter().find(|pair| pair.key == key)?.value.clone()?.value
    }

    const TAKEN: &str = r#"{"attempt":1,"term":3}"#;
    const USED: &str = r#"{"attempt":1,"models":[
        {"model":"claude-x","input_tokens":10,"output_tokens":5,"cache_read_tokens":100,"cache_write_tokens":1,"usd":0.5},
        {"model":"house","input_tokens":1,"output_tokens":1,"cache_read_tokens":0,"cache_write_tokens":0,"usd":null}]}"#;

    #[test]
    fn an_attempt_is_a_span_from_its_taking_to_its_end() {
        let mut reader = reader();
        assert_eq!(reader.read(&event("task.taken", 1_000, None, TAKEN)), None);
        assert_eq!(reader.read(&event("task.progress", 1_500, None, "")), None);
        assert_eq!(reader.read(&event("task.used", 1_900, None, USED)), None);
        let Told { span, attempt } = reader.read(&event("task.completed", 2_000, None, "")).expect("it ends");
        assert_eq!(span.name, "invoke_agent ada");
        assert_eq!((span.start_time_unix_nano, span.end_time_unix_nano), (1_000_000_000, 2_000_000_000));
        assert_eq!((span.trace_id.len(), span.span_id.len(), span.parent_span_id.len()), (16, 8, 0));
        assert_eq!(value(&span, names::INPUT_TOKENS), Some(Any::Int(112)));
        assert_eq!(value(&span, names::OUTPUT_TOKENS), Some(Any::Int(6)));
        assert_eq!(value(&span, names::REQUEST_MODEL), Some("claude-x".into()));
        assert_eq!(value(&span, names::PROVIDER), Some("anthropic".into()));
        assert_eq!(value(&span, names::COST_USD), Some(Any::Double(0.5)));
        assert_eq!(span.status.map(|status| status.code), Some(OK));
        assert_eq!(attempt.map(|attempt| attempt.used.len()), Some(2));
        assert_eq!(reader.read(&event("task.completed", 3_000, None, "")), None, "it has ended");
    }

    #[test]
    fn an_attempt_that_failed_says_why_and_one_without_a_model_names_none() {
        let mut reader = reader();
        reader.read(&event("task.taken", 1_000, None, TAKEN));
        let Told { span, .. } = reader.read(&event("task.retried", 2_000, None, "")).expect("it ends");
        let status = span.status.clone().expect("it failed");
        assert_eq!((status.code, status.message.as_str()), (ERROR, "task.retried happened"));
        assert_eq!((value(&span, names::REQUEST_MODEL), value(&span, names::INPUT_TOKENS)), (None, None));
        assert_eq!(value(&span, names::ERROR_TYPE), Some("_OTHER".into()));
    }

    #[test]
    fn attempts_of_a_run_are_in_its_trace() {
        let mut reader = reader();
        let taken = event("task.taken", 1_000, Some(3), TAKEN);
        assert_eq!(reader.unknown_run(&taken), Some(RunId(3)));
        reader.know(RunId(3), 900);
        assert_eq!(reader.unknown_run(&taken), None);
        reader.read(&taken);
        let attempt = reader.read(&event("task.completed", 2_000, Some(3), "")).expect("it ends").span;
        let mut finished = event("run.finished", 2_001, Some(3), r#"{"state":"completed"}"#);
        finished.task = None;
        let run = reader.read(&finished).expect("it ends").span;
        assert_eq!((&attempt.trace_id, &attempt.parent_span_id), (&run.trace_id, &run.span_id));
        assert_eq!((run.name.as_str(), run.start_time_unix_nano), ("invoke_workflow run 3", 900_000_000));
        assert_ne!(attempt.span_id, run.span_id);
        let mut elsewhere = Reader::new("sqlite:two".into());
        elsewhere.know(RunId(3), 900);
        assert_ne!(elsewhere.read(&finished).expect("it ends").span.trace_id, run.trace_id);
    }

    #[test]
    fn a_check_that_is_given_back_ends_no_attempt() {
        let mut reader = reader();
        reader.read(&event("task.taken", 1_000, None, TAKEN));
        reader.read(&event("task.verifying", 2_000, None, ""));
        assert_eq!(reader.read(&event("task.released", 3_000, None, "")), None);
        assert!(reader.read(&event("task.completed", 4_000, None, "")).is_some());
    }

    #[test]
    fn what_began_before_it_was_looked_at_is_left_out() {
        assert_eq!(reader().read(&event("task.completed", 2_000, None, "")), None);
        assert_eq!(reader().read(&event("agent.paused", 2_000, None, "")), None);
    }
}

//! The JSON shapes that do not change.
//!
//! Here lives one type per noun: the shape that the command line and the network promise, with its schema. Fields may be
//! added, never renamed. Times are RFC 3339 in UTC.

use crate::time::rfc3339;
use crate::view::TaskStory;
use crate::{checkpoint, claim, event, memory, message, run, task, usage, view, why};
use quorate_model::budget::{Budget, Spent};
use quorate_model::memory::{Query, excerpt};
use quorate_model::usage::{MICROS, Used};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;

fn time(ms: Option<i64>) -> Option<String> {
    ms.map(rfc3339)
}

/// A stored JSON text as a value; a text that is no JSON stays a string.
fn stored(text: Option<&String>) -> Value {
    text.map_or(Value::Null, |text| serde_json::from_str(text).unwrap_or_else(|_| text.as_str().into()))
}

/// Returns a shape as a value.
pub fn value(shape: impl Serialize) -> Value {
    serde_json::to_value(shape).expect("a shape has texts for keys")
}

/// Returns each of a list in its shape.
pub fn shapes<'a, Shape: From<&'a T>, T>(list: &'a [T]) -> Vec<Shape> {
    list.iter().map(Shape::from).collect()
}

/// Returns millionths of a dollar as dollars.
pub fn usd(micros: i64) -> f64 {
    micros as f64 / MICROS
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
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Task {
    /// Its id
    pub id: i64,
    /// The run it serves
    pub run_id: Option<i64>,
    /// Its name within the run
    pub key: Option<String>,
    /// What it is about, in one line
    pub title: String,
    /// waiting, ready, running, verifying, completed, failed, cancelled or parked
    pub state: &'static str,
    /// high, medium or low
    pub priority: &'static str,
    /// What an agent must be able to do to take it
    pub capability: Option<String>,
    /// Who has or last had it, else who alone may take it
    pub agent: Option<String>,
    /// Who alone may take it
    pub only_agent: Option<String>,
    /// The number of its latest attempt; 0 before the first
    pub attempt: i64,
    /// How often it may fail
    pub max_attempts: i64,
    /// How often it has failed
    pub failures: i64,
    /// Which holding it is: a write with an older term is refused
    pub term: i64,
    /// Percent
    pub progress: i64,
    /// The last word of progress
    pub message: Option<String>,
    /// Why it is in its state
    pub reason: Option<String>,
    /// What it came to
    pub result: Value,
    /// Resources that are claimed together with it
    pub claims: Vec<String>,
    /// Files it is to leave
    pub outputs: Vec<String>,
    /// Whether nothing has been heard of its attempt for long
    pub stuck: bool,
    /// When its owner loses it without a sign of life
    pub lease_until: Option<String>,
    /// Not before
    pub due_at: Option<String>,
    /// When it was added
    pub created_at: Option<String>,
    /// When its latest attempt began
    pub started_at: Option<String>,
    /// When it ended
    pub finished_at: Option<String>,
}

impl From<&task::Task> for Task {
    fn from(task: &task::Task) -> Task {
        Task {
            id: task.id.0,
            run_id: task.run_id.map(|id| id.0),
            key: task.key.clone(),
            title: task.title.clone(),
            state: task.state.as_str(),
            priority: priority(task.priority),
            capability: task.capability.clone(),
            agent: task.owner.as_ref().or(task.agent.as_ref()).cloned(),
            only_agent: task.agent.clone(),
            attempt: task.attempt,
            max_attempts: task.max_attempts,
            failures: task.failures,
            term: task.term.0,
            progress: task.progress,
            message: task.message.clone(),
            reason: task.reason.clone(),
            result: stored(task.result.as_ref()),
            claims: task.claims.clone(),
            outputs: task.outputs.clone(),
            stuck: task.stuck,
            lease_until: time(task.lease_until),
            due_at: time(task.due_at),
            created_at: time(Some(task.created_at)),
            started_at: time(task.started_at),
            finished_at: time(task.finished_at),
        }
    }
}

/// What was used of a model.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Usage {
    /// The model
    pub model: String,
    /// The number of the attempt; null for several
    pub attempt: Option<i64>,
    /// Tokens that were read anew
    pub input_tokens: i64,
    /// Tokens that the model wrote
    pub output_tokens: i64,
    /// Tokens that were read from the provider's cache; they do not count against a budget
    pub cache_read_tokens: i64,
    /// Tokens that were written to the provider's cache
    pub cache_write_tokens: i64,
    /// Dollars; null where no price is known
    pub usd: Option<f64>,
}

impl From<&Used> for Usage {
    fn from(used: &Used) -> Usage {
        Usage {
            model: used.model.clone(),
            attempt: None,
            input_tokens: used.tokens.input,
            output_tokens: used.tokens.output,
            cache_read_tokens: used.tokens.cache_read,
            cache_write_tokens: used.tokens.cache_write,
            usd: used.usd_micros.map(usd),
        }
    }
}

impl From<&usage::Entry> for Usage {
    fn from(entry: &usage::Entry) -> Usage {
        Usage { attempt: Some(entry.attempt), ..Usage::from(&entry.used) }
    }
}

impl Usage {
    /// Adds up entries by model.
    pub fn by_model(entries: &[usage::Entry]) -> Vec<Usage> {
        let sums = usage::Sum::by(entries, |entry| entry.used.model.clone());
        let of_model = |(model, sum): (String, usage::Sum)| {
            Usage::from(&Used { model, tokens: sum.tokens, usd_micros: sum.usd_micros, ..Used::default() })
        };
        sums.into_iter().map(of_model).collect()
    }
}

/// What was used in all, as it counts against a budget.
#[derive(Debug, Clone, Copy, Serialize, JsonSchema)]
pub struct Cost {
    /// Dollars, as far as prices are known
    pub usd: f64,
    /// Tokens but those from a cache
    pub tokens: i64,
}

impl From<Spent> for Cost {
    fn from(spent: Spent) -> Cost {
        Cost { usd: usd(spent.usd_micros), tokens: spent.tokens }
    }
}

/// How much may be used.
#[derive(Debug, Clone, Copy, Serialize, JsonSchema)]
pub struct Limit {
    /// Dollars
    pub usd: Option<f64>,
    /// Tokens but those from a cache
    pub tokens: Option<i64>,
}

impl Limit {
    /// Returns the shape of a budget, if there is one.
    pub fn of(budget: Budget) -> Option<Limit> {
        let limit = Limit { usd: budget.usd_micros.map(usd), tokens: budget.tokens };
        budget.is_set().then_some(limit)
    }
}

/// How full an agent's context is.
#[derive(Debug, Clone, Copy, Serialize, JsonSchema)]
pub struct Context {
    /// Tokens in it
    pub tokens: i64,
    /// How many fit, if that is known
    pub window: Option<i64>,
}

/// A task as its new owner gets it: also what to do, the results it needs, and how earlier attempts ended.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Taken {
    /// The task
    #[serde(flatten)]
    pub task: Task,
    /// The work is this command …
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
    /// … or is told in these words
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt: Option<String>,
    /// The check that is run after its owner says done
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verify: Option<String>,
    /// How long an attempt may take
    pub timeout_ms: Option<i64>,
    /// The results of the tasks it needs, by key; tasks without one by id. Keys are unique within a run only: a later one of the
    /// same name is called `key#ID`
    pub needs: BTreeMap<String, Value>,
    /// How earlier attempts ended
    pub previous_attempts: Vec<PastAttempt>,
}

impl From<&task::Taken> for Taken {
    fn from(taken: &task::Taken) -> Taken {
        let task = &taken.task;
        Taken {
            task: task.into(),
            run: task.run.clone(),
            prompt: task.prompt.clone(),
            verify: task.verify.clone(),
            timeout_ms: task.timeout_ms,
            needs: results_by_key(&taken.needs),
            previous_attempts: shapes(&taken.previous),
        }
    }
}

/// The results by the names of their tasks. No key holds a `#`, so that a name with one is nobody else's.
fn results_by_key(needs: &[task::NeedResult]) -> BTreeMap<String, Value> {
    let mut results = BTreeMap::new();
    for need in needs {
        let name = match results.contains_key(&need.key) {
            true => format!("{}#{}", need.key, need.id),
            false => need.key.clone(),
        };
        results.insert(name, stored(need.result.as_ref()));
    }
    results
}

/// How an earlier attempt at a task ended.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct PastAttempt {
    /// Its number
    pub attempt: i64,
    /// Whose it was
    pub agent: String,
    /// How it ended
    pub outcome: String,
    /// Why
    pub reason: Option<String>,
    /// The end of its output
    pub output: Option<String>,
}

impl From<&task::PastAttempt> for PastAttempt {
    fn from(past: &task::PastAttempt) -> PastAttempt {
        PastAttempt {
            attempt: past.number,
            agent: past.agent.clone(),
            outcome: past.outcome.clone(),
            reason: past.reason.clone(),
            output: past.tail.clone(),
        }
    }
}

/// A task with everything a person asks about it.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Story {
    /// The task
    #[serde(flatten)]
    pub task: Task,
    /// The work is this command …
    pub run: Option<String>,
    /// … or is told in these words
    pub prompt: Option<String>,
    /// The check that is run after its owner says done
    pub verify: Option<String>,
    /// How long an attempt may take
    pub timeout_ms: Option<i64>,
    /// Why it is where it is
    pub why: Option<String>,
    /// All attempts, the oldest first
    pub attempts: Vec<Attempt>,
    /// The tasks it needs
    pub needs: Vec<Need>,
    /// The ids of the tasks that need it
    pub dependents: Vec<i64>,
    /// What it holds now
    pub holds: Vec<Claim>,
    /// What its attempts have used, by attempt and model
    pub usage: Vec<Usage>,
    /// What it has used in all
    pub cost: Cost,
    /// How much it may use
    pub budget: Option<Limit>,
}

impl From<&TaskStory> for Story {
    fn from(story: &TaskStory) -> Story {
        let task = &story.task;
        Story {
            task: task.into(),
            run: task.run.clone(),
            prompt: task.prompt.clone(),
            verify: task.verify.clone(),
            timeout_ms: task.timeout_ms,
            why: why::why(story),
            attempts: shapes(&story.attempts),
            needs: story.needs.iter().map(|(need, state)| Need::new(need, state)).collect(),
            dependents: story.dependents.iter().map(|id| id.0).collect(),
            holds: shapes(&story.claims),
            usage: shapes(&story.usage),
            cost: story.counted.ever.into(),
            budget: Limit::of(story.counted.budget),
        }
    }
}

/// A task that another one needs.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Need {
    /// Its id
    pub id: i64,
    /// Its name within the run, or its id
    pub key: String,
    /// Its state
    pub state: String,
    /// What it came to
    pub result: Value,
}

impl Need {
    fn new(need: &task::NeedResult, state: &str) -> Need {
        let (key, state) = (need.key.clone(), state.to_owned());
        Need { id: need.id.0, key, state, result: stored(need.result.as_ref()) }
    }
}

/// An attempt.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Attempt {
    /// The task
    pub task_id: i64,
    /// Its number
    pub attempt: i64,
    /// The term under which it ran
    pub term: i64,
    /// Whose it was
    pub agent: String,
    /// When it began
    pub started_at: Option<String>,
    /// When it ended
    pub ended_at: Option<String>,
    /// How it ended
    pub outcome: Option<String>,
    /// Why
    pub reason: Option<String>,
    /// What its `done` is worth: said, or checked by the supervisor
    pub evidence: Option<String>,
    /// The end of its output
    pub output: Option<String>,
    /// The file with its kept output …
    pub log: Option<String>,
    /// … on this host
    pub host: Option<String>,
}

impl From<&view::Attempt> for Attempt {
    fn from(attempt: &view::Attempt) -> Attempt {
        Attempt {
            task_id: attempt.task.0,
            attempt: attempt.number,
            term: attempt.term.0,
            agent: attempt.agent.clone(),
            started_at: time(Some(attempt.started_at)),
            ended_at: time(attempt.ended_at),
            outcome: attempt.outcome.clone(),
            reason: attempt.reason.clone(),
            evidence: attempt.evidence.clone(),
            output: attempt.tail.clone(),
            log: attempt.log.clone(),
            host: attempt.host.clone(),
        }
    }
}

/// A run without its tasks.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Run {
    /// Its id
    pub id: i64,
    /// What is wanted
    pub goal: String,
    /// The plan's file name
    pub source: Option<String>,
    /// running, completed, failed or cancelled
    pub state: String,
    /// Why it ended as it did
    pub reason: Option<String>,
    /// The folder of its written report
    pub report: Option<String>,
    /// When it began
    pub created_at: Option<String>,
    /// When it ended
    pub finished_at: Option<String>,
}

impl From<&run::Run> for Run {
    fn from(run: &run::Run) -> Run {
        Run {
            id: run.id.0,
            goal: run.goal.clone(),
            source: run.source.clone(),
            state: run.state.clone(),
            reason: run.reason.clone(),
            report: run.report.clone(),
            created_at: time(Some(run.created_at)),
            finished_at: time(run.finished_at),
        }
    }
}

/// A run with everything a person asks about it.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct RunStory {
    /// The run
    #[serde(flatten)]
    pub run: Run,
    /// All its tasks
    pub tasks: Vec<Task>,
    /// All attempts at them
    pub attempts: Vec<Attempt>,
    /// Which task needs which
    pub needs: Vec<Edge>,
    /// What its tasks have used, by model
    pub usage: Vec<Usage>,
    /// What it has used in all
    pub cost: Cost,
    /// What its tasks have used, by task
    pub costs: Vec<TaskCost>,
}

/// What a task has used.
#[derive(Debug, Clone, Copy, Serialize, JsonSchema)]
pub struct TaskCost {
    /// The task
    pub task_id: i64,
    /// What it has used
    #[serde(flatten)]
    pub cost: Cost,
}

impl TaskCost {
    fn all(entries: &[usage::Entry]) -> Vec<TaskCost> {
        let sums = usage::Sum::by(entries, |entry| entry.task.0);
        sums.into_iter().map(|(task_id, sum)| TaskCost { task_id, cost: sum.spent().into() }).collect()
    }
}

impl From<&view::RunStory> for RunStory {
    fn from(story: &view::RunStory) -> RunStory {
        let needs = story.needs.iter();
        RunStory {
            run: (&story.run).into(),
            tasks: shapes(&story.tasks),
            attempts: shapes(&story.attempts),
            needs: needs.map(|(task, need)| Edge { task_id: task.0, needs_id: need.0 }).collect(),
            usage: Usage::by_model(&story.usage),
            cost: story.counted.ever.into(),
            costs: TaskCost::all(&story.usage),
        }
    }
}

/// That a task needs another one.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Edge {
    /// The task
    pub task_id: i64,
    /// What it needs
    pub needs_id: i64,
}

/// A run in a list: its tasks counted by state.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct RunView {
    /// The run
    #[serde(flatten)]
    pub run: Run,
    /// How many of its tasks are in which state
    pub counts: BTreeMap<String, i64>,
    /// What it has used
    pub cost: Cost,
}

impl From<&view::RunView> for RunView {
    fn from(view: &view::RunView) -> RunView {
        let counts = view.counts.iter().cloned().collect();
        RunView { run: (&view.run).into(), counts, cost: view.spent.into() }
    }
}

/// A run in a list, with all its tasks.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct RunListed {
    /// The run
    #[serde(flatten)]
    pub run: RunView,
    /// All its tasks
    pub tasks: Vec<Task>,
}

impl RunListed {
    /// Puts runs and their tasks together; tasks of no run are left out.
    pub fn all(runs: &[view::RunView], tasks: &[task::Task]) -> Vec<RunListed> {
        let mut by_run: BTreeMap<i64, Vec<Task>> = BTreeMap::new();
        for task in tasks {
            if let Some(run) = task.run_id {
                by_run.entry(run.0).or_default().push(task.into());
            }
        }
        let mut listed = |view: &view::RunView| RunListed {
            run: view.into(),
            tasks: by_run.remove(&view.run.id.0).unwrap_or_default(),
        };
        runs.iter().map(&mut listed).collect()
    }
}

/// A claim.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Claim {
    /// What is claimed
    pub resource: String,
    /// Who holds it
    pub agent: String,
    /// The task it is held for
    pub task_id: Option<i64>,
    /// exclusive or shared
    pub mode: &'static str,
    /// Which holding it is
    pub term: i64,
    /// Since when
    pub taken_at: Option<String>,
    /// When it ends by itself
    pub expires_at: Option<String>,
}

impl From<&claim::Claim> for Claim {
    fn from(claim: &claim::Claim) -> Claim {
        Claim {
            resource: claim.resource.clone(),
            agent: claim.agent.clone(),
            task_id: claim.task.map(|id| id.0),
            mode: claim.mode.as_str(),
            term: claim.term.0,
            taken_at: time(Some(claim.taken_at)),
            expires_at: time(Some(claim.expires_at)),
        }
    }
}

/// An event.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Event {
    /// Its place in the log
    pub seq: i64,
    /// When
    pub at: Option<String>,
    /// What happened: `noun.verb`
    pub kind: String,
    /// Who did it, or whom it concerns
    pub agent: Option<String>,
    /// The task it concerns
    pub task_id: Option<i64>,
    /// The run it concerns
    pub run_id: Option<i64>,
    /// The resource it concerns
    pub resource: Option<String>,
    /// One sentence for people
    pub message: String,
    /// Further facts
    pub data: Value,
}

impl From<&event::Logged> for Event {
    fn from(event: &event::Logged) -> Event {
        Event {
            seq: event.seq.0,
            at: time(Some(event.at)),
            kind: event.kind.clone(),
            agent: event.agent.clone(),
            task_id: event.task.map(|id| id.0),
            run_id: event.run.map(|id| id.0),
            resource: event.resource.clone(),
            message: event.message.clone(),
            data: stored(event.data.as_ref()),
        }
    }
}

/// A message.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Message {
    /// Its id
    pub id: i64,
    /// Who sent it
    pub from: String,
    /// Whom it is for
    pub to: String,
    /// note, help, handoff or reply
    pub kind: &'static str,
    /// The text
    pub text: String,
    /// The task it is about
    pub task_id: Option<i64>,
    /// The message it answers
    pub reply_to: Option<i64>,
    /// When it was sent
    pub created_at: Option<String>,
    /// When it was first shown to its recipient
    pub read_at: Option<String>,
}

impl From<&message::Message> for Message {
    fn from(message: &message::Message) -> Message {
        Message {
            id: message.id.0,
            from: message.from.clone(),
            to: message.to.clone(),
            kind: message.kind.as_str(),
            text: message.text.clone(),
            task_id: message.task.map(|id| id.0),
            reply_to: message.reply_to.map(|id| id.0),
            created_at: time(Some(message.created_at)),
            read_at: time(message.read_at),
        }
    }
}

/// A memory.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Memory {
    /// Its id
    pub id: i64,
    /// finding, episode, decision, pattern, checkpoint, message or line
    pub kind: &'static str,
    /// The text
    pub text: String,
    /// Words to find it by
    pub tags: Vec<String>,
    /// Who found it out
    pub agent: Option<String>,
    /// The task it comes from, or is about
    pub task_id: Option<i64>,
    /// The run of that task
    pub run_id: Option<i64>,
    /// Where it comes from: task:ID, attempt:TASK.NUMBER, message:ID, event:SEQ, checkpoint:ID; memory:ID if it was told
    pub source: String,
    /// The last that said the same
    pub sources: Vec<String>,
    /// How often it was said
    pub count: i64,
    /// When it was said first
    pub created_at: Option<String>,
    /// When it was said last
    pub seen_at: Option<String>,
    /// When it is to be forgotten, if that was said
    pub expires_at: Option<String>,
}

impl From<&memory::Memory> for Memory {
    fn from(memory: &memory::Memory) -> Memory {
        Memory {
            id: memory.id.0,
            kind: memory.kind.as_str(),
            text: memory.text.clone(),
            tags: memory.tags.clone(),
            agent: memory.agent.clone(),
            task_id: memory.task.map(|id| id.0),
            run_id: memory.run.map(|id| id.0),
            source: memory.source(),
            sources: memory.sources.clone(),
            count: memory.count,
            created_at: time(Some(memory.created_at)),
            seen_at: time(Some(memory.seen_at)),
            expires_at: time(memory.expires_at),
        }
    }
}

/// An answer of the memory.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Hit {
    /// The memory; its text is cut to the part that fits the question
    #[serde(flatten)]
    pub memory: Memory,
    /// How well it fits; comparable within one answer only
    pub score: f64,
    /// By what it was found: words, meaning or both
    pub found_by: String,
}

impl Hit {
    /// Returns the shape of an answer with so many characters of its text at most.
    pub fn of(hit: &memory::Hit, query: &Query, max: usize) -> Hit {
        let text = excerpt(&hit.memory.text, query, max);
        Hit {
            memory: Memory { text, ..(&hit.memory).into() },
            score: hit.score as f64 / 1e6,
            found_by: hit.by.as_str().to_owned(),
        }
    }
}

/// A state that was saved.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Checkpoint {
    /// Its id
    pub id: i64,
    /// The run it is about
    pub run_id: Option<i64>,
    /// Who saved it; null: it was saved by itself
    pub agent: Option<String>,
    /// The state
    pub state: Value,
    /// When it was saved
    pub created_at: Option<String>,
}

impl From<&checkpoint::Checkpoint> for Checkpoint {
    fn from(saved: &checkpoint::Checkpoint) -> Checkpoint {
        Checkpoint {
            id: saved.id.0,
            run_id: saved.run.map(|id| id.0),
            agent: saved.agent.clone(),
            state: stored(Some(&saved.state)),
            created_at: time(Some(saved.created_at)),
        }
    }
}

/// An agent.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Agent {
    /// Its name
    pub name: String,
    /// idle, ready, working, blocked, parked, paused, stale, stuck or failed
    pub state: &'static str,
    /// How it is run
    pub driver: String,
    /// What it can do; `*` is everything
    pub capabilities: Vec<String>,
    /// The task it has
    pub task_id: Option<i64>,
    /// Whether a person paused it
    pub paused: bool,
    /// Why it is in its state
    pub reason: Option<String>,
    /// The node of its session …
    pub node: Option<String>,
    /// … its host …
    pub host: Option<String>,
    /// … and its process
    pub pid: Option<i64>,
    /// Its last sign of life
    pub heartbeat_at: Option<String>,
    /// How often it was started again since a task of its last completed
    pub respawns: i64,
    /// What it has used, ever
    pub cost: Cost,
    /// How full the context of its attempt is, if it says so
    pub context: Option<Context>,
}

impl From<&view::AgentView> for Agent {
    fn from(view: &view::AgentView) -> Agent {
        let agent = &view.agent;
        Agent {
            name: agent.name.clone(),
            state: view.state.as_str(),
            driver: agent.driver.clone(),
            capabilities: agent.capabilities.clone(),
            task_id: view.task.map(|id| id.0),
            paused: agent.paused,
            reason: agent.reason.clone(),
            node: agent.node.clone(),
            host: agent.host.clone(),
            pid: agent.pid,
            heartbeat_at: time(agent.heartbeat_at),
            respawns: agent.respawns,
            cost: view.spent.into(),
            context: view.context.map(|(tokens, window)| Context { tokens, window }),
        }
    }
}

/// An agent with what it holds.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct AgentStory {
    /// The agent
    #[serde(flatten)]
    pub agent: Agent,
    /// What it holds
    pub claims: Vec<Claim>,
    /// Messages that it has not read
    pub unread: usize,
}

/// One look at everything.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Status {
    /// The team
    pub agents: Vec<Agent>,
    /// How many tasks are in which state
    pub tasks: BTreeMap<String, i64>,
    /// All runs
    pub runs: Vec<RunView>,
    /// What all agents have used
    pub cost: Cost,
    /// Models that were used and for which no price is known
    pub unpriced: Vec<String>,
}

impl From<&view::Overview> for Status {
    fn from(overview: &view::Overview) -> Status {
        Status {
            agents: shapes(&overview.agents),
            tasks: overview.counts.iter().cloned().collect(),
            runs: shapes(&overview.runs),
            cost: overview.spent.into(),
            unpriced: overview.unpriced.clone(),
        }
    }
}

/// What a check of `quorate doctor` found.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Finding {
    /// What was looked at
    pub check: &'static str,
    /// ok, warn or fail
    pub state: &'static str,
    /// What was seen
    pub message: String,
    /// What mends it
    pub mend: Option<String>,
}

/// What is wrong, and what mends it.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Diagnosis {
    /// One of each check, and of each trouble
    pub checks: Vec<Finding>,
}

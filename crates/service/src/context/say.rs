//! A context within a number of tokens: in lines for a model, or as JSON.
//!
//! Here live the shapes and lines of what is said, and the choice of it. Everything that could be said has a rank; what comes
//! first is said until the tokens are used up, and how much was left out is said too. The count is our own estimate, which is
//! never below that of a tokenizer.

use super::Facts;
use crate::memory::Memory;
use crate::message::Message;
use crate::task::Task;
use crate::time::rfc3339;
use crate::view::AgentView;
use quorate_model::tokens::{cut, estimate};
use quorate_model::{TaskState, memory::MemoryKind};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// The longest goal, title, reason and message in a context, in tokens.
const GOAL_MAX: usize = 120;
const TITLE_MAX: usize = 30;
const REASON_MAX: usize = 50;
const TEXT_MAX: usize = 70;
/// The needs that are named of one task.
const NEEDS_MAX: usize = 5;
/// A checkpoint takes this part of all tokens at most.
const CHECKPOINT_PART: usize = 4;
/// What was told, and what was learnt, that is more important than the tasks that wait: so much of each.
const MEMORIES_FIRST: usize = 5;

/// A run in a context
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct ContextRun {
    /// Its id
    pub id: i64,
    /// What is wanted
    pub goal: String,
    /// running, completed, failed or cancelled
    pub state: String,
    /// How many tasks are in which state
    pub counts: BTreeMap<String, i64>,
}

/// A task in a context
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct ContextTask {
    /// Its id
    pub id: i64,
    /// What it is about
    pub title: String,
    /// Its state
    pub state: &'static str,
    /// Who has or last had it
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// Percent, while it runs
    #[serde(skip_serializing_if = "Option::is_none")]
    pub progress: Option<i64>,
    /// Why it is in its state, or the last word of progress
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The tasks that it waits for
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub needs: Vec<i64>,
}

/// An agent in a context
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct ContextAgent {
    /// Its name
    pub name: String,
    /// Its state
    pub state: &'static str,
    /// The task it has
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task_id: Option<i64>,
}

/// Something that was found out
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct ContextMemory {
    /// Where it comes from
    pub source: String,
    /// finding, episode, decision or pattern
    pub kind: &'static str,
    /// The text, or its beginning
    pub text: String,
    /// How often it was said
    #[serde(skip_serializing_if = "is_once")]
    pub count: i64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands out references")]
fn is_once(count: &i64) -> bool {
    *count == 1
}

/// A message that waits for somebody
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct ContextMessage {
    /// Its id
    pub id: i64,
    /// Who sent it
    pub from: String,
    /// Whom it is for
    pub to: String,
    /// note, help, handoff or reply
    pub kind: &'static str,
    /// The text, or its beginning
    pub text: String,
}

/// A state that was saved
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct ContextCheckpoint {
    /// Its id
    pub id: i64,
    /// Who saved it
    pub agent: Option<String>,
    /// When
    pub created_at: String,
    /// The state as text, or its beginning
    pub state: String,
}

/// What there was no room for
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct LeftOut {
    /// Runs
    pub runs: i64,
    /// Tasks
    pub tasks: i64,
    /// Agents
    pub agents: i64,
    /// Memories
    pub memories: i64,
    /// Messages
    pub messages: i64,
}

/// What a fresh orchestrator needs to know
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Said {
    /// The ledger's time
    pub at: String,
    /// The runs that go on, or the one that was asked for
    pub runs: Vec<ContextRun>,
    /// Tasks: those that stopped, that run, that are ready, that wait, that have ended
    pub tasks: Vec<ContextTask>,
    /// The team
    pub agents: Vec<ContextAgent>,
    /// The newest of what was found out
    pub memories: Vec<ContextMemory>,
    /// Calls for help without an answer, and what the asker has not read
    pub messages: Vec<ContextMessage>,
    /// The last state that was saved
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<ContextCheckpoint>,
    /// What there was no room for
    pub left_out: LeftOut,
}

/// One thing that may be said.
enum Piece {
    Run(ContextRun),
    Task(ContextTask),
    Agent(ContextAgent),
    Memory(ContextMemory),
    Message(ContextMessage),
    Checkpoint(ContextCheckpoint),
}

impl Facts {
    /// Says as much as so many tokens hold, as JSON.
    pub fn document(&self, budget: usize) -> Said {
        let as_json = |said: &Said| serde_json::to_string(said).expect("a shape has texts for keys");
        self.within(budget, as_json)
    }

    /// Says as much as so many tokens hold, in lines.
    pub fn text(&self, budget: usize) -> String {
        let text = lines(&self.within(budget, lines));
        cut(&text, budget)
    }

    /// Says the most important things, as many as fit in the form that `form` gives them.
    fn within(&self, budget: usize, form: impl Fn(&Said) -> String) -> Said {
        let pieces = self.ranked(budget);
        let said = |count: usize| self.said(&pieces[..count], &pieces[count..]);
        // How many fit is looked for by halves: one more never takes less room, but for what is said of the rest.
        let (mut fits, mut over) = (0, pieces.len() + 1);
        while fits + 1 < over {
            let middle = usize::midpoint(fits, over);
            if estimate(&form(&said(middle))) <= budget {
                fits = middle;
            } else {
                over = middle;
            }
        }
        said(fits)
    }

    fn said(&self, chosen: &[Piece], rest: &[Piece]) -> Said {
        let mut said = Said {
            at: rfc3339(self.now),
            runs: Vec::new(),
            tasks: Vec::new(),
            agents: Vec::new(),
            memories: Vec::new(),
            messages: Vec::new(),
            checkpoint: None,
            left_out: LeftOut { runs: self.unseen.runs, tasks: self.unseen.tasks, ..LeftOut::default() },
        };
        for piece in chosen {
            match piece {
                Piece::Run(run) => said.runs.push(run.clone()),
                Piece::Task(task) => said.tasks.push(task.clone()),
                Piece::Agent(agent) => said.agents.push(agent.clone()),
                Piece::Memory(memory) => said.memories.push(memory.clone()),
                Piece::Message(message) => said.messages.push(message.clone()),
                Piece::Checkpoint(checkpoint) => said.checkpoint = Some(checkpoint.clone()),
            }
        }
        for piece in rest {
            match piece {
                Piece::Run(_) => said.left_out.runs += 1,
                Piece::Task(_) => said.left_out.tasks += 1,
                Piece::Agent(_) => said.left_out.agents += 1,
                Piece::Memory(_) => said.left_out.memories += 1,
                Piece::Message(_) => said.left_out.messages += 1,
                Piece::Checkpoint(_) => {}
            }
        }
        said
    }

    /// Everything that may be said, the most important first.
    fn ranked(&self, budget: usize) -> Vec<Piece> {
        let mut pieces: Vec<Piece> = self
            .runs
            .iter()
            .map(|(run, counts)| {
                Piece::Run(ContextRun {
                    id: run.id.0,
                    goal: one_line(&run.goal, GOAL_MAX),
                    state: run.state.clone(),
                    counts: counts.clone(),
                })
            })
            .collect();
        pieces.extend(self.checkpoint.as_ref().map(|saved| {
            Piece::Checkpoint(ContextCheckpoint {
                id: saved.id.0,
                agent: saved.agent.clone(),
                created_at: rfc3339(saved.created_at),
                state: cut(&in_words(&saved.state), budget / CHECKPOINT_PART),
            })
        }));
        let tasks = |wanted: fn(TaskState) -> bool| self.tasks.iter().filter(move |task| wanted(task.state));
        pieces.extend(tasks(is_stopped).map(|task| self.task(task)));
        pieces.extend(tasks(is_running).map(|task| self.task(task)));
        pieces.extend(self.messages.iter().map(message));
        pieces.extend(self.agents.iter().map(agent));
        let mut later = Vec::new();
        for known in [&self.settled, &self.learnt] {
            let mut known = known.iter().filter(|memory| !self.says_already(memory)).map(memory);
            pieces.extend(known.by_ref().take(MEMORIES_FIRST));
            later.extend(known);
        }
        pieces.extend(tasks(|state| state == TaskState::Ready).map(|task| self.task(task)));
        pieces.extend(tasks(|state| state == TaskState::Waiting).map(|task| self.task(task)));
        pieces.extend(later);
        pieces.extend(tasks(has_ended).map(|task| self.task(task)));
        pieces
    }

    /// Whether a memory is the failure of a task that is named with its reason.
    fn says_already(&self, memory: &Memory) -> bool {
        memory.kind == MemoryKind::Episode
            && self.tasks.iter().any(|task| is_stopped(task.state) && Some(task.id) == memory.task)
    }

    fn task(&self, task: &Task) -> Piece {
        let runs = is_running(task.state);
        let words = if runs { task.message.as_ref().or(task.reason.as_ref()) } else { task.reason.as_ref() };
        let words = words.filter(|_| task.state != TaskState::Completed);
        let needs = self.needs.get(&task.id).into_iter().flatten().take(NEEDS_MAX);
        Piece::Task(ContextTask {
            id: task.id.0,
            title: one_line(&task.title, TITLE_MAX),
            state: if task.stuck { "stuck" } else { task.state.as_str() },
            agent: if runs || is_stopped(task.state) { task.owner.clone() } else { task.agent.clone() },
            progress: (runs && task.progress > 0).then_some(task.progress),
            reason: words.map(|words| one_line(words, REASON_MAX)),
            needs: needs.map(|need| need.0).collect(),
        })
    }
}

fn is_stopped(state: TaskState) -> bool {
    matches!(state, TaskState::Failed | TaskState::Parked)
}

fn is_running(state: TaskState) -> bool {
    matches!(state, TaskState::Running | TaskState::Verifying)
}

fn has_ended(state: TaskState) -> bool {
    matches!(state, TaskState::Completed | TaskState::Cancelled)
}

fn agent(view: &AgentView) -> Piece {
    Piece::Agent(ContextAgent {
        name: view.agent.name.clone(),
        state: view.state.as_str(),
        task_id: view.task.map(|task| task.0),
    })
}

fn memory(memory: &Memory) -> Piece {
    Piece::Memory(ContextMemory {
        source: memory.source(),
        kind: memory.kind.as_str(),
        text: one_line(&memory.text, TEXT_MAX),
        count: memory.count,
    })
}

fn message(message: &Message) -> Piece {
    Piece::Message(ContextMessage {
        id: message.id.0,
        from: message.from.clone(),
        to: message.to.clone(),
        kind: message.kind.as_str(),
        text: one_line(&message.text, TEXT_MAX),
    })
}

/// A text in one line, of so many tokens at most.
fn one_line(text: &str, max: usize) -> String {
    // No more is looked at than could be shown: a token has a few dozen characters at most.
    let beginning: String = text.chars().take(max * 32).collect();
    cut(&beginning.split_whitespace().collect::<Vec<_>>().join(" "), max)
}

/// A stored state in words: a JSON string is its text; of an object what is short comes first, as the end may be cut off.
fn in_words(state: &str) -> String {
    match serde_json::from_str(state) {
        Ok(Value::String(text)) => text,
        Ok(Value::Object(members)) => {
            let member = |(key, value): (&String, &Value)| format!("{}:{value}", Value::from(key.as_str()));
            let mut members: Vec<String> = members.iter().map(member).collect();
            members.sort_by_key(String::len);
            format!("{{{}}}", members.join(","))
        }
        Ok(_) | Err(_) => state.to_owned(),
    }
}

/// Says it in lines.
fn lines(said: &Said) -> String {
    let mut text = format!("team at {}\n", said.at.split('.').next().unwrap_or(&said.at));
    for run in &said.runs {
        let total: i64 = run.counts.values().sum();
        let counts: Vec<String> = run.counts.iter().map(|(state, n)| format!("{n} {state}")).collect();
        let _ = writeln!(
            text,
            "run {} {}: {} ({total} tasks: {})",
            run.id,
            run.state,
            run.goal,
            counts.join(", ")
        );
    }
    if let Some(saved) = &said.checkpoint {
        let by = saved.agent.as_deref().unwrap_or("itself");
        let _ = writeln!(text, "checkpoint {} by {by} at {}: {}", saved.id, saved.created_at, saved.state);
    }
    let with_state = |task: &ContextTask| match task.state {
        "running" => task_line(task),
        state => format!("{state} {}", task_line(task)),
    };
    let in_state =
        |states: &'static [&str]| said.tasks.iter().filter(move |task| states.contains(&task.state));
    section(&mut text, "stopped", in_state(&["failed", "parked"]).map(with_state));
    section(&mut text, "running", in_state(&["running", "verifying", "stuck"]).map(with_state));
    section(
        &mut text,
        "messages",
        said.messages.iter().map(|m| format!("{} {} from {} to {}: {}", m.id, m.kind, m.from, m.to, m.text)),
    );
    section(&mut text, "known", said.memories.iter().map(memory_line));
    for (head, state) in
        [("ready", "ready"), ("waiting", "waiting"), ("completed", "completed"), ("cancelled", "cancelled")]
    {
        section(&mut text, head, said.tasks.iter().filter(|task| task.state == state).map(task_line));
    }
    team(&mut text, &said.agents);
    rest(&mut text, &said.left_out);
    text
}

fn section(text: &mut String, head: &str, lines: impl Iterator<Item = String>) {
    for (place, line) in lines.enumerate() {
        if place == 0 {
            let _ = writeln!(text, "{head}:");
        }
        let _ = writeln!(text, "{line}");
    }
}

fn task_line(task: &ContextTask) -> String {
    let mut line = format!("{} {}", task.id, task.title);
    if let Some(agent) = &task.agent {
        let _ = write!(line, " [{agent}]");
    }
    if let Some(progress) = task.progress {
        let _ = write!(line, " {progress}%");
    }
    if !task.needs.is_empty() {
        let needs: Vec<String> = task.needs.iter().map(ToString::to_string).collect();
        let _ = write!(line, " needs {}", needs.join(" "));
    } else if let Some(reason) = &task.reason {
        let _ = write!(line, ": {reason}");
    }
    line
}

fn memory_line(memory: &ContextMemory) -> String {
    let mut line = memory.source.clone();
    if memory.kind != MemoryKind::Finding.as_str() {
        let _ = write!(line, " {}", memory.kind);
    }
    if memory.count > 1 {
        let _ = write!(line, " x{}", memory.count);
    }
    let _ = write!(line, ": {}", memory.text);
    line
}

/// The team in one line for each state: names say enough.
fn team(text: &mut String, agents: &[ContextAgent]) {
    let mut by_state: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for agent in agents {
        let task = agent.task_id.map_or_else(String::new, |task| format!(" on {task}"));
        by_state.entry(agent.state).or_default().push(format!("{}{task}", agent.name));
    }
    section(
        text,
        "team",
        by_state.into_iter().map(|(state, names)| format!("{state}: {}", names.join(", "))),
    );
}

fn rest(text: &mut String, left: &LeftOut) {
    let all = [
        (left.runs, "runs"),
        (left.tasks, "tasks"),
        (left.agents, "agents"),
        (left.memories, "memories"),
        (left.messages, "messages"),
    ];
    let words: Vec<String> =
        all.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}")).collect();
    if !words.is_empty() {
        let _ = writeln!(text, "left out: {} (quorate task list, quorate recall WORDS)", words.join(", "));
    }
}

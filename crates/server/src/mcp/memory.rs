//! The team's memory: telling, asking, and what somebody needs to go on.

use super::task::cut;
use super::tool::{Tool, Turn};
use crate::ask::Ask;
use crate::caller::Caller;
use crate::http::memory::{MemoryRemember, budget_of, kind_of};
use crate::http::words_of;
use quorate_model::memory::{Query, excerpt};
use quorate_model::{Error, Result, RunId};
use quorate_service::context as service;
use quorate_service::memory::{self, Hit};
use quorate_service::time::rfc3339;
use schemars::JsonSchema;
use serde::Deserialize;

/// Answers to one question, unless it says otherwise, and at most.
const HITS: i64 = 5;
const HITS_MAX: i64 = 20;
/// Characters of each answer.
const HIT_CHARS: usize = 400;

/// Keeps something
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Remember {
    /// What the team is to know
    text: String,
    /// finding, episode (what went wrong), decision or pattern; finding if not said
    kind: Option<String>,
    /// Words to find it by
    #[serde(default)]
    tags: Vec<String>,
    /// The task it is about
    task_id: Option<i64>,
    /// For how long it holds, such as 7d
    ttl: Option<String>,
    /// Your name, if you have no token
    agent: Option<String>,
}

impl Tool for Remember {
    const NAME: &'static str = "remember";
    const ABOUT: &'static str = "Keeps something for the whole team: others find it with `recall`, at once and later. Results of \
completed tasks and reasons of failed attempts are kept without being told.";

    async fn call(self, turn: &Turn) -> Result<String> {
        let asked = MemoryRemember {
            agent: Some(turn.acts_as(self.agent)?),
            kind: self.kind,
            text: self.text,
            tags: self.tags,
            task_id: self.task_id,
            ttl: self.ttl,
        };
        let kept = asked.answer(&turn.desk, &turn.caller).await?;
        Ok(match kept.count {
            1 => format!("kept as memory {}", kept.id),
            count => format!("it was known: memory {}, told {count} times by now", kept.id),
        })
    }
}

/// Asks the memory
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Recall {
    /// Words to look for; what stands in double quotes is one term
    query: String,
    /// Only finding, episode, decision, pattern, checkpoint, message or line
    kind: Option<String>,
    /// Only what belongs to this run
    run_id: Option<i64>,
    /// So many answers at most; 5 if not said
    limit: Option<i64>,
}

impl Tool for Recall {
    const NAME: &'static str = "recall";
    const ABOUT: &'static str = "Searches what the team knows: results, findings, reasons of failures, decisions, messages, log lines. \
Each answer names its source (task:7, attempt:7.2, message:3). Ask before you find out again.";
    const READS: bool = true;

    async fn call(self, turn: &Turn) -> Result<String> {
        let question = words_of("query", self.query)?;
        let query = Query::parse(&question);
        let limit = self.limit.unwrap_or(HITS);
        if !(1..=HITS_MAX).contains(&limit) {
            return Err(Error::invalid(format!("`limit` is a number from 1 to {HITS_MAX}")));
        }
        let recall = memory::Recall {
            query: query.clone(),
            kinds: self.kind.as_deref().map(kind_of).transpose()?.into_iter().collect(),
            agent: None,
            run: self.run_id.map(RunId),
            meaning: None,
            limit,
        };
        let found = turn.desk.recall(&question, recall).await?;
        let mut lines: Vec<String> = found.hits.iter().map(|hit| shown(hit, &query)).collect();
        if lines.is_empty() {
            lines.push("the team knows nothing of that".into());
        }
        lines.extend(found.hint.map(|hint| format!("({hint})")));
        Ok(lines.join("\n"))
    }
}

fn shown(hit: &Hit, query: &Query) -> String {
    let memory = &hit.memory;
    let by = memory.agent.as_ref().map_or_else(String::new, |agent| format!(" by {agent}"));
    let times = if memory.count > 1 { format!(", {} times", memory.count) } else { String::new() };
    let text = excerpt(&memory.text, query, HIT_CHARS);
    format!("{} {}{by}, {}{times}: {text}", memory.source(), memory.kind.as_str(), rfc3339(memory.seen_at))
}

/// What is needed to go on
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Context {
    /// The run; else all that go on, or the last one
    run_id: Option<i64>,
    /// Tokens at most; 2800 if not said
    budget: Option<i64>,
    /// Your name, if you have no token
    agent: Option<String>,
}

impl Tool for Context {
    const NAME: &'static str = "context";
    const ABOUT: &'static str = "Tells what you need to go on after a cleared context or a restart: runs, what runs and who does it, what is \
stuck, failed or waits and why, newest findings, unread messages, your last checkpoint. Keeps to `budget` tokens.";
    const READS: bool = true;

    async fn call(self, turn: &Turn) -> Result<String> {
        let budget = budget_of(self.budget)?;
        let agent = match (&turn.caller, self.agent, &turn.name) {
            // Who has no name here has no checkpoint and no inbox either.
            (Caller::Person, None, None) => None,
            (_, named, _) => Some(turn.acts_as(named)?),
        };
        let facts = turn.desk.context(service::Context { run: self.run_id.map(RunId), agent }).await?;
        let text = facts.text(budget);
        Ok(if text.is_empty() { "nothing has happened yet".into() } else { cut(&text, TEXT_MAX) })
    }
}

/// The longest answer, whatever the budget, in characters: clients cut what is longer.
const TEXT_MAX: usize = 90_000;

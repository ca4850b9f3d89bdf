//! The team's memory: telling, asking, forgetting, and what a fresh orchestrator needs.

use super::{agent_of, duration_of, field, texts_of, words_of};
use crate::ask::Ask;
use crate::caller::Caller;
use crate::desk::Desk;
use crate::grammar::{agent, one_of};
use axum::http::Method;
use quorate_model::memory::{MemoryKind, Query};
use quorate_model::{Error, MemoryId, Result, RunId, TaskId};
use quorate_service::context::{BUDGET_DEFAULT, BUDGET_LEAST, Context, Said};
use quorate_service::memory::{Forget, HITS_MAX, Recall, Remember};
use quorate_service::wire;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Characters of each answer.
const EXCERPT: usize = 1_000;

pub(crate) fn kind_of(text: &str) -> Result<MemoryKind> {
    field("kind", text.parse::<MemoryKind>())
}

/// Something to keep
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct MemoryRemember {
    /// Who tells it; an agent's own token says it by itself
    pub(crate) agent: Option<String>,
    /// finding, episode, decision or pattern; finding if not said
    pub(crate) kind: Option<String>,
    /// The text
    pub(crate) text: String,
    /// Words to find it by
    #[serde(default)]
    pub(crate) tags: Vec<String>,
    /// The task it is about
    pub(crate) task_id: Option<i64>,
    /// For how long it holds, such as 7d; else as long as the team's configuration says
    pub(crate) ttl: Option<String>,
}

/// What became of something that was told
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Remembered {
    /// The memory that holds it
    pub(crate) id: i64,
    /// How often it was said by now
    pub(crate) count: i64,
}

impl Ask for MemoryRemember {
    const METHOD: Method = Method::POST;
    const PATH: &'static str = "/memories";
    const NAME: &'static str = "remember";
    const ABOUT: &'static str = "Keeps something for the team";
    type Answer = Remembered;

    async fn answer(self, desk: &Desk, by: &Caller) -> Result<Remembered> {
        let (text, tags) = (words_of("text", self.text)?, texts_of("tags", self.tags)?);
        let kind = self.kind.as_deref().map(kind_of).transpose()?.unwrap_or(MemoryKind::Finding);
        let ttl_ms = self.ttl.as_deref().map(|ttl| duration_of("ttl", ttl)).transpose()?;
        let agent = by.acts_as(self.agent)?;
        desk.seen(&agent).await?;
        let task = self.task_id.map(TaskId);
        let kept = desk.store().write(Remember { agent, kind, text, tags, task, ttl_ms }).await?;
        Ok(Remembered { id: kept.id.0, count: kept.count })
    }
}

/// Asks the memory
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct MemoryRecall {
    /// Words to look for; what stands together or in double quotes is one term
    query: String,
    /// Only this kind
    #[schemars(extend("pattern" = one_of(MemoryKind::ALL.map(MemoryKind::as_str))))]
    kind: Option<String>,
    /// Only what this agent found out
    agent: Option<String>,
    /// Only what belongs to this run
    run_id: Option<i64>,
    /// So many answers at most; 10 if not said
    #[schemars(extend("minimum" = 1, "maximum" = HITS_MAX))]
    limit: Option<i64>,
}

impl Ask for MemoryRecall {
    const METHOD: Method = Method::GET;
    const PATH: &'static str = "/memories";
    const NAME: &'static str = "recall";
    const ABOUT: &'static str =
        "Searches findings, results, failures, checkpoints, messages and logged lines";
    type Answer = Vec<wire::Hit>;

    async fn answer(self, desk: &Desk, _by: &Caller) -> Result<Vec<wire::Hit>> {
        let limit = self.limit.unwrap_or(10);
        if !(1..=HITS_MAX).contains(&limit) {
            return Err(Error::invalid(format!("`limit` is a number from 1 to {HITS_MAX}")));
        }
        let query = Query::parse(&self.query);
        let recall = Recall {
            query: query.clone(),
            kinds: self.kind.as_deref().map(kind_of).transpose()?.into_iter().collect(),
            agent: self.agent,
            run: self.run_id.map(RunId),
            meaning: None,
            limit,
        };
        let hits = desk.recall(&self.query, recall).await?.hits;
        Ok(hits.iter().map(|hit| wire::Hit::of(hit, &query, EXCERPT)).collect())
    }
}

/// Has memories put together that say the same
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct MemoryConsolidate {
    /// The agent that is asked which; else that of the configuration
    agent: Option<String>,
}

/// That an agent is asked
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Consolidation {
    /// The task by which it is asked
    task_id: i64,
}

impl Ask for MemoryConsolidate {
    const METHOD: Method = Method::POST;
    const PATH: &'static str = "/memories/consolidate";
    const NAME: &'static str = "consolidate";
    const ABOUT: &'static str =
        "Has an agent look which memories say the same, by a task; they are put together";
    type Answer = Consolidation;

    async fn answer(self, desk: &Desk, by: &Caller) -> Result<Consolidation> {
        by.must_be_person("have the memory consolidated")?;
        let agent = self.agent.map(|name| agent_of("agent", name)).transpose()?;
        Ok(Consolidation { task_id: desk.consolidate(agent, by.name()).await?.task.0 })
    }
}

/// Forgets a memory
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct MemoryForget {
    /// Which
    id: i64,
}

/// That a memory was forgotten
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Forgotten {
    /// Its id
    forgotten: i64,
}

impl Ask for MemoryForget {
    const METHOD: Method = Method::DELETE;
    const PATH: &'static str = "/memories/{id}";
    const NAME: &'static str = "forget";
    const ABOUT: &'static str = "Removes a memory for good";
    type Answer = Forgotten;

    async fn answer(self, desk: &Desk, by: &Caller) -> Result<Forgotten> {
        by.must_be_person("forget what the team knows")?;
        desk.store().write(Forget { id: MemoryId(self.id), by: by.name() }).await?;
        Ok(Forgotten { forgotten: self.id })
    }
}

/// Asks what is needed to go on
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ContextShow {
    /// The run; without it all that go on, or the last one
    run_id: Option<i64>,
    /// Who asks; an agent's own token says it by itself
    #[schemars(extend("pattern" = agent()))]
    agent: Option<String>,
    /// Tokens at most, counted so that no common model counts more; 2800 if not said
    #[schemars(extend("minimum" = BUDGET_LEAST))]
    budget: Option<i64>,
}

impl Ask for ContextShow {
    const METHOD: Method = Method::GET;
    const PATH: &'static str = "/context";
    const NAME: &'static str = "context";
    const ABOUT: &'static str =
        "Tells what a fresh orchestrator needs: ids, states, blockers, newest findings";
    type Answer = Said;

    async fn answer(self, desk: &Desk, by: &Caller) -> Result<Said> {
        let budget = budget_of(self.budget)?;
        let agent = match (by.name(), self.agent) {
            (None, None) => None,
            (_, named) => Some(by.acts_as(named)?),
        };
        let facts = desk.context(Context { run: self.run_id.map(RunId), agent }).await?;
        Ok(facts.document(budget))
    }
}

pub(crate) fn budget_of(tokens: Option<i64>) -> Result<usize> {
    let Some(tokens) = tokens else { return Ok(BUDGET_DEFAULT) };
    let enough = usize::try_from(tokens).ok().filter(|tokens| *tokens >= BUDGET_LEAST);
    enough.ok_or_else(|| Error::invalid(format!("`budget` is {tokens}, less than {BUDGET_LEAST} tokens")))
}

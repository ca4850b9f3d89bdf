//! The memory at every door: whoever asks it first reads on in the log, and shows an embedding model what is new.
//!
//! Here lives that order of steps. So an answer is complete though no node runs. A model that cannot be asked costs a
//! little time, and the answer says that it was found by words alone.

use super::Desk;
use quorate_drivers::api::embeddings::Embedder;
use quorate_model::{Error, Kind, MemoryId, Result, Seq, TaskId};
use quorate_service::context::{Context, Facts};
use quorate_service::memory::{
    Asked, CatchUp, Consolidate, Hit, KeepVectors, Meaning, Recall, Related, Unembedded, embeds,
};
use std::time::Duration;
use tokio::time::Instant;

/// Steps of reading on that one who asks takes at most. Who finds more to read than 100,000 events is answered with
/// what is known by then.
const STEPS_MAX: usize = 500;

/// How long one who asks waits at most for transactions of others that may yet write before what he has seen done.
const PATIENCE: Duration = Duration::from_secs(1);
/// Between two looks whether they have ended.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// How long the embedding model may take, for the question and for what is new.
const MODEL_PATIENCE: Duration = Duration::from_secs(2);
/// New memories that one who asks shows the model at most; a node shows it the rest.
const NEW_MAX: i64 = 16;
/// Why words alone are looked for on PostgreSQL without pgvector.
const NO_PGVECTOR: &str = "the database has no extension pgvector (`quorate doctor` tells how to get it)";

/// An answer of the memory.
#[derive(Debug)]
pub struct Recalled {
    /// What was found, the best first.
    pub hits: Vec<Hit>,
    /// Why it was searched by words alone, though an embedding model is configured.
    pub hint: Option<String>,
}

/// A task that asks an agent which memories say the same.
#[derive(Debug)]
pub struct Consolidating {
    /// The task.
    pub task: TaskId,
    /// Who is asked.
    pub agent: String,
    /// About how many memories.
    pub memories: usize,
    /// In how many groups of such as are alike.
    pub groups: usize,
}

impl Desk {
    /// Reads on in the log until the memory holds what has happened.
    ///
    /// # Errors
    /// Those of the ledger.
    pub async fn catch_up(&self) -> Result<()> {
        let (mut until, mut begun) = (None::<Seq>, Instant::now());
        for _ in 0..STEPS_MAX {
            let step = self.store.write(CatchUp).await?;
            let until = *until.get_or_insert(step.end);
            if step.seen >= until {
                break;
            }
            if step.more {
                begun = Instant::now();
                continue;
            }
            if begun.elapsed() > PATIENCE {
                break;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(())
    }

    /// Asks the memory, in the words of whoever asks.
    ///
    /// # Errors
    /// Those of the ledger.
    pub async fn recall(&self, question: &str, recall: Recall) -> Result<Recalled> {
        self.catch_up().await?;
        let (meaning, hint) = match self.meaning(question, &recall).await {
            Ok(meaning) => (meaning, None),
            Err(error) => (None, Some(format!("found by words alone: {}", error.message))),
        };
        let hits = self.store.read(Recall { meaning, ..recall }).await?;
        Ok(Recalled { hits, hint })
    }

    /// What a question means, once the model has seen what is new. Nothing without a model, or where it would find
    /// nothing.
    async fn meaning(&self, question: &str, recall: &Recall) -> Result<Option<Meaning>> {
        let is_asked = recall.kinds.is_empty() || recall.kinds.iter().any(|kind| embeds(*kind));
        let Some(embedder) = self.embedder.as_deref().filter(|_| is_asked && !question.trim().is_empty())
        else {
            return Ok(None);
        };
        let model = embedder.model().to_owned();
        let waiting = self.store.read(Unembedded { model: model.clone(), limit: NEW_MAX }).await?;
        if !waiting.compares {
            return Err(Error::unavailable(NO_PGVECTOR));
        }
        let begun = Instant::now();
        let vector = embedder.embed(&[question], MODEL_PATIENCE).await?.pop();
        // What is not seen in time is still found by its words.
        let _ = self.show(embedder, waiting.texts, MODEL_PATIENCE.saturating_sub(begun.elapsed())).await;
        Ok(vector.map(|vector| Meaning { model, vector, likeness: embedder.likeness() }))
    }

    /// Shows the model memories that it has not seen.
    async fn show(
        &self,
        embedder: &Embedder,
        new: Vec<(MemoryId, String)>,
        patience: Duration,
    ) -> Result<()> {
        if new.is_empty() {
            return Ok(());
        }
        let texts: Vec<&str> = new.iter().map(|(_, text)| text.as_str()).collect();
        let vectors = embedder.embed(&texts, patience).await?;
        let vectors = vectors.into_iter().map(Some).collect();
        self.store.write(KeepVectors::of(embedder.model(), new, vectors)).await
    }

    /// Asks an agent by a task which memories say the same: that of the configuration, if none is named.
    ///
    /// # Errors
    /// `Invalid` when nobody is named, `Nothing` when nothing new is like anything else, `Conflict` while an earlier
    /// such task is open.
    pub async fn consolidate(&self, agent: Option<String>, by: Option<String>) -> Result<Consolidating> {
        let memory = &self.config.memory;
        let agent = agent.or_else(|| memory.consolidate.clone()).ok_or_else(|| {
            Error::invalid("nobody is named who is to consolidate")
                .hint("name an agent (--agent NAME), or write `consolidate = \"NAME\"` under [memory] in quorate.toml")
        })?;
        self.catch_up().await?;
        let model = memory.embedding.as_ref().map(|embedding| embedding.model.clone());
        let groups = self.store.read(Related { model, every_ms: 0 }).await?;
        if groups.is_empty() {
            return Err(Error::new(Kind::Nothing, "nothing new in the memory is like anything else"));
        }
        let (found, memories) = (groups.len(), groups.iter().map(Vec::len).sum());
        match self.store.write(Consolidate { agent: agent.clone(), groups, by }).await? {
            Asked::Now(task) => Ok(Consolidating { task, agent, memories, groups: found }),
            Asked::Before(id) => Err(Error::new(Kind::Conflict, format!("task {id} consolidates already"))
                .hint(format!("`quorate task show {id}` tells how far it is"))),
        }
    }

    /// Asks what somebody needs to go on.
    ///
    /// # Errors
    /// `NotFound` for an unknown run.
    pub async fn context(&self, context: Context) -> Result<Facts> {
        self.catch_up().await?;
        self.store.read(context).await
    }
}

//! Consolidating the memory with an agent: when it is asked, and the check of what it answers.
//!
//! Here live the rhythm and the archive. What an agent is asked about, and what is merged, `service::memory` decides;
//! how the answer is read lives in `model::memory`.

use crate::checker::{Follows, Outcome};
use crate::memory::archive;
use crate::node::Shared;
use crate::stop::Stop;
use quorate_model::memory::consolidation::{self, Consolidation, Merger};
use quorate_model::{Error, Kind, MemoryId, Result};
use quorate_service::memory::{ByIds, Consolidate, Memory, Merge, Related, Set};
use quorate_service::task::Task;
use std::collections::BTreeMap;

/// An agent is asked at most so often without being told to, in milliseconds.
const EVERY_MS: i64 = 24 * 60 * 60 * 1000;

/// Asks the agent that `[memory]` names, if there is something new to ask about.
pub(crate) async fn begin(shared: &Shared) -> Result<()> {
    let memory = &shared.config.memory;
    let Some(agent) = memory.consolidate.clone() else { return Ok(()) };
    let model = memory.embedding.as_ref().map(|embedding| embedding.model.clone());
    let groups = shared.store.read(Related { model, every_ms: EVERY_MS }).await?;
    if groups.is_empty() {
        return Ok(());
    }
    shared.store.write(Consolidate { agent, groups, by: None }).await.map(drop)
}

/// Reads what an agent has answered.
pub(crate) async fn read(shared: &Shared, stop: &Stop, task: &Task, asked: Consolidation) -> Outcome {
    match stop.in_time(merge_of(shared, task, &asked)).await {
        Ok(merge) => Outcome::Passed(Follows::Merge(merge)),
        Err(error) if error.kind == Kind::Unavailable => {
            Outcome::NotNow { reason: error.message, passed: None }
        }
        Err(error) => Outcome::failed(error.message, None),
    }
}

async fn merge_of(shared: &Shared, task: &Task, asked: &Consolidation) -> Result<Merge> {
    let answer = task
        .result
        .as_deref()
        .ok_or_else(|| Error::invalid("it gave no result, and the answer is the result"))?;
    let ids = asked.groups.iter().flatten().copied().collect();
    let (read_at, memories) = shared.store.read(ByIds { ids }).await?;
    let memories: BTreeMap<MemoryId, Memory> =
        memories.into_iter().map(|memory| (memory.id, memory)).collect();
    let kinds = memories.iter().map(|(id, memory)| (*id, memory.kind)).collect();
    let mergers = consolidation::read(answer, asked, &kinds)?;
    let sets: Vec<Set> = mergers.into_iter().map(|merger| set(merger, &memories)).collect();
    let originals: Vec<Memory> = sets.iter().flat_map(|set| set.memories.clone()).collect();
    let archive = archive(&shared.state, read_at, originals).await?;
    Ok(Merge { sets, seen: Vec::new(), by: task.owner.clone(), archive })
}

fn set(merger: Merger, memories: &BTreeMap<MemoryId, Memory>) -> Set {
    let all = merger.ids.iter().filter_map(|id| memories.get(id).cloned()).collect();
    Set::of(all, Some((merger.kind, merger.text)))
}

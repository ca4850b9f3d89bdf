//! Merging memories that are there: those whose vectors say that they are the same, and those that an agent puts
//! together.
//!
//! Here live the question for what is alike ([`Alike`]) and the merging itself ([`Merge`]). Between the two its asker
//! writes what goes, and what is rewritten, into an archive. Who is merged with whom `model::memory` decides.

use super::meaning::{compares, hit};
use super::{
    BY_ID, Hit, Memory, New, SOURCES_MAX, TAGS_MAX, all_words, from_row, index, memory_columns, rewrite,
};
use quorate_model::memory::consolidation::TWIN_LIKENESS;
use quorate_model::memory::{MemoryKind, may_merge};
use quorate_model::{Event, EventKind, MemoryId, Result};
use quorate_store::{Boxed, Read, Sql, Tx, Write, args};
use std::cmp::Reverse;
use std::collections::BTreeSet;

/// Memories that others are looked for in one step: each costs a look at all vectors.
pub const ALIKE_MAX: i64 = 16;
/// The most alike of one memory that are looked at.
const TWINS_MAX: i64 = 8;

/// Asks which memories an embedding model takes for the same; one step, of [`ALIKE_MAX`] memories that were not
/// looked at before.
#[derive(Debug, Clone)]
pub struct Alike {
    /// The model.
    pub model: String,
}

/// What is alike.
#[derive(Debug, Clone, Default)]
pub struct Twins {
    /// The ledger's time when it looked.
    pub read_at: i64,
    /// The memories that were looked at.
    pub seen: Vec<MemoryId>,
    /// What is to be merged.
    pub sets: Vec<Set>,
}

/// Memories that are to be one.
#[derive(Debug, Clone)]
pub struct Set {
    /// As they were when that was decided; the first stays.
    pub memories: Vec<Memory>,
    /// What it is to be and say from now on; `None`: what the first is and says.
    pub says: Option<(MemoryKind, String)>,
}

impl Read for Alike {
    type Answer = Twins;

    fn fetch<'a>(&'a self, tx: &'a mut Tx) -> Boxed<'a, Twins> {
        Box::pin(async move {
            if !compares(tx).await? {
                return Ok(Twins::default());
            }
            let unseen = tx.all(UNSEEN, args![&self.model, ALIKE_MAX], from_row).await?;
            let (read_at, mut sets, mut used) = (tx.now().await?, Vec::new(), BTreeSet::new());
            for memory in &unseen {
                if !may_go(memory) || used.contains(&memory.id) {
                    continue;
                }
                let found = near(tx, memory.id, TWIN_LIKENESS, TWINS_MAX).await?;
                let is_twin = |hit: &&Hit| {
                    let other = &hit.memory;
                    may_go(other)
                        && !used.contains(&other.id)
                        && may_merge((memory.kind, &memory.text), (other.kind, &other.text))
                };
                let Some(twin) = found.iter().find(is_twin) else { continue };
                let pair = vec![memory.clone(), twin.memory.clone()];
                used.extend(pair.iter().map(|one| one.id));
                sets.push(Set::of(pair, None));
            }
            Ok(Twins { read_at, seen: unseen.iter().map(|memory| memory.id).collect(), sets })
        })
    }
}

/// What was told, and what goes wrong. The result of a task stands for itself.
fn may_go(memory: &Memory) -> bool {
    match memory.kind {
        MemoryKind::Episode | MemoryKind::Pattern => true,
        MemoryKind::Finding | MemoryKind::Decision => memory.source.is_none(),
        MemoryKind::Checkpoint | MemoryKind::Message | MemoryKind::Line => false,
    }
}

/// Finds those that are most like a memory, as its model sees them. Only where vectors can be compared.
pub(super) async fn near(tx: &mut Tx, id: MemoryId, likeness: i64, limit: i64) -> Result<Vec<Hit>> {
    tx.all(NEAR, args![id, likeness, limit], hit).await
}

const UNSEEN: &str = concat!(
    "select ",
    memory_columns!(),
    " from memory_vectors v join memories m on m.id = v.memory_id
      where v.is_seen = 0 and v.model = $1 and v.vector is not null order by v.memory_id limit $2"
);

const NEAR: Sql = Sql::Each {
    lite: concat!(
        "with l as materialized (
             select v.memory_id, case when length(v.vector) = length(w.vector)
                                      then 1 - vec_distance_cosine(v.vector, w.vector) end as likeness
               from memory_vectors w join memory_vectors v on v.model = w.model and v.memory_id <> w.memory_id
              where w.memory_id = $1)
         select ",
        memory_columns!(),
        ", cast(1000000 * l.likeness as integer) as score from l join memories m on m.id = l.memory_id
          where l.likeness * 100 >= $2 and (m.expires_at is null or m.expires_at > now_ms())
          order by l.likeness desc, m.id limit $3"
    ),
    pg: concat!(
        "with l as materialized (
             select v.memory_id, case when cardinality(v.vector) = cardinality(w.vector)
                                      then 1 - (v.vector::vector <=> w.vector::vector) end as likeness
               from memory_vectors w join memory_vectors v on v.model = w.model and v.memory_id <> w.memory_id
              where w.memory_id = $1)
         select ",
        memory_columns!(),
        ", cast(1000000 * l.likeness as bigint) as score from l join memories m on m.id = l.memory_id
          where l.likeness * 100 >= cast($2 as bigint) and (m.expires_at is null or m.expires_at > now_ms())
          order by l.likeness desc, m.id limit $3"
    ),
};

/// Makes one memory of several, whose counts and sources it has from then on. A set of which one was changed or
/// removed since it was archived stays as it is.
#[derive(Debug, Clone)]
pub struct Merge {
    /// What is to be merged.
    pub sets: Vec<Set>,
    /// Memories for which others were looked for.
    pub seen: Vec<MemoryId>,
    /// Who put them together; `None`: the likeness of their vectors.
    pub by: Option<String>,
    /// The archive's file, for the log.
    pub archive: String,
}

impl Write for Merge {
    /// How many memories were merged into others.
    type Answer = usize;

    fn apply<'a>(&'a self, tx: &'a mut Tx) -> Boxed<'a, usize> {
        Box::pin(async move {
            let mut merged = 0;
            for set in &self.sets {
                if set.is_unchanged(tx).await? {
                    merged += set.merge(tx, self);
                }
            }
            let seen: Vec<i64> = self.seen.iter().map(|id| id.0).collect();
            if !seen.is_empty() {
                tx.later(SEEN, args![seen]);
            }
            Ok(merged)
        })
    }
}

const SEEN: Sql = Sql::Each {
    lite: "update memory_vectors set is_seen = 1 where memory_id in (select value from json_each($1))",
    pg: "update memory_vectors set is_seen = 1 where memory_id = any($1::bigint[])",
};

impl Set {
    /// Makes one of them: who was said oftenest, else first, is the one that is known, and stays.
    pub fn of(mut memories: Vec<Memory>, says: Option<(MemoryKind, String)>) -> Set {
        memories.sort_by_key(|memory| (Reverse(memory.count), memory.id));
        Set { memories, says }
    }

    /// Locks the memories, in the order of their ids.
    async fn is_unchanged(&self, tx: &mut Tx) -> Result<bool> {
        let mut memories: Vec<&Memory> = self.memories.iter().collect();
        memories.sort_by_key(|memory| memory.id);
        for memory in memories {
            let found = tx.one(BY_ID, args![memory.id], from_row).await?;
            let is_same = |now: Memory| {
                (now.text, now.kind, now.count) == (memory.text.clone(), memory.kind, memory.count)
            };
            if !found.is_some_and(is_same) {
                return Ok(false);
            }
        }
        Ok(self.memories.len() > 1)
    }

    /// Merges what is unchanged; answers with how many are gone.
    fn merge(&self, tx: &mut Tx, merge: &Merge) -> usize {
        let Some((first, rest)) = self.memories.split_first() else { return 0 };
        let sum = Sum::of(&self.memories, self.says.as_ref());
        let gone: Vec<i64> = rest.iter().map(|memory| memory.id.0).collect();
        tx.later(GONE, args![gone.clone()]);
        match &self.says {
            Some((kind, text)) => rewrite(tx, first.id, &said(first, *kind, text, &sum)),
            None => index(tx, first.id, &all_words(&first.text, &sum.tags)),
        }
        let as_json = |list: &[String]| serde_json::Value::from(list).to_string();
        tx.later(
            "update memories set count = $2, kind = $3, sources = $4, tags = $5, seen_at = $6, expires_at = $7,
                    created_at = $8 where id = $1",
            args![
                first.id,
                sum.count,
                sum.kind.as_str(),
                as_json(&sum.sources),
                as_json(&sum.tags),
                sum.seen_at,
                sum.expires_at,
                sum.created_at
            ],
        );
        let ids = gone.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let message = format!(
            "memory {} stands for {ids}, too, said {} times by now; {} has them as they were",
            first.id, sum.count, merge.archive
        );
        let data = serde_json::json!({ "id": first.id.0, "kind": sum.kind.as_str(), "count": sum.count, "merged": gone,
            "archive": merge.archive });
        let event = Event::new(EventKind::MemoryMerged, message).data(data);
        tx.record(match &merge.by {
            Some(by) => event.agent(by),
            None => event,
        });
        rest.len()
    }
}

const GONE: Sql = Sql::Each {
    lite: "delete from memories where id in (select value from json_each($1))",
    pg: "delete from memories where id = any($1::bigint[])",
};

fn said<'a>(first: &'a Memory, kind: MemoryKind, text: &'a str, sum: &'a Sum) -> New<'a> {
    New {
        kind,
        text,
        tags: &sum.tags,
        agent: first.agent.as_deref(),
        task: first.task,
        run: first.run,
        source: first.source.as_deref(),
        at: sum.seen_at,
        expires_at: None,
    }
}

/// What several memories are together.
struct Sum {
    kind: MemoryKind,
    count: i64,
    sources: Vec<String>,
    tags: Vec<String>,
    created_at: i64,
    seen_at: i64,
    /// What holds for longer decides how long it is kept.
    expires_at: Option<i64>,
}

impl Sum {
    fn of(memories: &[Memory], says: Option<&(MemoryKind, String)>) -> Sum {
        let count = memories.iter().map(|memory| memory.count).sum();
        let is_pattern = memories.iter().any(|memory| memory.kind == MemoryKind::Pattern);
        let first = memories.first().map_or(MemoryKind::Finding, |memory| memory.kind);
        let kind = match says {
            Some((kind, _)) => *kind,
            None if is_pattern => MemoryKind::Pattern,
            None => first.seen(count),
        };
        // In the order in which they were said, as far as that is known: the last ones are kept.
        let mut by_time: Vec<&Memory> = memories.iter().collect();
        by_time.sort_by_key(|memory| (memory.seen_at, memory.id));
        let mut sources: Vec<String> = Vec::new();
        for source in by_time.iter().flat_map(|memory| &memory.sources) {
            sources.retain(|known| known != source);
            sources.push(source.clone());
        }
        sources.drain(..sources.len().saturating_sub(SOURCES_MAX));
        let mut tags: Vec<String> = Vec::new();
        for tag in memories.iter().flat_map(|memory| &memory.tags) {
            if !tags.contains(tag) && tags.len() < TAGS_MAX {
                tags.push(tag.clone());
            }
        }
        let ends = memories.iter().map(|memory| memory.expires_at).collect::<Option<Vec<_>>>();
        Sum {
            kind,
            count,
            sources,
            tags,
            created_at: memories.iter().map(|memory| memory.created_at).min().unwrap_or_default(),
            seen_at: memories.iter().map(|memory| memory.seen_at).max().unwrap_or_default(),
            expires_at: ends.and_then(|ends| ends.into_iter().max()),
        }
    }
}

//! Finding by meaning: memories as an embedding model sees them.
//!
//! Here live what has no vector yet ([`Unembedded`]), the keeping of vectors ([`KeepVectors`]), and the search that
//! puts words and meaning together. The model is asked by others, never within a transaction. Every vector is looked
//! at: there are not more of them than `[memory]` allows. A vector is derived, as a word in an index is: to keep one
//! is no event.

use super::{HITS_MAX, Hit, Recall, from_row, memory_columns};
use quorate_model::config::DIMENSIONS_MAX;
use quorate_model::memory::{FoundBy, MemoryKind, fuse};
use quorate_model::{Error, MemoryId, Result};
use quorate_store::{Boxed, Dialect, Read, Row, Sql, Tx, Write, args};
use std::collections::HashMap;

/// How deep either ranking is looked into, at least, before they are put together: what is tenth in both may be first.
const DEPTH_LEAST: i64 = 50;

/// What is looked for by its meaning.
#[derive(Debug, Clone, PartialEq)]
pub struct Meaning {
    /// Whose vector it is.
    pub model: String,
    /// The question, as the model sees it.
    pub vector: Vec<f32>,
    /// From which likeness on something is found, in per cent.
    pub likeness: i64,
}

/// Returns whether memories of a kind are found by their meaning. Logged lines are too many, and say too little.
pub fn embeds(kind: MemoryKind) -> bool {
    kind != MemoryKind::Line
}

/// Asks what an embedding model has not seen yet, the newest first.
#[derive(Debug, Clone)]
pub struct Unembedded {
    /// The model.
    pub model: String,
    /// So many at most.
    pub limit: i64,
}

/// What waits for a vector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// Whether this ledger can compare vectors: on PostgreSQL only with the extension pgvector.
    pub compares: bool,
    /// Memories and their texts.
    pub texts: Vec<(MemoryId, String)>,
}

impl Read for Unembedded {
    type Answer = Waiting;

    fn fetch<'a>(&'a self, tx: &'a mut Tx) -> Boxed<'a, Waiting> {
        Box::pin(async move {
            if !compares(tx).await? {
                return Ok(Waiting { compares: false, texts: Vec::new() });
            }
            let text = |row: &Row<'_>| Ok((MemoryId(row.int("id")?), row.text("text")?));
            let texts = tx.all(UNEMBEDDED, args![&self.model, self.limit], text).await?;
            Ok(Waiting { compares: true, texts })
        })
    }
}

const UNEMBEDDED: &str =
    "select m.id, m.text from memories m left join memory_vectors v on v.memory_id = m.id and v.model = $1
      where v.memory_id is null and m.kind <> 'line' and (m.expires_at is null or m.expires_at > now_ms())
      order by m.id desc limit $2";

/// Returns whether vectors can be compared here. On PostgreSQL it makes pgvector's names known to the rest of the
/// transaction, in whichever schema they are.
pub(super) async fn compares(tx: &mut Tx) -> Result<bool> {
    match tx.dialect() {
        Dialect::Lite => Ok(true),
        Dialect::Pg => Ok(tx.one(WITH_PGVECTOR, &[], |row| row.text("path")).await?.is_some()),
    }
}

const WITH_PGVECTOR: &str = "select set_config('search_path',
                  current_setting('search_path') || ', ' || quote_ident(n.nspname), true) as path
       from pg_extension e join pg_namespace n on n.oid = e.extnamespace where e.extname = 'vector'";

/// Keeps vectors of memories; those of memories that say something else by now, or are gone, are passed over.
#[derive(Debug, Clone)]
pub struct KeepVectors {
    /// The model that made them.
    pub model: String,
    /// The vectors.
    pub vectors: Vec<Embedded>,
}

/// A memory as a model sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct Embedded {
    /// The memory.
    pub id: MemoryId,
    /// Its text, when the model was asked.
    pub text: String,
    /// What the model made of it; `None`: it refused the text, and is not asked again.
    pub vector: Option<Vec<f32>>,
}

impl KeepVectors {
    /// Puts what waited together with what the model made of it, one vector for each text.
    pub fn of(model: &str, waited: Vec<(MemoryId, String)>, vectors: Vec<Option<Vec<f32>>>) -> KeepVectors {
        let pairs = waited.into_iter().zip(vectors);
        let vectors = pairs.map(|((id, text), vector)| Embedded { id, text, vector }).collect();
        KeepVectors { model: model.to_owned(), vectors }
    }
}

impl Write for KeepVectors {
    type Answer = ();

    fn apply<'a>(&'a self, tx: &'a mut Tx) -> Boxed<'a, ()> {
        Box::pin(async move {
            for Embedded { id, text, vector } in &self.vectors {
                vector.as_deref().map_or(Ok(()), check)?;
                tx.later(KEEP, args![*id, &self.model, vector.as_deref(), text]);
            }
            Ok(())
        })
    }
}

const KEEP: Sql = Sql::Each {
    lite: "insert into memory_vectors (memory_id, model, vector)
           select id, $2, $3 from memories where id = $1 and text = $4
           on conflict (memory_id) do update set model = excluded.model, vector = excluded.vector, is_seen = 0",
    pg: "insert into memory_vectors (memory_id, model, vector)
         select id, cast($2 as text), cast($3 as real[]) from memories where id = $1 and text = $4
         on conflict (memory_id) do update set model = excluded.model, vector = excluded.vector, is_seen = 0",
};

/// Refuses what cannot be compared.
fn check(vector: &[f32]) -> Result<()> {
    let length = vector.len();
    if length == 0 || length > DIMENSIONS_MAX {
        return Err(Error::invalid(format!("a vector has 1 to {DIMENSIONS_MAX} numbers, this one {length}")));
    }
    if vector.iter().any(|number| !number.is_finite()) || vector.iter().all(|number| *number == 0.0) {
        return Err(Error::invalid("a vector without a direction"));
    }
    Ok(())
}

/// Lets the vector of a memory be made anew: it says something else now.
pub(super) fn expire(tx: &mut Tx, id: MemoryId) {
    tx.later("update memory_vectors set model = '', vector = null where memory_id = $1", args![id]);
}

/// Searches by words and by meaning.
pub(super) async fn hybrid(tx: &mut Tx, recall: &Recall, meaning: &Meaning) -> Result<Vec<Hit>> {
    check(&meaning.vector)?;
    let limit = recall.limit.clamp(1, HITS_MAX);
    let deep = Recall { limit: limit.max(DEPTH_LEAST), ..recall.clone() };
    let words = deep.search(tx).await?;
    let meant = if compares(tx).await? { like(tx, &deep, meaning).await? } else { Vec::new() };
    if meant.is_empty() {
        return Ok(words.into_iter().take(usize::try_from(limit).unwrap_or(usize::MAX)).collect());
    }
    let ids = |hits: &[Hit]| hits.iter().map(|hit| hit.memory.id).collect::<Vec<_>>();
    let places = fuse(&ids(&words), &ids(&meant));
    let mut found: HashMap<MemoryId, Hit> =
        meant.into_iter().chain(words).map(|hit| (hit.memory.id, hit)).collect();
    let first = places.into_iter().take(usize::try_from(limit).unwrap_or(usize::MAX));
    Ok(first.filter_map(|one| Some(Hit { score: one.score, by: one.by, ..found.remove(&one.id)? })).collect())
}

/// Those that are most like the question, as the model sees it.
async fn like(tx: &mut Tx, recall: &Recall, meaning: &Meaning) -> Result<Vec<Hit>> {
    let kinds: Vec<Option<String>> = recall.kinds.iter().map(|kind| Some(kind.as_str().to_owned())).collect();
    let args = args![
        &meaning.model,
        meaning.vector.as_slice(),
        kinds,
        &recall.agent,
        recall.run,
        meaning.likeness,
        recall.limit
    ];
    tx.all(LIKE, args, hit).await
}

/// Reads what was found by its meaning.
pub(super) fn hit(row: &Row<'_>) -> Result<Hit> {
    Ok(Hit { memory: from_row(row)?, score: row.int("score")?, by: FoundBy::Meaning })
}

// A vector of another length cannot be compared: a server may give another model under the same name.
const LIKE: Sql = Sql::Each {
    lite: concat!(
        "with l as materialized (
             select v.memory_id, case when length(v.vector) = length($2)
                                      then 1 - vec_distance_cosine(v.vector, $2) end as likeness
               from memory_vectors v where v.model = $1)
         select ",
        memory_columns!(),
        ", cast(1000000 * l.likeness as integer) as score
           from l join memories m on m.id = l.memory_id
          where l.likeness * 100 >= $6
            and (json_array_length($3) = 0 or m.kind in (select value from json_each($3)))
            and (cast($4 as text) is null or m.agent = $4) and (cast($5 as bigint) is null or m.run_id = $5)
            and (m.expires_at is null or m.expires_at > now_ms())
          order by l.likeness desc, m.seen_at desc, m.id desc limit $7"
    ),
    pg: concat!(
        "with l as materialized (
             select v.memory_id, case when cardinality(v.vector) = cardinality($2::real[])
                                      then 1 - (v.vector::vector <=> $2::real[]::vector) end as likeness
               from memory_vectors v where v.model = $1)
         select ",
        memory_columns!(),
        ", cast(1000000 * l.likeness as bigint) as score
           from l join memories m on m.id = l.memory_id
          where l.likeness * 100 >= cast($6 as bigint)
            and (cardinality($3::text[]) = 0 or m.kind = any($3::text[]))
            and (cast($4 as text) is null or m.agent = $4) and (cast($5 as bigint) is null or m.run_id = $5)
            and (m.expires_at is null or m.expires_at > now_ms())
          order by l.likeness desc, m.seen_at desc, m.id desc limit $7"
    ),
};

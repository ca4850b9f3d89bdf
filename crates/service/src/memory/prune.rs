//! Keeping the memory bounded: what is older than `[memory]` says, or too much, is removed once it was archived.
//!
//! Here live the question for what is to go ([`Old`]) and its removal ([`Prune`]). Between the two its asker writes it into an
//! archive; what was said again meanwhile stays.

use super::{Memory, from_row, memory_columns};
use quorate_model::memory::MemoryKind;
use quorate_model::{Event, EventKind, MemoryId, Result};
use quorate_store::{Boxed, Read, Sql, Tx, Write, args};

/// Memories that one step removes at most.
pub const PRUNE_MAX: i64 = 500;

/// How much is kept, and how long after it was said last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// In milliseconds, by kind; a kind that is not named is kept as long as there is room.
    pub ages_ms: Vec<(MemoryKind, i64)>,
    /// Memories at most.
    pub count_max: i64,
    /// Bytes of their texts at most.
    pub bytes_max: i64,
}

/// Asks which memories are to go next, at most [`PRUNE_MAX`]: first those whose time is over, then the oldest of what is too much.
///
/// What is too much goes in this order: lines, messages, checkpoints, episodes, findings, patterns, decisions.
#[derive(Debug, Clone)]
pub struct Old {
    /// How much is kept, and for how long.
    pub limits: Limits,
}

impl Read for Old {
    /// The ledger's time when it looked, and what is to go.
    type Answer = (i64, Vec<Memory>);

    fn fetch<'a>(&'a self, tx: &'a mut Tx) -> Boxed<'a, (i64, Vec<Memory>)> {
        Box::pin(async move {
            let now = tx.now().await?;
            let mut old = tx.all(EXPIRED, args![PRUNE_MAX], from_row).await?;
            for (kind, age_ms) in &self.limits.ages_ms {
                let room = PRUNE_MAX - old.len() as i64;
                let before = now.saturating_sub(*age_ms);
                old.extend(tx.all(OVER_AGE, args![kind.as_str(), before, room], from_row).await?);
            }
            if old.is_empty() {
                old = self.too_much(tx).await?;
            }
            Ok((now, old))
        })
    }
}

impl Old {
    async fn too_much(&self, tx: &mut Tx) -> Result<Vec<Memory>> {
        let sql = "select count(*) as n, cast(coalesce(sum(octet_length(text)), 0) as bigint) as bytes from memories";
        let found = tx.one(sql, &[], |row| Ok((row.int("n")?, row.int("bytes")?))).await?;
        let (count, bytes) = found.unwrap_or_default();
        let mut over = (count - self.limits.count_max, bytes - self.limits.bytes_max);
        if over.0 <= 0 && over.1 <= 0 {
            return Ok(Vec::new());
        }
        let mut surplus = Vec::new();
        for memory in tx.all(LEAST_WANTED, args![PRUNE_MAX], from_row).await? {
            if over.0 <= 0 && over.1 <= 0 {
                break;
            }
            over = (over.0 - 1, over.1 - memory.text.len() as i64);
            surplus.push(memory);
        }
        Ok(surplus)
    }
}

const EXPIRED: &str = concat!(
    "select ",
    memory_columns!(),
    " from memories m where m.expires_at is not null and m.expires_at <= now_ms() order by m.expires_at, m.id limit $1"
);
const OVER_AGE: &str = concat!(
    "select ",
    memory_columns!(),
    " from memories m where m.kind = $1 and m.seen_at < $2 and (m.expires_at is null or m.expires_at > now_ms())
      order by m.seen_at, m.id limit $3"
);
const LEAST_WANTED: &str = concat!(
    "select ",
    memory_columns!(),
    " from memories m
      order by case m.kind when 'line' then 0 when 'message' then 1 when 'checkpoint' then 2 when 'episode' then 3
                           when 'finding' then 4 when 'pattern' then 5 else 6 end, m.seen_at, m.id limit $1"
);

/// Removes memories that were archived, unless they were said again since.
#[derive(Debug, Clone)]
pub struct Prune {
    /// Which, and how often each was said when it was archived.
    pub said: Vec<(MemoryId, i64)>,
    /// The ledger's time when they were read for the archive.
    pub read_at: i64,
    /// The archive's file, for the log.
    pub archive: String,
}

impl Write for Prune {
    /// How many were removed.
    type Answer = u64;

    fn apply<'a>(&'a self, tx: &'a mut Tx) -> Boxed<'a, u64> {
        Box::pin(async move {
            let (ids, counts): (Vec<i64>, Vec<i64>) =
                self.said.iter().map(|(id, count)| (id.0, *count)).unzip();
            let removed = tx.run(GONE, args![ids, counts, self.read_at]).await?;
            if removed > 0 {
                let message = format!("{removed} memories were removed; {} has them", self.archive);
                let data = serde_json::json!({ "count": removed, "archive": self.archive });
                tx.record(Event::new(EventKind::MemoryPruned, message).data(data));
            }
            Ok(removed)
        })
    }
}

// By its count, too: what is read from the log is said when it happened, which may be long before it is read.
const GONE: Sql = Sql::Each {
    lite: "delete from memories where id in (
               select m.id from json_each($1) i join json_each($2) c on c.key = i.key join memories m on m.id = i.value
                where m.count = c.value and m.seen_at <= $3)",
    pg: "delete from memories m using unnest($1::bigint[], $2::bigint[]) as said (id, count)
          where m.id = said.id and m.count = said.count and m.seen_at <= $3",
};

//! The team's memory: what was told, what tasks came to, why attempts failed, what was said.
//!
//! Here live telling ([`Remember`]), asking ([`Recall`]) and forgetting. What happens by itself is read from the log, later
//! (`catch_up`): no task waits for it. What grows old is removed by `prune`. When two memories say the same, and what a
//! question is, `model::memory` decides. Finding by meaning is in `meaning`, beside the words; what says
//! the same in other words is merged by `merge`, and by an agent in `consolidate`.

mod catch_up;
mod consolidate;
mod meaning;
mod merge;
mod prune;

pub use catch_up::{CatchUp, CaughtUp, SCAN_MAX};
pub use consolidate::{Adopt, Asked, ByIds, Consolidate, Related};
pub use meaning::{Embedded, KeepVectors, Meaning, Unembedded, Waiting, embeds};
pub use merge::{ALIKE_MAX, Alike, Merge, Set, Twins};
pub use prune::{Limits, Old, PRUNE_MAX, Prune};

use crate::task;
use quorate_model::memory::{FoundBy, Gist, MemoryKind, Query, words};
use quorate_model::{Error, Event, EventKind, MemoryId, Result, RunId, TaskId, said};
use quorate_store::{Boxed, Dialect, Read, Row, Sql, Tx, Write, args};

/// The longest text of a memory, in bytes.
pub const TEXT_MAX: usize = 16 * 1024;
/// Tags of one memory at most.
pub const TAGS_MAX: usize = 16;
/// The longest tag, in characters.
pub const TAG_MAX: usize = 64;
/// Answers to one question at most.
pub const HITS_MAX: i64 = 100;
/// Sources that one memory names at most: the last ones.
pub const SOURCES_MAX: usize = 32;
/// Memories that are compared with a new one.
const KIN_MAX: i64 = 8;

/// A memory as it is stored.
#[derive(Debug, Clone)]
pub struct Memory {
    /// Its id.
    pub id: MemoryId,
    /// What it is.
    pub kind: MemoryKind,
    /// The text.
    pub text: String,
    /// Words to find it by.
    pub tags: Vec<String>,
    /// Who found it out.
    pub agent: Option<String>,
    /// The task it comes from, or is about.
    pub task: Option<TaskId>,
    /// The run of that task.
    pub run: Option<RunId>,
    /// Where it comes from: `task:7`, `attempt:7.2`, `message:3`, `event:99`, `checkpoint:4`; else it was told.
    pub source: Option<String>,
    /// The last that said the same.
    pub sources: Vec<String>,
    /// How often it was said.
    pub count: i64,
    /// When it was said first, milliseconds since 1970 (UTC).
    pub created_at: i64,
    /// When it was said last.
    pub seen_at: i64,
    /// When it is to be forgotten, if that was said.
    pub expires_at: Option<i64>,
}

impl Memory {
    /// Returns where it comes from; one that was told is its own source.
    pub fn source(&self) -> String {
        self.source.clone().unwrap_or_else(|| format!("memory:{}", self.id))
    }
}

macro_rules! memory_columns {
    () => {
        "m.id, m.kind, m.text, m.tags, m.agent, m.task_id, m.run_id, m.source, m.sources, m.count, m.created_at, m.seen_at, \
         m.expires_at"
    };
}
pub(crate) use memory_columns;

pub(crate) fn from_row(row: &Row<'_>) -> Result<Memory> {
    Ok(Memory {
        id: MemoryId(row.int("id")?),
        kind: row.text("kind")?.parse()?,
        text: row.text("text")?,
        tags: task::list(row.opt_text("tags")?),
        agent: row.opt_text("agent")?,
        task: row.opt_int("task_id")?.map(TaskId),
        run: row.opt_int("run_id")?.map(RunId),
        source: row.opt_text("source")?,
        sources: task::list(row.opt_text("sources")?),
        count: row.int("count")?,
        created_at: row.int("created_at")?,
        seen_at: row.int("seen_at")?,
        expires_at: row.opt_int("expires_at")?,
    })
}

/// Tells the team something that is to be kept.
#[derive(Debug, Clone)]
pub struct Remember {
    /// Who tells it.
    pub agent: String,
    /// What it is: one of [`MemoryKind::TOLD`].
    pub kind: MemoryKind,
    /// The text.
    pub text: String,
    /// Words to find it by.
    pub tags: Vec<String>,
    /// The task it is about.
    pub task: Option<TaskId>,
    /// For how long it holds, in milliseconds, if not as long as `[memory]` says.
    pub ttl_ms: Option<i64>,
}

/// What became of something that was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kept {
    /// The memory that holds it.
    pub id: MemoryId,
    /// How often it was said by now: more than once, it was known.
    pub count: i64,
}

impl Write for Remember {
    type Answer = Kept;

    fn apply<'a>(&'a self, tx: &'a mut Tx) -> Boxed<'a, Kept> {
        Box::pin(async move {
            self.check()?;
            let mut run = None;
            if let Some(task) = self.task {
                let sql = "select run_id from tasks where id = $1";
                let found = tx.one(sql, args![task], |row| row.opt_int("run_id")).await?;
                run = found.ok_or_else(|| task::unknown(task))?.map(RunId);
            }
            let at = tx.now().await?;
            let new = New {
                kind: self.kind,
                text: self.text.trim(),
                tags: &self.tags,
                agent: Some(&self.agent),
                task: self.task,
                run,
                source: None,
                at,
                expires_at: self.ttl_ms.map(|ttl| at.saturating_add(ttl)),
            };
            let kept = keep(tx, &new, Kin::Near).await?;
            let (kind, message) = match kept.count {
                1 => {
                    (EventKind::MemoryAdded, format!("{} is kept as memory {}", self.kind.as_str(), kept.id))
                }
                n => {
                    (EventKind::MemoryMerged, format!("memory {} was told again, {n} times by now", kept.id))
                }
            };
            let data =
                serde_json::json!({ "id": kept.id.0, "kind": self.kind.as_str(), "count": kept.count });
            let event = Event::new(kind, message).agent(&self.agent).run(run).data(data);
            tx.record(match self.task {
                Some(task) => event.task(task),
                None => event,
            });
            Ok(kept)
        })
    }
}

impl Remember {
    fn check(&self) -> Result<()> {
        if !MemoryKind::TOLD.contains(&self.kind) {
            return Err(Error::invalid(format!("a {} comes by itself and is not told", self.kind.as_str()))
                .hint("finding, episode, decision or pattern"));
        }
        if self.text.trim().is_empty() {
            return Err(Error::invalid("the text is empty"));
        }
        if self.text.len() > TEXT_MAX {
            return Err(Error::invalid(format!(
                "the text has {} bytes, more than {TEXT_MAX}",
                self.text.len()
            ))
            .hint("put it into a file and keep its path"));
        }
        if self.tags.len() > TAGS_MAX {
            return Err(Error::invalid(format!("{} tags, more than {TAGS_MAX}", self.tags.len())));
        }
        let is_bad = |tag: &&String| tag.trim().is_empty() || tag.chars().count() > TAG_MAX;
        if let Some(tag) = self.tags.iter().find(is_bad) {
            return Err(Error::invalid(format!(
                "a tag has 1 to {TAG_MAX} characters, this one {}",
                tag.chars().count()
            )));
        }
        Ok(())
    }
}

/// Something that is to be kept.
pub(crate) struct New<'a> {
    pub(crate) kind: MemoryKind,
    pub(crate) text: &'a str,
    pub(crate) tags: &'a [String],
    pub(crate) agent: Option<&'a str>,
    pub(crate) task: Option<TaskId>,
    pub(crate) run: Option<RunId>,
    pub(crate) source: Option<&'a str>,
    pub(crate) at: i64,
    pub(crate) expires_at: Option<i64>,
}

/// Which memories count as saying the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kin {
    /// Those that say exactly the same.
    Same,
    /// Those that say nearly the same, too: costs a search.
    Near,
}

/// Keeps something, or counts the memory that says the same already.
pub(crate) async fn keep(tx: &mut Tx, new: &New<'_>, kin: Kin) -> Result<Kept> {
    let gist = Gist::of(new.kind, new.text);
    if new.kind.merges()
        && let Some(twin) = twin(tx, new, &gist, kin).await?
    {
        return Ok(merge(tx, &twin, new));
    }
    let all = all_words(new.text, new.tags);
    let tags = serde_json::Value::from(new.tags).to_string();
    let sources = serde_json::Value::from(vec![origin(new)]).to_string();
    let args = args![
        new.kind.as_str(),
        new.text,
        &tags,
        new.agent,
        new.task,
        new.run,
        new.source,
        &sources,
        gist.mark(),
        new.at,
        new.expires_at,
        &all
    ];
    let id = match tx.dialect() {
        Dialect::Lite => {
            let id = tx.one(INSERT_LITE, &args[..args.len() - 1], |row| row.int("id")).await?;
            tx.later("insert into memory_words (rowid, words) values ($1, $2)", args![id, &all]);
            id
        }
        Dialect::Pg => tx.one(INSERT_PG, args, |row| row.int("id")).await?,
    };
    Ok(Kept { id: MemoryId(id.expect("an insert returns its row")), count: 1 })
}

const INSERT_LITE: &str = "insert into memories (kind, text, tags, agent, task_id, run_id, source, sources, mark, created_at, seen_at, expires_at)
     values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $10, $11) returning id";
const INSERT_PG: &str = "insert into memories (kind, text, tags, agent, task_id, run_id, source, sources, mark, created_at, seen_at, expires_at, words)
     values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $10, $11, to_tsvector('simple', $12)) returning id";

/// Writes anew by which words a memory is found.
fn index(tx: &mut Tx, id: MemoryId, all: &str) {
    match tx.dialect() {
        Dialect::Lite => {
            tx.later("delete from memory_words where rowid = $1", args![id]);
            tx.later("insert into memory_words (rowid, words) values ($1, $2)", args![id, all]);
        }
        Dialect::Pg => {
            tx.later("update memories set words = to_tsvector('simple', $2) where id = $1", args![id, all]);
        }
    }
}

/// Puts something in the place of what the same source has said before.
fn rewrite(tx: &mut Tx, id: MemoryId, new: &New<'_>) {
    meaning::expire(tx, id);
    tx.later(
        "update memories set text = $2, mark = $3, seen_at = $4, agent = $5, expires_at = null where id = $1",
        args![id, new.text, Gist::of(new.kind, new.text).mark(), new.at, new.agent],
    );
    index(tx, id, &all_words(new.text, new.tags));
}

/// The words by which something is found.
fn all_words(text: &str, tags: &[String]) -> String {
    let mut all = words(text);
    all.extend(tags.iter().flat_map(|tag| words(tag)));
    all.join(" ")
}

/// Keeps what a source says: anew, or in the place of what it said before.
pub(crate) async fn keep_of(tx: &mut Tx, new: &New<'_>) -> Result<Kept> {
    let sql = "select id, count from memories where source = $1";
    let kept = |row: &Row<'_>| Ok(Kept { id: MemoryId(row.int("id")?), count: row.int("count")? });
    match tx.one(sql, args![new.source], kept).await? {
        Some(kept) => {
            rewrite(tx, kept.id, new);
            Ok(kept)
        }
        None => keep(tx, new, Kin::Same).await,
    }
}

/// The beginning of a text, as much as one memory holds.
pub(crate) fn shortened(text: &str) -> String {
    said::shortened(text, TEXT_MAX).into_owned()
}

/// Lets what a source has said be forgotten with the next round of pruning.
pub(crate) fn expire(tx: &mut Tx, source: &str) {
    tx.later("update memories set expires_at = now_ms() where source = $1", args![source]);
}

/// Where something comes from, as it is listed among the sources of a memory.
fn origin(new: &New<'_>) -> String {
    match (new.source, new.agent) {
        (Some(source), _) => source.to_owned(),
        (None, Some(agent)) => format!("agent:{agent}"),
        (None, None) => "told".to_owned(),
    }
}

/// Finds the memory that says the same.
async fn twin(tx: &mut Tx, new: &New<'_>, gist: &Gist, kin: Kin) -> Result<Option<Memory>> {
    let kinds: Vec<String> = new.kind.family().iter().map(|kind| kind.as_str().to_owned()).collect();
    let args = args![gist.mark(), kinds.as_slice(), KIN_MAX];
    let same = tx.all(BY_MARK, args, from_row).await?;
    let is_same = |memory: &&Memory| Gist::of(memory.kind, &memory.text) == *gist;
    if let Some(twin) = same.iter().find(is_same) {
        return Ok(Some(twin.clone()));
    }
    if kin == Kin::Same {
        return Ok(None);
    }
    let search = Recall { kinds: new.kind.family().to_vec(), limit: KIN_MAX, ..Recall::of(gist.query()) };
    let found = search.search(tx).await?;
    let is_near = |hit: &&Hit| Gist::of(hit.memory.kind, &hit.memory.text).is_near(gist);
    match found.iter().find(is_near) {
        Some(near) => tx.one(BY_ID, args![near.memory.id], from_row).await,
        None => Ok(None),
    }
}

const BY_ID: Sql = Sql::Each {
    lite: concat!("select ", memory_columns!(), " from memories m where m.id = $1"),
    pg: concat!("select ", memory_columns!(), " from memories m where m.id = $1 for update"),
};

const BY_MARK: Sql = Sql::Each {
    lite: concat!(
        "select ",
        memory_columns!(),
        " from memories m where m.mark = $1 and m.kind in (select value from json_each($2))
            and (m.expires_at is null or m.expires_at > now_ms()) order by m.id limit $3"
    ),
    pg: concat!(
        "select ",
        memory_columns!(),
        " from memories m where m.mark = $1 and m.kind = any($2::text[])
            and (m.expires_at is null or m.expires_at > now_ms()) order by m.id limit $3 for update"
    ),
};

/// Counts something that a memory says already. What holds for longer decides how long it is kept.
fn merge(tx: &mut Tx, twin: &Memory, new: &New<'_>) -> Kept {
    let count = twin.count + 1;
    let mut sources = twin.sources.clone();
    sources.push(origin(new));
    let extra = sources.len().saturating_sub(SOURCES_MAX);
    sources.drain(..extra);
    let mut tags = twin.tags.clone();
    tags.extend(new.tags.iter().filter(|tag| !twin.tags.contains(tag)).cloned());
    tags.truncate(TAGS_MAX);
    let expires_at = twin.expires_at.zip(new.expires_at).map(|(one, other)| one.max(other));
    if tags != twin.tags {
        index(tx, twin.id, &all_words(&twin.text, &tags));
    }
    let as_json = |list: Vec<String>| serde_json::Value::from(list).to_string();
    tx.later(
        "update memories set count = $2, kind = $3, sources = $4, tags = $5, seen_at = $6, expires_at = $7 where id = $1",
        args![
            twin.id,
            count,
            twin.kind.seen(count).as_str(),
            as_json(sources),
            as_json(tags),
            new.at.max(twin.seen_at),
            expires_at
        ],
    );
    Kept { id: twin.id, count }
}

/// Asks the memory.
#[derive(Debug, Clone)]
pub struct Recall {
    /// What is looked for.
    pub query: Query,
    /// Only of these kinds; all if empty.
    pub kinds: Vec<MemoryKind>,
    /// Only what this agent found out.
    pub agent: Option<String>,
    /// Only what belongs to this run.
    pub run: Option<RunId>,
    /// What it means, to find what says it in other words, too; `None`: by words alone.
    pub meaning: Option<Meaning>,
    /// So many answers at most.
    pub limit: i64,
}

/// An answer.
#[derive(Debug, Clone)]
pub struct Hit {
    /// The memory.
    pub memory: Memory,
    /// How well it fits, in millionths; comparable within one answer only.
    pub score: i64,
    /// By what it was found.
    pub by: FoundBy,
}

impl Recall {
    /// Returns the question for everything that fits.
    pub fn of(query: Query) -> Recall {
        Recall { query, kinds: Vec::new(), agent: None, run: None, meaning: None, limit: 10 }
    }

    async fn search(&self, tx: &mut Tx) -> Result<Vec<Hit>> {
        if self.query.is_empty() {
            return Ok(Vec::new());
        }
        let kinds: Vec<Option<String>> =
            self.kinds.iter().map(|kind| Some(kind.as_str().to_owned())).collect();
        let limit = self.limit.clamp(1, HITS_MAX);
        match tx.dialect() {
            Dialect::Lite => {
                let args = args![self.query.fts5(), kinds, &self.agent, self.run, limit];
                tx.all(SEARCH_LITE, args, hit).await
            }
            Dialect::Pg => {
                let terms: Vec<Option<String>> = self.query.tsqueries().into_iter().map(Some).collect();
                tx.all(SEARCH_PG, args![terms, kinds, &self.agent, self.run, limit], hit).await
            }
        }
    }
}

impl Read for Recall {
    type Answer = Vec<Hit>;

    fn fetch<'a>(&'a self, tx: &'a mut Tx) -> Boxed<'a, Vec<Hit>> {
        Box::pin(async move {
            match &self.meaning {
                Some(meaning) => meaning::hybrid(tx, self, meaning).await,
                None => self.search(tx).await,
            }
        })
    }
}

fn hit(row: &Row<'_>) -> Result<Hit> {
    Ok(Hit { memory: from_row(row)?, score: row.int("score")?, by: FoundBy::Words })
}

const SEARCH_LITE: &str = concat!(
    "select ",
    memory_columns!(),
    ", cast(-1000000 * bm25(memory_words) as integer) as score
       from memory_words join memories m on m.id = memory_words.rowid
      where memory_words match $1
        and (json_array_length($2) = 0 or m.kind in (select value from json_each($2)))
        and (cast($3 as text) is null or m.agent = $3) and (cast($4 as bigint) is null or m.run_id = $4)
        and (m.expires_at is null or m.expires_at > now_ms())
      order by bm25(memory_words), m.seen_at desc, m.id desc limit $5"
);

/// Rare terms weigh more, as in SQLite's ranking: PostgreSQL's own knows only how often a term stands in one text.
const SEARCH_PG: &str = concat!(
    "with terms as materialized (
         select q, ln(1 + (select count(*) from memories)::float8 / (1 + (select count(*) from memories where words @@ q))) as weight
           from (select to_tsquery('simple', term) as q from unnest($1::text[]) as term) as asked)
     select ",
    memory_columns!(),
    ", cast(1000000 * (select sum(weight * ts_rank_cd(m.words, q, 1)) from terms where m.words @@ q) as bigint) as score
       from memories m
      where m.words @@ any(array(select q from terms))
        and (cardinality($2::text[]) = 0 or m.kind = any($2::text[]))
        and (cast($3 as text) is null or m.agent = $3) and (cast($4 as bigint) is null or m.run_id = $4)
        and (m.expires_at is null or m.expires_at > now_ms())
      order by score desc, m.seen_at desc, m.id desc limit $5"
);

/// Removes a memory for good: nothing keeps its text.
#[derive(Debug, Clone)]
pub struct Forget {
    /// The memory.
    pub id: MemoryId,
    /// Who wants it.
    pub by: Option<String>,
}

impl Write for Forget {
    type Answer = ();

    fn apply<'a>(&'a self, tx: &'a mut Tx) -> Boxed<'a, ()> {
        Box::pin(async move {
            let found = tx
                .one("delete from memories where id = $1 returning kind", args![self.id], |row| {
                    row.text("kind")
                })
                .await?;
            let kind = found.ok_or_else(|| unknown(self.id))?;
            let data = serde_json::json!({ "id": self.id.0, "kind": kind });
            let event = Event::new(EventKind::MemoryForgotten, format!("memory {} was forgotten", self.id))
                .data(data);
            tx.record(match &self.by {
                Some(by) => event.agent(by),
                None => event,
            });
            Ok(())
        })
    }
}

fn unknown(id: MemoryId) -> Error {
    Error::not_found(format!("no memory {id}")).hint("`quorate recall WORDS` shows what there is")
}

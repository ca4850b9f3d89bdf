//! Consolidation by an agent: it is asked which memories say the same, and what it answers is merged.
//!
//! Here live the choice of what it is asked about ([`Related`]), the task that asks ([`Consolidate`]), and the end of
//! that task's check together with the merging ([`Adopt`]). The words of the question and the reading of the answer
//! are in `model::memory`. Where nothing new is like anything else, nobody is asked.

use super::meaning::compares;
use super::merge::{Merge, near};
use super::{Hit, Memory, Recall, from_row, memory_columns};
use crate::task::{self, NewTask, SettleCheck, Work};
use quorate_model::memory::Gist;
use quorate_model::memory::consolidation::{self, ATTEMPTS, Consolidation, GROUP_MAX, GROUPS_MAX, Shown};
use quorate_model::{MemoryId, Result, TaskId, TaskState};
use quorate_store::{Boxed, Read, Sql, Tx, Write, args};
use std::collections::BTreeSet;

/// New memories whose kin is looked for at most.
const SEEDS_MAX: i64 = 24;
/// Memories that are looked at for the kin of one.
const KIN_MAX: i64 = 12;
/// From this share of common words on two memories may be about the same, in per cent; and from this likeness on.
const SHARE_LEAST: usize = 25;
const LIKENESS_LEAST: i64 = 70;
/// Low: it can wait for everything else.
const PRIORITY: i64 = 2;

/// Asks for groups of memories that may say the same, of which something is new since an agent was asked last.
#[derive(Debug, Clone)]
pub struct Related {
    /// The embedding model whose vectors are looked at, too.
    pub model: Option<String>,
    /// Nothing is found within this time since an agent was asked last, in milliseconds.
    pub every_ms: i64,
}

impl Read for Related {
    type Answer = Vec<Vec<Memory>>;

    fn fetch<'a>(&'a self, tx: &'a mut Tx) -> Boxed<'a, Vec<Vec<Memory>>> {
        Box::pin(async move {
            let asked = time_in_meta(tx, ASKED_AT).await?.unwrap_or(0);
            if tx.now().await? < asked.saturating_add(self.every_ms) {
                return Ok(Vec::new());
            }
            let shown = time_in_meta(tx, SHOWN_UNTIL).await?.unwrap_or(asked);
            let seeds =
                tx.all(SEEDS, args![shown, SEEDS_MAX, consolidation::SHOWN_MAX as i64], from_row).await?;
            let compares = self.model.is_some() && compares(tx).await?;
            let (mut groups, mut used) = (Vec::new(), BTreeSet::<MemoryId>::new());
            for seed in seeds {
                if used.contains(&seed.id) || groups.len() == GROUPS_MAX {
                    continue;
                }
                let mut group = vec![seed];
                group.extend(kin(tx, &group[0], compares, &used).await?);
                if group.len() > 1 {
                    used.extend(group.iter().map(|memory| memory.id));
                    groups.push(group);
                }
            }
            Ok(groups)
        })
    }
}

/// Finds what may say the same as a memory: by common words, and by likeness where vectors can be compared.
async fn kin(tx: &mut Tx, seed: &Memory, compares: bool, used: &BTreeSet<MemoryId>) -> Result<Vec<Memory>> {
    let gist = Gist::of(seed.kind, &seed.text);
    let search = Recall { kinds: seed.kind.family().to_vec(), limit: KIN_MAX, ..Recall::of(gist.query()) };
    let shares = |hit: &Hit| Gist::of(hit.memory.kind, &hit.memory.text).share(&gist) >= SHARE_LEAST;
    let mut found: Vec<Hit> = search.search(tx).await?.into_iter().filter(shares).collect();
    if compares {
        found.extend(near(tx, seed.id, LIKENESS_LEAST, KIN_MAX).await?);
    }
    let mut kin: Vec<Memory> = Vec::new();
    for Hit { memory, .. } in found {
        let is_new =
            memory.id != seed.id && !used.contains(&memory.id) && kin.iter().all(|one| one.id != memory.id);
        let is_whole = consolidation::is_shown_whole(&memory.text);
        if is_new && is_whole && seed.kind.family().contains(&memory.kind) && kin.len() + 1 < GROUP_MAX {
            kin.push(memory);
        }
    }
    Ok(kin)
}

/// When an agent was asked last …
const ASKED_AT: &str = "consolidated";
/// … and the newest time of what it was shown: what was told meanwhile is new to it.
const SHOWN_UNTIL: &str = "consolidated_until";

/// Reads a time that is kept in `meta`, in milliseconds since 1970.
async fn time_in_meta(tx: &mut Tx, key: &str) -> Result<Option<i64>> {
    let kept = tx.one("select value from meta where key = $1", args![key], |row| row.text("value")).await?;
    Ok(kept.and_then(|at| at.parse().ok()))
}

const SEEDS: &str = concat!(
    "select ",
    memory_columns!(),
    " from memories m where m.kind in ('finding', 'episode', 'decision', 'pattern') and m.seen_at > $1
        and (m.expires_at is null or m.expires_at > now_ms()) and length(m.text) <= $3
      order by m.seen_at desc, m.id desc limit $2"
);

/// Asks an agent, by a task, which memories of these groups say the same, unless an earlier task is not done.
#[derive(Debug, Clone)]
pub struct Consolidate {
    /// Who is asked.
    pub agent: String,
    /// The groups.
    pub groups: Vec<Vec<Memory>>,
    /// Who wants it; `None`: a node.
    pub by: Option<String>,
}

/// What became of the wish to ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// By this task.
    Now(TaskId),
    /// This earlier task is not done.
    Before(TaskId),
}

impl Write for Consolidate {
    type Answer = Asked;

    fn apply<'a>(&'a self, tx: &'a mut Tx) -> Boxed<'a, Asked> {
        Box::pin(async move {
            let open = tx.one(OPEN, args![Consolidation::LIKE], |row| Ok(TaskId(row.int("id")?))).await?;
            if let Some(open) = open {
                return Ok(Asked::Before(open));
            }
            crate::agent::must_exist(tx, Some(&self.agent)).await?;
            let shown = |memory: &Memory| Shown {
                id: memory.id,
                kind: memory.kind,
                count: memory.count,
                text: memory.text.clone(),
            };
            let groups: Vec<Vec<Shown>> =
                self.groups.iter().map(|group| group.iter().map(shown).collect()).collect();
            let ids = |group: &Vec<Memory>| group.iter().map(|memory| memory.id).collect();
            let check = Consolidation { groups: self.groups.iter().map(ids).collect() };
            let task = NewTask {
                work: Some(Work::Prompt(consolidation::question(&groups))),
                priority: PRIORITY,
                agent: Some(self.agent.clone()),
                verify: Some(check.stored()),
                max_attempts: ATTEMPTS,
                ..NewTask::new("Consolidate the team's memory")
            };
            let ids = task::add_tasks(tx, None, &[task], self.by.as_deref()).await?;
            let until = self.groups.iter().flatten().map(|memory| memory.seen_at).max().unwrap_or_default();
            tx.run(KEEP_ASKED, args![ASKED_AT, SHOWN_UNTIL, until.to_string()]).await?;
            Ok(Asked::Now(*ids.first().expect("one task was added")))
        })
    }
}

const KEEP_ASKED: &str = "insert into meta (key, value) values ($1, cast(now_ms() as text)), ($2, $3)
    on conflict (key) do update set value = excluded.value";

const OPEN: &str = "select id from tasks where verify like $1 and state <> 'completed' and state <> 'failed' and state <> 'cancelled' limit 1";

/// Asks for memories by their ids; those that are gone are left out. Answers with the ledger's time when it looked,
/// too.
#[derive(Debug, Clone)]
pub struct ByIds {
    /// Which.
    pub ids: Vec<MemoryId>,
}

impl Read for ByIds {
    type Answer = (i64, Vec<Memory>);

    fn fetch<'a>(&'a self, tx: &'a mut Tx) -> Boxed<'a, (i64, Vec<Memory>)> {
        Box::pin(async move {
            let ids: Vec<i64> = self.ids.iter().map(|id| id.0).collect();
            Ok((tx.now().await?, tx.all(BY_IDS, args![ids], from_row).await?))
        })
    }
}

const BY_IDS: Sql = Sql::Each {
    lite: concat!(
        "select ",
        memory_columns!(),
        " from memories m where m.id in (select value from json_each($1)) order by m.id"
    ),
    pg: concat!(
        "select ",
        memory_columns!(),
        " from memories m where m.id = any($1::bigint[]) order by m.id"
    ),
};

/// Settles the check of a task that consolidates and, if it passed, merges what the agent has put together: both or
/// neither.
#[derive(Debug, Clone)]
pub struct Adopt {
    /// The check's outcome.
    pub settle: SettleCheck,
    /// What is merged.
    pub merge: Merge,
}

impl Write for Adopt {
    type Answer = TaskState;

    fn apply<'a>(&'a self, tx: &'a mut Tx) -> Boxed<'a, TaskState> {
        Box::pin(async move {
            let state = self.settle.apply(tx).await?;
            if state == TaskState::Completed {
                self.merge.apply(tx).await?;
            }
            Ok(state)
        })
    }
}

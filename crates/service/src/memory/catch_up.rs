//! What happened by itself, read from the log: results become findings, failed attempts episodes.
//!
//! Here lives one step, [`CatchUp`]. Tasks are taken and completed without a statement for the memory; whoever asks it first
//! reads on in the log from where the last reader stopped, and so does a node when it has nothing better to do. The cursor's
//! row is locked, so two who read at once keep nothing twice.

use super::{Kin, New, TEXT_MAX, keep, keep_of, shortened};
use crate::checkpoint;
use quorate_model::goal::PlanCheck;
use quorate_model::memory::MemoryKind;
use quorate_model::memory::consolidation::Consolidation;
use quorate_model::{Event, EventKind, MessageId, Result, RunId, Seq, TaskId};
use quorate_store::{Boxed, Row, Sql, Tx, Write, args};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Events that one step reads at most: on SQLite it is one operation of the only writer, and others wait for it.
pub const SCAN_MAX: i64 = 200;

/// Reads on in the log and keeps what it teaches; one step, of [`SCAN_MAX`] events at most.
#[derive(Debug, Clone)]
pub struct CatchUp;

/// What one step came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CaughtUp {
    /// What is new.
    pub kept: usize,
    /// What was known, and is counted.
    pub merged: usize,
    /// Whether there is more to read at once.
    pub more: bool,
    /// Up to where the log was read.
    pub seen: Seq,
    /// Where it ends. On PostgreSQL that may be behind what can be read: who is still at work may yet write before it.
    pub end: Seq,
}

impl Write for CatchUp {
    type Answer = CaughtUp;

    fn apply<'a>(&'a self, tx: &'a mut Tx) -> Boxed<'a, CaughtUp> {
        Box::pin(async move {
            let seen = tx.one(CURSOR, &[], |row| Ok(Seq(row.int("seq")?))).await?.unwrap_or(Seq(-1));
            let end =
                tx.one(END, args![seen, SCAN_MAX], |row| Ok((row.opt_int("seq")?, row.int("n")?))).await?;
            let last = tx.one(LAST, &[], |row| Ok(Seq(row.int("seq")?))).await?.unwrap_or(Seq(-1));
            let none = CaughtUp { kept: 0, merged: 0, more: false, seen, end: last };
            let Some((Some(end), count)) = end else { return Ok(none) };
            let facts = tx
                .all(
                    FACTS,
                    args![seen, end, TEXT_MAX as i64, PlanCheck::LIKE, Consolidation::LIKE],
                    Fact::from_row,
                )
                .await?;
            let mut round = Round { done: none, kinds: BTreeMap::new(), runs: BTreeSet::new() };
            for fact in &facts {
                round.take(tx, fact).await?;
            }
            round.messages(tx, &facts).await?;
            for run in std::mem::take(&mut round.runs) {
                checkpoint::save_run(tx, run).await?;
            }
            tx.later("update memory_cursor set seq = $1", args![end]);
            round.tell(tx);
            Ok(CaughtUp { more: count == SCAN_MAX, seen: Seq(end), ..round.done })
        })
    }
}

const CURSOR: Sql =
    Sql::Each { lite: "select seq from memory_cursor", pg: "select seq from memory_cursor for update" };

const LAST: &str = "select seq from events order by seq desc limit 1";

const END: &str = "select max(seq) as seq, count(*) as n
    from (select seq from events where seq > $1 and seq < log_head() order by seq limit $2) as next";

// A plan is tasks, which are in the ledger: what a planner answers is no finding. Nor is what one answers who consolidates.
const FACTS: &str = "select e.seq, e.at, e.kind, e.agent, e.task_id, e.run_id, e.message, e.data, t.title,
           case when e.kind = 'task.completed' and t.state = 'completed' and coalesce(t.verify, '') not like $4 and coalesce(t.verify, '') not like $5
                then substr(t.result, 1, cast($3 as integer)) end as result
      from events e left join tasks t on t.id = e.task_id
     where e.seq > $1 and e.seq <= $2
       and e.kind in ('task.completed', 'task.retried', 'task.failed', 'task.parked', 'message.sent', 'log.line',
                      'run.started', 'run.finished', 'run.resumed')
     order by e.seq";

/// An event that may teach something, with what is known of its task.
struct Fact {
    seq: i64,
    at: i64,
    kind: String,
    agent: Option<String>,
    task: Option<TaskId>,
    run: Option<RunId>,
    message: String,
    data: Value,
    title: Option<String>,
    result: Option<String>,
}

impl Fact {
    fn from_row(row: &Row<'_>) -> Result<Fact> {
        let data = row.opt_text("data")?.and_then(|text| serde_json::from_str(&text).ok());
        Ok(Fact {
            seq: row.int("seq")?,
            at: row.int("at")?,
            kind: row.text("kind")?,
            agent: row.opt_text("agent")?,
            task: row.opt_int("task_id")?.map(TaskId),
            run: row.opt_int("run_id")?.map(RunId),
            message: row.text("message")?,
            data: data.unwrap_or_default(),
            title: row.opt_text("title")?,
            result: row.opt_text("result")?,
        })
    }

    /// A text under the title of its task, cut to what one memory holds.
    fn titled(&self, text: &str) -> String {
        match &self.title {
            Some(title) => shortened(&format!("{title}: {text}")),
            None => shortened(text),
        }
    }

    fn says<'a>(&'a self, kind: MemoryKind, text: &'a str, source: &'a str) -> New<'a> {
        New {
            kind,
            text,
            tags: &[],
            agent: self.agent.as_deref(),
            task: self.task,
            run: self.run,
            source: Some(source),
            at: self.at,
            expires_at: None,
        }
    }
}

/// A stored result in words: a JSON string is its text. One that was cut is no JSON any more.
fn in_words(result: &str) -> String {
    match serde_json::from_str(result) {
        Ok(Value::String(text)) => text,
        Ok(_) => result.to_owned(),
        Err(_) => {
            result.strip_prefix('"').map_or_else(|| result.to_owned(), |text| text.replace("\\n", "\n"))
        }
    }
}

/// What one step has come to so far.
struct Round {
    done: CaughtUp,
    kinds: BTreeMap<&'static str, usize>,
    /// Runs that have changed.
    runs: BTreeSet<RunId>,
}

impl Round {
    async fn take(&mut self, tx: &mut Tx, fact: &Fact) -> Result<()> {
        if fact.kind != EventKind::MessageSent.as_str() && fact.kind != EventKind::LogLine.as_str() {
            self.runs.extend(fact.run);
        }
        match (fact.kind.as_str(), fact.task) {
            ("task.completed", Some(task)) => self.result(tx, fact, task).await,
            ("task.retried" | "task.failed", Some(task)) => self.episode(tx, fact, task).await,
            ("log.line", _) => self.line(tx, fact).await,
            _ => Ok(()),
        }
    }

    async fn result(&mut self, tx: &mut Tx, fact: &Fact, task: TaskId) -> Result<()> {
        let Some(result) = fact.result.as_deref().filter(|result| *result != "null") else { return Ok(()) };
        let text = fact.titled(&in_words(result));
        let kept = keep_of(tx, &fact.says(MemoryKind::Finding, &text, &format!("task:{task}"))).await?;
        self.count(MemoryKind::Finding, kept.count);
        Ok(())
    }

    /// A person's wish to try again is no failure: it names no attempt.
    async fn episode(&mut self, tx: &mut Tx, fact: &Fact, task: TaskId) -> Result<()> {
        let (Some(attempt), Some(reason)) = (fact.data["attempt"].as_i64(), fact.data["reason"].as_str())
        else {
            return Ok(());
        };
        let text = fact.titled(reason);
        let source = format!("attempt:{task}.{attempt}");
        let kept = keep(tx, &fact.says(MemoryKind::Episode, &text, &source), Kin::Near).await?;
        self.count(MemoryKind::Episode, kept.count);
        Ok(())
    }

    async fn line(&mut self, tx: &mut Tx, fact: &Fact) -> Result<()> {
        if fact.message.trim().is_empty() {
            return Ok(());
        }
        let said = ["action", "status"].into_iter().filter_map(|key| fact.data[key].as_str());
        let tags: Vec<String> = said.map(ToOwned::to_owned).collect();
        let (text, source) = (shortened(&fact.message), format!("event:{}", fact.seq));
        let new = New { tags: &tags, ..fact.says(MemoryKind::Line, &text, &source) };
        let kept = keep(tx, &new, Kin::Same).await?;
        self.count(MemoryKind::Line, kept.count);
        Ok(())
    }

    async fn messages(&mut self, tx: &mut Tx, facts: &[Fact]) -> Result<()> {
        let sent = facts.iter().filter(|fact| fact.kind == EventKind::MessageSent.as_str());
        let by_id: BTreeMap<i64, &Fact> =
            sent.filter_map(|fact| Some((fact.data["id"].as_i64()?, fact))).collect();
        if by_id.is_empty() {
            return Ok(());
        }
        let ids: Vec<i64> = by_id.keys().copied().collect();
        let letters = tx
            .all(LETTERS, args![ids, TEXT_MAX as i64], |row| {
                let text = format!(
                    "{} to {} ({}): {}",
                    row.text("sender")?,
                    row.text("recipient")?,
                    row.text("kind")?,
                    row.text("text")?
                );
                Ok((MessageId(row.int("id")?), text))
            })
            .await?;
        for (id, text) in letters {
            let text = shortened(&text);
            let Some(fact) = by_id.get(&id.0) else { continue };
            let kept = keep_of(tx, &fact.says(MemoryKind::Message, &text, &format!("message:{id}"))).await?;
            self.count(MemoryKind::Message, kept.count);
        }
        Ok(())
    }

    fn count(&mut self, kind: MemoryKind, count: i64) {
        if count > 1 {
            self.done.merged += 1;
        } else {
            self.done.kept += 1;
            *self.kinds.entry(kind.as_str()).or_default() += 1;
        }
    }

    /// Notes in the log what was kept: one event for all, else the log would tell everything twice.
    fn tell(&self, tx: &mut Tx) {
        let CaughtUp { kept, merged, .. } = self.done;
        if kept + merged == 0 {
            return;
        }
        let mut words: Vec<String> = self.kinds.iter().map(|(kind, n)| format!("{n} {kind}")).collect();
        words.extend((merged > 0).then(|| format!("{merged} known")));
        let mut data =
            serde_json::Map::from_iter(self.kinds.iter().map(|(kind, n)| ((*kind).to_owned(), (*n).into())));
        data.insert("merged".into(), merged.into());
        let message = format!("the memory has read on in the log: {}", words.join(", "));
        tx.record(Event::new(EventKind::MemoryAdded, message).data(data.into()));
    }
}

const LETTERS: Sql = Sql::Each {
    lite: "select id, sender, recipient, kind, substr(text, 1, cast($2 as integer)) as text from messages
            where id in (select value from json_each($1)) order by id",
    pg: "select id, sender, recipient, kind, substr(text, 1, cast($2 as integer)) as text from messages
          where id = any($1::bigint[]) order by id",
};

//! Reading the log.
//!
//! Here live the event as it was written, the question for what came after a place, and that for the place where the
//! log ends now. The order, and why a follower misses nothing, is the business of `store`.

use quorate_model::{Error, Result, RunId, Seq, TaskId};
use quorate_store::{Boxed, Read, Row, Tx, args};

/// Events answered at once at most.
pub const PAGE_MAX: i64 = 5_000;

/// An event as it was written.
#[derive(Debug, Clone)]
pub struct Logged {
    /// Its place in the log.
    pub seq: Seq,
    /// When, milliseconds since 1970 (UTC).
    pub at: i64,
    /// What happened, `noun.verb`.
    pub kind: String,
    /// Who did it or whom it concerns.
    pub agent: Option<String>,
    /// The task it concerns.
    pub task: Option<TaskId>,
    /// The run it concerns.
    pub run: Option<RunId>,
    /// The resource it concerns.
    pub resource: Option<String>,
    /// One sentence for people.
    pub message: String,
    /// Further facts, a JSON text.
    pub data: Option<String>,
}

impl Logged {
    /// Returns its further facts; null where there are none.
    pub fn facts(&self) -> serde_json::Value {
        self.data.as_deref().and_then(|data| serde_json::from_str(data).ok()).unwrap_or_default()
    }
}

pub(crate) fn from_row(row: &Row<'_>) -> Result<Logged> {
    Ok(Logged {
        seq: Seq(row.int("seq")?),
        at: row.int("at")?,
        kind: row.text("kind")?,
        agent: row.opt_text("agent")?,
        task: row.opt_int("task_id")?.map(TaskId),
        run: row.opt_int("run_id")?.map(RunId),
        resource: row.opt_text("resource")?,
        message: row.text("message")?,
        data: row.opt_text("data")?,
    })
}

/// What is wanted of the log; every filter narrows.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Only of this agent.
    pub agent: Option<String>,
    /// Only of this resource, named exactly so.
    pub resource: Option<String>,
    /// Only of this kind.
    pub kind: Option<String>,
    /// Only of this task.
    pub task: Option<TaskId>,
    /// Only of this run.
    pub run: Option<RunId>,
    /// Only since this time, milliseconds since 1970 (UTC).
    pub since: Option<i64>,
}

impl Filter {
    /// Returns whether an event is wanted.
    pub fn matches(&self, event: &Logged) -> bool {
        let has =
            |wanted: &Option<String>, found: Option<&String>| wanted.is_none() || wanted.as_ref() == found;
        has(&self.agent, event.agent.as_ref())
            && has(&self.resource, event.resource.as_ref())
            && has(&self.kind, Some(&event.kind))
            && (self.task.is_none() || self.task == event.task)
            && (self.run.is_none() || self.run == event.run)
            && self.since.is_none_or(|since| event.at >= since)
    }
}

/// Asks for the events after a place, in order, at most [`PAGE_MAX`].
#[derive(Debug, Clone)]
pub struct After {
    /// The last place seen; `None` begins with the first kept.
    pub seq: Option<Seq>,
    /// What is wanted.
    pub filter: Filter,
    /// So many at most.
    pub limit: i64,
}

/// What came after a place.
#[derive(Debug, Clone)]
pub struct Page {
    /// The events, in order.
    pub events: Vec<Logged>,
    /// The place up to which the log was looked at: go on after it.
    pub seen: Seq,
}

impl Read for After {
    type Answer = Page;

    fn fetch<'a>(&'a self, tx: &'a mut Tx) -> Boxed<'a, Page> {
        Box::pin(async move {
            let after = match self.seq {
                Some(seq) => seq,
                None => Seq(-1),
            };
            self.must_be_kept(tx).await?;
            let top = end(tx).await?;
            let limit = self.limit.clamp(1, PAGE_MAX);
            let f = &self.filter;
            let sql = "select seq, at, kind, agent, task_id, run_id, resource, message, data from events
                        where seq > $1 and seq <= $2
                          and (cast($3 as text) is null or agent = $3)
                          and (cast($4 as text) is null or resource = $4)
                          and (cast($5 as text) is null or kind = $5)
                          and (cast($6 as bigint) is null or task_id = $6)
                          and (cast($7 as bigint) is null or run_id = $7)
                          and (cast($8 as bigint) is null or at >= $8)
                        order by seq limit $9";
            let args = args![after, top, &f.agent, &f.resource, &f.kind, f.task, f.run, f.since, limit];
            let events = tx.all(sql, args, from_row).await?;
            let full = events.len() as i64 == limit;
            let seen = match events.last() {
                Some(last) if full => last.seq,
                _ => top.max(after),
            };
            Ok(Page { events, seen })
        })
    }
}

/// Asks for the newest events, in order, at most [`PAGE_MAX`].
#[derive(Debug, Clone)]
pub struct Newest {
    /// So many at most.
    pub limit: i64,
}

impl Read for Newest {
    type Answer = Page;

    fn fetch<'a>(&'a self, tx: &'a mut Tx) -> Boxed<'a, Page> {
        Box::pin(async move {
            let seen = end(tx).await?;
            let limit = self.limit.clamp(1, PAGE_MAX);
            let sql = "select seq, at, kind, agent, task_id, run_id, resource, message, data from events
                        where seq <= $1 order by seq desc limit $2";
            let mut events = tx.all(sql, args![seen, limit], from_row).await?;
            events.reverse();
            Ok(Page { events, seen })
        })
    }
}

/// Asks for the end of the log: the place of the last event that can be seen now, to go on after it.
///
/// In an empty log that is a place before any event.
#[derive(Debug, Clone)]
pub struct Latest;

impl Read for Latest {
    type Answer = Seq;

    fn fetch<'a>(&'a self, tx: &'a mut Tx) -> Boxed<'a, Seq> {
        Box::pin(async move { end(tx).await })
    }
}

async fn end(tx: &mut Tx) -> Result<Seq> {
    // In this form, since a plan for `max` that was made while the log was empty may read all of it.
    let sql = "select seq from events where seq < log_head() order by seq desc limit 1";
    Ok(Seq(tx.one(sql, &[], |row| row.int("seq")).await?.unwrap_or(-1)))
}

impl After {
    /// A place that retention has removed cannot be followed without a gap: say so, and where the log begins now.
    async fn must_be_kept(&self, tx: &mut Tx) -> Result<()> {
        let Some(Seq(seq)) = self.seq.filter(|seq| seq.0 > 0) else { return Ok(()) };
        let pruned = tx
            .one("select value from meta where key = 'pruned_seq'", &[], |row| row.text("value"))
            .await?
            .and_then(|text| text.parse::<i64>().ok());
        match pruned {
            Some(pruned) if seq < pruned => {
                let oldest = tx
                    .one("select coalesce(min(seq), 0) as seq from events", &[], |row| row.int("seq"))
                    .await?;
                Err(Error::not_found(format!(
                    "the events after {seq} have expired; the oldest kept is {}",
                    oldest.unwrap_or(0)
                ))
                .hint("leave out --after to begin with the oldest kept"))
            }
            _ => Ok(()),
        }
    }
}

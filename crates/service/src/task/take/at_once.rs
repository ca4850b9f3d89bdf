//! Several takers that can do the same, as one statement.
//!
//! Here lives the plain case of many: the first tasks in order claim nothing and nobody tried them before, so that it does
//! not matter which taker gets which. What it writes is what `begin` writes. Everything else goes the ways beside it.

use super::{
    Heads, NOTHING, Take, TakeAnswer, Taken, base_pg, begun_pg, found, met_pg, needed_pg, taken_at_once,
};
use crate::task::columns;
use quorate_model::{Result, TaskId};
use quorate_store::{Arg, Row, Tx};

/// What at least one of the takers may have.
macro_rules! may_one_take_pg {
    () => {
        "state = 'ready'
                and (agent is null or agent = any($1))
                and (agent is not null or capability is null or $4::text[] is null or capability = any($4))
                and ($5::text = 'any' or ($5 = 'run') = (run is not null))
                and ($6::bigint is null or run_id = $6)"
    };
}

/// What is known of a task's taker. As arrays, which are made once: a row that changed between the moment at which it was
/// found and that at which it was locked is looked at again, and a subquery for it would be asked again, then with
/// another answer perhaps.
macro_rules! of_taker_pg {
    ($column:literal) => {
        concat!("(array(select ", $column, " from o))[array_position(array(select id from o), id)]")
    };
}

/// Takers in order, but for those that may take nothing; as many tasks; and owners for them if all of them are plain.
/// No joins with tables: a plan that was made while one was empty would walk through all of it. Where there were not
/// enough, it also tells whether there are more, which others hold at this moment: a row at least.
const TAKE_ALL: &str = concat!(
    "with ", base_pg!(), ",
     n as (
         select name, node, lease, taker, row_number() over (order by taker) as place
           from unnest($1::text[], $2::text[], $3::bigint[]) with ordinality as n (name, node, lease, taker)
          where not exists (select 1 from agents a
                             where a.name = n.name and (a.paused = 1 or a.removed = 1 or a.state = 'failed'))),
     f as (
         select id, priority, agent is null and claims is null and attempt = 0 as plain
           from b, unnest(array[0, 1, 2]::bigint[], $7::bigint[]) as heads (urgency, head),
                lateral (select * from tasks where b.met >= 0 and ", may_one_take_pg!(), "
                            and (priority, id) >= (urgency, head) and priority <= urgency
                          order by priority, id limit (select count(*) from n) for update skip locked) t
          limit (select count(*) from n)),
     t as (
         select f.*, row_number() over (order by priority, id) as place from f),
     o as (
         select t.id, n.name, n.node, n.lease, n.taker from t join n on n.place = t.place
          where not exists (select 1 from t where not plain)),
     u as (
         update tasks set state = 'running', term = greatest(term, (select term_floor from b)) + 1, attempt = 1,
                owner = ", of_taker_pg!("name"), ", node = ", of_taker_pg!("node"), ", lease_ms = ", of_taker_pg!("lease"), ",
                lease_until = now_ms() + ", of_taker_pg!("lease"), ", started_at = now_ms(), active_at = now_ms(), stuck = 0, progress = 0, message = null, reason = null,
                holds = 0, claims_since = null
          where id = any(array(select o.id from o))
      returning ", columns!(), ", lease_ms, ", of_taker_pg!("taker"), " as taker),
     ", begun_pg!(), "
     select l.more, ", met_pg!(), " - (select met from b) as walked, t.id as found_id, t.priority as found_priority,
            ", needed_pg!(), " as needed, u.*
       from (select case when (select count(*) from t) < (select count(*) from unnest($1::text[]))
                         then exists (select 1 from tasks where ", may_one_take_pg!(), " and id <> all (select id from t))
                         else true end::int as more) l
       left join t on true left join u on u.id = t.id"
);

/// Takes for all of them; answers `None` when it is not the plain case and nothing was taken.
pub(super) async fn take_all(list: &[&Take], tx: &mut Tx) -> Result<Option<Vec<Option<TakeAnswer>>>> {
    let Some(first) = list.first() else { return Ok(None) };
    if !list.iter().all(|take| first.can_the_same(take)) {
        return Ok(None);
    }
    let (heads, search) = Heads::begin_in(tx, first.kind());
    let found = tx.last(TAKE_ALL, &first.with_all(list, &search.low), Found::from_row).await?;
    let walked = found.iter().map(|found| found.walked).max().unwrap_or(0);
    heads.end(search, found.iter().filter_map(|found| found.task), walked, tx.instant());
    let is_plain = found.iter().all(|found| found.task.is_none() || found.taken.is_some());
    let is_all = found.iter().all(|found| !found.more);
    if !is_plain || (!is_all && found.iter().all(|found| found.taken.is_none())) {
        return Ok(None);
    }
    // Who got nothing looks by himself, unless there is nothing: not even what he is to leave to others for a while.
    let mut answers: Vec<Option<TakeAnswer>> = list.iter().map(|_| is_all.then_some(NOTHING)).collect();
    for (taker, taken) in found.into_iter().filter_map(|found| found.taken) {
        tx.tell();
        if let Some(answer) = answers.get_mut(taker) {
            *answer = Some(TakeAnswer::of(taken));
        }
    }
    Ok(Some(answers))
}

/// A row of the answer.
struct Found {
    /// Whether there are tasks beside those that were found.
    more: bool,
    /// Entries that were met on the way to all of them.
    walked: i64,
    task: Option<(i64, TaskId)>,
    /// The same, if it is taken, and the place of its taker in the list.
    taken: Option<(usize, Taken)>,
}

impl Found {
    fn from_row(row: &Row<'_>) -> Result<Found> {
        let (more, walked, task) = (row.flag("more")?, row.int("walked")?, found(row)?);
        let taken = taken_at_once(row)?;
        let taker = row.opt_int("taker")?.and_then(|taker| usize::try_from(taker - 1).ok());
        Ok(Found { more, walked, task, taken: taker.zip(taken) })
    }
}

impl Take {
    fn can_the_same(&self, other: &Take) -> bool {
        self.may_be_merged()
            && other.may_be_merged()
            && self.capabilities == other.capabilities
            && self.kinds == other.kinds
            && self.run == other.run
    }

    fn with_all(&self, list: &[&Take], low: &[i64]) -> [Arg<'_>; 7] {
        let names: Vec<Option<String>> = list.iter().map(|take| Some(take.agent.clone())).collect();
        let nodes: Vec<Option<String>> = list.iter().map(|take| take.node.clone()).collect();
        let leases: Vec<i64> = list.iter().map(|take| take.lease_ms).collect();
        [
            names.into(),
            nodes.into(),
            leases.into(),
            self.capabilities.as_deref().into(),
            self.kinds.as_str().into(),
            self.run.into(),
            low.into(),
        ]
    }
}

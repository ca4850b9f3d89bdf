//! Several takers at once, as PostgreSQL merges them.
//!
//! Here lives the choice for all of them: the first ready tasks are locked together, and each taker gets the first
//! that it may have. What needs more than that (claims, a search beyond the first, a task that is held already) is
//! left to the taker by itself.

use super::{Kinds, Pick, Take, budgeted, picked};
use crate::task::{Task, columns};
use quorate_model::Result;
use quorate_store::{Row, Tx, args};
use std::collections::BTreeSet;

/// The first ready tasks, locked, and which of the takers may take nothing.
pub(super) struct Window {
    candidates: Vec<Candidate>,
    barred: BTreeSet<String>,
}

/// A ready task, and the agent that is to leave it to others until then.
struct Candidate {
    pick: Pick,
    avoid_agent: Option<String>,
    avoid_until: Option<i64>,
}

impl Candidate {
    fn from_row(row: &Row<'_>) -> Result<Candidate> {
        Ok(Candidate {
            pick: picked(row)?,
            avoid_agent: row.opt_text("avoid_agent")?,
            avoid_until: row.opt_int("avoid_until")?,
        })
    }
}

/// What one of several takers gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Choice {
    /// The task at this place of the window.
    Task(usize),
    Nothing,
    /// It is to look by itself.
    Alone,
}

/// What none of them may have is not locked: others would pass it over meanwhile.
const WINDOW: &str = concat!(
    "select ",
    columns!(),
    ", claims_since, claims_seen, now_ms() as now, (select term_floor from log_era) as term_floor, avoid_agent, avoid_until, ",
    budgeted!(),
    " from tasks
      where state = 'ready'
        and (agent is null or agent = any($2))
        and (agent is not null or capability is null or $3::text[] is null or capability = any($3))
        and ($4::text[] is null or case when run is null then 'prompt' else 'run' end = any($4))
        and ($5::bigint[] is null or run_id = any($5))
      order by priority, id limit $1 for update skip locked"
);
const BARRED: &str =
    "select name from agents where name = any($1) and (paused = 1 or removed = 1 or state = 'failed')";

impl Window {
    pub(super) async fn lock(tx: &mut Tx, list: &[&Take]) -> Result<Window> {
        let names: Vec<String> = list.iter().map(|take| take.agent.clone()).collect();
        let barred = tx.all(BARRED, args![names.as_slice()], |row| row.text("name")).await?;
        let barred: BTreeSet<String> = barred.into_iter().collect();
        let takers: Vec<&Take> = list
            .iter()
            .copied()
            .filter(|take| take.may_be_merged() && !barred.contains(&take.agent))
            .collect();
        let union = Union::of(&takers);
        let args = args![takers.len() as i64, union.agents, union.capabilities, union.kinds, union.runs];
        Ok(Window { candidates: tx.all(WINDOW, args, Candidate::from_row).await?, barred })
    }

    pub(super) fn pick(&self, place: usize) -> &Pick {
        &self.candidates[place].pick
    }

    /// Gives each taker, first come first served, the first task that it may have.
    pub(super) fn choose(&self, list: &[&Take]) -> Vec<Choice> {
        let mut is_free = vec![true; self.candidates.len()];
        list.iter().map(|take| self.choose_for(take, &mut is_free)).collect()
    }

    fn choose_for(&self, take: &Take, is_free: &mut [bool]) -> Choice {
        if !take.may_be_merged() {
            return Choice::Alone;
        }
        if self.barred.contains(&take.agent) {
            return Choice::Nothing;
        }
        let fits = |(place, one): &(usize, &Candidate)| is_free[*place] && take.fits(one);
        match self.candidates.iter().enumerate().find(fits) {
            Some((place, one)) if one.pick.task.claims.is_empty() && !one.pick.budgeted => {
                is_free[place] = false;
                Choice::Task(place)
            }
            // Claims, a budget, or a task further on.
            Some(_) | None => Choice::Alone,
        }
    }
}

/// What at least one of several takers may have; `None` is everything.
struct Union {
    agents: Vec<Option<String>>,
    capabilities: Option<Vec<Option<String>>>,
    kinds: Option<Vec<Option<String>>>,
    runs: Option<Vec<i64>>,
}

impl Union {
    fn of(takers: &[&Take]) -> Union {
        let kind = |take: &&Take| (take.kinds != Kinds::Any).then(|| Some(take.kinds.as_str().to_owned()));
        let capabilities: Option<Vec<_>> = takers.iter().map(|take| take.capabilities.as_ref()).collect();
        Union {
            agents: takers.iter().map(|take| Some(take.agent.clone())).collect(),
            capabilities: capabilities.map(|all| all.into_iter().flatten().cloned().map(Some).collect()),
            kinds: takers.iter().map(kind).collect(),
            runs: takers.iter().map(|take| take.run.map(|run| run.0)).collect(),
        }
    }
}

impl Take {
    /// The conditions of the statement that picks for one taker.
    fn fits(&self, candidate: &Candidate) -> bool {
        let Candidate { pick: Pick { task, now, .. }, avoid_agent, avoid_until } = candidate;
        let is_named = task.agent.as_ref() == Some(&self.agent);
        let can = match (&task.capability, &self.capabilities) {
            (Some(needed), Some(have)) => have.contains(needed),
            (None, _) | (_, None) => true,
        };
        let is_its_kind = match self.kinds {
            Kinds::Any => true,
            Kinds::Run => task.run.is_some(),
            Kinds::Prompt => task.run.is_none(),
        };
        let is_avoided =
            avoid_agent.as_ref() == Some(&self.agent) && avoid_until.is_none_or(|until| until > *now);
        is_its_kind
            && self.run.is_none_or(|run| task.run_id == Some(run))
            && (is_named || (task.agent.is_none() && can && !is_avoided))
    }
}

/// Writes the owners of all that were chosen.
pub(super) fn begin_all(tx: &mut Tx, list: &[&Take], window: &Window, choices: &[Choice]) {
    let chosen: Vec<(&Take, Task)> = list
        .iter()
        .copied()
        .zip(choices)
        .filter_map(|(take, choice)| match choice {
            Choice::Task(place) => Some((take, take.marked(window.pick(*place)))),
            Choice::Nothing | Choice::Alone => None,
        })
        .collect();
    if chosen.is_empty() {
        return;
    }
    let ids: Vec<i64> = chosen.iter().map(|(_, task)| task.id.0).collect();
    let terms: Vec<i64> = chosen.iter().map(|(_, task)| task.term.0).collect();
    let attempts: Vec<i64> = chosen.iter().map(|(_, task)| task.attempt).collect();
    let agents: Vec<Option<String>> = chosen.iter().map(|(take, _)| Some(take.agent.clone())).collect();
    let nodes: Vec<Option<String>> = chosen.iter().map(|(take, _)| take.node.clone()).collect();
    let leases: Vec<i64> = chosen.iter().map(|(take, _)| take.lease_ms).collect();
    tx.later(
        "update tasks set state = 'running', term = n.term, attempt = n.attempt, owner = n.agent, node = n.node,
                lease_ms = n.lease_ms, lease_until = now_ms() + n.lease_ms, started_at = now_ms(), active_at = now_ms(),
                stuck = 0, progress = 0, message = null, reason = null, holds = 0, claims_since = null
           from unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::text[], $5::text[], $6::bigint[])
                as n (id, term, attempt, agent, node, lease_ms)
          where tasks.id = n.id",
        args![ids.clone(), terms.clone(), attempts.clone(), agents.clone(), nodes.clone(), leases],
    );
    tx.later(
        "insert into attempts (task_id, number, term, agent, node, started_at)
         select n.*, now_ms() from unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::text[], $5::text[]) as n",
        args![ids, attempts, terms, agents, nodes],
    );
}

//! Taking a task: the one moment at which it gets an owner.
//!
//! Here lives the choice (highest priority, then oldest, of those the agent may take and whose claims are free)
//! and the take itself: owner, term, attempt and claims in one transaction, all or nothing.
//!
//! The first in order is mostly free and costs one question. Where its claims are held, the taker goes on through
//! all that are ready, in pages and without locks, until it meets one that is free.

use super::add::json_list;
use super::{Task, columns};
use crate::claim::{Ground, PATIENCE_MS, Place, Refused, Wish};
use crate::usage;
use quorate_model::config::Limits;
use quorate_model::resource::Mode;
use quorate_model::{Error, EventKind, Result, RunId, TaskId, TaskState, Term};
use quorate_store::{Arg, Boxed, Dialect, Merge, Read, Row, Sql, Together, Tx, Write, args};

/// Tasks looked at together once the first was passed over.
const PAGE: i64 = 256;
/// Lists of claims that one take remembers as held, so that tasks with the same list are not even looked at.
const HELD_LISTS_MAX: usize = 64;
/// Tasks on which one take writes why it passed them over.
const NOTES_MAX: usize = 16;

/// Budgets that are found reached by one take; whoever meets more looks again.
const BUDGETS_MAX: usize = 32;

mod at_once;
mod heads;
mod together;

use heads::{Heads, Low, START, Taker, met_pg};
use together::{Choice, Window, begin_all};

/// Which work a taker can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kinds {
    /// Commands and words.
    Any,
    /// Only tasks with a command.
    Run,
    /// Only tasks without a command.
    Prompt,
}

impl Kinds {
    /// Returns the stable name, as stored.
    pub fn as_str(self) -> &'static str {
        match self {
            Kinds::Any => "any",
            Kinds::Run => "run",
            Kinds::Prompt => "prompt",
        }
    }
}

/// Takes the next task that `agent` may have.
#[derive(Debug, Clone)]
pub struct Take {
    /// Who takes it.
    pub agent: String,
    /// What the agent can do; `None` is everything.
    pub capabilities: Option<Vec<String>>,
    /// Which work it can do.
    pub kinds: Kinds,
    /// Only tasks of this run.
    pub run: Option<RunId>,
    /// How long the lease lasts, in milliseconds.
    pub lease_ms: i64,
    /// The node that supervises, if one does.
    pub node: Option<String>,
    /// Whether a task that the agent holds already is given back to it instead.
    pub resume: bool,
    /// The budgets that it works under. Without any, nothing is asked for them.
    pub limits: Limits,
}

/// What came of a take.
#[derive(Debug, Clone)]
pub enum TakeAnswer {
    /// The agent has this task now.
    Task(Box<Taken>),
    /// There is none for it.
    Nothing {
        /// After so many milliseconds it may have one that until then is left to others: it failed at that last.
        again_in_ms: Option<i64>,
    },
}

impl TakeAnswer {
    /// Returns the task, if there was one.
    pub fn task(self) -> Option<Taken> {
        match self {
            TakeAnswer::Task(taken) => Some(*taken),
            TakeAnswer::Nothing { .. } => None,
        }
    }

    fn of(taken: Taken) -> TakeAnswer {
        TakeAnswer::Task(Box::new(taken))
    }
}

/// There is none, nor will time alone bring one.
const NOTHING: TakeAnswer = TakeAnswer::Nothing { again_in_ms: None };

/// A task that was taken: what its owner needs to know.
#[derive(Debug, Clone)]
pub struct Taken {
    /// The task as it stood when it was taken, with its new term, attempt and lease.
    pub task: Task,
    /// Results of the tasks it needs.
    pub needs: Vec<NeedResult>,
    /// Earlier attempts, the oldest first.
    pub previous: Vec<PastAttempt>,
}

/// The result of a needed task.
#[derive(Debug, Clone)]
pub struct NeedResult {
    /// The needed task.
    pub id: TaskId,
    /// Its key, or its id as text.
    pub key: String,
    /// Its result, a JSON text.
    pub result: Option<String>,
}

/// An earlier attempt and why it ended.
#[derive(Debug, Clone)]
pub struct PastAttempt {
    /// Its number.
    pub number: i64,
    /// Whose it was.
    pub agent: String,
    /// How it ended.
    pub outcome: String,
    /// Why.
    pub reason: Option<String>,
    /// The end of its output.
    pub tail: Option<String>,
}

impl Write for Take {
    type Answer = TakeAnswer;

    fn apply<'a>(&'a self, tx: &'a mut Tx) -> Boxed<'a, TakeAnswer> {
        Box::pin(async move {
            if self.resume
                && let Some(task) = self.held(tx).await?
            {
                return Ok(TakeAnswer::of(taken(tx, task).await?));
            }
            if usage::agent_is_over(tx, &self.agent, self.limits.agent).await? {
                return Ok(NOTHING);
            }
            let low = match self.at_once(tx).await? {
                AtOnce::Answer(answer) => return Ok(answer),
                AtOnce::NotPlain(low) => low,
            };
            match self.search(tx, low).await? {
                Some(taken) => Ok(TakeAnswer::of(taken)),
                None => Ok(TakeAnswer::Nothing {
                    again_in_ms: tx.one(AGAIN, &self.sought(), again).await?.flatten(),
                }),
            }
        })
    }

    fn together() -> Option<Together> {
        Some(Together::of::<Take>())
    }
}

impl Merge for Take {
    fn apply_all<'a>(list: &'a [&'a Take], tx: &'a mut Tx) -> Boxed<'a, Vec<Option<TakeAnswer>>> {
        Box::pin(async move {
            if !list.iter().any(|take| take.may_be_merged()) {
                return Ok(list.iter().map(|_| None).collect());
            }
            if let Some(answers) = at_once::take_all(list, tx).await? {
                return Ok(answers);
            }
            let window = Window::lock(tx, list).await?;
            let choices = window.choose(list);
            begin_all(tx, list, &window, &choices);
            let mut answers = Vec::with_capacity(list.len());
            for (take, choice) in list.iter().zip(choices) {
                answers.push(match choice {
                    Choice::Task(place) => Some(TakeAnswer::of(take.taken(tx, window.pick(place)).await?)),
                    Choice::Nothing => Some(NOTHING),
                    Choice::Alone => None,
                });
            }
            Ok(answers)
        })
    }
}

/// What is ready for `$1` with the capabilities `$2`, of the kind `$3`, of the run `$4`.
macro_rules! ready_pg {
    () => {
        "state = 'ready'
                and (agent is null or agent = $1)
                and (agent = $1 or capability is null or $2::text[] is null or capability = any($2))
                and ($3::text = 'any' or ($3 = 'run') = (run is not null))
                and ($4::bigint is null or run_id = $4)
                and not exists (select 1 from agents a
                                 where a.name = $1 and (a.paused = 1 or a.removed = 1 or a.state = 'failed'))"
    };
}
macro_rules! ready_lite {
    () => {
        "state = 'ready'
                and (agent is null or agent = $1)
                and (agent = $1 or capability is null or $2 is null or capability in (select value from json_each($2)))
                and ($3 = 'any' or ($3 = 'run') = (run is not null))
                and ($4 is null or run_id = $4)
                and not exists (select 1 from agents a
                                 where a.name = $1 and (a.paused = 1 or a.removed = 1 or a.state = 'failed'))"
    };
}
/// And what of it `$1` is not to leave to others ...
macro_rules! not_left {
    () => {
        " and (agent = $1 or avoid_agent is null or avoid_agent <> $1 or avoid_until <= now_ms())"
    };
}
/// ... or is, for a while: in how long the first of it may be its own.
macro_rules! again {
    ($ready:expr) => {
        concat!(
            "select min(avoid_until) - now_ms() as again_in_ms from tasks where ",
            $ready,
            " and agent is null and avoid_agent = $1 and avoid_until > now_ms()"
        )
    };
}
macro_rules! may_take_pg {
    () => {
        concat!(ready_pg!(), not_left!())
    };
}
/// The first of them in order, locked. One priority after the other, so that each may begin at a head of its own; asked
/// for in a way that only the index of ready tasks can answer (with `priority = urgency` the planner may prefer ids, and
/// walk over all that is done).
macro_rules! first_pg {
    ($columns:expr, $heads:literal) => {
        concat!(
            "select ",
            $columns,
            " from unnest(array[0, 1, 2]::bigint[], ",
            $heads,
            "::bigint[]) as heads (urgency, head),
                    lateral (select * from tasks where ",
            may_take_pg!(),
            " and (priority, id) >= (urgency, head) and priority <= urgency
                              order by priority, id limit 1 for update skip locked) t limit 1"
        )
    };
}
/// Whether it has a budget of its own that may be reached: at the first attempt nothing is used.
macro_rules! budgeted {
    () => {
        "case when attempt > 0 and exists (select 1 from budgets b
                                             where b.subject = 'task ' || id and (b.max_usd_micros is not null or b.max_tokens is not null))
              then 1 else 0 end as budgeted"
    };
}
use budgeted;

/// What is read of a pick.
macro_rules! picked_pg {
    () => {
        concat!(
            columns!(),
            ", claims_since, claims_seen, now_ms() as now, (select term_floor from log_era) as term_floor, ",
            budgeted!()
        )
    };
}
macro_rules! pick_lite {
    ($and:literal) => {
        concat!(
            "select ",
            columns!(),
            ", claims_since, claims_seen, now_ms() as now, 0 as term_floor, ",
            budgeted!(),
            " from tasks where ",
            ready_lite!(),
            not_left!(),
            " ",
            $and
        )
    };
}

const FIRST: Sql =
    Sql::Each { lite: pick_lite!("order by priority, id limit 1"), pg: first_pg!(picked_pg!(), "$5") };
// Not locked: tasks whose claims are held for this agent may be free for another that looks at the same moment.
const AFTER: Sql = Sql::Each {
    lite: pick_lite!(
        "and (priority, id) > ($5, $6) and (claims is null or claims not in (select value from json_each($7)))
         order by priority, id limit $8"
    ),
    pg: concat!(
        "select ",
        picked_pg!(),
        " from tasks where ",
        may_take_pg!(),
        " and (priority, id) > ($5, $6) and (claims is null or claims <> all($7::text[])) order by priority, id limit $8"
    ),
};
const ANY: &str = concat!("select id from tasks where ", may_take_pg!(), " limit 1");
const AGAIN: Sql = Sql::Each { lite: again!(ready_lite!()), pg: again!(ready_pg!()) };
/// Both questions in one flight; the second, which looks at all that is ready, only where the first has no answer.
const ANY_OR_AGAIN: &str = concat!(
    "select o.id, case when o.id is null then (",
    again!(ready_pg!()),
    ") end as again_in_ms from (select (",
    "select id from tasks where ",
    may_take_pg!(),
    " limit 1) as id offset 0) o"
);
/// How often a taker looks again when all that it may have are held by transactions of others: for 0.1 s in all.
const LOOKS_MAX: u32 = 6;
/// Nobody has written to it since it was picked: whoever does raises its term, and may have it reserved for another.
const STILL_READY: Sql = Sql::Each {
    lite: "select id from tasks where id = $1 and state = 'ready' and term = $2",
    pg: "select id from tasks where id = $1 and state = 'ready'
            and greatest(term, (select term_floor from log_era)) = $2 for update skip locked",
};

/// A task that may be taken.
struct Pick {
    task: Task,
    /// Since when it has been passed over for its claims.
    claims_since: Option<i64>,
    /// When that was noted last.
    claims_seen: Option<i64>,
    /// The ledger's time.
    now: i64,
    /// Whether it has a budget of its own that may be reached.
    budgeted: bool,
}

/// Reads a pick. After a failover of PostgreSQL its next term is above all that the lost primary may have given.
fn picked(row: &Row<'_>) -> Result<Pick> {
    let mut task = Task::from_row(row)?;
    task.term = task.term.max(Term(row.int("term_floor")?));
    let (claims_since, claims_seen) = (row.opt_int("claims_since")?, row.opt_int("claims_seen")?);
    Ok(Pick { task, claims_since, claims_seen, now: row.int("now")?, budgeted: row.flag("budgeted")? })
}

/// Reads in how long there may be something.
fn again(row: &Row<'_>) -> Result<Option<i64>> {
    row.opt_int("again_in_ms")
}

/// What a plain case begins with: entries met until now, and what tells a term and a place in the log.
macro_rules! base_pg {
    () => {
        concat!("b as materialized (select ", met_pg!(), " as met, era, term_floor from log_era)")
    };
}
use base_pg;

/// Results of the tasks that the taken `u` needs, a JSON text. No join: see [`need_results`].
macro_rules! needed_pg {
    () => {
        "case when u.needs > 0 then
            (select json_agg(json_build_object('id', o.id, 'key', coalesce(o.key, o.id::text), 'result', o.result)
                             order by o.id)
               from tasks o where o.id = any(array(select needs_id from task_needs where task_id = u.id)))::text end"
    };
}
use needed_pg;

/// What follows the taken tasks `u`: what `begin` writes.
macro_rules! begun_pg {
    () => {
        "a as (
         insert into attempts (task_id, number, term, agent, node, started_at)
         select id, 1, term, owner, node, now_ms() from u),
     e as (
         insert into events (seq, at, kind, agent, task_id, run_id, message, data)
         select log_place((select era from b)), log_time(),
                'task.taken', owner, id, run_id,
                'task ' || id || coalesce(' (' || key || ')', '') || ' taken by ' || owner || ', attempt 1',
                '{\"attempt\":1,\"lease_ms\":' || lease_ms || ',\"term\":' || term || '}' from u)"
    };
}
use begun_pg;

/// The plain case as one statement, so that it is one flight to PostgreSQL: the first in order, if nobody tried it
/// before and it claims nothing. What it writes is what `begin` writes. Only what is taken is read in full: every column
/// costs in each step through which it goes.
const TAKE_ONE: &str = concat!(
    "with ",
    base_pg!(),
    ", t as (",
    first_pg!("id, priority, claims is null and attempt = 0 as plain", "$7"),
    "), u as (
         update tasks set state = 'running', term = greatest(term, (select term_floor from b)) + 1, attempt = 1,
                owner = $1, node = $5, lease_ms = $6, lease_until = now_ms() + $6, started_at = now_ms(),
                active_at = now_ms(), stuck = 0, progress = 0, message = null, reason = null, holds = 0,
                claims_since = null
          where id = (select t.id from t where plain)
      returning ",
    columns!(),
    ", lease_ms),
     ",
    begun_pg!(),
    "
     select (select id from t) as found_id, (select priority from t) as found_priority, ",
    met_pg!(),
    " - b.met as walked, ",
    needed_pg!(),
    " as needed, u.*
       from b left join u on true"
);

/// What came of the plain case.
enum AtOnce {
    Answer(TakeAnswer),
    /// Nothing was taken; the search may begin there.
    NotPlain(Low),
}

/// The answer to the plain case.
struct FoundOne {
    /// The first task in order.
    first: Option<(i64, TaskId)>,
    /// Entries that were met on the way to it.
    walked: i64,
    /// The same, if it is taken.
    taken: Option<Taken>,
}

impl FoundOne {
    fn from_row(row: &Row<'_>) -> Result<FoundOne> {
        Ok(FoundOne { first: found(row)?, walked: row.int("walked")?, taken: taken_at_once(row)? })
    }
}

/// Reads where in the order of ready tasks one was found, if one was.
fn found(row: &Row<'_>) -> Result<Option<(i64, TaskId)>> {
    let id = row.opt_int("found_id")?;
    id.map(|id| Ok((row.int("found_priority")?, TaskId(id)))).transpose()
}

/// Reads what the owner of a task is shown that one statement took, if it took one.
fn taken_at_once(row: &Row<'_>) -> Result<Option<Taken>> {
    let needed = row.opt_text("needed")?;
    if row.opt_int("id")?.is_none() {
        return Ok(None);
    }
    let (task, needs) = (Task::from_row(row)?, needs_from_json(needed.as_deref())?);
    Ok(Some(Taken { task, needs, previous: Vec::new() }))
}

impl Take {
    /// What it holds already, and what was used, is asked for by itself.
    fn may_be_merged(&self) -> bool {
        !self.resume && !self.limits.is_set()
    }

    /// Returns which kind of taker this is.
    fn kind(&self) -> Taker {
        (self.capabilities.clone(), self.kinds, self.run)
    }

    async fn at_once(&self, tx: &mut Tx) -> Result<AtOnce> {
        if tx.dialect() == Dialect::Lite || self.limits.is_set() {
            return Ok(AtOnce::NotPlain(START));
        }
        let (heads, search) = Heads::begin_in(tx, self.kind());
        let capabilities = self.capabilities.as_deref();
        let args = args![
            &self.agent,
            capabilities,
            self.kinds.as_str(),
            self.run,
            &self.node,
            self.lease_ms,
            &search.low[..]
        ];
        let found = tx.last(TAKE_ONE, args, FoundOne::from_row).await?.into_iter().next();
        let FoundOne { first, walked, taken } =
            found.ok_or_else(|| Error::failed("the ledger's `log_era` has no row"))?;
        heads.end(search, first.into_iter(), walked, tx.instant());
        if let Some(taken) = taken {
            tx.tell();
            return Ok(AtOnce::Answer(TakeAnswer::of(taken)));
        }
        if first.is_some() {
            return Ok(AtOnce::NotPlain(search.low));
        }
        let left = tx.one(ANY_OR_AGAIN, &args[..4], |row| Ok((row.opt_int("id")?, again(row)?))).await?;
        Ok(match left {
            Some((Some(_), _)) => AtOnce::NotPlain(START),
            Some((None, again_in_ms)) => AtOnce::Answer(TakeAnswer::Nothing { again_in_ms }),
            None => AtOnce::Answer(NOTHING),
        })
    }

    /// What the questions after ready tasks are told of the taker.
    fn sought(&self) -> [Arg<'_>; 4] {
        [
            self.agent.as_str().into(),
            self.capabilities.as_deref().into(),
            self.kinds.as_str().into(),
            self.run.into(),
        ]
    }

    /// Looks for one that needs more than the plain case.
    async fn search(&self, tx: &mut Tx, low: Low) -> Result<Option<Taken>> {
        let Some(first) = self.first_within_budget(tx, low).await? else { return Ok(None) };
        if first.task.claims.is_empty() {
            return self.begin(tx, first).await.map(Some);
        }
        let mut ground = Ground::look(tx).await?;
        match ground.refusal(&self.wish(&first.task))? {
            None => self.begin_with_claims(tx, first, &ground).await.map(Some),
            Some(refused) => self.next_free(tx, &mut ground, first, refused).await,
        }
    }

    /// Picks the first in order of which no budget is reached; what stands before it is put aside.
    async fn first_within_budget(&self, tx: &mut Tx, low: Low) -> Result<Option<Pick>> {
        for _ in 0..BUDGETS_MAX {
            let Some(pick) = self.first(tx, low).await? else { return Ok(None) };
            if !usage::park_if_over(tx, &pick.task, self.limits.run, pick.budgeted).await? {
                return Ok(Some(pick));
            }
        }
        Ok(None)
    }

    /// Picks the first in order. One that another transaction holds at this moment is passed over, but not forgotten:
    /// that transaction may leave it as it was, and then nobody would be told of it.
    async fn first(&self, tx: &mut Tx, low: Low) -> Result<Option<Pick>> {
        let capabilities = self.capabilities.as_deref();
        let mut low = low;
        for look in 0..LOOKS_MAX {
            let args = args![&self.agent, capabilities, self.kinds.as_str(), self.run, &low[..]];
            let lite = tx.dialect() == Dialect::Lite;
            let pick = tx.one(FIRST, if lite { &args[..4] } else { args }, picked).await?;
            if pick.is_some() || lite {
                return Ok(pick);
            }
            if tx.one(ANY, &args[..4], |row| row.int("id")).await?.is_none() {
                return Ok(None);
            }
            low = START;
            tx.wait(look).await;
        }
        Ok(None)
    }

    /// Goes on after a task whose claims are held, to the first in order that is free.
    async fn next_free(
        &self,
        tx: &mut Tx,
        ground: &mut Ground,
        first: Pick,
        why: Refused,
    ) -> Result<Option<Taken>> {
        let mut passed = Passed::default();
        let mut last = (first.task.priority, first.task.id);
        passed.add(tx, ground, &first, &self.agent, &why)?;
        loop {
            let page = self.after(tx, last, &passed.lists).await?;
            let Some(end) = page.last() else { return Ok(None) };
            last = (end.task.priority, end.task.id);
            for pick in page {
                match ground.refusal(&self.wish(&pick.task))? {
                    Some(refused) => passed.add(tx, ground, &pick, &self.agent, &refused)?,
                    None if is_still_ready(tx, &pick.task).await?
                        && !usage::park_if_over(tx, &pick.task, self.limits.run, pick.budgeted).await? =>
                    {
                        return Ok(Some(self.begin_with_claims(tx, pick, ground).await?));
                    }
                    None => {}
                }
            }
        }
    }

    async fn after(&self, tx: &mut Tx, last: (i64, TaskId), held: &[String]) -> Result<Vec<Pick>> {
        let capabilities = self.capabilities.as_deref();
        let kinds = self.kinds.as_str();
        tx.all(AFTER, args![&self.agent, capabilities, kinds, self.run, last.0, last.1, held, PAGE], picked)
            .await
    }

    /// Returns the task that the agent holds, its lease renewed.
    async fn held(&self, tx: &mut Tx) -> Result<Option<Task>> {
        let sql = concat!(
            "update tasks set lease_ms = $2, lease_until = now_ms() + $2, active_at = now_ms(), stuck = 0
              where id = (select id from tasks where owner = $1 and state = 'running' and node is not distinct from $3
                           order by id limit 1)
                and state = 'running' and owner = $1 and node is not distinct from $3 returning ",
            columns!()
        );
        tx.one(sql, args![&self.agent, self.lease_ms, &self.node], Task::from_row).await
    }

    fn wish<'a>(&'a self, task: &'a Task) -> Wish<'a> {
        Wish {
            agent: &self.agent,
            resources: &task.claims,
            mode: Mode::Exclusive,
            ttl_ms: self.lease_ms,
            task: Some(task.id),
            place: Place::Task { priority: task.priority, id: task.id },
        }
    }

    async fn begin_with_claims(&self, tx: &mut Tx, pick: Pick, ground: &Ground) -> Result<Taken> {
        ground.take(tx, &self.wish(&pick.task)).await?;
        self.begin(tx, pick).await
    }

    async fn begin(&self, tx: &mut Tx, pick: Pick) -> Result<Taken> {
        let task = self.marked(&pick);
        tx.later(
            "update tasks set state = 'running', term = $2, attempt = $3, owner = $4, node = $5, lease_ms = $6,
                    lease_until = now_ms() + $6, started_at = now_ms(), active_at = now_ms(), stuck = 0, progress = 0,
                    message = null, reason = null, holds = $7, claims_since = null
              where id = $1",
            args![task.id, task.term, task.attempt, &self.agent, &self.node, self.lease_ms, task.holds],
        );
        tx.later(
            "insert into attempts (task_id, number, term, agent, node, started_at) values ($1, $2, $3, $4, $5, now_ms())",
            args![task.id, task.attempt, task.term, &self.agent, &self.node],
        );
        self.taken(tx, &pick).await
    }

    /// Records that the task is taken, and adds what its owner is shown.
    async fn taken(&self, tx: &mut Tx, pick: &Pick) -> Result<Taken> {
        let task = self.marked(pick);
        let message = format!("task {} taken by {}, attempt {}", task.named(), self.agent, task.attempt);
        let data =
            serde_json::json!({ "attempt": task.attempt, "term": task.term.0, "lease_ms": self.lease_ms });
        tx.record(task.event(EventKind::TaskTaken, message).data(data));
        taken(tx, task).await
    }

    /// The task as it is once it is taken.
    fn marked(&self, Pick { task, now, .. }: &Pick) -> Task {
        Task {
            term: Term(task.term.0 + 1),
            attempt: task.attempt + 1,
            owner: Some(self.agent.clone()),
            lease_until: Some(now + self.lease_ms),
            started_at: Some(*now),
            active_at: Some(*now),
            node: self.node.clone(),
            progress: 0,
            message: None,
            reason: None,
            stuck: false,
            holds: !task.claims.is_empty(),
            ..task.clone()
        }
    }
}

/// Asks what an agent has at this moment, as it was shown when it was taken.
#[derive(Debug, Clone)]
pub struct Has {
    /// The agent.
    pub agent: String,
}

impl Read for Has {
    type Answer = Option<Taken>;

    fn fetch<'a>(&'a self, tx: &'a mut Tx) -> Boxed<'a, Option<Taken>> {
        Box::pin(async move {
            let sql = concat!(
                "select ",
                columns!(),
                " from tasks where owner = $1 and state = 'running' order by id limit 1"
            );
            match tx.one(sql, args![&self.agent], Task::from_row).await? {
                Some(task) => Ok(Some(taken(tx, task).await?)),
                None => Ok(None),
            }
        })
    }
}

/// Adds what the owner is shown: results of needs, and why earlier attempts ended.
async fn taken(tx: &mut Tx, mut task: Task) -> Result<Taken> {
    task.state = TaskState::Running;
    let needs = if task.needs > 0 { need_results(tx, task.id).await? } else { Vec::new() };
    let previous = if task.attempt > 1 { past_attempts(tx, &task).await? } else { Vec::new() };
    Ok(Taken { task, needs, previous })
}

pub(crate) async fn need_results(tx: &mut Tx, task: TaskId) -> Result<Vec<NeedResult>> {
    // No join on PostgreSQL: a plan that was made while there were few tasks would walk through all that there are now.
    let sql = Sql::Each {
        lite: "select id, coalesce(key, cast(id as text)) as name, result from tasks
                where id in (select needs_id from task_needs where task_id = $1) order by id",
        pg: "select id, coalesce(key, cast(id as text)) as name, result from tasks
              where id = any(array(select needs_id from task_needs where task_id = $1)) order by id",
    };
    tx.all(sql, args![task], |row| {
        Ok(NeedResult { id: TaskId(row.int("id")?), key: row.text("name")?, result: row.opt_text("result")? })
    })
    .await
}

/// Reads what `needed_pg` answers.
fn needs_from_json(text: Option<&str>) -> Result<Vec<NeedResult>> {
    let Some(text) = text else { return Ok(Vec::new()) };
    let wrong = |what: &dyn std::fmt::Display| Error::failed(format!("the database answered with {what}"));
    let list: Vec<serde_json::Value> = serde_json::from_str(text).map_err(|e| wrong(&e))?;
    let need = |value: &serde_json::Value| {
        let text = |name: &str| value[name].as_str().map(str::to_owned);
        let id = value["id"].as_i64().ok_or_else(|| wrong(&"a need without an id"))?;
        Ok(NeedResult { id: TaskId(id), key: text("key").unwrap_or_default(), result: text("result") })
    };
    list.iter().map(need).collect()
}

/// Earlier attempts that the next owner is shown, the latest few of those that failed; others only where there is room,
/// or a night of rate limits would leave nothing of why the work failed.
const PAST_MAX: i64 = 10;

async fn past_attempts(tx: &mut Tx, task: &Task) -> Result<Vec<PastAttempt>> {
    let sql = "select number, agent, outcome, reason, tail from attempts
                where task_id = $1 and number < $2 and ended_at is not null
                order by case when outcome in ('parked', 'released') then 1 else 0 end, number desc limit $3";
    let mut past = tx
        .all(sql, args![task.id, task.attempt, PAST_MAX], |row| {
            Ok(PastAttempt {
                number: row.int("number")?,
                agent: row.text("agent")?,
                outcome: row.text("outcome")?,
                reason: row.opt_text("reason")?,
                tail: row.opt_text("tail")?,
            })
        })
        .await?;
    past.sort_by_key(|past| past.number);
    Ok(past)
}

async fn is_still_ready(tx: &mut Tx, task: &Task) -> Result<bool> {
    Ok(tx.one(STILL_READY, args![task.id, task.term], |row| row.int("id")).await?.is_some())
}

/// What one take has passed over.
#[derive(Default)]
struct Passed {
    /// Lists of claims that are held, as they are stored.
    lists: Vec<String>,
    notes: usize,
}

impl Passed {
    /// Passes a task over; says so on it and in the log. One that has waited long keeps later ones out.
    fn add(
        &mut self,
        tx: &mut Tx,
        ground: &mut Ground,
        pick: &Pick,
        agent: &str,
        why: &Refused,
    ) -> Result<()> {
        let Pick { task, claims_since: since, now, .. } = pick;
        if self.lists.len() < HELD_LISTS_MAX {
            self.lists.extend(json_list(&task.claims));
        }
        if self.notes < NOTES_MAX {
            self.notes += 1;
            note_refusal(tx, pick, agent, why);
        }
        if since.is_some_and(|since| since <= now - PATIENCE_MS) {
            ground.add_impatient(task)?;
        }
        Ok(())
    }
}

/// Says on the task why it is passed over; the log gets a line only when the reason is new. Two takers that are refused for
/// different reasons take turns at being new, and each line wakes the other: so a new one is rare, too.
fn note_refusal(tx: &mut Tx, pick: &Pick, agent: &str, refused: &Refused) {
    let task = &pick.task;
    let reason = format!("waits for {}", refused.said());
    let holder = |reason: &str| reason.rsplit_once(" until ").map_or(reason, |(holder, _)| holder).to_owned();
    let is_other = task.reason.as_deref().map(holder) != Some(holder(&reason));
    let is_old = pick.claims_seen.is_none_or(|at| at <= pick.now - NOTE_EVERY_MS);
    let is_new = is_other && (pick.claims_since.is_none() || is_old);
    tx.later(NOTE, args![task.id, &reason, is_new, NOTE_EVERY_MS]);
    if is_new {
        tx.record(refused.event(agent).task(task.id).run(task.run_id));
    }
}

/// A task that is passed over for the same reason again is written to this rarely: idle takers must cost nothing.
const NOTE_EVERY_MS: i64 = 5_000;
// Of a row that another has locked the note is left out: waiting for it here, with the claims lock, could be a circle.
const NOTE: Sql = Sql::Each {
    lite: "update tasks set reason = $2, claims_since = coalesce(claims_since, now_ms()), claims_seen = now_ms()
            where id = $1 and state = 'ready' and ($3 = 1 or claims_seen is null or claims_seen <= now_ms() - $4)",
    pg: "update tasks set reason = $2, claims_since = coalesce(claims_since, now_ms()), claims_seen = now_ms()
          where id = (select id from tasks where id = $1 and state = 'ready' and
                       ($3 = 1 or claims_seen is null or claims_seen <= now_ms() - $4) for update skip locked)",
};

/// Takes over a task that was said to be done, to run its check; answers `None` when there is none.
#[derive(Debug, Clone)]
pub struct TakeCheck {
    /// Only this task.
    pub task: Option<TaskId>,
    /// Only tasks of this run.
    pub run: Option<RunId>,
    /// The node that runs the check.
    pub node: String,
    /// How long the lease lasts, in milliseconds.
    pub lease_ms: i64,
}

impl Write for TakeCheck {
    type Answer = Option<Task>;

    fn apply<'a>(&'a self, tx: &'a mut Tx) -> Boxed<'a, Option<Task>> {
        Box::pin(async move {
            let lock = match tx.dialect() {
                Dialect::Lite => PICK_CHECK,
                Dialect::Pg => PICK_CHECK_LOCKED,
            };
            let Some(id) = tx.one(lock, args![self.task, self.run], |row| row.int("id")).await? else {
                return Ok(None);
            };
            let sql = Sql::Each {
                lite: concat!(
                    "update tasks set term = term + 1, node = $2, lease_ms = $3, lease_until = now_ms() + $3 where id = $1 returning ",
                    columns!()
                ),
                pg: concat!(
                    "update tasks set term = greatest(term, (select term_floor from log_era)) + 1, node = $2, lease_ms = $3,
                            lease_until = now_ms() + $3 where id = $1 returning ",
                    columns!()
                ),
            };
            tx.one(sql, args![id, &self.node, self.lease_ms], Task::from_row).await
        })
    }
}

const PICK_CHECK: &str = "select id from tasks
      where state = 'verifying' and (lease_until is null or lease_until < now_ms())
        and (cast($1 as bigint) is null or id = $1) and (cast($2 as bigint) is null or run_id = $2) order by id limit 1";
const PICK_CHECK_LOCKED: &str = "select id from tasks
      where state = 'verifying' and (lease_until is null or lease_until < now_ms())
        and ($1::bigint is null or id = $1) and ($2::bigint is null or run_id = $2)
      order by id limit 1 for update skip locked";

//! Adding tasks: one, or a plan's thousands in one transaction.
//!
//! Here live the new task as a value and its insert. Plans are parsed and checked in `model::plan`; a run is
//! begun in `run`.

use super::unknown;
use quorate_model::at::At;
use quorate_model::budget::Budget;
use quorate_model::config::Config;
use quorate_model::diagnostic::quote;
use quorate_model::plan::PlanTask;
use quorate_model::plan::order::cycles;
use quorate_model::resource::Resource;
use quorate_model::{Error, Event, EventKind, Kind, Result, RunId, TaskId, TaskState};
use quorate_store::{Arg, Boxed, Dialect, Sql, Tx, Write, args};
use std::collections::{BTreeSet, HashSet};

/// What the work is.
#[derive(Debug, Clone, PartialEq)]
pub enum Work {
    /// A command, run by `sh -c`.
    Run(String),
    /// Words for an AI agent or a person.
    Prompt(String),
}

/// A task to be added.
#[derive(Debug, Clone)]
pub struct NewTask {
    /// Its name within the run.
    pub key: Option<String>,
    /// One line for people.
    pub title: String,
    /// What the work is; without it the title says it all.
    pub work: Option<Work>,
    /// 0 high, 1 medium, 2 low.
    pub priority: i64,
    /// Which agents may take it.
    pub capability: Option<String>,
    /// The one agent that may take it.
    pub agent: Option<String>,
    /// The check after the agent said done.
    pub verify: Option<String>,
    /// Resources taken together with it, in canonical form.
    pub claims: Vec<String>,
    /// Files it is to leave.
    pub outputs: Vec<String>,
    /// How long an attempt may take, in milliseconds.
    pub timeout_ms: Option<i64>,
    /// Failures at most.
    pub max_attempts: i64,
    /// Not before: milliseconds since 1970 (UTC).
    pub due_at: Option<i64>,
    /// Not before: so many milliseconds from now.
    pub due_in_ms: Option<i64>,
    /// Tasks it needs that are in the ledger already.
    pub needs: Vec<TaskId>,
    /// Tasks it needs of those added with it, by place in the list.
    pub needs_new: Vec<usize>,
    /// How much it may use, over all its attempts.
    pub budget: Budget,
}

impl NewTask {
    /// Returns whether nothing in the ledger must be looked at before it is added.
    fn is_plain(&self) -> bool {
        self.needs.is_empty() && self.needs_new.is_empty() && self.agent.is_none() && !self.budget.is_set()
    }

    fn command(&self) -> Option<&str> {
        match &self.work {
            Some(Work::Run(text)) => Some(text),
            Some(Work::Prompt(_)) | None => None,
        }
    }

    fn words(&self) -> Option<&str> {
        match &self.work {
            Some(Work::Prompt(text)) => Some(text),
            Some(Work::Run(_)) | None => None,
        }
    }

    /// Returns a plan's task as the ledger takes it.
    pub fn planned(task: &PlanTask, config: &Config) -> NewTask {
        let run = task.run.clone().map(Work::Run);
        let (due_at, due_in_ms) = match task.at {
            Some(At::Time(ms)) => (Some(ms), None),
            Some(At::After(ms)) => (None, Some(ms)),
            None => (None, None),
        };
        NewTask {
            key: Some(task.key.clone()),
            work: run.or(task.prompt.clone().map(Work::Prompt)),
            priority: task.priority.number(),
            capability: task.capability.clone(),
            agent: task.agent.clone(),
            verify: task.verify.clone(),
            claims: task.claims.iter().map(ToString::to_string).collect(),
            outputs: task.outputs.clone(),
            timeout_ms: task.timeout_ms,
            max_attempts: task.attempts.unwrap_or(config.health.max_attempts),
            due_at,
            due_in_ms,
            needs_new: task.needs.clone(),
            budget: task.budget,
            ..NewTask::new(task.title.clone())
        }
    }

    /// Returns a task of medium priority with one attempt's worth of defaults.
    pub fn new(title: impl Into<String>) -> NewTask {
        NewTask {
            key: None,
            title: title.into(),
            work: None,
            priority: 1,
            capability: None,
            agent: None,
            verify: None,
            claims: Vec::new(),
            outputs: Vec::new(),
            timeout_ms: None,
            max_attempts: 3,
            due_at: None,
            due_in_ms: None,
            needs: Vec::new(),
            needs_new: Vec::new(),
            budget: Budget::default(),
        }
    }
}

/// Adds tasks, outside any run or to a run that is going on; answers with their ids, in order.
#[derive(Debug)]
pub struct Add {
    /// The run they serve.
    pub run: Option<RunId>,
    /// The tasks; those they need must stand before them or be in the ledger.
    pub tasks: Vec<NewTask>,
    /// Who adds them, for the log.
    pub by: Option<String>,
}

impl Write for Add {
    type Answer = Vec<TaskId>;

    fn apply<'a>(&'a self, tx: &'a mut Tx) -> Boxed<'a, Vec<TaskId>> {
        Box::pin(async move {
            if let (Dialect::Pg, [task], None) = (tx.dialect(), self.tasks.as_slice(), self.run)
                && task.is_plain()
            {
                return add_one(tx, task, self.by.as_deref()).await;
            }
            if let Some(run) = self.run {
                let keys: Vec<String> = self.tasks.iter().filter_map(|task| task.key.clone()).collect();
                if !keys.is_empty() {
                    keep_adders_out(tx, run);
                }
                let instead = "leave out --in, or begin a new run with `quorate run`";
                crate::run::must_be_open(tx, run, instead).await?;
                refuse_taken_keys(tx, run, &keys).await?;
            }
            for task in &self.tasks {
                crate::agent::must_exist(tx, task.agent.as_deref()).await?;
            }
            add_tasks(tx, self.run, &self.tasks, self.by.as_deref()).await
        })
    }
}

pub(crate) async fn add_tasks(
    tx: &mut Tx,
    run: Option<RunId>,
    tasks: &[NewTask],
    by: Option<&str>,
) -> Result<Vec<TaskId>> {
    let needs = tasks.iter().enumerate().map(|(place, task)| needs_of(task, place, tasks.len()));
    let needs = needs.collect::<Result<Vec<_>>>()?;
    refuse_circles(tasks)?;
    refuse_same_keys(tasks)?;
    let mut unmet = Vec::with_capacity(tasks.len());
    for needs in &needs {
        unmet.push(needs.new.len() as i64 + count_unmet(tx, &needs.old).await?);
    }
    // Only now, so that what is refused uses up no ids on either database.
    let (ids, now) = new_ids(tx, tasks.len()).await?;
    let mut dependents = vec![0; tasks.len()];
    needs.iter().flat_map(|needs| &needs.new).for_each(|&place| dependents[place] += 1);
    let rows: Vec<Insert<'_>> = tasks
        .iter()
        .zip(&needs)
        .enumerate()
        .map(|(place, (task, needs))| Insert {
            task,
            id: ids[place],
            run,
            needs: (needs.new.len() + needs.old.len()) as i64,
            unmet: unmet[place],
            dependents: dependents[place],
            now,
        })
        .collect();
    let links: Vec<Link> =
        needs.iter().zip(&ids).flat_map(|(needs, id)| links_of(needs, *id, &ids)).collect();
    match tx.dialect() {
        Dialect::Lite => insert_each(tx, &rows, &links),
        Dialect::Pg => insert_all(tx, &rows, &links),
    }
    for row in &rows {
        crate::usage::give_budget(tx, row.id, row.task.budget);
        tx.record(row.added(by));
    }
    Ok(ids)
}

/// Adds a task that is plain and of no run, on PostgreSQL: one statement, which is a transaction by itself.
async fn add_one(tx: &mut Tx, task: &NewTask, by: Option<&str>) -> Result<Vec<TaskId>> {
    needs_of(task, 0, 1)?;
    let args = args![
        &task.key,
        &task.title,
        task.priority,
        &task.capability,
        task.command(),
        task.words(),
        &task.verify,
        json_list(&task.claims),
        json_list(&task.outputs),
        task.timeout_ms,
        task.max_attempts,
        task.due_at,
        task.due_in_ms,
        by
    ];
    let added = tx.last(ADD_ONE, args, |row| Ok(TaskId(row.int("id")?))).await?;
    tx.tell();
    Ok(added)
}

/// The rows are those of [`INSERT_ALL`], the event that of [`Insert::added`]; a test compares them.
const ADD_ONE: &str = "with n as materialized (
        select id, now, coalesce($12::bigint, now + $13::bigint) as due
          from (select nextval('tasks_id_seq') as id, now_ms() as now offset 0) one),
     t as (
        insert into tasks (id, key, title, state, priority, capability, run, prompt, verify, claims, outputs, timeout_ms,
                           max_attempts, not_before, due_at, created_at, ready_at)
        select id, $1::text, $2::text, case when coalesce(due, now) <= now then 'ready' else 'waiting' end, $3::bigint,
               $4::text, $5::text, $6::text, $7::text, $8::text, $9::text, $10::bigint, $11::bigint, due, due, now,
               case when coalesce(due, now) <= now then now end
          from n),
     e as (
        insert into events (seq, at, kind, agent, task_id, message)
        select log_place((select era from log_era)), log_time(), 'task.added', $14::text, id,
               'task ' || id || coalesce(' (' || $1 || ')', '') || ' added: ' || $2
          from n)
     select id from n";

/// What a task needs, each named once: of the ledger, and of those added with it by place.
struct Needs {
    old: BTreeSet<TaskId>,
    new: BTreeSet<usize>,
}

/// Refuses what could never be taken: a need that is not there, a name that is no resource.
fn needs_of(task: &NewTask, place: usize, count: usize) -> Result<Needs> {
    for name in &task.claims {
        Resource::from_stored(name)?;
    }
    if let Some(&wrong) = task.needs_new.iter().find(|&&need| need >= count || need == place) {
        let title = &task.title;
        return Err(Error::invalid(format!(
            "task {place} ({title}) needs task {wrong} of the {count} added with it"
        )));
    }
    Ok(Needs { old: task.needs.iter().copied().collect(), new: task.needs_new.iter().copied().collect() })
}

/// Refuses tasks that need each other in a circle: none of them could ever begin.
fn refuse_circles(tasks: &[NewTask]) -> Result<()> {
    if tasks.iter().all(|task| task.needs_new.is_empty()) {
        return Ok(());
    }
    let needs: Vec<Vec<usize>> = tasks.iter().map(|task| task.needs_new.clone()).collect();
    let Some(circle) = cycles(&needs).into_iter().next() else { return Ok(()) };
    let name = |place: &usize| tasks[*place].key.clone().unwrap_or_else(|| tasks[*place].title.clone());
    let names: Vec<String> = circle.iter().chain(circle.first()).take(CIRCLE_MAX).map(name).collect();
    Err(Error::invalid(format!("tasks need each other in a circle: {}", names.join(" -> ")))
        .hint("take one need out"))
}

/// Refuses a key that is given twice: what needs it would not know which is meant.
fn refuse_same_keys(tasks: &[NewTask]) -> Result<()> {
    let mut seen = HashSet::new();
    match tasks.iter().filter_map(|task| task.key.as_deref()).find(|key| !seen.insert(*key)) {
        Some(key) => Err(Error::invalid(format!("two tasks have the key {}", quote(key)))
            .hint("keys are unique within a run: give each task a key of its own")),
        None => Ok(()),
    }
}

/// Has whoever else adds tasks with keys to this run wait until they see ours. On SQLite there is one writer anyway.
fn keep_adders_out(tx: &mut Tx, run: RunId) {
    if tx.dialect() == Dialect::Pg {
        tx.later("select id from runs where id = $1 for no key update", args![run]);
    }
}

/// Refuses keys that tasks of the run have already.
async fn refuse_taken_keys(tx: &mut Tx, run: RunId, keys: &[String]) -> Result<()> {
    if keys.is_empty() {
        return Ok(());
    }
    let sql = Sql::Each {
        lite: "select id, key from tasks where run_id = $1 and key in (select value from json_each($2)) order by id limit 1",
        pg: "select id, key from tasks where run_id = $1 and key = any($2::text[]) order by id limit 1",
    };
    let taken = tx.one(sql, args![run, keys], |row| Ok((TaskId(row.int("id")?), row.text("key")?))).await?;
    match taken {
        Some((id, key)) => {
            Err(Error::invalid(format!("run {run} has a task with the key {} already: {id}", quote(&key)))
                .hint(format!("choose another key; `quorate task show {id}` tells what that task is")))
        }
        None => Ok(()),
    }
}

/// Tasks of a circle that are named.
const CIRCLE_MAX: usize = 8;

fn named(task: &NewTask, id: TaskId) -> String {
    task.key.as_ref().map_or(id.to_string(), |key| format!("{id} ({key})"))
}

/// Sets aside ids, so that thousands of rows can be sent without waiting for each one's answer; and tells the time.
async fn new_ids(tx: &mut Tx, count: usize) -> Result<(Vec<TaskId>, i64)> {
    let count = count as i64;
    match tx.dialect() {
        Dialect::Lite => {
            let sql = "select coalesce((select seq from sqlite_sequence where name = 'tasks'), 0) as top, now_ms() as now";
            let top = tx.one(sql, &[], |row| Ok((row.int("top")?, row.int("now")?))).await?;
            let (top, now) = top.expect("a select without `from` has one row");
            Ok(((top + 1..=top + count).map(TaskId).collect(), now))
        }
        Dialect::Pg => {
            // The sequence is looked up once, not for each row (`offset 0`): that took longer than writing the events.
            let sql = "select nextval(ids) as id, now
                         from (select pg_get_serial_sequence('tasks', 'id')::regclass as ids, now_ms() as now offset 0) one,
                              generate_series(1, $1::bigint) order by 1";
            let rows = tx.all(sql, args![count], |row| Ok((TaskId(row.int("id")?), row.int("now")?))).await?;
            let now = rows.first().map_or(0, |(_, now)| *now);
            Ok((rows.into_iter().map(|(id, _)| id).collect(), now))
        }
    }
}

/// Counts the needs that are not completed; a need that ended otherwise is refused, as is an unknown one.
async fn count_unmet(tx: &mut Tx, needs: &BTreeSet<TaskId>) -> Result<i64> {
    let mut unmet = 0;
    for &need in needs {
        let task = super::lock(tx, need).await.map_err(|e| match e.kind {
            Kind::NotFound => unknown(need).hint("--needs takes ids of tasks that are in the ledger"),
            _ => e,
        })?;
        match task.state {
            TaskState::Completed => {}
            TaskState::Failed | TaskState::Cancelled => {
                return Err(Error::invalid(format!(
                    "task {} is {}: it cannot be needed",
                    task.named(),
                    task.state
                ))
                .hint(format!("let it try again first: quorate task retry {need}")));
            }
            _ => unmet += 1,
        }
        tx.later("update tasks set dependents = dependents + 1 where id = $1", args![need]);
    }
    Ok(unmet)
}

/// The row of a new task.
struct Insert<'a> {
    task: &'a NewTask,
    id: TaskId,
    run: Option<RunId>,
    needs: i64,
    unmet: i64,
    dependents: i64,
    now: i64,
}

impl Insert<'_> {
    fn due_at(&self) -> Option<i64> {
        self.task.due_at.or(self.task.due_in_ms.map(|ms| self.now + ms))
    }

    fn is_ready(&self) -> bool {
        self.unmet == 0 && self.due_at().is_none_or(|due| due <= self.now)
    }

    fn state(&self) -> &'static str {
        if self.is_ready() { "ready" } else { "waiting" }
    }

    fn added(&self, by: Option<&str>) -> Event {
        let message = format!("task {} added: {}", named(self.task, self.id), self.task.title);
        let event = Event::new(EventKind::TaskAdded, message).task(self.id).run(self.run);
        match by {
            Some(by) => event.agent(by),
            None => event,
        }
    }
}

/// That one task needs another.
struct Link {
    task: TaskId,
    needs: TaskId,
}

fn links_of(needs: &Needs, task: TaskId, ids: &[TaskId]) -> Vec<Link> {
    let all = needs.old.iter().copied().chain(needs.new.iter().map(|&place| ids[place]));
    all.map(|needs| Link { task, needs }).collect()
}

fn insert_each(tx: &mut Tx, rows: &[Insert<'_>], links: &[Link]) {
    for row in rows {
        let task = row.task;
        tx.later(
            "insert into tasks (id, run_id, key, title, state, priority, capability, agent, run, prompt, verify, claims,
                    outputs, timeout_ms, max_attempts, not_before, due_at, needs, unmet, dependents, created_at, ready_at)
             values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $16, $17, $18, $19, $20, $21)",
            args![
                row.id,
                row.run,
                &task.key,
                &task.title,
                row.state(),
                task.priority,
                &task.capability,
                &task.agent,
                row.task.command(),
                row.task.words(),
                &task.verify,
                json_list(&task.claims),
                json_list(&task.outputs),
                task.timeout_ms,
                task.max_attempts,
                row.due_at(),
                row.needs,
                row.unmet,
                row.dependents,
                row.now,
                row.is_ready().then_some(row.now)
            ],
        );
    }
    for link in links {
        tx.later("insert into task_needs (task_id, needs_id) values ($1, $2)", args![link.task, link.needs]);
    }
}

/// Rows in one statement at most.
const ROWS_AT_ONCE: usize = 4_096;

/// The same with a statement for thousands: measured three times as fast on PostgreSQL.
fn insert_all(tx: &mut Tx, rows: &[Insert<'_>], links: &[Link]) {
    for part in rows.chunks(ROWS_AT_ONCE) {
        let ints = |of: fn(&Insert<'_>) -> i64| Arg::column(part.iter().map(of).collect::<Vec<_>>());
        let maybe = |of: fn(&Insert<'_>) -> Option<i64>| Arg::sparse_column(part.iter().map(of).collect());
        let texts = |of: fn(&Insert<'_>) -> Option<String>| Arg::sparse_column(part.iter().map(of).collect());
        let states = part.iter().map(|row| Some(row.state().to_owned())).collect::<Vec<_>>();
        tx.later(
            INSERT_ALL,
            args![
                part.iter().map(|row| row.id.0).collect::<Vec<_>>(),
                maybe(|row| row.run.map(|run| run.0)),
                texts(|row| row.task.key.clone()),
                texts(|row| Some(row.task.title.clone())),
                Arg::column(states),
                ints(|row| row.task.priority),
                texts(|row| row.task.capability.clone()),
                texts(|row| row.task.agent.clone()),
                texts(|row| row.task.command().map(str::to_owned)),
                texts(|row| row.task.words().map(str::to_owned)),
                texts(|row| row.task.verify.clone()),
                texts(|row| json_list(&row.task.claims)),
                texts(|row| json_list(&row.task.outputs)),
                maybe(|row| row.task.timeout_ms),
                ints(|row| row.task.max_attempts),
                maybe(|row| row.due_at()),
                ints(|row| row.needs),
                ints(|row| row.unmet),
                ints(|row| row.dependents),
                part.first().map(|row| row.now)
            ],
        );
    }
    for part in links.chunks(ROWS_AT_ONCE) {
        let tasks: Vec<i64> = part.iter().map(|link| link.task.0).collect();
        let needs: Vec<i64> = part.iter().map(|link| link.needs.0).collect();
        tx.later(
            "insert into task_needs (task_id, needs_id) select * from unnest($1::bigint[], $2::bigint[])",
            args![tasks, needs],
        );
    }
}

const INSERT_ALL: &str =
    "insert into tasks (id, run_id, key, title, state, priority, capability, agent, run, prompt, verify, claims, outputs,
            timeout_ms, max_attempts, not_before, due_at, needs, unmet, dependents, created_at, ready_at)
     select id, run_id, key, title, coalesce(state, ($5::text[])[1]), coalesce(priority, ($6::bigint[])[1]), capability, agent,
            run, prompt, verify, claims, outputs, timeout_ms, coalesce(max_attempts, ($15::bigint[])[1]), due_at, due_at,
            coalesce(needs, ($17::bigint[])[1]), coalesce(unmet, ($18::bigint[])[1]), coalesce(dependents, ($19::bigint[])[1]),
            $20::bigint, case when coalesce(state, ($5::text[])[1]) = 'ready' then $20 end
       from unnest($1::bigint[], $2::bigint[], $3::text[], $4::text[], $5::text[], $6::bigint[], $7::text[], $8::text[],
                   $9::text[], $10::text[], $11::text[], $12::text[], $13::text[], $14::bigint[], $15::bigint[],
                   $16::bigint[], $17::bigint[], $18::bigint[], $19::bigint[])
            as n (id, run_id, key, title, state, priority, capability, agent, run, prompt, verify, claims, outputs,
                  timeout_ms, max_attempts, due_at, needs, unmet, dependents)";

/// Writes a list as a JSON array, or null when it is empty.
pub(super) fn json_list(items: &[String]) -> Option<String> {
    (!items.is_empty()).then(|| serde_json::Value::from(items).to_string())
}

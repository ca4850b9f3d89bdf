//! Adding tasks: one, or a plan's thousands in one transaction.
//!
//! Here live the new task as a value and its insert. Plans are parsed and checked in `model::plan`; a run is
//! begun in `run`.

use super::unknown;
use quorate_model::resource::Resource;
use quorate_model::{Error, Event, EventKind, Kind, Result, RunId, TaskId, TaskState};
use quorate_store::{Dialect, Tx, Write, args};
use std::collections::BTreeSet;

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
}

impl NewTask {
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

    async fn apply(&self, tx: &mut Tx) -> Result<Vec<TaskId>> {
        if let Some(run) = self.run {
            crate::run::must_be_open(tx, run).await?;
        }
        for task in &self.tasks {
            crate::agent::must_exist(tx, task.agent.as_deref()).await?;
        }
        add_tasks(tx, self.run, &self.tasks, self.by.as_deref()).await
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
    let mut unmet = Vec::with_capacity(tasks.len());
    for needs in &needs {
        unmet.push(needs.new.len() as i64 + count_unmet(tx, &needs.old).await?);
    }
    // Only now, so that what is refused uses up no ids on either database.
    let ids = new_ids(tx, tasks.len()).await?;
    let now = tx.now().await?;
    let mut dependents = vec![0; tasks.len()];
    needs.iter().flat_map(|needs| &needs.new).for_each(|&place| dependents[place] += 1);
    for (place, (task, needs)) in tasks.iter().zip(needs).enumerate() {
        let id = ids[place];
        let count = (needs.new.len() + needs.old.len()) as i64;
        insert(
            tx,
            &Insert { task, id, run, needs: count, unmet: unmet[place], dependents: dependents[place], now },
        );
        link(tx, &needs, id, &ids);
        let added =
            Event::new(EventKind::TaskAdded, format!("task {} added: {}", named(task, id), task.title));
        tx.record(by.map_or(added.clone(), |by| added.agent(by)).task(id).run(run));
    }
    Ok(ids)
}

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

fn named(task: &NewTask, id: TaskId) -> String {
    task.key.as_ref().map_or(id.to_string(), |key| format!("{id} ({key})"))
}

/// Sets aside ids, so that thousands of rows can be sent without waiting for each one's answer.
async fn new_ids(tx: &mut Tx, count: usize) -> Result<Vec<TaskId>> {
    let count = count as i64;
    match tx.dialect() {
        Dialect::Lite => {
            let top = tx
                .one("select seq from sqlite_sequence where name = 'tasks'", &[], |row| row.int("seq"))
                .await?
                .unwrap_or(0);
            Ok((top + 1..=top + count).map(TaskId).collect())
        }
        Dialect::Pg => {
            tx.all(
                "select nextval(pg_get_serial_sequence('tasks', 'id')) as id from generate_series(1, $1::bigint) order by 1",
                args![count],
                |row| Ok(TaskId(row.int("id")?)),
            )
            .await
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

struct Insert<'a> {
    task: &'a NewTask,
    id: TaskId,
    run: Option<RunId>,
    needs: i64,
    unmet: i64,
    dependents: i64,
    now: i64,
}

fn insert(tx: &mut Tx, new: &Insert<'_>) {
    let task = new.task;
    let due_at = task.due_at.or(task.due_in_ms.map(|ms| new.now + ms));
    let is_ready = new.unmet == 0 && due_at.is_none_or(|due| due <= new.now);
    let (run, prompt) = match &task.work {
        Some(Work::Run(text)) => (Some(text), None),
        Some(Work::Prompt(text)) => (None, Some(text)),
        None => (None, None),
    };
    tx.later(
        "insert into tasks (id, run_id, key, title, state, priority, capability, agent, run, prompt, verify, claims,
                outputs, timeout_ms, max_attempts, not_before, due_at, needs, unmet, dependents, created_at, ready_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $16, $17, $18, $19, $20, $21)",
        args![
            new.id,
            new.run,
            &task.key,
            &task.title,
            if is_ready { "ready" } else { "waiting" },
            task.priority,
            &task.capability,
            &task.agent,
            run,
            prompt,
            &task.verify,
            json_list(&task.claims),
            json_list(&task.outputs),
            task.timeout_ms,
            task.max_attempts,
            due_at,
            new.needs,
            new.unmet,
            new.dependents,
            new.now,
            is_ready.then_some(new.now)
        ],
    );
}

fn link(tx: &mut Tx, needs: &Needs, id: TaskId, ids: &[TaskId]) {
    for need in needs.old.iter().copied().chain(needs.new.iter().map(|&place| ids[place])) {
        tx.later("insert into task_needs (task_id, needs_id) values ($1, $2)", args![id, need]);
    }
}

/// Writes a list as a JSON array, or null when it is empty.
pub(super) fn json_list(items: &[String]) -> Option<String> {
    (!items.is_empty()).then(|| serde_json::Value::from(items).to_string())
}

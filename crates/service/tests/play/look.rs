//! The whole state of a ledger by plain SQL, without the product's own reading of it, and what must hold of it.

use quorate_model::resource::{Mode, Resource, conflict};
use quorate_model::{Result, TaskState};
use quorate_store::{Boxed, Read, Row, Tx, args};
use quorate_testkit::oracle::{AgentRow, ClaimRow, NodeRow, Picture, RunRow, TaskRow, WaitRow};
use std::collections::{BTreeMap, BTreeSet};

/// Draws the whole state.
#[derive(Debug, Clone, Copy)]
pub struct Look;

impl Read for Look {
    type Answer = Picture;

    fn fetch<'a>(&'a self, tx: &'a mut Tx) -> Boxed<'a, Picture> {
        Box::pin(async move {
            let leader = tx
                .one("select node, term, lease_until from leaders where duty = 'health'", &[], |row| {
                    Ok((row.int("node")?, row.int("term")?, row.int("lease_until")?))
                })
                .await?;
            Ok(Picture {
                tasks: tx.all(TASKS, &[], task).await?,
                claims: tx.all(CLAIMS, &[], claim).await?,
                waits: tx
                    .all("select id, agent, seen_at, deadline from claim_waits order by id", &[], wait)
                    .await?,
                agents: tx.all("select * from agents order by name", &[], agent).await?,
                nodes: tx.all("select id, lease_until, stopped_at from nodes order by id", &[], node).await?,
                leader,
                runs: tx.all("select id, state, reason, finished_at from runs order by id", &[], run).await?,
            })
        })
    }
}

const TASKS: &str = "select * from tasks order by id";
const CLAIMS: &str = "select c.id, c.resource, c.agent, c.task_id, c.mode, c.left_term, c.expires_at,
        case when c.ttl_ms is null then 1 else 0 end as bound
   from claims c left join tasks t on t.id = c.task_id
  where c.expires_at > now_ms() or (c.ttl_ms is null and t.state in ('running', 'verifying')) order by c.id";

fn task(row: &Row<'_>) -> Result<TaskRow> {
    let avoid = row.opt_text("avoid_agent")?;
    let avoid_until = row.opt_int("avoid_until")?.unwrap_or_default();
    Ok(TaskRow {
        id: row.int("id")?,
        run: row.opt_int("run_id")?,
        state: row.text("state")?.parse()?,
        agent: row.opt_text("agent")?,
        term: row.int("term")?,
        attempt: row.int("attempt")?,
        failures: row.int("failures")?,
        unmet: row.int("unmet")?,
        progress: row.int("progress")?,
        owner: row.opt_text("owner")?,
        node: row.opt_text("node")?,
        lease_until: row.opt_int("lease_until")?,
        due_at: row.opt_int("due_at")?,
        avoid: avoid.map(|name| (name, avoid_until)),
        blocked_by: row.opt_int("blocked_by")?,
        claims_since: row.opt_int("claims_since")?,
        claims_seen: row.opt_int("claims_seen")?,
        result: row.opt_text("result")?,
        stuck: row.flag("stuck")?,
    })
}

fn claim(row: &Row<'_>) -> Result<ClaimRow> {
    Ok(ClaimRow {
        id: row.int("id")?,
        resource: row.text("resource")?,
        agent: row.text("agent")?,
        task: row.opt_int("task_id")?,
        mode: row.text("mode")?,
        bound: row.int("bound")? == 1,
        left_term: row.opt_int("left_term")?,
        expires_at: row.int("expires_at")?,
    })
}

fn wait(row: &Row<'_>) -> Result<WaitRow> {
    let (id, agent) = (row.int("id")?, row.text("agent")?);
    Ok(WaitRow { id, agent, seen_at: row.int("seen_at")?, deadline: row.int("deadline")? })
}

fn agent(row: &Row<'_>) -> Result<AgentRow> {
    Ok(AgentRow {
        name: row.text("name")?,
        state: row.text("state")?,
        paused: row.flag("paused")?,
        removed: row.flag("removed")?,
        node: row.opt_text("node")?,
        term: row.int("term")?,
        lease_until: row.opt_int("lease_until")?,
        respawns: row.int("respawns")?,
        last_crash: row.opt_int("last_crash")?,
    })
}

fn node(row: &Row<'_>) -> Result<NodeRow> {
    let stopped = row.opt_int("stopped_at")?.is_some();
    Ok(NodeRow { id: row.int("id")?, lease_until: row.int("lease_until")?, stopped })
}

fn run(row: &Row<'_>) -> Result<RunRow> {
    Ok(RunRow {
        id: row.int("id")?,
        state: row.text("state")?,
        reason: row.opt_text("reason")?,
        finished_at: row.opt_int("finished_at")?,
    })
}

/// Returns what must never be so, whatever the oracle says: `before` is what was seen last.
pub fn broken(before: &Picture, now: &Picture) -> Option<String> {
    let overlap = overlapping(now).map(|(a, b)| format!("two hold the same\n  {a:?}\n  {b:?}"));
    overlap.or_else(|| now.tasks.iter().find_map(unsound)).or_else(|| gone_back(before, now))
}

fn overlapping(picture: &Picture) -> Option<(&ClaimRow, &ClaimRow)> {
    let mode = |claim: &ClaimRow| if claim.mode == "shared" { Mode::Shared } else { Mode::Exclusive };
    let name = |claim: &ClaimRow| Resource::from_stored(&claim.resource).expect("it was stored");
    let pairs = picture.claims.iter().enumerate();
    let mut pairs = pairs.flat_map(|(place, a)| picture.claims[..place].iter().map(move |b| (a, b)));
    pairs.find(|(a, b)| a.agent != b.agent && conflict(&name(a), mode(a), &name(b), mode(b)))
}

fn unsound(task: &TaskRow) -> Option<String> {
    let is_held = task.lease_until.is_some();
    let is_wrong = match task.state {
        TaskState::Running => !is_held || task.owner.is_none(),
        TaskState::Verifying => task.owner.is_none(),
        TaskState::Ready => is_held || task.unmet > 0,
        TaskState::Waiting => is_held || (task.unmet == 0 && task.due_at.is_none()),
        TaskState::Completed => is_held || task.progress != 100,
        TaskState::Failed | TaskState::Cancelled | TaskState::Parked => is_held,
    };
    is_wrong.then(|| format!("this cannot be: {task:?}"))
}

fn gone_back(before: &Picture, now: &Picture) -> Option<String> {
    before.tasks.iter().zip(&now.tasks).find_map(|(was, is)| {
        let term_fell = is.term < was.term || is.attempt < was.attempt;
        let changed_hands = is.term == was.term && is.state == TaskState::Running && is.owner != was.owner;
        let undone = was.state == TaskState::Completed && is.state != TaskState::Completed;
        (term_fell || changed_hands || undone).then(|| format!("went back\n  {was:?}\n  {is:?}"))
    })
}

/// An event of a task, as far as its story is checked.
#[derive(Debug, Clone)]
pub struct Told {
    kind: String,
    task: i64,
    term: Option<i64>,
}

/// Reads the story of every task from the log.
#[derive(Debug, Clone, Copy)]
pub struct Story;

impl Read for Story {
    type Answer = Vec<Told>;

    fn fetch<'a>(&'a self, tx: &'a mut Tx) -> Boxed<'a, Vec<Told>> {
        Box::pin(async move {
            let sql = "select kind, task_id, data from events where task_id is not null order by seq";
            tx.all(sql, args![], |row| {
                let data: serde_json::Value = row
                    .opt_text("data")?
                    .and_then(|text| serde_json::from_str(&text).ok())
                    .unwrap_or_default();
                Ok(Told { kind: row.text("kind")?, task: row.int("task_id")?, term: data["term"].as_i64() })
            })
            .await
        })
    }
}

/// Returns what the log tells that must never be: taken while someone has it, completed twice, a term that fell.
pub fn untrue(story: &[Told]) -> Option<String> {
    let mut terms: BTreeMap<i64, i64> = BTreeMap::new();
    let mut held: BTreeMap<i64, bool> = BTreeMap::new();
    let mut checked: BTreeSet<i64> = BTreeSet::new();
    let mut completed: BTreeMap<i64, bool> = BTreeMap::new();
    for told in story {
        let task = told.task;
        let is_wrong = match told.kind.as_str() {
            "task.taken" => {
                let term = told.term.unwrap_or_default();
                checked.remove(&task);
                terms.insert(task, term).is_some_and(|was| was >= term)
                    || held.insert(task, true) == Some(true)
            }
            "task.completed" => {
                let was_held = held.insert(task, false) == Some(true) || checked.contains(&task);
                !was_held || completed.insert(task, true).is_some()
            }
            // A check may be given back; the work was done all the same.
            "task.verifying" => !checked.insert(task),
            "task.progress" => held.get(&task) != Some(&true),
            "task.retried" | "task.failed" | "task.cancelled" | "task.parked" | "task.released" => {
                held.insert(task, false);
                false
            }
            _ => false,
        };
        if is_wrong {
            let of_it: Vec<&Told> = story.iter().filter(|told| told.task == task).collect();
            return Some(format!("the log tells of task {task}: {of_it:?}"));
        }
    }
    None
}

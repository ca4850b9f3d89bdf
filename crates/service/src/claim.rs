//! Claims: leases on named resources.
//!
//! Here lives the one grant that tasks and people share: all resources or none, in one transaction that no other
//! grant overlaps. A claim's id is its term: it grows with every holding, whatever the resource is called, so it
//! also orders holders of resources that only overlap. What overlaps is decided in `model::resource`.
//!
//! A claim ends when it is released, when its task ends or changes hands, when its agent goes, or when its time is
//! over. What a task takes together with itself has no time of its own (`ttl_ms` is null): it ends when the task's
//! holding does, in the same transaction, so that an owner who may still write also still holds. Of a task that is
//! `verifying` all claims stay until the check is settled: the work is not done before.
//!
//! Who came first is served first: a refused wish that waits keeps later ones that overlap out, and so does a ready
//! task that was passed over for its claims for [`PATIENCE_MS`]. Nobody is kept out by someone who waits for him.

use crate::task::{self, Task};
use quorate_model::resource::{Mode, Resource, conflict};
use quorate_model::{Error, Event, EventKind, Kind, Result, RunId, TaskId, TaskState, Term};
use quorate_store::{Boxed, Dialect, Read, Row, Tx, Write, args};
use std::collections::{BTreeMap, BTreeSet};

/// Resources in one request at most.
pub const RESOURCES_MAX: usize = 256;
/// A waiter that has not asked for so long is gone and lets others pass.
pub const WAITER_GONE_MS: i64 = 15_000;
/// A ready task that was passed over for its claims for so long keeps later ones that overlap out, in milliseconds.
pub const PATIENCE_MS: i64 = 60_000;
/// Tasks that keep others out at most, the first in order.
const IMPATIENT_MAX: i64 = 64;

/// A live claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// Its term.
    pub term: Term,
    /// The resource, in canonical form.
    pub resource: String,
    /// Who holds it.
    pub agent: String,
    /// The task it is bound to.
    pub task: Option<TaskId>,
    /// Alone or shared.
    pub mode: Mode,
    /// When it was taken, milliseconds since 1970 (UTC).
    pub taken_at: i64,
    /// When it ends by itself.
    pub expires_at: i64,
}

impl Claim {
    pub(crate) fn from_row(row: &Row<'_>) -> Result<Claim> {
        Ok(Claim {
            term: Term(row.int("id")?),
            resource: row.text("resource")?,
            agent: row.text("agent")?,
            task: row.opt_int("task_id")?.map(TaskId),
            mode: mode(&row.text("mode")?),
            taken_at: row.int("taken_at")?,
            expires_at: row.int("expires_at")?,
        })
    }

    /// Says what became of it; `run` is that of its task.
    fn event(&self, kind: EventKind, run: Option<RunId>, message: String) -> Event {
        let data = serde_json::json!({ "term": self.term.0, "mode": self.mode.as_str(), "expires_at_ms": self.expires_at });
        let event = Event::new(kind, message).agent(&self.agent).resource(&self.resource).data(data);
        match self.task {
            Some(task) => event.task(task).run(run),
            None => event,
        }
    }
}

/// Reads a claim of which something is to be told, and the run of its task.
fn with_run(row: &Row<'_>) -> Result<(Claim, Option<RunId>)> {
    Ok((Claim::from_row(row)?, row.opt_int("run_id")?.map(RunId)))
}

fn mode(text: &str) -> Mode {
    if text == "shared" { Mode::Shared } else { Mode::Exclusive }
}

macro_rules! live {
    () => {
        "(c.expires_at > now_ms() or (c.ttl_ms is null and exists
            (select 1 from tasks t where t.id = c.task_id and t.state in ('running', 'verifying'))))"
    };
}

macro_rules! columns {
    () => {
        "c.id, c.resource, c.agent, c.task_id, c.mode, c.taken_at, c.expires_at"
    };
}
pub(crate) use {columns, live};

/// What a statement that changes claims answers with: also the run of the task, which the log is to say.
macro_rules! returning {
    () => {
        " returning id, resource, agent, task_id, mode, taken_at, expires_at,
                    (select run_id from tasks where tasks.id = claims.task_id) as run_id"
    };
}

/// What is wanted.
pub(crate) struct Wish<'a> {
    pub agent: &'a str,
    /// In canonical form.
    pub resources: &'a [String],
    pub mode: Mode,
    pub ttl_ms: i64,
    pub task: Option<TaskId>,
    pub place: Place,
}

/// Behind whom a wish stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// Behind all who wait.
    Last,
    /// Behind those who joined the queue before this one.
    Queue(i64),
    /// A task's own claims: behind the queue, and behind the impatient tasks before it in order.
    Task { priority: i64, id: TaskId },
}

/// Why a wish is not granted.
#[derive(Debug, Clone)]
pub(crate) enum Refused {
    /// Someone holds a resource that overlaps.
    Held { wanted: String, by: Claim },
    /// Someone who came earlier waits for a resource that overlaps.
    Behind { wanted: String, who: String },
}

impl Refused {
    /// Says who stands in the way, for which task, until when.
    pub(crate) fn said(&self) -> String {
        match self {
            Refused::Held { wanted, by } => {
                let task = by.task.map_or(String::new(), |task| format!(" for task {task}"));
                let name =
                    if *wanted == by.resource { String::new() } else { format!(" (as {})", by.resource) };
                let until = crate::time::rfc3339(by.expires_at);
                format!("{wanted}, held{name} by {}{task} until {until}", by.agent)
            }
            Refused::Behind { wanted, who } => format!("{wanted}, for which {who} waits since earlier"),
        }
    }

    pub(crate) fn event(&self, agent: &str) -> Event {
        let (wanted, data) = match self {
            Refused::Held { wanted, by } => (
                wanted,
                serde_json::json!({ "held_by": by.agent, "held": by.resource, "held_task": by.task.map(|t| t.0),
                                    "until": crate::time::rfc3339(by.expires_at) }),
            ),
            Refused::Behind { wanted, who } => (wanted, serde_json::json!({ "behind": who })),
        };
        let message = format!("{agent} was refused {}", self.said());
        Event::new(EventKind::ClaimRefused, message).agent(agent).resource(wanted).data(data)
    }
}

/// What stands in the way of wishes, seen at one moment. Who has it holds the claims lock for the rest of the
/// transaction, so that nothing is granted beside it.
pub(crate) struct Ground {
    live: Vec<(Claim, Resource)>,
    /// Those of them that were left to a supervisor: they belong to a holding that is over.
    left: BTreeSet<i64>,
    waiting: Vec<Waiter>,
    /// Since when the first of the impatient tasks was passed over: who queued before then goes before them all.
    impatient_since: i64,
}

/// Someone who came first and waits: an agent in the queue, or a task that has lost its patience.
struct Waiter {
    place: Place,
    /// Since when it waits, milliseconds since 1970 (UTC).
    since: i64,
    who: String,
    resources: Vec<Resource>,
    mode: Mode,
}

impl Ground {
    /// Takes the claims lock and looks.
    pub(crate) async fn look(tx: &mut Tx) -> Result<Ground> {
        lock_claims(tx).await?;
        let sql = concat!(
            "select ",
            columns!(),
            ", case when c.left_term is null then 0 else 1 end as is_left from claims c where ",
            live!(),
            " order by c.id"
        );
        let found = tx.all(sql, &[], |row| Ok((Claim::from_row(row)?, row.flag("is_left")?))).await?;
        let left = found.iter().filter(|(_, is_left)| *is_left).map(|(claim, _)| claim.term.0).collect();
        let live = found.into_iter().map(|(claim, _)| {
            let resource = Resource::from_stored(&claim.resource)?;
            Ok((claim, resource))
        });
        let live = live.collect::<Result<_>>()?;
        let tasks = impatient(tx).await?;
        let impatient_since = tasks.iter().map(|task| task.since).min().unwrap_or(i64::MAX);
        let waiting = queue(tx).await?.into_iter().chain(tasks).collect();
        Ok(Ground { live, left, waiting, impatient_since })
    }

    /// Returns who stands in the way of a wish, if anyone does. An agent never conflicts with itself.
    pub(crate) fn refusal(&self, wish: &Wish<'_>) -> Result<Option<Refused>> {
        let wanted = read_names(wish.resources)?;
        Ok(self.held_by_another(wish, &wanted).or_else(|| self.behind_another(wish, &wanted)))
    }

    fn held_by_another(&self, wish: &Wish<'_>, wanted: &[Resource]) -> Option<Refused> {
        self.live.iter().filter(|(claim, _)| claim.agent != wish.agent).find_map(|(claim, held)| {
            let resource = wanted.iter().find(|r| conflict(r, wish.mode, held, claim.mode))?;
            Some(Refused::Held { wanted: resource.to_string(), by: claim.clone() })
        })
    }

    fn behind_another(&self, wish: &Wish<'_>, wanted: &[Resource]) -> Option<Refused> {
        self.waiting
            .iter()
            .filter(|waiter| self.is_before(waiter, wish) && !self.waits_for(waiter, wish.agent))
            .find_map(|waiter| {
                let resource = wanted.iter().find(|r| waiter.wants(r, wish.mode))?;
                Some(Refused::Behind { wanted: resource.to_string(), who: waiter.who.clone() })
            })
    }

    /// Returns whether the waiter goes first. One order holds for all, or two would keep each other out: who queued
    /// before any impatient task was passed over, the impatient tasks, the rest of the queue, everyone else.
    fn is_before(&self, waiter: &Waiter, wish: &Wish<'_>) -> bool {
        let is_early = |waiter: &Waiter| waiter.since <= self.impatient_since;
        let itself = || self.waiting.iter().find(|other| other.place == wish.place);
        match (waiter.place, wish.place) {
            (Place::Queue(_), _) if waiter.who == wish.agent => false,
            (Place::Queue(mine), Place::Queue(other)) => mine < other,
            (Place::Task { priority, id }, Place::Task { priority: other, id: other_id }) => {
                (priority, id) < (other, other_id)
            }
            (Place::Queue(_), Place::Task { .. }) => itself().is_none() || is_early(waiter),
            (Place::Task { .. }, Place::Queue(_)) => itself().is_none_or(|own| !is_early(own)),
            (_, Place::Last) | (Place::Last, _) => true,
        }
    }

    /// Returns whether the waiter waits for something that `agent` holds: to be kept out by him would be a circle.
    fn waits_for(&self, waiter: &Waiter, agent: &str) -> bool {
        self.live.iter().any(|(claim, held)| claim.agent == agent && waiter.wants(held, claim.mode))
    }

    /// Keeps later wishes out on behalf of a task that was passed over.
    pub(crate) fn add_impatient(&mut self, task: &Task) -> Result<()> {
        // Only takes of tasks look at it, and among tasks order counts, not time.
        self.waiting.push(impatient_task(task.id, task.priority, 0, &task.claims)?);
        Ok(())
    }

    /// Takes all resources of a wish that nothing stands in the way of.
    ///
    /// What the agent holds already in the same name and mode is renewed.
    pub(crate) async fn take(&self, tx: &mut Tx, wish: &Wish<'_>) -> Result<Vec<Claim>> {
        let mut taken = Vec::with_capacity(wish.resources.len());
        for resource in read_names(wish.resources)? {
            let own = self.live.iter().map(|(claim, _)| claim).find(|c| {
                c.agent == wish.agent
                    && c.resource == resource.as_str()
                    && c.mode == wish.mode
                    && c.task == wish.task
                    && !self.left.contains(&c.term.0)
            });
            taken.push(match own {
                Some(claim) => renew(tx, claim, wish.ttl_ms).await?,
                None => insert(tx, wish, &resource).await?,
            });
        }
        Ok(taken)
    }
}

impl Waiter {
    fn wants(&self, resource: &Resource, mode: Mode) -> bool {
        self.resources.iter().any(|own| conflict(own, self.mode, resource, mode))
    }
}

/// Reads names, each once.
fn read_names(names: &[String]) -> Result<Vec<Resource>> {
    let mut read = Vec::<Resource>::with_capacity(names.len());
    for name in names {
        let resource = Resource::from_stored(name)?;
        if !read.contains(&resource) {
            read.push(resource);
        }
    }
    Ok(read)
}

async fn queue(tx: &mut Tx) -> Result<Vec<Waiter>> {
    let sql = "select id, resources, agent, mode, since from claim_waits
                where deadline > now_ms() and seen_at > now_ms() - $1 order by id";
    tx.all(sql, args![WAITER_GONE_MS], |row| {
        Ok(Waiter {
            place: Place::Queue(row.int("id")?),
            since: row.int("since")?,
            who: row.text("agent")?,
            resources: read_names(&task::list(row.opt_text("resources")?))?,
            mode: mode(&row.text("mode")?),
        })
    })
    .await
}

async fn impatient(tx: &mut Tx) -> Result<Vec<Waiter>> {
    let sql = "select id, priority, claims, claims_since from tasks
                where state = 'ready' and claims_since <= now_ms() - $1 and claims_seen > now_ms() - $2
                order by priority, id limit $3";
    tx.all(sql, args![PATIENCE_MS, WAITER_GONE_MS, IMPATIENT_MAX], |row| {
        let claims = task::list(row.opt_text("claims")?);
        impatient_task(TaskId(row.int("id")?), row.int("priority")?, row.int("claims_since")?, &claims)
    })
    .await
}

fn impatient_task(id: TaskId, priority: i64, since: i64, claims: &[String]) -> Result<Waiter> {
    let place = Place::Task { priority, id };
    Ok(Waiter {
        place,
        since,
        who: format!("task {id}"),
        resources: read_names(claims)?,
        mode: Mode::Exclusive,
    })
}

/// Two grants must not look at the same moment: each would miss the other's rows.
async fn lock_claims(tx: &mut Tx) -> Result<()> {
    if tx.dialect() == Dialect::Pg {
        let sql = "select 1 as locked from (select pg_advisory_xact_lock(hashtext('quorate.claims'), hashtext(current_schema()))) l";
        tx.one(sql, &[], |_| Ok(())).await?;
    }
    Ok(())
}

async fn insert(tx: &mut Tx, wish: &Wish<'_>, resource: &Resource) -> Result<Claim> {
    let sql = concat!(
        "insert into claims (resource, agent, task_id, mode, taken_at, ttl_ms, expires_at)
         values ($1, $2, $3, $4, now_ms(), $5, now_ms() + $6)",
        returning!()
    );
    let ttl_ms = if matches!(wish.place, Place::Task { .. }) { None } else { Some(wish.ttl_ms) };
    let args = args![resource.as_str(), wish.agent, wish.task, wish.mode.as_str(), ttl_ms, wish.ttl_ms];
    let (claim, run) = tx.one(sql, args, with_run).await?.expect("an insert returns its row");
    let message = format!("{} claimed by {}", claim.resource, claim.agent);
    tx.record(claim.event(EventKind::ClaimTaken, run, message));
    Ok(claim)
}

async fn renew(tx: &mut Tx, claim: &Claim, ttl_ms: i64) -> Result<Claim> {
    let sql = "update claims set expires_at = now_ms() + $2, ttl_ms = case when ttl_ms is null then null else $2 end where id = $1
               returning id, resource, agent, task_id, mode, taken_at, expires_at";
    Ok(tx.one(sql, args![claim.term, ttl_ms], Claim::from_row).await?.expect("it was read under the lock"))
}

/// Gives up the claims of a holding that was taken away by someone else than its owner.
///
/// A supervised child may still run for its grace, so what it holds stays held until its supervisor says that it is
/// gone ([`node::Gone`](crate::node::Gone)), or until the lease would have ended. What had expired is given up:
/// another may hold it by now.
pub(crate) async fn take_from(tx: &mut Tx, task: &Task) -> Result<()> {
    let Some(until) = task.lease_until.filter(|_| task.node.is_some()) else {
        return release_of_task(tx, task).await;
    };
    tx.later(
        "update claims set left_term = $2, ttl_ms = coalesce(ttl_ms, 0), expires_at = $3
          where task_id = $1 and left_term is null and (ttl_ms is null or expires_at > now_ms())",
        args![task.id, task.term, until],
    );
    release_of_task(tx, task).await
}

/// Gives up what was left to a supervisor whose child is gone now.
pub(crate) async fn release_left(tx: &mut Tx, task: TaskId, term: Term) -> Result<()> {
    let sql = concat!("delete from claims where task_id = $1 and left_term = $2", returning!());
    for (claim, run) in tx.all(sql, args![task, term], with_run).await? {
        let message = format!("{} released: the child that used it has ended", claim.resource);
        tx.record(claim.event(EventKind::ClaimReleased, run, message));
    }
    Ok(())
}

/// Gives up the claims bound to a task that ended or changed hands.
pub(crate) async fn release_of_task(tx: &mut Tx, task: &Task) -> Result<()> {
    let sql = "delete from claims where task_id = $1 and left_term is null returning id, resource, agent, task_id, mode, taken_at, expires_at";
    for claim in tx.all(sql, args![task.id], Claim::from_row).await? {
        let message = format!("{} released: task {} goes on without it", claim.resource, task.named());
        tx.record(claim.event(EventKind::ClaimReleased, task.run_id, message));
    }
    Ok(())
}

/// Gives up what an agent that is gone held apart from any task.
pub(crate) async fn release_of_agent(tx: &mut Tx, agent: &str) -> Result<()> {
    let sql = "delete from claims where agent = $1 and task_id is null
               returning id, resource, agent, task_id, mode, taken_at, expires_at";
    for claim in tx.all(sql, args![agent], Claim::from_row).await? {
        let message = format!("{} released: {agent} is gone", claim.resource);
        tx.record(claim.event(EventKind::ClaimReleased, None, message));
    }
    Ok(())
}

/// Asks which of these resources somebody may not change now, because another has claimed them: for doors that watch over
/// files (an editor's hook, a commit).
///
/// Who holds part of a file himself is not kept out of the file by one who holds another part of it.
#[derive(Debug, Clone)]
pub struct Guarded {
    /// Who wants to change them; `None` if nobody knows.
    pub agent: Option<String>,
    /// In canonical form.
    pub resources: Vec<String>,
}

/// A resource that another has claimed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guard {
    /// What was asked for.
    pub resource: String,
    /// Who has claimed it, or something that overlaps.
    pub by: Claim,
}

impl Guard {
    /// Says who holds it, for which task, until when.
    pub fn said(&self) -> String {
        self.refused().said()
    }

    fn refused(&self) -> Refused {
        Refused::Held { wanted: self.resource.clone(), by: self.by.clone() }
    }
}

impl Read for Guarded {
    type Answer = Vec<Guard>;

    fn fetch<'a>(&'a self, tx: &'a mut Tx) -> Boxed<'a, Vec<Guard>> {
        Box::pin(async move {
            let sql = concat!("select ", columns!(), " from claims c where ", live!(), " order by c.id");
            let live = tx.all(sql, &[], Claim::from_row).await?.into_iter().map(|claim| {
                let resource = Resource::from_stored(&claim.resource)?;
                Ok((claim, resource))
            });
            let live = live.collect::<Result<Vec<_>>>()?;
            let (own, others): (Vec<_>, Vec<_>) =
                live.into_iter().partition(|(claim, _)| Some(&claim.agent) == self.agent.as_ref());
            let mut guards = Vec::new();
            for wanted in read_names(&self.resources)? {
                let has_part = own.iter().any(|(_, mine)| mine.overlaps(&wanted));
                let stands =
                    others.iter().find(|(_, held)| held.overlaps(&wanted) && !(has_part && held.is_part()));
                guards.extend(stands.map(|(by, _)| Guard { resource: wanted.to_string(), by: by.clone() }));
            }
            Ok(guards)
        })
    }
}

/// Notes in the log that somebody was kept from changing what another has claimed.
#[derive(Debug, Clone)]
pub struct NoteRefused {
    /// Who wanted to.
    pub agent: String,
    /// What he was refused; [`RESOURCES_MAX`] at most are noted.
    pub guards: Vec<Guard>,
}

impl Write for NoteRefused {
    type Answer = ();

    fn apply<'a>(&'a self, tx: &'a mut Tx) -> Boxed<'a, ()> {
        Box::pin(async move {
            for guard in self.guards.iter().take(RESOURCES_MAX) {
                tx.record(guard.refused().event(&self.agent));
            }
            Ok(())
        })
    }
}

/// Claims resources, all or none; answers with the claims, or with who stands in the way.
#[derive(Debug, Clone)]
pub struct Take {
    /// Who wants them.
    pub agent: String,
    /// In canonical form.
    pub resources: Vec<String>,
    /// Alone or shared.
    pub mode: Mode,
    /// How long they are held at most, in milliseconds.
    pub ttl_ms: i64,
    /// The task they are bound to, with the term under which it is held.
    pub task: Option<(TaskId, Term)>,
    /// Waiting: for so many milliseconds from now a refused wish keeps its place in the queue.
    pub wait_ms: Option<i64>,
    /// The place that an earlier refusal gave.
    pub place: Option<i64>,
}

/// What became of a wish.
#[derive(Debug, Clone)]
pub enum Grant {
    /// All are held.
    Taken(Vec<Claim>),
    /// None is held; ask again with this place.
    Waits {
        /// The place in the queue.
        place: i64,
        /// Who stands in the way.
        why: String,
    },
}

impl Write for Take {
    type Answer = Grant;

    fn apply<'a>(&'a self, tx: &'a mut Tx) -> Boxed<'a, Grant> {
        Box::pin(async move {
            self.check()?;
            self.check_task(tx).await?;
            let wish = Wish {
                agent: &self.agent,
                resources: &self.resources,
                mode: self.mode,
                ttl_ms: self.ttl_ms,
                task: self.task.map(|(id, _)| id),
                place: self.place.map_or(Place::Last, Place::Queue),
            };
            let ground = Ground::look(tx).await?;
            if let Some(refused) = ground.refusal(&wish)? {
                return self.refused(tx, &refused).await;
            }
            let claims = ground.take(tx, &wish).await?;
            self.leave_queue(tx);
            if let Some((task, _)) = self.task {
                tx.later("update tasks set holds = 1 where id = $1", args![task]);
            }
            Ok(Grant::Taken(claims))
        })
    }
}

impl Take {
    fn check(&self) -> Result<()> {
        if self.resources.is_empty() || self.resources.len() > RESOURCES_MAX {
            return Err(Error::invalid(format!(
                "{} resources at once: at least 1, at most {RESOURCES_MAX}",
                self.resources.len()
            )));
        }
        if self.ttl_ms <= 0 {
            return Err(
                Error::invalid("a claim is held for some time: its ttl is above zero").hint("--ttl 15m")
            );
        }
        Ok(())
    }

    async fn check_task(&self, tx: &mut Tx) -> Result<()> {
        let Some((id, term)) = self.task else { return Ok(()) };
        let task = task::lock(tx, id).await?;
        if task.term != term || task.state != TaskState::Running {
            return Err(task::refuse(&task, term, "claim"));
        }
        if task.owner.as_ref() != Some(&self.agent) {
            let owner = task.owner.as_deref().unwrap_or("nobody");
            let message =
                format!("claim by {} refused: task {} is held by {owner}", self.agent, task.named());
            let event = Event::new(EventKind::WriteRefused, message.clone())
                .agent(&self.agent)
                .task(id)
                .run(task.run_id);
            return Err(Error::new(Kind::Conflict, message)
                .hint("claim without --task, or as its owner")
                .event(event));
        }
        Ok(())
    }

    async fn refused(&self, tx: &mut Tx, refused: &Refused) -> Result<Grant> {
        let why = refused.said();
        let Some(wait_ms) = self.wait_ms else { return Err(self.refusal(refused)) };
        if let Some(place) = self.place {
            match self.keep_place(tx, place).await? {
                Kept::Yes => return Ok(Grant::Waits { place, why }),
                Kept::TooLate => return Err(self.refusal(refused)),
                Kept::Gone => {}
            }
        }
        tx.record(refused.event(&self.agent));
        Ok(Grant::Waits { place: self.join_queue(tx, wait_ms).await?, why })
    }

    fn refusal(&self, refused: &Refused) -> Error {
        Error::new(Kind::Conflict, format!("{} cannot have {}", self.agent, refused.said()))
            .hint("wait for it with --wait 30s, or see `quorate claims`")
            .event(refused.event(&self.agent))
    }

    /// Says that the waiter is still there.
    async fn keep_place(&self, tx: &mut Tx, place: i64) -> Result<Kept> {
        let sql = "update claim_waits set seen_at = now_ms() where id = $1 and agent = $2
                   returning case when deadline > now_ms() then 1 else 0 end as in_time";
        let in_time = tx.one(sql, args![place, &self.agent], |row| row.flag("in_time")).await?;
        Ok(in_time.map_or(Kept::Gone, |in_time| if in_time { Kept::Yes } else { Kept::TooLate }))
    }

    async fn join_queue(&self, tx: &mut Tx, wait_ms: i64) -> Result<i64> {
        let resources = serde_json::Value::from(self.resources.as_slice()).to_string();
        let sql = "insert into claim_waits (resources, agent, mode, since, seen_at, deadline)
                   values ($1, $2, $3, now_ms(), now_ms(), now_ms() + $4) returning id";
        let place = tx
            .one(sql, args![resources, &self.agent, self.mode.as_str(), wait_ms], |row| row.int("id"))
            .await?;
        Ok(place.expect("an insert returns its row"))
    }

    fn leave_queue(&self, tx: &mut Tx) {
        if let Some(place) = self.place {
            tx.later("delete from claim_waits where id = $1 and agent = $2", args![place, &self.agent]);
        }
    }
}

/// Gives up a place in the queue, so that those behind need not wait until it is forgotten.
#[derive(Debug, Clone)]
pub struct Leave {
    /// Who waited.
    pub agent: String,
    /// The place.
    pub place: i64,
}

impl Write for Leave {
    type Answer = ();

    fn apply<'a>(&'a self, tx: &'a mut Tx) -> Boxed<'a, ()> {
        Box::pin(async move {
            let sql = "delete from claim_waits where id = $1 and agent = $2";
            tx.run(sql, args![self.place, &self.agent]).await.map(drop)
        })
    }
}

/// What became of a place in the queue.
enum Kept {
    Yes,
    /// Its deadline is over.
    TooLate,
    /// It did not ask for so long that it was forgotten.
    Gone,
}

/// Gives up claims: the holder's own, or by force a person's word against any holder.
#[derive(Debug, Clone)]
pub struct Release {
    /// In canonical form; those named exactly so.
    pub resources: Vec<String>,
    /// Who gives them up.
    pub by: Releaser,
}

/// Who gives up a claim.
#[derive(Debug, Clone)]
pub enum Releaser {
    /// The holder; with a term, only that holding.
    Holder {
        /// The agent.
        agent: String,
        /// The claim's term.
        term: Option<Term>,
    },
    /// A person, whoever holds it.
    Force {
        /// Why, for the log.
        reason: String,
    },
}

impl Write for Release {
    type Answer = Vec<Claim>;

    fn apply<'a>(&'a self, tx: &'a mut Tx) -> Boxed<'a, Vec<Claim>> {
        Box::pin(async move {
            lock_claims(tx).await?;
            let (mut released, mut runs) = (Vec::new(), BTreeMap::new());
            let resources: BTreeSet<&String> = self.resources.iter().collect();
            for resource in resources {
                let sql = concat!(
                    "select ",
                    columns!(),
                    ", (select run_id from tasks t where t.id = c.task_id) as run_id
                       from claims c where c.resource = $1 and ",
                    live!(),
                    " order by c.id"
                );
                let (live, of_runs): (Vec<Claim>, Vec<Option<RunId>>) =
                    tx.all(sql, args![resource], with_run).await?.into_iter().unzip();
                runs.extend(live.iter().map(|claim| claim.term.0).zip(of_runs));
                released.extend(self.choose(resource, live)?);
            }
            for claim in &released {
                tx.later("delete from claims where id = $1", args![claim.term]);
                let message = match &self.by {
                    Releaser::Holder { agent, .. } => format!("{} released by {agent}", claim.resource),
                    Releaser::Force { reason } => {
                        format!("{} taken from {} by force: {reason}", claim.resource, claim.agent)
                    }
                };
                let run = runs.get(&claim.term.0).copied().flatten();
                tx.record(claim.event(EventKind::ClaimReleased, run, message));
            }
            Ok(released)
        })
    }
}

impl Release {
    /// Chooses the claims that this release may end, or says why there is none.
    fn choose(&self, resource: &str, live: Vec<Claim>) -> Result<Vec<Claim>> {
        let Releaser::Holder { agent, term } = &self.by else {
            return if live.is_empty() { Err(not_held(resource)) } else { Ok(live) };
        };
        let (own, others): (Vec<Claim>, Vec<Claim>) =
            live.into_iter().partition(|claim| claim.agent == *agent);
        match (own.is_empty(), term) {
            (false, None) => Ok(own),
            (false, Some(term)) => {
                let (named, rest): (Vec<Claim>, Vec<Claim>) =
                    own.into_iter().partition(|claim| claim.term == *term);
                if named.is_empty() { Err(stale(resource, agent, *term, &rest[0])) } else { Ok(named) }
            }
            (true, Some(term)) if !others.is_empty() => Err(stale(resource, agent, *term, &others[0])),
            (true, Some(term)) => Err(lapsed(resource, agent, *term)),
            (true, None) => match others.first() {
                Some(claim) => Err(Error::new(
                    Kind::Conflict,
                    format!("{resource} is held by {}, not by {agent}", claim.agent),
                )
                .hint("a person may end it with --force --reason \"…\"")
                .event(refused_release(
                    resource,
                    agent,
                    &format!("{} holds it", claim.agent),
                ))),
                None => Err(not_held(resource)),
            },
        }
    }
}

fn not_held(resource: &str) -> Error {
    Error::not_found(format!("nobody holds {resource}")).hint("`quorate claims` shows what is held")
}

fn lapsed(resource: &str, agent: &str, term: Term) -> Error {
    let why = format!("the claim with term {term} has ended");
    Error::new(Kind::Stale, format!("release of {resource} refused: {why}"))
        .hint("`quorate claims` shows what is held")
        .event(refused_release(resource, agent, &why))
}

fn stale(resource: &str, agent: &str, term: Term, current: &Claim) -> Error {
    let why = format!("term {term} is not its current term {} (held by {})", current.term, current.agent);
    Error::new(Kind::Stale, format!("release of {resource} refused: {why}"))
        .hint("`quorate claims` shows who holds it now")
        .event(refused_release(resource, agent, &why))
}

fn refused_release(resource: &str, agent: &str, why: &str) -> Event {
    Event::new(EventKind::WriteRefused, format!("release of {resource} by {agent} refused: {why}"))
        .agent(agent)
        .resource(resource)
        .data(serde_json::json!({ "write": "release", "why": why }))
}

/// Ends claims whose time is over, and forgets who no longer waits. Part of the health check.
pub(crate) async fn expire(tx: &mut Tx, limit: i64) -> Result<usize> {
    // Mostly there is nothing, and then nobody is to be waited for.
    let sql = concat!(
        "select count(*) as n from (select 1 from claims c where c.expires_at <= now_ms() and not ",
        live!(),
        " union all select 1 from claim_waits where deadline < now_ms() or seen_at < now_ms() - $1) x"
    );
    if tx.one(sql, args![WAITER_GONE_MS], |row| row.int("n")).await? == Some(0) {
        return Ok(0);
    }
    // A grant beside it may be renewing a claim that was alive when it looked.
    lock_claims(tx).await?;
    let sql = concat!(
        "delete from claims where id in (select c.id from claims c where c.expires_at <= now_ms() and not ",
        live!(),
        " order by c.id limit $1)",
        returning!()
    );
    let expired = tx.all(sql, args![limit], with_run).await?;
    for (claim, run) in &expired {
        let message = format!("{} of {} expired", claim.resource, claim.agent);
        tx.record(claim.event(EventKind::ClaimExpired, *run, message));
    }
    tx.later(
        "delete from claim_waits where deadline < now_ms() or seen_at < now_ms() - $1",
        args![WAITER_GONE_MS],
    );
    Ok(expired.len())
}

/// Renews what an agent holds apart from any task, by name and term; the agent's sign of life.
#[derive(Debug, Clone)]
pub struct Renew {
    /// The claims' terms.
    pub terms: Vec<Term>,
    /// For so many milliseconds from now.
    pub ttl_ms: i64,
}

impl Write for Renew {
    type Answer = Vec<Term>;

    fn apply<'a>(&'a self, tx: &'a mut Tx) -> Boxed<'a, Vec<Term>> {
        Box::pin(async move {
            let mut kept = Vec::new();
            for term in &self.terms {
                let sql = "update claims set expires_at = now_ms() + $2 where id = $1 and expires_at > now_ms() returning id";
                kept.extend(tx.one(sql, args![*term, self.ttl_ms], |row| Ok(Term(row.int("id")?))).await?);
            }
            Ok(kept)
        })
    }
}

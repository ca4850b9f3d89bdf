//! Claims: leases on named resources.
//!
//! Here lives the one grant that tasks and people share: all resources or none, in one transaction that no other
//! grant overlaps. A claim's id is its term: it grows with every holding, whatever the resource is called, so it
//! also orders holders of resources that only overlap. What overlaps is decided in `model::resource`.
//!
//! A claim ends when it is released, when its task ends or changes hands, or when its time is over. Of a task
//! that is `verifying` the claims stay until the check is settled: the work is not done before.

use crate::task::{self, Task};
use quorate_model::resource::{Mode, Resource, conflict};
use quorate_model::{Error, Event, EventKind, Kind, Result, TaskId, TaskState, Term};
use quorate_store::{Dialect, Row, Tx, Write, args};

/// Resources in one request at most.
pub const RESOURCES_MAX: usize = 256;
/// A waiter that has not asked for so long is gone and lets others pass.
const WAITER_GONE_MS: i64 = 15_000;

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

    fn event(&self, kind: EventKind, message: String) -> Event {
        let data = serde_json::json!({ "term": self.term.0, "mode": self.mode.as_str(), "expires_at_ms": self.expires_at });
        let event = Event::new(kind, message).agent(&self.agent).resource(&self.resource).data(data);
        match self.task {
            Some(task) => event.task(task),
            None => event,
        }
    }
}

fn mode(text: &str) -> Mode {
    if text == "shared" { Mode::Shared } else { Mode::Exclusive }
}

macro_rules! live {
    () => {
        "(c.expires_at > now_ms() or exists (select 1 from tasks t where t.id = c.task_id and t.state = 'verifying'))"
    };
}

macro_rules! columns {
    () => {
        "c.id, c.resource, c.agent, c.task_id, c.mode, c.taken_at, c.expires_at"
    };
}
pub(crate) use {columns, live};

/// What is wanted.
pub(crate) struct Wish<'a> {
    pub agent: &'a str,
    /// In canonical form.
    pub resources: &'a [String],
    pub mode: Mode,
    pub ttl_ms: i64,
    pub task: Option<TaskId>,
    /// The wisher's place among those who wait; `None` stands behind all of them.
    pub place: Option<i64>,
}

/// Why a wish is not granted.
#[derive(Debug, Clone)]
pub(crate) enum Refused {
    /// Someone holds a resource that overlaps.
    Held { wanted: String, by: Claim },
    /// Someone who came earlier waits for a resource that overlaps.
    Behind { wanted: String, agent: String },
}

impl Refused {
    /// Says who stands in the way, for which task, until when.
    pub(crate) fn said(&self) -> String {
        match self {
            Refused::Held { wanted, by } => {
                let task = by.task.map_or(String::new(), |task| format!(" for task {task}"));
                let name = if *wanted == by.resource { String::new() } else { format!(" (as {})", by.resource) };
                let until = crate::time::rfc3339(by.expires_at);
                format!("{wanted}, held{name} by {}{task} until {until}", by.agent)
            }
            Refused::Behind { wanted, agent } => format!("{wanted}, for which {agent} waits since earlier"),
        }
    }

    pub(crate) fn event(&self, agent: &str) -> Event {
        let (wanted, data) = match self {
            Refused::Held { wanted, by } => (
                wanted,
                serde_json::json!({ "held_by": by.agent, "held": by.resource, "held_task": by.task.map(|t| t.0),
                                    "until": crate::time::rfc3339(by.expires_at) }),
            ),
            Refused::Behind { wanted, agent } => (wanted, serde_json::json!({ "behind": agent })),
        };
        let message = format!("{agent} was refused {}", self.said());
        Event::new(EventKind::ClaimRefused, message).agent(agent).resource(wanted).data(data)
    }
}

/// Takes all resources of a wish, or none. Holds the claims lock for the rest of the transaction.
///
/// An agent never conflicts with itself; what it holds already in the same name and mode is renewed.
pub(crate) async fn grant(tx: &mut Tx, wish: &Wish<'_>) -> Result<std::result::Result<Vec<Claim>, Refused>> {
    lock_claims(tx).await?;
    let live = tx
        .all(concat!("select ", columns!(), " from claims c where ", live!(), " order by c.id"), &[], Claim::from_row)
        .await?;
    let wanted = wish.resources.iter().map(|text| Resource::from_stored(text)).collect::<Result<Vec<_>>>()?;
    if let Some(refused) = held_by_another(wish, &wanted, &live)? {
        return Ok(Err(refused));
    }
    if let Some(refused) = behind_another(tx, wish, &wanted).await? {
        return Ok(Err(refused));
    }
    let mut taken = Vec::with_capacity(wanted.len());
    for resource in &wanted {
        let own = live.iter().find(|c| {
            c.agent == wish.agent && c.resource == resource.as_str() && c.mode == wish.mode && c.task == wish.task
        });
        taken.push(match own {
            Some(claim) => renew(tx, claim, wish.ttl_ms).await?,
            None => insert(tx, wish, resource).await?,
        });
    }
    Ok(Ok(taken))
}

/// Two grants must not look at the same moment: each would miss the other's rows.
async fn lock_claims(tx: &mut Tx) -> Result<()> {
    if tx.dialect() == Dialect::Pg {
        let sql = "select 1 as locked from (select pg_advisory_xact_lock(hashtext('quorate.claims'), hashtext(current_schema()))) l";
        tx.one(sql, &[], |_| Ok(())).await?;
    }
    Ok(())
}

fn held_by_another(wish: &Wish<'_>, wanted: &[Resource], live: &[Claim]) -> Result<Option<Refused>> {
    for claim in live.iter().filter(|claim| claim.agent != wish.agent) {
        let held = Resource::from_stored(&claim.resource)?;
        if let Some(resource) = wanted.iter().find(|r| conflict(r, wish.mode, &held, claim.mode)) {
            return Ok(Some(Refused::Held { wanted: resource.to_string(), by: claim.clone() }));
        }
    }
    Ok(None)
}

async fn behind_another(tx: &mut Tx, wish: &Wish<'_>, wanted: &[Resource]) -> Result<Option<Refused>> {
    let sql = "select resources, agent, mode from claim_waits
                where id < $1 and agent <> $2 and deadline > now_ms() and seen_at > now_ms() - $3 order by id";
    let waiters = tx
        .all(sql, args![wish.place.unwrap_or(i64::MAX), wish.agent, WAITER_GONE_MS], |row| {
            Ok((task::list(row.opt_text("resources")?), row.text("agent")?, mode(&row.text("mode")?)))
        })
        .await?;
    for (resources, agent, mode) in waiters {
        for text in &resources {
            let other = Resource::from_stored(text)?;
            if let Some(resource) = wanted.iter().find(|r| conflict(r, wish.mode, &other, mode)) {
                return Ok(Some(Refused::Behind { wanted: resource.to_string(), agent }));
            }
        }
    }
    Ok(None)
}

async fn insert(tx: &mut Tx, wish: &Wish<'_>, resource: &Resource) -> Result<Claim> {
    let sql = concat!(
        "insert into claims as c (resource, agent, task_id, mode, taken_at, ttl_ms, expires_at)
         values ($1, $2, $3, $4, now_ms(), $5, now_ms() + $5) returning ",
        "id, resource, agent, task_id, mode, taken_at, expires_at"
    );
    let args = args![resource.as_str(), wish.agent, wish.task, wish.mode.as_str(), wish.ttl_ms];
    let claim = tx.one(sql, args, Claim::from_row).await?.expect("an insert returns its row");
    tx.record(claim.event(EventKind::ClaimTaken, format!("{} claimed by {}", claim.resource, claim.agent)));
    Ok(claim)
}

async fn renew(tx: &mut Tx, claim: &Claim, ttl_ms: i64) -> Result<Claim> {
    let sql = "update claims set expires_at = now_ms() + $2, ttl_ms = $2 where id = $1
               returning id, resource, agent, task_id, mode, taken_at, expires_at";
    Ok(tx.one(sql, args![claim.term, ttl_ms], Claim::from_row).await?.expect("it was read under the lock"))
}

/// Gives up the claims bound to a task that ended or changed hands.
pub(crate) async fn release_of_task(tx: &mut Tx, task: &Task) -> Result<()> {
    let sql = "delete from claims where task_id = $1 returning id, resource, agent, task_id, mode, taken_at, expires_at";
    for claim in tx.all(sql, args![task.id], Claim::from_row).await? {
        let message = format!("{} released: task {} goes on without it", claim.resource, task.named());
        tx.record(claim.event(EventKind::ClaimReleased, message));
    }
    Ok(())
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

    async fn apply(&self, tx: &mut Tx) -> Result<Grant> {
        self.check_task(tx).await?;
        let wish = Wish {
            agent: &self.agent,
            resources: &self.resources,
            mode: self.mode,
            ttl_ms: self.ttl_ms,
            task: self.task.map(|(id, _)| id),
            place: self.place,
        };
        match grant(tx, &wish).await? {
            Ok(claims) => {
                self.leave_queue(tx);
                if let Some((task, _)) = self.task {
                    tx.later("update tasks set holds = 1 where id = $1", args![task]);
                }
                Ok(Grant::Taken(claims))
            }
            Err(refused) => self.refused(tx, &refused).await,
        }
    }
}

impl Take {
    async fn check_task(&self, tx: &mut Tx) -> Result<()> {
        let Some((id, term)) = self.task else { return Ok(()) };
        let task = task::lock(tx, id).await?;
        if task.term != term || task.state != TaskState::Running {
            return Err(task::refuse(&task, term, "claim"));
        }
        Ok(())
    }

    async fn refused(&self, tx: &mut Tx, refused: &Refused) -> Result<Grant> {
        let why = refused.said();
        let Some(wait_ms) = self.wait_ms else {
            self.leave_queue(tx);
            return Err(Error::new(Kind::Conflict, format!("{} cannot have {why}", self.agent))
                .hint("wait for it with --wait 30s, or see `quorate claims`")
                .event(refused.event(&self.agent)));
        };
        let place = match self.place {
            Some(place) => {
                tx.run("update claim_waits set seen_at = now_ms() where id = $1", args![place]).await?;
                place
            }
            None => {
                tx.record(refused.event(&self.agent));
                self.join_queue(tx, wait_ms).await?
            }
        };
        Ok(Grant::Waits { place, why })
    }

    async fn join_queue(&self, tx: &mut Tx, wait_ms: i64) -> Result<i64> {
        let resources = serde_json::Value::from(self.resources.as_slice()).to_string();
        let sql = "insert into claim_waits (resources, agent, mode, since, seen_at, deadline)
                   values ($1, $2, $3, now_ms(), now_ms(), now_ms() + $4) returning id";
        let place = tx.one(sql, args![resources, &self.agent, self.mode.as_str(), wait_ms], |row| row.int("id")).await?;
        Ok(place.expect("an insert returns its row"))
    }

    fn leave_queue(&self, tx: &mut Tx) {
        if let Some(place) = self.place {
            tx.later("delete from claim_waits where id = $1", args![place]);
        }
    }
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

    async fn apply(&self, tx: &mut Tx) -> Result<Vec<Claim>> {
        lock_claims(tx).await?;
        let mut released = Vec::new();
        for resource in &self.resources {
            let sql = concat!("select ", columns!(), " from claims c where c.resource = $1 and ", live!(), " order by c.id");
            let live = tx.all(sql, args![resource], Claim::from_row).await?;
            released.extend(self.choose(resource, live)?);
        }
        for claim in &released {
            tx.later("delete from claims where id = $1", args![claim.term]);
            let message = match &self.by {
                Releaser::Holder { agent, .. } => format!("{} released by {agent}", claim.resource),
                Releaser::Force { reason } => format!("{} taken from {} by force: {reason}", claim.resource, claim.agent),
            };
            tx.record(claim.event(EventKind::ClaimReleased, message));
        }
        Ok(released)
    }
}

impl Release {
    /// Chooses the claims that this release may end, or says why there is none.
    fn choose(&self, resource: &str, live: Vec<Claim>) -> Result<Vec<Claim>> {
        let Releaser::Holder { agent, term } = &self.by else {
            return if live.is_empty() { Err(not_held(resource)) } else { Ok(live) };
        };
        let (own, others): (Vec<Claim>, Vec<Claim>) = live.into_iter().partition(|claim| claim.agent == *agent);
        match (own.is_empty(), term) {
            (false, None) => Ok(own),
            (false, Some(term)) => {
                let (named, rest): (Vec<Claim>, Vec<Claim>) = own.into_iter().partition(|claim| claim.term == *term);
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
                .event(refused_release(resource, agent, &format!("{} holds it", claim.agent)))),
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
    let sql = concat!(
        "delete from claims where id in (select c.id from claims c where c.expires_at <= now_ms() and not ",
        live!(),
        " order by c.id limit $1) returning id, resource, agent, task_id, mode, taken_at, expires_at"
    );
    let expired = tx.all(sql, args![limit], Claim::from_row).await?;
    for claim in &expired {
        let message = format!("{} of {} expired", claim.resource, claim.agent);
        tx.record(claim.event(EventKind::ClaimExpired, message));
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

    async fn apply(&self, tx: &mut Tx) -> Result<Vec<Term>> {
        let mut kept = Vec::new();
        for term in &self.terms {
            let sql = "update claims set expires_at = now_ms() + $2 where id = $1 and expires_at > now_ms() returning id";
            kept.extend(tx.one(sql, args![*term, self.ttl_ms], |row| Ok(Term(row.int("id")?))).await?);
        }
        Ok(kept)
    }
}

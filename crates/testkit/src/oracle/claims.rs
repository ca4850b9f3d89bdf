//! Claims: who may hold what, who waits for it since when, and what is kept while a child still stops.

use super::ops::ClaimWish;
use super::picture::{ClaimRow, WaitRow};
use super::{Answer, Oracle};
use quorate_model::resource::{Mode, Resource, conflict};
use quorate_model::{Kind, TaskState};

/// A waiter that has not asked for so long is gone, in milliseconds.
const WAITER_GONE_MS: i64 = 15_000;
/// A task that was passed over for its claims for so long keeps later ones out, in milliseconds.
const PATIENCE_MS: i64 = 60_000;

#[derive(Debug, Clone)]
pub(super) struct Claim {
    pub(super) term: i64,
    pub(super) resource: Resource,
    pub(super) agent: &'static str,
    pub(super) task: Option<i64>,
    mode: Mode,
    /// Ends with its task's holding, not by time.
    is_bound: bool,
    /// The holding it was taken from, while its child may still run.
    left: Option<i64>,
    pub(super) expires_at: i64,
}

/// An agent in the queue.
#[derive(Debug, Clone)]
pub(super) struct Waiter {
    pub(super) place: i64,
    pub(super) agent: &'static str,
    resources: Vec<Resource>,
    mode: Mode,
    pub(super) since: i64,
    pub(super) seen_at: i64,
    pub(super) deadline: i64,
}

/// Behind whom a wish stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Last,
    Queue(i64),
    Task(i64, i64),
}

/// Why a wish is not granted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Refusal {
    Held { wanted: String, name: String, by: &'static str, task: Option<i64> },
    Behind { wanted: String, who: String },
}

/// Someone who came first: an agent in the queue, or a task that was passed over for too long.
#[derive(Debug, Clone)]
pub(super) struct First {
    place: Place,
    who: String,
    resources: Vec<Resource>,
    mode: Mode,
    since: i64,
}

/// Who came first, as one grant sees it.
pub(super) struct Line {
    firsts: Vec<First>,
    /// Since when the most patient of the tasks has waited: who queued before goes before the tasks.
    oldest_task: i64,
}

impl First {
    fn wants(&self, resource: &Resource, mode: Mode) -> bool {
        self.resources.iter().any(|own| conflict(own, self.mode, resource, mode))
    }
}

impl Line {
    fn is_before(&self, first: &First, agent: &str, place: Place) -> bool {
        let is_early = |first: &First| first.since <= self.oldest_task;
        let itself = || self.firsts.iter().find(|first| first.place == place);
        match (first.place, place) {
            (Place::Queue(_), _) if first.who == agent => false,
            (Place::Queue(mine), Place::Queue(other)) => mine < other,
            (Place::Task(priority, id), Place::Task(other, other_id)) => (priority, id) < (other, other_id),
            (Place::Queue(_), Place::Task(..)) => itself().is_none() || is_early(first),
            (Place::Task(..), Place::Queue(_)) => itself().is_none_or(|own| !is_early(own)),
            _ => true,
        }
    }
}

impl Oracle {
    pub(super) fn line(&self) -> Line {
        let now = self.now;
        let is_there = |w: &&Waiter| w.deadline > now && w.seen_at > now - WAITER_GONE_MS;
        let queue = self.waits.iter().filter(is_there).map(|waiter| First {
            place: Place::Queue(waiter.place),
            who: waiter.agent.into(),
            resources: waiter.resources.clone(),
            mode: waiter.mode,
            since: waiter.since,
        });
        let mut tasks = self.where_task(|oracle, t| {
            let is_looked_at = t.claims_seen.is_some_and(|at| at > now - WAITER_GONE_MS);
            t.state == TaskState::Ready && oracle.is_impatient(t.claims_since) && is_looked_at
        });
        tasks.sort_by_key(|id| (self.tasks[id].wish.priority, *id));
        let since = |id: &i64| self.tasks[id].claims_since.unwrap_or(now);
        let oldest_task = tasks.iter().map(since).min().unwrap_or(i64::MAX);
        let firsts = queue.chain(tasks.into_iter().map(|id| self.impatient(id))).collect();
        Line { firsts, oldest_task }
    }

    pub(super) fn is_impatient(&self, since: Option<i64>) -> bool {
        since.is_some_and(|since| since <= self.now - PATIENCE_MS)
    }

    fn impatient(&self, id: i64) -> First {
        let task = &self.tasks[&id];
        First {
            place: Place::Task(task.wish.priority, id),
            who: format!("task {id}"),
            resources: resources(&task.wish.claims),
            mode: Mode::Exclusive,
            since: task.claims_since.unwrap_or(self.now),
        }
    }

    /// Keeps later wishes out on behalf of a task that a take passed over.
    pub(super) fn join_line(&self, line: &mut Line, id: i64) {
        line.firsts.push(self.impatient(id));
    }

    pub(super) fn refusal(
        &self,
        line: &Line,
        agent: &str,
        wanted: &[Resource],
        mode: Mode,
        place: Place,
    ) -> Option<Refusal> {
        let held = self.live().filter(|claim| claim.agent != agent).find_map(|claim| {
            let resource = wanted.iter().find(|r| conflict(r, mode, &claim.resource, claim.mode))?;
            let (wanted, name) = (resource.to_string(), claim.resource.to_string());
            Some(Refusal::Held { wanted, name, by: claim.agent, task: claim.task })
        });
        held.or_else(|| {
            let ahead = |first: &&First| line.is_before(first, agent, place) && !self.is_needed(first, agent);
            line.firsts.iter().filter(ahead).find_map(|first| {
                let resource = wanted.iter().find(|r| first.wants(r, mode))?;
                Some(Refusal::Behind { wanted: resource.to_string(), who: first.who.clone() })
            })
        })
    }

    /// Returns whether someone waits for what the agent holds: to be kept out by him would be a circle.
    fn is_needed(&self, first: &First, agent: &str) -> bool {
        self.live().any(|claim| claim.agent == agent && first.wants(&claim.resource, claim.mode))
    }

    pub(super) fn claim(&mut self, wish: &ClaimWish) -> Answer {
        if let Some((id, term)) = wish.task {
            self.running(id, term)?;
            if self.task(id)?.owner != Some(wish.agent) {
                return Err(Kind::Conflict);
            }
        }
        let wanted = resources(&wish.resources);
        let place = wish.place.map_or(Place::Last, Place::Queue);
        if self.refusal(&self.line(), wish.agent, &wanted, wish.mode, place).is_some() {
            return self.wait(wish, wanted);
        }
        let task = wish.task.map(|(id, _)| id);
        let terms: Vec<String> = wanted
            .into_iter()
            .map(|r| self.make_claim(wish.agent, r, wish.mode, wish.ttl_ms, task, false).to_string())
            .collect();
        self.waits.retain(|w| Some(w.place) != wish.place || w.agent != wish.agent);
        Ok(format!("claimed {}", terms.join(" ")))
    }

    fn wait(&mut self, wish: &ClaimWish, resources: Vec<Resource>) -> Answer {
        let Some(wait_ms) = wish.wait_ms else { return Err(Kind::Conflict) };
        let now = self.now;
        let own = self.waits.iter_mut().find(|w| Some(w.place) == wish.place && w.agent == wish.agent);
        if let Some(waiter) = own {
            waiter.seen_at = now;
            let is_in_time = waiter.deadline > now;
            return is_in_time.then(|| format!("waits {}", waiter.place)).ok_or(Kind::Conflict);
        }
        self.waits_made += 1;
        let (place, agent, mode) = (self.waits_made, wish.agent, wish.mode);
        let deadline = now + wait_ms;
        self.waits.push(Waiter { place, agent, resources, mode, since: now, seen_at: now, deadline });
        Ok(format!("waits {place}"))
    }

    pub(super) fn leave(&mut self, agent: &str, place: i64) -> String {
        self.waits.retain(|waiter| waiter.place != place || waiter.agent != agent);
        "left".into()
    }

    /// Makes a claim, or renews the same one, which is bound if it was.
    pub(super) fn make_claim(
        &mut self,
        agent: &'static str,
        resource: Resource,
        mode: Mode,
        ttl_ms: i64,
        task: Option<i64>,
        is_bound: bool,
    ) -> i64 {
        let expires_at = self.now + ttl_ms;
        let is_same = |c: &&Claim| {
            c.agent == agent && c.resource == resource && c.mode == mode && c.task == task && c.left.is_none()
        };
        let own = self.live().find(is_same).map(|claim| claim.term);
        if let Some(term) = own {
            let claim = self.claims.iter_mut().find(|claim| claim.term == term).expect("found above");
            claim.expires_at = expires_at;
            return term;
        }
        self.claims_made += 1;
        let term = self.claims_made;
        self.claims.push(Claim { term, resource, agent, task, mode, is_bound, left: None, expires_at });
        term
    }

    pub(super) fn renew_claims(&mut self, terms: &[i64], ttl_ms: i64) -> String {
        let now = self.now;
        let alive = self.claims.iter_mut().filter(|c| terms.contains(&c.term) && c.expires_at > now);
        let kept: Vec<i64> = alive
            .map(|claim| {
                claim.expires_at = now + ttl_ms;
                claim.term
            })
            .collect();
        format!("kept {kept:?}")
    }

    /// Renews what is held for a task. What has expired is not brought back to life.
    pub(super) fn extend_claims(&mut self, id: i64, until: i64) {
        let now = self.now;
        let is_alive = |c: &&mut Claim| c.left.is_none() && (c.is_bound || c.expires_at > now);
        for claim in self.claims.iter_mut().filter(|c| c.task == Some(id)).filter(is_alive) {
            claim.expires_at = claim.expires_at.max(until);
        }
    }

    /// Keeps what is alive until the check is settled: the work is not done before.
    pub(super) fn bind_claims(&mut self, id: i64) {
        let now = self.now;
        let is_its_own = |c: &&mut Claim| c.task == Some(id) && c.left.is_none() && c.expires_at > now;
        for claim in self.claims.iter_mut().filter(is_its_own) {
            claim.is_bound = true;
        }
    }

    pub(super) fn drop_claims(&mut self, id: i64) {
        self.claims.retain(|claim| claim.task != Some(id) || claim.left.is_some());
    }

    pub(super) fn drop_claims_of(&mut self, agent: &str) {
        self.claims.retain(|claim| claim.agent != agent || claim.task.is_some());
    }

    /// A holding that was taken away: under a supervisor its child may still run until the lease would have ended.
    pub(super) fn leave_claims(&mut self, id: i64) {
        let (task, now) = (&self.tasks[&id], self.now);
        let (Some(until), Some(_)) = (task.lease_until, task.node) else { return self.drop_claims(id) };
        let term = task.term;
        let is_alive = |c: &&mut Claim| c.left.is_none() && (c.is_bound || c.expires_at > now);
        for claim in self.claims.iter_mut().filter(|c| c.task == Some(id)).filter(is_alive) {
            (claim.left, claim.is_bound, claim.expires_at) = (Some(term), false, until);
        }
        self.drop_claims(id);
    }

    pub(super) fn gone(&mut self, id: i64, term: i64) -> String {
        self.claims.retain(|claim| claim.task != Some(id) || claim.left != Some(term));
        "gone".into()
    }

    pub(super) fn release_claim(&mut self, agent: &str, resource: &str, term: Option<i64>) -> Answer {
        let named: Vec<&Claim> = self.live().filter(|claim| claim.resource.as_str() == resource).collect();
        let own: Vec<i64> = named.iter().filter(|c| c.agent == agent).map(|claim| claim.term).collect();
        let ended: Vec<i64> = match term {
            Some(term) if own.contains(&term) => vec![term],
            Some(_) => return Err(Kind::Stale),
            None if !own.is_empty() => own,
            None if named.is_empty() => return Err(Kind::NotFound),
            None => return Err(Kind::Conflict),
        };
        self.claims.retain(|claim| !ended.contains(&claim.term));
        Ok(format!("released {}", ended.len()))
    }

    pub(super) fn force_release(&mut self, resource: &str) -> Answer {
        let ended: Vec<i64> =
            self.live().filter(|claim| claim.resource.as_str() == resource).map(|claim| claim.term).collect();
        if ended.is_empty() {
            return Err(Kind::NotFound);
        }
        self.claims.retain(|claim| !ended.contains(&claim.term));
        Ok(format!("released {}", ended.len()))
    }

    /// Forgets claims whose time is over, and who no longer waits; answers with the number of claims.
    pub(super) fn expire(&mut self) -> usize {
        let now = self.now;
        self.waits.retain(|w| w.deadline >= now && w.seen_at >= now - WAITER_GONE_MS);
        let alive: Vec<i64> = self.live().map(|claim| claim.term).collect();
        let expired = self.claims.len() - alive.len();
        self.claims.retain(|claim| alive.contains(&claim.term));
        expired
    }

    pub(super) fn live(&self) -> impl Iterator<Item = &Claim> {
        self.claims.iter().filter(|claim| claim.expires_at > self.now || self.is_kept_by_task(claim))
    }

    fn is_kept_by_task(&self, claim: &Claim) -> bool {
        let task = claim.task.and_then(|id| self.tasks.get(&id));
        claim.is_bound && task.is_some_and(|t| matches!(t.state, TaskState::Running | TaskState::Verifying))
    }

    pub(super) fn claim_rows(&self) -> Vec<ClaimRow> {
        let row = |claim: &Claim| ClaimRow {
            id: claim.term,
            resource: claim.resource.to_string(),
            agent: claim.agent.into(),
            task: claim.task,
            mode: claim.mode.as_str().into(),
            bound: claim.is_bound,
            left_term: claim.left,
            expires_at: claim.expires_at,
        };
        self.live().map(row).collect()
    }

    pub(super) fn wait_rows(&self) -> Vec<WaitRow> {
        let row = |w: &Waiter| WaitRow {
            id: w.place,
            agent: w.agent.into(),
            seen_at: w.seen_at,
            deadline: w.deadline,
        };
        self.waits.iter().map(row).collect()
    }
}

/// Reads names, each once.
pub(super) fn resources(names: &[&'static str]) -> Vec<Resource> {
    let mut read = Vec::<Resource>::new();
    for name in names {
        let resource = Resource::parse(name, None).expect("the test's names are resources");
        if !read.contains(&resource) {
            read.push(resource);
        }
    }
    read
}

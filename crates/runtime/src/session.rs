//! One agent's session: take a task, run the attempt, again, until told to stop.
//!
//! Here lives the loop and its beginning and end in the ledger. What an attempt is lives in `attempt`.

use crate::attempt;
use crate::node::Shared;
use crate::stop::{Level, Stop};
use crate::team::Member;
use quorate_model::config::Limits;
use quorate_model::{Kind, Result};
use quorate_service::agent::{Begin, End};
use quorate_service::task::{StillRests, Take, TakeAnswer};
use quorate_service::token::Token;
use quorate_store::{Changes, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Without a hint of a change, an idle agent looks this often.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// However soon there may be something, it does not look again at once.
const LOOK_LEAST: Duration = Duration::from_millis(10);
/// Without a hint of a change, an agent that rests because of a limit asks this often whether it is to go on.
const REST_LOOK_EVERY: Duration = Duration::from_secs(30);
/// However much happens, it asks no more often than this.
const REST_LEAST: Duration = Duration::from_secs(1);
/// How long an agent rests when the ledger cannot be reached.
const AWAY: Duration = Duration::from_secs(1);

/// An agent at work in this node.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) shared: Arc<Shared>,
    pub(crate) member: Member,
    /// The member's name, or `NAME@NODE` when that name is at work elsewhere.
    pub(crate) name: String,
    pub(crate) stop: Stop,
    /// By which the network knows this session, if the node is asked over the network.
    pub(crate) token: Option<Token>,
    /// The budgets that it works under.
    pub(crate) limits: Limits,
    /// The ledger may have given it a task that it has not heard of.
    resumes: bool,
}

impl Session {
    pub(crate) async fn begin(shared: Arc<Shared>, member: Member, stop: Stop) -> Result<Session> {
        let (name, limits) = (member.name.clone(), shared.config.limits(&member.name));
        let token = shared.door.as_ref().map(|_| Token::fresh()).transpose()?;
        let mut session = Session { shared, member, name, stop, token, limits, resumes: false };
        session.register().await?;
        Ok(session)
    }

    /// Begins its session in the ledger, under its member's name where that is free.
    async fn register(&mut self) -> Result<()> {
        self.shared.renewer.remove_agent(&self.name);
        let before = std::mem::replace(&mut self.name, self.member.name.clone());
        let mut asked = Instant::now();
        match self.register_name().await {
            Err(error) if error.kind == Kind::Conflict => {
                self.name = format!("{}@{}", self.member.name, self.shared.node);
                asked = Instant::now();
                self.register_name().await?;
            }
            other => other?,
        }
        self.shared.renewer.add_agent(&self.name, asked + self.shared.lease());
        if before != self.name && before != self.member.name {
            // Its own name is free again: what it was called meanwhile leaves the team, at the latest with the node.
            let _ = self.write(End { name: before, node: self.shared.node.clone() }).await;
        }
        Ok(())
    }

    /// Begins it anew where it may have ended: another node may have taken the name since.
    async fn stay_registered(&mut self) -> Result<()> {
        if self.shared.renewer.keeps_agent(&self.name) { Ok(()) } else { self.register().await }
    }

    async fn register_name(&self) -> Result<()> {
        let begin = Begin {
            name: self.name.clone(),
            driver: self.member.driver.clone(),
            capabilities: self.member.stored_capabilities(),
            takes: self.member.kinds,
            node: self.shared.node.clone(),
            host: self.shared.host.clone(),
            pid: std::process::id().into(),
            lease_ms: self.shared.config.health.lease_ms,
            token: self.token.as_ref().map(Token::digest),
        };
        self.write(begin).await.map(drop)
    }

    pub(crate) async fn serve(mut self) {
        let mut changes = self.shared.store.changes();
        while self.stop.level() == Level::Go {
            let registered = self.stay_registered().await;
            let asked = Instant::now();
            let taken = match registered {
                Ok(()) => self.take().await,
                Err(error) => Err(error),
            };
            match taken {
                Ok(TakeAnswer::Task(taken)) => attempt::run(&mut self, *taken, asked).await,
                Ok(TakeAnswer::Nothing { again_in_ms }) => self.wait(&mut changes, pause(again_in_ms)).await,
                Err(error) => {
                    self.shared.say(format!("{}: {error}", self.name));
                    self.rest(AWAY).await;
                }
            }
        }
        self.shared.renewer.remove_agent(&self.name);
        // The lease of the session ends by itself if the ledger cannot be told.
        let end = End { name: self.name.clone(), node: self.shared.node.clone() };
        let _ = self.write(end).await;
    }

    async fn take(&mut self) -> Result<TakeAnswer> {
        let take = Take {
            agent: self.name.clone(),
            capabilities: self.member.capabilities.clone(),
            kinds: self.member.kinds,
            run: self.shared.run,
            lease_ms: self.shared.config.health.lease_ms,
            node: Some(self.shared.node.clone()),
            resume: self.resumes,
            limits: self.limits,
        };
        let taken = self.write(take).await;
        self.resumes = taken.is_err();
        taken
    }

    /// Writes for as long as there is time: a silent ledger must not keep a node that is to stop.
    pub(crate) async fn write<W: Write>(&self, work: W) -> Result<W::Answer> {
        self.stop.in_time(self.shared.store.write(work)).await
    }

    /// Writes what is to be heard; see [`Shared::insist`].
    pub(crate) async fn insist<W: Write + Clone>(&self, work: &W) -> Result<W::Answer> {
        self.shared.insist(&self.name, &self.stop, work).await
    }

    async fn wait(&mut self, changes: &mut Changes, limit: Duration) {
        tokio::select! {
            () = changes.wait(limit) => {}
            () = self.stop.reached(Level::Finish) => {}
        }
    }

    /// Does nothing for a while, unless told to stop, or somebody lets the task or this agent go on. A hint of that may be lost, so
    /// the ledger is also asked now and then; while it is away, the rest goes on.
    pub(crate) async fn rest_while(&mut self, parked: StillRests, pause: Duration) {
        let mut changes = self.shared.store.changes();
        let until = Instant::now() + pause;
        let left = || until.saturating_duration_since(Instant::now());
        while !left().is_zero() && self.stop.level() == Level::Go {
            if let Ok(false) = self.stop.in_time(self.shared.store.read(parked.clone())).await {
                return;
            }
            self.rest(REST_LEAST.min(left())).await;
            self.wait(&mut changes, REST_LOOK_EVERY.min(left())).await;
        }
    }

    /// Does nothing for a while, unless told to stop.
    pub(crate) async fn rest(&mut self, pause: Duration) {
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = self.stop.reached(Level::Finish) => {}
        }
    }
}

impl Drop for Session {
    /// Whatever ended it: an agent that nobody serves any more must not look alive, or what is meant for it would wait.
    fn drop(&mut self) {
        self.shared.renewer.remove_agent(&self.name);
        if std::thread::panicking() {
            let mend = "its tasks go to others when their leases end; start the node again";
            self.shared.say(format!("{}: ended by a fault of this program: {mend}", self.name));
        }
    }
}

/// How long an agent that found nothing rests without a hint: no hint tells that a task is no longer left to others.
fn pause(again_in_ms: Option<i64>) -> Duration {
    let again = again_in_ms.and_then(|ms| u64::try_from(ms).ok()).map(Duration::from_millis);
    again.map_or(LOOK_EVERY, |again| again.clamp(LOOK_LEAST, LOOK_EVERY))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_lasts_until_a_task_may_be_taken_within_its_bounds() {
        let check = |again, expected| assert_eq!(pause(again), Duration::from_millis(expected));
        check(None, 5_000);
        check(Some(1_900), 1_900);
        check(Some(60_000), 5_000);
        check(Some(i64::MAX), 5_000);
        check(Some(0), 10);
        check(Some(-1), 5_000);
    }
}

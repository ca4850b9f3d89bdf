//! Claims: leases on named resources.

use super::{duration_of, wait_of, words_of};
use crate::ask::Ask;
use crate::caller::Caller;
use crate::desk::{CLAIM_MS, Desk, Watch, claimable};
use axum::http::Method;
use quorate_model::resource::Mode;
use quorate_model::{Error, Result, TaskId, Term};
use quorate_service::claim::{Release, Releaser, Take};
use quorate_service::view;
use quorate_service::wire::{self, shapes};
use schemars::JsonSchema;
use serde::Deserialize;

/// Lists claims
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ClaimList {
    /// Only of this agent
    agent: Option<String>,
}

impl Ask for ClaimList {
    const METHOD: Method = Method::GET;
    const PATH: &'static str = "/claims";
    const NAME: &'static str = "listClaims";
    const ABOUT: &'static str = "Lists what is claimed, the oldest first";
    type Answer = Vec<wire::Claim>;

    async fn answer(self, desk: &Desk, _: &Caller) -> Result<Vec<wire::Claim>> {
        Ok(shapes(&desk.store().read(view::Claims { agent: self.agent }).await?))
    }
}

/// Claims resources
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ClaimTake {
    /// Paths, globs, or names such as port:8080
    pub(crate) resources: Vec<String>,
    /// Who claims; an agent's own token says it by itself
    pub(crate) agent: Option<String>,
    /// The task they are for …
    pub(crate) task_id: Option<i64>,
    /// … and the term under which it was taken
    pub(crate) term: Option<i64>,
    /// How long they are held; 15m if not said
    pub(crate) ttl: Option<String>,
    /// Whether others may share them
    #[serde(default)]
    pub(crate) shared: bool,
    /// How long to wait for them; at most 1h
    pub(crate) wait: Option<String>,
}

impl Ask for ClaimTake {
    const METHOD: Method = Method::POST;
    const PATH: &'static str = "/claims";
    const NAME: &'static str = "claim";
    const ABOUT: &'static str = "Claims resources, all or none";
    type Answer = Vec<wire::Claim>;

    async fn answer(self, desk: &Desk, by: &Caller) -> Result<Vec<wire::Claim>> {
        self.take(desk, by, |wait| Watch::new(desk.store(), Some(wait))).await
    }
}

impl ClaimTake {
    /// Claims them; who waits does so by a watch of his door.
    pub(crate) async fn take(
        self,
        desk: &Desk,
        by: &Caller,
        watch: impl FnOnce(i64) -> Watch,
    ) -> Result<Vec<wire::Claim>> {
        let resources = wanted(desk, &self.resources)?;
        let task = match (self.task_id, self.term) {
            (Some(id), Some(term)) => Some((TaskId(id), Term(term))),
            (None, None) => None,
            _ => return Err(Error::invalid("`task_id` and `term` go together")),
        };
        let ttl_ms = self.ttl.map_or(Ok(CLAIM_MS), |text| duration_of("ttl", &text))?;
        let wait_ms = self.wait.map(|text| wait_of("wait", &text)).transpose()?;
        let agent = by.acts_as(self.agent)?;
        desk.seen(&agent).await?;
        let mode = if self.shared { Mode::Shared } else { Mode::Exclusive };
        let take = Take { agent, resources, mode, ttl_ms, task, wait_ms, place: None };
        Ok(shapes(&desk.claim(take, wait_ms.map(watch)).await?))
    }
}

fn wanted(desk: &Desk, names: &[String]) -> Result<Vec<String>> {
    if names.is_empty() {
        return Err(Error::invalid("`resources` is empty"));
    }
    super::field("resources", claimable(names, desk.folder()))
}

/// Releases resources
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ClaimRelease {
    /// What is released
    pub(crate) resources: Vec<String>,
    /// Who held it; an agent's own token says it by itself
    pub(crate) agent: Option<String>,
    /// The term under which it was claimed
    pub(crate) term: Option<i64>,
    /// Whoever holds it: a person takes it away, and says why
    pub(crate) reason: Option<String>,
}

impl Ask for ClaimRelease {
    const METHOD: Method = Method::POST;
    const PATH: &'static str = "/claims/release";
    const NAME: &'static str = "release";
    const ABOUT: &'static str =
        "Releases what an agent holds, or, with a reason and no agent, whoever holds it";
    type Answer = Vec<wire::Claim>;

    async fn answer(self, desk: &Desk, by: &Caller) -> Result<Vec<wire::Claim>> {
        let resources = wanted(desk, &self.resources)?;
        let releaser = match (self.agent, self.reason) {
            (Some(_), Some(_)) => {
                return Err(Error::invalid("`reason` is for a release by force, without `agent`"));
            }
            (None, Some(reason)) => {
                by.must_be_person("take claims from others")?;
                Releaser::Force { reason: words_of("reason", reason)? }
            }
            (agent, None) => {
                let agent = by.acts_as(agent)?;
                desk.seen(&agent).await?;
                Releaser::Holder { agent, term: self.term.map(Term) }
            }
        };
        Ok(shapes(&desk.store().write(Release { resources, by: releaser }).await?))
    }
}

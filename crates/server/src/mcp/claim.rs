//! Claims: leases on named resources.

use super::tool::{Tool, Turn, WAIT_MAX_MS};
use crate::desk::{CLAIM_MS, claimable};
use crate::http::{field, lease_of, wait_of};
use quorate_model::resource::Mode;
use quorate_model::{Error, Result, TaskId, Term};
use quorate_service::claim::{self as service, Releaser};
use quorate_service::wire;
use schemars::JsonSchema;
use serde::Deserialize;

/// Claims resources
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Claim {
    /// Paths (src/a.rs), globs (src/**), symbols (src/a.rs::main) or names (port:8080, deploy:prod)
    resources: Vec<String>,
    /// Your task: the claims end with it …
    task_id: Option<i64>,
    /// … and its term
    term: Option<i64>,
    /// How long you hold them, such as 30m; 15m if not said
    ttl: Option<String>,
    /// Others may share them: for reading
    #[serde(default)]
    shared: bool,
    /// How long to wait for them, such as 5m
    wait: Option<String>,
    /// Your name, if you have no token
    agent: Option<String>,
}

impl Tool for Claim {
    const NAME: &'static str = "claim";
    const ABOUT: &'static str = "Claims files or other resources for you, all or none, so that nobody else changes them meanwhile. If \
another holds one, the answer says who and until when. Claims of a task come with the task.";

    async fn call(self, turn: &Turn) -> Result<String> {
        let resources = wanted(turn, &self.resources)?;
        let task = match (self.task_id, self.term) {
            (Some(id), Some(term)) => Some((TaskId(id), Term(term))),
            (None, None) => None,
            _ => return Err(Error::invalid("`task_id` and `term` go together")),
        };
        let ttl_ms = self.ttl.map_or(Ok(CLAIM_MS), |text| lease_of("ttl", &text))?;
        let wait_ms = self.wait.map(|text| wait_of("wait", &text)).transpose()?;
        let wait_ms = wait_ms.map(|ms| ms.min(WAIT_MAX_MS));
        let agent = turn.acts_as(self.agent)?;
        turn.desk.seen(&agent).await?;
        let mode = if self.shared { Mode::Shared } else { Mode::Exclusive };
        let take = service::Take { agent, resources, mode, ttl_ms, task, wait_ms, place: None };
        let claims = turn.desk.claim(take, wait_ms.map(|wait| turn.watch(wait))).await?;
        let list: Vec<String> = claims
            .iter()
            .map(wire::Claim::from)
            .map(|claim| format!("{} until {}", claim.resource, claim.expires_at.unwrap_or_default()))
            .collect();
        Ok(format!("yours: {}", list.join(", ")))
    }
}

fn wanted(turn: &Turn, names: &[String]) -> Result<Vec<String>> {
    if names.is_empty() {
        return Err(Error::invalid("`resources` is empty"));
    }
    field("resources", claimable(names, turn.desk.folder()))
}

/// Releases resources
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Release {
    /// What is released, as it was claimed
    resources: Vec<String>,
    /// Your name, if you have no token
    agent: Option<String>,
}

impl Tool for Release {
    const NAME: &'static str = "release";
    const ABOUT: &'static str = "Gives up what you have claimed, so that others can have it. Claims of a task end with it by \
themselves.";

    async fn call(self, turn: &Turn) -> Result<String> {
        let resources = wanted(turn, &self.resources)?;
        let agent = turn.acts_as(self.agent)?;
        turn.desk.seen(&agent).await?;
        let by = Releaser::Holder { agent, term: None };
        let released = turn.desk.store().write(service::Release { resources, by }).await?;
        let list: Vec<&str> = released.iter().map(|claim| claim.resource.as_str()).collect();
        Ok(format!("released: {}", list.join(", ")))
    }
}

//! Claims: leases on named resources.

use super::tool::{Tool, Turn};
use crate::ask::Ask;
use crate::http::claim::{ClaimRelease, ClaimTake};
use quorate_model::Result;
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
    /// How long to wait for them, such as 5m; at most 1h
    wait: Option<String>,
    /// Your name, if you have no token
    agent: Option<String>,
}

impl Tool for Claim {
    const NAME: &'static str = "claim";
    const ABOUT: &'static str = "Claims files or other resources for you, all or none, so that nobody else changes them meanwhile. If \
another holds one, the answer says who and until when. Claims of a task come with the task.";

    async fn call(self, turn: &Turn) -> Result<String> {
        let asked = ClaimTake {
            resources: self.resources,
            agent: Some(turn.acts_as(self.agent)?),
            task_id: self.task_id,
            term: self.term,
            ttl: self.ttl,
            shared: self.shared,
            wait: self.wait,
        };
        let claims = asked.take(&turn.desk, &turn.caller, |wait| turn.watch(wait)).await?;
        let list: Vec<String> = claims
            .into_iter()
            .map(|claim| format!("{} until {}", claim.resource, claim.expires_at.unwrap_or_default()))
            .collect();
        Ok(format!("yours: {}", list.join(", ")))
    }
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
        let agent = Some(turn.acts_as(self.agent)?);
        let asked = ClaimRelease { resources: self.resources, agent, term: None, reason: None };
        let released = asked.answer(&turn.desk, &turn.caller).await?;
        let list: Vec<&str> = released.iter().map(|claim| claim.resource.as_str()).collect();
        Ok(format!("released: {}", list.join(", ")))
    }
}

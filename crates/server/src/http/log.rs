//! Lines of an agent's own in the log.

use super::words_of;
use crate::ask::Ask;
use crate::caller::Caller;
use crate::desk::{CLAIM_MS, Desk, resource};
use axum::http::Method;
use quorate_model::Result;
use quorate_service::log::Line;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A line for the log
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct LogLine {
    /// Who writes; an agent's own token says it by itself
    agent: Option<String>,
    /// Any word; claim, release, complete, help, startup, idle and error do what they say
    action: String,
    /// Any word
    status: Option<String>,
    /// The resource it is about
    resource: Option<String>,
    /// Percent
    progress: Option<i64>,
    /// Further facts: a JSON object
    metadata: Option<Value>,
    /// The words
    message: String,
}

/// That a line was written
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Logged {
    /// Always true
    logged: bool,
}

impl Ask for LogLine {
    const METHOD: Method = Method::POST;
    const PATH: &'static str = "/log";
    const NAME: &'static str = "log";
    const ABOUT: &'static str = "Writes a line into the log";
    type Answer = Logged;

    async fn answer(self, desk: &Desk, by: &Caller) -> Result<Logged> {
        let resource =
            self.resource.map(|name| super::field("resource", resource(&name, desk.folder()))).transpose()?;
        let (action, message) = (words_of("action", self.action)?, words_of("message", self.message)?);
        let agent = by.acts_as(self.agent)?;
        desk.seen(&agent).await?;
        let (status, progress, metadata) = (self.status, self.progress, self.metadata);
        desk.log(Line { agent, action, status, resource, progress, metadata, message, ttl_ms: CLAIM_MS })
            .await?;
        Ok(Logged { logged: true })
    }
}

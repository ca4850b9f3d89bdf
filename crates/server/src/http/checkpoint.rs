//! Checkpoints: states to go on from after `/clear`, a crash or a reboot.

use crate::ask::Ask;
use crate::caller::Caller;
use crate::desk::Desk;
use crate::grammar::blank;
use axum::http::Method;
use quorate_model::{CheckpointId, Error, Result, RunId};
use quorate_service::checkpoint::{List, Save, Show};
use quorate_service::wire::{self, shapes};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

/// A state to save
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CheckpointSave {
    /// Whose state it is; an agent's own token says it by itself
    agent: Option<String>,
    /// The run it is about
    run_id: Option<i64>,
    /// The state: words, or any JSON
    #[schemars(extend("not" = blank()))]
    state: Value,
}

impl Ask for CheckpointSave {
    const METHOD: Method = Method::POST;
    const PATH: &'static str = "/checkpoints";
    const NAME: &'static str = "saveCheckpoint";
    const ABOUT: &'static str = "Saves a state to go on from";
    type Answer = super::Id;

    async fn answer(self, desk: &Desk, by: &Caller) -> Result<super::Id> {
        if self.state.is_null() || self.state.as_str().is_some_and(|text| text.trim().is_empty()) {
            return Err(Error::invalid("`state` is empty"));
        }
        let agent = by.acts_as(self.agent)?;
        desk.seen(&agent).await?;
        let save = Save { agent, run: self.run_id.map(RunId), state: self.state };
        Ok(super::Id { id: desk.store().write(save).await?.0 })
    }
}

/// Lists saved states
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CheckpointList {
    /// Only of this agent
    agent: Option<String>,
    /// Only about this run
    run_id: Option<i64>,
}

impl Ask for CheckpointList {
    const METHOD: Method = Method::GET;
    const PATH: &'static str = "/checkpoints";
    const NAME: &'static str = "listCheckpoints";
    const ABOUT: &'static str = "Lists saved states, the latest first";
    type Answer = Vec<wire::Checkpoint>;

    async fn answer(self, desk: &Desk, _by: &Caller) -> Result<Vec<wire::Checkpoint>> {
        desk.catch_up().await?;
        let list = List { agent: self.agent, run: self.run_id.map(RunId), told: false, limit: None };
        Ok(shapes(&desk.store().read(list).await?))
    }
}

/// Shows a saved state
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CheckpointShow {
    /// Which
    id: i64,
}

impl Ask for CheckpointShow {
    const METHOD: Method = Method::GET;
    const PATH: &'static str = "/checkpoints/{id}";
    const NAME: &'static str = "showCheckpoint";
    const ABOUT: &'static str = "Shows a saved state";
    type Answer = wire::Checkpoint;

    async fn answer(self, desk: &Desk, _by: &Caller) -> Result<wire::Checkpoint> {
        Ok((&desk.store().read(Show { id: CheckpointId(self.id) }).await?).into())
    }
}

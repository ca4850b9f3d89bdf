//! One look at everything.

use crate::ask::Ask;
use crate::caller::Caller;
use crate::desk::Desk;
use axum::http::Method;
use quorate_model::Result;
use quorate_service::{view, wire};
use schemars::JsonSchema;
use serde::Deserialize;

/// Looks at everything
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Status {}

impl Ask for Status {
    const METHOD: Method = Method::GET;
    const PATH: &'static str = "/status";
    const NAME: &'static str = "status";
    const ABOUT: &'static str = "One look at everything: the team, tasks by state, runs";
    type Answer = wire::Status;

    async fn answer(self, desk: &Desk, _: &Caller) -> Result<wire::Status> {
        Ok((&desk.store().read(view::Status).await?).into())
    }
}

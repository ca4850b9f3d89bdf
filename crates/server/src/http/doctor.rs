//! What is wrong where the door is, and what mends it.

use crate::ask::Ask;
use crate::caller::Caller;
use crate::desk::Desk;
use axum::http::Method;
use quorate_model::Result;
use quorate_service::wire;
use schemars::JsonSchema;
use serde::Deserialize;

/// Looks what is wrong
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Doctor {}

impl Ask for Doctor {
    const METHOD: Method = Method::GET;
    const PATH: &'static str = "/doctor";
    const NAME: &'static str = "doctor";
    const ABOUT: &'static str = "What is wrong on the machine that answers, and the commands that mend it";
    type Answer = wire::Diagnosis;

    async fn answer(self, desk: &Desk, by: &Caller) -> Result<wire::Diagnosis> {
        by.must_be_person("look at the machine")?;
        desk.diagnosis().await
    }
}

//! `quorate mcp`: the tools for agents, on standard input and output.
//!
//! Here lives who speaks: the agent that is named, or whose child this is; else the person whose program started it, under
//! that program's name.

use crate::args;
use crate::claude;
use crate::place::Place;
use quorate_model::Result;
use quorate_model::name::check_agent;
use quorate_server::{Caller, Mcp, Namer};
use quorate_store::Store;
use std::sync::Arc;

pub(crate) async fn mcp(place: &Place, args: &args::Mcp) -> Result<u8> {
    let caller = caller(args.agent.clone().or_else(|| place.variable("QUORATE_AGENT")))?;
    let store = place.open().await?;
    Mcp::new(place.desk(&store), caller, Some(namer(place.clone(), store))).serve().await?;
    Ok(0)
}

/// Finds the agent whose Claude Code session has started this process: its hooks may tell of it only after us.
fn namer(place: Place, store: Store) -> Namer {
    Arc::new(move || {
        let (place, store) = (place.clone(), store.clone());
        // Without an answer the program's own name stands in.
        Box::pin(async move { claude::found(&place, &store).await.ok().flatten() })
    })
}

fn caller(agent: Option<String>) -> Result<Caller> {
    let Some(agent) = agent else { return Ok(Caller::Person) };
    check_agent(&agent)?;
    Ok(Caller::Agent(agent))
}

//! `quorate mcp`: the tools for agents, on standard input and output.
//!
//! Here lives who speaks: the agent that is named, or whose child this is; else the person whose program started it, under
//! that program's name.

use crate::args;
use crate::place::Place;
use quorate_model::Result;
use quorate_model::name::check_name;
use quorate_server::{Caller, Mcp};

pub(crate) async fn mcp(place: &Place, args: &args::Mcp) -> Result<u8> {
    let caller = caller(args.agent.clone().or_else(|| place.variable("QUORATE_AGENT")))?;
    let store = place.open().await?;
    Mcp::new(place.desk(&store), caller, None).serve().await?;
    Ok(0)
}

fn caller(agent: Option<String>) -> Result<Caller> {
    let Some(agent) = agent else { return Ok(Caller::Person) };
    check_name("agent", &agent)?;
    Ok(Caller::Agent(agent))
}

//! `quorate log`: a line of an agent's own; some actions do what they say.

use crate::args::Log;
use crate::place::Place;
use crate::print;
use quorate_model::{Error, Result};
use quorate_server::CLAIM_MS;
use quorate_service::log::Line;
use serde_json::{Value, json};

pub(crate) async fn log(place: &Place, args: Log, json: bool) -> Result<u8> {
    let metadata = args.metadata.as_deref().map(read_metadata).transpose()?;
    let resource = args.resource.as_deref().map(|name| place.resource(name)).transpose()?;
    let store = place.open().await?;
    place.desk(&store).seen(&args.agent).await?;
    let line = Line {
        agent: args.agent,
        action: args.action,
        status: Some(args.status),
        resource,
        progress: args.progress,
        metadata,
        message: args.message,
        ttl_ms: CLAIM_MS,
    };
    place.desk(&store).log(line).await?;
    print::answer(json, || json!({ "logged": true }), || "logged".into());
    Ok(0)
}

fn read_metadata(text: &str) -> Result<Value> {
    serde_json::from_str(text).map_err(|e| {
        Error::invalid(format!("--metadata is not JSON: {e}")).hint("--metadata '{\"key\": \"value\"}'")
    })
}

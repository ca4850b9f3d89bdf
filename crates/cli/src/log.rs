//! `quorate log`: a line of an agent's own; some actions do what they say.

use crate::args::Log;
use crate::place::Place;
use crate::{agent, print, task};
use quorate_model::{Error, Result};
use quorate_service::log::Line;
use quorate_store::Store;
use serde_json::{Value, json};

/// How long a claim that was made by a line is held, in milliseconds: as `quorate claim` does.
const TTL_MS: i64 = 15 * 60 * 1000;

pub(crate) async fn log(place: &Place, args: Log, json: bool) -> Result<u8> {
    let metadata = args.metadata.as_deref().map(read_metadata).transpose()?;
    let resource = args.resource.as_deref().map(|name| place.resource(name)).transpose()?;
    let store = place.open().await?;
    agent::seen(place, &store, &args.agent).await?;
    add_helper(place, &store, &args.action, metadata.as_ref()).await?;
    let line = Line {
        agent: args.agent,
        action: args.action,
        status: Some(args.status),
        resource,
        progress: args.progress,
        metadata,
        message: args.message,
        ttl_ms: TTL_MS,
    };
    let may_end_a_run = line.action == "complete";
    store.write(line).await?;
    if may_end_a_run {
        task::check(place, &store).await?;
    }
    print::answer(json, || json!({ "logged": true }), || "logged".into());
    Ok(0)
}

fn read_metadata(text: &str) -> Result<Value> {
    serde_json::from_str(text).map_err(|e| {
        Error::invalid(format!("--metadata is not JSON: {e}")).hint("--metadata '{\"key\": \"value\"}'")
    })
}

/// Who is asked for help may stand in `quorate.toml` and not have been started yet.
async fn add_helper(place: &Place, store: &Store, action: &str, metadata: Option<&Value>) -> Result<()> {
    let helper = metadata.and_then(|facts| facts.get("help_needed_from")).and_then(Value::as_str);
    if let (Some(helper), "help") = (helper, action) {
        agent::add_configured(place, store, helper).await?;
    }
    Ok(())
}

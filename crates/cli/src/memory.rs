//! `quorate remember`, `recall`, `forget` and `context`.

use crate::args::{
    Consolidate as ConsolidateArgs, Context as ContextArgs, Forget as ForgetArgs, Recall as RecallArgs,
    Remember as RememberArgs,
};
use crate::place::Place;
use crate::print::style::{Colour, paint};
use crate::print::{self, time};
use quorate_model::Result;
use quorate_model::memory::{Query, excerpt};
use quorate_server::{Consolidating, Recalled};
use quorate_service::context::Context;
use quorate_service::memory::{Forget, Hit, Recall, Remember};
use quorate_service::wire;
use serde_json::json;

/// Characters of each answer that people are shown.
const SHOWN: usize = 400;
/// Characters of each answer in JSON.
const EXCERPT: usize = 1_000;

pub(crate) async fn remember(place: &Place, args: RememberArgs, json: bool) -> Result<u8> {
    let store = place.open().await?;
    place.desk(&store).seen(&args.agent).await?;
    let RememberArgs { agent, kind, tags, task, ttl, text } = args;
    let kept = store.write(Remember { agent, kind, text, tags, task, ttl_ms: ttl }).await?;
    let words = || match kept.count {
        1 => format!("kept as memory {}", kept.id),
        n => format!("memory {} says so already; told {n} times by now", kept.id),
    };
    print::answer(json, || json!({ "id": kept.id.0, "count": kept.count }), words);
    Ok(0)
}

pub(crate) async fn recall(place: &Place, args: RecallArgs, json: bool) -> Result<u8> {
    let Some(store) = place.look().await? else {
        print::answer(json, || json!([]), || place.no_ledger());
        return Ok(0);
    };
    let query = Query::parse(&args.query);
    let recall = Recall {
        query: query.clone(),
        kinds: args.kind.into_iter().collect(),
        agent: args.agent,
        run: args.run,
        meaning: None,
        limit: args.limit,
    };
    let Recalled { hits, hint } = place.desk(&store).recall(&args.query, recall).await?;
    if let Some(hint) = hint {
        print::hint(&hint);
    }
    let shapes = || hits.iter().map(|hit| wire::Hit::of(hit, &query, EXCERPT)).collect::<Vec<_>>();
    print::answer(json, shapes, || words(&hits, &query));
    Ok(0)
}

fn words(hits: &[Hit], query: &Query) -> String {
    if hits.is_empty() {
        return "nothing is known of that\n".into();
    }
    hits.iter().map(|hit| found(hit, query)).collect()
}

fn found(hit: &Hit, query: &Query) -> String {
    let memory = &hit.memory;
    let by = memory.agent.as_ref().map_or_else(String::new, |agent| format!(" by {agent}"));
    let times = if memory.count > 1 { format!(", {} times", memory.count) } else { String::new() };
    let from = memory.source.as_ref().map_or_else(String::new, |source| format!(" from {source}"));
    // Not a bare number: that would be taken for a task's.
    let head = format!("memory:{} {}{by}{from}", memory.id, memory.kind.as_str());
    let text = excerpt(&memory.text, query, SHOWN);
    format!(
        "{}  {}{times}\n{}",
        paint(Colour::Bold, &head),
        time::local(memory.seen_at),
        print::indent(&print::lines(&text), 2)
    )
}

pub(crate) async fn forget(place: &Place, args: &ForgetArgs, json: bool) -> Result<u8> {
    let store = place.open_for(format!("memory {}", args.id)).await?;
    store.write(Forget { id: args.id, by: None }).await?;
    print::answer(json, || json!({ "forgotten": args.id.0 }), || format!("memory {} is forgotten", args.id));
    Ok(0)
}

/// Asks an agent by a task which memories say the same.
pub(crate) async fn consolidate(place: &Place, args: ConsolidateArgs, json: bool) -> Result<u8> {
    let store = place.open_for("memory to consolidate").await?;
    let Consolidating { task, agent, memories, groups } =
        place.desk(&store).consolidate(args.agent, None).await?;
    let words = || format!("task {task} asks {agent} about {memories} memories in {groups} groups");
    print::answer(json, || json!({ "task_id": task.0 }), words);
    Ok(0)
}

pub(crate) async fn context(place: &Place, args: ContextArgs, json: bool) -> Result<u8> {
    let Some(store) = place.look().await? else {
        print::answer(json, || json!({}), || place.no_ledger());
        return Ok(0);
    };
    let facts = place.desk(&store).context(Context { run: args.run, agent: args.agent }).await?;
    print::answer(json, || facts.document(args.budget), || facts.text(args.budget));
    Ok(0)
}

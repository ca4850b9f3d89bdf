//! What hooks and status line do alike with a session: begin it, save its state, give its context back, clear it.

use super::me::{self, PROGRAM};
use super::pane::Pane;
use super::typist::{self, Line};
use crate::place::Place;
use quorate_model::{Result, TaskState};
use quorate_service::checkpoint::{Checkpoint, List, Save};
use quorate_service::context::{BUDGET_DEFAULT, Context};
use quorate_service::session::{Open, Session};
use quorate_service::task::Task;
use quorate_service::view::{Claims, Runs, Tasks};
use quorate_store::Store;
use serde_json::{Value, json};

/// Tasks, claims and runs that a checkpoint of ours names, of each.
const LISTED_MAX: usize = 50;
/// The longest title in it, in characters.
const TITLE_MAX: usize = 120;
/// The most of an agent's own words that is carried on, in bytes of JSON; what is longer is only named.
const SAID_MAX: usize = 32 << 10;
/// The key by which a checkpoint of ours is known: why it was saved.
const WHY: &str = "saved";

/// Begins a session that Claude Code calls so, or goes on with it; `source` is why it starts, if it does.
pub(super) async fn open(place: &Place, store: &Store, name: &str, source: Option<&str>) -> Result<Session> {
    let agent = me::named(place)?;
    let is_configured = match &agent {
        Some(agent) => place.desk(store).add_configured(agent).await?,
        None => false,
    };
    let open = Open {
        name: name.to_owned(),
        process: me::session_process()?,
        is_renamed: source.is_some_and(is_lost),
        is_same_turn: source == Some("compact"),
        agent,
        program: PROGRAM,
        strict: place.config.strict_agents && !is_configured,
    };
    store.write(open).await
}

/// Whether a session that starts for this reason has lost its context, or a part of it.
pub(super) fn is_lost(source: &str) -> bool {
    matches!(source, "clear" | "compact" | "resume" | "fork")
}

/// Has `/clear` typed into the session's pane if that is ours, its context is full, and no turn goes on: once, which the
/// typist sees to.
pub(super) fn clear(place: &Place, session: &Session) -> Result<()> {
    if session.may_be_cleared() && Pane::own().is_some() {
        typist::start(place, &session.name, Line::Clear)?;
    }
    Ok(())
}

/// Says what a session needs that does not know it (any more), as `quorate context` does.
pub(super) async fn context(place: &Place, store: &Store, agent: Option<String>) -> Result<String> {
    let facts = place.desk(store).context(Context { run: None, agent }).await?;
    Ok(facts.text(BUDGET_DEFAULT))
}

/// Saves what the session's agent has, under its name; what it saved last with words of its own stays in it.
pub(super) async fn checkpoint(place: &Place, store: &Store, session: &Session, why: &str) -> Result<()> {
    // Those of the runs are brought up to date as well.
    place.desk(store).catch_up().await?;
    let agent = Some(session.agent.clone());
    let last = List { agent: agent.clone(), told: true, limit: Some(1), ..List::default() };
    let said = store.read(last).await?.into_iter().next().map(said);
    let running = Tasks {
        agent: agent.clone(),
        state: Some(TaskState::Running.as_str().to_owned()),
        ..Tasks::default()
    };
    let (tasks, claims) = (store.read(running).await?, store.read(Claims { agent }).await?);
    let runs = store.read(Runs { open: true }).await?;
    let state = json!({
        WHY: why,
        "said": said,
        "tasks": tasks.iter().take(LISTED_MAX).map(task).collect::<Vec<_>>(),
        "claims": claims.iter().take(LISTED_MAX).map(|claim| &claim.resource).collect::<Vec<_>>(),
        "runs": runs.iter().rev().take(LISTED_MAX).map(|view| view.run.id.0).collect::<Vec<_>>(),
    });
    let run = runs.last().map(|view| view.run.id);
    store.write(Save { agent: session.agent.clone(), run, state }).await.map(drop)
}

/// What an agent said in its own words: carried on from one checkpoint of ours to the next.
fn said(last: Checkpoint) -> Value {
    let state: Value = serde_json::from_str(&last.state).unwrap_or_default();
    let words = if state.get(WHY).is_some() { state["said"].clone() } else { state };
    if words.to_string().len() <= SAID_MAX { words } else { json!({ "checkpoint": last.id.0 }) }
}

fn task(task: &Task) -> Value {
    let title: String = task.title.chars().take(TITLE_MAX).collect();
    json!({ "id": task.id.0, "term": task.term.0, "title": title, "progress": task.progress })
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_model::CheckpointId;

    #[test]
    fn what_an_agent_said_is_carried_on_if_it_is_not_too_long() {
        let check = |state: Value, expected: Value| {
            let last = Checkpoint {
                id: CheckpointId(7),
                run: None,
                agent: Some("ada".into()),
                state: state.to_string(),
                created_at: 0,
            };
            assert_eq!(said(last), expected);
        };
        check(json!({ "plan": "b" }), json!({ "plan": "b" }));
        check("words".into(), "words".into());
        check(json!({ WHY: "x", "said": "words", "tasks": [] }), "words".into());
        check(json!({ WHY: "x", "said": null }), Value::Null);
        check("a".repeat(SAID_MAX - 2).into(), "a".repeat(SAID_MAX - 2).into());
        check("a".repeat(SAID_MAX - 1).into(), json!({ "checkpoint": 7 }));
    }
}

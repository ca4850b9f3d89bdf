//! What checkpoints do, on both databases: what an agent saves is kept and found, and a run's state is saved by itself.

use quorate_model::memory::{MemoryKind, Query};
use quorate_model::{CheckpointId, Kind, Result, RunId, TaskId};
use quorate_service::checkpoint::{KEPT_MAX, List, STATE_MAX, Save, Show, TASKS_MAX};
use quorate_service::memory::{CatchUp, Recall};
use quorate_service::retention::Prune;
use quorate_service::run::Settle;
use quorate_testkit::ledger::TestLedger;
use quorate_testkit::on_every_backend;
use quorate_testkit::verbs::{command, failure};
use serde_json::{Value, json};

fn saying(agent: &str, state: impl Into<Value>) -> Save {
    Save { agent: agent.into(), run: None, state: state.into() }
}

fn all() -> List {
    List::default()
}

async fn learn(ledger: &TestLedger) -> Result<()> {
    ledger.events().await;
    while ledger.store.write(CatchUp).await?.more {}
    Ok(())
}

/// The state of the run that was saved by itself.
async fn state_of(ledger: &TestLedger, run: RunId) -> Result<Value> {
    learn(ledger).await?;
    let mut saved = ledger.store.read(List { run: Some(run), ..all() }).await?;
    assert_eq!(saved.len(), 1, "one for each run");
    let saved = saved.remove(0);
    assert_eq!(saved.agent, None);
    Ok(serde_json::from_str(&saved.state).expect("it is JSON"))
}

async fn what_an_agent_saves_is_shown_listed_and_found(ledger: TestLedger) -> Result<()> {
    let (run, _) = ledger.start(vec![command("one")]).await?;
    let words = ledger.store.write(Save { run: Some(run), ..saying("lead", "the parser is done") }).await?;
    ledger.advance(1).await;
    let facts = ledger.store.write(saying("beta", json!({ "next": ["lexer"] }))).await?;
    let shown = ledger.store.read(Show { id: words }).await?;
    assert_eq!((shown.run, shown.agent.as_deref()), (Some(run), Some("lead")));
    assert_eq!(shown.state, "\"the parser is done\"");
    let ids = |list: Vec<quorate_service::checkpoint::Checkpoint>| {
        list.iter().map(|one| one.id).collect::<Vec<_>>()
    };
    assert_eq!(ids(ledger.store.read(all()).await?), [facts, words]);
    assert_eq!(ids(ledger.store.read(List { agent: Some("lead".into()), ..all() }).await?), [words]);
    assert_eq!(ids(ledger.store.read(List { run: Some(run), ..all() }).await?), [words]);
    let hits = ledger.store.read(Recall::of(Query::parse("lexer parser"))).await?;
    let mut found: Vec<_> = hits.iter().map(|hit| hit.memory.source()).collect();
    found.sort();
    assert_eq!(found, [format!("checkpoint:{words}"), format!("checkpoint:{facts}")]);
    assert!(hits.iter().all(|hit| hit.memory.kind == MemoryKind::Checkpoint));
    assert_eq!(ledger.count("checkpoint.saved").await, 2);
    Ok(())
}

async fn only_the_last_of_an_agent_are_kept(ledger: TestLedger) -> Result<()> {
    ledger.store.write(saying("beta", "mine")).await?;
    for n in 0..=KEPT_MAX {
        ledger.store.write(saying("lead", format!("state word{n}"))).await?;
    }
    let left = ledger.store.read(List { agent: Some("lead".into()), ..all() }).await?;
    assert_eq!(left.len() as i64, KEPT_MAX);
    assert_eq!(left.last().map(|one| one.state.as_str()), Some("\"state word1\""));
    assert_eq!(ledger.store.read(List { agent: Some("beta".into()), ..all() }).await?.len(), 1);
    assert!(ledger.store.read(Recall::of(Query::parse("word0"))).await?.is_empty(), "nor is it found");
    Ok(())
}

async fn a_list_holds_every_state(ledger: TestLedger) -> Result<()> {
    let agents = ["a", "b", "c", "d", "e", "f"];
    for agent in agents {
        for n in 0..KEPT_MAX {
            ledger.store.write(saying(agent, n)).await?;
        }
    }
    assert_eq!(ledger.store.read(all()).await?.len() as i64, KEPT_MAX * agents.len() as i64);
    assert_eq!(ledger.store.read(List { limit: Some(1), ..all() }).await?.len(), 1);
    Ok(())
}

async fn what_is_old_is_removed_and_not_found_but_for_a_run_that_goes_on(ledger: TestLedger) -> Result<()> {
    let (run, _) = ledger.start(vec![command("one")]).await?;
    ledger.store.write(saying("lead", "old words")).await?;
    let of_run = ledger.store.write(Save { run: Some(run), ..saying("lead", "words of a run") }).await?;
    let day = 24 * 60 * 60 * 1000;
    ledger.advance(day).await;
    let prune = Prune { events_ms: day, attempts_ms: day, tasks_ms: day, after: TaskId(0) };
    assert_eq!(ledger.store.write(prune.clone()).await?.checkpoints, 0, "a moment longer");
    ledger.advance(1).await;
    let young = ledger.store.write(saying("lead", "young words")).await?;
    assert_eq!(ledger.store.write(prune.clone()).await?.checkpoints, 1);
    let mut left: Vec<_> = ledger.store.read(all()).await?.iter().map(|one| one.id).collect();
    left.sort();
    assert_eq!(left, [of_run, young]);
    ledger.advance(1).await;
    let found = ledger.store.read(Recall::of(Query::parse("old"))).await?;
    assert!(found.is_empty(), "nor is it found");
    Ok(())
}

async fn a_state_is_bounded_and_its_run_must_be_there(ledger: TestLedger) -> Result<()> {
    ledger.store.write(saying("lead", "x".repeat(STATE_MAX - 2))).await?;
    let long = ledger.store.write(saying("lead", "x".repeat(STATE_MAX - 1))).await;
    assert_eq!(long.expect_err("too long").kind, Kind::Invalid);
    let unknown = Save { run: Some(RunId(99)), ..saying("lead", "x") };
    assert_eq!(ledger.store.write(unknown).await.expect_err("no such run").kind, Kind::NotFound);
    let missing = ledger.store.read(Show { id: CheckpointId(99) }).await;
    assert_eq!(missing.expect_err("no such checkpoint").kind, Kind::NotFound);
    assert_eq!(ledger.store.read(all()).await?.len(), 1);
    Ok(())
}

async fn the_state_of_a_run_is_saved_whenever_it_changes(ledger: TestLedger) -> Result<()> {
    let (run, _) = ledger.start(vec![command("one"), command("two")]).await?;
    let begun = state_of(&ledger, run).await?;
    assert_eq!((&begun["goal"], &begun["counts"]), (&json!("a goal"), &json!({ "ready": 2 })));
    let taken = ledger.must_take("alpha").await?;
    ledger.done(&taken).await?;
    let going = state_of(&ledger, run).await?;
    assert_eq!(going["counts"], json!({ "ready": 1, "completed": 1 }));
    let taken = ledger.must_take("alpha").await?;
    let last = quorate_service::task::Fail { is_final: true, ..failure(&taken, "no network") };
    ledger.store.write(last).await?;
    ledger.store.write(Settle { id: run }).await?;
    let over = state_of(&ledger, run).await?;
    assert_eq!((&over["state"], &over["tasks"][0]["reason"]), (&json!("failed"), &json!("no network")));
    let hits = ledger.store.read(Recall::of(Query::parse("network"))).await?;
    assert!(hits.iter().any(|hit| hit.memory.kind == MemoryKind::Checkpoint), "what it says now is found");
    Ok(())
}

async fn the_state_of_a_large_run_names_those_that_matter(ledger: TestLedger) -> Result<()> {
    let tasks = (0..=TASKS_MAX).map(|n| command(&format!("task {n}"))).collect();
    let (run, ids) = ledger.start(tasks).await?;
    let taken = ledger.must_take("alpha").await?;
    let last = quorate_service::task::Fail { is_final: true, ..failure(&taken, "broken") };
    ledger.store.write(last).await?;
    let state = state_of(&ledger, run).await?;
    assert_eq!(state["tasks"].as_array().map(Vec::len), Some(TASKS_MAX as usize));
    assert_eq!((&state["left_out"], &state["tasks"][0]["id"]), (&json!(1), &json!(ids[0].0)));
    Ok(())
}

on_every_backend!(
    what_an_agent_saves_is_shown_listed_and_found,
    only_the_last_of_an_agent_are_kept,
    a_list_holds_every_state,
    what_is_old_is_removed_and_not_found_but_for_a_run_that_goes_on,
    a_state_is_bounded_and_its_run_must_be_there,
    the_state_of_a_run_is_saved_whenever_it_changes,
    the_state_of_a_large_run_names_those_that_matter,
);

//! A run that fans out: one task, a thousand that need it, one that needs them all; functions in this process do them.
//!
//! What frameworks for agents call a graph or a workflow, without any model: what is measured is their coordination.

use crate::database::Database;
use crate::operation::Rows;
use crate::table::Figure;
use quorate_model::{Error, Result};
use quorate_service::run::Start;
use quorate_service::task::NewTask;
use quorate_testkit::handler;
use std::time::Instant;

/// Tasks in the middle.
const TASKS: usize = 1_000;
/// Functions at once.
const SLOTS: usize = 8;

/// Measures from before the run is begun until it is over.
pub(super) async fn measure(database: &Database) -> Result<Vec<Figure>> {
    let filled = database.fill(Rows::Team).await?;
    let at = Instant::now();
    let start = Start { goal: "fan out".to_owned(), source: None, detached: true, tasks: tasks() };
    let (id, _) = filled.store.write(start).await?;
    let run =
        handler::serve(&filled.store, id, SLOTS, |taken| Ok(Some(taken.needs.len().to_string()))).await?;
    let seconds = at.elapsed().as_secs_f64();
    if run.state != "completed" {
        return Err(Error::failed(format!("the run is {}: {}", run.state, run.reason.unwrap_or_default())));
    }
    let completed = database.left(&filled, "completed").await?;
    if completed != TASKS as i64 + 2 {
        return Err(Error::failed(format!("{completed} tasks are completed")));
    }
    Ok(vec![
        Figure::new(
            database.name(),
            format!("a run fans out to {TASKS} tasks, {SLOTS} at once"),
            seconds,
            "s",
        )
        .note("from before it is begun until it is over"),
    ])
}

fn tasks() -> Vec<NewTask> {
    let first = NewTask { key: Some("plan".to_owned()), ..NewTask::new("Say what is to be done") };
    let middle =
        |n| NewTask { key: Some(format!("task-{n}")), needs_new: vec![0], ..NewTask::new("Do nothing") };
    let last = NewTask {
        key: Some("gather".to_owned()),
        needs_new: (1..=TASKS).collect(),
        ..NewTask::new("Gather what was done")
    };
    [first].into_iter().chain((1..=TASKS).map(middle)).chain([last]).collect()
}

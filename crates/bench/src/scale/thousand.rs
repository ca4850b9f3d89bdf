//! A run that fans out: one task and a thousand that need it, done by functions in this process.
//!
//! What frameworks for agents call a graph or a workflow, without any model: what is measured is their coordination.
//! It is measured once more with a last task that needs all of them, which no peer is asked for: every completion
//! then counts down the same row.

use quorate_measure::database::Database;
use quorate_measure::operation::Rows;
use quorate_measure::table::Figure;
use quorate_model::{Error, Result};
use quorate_service::run::Start;
use quorate_service::task::NewTask;
use quorate_testkit::handler;
use std::time::Instant;

/// Tasks in the middle.
const TASKS: usize = 1_000;
/// Functions at once.
const SLOTS: usize = 8;

/// Measures both from before the run is begun until it is over.
pub(super) async fn measure(database: &Database) -> Result<Vec<Figure>> {
    let figure = |what: &str, seconds: f64| {
        Figure::new(
            database.name(),
            format!("{TASKS} tasks that need one, {SLOTS} at once{what}"),
            seconds,
            "s",
        )
    };
    Ok(vec![
        figure("", run(database, fan_out()).await?),
        figure(", and one that needs all", run(database, fan_out_and_in()).await?),
    ])
}

/// Returns the seconds that a run of these tasks takes.
async fn run(database: &Database, tasks: Vec<NewTask>) -> Result<f64> {
    let (filled, count) = (database.fill(Rows::Team).await?, tasks.len());
    let at = Instant::now();
    let start = Start { goal: "fan out".to_owned(), source: None, detached: true, tasks };
    let (id, _) = filled.store.write(start).await?;
    let run =
        handler::serve(&filled.store, id, SLOTS, |taken| Ok(Some(taken.needs.len().to_string()))).await?;
    let seconds = at.elapsed().as_secs_f64();
    let completed = database.left(&filled, "completed").await?;
    if run.state != "completed" || usize::try_from(completed) != Ok(count) {
        return Err(Error::failed(format!(
            "the run is {}, {completed} of {count} tasks completed",
            run.state
        )));
    }
    Ok(seconds)
}

fn fan_out() -> Vec<NewTask> {
    let first = NewTask { key: Some("plan".to_owned()), ..NewTask::new("Say what is to be done") };
    let second =
        |n| NewTask { key: Some(format!("task-{n}")), needs_new: vec![0], ..NewTask::new("Do nothing") };
    [first].into_iter().chain((1..=TASKS).map(second)).collect()
}

fn fan_out_and_in() -> Vec<NewTask> {
    let mut tasks = fan_out();
    let needs_new = (1..tasks.len()).collect();
    tasks.push(NewTask { key: Some("gather".to_owned()), needs_new, ..NewTask::new("Gather what was done") });
    tasks
}

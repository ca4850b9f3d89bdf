//! `quorate runs list|show|cancel`; going on with one is the business of `run`.

use crate::args::{Runs, RunsCancel, RunsId};
use crate::place::Place;
use crate::print::style::{self, paint};
use crate::print::table::{Table, cell, state};
use crate::print::{self, cost, time};
use crate::task;
use quorate_model::budget::Budget;
use quorate_model::{Result, RunId};
use quorate_service::goal::Approve;
use quorate_service::run::{Cancel, Run};
use quorate_service::view::{self, RunShow, RunStory, RunView};
use quorate_service::wire;
use quorate_store::Store;
use serde_json::{Value, json};

pub(crate) async fn runs(place: &Place, command: Runs, json: bool) -> Result<u8> {
    match command {
        Runs::List => list(place, json).await,
        Runs::Show(args) => show(place, &args, json).await,
        Runs::Approve(args) => approve(place, &args, json).await,
        Runs::Cancel(args) => cancel(place, &args, json).await,
        Runs::Resume(_) => unreachable!("`main` gives it to `run`"),
    }
}

async fn list(place: &Place, json: bool) -> Result<u8> {
    let Some(store) = place.look().await? else {
        print::answer(json, || json!([]), || place.no_ledger());
        return Ok(0);
    };
    let runs = store.read(view::Runs::default()).await?;
    // For people the counts say enough; the promised shape has every task.
    let tasks = if json { store.read(view::Tasks::default()).await? } else { Vec::new() };
    print::answer(json, || wire::RunListed::all(&runs, &tasks), || words(&runs));
    Ok(0)
}

fn words(runs: &[RunView]) -> String {
    if runs.is_empty() {
        return "no runs yet; `quorate run PLAN` begins one\n".into();
    }
    let mut table = Table::new(&[">ID", "STATE", ">DONE", "BEGAN", ">COST", "~GOAL"]);
    for view in runs {
        table.row([
            cell(view.run.id),
            state(&view.run.state),
            cell(done(view)),
            cell(time::local(view.run.created_at)),
            cell(cost::short(view.spent)),
            cell(&view.run.goal),
        ]);
    }
    table.shown()
}

/// Writes how many of a run's tasks are completed: `3/8`.
pub(crate) fn done(view: &RunView) -> String {
    let completed: i64 = view.counts.iter().filter(|(state, _)| state == "completed").map(|(_, n)| n).sum();
    format!("{completed}/{}", view.counts.iter().map(|(_, n)| n).sum::<i64>())
}

async fn approve(place: &Place, args: &RunsId, json: bool) -> Result<u8> {
    let store = place.open_for(format!("run {}", args.id)).await?;
    let begun = store.write(Approve { id: args.id }).await?;
    let words = || format!("run {} goes on: {begun} task(s) may begin", args.id);
    let mut value = whole(&store, args.id, json).await?;
    if json {
        value["begun"] = begun.into();
    }
    print::answer(json, || value, words);
    Ok(0)
}

/// Returns the whole shape of a run as it is after a person's wish; for people, nothing.
pub(crate) async fn whole(store: &Store, id: RunId, json: bool) -> Result<Value> {
    if !json {
        return Ok(Value::Null);
    }
    Ok(wire::value(wire::RunStory::from(&store.read(RunShow { id }).await?)))
}

async fn show(place: &Place, args: &RunsId, json: bool) -> Result<u8> {
    let store = place.open_for(format!("run {}", args.id)).await?;
    let story = store.read(RunShow { id: args.id }).await?;
    let budget = place.config.budget;
    print::answer(json, || wire::RunStory::from(&story), || story_words(&story, budget));
    Ok(0)
}

fn story_words(story: &RunStory, budget: Budget) -> String {
    let mut text = headline(&story.run);
    if let Some(reason) = &story.run.reason {
        text.push_str(&format!("  why      {}\n", print::one_line(reason)));
    }
    text.push_str(&format!(
        "  began    {} ({})\n",
        time::local(story.run.created_at),
        time::ago(story.now, story.run.created_at)
    ));
    if let Some(at) = story.run.finished_at {
        let took = time::rough(at - story.run.created_at);
        text.push_str(&format!("  ended    {} (took {took})\n", time::local(at)));
    }
    let used = cost::of_budget(story.counted.spent, budget);
    if !used.is_empty() {
        text.push_str(&format!("  used     {used}\n"));
    }
    for line in cost::by_model(&story.usage) {
        text.push_str(&format!("           {}\n", print::one_line(&line)));
    }
    if let Some(report) = &story.run.report {
        text.push_str(&format!("  report   {}\n", print::one_line(report)));
    }
    text.push('\n');
    text.push_str(&task::table(&story.tasks, story.now).shown());
    text
}

fn headline(run: &Run) -> String {
    format!(
        "run {}  {}  {}\n",
        run.id,
        paint(style::of_state(&run.state), &run.state),
        print::one_line(&run.goal)
    )
}

async fn cancel(place: &Place, args: &RunsCancel, json: bool) -> Result<u8> {
    let store = place.open_for(format!("run {}", args.id)).await?;
    let story = place.desk(&store).cancel_run(Cancel { id: args.id, reason: args.reason.clone() }).await?;
    print::answer(json, || wire::RunStory::from(&story), || format!("run {} cancelled", args.id));
    Ok(0)
}

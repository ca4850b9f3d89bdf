//! `quorate status`: one look at everything.

use crate::place::Place;
use crate::print::style::{Colour, paint};
use crate::print::table::{Table, cell, state};
use crate::print::{self, time};
use crate::runs;
use quorate_model::{Result, TaskState};
use quorate_service::view::{AgentView, Overview, Status, is_unattended};
use quorate_service::wire;
use serde_json::json;

/// Runs that have ended and are still shown to people.
const RUNS_SHOWN: usize = 5;
/// Agents shown to people.
const AGENTS_SHOWN: usize = 40;

pub(crate) async fn status(place: &Place, json: bool) -> Result<u8> {
    let Some(store) = place.look().await? else {
        print::answer(json, || json!({ "agents": [], "tasks": {}, "runs": [] }), || place.no_ledger());
        return Ok(0);
    };
    let overview = store.read(Status).await?;
    print::answer(json, || wire::Status::from(&overview), || words(&overview));
    Ok(0)
}

fn words(overview: &Overview) -> String {
    let sections =
        [agents(&overview.agents, overview.now), tasks(overview), open_runs(overview), used(overview)];
    let told: Vec<String> = sections.into_iter().flatten().collect();
    if told.is_empty() {
        return "nothing yet: no agents, no tasks, no runs\n`quorate task add \"…\"` or `quorate run PLAN` begins\n".into();
    }
    told.join("\n")
}

fn heading(text: &str) -> String {
    format!("{}\n", paint(Colour::Bold, text))
}

fn agents(agents: &[AgentView], now: i64) -> Option<String> {
    if agents.is_empty() {
        return None;
    }
    let shown = crate::agent::table(agents.iter().take(AGENTS_SHOWN), now).shown();
    let more = match agents.len().saturating_sub(AGENTS_SHOWN) {
        0 => String::new(),
        more => format!("… and {more} more: quorate agent list\n"),
    };
    Some(format!("{}{shown}{more}", heading(&format!("Agents ({})", agents.len()))))
}

fn tasks(overview: &Overview) -> Option<String> {
    let all: i64 = overview.counts.iter().map(|(_, n)| n).sum();
    let parts = TaskState::ALL.iter().filter_map(|state| {
        let (name, n) = overview.counts.iter().find(|(name, _)| name == state.as_str())?;
        Some(format!("{n} {}", paint(print::style::of_state(name), name)))
    });
    (all > 0).then(|| {
        let parts = parts.collect::<Vec<_>>().join(", ");
        format!("{}{parts}\n{}", heading(&format!("Tasks ({all})")), unattended(overview))
    })
}

/// Says that nobody is there to do what is open: a team of the past looks much like one that is at work.
fn unattended(overview: &Overview) -> &'static str {
    let is_open =
        |state: &str| [TaskState::Ready, TaskState::Running].iter().any(|open| open.as_str() == state);
    let open = overview.counts.iter().filter(|(state, _)| is_open(state)).map(|(_, n)| n).sum();
    match is_unattended(overview.agents.iter(), open) {
        true => "nobody is there to do them: `quorate up` starts a node\n",
        false => "",
    }
}

fn used(overview: &Overview) -> Option<String> {
    let unpriced = match overview.unpriced.as_slice() {
        [] => String::new(),
        models => format!("no price is known for {}: see `quorate doctor`\n", models.join(", ")),
    };
    let spent = print::cost::spent(overview.spent);
    (!spent.is_empty() || !unpriced.is_empty())
        .then(|| format!("{}{spent}\n{}", heading("Used"), print::lines(&unpriced)))
}

fn open_runs(overview: &Overview) -> Option<String> {
    let (open, over): (Vec<_>, Vec<_>) = overview.runs.iter().partition(|view| !view.run.is_over());
    let hidden = over.len().saturating_sub(RUNS_SHOWN);
    let mut shown: Vec<_> = over.into_iter().skip(hidden).chain(open).collect();
    shown.sort_by_key(|view| view.run.id);
    if shown.is_empty() {
        return None;
    }
    let mut table = Table::new(&[">ID", "STATE", ">DONE", "AGE", ">COST", "~GOAL"]);
    for view in shown {
        let age = cell(time::ago(overview.now, view.run.created_at));
        table.row([
            cell(view.run.id),
            state(&view.run.state),
            cell(runs::done(view)),
            age,
            cell(print::cost::short(view.spent)),
            cell(&view.run.goal),
        ]);
    }
    let more =
        if hidden > 0 { format!("… and {hidden} before: quorate runs list\n") } else { String::new() };
    Some(format!("{}{}{more}", heading(&format!("Runs ({})", overview.runs.len())), table.shown()))
}

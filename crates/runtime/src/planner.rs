//! Reading the plan that an agent made: the check of a planning task.
//!
//! Here lives what is known of the team when it is read: the configuration, and who joined by himself. How it is read lives in
//! `model::goal`, what follows in `service::goal`.

use crate::checker::{Follows, Outcome};
use crate::node::Shared;
use crate::stop::Stop;
use quorate_model::goal::{self, Mate, PlanCheck};
use quorate_model::{Error, Result};
use quorate_service::task::{NewTask, Task};
use quorate_service::view::{Agents, Pulse};

/// Reads a planning task's result as a plan.
pub(crate) async fn read(shared: &Shared, stop: &Stop, task: &Task, check: PlanCheck) -> Outcome {
    match stop.in_time(tasks_of(shared, task, check)).await {
        Ok(tasks) => Outcome::Passed(Follows::Plan { tasks, parks: check == PlanCheck::Approve }),
        Err(error) if error.kind == quorate_model::Kind::Unavailable => {
            Outcome::GivenBack("the ledger was away while the plan was read")
        }
        Err(error) => Outcome::Ended { failure: Some(error.message), tail: None },
    }
}

async fn tasks_of(shared: &Shared, task: &Task, check: PlanCheck) -> Result<Vec<NewTask>> {
    let answer = task
        .result
        .as_deref()
        .ok_or_else(|| Error::invalid("it gave no result, and the plan is the result"))?;
    let team = team(shared).await?;
    let base = shared.folder.to_string_lossy();
    let plan = goal::read(answer, &team, shared.config.orchestrator.commands, Some(&base))?;
    if check == PlanCheck::Only {
        return Ok(Vec::new());
    }
    let goal = match task.run_id {
        Some(id) => shared.store.read(Pulse { id, node: None }).await?.run.goal,
        None => task.title.clone(),
    };
    let plan = goal::with_report(plan, &goal, &team);
    Ok(plan.tasks.iter().map(|task| NewTask::planned(task, &shared.config)).collect())
}

/// Everybody who could take a task: those of the configuration, and those who joined.
async fn team(shared: &Shared) -> Result<Vec<Mate>> {
    let mut team = Mate::of(&shared.config);
    for view in shared.store.read(Agents::default()).await? {
        let agent = view.agent;
        if team.iter().any(|mate| mate.name == agent.name) {
            continue;
        }
        let capabilities = agent.abilities();
        team.push(Mate { name: agent.name, capabilities, takes_words: agent.takes != "run" });
    }
    Ok(team)
}

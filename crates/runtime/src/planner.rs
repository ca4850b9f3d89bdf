//! Reading the plan that an agent made: the check of a planning task.
//!
//! Here lives what is known of the team when it is read: the configuration, and who joined by himself. How it is read lives in
//! `model::goal`, what follows in `service::goal`.

use crate::checker::{Follows, Outcome};
use crate::node::Shared;
use crate::stop::Stop;
use quorate_model::config::Config;
use quorate_model::goal::{self, Mate, PlanCheck};
use quorate_model::{Error, Result};
use quorate_service::task::{NewTask, Task};
use quorate_service::view::{Agents, Pulse};

/// Reads a planning task's result as a plan.
pub(crate) async fn read(shared: &Shared, stop: &Stop, task: &Task, check: PlanCheck) -> Outcome {
    match stop.in_time(tasks_of(shared, task, check)).await {
        Ok(tasks) => Outcome::Passed(Follows::Plan { tasks, parks: check == PlanCheck::Approve }),
        Err(error) if error.kind == quorate_model::Kind::Unavailable => {
            let reason = format!("the plan cannot be read for now: {error}");
            Outcome::NotNow { reason, passed: None }
        }
        Err(error) => Outcome::failed(error.message, None),
    }
}

async fn tasks_of(shared: &Shared, task: &Task, check: PlanCheck) -> Result<Vec<NewTask>> {
    let answer = task
        .result
        .as_deref()
        .ok_or_else(|| Error::invalid("it gave no result, and the plan is the result"))?;
    let team = team(shared).await?;
    let base = shared.folder.to_string_lossy();
    let commands = may_command(&shared.config, task.owner.as_deref());
    let plan = goal::read(answer, &team, commands, Some(&base))?;
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

/// Whether the plan of this agent may hold commands: that of one whom the configuration names. Who else joined may be anybody
/// with a token.
fn may_command(config: &Config, planner: Option<&str>) -> bool {
    // An agent whose name another node has taken meanwhile goes on under `name@node`.
    let base = planner.map(|name| name.split('@').next().unwrap_or(name));
    config.orchestrator.commands && config.agents().iter().any(|(name, _)| Some(name.as_str()) == base)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_believed_of_those_whom_the_configuration_names() {
        let config = |orchestrator: &str| {
            let text = format!("{orchestrator}[agents.planner]\ndriver = \"claude\"\n");
            Config::parse("quorate.toml", text.as_bytes()).expect("a good configuration")
        };
        let allowed = config("[orchestrator]\ncommands = true\n");
        let check = |planner: Option<&str>, expected: bool| {
            assert_eq!(may_command(&allowed, planner), expected, "{planner:?}");
        };
        check(Some("planner"), true);
        check(Some("planner@7"), true);
        check(Some("planner-2"), false);
        check(Some("eve"), false);
        check(None, false);
        assert!(!may_command(&config(""), Some("planner")));
    }
}

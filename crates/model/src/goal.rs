//! From a goal in words to a plan: what a planner is asked, and how its answer is read.
//!
//! Here live the words of the question, the reading of the answer with everything that is wrong in it, and the bounds. Who
//! plans is an ordinary agent with an ordinary task, whose check is [`PlanCheck`]: a plan that cannot be read fails the
//! check, so the next attempt is shown why, and there are only so many. What is stored is `service`'s business.

use crate::agent::abilities;
use crate::config::{AgentConfig, Config, Driver};
use crate::diagnostic::quote;
use crate::error::{Error, Result};
use crate::plan::{Plan, PlanTask};
use crate::table::did_you_mean;
use serde_json::Value;
use std::fmt::Write;

/// What an agent can do that is asked for plans.
pub const ORCHESTRATION: &str = "orchestration";
/// What an agent can do that puts results together.
pub const SYNTHESIS: &str = "synthesis";
/// The key of the task that makes the plan, and of the one that writes the report.
pub const PLAN_KEY: &str = "plan";
/// The key of the task that writes the report.
pub const REPORT_KEY: &str = "report";
/// How often a plan is asked for: once, and three times more with what was wrong.
pub const PLAN_ATTEMPTS: i64 = 4;
/// How often a new plan is made because a task has failed for good.
pub const REPLANS_MAX: i64 = 2;
/// Tasks that a planner's plan may have.
pub const TASKS_MAX: usize = 200;
/// Mates that a planner is told of.
const MATES_MAX: usize = 60;
/// The longest text of what is wrong that a planner is told, in characters.
const WRONG_MAX: usize = 2_000;
/// The longest outcome of an earlier task that a planner is told, in characters, and how many of them.
const OUTCOME_MAX: usize = 300;
const OUTCOMES_MAX: usize = 100;

/// How a plan is checked, in place of a command: it stands where a task's `verify` is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlanCheck {
    /// Its tasks are added to the run.
    Run,
    /// They are added, and wait for a person's word.
    Approve,
    /// Nothing is added: the plan is only wanted.
    Only,
}

impl PlanCheck {
    /// Every way.
    pub const ALL: [PlanCheck; 3] = [PlanCheck::Run, PlanCheck::Approve, PlanCheck::Only];

    /// What every stored text is like, and no command, in the words of SQL.
    pub const LIKE: &str = "@plan%";

    /// Returns the stored text; no command begins like it.
    pub fn as_str(self) -> &'static str {
        match self {
            PlanCheck::Run => "@plan",
            PlanCheck::Approve => "@plan-approve",
            PlanCheck::Only => "@plan-only",
        }
    }

    /// Reads a task's `verify`; `None` is a command.
    pub fn of(verify: &str) -> Option<PlanCheck> {
        PlanCheck::ALL.into_iter().find(|check| check.as_str() == verify)
    }
}

/// A member of the team, as a planner sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mate {
    /// Its name.
    pub name: String,
    /// What it can do; `None` is anything.
    pub capabilities: Option<Vec<String>>,
    /// Whether it takes tasks in words.
    pub takes_words: bool,
}

impl Mate {
    /// Returns the members that a configuration names.
    pub fn of(config: &Config) -> Vec<Mate> {
        let mate = |(name, table): (String, &AgentConfig)| Mate {
            name,
            capabilities: abilities(&table.capabilities),
            takes_words: table.driver != Driver::Command || !table.command.is_empty(),
        };
        config.agents().into_iter().map(mate).collect()
    }

    fn can(&self, capability: &str) -> bool {
        self.capabilities.as_ref().is_none_or(|own| own.iter().any(|c| c == capability))
    }
}

/// Returns a capability if somebody in the team who takes words has it by name.
pub fn somebody_can<'a>(team: &[Mate], capability: &'a str) -> Option<&'a str> {
    let has = |mate: &Mate| mate.capabilities.as_ref().is_some_and(|own| own.iter().any(|c| c == capability));
    team.iter().any(|mate| mate.takes_words && has(mate)).then_some(capability)
}

/// Returns the plan by which a goal is begun: a task that makes the real one, or, where nobody plans, the goal itself as the
/// only task.
///
/// # Errors
/// `Invalid` for an empty goal, and where nobody plans but a plan is to be approved or is all that is wanted.
pub fn begin(words: &str, config: &Config, check: PlanCheck) -> Result<Plan> {
    let plain = Plan::from_goal(words)?;
    match (somebody_plans(config), check) {
        (true, check) => {
            let task = planning(&plain.goal, &Mate::of(config), config.orchestrator.commands, check);
            Ok(Plan { goal: plain.goal, tasks: vec![task] })
        }
        (false, PlanCheck::Run) => Ok(plain),
        (false, PlanCheck::Approve | PlanCheck::Only) => Err(nobody_plans()),
    }
}

/// The same where the goal must be planned: as the work of a task that is to be decomposed.
///
/// # Errors
/// `Invalid` where nobody plans.
pub fn begin_planned(words: &str, config: &Config, check: PlanCheck) -> Result<Plan> {
    if somebody_plans(config) { begin(words, config, check) } else { Err(nobody_plans()) }
}

fn nobody_plans() -> Error {
    Error::invalid("nobody here makes plans").hint(format!(
        "give an [agents.NAME] table in quorate.toml the capability \"{ORCHESTRATION}\" (quorate init --template specialists)"
    ))
}

/// Tells whether a goal may become a plan that holds commands: somebody plans, and the configuration lets him.
pub fn may_command(config: &Config) -> bool {
    config.orchestrator.commands && somebody_plans(config)
}

/// Tells whether somebody in the team makes plans: who is said to, or any agent with a model.
fn somebody_plans(config: &Config) -> bool {
    config.agents().iter().any(|(_, table)| {
        let has_model = matches!(
            table.driver,
            Driver::Claude | Driver::Codex | Driver::Gemini | Driver::Acp | Driver::Model
        );
        has_model || table.capabilities.iter().any(|capability| capability == ORCHESTRATION)
    })
}

/// Returns the task that asks for a plan.
fn planning(goal: &str, team: &[Mate], commands: bool, check: PlanCheck) -> PlanTask {
    PlanTask {
        key: PLAN_KEY.into(),
        title: "Plan how to reach the goal".into(),
        capability: somebody_can(team, ORCHESTRATION).map(str::to_owned),
        prompt: Some(question(goal, team, commands)),
        verify: Some(check.as_str().into()),
        attempts: Some(PLAN_ATTEMPTS),
        ..PlanTask::default()
    }
}

fn question(goal: &str, team: &[Mate], commands: bool) -> String {
    let mut text = format!(
        "Plan the work of a team of agents. You only plan: others do the tasks, each with a fresh context.\n\nGoal:\n{goal}\n\nThe team:\n"
    );
    for mate in team.iter().take(MATES_MAX) {
        let what = match &mate.capabilities {
            None => "anything".into(),
            Some(own) if own.is_empty() => "whatever asks for no capability".into(),
            Some(own) => own.join(", "),
        };
        let _ = writeln!(text, "- {}: {what}", mate.name);
    }
    if team.len() > MATES_MAX {
        let _ = writeln!(text, "- and {} more", team.len() - MATES_MAX);
    }
    let commands = if commands {
        "A task may have `verify`, a shell command that must succeed for it to count as done, and `run`, a shell command, in place of \
         `prompt`."
    } else {
        "Tasks hold no commands: no `run` and no `verify`."
    };
    let _ = write!(
        text,
        "\nAnswer with one JSON object and nothing else:\n\
         {{\"tasks\": [{{\"key\": \"short-name\", \"title\": \"one line\", \"prompt\": \"what to do\", \"needs\": [\"key\"], \"capability\": \
         \"one of the team's\", \"claims\": [\"src/**\"], \"outputs\": [\"file\"], \"priority\": \"high\", \"timeout\": \"30m\"}}]}}\n\n\
         Rules:\n\
         - Only `key`, `title` and `prompt` must be there. {commands}\n\
         - An agent sees its task, and the results of the tasks it needs; say in `prompt` all else that it must know, and what its result \
         should be.\n\
         - Tasks that do not need each other are done side by side. `claims` names the files that a task changes, so that no two change \
         the same at once.\n\
         - 1 to {TASKS_MAX} tasks, as few as serve the goal; each of a size that one agent does in one sitting. No circles in `needs`.\n\
         - Do not add a task for the report: one that puts all results together is added behind the last.\n"
    );
    text
}

/// What became of an earlier task, for a planner that plans anew.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// Its key, or its id.
    pub name: String,
    /// Its state.
    pub state: String,
    /// Its result, or why it ended so.
    pub words: String,
}

/// Returns the question for a new plan: the first one, and what has happened since.
pub fn question_again(first: &str, outcomes: &[Outcome]) -> String {
    let mut text = format!(
        "{first}\nThis was tried, and a task has failed for good. Plan only what is still to be done, another way where one failed; tasks \
         that are completed stay completed, and you may say their results in a `prompt`. What happened:\n"
    );
    for Outcome { name, state, words } in outcomes.iter().take(OUTCOMES_MAX) {
        let _ = writeln!(text, "- {name}: {state}: {}", cut(words, OUTCOME_MAX));
    }
    if outcomes.len() > OUTCOMES_MAX {
        let _ = writeln!(text, "- and {} more", outcomes.len() - OUTCOMES_MAX);
    }
    text
}

/// Returns the beginning of a text, so many characters at most.
pub(crate) fn cut(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        None => text.to_owned(),
        Some((at, _)) => format!("{}…", &text[..at]),
    }
}

/// Reads a planner's answer: the result of its task, a JSON text. `base` is the project's folder.
///
/// # Errors
/// `Invalid`, with everything that is wrong, as the planner is told it.
pub fn read(answer: &str, team: &[Mate], commands: bool, base: Option<&str>) -> Result<Plan> {
    let text = json_object(answer, "the answer holds no JSON object, and the plan is one")?;
    let plan = Plan::parse_in(base, "plan.json", text.as_bytes()).map_err(|wrong| {
        Error::invalid(format!("the plan cannot be used: {}", cut(&wrong.to_string(), WRONG_MAX)))
    })?;
    if plan.tasks.len() > TASKS_MAX {
        let message = format!("the plan has {} tasks, more than {TASKS_MAX}", plan.tasks.len());
        return Err(Error::invalid(message).hint("put small ones together"));
    }
    let wrong: Vec<String> = plan.tasks.iter().filter_map(|task| flaw(task, team, commands)).collect();
    if wrong.is_empty() {
        return Ok(plan);
    }
    Err(Error::invalid(format!("the plan cannot be used: {}", cut(&wrong.join("; "), WRONG_MAX))))
}

/// Finds the JSON object in what a model said around it.
pub(crate) fn json_object(answer: &str, none: &str) -> Result<String> {
    let words = match serde_json::from_str::<Value>(answer) {
        Ok(Value::String(words)) => words,
        Ok(Value::Object(_)) => return Ok(answer.to_owned()),
        Ok(_) | Err(_) => answer.to_owned(),
    };
    let object = words.find('{').zip(words.rfind('}')).filter(|(begin, end)| begin < end);
    match object {
        Some((begin, end)) => Ok(words[begin..=end].to_owned()),
        None => Err(Error::invalid(none)),
    }
}

/// Says what is wrong with a task for this team.
fn flaw(task: &PlanTask, team: &[Mate], commands: bool) -> Option<String> {
    let key = &task.key;
    if !commands && (task.run.is_some() || task.verify.is_some()) {
        return Some(format!("task `{key}` holds a command, and this plan may hold none"));
    }
    if let Some(agent) = &task.agent {
        let Some(mate) = team.iter().find(|mate| mate.name == *agent) else {
            let names = team.iter().map(|mate| mate.name.as_str());
            let near = did_you_mean(agent, names).map_or_else(String::new, |near| format!(", {near}"));
            return Some(format!("task `{key}` is for {}, who is not in the team{near}", quote(agent)));
        };
        if task.run.is_none() && !mate.takes_words {
            return Some(format!("task `{key}` is in words, and {} takes only commands", quote(agent)));
        }
    }
    let able = team.iter().filter(|mate| task.run.is_some() || mate.takes_words);
    match &task.capability {
        Some(capability) if !able.clone().any(|mate| mate.can(capability)) => {
            let all = team.iter().flat_map(|mate| mate.capabilities.iter().flatten()).map(String::as_str);
            let near = did_you_mean(capability, all).map_or_else(String::new, |near| format!(", {near}"));
            Some(format!("task `{key}` wants capability {}, which nobody has{near}", quote(capability)))
        }
        None if task.agent.is_none() && able.count() == 0 => Some(format!("nobody could take task `{key}`")),
        _ => None,
    }
}

/// Returns a key, or the key with the first number, from 2, that makes it one that is not taken.
pub fn free_key(key: &str, is_taken: impl Fn(&str) -> bool) -> String {
    let numbered = (2..).map(|number| format!("{key}-{number}"));
    std::iter::once(key.to_owned())
        .chain(numbered)
        .find(|key| !is_taken(key))
        .expect("there are more numbers than keys")
}

/// Adds the task that puts all results together.
pub fn with_report(mut plan: Plan, goal: &str, team: &[Mate]) -> Plan {
    let key = free_key(REPORT_KEY, |key| plan.tasks.iter().any(|task| task.key == key));
    plan.tasks.push(PlanTask {
        key,
        title: "Write the report".into(),
        capability: somebody_can(team, SYNTHESIS).map(str::to_owned),
        prompt: Some(format!(
            "Write the report on this goal from the results of the tasks that you are given, in Markdown, for the person who set the goal: \
             the answer first, then what supports it, then what is open or uncertain. Add nothing that the results do not say. Your result \
             is the report itself, a text.\n\nGoal:\n{goal}"
        )),
        needs: (0..plan.tasks.len()).collect(),
        ..PlanTask::default()
    });
    plan
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mate(name: &str, capabilities: &[&str]) -> Mate {
        let capabilities = Some(capabilities.iter().map(|c| (*c).to_owned()).collect());
        Mate { name: name.into(), capabilities, takes_words: true }
    }

    fn team() -> Vec<Mate> {
        vec![mate("ann", &["research"]), mate("bob", &["synthesis", "analysis"])]
    }

    fn wrong(answer: &str) -> String {
        read(answer, &team(), false, None).expect_err("refused").message
    }

    #[test]
    fn a_plan_is_found_in_what_a_model_says_around_it() {
        let object = r#"{"tasks":[{"key":"a","prompt":"look","capability":"research"}]}"#;
        let words = format!("Here is the plan:\n```json\n{object}\n```\nGood luck!");
        for answer in [object.to_owned(), Value::from(object).to_string(), Value::from(words).to_string()] {
            let plan = read(&answer, &team(), false, None).expect("a plan");
            assert_eq!((plan.tasks.len(), plan.tasks[0].key.as_str()), (1, "a"), "{answer}");
        }
    }

    #[test]
    fn everything_wrong_is_told_at_once() {
        assert!(wrong("\"I cannot do that\"").contains("no JSON object"));
        let two = wrong(
            r#"{"tasks":[{"key":"a","prompt":"x","capability":"reserch"},{"key":"b","prompt":"y","agent":"bop"}]}"#,
        );
        assert!(two.contains("reserch") && two.contains("`research`"), "{two}");
        assert!(two.contains("bop") && two.contains("`bob`"), "{two}");
        let circle = wrong(
            r#"{"tasks":[{"key":"a","prompt":"x","needs":["b"]},{"key":"b","prompt":"y","needs":["a"]}]}"#,
        );
        assert!(circle.contains("these tasks need each other"), "{circle}");
        assert!(wrong(r#"{"tasks":[]}"#).contains("task"));
    }

    #[test]
    fn words_are_not_for_one_who_takes_only_commands() {
        let hand = Mate { takes_words: false, ..mate("hand", &["research", "synthesis", "orchestration"]) };
        let team = [hand.clone(), mate("ann", &["research"])];
        let flaw = |task: &str| {
            let answer = format!(r#"{{"tasks":[{{"key":"a","agent":"hand",{task}}}]}}"#);
            read(&answer, &team, true, None).err().map(|error| error.message)
        };
        assert_eq!(
            flaw(r#""prompt":"x""#).as_deref(),
            Some("the plan cannot be used: task `a` is in words, and `hand` takes only commands")
        );
        assert_eq!(flaw(r#""run":"true""#), None);
        for capability in [SYNTHESIS, ORCHESTRATION] {
            assert_eq!(somebody_can(&team, capability), None, "the task for it is in words");
            assert!(somebody_can(&[Mate { takes_words: true, ..hand.clone() }], capability).is_some());
        }
    }

    #[test]
    fn commands_are_refused_unless_they_are_allowed() {
        let answer = r#"{"tasks":[{"key":"a","prompt":"x","verify":"rm -r /"}]}"#;
        assert!(wrong(answer).contains("holds a command"));
        assert!(read(answer, &team(), true, None).is_ok());
    }

    #[test]
    fn a_plan_has_so_many_tasks_and_no_more() {
        let plan = |count: usize| {
            let tasks: Vec<Value> =
                (0..count).map(|n| serde_json::json!({ "key": format!("t{n}"), "prompt": "x" })).collect();
            serde_json::json!({ "tasks": tasks }).to_string()
        };
        assert!(read(&plan(TASKS_MAX), &team(), false, None).is_ok());
        assert!(wrong(&plan(TASKS_MAX + 1)).contains("more than 200"));
    }

    #[test]
    fn the_report_needs_all_and_goes_to_who_can() {
        let plan = read(
            r#"{"tasks":[{"key":"report","prompt":"x"},{"key":"b","prompt":"y"}]}"#,
            &team(),
            false,
            None,
        );
        let plan = with_report(plan.expect("a plan"), "why?", &team());
        let last = plan.tasks.last().expect("it was added");
        assert_eq!((last.key.as_str(), last.needs.as_slice()), ("report-2", &[0, 1][..]));
        assert_eq!(last.capability.as_deref(), Some("synthesis"));
        assert!(last.prompt.as_ref().is_some_and(|prompt| prompt.ends_with("why?")));
    }

    #[test]
    fn the_question_is_bounded_and_names_team_and_goal() {
        let many: Vec<Mate> = (0..500).map(|n| mate(&format!("agent-{n}"), &["x"])).collect();
        let task = planning("Find out why.", &many, false, PlanCheck::Run);
        let question = task.prompt.expect("words");
        assert!(question.contains("Find out why.") && question.contains("- agent-59: x\n- and 440 more"));
        assert!(
            question.contains("no `run` and no `verify`") && question.len() < 4_000,
            "{}",
            question.len()
        );
        assert_eq!((task.attempts, task.capability), (Some(4), None));
        let outcomes =
            vec![Outcome { name: "a".into(), state: "failed".into(), words: "w".repeat(5_000) }; 200];
        let again = question_again("first", &outcomes);
        assert!(again.starts_with("first\n") && again.ends_with("- and 100 more\n"));
        assert!(again.len() < 40_000, "{}", again.len());
    }

    #[test]
    fn a_goal_is_planned_where_somebody_plans() {
        let config =
            |text: &str| Config::parse("quorate.toml", text.as_bytes()).expect("a good configuration");
        let hands = config("[agents.hand]\ncommand = [\"./hand.sh\"]\n");
        let plain = begin("Find out why.", &hands, PlanCheck::Run).expect("one task");
        assert_eq!((plain.tasks.len(), plain.tasks[0].prompt.as_deref()), (1, Some("Find out why.")));
        assert!(begin("Find out why.", &hands, PlanCheck::Only).is_err());
        for planner in
            ["driver = \"claude\"", "command = [\"./boss.sh\"]\ncapabilities = [\"orchestration\"]"]
        {
            let team = config(&format!("[agents.boss]\n{planner}\n"));
            let plan = begin("Find out why.", &team, PlanCheck::Approve).expect("a planning task");
            assert_eq!(plan.tasks[0].verify.as_deref(), Some("@plan-approve"), "{planner}");
        }
        assert!(begin(" ", &hands, PlanCheck::Run).is_err());
    }

    #[test]
    fn checks_are_told_from_commands() {
        for check in PlanCheck::ALL {
            assert_eq!(PlanCheck::of(check.as_str()), Some(check));
            assert!(check.as_str().starts_with(PlanCheck::LIKE.trim_end_matches('%')));
        }
        assert_eq!(PlanCheck::of("test -s plan"), None);
    }
}

//! The agents that a node runs, from the configuration.
//!
//! Here lives the reading of `[agents]` tables into members. Who is run by others (external agents, people) is left
//! out here and pulls its own work.

use quorate_drivers::{How, Worker};
use quorate_model::config::{AgentConfig, Config, Driver, millis};
use quorate_process::Limits;
use quorate_service::task::Kinds;

/// The built-in shell agents that work when no agent is configured.
const SHELL_AGENTS: usize = 4;

/// An agent that a node runs.
#[derive(Debug, Clone)]
pub struct Member {
    /// Its name.
    pub name: String,
    /// How it is run, as the ledger and people call it.
    pub driver: String,
    /// What it can do; `None` is everything.
    pub capabilities: Option<Vec<String>>,
    /// Which work it takes.
    pub kinds: Kinds,
    /// By what means it works.
    pub worker: Worker,
}

impl Member {
    /// Makes the built-in shell agent with this number.
    pub fn shell(number: usize, config: &Config) -> Member {
        Member {
            name: format!("shell-{number}"),
            driver: "command".into(),
            capabilities: None,
            kinds: Kinds::Run,
            worker: Worker {
                how: How::Shell,
                env: Vec::new(),
                limits: Limits::default(),
                grace: millis(config.health.grace_ms),
            },
        }
    }

    fn configured(name: String, table: &AgentConfig, config: &Config) -> Member {
        let passed = table.env_pass.iter().filter_map(|name| Some((name.clone(), std::env::var(name).ok()?)));
        let set = table.env.iter().map(|(name, value)| (name.clone(), value.clone()));
        let everything = table.capabilities.iter().any(|c| c == "*");
        Member {
            name,
            driver: table.driver.as_str().into(),
            capabilities: (!everything).then(|| table.capabilities.clone()),
            kinds: if table.command.is_empty() { Kinds::Run } else { Kinds::Any },
            worker: Worker {
                how: if table.command.is_empty() { How::Shell } else { How::Command(table.command.clone()) },
                env: passed.chain(set).collect(),
                limits: Limits {
                    memory_bytes: table.resources.memory_bytes,
                    cpu_percent: table.resources.cpu_percent,
                },
                grace: millis(config.health.grace_ms),
            },
        }
    }

    /// Returns the capabilities as the ledger stores them.
    pub(crate) fn stored_capabilities(&self) -> Vec<String> {
        self.capabilities.clone().unwrap_or_else(|| vec!["*".into()])
    }
}

/// Returns the members that a node of this configuration runs: the configured ones, or four shell agents.
///
/// `at_most` cuts the list; without any `[agents]` it is how many shell agents there are.
pub fn team(config: &Config, at_most: Option<usize>) -> Vec<Member> {
    if config.agent_tables.is_empty() {
        return (1..=at_most.unwrap_or(SHELL_AGENTS)).map(|number| Member::shell(number, config)).collect();
    }
    let run_here = config.agents().into_iter().filter(|(_, table)| table.driver == Driver::Command);
    let members = run_here.map(|(name, table)| Member::configured(name, table, config));
    members.take(at_most.unwrap_or(usize::MAX)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Config {
        Config::parse("quorate.toml", text.as_bytes()).expect("a good configuration")
    }

    #[test]
    fn without_agents_four_shell_agents_take_only_commands() {
        let team = team(&Config::default(), None);
        let names: Vec<&str> = team.iter().map(|m| m.name.as_str()).collect();
        assert_eq!(names, ["shell-1", "shell-2", "shell-3", "shell-4"]);
        assert!(team.iter().all(|m| m.kinds == Kinds::Run && m.capabilities.is_none()));
    }

    #[test]
    fn only_agents_with_a_command_driver_are_run_here() {
        let config = parse(
            "[agents.check]\ndriver = \"command\"\ncount = 2\ncapabilities = [\"validation\"]\ncommand = [\"./check.sh\"]\n\
             [agents.ann]\ndriver = \"human\"\n",
        );
        let team = team(&config, None);
        let names: Vec<&str> = team.iter().map(|m| m.name.as_str()).collect();
        assert_eq!(names, ["check-1", "check-2"]);
        assert_eq!(team[0].capabilities.as_deref(), Some(&["validation".to_owned()][..]));
    }
}

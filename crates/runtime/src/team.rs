//! The agents that a node runs, from the configuration.
//!
//! Here lives the reading of `[agents]` tables into members. Who is run by others (external agents, people) is left
//! out here and pulls its own work.

use quorate_drivers::agent::Program;
use quorate_drivers::{How, Settings, Tool, Worker};
use quorate_model::agent::abilities;
use quorate_model::config::{AgentConfig, Config, Driver, Workspace, millis};
use quorate_process::Limits;
use quorate_service::task::Kinds;
use std::path::PathBuf;

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
    /// Where it works.
    pub workspace: Workspace,
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
            workspace: Workspace::Shared,
        }
    }

    fn configured(name: String, table: &AgentConfig, config: &Config, look: Look<'_>) -> Member {
        let settings = table.driver.is_driven().then(|| settings(table));
        let own = settings.as_ref().map(|settings| passed(table.driver, settings)).unwrap_or_default();
        let names = own.iter().chain(&table.env_pass);
        let passed = names.filter_map(|name| Some((name.clone(), look(name)?)));
        let set = table.env.iter().map(|(name, value)| (name.clone(), value.clone()));
        let how = match settings {
            Some(settings) => How::Drive { driver: table.driver.as_str(), settings: Box::new(settings) },
            None if table.command.is_empty() => How::Shell,
            None => How::Command(table.command.clone()),
        };
        Member {
            name,
            driver: table.driver.as_str().into(),
            capabilities: abilities(&table.capabilities),
            kinds: if how == How::Shell { Kinds::Run } else { Kinds::Any },
            worker: Worker {
                how,
                env: passed.chain(set).collect(),
                limits: Limits {
                    memory_bytes: table.resources.memory_bytes,
                    cpu_percent: table.resources.cpu_percent,
                },
                grace: millis(config.health.grace_ms),
            },
            workspace: table.workspace,
        }
    }

    /// Returns the capabilities as the ledger stores them.
    pub(crate) fn stored_capabilities(&self) -> Vec<String> {
        self.capabilities.clone().unwrap_or_else(|| vec!["*".into()])
    }
}

/// Finds the value of a variable: of the environment, or of where else secrets are kept.
pub type Look<'a> = &'a dyn Fn(&str) -> Option<String>;

/// What a table says that its driver needs. Where the key is a must, it is named.
fn settings(table: &AgentConfig) -> Settings {
    let api = &table.api;
    let tools = api.tools.iter().map(|(name, tool)| {
        (name.clone(), Tool { command: tool.command.clone(), about: tool.about.clone() })
    });
    // A server of one's own may want no key.
    let usual = api.provider.filter(|_| api.base_url.is_none()).map(|provider| provider.key_env().to_owned());
    Settings {
        command: table.command.clone(),
        model: table.model.clone(),
        prompt: table.prompt.as_ref().map(Into::into),
        max_turns: table.max_turns,
        provider: api.provider.map(|provider| provider.as_str().to_owned()),
        base_url: api.base_url.clone(),
        key_env: api.key_env.clone().or(usual),
        tools: tools.collect(),
        mcp: api.mcp.clone(),
        state: PathBuf::new(),
    }
}

/// The variables that a driver's agent is handed on without being named in its table.
fn passed(driver: Driver, settings: &Settings) -> Vec<String> {
    match Program::of(driver.as_str()) {
        Some(program) => program.passed().iter().map(|name| (*name).to_owned()).collect(),
        None => settings.key_env.iter().cloned().collect(),
    }
}

/// Returns the members that a node of this configuration runs: the configured ones, or four shell agents.
///
/// `at_most` cuts the list; without any `[agents]` it is how many shell agents there are. `look` finds the variables
/// that agents are handed on.
pub fn team(config: &Config, at_most: Option<usize>, look: Look<'_>) -> Vec<Member> {
    if config.agent_tables.is_empty() {
        return (1..=at_most.unwrap_or(SHELL_AGENTS)).map(|number| Member::shell(number, config)).collect();
    }
    let is_run_here = |driver: Driver| driver == Driver::Command || driver.is_driven();
    let run_here = config.agents().into_iter().filter(|(_, table)| is_run_here(table.driver));
    let members = run_here.map(|(name, table)| Member::configured(name, table, config, look));
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
        let team = team(&Config::default(), None, &|_| None);
        let names: Vec<&str> = team.iter().map(|m| m.name.as_str()).collect();
        assert_eq!(names, ["shell-1", "shell-2", "shell-3", "shell-4"]);
        assert!(team.iter().all(|m| m.kinds == Kinds::Run && m.capabilities.is_none()));
    }

    #[test]
    fn real_agents_get_their_keys_and_no_other_variable() {
        let config = parse(
            "[agents.c]\ndriver = \"claude\"\nmodel = \"m\"\nenv_pass = [\"EXTRA\"]\nenv = { MODE = \"x\" }\n",
        );
        let known = [("ANTHROPIC_API_KEY", "a"), ("OPENAI_API_KEY", "o"), ("EXTRA", "e")];
        let look = |name: &str| known.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned());
        let team = team(&config, None, &look);
        let env: Vec<_> = team[0].worker.env.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        assert_eq!(env, [("ANTHROPIC_API_KEY", "a"), ("EXTRA", "e"), ("MODE", "x")]);
        assert_eq!((team[0].kinds, team[0].driver.as_str()), (Kinds::Any, "claude"));
        let How::Drive { driver: "claude", settings } = &team[0].worker.how else { panic!("driven") };
        assert_eq!(settings.model.as_deref(), Some("m"));
    }

    #[test]
    fn a_model_s_key_is_a_must_unless_its_server_is_one_s_own() {
        let check = |more: &str, expected: Option<&str>| {
            let text = format!("[agents.m]\ndriver = 'model'\nmodel = 'm'\nprovider = 'openai-chat'\n{more}");
            let team = team(&parse(&text), None, &|_| None);
            let How::Drive { settings, .. } = &team[0].worker.how else { panic!("driven") };
            assert_eq!(settings.key_env.as_deref(), expected, "{more}");
        };
        check("", Some("OPENAI_API_KEY"));
        check("base_url = 'http://127.0.0.1:1/v1'", None);
        check("base_url = 'http://127.0.0.1:1/v1'\nkey_env = 'MINE'", Some("MINE"));
    }

    #[test]
    fn only_agents_that_the_product_starts_are_run_here() {
        let config = parse(
            "[agents.check]\ndriver = \"command\"\ncount = 2\ncapabilities = [\"validation\"]\ncommand = [\"./check.sh\"]\n\
             [agents.ann]\ndriver = \"human\"\n",
        );
        let team = team(&config, None, &|_| None);
        let names: Vec<&str> = team.iter().map(|m| m.name.as_str()).collect();
        assert_eq!(names, ["check-1", "check-2"]);
        assert_eq!(team[0].capabilities.as_deref(), Some(&["validation".to_owned()][..]));
    }
}

//! What `quorate.toml` may say, and what is told about what it may not.

use quorate_model::config::{
    AGENTS_MAX, Config, Driver, Provider, SERVERS_MAX, TOOLS_MAX, TURNS_MAX, ToolConfig, Workspace,
    read_address, read_bytes, read_cpu,
};
use quorate_model::{Error, Kind};
use std::collections::BTreeMap;

fn config(text: &str) -> Config {
    Config::parse("quorate.toml", text.as_bytes()).unwrap_or_else(|found| panic!("{found}"))
}

fn refuse(text: &str, expected: &str) {
    let found = Config::parse("quorate.toml", text.as_bytes()).expect_err(text).to_string();
    assert!(found.contains(expected), "{text}\n--- found\n{found}\n--- expected\n{expected}");
}

const EVERYTHING: &str = r#"
strict_agents = true
[store]
url = "postgres://user@host/db"
agents_url = 'postgres://agent@host/db'
[server]
listen = "0.0.0.0:9000"
[health]
interval = "2s"
lease = "1s"
stuck_after = "1m"
stop_stuck_after = "10m"
max_attempts = 5
max_respawns = 0
retry_after = "100ms"
grace = "1s"
timeout = "2h"
[budget]
usd = 20.5
tokens = 5_000_000
[orchestrator]
clear_at = 60
[prices."my-model"]
input = 0.25
output = 2
cache_read = 0.025
[telemetry]
otlp = "http://127.0.0.1:4318"
[retention]
events = "1d"
attempts = "2d"
logs = "3d"
tasks = "4d"
[memory]
findings = "1d"
episodes = "2d"
decisions = "3d"
patterns = "4d"
checkpoints = "5d"
messages = "6d"
lines = "7d"
count = 8
size = "9MB"
consolidate = "thinker"
[memory.embedding]
base_url = "http://127.0.0.1:11434/v1/"
model = "small"
key_env = "EMBED_KEY"
likeness = 45
[agents.validation]
driver = "command"
capabilities = ["validation", "docs"]
count = 2
command = ["./agents/validate.sh", "--fast"]
env = { RUST_LOG = "info" }
env_pass = ["HOME_KEY"]
[agents.thinker]
driver = "model"
provider = "openai-chat"
model = "some-model"
base_url = "http://127.0.0.1:11434/v1/"
key_env = "LOCAL_KEY"
max_turns = 7
tools.test = { command = ["cargo", "test"], about = "runs the tests" }
mcp.notes = { command = ["notes", "--stdio"] }
[agents.research]
driver = "claude"
model = "some-model"
prompt = "prompts/research.md"
max_turns = 20
workspace = "worktree"
resources = { memory = "2GB", cpu = "50%" }
budget = { usd = 0.5 }
"#;

#[test]
fn an_empty_file_is_the_default_that_is_documented() {
    let found = config("");
    assert_eq!(found, Config::default());
    assert_eq!(found.store.url, "sqlite:.quorate/quorate.db");
    assert_eq!(found.server.listen.to_string(), "127.0.0.1:8888");
    assert!(!found.server.listen_is_set && !found.strict_agents);
    let health = &found.health;
    assert_eq!((health.interval_ms, health.lease_ms, health.stuck_after_ms), (10_000, 60_000, 300_000));
    assert_eq!((health.max_attempts, health.max_respawns, health.retry_after_ms), (3, 3, 1000));
    assert_eq!((health.grace_ms, health.timeout_ms, health.stop_stuck_after_ms), (5000, 3_600_000, None));
    assert!(!found.budget.is_set() && found.prices.is_empty() && !found.limits("anyone").is_set());
    assert_eq!(found.retention.events_ms, 30 * 24 * 3_600_000);
    assert_eq!(found.retention.events_ms, found.retention.logs_ms);
    assert_eq!(found.orchestrator.clear_at, 80);
    assert_eq!(found.retention.tasks_ms, 90 * 24 * 3_600_000);
    let day = 24 * 3_600_000;
    let ages = [180, 90, 730, 730, 30, 30, 14].map(|days| days * day);
    assert_eq!(found.memory.ages_ms().into_iter().map(|(_, ms)| ms).collect::<Vec<_>>(), ages);
    assert_eq!((found.memory.count, found.memory.size_bytes), (50_000, 64_000_000));
    assert_eq!(found.memory.embedding, None, "nobody's model is asked unless somebody says so");
    assert!(found.agents().is_empty());
}

#[test]
fn every_key_is_read() {
    let found = config(EVERYTHING);
    assert!(found.strict_agents && found.server.listen_is_set);
    assert_eq!(found.store.url, "postgres://user@host/db");
    assert_eq!(found.store.agents_url.as_deref(), Some("postgres://agent@host/db"));
    assert_eq!(found.server.listen.port(), 9000);
    let health = &found.health;
    assert_eq!((health.interval_ms, health.lease_ms, health.stuck_after_ms), (2000, 1000, 60_000));
    assert_eq!((health.max_attempts, health.max_respawns, health.retry_after_ms), (5, 0, 100));
    assert_eq!(
        (health.grace_ms, health.timeout_ms, health.stop_stuck_after_ms),
        (1000, 7_200_000, Some(600_000))
    );
    assert_eq!((found.budget.usd_micros, found.budget.tokens), (Some(20_500_000), Some(5_000_000)));
    assert_eq!(found.telemetry.otlp.as_deref(), Some("http://127.0.0.1:4318"));
    let price = found.prices["my-model"];
    assert_eq!((price.input, price.output), (250_000, 2_000_000));
    assert_eq!(
        (price.cache_read, price.cache_write),
        (25_000, 250_000),
        "what is not said costs as much as input"
    );
    for name in ["research", "research@7"] {
        assert_eq!(found.limits(name).agent.usd_micros, Some(500_000), "{name}");
    }
    assert_eq!(found.limits("validation-2").run, found.budget);
    assert!(!found.limits("validation-2").agent.is_set());
    assert_eq!(found.retention.attempts_ms, 2 * 24 * 3_600_000);
    assert_eq!(found.orchestrator.clear_at, 60);
    assert_eq!(found.retention.tasks_ms, 4 * 24 * 3_600_000);
    let ages = [1, 2, 3, 4, 5, 6, 7].map(|days| days * 24 * 3_600_000);
    assert_eq!(found.memory.ages_ms().into_iter().map(|(_, ms)| ms).collect::<Vec<_>>(), ages);
    assert_eq!((found.memory.count, found.memory.size_bytes), (8, 9_000_000));
    assert_eq!(found.memory.consolidate.as_deref(), Some("thinker"));
    let embedding = found.memory.embedding.as_ref().expect("it is given");
    assert_eq!(
        (embedding.base_url.as_str(), embedding.model.as_str(), embedding.likeness),
        ("http://127.0.0.1:11434/v1", "small", 45)
    );
    assert_eq!(embedding.key_env.as_deref(), Some("EMBED_KEY"));
    let validation = &found.agent_tables["validation"];
    assert_eq!(validation.driver, Driver::Command);
    assert_eq!(validation.capabilities, ["validation", "docs"]);
    assert_eq!(validation.command, ["./agents/validate.sh", "--fast"]);
    assert_eq!(validation.env["RUST_LOG"], "info");
    assert_eq!(validation.env_pass, ["HOME_KEY"]);
    let research = &found.agent_tables["research"];
    assert_eq!((research.driver, research.model.as_deref()), (Driver::Claude, Some("some-model")));
    assert_eq!(research.prompt.as_deref(), Some("prompts/research.md"));
    assert_eq!((research.max_turns, research.workspace), (Some(20), Workspace::Worktree));
    assert_eq!(validation.workspace, Workspace::Shared);
    let thinker = &found.agent_tables["thinker"];
    assert_eq!((thinker.api.provider, thinker.max_turns), (Some(Provider::OpenaiChat), Some(7)));
    assert_eq!(thinker.api.base_url.as_deref(), Some("http://127.0.0.1:11434/v1"));
    assert_eq!(thinker.api.key_env.as_deref(), Some("LOCAL_KEY"));
    let tool = ToolConfig { command: vec!["cargo".into(), "test".into()], about: "runs the tests".into() };
    assert_eq!(thinker.api.tools, BTreeMap::from([("test".into(), tool)]));
    let server = vec!["notes".to_owned(), "--stdio".to_owned()];
    assert_eq!(thinker.api.mcp, BTreeMap::from([("notes".into(), server)]));
    assert_eq!(
        (research.resources.memory_bytes, research.resources.cpu_percent),
        (Some(2_000_000_000), Some(50))
    );
}

#[test]
fn count_makes_numbered_members() {
    let found = config(EVERYTHING);
    let names: Vec<String> = found.agents().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["research", "thinker", "validation-1", "validation-2"]);
}

#[test]
fn an_unknown_key_names_its_line_and_the_nearest_known_key() {
    let text = "[health]\nlease = \"30s\"\nstuck_aftr = \"5m\"\n";
    let error = Error::from(Config::parse("quorate.toml", text.as_bytes()).expect_err("unknown"));
    assert_eq!(error.kind, Kind::Invalid);
    assert_eq!(
        error.message,
        "quorate.toml:3:1: unknown key `stuck_aftr`\n3 | stuck_aftr = \"5m\"\n  | ^^^^^^^^^^"
    );
    assert_eq!(error.hint.as_deref(), Some("did you mean `stuck_after`?"));
    refuse(
        "[helth]\n",
        "quorate.toml:1:2: unknown key `helth`\n1 | [helth]\n  |  ^^^^^\nhelp: did you mean `health`?",
    );
    refuse("[agents.a]\ncapabilites = []\n", "did you mean `capabilities`?");
    refuse("[agents.a.resources]\nmem = '1GB'\n", "did you mean `memory`?");
    refuse("strict = true\n", "unknown key `strict`");
    let lease = "quorate.toml:2:1: unknown key `lease`\n2 | lease = '30s'\n  | ^^^^^\nhelp: ";
    refuse("[agents.a]\nlease = '30s'\n", lease);
}

#[test]
fn wrong_values_say_where_and_what_was_expected() {
    refuse("store = 1", "quorate.toml:1:9: `store` must be a table, not an integer");
    refuse("[store]\nurl = 'mysql://user:secret@x'", "quorate.toml:2:7: `mysql` is no database");
    refuse("[store]\nurl = 'sqlite:'", "is no database");
    refuse("[store]\nagents_url = 'mysql://user:secret@x'", "quorate.toml:2:14: `mysql` is no database");
    refuse("[server]\nlisten = '8888'", "`8888` is no address with a port");
    refuse("[server]\nlisten = '127.0.0.1:99999'", "is no address with a port");
    refuse("[health]\nlease = '999ms'", "quorate.toml:2:9: `lease` must be at least 1s, not `999ms`");
    refuse("[health]\ninterval = '99ms'", "`interval` must be at least 100ms");
    refuse(
        "[health]\ninterval = 10",
        "`interval` must be a duration in quotes, such as \"30s\", not an integer",
    );
    refuse("[health]\ntimeout = '10 min'", "unknown unit ` min`");
    refuse("[health]\nmax_attempts = 0", "`max_attempts` must be a whole number from 1 to 100, not 0");
    refuse("[budget]\nusd = -1", "`usd` must be a number, at least 0");
    refuse("[orchestrator]\nclear_at = 101", "`clear_at` must be a whole number from 1 to 100");
    refuse("[memory]\nconsolidate = 'a b'", "agent `a b` is not a name");
    refuse("[memory.embedding]\nmodel = 'm'", "`[memory.embedding]` needs `base_url` and `model`");
    refuse(
        "[memory.embedding]\nmodel = 'm'\nbase_url = 'http://me:key@host/v1'",
        "`key_env` names its variable",
    );
    refuse("[memory.embedding]\nmodel = 'm'\nbase_url = 'http://h'\nlikeness = 101", "from 0 to 100");
    refuse("[memory.embedding]\nmodel = 'm'\nurl = 'http://h'", "unknown key `url`");
    refuse("[budget]\nusd = 1_000_000_001", "`usd` is more than 1000000000 dollars");
    refuse("[agents.a]\nbudget = { dollars = 1 }", "unknown key `dollars`");
    refuse("[prices.m]\ninput = 1", "a price needs `input` and `output`");
    refuse("[prices.m]\ninput = 1\noutput = 1000001", "`output` is more than 1000000 dollars");
    refuse("[prices]\nm = 3", "a price must be a table, as in `[prices.\"m\"]`");
    refuse("[prices.\" \"]\ninput = 1\noutput = 1", "the name of a model has 1 to 128 bytes");
    refuse("[budget]\ntokens = 1.5", "`tokens` must be a whole number, at least 0, not a number");
    refuse(
        "[agents.a]\ndriver = 'cluade'",
        "unknown driver `cluade`\n2 | driver = 'cluade'\n  |          ^^^^^^^^\nhelp: did you mean `claude`?",
    );
    refuse("[agents.a]\ndriver = 'xyzzyxyzzy'", "help: the drivers are: command, claude, codex");
    refuse("[agents.a]\ncount = 0", "`count` must be a whole number from 1 to 1000, not 0");
    refuse("[agents.a]\ncount = 1001", "from 1 to 1000");
    refuse("[agents.a]\ncommand = []", "`command` names no program");
    refuse("[agents.a]\ncommand = ['']", "`command` names no program");
    refuse("[agents.a]\ncommand = 'x'", "`command` must be an array of strings, not a string");
    refuse("[agents.a]\ndriver = 'human'\ncommand = ['x']", "`human` runs no program");
    refuse("[agents.a]\ndriver = 'model'", "needs a `model`");
    refuse("[agents.a]\ncapabilities = ['a b']", "capability `a b` is not a name");
    refuse("[agents.a]\nenv = { A = 1 }", "the variable `A` must be a string, not an integer");
    refuse("[agents.a]\nenv = { 'A B' = '1' }", "`A B` is no name of a variable");
    refuse("[agents.a]\nenv = { QUORATE_TERM = '1' }", "belongs to the product");
    refuse("[agents.a]\nenv_pass = ['9']", "is no name of a variable");
    refuse("[agents.a]\nresources = { memory = '2' }", "is no amount of memory");
    refuse("[agents.a]\nresources = { cpu = '0%' }", "is no share of CPU");
    refuse("[agents.'a b']\n", "agent `a b` is not a name");
    refuse("agents = 1", "`agents` must be a table");
    refuse("[agents]\na = 1", "an agent must be a table, as in `[agents.a]`, not an integer");
    refuse("[agents.a]\n[agents.a]\n", "duplicate key");
}

#[test]
fn members_of_two_tables_may_not_share_a_name() {
    refuse("[agents.a]\ncount = 2\n[agents.a-2]\n", "two tables stand for the agent `a-2`");
    let long = "x".repeat(63);
    refuse(&format!("[agents.{long}]\ncount = 2\n"), "is not a name");
    config(&format!("[agents.{long}]\n"));
}

#[test]
fn the_team_is_bounded_at_the_limit() {
    let tables =
        |count: usize| (0..count).map(|n| format!("[agents.a{n}]\ncount = 1000\n")).collect::<String>();
    assert_eq!(config(&tables(AGENTS_MAX / 1000)).agents().len(), AGENTS_MAX);
    refuse(&format!("{}[agents.b]\n", tables(AGENTS_MAX / 1000)), "more than 10000 agents");
}

#[test]
fn a_thousand_models_have_a_price_and_no_more() {
    let prices = |count: usize| -> String {
        (0..count).map(|n| format!("[prices.m{n}]\ninput = 1\noutput = 1\n")).collect()
    };
    assert_eq!(config(&prices(1000)).prices.len(), 1000);
    refuse(&prices(1001), "more than 1000 models have a price");
}

#[test]
fn several_findings_are_told_together_in_order() {
    let found =
        Config::parse("q.toml", b"x = 1\n[health]\nlease = '1ms'\n[budget]\nusd = 'a'\n").expect_err("three");
    let lines: Vec<usize> = found.list.iter().map(|finding| finding.line).collect();
    assert_eq!(lines, [1, 3, 5]);
}

#[test]
fn hostile_files_are_refused_without_panic() {
    refuse("\u{0}", "quorate.toml:1:");
    assert!(Config::parse("q", b"\xff").is_err());
    assert!(Config::parse("q", &vec![b'#'; (16 << 20) + 1]).is_err());
    refuse(&format!("{} = 1", vec!["a"; 50_000].join(".")), "nested more than 64 deep");
}

#[test]
fn amounts_and_addresses_are_read() {
    assert_eq!(read_bytes("2GB"), Ok(2_000_000_000));
    assert_eq!(read_bytes("512 MiB"), Ok(512 << 20));
    for text in ["", "GB", "2", "2gb", "1KB", "-1GB", "99999999999TB", "1.5GB"] {
        assert!(read_bytes(text).is_err(), "{text}");
    }
    assert_eq!(read_cpu("200%"), Ok(200));
    for text in ["", "%", "50", "+5%", "0%", "100001%", "1.5%"] {
        assert!(read_cpu(text).is_err(), "{text}");
    }
    assert!(read_address("localhost:0").is_ok_and(|address| address.ip().is_loopback()));
    assert!(read_address("[::1]:8888").is_ok());
    for text in ["", "localhost", "example.org:80", ":80", "127.0.0.1"] {
        assert!(read_address(text).is_err(), "{text}");
    }
}

#[test]
fn a_model_is_asked_as_its_table_says() {
    let model = |more: &str| format!("[agents.a]\ndriver = 'model'\nmodel = 'm'\n{more}");
    refuse(&model(""), "needs a `provider`");
    refuse(&model("provider = 'openia'"), "did you mean `openai`?");
    let good = |more: &str| model(&format!("provider = 'openai'\n{more}"));
    refuse(&good("base_url = 'localhost:80'"), "quorate.toml:5:12: `base_url` is no address");
    refuse(&good("base_url = 'http://user:key@host'"), "without a key");
    refuse(&good("key_env = 'A KEY'"), "`A KEY` is no name of a variable");
    refuse(&good("max_turns = 0"), "whole number from 1 to 10000");
    refuse(&good(&format!("max_turns = {}", TURNS_MAX + 1)), "whole number from 1 to 10000");
    assert!(Config::parse("f", good(&format!("max_turns = {TURNS_MAX}")).as_bytes()).is_ok());
}

#[test]
fn a_tool_is_a_command_with_a_name_that_services_take() {
    let tools = |tools: &str| {
        format!("[agents.a]\ndriver = 'model'\nmodel = 'm'\nprovider = 'gemini'\n[agents.a.tools]\n{tools}\n")
    };
    refuse(&tools("test = 'make'"), "a tool must be a table, as in `test = {");
    refuse(&tools("test = { about = 'x' }"), "the tool `test` names no program");
    refuse(&tools("'a b' = { command = ['x'] }"), "tool `a b` is not a name");
    refuse(&tools("'a.b' = { command = ['x'] }"), "has a dot");
    refuse(&tools("a = { command = ['x'], abuot = 'y' }"), "did you mean `about`?");
    let many = |count: usize| {
        tools(&(0..count).map(|n| format!("t{n} = {{ command = ['x'] }}\n")).collect::<String>())
    };
    assert_eq!(config(&many(TOOLS_MAX)).agent_tables["a"].api.tools.len(), TOOLS_MAX);
    refuse(&many(TOOLS_MAX + 1), "more than 64 tools");
    let servers = |servers: &str| tools("").replace(".tools]", ".mcp]") + servers;
    refuse(&servers("quorate = { command = ['x'] }"), "no MCP server can have the name `quorate`");
    refuse(&servers("a = { command = [] }"), "the MCP server `a` names no program");
    let many = |count: usize| {
        servers(&(0..count).map(|n| format!("s{n} = {{ command = ['x'] }}\n")).collect::<String>())
    };
    assert_eq!(config(&many(SERVERS_MAX)).agent_tables["a"].api.mcp.len(), SERVERS_MAX);
    refuse(&many(SERVERS_MAX + 1), "more than 16 MCP servers");
}

#[test]
fn keys_of_another_driver_are_refused() {
    refuse(
        "[agents.a]\ndriver = 'claude'\nbase_url = 'http://x'",
        "no meaning for the driver `claude`, only for `model`",
    );
    refuse(
        "[agents.a]\ndriver = 'human'\nworkspace = 'worktree'",
        "`workspace` has no meaning for the driver `human`",
    );
    refuse("[agents.a]\nworkspace = 'wroktree'", "did you mean `worktree`?");
    refuse("[agents.a]\nmax_turns = 3", "`max_turns` has no meaning for the driver `command`");
    refuse("[agents.a]\ndriver = 'codex'\nmax_turns = 3", "no meaning for the driver `codex`");
}

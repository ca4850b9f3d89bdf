//! The configuration of a project: `quorate.toml`.
//!
//! Here live every setting with its default and its limits, and the reading of the file. Where the file is found,
//! and what the environment overrides, the command line decides; secrets are never here, only the names of the
//! variables that hold them. The idea: a `Config` that exists is sound, and its defaults are `Config::default()`,
//! so an empty file and no file mean the same.

mod api;
mod embedding;
mod workspace;

pub use api::{ApiConfig, Provider, SERVERS_MAX, TOOLS_MAX, ToolConfig};
pub use embedding::{DIMENSIONS_MAX, EmbeddingConfig, LIKENESS};
pub use workspace::Workspace;

use crate::budget::{BUDGET_MAX, Budget};
use crate::diagnostic::{Diagnostics, quote};
use crate::document::{Entry, NodeKind, Source, Spanned};
use crate::error::{Error, Result};
use crate::memory::MemoryKind;
use crate::name::{check_name, member};
use crate::price::{Price, Prices};
use crate::table::{Table, as_string, did_you_mean};
use crate::usage::{MICROS, MODEL_NAME_MAX};
use std::collections::{BTreeMap, HashSet};
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

/// The largest `count` of one agent table.
pub const COUNT_MAX: i64 = 1000;

/// How many agents a configuration may name in all, `count` included.
pub const AGENTS_MAX: usize = 10_000;

/// The largest `max_turns`.
pub const TURNS_MAX: i64 = 10_000;

/// The shortest lease, in milliseconds.
pub const LEASE_LEAST_MS: i64 = 1000;

/// The shortest of all other durations, in milliseconds.
pub const DURATION_LEAST_MS: i64 = 100;

/// The smallest memory limit, in bytes: less does not start a process.
pub const MEMORY_LEAST: u64 = 1 << 20;

/// How many memories may be kept at most.
pub const MEMORIES_MAX: i64 = 10_000_000;

/// The `clear_at` at which no context is cleared: one that is used up is the program's own business.
pub const CLEAR_NEVER: i64 = 100;

/// The largest share of CPU, in per cent of one core.
pub const CPU_MAX: u32 = 100_000;

/// The highest price of a million tokens, in dollars.
pub const PRICE_MAX: f64 = 1_000_000.0;

/// How many models a configuration may give a price.
pub const PRICES_MAX: usize = 1000;

const SECOND_MS: i64 = 1000;
const DAY_MS: i64 = 24 * 60 * 60 * SECOND_MS;

/// Returns milliseconds, as settings and rows hold them, as a length of time; below zero is none at all.
///
/// ```
/// use quorate_model::config::millis;
/// assert_eq!(millis(1_500).as_secs_f64(), 1.5);
/// assert!(millis(-1).is_zero());
/// ```
pub fn millis(ms: i64) -> Duration {
    u64::try_from(ms).map_or(Duration::ZERO, Duration::from_millis)
}

/// The configuration of a project.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Config {
    /// Whether an agent name that is not configured is refused.
    pub strict_agents: bool,
    /// Where state is kept.
    pub store: StoreConfig,
    /// The network doors.
    pub server: ServerConfig,
    /// Leases, retries and supervision.
    pub health: HealthConfig,
    /// How much one run may use.
    pub budget: Budget,
    /// What tokens cost, where the program does not know it or somebody pays something else.
    pub prices: Prices,
    /// How long history is kept.
    pub retention: RetentionConfig,
    /// How much is remembered.
    pub memory: MemoryConfig,
    /// Who plans, and the session that steers the team.
    pub orchestrator: OrchestratorConfig,
    /// Where traces and metrics go.
    pub telemetry: TelemetryConfig,
    /// The agents by the name of their table; see [`Config::agents`] for the members of the team.
    pub agent_tables: BTreeMap<String, AgentConfig>,
}

/// `[store]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreConfig {
    /// `sqlite:PATH` (relative to the project folder) or `postgres://…`.
    pub url: String,
    /// The same ledger as the children of a node reach it, with fewer rights; `url` if it is not given.
    pub agents_url: Option<String>,
}

/// `[server]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerConfig {
    /// The address to listen on.
    pub listen: SocketAddr,
    /// Whether the file names the address. If not, a node whose port is taken uses a free one.
    pub listen_is_set: bool,
}

/// `[health]`; durations in milliseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthConfig {
    /// How often a node looks after everything.
    pub interval_ms: i64,
    /// How long a lease lasts without renewal.
    pub lease_ms: i64,
    /// How long no sign of life makes a task stuck: a warning.
    pub stuck_after_ms: i64,
    /// How long no sign of life stops the child. Only if set.
    pub stop_stuck_after_ms: Option<i64>,
    /// How often a task is tried, unless it says so itself.
    pub max_attempts: i64,
    /// How often a dead agent is started again without a completed task between.
    pub max_respawns: i64,
    /// The wait before the first retry; doubles.
    pub retry_after_ms: i64,
    /// The time between asking a child to stop and killing it.
    pub grace_ms: i64,
    /// How long an attempt may take, unless the task says so itself.
    pub timeout_ms: i64,
}

/// `[retention]`; durations in milliseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetentionConfig {
    /// How long events are kept.
    pub events_ms: i64,
    /// How long the ledger keeps the end of an attempt's output.
    pub attempts_ms: i64,
    /// How long the files with the output of attempts are kept.
    pub logs_ms: i64,
    /// How long ended runs, ended tasks with their attempts, and messages are kept.
    pub tasks_ms: i64,
}

/// `[memory]`; durations in milliseconds, since something was said last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryConfig {
    /// How long findings are kept.
    pub findings_ms: i64,
    /// How long episodes are kept.
    pub episodes_ms: i64,
    /// How long decisions are kept.
    pub decisions_ms: i64,
    /// How long patterns are kept.
    pub patterns_ms: i64,
    /// How long what was found of checkpoints is kept.
    pub checkpoints_ms: i64,
    /// How long what was found of messages is kept.
    pub messages_ms: i64,
    /// How long logged lines are kept.
    pub lines_ms: i64,
    /// Memories at most.
    pub count: i64,
    /// Bytes of their texts at most.
    pub size_bytes: i64,
    /// The model by whose vectors they are found by their meaning; without one, by their words alone.
    pub embedding: Option<EmbeddingConfig>,
    /// The agent that is asked once in a while which memories say the same; without one, nobody is.
    pub consolidate: Option<String>,
}

impl MemoryConfig {
    /// Returns how long each kind is kept.
    pub fn ages_ms(&self) -> Vec<(MemoryKind, i64)> {
        let age = |kind| match kind {
            MemoryKind::Finding => self.findings_ms,
            MemoryKind::Episode => self.episodes_ms,
            MemoryKind::Decision => self.decisions_ms,
            MemoryKind::Pattern => self.patterns_ms,
            MemoryKind::Checkpoint => self.checkpoints_ms,
            MemoryKind::Message => self.messages_ms,
            MemoryKind::Line => self.lines_ms,
        };
        MemoryKind::ALL.map(|kind| (kind, age(kind))).to_vec()
    }
}

/// `[orchestrator]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrchestratorConfig {
    /// Whether the plans that agents make may hold commands, which a node runs.
    pub commands: bool,
    /// From so many per cent of its context on a session is full, and is cleared where that can be done;
    /// [`CLEAR_NEVER`]: none is.
    pub clear_at: i64,
}

/// `[telemetry]`
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TelemetryConfig {
    /// Where a collector listens for OTLP over HTTP; without it nothing is exported.
    pub otlp: Option<String>,
}

/// `[agents.NAME]`
#[derive(Debug, Clone, PartialEq)]
pub struct AgentConfig {
    /// How it is run; `command` unless given.
    pub driver: Driver,
    /// What it can do; it takes tasks that ask for one of these, or for none.
    pub capabilities: Vec<String>,
    /// How many of it there are; 1 unless given.
    pub count: i64,
    /// Its program and arguments; empty if none is given.
    pub command: Vec<String>,
    /// The model it uses.
    pub model: Option<String>,
    /// The file with its instructions, relative to the project folder.
    pub prompt: Option<String>,
    /// How many times it may ask its model during one attempt.
    pub max_turns: Option<u32>,
    /// How it asks its model: for driver `model`.
    pub api: ApiConfig,
    /// Where it works.
    pub workspace: Workspace,
    /// What its processes may use.
    pub resources: ResourceLimits,
    /// Variables to set in its environment.
    pub env: BTreeMap<String, String>,
    /// Names of variables of the node's environment to hand on.
    pub env_pass: Vec<String>,
    /// How much each member of this table may use.
    pub budget: Budget,
}

/// The budgets that an agent works under: that of a run, and its own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Limits {
    /// How much one run may use.
    pub run: Budget,
    /// How much the agent may use.
    pub agent: Budget,
}

impl Limits {
    /// Returns whether there is any limit.
    pub fn is_set(self) -> bool {
        self.run.is_set() || self.agent.is_set()
    }
}

/// What the processes of an agent may use; `None` is no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ResourceLimits {
    /// Memory, in bytes.
    pub memory_bytes: Option<u64>,
    /// CPU, in per cent of one core (200 is two cores).
    pub cpu_percent: Option<u32>,
}

impl Default for StoreConfig {
    fn default() -> StoreConfig {
        StoreConfig { url: "sqlite:.quorate/quorate.db".to_string(), agents_url: None }
    }
}

impl Default for ServerConfig {
    fn default() -> ServerConfig {
        ServerConfig { listen: SocketAddr::from(([127, 0, 0, 1], 8888)), listen_is_set: false }
    }
}

impl Default for HealthConfig {
    fn default() -> HealthConfig {
        HealthConfig {
            interval_ms: 10 * SECOND_MS,
            lease_ms: 60 * SECOND_MS,
            stuck_after_ms: 300 * SECOND_MS,
            stop_stuck_after_ms: None,
            max_attempts: 3,
            max_respawns: 3,
            retry_after_ms: SECOND_MS,
            grace_ms: 5 * SECOND_MS,
            timeout_ms: 3600 * SECOND_MS,
        }
    }
}

impl Default for RetentionConfig {
    fn default() -> RetentionConfig {
        RetentionConfig {
            events_ms: 30 * DAY_MS,
            attempts_ms: 30 * DAY_MS,
            logs_ms: 30 * DAY_MS,
            tasks_ms: 90 * DAY_MS,
        }
    }
}

impl Default for MemoryConfig {
    fn default() -> MemoryConfig {
        MemoryConfig {
            findings_ms: 180 * DAY_MS,
            episodes_ms: 90 * DAY_MS,
            decisions_ms: 730 * DAY_MS,
            patterns_ms: 730 * DAY_MS,
            checkpoints_ms: 30 * DAY_MS,
            messages_ms: 30 * DAY_MS,
            lines_ms: 14 * DAY_MS,
            count: 50_000,
            size_bytes: 64_000_000,
            embedding: None,
            consolidate: None,
        }
    }
}

impl Default for OrchestratorConfig {
    fn default() -> OrchestratorConfig {
        OrchestratorConfig { commands: false, clear_at: 80 }
    }
}

impl Default for AgentConfig {
    fn default() -> AgentConfig {
        AgentConfig {
            driver: Driver::default(),
            capabilities: Vec::new(),
            count: 1,
            command: Vec::new(),
            model: None,
            prompt: None,
            max_turns: None,
            api: ApiConfig::default(),
            workspace: Workspace::default(),
            resources: ResourceLimits::default(),
            env: BTreeMap::new(),
            env_pass: Vec::new(),
            budget: Budget::default(),
        }
    }
}

/// How an agent is run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Driver {
    /// A plain program, once per task.
    #[default]
    Command,
    /// Claude Code.
    Claude,
    /// Codex.
    Codex,
    /// Gemini CLI.
    Gemini,
    /// Any program that speaks the Agent Client Protocol.
    Acp,
    /// A model's API.
    Model,
    /// Pulls its work itself.
    External,
    /// A person.
    Human,
}

impl Driver {
    /// Every driver, in the order of the documentation.
    pub const ALL: [Driver; 8] = [
        Driver::Command,
        Driver::Claude,
        Driver::Codex,
        Driver::Gemini,
        Driver::Acp,
        Driver::Model,
        Driver::External,
        Driver::Human,
    ];

    /// Returns the stable name, as written, stored and printed.
    pub fn as_str(self) -> &'static str {
        match self {
            Driver::Command => "command",
            Driver::Claude => "claude",
            Driver::Codex => "codex",
            Driver::Gemini => "gemini",
            Driver::Acp => "acp",
            Driver::Model => "model",
            Driver::External => "external",
            Driver::Human => "human",
        }
    }

    /// Returns whether the product starts a program for it.
    pub fn has_process(self) -> bool {
        match self {
            Driver::Command | Driver::Claude | Driver::Codex | Driver::Gemini | Driver::Acp => true,
            Driver::Model | Driver::External | Driver::Human => false,
        }
    }
}

impl Driver {
    /// Returns whether the product hands a task in words to a real agent or model for it.
    pub fn is_driven(self) -> bool {
        matches!(self, Driver::Claude | Driver::Codex | Driver::Gemini | Driver::Model)
    }

    /// Returns whether the turns of its agent can be limited.
    fn counts_turns(self) -> bool {
        matches!(self, Driver::Claude | Driver::Gemini | Driver::Model)
    }
}

impl std::fmt::Display for Driver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Driver {
    type Err = Error;

    fn from_str(text: &str) -> Result<Driver> {
        let names = || Driver::ALL.into_iter().map(Driver::as_str);
        let known = Driver::ALL.into_iter().find(|driver| driver.as_str() == text);
        known.ok_or_else(|| {
            let all = || format!("the drivers are: {}", names().collect::<Vec<_>>().join(", "));
            Error::invalid(format!("unknown driver {}", quote(text)))
                .hint(did_you_mean(text, names()).unwrap_or_else(all))
        })
    }
}

impl Config {
    /// Reads the text of `quorate.toml`. An empty file is the default.
    ///
    /// # Errors
    ///
    /// Everything that is wrong in the file (up to a limit), each with its place and what was expected.
    ///
    /// ```
    /// use quorate_model::config::Config;
    /// let config = Config::parse("quorate.toml", b"[health]\nlease = '30s'\n")?;
    /// assert_eq!(config.health.lease_ms, 30_000);
    /// # Ok::<(), quorate_model::diagnostic::Diagnostics>(())
    /// ```
    pub fn parse(file_name: &str, bytes: &[u8]) -> Result<Config, Diagnostics> {
        let source = Source::open(file_name, bytes)?;
        let root = source.read_toml()?;
        let config = Table::new(&source, root, "the configuration must be a table")
            .map(|table| read_config(&source, table))
            .unwrap_or_default();
        source.verdict(config)
    }

    /// Returns the members of the team with their settings, in the order of their tables: `validation` if its
    /// count is 1, else `validation-1`, `validation-2` and so on.
    pub fn agents(&self) -> Vec<(String, &AgentConfig)> {
        self.agent_tables
            .iter()
            .flat_map(|(name, agent)| member_names(name, agent.count).map(move |member| (member, agent)))
            .collect()
    }

    /// Returns the budgets that an agent works under: those of its member of the team, whatever a node calls it.
    pub fn limits(&self, agent: &str) -> Limits {
        let known = member(agent);
        let own = self
            .agent_tables
            .iter()
            .find(|(name, table)| member_names(name, table.count).any(|member| member == known));
        Limits { run: self.budget, agent: own.map_or_else(Budget::default, |(_, table)| table.budget) }
    }
}

/// Returns the names that a table of `count` agents stands for.
fn member_names(name: &str, count: i64) -> impl Iterator<Item = String> {
    (1..=count).map(move |number| if count == 1 { name.to_string() } else { format!("{name}-{number}") })
}

fn read_config(source: &Source<'_>, mut table: Table<'_, '_>) -> Config {
    let config = Config {
        strict_agents: table.boolean("strict_agents").unwrap_or_default(),
        store: table.table("store").map(|t| read_store(source, t)).unwrap_or_default(),
        server: table.table("server").map(|t| read_server(source, t)).unwrap_or_default(),
        health: table.table("health").map(read_health).unwrap_or_default(),
        budget: table.table("budget").map(|t| read_budget(source, t)).unwrap_or_default(),
        prices: table.table("prices").map(|t| read_prices(source, t)).unwrap_or_default(),
        retention: table.table("retention").map(read_retention).unwrap_or_default(),
        memory: table.table("memory").map(|t| read_memory(source, t)).unwrap_or_default(),
        orchestrator: table.table("orchestrator").map(read_orchestrator).unwrap_or_default(),
        telemetry: table.table("telemetry").map(|t| read_telemetry(source, t)).unwrap_or_default(),
        agent_tables: table.table("agents").map(|t| read_agents(source, t)).unwrap_or_default(),
    };
    table.finish();
    config
}

fn read_store(source: &Source<'_>, mut table: Table<'_, '_>) -> StoreConfig {
    let mut url = |key| {
        let url = table.string(key).filter(|url| accepted(source, url, check_store_url));
        url.map(|url| url.value)
    };
    let (url, agents_url) = (url("url"), url("agents_url"));
    table.finish();
    StoreConfig { url: url.unwrap_or_else(|| StoreConfig::default().url), agents_url }
}

/// Checks the form of a store's address. The message never shows more than its scheme: it may hold a password.
///
/// # Errors
///
/// `Invalid`, with the two forms that are known.
pub fn check_store_url(url: &str) -> Result<()> {
    if url.strip_prefix("sqlite:").is_some_and(|path| !path.is_empty()) {
        return Ok(());
    }
    if ["postgres://", "postgresql://"].iter().any(|scheme| url.starts_with(scheme)) {
        return Ok(());
    }
    let shown = url.split_once(':').map_or(url, |(scheme, _)| scheme);
    Err(Error::invalid(format!("{} is no database that is known", quote(shown)))
        .hint("write `sqlite:.quorate/quorate.db` or `postgres://user@host/database`"))
}

fn read_server(source: &Source<'_>, mut table: Table<'_, '_>) -> ServerConfig {
    let listen = table.string("listen");
    table.finish();
    let Some(listen) = listen else { return ServerConfig::default() };
    match read_address(&listen.value) {
        Ok(listen) => ServerConfig { listen, listen_is_set: true },
        Err(error) => {
            source.refuse_error(listen.span, error);
            ServerConfig::default()
        }
    }
}

/// Reads `127.0.0.1:8888`, `[::1]:8888` or `localhost:8888`. No other name: looking it up would need the network.
///
/// # Errors
///
/// `Invalid`, with an example.
pub fn read_address(text: &str) -> Result<SocketAddr> {
    let numeric = match text.strip_prefix("localhost:") {
        Some(port) => format!("127.0.0.1:{port}"),
        None => text.to_string(),
    };
    numeric.parse().map_err(|_| {
        Error::invalid(format!("{} is no address with a port", quote(text)))
            .hint("write an IP address and a port, as in `127.0.0.1:8888`")
    })
}

fn read_health(mut table: Table<'_, '_>) -> HealthConfig {
    let default = HealthConfig::default();
    let mut ms = |key, or| table.duration_ms(key, DURATION_LEAST_MS).unwrap_or(or);
    let health = HealthConfig {
        interval_ms: ms("interval", default.interval_ms),
        stuck_after_ms: ms("stuck_after", default.stuck_after_ms),
        retry_after_ms: ms("retry_after", default.retry_after_ms),
        grace_ms: ms("grace", default.grace_ms),
        timeout_ms: ms("timeout", default.timeout_ms),
        lease_ms: table.duration_ms("lease", LEASE_LEAST_MS).unwrap_or(default.lease_ms),
        stop_stuck_after_ms: table.duration_ms("stop_stuck_after", DURATION_LEAST_MS),
        max_attempts: table.integer("max_attempts", 1..=100).map_or(default.max_attempts, |n| n.value),
        max_respawns: table.integer("max_respawns", 0..=1000).map_or(default.max_respawns, |n| n.value),
    };
    table.finish();
    health
}

/// Reads `usd` and `tokens`.
pub(crate) fn read_budget(source: &Source<'_>, mut table: Table<'_, '_>) -> Budget {
    let budget = Budget {
        usd_micros: read_usd(source, &mut table, "usd", BUDGET_MAX),
        tokens: table.integer("tokens", 0..=i64::MAX).map(|tokens| tokens.value),
    };
    table.finish();
    budget
}

/// Takes a number of dollars, in millionths.
fn read_usd(source: &Source<'_>, table: &mut Table<'_, '_>, key: &'static str, most: f64) -> Option<i64> {
    let span = table.find(key).map(|entry| entry.value.span.clone());
    let usd = table.amount(key)?;
    if usd > most {
        source.refuse(span.unwrap_or_default(), format!("`{key}` is more than {most:.0} dollars"));
        return None;
    }
    Some((usd * MICROS).round() as i64)
}

fn read_prices(source: &Source<'_>, table: Table<'_, '_>) -> Prices {
    let mut prices = Prices::new();
    for Entry { key, key_span, value } in table.rest() {
        if key.trim().is_empty() || key.len() > MODEL_NAME_MAX {
            let what = format!("the name of a model has 1 to {MODEL_NAME_MAX} bytes");
            source.refuse(key_span, what);
            continue;
        }
        if prices.len() >= PRICES_MAX {
            source.refuse(key_span, format!("more than {PRICES_MAX} models have a price"));
            break;
        }
        let what = format!("a price must be a table, as in `[prices.\"{key}\"]`");
        let Some(table) = Table::new(source, value, &what) else { continue };
        prices.extend(read_price(source, table).map(|price| (key, price)));
    }
    prices
}

/// Reads what a million tokens cost. What is not said of a cache costs what is read anew: never less than it may be.
fn read_price(source: &Source<'_>, mut table: Table<'_, '_>) -> Option<Price> {
    let is_whole = ["input", "output"].iter().all(|key| table.find(key).is_some());
    let mut usd = |key| read_usd(source, &mut table, key, PRICE_MAX);
    let (input, output) = (usd("input"), usd("output"));
    let (cache_read, cache_write) = (usd("cache_read"), usd("cache_write"));
    if !is_whole {
        source.refuse_with(table.span(), "a price needs `input` and `output`", || {
            Some("write dollars for a million tokens, as in `input = 3.0` and `output = 15.0`".to_string())
        });
    }
    table.finish();
    let (input, output) = (input?, output?);
    let of_cache = |price: Option<i64>| price.unwrap_or(input);
    Some(Price { input, output, cache_read: of_cache(cache_read), cache_write: of_cache(cache_write) })
}

fn read_retention(mut table: Table<'_, '_>) -> RetentionConfig {
    let default = RetentionConfig::default();
    let mut ms = |key, or| table.duration_ms(key, DURATION_LEAST_MS).unwrap_or(or);
    let retention = RetentionConfig {
        events_ms: ms("events", default.events_ms),
        attempts_ms: ms("attempts", default.attempts_ms),
        logs_ms: ms("logs", default.logs_ms),
        tasks_ms: ms("tasks", default.tasks_ms),
    };
    table.finish();
    retention
}

fn read_memory(source: &Source<'_>, mut table: Table<'_, '_>) -> MemoryConfig {
    let default = MemoryConfig::default();
    let mut ms = |key, or| table.duration_ms(key, DURATION_LEAST_MS).unwrap_or(or);
    let memory = MemoryConfig {
        findings_ms: ms("findings", default.findings_ms),
        episodes_ms: ms("episodes", default.episodes_ms),
        decisions_ms: ms("decisions", default.decisions_ms),
        patterns_ms: ms("patterns", default.patterns_ms),
        checkpoints_ms: ms("checkpoints", default.checkpoints_ms),
        messages_ms: ms("messages", default.messages_ms),
        lines_ms: ms("lines", default.lines_ms),
        count: table.integer("count", 0..=MEMORIES_MAX).map_or(default.count, |count| count.value),
        size_bytes: table
            .parsed("size", read_bytes)
            .map_or(default.size_bytes, |bytes| i64::try_from(bytes).unwrap_or(i64::MAX)),
        consolidate: table.parsed("consolidate", |name| check_name("agent", name).map(|()| name.to_owned())),
        embedding: table.table("embedding").and_then(|t| embedding::read_embedding(source, t)),
    };
    table.finish();
    memory
}

fn read_orchestrator(mut table: Table<'_, '_>) -> OrchestratorConfig {
    let clear_at = table.integer("clear_at", 1..=CLEAR_NEVER).map(|percent| percent.value);
    let orchestrator = OrchestratorConfig {
        commands: table.boolean("commands").unwrap_or_default(),
        clear_at: clear_at.unwrap_or(OrchestratorConfig::default().clear_at),
    };
    table.finish();
    orchestrator
}

fn read_telemetry(source: &Source<'_>, mut table: Table<'_, '_>) -> TelemetryConfig {
    let telemetry = TelemetryConfig { otlp: read_word(source, &mut table, "otlp") };
    table.finish();
    telemetry
}

fn read_agents(source: &Source<'_>, table: Table<'_, '_>) -> BTreeMap<String, AgentConfig> {
    let mut agents = BTreeMap::new();
    let mut members: BTreeMap<String, String> = BTreeMap::new();
    for Entry { key, key_span, value } in table.rest() {
        if let Err(error) = check_name("agent", &key) {
            source.refuse_error(key_span, error);
            continue;
        }
        let what = format!("an agent must be a table, as in `[agents.{key}]`");
        let Some(table) = Table::new(source, value, &what) else { continue };
        let agent = read_agent(source, table);
        for member in member_names(&key, agent.count) {
            if let Err(error) = check_member(&member, &key, &mut members) {
                source.refuse_error(key_span.clone(), error);
                break;
            }
        }
        agents.insert(key, agent);
    }
    agents
}

/// Notes a member of the team under its name, which no other table may stand for.
fn check_member(member: &str, table: &str, members: &mut BTreeMap<String, String>) -> Result<()> {
    check_name("agent", member)?;
    if members.len() >= AGENTS_MAX {
        return Err(Error::invalid(format!("the configuration names more than {AGENTS_MAX} agents")));
    }
    match members.insert(member.to_string(), table.to_string()) {
        None => Ok(()),
        Some(other) => Err(Error::invalid(format!("two tables stand for the agent {}", quote(member)))
            .hint(format!("rename [agents.{table}] or [agents.{other}], or change its `count`"))),
    }
}

fn read_agent(source: &Source<'_>, mut table: Table<'_, '_>) -> AgentConfig {
    let driver = table.parsed("driver", str::parse).unwrap_or_default();
    let agent = AgentConfig {
        driver,
        capabilities: names(source, table.strings("capabilities"), |text| check_name("capability", text)),
        count: table.integer("count", 1..=COUNT_MAX).map_or(1, |count| count.value),
        command: read_command(source, driver, &mut table),
        model: read_word(source, &mut table, "model"),
        prompt: read_word(source, &mut table, "prompt"),
        max_turns: read_max_turns(source, driver, &mut table),
        api: api::read_api(source, driver, &mut table),
        workspace: read_workspace(source, driver, &mut table),
        resources: table.table("resources").map(read_resources).unwrap_or_default(),
        env: table.table("env").map(|env| read_env(source, env)).unwrap_or_default(),
        env_pass: names(source, table.strings("env_pass"), check_variable),
        budget: table.table("budget").map(|budget| read_budget(source, budget)).unwrap_or_default(),
    };
    if driver == Driver::Model && agent.model.is_none() {
        source.refuse_with(table.span(), "an agent with driver `model` needs a `model`", || {
            Some("add `model = \"…\"` with the name of the model".to_string())
        });
    }
    table.finish();
    agent
}

fn read_command(source: &Source<'_>, driver: Driver, table: &mut Table<'_, '_>) -> Vec<String> {
    let span = table.find("command").map(|entry| (entry.key_span.clone(), entry.value.span.clone()));
    let command = table.strings("command");
    let (Some((key_span, span)), Some(command)) = (span, &command) else { return Vec::new() };
    if !driver.has_process() {
        source
            .refuse(key_span, format!("the driver `{driver}` runs no program, so `command` has no meaning"));
    } else if command.first().is_none_or(|program| program.value.trim().is_empty()) {
        source.refuse_with(span, "`command` names no program", || {
            Some(
                "write the program and its arguments, as in `command = [\"./agent.sh\", \"--fast\"]`"
                    .to_string(),
            )
        });
    }
    command.iter().map(|word| word.value.clone()).collect()
}

fn read_max_turns(source: &Source<'_>, driver: Driver, table: &mut Table<'_, '_>) -> Option<u32> {
    let span = table.find("max_turns").map(|entry| entry.key_span.clone());
    let turns = table.integer("max_turns", 1..=TURNS_MAX)?;
    if let (false, Some(span)) = (driver.counts_turns(), span) {
        source.refuse(span, format!("`max_turns` has no meaning for the driver `{driver}`"));
    }
    u32::try_from(turns.value).ok()
}

fn read_workspace(source: &Source<'_>, driver: Driver, table: &mut Table<'_, '_>) -> Workspace {
    let span = table.find("workspace").map(|entry| entry.key_span.clone());
    let workspace = table.parsed("workspace", str::parse).unwrap_or_default();
    if let (false, Some(span)) = (driver == Driver::Command || driver.is_driven(), span) {
        source.refuse(
            span,
            format!("`workspace` has no meaning for the driver `{driver}`, which no node starts"),
        );
    }
    workspace
}

fn read_word(source: &Source<'_>, table: &mut Table<'_, '_>, key: &'static str) -> Option<String> {
    let word = table.string(key)?;
    if word.value.trim().is_empty() {
        source.refuse(word.span, format!("`{key}` is empty"));
        return None;
    }
    Some(word.value)
}

fn names(
    source: &Source<'_>,
    names: Option<Vec<Spanned<String>>>,
    check: impl Fn(&str) -> Result<()>,
) -> Vec<String> {
    let mut seen = HashSet::new();
    let mut kept = names.unwrap_or_default();
    kept.retain(|name| accepted(source, name, &check) && seen.insert(name.value.clone()));
    kept.into_iter().map(|name| name.value).collect()
}

fn read_resources(mut table: Table<'_, '_>) -> ResourceLimits {
    let resources = ResourceLimits {
        memory_bytes: table.parsed("memory", read_bytes),
        cpu_percent: table.parsed("cpu", read_cpu),
    };
    table.finish();
    resources
}

fn read_env(source: &Source<'_>, table: Table<'_, '_>) -> BTreeMap<String, String> {
    let mut env = BTreeMap::new();
    for Entry { key, key_span, value } in table.rest() {
        if let Err(error) = check_variable(&key) {
            source.refuse_error(key_span, error);
        } else if let NodeKind::String(_) = value.kind {
            let what = format!("the variable `{key}` must be a string");
            env.extend(as_string(source, value, &what).map(|text| (key, text.value)));
        } else {
            let found = value.kind.name();
            source.refuse_with(
                value.span,
                format!("the variable `{key}` must be a string, not {found}"),
                || Some("put the value in quotes".to_string()),
            );
        }
    }
    env
}

fn check_variable(name: &str) -> Result<()> {
    let starts_well = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if !starts_well
        || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        || name.len() > VARIABLE_MAX
    {
        return Err(Error::invalid(format!("{} is no name of a variable", quote(name)))
            .hint("use A-Z a-z 0-9 _ and begin with a letter or _"));
    }
    if name.starts_with("QUORATE_") {
        return Err(Error::invalid(format!("the variable {} belongs to the product", quote(name)))
            .hint("variables that begin with `QUORATE_` are set for every task; choose another name"));
    }
    Ok(())
}

/// The longest name of a variable, in bytes.
const VARIABLE_MAX: usize = 256;

fn accepted(source: &Source<'_>, text: &Spanned<String>, check: impl FnOnce(&str) -> Result<()>) -> bool {
    check(&text.value).map_err(|error| source.refuse_error(text.span.clone(), error)).is_ok()
}

/// Reads an amount of memory, in bytes: `2GB` (a thousand each) or `512MiB` (1024 each).
///
/// # Errors
///
/// `Invalid` for anything else, and for less than [`MEMORY_LEAST`].
pub fn read_bytes(text: &str) -> Result<u64> {
    let refused = || {
        Error::invalid(format!("{} is no amount of memory", quote(text))).hint(
            "write a whole number with KB, MB, GB, TB or KiB, MiB, GiB, TiB, at least 1MiB, as in `2GB`",
        )
    };
    let (digits, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).ok_or_else(refused)?);
    let factor: u64 = match unit.trim_start() {
        "KB" => 1000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "TB" => 1_000_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        _ => return Err(refused()),
    };
    let bytes = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(factor));
    bytes.filter(|bytes| (MEMORY_LEAST..=i64::MAX.unsigned_abs()).contains(bytes)).ok_or_else(refused)
}

/// Reads a share of CPU in per cent of one core: `50%`, `200%`.
///
/// # Errors
///
/// `Invalid` for anything else, 0 and more than [`CPU_MAX`].
pub fn read_cpu(text: &str) -> Result<u32> {
    let percent =
        text.strip_suffix('%').and_then(|digits| match digits.bytes().all(|b| b.is_ascii_digit()) {
            true => digits.parse::<u32>().ok(),
            false => None,
        });
    percent.filter(|percent| (1..=CPU_MAX).contains(percent)).ok_or_else(|| {
        Error::invalid(format!("{} is no share of CPU", quote(text)))
            .hint("write per cent of one core, as in `50%` or `200%`")
    })
}

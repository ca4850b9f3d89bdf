//! The keys of an agent's table that say whose model it asks, and what that model may call.
//!
//! Here live those of driver `model`. Keys themselves are never here, only the names of the variables that hold them.

use super::{Driver, check_variable, read_word};
use crate::diagnostic::quote;
use crate::document::{Entry, Source};
use crate::error::{Error, Result};
use crate::name::check_name;
use crate::table::{Table, did_you_mean};
use std::collections::BTreeMap;
use std::str::FromStr;

/// How many commands a model may be given.
pub const TOOLS_MAX: usize = 64;

/// How many MCP servers a model may be given.
pub const SERVERS_MAX: usize = 16;

/// The keys that only driver `model` has a use for.
const KEYS: [&str; 5] = ["provider", "base_url", "key_env", "tools", "mcp"];

/// Whose model it is, which is how it is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Provider {
    /// Anthropic's messages.
    Anthropic,
    /// OpenAI's responses.
    Openai,
    /// OpenAI's chat completions, which many other servers speak, too.
    OpenaiChat,
    /// Google's Gemini.
    Gemini,
}

impl Provider {
    /// Every provider, in the order of the documentation.
    pub const ALL: [Provider; 4] =
        [Provider::Anthropic, Provider::Openai, Provider::OpenaiChat, Provider::Gemini];

    /// Returns the stable name, as written.
    pub fn as_str(self) -> &'static str {
        match self {
            Provider::Anthropic => "anthropic",
            Provider::Openai => "openai",
            Provider::OpenaiChat => "openai-chat",
            Provider::Gemini => "gemini",
        }
    }

    /// Returns the variable that holds the key, unless the table names another.
    pub fn key_env(self) -> &'static str {
        match self {
            Provider::Anthropic => "ANTHROPIC_API_KEY",
            Provider::Openai | Provider::OpenaiChat => "OPENAI_API_KEY",
            Provider::Gemini => "GEMINI_API_KEY",
        }
    }

    /// Returns where it is asked, unless the table says elsewhere.
    pub fn base_url(self) -> &'static str {
        match self {
            Provider::Anthropic => "https://api.anthropic.com",
            Provider::Openai | Provider::OpenaiChat => "https://api.openai.com/v1",
            Provider::Gemini => "https://generativelanguage.googleapis.com/v1beta",
        }
    }
}

impl FromStr for Provider {
    type Err = Error;

    fn from_str(text: &str) -> Result<Provider> {
        let names = || Provider::ALL.into_iter().map(Provider::as_str);
        let known = Provider::ALL.into_iter().find(|provider| provider.as_str() == text);
        known.ok_or_else(|| {
            let all = || format!("the providers are: {}", names().collect::<Vec<_>>().join(", "));
            Error::invalid(format!("unknown provider {}", quote(text)))
                .hint(did_you_mean(text, names()).unwrap_or_else(all))
        })
    }
}

/// How an agent with driver `model` asks its model.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ApiConfig {
    /// Whose model it is; every agent with driver `model` says it.
    pub provider: Option<Provider>,
    /// Where it is asked, if not at the provider's own address.
    pub base_url: Option<String>,
    /// The variable that holds the key, if not the provider's usual one.
    pub key_env: Option<String>,
    /// Commands that the model may call, by name.
    pub tools: BTreeMap<String, ToolConfig>,
    /// MCP servers whose tools it may call: program and arguments, by name.
    pub mcp: BTreeMap<String, Vec<String>>,
}

/// `[agents.NAME.tools.TOOL]`
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ToolConfig {
    /// Its program and arguments.
    pub command: Vec<String>,
    /// What it does, for the model.
    pub about: String,
}

pub(super) fn read_api(source: &Source<'_>, driver: Driver, table: &mut Table<'_, '_>) -> ApiConfig {
    if driver != Driver::Model {
        for key in KEYS {
            if let Some(entry) = table.find(key) {
                let words = format!("`{key}` has no meaning for the driver `{driver}`, only for `model`");
                source.refuse(entry.key_span.clone(), words);
                table.take(key);
            }
        }
        return ApiConfig::default();
    }
    let says_provider = table.find("provider").is_some();
    let api = ApiConfig {
        provider: table.parsed("provider", str::parse),
        base_url: table.parsed("base_url", check_base_url),
        key_env: table.parsed("key_env", |name| check_variable(name).map(|()| name.to_owned())),
        tools: table.table("tools").map(|tools| read_tools(source, tools)).unwrap_or_default(),
        mcp: table.table("mcp").map(|servers| read_servers(source, servers)).unwrap_or_default(),
    };
    if !says_provider {
        source.refuse_with(table.span(), "an agent with driver `model` needs a `provider`", || {
            Some("add `provider = \"…\"`: anthropic, openai, openai-chat or gemini".to_owned())
        });
    }
    api
}

pub(super) fn check_base_url(url: &str) -> Result<String> {
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    let is_good = rest.is_some_and(|rest| !rest.is_empty() && !rest.contains([' ', '?', '#', '@']));
    match is_good {
        true => Ok(url.trim_end_matches('/').to_owned()),
        false => Err(Error::invalid("`base_url` is no address of a model's service")
            .hint("write it as in `http://127.0.0.1:11434/v1`, without a key: `key_env` names its variable")),
    }
}

fn read_servers(source: &Source<'_>, table: Table<'_, '_>) -> BTreeMap<String, Vec<String>> {
    let mut servers = BTreeMap::new();
    for Entry { key, key_span, value } in table.rest() {
        let named = check_name("server", &key).and_then(|()| match servers.len() >= SERVERS_MAX {
            true => Err(Error::invalid(format!("there are more than {SERVERS_MAX} MCP servers"))),
            false if key == "quorate" || key.contains('.') => {
                Err(Error::invalid(format!("no MCP server can have the name {}", quote(&key))))
            }
            false => Ok(()),
        });
        if let Err(error) = named {
            source.refuse_error(key_span, error);
            continue;
        }
        let what = format!("an MCP server must be a table, as in `{key} = {{ command = [\"…\"] }}`");
        let Some(mut table) = Table::new(source, value, &what) else { continue };
        let command = read_words(&mut table);
        if command.first().is_none_or(|program| program.trim().is_empty()) {
            source.refuse(key_span, format!("the MCP server `{key}` names no program in `command`"));
        }
        table.finish();
        servers.insert(key, command);
    }
    servers
}

fn read_words(table: &mut Table<'_, '_>) -> Vec<String> {
    table.strings("command").unwrap_or_default().into_iter().map(|word| word.value).collect()
}

fn read_tools(source: &Source<'_>, table: Table<'_, '_>) -> BTreeMap<String, ToolConfig> {
    let mut tools = BTreeMap::new();
    for Entry { key, key_span, value } in table.rest() {
        let count = tools.len();
        let named = check_name("tool", &key).and_then(|()| match key.contains('.') {
            true => Err(Error::invalid(format!(
                "the tool {} has a dot, which no model's service takes",
                quote(&key)
            ))),
            false if count >= TOOLS_MAX => {
                Err(Error::invalid(format!("there are more than {TOOLS_MAX} tools")))
            }
            false => Ok(()),
        });
        if let Err(error) = named {
            source.refuse_error(key_span, error);
            continue;
        }
        let what = format!("a tool must be a table, as in `{key} = {{ command = [\"…\"], about = \"…\" }}`");
        let Some(mut table) = Table::new(source, value, &what) else { continue };
        let command = read_words(&mut table);
        if command.first().is_none_or(|program| program.trim().is_empty()) {
            source.refuse(key_span, format!("the tool `{key}` names no program in `command`"));
        }
        let about = read_word(source, &mut table, "about").unwrap_or_default();
        table.finish();
        tools.insert(key, ToolConfig { command, about });
    }
    tools
}

//! The settings of an agent's table that its driver needs, on their way from a node to `quorate drive`.
//!
//! Here lives that one shape. It holds no secret: keys are named, never told.

use quorate_model::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The settings of an agent.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Its program and arguments, if its table names them.
    pub command: Vec<String>,
    /// The model it uses.
    pub model: Option<String>,
    /// The file with its role, relative to the project's folder.
    pub prompt: Option<PathBuf>,
    /// How many times it may ask its model.
    pub max_turns: Option<u32>,
    /// Whose model it is.
    pub provider: Option<String>,
    /// Where the model is asked.
    pub base_url: Option<String>,
    /// The variable that holds the key.
    pub key_env: Option<String>,
    /// Commands that the model may call.
    pub tools: BTreeMap<String, Tool>,
    /// MCP servers whose tools the model may call: program and arguments, by name.
    pub mcp: BTreeMap<String, Vec<String>>,
    /// The project's folder of state.
    pub state: PathBuf,
}

/// A command that a model may call.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tool {
    /// Its program and arguments.
    pub command: Vec<String>,
    /// What it does, for the model.
    pub about: String,
}

impl Settings {
    /// Returns it as one word of a command line.
    pub fn word(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Reads it from that word.
    ///
    /// # Errors
    /// `Invalid`, saying what is wrong.
    pub fn read(word: &str) -> Result<Settings> {
        serde_json::from_str(word).map_err(|e| {
            Error::invalid(format!("the settings cannot be read: {e}"))
                .hint("a node writes them; leave --settings out to try a driver by hand")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read_as_they_were_written() {
        let tool = Tool { command: vec!["cargo".into(), "test".into()], about: "runs the tests".into() };
        let settings = Settings {
            command: vec!["claude".into(), "--verbose".into()],
            model: Some("m".into()),
            max_turns: Some(9),
            tools: BTreeMap::from([("test".into(), tool)]),
            ..Settings::default()
        };
        assert_eq!(Settings::read(&settings.word()), Ok(settings));
        assert_eq!(Settings::read("{}"), Ok(Settings::default()));
        assert!(Settings::read("{\"modle\":1}").is_err_and(|e| e.message.contains("modle")));
    }
}

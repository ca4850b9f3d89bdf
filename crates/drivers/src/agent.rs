//! Agents that are programs of others: Claude Code, Codex and Gemini CLI.
//!
//! Here live what they have in common: how one is started, and what is read from its stream. Each has a file of its
//! name with its flags and its stream. Both halves are pure: the one makes a description, the other takes lines.

mod claude;
mod codex;
mod gemini;
pub(crate) mod refusal;

use crate::ending::Ending;
use crate::prompt::Prompt;
use crate::say::{Out, Parked, short};
use crate::settings::Settings;
use serde_json::Value;
use std::path::PathBuf;

/// The longest part of a line that is kept although nobody knows what it is, in characters.
const UNKNOWN_MAX: usize = 1000;

/// Variables that its MCP server gets, by name only, so that no secret stands in an argument or a file.
const MCP_VARIABLES: [&str; 10] = [
    "PATH",
    "QUORATE_AGENT",
    "QUORATE_ATTEMPT",
    "QUORATE_DIR",
    "QUORATE_RUN_ID",
    "QUORATE_STORE",
    "QUORATE_TASK_ID",
    "QUORATE_TERM",
    "QUORATE_TOKEN",
    "QUORATE_URL",
];

/// A program that is an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// Claude Code.
    Claude,
    /// Codex.
    Codex,
    /// Gemini CLI.
    Gemini,
}

/// What an agent is started with, beside its settings.
#[derive(Debug, Clone, Default)]
pub struct Means {
    /// The program and arguments of its MCP server; none if empty.
    pub mcp: Vec<String>,
    /// The names of the variables that are set.
    pub variables: Vec<String>,
    /// A folder of its own for what it wants there.
    pub folder: PathBuf,
}

impl Means {
    fn mcp_variables(&self) -> impl Iterator<Item = &'static str> + '_ {
        MCP_VARIABLES.into_iter().filter(|name| self.has(name))
    }

    fn has(&self, name: &str) -> bool {
        self.variables.iter().any(|variable| variable == name)
    }
}

/// A home folder for one attempt: all that is in the user's, but for one file of settings.
#[derive(Debug, Clone, PartialEq)]
pub struct Home {
    /// Where it is.
    pub folder: PathBuf,
    /// The variable that tells the program, and that may already name the user's.
    pub variable: &'static str,
    /// The folder in it that the program uses.
    pub inner: &'static str,
    /// The file of settings in that.
    pub file: &'static str,
    /// What holds where the user's file does not say otherwise.
    pub usual: Value,
    /// What holds in any case.
    pub must: Value,
}

impl Home {
    /// Returns the text of the file of settings, made of the user's.
    ///
    /// # Errors
    /// In words, when the user's is no JSON.
    pub fn settings(&self, own: Option<&str>) -> std::result::Result<String, String> {
        let mut settings = self.usual.clone();
        if let Some(own) = own {
            overlay(
                &mut settings,
                serde_json::from_str(own).map_err(|e| format!("{} is no JSON: {e}", self.file))?,
            );
        }
        overlay(&mut settings, self.must.clone());
        Ok(settings.to_string())
    }
}

/// Lays one tree of settings over another.
fn overlay(under: &mut Value, over: Value) {
    match (under, over) {
        (Value::Object(under), Value::Object(over)) => {
            for (key, value) in over {
                overlay(under.entry(key).or_insert(Value::Null), value);
            }
        }
        (under, over) => *under = over,
    }
}

/// How an agent is started.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Launch {
    /// The program.
    pub program: String,
    /// Its arguments.
    pub args: Vec<String>,
    /// Variables beside those that are set.
    pub env: Vec<(String, String)>,
    /// What it reads on standard input.
    pub stdin: String,
    /// A home of its own, if it cannot be told otherwise what it needs.
    pub home: Option<Home>,
}

/// What is read from an agent's output.
pub trait Stream: Send {
    /// Takes a line of standard output.
    fn on_line(&mut self, line: &str) -> Vec<Out>;

    /// Takes a line of standard error, which is kept in any case.
    fn on_error_line(&mut self, _line: &str) {}

    /// Returns why its provider makes it wait, as long as nothing else has come since.
    fn waits(&self) -> Option<&Parked>;

    /// Tells whether it has said how its work ended; more may come.
    fn is_over(&self) -> bool;

    /// Reads how it ended; `code` is `None` if a signal ended it.
    fn end(&mut self, code: Option<i32>) -> Ending;
}

impl Program {
    /// Returns the program that a driver of this name runs.
    pub fn of(driver: &str) -> Option<Program> {
        [Program::Claude, Program::Codex, Program::Gemini]
            .into_iter()
            .find(|program| program.name() == driver)
    }

    /// Returns the program's name, unless its table says another.
    pub fn name(self) -> &'static str {
        match self {
            Program::Claude => "claude",
            Program::Codex => "codex",
            Program::Gemini => "gemini",
        }
    }

    /// Returns the command that installs it.
    pub fn install(self) -> &'static str {
        match self {
            Program::Claude => "npm install -g @anthropic-ai/claude-code",
            Program::Codex => "npm install -g @openai/codex",
            Program::Gemini => "npm install -g @google/gemini-cli",
        }
    }

    /// Returns how a person signs in, and files in the home folder that are there once somebody has.
    pub(crate) fn sign_in(self) -> (&'static str, &'static [&'static str]) {
        match self {
            Program::Claude => (
                "export ANTHROPIC_API_KEY=…, or run `claude` once and sign in",
                &[".claude/.credentials.json", ".claude.json"],
            ),
            Program::Codex => {
                ("export OPENAI_API_KEY=…, or run `codex login`", &[".codex/auth.json", ".codex/config.toml"])
            }
            Program::Gemini => (
                "export GEMINI_API_KEY=…, or run `gemini` once and sign in",
                &[".gemini/oauth_creds.json", ".gemini/settings.json"],
            ),
        }
    }

    /// Returns the variables that it is handed on without being named in its table: whom it speaks to, and as whom.
    pub fn passed(self) -> &'static [&'static str] {
        match self {
            Program::Claude => claude::PASSED,
            Program::Codex => codex::PASSED,
            Program::Gemini => gemini::PASSED,
        }
    }

    /// Describes how it is started.
    pub fn launch(self, settings: &Settings, prompt: &Prompt, means: &Means) -> Launch {
        let mut launch = match self {
            Program::Claude => claude::launch(settings, prompt, means),
            Program::Codex => codex::launch(settings, prompt, means),
            Program::Gemini => gemini::launch(settings, prompt, means),
        };
        launch.program = settings.command.first().cloned().unwrap_or_else(|| self.name().to_owned());
        launch
    }

    /// Returns a reader of its stream.
    pub fn stream(self, settings: &Settings) -> Box<dyn Stream> {
        match self {
            Program::Claude => Box::new(claude::Claude::default()),
            Program::Codex => Box::new(codex::Codex::new(settings)),
            Program::Gemini => Box::new(gemini::Gemini::default()),
        }
    }
}

/// Returns a line that nobody knows, as text.
fn unknown(line: &str) -> Vec<Out> {
    match line.trim() {
        "" => Vec::new(),
        line => vec![Out::Text(short(line, UNKNOWN_MAX))],
    }
}

/// Returns how a program ended that said nothing of it.
fn silent_end(name: &str, code: Option<i32>) -> Ending {
    match code {
        Some(code) => Ending::failed(format!("{name} exited with code {code} and no result")),
        None => Ending::failed(format!("{name} was ended by a signal")),
    }
}

/// Returns the rest of a table's command, behind the program.
fn more(settings: &Settings) -> impl Iterator<Item = String> + '_ {
    settings.command.iter().skip(1).cloned()
}

fn words<const N: usize>(words: [&str; N]) -> Vec<String> {
    words.map(str::to_owned).to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_nobody_knows_is_kept() {
        assert_eq!(unknown("  what is  this? "), [Out::Text("what is this?".into())]);
        assert_eq!(unknown(" "), []);
        let Out::Text(text) = &unknown(&"x".repeat(UNKNOWN_MAX + 1))[0] else { panic!("text") };
        assert_eq!(text.chars().count(), UNKNOWN_MAX + 1);
    }

    #[test]
    fn an_mcp_server_gets_names_of_variables_that_are_set_and_no_others() {
        let means = Means {
            variables: ["QUORATE_TERM", "HOME", "QUORATE_AGENT"].map(String::from).to_vec(),
            ..Means::default()
        };
        assert_eq!(means.mcp_variables().collect::<Vec<_>>(), ["QUORATE_AGENT", "QUORATE_TERM"]);
    }
}

/// What the readers of the three streams make of recorded lines.
#[cfg(test)]
mod recorded {
    use super::*;

    /// Reads recorded lines; answers with what they say and how it ended.
    pub(super) fn read(program: Program, lines: &str, code: i32) -> (Vec<Out>, Ending) {
        let mut stream = program.stream(&Settings { model: Some("m".into()), ..Settings::default() });
        let outs = lines.lines().flat_map(|line| stream.on_line(line)).collect();
        (outs, stream.end(Some(code)))
    }

    /// What is for people, line by line.
    pub(super) fn told(outs: &[Out]) -> Vec<&str> {
        let text = |out| match out {
            &Out::Text(ref text) | &Out::Doing(ref text) => Some(text.as_str()),
            _ => None,
        };
        outs.iter().filter_map(text).collect()
    }

    #[test]
    fn no_stream_is_upset_by_anything() {
        let lines = [
            "",
            "null",
            "[]",
            "{}",
            "7",
            "{\"type\":null}",
            "{\"type\":\"what\"}",
            "{\"type\":\"result\"}",
            "{\"type\":\"assistant\",\"message\":7}",
            "{\"type\":\"item.completed\",\"item\":[]}",
            "no json",
            "{\"type\":\"message\",\"role\":\"assistant\"}",
            "{\"type\":\"stream_event\",\"event\":{\"type\":7}}",
            "{\"type\":\"turn.completed\",\"usage\":{\"input_tokens\":-5}}",
            "\u{0}{\"type\":",
        ];
        for program in [Program::Claude, Program::Codex, Program::Gemini] {
            let mut stream = program.stream(&Settings::default());
            for line in lines {
                stream.on_line(line);
                stream.on_error_line(line);
            }
            assert!(!matches!(stream.end(None), Ending::Done(_)), "{program:?}");
        }
    }
}

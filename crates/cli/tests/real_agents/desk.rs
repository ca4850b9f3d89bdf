//! Claude Code as a person has it: a home in which its first questions are answered, a project that `quorate init --claude` let
//! it into, a tmux of its own, and a scripted model for all that it asks.

use crate::team::Team;
use crate::{KEY, path};
use quorate_testkit::model::ScriptedModel;
use serde_json::{Value, json};
use std::ffi::OsString;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// The window of the orchestrator.
const LEAD: &str = "=team:lead";
/// Stands where one types.
const PROMPT: &str = "❯";
/// A model whose context has room for 200,000 tokens.
const MODEL: &str = "claude-sonnet-4-5";
/// So many are over the threshold of 80 %, and not yet where Claude Code compacts by itself.
pub const FULL: u64 = 164_000;
/// How long a person waits: a Node that starts on a busy machine takes its time.
const PATIENCE: Duration = Duration::from_secs(90);
/// After so long a person presses Enter again.
const AGAIN: Duration = Duration::from_millis(500);

/// Such a project.
pub struct Desk {
    pub team: Team,
    pub model: ScriptedModel,
    _home: tempfile::TempDir,
}

impl Desk {
    pub fn new() -> Desk {
        let model = ScriptedModel::start([]);
        let mut team = Team::new();
        let home = tempfile::tempdir().expect("a temporary folder");
        answer_first_questions(home.path(), team.door.path());
        let set = |name, value: &str| (name, OsString::from(value));
        team.env = vec![
            ("HOME", home.path().into()),
            ("PATH", path()),
            set("ANTHROPIC_API_KEY", KEY),
            set("ANTHROPIC_BASE_URL", model.url()),
            set("ANTHROPIC_MODEL", MODEL),
            set("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1"),
            set("CLAUDE_CODE_DISABLE_TERMINAL_TITLE", "1"),
            set("CLAUDE_CODE_ENABLE_PROMPT_SUGGESTION", "false"),
            set("DISABLE_AUTOUPDATER", "1"),
            // Else the MCP server's tools are behind a search.
            set("ENABLE_TOOL_SEARCH", "false"),
        ];
        let git = Command::new("git").args(["init", "-q"]).current_dir(team.door.path()).status();
        assert!(git.expect("git is installed").success());
        let said = team.ok(&["init", "--claude"]);
        assert!(
            said.contains(".claude/settings.json written") && said.contains("pre-commit written"),
            "{said}"
        );
        Desk { team, model, _home: home }
    }

    /// Claude Code with one question, without a screen; answers with what it printed.
    #[track_caller]
    pub fn asks(&self, words: &[&str]) -> Value {
        let mut claude = Command::new("claude");
        claude.args(["-p", "--output-format", "json"]).args(words).current_dir(self.team.door.path());
        claude.env_clear().envs(self.team.env.iter().cloned()).stdin(std::process::Stdio::null());
        let output = claude.output().expect("it is installed");
        let (out, err) = crate::door::texts(&output);
        assert!(output.status.success(), "claude {words:?}\n{out}{err}{}", self.model.wrong().join("\n"));
        serde_json::from_str(&out).unwrap_or_else(|e| panic!("{e}: {out}"))
    }

    /// Starts agents and an orchestrator, which is Claude Code; answers once its session is known and it can be typed to.
    pub fn starts(&self, agents: &str) {
        self.team.ok(&["up", "--tmux", "team", "--agents", agents, "--orchestrator", "claude"]);
        self.waits("the orchestrator's session", || !self.events("agent.started", "orchestrator").is_empty());
        self.waits("its prompt", || self.team.seen(LEAD).contains(PROMPT));
    }

    /// Types words into the orchestrator's window, without Enter.
    #[track_caller]
    pub fn begins_to_type(&self, words: &str) {
        self.team.asked(&["send-keys", "-t", LEAD, "-l", "--", words]);
        self.waits("the words stand there", || self.team.seen(LEAD).contains(words));
    }

    /// Types a line there, and presses Enter until it is taken.
    #[track_caller]
    pub fn types(&self, line: &str, mut is_taken: impl FnMut() -> bool) {
        self.begins_to_type(line);
        let mut pressed: Option<Instant> = None;
        self.waits(line, || {
            if pressed.is_none_or(|at| at.elapsed() > AGAIN) {
                self.team.keys(LEAD, &["Enter"]);
                pressed = Some(Instant::now());
            }
            is_taken()
        });
    }

    /// Looks again until something is so.
    #[track_caller]
    pub fn waits(&self, what: &str, mut is_so: impl FnMut() -> bool) {
        let begun = Instant::now();
        while !is_so() {
            let wrong = self.model.wrong();
            assert!(
                wrong.is_empty() && begun.elapsed() < PATIENCE,
                "did not happen: {what}\n{}\n{}\n{}",
                wrong.join("\n"),
                String::from_utf8_lossy(&self.team.tmux(&["capture-pane", "-p", "-t", LEAD]).stdout),
                self.team.door.ok(&["events"])
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// The events of a kind that are about an agent.
    pub fn events(&self, kind: &str, agent: &str) -> Vec<Value> {
        let listed = self.team.door.ok(&["events", "--kind", kind, "--agent", agent, "--json"]);
        crate::door::lines(&listed)
    }

    /// The path of a file of the project, as a tool of Claude Code names it.
    pub fn file(&self, name: &str) -> String {
        self.team.door.path().join(name).display().to_string()
    }
}

/// What Claude Code asks a person once: which colours, whether this key may be used, whether this folder and its MCP server
/// are trusted.
fn answer_first_questions(home: &Path, project: &Path) {
    let project = project.canonicalize().expect("a folder");
    let trusted = json!({
        "hasTrustDialogAccepted": true, "hasCompletedProjectOnboarding": true, "enabledMcpjsonServers": ["quorate"],
    });
    let known = json!({
        "hasCompletedOnboarding": true, "theme": "dark", "autoUpdates": false,
        "customApiKeyResponses": { "approved": [&KEY[KEY.len() - 20..]], "rejected": [] },
        "projects": { project.to_str().expect("UTF-8"): trusted },
    });
    let settings = json!({ "permissions": { "allow": ["mcp__quorate", "Read", "Edit"] } });
    std::fs::create_dir(home.join(".claude")).expect("a folder");
    std::fs::write(home.join(".claude.json"), known.to_string()).expect("the file is written");
    std::fs::write(home.join(".claude/settings.json"), settings.to_string()).expect("the file is written");
}

/// The words of a conversation as the model is given it, one after another.
pub fn words_of(request: &Value) -> String {
    fn collect(value: &Value, all: &mut String) {
        match value {
            Value::String(text) => {
                all.push_str(text);
                all.push('\n');
            }
            Value::Array(items) => items.iter().for_each(|item| collect(item, all)),
            Value::Object(fields) => fields.values().for_each(|field| collect(field, all)),
            _ => {}
        }
    }
    let mut all = String::new();
    collect(&request["messages"], &mut all);
    all
}

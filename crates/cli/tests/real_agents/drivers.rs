//! Each as a driver of a run: it does a task, fails with a reason, is parked.

use crate::door::{Door, texts, word};
use crate::{KEY, path};
use quorate_testkit::model::{Asked, ScriptedModel, Turn};
use serde_json::{Value, json};
use std::process::{Command, Output};

/// A project with one agent, and the model that it asks.
struct Stage {
    door: Door,
    model: ScriptedModel,
    /// Variables that the agent needs, beside its key.
    env: Vec<(&'static str, String)>,
}

impl Stage {
    fn claude(script: impl IntoIterator<Item = Turn>) -> Stage {
        let model = ScriptedModel::start(script);
        let env = vec![("ANTHROPIC_API_KEY", KEY.to_owned()), ("ANTHROPIC_BASE_URL", model.url().to_owned())];
        let table = "[agents.coder]\ndriver = \"claude\"\nmodel = \"claude-sonnet-5\"\nprompt = \"role.md\"\n\
                     env = { CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC = \"1\" }\n";
        Stage::new(table, model, env)
    }

    fn codex(script: impl IntoIterator<Item = Turn>) -> Stage {
        let model = ScriptedModel::start(script);
        let provider = format!(
            "model_providers.local={{name=\\\"local\\\",base_url=\\\"{}/v1\\\",env_key=\\\"OPENAI_API_KEY\\\",wire_api=\\\"responses\\\"}}",
            model.url()
        );
        let table = format!(
            "[agents.coder]\ndriver = \"codex\"\nmodel = \"gpt-5.2-codex\"\nprompt = \"role.md\"\n\
             command = [\"codex\", \"-s\", \"danger-full-access\", \"-c\", \"model_provider=local\", \"-c\", \"{provider}\"]\n"
        );
        Stage::new(&table, model, vec![("OPENAI_API_KEY", KEY.to_owned())])
    }

    fn gemini(script: impl IntoIterator<Item = Turn>) -> Stage {
        let model = ScriptedModel::start(script);
        let env =
            vec![("GEMINI_API_KEY", KEY.to_owned()), ("GOOGLE_GEMINI_BASE_URL", model.url().to_owned())];
        let table = "[agents.coder]\ndriver = \"gemini\"\nmodel = \"gemini-3-flash\"\nprompt = \"role.md\"\n";
        Stage::new(table, model, env)
    }

    fn new(table: &str, model: ScriptedModel, env: Vec<(&'static str, String)>) -> Stage {
        let door = Door::lite();
        door.write("quorate.toml", format!("[health]\nretry_after = \"100ms\"\n{table}"));
        door.write("role.md", "You are thorough.\n");
        door.write(
            "plan.toml",
            "goal = \"g\"\n[[task]]\nkey = \"look\"\nprompt = \"Write down what you find.\"\nverify = \"grep -q seven found.txt\"\n\
             [[task]]\nkey = \"see\"\nneeds = [\"look\"]\nrun = \"cat > seen.json\"\n",
        );
        Stage { door, model, env }
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = self.door.command(words);
        command.env("PATH", path()).envs(self.env.iter().cloned());
        command
    }

    fn run(&self, words: &[&str]) -> Output {
        self.command(words).output().expect("the binary runs")
    }

    fn found(&self) -> String {
        self.door.path().join("found.txt").display().to_string()
    }
}

/// Runs the plan and checks what every driver must have done; answers with what the model was asked.
fn check_run(stage: Stage, tool: &str) -> Vec<Asked> {
    let output = stage.run(&["run", "plan.toml"]);
    let (report, said) = texts(&output);
    let log = texts(&stage.run(&["logs", "1"])).0;
    assert_eq!(output.status.code(), Some(0), "{report}{said}\n--- log\n{log}");
    let tasks = stage.door.json(&["task", "list"]);
    assert_eq!(
        (word(&tasks[0]["state"]), word(&tasks[0]["result"])),
        ("completed", "I found seven."),
        "{tasks}"
    );
    let seen = std::fs::read_to_string(stage.door.path().join("seen.json")).expect("the next task ran");
    assert!(seen.contains("\"needs\":{\"look\":\"I found seven.\"}"), "{seen}");
    assert!(log.contains(&format!("[tool] {tool}")), "{log}");
    let usage = last_usage(&log);
    let count = |key: &str| usage[key].as_i64().expect("a count");
    assert!(
        count("input_tokens") >= 120 && count("cache_read_tokens") >= 80 && count("output_tokens") >= 20,
        "{usage}"
    );
    assert!(!log.contains(KEY) && !said.contains(KEY), "the key stays secret");
    let drive = stage.door.path().join(".quorate/drive");
    let left = std::fs::read_dir(drive).map(|entries| entries.count()).unwrap_or_default();
    assert_eq!(left, 0, "files of settings are gone");
    stage.model.end()
}

fn last_usage(log: &str) -> Value {
    let mut lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.rfind(|line| line["quorate"] == "usage").unwrap_or_else(|| panic!("no usage in\n{log}"))
}

/// What each must tell its model: the role, the task, its check.
fn told(turn: Turn) -> Turn {
    turn.expect("You are thorough.").expect("Write down what you find.").expect("grep -q seven found.txt")
}

fn write_with_shell(stage: &str) -> String {
    format!("echo seven > {stage}/found.txt; echo wrote")
}

#[test]
fn claude_does_a_task_of_a_run() {
    let stage = Stage::claude([]);
    let script = [
        told(Turn::call("Write", json!({ "file_path": stage.found(), "content": "seven\n" }))),
        Turn::text("I found seven.").expect("tool_result"),
    ];
    let asked = check_run(stage.with(script), "Write");
    assert_eq!(asked[0].headers["x-api-key"], KEY);
}

#[test]
fn codex_does_a_task_of_a_run() {
    let stage = Stage::codex([]);
    let shell = write_with_shell(&stage.door.path().display().to_string());
    let script = [
        told(Turn::call("exec_command", json!({ "cmd": shell }))),
        Turn::text("I found seven.").expect("wrote"),
    ];
    let asked = check_run(stage.with(script), "shell");
    assert_eq!(asked[0].headers["authorization"], format!("Bearer {KEY}"));
}

#[test]
fn gemini_does_a_task_of_a_run() {
    let stage = Stage::gemini([]);
    let shell = write_with_shell(&stage.door.path().display().to_string());
    let script = [
        told(Turn::call("run_shell_command", json!({ "command": shell }))),
        Turn::text("I found seven.").expect("wrote"),
    ];
    let asked = check_run(stage.with(script), "run_shell_command");
    assert_eq!(asked[0].headers["x-goog-api-key"], KEY);
}

#[test]
fn a_failure_that_an_agent_tells_is_the_attempt_s_reason_and_the_next_is_told_it() {
    let stage = Stage::claude([]);
    let script = [
        told(Turn::text("I looked.\nFAILED: the folder is locked")),
        told(Turn::call("Write", json!({ "file_path": stage.found(), "content": "seven\n" })))
            .expect("the folder is locked"),
        Turn::text("I found seven."),
    ];
    check_run(stage.with(script), "Write");
}

#[test]
fn a_rate_limit_parks_claude_s_attempt() {
    let stage = Stage::claude([Turn::refuse(429, Some(3600))]);
    let task = json!({ "id": 1, "attempt": 1, "title": "t", "prompt": "p" }).to_string();
    let mut command = stage.command(&["drive", "--driver", "claude"]);
    let mut child = command
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("it starts");
    std::io::Write::write_all(&mut child.stdin.take().expect("a pipe"), task.as_bytes()).expect("written");
    let output = child.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(6), "{said}");
    let last: Value = serde_json::from_str(said.lines().last().expect("a line")).expect("JSON");
    assert_eq!(word(&last["quorate"]), "parked", "{said}");
    stage.model.end();
}

impl Stage {
    /// The same with another script: what a call holds may depend on the stage's folder.
    fn with(self, script: impl IntoIterator<Item = Turn>) -> Stage {
        self.model.set(script);
        self
    }
}

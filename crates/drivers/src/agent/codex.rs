//! Codex: `codex exec --json`, its flags and its stream of JSON lines.
//!
//! Here live both. It tells what it used only at the end of its turn, and waits in silence when it is refused.

use super::refusal::{is_limit, meets_all, refused};
use super::{Launch, Means, Stream, more, silent_end, unknown, words};
use crate::ending::{Ending, LastWords};
use crate::prompt::Prompt;
use crate::say::{ERROR_MAX, Out, Parked, call, short};
use crate::settings::Settings;
use crate::usage::{Meter, Usage, count};
use serde_json::Value;

pub(super) const PASSED: &[&str] = &["CODEX_API_KEY", "CODEX_HOME", "OPENAI_API_KEY", "OPENAI_BASE_URL"];

/// The name under which its usage is counted where its table names no model: it does not tell which it chose.
const UNNAMED: &str = "codex";

pub(super) fn launch(settings: &Settings, prompt: &Prompt, means: &Means) -> Launch {
    let mut args = words(["exec", "--json", "--skip-git-repo-check"]);
    if let Some(model) = &settings.model {
        args.extend(["-m".to_owned(), model.clone()]);
    }
    let mut set = |key: &str, value: Value| args.extend(["-c".to_owned(), format!("{key}={value}")]);
    // What holds without flags of the table, which come later and win.
    set("sandbox_mode", "workspace-write".into());
    if let Some((program, rest)) = means.mcp.split_first() {
        set("mcp_servers.quorate.command", program.as_str().into());
        set("mcp_servers.quorate.args", rest.into());
        set("mcp_servers.quorate.env_vars", means.mcp_variables().collect::<Vec<_>>().into());
        set("mcp_servers.quorate.default_tools_approval_mode", "approve".into());
    }
    args.extend(more(settings));
    args.push("-".to_owned());
    Launch { args, stdin: prompt.whole(), ..Launch::default() }
}

/// The reader of its stream.
#[derive(Debug)]
pub(super) struct Codex {
    model: String,
    words: LastWords,
    meter: Meter,
    waits: Option<Parked>,
    failed: Option<String>,
    is_done: bool,
}

impl Codex {
    pub(super) fn new(settings: &Settings) -> Codex {
        Codex {
            model: settings.model.clone().unwrap_or_else(|| UNNAMED.to_owned()),
            words: LastWords::default(),
            meter: Meter::default(),
            waits: None,
            failed: None,
            is_done: false,
        }
    }
}

impl Stream for Codex {
    fn on_line(&mut self, line: &str) -> Vec<Out> {
        let Ok(event) = serde_json::from_str::<Value>(line) else { return unknown(line) };
        let item = &event["item"];
        match event["type"].as_str() {
            Some("thread.started") => {
                let session = event["thread_id"].as_str().unwrap_or("?");
                vec![Out::Text(format!("[codex] model {}, session {session}", self.model))]
            }
            Some("turn.started") => vec![Out::Sign],
            Some("item.started") => vec![self.begun(item)],
            Some("item.updated") => self.heard(Out::Sign),
            Some("item.completed") => self.ended(item),
            Some("turn.completed") => self.turn(&event["usage"]),
            Some("turn.failed") => {
                self.trouble(event["error"]["message"].as_str().unwrap_or("its turn failed"), true)
            }
            Some("error") => {
                self.trouble(event["message"].as_str().unwrap_or("an error without words"), false)
            }
            _ => unknown(line),
        }
    }

    fn waits(&self) -> Option<&Parked> {
        self.waits.as_ref()
    }

    fn is_over(&self) -> bool {
        self.is_done || self.failed.is_some()
    }

    fn end(&mut self, code: Option<i32>) -> Ending {
        match self.failed.take() {
            Some(why) if meets_all(&why) => Ending::Parked(refused(&why)),
            Some(why) => Ending::failed(why),
            None if self.is_done => self.words.ending(),
            None => silent_end("codex", code),
        }
    }
}

impl Codex {
    /// Something came that is no refusal.
    fn heard(&mut self, out: Out) -> Vec<Out> {
        self.waits = None;
        vec![out]
    }

    fn begun(&mut self, item: &Value) -> Out {
        self.waits = None;
        match item["type"].as_str() {
            Some("command_execution") => Out::Doing(call("shell", item)),
            Some("mcp_tool_call") => {
                let (server, tool) =
                    (item["server"].as_str().unwrap_or("?"), item["tool"].as_str().unwrap_or("?"));
                if (server, tool) == ("quorate", "finish") {
                    self.words.finish(&item["arguments"]);
                }
                Out::Doing(call(&format!("{server}.{tool}"), &item["arguments"]))
            }
            Some("web_search") => Out::Doing(call("web_search", item)),
            _ => Out::Sign,
        }
    }

    fn ended(&mut self, item: &Value) -> Vec<Out> {
        let text = item["text"].as_str().unwrap_or_default();
        let out = match item["type"].as_str() {
            Some("agent_message") => Out::Text(self.words.hear(text)),
            Some("command_execution") if item["exit_code"].as_i64().is_some_and(|code| code != 0) => {
                let output = item["aggregated_output"].as_str().unwrap_or_default();
                let last = output.lines().last().unwrap_or_default();
                Out::Text(format!(
                    "[tool] failed with code {}: {}",
                    item["exit_code"],
                    short(last, ERROR_MAX)
                ))
            }
            Some("mcp_tool_call") if !item["error"].is_null() => {
                let why = item["error"]["message"].as_str().unwrap_or("no reason told");
                Out::tool_failed(why)
            }
            Some("file_change") => Out::Doing(format!("[tool] edit: {}", changed(item))),
            // It warns and goes on.
            Some("error") => {
                let words = item["message"].as_str().unwrap_or_default();
                return vec![Out::Text(format!("[codex] {}", short(words, ERROR_MAX)))];
            }
            _ => Out::Sign,
        };
        self.heard(out)
    }

    fn turn(&mut self, told: &Value) -> Vec<Out> {
        self.is_done = true;
        let (cached, written) = (count(told, "cached_input_tokens"), count(told, "cache_write_input_tokens"));
        let used = Usage {
            model: self.model.clone(),
            input_tokens: count(told, "input_tokens").saturating_sub(cached).saturating_sub(written).max(0),
            output_tokens: count(told, "output_tokens"),
            cache_read_tokens: cached,
            cache_write_tokens: written,
            ..Usage::default()
        };
        let sum = self.meter.add(&used);
        self.heard(Out::Usage(sum))
    }

    fn trouble(&mut self, why: &str, is_over: bool) -> Vec<Out> {
        if is_limit(why) {
            self.waits = Some(refused(why));
        }
        if is_over {
            self.failed = Some(why.to_owned());
        }
        vec![Out::Text(format!("[api] {}", short(why, ERROR_MAX)))]
    }
}

fn changed(item: &Value) -> String {
    let changes = item["changes"].as_array().into_iter().flatten();
    let paths: Vec<&str> = changes.filter_map(|change| change["path"].as_str()).collect();
    short(&paths.join(", "), ERROR_MAX)
}

#[cfg(test)]
mod tests {
    use super::super::Program;
    use super::super::recorded::{read, told};
    use super::*;
    use serde_json::json;

    const SESSION: &str = include_str!("../../tests/streams/codex.jsonl");
    const LIMITED: &str = include_str!("../../tests/streams/codex-429.jsonl");

    #[test]
    fn a_session_is_told_in_a_few_lines() {
        let (outs, ending) = read(Program::Codex, SESSION, 0);
        let lines = told(&outs);
        assert!(lines[0].starts_with("[codex] model m, session 0"), "{lines:?}");
        assert!(lines[1].starts_with("[codex] Model metadata for"), "{lines:?}");
        assert_eq!(lines[2..], ["Looking.", "[tool] shell: /bin/bash -lc 'ls -la; echo hi'", "All done."]);
        assert_eq!(ending, Ending::Done("All done.".into()));
    }

    #[test]
    fn parts_of_its_input_do_not_overlap() {
        let (outs, _) = read(Program::Codex, SESSION, 0);
        let expected = Usage {
            model: "m".into(),
            input_tokens: 120,
            output_tokens: 24,
            cache_read_tokens: 80,
            ..Usage::default()
        };
        assert_eq!(outs.last(), Some(&Out::Usage(expected)));
    }

    #[test]
    fn a_rate_limit_makes_it_wait_and_parks_it_in_the_end() {
        let mut stream = Codex::new(&Settings::default());
        LIMITED.lines().for_each(|line| drop(stream.on_line(line)));
        assert!(stream.waits().is_some_and(|parked| parked.reason.contains("429")));
        let failed = r#"{"type":"turn.failed","error":{"message":"You've hit your usage limit. Try again in 2 hours."}}"#;
        stream.on_line(failed);
        let Ending::Parked(parked) = stream.end(Some(1)) else { panic!("parked") };
        assert_eq!(parked.after_ms, Some(7_200_000));
    }

    #[test]
    fn what_comes_after_a_refusal_ends_the_waiting() {
        let mut stream = Codex::new(&Settings::default());
        LIMITED.lines().for_each(|line| drop(stream.on_line(line)));
        stream.on_line(r#"{"type":"item.completed","item":{"type":"agent_message","text":"here"}}"#);
        assert!(stream.waits().is_none());
    }

    #[test]
    fn a_turn_that_failed_has_its_reason() {
        let failed = r#"{"type":"turn.failed","error":{"message":"the context window is full"}}"#;
        let (_, ending) = read(Program::Codex, failed, 1);
        assert_eq!(ending, Ending::Failed("the context window is full".into()));
        let refused = r#"{"type":"turn.failed","error":{"message":"unexpected status 401 Unauthorized"}}"#;
        let (_, ending) = read(Program::Codex, refused, 1);
        assert_eq!(
            ending,
            Ending::parked("unexpected status 401 Unauthorized", None),
            "so would every other task"
        );
        let (_, ending) = read(Program::Codex, "", 2);
        assert_eq!(ending, Ending::Failed("codex exited with code 2 and no result".into()));
    }

    #[test]
    fn what_its_tools_do_is_told() {
        let check = |line: Value, expected: &str| {
            assert_eq!(told(&read(Program::Codex, &line.to_string(), 0).0), [expected])
        };
        let item = |kind: &str, item: Value| json!({ "type": kind, "item": item });
        let call = json!({ "type": "mcp_tool_call", "server": "quorate", "tool": "claim", "arguments": { "path": "src" } });
        check(item("item.started", call), "[tool] quorate.claim: src");
        let refused = json!({ "type": "mcp_tool_call", "error": { "message": "held by ada" } });
        check(item("item.completed", refused), "[tool] failed: held by ada");
        let failed =
            json!({ "type": "command_execution", "exit_code": 3, "aggregated_output": "a\nno file\n" });
        check(item("item.completed", failed), "[tool] failed with code 3: no file");
        let change = json!({ "type": "file_change", "changes": [{ "path": "a.rs" }, { "path": "b.rs" }] });
        check(item("item.completed", change), "[tool] edit: a.rs, b.rs");
    }

    #[test]
    fn its_flags_hold_no_secret_and_the_table_s_come_last() {
        let settings = Settings {
            command: ["codex", "-s", "read-only"].map(String::from).to_vec(),
            model: Some("gpt".into()),
            ..Settings::default()
        };
        let means = Means {
            mcp: ["/bin/quorate", "mcp"].map(String::from).to_vec(),
            variables: ["QUORATE_TOKEN".to_owned()].to_vec(),
            ..Means::default()
        };
        let prompt = Prompt { role: "who".into(), task: "what".into() };
        let launch = Program::Codex.launch(&settings, &prompt, &means);
        let line = launch.args.join(" ");
        assert!(
            line.starts_with("exec --json --skip-git-repo-check -m gpt -c sandbox_mode=\"workspace-write\""),
            "{line}"
        );
        assert!(line.contains(r#"-c mcp_servers.quorate.env_vars=["QUORATE_TOKEN"]"#), "{line}");
        assert!(line.ends_with(" -s read-only -"), "{line}");
        assert_eq!(launch.stdin, "who\n\nwhat");
    }
}

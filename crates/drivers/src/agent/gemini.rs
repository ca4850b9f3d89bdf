//! Gemini CLI: its flags and its stream of JSON lines.
//!
//! Here live both. Its words come in pieces that are put together; that it is refused it tells on standard error only.

use super::refusal::{is_limit, meets_all, refused};
use super::{Home, Launch, Means, Stream, more, silent_end, unknown, words};
use crate::ending::{Ending, LastWords};
use crate::prompt::Prompt;
use crate::say::{ERROR_MAX, Out, Parked, call, short};
use crate::settings::Settings;
use crate::usage::{Meter, Usage, count};
use serde_json::{Value, json};
use std::collections::BTreeMap;

pub(super) const PASSED: &[&str] = &[
    "GEMINI_API_KEY",
    "GOOGLE_API_KEY",
    "GOOGLE_APPLICATION_CREDENTIALS",
    "GOOGLE_CLOUD_LOCATION",
    "GOOGLE_CLOUD_PROJECT",
    "GOOGLE_GEMINI_BASE_URL",
    "GOOGLE_GENAI_USE_VERTEXAI",
];

/// Flags of a table that say how tools are approved.
const APPROVAL: [&str; 3] = ["--approval-mode", "-y", "--yolo"];
/// The longest message that is put together, in bytes.
const MESSAGE_MAX: usize = 512 << 10;

pub(super) fn launch(settings: &Settings, prompt: &Prompt, means: &Means) -> Launch {
    let mut args = words(["-o", "stream-json", "--skip-trust"]);
    if let Some(model) = &settings.model {
        args.extend(["-m".to_owned(), model.clone()]);
    }
    let says_approval = more(settings).any(|word| APPROVAL.iter().any(|flag| word.starts_with(flag)));
    if !says_approval {
        args.extend(words(["--approval-mode", "yolo"]));
    }
    args.extend(more(settings));
    Launch { args, stdin: prompt.whole(), home: Some(home(settings, means)), ..Launch::default() }
}

/// It reads settings from the user's home and from the project's folder, and nobody's files are to be changed.
fn home(settings: &Settings, means: &Means) -> Home {
    let mut usual = json!({ "general": { "enableAutoUpdate": false } });
    if means.has("GEMINI_API_KEY") {
        usual["security"] = json!({ "auth": { "selectedType": "gemini-api-key" } });
    }
    let mut must = json!({});
    if let Some(turns) = settings.max_turns {
        must["model"] = json!({ "maxSessionTurns": turns });
    }
    if let Some((program, rest)) = means.mcp.split_first() {
        let env: BTreeMap<&str, String> =
            means.mcp_variables().map(|name| (name, format!("${name}"))).collect();
        let server = json!({ "command": program, "args": rest, "env": env, "trust": true });
        must["mcpServers"] = json!({ "quorate": server });
    }
    Home {
        folder: means.folder.clone(),
        variable: "GEMINI_CLI_HOME",
        inner: ".gemini",
        file: "settings.json",
        usual,
        must,
    }
}

/// The reader of its stream.
#[derive(Debug, Default)]
pub(super) struct Gemini {
    words: LastWords,
    meter: Meter,
    /// The pieces of a message that is not whole yet.
    pieces: String,
    waits: Option<Parked>,
    failed: Option<String>,
    is_done: bool,
}

impl Stream for Gemini {
    fn on_line(&mut self, line: &str) -> Vec<Out> {
        let Ok(event) = serde_json::from_str::<Value>(line) else { return unknown(line) };
        let kind = event["type"].as_str().unwrap_or_default();
        if !matches!(kind, "init" | "error") {
            self.waits = None;
        }
        match kind {
            "init" => {
                let word = |key: &str| event[key].as_str().unwrap_or("?").to_owned();
                vec![Out::Text(format!("[gemini] model {}, session {}", word("model"), word("session_id")))]
            }
            "message" => self.message(&event),
            "tool_use" => self.tool(&event),
            "tool_result" if event["status"] == "error" => {
                let why = event["error"]["message"]
                    .as_str()
                    .or(event["output"].as_str())
                    .unwrap_or("no reason told");
                vec![Out::tool_failed(why)]
            }
            "tool_result" => vec![Out::Sign],
            "error" => self.trouble(event["message"].as_str().unwrap_or("an error without words")),
            "result" => self.result(&event),
            _ => unknown(line),
        }
    }

    fn on_error_line(&mut self, line: &str) {
        if line.starts_with("Attempt ") && is_limit(line) {
            self.waits = Some(refused(line));
        }
    }

    fn waits(&self) -> Option<&Parked> {
        self.waits.as_ref()
    }

    fn is_over(&self) -> bool {
        self.is_done || self.failed.is_some()
    }

    fn end(&mut self, code: Option<i32>) -> Ending {
        match (self.failed.take(), code) {
            (Some(why), _) if meets_all(&why) => Ending::Parked(refused(&why)),
            (Some(why), _) => Ending::failed(why),
            (None, _) if self.is_done => self.words.ending(),
            (None, Some(41)) => {
                Ending::parked("gemini has no way to sign in: set GEMINI_API_KEY, or run `gemini` once", None)
            }
            (None, Some(53)) => Ending::failed("gemini reached its limit of turns"),
            (None, code) => silent_end("gemini", code),
        }
    }
}

impl Gemini {
    fn message(&mut self, event: &Value) -> Vec<Out> {
        let content = event["content"].as_str().unwrap_or_default();
        if event["role"] != "assistant" {
            return vec![Out::Sign];
        }
        if self.pieces.len() + content.len() <= MESSAGE_MAX {
            self.pieces.push_str(content);
        }
        if event["delta"] == true { vec![Out::Sign] } else { self.whole() }
    }

    /// Tells a message whose pieces have all come.
    fn whole(&mut self) -> Vec<Out> {
        let message = std::mem::take(&mut self.pieces);
        let words = self.words.hear(&message);
        if words.trim().is_empty() { Vec::new() } else { vec![Out::Text(words)] }
    }

    fn tool(&mut self, event: &Value) -> Vec<Out> {
        let mut outs = self.whole();
        let (name, input) = (event["tool_name"].as_str().unwrap_or("?"), &event["parameters"]);
        if name.ends_with("quorate_finish") {
            self.words.finish(input);
        }
        outs.push(Out::Doing(call(name, input)));
        outs
    }

    fn trouble(&mut self, why: &str) -> Vec<Out> {
        if is_limit(why) {
            self.waits = Some(refused(why));
        }
        vec![Out::Text(format!("[api] {}", short(why, ERROR_MAX)))]
    }

    fn result(&mut self, event: &Value) -> Vec<Out> {
        let mut outs = self.whole();
        for (model, told) in event["stats"]["models"].as_object().into_iter().flatten() {
            let (input, cached) = (count(told, "input_tokens"), count(told, "cached"));
            // What it thought stands in the total alone.
            let rest = count(told, "total_tokens").saturating_sub(input);
            let used = Usage {
                model: model.clone(),
                input_tokens: input.saturating_sub(cached).max(0),
                output_tokens: count(told, "output_tokens").max(rest),
                cache_read_tokens: cached,
                ..Usage::default()
            };
            outs.push(Out::Usage(self.meter.set(used)));
        }
        match event["status"].as_str() {
            Some("success") => self.is_done = true,
            _ => {
                let why = event["error"]["message"].as_str().unwrap_or("it ended with an error");
                self.failed = Some(why.to_owned());
            }
        }
        outs
    }
}

#[cfg(test)]
mod tests {
    use super::super::Program;
    use super::super::recorded::{read, told};
    use super::*;

    const SESSION: &str = include_str!("../../tests/streams/gemini.jsonl");

    #[test]
    fn a_session_is_told_in_a_few_lines() {
        let (outs, ending) = read(Program::Gemini, SESSION, 0);
        let lines = told(&outs);
        assert!(lines[0].starts_with("[gemini] model auto, session "), "{lines:?}");
        assert_eq!(lines[1..], ["Looking.", "[tool] run_shell_command: ls -la; echo hi", "All done."]);
        assert_eq!(ending, Ending::Done("All done.".into()));
    }

    #[test]
    fn each_model_that_it_used_is_counted() {
        let (outs, _) = read(Program::Gemini, SESSION, 0);
        let used: Vec<_> = outs
            .iter()
            .filter_map(|out| match out {
                Out::Usage(usage) => {
                    Some((usage.model.as_str(), usage.input_tokens, usage.cache_read_tokens))
                }
                _ => None,
            })
            .collect();
        assert_eq!(used, [("gemini-3.5-flash-lite", 90, 10), ("gemini-3.8-flash", 180, 20)]);
    }

    #[test]
    fn what_a_model_thought_is_output_too() {
        let stats = json!({ "models": { "m": {
            "total_tokens": 7190, "input_tokens": 7173, "output_tokens": 0, "cached": 0, "input": 7173
        } } });
        let line = json!({ "type": "result", "status": "success", "stats": stats });
        let (outs, _) = read(Program::Gemini, &line.to_string(), 0);
        let used: Vec<i64> = outs
            .iter()
            .filter_map(|out| if let Out::Usage(used) = out { Some(used.output_tokens) } else { None })
            .collect();
        assert_eq!(used, [17]);
    }

    #[test]
    fn pieces_of_a_message_are_put_together_up_to_a_limit() {
        let mut stream = Gemini::default();
        let piece = |text: &str| {
            json!({ "type": "message", "role": "assistant", "content": text, "delta": true }).to_string()
        };
        assert_eq!(stream.on_line(&piece("a\nb")), [Out::Sign]);
        stream.on_line(&piece("c"));
        assert_eq!(stream.on_line(r#"{"type":"result","status":"success"}"#), [Out::Text("a\nbc".into())]);
        for _ in 0..MESSAGE_MAX / 1024 + 9 {
            stream.on_line(&piece(&"x".repeat(1024)));
        }
        assert_eq!(stream.pieces.len(), MESSAGE_MAX);
    }

    #[test]
    fn a_refusal_on_standard_error_makes_it_wait() {
        let mut stream = Gemini::default();
        stream.on_error_line("Ripgrep is not available. 429 is no status here.");
        assert!(stream.waits().is_none());
        stream.on_error_line(
            "Attempt 1 failed with status 429. Retrying with backoff... _ApiError: please retry in 20s",
        );
        assert_eq!(stream.waits().and_then(|parked| parked.after_ms), Some(20_000));
        stream.on_line(r#"{"type":"tool_result","status":"success"}"#);
        assert!(stream.waits().is_none());
    }

    #[test]
    fn each_way_to_fail_has_its_reason() {
        let failed = r#"{"type":"result","status":"error","error":{"message":"quota exceeded"}}"#;
        assert!(matches!(read(Program::Gemini, failed, 1).1, Ending::Parked(_)));
        let check = |line: &str, code: i32, part: &str| match read(Program::Gemini, line, code).1 {
            Ending::Failed(why) => assert!(why.contains(part), "{why}"),
            other => panic!("{other:?}"),
        };
        check(r#"{"type":"result","status":"error","error":{"message":"bad request"}}"#, 1, "bad request");
        let no_key = read(Program::Gemini, "", 41).1;
        assert!(
            matches!(&no_key, Ending::Parked(parked) if parked.reason.contains("GEMINI_API_KEY")),
            "{no_key:?}"
        );
        check("", 53, "turns");
        check("", 1, "exited with code 1");
    }

    #[test]
    fn its_settings_hold_no_secret_and_the_table_says_how_tools_are_approved() {
        let means = Means {
            mcp: ["/bin/quorate", "mcp"].map(String::from).to_vec(),
            variables: ["GEMINI_API_KEY", "QUORATE_TOKEN"].map(String::from).to_vec(),
            folder: "/f".into(),
        };
        let prompt = Prompt { role: "who".into(), task: "what".into() };
        let plain = Settings { max_turns: Some(4), ..Settings::default() };
        let launch = Program::Gemini.launch(&plain, &prompt, &means);
        assert_eq!(launch.args.join(" "), "-o stream-json --skip-trust --approval-mode yolo");
        let home = launch.home.expect("a home");
        let own = r#"{"ui":{"theme":"x"},"mcpServers":{"mine":{"command":"m"}},"model":{"name":"n"}}"#;
        let value: Value = serde_json::from_str(&home.settings(Some(own)).unwrap()).unwrap();
        assert_eq!(value["mcpServers"]["quorate"]["env"]["QUORATE_TOKEN"], "$QUORATE_TOKEN");
        assert_eq!(value["security"]["auth"]["selectedType"], "gemini-api-key");
        assert_eq!(value["model"], json!({ "name": "n", "maxSessionTurns": 4 }));
        assert_eq!(
            (&value["ui"]["theme"], &value["mcpServers"]["mine"]["command"]),
            (&json!("x"), &json!("m"))
        );
        let own = r#"{"security":{"auth":{"selectedType":"oauth-personal"}}}"#;
        assert!(home.settings(Some(own)).unwrap().contains("oauth-personal"), "the user's choice stays");
        assert!(home.settings(Some("// no JSON")).is_err_and(|why| why.contains("settings.json")));
        let says = Settings {
            command: ["gemini", "--approval-mode=plan"].map(String::from).to_vec(),
            ..Settings::default()
        };
        let args = Program::Gemini.launch(&says, &prompt, &Means::default()).args;
        assert_eq!(args.join(" "), "-o stream-json --skip-trust --approval-mode=plan");
    }
}

//! Claude Code: `claude -p`, its flags and its stream of JSON lines.
//!
//! Here live both. What a whole message says is told once, when it is whole; the pieces before it only show that it
//! moves. Usage is counted by message and set right by what the end tells.

use super::{Launch, Means, Stream, more, refusal, silent_end, unknown, words};
use crate::ending::{Ending, LastWords, parked};
use crate::prompt::Prompt;
use crate::say::{Out, Parked, call};
use crate::settings::Settings;
use crate::usage::{Meter, Usage, count};
use serde_json::{Value, json};
use std::collections::{BTreeMap, VecDeque};

pub(super) const PASSED: &[&str] = &[
    "ANTHROPIC_API_KEY",
    "ANTHROPIC_AUTH_TOKEN",
    "ANTHROPIC_BASE_URL",
    "CLAUDE_CODE_OAUTH_TOKEN",
    "CLAUDE_CONFIG_DIR",
];

/// The last part of the names of its tools that come from our MCP server.
const FINISH: &str = "__quorate__finish";
/// Messages whose usage was counted, remembered by their ids.
const COUNTED_MAX: usize = 64;
/// Messages whose usage still grows: one for it and each of its sub-agents.
const GROWING_MAX: usize = 64;

pub(super) fn launch(settings: &Settings, prompt: &Prompt, means: &Means) -> Launch {
    let mut args = words(["-p", "--output-format", "stream-json", "--verbose", "--include-partial-messages"]);
    if let Some(model) = &settings.model {
        args.extend(["--model".to_owned(), model.clone()]);
    }
    if let Some(turns) = settings.max_turns {
        args.extend(["--max-turns".to_owned(), turns.to_string()]);
    }
    args.extend(["--append-system-prompt".to_owned(), prompt.role.clone()]);
    // Flags of the table come later and win: these are only what holds without them.
    let allowed = json!({ "permissions": { "defaultMode": "acceptEdits", "allow": ["mcp__quorate"] } });
    args.extend(["--settings".to_owned(), allowed.to_string()]);
    if !means.mcp.is_empty() {
        args.extend(["--mcp-config".to_owned(), mcp_config(means), "--strict-mcp-config".to_owned()]);
    }
    args.extend(more(settings));
    let tool_search = "ENABLE_TOOL_SEARCH";
    let env = if means.has(tool_search) { Vec::new() } else { vec![(tool_search.into(), "false".into())] };
    Launch { args, env, stdin: prompt.task.clone(), ..Launch::default() }
}

fn mcp_config(means: &Means) -> String {
    let env: BTreeMap<&str, String> =
        means.mcp_variables().map(|name| (name, format!("${{{name}}}"))).collect();
    let server = json!({ "command": means.mcp[0], "args": means.mcp[1..], "env": env });
    json!({ "mcpServers": { "quorate": server } }).to_string()
}

/// The reader of its stream.
#[derive(Debug, Default)]
pub(super) struct Claude {
    words: LastWords,
    meter: Meter,
    /// Messages that are not whole yet, their ids and usage, by the call whose sub-agent says them; its own by none.
    growing: BTreeMap<String, (String, Usage)>,
    counted: VecDeque<String>,
    /// When its limit ends, as the provider said that refused it.
    resets: Option<i64>,
    /// Its last own message is its model's: the program speaks in its place, too, of a limit.
    model_spoke: bool,
    waits: Option<Parked>,
    ending: Option<Ending>,
}

impl Stream for Claude {
    fn on_line(&mut self, line: &str) -> Vec<Out> {
        let Ok(event) = serde_json::from_str::<Value>(line) else { return unknown(line) };
        match event["type"].as_str() {
            Some("system") => self.system(&event),
            Some("stream_event") => self.piece(&event),
            Some("assistant") => self.message(&event),
            Some("user") => tool_results(&event),
            Some("rate_limit_event") => self.limit(&event["rate_limit_info"]),
            Some("result") => self.result(&event),
            Some("keep_alive" | "tool_progress" | "control_request" | "control_response") => vec![Out::Sign],
            _ => unknown(line),
        }
    }

    fn waits(&self) -> Option<&Parked> {
        self.waits.as_ref()
    }

    fn is_over(&self) -> bool {
        self.ending.is_some()
    }

    fn end(&mut self, code: Option<i32>) -> Ending {
        self.ending.take().unwrap_or_else(|| silent_end("claude", code))
    }
}

impl Claude {
    fn system(&mut self, event: &Value) -> Vec<Out> {
        match event["subtype"].as_str() {
            Some("init") => vec![Out::Text(begins(event))],
            Some("api_retry") => {
                let (status, why) = (&event["error_status"], event["error"].as_str().unwrap_or("no answer"));
                let seconds = event["retry_delay_ms"].as_i64().unwrap_or(0) / 1000;
                let words = format!("the model's service refused it: {status} {why}");
                // When a limit ends says nothing of an overload, or of no network.
                let until = (status == 429).then(|| self.until()).flatten();
                self.waits = Some(parked(&words, until));
                vec![Out::Text(format!("[api] {words}; tries again in {seconds} s"))]
            }
            Some("compact_boundary") => {
                let before = &event["compact_metadata"]["pre_tokens"];
                vec![Out::Text(format!("[context] compacted, from {before} tokens"))]
            }
            _ => vec![Out::Sign],
        }
    }

    fn piece(&mut self, event: &Value) -> Vec<Out> {
        self.waits = None;
        let (piece, by) = (&event["event"], event["parent_tool_use_id"].as_str().unwrap_or_default());
        match piece["type"].as_str() {
            Some("message_start") if self.growing.len() < GROWING_MAX => {
                let message = &piece["message"];
                let id = message["id"].as_str().unwrap_or_default().to_owned();
                let used = usage(message["model"].as_str().unwrap_or("?"), &message["usage"]);
                self.growing.insert(by.to_owned(), (id, used));
                vec![Out::Sign]
            }
            Some("message_delta") => {
                self.whole(by, &piece["usage"]).map_or_else(|| vec![Out::Sign], |out| vec![out])
            }
            _ => vec![Out::Sign],
        }
    }

    /// Counts a message that is whole now.
    fn whole(&mut self, by: &str, told: &Value) -> Option<Out> {
        let (id, mut used) = self.growing.remove(by)?;
        used.output_tokens = used.output_tokens.max(count(told, "output_tokens"));
        if by.is_empty() {
            used.context_tokens = Some(used.context());
        }
        self.remember(&id);
        Some(Out::Usage(self.meter.add(&used)))
    }

    fn message(&mut self, event: &Value) -> Vec<Out> {
        let message = &event["message"];
        let is_own = event["parent_tool_use_id"].is_null();
        let mut outs = Vec::new();
        for block in message["content"].as_array().into_iter().flatten() {
            outs.push(self.block(block, is_own));
        }
        let (id, model) =
            (message["id"].as_str().unwrap_or_default(), message["model"].as_str().unwrap_or("?"));
        let is_models = model != "<synthetic>";
        if is_own {
            self.model_spoke = is_models;
        }
        if is_models {
            self.waits = None;
            outs.extend(self.count_unseen(id, model, &message["usage"]));
        }
        outs
    }

    fn block(&mut self, block: &Value, is_own: bool) -> Out {
        match (block["type"].as_str(), block["text"].as_str()) {
            (Some("text"), Some(text)) if is_own => Out::Text(self.words.hear(text)),
            (Some("tool_use"), _) => {
                let name = block["name"].as_str().unwrap_or("?");
                if name.ends_with(FINISH) {
                    self.words.finish(&block["input"]);
                }
                Out::Doing(call(name, &block["input"]))
            }
            _ => Out::Sign,
        }
    }

    /// Counts a message that came whole, as those of sub-agents do: once, however many lines it has.
    fn count_unseen(&mut self, id: &str, model: &str, told: &Value) -> Option<Out> {
        let grows = self.growing.values().any(|(known, _)| known == id);
        if grows || self.counted.iter().any(|known| known == id) {
            return None;
        }
        self.remember(id);
        Some(Out::Usage(self.meter.add(&usage(model, told))))
    }

    fn remember(&mut self, id: &str) {
        self.counted.push_back(id.to_owned());
        if self.counted.len() > COUNTED_MAX {
            self.counted.pop_front();
        }
    }

    fn limit(&mut self, info: &Value) -> Vec<Out> {
        let status = info["status"].as_str();
        // Who is allowed is told, too, when the window ends.
        self.resets = info["resetsAt"].as_i64().filter(|_| status == Some("rejected"));
        match status {
            None | Some("allowed") => vec![Out::Sign],
            Some(status) => {
                let kind = info["rateLimitType"].as_str().unwrap_or("rate");
                vec![Out::Text(format!("[api] {kind} limit: {status}"))]
            }
        }
    }

    fn result(&mut self, event: &Value) -> Vec<Out> {
        let mut outs: Vec<Out> =
            self.meter.settle(totals(&event["modelUsage"])).into_iter().map(Out::Usage).collect();
        let denied = event["permission_denials"].as_array().into_iter().flatten();
        outs.extend(denied.map(|denial| {
            let what = call(denial["tool_name"].as_str().unwrap_or("?"), &denial["tool_input"]);
            Out::Text(format!("[denied] {}", what.trim_start_matches("[tool] ")))
        }));
        self.ending = Some(self.judge(event));
        outs
    }

    fn judge(&mut self, event: &Value) -> Ending {
        let said = event["result"].as_str().unwrap_or_default();
        let subtype = event["subtype"].as_str().unwrap_or("no result");
        let (status, is_error) = (event["api_error_status"].as_i64(), event["is_error"] == true);
        // What a model says of limits is its result.
        let is_told = (is_error || !self.model_spoke) && is_limit(said);
        if is_told || status == Some(429) {
            return Ending::parked(said, self.until().or_else(|| told_reset(said)));
        }
        if matches!(status, Some(401..=403 | 503 | 529)) {
            return Ending::parked(said, None);
        }
        if is_error && !self.model_spoke && refusal::meets_all(said) {
            return Ending::Parked(refusal::refused(said));
        }
        if is_error || subtype != "success" {
            let mut errors = event["errors"].as_array().into_iter().flatten().filter_map(Value::as_str);
            let why = errors.next_back().unwrap_or(said);
            return Ending::failed(if why.is_empty() { subtype } else { why });
        }
        self.words.hear(said);
        self.words.ending()
    }

    fn until(&self) -> Option<String> {
        rfc3339(self.resets?)
    }
}

fn begins(event: &Value) -> String {
    let word = |key: &str| event[key].as_str().unwrap_or("?").to_owned();
    let mut line = format!("[claude] model {}, session {}", word("model"), word("session_id"));
    for server in event["mcp_servers"].as_array().into_iter().flatten() {
        let told = |key: &str| server[key].as_str().unwrap_or("?").to_owned();
        line.push_str(&format!(", mcp {} {}", told("name"), told("status")));
    }
    line
}

fn tool_results(event: &Value) -> Vec<Out> {
    let blocks = event["message"]["content"].as_array().into_iter().flatten();
    let outs: Vec<Out> = blocks
        .filter(|block| block["is_error"] == true)
        .map(|block| {
            let content = &block["content"];
            let said = content.as_str().map_or_else(|| content.to_string(), str::to_owned);
            Out::tool_failed(&said)
        })
        .collect();
    if outs.is_empty() { vec![Out::Sign] } else { outs }
}

fn usage(model: &str, told: &Value) -> Usage {
    Usage {
        model: model.to_owned(),
        input_tokens: count(told, "input_tokens"),
        output_tokens: count(told, "output_tokens"),
        cache_read_tokens: count(told, "cache_read_input_tokens"),
        cache_write_tokens: count(told, "cache_creation_input_tokens"),
        ..Usage::default()
    }
}

/// Reads what a session has used of each model. The name of a model with a larger context has that behind it, in its
/// messages it has not: `claude-opus-5-5[1m]`.
fn totals(told: &Value) -> Vec<Usage> {
    let mut models = BTreeMap::<&str, Usage>::new();
    for (name, told) in told.as_object().into_iter().flatten() {
        let name = name.split('[').next().unwrap_or(name);
        let more = total(name, told);
        let sum = models.entry(name).or_default();
        let usd = [sum.usd, more.usd].into_iter().flatten().reduce(|one, other| one + other);
        sum.add(&more);
        *sum = Usage { model: more.model, usd, ..sum.clone() };
    }
    models.into_values().collect()
}

fn total(model: &str, told: &Value) -> Usage {
    Usage {
        model: model.to_owned(),
        input_tokens: count(told, "inputTokens"),
        output_tokens: count(told, "outputTokens"),
        cache_read_tokens: count(told, "cacheReadInputTokens"),
        cache_write_tokens: count(told, "cacheCreationInputTokens"),
        usd: told["costUSD"].as_f64().filter(|usd| usd.is_finite() && *usd >= 0.0),
        context_tokens: None,
        context_window: told["contextWindow"].as_i64().filter(|window| *window > 0),
    }
}

/// A subscription's limit is told in words, as the result of a session that otherwise ended well.
fn is_limit(said: &str) -> bool {
    said.len() < 300
        && said.contains("limit")
        && (said.starts_with("You've hit your") || said.contains("limit reached"))
}

/// Returns until when the words say that it waits. Older versions put the time behind them, in seconds since 1970.
fn told_reset(said: &str) -> Option<String> {
    let second = said.rsplit_once('|').and_then(|(_, second)| second.trim().parse().ok());
    second.and_then(rfc3339).or_else(|| refusal::until(said, &crate::clock::now()))
}

fn rfc3339(second: i64) -> Option<String> {
    jiff::Timestamp::from_second(second).ok().map(|time| time.to_string())
}

#[cfg(test)]
mod tests {
    use super::super::recorded::{read, told};
    use super::super::{Means, Program};
    use super::*;

    const SESSION: &str = include_str!("../../tests/streams/claude.jsonl");
    const LIMITED: &str = include_str!("../../tests/streams/claude-429.jsonl");

    #[test]
    fn a_session_is_told_in_a_few_lines() {
        let (outs, ending) = read(Program::Claude, SESSION, 0);
        let lines = told(&outs);
        assert!(lines[0].starts_with("[claude] model claude-opus-5-5, session "), "{lines:?}");
        assert_eq!(lines[1..], ["Looking.", "[tool] Bash: ls -la && echo hi", "All done.\nTwo lines."]);
        assert_eq!(ending, Ending::Done("All done.\nTwo lines.".into()));
        assert!(outs.iter().filter(|out| **out == Out::Sign).count() > 10, "pieces are signs of life");
    }

    #[test]
    fn usage_grows_with_each_message_and_ends_as_the_agent_tells_it() {
        let (outs, _) = read(Program::Claude, SESSION, 0);
        let sums: Vec<&Usage> = outs
            .iter()
            .filter_map(|out| if let Out::Usage(usage) = out { Some(usage) } else { None })
            .collect();
        let counts = |usage: &Usage| (usage.input_tokens, usage.output_tokens, usage.cache_read_tokens);
        assert_eq!(counts(sums[0]), (100, 15, 30));
        assert_eq!(counts(sums[1]), (200, 22, 60));
        let last = sums[2];
        assert_eq!((sums.len(), counts(last), last.cache_write_tokens), (3, (200, 22, 60), 40));
        assert_eq!((last.usd, last.context_window), (Some(0.001_452_000_000_000_000_2), Some(1_000_000)));
        assert_eq!(last.context_tokens, Some(157));
    }

    #[test]
    fn a_rate_limit_parks_it() {
        let (_, ending) = read(Program::Claude, LIMITED, 1);
        let Ending::Parked(parked) = ending else { panic!("{ending:?}") };
        assert!(parked.reason.contains("429"), "{parked:?}");
        assert_eq!((parked.until, parked.after_ms), (None, None));
        let known = "{\"type\":\"rate_limit_event\",\"rate_limit_info\":{\"status\":\"rejected\",\"resetsAt\":1767225600}}";
        let (outs, ending) = read(Program::Claude, &format!("{known}\n{LIMITED}"), 1);
        assert_eq!(told(&outs)[0], "[api] rate limit: rejected");
        let Ending::Parked(parked) = ending else { panic!("{ending:?}") };
        assert_eq!(parked.until.as_deref(), Some("2026-01-01T00:00:00Z"));
    }

    #[test]
    fn a_limit_that_is_told_in_words_parks_it_too() {
        let check = |said: &str, parks: bool, until: Option<&str>| {
            let line = json!({ "type": "result", "subtype": "success", "is_error": false, "result": said });
            match read(Program::Claude, &line.to_string(), 0).1 {
                Ending::Parked(parked) => {
                    assert_eq!((parks, parked.until.as_deref()), (true, until), "{said}")
                }
                _ => assert!(!parks, "{said}"),
            }
        };
        check("You've hit your session limit", true, None);
        check("Claude AI usage limit reached|1767225600", true, Some("2026-01-01T00:00:00Z"));
        check("I raised the limit of open files.", false, None);
        let timed =
            Claude::default().judge(&json!({ "result": "You've hit your session limit · resets 3pm" }));
        assert!(matches!(timed, Ending::Parked(Parked { until: Some(_), .. })), "{timed:?}");
    }

    #[test]
    fn what_a_model_says_of_limits_is_its_result() {
        let said = "Fixed: the retry limit reached zero too early.";
        let lines = |model: &str| {
            let content = json!([{ "type": "text", "text": said }]);
            let message =
                json!({ "type": "assistant", "message": { "id": "a", "model": model, "content": content } });
            let end = json!({ "type": "result", "subtype": "success", "is_error": false, "result": said });
            format!("{message}\n{end}")
        };
        assert_eq!(read(Program::Claude, &lines("m"), 0).1, Ending::Done(said.into()));
        assert!(matches!(read(Program::Claude, &lines("<synthetic>"), 0).1, Ending::Parked(_)));
    }

    #[test]
    fn when_a_window_ends_says_nothing_of_an_overload() {
        let info = |status: &str| {
            let info =
                json!({ "status": status, "resetsAt": 4_102_444_800_i64, "rateLimitType": "five_hour" });
            json!({ "type": "rate_limit_event", "rate_limit_info": info }).to_string()
        };
        let retry = |status: Value| {
            json!({ "type": "system", "subtype": "api_retry", "error_status": status, "error": "x" })
                .to_string()
        };
        let check = |limit: &str, status: Value, knows: bool| {
            let mut stream = Claude::default();
            stream.on_line(&info(limit));
            stream.on_line(&retry(status.clone()));
            let waits = stream.waits().expect("it waits");
            assert_eq!(waits.until.is_some(), knows, "{limit} {status}");
        };
        check("allowed", json!(529), false);
        check("allowed", Value::Null, false);
        check("allowed", json!(429), false);
        check("allowed_warning", json!(429), false);
        check("rejected", json!(429), true);
        check("rejected", json!(503), false);
        let end =
            json!({ "type": "result", "api_error_status": 529, "is_error": true, "result": "Overloaded" });
        let Ending::Parked(parked) = read(Program::Claude, &format!("{}\n{end}", info("rejected")), 1).1
        else {
            panic!("it waits")
        };
        assert_eq!(parked.until, None);
    }

    /// Tokens, dollars, and how much the context holds.
    type Sums = (i64, Option<f64>, Option<i64>);

    /// What a session of one message and its end uses, by model.
    fn used(message: &str, told: Value) -> BTreeMap<String, Sums> {
        let usage = json!({ "input_tokens": 7, "output_tokens": 0 });
        let start =
            json!({ "type": "message_start", "message": { "id": "a", "model": message, "usage": usage } });
        let start = json!({ "type": "stream_event", "event": start });
        let delta = json!({ "type": "stream_event", "event": { "type": "message_delta", "usage": { "output_tokens": 3 } } });
        let end = json!({ "type": "result", "subtype": "success", "result": "ok", "modelUsage": told });
        let (outs, _) = read(Program::Claude, &format!("{start}\n{delta}\n{end}"), 0);
        let sums = outs.into_iter().filter_map(|out| match out {
            Out::Usage(used) => {
                Some((used.model, (used.input_tokens + used.output_tokens, used.usd, used.context_tokens)))
            }
            _ => None,
        });
        sums.collect()
    }

    #[test]
    fn a_model_that_is_named_otherwise_at_the_end_is_counted_once() {
        let told = |input: i64, usd: f64| json!({ "inputTokens": input, "outputTokens": 3, "costUSD": usd });
        let of = |pairs: &[(&str, Sums)]| {
            pairs.iter().map(|(name, sums)| ((*name).to_owned(), *sums)).collect::<BTreeMap<_, _>>()
        };
        let larger = used("claude-opus-5-5", json!({ "claude-opus-5-5[1m]": told(9, 0.5) }));
        assert_eq!(larger, of(&[("claude-opus-5-5", (12, Some(0.5), Some(10)))]));
        let both = used("opus", json!({ "opus[1m]": told(9, 0.5), "opus": told(1, 0.25) }));
        assert_eq!(both, of(&[("opus", (16, Some(0.75), Some(10)))]));
        let elsewhere = used("claude-opus-5", json!({ "us.anthropic.claude-opus-5-v1:0": told(9, 0.5) }));
        assert_eq!(
            elsewhere,
            of(&[
                ("claude-opus-5", (0, None, Some(10))),
                ("us.anthropic.claude-opus-5-v1:0", (12, Some(0.5), None))
            ])
        );
    }

    #[test]
    fn usage_is_told_by_message_also_where_its_pieces_have_no_id() {
        let sums = used("m", Value::Null);
        assert_eq!(sums["m"].0, 10);
    }

    #[test]
    fn it_waits_while_its_provider_refuses_it_and_no_longer() {
        let mut stream = Claude::default();
        let retry = r#"{"type":"system","subtype":"api_retry","attempt":1,"retry_delay_ms":2347,"error_status":529,"error":"overloaded"}"#;
        let outs = stream.on_line(retry);
        assert_eq!(told(&outs), ["[api] the model's service refused it: 529 overloaded; tries again in 2 s"]);
        assert!(stream.waits().is_some());
        stream.on_line(r#"{"type":"system","subtype":"status"}"#);
        assert!(stream.waits().is_some(), "that it still lives is no answer");
        stream.on_line(r#"{"type":"stream_event","event":{"type":"message_start","message":{"id":"a"}}}"#);
        assert!(stream.waits().is_none());
    }

    #[test]
    fn each_way_to_fail_has_its_reason() {
        let check = |line: Value, expected: &str| {
            assert_eq!(read(Program::Claude, &line.to_string(), 1).1, Ending::Failed(expected.into()));
        };
        let result = |subtype: &str, more: Value| {
            let mut line = json!({ "type": "result", "subtype": subtype, "is_error": true });
            line.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            line
        };
        check(result("error_max_turns", json!({})), "error_max_turns");
        check(result("error_during_execution", json!({ "errors": ["a", "b"] })), "b");
        let refused = result("success", json!({ "result": "Invalid key", "api_error_status": 401 }));
        assert_eq!(
            read(Program::Claude, &refused.to_string(), 1).1,
            Ending::parked("Invalid key", None),
            "so would every other task"
        );
        assert_eq!(
            read(Program::Claude, "", 143).1,
            Ending::Failed("claude exited with code 143 and no result".into())
        );
    }

    #[test]
    fn what_a_person_must_allow_is_told() {
        let line = json!({ "type": "result", "subtype": "success", "result": "ok", "permission_denials": [
            { "tool_name": "Bash", "tool_input": { "command": "make" } }
        ] });
        assert_eq!(told(&read(Program::Claude, &line.to_string(), 0).0), ["[denied] Bash: make"]);
    }

    #[test]
    fn the_result_that_it_gave_by_the_finish_tool_counts() {
        let call = json!({ "type": "assistant", "message": { "id": "a", "model": "m", "content": [
            { "type": "tool_use", "name": "mcp__quorate__finish", "input": { "result": { "n": 1 } } }
        ] } });
        let end = json!({ "type": "result", "subtype": "success", "result": "Finished." });
        assert_eq!(read(Program::Claude, &format!("{call}\n{end}"), 0).1, Ending::Done(json!({ "n": 1 })));
    }

    #[test]
    fn a_sub_agent_s_messages_are_counted_once_and_are_not_its_own_words() {
        let line = |text: &str| {
            json!({ "type": "assistant", "parent_tool_use_id": "t", "message": {
                "id": "s", "model": "m", "content": [{ "type": "text", "text": text }],
                "usage": { "input_tokens": 5, "output_tokens": 1 }
            } })
        };
        let (outs, _) = read(Program::Claude, &format!("{}\n{}", line("a"), line("b")), 0);
        assert!(told(&outs).is_empty());
        assert_eq!(outs.iter().filter(|out| matches!(out, Out::Usage(_))).count(), 1);
    }

    #[test]
    fn its_flags_hold_no_secret_and_the_table_s_come_last() {
        let settings = Settings {
            command: ["claude", "--permission-mode", "plan"].map(String::from).to_vec(),
            model: Some("opus".into()),
            max_turns: Some(5),
            ..Settings::default()
        };
        let means = Means {
            mcp: ["/bin/quorate", "mcp"].map(String::from).to_vec(),
            variables: ["QUORATE_TOKEN".to_owned()].to_vec(),
            ..Means::default()
        };
        let prompt = Prompt { role: "who".into(), task: "what".into() };
        let launch = Program::Claude.launch(&settings, &prompt, &means);
        assert_eq!((launch.program.as_str(), launch.stdin.as_str()), ("claude", "what"));
        let line = launch.args.join(" ");
        assert!(line.contains("--model opus --max-turns 5 --append-system-prompt who"), "{line}");
        assert!(line.contains(r#""QUORATE_TOKEN":"${QUORATE_TOKEN}""#), "{line}");
        assert!(line.ends_with("--strict-mcp-config --permission-mode plan"), "{line}");
        assert_eq!(launch.env, [("ENABLE_TOOL_SEARCH".into(), "false".into())]);
    }
}

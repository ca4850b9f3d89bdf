//! Anthropic's messages.
//!
//! Here live the shape of a request and the reading of its events. What the model thought goes back with its signature.

use super::talk::{Answered, Call, Heard, Opening, Sent, Stop, Talk, input, why};
use crate::usage::{Usage, count};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The version of the interface.
const VERSION: &str = "2023-06-01";
/// The largest answer that is asked for, in tokens; the interface wants a number.
const ANSWER_TOKENS: i64 = 16_000;

pub(super) struct Messages {
    opening: Opening,
    history: Vec<Value>,
    now: Now,
}

/// The answer that is coming.
#[derive(Debug, Default)]
struct Now {
    /// Blocks by their place, with the text of an input that is not whole yet.
    blocks: BTreeMap<u64, (Value, String)>,
    usage: Usage,
    stop: Option<Stop>,
}

impl Messages {
    pub(super) fn new(opening: Opening) -> Messages {
        let history = vec![json!({ "role": "user", "content": [{ "type": "text", "text": opening.user }] })];
        Messages { opening, history, now: Now::default() }
    }
}

impl Talk for Messages {
    fn request(&self, key: Option<&str>) -> Sent {
        let mut headers = vec![("anthropic-version", VERSION.to_owned())];
        headers.extend(key.map(|key| ("x-api-key", key.to_owned())));
        let tools: Vec<Value> = self
            .opening
            .tools
            .iter()
            .map(|tool| json!({ "name": tool.name, "description": tool.about, "input_schema": tool.schema }))
            .collect();
        // What is the same the next time comes from the cache then: all that was said so far.
        let cached = json!({ "type": "ephemeral" });
        let mut history = self.history.clone();
        let blocks = history.last_mut().and_then(|message| message["content"].as_array_mut());
        if let Some(block) = blocks.and_then(|blocks| blocks.last_mut()) {
            block["cache_control"] = cached.clone();
        }
        let mut body = json!({
            "model": self.opening.model,
            "max_tokens": ANSWER_TOKENS,
            "stream": true,
            "system": [{ "type": "text", "text": self.opening.system, "cache_control": cached }],
            "messages": history,
        });
        if !tools.is_empty() {
            body["tools"] = tools.into();
        }
        Sent { path: "/v1/messages".to_owned(), headers, body }
    }

    fn on_event(&mut self, event: &Value) {
        let index = event["index"].as_u64().unwrap_or(0);
        match event["type"].as_str() {
            Some("message_start") => self.now.used(&event["message"]["usage"]),
            Some("content_block_start") if event["content_block"].is_object() => {
                self.now.blocks.insert(index, (event["content_block"].clone(), String::new()));
            }
            Some("content_block_delta") => self.now.delta(index, &event["delta"]),
            Some("message_delta") => {
                self.now.used(&event["usage"]);
                self.now.stop = match event["delta"]["stop_reason"].as_str() {
                    Some(reason @ ("max_tokens" | "refusal" | "model_context_window_exceeded")) => {
                        Some(Stop::Cut(reason.to_owned()))
                    }
                    Some(_) => Some(Stop::Whole),
                    None => self.now.stop.take(),
                };
            }
            Some("error") => self.now.stop = Some(Stop::Broken(why(&event["error"]))),
            _ => {}
        }
    }

    fn has_ended(&self) -> bool {
        self.now.stop.is_some()
    }

    fn end(&mut self) -> Heard {
        let now = std::mem::take(&mut self.now);
        let (mut text, mut calls, mut content) = (Vec::new(), Vec::new(), Vec::new());
        for (mut block, json) in now.blocks.into_values() {
            match block["type"].as_str() {
                Some("text") => text.push(block["text"].as_str().unwrap_or_default().to_owned()),
                Some("tool_use") => {
                    let word = |key: &str| block[key].as_str().unwrap_or_default().to_owned();
                    let call = Call { id: word("id"), name: word("name"), input: input(&json) };
                    block["input"] = call.input.clone().unwrap_or_else(|_| json!({}));
                    calls.push(call);
                }
                _ => {}
            }
            content.push(block);
        }
        let stop = now.stop.unwrap_or(Stop::Unfinished);
        // Blocks without text are refused when they come back.
        content.retain(|block| {
            block["type"] != "text" || block["text"].as_str().is_some_and(|text| !text.trim().is_empty())
        });
        if stop == Stop::Whole && !content.is_empty() {
            self.history.push(json!({ "role": "assistant", "content": content }));
        }
        let usage = Usage { model: self.opening.model.clone(), ..now.usage };
        Heard { text: text.join("\n\n"), calls, usage, stop }
    }

    fn answer(&mut self, answers: &[Answered]) {
        let results: Vec<Value> = answers
            .iter()
            .map(|answered| {
                json!({ "type": "tool_result", "tool_use_id": answered.call.id, "content": answered.text, "is_error": answered.is_error })
            })
            .collect();
        self.history.push(json!({ "role": "user", "content": results }));
    }
}

impl Now {
    fn delta(&mut self, index: u64, delta: &Value) {
        let Some((block, json)) = self.blocks.get_mut(&index) else { return };
        let mut add = |key: &str| {
            let more = delta[key].as_str().unwrap_or_default();
            let text = block[key].as_str().unwrap_or_default();
            block[key] = format!("{text}{more}").into();
        };
        match delta["type"].as_str() {
            Some("text_delta") => add("text"),
            Some("thinking_delta") => add("thinking"),
            Some("signature_delta") => add("signature"),
            Some("input_json_delta") => json.push_str(delta["partial_json"].as_str().unwrap_or_default()),
            _ => {}
        }
    }

    /// Later numbers replace earlier ones: they are sums of this answer.
    fn used(&mut self, told: &Value) {
        let set = |count_now: &mut i64, key: &str| *count_now = count(told, key).max(*count_now);
        set(&mut self.usage.input_tokens, "input_tokens");
        set(&mut self.usage.output_tokens, "output_tokens");
        set(&mut self.usage.cache_read_tokens, "cache_read_input_tokens");
        set(&mut self.usage.cache_write_tokens, "cache_creation_input_tokens");
    }
}

//! OpenAI's chat completions, which many other servers speak, too.
//!
//! Here live the shape of a request and the reading of its events. Only what all such servers know is asked for.

use super::talk::{Answered, Call, Heard, Opening, Sent, Stop, Talk, bearer, input, why};
use crate::usage::{Usage, count};
use serde_json::{Value, json};
use std::collections::BTreeMap;

pub(super) struct Chat {
    opening: Opening,
    history: Vec<Value>,
    now: Now,
}

/// The answer that is coming.
#[derive(Debug, Default)]
struct Now {
    text: String,
    /// Calls by their place: id, name, input.
    calls: BTreeMap<u64, (String, String, String)>,
    usage: Usage,
    stop: Option<Stop>,
}

impl Chat {
    pub(super) fn new(opening: Opening) -> Chat {
        let history = vec![
            json!({ "role": "system", "content": opening.system }),
            json!({ "role": "user", "content": opening.user }),
        ];
        Chat { opening, history, now: Now::default() }
    }
}

impl Talk for Chat {
    fn request(&self, key: Option<&str>) -> Sent {
        let tools: Vec<Value> = self
            .opening
            .tools
            .iter()
            .map(|tool| {
                let function =
                    json!({ "name": tool.name, "description": tool.about, "parameters": tool.schema });
                json!({ "type": "function", "function": function })
            })
            .collect();
        let mut body = json!({
            "model": self.opening.model,
            "stream": true,
            "stream_options": { "include_usage": true },
            "messages": self.history,
        });
        if !tools.is_empty() {
            body["tools"] = tools.into();
        }
        Sent { path: "/chat/completions".to_owned(), headers: bearer(key), body }
    }

    fn on_event(&mut self, event: &Value) {
        if event["error"].is_object() {
            self.now.stop = Some(Stop::Broken(why(&event["error"])));
        }
        if event["usage"].is_object() {
            self.now.used(&event["usage"]);
        }
        let choice = &event["choices"][0];
        self.now.text.push_str(choice["delta"]["content"].as_str().unwrap_or_default());
        for call in choice["delta"]["tool_calls"].as_array().into_iter().flatten() {
            self.now.called(call);
        }
        let reason = choice["finish_reason"].as_str();
        if let Some(reason) = reason.filter(|_| !matches!(self.now.stop, Some(Stop::Broken(_)))) {
            self.now.stop = Some(match reason {
                "length" | "content_filter" => Stop::Cut(reason.to_owned()),
                "error" => Stop::Broken("its provider ended it with an error".to_owned()),
                _ => Stop::Whole,
            });
        }
    }

    fn has_ended(&self) -> bool {
        self.now.stop.is_some()
    }

    fn end(&mut self) -> Heard {
        let now = std::mem::take(&mut self.now);
        let stop = now.stop.unwrap_or(Stop::Unfinished);
        if stop == Stop::Whole {
            let mut message = json!({ "role": "assistant", "content": now.text });
            let calls: Vec<Value> = now
                .calls
                .values()
                .map(|(id, name, input)| {
                    json!({ "id": id, "type": "function", "function": { "name": name, "arguments": input } })
                })
                .collect();
            if !calls.is_empty() {
                message["tool_calls"] = calls.into();
            }
            self.history.push(message);
        }
        let calls =
            now.calls.into_values().map(|(id, name, text)| Call { id, name, input: input(&text) }).collect();
        let usage = Usage { model: self.opening.model.clone(), ..now.usage };
        Heard { text: now.text, calls, usage, stop }
    }

    fn answer(&mut self, answers: &[Answered]) {
        self.history.extend(answers.iter().map(
            |answered| json!({ "role": "tool", "tool_call_id": answered.call.id, "content": answered.text }),
        ));
    }
}

impl Now {
    fn called(&mut self, call: &Value) {
        // Some servers send whole calls without their place.
        let next = self.calls.len() as u64;
        let (id, name, input) = self.calls.entry(call["index"].as_u64().unwrap_or(next)).or_default();
        let function = &call["function"];
        for (part, more) in [(id, &call["id"]), (name, &function["name"]), (input, &function["arguments"])] {
            part.push_str(more.as_str().unwrap_or_default());
        }
    }

    fn used(&mut self, told: &Value) {
        let cached = count(&told["prompt_tokens_details"], "cached_tokens");
        self.usage.input_tokens = count(told, "prompt_tokens").saturating_sub(cached).max(0);
        self.usage.cache_read_tokens = cached;
        self.usage.output_tokens = count(told, "completion_tokens");
    }
}

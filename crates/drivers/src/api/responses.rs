//! OpenAI's responses.
//!
//! Here live the shape of a request and the reading of its events. Nothing is stored there: what the model thought comes
//! encrypted and goes back with the next request.

use super::talk::{Answered, Call, Heard, Opening, Sent, Stop, Talk, bearer, input, why};
use crate::usage::{Usage, count};
use serde_json::{Value, json};

pub(super) struct Responses {
    opening: Opening,
    history: Vec<Value>,
    items: Vec<Value>,
    usage: Usage,
    stop: Option<Stop>,
}

impl Responses {
    pub(super) fn new(opening: Opening) -> Responses {
        let history = vec![json!({ "role": "user", "content": opening.user })];
        Responses { opening, history, items: Vec::new(), usage: Usage::default(), stop: None }
    }
}

impl Talk for Responses {
    fn request(&self, key: Option<&str>) -> Sent {
        let tools: Vec<Value> = self
            .opening
            .tools
            .iter()
            .map(|tool| {
                json!({ "type": "function", "name": tool.name, "description": tool.about, "parameters": tool.schema, "strict": false })
            })
            .collect();
        let mut body = json!({
            "model": self.opening.model,
            "stream": true,
            "store": false,
            "include": ["reasoning.encrypted_content"],
            "instructions": self.opening.system,
            "input": self.history,
        });
        if !tools.is_empty() {
            body["tools"] = tools.into();
        }
        Sent { path: "/responses".to_owned(), headers: bearer(key), body }
    }

    fn on_event(&mut self, event: &Value) {
        match event["type"].as_str() {
            Some("response.output_item.done") if event["item"].is_object() => {
                self.items.push(event["item"].clone())
            }
            Some("response.completed") => self.finish(&event["response"], Stop::Whole),
            Some("response.incomplete") => {
                let reason = &event["response"]["incomplete_details"]["reason"];
                self.finish(
                    &event["response"],
                    Stop::Cut(reason.as_str().unwrap_or("incomplete").to_owned()),
                );
            }
            Some("response.failed") => self.stop = Some(Stop::Broken(why(&event["response"]["error"]))),
            Some("error") => {
                self.stop =
                    Some(Stop::Broken(why(if event["error"].is_object() { &event["error"] } else { event })))
            }
            _ => {}
        }
    }

    fn has_ended(&self) -> bool {
        self.stop.is_some()
    }

    fn end(&mut self) -> Heard {
        let items = std::mem::take(&mut self.items);
        let (mut text, mut calls) = (Vec::new(), Vec::new());
        for item in &items {
            match item["type"].as_str() {
                Some("message") => {
                    let parts = item["content"].as_array().into_iter().flatten();
                    text.extend(parts.filter_map(|part| {
                        part["text"].as_str().or(part["refusal"].as_str()).map(str::to_owned)
                    }));
                }
                Some("function_call") => {
                    let word = |key: &str| item[key].as_str().unwrap_or_default().to_owned();
                    calls.push(Call {
                        id: word("call_id"),
                        name: word("name"),
                        input: input(&word("arguments")),
                    });
                }
                _ => {}
            }
        }
        let stop = self.stop.take().unwrap_or(Stop::Unfinished);
        if stop == Stop::Whole {
            self.history.extend(items);
        }
        let usage = Usage { model: self.opening.model.clone(), ..std::mem::take(&mut self.usage) };
        Heard { text: text.join("\n\n"), calls, usage, stop }
    }

    fn answer(&mut self, answers: &[Answered]) {
        self.history.extend(answers.iter().map(|answered| {
            json!({ "type": "function_call_output", "call_id": answered.call.id, "output": answered.text })
        }));
    }
}

impl Responses {
    fn finish(&mut self, response: &Value, stop: Stop) {
        let told = &response["usage"];
        let cached = count(&told["input_tokens_details"], "cached_tokens");
        self.usage.input_tokens = count(told, "input_tokens").saturating_sub(cached).max(0);
        self.usage.cache_read_tokens = cached;
        self.usage.output_tokens = count(told, "output_tokens");
        self.stop = Some(stop);
    }
}

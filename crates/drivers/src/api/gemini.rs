//! Google's Gemini.
//!
//! Here live the shape of a request and the reading of its events. Its calls have no ids; what it thought goes back with
//! the part that carries its signature.

use super::talk::{Answered, Call, Heard, Opening, Sent, Stop, Talk, why};
use crate::usage::{Usage, count};
use serde_json::{Value, json};

/// Why an answer ends that is whole.
const WHOLE: [&str; 2] = ["STOP", "FINISH_REASON_UNSPECIFIED"];

pub(super) struct Gemini {
    opening: Opening,
    history: Vec<Value>,
    parts: Vec<Value>,
    usage: Usage,
    stop: Option<Stop>,
}

impl Gemini {
    pub(super) fn new(opening: Opening) -> Gemini {
        let history = vec![json!({ "role": "user", "parts": [{ "text": opening.user }] })];
        Gemini { opening, history, parts: Vec::new(), usage: Usage::default(), stop: None }
    }
}

impl Talk for Gemini {
    fn request(&self, key: Option<&str>) -> Sent {
        let tools: Vec<Value> = self
            .opening
            .tools
            .iter()
            .map(|tool| json!({ "name": tool.name, "description": tool.about, "parametersJsonSchema": tool.schema }))
            .collect();
        let mut body = json!({
            "systemInstruction": { "parts": [{ "text": self.opening.system }] },
            "contents": self.history,
        });
        if !tools.is_empty() {
            body["tools"] = json!([{ "functionDeclarations": tools }]);
        }
        let path = format!("/models/{}:streamGenerateContent?alt=sse", self.opening.model);
        let headers = key.map(|key| ("x-goog-api-key", key.to_owned())).into_iter().collect();
        Sent { path, headers, body }
    }

    fn on_event(&mut self, event: &Value) {
        if event["error"].is_object() {
            self.stop = Some(Stop::Broken(why(&event["error"])));
        }
        if event["usageMetadata"].is_object() {
            self.used(&event["usageMetadata"]);
        }
        if let Some(reason) = event["promptFeedback"]["blockReason"].as_str() {
            self.stop = Some(Stop::Cut(reason.to_owned()));
        }
        let candidate = &event["candidates"][0];
        let parts = candidate["content"]["parts"].as_array().into_iter().flatten();
        self.parts.extend(parts.filter(|part| part.is_object()).cloned());
        if let Some(reason) = candidate["finishReason"].as_str() {
            let is_whole = WHOLE.contains(&reason);
            self.stop = Some(if is_whole { Stop::Whole } else { Stop::Cut(reason.to_owned()) });
        }
    }

    fn has_ended(&self) -> bool {
        self.stop.is_some()
    }

    fn end(&mut self) -> Heard {
        let parts = joined(std::mem::take(&mut self.parts));
        let said =
            parts.iter().filter(|part| part["thought"] != true).filter_map(|part| part["text"].as_str());
        let text = said.collect::<Vec<_>>().concat();
        let called = parts.iter().filter(|part| part["functionCall"].is_object()).enumerate();
        let calls = called
            .map(|(number, part)| {
                let call = &part["functionCall"];
                let name = call["name"].as_str().unwrap_or_default().to_owned();
                let id = call["id"].as_str().map_or_else(|| format!("{name}-{number}"), str::to_owned);
                let input = if call["args"].is_object() { call["args"].clone() } else { json!({}) };
                Call { id, name, input: Ok(input) }
            })
            .collect();
        let stop = self.stop.take().unwrap_or(Stop::Unfinished);
        if stop == Stop::Whole && !parts.is_empty() {
            self.history.push(json!({ "role": "model", "parts": parts }));
        }
        let usage = Usage { model: self.opening.model.clone(), ..std::mem::take(&mut self.usage) };
        Heard { text, calls, usage, stop }
    }

    fn answer(&mut self, answers: &[Answered]) {
        let parts: Vec<Value> = answers
            .iter()
            .map(|answered| {
                let key = if answered.is_error { "error" } else { "output" };
                let response = json!({ key: answered.text });
                json!({ "functionResponse": { "id": answered.call.id, "name": answered.call.name, "response": response } })
            })
            .collect();
        self.history.push(json!({ "role": "user", "parts": parts }));
    }
}

impl Gemini {
    fn used(&mut self, told: &Value) {
        let cached = count(told, "cachedContentTokenCount");
        self.usage.input_tokens = count(told, "promptTokenCount").saturating_sub(cached).max(0);
        self.usage.cache_read_tokens = cached;
        self.usage.output_tokens =
            count(told, "candidatesTokenCount").saturating_add(count(told, "thoughtsTokenCount"));
    }
}

/// Puts pieces of plain text together that follow each other: they come in many.
fn joined(parts: Vec<Value>) -> Vec<Value> {
    let is_plain =
        |part: &Value| part.as_object().is_some_and(|keys| keys.len() == 1 && keys.contains_key("text"));
    let mut whole: Vec<Value> = Vec::new();
    for part in parts {
        match whole.last_mut().filter(|last| is_plain(last) && is_plain(&part)) {
            Some(last) => {
                let text = |part: &Value| part["text"].as_str().unwrap_or_default().to_owned();
                last["text"] = format!("{}{}", text(last), text(&part)).into();
            }
            None => whole.push(part),
        }
    }
    whole
}

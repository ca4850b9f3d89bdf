//! How a scripted answer looks in each provider's stream.
//!
//! Here live the events of the four formats. Words come in two pieces, so that whoever reads must put them together;
//! every answer says that it used so many tokens of input, 40 of them from a cache, and 10 of output.

use super::Say;
use serde_json::{Value, json};

/// Tokens of input that an answer says it used, unless the script says otherwise.
pub const TOKENS: u64 = 100;
/// Those of them that came from a cache.
const CACHED: u64 = 40;

/// A provider's way to answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Anthropic's messages.
    Messages,
    /// OpenAI's responses.
    Responses,
    /// OpenAI's chat completions.
    Chat,
    /// Gemini's.
    Gemini,
}

impl Format {
    /// Returns the format of a path, if one answers there.
    pub fn of(path: &str) -> Option<Format> {
        match path {
            path if path.ends_with("/messages") => Some(Format::Messages),
            path if path.ends_with("/responses") => Some(Format::Responses),
            path if path.ends_with("/chat/completions") => Some(Format::Chat),
            path if path.ends_with(":streamGenerateContent") => Some(Format::Gemini),
            _ => None,
        }
    }

    /// Returns an answer as a stream of events; `number` makes its ids its own, `tokens` is what it says its request took.
    pub fn stream(self, says: &[Say], number: usize, request: &Value, tokens: u64) -> String {
        let model = request["model"].as_str().unwrap_or("scripted");
        match self {
            Format::Messages => named(&messages(says, number, model, tokens)),
            Format::Responses => named(&responses(says, number, tokens)),
            Format::Chat => format!("{}data: [DONE]\n\n", bare(&chat(says, number, model, tokens))),
            Format::Gemini => bare(&gemini(says, tokens)),
        }
    }
}

/// Returns a refusal that each provider's clients understand.
pub fn error(status: u16) -> String {
    let kind = match status {
        429 => "rate_limit_error",
        529 => "overloaded_error",
        401 => "authentication_error",
        _ => "invalid_request_error",
    };
    let code = if status == 429 { json!("RESOURCE_EXHAUSTED") } else { json!(status) };
    json!({ "type": "error", "error": { "type": kind, "message": format!("scripted {status}"), "code": status, "status": code } })
        .to_string()
}

/// Returns the answer to Gemini CLI's question which model to ask.
pub(super) fn routing() -> Value {
    let choice = json!({ "reasoning": "scripted", "model_choice": "flash", "complexity_score": 10, "complexity_reasoning": "scripted" });
    json!({
        "candidates": [{ "content": { "role": "model", "parts": [{ "text": choice.to_string() }] }, "finishReason": "STOP", "index": 0 }],
        "usageMetadata": { "promptTokenCount": 1, "candidatesTokenCount": 1, "totalTokenCount": 2 },
    })
}

fn named(events: &[Value]) -> String {
    events
        .iter()
        .map(|event| format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap_or("message")))
        .collect()
}

fn bare(events: &[Value]) -> String {
    events.iter().map(|event| format!("data: {event}\n\n")).collect()
}

/// Returns a text in two pieces.
fn pieces(text: &str) -> [&str; 2] {
    let half = text.char_indices().nth(text.chars().count() / 2).map_or(text.len(), |(at, _)| at);
    let (first, second) = text.split_at(half);
    [first, second]
}

fn messages(says: &[Say], number: usize, model: &str, tokens: u64) -> Vec<Value> {
    let usage = json!({ "input_tokens": tokens.saturating_sub(CACHED), "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": CACHED, "output_tokens": 1 });
    let message = json!({ "id": format!("msg_{number}"), "type": "message", "role": "assistant", "model": model,
        "content": [], "stop_reason": null, "stop_sequence": null, "usage": usage });
    let mut events = vec![json!({ "type": "message_start", "message": message })];
    let mut stop = "end_turn";
    for (index, say) in says.iter().enumerate() {
        let (block, deltas) = match say {
            Say::Text(text) => {
                let deltas = pieces(text).map(|piece| json!({ "type": "text_delta", "text": piece }));
                (json!({ "type": "text", "text": "" }), deltas)
            }
            Say::Call(name, input) => {
                stop = "tool_use";
                let input = input.to_string();
                let deltas =
                    pieces(&input).map(|piece| json!({ "type": "input_json_delta", "partial_json": piece }));
                (
                    json!({ "type": "tool_use", "id": format!("toolu_{number}_{index}"), "name": name, "input": {} }),
                    deltas,
                )
            }
        };
        events.push(json!({ "type": "content_block_start", "index": index, "content_block": block }));
        events.extend(
            deltas.map(|delta| json!({ "type": "content_block_delta", "index": index, "delta": delta })),
        );
        events.push(json!({ "type": "content_block_stop", "index": index }));
    }
    events.push(json!({ "type": "message_delta", "delta": { "stop_reason": stop, "stop_sequence": null }, "usage": { "output_tokens": 10 } }));
    events.push(json!({ "type": "message_stop" }));
    events
}

fn responses(says: &[Say], number: usize, tokens: u64) -> Vec<Value> {
    let id = format!("resp_{number}");
    let mut events = vec![json!({ "type": "response.created", "response": { "id": id } })];
    for (index, say) in says.iter().enumerate() {
        let item = match say {
            Say::Text(text) => {
                let item_id = format!("msg_{number}_{index}");
                let item = json!({ "type": "message", "role": "assistant", "id": item_id, "content": [{ "type": "output_text", "text": text }] });
                events.push(json!({ "type": "response.output_item.added", "output_index": index, "item": { "type": "message", "role": "assistant", "id": item_id, "content": [] } }));
                events.extend(pieces(text).map(|piece| json!({ "type": "response.output_text.delta", "output_index": index, "item_id": item_id, "delta": piece })));
                item
            }
            Say::Call(name, input) => json!({ "type": "function_call", "id": format!("fc_{number}_{index}"),
                "call_id": format!("call_{number}_{index}"), "name": name, "arguments": input.to_string() }),
        };
        events.push(json!({ "type": "response.output_item.done", "output_index": index, "item": item }));
    }
    let usage = json!({ "input_tokens": tokens, "input_tokens_details": { "cached_tokens": CACHED }, "output_tokens": 10,
        "output_tokens_details": { "reasoning_tokens": 0 }, "total_tokens": tokens + 10 });
    events.push(json!({ "type": "response.completed", "response": { "id": id, "status": "completed", "usage": usage } }));
    events
}

fn chat(says: &[Say], number: usize, model: &str, tokens: u64) -> Vec<Value> {
    let chunk = |delta: Value, finish: Value| {
        json!({ "id": format!("chat_{number}"), "object": "chat.completion.chunk", "model": model,
            "choices": [{ "index": 0, "delta": delta, "finish_reason": finish }] })
    };
    let (mut events, mut calls) = (Vec::new(), 0);
    for say in says {
        match say {
            Say::Text(text) => {
                events.extend(pieces(text).map(|piece| chunk(json!({ "content": piece }), Value::Null)))
            }
            Say::Call(name, input) => {
                let input = input.to_string();
                let [first, second] = pieces(&input);
                let begun = json!({ "index": calls, "id": format!("call_{number}_{calls}"), "type": "function",
                    "function": { "name": name, "arguments": first } });
                events.push(chunk(json!({ "tool_calls": [begun] }), Value::Null));
                let more = json!({ "index": calls, "function": { "arguments": second } });
                events.push(chunk(json!({ "tool_calls": [more] }), Value::Null));
                calls += 1;
            }
        }
    }
    events.push(chunk(json!({}), if calls > 0 { "tool_calls".into() } else { "stop".into() }));
    let usage = json!({ "prompt_tokens": tokens, "prompt_tokens_details": { "cached_tokens": CACHED },
        "completion_tokens": 10, "total_tokens": tokens + 10 });
    events.push(json!({ "id": format!("chat_{number}"), "object": "chat.completion.chunk", "model": model, "choices": [], "usage": usage }));
    events
}

fn gemini(says: &[Say], tokens: u64) -> Vec<Value> {
    let mut parts = Vec::new();
    for say in says {
        match say {
            Say::Text(text) => parts.extend(pieces(text).map(|piece| json!({ "text": piece }))),
            Say::Call(name, input) => parts.push(json!({ "functionCall": { "name": name, "args": input } })),
        }
    }
    let last = parts.len().saturating_sub(1);
    let usage = json!({ "promptTokenCount": tokens, "cachedContentTokenCount": CACHED, "candidatesTokenCount": 10,
        "totalTokenCount": tokens + 10 });
    let event = |(number, part): (usize, Value)| {
        let mut candidate = json!({ "content": { "role": "model", "parts": [part] }, "index": 0 });
        if number == last {
            candidate["finishReason"] = "STOP".into();
        }
        json!({ "candidates": [candidate], "usageMetadata": usage })
    };
    parts.into_iter().enumerate().map(event).collect()
}

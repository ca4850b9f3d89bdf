//! A conversation with a model, in the words of whichever provider.
//!
//! Here live what the four have in common and the choice between them. Each keeps its own history, as its provider
//! wants to have it back: what one sends with its thoughts, no other understands.

use super::{chat, gemini, messages, responses};
use crate::settings::Settings;
use crate::usage::Usage;
use quorate_model::config::Provider;
use quorate_model::{Error, Result};
use serde_json::{Value, json};

/// A call of a tool.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Call {
    pub(super) id: String,
    pub(super) name: String,
    /// Its input; `Err` is a text that is no JSON.
    pub(super) input: std::result::Result<Value, String>,
}

/// What a tool answered.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Answered {
    pub(super) call: Call,
    pub(super) text: String,
    pub(super) is_error: bool,
}

/// A tool, as a model is told of it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Offer {
    pub(super) name: String,
    pub(super) about: String,
    pub(super) schema: Value,
}

/// Why an answer ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Stop {
    /// It was said, or tools are called.
    Whole,
    /// The service ended it early; why.
    Cut(String),
    /// The service gave up in the midst of it; why.
    Broken(String),
    /// The stream ended before the answer did.
    Unfinished,
}

/// A whole answer.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Heard {
    pub(super) text: String,
    pub(super) calls: Vec<Call>,
    pub(super) usage: Usage,
    pub(super) stop: Stop,
}

/// What is sent: the path behind the base, headers, body.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Sent {
    pub(super) path: String,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) body: Value,
}

/// A conversation in one provider's way.
pub(super) trait Talk: Send {
    /// Makes the next request.
    fn request(&self, key: Option<&str>) -> Sent;

    /// Takes an event of the answer.
    fn on_event(&mut self, event: &Value);

    /// Tells whether the answer has ended; its usage may still come.
    fn has_ended(&self) -> bool;

    /// Takes the end of the answer. A whole one becomes part of the conversation, any other is forgotten.
    fn end(&mut self) -> Heard;

    /// Adds what the called tools answered.
    fn answer(&mut self, answers: &[Answered]);
}

/// What a conversation begins with.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Opening {
    pub(super) model: String,
    pub(super) system: String,
    pub(super) user: String,
    pub(super) tools: Vec<Offer>,
}

/// Returns whose model it is.
pub(super) fn provider(settings: &Settings) -> Result<Provider> {
    let name = settings.provider.as_deref().unwrap_or_default();
    name.parse().map_err(|error: Error| Error { message: format!("{} of a model", error.message), ..error })
}

/// Begins a conversation.
pub(super) fn begin(provider: Provider, opening: Opening) -> Box<dyn Talk> {
    match provider {
        Provider::Anthropic => Box::new(messages::Messages::new(opening)),
        Provider::Openai => Box::new(responses::Responses::new(opening)),
        Provider::OpenaiChat => Box::new(chat::Chat::new(opening)),
        Provider::Gemini => Box::new(gemini::Gemini::new(opening)),
    }
}

/// Returns the headers with a key, as OpenAI and those who follow it want it.
pub(super) fn bearer(key: Option<&str>) -> Vec<(&'static str, String)> {
    key.map(|key| ("authorization", format!("Bearer {key}"))).into_iter().collect()
}

/// Reads the input of a call, which comes as a text; an empty one is an empty object.
pub(super) fn input(text: &str) -> std::result::Result<Value, String> {
    match text.trim() {
        "" => Ok(json!({})),
        text => serde_json::from_str(text).map_err(|e| format!("the input is no JSON: {e}")),
    }
}

/// Returns why a service gave up, in words.
pub(super) fn why(error: &Value) -> String {
    let message = error["message"].as_str().unwrap_or_default();
    let word = |key: &str| error[key].as_str().map(str::to_owned);
    let code = || error["code"].as_i64().map(|code| code.to_string());
    let kind =
        word("type").or_else(|| word("code")).or_else(|| word("status")).or_else(code).unwrap_or_default();
    match (kind.as_str(), message) {
        ("", "") => "no reason told".to_owned(),
        ("", words) | (words, "") => words.to_owned(),
        (kind, message) => format!("{kind}: {message}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::sse::Events;
    use quorate_testkit::model::Say;
    use quorate_testkit::model::wire::{Format, TOKENS};

    const PROVIDERS: [(Provider, Format); 4] = [
        (Provider::Anthropic, Format::Messages),
        (Provider::Openai, Format::Responses),
        (Provider::OpenaiChat, Format::Chat),
        (Provider::Gemini, Format::Gemini),
    ];

    fn opening() -> Opening {
        Opening {
            model: "m".into(),
            system: "be brief".into(),
            user: "count".into(),
            tools: vec![Offer {
                name: "test".into(),
                about: "runs".into(),
                schema: json!({ "type": "object" }),
            }],
        }
    }

    fn hear(talk: &mut dyn Talk, stream: &str) -> Heard {
        for event in Events::default().feed(stream.as_bytes()).unwrap() {
            talk.on_event(&event);
        }
        talk.end()
    }

    #[test]
    fn each_provider_s_answer_is_put_together_and_given_back_with_the_next_request() {
        for (provider, format) in PROVIDERS {
            let mut talk = begin(provider, opening());
            let first = talk.request(Some("k"));
            let text = first.body.to_string();
            assert!(
                text.contains("be brief") && text.contains("count") && text.contains("\"test\""),
                "{text}"
            );
            let says =
                [Say::Text("I look, füß.".into()), Say::Call("test".into(), json!({ "arguments": ["-v"] }))];
            let heard = hear(&mut *talk, &format.stream(&says, 3, &first.body, TOKENS));
            assert_eq!((heard.text.as_str(), &heard.stop), ("I look, füß.", &Stop::Whole), "{provider:?}");
            assert!(!talk.has_ended(), "the next has not begun");
            assert_eq!((heard.calls.len(), heard.calls[0].name.as_str()), (1, "test"), "{provider:?}");
            assert_eq!(heard.calls[0].input, Ok(json!({ "arguments": ["-v"] })), "{provider:?}");
            let usage = &heard.usage;
            assert_eq!(
                (usage.input_tokens, usage.cache_read_tokens, usage.output_tokens),
                (60, 40, 10),
                "{provider:?}"
            );
            assert_eq!(usage.model, "m");
            let answered =
                Answered { call: heard.calls[0].clone(), text: "3 passed".into(), is_error: false };
            talk.answer(&[answered]);
            let second = talk.request(None).body.to_string();
            for part in ["I look, füß.", "-v", "3 passed", heard.calls[0].id.as_str()] {
                assert!(second.contains(part), "{provider:?}: {part} in {second}");
            }
        }
    }

    #[test]
    fn an_answer_that_breaks_off_is_forgotten() {
        for (provider, format) in PROVIDERS {
            let mut talk = begin(provider, opening());
            let before = talk.request(None);
            let stream = format.stream(&[Say::Text("half of it".into())], 0, &before.body, TOKENS);
            let cut = &stream[..stream.find("\n\n").map_or(0, |first| first + 2)];
            let heard = hear(&mut *talk, cut);
            assert_eq!(heard.stop, Stop::Unfinished, "{provider:?}");
            assert_eq!(talk.request(None), before, "{provider:?}");
            let whole = hear(&mut *talk, &stream);
            assert_eq!((whole.text.as_str(), whole.stop), ("half of it", Stop::Whole), "{provider:?}");
        }
    }

    #[test]
    fn no_event_upsets_a_conversation() {
        let events = [
            json!(null),
            json!([]),
            json!({ "type": 7 }),
            json!({ "type": "content_block_delta", "index": 9 }),
            json!({ "type": "response.output_item.done" }),
            json!({ "choices": [{ "delta": { "tool_calls": [{}] } }] }),
            json!({ "candidates": [{ "content": { "parts": [{ "functionCall": null }] } }] }),
            json!({ "choices": 3 }),
            json!({ "type": "content_block_start", "content_block": "x" }),
            json!({ "type": "content_block_delta", "delta": { "type": "text_delta", "text": "y" } }),
            json!({ "type": "message_delta", "delta": { "stop_reason": "end_turn" } }),
        ];
        for (provider, _) in PROVIDERS {
            let mut talk = begin(provider, opening());
            events.iter().for_each(|event| talk.on_event(event));
            talk.end();
            talk.request(None);
        }
    }

    #[test]
    fn a_service_that_gives_up_says_why() {
        let check = |provider: Provider, event: Value| {
            let mut talk = begin(provider, opening());
            talk.on_event(&event);
            let Stop::Broken(why) = talk.end().stop else { panic!("{provider:?}") };
            assert!(why.contains("too busy"), "{why}");
        };
        let error = json!({ "type": "overloaded_error", "message": "too busy" });
        check(Provider::Anthropic, json!({ "type": "error", "error": error }));
        check(Provider::Openai, json!({ "type": "response.failed", "response": { "error": error } }));
        check(Provider::OpenaiChat, json!({ "error": error }));
        check(Provider::Gemini, json!({ "error": error }));
    }

    #[test]
    fn an_answer_that_breaks_in_its_midst_is_not_whole_whatever_it_says_then() {
        let mut talk = begin(Provider::OpenaiChat, opening());
        talk.on_event(&json!({ "choices": [{ "delta": { "content": "half of" } }] }));
        talk.on_event(&json!({
            "error": { "code": 502, "message": "Provider disconnected" },
            "choices": [{ "delta": { "content": "" }, "finish_reason": "error" }]
        }));
        talk.on_event(&json!({ "choices": [{ "delta": {}, "finish_reason": "stop" }] }));
        assert_eq!(talk.end().stop, Stop::Broken("502: Provider disconnected".into()));
        talk.on_event(&json!({ "choices": [{ "delta": {}, "finish_reason": "error" }] }));
        assert!(matches!(talk.end().stop, Stop::Broken(_)));
    }

    #[test]
    fn an_answer_that_is_cut_says_so() {
        let check = |provider: Provider, event: Value| {
            let mut talk = begin(provider, opening());
            talk.on_event(&event);
            assert!(matches!(talk.end().stop, Stop::Cut(_)), "{provider:?}");
        };
        check(
            Provider::Anthropic,
            json!({ "type": "message_delta", "delta": { "stop_reason": "max_tokens" } }),
        );
        check(Provider::Anthropic, json!({ "type": "message_delta", "delta": { "stop_reason": "refusal" } }));
        let incomplete = json!({ "incomplete_details": { "reason": "max_output_tokens" } });
        check(Provider::Openai, json!({ "type": "response.incomplete", "response": incomplete }));
        check(Provider::OpenaiChat, json!({ "choices": [{ "delta": {}, "finish_reason": "length" }] }));
        check(Provider::Gemini, json!({ "candidates": [{ "finishReason": "SAFETY" }] }));
    }

    #[test]
    fn the_input_of_a_call_is_json_or_says_why_not() {
        assert_eq!(input(" "), Ok(json!({})));
        assert!(input("{").is_err_and(|why| why.contains("no JSON")));
    }
}

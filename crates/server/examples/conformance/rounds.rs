//! Calls that need something of the client: they end with a question, and come again with its answer (2026-07-28).
//!
//! Between two rounds nothing is kept here: what is to be remembered travels with the client, sealed. Only what a client says
//! that it can is asked of it.

use crate::content::typed;
use crate::seal::Seal;
use rmcp::model::{ErrorData, InputRequiredResult, InputResponses, JsonObject};
use rmcp::service::{RequestContext, RoleServer};
use serde_json::{Map, Value, json};

/// What a client brings from the round before.
pub struct Answers<'a> {
    responses: Option<&'a InputResponses>,
    state: Option<&'a str>,
}

/// How a round ends.
pub enum Round {
    /// With the result.
    Done(String),
    /// With a question.
    Ask(InputRequiredResult),
}

impl<'a> Answers<'a> {
    pub fn new(responses: Option<&'a InputResponses>, state: Option<&'a str>) -> Answers<'a> {
        Answers { responses, state }
    }

    /// Returns an answer; what is no object is none, and the question is asked again.
    fn to(&self, question: &str) -> Option<&'a JsonObject> {
        self.responses?.get(question)?.as_object()
    }

    /// Returns what was sealed in the round before, if there was one.
    fn remembered(&self, seal: &Seal) -> Result<Option<&'a str>, ErrorData> {
        let broken = || ErrorData::invalid_params("the request state is not what it was", None);
        self.state.map(|state| seal.open(state).ok_or_else(broken)).transpose()
    }
}

/// Does one round of a tool's call; `None` for a tool of another kind.
pub fn tool(
    name: &str,
    seal: &Seal,
    answers: &Answers<'_>,
    context: &RequestContext<RoleServer>,
) -> Option<Result<Round, ErrorData>> {
    let ask = |questions: Value, state: Option<&str>| ask(questions, state.map(|s| seal.close(s)), context);
    Some(match name {
        "test_input_required_result_elicitation" | "test_streaming_elicitation" => {
            let hello = |name: &JsonObject| format!("Hello, {}!", content(name, "name"));
            single(answers, "user_name", elicit("What is your name?", "name", "string"), hello, context)
        }
        "test_input_required_result_sampling" | "test_missing_capability" => {
            let said =
                |message: &JsonObject| message.get("content").map(Value::to_string).unwrap_or_default();
            single(answers, "capital_question", sample("What is the capital of France?"), said, context)
        }
        "test_input_required_result_list_roots" => {
            let roots = |roots: &JsonObject| roots.get("roots").map(Value::to_string).unwrap_or_default();
            single(answers, "client_roots", roots_list(), roots, context)
        }
        "test_input_required_result_request_state" | "test_input_required_result_tampered_state" => {
            confirm(seal, answers, ask)
        }
        "test_input_required_result_multiple_inputs" => several(seal, answers, ask),
        "test_input_required_result_multi_round" => in_turn(seal, answers, ask),
        "test_input_required_result_capabilities" => ask(everything(), None),
        _ => return None,
    })
}

/// Does one round of the prompt that asks for its words.
pub fn prompt(answers: &Answers<'_>, context: &RequestContext<RoleServer>) -> Result<Round, ErrorData> {
    let question = elicit("What context should the prompt use?", "context", "string");
    let words = |told: &JsonObject| format!("Use this context: {}", content(told, "context"));
    single(answers, "user_context", question, words, context)
}

/// One question, one answer.
fn single(
    answers: &Answers<'_>,
    key: &str,
    question: Value,
    done: impl Fn(&JsonObject) -> String,
    context: &RequestContext<RoleServer>,
) -> Result<Round, ErrorData> {
    match answers.to(key) {
        Some(answer) => Ok(Round::Done(done(answer))),
        None => ask(json!({ key: question }), None, context),
    }
}

/// A question whose answer counts only with what was remembered.
fn confirm(
    seal: &Seal,
    answers: &Answers<'_>,
    ask: impl Fn(Value, Option<&str>) -> Result<Round, ErrorData>,
) -> Result<Round, ErrorData> {
    let remembered = answers.remembered(seal)?;
    match (remembered, answers.to("confirm")) {
        (Some("confirm"), Some(_)) => Ok(Round::Done("state-ok".into())),
        _ => ask(json!({ "confirm": elicit("Please confirm", "ok", "boolean") }), Some("confirm")),
    }
}

/// Three questions at once, each of another kind.
fn several(
    seal: &Seal,
    answers: &Answers<'_>,
    ask: impl Fn(Value, Option<&str>) -> Result<Round, ErrorData>,
) -> Result<Round, ErrorData> {
    let remembered = answers.remembered(seal)?;
    let questions = everything();
    let is_answered =
        questions.as_object().is_some_and(|all| all.keys().all(|key| answers.to(key).is_some()));
    if remembered == Some("several") && is_answered {
        return Ok(Round::Done("all is answered".into()));
    }
    ask(questions, Some("several"))
}

/// Two questions, the second after the first.
fn in_turn(
    seal: &Seal,
    answers: &Answers<'_>,
    ask: impl Fn(Value, Option<&str>) -> Result<Round, ErrorData>,
) -> Result<Round, ErrorData> {
    let second = json!({ "step2": elicit("Step 2: What is your favorite color?", "color", "string") });
    match answers.remembered(seal)? {
        Some("step1") if answers.to("step1").is_some() => ask(second, Some("step2")),
        Some("step2") => match answers.to("step2") {
            Some(answer) => Ok(Round::Done(format!("the color is {}", content(answer, "color")))),
            None => ask(second, Some("step2")),
        },
        _ => ask(json!({ "step1": elicit("Step 1: What is your name?", "name", "string") }), Some("step1")),
    }
}

/// Ends a round with questions: those that the client can answer, or an error if it can answer none.
fn ask(
    questions: Value,
    state: Option<String>,
    context: &RequestContext<RoleServer>,
) -> Result<Round, ErrorData> {
    let declared = context.client_capabilities().map(|all| serde_json::to_value(all).unwrap_or_default());
    let can = |question: &Value| declared.as_ref().is_some_and(|all| all.get(needed(question)).is_some());
    let questions = questions.as_object().cloned().unwrap_or_default();
    let missing: Map<String, Value> =
        questions.values().map(|question| (needed(question).to_owned(), json!({}))).collect();
    let questions: Map<String, Value> = questions.into_iter().filter(|(_, question)| can(question)).collect();
    if questions.is_empty() {
        return Err(ErrorData::missing_required_client_capability(typed(missing.into())));
    }
    Ok(Round::Ask(InputRequiredResult::new(Some(typed(questions.into())), state)))
}

/// Returns the capability that a client needs for a question.
fn needed(question: &Value) -> &'static str {
    match question["method"].as_str() {
        Some("elicitation/create") => "elicitation",
        Some("sampling/createMessage") => "sampling",
        _ => "roots",
    }
}

fn everything() -> Value {
    json!({
        "user_name": elicit("What is your name?", "name", "string"),
        "greeting": sample("Generate a greeting"),
        "client_roots": roots_list(),
    })
}

fn elicit(message: &str, field: &str, kind: &str) -> Value {
    let schema = json!({ "type": "object", "properties": { field: { "type": kind } }, "required": [field] });
    json!({ "method": "elicitation/create",
            "params": { "mode": "form", "message": message, "requestedSchema": schema } })
}

fn sample(prompt: &str) -> Value {
    let message = json!({ "role": "user", "content": { "type": "text", "text": prompt } });
    json!({ "method": "sampling/createMessage", "params": { "messages": [message], "maxTokens": 100 } })
}

fn roots_list() -> Value {
    json!({ "method": "roots/list" })
}

/// Returns what a user wrote into a field.
fn content(answer: &JsonObject, field: &str) -> String {
    let written = answer.get("content").and_then(|content| content.get(field)).and_then(Value::as_str);
    written.unwrap_or("nobody").to_owned()
}

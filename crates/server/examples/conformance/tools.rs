//! Tools: what they are called, and what each answers with.

use crate::content::{IMAGE, SOUND, typed};
use crate::fixture::Fixture;
use crate::rounds::{self, Answers, Round};
use crate::talk;
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, ErrorData, ServerNotification,
    Tool,
};
use rmcp::service::{RequestContext, RoleServer};
use serde_json::{Value, json};

/// Tools without arguments.
const PLAIN: [(&str, &str); 21] = [
    ("test_simple_text", "Answers with a text"),
    ("test_image_content", "Answers with an image"),
    ("test_audio_content", "Answers with a sound"),
    ("test_embedded_resource", "Answers with a resource"),
    ("test_multiple_content_types", "Answers with a text, an image and a resource"),
    ("test_error_handling", "Fails"),
    ("test_tool_with_progress", "Says how far it is"),
    ("test_tool_with_logging", "Writes log lines"),
    ("test_logging_tool", "Writes log lines where they are wanted"),
    ("test_trigger_tool_change", "Says that the list of tools has changed"),
    ("test_trigger_prompt_change", "Says that the list of prompts has changed"),
    ("test_missing_capability", "Needs a client with a model"),
    ("test_streaming_elicitation", "Asks the user"),
    ("test_input_required_result_elicitation", "Asks the user for a name"),
    ("test_input_required_result_sampling", "Asks the client's model"),
    ("test_input_required_result_list_roots", "Asks for the client's roots"),
    ("test_input_required_result_request_state", "Asks, and remembers that it did"),
    ("test_input_required_result_tampered_state", "Asks, and finds out who changes what it remembers"),
    ("test_input_required_result_multiple_inputs", "Asks three questions at once"),
    ("test_input_required_result_multi_round", "Asks one question after another"),
    ("test_input_required_result_capabilities", "Asks what the client can be asked"),
];

pub fn list() -> Vec<Tool> {
    let plain = PLAIN.iter().map(
        |(name, about)| json!({ "name": name, "description": about, "inputSchema": { "type": "object" } }),
    );
    plain.chain([of_wide_schema(), of_header()]).map(typed).collect()
}

/// Returns a tool whose schema says more than most.
fn of_wide_schema() -> Value {
    let address = json!({ "$anchor": "addressDef", "type": "object",
        "properties": { "street": { "type": "string" }, "city": { "type": "string" } } });
    let schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "$defs": { "address": address },
        "properties": {
            "name": { "type": "string" }, "address": { "$ref": "#/$defs/address" },
            "contactMethod": { "type": "string", "enum": ["phone", "email"] },
            "phone": { "type": "string" }, "email": { "type": "string" },
        },
        "allOf": [{ "anyOf": [{ "required": ["phone"] }, { "required": ["email"] }] }],
        "if": { "properties": { "contactMethod": { "const": "phone" } }, "required": ["contactMethod"] },
        "then": { "required": ["phone"] },
        "else": { "required": ["email"] },
        "additionalProperties": false,
    });
    json!({ "name": "json_schema_2020_12_tool", "description": "Has a wide schema", "inputSchema": schema })
}

/// Returns a tool with an argument that is a header as well.
fn of_header() -> Value {
    let value = json!({ "type": "string", "x-mcp-header": "Value" });
    let schema = json!({ "type": "object", "properties": { "value": value }, "required": ["value"] });
    json!({ "name": "test_custom_header", "description": "Takes a header", "inputSchema": schema })
}

pub async fn call(
    fixture: &Fixture,
    request: &CallToolRequestParams,
    context: &RequestContext<RoleServer>,
) -> Result<CallToolResponse, ErrorData> {
    let name = request.name.as_ref();
    let answers = Answers::new(request.input_responses.as_ref(), request.request_state.as_deref());
    if let Some(round) = rounds::tool(name, &fixture.seal, &answers, context) {
        return round.map(|round| match round {
            Round::Ask(question) => question.into(),
            Round::Done(words) => text(&words),
        });
    }
    match name {
        "test_tool_with_progress" => talk::progress(context).await,
        "test_tool_with_logging" | "test_logging_tool" => talk::log(context).await,
        // That nobody listens is no error.
        "test_trigger_tool_change" => drop(fixture.changed.send(changed("tools"))),
        "test_trigger_prompt_change" => drop(fixture.changed.send(changed("prompts"))),
        _ => {}
    }
    shown(name).ok_or_else(|| ErrorData::invalid_params(format!("there is no tool `{name}`"), None))
}

fn changed(list: &str) -> ServerNotification {
    typed(json!({ "method": format!("notifications/{list}/list_changed") }))
}

/// Returns what a tool answers with that needs nothing to know.
fn shown(name: &str) -> Option<CallToolResponse> {
    let image = json!({ "type": "image", "data": IMAGE, "mimeType": "image/png" });
    let content = match name {
        "test_image_content" => json!([image]),
        "test_audio_content" => json!([{ "type": "audio", "data": SOUND, "mimeType": "audio/wav" }]),
        "test_embedded_resource" => {
            json!([resource(
                "test://embedded-resource",
                "text/plain",
                "This is an embedded resource content."
            )])
        }
        "test_multiple_content_types" => {
            let words = json!({ "type": "text", "text": "Multiple content types test:" });
            let data = json!({ "test": "data", "value": 123 }).to_string();
            json!([words, image, resource("test://mixed-content-resource", "application/json", &data)])
        }
        "test_error_handling" => {
            let words = ContentBlock::text("This tool intentionally returns an error for testing");
            return Some(CallToolResult::error(vec![words]).into());
        }
        "test_simple_text" => return Some(text("This is a simple text response for testing.")),
        _ => return list().iter().any(|tool| tool.name == name).then(|| text("done")),
    };
    Some(CallToolResult::success(typed(content)).into())
}

fn resource(uri: &str, kind: &str, text: &str) -> Value {
    json!({ "type": "resource", "resource": { "uri": uri, "mimeType": kind, "text": text } })
}

fn text(words: &str) -> CallToolResponse {
    CallToolResult::success(vec![ContentBlock::text(words)]).into()
}

//! Prompts: words, an image, a resource, one that has to ask first; and the completion of their arguments.

use crate::content::{IMAGE, typed};
use crate::rounds::{self, Answers, Round};
use rmcp::model::{
    CompleteResult, CompletionInfo, ErrorData, GetPromptResponse, GetPromptResult, JsonObject, Prompt,
};
use rmcp::service::{RequestContext, RoleServer};
use serde_json::{Value, json};

/// What an argument may be completed to.
const WORDS: [&str; 4] = ["paris", "park", "party", "test"];

pub fn list() -> Vec<Prompt> {
    let needs = |name: &str| json!({ "name": name, "description": "Part of the prompt", "required": true });
    typed(json!([
        { "name": "test_simple_prompt", "description": "Words" },
        { "name": "test_prompt_with_arguments", "description": "Words with words of the caller's",
          "arguments": [needs("arg1"), needs("arg2")] },
        { "name": "test_prompt_with_embedded_resource", "description": "A resource and words",
          "arguments": [needs("resourceUri")] },
        { "name": "test_prompt_with_image", "description": "An image and words" },
        { "name": "test_input_required_result_prompt", "description": "Words that the user is asked for" },
    ]))
}

pub fn get(
    name: &str,
    arguments: &JsonObject,
    answers: &Answers<'_>,
    context: &RequestContext<RoleServer>,
) -> Result<GetPromptResponse, ErrorData> {
    let messages = match name {
        "test_simple_prompt" => json!([text("This is a simple prompt for testing.")]),
        "test_prompt_with_arguments" => {
            let (one, two) = (argument(arguments, "arg1")?, argument(arguments, "arg2")?);
            json!([text(&format!("Prompt with arguments: arg1='{one}', arg2='{two}'"))])
        }
        "test_prompt_with_embedded_resource" => {
            let resource = json!({ "uri": argument(arguments, "resourceUri")?, "mimeType": "text/plain",
                                   "text": "Embedded resource content for testing." });
            let shown = json!({ "role": "user", "content": { "type": "resource", "resource": resource } });
            json!([shown, text("Please process the embedded resource above.")])
        }
        "test_prompt_with_image" => {
            let image = json!({ "type": "image", "data": IMAGE, "mimeType": "image/png" });
            json!([{ "role": "user", "content": image }, text("Please analyze the image above.")])
        }
        "test_input_required_result_prompt" => match rounds::prompt(answers, context)? {
            Round::Ask(question) => return Ok(question.into()),
            Round::Done(words) => json!([text(&words)]),
        },
        _ => return Err(ErrorData::invalid_params(format!("there is no prompt `{name}`"), None)),
    };
    Ok(GetPromptResult::new(typed(messages)).into())
}

fn text(words: &str) -> Value {
    json!({ "role": "user", "content": { "type": "text", "text": words } })
}

fn argument<'a>(arguments: &'a JsonObject, name: &str) -> Result<&'a str, ErrorData> {
    let missing = || ErrorData::invalid_params(format!("`{name}` is missing"), None);
    arguments.get(name).and_then(Value::as_str).ok_or_else(missing)
}

pub fn complete(begun: &str) -> Result<CompleteResult, ErrorData> {
    let fitting = WORDS.iter().filter(|word| word.starts_with(begun)).map(ToString::to_string).collect();
    let completion = CompletionInfo::with_all_values(fitting);
    completion.map(CompleteResult::new).map_err(|why| ErrorData::internal_error(why, None))
}

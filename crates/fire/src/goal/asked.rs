//! What a model is asked, read strictly.
//!
//! Here lives the reading of a request in each provider's format: whose it is, which task and attempt it is for, and what it
//! says. A request that is not as it should be is answered with what is wrong. What is answered lives in `script`.

use super::team::{KEY, Seat};
use quorate_testkit::model::local::Request;
use quorate_testkit::model::wire::Format;
use serde_json::Value;

/// The longest part of a request that is shown in what is wrong with it, in characters.
const SHOWN_MAX: usize = 600;

/// A request that is as it should be.
#[derive(Debug, Clone, PartialEq)]
pub struct Asked {
    /// Whose it is.
    pub seat: &'static Seat,
    /// The task …
    pub task: i64,
    /// … the attempt at it …
    pub attempt: i64,
    /// … and the term under which it was taken.
    pub term: i64,
    /// What the agent is told.
    pub text: String,
    /// The tools that it may call.
    pub tools: Vec<String>,
    /// How many of its calls were answered until now.
    pub results: usize,
}

/// Reads a request.
///
/// # Errors
/// In words, what is wrong with it.
pub fn read(request: &Request) -> Result<Asked, String> {
    let wrong =
        |what: &str| Err(format!("{} {}: {what}: {}", request.method, request.path, shown(&request.body)));
    let Some(seat) = Seat::of_path(&request.path) else { return wrong("nobody asks here") };
    if request.method != "POST" || Format::of(&request.path) != Some(seat.format) {
        return wrong("it is not spoken to so");
    }
    if !has_key(seat, request) {
        return wrong("without the key");
    }
    if !names_model(seat, request) {
        return wrong("it is for another model");
    }
    let Some(talk) = Talk::read(seat.format, &request.body) else { return wrong("it is no conversation") };
    if !talk.system.contains(&format!("You are `{}", seat.name)) {
        return wrong("it is not told who it is");
    }
    if !talk.user.contains("# How to finish") {
        return wrong("it is not told how to finish");
    }
    let Some((task, attempt, term)) = numbers(talk.user) else { return wrong("it names no task") };
    let (text, tools, results) = (talk.user.to_owned(), talk.tools, talk.results);
    Ok(Asked { seat, task, attempt, term, text, tools, results })
}

fn has_key(seat: &Seat, request: &Request) -> bool {
    let (name, value) = match seat.format {
        Format::Messages => ("x-api-key", KEY.to_owned()),
        Format::Responses | Format::Chat => ("authorization", format!("Bearer {KEY}")),
        Format::Gemini => ("x-goog-api-key", KEY.to_owned()),
    };
    request.headers.get(name).is_some_and(|found| found.as_bytes() == value.as_bytes())
}

fn names_model(seat: &Seat, request: &Request) -> bool {
    let model = seat.model();
    match seat.format {
        Format::Gemini => request.path.ends_with(&format!("/models/{model}:streamGenerateContent")),
        Format::Messages | Format::Responses | Format::Chat => {
            request.body["model"] == *model && request.body["stream"] == true
        }
    }
}

/// A conversation until now.
#[derive(Debug)]
struct Talk<'a> {
    system: &'a str,
    user: &'a str,
    tools: Vec<String>,
    results: usize,
}

impl<'a> Talk<'a> {
    fn read(format: Format, body: &'a Value) -> Option<Talk<'a>> {
        let list = |key: &str| body[key].as_array().map(Vec::as_slice).unwrap_or_default();
        let named = |tools: &'a [Value], name: fn(&Value) -> &Value| -> Vec<String> {
            tools.iter().filter_map(|tool| name(tool).as_str()).map(str::to_owned).collect()
        };
        let parts = |turns: &'a [Value], parts: &str, is_result: fn(&Value) -> bool| {
            let all = turns.iter().filter_map(|turn| turn[parts].as_array()).flatten();
            all.filter(|part| is_result(part)).count()
        };
        let plain: fn(&Value) -> &Value = |tool| &tool["name"];
        Some(match format {
            Format::Messages => Talk {
                system: body["system"][0]["text"].as_str()?,
                user: opening(&body["messages"][0])?["content"][0]["text"].as_str()?,
                tools: named(list("tools"), plain),
                results: parts(list("messages"), "content", |part| part["type"] == "tool_result"),
            },
            Format::Responses => Talk {
                system: body["instructions"].as_str()?,
                user: opening(&body["input"][0])?["content"].as_str()?,
                tools: named(list("tools"), plain),
                results: list("input").iter().filter(|item| item["type"] == "function_call_output").count(),
            },
            Format::Chat => Talk {
                system: body["messages"][0]["content"].as_str()?,
                user: opening(&body["messages"][1])?["content"].as_str()?,
                tools: named(list("tools"), |tool| &tool["function"]["name"]),
                results: list("messages").iter().filter(|turn| turn["role"] == "tool").count(),
            },
            Format::Gemini => Talk {
                system: body["systemInstruction"]["parts"][0]["text"].as_str()?,
                user: opening(&body["contents"][0])?["parts"][0]["text"].as_str()?,
                tools: named(
                    body["tools"][0]["functionDeclarations"]
                        .as_array()
                        .map(Vec::as_slice)
                        .unwrap_or_default(),
                    plain,
                ),
                results: parts(list("contents"), "parts", |part| part["functionResponse"].is_object()),
            },
        })
    }
}

/// The first turn, if it is the user's.
fn opening(turn: &Value) -> Option<&Value> {
    (turn["role"] == "user").then_some(turn)
}

/// Returns the task, the attempt and the term that a text names.
fn numbers(text: &str) -> Option<(i64, i64, i64)> {
    let (task, attempt) = between(text, "(task ", ")")?.split_once(", attempt ")?;
    let term = between(text, &format!("This task is {task} under term "), ".")?;
    Some((task.parse().ok()?, attempt.parse().ok()?, term.parse().ok()?))
}

/// Returns what stands between two parts of a text.
pub fn between<'a>(text: &'a str, begin: &str, end: &str) -> Option<&'a str> {
    text.split_once(begin)?.1.split_once(end).map(|(inner, _)| inner)
}

fn shown(body: &Value) -> String {
    body.to_string().chars().take(SHOWN_MAX).collect()
}

#[cfg(test)]
pub mod sample {
    //! Requests as agents send them, to be spoiled by tests.

    use super::*;
    use crate::goal::script::Goal;
    use crate::goal::team::{SEATS, config};
    use quorate_model::config::Config;
    use quorate_model::goal::{PlanCheck, begin};
    use serde_json::json;

    /// The team.
    pub fn configured() -> Config {
        Config::parse("quorate.toml", config("http://127.0.0.1:1").as_bytes()).expect("it is sound")
    }

    /// What a planner is asked first.
    pub fn question(goal: Goal) -> String {
        let plan = begin(goal.words(), &configured(), PlanCheck::Run).expect("somebody plans");
        plan.tasks[0].prompt.clone().expect("words")
    }

    /// A request of a seat at the first call for a task, and what its agent is told.
    pub fn request(seat: &Seat, wish: &str) -> Request {
        let user = format!(
            "# Your task: a title\n\n(task 7, attempt 2)\n\n{wish}\n\n# How to finish\n\n- This task is 7 under term 3."
        );
        let system = format!("You are `{}-1`, a member of a team", seat.name);
        let model = seat.model();
        let tool = json!({ "name": "quorate_progress" });
        let (path, body) = match seat.format {
            Format::Messages => (
                "/v1/messages".to_owned(),
                json!({ "model": model, "stream": true, "system": [{ "text": system }], "tools": [tool],
                    "messages": [{ "role": "user", "content": [{ "type": "text", "text": user }] }] }),
            ),
            Format::Responses => (
                "/v1/responses".to_owned(),
                json!({ "model": model, "stream": true, "instructions": system, "tools": [tool],
                    "input": [{ "role": "user", "content": user }] }),
            ),
            Format::Chat => (
                "/v1/chat/completions".to_owned(),
                json!({ "model": model, "stream": true, "tools": [{ "function": tool }],
                    "messages": [{ "role": "system", "content": system }, { "role": "user", "content": user }] }),
            ),
            Format::Gemini => (
                format!("/v1beta/models/{model}:streamGenerateContent"),
                json!({ "systemInstruction": { "parts": [{ "text": system }] },
                    "tools": [{ "functionDeclarations": [tool] }],
                    "contents": [{ "role": "user", "parts": [{ "text": user }] }] }),
            ),
        };
        let (header, value) = match seat.format {
            Format::Messages => ("x-api-key", KEY.to_owned()),
            Format::Responses | Format::Chat => ("authorization", format!("Bearer {KEY}")),
            Format::Gemini => ("x-goog-api-key", KEY.to_owned()),
        };
        let mut request = Request {
            method: "POST".parse().expect("a method"),
            path: format!("/{}{path}", seat.name),
            headers: Default::default(),
            body,
        };
        request.headers.insert(header, value.parse().expect("a header"));
        request
    }

    /// What is asked so, read.
    pub fn asked(name: &str, wish: &str) -> Asked {
        let seat = SEATS.iter().find(|seat| seat.name == name).expect("a seat");
        read(&request(seat, wish)).expect("it is as it should be")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::goal::team::SEATS;
    use serde_json::json;

    #[test]
    fn a_request_is_read_in_each_format() {
        for seat in &SEATS {
            let asked = read(&sample::request(seat, "Do it.")).expect("it is as it should be");
            assert_eq!((asked.seat.name, asked.task, asked.attempt, asked.term), (seat.name, 7, 2, 3));
            assert!(asked.text.contains("Do it.") && asked.tools == ["quorate_progress"], "{asked:?}");
            assert_eq!(asked.results, 0);
        }
    }

    #[test]
    fn answers_of_tools_are_counted_in_each_format() {
        let results = [
            ("messages", json!({ "role": "user", "content": [{ "type": "tool_result" }] })),
            ("input", json!({ "type": "function_call_output" })),
            ("messages", json!({ "role": "tool" })),
            ("contents", json!({ "role": "user", "parts": [{ "functionResponse": {} }] })),
        ];
        for (seat, (list, turn)) in SEATS.iter().zip(results) {
            let mut request = sample::request(seat, "Do it.");
            request.body[list].as_array_mut().expect("a list").push(turn);
            assert_eq!(read(&request).map(|asked| asked.results), Ok(1), "{}", seat.name);
        }
    }

    #[test]
    fn what_is_not_as_it_should_be_is_told() {
        let check = |spoil: &dyn Fn(&mut Request), says: &str| {
            let mut request = sample::request(&SEATS[0], "Do it.");
            spoil(&mut request);
            let wrong = read(&request).expect_err("it is refused");
            assert!(wrong.contains(says), "{wrong}");
        };
        check(&|request| request.path = "/nobody/v1/messages".into(), "nobody asks here");
        check(&|request| request.path = "/planner/v1/responses".into(), "not spoken to so");
        check(&|request| request.headers.clear(), "without the key");
        check(&|request| request.body["model"] = "gpt".into(), "another model");
        check(&|request| request.body["stream"] = false.into(), "another model");
        check(&|request| request.body["messages"] = json!([]), "no conversation");
        check(&|request| request.body["system"][0]["text"] = "You are `bob`".into(), "who it is");
        check(
            &|request| request.body["messages"][0]["content"][0]["text"] = "# How to finish".into(),
            "names no task",
        );
    }
}

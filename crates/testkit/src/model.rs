//! A model on this machine that says what a script tells it to, in the way of whichever provider it is asked.
//!
//! Here live the script and its strictness: a request that the script does not expect is answered with an error and fails
//! the test at its end. The server is in [`local`], how each provider's answers look in [`wire`].
//!
//! It speaks Anthropic's messages, OpenAI's responses and chat completions, and Gemini's `streamGenerateContent`, all
//! as streams. What real programs ask beside that (how many tokens, which models there are) has its usual answer.

pub mod local;
pub mod wire;

use axum::http::{HeaderMap, Method};
use local::{LocalServer, Reply, Request};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

/// One answer of the model, and what its request must hold.
#[derive(Debug, Clone, Default)]
pub struct Turn {
    expects: Vec<String>,
    says: Vec<Say>,
    reads: Option<fn(&Value) -> Vec<Say>>,
    tokens: Option<u64>,
    refuses: Option<(u16, Option<u64>)>,
}

/// A part of an answer.
#[derive(Debug, Clone, PartialEq)]
pub enum Say {
    /// Words.
    Text(String),
    /// A call of a tool: its name and input.
    Call(String, Value),
}

impl Turn {
    /// An answer in words.
    pub fn text(text: impl Into<String>) -> Turn {
        Turn::default().and(Say::Text(text.into()))
    }

    /// An answer that calls a tool.
    pub fn call(name: impl Into<String>, input: Value) -> Turn {
        Turn::default().and(Say::Call(name.into(), input))
    }

    /// An answer made of the request: what a model finds in it, and says of it.
    pub fn read(read: fn(&Value) -> Vec<Say>) -> Turn {
        Turn { reads: Some(read), ..Turn::default() }
    }

    /// No answer but a refusal with this status, and perhaps the seconds to wait.
    pub fn refuse(status: u16, retry_after: Option<u64>) -> Turn {
        Turn { refuses: Some((status, retry_after)), ..Turn::default() }
    }

    /// The same, which says something more.
    pub fn and(mut self, say: Say) -> Turn {
        self.says.push(say);
        self
    }

    /// The same, which says that its request took so many tokens.
    pub fn tokens(mut self, tokens: u64) -> Turn {
        self.tokens = Some(tokens);
        self
    }

    /// The same, whose request must hold this text somewhere in its body.
    pub fn expect(mut self, part: impl Into<String>) -> Turn {
        self.expects.push(part.into());
        self
    }
}

/// A request that was answered from the script.
#[derive(Debug, Clone)]
pub struct Asked {
    /// Its path.
    pub path: String,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Value,
}

#[derive(Debug, Default)]
struct State {
    script: VecDeque<Turn>,
    asked: Vec<Asked>,
    wrong: Vec<String>,
}

/// The server; it ends with the value.
#[derive(Debug)]
pub struct ScriptedModel {
    server: LocalServer,
    state: Arc<Mutex<State>>,
}

impl ScriptedModel {
    /// Starts it on a free port of the loopback interface.
    ///
    /// # Panics
    /// Where this machine has no loopback interface or no thread to give.
    pub fn start(script: impl IntoIterator<Item = Turn>) -> ScriptedModel {
        let state = Arc::new(Mutex::new(State { script: script.into_iter().collect(), ..State::default() }));
        let shared = state.clone();
        let server = LocalServer::start(move |request| std::future::ready(answer(&shared, request)));
        ScriptedModel { server, state }
    }

    /// Gives it another script.
    pub fn set(&self, script: impl IntoIterator<Item = Turn>) {
        lock(&self.state).script = script.into_iter().collect();
    }

    /// Returns how often it has answered from its script.
    pub fn asked(&self) -> usize {
        lock(&self.state).asked.len()
    }

    /// Returns what was asked that its script does not expect, in words.
    pub fn wrong(&self) -> Vec<String> {
        lock(&self.state).wrong.clone()
    }

    /// Returns its address, without a path.
    pub fn url(&self) -> &str {
        self.server.url()
    }

    /// Ends it; answers with what was asked.
    ///
    /// # Panics
    /// When something was asked that the script does not expect, or less than it expects.
    #[track_caller]
    pub fn end(mut self) -> Vec<Asked> {
        self.server.stop();
        let state = std::mem::take(&mut *lock(&self.state));
        assert!(
            state.wrong.is_empty(),
            "the model was asked what its script does not expect:\n{}",
            state.wrong.join("\n")
        );
        assert!(state.script.is_empty(), "the model was not asked {} more times", state.script.len());
        state.asked
    }
}

fn lock(state: &Mutex<State>) -> std::sync::MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn answer(state: &Mutex<State>, request: Request) -> Reply {
    let Request { method, path, headers, body } = request;
    if let Some(usual) = aside(&method, &path) {
        return Reply::new(200, "application/json", usual.to_string());
    }
    let mut state = lock(state);
    let Some(format) = wire::Format::of(&path).filter(|_| method == Method::POST) else {
        state.wrong.push(format!("{method} {path}"));
        return Reply::refusal(404);
    };
    let Some(turn) = state.script.pop_front() else {
        state.wrong.push(format!("{method} {path} after the end of the script: {}", head(&body)));
        return Reply::refusal(400);
    };
    let text = body.to_string();
    let missing: Vec<&String> = turn.expects.iter().filter(|part| !text.contains(part.as_str())).collect();
    if !missing.is_empty() {
        let wrong = format!("{method} {path} without {missing:?}: {}", head(&body));
        state.wrong.push(wrong);
        return Reply::refusal(400);
    }
    let number = state.asked.len();
    state.asked.push(Asked { path, headers, body: body.clone() });
    if let Some((status, retry_after)) = turn.refuses {
        return Reply { retry_after, ..Reply::refusal(status) };
    }
    let mut says = turn.says;
    says.extend(turn.reads.map(|read| read(&body)).unwrap_or_default());
    let tokens = turn.tokens.unwrap_or(wire::TOKENS);
    Reply::new(200, "text/event-stream", format.stream(&says, number, &body, tokens))
}

/// What real programs ask beside the script, and its usual answer.
fn aside(method: &Method, path: &str) -> Option<Value> {
    if *method == Method::HEAD || (*method == Method::GET && path.ends_with("/models")) {
        return Some(json!({ "data": [], "models": [] }));
    }
    if path.ends_with("/count_tokens") {
        return Some(json!({ "input_tokens": 10 }));
    }
    // Gemini CLI asks a small model which larger one to ask.
    path.ends_with(":generateContent").then(wire::routing)
}

/// How much of a request is shown that was not expected, in characters.
const SHOWN_MAX: usize = 2000;

fn head(body: &Value) -> String {
    body.to_string().chars().take(SHOWN_MAX).collect()
}

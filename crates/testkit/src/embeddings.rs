//! An embedding model on this machine whose vectors a test can foresee: words that mean the same have the same
//! direction.
//!
//! Here live the server, what it was asked, and its little dictionary. It speaks what OpenAI's `/v1/embeddings`
//! speaks, and answers anything else with an error that fails the test at its end.

use crate::model::Asked;
use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::IntoResponse;
use serde_json::{Value, json};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use tokio::sync::oneshot;

/// Words that mean the same, one line a meaning. Every other word has a direction of its own, or shares one by chance.
pub const WORDS: [&[&str]; 6] = [
    &["car", "automobile", "vehicle"],
    &["slow", "sluggish", "lags"],
    &["database", "postgres", "ledger"],
    &["broken", "defective", "faulty"],
    &["login", "authentication", "signin"],
    &["cake", "pastry"],
];

/// The numbers of each vector: one a meaning, and some for the rest.
const NUMBERS: usize = 64;
/// How much a word without a meaning counts.
const OTHER: f32 = 0.1;

#[derive(Debug, Default)]
struct State {
    asked: Vec<Asked>,
    wrong: Vec<String>,
    refused: Vec<String>,
    status: Option<u16>,
    is_silent: bool,
}

/// The server; it ends with the value.
#[derive(Debug)]
pub struct Embeddings {
    url: String,
    state: Arc<Mutex<State>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Embeddings {
    /// Starts it on a free port of the loopback interface.
    ///
    /// # Panics
    /// Where this machine has no loopback interface or no thread to give.
    pub fn start() -> Embeddings {
        let state = Arc::<Mutex<State>>::default();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.set_nonblocking(true).expect("a listener that does not block");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let (stop, stopped) = oneshot::channel();
        let shared = state.clone();
        let thread = thread::spawn(move || serve(listener, shared, stopped));
        Embeddings { url, state, stop: Some(stop), thread: Some(thread) }
    }

    /// Returns its address, as a configuration names it.
    pub fn base_url(&self) -> String {
        format!("{}/v1", self.url)
    }

    /// Refuses every request with a text that holds this word.
    pub fn refuse(&self, word: &str) {
        lock(&self.state).refused.push(word.to_owned());
    }

    /// Answers everything with this status from now on; `None`: as it should.
    pub fn fail(&self, status: Option<u16>) {
        lock(&self.state).status = status;
    }

    /// Answers nothing from now on.
    pub fn fall_silent(&self) {
        lock(&self.state).is_silent = true;
    }

    /// Returns how often it was asked.
    pub fn count(&self) -> usize {
        lock(&self.state).asked.len()
    }

    /// Ends it; answers with what was asked.
    ///
    /// # Panics
    /// When something was asked that is no request for vectors.
    #[track_caller]
    pub fn end(mut self) -> Vec<Asked> {
        self.stop();
        let state = std::mem::take(&mut *lock(&self.state));
        assert!(state.wrong.is_empty(), "the embedding model was asked:\n{}", state.wrong.join("\n"));
        state.asked
    }

    fn stop(&mut self) {
        // Dropped or sent: both end it.
        let _ = self.stop.take().map(|stop| stop.send(()));
        let _ = self.thread.take().map(thread::JoinHandle::join);
    }
}

impl Drop for Embeddings {
    fn drop(&mut self) {
        self.stop();
    }
}

fn lock(state: &Mutex<State>) -> std::sync::MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn serve(listener: std::net::TcpListener, state: Arc<Mutex<State>>, stopped: oneshot::Receiver<()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async move {
        let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
        let answer = move |method: Method, uri: Uri, headers: HeaderMap, body: Bytes| {
            let state = state.clone();
            async move {
                let (status, body) = answer(&state, &method, &uri, headers, &body);
                if lock(&state).is_silent {
                    std::future::pending::<()>().await;
                }
                (status, axum::Json(body)).into_response()
            }
        };
        let server = axum::serve(listener, Router::new().fallback(answer));
        tokio::select! {
            _ = server.into_future() => {}
            _ = stopped => {}
        }
    });
}

fn answer(
    state: &Mutex<State>,
    method: &Method,
    uri: &Uri,
    headers: HeaderMap,
    body: &[u8],
) -> (StatusCode, Value) {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let texts =
        body["input"].as_array().map(|list| list.iter().filter_map(Value::as_str).collect::<Vec<_>>());
    let mut state = lock(state);
    let is_good = *method == Method::POST && uri.path() == "/v1/embeddings" && body["model"].is_string();
    let Some(texts) = texts.filter(|texts| is_good && !texts.is_empty()) else {
        state.wrong.push(format!("{method} {uri} {body}"));
        return (StatusCode::NOT_FOUND, json!({ "error": { "message": "no request for vectors" } }));
    };
    state.asked.push(Asked { path: uri.path().to_owned(), headers, body: body.clone() });
    if let Some(status) = state.status.and_then(|status| StatusCode::from_u16(status).ok()) {
        return (status, json!({ "error": { "message": "told to fail" } }));
    }
    if texts.iter().any(|text| state.refused.iter().any(|word| text.contains(word))) {
        return (StatusCode::BAD_REQUEST, json!({ "error": { "message": "the input is too long" } }));
    }
    let one = |(index, text): (usize, &&str)| json!({ "index": index, "embedding": vector(text) });
    // Backwards: the order is told by the index, and by nothing else.
    let data: Vec<Value> = texts.iter().enumerate().rev().map(one).collect();
    (StatusCode::OK, json!({ "object": "list", "model": body["model"], "data": data }))
}

/// Returns the vector of a text, of length 1: its words' meanings count, its other words a little.
pub fn vector(text: &str) -> Vec<f32> {
    let mut numbers = vec![0.0_f32; NUMBERS];
    for word in text.to_lowercase().split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()) {
        match WORDS.iter().position(|same| same.contains(&word)) {
            Some(meaning) => numbers[meaning] += 1.0,
            None => {
                let hash =
                    word.bytes().fold(7_usize, |hash, byte| hash.wrapping_mul(31).wrapping_add(byte.into()));
                numbers[WORDS.len() + hash % (NUMBERS - WORDS.len())] += OTHER;
            }
        }
    }
    let length = numbers.iter().map(|number| number * number).sum::<f32>().sqrt();
    match length > 0.0 {
        true => numbers.iter_mut().for_each(|number| *number /= length),
        false => numbers[NUMBERS - 1] = 1.0,
    }
    numbers
}

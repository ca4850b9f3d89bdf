//! The HTTP door: `/api/v1`, one file below for each noun.
//!
//! Here live the routes, which follow from the operations, and the reading of what several of them take: names, durations,
//! texts. An operation is read, done and shown in one place, [`handle`]; who may ask is decided before, in `guard`.

mod agent;
mod backup;
mod checkpoint;
pub(crate) mod claim;
mod doctor;
mod event;
mod log;
pub(crate) mod memory;
pub(crate) mod message;
mod run;
mod status;
pub(crate) mod task;

use crate::ask::{Ask, Inputs};
use crate::caller::Caller;
use crate::desk::Desk;
use crate::openapi::{Document, schema_of};
use crate::problem::Failure;
use crate::tail::Tail;
use axum::body::Bytes;
use axum::extract::rejection::RawPathParamsRejection;
use axum::extract::{Extension, RawPathParams, RawQuery, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, on};
use axum::{Json, Router};
use quorate_model::config::{DURATION_LEAST_MS, LEASE_LEAST_MS};
use quorate_model::name::{check_agent, check_name};
use quorate_model::plan::TITLE_MAX;
use quorate_model::{Error, Result, duration};
use quorate_service::wire;
use schemars::{JsonSchema, Schema};
use serde::Serialize;
use serde_json::Value;
use std::pin::Pin;
use std::sync::Arc;
use tokio::sync::{OnceCell, Semaphore};

/// Where the operations are.
pub(crate) const BASE: &str = "/api/v1";
/// The longest that one request waits for something, in milliseconds: who has gone without a word keeps no place for longer.
pub(crate) const WAIT_MAX_MS: i64 = 60 * 60 * 1000;
/// The longest part of a wrong field's name that is repeated in an error, in characters.
const NAME_SHOWN_MAX: usize = 60;

/// What every handler has.
#[derive(Debug, Clone)]
pub(crate) struct App {
    /// The ledger and its team's rules.
    pub(crate) desk: Desk,
    /// The end of the log, read once somebody follows.
    tail: Arc<OnceCell<Tail>>,
    /// Places for copies of the ledger.
    copies: Arc<Semaphore>,
}

impl App {
    /// Makes what the handlers of a ledger's doors have.
    pub(crate) fn new(desk: Desk) -> App {
        App { desk, tail: Arc::default(), copies: Arc::new(Semaphore::new(backup::COPIES_MAX)) }
    }

    /// Returns the end of the log.
    ///
    /// # Errors
    /// `Unavailable` when the ledger cannot be read.
    pub(crate) async fn tail(&self) -> Result<&Tail> {
        self.tail.get_or_try_init(|| Tail::begin(self.desk.store().clone())).await
    }
}

/// The routes, and the document that describes them.
struct Doors {
    router: Router<App>,
    document: Document,
}

impl Doors {
    fn with<A: Ask>(mut self) -> Doors {
        self.document.add::<A>();
        let reads = A::METHOD == Method::GET;
        let operation = Operation { schema: Arc::new(schema_of::<A>()), reads, begin: begin::<A> };
        let handler = move |state, caller, path, query, headers, body| {
            handle(operation.clone(), state, caller, path, query, headers, body)
        };
        let method = MethodFilter::try_from(A::METHOD).expect("an operation has an ordinary method");
        self.router = self.router.route(&format!("{BASE}{}", A::PATH), on(method, handler));
        self
    }
}

fn doors() -> Doors {
    let doors = Doors { router: Router::new(), document: Document::new() };
    doors
        .with::<status::Status>()
        .with::<doctor::Doctor>()
        .with::<task::TaskList>()
        .with::<task::TaskAdd>()
        .with::<task::TaskNext>()
        .with::<task::TaskShow>()
        .with::<task::TaskOutput>()
        .with::<task::TaskProgress>()
        .with::<task::TaskDone>()
        .with::<task::TaskFail>()
        .with::<task::TaskCancel>()
        .with::<task::TaskRetry>()
        .with::<task::TaskReassign>()
        .with::<task::TaskUnpark>()
        .with::<run::RunList>()
        .with::<run::RunStart>()
        .with::<run::RunShow>()
        .with::<run::RunCancel>()
        .with::<run::RunApprove>()
        .with::<run::RunResume>()
        .with::<agent::AgentList>()
        .with::<agent::AgentAdd>()
        .with::<agent::AgentShow>()
        .with::<agent::AgentPause>()
        .with::<agent::AgentResume>()
        .with::<agent::AgentKill>()
        .with::<agent::AgentRemove>()
        .with::<agent::AgentToken>()
        .with::<agent::AgentTokensRevoke>()
        .with::<claim::ClaimList>()
        .with::<claim::ClaimTake>()
        .with::<claim::ClaimRelease>()
        .with::<message::MessageSend>()
        .with::<message::InboxShow>()
        .with::<message::InboxFetch>()
        .with::<log::LogLine>()
        .with::<memory::MemoryRemember>()
        .with::<memory::MemoryRecall>()
        .with::<memory::MemoryConsolidate>()
        .with::<memory::MemoryForget>()
        .with::<memory::ContextShow>()
        .with::<checkpoint::CheckpointSave>()
        .with::<checkpoint::CheckpointList>()
        .with::<checkpoint::CheckpointShow>()
}

impl Doors {
    fn document(self) -> (Router<App>, Value) {
        let Doors { router, mut document } = self;
        event::describe(&mut document);
        backup::describe(&mut document);
        (router, document.finish())
    }
}

/// Returns the OpenAPI document.
pub(crate) fn document() -> Value {
    doors().document().1
}

/// Returns all routes of the door.
pub(crate) fn router(app: App) -> Router {
    let (router, document) = doors().document();
    let text = Bytes::from(document.to_string());
    let show = move || std::future::ready(([(header::CONTENT_TYPE, "application/json")], text.clone()));
    router
        .route(&format!("{BASE}/events"), axum::routing::get(event::events))
        .route(&format!("{BASE}{}", backup::PATH), axum::routing::post(backup::backup))
        .route(&format!("{BASE}/openapi.json"), axum::routing::get(show))
        .method_not_allowed_fallback(no_method)
        .fallback(nothing_here)
        .with_state(app)
}

async fn nothing_here() -> Failure {
    let error = Error::not_found("there is nothing at this address")
        .hint(format!("{BASE}/openapi.json says what there is"));
    error.into()
}

/// Refuses a method that an address does not take.
pub(crate) async fn no_method(method: Method) -> Failure {
    let error = Error::invalid(format!("this address does not take {method}"));
    Failure::with(StatusCode::METHOD_NOT_ALLOWED, error)
}

/// All of an operation that differs from others: so the rest is compiled once.
#[derive(Clone)]
struct Operation {
    schema: Arc<Schema>,
    /// Whether its fields may stand in the query.
    reads: bool,
    begin: fn(Inputs<'_>, Desk, Caller) -> UnderWay,
}

/// An operation that is under way.
type UnderWay = Pin<Box<dyn Future<Output = Result<Value>> + Send>>;

fn begin<A: Ask>(inputs: Inputs<'_>, desk: Desk, by: Caller) -> UnderWay {
    let asked: Result<A> = inputs.read();
    Box::pin(async move { Ok(wire::value(asked?.answer(&desk, &by).await?)) })
}

async fn handle(
    operation: Operation,
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    path: Result<RawPathParams, RawPathParamsRejection>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let query = query.as_deref().unwrap_or_default();
    let answer = async {
        let path = path.map_err(|_| Error::invalid("a part of the address is no UTF-8"))?;
        let texts = path.iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
        let texts = texts.chain(pairs(query)).collect();
        if !operation.reads {
            must_be_bare(query)?;
        }
        must_be_json(&headers, &body)?;
        let inputs = Inputs { schema: &operation.schema, texts, body: &body };
        Ok::<_, Failure>((operation.begin)(inputs, app.desk, caller).await?)
    };
    match answer.await {
        Ok(answer) => Json(answer).into_response(),
        Err(failure) => failure.into_response(),
    }
}

/// A page of another site can send a form, but not JSON, without asking first.
fn must_be_json(headers: &HeaderMap, body: &Bytes) -> Result<(), Failure> {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    if body.is_empty() || kind.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    let error = Error::invalid("the body is not said to be JSON").hint("Content-Type: application/json");
    Err(Failure::with(StatusCode::UNSUPPORTED_MEDIA_TYPE, error))
}

/// What changes something takes its fields from the body, which a page of another site cannot send.
pub(crate) fn must_be_bare(query: &str) -> Result<()> {
    let Some((name, _)) = pairs(query).next() else { return Ok(()) };
    let name: String = name.chars().take(NAME_SHOWN_MAX).collect();
    Err(Error::invalid(format!(
        "`{name}` stands in the query, and only what is read with GET takes fields there"
    ))
    .hint("send it in the body, with Content-Type: application/json"))
}

/// Returns the names and values of a query.
pub(crate) fn pairs(query: &str) -> impl Iterator<Item = (String, String)> {
    form_urlencoded::parse(query.as_bytes()).map(|(name, value)| (name.into_owned(), value.into_owned()))
}

/// The number of something new
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Id {
    /// Its id
    pub(crate) id: i64,
}

/// Says which field an error is about.
pub(crate) fn field<T>(name: &str, read: Result<T>) -> Result<T> {
    read.map_err(|error| Error { message: format!("`{name}`: {}", error.message), ..error })
}

/// Reads a name.
pub(crate) fn name_of(name: &str, text: String) -> Result<String> {
    field(name, check_name(name, &text).map(|()| text))
}

/// Reads the name of an agent of the team.
pub(crate) fn agent_of(name: &str, text: String) -> Result<String> {
    field(name, check_agent(&text).map(|()| text))
}

/// Reads a duration of at least 100 ms, in milliseconds.
pub(crate) fn duration_of(name: &str, text: &str) -> Result<i64> {
    at_least(name, text, DURATION_LEAST_MS)
}

/// Reads how long a lease lasts: at least 1 s, in milliseconds.
pub(crate) fn lease_of(name: &str, text: &str) -> Result<i64> {
    at_least(name, text, LEASE_LEAST_MS)
}

/// Reads how long to wait, in milliseconds: at most 1 h.
pub(crate) fn wait_of(name: &str, text: &str) -> Result<i64> {
    let ms = field(name, duration::parse(text))?;
    if ms > WAIT_MAX_MS {
        let message = format!("`{name}` is longer than {}", duration::short(WAIT_MAX_MS));
        return Err(Error::invalid(message).hint("ask again when it is over"));
    }
    Ok(ms)
}

fn at_least(name: &str, text: &str, least_ms: i64) -> Result<i64> {
    let ms = field(name, duration::parse(text))?;
    if ms >= least_ms {
        return Ok(ms);
    }
    Err(Error::invalid(format!("`{name}` is shorter than {}", duration::short(least_ms))))
}

/// Reads a text with at least one word.
pub(crate) fn words_of(name: &str, text: String) -> Result<String> {
    if text.trim().is_empty() { Err(Error::invalid(format!("`{name}` is empty"))) } else { Ok(text) }
}

/// Reads texts, none of them empty.
pub(crate) fn texts_of(name: &str, texts: Vec<String>) -> Result<Vec<String>> {
    texts.into_iter().map(|text| words_of(name, text)).collect()
}

/// Reads one line that says what something is about.
pub(crate) fn title_of(title: &str) -> Result<String> {
    let title = title.trim();
    let wrong = |why: &str| Err(Error::invalid(format!("`title` {why}")));
    if title.is_empty() {
        return wrong("is empty");
    }
    if title.chars().any(char::is_control) {
        return wrong("is one line without control characters; put more into `prompt`");
    }
    if title.chars().count() > TITLE_MAX {
        return wrong(&format!("has more than {TITLE_MAX} characters"));
    }
    Ok(title.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_waits_for_an_hour_at_most() {
        assert_eq!(wait_of("wait", "1h"), Ok(WAIT_MAX_MS));
        let error = wait_of("wait", "3600001ms").expect_err("too long");
        assert_eq!(error.message, "`wait` is longer than 1h");
    }
}

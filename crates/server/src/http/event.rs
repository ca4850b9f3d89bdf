//! The log: one page, or as it grows.
//!
//! Whoever follows gets server-sent events, each with its place as `id`: a browser says by itself, with `Last-Event-ID`,
//! where it goes on. Whoever asks for JSON gets one page.

use super::{App, field, pairs};
use crate::ask::Inputs;
use crate::clock::now_ms;
use crate::desk::resource;
use crate::openapi::{Document, schema_of};
use crate::problem::Failure;
use crate::tail::Follower;
use axum::Json;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use quorate_model::at::At;
use quorate_model::{Error, EventKind, Kind, Result, RunId, Seq, TaskId};
use quorate_service::event::{After, Filter, PAGE_MAX};
use quorate_service::wire::{self, shapes};
use schemars::{JsonSchema, Schema};
use serde::{Deserialize, Serialize};
use std::convert::Infallible;
use std::sync::LazyLock;
use std::time::Duration;

/// A comment is sent this often where nothing happens, so that what stands in between does not close the line.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// How long a follower rests when the ledger cannot be read.
const AWAY: Duration = Duration::from_secs(1);

/// What the inputs are.
static SCHEMA: LazyLock<Schema> = LazyLock::new(schema_of::<Events>);

/// Which events are wanted
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Events {
    /// Only after this place; from the first kept if not said
    after: Option<i64>,
    /// Only of this agent
    agent: Option<String>,
    /// Only of this resource
    resource: Option<String>,
    /// Only of this kind
    kind: Option<String>,
    /// Only of this task
    task_id: Option<i64>,
    /// Only of this run
    run_id: Option<i64>,
    /// Only since this time, or so long ago
    since: Option<String>,
}

/// A page of the log
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Page {
    /// The events, in order
    events: Vec<wire::Event>,
    /// The place up to which the log was looked at: go on after it
    seen: i64,
}

/// Describes the operation, which answers in two ways.
pub(crate) fn describe(document: &mut Document) {
    let about = "Events from the log: as they come (text/event-stream), or one page (application/json)";
    document.add_stream::<Events, Page>("/events", "events", about);
}

pub(crate) async fn events(
    State(app): State<App>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let texts = pairs(query.as_deref().unwrap_or_default()).collect();
    let asked: Events = Inputs { schema: &SCHEMA, texts, body: &[] }.read()?;
    let said = headers.get("last-event-id").and_then(|id| id.to_str().ok()).filter(|id| !id.is_empty());
    let after = match said.map(str::parse::<i64>) {
        Some(Ok(seq)) => Some(seq),
        Some(Err(_)) => return Err(Error::invalid("Last-Event-ID is no place in the log").into()),
        None => asked.after,
    };
    let filter = filter(&app, asked)?;
    let accept = headers.get(header::ACCEPT).and_then(|kinds| kinds.to_str().ok()).unwrap_or_default();
    if accept.contains("application/json") && !accept.contains("text/event-stream") {
        let page = After { seq: after.map(Seq), filter, limit: PAGE_MAX };
        let page = app.desk.store().read(page).await?;
        return Ok(Json(Page { events: shapes(&page.events), seen: page.seen.0 }).into_response());
    }
    let follower = app.tail().await?.follow(after.map(Seq), filter);
    Ok(Sse::new(follow(follower)).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response())
}

fn filter(app: &App, asked: Events) -> Result<Filter> {
    let known = |kind: String| {
        let found = EventKind::ALL.iter().any(|known| known.as_str() == kind);
        if found {
            Ok(kind)
        } else {
            Err(Error::invalid("no kind of event").hint("docs/events.md has all kinds"))
        }
    };
    let since = asked.since.map(|text| field("since", At::parse(&text))).transpose()?.map(|at| match at {
        At::Time(ms) => ms,
        At::After(ms) => now_ms() - ms,
    });
    Ok(Filter {
        agent: asked.agent,
        resource: asked
            .resource
            .map(|name| field("resource", resource(&name, app.desk.folder())))
            .transpose()?,
        kind: asked.kind.map(|kind| field("kind", known(kind))).transpose()?,
        task: asked.task_id.map(TaskId),
        run: asked.run_id.map(RunId),
        since,
    })
}

/// Tells what comes, for ever. When the ledger is away it goes on as soon as it is back; when what was asked for has
/// expired, it says so and ends.
fn follow(follower: Follower) -> impl futures_util::Stream<Item = Result<Event, Infallible>> {
    let waiting: Vec<Event> = Vec::new();
    stream::unfold((Some(follower), waiting.into_iter()), |(mut follower, mut waiting)| async move {
        loop {
            if let Some(event) = waiting.next() {
                return Some((Ok(event), (follower, waiting)));
            }
            let following = follower.as_mut()?;
            match following.next().await {
                Ok(events) => {
                    let told: Vec<Event> =
                        events.iter().map(|event| shown(&wire::Event::from(&**event))).collect();
                    waiting = told.into_iter();
                }
                Err(error) if error.kind == Kind::Unavailable => tokio::time::sleep(AWAY).await,
                Err(error) => {
                    follower = None;
                    let told = Event::default().event("error").data(error.message.replace(['\r', '\n'], " "));
                    waiting = vec![told].into_iter();
                }
            }
        }
    })
}

fn shown(event: &wire::Event) -> Event {
    let text = wire::value(event).to_string();
    Event::default().id(event.seq.to_string()).event(event.kind.clone()).data(text)
}

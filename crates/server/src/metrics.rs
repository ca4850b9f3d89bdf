//! What a monitor asks: is it ready, and how much is there.
//!
//! Here live `/ready` and `/metrics`, the latter in Prometheus' text format 0.0.4. Both ask the ledger: a node that cannot
//! reach it is not ready. They say no names but those of states, so they are open to whoever reaches the address.

use crate::desk::Desk;
use crate::problem::Failure;
use axum::Router;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use quorate_model::{Error, Result, TaskState};
use quorate_service::view::{Overview, Status};
use std::fmt::Write;
use std::time::Duration;

/// How long the ledger may take to answer before it counts as away.
const PATIENCE: Duration = Duration::from_secs(2);
/// The format's media type.
const MEDIA_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

pub(crate) fn routes(desk: Desk) -> Router {
    Router::new().route("/ready", get(ready)).route("/metrics", get(metrics)).with_state(desk)
}

async fn look(desk: &Desk) -> Result<Overview> {
    let look = tokio::time::timeout(PATIENCE, desk.store().read(Status)).await;
    look.unwrap_or_else(|_| Err(Error::unavailable("the ledger does not answer")))
}

async fn ready(State(desk): State<Desk>) -> Result<&'static str, Failure> {
    look(&desk).await?;
    Ok("ready\n")
}

async fn metrics(State(desk): State<Desk>) -> Result<Response, Failure> {
    let text = shown(&look(&desk).await?);
    Ok(([(header::CONTENT_TYPE, MEDIA_TYPE)], text).into_response())
}

fn shown(overview: &Overview) -> String {
    let mut text = String::new();
    let counted = |name: &str| overview.counts.iter().find(|(state, _)| state == name).map_or(0, |(_, n)| *n);
    family(&mut text, "quorate_tasks", "Tasks in the ledger, by state.");
    for state in TaskState::ALL {
        gauge(&mut text, "quorate_tasks", state.as_str(), counted(state.as_str()));
    }
    let agents =
        |name: &str| overview.agents.iter().filter(|view| view.state.as_str() == name).count() as i64;
    family(&mut text, "quorate_agents", "Members of the team, by state.");
    for state in quorate_model::agent::AgentState::ALL {
        gauge(&mut text, "quorate_agents", state.as_str(), agents(state.as_str()));
    }
    let runs = |name: &str| overview.runs.iter().filter(|view| view.run.state == name).count() as i64;
    family(&mut text, "quorate_runs", "Runs in the ledger, by state.");
    for state in ["running", "completed", "failed", "cancelled"] {
        gauge(&mut text, "quorate_runs", state, runs(state));
    }
    counter(&mut text, "quorate_used_tokens_total", "Tokens that agents have used, but those from a cache.");
    let _ = writeln!(text, "quorate_used_tokens_total {}", overview.spent.tokens);
    counter(
        &mut text,
        "quorate_used_usd_total",
        "Dollars that agents have used, as far as prices are known.",
    );
    let _ =
        writeln!(text, "quorate_used_usd_total {}", quorate_service::wire::usd(overview.spent.usd_micros));
    text
}

fn family(text: &mut String, name: &str, help: &str) {
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} gauge");
}

fn counter(text: &mut String, name: &str, help: &str) {
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} counter");
}

fn gauge(text: &mut String, name: &str, state: &str, value: i64) {
    let _ = writeln!(text, "{name}{{state=\"{state}\"}} {value}");
}

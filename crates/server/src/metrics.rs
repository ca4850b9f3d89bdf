//! What a monitor asks: is it ready, and how much is there.
//!
//! Here live `/ready` and `/metrics`, the latter in Prometheus' text format 0.0.4. Both ask the ledger: a node that cannot
//! reach it is not ready. They say no names but those of states, so they are open to whoever reaches the address; what the
//! ledger said stands for a second, so that whoever asks more often costs nobody anything.

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
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::Instant;

/// How long the ledger may take to answer before it counts as away.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long what the ledger said stands.
const STANDS: Duration = Duration::from_secs(1);
/// The format's media type.
const MEDIA_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

pub(crate) fn routes(desk: Desk) -> Router {
    let monitor = Monitor { desk, last: Arc::default() };
    Router::new().route("/ready", get(ready)).route("/metrics", get(metrics)).with_state(monitor)
}

/// Who looks, for all who ask.
#[derive(Debug, Clone)]
struct Monitor {
    desk: Desk,
    last: Arc<Mutex<Option<Look>>>,
}

/// What the ledger said, and when.
#[derive(Debug)]
struct Look {
    at: Instant,
    said: Result<Arc<Overview>>,
}

impl Monitor {
    /// Looks, unless somebody has done so just now. Who asks meanwhile waits for the same answer.
    async fn look(&self) -> Result<Arc<Overview>> {
        let mut last = self.last.lock().await;
        if let Some(look) = last.as_ref().filter(|look| look.at.elapsed() < STANDS) {
            return look.said.clone();
        }
        let look = tokio::time::timeout(PATIENCE, self.desk.store().read(Status)).await;
        let said = look.unwrap_or_else(|_| Err(Error::unavailable("the ledger does not answer")));
        let said = said.map(Arc::new);
        *last = Some(Look { at: Instant::now(), said: said.clone() });
        said
    }
}

async fn ready(State(monitor): State<Monitor>) -> Result<&'static str, Failure> {
    monitor.look().await?;
    Ok("ready\n")
}

async fn metrics(State(monitor): State<Monitor>) -> Result<Response, Failure> {
    let text = shown(&*monitor.look().await?);
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

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_model::config::Config;
    use quorate_testkit::ledger::{Backend, TestLedger, run};
    use quorate_testkit::verbs::command;

    async fn looks_once_for_all(ledger: TestLedger) -> Result<()> {
        let desk = Desk::new(ledger.store.clone(), Arc::new(Config::default()), "/project".into());
        let monitor = Monitor { desk, last: Arc::default() };
        let first = monitor.look().await?;
        ledger.add(command("one")).await?;
        let set = async |at: Instant| monitor.last.lock().await.as_mut().expect("it has looked").at = at;
        set(Instant::now() + STANDS).await;
        assert!(Arc::ptr_eq(&first, &monitor.look().await?), "what was said stands");
        set(Instant::now().checked_sub(STANDS).expect("the machine is up for longer")).await;
        assert!(shown(&*monitor.look().await?).contains("quorate_tasks{state=\"ready\"} 1"));
        Ok(())
    }

    #[test]
    fn the_ledger_is_read_once_for_all_who_ask() {
        run(Backend::Lite, looks_once_for_all);
    }
}

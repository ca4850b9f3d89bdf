//! `quorate statusline`: one line for the foot of Claude Code, and a note of how full the context is.
//!
//! Here lives what Claude Code tells of model, context and cost, and the words of the line. It never fails: what is not known
//! is left out. A full context has its checkpoint saved, and is cleared where that can be done.

use super::input::Input;
use super::session;
use crate::place::Place;
use crate::print;
use quorate_model::Result;
use quorate_model::config::CLEAR_NEVER;
use quorate_service::session::{Find, Report, Session};
use quorate_service::view::{RunView, Runs};
use quorate_store::Store;
use std::time::Duration;

/// How long the line waits for the ledger.
const PATIENCE: Duration = Duration::from_millis(800);
/// What is the same as before is noted again after so long, as a sign of life.
const SAME_MS: i64 = 10_000;
/// Millionths of a dollar that are worth a note: a cent.
const CENT: i64 = 10_000;

pub(crate) async fn statusline() -> Result<u8> {
    let input = match Input::read() {
        Ok(input) => input,
        Err(error) => {
            print::note(&format!("quorate statusline: {}", print::one_line(&error.message)));
            return Ok(0);
        }
    };
    let usage = Usage::of(&input);
    let run = match tokio::time::timeout(PATIENCE, from_ledger(&input, &usage)).await {
        Ok(Ok(run)) => run,
        Ok(Err(error)) => {
            print::note(&format!("quorate statusline: {}", print::one_line(&error.message)));
            None
        }
        Err(_) => None,
    };
    print::text(&line(run, &usage));
    Ok(0)
}

/// What Claude Code knows of its session.
#[derive(Debug, Clone, Default, PartialEq)]
struct Usage {
    model: Option<String>,
    percent: Option<i64>,
    tokens: Option<i64>,
    window: Option<i64>,
    usd_micros: Option<i64>,
}

impl Usage {
    fn of(input: &Input) -> Usage {
        let part =
            |name: &str| input.integer(&format!("/context_window/current_usage/{name}")).filter(|n| *n >= 0);
        let parts = ["input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens"].map(part);
        let tokens = parts.iter().flatten().copied().reduce(i64::saturating_add);
        let percent = input.number("/context_window/used_percentage").filter(|n| (0.0..=1_000.0).contains(n));
        let usd = input.number("/cost/total_cost_usd").filter(|usd| (0.0..=1e9).contains(usd));
        Usage {
            model: input.text("/model/id").or_else(|| input.text("/model/display_name")).map(str::to_owned),
            percent: percent.map(|percent| percent.round() as i64),
            tokens,
            window: input.integer("/context_window/context_window_size").filter(|size| *size > 0),
            usd_micros: usd.map(|usd| (usd * 1e6).round() as i64),
        }
    }

    /// Returns whether it says more than what is stored.
    fn is_news(&self, session: &Session) -> bool {
        let differs = |new: Option<i64>, old: Option<i64>| new.is_some() && new != old;
        let cents = |micros: Option<i64>| micros.map(|micros| micros / CENT);
        differs(self.percent, session.used_percent)
            || differs(self.window, session.window_tokens)
            || differs(cents(self.usd_micros), cents(session.usd_micros))
            || (self.model.is_some() && self.model != session.model)
            || session.is_silent_for(SAME_MS)
    }
}

/// Notes the usage, does what a full context asks for, and returns the words about the run.
async fn from_ledger(input: &Input, usage: &Usage) -> Result<Option<String>> {
    let place = input.place()?;
    let Some(store) = place.look().await? else { return Ok(None) };
    let run = store.read(Runs { open: true }).await.map(|runs| words(&runs));
    if let Some(name) = input.text("/session_id")
        && !super::me::is_supervised()
    {
        note(&place, &store, name, usage).await?;
    }
    place.close().await;
    run
}

async fn note(place: &Place, store: &Store, name: &str, usage: &Usage) -> Result<()> {
    let clear_at = place.config.orchestrator.clear_at;
    // A session that no hook has begun has no agent yet, so there is nobody to note it for.
    let Some(session) = store.read(Find::Name(name.to_owned())).await? else { return Ok(()) };
    let session = if usage.is_news(&session) {
        let report = Report {
            id: session.id,
            model: usage.model.clone(),
            used_percent: usage.percent,
            used_tokens: usage.tokens,
            window_tokens: usage.window,
            usd_micros: usage.usd_micros,
            full_at: if clear_at == CLEAR_NEVER { i64::MAX } else { clear_at },
        };
        let Some(told) = store.write(report).await? else { return Ok(()) };
        if told.filled {
            session::checkpoint(place, store, &told.session, "the context is full").await?;
        }
        told.session
    } else {
        session
    };
    session::clear(place, &session)
}

/// The run that goes on, the newest first: `run 3: 12/20 done, 2 running, 1 failed`.
fn words(runs: &[RunView]) -> Option<String> {
    let newest = runs.last()?;
    let count = |states: &[&str]| -> i64 {
        newest.counts.iter().filter(|(state, _)| states.contains(&state.as_str())).map(|(_, n)| n).sum()
    };
    let all: i64 = newest.counts.iter().map(|(_, n)| n).sum();
    let mut words = format!("run {}: {}/{all} done", newest.run.id, count(&["completed"]));
    for (n, what) in [
        (count(&["running", "verifying"]), "running"),
        (count(&["failed"]), "failed"),
        (count(&["parked"]), "parked"),
    ] {
        if n > 0 {
            words.push_str(&format!(", {n} {what}"));
        }
    }
    if runs.len() > 1 {
        words.push_str(&format!(" (and {} more runs)", runs.len() - 1));
    }
    Some(words)
}

fn line(run: Option<String>, usage: &Usage) -> String {
    let context = usage.percent.map(|percent| format!("{percent} % context"));
    let cost = usage.usd_micros.map(|micros| format!("${:.2}", micros as f64 / 1e6));
    let parts: Vec<String> = [run, context, cost].into_iter().flatten().collect();
    if parts.is_empty() { "quorate: no run".into() } else { parts.join(" · ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_what_is_known() {
        let usage = Usage { percent: Some(41), usd_micros: Some(1_204_000), ..Usage::default() };
        let run = || Some("run 3: 1/2 done".to_owned());
        assert_eq!(line(run(), &usage), "run 3: 1/2 done · 41 % context · $1.20");
        assert_eq!(line(None, &usage), "41 % context · $1.20");
        assert_eq!(line(run(), &Usage::default()), "run 3: 1/2 done");
        assert_eq!(line(None, &Usage::default()), "quorate: no run");
    }
}

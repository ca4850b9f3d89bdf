//! The loop that follows the log and tells the collector.
//!
//! Here live the rhythm, the election and what happens while the collector is away: what is not heard is said again, up to
//! a limit, and then it is lost. The work of the team never waits for it. What no collector has taken by the end is counted and
//! told.

use crate::metric::Sums;
use crate::names;
use crate::post::{Lost, post};
use crate::proto::{
    KeyValue, Metric, Metrics, Resource, ResourceMetrics, ResourceSpans, Scope, ScopeMetrics, ScopeSpans,
    Span, Traces, attribute,
};
use crate::settings::Settings;
use crate::span::Reader;
use prost::Message;
use quorate_model::{Result, Seq};
use quorate_service::event::{After, Filter, Latest, Logged};
use quorate_service::node::Lead;
use quorate_service::view::Pulse;
use quorate_store::Store;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// What only one node does at a time.
const DUTY: &str = "telemetry";
/// How long another waits after the exporting node has died.
const LEASE_MS: i64 = 30_000;
/// How often the log is looked at without a hint, and at most.
const LOOK_EVERY: Duration = Duration::from_secs(5);
const LOOK_LEAST: Duration = Duration::from_millis(200);
/// Spans that are sent at once; so many are sent before it is time.
const BATCH: usize = 512;
/// Spans that wait for a collector that is away; older ones are lost.
const SPANS_MAX: usize = 8_192;
/// Events that are read at once.
const PAGE: i64 = 1_000;
/// How long the last words may take.
const LAST_WORDS: Duration = Duration::from_secs(3);

/// An exporter at work.
#[derive(Debug)]
pub struct Exporter {
    stop: oneshot::Sender<()>,
    done: JoinHandle<()>,
    /// Spans that no collector has taken, also when the last words take too long.
    missing: Arc<AtomicUsize>,
    notices: mpsc::Sender<String>,
}

impl Exporter {
    /// Begins to export what happened since a place in the log, and what happens from now on, as a part of node `node`: the
    /// node may have begun to work by now. Where another node exports, that one has told of it. Troubles are told to `notices`.
    pub async fn start(
        store: Store,
        settings: Settings,
        (node, ledger): (i64, String),
        since: Seq,
        notices: mpsc::Sender<String>,
    ) -> Exporter {
        let (stop, stopped) = oneshot::channel();
        let missing = Arc::new(AtomicUsize::new(0));
        let mut work = Work {
            store,
            settings,
            node,
            reader: Reader::new(ledger),
            seen: Some(since),
            waiting: Waiting { spans: Vec::new(), missing: Arc::clone(&missing) },
            sums: Sums::default(),
            metrics: Vec::new(),
            is_away: false,
            is_last: false,
            notices: notices.clone(),
        };
        // It exports from now on, not from a little later. A ledger that is away is told of by the node.
        let _ = work.look().await;
        Exporter { stop, done: tokio::spawn(work.run(stopped)), missing, notices }
    }

    /// Sends what is left and ends; tells `notices` how many spans no collector has taken.
    pub async fn end(self) {
        let _ = self.stop.send(());
        let abort = self.done.abort_handle();
        if tokio::time::timeout(LAST_WORDS, self.done).await.is_err() {
            abort.abort();
        }
        if let Some(notice) = missing_words(self.missing.load(Ordering::Relaxed)) {
            // Nobody who watches, or one who is too slow, must not hold it up.
            let _ = self.notices.try_send(notice);
        }
    }
}

fn missing_words(count: usize) -> Option<String> {
    match count {
        0 => None,
        1 => Some("telemetry: 1 span was not delivered".into()),
        count => Some(format!("telemetry: {count} spans were not delivered")),
    }
}

/// Spans that wait to be sent.
#[derive(Debug, Default)]
struct Waiting {
    spans: Vec<Span>,
    /// Those that no collector has taken: what waits here, and what was given up.
    missing: Arc<AtomicUsize>,
}

impl Waiting {
    /// Adds one. The oldest are given up when there are too many.
    fn push(&mut self, span: Span) {
        if self.spans.len() >= SPANS_MAX {
            self.spans.drain(..BATCH);
        }
        self.spans.push(span);
        self.missing.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns those that are sent next.
    fn next(&self) -> &[Span] {
        &self.spans[..self.spans.len().min(BATCH)]
    }

    /// Says that so many of them are not to be sent again: taken by a collector, or refused for good.
    fn pass(&mut self, count: usize, is_taken: bool) {
        self.spans.drain(..count);
        if is_taken {
            self.missing.fetch_sub(count, Ordering::Relaxed);
        }
    }
}

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// A collector has it.
    Taken,
    /// It is said again.
    Waits,
    /// It is of no use to say it again.
    Refused,
}

struct Work {
    store: Store,
    settings: Settings,
    node: i64,
    reader: Reader,
    /// The place in the log up to which it has read; `None` while another node exports.
    seen: Option<Seq>,
    waiting: Waiting,
    sums: Sums,
    /// What could not be sent yet.
    metrics: Vec<Metric>,
    is_away: bool,
    /// Nothing is tried again after what is sent now.
    is_last: bool,
    notices: mpsc::Sender<String>,
}

impl Work {
    async fn run(mut self, mut stopped: oneshot::Receiver<()>) {
        let mut changes = self.store.changes();
        let mut due = Instant::now() + self.settings.send_every;
        loop {
            // A ledger that is away is told of by the node.
            let _ = self.look().await;
            if Instant::now() >= due || self.waiting.spans.len() >= BATCH {
                // A collector that takes long to answer must not take the time of the last words. What was on its way is sent
                // again with them.
                tokio::select! {
                    () = self.send() => {}
                    _ = &mut stopped => break,
                }
                due = Instant::now() + self.settings.send_every;
            }
            let pause = LOOK_EVERY.min(due.saturating_duration_since(Instant::now()));
            let rest = async {
                tokio::time::sleep(LOOK_LEAST).await;
                changes.wait(pause.saturating_sub(LOOK_LEAST)).await;
            };
            tokio::select! {
                () = rest => {}
                _ = &mut stopped => break,
            }
        }
        self.is_last = true;
        let _ = self.look().await;
        self.send().await;
    }

    /// Reads what is new in the log, if this node is the one that exports.
    async fn look(&mut self) -> Result<()> {
        let lead = Lead { duty: DUTY, node: self.node, lease_ms: LEASE_MS };
        if self.store.write(lead).await?.is_none() {
            self.seen = None;
            return Ok(());
        }
        let mut seen = match self.seen {
            Some(seen) => seen,
            None => self.store.read(Latest).await?,
        };
        self.seen = Some(seen);
        loop {
            let after = After { seq: Some(seen), filter: Filter::default(), limit: PAGE };
            let page = match self.store.read(after).await {
                Ok(page) => page,
                Err(error) => {
                    // What is next is gone, or the ledger is away: it begins anew at the end of the log.
                    self.seen = None;
                    return Err(error);
                }
            };
            for event in &page.events {
                self.hear(event).await;
            }
            seen = page.seen;
            self.seen = Some(seen);
            if (page.events.len() as i64) < PAGE {
                return Ok(());
            }
        }
    }

    async fn hear(&mut self, event: &Logged) {
        if let Some(id) = self.reader.unknown_run(event) {
            // A run may be gone already.
            if let Ok(pulse) = self.store.read(Pulse { id, node: None }).await {
                self.reader.know(id, pulse.run.created_at);
            }
        }
        let Some(told) = self.reader.read(event) else { return };
        if let Some(attempt) = &told.attempt {
            self.sums.add(attempt);
        }
        self.waiting.push(told.span);
    }

    async fn send(&mut self) {
        self.metrics.extend(self.sums.take());
        loop {
            let spans = self.waiting.next().to_vec();
            let count = spans.len();
            if count == 0 {
                break;
            }
            let body = traces(&self.settings, spans).encode_to_vec();
            match self.tell("/v1/traces", body).await {
                Fate::Taken => self.waiting.pass(count, true),
                Fate::Refused => self.waiting.pass(count, false),
                Fate::Waits => break,
            }
        }
        if !self.metrics.is_empty() {
            let body = metrics(&self.settings, self.metrics.clone()).encode_to_vec();
            match self.tell("/v1/metrics", body).await {
                Fate::Taken | Fate::Refused => self.metrics.clear(),
                Fate::Waits if self.metrics.len() > SPANS_MAX => self.metrics.clear(),
                Fate::Waits => {}
            }
        }
    }

    /// Sends; answers what became of it. Says once when the collector is away, and once when it is back.
    async fn tell(&mut self, path: &str, body: Vec<u8>) -> Fate {
        match post(&self.settings, path, body).await {
            Ok(()) => {
                if std::mem::take(&mut self.is_away) {
                    self.say("telemetry: the collector answers again".into());
                }
                Fate::Taken
            }
            Err(Lost::Later(why)) => {
                let next = if self.is_last { "" } else { "; trying again" };
                if !std::mem::replace(&mut self.is_away, true) {
                    self.say(format!("telemetry: the collector cannot be reached: {why}{next}"));
                }
                Fate::Waits
            }
            Err(Lost::Refused(why)) => {
                self.say(format!("telemetry: the collector refuses {path}: {why}"));
                Fate::Refused
            }
        }
    }

    fn say(&self, notice: String) {
        // Nobody who watches, or one who is too slow, must not hold it up.
        let _ = self.notices.try_send(notice);
    }
}

fn resource(settings: &Settings) -> Option<Resource> {
    let own = attribute(names::SERVICE_VERSION, env!("CARGO_PKG_VERSION"));
    let pairs = settings.resource.iter().map(|(key, value)| attribute(key, value.as_str()));
    let attributes: Vec<KeyValue> = pairs.chain([own]).collect();
    Some(Resource { attributes })
}

fn scope() -> Option<Scope> {
    Some(Scope { name: names::SCOPE.to_owned(), version: env!("CARGO_PKG_VERSION").to_owned() })
}

fn traces(settings: &Settings, spans: Vec<Span>) -> Traces {
    let scope_spans = vec![ScopeSpans { scope: scope(), spans }];
    let schema_url = names::SCHEMA.to_owned();
    Traces { resource_spans: vec![ResourceSpans { resource: resource(settings), scope_spans, schema_url }] }
}

fn metrics(settings: &Settings, metrics: Vec<Metric>) -> Metrics {
    let scope_metrics = vec![ScopeMetrics { scope: scope(), metrics }];
    let schema_url = names::SCHEMA.to_owned();
    Metrics {
        resource_metrics: vec![ResourceMetrics { resource: resource(settings), scope_metrics, schema_url }],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_collector_has_taken_is_counted() {
        let missing = |waiting: &Waiting| waiting.missing.load(Ordering::Relaxed);
        let mut waiting = Waiting::default();
        (0..SPANS_MAX + 1).for_each(|_| waiting.push(Span::default()));
        assert_eq!((waiting.spans.len(), missing(&waiting)), (SPANS_MAX + 1 - BATCH, SPANS_MAX + 1));
        assert_eq!(waiting.next().len(), BATCH);
        waiting.pass(BATCH, false);
        while !waiting.spans.is_empty() {
            waiting.pass(waiting.next().len(), true);
        }
        assert_eq!(missing(&waiting), 2 * BATCH, "given up, and refused");
        assert_eq!(waiting.next().len(), 0);
    }

    #[test]
    fn one_span_is_not_many() {
        assert_eq!(missing_words(0), None);
        assert_eq!(missing_words(1).as_deref(), Some("telemetry: 1 span was not delivered"));
        assert_eq!(missing_words(7).as_deref(), Some("telemetry: 7 spans were not delivered"));
    }
}

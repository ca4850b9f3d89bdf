//! The loop that follows the log and tells the collector.
//!
//! Here live the rhythm, the election and what happens while the collector is away: what is not heard is said again, up to
//! a limit, and then it is lost. The work of the team never waits for it.

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
}

impl Exporter {
    /// Begins to export what happens from now on, as a part of node `node`. Troubles are told to `notices`.
    pub async fn start(
        store: Store,
        settings: Settings,
        (node, ledger): (i64, String),
        notices: mpsc::Sender<String>,
    ) -> Exporter {
        let (stop, stopped) = oneshot::channel();
        let mut work = Work {
            store,
            settings,
            node,
            reader: Reader::new(ledger),
            seen: None,
            spans: Vec::new(),
            sums: Sums::default(),
            metrics: Vec::new(),
            is_away: false,
            notices,
        };
        // From now on, not from a little later. A ledger that is away is told of by the node.
        let _ = work.look().await;
        Exporter { stop, done: tokio::spawn(work.run(stopped)) }
    }

    /// Sends what is left and ends.
    pub async fn end(self) {
        let _ = self.stop.send(());
        let abort = self.done.abort_handle();
        if tokio::time::timeout(LAST_WORDS, self.done).await.is_err() {
            abort.abort();
        }
    }
}

struct Work {
    store: Store,
    settings: Settings,
    node: i64,
    reader: Reader,
    /// The place in the log up to which it has read; `None` while another node exports.
    seen: Option<Seq>,
    spans: Vec<Span>,
    sums: Sums,
    /// What could not be sent yet.
    metrics: Vec<Metric>,
    is_away: bool,
    notices: mpsc::Sender<String>,
}

impl Work {
    async fn run(mut self, mut stopped: oneshot::Receiver<()>) {
        let mut changes = self.store.changes();
        let mut due = Instant::now() + self.settings.send_every;
        loop {
            // A ledger that is away is told of by the node.
            let _ = self.look().await;
            if Instant::now() >= due || self.spans.len() >= BATCH {
                self.send().await;
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
        if self.spans.len() >= SPANS_MAX {
            self.spans.drain(..BATCH);
        }
        self.spans.push(told.span);
    }

    async fn send(&mut self) {
        self.metrics.extend(self.sums.take());
        while !self.spans.is_empty() {
            let count = self.spans.len().min(BATCH);
            let body = traces(&self.settings, self.spans[..count].to_vec()).encode_to_vec();
            if !self.arrives("/v1/traces", body).await {
                break;
            }
            self.spans.drain(..count);
        }
        if !self.metrics.is_empty() {
            let body = metrics(&self.settings, self.metrics.clone()).encode_to_vec();
            if self.arrives("/v1/metrics", body).await || self.metrics.len() > SPANS_MAX {
                self.metrics.clear();
            }
        }
    }

    /// Sends; answers whether it need not be said again. Says once when the collector is away, and once when it is back.
    async fn arrives(&mut self, path: &str, body: Vec<u8>) -> bool {
        match post(&self.settings, path, body).await {
            Ok(()) => {
                if std::mem::take(&mut self.is_away) {
                    self.say("telemetry: the collector answers again".into());
                }
                true
            }
            Err(Lost::Later(why)) => {
                if !std::mem::replace(&mut self.is_away, true) {
                    self.say(format!("telemetry: the collector cannot be reached: {why}; trying again"));
                }
                false
            }
            Err(Lost::Refused(why)) => {
                self.say(format!("telemetry: the collector refuses {path}: {why}"));
                true
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

//! What a child says while it works, on its way to the ledger.
//!
//! Here lives the passing on: the latest progress and what was used of models, a few times a second at most. A budget that
//! is reached stops the child at once. What the child's end comes to lives in `attempt`.

use crate::session::Session;
use quorate_model::Kind;
use quorate_model::config::{Config, Limits};
use quorate_model::memory::MemoryKind;
use quorate_model::price::priced;
use quorate_model::usage::Used;
use quorate_process::{Control, Message};
use quorate_service::memory::Remember;
use quorate_service::task::{Progress, Taken};
use quorate_service::usage::{Note, Reached};
use quorate_store::Store;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// It is written no oftener than this; the latest counts.
const WRITE_EVERY: Duration = Duration::from_millis(250);
/// What the ledger does not take within so long is dropped: progress for good, usage and findings until the child's end.
const WRITE_WAIT: Duration = Duration::from_secs(2);

/// Findings that wait for a ledger that does not answer.
const FINDINGS_MAX: usize = 256;

/// What was heard and is not yet written.
#[derive(Debug, Default)]
struct Heard {
    progress: Option<(Option<i64>, Option<String>)>,
    used: Vec<Used>,
    /// What it found out, for the team's memory; the latest [`FINDINGS_MAX`].
    findings: VecDeque<String>,
    /// Why the result could not be read, if that happened.
    unread: Option<String>,
}

/// What is known at the child's end.
#[derive(Debug, Default)]
pub(crate) struct Relayed {
    /// Why the result could not be read, if that happened.
    pub(crate) unread: Option<String>,
    /// The budget that was reached while it worked.
    pub(crate) reached: Option<Reached>,
    /// What it found out and the ledger has not taken yet.
    pub(crate) findings: VecDeque<String>,
}

/// Passes on what one child says.
#[derive(Debug)]
pub(crate) struct Relay {
    store: Store,
    config: Arc<Config>,
    limits: Limits,
    control: Control,
}

impl Relay {
    pub(crate) fn new(session: &Session, control: Control) -> Relay {
        let shared = &session.shared;
        let (store, config) = (shared.store.clone(), shared.config.clone());
        Relay { store, config, limits: session.limits, control }
    }

    /// Writes until the child has ended.
    pub(crate) async fn run(&self, taken: &Taken, mut messages: mpsc::Receiver<Message>) -> Relayed {
        let (mut due, mut relayed) = (Instant::now(), Relayed::default());
        let mut heard = Heard::default();
        while let Some(message) = messages.recv().await {
            heard.note(message);
            while let Ok(Some(message)) = tokio::time::timeout_at(due.into(), messages.recv()).await {
                heard.note(message);
            }
            if heard.write(self, taken, &mut relayed).await {
                due = Instant::now() + WRITE_EVERY;
            }
        }
        Relayed { unread: heard.unread, findings: heard.findings, ..relayed }
    }

    async fn tell_progress(&self, taken: &Taken, (percent, message): (Option<i64>, Option<String>)) {
        let progress = Progress { id: taken.task.id, term: taken.task.term, percent, message };
        // Refused or unwritten progress is not worth a word: the renewer notices what it means.
        let _ = tokio::time::timeout(WRITE_WAIT, self.store.write(progress)).await;
    }

    /// Notes what was used, and stops the child where that reaches a budget. What could not be written is said again at
    /// the child's end.
    async fn tell_used(&self, taken: &Taken, used: Vec<Used>, relayed: &mut Relayed) {
        let note = note(&self.config, self.limits, taken, used, false);
        if let Ok(Ok(Some(reached))) = tokio::time::timeout(WRITE_WAIT, self.store.write(note)).await {
            self.control.stop(reached.reason.clone());
            relayed.reached.get_or_insert(reached);
        }
    }
}

impl Heard {
    fn note(&mut self, message: Message) {
        match message {
            Message::Progress { percent, message, findings } => {
                self.progress = Some((percent, message));
                self.findings.extend(findings);
                while self.findings.len() > FINDINGS_MAX {
                    self.findings.pop_front();
                }
            }
            Message::Usage(used) => match self.used.iter_mut().find(|known| known.model == used.model) {
                Some(known) => *known = used,
                None => self.used.push(used),
            },
            Message::BadResult(why) => self.unread = Some(why),
            // A good result, and that it is parked, is read at the end.
            Message::Result(_) | Message::Parked(_) | Message::Bad(_) => {}
        }
    }

    /// Writes what was heard; answers whether there was anything.
    async fn write(&mut self, relay: &Relay, taken: &Taken, relayed: &mut Relayed) -> bool {
        let (progress, used) = (self.progress.take(), std::mem::take(&mut self.used));
        let is_any = progress.is_some() || !used.is_empty() || !self.findings.is_empty();
        if !used.is_empty() {
            relay.tell_used(taken, used, relayed).await;
        }
        if let Some(progress) = progress {
            relay.tell_progress(taken, progress).await;
        }
        self.tell_findings(relay, taken).await;
        is_any
    }
}

impl Heard {
    /// Tells the team what was found; what the ledger does not take now waits for the next word, or for the child's end.
    async fn tell_findings(&mut self, relay: &Relay, taken: &Taken) {
        while let Some(text) = self.findings.front() {
            match tokio::time::timeout(WRITE_WAIT, relay.store.write(finding(taken, text))).await {
                Err(_) => return,
                Ok(Err(error)) if error.kind == Kind::Unavailable => return,
                // One that is refused (it is empty, or too long) would be refused for ever.
                Ok(_) => drop(self.findings.pop_front()),
            }
        }
    }
}

/// Makes the word about what an attempt has found out.
pub(crate) fn finding(taken: &Taken, text: &str) -> Remember {
    Remember {
        agent: taken.task.owner.clone().unwrap_or_default(),
        kind: MemoryKind::Finding,
        text: text.to_owned(),
        tags: Vec::new(),
        task: Some(taken.task.id),
        ttl_ms: None,
    }
}

/// Makes the word about what an attempt has used, each model with its price.
pub(crate) fn note(config: &Config, limits: Limits, taken: &Taken, used: Vec<Used>, is_last: bool) -> Note {
    let (id, term, attempt) = (taken.task.id, taken.task.term, taken.task.attempt);
    let used = used.into_iter().map(|used| priced(&config.prices, used)).collect();
    Note { id, term, attempt, used, limits, is_last }
}

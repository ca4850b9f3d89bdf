//! The handle by which others look at a child and stop it.
//!
//! Here live the requests to a running child and its signs of life. What follows a request is in
//! [`crate::supervise`].

use crate::cgroup::Group;
use crate::keep::SharedTail;
use crate::mask::Mask;
use crate::procfs::{self, ProcessId};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;
use tokio::sync::watch;

/// Signs of life of a child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Activity {
    /// When it last wrote anything; before that, when it started.
    pub last_output: Instant,
    /// CPU time that its tree has used, in milliseconds. Without a control group it can fall when a descendant ends
    /// that nobody waited for: any change is a sign of life.
    pub cpu_ms: u64,
}

/// What was asked of a child. It only moves forward.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum Request {
    /// Go on.
    #[default]
    None,
    /// End: TERM, grace, KILL.
    Stop(String),
    /// End at once: KILL.
    Kill(String),
}

impl Request {
    pub(crate) fn reason(&self) -> Option<&str> {
        match self {
            Request::None => None,
            Request::Stop(reason) | Request::Kill(reason) => Some(reason),
        }
    }
}

/// A handle to one child, to be cloned freely. It outlives the child, when its requests do nothing.
#[derive(Debug, Clone)]
pub struct Control {
    pub(crate) id: ProcessId,
    pub(crate) group: Option<Arc<Group>>,
    pub(crate) request: watch::Sender<Request>,
    pub(crate) pulse: Pulse,
    pub(crate) tail: SharedTail,
    pub(crate) mask: Mask,
}

impl Control {
    /// Returns which process it is, as it is to be stored for [`crate::orphan::end`].
    pub fn id(&self) -> ProcessId {
        self.id
    }

    /// Asks the child to end: TERM to its tree, its grace, then KILL. The first reason counts.
    pub fn stop(&self, reason: impl Into<String>) {
        self.request.send_if_modified(|request| {
            let first = *request == Request::None;
            if first {
                *request = Request::Stop(reason.into());
            }
            first
        });
    }

    /// Ends the child's tree at once, also in the middle of a grace. The first reason counts.
    pub fn kill(&self, reason: impl Into<String>) {
        self.request.send_modify(|request| {
            let first = request.reason().map(str::to_owned);
            *request = Request::Kill(first.unwrap_or_else(|| reason.into()));
        });
    }

    /// Returns its signs of life. Reads a few files of the kernel, so not to be called in a tight loop.
    pub fn activity(&self) -> Activity {
        let grouped = self.group.as_ref().and_then(|g| g.cpu_ms());
        let cpu_ms =
            grouped.unwrap_or_else(|| if self.id.is_held() { procfs::cpu_ms(self.id.pid) } else { 0 });
        Activity { last_output: self.pulse.last(), cpu_ms }
    }

    /// Returns the last lines of its output so far, masked: 40 lines, 4 KiB at most.
    pub fn tail(&self) -> String {
        self.tail.lock().for_ledger(&self.mask)
    }
}

/// When a child last wrote.
#[derive(Debug, Clone)]
pub(crate) struct Pulse(Arc<Mutex<Instant>>);

impl Pulse {
    pub(crate) fn new() -> Pulse {
        Pulse(Arc::new(Mutex::new(Instant::now())))
    }

    pub(crate) fn beat(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    fn last(&self) -> Instant {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

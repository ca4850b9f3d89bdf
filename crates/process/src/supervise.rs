//! The life of one child, from its start to the end of everything it started.
//!
//! Here lives the order of things: wait for its exit, its timeout or a request; end its tree; let its output run dry;
//! reap it. The parts are in [`crate::output`], [`crate::stop`] and [`crate::control`].
//!
//! ```text
//!            exits            leftovers? wait a little, then TERM, grace, KILL ─┐
//! running ── timeout ──────── TERM, grace, KILL ────────────────────────────────┼─ drain ── reap ── Exit
//!            stop, kill ───── TERM, grace, KILL ────────────────────────────────┘
//! ```
//!
//! Reaping comes last: see the crate's one idea. Each wait is bounded, so `supervise` always returns.

use crate::control::Request;
use crate::exit::{Exit, ExitKind};
use crate::message::Message;
use crate::output::{LOG_WAIT, Pumped};
use crate::pen::Written;
use crate::spawn::{Child, LOST};
use crate::stop::{self, Ended};
use std::mem;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

/// How long what a child left behind may take to go by itself: the end of a pipe reaches its reader a little later.
const SETTLE: Duration = Duration::from_millis(200);
/// How long output may come after everyone who could write it has ended.
const DRAIN: Duration = Duration::from_secs(1);
/// How long to wait for the exit of a child that was killed.
const REAP: Duration = Duration::from_secs(1);

enum Cause {
    Exit,
    Timeout,
    Request(String),
}

/// Runs a child to its end and returns how it ended. Its messages are sent as they come.
///
/// A slow receiver never holds up the child: progress that waits is replaced by later progress, and the last result is
/// in [`Exit::result`] in any case. Dropping the future ends the child's tree at once.
pub async fn supervise(mut child: Child, messages: mpsc::Sender<Message>) -> Exit {
    let (cut, pump) = start_pump(&mut child, messages);
    let mut requests = child.control.request.subscribe();
    let cause = cause(&mut child, &mut requests).await;
    let (leaked, survivors) = match cause {
        Cause::Exit => end_leftovers(&child, &mut requests).await,
        Cause::Timeout | Cause::Request(_) => (0, end(&child, &mut requests).await.left),
    };
    let pumped = drain(pump, cut).await;
    let status = timeout(REAP, child.reap()).await.ok();
    let kind = match (cause, status) {
        (Cause::Timeout, _) => ExitKind::TimedOut,
        (Cause::Request(reason), _) => ExitKind::Stopped(reason),
        (Cause::Exit, Some(kind)) => kind,
        (Cause::Exit, None) => ExitKind::Stopped(LOST.to_owned()),
    };
    let exit = report(&child, pumped, kind, leaked, survivors);
    child.control.group.iter().for_each(|group| group.remove());
    exit
}

fn start_pump(
    child: &mut Child,
    messages: mpsc::Sender<Message>,
) -> (oneshot::Sender<()>, Option<JoinHandle<Pumped>>) {
    let (cut, when_cut) = oneshot::channel();
    // The pump ends when `cut` is dropped, so that it cannot outlive this future.
    (cut, child.pump.take().map(|pump| tokio::spawn(pump.run(messages, when_cut))))
}

async fn cause(child: &mut Child, requests: &mut watch::Receiver<Request>) -> Cause {
    let deadline = child.timeout.map(|limit| limit.saturating_sub(child.started.elapsed()));
    tokio::select! {
        biased;
        () = child.exited() => Cause::Exit,
        reason = requested(requests, |request| *request != Request::None) => Cause::Request(reason),
        () = sleep(deadline.unwrap_or_default()), if deadline.is_some() => Cause::Timeout,
    }
}

/// Waits for a request and returns its reason.
async fn requested(requests: &mut watch::Receiver<Request>, wanted: impl Fn(&Request) -> bool) -> String {
    let request = requests.wait_for(|request| wanted(request)).await.ok().map(|request| request.clone());
    match request {
        Some(request) => request.reason().unwrap_or_default().to_owned(),
        None => std::future::pending().await,
    }
}

async fn end(child: &Child, requests: &mut watch::Receiver<Request>) -> Ended {
    let now = async {
        requested(requests, |request| matches!(request, Request::Kill(_))).await;
    };
    stop::end(&child.tree, child.grace, now).await
}

/// Ends what a child that exited left behind; returns how many and how many of them are still there.
async fn end_leftovers(child: &Child, requests: &mut watch::Receiver<Request>) -> (usize, usize) {
    if timeout(SETTLE, stop::gone(&child.tree)).await.is_ok() {
        return (0, 0);
    }
    let ended = end(child, requests).await;
    (ended.ended + ended.left, ended.left)
}

async fn drain(pump: Option<JoinHandle<Pumped>>, cut: oneshot::Sender<()>) -> Option<Pumped> {
    let mut pump = pump?;
    if let Ok(pumped) = timeout(DRAIN, &mut pump).await {
        return pumped.ok();
    }
    let _ = cut.send(());
    timeout(DRAIN + LOG_WAIT, pump).await.ok()?.ok()
}

fn report(child: &Child, pumped: Option<Pumped>, kind: ExitKind, leaked: usize, survivors: usize) -> Exit {
    let control = &child.control;
    // Without a word of the pump nobody knows whether it has read everything: a result may be missing.
    let read_error = pumped.is_none().then(|| "its output could not be read to its end".to_owned());
    let lost = || Pumped { dropped: 0, written: Written::unknown("its writer was lost") };
    let Pumped { dropped, written } = pumped.unwrap_or_else(lost);
    let word = mem::take(&mut *child.word.lock());
    Exit {
        kind,
        tail: control.tail(),
        result: word.result,
        used: word.used,
        parked: word.parked,
        leaked,
        survivors,
        duration_ms: child.started.elapsed().as_millis() as u64,
        log_bytes: written.bytes,
        dropped_bytes: dropped,
        log_error: written.error,
        read_error,
        out_of_memory: control.group.as_ref().is_some_and(|g| g.ran_out_of_memory()),
    }
}

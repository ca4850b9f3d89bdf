//! The life of one attempt, from the taken task to the word in the ledger.
//!
//! Here lives the pipeline: describe the child, start it, pass on what it says (`relay`), read its end, report. The lease is
//! kept by the renewer meanwhile; if it is lost, the child is stopped. Where another has the task, nothing is reported: the
//! ledger would refuse it. Where only the ledger was away, it is told why as soon as it is back.

use crate::git::Git;
use crate::orphans::stored_start;
use crate::relay::{Relay, Relayed, finding, note};
use crate::renewer::{Hold, Lost};
use crate::session::Session;
use crate::stop::{Level, Stop};
use crate::workspace::{Merged, Of, Workspace};
use quorate_drivers::{Assignment, Report, report};
use quorate_model::config::{Workspace as Where, millis};
use quorate_model::usage::Parked;
use quorate_model::{Error, Kind, Result, TaskState};
use quorate_process::{Child, Control, Exit, ExitKind, supervise};
use quorate_service::agent::{AfterCrash, Crash};
use quorate_service::node::Gone;
use quorate_service::task::{
    Aside, Done, DoneAnswer, Fail, Held, Outcome, Release, Renew, Rest, SetAside, Started, StillRests, Taken,
    Task,
};
use quorate_service::usage::Reached;
use quorate_service::view::Claims;
use quorate_service::{run, wire};
use serde_json::Value;
use std::collections::VecDeque;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// Messages of a child that wait to be passed on.
const MESSAGES_MAX: usize = 64;
/// Signs of life are looked at this often, for agents with `stop_stuck_after`.
const STUCK_LOOK: Duration = Duration::from_secs(1);

/// Claims that the ledger does not show within so long are left out.
const CLAIMS_WAIT: Duration = Duration::from_secs(2);
/// Claims of others that an agent is told of, at most.
const CLAIMS_MAX: usize = 100;

/// Why a child of a node that stops is stopped.
pub(crate) const NODE_STOPS: &str = "its node stops";

/// Why the work of an attempt that is done does not count.
const UNMERGED: &str = "its lease ended before its work was merged; the next attempt goes on from its branch";

/// How long an attempt that is done waits for a person who is in the midst of something with the branch it goes back to, and
/// how often it looks.
const MERGE_WAIT: Duration = Duration::from_secs(60);
const MERGE_EVERY: Duration = Duration::from_secs(5);

/// Why an attempt was not begun.
const TOO_LATE: &str = "not begun: the database's answer came when the lease may have been over";

/// Runs one attempt at a task that was asked for at `asked` to its end. Errors of the ledger end it quietly: the lease
/// then lapses by itself.
pub(crate) async fn run(session: &mut Session, taken: Taken, asked: Instant) {
    let Some(mut hold) = session.shared.hold(&session.stop, taken.task.id, taken.task.term, asked).await
    else {
        session.shared.say(format!("{}: task {}: {TOO_LATE}", session.name, taken.task.named()));
        return lost(session, &taken, TOO_LATE, None).await;
    };
    let (workspace, finished) = match workspace(session, &taken).await {
        Ok(opened) => opened,
        Err(error) => return not_opened(session, &taken, &error).await,
    };
    if let Some(result) = finished {
        let ended = Ended { exit: earlier_end(result), flaw: None, reached: None, own: false };
        return conclude(session, &taken, &mut hold, workspace, ended).await;
    }
    let mut assignment = assignment(session, &taken);
    if let Some(workspace) = &workspace {
        assignment.dir = workspace.dir().to_owned();
        assignment.is_own_worktree = true;
    }
    if session.member.worker.is_driven(&assignment) {
        tell_claims(session, &taken, &mut assignment).await;
    }
    let own_process = session.member.worker.is_own_process(&assignment);
    let command = match session.member.worker.command(&assignment) {
        Ok(command) => command,
        Err(error) => return give_up(session, &taken, &error).await,
    };
    let child = match command.spawn().await {
        Ok(child) => child,
        Err(error) => return not_started(session, &taken, &error, own_process).await,
    };
    let (exit, relayed) = attend(session, &taken, &assignment, &hold, child).await;
    if let Some(why) = &exit.log_error {
        session.shared.say(format!(
            "{}: task {}: its log is not whole: {why}",
            session.name,
            taken.task.named()
        ));
    }
    tell_used(session, &taken, &exit).await;
    tell_findings(session, &taken, &relayed.findings).await;
    let flaw = relayed.unread.or_else(|| missing_outputs(&taken, &assignment)).map(Flaw::Passing);
    let ended = Ended { exit, flaw, reached: relayed.reached, own: own_process };
    conclude(session, &taken, &mut hold, workspace, ended).await;
}

/// Brings home what an attempt left, and says what it came to.
async fn conclude(
    session: &mut Session,
    taken: &Taken,
    hold: &mut Hold,
    workspace: Option<Workspace>,
    mut ended: Ended,
) {
    if let Some(workspace) = workspace {
        ended.flaw = bring_home(session, taken, hold, &ended.exit, workspace, ended.flaw.take()).await;
    }
    settle(session, taken, hold, &ended).await;
}

/// The end of an attempt that has nothing to do but to merge what an earlier one has done: nobody is to pay for it again.
fn earlier_end(result: Option<Value>) -> Exit {
    Exit {
        kind: ExitKind::Exited(0),
        tail: String::new(),
        result,
        used: Vec::new(),
        parked: None,
        leaked: 0,
        survivors: 0,
        duration_ms: 0,
        log_bytes: 0,
        dropped_bytes: 0,
        log_error: None,
        read_error: None,
        out_of_memory: false,
    }
}

/// How an attempt's child ended, and what is known besides.
struct Ended {
    exit: Exit,
    /// Why what is said to be done is not.
    flaw: Option<Flaw>,
    /// The budget that was reached while it worked.
    reached: Option<Reached>,
    /// Whether it was the agent's own process.
    own: bool,
}

fn assignment(session: &Session, taken: &Taken) -> Assignment {
    let (shared, task) = (&session.shared, &taken.task);
    let timeout = task.timeout_ms.unwrap_or(shared.config.health.timeout_ms);
    Assignment {
        task_id: task.id.0,
        term: task.term.0,
        agent: session.name.clone(),
        run_id: task.run_id.map(|id| id.0),
        attempt: task.attempt,
        run: task.run.clone(),
        document: wire::value(wire::Taken::from(taken)).to_string(),
        timeout: millis(timeout),
        dir: shared.folder.clone(),
        is_own_worktree: false,
        store: shared.agents_url.full(),
        log: shared.log_file(task.id, task.attempt, ""),
        state: shared.state.clone(),
        program: shared.program.clone(),
        door: shared.door.clone().zip(session.token.as_ref().map(|token| token.reveal().to_owned())),
    }
}

/// What is wrong with an attempt that says it is done.
enum Flaw {
    /// Another attempt may mend it.
    Passing(String),
    /// No other attempt could.
    Final(String),
    /// It is done, but a person is in the midst of something with the branch that it goes back to.
    NotNow(String),
    /// It was not brought to its end, because the node stops.
    NodeStops,
}

/// Opens the worktree of a task whose agent works in one; answers also with the result of an earlier attempt whose work only
/// could not be merged.
async fn workspace(session: &Session, taken: &Taken) -> Result<(Option<Workspace>, Option<Option<Value>>)> {
    if session.member.workspace == Where::Shared {
        return Ok((None, None));
    }
    let (shared, task) = (&session.shared, &taken.task);
    let (git, project, state) = (shared.git.clone(), shared.folder.clone(), shared.state.clone());
    let of = Of { task: task.id, attempt: task.attempt, added_ms: task.created_at };
    let opened = with_git(&shared.git, &session.stop, move || {
        let workspace = Workspace::open(&git, &project, &state, of)?;
        let finished = workspace.take_finished();
        Ok((Some(workspace), finished))
    });
    opened.await
}

/// Keeps what an attempt left in its worktree, and merges it if the attempt is done and no check is to follow.
async fn bring_home(
    session: &Session,
    taken: &Taken,
    hold: &mut Hold,
    exit: &Exit,
    workspace: Workspace,
    flaw: Option<Flaw>,
) -> Option<Flaw> {
    let (agent, words) =
        (session.name.clone(), format!("Task {}, attempt {}", taken.task.named(), taken.task.attempt));
    let promised = taken.task.outputs.clone();
    let is_to_merge = exit.is_success() && flaw.is_none() && taken.task.verify.is_none();
    let kept = {
        let workspace = workspace.clone();
        with_git(&session.shared.git, &session.stop, move || workspace.keep(&words, &agent, &promised)).await
    };
    match kept {
        Ok(None) if is_to_merge => {
            let flaw = merge(session, taken, hold, &workspace).await;
            if let Some(Flaw::NotNow(_) | Flaw::Final(_)) = flaw {
                note_finished(session, &workspace, exit.result.clone()).await;
            }
            flaw
        }
        Ok(None) => flaw,
        Ok(Some(why)) => Some(flaw.unwrap_or(Flaw::Passing(why))),
        Err(error) => Some(not_brought(session, flaw, &error)),
    }
}

/// Merges the work of an attempt that is done. Where a person is in the midst of something, it waits for a while.
async fn merge(session: &Session, taken: &Taken, hold: &mut Hold, workspace: &Workspace) -> Option<Flaw> {
    let (until, mut stop) = (Instant::now() + MERGE_WAIT, session.stop.clone());
    loop {
        // Who has lost the task merges nothing; another goes on from the branch.
        if !is_ours(session, taken, hold).await {
            return Some(Flaw::Passing(UNMERGED.into()));
        }
        let (agent, workspace) = (session.name.clone(), workspace.clone());
        let merged = with_git(&session.shared.git, &session.stop, move || workspace.merge(&agent, None));
        match merged.await {
            Ok(Merged::Done) => return None,
            // Only of what was checked is it told; this merges what has moved.
            Ok(Merged::Moved) => {}
            Ok(Merged::Conflict(why)) => return Some(Flaw::Passing(why)),
            Ok(Merged::Blocked(why)) => return Some(Flaw::Final(why)),
            Ok(Merged::NotNow(why)) if Instant::now() >= until || session.stop.level() != Level::Go => {
                return Some(Flaw::NotNow(why));
            }
            Ok(Merged::NotNow(_)) => tokio::select! {
                () = tokio::time::sleep(MERGE_EVERY) => {}
                () = stop.reached(Level::Finish) => {}
            },
            Err(error) => return Some(not_brought(session, None, &error)),
        }
    }
}

/// Notes that the work is done. Where that cannot be noted, another attempt does it again.
async fn note_finished(session: &Session, workspace: &Workspace, result: Option<Value>) {
    let workspace = workspace.clone();
    let note = move || workspace.note_finished(result.as_ref());
    let _ = with_git(&session.shared.git, &session.stop, note).await;
}

fn not_brought(session: &Session, flaw: Option<Flaw>, error: &Error) -> Flaw {
    if session.shared.git.is_halted() {
        return Flaw::NodeStops;
    }
    flaw.unwrap_or_else(|| Flaw::Passing(format!("its work could not be brought to its branch: {error}")))
}

/// Tells whether the task is ours still. Where only its lease may have ended, because the ledger or this node was away, the
/// ledger is asked for it once more: what is done need not be done again.
async fn is_ours(session: &Session, taken: &Taken, hold: &mut Hold) -> bool {
    match hold.lost() {
        None => return true,
        Some(Lost::TakenAway) => return false,
        Some(Lost::Unreachable | Lost::Asleep) => {}
    }
    let (shared, id, term) = (&session.shared, taken.task.id, taken.task.term);
    let lease_ms = shared.config.health.lease_ms;
    let held = vec![Held { id, term, active: true }];
    let renew = Renew { held, agents: Vec::new(), node: shared.node.clone(), lease_ms };
    // Twice where the first word was long under way: it may have been heard long ago.
    for _ in 0..2 {
        let asked = Instant::now();
        match session.insist(&renew).await {
            Ok(renewed) if renewed.kept.contains(&id) => {}
            Ok(_) | Err(_) => return false,
        }
        if asked.elapsed() < shared.lease() / 6 {
            hold.regain(asked + shared.lease());
            shared.renewer.hurry();
            return true;
        }
    }
    false
}

/// Does something with git on a thread where it keeps nobody waiting; when the node is to stop at once, git is ended.
pub(crate) async fn with_git<T: Send + 'static>(
    git: &Git,
    stop: &Stop,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let (mut work, mut stop) = (std::pin::pin!(beside(work)), stop.clone());
    tokio::select! {
        done = &mut work => return done,
        () = stop.reached(Level::Now) => git.halt(),
    }
    work.await
}

/// Does what blocks on a thread where it keeps nobody waiting.
pub(crate) async fn beside<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|e| Err(Error::failed(format!("the work was broken off: {e}"))))
}

/// Adds what others hold to the task document: an agent that knows it need not run into it. What cannot be asked now is
/// left out; the claims hold all the same.
async fn tell_claims(session: &Session, taken: &Taken, assignment: &mut Assignment) {
    let asked = tokio::time::timeout(CLAIMS_WAIT, session.shared.store.read(Claims { agent: None })).await;
    let others: Vec<wire::Claim> = asked
        .unwrap_or_else(|_| Ok(Vec::new()))
        .unwrap_or_default()
        .iter()
        .filter(|claim| claim.agent != session.name && claim.task != Some(taken.task.id))
        .take(CLAIMS_MAX)
        .map(Into::into)
        .collect();
    let mut document = wire::value(wire::Taken::from(taken));
    document["claims_of_others"] = wire::value(others);
    assignment.document = document.to_string();
}

/// Keeps the child company until it ends; answers also with what it said on its way.
async fn attend(
    session: &mut Session,
    taken: &Taken,
    assignment: &Assignment,
    hold: &Hold,
    child: Child,
) -> (Exit, Relayed) {
    let (control, child_id) = (child.control(), child.id());
    hold.attach(control.clone());
    let (sender, messages) = mpsc::channel(MESSAGES_MAX);
    let store = session.shared.store.clone();
    let started = Started {
        id: taken.task.id,
        attempt: taken.task.attempt,
        host: session.shared.host.clone(),
        pid: child_id.pid.into(),
        pid_started: stored_start(child_id.start_time).unwrap_or_default(),
        log: assignment.log.display().to_string(),
    };
    let stop_stuck = session.shared.config.health.stop_stuck_after_ms;
    let mut stop = session.stop.clone();
    // Not dropped with the watch: a quick child must leave a word of where its output is, too.
    let noted = tokio::spawn({
        let (store, stop) = (store.clone(), stop.clone());
        async move { stop.in_time(store.write(started)).await }
    });
    let relay = Relay::new(session, control.clone());
    let ended = async { tokio::join!(supervise(child, sender), relay.run(taken, messages)) };
    let watch = async {
        tokio::join!(stop_when_stuck(&control, stop_stuck), async {
            stop.reached(Level::Now).await;
            control.stop(NODE_STOPS);
            std::future::pending::<()>().await;
        },);
    };
    let (exit, relayed) = tokio::select! {
        both = ended => both,
        () = watch => unreachable!("the watch goes on until the child has ended"),
    };
    // A word that could not be written costs the place of the log in the ledger, nothing else.
    let _ = noted.await;
    // A result that came through makes up for a line that did not.
    let unread = relayed.unread.filter(|_| exit.result.is_none());
    let unread = unread.map(|why| format!("said to be done, but its result could not be read: {why}"));
    (exit, Relayed { unread, ..relayed })
}

/// Says in the end what all of it has used. Without a word of it from the child nothing is written.
async fn tell_used(session: &Session, taken: &Taken, exit: &Exit) {
    if exit.used.is_empty() {
        return;
    }
    let note = note(&session.shared.config, session.limits, taken, exit.used.clone(), true);
    if let Err(error) = session.insist(&note).await {
        session.shared.say(format!("{}: task {}: {error}", session.name, taken.task.named()));
    }
}

/// Tells the team what the child found out while the ledger was away.
async fn tell_findings(session: &Session, taken: &Taken, findings: &VecDeque<String>) {
    for text in findings {
        let Err(error) = session.insist(&finding(taken, text)).await else { continue };
        session.shared.say(format!("{}: task {}: {error}", session.name, taken.task.named()));
        if error.kind == Kind::Unavailable {
            break;
        }
    }
}

/// Stops a child that shows no sign of life for so long: only where a person asked for it.
async fn stop_when_stuck(control: &Control, after_ms: Option<i64>) {
    let Some(after) = after_ms.map(millis) else {
        return std::future::pending().await;
    };
    let (mut seen, mut since) = (control.activity(), Instant::now());
    loop {
        tokio::time::sleep(STUCK_LOOK.min(after)).await;
        let now = control.activity();
        if now != seen {
            (seen, since) = (now, Instant::now());
        } else if since.elapsed() >= after {
            control.stop(format!("stuck: no sign of life for {} s (stop_stuck_after)", after.as_secs()));
            return std::future::pending().await;
        }
    }
}

/// Returns the promised files that are not there.
fn missing_outputs(taken: &Taken, assignment: &Assignment) -> Option<String> {
    let missing: Vec<&str> = taken
        .task
        .outputs
        .iter()
        .map(String::as_str)
        .filter(|file| !assignment.dir.join(file).exists())
        .collect();
    (!missing.is_empty()).then(|| format!("said to be done, but did not leave {}", missing.join(", ")))
}

/// Says in the ledger what the attempt came to.
async fn settle(session: &mut Session, taken: &Taken, hold: &Hold, ended: &Ended) {
    let Ended { exit, flaw, reached, own } = ended;
    let tail = Some(exit.tail.clone()).filter(|tail| !tail.is_empty());
    let fail = |reason: String, outcome| fail(session, taken, reason, outcome, tail.clone());
    let answer = match (report(exit), flaw) {
        // Even a task that was lost may have been done before it was stopped; the ledger decides by the term.
        (Report::Done { result }, None) => done(session, taken, result, tail.clone()).await,
        (Report::Done { .. }, Some(Flaw::Final(why))) => {
            fail_for_good(session, taken, why.clone(), tail.clone()).await
        }
        (Report::Done { .. }, Some(Flaw::Passing(why))) => fail(why.clone(), Outcome::Failed).await,
        (Report::Done { .. }, Some(Flaw::NodeStops)) => release(session, taken, NODE_STOPS).await,
        (Report::Done { .. }, Some(Flaw::NotNow(why))) => {
            return rest(session, taken, without_time(why.clone()), (tail, false)).await;
        }
        (Report::Parked(parked), _) => return rest(session, taken, parked, (tail, *own)).await,
        (Report::Stopped { .. }, _) if hold.lost() == Some(Lost::TakenAway) => gone(session, taken).await,
        (Report::Stopped { reason }, _) if reason != NODE_STOPS && hold.lost().is_some() => {
            return lost(session, taken, &reason, tail.clone()).await;
        }
        (Report::Stopped { reason }, _) if reason == NODE_STOPS => release(session, taken, &reason).await,
        (Report::Stopped { reason }, _) => match reached.clone().filter(|by| by.reason == reason) {
            Some(by) => set_aside(session, taken, Aside::Budget(by), tail.clone()).await.map(drop),
            None => fail(reason, Outcome::Failed).await,
        },
        (Report::Failed { reason }, _) => fail(reason, Outcome::Failed).await,
        (Report::TimedOut { reason }, _) => fail(reason, Outcome::TimedOut).await,
        (Report::Died { reason }, _) => {
            let answer = fail(reason.clone(), Outcome::Failed).await;
            if *own {
                crash(session, taken, reason, false).await;
            }
            answer
        }
    };
    if let Err(error) = answer {
        if hold.lost().is_some() {
            let _ = gone(session, taken).await;
        }
        session.shared.say(format!("{}: task {}: {error}", session.name, taken.task.named()));
    }
}

async fn set_aside(session: &Session, taken: &Taken, why: Aside, tail: Option<String>) -> Result<Rest> {
    let set_aside = SetAside { id: taken.task.id, term: taken.task.term, why, tail };
    session.insist(&set_aside).await
}

/// Parks the task. Where it was the agent itself that cannot go on, it takes nothing else before then either: it would
/// only go through all that is ready. A person may let it go on sooner.
async fn rest(session: &mut Session, taken: &Taken, parked: Parked, (tail, own): (Option<String>, bool)) {
    match set_aside(session, taken, Aside::Agent(parked), tail).await {
        Ok(Rest::Parked(Some(ms))) if own => {
            let Task { id, attempt, .. } = taken.task;
            let parked = StillRests { id, attempt, agent: session.name.clone() };
            session.rest_while(parked, millis(ms)).await;
        }
        Ok(Rest::Parked(_) | Rest::GivenBack) => {}
        Ok(Rest::TooOften(state)) => settle_run(session, taken, state).await,
        Err(error) => session.shared.say(format!("{}: task {}: {error}", session.name, taken.task.named())),
    }
}

/// Parks for a minute, then for two, up to an hour, as where a provider states no time.
fn without_time(reason: String) -> Parked {
    Parked { reason, until_ms: None, after_ms: None }
}

async fn done(session: &Session, taken: &Taken, result: Option<String>, tail: Option<String>) -> Result<()> {
    let done = Done { id: taken.task.id, term: taken.task.term, result, tail };
    if let DoneAnswer::Completed { run: Some(id) } = session.insist(&done).await? {
        // The health check would end the run too, only later.
        let _ = session.write(run::Settle { id }).await;
    }
    Ok(())
}

async fn fail(
    session: &Session,
    taken: &Taken,
    reason: String,
    outcome: Outcome,
    tail: Option<String>,
) -> Result<()> {
    // Nothing is wrong with a task that could not be kept: another may begin it at once.
    let retry_after_ms = match outcome {
        Outcome::Lost => 0,
        _ => session.shared.config.health.retry_after_ms,
    };
    let fail = Fail {
        id: taken.task.id,
        term: taken.task.term,
        error: reason,
        is_final: false,
        outcome,
        tail,
        retry_after_ms,
    };
    tell_failed(session, taken, &fail).await
}

async fn tell_failed(session: &Session, taken: &Taken, fail: &Fail) -> Result<()> {
    let state = session.insist(fail).await?;
    settle_run(session, taken, state).await;
    Ok(())
}

/// Ends the run with its last task; the health check would end it too, only later.
async fn settle_run(session: &Session, taken: &Taken, state: TaskState) {
    if let (true, Some(id)) = (state.is_over(), taken.task.run_id) {
        let _ = session.write(run::Settle { id }).await;
    }
}

/// Says that another attempt is of no use.
async fn fail_for_good(session: &Session, taken: &Taken, reason: String, tail: Option<String>) -> Result<()> {
    let fail = Fail {
        id: taken.task.id,
        term: taken.task.term,
        error: reason,
        is_final: true,
        outcome: Outcome::Failed,
        tail,
        retry_after_ms: 0,
    };
    tell_failed(session, taken, &fail).await
}

/// Gives a task back that could not be kept, so that nobody has to wait for the end of its lease. Where that is over and
/// another has the task, the ledger refuses it and says so.
async fn lost(session: &Session, taken: &Taken, why: &str, tail: Option<String>) {
    let told = fail(session, taken, why.to_owned(), Outcome::Lost, tail).await;
    let _ = gone(session, taken).await;
    if let Err(error) = told {
        session.shared.say(format!("{}: task {}: {error}", session.name, taken.task.named()));
    }
}

/// Says that the child of a task that was taken away is gone, so that what it held is free for others.
async fn gone(session: &Session, taken: &Taken) -> Result<()> {
    let (task, attempt, term) = (taken.task.id, taken.task.attempt, taken.task.term);
    session.insist(&Gone { task, attempt, term }).await
}

async fn release(session: &Session, taken: &Taken, reason: &str) -> Result<()> {
    let release = Release { id: taken.task.id, term: taken.task.term, reason: reason.to_owned() };
    session.insist(&release).await?;
    gone(session, taken).await
}

/// The agent has no means for this task: trying again is of no use.
async fn give_up(session: &Session, taken: &Taken, error: &Error) {
    let _ = fail_for_good(session, taken, with_hint(error), None).await;
}

fn with_hint(error: &Error) -> String {
    match &error.hint {
        Some(hint) => format!("{error}; {hint}"),
        None => error.message.clone(),
    }
}

/// Its worktree could not be opened: what a person has to mend ends the task, what a person is in the midst of is waited for,
/// anything else may go well the next time.
async fn not_opened(session: &mut Session, taken: &Taken, error: &Error) {
    if session.shared.git.is_halted() {
        let _ = release(session, taken, NODE_STOPS).await;
        return;
    }
    match error.kind {
        Kind::Invalid | Kind::Conflict => give_up(session, taken, error).await,
        // As its own limit: the agent would only go through all that is ready, and park that, too.
        Kind::Unavailable => rest(session, taken, without_time(with_hint(error)), (None, true)).await,
        _ => {
            let why = format!("its worktree could not be opened: {}", with_hint(error));
            let _ = fail(session, taken, why, Outcome::Failed, None).await;
        }
    }
}

async fn not_started(session: &mut Session, taken: &Taken, error: &Error, own: bool) {
    let _ = fail(session, taken, error.message.clone(), Outcome::Failed, None).await;
    if own {
        crash(session, taken, error.message.clone(), true).await;
    }
}

/// Counts the death of the agent's own process; the session rests before the next, or ends.
async fn crash(session: &mut Session, taken: &Taken, reason: String, spawn: bool) {
    let health = &session.shared.config.health;
    let crash = Crash {
        name: session.name.clone(),
        task: taken.task.id,
        reason,
        spawn,
        max_respawns: health.max_respawns,
    };
    if let Ok(AfterCrash::Respawned(times)) = session.insist(&crash).await {
        let doublings = u32::try_from(times).unwrap_or(0).saturating_sub(1).min(6);
        let pause = health.retry_after_ms.saturating_mul(1 << doublings).min(60_000);
        session.rest(millis(pause)).await;
    }
}

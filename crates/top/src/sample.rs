//! Teams and tasks made up for the tests of this room.

use crate::state::{News, State};
use quorate_model::budget::Spent;
use quorate_model::{AgentState, Seq, TaskId, TaskState, Term};
use quorate_service::agent::Agent;
use quorate_service::event::Logged;
use quorate_service::top::{Line, Listed, Looked, Use};
use quorate_service::view::AgentView;
use std::collections::BTreeMap;

/// The ledger's time in all samples: 2026-11-21 12:30:00 UTC.
pub(crate) const NOW: i64 = 1_795_264_200_000;

pub(crate) fn agent(name: &str, state: AgentState, task: Option<i64>) -> AgentView {
    let agent = Agent {
        name: name.into(),
        driver: "command".into(),
        capabilities: vec!["*".into()],
        takes: "any".into(),
        state: "ready".into(),
        reason: None,
        paused: state == AgentState::Paused,
        removed: false,
        node: Some("1".into()),
        host: Some("here".into()),
        pid: Some(7),
        term: Term(1),
        lease_until: Some(NOW + 30_000),
        heartbeat_at: Some(NOW - 3_000),
        respawns: 0,
    };
    AgentView { agent, state, task: task.map(TaskId), spent: Spent::default(), context: None }
}

pub(crate) fn line(id: i64, key: &str, state: TaskState) -> Line {
    Line {
        id: TaskId(id),
        key: Some(key.into()),
        title: format!("The task {key}"),
        state,
        owner: None,
        attempt: 1,
        max_attempts: 3,
        progress: 0,
        message: None,
        reason: None,
        stuck: false,
        due_at: None,
        started_at: Some(NOW - 80_000),
        active_at: Some(NOW - 2_000),
        finished_at: None,
        blocked_since: None,
    }
}

pub(crate) fn running(id: i64, key: &str, owner: &str, progress: i64, said: &str) -> Line {
    Line {
        owner: Some(owner.into()),
        progress,
        message: Some(said.into()),
        ..line(id, key, TaskState::Running)
    }
}

pub(crate) fn event(seq: i64, kind: &str, message: &str) -> Logged {
    Logged {
        seq: Seq(seq),
        at: NOW - 60_000 + seq * 1_000,
        kind: kind.into(),
        agent: None,
        task: None,
        run: None,
        resource: None,
        message: message.into(),
        data: None,
    }
}

pub(crate) fn listed<T>(rows: Vec<T>) -> Listed<T> {
    Listed { rows, is_cut: false }
}

pub(crate) fn nothing() -> Looked {
    Looked {
        now: NOW,
        agents: listed(vec![]),
        running: listed(vec![]),
        parked: listed(vec![]),
        blocked: listed(vec![]),
        failed: listed(vec![]),
        run: None,
        runs: 0,
        usage: BTreeMap::new(),
    }
}

/// A team of three, of which something wants a look.
pub(crate) fn three() -> Looked {
    let stuck = Line {
        stuck: true,
        active_at: Some(NOW - 400_000),
        started_at: Some(NOW - 700_000),
        ..running(13, "deploy-notes", "beta", 10, "reading the changes")
    };
    let parked = Line {
        reason: Some("rate limit of the provider".into()),
        due_at: Some(NOW + 600_000),
        owner: Some("beta".into()),
        ..line(14, "summary", TaskState::Parked)
    };
    let blocked = Line {
        reason: Some("waits for src/** (alpha holds it for task 12)".into()),
        blocked_since: Some(NOW - 45_000),
        ..line(15, "rename", TaskState::Ready)
    };
    let failed = Line {
        reason: Some("exit code 101 after 3 attempts".into()),
        finished_at: Some(NOW - 3_700_000),
        ..line(9, "docs", TaskState::Failed)
    };
    Looked {
        agents: listed(vec![
            agent("alpha", AgentState::Working, Some(12)),
            agent("beta", AgentState::Stuck, Some(13)),
            agent("gamma", AgentState::Ready, None),
        ]),
        running: listed(vec![running(12, "lint", "alpha", 40, "parser half done"), stuck]),
        parked: listed(vec![parked]),
        blocked: listed(vec![blocked]),
        failed: listed(vec![failed]),
        run: Some((quorate_model::RunId(3), "Is this repository ready to release?".into())),
        runs: 2,
        ..nothing()
    }
}

/// The same team, of which is known what it uses.
pub(crate) fn three_with_usage() -> Looked {
    let usage = [
        ("alpha", Use { context_percent: Some(63), usd: Some(1.234) }),
        ("beta", Use { context_percent: None, usd: Some(12.0) }),
    ];
    Looked { usage: usage.into_iter().map(|(name, of)| (name.to_owned(), of)).collect(), ..three() }
}

/// A team whose node has gone, with work left.
pub(crate) fn left_alone() -> Looked {
    let names = ["alpha", "beta", "gamma"];
    let blocked = Line { blocked_since: Some(NOW - 45_000), ..line(15, "rename", TaskState::Ready) };
    Looked {
        agents: listed(names.map(|name| agent(name, AgentState::Idle, None)).into()),
        blocked: listed(vec![blocked]),
        run: Some((quorate_model::RunId(3), "Is this repository ready to release?".into())),
        runs: 1,
        ..nothing()
    }
}

/// A team of a thousand, all at work.
pub(crate) fn thousand() -> Looked {
    let name = |n: i64| format!("agent-{n}");
    Looked {
        agents: listed((1..=1_000).map(|n| agent(&name(n), AgentState::Working, Some(n))).collect()),
        running: listed(
            (1..=1_000).map(|n| running(n, &format!("task-{n}"), &name(n), n % 101, "at it")).collect(),
        ),
        ..nothing()
    }
}

/// What is known after one look.
pub(crate) fn state(looked: Looked) -> State {
    let mut state = State::default();
    let count = |list: &Listed<Line>| i64::try_from(list.rows.len()).expect("few");
    let counts = [
        ("running", count(&looked.running)),
        ("parked", count(&looked.parked)),
        ("ready", count(&looked.blocked)),
        ("failed", count(&looked.failed)),
        ("completed", 41 * i64::from(looked.runs > 0)),
    ];
    state.tick(looked.now);
    state.hear(News::Looked(Box::new(looked)));
    state.hear(News::Tally(counts.into_iter().map(|(name, count)| (name.to_owned(), count)).collect()));
    state
}

/// A few events, some of them completions.
pub(crate) fn events() -> Vec<Logged> {
    let mut events = vec![
        event(1, "run.started", "run 3 started: Is this repository ready to release?"),
        event(2, "task.taken", "task 8 (fmt) taken by alpha, attempt 1"),
        event(30, "task.completed", "task 8 (fmt) completed"),
        event(31, "task.taken", "task 12 (lint) taken by alpha, attempt 1"),
        event(45, "task.stuck", "task 13 (deploy-notes) shows no sign of life"),
        event(50, "claim.refused", "rename waits for src/**: alpha holds it for task 12"),
        event(55, "task.completed", "task 11 (audit) completed"),
    ];
    events[1].agent = Some("alpha".into());
    events[1].task = Some(TaskId(8));
    events
}

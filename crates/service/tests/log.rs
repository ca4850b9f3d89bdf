//! What a logged line does, on both databases: what it says is what the ledger holds; and whose output is the latest.

use quorate_model::agent::AgentState;
use quorate_model::{Kind, Result, TaskState};
use quorate_service::log::{LatestAttempt, Line, MESSAGE_MAX, WORD_MAX};
use quorate_service::message::Fetch;
use quorate_service::task::Reassign;
use quorate_service::view::Agents;
use quorate_testkit::ledger::TestLedger;
use quorate_testkit::on_every_backend;
use quorate_testkit::verbs::{LEASE_MS, command};
use serde_json::json;

fn line(action: &str, resource: Option<&str>) -> Line {
    Line {
        agent: "alpha".into(),
        action: action.into(),
        status: Some("ok".into()),
        resource: resource.map(str::to_owned),
        progress: Some(50),
        metadata: Some(json!({"n": 1})),
        message: "words".into(),
        ttl_ms: LEASE_MS,
    }
}

async fn a_claim_line_takes_the_claim_and_a_release_or_complete_line_ends_it(
    ledger: TestLedger,
) -> Result<()> {
    for end in ["release", "complete"] {
        ledger.store.write(line("claim", Some("src"))).await?;
        assert_eq!(ledger.held().await?, ["alpha:src"]);
        ledger.store.write(line(end, Some("src"))).await?;
        assert!(ledger.held().await?.is_empty());
    }
    let expected = [
        "claim.taken",
        "log.line",
        "claim.released",
        "log.line",
        "claim.taken",
        "log.line",
        "claim.released",
        "log.line",
    ];
    assert_eq!(ledger.kinds().await, expected);
    Ok(())
}

async fn a_refused_claim_logs_nothing_as_held(ledger: TestLedger) -> Result<()> {
    ledger.claim("beta", &["src/a.rs"]).await?;
    let error = ledger.store.write(line("claim", Some("src"))).await.expect_err("held");
    assert_eq!(error.kind, Kind::Conflict);
    assert_eq!(ledger.kinds().await, ["claim.taken", "claim.refused"]);
    assert_eq!(
        ledger.store.write(line("release", Some("src"))).await.expect_err("not its own").kind,
        Kind::NotFound
    );
    assert_eq!(ledger.count("log.line").await, 0);
    Ok(())
}

async fn a_complete_line_completes_the_task_the_agent_has(ledger: TestLedger) -> Result<()> {
    assert_eq!(
        ledger.store.write(line("complete", None)).await.expect_err("it has none").kind,
        Kind::Conflict
    );
    let id = ledger.add(command("one")).await?;
    ledger.must_take("alpha").await?;
    ledger.store.write(line("complete", None)).await?;
    let task = ledger.story(id).await?.task;
    assert_eq!((task.state, task.result.as_deref()), (TaskState::Completed, Some("{\"n\":1}")));
    Ok(())
}

fn fetch(agent: &str) -> Fetch {
    Fetch { agent: agent.into(), bytes: i64::MAX }
}

async fn a_help_line_is_a_message_to_those_it_names(ledger: TestLedger) -> Result<()> {
    ledger.join("beta").await?;
    ledger.join("gamma").await?;
    let help = |from: serde_json::Value| Line {
        metadata: Some(json!({ "help_needed_from": from })),
        ..line("help", None)
    };
    ledger.store.write(help(json!("beta"))).await?;
    ledger.store.write(help(json!(["beta", "gamma"]))).await?;
    assert_eq!(ledger.store.write(fetch("beta")).await?.len(), 2);
    assert_eq!(ledger.store.write(fetch("gamma")).await?[0].text, "words");
    assert_eq!(ledger.store.write(help(json!("nobody"))).await.expect_err("unknown").kind, Kind::NotFound);
    assert_eq!(ledger.store.write(help(json!(["beta", 7]))).await.expect_err("no name").kind, Kind::Invalid);
    assert_eq!(ledger.store.write(help(json!({}))).await.expect_err("no name").kind, Kind::Invalid);
    assert!(ledger.store.write(fetch("beta")).await?.is_empty());
    ledger.store.write(line("help", None)).await?;
    assert_eq!(ledger.count("log.line").await, 3);
    Ok(())
}

async fn startup_idle_and_error_lines_set_the_agents_state(ledger: TestLedger) -> Result<()> {
    ledger.join("alpha").await?;
    let state =
        || async { Ok::<_, quorate_model::Error>(ledger.store.read(Agents::default()).await?.remove(0)) };
    ledger.store.write(line("error", None)).await?;
    let view = state().await?;
    assert_eq!((view.state, view.agent.reason.as_deref()), (AgentState::Blocked, Some("words")));
    for action in ["startup", "idle"] {
        ledger.store.write(line("error", None)).await?;
        ledger.store.write(line(action, None)).await?;
        let view = state().await?;
        assert_eq!((view.state, view.agent.reason), (AgentState::Ready, None));
    }
    assert_eq!(ledger.count("agent.reported").await, 5);
    Ok(())
}

async fn any_other_line_is_kept_as_it_is(ledger: TestLedger) -> Result<()> {
    ledger.store.write(line("thinking", Some("src/a.rs"))).await?;
    let event = ledger.events().await.remove(0);
    assert_eq!((event.kind.as_str(), event.message.as_str()), ("log.line", "words"));
    assert_eq!((event.agent.as_deref(), event.resource.as_deref()), (Some("alpha"), Some("src/a.rs")));
    let data: serde_json::Value =
        serde_json::from_str(&event.data.expect("it has data")).expect("it is JSON");
    assert_eq!(data, json!({"action": "thinking", "status": "ok", "progress": 50, "metadata": {"n": 1}}));
    Ok(())
}

async fn what_is_no_line_is_bad_input_and_changes_nothing(ledger: TestLedger) -> Result<()> {
    for wrong in [
        Line { progress: Some(101), ..line("x", None) },
        Line { progress: Some(-1), ..line("x", None) },
        Line { metadata: Some(json!([1])), ..line("x", None) },
        Line { message: "a".repeat(MESSAGE_MAX + 1), ..line("x", None) },
        Line { metadata: Some(json!({ "n": "a".repeat(MESSAGE_MAX) })), ..line("x", None) },
        Line { status: Some("a".repeat(WORD_MAX + 1)), ..line("x", None) },
        line(&"a".repeat(WORD_MAX + 1), None),
        Line { message: "a\0b".into(), ..line("claim", Some("src")) },
        line("claim", None),
        line("claim", Some("../out")),
    ] {
        assert_eq!(ledger.store.write(wrong).await.expect_err("refused").kind, Kind::Invalid);
    }
    ledger.store.write(Line { message: "a".repeat(MESSAGE_MAX), ..line("x", None) }).await?;
    assert!(ledger.held().await?.is_empty());
    assert_eq!(ledger.kinds().await, ["log.line"]);
    Ok(())
}

async fn an_agents_latest_attempt_stays_its_own_when_another_has_the_task(ledger: TestLedger) -> Result<()> {
    let latest = |agent: &str| LatestAttempt { agent: agent.into() };
    assert_eq!(ledger.store.read(latest("alpha")).await?, None);
    let early = ledger.add(command("early")).await?;
    let first = ledger.must_take("alpha").await?;
    ledger.done(&first).await?;
    assert_eq!(ledger.store.read(latest("alpha")).await?, Some((early, 1)));
    let late = ledger.add(command("late")).await?;
    ledger.advance(1_000).await;
    ledger.must_take("alpha").await?;
    ledger.store.write(Reassign { id: late, to: None, reason: "a test".into() }).await?;
    ledger.advance(1_000).await;
    ledger.must_take("beta").await?;
    assert_eq!(ledger.store.read(latest("alpha")).await?, Some((late, 1)));
    assert_eq!(ledger.store.read(latest("beta")).await?, Some((late, 2)));
    Ok(())
}

on_every_backend!(
    an_agents_latest_attempt_stays_its_own_when_another_has_the_task,
    a_claim_line_takes_the_claim_and_a_release_or_complete_line_ends_it,
    a_refused_claim_logs_nothing_as_held,
    a_complete_line_completes_the_task_the_agent_has,
    a_help_line_is_a_message_to_those_it_names,
    startup_idle_and_error_lines_set_the_agents_state,
    any_other_line_is_kept_as_it_is,
    what_is_no_line_is_bad_input_and_changes_nothing,
);

//! What messages do, on both databases: unread until shown, replies, unknown names, limits.

use quorate_model::{Kind, MessageId, Result, TaskId};
use quorate_service::message::{Fetch, INBOX_MAX, Inbox, MessageKind, Send, TEXT_MAX, Unread};
use quorate_testkit::ledger::TestLedger;
use quorate_testkit::on_every_backend;
use quorate_testkit::verbs::command;

fn note(to: &str, text: &str) -> Send {
    Send {
        from: "alpha".into(),
        to: to.into(),
        kind: MessageKind::Note,
        text: text.into(),
        task: None,
        reply_to: None,
    }
}

fn fetch(agent: &str) -> Fetch {
    Fetch { agent: agent.into(), bytes: i64::MAX }
}

async fn unread_survives_a_restart_and_is_shown_once_in_order(ledger: TestLedger) -> Result<()> {
    ledger.join("beta").await?;
    for text in ["one", "two"] {
        ledger.store.write(note("beta", text)).await?;
    }
    let again = ledger.again().await;
    let peek = Inbox { agent: "beta".into(), all: false };
    assert_eq!(again.read(peek.clone()).await?.len(), 2, "a look marks nothing");
    let shown = again.write(fetch("beta")).await?;
    assert_eq!(shown.iter().map(|m| m.text.as_str()).collect::<Vec<_>>(), ["one", "two"]);
    assert!(ledger.store.write(fetch("beta")).await?.is_empty());
    assert!(ledger.store.read(peek).await?.is_empty());
    let all = ledger.store.read(Inbox { agent: "beta".into(), all: true }).await?;
    assert!(all.len() == 2 && all.iter().all(|message| message.read_at.is_some()));
    Ok(())
}

async fn an_unknown_target_is_answered_with_the_nearest_name(ledger: TestLedger) -> Result<()> {
    ledger.join("gamma").await?;
    for error in [
        ledger.store.write(note("gama", "x")).await.expect_err("unknown"),
        ledger.store.write(fetch("gama")).await.expect_err("unknown"),
        ledger.store.read(Inbox { agent: "gama".into(), all: true }).await.expect_err("unknown"),
    ] {
        assert_eq!(error.kind, Kind::NotFound);
        assert!(error.hint.as_ref().is_some_and(|hint| hint.contains("`gamma`")), "{error:?}");
    }
    assert_eq!(ledger.count("message.sent").await, 0);
    Ok(())
}

async fn a_reply_names_what_it_answers_and_the_kind_is_kept(ledger: TestLedger) -> Result<()> {
    ledger.join("alpha").await?;
    ledger.join("beta").await?;
    let id = ledger.store.write(Send { kind: MessageKind::Handoff, ..note("beta", "yours") }).await?;
    let reply = Send {
        from: "beta".into(),
        to: "alpha".into(),
        kind: MessageKind::Reply,
        text: "mine".into(),
        task: None,
        reply_to: Some(id),
    };
    ledger.store.write(reply.clone()).await?;
    let got = ledger.store.write(fetch("alpha")).await?;
    assert_eq!((got[0].from.as_str(), got[0].reply_to, got[0].kind), ("beta", Some(id), MessageKind::Reply));
    let nothing = Send { reply_to: Some(MessageId(99)), ..reply };
    let refused = ledger.store.write(nothing).await.expect_err("no such message");
    assert_eq!(refused.kind, Kind::NotFound);
    assert!(refused.hint.is_some_and(|hint| hint.contains("quorate inbox beta --all")));
    assert_eq!(ledger.count("message.sent").await, 2);
    Ok(())
}

async fn what_is_told_of_a_message_about_a_task_names_its_run(ledger: TestLedger) -> Result<()> {
    ledger.join("beta").await?;
    let (run, tasks) = ledger.start(vec![command("one")]).await?;
    for task in [Some(tasks[0]), Some(ledger.add(command("of no run")).await?), None] {
        ledger.store.write(Send { task, ..note("beta", "look") }).await?;
    }
    let events = ledger.events().await;
    let sent = events.iter().filter(|event| event.kind == "message.sent");
    assert_eq!(sent.map(|event| event.run).collect::<Vec<_>>(), [Some(run), None, None]);
    let nowhere = Send { task: Some(TaskId(99)), ..note("beta", "look") };
    assert_eq!(ledger.store.write(nowhere).await.expect_err("no such task").kind, Kind::NotFound);
    Ok(())
}

async fn a_text_is_bounded_and_an_inbox_is_fetched_in_parts_and_seen_whole(ledger: TestLedger) -> Result<()> {
    ledger.join("beta").await?;
    let first = ledger.store.write(note("beta", &"a".repeat(TEXT_MAX))).await?;
    let long = ledger.store.write(note("beta", &"a".repeat(TEXT_MAX + 1))).await;
    assert_eq!(long.expect_err("too long").kind, Kind::Invalid);
    for n in 0..INBOX_MAX {
        ledger.store.write(note("beta", &n.to_string())).await?;
    }
    let look = async |all: bool| ledger.store.read(Inbox { agent: "beta".into(), all }).await;
    let unread = async || ledger.store.read(Unread { agent: "beta".into() }).await;
    let seen = look(false).await?;
    assert_eq!((seen.len() as i64, seen[0].id), (INBOX_MAX + 1, first), "the first is not cut off");
    assert!(seen.is_sorted_by_key(|message| message.id));
    assert_eq!(unread().await?, seen.len());
    assert_eq!(ledger.store.write(fetch("beta")).await?.len() as i64, INBOX_MAX);
    assert_eq!((look(false).await?.len(), unread().await?), (1, 1));
    assert_eq!(ledger.store.write(fetch("beta")).await?.len(), 1);
    assert_eq!((look(true).await?.len(), unread().await?), (seen.len(), 0));
    Ok(())
}

async fn an_inbox_is_shown_within_so_many_bytes_but_for_the_first(ledger: TestLedger) -> Result<()> {
    ledger.join("beta").await?;
    // "ä" has two bytes.
    for text in ["äh", "four", "fives", "more than seven", "x"] {
        ledger.store.write(note("beta", text)).await?;
    }
    for expected in [["äh", "four"].as_slice(), &["fives"], &["more than seven"], &["x"], &[]] {
        let shown = ledger.store.write(Fetch { bytes: 7, ..fetch("beta") }).await?;
        assert_eq!(shown.iter().map(|m| m.text.as_str()).collect::<Vec<_>>(), expected);
    }
    Ok(())
}

async fn two_who_read_the_same_inbox_share_it(ledger: TestLedger) -> Result<()> {
    ledger.join("beta").await?;
    for n in 0..40 {
        ledger.store.write(note("beta", &n.to_string())).await?;
    }
    let other = ledger.again().await;
    let (one, two) = tokio::join!(ledger.store.write(fetch("beta")), other.write(fetch("beta")));
    assert_eq!(one?.len() + two?.len(), 40);
    Ok(())
}

on_every_backend!(
    unread_survives_a_restart_and_is_shown_once_in_order,
    an_unknown_target_is_answered_with_the_nearest_name,
    a_reply_names_what_it_answers_and_the_kind_is_kept,
    what_is_told_of_a_message_about_a_task_names_its_run,
    a_text_is_bounded_and_an_inbox_is_fetched_in_parts_and_seen_whole,
    an_inbox_is_shown_within_so_many_bytes_but_for_the_first,
    two_who_read_the_same_inbox_share_it,
);

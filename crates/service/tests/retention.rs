//! What is removed from history on both databases, in bounded parts, and what stays because somebody may want it.

use quorate_model::{Event, EventKind, Kind, Result, TaskId, TaskState};
use quorate_service::event::{After, Filter};
use quorate_service::message::{Inbox, MessageKind, Send};
use quorate_service::node;
use quorate_service::retention::{EVENTS_MAX, MayPrune, Prune, Pruned, TASKS_MAX};
use quorate_service::task::{Add, Cancel, Fail, NewTask, Renew};
use quorate_service::view::{Runs, Tasks};
use quorate_store::{Boxed, Read, Tx, Write};
use quorate_testkit::ledger::TestLedger;
use quorate_testkit::on_every_backend;
use quorate_testkit::verbs::{LEASE_MS, command, failure};

const DAY_MS: i64 = 86_400_000;
const STEP: Prune = Prune { events_ms: DAY_MS, attempts_ms: DAY_MS, tasks_ms: 3 * DAY_MS, after: TaskId(0) };

/// Records many events.
struct Many(i64);

impl Write for Many {
    type Answer = ();

    fn apply<'a>(&'a self, tx: &'a mut Tx) -> Boxed<'a, ()> {
        Box::pin(async move {
            (0..self.0).for_each(|n| tx.record(Event::new(EventKind::LogLine, n.to_string())));
            Ok(())
        })
    }
}

/// Counts the rows of a table.
struct Rows(&'static str);

impl Read for Rows {
    type Answer = i64;

    fn fetch<'a>(&'a self, tx: &'a mut Tx) -> Boxed<'a, i64> {
        Box::pin(async move {
            let count = tx.one(self.0, &[], |row| row.int("n")).await?;
            Ok(count.expect("a count has a row"))
        })
    }
}

/// One round: steps until there is no more.
async fn round(ledger: &TestLedger) -> Result<Vec<Pruned>> {
    let mut steps: Vec<Pruned> = Vec::new();
    while steps.last().is_none_or(|last| last.more) {
        let after = steps.last().map_or(TaskId(0), |last| last.seen);
        steps.push(ledger.store.write(Prune { after, ..STEP }).await?);
        ledger.events().await;
    }
    Ok(steps)
}

/// Returns the ids of the tasks that are left.
async fn left(ledger: &TestLedger) -> Result<Vec<TaskId>> {
    let mut ids: Vec<TaskId> =
        ledger.store.read(Tasks::default()).await?.iter().map(|task| task.id).collect();
    ids.sort();
    Ok(ids)
}

fn needing(title: &str, needs: &[TaskId]) -> NewTask {
    NewTask { needs: needs.to_vec(), ..command(title) }
}

async fn complete_next(ledger: &TestLedger) -> Result<TaskId> {
    let taken = ledger.must_take("alpha").await?;
    ledger.done(&taken).await?;
    Ok(taken.task.id)
}

async fn old_events_go_in_parts_and_what_is_kept_has_no_gap(ledger: TestLedger) -> Result<()> {
    assert!(ledger.store.read(MayPrune).await?, "who owns the tables may");
    let id = ledger.add(command("old")).await?;
    let taken = ledger.must_take("alpha").await?;
    let fail = Fail { tail: Some("last words".into()), is_final: true, ..failure(&taken, "boom") };
    ledger.store.write(fail).await?;
    let before = ledger.events().await.len() as i64;
    ledger.store.write(Many(EVENTS_MAX)).await?;
    ledger.events().await;
    let old = ledger.store.read(After { seq: None, filter: Filter::default(), limit: 3 }).await?;
    ledger.advance(DAY_MS + 60_000).await;
    ledger.add(command("young")).await?;
    ledger.events().await;
    let steps = round(&ledger).await?;
    let events: Vec<i64> = steps.iter().map(|step| step.events as i64).collect();
    assert_eq!(events, [EVENTS_MAX, before]);
    assert_eq!((steps[0].outputs, steps[1].outputs), (1, 0));
    let seen = steps[1].seen;
    assert_eq!(ledger.store.write(Prune { after: seen, ..STEP }).await?, Pruned::nothing(seen));
    assert_eq!(ledger.kinds().await, ["task.added", "log.pruned", "log.pruned"]);
    let expired = ledger.store.read(After { seq: Some(old.seen), filter: Filter::default(), limit: 3 }).await;
    let expired = expired.expect_err("what came after it is gone");
    let oldest = ledger.events().await[0].seq;
    assert_eq!(expired.kind, Kind::NotFound);
    assert!(expired.message.ends_with(&format!("the oldest kept is {oldest}")), "{expired}");
    let mut seen = None;
    for kind in ["task.added", "log.pruned", "log.pruned"] {
        let page = ledger.store.read(After { seq: seen, filter: Filter::default(), limit: 1 }).await?;
        assert_eq!(page.events[0].kind, kind, "a walk through what is kept is not refused");
        seen = Some(page.seen);
    }
    let attempt = &ledger.story(id).await?.attempts[0];
    assert_eq!((attempt.tail.as_deref(), attempt.reason.as_deref()), (None, Some("boom")));
    Ok(())
}

async fn ended_tasks_go_with_their_attempts_and_their_run(ledger: TestLedger) -> Result<()> {
    let (over, _) = ledger.start(vec![command("one"), command("two")]).await?;
    let single = ledger.add(command("single")).await?;
    for _ in 0..3 {
        complete_next(&ledger).await?;
    }
    ledger.check().await?;
    let (going_on, tasks) = ledger.start(vec![command("done early"), command("open")]).await?;
    complete_next(&ledger).await?;
    let waits = ledger.add(command("waits for years")).await?;
    ledger.advance(3 * DAY_MS - 1).await;
    let young = round(&ledger).await?;
    assert_eq!((young[0].tasks, young[0].runs), (0, 0), "they are kept for three days");
    ledger.advance(2).await;
    let steps = round(&ledger).await?;
    assert_eq!((steps.len(), steps[0].tasks, steps[0].runs), (1, 3, 1));
    assert_eq!(left(&ledger).await?, [tasks[0], tasks[1], waits], "a run that goes on keeps all it has");
    let runs = ledger.store.read(Runs::default()).await?;
    assert_eq!(runs.iter().map(|run| run.run.id).collect::<Vec<_>>(), [going_on]);
    assert_ne!(over, going_on);
    let Err(gone) = ledger.story(single).await else { panic!("task {single} is gone") };
    assert_eq!(gone.kind, Kind::NotFound);
    assert_eq!(
        ledger.store.read(Rows("select count(*) as n from attempts")).await?,
        1,
        "only that of the run that goes on"
    );
    let last = ledger.events().await.pop().expect("there is one");
    // On PostgreSQL old events go as soon as no open transaction of the server can stand before them: then or now.
    assert!(last.message.ends_with("3 tasks, 1 runs"), "{}", last.message);
    Ok(())
}

/// One that dies on another host is buried by nobody.
async fn nodes_that_stopped_or_fell_silent_long_ago_are_forgotten(ledger: TestLedger) -> Result<()> {
    let begin = node::Begin {
        kind: "up",
        host: "there".into(),
        pid: 1,
        pid_started: "1".into(),
        folder: "/p".into(),
        lease_ms: LEASE_MS,
    };
    let mut nodes = Vec::new();
    for _ in 0..3 {
        nodes.push(ledger.store.write(begin.clone()).await?);
    }
    ledger.store.write(node::End { id: nodes[0] }).await?;
    ledger.advance(DAY_MS - 1).await;
    let node = nodes[2].to_string();
    ledger.store.write(Renew { held: vec![], agents: vec![], node, lease_ms: LEASE_MS }).await?;
    ledger.advance(2).await;
    assert_eq!(round(&ledger).await?[0].nodes, 1, "that which ended in order");
    ledger.advance(LEASE_MS).await;
    assert_eq!(round(&ledger).await?[0].nodes, 1, "that which fell silent");
    let left = ledger.store.read(node::List).await?;
    assert_eq!(left.iter().map(|node| node.id).collect::<Vec<_>>(), nodes[2..]);
    let short = Prune { events_ms: 100, ..STEP };
    ledger.advance(LEASE_MS * 5).await;
    assert_eq!(ledger.store.write(short).await?.nodes, 0, "it may only sleep with its host");
    Ok(())
}

async fn what_another_task_may_still_want_stays(ledger: TestLedger) -> Result<()> {
    let first = ledger.add(command("first")).await?;
    complete_next(&ledger).await?;
    ledger.advance(2 * DAY_MS).await;
    let second = ledger.add(needing("second", &[first])).await?;
    ledger.advance(2 * DAY_MS).await;
    round(&ledger).await?;
    assert_eq!(left(&ledger).await?, [first, second], "it is open and wants the result");
    complete_next(&ledger).await?;
    let third = ledger.add(needing("third", &[second])).await?;
    complete_next(&ledger).await?;
    round(&ledger).await?;
    assert_eq!(left(&ledger).await?, [first, second, third], "it may be asked about");
    ledger.advance(3 * DAY_MS + 1).await;
    let fourth = ledger.add(needing("fourth", &[third])).await?;
    round(&ledger).await?;
    assert_eq!(left(&ledger).await?, [third, fourth], "a chain that grows is not kept for ever");
    assert_eq!(ledger.store.read(Rows("select count(*) as n from task_needs")).await?, 1);
    Ok(())
}

async fn a_failed_task_outlives_those_that_come_back_only_with_it(ledger: TestLedger) -> Result<()> {
    let root = ledger.add(command("root")).await?;
    let below = ledger.add(needing("below", &[root])).await?;
    let taken = ledger.must_take("alpha").await?;
    ledger.store.write(Fail { is_final: true, ..failure(&taken, "boom") }).await?;
    assert_eq!(ledger.state(below).await?, TaskState::Cancelled);
    ledger.advance(3 * DAY_MS + 1).await;
    round(&ledger).await?;
    assert_eq!(left(&ledger).await?, [root]);
    round(&ledger).await?;
    assert_eq!(left(&ledger).await?, []);
    Ok(())
}

async fn many_tasks_go_in_parts(ledger: TestLedger) -> Result<()> {
    let tasks = (0..TASKS_MAX + 10).map(|n| command(&format!("task {n}"))).collect();
    let ids = ledger.store.write(Add { run: None, tasks, by: None }).await?;
    let calls = ids[1..].iter().map(|id| Cancel { id: *id, reason: "no use".into() });
    for call in calls {
        ledger.store.write(call).await?;
    }
    ledger.advance(3 * DAY_MS + 1).await;
    let young = ledger.add(command("young")).await?;
    let steps = round(&ledger).await?;
    let tasks: Vec<i64> = steps.iter().map(|step| step.tasks as i64).collect();
    assert_eq!(tasks.iter().sum::<i64>(), TASKS_MAX + 9, "{tasks:?}");
    assert!(tasks.len() >= 2 && tasks.iter().all(|count| *count <= TASKS_MAX), "{tasks:?}");
    assert_eq!(left(&ledger).await?, [ids[0], young]);
    Ok(())
}

async fn messages_go_after_the_time_of_tasks(ledger: TestLedger) -> Result<()> {
    ledger.join("ada").await?;
    let note = |text: &str| Send {
        from: "bob".into(),
        to: "ada".into(),
        kind: MessageKind::Note,
        text: text.into(),
        task: None,
        reply_to: None,
    };
    ledger.store.write(note("old")).await?;
    ledger.advance(2 * DAY_MS).await;
    ledger.store.write(note("young")).await?;
    ledger.advance(DAY_MS + 1).await;
    assert_eq!(round(&ledger).await?[0].messages, 1);
    let inbox = ledger.store.read(Inbox { agent: "ada".into(), all: true }).await?;
    assert_eq!(inbox.iter().map(|message| message.text.as_str()).collect::<Vec<_>>(), ["young"]);
    Ok(())
}

on_every_backend!(
    old_events_go_in_parts_and_what_is_kept_has_no_gap,
    ended_tasks_go_with_their_attempts_and_their_run,
    nodes_that_stopped_or_fell_silent_long_ago_are_forgotten,
    what_another_task_may_still_want_stays,
    a_failed_task_outlives_those_that_come_back_only_with_it,
    many_tasks_go_in_parts,
    messages_go_after_the_time_of_tasks,
);

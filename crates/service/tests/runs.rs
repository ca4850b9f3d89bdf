//! What runs do, on both databases: ending, cancelling, resuming, reopening, what crosses from one run to another.

use quorate_model::{Kind, Result, RunId, TaskState};
use quorate_service::run::{Cancel, FOREGROUND_MS, Reported, Resume, Run, Settle, Start, Unreported};
use quorate_service::task::{self, Add, NewTask, Park, Retry, Unpark};
use quorate_service::view::{Pulse, RunShow, Runs, Status, Tasks};
use quorate_testkit::ledger::TestLedger;
use quorate_testkit::on_every_backend;
use quorate_testkit::verbs::{claiming, command, next_of};

fn once(key: &str, needs_new: &[usize]) -> NewTask {
    NewTask { key: Some(key.into()), needs_new: needs_new.to_vec(), max_attempts: 1, ..command(key) }
}

async fn settle(ledger: &TestLedger, id: RunId) -> Result<Run> {
    ledger.store.write(Settle { id }).await
}

/// Notes the report of a run as it was read.
async fn report(ledger: &TestLedger, run: &Run) -> Result<()> {
    let told = Reported { id: run.id, report: "here".into(), finished_at: run.finished_at };
    ledger.store.write(told).await
}

/// Returns the run's tasks as `key state`, by id.
async fn states(ledger: &TestLedger, id: RunId) -> Result<Vec<String>> {
    let tasks = ledger.store.read(Tasks { run: Some(id), ..Tasks::default() }).await?;
    Ok(tasks.into_iter().map(|task| format!("{} {}", task.key.unwrap_or(task.title), task.state)).collect())
}

async fn a_run_ends_when_its_last_task_has_ended_and_only_once(ledger: TestLedger) -> Result<()> {
    let (id, _) = ledger.start(vec![once("a", &[]), once("b", &[])]).await?;
    let a = ledger.must_take("alpha").await?;
    ledger.done(&a).await?;
    assert_eq!(settle(&ledger, id).await?.state, "running");
    let b = ledger.must_take("alpha").await?;
    ledger.fail(&b, "boom").await?;
    let run = settle(&ledger, id).await?;
    assert_eq!(
        (run.state.as_str(), run.reason.as_deref()),
        ("failed", Some("1 completed, 1 failed, 0 cancelled"))
    );
    settle(&ledger, id).await?;
    assert_eq!(ledger.check().await?.runs, 0);
    assert_eq!(ledger.count("run.finished").await, 1);
    assert_eq!(
        ledger.store.write(Settle { id: RunId(99) }).await.expect_err("no such run").kind,
        Kind::NotFound
    );
    Ok(())
}

async fn a_health_check_ends_a_run_whose_command_is_gone(ledger: TestLedger) -> Result<()> {
    let (id, _) = ledger.start(vec![once("a", &[])]).await?;
    let a = ledger.must_take("alpha").await?;
    ledger.done(&a).await?;
    assert_eq!(ledger.check().await?.runs, 1);
    assert_eq!(settle(&ledger, id).await?.state, "completed");
    Ok(())
}

async fn a_cancelled_run_stops_what_runs_and_frees_what_it_held(ledger: TestLedger) -> Result<()> {
    let tasks = vec![claiming("holds", &["src"]), once("waits", &[0]), once("ready", &[])];
    let (id, _) = ledger.start(tasks).await?;
    let taken = ledger.must_take("alpha").await?;
    let run = ledger.store.write(Cancel { id, reason: "not wanted".into() }).await?;
    assert_eq!(run.state, "cancelled");
    assert_eq!(states(&ledger, id).await?, ["holds cancelled", "waits cancelled", "ready cancelled"]);
    assert!(ledger.held().await?.is_empty());
    assert_eq!(ledger.done(&taken).await.expect_err("its term is over").kind, Kind::Stale);
    assert_eq!(ledger.count("task.cancelled").await, 3);
    let again = ledger.store.write(Cancel { id, reason: "again".into() }).await;
    let again = again.expect_err("over");
    assert_eq!(again.kind, Kind::Conflict);
    assert_eq!(again.hint, Some(format!("quorate runs show {id} tells how it ended")));
    let late = Add { run: Some(id), tasks: vec![once("late", &[])], by: None };
    assert_eq!(ledger.store.write(late).await.expect_err("over").kind, Kind::Conflict);
    Ok(())
}

async fn a_resumed_run_tries_anew_what_did_not_complete(ledger: TestLedger) -> Result<()> {
    let (id, _) =
        ledger.start(vec![once("a", &[]), once("b", &[]), once("c", &[0, 1]), once("d", &[2])]).await?;
    for _ in 0..2 {
        let taken = ledger.must_take("alpha").await?;
        ledger.fail(&taken, "boom").await?;
    }
    assert_eq!(states(&ledger, id).await?, ["a failed", "b failed", "c cancelled", "d cancelled"]);
    assert_eq!(settle(&ledger, id).await?.state, "failed");
    assert_eq!(ledger.store.write(Resume { id }).await?.state, "running");
    assert_eq!(states(&ledger, id).await?, ["a ready", "b ready", "c waiting", "d waiting"]);
    assert_eq!(
        ledger.store.write(Resume { id }).await?.state,
        "running",
        "one that goes on is left as it is"
    );
    while let Some(taken) = ledger.take("alpha").await? {
        ledger.done(&taken).await?;
    }
    assert_eq!(settle(&ledger, id).await?.state, "completed");
    assert_eq!(ledger.store.write(Resume { id }).await.expect_err("completed").kind, Kind::Conflict);
    assert_eq!(ledger.count("run.resumed").await, 1);
    Ok(())
}

async fn a_cancelled_run_is_resumed_with_its_times_kept(ledger: TestLedger) -> Result<()> {
    let later = NewTask { due_in_ms: Some(60_000), ..once("later", &[]) };
    let (id, _) = ledger.start(vec![once("now", &[]), later]).await?;
    ledger.store.write(Cancel { id, reason: "a break".into() }).await?;
    ledger.store.write(Resume { id }).await?;
    assert_eq!(states(&ledger, id).await?, ["now ready", "later waiting"]);
    ledger.advance(60_000).await;
    assert_eq!(ledger.check().await?.due, 1);
    assert_eq!(states(&ledger, id).await?, ["now ready", "later ready"]);
    Ok(())
}

async fn a_retried_task_opens_its_run_again_and_those_of_its_dependents(ledger: TestLedger) -> Result<()> {
    let (one, ids) = ledger.start(vec![once("a", &[])]).await?;
    let needs = NewTask { needs: vec![ids[0], ids[0]], ..once("b", &[]) };
    let (two, _) = ledger.start(vec![needs]).await?;
    let a = ledger.must_take("alpha").await?;
    ledger.fail(&a, "boom").await?;
    assert_eq!(states(&ledger, two).await?, ["b cancelled"]);
    for id in [one, two] {
        assert_eq!(settle(&ledger, id).await?.state, "failed");
    }
    let stuck = ledger.store.write(Resume { id: two }).await.expect_err("its need is elsewhere");
    assert!(stuck.hint.as_ref().is_some_and(|hint| hint.contains(&format!("retry {}", ids[0]))), "{stuck:?}");
    assert_eq!(settle(&ledger, two).await?.state, "failed", "refused, nothing has changed");
    ledger.store.write(Retry { id: ids[0] }).await?;
    for id in [one, two] {
        assert_eq!(settle(&ledger, id).await?.state, "running");
    }
    for _ in 0..2 {
        let taken = ledger.must_take("alpha").await?;
        ledger.done(&taken).await?;
    }
    for id in [one, two] {
        assert_eq!(settle(&ledger, id).await?.state, "completed");
    }
    Ok(())
}

async fn a_cancelled_run_cancels_what_needs_it_elsewhere(ledger: TestLedger) -> Result<()> {
    let (one, ids) = ledger.start(vec![once("a", &[])]).await?;
    let (two, _) = ledger.start(vec![NewTask { needs: ids, ..once("b", &[]) }, once("c", &[0])]).await?;
    ledger.store.write(Cancel { id: one, reason: "no".into() }).await?;
    assert_eq!(states(&ledger, two).await?, ["b cancelled", "c cancelled"]);
    Ok(())
}

async fn a_task_cancelled_by_a_person_is_not_retried_before_its_need(ledger: TestLedger) -> Result<()> {
    let (id, ids) = ledger.start(vec![once("a", &[]), once("b", &[0]), once("c", &[1])]).await?;
    ledger.store.write(task::Cancel { id: ids[2], reason: "not c".into() }).await?;
    let a = ledger.must_take("alpha").await?;
    ledger.fail(&a, "boom").await?;
    for dead in [ids[1], ids[2]] {
        let error = ledger.store.write(Retry { id: dead }).await.expect_err("it would wait for ever");
        assert_eq!(error.kind, Kind::Conflict);
        assert!(
            error.hint.as_ref().is_some_and(|hint| hint.contains(&format!("retry {}", ids[0]))),
            "{error:?}"
        );
    }
    ledger.store.write(Retry { id: ids[0] }).await?;
    assert_eq!(states(&ledger, id).await?, ["a ready", "b waiting", "c cancelled"]);
    ledger.store.write(Retry { id: ids[2] }).await?;
    assert_eq!(states(&ledger, id).await?, ["a ready", "b waiting", "c waiting"]);
    Ok(())
}

async fn what_has_two_dead_needs_comes_back_with_the_second(ledger: TestLedger) -> Result<()> {
    let (id, ids) =
        ledger.start(vec![once("a", &[]), once("b", &[]), once("c", &[0]), once("d", &[2, 1])]).await?;
    for _ in 0..2 {
        let taken = ledger.must_take("alpha").await?;
        ledger.fail(&taken, "boom").await?;
    }
    ledger.store.write(Retry { id: ids[0] }).await?;
    assert_eq!(states(&ledger, id).await?, ["a ready", "b failed", "c waiting", "d cancelled"]);
    ledger.store.write(Retry { id: ids[1] }).await?;
    assert_eq!(states(&ledger, id).await?, ["a ready", "b ready", "c waiting", "d waiting"]);
    Ok(())
}

async fn a_parked_dependent_ends_with_its_need_and_comes_back_parked(ledger: TestLedger) -> Result<()> {
    let (id, ids) = ledger.start(vec![once("a", &[]), once("b", &[0])]).await?;
    ledger.store.write(Park { id: ids[1], term: None, reason: "approval".into(), until: None }).await?;
    let a = ledger.must_take("alpha").await?;
    ledger.fail(&a, "boom").await?;
    assert_eq!(states(&ledger, id).await?, ["a failed", "b cancelled"]);
    assert_eq!(settle(&ledger, id).await?.state, "failed");
    ledger.store.write(Retry { id: ids[0] }).await?;
    assert_eq!(states(&ledger, id).await?, ["a ready", "b parked"]);
    assert_eq!(ledger.story(ids[1]).await?.task.reason.as_deref(), Some("approval"));
    let a = ledger.must_take("alpha").await?;
    ledger.done(&a).await?;
    assert_eq!(ledger.state(ids[1]).await?, TaskState::Parked, "only a person lets it go on");
    ledger.store.write(Unpark { id: ids[1] }).await?;
    assert_eq!(ledger.state(ids[1]).await?, TaskState::Ready);
    Ok(())
}

async fn a_run_whose_tasks_are_all_parked_goes_on_and_says_why(ledger: TestLedger) -> Result<()> {
    let (id, ids) = ledger.start(vec![once("a", &[]), once("b", &[])]).await?;
    let taken = ledger.must_take("alpha").await?;
    let until = quorate_testkit::ledger::START_MS + 30_000;
    let limit =
        Park { id: ids[0], term: Some(taken.task.term), reason: "rate limit".into(), until: Some(until) };
    ledger.store.write(limit).await?;
    ledger.store.write(Park { id: ids[1], term: None, reason: "approval".into(), until: None }).await?;
    assert_eq!(settle(&ledger, id).await?.state, "running");
    let checked = ledger.check().await?;
    assert_eq!((checked.runs, checked.next_in_ms), (0, Some(30_000)));
    let why = quorate_service::why::why(&ledger.story(ids[0]).await?).expect("it waits");
    assert_eq!(why, "parked until 2026-01-01T00:00:30.000Z: rate limit");
    ledger.advance(30_000).await;
    assert_eq!(ledger.check().await?.due, 1);
    assert_eq!(states(&ledger, id).await?, ["a ready", "b parked"]);
    assert_eq!(ledger.story(ids[0]).await?.task.failures, 0, "a limit is no failure");
    Ok(())
}

async fn a_parked_task_keeps_the_time_it_was_added_for(ledger: TestLedger) -> Result<()> {
    let id = ledger.add(NewTask { due_in_ms: Some(60_000), ..command("tonight") }).await?;
    ledger.store.write(Park { id, term: None, reason: "wait".into(), until: None }).await?;
    let twice = ledger.store.write(Park { id, term: None, reason: "wait more".into(), until: None }).await;
    assert_eq!(twice.expect_err("it is parked").kind, Kind::Conflict);
    ledger.store.write(Unpark { id }).await?;
    assert_eq!(ledger.state(id).await?, TaskState::Waiting);
    ledger.advance(60_000).await;
    ledger.check().await?;
    assert_eq!(ledger.state(id).await?, TaskState::Ready);
    assert_eq!(ledger.store.write(Unpark { id }).await.expect_err("not parked").kind, Kind::Conflict);
    Ok(())
}

async fn a_need_named_twice_counts_once(ledger: TestLedger) -> Result<()> {
    let a = ledger.add(command("a")).await?;
    let (id, _) =
        ledger.start(vec![once("b", &[]), NewTask { needs: vec![a, a], ..once("c", &[0, 0]) }]).await?;
    for _ in 0..2 {
        let taken = ledger.must_take("alpha").await?;
        ledger.done(&taken).await?;
    }
    assert_eq!(states(&ledger, id).await?, ["b completed", "c ready"]);
    Ok(())
}

async fn what_could_never_be_taken_is_refused_and_nothing_is_added(ledger: TestLedger) -> Result<()> {
    let done = ledger.add(once("dead", &[])).await?;
    let taken = ledger.must_take("alpha").await?;
    ledger.fail(&taken, "boom").await?;
    for (wrong, kind) in [
        (once("itself", &[1]), Kind::Invalid),
        (once("nobody", &[7]), Kind::Invalid),
        (NewTask { needs: vec![done], ..command("dead need") }, Kind::Invalid),
        (NewTask { needs: vec![quorate_model::TaskId(99)], ..command("unknown need") }, Kind::NotFound),
        (NewTask { claims: vec!["../out".into()], ..command("outside") }, Kind::Invalid),
        (NewTask { title: "a\0b".into(), ..command("x") }, Kind::Invalid),
    ] {
        let start =
            Start { goal: "g".into(), source: None, detached: false, tasks: vec![command("fine"), wrong] };
        assert_eq!(ledger.store.write(start).await.expect_err("refused").kind, kind);
    }
    assert!(ledger.store.read(Runs::default()).await?.is_empty());
    assert!(ledger.take("alpha").await?.is_none());
    Ok(())
}

async fn a_run_and_its_report_are_shown(ledger: TestLedger) -> Result<()> {
    let (id, ids) = ledger.start(vec![once("a", &[]), once("b", &[0])]).await?;
    let taken = ledger.must_take("alpha").await?;
    let story = ledger.store.read(RunShow { id }).await?;
    assert_eq!((story.tasks.len(), story.attempts.len()), (2, 1));
    assert_eq!(story.needs, [(ids[1], ids[0])]);
    assert_eq!(ledger.store.read(RunShow { id: RunId(9) }).await.expect_err("none").kind, Kind::NotFound);
    assert_eq!(ledger.store.read(Runs { open: true }).await?.len(), 1);
    ledger.done(&taken).await?;
    let ended = ledger.store.write(Cancel { id, reason: "enough".into() }).await?;
    assert!(ledger.store.read(Runs { open: true }).await?.is_empty());
    report(&ledger, &ended).await?;
    assert_eq!(ledger.store.read(RunShow { id }).await?.run.report.as_deref(), Some("here"));
    let overview = ledger.store.read(Status).await?;
    assert_eq!(overview.counts, [("cancelled".to_owned(), 1), ("completed".to_owned(), 1)]);
    assert_eq!(overview.runs[0].counts.len(), 2);
    Ok(())
}

async fn a_report_tells_of_one_end_and_goes_when_the_run_goes_on(ledger: TestLedger) -> Result<()> {
    let (id, ids) = ledger.start(vec![once("a", &[])]).await?;
    let told = async || Ok::<_, quorate_model::Error>(ledger.store.read(RunShow { id }).await?.run.report);
    report(&ledger, &settle(&ledger, id).await?).await?;
    assert_eq!(told().await?, None, "written when its command ended, and the run goes on");
    let taken = ledger.must_take("alpha").await?;
    ledger.fail(&taken, "boom").await?;
    let failed = settle(&ledger, id).await?;
    report(&ledger, &failed).await?;
    assert!(told().await?.is_some());
    ledger.store.write(Retry { id: ids[0] }).await?;
    report(&ledger, &failed).await?;
    assert_eq!(told().await?, None, "it tells of an end that is none any more");
    ledger.advance(FOREGROUND_MS + 1).await;
    let taken = ledger.must_take("alpha").await?;
    ledger.done(&taken).await?;
    let completed = settle(&ledger, id).await?;
    report(&ledger, &failed).await?;
    ledger.advance(FOREGROUND_MS + 1).await;
    assert_eq!(ledger.store.read(Unreported { limit: 10 }).await?, [id], "whoever sees it writes it");
    report(&ledger, &completed).await?;
    assert!(told().await?.is_some());
    Ok(())
}

async fn ten_thousand_tasks_are_added_and_cancelled_in_one_go(ledger: TestLedger) -> Result<()> {
    let tasks = (0..10_000).map(|n| once(&format!("k{n}"), if n == 0 { &[] } else { &[0] })).collect();
    let (id, ids) = ledger.start(tasks).await?;
    assert_eq!(ids.len(), 10_000);
    ledger.store.write(Cancel { id, reason: "too many".into() }).await?;
    assert_eq!(ledger.store.read(Status).await?.counts, [("cancelled".to_owned(), 10_000)]);
    ledger.store.write(Resume { id }).await?;
    let taken = ledger.must_take("alpha").await?;
    ledger.done(&taken).await?;
    assert_eq!(
        ledger.store.read(Tasks { state: Some("ready".into()), ..Tasks::default() }).await?.len(),
        9_999
    );
    Ok(())
}

async fn a_pulse_tells_what_is_open_what_runs_and_what_only_a_person_moves(ledger: TestLedger) -> Result<()> {
    let (id, ids) =
        ledger.start(vec![once("a", &[]), once("b", &[]), once("c", &[1]), once("d", &[])]).await?;
    let take = task::Take { node: Some("1".into()), ..next_of("alpha") };
    ledger.store.write(take).await?.task().expect("a is ready");
    let pulse = |node: Option<&str>| Pulse { id, node: node.map(str::to_owned) };
    for (node, running) in [(None, 1), (Some("1"), 1), (Some("2"), 0)] {
        let seen = ledger.store.read(pulse(node)).await?;
        assert_eq!((seen.open, seen.running, seen.held), (4, running, 0));
    }
    ledger.store.write(Park { id: ids[1], term: None, reason: "approval".into(), until: None }).await?;
    assert_eq!(ledger.store.read(pulse(None)).await?.held, 2, "the parked one and the one behind it");
    ledger.store.write(Cancel { id, reason: "enough".into() }).await?;
    let seen = ledger.store.read(pulse(None)).await?;
    assert_eq!((seen.run.state.as_str(), seen.open, seen.running, seen.held), ("cancelled", 0, 0, 0));
    let unknown = Pulse { id: RunId(9), node: None };
    assert_eq!(ledger.store.read(unknown).await.expect_err("none").kind, Kind::NotFound);
    Ok(())
}

async fn a_key_that_is_given_twice_is_refused_by_name_and_nothing_is_added(ledger: TestLedger) -> Result<()> {
    let (id, ids) = ledger.start(vec![once("a", &[]), once("b", &[])]).await?;
    let refused = async |run, keys: &[&str]| {
        let tasks = keys.iter().map(|key| once(key, &[])).collect();
        let error = ledger.store.write(Add { run, tasks, by: None }).await.expect_err("refused");
        (error.kind, error.message)
    };
    let twice = (Kind::Invalid, "two tasks have the key `c`".to_owned());
    assert_eq!(refused(Some(id), &["c", "d", "c"]).await, twice);
    assert_eq!(refused(None, &["c", "c"]).await, twice);
    let there = format!("run {id} has a task with the key `b` already: {}", ids[1]);
    assert_eq!(refused(Some(id), &["c", "b"]).await, (Kind::Invalid, there));
    let plan =
        Start { goal: "g".into(), source: None, detached: true, tasks: vec![once("c", &[]), once("c", &[])] };
    let error = ledger.store.write(plan).await.expect_err("refused");
    assert_eq!((error.kind, error.message), twice);
    assert_eq!(states(&ledger, id).await?, ["a ready", "b ready"]);
    assert_eq!(ledger.store.read(Runs::default()).await?.len(), 1);
    ledger
        .store
        .write(Add { run: Some(id), tasks: vec![once("c", &[]), command("no key")], by: None })
        .await?;
    ledger.store.write(Add { run: None, tasks: vec![once("c", &[])], by: None }).await?;
    Ok(())
}

async fn of_two_who_add_the_same_key_at_once_one_is_told_so(ledger: TestLedger) -> Result<()> {
    let (id, _) = ledger.start(vec![once("a", &[])]).await?;
    let other = ledger.again().await;
    for n in 0..20 {
        let add = || Add { run: Some(id), tasks: vec![once(&format!("t{n}"), &[])], by: None };
        let (one, two) = tokio::join!(ledger.store.write(add()), other.write(add()));
        let refused = one.as_ref().err().or(two.as_ref().err()).expect("one of them");
        assert_eq!(refused.kind, Kind::Invalid, "{refused}");
        assert!(one.is_ok() || two.is_ok());
    }
    Ok(())
}

async fn a_run_that_has_ended_waits_for_its_report(ledger: TestLedger) -> Result<()> {
    let start = |detached| Start { goal: "g".into(), source: None, detached, tasks: vec![once("a", &[])] };
    let missing = async || ledger.store.read(Unreported { limit: 10 }).await;
    let (in_foreground, _) = ledger.store.write(start(false)).await?;
    let (first, _) = ledger.store.write(start(true)).await?;
    let (second, _) = ledger.store.write(start(true)).await?;
    assert_eq!(missing().await?, [], "none has ended");
    for _ in 0..3 {
        let taken = ledger.must_take("alpha").await?;
        ledger.done(&taken).await?;
    }
    ledger.check().await?;
    assert_eq!(missing().await?, [first, second], "the one in the foreground has its command for that");
    assert_eq!(ledger.store.read(Unreported { limit: 1 }).await?, [first]);
    report(&ledger, &settle(&ledger, first).await?).await?;
    assert_eq!(missing().await?, [second]);
    ledger.advance(FOREGROUND_MS + 1).await;
    assert_eq!(missing().await?, [in_foreground, second], "its command has had the time to write it");
    Ok(())
}

on_every_backend!(
    a_pulse_tells_what_is_open_what_runs_and_what_only_a_person_moves,
    a_run_ends_when_its_last_task_has_ended_and_only_once,
    a_health_check_ends_a_run_whose_command_is_gone,
    a_cancelled_run_stops_what_runs_and_frees_what_it_held,
    a_resumed_run_tries_anew_what_did_not_complete,
    a_cancelled_run_is_resumed_with_its_times_kept,
    a_retried_task_opens_its_run_again_and_those_of_its_dependents,
    a_cancelled_run_cancels_what_needs_it_elsewhere,
    a_task_cancelled_by_a_person_is_not_retried_before_its_need,
    what_has_two_dead_needs_comes_back_with_the_second,
    a_parked_dependent_ends_with_its_need_and_comes_back_parked,
    a_run_whose_tasks_are_all_parked_goes_on_and_says_why,
    a_parked_task_keeps_the_time_it_was_added_for,
    a_need_named_twice_counts_once,
    what_could_never_be_taken_is_refused_and_nothing_is_added,
    a_run_and_its_report_are_shown,
    a_key_that_is_given_twice_is_refused_by_name_and_nothing_is_added,
    of_two_who_add_the_same_key_at_once_one_is_told_so,
    a_run_that_has_ended_waits_for_its_report,
    a_report_tells_of_one_end_and_goes_when_the_run_goes_on,
    ten_thousand_tasks_are_added_and_cancelled_in_one_go,
);

//! What follows from a plan that an agent made, on both databases.

use quorate_model::goal::{PLAN_ATTEMPTS, PlanCheck, REPLANS_MAX};
use quorate_model::{Kind, Result, RunId, TaskId, TaskState};
use quorate_service::goal::{APPROVAL, Adopt, Approve, Decompose};
use quorate_service::retention::Prune;
use quorate_service::run::{Cancel, Resume, Settle};
use quorate_service::task::{
    self, Done, DoneAnswer, NewTask, Park, Release, Retry, SettleCheck, Take, TakeCheck, Taken, Unpark, Work,
};
use quorate_service::view::{RunShow, RunStory};
use quorate_service::why::why;
use quorate_testkit::ledger::TestLedger;
use quorate_testkit::on_every_backend;
use quorate_testkit::verbs::{LEASE_MS, command, failure, next_of};

const DAY_MS: i64 = 86_400_000;

fn planning(check: PlanCheck) -> NewTask {
    NewTask {
        key: Some("plan".into()),
        work: Some(Work::Prompt("the question".into())),
        verify: Some(check.as_str().into()),
        max_attempts: PLAN_ATTEMPTS,
        ..NewTask::new("Plan")
    }
}

fn keyed(key: &str, needs: &[usize]) -> NewTask {
    NewTask { key: Some(key.into()), needs_new: needs.to_vec(), max_attempts: 1, ..command(key) }
}

/// Has the next task done with a plan as its result; answers with what settles its check.
async fn planned(ledger: &TestLedger, run: RunId, tasks: Vec<NewTask>, parks: bool) -> Result<Adopt> {
    let take = Take { run: Some(run), ..next_of("boss") };
    let taken = ledger.store.write(take).await?.task().expect("a plan is asked for");
    let done = Done { id: taken.task.id, term: taken.task.term, result: Some("{}".into()), tail: None };
    assert_eq!(ledger.store.write(done).await?, DoneAnswer::Verifying);
    let check = TakeCheck { task: None, run: Some(run), node: "1".into(), lease_ms: LEASE_MS };
    let check = ledger.store.write(check).await?.expect("a check is due");
    let settle = SettleCheck {
        id: check.id,
        term: check.term,
        failure: None,
        is_final: false,
        tail: None,
        retry_after_ms: 1_000,
    };
    Ok(Adopt { settle, tasks, parks })
}

async fn begin(ledger: &TestLedger, check: PlanCheck) -> Result<RunId> {
    Ok(ledger.start(vec![planning(check)]).await?.0)
}

async fn story(ledger: &TestLedger, run: RunId) -> Result<RunStory> {
    ledger.store.read(RunShow { id: run }).await
}

async fn keys(ledger: &TestLedger, run: RunId) -> Result<Vec<String>> {
    let tasks = story(ledger, run).await?.tasks;
    Ok(tasks.iter().map(|task| format!("{} {}", task.key.as_deref().unwrap_or("-"), task.state)).collect())
}

async fn settle(ledger: &TestLedger, run: RunId) -> Result<String> {
    Ok(ledger.store.write(Settle { id: run }).await?.state)
}

/// Fails the next task for good.
async fn fail_next(ledger: &TestLedger) -> Result<Taken> {
    let taken = ledger.must_take("hand").await?;
    assert_eq!(ledger.store.write(failure(&taken, "it cannot be done")).await?, TaskState::Failed);
    Ok(taken)
}

async fn done_next(ledger: &TestLedger) -> Result<()> {
    let taken = ledger.must_take("hand").await?;
    ledger.done(&taken).await.map(drop)
}

async fn a_plans_tasks_are_added_with_the_passing_of_its_check(ledger: TestLedger) -> Result<()> {
    let run = begin(&ledger, PlanCheck::Run).await?;
    let adopt = planned(&ledger, run, vec![keyed("a", &[]), keyed("plan", &[0])], false).await?;
    assert_eq!(ledger.store.write(adopt.clone()).await?, TaskState::Completed);
    assert_eq!(keys(&ledger, run).await?, ["plan completed", "a ready", "plan-2 waiting"]);
    assert_eq!(settle(&ledger, run).await?, "running", "it has only begun");
    let again = ledger.store.write(adopt).await.expect_err("the term is over");
    assert_eq!(again.kind, Kind::Stale);
    assert_eq!(keys(&ledger, run).await?.len(), 3, "said twice, added once");
    done_next(&ledger).await?;
    done_next(&ledger).await?;
    assert_eq!(settle(&ledger, run).await?, "completed");
    Ok(())
}

async fn a_plan_that_cannot_be_used_is_asked_for_again_with_the_reason(ledger: TestLedger) -> Result<()> {
    let run = begin(&ledger, PlanCheck::Run).await?;
    for attempt in 1..=PLAN_ATTEMPTS {
        let mut adopt = planned(&ledger, run, vec![keyed("a", &[])], false).await?;
        adopt.settle.failure = Some(format!("wrong {attempt}"));
        let state = ledger.store.write(adopt).await?;
        assert_eq!(state == TaskState::Failed, attempt == PLAN_ATTEMPTS, "{attempt}: {state}");
        ledger.advance(120_000).await;
        ledger.check().await?;
        if attempt == 1 {
            let taken = ledger.must_take("boss").await?;
            assert_eq!(taken.previous[0].reason.as_deref(), Some("wrong 1"));
            let back = Release { id: taken.task.id, term: taken.task.term, reason: "test".into() };
            ledger.store.write(back).await?;
        }
    }
    assert_eq!(settle(&ledger, run).await?, "failed");
    assert_eq!(keys(&ledger, run).await?, ["plan failed"], "no task of a wrong plan is there");
    Ok(())
}

async fn a_plan_waits_for_a_persons_word_where_that_was_asked_for(ledger: TestLedger) -> Result<()> {
    let run = begin(&ledger, PlanCheck::Approve).await?;
    let adopt = planned(&ledger, run, vec![keyed("a", &[]), keyed("b", &[0]), keyed("c", &[])], true).await?;
    ledger.store.write(adopt).await?;
    assert_eq!(keys(&ledger, run).await?, ["plan completed", "a parked", "b waiting", "c parked"]);
    assert!(story(&ledger, run).await?.tasks[1].reason.as_deref() == Some(APPROVAL));
    assert!(ledger.take("hand").await?.is_none());
    assert_eq!(ledger.store.write(Approve { id: run }).await?, 2);
    assert_eq!(keys(&ledger, run).await?, ["plan completed", "a ready", "b waiting", "c ready"]);
    let error = ledger.store.write(Approve { id: run }).await.expect_err("nothing waits any more");
    assert_eq!(error.kind, Kind::Conflict);
    for _ in 0..3 {
        done_next(&ledger).await?;
    }
    assert_eq!(settle(&ledger, run).await?, "completed");
    assert_eq!(ledger.store.write(Approve { id: RunId(77) }).await.expect_err("none").kind, Kind::NotFound);
    Ok(())
}

async fn no_time_and_no_second_beginning_stands_for_a_persons_word(ledger: TestLedger) -> Result<()> {
    let run = begin(&ledger, PlanCheck::Approve).await?;
    let timed = NewTask { due_in_ms: Some(1_000), ..keyed("a", &[]) };
    let adopt = planned(&ledger, run, vec![timed, keyed("b", &[0])], true).await?;
    ledger.store.write(adopt).await?;
    ledger.advance(60_000).await;
    ledger.check().await?;
    assert_eq!(keys(&ledger, run).await?, ["plan completed", "a parked", "b waiting"]);
    ledger.store.write(cancel(run)).await?;
    ledger.store.write(Resume { id: run }).await?;
    assert_eq!(keys(&ledger, run).await?, ["plan completed", "a parked", "b waiting"]);
    let first = story(&ledger, run).await?.tasks[1].id;
    ledger.store.write(task::Cancel { id: first, reason: "test".into() }).await?;
    ledger.store.write(task::Retry { id: first }).await?;
    assert_eq!(keys(&ledger, run).await?, ["plan completed", "a parked", "b waiting"]);
    assert_eq!(ledger.store.write(Approve { id: run }).await?, 1);
    assert_eq!(keys(&ledger, run).await?, ["plan completed", "a ready", "b waiting"]);
    Ok(())
}

async fn one_task_of_an_unapproved_plan_can_be_let_go_by_itself(ledger: TestLedger) -> Result<()> {
    let run = begin(&ledger, PlanCheck::Approve).await?;
    let adopt = planned(&ledger, run, vec![keyed("a", &[]), keyed("b", &[])], true).await?;
    ledger.store.write(adopt).await?;
    let id: TaskId = story(&ledger, run).await?.tasks[2].id;
    ledger.store.write(Unpark { id }).await?;
    assert_eq!(keys(&ledger, run).await?, ["plan completed", "a parked", "b ready"]);
    Ok(())
}

async fn a_new_plan_is_asked_for_when_a_task_fails_for_good(ledger: TestLedger) -> Result<()> {
    let run = begin(&ledger, PlanCheck::Run).await?;
    let adopt =
        planned(&ledger, run, vec![keyed("a", &[]), keyed("b", &[]), keyed("c", &[1])], false).await?;
    ledger.store.write(adopt).await?;
    done_next(&ledger).await?;
    fail_next(&ledger).await?;
    assert_eq!(settle(&ledger, run).await?, "running", "a new plan is asked for");
    assert_eq!(
        keys(&ledger, run).await?,
        ["plan completed", "a completed", "b failed", "c cancelled", "plan-2 ready"]
    );
    assert_eq!(ledger.count("run.replanned").await, 1);
    let question = story(&ledger, run).await?.tasks[4].prompt.clone().expect("words");
    assert!(question.starts_with("the question\n"), "{question}");
    assert!(
        question.contains("- b: failed: it cannot be done") && question.contains("- c: cancelled"),
        "{question}"
    );
    let adopt = planned(&ledger, run, vec![keyed("b", &[])], false).await?;
    ledger.store.write(adopt).await?;
    done_next(&ledger).await?;
    assert_eq!(settle(&ledger, run).await?, "completed", "the new plan took the place of what had failed");
    assert_eq!(keys(&ledger, run).await?[5], "b-2 completed");
    Ok(())
}

async fn plans_are_made_anew_so_often_and_no_more(ledger: TestLedger) -> Result<()> {
    let run = begin(&ledger, PlanCheck::Run).await?;
    for plan in 0..=REPLANS_MAX {
        let adopt = planned(&ledger, run, vec![keyed("a", &[])], false).await?;
        ledger.store.write(adopt).await?;
        fail_next(&ledger).await?;
        assert_eq!(settle(&ledger, run).await? == "failed", plan == REPLANS_MAX, "plan {plan}");
    }
    assert_eq!(ledger.count("run.replanned").await as i64, REPLANS_MAX);
    Ok(())
}

async fn a_resumed_run_leaves_what_a_later_plan_has_replaced(ledger: TestLedger) -> Result<()> {
    let run = begin(&ledger, PlanCheck::Run).await?;
    let adopt = planned(&ledger, run, vec![keyed("a", &[]), keyed("b", &[0])], false).await?;
    ledger.store.write(adopt).await?;
    fail_next(&ledger).await?;
    assert_eq!(settle(&ledger, run).await?, "running", "a new plan is asked for");
    ledger.store.write(Resume { id: run }).await?;
    let replaced = ["plan completed", "a failed", "b cancelled"];
    assert_eq!(
        keys(&ledger, run).await?,
        [&replaced[..], &["plan-2 ready"]].concat(),
        "while it is planned anew"
    );
    let adopt = planned(&ledger, run, vec![keyed("c", &[]), keyed("d", &[0])], false).await?;
    ledger.store.write(adopt).await?;
    ledger.store.write(Resume { id: run }).await?;
    let planned_anew = [&replaced[..], &["plan-2 completed", "c ready", "d waiting"]].concat();
    assert_eq!(keys(&ledger, run).await?, planned_anew, "while the new plan is worked at");
    for _ in 0..2 {
        done_next(&ledger).await?;
    }
    assert_eq!(settle(&ledger, run).await?, "completed");
    Ok(())
}

async fn a_failed_run_is_resumed_with_its_last_plan(ledger: TestLedger) -> Result<()> {
    let run = begin(&ledger, PlanCheck::Run).await?;
    for _ in 0..=REPLANS_MAX {
        let adopt = planned(&ledger, run, vec![keyed("a", &[])], false).await?;
        ledger.store.write(adopt).await?;
        fail_next(&ledger).await?;
        settle(&ledger, run).await?;
    }
    assert_eq!(ledger.store.write(Resume { id: run }).await?.state, "running");
    let open: Vec<String> =
        keys(&ledger, run).await?.into_iter().filter(|key| key.ends_with("ready")).collect();
    assert_eq!(open, ["a-3 ready"]);
    done_next(&ledger).await?;
    assert_eq!(settle(&ledger, run).await?, "completed");
    Ok(())
}

async fn a_run_without_a_planner_fails_as_ever(ledger: TestLedger) -> Result<()> {
    let (run, _) = ledger.start(vec![keyed("a", &[])]).await?;
    fail_next(&ledger).await?;
    assert_eq!(settle(&ledger, run).await?, "failed");
    assert_eq!(ledger.count("run.replanned").await, 0);
    Ok(())
}

/// Begins the run that does the work of a task, up to its plan with one task and the report.
async fn decomposed(ledger: &TestLedger, id: TaskId) -> Result<RunId> {
    let task = ledger.story(id).await?.task;
    let run = ledger.store.write(Decompose::new(&task, vec![planning(PlanCheck::Run)], false)).await?;
    let report = NewTask { needs_new: vec![0], ..keyed("report", &[]) };
    let adopt = planned(ledger, run, vec![keyed("a", &[]), report], false).await?;
    ledger.store.write(adopt).await?;
    Ok(run)
}

async fn a_task_that_is_decomposed_ends_with_its_subtasks(ledger: TestLedger) -> Result<()> {
    let big = ledger.add(command("big")).await?;
    let after = ledger.add(NewTask { needs: vec![big], ..command("after") }).await?;
    let run = decomposed(&ledger, big).await?;
    assert_eq!(ledger.state(big).await?, TaskState::Parked);
    done_next(&ledger).await?;
    let last = ledger.must_take("hand").await?;
    let result = Some("\"the report\"".to_owned());
    ledger.store.write(Done { id: last.task.id, term: last.task.term, result, tail: None }).await?;
    assert_eq!(settle(&ledger, run).await?, "completed");
    let story = ledger.story(big).await?;
    assert_eq!(
        (story.task.state, story.task.result.as_deref()),
        (TaskState::Completed, Some("\"the report\""))
    );
    assert_eq!((story.attempts.len(), story.attempts[0].agent.as_str()), (1, "boss"));
    assert_eq!(story.attempts[0].outcome.as_deref(), Some("completed"));
    assert_eq!(ledger.state(after).await?, TaskState::Ready, "what needs it goes on");
    let task = ledger.story(big).await?.task;
    let error = ledger.store.write(Decompose::new(&task, vec![planning(PlanCheck::Run)], false)).await;
    assert_eq!(error.expect_err("it is over").kind, Kind::Conflict);
    Ok(())
}

async fn a_task_that_is_decomposed_fails_with_its_run_and_is_checked_if_it_has_a_check(
    ledger: TestLedger,
) -> Result<()> {
    let checked = ledger.add(NewTask { verify: Some("true".into()), ..command("checked") }).await?;
    let run = decomposed(&ledger, checked).await?;
    done_next(&ledger).await?;
    done_next(&ledger).await?;
    settle(&ledger, run).await?;
    assert_eq!(ledger.state(checked).await?, TaskState::Verifying, "done is proven for it, too");

    let (big, after) = (ledger.add(command("big")).await?, ledger.add(command("other")).await?);
    let run = decomposed(&ledger, big).await?;
    ledger.store.write(Cancel { id: run, reason: "changed".into() }).await?;
    assert_eq!(ledger.state(big).await?, TaskState::Ready, "called off: it is as it was");
    for id in [big, after] {
        ledger.store.write(task::Cancel { id, reason: "test".into() }).await?;
    }
    let big = ledger.add(command("big")).await?;
    let run = decomposed(&ledger, big).await?;
    for _ in 0..REPLANS_MAX {
        fail_next(&ledger).await?;
        settle(&ledger, run).await?;
        let adopt = planned(&ledger, run, vec![keyed("a", &[])], false).await?;
        ledger.store.write(adopt).await?;
    }
    fail_next(&ledger).await?;
    assert_eq!(settle(&ledger, run).await?, "failed");
    let task = ledger.story(big).await?.task;
    assert_eq!(task.state, TaskState::Failed);
    assert!(task.reason.is_some_and(|why| why.starts_with(&format!("run {run} failed"))));
    Ok(())
}

/// Begins the run that does the work of a task, without a planner.
async fn begin_for(ledger: &TestLedger, id: TaskId) -> Result<RunId> {
    let task = ledger.story(id).await?.task;
    ledger.store.write(Decompose::new(&task, vec![keyed("part", &[])], false)).await
}

fn cancel(id: RunId) -> Cancel {
    Cancel { id, reason: "changed".into() }
}

async fn a_task_that_failed_with_its_run_waits_again_when_that_is_resumed(ledger: TestLedger) -> Result<()> {
    let (outer, ids) = ledger.start(vec![keyed("big", &[]), keyed("after", &[0])]).await?;
    for retries_one in [false, true] {
        let run = begin_for(&ledger, ids[0]).await?;
        let part = fail_next(&ledger).await?.task.id;
        assert_eq!(settle(&ledger, run).await?, "failed");
        assert_eq!(settle(&ledger, outer).await?, "failed");
        assert_eq!(keys(&ledger, outer).await?, ["big failed", "after cancelled"]);
        if retries_one {
            ledger.store.write(Retry { id: part }).await?;
        } else {
            ledger.store.write(Resume { id: run }).await?;
        }
        assert_eq!(keys(&ledger, outer).await?, ["big parked", "after waiting"]);
        assert_eq!(settle(&ledger, outer).await?, "running", "it goes on, too");
        ledger.store.write(cancel(run)).await?;
        assert_eq!(keys(&ledger, outer).await?, ["big ready", "after waiting"]);
    }
    let run = begin_for(&ledger, ids[0]).await?;
    fail_next(&ledger).await?;
    settle(&ledger, run).await?;
    ledger.store.write(Resume { id: run }).await?;
    done_next(&ledger).await?;
    assert_eq!(settle(&ledger, run).await?, "completed");
    assert_eq!(keys(&ledger, outer).await?, ["big completed", "after ready"]);
    Ok(())
}

async fn a_task_within_a_decomposed_one_brings_all_back_that_wait_for_it(ledger: TestLedger) -> Result<()> {
    let (outer, ids) = ledger.start(vec![keyed("big", &[])]).await?;
    let run = begin_for(&ledger, ids[0]).await?;
    let part = story(&ledger, run).await?.tasks[0].id;
    let deeper = begin_for(&ledger, part).await?;
    fail_next(&ledger).await?;
    for id in [deeper, run, outer] {
        assert_eq!(settle(&ledger, id).await?, "failed");
    }
    ledger.store.write(Resume { id: deeper }).await?;
    done_next(&ledger).await?;
    for id in [deeper, run, outer] {
        assert_eq!(settle(&ledger, id).await?, "completed");
    }
    Ok(())
}

async fn a_run_is_not_resumed_while_another_does_its_task(ledger: TestLedger) -> Result<()> {
    let big = ledger.add(command("big")).await?;
    let run = begin_for(&ledger, big).await?;
    ledger.store.write(cancel(run)).await?;
    let other = ledger.must_take("ada").await?;
    assert_eq!(other.task.id, big);
    let refused = ledger.store.write(Resume { id: run }).await.expect_err("ada does it");
    assert_eq!(refused.kind, Kind::Conflict);
    assert!(refused.hint.is_some_and(|hint| hint.contains(&format!("task reassign {big}"))));
    assert_eq!(keys(&ledger, run).await?, ["part cancelled"], "refused, nothing has changed");
    let back = Release { id: big, term: other.task.term, reason: "test".into() };
    ledger.store.write(back).await?;
    ledger.store.write(Resume { id: run }).await?;
    assert_eq!(ledger.state(big).await?, TaskState::Parked, "nobody else does it meanwhile");
    done_next(&ledger).await?;
    assert_eq!(settle(&ledger, run).await?, "completed");
    assert_eq!(ledger.state(big).await?, TaskState::Completed);

    let big = ledger.add(command("big")).await?;
    let run = begin_for(&ledger, big).await?;
    ledger.store.write(cancel(run)).await?;
    let second = begin_for(&ledger, big).await?;
    let refused = ledger.store.write(Resume { id: run }).await.expect_err("another run does it");
    assert!(refused.message.contains(&format!("run {second} does it")), "{refused:?}");
    done_next(&ledger).await?;
    settle(&ledger, second).await?;
    let refused = ledger.store.write(Resume { id: run }).await.expect_err("it is done");
    assert!(refused.message.ends_with("it is completed"), "{refused:?}");
    Ok(())
}

async fn a_task_is_decomposed_once_and_not_before_what_it_needs(ledger: TestLedger) -> Result<()> {
    let build = ledger.add(command("build")).await?;
    let deploy = ledger.add(NewTask { needs: vec![build], ..command("deploy") }).await?;
    let refused = begin_for(&ledger, deploy).await.expect_err("nothing is built");
    assert_eq!(refused.kind, Kind::Conflict);
    assert!(refused.message.ends_with(&format!("it waits for task {build} yet")), "{refused:?}");
    assert_eq!(ledger.state(deploy).await?, TaskState::Waiting);
    done_next(&ledger).await?;
    let run = begin_for(&ledger, deploy).await?;
    let refused = begin_for(&ledger, deploy).await.expect_err("twice");
    assert_eq!(refused.kind, Kind::Conflict);
    assert!(refused.message.ends_with(&format!("run {run} does it")), "{refused:?}");
    let said =
        format!("parked: decomposed: run {run} does it (`quorate runs show {run}` tells how far that is)");
    assert_eq!(why(&ledger.story(deploy).await?), Some(said));
    ledger.store.write(cancel(run)).await?;
    let over = ledger.store.write(Approve { id: run }).await.expect_err("it is over");
    assert_eq!(over.hint, Some(format!("`quorate runs show {run}` tells how it ended")));
    Ok(())
}

async fn a_parked_task_is_not_decomposed(ledger: TestLedger) -> Result<()> {
    let run = begin(&ledger, PlanCheck::Approve).await?;
    let adopt = planned(&ledger, run, vec![keyed("a", &[])], true).await?;
    ledger.store.write(adopt).await?;
    let unapproved = story(&ledger, run).await?.tasks[1].clone();
    assert_eq!((unapproved.state, unapproved.reason.as_deref()), (TaskState::Parked, Some(APPROVAL)));
    let refused = begin_for(&ledger, unapproved.id).await.expect_err("nobody has approved it");
    let hint = format!("quorate runs approve {run} lets it go on; then quorate run --task {}", unapproved.id);
    assert_eq!((refused.kind, refused.hint), (Kind::Conflict, Some(hint)));
    let approve = format!("(let it go on with `quorate runs approve {run}`)");
    assert!(why(&ledger.story(unapproved.id).await?).is_some_and(|words| words.ends_with(&approve)));

    let limited = ledger.add(command("limited")).await?;
    let until = Some(ledger.story(limited).await?.now + DAY_MS);
    let park = Park { id: limited, term: None, reason: "rate limit".into(), until };
    ledger.store.write(park).await?;
    let refused = begin_for(&ledger, limited).await.expect_err("it waits for a time");
    assert!(refused.message.ends_with("it is parked: rate limit"), "{refused:?}");
    assert!(refused.hint.is_some_and(|hint| hint.starts_with(&format!("quorate task unpark {limited}"))));
    ledger.store.write(Approve { id: run }).await?;
    ledger.store.write(Unpark { id: limited }).await?;
    for id in [unapproved.id, limited] {
        begin_for(&ledger, id).await?;
    }
    Ok(())
}

async fn who_calls_off_a_task_calls_off_the_run_that_does_it(ledger: TestLedger) -> Result<()> {
    let (outer, ids) = ledger.start(vec![keyed("big", &[])]).await?;
    let run = begin_for(&ledger, ids[0]).await?;
    let part = story(&ledger, run).await?.tasks[0].id;
    let deeper = begin_for(&ledger, part).await?;
    ledger.store.write(cancel(outer)).await?;
    for id in [run, deeper] {
        assert_eq!(settle(&ledger, id).await?, "cancelled");
        assert_eq!(keys(&ledger, id).await?, ["part cancelled"]);
    }
    assert_eq!(ledger.count("run.cancelled").await, 3);

    let call_off = |id| task::Cancel { id, reason: "test".into() };
    let big = ledger.add(command("big")).await?;
    let run = begin_for(&ledger, big).await?;
    ledger.store.write(call_off(big)).await?;
    assert_eq!(settle(&ledger, run).await?, "cancelled");
    assert_eq!(ledger.state(big).await?, TaskState::Cancelled);

    let big = ledger.add(command("big")).await?;
    let run = begin_for(&ledger, big).await?;
    ledger.store.write(Unpark { id: big }).await?;
    ledger.store.write(call_off(big)).await?;
    assert_eq!(settle(&ledger, run).await?, "running", "a person has parted them before");
    Ok(())
}

async fn a_run_ends_although_its_task_is_gone(ledger: TestLedger) -> Result<()> {
    let big = ledger.add(command("big")).await?;
    let run = begin_for(&ledger, big).await?;
    ledger.store.write(Unpark { id: big }).await?;
    assert_eq!(ledger.must_take("ada").await?.task.id, big);
    ledger.store.write(task::Cancel { id: big, reason: "test".into() }).await?;
    ledger.advance(2 * DAY_MS).await;
    let prune = Prune { events_ms: DAY_MS, attempts_ms: DAY_MS, tasks_ms: DAY_MS, after: TaskId(0) };
    assert_eq!(ledger.store.write(prune).await?.tasks, 1);
    assert_eq!(ledger.story(big).await.expect_err("gone").kind, Kind::NotFound);
    fail_next(&ledger).await?;
    assert_eq!(ledger.check().await?.runs, 1, "a check of health does not trip over it");
    assert_eq!(settle(&ledger, run).await?, "failed");
    ledger.store.write(Resume { id: run }).await?;
    done_next(&ledger).await?;
    assert_eq!(settle(&ledger, run).await?, "completed");
    Ok(())
}

async fn a_planner_that_plans_anew_is_told_first_what_failed(ledger: TestLedger) -> Result<()> {
    const MANY: usize = 120;
    let run = begin(&ledger, PlanCheck::Run).await?;
    let mut tasks: Vec<NewTask> = (0..MANY).map(|n| keyed(&format!("t{n}"), &[MANY])).collect();
    tasks.push(keyed("hard", &[]));
    let adopt = planned(&ledger, run, tasks, false).await?;
    ledger.store.write(adopt).await?;
    fail_next(&ledger).await?;
    assert_eq!(settle(&ledger, run).await?, "running", "a new plan is asked for");
    let question = story(&ledger, run).await?.tasks.pop().and_then(|plan| plan.prompt).expect("words");
    let told: Vec<&str> = question.lines().filter(|line| line.starts_with("- ")).collect();
    assert_eq!(told[0], "- hard: failed: it cannot be done");
    assert!(told[1].starts_with("- t119: cancelled: needs task "), "the newest first: {}", told[1]);
    Ok(())
}

on_every_backend!(
    a_plans_tasks_are_added_with_the_passing_of_its_check,
    a_plan_that_cannot_be_used_is_asked_for_again_with_the_reason,
    a_plan_waits_for_a_persons_word_where_that_was_asked_for,
    no_time_and_no_second_beginning_stands_for_a_persons_word,
    one_task_of_an_unapproved_plan_can_be_let_go_by_itself,
    a_new_plan_is_asked_for_when_a_task_fails_for_good,
    plans_are_made_anew_so_often_and_no_more,
    a_resumed_run_leaves_what_a_later_plan_has_replaced,
    a_failed_run_is_resumed_with_its_last_plan,
    a_run_without_a_planner_fails_as_ever,
    a_task_that_is_decomposed_ends_with_its_subtasks,
    a_task_that_is_decomposed_fails_with_its_run_and_is_checked_if_it_has_a_check,
    a_task_that_failed_with_its_run_waits_again_when_that_is_resumed,
    a_task_within_a_decomposed_one_brings_all_back_that_wait_for_it,
    a_run_is_not_resumed_while_another_does_its_task,
    a_task_is_decomposed_once_and_not_before_what_it_needs,
    a_parked_task_is_not_decomposed,
    who_calls_off_a_task_calls_off_the_run_that_does_it,
    a_run_ends_although_its_task_is_gone,
    a_planner_that_plans_anew_is_told_first_what_failed,
);

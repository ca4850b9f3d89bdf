//! What tasks do, on both databases: taking, terms, ends, retries, dependents.

use quorate_model::budget::Budget;
use quorate_model::config::Limits;
use quorate_model::usage::Parked;
use quorate_model::{Kind, Result, TaskState, Term};
use quorate_service::agent::{Begin, Tell, Word};
use quorate_service::run;
use quorate_service::task::{
    Aside, Cancel, Done, DoneAnswer, Fail, Has, Held, Kinds, NewTask, Progress, REASON_MAX, Reassign,
    Release, Renew, Retry, SetAside, SettleCheck, StillRests, Take, TakeAnswer, TakeCheck, Taken, Task,
    Unpark, WORD_MAX, Work,
};
use quorate_service::why::why;
use quorate_service::wire;
use quorate_testkit::ledger::TestLedger;
use quorate_testkit::on_every_backend;
use quorate_testkit::verbs::{LEASE_MS, begin, command, failure, next_of};

fn done(taken: &Taken) -> Done {
    Done { id: taken.task.id, term: taken.task.term, result: Some("{\"n\":1}".into()), tail: None }
}

fn fail(taken: &Taken, error: &str) -> Fail {
    Fail { tail: Some("last words".into()), ..failure(taken, error) }
}

async fn a_task_has_one_owner_and_its_result_is_kept(ledger: TestLedger) -> Result<()> {
    let id = ledger.add(command("one")).await?;
    let taken = ledger.must_take("alpha").await?;
    assert_eq!((taken.task.id, taken.task.term, taken.task.attempt), (id, Term(1), 1));
    assert!(ledger.take("beta").await?.is_none());
    assert_eq!(ledger.store.write(done(&taken)).await?, DoneAnswer::Completed { run: None });
    let story = ledger.story(id).await?;
    assert_eq!(story.task.state, TaskState::Completed);
    assert_eq!(story.task.result.as_deref(), Some("{\"n\":1}"));
    assert_eq!(story.attempts[0].outcome.as_deref(), Some("completed"));
    assert_eq!(ledger.kinds().await, ["task.added", "task.taken", "task.completed"]);
    Ok(())
}

async fn results_of_needed_tasks_of_one_name_are_all_told(ledger: TestLedger) -> Result<()> {
    let keyed = |key: &str| NewTask { key: Some(key.into()), ..command(key) };
    let mut needs = Vec::new();
    for _ in 0..2 {
        needs.extend(ledger.start(vec![keyed("build")]).await?.1);
    }
    let without = ledger.add(command("without a key")).await?;
    needs.push(without);
    needs.extend(ledger.start(vec![keyed(&without.to_string())]).await?.1);
    for n in 0..needs.len() {
        let taken = ledger.must_take("alpha").await?;
        ledger.store.write(Done { result: Some(n.to_string()), ..done(&taken) }).await?;
    }
    ledger.add(NewTask { needs: needs.clone(), ..command("after") }).await?;
    let told = wire::Taken::from(&ledger.must_take("alpha").await?).needs;
    let name = |key: &str, place: usize| format!("{key}#{}", needs[place]);
    let expected: Vec<(String, serde_json::Value)> = vec![
        (without.to_string(), 2.into()),
        (name(&without.to_string(), 3), 3.into()),
        ("build".into(), 0.into()),
        (name("build", 1), 1.into()),
    ];
    assert_eq!(told.into_iter().collect::<Vec<_>>(), expected);
    Ok(())
}

async fn an_agent_rests_until_its_task_or_itself_is_let_go_on(ledger: TestLedger) -> Result<()> {
    ledger.join("alpha").await?;
    let resume = Tell { name: "alpha".into(), word: Word::Resume };
    ledger.store.write(resume.clone()).await?;
    ledger.advance(1_000).await;
    let parked = async || {
        let id = ledger.add(command("one")).await?;
        let Task { attempt, term, .. } = ledger.must_take("alpha").await?.task;
        let limited = Parked { reason: "limit".into(), after_ms: Some(3_600_000), until_ms: None };
        let why = Aside::Agent(limited);
        ledger.store.write(SetAside { id, term, why, tail: None }).await?;
        Result::<_>::Ok(StillRests { id, attempt, agent: "alpha".into() })
    };
    let rests = async |asked: &StillRests| ledger.store.read(asked.clone()).await;
    let one = parked().await?;
    assert!(rests(&one).await?);
    ledger.store.write(Unpark { id: one.id }).await?;
    assert!(!rests(&one).await?, "its task goes on");
    ledger.store.write(Cancel { id: one.id, reason: "not wanted".into() }).await?;
    let two = parked().await?;
    assert!(rests(&two).await?, "it was resumed before that");
    ledger.join("beta").await?;
    ledger.store.write(Tell { name: "beta".into(), word: Word::Resume }).await?;
    assert!(rests(&two).await?, "another was resumed");
    ledger.store.write(resume).await?;
    assert!(!rests(&two).await?);
    assert_eq!(ledger.state(two.id).await?, TaskState::Parked);
    ledger.store.write(Cancel { id: two.id, reason: "not wanted".into() }).await?;
    ledger.advance(1_000).await;
    let three = parked().await?;
    ledger.store.write(Cancel { id: three.id, reason: "not wanted".into() }).await?;
    assert!(rests(&three).await?, "its limit is what it was");
    Ok(())
}

async fn who_a_task_is_for_must_also_take_what_it_is(ledger: TestLedger) -> Result<()> {
    ledger.store.write(Begin { takes: Kinds::Run, ..begin("hand", "1") }).await?;
    let words = |key: &str| NewTask { work: Some(Work::Prompt("x".into())), ..NewTask::new(key) };
    let mine = |task: NewTask| NewTask { agent: Some("hand".into()), ..task };
    let (said, run) = (ledger.add(mine(words("said"))).await?, ledger.add(mine(command("run"))).await?);
    let reason = async |id| Result::<_>::Ok(why(&ledger.story(id).await?).unwrap_or_default());
    assert_eq!(reason(said).await?, "nobody can take it: it is for agent `hand`, which takes only commands");
    assert_eq!(reason(run).await?, "waits for its turn: hand can take it");
    assert_eq!(
        ledger.store.write(Take { kinds: Kinds::Run, ..next_of("hand") }).await?.task().map(|t| t.task.id),
        Some(run)
    );
    Ok(())
}

async fn a_write_with_an_old_term_changes_nothing_and_is_logged(ledger: TestLedger) -> Result<()> {
    let id = ledger.add(command("one")).await?;
    let old = ledger.must_take("alpha").await?;
    ledger.advance(LEASE_MS + 1).await;
    assert_eq!(ledger.check().await?.lapsed, 1);
    ledger.advance(3_000).await;
    let new = ledger.must_take("beta").await?;
    assert!(new.task.term > old.task.term);
    assert_eq!(new.previous[0].outcome, "lost");
    let progress = Progress { id, term: old.task.term, percent: Some(50), message: None };
    for error in [
        ledger.store.write(done(&old)).await.expect_err("old term"),
        ledger.store.write(fail(&old, "x")).await.expect_err("old term"),
        ledger.store.write(progress).await.expect_err("old term"),
    ] {
        assert_eq!(error.kind, Kind::Stale, "{error}");
    }
    assert_eq!(ledger.count("write.refused").await, 3);
    let story = ledger.story(id).await?;
    assert_eq!(
        (story.task.state, story.task.progress, story.task.term),
        (TaskState::Running, 0, new.task.term)
    );
    Ok(())
}

async fn long_words_about_an_attempt_are_cut_and_a_long_goal_is_refused(ledger: TestLedger) -> Result<()> {
    let id = ledger.add(command("one")).await?;
    let taken = ledger.must_take("alpha").await?;
    let (word, reason) = ("w".repeat(WORD_MAX + 1), "r".repeat(REASON_MAX + 1));
    let progress = Progress { id, term: taken.task.term, percent: None, message: Some(word) };
    let kept = ledger.store.write(progress).await?.message.expect("a word");
    assert!(kept.len() == WORD_MAX && kept.ends_with("w…"), "{}", kept.len());
    ledger.store.write(fail(&taken, &reason)).await?;
    let story = ledger.story(id).await?;
    for kept in [story.task.reason, story.attempts[0].reason.clone()] {
        let kept = kept.expect("a reason");
        assert!(kept.len() == REASON_MAX && kept.ends_with("r…"), "{}", kept.len());
    }
    let longest = ledger.events().await.iter().map(|event| event.message.len()).max().unwrap_or(0);
    assert!(longest < REASON_MAX + 200, "{longest}");
    let start = |bytes: usize| run::Start {
        goal: "g".repeat(bytes),
        source: None,
        detached: false,
        tasks: vec![command("two")],
    };
    ledger.store.write(start(run::GOAL_MAX)).await?;
    let refused = ledger.store.write(start(run::GOAL_MAX + 1)).await.expect_err("too long");
    assert_eq!(refused.kind, Kind::Invalid);
    Ok(())
}

async fn a_term_from_the_future_is_refused(ledger: TestLedger) -> Result<()> {
    ledger.add(command("one")).await?;
    let taken = ledger.must_take("alpha").await?;
    let ahead = Done { term: Term(taken.task.term.0 + 7), ..done(&taken) };
    assert_eq!(ledger.store.write(ahead).await.expect_err("refused").kind, Kind::Stale);
    Ok(())
}

async fn a_lapsed_lease_whose_term_has_not_changed_may_still_write(ledger: TestLedger) -> Result<()> {
    ledger.add(command("one")).await?;
    let taken = ledger.must_take("alpha").await?;
    ledger.advance(LEASE_MS * 2).await;
    assert!(ledger.store.write(done(&taken)).await.is_ok());
    Ok(())
}

async fn done_said_twice_is_no_error_but_another_result_is(ledger: TestLedger) -> Result<()> {
    ledger.add(command("one")).await?;
    let taken = ledger.must_take("alpha").await?;
    let said = Done { result: Some("{\"n\":1,\"m\":2}".into()), ..done(&taken) };
    ledger.store.write(said.clone()).await?;
    ledger.store.write(said.clone()).await?;
    let written_otherwise = Done { result: Some("{ \"m\": 2, \"n\": 1 }".into()), ..said.clone() };
    ledger.store.write(written_otherwise).await?;
    for result in [Some("2".into()), Some("{\"n\":1}".into()), None] {
        let other = Done { result, ..done(&taken) };
        assert_eq!(ledger.store.write(other).await.expect_err("another result").kind, Kind::Stale);
    }
    let kept = ledger.story(taken.task.id).await?.task.result;
    assert_eq!(kept, said.result, "it is kept as it was said first");
    assert_eq!(ledger.count("task.completed").await, 1);
    Ok(())
}

async fn priority_goes_before_age(ledger: TestLedger) -> Result<()> {
    for (title, priority) in [("low", 2), ("medium", 1), ("high", 0), ("high later", 0)] {
        ledger.add(NewTask { priority, ..command(title) }).await?;
    }
    for expected in ["high", "high later", "medium", "low"] {
        let taken = ledger.must_take(expected).await?;
        assert_eq!(taken.task.title, expected);
    }
    Ok(())
}

async fn only_who_can_may_take(ledger: TestLedger) -> Result<()> {
    ledger.add(NewTask { capability: Some("gpu".into()), ..command("needs a gpu") }).await?;
    let pull = |capabilities: Option<Vec<String>>, kinds| Take { capabilities, kinds, ..next_of("alpha") };
    assert!(ledger.store.write(pull(Some(vec!["docs".into()]), Kinds::Any)).await?.task().is_none());
    assert!(ledger.store.write(pull(None, Kinds::Prompt)).await?.task().is_none());
    assert!(ledger.store.write(pull(Some(vec!["gpu".into()]), Kinds::Run)).await?.task().is_some());
    Ok(())
}

async fn why_the_work_failed_is_told_however_often_it_was_given_back_since(ledger: TestLedger) -> Result<()> {
    ledger.add(command("flaky")).await?;
    ledger.store.write(fail(&ledger.must_take("alpha").await?, "boom")).await?;
    ledger.advance(10_000).await;
    ledger.check().await?;
    for _ in 0..12 {
        let taken = ledger.must_take("beta").await?;
        let release = Release { id: taken.task.id, term: taken.task.term, reason: "its node stops".into() };
        ledger.store.write(release).await?;
    }
    let past = ledger.must_take("beta").await?.previous;
    let numbers: Vec<i64> = past.iter().map(|past| past.number).collect();
    assert_eq!(
        numbers,
        [1, 5, 6, 7, 8, 9, 10, 11, 12, 13],
        "the failure and the latest of the others, in order"
    );
    assert_eq!(past[0].reason.as_deref(), Some("boom"));
    Ok(())
}

async fn a_failed_attempt_waits_then_another_agent_is_preferred(ledger: TestLedger) -> Result<()> {
    let id = ledger.add(command("flaky")).await?;
    let first = ledger.must_take("alpha").await?;
    assert_eq!(ledger.store.write(fail(&first, "boom")).await?, TaskState::Waiting);
    assert!(ledger.take("beta").await?.is_none());
    ledger.advance(1_300).await;
    ledger.check().await?;
    assert!(ledger.take("alpha").await?.is_none(), "it failed there a moment ago");
    let second = ledger.must_take("beta").await?;
    assert_eq!(second.previous.len(), 1);
    assert_eq!(second.previous[0].reason.as_deref(), Some("boom"));
    assert_eq!(second.previous[0].tail.as_deref(), Some("last words"));
    ledger.store.write(fail(&second, "boom again")).await?;
    ledger.advance(10_000).await;
    ledger.check().await?;
    let third = ledger.must_take("alpha").await?;
    assert_eq!(ledger.store.write(fail(&third, "for good")).await?, TaskState::Failed);
    assert_eq!(ledger.story(id).await?.task.reason.as_deref(), Some("for good"));
    Ok(())
}

async fn a_chain_frees_its_next_and_passes_results(ledger: TestLedger) -> Result<()> {
    let plan = vec![
        NewTask { key: Some("a".into()), ..command("a") },
        NewTask { key: Some("b".into()), needs_new: vec![0], ..command("b") },
    ];
    let (run_id, _) = ledger.start(plan).await?;
    let a = ledger.must_take("alpha").await?;
    assert!(ledger.take("beta").await?.is_none());
    ledger.store.write(done(&a)).await?;
    let b = ledger.must_take("beta").await?;
    assert_eq!((b.needs[0].key.as_str(), b.needs[0].result.as_deref()), ("a", Some("{\"n\":1}")));
    ledger.store.write(done(&b)).await?;
    assert_eq!(ledger.store.write(run::Settle { id: run_id }).await?.state, "completed");
    assert_eq!(ledger.count("run.finished").await, 1);
    Ok(())
}

async fn a_failed_need_cancels_all_below_and_retry_brings_them_back(ledger: TestLedger) -> Result<()> {
    let once =
        |key: &str, needs_new| NewTask { key: Some(key.into()), needs_new, max_attempts: 1, ..command(key) };
    let plan = vec![once("a", vec![]), once("b", vec![0]), once("c", vec![1]), once("d", vec![])];
    let (run_id, ids) = ledger.start(plan).await?;
    let a = ledger.must_take("alpha").await?;
    ledger.store.write(fail(&a, "no")).await?;
    for id in &ids[1..3] {
        let task = ledger.story(*id).await?.task;
        assert_eq!(task.state, TaskState::Cancelled);
        assert!(task.reason.as_deref().is_some_and(|r| r.contains("(a), which failed")), "{:?}", task.reason);
    }
    let d = ledger.must_take("alpha").await?;
    ledger.store.write(done(&d)).await?;
    assert_eq!(ledger.store.write(run::Settle { id: run_id }).await?.state, "failed");
    let refused = ledger.store.write(Retry { id: ids[2] }).await.expect_err("its need comes first");
    assert!(refused.hint.is_some_and(|h| h.contains(&format!("retry {}", ids[0]))));
    ledger.store.write(Retry { id: ids[0] }).await?;
    for expected in ["a", "b", "c"] {
        let taken = ledger.must_take("beta").await?;
        assert_eq!(taken.task.key.as_deref(), Some(expected));
        ledger.store.write(done(&taken)).await?;
    }
    assert_eq!(ledger.store.write(run::Settle { id: run_id }).await?.state, "completed");
    Ok(())
}

async fn done_is_proven_by_the_check(ledger: TestLedger) -> Result<()> {
    let id = ledger.add(NewTask { verify: Some("test -s x".into()), ..command("x") }).await?;
    let first = ledger.must_take("alpha").await?;
    assert_eq!(ledger.store.write(done(&first)).await?, DoneAnswer::Verifying);
    let error = ledger.store.write(fail(&first, "late")).await.expect_err("the term has risen");
    assert_eq!(error.kind, Kind::Stale);
    let take_check = TakeCheck { task: None, run: None, node: "1".into(), lease_ms: LEASE_MS };
    let checked = ledger.store.write(take_check.clone()).await?.expect("a check is due");
    assert!(ledger.store.write(take_check.clone()).await?.is_none(), "one node runs it");
    let settle = |term, failure: Option<&str>| SettleCheck {
        id,
        term,
        failure: failure.map(String::from),
        is_final: false,
        tail: None,
        retry_after_ms: 1_000,
    };
    let state = ledger.store.write(settle(checked.term, Some("exit 1"))).await?;
    assert_eq!(state, TaskState::Waiting);
    ledger.advance(5_000).await;
    ledger.check().await?;
    let second = ledger.must_take("beta").await?;
    assert_eq!(second.previous[0].outcome, "verify_failed");
    ledger.store.write(done(&second)).await?;
    let checked = ledger.store.write(take_check).await?.expect("a check is due");
    assert_eq!(ledger.store.write(settle(checked.term, None)).await?, TaskState::Completed);
    let story = ledger.story(id).await?;
    assert_eq!(story.attempts[1].evidence.as_deref(), Some("checked"));
    assert_eq!(ledger.count("task.verify_failed").await, 1);
    Ok(())
}

async fn a_dead_checker_loses_the_check_but_not_the_work(ledger: TestLedger) -> Result<()> {
    let id = ledger.add(NewTask { verify: Some("true".into()), ..command("x") }).await?;
    let first = ledger.must_take("alpha").await?;
    ledger.store.write(done(&first)).await?;
    let take_check = TakeCheck { task: None, run: None, node: "1".into(), lease_ms: LEASE_MS };
    let old = ledger.store.write(take_check.clone()).await?.expect("a check is due");
    ledger.advance(LEASE_MS + 1).await;
    ledger.check().await?;
    let new = ledger.store.write(take_check).await?.expect("it is due again");
    assert!(new.term > old.term);
    let settle =
        |term| SettleCheck { id, term, failure: None, is_final: false, tail: None, retry_after_ms: 1 };
    assert_eq!(ledger.store.write(settle(old.term)).await.expect_err("old term").kind, Kind::Stale);
    assert_eq!(ledger.store.write(settle(new.term)).await?, TaskState::Completed);
    Ok(())
}

async fn cancel_and_reassign_raise_the_term(ledger: TestLedger) -> Result<()> {
    let id = ledger.add(command("x")).await?;
    let first = ledger.must_take("alpha").await?;
    ledger.store.write(Reassign { id, to: None, reason: "too slow".into() }).await?;
    assert_eq!(ledger.store.write(done(&first)).await.expect_err("old term").kind, Kind::Stale);
    let second = ledger.must_take("beta").await?;
    assert_eq!(second.task.failures, 0, "a person's wish is no failure");
    ledger.store.write(Cancel { id, reason: "not wanted".into() }).await?;
    assert_eq!(ledger.store.write(done(&second)).await.expect_err("over").kind, Kind::Stale);
    let unknown = ledger.store.write(Reassign { id, to: Some("nobody".into()), reason: "r".into() }).await;
    assert_eq!(unknown.expect_err("unknown").kind, Kind::NotFound);
    Ok(())
}

async fn what_is_not_due_is_not_taken(ledger: TestLedger) -> Result<()> {
    ledger.add(NewTask { due_in_ms: Some(5_000), ..command("later") }).await?;
    assert!(ledger.take("alpha").await?.is_none());
    let checked = ledger.check().await?;
    assert_eq!((checked.due, checked.next_in_ms), (0, Some(5_000)));
    ledger.advance(5_000).await;
    assert_eq!(ledger.check().await?.due, 1);
    ledger.must_take("alpha").await?;
    Ok(())
}

async fn silence_is_a_warning_and_no_more(ledger: TestLedger) -> Result<()> {
    let id = ledger.add(command("quiet")).await?;
    let taken = ledger.must_take("alpha").await?;
    for _ in 0..8 {
        ledger.advance(50_000).await;
        let renew = Renew {
            held: vec![Held { id, term: taken.task.term, active: false }],
            agents: vec![],
            node: "1".into(),
            lease_ms: LEASE_MS,
        };
        assert_eq!(ledger.store.write(renew).await?.kept, [id]);
        assert_eq!(ledger.check().await?.lapsed, 0);
    }
    assert_eq!(ledger.count("task.stuck").await, 1);
    assert!(ledger.story(id).await?.task.stuck);
    ledger.store.write(done(&taken)).await?;
    Ok(())
}

async fn an_agent_is_shown_what_it_has_wherever_it_was_taken(ledger: TestLedger) -> Result<()> {
    let has = || Has { agent: "ada".into() };
    assert!(ledger.store.read(has()).await?.is_none());
    let need = ledger.add(command("need")).await?;
    let taken = ledger.must_take("ada").await?;
    ledger.done(&taken).await?;
    let id = ledger.add(NewTask { needs: vec![need], ..command("one") }).await?;
    let take = Take { node: Some("1".into()), ..next_of("ada") };
    ledger.store.write(take).await?.task().expect("it is ready");
    let shown = ledger.store.read(has()).await?.expect("it has one");
    assert_eq!((shown.task.id, shown.task.attempt, shown.needs.len()), (id, 1, 1));
    ledger.done(&shown).await?;
    assert!(ledger.store.read(has()).await?.is_none());
    Ok(())
}

/// Answers in how long `take` is told to look again; a task that it gets instead fails the test.
async fn again(ledger: &TestLedger, take: Take) -> Result<Option<i64>> {
    match ledger.store.write(take).await? {
        TakeAnswer::Nothing { again_in_ms } => Ok(again_in_ms),
        TakeAnswer::Task(taken) => panic!("got task {}", taken.task.id),
    }
}

async fn who_failed_at_a_task_is_told_when_to_look_for_it_again(ledger: TestLedger) -> Result<()> {
    let first = ledger.add(command("one")).await?;
    let taken = ledger.must_take("alpha").await?;
    assert_eq!(again(&ledger, next_of("alpha")).await?, None, "nothing is ready");
    ledger.store.write(Fail { retry_after_ms: 1_000, ..fail(&taken, "boom") }).await?;
    assert_eq!(again(&ledger, next_of("alpha")).await?, None, "it waits, and a check makes it ready");
    ledger.advance(1_500).await;
    ledger.check().await?;
    let left = again(&ledger, next_of("alpha")).await?.expect("a time");
    assert!((1..=2_000).contains(&left), "{left}");
    let unable = Take { kinds: Kinds::Prompt, ..next_of("alpha") };
    assert_eq!(again(&ledger, unable).await?, None, "of what it cannot do it is told nothing");
    let within = Limits { agent: Budget { usd_micros: None, tokens: Some(1) }, ..Limits::default() };
    assert_eq!(again(&ledger, Take { limits: within, ..next_of("alpha") }).await?, Some(left));
    ledger.advance(left - 1).await;
    assert_eq!(again(&ledger, next_of("alpha")).await?, Some(1));
    ledger.advance(1).await;
    assert_eq!(ledger.must_take("alpha").await?.task.id, first);
    Ok(())
}

async fn what_is_for_one_agent_alone_is_not_left_to_others(ledger: TestLedger) -> Result<()> {
    ledger.join("alpha").await?;
    let id = ledger.add(NewTask { agent: Some("alpha".into()), ..command("for alpha alone") }).await?;
    let taken = ledger.must_take("alpha").await?;
    ledger.fail(&taken, "boom").await?;
    ledger.advance(1_500).await;
    ledger.check().await?;
    assert_eq!(ledger.must_take("alpha").await?.task.id, id, "there is no other whom it could be left to");
    Ok(())
}

on_every_backend!(
    long_words_about_an_attempt_are_cut_and_a_long_goal_is_refused,
    who_failed_at_a_task_is_told_when_to_look_for_it_again,
    what_is_for_one_agent_alone_is_not_left_to_others,
    an_agent_is_shown_what_it_has_wherever_it_was_taken,
    a_task_has_one_owner_and_its_result_is_kept,
    why_the_work_failed_is_told_however_often_it_was_given_back_since,
    results_of_needed_tasks_of_one_name_are_all_told,
    an_agent_rests_until_its_task_or_itself_is_let_go_on,
    who_a_task_is_for_must_also_take_what_it_is,
    a_write_with_an_old_term_changes_nothing_and_is_logged,
    a_term_from_the_future_is_refused,
    a_lapsed_lease_whose_term_has_not_changed_may_still_write,
    done_said_twice_is_no_error_but_another_result_is,
    priority_goes_before_age,
    only_who_can_may_take,
    a_failed_attempt_waits_then_another_agent_is_preferred,
    a_chain_frees_its_next_and_passes_results,
    a_failed_need_cancels_all_below_and_retry_brings_them_back,
    done_is_proven_by_the_check,
    a_dead_checker_loses_the_check_but_not_the_work,
    cancel_and_reassign_raise_the_term,
    what_is_not_due_is_not_taken,
    silence_is_a_warning_and_no_more,
);

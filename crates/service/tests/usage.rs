//! What agents use, on both databases: accounts, budgets when a task is taken and while an agent works, parking.

use quorate_model::budget::{Budget, Spent};
use quorate_model::config::Limits;
use quorate_model::usage::{PARKS_MAX, Parked, Tokens, Used};
use quorate_model::{Kind, Result, RunId, TaskId, TaskState, Term};
use quorate_service::agent::{Crash, End, Seen, Tell, Word};
use quorate_service::run::{Cancel, Resume};
use quorate_service::task::{Aside, NewTask, Rest, SetAside, Take, Taken, Unpark};
use quorate_service::usage::{BudgetOf, Note, Reached, Said};
use quorate_service::view::{Agents, Overview, RunShow, Runs, Stalled, Status};
use quorate_testkit::ledger::TestLedger;
use quorate_testkit::on_every_backend;
use quorate_testkit::verbs::{LEASE_MS, begin, claiming, command, next_of, texts};

on_every_backend!(
    what_an_attempt_uses_is_added_up_for_task_run_agent_and_model,
    a_later_word_replaces_the_earlier_one,
    an_agent_itself_takes_nothing_back,
    usage_with_a_term_that_never_was_is_refused,
    what_a_lost_attempt_says_late_is_still_added,
    the_last_word_leaves_one_event,
    a_run_at_its_budget_is_put_aside_when_its_next_task_would_be_taken,
    tasks_of_other_runs_and_of_none_go_on,
    a_budget_that_is_reached_while_an_agent_works_is_said_once_in_the_log,
    unpark_grants_the_same_again_and_lets_all_go_on_that_wait_for_it,
    a_resumed_run_is_granted_its_budget_again,
    a_run_that_was_called_off_at_its_budget_is_granted_it_again_when_it_is_resumed,
    a_park_of_a_person_is_not_lifted_with_a_budget,
    an_agent_at_its_budget_is_paused_until_a_person_resumes_it,
    a_task_whose_agent_reaches_its_own_budget_goes_to_another,
    an_agent_at_its_budget_begins_again_with_the_reason_and_is_resumed_once,
    a_member_of_the_team_has_one_budget_whatever_nodes_call_it,
    a_budget_that_is_reached_is_the_reason_whatever_was_said_before,
    a_task_has_a_budget_over_all_its_attempts,
    many_takers_at_once_keep_to_budgets,
    a_task_whose_claims_are_held_gives_way_only_to_one_within_budget,
    an_attempt_that_cannot_go_on_parks_its_task_until_then,
    without_a_stated_time_a_task_is_parked_for_longer_each_time,
    a_task_that_is_parked_too_often_has_failed,
    a_parked_attempt_is_ended_only_under_its_term,
    models_without_a_price_are_named,
    a_run_stalls_when_all_who_could_go_on_have_reached_their_budgets,
    budgets_of_nothing_but_zero_stop_everything,
);

fn used(model: &str, output: i64, usd_micros: impl Into<Option<i64>>) -> Used {
    let tokens = Tokens { output, ..Tokens::default() };
    Used { model: model.into(), tokens, usd_micros: usd_micros.into(), ..Used::default() }
}

fn note(taken: &Taken, used: Vec<Used>) -> Note {
    let task = &taken.task;
    let (id, term, attempt) = (task.id, task.term, task.attempt);
    Note { id, term, attempt, used, limits: Limits::default(), is_last: false }
}

fn usd(dollars: i64) -> Budget {
    Budget { usd_micros: Some(dollars * 1_000_000), tokens: None }
}

fn per_run(budget: Budget) -> Limits {
    Limits { run: budget, ..Limits::default() }
}

fn per_agent(budget: Budget) -> Limits {
    Limits { agent: budget, ..Limits::default() }
}

fn within(limits: Limits, agent: &str) -> Take {
    Take { limits, ..next_of(agent) }
}

fn of(of: BudgetOf, reason: &str) -> Reached {
    Reached { of, reason: reason.into() }
}

fn words(reached: Option<Reached>) -> Option<String> {
    reached.map(|reached| reached.reason)
}

/// Begins a run of plain tasks, of which the first is taken and has used so much.
async fn spent_run(
    ledger: &TestLedger,
    tasks: usize,
    usd_micros: i64,
) -> Result<(RunId, Vec<TaskId>, Taken)> {
    let (run, ids) = ledger.start((0..tasks).map(|n| command(&format!("t{n}"))).collect()).await?;
    let taken = ledger.must_take("alpha").await?;
    ledger.store.write(note(&taken, vec![used("m", 100, usd_micros)])).await?;
    Ok((run, ids, taken))
}

async fn what_an_attempt_uses_is_added_up_for_task_run_agent_and_model(ledger: TestLedger) -> Result<()> {
    ledger.store.write(begin("alpha", "1")).await?;
    let (run, ids) = ledger.start(vec![command("a"), command("b")]).await?;
    let first = ledger.must_take("alpha").await?;
    let tokens = Tokens { input: 1, output: 2, cache_read: 1_000, cache_write: 4 };
    let full =
        Used { tokens, context_tokens: Some(84_000), context_window: Some(200_000), ..used("big", 0, 70) };
    ledger.store.write(note(&first, vec![full.clone(), used("small", 3, 5)])).await?;
    let view = ledger.store.read(Agents { name: Some("alpha".into()) }).await?.remove(0);
    assert_eq!(
        (view.spent, view.context),
        (Spent { usd_micros: 75, tokens: 10 }, Some((84_000, Some(200_000))))
    );
    ledger.done(&first).await?;
    let second = ledger.must_take("alpha").await?;
    ledger.store.write(note(&second, vec![used("small", 10, 20)])).await?;

    let story = ledger.story(ids[0]).await?;
    assert_eq!(story.counted.ever, Spent { usd_micros: 75, tokens: 10 });
    let models: Vec<&Used> = story.usage.iter().map(|entry| &entry.used).collect();
    assert_eq!(models, [&full, &used("small", 3, 5)]);
    let of_run = ledger.store.read(RunShow { id: run }).await?;
    assert_eq!(of_run.counted.ever, Spent { usd_micros: 95, tokens: 20 });
    assert_eq!(of_run.usage.len(), 3);
    let view = ledger.store.read(Agents { name: Some("alpha".into()) }).await?.remove(0);
    assert_eq!((view.spent.tokens, view.context), (20, None), "the second task says nothing of its context");
    assert_eq!(ledger.store.read(Runs::default()).await?[0].spent.usd_micros, 95);
    Ok(())
}

async fn a_later_word_replaces_the_earlier_one(ledger: TestLedger) -> Result<()> {
    let (run, ids, taken) = spent_run(&ledger, 1, 500).await?;
    for _ in 0..2 {
        ledger.store.write(note(&taken, vec![used("m", 150, 700)])).await?;
    }
    ledger.store.write(note(&taken, vec![used("other", 1, 1)])).await?;
    let expected = Spent { usd_micros: 701, tokens: 151 };
    assert_eq!(ledger.story(ids[0]).await?.counted.ever, expected);
    assert_eq!(ledger.store.read(RunShow { id: run }).await?.counted.ever, expected);
    Ok(())
}

async fn an_agent_itself_takes_nothing_back(ledger: TestLedger) -> Result<()> {
    let (_, ids, taken) = spent_run(&ledger, 1, 500).await?;
    let say = |output, usd_micros: Option<i64>| Said(note(&taken, vec![used("m", output, usd_micros)]));
    for (word, expected) in [
        (say(50, None), (500, 100)),
        (say(150, Some(400)), (500, 150)),
        (say(0, Some(700)), (700, 150)),
        (Said(note(&taken, vec![used("other", 1, None)])), (700, 151)),
    ] {
        ledger.store.write(word).await?;
        let ever = ledger.story(ids[0]).await?.counted.ever;
        assert_eq!((ever.usd_micros, ever.tokens), expected);
    }
    ledger.store.write(note(&taken, vec![used("m", 10, 20)])).await?;
    let ever = ledger.story(ids[0]).await?.counted.ever;
    assert_eq!((ever.usd_micros, ever.tokens), (20, 11), "its supervisor may");
    Ok(())
}

async fn usage_with_a_term_that_never_was_is_refused(ledger: TestLedger) -> Result<()> {
    let (_, ids, taken) = spent_run(&ledger, 1, 500).await?;
    let ahead = Note { term: Term(taken.task.term.0 + 1), ..note(&taken, vec![used("m", 1_000, 9_000)]) };
    assert_eq!(ledger.store.write(ahead).await.expect_err("refused").kind, Kind::Stale);
    assert_eq!(ledger.count("write.refused").await, 1);
    assert_eq!(ledger.story(ids[0]).await?.counted.ever.usd_micros, 500);
    Ok(())
}

async fn what_a_lost_attempt_says_late_is_still_added(ledger: TestLedger) -> Result<()> {
    let (_, ids, lost) = spent_run(&ledger, 1, 500).await?;
    ledger.advance(2 * LEASE_MS).await;
    ledger.check().await?;
    let again = ledger.must_take("beta").await?;
    ledger.store.write(note(&again, vec![used("m", 1, 1)])).await?;
    ledger.store.write(note(&lost, vec![used("m", 200, 900)])).await?;
    assert_eq!(ledger.story(ids[0]).await?.counted.ever, Spent { usd_micros: 901, tokens: 201 });
    Ok(())
}

async fn the_last_word_leaves_one_event(ledger: TestLedger) -> Result<()> {
    let (_, _, taken) = spent_run(&ledger, 1, 430_000).await?;
    assert_eq!(ledger.count("task.used").await, 0, "words on the way would flood the log");
    let all = vec![used("m", 12_000, 430_000), used("free", 5, None)];
    ledger.store.write(Note { is_last: true, ..note(&taken, all) }).await?;
    let events = ledger.events().await;
    let told: Vec<_> = events.iter().filter(|event| event.kind == "task.used").collect();
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].message, format!("attempt 1 at task {} used 12,005 tokens ($0.43)", taken.task.id));
    let data: serde_json::Value = serde_json::from_str(told[0].data.as_deref().expect("data")).expect("JSON");
    assert_eq!(
        (&data["models"][0]["usd"], &data["models"][1]["usd"]),
        (&0.43.into(), &serde_json::Value::Null)
    );
    Ok(())
}

async fn a_run_at_its_budget_is_put_aside_when_its_next_task_would_be_taken(
    ledger: TestLedger,
) -> Result<()> {
    let (_, ids, taken) = spent_run(&ledger, 4, 20_020_000).await?;
    ledger.done(&taken).await?;
    assert!(ledger.store.write(within(per_run(usd(21)), "alpha")).await?.task().is_some(), "below it");
    assert!(ledger.store.write(within(per_run(usd(20)), "alpha")).await?.task().is_none());
    for id in &ids[2..] {
        let story = ledger.story(*id).await?;
        assert_eq!(story.task.state, TaskState::Parked);
        let reason = story.task.reason.unwrap_or_default();
        assert_eq!(reason, "budget: run 1 has used $20.02 of $20.00");
        assert_eq!((story.task.due_at, story.task.attempt), (None, 0));
    }
    assert_eq!(ledger.count("task.parked").await, 2);
    ledger.advance(3_600_000).await;
    ledger.check().await?;
    assert_eq!(ledger.state(ids[3]).await?, TaskState::Parked, "only a person lets it go on");
    Ok(())
}

async fn tasks_of_other_runs_and_of_none_go_on(ledger: TestLedger) -> Result<()> {
    let (_, ids, _) = spent_run(&ledger, 2, 9_000_000).await?;
    let free = ledger.add(command("of no run")).await?;
    let (_, others) = ledger.start(vec![command("of another run")]).await?;
    let take = within(per_run(usd(5)), "beta");
    let got = [ledger.store.write(take.clone()).await?.task(), ledger.store.write(take).await?.task()];
    assert_eq!(got.map(|taken| taken.map(|taken| taken.task.id)), [Some(free), Some(others[0])]);
    assert_eq!(ledger.state(ids[1]).await?, TaskState::Parked);
    Ok(())
}

async fn a_budget_that_is_reached_while_an_agent_works_is_said_once_in_the_log(
    ledger: TestLedger,
) -> Result<()> {
    let (_, _, taken) = spent_run(&ledger, 1, 500_000).await?;
    let limits = Limits { run: Budget { usd_micros: Some(1_000_000), tokens: Some(1_000) }, agent: usd(7) };
    let say = |output, cost| Note { limits, ..note(&taken, vec![used("m", output, cost)]) };
    assert_eq!(ledger.store.write(say(100, 999_999)).await?, None);
    let reached = ledger.store.write(say(100, 1_000_000)).await?.expect("it is reached");
    assert_eq!(reached, of(BudgetOf::Run, "budget: run 1 has used $1.00 of $1.00"));
    assert!(ledger.store.write(say(2_000, 1_500_000)).await?.is_some());
    assert_eq!(ledger.count("budget.reached").await, 1);
    let rest = SetAside {
        id: taken.task.id,
        term: taken.task.term,
        why: Aside::Budget(reached),
        tail: Some("last words".into()),
    };
    assert_eq!(ledger.store.write(rest).await?, Rest::Parked(None));
    let story = ledger.story(taken.task.id).await?;
    assert_eq!((story.task.state, story.task.failures), (TaskState::Parked, 0));
    let attempt = &story.attempts[0];
    assert_eq!((attempt.outcome.as_deref(), attempt.tail.as_deref()), (Some("parked"), Some("last words")));
    Ok(())
}

async fn unpark_grants_the_same_again_and_lets_all_go_on_that_wait_for_it(ledger: TestLedger) -> Result<()> {
    let (run, ids, _) = spent_run(&ledger, 4, 5_000_000).await?;
    let take = within(per_run(usd(5)), "beta");
    assert!(ledger.store.write(take.clone()).await?.task().is_none());
    ledger.store.write(Unpark { id: ids[2] }).await?;
    for id in &ids[1..] {
        assert_eq!(ledger.state(*id).await?, TaskState::Ready);
    }
    let taken = ledger.store.write(take.clone()).await?.task().expect("granted");
    let story = ledger.store.read(RunShow { id: run }).await?;
    assert_eq!((story.counted.spent.usd_micros, story.counted.ever.usd_micros), (0, 5_000_000));
    let limits = take.limits;
    let below = Note { limits, ..note(&taken, vec![used("m", 1, 4_999_999)]) };
    assert_eq!(ledger.store.write(below).await?, None);
    let at = Note { limits, ..note(&taken, vec![used("m", 1, 5_000_000)]) };
    assert!(ledger.store.write(at).await?.is_some(), "the same, and no more");
    Ok(())
}

async fn a_resumed_run_is_granted_its_budget_again(ledger: TestLedger) -> Result<()> {
    let (run, ids, taken) = spent_run(&ledger, 3, 5_000_000).await?;
    ledger.done(&taken).await?;
    let take = within(per_run(usd(5)), "beta");
    assert!(ledger.store.write(take.clone()).await?.task().is_none());
    ledger.store.write(Resume { id: run }).await?;
    assert_eq!(ledger.store.write(take).await?.task().map(|taken| taken.task.id), Some(ids[1]));
    Ok(())
}

async fn a_run_that_was_called_off_at_its_budget_is_granted_it_again_when_it_is_resumed(
    ledger: TestLedger,
) -> Result<()> {
    let (run, ids, taken) = spent_run(&ledger, 3, 5_000_000).await?;
    ledger.done(&taken).await?;
    let take = within(per_run(usd(5)), "beta");
    assert!(ledger.store.write(take.clone()).await?.task().is_none());
    ledger.store.write(Cancel { id: run, reason: "for today".into() }).await?;
    ledger.store.write(Resume { id: run }).await?;
    let again = ledger.store.write(take.clone()).await?.task().expect("granted again");
    assert_eq!(again.task.id, ids[1]);
    let limits = take.limits;
    ledger.store.write(Resume { id: run }).await?;
    let at = Note { limits, ..note(&again, vec![used("m", 1, 5_000_000)]) };
    assert!(ledger.store.write(at).await?.is_some(), "the same, and no more");
    Ok(())
}

async fn a_park_of_a_person_is_not_lifted_with_a_budget(ledger: TestLedger) -> Result<()> {
    let (run, ids, _) = spent_run(&ledger, 4, 5_000_000).await?;
    let by_hand =
        quorate_service::task::Park { id: ids[3], term: None, reason: "approval".into(), until: None };
    ledger.store.write(by_hand).await?;
    assert!(ledger.store.write(within(per_run(usd(5)), "beta")).await?.task().is_none());
    ledger.store.write(Unpark { id: ids[3] }).await?;
    assert_eq!(ledger.state(ids[1]).await?, TaskState::Parked, "that was another reason");
    ledger.store.write(Resume { id: run }).await?;
    assert_eq!(ledger.state(ids[1]).await?, TaskState::Ready);
    Ok(())
}

async fn an_agent_at_its_budget_is_paused_until_a_person_resumes_it(ledger: TestLedger) -> Result<()> {
    ledger.join("alpha").await?;
    let (_, ids, taken) = spent_run(&ledger, 2, 0).await?;
    let limits = per_agent(Budget { usd_micros: None, tokens: Some(1_000) });
    let reached = ledger.store.write(Note { limits, ..note(&taken, vec![used("m", 1_000, None)]) }).await?;
    let expected = of(BudgetOf::Agent, "budget: agent alpha has used 1,000 of 1,000 tokens");
    assert_eq!(reached, Some(expected.clone()));
    let view = |name: &str| Agents { name: Some(name.into()) };
    let alpha = ledger.store.read(view("alpha")).await?.remove(0).agent;
    assert_eq!((alpha.paused, alpha.reason), (true, Some(expected.reason)));
    ledger.done(&taken).await?;
    assert!(ledger.store.write(within(limits, "alpha")).await?.task().is_none());
    assert_eq!(ledger.state(ids[1]).await?, TaskState::Ready, "another may take it");
    ledger.store.write(Tell { name: "alpha".into(), word: Word::Resume }).await?;
    let again = ledger.store.write(within(limits, "alpha")).await?.task().expect("granted again");
    assert_eq!(again.task.id, ids[1]);
    assert_eq!(ledger.store.write(Note { limits, ..note(&again, vec![used("m", 999, None)]) }).await?, None);
    let lower = per_agent(Budget { usd_micros: None, tokens: Some(900) });
    ledger.add(command("more")).await?;
    assert!(
        ledger.store.write(within(lower, "alpha")).await?.task().is_none(),
        "looked at before a task is taken"
    );
    assert!(ledger.store.read(view("alpha")).await?[0].agent.paused);
    Ok(())
}

async fn a_task_whose_agent_reaches_its_own_budget_goes_to_another(ledger: TestLedger) -> Result<()> {
    ledger.join("alpha").await?;
    let id = ledger.add(claiming("a", &["src"])).await?;
    let taken = ledger.must_take("alpha").await?;
    let limits = per_agent(Budget { usd_micros: None, tokens: Some(100) });
    let reached = ledger.store.write(Note { limits, ..note(&taken, vec![used("m", 100, None)]) }).await?;
    let why = Aside::Budget(reached.clone().expect("it is reached"));
    let tail = Some("last words".to_owned());
    let aside = SetAside { id, term: taken.task.term, why, tail };
    assert_eq!(ledger.store.write(aside.clone()).await?, Rest::GivenBack);
    assert_eq!(ledger.store.write(aside).await.expect_err("given back already").kind, Kind::Stale);
    let story = ledger.story(id).await?;
    assert_eq!(
        (story.task.state, story.task.failures, story.task.reason),
        (TaskState::Ready, 0, words(reached))
    );
    let attempt = &story.attempts[0];
    assert_eq!((attempt.outcome.as_deref(), attempt.tail.as_deref()), (Some("released"), Some("last words")));
    assert!(ledger.held().await?.is_empty(), "its claims are free");
    assert!(ledger.store.write(within(limits, "alpha")).await?.task().is_none(), "it is paused");
    let again = ledger.store.write(within(limits, "beta")).await?.task().expect("beta may go on");
    assert_eq!((again.task.id, again.task.attempt), (id, 2));
    Ok(())
}

/// The node of a second `quorate run` begins its agents anew.
async fn an_agent_at_its_budget_begins_again_with_the_reason_and_is_resumed_once(
    ledger: TestLedger,
) -> Result<()> {
    ledger.store.write(begin("alpha", "1")).await?;
    let (run, ids, taken) = spent_run(&ledger, 2, 0).await?;
    let limits = per_agent(Budget { usd_micros: None, tokens: Some(100) });
    let reason =
        words(ledger.store.write(Note { limits, ..note(&taken, vec![used("m", 100, None)]) }).await?);
    ledger.done(&taken).await?;
    ledger.store.write(End { name: "alpha".into(), node: "1".into() }).await?;
    ledger.store.write(begin("alpha", "2")).await?;
    let alpha = ledger.store.read(Agents { name: Some("alpha".into()) }).await?.remove(0).agent;
    assert_eq!((alpha.paused, alpha.reason), (true, reason));
    let stalled = Stalled { id: run, node: "2".into() };
    assert!(ledger.store.read(stalled.clone()).await?, "its run ends instead of waiting for ever");
    assert!(ledger.store.write(within(limits, "alpha")).await?.task().is_none());
    ledger.store.write(Tell { name: "alpha".into(), word: Word::Resume }).await?;
    assert!(!ledger.store.read(stalled).await?);
    let again = ledger.store.write(within(limits, "alpha")).await?.task().expect("granted again");
    assert_eq!(again.task.id, ids[1]);
    Ok(())
}

async fn a_member_of_the_team_has_one_budget_whatever_nodes_call_it(ledger: TestLedger) -> Result<()> {
    let limits = per_agent(Budget { usd_micros: None, tokens: Some(100) });
    let (_, ids, taken) = spent_run(&ledger, 3, 0).await?;
    for (name, node) in [("alpha", "1"), ("alpha@9", "9"), ("beta", "9")] {
        ledger.store.write(begin(name, node)).await?;
    }
    assert!(ledger.store.write(Note { limits, ..note(&taken, vec![used("m", 100, None)]) }).await?.is_some());
    assert!(ledger.store.write(within(limits, "alpha@9")).await?.task().is_none());
    let team = ledger.store.read(Agents::default()).await?;
    let told: Vec<_> = team.iter().map(|view| (view.spent.tokens, view.agent.paused)).collect();
    assert_eq!(told, [(100, true), (100, true), (0, false)]);
    assert_eq!(team[0].agent.reason, team[1].agent.reason);
    ledger.store.write(Tell { name: "alpha".into(), word: Word::Resume }).await?;
    assert_eq!(ledger.count("agent.resumed").await, 2, "as one they were paused, as one they go on");
    let again = ledger.store.write(within(limits, "alpha@9")).await?.task().expect("granted again");
    assert_eq!(again.task.id, ids[1]);
    assert!(ledger.store.write(Note { limits, ..note(&again, vec![used("m", 100, None)]) }).await?.is_some());
    assert!(ledger.store.write(within(limits, "alpha")).await?.task().is_none());
    Ok(())
}

async fn a_budget_that_is_reached_is_the_reason_whatever_was_said_before(ledger: TestLedger) -> Result<()> {
    ledger.store.write(begin("alpha", "1")).await?;
    let (_, _, taken) = spent_run(&ledger, 3, 0).await?;
    let tell = |word| Tell { name: "alpha".into(), word };
    let limits = per_agent(Budget { usd_micros: None, tokens: Some(100) });
    let paused = async || {
        let alpha = ledger.store.read(Agents { name: Some("alpha".into()) }).await?.remove(0).agent;
        Ok::<_, quorate_model::Error>(alpha.reason.filter(|_| alpha.paused))
    };
    ledger.store.write(tell(Word::Pause)).await?;
    let reason =
        words(ledger.store.write(Note { limits, ..note(&taken, vec![used("m", 100, None)]) }).await?);
    assert!(reason.is_some());
    assert_eq!(paused().await?, reason, "a person's pause is not all");
    ledger.done(&taken).await?;
    ledger.store.write(tell(Word::Resume)).await?;
    let again = ledger.store.write(within(limits, "alpha")).await?.task().expect("granted with one word");
    let reason =
        words(ledger.store.write(Note { limits, ..note(&again, vec![used("m", 100, None)]) }).await?);
    let crash = Crash {
        name: "alpha".into(),
        task: again.task.id,
        reason: "exit 139".into(),
        spawn: false,
        max_respawns: 3,
    };
    ledger.store.write(crash).await?;
    assert!(ledger.store.write(within(limits, "alpha")).await?.task().is_none());
    assert_eq!(paused().await?, reason);
    ledger.store.write(tell(Word::Resume)).await?;
    assert!(ledger.store.write(within(limits, "alpha")).await?.task().is_some());
    Ok(())
}

async fn a_task_has_a_budget_over_all_its_attempts(ledger: TestLedger) -> Result<()> {
    let (_, ids) = ledger.start(vec![NewTask { budget: usd(1), ..command("a") }, command("b")]).await?;
    let first = ledger.must_take("alpha").await?;
    assert_eq!(ledger.story(ids[0]).await?.counted.budget, usd(1));
    assert_eq!(ledger.store.write(note(&first, vec![used("m", 1, 600_000)])).await?, None);
    ledger.fail(&first, "no").await?;
    ledger.advance(10_000).await;
    ledger.check().await?;
    let second = ledger.must_take("alpha").await?;
    let reached =
        ledger.store.write(note(&second, vec![used("m", 1, 400_000)])).await?.expect("it is reached");
    assert_eq!(reached, of(BudgetOf::Task, "budget: task 1 has used $1.00 of $1.00"));
    ledger.fail(&second, "no").await?;
    ledger.advance(10_000).await;
    ledger.check().await?;
    assert_eq!(ledger.must_take("beta").await?.task.id, ids[1], "the first is put aside");
    assert_eq!(ledger.story(ids[0]).await?.task.reason, Some(reached.reason));
    ledger.store.write(Unpark { id: ids[0] }).await?;
    let third = ledger.must_take("alpha").await?;
    assert_eq!((third.task.id, third.task.attempt), (ids[0], 3));
    assert_eq!(ledger.store.write(note(&third, vec![used("m", 1, 999_999)])).await?, None);
    Ok(())
}

async fn many_takers_at_once_keep_to_budgets(ledger: TestLedger) -> Result<()> {
    spent_run(&ledger, 50, 5_000_000).await?;
    let free = ledger.start((0..20).map(|n| command(&format!("free {n}"))).collect()).await?.1;
    let mut takers = tokio::task::JoinSet::new();
    for n in 0..40 {
        let store = ledger.store.clone();
        // Half of them work under no budget: those are merged on PostgreSQL.
        let limits = if n % 2 == 0 { per_run(usd(5)) } else { Limits::default() };
        let capable = Take { limits, run: Some(RunId(2)), ..next_of(&format!("taker-{n}")) };
        takers.spawn(async move { store.write(capable).await });
    }
    let mut taken = Vec::new();
    while let Some(answer) = takers.join_next().await {
        taken.extend(answer.expect("no panic")?.task().map(|taken| taken.task.id));
    }
    taken.sort_unstable();
    assert_eq!(taken, free, "each once");
    let mut over = tokio::task::JoinSet::new();
    for n in 0..10 {
        let (store, take) = (ledger.store.clone(), within(per_run(usd(5)), &format!("late-{n}")));
        over.spawn(async move { store.write(take).await });
    }
    while let Some(answer) = over.join_next().await {
        assert!(answer.expect("no panic")?.task().is_none());
    }
    let parked = ledger.store.read(Status).await?;
    assert!(parked.counts.contains(&("parked".to_owned(), 49)), "{:?}", parked.counts);
    Ok(())
}

async fn a_task_whose_claims_are_held_gives_way_only_to_one_within_budget(ledger: TestLedger) -> Result<()> {
    let (_, ids, _) = spent_run(&ledger, 1, 5_000_000).await?;
    ledger.claim("other", &["src"]).await?;
    let held = ledger.add(NewTask { priority: 0, ..claiming("held", &["src/a"]) }).await?;
    let over = quorate_service::task::Add {
        run: Some(RunId(1)),
        tasks: vec![claiming("over", &["docs"])],
        by: None,
    };
    let over = ledger.store.write(over).await?[0];
    let free = ledger.add(claiming("free", &["docs"])).await?;
    let taken = ledger.store.write(within(per_run(usd(5)), "beta")).await?.task().expect("one is within");
    assert_eq!(taken.task.id, free);
    assert_eq!((ledger.state(held).await?, ledger.state(over).await?), (TaskState::Ready, TaskState::Parked));
    assert_eq!(ledger.state(ids[0]).await?, TaskState::Running);
    Ok(())
}

fn limit(until_ms: Option<i64>, after_ms: Option<i64>) -> Aside {
    Aside::Agent(Parked { reason: "rate limit".into(), until_ms, after_ms })
}

async fn park(ledger: &TestLedger, taken: &Taken, why: Aside) -> Result<Rest> {
    ledger.store.write(SetAside { id: taken.task.id, term: taken.task.term, why, tail: None }).await
}

async fn an_attempt_that_cannot_go_on_parks_its_task_until_then(ledger: TestLedger) -> Result<()> {
    let id = ledger.add(claiming("a", &["src"])).await?;
    let taken = ledger.must_take("alpha").await?;
    let now = ledger.story(id).await?.now;
    assert_eq!(park(&ledger, &taken, limit(Some(now + 90_000), None)).await?, Rest::Parked(Some(90_000)));
    let story = ledger.story(id).await?;
    assert_eq!((story.task.state, story.task.due_at), (TaskState::Parked, Some(now + 90_000)));
    assert_eq!((story.task.failures, story.task.reason.as_deref()), (0, Some("rate limit")));
    assert!(ledger.held().await?.is_empty(), "its claims are free meanwhile");
    ledger.advance(89_000).await;
    assert_eq!(ledger.check().await?.next_in_ms, Some(1_000));
    assert!(ledger.take("alpha").await?.is_none());
    ledger.advance(1_000).await;
    ledger.check().await?;
    let again = ledger.must_take("alpha").await?;
    assert_eq!((again.task.id, again.task.attempt), (id, 2));
    assert_eq!(again.previous[0].outcome, "parked");
    Ok(())
}

async fn without_a_stated_time_a_task_is_parked_for_longer_each_time(ledger: TestLedger) -> Result<()> {
    ledger.add(command("a")).await?;
    for expected in [60_000, 120_000, 240_000] {
        let taken = ledger.must_take("alpha").await?;
        assert_eq!(park(&ledger, &taken, limit(None, None)).await?, Rest::Parked(Some(expected)));
        ledger.advance(expected).await;
        ledger.check().await?;
    }
    let taken = ledger.must_take("alpha").await?;
    ledger.fail(&taken, "no").await?;
    ledger.advance(10_000).await;
    ledger.check().await?;
    let taken = ledger.must_take("alpha").await?;
    assert_eq!(
        park(&ledger, &taken, limit(None, None)).await?,
        Rest::Parked(Some(60_000)),
        "a new row begins"
    );
    Ok(())
}

async fn a_task_that_is_parked_too_often_has_failed(ledger: TestLedger) -> Result<()> {
    let id = ledger.add(command("a")).await?;
    for _ in 0..PARKS_MAX {
        let taken = ledger.must_take("alpha").await?;
        assert_eq!(park(&ledger, &taken, limit(None, Some(5_000))).await?, Rest::Parked(Some(5_000)));
        ledger.advance(5_000).await;
        ledger.check().await?;
    }
    let taken = ledger.must_take("alpha").await?;
    let last = park(&ledger, &taken, limit(None, Some(5_000))).await?;
    assert_eq!(last, Rest::TooOften(TaskState::Failed));
    let reason = ledger.story(id).await?.task.reason;
    assert_eq!(reason.as_deref(), Some("parked 20 times in a row: rate limit"));
    Ok(())
}

async fn a_parked_attempt_is_ended_only_under_its_term(ledger: TestLedger) -> Result<()> {
    let id = ledger.add(command("a")).await?;
    let lost = ledger.must_take("alpha").await?;
    ledger.advance(2 * LEASE_MS).await;
    ledger.check().await?;
    ledger.must_take("beta").await?;
    for why in [limit(None, Some(5_000)), Aside::Budget(of(BudgetOf::Run, "budget: run 1 has used all"))] {
        assert_eq!(park(&ledger, &lost, why).await.expect_err("refused").kind, Kind::Stale);
    }
    assert_eq!(ledger.state(id).await?, TaskState::Running);
    Ok(())
}

async fn models_without_a_price_are_named(ledger: TestLedger) -> Result<()> {
    let (_, _, taken) = spent_run(&ledger, 1, 500).await?;
    let Overview { unpriced, spent, .. } = ledger.store.read(Status).await?;
    assert_eq!((unpriced.len(), spent), (0, Spent { usd_micros: 500, tokens: 100 }));
    ledger.store.write(note(&taken, vec![used("strange", 1, None)])).await?;
    assert_eq!(ledger.store.read(Status).await?.unpriced, ["strange"]);
    assert_eq!(ledger.store.read(quorate_service::doctor::Ask).await?.unpriced, ["strange"]);
    Ok(())
}

async fn a_run_stalls_when_all_who_could_go_on_have_reached_their_budgets(ledger: TestLedger) -> Result<()> {
    ledger.store.write(begin("alpha", "1")).await?;
    let (run, ids, taken) = spent_run(&ledger, 2, 0).await?;
    let ask = Stalled { id: run, node: "1".into() };
    assert!(!ledger.store.read(ask.clone()).await?);
    let limits = per_agent(Budget { usd_micros: None, tokens: Some(100) });
    assert!(ledger.store.write(Note { limits, ..note(&taken, vec![used("m", 100, None)]) }).await?.is_some());
    assert!(!ledger.store.read(ask.clone()).await?, "it still runs");
    ledger.done(&taken).await?;
    assert!(ledger.store.read(ask.clone()).await?);
    ledger.store.write(Seen { name: "me".into(), strict: false }).await?;
    assert!(!ledger.store.read(ask.clone()).await?, "who pulls its work may take task {}", ids[1]);
    ledger.advance(61_000).await;
    ledger.store.write(begin("alpha", "1")).await?;
    assert!(ledger.store.read(ask.clone()).await?, "nobody has heard of it for a minute");
    let mut beta = begin("beta", "1");
    beta.capabilities = texts(&["docs"]);
    ledger.store.write(beta).await?;
    assert!(!ledger.store.read(ask).await?, "beta can take task {}", ids[1]);
    Ok(())
}

async fn budgets_of_nothing_but_zero_stop_everything(ledger: TestLedger) -> Result<()> {
    ledger.start(vec![command("a")]).await?;
    assert!(ledger.store.write(within(per_run(usd(0)), "alpha")).await?.task().is_none());
    assert_eq!(
        ledger.story(TaskId(1)).await?.task.reason.as_deref(),
        Some("budget: run 1 has used $0.00 of $0.00")
    );
    Ok(())
}

//! Many callers at the same moment, on both databases: SQLite groups their operations, PostgreSQL merges them.
//! What each of them gets must be what it would have got by itself.

use quorate_model::{Error, Kind, Result, TaskId, TaskState, Term};
use quorate_service::agent::{Tell, Word};
use quorate_service::goal::Decompose;
use quorate_service::health::Check;
use quorate_service::run;
use quorate_service::task::{
    self, Add, Done, DoneAnswer, Kinds, NewTask, Park, Take, Taken, Task, Unpark, Work,
};
use quorate_service::view::{RunShow, Tasks};
use quorate_store::Write;
use quorate_testkit::ledger::TestLedger;
use quorate_testkit::on_every_backend;
use quorate_testkit::verbs::{LEASE_MS, claiming, command, next_of, texts};
use std::collections::BTreeSet;
use tokio::task::JoinSet;

/// Callers at once: far more than may have a transaction under way.
const CALLERS: usize = 60;

/// Writes all at the same moment; answers in order.
async fn at_once<W: Write>(ledger: &TestLedger, works: Vec<W>) -> Vec<Result<W::Answer>> {
    let mut callers = JoinSet::new();
    for (place, work) in works.into_iter().enumerate() {
        let store = ledger.store.clone();
        callers.spawn(async move { (place, store.write(work).await) });
    }
    let mut answers = callers.join_all().await;
    answers.sort_by_key(|(place, _)| *place);
    answers.into_iter().map(|(_, answer)| answer).collect()
}

/// Lets `takers` take at the same moment; answers with what they got.
async fn take_at_once(ledger: &TestLedger, takers: Vec<Take>) -> Result<Vec<Option<Taken>>> {
    at_once(ledger, takers).await.into_iter().map(|answer| Ok(answer?.task())).collect()
}

fn takers(count: usize) -> Vec<Take> {
    (0..count).map(|n| next_of(&format!("agent-{n}"))).collect()
}

fn done(taken: &Taken) -> Done {
    Done {
        id: taken.task.id,
        term: taken.task.term,
        result: Some("1".into()),
        tail: Some("last words".into()),
    }
}

async fn takers_at_once_get_a_task_each_and_no_task_has_two_owners(ledger: TestLedger) -> Result<()> {
    for n in 0..CALLERS - 20 {
        ledger.add(command(&format!("task {n}"))).await?;
    }
    let taken = take_at_once(&ledger, takers(CALLERS)).await?;
    let got: Vec<&Taken> = taken.iter().flatten().collect();
    let tasks: BTreeSet<TaskId> = got.iter().map(|taken| taken.task.id).collect();
    assert_eq!((got.len(), tasks.len()), (CALLERS - 20, CALLERS - 20));
    for (n, taken) in taken.iter().enumerate() {
        let Some(taken) = taken else { continue };
        let story = ledger.story(taken.task.id).await?;
        assert_eq!(story.task.state, TaskState::Running);
        assert_eq!((story.task.owner, story.task.term), (Some(format!("agent-{n}")), Term(1)));
        assert_eq!(story.attempts.len(), 1);
    }
    assert_eq!(ledger.count("task.taken").await, CALLERS - 20);
    Ok(())
}

async fn takers_at_once_take_what_comes_first(ledger: TestLedger) -> Result<()> {
    for n in 0..CALLERS {
        ledger.add(NewTask { priority: (n % 3) as i64, ..command(&format!("task {n}")) }).await?;
    }
    let taken = take_at_once(&ledger, takers(CALLERS / 3)).await?;
    assert!(taken.iter().flatten().all(|taken| taken.task.priority == 0), "only the high ones");
    assert_eq!(taken.iter().flatten().count(), CALLERS / 3);
    Ok(())
}

/// Each taker may have exactly one of the tasks, whoever comes first.
async fn takers_at_once_get_only_what_they_may_have(ledger: TestLedger) -> Result<()> {
    let mut wishes = Vec::new();
    for n in 0..CALLERS {
        let name = format!("agent-{n}");
        let (task, taker) = match n % 4 {
            0 => (NewTask { agent: Some(name.clone()), ..command("named") }, next_of(&name)),
            1 => {
                let capability = Some(format!("skill-{n}"));
                let taker =
                    Take { capabilities: Some(capability.iter().cloned().collect()), ..next_of(&name) };
                (NewTask { capability, ..command("skilled") }, taker)
            }
            2 => {
                let task = NewTask { work: Some(Work::Prompt("words".into())), ..NewTask::new("words") };
                let task = NewTask { capability: Some("words".into()), ..task };
                let taker =
                    Take { kinds: Kinds::Prompt, capabilities: Some(texts(&["words"])), ..next_of(&name) };
                (task, taker)
            }
            _ => {
                let task =
                    NewTask { agent: Some(name.clone()), ..claiming("claims", &[&format!("port:{n}")]) };
                (task, Take { capabilities: Some(texts(&["nothing"])), ..next_of(&name) })
            }
        };
        ledger.join(&name).await?;
        let title = task.title.clone();
        ledger.add(task).await?;
        // A named task may be done without the skill; an unnamed skilled one may not.
        wishes.push((title, Take { capabilities: taker.capabilities.clone().or(Some(vec![])), ..taker }));
    }
    let (titles, takers): (Vec<String>, Vec<Take>) = wishes.into_iter().unzip();
    let taken = take_at_once(&ledger, takers).await?;
    for (n, (title, taken)) in titles.iter().zip(&taken).enumerate() {
        let taken = taken.as_ref().unwrap_or_else(|| panic!("agent-{n} gets its task ({title})"));
        assert_eq!(taken.task.title, *title, "agent-{n}");
        assert!(taken.task.agent.as_ref().is_none_or(|agent| *agent == format!("agent-{n}")));
    }
    assert_eq!(ledger.held().await?.len(), CALLERS / 4);
    Ok(())
}

async fn takers_at_once_keep_to_their_kind_of_work_and_their_run(ledger: TestLedger) -> Result<()> {
    let words = || NewTask { work: Some(Work::Prompt("words".into())), ..NewTask::new("words") };
    let tasks = |count: usize| (0..count).map(|n| if n % 2 == 0 { command("command") } else { words() });
    let (run, _) = ledger.start(tasks(CALLERS / 2).collect()).await?;
    for task in tasks(CALLERS / 2) {
        ledger.add(task).await?;
    }
    let wishes =
        [(Kinds::Run, None), (Kinds::Prompt, None), (Kinds::Run, Some(run)), (Kinds::Prompt, Some(run))];
    let takers: Vec<Take> = takers(CALLERS)
        .into_iter()
        .zip(wishes.into_iter().cycle())
        .map(|(take, (kinds, run))| Take { kinds, run, ..take })
        .collect();
    let taken = take_at_once(&ledger, takers.clone()).await?;
    for (take, taken) in takers.iter().zip(&taken) {
        let Some(taken) = taken else { continue };
        assert_eq!(taken.task.run.is_some(), take.kinds == Kinds::Run);
        assert!(take.run.is_none() || taken.task.run_id == take.run, "a task of another run");
    }
    assert!(taken.iter().flatten().count() >= CALLERS / 2);
    Ok(())
}

async fn who_is_paused_takes_nothing_beside_others(ledger: TestLedger) -> Result<()> {
    for n in 0..CALLERS {
        ledger.add(command(&format!("task {n}"))).await?;
        ledger.join(&format!("agent-{n}")).await?;
    }
    for n in (0..CALLERS).step_by(2) {
        ledger.store.write(Tell { name: format!("agent-{n}"), word: Word::Pause }).await?;
    }
    let taken = take_at_once(&ledger, takers(CALLERS)).await?;
    for (n, taken) in taken.iter().enumerate() {
        assert_eq!(taken.is_some(), n % 2 == 1, "agent-{n}");
    }
    Ok(())
}

async fn who_failed_a_task_leaves_it_to_others_at_once(ledger: TestLedger) -> Result<()> {
    for n in 0..CALLERS {
        ledger.add(command(&format!("task {n}"))).await?;
    }
    let taken = take_at_once(&ledger, takers(CALLERS)).await?;
    let failures = taken.iter().flatten().map(|taken| quorate_testkit::verbs::failure(taken, "no")).collect();
    let failed: Result<Vec<TaskState>> = at_once(&ledger, failures).await.into_iter().collect();
    assert_eq!(failed?.len(), CALLERS);
    ledger.advance(2_500).await;
    ledger.check().await?;
    let again = take_at_once(&ledger, takers(CALLERS)).await?;
    for (n, taken) in again.iter().enumerate() {
        let Some(taken) = taken else { continue };
        assert_ne!(taken.previous[0].agent, format!("agent-{n}"), "it failed here before");
    }
    assert!(again.iter().flatten().count() >= CALLERS / 2);
    Ok(())
}

/// PostgreSQL writes the plain take and the plain end with one statement each: the log must not show it.
async fn the_log_says_the_same_of_the_plain_way_and_of_any_other(ledger: TestLedger) -> Result<()> {
    let keyed = |key: &str| NewTask { key: Some(key.into()), ..command("x") };
    ledger.start(vec![keyed("plain"), NewTask { needs_new: vec![0], ..keyed("other") }]).await?;
    let mut said = Vec::new();
    for _ in 0..2 {
        let taken = ledger.must_take("alpha").await?;
        assert_eq!((taken.task.state, taken.task.term, taken.task.attempt), (TaskState::Running, Term(1), 1));
        ledger.store.write(done(&taken)).await?;
        let story = ledger.story(taken.task.id).await?;
        let attempt = &story.attempts[0];
        said.push(format!(
            "{} {:?} {:?} {:?} {:?} {:?}",
            story.task.state,
            story.task.result,
            attempt.outcome,
            attempt.evidence,
            attempt.tail,
            attempt.agent
        ));
    }
    assert_eq!(said[0], said[1]);
    let lines: Vec<String> = ledger
        .events()
        .await
        .into_iter()
        .filter(|event| event.kind == "task.taken" || event.kind == "task.completed")
        .map(|event| {
            format!("{:?} {:?} {} {}", event.run, event.agent, event.message, event.data.unwrap_or_default())
        })
        .collect();
    let of = |id: u8, key: &str| {
        let who = "Some(RunId(1)) Some(\"alpha\") task";
        [
            format!(
                "{who} {id} ({key}) taken by alpha, attempt 1 {{\"attempt\":1,\"lease_ms\":60000,\"term\":1}}"
            ),
            format!("{who} {id} ({key}) completed {{\"attempt\":1,\"evidence\":\"said\",\"term\":1}}"),
        ]
    };
    assert_eq!(lines, [of(1, "plain"), of(2, "other")].concat());
    Ok(())
}

async fn done_at_once_counts_once_each(ledger: TestLedger) -> Result<()> {
    for n in 0..CALLERS {
        ledger.add(command(&format!("task {n}"))).await?;
    }
    let taken = take_at_once(&ledger, takers(CALLERS)).await?;
    let taken: Vec<&Taken> = taken.iter().flatten().collect();
    let mut words: Vec<Done> = Vec::new();
    for taken in &taken {
        words.push(Done { term: Term(taken.task.term.0 + 1), ..done(taken) });
        words.push(done(taken));
        words.push(done(taken));
        words.push(Done { result: Some("no json".into()), ..done(taken) });
    }
    let answers = at_once(&ledger, words).await;
    for four in answers.chunks(4) {
        let [stale, first, second, invalid] = four else { panic!("four words for each task") };
        assert_eq!(stale.as_ref().expect_err("a term from the future").kind, Kind::Stale);
        assert_eq!(*first.as_ref().expect("done"), DoneAnswer::Completed { run: None });
        assert_eq!(*second.as_ref().expect("said twice"), DoneAnswer::Completed { run: None });
        assert_eq!(invalid.as_ref().expect_err("no JSON").kind, Kind::Invalid);
    }
    assert_eq!(ledger.count("task.completed").await, CALLERS);
    assert_eq!(ledger.count("write.refused").await, CALLERS);
    for taken in taken {
        let story = ledger.story(taken.task.id).await?;
        assert_eq!((story.task.state, story.task.result.as_deref()), (TaskState::Completed, Some("1")));
        let attempt = &story.attempts[0];
        assert_eq!(attempt.outcome.as_deref(), Some("completed"));
        assert_eq!(
            (attempt.evidence.as_deref(), attempt.tail.as_deref()),
            (Some("said"), Some("last words"))
        );
    }
    Ok(())
}

async fn silent_tasks_that_are_done_at_once_are_no_longer_called_stuck(ledger: TestLedger) -> Result<()> {
    for n in 0..CALLERS {
        ledger.add(command(&format!("task {n}"))).await?;
    }
    let taken = take_at_once(&ledger, takers(CALLERS)).await?;
    ledger.advance(LEASE_MS - 1).await;
    let check = Check { stuck_after_ms: LEASE_MS / 2, judge: true };
    assert_eq!(ledger.store.write(check).await?.stuck, CALLERS);
    for answer in at_once(&ledger, taken.iter().flatten().map(done).collect()).await {
        answer?;
    }
    let tasks = ledger.store.read(Tasks::default()).await?;
    let calm = tasks.iter().filter(|task| task.state == TaskState::Completed && !task.stuck);
    assert_eq!(calm.count(), CALLERS);
    Ok(())
}

async fn done_at_once_frees_dependents_claims_and_waits_for_checks(ledger: TestLedger) -> Result<()> {
    let mut tasks = Vec::new();
    for n in 0..CALLERS / 2 {
        tasks.push(match n % 3 {
            0 => NewTask { verify: Some("true".into()), ..command("checked") },
            1 => claiming("claims", &[&format!("port:{n}")]),
            _ => command("plain"),
        });
        let last = tasks.len() - 1;
        tasks.push(NewTask { needs_new: vec![last], capability: Some("later".into()), ..command("after") });
    }
    let (run, _) = ledger.start(tasks).await?;
    let able = |take: Take| Take { capabilities: Some(vec![]), ..take };
    let taken = take_at_once(&ledger, takers(CALLERS).into_iter().map(able).collect()).await?;
    let taken: Vec<&Taken> = taken.iter().flatten().collect();
    assert_eq!(taken.len(), CALLERS / 2);
    let answers = at_once(&ledger, taken.iter().map(|taken| done(taken)).collect()).await;
    for (taken, answer) in taken.iter().zip(answers) {
        let is_checked = taken.task.verify.is_some();
        let expected =
            if is_checked { DoneAnswer::Verifying } else { DoneAnswer::Completed { run: Some(run) } };
        assert_eq!(answer?, expected, "{}", taken.task.title);
    }
    assert_eq!(ledger.held().await?, Vec::<String>::new());
    assert_eq!(ledger.count("task.ready").await, CALLERS / 3);
    Ok(())
}

/// A task may change between the moment at which it was found and the moment at which it is locked.
async fn takers_own_what_they_got_while_tasks_are_parked_and_go_on(ledger: TestLedger) -> Result<()> {
    let tasks: Vec<NewTask> = (0..8 * CALLERS).map(|n| command(&format!("task {n}"))).collect();
    let (_, ids) = ledger.start(tasks).await?;
    let mut parkers = JoinSet::new();
    for id in ids.into_iter().step_by(3) {
        let store = ledger.store.clone();
        parkers.spawn(async move {
            // A task that was taken is neither parked nor ready: whoever comes too late is refused.
            for _ in 0..4 {
                let _ = store.write(Park { id, term: None, reason: "words".into(), until: None }).await;
                let _ = store.write(Unpark { id }).await;
            }
        });
    }
    let mut owned = 0;
    while parkers.try_join_next().is_some() || !parkers.is_empty() {
        for (n, taken) in take_at_once(&ledger, takers(10)).await?.iter().enumerate() {
            let Some(taken) = taken else { continue };
            let story = ledger.story(taken.task.id).await?;
            let told = (story.task.owner, story.task.state, story.task.term);
            // Parked again since: then the attempt tells who had it.
            let its = story.attempts.iter().find(|attempt| attempt.term == taken.task.term);
            let agent = its.map(|attempt| attempt.agent.clone());
            assert_eq!(agent, Some(format!("agent-{n}")), "task {} {told:?}", taken.task.id);
            owned += 1;
        }
    }
    assert!(owned > 0, "something was taken");
    Ok(())
}

/// A task may be added that needs one at the moment at which that is done: it must not be overlooked.
async fn who_needs_a_task_that_is_being_done_is_ready_in_the_end(ledger: TestLedger) -> Result<()> {
    for round in 0..30 {
        for n in 0..4 {
            ledger.add(NewTask { priority: 0, ..command(&format!("first {round}.{n}")) }).await?;
        }
        let taken = take_at_once(&ledger, takers(4)).await?;
        let taken: Vec<&Taken> = taken.iter().flatten().collect();
        assert_eq!(taken.len(), 4);
        let later = taken.iter().map(|taken| {
            let task = NewTask { needs: vec![taken.task.id], priority: 2, ..command("later") };
            Add { run: None, tasks: vec![task], by: None }
        });
        let done = taken.iter().map(|taken| done(taken)).collect();
        let (done, added) = tokio::join!(at_once(&ledger, done), at_once(&ledger, later.collect()));
        for answer in done {
            assert_eq!(answer?, DoneAnswer::Completed { run: None });
        }
        for ids in added {
            let id = ids?[0];
            assert_eq!(ledger.state(id).await?, TaskState::Ready, "task {id} of round {round}");
        }
    }
    Ok(())
}

/// What is told of a task and its being added, but for its number and the time.
async fn told_of(ledger: &TestLedger, id: TaskId) -> Result<String> {
    let mut task = ledger.story(id).await?.task;
    let number = id.to_string();
    let events: Vec<_> = ledger.events().await.into_iter().filter(|event| event.task == Some(id)).collect();
    let events = events.iter().map(|event| {
        (
            &event.kind,
            &event.agent,
            event.run,
            &event.resource,
            event.message.replacen(&number, "N", 1),
            &event.data,
        )
    });
    let events = format!("{:?}", events.collect::<Vec<_>>());
    let since = task.created_at;
    task.due_at = task.due_at.map(|at| at - since);
    (task.id, task.created_at) = (TaskId(0), 0);
    Ok(format!("{task:?}\n{events}"))
}

async fn a_task_added_alone_is_as_one_that_is_added_with_others(ledger: TestLedger) -> Result<()> {
    let plain = NewTask::new("Say it's \"plain\"");
    let full = NewTask {
        key: Some("full".into()),
        work: Some(Work::Run("true".into())),
        priority: 0,
        capability: Some("review".into()),
        verify: Some("test -e x".into()),
        claims: texts(&["src/**", "port:1"]),
        outputs: texts(&["x"]),
        timeout_ms: Some(5_000),
        max_attempts: 7,
        ..NewTask::new("Do everything")
    };
    let told =
        NewTask { work: Some(Work::Prompt("Think.".into())), due_in_ms: Some(60_000), ..plain.clone() };
    let late = NewTask { due_in_ms: Some(0), priority: 2, ..plain.clone() };
    for (task, by) in [(plain.clone(), None), (full, Some("ada")), (told, None), (late, Some("ada"))] {
        let by = by.map(str::to_owned);
        let alone = Add { run: None, tasks: vec![task.clone()], by: by.clone() };
        let alone = ledger.store.write(alone).await?;
        let both = ledger.store.write(Add { run: None, tasks: vec![task, plain.clone()], by }).await?;
        assert_eq!((alone.len(), both.len()), (1, 2));
        assert_eq!(told_of(&ledger, alone[0]).await?, told_of(&ledger, both[0]).await?);
    }
    Ok(())
}

/// Writes beside others; answers with an error that says more than that another was first.
fn beside<W: Write>(callers: &mut JoinSet<Option<Error>>, ledger: &TestLedger, work: W) {
    let store = ledger.store.clone();
    let is_lost_race = |error: &Error| matches!(error.kind, Kind::Conflict | Kind::Stale);
    callers.spawn(async move { store.write(work).await.err().filter(|error| !is_lost_race(error)) });
}

/// A run does the work of a task of another; both are ended, called off and gone on with at the same moment.
async fn runs_that_end_and_go_on_at_once_leave_no_live_task_in_an_ended_run(
    ledger: TestLedger,
) -> Result<()> {
    for round in 0..12 {
        let one = || NewTask { max_attempts: 1, ..command("work") };
        let (outer, ids) = ledger.start(vec![one(), NewTask { needs_new: vec![0], ..one() }]).await?;
        let big = ledger.story(ids[0]).await?.task;
        let inner = ledger.store.write(Decompose::new(&big, vec![one()], false)).await?;
        let part = ledger.store.read(RunShow { id: inner }).await?.tasks[0].id;
        if round % 2 == 0 {
            let taken = ledger.must_take("ada").await?;
            ledger.fail(&taken, "boom").await?;
        }
        let (mut callers, why) = (JoinSet::new(), || "test".to_owned());
        beside(&mut callers, &ledger, run::Settle { id: inner });
        beside(&mut callers, &ledger, run::Cancel { id: outer, reason: why() });
        beside(&mut callers, &ledger, run::Resume { id: inner });
        beside(&mut callers, &ledger, task::Cancel { id: big.id, reason: why() });
        beside(&mut callers, &ledger, task::Retry { id: part });
        beside(&mut callers, &ledger, run::Settle { id: outer });
        beside(&mut callers, &ledger, run::Cancel { id: inner, reason: why() });
        beside(&mut callers, &ledger, task::Retry { id: big.id });
        beside(&mut callers, &ledger, run::Resume { id: outer });
        beside(&mut callers, &ledger, run::Resume { id: inner });
        let wrong: Vec<Error> = callers.join_all().await.into_iter().flatten().collect();
        assert!(wrong.is_empty(), "{wrong:?}");
        for id in [outer, inner] {
            let story = ledger.store.read(RunShow { id }).await?;
            let is_live = |task: &&Task| !task.state.is_over();
            let live: Vec<TaskId> = story.tasks.iter().filter(is_live).map(|task| task.id).collect();
            assert!(!story.run.is_over() || live.is_empty(), "run {id} is {}: {live:?}", story.run.state);
        }
        let waits = ledger.state(big.id).await? == TaskState::Parked;
        let goes_on = !ledger.store.read(RunShow { id: inner }).await?.run.is_over();
        assert_eq!(waits, goes_on, "round {round}: it waits as long as its run goes on");
        for id in [outer, inner] {
            // What is left is out of the way of the next round.
            let _ = ledger.store.write(run::Cancel { id, reason: why() }).await;
        }
    }
    Ok(())
}

on_every_backend!(
    runs_that_end_and_go_on_at_once_leave_no_live_task_in_an_ended_run,
    who_needs_a_task_that_is_being_done_is_ready_in_the_end,
    takers_own_what_they_got_while_tasks_are_parked_and_go_on,
    takers_at_once_get_a_task_each_and_no_task_has_two_owners,
    takers_at_once_take_what_comes_first,
    takers_at_once_get_only_what_they_may_have,
    takers_at_once_keep_to_their_kind_of_work_and_their_run,
    who_is_paused_takes_nothing_beside_others,
    who_failed_a_task_leaves_it_to_others_at_once,
    the_log_says_the_same_of_the_plain_way_and_of_any_other,
    a_task_added_alone_is_as_one_that_is_added_with_others,
    done_at_once_counts_once_each,
    silent_tasks_that_are_done_at_once_are_no_longer_called_stuck,
    done_at_once_frees_dependents_claims_and_waits_for_checks,
);

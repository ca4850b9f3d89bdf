//! Merging what says the same in other words, on both databases: by the likeness of vectors where nothing speaks
//! against it, and by what an agent answers; counts and sources stay, and nothing that was changed meanwhile is
//! touched.

use quorate_model::memory::consolidation::{Consolidation, SHOWN_MAX};
use quorate_model::memory::{MemoryKind, Query};
use quorate_model::{MemoryId, Result, TaskState};
use quorate_service::memory::{
    Adopt, Alike, Asked, ByIds, CatchUp, Consolidate, Embedded, Forget, KeepVectors, Memory, Merge, Recall,
    Related, Remember, Set, Twins, Unembedded,
};
use quorate_service::task::{Cancel, Done, NewTask, SettleCheck, TakeCheck};
use quorate_testkit::embeddings::vector;
use quorate_testkit::ledger::TestLedger;
use quorate_testkit::verbs::LEASE_MS;
use quorate_testkit::{on_every_backend, on_every_backend_with_vectors};

const MODEL: &str = "small";
const DAY_MS: i64 = 24 * 60 * 60 * 1000;

async fn tell(ledger: &TestLedger, kind: MemoryKind, text: &str) -> Result<MemoryId> {
    let (agent, tag) = ("alpha".to_owned(), text.split(' ').next().unwrap_or_default().to_owned());
    let tell = Remember { agent, kind, text: text.into(), tags: vec![tag], task: None, ttl_ms: None };
    Ok(ledger.store.write(tell).await?.id)
}

async fn embed(ledger: &TestLedger) -> Result<()> {
    let new = ledger.store.read(Unembedded { model: MODEL.into(), limit: 100 }).await?.texts;
    let one = |(id, text): (MemoryId, String)| Embedded { id, vector: Some(vector(&text)), text };
    let vectors = new.into_iter().map(one).collect();
    ledger.store.write(KeepVectors { model: MODEL.into(), vectors }).await
}

async fn alike(ledger: &TestLedger) -> Result<Twins> {
    ledger.store.read(Alike { model: MODEL.into() }).await
}

/// Merges what is alike until nothing is left to look at; answers with how many are gone.
async fn merge_alike(ledger: &TestLedger) -> Result<usize> {
    let mut gone = 0;
    loop {
        let Twins { seen, sets, .. } = alike(ledger).await?;
        if seen.is_empty() {
            return Ok(gone);
        }
        gone += ledger.store.write(Merge { sets, seen, by: None, archive: "archive/x".into() }).await?;
    }
}

async fn all(ledger: &TestLedger) -> Result<Vec<Memory>> {
    Ok(ledger.store.read(ByIds { ids: (1..100).map(MemoryId).collect() }).await?.1)
}

async fn texts(ledger: &TestLedger) -> Result<Vec<String>> {
    Ok(all(ledger).await?.into_iter().map(|memory| memory.text).collect())
}

async fn what_means_the_same_is_merged_with_counts_and_sources(ledger: TestLedger) -> Result<()> {
    let first = tell(&ledger, MemoryKind::Episode, "the database login is broken").await?;
    ledger.advance(1_000).await;
    tell(&ledger, MemoryKind::Episode, "the database login is broken").await?;
    ledger.advance(1_000).await;
    tell(&ledger, MemoryKind::Episode, "postgres authentication is defective").await?;
    tell(&ledger, MemoryKind::Episode, "the car is slow").await?;
    embed(&ledger).await?;
    assert_eq!(merge_alike(&ledger).await?, 1);
    let found = all(&ledger).await?;
    assert_eq!(found.len(), 2);
    let known = &found[0];
    assert_eq!(
        (known.id, known.count, known.kind),
        (first, 3, MemoryKind::Pattern),
        "three times is a pattern"
    );
    assert_eq!(known.sources, ["agent:alpha"]);
    assert_eq!(known.tags, ["the", "postgres"]);
    assert_eq!(known.seen_at - known.created_at, 2_000);
    assert_eq!(ledger.count("memory.merged").await, 2, "told again, and merged");
    let events = ledger.events().await;
    let event = events.iter().rfind(|event| event.kind == "memory.merged").expect("it is logged");
    assert!(
        event.message.contains("archive/x") && event.message.contains("said 3 times"),
        "{}",
        event.message
    );
    assert_eq!(merge_alike(&ledger).await?, 0);
    Ok(())
}

async fn what_differs_in_numbers_names_and_turns_is_not_merged(ledger: TestLedger) -> Result<()> {
    for text in [
        "the car is slow",
        "the automobile is not sluggish",
        "the vehicle lags by 3 seconds",
        "the vehicle lags by 4 seconds",
        "car.example is slow",
        "automobile.example is sluggish",
    ] {
        tell(&ledger, MemoryKind::Finding, text).await?;
    }
    tell(&ledger, MemoryKind::Decision, "the automobile is slow").await?;
    embed(&ledger).await?;
    assert_eq!(merge_alike(&ledger).await?, 0, "{:?}", texts(&ledger).await?);
    tell(&ledger, MemoryKind::Finding, "the vehicle is sluggish").await?;
    embed(&ledger).await?;
    assert_eq!(merge_alike(&ledger).await?, 1);
    Ok(())
}

async fn results_of_tasks_stand_for_themselves(ledger: TestLedger) -> Result<()> {
    for result in ["\"the car is slow\"", "\"the vehicle is sluggish\""] {
        ledger.add(NewTask::new("look")).await?;
        let taken = ledger.must_take("alpha").await?;
        let (id, term) = (taken.task.id, taken.task.term);
        ledger.store.write(Done { id, term, result: Some(result.into()), tail: None }).await?;
    }
    learn(&ledger).await?;
    embed(&ledger).await?;
    assert_eq!(merge_alike(&ledger).await?, 0);
    assert_eq!(all(&ledger).await?.len(), 2);
    Ok(())
}

async fn what_was_changed_since_it_was_read_stays(ledger: TestLedger) -> Result<()> {
    let kind = MemoryKind::Finding;
    tell(&ledger, kind, "the car is slow").await?;
    let second = tell(&ledger, kind, "the vehicle is sluggish").await?;
    embed(&ledger).await?;
    let merge = |twins: Twins| Merge { sets: twins.sets, seen: vec![], by: None, archive: "x".into() };
    let read = alike(&ledger).await?;
    assert_eq!(read.sets.len(), 1);
    tell(&ledger, kind, "the vehicle is sluggish").await?;
    assert_eq!(ledger.store.write(merge(read)).await?, 0, "it was said again");
    let read = alike(&ledger).await?;
    assert_eq!(read.sets[0].memories[0].id, second, "who was said oftener stays");
    ledger.store.write(Forget { id: second, by: None }).await?;
    assert_eq!(ledger.store.write(merge(read)).await?, 0, "it was forgotten");
    assert_eq!(texts(&ledger).await?, ["the car is slow"]);
    Ok(())
}

on_every_backend_with_vectors!(
    what_means_the_same_is_merged_with_counts_and_sources,
    what_differs_in_numbers_names_and_turns_is_not_merged,
    results_of_tasks_stand_for_themselves,
    what_was_changed_since_it_was_read_stays,
    what_an_agent_is_asked_about_is_found_by_meaning_too,
);

async fn learn(ledger: &TestLedger) -> Result<()> {
    ledger.events().await;
    while ledger.store.write(CatchUp).await?.more {}
    Ok(())
}

async fn related(ledger: &TestLedger, every_ms: i64) -> Result<Vec<Vec<Memory>>> {
    ledger.store.read(Related { model: Some(MODEL.into()), every_ms }).await
}

fn ids(groups: &[Vec<Memory>]) -> Vec<Vec<i64>> {
    let group = |group: &Vec<Memory>| {
        let mut ids: Vec<i64> = group.iter().map(|memory| memory.id.0).collect();
        ids.sort_unstable();
        ids
    };
    groups.iter().map(group).collect()
}

async fn what_an_agent_is_asked_about_is_found_by_meaning_too(ledger: TestLedger) -> Result<()> {
    tell(&ledger, MemoryKind::Finding, "the car lags").await?;
    tell(&ledger, MemoryKind::Finding, "every automobile sluggish today").await?;
    tell(&ledger, MemoryKind::Finding, "pastry at noon").await?;
    assert_eq!(related(&ledger, 0).await?.len(), 0);
    embed(&ledger).await?;
    assert_eq!(ids(&related(&ledger, 0).await?), [[1, 2]]);
    Ok(())
}

/// Asks `alpha` about what is new.
async fn ask(ledger: &TestLedger) -> Result<Asked> {
    let groups = related(ledger, 0).await?;
    ledger.store.write(Consolidate { agent: "alpha".into(), groups, by: None }).await
}

/// Three failures of one kind, two of another, and something else.
async fn troubles(ledger: &TestLedger) -> Result<()> {
    ledger.join("alpha").await?;
    for text in [
        "build failed since the disk of the runner is full",
        "the disk of the runner is full and the upload stopped",
        "deploy stopped because the runner has a full disk",
        "tests timed out while waiting for redis",
        "waiting for redis made the tests time out again",
    ] {
        tell(ledger, MemoryKind::Episode, text).await?;
    }
    tell(ledger, MemoryKind::Finding, "the redis of the runner has version 7").await?;
    Ok(())
}

async fn only_what_is_new_and_related_is_asked_about_and_once(ledger: TestLedger) -> Result<()> {
    assert_eq!(related(&ledger, 0).await?.len(), 0);
    troubles(&ledger).await?;
    let groups = related(&ledger, 0).await?;
    let mut found = ids(&groups);
    found.sort();
    assert_eq!(found, [vec![1, 2, 3], vec![4, 5]]);
    let Asked::Now(task) = ask(&ledger).await? else { panic!("nobody was asked before") };
    assert_eq!(ask(&ledger).await?, Asked::Before(task));
    let taken = ledger.must_take("alpha").await?;
    assert_eq!((taken.task.id, taken.task.priority), (task, 2));
    let prompt = taken.task.prompt.expect("words");
    assert!(prompt.contains("[3] episode, said 1 times: deploy stopped"), "{prompt}");
    let check = taken.task.verify.as_deref().and_then(Consolidation::of).expect("its check knows the groups");
    assert_eq!(check.groups.len(), 2);
    assert_eq!(related(&ledger, 0).await?.len(), 0, "nothing is new since");
    ledger.advance(10).await;
    tell(&ledger, MemoryKind::Episode, "no space: the disk of the runner is full").await?;
    assert_eq!(ids(&related(&ledger, 0).await?), [[1, 2, 3, 7]], "what is new, with what is known");
    assert_eq!(related(&ledger, DAY_MS).await?.len(), 0, "not so soon by itself");
    ledger.store.write(Cancel { id: task, reason: "enough".into() }).await?;
    ledger.advance(DAY_MS).await;
    assert_eq!(related(&ledger, DAY_MS).await?.len(), 1);
    assert!(matches!(ask(&ledger).await?, Asked::Now(_)));
    Ok(())
}

async fn what_is_told_while_an_agent_is_about_to_be_asked_is_asked_about_next(
    ledger: TestLedger,
) -> Result<()> {
    troubles(&ledger).await?;
    let groups = related(&ledger, 0).await?;
    ledger.advance(10).await;
    tell(&ledger, MemoryKind::Episode, "no space: the disk of the runner is full").await?;
    let asked = ledger.store.write(Consolidate { agent: "alpha".into(), groups, by: None }).await?;
    let Asked::Now(task) = asked else { panic!("nobody was asked before") };
    ledger.store.write(Cancel { id: task, reason: "enough".into() }).await?;
    assert_eq!(ids(&related(&ledger, 0).await?), [[1, 2, 3, 7]]);
    assert_eq!(related(&ledger, DAY_MS).await?.len(), 0, "not so soon by itself");
    Ok(())
}

async fn what_an_agent_would_not_see_whole_it_is_not_asked_about(ledger: TestLedger) -> Result<()> {
    let long = format!("the disk of the runner is full: {}", "x".repeat(SHOWN_MAX));
    tell(&ledger, MemoryKind::Episode, "build failed since the disk of the runner is full").await?;
    tell(&ledger, MemoryKind::Episode, &long).await?;
    assert_eq!(related(&ledger, 0).await?.len(), 0);
    tell(&ledger, MemoryKind::Episode, "deploy stopped because the runner has a full disk").await?;
    assert_eq!(ids(&related(&ledger, 0).await?), [[1, 3]]);
    Ok(())
}

/// Has `alpha` answer, and takes the check; answers with the task and its term.
async fn answer(ledger: &TestLedger, answer: &str) -> Result<SettleCheck> {
    let taken = ledger.must_take("alpha").await?;
    let (id, term) = (taken.task.id, taken.task.term);
    ledger.store.write(Done { id, term, result: Some(answer.into()), tail: None }).await?;
    let take = TakeCheck { task: Some(id), run: None, node: "1".into(), lease_ms: LEASE_MS };
    let checking = ledger.store.write(take).await?.expect("a check is due");
    Ok(SettleCheck { id, term: checking.term, failure: None, is_final: false, tail: None, retry_after_ms: 1 })
}

async fn set(ledger: &TestLedger, ids: &[i64], says: (MemoryKind, &str)) -> Result<Set> {
    let ids = ids.iter().copied().map(MemoryId).collect();
    let memories = ledger.store.read(ByIds { ids }).await?.1;
    Ok(Set { memories, says: Some((says.0, says.1.to_owned())) })
}

async fn what_an_agent_puts_together_is_one_with_counts_and_sources(ledger: TestLedger) -> Result<()> {
    troubles(&ledger).await?;
    let Asked::Now(task) = ask(&ledger).await? else { panic!("nobody was asked before") };
    let settle = answer(&ledger, "{\"merge\":[]}").await?;
    let says = (MemoryKind::Pattern, "The runner's disk fills up; clear its cache before each build.");
    let sets = vec![set(&ledger, &[1, 2, 3], says).await?];
    let merge = Merge { sets, seen: vec![], by: Some("alpha".into()), archive: "archive/x".into() };
    assert_eq!(ledger.store.write(Adopt { settle, merge }).await?, TaskState::Completed);
    let found = all(&ledger).await?;
    let known = &found[0];
    assert_eq!((known.id, known.kind, known.count), (MemoryId(1), MemoryKind::Pattern, 3));
    assert_eq!((known.text.as_str(), known.tags.len()), (says.1, 3));
    assert_eq!(found.iter().map(|memory| memory.id.0).collect::<Vec<_>>(), [1, 4, 5, 6]);
    let hits = ledger.store.read(Recall::of(Query::parse("clear cache"))).await?;
    assert_eq!(hits.len(), 1, "it is found by its new words");
    assert_eq!(ledger.store.read(Recall::of(Query::parse("upload"))).await?.len(), 0);
    learn(&ledger).await?;
    let finding = format!("task:{task}");
    assert!(
        all(&ledger).await?.iter().all(|memory| memory.source() != finding),
        "the answer itself is no finding"
    );
    Ok(())
}

async fn an_answer_that_fails_its_check_merges_nothing(ledger: TestLedger) -> Result<()> {
    troubles(&ledger).await?;
    ask(&ledger).await?;
    let settle = answer(&ledger, "\"I cannot\"").await?;
    let refused = SettleCheck { failure: Some("the answer holds no JSON object".into()), ..settle };
    let sets = vec![set(&ledger, &[1, 2], (MemoryKind::Pattern, "x")).await?];
    let merge = Merge { sets, seen: vec![], by: None, archive: "x".into() };
    let before = texts(&ledger).await?;
    let state = ledger.store.write(Adopt { settle: refused.clone(), merge: merge.clone() }).await?;
    assert_ne!(state, TaskState::Completed);
    assert_eq!(texts(&ledger).await?, before);
    let late = ledger.store.write(Adopt { settle: SettleCheck { failure: None, ..refused }, merge }).await;
    assert!(late.is_err(), "the term is over");
    assert_eq!(texts(&ledger).await?, before);
    Ok(())
}

on_every_backend!(
    only_what_is_new_and_related_is_asked_about_and_once,
    what_is_told_while_an_agent_is_about_to_be_asked_is_asked_about_next,
    what_an_agent_would_not_see_whole_it_is_not_asked_about,
    what_an_agent_puts_together_is_one_with_counts_and_sources,
    an_answer_that_fails_its_check_merges_nothing,
);

//! What the team's memory does, on both databases: what is told and what happens is found, by its words and with its source;
//! what says the same is counted; what is old goes once it was archived.

use quorate_model::memory::{MemoryKind, PATTERN_LEAST, Query};
use quorate_model::{Kind, MemoryId, Result, RunId, TaskId};
use quorate_service::log::Line;
use quorate_service::memory::{
    self, CatchUp, Forget, HITS_MAX, Hit, Kept, Limits, Old, Prune, Recall, Remember, SCAN_MAX, SOURCES_MAX,
    TAG_MAX, TAGS_MAX, TEXT_MAX,
};
use quorate_service::message::{MessageKind, Send};
use quorate_service::task::{Done, NewTask, Retry, SettleCheck, TakeCheck};
use quorate_testkit::ledger::TestLedger;
use quorate_testkit::on_every_backend;
use quorate_testkit::verbs::{LEASE_MS, command, failure, texts};

fn told(text: &str) -> Remember {
    Remember {
        agent: "alpha".into(),
        kind: MemoryKind::Finding,
        text: text.into(),
        tags: Vec::new(),
        task: None,
        ttl_ms: None,
    }
}

async fn tell(ledger: &TestLedger, text: &str) -> Result<Kept> {
    ledger.store.write(told(text)).await
}

fn about(words: &str) -> Recall {
    Recall::of(Query::parse(words))
}

async fn ask(ledger: &TestLedger, words: &str) -> Result<Vec<Hit>> {
    ledger.store.read(about(words)).await
}

async fn found(ledger: &TestLedger, words: &str) -> Result<Vec<String>> {
    Ok(ask(ledger, words).await?.into_iter().map(|hit| hit.memory.text).collect())
}

async fn sources(ledger: &TestLedger, words: &str) -> Result<Vec<String>> {
    Ok(ask(ledger, words).await?.into_iter().map(|hit| hit.memory.source()).collect())
}

/// Reads all of the log that is there, so far as everybody can see it.
async fn learn(ledger: &TestLedger) -> Result<(usize, usize)> {
    ledger.events().await;
    let mut sum = (0, 0);
    loop {
        let step = ledger.store.write(CatchUp).await?;
        sum = (sum.0 + step.kept, sum.1 + step.merged);
        if !step.more {
            return Ok(sum);
        }
    }
}

/// Takes the next task and completes it with a result.
async fn complete(ledger: &TestLedger, result: &str) -> Result<TaskId> {
    let taken = ledger.must_take("alpha").await?;
    let (id, term) = (taken.task.id, taken.task.term);
    ledger.store.write(Done { id, term, result: Some(result.into()), tail: None }).await?;
    Ok(id)
}

async fn what_is_told_is_found_by_its_words(ledger: TestLedger) -> Result<()> {
    tell(&ledger, "The parser in src/a_b.rs drops empty lines").await?;
    tell(&ledger, "Größe und Straße: umlauts are kept").await?;
    tell(&ledger, "設定ファイルは読み込まれない").await?;
    let parser = ["The parser in src/a_b.rs drops empty lines"];
    for words in [
        "parser",
        "PARSER!",
        "src/a_b.rs",
        "a_b.rs",
        "a_b",
        "\"empty lines\"",
        "pars",
        "lines that are empty",
    ] {
        assert_eq!(found(&ledger, words).await?, parser, "{words}");
    }
    assert_eq!(found(&ledger, "größe").await?.len(), 1);
    assert_eq!(found(&ledger, "ファイル").await?.len(), 1);
    for words in ["src/b_a.rs", "\"lines empty\"", "unheard", "", "?!", "the"] {
        let nothing = found(&ledger, words).await?;
        assert!(nothing.is_empty() || words == "the", "{words}: {nothing:?}");
    }
    Ok(())
}

async fn no_text_of_a_question_is_a_mistake(ledger: TestLedger) -> Result<()> {
    tell(&ledger, "a needle").await?;
    for words in [
        "needle AND",
        "needle OR (",
        "NOT needle",
        "needle*",
        "^needle",
        "\"needle",
        "needle:",
        "-needle",
        "needle'; --",
        "needle & | ! <->",
        "needle NEAR(",
        "{needle}",
        "\\needle\\",
        "needle\u{0}",
        "1e5 needle",
        "needle :*",
        "½ needle ﬁ",
    ] {
        assert_eq!(found(&ledger, words).await?, ["a needle"], "{words}");
    }
    let long = "needle ".repeat(10_000);
    assert_eq!(found(&ledger, &long).await?.len(), 1);
    let _ = ask(&ledger, &"x".repeat(100_000)).await?;
    Ok(())
}

async fn what_fits_best_comes_first_and_rare_words_weigh_more(ledger: TestLedger) -> Result<()> {
    for n in 0..20 {
        tell(&ledger, &format!("the build number {n} was slow")).await?;
    }
    tell(&ledger, "the build needs a proxy").await?;
    assert_eq!(found(&ledger, "build proxy").await?[0], "the build needs a proxy");
    let hits = ledger.store.read(Recall { limit: 3, ..about("build") }).await?;
    assert_eq!(hits.len(), 3);
    assert!(hits.windows(2).all(|pair| pair[0].score >= pair[1].score));
    let most = ledger.store.read(Recall { limit: HITS_MAX + 1, ..about("build") }).await?;
    assert_eq!(most.len(), 21);
    Ok(())
}

async fn a_question_may_be_narrowed(ledger: TestLedger) -> Result<()> {
    let (run, ids) = ledger.start(vec![command("one")]).await?;
    ledger.store.write(Remember { task: Some(ids[0]), ..told("storage is in one file") }).await?;
    let decision =
        Remember { kind: MemoryKind::Decision, agent: "beta".into(), ..told("storage is rewritten") };
    ledger.store.write(decision).await?;
    let narrow = |recall: Recall| async { ledger.store.read(recall).await.map(|hits| hits.len()) };
    assert_eq!(narrow(about("storage")).await?, 2);
    assert_eq!(narrow(Recall { kinds: vec![MemoryKind::Decision], ..about("storage") }).await?, 1);
    assert_eq!(narrow(Recall { agent: Some("alpha".into()), ..about("storage") }).await?, 1);
    assert_eq!(narrow(Recall { run: Some(run), ..about("storage") }).await?, 1);
    assert_eq!(narrow(Recall { run: Some(RunId(99)), ..about("storage") }).await?, 0);
    Ok(())
}

async fn tags_find_too(ledger: TestLedger) -> Result<()> {
    ledger
        .store
        .write(Remember { tags: texts(&["deploy/prod", "network"]), ..told("port 8080 is closed") })
        .await?;
    let hits = ask(&ledger, "deploy/prod").await?;
    assert_eq!(hits[0].memory.tags, ["deploy/prod", "network"]);
    assert_eq!(hits[0].memory.agent.as_deref(), Some("alpha"));
    let more = Remember { tags: texts(&["firewall"]), ..told("port 8080 is closed") };
    assert_eq!(ledger.store.write(more).await?.count, 2);
    assert_eq!(ask(&ledger, "firewall").await?.len(), 1, "one that came later finds it, too");
    assert_eq!(ask(&ledger, "network closed").await?.len(), 1);
    Ok(())
}

async fn what_says_the_same_is_counted(ledger: TestLedger) -> Result<()> {
    let first =
        tell(&ledger, "The config loader ignores all variables of the environment of its parent").await?;
    assert_eq!(first.count, 1);
    let tags = texts(&["config"]);
    let again = Remember {
        agent: "beta".into(),
        tags: tags.clone(),
        ..told("config loader IGNORES all variables of environment of parent.")
    };
    assert_eq!(ledger.store.write(again).await?, Kept { id: first.id, count: 2 });
    let near = "The config loader of today ignores all variables of the environment of its parent";
    assert_eq!(tell(&ledger, near).await?, Kept { id: first.id, count: 3 });
    let hits = ask(&ledger, "loader").await?;
    assert_eq!(hits.len(), 1);
    let memory = &hits[0].memory;
    assert_eq!((memory.count, &memory.tags), (3, &tags));
    assert_eq!(memory.sources, ["agent:alpha", "agent:beta", "agent:alpha"]);
    assert_eq!((ledger.count("memory.added").await, ledger.count("memory.merged").await), (1, 2));
    Ok(())
}

async fn what_says_the_opposite_or_another_number_stays_beside_it(ledger: TestLedger) -> Result<()> {
    for text in [
        "the service listens on port 8080 after a restart",
        "the service listens on port 8081 after a restart",
        "the service never listens on port 8080 after a restart",
    ] {
        assert_eq!(tell(&ledger, text).await?.count, 1, "{text}");
    }
    for text in [
        "use tabs instead of spaces",
        "use spaces instead of tabs",
        "migrate from MySQL to Postgres",
        "migrate to MySQL from Postgres",
        "alpha waits for beta",
        "beta waits for alpha",
        "in the nightly release build every single integration test of the production database needs two minutes and half a gigabyte",
        "in the nightly release build every single integration test of the staging database needs two minutes and half a gigabyte",
        "the loader of the settings in crates/store reads each of its many files twice before it begins",
        "the loader of the settings in crates/service reads each of its many files twice before it begins",
    ] {
        assert_eq!(tell(&ledger, text).await?.count, 1, "{text}");
    }
    let as_decision =
        Remember { kind: MemoryKind::Decision, ..told("the service listens on port 8080 after a restart") };
    assert_eq!(ledger.store.write(as_decision).await?.count, 1, "another kind is another memory");
    Ok(())
}

async fn sources_are_bounded_and_the_last_stay(ledger: TestLedger) -> Result<()> {
    for n in 0..=SOURCES_MAX {
        let agent = format!("a{n}");
        ledger.store.write(Remember { agent, ..told("the same") }).await?;
    }
    let hits = ask(&ledger, "same").await?;
    let memory = &hits[0].memory;
    assert_eq!((memory.sources.len(), memory.count), (SOURCES_MAX, SOURCES_MAX as i64 + 1));
    assert_eq!(memory.sources[0], "agent:a1");
    Ok(())
}

async fn what_is_told_has_limits(ledger: TestLedger) -> Result<()> {
    tell(&ledger, &"a".repeat(TEXT_MAX)).await?;
    ledger.store.write(Remember { tags: vec!["x".repeat(TAG_MAX); TAGS_MAX], ..told("tagged") }).await?;
    for wrong in [
        told(&"a".repeat(TEXT_MAX + 1)),
        told("  "),
        Remember { tags: vec!["x".into(); TAGS_MAX + 1], ..told("x") },
        Remember { tags: vec!["x".repeat(TAG_MAX + 1)], ..told("x") },
        Remember { kind: MemoryKind::Message, ..told("x") },
    ] {
        assert_eq!(ledger.store.write(wrong).await.expect_err("too much").kind, Kind::Invalid);
    }
    let unknown = Remember { task: Some(TaskId(99)), ..told("x") };
    assert_eq!(ledger.store.write(unknown).await.expect_err("no such task").kind, Kind::NotFound);
    assert_eq!(ledger.count("memory.added").await, 2);
    Ok(())
}

async fn a_completed_task_leaves_its_result_as_a_finding(ledger: TestLedger) -> Result<()> {
    let (run, _) = ledger.start(vec![command("count the crates"), command("say nothing")]).await?;
    let id = complete(&ledger, "\"there are twelve\"").await?;
    let silent = ledger.must_take("alpha").await?;
    ledger.done(&silent).await?;
    assert_eq!(learn(&ledger).await?, (1, 0));
    let hits = ask(&ledger, "twelve crates").await?;
    let memory = &hits[0].memory;
    assert_eq!(memory.text, "count the crates: there are twelve");
    assert_eq!(memory.source.as_deref(), Some(format!("task:{id}").as_str()));
    assert_eq!((memory.kind, memory.task, memory.run), (MemoryKind::Finding, Some(id), Some(run)));
    assert_eq!(memory.agent.as_deref(), Some("alpha"));
    assert_eq!(learn(&ledger).await?, (0, 0), "the log is read once");
    Ok(())
}

/// What a planner says is tasks, which are in the ledger: as a finding it would only be in the way.
async fn a_plan_is_no_finding(ledger: TestLedger) -> Result<()> {
    assert_eq!(checked(&ledger, "@plan", "\"weigh the needles\"").await?, (0, 0));
    assert_eq!(checked(&ledger, "true", "\"they are weighed\"").await?, (1, 0));
    Ok(())
}

/// Completes a task whose check passes; answers with what the memory learned of it.
async fn checked(ledger: &TestLedger, check: &str, result: &str) -> Result<(usize, usize)> {
    let task = NewTask { verify: Some(check.into()), ..command("weigh") };
    let id = ledger.add(task).await?;
    complete(ledger, result).await?;
    let take = TakeCheck { task: Some(id), run: None, node: "1".into(), lease_ms: LEASE_MS };
    let term = ledger.store.write(take).await?.expect("a check is due").term;
    let settle = SettleCheck { id, term, failure: None, is_final: false, tail: None, retry_after_ms: 1 };
    ledger.store.write(settle).await?;
    learn(ledger).await
}

async fn a_long_result_is_kept_from_its_beginning(ledger: TestLedger) -> Result<()> {
    ledger.add(command("long")).await?;
    complete(&ledger, &format!("\"needle {}\"", "ß".repeat(TEXT_MAX))).await?;
    learn(&ledger).await?;
    let text = found(&ledger, "needle").await?.remove(0);
    assert!(text.len() <= TEXT_MAX && text.len() > TEXT_MAX - 4, "{}", text.len());
    assert!(text.starts_with("long: needle ß") && text.ends_with("ß…"));
    Ok(())
}

async fn a_failed_attempt_leaves_its_cause_and_one_that_comes_again_is_a_pattern(
    ledger: TestLedger,
) -> Result<()> {
    ledger.add(command("deploy")).await?;
    for n in 1..=PATTERN_LEAST {
        ledger.advance(600_000).await;
        ledger.check().await?;
        let taken = ledger.must_take("alpha").await?;
        ledger.fail(&taken, &format!("connection to 10.0.0.{n} refused after {n}00 ms")).await?;
        learn(&ledger).await?;
        let hits = ask(&ledger, "refused").await?;
        assert_eq!(hits.len(), 1, "{hits:?}");
        let memory = &hits[0].memory;
        assert_eq!((memory.source(), memory.count), ("attempt:1.1".to_owned(), n));
        let kind = if n < PATTERN_LEAST { MemoryKind::Episode } else { MemoryKind::Pattern };
        assert_eq!(memory.kind, kind);
    }
    let hits = ask(&ledger, "deploy refused").await?;
    assert_eq!(hits[0].memory.sources, ["attempt:1.1", "attempt:1.2", "attempt:1.3"]);
    assert_eq!(hits[0].memory.text, "deploy: connection to 10.0.0.1 refused after 100 ms");
    Ok(())
}

async fn a_persons_wish_to_try_again_is_no_failure(ledger: TestLedger) -> Result<()> {
    let id = ledger.add(command("x")).await?;
    let taken = ledger.must_take("alpha").await?;
    ledger.store.write(quorate_service::task::Fail { is_final: true, ..failure(&taken, "broken") }).await?;
    ledger.store.write(Retry { id }).await?;
    assert_eq!(learn(&ledger).await?, (1, 0));
    Ok(())
}

async fn messages_and_lines_are_found_with_their_source(ledger: TestLedger) -> Result<()> {
    ledger.join("beta").await?;
    let send = Send {
        from: "alpha".into(),
        to: "beta".into(),
        kind: MessageKind::Help,
        text: "what is the password of the wiki".into(),
        task: None,
        reply_to: None,
    };
    let id = ledger.store.write(send).await?;
    let line = Line {
        agent: "alpha".into(),
        action: "search".into(),
        status: Some("going on".into()),
        resource: None,
        progress: None,
        metadata: None,
        message: "looking through the wiki".into(),
        ttl_ms: 1_000,
    };
    for _ in 0..2 {
        ledger.store.write(line.clone()).await?;
    }
    assert_eq!(learn(&ledger).await?, (2, 1), "a line that was logged again is counted");
    let seq = ledger.events().await.iter().find(|event| event.kind == "log.line").map(|event| event.seq);
    let mut all = sources(&ledger, "wiki").await?;
    all.sort();
    assert_eq!(all, [format!("event:{}", seq.expect("logged")), format!("message:{id}")]);
    assert_eq!(found(&ledger, "password").await?, ["alpha to beta (help): what is the password of the wiki"]);
    assert_eq!(sources(&ledger, "search").await?.len(), 1, "the action finds it, too");
    Ok(())
}

async fn two_who_read_on_at_once_keep_nothing_twice(ledger: TestLedger) -> Result<()> {
    for n in 0..30 {
        ledger.add(command(&format!("task {n}"))).await?;
        complete(&ledger, &format!("\"result {n}\"")).await?;
    }
    ledger.events().await;
    let other = ledger.again().await;
    let (one, two) = tokio::join!(ledger.store.write(CatchUp), other.write(CatchUp));
    assert_eq!(one?.kept + two?.kept, 30);
    Ok(())
}

async fn the_log_is_read_in_parts(ledger: TestLedger) -> Result<()> {
    let count = usize::try_from(SCAN_MAX).expect("it is small");
    for n in 0..=count {
        ledger.join(&format!("a{n}")).await?;
    }
    tell(&ledger, "needle").await?;
    ledger.add(command("the last")).await?;
    complete(&ledger, "1").await?;
    ledger.events().await;
    let first = ledger.store.write(CatchUp).await?;
    assert!(first.more && first.kept == 0, "{first:?}");
    let second = ledger.store.write(CatchUp).await?;
    assert!(!second.more && second.kept == 1, "{second:?}");
    Ok(())
}

async fn reading_on_leaves_one_event_and_then_none(ledger: TestLedger) -> Result<()> {
    ledger.add(command("one")).await?;
    complete(&ledger, "1").await?;
    learn(&ledger).await?;
    learn(&ledger).await?;
    let before = ledger.events().await.len();
    learn(&ledger).await?;
    assert_eq!(ledger.events().await.len(), before, "what is known is not told again");
    assert_eq!(ledger.count("memory.added").await, 1);
    Ok(())
}

async fn what_holds_for_a_while_is_then_not_found(ledger: TestLedger) -> Result<()> {
    ledger.store.write(Remember { ttl_ms: Some(1_000), ..told("the server is away") }).await?;
    assert_eq!(found(&ledger, "server").await?.len(), 1);
    ledger.advance(1_000).await;
    assert!(found(&ledger, "server").await?.is_empty());
    assert_eq!(tell(&ledger, "the server is away").await?.count, 1, "what is over does not count");
    Ok(())
}

fn plenty() -> Limits {
    Limits { ages_ms: Vec::new(), count_max: 1_000, bytes_max: 1_000_000 }
}

/// Removes what is to go, as a node does; answers with the texts that went.
async fn prune(ledger: &TestLedger, limits: Limits) -> Result<Vec<String>> {
    let (read_at, old) = ledger.store.read(Old { limits }).await?;
    let said = old.iter().map(|memory| (memory.id, memory.count)).collect();
    let removed = ledger.store.write(Prune { said, read_at, archive: "archive/memory.jsonl".into() }).await?;
    assert_eq!(removed, old.len() as u64);
    Ok(old.into_iter().map(|memory| memory.text).collect())
}

async fn what_is_old_goes_by_its_kind(ledger: TestLedger) -> Result<()> {
    tell(&ledger, "old finding").await?;
    ledger.store.write(Remember { kind: MemoryKind::Decision, ..told("old decision") }).await?;
    ledger.store.write(Remember { ttl_ms: Some(500), ..told("short lived") }).await?;
    ledger.advance(1_001).await;
    tell(&ledger, "new finding").await?;
    let limits = Limits { ages_ms: vec![(MemoryKind::Finding, 1_000)], ..plenty() };
    assert_eq!(prune(&ledger, limits.clone()).await?, ["short lived", "old finding"]);
    assert!(prune(&ledger, limits).await?.is_empty());
    let mut left = found(&ledger, "finding decision lived").await?;
    left.sort();
    assert_eq!(left, ["new finding", "old decision"]);
    assert_eq!(ledger.count("memory.pruned").await, 1);
    Ok(())
}

async fn what_is_too_much_goes_the_least_wanted_first(ledger: TestLedger) -> Result<()> {
    ledger.store.write(Remember { kind: MemoryKind::Decision, ..told("first decision") }).await?;
    for text in ["first finding", "second finding"] {
        ledger.advance(1).await;
        tell(&ledger, text).await?;
    }
    ledger.advance(1).await;
    ledger.store.write(Remember { kind: MemoryKind::Episode, ..told("an episode") }).await?;
    assert!(prune(&ledger, Limits { count_max: 4, ..plenty() }).await?.is_empty());
    assert_eq!(prune(&ledger, Limits { count_max: 2, ..plenty() }).await?, ["an episode", "first finding"]);
    let bytes = ("first decision".len() + "second finding".len()) as i64;
    assert!(prune(&ledger, Limits { bytes_max: bytes, ..plenty() }).await?.is_empty());
    assert_eq!(prune(&ledger, Limits { bytes_max: bytes - 1, ..plenty() }).await?, ["second finding"]);
    Ok(())
}

async fn what_is_said_again_while_it_is_archived_stays(ledger: TestLedger) -> Result<()> {
    let kept = tell(&ledger, "it rains").await?;
    ledger.advance(10_000).await;
    let limits = Limits { ages_ms: vec![(MemoryKind::Finding, 1_000)], ..plenty() };
    let (read_at, old) = ledger.store.read(Old { limits }).await?;
    assert_eq!(old.len(), 1);
    ledger.advance(1).await;
    tell(&ledger, "it rains").await?;
    for late in [0, 60_000] {
        let prune = Prune { said: vec![(kept.id, 1)], read_at: read_at + late, archive: "a".into() };
        assert_eq!(ledger.store.write(prune).await?, 0, "even if it was said before it was read");
    }
    assert_eq!(ask(&ledger, "rains").await?[0].memory.count, 2);
    Ok(())
}

async fn what_is_forgotten_leaves_no_word(ledger: TestLedger) -> Result<()> {
    let kept = tell(&ledger, "the password is hunter").await?;
    ledger.store.write(Forget { id: kept.id, by: Some("alpha".into()) }).await?;
    assert!(found(&ledger, "password hunter").await?.is_empty());
    assert!(ledger.events().await.iter().all(|event| !event.message.contains("hunter")));
    let again = ledger.store.write(memory::Forget { id: MemoryId(kept.id.0), by: None }).await;
    assert_eq!(again.expect_err("it is gone").kind, Kind::NotFound);
    assert_eq!(ledger.count("memory.forgotten").await, 1);
    Ok(())
}

on_every_backend!(
    what_is_told_is_found_by_its_words,
    no_text_of_a_question_is_a_mistake,
    what_fits_best_comes_first_and_rare_words_weigh_more,
    a_question_may_be_narrowed,
    tags_find_too,
    what_says_the_same_is_counted,
    what_says_the_opposite_or_another_number_stays_beside_it,
    sources_are_bounded_and_the_last_stay,
    what_is_told_has_limits,
    a_completed_task_leaves_its_result_as_a_finding,
    a_plan_is_no_finding,
    a_long_result_is_kept_from_its_beginning,
    a_failed_attempt_leaves_its_cause_and_one_that_comes_again_is_a_pattern,
    a_persons_wish_to_try_again_is_no_failure,
    messages_and_lines_are_found_with_their_source,
    two_who_read_on_at_once_keep_nothing_twice,
    the_log_is_read_in_parts,
    reading_on_leaves_one_event_and_then_none,
    what_holds_for_a_while_is_then_not_found,
    what_is_old_goes_by_its_kind,
    what_is_too_much_goes_the_least_wanted_first,
    what_is_said_again_while_it_is_archived_stays,
    what_is_forgotten_leaves_no_word,
);

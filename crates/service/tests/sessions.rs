//! Sessions of agent CLIs on both databases: whose they are, their signs of life, a full context; and who is kept from a
//! file that another has claimed.

use quorate_model::{Kind, Result, RunId, TaskState, Term};
use quorate_service::agent::Add;
use quorate_service::claim::{self, Guard, Guarded, NoteRefused, RESOURCES_MAX};
use quorate_service::retention::Prune;
use quorate_service::session::{
    Beat, Clear, End, Find, Open, PROCESSES_MAX, Process, Report, Restored, SILENT_MS, Session, Sessions,
};
use quorate_service::task::{Done, NewTask};
use quorate_service::view::{Agents, Tasks};
use quorate_testkit::ledger::TestLedger;
use quorate_testkit::on_every_backend;
use quorate_testkit::verbs::{LEASE_MS, begin, claiming, command, texts, want};

fn process(pid: i64) -> Process {
    Process { host: "here".into(), pid, started: format!("boot {pid}") }
}

fn open(name: &str, pid: i64) -> Open {
    Open {
        name: name.into(),
        process: process(pid),
        is_renamed: false,
        is_same_turn: false,
        agent: None,
        program: "claude",
        strict: false,
    }
}

async fn find(ledger: &TestLedger, name: &str) -> Result<Session> {
    Ok(ledger.store.read(Find::Name(name.into())).await?.expect("it is known"))
}

async fn a_session_without_an_agent_makes_one_of_its_number(ledger: TestLedger) -> Result<()> {
    let first = ledger.store.write(open("a", 7)).await?;
    let second = ledger.store.write(open("b", 8)).await?;
    assert_eq!((first.agent.as_str(), second.agent.as_str()), ("claude-s1", "claude-s2"));
    assert!(first.is_named && first.name == "a");
    assert_eq!(find(&ledger, "a").await?.agent, "claude-s1", "it is stored so");
    assert_eq!(ledger.store.read(Agents::default()).await?.len(), 2, "both joined the team");
    assert_eq!(ledger.kinds().await, ["agent.added", "agent.started", "agent.added", "agent.started"]);
    let again = ledger.store.write(open("a", 9)).await?;
    assert_eq!((again.id, again.process.pid), (first.id, 9), "resumed in another process");
    assert_eq!(ledger.count("agent.started").await, 2, "it never stopped");
    Ok(())
}

async fn a_turn_goes_on_through_a_compaction(ledger: TestLedger) -> Result<()> {
    let begun = ledger.store.write(open("a", 7)).await?;
    ledger.store.write(Beat { id: begun.id, working: Some(true) }).await?;
    let compacted = Open { is_renamed: true, is_same_turn: true, ..open("a", 7) };
    assert!(ledger.store.write(compacted.clone()).await?.is_working);
    assert!(find(&ledger, "a").await?.is_working, "it is stored so");
    let elsewhere = ledger.store.write(Open { process: process(8), ..compacted }).await?;
    assert!(!elsewhere.is_working, "in another process no turn goes on");
    ledger.store.write(Beat { id: begun.id, working: Some(true) }).await?;
    assert!(!ledger.store.write(open("a", 8)).await?.is_working, "a resumed session waits for words");
    assert!(!find(&ledger, "a").await?.is_working);
    Ok(())
}

async fn a_session_keeps_its_agent_when_its_program_renames_it(ledger: TestLedger) -> Result<()> {
    let first = ledger.store.write(open("a", 7)).await?;
    let renamed = ledger.store.write(Open { is_renamed: true, ..open("b", 7) }).await?;
    assert_eq!((renamed.id, renamed.agent.as_str()), (first.id, "claude-s1"));
    assert!(ledger.store.read(Find::Name("a".into())).await?.is_none(), "the old name is gone");
    let other = ledger.store.write(open("c", 7)).await?;
    assert_ne!(other.id, first.id, "a new name alone is a new session");
    let elsewhere = Process { host: "there".into(), ..process(7) };
    let other = ledger.store.write(Open { is_renamed: true, process: elsewhere, ..open("d", 7) }).await?;
    assert_eq!(other.agent, "claude-s3", "the number means nothing on another host");
    Ok(())
}

async fn a_session_is_found_by_the_nearest_of_its_processes(ledger: TestLedger) -> Result<()> {
    ledger.store.write(open("outer", 1)).await?;
    ledger.store.write(open("inner", 3)).await?;
    let of = async |pids: &[i64]| {
        let processes = pids.iter().map(|pid| process(*pid)).collect();
        ledger.store.read(Find::Processes(processes)).await.map(|session| session.map(|found| found.name))
    };
    assert_eq!(of(&[5, 4, 3, 2, 1]).await?.as_deref(), Some("inner"));
    assert_eq!(of(&[5, 2, 1]).await?.as_deref(), Some("outer"));
    assert_eq!(of(&[5, 4]).await?, None);
    assert_eq!(of(&[]).await?, None);
    let later = Process { started: "another boot 3".into(), ..process(3) };
    assert_eq!(
        ledger.store.read(Find::Processes(vec![later])).await?,
        None,
        "the number was given out again"
    );
    let far: Vec<i64> = (100..100 + PROCESSES_MAX as i64 - 1).chain([1, 3]).collect();
    assert_eq!(
        of(&far).await?.as_deref(),
        Some("outer"),
        "the last that counts; what comes behind it does not"
    );
    Ok(())
}

async fn an_agent_that_is_known_keeps_its_name(ledger: TestLedger) -> Result<()> {
    let mine = Open { agent: Some("ada".into()), ..open("a", 7) };
    let session = ledger.store.write(mine.clone()).await?;
    assert!(session.agent == "ada" && !session.is_named);
    ledger.claim("ada", &["src"]).await?;
    ledger.store.write(End { id: session.id, reason: "other".into() }).await?;
    assert_eq!(ledger.held().await?, ["ada:src"], "ada is more than this session");
    let refused = ledger.store.write(Open { strict: true, ..open("b", 8) }).await.expect_err("a stranger");
    assert_eq!(refused.kind, Kind::Refused);
    assert!(ledger.store.read(Find::Name("b".into())).await?.is_none(), "nothing is left of it");
    ledger.store.write(Add { name: "ada".into(), driver: None, capabilities: None }).await?;
    assert_eq!(ledger.store.write(Open { strict: true, ..mine }).await?.agent, "ada");
    Ok(())
}

async fn what_an_agent_of_a_session_claimed_apart_from_tasks_ends_with_it(ledger: TestLedger) -> Result<()> {
    let session = ledger.store.write(open("a", 7)).await?;
    ledger.add(claiming("work", &["docs"])).await?;
    ledger.must_take("claude-s1").await?;
    ledger.claim("claude-s1", &["src"]).await?;
    for _ in 0..2 {
        ledger.store.write(End { id: session.id, reason: "logout".into() }).await?;
    }
    assert_eq!(ledger.held().await?, ["claude-s1:docs"]);
    assert_eq!(ledger.count("agent.stopped").await, 1);
    assert!(find(&ledger, "a").await?.ended_at.is_some());
    assert!(ledger.store.read(Sessions::default()).await?.is_empty());
    assert_eq!(ledger.store.write(open("a", 9)).await?.ended_at, None, "it may be resumed");
    assert_eq!(ledger.count("agent.started").await, 2);
    Ok(())
}

async fn an_agent_of_a_session_leaves_the_team_with_it_and_comes_back(ledger: TestLedger) -> Result<()> {
    let session = ledger.store.write(open("a", 7)).await?;
    let ada = ledger.store.write(Open { agent: Some("ada".into()), ..open("b", 8) }).await?;
    for id in [session.id, ada.id] {
        ledger.store.write(End { id, reason: "logout".into() }).await?;
    }
    let team = async || Result::<_>::Ok(ledger.store.read(Agents::default()).await?.len());
    assert_eq!((team().await?, ledger.count("agent.removed").await), (1, 1), "ada stays");
    let again = ledger.store.write(open("a", 9)).await?;
    assert_eq!((again.agent.as_str(), team().await?), ("claude-s1", 2), "resumed, under the same name");
    ledger.add(command("work")).await?;
    ledger.must_take("claude-s1").await?;
    ledger.store.write(End { id: session.id, reason: "logout".into() }).await?;
    assert_eq!(team().await?, 2, "it has a task");
    Ok(())
}

async fn a_sign_of_life_keeps_what_the_agent_has_taken(ledger: TestLedger) -> Result<()> {
    let session = ledger.store.write(open("a", 7)).await?;
    ledger.add(command("work")).await?;
    let taken = ledger.must_take("claude-s1").await?;
    for _ in 0..5 {
        ledger.advance(LEASE_MS - 1).await;
        ledger.store.write(Beat { id: session.id, working: None }).await?;
        ledger.check().await?;
    }
    let done = Done { id: taken.task.id, term: taken.task.term, result: None, tail: None };
    ledger.store.write(done).await?;
    assert_eq!(ledger.count("task.lease_expired").await, 0);
    assert_eq!(ledger.store.write(Beat { id: 99, working: None }).await, Ok(None), "of nobody");
    Ok(())
}

async fn a_report_on_the_context_is_a_sign_of_life_too(ledger: TestLedger) -> Result<()> {
    let session = ledger.store.write(open("a", 7)).await?;
    ledger.add(command("work")).await?;
    let taken = ledger.must_take("claude-s1").await?;
    for percent in 0..5 {
        ledger.advance(LEASE_MS - 1).await;
        let told = ledger.store.write(filled(session.id, percent)).await?.expect("it is known").session;
        assert_eq!(told.silent_ms, 0, "no other sign of life follows soon");
        ledger.check().await?;
    }
    ledger.done(&taken).await?;
    assert_eq!(ledger.count("task.lease_expired").await, 0);
    let agents = ledger.store.read(Agents::default()).await?;
    assert_eq!(agents[0].agent.heartbeat_at, Some(find(&ledger, "a").await?.seen_at));
    Ok(())
}

async fn a_sign_of_life_keeps_the_claims_that_are_bound_to_a_task(ledger: TestLedger) -> Result<()> {
    let session = ledger.store.write(open("a", 7)).await?;
    let id = ledger.add(command("work")).await?;
    let taken = ledger.must_take("claude-s1").await?;
    let bound = claim::Take {
        task: Some((id, taken.task.term)),
        ttl_ms: LEASE_MS / 4,
        ..want("claude-s1", &["src"])
    };
    ledger.store.write(bound).await?;
    ledger.claim("claude-s1", &["docs"]).await?;
    ledger.advance(LEASE_MS / 8).await;
    for _ in 0..3 {
        ledger.store.write(Beat { id: session.id, working: None }).await?;
        ledger.advance(LEASE_MS - 1).await;
        ledger.check().await?;
    }
    assert_eq!(ledger.held().await?, ["claude-s1:src"], "what is of no task ends by its own time");
    Ok(())
}

async fn a_claim_that_has_expired_is_not_brought_back_by_a_sign_of_life(ledger: TestLedger) -> Result<()> {
    let session = ledger.store.write(open("a", 7)).await?;
    let id = ledger.add(command("work")).await?;
    let taken = ledger.must_take("claude-s1").await?;
    let task = Some((id, taken.task.term));
    let bound = claim::Take { task, ttl_ms: 1_000, ..want("claude-s1", &["src"]) };
    ledger.store.write(bound).await?;
    ledger.advance(1_000).await;
    ledger.store.write(Beat { id: session.id, working: None }).await?;
    assert!(ledger.held().await?.is_empty());
    Ok(())
}

async fn a_sign_of_life_is_due_again_where_a_clock_was_set_back(ledger: TestLedger) -> Result<()> {
    let session = ledger.store.write(open("a", 7)).await?;
    let silent = |silent_ms| Session { silent_ms, ..session.clone() }.is_silent_for(5_000);
    assert_eq!([-1, 0, 4_999, 5_000].map(silent), [true, false, false, true]);
    Ok(())
}

async fn a_sign_of_life_leaves_to_a_node_what_it_supervises(ledger: TestLedger) -> Result<()> {
    ledger.store.write(begin("ada", "1")).await?;
    let session = ledger.store.write(Open { agent: Some("ada".into()), ..open("a", 7) }).await?;
    ledger.add(command("work")).await?;
    let take =
        quorate_service::task::Take { node: Some("1".into()), ..quorate_testkit::verbs::next_of("ada") };
    let task = ledger.store.write(take).await?.task().expect("it is ready").task;
    ledger.advance(LEASE_MS / 2).await;
    ledger.store.write(Beat { id: session.id, working: None }).await?;
    ledger.advance(LEASE_MS / 2 + 1).await;
    ledger.check().await?;
    let tasks = ledger.store.read(Tasks::default()).await?;
    assert_eq!(tasks[0].state, TaskState::Ready, "its node is silent");
    assert!(tasks[0].term > task.term);
    Ok(())
}

fn filled(id: i64, percent: i64) -> Report {
    Report { id, used_percent: Some(percent), full_at: 80, ..Report::default() }
}

async fn a_context_is_full_once_until_it_falls_below(ledger: TestLedger) -> Result<()> {
    let id = ledger.store.write(open("a", 7)).await?.id;
    let report = async |percent| {
        let told = ledger.store.write(filled(id, percent)).await?.expect("it is known");
        Result::<_>::Ok((told.session.is_full, told.filled))
    };
    assert_eq!(report(79).await?, (false, false));
    assert_eq!(report(80).await?, (true, true));
    assert_eq!(report(81).await?, (true, false));
    let unknown = Report { used_percent: None, usd_micros: Some(1_200_000), ..filled(id, 0) };
    let told = ledger.store.write(unknown).await?.expect("it is known").session;
    assert_eq!((told.is_full, told.used_percent, told.usd_micros), (true, Some(81), Some(1_200_000)));
    assert_eq!(report(20).await?, (false, false));
    assert_eq!(report(90).await?, (true, true));
    assert_eq!(ledger.count("context.filled").await, 2);
    assert_eq!(ledger.store.write(filled(99, 90)).await?, None, "of nobody");
    Ok(())
}

async fn clear_is_sent_once_for_a_full_context_and_not_while_a_turn_goes_on(
    ledger: TestLedger,
) -> Result<()> {
    let id = ledger.store.write(open("a", 7)).await?.id;
    let clear = async || ledger.store.write(Clear { id }).await;
    assert!(!clear().await?, "it is not full");
    ledger.store.write(filled(id, 85)).await?;
    ledger.store.write(Beat { id, working: Some(true) }).await?;
    assert!(!clear().await?, "a turn goes on");
    ledger.store.write(Beat { id, working: None }).await?;
    assert!(!clear().await?, "it still does");
    // The end of a turn sees what was reported while it went on.
    let over = ledger.store.write(Beat { id, working: Some(false) }).await?.expect("it is known");
    assert!(over.may_be_cleared());
    assert!(clear().await?);
    let again = ledger.store.write(Beat { id, working: Some(false) }).await?.expect("it is known");
    assert!(!again.may_be_cleared());
    assert!(!clear().await?, "it was sent");
    ledger.store.write(filled(id, 90)).await?;
    assert!(!clear().await?, "nor again while it stays full");
    assert!(ledger.store.write(Restored { id, source: "clear".into() }).await?, "it was sent by us");
    assert!(!clear().await?);
    ledger.store.write(filled(id, 80)).await?;
    assert!(clear().await?, "it filled up again");
    ledger.store.write(filled(id, 10)).await?;
    assert!(!ledger.store.write(Restored { id, source: "clear".into() }).await?, "a person's own /clear");
    ledger.store.write(filled(id, 80)).await?;
    ledger.store.write(End { id, reason: "other".into() }).await?;
    assert!(!clear().await?, "nobody is there");
    assert_eq!((ledger.count("context.cleared").await, ledger.count("context.restored").await), (2, 2));
    assert!(!ledger.store.write(Restored { id: 99, source: "clear".into() }).await?, "of nobody");
    Ok(())
}

async fn sessions_that_said_nothing_for_long_are_left_out_and_later_removed(
    ledger: TestLedger,
) -> Result<()> {
    ledger.store.write(open("a", 7)).await?;
    ledger.advance(SILENT_MS - 1).await;
    ledger.store.write(Open { agent: Some("ada".into()), ..open("b", 8) }).await?;
    let names = async |agent: Option<&str>| {
        let sessions = ledger.store.read(Sessions { agent: agent.map(str::to_owned) }).await?;
        Result::<_>::Ok(sessions.into_iter().map(|session| session.agent).collect::<Vec<_>>())
    };
    assert_eq!(names(None).await?, ["ada", "claude-s1"]);
    assert_eq!(names(Some("ada")).await?, ["ada"]);
    ledger.advance(1).await;
    assert_eq!(names(None).await?, ["ada"]);
    let prune = Prune {
        events_ms: SILENT_MS,
        attempts_ms: SILENT_MS,
        tasks_ms: SILENT_MS,
        after: quorate_model::TaskId(0),
    };
    ledger.store.write(prune.clone()).await?;
    assert_eq!(find(&ledger, "a").await?.silent_ms, SILENT_MS, "a moment longer");
    ledger.advance(1).await;
    ledger.store.write(prune).await?;
    assert!(ledger.store.read(Find::Name("a".into())).await?.is_none());
    assert_eq!(find(&ledger, "b").await?.agent, "ada");
    let team = ledger.store.read(Agents::default()).await?;
    let team: Vec<&str> = team.iter().map(|view| view.agent.name.as_str()).collect();
    assert_eq!(team, ["ada"], "who is called after a session leaves with it");
    Ok(())
}

async fn guards(ledger: &TestLedger, agent: Option<&str>, resources: &[&str]) -> Result<Vec<Guard>> {
    let asked = Guarded { agent: agent.map(str::to_owned), resources: texts(resources) };
    ledger.store.read(asked).await
}

async fn a_file_that_another_claimed_is_guarded(ledger: TestLedger) -> Result<()> {
    ledger.claim("ada", &["src/**"]).await?;
    let found = guards(&ledger, Some("bob"), &["src/a.rs", "docs/a.md"]).await?;
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].resource.as_str(), found[0].by.agent.as_str()), ("src/a.rs", "ada"));
    assert!(
        found[0].said().starts_with("src/a.rs, held (as src/**) by ada until 2026-"),
        "{}",
        found[0].said()
    );
    assert!(guards(&ledger, Some("ada"), &["src/a.rs"]).await?.is_empty(), "its own");
    assert_eq!(guards(&ledger, None, &["src/a.rs"]).await?.len(), 1, "of nobody that is known");
    ledger.advance(LEASE_MS + 1).await;
    assert!(guards(&ledger, Some("bob"), &["src/a.rs"]).await?.is_empty(), "its time is over");
    Ok(())
}

async fn a_file_is_guarded_for_as_long_as_its_task_is_held(ledger: TestLedger) -> Result<()> {
    let (run, _) = ledger.start(vec![NewTask { verify: None, ..claiming("work", &["src"]) }]).await?;
    assert_eq!(run, RunId(1));
    let taken = ledger.must_take("ada").await?;
    assert_eq!(taken.task.term, Term(1));
    let found = guards(&ledger, Some("bob"), &["src/a.rs"]).await?;
    assert!(found[0].said().contains("by ada for task 1 until"), "{}", found[0].said());
    ledger.store.write(Done { id: taken.task.id, term: taken.task.term, result: None, tail: None }).await?;
    assert!(guards(&ledger, Some("bob"), &["src/a.rs"]).await?.is_empty());
    Ok(())
}

async fn who_holds_a_part_of_a_file_is_not_kept_out_by_another_part(ledger: TestLedger) -> Result<()> {
    ledger.claim("ada", &["lib.rs::parse"]).await?;
    assert_eq!(guards(&ledger, Some("bob"), &["lib.rs"]).await?.len(), 1);
    ledger.claim("bob", &["lib.rs::print"]).await?;
    assert!(guards(&ledger, Some("bob"), &["lib.rs"]).await?.is_empty());
    assert_eq!(
        guards(&ledger, Some("bob"), &["lib.rs::parse::inner"]).await?.len(),
        1,
        "his part is another"
    );
    assert_eq!(guards(&ledger, Some("cy"), &["lib.rs"]).await?.len(), 1);
    Ok(())
}

async fn a_refusal_is_noted_and_their_number_is_bounded(ledger: TestLedger) -> Result<()> {
    ledger.claim("ada", &["src"]).await?;
    let names: Vec<String> = (0..=RESOURCES_MAX).map(|n| format!("src/{n}.rs")).collect();
    let asked = Guarded { agent: Some("bob".into()), resources: names };
    let found = ledger.store.read(asked).await?;
    assert_eq!(found.len(), RESOURCES_MAX + 1);
    ledger.store.write(NoteRefused { agent: "bob".into(), guards: found }).await?;
    let events = ledger.events().await;
    let refused: Vec<_> = events.iter().filter(|event| event.kind == "claim.refused").collect();
    assert_eq!(refused.len(), RESOURCES_MAX);
    assert_eq!(refused[0].agent.as_deref(), Some("bob"));
    assert!(
        refused[0].message.starts_with("bob was refused src/0.rs, held (as src) by ada"),
        "{}",
        refused[0].message
    );
    Ok(())
}

on_every_backend!(
    a_session_without_an_agent_makes_one_of_its_number,
    a_turn_goes_on_through_a_compaction,
    a_session_keeps_its_agent_when_its_program_renames_it,
    a_session_is_found_by_the_nearest_of_its_processes,
    an_agent_that_is_known_keeps_its_name,
    what_an_agent_of_a_session_claimed_apart_from_tasks_ends_with_it,
    an_agent_of_a_session_leaves_the_team_with_it_and_comes_back,
    a_sign_of_life_keeps_what_the_agent_has_taken,
    a_report_on_the_context_is_a_sign_of_life_too,
    a_sign_of_life_keeps_the_claims_that_are_bound_to_a_task,
    a_claim_that_has_expired_is_not_brought_back_by_a_sign_of_life,
    a_sign_of_life_is_due_again_where_a_clock_was_set_back,
    a_sign_of_life_leaves_to_a_node_what_it_supervises,
    a_context_is_full_once_until_it_falls_below,
    clear_is_sent_once_for_a_full_context_and_not_while_a_turn_goes_on,
    sessions_that_said_nothing_for_long_are_left_out_and_later_removed,
    a_file_that_another_claimed_is_guarded,
    a_file_is_guarded_for_as_long_as_its_task_is_held,
    who_holds_a_part_of_a_file_is_not_kept_out_by_another_part,
    a_refusal_is_noted_and_their_number_is_bounded,
);

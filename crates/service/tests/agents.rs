//! What agents and nodes do, on both databases: sessions, a person's words, the crash brake, elections, orphans.

use quorate_model::agent::AgentState;
use quorate_model::{Kind, Result, TaskId, TaskState, Term};
use quorate_service::agent::{Add, AfterCrash, Crash, End, Seen, Stopped, Tell, Word};
use quorate_service::context::{BUDGET_DEFAULT, Context};
use quorate_service::doctor::Ask;
use quorate_service::event::Logged;
use quorate_service::node::{self, Bury, Gone, Lead, List, Noted, Orphan, Orphans};
use quorate_service::retention::Prune;
use quorate_service::task::{Held, NewTask, Park, Renew, Started, Take, TakeCheck, Task, Unpark};
use quorate_service::view::{Agents, StillHeld};
use quorate_testkit::ledger::TestLedger;
use quorate_testkit::on_every_backend;
use quorate_testkit::verbs::{LEASE_MS, begin, command, next_of, texts};

const DAY_MS: i64 = 86_400_000;

fn tell(name: &str, word: Word) -> Tell {
    Tell { name: name.into(), word }
}

async fn state(ledger: &TestLedger, name: &str) -> Result<AgentState> {
    let views = ledger.store.read(Agents { name: Some(name.into()) }).await?;
    Ok(views.first().expect("it is in the team").state)
}

async fn a_name_has_one_session_and_another_node_takes_over_once_it_lapsed(ledger: TestLedger) -> Result<()> {
    assert_eq!(ledger.store.write(begin("alpha", "1")).await?, Term(1));
    assert_eq!(
        ledger.store.write(begin("alpha", "2")).await.expect_err("alive in node 1").kind,
        Kind::Conflict
    );
    ledger.advance(LEASE_MS + 1).await;
    assert_eq!(ledger.store.write(begin("alpha", "2")).await?, Term(2));
    let renew = Renew { held: vec![], agents: texts(&["alpha"]), node: "1".into(), lease_ms: LEASE_MS };
    ledger.advance(LEASE_MS / 2).await;
    ledger.store.write(renew).await?;
    ledger.advance(LEASE_MS / 2 + 1).await;
    assert_eq!(state(&ledger, "alpha").await?, AgentState::Stale, "node 1 no longer renews it");
    ledger.store.write(End { name: "alpha".into(), node: "1".into() }).await?;
    assert_eq!(ledger.count("agent.stopped").await, 0, "nor does it end it");
    ledger.store.write(End { name: "alpha".into(), node: "2".into() }).await?;
    assert_eq!(state(&ledger, "alpha").await?, AgentState::Idle);
    Ok(())
}

/// Two nodes may go by one name for a while: the session of the first had ended when its work had not.
async fn a_name_is_not_free_while_its_work_goes_on_in_another_node(ledger: TestLedger) -> Result<()> {
    ledger.store.write(begin("alpha", "1")).await?;
    ledger.add(command("work")).await?;
    ledger.advance(LEASE_MS).await;
    let take = Take { node: Some("1".into()), resume: true, ..next_of("alpha") };
    let task = ledger.store.write(take.clone()).await?.task().expect("it is ready").task;
    ledger.advance(1).await;
    let refused = ledger.store.write(begin("alpha", "2")).await.expect_err("its work goes on");
    assert_eq!(refused.kind, Kind::Conflict);
    let elsewhere = Take { node: Some("2".into()), ..take.clone() };
    assert!(ledger.store.write(elsewhere).await?.task().is_none(), "it was not taken there");
    let by_hand = Take { node: None, ..take.clone() };
    assert!(ledger.store.write(by_hand).await?.task().is_none(), "nor by hand");
    assert_eq!(ledger.store.write(take).await?.task().expect("it has it still").task.term, task.term);
    ledger.advance(LEASE_MS + 1).await;
    assert_eq!(ledger.store.write(begin("alpha", "2")).await?, Term(2));
    Ok(())
}

async fn a_silent_session_is_stale_until_it_speaks_again(ledger: TestLedger) -> Result<()> {
    ledger.store.write(begin("alpha", "1")).await?;
    ledger.claim("alpha", &["src"]).await?;
    assert_eq!(state(&ledger, "alpha").await?, AgentState::Ready);
    ledger.advance(LEASE_MS + 1).await;
    assert_eq!(ledger.check().await?.stale, 1);
    assert_eq!(ledger.check().await?.stale, 0);
    assert!(ledger.held().await?.is_empty(), "what it held is free");
    let renew = Renew { held: vec![], agents: texts(&["alpha"]), node: "1".into(), lease_ms: LEASE_MS };
    ledger.store.write(renew).await?;
    assert_eq!(state(&ledger, "alpha").await?, AgentState::Ready);
    Ok(())
}

async fn what_an_agent_claimed_apart_from_tasks_ends_with_its_session(ledger: TestLedger) -> Result<()> {
    ledger.store.write(begin("alpha", "1")).await?;
    ledger.claim("alpha", &["port:1"]).await?;
    ledger.store.write(End { name: "alpha".into(), node: "1".into() }).await?;
    assert!(ledger.held().await?.is_empty());
    assert_eq!(ledger.count("claim.released").await, 1);
    Ok(())
}

async fn a_paused_agent_finishes_and_takes_nothing_until_it_is_resumed(ledger: TestLedger) -> Result<()> {
    ledger.store.write(begin("alpha", "1")).await?;
    ledger.add(command("one")).await?;
    ledger.add(command("two")).await?;
    let taken = ledger.must_take("alpha").await?;
    ledger.store.write(tell("alpha", Word::Pause)).await?;
    assert_eq!(state(&ledger, "alpha").await?, AgentState::Working);
    ledger.done(&taken).await?;
    assert_eq!(state(&ledger, "alpha").await?, AgentState::Paused);
    assert!(ledger.take("alpha").await?.is_none());
    ledger.store.write(tell("alpha", Word::Resume)).await?;
    ledger.must_take("alpha").await?;
    let kinds = ledger.kinds().await;
    assert!(kinds.contains(&"agent.paused".into()) && kinds.contains(&"agent.resumed".into()));
    Ok(())
}

async fn a_killed_agents_task_is_tried_again_by_another(ledger: TestLedger) -> Result<()> {
    ledger.store.write(begin("alpha", "1")).await?;
    let id = ledger.add(command("one")).await?;
    let taken = ledger.must_take("alpha").await?;
    ledger.store.write(tell("alpha", Word::Kill)).await?;
    let still = StillHeld { held: vec![(id, taken.task.term)] };
    assert!(ledger.store.read(still).await?.is_empty(), "its supervisor sees that it is to stop the child");
    assert_eq!(ledger.done(&taken).await.expect_err("its term is over").kind, Kind::Stale);
    let again = ledger.must_take("beta").await?;
    assert_eq!(again.previous[0].reason.as_deref(), Some("a person killed its agent"));
    let still = StillHeld { held: vec![(id, again.task.term)] };
    assert_eq!(ledger.store.read(still).await?, [id]);
    Ok(())
}

async fn a_member_leaves_only_without_a_task_and_may_come_back(ledger: TestLedger) -> Result<()> {
    ledger.join("alpha").await?;
    ledger.add(command("one")).await?;
    ledger.must_take("alpha").await?;
    assert_eq!(
        ledger.store.write(tell("alpha", Word::Remove)).await.expect_err("it has a task").kind,
        Kind::Conflict
    );
    ledger.store.write(tell("alpha", Word::Kill)).await?;
    ledger.claim("alpha", &["src"]).await?;
    ledger.store.write(tell("alpha", Word::Remove)).await?;
    assert!(ledger.held().await?.is_empty());
    assert!(ledger.store.read(Agents::default()).await?.is_empty());
    assert!(ledger.take("alpha").await?.is_none(), "who left takes nothing");
    assert_eq!(ledger.store.write(tell("alpha", Word::Pause)).await.expect_err("gone").kind, Kind::NotFound);
    ledger.store.write(begin("alpha", "1")).await?;
    ledger.advance(2_000).await;
    ledger.must_take("alpha").await?;
    assert_eq!(ledger.count("agent.added").await, 2);
    Ok(())
}

const PRUNE: Prune = Prune { events_ms: DAY_MS, attempts_ms: DAY_MS, tasks_ms: DAY_MS, after: TaskId(0) };

async fn team(ledger: &TestLedger) -> Result<Vec<String>> {
    Ok(ledger.store.read(Agents::default()).await?.into_iter().map(|view| view.agent.name).collect())
}

/// Each node that comes and goes while another has the name would leave one for ever.
async fn who_was_called_after_its_node_leaves_with_its_session(ledger: TestLedger) -> Result<()> {
    let id = ledger.add(command("what is to be done")).await?;
    for node in 1..=300 {
        let name = format!("writer@{node}");
        ledger.store.write(begin(&name, &node.to_string())).await?;
        ledger.store.write(End { name, node: node.to_string() }).await?;
    }
    assert_eq!(team(&ledger).await?, Vec::<String>::new());
    let text = ledger.store.read(Context::default()).await?.text(BUDGET_DEFAULT);
    assert!(text.contains(&format!("{id} what is to be done")), "{text}");
    Ok(())
}

async fn who_is_called_so_by_a_person_stays(ledger: TestLedger) -> Result<()> {
    ledger.join("writer@7").await?;
    ledger.store.write(begin("writer", "7")).await?;
    ledger.store.write(End { name: "writer@7".into(), node: "7".into() }).await?;
    ledger.store.write(End { name: "writer".into(), node: "7".into() }).await?;
    let id = new_node(&ledger).await?;
    ledger.store.write(Bury { id }).await?;
    ledger.store.write(PRUNE).await?;
    assert_eq!(team(&ledger).await?, ["writer", "writer@7"]);
    Ok(())
}

async fn who_was_called_after_its_node_leaves_with_a_dead_one(ledger: TestLedger) -> Result<()> {
    let id = new_node(&ledger).await?;
    let name = format!("writer@{id}");
    ledger.store.write(begin(&name, &id.to_string())).await?;
    ledger.add(command("work")).await?;
    let take = Take { node: Some(id.to_string()), ..next_of(&name) };
    let taken = ledger.store.write(take).await?.task().expect("it is ready");
    ledger.claim(&name, &["src"]).await?;
    ledger.store.write(Bury { id }).await?;
    assert_eq!(ledger.state(taken.task.id).await?, TaskState::Ready);
    assert_eq!((team(&ledger).await?.len(), ledger.held().await?.len()), (0, 0));
    Ok(())
}

/// What is parked is shown with its agent until it goes on.
async fn who_was_called_after_its_node_stays_for_as_long_as_it_has_a_task(ledger: TestLedger) -> Result<()> {
    ledger.store.write(begin("writer@7", "7")).await?;
    ledger.store.write(begin("writer@8", "8")).await?;
    let id = ledger.add(command("work")).await?;
    let taken = ledger.must_take("writer@7").await?;
    let park = Park { id, term: Some(taken.task.term), reason: "rate limit".into(), until: None };
    ledger.store.write(park).await?;
    ledger.store.write(End { name: "writer@7".into(), node: "7".into() }).await?;
    ledger.store.write(PRUNE).await?;
    assert_eq!(team(&ledger).await?, ["writer@7", "writer@8"]);
    ledger.store.write(Unpark { id }).await?;
    ledger.store.write(PRUNE).await?;
    assert_eq!(team(&ledger).await?, ["writer@8"], "whose session goes on");
    ledger.advance(PRUNE.events_ms + LEASE_MS + 1).await;
    ledger.store.write(PRUNE).await?;
    assert_eq!(team(&ledger).await?, Vec::<String>::new(), "its node is long dead");
    Ok(())
}

async fn an_unknown_name_is_answered_with_the_nearest(ledger: TestLedger) -> Result<()> {
    ledger
        .store
        .write(Add { name: "validation".into(), driver: Some("command".into()), capabilities: None })
        .await?;
    let error = ledger.store.write(tell("validaton", Word::Pause)).await.expect_err("unknown");
    assert_eq!(error.kind, Kind::NotFound);
    assert!(error.hint.as_ref().is_some_and(|hint| hint.contains("did you mean `validation`?")), "{error:?}");
    let pinned = NewTask { agent: Some("validaton".into()), ..command("x") };
    assert_eq!(ledger.add(pinned).await.expect_err("unknown").kind, Kind::NotFound);
    Ok(())
}

async fn a_name_first_seen_registers_itself_unless_names_are_strict(ledger: TestLedger) -> Result<()> {
    let strict = Seen { name: "alpha".into(), strict: true };
    assert_eq!(ledger.store.write(strict.clone()).await.expect_err("strict").kind, Kind::Refused);
    let agent = ledger.store.write(Seen { name: "alpha".into(), strict: false }).await?;
    assert_eq!((agent.driver.as_str(), agent.capabilities.len()), ("external", 0));
    ledger.store.write(strict).await?;
    assert_eq!(ledger.count("agent.added").await, 1);
    assert_eq!(state(&ledger, "alpha").await?, AgentState::Ready);
    ledger.advance(LEASE_MS).await;
    assert_eq!(state(&ledger, "alpha").await?, AgentState::Idle, "no sign of life for a while");
    let add = added("alpha", Some("command"), Some(&["docs"]));
    ledger.store.write(add.clone()).await?;
    ledger.store.write(add).await?;
    assert_eq!(ledger.count("agent.added").await, 1, "known already: brought up to date");
    Ok(())
}

fn added(name: &str, driver: Option<&str>, capabilities: Option<&[&str]>) -> Add {
    Add { name: name.into(), driver: driver.map(Into::into), capabilities: capabilities.map(texts) }
}

async fn what_is_not_said_of_a_member_stays_as_it_is(ledger: TestLedger) -> Result<()> {
    let is = async |name: &str| {
        let agent = ledger.store.read(Agents { name: Some(name.into()) }).await?.remove(0).agent;
        Result::<_>::Ok((agent.driver, agent.capabilities.join(",")))
    };
    let external = ("external".to_owned(), String::new());
    ledger.store.write(added("alpha", None, None)).await?;
    assert_eq!(is("alpha").await?, external);
    ledger.store.write(added("alpha", Some("human"), Some(&["docs", "review"]))).await?;
    ledger.store.write(added("alpha", None, None)).await?;
    assert_eq!(is("alpha").await?, ("human".into(), "docs,review".into()));
    ledger.store.write(added("alpha", None, Some(&["docs"]))).await?;
    assert_eq!(is("alpha").await?, ("human".into(), "docs".into()));
    ledger.store.write(added("alpha", Some("external"), None)).await?;
    assert_eq!(is("alpha").await?, ("external".into(), "docs".into()));
    ledger.store.write(added("alpha", None, Some(&[]))).await?;
    assert_eq!(is("alpha").await?, external, "nothing is something, too");
    ledger.store.write(added("alpha", Some("human"), Some(&["docs"]))).await?;
    ledger.store.write(tell("alpha", Word::Remove)).await?;
    ledger.store.write(added("alpha", None, None)).await?;
    assert_eq!(is("alpha").await?, external, "who comes back is a newcomer");
    assert_eq!(ledger.count("agent.added").await, 2);
    Ok(())
}

async fn whom_a_node_runs_is_not_removed_while_its_session_lives(ledger: TestLedger) -> Result<()> {
    ledger.store.write(begin("alpha", "7")).await?;
    let refused =
        ledger.store.write(tell("alpha", Word::Remove)).await.expect_err("it would be back at once");
    assert_eq!(refused.kind, Kind::Conflict);
    assert!(refused.message.contains("node 7 on here"), "{refused:?}");
    assert!(refused.hint.is_some_and(|hint| hint.contains("quorate agent pause alpha")));
    assert_eq!(ledger.count("agent.removed").await, 0);
    ledger.advance(LEASE_MS + 1).await;
    ledger.store.write(tell("alpha", Word::Remove)).await?;
    ledger.store.write(begin("beta", "7")).await?;
    ledger.store.write(End { name: "beta".into(), node: "7".into() }).await?;
    ledger.store.write(tell("beta", Word::Remove)).await?;
    assert!(ledger.store.read(Agents::default()).await?.is_empty());
    Ok(())
}

async fn who_is_killed_loses_what_it_has_and_what_becomes_of_it_is_told(ledger: TestLedger) -> Result<()> {
    ledger.store.write(begin("alpha", "1")).await?;
    let kill = tell("alpha", Word::Kill);
    assert_eq!(ledger.store.write(kill.clone()).await?, [], "it has nothing");
    let id = ledger.add(NewTask { max_attempts: 2, ..command("one") }).await?;
    for state in [TaskState::Ready, TaskState::Failed] {
        ledger.advance(3_000).await;
        ledger.must_take("alpha").await?;
        assert_eq!(ledger.store.write(kill.clone()).await?, [Stopped { task: id.to_string(), state }]);
    }
    Ok(())
}

async fn what_is_told_of_a_crash_names_the_run_of_its_task(ledger: TestLedger) -> Result<()> {
    ledger.store.write(begin("alpha", "1")).await?;
    let (run, tasks) = ledger.start(vec![command("x")]).await?;
    for _ in 0..=3 {
        ledger.store.write(crash(tasks[0].0, true)).await?;
    }
    let of_run = |kind: &str, events: &[Logged]| {
        events.iter().filter(|event| event.kind == kind && event.run == Some(run)).count()
    };
    let events = ledger.events().await;
    assert_eq!((of_run("agent.respawned", &events), of_run("agent.failed", &events)), (3, 1));
    Ok(())
}

fn crash(task: i64, spawn: bool) -> Crash {
    Crash { name: "alpha".into(), task: TaskId(task), reason: "exit 139".into(), spawn, max_respawns: 3 }
}

async fn different_tasks_that_crash_an_agent_trip_its_brake(ledger: TestLedger) -> Result<()> {
    ledger.store.write(begin("alpha", "1")).await?;
    for task in 1..=3 {
        assert_eq!(ledger.store.write(crash(task, false)).await?, AfterCrash::Respawned(task));
    }
    assert_eq!(ledger.store.write(crash(4, false)).await?, AfterCrash::Failed);
    assert_eq!(state(&ledger, "alpha").await?, AgentState::Failed);
    ledger.add(command("x")).await?;
    assert!(ledger.take("alpha").await?.is_none());
    ledger.store.write(begin("alpha", "1")).await?;
    assert!(ledger.take("alpha").await?.is_none(), "its own node does not lift the brake");
    ledger.store.write(tell("alpha", Word::Resume)).await?;
    ledger.must_take("alpha").await?;
    assert_eq!(ledger.store.write(crash(9, false)).await?, AfterCrash::Respawned(1), "counted from nothing");
    Ok(())
}

async fn one_poison_task_does_not_trip_the_brake_and_spawn_failures_do(ledger: TestLedger) -> Result<()> {
    ledger.store.write(begin("alpha", "1")).await?;
    for _ in 0..20 {
        assert_eq!(ledger.store.write(crash(5, false)).await?, AfterCrash::Respawned(1));
    }
    for n in 2..=3 {
        assert_eq!(ledger.store.write(crash(5, true)).await?, AfterCrash::Respawned(n));
    }
    assert_eq!(ledger.store.write(crash(5, true)).await?, AfterCrash::Failed);
    Ok(())
}

async fn a_completed_task_sets_the_count_of_respawns_back(ledger: TestLedger) -> Result<()> {
    ledger.store.write(begin("alpha", "1")).await?;
    let id = ledger.add(command("x")).await?;
    for task in [100, 101, 102] {
        ledger.store.write(crash(task, false)).await?;
    }
    let taken = ledger.must_take("alpha").await?;
    assert_eq!(taken.task.id, id);
    ledger.done(&taken).await?;
    assert_eq!(ledger.store.write(crash(103, false)).await?, AfterCrash::Respawned(1));
    Ok(())
}

async fn a_task_kept_for_one_agent_does_not_wait_for_another(ledger: TestLedger) -> Result<()> {
    ledger.join("alpha").await?;
    let id = ledger.add(NewTask { agent: Some("alpha".into()), ..command("x") }).await?;
    let taken = ledger.must_take("alpha").await?;
    ledger.fail(&taken, "boom").await?;
    ledger.advance(1_200).await;
    ledger.check().await?;
    assert_eq!(ledger.state(id).await?, TaskState::Ready);
    ledger.must_take("alpha").await?;
    Ok(())
}

async fn new_node(ledger: &TestLedger) -> Result<i64> {
    let begin = node::Begin {
        kind: "up",
        host: "here".into(),
        pid: 1,
        pid_started: "1".into(),
        folder: "/p".into(),
        lease_ms: LEASE_MS,
    };
    ledger.store.write(begin).await
}

async fn one_node_leads_until_it_ends_or_falls_silent(ledger: TestLedger) -> Result<()> {
    let (one, two) = (new_node(&ledger).await?, new_node(&ledger).await?);
    let lead = |node| Lead { duty: "health", node, lease_ms: LEASE_MS };
    assert_eq!(ledger.store.write(lead(one)).await?, Some(Term(1)));
    assert_eq!(ledger.store.write(lead(two)).await?, None);
    assert_eq!(ledger.store.write(lead(one)).await?, Some(Term(1)), "asking again keeps it");
    ledger.advance(LEASE_MS).await;
    assert_eq!(ledger.store.write(lead(two)).await?, Some(Term(2)));
    assert_eq!(ledger.store.write(lead(one)).await?, None);
    ledger.store.write(node::End { id: two }).await?;
    assert_eq!(ledger.store.write(lead(one)).await?, Some(Term(3)), "an end in order frees it at once");
    let nodes = ledger.store.read(List).await?;
    assert_eq!(nodes.iter().map(|node| (node.id, node.alive)).collect::<Vec<_>>(), [(one, false)]);
    let renew = Renew { held: vec![], agents: vec![], node: one.to_string(), lease_ms: LEASE_MS };
    ledger.store.write(renew).await?;
    assert!(ledger.store.read(List).await?[0].alive);
    Ok(())
}

fn started(id: TaskId) -> Started {
    let Noted { attempt, pid, pid_started } = noted();
    Started { id, attempt, host: "here".into(), pid, pid_started, log: "a.log".into() }
}

fn noted() -> Noted {
    Noted { attempt: 1, pid: 42, pid_started: "9".into() }
}

fn orphan(task: &Task, noted: Option<Noted>) -> Orphan {
    Orphan { task: task.id, term: task.term, noted, supervisor: None }
}

async fn a_lost_child_is_listed_on_its_host_until_it_is_known_to_be_gone(ledger: TestLedger) -> Result<()> {
    let id = ledger.add(command("x")).await?;
    let taken = ledger.must_take("alpha").await?;
    ledger.store.write(started(id)).await?;
    let orphans = |host: &str| Orphans { host: host.into() };
    assert!(ledger.store.read(orphans("here")).await?.is_empty(), "it is supervised");
    ledger.advance(LEASE_MS + 1).await;
    assert!(ledger.store.read(orphans("there")).await?.is_empty());
    let lost = [orphan(&taken.task, Some(noted()))];
    assert_eq!(ledger.store.read(orphans("here")).await?, lost);
    ledger.check().await?;
    assert_eq!(ledger.store.read(orphans("here")).await?, lost);
    assert_eq!(ledger.story(id).await?.attempts[0].log.as_deref(), Some("a.log"));
    ledger.store.write(Gone { task: id, attempt: 1, term: Term(1) }).await?;
    assert!(ledger.store.read(orphans("here")).await?.is_empty());
    Ok(())
}

async fn a_renewal_keeps_only_what_is_held_under_that_term(ledger: TestLedger) -> Result<()> {
    let mut held = Vec::new();
    for n in 0..3 {
        ledger.add(command("x")).await?;
        let taken = ledger.must_take(&format!("a{n}")).await?;
        held.push(Held { id: taken.task.id, term: taken.task.term, active: true });
    }
    held[1].term = Term(9);
    let renew = Renew { held: held.clone(), agents: vec![], node: "1".into(), lease_ms: LEASE_MS * 2 };
    let mut kept = ledger.store.write(renew).await?.kept;
    kept.sort();
    assert_eq!(kept, [held[0].id, held[2].id]);
    ledger.store.write(begin("alpha", "1")).await?;
    ledger.store.write(begin("beta", "2")).await?;
    let agents = texts(&["alpha", "beta", "nobody"]);
    let renew = Renew { held: vec![], agents, node: "1".into(), lease_ms: LEASE_MS };
    assert_eq!(ledger.store.write(renew).await?.agents, ["alpha"], "the others have no session there");
    ledger.advance(LEASE_MS + 1).await;
    assert_eq!(ledger.check().await?.lapsed, 1);
    Ok(())
}

async fn what_a_dead_node_held_lapses_at_once(ledger: TestLedger) -> Result<()> {
    let (dead, alive) = (new_node(&ledger).await?, new_node(&ledger).await?);
    for (agent, node) in [("alpha", dead), ("beta", alive)] {
        ledger.store.write(begin(agent, &node.to_string())).await?;
        ledger.add(command("x")).await?;
        let take = Take { node: Some(node.to_string()), ..next_of(agent) };
        assert!(ledger.store.write(take).await?.task().is_some());
    }
    let orphans = ledger.store.write(Bury { id: dead }).await?;
    assert_eq!(orphans, [Orphan { task: TaskId(1), term: Term(1), noted: None, supervisor: None }]);
    assert_eq!(ledger.count("task.lease_expired").await, 1);
    assert_eq!(ledger.check().await?.stale, 1);
    let previous = ledger.must_take("gamma").await?.previous;
    assert_eq!((previous[0].agent.as_str(), previous[0].outcome.as_str()), ("alpha", "lost"));
    assert_eq!(previous[0].reason.as_deref(), Some(format!("node {dead} died").as_str()));
    assert_eq!(ledger.store.read(List).await?.len(), 1);
    Ok(())
}

async fn a_dead_nodes_child_is_told_with_its_process_and_that_of_a_check_without(
    ledger: TestLedger,
) -> Result<()> {
    let dead = new_node(&ledger).await?;
    ledger.add(NewTask { verify: Some("true".into()), ..command("checked") }).await?;
    ledger.add(command("running")).await?;
    ledger.done(&ledger.must_take("alpha").await?).await?;
    let take_check = TakeCheck { task: None, run: None, node: dead.to_string(), lease_ms: LEASE_MS };
    let check = ledger.store.write(take_check).await?.expect("a check is due");
    let take = Take { node: Some(dead.to_string()), ..next_of("beta") };
    let running = ledger.store.write(take).await?.task().expect("it is ready");
    ledger.store.write(started(running.task.id)).await?;
    let orphans = ledger.store.write(Bury { id: dead }).await?;
    assert_eq!(orphans, [orphan(&check, None), orphan(&running.task, Some(noted()))]);
    Ok(())
}

async fn a_ledger_knows_its_size(ledger: TestLedger) -> Result<()> {
    ledger.add(command("x")).await?;
    let vitals = ledger.store.read(Ask).await?;
    assert!(vitals.size_bytes > 10_000 && vitals.events == 1, "{vitals:?}");
    Ok(())
}

on_every_backend!(
    what_a_dead_node_held_lapses_at_once,
    a_dead_nodes_child_is_told_with_its_process_and_that_of_a_check_without,
    a_ledger_knows_its_size,
    a_name_has_one_session_and_another_node_takes_over_once_it_lapsed,
    a_name_is_not_free_while_its_work_goes_on_in_another_node,
    a_silent_session_is_stale_until_it_speaks_again,
    what_an_agent_claimed_apart_from_tasks_ends_with_its_session,
    a_paused_agent_finishes_and_takes_nothing_until_it_is_resumed,
    a_killed_agents_task_is_tried_again_by_another,
    a_member_leaves_only_without_a_task_and_may_come_back,
    who_was_called_after_its_node_leaves_with_its_session,
    who_is_called_so_by_a_person_stays,
    who_was_called_after_its_node_leaves_with_a_dead_one,
    who_was_called_after_its_node_stays_for_as_long_as_it_has_a_task,
    an_unknown_name_is_answered_with_the_nearest,
    a_name_first_seen_registers_itself_unless_names_are_strict,
    what_is_not_said_of_a_member_stays_as_it_is,
    whom_a_node_runs_is_not_removed_while_its_session_lives,
    who_is_killed_loses_what_it_has_and_what_becomes_of_it_is_told,
    what_is_told_of_a_crash_names_the_run_of_its_task,
    different_tasks_that_crash_an_agent_trip_its_brake,
    one_poison_task_does_not_trip_the_brake_and_spawn_failures_do,
    a_completed_task_sets_the_count_of_respawns_back,
    a_task_kept_for_one_agent_does_not_wait_for_another,
    one_node_leads_until_it_ends_or_falls_silent,
    a_lost_child_is_listed_on_its_host_until_it_is_known_to_be_gone,
    a_renewal_keeps_only_what_is_held_under_that_term,
);

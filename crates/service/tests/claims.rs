//! What claims do, on both databases: overlap, modes, time, the queue, tasks' claims, refusals.

use quorate_model::resource::Mode;
use quorate_model::{Kind, Result, TaskState, Term};
use quorate_service::claim::{self, Grant, PATIENCE_MS, RESOURCES_MAX, Release, Releaser, WAITER_GONE_MS};
use quorate_service::node::Gone;
use quorate_service::task::{Cancel, Done, Fail, NewTask, Progress, Reassign, SettleCheck, Take, TakeCheck};
use quorate_testkit::ledger::TestLedger;
use quorate_testkit::on_every_backend;
use quorate_testkit::verbs::{LEASE_MS, claiming, command, failure, next_of, texts, want};

fn holder(agent: &str, term: Option<Term>) -> Releaser {
    Releaser::Holder { agent: agent.into(), term }
}

fn release(resource: &str, by: Releaser) -> Release {
    Release { resources: texts(&[resource]), by }
}

/// Claims `held` for alpha, then `wanted` for beta: granted or refused as expected.
async fn check(
    ledger: &TestLedger,
    (held, held_mode): (&str, Mode),
    (wanted, mode): (&str, Mode),
    free: bool,
) -> Result<()> {
    ledger.store.write(claim::Take { mode: held_mode, ..want("alpha", &[held]) }).await?;
    let answer = ledger.store.write(claim::Take { mode, ..want("beta", &[wanted]) }).await;
    assert_eq!(answer.is_ok(), free, "{held} ({held_mode}) against {wanted} ({mode})");
    for resource in [held, wanted] {
        let force = Releaser::Force { reason: "next case".into() };
        let _ = ledger.store.write(release(resource, force)).await;
    }
    assert!(ledger.held().await?.is_empty());
    Ok(())
}

async fn what_is_taken_away_stays_held_until_its_child_is_gone(ledger: TestLedger) -> Result<()> {
    let id = ledger.add(claiming("one", &["src/**"])).await?;
    ledger.add(claiming("two", &["src/a.rs"])).await?;
    let supervised = |agent: &str| Take { node: Some("1".into()), ..next_of(agent) };
    let taken = ledger.store.write(supervised("alpha")).await?.task().expect("there is a task");
    ledger.store.write(Cancel { id, reason: "not wanted".into() }).await?;
    assert!(ledger.store.write(supervised("beta")).await?.task().is_none(), "its child may still write");
    let (attempt, term) = (taken.task.attempt, taken.task.term);
    ledger.store.write(Gone { task: id, attempt, term: Term(term.0 + 1) }).await?;
    assert!(ledger.store.write(supervised("beta")).await?.task().is_none(), "that was another holding");
    ledger.store.write(Gone { task: id, attempt, term }).await?;
    assert_eq!(ledger.store.write(supervised("beta")).await?.task().expect("it is free").task.title, "two");
    Ok(())
}

async fn what_is_taken_away_from_a_silent_supervisor_is_free_when_its_lease_ends(
    ledger: TestLedger,
) -> Result<()> {
    let id = ledger.add(claiming("one", &["src"])).await?;
    let take = Take { node: Some("1".into()), ..next_of("alpha") };
    ledger.store.write(take).await?.task().expect("there is a task");
    ledger.store.write(Reassign { id, to: None, reason: "too slow".into() }).await?;
    assert!(ledger.store.write(next_of("beta")).await?.task().is_none());
    ledger.advance(LEASE_MS + 1).await;
    assert_eq!(ledger.must_take("beta").await?.task.id, id);
    Ok(())
}

async fn names_that_overlap_exclude_each_other_unless_both_share(ledger: TestLedger) -> Result<()> {
    use Mode::{Exclusive, Shared};
    for (held, wanted, free) in [
        ("src", "src/a.rs", false),
        ("src/a.rs", "src", false),
        ("src/**", "src/a.rs", false),
        ("src/a.rs", "src/**", false),
        ("src/*.rs", "src/a.*", false),
        ("src/a.rs", "src/b.rs", true),
        ("src/a.rs::one", "src/a.rs", false),
        ("src/a.rs::one", "src/a.rs::two", true),
        ("src/a.rs::one", "src/a.rs::one", false),
        ("port:8080", "port:8080", false),
        ("port:8080", "port:8081", true),
        ("port:8080", "gpu:8080", true),
    ] {
        check(&ledger, (held, Exclusive), (wanted, Exclusive), free).await?;
        check(&ledger, (held, Shared), (wanted, Exclusive), free).await?;
        check(&ledger, (held, Exclusive), (wanted, Shared), free).await?;
        check(&ledger, (held, Shared), (wanted, Shared), true).await?;
    }
    Ok(())
}

async fn a_refused_claim_leaves_nothing_held_and_says_who_for_what_until_when(
    ledger: TestLedger,
) -> Result<()> {
    let id = ledger.add(claiming("one", &["src/**"])).await?;
    ledger.must_take("alpha").await?;
    let error = ledger.claim("beta", &["docs", "port:1", "src/a.rs"]).await.expect_err("held");
    assert_eq!(error.kind, Kind::Conflict);
    let expected = format!(
        "beta cannot have src/a.rs, held (as src/**) by alpha for task {id} until 2026-01-01T00:01:00.000Z"
    );
    assert_eq!(error.message, expected);
    assert_eq!(ledger.held().await?, ["alpha:src/**"]);
    let refused =
        ledger.events().await.into_iter().find(|e| e.kind == "claim.refused").expect("it is in the log");
    assert_eq!((refused.agent.as_deref(), refused.resource.as_deref()), (Some("beta"), Some("src/a.rs")));
    assert_eq!(ledger.count("claim.taken").await, 1);
    Ok(())
}

async fn a_claim_ends_by_its_time_and_not_before(ledger: TestLedger) -> Result<()> {
    ledger.claim("alpha", &["src"]).await?;
    ledger.advance(LEASE_MS - 1).await;
    assert!(ledger.claim("beta", &["src"]).await.is_err());
    ledger.advance(1).await;
    ledger.claim("beta", &["src"]).await?;
    assert_eq!(ledger.held().await?, ["beta:src"], "the other has ended, seen by a check or not");
    assert_eq!(ledger.check().await?.claims, 1);
    assert_eq!(ledger.count("claim.expired").await, 1);
    Ok(())
}

async fn an_agent_never_conflicts_with_itself_and_claims_anew_to_renew(ledger: TestLedger) -> Result<()> {
    let first = ledger.claim("alpha", &["src/**"]).await?;
    ledger.claim("alpha", &["src/a.rs"]).await?;
    ledger.advance(1_000).await;
    let again = ledger.claim("alpha", &["src/**", "src/**"]).await?;
    assert_eq!(again.len(), 1, "a name twice is one claim");
    assert_eq!(again[0].term, first[0].term);
    assert_eq!(again[0].expires_at, first[0].expires_at + 1_000);
    assert_eq!(ledger.held().await?, ["alpha:src/**", "alpha:src/a.rs"]);
    Ok(())
}

async fn waiters_are_served_first_come_first_served(ledger: TestLedger) -> Result<()> {
    ledger.claim("alpha", &["src/a.rs"]).await?;
    let wait = |agent, place| claim::Take { wait_ms: Some(30_000), place, ..want(agent, &["src/**"]) };
    let beta = place(ledger.store.write(wait("beta", None)).await?);
    let gamma = place(ledger.store.write(wait("gamma", None)).await?);
    assert!(ledger.claim("delta", &["src/b.rs"]).await.is_err(), "what beta waits for is kept for it");
    ledger.claim("alpha", &["src/b.rs"]).await?;
    ledger
        .store
        .write(Release { resources: texts(&["src/a.rs", "src/b.rs"]), by: holder("alpha", None) })
        .await?;
    let Grant::Waits { why, .. } = ledger.store.write(wait("gamma", Some(gamma))).await? else {
        panic!("beta was first")
    };
    assert!(why.contains("for which beta waits since earlier"), "{why}");
    assert!(matches!(ledger.store.write(wait("beta", Some(beta))).await?, Grant::Taken(_)));
    ledger.store.write(release("src/**", holder("beta", None))).await?;
    assert!(matches!(ledger.store.write(wait("gamma", Some(gamma))).await?, Grant::Taken(_)));
    ledger.store.write(release("src/**", holder("gamma", None))).await?;
    ledger.claim("delta", &["src"]).await?;
    Ok(())
}

fn place(grant: Grant) -> i64 {
    match grant {
        Grant::Waits { place, .. } => place,
        Grant::Taken(claims) => panic!("not free: {claims:?}"),
    }
}

async fn a_dead_waiter_and_one_whose_deadline_is_over_let_others_pass(ledger: TestLedger) -> Result<()> {
    let holding = claim::Take { ttl_ms: 600_000, ..want("alpha", &["src/a.rs"]) };
    ledger.store.write(holding).await?;
    let wait = |agent, wait_ms, place| claim::Take { wait_ms: Some(wait_ms), place, ..want(agent, &["src"]) };
    let beta = place(ledger.store.write(wait("beta", 600_000, None)).await?);
    assert!(ledger.claim("gamma", &["src/b.rs"]).await.is_err());
    ledger.advance(WAITER_GONE_MS).await;
    ledger.claim("gamma", &["src/b.rs"]).await?;
    ledger.store.write(release("src/b.rs", holder("gamma", None))).await?;
    place(ledger.store.write(wait("beta", 600_000, Some(beta))).await?);
    assert!(ledger.claim("gamma", &["src/b.rs"]).await.is_err(), "beta is back in its place");
    let short = place(ledger.store.write(wait("delta", 2_000, None)).await?);
    ledger.advance(2_000).await;
    let late =
        ledger.store.write(wait("delta", 2_000, Some(short))).await.expect_err("its time to wait is over");
    assert_eq!(late.kind, Kind::Conflict);
    ledger.advance(WAITER_GONE_MS + 1).await;
    ledger.check().await?;
    let anew = place(ledger.store.write(wait("beta", 600_000, Some(beta))).await?);
    assert!(anew > beta, "forgotten, it stands at the end");
    Ok(())
}

async fn who_leaves_the_queue_keeps_nobody_out(ledger: TestLedger) -> Result<()> {
    let holding = claim::Take { ttl_ms: 600_000, ..want("alpha", &["src/a.rs"]) };
    ledger.store.write(holding).await?;
    let wait = claim::Take { wait_ms: Some(600_000), ..want("beta", &["src"]) };
    let place = place(ledger.store.write(wait).await?);
    ledger.store.write(claim::Leave { agent: "gamma".into(), place }).await?;
    assert!(ledger.claim("gamma", &["src/b.rs"]).await.is_err(), "it is not gamma's place");
    ledger.store.write(claim::Leave { agent: "beta".into(), place }).await?;
    ledger.claim("gamma", &["src/b.rs"]).await.map(drop)
}

async fn a_place_in_the_queue_belongs_to_who_got_it(ledger: TestLedger) -> Result<()> {
    ledger.claim("alpha", &["src"]).await?;
    let wait = |agent, place| claim::Take { wait_ms: Some(30_000), place, ..want(agent, &["src"]) };
    let beta = place(ledger.store.write(wait("beta", None)).await?);
    let thief = place(ledger.store.write(wait("gamma", Some(beta))).await?);
    assert!(thief > beta);
    Ok(())
}

async fn nobody_is_kept_out_by_who_waits_for_him(ledger: TestLedger) -> Result<()> {
    ledger.claim("alpha", &["src/a.rs"]).await?;
    place(ledger.store.write(claim::Take { wait_ms: Some(30_000), ..want("beta", &["src"]) }).await?);
    ledger.claim("alpha", &["src/b.rs"]).await?;
    ledger.claim("alpha", &["src/a.rs"]).await?;
    assert_eq!(ledger.held().await?.len(), 2);
    Ok(())
}

async fn a_tasks_claims_live_and_end_with_its_holding(ledger: TestLedger) -> Result<()> {
    ledger.add(claiming("one", &["src/**", "port:1"])).await?;
    let taken = ledger.must_take("alpha").await?;
    assert_eq!(ledger.held().await?.len(), 2);
    ledger.advance(LEASE_MS + 1).await;
    assert!(ledger.claim("beta", &["src/a.rs"]).await.is_err(), "who may still write still holds");
    ledger
        .store
        .write(Progress { id: taken.task.id, term: taken.task.term, percent: Some(1), message: None })
        .await?;
    ledger.done(&taken).await?;
    assert!(ledger.held().await?.is_empty());
    assert_eq!(ledger.count("claim.released").await, 2);
    Ok(())
}

async fn every_end_of_a_holding_frees_its_claims(ledger: TestLedger) -> Result<()> {
    let id = ledger.add(NewTask { max_attempts: 9, ..claiming("one", &["src"]) }).await?;
    let again = || async {
        ledger.advance(10_000).await;
        ledger.check().await?;
        let taken = ledger.must_take("alpha").await?;
        assert_eq!(ledger.held().await?, ["alpha:src"]);
        Ok::<_, quorate_model::Error>(taken)
    };
    let taken = again().await?;
    ledger.fail(&taken, "boom").await?;
    assert!(ledger.held().await?.is_empty(), "failed");
    again().await?;
    ledger.advance(LEASE_MS + 1).await;
    ledger.check().await?;
    assert!(ledger.held().await?.is_empty(), "lapsed");
    let taken = again().await?;
    let give_back = quorate_service::task::Release { id, term: taken.task.term, reason: "stopping".into() };
    ledger.store.write(give_back).await?;
    assert!(ledger.held().await?.is_empty(), "given back");
    again().await?;
    ledger.store.write(quorate_service::task::Reassign { id, to: None, reason: "slow".into() }).await?;
    assert!(ledger.held().await?.is_empty(), "reassigned");
    ledger.advance(2_001).await;
    again().await?;
    ledger
        .store
        .write(quorate_service::task::Park { id, term: None, reason: "later".into(), until: None })
        .await?;
    assert!(ledger.held().await?.is_empty(), "parked");
    ledger.store.write(quorate_service::task::Unpark { id }).await?;
    again().await?;
    ledger.store.write(quorate_service::task::Cancel { id, reason: "no".into() }).await?;
    assert!(ledger.held().await?.is_empty(), "cancelled");
    Ok(())
}

async fn claims_stay_while_the_check_is_due_however_long_that_takes(ledger: TestLedger) -> Result<()> {
    let id = ledger.add(NewTask { verify: Some("true".into()), ..claiming("one", &["src"]) }).await?;
    let taken = ledger.must_take("alpha").await?;
    let extra = claim::Take { task: Some((id, taken.task.term)), ttl_ms: 5_000, ..want("alpha", &["docs"]) };
    ledger.store.write(extra).await?;
    ledger.done(&taken).await?;
    ledger.advance(LEASE_MS * 10).await;
    ledger.check().await?;
    assert_eq!(ledger.held().await?, ["alpha:src", "alpha:docs"]);
    let take_check = TakeCheck { task: Some(id), run: None, node: "1".into(), lease_ms: LEASE_MS };
    let task = ledger.store.write(take_check).await?.expect("a check is due");
    ledger.advance(LEASE_MS * 10).await;
    assert_eq!(ledger.held().await?.len(), 2);
    let settle =
        SettleCheck { id, term: task.term, failure: None, is_final: false, tail: None, retry_after_ms: 1 };
    ledger.store.write(settle).await?;
    assert!(ledger.held().await?.is_empty());
    Ok(())
}

async fn what_expired_and_went_to_another_is_not_brought_back_to_life(ledger: TestLedger) -> Result<()> {
    let id = ledger.add(NewTask { verify: Some("true".into()), ..command("one") }).await?;
    let taken = ledger.must_take("alpha").await?;
    let bound = claim::Take { task: Some((id, taken.task.term)), ttl_ms: 5_000, ..want("alpha", &["src"]) };
    ledger.store.write(bound).await?;
    ledger.advance(5_000).await;
    ledger.claim("beta", &["src/a.rs"]).await?;
    ledger.store.write(Progress { id, term: taken.task.term, percent: None, message: None }).await?;
    let held = quorate_service::task::Held { id, term: taken.task.term, active: true };
    let renew = quorate_service::task::Renew {
        held: vec![held],
        agents: vec![],
        node: "1".into(),
        lease_ms: LEASE_MS,
    };
    ledger.store.write(renew).await?;
    ledger.done(&taken).await?;
    assert_eq!(ledger.state(id).await?, TaskState::Verifying);
    assert_eq!(ledger.held().await?, ["beta:src/a.rs"]);
    Ok(())
}

async fn a_bound_claim_is_renewed_with_its_task_and_ends_with_it(ledger: TestLedger) -> Result<()> {
    let id = ledger.add(command("one")).await?;
    let taken = ledger.must_take("alpha").await?;
    let bound = claim::Take { task: Some((id, taken.task.term)), ..want("alpha", &["src"]) };
    ledger.store.write(bound).await?;
    for _ in 0..3 {
        ledger.advance(LEASE_MS - 1).await;
        ledger.store.write(Progress { id, term: taken.task.term, percent: None, message: None }).await?;
    }
    assert_eq!(ledger.held().await?, ["alpha:src"]);
    ledger.done(&taken).await?;
    assert!(ledger.held().await?.is_empty());
    Ok(())
}

async fn a_claim_for_a_task_needs_its_current_term_and_its_owner(ledger: TestLedger) -> Result<()> {
    let id = ledger.add(command("one")).await?;
    let taken = ledger.must_take("alpha").await?;
    let bound = |agent, term| claim::Take { task: Some((id, term)), ..want(agent, &["src"]) };
    let stale = ledger.store.write(bound("alpha", Term(7))).await.expect_err("not its term");
    assert_eq!(stale.kind, Kind::Stale);
    let other = ledger.store.write(bound("beta", taken.task.term)).await.expect_err("not its owner");
    assert_eq!(other.kind, Kind::Conflict);
    assert!(ledger.held().await?.is_empty());
    assert_eq!(ledger.count("write.refused").await, 2);
    Ok(())
}

async fn a_stale_release_is_refused_and_logged_and_changes_nothing(ledger: TestLedger) -> Result<()> {
    let old = ledger.claim("alpha", &["src"]).await?[0].term;
    ledger.advance(LEASE_MS).await;
    let new = ledger.claim("beta", &["src"]).await?[0].term;
    assert!(new > old);
    for by in [holder("alpha", Some(old)), holder("beta", Some(old)), holder("beta", Some(Term(new.0 + 9)))] {
        let error = ledger.store.write(release("src", by)).await.expect_err("not the current term");
        assert_eq!(error.kind, Kind::Stale, "{error}");
    }
    let other =
        ledger.store.write(release("src", holder("alpha", None))).await.expect_err("another holds it");
    assert_eq!(other.kind, Kind::Conflict);
    assert_eq!(ledger.count("write.refused").await, 4);
    assert_eq!(ledger.held().await?, ["beta:src"]);
    let nobody =
        ledger.store.write(release("docs", holder("alpha", None))).await.expect_err("nobody holds it");
    assert_eq!(nobody.kind, Kind::NotFound);
    ledger.store.write(release("src", holder("beta", Some(new)))).await?;
    let ended =
        ledger.store.write(release("src", holder("beta", Some(new)))).await.expect_err("it has ended");
    assert_eq!(ended.kind, Kind::Stale);
    Ok(())
}

async fn a_release_of_several_is_all_or_nothing(ledger: TestLedger) -> Result<()> {
    ledger.claim("alpha", &["src", "docs"]).await?;
    let both = Release { resources: texts(&["src", "tests"]), by: holder("alpha", None) };
    assert!(ledger.store.write(both).await.is_err());
    assert_eq!(ledger.held().await?.len(), 2);
    let twice = Release { resources: texts(&["src", "src"]), by: holder("alpha", None) };
    assert_eq!(ledger.store.write(twice).await?.len(), 1);
    Ok(())
}

async fn a_person_ends_any_claim_with_a_reason_and_the_next_term_is_higher(ledger: TestLedger) -> Result<()> {
    let old = ledger.claim("alpha", &["deploy:prod"]).await?[0].term;
    let force = Releaser::Force { reason: "alpha is on holiday".into() };
    let ended = ledger.store.write(release("deploy:prod", force)).await?;
    assert_eq!(ended[0].agent, "alpha");
    let event = ledger.events().await.pop().expect("it is in the log");
    assert_eq!(event.message, "deploy:prod taken from alpha by force: alpha is on holiday");
    assert!(ledger.claim("beta", &["deploy:prod"]).await?[0].term > old);
    Ok(())
}

async fn a_renewal_keeps_what_is_alive_and_no_more(ledger: TestLedger) -> Result<()> {
    let one = ledger.claim("alpha", &["src"]).await?[0].term;
    ledger.advance(LEASE_MS / 2).await;
    let two = ledger.claim("alpha", &["docs"]).await?[0].term;
    ledger.advance(LEASE_MS / 2).await;
    let renew = claim::Renew { terms: vec![one, two, Term(99)], ttl_ms: LEASE_MS };
    assert_eq!(ledger.store.write(renew).await?, [two]);
    ledger.advance(LEASE_MS - 1).await;
    assert_eq!(ledger.held().await?, ["alpha:docs"]);
    Ok(())
}

async fn nothing_too_many_and_no_time_are_bad_input(ledger: TestLedger) -> Result<()> {
    let many: Vec<String> = (0..=RESOURCES_MAX).map(|n| format!("port:{n}")).collect();
    let most = claim::Take { resources: many[1..].to_vec(), ..want("alpha", &[]) };
    assert!(matches!(ledger.store.write(most).await?, Grant::Taken(list) if list.len() == RESOURCES_MAX));
    for wrong in [
        claim::Take { resources: many, ..want("alpha", &[]) },
        want("alpha", &[]),
        claim::Take { ttl_ms: 0, ..want("alpha", &["src"]) },
        want("alpha", &["../outside"]),
        want("alpha", &[&"a".repeat(10_000)]),
    ] {
        assert_eq!(ledger.store.write(wrong).await.expect_err("refused").kind, Kind::Invalid);
    }
    Ok(())
}

async fn a_task_whose_claims_are_held_is_passed_over_with_the_reason(ledger: TestLedger) -> Result<()> {
    let wide = ledger.add(NewTask { priority: 0, ..claiming("wide", &["src/**"]) }).await?;
    let other = ledger.add(claiming("other", &["docs"])).await?;
    ledger.claim("alpha", &["src/a.rs"]).await?;
    assert_eq!(ledger.must_take("beta").await?.task.id, other);
    let story = ledger.story(wide).await?;
    let reason = story.task.reason.clone().expect("it says why");
    assert!(reason.starts_with("waits for src/**, held (as src/a.rs) by alpha until "), "{reason}");
    assert_eq!(quorate_service::why::why(&story), Some(reason));
    assert!(ledger.take("beta").await?.is_none());
    assert_eq!(ledger.count("claim.refused").await, 1, "said once, not at every look");
    assert_eq!(ledger.must_take("alpha").await?.task.id, wide, "an agent never conflicts with itself");
    Ok(())
}

async fn two_takers_that_are_refused_for_different_reasons_do_not_fill_the_log(
    ledger: TestLedger,
) -> Result<()> {
    ledger.add(claiming("both", &["x", "y"])).await?;
    ledger.claim("alpha", &["x"]).await?;
    ledger.claim("beta", &["y"]).await?;
    for _ in 0..10 {
        assert!(ledger.take("alpha").await?.is_none() && ledger.take("beta").await?.is_none());
    }
    assert_eq!(ledger.count("claim.refused").await, 1, "each would be news after the other");
    ledger.advance(5_001).await;
    for _ in 0..10 {
        assert!(ledger.take("beta").await?.is_none() && ledger.take("alpha").await?.is_none());
    }
    assert_eq!(ledger.count("claim.refused").await, 2, "rarely it is said");
    Ok(())
}

async fn a_free_task_is_found_behind_any_number_of_blocked_ones(ledger: TestLedger) -> Result<()> {
    let blocked = (0..700).map(|n| claiming("blocked", &[&format!("src/{n}.rs")]));
    let same = (0..300).map(|_| claiming("same", &["src"]));
    let tasks = blocked.chain(same).chain([claiming("free", &["docs"])]).collect();
    let ids = ledger.store.write(quorate_service::task::Add { run: None, tasks, by: None }).await?;
    ledger.claim("alpha", &["src"]).await?;
    assert_eq!(ledger.must_take("beta").await?.task.id, ids[1_000]);
    assert!(ledger.count("claim.refused").await <= 16, "one take writes a few notes, not a thousand");
    Ok(())
}

async fn a_wide_task_that_waited_long_keeps_later_narrow_ones_out(ledger: TestLedger) -> Result<()> {
    ledger.add(claiming("narrow", &["src/a.rs"])).await?;
    let first = ledger.must_take("alpha").await?;
    let wide = ledger.add(claiming("wide", &["src/**"])).await?;
    let second = ledger.add(claiming("narrow", &["src/b.rs"])).await?;
    let third = ledger.add(claiming("narrow", &["src/c.rs"])).await?;
    let beta = ledger.must_take("beta").await?;
    assert_eq!(beta.task.id, second, "at first the narrow ones go on");
    ledger.advance(PATIENCE_MS).await;
    for holding in [&first, &beta] {
        let (id, term) = (holding.task.id, holding.task.term);
        ledger.store.write(Progress { id, term, percent: None, message: None }).await?;
    }
    assert!(ledger.take("gamma").await?.is_none(), "the wide one has waited long enough");
    assert!(ledger.claim("delta", &["src/z.rs"]).await.is_err(), "a claim from outside is kept out too");
    ledger.done(&first).await?;
    ledger.done(&beta).await?;
    let gamma = ledger.must_take("gamma").await?;
    assert_eq!(gamma.task.id, wide);
    assert!(ledger.take("alpha").await?.is_none());
    ledger.done(&gamma).await?;
    assert_eq!(ledger.must_take("alpha").await?.task.id, third);
    Ok(())
}

async fn a_task_that_nobody_looks_at_keeps_nobody_out(ledger: TestLedger) -> Result<()> {
    ledger.store.write(claim::Take { ttl_ms: 3_600_000, ..want("alpha", &["src/a.rs"]) }).await?;
    let wide = NewTask { capability: Some("rare".into()), ..claiming("wide", &["src/**"]) };
    ledger.add(wide).await?;
    assert!(ledger.take("expert").await?.is_none());
    ledger.advance(PATIENCE_MS + WAITER_GONE_MS).await;
    ledger.claim("beta", &["src/b.rs"]).await?;
    Ok(())
}

async fn two_takers_never_hold_overlapping_claims(ledger: TestLedger) -> Result<()> {
    for n in 0..24 {
        ledger.add(claiming("one", &[["src/**", "src/a.rs", "docs"][n % 3]])).await?;
    }
    let mut takers = tokio::task::JoinSet::new();
    for n in 0..8 {
        let store = ledger.store.clone();
        takers.spawn(async move {
            let agent = format!("agent-{n}");
            let mut done = 0;
            while let Some(taken) = store.write(next_of(&agent)).await?.task() {
                let claims = store.read(quorate_service::view::Claims::default()).await?;
                let src = claims.iter().filter(|claim| claim.resource.starts_with("src")).count();
                assert!(src <= 1, "{claims:?}");
                store
                    .write(Done { id: taken.task.id, term: taken.task.term, result: None, tail: None })
                    .await?;
                done += 1;
            }
            Ok::<usize, quorate_model::Error>(done)
        });
    }
    let mut done = 0;
    while let Some(taker) = takers.join_next().await {
        done += taker.expect("no taker panics")?;
    }
    while let Some(taken) = ledger.take("last").await? {
        ledger.done(&taken).await?;
        done += 1;
    }
    assert_eq!(done, 24);
    Ok(())
}

async fn a_taker_that_holds_a_task_gets_it_back(ledger: TestLedger) -> Result<()> {
    ledger.add(claiming("one", &["src"])).await?;
    let taken = ledger.must_take("alpha").await?;
    let again = Take { resume: true, lease_ms: 2 * LEASE_MS, ..next_of("alpha") };
    let again = ledger.store.write(again).await?.task().expect("its own task");
    assert_eq!((again.task.id, again.task.term), (taken.task.id, taken.task.term));
    assert_eq!(again.task.lease_until, taken.task.lease_until.map(|until| until + LEASE_MS));
    let last = Fail { is_final: true, ..failure(&again, "of no use") };
    assert_eq!(ledger.store.write(last).await?, TaskState::Failed);
    Ok(())
}

async fn what_is_told_of_a_tasks_claims_names_its_run(ledger: TestLedger) -> Result<()> {
    let ends = |title, claims: &[&str]| NewTask { max_attempts: 1, ..claiming(title, claims) };
    let (run, ids) = ledger.start(vec![ends("one", &["src"]), ends("two", &["docs"])]).await?;
    let taken = ledger.must_take("alpha").await?;
    let bound = |resource| claim::Take {
        task: Some((ids[0], taken.task.term)),
        ttl_ms: 5_000,
        ..want("alpha", &[resource])
    };
    ledger.store.write(bound("port:1")).await?;
    ledger.store.write(bound("port:2")).await?;
    ledger.store.write(release("port:1", holder("alpha", None))).await?;
    ledger.advance(5_000).await;
    assert_eq!(ledger.check().await?.claims, 1);
    ledger.done(&taken).await?;
    let supervised = Take { node: Some("1".into()), ..next_of("beta") };
    let left = ledger.store.write(supervised).await?.task().expect("it is ready").task;
    ledger.store.write(Cancel { id: left.id, reason: "not wanted".into() }).await?;
    ledger.store.write(Gone { task: left.id, attempt: left.attempt, term: left.term }).await?;
    ledger.claim("alpha", &["apart"]).await?;
    let told = ledger.events().await.into_iter().filter(|event| event.kind.starts_with("claim."));
    let told: Vec<String> = told
        .map(|event| format!("{} {}", event.kind, event.run.map_or("-".into(), |run| run.to_string())))
        .collect();
    let of_run = |kind: &str| told.iter().filter(|line| **line == format!("claim.{kind} {run}")).count();
    assert_eq!([of_run("taken"), of_run("released"), of_run("expired")], [4, 3, 1], "{told:?}");
    assert_eq!((told.len(), told.last().map(String::as_str)), (9, Some("claim.taken -")), "{told:?}");
    Ok(())
}

on_every_backend!(
    what_is_told_of_a_tasks_claims_names_its_run,
    who_leaves_the_queue_keeps_nobody_out,
    what_is_taken_away_stays_held_until_its_child_is_gone,
    what_is_taken_away_from_a_silent_supervisor_is_free_when_its_lease_ends,
    names_that_overlap_exclude_each_other_unless_both_share,
    a_refused_claim_leaves_nothing_held_and_says_who_for_what_until_when,
    a_claim_ends_by_its_time_and_not_before,
    an_agent_never_conflicts_with_itself_and_claims_anew_to_renew,
    waiters_are_served_first_come_first_served,
    a_dead_waiter_and_one_whose_deadline_is_over_let_others_pass,
    a_place_in_the_queue_belongs_to_who_got_it,
    nobody_is_kept_out_by_who_waits_for_him,
    a_tasks_claims_live_and_end_with_its_holding,
    every_end_of_a_holding_frees_its_claims,
    claims_stay_while_the_check_is_due_however_long_that_takes,
    what_expired_and_went_to_another_is_not_brought_back_to_life,
    a_bound_claim_is_renewed_with_its_task_and_ends_with_it,
    a_claim_for_a_task_needs_its_current_term_and_its_owner,
    a_stale_release_is_refused_and_logged_and_changes_nothing,
    a_release_of_several_is_all_or_nothing,
    a_person_ends_any_claim_with_a_reason_and_the_next_term_is_higher,
    a_renewal_keeps_what_is_alive_and_no_more,
    nothing_too_many_and_no_time_are_bad_input,
    a_task_whose_claims_are_held_is_passed_over_with_the_reason,
    two_takers_that_are_refused_for_different_reasons_do_not_fill_the_log,
    a_free_task_is_found_behind_any_number_of_blocked_ones,
    a_wide_task_that_waited_long_keeps_later_narrow_ones_out,
    a_task_that_nobody_looks_at_keeps_nobody_out,
    two_takers_never_hold_overlapping_claims,
    a_taker_that_holds_a_task_gets_it_back,
);

//! After a failover to a standby that had not heard of the last commits, nothing that was given there is given again.
//!
//! A change of timeline is all that the ledger sees of it, so that is what is put into it here. The real thing, with two
//! servers, is `cargo xtask fire trouble failover-async`.

use quorate_model::Kind;
use quorate_service::SCHEMA;
use quorate_service::claim::Grant;
use quorate_service::doctor::Ask;
use quorate_service::task::{Add, Done, Taken};
use quorate_store::{Options, Store, Url};
use quorate_testkit::postgres::Schema;
use quorate_testkit::verbs::{command, next_of, want};

type Tested<T = ()> = Result<T, Box<dyn std::error::Error>>;

async fn open(schema: &Schema) -> quorate_model::Result<Store> {
    Store::open(&Url::Pg(schema.url().to_owned()), Options::new(&SCHEMA)).await
}

async fn take(store: &Store, agent: &str) -> Tested<Taken> {
    Ok(store.write(next_of(agent)).await?.task().ok_or("a task is ready")?)
}

async fn claim(store: &Store, agent: &str, resource: &str) -> Tested<i64> {
    match store.write(want(agent, &[resource])).await? {
        Grant::Taken(claims) => Ok(claims.first().ok_or("it was taken")?.term.0),
        Grant::Waits { why, .. } => Err(why.into()),
    }
}

fn last_place(schema: &Schema) -> Tested<i64> {
    Ok(schema.psql("select max(seq) from events")?.parse()?)
}

#[tokio::test]
async fn terms_claims_and_the_log_jump_over_what_a_lost_primary_may_have_given() -> Tested {
    let schema = Schema::create();
    let store = open(&schema).await?;
    store.write(Add { run: None, tasks: vec![command("a"), command("b"), command("c")], by: None }).await?;
    let (held, first, seen) =
        (take(&store, "ada").await?, claim(&store, "ada", "port:1").await?, last_place(&schema)?);
    drop(store);

    schema.psql("update log_era set timeline = timeline + 1")?;
    let store = open(&schema).await?;
    let next = take(&store, "bob").await?;
    assert!(next.task.term.0 > held.task.term.0 + 1000, "{}", next.task.term);
    assert!(claim(&store, "bob", "port:2").await? > first + 100_000);
    assert!(last_place(&schema)? > seen + (1 << 40));
    let told = schema.psql("select term from claim_task('eve')")?;
    assert!(told.parse::<i64>()? > 1000, "{told}");

    // Who holds something that the standby had heard of goes on.
    let done = |term| Done { id: held.task.id, term, result: None, tail: None };
    store.write(done(held.task.term)).await?;
    // A term that the lost primary gave is below the one that is given next.
    let lost = quorate_model::Term(next.task.term.0 - 500);
    let refused =
        store.write(Done { id: next.task.id, ..done(lost) }).await.expect_err("it was never given here");
    assert_eq!(refused.kind, Kind::Stale);
    Ok(())
}

#[tokio::test]
async fn while_the_server_stays_the_same_terms_grow_by_one() -> Tested {
    let schema = Schema::create();
    let store = open(&schema).await?;
    store.write(Add { run: None, tasks: vec![command("a"), command("b")], by: None }).await?;
    let one = take(&store, "ada").await?;
    drop(store);
    let two = take(&open(&schema).await?, "bob").await?;
    assert_eq!((one.task.term.0, two.task.term.0), (1, 1));
    Ok(())
}

#[tokio::test]
async fn an_address_that_weakens_commits_is_seen_and_a_server_that_does_is_overruled() -> Tested {
    let schema = Schema::create();
    let asked = |url: String| async move {
        let store = Store::open(&Url::Pg(url), Options::new(&SCHEMA)).await?;
        store.read(Ask).await.map(|vitals| vitals.is_forgetful)
    };
    // The tests' server has synchronous_commit off for all: what a write asks for counts.
    assert!(!asked(schema.url().to_owned()).await?);
    assert!(asked(format!("{}%20-csynchronous_commit%3Doff", schema.url())).await?);
    Ok(())
}

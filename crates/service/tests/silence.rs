//! Connections to PostgreSQL that fall silent without being closed, as behind a firewall that has forgotten them.

use quorate_model::Kind;
use quorate_service::SCHEMA;
use quorate_service::agent::Add;
use quorate_service::task;
use quorate_service::view::{Claims, Tasks};
use quorate_store::{Options, Store, Url};
use quorate_testkit::cluster::SOCKET_NAME;
use quorate_testkit::postgres::Schema;
use quorate_testkit::proxy::{Proxy, Still};
use quorate_testkit::verbs::{command, next_of};
use std::path::Path;
use std::time::{Duration, Instant};

type Tested = Result<(), Box<dyn std::error::Error>>;

/// How long an answer is waited for here.
const ANSWER: Duration = Duration::from_secs(1);
/// No test may take as long as someone who waits for ever.
const FOR_EVER: Duration = Duration::from_secs(20);

/// A proxy before the tests' server, and a ledger of its own behind it.
fn relayed() -> Result<(Proxy, Schema, String), Box<dyn std::error::Error>> {
    let schema = Schema::create();
    let part = |name: &str| {
        let mut parts = schema.url().split(['?', '&']);
        parts
            .find_map(|part| part.strip_prefix(name))
            .map(str::to_owned)
            .ok_or("the tests' server is on a socket")
    };
    let proxy = Proxy::to(&Path::new(&part("host=")?).join(SOCKET_NAME))?;
    let options = format!("options={}", part("options=")?);
    Ok((proxy, schema, options))
}

async fn open(hosts: &str, options: &str, connections: usize) -> quorate_model::Result<Store> {
    let url = Url::parse(&format!("postgres://postgres@{hosts}/postgres?{options}"), Path::new("/"))?;
    Store::open(&url, Options { connections, answer: ANSWER, ..Options::new(&SCHEMA) }).await
}

fn add(name: &str) -> Add {
    Add { name: name.into(), driver: None, capabilities: None }
}

#[tokio::test]
async fn who_waits_on_a_silent_connection_is_told_in_time_and_the_next_gets_a_new_one() -> Tested {
    let (proxy, _schema, options) = relayed()?;
    let store = open(&format!("127.0.0.1:{}", proxy.port()), &options, 4).await?;
    // All connections of the pool are made, and lie idle.
    let made = tokio::join!(
        store.write(add("a")),
        store.write(add("b")),
        store.write(add("c")),
        store.write(add("d"))
    );
    made.0.and(made.1).and(made.2).and(made.3)?;
    store.read(Claims::default()).await?;
    // Others are told of a write a moment later, over a connection for reads: that is over by now.
    tokio::time::sleep(ANSWER / 4).await;
    proxy.silence();
    let begun = Instant::now();
    tokio::time::timeout(FOR_EVER, store.read(Claims::default())).await?.expect_err("nobody answers");
    store.read(Claims::default()).await?;
    let error = tokio::time::timeout(FOR_EVER, store.write(add("ada"))).await?.expect_err("nobody answers");
    assert_eq!(error.kind, Kind::Unavailable);
    assert!(error.message.contains("did not answer within 1s") && error.hint.is_some(), "{error}");
    store.write(add("ada")).await?;
    assert!(begun.elapsed() < FOR_EVER, "the other three idle ones were not tried one by one");
    Ok(())
}

#[tokio::test]
async fn who_gives_up_waiting_leaves_no_silent_connection_to_the_next() -> Tested {
    let (proxy, _schema, options) = relayed()?;
    let store = open(&format!("127.0.0.1:{}", proxy.port()), &options, 1).await?;
    store.write(add("ada")).await?;
    proxy.silence();
    let given_up = tokio::time::timeout(ANSWER / 4, store.write(add("bob"))).await;
    assert!(given_up.is_err(), "nobody answers");
    tokio::time::timeout(ANSWER / 2, store.write(add("bob"))).await??;
    Ok(())
}

#[tokio::test]
async fn the_end_of_a_program_does_not_wait_for_a_silent_connection() -> Tested {
    let (proxy, _schema, options) = relayed()?;
    let store = open(&format!("127.0.0.1:{}", proxy.port()), &options, 2).await?;
    store.write(add("ada")).await?;
    proxy.be_deaf(true);
    tokio::time::timeout(FOR_EVER, store.write(add("bob"))).await?.expect_err("nobody answers");
    tokio::time::timeout(FOR_EVER, store.close()).await?;
    Ok(())
}

#[tokio::test]
async fn a_host_that_takes_a_connection_and_says_nothing_does_not_hide_the_next() -> Tested {
    let (deaf, _schema, options) = relayed()?;
    let (proxy, _other, _) = relayed()?;
    deaf.be_deaf(true);
    let hosts = format!("127.0.0.1:{},127.0.0.1:{}", deaf.port(), proxy.port());
    let store = tokio::time::timeout(FOR_EVER, open(&hosts, &options, 1)).await??;
    store.write(add("ada")).await?;
    Ok(())
}

/// Three take at the same moment, in one statement. The server does it, and the connection breaks before it can say so: to
/// ask each again by itself would give them three more.
#[tokio::test]
async fn takers_whose_common_answer_is_lost_are_not_given_other_tasks_instead() -> Tested {
    let schema = Schema::create();
    let direct = Store::open(&Url::Pg(schema.url().to_owned()), Options::new(&SCHEMA)).await?;
    let (proxy, url) = Proxy::before(schema.url())?;
    let store = Store::open(&Url::Pg(url), Options { connections: 1, ..Options::new(&SCHEMA) }).await?;
    let tasks = (0..9).map(|n| command(&format!("task {n}"))).collect();
    direct.write(task::Add { run: None, tasks, by: None }).await?;
    let three = || async {
        tokio::join!(store.write(next_of("ada")), store.write(next_of("bob")), store.write(next_of("cy")),)
    };
    // Once, so that all that it takes has been prepared.
    let (ada, bob, cy) = three().await;
    assert!([ada?, bob?, cy?].into_iter().all(|answer| answer.task().is_some()));
    proxy.stand(Still::Answers);
    let lost = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        proxy.close();
        tokio::time::sleep(Duration::from_millis(200)).await;
        proxy.stand(Still::Nothing);
    };
    let (answers, ()) = tokio::join!(three(), lost);
    let taken = direct.read(Tasks { state: Some("running".into()), ..Tasks::default() }).await?.len();
    assert_eq!(taken, 6, "three before, three unheard of: {answers:?}");
    assert!(answers.0.is_err() && answers.1.is_err() && answers.2.is_err(), "{answers:?}");
    Ok(())
}

//! The schema of a ledger on PostgreSQL: made, brought up to date, and settled after a restore elsewhere.
//!
//! Here lives what happens once, when a ledger is opened. The steps themselves are the caller's.

use super::door::{Door, first};
use super::wrong::{text, unheard, wrong};
use super::{TRIES_MAX, is_conflict, pause};
use crate::line::{Silent, heard};
use crate::migrate::Schema;
use crate::pooler;
use crate::tls::Server;
use quorate_model::{Error, Result};
use std::time::Duration;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

/// How long a migration may take, with the waiting for another's.
const MIGRATION_WAIT: Duration = Duration::from_secs(600);

/// Brings the schema up to date and returns the name of the channel for wake-ups.
pub(super) async fn prepare(door: &Door, server: &Server, schema: &Schema) -> Result<String> {
    let shown = &door.way.shown;
    if server.pooler.is_none() && door.ask(pooler::SEE_SIGN).await?.as_deref() != Some("direct") {
        let message = format!("something between here and {shown} drops the settings of a connection");
        return Err(Error::unavailable(message).hint(pooler::MENTION_IT));
    }
    let channel = format!("quorate_{}", door.ask("select current_schema()").await?.unwrap_or_default());
    if found(door).await? != schema.version() {
        let mut lent = door.lent().await?;
        let migrated = tokio::time::timeout(MIGRATION_WAIT, migrate(lent.client(), door, schema)).await;
        // Whether it came to its end is seen by the next who looks: it is one transaction.
        migrated.unwrap_or_else(|_| {
            lent.is_unfit();
            Err(unheard(Silent(MIGRATION_WAIT), shown))
        })?;
    }
    settle_era(door).await?;
    Ok(channel)
}

async fn found(door: &Door) -> Result<i64> {
    let mut lent = door.lent().await?;
    let (client, asked) = lent.parts();
    door.timely(heard(asked, door.way.patience, version(client, &door.way.settings)).await)
}

async fn version(client: &Client, settings: &str) -> Result<i64, tokio_postgres::Error> {
    match first(client, settings, "select value from meta where key = 'schema'").await {
        Ok(value) => Ok(value.and_then(|value| value.parse().ok()).unwrap_or(0)),
        Err(e) if e.code() == Some(&SqlState::UNDEFINED_TABLE) => Ok(0),
        Err(e) => Err(e),
    }
}

/// Runs the steps that are missing, in one transaction.
async fn migrate(client: &Client, door: &Door, schema: &Schema) -> Result<()> {
    let migrated = steps(client, door, schema).await;
    if migrated.is_err() {
        // Where that cannot be said either, the end of the connection says it.
        let _ = client.batch_execute("rollback").await;
    }
    migrated
}

async fn steps(client: &Client, door: &Door, schema: &Schema) -> Result<()> {
    let (shown, settings) = (&door.way.shown, &door.way.settings);
    // Two processes that meet a new database take turns; the second finds the work done.
    let begin = format!(
        "begin isolation level read committed; {settings}set local lock_timeout = 0;
         select pg_advisory_xact_lock(hashtext('quorate.schema'));
         create table if not exists meta (key text primary key, value text not null)"
    );
    client.batch_execute(&begin).await.map_err(|e| failed("its first table", &e, shown))?;
    let found = version(client, "").await.map_err(|e| wrong(&e, shown))?;
    for step in schema.missing(found, shown)? {
        client.batch_execute(step.pg).await.map_err(|e| failed(step.name, &e, shown))?;
    }
    let note = format!(
        "insert into meta (key, value) values ('schema', '{}') on conflict (key) do update set value = excluded.value;
         commit",
        schema.version()
    );
    client.batch_execute(&note).await.map_err(|e| wrong(&e, shown))
}

fn failed(name: &str, e: &tokio_postgres::Error, shown: &str) -> Error {
    let error = Error::unavailable(format!("cannot make the schema ({name}) in {shown}: {}", text(e)));
    match e.code() {
        Some(&SqlState::INSUFFICIENT_PRIVILEGE) => error.hint(
            "the owner makes it: run any command, as in `quorate status`, under that role, then `quorate sql roles` for the rights of the others",
        ),
        _ => error.hint("use an empty database, or an empty schema with ?options=-csearch_path%3DNAME"),
    }
}

/// Does what is a transaction by itself, again where another stood in its way.
async fn again<T, F>(work: impl Fn() -> F) -> Result<T, tokio_postgres::Error>
where
    F: Future<Output = Result<T, tokio_postgres::Error>>,
{
    let mut tries = 1;
    loop {
        let answer = work().await;
        let conflict = answer.as_ref().is_err_and(is_conflict);
        if !conflict || tries >= TRIES_MAX {
            return answer;
        }
        tokio::time::sleep(pause(tries)).await;
        tries += 1;
    }
}

/// After a dump was restored into another cluster, transaction numbers begin lower: the era makes up for it.
///
/// It is looked at first: whoever may not change it can then begin nothing that needs it changed.
async fn settle_era(door: &Door) -> Result<()> {
    if door.ask(ERA_IS_LOW).await?.is_none() {
        return Ok(());
    }
    let mut lent = door.lent().await?;
    let (client, asked) = lent.parts();
    let raise = format!("{}{RAISE_ERA}", door.way.settings);
    match heard(asked, door.way.patience, again(|| client.batch_execute(&raise))).await {
        Ok(Err(e)) if e.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => {
            let message = format!("the ledger {} comes from another server", door.way.shown);
            Err(Error::unavailable(message).hint("its owner settles that: run any command, as in `quorate status`, under the role that owns the tables"))
        }
        answer => door.timely(answer),
    }
}

macro_rules! era_is_low {
    () => {
        " from log_era where (select max(seq) >> 20 from events) > era + pg_snapshot_xmax(pg_current_snapshot())::text::bigint"
    };
}
const ERA_IS_LOW: &str = concat!("select 1", era_is_low!());
const RAISE_ERA: &str = concat!(
    "update log_era set era = (select max(seq) >> 20 from events) + 1 where exists (select 1",
    era_is_low!(),
    ")"
);

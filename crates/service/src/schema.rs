//! The tables, as ordered plain SQL for each database.
//!
//! Here live the list of migrations and the statements that move leases when the wall clock is stepped.
//! A migration is never changed once released; the next one is added below it.

use quorate_store::{Migration, Schema};

/// The schema that this program knows.
pub static SCHEMA: Schema = Schema {
    migrations: &[Migration {
        name: "the ledger",
        lite: include_str!("../migrations/sqlite/0001.sql"),
        pg: include_str!("../migrations/postgres/0001.sql"),
    }],
    shift_leases: &[
        "update tasks set lease_until = lease_until + $1 where lease_until is not null",
        "update tasks set active_at = active_at + $1 where state = 'running'",
        "update agents set lease_until = lease_until + $1, heartbeat_at = heartbeat_at + $1
          where lease_until is not null",
        "update nodes set lease_until = lease_until + $1 where stopped_at is null",
        "update leaders set lease_until = lease_until + $1",
        "update claims set expires_at = expires_at + $1",
        "update claim_waits set deadline = deadline + $1, seen_at = seen_at + $1",
    ],
};

//! The tables, as ordered plain SQL for each database.
//!
//! Here live the list of migrations, the statements that move leases when the wall clock is stepped, and what the owner
//! of a ledger on PostgreSQL runs by hand.
//! A migration is never changed once released; the next one is added below it.

use quorate_store::{Migration, Schema};

/// What the owner of a ledger on PostgreSQL runs to give the other roles their rights.
pub const ROLES_SQL: &str = include_str!("../sql/roles.sql");

/// What the owner of a ledger on PostgreSQL runs once after it was restored to an earlier moment.
pub const RESTORED_SQL: &str = include_str!("../sql/restored.sql");

/// The schema that this program knows.
pub static SCHEMA: Schema = Schema {
    migrations: &[
        Migration {
            name: "the ledger",
            lite: include_str!("../migrations/sqlite/0001.sql"),
            pg: include_str!("../migrations/postgres/0001.sql"),
        },
        Migration {
            name: "memory",
            lite: include_str!("../migrations/sqlite/0002.sql"),
            pg: include_str!("../migrations/postgres/0002.sql"),
        },
        Migration {
            name: "tokens of agents",
            lite: include_str!("../migrations/sqlite/0003.sql"),
            pg: include_str!("../migrations/postgres/0003.sql"),
        },
        Migration {
            name: "usage and budgets",
            lite: include_str!("../migrations/sqlite/0004.sql"),
            pg: include_str!("../migrations/postgres/0004.sql"),
        },
        Migration {
            name: "sessions",
            lite: include_str!("../migrations/sqlite/0006.sql"),
            pg: include_str!("../migrations/postgres/0006.sql"),
        },
        Migration {
            name: "vectors of memories",
            lite: include_str!("../migrations/sqlite/0007.sql"),
            pg: include_str!("../migrations/postgres/0007.sql"),
        },
        Migration {
            name: "conditions in place",
            lite: include_str!("../migrations/sqlite/0008.sql"),
            pg: include_str!("../migrations/postgres/0008.sql"),
        },
        Migration {
            name: "leases of sessions",
            lite: include_str!("../migrations/sqlite/0009.sql"),
            pg: include_str!("../migrations/postgres/0009.sql"),
        },
    ],
    shift_leases: &[
        "update tasks set lease_until = lease_until + $1 where lease_until is not null",
        "update tasks set active_at = active_at + $1 where state = 'running'",
        // What goes on keeps its age, so that it takes as long as it takes.
        "update tasks set started_at = started_at + $1 where state in ('running', 'verifying')",
        "update attempts set started_at = started_at + $1
          where ended_at is null and task_id in (select id from tasks where state in ('running', 'verifying'))",
        "update runs set created_at = created_at + $1 where state = 'running'",
        "update tasks set avoid_until = avoid_until + $1 where avoid_until is not null",
        // A retry's pause moves; what was asked for by the clock on the wall does not.
        "update tasks set due_at = due_at + $1
          where state = 'waiting' and due_at is not null and (not_before is null or due_at <> not_before)",
        "update tasks set claims_since = claims_since + $1, claims_seen = claims_seen + $1
          where state = 'ready' and claims_since is not null",
        "update agents set lease_until = lease_until + $1, heartbeat_at = heartbeat_at + $1
          where heartbeat_at is not null",
        "update nodes set lease_until = lease_until + $1 where stopped_at is null",
        "update leaders set lease_until = lease_until + $1",
        "update claims set expires_at = expires_at + $1",
        "update claim_waits set since = since + $1, deadline = deadline + $1, seen_at = seen_at + $1",
    ],
};

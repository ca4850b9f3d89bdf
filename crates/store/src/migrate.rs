//! Schema versions: plain SQL, in order, each in one transaction, never backwards.
//!
//! Here lives what a schema is and the refusal of a newer one. The texts of the migrations live in `service`.

use quorate_model::{Error, Result};

/// One step of the schema, for both databases.
#[derive(Debug)]
pub struct Migration {
    /// What it does, in a few words.
    pub name: &'static str,
    /// Statements for SQLite.
    pub lite: &'static str,
    /// Statements for PostgreSQL.
    pub pg: &'static str,
}

/// The schema that this program knows: version `n` is reached by the first `n` migrations.
#[derive(Debug)]
pub struct Schema {
    /// In order; never changed once released.
    pub migrations: &'static [Migration],
    /// Statements that move every stored lease by `$1` milliseconds, for when the wall clock was stepped.
    pub shift_leases: &'static [&'static str],
}

impl Schema {
    /// Returns the version this program knows.
    pub fn version(&self) -> i64 {
        i64::try_from(self.migrations.len()).expect("there are few migrations")
    }

    /// Returns the migrations that are still to be run at version `found`, or the refusal of a newer schema.
    pub(crate) fn missing(&self, found: i64, shown: &str) -> Result<&'static [Migration]> {
        let done = usize::try_from(found).unwrap_or(usize::MAX);
        self.migrations.get(done..).ok_or_else(|| newer(found, self.version(), shown))
    }
}

fn newer(found: i64, known: i64, shown: &str) -> Error {
    Error::unavailable(format!(
        "the ledger {shown} has schema version {found}, newer than version {known} that this quorate knows"
    ))
    .hint("use the newer quorate that wrote it (`quorate --version` shows yours)")
}

//! Cells of a result row, from either database.
//!
//! Here lives reading a named column as an integer or a text. What a row means lives in `service`.

use quorate_model::{Error, Result};
use tokio_postgres::types::Type;

/// One row of a result; columns are read by name.
#[derive(Debug)]
pub enum Row<'r> {
    /// From PostgreSQL.
    Pg(&'r tokio_postgres::Row),
    /// From SQLite.
    Lite(&'r rusqlite::Row<'r>),
}

impl Row<'_> {
    /// Returns an integer column that may be null.
    pub fn opt_int(&self, name: &str) -> Result<Option<i64>> {
        match self {
            Row::Pg(row) => pg_int(row, name).map_err(|e| wrong(name, &e)),
            Row::Lite(row) => row.get(name).map_err(|e| wrong(name, &e)),
        }
    }

    /// Returns a text column that may be null.
    pub fn opt_text(&self, name: &str) -> Result<Option<String>> {
        match self {
            Row::Pg(row) => row.try_get(name).map_err(|e| wrong(name, &e)),
            Row::Lite(row) => row.get(name).map_err(|e| wrong(name, &e)),
        }
    }

    /// Returns an integer column.
    pub fn int(&self, name: &str) -> Result<i64> {
        self.opt_int(name)?.ok_or_else(|| wrong(name, &"it is null"))
    }

    /// Returns a text column.
    pub fn text(&self, name: &str) -> Result<String> {
        self.opt_text(name)?.ok_or_else(|| wrong(name, &"it is null"))
    }

    /// Returns an integer column as a yes or no.
    pub fn flag(&self, name: &str) -> Result<bool> {
        Ok(self.int(name)? != 0)
    }
}

/// PostgreSQL gives literals (`case … then 1`) four bytes and columns eight.
fn pg_int(row: &tokio_postgres::Row, name: &str) -> Result<Option<i64>, tokio_postgres::Error> {
    let is_short = row.columns().iter().any(|column| column.name() == name && *column.type_() == Type::INT4);
    if is_short { Ok(row.try_get::<_, Option<i32>>(name)?.map(i64::from)) } else { row.try_get(name) }
}

fn wrong(name: &str, why: &dyn std::fmt::Display) -> Error {
    Error::failed(format!("cannot read column `{name}`: {why}"))
}

//! Cells of a result row, from either database.
//!
//! Here lives reading a named column as an integer or a text. What a row means lives in `service`.

use quorate_model::{Error, Result};
use std::cell::Cell;
use tokio_postgres::types::Type;

/// One row of a result; columns are read by name.
///
/// Readers mostly ask in the order of the columns, so the search for a name begins behind the one found last.
#[derive(Debug)]
pub struct Row<'r> {
    cells: Cells<'r>,
    next: Cell<usize>,
}

#[derive(Debug)]
enum Cells<'r> {
    Pg(&'r tokio_postgres::Row),
    Lite(&'r rusqlite::Row<'r>),
}

impl<'r> Row<'r> {
    pub(crate) fn pg(row: &'r tokio_postgres::Row) -> Row<'r> {
        Row { cells: Cells::Pg(row), next: Cell::new(0) }
    }

    pub(crate) fn lite(row: &'r rusqlite::Row<'r>) -> Row<'r> {
        Row { cells: Cells::Lite(row), next: Cell::new(0) }
    }

    /// Returns an integer column that may be null.
    pub fn opt_int(&self, name: &str) -> Result<Option<i64>> {
        let place = self.place(name)?;
        match self.cells {
            Cells::Pg(row) => pg_int(row, place).map_err(|e| wrong(name, &e)),
            Cells::Lite(row) => row.get(place).map_err(|e| wrong(name, &e)),
        }
    }

    /// Returns a text column that may be null.
    pub fn opt_text(&self, name: &str) -> Result<Option<String>> {
        let place = self.place(name)?;
        match self.cells {
            Cells::Pg(row) => row.try_get(place).map_err(|e| wrong(name, &e)),
            Cells::Lite(row) => row.get(place).map_err(|e| wrong(name, &e)),
        }
    }

    fn place(&self, name: &str) -> Result<usize> {
        let (next, count) = (self.next.get(), self.cells.count());
        let place = (next..count).chain(0..next).find(|place| self.cells.name(*place) == Some(name));
        let place = place.ok_or_else(|| wrong(name, &"there is no such column"))?;
        self.next.set(place + 1);
        Ok(place)
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

impl Cells<'_> {
    fn count(&self) -> usize {
        match self {
            Cells::Pg(row) => row.len(),
            Cells::Lite(row) => row.as_ref().column_count(),
        }
    }

    fn name(&self, place: usize) -> Option<&str> {
        match self {
            Cells::Pg(row) => row.columns().get(place).map(tokio_postgres::Column::name),
            Cells::Lite(row) => row.as_ref().column_name(place).ok(),
        }
    }
}

/// PostgreSQL gives literals (`case … then 1`) four bytes and columns eight.
fn pg_int(row: &tokio_postgres::Row, place: usize) -> Result<Option<i64>, tokio_postgres::Error> {
    let is_short = row.columns().get(place).is_some_and(|column| *column.type_() == Type::INT4);
    if is_short { Ok(row.try_get::<_, Option<i32>>(place)?.map(i64::from)) } else { row.try_get(place) }
}

fn wrong(name: &str, why: &dyn std::fmt::Display) -> Error {
    Error::failed(format!("cannot read column `{name}`: {why}"))
}

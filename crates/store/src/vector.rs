//! How unlike two vectors are, for SQLite, which knows no vectors.
//!
//! Here lives one SQL function, `vec_distance_cosine`. It has the name, the arguments and the meaning that it has in
//! the extension sqlite-vec, so that whoever opens the ledger with that extension can ask the same. PostgreSQL has
//! pgvector for it.

use rusqlite::functions::{Context, FunctionFlags};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, Error, Result};

/// Teaches a connection the function.
pub(crate) fn register(conn: &Connection) -> Result<()> {
    let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC;
    conn.create_scalar_function("vec_distance_cosine", 2, flags, |context| {
        match (numbers(context, 0)?, numbers(context, 1)?) {
            (Some(one), Some(other)) if one.len() == other.len() => Ok(distance(one, other)),
            (Some(_), Some(_)) => Err(wrong("vectors of different lengths cannot be compared")),
            _ => Ok(None),
        }
    })
}

/// The bytes of a vector; null has none.
fn numbers<'a>(context: &'a Context<'_>, place: usize) -> Result<Option<&'a [u8]>> {
    match context.get_raw(place) {
        ValueRef::Null => Ok(None),
        ValueRef::Blob(bytes) if bytes.len() % size_of::<f32>() == 0 => Ok(Some(bytes)),
        _ => Err(wrong("a vector is a blob of numbers of four bytes")),
    }
}

fn wrong(why: &str) -> Error {
    Error::UserFunctionError(why.into())
}

/// 1 less the cosine of the angle between two vectors: 0 to 2. None where one has no direction.
fn distance(one: &[u8], other: &[u8]) -> Option<f64> {
    let (one, other) = (one.as_chunks().0.iter(), other.as_chunks().0.iter());
    let (mut dot, mut first, mut second) = (0.0_f32, 0.0_f32, 0.0_f32);
    for (a, b) in one.zip(other) {
        let (a, b) = (f32::from_le_bytes(*a), f32::from_le_bytes(*b));
        dot += a * b;
        first += a * a;
        second += b * b;
    }
    let cosine = f64::from(dot) / (f64::from(first).sqrt() * f64::from(second).sqrt());
    cosine.is_finite().then_some(1.0 - cosine)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blob(numbers: &[f32]) -> Vec<u8> {
        numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
    }

    fn ask(one: Option<Vec<u8>>, other: Option<Vec<u8>>) -> Result<Option<f64>> {
        let conn = Connection::open_in_memory()?;
        register(&conn)?;
        conn.query_row("select vec_distance_cosine(?1, ?2)", (one, other), |row| row.get(0))
    }

    #[test]
    fn vectors_of_one_direction_are_alike_and_opposite_ones_are_not() {
        let check = |one: &[f32], other: &[f32], expected: Option<f64>| {
            let found = ask(Some(blob(one)), Some(blob(other))).unwrap();
            let is_same = found.zip(expected).map_or(found == expected, |(a, b)| (a - b).abs() < 1e-6);
            assert!(is_same, "{one:?} {other:?}: {found:?}");
        };
        check(&[1.0, 2.0], &[2.0, 4.0], Some(0.0));
        check(&[1.0, 0.0], &[0.0, 3.0], Some(1.0));
        check(&[1.0, 0.0], &[-5.0, 0.0], Some(2.0));
        check(&[1.0, 0.0], &[1.0, 1.0], Some(1.0 - 0.5_f64.sqrt()));
        check(&[0.0, 0.0], &[1.0, 1.0], None);
        check(&[], &[], None);
    }

    #[test]
    fn what_is_no_vector_or_another_length_is_an_error_and_null_is_null() {
        assert!(ask(Some(blob(&[1.0])), Some(blob(&[1.0, 2.0]))).is_err());
        assert!(ask(Some(vec![1, 2, 3]), Some(vec![1, 2, 3])).is_err());
        assert_eq!(ask(None, Some(blob(&[1.0]))).unwrap(), None);
    }
}

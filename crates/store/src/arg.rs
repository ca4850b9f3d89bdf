//! Arguments of a statement, for either database.
//!
//! Here lives the closed list of what can be bound. Encoding for PostgreSQL is here; SQLite binds by name in `lite`.

use quorate_model::Error;
use tokio_postgres::types::{IsNull, ToSql, Type, private::BytesMut, to_sql_checked};

/// A value bound to `$1`, `$2`, … of a statement.
///
/// Lists are PostgreSQL arrays and, on SQLite, a JSON text for `json_each`.
#[derive(Debug, Clone, PartialEq)]
pub enum Arg<'a> {
    /// SQL null.
    Null,
    /// A `bigint`.
    Int(i64),
    /// A `text`.
    Text(std::borrow::Cow<'a, str>),
    /// A list of integers or nulls.
    Ints(Vec<Option<i64>>),
    /// A list of texts or nulls.
    Texts(Vec<Option<String>>),
    /// The numbers of an embedding: `real[]`, and on SQLite a blob of them, four bytes each, the lowest first.
    Vector(std::borrow::Cow<'a, [f32]>),
}

/// Columns of rows that a statement takes apart with `unnest`, which fills up short lists with nulls. PostgreSQL handles each
/// list as a table of its own, so one that says nothing is to be short.
impl Arg<'static> {
    /// A column in which every row has a value: sent once if all are the same. For `coalesce(column, ($1)[1])`.
    pub fn column<T: PartialEq>(mut values: Vec<T>) -> Arg<'static>
    where
        Arg<'static>: From<Vec<T>>,
    {
        if values.iter().all(|value| Some(value) == values.first()) {
            values.truncate(1);
        }
        values.into()
    }

    /// A column that may be null, and is not sent where it is null in all rows.
    pub fn sparse_column<T>(values: Vec<Option<T>>) -> Arg<'static>
    where
        Arg<'static>: From<Vec<Option<T>>>,
    {
        if values.iter().all(Option::is_none) { Vec::new().into() } else { values.into() }
    }
}

impl Arg<'_> {
    /// Returns the argument without borrowing from the operation.
    pub(crate) fn into_owned(self) -> Arg<'static> {
        match self {
            Arg::Null => Arg::Null,
            Arg::Int(n) => Arg::Int(n),
            Arg::Text(text) => Arg::Text(text.into_owned().into()),
            Arg::Ints(list) => Arg::Ints(list),
            Arg::Texts(list) => Arg::Texts(list),
            Arg::Vector(numbers) => Arg::Vector(numbers.into_owned().into()),
        }
    }
}

/// The refusal of a text that PostgreSQL cannot hold; SQLite could, but both behave alike.
pub(crate) fn unstorable() -> Error {
    Error::invalid("a text holds the character U+0000").hint("leave it out: a ledger cannot keep it")
}

impl From<i64> for Arg<'_> {
    fn from(n: i64) -> Self {
        Arg::Int(n)
    }
}

impl From<bool> for Arg<'_> {
    fn from(flag: bool) -> Self {
        Arg::Int(flag.into())
    }
}

impl<'a> From<&'a str> for Arg<'a> {
    fn from(text: &'a str) -> Self {
        Arg::Text(text.into())
    }
}

impl<'a> From<&'a String> for Arg<'a> {
    fn from(text: &'a String) -> Self {
        Arg::Text(text.as_str().into())
    }
}

impl From<String> for Arg<'_> {
    fn from(text: String) -> Self {
        Arg::Text(text.into())
    }
}

impl From<&[i64]> for Arg<'_> {
    fn from(list: &[i64]) -> Self {
        Arg::Ints(list.iter().copied().map(Some).collect())
    }
}

impl From<Vec<i64>> for Arg<'_> {
    fn from(list: Vec<i64>) -> Self {
        Arg::Ints(list.into_iter().map(Some).collect())
    }
}

impl From<Vec<Option<i64>>> for Arg<'_> {
    fn from(list: Vec<Option<i64>>) -> Self {
        Arg::Ints(list)
    }
}

impl From<Vec<Option<String>>> for Arg<'_> {
    fn from(list: Vec<Option<String>>) -> Self {
        Arg::Texts(list)
    }
}

impl<'a> From<&'a [f32]> for Arg<'a> {
    fn from(numbers: &'a [f32]) -> Self {
        Arg::Vector(numbers.into())
    }
}

impl From<&[String]> for Arg<'_> {
    fn from(list: &[String]) -> Self {
        Arg::Texts(list.iter().cloned().map(Some).collect())
    }
}

impl<'a, T: Into<Arg<'a>>> From<Option<T>> for Arg<'a> {
    fn from(value: Option<T>) -> Self {
        value.map_or(Arg::Null, Into::into)
    }
}

impl<'a> From<&'a Option<String>> for Arg<'a> {
    fn from(value: &'a Option<String>) -> Self {
        value.as_deref().into()
    }
}

macro_rules! id_arg {
    ($($name:ident),*) => {$(
        impl From<quorate_model::$name> for Arg<'_> {
            fn from(id: quorate_model::$name) -> Self {
                Arg::Int(id.0)
            }
        }
    )*};
}

id_arg!(TaskId, RunId, MessageId, MemoryId, CheckpointId, Term, Seq);

/// Makes a slice of [`Arg`]s from anything that converts into one.
#[macro_export]
macro_rules! args {
    ($($value:expr),* $(,)?) => { &[$($crate::Arg::from($value)),*] };
}

impl ToSql for Arg<'_> {
    fn to_sql(
        &self,
        ty: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        match self {
            Arg::Null => Ok(IsNull::Yes),
            Arg::Int(n) if *ty == Type::INT4 => i32::try_from(*n)?.to_sql(ty, out),
            Arg::Int(n) => n.to_sql(ty, out),
            Arg::Text(text) => text.as_ref().to_sql(ty, out),
            Arg::Ints(list) => list.to_sql(ty, out),
            Arg::Texts(list) => list.to_sql(ty, out),
            Arg::Vector(numbers) => numbers.as_ref().to_sql(ty, out),
        }
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

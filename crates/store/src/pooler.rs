//! What changes where a connection pooler (PgBouncer) stands between a process and PostgreSQL.
//!
//! A pooler lends a server's connection for a session or for one transaction. What a direct connection asks for once,
//! when it begins, would then be lost or reach another: so it is asked for in every transaction (`set local`). In
//! transaction mode statements have no names either, and nobody is told of others' changes: they are looked for.
//!
//! Here live the word in the store's address (`pooler=…`), those settings as SQL, and the sign by which a pooler that
//! the address does not mention is noticed. Sending lives in `pg`.

use quorate_model::{Error, Result};
use tokio_postgres::types::{ToSql, Type};

use crate::arg::Arg;

/// What a pooler's connection is lent for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pooler {
    /// As long as ours lasts.
    Session,
    /// For one transaction.
    Transaction,
}

/// What mends an address that does not mention its pooler.
pub(crate) const MENTION_IT: &str = "if that is a connection pooler, say so in the store's url: pooler=transaction (or pooler=session); \
     or connect to the server itself";

impl Pooler {
    /// Reads the value of `pooler=`.
    pub(crate) fn parse(word: &str) -> Result<Option<Pooler>> {
        match word {
            "none" => Ok(None),
            "session" => Ok(Some(Pooler::Session)),
            "transaction" => Ok(Some(Pooler::Transaction)),
            _ => Err(Error::invalid(format!("store url: unknown pooler `{word}`"))
                .hint("transaction, session or none: the pool_mode of PgBouncer")),
        }
    }
}

/// Asked for by direct connections, and missing where something in between took it away.
pub(crate) const SIGN: &str = "-c quorate.way=direct";
/// Answers with the sign.
pub(crate) const SEE_SIGN: &str = "select coalesce(current_setting('quorate.way', true), '')";

/// Turns settings of a connection's beginning (`-c name=value …`) into statements for one transaction.
pub(crate) fn set_local(options: &str) -> Result<String> {
    let mut sql = String::new();
    let mut words = options.split_whitespace();
    while let Some(word) = words.next() {
        let pair = match word.strip_prefix("-c").or_else(|| word.strip_prefix("--")) {
            Some("") => words.next().unwrap_or_default(),
            Some(pair) => pair,
            None => word,
        };
        let (name, value) = pair
            .split_once('=')
            .filter(|(name, _)| !name.is_empty() && name.bytes().all(is_of_name))
            .ok_or_else(|| {
                Error::invalid(format!("store url: cannot read `{word}` in its options"))
                    .hint("options=-cNAME%3DVALUE")
            })?;
        sql.push_str(&format!("set local {name} = {}; ", quoted(name, value)));
    }
    Ok(sql)
}

fn is_of_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"_.".contains(&byte)
}

/// A list of schemas is several values; everything else is one.
fn quoted(name: &str, value: &str) -> String {
    let one = |value: &str| format!("'{}'", value.trim_matches('"').replace('\'', "''"));
    if name == "search_path" { value.split(',').map(one).collect::<Vec<_>>().join(", ") } else { one(value) }
}

/// Names the types of arguments, for a statement that is sent with them.
pub(crate) fn typed<'a>(args: &'a [Arg<'_>]) -> Vec<(&'a (dyn ToSql + Sync), Type)> {
    args.iter().map(|arg| (arg as &(dyn ToSql + Sync), type_of(arg))).collect()
}

fn type_of(arg: &Arg<'_>) -> Type {
    match arg {
        Arg::Null => Type::UNKNOWN,
        Arg::Int(_) => Type::INT8,
        Arg::Text(_) => Type::TEXT,
        Arg::Ints(_) => Type::INT8_ARRAY,
        Arg::Texts(_) => Type::TEXT_ARRAY,
        Arg::Vector(_) => Type::FLOAT4_ARRAY,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_of_a_connection_become_those_of_a_transaction() {
        let check = |options: &str, sql: &str| assert_eq!(set_local(options).expect("reads"), sql);
        check("", "");
        check("-c jit=off -cwork_mem=1MB", "set local jit = 'off'; set local work_mem = '1MB'; ");
        check("--search_path=a,\"b\"", "set local search_path = 'a', 'b'; ");
        check("-c a.b=it's", "set local a.b = 'it''s'; ");
    }

    #[test]
    fn settings_that_cannot_be_read_are_refused() {
        for options in ["-c", "-c jit", "-cjit;drop=x", "=x"] {
            assert!(set_local(options).is_err(), "{options}");
        }
    }
}

//! Where the ledger is: `sqlite:PATH` or `postgres://…`.
//!
//! Here lives parsing of the store's address, and taking the password out of it. What its query says of the way to a
//! server is read in `tls`.
//!
//! An address is cut as the driver cuts it (`tokio_postgres::Config`): user and password are all up to the first `@`,
//! wherever it stands, and a `password=` in the query counts more. Whatever else cut it differently would show a part of a
//! password that works.

use percent_encoding::percent_decode_str;
use quorate_model::{Error, Result};
use std::path::{Path, PathBuf};

/// The address of a ledger.
#[derive(Debug, Clone, PartialEq)]
pub enum Url {
    /// An embedded SQLite file.
    Lite(PathBuf),
    /// A PostgreSQL server; the text as given, but for paths of certificates, which are made absolute.
    Pg(String),
}

impl Url {
    /// Parses `sqlite:PATH` (relative to `base`) or `postgres://…` / `postgresql://…`.
    pub fn parse(text: &str, base: &Path) -> Result<Url> {
        if let Some(path) = text.strip_prefix("sqlite:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            if path.is_empty() {
                return Err(unknown(text));
            }
            return Ok(Url::Lite(base.join(path)));
        }
        if text.starts_with("postgres://") || text.starts_with("postgresql://") {
            return Ok(Url::Pg(crate::tls::absolute(text, base)));
        }
        Err(unknown(text))
    }

    /// Returns the address as a person may see it, its password replaced by `***`.
    pub fn shown(&self) -> String {
        match self {
            Url::Lite(path) => format!("sqlite:{}", path.display()),
            Url::Pg(text) => without_password(text),
        }
    }

    /// Returns the address without its password, and the password: for a program whose arguments any user of the host can
    /// read. An embedded ledger has none.
    pub fn split_password(&self) -> (String, Option<String>) {
        match self {
            Url::Lite(_) => (self.full(), None),
            Url::Pg(text) => split_password(text),
        }
    }

    /// Returns the address as another process needs it, password included.
    pub fn full(&self) -> String {
        match self {
            Url::Lite(path) => format!("sqlite:{}", path.display()),
            Url::Pg(text) => text.clone(),
        }
    }
}

fn unknown(text: &str) -> Error {
    Error::invalid(format!("store url `{}` is neither sqlite:PATH nor postgres://…", without_password(text)))
        .hint("set `url = \"sqlite:.quorate/quorate.db\"` under [store] in quorate.toml, or QUORATE_STORE")
}

/// What an address of a server consists of.
#[derive(Debug, PartialEq)]
struct Parts<'a> {
    scheme: &'a str,
    /// User, and password if there is one.
    credentials: Option<&'a str>,
    /// Host, port and database.
    place: &'a str,
    query: Option<&'a str>,
}

impl Parts<'_> {
    /// Cuts an address whose credentials end where `credentials_end` says of what follows `://`.
    fn cut(text: &str, credentials_end: impl FnOnce(&str) -> Option<usize>) -> Option<Parts<'_>> {
        let (scheme, rest) = text.split_once("://")?;
        let (credentials, rest) = match credentials_end(rest) {
            Some(at) => (Some(&rest[..at]), &rest[at + 1..]),
            None => (None, rest),
        };
        let (place, query) = rest.split_once('?').map_or((rest, None), |(place, query)| (place, Some(query)));
        Some(Parts { scheme, credentials, place, query })
    }
}

/// Where the driver takes user and password to end.
fn drivers_end(rest: &str) -> Option<usize> {
    rest.find('@')
}

/// Where they end at the latest, if whoever wrote it meant an `@` in it as a part of the password: the driver would not
/// connect, and its error shows the address.
fn latest_end(rest: &str) -> Option<usize> {
    let place = rest.split('?').next().unwrap_or(rest);
    place.rfind('@').max(drivers_end(rest))
}

/// Cuts an address at its query, as the driver does.
pub(crate) fn split_query(text: &str) -> Option<(&str, &str)> {
    let query = Parts::cut(text, drivers_end)?.query?;
    Some((&text[..text.len() - query.len() - 1], query))
}

/// Whether a value of the query is a secret. The driver reads names percent-encoded too.
fn is_secret(part: &str) -> bool {
    let name = part.split('=').next().unwrap_or(part);
    percent_decode_str(name).decode_utf8_lossy().to_ascii_lowercase().contains("passw")
}

fn without_password(text: &str) -> String {
    let Some(Parts { scheme, credentials, place, query }) = Parts::cut(text, latest_end) else {
        return text.to_owned();
    };
    let credentials = credentials.map(|credentials| match credentials.split_once(':') {
        Some((user, _)) => format!("{user}:***@"),
        None => format!("{credentials}@"),
    });
    let shown = |part: &str| match part.split_once('=') {
        Some((name, _)) if is_secret(part) => format!("{name}=***"),
        _ => part.to_owned(),
    };
    let query = query.map(|query| format!("?{}", query.split('&').map(shown).collect::<Vec<_>>().join("&")));
    format!("{scheme}://{}{place}{}", credentials.unwrap_or_default(), query.unwrap_or_default())
}

fn split_password(text: &str) -> (String, Option<String>) {
    let Some(Parts { scheme, credentials, place, query }) = Parts::cut(text, drivers_end) else {
        return (text.to_owned(), None);
    };
    let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    let (user, password) = match credentials.map(|text| text.split_once(':').unwrap_or((text, ""))) {
        Some((user, password)) => {
            (format!("{user}@"), Some(password).filter(|password| !password.is_empty()))
        }
        None => (String::new(), None),
    };
    let (secret, rest): (Vec<&str>, Vec<&str>) =
        query.into_iter().flat_map(|query| query.split('&')).partition(|part| is_secret(part));
    let asked = secret.iter().rev().filter_map(|part| part.split_once('='));
    let asked = asked.filter(|(name, _)| decoded(name) == "password").map(|(_, value)| value).next();
    let query = if rest.is_empty() { String::new() } else { format!("?{}", rest.join("&")) };
    (format!("{scheme}://{user}{place}{query}"), asked.or(password).map(decoded))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_never_shown() {
        let url = Url::parse("postgres://me:se@cret@db.example:5433/x?sslmode=disable", Path::new("/p"));
        assert_eq!(url.expect("parses").shown(), "postgres://me:***@db.example:5433/x?sslmode=disable");
    }

    #[test]
    fn a_password_is_shown_in_none_of_the_forms_that_the_driver_takes() {
        let check = |text: &str, shown: &str| assert_eq!(without_password(text), shown);
        check("postgres://me@h/db?password=secret&a=b", "postgres://me@h/db?password=***&a=b");
        check("postgres://h/db?a=b&p%61ssword=secret", "postgres://h/db?a=b&p%61ssword=***");
        check("postgres://h/db?sslpassword=secret", "postgres://h/db?sslpassword=***");
        check("postgres://me:pa/ss@h/db", "postgres://me:***@h/db");
        check("postgres://me:p?a@h/db?a=b@c", "postgres://me:***@h/db?a=b@c");
        check("postgres://me:pa/s@s@h/db", "postgres://me:***@h/db");
        check("postgres://me@h/db?options=-cx%3Dy", "postgres://me@h/db?options=-cx%3Dy");
        check("postgresql://h:5433/db", "postgresql://h:5433/db");
    }

    #[test]
    fn the_password_leaves_an_address_as_the_driver_reads_it() {
        let check = |text: &str, address: &str, password: Option<&str>| {
            let (rest, found) = Url::Pg(text.to_owned()).split_password();
            assert_eq!((rest.as_str(), found.as_deref()), (address, password), "{text}");
            let driver: tokio_postgres::Config = text.parse().expect("the driver takes it");
            assert_eq!(driver.get_password(), password.map(str::as_bytes), "{text}");
        };
        check(
            "postgres://me:s%40cret@db/x?connect_timeout=1",
            "postgres://me@db/x?connect_timeout=1",
            Some("s@cret"),
        );
        check("postgres://me:pa/ss@db/x", "postgres://me@db/x", Some("pa/ss"));
        check("postgres://me:p?w@db/x", "postgres://me@db/x", Some("p?w"));
        check("postgres://me@db/x?password=a%26b", "postgres://me@db/x", Some("a&b"));
        check("postgres://me:one@db/x?p%61ssword=two&port=5433", "postgres://me@db/x?port=5433", Some("two"));
        check("postgres://me@db/x", "postgres://me@db/x", None);
        check("postgres:///x?host=/tmp", "postgres:///x?host=/tmp", None);
    }

    #[test]
    fn the_query_begins_where_the_driver_lets_it_begin() {
        assert_eq!(split_query("postgres://me:p?w@h/d?a=b"), Some(("postgres://me:p?w@h/d", "a=b")));
        assert_eq!(split_query("postgres://me:p?w@h/d"), None);
        assert_eq!(split_query("postgres://h/d?"), Some(("postgres://h/d", "")));
    }

    #[test]
    fn a_relative_file_is_below_the_project() {
        let url = Url::parse("sqlite:.quorate/quorate.db", Path::new("/p")).expect("parses");
        assert_eq!(url, Url::Lite("/p/.quorate/quorate.db".into()));
    }

    #[test]
    fn another_scheme_is_refused_with_the_two_that_work() {
        let error = Url::parse("mysql://x", Path::new("/p")).expect_err("refused");
        assert!(error.message.contains("sqlite:PATH") && error.hint.is_some());
    }
}

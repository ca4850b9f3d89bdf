//! Where the ledger is: `sqlite:PATH` or `postgres://…`.
//!
//! Here lives parsing of the store's address and showing it without its password.

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

fn without_password(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
    let authority_end = rest.find(['/', '?']).unwrap_or(rest.len());
    let Some(at) = rest[..authority_end].rfind('@') else { return text.to_owned() };
    match rest[..at].split_once(':') {
        Some((user, _)) => format!("{scheme}://{user}:***{}", &rest[at..]),
        None => text.to_owned(),
    }
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

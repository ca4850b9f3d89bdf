//! Tokens: by which the network knows an agent.
//!
//! Here live making one, giving it to an agent and finding whose it is. Only digests are stored: who reads the ledger or a
//! copy of it cannot speak for anyone. A session's token ends with its session (see [`crate::agent::Begin`]);
//! one that a person asked for lasts until it is revoked. What a token lets its agent do is the doors' business.

use crate::agent;
use quorate_model::{Error, Event, EventKind, Kind, Result};
use quorate_store::{Boxed, Read, Tx, Write, args};
use ring::digest::{SHA256, digest as hash};
use ring::rand::{SecureRandom, SystemRandom};
use std::fmt;

/// Tokens of one agent that last, at most.
pub const LASTING_MAX: i64 = 16;
/// How a token begins, so that people and programs that look for leaked secrets know one.
const PREFIX: &str = "qrt_";
/// Random bytes in a token.
const BYTES: usize = 24;

/// A token itself; shows itself to nobody by accident.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// Makes a new one.
    ///
    /// # Errors
    /// `Failed` when the system has no random numbers.
    pub fn fresh() -> Result<Token> {
        let mut bytes = [0; BYTES];
        SystemRandom::new()
            .fill(&mut bytes)
            .map_err(|_| Error::failed("the system gives no random numbers for a token"))?;
        Ok(Token(format!("{PREFIX}{}", hex(&bytes))))
    }

    /// Returns the text that its owner shows.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Returns what is stored of it.
    pub fn digest(&self) -> String {
        digest(&self.0)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(***)")
    }
}

/// Returns what is stored of a token. It is random and long, so one round of hashing keeps it.
pub fn digest(token: &str) -> String {
    hex(hash(&SHA256, token.as_bytes()).as_ref())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Gives an agent a token that lasts until it is revoked.
#[derive(Debug, Clone)]
pub struct Give {
    /// The agent; must be in the team.
    pub agent: String,
    /// The token's digest.
    pub digest: String,
}

impl Write for Give {
    type Answer = ();

    fn apply<'a>(&'a self, tx: &'a mut Tx) -> Boxed<'a, ()> {
        Box::pin(async move {
            agent::lock(tx, &self.agent).await?;
            let sql = "select count(*) as n from tokens where agent = $1 and node is null";
            let count = tx.one(sql, args![&self.agent], |row| row.int("n")).await?.unwrap_or(0);
            if count >= LASTING_MAX {
                let message = format!("agent `{}` has {count} tokens, as many as it may have", self.agent);
                return Err(Error::new(Kind::Refused, message)
                    .hint(format!("`quorate agent token {} --revoke` makes all of them void", self.agent)));
            }
            tx.later(
                "insert into tokens (digest, agent, created_at) values ($1, $2, now_ms())",
                args![&self.digest, &self.agent],
            );
            let told = format!("{} was given a token", self.agent);
            tx.record(Event::new(EventKind::TokenGiven, told).agent(&self.agent));
            Ok(())
        })
    }
}

/// Makes all tokens of an agent void that a person gave it; answers with how many there were.
#[derive(Debug, Clone)]
pub struct Revoke {
    /// The agent.
    pub agent: String,
}

impl Write for Revoke {
    type Answer = u64;

    fn apply<'a>(&'a self, tx: &'a mut Tx) -> Boxed<'a, u64> {
        Box::pin(async move {
            agent::lock(tx, &self.agent).await?;
            let sql = "delete from tokens where agent = $1 and node is null";
            let revoked = tx.run(sql, args![&self.agent]).await?;
            if revoked > 0 {
                let told = format!("{revoked} token(s) of {} were made void", self.agent);
                tx.record(Event::new(EventKind::TokenRevoked, told).agent(&self.agent));
            }
            Ok(revoked)
        })
    }
}

/// Asks whose a token is: `None` if it is nobody's, or its session has ended.
#[derive(Debug, Clone)]
pub struct Whose {
    /// The token's digest.
    pub digest: String,
}

impl Read for Whose {
    type Answer = Option<String>;

    fn fetch<'a>(&'a self, tx: &'a mut Tx) -> Boxed<'a, Option<String>> {
        Box::pin(async move {
            let sql = "select a.name from tokens t join agents a on a.name = t.agent
                        where t.digest = $1 and a.removed = 0
                          and (t.node is null or (a.node = t.node and a.lease_until >= now_ms()))";
            tx.one(sql, args![&self.digest], |row| row.text("name")).await
        })
    }
}

/// The token of a session takes the place of that of the session before.
pub(crate) fn begin_session(tx: &mut Tx, agent: &str, node: &str, digest: Option<&str>) {
    end_session(tx, agent);
    if let Some(digest) = digest {
        tx.later(
            "insert into tokens (digest, agent, node, created_at) values ($1, $2, $3, now_ms())",
            args![digest, agent, node],
        );
    }
}

/// The token of a session ends with it.
pub(crate) fn end_session(tx: &mut Tx, agent: &str) {
    tx.later("delete from tokens where agent = $1 and node is not null", args![agent]);
}

/// Whoever leaves the team is known by nothing any more.
pub(crate) fn forget(tx: &mut Tx, agent: &str) {
    tx.later("delete from tokens where agent = $1", args![agent]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_differ_and_are_known_by_their_digest_alone() {
        let (one, other) = (Token::fresh().expect("random"), Token::fresh().expect("random"));
        assert_ne!(one, other);
        assert_eq!(one.reveal().len(), PREFIX.len() + 2 * BYTES);
        assert_eq!(one.digest(), digest(one.reveal()));
        assert!(!format!("{one:?}").contains(&one.reveal()[PREFIX.len()..]));
        assert_eq!(
            digest("abc"),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
            "SHA-256, FIPS 180-4, appendix B.1"
        );
    }
}

//! Who may come in.
//!
//! Here live the checks before any operation: whose token it is, that a request without one comes from this machine and
//! was not sent by a page of another site, and how many may come in a second. What a caller may do then is `caller`'s
//! business.
//!
//! A browser lets any page send requests to this machine, and a page can give its own name this machine's address (DNS
//! rebinding). So without a token `Host` must be a name of this machine, and `Origin`, which pages cannot leave out of
//! what changes something, must be too.

use crate::caller::Caller;
use crate::problem::Failure;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use quorate_model::{Error, Kind};
use quorate_service::token::{Whose, digest};
use quorate_store::Store;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Instant;

/// Requests that may come at once, and in a second from then on.
const BURST: f64 = 1_000.0;
const PER_SECOND: f64 = 500.0;

/// What callers are held against.
#[derive(Debug, Clone)]
pub(crate) struct Guard {
    /// The digest of the person's token.
    person: Option<String>,
    /// Who comes in without a token.
    unknown: Unknown,
    bucket: Arc<Mutex<Bucket>>,
}

/// Who comes in without a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unknown {
    /// Nobody: the door is open to other machines.
    Nobody,
    /// Who calls this machine by a name that can mean no other.
    FromHere,
    /// Anyone: the operating system has let him open a file.
    Anyone,
}

impl Guard {
    /// Makes a guard; the token itself is not kept.
    pub(crate) fn new(person: Option<&str>, unknown: Unknown) -> Guard {
        let bucket = Bucket { left: BURST, at: Instant::now() };
        Guard { person: person.map(digest), unknown, bucket: Arc::new(Mutex::new(bucket)) }
    }

    fn look(&self, headers: &HeaderMap) -> Result<Shown, Failure> {
        let wait = self.bucket.lock().expect("nobody panics while counting").take(Instant::now());
        if let Err(seconds) = wait {
            let error = Error::new(Kind::Refused, "too many requests")
                .hint("follow /api/v1/events instead of asking again");
            return Err(Failure::with(StatusCode::TOO_MANY_REQUESTS, error).retry_after(seconds));
        }
        if let Some(token) = bearer(headers) {
            return Ok(self.weigh(token));
        }
        match self.unknown {
            Unknown::Nobody => Err(unauthorized("this door is open to other machines: a token is needed")),
            Unknown::FromHere => from_here(headers).map(|()| Shown::Caller(Caller::Person)),
            Unknown::Anyone => Ok(Shown::Caller(Caller::Person)),
        }
    }

    fn weigh(&self, token: &str) -> Shown {
        // Digests: how soon they differ says nothing of the token.
        let digest = digest(token);
        if self.person.as_ref() == Some(&digest) {
            Shown::Caller(Caller::Person)
        } else {
            Shown::Token(digest)
        }
    }
}

/// What somebody shows at the door.
#[derive(Debug, PartialEq, Eq)]
enum Shown {
    /// Enough to know him.
    Caller(Caller),
    /// A token, by its digest: an agent's, or nobody's. The ledger knows.
    Token(String),
}

/// The step before every operation.
pub(crate) async fn check(
    State((guard, store)): State<(Guard, Store)>,
    mut request: Request,
    next: Next,
) -> Response {
    let caller = match guard.look(request.headers()) {
        Ok(Shown::Caller(caller)) => Ok(caller),
        Ok(Shown::Token(digest)) => whose(&store, digest).await,
        Err(failure) => Err(failure),
    };
    match caller {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(failure) => failure.into_response(),
    }
}

async fn whose(store: &Store, digest: String) -> Result<Caller, Failure> {
    let agent = store.read(Whose { digest }).await?;
    agent.map(Caller::Agent).ok_or_else(|| {
        unauthorized("this token is not known here: it is not the person's, or its agent's session is over")
    })
}

fn unauthorized(why: &str) -> Failure {
    let error = Error::new(Kind::Refused, why).hint("Authorization: Bearer TOKEN");
    Failure::with(StatusCode::UNAUTHORIZED, error)
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let text = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = text.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}

fn from_here(headers: &HeaderMap) -> Result<(), Failure> {
    let refuse = |what: &str, found: &str| {
        let shown: String = found.chars().take(80).collect();
        let message = format!("{what} is {shown:?}, not a name of this machine");
        let error = Error::new(Kind::Refused, message).hint("call it localhost or 127.0.0.1, or use a token");
        Err(Failure::with(StatusCode::FORBIDDEN, error))
    };
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    if !is_this_machine(host) {
        return refuse("Host", host);
    }
    let Some(origin) = headers.get(header::ORIGIN) else { return Ok(()) };
    let origin = origin.to_str().unwrap_or("?");
    let authority = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
    if authority.is_some_and(is_this_machine) { Ok(()) } else { refuse("Origin", origin) }
}

/// Tells whether `host:port` names this machine by what can mean no other.
fn is_this_machine(authority: &str) -> bool {
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    };
    host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// How many requests may still come.
#[derive(Debug)]
struct Bucket {
    left: f64,
    at: Instant,
}

impl Bucket {
    /// Takes one, or says in how many seconds there is another.
    fn take(&mut self, now: Instant) -> Result<(), u64> {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.left = (self.left + passed * PER_SECOND).min(BURST);
        self.at = now;
        if self.left < 1.0 {
            return Err(1);
        }
        self.left -= 1.0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;
    use std::time::Duration;

    fn headers(list: &[(&'static str, &str)]) -> HeaderMap {
        list.iter()
            .map(|(name, value)| {
                ((*name).parse().expect("a name"), HeaderValue::from_str(value).expect("a value"))
            })
            .collect()
    }

    fn status(guard: &Guard, list: &[(&'static str, &str)]) -> u16 {
        match guard.look(&headers(list)) {
            Ok(Shown::Caller(caller)) => {
                assert_eq!(caller, Caller::Person);
                200
            }
            // The ledger is asked.
            Ok(Shown::Token(_)) => 0,
            Err(failure) => failure.into_response().status().as_u16(),
        }
    }

    #[test]
    fn who_comes_without_a_token_comes_from_here() {
        let open = Guard::new(None, Unknown::FromHere);
        for host in ["localhost", "LOCALHOST:8888", "127.0.0.1:8888", "127.1.2.3", "[::1]:8888"] {
            assert_eq!(status(&open, &[("host", host)]), 200, "{host}");
        }
        for host in
            ["evil.example", "localhost.evil.example:8888", "127.0.0.1.evil.example", "10.0.0.1", "", "[::2]"]
        {
            assert_eq!(status(&open, &[("host", host)]), 403, "{host}");
        }
        assert_eq!(status(&open, &[]), 403);
        for (origin, expected) in [
            ("http://localhost:8888", 200),
            ("http://127.0.0.1:3000", 200),
            ("https://evil.example", 403),
            ("null", 403),
            ("http://localhost.evil.example", 403),
        ] {
            assert_eq!(
                status(&open, &[("host", "localhost:8888"), ("origin", origin)]),
                expected,
                "{origin}"
            );
        }
    }

    #[test]
    fn a_token_counts_and_a_wrong_one_is_refused_even_from_here() {
        let guard = Guard::new(Some("secret"), Unknown::FromHere);
        assert_eq!(status(&guard, &[("host", "elsewhere"), ("authorization", "Bearer secret")]), 200);
        assert_eq!(status(&guard, &[("host", "localhost"), ("authorization", "bearer wrong")]), 0);
        assert_eq!(status(&guard, &[("host", "localhost")]), 200);
        let strict = Guard::new(Some("secret"), Unknown::Nobody);
        assert_eq!(status(&strict, &[("host", "localhost")]), 401);
        assert_eq!(status(&strict, &[("authorization", "Bearer secret")]), 200);
        assert!(!format!("{strict:?}").contains("secret"));
    }

    #[test]
    fn requests_are_bounded_and_come_back_with_time() {
        let begun = Instant::now();
        let mut bucket = Bucket { left: BURST, at: begun };
        assert_eq!((0..2_000).filter(|_| bucket.take(begun).is_ok()).count(), BURST as usize);
        assert_eq!(bucket.take(begun), Err(1));
        let later = begun + Duration::from_millis(100);
        assert_eq!((0..2_000).filter(|_| bucket.take(later).is_ok()).count(), (PER_SECOND / 10.0) as usize);
    }
}

//! Who may come in.
//!
//! Here live the checks before any operation: whose token it is, that a request without one comes from this machine, from a
//! process of this user, and was not sent by a page that is served elsewhere, and how many of each caller may come in a
//! second and stay at once. What a caller may do then is `caller`'s business.
//!
//! A browser lets any page send requests to this machine, and a page can give its own name this machine's address (DNS
//! rebinding). So without a token `Host` must be a name of this machine, and `Origin`, which pages cannot leave out of
//! what changes something, must be that very address: whatever else is served on this machine is another's. A request that
//! only reads (an image's) has no `Origin`; there `Sec-Fetch-Site`, which no page can set, tells that another page sent it.

use crate::caller::Caller;
use crate::peer::Peer;
use crate::problem::Failure;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;
use quorate_model::{Error, Kind};
use quorate_service::token::{Whose, digest};
use quorate_store::Store;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Instant;

/// Requests of one caller that may come at once, and in a second from then on.
const BURST: f64 = 1_000.0;
const PER_SECOND: f64 = 500.0;
/// Tokens whose requests are counted apart.
const TOKENS_MAX: usize = 1_024;
/// Requests of one agent that are answered at once: who waits, or follows, has one of the door's connections meanwhile.
const OPEN_MAX: usize = 64;

/// Where a browser says how the page that sends a request stands to its address: `none` is the person's own doing.
const FETCH_SITE: &str = "sec-fetch-site";

/// What callers are held against.
#[derive(Debug, Clone)]
pub(crate) struct Guard {
    /// The digest of the person's token.
    person: Option<String>,
    /// Who comes in without a token.
    unknown: Unknown,
    buckets: Arc<Mutex<Buckets>>,
}

/// Who comes in without a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unknown {
    /// Nobody: the door is open to other machines, or there is a token that says who is the person.
    Nobody,
    /// Who is this user, and calls this machine by a name that can mean no other.
    FromHere,
    /// Anyone: the operating system has let him open a file.
    Anyone,
}

impl Guard {
    /// Makes a guard; the token itself is not kept.
    pub(crate) fn new(person: Option<&str>, unknown: Unknown) -> Guard {
        let buckets = Arc::new(Mutex::new(Buckets::new(Instant::now())));
        Guard { person: person.map(digest), unknown, buckets }
    }

    /// Looks who comes, and counts it for him.
    fn admit(&self, headers: &HeaderMap) -> Result<Shown, Failure> {
        let shown = self.look(headers);
        let now = Instant::now();
        let wait = {
            let mut buckets = self.buckets.lock().expect("nobody panics while counting");
            match &shown {
                Ok(Shown::Person | Shown::Here) => buckets.person.take(now),
                Ok(Shown::Token(digest)) => buckets.of(digest).take(now),
                Err(_) => buckets.strangers.take(now),
            }
        };
        match wait {
            Ok(()) => shown,
            Err(seconds) => {
                let error = Error::new(Kind::Refused, "too many requests")
                    .hint("follow /api/v1/events instead of asking again");
                Err(Failure::with(StatusCode::TOO_MANY_REQUESTS, error).retry_after(seconds))
            }
        }
    }

    /// Counts a token apart from now on: the ledger knows it. Answers with its place while it is answered.
    fn enter(&self, digest: String) -> Result<Option<Arc<()>>, Failure> {
        let mut buckets = self.buckets.lock().expect("nobody panics while counting");
        buckets.know(digest.clone(), Instant::now());
        let Some(bucket) = buckets.tokens.get(&digest) else { return Ok(None) };
        bucket.enter().map(Some).ok_or_else(|| {
            let error = Error::new(Kind::Refused, format!("{OPEN_MAX} requests of this agent wait already"))
                .hint("end one that waits or follows, before another is begun");
            Failure::with(StatusCode::TOO_MANY_REQUESTS, error).retry_after(1)
        })
    }

    fn look(&self, headers: &HeaderMap) -> Result<Shown, Failure> {
        if let Some(token) = bearer(headers) {
            return Ok(self.weigh(token));
        }
        match self.unknown {
            Unknown::Nobody => Err(unauthorized("this door is open to others: a token is needed")),
            Unknown::FromHere => from_here(headers).map(|()| Shown::Here),
            Unknown::Anyone => Ok(Shown::Person),
        }
    }

    fn weigh(&self, token: &str) -> Shown {
        // Digests: how soon they differ says nothing of the token.
        let digest = digest(token);
        if self.person.as_ref() == Some(&digest) { Shown::Person } else { Shown::Token(digest) }
    }
}

/// What somebody shows at the door.
#[derive(Debug, PartialEq, Eq)]
enum Shown {
    /// That he is the person.
    Person,
    /// That he calls from here; the kernel knows who he is.
    Here,
    /// A token, by its digest: an agent's, or nobody's. The ledger knows.
    Token(String),
}

/// The step before every operation.
pub(crate) async fn check(
    State((guard, store)): State<(Guard, Store)>,
    mut request: Request,
    next: Next,
) -> Response {
    let peer = request.extensions().get::<Peer>().copied();
    match identify(&guard, &store, request.headers(), peer).await {
        Ok((caller, place)) => {
            request.extensions_mut().insert(caller);
            let response = next.run(request).await;
            match place {
                Some(place) => while_answered(response, place),
                None => response,
            }
        }
        Err(failure) => failure.into_response(),
    }
}

/// Finds out who calls; an agent gets a place, which it has until it is answered.
async fn identify(
    guard: &Guard,
    store: &Store,
    headers: &HeaderMap,
    peer: Option<Peer>,
) -> Result<(Caller, Option<Arc<()>>), Failure> {
    match guard.admit(headers)? {
        Shown::Person => Ok((Caller::Person, None)),
        Shown::Here => match peer {
            Some(peer) if peer.is_ours().await => Ok((Caller::Person, None)),
            _ => Err(of_another_user()),
        },
        Shown::Token(digest) => {
            let caller = whose(store, digest.clone()).await?;
            Ok((caller, guard.enter(digest)?))
        }
    }
}

/// Keeps a place until the last of an answer is sent: a stream of events lasts.
fn while_answered(response: Response, place: Arc<()>) -> Response {
    let is_stream = response
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"));
    if !is_stream {
        return response;
    }
    response.map(|body| {
        let parts = body.into_data_stream().map(move |part| {
            let _place = &place;
            part
        });
        Body::from_stream(parts)
    })
}

fn of_another_user() -> Failure {
    let error = Error::new(
        Kind::Refused,
        "this request comes from another user of this machine, or who sent it has gone",
    )
    .hint("Authorization: Bearer TOKEN");
    Failure::with(StatusCode::FORBIDDEN, error)
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
    let refuse = |what: &str, found: &str, why: &str, hint: &str| {
        let shown: String = found.chars().take(80).collect();
        let error = Error::new(Kind::Refused, format!("{what} is {shown:?}, {why}")).hint(hint);
        Err(Failure::with(StatusCode::FORBIDDEN, error))
    };
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    let host = text(header::HOST.as_str()).unwrap_or_default();
    if !is_this_machine(host) {
        let hint = "call it localhost or 127.0.0.1, or use a token";
        return refuse("Host", host, "not a name of this machine", hint);
    }
    let other = "a page that is not served here: it needs a token";
    let hint = "Authorization: Bearer TOKEN";
    match (text(header::ORIGIN.as_str()), text(FETCH_SITE)) {
        (Some(origin), _) if !is_at(origin, host) => refuse("Origin", origin, other, hint),
        (_, Some(site)) if !matches!(site, "same-origin" | "none") => {
            refuse("Sec-Fetch-Site", site, other, hint)
        }
        _ => Ok(()),
    }
}

/// Tells whether a page came from this very address.
fn is_at(origin: &str, host: &str) -> bool {
    let authority = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
    authority.is_some_and(|authority| authority.eq_ignore_ascii_case(host))
}

/// Tells whether `host:port` names this machine by what can mean no other.
fn is_this_machine(authority: &str) -> bool {
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    };
    host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Who has used how much: each caller for himself, so that none is in another's way.
#[derive(Debug)]
struct Buckets {
    /// A person's, and that of all who come from here without a token.
    person: Bucket,
    /// By the digest of a token that the ledger knew.
    tokens: HashMap<String, Bucket>,
    /// Of all who are not let in, and of tokens that were not seen before.
    strangers: Bucket,
}

impl Buckets {
    fn new(now: Instant) -> Buckets {
        Buckets { person: Bucket::new(now), tokens: HashMap::new(), strangers: Bucket::new(now) }
    }

    fn of(&mut self, digest: &str) -> &mut Bucket {
        self.tokens.get_mut(digest).unwrap_or(&mut self.strangers)
    }

    /// Gives a token a bucket of its own. Where there are too many, those go that count nothing any more.
    fn know(&mut self, digest: String, now: Instant) {
        if self.tokens.contains_key(&digest) {
            return;
        }
        if self.tokens.len() >= TOKENS_MAX {
            self.tokens.retain(|_, bucket| bucket.at(now) < BURST || bucket.open() > 0);
        }
        if self.tokens.len() < TOKENS_MAX {
            self.tokens.insert(digest, Bucket::new(now));
        }
    }
}

/// How many requests may still come.
#[derive(Debug)]
struct Bucket {
    left: f64,
    at: Instant,
    /// Each request that is being answered has this as well.
    place: Arc<()>,
}

impl Bucket {
    fn new(now: Instant) -> Bucket {
        Bucket { left: BURST, at: now, place: Arc::default() }
    }

    /// Returns how many are being answered.
    fn open(&self) -> usize {
        Arc::strong_count(&self.place) - 1
    }

    /// Gives a place to one more, if there is one.
    fn enter(&self) -> Option<Arc<()>> {
        (self.open() < OPEN_MAX).then(|| Arc::clone(&self.place))
    }

    /// Returns how many are left at a time.
    fn at(&self, now: Instant) -> f64 {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        (self.left + passed * PER_SECOND).min(BURST)
    }

    /// Takes one, or says in how many seconds there is another.
    fn take(&mut self, now: Instant) -> Result<(), u64> {
        self.left = self.at(now);
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
        match guard.admit(&headers(list)) {
            Ok(Shown::Person | Shown::Here) => 200,
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
            ("http://LOCALHOST:8888", 200),
            ("http://localhost:3000", 403),
            ("http://127.0.0.1:3000", 403),
            ("http://127.0.0.1:8888", 403),
            ("http://localhost", 403),
            ("localhost:8888", 403),
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
        for (site, expected) in [("none", 200), ("same-origin", 200), ("same-site", 403), ("cross-site", 403)]
        {
            let list = [("host", "localhost:8888"), ("sec-fetch-site", site)];
            assert_eq!(status(&open, &list), expected, "{site}");
        }
        let both = [("host", "localhost"), ("origin", "http://localhost"), ("sec-fetch-site", "same-origin")];
        assert_eq!(status(&open, &both), 200);
    }

    #[test]
    fn a_token_counts_and_a_wrong_one_is_refused_even_from_here() {
        let guard = Guard::new(Some("secret"), Unknown::FromHere);
        assert_eq!(status(&guard, &[("host", "elsewhere"), ("authorization", "Bearer secret")]), 200);
        assert_eq!(status(&guard, &[("host", "localhost"), ("authorization", "bearer wrong")]), 0);
        assert_eq!(status(&guard, &[("host", "localhost")]), 200);
        let page = [
            ("host", "localhost"),
            ("origin", "http://localhost:3000"),
            ("sec-fetch-site", "same-site"),
            ("authorization", "Bearer secret"),
        ];
        assert_eq!(status(&guard, &page), 200);
        let strict = Guard::new(Some("secret"), Unknown::Nobody);
        assert_eq!(status(&strict, &[("host", "localhost")]), 401);
        assert_eq!(status(&strict, &[("authorization", "Bearer secret")]), 200);
        assert!(!format!("{strict:?}").contains("secret"));
    }

    #[test]
    fn requests_are_bounded_and_come_back_with_time() {
        let begun = Instant::now();
        let mut bucket = Bucket::new(begun);
        assert_eq!((0..2_000).filter(|_| bucket.take(begun).is_ok()).count(), BURST as usize);
        assert_eq!(bucket.take(begun), Err(1));
        let later = begun + Duration::from_millis(100);
        assert_eq!((0..2_000).filter(|_| bucket.take(later).is_ok()).count(), (PER_SECOND / 10.0) as usize);
    }

    #[test]
    fn one_caller_is_not_in_the_way_of_another() {
        let guard = Guard::new(Some("secret"), Unknown::FromHere);
        let page = [("host", "localhost"), ("origin", "https://evil.example")];
        let [ada, eve, new] =
            ["Bearer ada", "Bearer eve", "Bearer new"].map(|token| [("authorization", token)]);
        for name in ["ada", "eve"] {
            drop(guard.enter(digest(name)));
        }
        let here = [("host", "localhost")];
        let exhaust = |list: &[(&'static str, &str)]| (0..10_000).any(|_| status(&guard, list) == 429);
        assert!(exhaust(&page) && exhaust(&eve));
        assert_eq!((status(&guard, &here), status(&guard, &ada)), (200, 0));
        // Before the ledger is asked for it, a new token is as good as any that is made up.
        assert!(exhaust(&new) && exhaust(&here));
        assert_eq!(status(&guard, &ada), 0);
    }

    #[test]
    fn one_agent_has_so_many_places_and_another_has_his_own() {
        let guard = Guard::new(None, Unknown::Nobody);
        let enter = |name: &str| guard.enter(digest(name)).map(|place| place.expect("it is counted"));
        let mut places: Vec<_> = (0..OPEN_MAX).map(|_| enter("eve").expect("a place")).collect();
        assert_eq!(enter("eve").expect_err("none is left").into_response().status(), 429);
        assert!(enter("ada").is_ok());
        places.pop();
        assert!(enter("eve").is_ok());
    }

    #[test]
    fn so_many_tokens_are_counted_apart() {
        let now = Instant::now();
        let mut buckets = Buckets::new(now);
        for n in 0..TOKENS_MAX {
            buckets.know(n.to_string(), now);
            buckets.of(&n.to_string()).take(now).expect("one is left");
        }
        buckets.know("new".into(), now);
        assert!(!buckets.tokens.contains_key("new"), "all others are in use");
        buckets.know("new".into(), now + Duration::from_secs(1));
        assert_eq!(buckets.tokens.len(), 1, "those that rest are forgotten");
    }
}

//! One request to a model's service, and its answer as it comes.
//!
//! Here live the connection (plain or with TLS, straight or through a proxy) and its limits in time and size. A
//! connection serves one request: a model thinks for longer than a handshake takes.

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderMap, USER_AGENT};
use hyper::{Method, Request, Response, Uri};
use hyper_util::rt::TokioIo;
use quorate_model::{Error, Result};
use quorate_trust::Refused;
use serde_json::Value;
use std::future::Future;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(30);
/// How long the beginning of an answer may take, and each next part of it: a model that thinks sends signs of it.
pub(super) const SILENCE: Duration = Duration::from_secs(600);
/// How much of an answer that is no stream is read, in bytes.
const ERROR_MAX: usize = 64 << 10;
/// The longest answer of a proxy, in bytes.
const PROXY_MAX: usize = 8 << 10;

/// What is asked.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Ask {
    /// The whole address.
    pub(super) url: String,
    /// Headers beside the usual ones.
    pub(super) headers: Vec<(&'static str, String)>,
    /// The body.
    pub(super) body: Value,
}

/// An answer whose body is still to come.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    body: Incoming,
}

impl Answer {
    /// Returns the next part of the body; `None` at its end.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>> {
        self.next_within(SILENCE).await
    }

    /// The same, of one that may be silent for so long.
    pub(super) async fn next_within(&mut self, silence: Duration) -> Result<Option<Bytes>> {
        loop {
            let frame = within(silence, "the model's service fell silent", self.body.frame()).await?;
            match frame {
                None => return Ok(None),
                Some(Err(e)) => return Err(away(format!("the model's service broke off: {e}"))),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        return Ok(Some(data));
                    }
                }
            }
        }
    }

    /// Returns the beginning of the body as a text.
    pub(super) async fn text(mut self) -> String {
        let mut bytes = Vec::new();
        while let Ok(Some(part)) = self.next().await
            && bytes.len() < ERROR_MAX
        {
            bytes.extend_from_slice(&part);
        }
        bytes.truncate(ERROR_MAX);
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

fn away(message: impl Into<String>) -> Error {
    Error::unavailable(message)
}

/// Who is not believed is no more so the next time: only what passes is tried again.
fn not_believed(refused: Refused) -> Error {
    if refused.passes { away(refused.why) } else { Error::failed(refused.why) }
}

async fn within<T>(limit: Duration, what: &str, work: impl Future<Output = T>) -> Result<T> {
    tokio::time::timeout(limit, work).await.map_err(|_| away(format!("{what} for {} s", limit.as_secs())))
}

/// Asks, and returns once the answer begins.
///
/// # Errors
/// `Unavailable` when the service cannot be reached or is silent for too long, `Failed` when it cannot prove who it is,
/// `Invalid` for an address that is none.
pub(super) async fn ask(ask: &Ask) -> Result<Answer> {
    let uri: Uri = ask.url.parse().map_err(|e| Error::invalid(format!("{} is no address: {e}", ask.url)))?;
    let host = uri.host().ok_or_else(|| Error::invalid(format!("{} names no host", ask.url)))?.to_owned();
    let is_secret = uri.scheme_str() == Some("https");
    let port = uri.port_u16().unwrap_or(if is_secret { 443 } else { 80 });
    let request = request(ask, &uri)?;
    let connect = async {
        let stream = reach(&host, port, is_secret).await?;
        match is_secret {
            true => begin(quorate_trust::encrypt(&host, stream).await.map_err(not_believed)?).await,
            false => begin(stream).await,
        }
    };
    let mut sender = within(CONNECT, &format!("{host} could not be reached"), connect).await??;
    let sent = within(SILENCE, "the model's service did not answer", sender.send_request(request)).await?;
    let response: Response<Incoming> = sent.map_err(|e| away(format!("{host} broke off: {e}")))?;
    let (head, body) = response.into_parts();
    Ok(Answer { status: head.status.as_u16(), headers: head.headers, body })
}

fn request(ask: &Ask, uri: &Uri) -> Result<Request<Full<Bytes>>> {
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    let mut request = Request::builder().method(Method::POST).uri(path);
    request = request.header(HOST, authority).header(CONTENT_TYPE, "application/json");
    request = request.header(USER_AGENT, concat!("quorate/", env!("CARGO_PKG_VERSION")));
    for (name, value) in &ask.headers {
        let mut value = hyper::header::HeaderValue::from_str(value).map_err(|_| {
            Error::invalid(format!("the header {name} cannot be sent: its value has a line end"))
        })?;
        value.set_sensitive(*name == AUTHORIZATION.as_str() || name.contains("key"));
        request = request.header(*name, value);
    }
    request
        .body(Full::new(Bytes::from(ask.body.to_string())))
        .map_err(|e| Error::invalid(format!("{} cannot be asked: {e}", ask.url)))
}

/// Opens a connection to a host, or to the proxy that stands before it.
async fn reach(host: &str, port: u16, is_secret: bool) -> Result<TcpStream> {
    let Some(proxy) = proxy_for(host, is_secret, |name| std::env::var(name).ok()) else {
        return connect(host, port).await;
    };
    let mut stream = connect(&proxy.0, proxy.1).await?;
    tunnel(&mut stream, host, port).await?;
    Ok(stream)
}

async fn connect(host: &str, port: u16) -> Result<TcpStream> {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    TcpStream::connect((bare, port)).await.map_err(|e| away(format!("cannot reach {host}:{port}: {e}")))
}

/// Asks a proxy to pass bytes on to the host.
async fn tunnel(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), host: &str, port: u16) -> Result<()> {
    let broke = |e: std::io::Error| away(format!("the proxy broke off: {e}"));
    let ask = format!("CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n");
    stream.write_all(ask.as_bytes()).await.map_err(broke)?;
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        // Byte by byte: what follows the head belongs to the tunnel.
        answer.push(stream.read_u8().await.map_err(broke)?);
        if answer.len() > PROXY_MAX {
            return Err(away("the proxy's answer does not end"));
        }
    }
    let head = String::from_utf8_lossy(&answer).into_owned();
    let first = head.lines().next().unwrap_or_default();
    match first.split_whitespace().nth(1) {
        Some("200") => Ok(()),
        _ => Err(away(format!("the proxy refused the way to {host}: {first}"))),
    }
}

/// Returns the host and port of the proxy that the environment names for a host.
fn proxy_for(host: &str, is_secret: bool, look: impl Fn(&str) -> Option<String>) -> Option<(String, u16)> {
    let either =
        |name: &str| look(&name.to_lowercase()).or_else(|| look(name)).filter(|value| !value.is_empty());
    let is_passed =
        either("NO_PROXY").is_some_and(|list| list.split(',').any(|entry| covers(entry.trim(), host)));
    let is_local = matches!(host, "localhost" | "127.0.0.1" | "[::1]");
    // HTTP_PROXY in capitals may come from a request's header where a program serves CGI; it is not read here either.
    let proxy = if is_secret { either("HTTPS_PROXY") } else { look("http_proxy") }
        .filter(|_| !is_passed && !is_local)?;
    let uri: Uri =
        if proxy.contains("://") { proxy.parse().ok()? } else { format!("http://{proxy}").parse().ok()? };
    Some((uri.host()?.to_owned(), uri.port_u16().unwrap_or(80)))
}

/// Tells whether an entry of NO_PROXY is about a host.
fn covers(entry: &str, host: &str) -> bool {
    let domain = entry.trim_start_matches("*.").trim_start_matches('.');
    !domain.is_empty() && (entry == "*" || host == domain || host.ends_with(&format!(".{domain}")))
}

/// Begins to speak HTTP; the connection is served beside the request.
async fn begin(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
) -> Result<http1::SendRequest<Full<Bytes>>> {
    let (sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|e| away(format!("no HTTP there: {e}")))?;
    // It ends with the answer's body; what breaks it shows there.
    tokio::spawn(connection);
    Ok(sender)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_is_used_where_the_environment_says_so() {
        let check = |env: &[(&str, &str)], host: &str, is_secret: bool, expected: Option<(&str, u16)>| {
            let look =
                |name: &str| env.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned());
            let found = proxy_for(host, is_secret, look);
            assert_eq!(found.as_ref().map(|(host, port)| (host.as_str(), *port)), expected, "{env:?} {host}");
        };
        let proxy = ("HTTPS_PROXY", "http://proxy.example:3128");
        check(&[proxy], "api.example", true, Some(("proxy.example", 3128)));
        check(&[("https_proxy", "proxy.example:8080")], "api.example", true, Some(("proxy.example", 8080)));
        check(&[proxy], "api.example", false, None);
        check(&[("HTTP_PROXY", "x:1")], "api.example", false, None);
        check(&[("http_proxy", "x:1")], "api.example", false, Some(("x", 1)));
        check(&[proxy, ("NO_PROXY", "other, .example")], "api.example", true, None);
        check(&[proxy, ("NO_PROXY", "pi.example")], "api.example", true, Some(("proxy.example", 3128)));
        check(&[proxy, ("NO_PROXY", "*")], "api.example", true, None);
        check(&[proxy], "localhost", true, None);
    }

    #[tokio::test]
    async fn a_proxy_passes_bytes_on_or_says_why_not() {
        let (mut ours, mut theirs) = tokio::io::duplex(1 << 10);
        theirs.write_all(b"HTTP/1.1 200 ok\r\n\r\nafter").await.unwrap();
        tunnel(&mut ours, "api.example", 443).await.unwrap();
        let mut after = [0; 5];
        ours.read_exact(&mut after).await.unwrap();
        assert_eq!(&after, b"after");
        theirs.write_all(b"HTTP/1.1 407 who are you\r\n\r\n").await.unwrap();
        let error = tunnel(&mut ours, "api.example", 443).await.unwrap_err();
        assert!(error.message.contains("407 who are you"), "{error}");
    }

    #[tokio::test]
    async fn a_proxy_s_answer_ends_at_its_limit() {
        let (mut ours, mut theirs) = tokio::io::duplex(4 * PROXY_MAX);
        theirs.write_all(&[b'x'; PROXY_MAX + 1]).await.unwrap();
        assert!(tunnel(&mut ours, "h", 1).await.unwrap_err().message.contains("does not end"));
    }

    #[test]
    fn a_key_with_a_line_end_is_no_header() {
        let ask =
            Ask { url: "http://h/p".into(), headers: vec![("x-api-key", "a\nb".into())], body: Value::Null };
        let error = request(&ask, &ask.url.parse().unwrap()).unwrap_err();
        assert!(error.message.contains("x-api-key") && !error.message.contains("a\nb"));
    }
}

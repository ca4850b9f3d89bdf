//! One message to the collector.
//!
//! Here lives the request over HTTP, on a connection of its own: a message every few seconds is not worth keeping one.
//! What becomes of a message that did not arrive is decided by whoever sends it.

use crate::settings::Settings;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::{Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// How long a message may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How much of an answer is read.
const ANSWER_MAX: usize = 64 << 10;

/// Why a message did not arrive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Lost {
    /// It may be said again later.
    Later(String),
    /// It is of no use to say it again.
    Refused(String),
}

/// Sends a message.
pub(crate) async fn post(settings: &Settings, path: &str, body: Vec<u8>) -> Result<(), Lost> {
    match tokio::time::timeout(PATIENCE, send(settings, path, body)).await {
        Ok(answer) => answer,
        Err(_) => Err(Lost::Later(format!("no answer within {} s", PATIENCE.as_secs()))),
    }
}

async fn send(settings: &Settings, path: &str, body: Vec<u8>) -> Result<(), Lost> {
    let later = |e: &dyn std::fmt::Display| Lost::Later(e.to_string());
    let place = settings.host.trim_start_matches('[').trim_end_matches(']');
    let stream = TcpStream::connect((place, settings.port)).await.map_err(|e| later(&e))?;
    let request = request(settings, path, body)?;
    if !settings.is_encrypted {
        return exchange(stream, request).await;
    }
    // Also a certificate that is not accepted may be another one later.
    let stream = quorate_trust::encrypt(place, stream).await.map_err(|refused| Lost::Later(refused.why))?;
    exchange(stream, request).await
}

fn request(settings: &Settings, path: &str, body: Vec<u8>) -> Result<Request<Full<Bytes>>, Lost> {
    let mut request = Request::post(format!("{}{path}", settings.path))
        .header(header::HOST, format!("{}:{}", settings.host, settings.port))
        .header(header::CONTENT_TYPE, "application/x-protobuf")
        .header(header::USER_AGENT, concat!("quorate/", env!("CARGO_PKG_VERSION")));
    for (name, value) in &settings.headers {
        request = request.header(name, value);
    }
    // Not the reason itself, which may show a header's value.
    request.body(Full::new(body.into())).map_err(|_| Lost::Refused("a header of it is not possible".into()))
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    request: Request<Full<Bytes>>,
) -> Result<(), Lost> {
    let later = |e: hyper::Error| Lost::Later(e.to_string());
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(later)?;
    let connection = tokio::spawn(connection);
    let response = sender.send_request(request).await.map_err(later);
    let answer = match response {
        Ok(response) => {
            let status = response.status();
            // Read to its end, so that the collector sees a request that was not broken off.
            let _ = Limited::new(response.into_body(), ANSWER_MAX).collect().await;
            verdict(status)
        }
        Err(lost) => Err(lost),
    };
    connection.abort();
    answer
}

/// Reads the answer as OTLP says: some refusals are for now only.
fn verdict(status: StatusCode) -> Result<(), Lost> {
    match status.as_u16() {
        200..=299 => Ok(()),
        429 | 502 | 503 | 504 => Err(Lost::Later(format!("it answered {status}"))),
        _ => Err(Lost::Refused(format!("it answered {status}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_some_refusals_are_for_now() {
        assert_eq!(verdict(StatusCode::OK), Ok(()));
        assert!(matches!(verdict(StatusCode::SERVICE_UNAVAILABLE), Err(Lost::Later(_))));
        assert!(matches!(verdict(StatusCode::TOO_MANY_REQUESTS), Err(Lost::Later(_))));
        assert!(matches!(verdict(StatusCode::UNAUTHORIZED), Err(Lost::Refused(_))));
    }
}

//! Reading what is sent: so much of it, in so long.
//!
//! Here lives the step between `guard` and whatever takes a body. A body is read as a whole before anything is done with it;
//! a client that announces one and falls silent keeps no place for ever.

use crate::problem::Failure;
use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, Request};
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use quorate_model::Error;
use std::time::Duration;

/// The largest body, in bytes.
pub(crate) const BODY_MAX: usize = 4 << 20;
/// How long a client may take for a body.
const BODY_TIME: Duration = Duration::from_secs(20);

/// Reads the body of a request, and gives both to who is asked.
pub(crate) async fn read(request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    let reading = Bytes::from_request(Request::from_parts(parts.clone(), body), &());
    let failure = match tokio::time::timeout(BODY_TIME, reading).await {
        Ok(Ok(bytes)) => return next.run(Request::from_parts(parts, Body::from(bytes))).await,
        Ok(Err(e)) => {
            let error = Error::invalid(format!("the body cannot be read: {}", e.body_text()));
            Failure::with(e.status(), error)
        }
        Err(_) => {
            let message = format!("the body did not come within {} s", BODY_TIME.as_secs());
            let error = Error::invalid(message).hint("send as much as Content-Length says");
            Failure::with(StatusCode::REQUEST_TIMEOUT, error)
        }
    };
    failure.into_response()
}

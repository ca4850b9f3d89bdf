//! Errors as the network sees them: `application/problem+json` (RFC 9457).
//!
//! Here lives which status a kind of failure has, and the document that says the rest.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use quorate_model::{Error, Kind};
use schemars::JsonSchema;
use serde::Serialize;

/// The media type of a problem.
pub(crate) const MEDIA_TYPE: &str = "application/problem+json";

/// What went wrong.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Problem {
    /// Always `about:blank`: the status and `kind` say which problem it is
    #[serde(rename = "type")]
    about: &'static str,
    /// The status in words
    title: String,
    /// The status
    status: u16,
    /// What is wrong, and where
    detail: String,
    /// failed, unavailable, invalid, conflict, stale, not_found, refused, nothing or interrupted
    kind: &'static str,
    /// What mends it
    hint: Option<String>,
}

/// An error on its way to the network.
#[derive(Debug)]
pub(crate) struct Failure {
    status: StatusCode,
    error: Error,
    retry_after_s: Option<u64>,
}

impl Failure {
    /// An error with another status than its kind has.
    pub(crate) fn with(status: StatusCode, error: Error) -> Failure {
        Failure { status, error, retry_after_s: None }
    }

    /// Says when to try again.
    pub(crate) fn retry_after(self, seconds: u64) -> Failure {
        Failure { retry_after_s: Some(seconds), ..self }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        let failure = Failure::with(status(error.kind), error);
        if failure.status == StatusCode::SERVICE_UNAVAILABLE { failure.retry_after(1) } else { failure }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let problem = Problem {
            about: "about:blank",
            title: self.status.canonical_reason().unwrap_or("Error").to_owned(),
            status: self.status.as_u16(),
            detail: self.error.message,
            kind: self.error.kind.as_str(),
            hint: self.error.hint,
        };
        let body = serde_json::to_string(&problem).expect("a problem has texts for keys");
        let mut response = (self.status, [(header::CONTENT_TYPE, MEDIA_TYPE)], body).into_response();
        if let Some(seconds) = self.retry_after_s {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

/// Returns the status of a kind of failure.
pub(crate) fn status(kind: Kind) -> StatusCode {
    match kind {
        Kind::Failed => StatusCode::INTERNAL_SERVER_ERROR,
        Kind::Unavailable | Kind::Interrupted => StatusCode::SERVICE_UNAVAILABLE,
        Kind::Invalid => StatusCode::BAD_REQUEST,
        Kind::Conflict => StatusCode::CONFLICT,
        Kind::Stale => StatusCode::PRECONDITION_FAILED,
        Kind::NotFound | Kind::Nothing => StatusCode::NOT_FOUND,
        Kind::Refused => StatusCode::FORBIDDEN,
    }
}

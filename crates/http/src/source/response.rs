//! Builds the responses to requests.

use std::fmt::Write as _;
use std::time::Duration;

use axum::http::header::{ALLOW, CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use forebay_stream::{Code, Outcome};
use serde_json::json;

use super::SOURCE;
use crate::pending::Settled;
use crate::{Reply, codes};

const JSON: &str = "application/json";
const LINES: &str = "application/x-ndjson";

/// The reason why a request does not become an event.
#[derive(Debug)]
pub(super) enum Refusal {
    NotFound { path: String },
    Method { method: Method },
    TooLarge { limit: usize },
    Body(axum::Error),
    Slow { after: Duration },
    Overloaded { limit: u32 },
    Stopped,
}

impl Refusal {
    pub(super) fn code(&self) -> Code {
        match self {
            Self::NotFound { .. } => codes::NOT_FOUND,
            Self::Method { .. } => codes::METHOD_NOT_ALLOWED,
            Self::TooLarge { .. } => codes::BODY_TOO_LARGE,
            Self::Body(_) => codes::INVALID_BODY,
            Self::Slow { .. } => codes::REQUEST_TIMEOUT,
            Self::Overloaded { .. } => codes::OVERLOADED,
            Self::Stopped => codes::UNAVAILABLE,
        }
    }

    fn status(&self) -> StatusCode {
        match self {
            Self::NotFound { .. } => StatusCode::NOT_FOUND,
            Self::Method { .. } => StatusCode::METHOD_NOT_ALLOWED,
            Self::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Body(_) => StatusCode::BAD_REQUEST,
            Self::Slow { .. } => StatusCode::REQUEST_TIMEOUT,
            Self::Overloaded { .. } | Self::Stopped => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    fn message(&self) -> String {
        match self {
            Self::NotFound { path } => format!("requests are sent to {path}"),
            Self::Method { method } => format!("requests are sent with POST, not {method}"),
            Self::TooLarge { limit } => {
                format!("the body has more than {limit} bytes (`max_body`); send a smaller one")
            }
            Self::Body(error) => chain(error),
            Self::Slow { after } => {
                format!(
                    "the body did not come within {after:?} (`body_timeout`); send it again, without pauses"
                )
            }
            Self::Overloaded { limit } => {
                format!("{limit} requests are not answered yet; send it again later")
            }
            Self::Stopped => "no more requests are taken here; send it again later".to_owned(),
        }
    }

    pub(super) fn into_response(self) -> Response {
        let extra = match self {
            Self::Method { .. } => Some((ALLOW, "POST")),
            Self::Overloaded { .. } | Self::Stopped => Some(RETRY),
            _ => None,
        };
        error(self.status(), extra, self.code().name(), &self.message(), SOURCE)
    }
}

const RETRY: (HeaderName, &str) = (RETRY_AFTER, "1");

/// Returns the response to a settled request.
pub(super) fn settled(settled: &Settled) -> Response {
    match &settled.outcome {
        Outcome::Done => replies(&settled.replies),
        Outcome::Failed(failure) => error(
            StatusCode::UNPROCESSABLE_ENTITY,
            None,
            failure.code(),
            failure.message(),
            failure.stage(),
        ),
        Outcome::Abandoned => abandoned(),
    }
}

/// Returns the response to a request that the pipeline dropped without a result.
pub(super) fn abandoned() -> Response {
    let message = "the request was not answered before the pipeline stopped; send it again later";
    error(StatusCode::SERVICE_UNAVAILABLE, Some(RETRY), codes::UNAVAILABLE.name(), message, SOURCE)
}

/// Returns the response to a request that is done.
fn replies(replies: &[Reply]) -> Response {
    let any_error = replies.iter().any(|reply| reply.error.is_some());
    let status = if any_error { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::OK };
    match replies {
        [] => StatusCode::NO_CONTENT.into_response(),
        [only] => (status, [(CONTENT_TYPE, JSON)], only.value.clone()).into_response(),
        several => (status, [(CONTENT_TYPE, LINES)], lines(several)).into_response(),
    }
}

fn lines(replies: &[Reply]) -> Bytes {
    let length = replies.iter().map(|reply| reply.value.len() + 1).sum();
    let mut lines = Vec::with_capacity(length);
    for reply in replies {
        // Line breaks in JSON occur only between tokens, where a space is equivalent.
        lines.extend(reply.value.iter().map(|byte| match byte {
            b'\n' | b'\r' => b' ',
            byte => *byte,
        }));
        lines.push(b'\n');
    }
    lines.into()
}

fn error(
    status: StatusCode,
    extra: Option<(HeaderName, &'static str)>,
    code: &str,
    message: &str,
    stage: &str,
) -> Response {
    let body = json!({"error": {"code": code, "message": message, "stage": stage}});
    let mut response = (status, [(CONTENT_TYPE, JSON)], body.to_string()).into_response();
    if let Some((name, value)) = extra {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

/// Returns an error and its causes in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        // Some errors already end with the message of their cause, which is then not repeated.
        let part = error.to_string();
        if !text.ends_with(&part) {
            write!(text, ": {part}").ok();
        }
        cause = error.source();
    }
    text
}

//! The codes of requests that the source refuses or cannot answer, and the failure code of the
//! sink.
//!
//! A refused request never enters the flow, so [`Flow::retry`](forebay_stream::Flow::retry) does
//! not see it, and no code is transient.

use forebay_stream::Code;

/// Answered with the status 413.
pub const BODY_TOO_LARGE: Code = Code::new(
    "body_too_large",
    "The request's body is larger than `max_body`; send a smaller one, or raise the limit.",
);

/// Answered with the status 400.
pub const INVALID_BODY: Code = Code::new(
    "invalid_body",
    "The request's body could not be read to its end; see the message, and send it again.",
);

/// Answered with the status 405.
pub const METHOD_NOT_ALLOWED: Code =
    Code::new("method_not_allowed", "The request was not a POST; send it with POST.");

/// From [`Replies`](crate::Replies).
pub const NO_REQUEST: Code = Code::new(
    "no_request",
    "A value came to `[sink.http]` that answers no open HTTP request; send it values of \
     `[source.http]` only.",
);

/// Answered with the status 404.
pub const NOT_FOUND: Code = Code::new(
    "not_found",
    "The request was sent to another path than that of `[source.http]`; correct the URL.",
);

/// Answered with the status 503 and the header `retry-after`.
pub const OVERLOADED: Code = Code::new(
    "overloaded",
    "As many requests as `max_in_flight` allows are not answered yet; send the request again \
     later.",
);

/// Answered with the status 408.
pub const REQUEST_TIMEOUT: Code = Code::new(
    "request_timeout",
    "The request's body did not arrive in time; send it again, without pauses.",
);

/// Answered with the status 503 and the header `retry-after`.
pub const UNAVAILABLE: Code = Code::new(
    "unavailable",
    "The pipeline is stopping, or stopped before it answered the request; send the request again \
     later.",
);

/// All codes of this crate.
pub const ALL: &[Code] = &[
    BODY_TOO_LARGE,
    INVALID_BODY,
    METHOD_NOT_ALLOWED,
    NO_REQUEST,
    NOT_FOUND,
    OVERLOADED,
    REQUEST_TIMEOUT,
    UNAVAILABLE,
];

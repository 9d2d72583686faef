//! The failure codes of requests and expressions.

use forebay_stream::Code;

/// A request past the deadline in its headers.
pub const DEADLINE_EXCEEDED: Code = Code::new(
    "deadline_exceeded",
    "The request's deadline passed before the request went to the model; send it with a later \
     deadline, or add capacity.",
);

/// A request whose text is empty or blank.
pub const EMPTY_TEXT: Code =
    Code::new("empty_text", "The request's text is empty or blank; send a text.");

/// A record whose value is empty or blank.
pub const EMPTY_VALUE: Code =
    Code::new("empty_value", "The request is empty or blank; send a JSON value.");

/// From the setting `cost` of `adaptive_window`.
pub const INVALID_COST: Code = Code::new(
    "invalid_cost",
    "The expression `cost` of an `adaptive_window` did not give a whole number from 0; correct the \
     expression.",
);

/// A deadline header that is not a number of milliseconds, or has no timestamp to count from.
pub const INVALID_DEADLINE: Code = Code::new(
    "invalid_deadline",
    "A deadline header is not a number of milliseconds, or counts from a timestamp that the record \
     lacks; correct the header.",
);

/// From [`Json::from_utf8`](crate::Json::from_utf8), for a source with `format = "text"`.
pub const INVALID_ENCODING: Code = Code::new(
    "invalid_encoding",
    "The request is not text in UTF-8, which the source's `format = \"text\"` needs; send UTF-8, or \
     set `format = \"bytes\"`.",
);

/// From [`Json::parse`](crate::Json::parse).
pub const INVALID_JSON: Code = Code::new(
    "invalid_json",
    "The request is not exactly one JSON value; the message names the line and the column.",
);

/// From the setting `step` of `scan`.
pub const INVALID_STEP: Code = Code::new(
    "invalid_step",
    "The expression `step` of a `scan` did not give an array of two, the state and the result; \
     correct the expression.",
);

/// A value of another type than a step or a model takes.
pub const INVALID_TYPE: Code = Code::new(
    "invalid_type",
    "A value has another JSON type than the step or the model needs; the message names both.",
);

/// From [`Json::decode`](crate::Json::decode).
pub const INVALID_VALUE: Code = Code::new(
    "invalid_value",
    "A value does not have the form that an operator or a model of the program needs; the message \
     names what is expected.",
);

/// An error in an expression.
pub const JQ_ERROR: Code = Code::new(
    "jq_error",
    "An expression failed for this value; the message has the expression and jq's error.",
);

/// An expression that gives no result or several.
pub const JQ_RESULTS: Code = Code::new(
    "jq_results",
    "An expression gave no result or several where exactly one is needed; correct the expression.",
);

/// A result with an infinity or NaN.
pub const NOT_FINITE: Code = Code::new(
    "not_finite",
    "The result holds an infinity or NaN, which JSON cannot represent; correct the expression or \
     the model.",
);

/// A line that is longer than the limit.
pub const LINE_TOO_LONG: Code = Code::new(
    "line_too_long",
    "A line of the input is longer than 64 MiB; split it, or send the request another way.",
);

/// A record without a value, or a request whose text is null.
pub const NULL_VALUE: Code =
    Code::new("null_value", "The request, or the text in it, is null; send a JSON value.");

/// From [`Json::encode`](crate::Json::encode).
pub const UNSERIALIZABLE_RESULT: Code = Code::new(
    "unserializable_result",
    "JSON cannot represent a result of an operator or a model of the program; correct its type.",
);

/// From `starmap`.
pub const WRONG_LENGTH: Code = Code::new(
    "wrong_length",
    "An array does not have as many members as `args` of a `starmap` names; correct the array or \
     `args`.",
);

/// All codes of this crate.
pub const ALL: &[Code] = &[
    DEADLINE_EXCEEDED,
    EMPTY_TEXT,
    EMPTY_VALUE,
    INVALID_COST,
    INVALID_DEADLINE,
    INVALID_ENCODING,
    INVALID_JSON,
    INVALID_STEP,
    INVALID_TYPE,
    INVALID_VALUE,
    JQ_ERROR,
    JQ_RESULTS,
    LINE_TOO_LONG,
    NOT_FINITE,
    NULL_VALUE,
    UNSERIALIZABLE_RESULT,
    WRONG_LENGTH,
];

#[cfg(test)]
mod tests;
